"""`groundup explain`: a run, a model from a file, and what is refused."""

from __future__ import annotations

import sys
from xml.etree import ElementTree

import pytest

MODELS = """
from groundup import nn
import groundup as gu

ready = nn.Sequential(nn.Linear(6, 4), nn.Tanh(), nn.Linear(4, 3))
number = 3

def make():
    return nn.Sequential(nn.Linear(6, 1))

def wrong():
    return 3

class Both(nn.Module):
    def __init__(self):
        self.out = nn.Linear(5, 1)
    def forward(self, a, b):
        return self.out(gu.concatenate([a, b], axis=1))

class Words(nn.Module):
    def __init__(self):
        self.table = nn.Parameter(nn.init.normal(50, 4))
        self.out = nn.Linear(4, 2)
    def forward(self, words):
        return self.out(self.table[words].mean(1))
"""


@pytest.fixture
def models(tmp_path):
    """A file of models in the folder where the command runs."""
    (tmp_path / "own_models.py").write_text(MODELS)
    yield
    sys.modules.pop("own_models", None)


def test_without_arguments_it_explains_the_default_network(groundup):
    result = groundup("explain")
    assert result.exit_code == 0, result.output
    assert "def step(x, y, w1, b1, w2, b2, *, lr=0.1):" in result.stdout
    assert "layers[1]  Relu" in result.stdout
    assert "SymPy proves that its bwd computes these derivatives" in result.stdout
    assert "--save" in result.stderr


def test_a_run_with_its_own_optimizer(groundup, digits_run, tmp_path):
    result = groundup("explain", digits_run[0], "--save", "step.svg")
    assert result.exit_code == 0, result.output
    assert "m_w1" in result.stdout  # the run trained with Adam
    assert result.stdout.endswith("saved in step.svg\n")
    root = ElementTree.parse(tmp_path / "step.svg").getroot()
    assert any("layers[2] Linear" in (t.text or "") for t in root.iter())


def test_a_run_for_regression_and_one_without_weights(groundup, houses, tmp_path):
    groundup("train", houses, "--epochs", 1, "--no-check")
    assert "Mse" in groundup("explain", "runs/houses-1").stdout
    (tmp_path / "runs" / "houses-1" / "weights.safetensors").unlink()
    result = groundup("explain", "runs/houses-1", "--loss", "none")
    assert result.exit_code == 0
    assert "runs/houses-1 has no weights yet" in result.stderr
    assert "backward" not in result.stdout.split("layer ")[0]


@pytest.mark.usefixtures("models")
@pytest.mark.parametrize(
    ("words", "shown"),
    [
        (["own_models:ready", "--input-shape", "8,6"], "CrossEntropy"),
        (["own_models:make", "--input-shape", "8,6"], "Mse"),
        (["own_models:make", "--input-shape", "8,6", "--loss", "bce"], "BinaryCrossEntropy"),
        (["own_models:make", "--input-shape", "8,6", "--loss", "none"], "def forward(x, w, b)"),
        (["own_models:Both", "--input-shape", "8,2", "--input-shape", "8,3"], "def step(a, b, y"),
        (["own_models:Words", "--input-shape", "8,5:50"], "table[x]"),
    ],
)
def test_a_model_from_a_file(groundup, words, shown):
    result = groundup("explain", *words)
    assert result.exit_code == 0, result.output
    assert shown in result.stdout


@pytest.mark.usefixtures("models")
def test_a_page_of_all(groundup, tmp_path):
    result = groundup("explain", "own_models:ready", "--input-shape", "8,6", "--save", "a.html")
    assert result.exit_code == 0, result.output
    page = (tmp_path / "a.html").read_text(encoding="utf-8")
    assert "<h1>Sequential</h1>" in page


@pytest.mark.usefixtures("models")
@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["runs/none"], 1, "runs/none is no run folder"),
        (["own_models:ready"], 2, "say the shape of a batch: --input-shape 64,784"),
        (["own_models:ready", "--input-shape", "8,x"], 2, "give lengths of 1 or more"),
        (["own_models:ready", "--input-shape", "8,0"], 2, "give lengths of 1 or more"),
        (["own_models:ready", "--input-shape", "8,6:0"], 2, "give lengths of 1 or more"),
        (["own_models:ready", "--input-shape", "8,5"], 1, "the input's last length must be 6"),
        (["own_models:reedy", "--input-shape", "8,6"], 1, "own_models has no 'reedy'; it has "),
        (["own_models:number", "--input-shape", "8,6"], 1, "own_models:number is no Module"),
        (["own_models:wrong", "--input-shape", "8,6"], 1, "own_models:wrong is no Module"),
        (["no_models:make", "--input-shape", "8,6"], 1, "there is no module 'no_models' in"),
        (["--input-shape", "8,6"], 2, "for MODULE:FACTORY; a run knows its own"),
        (["own_models:ready", "--input-shape", "8,6", "--save", "a.png"], 2, ".svg or .html"),
    ],
)
def test_what_is_refused(groundup, words, code, message):
    result = groundup("explain", *words)
    assert result.exit_code == code, result.output
    said = " ".join(result.stderr.replace("│", " ").split())
    assert message in said
    assert "Traceback" not in result.output


def test_the_help_says_that_code_is_run(groundup):
    text = " ".join(groundup("explain", "--help").stdout.replace("│", " ").split())
    assert "That code is run." in text
