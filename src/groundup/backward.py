"""The backward pass: from a tensor, in reverse order of what ran, to everything it came from.

The engine alone adds up contributions and sums broadcast gradients back to their tensor's shape;
the rules (`bwd` of ops and modules) only say what one step contributes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from functools import wraps
from operator import itemgetter
from typing import Any, NoReturn, ParamSpec, TypeVar

from groundup import ops
from groundup.errors import GradientError, ShapeError
from groundup.ops.base import Array, Node, quiet, serials, state
from groundup.tensor import Parameter, Tensor, Value, as_tensor

P = ParamSpec("P")
R = TypeVar("R")


class Argument(Tensor):
    """What a `bwd` gets for an argument: its value, and a `.g` that takes contributions."""

    __slots__ = ("source",)

    source: Tensor

    @property
    def g(self) -> Any:
        refuse_read()

    @g.setter
    def g(self, value: Value | None) -> None:
        gradient = contribution(value)
        self._g = gradient if self._g is None else self._g + gradient

    @property
    def origin(self) -> Tensor:
        return self.source


class Output(Tensor):
    """What a `bwd` gets for the output: its value, and in `.g` the gradient that arrived."""

    __slots__ = ("source",)

    source: Tensor

    @property
    def g(self) -> Any:
        return self._g

    @g.setter
    def g(self, value: Value | None) -> None:
        raise GradientError(
            f"{running()}: bwd sets out.g, which is what arrived from behind; contribute to the "
            "inputs instead: inp.g = ..."
        )

    @property
    def origin(self) -> Tensor:
        return self.source


def contribution(value: Value | None) -> Tensor:
    """What a bwd assigned to a `.g`, as a Tensor."""
    if value is None:
        raise GradientError(
            f"{running()}: bwd sets a gradient to None; leave it out where it is zero"
        )
    return value if isinstance(value, Tensor) else Tensor(value)


def refuse_read() -> NoReturn:
    """Raise: inside a bwd the gradients of inputs and parameters are not there to be read."""
    raise GradientError(
        f"{running()}: bwd reads the gradient of an input or parameter, which is still being "
        "added up. Write `x.g = v`, never `x.g += v`: in a bwd every assignment adds v"
    )


def running() -> str:
    """The name of the step whose bwd is running."""
    sweep = state.sweep
    return sweep.step.name if sweep is not None and sweep.step is not None else "backward"


class Sweep:
    """One backward pass, and the gradients that it has found so far."""

    def __init__(self) -> None:
        self.grads: dict[int, Tensor] = {}
        # The leaves that bwds contributed to, found in a forward's record or not.
        self.leaves: dict[int, Tensor] = {}
        # Gradients of the outputs of modules that return several, by bundle and place.
        self.parts: dict[int, dict[int, Tensor]] = {}
        # The non-leaf tensors that the module whose bwd is running found outside its arguments.
        self.captured: frozenset[int] = frozenset()
        self.step: Node | None = None

    def run(
        self, root: Tensor, gradient: Tensor, computed: list[Tensor], create_graph: bool
    ) -> None:
        """Walk back from the root, whose gradient is given, through what was computed."""
        self.add(root, gradient)
        before, state.recording = state.recording, create_graph
        outer, state.sweep = state.sweep, self
        recorder = state.recorder
        try:
            with quiet(), nullcontext() if recorder is None else recorder.backward():
                for out in computed:
                    node = out.node
                    if node is not None and id(out) in self.grads:
                        self.step = node
                        if recorder is not None:
                            recorder.backward_of(out, self.grads[id(out)])
                        node.run_bwd(out, self)
        finally:
            state.recording, state.sweep = before, outer

    # What nodes use

    def argument(self, tensor: Tensor) -> Argument:
        """An alias with an empty `.g`."""
        alias = Argument.of(tensor.array)
        alias.requires_grad = tensor.requires_grad
        alias.node = tensor.node
        alias.source = tensor
        return alias

    def output(self, out: Tensor, gradient: Tensor | None = None) -> Output:
        """An alias of the output that carries the gradient that arrived."""
        alias = Output.of(out.array)
        alias.requires_grad = out.requires_grad
        alias.node = out.node
        alias.source = out
        alias._g = self.grads[id(out)] if gradient is None else gradient
        return alias

    def collect(self, args: Sequence[Argument]) -> None:
        """Take what a bwd left in its arguments' `.g`."""
        for arg in args:
            if arg.requires_grad and arg._g is not None:
                self.add(arg.source, arg._g)

    def add(self, tensor: Tensor, gradient: Tensor) -> None:
        """Add a contribution, summed back to the tensor's shape, in the tensor's dtype."""
        array, wanted = gradient.array, tensor.array
        if array.shape != wanted.shape:
            gradient = self._unbroadcast(tensor, gradient)
        if array.dtype is not wanted.dtype:
            gradient = gradient.cast(wanted.dtype)
        key = id(tensor)
        known = self.grads.get(key)
        self.grads[key] = gradient if known is None else known + gradient

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
            raise ShapeError(
                f"{running()}: bwd contributed a gradient of shape {given} to a tensor of shape "
                f"{shape}. A gradient has its tensor's shape, or one that the tensor broadcasts "
                "to; is a transpose or a sum missing?"
            )
        return gradient.sum(tuple(range(extra)) + stretched, keepdims=True).reshape(shape)

    # What `Tensor.g` asks while a bwd runs

    def before_read(self, tensor: Tensor) -> None:
        """Refuse to read a gradient that is still being added up."""
        if tensor.requires_grad and (tensor.node is None or id(tensor) in self.captured):
            refuse_read()

    def takes(self, tensor: Tensor, value: Value | None) -> bool:
        """Whether `tensor.g = value` in a bwd is a contribution (and if so, take it)."""
        if not tensor.requires_grad:
            return isinstance(tensor, Parameter)  # frozen: nothing to learn
        if tensor.node is None:
            self.leaves[id(tensor)] = tensor
        elif id(tensor) not in self.captured:
            return False
        self.add(tensor, contribution(value))
        return True


