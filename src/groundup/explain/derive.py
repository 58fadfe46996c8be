"""Each layer's gradients, derived by SymPy from its forward, and compared with what backward does.

Nothing here knows a formula of any layer: the forward Program is computed on symbols, and SymPy
differentiates the entries.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from groundup.check import algebra, cases, symbols
from groundup.check.alone import Alone
from groundup.explain import indexed
from groundup.explain.graph import assignments
from groundup.explain.recorded import Call, Recorded
from groundup.explain.small import NotSmall, small
from groundup.explain.summary import is_layer
from groundup.explain.written import Line, equation, source, words
from groundup.nn.module import has_bwd
from groundup.ops.base import Array
from groundup.program.program import OPS

POINTS = 5  # random points at which derivatives are compared
TOLERANCE = 1e-9  # relative to the largest entry; what rounding in float64 explains
_TOO_LONG = 3000  # operations of all outputs together


@dataclass(frozen=True)
class Derivation:
    """How a layer's gradients follow from its forward.

    Attributes:
        layers: where in the model: "layers[0] Linear"; several if they are the same.
        lines: formulas, lines of NumPy and sentences.
        agrees: whether backward computes the derivatives; None if nothing could be derived.
        proved: whether SymPy proved that, for every entry.

    """

    layers: tuple[str, ...]
    lines: tuple[Line, ...]
    agrees: bool | None = None
    proved: bool = False

    @property
    def layer(self) -> str:
        """The layers in words."""
        return ", ".join(self.layers)

    @property
    def text(self) -> str:
        """The derivation for a terminal."""
        return "\n".join(line.text for line in self.lines)

    @property
    def latex(self) -> str:
        """The derivation as LaTeX, for a display formula."""
        rows = " \\\\\n".join("& " + line.latex for line in self.lines)
        return f"\\begin{{aligned}}\n{rows}\n\\end{{aligned}}"


def derivations(step: Recorded) -> list[Derivation]:
    """A derivation for each kind of layer, in the order of the forward pass."""
    found: dict[Any, Derivation] = {}
    for call in step.calls:
        if step.owner[call.label] != call.label or not is_layer(call.module):
            continue
        try:
            one = small(call)
        except NotSmall as error:
            key: Any = (type(call.module), str(error))
            made = found.get(key) or Derivation((), (words(f"Not derived: {error}."),))
        else:
            key = (type(call.module), one.program.digest)
            made = found.get(key) or _derived(call, one)
        layers = tuple(dict.fromkeys((*made.layers, call.label)))
        found[key] = Derivation(layers, made.lines, made.agrees, made.proved)
    return list(found.values())


def _derived(call: Call, one: Alone) -> Derivation:
    try:
        return _Deriver(call, one).derive()
    except symbols.Uninterpreted as error:
        return Derivation((), (words(f"Not derived: {error}."),))


class _Deriver:
    """Derives one layer."""

    def __init__(self, call: Call, one: Alone):
        self.call, self.one, self.program = call, one, one.program
        (self.name,) = one.outs
        self.given: dict[str, Any] = {
            name: symbols.symbols(name, array.shape) if name in one.variables else array
            for name, array in one.inputs.items()
        }
        self.values = symbols.interpret(self.program, self.given)
        self.out = symbols.expressions(self.values[self.name])
        self.dout = self.given["dout"]

    def derive(self) -> Derivation:
        """All of it."""
        if sum(int(e.count_ops()) for e in self.out.flat) > _TOO_LONG:
            raise symbols.Uninterpreted("its output has too many operations for SymPy")
        derived = {
            name: algebra.gradient(self.out, self.dout, self.given[name])
            for name in self.one.gradients
        }
        gap, wrong = self._compared(derived)
        proved = not wrong and all(
            cases.shown(a - b).how is not None
            for name, gradient in self.one.gradients.items()
            for a, b in zip(
                cases.opened(derived[name]).flat,
                cases.opened(self._claimed(gradient)).flat,
                strict=True,
            )
        )
        lines = self._elementwise() if self._is_elementwise() else self._entries(derived)
        return Derivation(
            (), (*lines, *self._backward(), words(self._verdict(gap, wrong, proved))),
            not wrong, proved,
        )  # fmt: skip

    def _claimed(self, gradient: str) -> Array:
        """What backward computes, in symbols."""
        return symbols.expressions(self.values[gradient])

    # Layers that treat every entry alone

    def _is_elementwise(self) -> bool:
        forward = [e for e in self.program.equations if e.phase == "forward" and e.out is not None]
        variables = [n for n in self.given if n in self.one.variables and n != "dout"]
        return (
            variables == list(self.one.gradients)
            and len(self.one.inputs) == 2  # the one, and dout
            and bool(self.out.shape)
            and all(OPS[e.op].elementwise for e in forward)
        )

    def _elementwise(self) -> list[Line]:
        import sympy

        (name,) = self.one.gradients
        x, out = (sympy.Symbol(n, real=True) for n in (name, "out"))
        place = (0,) * self.out.ndim
        formula = self.out[place].subs(self.given[name][place], x)
        slope = sympy.diff(formula, x)
        shown = algebra.shortest(slope)
        by_out = algebra.through(slope, formula, x, out)
        derivative = sympy.Derivative(out, x)
        lines = [equation("out", formula), equation(derivative, shown)]
        if by_out is not None:
            lines.append(equation(derivative, by_out))
            shown = by_out
        gradient = sympy.Symbol(self.one.gradients[name])
        return [*lines, equation(gradient, sympy.Symbol("dout") * shown)]

    # Other layers: the first entries stand for all

    def _entries(self, derived: dict[str, Array]) -> list[Line]:
        shapes = ", ".join(f"{n} {a.shape}" for n, a in self.one.inputs.items() if n != "dout")
        data = [n for n in self.one.inputs if n not in self.one.variables]
        shown = [n for n in data if self.one.inputs[n].dtype != np.uint64]
        fixed = "".join(f", {n} = {self.one.inputs[n].tolist()}" for n in shown)
        lines = [words(f"At a small size, {shapes}{fixed}:")]
        try:
            lines.append(equation(*indexed.formula(self.program, self.name)))
        except symbols.Uninterpreted:
            lines.append(equation(*self._entry(self.name, self.out, (0,) * self.out.ndim)))
        notation = self._softmax()
        if notation is not None:
            lines.append(equation(notation.name, notation.value))
        for name, gradient in self.one.gradients.items():
            entries = derived[name]
            places = [(0,) * entries.ndim]
            if shown and entries.ndim and entries.shape[-1] > 1:
                places.append((*places[0][:-1], 1))  # a label, or a mask, tells entries apart
            for place in places:
                left, right = self._entry(gradient, entries, place)
                lines.append(equation(left, self._short(right, notation)))
        return lines

    def _entry(self, name: str, entries: Array, place: tuple[int, ...]) -> tuple[Any, Any]:
        import sympy

        index = f"[{','.join(map(str, place))}]" if place else ""
        return sympy.Symbol(name + index), entries[place]

    def _short(self, expression: Any, notation: _Softmax | None) -> Any:
        short = algebra.shortest(expression)
        if notation is not None:
            by_p = notation.within(expression)
            if by_p is not None and by_p.count_ops() < short.count_ops():
                return by_p
        return short

    def _softmax(self) -> _Softmax | None:
        """The softmax that the layer takes of symbols, by the name that it has in the Program."""
        found = [e for e in self.program.equations if e.op in ("softmax", "log_softmax")]
        own = next((e for e in found if e.op == "softmax"), found[0] if found else None)
        if own is None or own.out is None:
            return None
        x = self.values[str(own.ins[0])]
        if not symbols.is_symbolic(x) or not all(v.is_Symbol for v in x.flat):
            return None
        return _Softmax(own.out.name if own.op == "softmax" else "p", x, dict(own.attrs)["axis"])

    # What backward does

    def _backward(self) -> list[Line]:
        """The lines of NumPy by which backward computes the gradients."""
        code = assignments(self.program)
        names = [e.out.name for e in self.program.equations
                 if e.phase == "backward" and e.out is not None]  # fmt: skip
        written = [f"{n} = {code[n]}" for n in names if n in code]
        whose = "Its bwd" if has_bwd(self.call.module) else "Autograd of its ops"
        return [words(f"{whose}:"), *map(source, written)] if written else []

    def _compared(self, derived: dict[str, Array]) -> tuple[float, str]:
        """The largest relative difference at random points; where it is no rounding, in words."""
        entries = [v for name in derived for v in derived[name].flat]
        variables = [n for n in self.given if n in self.one.variables]
        flat = [s for n in variables for s in self.given[n].flat]
        function = algebra.evaluated(entries, flat)
        rng = np.random.Generator(np.random.Philox(key=1))
        largest, wrong = 0.0, ""
        for _ in range(POINTS):
            point = dict(self.one.inputs)
            for n in variables:
                low, high = (-2.0, 2.0) if self.one.inputs[n].min(initial=0) < 0 else (0.1, 0.9)
                point[n] = rng.uniform(low, high, point[n].shape)
            found = iter(function([float(v) for n in variables for v in point[n].flat]))
            values = self.one.run(point)
            for name, gradient in self.one.gradients.items():
                true = np.array([next(found) for _ in range(derived[name].size)])
                own = np.asarray(values[gradient], np.float64).reshape(-1)
                gap = np.abs(own - true) / (np.abs(true).max(initial=0.0) or 1.0)
                largest = max(largest, float(gap.max(initial=0.0)))
                if not wrong and not (gap <= TOLERANCE).all():
                    k = int(np.argmax(gap))
                    place = ",".join(map(str, np.unravel_index(k, derived[name].shape)))
                    wrong = (
                        f"{gradient}[{place}] is {own[k]:.6g} at a random point, and the "
                        f"derivative there {true[k]:.6g}"
                    )
        return largest, wrong

    def _verdict(self, gap: float, wrong: str, proved: bool) -> str:
        whose = "its bwd" if has_bwd(self.call.module) else "backward"
        if wrong and not has_bwd(self.call.module):
            return f"Backward is not the derivative: is a value detached on purpose? {wrong}."
        if wrong:
            return f"WRONG: {whose} is not the derivative. {wrong}."
        if proved:
            return f"SymPy proves that {whose} computes these derivatives, entry by entry."
        return (
            f"At {POINTS} random points {whose} equals these derivatives within {gap:.0e}; "
            "SymPy found no proof."
        )


class _Softmax:
    """p = softmax(x), as a shorter way to write expressions with exp(x) / sum(exp(x))."""

    def __init__(self, name: str, x: Array, axis: int):
        import sympy

        self.x, self.axis = x, axis
        self.p = symbols.symbols(name, x.shape)
        first = (0,) * x.ndim
        self.name = self.p[first]
        self.value = sympy.exp(x[first]) / self._sum(x[self._row(first)])

    def _row(self, place: Sequence[int]) -> tuple[Any, ...]:
        row: list[Any] = list(place)
        row[self.axis] = slice(None)
        return tuple(row)

    def _sum(self, row: Array) -> Any:
        import sympy

        return sympy.Add(*(sympy.exp(v) for v in row))

    def within(self, expression: Any) -> Any:
        """The expression by means of p; None where exponentials are left over."""
        import sympy

        sums: dict[Any, Any] = {}
        for place in np.ndindex(self.x.shape):
            row = self.x[self._row(place)]
            total = sums.setdefault(self._sum(row), sympy.Dummy())
            expression = expression.subs(self._sum(row), total)
            expression = expression.subs(sympy.exp(self.x[place]), self.p[place] * total)
        made = algebra.shortest(expression)
        return None if made.free_symbols & set(sums.values()) else made
