"""What SymPy derives against finite differences, and what is said of a bwd, right or wrong."""

from __future__ import annotations

import numpy as np
import pytest
import sympy
from explain_models import Attention, Feed, normal

import groundup as gu
from groundup import nn
from groundup.check import algebra, symbols
from groundup.explain import explain
from groundup.explain.small import small


class Norm(nn.Module):
    """Layer normalisation without a bwd: autograd of its ops."""

    def __init__(self, n):
        self.gain = nn.Parameter(np.ones(n, np.float32))

    def forward(self, x):
        d = x - x.mean(-1, keepdims=True)
        return d / ((d * d).mean(-1, keepdims=True) + 1e-5).sqrt() * self.gain


class Written(nn.Module):
    """Softmax as many write it."""

    def forward(self, x):
        e = (x - x.amax(1, keepdims=True)).exp()
        return e / e.sum(1, keepdims=True)


class Mixed(nn.Module):
    """Many ops at once."""

    def forward(self, x, y):
        z = gu.concatenate([x.clamp(-1.0, 1.0) ** 3, gu.where(x > y, x * y, y / 2)], axis=1)
        return z[:, 1:].T.abs().minimum(2.0) + gu.maximum(x, y).sum() - gu.log1p(gu.exp(-x)).mean()


class Function(nn.Module):
    def __init__(self, function):
        self.function = function

    def forward(self, x):
        return self.function(x)


FLOATS, UNITS, LABELS = normal(4, 7), normal(4, 7) > 0, np.array([0, 3, 6, 2])
LAYERS = {
    "linear": (nn.Linear(7, 5), FLOATS, None, None),
    "linear of rows of rows": (nn.Linear(7, 5), normal(4, 3, 7), None, None),
    "no bias": (nn.Linear(7, 5, bias=False), FLOATS, None, None),
    "relu": (nn.Relu(), FLOATS, None, None),
    "leaky relu": (nn.LeakyRelu(), FLOATS, None, None),
    "tanh": (nn.Tanh(), FLOATS, None, None),
    "sigmoid": (nn.Sigmoid(), FLOATS, None, None),
    "gelu": (nn.Gelu(), FLOATS, None, None),
    "gelu of gpt-2": (nn.Gelu("tanh"), FLOATS, None, None),
    "flatten": (nn.Flatten(), normal(4, 3, 2), None, None),
    "dropout": (nn.Dropout(0.2), FLOATS, None, None),
    "own rule": (Feed(), normal(4, 6), None, None),
    "norm": (Norm(7), FLOATS, None, None),
    "mse": (nn.Tanh(), FLOATS, FLOATS, None),
    "mae": (nn.Tanh(), FLOATS, FLOATS, nn.Mae()),
    "cross-entropy": (nn.Tanh(), FLOATS, LABELS, None),
    "smoothed": (nn.Tanh(), FLOATS, LABELS, nn.CrossEntropy(label_smoothing=0.1)),
    "weighted": (nn.Tanh(), FLOATS, LABELS, nn.CrossEntropy(weight=np.arange(1, 8))),
    "summed": (nn.Tanh(), FLOATS, LABELS, nn.CrossEntropy(reduction="sum")),
    "bce": (
        nn.Tanh(),
        FLOATS,
        UNITS.astype(np.float32),
        nn.BinaryCrossEntropyWithLogits(),
    ),
}


def derivation(name):
    model, x, y, loss = LAYERS[name]
    made = explain(model, x, y, loss).derivations
    return made[-1 if y is not None else 0]


@pytest.mark.parametrize("name", LAYERS)
def test_every_layer_and_loss_is_derived_and_its_bwd_proved(name):
    found = derivation(name)
    assert found.agrees, found.text
    assert found.proved, found.text
    assert "SymPy proves" in found.text


@pytest.mark.parametrize("name", [*LAYERS, "written", "mixed"])
def test_derivatives_equal_finite_differences(name):
    extra = {"written": (Written(), FLOATS), "mixed": (Mixed(), (normal(3, 3), normal(3, 3)))}
    model, x, y, loss = (*extra[name], None, None) if name in extra else LAYERS[name]
    calls = explain(model, x, y, loss)._step.calls
    one = small(next(c for c in calls if c.of_loss == (y is not None)))
    given = {
        n: symbols.symbols(n, a.shape) if n in one.variables else a for n, a in one.inputs.items()
    }
    out = symbols.expressions(symbols.interpret(one.program, given)[one.outs[0]])
    flat = [s for n in given if n in one.variables for s in given[n].flat]
    point = [v for n in given if n in one.variables for v in one.inputs[n].flat]
    assert one.gradients
    for variable in one.gradients:
        derived = algebra.gradient(out, given["dout"], given[variable])
        values = algebra.evaluated(list(derived.flat), flat)(point)
        for k, value in enumerate(values):
            heights = []
            for h in (1e-6, -1e-6):
                moved = one.inputs[variable].copy()
                moved.reshape(-1)[k] += h
                result = one.run({**one.inputs, variable: moved})[one.outs[0]]
                heights.append(float(np.vdot(result, one.inputs["dout"])))
            assert value == pytest.approx((heights[0] - heights[1]) / 2e-6, rel=1e-6, abs=1e-7)


