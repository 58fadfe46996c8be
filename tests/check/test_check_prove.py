"""Proofs: every bwd that ships is proven, and planted bugs are refuted with true numbers."""

from __future__ import annotations

import inspect
import io
import subprocess
import sys
from fractions import Fraction

import numpy as np
import prove_models as models
import pytest
import sympy

import groundup as gu
from groundup import nn
from groundup.check import cases, digits, symbols, zero
from groundup.errors import GradientError, GroundupError, ShapeError

LABELS, KEEP = np.array([0, 2]), np.array([[True, False, True], [False, False, True]])
WEIGHT = np.array([1.0, 2.0, 3.0])
REDUCTIONS = ("mean", "sum", "none")

# What ships, by class: modules in all their options, each with what it is called with.
SHIPPED = {
    nn.Linear: [
        (nn.Linear(3, 2), (2, 3)),
        (nn.Linear(3, 2), (3,)),
        (nn.Linear(3, 2), (2, 2, 3)),
        (nn.Linear(3, 2, bias=False), (2, 3)),
    ],
    nn.Lin: [
        (nn.Lin(np.ones((3, 2)), np.ones(2)), (2, 3)),
        (nn.Lin(np.ones((3, 2)), np.ones(1)), (2, 3)),
        (nn.Lin(np.ones((3, 2)), np.ones((1, 2))), (2, 3)),
        (nn.Lin(np.ones((3, 2))), (2, 3)),
    ],
    nn.Relu: [(nn.Relu(), (2, 3))],
    nn.LeakyRelu: [(nn.LeakyRelu(), (2, 3)), (nn.LeakyRelu(0.3), (2,))],
    nn.Tanh: [(nn.Tanh(), (2, 3))],
    nn.Sigmoid: [(nn.Sigmoid(), (2, 3))],
    nn.Gelu: [(nn.Gelu(), (2, 3)), (nn.Gelu("tanh"), (2, 3))],
    nn.Flatten: [(nn.Flatten(), (2, 3, 2)), (nn.Flatten(), (3,))],
    nn.Mask: [(nn.Mask(), (2, 3), KEEP), (nn.Mask(1 / (1 - 0.2)), (2, 3), KEEP)],
    nn.Mse: [
        *((nn.Mse(r), (2, 3), (2, 3)) for r in REDUCTIONS),
        (nn.Mse(), (3, 1), (3,)),
        (nn.Mse("none"), (3,), (3, 1)),
    ],
    nn.Mae: [
        *((nn.Mae(r), (2, 2), (2, 2)) for r in REDUCTIONS),
        (nn.Mae(), (3, 1), (3,)),
    ],
    nn.CrossEntropy: [
        *((nn.CrossEntropy(reduction=r), (2, 3), LABELS) for r in REDUCTIONS),
        *((nn.CrossEntropy(None, 0.1, r), (2, 3), LABELS) for r in REDUCTIONS),
        *((nn.CrossEntropy(WEIGHT, 0.0, r), (2, 3), LABELS) for r in REDUCTIONS),
        *((nn.CrossEntropy(WEIGHT, 0.1, r), (2, 3), LABELS) for r in REDUCTIONS),
        (nn.CrossEntropy(label_smoothing=1.0), (2, 3), [1, 1]),
    ],
    nn.BinaryCrossEntropyWithLogits: [
        *((nn.BinaryCrossEntropyWithLogits(None, r), (2, 2), (2, 2)) for r in REDUCTIONS),
        *((nn.BinaryCrossEntropyWithLogits([2.0, 3.0], r), (2, 2), (2, 2)) for r in REDUCTIONS),
        (nn.BinaryCrossEntropyWithLogits(4.0), (2, 1), (2,)),
        (nn.BinaryCrossEntropyWithLogits(), (3,), np.array([0, 1, 1])),
    ],
}  # fmt: skip
# Classes whose bwd cannot be proven, with the reason; test_nn_layers checks them with numbers.
NOT_PROVEN: dict[type[nn.Module], str] = {}


