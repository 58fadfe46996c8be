"""What every test gets: a fresh default generator, and a check that no global state leaks."""

from collections.abc import Iterator

import hypothesis
import numpy as np
import pytest

import groundup as gu
from groundup.ops.base import state

# The same examples every time; `pytest --hypothesis-profile=explore` looks for new ones.
hypothesis.settings.register_profile(
    "groundup", deadline=None, max_examples=150, derandomize=True, database=None
)
hypothesis.settings.register_profile("explore", deadline=None, max_examples=1000, database=None)
hypothesis.settings.load_profile("groundup")

CLEAN = {
    "recording": True,
    "outside": None,
    "own_rules": True,
    "quiet": False,
    "sweep": None,
    "recorder": None,
    "np.geterr": np.geterr(),
}


@pytest.fixture(autouse=True)
def no_leaks() -> Iterator[None]:
    """Fail a test that leaves NumPy's error settings or groundup's flags changed."""
    gu.manual_seed(0)
    yield
    now = {"np.geterr": np.geterr(), **{k: getattr(state, k) for k in CLEAN if hasattr(state, k)}}
    leaked = [f"{k}: {now[k]}, not {v}" for k, v in CLEAN.items() if now[k] != v]
    for key, value in CLEAN.items():  # one leak fails one test, not all that follow
        if key == "np.geterr":
            np.seterr(**value)
        else:
            setattr(state, key, value)
    assert not leaked, f"this test leaks global state: {'; '.join(leaked)}"
