"""Losses: each a `forward` and, beside it, a hand-written `bwd`.

`reduction` says what becomes of the losses of single entries: "mean", "sum" or "none".
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from groundup.errors import DtypeError, GroundupError, ShapeError
from groundup.nn.module import Module
from groundup.ops import arange, check_labels, check_range
from groundup.ops.reduce import size_of
from groundup.tensor import Buffer, Tensor


class Loss(Module):
    """What all losses share: how single losses are reduced to one."""

    def __init__(self, reduction: str = "mean"):
        if reduction not in ("mean", "sum", "none"):
            raise GroundupError(
                f'{type(self).__name__}: reduction is "mean", "sum" or "none", not {reduction!r}'
            )
        self.reduction = reduction

    def reduced(self, losses: Tensor, total: Tensor | None = None) -> Tensor:
        """The losses, their sum, or their mean: over `total` if given, else their number."""
        if self.reduction == "none":
            return losses
        if self.reduction == "sum":
            return losses.sum()
        return losses.mean() if total is None else losses.sum() / total

    def sent_back(self, slopes: Tensor, out: Tensor, total: Any) -> Tensor:
        """The gradient of what the single losses depend on by `slopes`: backward of `reduced`."""
        if self.reduction == "mean":
            slopes = slopes / total
        arrived: Tensor = out.g
        return slopes * (arrived.unsqueeze(-1) if slopes.ndim > out.ndim > 0 else arrived)

    def extra_repr(self) -> str:
        return "" if self.reduction == "mean" else f"reduction={self.reduction!r}"


class Mse(Loss):
    """Mean squared error: the mean of (inp - targ)**2.

    inp and targ have the same shape, or differ by a last axis of length 1: (n, 1) and (n,) are
    compared entry by entry. Other shapes are refused, also those that would broadcast.
    """

    def forward(self, inp: Tensor, targ: Tensor) -> Tensor:
        diff = inp - matched(self, inp, targ)
        return self.reduced(diff * diff)

    def bwd(self, out: Tensor, inp: Tensor, targ: Tensor) -> None:
        diff = inp - targ.reshape(inp.shape)
        inp.g = self.sent_back(2.0 * diff, out, size_of(diff))
        if targ.requires_grad:
            targ.g = self.sent_back(-2.0 * diff, out, size_of(diff)).reshape(targ.shape)


class Mae(Loss):
    """Mean absolute error: the mean of |inp - targ|. Shapes as for `Mse`."""

    def forward(self, inp: Tensor, targ: Tensor) -> Tensor:
        diff = inp - matched(self, inp, targ)
        return self.reduced(diff.abs())

    def bwd(self, out: Tensor, inp: Tensor, targ: Tensor) -> None:
        diff = inp - targ.reshape(inp.shape)
        inp.g = self.sent_back(diff.sign(), out, size_of(diff))
        if targ.requires_grad:
            targ.g = self.sent_back(-diff.sign(), out, size_of(diff)).reshape(targ.shape)


class CrossEntropy(Loss):
    """Minus the log-probability of the right class, from logits (softmax is inside).

    With label smoothing e, the right class counts 1 - e and every class, the right one
    included, e / classes (Szegedy et al., CVPR 2016). With class weights the mean is weighted
    too, as in PyTorch.

    Args:
        weight: shape (classes,), a factor for each class.
        label_smoothing: 0 <= e <= 1.

    Shapes: logits (n, classes), labels (n,) of integers; n >= 1. Stable for logits of any size.

    Raises:
        ShapeError: other shapes, or an empty batch.
        LabelError: a label that is no integer, or outside 0..classes-1.

    """

    def __init__(
        self,
        weight: npt.ArrayLike | None = None,
        label_smoothing: float = 0.0,
        reduction: str = "mean",
    ):
        super().__init__(reduction)
        if not 0 <= label_smoothing <= 1:
            raise GroundupError(
                f"CrossEntropy: label_smoothing is between 0 and 1, not {label_smoothing}"
            )
        self.weight = None if weight is None else Buffer(weight, dtype=np.float32)
        self.label_smoothing = label_smoothing

    def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
        self._check(logits, labels)
        log_p = logits.log_softmax(1)
        losses = -log_p[arange(labels), labels]
        if self.weight is not None:
            losses = losses * self._weight(logits)[labels]
        if self.label_smoothing:
            each = log_p if self.weight is None else log_p * self._weight(logits)
            e = self.label_smoothing
            losses = (1 - e) * losses - e / logits.shape[1] * each.sum(1)
        return self.reduced(losses, self._total(logits, labels))

    def bwd(self, out: Tensor, logits: Tensor, labels: Tensor) -> None:
        # d/dlogits of -sum_c target_c * log_p_c is p * sum_c target_c - target
        p = logits.softmax(1)
        target = labels.unsqueeze(1) == arange(shape=logits.shape[1:])
        e = self.label_smoothing
        if self.weight is None:
            if e:
                target = (1 - e) * target.cast(logits.dtype) + e / logits.shape[1]
        else:
            weight = self._weight(logits)
            target = target * ((1 - e) * weight) + weight * (e / logits.shape[1])
            p = p * target.sum(1, keepdims=True)
        total = self._total(logits, labels)
        logits.g = self.sent_back(p - target, out, size_of(labels) if total is None else total)

    def _weight(self, logits: Tensor) -> Tensor:
        assert self.weight is not None
        return self.weight.cast(logits.dtype)

    def _total(self, logits: Tensor, labels: Tensor) -> Tensor | None:
        """The sum of the rows' weights, by which a weighted mean divides."""
        return None if self.weight is None else self._weight(logits)[labels].sum()

    def _check(self, logits: Tensor, labels: Tensor) -> None:
        if logits.ndim != 2 or labels.shape != logits.shape[:1]:
            raise ShapeError(
                "CrossEntropy takes logits (n, classes) and integer labels (n,); these are "
                f"{logits.shape} and {labels.shape}"
            )
        if not len(labels):
            raise ShapeError(f"CrossEntropy: the batch is empty (logits {logits.shape})")
        if logits.dtype.kind != "f":
            raise DtypeError(f"CrossEntropy takes floating-point logits; these are {logits.dtype}")
        if self.weight is not None and self.weight.shape != logits.shape[1:]:
            raise ShapeError(
                f"CrossEntropy: {self.weight.size} class weights for {logits.shape[1]} classes"
            )
        check_labels(labels, classes=logits.shape[1])


