"""Random steps, the same ones every time; `python tests/native/fuzz.py` looks for new ones."""

from __future__ import annotations

import hypothesis
import numpy as np
import pytest
from fuzz import Case, cases
from native_oracle import given_by
from programs import Recorded

from groundup import Tensor
from groundup.native.emit import LARGE
from groundup.native.engine import Engine, Unsupported


@hypothesis.settings(
    max_examples=80, deadline=None, derandomize=True, database=None,
    suppress_health_check=list(hypothesis.HealthCheck),
)  # fmt: skip
@hypothesis.given(cases())
def test_random_steps(case: Case) -> None:
    try:
        case.check()
    except Unsupported:
        hypothesis.event("left to NumPy")


# What was wrong once

FOUND = {
    "index into a sum over the batch": ["a = x0.sum(0)", "return [a[x2], a[np.array([1, 0])]]"],
    "rows of a sum over the batch": ["a = x0.mT @ x1", "return [a[x2], a.T[:, x2]]"],
    "transposed sum over the batch": ["return [x1 @ (x0.mT @ x1).mT]"],
    "batch behind an axis it is joined with": [
        "a = gu.stack([x0 * 2, x0], 0)", "b = a.reshape(-1)", "return [b * b, b[:3]]",
    ],
    "transposed rows, flattened": [
        "a = (x0.T * w0).reshape(-1)", "loss = a.exp().mean()",
        "return [loss, *gu.grad(loss, [x0, w0])]",
    ],
    "another axis as long as the batch": [
        "a = x3.take_along_axis(x3.argmax(1, keepdims=True), 1)",
        "return [a, *gu.grad((a * a).sum(), [x3])]",
    ],
}  # fmt: skip


@pytest.mark.parametrize("shape", [(5, 1), (1, 3), (1, 1), (1,)])
def test_products_with_short_sides(shape: tuple[int, ...]) -> None:
    Case(65, {"x0": ((65, shape[0]), "float32")}, {"w0": shape}, ["return [x0 @ w0 * 2]"]).check()


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("name", FOUND)
def test_found(name: str, threads: int) -> None:
    arguments = {
        "x0": ((7, 5), "float32"),
        "x1": ((7, 2), "float32"),
        "x2": ((7,), "int64"),
        "x3": ((7, 2, 7), "float32"),
    }
    Case(7, arguments, {"w0": (1,)}, FOUND[name], threads=threads, tile=2).check()


@pytest.mark.parametrize("entries", [1000, LARGE // 4])
def test_a_view_of_a_result_keeps_it(entries: int) -> None:
    """Memory of results serves again, but not while there are views of it."""
    x = np.arange(entries, dtype=np.float32).reshape(-1, 4)
    given = given_by(Recorded(lambda x: x * 2.0, Tensor(x)))
    engine = Engine(given.program, given.held)

    def part_of(x: np.ndarray) -> np.ndarray:
        (found,) = engine([x]).values()
        return found[1:].T

    views = [part_of(x + i) for i in range(4)]
    for i, view in enumerate(views):
        np.testing.assert_array_equal(view, 2 * (x + i)[1:].T)
