"""A call of a module with a hand-written `bwd` as one step of the record."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

import numpy as np

from groundup.backward import Argument, Sweep
from groundup.errors import DtypeError, ShapeError
from groundup.ops import full
from groundup.ops.base import Array, Node, serials
from groundup.tensor import Tensor

if TYPE_CHECKING:
    from groundup.nn.module import Module


def as_one_step(
    module: Module, result: Any, args: tuple[Any, ...], kwargs: dict[str, Any], began: int
) -> Any:
    """Forward's result as the output of a single step, whose rule is the module's bwd.

    forward ran under recording, from serial `began` on. What it left is looked through for the
    tensors that it used besides its arguments, and then let go; a value that the module kept for
    its bwd keeps its own part, so that second derivatives go through it.
    """
    given = tensors_in(args)
    if kwargs:
        given += tensors_in(kwargs.values())
    outs = [result] if isinstance(result, Tensor) else tensors_in([result])
    captured = _captured(outs, given, began)
    if captured is None:  # forward went through plain NumPy
        captured = [p for p in module.parameters() if p.requires_grad]
    if not captured and not any(t.requires_grad for t in given):
        return result
    if not isinstance(result, Tensor):
        return Bundle.around(result, outs, ModuleNode(module, args, kwargs, given, captured))
    if result.array.dtype.kind not in "fc":
        return result
    if result.node is None or result.node.serial < began:  # not made here: someone else's tensor
        result = Tensor.of(result.array)
    node = ModuleNode(module, args, kwargs, given, captured)
    if result.node is not None:  # forward may have computed more from it: that comes after
        node.serial = result.node.serial
    result.requires_grad = True
    result.node = node
    return result


def _captured(outs: list[Tensor], given: list[Tensor], began: int) -> list[Tensor] | None:
    """The tensors, besides the arguments, that a forward which began at a serial used.

    None if no output was computed by recorded ops.
    """
    seen = {id(t) for t in given}
    found: list[Tensor] = []
    recorded = False
    stack = list(outs)
    while stack:
        tensor = stack.pop()
        if id(tensor) not in seen:
            seen.add(id(tensor))
            node = tensor.node
            if node is not None and node.serial > began:
                recorded = True
                stack += node.inputs
            elif tensor.requires_grad:
                found.append(tensor)
    return found if recorded else None


class ModuleNode(Node):
    """A call of a module whose hand-written bwd is the rule."""

    __slots__ = ("args", "captured", "kwargs", "module")

    def __init__(
        self,
        module: Module,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        given: list[Tensor],
        captured: list[Tensor],
    ):
        self.module, self.args, self.kwargs = module, args, kwargs
        # Leaves take contributions at any time; a computed tensor only from those that used it.
        self.captured = frozenset([id(t) for t in captured if t.node is not None])
        self.inputs = tuple([t.origin for t in given] + captured)
        self.serial = next(serials)

    def run_bwd(self, out: Tensor, sweep: Sweep) -> None:
        """Call the module's bwd with aliases, and take what it contributed."""
        aliases: list[Argument] = []

        def alias(tensor: Tensor) -> Argument:
            made = sweep.argument(tensor.origin)
            aliases.append(made)
            return made

        args = [alias(a) if isinstance(a, Tensor) else mapped(a, alias) for a in self.args]
        kwargs = mapped(self.kwargs, alias)
        result = out.outputs(sweep) if isinstance(out, Bundle) else sweep.output(out)
        outer, sweep.captured = sweep.captured, self.captured
        try:
            self.module.bwd(result, *args, **kwargs)  # type: ignore[attr-defined]
        except (ShapeError, DtypeError) as error:
            if str(error).startswith(f"{self.name}: bwd"):
                raise
            raise type(error)(f"{self.name}: bwd: {error}") from error
        finally:
            sweep.captured = outer
        sweep.collect(aliases)

    @property
    def name(self) -> str:
        return type(self.module).__name__


class Bundle(Tensor):
    """All outputs of a module that returns several tensors, as one tensor of the record."""

    __slots__ = ("arrays", "result")

    arrays: list[Array]
    result: Any  # what forward returned, with a `Place` for each tensor

    @classmethod
    def around(cls, result: Any, outs: list[Tensor], node: Node) -> Any:
        """Forward's result with each tensor replaced by one that comes from the bundle."""
        bundle = cls.of(np.empty(0, np.float32))
        bundle.requires_grad, bundle.node = True, node
        bundle.arrays = [t.array for t in outs]
        places = iter(range(len(outs)))
        bundle.result = mapped(result, lambda _: Place(next(places)))
        return mapped(bundle.result, lambda place: bundle.pick(place.index), Place)

    def pick(self, index: int) -> Tensor:
        """An output as a tensor of its own."""
        out = Tensor.of(self.arrays[index])
        if out.dtype.kind in "fc":
            out.requires_grad = True
            out.node = PickNode(self, index)
        return out

    def outputs(self, sweep: Sweep) -> Any:
        """What bwd gets as `out`: forward's result, each tensor with its gradient or zeros."""
        found = sweep.parts[id(self)]

        def with_gradient(place: Place) -> Tensor:
            gradient = found.get(place.index)
            if gradient is None:
                array = self.arrays[place.index]
                gradient = full(shape=array.shape, value=0.0, dtype=array.dtype)
            return sweep.output(self.pick(place.index), gradient)

        return mapped(self.result, with_gradient, Place)


class Place:
    """Where one of several outputs belongs."""

    def __init__(self, index: int):
        self.index = index


class PickNode(Node):
    """One of several outputs of a module: it hands its gradient to the bundle."""

    __slots__ = ("index",)

    def __init__(self, bundle: Bundle, index: int):
        self.inputs, self.index = (bundle,), index
        self.serial = next(serials)

    def run_bwd(self, out: Tensor, sweep: Sweep) -> None:
        """Keep the gradient for when all outputs have theirs."""
        (bundle,) = self.inputs
        gradient = sweep.grads[id(out)]
        found = sweep.parts.setdefault(id(bundle), {})
        known = found.get(self.index)  # an output's alias in a second derivative has one, too
        found[self.index] = gradient if known is None else known + gradient
        sweep.grads.setdefault(id(bundle), gradient)  # any: it says that the bundle was reached

    @property
    def name(self) -> str:
        (bundle,) = self.inputs
        return bundle.node.name if bundle.node is not None else "output"


def tensors_in(values: Iterable[Any]) -> list[Tensor]:
    """The tensors among values, and in their nested tuples, lists and dicts, in order."""
    found: list[Tensor] = []
    for value in values:
        if isinstance(value, Tensor):
            found.append(value)
        elif isinstance(value, _CONTAINERS):
            found += tensors_in(value.values() if isinstance(value, dict) else value)
    return found


_CONTAINERS = (tuple, list, dict)


def mapped(value: Any, function: Callable[[Any], Any], kind: type = Tensor) -> Any:
    """A nested structure with function applied to each member of a kind."""
    if isinstance(value, kind):
        return function(value)
    if isinstance(value, tuple):
        made = [mapped(v, function, kind) for v in value]
        return type(value)(*made) if hasattr(value, "_fields") else tuple(made)
    if isinstance(value, list):
        return [mapped(v, function, kind) for v in value]
    if isinstance(value, dict):
        return {k: mapped(v, function, kind) for k, v in value.items()}
    return value
