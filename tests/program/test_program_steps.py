"""Whole steps: eager, as printed source, and compiled, all the same bit for bit."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from steps import STEPS, Step

import groundup as gu
from groundup.nn.step import tensors_in
from groundup.program.program import Program
from groundup.program.recording import record_step


def results(returned: Any) -> list[bytes]:
    return [np.asarray(t.data).tobytes() for t in tensors_in([returned])]


def state(step: Step) -> dict[str, bytes]:
    return {name: t.data.tobytes() for name, t in step.state.items()}


@pytest.mark.parametrize("name", STEPS)
def test_compiled_is_eager(name: str) -> None:
    eager, other = STEPS[name](), STEPS[name]()
    compiled = gu.compile(other.function)
    for batch in [*eager.batches, *eager.batches]:
        assert results(eager.function(*batch)) == results(compiled(*batch))
        assert state(eager) == state(other)
    assert compiled.recordings == 2


@pytest.mark.parametrize("simplify", [False, True])
@pytest.mark.parametrize("name", STEPS)
def test_printed_source_is_eager(name: str, simplify: bool) -> None:
    step, twin = STEPS[name](), STEPS[name]()
    program = gu.record(twin.function, *twin.batches[0], simplify=simplify)
    compiled = gu.compile(step.function)
    compiled(*step.batches[0])
    for batch in step.batches[1:]:
        given = compiled.arguments(*batch)
        given = {i.var.name: given[i.var.name] for i in compiled.program.inputs}
        missing = [i for i in program.inputs if i.var.name not in given]
        given |= {i.var.name: i.value for i in missing}
        wanted = step.function(*batch)
        returned = program.function()(**given)
        flat = flatten(returned)
        assert [np.asarray(r).tobytes() for r in flat] == results(wanted)
        after = compiled.arguments(*batch)
        for held in program.inputs_of("parameter", "state"):
            assert given[held.var.name].tobytes() == after[held.var.name].tobytes(), held


def flatten(returned: Any) -> list[Any]:
    if isinstance(returned, dict):
        returned = list(returned.values())
    if isinstance(returned, tuple | list):
        return [leaf for part in returned for leaf in flatten(part)]
    return [returned]


@pytest.mark.parametrize("name", STEPS)
def test_programs_are_well_formed_and_keep(name: str) -> None:
    step = STEPS[name]()
    raw = record_step(step.function, step.batches[0], {}).program
    assert Program.from_json(raw.to_json()) == raw
    again = STEPS[name]()
    assert record_step(again.function, again.batches[0], {}).program == raw
