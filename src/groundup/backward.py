"""The backward pass: from a tensor, in reverse order of what ran, to everything it came from.

The engine alone adds up contributions and sums broadcast gradients back to their tensor's shape;
the rules (`bwd` of ops and modules) only say what one step contributes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import NoReturn, TypeVar

import numpy as np

from groundup.errors import GradientError, ShapeError
from groundup.ops.base import Array, Node, quiet, state
from groundup.tensor import Parameter, Tensor, Value, as_tensor


class Argument(Tensor):
    """What a `bwd` gets for an argument: its value, and a `.g` that takes contributions."""

    __slots__ = ("source",)

    source: Tensor

    @property
    def origin(self) -> Tensor:
        return self.source


class Output(Argument):
    """What a `bwd` gets for the output: its value, and in `.g` the gradient that arrived."""

    __slots__ = ()


Alias = TypeVar("Alias", bound=Argument)


class Sweep:
    """One backward pass, and the gradients that it has found so far."""

    def __init__(self) -> None:
        self.grads: dict[int, Tensor] = {}
        # Gradients of the outputs of modules that return several, by bundle and place.
        self.parts: dict[int, dict[int, Tensor]] = {}
        # The non-leaf tensors that the module whose bwd is running found outside its arguments.
        self.captured: frozenset[int] = frozenset()
        self.step: Node | None = None

    def run(self, roots: Sequence[tuple[Tensor, Tensor]], create_graph: bool) -> list[Tensor]:
        """Walk back from the roots, each with its gradient; return all tensors reached."""
        reached, leaves = _reached([root for root, _ in roots])
        for root, gradient in roots:
            self.add(root, gradient)
        recording, outer = state.recording, state.sweep
        state.recording, state.sweep = create_graph, self
        try:
            with quiet():
                for out in reached:
                    node = out.node
                    if id(out) in self.grads and node is not None:
                        self.step = node
                        _check_unwritten(node)
                        node.run_bwd(out, self)
        finally:
            state.recording, state.sweep = recording, outer
        return reached + leaves

    # What nodes use

    def argument(self, tensor: Tensor) -> Argument:
        """An alias with an empty `.g`."""
        return _alias(Argument, tensor)

    def output(self, out: Tensor, gradient: Tensor | None = None) -> Output:
        """An alias of the output that carries the gradient that arrived."""
        alias = _alias(Output, out)
        alias._g = self.grads[id(out)] if gradient is None else gradient
        return alias

    def collect(self, node: Node, args: Sequence[Argument]) -> None:
        """Take what a bwd left in its arguments' `.g`."""
        for arg in args:
            if arg._g is not None and arg.requires_grad:
                self.add(arg.source, arg._g)

    def add(self, tensor: Tensor, gradient: Tensor) -> None:
        """Add a contribution, summed back to the tensor's shape, in the tensor's dtype."""
        if gradient.data.shape != tensor.data.shape:
            gradient = self._unbroadcast(tensor, gradient)
        if gradient.data.dtype is not tensor.data.dtype:
            gradient = gradient.cast(tensor.dtype)
        known = self.grads.get(id(tensor))
        self.grads[id(tensor)] = gradient if known is None else known + gradient

    def _unbroadcast(self, tensor: Tensor, gradient: Tensor) -> Tensor:
        """Sum over the axes along which the tensor was broadcast."""
        shape, given = tensor.shape, gradient.shape
        extra = len(given) - len(shape)
        stretched = tuple(
            i + extra
            for i, n in enumerate(shape)
            if n == 1 and given[i + extra : i + extra + 1] != (1,)
        )
        summed = (
            given if extra < 0 else tuple(1 if i in stretched else n for i, n in enumerate(given))
        )
        if extra < 0 or summed[extra:] != shape:
            step = self.step.name if self.step is not None else "backward"
            raise ShapeError(
                f"{step}: bwd contributed a gradient of shape {given} to a tensor of shape "
                f"{shape}. A gradient has its tensor's shape, or one that the tensor broadcasts "
                "to; is a transpose or a sum missing?"
            )
        return gradient.sum(tuple(range(extra)) + stretched, keepdims=True).reshape(shape)

    # What `Tensor.g` asks while a bwd runs

    def before_read(self, tensor: Tensor) -> None:
        """Refuse to read a gradient that is still being added up."""
        if type(tensor) is Argument or (tensor.requires_grad and self._counts(tensor)):
            self._refuse_read()

    def takes(self, tensor: Tensor, value: Value | None) -> bool:
        """Whether `tensor.g = value` in a bwd is a contribution (and if so, take it)."""
        if isinstance(tensor, Argument):
            if isinstance(tensor, Output):
                raise GradientError(
                    f"{self._name()}: bwd sets out.g, which is what arrived from behind; "
                    "contribute to the inputs instead: inp.g = ..."
                )
            gradient = self._contribution(value)
            tensor._g = gradient if tensor._g is None else tensor._g + gradient
            return True
        if tensor.requires_grad:
            if not self._counts(tensor):
                return False
            self.add(tensor, self._contribution(value))
            return True
        return isinstance(tensor, Parameter)  # frozen: nothing to learn

    def _counts(self, tensor: Tensor) -> bool:
        return tensor.node is None or id(tensor) in self.captured

    def _contribution(self, value: Value | None) -> Tensor:
        if value is None:
            raise GradientError(
                f"{self._name()}: bwd sets a gradient to None; leave it out where it is zero"
            )
        return as_tensor(value)

    def _refuse_read(self) -> NoReturn:
        raise GradientError(
            f"{self._name()}: bwd reads the gradient of an input or parameter, which is still "
            "being added up. Write `x.g = v`, never `x.g += v`: in a bwd every assignment adds v"
        )

    def _name(self) -> str:
        return self.step.name if self.step is not None else "backward"