def with_bwd():
    """Every class in groundup.nn that has a rule of its own."""
    found, stack = set(), [nn.Module]
    while stack:
        for kind in stack.pop().__subclasses__():
            stack.append(kind)
            if kind.__module__.startswith("groundup.nn") and getattr(kind, "bwd", None):
                found.add(kind)
    return found


def test_nothing_that_ships_is_forgotten():
    assert with_bwd() == SHIPPED.keys() | NOT_PROVEN.keys()
    for kind, rows in SHIPPED.items():
        assert all(type(module) is kind for module, *_ in rows)


@pytest.mark.parametrize(
    ("module", "args"),
    [pytest.param(m, a, id=f"{m!r:.60} {a!r:.20}") for rows in SHIPPED.values() for m, *a in rows],
)
def test_every_bwd_that_ships_is_proven(module, args):
    proof = gu.prove(module, *args)
    assert proof, proof
    proof.assert_ok()
    assert proof.rule == "its bwd"
    assert proof.gradients
    assert all(g.gap < 1e-40 for g in proof.gradients)


RIGHT = {
    "layernorm": (models.LayerNorm(3), (2, 3)),
    "batchnorm": (models.BatchNorm(2), (3, 2)),
    "batchnorm in evaluation": (models.BatchNorm(2).eval(), (3, 2)),
    "rms norm": (models.RmsNorm(), (2, 3)),
    "softmax": (models.Softmax(), (2, 3)),
    "attention": (models.Attention(), (2, 2), (3, 2), (3, 2)),
    "lstm cell": (models.LstmCell(2, 2), (1, 2), (1, 2), (1, 2)),
    "swish": (models.Swish(), (2, 3)),
    "mish": (models.Mish(), (2, 3)),
    "logsumexp": (models.LogSumExp(), (2, 3)),
    "max": (models.MaxRow(), (2, 3)),
    "huber": (models.HuberLoss(), (2, 2), (2, 2)),
    "power": (models.Power(), (2, 2)),
    "cosine": (models.Cosine(), (2, 2), (2, 2)),
}


@pytest.mark.parametrize("name", RIGHT)
def test_right_bwds_are_proven(name):
    module, *args = RIGHT[name]
    gu.prove(module, *args).assert_ok()


WRONG = {
    "factor": (models.HalfMse(), ["inp", "targ"], (2, 3), (2, 3)),
    "missing mean": (models.SumMse(), ["inp", "targ"], (2, 3), (2, 3)),
    "mean over rows": (models.RowsMse(), ["inp", "targ"], (2, 3), (2, 3)),
    "sign": (models.SignMae(), ["targ"], (2, 3), (2, 3)),
    "mask of another tensor": (models.MaskOfGradient(), ["x"], (2, 3)),
    "shifted mask": (models.ShiftedRelu(), ["x"], (2, 3)),
    "wrong far out": (models.FarRelu(), ["x"], (2, 3)),
    "transposed": (models.Transposed(3, 3), ["x"], (2, 3)),
    "weight transposed": (models.WeightTransposed(3, 3), ["w"], (2, 3)),
    "left out": (models.NoBias(3, 2), ["b"], (2, 3)),
    "first row": (models.FirstRowBias(3, 2), ["b"], (2, 3)),
    "softmax's diagonal": (models.DiagonalSoftmax(), ["x"], (2, 3)),
    "layernorm's mean": (models.ForgetsMean(3), ["x"], (2, 3)),
    "eps outside": (models.EpsOutside(3), ["x", "gain"], (2, 3)),
    "attention's scale": (models.NoScale(), ["q", "k"], (2, 2), (3, 2), (3, 2)),
    "input for output": (models.TanhOfInput(), ["x"], (2, 3)),
    "gelu's density": (models.NoDensity(), ["x"], (2, 3)),
    "a weight": (models.Unweighted(WEIGHT), ["logits"], (2, 3), LABELS),
    "an output forgotten": (
        models.ForgetsCell(2, 1), ["c", "x", "h", "w", "u"], (1, 2), (1, 1), (1, 1),
    ),
    "outputs mixed up": (models.TwoInBoth(), ["a", "b"], (2, 3), (2, 3)),
}  # fmt: skip


