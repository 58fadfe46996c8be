"""Methods of Tensor as functions, which take arrays and numbers too."""

from __future__ import annotations

from typing import Any

from groundup.ops.base import Axis
from groundup.tensor import Tensor, Value, as_tensor


def sum(x: Value, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """The sum along axes, of all entries by default."""
    return as_tensor(x).sum(axis, keepdims)


def mean(x: Value, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """The mean along axes; over nothing it is an error."""
    return as_tensor(x).mean(axis, keepdims)


def var(x: Value, axis: Axis = None, correction: int = 1, keepdims: bool = False) -> Tensor:
    """The variance; see `Tensor.var`."""
    return as_tensor(x).var(axis, correction, keepdims)


def std(x: Value, axis: Axis = None, correction: int = 1, keepdims: bool = False) -> Tensor:
    """The standard deviation; see `Tensor.std`."""
    return as_tensor(x).std(axis, correction, keepdims)


def max(x: Value, axis: int | None = None, keepdims: bool = False) -> Tensor:
    """The largest entries; see `Tensor.max`."""
    return as_tensor(x).max(axis, keepdims)


def min(x: Value, axis: int | None = None, keepdims: bool = False) -> Tensor:
    """The smallest entries; see `Tensor.min`."""
    return as_tensor(x).min(axis, keepdims)


def argmax(x: Value, axis: int | None = None, keepdims: bool = False) -> Tensor:
    """The index of the first largest entry."""
    return as_tensor(x).argmax(axis, keepdims)


def argmin(x: Value, axis: int | None = None, keepdims: bool = False) -> Tensor:
    """The index of the first smallest entry."""
    return as_tensor(x).argmin(axis, keepdims)


def abs(x: Value) -> Tensor:
    """The absolute value; its gradient at 0 is 0."""
    return as_tensor(x).abs()


def clamp(x: Value, min: float | None = None, max: float | None = None) -> Tensor:
    """Limit to [min, max]."""
    return as_tensor(x).clamp(min, max)


def reshape(x: Value, *shape: Any) -> Tensor:
    """The same entries in another shape; one length may be -1."""
    return as_tensor(x).reshape(*shape)


def flatten(x: Value, start: int = 0, end: int = -1) -> Tensor:
    """The axes from start to end (inclusive) made one."""
    return as_tensor(x).flatten(start, end)


def squeeze(x: Value, axis: Axis = None) -> Tensor:
    """Without axes of length 1."""
    return as_tensor(x).squeeze(axis)


def unsqueeze(x: Value, axis: int) -> Tensor:
    """With a new axis of length 1."""
    return as_tensor(x).unsqueeze(axis)


def transpose(x: Value, axis0: int, axis1: int) -> Tensor:
    """Two axes swapped, as in PyTorch."""
    return as_tensor(x).transpose(axis0, axis1)


def permute(x: Value, *axes: Any) -> Tensor:
    """The axes in the given order."""
    return as_tensor(x).permute(*axes)


def expand(x: Value, *shape: Any) -> Tensor:
    """Broadcast to a shape; -1 keeps a length."""
    return as_tensor(x).expand(*shape)


def softmax(x: Value, axis: int = -1) -> Tensor:
    """exp(x) / sum(exp(x)) along an axis, stable."""
    return as_tensor(x).softmax(axis)


def log_softmax(x: Value, axis: int = -1) -> Tensor:
    """The logarithm of `softmax`, without forming it."""
    return as_tensor(x).log_softmax(axis)


def logsumexp(x: Value, axis: Axis = -1, keepdims: bool = False) -> Tensor:
    """log(sum(exp(x))), stable."""
    return as_tensor(x).logsumexp(axis, keepdims)
