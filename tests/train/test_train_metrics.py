import numpy as np
import pytest
from hypothesis import given, strategies as st
from small_training import make_learner

from groundup import nn, optim
from groundup.data import Batches
from groundup.errors import GroundupError, ShapeError
from groundup.train import Learner, accuracy, mae, r2, top_k
from groundup.train.metrics import name_of


def test_accuracy_takes_the_largest_output():
    pred = np.array([[1.0, 2.0, 0.0], [5.0, 0.0, 0.0], [0.0, 1.0, 3.0]])
    assert accuracy(pred, np.array([1, 2, 2])) == pytest.approx(2 / 3)


@pytest.mark.parametrize("shape", [(4,), (4, 1)])
def test_a_single_output_is_the_logit_of_class_1(shape):
    pred = np.array([-1.0, 2.0, 0.5, -3.0]).reshape(shape)
    assert accuracy(pred, np.array([0, 1, 0, 1])) == 0.5


@given(st.integers(1, 30), st.integers(2, 8), st.data())
def test_top_k_is_whether_fewer_than_k_are_larger(n, classes, draw):
    k = draw.draw(st.integers(1, classes))
    rng = np.random.default_rng(draw.draw(st.integers(0, 1000)))
    pred, targ = (
        rng.permuted(np.tile(np.arange(classes), (n, 1)), axis=1),
        rng.integers(0, classes, n),
    )
    naive = np.mean([(row > row[t]).sum() < k for row, t in zip(pred, targ, strict=True)])
    assert top_k(k)(pred.astype(np.float32), targ) == pytest.approx(naive)


def test_mae_and_r2():
    pred, targ = np.array([[1.0], [2.0], [4.0]], np.float32), np.array([1.0, 3.0, 5.0], np.float32)
    assert mae(pred, targ) == pytest.approx(2 / 3)
    assert r2(pred, targ) == pytest.approx(1 - 2 / 8)


def test_r2_of_columns_is_their_mean_and_a_constant_column_counts_by_whether_it_is_met():
    targ = np.array([[1.0, 7.0, 7.0], [2.0, 7.0, 7.0], [3.0, 7.0, 7.0]])
    pred = np.array([[1.0, 7.0, 7.0], [2.0, 7.0, 7.0], [3.0, 7.0, 8.0]])
    assert r2(pred, targ) == pytest.approx((1 + 1 + 0) / 3)


def test_r2_keeps_its_digits_far_from_zero():
    targ = (1e6 + np.arange(100)).astype(np.float32)
    assert r2(targ + 1, targ) == pytest.approx(1 - 100 / np.square(targ - targ.mean()).sum(), 1e-6)


@pytest.mark.parametrize("metric", [mae, r2, accuracy])
def test_shapes_that_would_broadcast_are_refused(metric):
    with pytest.raises(ShapeError, match=r"predictions \(4, 1\) and targets \(1, 4\)"):
        metric(np.zeros((4, 1)), np.zeros((1, 4)))


def test_top_k_refuses_more_than_there_are():
    with pytest.raises(ShapeError, match=r"top_5 takes predictions \(n, 5 or more classes\)"):
        top_k(5)(np.zeros((2, 3)), np.zeros(2, int))
    with pytest.raises(GroundupError, match="k is at least 1, not 0"):
        top_k(0)


def test_names():
    assert [name_of(m) for m in (accuracy, top_k(3))] == ["accuracy", "top_3"]


@pytest.mark.parametrize("size", [1, 7, 10, 33, 1000])
def test_unequal_valid_batches_do_not_change_loss_or_metrics(data, size):
    """33 valid rows in batches of 10: the last of 3 must not weigh as much as the others."""
    train, valid = (
        Batches(data.x_train, data.y_train, 16),
        Batches(data.x_valid, data.y_valid, size),
    )
    model = nn.Sequential(nn.Linear(6, 3))
    learner = make_learner((train, valid), model=model, batch_size=None, opt=optim.SGD)
    out = model(data.x_valid).data
    found = learner.validate()
    assert found["accuracy"] == np.mean(out.argmax(1) == data.y_valid)
    assert found["valid_loss"] == pytest.approx(nn.CrossEntropy()(out, data.y_valid).item(), 1e-6)


def test_r2_is_over_all_valid_rows():
    """The mean of the batches' r2 would be far off: each batch has its own mean."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((40, 6)).astype(np.float32)
    y = np.sort(x[:, 0]) * 10
    train, valid = Batches(x, y, 8), Batches(x, y, 8)
    model = nn.Sequential(nn.Linear(6, 1))
    learner = Learner(model, (train, valid), nn.Mse(), optim.SGD, [r2, mae], display=False)
    pred = learner.predict(x)[:, 0].astype(np.float64)
    expected = 1 - np.square(pred - y).sum() / np.square(y - y.mean(dtype=np.float64)).sum()
    assert learner.validate()["r2"] == pytest.approx(expected, 1e-6)
