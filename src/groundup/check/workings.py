"""What is known of a backward's graph: what follows from what, and which values are alike."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cached_property
from typing import Any, TypeAlias

import numpy as np

from groundup.check.graphs import Graph
from groundup.ops.base import Array
from groundup.program.program import OPS, Equation
from groundup.program.runner import evaluate

# From all values to another one for an equation's output.
Change: TypeAlias = Callable[[Mapping[str, Any]], Any]
COMPARISONS = ("greater", "greater_equal", "less", "less_equal", "equal", "not_equal")
UNARY = (
    "exp",
    "log",
    "tanh",
    "sigmoid",
    "sqrt",
    "sin",
    "cos",
    "relu",
    "abs",
    "sign",
    "erf",
    "expm1",
    "log1p",
)
# Functions whose derivative is known in terms of the output, or of the input.
CURVED = ("exp", "log", "tanh", "sigmoid", "erf", "expm1", "log1p", "relu")
REDUCED = ("sum", "mean", "amax", "amin")
ALONG = ("softmax", "log_softmax", "cumsum")
VIEWS = ("transpose", "reshape", "expand", "cast")
SMALL_NUMBER = 0.1  # an eps is at most that
EPS_OPS = ("add", "sub", "maximum")  # and goes into these


SIGNS = {
    "add": "+",
    "sub": "-",
    "mul": "*",
    "div": "/",
    "matmul": "@",
    "power": "**",
    "greater": ">",
    "greater_equal": ">=",
    "less": "<",
    "less_equal": "<=",
}
# What the recorder calls values that nobody named.
UNNAMED = re.compile(r"(?:true )?\bd?d?t\d+\b")


def computing(equation: Equation) -> Change:
    """The value of an equation."""
    return lambda v: evaluate(equation, v)


def bound(function: Callable[..., Any], *args: Any) -> Change:
    """A function of values and more, the rest given."""
    return lambda v: function(v, *args)


class Workings:
    """A graph, and what can be told of its values.

    Args:
        graph: the backward that was written (then `repairs`), or the true one.
        wrong: the wrong gradients.
        target: what the gradients should become, by name.
        other: the graph's other point: its given arrays, and the target there.
        borrowed: values of the other graph that this one may use, at both points.

    """

    # How borrowed values are computed; those of forward, and those with the arriving gradient.
    lent: Mapping[str, Equation] = {}
    lent_forward: frozenset[str] = frozenset()
    lent_backward: frozenset[str] = frozenset()
    # Numbers of forward that may be an eps; integer inputs; the lengths of axes.
    borrowed_numbers: frozenset[float] = frozenset()
    labels: Sequence[Array] = ()
    counts: Sequence[int] = ()
    # What comes in besides variables, such as labels: it is of this call.
    known: Sequence[Array] = ()

    def __init__(
        self,
        graph: Graph,
        wrong: Sequence[str],
        target: Mapping[str, Array],
        other: tuple[Mapping[str, Array], Mapping[str, Array]],
        borrowed: tuple[Mapping[str, Any], Mapping[str, Any]],
        repairs: bool,
    ):
        self.graph, self.repairs = graph, repairs
        self.wrong = [n for n in wrong if n in graph.gradients and n in target]
        self.target, self.other_target = target, other[1]
        self.values = {**borrowed[0], **graph.values}
        self.other_values = {**borrowed[1], **graph.run(other[0])}
        self.borrowed = [n for n in borrowed[0] if n not in graph.values]
        self.equations = graph.equations
        self.index = {e.out.name: i for i, e in enumerate(self.equations) if e.out is not None}
        self.made = {name: self.equations[i] for name, i in self.index.items()}
        self.where_wrong = {graph.gradients[n]: n for n in self.wrong}

    @cached_property
    def descendants(self) -> list[list[int]]:
        """For each equation, the later ones that follow from it and lead to a wrong gradient."""
        needed: set[str] = set(self.where_wrong)
        for e in reversed(self.equations):
            if e.out is not None and e.out.name in needed:
                needed.update(e.names)
        found: list[list[int]] = []
        for i, e in enumerate(self.equations):
            reached, chain = {e.out.name if e.out is not None else ""}, []
            for j in range(i + 1, len(self.equations)):
                later = self.equations[j]
                if later.out is not None and not reached.isdisjoint(later.names):
                    reached.add(later.out.name)
                    if later.out.name in needed:
                        chain.append(j)
            found.append(chain)
        return found

    @cached_property
    def live(self) -> set[str]:
        """What depends on a value or on the gradient that arrives."""
        known = {
            n
            for n, array in self.graph.given.items()
            if any(np.shape(k) == array.shape and np.array_equal(k, array) for k in self.known)
        }
        known |= {
            e.out.name
            for e in self.equations
            if e.out is not None
            and e.op in ("array", "arange", "cast")
            and e.out.name not in known
            and any(np.array_equal(k, self.values[e.out.name]) for k in self.known)
        }
        known |= {n for n, array in self.graph.given.items() if self._is_one_hot(array)}
        known |= {
            e.out.name
            for e in self.equations
            if e.out is not None and e.op == "array" and self._is_one_hot(self.values[e.out.name])
        }
        return following(
            self.equations, {*self.graph.variables.values(), *self.graph.cotangents, *known}
        )

    def _is_one_hot(self, array: Array) -> bool:
        """Whether an array marks this call's labels: two numbers, one of them at the labels."""
        if array.ndim < 2 or len(np.unique(array)) != 2:
            return False
        for labels in self.labels:
            n = array.shape[-1]
            if (
                labels.shape == array.shape[:-1]
                and labels.min(initial=0) >= 0
                and (labels.max(initial=0) < n)
            ):
                marks = np.eye(n, dtype=bool)[labels]
                if np.array_equal(marks, array == array.max()) or np.array_equal(
                    marks, array == array.min()
                ):
                    return True
        return False

    @cached_property
    def backward(self) -> set[str]:
        """What depends on the gradient that arrives."""
        return following(self.equations, set(self.graph.cotangents))

    @cached_property
    def relevant(self) -> list[int]:
        """The equations that a wrong gradient depends on."""
        return [
            i
            for i, e in enumerate(self.equations)
            if self.descendants[i] or (e.out is not None and e.out.name in self.where_wrong)
        ]

    @cached_property
    def backward_places(self) -> set[int]:
        """Equations that the gradient that arrives is in."""
        return {self.index[n] for n in self.backward if n in self.index}

    @cached_property
    def forward(self) -> set[str]:
        """The values that forward computes, what goes in, and other views of them."""
        return forward_of(self.graph) | self.lent_forward

    @cached_property
    def pool(self) -> dict[tuple[int, ...], list[str]]:
        """The names of floating-point and boolean values by shape, equal ones once."""
        found: dict[tuple[int, ...], list[str]] = {}
        seen: set[tuple[Any, ...]] = set()
        for name in (*self.graph.given, *self.index, *self.borrowed):
            value = self.values[name]
            if not isinstance(value, np.ndarray) or value.dtype.kind not in "fbi":
                continue
            key = (value.shape, value.dtype.kind, np.ascontiguousarray(value).tobytes())
            if key not in seen:
                seen.add(key)
                found.setdefault(value.shape, []).append(name)
        return found

    def frozen_arrays(self, known: Sequence[Any]) -> list[str]:
        """Arrays in a backward that follow from nothing: kept from before, or constants of it."""
        found: list[str] = []
        needed: set[str] = set()
        for place in self.relevant:
            needed.update(self.equations[place].names)
        for name in needed:
            value = self.values.get(name)
            if name in self.live or not isinstance(value, np.ndarray) or value.size < 3:
                continue
            if value.dtype.kind != "f" or np.ptp(value) == 0:
                continue
            if any(np.shape(k) == value.shape and np.array_equal(k, value) for k in known):
                continue
            found.append(name)
        return found

    @cached_property
    def small_numbers(self) -> list[float]:
        """What may be an eps."""
        return sorted({*small_numbers(self.graph), *self.borrowed_numbers})

    def _array(self, operand: Any) -> Any:
        return self.values[operand] if isinstance(operand, str) else operand

    def _after(self, place: int) -> set[str]:
        return {self.equations[j].out.name for j in self.descendants[place]}  # type: ignore[union-attr]

    def _signed(self, shape: tuple[int, ...]) -> list[str]:
        """Values of a shape that have entries of both signs."""
        return [
            n
            for n in self.pool.get(shape, ())
            if self.values[n].dtype.kind == "f"
            and self.values[n].min(initial=0) < 0 < self.values[n].max(initial=0)
        ]

    def is_mask(self, name: Any) -> bool:
        """Whether a value is boolean, or has two values of which one is 0."""
        value = self._array(name)
        if not isinstance(value, np.ndarray) or value.size < 2:
            return False
        if value.dtype.kind == "b":
            return True
        kinds = np.unique(value)
        return len(kinds) == 2 and 0.0 in kinds

    # In words

    def described(self, name: str, depth: int = 2) -> str:
        """A value by its name, or by how it is computed where it has none."""
        if not UNNAMED.fullmatch(name):
            return name.removeprefix("true ")
        equation = self.lent.get(name) if name.startswith("true ") else None
        if equation is None and name in self.index:
            equation = self.made[name]
        if equation is None or depth == 0:
            return "..."
        prefix = "true " if name.startswith("true ") else ""
        ins = [
            self.described(prefix + i if prefix + i in self.lent or not prefix else i, depth - 1)
            if isinstance(i, str)
            else f"{i:g}"
            for i in equation.ins
        ]
        if equation.op in SIGNS and len(ins) == 2:
            return f"({ins[0]} {SIGNS[equation.op]} {ins[1]})"
        if equation.op == "transpose":
            return f"{ins[0]}.T"
        attrs = "".join(f", {k}={v}" for k, v in equation.attrs if k in ("axis", "exponent"))
        return f"{equation.op}({', '.join(ins)}{attrs})"

    # What it would mean that one value stands for another

    def _replacing(self, e: Equation, old: str, new: str) -> tuple[str, float]:
        """What the mistake is if one value stands for another."""
        if self.repairs and old not in self.live:
            if self._arrives(new):
                return "cotangent", 0.93
            if np.ptp(np.asarray(self.values[old], np.float64)) > 0:
                return "stale", 0.93
        if e.op in COMPARISONS or self.is_mask(old):
            return "mask", 0.9
        written_, true = (old, new) if self.repairs else (new, old)
        if self.is_mask(true):
            return "operand", 0.84
        if self._arrives(written_) != self._arrives(true):
            return "cotangent", 0.7
        if self._arrives(old) and (old.startswith("true ") or new.startswith("true ")):
            return "formula", 0.74  # the right value, whatever it is, in place of a wrong one
        if not self._arrives(old) and (old not in self.forward or new not in self.forward):
            return "formula", 0.8
        old, new = self._base(old), self._base(new)
        if self._steps(old, new):
            return "shift", 0.86
        ends = {old.removeprefix("true "), new.removeprefix("true ")}
        crossed = (
            len(ends & set(self.graph.outputs)) == 1
            and len(ends & set(self.graph.variables.values())) == 1
        )
        if e.op not in ("matmul", "einsum") and (crossed or self._images(old, new)):
            return "output", 0.9
        return "operand", 0.84

    def _arrives(self, name: str) -> bool:
        """Whether the gradient that arrives is in a value, of this graph or a borrowed one."""
        return name in self.backward or name in self.lent_backward

    def _base(self, name: str) -> str:
        """What a value is a view of."""
        while name in self.index and self.made[name].op in VIEWS:
            name = str(self.made[name].ins[0])
        return name

    def _steps(self, a: str, b: str) -> bool:
        """Whether two values are the same thing at two steps."""
        if a not in self.index or b not in self.index:
            return False
        x, y = self.made[a], self.made[b]
        if x.op == y.op == "slice" and x.ins == y.ins:
            return True
        return bool(
            x.op == y.op
            and x.op not in ("matmul", "add", "mul", "transpose", "reshape")
            and (a in self._before(b) or b in self._before(a))
        )

    def _before(self, name: str) -> set[str]:
        """Everything that a value was computed from."""
        found, stack = {name}, [name]
        while stack:
            i = self.index.get(stack.pop())
            for n in self.equations[i].names if i is not None else ():
                if n not in found:
                    found.add(n)
                    stack.append(n)
        return found

    def _images(self, a: str, b: str) -> bool:
        """Whether one value is an entry-by-entry function of the other alone."""
        return self._elementwise_of(a, b) or self._elementwise_of(b, a)

    def _elementwise_of(self, source: str, result: str) -> bool:
        value = self.values[source]
        stack, seen, met, curved = [result], set(), False, False
        while stack:
            name = stack.pop()
            if name == source:
                met = True
                continue
            if name in seen:
                continue
            seen.add(name)
            if name in self.graph.cotangents:
                return False
            i = self.index.get(name)
            if i is None:
                if np.size(self.values[name]) > 1:
                    return False
                continue
            e = self.equations[i]
            curved |= e.op in CURVED or e.op in ALONG
            if not OPS[e.op].elementwise and e.op not in ALONG:
                if name in self.live:
                    return False
                continue
            if np.shape(self.values[name]) != np.shape(value) and name in self.live:
                return False
            stack += e.names
        return met and curved

    def _chained(self, names: Sequence[str]) -> bool:
        """Whether values are one thing at several steps."""
        distinct = list(dict.fromkeys(names))
        if len(distinct) < 2:
            return False
        first, second = distinct[0], distinct[-1]
        if first in self.index and second in self.index:
            a, b = self.made[first], self.made[second]
            if a.op == b.op == "slice" and a.ins == b.ins:
                return True
            loop = a.op in (*CURVED, "add", "concatenate", "where") and len(distinct) > 2
            return (
                loop
                and a.op == b.op
                and self.forward.issuperset(distinct)
                and (first in self._before(second) or second in self._before(first))
            )
        return False


