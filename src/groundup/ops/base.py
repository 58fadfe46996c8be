"""What an op is, and the record that it leaves.

An op is a NumPy `forward` and, beside it, a `bwd` written with Tensor ops::

    class Exp(Op):
        def forward(self, x): return np.exp(x)
        def bwd(self, out, x): x.g = out.g * out

    exp = Exp()

Calling `exp(t)` runs at once, and leaves a `Node` on the result if a gradient may be wanted.
Tensor arguments are positional, everything else (axis, shape, ...) is a keyword and reaches
`bwd` unchanged.

In a `bwd`, `x.g = v` *contributes* v to x's gradient. The engine (`groundup.backward`) adds up
what all uses contributed and sums a broadcast gradient back to x's shape, so no rule does.
Where a contribution costs real work, ask `x.requires_grad` first.
"""

from __future__ import annotations

import itertools
import math
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, TypeAlias

import numpy as np

from groundup.errors import DtypeError, GroundupError, ShapeError
from groundup.ops.text import Array as Array, Text

if TYPE_CHECKING:
    from groundup.backward import Sweep
    from groundup.program.recorder import Recorder
    from groundup.tensor import Tensor as TensorType

Axis: TypeAlias = int | tuple[int, ...] | None
Shape: TypeAlias = tuple[int, ...]

# groundup.tensor puts its class here when it is imported: ops make Tensors, and a Tensor's
# operators are ops.
Tensor: type[TensorType] = None  # type: ignore[assignment]

FLOAT32 = np.dtype(np.float32)
FLOAT64 = np.dtype(np.float64)
NDARRAY = np.ndarray

# Nodes are numbered as they are made. An op's inputs exist before its output does, so
# descending serials are a topological order of the backward pass.
serials = itertools.count(1)


_new = object.__new__


class State(threading.local):
    """What is in force in this thread."""

    # All in __dict__ from the start: where several are read, that is faster.
    def __init__(self) -> None:
        self.recording: bool = True  # ops leave nodes
        self.outside: Any = None  # what it was outside of a no_grad(), and there in turn
        self.own_rules: bool = True  # a module's hand-written bwd is used
        self.quiet: bool = False  # NumPy's floating-point warnings are already off
        self.sweep: Sweep | None = None  # the backward pass that is running a bwd right now
        self.recorder: Recorder | None = None  # writes down what runs, as a Program


state = State()


class quiet:
    """Silence NumPy's floating-point warnings, as PyTorch is silent: 0/0 is NaN, log(0) -inf.

    `np.errstate` costs more than a small op, so the outermost user (a module's call, a backward
    pass, an optimizer's step) enters it once and the ops within skip it.
    """

    __slots__ = ("errstate",)

    def __enter__(self) -> None:
        self.errstate: np.errstate | None = None
        if not state.quiet:
            self.errstate = np.errstate(all="ignore")
            self.errstate.__enter__()
            state.quiet = True

    def __exit__(self, *exc: object) -> None:
        if self.errstate is not None:
            state.quiet = False
            self.errstate.__exit__(None, None, None)


class Number(ABC):
    """A Python number in a step that is being recorded, such as a learning rate.

    It computes as the number would, and the recorder writes down how.
    """

    @abstractmethod
    def __index__(self) -> int:
        """The number where a plain int is needed, if it may be known."""

    @abstractmethod
    def as_tensor(self, dtype: np.dtype[Any]) -> TensorType:
        """The number as a 0-d Tensor, as it takes part in an op with Tensors of a dtype."""


class Node:
    """One step that ran: where its output's gradient goes next."""

    __slots__ = ("inputs", "serial")

    inputs: tuple[TensorType, ...]
    serial: int

    def run_bwd(self, out: TensorType, sweep: Sweep) -> None:
        """Send out's gradient to the inputs."""
        raise NotImplementedError

    @property
    def name(self) -> str:
        """What the step is called in messages."""
        raise NotImplementedError


