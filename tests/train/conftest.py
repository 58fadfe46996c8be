import signal

import pytest
from small_training import make_data, make_learner

from groundup import generator


@pytest.fixture
def data():
    return make_data()


@pytest.fixture
def learner():
    return make_learner()


@pytest.fixture(autouse=True)
def _nothing_leaks():
    """No training changes the program's random numbers, signal handlers or modes."""
    state, handler = generator.default.state(), signal.getsignal(signal.SIGINT)
    yield
    generator.default.restore(state)
    assert signal.getsignal(signal.SIGINT) is handler
