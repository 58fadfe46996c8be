"""How values lie in memory, as far as that can be told from shapes.

Sums and matrix products round differently when the same entries lie in another order, so a pass
that keeps every bit keeps the layout, too. The inputs of a Program are taken to be C-contiguous.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from groundup.ops.base import Shape
from groundup.program.program import OPS, Equation, Program, Var

_FRESH = ("full", "array", "arange", "uniform", "normal", "unslice", "scatter_add")


class Layout(NamedTuple):
    """The axes from the outermost in memory to the innermost.

    Those of length 1 are left out, and those along which the entries are the same memory. Not
    dense: there are such, or gaps.
    """

    axes: tuple[int, ...]
    dense: bool = True

    @property
    def in_order(self) -> bool:
        """Whether NumPy goes through it in C's order."""
        return self.axes == tuple(sorted(self.axes))


def in_c_order(shape: Shape) -> Layout:
    """The layout of a C-contiguous array."""
    return Layout(tuple(i for i, n in enumerate(shape) if n != 1))


class Layouts:
    """The layout of every value that is told, by name; None where it is not known."""

    def __init__(self, program: Program, known: Mapping[str, Var]):
        self.known = known
        self.found: dict[str, Layout | None] = {
            i.var.name: in_c_order(i.var.shape) for i in program.inputs
        }

    def add(self, e: Equation) -> None:
        """Note what an equation makes."""
        if e.out is not None:
            self.found[e.out.name] = self.of(e)

    def same(self, e: Equation, other: Equation) -> bool:
        """Whether two equations surely make the same layout."""
        found = self.of(e)
        return found is not None and found == self.of(other)

    def is_copy(self, e: Equation, name: str) -> bool:
        """Whether an equation that computes nothing lies in memory as the value that it copies."""
        found = self.of(e)
        return found is not None and found.dense and found == self.found[name]

    def of(self, e: Equation) -> Layout | None:
        """The layout of what an equation makes."""
        assert e.out is not None
        plain = in_c_order(e.out.shape)
        if not plain.axes or not e.out.size or e.op in _FRESH:
            return plain
        given = [self.found[i] for i in e.names if self.known[i].shape]
        first, shape = self.found[e.names[0]], self.known[e.names[0]].shape
        if OPS[e.op].is_view:
            return None if first is None else self._view(e, e.out.shape, first, shape)
        if len(plain.axes) == 1 and e.op != "einsum":
            return plain  # of one axis there is one layout
        if OPS[e.op].elementwise and e.op != "cast":
            return self._elementwise(e, plain)
        ordered = all(g is not None and g.in_order for g in given)
        if e.op == "matmul":  # of matrices it is fresh, whatever they are
            return plain if ordered or len(e.out.shape) == 2 else None
        if e.op == "take":
            return plain if ordered and len(dict(e.attrs)["pattern"]) == 1 else None
        if e.op == "cast":  # NumPy's copies keep an order that has no gaps
            return first if first is not None and first.dense else None
        return plain if ordered and e.op != "einsum" else None

    def _elementwise(self, e: Equation, plain: Layout) -> Layout | None:
        """NumPy keeps the order that all inputs have; where they differ, C's order wins."""
        assert e.out is not None
        orders = set()
        for name in e.names:
            layout, shape = self.found[name], self.known[name].shape
            if layout is None:
                return None
            extra = len(e.out.shape) - len(shape)
            orders.add(tuple(a + extra for a in layout.axes))
        if plain.axes in orders or all(o == tuple(sorted(o)) for o in orders):
            return plain
        several = {o for o in orders if len(o) > 1}
        (order,) = several if len(several) == 1 else ((),)
        return Layout(order) if len(order) == len(plain.axes) else None

    def _view(self, e: Equation, out: Shape, first: Layout, shape: Shape) -> Layout | None:
        attrs = dict(e.attrs)
        if e.op == "transpose":
            place = {axis: i for i, axis in enumerate(attrs["axes"])}
            return Layout(tuple(place[a] for a in first.axes), first.dense)
        mine, others = in_c_order(out).axes, in_c_order(shape).axes
        if e.op in ("reshape", "expand") and [out[a] for a in mine] == [shape[a] for a in others]:
            place = dict(zip(others, mine, strict=True))  # axes of length 1 came or went
            return Layout(tuple(place[a] for a in first.axes), first.dense)
        if e.op == "reshape":
            return Layout(mine) if first == in_c_order(shape) else None
        if e.op == "expand":
            return Layout(tuple(a + len(out) - len(shape) for a in first.axes), dense=False)
        steps = [p.step or 1 for p in attrs["index"] if isinstance(p, slice)]
        in_order = first.axes == others and min(steps, default=1) > 0
        return Layout(mine, dense=False) if in_order else None