class OpNode(Node):
    __slots__ = ("attrs", "op")

    def __init__(self, op: Op, inputs: tuple[TensorType, ...], attrs: dict[str, Any]):
        self.op, self.inputs, self.attrs = op, inputs, attrs
        self.serial = next(serials)

    def run_bwd(self, out: TensorType, sweep: Sweep) -> None:
        args = [sweep.argument(t) for t in self.inputs]
        self.op.bwd(sweep.output(out), *args, **self.attrs)
        sweep.collect(args)

    @property
    def name(self) -> str:
        return self.op.name


class Op(ABC):
    """A primitive: `forward` over NumPy arrays, `bwd` over Tensors. Instances are called."""

    name: ClassVar[str]
    # False for ops whose output has no gradient (comparisons, argmax): they leave no node.
    differentiable: ClassVar[bool] = True
    # True for ops whose attrs choose the output's dtype: the float64 check leaves them alone.
    chooses_dtype: ClassVar[bool] = False

    def __init_subclass__(cls) -> None:
        if "name" not in cls.__dict__:
            words = "".join("_" + c.lower() if c.isupper() else c for c in cls.__name__)
            cls.name = words.lstrip("_")

    @abstractmethod
    def forward(self, *arrays: Any, **attrs: Any) -> Any:
        """The op's value from NumPy arrays."""

    def bwd(self, *args: Any, **attrs: Any) -> None:
        """`bwd(out, *inputs, **attrs)`: contribute to each input's `.g` what out.g implies."""
        raise NotImplementedError(f"{self.name} has no bwd")

    # What Programs need to know: shapes, dtypes, cost and text of this op.

    # A check computes nothing: it raises where its input is bad.
    is_check: ClassVar[bool] = False
    # The result's entry depends on the inputs' entries at the same place only (with broadcasting).
    elementwise: ClassVar[bool] = False
    # The result shares memory with the first input.
    is_view: ClassVar[bool] = False
    # The NumPy function that does the same and takes `out=`, if there is one: "np.add".
    ufunc: ClassVar[str] = ""
    # The function of `groundup.ops.helpers` that the op's text calls, if any.
    helper: ClassVar[Callable[..., Any] | None] = None

    def shape(self, *shapes: Shape, **attrs: Any) -> Shape:
        """The shape rule: the output's shape from the inputs'; ShapeError if they do not fit."""
        raise NotImplementedError(f"{self.name} has no shape rule")

    def dtype(self, *given: Any, **attrs: Any) -> np.dtype[Any]:
        """The dtype rule: what NumPy makes of arrays (given as dtype and ndim) and numbers.

        It asks NumPy itself, with arrays of a single entry.
        """
        trial = [np.ones((1,) * g[1], g[0]) if isinstance(g, tuple) else g for g in given]
        with quiet():
            return np.asarray(self.forward(*trial, **attrs)).dtype

    def flops(self, out: Shape, *shapes: Shape, **attrs: Any) -> int:
        """Floating-point operations: one an entry of the output unless the op says otherwise."""
        return 0 if self.is_view or self.is_check else math.prod(out)

    def text(self, *ins: Text, out: str, shapes: Sequence[Shape], **attrs: Any) -> Text:
        """The op as NumPy source, from the source of its inputs.

        `out` is the output's shape as text, in which the batch may be a name; `shapes` are the
        inputs' shapes as numbers.
        """
        raise NotImplementedError(f"{self.name} does not print")

    def __call__(self, *args: Any, **attrs: Any) -> TensorType:
        arrays: list[Any] = []
        wanted = plain = False
        for arg in args:
            if isinstance(arg, Tensor):
                arrays.append(arg.array)
                if arg.requires_grad:
                    wanted = True
            elif type(arg) is float and arrays:
                # NumPy gives a Python number the dtype of the array that it meets, as we do.
                arrays.append(arg)
                plain = True
            else:
                args = _all_tensors(args)
                arrays = [a.array for a in args]
                wanted = any([a.requires_grad for a in args])  # noqa: C419 (a third of the time)
                plain = False
                break
        try:
            if state.quiet:
                data = self.forward(*arrays, **attrs)
            else:
                with np.errstate(all="ignore"):
                    data = self.forward(*arrays, **attrs)
        except (ValueError, IndexError, TypeError) as error:
            raise self._explain(error, _all_tensors(args), attrs) from error
        if type(data) is not NDARRAY:
            data = np.asarray(data)
        if data.dtype is FLOAT64 and not self.chooses_dtype:
            narrowed = _narrow(_all_tensors(args))
            if narrowed is not None:
                return self(*narrowed, **attrs)
        # Tensor.of(data), without the call.
        out = _new(Tensor)
        out.array = data
        out.requires_grad = False
        out.node = None
        out.written = 0
        out._g = None
        if wanted and self.differentiable and state.recording and data.dtype.kind in "fc":
            if plain:
                args = _all_tensors(args)
            if state.sweep is not None:  # inside a bwd: the record is about what aliases stand for
                args = tuple([a.origin for a in args])
            out.requires_grad = True
            out.node = OpNode(self, args, attrs)
        if state.recorder is not None:
            state.recorder.record(self, args, attrs, out)
        return out

    def __repr__(self) -> str:
        return f"<op {self.name}>"

    def _explain(
        self, error: Exception, args: tuple[TensorType, ...], attrs: dict[str, Any]
    ) -> Exception:
        """NumPy's error with the op's name, shapes and dtypes; own errors pass unchanged."""
        if isinstance(error, GroundupError):
            return error
        kind = DtypeError if isinstance(error, TypeError) else ShapeError
        shapes = ", ".join(f"{a.shape} {a.dtype}" for a in args)
        given = "".join(f", {k}={v!r}" for k, v in attrs.items())
        return kind(f"{self.name}({shapes}{given}): {error}")


