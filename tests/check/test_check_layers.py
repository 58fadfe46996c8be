"""The layer-by-layer check, itself checked: right layers pass, planted bugs are found."""

import numpy as np
import pytest

import groundup as gu
from groundup import nn
from groundup.check import check_layers


def digits_like(n=6, features=12, classes=4, seed=0):
    rng = np.random.default_rng(seed)
    x = np.maximum(rng.standard_normal((n, features)), 0).astype(np.float32)  # many exact zeros
    return x, rng.integers(0, classes, n)


def model_with(layer):
    return nn.Sequential(nn.Linear(12, 8), layer, nn.Linear(8, 4))


RIGHT = {
    "relu": nn.Relu,
    "relu twice": lambda: nn.Sequential(nn.Relu(), nn.Relu()),
    "leaky after relu": lambda: nn.Sequential(nn.Relu(), nn.LeakyRelu(0.1)),
    "tanh": nn.Tanh,
    "sigmoid": nn.Sigmoid,
    "gelu": nn.Gelu,
    "gelu tanh": lambda: nn.Gelu("tanh"),
    "dropout": lambda: nn.Dropout(0.5),
    "flatten": nn.Flatten,
    "no bias": lambda: nn.Linear(8, 8, bias=False),
}


@pytest.mark.parametrize("name", RIGHT)
def test_right_layers_pass(name):
    rows = check_layers(model_with(RIGHT[name]()), nn.CrossEntropy(), *digits_like())
    assert rows
    assert all(row.ok for row in rows), [row for row in rows if not row.ok]


@pytest.mark.parametrize(
    "loss", [nn.Mse(), nn.Mae(), nn.BinaryCrossEntropyWithLogits()], ids=lambda m: type(m).__name__
)
def test_right_losses_pass(loss):
    x, _ = digits_like()
    y = np.random.default_rng(1).random((6, 4)).astype(np.float32)
    rows = check_layers(model_with(nn.Relu()), loss, x, y)
    assert [row.kind for row in rows if row.layer == "loss"] == [type(loss).__name__]
    assert all(row.ok for row in rows)


def test_rows_name_every_gradient_in_the_order_of_the_forward_pass():
    rows = check_layers(model_with(nn.Relu()), nn.CrossEntropy(), *digits_like())
    assert [(r.layer, r.kind, r.gradient, r.shape) for r in rows] == [
        ("layers.0", "Linear", "input", (6, 12)),
        ("layers.0", "Linear", "w", (12, 8)),
        ("layers.0", "Linear", "b", (8,)),
        ("layers.1", "Relu", "input", (6, 8)),
        ("layers.2", "Linear", "input", (6, 8)),
        ("layers.2", "Linear", "w", (8, 4)),
        ("layers.2", "Linear", "b", (4,)),
        ("loss", "CrossEntropy", "input", (6, 4)),
    ]


class Factor(nn.Relu):
    def bwd(self, out, inp):
        inp.g = 2.0 * (inp > 0) * out.g


class Sign(nn.Tanh):
    def bwd(self, out, inp):
        inp.g = (out * out - 1.0) * out.g


class NoMask(nn.Relu):
    def bwd(self, out, inp):
        inp.g = out.g


class MaskOfGradient(nn.Relu):
    def bwd(self, out, inp):
        inp.g = (out.g > 0) * out.g


class InputForOutput(nn.Tanh):
    def bwd(self, out, inp):
        inp.g = (1.0 - inp * inp) * out.g


class Missing(nn.Sigmoid):
    def bwd(self, out, inp):
        pass


class OneEntry(nn.Sigmoid):
    """Wrong in one entry only."""

    def bwd(self, out, inp):
        wrong = np.ones(inp.shape)
        wrong[2, 3] = 1.01
        inp.g = out * (1.0 - out) * out.g * wrong


class BiasMean(nn.Linear):
    def __init__(self):
        super().__init__(8, 8)

    def bwd(self, out, inp):
        inp.g = out.g @ self.w.T
        self.w.g = inp.T @ out.g
        self.b.g = out.g.mean(0)


class WeightTransposed(BiasMean):
    def bwd(self, out, inp):
        inp.g = out.g @ self.w.T
        self.w.g = (inp.T @ out.g).T
        self.b.g = out.g.sum(0)


class InputTransposed(BiasMean):
    def bwd(self, out, inp):
        inp.g = out.g @ self.w
        self.w.g = inp.T @ out.g
        self.b.g = out.g.sum(0)


