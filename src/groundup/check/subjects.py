"""What is checked: something with named inputs, a forward, and a backward to be judged.

Every kind of subject (a Module, a function of Tensors, a pair of NumPy functions, what other
libraries have) looks the same from here on: float64 arrays by name go in, arrays come out.
"""

from __future__ import annotations

import copy
import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, TypeAlias

import numpy as np

from groundup import generator
from groundup.backward import Sweep, _reached, autograd_only, no_grad
from groundup.errors import DtypeError, GradientError, GroundupError
from groundup.nn.module import Module, has_bwd
from groundup.nn.step import tensors_in
from groundup.ops.base import Array, quiet
from groundup.tensor import Tensor

Values: TypeAlias = dict[str, Array]
# A gradient as the subject gives it: an array of any shape, or None where it gives none.
Gradients: TypeAlias = dict[str, Array | None]


class Subject(ABC):
    """Something whose gradients are checked.

    Attributes:
        name: what a report calls it.
        values: the arrays that gradients are checked of, by name, in float64.
        own_rule: whether its backward is written by hand (and not derived from its ops).

    """

    name: str
    values: Values
    own_rule: bool = True

    @abstractmethod
    def forward(self, values: Mapping[str, Array]) -> list[Array]:
        """The outputs from values, which may be complex for the complex step."""

    @abstractmethod
    def backward(self, values: Mapping[str, Array], cotangents: Sequence[Array]) -> Gradients:
        """The gradients to be checked: of the sum of cotangents * outputs."""

    def reference(
        self, values: Mapping[str, Array], cotangents: Sequence[Array]
    ) -> Gradients | None:
        """The same by automatic differentiation of forward's own ops, where that is possible."""
        return None

    def claimed(self, values: Mapping[str, Tensor], cotangents: Sequence[Tensor]) -> Any:
        """Forward and the backward to be checked on Tensors, to be recorded.

        Returns:
            The outputs, and the gradients by name.

        Raises:
            GroundupError: this subject cannot run on Tensors.

        """
        raise GroundupError(f"{self.name} does not run on Tensors")

    def derived(self, values: Mapping[str, Tensor], cotangents: Sequence[Tensor]) -> Any:
        """The same with the gradients that follow from forward's ops."""
        raise GroundupError(f"{self.name} does not run on Tensors")

    def leaves(self, values: Mapping[str, Array]) -> dict[str, Tensor]:
        """Tensors of the values, for `claimed` and `derived`."""
        made = {name: Tensor.of(value.copy()) for name, value in values.items()}
        for leaf in made.values():
            leaf.requires_grad = True
        return made

    def fresh(self) -> Subject:
        """The subject as it was before any call, where it can be copied; else itself."""
        return self


# Modules and functions of Tensors


