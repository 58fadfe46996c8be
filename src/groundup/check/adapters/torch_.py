"""What PyTorch users write: a torch.autograd.Function, and a torch.nn.Module."""

from __future__ import annotations

import copy
import importlib
import warnings
from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from groundup.check.adapters.followed import FollowedSubject
from groundup.check.adapters.held import lifted
from groundup.check.adapters.traced import Traced, held_of
from groundup.check.subjects import Gradients, Mutated, Subject, argument_names, plain
from groundup.errors import GradientError
from groundup.ops.base import Array
from groundup.tensor import Tensor


def _torch() -> Any:
    return importlib.import_module("torch")


class TorchSubject(FollowedSubject):
    """Something that runs on PyTorch tensors; float64 on the CPU here."""

    recording = False  # whether PyTorch is writing down what runs

    def __init__(self, name: str, inputs: Sequence[Any], names: Sequence[str]):
        torch = _torch()
        self.name = name
        self.inputs: list[Any] = []
        self.order: list[str | None] = []  # the names of those that are checked
        self.values = {}
        for own, value in zip(names, inputs, strict=True):
            if isinstance(value, torch.Tensor):
                value = value.detach().cpu().numpy()
            if isinstance(value, Tensor | np.ndarray | np.generic):
                value = plain(value)
            checked = isinstance(value, np.ndarray) and value.dtype.kind == "f"
            if checked:
                self.values[own] = value.astype(np.float64)
            self.inputs.append(value)
            self.order.append(own if checked else None)
        self.stream = torch.get_rng_state()

    @abstractmethod
    def outputs(self, made: Mapping[str, Any]) -> list[Any]:
        """The floating-point outputs from tensors by name."""

    @abstractmethod
    def gradients(self, made: Mapping[str, Any], cotangents: Sequence[Any]) -> Any:
        """The outputs, and the gradients by name; None where there is none."""

    @contextmanager
    def _calm(self, is_complex: bool = False) -> Iterator[None]:
        """Every call draws the same random numbers."""
        torch = _torch()
        before = torch.get_rng_state()
        torch.set_rng_state(self.stream)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                if is_complex:  # an imaginary part that is dropped is a derivative that is lost
                    warnings.filterwarnings("error", "Casting complex")
                yield
        finally:
            torch.set_rng_state(before)

    def _given(self, made: Mapping[str, Any]) -> list[Any]:
        """The arguments: tensors of the values, and the rest as it is."""
        torch = _torch()
        return [
            made[name] if name is not None
            else torch.from_numpy(value.copy()) if isinstance(value, np.ndarray) else value
            for name, value in zip(self.order, self.inputs, strict=True)
        ]  # fmt: skip

    def forward(self, values: Mapping[str, Array]) -> list[Array]:
        torch = _torch()
        made = {n: torch.from_numpy(v.copy()) for n, v in values.items()}
        with self._calm(any(np.iscomplexobj(v) for v in values.values())), torch.no_grad():
            found = [np.array(t.detach().numpy()) for t in self.outputs(made)]
        if not found:
            raise GradientError(
                f"{self.name}: forward returned no floating-point tensor to differentiate"
            )
        return found

    def backward(self, values: Mapping[str, Array], cotangents: Sequence[Array]) -> Gradients:
        torch = _torch()
        made = {n: torch.from_numpy(v.copy()) for n, v in values.items()}
        with self._calm():
            _, found = self.gradients(made, [torch.from_numpy(np.array(c)) for c in cotangents])
        return {
            n: None if found.get(n) is None else np.array(found[n].detach().numpy(), np.float64)
            for n in values
        }

    def follow(self, values: Mapping[str, Tensor], cotangents: Sequence[Tensor]) -> Any:
        names: list[str] = []
        count = 0

        def step(*tensors: Any) -> list[Any]:
            nonlocal count
            made = dict(zip(values, tensors[: len(values)], strict=True))
            outs, found = self.gradients(made, tensors[len(values) :])
            present = {n: g for n, g in found.items() if g is not None}
            names[:], count = list(present), len(outs)
            return [*outs, *present.values()]

        made = self._run(step, [*values.values(), *cotangents])
        return made[:count], dict(zip(names, made[count:], strict=True))

    def follow_forward(self, values: Mapping[str, Tensor]) -> list[Tensor]:
        def step(*tensors: Any) -> list[Any]:
            with _torch().no_grad():
                return self.outputs(dict(zip(values, tensors, strict=True)))

        return self._run(step, list(values.values()))

    def _run(self, step: Any, tensors: Sequence[Tensor]) -> list[Tensor]:
        """A step of PyTorch tensors, done with groundup's ops."""
        from groundup.check.adapters import aten

        torch = _torch()
        self.recording = True
        try:
            with self._calm():
                graph = aten.graph_of(step, [torch.from_numpy(t.array.copy()) for t in tensors])
        finally:
            self.recording = False
        with self._calm():
            made = aten.run(graph, [Traced(t) for t in tensors])
        return [lifted(held_of(m)) for m in made]


