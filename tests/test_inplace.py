"""`p -= lr * p.g`, as a training loop written by hand has it."""

import numpy as np
import pytest
import torch

import groundup as gu
from groundup import nn
from groundup.errors import GradientError, ShapeError


@pytest.mark.parametrize("operator", ["__iadd__", "__isub__", "__imul__", "__itruediv__"])
def test_a_parameter_is_updated_in_place_under_no_grad(operator):
    start = np.array([1.0, -2.0, 3.0], np.float32)
    p, data = nn.Parameter(start.copy()), None
    data = p.data
    theirs = torch.from_numpy(start.copy())
    with gu.no_grad():
        out = getattr(p, operator)(gu.Tensor([0.5, 4.0, 2.0]))
    getattr(theirs, operator)(torch.tensor([0.5, 4.0, 2.0]))
    assert out is p
    assert p.data is data
    np.testing.assert_array_equal(p.data, theirs.numpy())


def test_the_lesson_s_loop_trains():
    gu.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 8), nn.Relu(), nn.Linear(8, 1))
    x, y = gu.randn(32, 3), gu.randn(32)
    losses = []
    for _ in range(20):
        loss = nn.Mse()(model(x), y)
        loss.backward()
        losses.append(loss.item())
        with gu.no_grad():
            for p in model.parameters():
                p -= 0.1 * p.g
    assert losses[-1] < 0.7 * losses[0]


def test_recording_refuses_to_overwrite_a_leaf():
    w = gu.Tensor([1.0, 2.0], requires_grad=True)
    with pytest.raises(GradientError, match=r"in-place sub .*shape \(2,\).*no_grad"):
        w -= 1.0
    np.testing.assert_array_equal(w.data, [1, 2])


def test_an_input_is_not_changed():
    array = np.ones(3, np.float32)
    x = gu.Tensor(array)
    with gu.no_grad():
        x += 1.0
    np.testing.assert_array_equal(array, 1)
    np.testing.assert_array_equal(x.data, 2)


def test_a_running_total_has_its_gradient():
    w = gu.Tensor([2.0, 3.0], requires_grad=True)
    total = gu.Tensor(0.0)
    for i in range(3):
        total += (w**i).sum()
    total.backward()
    np.testing.assert_allclose(w.g.data, [5, 7])  # 0 + 1 + 2w


def test_an_update_that_would_change_the_shape_is_refused():
    w = gu.Tensor([1.0], requires_grad=True)
    with gu.no_grad(), pytest.raises(ShapeError, match=r"shape \(1,\), the value \(3,\)"):
        w -= gu.Tensor([1.0, 2.0, 3.0])
