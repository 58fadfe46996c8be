"""README's code runs as it stands, and its set-up is two commands."""

import re
from pathlib import Path

import pytest

import groundup as gu
from groundup import nn
from groundup.check import check_layers

README = Path(__file__).parents[1] / "README.md"


def blocks():
    return re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)


def test_the_first_program_learns_digits(capsys):
    (program,) = (b for b in blocks() if b.startswith("import groundup as gu"))
    assert len([line for line in program.splitlines() if line]) <= 12
    gu.manual_seed(0)
    exec(compile(program, str(README), "exec"), {})
    accuracy = float(re.search(r"Tensor\(([\d.]+)\)", capsys.readouterr().out)[1])
    assert accuracy > 0.95


def test_the_layers_that_readme_shows_are_right():
    (source,) = (b for b in blocks() if "class Relu" in b)
    shown = {"Module": nn.Module}
    exec(compile(source, str(README), "exec"), shown)
    gu.manual_seed(0)
    layer = shown["Linear"]()
    layer.w, layer.b = nn.Parameter(gu.randn(5, 3)), nn.Parameter(gu.randn(3))
    model = nn.Sequential(layer, shown["Relu"]())
    rows = check_layers(model, nn.Mse(), gu.randn(4, 5), gu.randn(4, 3))
    assert [row.gradient for row in rows] == ["input", "w", "b", "input", "input"]
    assert all(row.ok for row in rows)


def test_the_program_that_readme_shows_is_what_prints(capsys):
    (first,) = (b for b in blocks() if b.startswith("import groundup as gu"))
    (step,) = (b for b in blocks() if "gu.record(" in b)
    (shown,) = (b for b in blocks() if b.startswith("import numpy as np"))
    space = {}
    exec(compile(first, str(README), "exec"), space)
    capsys.readouterr()
    exec(compile(step, str(README), "exec"), space)
    assert capsys.readouterr().out.rstrip() == shown.rstrip()


def test_the_compiled_epochs_that_readme_shows_learn():
    (first,) = (b for b in blocks() if b.startswith("import groundup as gu"))
    (step,) = (b for b in blocks() if "gu.record(" in b)
    (epochs,) = (b for b in blocks() if "step.epoch(" in b)
    space = {}
    for block in (first, step, epochs):
        exec(compile(block, str(README), "exec"), space)
    assert space["losses"].shape == (-(-len(space["x_train"]) // 64),)
    assert space["losses"].numpy().mean() < 0.1


def test_set_up_is_two_commands():
    marked = re.search(r"<!-- set-up -->\n(.*?)<!-- end -->", README.read_text(), re.DOTALL)[1]
    commands = re.findall(r"^    (.+)$", marked, re.MULTILINE)
    assert len(commands) == 2
    assert commands[0].endswith("groundup train")
    assert "pytest" in commands[1]


@pytest.mark.parametrize("target", re.findall(r"\]\((?!http)([^)#]+)\)", README.read_text()))
def test_links_lead_somewhere(target):
    assert (README.parent / target).exists()
