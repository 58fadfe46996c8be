"""The pytest plugin: what its fixture does, and that it costs nothing where it is not used."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import entry_points
from zlib import crc32

import numpy as np
import pytest

import groundup
from groundup import nn
from groundup.errors import GradientError

TESTS = """
import numpy as np
import pytest

def square(x): return x * x
def wrong(dout, x): return dout * x
def right(dout, x): return 2 * dout * x

X = np.array([1.0, 2.0, 3.0])

def test_right(check_gradients):
    report = check_gradients(square, X, backward=right)
    assert report["x"].verdict == "right"

@pytest.mark.parametrize("n", [1, 2])
def test_wrong(check_gradients, n):
    check_gradients(square, X, backward=wrong)

def test_without(): pass
"""


@pytest.fixture
def run(tmp_path):
    """Run pytest in a process of its own on a file of tests."""
    (tmp_path / "test_own.py").write_text(TESTS)

    def run(*words):
        program = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-q"]
        made = subprocess.run(
            [*program, *words], cwd=tmp_path, capture_output=True, text=True, check=False
        )
        return made.stdout + made.stderr

    return run


def test_the_report_is_returned(check_gradients):
    report = check_gradients(nn.Linear(4, 3), np.random.default_rng(0).normal(size=(5, 4)))
    assert report.ok
    assert [row.name for row in report.rows] == ["inp", "w", "b"]


def test_a_wrong_gradient_is_an_assertion_error_with_the_report(check_gradients):
    def doubled(dout, x):
        return 2 * dout

    x = np.array([1.0, 2.0])
    with pytest.raises(AssertionError, match=r"(?s)gradients of .*WRONG.*\[factor\]") as caught:
        check_gradients(lambda x: 3 * x, x, backward=doubled)
    assert isinstance(caught.value, GradientError)
    assert len(caught.traceback) == 2  # this test, and the fixture's function, which is hidden
    with pytest.raises(AssertionError, match="WRONG") as caught:
        check_gradients(lambda x: 3 * x, x, backward=doubled, diagnose=False)
    assert "[factor]" not in str(caught.value)
    check_gradients(lambda x: 2 * x, x, backward=doubled, method="differences", seed=3)


def test_nothing_to_check_is_told_as_by_check(check_gradients):
    with pytest.raises(GradientError, match="there is no gradient to check"):
        check_gradients(nn.Relu(), np.arange(3))


def test_every_test_has_a_seed_of_its_own(monkeypatch, request, check_gradients):
    seeds = []
    report = check_gradients(nn.Relu(), np.array([1.0, -2.0]))
    monkeypatch.setattr(groundup, "check", lambda *_, seed, **__: seeds.append(seed) or report)
    check_gradients(None)
    check_gradients(None)
    check_gradients(None, seed=7)
    own = crc32(request.node.nodeid.encode())
    assert seeds == [own, own, 7]


def test_what_pytest_shows(run):
    said = run()
    assert "2 failed, 2 passed" in said
    assert "gradients of square" in said
    assert "[factor]" in said
    assert "groundup_pytest.py" not in said
    assert "report.py" not in said
    assert "check_gradients(square, X, backward=wrong)" in said


def test_without_the_plugin(run):
    said = run("-p", "no:groundup")
    assert "fixture 'check_gradients' not found" in said
    assert "1 passed, 3 errors" in said


def test_it_costs_nothing_where_it_is_not_used(run, tmp_path):
    (tmp_path / "test_plain.py").write_text(
        "import sys\n"
        "def test_modules():\n"
        "    assert 'groundup_pytest' in sys.modules\n"
        "    assert not {'numpy', 'groundup', 'rich'} & set(sys.modules)\n"
    )
    # Other plugins import NumPy: none of them here.
    said = run("test_plain.py", *(f"-p no:{name}" for name in others()))
    assert "1 passed" in said


def others():
    """The names of all plugins but groundup's."""
    return [e.name for e in entry_points(group="pytest11") if e.name != "groundup"]


def test_it_is_registered():
    (plugin,) = (e for e in entry_points(group="pytest11") if e.name == "groundup")
    assert plugin.value == "groundup_pytest"
