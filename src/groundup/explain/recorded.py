"""A model's step, recorded and run on a copy: what the other files of this room explain."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from groundup import generator
from groundup.backward import no_grad
from groundup.check.alone import argument_names, arrays_of, called_in, named
from groundup.errors import GroundupError, ShapeError
from groundup.nn import CrossEntropy, Module, Mse
from groundup.nn.module import has_bwd
from groundup.nn.step import tensors_in
from groundup.ops.base import Array, Shape, quiet
from groundup.optim import Optimizer
from groundup.program.passes import simplify
from groundup.program.program import Program
from groundup.program.recording import record_step
from groundup.program.runner import evaluate
from groundup.program.sources import Recording
from groundup.tensor import Parameter, Tensor, as_tensor


@dataclass(frozen=True)
class Call:
    """A call of a module in the forward pass.

    Attributes:
        label: as in the Program's comments: "layers[0] Linear".
        module: what was called (a copy's).
        args: with what.
        shapes: of the Tensors that came out.
        of_loss: whether it is the loss, or inside it.

    """

    label: str
    module: Module
    args: tuple[Any, ...]
    shapes: tuple[Shape, ...]
    of_loss: bool


@dataclass(frozen=True)
class Recorded:
    """A step, and what was seen when it ran.

    Attributes:
        program: the simplified step.
        gradients: each parameter's gradient: the two values' names.
        norms: of every value of the backward pass, by name: the root of the sum of squares.
        calls: the modules that were called, in order of their return.
        owner: the label under which a module's equations are counted, by its own label. They
            differ inside a module with a hand-written bwd: the backward pass knows that one only.

    """

    program: Program
    gradients: dict[str, str]
    norms: dict[str, float]
    calls: tuple[Call, ...]
    owner: dict[str, str]


def recorded(
    model: Module, x: Any, y: Any, loss: Module | None, optimizer: Optimizer | None
) -> Recorded:
    """Run and record the step on a copy; the model and the random stream stay as they are."""
    if not isinstance(model, Module):
        raise GroundupError(
            f"explain takes a Module, not {type(model).__name__}; wrap functions: "
            "nn.Sequential(f, g)"
        )
    if y is None and (loss is not None or optimizer is not None):
        raise GroundupError("explain: without targets y there is no loss and no update")
    inputs = [_fitting(model, v) for v in (x if isinstance(x, tuple) else (x,))]
    target = None if y is None else _fitting(model, y)
    if target is not None and loss is None:
        loss = CrossEntropy() if target.dtype.kind in "iu" else Mse()
        if target.dtype.kind == "b":
            target = target.cast(np.float32)
    with _kept_stream():
        calls = _calls(model, loss, inputs, target)
    with _kept_stream():
        return _step(model, loss, optimizer, inputs, target, calls)


def _fitting(model: Module, value: Any) -> Tensor:
    """Data as a Tensor; floating-point numbers in the dtype of the model's."""
    tensor = as_tensor(value)
    if tensor.dtype.kind == "f":
        met = next((p.dtype for p in model.parameters() if p.dtype.kind == "f"), np.float32)
        tensor = tensor.cast(met)
    return Tensor(tensor.data.copy(), dtype=tensor.dtype)  # x and y may be one array


@contextmanager
def _kept_stream() -> Iterator[None]:
    """Put the default random stream back to where it was."""
    before = generator.default.state()
    try:
        yield
    finally:
        generator.default.restore(before)


def label_of(path: str, module: Module) -> str:
    """How a Program's comments call a module: "layers[0] Linear"."""
    first, *rest = path.split(".")
    written = first + "".join(f"[{p}]" if p.isdigit() else f".{p}" for p in rest)
    return f"{written} {type(module).__name__}".strip()


def _calls(
    model: Module, loss: Module | None, inputs: list[Tensor], target: Tensor | None
) -> tuple[Call, ...]:
    model, loss = copy.deepcopy((model, loss))
    found: list[Call] = []
    hooks: list[Callable[[], None]] = []

    def noting(label: str, of_loss: bool) -> Callable[[Module, tuple[Any, ...], Any], None]:
        def note(module: Module, args: tuple[Any, ...], out: Any) -> None:
            shapes = tuple(t.shape for t in tensors_in([out]))
            found.append(Call(label, module, args, shapes, of_loss))

        return note

    for root in (model, loss):
        for path, module in root.named_modules() if root is not None else ():
            note = noting(label_of(path, module), root is loss)
            hooks.append(module.register_forward_hook(note))
    with no_grad():
        out = model(*inputs)
        if loss is not None:
            loss(out, target)
    for remove in hooks:
        remove()
    return tuple(found)


def _step(
    model: Module,
    loss: Module | None,
    optimizer: Optimizer | None,
    inputs: list[Tensor],
    target: Tensor | None,
    calls: tuple[Call, ...],
) -> Recorded:
    model, loss, optimizer = copy.deepcopy((model, loss, optimizer))
    wanted: list[Tensor] = [p for p in model.parameters() if p.requires_grad]
    if not wanted:  # nothing to learn: the gradients of the inputs are what there is
        wanted = [t.requires_grad_() for t in inputs if t.dtype.kind == "f"]

    def forward(*x: Tensor) -> Any:
        return model(*x)

    def step(*given: Tensor) -> Any:
        *x, y = given
        assert loss is not None
        value = loss(model(*x), y)
        if value.shape:
            raise ShapeError(
                f"explain: the loss has shape {value.shape}; a step begins from a single number: "
                f'is reduction="{getattr(loss, "reduction", "none")}" meant?'
            )
        value.backward()
        if optimizer is not None:
            optimizer.step()
        return value, [t.g for t in wanted]

    names = _input_names(model, len(inputs))
    function, given = forward, list(inputs)
    if target is not None:
        function, given, names = step, [*inputs, target], [*names, "y"]
    recording = record_step(named(function, names), tuple(given), {})
    recording.undo()
    whole = simplify(recording.program)
    program, gradients = whole, {}
    if target is not None:
        value, found = whole.outputs
        called = called_in(recording, given)
        pairs = zip(wanted, found, strict=True)
        gradients = {called[id(t)]: g for t, g in pairs if g is not None}
        if optimizer is not None:
            program = simplify(replace(whole, outputs=value))
    return Recorded(
        program, gradients, _norms(recording, whole, given), calls, _owners(model, loss)
    )


def _input_names(model: Module, count: int) -> list[str]:
    return ["x"] if count == 1 else argument_names(model, count)


def _norms(recording: Recording, program: Program, given: list[Tensor]) -> dict[str, float]:
    """Run forward and backward once more, equation by equation, and measure the gradients."""
    values: dict[str, Any] = dict(arrays_of(recording, given))
    norms: dict[str, float] = {}
    with quiet():
        for e in program.equations:
            if e.phase == "update":
                continue
            result = evaluate(e, values)
            if e.out is not None:
                values[e.out.name] = result
                if e.phase == "backward":
                    norms[e.out.name] = norm(result)
    return norms


def norm(array: Any) -> float:
    """The root of the sum of squares, in float64."""
    entries: Array = np.asarray(array, np.float64).reshape(-1)
    return float(np.linalg.norm(entries))


def _owners(model: Module, loss: Module | None) -> dict[str, str]:
    found: dict[str, str] = {}
    for root in (model, loss):
        if root is None:
            continue
        ruled: list[tuple[str, str]] = []  # modules with a bwd: their path, and their label
        for path, module in root.named_modules():
            label = label_of(path, module)
            outer = next((o for p, o in ruled if not p or path.startswith(p + ".")), None)
            found[label] = outer or label
            if outer is None and has_bwd(module):
                ruled.append((path, label))
    return found


def own_parameters(module: Module) -> list[Parameter]:
    """The parameters that belong to no submodule."""
    inner = {id(p) for m in module.modules() if m is not module for p in m.parameters()}
    return [p for p in module.parameters() if id(p) not in inner]
