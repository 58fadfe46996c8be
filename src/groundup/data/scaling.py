"""From raw numbers to what a network likes: 0..1, or mean 0 and standard deviation 1."""

import math
from typing import Any, Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from groundup.errors import DataError, DtypeError, NonFiniteError, ShapeError

_BLOCK: Final = 1 << 20  # numbers widened to float64 at a time


def to_unit(raw: NDArray[np.uint8], maximum: int) -> NDArray[np.float32]:
    """Bytes of 0..maximum as float32 of 0..1, in one pass and without a float64 temporary."""
    return np.divide(raw, np.float32(maximum), dtype=np.float32)


def mean_std(x: NDArray[Any], axis: int | tuple[int, ...] | None = None) -> tuple[Any, Any]:
    """Mean and standard deviation (the population's, divided by n) of `x`, in x's dtype.

    axis=None gives two scalars over all numbers, axis=0 a pair of shape (1, features) for `x` of
    shape (n, features), axis=(0, 2, 3) a pair of shape (1, channels, 1, 1) for images: either
    fits `normalize`. Sums run in float64 block by block. A constant feature's mean is that
    constant and its standard deviation exactly 0, since both are taken about the first item.

    Errors: DtypeError unless x is floating; DataError if x is empty; ShapeError if `axis` lacks 0
    or names an axis that x does not have.
    """
    x = _floating("mean_std", x)
    axes = tuple(range(x.ndim)) if axis is None else _axes(x, axis)
    if x.ndim == 0 or x.size == 0:
        raise DataError(f"mean_std: an array of shape {x.shape} has no items to average")
    count = math.prod(x.shape[a] for a in axes)
    first = x[tuple(slice(1) if i in axes else slice(None) for i in range(x.ndim))]
    first = first.astype(np.float64)
    rows = max(1, _BLOCK * len(x) // x.size)

    shift = np.zeros_like(first)  # the mean, less the first item
    for start in range(0, len(x), rows):
        shift += (x[start : start + rows] - first).sum(axes, keepdims=True)
    shift /= count
    mean = first + shift
    var = np.zeros_like(first)
    for start in range(0, len(x), rows):
        var += np.square(x[start : start + rows] - first - shift).sum(axes, keepdims=True)
    std = np.sqrt(var / count)
    if axis is None:
        return x.dtype.type(mean.item()), x.dtype.type(std.item())
    return mean.astype(x.dtype), std.astype(x.dtype)


def normalize(x: NDArray[Any], mean: ArrayLike, std: ArrayLike) -> NDArray[Any]:
    """`(x - mean) / std` as a new array of x's dtype and shape.

    Where `std` is 0 the feature was constant and there is nothing to scale: it is divided by 1, so
    a training set's constant feature becomes 0. Use the training set's mean and std for the
    validation set too.

    Errors: DtypeError unless x is floating; ShapeError if mean or std do not broadcast to x's
    shape; NonFiniteError for a NaN, an infinity or a negative standard deviation.
    """
    x = _floating("normalize", x)
    mean, std = np.asarray(mean, x.dtype), np.asarray(std, x.dtype)
    for name, value in (("mean", mean), ("std", std)):
        if not _fits(value.shape, x.shape):
            raise ShapeError(
                f"normalize: {name} of shape {value.shape} does not fit x of shape {x.shape}. "
                "Take it from mean_std of an array with the same features"
            )
        if not np.isfinite(value).all():
            raise NonFiniteError(f"normalize: {name} holds a NaN or an infinity: clean x first")
    if (std < 0).any():
        raise NonFiniteError(
            f"normalize: std holds {std.min()}, and a standard deviation is never negative. "
            "Are mean and std swapped?"
        )
    out: NDArray[Any] = x - mean
    out /= np.where(std == 0, x.dtype.type(1), std)
    return out


def _floating(name: str, x: NDArray[Any]) -> NDArray[Any]:
    x = np.asarray(x)
    if not np.issubdtype(x.dtype, np.floating):
        raise DtypeError(
            f"{name} takes floating numbers, and x is {x.dtype}: x.astype(np.float32) first"
        )
    return x


def _axes(x: NDArray[Any], axis: int | tuple[int, ...]) -> tuple[int, ...]:
    given = (axis,) if isinstance(axis, int) else axis
    axes = tuple({a + x.ndim if a < 0 else a for a in given})
    if 0 not in axes or any(not 0 <= a < x.ndim for a in axes):
        raise ShapeError(
            f"mean_std: axis={axis} for x of shape {x.shape}. It must name axes of x, the first "
            "(the items) among them: axis=0, or axis=(0, 2, 3) for images"
        )
    return axes


def _fits(shape: tuple[int, ...], into: tuple[int, ...]) -> bool:
    try:
        return np.broadcast_shapes(shape, into) == into
    except ValueError:
        return False
