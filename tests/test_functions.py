"""Functions of several tensors: what the table of ops does not say. Labels and their errors."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import groundup as gu
from groundup import Tensor
from groundup.errors import LabelError
from groundup.functions import check_labels

INTEGERS = ["i1", "u1", "i2", ">i2", ">u2", "i4", ">i4", "u4", "i8", ">i8", "u8"]


@pytest.mark.parametrize("dtype", INTEGERS)
def test_one_hot(dtype: str) -> None:
    labels = np.array([[2, 0], [1, 1]], dtype)
    out = gu.one_hot(labels, 3)
    assert out.dtype == np.float32
    np.testing.assert_array_equal(out.data, np.eye(3)[labels.astype(int)])


def test_one_hot_of_lists_and_a_number() -> None:
    assert gu.one_hot([1, 0], 2).tolist() == [[0, 1], [1, 0]]
    assert gu.one_hot(1, 3, dtype=np.bool_).tolist() == [False, True, False]
    assert gu.one_hot(np.zeros((0,), int), 3).shape == (0, 3)


@pytest.mark.parametrize("dtype", INTEGERS)
def test_labels_in_range_pass(dtype: str) -> None:
    check_labels(np.array([0, 4, 2], dtype), 5)
    check_labels(np.array(4, dtype), 5)
    check_labels(np.array([[0, 1], [2, 3]], dtype)[:, ::-1], 4)


@pytest.mark.parametrize(
    ("dtype", "wrong"),
    [(d, n) for d in INTEGERS for n in (5, 100, -1, -100) if n > 0 or "u" not in d],
)
def test_labels_out_of_range_are_named(dtype: str, wrong: int) -> None:
    labels = np.array([[0, 1], [wrong, wrong]], dtype)
    text = (
        rf"label {wrong} at index 1, 0 is outside 0\.\.4: there are 5 classes \(2 of 4 labels are"
    )
    with pytest.raises(LabelError, match=text):
        check_labels(labels, 5)
    with pytest.raises(LabelError, match=text):
        gu.one_hot(labels, 5)


@pytest.mark.parametrize("labels", [[0.0, 1.0], np.array([True, False])])
def test_labels_are_integers(labels: Any) -> None:
    with pytest.raises(LabelError, match=r"class labels are integers; these are (float32|bool)"):
        gu.one_hot(labels, 2)


def test_functions_take_plain_arrays_and_lists() -> None:
    x = np.array([[1.0, 2.0]])
    assert gu.softmax(x).data.sum() == pytest.approx(1)
    assert gu.log_softmax([1.0, 1.0]).data == pytest.approx(np.log(0.5))
    assert gu.logsumexp([0.0, 0.0]).item() == pytest.approx(np.log(2))
    assert gu.split([1, 2, 3], 2)[1].tolist() == [3]
    assert gu.split(np.arange(4), np.int64(3))[1].tolist() == [3]
    assert gu.pad([1, 2], (1, 0)).tolist() == [0, 1, 2]
    assert gu.take_along_axis([[1, 2]], [[1]], 1).tolist() == [[2]]
    assert gu.concatenate([[1.0], (2.0,)]).tolist() == [1, 2]
    assert gu.stack([1.0, 2.0]).tolist() == [1, 2]
    assert gu.einsum("ij->j", [[1, 2], [3, 4]]).tolist() == [4, 6]
    assert gu.where([True, False], 1.0, 2.0).tolist() == [1, 2]


def test_pad_takes_widths_as_numpy_does() -> None:
    x = np.arange(6).reshape(2, 3)
    for widths in (1, (1, 2), ((1, 2), (0, 1)), [[1], [2]], np.array([[0, 1], [1, 0]])):
        np.testing.assert_array_equal(gu.pad(x, widths).data, np.pad(x, widths))


def test_split_and_concatenate_are_inverse() -> None:
    x = Tensor(np.arange(10.0).reshape(5, 2), requires_grad=True)
    pieces = gu.split(x, 2)
    assert [len(p) for p in pieces] == [2, 2, 1]
    gu.concatenate(pieces).backward(np.arange(10.0).reshape(5, 2))
    np.testing.assert_array_equal(x.g.data, np.arange(10.0).reshape(5, 2))
