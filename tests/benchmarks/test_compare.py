"""The comparison with other libraries: what it validates, and in which order it measures."""

import importlib.util
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest

FOLDER = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture(scope="module")
def compare():
    spec = importlib.util.spec_from_file_location("benchmarks_compare", FOLDER / "compare.py")
    module = importlib.util.module_from_spec(spec)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(FOLDER)
        patch.setitem(sys.modules, spec.name, module)  # dataclasses look their module up
        spec.loader.exec_module(module)
        yield module


@pytest.fixture
def work(compare):
    """Returns a small work with the given changes."""
    small = compare.Work("small", "step", (5, 4, 3), 8, 1, 1)
    return lambda **changes: replace(small, **changes)


def makers(compare, work):
    names = [compare.EAGER, compare.OURS, compare.TORCH, compare.SKLEARN, compare.JAX]
    names = [n for n in names if not compare.missing(n) and (n != compare.SKLEARN or work.rows)]
    return {name: partial(compare.make, name, engine="numpy") for name in names}


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"optimizer": "momentum"},
        {"optimizer": "adam", "activation": "gelu"},
        {"optimizer": "adamw", "activation": "tanh"},
        {"activation": "sigmoid", "dropout": 0.1, "sizes": (5, 300, 3), "batch": 300},
        {"kind": "pass", "sizes": (5, 4, 1), "mse": True, "dx": True},
        {"kind": "pass", "sizes": (5, 4, 1), "mse": True},
        {"kind": "row", "batch": 1},
        {"kind": "epoch", "rows": 500},
    ],
    ids=lambda changes: "-".join(map(str, changes.values())) or "sgd",
)
def test_all_contenders_agree(compare, work, changes, monkeypatch):
    monkeypatch.setattr(compare, "fashion", lambda: None)
    case = work(**changes)
    compare.validate(case, makers(compare, case))


@pytest.mark.parametrize(
    "planted",
    [
        lambda numbers: [numbers[0] * 1.01, *numbers[1:]],
        lambda numbers: [numbers[0], numbers[1] * 0.999, *numbers[2:]],  # far off as a change
        lambda numbers: [*numbers[:-1], np.full_like(numbers[-1], np.nan)],
        lambda numbers: [*numbers[:-1], numbers[-1][:1]],
    ],
    ids=["loss", "weight", "nan", "shape"],
)
def test_a_contender_that_differs_is_caught(compare, work, planted):
    class Wrong(compare.Peer):
        def numbers(self, work):
            return planted(super().numbers(work))

    def wrong(case):
        return Wrong(*compare.make(compare.EAGER, case, "numpy"))

    case = work()
    with pytest.raises(SystemExit, match="small: wrong differs from groundup eager"):
        compare.validate(case, {**makers(compare, case), "wrong": wrong})


def test_each_round_begins_with_another(compare):
    calls = []
    seconds = compare.by_turns("abc", 4, lambda name: calls.append(name) or len(calls))
    assert "".join(calls) == "abcbcacababc"
    assert seconds == {"a": [1, 6, 8, 10], "b": [2, 4, 9, 11], "c": [3, 5, 7, 12]}


def test_the_fastest_peer_counts(compare, work):
    seconds = {compare.OURS: [1.0, 2.0], compare.TORCH: [4.0, 8.0], compare.JAX: [3.0, 6.0]}
    assert compare.best_of(work(), seconds) == (3.0, compare.JAX)
    assert np.isnan(compare.best_of(work(), {compare.OURS: [1.0]})[0])


def test_flops_of_the_lesson(compare, work):
    n, i, h = 50_000, 784, 50
    assert compare.LESSON.flops() == 3 * 2 * n * i * h + 3 * 2 * n * h
    assert replace(compare.LESSON, dx=False).flops() == 2 * 2 * n * i * h + 3 * 2 * n * h


def test_only_names_what_there_is(compare):
    assert compare.chosen_from(["first", "one ROW"]) == {"first call", compare.WORKS[-1].name}
    with pytest.raises(SystemExit, match="there are lesson"):
        compare.chosen_from(["nothing"])


def test_a_chart_is_drawn(compare, work, tmp_path):
    seconds = {compare.OURS: [1.0], compare.TORCH: [4.0], compare.JAX: [3.0]}
    compare.draw(
        tmp_path / "chart.svg", {work(): seconds, work(name="lonely"): {"groundup": [1.0]}}
    )
    text = (tmp_path / "chart.svg").read_text()
    assert "3.00  JAX jit" in text
    assert "lonely" not in text


def test_a_restart_gives_the_same_steps_again(compare, work):
    case = work(optimizer="adam")
    for make in makers(compare, case).values():
        peer = make(case)
        before = [peer.numbers(case) for _ in range(4)]
        peer.restart()
        after = [peer.numbers(case) for _ in range(4)]
        assert compare.deviation(after, before) == 0