def at_point(module, args, names, example):
    """The module in float64 with a counterexample's numbers, and a function that runs it."""
    module.double()
    for name, member in module.named_members():
        if isinstance(member, nn.Parameter | nn.Buffer):
            member.data = example.at[name].copy()
    given = [
        gu.Tensor(example.at[n], dtype=np.float64) if isinstance(a, tuple) else gu.Tensor(a)
        for n, a in zip(names, args, strict=True)
    ]
    douts = [v for n, v in sorted(example.at.items()) if n.startswith("dout")]

    def height():
        out = module(*given)
        outs = out if isinstance(out, tuple) else (out,)
        return sum(
            (o * gu.Tensor(d, dtype=np.float64)).sum() for o, d in zip(outs, douts, strict=True)
        )

    return given, height


@pytest.mark.parametrize("name", WRONG)
def test_wrong_bwds_are_refuted_with_numbers_that_numpy_confirms(name):
    module, wrong, *args = WRONG[name]
    proof = gu.prove(module, *args)
    assert not proof
    assert [g.name for g in proof.gradients if g.status == "refuted"] == wrong, proof
    assert all(g.status == "proven" for g in proof.gradients if g.name not in wrong)
    names = list(inspect.signature(module.forward).parameters)
    names = ["x"] if len(args) == 1 else names
    for gradient in proof.gradients:
        example = gradient.counterexample
        if example is None:
            continue
        given, height = at_point(module, args, names, example)
        owner = dict(zip(names, given, strict=True)) | dict(module.named_parameters())
        tensor = owner[gradient.name]
        tensor.requires_grad_()
        height().backward()
        claimed = 0.0 if tensor.g is None else float(tensor.g.data[example.entry])
        heights = []
        for h in (1e-6, -1e-6):
            moved = example.at[gradient.name].copy()
            moved[example.entry] += h
            tensor.data = moved
            heights.append(float(height()))
        slope = (heights[0] - heights[1]) / 2e-6
        assert claimed == pytest.approx(example.claimed, rel=1e-9, abs=1e-12)
        assert slope == pytest.approx(example.derivative, rel=1e-6, abs=1e-8)
        assert abs(claimed - example.derivative) > 1e-7 * abs(claimed)


def test_what_is_said_of_a_wrong_bwd():
    text = str(gu.prove(models.HalfMse(), (2, 3), (2, 3)))
    assert text.startswith("HalfMse((2, 3), (2, 3)): its bwd\n  dinp   REFUTED    it is 1/2 times")
    assert "dinp[0,0] is       dout*(inp[0,0] - targ[0,0])/6" in text
    assert "must be  dout*(inp[0,0] - targ[0,0])/3" in text
    assert "with inp[0,0] = 0.53, targ[0,0] = 1.47, dout = -1.18" in text
    assert "it is 0.1848666667, and the derivative 0.3697333333" in text
    said = {
        "sign": "it has the other sign",
        "left out": "it is zero: does bwd leave it out?",
        "attention's scale": "it is 1.414213562 times the derivative",
        "wrong far out": "not where x[0,0] > 0 and x[0,0] - 5 > 0",
        "shifted mask": "entries differ, at 3 points",
    }
    for name, words in said.items():
        module, _, *args = WRONG[name]
        with pytest.raises(GradientError, match="REFUTED") as caught:
            gu.prove(module, *args).assert_ok()
        assert words in str(caught.value)


