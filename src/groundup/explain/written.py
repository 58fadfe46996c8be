"""Lines of a derivation, each as plain text and as LaTeX."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

# Longer expressions are counted, not shown.
LONGEST = 45


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


def equation(left: Any, *right: Any) -> Line:
    """left = right = ..., of expressions or names; what is too long is counted instead."""
    import sympy
    from sympy.printing.pretty.pretty import pretty

    sides = [s if isinstance(s, sympy.Basic) else sympy.Symbol(str(s)) for s in (left, *right)]
    long = [s.count_ops() for s in sides if s.count_ops() > LONGEST]
    if long:
        return words(f"{sides[0]}: an expression of {max(long)} operations")
    sides = [decimals(s) for s in sides]
    names = {s: latex_name(s.name) for side in sides for s in side.free_symbols}
    latex = " = ".join(sympy.latex(s, symbol_names=names) for s in sides)
    # Eq(a, b) prints as a = b, aligned with fractions; of three sides the last is set beside.
    text = pretty(sympy.Eq(sides[0], sides[1], evaluate=False), use_unicode=True, wrap_line=False)
    for side in sides[2:]:
        text = _beside(text, pretty(side, use_unicode=True, wrap_line=False))
    return Line("formula", _stripped(text), latex)


def _beside(left: str, right: str) -> str:
    """Two formulas of several lines next to each other, an equals sign between."""
    from sympy.printing.pretty.stringpict import stringPict

    a, b = left.split("\n"), right.split("\n")
    joined = stringPict(*_centred(a)).right(" = ").right(stringPict(*_centred(b)))
    return "\n".join(joined[0].split("\n")) if isinstance(joined[0], str) else str(joined[0])


def _centred(lines: list[str]) -> list[str]:
    return lines


def _stripped(text: str) -> str:
    return "\n".join(line.rstrip() for line in text.split("\n"))


def decimals(expression: Any) -> Any:
    """The expression with 0.044715 in place of 8943/200000."""
    import sympy

    def is_long(e: Any) -> bool:
        return isinstance(e, sympy.Rational) and e.q > 16

    return expression.replace(is_long, lambda e: sympy.Float(repr(float(e))))


def latex_name(name: str) -> str:
    """x[0,1] as x_{0,1}."""
    match = re.fullmatch(r"(\w+?)(?:\[([\d,]+)\])?", name)
    if match is None:
        return rf"\text{{{_escaped(name)}}}"
    stem = match[1] if len(match[1]) == 1 else rf"\mathrm{{{_escaped(match[1])}}}"
    return f"{stem}_{{{match[2]}}}" if match[2] else stem


def _escaped(text: str) -> str:
    special = {"\\": r"\backslash ", "{": r"\{", "}": r"\}", "^": r"\hat{}", "~": r"\sim "}
    return "".join(special.get(c, f"\\{c}" if c in "_#$%&" else c) for c in text)
