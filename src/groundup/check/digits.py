"""Expressions computed at a point, to many digits."""

from __future__ import annotations

import operator
from collections.abc import Iterable, Mapping
from typing import Any

from groundup.check.symbols import Uninterpreted

DIGITS = 50


def values(expressions: Iterable[Any], at: Mapping[Any, Any]) -> list[Any]:
    """The expressions' values, where fractions are put in for symbols; None where not real.

    Each shared part is computed once, and nothing is rebuilt: SymPy's own ways of putting numbers
    in take seconds for a gradient of a recurrent cell.

    Raises:
        Uninterpreted: a function is not known here.

    """
    import mpmath

    with mpmath.workdps(DIGITS):
        point = _Point({s: mpmath.mpf(v.numerator) / v.denominator for s, v in at.items()})
        return [point.real(e) for e in expressions]


class _Point:
    def __init__(self, known: dict[Any, Any]):
        self.known = known

    def real(self, e: Any) -> Any:
        import mpmath
        import sympy

        try:
            found = mpmath.mpmathify(self.value(sympy.sympify(e)))
        except (ZeroDivisionError, OverflowError, ValueError, TypeError):
            return None  # log(0), or complex numbers compared
        return found if mpmath.isfinite(found) and not mpmath.im(found) else None

    def value(self, e: Any) -> Any:
        """A number, or a truth value."""
        found = self.known.get(e)
        if found is None:
            found = self.known[e] = self._value(e)
        return found

    def _value(self, e: Any) -> Any:
        import mpmath
        import sympy

        if e.is_Rational:
            return mpmath.mpf(e.p) / e.q
        if isinstance(e, sympy.Piecewise):
            return next(self.value(v) for v, condition in e.args if self.value(condition))
        if isinstance(e, sympy.ITE):
            return self.value(e.args[1 if self.value(e.args[0]) else 2])
        if e in (sympy.true, sympy.false):
            return bool(e)
        name = type(e).__name__
        if name not in _FUNCTIONS:
            raise Uninterpreted(f"{e.func} has no value here")
        parts = [self.value(a) for a in e.args]
        function = _FUNCTIONS[name]
        if callable(function):
            return function(parts)
        return getattr(mpmath, function)(*parts)


def _product(parts: list[Any]) -> Any:
    total = parts[0]
    for part in parts[1:]:
        total = total * part
    return total


# By the name of SymPy's class: a function of the parts, or the name of mpmath's.
_FUNCTIONS: dict[str, Any] = {
    "Add": sum,
    "Mul": _product,
    "Pow": lambda parts: operator.pow(*parts),
    "And": all,
    "Or": any,
    "Not": lambda parts: not parts[0],
    "StrictGreaterThan": lambda parts: operator.gt(*parts),
    "GreaterThan": lambda parts: operator.ge(*parts),
    "StrictLessThan": lambda parts: operator.lt(*parts),
    "LessThan": lambda parts: operator.le(*parts),
    "Equality": lambda parts: operator.eq(*parts),
    "Unequality": lambda parts: operator.ne(*parts),
    "Pi": lambda parts: _constant("pi"),
    "Exp1": lambda parts: _constant("e"),
    **{name: name for name in ("exp", "log", "sin", "cos", "tanh", "erf")},
}


def _constant(name: str) -> Any:
    import mpmath

    return +getattr(mpmath, name)