def test_what_is_said_of_a_right_bwd():
    text = str(gu.prove(nn.LeakyRelu(), (2, 3)))
    assert "dx  PROVEN     identical expressions; by cases, in up to 2 regions for an" in text
    assert "the borders of x[0,0] > 0, x[0,1] > 0, x[0,2] > 0, ..." in text
    assert "borders" not in str(gu.prove(nn.Tanh(), (2, 3)))


def test_it_prints_as_a_table():
    from rich.console import Console

    console = Console(width=100, file=io.StringIO())
    console.print(gu.prove(models.SignMae(), (1,), (1,)))
    text = console.file.getvalue()
    assert "proven" in text
    assert "refuted" in text
    assert "must be" in text


def test_a_module_without_a_bwd_is_proven_through_its_parts():
    model = nn.Sequential(nn.Linear(2, 2), nn.Tanh(), nn.Linear(2, 1))
    proof = gu.prove(model, (2, 2))
    proof.assert_ok()
    assert proof.rule == "backward of its parts"
    assert [g.name for g in proof.gradients] == ["x", "w1", "b1", "w2", "b2"]
    bad = nn.Sequential(nn.Linear(2, 2), models.TanhOfInput())
    assert not gu.prove(bad, (1, 2))
    assert gu.prove(nn.Sequential(lambda x: (x**2).cumsum(1)[:, 1:]), (2, 3))
    assert not gu.prove(nn.Sequential(lambda x: x.detach() * x), (2,))


def test_frozen_parameters_and_modes_are_the_copys_business():
    model = nn.Linear(2, 2).requires_grad_(False)
    before = {n: p.data.copy() for n, p in model.named_parameters()}
    gu.prove(model, (2, 2)).assert_ok()
    assert all(not p.requires_grad and p.dtype == np.float32 for p in model.parameters())
    for n, p in model.named_parameters():
        np.testing.assert_array_equal(p.data, before[n])


def test_float_examples_only_give_shapes():
    x = np.zeros((2, 3), np.float32)  # all on relu's kink
    gu.prove(nn.Relu(), x).assert_ok()
    gu.prove(nn.Relu(), gu.Tensor(x)).assert_ok()
    gu.prove(nn.Relu(), ()).assert_ok()


def test_an_argument_may_be_a_constant():
    class OneSided(nn.Mse):
        def bwd(self, out, inp, targ):
            inp.g = 2 * (inp - targ) * out.g / inp.size

    assert not gu.prove(OneSided(), (2,), (2,))
    proof = gu.prove(OneSided(), (2,), (2,), constant=["targ"])
    proof.assert_ok()
    assert [g.name for g in proof.gradients] == ["inp"]


def test_what_is_only_nearly_right_is_undecided():
    class Rounded(nn.Gelu):
        """The density's constant, with ten digits."""

        def bwd(self, out, inp):
            density = (-0.5 * inp * inp).exp() * 0.3989422804
            inp.g = (0.5 * (1 + (inp * 0.5**0.5).erf()) + inp * density) * out.g

    proof = gu.prove(Rounded(), (2,))
    assert not proof
    (gradient,) = proof.gradients
    assert gradient.status == "undecided"
    assert 1e-13 < gradient.gap < 1e-9
    assert "no proof found for dx[0]; at 3 exact points the two agree within" in gradient.how


def test_a_captured_array_is_what_it_is():
    class Rotated(nn.Module):
        """bwd uses that the matrix is orthogonal: inverse for transposed."""

        def __init__(self):
            self.turn = np.array([[0.6, 0.8], [-0.8, 0.6]])

        def forward(self, inp):
            return inp @ gu.Tensor(self.turn, dtype=np.float64)

        def bwd(self, out, inp):
            inp.g = out.g @ gu.Tensor(np.array([[0.6, -0.8], [0.8, 0.6]]), dtype=np.float64)

    gu.prove(Rotated(), (2, 2)).assert_ok()


