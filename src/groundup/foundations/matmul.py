"""The matrix product from three Python loops to BLAS: one function a rung, in the lesson's order.

Every rung computes the same thing, `c[i, j] = sum over k of a[i, k] * b[k, j]`, for `a` of shape
(m, k) and `b` of shape (k, n), and returns `c` of shape (m, n) in the dtype of `a @ b`. From
rung to rung, more of the work leaves the Python interpreter.
"""

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from groundup.errors import MissingDependencyError, ShapeError

Matrix: TypeAlias = NDArray[Any]
Matmul: TypeAlias = Callable[[Matrix, Matrix], Matrix]
Loops: TypeAlias = Callable[[Matrix, Matrix, Matrix], None]


def check_shapes(a_shape: tuple[int, ...], b_shape: tuple[int, ...]) -> None:
    """Raise a ShapeError unless (m, k) and (k, n) can be multiplied."""
    if len(a_shape) != 2 or len(b_shape) != 2:
        raise ShapeError(
            f"matmul takes two matrices, but the shapes are {a_shape} and {b_shape}: "
            "give each two axes, e.g. a vector v as v[None, :] (a row) or v[:, None] (a column)"
        )
    if a_shape[1] != b_shape[0]:
        raise ShapeError(
            f"matmul cannot multiply {a_shape} by {b_shape}: the first has {a_shape[1]} columns, "
            f"the second {b_shape[0]} rows, and the two must be equal (is one of them transposed?)"
        )


def product_zeros(a: Matrix, b: Matrix) -> Matrix:
    """Zeros of the shape and dtype of `a @ b`; a ShapeError if the two do not fit."""
    check_shapes(a.shape, b.shape)
    return np.zeros((a.shape[0], b.shape[1]), np.result_type(a, b))


def matmul_lists(a: Sequence[Sequence[float]], b: Sequence[Sequence[float]]) -> list[list[float]]:
    """Three loops in Python alone: nested lists in, nested lists out, no NumPy anywhere.

    Each list needs at least one row, and rows of equal length; else a ShapeError. (An array works
    too, being a sequence of rows, only slower than its `.tolist()`.)
    """
    for name, rows in (("a", a), ("b", b)):
        lengths = sorted({len(row) for row in rows})
        if len(lengths) != 1:
            problem = f"rows of different lengths, {lengths}" if lengths else "no rows"
            raise ShapeError(f"{name} is no matrix: it has {problem}; every row needs one length")
    check_shapes((len(a), len(a[0])), (len(b), len(b[0])))
    c = [[0.0] * len(b[0]) for _ in a]
    for i in range(len(a)):
        for j in range(len(b[0])):
            for k in range(len(b)):
                c[i][j] += a[i][k] * b[k][j]
    return c


def loops_ijk(a: Matrix, b: Matrix, c: Matrix) -> None:
    """Add `a @ b` to `c`, one element of `c` after the other."""
    for i in range(a.shape[0]):
        for j in range(b.shape[1]):
            for k in range(b.shape[0]):
                c[i, j] += a[i, k] * b[k, j]


def matmul_3loops(a: Matrix, b: Matrix) -> Matrix:
    """The same three loops over arrays: every number is fetched from its array one by one."""
    c = product_zeros(a, b)
    loops_ijk(a, b, c)
    return c


def matmul_elementwise(a: Matrix, b: Matrix) -> Matrix:
    """Two loops; the innermost has become an element-wise product of a row and a column, summed."""
    c = product_zeros(a, b)
    for i in range(a.shape[0]):
        for j in range(b.shape[1]):
            c[i, j] = (a[i, :] * b[:, j]).sum()
    return c


def matmul_dot(a: Matrix, b: Matrix) -> Matrix:
    """Two loops and a dot product: multiply and add in one call, with no product array between."""
    c = product_zeros(a, b)
    for i in range(a.shape[0]):
        for j in range(b.shape[1]):
            c[i, j] = np.dot(a[i, :], b[:, j])
    return c


def matmul_broadcast(a: Matrix, b: Matrix) -> Matrix:
    """One loop: a row of `a`, stood up as a column (k, 1), broadcasts over all of `b` (k, n)."""
    c = product_zeros(a, b)
    for i in range(a.shape[0]):
        c[i] = (a[i, :, None] * b).sum(axis=0)
    return c


def matmul_einsum(a: Matrix, b: Matrix) -> Matrix:
    """No Python loop: the formula as a string. A letter missing on the right is summed over."""
    check_shapes(a.shape, b.shape)
    product: Matrix = np.einsum("ik,kj->ij", a, b)
    return product


@cache
def compile_loops(loops: Loops) -> Loops:
    """`loops` as machine code for this CPU, made by numba; a MissingDependencyError without it."""
    try:
        from numba import njit
    except ImportError as error:
        raise MissingDependencyError(
            'compiling a loop needs numba, which is not installed: pip install "groundup[lessons]"'
        ) from error
    compiled: Loops = njit()(loops)
    return compiled


def matmul_compiled(a: Matrix, b: Matrix) -> Matrix:
    """`loops_ijk` again, the very same source, compiled to machine code on the first call."""
    c = product_zeros(a, b)
    compile_loops(loops_ijk)(a, b, c)
    return c


def loops_ikj(a: Matrix, b: Matrix, c: Matrix) -> None:
    """Add `a @ b` to `c`, with the two inner loops swapped: one row of `b` after the other."""
    for i in range(a.shape[0]):
        for k in range(b.shape[0]):
            for j in range(b.shape[1]):
                c[i, j] += a[i, k] * b[k, j]


def matmul_reordered(a: Matrix, b: Matrix) -> Matrix:
    """`matmul_compiled` with `b` and `c` read along their rows.

    Neighbours in a row are neighbours in memory: the CPU fetches and computes several at a time.
    """
    c = product_zeros(a, b)
    compile_loops(loops_ikj)(a, b, c)
    return c


def matmul_blas(a: Matrix, b: Matrix) -> Matrix:
    """`a @ b`: NumPy hands floats to BLAS, which tiles for the caches and uses every core."""
    check_shapes(a.shape, b.shape)
    product: Matrix = a @ b
    return product


LADDER: dict[str, Matmul] = {
    "3loops": matmul_3loops,
    "elementwise": matmul_elementwise,
    "dot": matmul_dot,
    "broadcast": matmul_broadcast,
    "einsum": matmul_einsum,
    "compiled": matmul_compiled,
    "reordered": matmul_reordered,
    "blas": matmul_blas,
}
