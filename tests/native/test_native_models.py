"""Whole training steps: native and NumPy, equation by equation, batch after batch."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from models import MODELS
from native_oracle import check_each, given_by_step, in_float64, threads_always
from steps import STEPS, Step, batches, mlp

import groundup as gu
from groundup.native import plan
from groundup.native.engine import Engine
from groundup.native.llvm import host
from groundup.ops.base import quiet

ALL = STEPS | MODELS
# Long, with nothing that other steps don't have.
LONG = {"gpt", "deep", "deep_adam"}
NAMES = [name for name in ALL if name not in LONG]


def made(name: str) -> Step:
    gu.manual_seed(0)
    return ALL[name]()


@pytest.mark.parametrize("name", NAMES)
def test_one_thread(name: str) -> None:
    check_each(given_by_step(made(name)))


@pytest.mark.parametrize("name", NAMES)
def test_three_threads(name: str) -> None:
    check_each(given_by_step(made(name)), threads=3, tile=2)


@pytest.mark.parametrize("name", NAMES[::2])
def test_threads_that_share_features(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of every product of what is given, however small."""
    monkeypatch.setattr(plan, "FEATURES", 0)
    monkeypatch.setattr(plan, "WIDE", 0)
    check_each(given_by_step(made(name)), threads=3, tile=2)


def test_features_are_shared_where_rows_are_few() -> None:
    step = mlp(512, 64, 3)
    opt, loss_of = gu.optim.SGD(step.parameters(), 0.1), gu.nn.CrossEntropy()

    def train(x: Any, y: Any) -> Any:
        loss = loss_of(step(x), y)
        loss.backward()
        opt.step()
        return loss

    for n, shared in ((64, 1), (250, 0)):
        given = given_by_step(Step(train, batches(n, 512, 3), {}))
        assert len(Engine(given.program, given.held, threads=2).plan.planner.terms) == shared
        check_each(given, threads=2)


@pytest.mark.parametrize("name", NAMES[::4])
def test_float64_on_narrow_vectors(name: str) -> None:
    check_each(in_float64(given_by_step(made(name))), threads=2, tile=3, target=host(32))


@pytest.mark.parametrize("name", NAMES[1::4])
def test_narrowest_vectors(name: str) -> None:
    check_each(given_by_step(made(name)), target=host(16))


# A whole run: only what the engine itself carries from one batch to the next.


@pytest.mark.parametrize("name", NAMES[2::4])
def test_batches_one_after_another(name: str) -> None:
    """In float64 little is amplified in a few steps, not even by Adam."""
    given = in_float64(given_by_step(made(name)))
    program, held = given.program, {k: v.copy() for k, v in given.held.items()}
    with threads_always():
        engine = Engine(program, given.held, threads=2, tile=3)
    run = program.function()
    names = [i.var.name for i in program.inputs]
    for values in given.calls:
        called = held | dict(zip(engine.names, values, strict=True))
        with quiet():
            run(**{n: called[n] for n in names})
        engine(values)
        for key, array in held.items():
            np.testing.assert_allclose(given.held[key], array, rtol=1e-7, atol=1e-9, err_msg=key)
