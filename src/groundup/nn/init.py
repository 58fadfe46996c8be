"""Initial weights. All draw from a `Generator` (the default one unless given), so seeds repeat.

A weight has shape (inputs, outputs): `fan_in` is the first length, `fan_out` the second.
"""

from __future__ import annotations

import math

import numpy as np

from groundup import generator as generators
from groundup.errors import ShapeError
from groundup.generator import Generator
from groundup.ops.base import Array

_LINE = 64  # bytes


def _fans(shape: tuple[int, ...]) -> tuple[int, int]:
    if len(shape) < 2:
        raise ShapeError(f"fan-in and fan-out need a weight of two dimensions or more, not {shape}")
    return math.prod(shape[:-1]), shape[-1]


def normal(*shape: int, std: float = 1.0, generator: Generator | None = None) -> Array:
    """Normal numbers of mean 0 and the given standard deviation, float32."""
    return _aligned((generator or generators.default).normal(*shape, std=std).data)


def uniform(*shape: int, bound: float = 1.0, generator: Generator | None = None) -> Array:
    """Uniform numbers in [-bound, bound), float32."""
    drawn = (generator or generators.default).uniform(*shape).data
    return _aligned(((2 * drawn - 1) * np.float32(bound)).astype(np.float32, copy=False))


def _aligned(array: Array) -> Array:
    """A copy that begins at a cache line: no vector that machine code loads then lies across two,
    which would take it twice as long.
    """
    memory = np.empty(array.nbytes + _LINE, np.uint8)
    start = -memory.ctypes.data % _LINE
    found: Array = memory[start : start + array.nbytes].view(array.dtype).reshape(array.shape)
    found[...] = array
    return found


def kaiming_normal(*shape: int, generator: Generator | None = None) -> Array:
    """Normal with std sqrt(2 / fan_in): keeps the variance through relu layers.

    He et al., "Delving deep into rectifiers", ICCV 2015, equation 10.
    """
    return normal(*shape, std=math.sqrt(2 / max(_fans(shape)[0], 1)), generator=generator)


def kaiming_uniform(*shape: int, generator: Generator | None = None) -> Array:
    """Uniform with the variance of `kaiming_normal`: bound sqrt(6 / fan_in)."""
    return uniform(*shape, bound=math.sqrt(6 / max(_fans(shape)[0], 1)), generator=generator)


def xavier_normal(*shape: int, generator: Generator | None = None) -> Array:
    """Normal with std sqrt(2 / (fan_in + fan_out)), for tanh and sigmoid layers.

    Glorot and Bengio, "Understanding the difficulty of training deep feedforward neural
    networks", AISTATS 2010.
    """
    return normal(*shape, std=math.sqrt(2 / max(sum(_fans(shape)), 1)), generator=generator)


def xavier_uniform(*shape: int, generator: Generator | None = None) -> Array:
    """Uniform with the variance of `xavier_normal`: bound sqrt(6 / (fan_in + fan_out))."""
    return uniform(*shape, bound=math.sqrt(6 / max(sum(_fans(shape)), 1)), generator=generator)
