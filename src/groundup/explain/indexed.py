"""A layer's forward as one formula with indices: out[n,j] = b[j] + sum of w[i,j] x[n,i] over i."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeAlias

from groundup.check.symbols import Uninterpreted, entry_rules, exact_number
from groundup.ops.base import Shape
from groundup.ops.reduce import axes_of
from groundup.program.program import OPS, Equation, Program

# An entry of an array, from its indices.
Entry: TypeAlias = Callable[[Sequence[Any]], Any]
LETTERS = {0: "", 1: "n", 2: "nj", 3: "ntj"}


def formula(program: Program, out: str) -> tuple[Any, Any]:
    """Both sides: out[n,j], and the expression in entries of what goes in.

    Raises:
        Uninterpreted: an op on the way has no such form here.

    """
    import sympy

    shape = program.vars[out].shape
    if len(shape) not in LETTERS:
        raise Uninterpreted(f"{len(shape)} indices")
    free = [sympy.Symbol(letter, integer=True) for letter in LETTERS[len(shape)]]
    entries = _Entries(program)
    return entries.input(out, "out" if shape else out)(free), entries.of(out)(free)


class _Entries:
    def __init__(self, program: Program):
        self.program = program
        self.made = {e.out.name: e for e in program.equations if e.out is not None}
        self.letters = self._fresh()

    def _fresh(self) -> Iterator[Any]:
        import sympy

        for letter in "iklmpqrs":
            yield sympy.Symbol(letter, integer=True)
        raise Uninterpreted("too many sums")

    def input(self, name: str, called: str = "") -> Entry:
        """An input's entries."""
        import sympy

        if not self.program.vars[name].shape:
            return lambda index: sympy.Symbol(called or name, real=True)
        base = sympy.IndexedBase(called or name, real=True)
        return lambda index: base[tuple(index)]

    def of(self, name: Any) -> Entry:
        """A value's entries; a number is the same everywhere."""
        if not isinstance(name, str):
            return lambda index: exact_number(float(name))
        if name not in self.made:
            return self.input(name)
        e = self.made[name]
        shapes = [self.program.vars[i].shape if isinstance(i, str) else () for i in e.ins]
        entries = [self.of(i) for i in e.ins]
        assert e.out is not None
        rule = _RULES.get(e.op)
        if rule is not None:
            return rule(self, e, entries, shapes)
        if OPS[e.op].elementwise and e.op in entry_rules():
            return self._elementwise(e, entries, shapes)
        raise Uninterpreted(f"the op {e.op} has no form with indices here")

    def _elementwise(self, e: Equation, entries: list[Entry], shapes: list[Shape]) -> Entry:
        rule = entry_rules()[e.op]

        def entry(index: Sequence[Any]) -> Any:
            parts = []
            for of, shape in zip(entries, shapes, strict=True):
                own = list(index)[len(index) - len(shape) :]
                parts.append(of([0 if n == 1 else i for i, n in zip(own, shape, strict=True)]))
            return rule(*parts)

        return entry

    def _sum(self, count: int, term: Callable[[Any], Any]) -> Any:
        import sympy

        letter = next(self.letters)
        return sympy.Sum(term(letter), (letter, 0, count - 1))

    def _matmul(self, e: Equation, entries: list[Entry], shapes: list[Shape]) -> Entry:
        x, y = entries
        if len(shapes[1]) != 2 or not shapes[0]:
            raise Uninterpreted("a product of more than two axes")
        return lambda index: self._sum(
            shapes[1][0], lambda i: x([*index[:-1], i]) * y([i, index[-1]])
        )

    def _reduced(self, e: Equation, entries: list[Entry], shapes: list[Shape]) -> Entry:
        attrs: Mapping[str, Any] = dict(e.attrs)
        shape = shapes[0]
        axes = axes_of(attrs.get("axis"), len(shape))
        count = math.prod(shape[a] for a in axes) if e.op == "mean" else 1

        def entry(index: Sequence[Any]) -> Any:
            given = list(index)
            if not attrs.get("keepdims"):
                for axis in axes:
                    given.insert(axis, 0)

            def summed(left: tuple[int, ...]) -> Any:
                if not left:
                    return entries[0](given)

                def term(letter: Any) -> Any:
                    given[left[0]] = letter
                    return summed(left[1:])

                return self._sum(shape[left[0]], term)

            return summed(axes) / count

        return entry

    def _log_softmax(self, e: Equation, entries: list[Entry], shapes: list[Shape]) -> Entry:
        import sympy

        axis, x = dict(e.attrs)["axis"], entries[0]

        def entry(index: Sequence[Any]) -> Any:
            def term(letter: Any) -> Any:
                other = list(index)
                other[axis] = letter
                return sympy.exp(x(other))

            total = self._sum(shapes[0][axis], term)
            own = x(index)
            return own - sympy.log(total) if e.op == "log_softmax" else sympy.exp(own) / total

        return entry

    def _take(self, e: Equation, entries: list[Entry], shapes: list[Shape]) -> Entry:
        import sympy

        if any(not isinstance(p, str) for p in dict(e.attrs)["pattern"]) or (
            len(shapes[0]) != len(shapes) - 1
        ):
            raise Uninterpreted("an index of more than arrays")
        x, *indices = entries

        def whole(v: Any) -> Any:
            return sympy.IndexedBase(v.base.label, integer=True)[v.indices] if v.args else v

        return lambda index: x([whole(i(index)) for i in indices])

    def _arange(self, e: Equation, entries: list[Entry], shapes: list[Shape]) -> Entry:
        return lambda index: index[0]

    def _transpose(self, e: Equation, entries: list[Entry], shapes: list[Shape]) -> Entry:
        axes = dict(e.attrs)["axes"]

        def entry(index: Sequence[Any]) -> Any:
            own = [index[0]] * len(axes)
            for i, axis in enumerate(axes):
                own[axis] = index[i]
            return entries[0](own)

        return entry


_RULES: dict[str, Callable[[_Entries, Equation, list[Entry], list[Shape]], Entry]] = {
    "matmul": _Entries._matmul,
    "sum": _Entries._reduced,
    "mean": _Entries._reduced,
    "softmax": _Entries._log_softmax,
    "log_softmax": _Entries._log_softmax,
    "take": _Entries._take,
    "arange": _Entries._arange,
    "transpose": _Entries._transpose,
}
