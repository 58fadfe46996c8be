"""explain: what comes out, and that nothing else changes."""

from __future__ import annotations

import subprocess
import sys
from html.parser import HTMLParser
from xml.etree import ElementTree

import numpy as np
import pytest
from explain_models import Feed, cases, normal

import groundup as gu
from groundup import generator, nn, optim
from groundup.errors import GroundupError, ShapeError
from groundup.explain import explain
from groundup.explain.explanation import Explanation

CASES = cases()


@pytest.mark.parametrize("name", CASES)
def test_model_optimizer_and_random_stream_stay_as_they_are(name):
    model, x, y = CASES[name]
    learnt = list(model.parameters())
    optimizer = optim.Adam(learnt) if learnt and y is not None else None
    for p in learnt:
        p.g = gu.Tensor(np.full(p.shape, 7, p.dtype))
    before, stream = model.state_dict(), generator.default.state()
    state = optimizer.state_dict() if optimizer else {}
    hooks = [dict(vars(m)) for m in model.modules()]
    made = explain(model, x, y, optimizer=optimizer)
    _ = made.svg, made.summary, made.derivations
    for path, array in model.state_dict().items():
        np.testing.assert_array_equal(array, before[path])
    for key, array in (optimizer.state_dict() if optimizer else {}).items():
        np.testing.assert_array_equal(array, state[key])
    assert all((p.g.data == 7).all() for p in learnt)
    assert generator.default.state() == stream
    assert [dict(vars(m)) for m in model.modules()] == hooks
    assert model.training


@pytest.mark.parametrize("name", [n for n in CASES if n not in ("mlp", "forward only")])
def test_the_printed_step_computes_the_loss_and_gradients(name):
    model, x, y = CASES[name]
    made = explain(model, x, y)
    assert made.source == str(made.program)
    given = [*(x if isinstance(x, tuple) else (x,)), y]
    held = {path: p.data.copy() for path, p in model.named_parameters()}
    arrays = {i.var.name: held[i.path] for i in made.program.inputs_of("parameter")}
    arguments = [i.var.name for i in made.program.inputs_of("argument")]
    value, gradients = made.program.function()(**dict(zip(arguments, given, strict=True)), **arrays)
    of = nn.CrossEntropy() if np.asarray(y).dtype.kind == "i" else nn.Mse()
    inputs = [gu.Tensor(v, requires_grad=not held) for v in given[:-1]]
    true = of(model(*inputs), y)
    true.backward()
    np.testing.assert_allclose(value, true.data, rtol=1e-6)
    wanted = list(model.parameters()) or inputs
    assert len(gradients) == len(wanted)
    for g, t in zip(gradients, wanted, strict=True):
        np.testing.assert_allclose(g, t.g.data, rtol=1e-4, atol=1e-6)


def test_with_an_optimizer_the_update_is_part_of_the_step():
    model, x, y = CASES["mlp"]
    made = explain(model, x, y, optimizer=optim.SGD(model.parameters(), lr=0.25))
    assert "lr=0.25" in made.source
    assert "w1 -= lr * dw1" in made.source
    assert made.source.rstrip().endswith("return loss")
    assert "update" not in explain(model, x, y).source


def test_the_loss_follows_from_the_targets():
    model = nn.Sequential(nn.Linear(4, 3))
    kinds = {
        "CrossEntropy": np.array([0, 2]),
        "Mse": normal(2, 3),
        "Mae": (normal(2, 3), nn.Mae()),
    }
    for kind, y in kinds.items():
        y, loss = y if isinstance(y, tuple) else (y, None)
        assert explain(model, normal(2, 4), y, loss).summary[-1].kind == kind
    assert explain(model, normal(2, 4), np.ones((2, 3), bool)).summary[-1].kind == "Mse"
    assert [r.kind for r in explain(model, normal(2, 4)).summary] == ["Linear"]


def test_inputs_may_be_the_targets_and_float64():
    x = np.random.default_rng(0).standard_normal((5, 4))
    made = explain(nn.Sequential(nn.Linear(4, 4)), x, x)
    assert {v.dtype for v in made.program.vars.values() if v.shape == (5, 4)} == {"float32"}


def test_what_cannot_be_explained_says_why():
    x = normal(2, 4)
    with pytest.raises(GroundupError, match=r"explain takes a Module, not function; wrap"):
        explain(lambda v: v, x)
    with pytest.raises(GroundupError, match="without targets y there is no loss and no update"):
        explain(nn.Linear(4, 3), x, loss=nn.Mse())
    with pytest.raises(ShapeError, match=r"the loss has shape \(2, 4\); a step begins from a"):
        explain(nn.Linear(4, 4), x, x, nn.Mse(reduction="none"))
    with pytest.raises(ShapeError, match="last length must be 5"):
        explain(nn.Linear(5, 3), x)


def test_it_shows_itself_as_text_html_and_svg():
    model, x, y = CASES["mlp"]
    made = explain(model, x, y)
    assert isinstance(made, Explanation)
    assert repr(made) == "<Explanation of Sequential: .print() or .save('step.html') shows it>"
    for part in ("dw1 = x.T @ dh1", "layers[1] Relu (16, 7)", "total", "SymPy proves"):
        assert part in " ".join(str(made).split())
    assert made._repr_svg_() == made.svg
    html = made._repr_html_()
    assert r"$$\mathrm{dx}_{0,0} = " in html
    assert "data:image/svg+xml;base64," in html


def test_the_terminal_gets_all_of_it(capsys):
    explain(Feed(), normal(2, 6), normal(2, 6)).print()
    out = capsys.readouterr().out
    for part in ("def step(x, y,", "Feed", "parameters", "SymPy proves that its bwd"):
        assert part in out


def test_saved_files(tmp_path):
    made = explain(*CASES["mlp"])
    made.save(tmp_path / "step.svg")
    assert ElementTree.parse(tmp_path / "step.svg").getroot().tag.endswith("svg")
    made.save(str(tmp_path / "step.HTML"))
    page = (tmp_path / "step.HTML").read_text(encoding="utf-8")

    class Tags(HTMLParser):
        def __init__(self):
            super().__init__()
            self.open = []

        def handle_starttag(self, tag, attrs):
            if tag not in ("meta", "img"):
                self.open.append(tag)

        def handle_endtag(self, tag):
            assert self.open.pop() == tag

    tags = Tags()
    tags.feed(page)
    assert tags.open == []
    assert "http" not in page.replace("http://www.w3.org", "")
    assert "$$" not in page  # no script to typeset it
    assert "dlogits[0,0] =" in page
    with pytest.raises(GroundupError, match=r"step.png: give a name that ends in .svg or .html"):
        made.save("step.png")


def test_importing_it_imports_nothing_heavy():
    code = (
        "import sys, groundup.explain; "
        "print([m for m in sys.modules if m in ('sympy', 'rich', 'IPython') or m.startswith("
        "'groundup.explain.')])"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "['groundup.explain.api']"
