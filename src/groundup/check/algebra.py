"""What SymPy is asked: derivatives, their values, and their shortest form."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from groundup.ops.base import Array

# simplify() is for expressions of at most so many operations and functions: beyond, it may take
# minutes. Of tanh and its like it tries every identity, so one is enough.
SMALL, FEW = 120, 6


def gradient(out: Array, dout: Array, variable: Array) -> Array:
    """The entries of sum(dout * out) differentiated by the entries of a variable."""
    import sympy

    total = sum((d * o for d, o in zip(dout.flat, out.flat, strict=True)), sympy.Integer(0))
    made = np.empty(variable.shape, object)
    for index in np.ndindex(variable.shape):
        made[index] = sympy.diff(total, variable[index])
    return made


def _is_easy(expression: Any) -> bool:
    """Whether simplify() is done with it soon."""
    import sympy

    waves = expression.atoms(
        sympy.functions.elementary.hyperbolic.HyperbolicFunction,
        sympy.functions.elementary.trigonometric.TrigonometricFunction,
    )
    few = len(expression.atoms(sympy.Function)) <= FEW and len(waves) <= 1
    return bool(expression.count_ops() <= SMALL and few)


def by_sign(expression: Any, symbol: Any) -> tuple[Any, Any, Any, Any]:
    """The expression for a positive and for a negative symbol, and those two symbols."""
    import sympy

    positive = sympy.Dummy(symbol.name, positive=True)
    negative = sympy.Dummy(symbol.name, negative=True)
    return (
        expression.subs(symbol, positive),
        expression.subs(symbol, negative),
        positive,
        negative,
    )


def kinks(expression: Any) -> list[Any]:
    """The symbols inside of Piecewise, Abs or sign alone: where their sign matters."""
    import sympy

    found: set[Any] = set()
    for part in expression.atoms(sympy.Piecewise, sympy.Abs, sympy.sign):
        found |= part.free_symbols
    return sorted(found, key=str)


def shortest(expression: Any) -> Any:
    """The shortest of the forms that SymPy knows of an expression."""
    import sympy

    expression = sympy.sympify(expression)
    forms = [expression]
    if _is_easy(expression):
        forms += [sympy.factor_terms(expression), sympy.simplify(expression)]
        marks = kinks(expression)
        if len(marks) == 1:
            forms += _same_on_both_sides(expression, marks[0])
        forms += [apart for f in forms for apart in _partial_fractions(f)]
    known = _functions(expression)  # not cosh(x/2)**2 for what is made of exp(x)
    return min((f for f in forms if _functions(f) <= known), key=lambda e: int(e.count_ops()))


def _partial_fractions(expression: Any) -> list[Any]:
    """1 - y - 1/(exp(x) + 1), where there is a single exponential."""
    import sympy

    found = expression.atoms(sympy.exp)
    if len(found) != 1 or kinks(expression):
        return []
    (exponential,) = found
    e = sympy.Dummy()
    factors = sympy.factor_terms(expression.subs(exponential, e))
    with_e, without = sympy.Integer(1), sympy.Integer(1)
    for factor in sympy.Mul.make_args(factors):
        if factor.has(e):
            with_e *= factor
        else:
            without *= factor
    if not with_e.is_rational_function(e):
        return []
    return [(without * sympy.apart(with_e, e)).subs(e, exponential)]


def _functions(expression: Any) -> set[Any]:
    import sympy

    return {f.func for f in expression.atoms(sympy.Function)}


def _same_on_both_sides(expression: Any, symbol: Any) -> list[Any]:
    """A form without cases, if the same holds for positive and negative symbols."""
    import sympy

    above, below, positive, negative = by_sign(expression, symbol)
    forms = [
        sympy.simplify(above).subs(positive, symbol),
        sympy.simplify(below).subs(negative, symbol),
    ]
    if kinks(forms[0]) or kinks(forms[1]) or sympy.simplify(forms[0] - forms[1]) != 0:
        return []
    return forms


def through(slope: Any, formula: Any, x: Any, out: Any) -> Any:
    """A derivative in terms of the output, if that needs no more functions; else None."""
    import sympy

    direct = slope.subs(formula, out)
    if direct.has(x):
        if sum(part == x for part in sympy.preorder_traversal(formula)) > 1:
            return None  # solving for x may take forever
        try:
            inverse = sympy.solve(sympy.Eq(out, formula), x)
        except NotImplementedError:
            return None
        if len(inverse) != 1 or inverse[0].has(sympy.Piecewise):
            return None
        direct = sympy.factor(sympy.simplify(slope.subs(x, inverse[0])))
    if direct.has(x) or not direct.is_rational_function(out) or not direct.has(out):
        return None
    return shortest(direct)


def evaluated(
    entries: Sequence[Any], symbols: Sequence[Any]
) -> Callable[[Iterable[float]], list[float]]:
    """The expressions as a function of numbers for the symbols."""
    import sympy

    plain = sympy.symbols(f"s:{len(symbols)}", real=True)
    renamed = dict(zip(symbols, plain, strict=True))
    made = [sympy.sympify(e).subs(renamed, simultaneous=True) for e in entries]
    function = sympy.lambdify(plain, made, modules=[{"sign": _sign}, "math"], cse=True)

    def values(numbers: Iterable[float]) -> list[float]:
        return [float(v) for v in function(*numbers)]

    return values


def _sign(x: float) -> float:
    return math.copysign(1.0, x) if x else 0.0