def _all_tensors(args: tuple[Any, ...]) -> tuple[TensorType, ...]:
    return tuple([a if isinstance(a, Tensor) else constant(a, args) for a in args])


def constant(value: Any, args: tuple[Any, ...] = ()) -> TensorType:
    """A Tensor of an op's plain argument (a number, an array, a list).

    A Python or NumPy number takes the dtype of the Tensors it meets, or float32 when it is no
    integer and they are. A float64 array that meets float32 Tensors becomes float32: nothing
    widens silently.
    """
    made = _constant(value, args)
    if state.recorder is not None:
        state.recorder.made_constant(value, made)
    return made


def _constant(value: Any, args: tuple[Any, ...]) -> TensorType:
    if type(value) is NDARRAY and value.dtype.kind in "iub":
        return Tensor.of(value)
    if isinstance(value, np.generic):  # NumPy's numbers are as weak as Python's
        value = value.item()
    if isinstance(value, bool):
        return Tensor.of(np.array(value))
    met = [a.array.dtype for a in args if isinstance(a, Tensor)]
    dtype = next((d for d in met if d.kind in "fc"), None)
    if isinstance(value, Number):
        return value.as_tensor(dtype or FLOAT32)
    if isinstance(value, float):
        return Tensor.of(_number(value, dtype or FLOAT32))
    if isinstance(value, int):
        try:
            known = dtype or next((d for d in met if d.kind in "iu"), None)
            return Tensor.of(np.array(value, known))
        except OverflowError:  # too large for the integers that it meets: compare it as it is
            return Tensor(value)
    made = Tensor(value)
    widens = isinstance(value, list | tuple) or made.array.dtype is FLOAT64
    if dtype is not None and made.array.dtype.kind == "f" and widens:
        return Tensor(value, dtype=dtype)
    return made


def _number(value: float, dtype: np.dtype[Any]) -> Array:
    """A 0-d array; a number beyond the dtype's largest is infinity, without a warning."""
    if -65504.0 <= value <= 65504.0:  # float16's largest
        return np.array(value, dtype)
    with quiet():
        return np.array(value, dtype)


def _narrow(inputs: tuple[TensorType, ...]) -> list[TensorType] | None:
    """Inputs to use instead when NumPy made float64 out of none; None if one is float64.

    NumPy's float32 * int64, int64 / int64 and exp(int64) are float64; here, as in PyTorch, they
    are float32: integers take the float's width.
    """
    if not inputs or any(i.array.dtype is FLOAT64 or i.array.dtype.kind == "c" for i in inputs):
        return None
    floats = [i.array.dtype for i in inputs if i.array.dtype.kind == "f"]
    dtype = floats[0] if floats else FLOAT32
    return [i if i.array.dtype.kind == "f" else i.cast(dtype) for i in inputs]
