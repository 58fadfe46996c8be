import numpy as np
import pytest

from groundup.errors import GradientError, ShapeError
from groundup.foundations import Array, Lin, Model, Mse, Relu, array, forward_and_backward


def problem(n=6, i=4, h=3, o=2, seed=0):
    rng = np.random.default_rng(seed)
    shapes = [(n, i), (n, o), (i, h), (h,), (h, o), (o,)]
    return [rng.standard_normal(shape) for shape in shapes]


def test_the_model_is_forward_and_backward():
    x, y, *parameters = problem()
    x, parameters = array(x), [array(p) for p in parameters]
    model = Model(*parameters)
    loss = model(x, y)
    model.backward()
    expected_loss, expected = forward_and_backward(x, y, *parameters)
    assert isinstance(loss, float)
    assert loss == expected_loss
    for ours, theirs in zip([*parameters, x], expected, strict=True):
        np.testing.assert_array_equal(ours.g, theirs)


def test_a_second_pass_replaces_the_gradients():
    x, y, *parameters = problem()
    parameters = [array(p) for p in parameters]
    model = Model(*parameters)
    for seed in (1, 2):
        x, y, *_ = problem(seed=seed)
        model(x, y)
        model.backward()
    _, expected = forward_and_backward(x, y, *parameters)
    for ours, theirs in zip(parameters, expected, strict=False):
        np.testing.assert_array_equal(ours.g, theirs)


def test_descending_the_gradient_lowers_the_loss():
    x, y, *parameters = problem()
    parameters = [array(p) for p in parameters]
    model = Model(*parameters)
    first = model(x, y)
    for _ in range(50):
        model(x, y)
        model.backward()
        for p in parameters:
            p -= 0.05 * p.g
    assert model(x, y) < first / 2


def test_each_layer_remembers_inp_and_out():
    x, _, w, b, _, _ = problem()
    linear, rectify = Lin(w, b), Relu()
    out = rectify(linear(x))
    assert linear.inp.base is x
    assert rectify.inp is linear.out
    assert rectify.out is out
    np.testing.assert_array_equal(out, np.maximum(x @ w + b, 0))


def test_array_is_a_view_or_itself():
    a = np.zeros(3)
    view = array(a)
    view[0] = 1
    assert a[0] == 1
    assert isinstance(view, Array)
    assert array(view) is view
    assert array([1.0, 2.0]).shape == (2,)


def test_the_gradient_belongs_to_one_array_not_to_its_views():
    a = array(np.zeros((2, 3)))
    a.g = np.ones((2, 3))
    np.testing.assert_array_equal(a.g, np.ones((2, 3)))
    with pytest.raises(GradientError, match=r"shape \(3, 2\) has no gradient yet"):
        _ = a.T.g


def test_backward_before_forward():
    model = Model(*problem()[2:])
    with pytest.raises(GradientError, match="backward before forward"):
        model.backward()


def test_backward_before_the_layer_above_has_run_backward():
    x, y, w, b, _, _ = problem(h=2)
    linear, loss = Lin(w, b), Mse()
    loss(linear(x), y)
    with pytest.raises(GradientError, match=r"shape \(6, 2\) has no gradient yet"):
        linear.backward()


def test_a_layer_checks_its_shapes():
    _, _, w, b, _, _ = problem()
    with pytest.raises(ShapeError, match=r"x \(6, 5\), w \(4, 3\)"):
        Lin(w, b)(np.ones((6, 5)))