def test_what_is_simplest_through_the_output_is_written_so():
    def line(name, left):
        return [x.text for x in derivation(name).lines if x.text.startswith(left)]

    assert line("sigmoid", "dx")[0] == "dx = dout⋅out⋅(1 - out)"
    assert [x.latex for x in derivation("tanh").lines if "dx" in x.latex][-2].endswith(
        r"\mathrm{dout} \left(1 - \mathrm{out}^{2}\right)"
    )
    assert "⎧1  for x > 0" in derivation("relu").text
    assert "⎩0  otherwise" in derivation("relu").text
    assert "0.01⋅x  otherwise" in derivation("leaky relu").text
    assert "0.044715⋅x" in derivation("gelu of gpt-2").text


def test_a_linear_layer_in_entries_and_in_matrices():
    text = derivation("linear").text
    assert "dx[0,0] = dout[0,0]⋅w[0,0] + dout[0,1]⋅w[0,1]" in text
    assert "dw[0,0] = dout[0,0]⋅x[0,0] + dout[1,0]⋅x[1,0]" in text
    assert "db[0] = dout[0,0] + dout[1,0]" in text
    assert "dx = dout @ w.T\ndw = x.T @ dout\ndb = dout.sum(axis=0)" in text
    latex = derivation("linear").latex
    assert r"{\mathrm{out}}_{n,j} = {b}_{j} + \sum_{i=0}^{2} {w}_{i,j} {x}_{n,i}" in latex


def test_cross_entropy_is_softmax_minus_the_label():
    found = derivation("cross-entropy")
    latex = [line.latex for line in found.lines if line.kind == "formula"]
    assert latex[-2].endswith(r"\frac{\mathrm{dout} \left(p_{0,0} - 1\right)}{2}")
    assert latex[-1].endswith(r"\frac{\mathrm{dout} p_{0,1}}{2}")
    assert "dlogits = (p - target) / len(labels) * dout" in found.text


def test_a_wrong_bwd_is_told_with_numbers():
    class Square(nn.Module):
        def forward(self, inp):
            return inp * inp

        def bwd(self, out, inp):
            inp.g = inp * out.g

    found = explain(Square(), FLOATS).derivations[0]
    assert found.agrees is False
    assert not found.proved
    assert "dx = 2⋅dout⋅x" in found.text
    last = found.lines[-1].text
    assert last.startswith("WRONG: its bwd is not the derivative. dx[")
    own, true = (float(w.strip(".,")) for w in last.split() if w.strip("-.,")[:1].isdigit())
    assert true == pytest.approx(2 * own, rel=1e-4)


def test_a_gradient_that_is_stopped_is_no_bug():
    found = explain(Function(lambda x: x.detach() * x), FLOATS).derivations[0]
    assert found.agrees is False
    assert found.lines[-1].text.startswith("Backward is not the derivative: is a value detached")


def test_a_wrong_sum_in_a_bwd_is_found():
    class Wrong(nn.Linear):
        def bwd(self, out, inp):
            inp.g = out.g @ self.w.T
            self.w.g = inp.T @ out.g
            self.b.g = out.g.sum(0) / len(inp)

    found = explain(Wrong(7, 5), FLOATS).derivations[0]
    assert found.agrees is False
    assert "db[" in found.lines[-1].text


def test_equal_layers_are_derived_once():
    model = nn.Sequential(nn.Linear(7, 9), nn.Relu(), nn.Linear(9, 9), nn.Relu(), nn.LeakyRelu())
    found = explain(model, FLOATS).derivations
    assert [d.layers for d in found] == [
        ("layers[0] Linear",),
        ("layers[1] Relu", "layers[3] Relu"),
        ("layers[2] Linear",),  # square: its small size is another
        ("layers[4] LeakyRelu",),
    ]
    assert found[1].layer == "layers[1] Relu, layers[3] Relu"


@pytest.mark.parametrize(
    ("function", "reason"),
    [
        (lambda x: x[:, 0] * x.argmax(1), "SymPy is not told what the op argmax computes"),
        (lambda x: x > 0, "nothing in it is differentiable"),
        (lambda x: [x, x], "it returns 2 Tensors, not one"),
        (lambda x: x.reshape(28, 1), "does not run at a small size"),
    ],
)
def test_what_cannot_be_derived_is_said_in_one_line(function, reason):
    (found,) = explain(Function(function), FLOATS).derivations
    assert found.agrees is None
    assert len(found.lines) == 1
    assert reason in found.text


def test_a_composite_without_a_rule_is_derived_by_its_parts():
    found = explain(Attention(), normal(2, 3, 8)).derivations
    assert {name for d in found for name in d.layers} == {
        "q Linear", "k Linear", "v Linear", "o Linear"
    }  # fmt: skip


def test_floats_are_read_as_what_they_stand_for():
    exact = symbols.exact_number
    assert exact(0.5) == sympy.Rational(1, 2)
    assert exact(1 / 3) == sympy.Rational(1, 3)
    assert exact(np.sqrt(0.5)) == sympy.sqrt(2) / 2
    assert exact(-np.sqrt(2 / np.pi)) == -sympy.sqrt(2 / sympy.pi)
    assert exact(1 / np.sqrt(2 * np.pi)) == 1 / sympy.sqrt(2 * sympy.pi)
    assert exact(0.044715) == sympy.Rational(44715, 10**6)
    assert exact(0.1234567891234) == sympy.Rational("0.1234567891234")
    assert exact(float("inf")) is sympy.oo