class TensorSubject(Subject):
    """A Module, or a function of Tensors."""

    def __init__(self, function: Any, inputs: Sequence[Any], name: str = ""):
        self.given = function
        self.name = name or getattr(function, "__name__", type(function).__name__)
        self.module: Module | None = None
        if isinstance(function, Module):
            self.module = function = copy.deepcopy(function).double()
            self.own_rule = has_bwd(function)
        else:
            self.own_rule = False
        self.function: Callable[..., Any] = function
        fits(function.forward if isinstance(function, Module) else function, inputs, self.name)
        self.inputs = [plain(value) for value in inputs]
        names = argument_names(
            function.forward if isinstance(function, Module) else function, len(inputs)
        )
        self.order: list[str | None] = []
        self.values = {}
        for name_, value in zip(names, self.inputs, strict=True):
            checked = isinstance(value, np.ndarray) and value.dtype.kind == "f"
            self.order.append(name_ if checked else None)
            if checked:
                self.values[name_] = value.astype(np.float64)
        self.parameters = {}
        for path, p in self.module.named_parameters() if self.module is not None else ():
            if p.dtype.kind == "f" and p.requires_grad:
                own = path if path not in self.values else f"self.{path}"
                self.parameters[own] = p
                self.values[own] = p.array.copy()
        if not self.values:
            raise GradientError(
                f"{self.name}: there is no gradient to check: no parameter, and no input of "
                "floating-point numbers"
            )
        buffers = list(self.module.named_buffers()) if self.module is not None else []
        self.buffers = [(b, b.array.copy()) for _, b in buffers]
        self.stream = generator.default.state()
        self.pristine = copy.deepcopy(self.module)

    def fresh(self) -> Subject:
        if self.module is None:
            return self
        made = copy.copy(self)
        module = copy.deepcopy(self.pristine)
        assert module is not None
        made.module, made.function = module, module
        paths = dict(module.named_parameters())
        made.parameters = {
            own: paths[own.removeprefix("self.") if own not in paths else own]
            for own in self.parameters
        }
        made.buffers = [(b, b.array.copy()) for _, b in module.named_buffers()]
        return made

    def restore(self) -> None:
        """Put the random stream, and what forward counts or averages, back to the beginning."""
        generator.default.restore(self.stream)
        for buffer, array in self.buffers:
            buffer.array = array.copy()

    @contextmanager
    def _calm(self) -> Iterator[None]:
        """No NumPy warnings; the random stream is as it was afterwards."""
        try:
            with quiet():
                yield
        finally:
            generator.default.restore(self.stream)

    def _call(self, values: Mapping[str, Any]) -> Any:
        given = [
            values[name] if name is not None else tensor(value)
            for name, value in zip(self.order, self.inputs, strict=True)
        ]
        return self.function(*given)

    def _with(self, values: Mapping[str, Array], wanted: bool) -> dict[str, Tensor]:
        """Tensors of the values; the parameters hold theirs."""
        self.restore()
        made: dict[str, Tensor] = {}
        for name, value in values.items():
            if name in self.parameters:
                made[name] = self.parameters[name]
                made[name].array = value.copy()
                made[name]._g = None
            else:
                made[name] = Tensor.of(value.copy())
                made[name].requires_grad = wanted
        return made

    def forward(self, values: Mapping[str, Array]) -> list[Array]:
        made = self._with(values, wanted=False)
        with no_grad(), self._calm():
            return [out.array for out in outputs(self, self._call(made))]

    def backward(self, values: Mapping[str, Array], cotangents: Sequence[Array]) -> Gradients:
        made = self._with(values, wanted=True)
        before = {n: t.array.copy() for n, t in made.items()}
        with self._calm():
            outs = outputs(self, self._call(made))
            cut = self._gradients(made, outs, [Tensor.of(c) for c in cotangents], Forgiving())
        for name, array in before.items():
            after = made[name].array  # equal_nan takes ten times as long
            if not (np.array_equal(array, after) or np.array_equal(array, after, equal_nan=True)):
                raise Mutated(name)
        return {n: None if g is None else g.array for n, g in cut.items()}

    def _gradients(
        self,
        made: Mapping[str, Tensor],
        outs: Sequence[Tensor],
        cotangents: Sequence[Tensor],
        sweep: Sweep,
    ) -> dict[str, Tensor | None]:
        if not swept(outs, cotangents, sweep):
            return dict.fromkeys(made)
        wrong = sweep.misfits if isinstance(sweep, Forgiving) else {}
        return {n: wrong.get(id(t), sweep.grads.get(id(t))) for n, t in made.items()}

    def reference(
        self, values: Mapping[str, Array], cotangents: Sequence[Array]
    ) -> Gradients | None:
        if not has_any_rule(self.module):
            return None
        made = self._with(values, wanted=True)
        with self._calm(), autograd_only():
            outs = outputs(self, self._call(made))
            found = self._gradients(made, outs, [Tensor.of(c) for c in cotangents], Sweep())
        # What forward computes outside of the record has no gradient by ops.
        return {n: None if g is None else g.array for n, g in found.items()}

    def leaves(self, values: Mapping[str, Array]) -> dict[str, Tensor]:
        return self._with(values, wanted=True)

    def claimed(self, values: Mapping[str, Tensor], cotangents: Sequence[Tensor]) -> Any:
        outs = outputs(self, self._call(values))
        sweep = Forgiving()
        if not swept(outs, cotangents, sweep):
            return outs, {}
        found = {n: sweep.misfits.get(id(t), sweep.grads.get(id(t))) for n, t in values.items()}
        return outs, {n: g for n, g in found.items() if g is not None}

    def derived(self, values: Mapping[str, Tensor], cotangents: Sequence[Tensor]) -> Any:
        with autograd_only():
            return self.claimed(values, cotangents)


