"""What a Learner is given, checked before training starts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np

from groundup.backward import no_grad
from groundup.data import Batches, Split
from groundup.errors import DataError, DtypeError, GroundupError, LabelError, ShapeError
from groundup.functions import check_labels
from groundup.nn import BinaryCrossEntropyWithLogits, CrossEntropy, Module
from groundup.ops.base import FLOAT32, Array
from groundup.tensor import Tensor

Data: TypeAlias = Split | Sequence[Any]

_BLOCK = 1 << 22  # numbers looked at at a time
_VALID_SIZE = 1024  # rows of a valid batch: nothing is learnt from it, so only speed counts


def as_batches(
    data: Data, model: Module, batch_size: int | None, seed: int
) -> tuple[Batches, Batches | None]:
    """The training and the valid batches, in the model's dtype; None without valid rows.

    Raises:
        DataError: there is nothing to train on, or a NaN or an infinity, by row and column.
        ShapeError: rows of x and y, or of training and validation, do not fit together.
        DtypeError: numbers that no model takes.

    """
    dtype, parts = model_dtype(model), list(data)
    if len(parts) == 2 and all(isinstance(part, Batches) for part in parts):
        if batch_size is not None:
            raise GroundupError("batch_size: the batches given have theirs; leave it out")
        train, valid = parts
        _check_arrays(train.x, train.y, valid.x, valid.y)
        return _in_dtype(train, dtype), _in_dtype(valid, dtype)
    if len(parts) != 4:
        raise DataError(
            f"data has {len(parts)} parts: give (x_train, y_train, x_valid, y_valid), such as "
            "data.digits(), or a pair of Batches"
        )
    x, y, x_valid, y_valid = (np.asarray(part) for part in parts)
    _check_arrays(x, y, x_valid, y_valid)
    size = 64 if batch_size is None else batch_size
    train = _in_dtype(Batches(x, y, size, shuffle=True, seed=seed), dtype)
    if not len(x_valid):
        return train, None
    return train, _in_dtype(Batches(x_valid, y_valid, _VALID_SIZE), dtype)


def model_dtype(model: Module) -> np.dtype[Any]:
    """The dtype of the model's floating-point parameters: what its inputs must have."""
    return next((p.dtype for p in model.parameters() if p.dtype.kind == "f"), FLOAT32)


def check_fit(model: Module, loss: Module, train: Batches, valid: Batches | None) -> None:
    """Run two rows through the model and the loss, and compare all labels with the outputs.

    Raises:
        ShapeError, DtypeError: the data does not fit the model, or the output the loss.
        LabelError: a label that the model has no output for, by index.

    """
    x, y = train.x[:2], train.y[:2]
    with no_grad():
        out = model(Tensor.of(x))
        if not isinstance(out, Tensor):
            raise ShapeError(
                f"the model returns a {type(out).__name__}; a Learner needs one Tensor of outputs"
            )
        _check_targets("y_train", loss, out, train.y)
        if valid is not None:
            _check_targets("y_valid", loss, out, valid.y)
        value = loss(out, Tensor.of(y))
    if not isinstance(value, Tensor) or value.size != 1 or value.dtype.kind != "f":
        got = f"shape {value.shape}" if isinstance(value, Tensor) else f"a {type(value).__name__}"
        raise ShapeError(
            f"the loss must be a single number to descend; {type(loss).__name__} gives {got}: "
            'take reduction="mean"'
        )


def fingerprint(train: Batches) -> str:
    """A hash of the training rows and targets: whether a checkpoint was made with them."""
    import hashlib

    digest = hashlib.blake2b(digest_size=8)
    for array in (train.x, train.y):
        digest.update(f"{array.dtype.str} {array.shape}".encode())
        digest.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
    return digest.hexdigest()


def _check_arrays(x: Array, y: Array, x_valid: Array, y_valid: Array) -> None:
    parts = {"x_train": x, "y_train": y, "x_valid": x_valid, "y_valid": y_valid}
    for name, array in parts.items():
        if array.dtype.kind not in "biuf":
            raise DtypeError(f"{name} holds {array.dtype} values; a network takes numbers")
        if not array.ndim:
            raise ShapeError(f"{name} is a single number: it needs rows")
    if not len(x):
        raise DataError(f"there is nothing to train on: x_train has the shape {x.shape}")
    for kind, a, b in (("train", x, y), ("valid", x_valid, y_valid)):
        if len(a) != len(b):
            raise ShapeError(
                f"x_{kind} has {len(a)} rows and y_{kind} {len(b)}: each row of x needs its y"
            )
    for kind, a, b in (("x", x, x_valid), ("y", y, y_valid)):
        if len(b) and a.shape[1:] != b.shape[1:]:
            raise ShapeError(
                f"a row of {kind}_train has the shape {a.shape[1:]}, of {kind}_valid {b.shape[1:]}"
            )
    for name, array in parts.items():
        if (place := _first_non_finite(array)) is not None:
            row, *column = place
            where = f", column {column[0] if len(column) == 1 else tuple(column)}" if column else ""
            raise DataError(
                f"{name} holds {array[place]} in row {row}{where} (counted from 0). Remove or fill "
                "such rows before training: one NaN makes every weight NaN"
            )


def _first_non_finite(array: Array) -> tuple[int, ...] | None:
    if array.dtype.kind != "f" or not array.size:
        return None
    rows = max(1, _BLOCK * len(array) // array.size)
    for start in range(0, len(array), rows):
        good = np.isfinite(array[start : start + rows])
        if not good.all():
            row, *rest = (int(i) for i in np.argwhere(~good)[0])
            return (start + row, *rest)
    return None


def _in_dtype(given: Batches, dtype: np.dtype[Any]) -> Batches:
    """Batches of the Learner's own, so that the caller's keep their place, in a model's dtype."""
    x = np.ascontiguousarray(given.x, dtype if given.x.dtype.kind == "f" else None)
    y = np.ascontiguousarray(given.y, dtype if given.y.dtype.kind == "f" else np.int64)
    return Batches(x, y, given.size, given.shuffle, given.seed, given.drop_last)


def _check_targets(name: str, loss: Module, out: Tensor, y: Array) -> None:
    try:
        if isinstance(loss, CrossEntropy) and out.ndim == 2:
            check_labels(y, out.shape[1])
        elif isinstance(loss, BinaryCrossEntropyWithLogits) and (y.min() < 0 or y.max() > 1):
            raise LabelError(f"targets lie between 0 and 1, not {y.min():g} and {y.max():g}")
    except LabelError as error:
        raise LabelError(f"{name}: {error}") from None