class BinaryCrossEntropyWithLogits(Loss):
    """-targ * log(s) - (1 - targ) * log(1 - s), s = sigmoid(inp), stable for any inp.

    Args:
        pos_weight: a factor for the positive part, one number or one for each column.

    Shapes as for `Mse`. targ holds numbers between 0 and 1.

    """

    def __init__(self, pos_weight: npt.ArrayLike | None = None, reduction: str = "mean"):
        super().__init__(reduction)
        self.pos_weight = None if pos_weight is None else Buffer(pos_weight, dtype=np.float32)

    def forward(self, inp: Tensor, targ: Tensor) -> Tensor:
        y = matched(self, inp, targ).cast(inp.dtype)
        check_range(y, low=0.0, high=1.0, what=f"{type(self).__name__}: targets")
        # log(1 + exp(-inp)) = max(-inp, 0) + log(1 + exp(-|inp|))
        # maximum and not relu: at 0 its halves make the sum's derivative, -1/2
        softplus = (-inp).maximum(0.0) + (-inp.abs()).exp().log1p()
        losses = (1.0 - y) * inp + self._slope(inp, y) * softplus
        return self.reduced(losses)

    def bwd(self, out: Tensor, inp: Tensor, targ: Tensor) -> None:
        y = targ.reshape(inp.shape).cast(inp.dtype)
        # d softplus(-inp) = sigmoid(inp) - 1
        slopes = (1.0 - y) + self._slope(inp, y) * (inp.sigmoid() - 1.0)
        inp.g = self.sent_back(slopes, out, size_of(inp))
        if targ.requires_grad:
            softplus = (-inp).maximum(0.0) + (-inp.abs()).exp().log1p()
            d_slope = 0.0 if self.pos_weight is None else self.pos_weight.cast(inp.dtype) - 1.0
            targ.g = self.sent_back(d_slope * softplus - inp, out, size_of(inp)).reshape(targ.shape)

    def _slope(self, inp: Tensor, y: Tensor) -> Tensor | float:
        if self.pos_weight is None:
            return 1.0
        return 1.0 + (self.pos_weight.cast(inp.dtype) - 1.0) * y


def matched(loss: Module, inp: Tensor, targ: Tensor) -> Tensor:
    """The target in the input's shape, which it has but for a last axis of length 1."""
    name = type(loss).__name__
    if targ.shape not in (inp.shape, (*inp.shape, 1)) and (*targ.shape, 1) != inp.shape:
        raise ShapeError(
            f"{name}: the input has shape {inp.shape}, the target {targ.shape}. They must be the "
            "same, or differ by a last axis of length 1; broadcasting them would compare every "
            "row with every other"
        )
    if inp.dtype.kind != "f":
        raise DtypeError(f"{name}: the input is {inp.dtype}; a loss needs floating-point numbers")
    if not inp.size:
        raise ShapeError(f"{name}: the batch is empty (input {inp.shape})")
    return targ.reshape(inp.shape)
