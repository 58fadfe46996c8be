"""Arrays and indices, changed a little: what the changes of a backward are made of."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import product
from typing import Any

import numpy as np

from groundup.ops.base import Array
from groundup.ops.indexing import filled
from groundup.program.program import Equation


def fitted(value: Any, shape: tuple[int, ...]) -> Array:
    """A result in the shape that is wanted, where only axes of length 1 differ."""
    array = np.asarray(value)
    if array.shape == shape:
        return array
    if array.size == int(np.prod(shape)):
        return array.reshape(shape)
    try:
        return np.broadcast_to(array, shape)
    except ValueError:
        return array


def fitting(shape: tuple[int, ...]) -> list[tuple[int, ...]]:
    """The shapes that broadcast to a shape, besides that of a single number."""
    found = [shape]
    for axis in range(len(shape)):
        if shape[axis] != 1 and len(shape) > 1:
            found.append((*shape[:axis], 1, *shape[axis + 1 :]))
    found += [shape[i:] for i in range(1, len(shape))]
    return list(dict.fromkeys(found))


def pushed(x: Array, by: int, axis: int) -> Array:
    """An array moved along an axis, zeros coming in."""
    made = np.roll(x, by, axis)
    cut: list[Any] = [slice(None)] * x.ndim
    cut[axis] = slice(0, by) if by > 0 else slice(by, None)
    made[tuple(cut)] = 0
    return made


def backwards(x: Any, axis: int) -> Any:
    """The running sum from the end."""
    return np.flip(np.cumsum(np.flip(x, axis), axis), axis)


def alike(new: Array, base: Array, view: Array) -> Array:
    """A value in the form in which another one is seen: reshaped, or transposed."""
    if new.shape == view.shape and np.array_equal(base.reshape(-1), view.reshape(-1)):
        return new
    if base.ndim == 2 and base.T.shape == view.shape and np.array_equal(base.T, view):
        return new.T
    return new.reshape(view.shape)


def others_than(k: float) -> list[float]:
    """Numbers that are meant where a wrong one stands."""
    made = [0.0, k + 1, k - 1, -k, 2 * k, k / 2, 1.0, k * k]
    made += [1 / k] if k else []
    return [m for m in dict.fromkeys(made) if m != k]


def assigned(e: Equation, v: Mapping[str, Any], nonzero: bool) -> Array:
    """What an assignment by index leaves where scatter_add adds up."""
    attrs = dict(e.attrs)
    x, *arrays = (np.asarray(v[i] if isinstance(i, str) else i) for i in e.ins)
    made = np.zeros(attrs["shape"])
    index = filled(attrs["pattern"], arrays)
    marks = np.arange(made.size).reshape(made.shape)[index]
    parts = np.broadcast_to(x, marks.shape).reshape(-1)
    places = marks.reshape(-1)
    if nonzero:
        places, parts = places[parts != 0], parts[parts != 0]
    flat = made.reshape(-1)
    flat[places] = parts
    return made


def plain_index(index: tuple[Any, ...], ndim: int) -> list[Any]:
    """A slice's index without new axes, a part for every axis of what it is taken of."""
    parts = [p for p in index if p is not None]
    if Ellipsis in parts:
        i = parts.index(Ellipsis)
        parts[i : i + 1] = [slice(None)] * (ndim - len(parts) + 1)
    return parts + [slice(None)] * (ndim - len(parts))


def unstrided(index: tuple[Any, ...], shape: tuple[int, ...]) -> list[Any] | None:
    """All the offsets of a slice that takes one entry of each block; None if it is no such."""
    parts = plain_index(index, len(shape))
    options: list[list[Any]] = []
    for part, n in zip(parts, shape, strict=True):
        if isinstance(part, slice):
            start, _, step = part.indices(n)
            if step > 1 and n % step == 0 and start < step:
                options.append([slice(k, None, step) for k in range(step)])
                continue
        options.append([part])
    found = list(product(*options))
    return found if 1 < len(found) <= 64 else None


def moved_index(index: tuple[Any, ...], shape: tuple[int, ...]) -> Iterator[tuple[int, Any]]:
    """The index with one part moved by one either way."""
    axis = 0
    for k, part in enumerate(index):
        if part is None:
            continue
        if part is Ellipsis:
            axis += len(shape) - sum(p is not None and p is not Ellipsis for p in index)
            continue
        n = shape[axis]
        for by in (1, -1):
            new: Any
            if isinstance(part, int):
                if not -n <= part + by < n or (part < 0) != (part + by < 0):
                    continue
                new = part + by
            else:
                start, stop, step = part.indices(n)
                if step < 0 or start + by < 0 or stop + by > n or (start, stop) == (0, n):
                    continue
                new = slice(start + by, stop + by, step)
            yield axis, (*index[:k], new, *index[k + 1 :])
        axis += 1


def moved_together(index: tuple[Any, ...], shape: tuple[int, ...]) -> Iterator[Any]:
    """The index with all of its partial slices moved by one either way."""
    parts = plain_index(index, len(shape))
    if any(p is None for p in index):
        return
    for by in (1, -1):
        made, count = [], 0
        for part, n in zip(parts, shape, strict=True):
            if isinstance(part, slice):
                start, stop, step = part.indices(n)
                if step > 0 and (start, stop) != (0, n):
                    if start + by < 0 or stop + by > n:
                        break
                    part, count = slice(start + by, stop + by, step), count + 1
            made.append(part)
        else:
            if count > 1:
                yield tuple(made)