class Context:
    """Stands in for the `ctx` of a torch.autograd.Function."""

    def __init__(self, needs_input_grad: tuple[bool, ...]):
        self.needs_input_grad = needs_input_grad
        self.saved_tensors: tuple[Any, ...] = ()
        self.dirty: tuple[Any, ...] = ()
        self.non_differentiable: tuple[Any, ...] = ()

    def save_for_backward(self, *tensors: Any) -> None:
        self.saved_tensors = tensors

    def save_for_forward(self, *tensors: Any) -> None:
        """Nothing: no forward-mode derivative is asked for."""

    def mark_dirty(self, *tensors: Any) -> None:
        self.dirty = tensors

    def mark_non_differentiable(self, *tensors: Any) -> None:
        self.non_differentiable = tensors

    def set_materialize_grads(self, value: bool) -> None:
        """Nothing: every output gets a gradient."""


class TorchFunctionSubject(TorchSubject):
    """A subclass of torch.autograd.Function, its forward and backward called directly.

    So that a gradient comes as backward returns it, of whatever shape.
    """

    def __init__(self, function: Any, inputs: Sequence[Any], name: str = ""):
        torch = _torch()
        self.function = function
        own = function.setup_context
        self.apart = own is not torch.autograd.Function.setup_context
        names = argument_names(function.forward, len(inputs) + (not self.apart))
        super().__init__(name or function.__name__, inputs, names[-len(inputs) :])
        if not self.values:
            raise GradientError(
                f"{self.name}: there is no gradient to check: no input of floating-point numbers"
            )

    def _forward(self, given: Sequence[Any]) -> tuple[Context, Any]:
        ctx = Context(tuple(n is not None for n in self.order))
        if not self.apart:
            return ctx, self.function.forward(ctx, *given)
        out = self.function.forward(*given)
        self.function.setup_context(ctx, tuple(given), out)
        return ctx, out

    def _called(self, made: Mapping[str, Any]) -> tuple[Context, Any, list[bool]]:
        """The context, the outputs and which of them are differentiated."""
        torch = _torch()
        before = self._copies(made)
        ctx, out = self._forward(self._given(made))
        self._unchanged(made, before, ctx)
        outs = list(out) if isinstance(out, tuple | list) else [out]
        wanted = [
            isinstance(o, torch.Tensor)
            and (o.is_floating_point() or o.is_complex())
            and not any(o is other for other in ctx.non_differentiable)
            for o in outs
        ]
        return ctx, outs, wanted

    def _copies(self, made: Mapping[str, Any]) -> dict[str, Any]:
        """The inputs as they are now, to be compared with; none while PyTorch writes down."""
        return {} if self.recording else {n: t.detach().clone() for n, t in made.items()}

    @staticmethod
    def _unchanged(made: Mapping[str, Any], before: Mapping[str, Any], ctx: Context) -> None:
        for n, old in before.items():
            dirty = any(made[n] is d for d in ctx.dirty)
            new = made[n].detach().numpy()
            if not dirty and not np.array_equal(new, old.numpy(), equal_nan=True):
                raise Mutated(n)

    def outputs(self, made: Mapping[str, Any]) -> list[Any]:
        _, outs, wanted = self._called(made)
        return [o for o, w in zip(outs, wanted, strict=True) if w]

    def gradients(self, made: Mapping[str, Any], cotangents: Sequence[Any]) -> Any:
        torch = _torch()
        with torch.no_grad():
            before = self._copies(made)
            ctx, outs, wanted = self._called(made)
            given = iter(cotangents)
            # A copy each: backward may write into what it gets.
            arriving = [
                next(given).clone() if w
                else torch.zeros_like(o) if isinstance(o, torch.Tensor) else None
                for o, w in zip(outs, wanted, strict=True)
            ]  # fmt: skip
            kept = [o.clone() for o, w in zip(outs, wanted, strict=True) if w]
            found = self.function.backward(ctx, *arriving)
            self._unchanged(made, before, ctx)
        found = found if isinstance(found, tuple | list) else (found,)
        count = len(self.order)
        if len(found) < count or any(g is not None for g in found[count:]):
            raise GradientError(
                f"{self.name}: backward returned {len(found)} gradients, and forward has {count} "
                "inputs besides ctx: one for each, None where there is none"
            )
        pairs = zip(self.order, found, strict=False)
        return kept, {n: g for n, g in pairs if n is not None}

    def reference(
        self, values: Mapping[str, Array], cotangents: Sequence[Array]
    ) -> Gradients | None:
        torch = _torch()
        leaves = {n: torch.from_numpy(v.copy()).requires_grad_() for n, v in values.items()}
        try:
            with self._calm(), torch.enable_grad():
                # Clones, for a forward that writes to its inputs.
                outs = self.outputs({n: t.clone() for n, t in leaves.items()})
                return _autograd(leaves, outs, [torch.from_numpy(np.array(c)) for c in cotangents])
        except (RuntimeError, Mutated):
            return None


