"""Reductions and products of Traced arrays."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np

from groundup import ops
from groundup.check.adapters.held import lifted, refuse
from groundup.check.adapters.traced import emit, held_of
from groundup.check.adapters.traced_ufuncs import implements, operands, traced
from groundup.ops.reduce import axes_of

# Reductions


@implements(np.sum)
def total(x: Any, axis: Any = None, keepdims: Any = False) -> Any:
    t = traced(x).tensor
    if t.array.dtype.kind == "b":  # truths are counted
        t = ops.cast(t, dtype=np.int64)
    return emit(ops.sum_, t, axis=_axis(axis), keepdims=bool(keepdims))


def _axis(axis: Any) -> Any:
    if isinstance(axis, list | tuple):
        return tuple(int(a) for a in axis)
    return None if axis is None else int(axis)


@implements(np.mean)
def mean(x: Any, axis: Any = None, keepdims: Any = False) -> Any:
    (t,) = operands([traced(x)], floating=True)
    return emit(ops.mean, t, axis=_axis(axis), keepdims=bool(keepdims))


@implements(np.max, np.amax)
def largest(x: Any, axis: Any = None, keepdims: Any = False) -> Any:
    return emit(ops.amax, traced(x).tensor, axis=_axis(axis), keepdims=bool(keepdims))


@implements(np.min, np.amin)
def smallest(x: Any, axis: Any = None, keepdims: Any = False) -> Any:
    return emit(ops.amin, traced(x).tensor, axis=_axis(axis), keepdims=bool(keepdims))


@implements(np.ptp)
def ptp(x: Any, axis: Any = None, keepdims: Any = False) -> Any:
    return largest(x, axis, keepdims) - smallest(x, axis, keepdims)


@implements(np.prod)
def prod(x: Any, axis: Any = None, keepdims: Any = False) -> Any:
    x = traced(x)
    axes = axes_of(_axis(axis), x.ndim)
    kept = [i for i in range(x.ndim) if i not in axes]
    rows = x.transpose(*axes, *kept).reshape(-1, *(x.shape[i] for i in kept))
    made = rows[0] + 0.0
    for row in itertools.islice(rows, 1, None):
        made = made * row
    shape = tuple(1 if i in axes else n for i, n in enumerate(x.shape))
    return made.reshape(shape) if keepdims else made


@implements(np.var)
def var(x: Any, axis: Any = None, ddof: float = 0, keepdims: Any = False, **kw: Any) -> Any:
    ddof = kw.pop("correction", ddof)
    if kw:
        refuse(f"np.var with {', '.join(kw)}")
    x = traced(x)
    deviation = x - mean(x, axis, True)
    count = math.prod(x.shape[a] for a in axes_of(_axis(axis), x.ndim))
    return total(deviation * deviation, axis, keepdims) / (count - ddof)


@implements(np.std)
def std(x: Any, axis: Any = None, ddof: float = 0, keepdims: Any = False, **kw: Any) -> Any:
    return np.sqrt(var(x, axis, ddof, keepdims, **kw))


@implements(np.average)
def average(x: Any, axis: Any = None, weights: Any = None) -> Any:
    if weights is None:
        return mean(x, axis)
    if axis is not None and np.ndim(weights) < np.ndim(x):  # one weight for each row
        weights = np.reshape(weights, (-1, *(1,) * (np.ndim(x) - axis % np.ndim(x) - 1)))
    return total(x * weights, axis) / total(np.broadcast_to(weights, np.shape(x)), axis)


def logsumexp(x: Any, axis: Any = None, keepdims: Any = False) -> Any:
    top = largest(x, axis, True)
    made = np.log(total(np.exp(x - top), axis, True)) + top
    return made if keepdims else made.squeeze(axis)


@implements(np.cumsum)
def cumsum(x: Any, axis: Any = None) -> Any:
    x = traced(x)
    if axis is None:
        x, axis = x.ravel(), 0
    return emit(ops.cumsum, *operands([x], floating=x.dtype.kind == "b"), axis=int(axis))


@implements(np.cumprod)
def cumprod(x: Any, axis: Any = None) -> Any:
    x = traced(x)
    if axis is None:
        x, axis = x.ravel(), 0
    made: list[Any] = []
    for row in np.moveaxis(x, axis, 0):
        made.append(made[-1] * row if made else row)
    return np.stack(made, axis)


@implements(np.linalg.norm)
def norm(x: Any, ord: Any = None, axis: Any = None, keepdims: bool = False) -> Any:
    x = traced(x)
    if ord in (None, "fro") or (ord == 2 and (x.ndim == 1 or isinstance(axis, int))):
        return np.sqrt(total(x * x, axis, keepdims))
    if x.ndim > 1 and not isinstance(axis, int):
        refuse(f"the matrix norm {ord}")
    if ord in (1, math.inf):
        return (total if ord == 1 else largest)(np.abs(x), axis, keepdims)
    return total(np.abs(x) ** ord, axis, keepdims) ** (1 / ord)


# Products


@implements(np.dot)
def dot(x: Any, y: Any) -> Any:
    if not np.ndim(x) or not np.ndim(y):
        return np.multiply(x, y)
    if np.ndim(x) <= 2 and np.ndim(y) <= 2:
        return np.matmul(x, y)
    return tensordot(x, y, (-1, max(np.ndim(y) - 2, 0)))


@implements(np.vdot)
def vdot(x: Any, y: Any) -> Any:
    return total(np.ravel(x) * np.ravel(y))


@implements(np.inner)
def inner(x: Any, y: Any) -> Any:
    return tensordot(x, y, (-1, -1)) if np.ndim(x) and np.ndim(y) else np.multiply(x, y)


@implements(np.outer)
def outer(x: Any, y: Any) -> Any:
    return np.ravel(x)[:, None] * np.ravel(y)[None, :]


@implements(np.kron)
def kron(x: Any, y: Any) -> Any:
    if np.ndim(x) != 2 or np.ndim(y) != 2:
        refuse("np.kron of such shapes")
    shape = (np.shape(x)[0] * np.shape(y)[0], np.shape(x)[1] * np.shape(y)[1])
    return einsum("ij,kl->ikjl", x, y).reshape(shape)


@implements(np.cross)
def cross(x: Any, y: Any, axis: int = -1) -> Any:
    a, b = (np.moveaxis(v, axis, 0) for v in (x, y))
    parts = [a[(i + 1) % 3] * b[(i + 2) % 3] - a[(i + 2) % 3] * b[(i + 1) % 3] for i in range(3)]
    return np.stack(parts, axis)


@implements(np.tensordot)
def tensordot(x: Any, y: Any, axes: Any = 2) -> Any:
    n, m = np.ndim(x), np.ndim(y)
    if isinstance(axes, int):
        axes = list(range(n - axes, n)), list(range(axes))
    left, right = ([a] if np.ndim(a) == 0 else list(a) for a in axes)
    letters = iter("abcdefghijklmnopqrstuvwxyz")
    of_x = [next(letters) for _ in range(n)]
    of_y = [next(letters) for _ in range(m)]
    for a, b in zip(left, right, strict=True):
        of_y[b % m] = of_x[a % n]
    shared = {of_x[a % n] for a in left}
    kept = "".join(c for c in (*of_x, *of_y) if c not in shared)
    return einsum(f"{''.join(of_x)},{''.join(of_y)}->{kept}", x, y)


@implements(np.einsum)
def einsum(subscripts: Any, *xs: Any, **kwargs: Any) -> Any:
    if not isinstance(subscripts, str):
        refuse("np.einsum without a string")
    tensors = [lifted(held_of(x)) for x in xs]
    return emit(ops.einsum, *tensors, subscripts=subscripts)


@implements(np.trace)
def trace(x: Any) -> Any:
    return einsum("ii", x)


@implements(np.convolve)
def convolve(x: Any, y: Any, mode: str = "full") -> Any:
    return correlate(x, np.flip(y), mode)


@implements(np.correlate)
def correlate(x: Any, y: Any, mode: str = "valid") -> Any:
    x, y = traced(x), traced(y)
    n, k = x.size, y.size
    if k > n:
        refuse("np.correlate with a kernel that is longer than its input")
    before = {"full": k - 1, "same": k // 2, "valid": 0}[mode]
    after = {"full": k - 1, "same": k - 1 - k // 2, "valid": 0}[mode]
    x = np.pad(x, (before, after))
    return np.lib.stride_tricks.sliding_window_view(x, k) @ y