PLANTED = {
    Factor: "input",
    Sign: "input",
    NoMask: "input",
    MaskOfGradient: "input",
    InputForOutput: "input",
    Missing: "input",
    OneEntry: "input",
    BiasMean: "b",
    WeightTransposed: "w",
    InputTransposed: "input",
}


@pytest.mark.parametrize("layer", PLANTED, ids=lambda c: c.__name__)
def test_planted_bugs_are_found_and_named(layer):
    rows = check_layers(model_with(layer()), nn.CrossEntropy(), *digits_like())
    wrong = [(r.layer, r.kind, r.gradient) for r in rows if not r.ok]
    assert wrong == [("layers.1", layer.__name__, PLANTED[layer])]
    (row,) = (r for r in rows if not r.ok)
    assert row.vs_ops is not None
    assert row.vs_ops > 1e-4
    assert row.vs_differences > 1e-4


def test_a_wrong_loss_is_found():
    class NoMean(nn.Mse):
        def bwd(self, out, inp, targ):
            inp.g = 2.0 * (inp - targ) * out.g

    x, _ = digits_like()
    rows = check_layers(model_with(nn.Relu()), NoMean(), x, np.zeros((6, 4), np.float32))
    assert [r.layer for r in rows if not r.ok] == ["loss"]


def test_a_bwd_around_submodules_is_checked_too():
    class Block(nn.Module):
        def __init__(self):
            self.lin = nn.Linear(8, 8)

        def forward(self, inp):
            return (inp + self.lin(inp)).tanh()

        def bwd(self, out, inp):
            inp.g = out.g * 123.0

    rows = check_layers(model_with(Block()), nn.CrossEntropy(), *digits_like())
    wrong = [(r.layer, r.gradient) for r in rows if not r.ok]
    assert wrong == [("layers.1", "input"), ("layers.1", "lin.w"), ("layers.1", "lin.b")]


def test_parameters_beside_submodules_have_rows():
    class Scaled(nn.Module):
        def __init__(self):
            self.scale, self.relu = nn.Parameter([1.5]), nn.Relu()

        def forward(self, inp):
            return self.relu(inp * self.scale)

    rows = check_layers(model_with(Scaled()), nn.CrossEntropy(), *digits_like())
    assert [(r.gradient, r.ok) for r in rows if r.layer == "layers.1"] == [
        ("input", True),
        ("scale", True),
    ]


def test_a_layer_without_bwd_is_held_against_differences_only():
    class Square(nn.Module):
        def forward(self, inp):
            return inp * inp

    rows = check_layers(model_with(Square()), nn.CrossEntropy(), *digits_like())
    (row,) = (r for r in rows if r.kind == "Square")
    assert row.vs_ops is None
    assert row.ok


def test_a_wrong_op_is_found_by_differences():
    class WrongSquare(gu.Op):
        def forward(self, x):
            return x * x

        def bwd(self, out, x):
            x.g = x * out.g

    wrong_square = WrongSquare()

    class Square(nn.Module):
        def forward(self, inp):
            return wrong_square(inp)

    rows = check_layers(model_with(Square()), nn.CrossEntropy(), *digits_like())
    (row,) = (r for r in rows if r.kind == "Square")
    assert not row.ok


def test_the_model_is_left_alone():
    model, (x, y) = model_with(nn.Relu()), digits_like()
    before = model.state_dict()
    check_layers(model, nn.CrossEntropy(), x, y)
    after = model.state_dict()
    assert all((before[k] == after[k]).all() and after[k].dtype == np.float32 for k in before)
    assert all(p.g is None for p in model.parameters())
    assert model.training
    assert all("_forward_hooks" not in vars(m) for m in model.modules())


def test_a_layer_used_twice_is_listed_once():
    shared = nn.Linear(8, 8)
    model = nn.Sequential(nn.Linear(12, 8), shared, nn.Relu(), shared, nn.Linear(8, 4))
    rows = check_layers(model, nn.CrossEntropy(), *digits_like())
    assert [r.gradient for r in rows if r.layer == "layers.1"] == ["input", "w", "b"]
    assert all(r.ok for r in rows)


def test_the_same_seed_gives_the_same_rows():
    model, data = model_with(nn.Tanh()), digits_like()
    first = check_layers(model, nn.CrossEntropy(), *data, seed=3)
    assert first == check_layers(model, nn.CrossEntropy(), *data, seed=3)
