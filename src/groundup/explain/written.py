"""Lines of a derivation, each as plain text and as LaTeX."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

# Longer expressions are counted, not shown.
LONGEST = 45
# Larger formulas are written in one line, as SymPy reads them.
TALLEST, WIDEST = 16, 110


@dataclass(frozen=True)
class Line:
    """A formula, a line of source, or a sentence."""

    kind: str  # "formula", "source" or "words"
    text: str
    latex: str


def words(text: str) -> Line:
    """A sentence."""
    return Line("words", text, rf"\text{{{_escaped(text)}}}")


def source(text: str) -> Line:
    """A line of NumPy."""
    return Line("source", text, rf"\texttt{{{_escaped(text)}}}")


def equation(left: Any, right: Any) -> Line:
    """left = right, of expressions or names; what is too long is counted instead."""
    import sympy

    sides = [s if isinstance(s, sympy.Basic) else sympy.Symbol(s) for s in (left, right)]
    operations = int(sides[1].count_ops())
    if operations > LONGEST:
        return words(f"{sides[0]} is an expression of {operations} operations.")
    both = sympy.Eq(*map(decimals, sides), evaluate=False)
    names = {s: latex_name(s.name) for s in both.free_symbols}
    text = sympy.pretty(both, use_unicode=True, wrap_line=False)
    rows = [row.rstrip() for row in text.split("\n")]
    if len(rows) > TALLEST or max(map(len, rows)) > WIDEST:
        rows = [f"{both.lhs} = {both.rhs}"]
        if len(rows[0]) > 2 * WIDEST:
            return words(f"{sides[0]} is a formula of {len(rows[0])} characters.")
    return Line("formula", "\n".join(rows), sympy.latex(both, symbol_names=names))


def decimals(expression: Any) -> Any:
    """The expression with 0.044715 in place of 8943/200000."""
    import sympy

    def is_decimal(e: Any) -> bool:
        return isinstance(e, sympy.Rational) and e.q > 16 and 10**12 % e.q == 0

    return expression.replace(is_decimal, lambda e: sympy.Float(repr(float(e))))


def latex_name(name: str) -> str:
    """x[0,1] as x_{0,1}."""
    match = re.fullmatch(r"(\w+?)(?:\[([\d,]+)\])?", name)
    if match is None:
        return rf"\text{{{_escaped(name)}}}"
    stem = match[1] if len(match[1]) == 1 else rf"\mathrm{{{_escaped(match[1])}}}"
    return f"{stem}_{{{match[2]}}}" if match[2] else stem


def _escaped(text: str) -> str:
    """Text for LaTeX's text mode."""
    special = {"\\": r"\textbackslash{}", "^": r"\^{}", "~": r"\textasciitilde{}"}
    return "".join(special.get(c, f"\\{c}" if c in "_#$%&{}" else c) for c in text)
