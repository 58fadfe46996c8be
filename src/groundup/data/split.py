"""A data set in two: what it is trained on and what it is judged by."""

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from groundup.data.shuffling import permutation
from groundup.errors import DataError


class Split(NamedTuple):
    """A data set's four arrays: `x_train, y_train, x_valid, y_valid = split`.

    x: float32, one row an item. y: int64 class labels, or float32 where the target is a number.
    """

    x_train: NDArray[np.float32]
    y_train: NDArray[Any]
    x_valid: NDArray[np.float32]
    y_valid: NDArray[Any]


def split_rows(
    labels: NDArray[np.int64], valid: float, seed: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The rows (train, valid), int64, of a stratified split that depends only on its arguments.

    The rows are permuted by `permutation(n, seed)`; ceil(valid * n) of them are
    held out so that each class of `labels` gives its share to within one row. Both parts keep the
    permuted order, so that neither comes class by class. valid=0 holds out nothing.
    """
    n = len(labels)
    if not 0 <= valid < 1:
        raise DataError(f"valid={valid}: the share to hold out must be at least 0 and below 1")
    held = math.ceil(round(valid * n, 6))  # 0.07 * 100 is 7.000000000000001
    if held >= n:
        raise DataError(f"valid={valid} of {n} rows leaves none to train on: add data")
    order = permutation(n, seed)
    shuffled = labels[order]

    # Place each row at its rank within its class, as a fraction of the class: the rows below any
    # threshold are then the same share of every class.
    counts = np.bincount(shuffled)
    by_class = np.argsort(shuffled, kind="stable")
    rank = np.empty(n, np.int64)
    rank[by_class] = np.arange(n) - np.repeat(np.cumsum(counts) - counts, counts)
    place = (rank + 0.5) / counts[shuffled]
    is_valid = np.zeros(n, bool)
    is_valid[np.argsort(place, kind="stable")[:held]] = True
    return order[~is_valid], order[is_valid]
