"""The printed source of ten steps is what it was; `python tests/program/test_program_golden.py`
writes the files anew, to be read before they are committed.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from steps import STEPS

import groundup as gu

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


if __name__ == "__main__":
    GOLDEN.mkdir(exist_ok=True)
    for each in NAMES:
        (GOLDEN / f"{each}.txt").write_text(printed(each), encoding="utf-8")
