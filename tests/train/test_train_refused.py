"""What cannot be trained on is told before training starts, and what explodes when it does."""

import math

import numpy as np
import pytest
from small_training import CLASSES, make_data, make_learner

from groundup import nn, optim
from groundup.errors import (
    DataError,
    DtypeError,
    GroundupError,
    LabelError,
    NonFiniteError,
    ShapeError,
)
from groundup.train import Callback, Learner


def changed(part, value, index=(17, 2)):
    data = {k: v.copy() for k, v in make_data()._asdict().items()}
    data[part] = data[part].astype(np.float32) if isinstance(value, float) else data[part]
    data[part][index[: data[part].ndim]] = value
    return tuple(data.values())


@pytest.mark.parametrize("part", ["x_train", "x_valid"])
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_non_finite_inputs_are_named_by_row_and_column(part, value):
    with pytest.raises(
        DataError, match=rf"{part} holds {value} in row 17, column 2 \(counted from 0"
    ):
        make_learner(changed(part, value))


def test_non_finite_targets_and_images_are_named_too(data):
    y = data.y_train.astype(np.float32)
    y[4] = np.nan
    with pytest.raises(DataError, match=r"y_train holds nan in row 4 \(counted"):
        make_learner((data.x_train, y, data.x_valid, data.y_valid.astype(np.float32)))
    x = data.x_train.reshape(-1, 1, 2, 3).copy()
    x[80, 0, 1, 2] = np.inf
    with pytest.raises(DataError, match=r"x_train holds inf in row 80, column \(0, 1, 2\)"):
        make_learner((x, data.y_train, data.x_valid.reshape(-1, 1, 2, 3), data.y_valid))


@pytest.mark.parametrize("part", ["y_train", "y_valid"])
@pytest.mark.parametrize("label", [CLASSES, -1])
def test_labels_out_of_range_are_named(part, label):
    with pytest.raises(LabelError, match=rf"{part}: label {label} at index 17 is outside 0..2"):
        make_learner(changed(part, label))


def test_labels_that_are_fractions_are_refused(data):
    y = data.y_train.astype(np.float32)
    with pytest.raises(LabelError, match="y_train: class labels are integers; these are float32"):
        make_learner((data.x_train, y, data.x_valid, data.y_valid.astype(np.float32)))


def test_binary_targets_out_of_range_are_refused(data):
    model = nn.Sequential(nn.Linear(6, 1))
    with pytest.raises(LabelError, match="y_train: targets lie between 0 and 1, not 0 and 2"):
        Learner(model, data, nn.BinaryCrossEntropyWithLogits(), display=False)


def test_shapes_that_do_not_fit(data):
    x, y, xv, yv = data
    for parts, error, match in (
        ((x, y[:-1], xv, yv), ShapeError, "x_train has 90 rows and y_train 89"),
        ((x, y, xv[1:], yv), ShapeError, "x_valid has 32 rows and y_valid 33"),
        ((x, y, xv[:, 1:], yv), ShapeError, r"x_train has the shape \(6,\), of x_valid \(5,\)"),
        ((x[:0], y[:0], xv, yv), DataError, r"nothing to train on: x_train has the shape \(0, 6\)"),
        ((x[:, :4], y, xv[:, :4], yv), ShapeError, r"Linear\(6, 8\): the input's last length"),
        ((x, y[:, None], xv, yv[:, None]), ShapeError, r"CrossEntropy takes logits \(n, classes\)"),
        ((x.astype(str), y, xv, yv), DtypeError, "x_train holds <U32 values"),
        ((x.astype(int), y, xv.astype(int), yv), DtypeError, "the input is int64, the weights"),
        ((1.0, y, xv, yv), ShapeError, "x_train is a single number"),
        ((x, y, xv), DataError, "data has 3 parts"),
    ):
        with pytest.raises(error, match=match):
            make_learner(parts)


def test_a_loss_that_is_no_number_is_refused(data):
    model = nn.Sequential(nn.Linear(6, CLASSES))
    with pytest.raises(ShapeError, match=r"CrossEntropy gives shape \(2,\): take reduction="):
        Learner(model, data, nn.CrossEntropy(reduction="none"), display=False)


def test_a_model_of_several_outputs_is_refused(data):
    class Two(nn.Module):
        def forward(self, inp):
            return inp, inp

    with pytest.raises(ShapeError, match="the model returns a tuple"):
        Learner(Two(), data, nn.Mse(), display=False)


def test_epochs_below_0_are_refused(learner):
    with pytest.raises(GroundupError, match="epochs is at least 0, not -1"):
        learner.fit(-1)
    assert learner.fit(0).history == []


# A loss that explodes


def test_a_loss_that_explodes_is_told_with_place_and_rate(data):
    wild = make_learner(
        data,
        model=nn.Sequential(nn.Linear(6, 8), nn.Linear(8, 3)),
        schedule=lambda step: 0.1 if step < 8 else 1e20,
        opt=optim.SGD,
    )
    with pytest.raises(NonFiniteError) as caught:
        wild.fit(3)
    assert "the loss is" in str(caught.value)
    assert "in epoch 2, batch" in str(caught.value)
    assert "of 6 (step" in str(caught.value)
    assert "a learning rate that is too large (it is 1e+20; try a tenth)" in str(caught.value)
    assert "checkpoint" not in str(caught.value)


def test_a_nan_that_a_callback_brings_in_is_told(data):
    class Spoils(Callback):
        def before_batch(self, learner):
            if learner.step == 3:
                learner.xb = learner.xb * math.nan

    with pytest.raises(NonFiniteError, match="causes: NaN or infinite inputs in this batch; a lea"):
        make_learner(callbacks=[Spoils()]).fit(1)


def test_weights_that_explode_in_the_last_step_do_not_pass(data):
    class Spoils(Callback):
        def after_step(self, learner):
            if learner.batch == 6:
                learner.model.layers[0].w.data[0, 0] = math.nan

    with pytest.raises(
        NonFiniteError, match=r"layers.0.w holds NaN or infinite weights, in epoch 1"
    ):
        make_learner(callbacks=[Spoils()]).fit(1)


def test_a_valid_loss_that_is_not_finite_is_told():
    data = [part.copy() for part in make_data()]
    data[2][0] = 3e38
    with pytest.raises(NonFiniteError, match=r"the valid loss is (nan|inf), in epoch 1"):
        make_learner(data).fit(1)
