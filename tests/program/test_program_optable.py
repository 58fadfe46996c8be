"""The table of ops in CONTRIBUTING.md lists the ops that there are, with their inputs."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import pytest

from groundup.program.program import OPS

TEXT = Path(__file__).parents[2].joinpath("CONTRIBUTING.md").read_text(encoding="utf-8")
# Recording leaves no equation for it: it is the same value.
NEVER_RECORDED = {"detach"}


def rows() -> list[list[str]]:
    section = re.search(r"^## The ops\n(.*?)^## ", TEXT, re.MULTILINE | re.DOTALL)
    assert section is not None, "CONTRIBUTING.md has no section 'The ops'"
    lines = [line for line in section[1].splitlines() if line.startswith("|")]
    return [[cell.strip().strip("`") for cell in line.strip("|").split("|")] for line in lines]


def test_the_columns() -> None:
    assert rows()[0] == ["op", "inputs", "attributes", "what it computes"]
    assert set(rows()[1]) == {"---"}
    assert all(len(row) == 4 and row[3] for row in rows())


def test_every_op_once() -> None:
    names = [row[0] for row in rows()[2:]]
    assert sorted(names) == sorted(set(OPS) - NEVER_RECORDED)


@pytest.mark.parametrize("row", rows()[2:], ids=lambda row: row[0])
def test_inputs_and_attributes(row: list[str]) -> None:
    parameters = inspect.signature(OPS[row[0]].forward).parameters.values()
    inputs = [f"*{p.name}" if p.kind is p.VAR_POSITIONAL else p.name
              for p in parameters if p.kind is not p.KEYWORD_ONLY]  # fmt: skip
    attributes = [p.name for p in parameters if p.kind is p.KEYWORD_ONLY]
    assert row[1] == ", ".join(inputs)
    assert row[2] == ", ".join(attributes)
