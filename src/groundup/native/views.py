"""Where the entries of views and indexed arrays lie, without any arrays."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from groundup.native.kernels import View
from groundup.ops.base import Shape
from groundup.ops.indexing import ARRAY
from groundup.program.program import OPS


def contiguous(shape: Shape) -> tuple[int, ...]:
    """Strides, in entries, of an array in C order."""
    strides, step = [], 1
    for n in reversed(shape):
        strides.append(step)
        step *= n
    return tuple(reversed(strides))


def seen(view: View, op: str, attrs: Mapping[str, Any]) -> tuple[int, tuple[int, ...]] | None:
    """Offset and strides of what a view op shows of a view; None if NumPy would copy.

    NumPy itself is asked, with an array that has these strides and whose entries nobody reads.
    """
    if op == "detach":
        return 0, view.strides
    trial = np.lib.stride_tricks.as_strided(
        np.empty(1, np.int8), view.shape, view.strides, writeable=False
    )
    if op == "reshape":
        try:
            shown = np.reshape(trial, attrs["shape"], copy=False)
        except ValueError:
            return None
    elif op == "slice":
        index = attrs["index"]
        # With an ellipsis NumPy shows a single entry, too, and does not read it.
        shown = trial[index if Ellipsis in index else (*index, Ellipsis)]
    else:
        shown = OPS[op].forward(trial, **attrs)
    start = shown.__array_interface__["data"][0] - trial.__array_interface__["data"][0]
    return start, shown.strides


def transposed(view: View) -> View:
    """The last two axes exchanged."""
    ndim = len(view.shape)
    axes = [*range(ndim - 2), ndim - 1, ndim - 2]
    batch = view.batch
    if batch is not None:
        batch = batch._replace(axis=axes.index(batch.axis))
    return replace(
        view, strides=tuple(view.strides[a] for a in axes),
        shape=tuple(view.shape[a] for a in axes), batch=batch,
    )  # fmt: skip


def spelled(pattern: Sequence[Any], ndim: int) -> list[Any]:
    """An index with every axis spelled out."""
    parts = list(pattern)
    used = sum(p is not None and p is not Ellipsis for p in parts)
    at = next((i for i, p in enumerate(parts) if p is Ellipsis), len(parts))
    return [*parts[:at], *[slice(None)] * (ndim - used), *parts[at + 1 :]]


def part_of(parts: Sequence[Any], axis: int) -> int:
    """Which part of a spelled index an axis of the array belongs to."""
    return [i for i, p in enumerate(parts) if p is not None][axis]


def placed(parts: Sequence[Any], shape: Shape, joint: Shape) -> tuple[int, Shape, dict[int, int]]:
    """NumPy's rule for the result of an index with arrays.

    Returns:
        Where the arrays' axes begin, the result's shape, and for each sliced axis its place there.

    """
    chosen = [i for i, p in enumerate(parts) if p is ARRAY or isinstance(p, int | np.integer)]
    together = chosen == list(range(chosen[0], chosen[-1] + 1))
    out: list[int] = []
    axes: dict[int, int] = {}
    first = 0
    if not together:
        out += joint
    axis = 0
    for i, part in enumerate(parts):
        if together and i == chosen[0]:
            first = len(out)
            out += joint
        if part is None:
            out.append(1)
            continue
        if isinstance(part, slice):
            axes[axis] = len(out)
            out.append(len(range(*part.indices(shape[axis]))))
        axis += 1
    return first, tuple(out), axes
