"""Losses against torch and against their own ops; the stable and the refused cases."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from oracle import F32, F64, normal, rng, same, whole
from test_nn_layers import check_layer

import groundup as gu
from groundup import Tensor, nn
from groundup.errors import DtypeError, GroundupError, LabelError, ShapeError

REDUCTIONS = ["mean", "sum", "none"]
PROBABILITIES = rng(8).uniform(0.05, 0.95, (5, 3))
# Exactly representable in float32, in which the losses keep them.
WEIGHT = np.array([0.5, 2.0, 1.25, 0.0])


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize(
    ("inp", "targ"),
    [
        ((5, 3), (5, 3)),
        ((5, 1), (5,)),
        ((5,), (5, 1)),
        ((5,), (5,)),
        ((1, 1), (1,)),
        ((2, 3, 4), (2, 3, 4)),
    ],
)
@pytest.mark.parametrize("name", ["Mse", "Mae"])
def test_mse_and_mae(name: str, inp: Any, targ: Any, reduction: str) -> None:
    theirs = {"Mse": F.mse_loss, "Mae": F.l1_loss}[name]
    check_layer(
        lambda: getattr(nn, name)(reduction=reduction),
        lambda x, y: theirs(x, y.reshape(x.shape), reduction=reduction),
        normal(*inp),
        normal(*targ, seed=1),
    )


@pytest.mark.parametrize("name", ["Mse", "Mae"])
def test_integer_targets(name: str) -> None:
    loss = getattr(nn, name)()
    x = Tensor(np.array([1.5, 2.0], F32), requires_grad=True)
    out = loss(x, np.array([1, 3]))
    assert out.dtype == F32
    assert out.item() == pytest.approx({"Mse": 0.625, "Mae": 0.75}[name])
    out.backward()
    assert x.g.tolist() == {"Mse": [0.5, -1.0], "Mae": [0.5, -0.5]}[name]


def test_mae_at_zero_has_gradient_zero() -> None:
    check_layer(nn.Mae, F.l1_loss, np.array([1.0, 2.0]), np.array([1.0, 2.5]))


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("smoothing", [0.0, 0.1, 1.0])
@pytest.mark.parametrize("weight", [None, WEIGHT], ids=["plain", "weighted"])
def test_cross_entropy(weight: np.ndarray | None, smoothing: float, reduction: str) -> None:
    def theirs(logits: Any, labels: Any) -> Any:
        w = None if weight is None else torch.tensor(weight, dtype=logits.dtype)
        return F.cross_entropy(logits, labels, w, reduction=reduction, label_smoothing=smoothing)

    def make() -> nn.Loss:
        return nn.CrossEntropy(weight, label_smoothing=smoothing, reduction=reduction)

    check_layer(make, theirs, normal(6, 4), np.array([0, 1, 2, 2, 1, 3]))
    check_layer(make, theirs, 3 * normal(1, 4), np.array([1]))


@pytest.mark.parametrize("weight", [None, WEIGHT], ids=["plain", "weighted"])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_cross_entropy_of_huge_logits(smoothing: float, weight: np.ndarray | None) -> None:
    logits = np.array([[1e4, -1e4, 0.0, 9e3], [-1e4, -1e4, -1e4, -1e4], [1e4, 1e4, 1e4, 0]])
    check_layer(
        lambda: nn.CrossEntropy(weight, label_smoothing=smoothing),
        lambda x, y: F.cross_entropy(
            x,
            y,
            None if weight is None else torch.tensor(weight, dtype=x.dtype),
            label_smoothing=smoothing,
        ),
        logits,
        np.array([1, 2, 0]),
    )


@pytest.mark.parametrize("dtype", ["u1", "i2", "i4", "u8"])
def test_cross_entropy_takes_any_integers(dtype: str) -> None:
    logits, labels = normal(6, 4), whole(6)
    expected = F.cross_entropy(torch.tensor(logits), torch.tensor(labels))
    x = Tensor(logits, requires_grad=True)
    out = nn.CrossEntropy()(x, labels.astype(dtype))
    same(out, expected)
    out.backward()
    assert x.g.dtype == F64


def test_cross_entropy_of_two_equal_logits() -> None:
    assert nn.CrossEntropy()(np.zeros((1, 2)), np.array([0])).item() == pytest.approx(np.log(2))


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize(
    "pos_weight", [None, 2.5, np.array([0.5, 1.0, 4.0])], ids=["plain", "one", "each"]
)
def test_binary_cross_entropy(pos_weight: Any, reduction: str) -> None:
    def theirs(x: Any, y: Any) -> Any:
        w = None if pos_weight is None else torch.tensor(pos_weight, dtype=x.dtype)
        return F.binary_cross_entropy_with_logits(x, y, pos_weight=w, reduction=reduction)

    def make() -> nn.Loss:
        return nn.BinaryCrossEntropyWithLogits(pos_weight, reduction=reduction)

    check_layer(make, theirs, normal(5, 3), PROBABILITIES)
    # Certain targets, logits at 0 and far out.
    x = np.array([[0.0, 1e4, -1e4], [-0.0, 30.0, -30.0]])
    check_layer(make, theirs, x, np.array([[0.0, 1.0, 0.0], [1.0, 0.0, 1.0]]), second=False)


@pytest.mark.parametrize(("inp", "targ"), [((5, 1), (5,)), ((5,), (5, 1)), ((4,), (4,))])
def test_binary_cross_entropy_of_columns(inp: Any, targ: Any) -> None:
    check_layer(
        nn.BinaryCrossEntropyWithLogits,
        lambda x, y: F.binary_cross_entropy_with_logits(x, y.reshape(x.shape)),
        normal(*inp),
        rng(1).uniform(0, 1, targ),
    )


@pytest.mark.parametrize(
    "targets", [np.array([0, 1]), np.array([False, True])], ids=["int", "bool"]
)
def test_binary_cross_entropy_takes_classes(targets: np.ndarray) -> None:
    out = nn.BinaryCrossEntropyWithLogits()(Tensor([0.0, 0.0]), targets)
    assert out.dtype == F32
    assert out.item() == pytest.approx(np.log(2))


@pytest.mark.parametrize("name", ["Mse", "Mae", "BinaryCrossEntropyWithLogits"])
def test_a_target_that_requires_a_gradient_alone(name: str) -> None:
    x, y = Tensor(normal(4)), Tensor(rng(2).uniform(0, 1, 4), requires_grad=True)
    getattr(nn, name)()(x, y).backward()
    by_hand = y.g
    with gu.autograd_only():
        getattr(nn, name)()(x, y).backward()
    same(by_hand, y.g)
    assert x.g is None


def test_float64_arrays_meet_float32_predictions() -> None:
    x = Tensor(np.ones(3, F32), requires_grad=True)
    for loss in (nn.Mse(), nn.Mae(), nn.BinaryCrossEntropyWithLogits()):
        assert loss(x, np.full(3, 0.5)).dtype == F32


Z = np.zeros
MSE, MAE, CE, BCE = nn.Mse(), nn.Mae(), nn.CrossEntropy(), nn.BinaryCrossEntropyWithLogits()
SAME = "They must be the same, or differ by a last axis of length 1; broadcasting them would"
RANGE = "targets lie between 0 and 1; these between"
REFUSED: list[tuple[str, Callable[[], Any], type, str]] = [
    ("reduction", lambda: nn.Mse("avg"), GroundupError, 'Mse: reduction is "mean", "sum" or "no'),
    ("broadcast", lambda: MSE(Z((5, 1)), Z((5, 2))), ShapeError, r"\(5, 1\), the target \(5, 2\)"),
    ("row and column", lambda: MAE(Z((1, 5)), Z((5, 1))), ShapeError, SAME),
    ("vector and row", lambda: MSE(Z(5), Z((1, 5))), ShapeError, SAME),
    ("number", lambda: MSE(Z(5), Z(())), ShapeError, SAME),
    ("integers", lambda: MSE(Z(5, int), Z(5)), DtypeError, "Mse: the input is int64; a loss needs"),
    ("empty", lambda: MSE(Z((0, 2)), Z((0, 2))), ShapeError, r"batch is empty \(input \(0, 2\)\)"),
    ("no rows", lambda: CE(Z((0, 2)), Z(0, int)), ShapeError, r"empty \(logits \(0, 2\)\)"),
    (
        "label",
        lambda: CE(Z((2, 3)), np.array([0, 3])),
        LabelError,
        r"label 3 at index 1 is outside",
    ),
    ("negative", lambda: CE(Z((2, 3)), np.array([-1, 0])), LabelError, "label -1 at index 0"),
    ("float labels", lambda: CE(Z((2, 3)), Z(2)), LabelError, r"are integers; these are float64"),
    ("columns", lambda: CE(Z((2, 3)), Z((2, 1), int)), ShapeError, r"are \(2, 3\) and \(2, 1\)"),
    ("label count", lambda: CE(Z((2, 3)), Z(3, int)), ShapeError, r"these are \(2, 3\) and \(3,\)"),
    (
        "one row",
        lambda: CE(Z(3), Z(3, int)),
        ShapeError,
        r"takes logits \(n, classes\) and integer",
    ),
    ("logits", lambda: CE(Z((2, 3), int), Z(2, int)), DtypeError, "logits; these are int64"),
    (
        "weights",
        lambda: nn.CrossEntropy([1.0, 2.0])(Z((2, 3)), Z(2, int)),
        ShapeError,
        "CrossEntropy: 2 class weights for 3 classes",
    ),
    (
        "smoothing",
        lambda: nn.CrossEntropy(label_smoothing=1.5),
        GroundupError,
        r"label_smoothing is between 0 and 1, not 1\.5",
    ),
    ("probability", lambda: BCE(Z(2), np.array([0, 2.0])), LabelError, f"{RANGE} 0 and 2"),
    ("NaN", lambda: BCE(Z(2), np.array([0, np.nan])), LabelError, RANGE),
    ("BCE empty", lambda: BCE(Z(0), Z(0)), ShapeError, "the batch is empty"),
    ("BCE shapes", lambda: BCE(Z((2, 3)), Z(2)), ShapeError, SAME),
]


@pytest.mark.parametrize(
    ("wrong", "kind", "text"), [r[1:] for r in REFUSED], ids=[r[0] for r in REFUSED]
)
def test_refused(wrong: Callable[[], Any], kind: type, text: str) -> None:
    with pytest.raises(kind, match=text):
        wrong()


def test_weights_are_buffers() -> None:
    loss = nn.CrossEntropy(WEIGHT)
    assert [name for name, _ in loss.named_buffers()] == ["weight"]
    assert list(loss.parameters()) == []
    assert [n for n, _ in nn.BinaryCrossEntropyWithLogits(2.0).named_buffers()] == ["pos_weight"]


def test_repr() -> None:
    assert repr(nn.Mse()) == "Mse()"
    assert repr(nn.CrossEntropy(reduction="sum")) == "CrossEntropy(reduction='sum')"
