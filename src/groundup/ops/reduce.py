"""Reductions: fewer entries from more. `axis` is None (all), an int or a tuple; as in NumPy."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from groundup.errors import ShapeError
from groundup.ops.base import Array, Axis, Op

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


def kept_shape(shape: tuple[int, ...], axis: Axis) -> tuple[int, ...]:
    """The shape after reducing with keepdims=True."""
    axes = axes_of(axis, len(shape))
    return tuple(1 if i in axes else n for i, n in enumerate(shape))


def reduced_count(shape: tuple[int, ...], axis: Axis) -> int:
    """How many entries are reduced into one."""
    if axis is None:
        return math.prod(shape)
    return math.prod(shape[i] for i in axes_of(axis, len(shape)))


class Sum(Op):
    def forward(self, x: Array, *, axis: Axis = None, keepdims: bool = False) -> Array:
        return total(x, axis=axis, keepdims=keepdims)

    def bwd(self, out: Tensor, x: Tensor, *, axis: Axis = None, keepdims: bool = False) -> None:
        x.g = out.g.reshape(kept_shape(x.shape, axis)).expand(x.shape)


class Mean(Op):
    """The mean; an empty one is an error."""

    def forward(self, x: Array, *, axis: Axis = None, keepdims: bool = False) -> Array:
        count = reduced_count(x.shape, axis)
        if count == 0:
            raise ShapeError(
                f"mean over axis {axis} of shape {x.shape}: there is nothing to average"
            )
        return total(x, axis=axis, keepdims=keepdims) / count

    def bwd(self, out: Tensor, x: Tensor, *, axis: Axis = None, keepdims: bool = False) -> None:
        share = out.g / float(reduced_count(x.shape, axis))
        x.g = share.reshape(kept_shape(x.shape, axis)).expand(x.shape)


class Amax(Op):
    """The largest entry. Ties share the gradient evenly (PyTorch's amax)."""

    def forward(self, x: Array, *, axis: Axis = None, keepdims: bool = False) -> Array:
        return largest(x, axis=axis, keepdims=keepdims)

    def bwd(self, out: Tensor, x: Tensor, *, axis: Axis = None, keepdims: bool = False) -> None:
        share_among_ties(out, x, axis)


class Amin(Op):
    """The smallest entry. Ties share the gradient evenly (PyTorch's amin)."""

    def forward(self, x: Array, *, axis: Axis = None, keepdims: bool = False) -> Array:
        return smallest(x, axis=axis, keepdims=keepdims)

    def bwd(self, out: Tensor, x: Tensor, *, axis: Axis = None, keepdims: bool = False) -> None:
        share_among_ties(out, x, axis)


def share_among_ties(out: Tensor, x: Tensor, axis: Axis) -> None:
    """The gradient of amax and amin: even parts to every entry that equals the output."""
    kept = kept_shape(x.shape, axis)
    ties = (x == out.reshape(kept)).cast(x.dtype)
    x.g = ties * (out.g.reshape(kept) / ties.sum(axis, keepdims=True))


class Argmax(Op):
    """The index of the first largest entry (int64)."""

    differentiable = False

    def forward(self, x: Array, *, axis: int | None = None, keepdims: bool = False) -> Array:
        return np.asarray(np.argmax(x, axis=axis, keepdims=keepdims))


class Argmin(Op):
    """The index of the first smallest entry (int64)."""

    differentiable = False

    def forward(self, x: Array, *, axis: int | None = None, keepdims: bool = False) -> Array:
        return np.asarray(np.argmin(x, axis=axis, keepdims=keepdims))


class Cumsum(Op):
    """Running sums along an axis. The gradient runs the other way."""

    def forward(self, x: Array, *, axis: int) -> Array:
        return np.cumsum(x, axis=axis)

    def bwd(self, out: Tensor, x: Tensor, *, axis: int) -> None:
        x.g = cumsum(out.g.flip(axis), axis=axis).flip(axis)


class Softmax(Op):
    """exp(x) / sum(exp(x)) along an axis, the largest entry taken out first so that nothing
    overflows. The gradient is out * (g - sum(out * g)), from the output.
    """

    def forward(self, x: Array, *, axis: int) -> Array:
        e = np.exp(x - largest(x, axis=axis, keepdims=True))
        softmax: Array = e / total(e, axis=axis, keepdims=True)
        return softmax

    def bwd(self, out: Tensor, x: Tensor, *, axis: int) -> None:
        weighted = out * out.g
        x.g = weighted - out * weighted.sum(axis, keepdims=True)


class LogSoftmax(Op):
    """The logarithm of softmax, without forming it. The gradient is g - softmax(x) * sum(g)."""

    def forward(self, x: Array, *, axis: int) -> Array:
        shifted = x - largest(x, axis=axis, keepdims=True)
        sums = total(np.exp(shifted), axis=axis, keepdims=True)
        log_softmax: Array = shifted - np.log(sums)
        return log_softmax

    def bwd(self, out: Tensor, x: Tensor, *, axis: int) -> None:
        x.g = out.g - out.exp() * out.g.sum(axis, keepdims=True)


softmax, log_softmax = Softmax(), LogSoftmax()
sum_, mean, cumsum = Sum(), Mean(), Cumsum()
amax, amin, argmax, argmin = Amax(), Amin(), Argmax(), Argmin()
