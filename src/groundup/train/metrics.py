"""Metrics: functions of all predictions and all targets of a data set, to one number.

`Learner.validate` calls each once, over the whole valid set, so that neither the batch size nor a
smaller last batch changes what it says. Any such function is a metric; its name is the column.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, TypeAlias

import numpy as np

from groundup.errors import GroundupError, ShapeError
from groundup.ops.base import Array

Metric: TypeAlias = Callable[[Array, Array], float]


def accuracy(pred: Array, targ: Array) -> float:
    """The share of rows whose largest output is the target's.

    pred: (..., classes), logits or probabilities; targ: integers (...,). A single output column,
    (n,) or (n, 1), is the logit of class 1: positive means class 1.
    """
    if pred.ndim > 1 and pred.shape[-1] > 1:
        chosen = pred.argmax(-1)
    else:
        chosen = _as_targets("accuracy", pred, targ) > 0
    if chosen.shape != targ.shape:
        raise ShapeError(f"accuracy: predictions {pred.shape} do not fit targets {targ.shape}")
    return float(np.mean(chosen == targ))


def top_k(k: int) -> Metric:
    """A metric: the share of rows whose target is among the k largest outputs.

    pred: (n, classes) with classes >= k; targ: integers (n,).
    """
    if k < 1:
        raise GroundupError(f"top_k: k is at least 1, not {k}")

    def top(pred: Array, targ: Array) -> float:
        if pred.ndim != 2 or pred.shape[1] < k or targ.shape != pred.shape[:1]:
            raise ShapeError(
                f"top_{k} takes predictions (n, {k} or more classes) and targets (n,); these are "
                f"{pred.shape} and {targ.shape}"
            )
        chosen = np.argpartition(pred, -k, axis=1)[:, -k:]
        return float(np.mean((chosen == targ[:, None]).any(1)))

    top.__name__ = f"top_{k}"
    return top


def mae(pred: Array, targ: Array) -> float:
    """The mean absolute error, in the target's unit."""
    return float(np.mean(np.abs(_difference("mae", pred, targ))))


def r2(pred: Array, targ: Array) -> float:
    """The share of the target's variance that is explained: 1 is perfect, 0 is the mean's.

    Of several columns the mean. A constant column counts 1 if it is met exactly, else 0, as in
    scikit-learn.
    """
    error = np.square(_difference("r2", pred, targ)).reshape(len(targ), -1).sum(0)
    columns = targ.reshape(len(targ), -1).astype(np.float64)
    spread = np.square(columns - columns.mean(0)).sum(0)
    constant = np.where(error == 0, 1.0, 0.0)
    return float(
        np.mean(np.where(spread > 0, 1 - error / np.where(spread > 0, spread, 1), constant))
    )


def name_of(metric: Metric) -> str:
    """What the metric's column is called."""
    return str(getattr(metric, "__name__", type(metric).__name__))


def better(name: str) -> Literal["min", "max"] | None:
    """Whether less ("min") or more ("max") of a column is better; None if that is not known."""
    if name in ("train_loss", "valid_loss", "mae"):
        return "min"
    if name in ("accuracy", "r2") or name.startswith("top_"):
        return "max"
    return None


def is_share(name: str) -> bool:
    """Whether a column holds shares, which are shown as percentages."""
    return name == "accuracy" or name.startswith("top_")


def _difference(name: str, pred: Array, targ: Array) -> Array:
    return _as_targets(name, pred, targ).astype(np.float64) - targ


def _as_targets(name: str, pred: Array, targ: Array) -> Array:
    """The predictions in the targets' shape, which they have but for a last axis of length 1."""
    if targ.shape not in (pred.shape, (*pred.shape, 1)) and (*targ.shape, 1) != pred.shape:
        raise ShapeError(
            f"{name}: predictions {pred.shape} and targets {targ.shape} must have the same shape, "
            "or differ by a last axis of length 1"
        )
    return pred.reshape(targ.shape)
