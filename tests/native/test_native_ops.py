"""Every case of the ops' tables with its backward pass: native and NumPy, equation by equation."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from native_oracle import Given, check_each, given_by
from op_cases import Case, both
from oracle import F32, F64, is_float, normal
from test_program_ops import (
    CASES,
    EDGES,
    MIXED,
    NOT_OF_BOOL,
    OF_ANY_DTYPE,
    OTHER_DTYPES,
    SPECIAL,
    recorded,
)

from groundup.native.elementwise import Unsupported
from groundup.native.llvm import host
from groundup.program.program import Program

ALL = CASES | {f"edge: {case.name}": case for case in EDGES}
NAMES = list(ALL)


def left_to_numpy(program: Program) -> str:
    """What of a Program is not compiled, as an error says it; "" if all is."""
    if any(0 in v.shape for v in program.vars.values()):
        return "has no entries"
    if any(v.dtype == "float16" for v in program.vars.values()):
        return "dtype float16"
    of_integers = [
        e.op for e in program.equations if e.out and np.dtype(e.out.dtype).kind not in "f"
    ]
    return "matmul of" if "matmul" in of_integers else "power of" if "power" in of_integers else ""


def check(given: Given, **options: Any) -> None:
    """The engine is right; or leaves to NumPy what it says, and nothing else."""
    left = left_to_numpy(given.program)
    if left:
        with pytest.raises(Unsupported, match=left):
            check_each(given, **options)
    else:
        check_each(given, **options)


@pytest.mark.parametrize("name", NAMES)
def test_float32(name: str) -> None:
    check(given_by(recorded(ALL[name], F32)))


@pytest.mark.parametrize("name", NAMES[::3])
def test_float64(name: str) -> None:
    check(given_by(recorded(ALL[name], F64)))


@pytest.mark.parametrize("name", NAMES[1::3])
def test_three_threads(name: str) -> None:
    check(given_by(recorded(ALL[name], F32)), threads=3, tile=2)


@pytest.mark.parametrize("width", [32, 16])
@pytest.mark.parametrize("name", NAMES[2::7])
def test_narrow_vectors(name: str, width: int) -> None:
    check(given_by(recorded(ALL[name], F32)), target=host(width))


@pytest.mark.parametrize("dtype", [F32, F64])
@pytest.mark.parametrize("width", [64, 16])
@pytest.mark.parametrize(("k", "n"), [(784, 50), (50, 10), (39, 1), (16, 3), (15, 3), (40, 100)])
def test_a_row_by_a_matrix_of_no_whole_vectors(k: int, n: int, width: int, dtype: Any) -> None:
    w = normal(k, n, seed=1)
    for row in (normal(1, k), normal(k)):
        case = both("row", lambda x: (x @ w.astype(dtype)).clamp_min(0), row)
        check_each(given_by(recorded(case, dtype)), target=host(width))


# Entries at the edge


def with_special_entries(case: Case) -> Case:
    """Infinities, NaN, -0 and subnormal numbers in place of a case's matrices."""
    arrays = [SPECIAL.reshape(3, 4), MIXED.reshape(3, 4), np.roll(SPECIAL, 5).reshape(3, 4)]
    return replace(case, arrays=arrays[: len(case.arrays)])


OF_MATRICES = [
    name
    for name, case in CASES.items()
    if all(is_float(np.asarray(a)) for a in case.arrays)
    and {np.shape(a) for a in case.arrays} == {(3, 4)}
    and not case.name.startswith("check")
]


@pytest.mark.parametrize("name", OF_MATRICES)
def test_special_entries(name: str) -> None:
    check(given_by(recorded(with_special_entries(CASES[name]), F32)))


@pytest.mark.parametrize(
    ("name", "dtype"),
    [(n, d) for n in OF_ANY_DTYPE for d in OTHER_DTYPES if d != "bool" or n not in NOT_OF_BOOL],
)
def test_other_dtypes(name: str, dtype: str) -> None:
    case = next(c for c in CASES.values() if c.name == name)
    given = [np.asarray(10 * np.abs(a)).astype(dtype) for a in case.arrays]
    check(given_by(recorded(replace(case, arrays=given), F64)))
