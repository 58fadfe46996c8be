"""The table of a Program's lines: costs by hand, sums, and no number cut off."""

from __future__ import annotations

import io
import re

import numpy as np
import pytest
from rich.console import Console
from steps import STEPS, classifier, lesson

import groundup as gu
from groundup.program.table import count, flops, measure, size, traffic


def shown(program: gu.program.program.Program, width: int, **options: object) -> str:
    out = io.StringIO()
    Console(file=out, width=width).print(program.table(**options))
    return out.getvalue()


def test_costs_are_those_that_one_counts_by_hand() -> None:
    step = lesson()
    program = gu.record(step.function, *step.batches[0])
    cost = {
        e.out.name: (flops(program, e), *traffic(program, e)) for e in program.equations if e.out
    }
    n, i, h = 7, 12, 5
    assert cost["dw1"] == (2 * n * i * h, 4 * (i * n + n * h), 4 * i * h)
    assert cost["dx"] == (2 * n * i * h, 4 * (n * h + h * i), 4 * n * i)
    assert cost["h2"] == (n * h, 4 * n * h, 4 * n * h)
    assert cost["db1"] == (n * h, 4 * n * h, 4 * h)
    assert cost["loss"] == (n, 4 * n, 4)
    turned = next(e for e in program.equations if e.op == "transpose")
    assert (flops(program, turned), *traffic(program, turned)) == (0, 0, 0)


@pytest.mark.parametrize("name", STEPS)
def test_every_line_is_there_and_phases_sum_up(name: str) -> None:
    step = STEPS[name]()
    program = gu.record(step.function, *step.batches[0])
    text = shown(program, 200)
    for phase in {e.phase for e in program.equations}:
        assert f"# {phase}" in text
    for held in program.updates:
        assert re.search(rf"\b{held[0]}\b", text)


@pytest.mark.parametrize("width", [80, 100, 115, 160])
def test_no_number_is_cut(width: int) -> None:
    step = classifier()
    compiled = gu.compile(step.function)
    compiled(*step.batches[0])
    given = compiled.arguments(*step.batches[0])
    before = {k: np.copy(v) for k, v in given.items()}
    text = shown(compiled.program, width, profile=given)
    assert "…" not in text
    assert "GFLOP/s" in text
    assert text.count(" us") >= 20
    assert all(np.array_equal(given[k], before[k]) for k in before)


def test_measured_times_are_of_every_equation() -> None:
    step = classifier()
    compiled = gu.compile(step.function)
    compiled(*step.batches[0])
    seconds = measure(compiled.program, compiled.arguments(*step.batches[0]), rounds=3)
    assert set(seconds) == set(range(len(compiled.program.equations)))
    assert min(seconds.values()) > 0


def test_units() -> None:
    assert [count(n) for n in (0, 999, 1234, 5_020_800, 3 * 10**9)] == [
        "", "999", "1.23 k", "5.02 M", "3 G",
    ]  # fmt: skip
    assert [size(n) for n in (0, 36, 2560, 13_000_000)] == ["", "36 B", "2.56 kB", "13 MB"]
