"""Expressions of NumPy source, with what is needed to put brackets where they belong."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

Array: TypeAlias = npt.NDArray[Any]


class Text(NamedTuple):
    """An expression, and how tightly its outermost operator binds."""

    code: str
    level: int

    def within(self, level: int) -> str:
        """The expression as an operand of something that binds at a level."""
        return self.code if self.level >= level else f"({self.code})"


# Python's levels of binding, loosest first.
COMPARE, SUM, PRODUCT, SIGN, POWER, ATOM = range(6)


def atom(code: str) -> Text:
    """A name, a call, or anything else that never needs brackets."""
    return Text(code, ATOM)


def infix(x: Text, symbol: str, y: Text, level: int) -> Text:
    """`x symbol y`; the right operand gets brackets at the same level too: a - (b - c)."""
    if level == COMPARE:  # a < b < c means something else
        return Text(f"{x.within(SUM)} {symbol} {y.within(SUM)}", level)
    return Text(f"{x.within(level)} {symbol} {y.within(level + 1)}", level)


def call(function: str, *args: str, **keywords: Any) -> Text:
    """`function(args, keyword=value)`; keywords that are None are left out."""
    given = [*args, *(f"{k}={value(v)}" for k, v in keywords.items() if v is not None)]
    return atom(f"{function}({', '.join(given)})")


def method(x: Text, name: str, *args: str, **keywords: Any) -> Text:
    """`x.name(args, keyword=value)`."""
    return call(f"{x.within(ATOM)}.{name}", *args, **keywords)


def value(v: Any) -> str:
    """A constant as source."""
    if isinstance(v, np.dtype):
        return "bool" if v == np.bool_ else f"np.{v.name}"
    if isinstance(v, float) and not np.isfinite(v):
        return "np.nan" if v != v else "np.inf" if v > 0 else "-np.inf"
    if isinstance(v, slice):
        step = "" if v.step is None else f":{v.step}"
        bounds = ("" if b is None else str(b) for b in (v.start, v.stop))
        return ":".join(bounds) + step
    if v is Ellipsis:
        return "..."
    return repr(v)


def number(v: Any) -> Text:
    """A Python number as an operand."""
    return Text(value(v), SIGN if isinstance(v, int | float) and str(v)[0] == "-" else ATOM)


def index(parts: tuple[Any, ...], arrays: Sequence[str] = ()) -> str:
    """What stands between the brackets of an index; a string is a place for an array."""
    given = iter(arrays)
    return ", ".join([next(given) if isinstance(p, str) else value(p) for p in parts]) or "()"
