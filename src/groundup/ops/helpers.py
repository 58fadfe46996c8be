"""What some ops compute, as plain NumPy functions: ops call them, and printed programs hold them.

Each stands alone: it needs `np` and nothing else of this file.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from groundup.ops.text import Array


def sigmoid(x: Array) -> Array:
    """1 / (1 + exp(-x)), with exp of numbers up to 0 only: nothing overflows."""
    negative = -np.abs(x) if x.dtype.kind != "c" else np.where(x.real < 0, x, -x)
    e = np.exp(negative)
    s: Array = np.where(x.real >= 0, 1, e) / (1 + e)
    return s


def softmax(x: Array, axis: int) -> Array:
    """exp(x) / sum(exp(x)); the largest entry is taken out first: nothing overflows."""
    e = np.exp(x - x.max(axis, keepdims=True))
    p: Array = e / e.sum(axis, keepdims=True)
    return p


def log_softmax(x: Array, axis: int) -> Array:
    """The logarithm of softmax, without forming it."""
    shifted = x - x.max(axis, keepdims=True)
    log_p: Array = shifted - np.log(np.exp(shifted).sum(axis, keepdims=True))
    return log_p


def erf(x: Array) -> Array:
    """The error function, relative error below 1e-15 before it is rounded to x's dtype.

    Rational Chebyshev approximations on |x| <= 0.46875, up to 4, and beyond:
    W. J. Cody, "Rational Chebyshev approximations for the error function",
    Mathematics of Computation 23 (1969), 631-637.
    """

    def ratio(top: tuple[float, ...], bottom: tuple[float, ...], z: Array) -> Array:
        return np.polyval(top, z) / np.polyval(bottom, z)

    wide = x.astype(np.float64)
    size = np.abs(wide)
    # fmt: off
    small = ratio(
        (
            1.85777706184603153e-1, 3.16112374387056560e0, 1.13864154151050156e2,
            3.77485237685302021e2, 3.20937758913846947e3,
        ),
        (
            1.0, 2.36012909523441209e1, 2.44024637934444173e2, 1.28261652607737228e3,
            2.84423683343917062e3,
        ),
        np.square(np.minimum(size, 0.46875)),
    )
    middle = ratio(
        (
            2.15311535474403846e-8, 5.64188496988670089e-1, 8.88314979438837594e0,
            6.61191906371416295e1, 2.98635138197400131e2, 8.81952221241769090e2,
            1.71204761263407058e3, 2.05107837782607147e3, 1.23033935479799725e3,
        ),
        (
            1.0, 1.57449261107098347e1, 1.17693950891312499e2, 5.37181101862009858e2,
            1.62138957456669019e3, 3.29079923573345963e3, 4.36261909014324716e3,
            3.43936767414372164e3, 1.23033935480374942e3,
        ),
        np.clip(size, 0.46875, 4.0),
    )
    outer = np.maximum(size, 4.0)
    inverse = 1.0 / np.square(outer)
    large = ratio(
        (
            1.63153871373020978e-2, 3.05326634961232344e-1, 3.60344899949804439e-1,
            1.25781726111229246e-1, 1.60837851487422766e-2, 6.58749161529837803e-4,
        ),
        (
            1.0, 2.56852019228982242e0, 1.87295284992346047e0,
            5.27905102951428412e-1, 6.05183413124413191e-2, 2.33520497626869185e-3,
        ),
        inverse,
    )
    # fmt: on
    tail = (1.0 / np.sqrt(np.pi) - inverse * large) / outer
    complement = np.where(size <= 4.0, middle, tail) * np.exp(-size * size)
    y = np.copysign(np.where(size <= 0.46875, small * size, 1.0 - complement), wide)
    return y.astype(x.dtype) if x.dtype.kind == "f" else y


def unslice(x: Array, index: Any, shape: tuple[int, ...]) -> Array:
    """Zeros of a shape with x written at an index."""
    full = np.zeros(shape, x.dtype)
    full[index] = x
    return full


def scatter_add(x: Array, index: Any, shape: tuple[int, ...]) -> Array:
    """Zeros of a shape with x added at an index; repeated indices add up."""
    full = np.zeros(shape, x.dtype)
    np.add.at(full, index, x)
    return full


def philox(key: Array, counter: Array) -> np.random.Generator:
    """The stream of a key (a seed) from a counter on; a count has 2**64 blocks."""
    bits = np.random.Philox(key=int(key), counter=int(counter) << 64)
    return np.random.Generator(bits)
