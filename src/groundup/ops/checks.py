"""Checks: ops that compute nothing and raise where their input is bad."""

from __future__ import annotations

from typing import Any

import numpy as np

from groundup.errors import LabelError, NonFiniteError
from groundup.ops.base import Array, Op, Shape
from groundup.ops.text import SUM, Text, atom, value


class Check(Op):
    """`forward` returns its input, or raises."""

    differentiable = False
    is_check = True

    def shape(self, *shapes: Shape, **attrs: Any) -> Shape:
        return shapes[0]


class CheckLabels(Check):
    """LabelError unless labels are integers in 0..classes-1."""

    def forward(self, labels: Array, *, classes: int) -> Array:
        if labels.dtype.kind not in "iu":
            raise LabelError(
                f"class labels are integers; these are {labels.dtype}: convert with "
                ".astype(np.int64)"
            )
        # As unsigned numbers negative labels are huge: one comparison finds both kinds.
        if labels.size and labels.view(labels.dtype.str.replace("i", "u")).max() >= classes:
            wrong = np.argwhere((labels < 0) | (labels >= classes))
            place = tuple(int(i) for i in wrong[0])
            raise LabelError(
                f"label {labels[place]} at index {', '.join(map(str, place))} is outside "
                f"0..{classes - 1}: there are {classes} classes ({len(wrong)} of {labels.size} "
                "labels are outside)"
            )
        return labels

    def text(self, *ins: Text, classes: int, **attrs: Any) -> Text:  # type: ignore[override]
        labels = ins[0].within(SUM)
        return atom(f"assert ((0 <= {labels}) & ({labels} < {classes})).all()")


class CheckRange(Check):
    """LabelError unless all entries lie between low and high."""

    def forward(self, x: Array, *, low: float, high: float, what: str) -> Array:
        if not ((x >= low) & (x <= high)).all():
            raise LabelError(
                f"{what} lie between {low:g} and {high:g}; these between {x.min():g} "
                f"and {x.max():g}"
            )
        return x

    def text(self, *ins: Text, low: float, high: float, **attrs: Any) -> Text:  # type: ignore[override]
        x = ins[0].within(SUM)
        return atom(f"assert (({value(low)} <= {x}) & ({x} <= {value(high)})).all()")


class CheckFinite(Check):
    """NonFiniteError where an entry is NaN or infinite."""

    def forward(self, x: Array, *, what: str) -> Array:
        if not np.isfinite(x).all():
            raise NonFiniteError(what.format(x.item() if x.size == 1 else "not finite"))
        return x

    def text(self, *ins: Text, **attrs: Any) -> Text:
        return atom(f"assert np.isfinite({ins[0].code}).all()")


check_labels, check_range, check_finite = CheckLabels(), CheckRange(), CheckFinite()