class Mutated(Exception):
    """A forward or backward wrote to its input."""


class Forgiving(Sweep):
    """A backward pass that keeps a contribution of a wrong shape, to show it, and goes on."""

    def __init__(self) -> None:
        super().__init__()
        self.misfits: dict[int, Tensor] = {}

    def _unbroadcast(self, tensor: Tensor, gradient: Tensor) -> Tensor:
        try:
            return super()._unbroadcast(tensor, gradient)
        except GroundupError:
            self.misfits[id(tensor)] = gradient
            return Tensor.of(np.zeros(tensor.shape))


def swept(outs: Sequence[Tensor], cotangents: Sequence[Tensor], sweep: Sweep) -> bool:
    """Walk back from all outputs at once; False if none depends on anything."""
    pairs = [(o, c) for o, c in zip(outs, cotangents, strict=True) if o.requires_grad]
    if not pairs:
        return False
    computed = {id(t): t for o, _ in pairs for t in _reached(o)[0]}
    for out, cotangent in pairs[1:]:
        sweep.add(out, cotangent)
    order = sorted(computed.values(), key=lambda t: -t.node.serial if t.node is not None else 0)
    sweep.run(*pairs[0], order, False)
    return True


def outputs(subject: Subject, result: Any) -> list[Tensor]:
    """The floating-point tensors among what a forward returned."""
    found = [t for t in tensors_in([result]) if t.dtype.kind in "fc"]
    if not found:
        raise GradientError(
            f"{subject.name}: forward returned {type(result).__name__}, and no floating-point "
            "Tensor to differentiate"
        )
    return found


def has_any_rule(module: Module | None) -> bool:
    """Whether the module, or one inside it, has a bwd."""
    return module is not None and any(has_bwd(m) for m in module.modules())


def plain(value: Any) -> Any:
    """An input as an array of its own; what is no array stays as it is."""
    if isinstance(value, Tensor):
        return value.array.copy()
    if isinstance(value, np.ndarray | np.generic):
        return np.array(value)
    if isinstance(value, float):
        return np.array(value)
    if isinstance(value, list | tuple) and value:
        try:
            made = np.array(value)
        except ValueError:
            return value
        return made if made.dtype.kind in "fiub" else value
    return value


def tensor(value: Any) -> Any:
    """An input that is no variable as a forward of Tensors takes it."""
    return Tensor.of(value) if isinstance(value, np.ndarray) else value


def fits(function: Any, inputs: Sequence[Any], name: str) -> None:
    """Raise for a wrong number of inputs."""
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):  # a function that does not tell
        return
    try:
        signature.bind(*inputs)
    except TypeError as error:
        raise GradientError(
            f"{name}: forward{signature} does not go with {len(inputs)} inputs: {error}"
        ) from None


def argument_names(function: Any, count: int) -> list[str]:
    """What a function calls its first arguments."""
    names: list[str] = []
    try:
        parameters = list(inspect.signature(function).parameters.values())
    except (TypeError, ValueError):
        parameters = []
    for p in parameters:
        if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD):
            names.append(p.name)
        elif p.kind is p.VAR_POSITIONAL:
            names += [f"{p.name}{i}" for i in range(count - len(names))]
    if len(names) < count:
        names += [f"x{i + 1}" for i in range(len(names), count)]
    return names[:count]


def as_double(value: Any, where: str) -> Array:
    """A result as an array of floating-point numbers, float64 unless complex."""
    array = np.asarray(value)
    if array.dtype.kind not in "fciub":
        raise DtypeError(f"{where}: {array.dtype} is no array of numbers")
    return array if array.dtype.kind == "c" else array.astype(np.float64)