class Reads(nn.Module):
    def forward(self, x):
        return x * 2 if float(x.sum().data) > 0 else x


@pytest.mark.parametrize(
    ("module", "args", "message"),
    [
        (nn.Relu, [(2, 3)], r"prove takes a Module, not <class .*; make one: Relu\(\.\.\.\)"),
        (
            np.tanh,
            [(2, 3)],
            r"prove takes a Module, not <ufunc.*wrap functions: nn.Sequential\(f\)",
        ),
        (nn.Relu(), [], r"prove\(Relu\): no symbols: give the shapes"),
        (nn.Relu(), [3], r"argument 1 is 3: is the shape \(3,\) meant\?"),
        (nn.Relu(), [(2, 0)], r"argument 1 has shape \(2, 0\): of no entries nothing"),
        (nn.Relu(), [(2, "a")], r"argument 1 is \(2, 'a'\), which is no shape"),
        (nn.Relu(), [np.array(["a"])], r"argument 1 is an array of <U1"),
        (nn.Linear(784, 10), [(2, 784)], r"prove\(Linear\): 9418 symbols .*; at most 100"),
        (nn.Mse(), [(2, 3)], r"prove\(Mse\): .*missing 1 .*'targ'; its forward takes inp, targ"),
        (nn.Linear(3, 2), [(2, 4)], r"Linear\(3, 2\): the input's last length must be 3"),
        (nn.Dropout(), [(2, 3)], r"prove\(Dropout\): .*draws random numbers.*call eval\(\) first"),
        (nn.Sequential(lambda x: x > 0), [(2,)], r"nothing in it is differentiable"),
        (nn.Sequential(lambda x: x.argmax(1) * x[:, 0]), [(2, 3)], "op argmax computes; check_lay"),
        (nn.Sequential(lambda x: (x - 9).log()), [(2,)], "it makes NaN or infinity of all numbers"),
        (Reads(), [(2,)], "reads the value of a tensor"),
    ],
)
def test_what_cannot_be_proven_is_an_error(module, args, message):
    with pytest.raises(GroundupError, match=message):
        gu.prove(module, *args)


def test_unknown_constants_are_named():
    with pytest.raises(
        GroundupError, match=r"constant=\['y'\], but the arguments are called inp, targ"
    ):
        gu.prove(nn.Mse(), (2,), (2,), constant=["y"])
    with pytest.raises(ShapeError, match="the input has shape"):
        gu.prove(nn.Mse(), (2, 3), (3, 2))


def test_sympy_is_imported_when_it_is_needed():
    code = "import sys, groundup; print(*(m in sys.modules for m in ('sympy', 'mpmath')))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.split() == ["False", "False"]


# What proofs are made of

x, y, z = sympy.symbols("x y z", real=True)
VAR = (x**2 + y**2 + z**2) / 3 - ((x + y + z) / 3) ** 2
SQUARES = sum((v - (x + y + z) / 3) ** 2 for v in (x, y, z))


