"""The functions in `groundup` itself: those that make tensors, and methods as functions."""

import numpy as np
import pytest

import groundup as gu

X = np.random.default_rng(0).standard_normal((2, 3, 1)).astype(np.float32)

METHODS = [
    ("sum", (), {}),
    ("sum", (1,), {"keepdims": True}),
    ("mean", ((0, 1),), {}),
    ("var", (), {"correction": 0}),
    ("std", (1,), {}),
    ("max", (1,), {}),
    ("min", (1,), {"keepdims": True}),
    ("argmax", (1,), {}),
    ("argmin", (), {}),
    ("abs", (), {}),
    ("clamp", (-0.5, 0.5), {}),
    ("reshape", (3, -1), {}),
    ("flatten", (1,), {}),
    ("squeeze", (), {}),
    ("unsqueeze", (0,), {}),
    ("transpose", (0, 1), {}),
    ("permute", (2, 0, 1), {}),
    ("expand", (2, 3, 4), {}),
    ("softmax", (1,), {}),
    ("log_softmax", (1,), {}),
    ("logsumexp", (1,), {}),
]


@pytest.mark.parametrize(("name", "args", "kwargs"), METHODS)
def test_functions_are_the_methods_and_take_arrays(name, args, kwargs):
    of_method = getattr(gu.Tensor(X), name)(*args, **kwargs)
    of_function = getattr(gu, name)(X, *args, **kwargs)
    assert of_function.dtype == of_method.dtype
    np.testing.assert_array_equal(of_function.data, of_method.data)


MADE = [
    (gu.zeros(2, 3), np.zeros((2, 3), np.float32)),
    (gu.zeros((2, 3), dtype=np.int64), np.zeros((2, 3), np.int64)),
    (gu.ones(2), np.ones(2, np.float32)),
    (gu.full((2, 1), 7.5), np.full((2, 1), 7.5, np.float32)),
    (gu.arange(3), np.arange(3)),
    (gu.arange(0.0, 1.0, 0.25), np.arange(0, 1, 0.25, np.float32)),
    (gu.eye(3), np.eye(3, dtype=np.float32)),
    (gu.zeros_like(X.astype(np.float64)), np.zeros(X.shape)),
    (gu.ones_like(gu.Tensor(X)), np.ones(X.shape, np.float32)),
]


@pytest.mark.parametrize(("made", "expected"), MADE)
def test_tensors_from_nothing(made, expected):
    assert isinstance(made, gu.Tensor)
    assert made.dtype == expected.dtype
    np.testing.assert_array_equal(made.data, expected)
