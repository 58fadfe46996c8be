import pytest
from typer.testing import CliRunner

from groundup import generator
from groundup.cli import app


@pytest.fixture(autouse=True)
def _own_folder(tmp_path, monkeypatch):
    """Runs go into the test's folder, and random numbers stay the program's."""
    monkeypatch.chdir(tmp_path)
    state = generator.default.state()
    yield
    generator.default.restore(state)


@pytest.fixture
def groundup():
    """Run the command in this process: `groundup("train", "--epochs", 1)`."""
    return lambda *words: CliRunner().invoke(app, [str(word) for word in words])


@pytest.fixture(scope="session")
def digits_run(tmp_path_factory):
    """What `groundup train` leaves, and what it prints."""
    out = tmp_path_factory.mktemp("runs")
    result = CliRunner().invoke(app, ["train", "--out", str(out)])
    return out / "digits-1", result


@pytest.fixture(scope="session")
def houses(tmp_path_factory):
    """A table of houses: two numbers, a text, and a price that follows from them."""
    import numpy as np
    import pandas as pd

    rng = np.random.default_rng(0)
    table = pd.DataFrame(
        {
            "area": rng.uniform(20, 300, 300),
            "rooms": rng.integers(1, 8, 300),
            "city": rng.choice(["Rome", "Oslo"], 300),
        }
    )
    table["price"] = 1500 * table.area + 2e5 * (table.city == "Oslo") + rng.normal(0, 1e4, 300)
    path = tmp_path_factory.mktemp("tables") / "houses.csv"
    table.to_csv(path, index=False)
    return path
