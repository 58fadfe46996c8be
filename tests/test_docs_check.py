"""docs/check.md: its examples print what it says; its tables have every verdict and mistake."""

import importlib.util
import re
from pathlib import Path

import pytest

from groundup.check.kinds import KINDS
from groundup.check.report import FINE, WORDS

SCRIPT = Path(__file__).parents[1] / "docs" / "check.py"


def loaded():
    spec = importlib.util.spec_from_file_location("docs_check", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


page = loaded()
BLOCKS = page.blocks()


def said(report):
    """A report's table and its first finding.

    Left out are the errors of right gradients, which are rounding, and the findings after an "or",
    since a slow machine may get to fewer of them.
    """
    rows = []
    for line in report.split("\nor: ")[0].splitlines():
        cells = [cell.strip() for cell in re.split("[│┃]", line)]
        if len(cells) > 1:
            rows.append(cells[:4] if "right" in cells[3] else cells)
        elif not re.match("[┏┡└]", line):
            rows.append(line)
    return rows


@pytest.mark.parametrize("block", BLOCKS, ids=range(len(BLOCKS)))
@pytest.mark.filterwarnings("default")  # of libraries that are imported here for the first time
def test_an_example(block):
    for library in block.needs:
        pytest.importorskip(library)
    printed = block.run()
    assert said(printed) == said(block.text or ""), "out of date: python docs/check.py"


def test_there_is_an_example_of_each_kind():
    assert [block.needs for block in BLOCKS[:3]] == [["torch"], ["torch"], ["jax"]]
    printing = [block.text is not None for block in BLOCKS]
    assert printing == [True, True, True, True, False, False, True]
    assert [block.code.split("\n")[0] for block in BLOCKS[5:]] == [
        "# test_layers.py",
        "# layers.py",
    ]


def table(heading):
    text = page.PAGE.read_text(encoding="utf-8")
    (found,) = re.findall(rf"^\| {heading} \|.*\n\|[-|]+\n((?:\|.*\n)+)", text, re.MULTILINE)
    return [[cell.strip() for cell in row.strip("|").split(" | ")] for row in found.splitlines()]


def test_every_verdict_is_explained():
    rows = {row[1].strip("`"): (row[0], row[2] == "yes") for row in table("verdict")}
    assert rows == {verdict: (words, verdict in FINE) for verdict, words in WORDS.items()}


def test_every_mistake_is_explained():
    assert [row[0].strip("`") for row in table("finding")] == list(KINDS)
