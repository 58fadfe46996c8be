"""Every op and Tensor method against torch: value, gradient, second derivative, both dtypes."""

import pytest
from op_cases import TABLES, Case
from oracle import check

CASES = [(family, case) for family, cases in TABLES.items() for case in cases]


@pytest.mark.parametrize(("family", "case"), CASES, ids=[f"{f}: {c.name}" for f, c in CASES])
def test_as_torch(family: str, case: Case) -> None:
    check(case.ours, case.theirs, *case.arrays, second=case.second, dtypes=case.dtypes)
