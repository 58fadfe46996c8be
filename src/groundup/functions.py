"""Functions of several tensors, and those that make one from a description."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from groundup import ops
from groundup.errors import ShapeError
from groundup.ops.base import Array, constant
from groundup.tensor import Tensor, Value, as_tensor


def concatenate(tensors: Sequence[Value], axis: int = 0) -> Tensor:
    """Join tensors along an existing axis. All other lengths must agree."""
    if not tensors:
        raise ShapeError("concatenate: the list of tensors is empty")
    return ops.concatenate(*tensors, axis=axis)


def stack(tensors: Sequence[Value], axis: int = 0) -> Tensor:
    """Join tensors of equal shape along a new axis."""
    given = [t if isinstance(t, Tensor) else constant(t, tuple(tensors)) for t in tensors]
    if len({t.shape for t in given}) > 1:
        raise ShapeError(f"stack: the shapes differ: {[t.shape for t in given]}")
    return concatenate([t.unsqueeze(axis) for t in given], axis)


def split(x: Value, size: int | Sequence[int], axis: int = 0) -> list[Tensor]:
    """Pieces of x along an axis; see `Tensor.split`."""
    return as_tensor(x).split(size, axis)


def pad(x: Value, widths: int | Sequence[int | Sequence[int]], value: float = 0.0) -> Tensor:
    """A border of a constant, widths as in NumPy: a number, or (before, after) for every axis."""
    x = as_tensor(x)
    try:
        pairs = np.broadcast_to(np.asarray(widths), (x.ndim, 2)).tolist()
    except ValueError as error:
        raise ShapeError(f"pad: widths {widths} do not fit shape {x.shape}: {error}") from error
    return ops.pad(x, widths=tuple((int(a), int(b)) for a, b in pairs), value=value)


def where(condition: Value, x: Value, y: Value) -> Tensor:
    """X where condition is true, y elsewhere."""
    return ops.where(condition, x, y)


def einsum(subscripts: str, *operands: Value) -> Tensor:
    """Einstein summation, as in NumPy."""
    return ops.einsum(*operands, subscripts=subscripts)


def take_along_axis(x: Value, indices: Value, axis: int) -> Tensor:
    """For each entry of indices, the entry of x at that index along axis, as in NumPy."""
    return as_tensor(x).take_along_axis(indices, axis)


def one_hot(labels: Value, classes: int, dtype: npt.DTypeLike = np.float32) -> Tensor:
    """Rows of zeros with a one at the label: shape labels.shape + (classes,).

    Raises:
        LabelError: a label is no integer, or outside 0..classes-1.

    """
    labels = ops.check_labels(as_tensor(labels), classes=classes)
    return (labels.unsqueeze(-1) == ops.arange(shape=(classes,))).cast(dtype)


def check_labels(labels: Array, classes: int) -> None:
    """Raise LabelError unless labels are integers in 0..classes-1."""
    ops.check_labels.forward(labels, classes=classes)
