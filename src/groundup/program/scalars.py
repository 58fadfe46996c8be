"""The pass for what is one number in every entry, or made of numbers that shapes give.

The gradient of a mean is one number, broadcast. Autograd computes with the broadcast arrays; here
that is done once, with the number.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np

from groundup.program.layouts import Layout, Layouts
from groundup.program.program import OPS, Equation, Operand, Program, Var, infer

# Each entry is rounded by itself, alike in an array of any layout.
_EXACT = ("add", "sub", "mul", "div", "neg", "abs", "maximum", "minimum")
_ARITHMETIC = ("add", "sub", "mul", "div")


def scalars(program: Program) -> Program:
    """Compute with single numbers what is broadcast afterwards, or follows from shapes."""
    return _Scalars(program).run()


class _Scalars:
    def __init__(self, program: Program):
        self.program = program
        self.known = dict(program.vars)
        self.names = set(self.known)
        self.spread: dict[str, str] = {}  # broadcast values of a 0-d one: its name
        self.counts: dict[str, Operand] = {}  # 0-d arrays made of a size: the number's name
        self.made: dict[str, Equation] = {}
        self.equations: list[Equation] = []
        self.layouts = Layouts(program, self.known)
        for e in program.equations:
            self.layouts.add(e)

    def run(self) -> Program:
        for e in self.program.equations:
            if e.out is None or e.out.is_number:
                self._keep(e)
            elif not (self._of_counts(e) or self._of_spread(e)):
                e = self._reading_numbers(e)
                self._note(e)
                self._keep(e)
        return self.program.with_equations(self.equations)

    def _keep(self, e: Equation) -> None:
        self.equations.append(e)
        if e.out is not None:
            self.made[e.out.name] = e

    def _note(self, e: Equation) -> None:
        assert e.out is not None
        source = str(e.ins[0]) if e.ins else ""
        if e.op in ("reshape", "expand", "transpose") and e.out.shape:
            if not self.known[source].shape:
                self.spread[e.out.name] = source
            elif source in self.spread:
                self.spread[e.out.name] = self.spread[source]
        elif e.op == "cast" and self._is_count(source, e.out.dtype):
            self.counts[e.out.name] = source

    def _is_count(self, name: str, dtype: str) -> bool:
        """Whether a number is a size that the dtype holds exactly."""
        made = self.made.get(name)
        if made is None or made.op != "size" or dtype not in ("float32", "float64"):
            return False
        return self.known[str(made.ins[0])].size <= 1 << 24

    def _of_counts(self, e: Equation) -> bool:
        """1.0 / np.float32(len(x)) as np.float32(1.0 / len(x)).

        Rounding the double quotient of two single-precision numbers to single precision gives
        their single-precision quotient, and so it is with sums, differences and products
        (Figueroa, "When is double rounding innocuous?", SIGNUM Newsletter 30, 1995).
        """
        assert e.out is not None
        if e.op not in _ARITHMETIC or e.out.shape or not any(i in self.counts for i in e.names):
            return False
        ins: list[Any] = [self.counts.get(i, i) if isinstance(i, str) else i for i in e.ins]
        if not all(
            i in self.counts.values() if isinstance(i, str) else _fits_exactly(i, e.out.dtype)
            for i in ins
        ):
            return False
        number = Var(self._temporary(), (), "float")
        self._keep(replace(e, out=number, ins=tuple(float(i) if not isinstance(i, str) else i
                                                    for i in ins)))  # fmt: skip
        attrs = (("dtype", np.dtype(e.out.dtype)),)
        self._keep(replace(e, op="cast", ins=(number.name,), attrs=attrs))
        return True

    def _of_spread(self, e: Equation) -> bool:
        """-broadcast(x) as broadcast(-x), where only element-wise ops read it."""
        assert e.out is not None
        if e.op not in _EXACT or not e.out.shape or not any(i in self.spread for i in e.names):
            return False
        if not all(i in self.spread or not self.known[i].shape for i in e.names):
            return False
        uses = self.program.uses[e.out.name]
        if -1 in uses or not all(self._may_broadcast(e.out.name, u) for u in uses):
            return False
        ins = tuple(self.spread.get(i, i) if isinstance(i, str) else i for i in e.ins)
        single = Var(self._temporary(), (), e.out.dtype)
        self.known[single.name] = single
        self.layouts.found[single.name] = Layout(())
        self._keep(replace(e, out=single, ins=ins))
        self._keep(replace(e, op="expand", ins=(single.name,), attrs=(("shape", e.out.shape),)))
        self.spread[e.out.name] = single.name
        self.layouts.found[e.out.name] = Layout((), dense=False)
        return True

    def _reading_numbers(self, e: Equation) -> Equation:
        """An element-wise equation that reads the single number instead of what is spread of it."""
        if e.op not in _EXACT:
            return e
        for at, i in enumerate(e.ins):
            if isinstance(i, str) and i in self.spread:
                ins = (*e.ins[:at], self.spread[i], *e.ins[at + 1 :])
                fewer = replace(e, ins=ins)
                fits = e.out is not None and infer(fewer, self.known) == (e.out.shape, e.out.dtype)
                if fits and self.layouts.same(e, fewer):
                    e = fewer
        return e

    def _may_broadcast(self, name: str, user: int) -> bool:
        """Whether an equation makes the same, in the same layout, of a broadcast value."""
        e, found = self.program.equations[user], self.layouts.found
        before, whole = self.layouts.of(e), found[name]
        found[name] = Layout((), dense=False)
        after = self.layouts.of(e)
        found[name] = whole
        return OPS[e.op].elementwise and before is not None and before == after

    def _temporary(self) -> str:
        i = len(self.names)
        while f"t{i}" in self.names:
            i += 1
        self.names.add(f"t{i}")
        return f"t{i}"


def _fits_exactly(number: Any, dtype: str) -> bool:
    """Whether a dtype holds a Python number without rounding."""
    if isinstance(number, bool) or not math.isfinite(number) or abs(number) > 1e30:
        return False
    rounded = float(np.dtype(dtype).type(number))  # compared as doubles
    return bool(rounded == number)
