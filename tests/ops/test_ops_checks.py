"""Checks: what they refuse, what they say, and that what is good passes through."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from groundup import Tensor, functions, ops
from groundup.errors import LabelError, NonFiniteError


@pytest.mark.parametrize("dtype", [np.int64, np.int32, np.int8, np.uint8])
def test_labels_within(dtype: Any) -> None:
    labels = Tensor(np.array([[0, 4], [2, 1]], dtype))
    assert ops.check_labels(labels, classes=5).array is labels.array
    functions.check_labels(labels.array, 5)


def test_no_labels_are_good_labels() -> None:
    ops.check_labels(np.zeros(0, np.int64), classes=3)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([0, 5, 1, 9], r"label 5 at index 1 is outside 0..4: there are 5 classes \(2 of 4 labels"),
        ([0, -1], r"label -1 at index 1 is outside 0..4"),
        ([[0, 1], [2, 7]], r"label 7 at index 1, 1 is outside"),
    ],
)
def test_labels_outside(labels: Any, message: str) -> None:
    with pytest.raises(LabelError, match=message):
        ops.check_labels(np.array(labels), classes=5)
    with pytest.raises(LabelError, match=message):
        functions.check_labels(np.array(labels), 5)


@pytest.mark.parametrize("dtype", [np.float32, np.bool_])
def test_labels_are_integers(dtype: Any) -> None:
    with pytest.raises(LabelError, match=r"class labels are integers; these are .*convert with"):
        ops.check_labels(np.zeros(3, dtype), classes=5)


def test_range() -> None:
    x = Tensor([0.0, 0.5, 1.0])
    assert ops.check_range(x, low=0.0, high=1.0, what="targets").array is x.array
    with pytest.raises(LabelError, match=r"targets lie between 0 and 0.75; these between 0 and 1"):
        ops.check_range(x, low=0.0, high=0.75, what="targets")
    with pytest.raises(LabelError, match=r"targets lie between 0.25 and 1; these between 0 and 1"):
        ops.check_range(x, low=0.25, high=1.0, what="targets")
    with pytest.raises(LabelError, match="these between nan and nan"):
        ops.check_range(Tensor([0.5, np.nan]), low=0.0, high=1.0, what="targets")


def test_finite() -> None:
    x = Tensor([1.0, -2.0])
    assert ops.check_finite(x, what="the norm is {}").array is x.array
    with pytest.raises(NonFiniteError, match="the norm is inf"):
        ops.check_finite(Tensor(np.inf), what="the norm is {}")
    with pytest.raises(NonFiniteError, match="the norm is not finite"):
        ops.check_finite(Tensor([np.nan, 1.0]), what="the norm is {}")


def test_a_check_has_no_gradient() -> None:
    x = Tensor([1.0], requires_grad=True)
    assert not ops.check_finite(x, what="{}").requires_grad