@pytest.mark.parametrize(
    "difference",
    [
        (x + y) ** 2 - x**2 - 2 * x * y - y**2,
        sympy.exp(x) / (1 + sympy.exp(x)) - 1 / (1 + sympy.exp(-x)),
        sympy.exp(x - y) * sympy.exp(y) - sympy.exp(x),
        sympy.exp(-(x**2) / 2) - sympy.exp(-(x**2) / 6) ** 3,
        sympy.exp(x / (1 + y)) - sympy.exp(x * (1 - y) / (1 - y**2)),
        sympy.tanh(x) - 1 + 2 / (sympy.exp(2 * x) + 1),
        sympy.tanh(sympy.log(1 + sympy.exp(x))) - 1 + 2 / ((1 + sympy.exp(x)) ** 2 + 1),
        1 / sympy.sqrt(VAR + 1) - sympy.sqrt(3) / sympy.sqrt(SQUARES + 3),
        sympy.sqrt(x + sympy.sqrt(y)) ** 3 - sympy.sqrt(x + sympy.sqrt(y)) * (x + sympy.sqrt(y)),
        sympy.sqrt(6) * sympy.sqrt(x) - sympy.sqrt(2) * sympy.sqrt(3) * sympy.sqrt(x),
        1 / sympy.sqrt(2 * sympy.pi) - sympy.sqrt(1 / sympy.pi) * sympy.sqrt(2) / 2,
        sympy.log(1 + sympy.exp(x)) - x - sympy.log(1 + sympy.exp(-x)),
        sympy.log(6 * x**2 / (y + 1)) - sympy.log(2 * x) - sympy.log(3 * x) + sympy.log(y + 1),
        sympy.sin(x) ** 4 + 2 * sympy.cos(x) ** 2 - sympy.cos(x) ** 4 - 1,
        sympy.erf(x * (x + 1)) - sympy.erf(x**2 + x),
        sympy.erf(x * (1 - x)) + sympy.erf(x**2 - x),
        sympy.cos(x * (1 - x)) - sympy.cos(x**2 - x),
        sympy.sin(x * (1 - x)) + sympy.sin(x**2 - x),
        sympy.sin(x * (1 - x)) ** 2 + sympy.cos(x**2 - x) ** 2 - 1,
        sympy.sqrt((1 + sympy.sqrt(x)) ** 2 + 1) - sympy.sqrt(2 + 2 * sympy.sqrt(x) + x),
        sympy.exp(x / (1 + x)) * sympy.exp(1 / (1 + x)) - sympy.exp(1),
        sympy.exp((z + 3) / (1 + x)) - sympy.exp(z / (1 + x)) * sympy.exp(3 / (1 + x)),
        x**y * y / x - y * x ** (y - 1),
        x ** (2 * y) - sympy.exp(y * sympy.log(x)) ** 2,
        sympy.Float(0.5) - sympy.Rational(1, 2),
    ],
)  # fmt: skip
def test_what_is_zero_is_shown_to_be(difference):
    assert zero.how_zero(difference) in zero.WAYS


@pytest.mark.parametrize(
    "difference",
    [
        x**2 - x**2 * (1 + sympy.Rational(1, 10**9)),
        sympy.exp(x) - 1 - x,
        sympy.exp(x) ** 2 - sympy.exp(x**2),
        sympy.tanh(x) - sympy.tanh(y),
        sympy.sqrt(x**2 + 1) - x - 1,
        sympy.log(1 + sympy.exp(x)) - sympy.log(1 + sympy.exp(-x)),
        sympy.Float(0.1) - sympy.Float(0.3),
        sympy.sqrt(2) - sympy.Rational(14142135623731, 10**13),
        sympy.sin(x) ** 2 - sympy.cos(x) ** 2,
        sympy.oo - x,
        sympy.nan,
    ],
)
def test_what_is_not_zero_is_not(difference):
    assert zero.how_zero(difference) is None


def test_cases_are_taken_one_by_one():
    def shown(e):
        return cases.shown(cases.opened(np.array([e], object))[0])

    m = sympy.Piecewise((x, x > y), (y, True))
    m = sympy.Piecewise((m, m > z), (z, True))
    right = sympy.diff(m, x) - sympy.Piecewise((1, sympy.Eq(x, m)), (0, True))
    assert shown(right).how == zero.IDENTICAL
    assert shown(right).regions == 4
    wrong = shown(sympy.diff(m, x) - sympy.Piecewise((1, sympy.Eq(y, m)), (0, True)))
    assert wrong.how is None
    assert set(wrong.region) == {x - y, x - z}
    assert wrong.left == 1
    assert shown(sympy.sqrt(x**2) - sympy.Piecewise((x, x >= 0), (-x, True))).how
    softplus = sympy.Piecewise((-x, x < 0), (0, True)) + sympy.log(1 + sympy.exp(-abs(x)))
    softplus = cases.opened(np.array([softplus], object))[0]
    assert shown(sympy.diff(softplus, x) - 1 / (1 + sympy.exp(-x)) + 1).how
    many = sympy.symbols("s:9", real=True)
    other = sum(sympy.Piecewise((-s, s < 0), (s, True)) for s in many)
    assert "more than 128 regions" in shown(sum(map(abs, many)) - other).reason
    assert shown(sum(map(abs, many[:7])) - other.subs(dict.fromkeys(many[7:], 0))).regions == 128


