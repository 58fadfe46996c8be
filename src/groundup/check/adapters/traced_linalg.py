"""Equations and factors of matrices on Traced arrays: elimination, column by column.

The order of the rows is what the present values ask for, and is no part of the record.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from groundup.check.adapters.held import refuse
from groundup.check.adapters.traced_ufuncs import implements, traced


def _square(x: Any) -> Any:
    x = traced(x)
    if x.ndim != 2 or x.shape[0] != x.shape[1]:
        refuse(f"elimination in an array of shape {x.shape}")
    return x


def _eliminated(rows: Any, n: int) -> tuple[Any, list[Any], int]:
    """Rows whose first n columns are made the identity; the pivots; the sign of the order."""
    pivots, sign = [], 1
    for k in range(n):
        p = k + int(np.argmax(np.abs(rows.array[k:, k])))
        order = np.arange(n)
        order[[k, p]] = order[[p, k]]
        if p != k:
            rows, sign = rows[order], -sign
        pivot = rows[k, k]
        row = rows[k] / pivot
        others = (np.arange(n) != k).astype(float)
        rows = rows - (rows[:, k] * others)[:, None] * row
        rows = np.concatenate([rows[:k], row[None], rows[k + 1 :]])
        pivots.append(pivot)
    return rows, pivots, sign


@implements(np.linalg.solve)
def solve(a: Any, b: Any) -> Any:
    a, b = _square(a), traced(b)
    n = len(a)
    columns = b if b.ndim == 2 else b[:, None]
    made = _eliminated(np.concatenate([a, columns], 1), n)[0][:, n:]
    return made if b.ndim == 2 else made[:, 0]


@implements(np.linalg.inv)
def inv(a: Any) -> Any:
    return solve(a, np.eye(len(_square(a))))


@implements(np.linalg.det)
def det(a: Any) -> Any:
    a = _square(a)
    _, pivots, sign = _eliminated(a, len(a))
    made = pivots[0] * sign
    for p in pivots[1:]:
        made = made * p
    return made


@implements(np.linalg.slogdet)
def slogdet(a: Any) -> Any:
    a = _square(a)
    _, pivots, _ = _eliminated(a, len(a))
    return np.linalg.slogdet(a.array)[0], np.log(np.abs(np.stack(pivots))).sum()


@implements(np.linalg.cholesky)
def cholesky(a: Any, upper: bool = False) -> Any:
    rest, n, columns = _square(a), len(a), []
    for k in range(n):
        below = (np.arange(n) >= k).astype(float)
        column = rest[:, k] * below / np.sqrt(rest[k, k])
        rest = rest - column[:, None] * column[None, :]
        columns.append(column)
    made = np.stack(columns, 1)
    return made.T if upper else made
