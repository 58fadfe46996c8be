"""Expressions with cases (relu, max, abs), taken apart into the regions where they have none.

What happens on the borders, where an input is 0 or two are equal, is left out: there is no
derivative there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from groundup.check.zero import IDENTICAL, WAYS, Unshown, how_zero
from groundup.ops.base import Array

REGIONS = 128  # more are given up
_ROWS = 400  # of the inequalities that an elimination may make


@dataclass(frozen=True)
class Shown:
    """Whether a difference is zero.

    Attributes:
        how: one of `zero.WAYS`; None where it was not shown.
        regions: in how many regions, where it had to be taken apart.
        region: then the expressions that are positive where it was not.
        left: what the difference is there.
        reason: why it was given up, if it was not looked at in every region.

    """

    how: str | None
    regions: int = 0
    region: tuple[Any, ...] = ()
    left: Any = None
    reason: str = ""


def shown(difference: Any) -> Shown:
    """Whether a difference is zero, in one go or region by region."""
    how = how_zero(difference)
    if how is not None:
        return Shown(how)
    if not _has_cases(difference):
        return Shown(None, left=difference)
    count, ways = 0, {IDENTICAL}
    try:
        for signs, left in regions(difference):
            count += 1
            how = how_zero(left)
            if how is None:
                return Shown(None, count, _positive(signs), left)
            ways.add(how)
    except Unshown as error:
        return Shown(None, left=difference, reason=str(error))
    return Shown(max(ways, key=WAYS.index), count)


def regions(expression: Any) -> Iterator[tuple[dict[Any, bool], Any]]:
    """The expression in every region: which expressions are positive there, and what it is."""
    stack: list[dict[Any, bool]] = [{}]
    count = 0
    while stack:
        signs = stack.pop()
        try:
            found = _Region(signs).value(expression)
        except _Border as border:
            for positive in (False, True):
                more = {**signs, border.expression: positive}
                if not _is_empty(_positive(more)):
                    stack.append(more)
            continue
        count += 1
        if count > REGIONS:
            raise Unshown(f"there are more than {REGIONS} regions")
        yield signs, found


def around(expression: Any, is_positive: Callable[[Any], bool]) -> Any:
    """The expression without cases, as it is around a point where signs are known."""
    signs: dict[Any, bool] = {}
    while True:
        try:
            return _Region(signs).value(expression)
        except _Border as border:
            signs[border.expression] = is_positive(border.expression)


def opened(entries: Array) -> Array:
    """Entries with Abs and sign written as cases, which SymPy differentiates as they are.

    Of Abs(log(x)) it makes derivatives of real and imaginary parts.
    """
    import sympy

    zero = sympy.Integer(0)

    def absolute(u: Any) -> Any:
        return sympy.Piecewise((u, u > 0), (-u, True))

    def sign(u: Any) -> Any:
        return sympy.Piecewise((sympy.Integer(1), u > 0), (sympy.Integer(-1), u < 0), (zero, True))

    made = np.empty(entries.shape, object)
    for index in np.ndindex(entries.shape):
        e = sympy.sympify(entries[index])
        made[index] = e.replace(sympy.Abs, absolute).replace(sympy.sign, sign)
    return made


def borders(expression: Any) -> list[Any]:
    """The conditions in an expression, without those that hold cases themselves."""
    import sympy

    found = set()
    for case in expression.atoms(sympy.Piecewise):
        for _, condition in case.args:
            found |= {c for c in condition.atoms(sympy.core.relational.Relational)
                      if not _has_cases(c.lhs) and not _has_cases(c.rhs)}  # fmt: skip
    return sorted(found, key=str)


def _has_cases(expression: Any) -> bool:
    import sympy

    return bool(expression.has(sympy.Piecewise))


class _Border(Exception):
    """The sign of an expression has to be known."""

    def __init__(self, expression: Any):
        self.expression = expression


class _Region:
    """What expressions are where the signs of some are known."""

    def __init__(self, signs: Mapping[Any, bool]):
        self.signs = signs
        self.known: dict[Any, Any] = {}

    def value(self, e: Any) -> Any:
        """The expression without cases; raises _Border where that needs one more sign."""
        import sympy

        if not e.has(sympy.Piecewise, sympy.core.relational.Relational):
            return e
        found = self.known.get(e)
        if found is None:
            if isinstance(e, sympy.Piecewise):
                found = self._chosen(e)
            else:
                found = e.func(*map(self.value, e.args))
            self.known[e] = found
        return found

    def _chosen(self, e: Any) -> Any:
        for value, condition in e.args:
            if self._holds(condition):
                return self.value(value)
        raise Unshown("a case is missing")

    def _holds(self, c: Any) -> bool:
        import sympy

        if c in (sympy.true, sympy.false):
            return bool(c)
        if isinstance(c, sympy.And):
            return all(self._holds(a) for a in c.args)
        if isinstance(c, sympy.Or):
            return any(self._holds(a) for a in c.args)
        if isinstance(c, sympy.Not):
            return not self._holds(c.args[0])
        if isinstance(c, sympy.ITE):
            return self._holds(c.args[1 if self._holds(c.args[0]) else 2])
        if not isinstance(c, sympy.core.relational.Relational):
            raise Unshown(f"the condition {c} is none of signs")
        gap = sympy.sympify(self.value(c.lhs) - self.value(c.rhs))
        if isinstance(c, sympy.Eq | sympy.Ne):
            # Two expressions that are not the same differ almost everywhere.
            return (how_zero(gap) is not None) == isinstance(c, sympy.Eq)
        is_strict = isinstance(c, sympy.StrictGreaterThan | sympy.StrictLessThan)
        wants_more = isinstance(c, sympy.StrictGreaterThan | sympy.GreaterThan)
        if how_zero(gap) is not None:
            return not is_strict
        return self._is_positive(gap) == wants_more

    def _is_positive(self, gap: Any) -> bool:
        import sympy

        if gap.is_extended_positive or gap.is_extended_negative:
            return bool(gap.is_extended_positive)
        if gap.is_number:
            raise Unshown(f"the sign of {gap} is unknown")
        # x > 0, -x < 0 and 2*x > 0 are one question
        _, primitive = sympy.expand(gap).as_content_primitive()
        is_negated = primitive.could_extract_minus_sign()
        if is_negated:
            primitive = -primitive
        if primitive not in self.signs:
            raise _Border(primitive)
        return bool(self.signs[primitive] != is_negated)


def _positive(signs: Mapping[Any, bool]) -> tuple[Any, ...]:
    return tuple(e if positive else -e for e, positive in signs.items())


def _is_empty(positive: tuple[Any, ...]) -> bool:
    """Whether no numbers make all expressions positive, by Fourier and Motzkin's elimination.

    Terms that are no multiples of each other count as independent numbers, so it may say no where
    the region is empty, but never yes where it is not.
    """
    import sympy

    rows: list[dict[Any, Any]] = [dict(sympy.expand(e).as_coefficients_dict()) for e in positive]
    terms = sorted({t for row in rows for t in row if t != 1}, key=str)
    rows += [{t: sympy.Integer(1)} for t in terms if t.is_positive]
    for term in terms:
        above = [r for r in rows if r.get(term, 0) > 0]
        below = [r for r in rows if r.get(term, 0) < 0]
        rows = [r for r in rows if r.get(term, 0) == 0]
        if len(above) * len(below) > _ROWS:
            return False
        for a in above:
            for b in below:
                both = {t: a.get(t, 0) / a[term] - b.get(t, 0) / b[term] for t in {*a, *b}}
                rows.append({t: c for t, c in both.items() if t != term and c != 0})
    return any(r.get(sympy.Integer(1), 0) <= 0 for r in rows)