class TorchModuleSubject(TorchSubject):
    """A torch.nn.Module; its gradients are those of PyTorch's autograd."""

    own_rule = False

    def __init__(self, module: Any, inputs: Sequence[Any], name: str = ""):
        self.module = copy.deepcopy(module).double().cpu()
        names = argument_names(self.module.forward, len(inputs))
        super().__init__(name or type(module).__name__, inputs, names)
        self.parameters: dict[str, str] = {}  # their paths, by the name of the value
        for path, p in self.module.named_parameters():
            if p.requires_grad and p.is_floating_point():
                own = path if path not in self.values else f"self.{path}"
                self.parameters[own] = path
                self.values[own] = p.detach().numpy().copy()
        if not self.values:
            raise GradientError(
                f"{self.name}: there is no gradient to check: no parameter, and no input of "
                "floating-point numbers"
            )

    def fresh(self) -> Subject:
        made = copy.copy(self)
        made.module = copy.deepcopy(self.module)
        return made

    def outputs(self, made: Mapping[str, Any]) -> list[Any]:
        torch = _torch()
        state_ = {path: made[own] for own, path in self.parameters.items()}
        state_ |= {n: b.clone() for n, b in self.module.named_buffers()}
        out = torch.func.functional_call(self.module, state_, tuple(self._given(made)))
        found = importlib.import_module("torch.utils._pytree").tree_leaves(out)
        return [
            t for t in found
            if isinstance(t, torch.Tensor) and (t.is_floating_point() or t.is_complex())
        ]  # fmt: skip

    def gradients(self, made: Mapping[str, Any], cotangents: Sequence[Any]) -> Any:
        leaves = {n: t.detach().requires_grad_() for n, t in made.items()}
        with _torch().enable_grad():
            outs = self.outputs(leaves)
            found = _autograd(leaves, outs, cotangents, as_arrays=False)
        return [o.detach() for o in outs], found


def _autograd(
    leaves: Mapping[str, Any],
    outs: Sequence[Any],
    cotangents: Sequence[Any],
    as_arrays: bool = True,
) -> dict[str, Any]:
    pairs = [(o, c) for o, c in zip(outs, cotangents, strict=True) if o.requires_grad]
    if not pairs:
        return dict.fromkeys(leaves)
    found = _torch().autograd.grad(
        [o for o, _ in pairs], list(leaves.values()), [c for _, c in pairs], allow_unused=True
    )
    if as_arrays:
        found = [None if g is None else np.array(g.detach().numpy()) for g in found]
    return dict(zip(leaves, found, strict=True))
