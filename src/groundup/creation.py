"""Tensors from nothing: zeros, ones, ranges."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from groundup.ops.base import Number
from groundup.tensor import Tensor, Value, as_tensor, lengths


def zeros(*shape: Any, dtype: npt.DTypeLike = np.float32) -> Tensor:
    """Zeros: `zeros(2, 3)` or `zeros((2, 3))`."""
    return Tensor.of(np.zeros(lengths(shape), dtype))


def ones(*shape: Any, dtype: npt.DTypeLike = np.float32) -> Tensor:
    """Ones: `ones(2, 3)` or `ones((2, 3))`."""
    return Tensor.of(np.ones(lengths(shape), dtype))


def full(shape: int | Sequence[int], value: float, dtype: npt.DTypeLike = np.float32) -> Tensor:
    """A tensor of one number."""
    return Tensor.of(np.full(shape, value, dtype))


def arange(*bounds: float, dtype: npt.DTypeLike | None = None) -> Tensor:
    """Evenly spaced numbers, as in NumPy; floats are float32 unless a dtype is given."""
    plain: list[Any] = [operator.index(b) if isinstance(b, Number) else b for b in bounds]
    numbers = np.arange(*plain, dtype=dtype)
    if dtype is None and numbers.dtype.kind == "f":
        numbers = numbers.astype(np.float32)
    return Tensor.of(numbers)


def eye(n: int, dtype: npt.DTypeLike = np.float32) -> Tensor:
    """The identity matrix (n, n)."""
    return Tensor.of(np.eye(n, dtype=dtype))


def zeros_like(x: Value) -> Tensor:
    """Zeros in x's shape and dtype."""
    return Tensor.of(np.zeros_like(as_tensor(x).array))


def ones_like(x: Value) -> Tensor:
    """Ones in x's shape and dtype."""
    return Tensor.of(np.ones_like(as_tensor(x).array))
