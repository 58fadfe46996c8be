"""Are two arrays equal up to rounding? And if not, where not?"""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray


def assert_close(
    a: ArrayLike,
    b: ArrayLike,
    rtol: float = 1e-5,
    atol: float = 1e-8,
    *,
    equal_nan: bool = False,
) -> None:
    """Raise an AssertionError unless `|a - b| <= atol + rtol * |b|` at every element.

    `b` is the reference. A different shape or dtype is an error, even where broadcasting or
    casting would let the comparison pass. An infinity equals itself; a NaN equals nothing, or,
    with `equal_nan`, a NaN in the same place. The text names the element that is furthest outside
    its tolerance, with both values.
    """
    a, b = np.asarray(a), np.asarray(b)
    if a.shape != b.shape:
        raise AssertionError(f"not close: shapes differ, {a.shape} and {b.shape}")
    if a.dtype != b.dtype:
        raise AssertionError(f"not close: dtypes differ, {a.dtype} and {b.dtype}")
    excess = _excess(a, b, rtol, atol, equal_nan)
    wrong = excess > 0
    if wrong.any():
        worst = np.unravel_index(excess.argmax(), a.shape)
        where = f"at [{', '.join(str(i) for i in worst)}]" if a.ndim else "as scalars"
        raise AssertionError(
            f"not close: {wrong.sum()} of {a.size} elements differ by more than "
            f"{atol:g} + {rtol:g} * |b|; worst {where}: {a[worst]!s} and {b[worst]!s}"
        )


def _excess(
    a: NDArray[Any], b: NDArray[Any], rtol: float, atol: float, equal_nan: bool
) -> NDArray[Any]:
    """How far each element lies outside its tolerance: positive is wrong, infinite for a NaN."""
    wide = np.result_type(a.dtype, np.float64)  # no overflow in float16, no wrap-around in uint8
    a, b = a.astype(wide), b.astype(wide)
    with np.errstate(invalid="ignore"):  # inf - inf is NaN, and is dealt with below
        excess: NDArray[Any] = np.abs(a - b) - (atol + rtol * np.abs(b))
    excess = np.where(np.isnan(excess), np.inf, excess)
    equal = (a == b) | (np.isnan(a) & np.isnan(b) & equal_nan)
    return np.where(equal, 0.0, excess)