def backward(
    loss: Tensor,
    gradient: Value | None = None,
    *,
    accumulate: bool = False,
    create_graph: bool = False,
) -> None:
    """See `Tensor.backward`."""
    sweep = Sweep()
    reached = sweep.run([(loss, _cotangent(loss, gradient))], create_graph)
    shared: set[int] = set()
    for tensor in reached:
        found = sweep.grads.get(id(tensor))
        if tensor.node is None:
            if found is not None and not create_graph:
                found = _owned(found, shared)
            if accumulate and tensor._g is not None:
                found = tensor._g if found is None else tensor._g + found
        tensor._g = found


def grad(
    out: Tensor,
    inputs: Sequence[Tensor],
    gradient: Value | None = None,
    *,
    create_graph: bool = False,
) -> list[Tensor]:
    """The gradients of `out` in the inputs, without touching any `.g`.

    Args:
        out: a tensor; its own gradient may be left out if it is a single number.
        inputs: leaves or tensors that `out` was computed from.
        gradient: the gradient of `out` (the cotangent), of its shape.
        create_graph: record the backward pass, so that the result can be differentiated again.

    Returns:
        One tensor for each input, of its shape; zeros where `out` does not depend on it.

    """
    for i, tensor in enumerate(inputs):
        if not tensor.requires_grad:
            raise GradientError(f"grad: input {i} of shape {tensor.shape} requires no gradient")
    sweep = Sweep()
    sweep.run([(out, _cotangent(out, gradient))], create_graph)
    found = (sweep.grads.get(id(t)) for t in inputs)
    return [
        Tensor.of(np.zeros_like(t.data)) if g is None else g
        for t, g in zip(inputs, found, strict=True)
    ]


@contextmanager
def no_grad() -> Iterator[None]:
    """Compute without recording: nothing made inside requires a gradient. Also a decorator."""
    recording = state.recording
    state.recording = False
    try:
        yield
    finally:
        state.recording = recording


@contextmanager
def autograd_only() -> Iterator[None]:
    """Ignore modules' hand-written `bwd`s: gradients come from the ops. Also a decorator.

    What a hand-written rule is checked against.
    """
    own_rules = state.own_rules
    state.own_rules = False
    try:
        yield
    finally:
        state.own_rules = own_rules


def _alias(kind: type[Alias], source: Tensor) -> Alias:
    alias = kind.__new__(kind)
    alias.data = source.data
    alias.requires_grad = source.requires_grad
    alias.node = source.node
    alias.written = 0
    alias._g = None
    alias.source = source
    return alias


def _reached(roots: Sequence[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
    """Computed tensors in backward order, and leaves, that the roots were computed from."""
    computed: list[tuple[int, Tensor]] = []
    leaves: list[Tensor] = []
    seen: set[int] = set()
    stack = list(roots)
    while stack:
        tensor = stack.pop()
        if id(tensor) in seen:
            continue
        seen.add(id(tensor))
        node = tensor.node
        if node is None:
            leaves.append(tensor)
        else:
            computed.append((-node.serial, tensor))
            for i in node.inputs:
                if i.requires_grad:
                    stack.append(i)
    computed.sort(key=lambda pair: pair[0])
    return [tensor for _, tensor in computed], leaves


def _check_unwritten(node: Node) -> None:
    for i in node.inputs:
        if i.written > node.serial:
            raise GradientError(
                f"a tensor of shape {i.shape} that {node.name} used was written to (by an "
                "optimizer's step or assign) before backward: its old value is gone. Call "
                "backward first, or compute the loss again"
            )


def _cotangent(out: Tensor, gradient: Value | None) -> Tensor:
    if not out.requires_grad:
        raise GradientError(
            "nothing that this tensor was computed from requires a gradient: use parameters or "
            "Tensor(..., requires_grad=True), outside of no_grad()"
        )
    if gradient is None:
        if out.size != 1:
            raise ShapeError(
                f"backward from shape {out.shape}: only a single number has an obvious gradient; "
                "reduce it (a loss), or pass backward(gradient) of that shape"
            )
        return Tensor.of(np.ones_like(out.data))
    gradient = as_tensor(gradient)
    if gradient.shape != out.shape:
        raise ShapeError(f"backward: the tensor has shape {out.shape}, gradient {gradient.shape}")
    return gradient


def _owned(gradient: Tensor, shared: set[int]) -> Tensor:
    """A leaf's gradient in memory of its own, so that changing it in place changes no other."""
    array: Array = gradient.data
    if array.base is not None or id(array) in shared:
        array = array.copy()
    shared.add(id(array))
    return Tensor.of(array)
