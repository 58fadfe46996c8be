"""Traced arrays in other shapes: views, parts, and several joined."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from groundup import ops
from groundup.check.adapters.held import Reshaped, Turned, lifted, refuse
from groundup.check.adapters.traced import Traced, emit, held_of, plain
from groundup.check.adapters.traced_ufuncs import (
    FUNCTIONS,
    VIEWS,
    WRITING,
    gathered,
    implements,
    operands,
    traced,
    wrapped,
)
from groundup.tensor import Tensor

# Views


def view_as(x: Any, shape: Sequence[int]) -> Any:
    """In a shape that has other axes of length 1: always a view."""
    return Traced.viewing(traced(x), Reshaped(tuple(shape)))


@implements(np.reshape, table=VIEWS)
def reshape(x: Any, /, shape: Any = None, order: str = "C", newshape: Any = None, **kw: Any) -> Any:
    return x.reshape(newshape if shape is None else shape, order=order)


@implements(np.ravel, table=VIEWS)
def ravel(x: Any, order: str = "C") -> Any:
    return x.ravel(order)


@implements(np.transpose, np.permute_dims, table=VIEWS)
def transpose(x: Any, axes: Any = None) -> Any:
    return x.transpose(axes)


@implements(np.linalg.matrix_transpose, np.matrix_transpose, table=VIEWS)
def matrix_transpose(x: Any) -> Any:
    return swapaxes(x, -1, -2)


@implements(np.swapaxes, table=VIEWS)
def swapaxes(x: Any, axis1: int, axis2: int) -> Any:
    order = list(range(x.ndim))
    order[axis1], order[axis2] = order[axis2], order[axis1]
    return x.transpose(order)


@implements(np.moveaxis, table=VIEWS)
def moveaxis(x: Any, source: Any, destination: Any) -> Any:
    numbered = np.moveaxis(np.empty(tuple(range(2, 2 + x.ndim)), bool), source, destination)
    return Traced.viewing(x, Turned(tuple(n - 2 for n in numbered.shape)))


@implements(np.squeeze, table=VIEWS)
def squeeze(x: Any, axis: Any = None) -> Any:
    return x.squeeze(axis)


@implements(np.expand_dims, table=VIEWS)
def expand_dims(x: Any, axis: Any) -> Any:
    return view_as(x, np.expand_dims(np.empty(x.shape, bool), axis).shape)


@implements(np.atleast_1d, table=VIEWS)
def atleast_1d(x: Any) -> Any:
    return x if x.ndim else view_as(x, (1,))


@implements(np.atleast_2d, table=VIEWS)
def atleast_2d(x: Any) -> Any:
    return x if x.ndim > 1 else view_as(x, (1, x.size))


@implements(np.split, np.array_split, table=VIEWS)
def split(x: Any, parts: Any, axis: int = 0) -> Any:
    numbers = np.array_split(np.arange(x.shape[axis]), parts)
    lead = (slice(None),) * (axis % x.ndim)
    starts = np.cumsum([0, *map(len, numbers)]).tolist()
    return [x[(*lead, slice(a, b))] for a, b in itertools.pairwise(starts)]


@implements(np.hsplit, table=VIEWS)
def hsplit(x: Any, parts: Any) -> Any:
    return split(x, parts, 1 if x.ndim > 1 else 0)


@implements(np.vsplit, table=VIEWS)
def vsplit(x: Any, parts: Any) -> Any:
    return split(x, parts, 0)


# Joining and filling


@implements(np.concatenate)
def concatenate(xs: Any, axis: Any = 0) -> Any:
    found = list(xs)
    if axis is None:
        found, axis = [np.ravel(x) for x in found], 0
    tensors = [lifted(held_of(x)) for x in found]
    kinds = [t.array.dtype for t in tensors]
    dtype = np.result_type(*kinds)
    same = [t if t.array.dtype == dtype else ops.cast(t, dtype=dtype) for t in tensors]
    return emit(ops.concatenate, *same, axis=axis % same[0].array.ndim)


@implements(np.stack)
def stack(xs: Any, axis: int = 0) -> Any:
    return concatenate([np.expand_dims(x, axis) for x in xs], axis)


@implements(np.vstack)
def vstack(xs: Any) -> Any:
    return concatenate([np.atleast_2d(x) for x in xs], 0)


@implements(np.hstack)
def hstack(xs: Any) -> Any:
    found = [np.atleast_1d(x) for x in xs]
    return concatenate(found, 0 if np.ndim(found[0]) == 1 else 1)


@implements(np.dstack)
def dstack(xs: Any) -> Any:
    def deep(x: Any) -> Any:
        x = np.atleast_2d(x)
        return x if np.ndim(x) > 2 else np.expand_dims(x, 2)

    return concatenate([deep(x) for x in xs], 2)


@implements(np.column_stack)
def column_stack(xs: Any) -> Any:
    return concatenate([x if np.ndim(x) > 1 else np.reshape(x, (-1, 1)) for x in xs], 1)


@implements(np.append)
def append(x: Any, values: Any, axis: Any = None) -> Any:
    return concatenate([x, values], axis)


@implements(np.broadcast_to)
def broadcast_to(x: Any, shape: Any) -> Any:
    wanted = tuple(int(n) for n in ((shape,) if isinstance(shape, int | np.integer) else shape))
    t = traced(x).tensor
    return Traced(t) if t.array.shape == wanted else emit(ops.expand, t, shape=wanted)


@implements(np.copy)
def copy(x: Any, *args: Any, **kwargs: Any) -> Any:
    return x.copy()


def _filled_like(number: float) -> Callable[..., Any]:
    def like(x: Any, dtype: Any = None, order: Any = None, subok: Any = None, shape: Any = None,
             **kwargs: Any) -> Any:  # fmt: skip
        kind = np.dtype(dtype or x.dtype)
        return wrapped(np.full(x.shape if shape is None else shape, number, kind))

    return like


FUNCTIONS[np.zeros_like] = FUNCTIONS[np.empty_like] = _filled_like(0)
FUNCTIONS[np.ones_like] = _filled_like(1)


@implements(np.full_like)
def full_like(x: Any, value: Any, dtype: Any = None, **kwargs: Any) -> Any:
    made = wrapped(np.zeros(x.shape, np.dtype(dtype or np.float64)))
    made[...] = value
    return made


@implements(np.where)
def where(condition: Any, *xy: Any) -> Any:
    if not xy:
        return np.nonzero(plain(condition))
    chosen = lifted(held_of(condition))
    if chosen.array.dtype != np.bool_:
        chosen = traced(condition != 0).tensor
    x, y = operands(xy)
    both = [t for t in (x, y) if isinstance(t, Tensor)]
    if len({t.array.dtype for t in both}) > 1:
        x, y = operands(xy, floating=True)
    return emit(ops.where, chosen, x, y)


@implements(np.select)
def select(conditions: Any, choices: Any, default: Any = 0) -> Any:
    made = default
    for condition, choice in list(zip(conditions, choices, strict=True))[::-1]:
        made = np.where(condition, choice, made)
    return made


@implements(np.clip)
def clip(x: Any, low: Any = None, high: Any = None, **kw: Any) -> Any:
    low, high = kw.pop("min", kw.pop("a_min", low)), kw.pop("max", kw.pop("a_max", high))
    x, low, high = traced(x), *(_number(limit) for limit in (low, high))
    if all(limit is None or isinstance(limit, float | int) for limit in (low, high)):
        (t,) = operands([x], floating=any(isinstance(limit, float) for limit in (low, high)))
        return emit(ops.clamp, t, low=low, high=high)
    made = x if low is None else np.maximum(x, low)
    return made if high is None else np.minimum(made, high)


def _number(value: Any) -> Any:
    """A 0-d constant as a Python number."""
    if type(value) is not Traced and isinstance(value, np.generic | np.ndarray) and not value.ndim:
        return value.item()
    return value


@implements(np.nan_to_num)
def nan_to_num(x: Any, copy: bool = True, nan: float = 0.0, **kwargs: Any) -> Any:
    if kwargs or np.isinf(x.array).any():
        refuse("np.nan_to_num of infinities")
    return np.where(np.isnan(x), nan, x)


@implements(np.pad)
def pad(x: Any, widths: Any, mode: str = "constant", **kwargs: Any) -> Any:
    x = traced(x)
    value = kwargs.pop("constant_values", 0)
    if mode == "constant" and np.ndim(value) == 0:
        if isinstance(widths, dict):
            widths = [widths.get(i, widths.get(i - x.ndim, 0)) for i in range(x.ndim)]
            widths = [(w, w) if np.ndim(w) == 0 else w for w in widths]
        pairs = np.broadcast_to(np.asarray(plain(widths)), (x.ndim, 2)).tolist()
        sides = tuple((int(a), int(b)) for a, b in pairs)
        return emit(ops.pad, x.tensor, widths=sides, value=float(plain(value)))
    numbers = np.arange(1, x.size + 1).reshape(x.shape)
    if mode not in ("edge", "reflect", "symmetric", "wrap"):
        refuse(f"np.pad with mode {mode}")
    return gathered(x, np.pad(numbers, plain(widths), mode=mode, **kwargs))  # type: ignore[call-overload]


@implements(np.diff)
def diff(x: Any, n: int = 1, axis: int = -1) -> Any:
    x = traced(x)
    for _ in range(n):
        lead = (slice(None),) * (axis % x.ndim)
        x = x[(*lead, slice(1, None))] - x[(*lead, slice(None, -1))]
    return x


@implements(np.round, np.around)
def around(x: Any, decimals: int = 0) -> Any:
    if decimals:
        return np.rint(x * 10.0**decimals) / 10.0**decimals
    return np.rint(x)


@implements(np.real, np.ascontiguousarray, np.asfortranarray, np.asanyarray, np.require)
def same(x: Any, *args: Any, **kwargs: Any) -> Any:
    return x


@implements(np.imag)
def imag(x: Any) -> Any:
    return Traced(np.zeros(x.shape))


# Indexing


@implements(np.take)
def take(x: Any, indices: Any, axis: Any = None, **kwargs: Any) -> Any:
    x, indices = traced(x), np.asarray(plain(indices))
    if axis is None:
        return x.ravel()[indices]
    return x[(*(slice(None),) * (axis % x.ndim), indices)]


def _grids(x: Any, indices: Any, axis: int) -> tuple[Any, ...]:
    shape = np.shape(indices)
    return tuple(
        np.asarray(plain(indices))
        if i == axis % x.ndim
        else np.arange(n).reshape((n,) + (1,) * (x.ndim - i - 1))
        for i, n in enumerate(shape)
    )


@implements(np.take_along_axis)
def take_along_axis(x: Any, indices: Any, axis: Any = -1) -> Any:
    if axis is None:
        return x.ravel()[indices]
    return x[_grids(x, indices, axis)]


@implements(np.put_along_axis, table=WRITING)
def put_along_axis(x: Any, indices: Any, values: Any, axis: Any) -> None:
    x[_grids(x, indices, axis)] = values


@implements(np.copyto, table=WRITING)
def copyto(x: Any, values: Any, where: Any = True, **kwargs: Any) -> None:
    if where is True:
        x.write(values)
    elif np.ndim(values):
        x.write(np.where(where, values, x))
    else:
        x[np.broadcast_to(where, x.shape)] = values


@implements(np.fill_diagonal, table=WRITING)
def fill_diagonal(x: Any, value: Any, wrap: bool = False) -> None:
    n = min(x.shape)
    x[(np.arange(n),) * x.ndim] = value


@implements(np.sort)
def sort(x: Any, axis: Any = -1, **kwargs: Any) -> Any:
    x = traced(x)
    if axis is None:
        x, axis = x.ravel(), 0
    return take_along_axis(x, np.argsort(x.array, axis=axis, kind="stable"), axis)


@implements(np.median)
def median(x: Any, axis: Any = None, keepdims: bool = False) -> Any:
    if keepdims or isinstance(axis, tuple):
        refuse("np.median over several axes, or keeping them")
    x = sort(x, axis)
    rows = np.moveaxis(x, 0 if axis is None else axis, 0)
    n = len(rows)
    return (rows[(n - 1) // 2] + rows[n // 2]) * 0.5


@implements(np.bincount)
def bincount(x: Any, weights: Any = None, minlength: int = 0) -> Any:
    at = np.asarray(plain(x))
    made = Traced(np.zeros(max(minlength, int(at.max(initial=-1)) + 1)))
    made.add_at(at, weights)
    return made


@implements(np.insert)
def insert(x: Any, at: Any, values: Any, axis: Any = None) -> Any:
    x = traced(x)
    if axis is None:
        x, axis = x.ravel(), 0
    if not isinstance(at, int) or (np.ndim(values) and np.ndim(values) != x.ndim - 1):
        refuse("np.insert of several entries")
    lead, at = (slice(None),) * (axis % x.ndim), at % (x.shape[axis] + 1)
    first, last = x[(*lead, slice(None, at))], x[(*lead, slice(at, None))]
    shape = tuple(1 if i == axis % x.ndim else n for i, n in enumerate(x.shape))
    new = np.expand_dims(values, axis) if np.ndim(values) else values
    return concatenate([first, np.broadcast_to(traced(new), shape), last], axis)


@implements(np.apply_along_axis)
def apply_along_axis(function: Any, axis: int, x: Any, *args: Any, **kwargs: Any) -> Any:
    rows = np.moveaxis(x, axis, -1)
    made = [function(rows[i], *args, **kwargs) for i in np.ndindex(rows.shape[:-1])]
    joined = np.stack(made)
    joined = joined.reshape(rows.shape[:-1] + joined.shape[1:])
    return np.moveaxis(joined, -1, axis) if joined.ndim == x.ndim else joined


def array_of(entries: Any) -> Any:
    """`np.array` of nested lists in which something is traced."""
    if isinstance(entries, list | tuple):
        return np.stack([array_of(e) for e in entries])
    return entries if type(entries) is Traced else np.asarray(entries)
