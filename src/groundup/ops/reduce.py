"""Reductions: fewer entries from more. `axis` is None (all), an int or a tuple; as in NumPy."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from groundup.errors import ShapeError
from groundup.ops import helpers
from groundup.ops.base import Array, Axis, Op, Shape, state
from groundup.ops.text import Text, call, method

if TYPE_CHECKING:
    from groundup.tensor import Tensor


# np.sum, max and min without their Python layer, which costs as much as a small sum.
total: Callable[..., Array] = np.add.reduce
largest: Callable[..., Array] = np.maximum.reduce
smallest: Callable[..., Array] = np.minimum.reduce


def axes_of(axis: Axis, ndim: int) -> tuple[int, ...]:
    """The reduced axes as non-negative numbers, in order."""
    if axis is None:
        return tuple(range(ndim))
    given = axis if isinstance(axis, tuple) else (axis,)
    for a in given:
        if not -ndim <= a < ndim:
            raise ShapeError(f"axis {a} is out of range for a tensor of {ndim} dimensions")
    axes = tuple(sorted(a % ndim for a in given))
    if len(set(axes)) != len(axes):
        raise ShapeError(f"axis {axis} names the same dimension twice")
    return axes


def reduced_axes(axis: Axis, ndim: int) -> tuple[int, ...]:
    """The axes over which to reduce; a single number may be reduced "along its axis"."""
    return () if not ndim and axis in (0, -1) else axes_of(axis, ndim)


def kept_shape(shape: tuple[int, ...], axis: Axis) -> tuple[int, ...]:
    """The shape after reducing with keepdims=True."""
    axes = reduced_axes(axis, len(shape))
    return tuple(1 if i in axes else n for i, n in enumerate(shape))


def reduced_count(shape: tuple[int, ...], axis: Axis) -> int:
    """How many entries are reduced into one."""
    if axis is None:
        return math.prod(shape)
    return math.prod(shape[i] for i in reduced_axes(axis, len(shape)))


def size_of(x: Tensor, axis: Axis = None) -> Any:
    """How many entries x has along axes, as a number to compute with.

    In a recorded step it stays the size of x, whatever the batch: `len(x)` is a number like any
    other, and the Program keeps it.
    """
    count = reduced_count(x.array.shape, axis)
    return count if state.recorder is None else state.recorder.size(x, axis, count)


def reduced_shape(shape: Shape, axis: Axis, keepdims: bool) -> Shape:
    """The shape after reducing."""
    axes = reduced_axes(axis, len(shape))
    return tuple(1 if i in axes else n for i, n in enumerate(shape) if keepdims or i not in axes)


class Reduction(Op):
    """One that prints as a method of arrays: `x.sum(axis=0)`."""

    written: ClassVar[str]

    def shape(  # type: ignore[override]
        self, *shapes: Shape, axis: Axis = None, keepdims: bool = False
    ) -> Shape:
        return reduced_shape(shapes[0], axis, keepdims)

    def flops(self, out: Shape, *shapes: Shape, **attrs: Any) -> int:
        return math.prod(shapes[0])

    def text(
        self,
        *ins: Text,
        shapes: Sequence[Shape],
        axis: Axis = None,
        keepdims: bool = False,
        **attrs: Any,
    ) -> Text:
        axis = axis if shapes[0] else None  # of a number NumPy knows no axis to take the mean of
        return method(ins[0], self.written, axis=axis, keepdims=True if keepdims else None)


class Sum(Reduction):
    written, ufunc = "sum", "np.add.reduce"

    def forward(self, x: Array, *, axis: Axis = None, keepdims: bool = False) -> Array:
        return total(x, axis=axis, keepdims=keepdims)

    def bwd(self, out: Tensor, x: Tensor, *, axis: Axis = None, keepdims: bool = False) -> None:
        x.g = out.g.reshape(kept_shape(x.shape, axis)).expand(x.shape)


class OfSomething(Reduction):
    """One that has no value for no entries."""

    def shape(  # type: ignore[override]
        self, *shapes: Shape, axis: Axis = None, keepdims: bool = False
    ) -> Shape:
        if not reduced_count(shapes[0], axis):
            raise ShapeError(f"{self.name} over axis {axis} of shape {shapes[0]}: there is nothing")
        return reduced_shape(shapes[0], axis, keepdims)


class Mean(OfSomething):
    """The mean; an empty one is an error."""

    written = "mean"

    def forward(self, x: Array, *, axis: Axis = None, keepdims: bool = False) -> Array:
        count = reduced_count(x.shape, axis)
        if count == 0:
            raise ShapeError(
                f"mean over axis {axis} of shape {x.shape}: there is nothing to average"
            )
        if x.dtype == np.float16:  # NumPy adds up halves in float32, as PyTorch does
            return np.mean(x, axis=axis, keepdims=keepdims)  # type: ignore[no-any-return]
        return total(x, axis=axis, keepdims=keepdims) / count

    def bwd(self, out: Tensor, x: Tensor, *, axis: Axis = None, keepdims: bool = False) -> None:
        share = out.g / size_of(x, axis)
        x.g = share.reshape(kept_shape(x.shape, axis)).expand(x.shape)


class Amax(OfSomething):
    """The largest entry. Ties share the gradient evenly (PyTorch's amax)."""

    written, ufunc = "max", "np.maximum.reduce"

    def forward(self, x: Array, *, axis: Axis = None, keepdims: bool = False) -> Array:
        return largest(x, axis=axis, keepdims=keepdims)

    def bwd(self, out: Tensor, x: Tensor, *, axis: Axis = None, keepdims: bool = False) -> None:
        share_among_ties(out, x, axis)


class Amin(OfSomething):
    """The smallest entry. Ties share the gradient evenly (PyTorch's amin)."""

    written, ufunc = "min", "np.minimum.reduce"

    def forward(self, x: Array, *, axis: Axis = None, keepdims: bool = False) -> Array:
        return smallest(x, axis=axis, keepdims=keepdims)

    def bwd(self, out: Tensor, x: Tensor, *, axis: Axis = None, keepdims: bool = False) -> None:
        share_among_ties(out, x, axis)


def share_among_ties(out: Tensor, x: Tensor, axis: Axis) -> None:
    """The gradient of amax and amin: even parts to every entry that equals the output."""
    kept = kept_shape(x.shape, axis)
    ties = (x == out.reshape(kept)).cast(x.dtype)
    x.g = ties * (out.g.reshape(kept) / ties.sum(axis, keepdims=True))


class Argmax(OfSomething):
    """The index of the first largest entry (int64)."""

    differentiable = False
    written = "argmax"

    def forward(self, x: Array, *, axis: int | None = None, keepdims: bool = False) -> Array:
        return np.asarray(np.argmax(x, axis=axis, keepdims=keepdims))


class Argmin(OfSomething):
    """The index of the first smallest entry (int64)."""

    differentiable = False
    written = "argmin"

    def forward(self, x: Array, *, axis: int | None = None, keepdims: bool = False) -> Array:
        return np.asarray(np.argmin(x, axis=axis, keepdims=keepdims))


class AlongAxis(Op):
    """One that computes along an axis and keeps the shape."""

    def shape(self, *shapes: Shape, **attrs: Any) -> Shape:
        axes_of(attrs["axis"], len(shapes[0]))
        return shapes[0]


class Cumsum(AlongAxis):
    """Running sums along an axis. The gradient runs the other way."""

    def text(self, *ins: Text, axis: int, **attrs: Any) -> Text:  # type: ignore[override]
        return method(ins[0], "cumsum", axis=axis)

    def forward(self, x: Array, *, axis: int) -> Array:
        axes_of(axis, x.ndim)  # NumPy makes an axis for a single number
        return np.cumsum(x, axis=axis)

    def bwd(self, out: Tensor, x: Tensor, *, axis: int) -> None:
        x.g = cumsum(out.g.flip(axis), axis=axis).flip(axis)


class OverAxis(AlongAxis):
    """One that takes the largest entry out first: there must be one."""

    def shape(self, *shapes: Shape, **attrs: Any) -> Shape:
        if not reduced_count(shapes[0], attrs["axis"]):
            raise ShapeError(f"{self.name} over an axis of length 0: {shapes[0]}")
        return shapes[0]

    def flops(self, out: Shape, *shapes: Shape, **attrs: Any) -> int:
        return 5 * math.prod(out)

    def text(self, *ins: Text, axis: int, **attrs: Any) -> Text:  # type: ignore[override]
        return call(self.name, ins[0].code, axis=axis)


class Softmax(OverAxis):
    """exp(x) / sum(exp(x)) along an axis, the largest entry taken out first so that nothing
    overflows. The gradient is out * (g - sum(out * g)), from the output.
    """

    helper = staticmethod(helpers.softmax)

    def forward(self, x: Array, *, axis: int) -> Array:
        return helpers.softmax(x, axis)

    def bwd(self, out: Tensor, x: Tensor, *, axis: int) -> None:
        weighted = out * out.g
        x.g = weighted - out * weighted.sum(axis, keepdims=True)


class LogSoftmax(OverAxis):
    """The logarithm of softmax, without forming it. The gradient is g - softmax(x) * sum(g)."""

    helper = staticmethod(helpers.log_softmax)

    def forward(self, x: Array, *, axis: int) -> Array:
        return helpers.log_softmax(x, axis)

    def bwd(self, out: Tensor, x: Tensor, *, axis: int) -> None:
        x.g = out.g - out.exp() * out.g.sum(axis, keepdims=True)


softmax, log_softmax = Softmax(), LogSoftmax()
sum_, mean, cumsum = Sum(), Mean(), Cumsum()
amax, amin, argmax, argmin = Amax(), Amin(), Argmax(), Argmin()
