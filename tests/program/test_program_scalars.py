"""The pass for single numbers: what it takes, what it must leave, and that no bit changes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from steps import numbers

import groundup as gu
from groundup import Tensor
from groundup.ops.reduce import size_of
from groundup.program import passes
from groundup.program.program import Program
from groundup.program.scalars import scalars


def recorded(function: Any, *args: Any) -> Program:
    return gu.record(function, *args, simplify=False)


def ops_of(program: Program, kind: str) -> list[str]:
    """The ops whose output is of a dtype."""
    return [e.op for e in program.equations if e.out is not None and e.out.dtype == kind]


def gradient_of_mean(dtype: Any, n: int = 7) -> tuple[Program, Tensor]:
    x = Tensor(numbers(n, 3, dtype=dtype), requires_grad=True)

    def step(x: Tensor) -> Any:
        (x * x).mean().backward()
        return x.g

    return recorded(step, x), x


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("n", [1, 3, 7, 11, 49, 1000])
def test_the_gradient_of_a_mean_is_one_number(dtype: Any, n: int) -> None:
    program, x = gradient_of_mean(dtype, n)
    simple = passes.simplify(program)
    assert "div" in ops_of(simple, "float")
    assert not any(e.op in ("expand", "full") for e in simple.equations)
    wanted = program.function()(x=x.data)
    assert simple.function()(x=x.data).tobytes() == wanted.tobytes()


def test_counts_that_single_precision_does_not_hold_are_left_alone() -> None:
    wide = Tensor(np.zeros((2**24 + 1,), np.float32), requires_grad=True)

    def step(x: Tensor) -> Any:
        x.mean().backward()
        return x.g

    program = scalars(recorded(step, wide))
    assert "div" not in ops_of(program, "float")


@pytest.mark.parametrize(
    ("number", "taken"), [(0.5, True), (3.0, True), (0.1, False), (1e20, False)]
)
def test_only_numbers_that_the_dtype_holds_are_taken(number: float, taken: bool) -> None:
    def step(x: Tensor) -> Any:
        return Tensor(np.float32(number)) * 1.0 / size_of(x)

    program = scalars(passes.fold_constants(recorded(step, numbers(3, 3))))
    assert ("div" in ops_of(program, "float")) is taken


def test_what_a_sum_reads_stays_an_array() -> None:
    """A sum over an array that is one number in memory may round differently."""

    def step(x: Tensor) -> Any:
        spread = -x.sum().expand(5, 3)
        return spread.sum(0), spread * x

    x = numbers(5, 3)
    program = recorded(step, x)
    simple = scalars(program)
    (negative,) = (e for e in simple.equations if e.op == "neg")
    assert negative.out is not None
    assert negative.out.shape == (5, 3)
    for a, b in zip(program.function()(x=x), simple.function()(x=x), strict=True):
        assert a.tobytes() == b.tobytes()


def test_a_function_that_numpy_rounds_differently_by_layout_stays() -> None:
    def step(x: Tensor) -> Any:
        return x.sum().expand(5, 3).exp() * x

    simple = scalars(recorded(step, numbers(5, 3)))
    (exponential,) = (e for e in simple.equations if e.op == "exp")
    assert exponential.out is not None
    assert exponential.out.shape == (5, 3)


def test_double_rounding_is_innocuous_on_many_quotients() -> None:
    rng = np.random.default_rng(0)
    counts = rng.integers(1, 1 << 24, 200_000)
    tops = rng.integers(-(1 << 24), 1 << 24, 200_000)
    exact = tops.astype(np.float32) / counts.astype(np.float32)
    assert exact.tobytes() == (tops / counts).astype(np.float32).tobytes()