def is_number(operand: Any, graph: Graph) -> float | None:
    """An operand that is a single fixed number, or None."""
    if isinstance(operand, str):
        value: Any = graph.values.get(operand)
        if operand in graph.variables.values() or operand in graph.cotangents:
            return None
        if np.ndim(value) or np.asarray(value).dtype.kind not in "fi":
            return None
        return float(value)
    return None if isinstance(operand, bool) else float(operand)


def following(equations: Iterable[Equation], found: set[str]) -> set[str]:
    """Some values, and all that follows from them."""
    found = set(found)
    for e in equations:
        if e.out is not None and not found.isdisjoint(e.names):
            found.add(e.out.name)
    return found


def small_numbers(graph: Graph) -> set[float]:
    """What may be an eps."""
    numbers = (
        abs(is_number(k, graph) or 0.0) for e in graph.equations if e.op in EPS_OPS for k in e.ins
    )
    return {number for number in numbers if 0 < number <= SMALL_NUMBER}


def signature(e: Equation, made: Mapping[str, Equation]) -> tuple[Any, ...]:
    """What an equation has in common with the same one at other steps of a loop."""
    ins = tuple(
        (made[i].op if i in made else "given") if isinstance(i, str) else "number" for i in e.ins
    )
    return (e.op, ins, e.out.shape if e.out is not None else (), e.phase)


def forward_of(graph: Graph) -> set[str]:
    """The values that forward computes, what goes in, and other views of them."""
    needed = set(graph.outputs)
    for e in reversed(graph.equations):
        if e.out is not None and e.out.name in needed:
            needed.update(e.names)
    needed |= set(graph.variables.values())
    for e in graph.equations:
        if e.out is not None and e.op in VIEWS and needed.issuperset(e.names):
            needed.add(e.out.name)
    return needed
