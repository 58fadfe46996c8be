"""The printed source of ten steps is what it was; `python tests/program/test_program_golden.py`
writes the files anew, to be read before they are committed.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from steps import STEPS, numbers

import groundup as gu
from groundup import Tensor, nn
from groundup.nn import Module

GOLDEN = Path(__file__).parent.parent / "golden"
NAMES = [
    "lesson", "classifier", "momentum", "adam", "dropout", "residual", "deep_adam", "shared",
    "two_losses", "two_players",
]  # fmt: skip


def printed(name: str) -> str:
    step = STEPS[name]()
    return str(gu.record(step.function, *step.batches[0]))


@pytest.mark.parametrize("name", NAMES)
def test_golden(name: str) -> None:
    assert printed(name) == (GOLDEN / f"{name}.txt").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", STEPS)
def test_lines_are_not_too_long(name: str) -> None:
    for line in printed(name).splitlines():
        code = line.split("  # ")[0].rstrip()
        assert len(code) <= 88, line


def test_a_deep_model_is_not_longer_than_a_flat_one() -> None:
    assert len(printed("deep").splitlines()) < len(printed("residual").splitlines()) + 20


class EveryOther(Module):
    """Ten equal layers, and equal work on every second of their results."""

    def __init__(self) -> None:
        self.layers = [nn.Linear(4, 4) for _ in range(10)]

    def forward(self, x: Tensor) -> Tensor:
        results = [x.tanh()]
        for layer in self.layers:
            results.append((layer(results[-1]) * 0.5).sin())
        total = results[0] * 1.5
        for result in results[::2]:
            part = (result * 2.0).exp()
            total = (total + part.sqrt() * part).cos()
        return total


def test_lists_that_do_not_agree_stay_written_out() -> None:
    gu.manual_seed(0)
    model = EveryOther()
    compiled = gu.compile(lambda x: model(x))
    for i in range(3):
        x = numbers(3, 4, seed=i)
        wanted = compiled(x)
        printed = compiled.program.function()(**compiled.arguments(x))
        assert np.asarray(printed).tobytes() == wanted.data.tobytes()
    text = str(compiled.program)
    assert text.count("for i in range") == 1


if __name__ == "__main__":
    GOLDEN.mkdir(exist_ok=True)
    for each in NAMES:
        (GOLDEN / f"{each}.txt").write_text(printed(each), encoding="utf-8")
