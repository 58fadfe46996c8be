"""The corpus of backward passes, wrong ones and right ones: what is detected, and what is named."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from corpus import (
    heldout_one,
    heldout_two,
    modules_layers,
    modules_losses,
    modules_models,
    pairs_layers,
    pairs_models,
    right_modules,
    right_pairs,
    torch_functions,
)
from corpus.case import Case

import groundup as gu
from groundup.check import diagnosis
from groundup.check.kinds import KINDS
from groundup.check.report import Report

WRONG = [
    case
    for module in (
        modules_layers,
        modules_losses,
        modules_models,
        pairs_layers,
        pairs_models,
        torch_functions,
    )
    for case in module.corpus.cases
]
# Written by others than the corpus, and looked at only after their first evaluation.
HELDOUT = [*heldout_one.corpus.cases, *heldout_two.corpus.cases]
RIGHT = [case for module in (right_modules, right_pairs) for case in module.corpus.cases]

# A backward that fails hides what else is wrong behind its failure.
HIDING = {"error", "shape", "mutated"}


def checked(case: Case, **options: Any) -> Report:
    """The report on a case, made anew: subjects may keep things from call to call."""
    made = case.make(np.random.default_rng(0))
    return gu.check(made.subject, *made.inputs, **made.options, **options)


# Detection takes no diagnosis, which is nine tenths of the time: those run in one test below, and
# not twice, whichever of several processes a test comes to.


@pytest.mark.parametrize("case", WRONG, ids=lambda case: case.name)
def test_a_wrong_backward_is_detected_in_the_wrong_gradients_only(case: Case) -> None:
    report = checked(case, diagnose=False)
    assert not report
    faulty = {row.name for row in report.rows if not row.ok}
    if HIDING.isdisjoint(row.verdict for row in report.rows):
        assert faulty == set(case.wrong), report
    else:
        assert faulty, report
        assert faulty <= set(case.wrong), report


@pytest.mark.parametrize("case", RIGHT, ids=lambda case: case.name)
def test_a_right_backward_is_found_right(case: Case) -> None:
    report = checked(case)
    assert report, report
    assert report.findings == ()
    assert not any(row.verdict == "unsure" for row in report.rows), report


def test_the_corpus_has_every_kind_of_mistake_and_no_name_twice() -> None:
    for cases in (WRONG + RIGHT, HELDOUT):
        names = [case.name for case in cases]
        assert len(names) == len(set(names))
    assert {case.kind for case in WRONG} == set(KINDS) - {"noise"}
    assert {kind for case in WRONG for kind in case.also} <= set(KINDS)
    assert len(WRONG) >= 377
    assert len(RIGHT) >= 169


@pytest.mark.parametrize(
    ("cases", "first", "three"),
    [(WRONG, 0.8, 0.95), (HELDOUT, 0.7, 0.9)],
    ids=["corpus", "held out"],
)
def test_most_mistakes_are_named_first_and_nearly_all_among_the_first_three(
    cases: list[Case], first: float, three: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(diagnosis, "SECONDS", 2.0)  # less than it may take: the same are named
    best, missed = 0, {}
    for case in cases:
        report = checked(case)
        assert not report, case.name
        kinds = [finding.kind for finding in report.findings]
        mistakes = {case.kind, *case.also}
        best += bool(kinds) and kinds[0] in mistakes
        if mistakes.isdisjoint(kinds[:3]):
            missed[case.name] = (case.kind, kinds)
    assert best >= first * len(cases), f"{best} of {len(cases)}"
    assert len(missed) <= (1 - three) * len(cases), missed
