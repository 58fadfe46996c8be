"""The benchmarks' shared helpers, loaded from their file: `benchmarks/` is no package."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest

PATH = Path(__file__).parents[2] / "benchmarks" / "common.py"


@pytest.fixture(scope="module")
def common():
    spec = importlib.util.spec_from_file_location("benchmarks_common", PATH)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_interleave_calls_round_by_round_after_a_warmup(common):
    calls = []
    functions = {"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}
    seconds = common.interleave(functions, rounds=3)
    assert "".join(calls) == "ab" * 4
    assert list(seconds) == ["a", "b"]
    assert [len(times) for times in seconds.values()] == [3, 3]
    assert all(time >= 0 for times in seconds.values() for time in times)


def test_ratio_is_that_of_a_typical_round(common):
    # a machine ten times as slow in round two moves neither ratio
    assert common.ratio([2.0, 20.0, 2.0], [1.0, 10.0, 1.0]) == 2.0
    assert common.ratio([2.0, 20.0, 6.0], [1.0, 10.0, 2.0]) == 2.0
    with pytest.raises(ValueError, match="shorter"):
        common.ratio([1.0, 2.0], [1.0])


def test_median(common):
    assert common.median([3.0, 1.0, 100.0]) == 3.0


def test_peak_memory_counts_what_is_freed_again(common):
    def touch_8_mb():
        return np.ones(1_000_000).sum()

    assert 8_000_000 <= common.peak_memory(touch_8_mb) < 8_100_000


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(2.0, "2 s"), (0.0123, "12.3 ms"), (4.5e-5, "45 us"), (7.25e-8, "72.5 ns")],
)
def test_duration(common, seconds, text):
    assert common.duration(seconds) == text


def test_machine_is_one_line_with_the_versions(common):
    line = common.machine()
    assert "\n" not in line
    assert f"NumPy {np.__version__}" in line
    assert "cores, Python 3." in line