def test_a_condition_on_what_is_zero_is_decided():
    for c, holds in ((x * (x + 1) >= x**2 + x, 1), (x * (x + 1) > x**2 + x, 0)):
        e = sympy.Piecewise((1, c), (0, True))
        assert cases.shown(e - holds).how == zero.IDENTICAL
        assert cases.shown(e - 1 + holds).how is None


def random_expression(rng, depth):
    kind = rng.integers(0, 4 if depth == 0 else 14)
    if kind < 3:
        return (x, y, z)[kind]
    if kind == 3:
        return sympy.Rational(int(rng.integers(1, 5)), int(rng.integers(1, 4)))
    a, b = (random_expression(rng, depth - 1) for _ in range(2))
    one = sympy.Integer(1)
    return (
        a + b, a * b, a - b, sympy.exp(a), sympy.tanh(a), sympy.sqrt(a**2 + 1),
        sympy.log(1 + a**2), 1 / (1 + sympy.exp(-a)), sympy.erf(a), one / a**2 if a else one,
    )[kind - 4]  # fmt: skip


@pytest.mark.parametrize("seed", range(4))
def test_random_expressions_are_zero_where_numbers_say_so(seed):
    rng = np.random.default_rng(seed)
    for _ in range(20):
        e = random_expression(rng, 3)
        slope, other = sympy.diff(e, x), sympy.diff(e.rewrite(sympy.exp), x)
        e3 = e * sympy.exp(-x) ** 3
        pairs = [
            (e, random_expression(rng, 2)),
            (slope, sympy.expand(other)),
            (e3, e / sympy.exp(x) ** 2 / sympy.exp(x)),
            (e, e * (1 + sympy.Rational(1, 10**6))),
        ]
        for left, right in pairs:
            gaps = []
            for place in rng.integers(-150, 150, (3, 3)):
                at = {s: Fraction(int(n), 97) for s, n in zip((x, y, z), place, strict=True)}
                gap, size = digits.values([left - right, left], at)
                if gap is not None and size is not None:
                    gaps.append(abs(gap) / (1 + abs(size)))
            if gaps:
                is_zero = all(gap < 1e-35 for gap in gaps)
                assert (zero.how_zero(left - right) is not None) == is_zero, (left, right)


def test_regions_that_are_empty_are_left_out():
    # x > y, y > z and z > x at once: what would be there does not count
    three = [sympy.Piecewise((1, a > b), (0, True)) for a, b in ((x, y), (y, z), (z, x))]
    product = three[0] * three[1] * three[2]
    assert cases.shown(product).how == zero.IDENTICAL
    assert cases.shown(product).regions == 6


def test_values_are_computed_to_many_digits():
    third = sympy.Rational(1, 3)
    found = digits.values(
        [sympy.exp(x) * third, sympy.sqrt(x - 3), sympy.log(x - 2), 1 / (x - 2), sympy.erf(x)],
        {x: Fraction(2)},
    )
    import mpmath

    with mpmath.workdps(digits.DIGITS):
        assert abs(found[0] - mpmath.exp(2) / 3) < mpmath.mpf(10) ** -48
        assert found[1:4] == [None, None, None]  # complex, and infinite
        assert found[4] == mpmath.erf(2)
    with pytest.raises(symbols.Uninterpreted, match="gamma has no value here"):
        digits.values([sympy.gamma(x)], {x: Fraction(2)})