def backward(
    loss: Tensor,
    gradient: Value | None = None,
    *,
    accumulate: bool = False,
    create_graph: bool = False,
) -> None:
    """See `Tensor.backward`."""
    gradient = _cotangent(loss, gradient)
    computed, leaves = _reached(loss)
    sweep = Sweep()
    sweep.run(loss, gradient, computed, create_graph)
    # Only now, so that an error on the way leaves every `.g` as it was.
    for tensor in computed:
        tensor._g = sweep.grads.get(id(tensor))
    shared = {id(gradient.array)}
    stamp = next(serials)
    for key, tensor in ({id(t): t for t in leaves} | sweep.leaves).items():
        found = sweep.grads.get(key)
        if found is not None and not create_graph:
            found = _owned(found, shared)
        old = tensor.g if accumulate else None
        total = found if old is None else old if found is None else old + found
        if total is not None and found is not None and not create_graph:
            total.written = stamp  # so that an optimizer knows a new gradient from an old one
        tensor._g = total
        if state.recorder is not None and total is not None:
            state.recorder.left_gradient(tensor, total)


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
    sweep.run(out, _cotangent(out, gradient), _reached(out)[0], create_graph)
    found = (sweep.grads.get(id(t)) for t in inputs)
    return [
        ops.full(shape=t.shape, value=0.0, dtype=t.dtype) if g is None else g
        for t, g in zip(inputs, found, strict=True)
    ]


class no_grad:
    """Compute without recording: nothing made inside requires a gradient. Also a decorator."""

    # A generator's context takes most of a microsecond, as long as a small model's compiled call;
    # so would attributes, of this and of the thread's state.

    __slots__ = ()

    def __enter__(self) -> None:
        here = state.__dict__
        here["outside"] = here["recording"], here["outside"]
        here["recording"] = False

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        here = state.__dict__
        here["recording"], here["outside"] = here["outside"]

    def __call__(self, function: Callable[P, R]) -> Callable[P, R]:
        @wraps(function)
        def inside(*args: P.args, **kwargs: P.kwargs) -> R:
            with no_grad():
                return function(*args, **kwargs)

        return inside


@contextmanager
def autograd_only() -> Iterator[None]:
    """Ignore modules' hand-written `bwd`s: gradients come from the ops. Also a decorator.

    What a hand-written rule is checked against.
    """
    before, state.own_rules = state.own_rules, False
    try:
        yield
    finally:
        state.own_rules = before


def _reached(root: Tensor) -> tuple[list[Tensor], list[Tensor]]:
    """Computed tensors in backward order, and leaves, that a tensor was computed from."""
    computed: list[tuple[int, Tensor]] = []
    leaves: list[Tensor] = []
    seen: set[int] = set()
    stack = [root]
    while stack:
        tensor = stack.pop()
        if id(tensor) in seen:
            continue
        seen.add(id(tensor))
        node = tensor.node
        if node is None:
            leaves.append(tensor)
            continue
        serial = node.serial
        computed.append((-serial, tensor))
        for i in node.inputs:
            if i.written > serial:
                raise GradientError(
                    f"a tensor of shape {i.shape} that {node.name} used was written to (by an "
                    "optimizer's step or assign) before backward: its old value is gone. Call "
                    "backward first, or compute the loss again"
                )
            if i.requires_grad:
                stack.append(i)
    computed.sort(key=_FIRST)
    return [tensor for _, tensor in computed], leaves


_FIRST = itemgetter(0)


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
        return ops.full(shape=out.shape, value=1.0, dtype=out.dtype)
    gradient = as_tensor(gradient)
    if gradient.shape != out.shape:
        raise ShapeError(f"backward: the tensor has shape {out.shape}, gradient {gradient.shape}")
    return gradient


def _owned(gradient: Tensor, shared: set[int]) -> Tensor:
    """A leaf's gradient in memory of its own, so that changing it in place changes no other."""
    array: Array = gradient.array
    if array.base is None and type(gradient) is Tensor and id(array) not in shared:
        shared.add(id(array))
        return gradient
    own = Tensor.of(array.copy())
    if state.recorder is not None:
        state.recorder.alias(own.array, array)
    return own
