"""What the drawing shows: a row for each layer, and what flows between the rows."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from groundup.explain.recorded import Recorded
from groundup.program.batch import symbolic_shapes
from groundup.program.program import Equation, Program
from groundup.program.source import Printer


@dataclass(frozen=True)
class Flow:
    """A value on its way: its name (several, if blocks were folded), shape and gradient norms."""

    names: tuple[str, ...]
    shape: str
    norms: tuple[float, ...] = ()

    def together(self, other: Flow) -> Flow:
        """Both as one."""
        names = tuple(dict.fromkeys(self.names + other.names))
        return Flow(names, self.shape, self.norms + other.norms)


@dataclass(frozen=True)
class Edge:
    """A value that one row's box makes and another's reads; both forward or both backward."""

    source: int
    target: int
    flow: Flow


@dataclass(frozen=True)
class Row:
    """A layer: its forward box, and beside it its backward box.

    Attributes:
        label: the layer, or the name of an argument.
        forward: lines of source. backward: the same; None if there is no backward box.
        inputs: parameters and other values from outside that forward reads.
        gradients: of parameters, that backward makes.
        saved: names of what backward reads of forward's values and of parameters.
        block: the frame of folded blocks that the row is in, "" outside.

    """

    label: str
    forward: tuple[str, ...] = ()
    backward: tuple[str, ...] | None = None
    inputs: tuple[Flow, ...] = ()
    gradients: tuple[Flow, ...] = ()
    saved: tuple[str, ...] = ()
    is_argument: bool = False
    block: str = ""


@dataclass(frozen=True)
class Graph:
    """All rows from top to bottom, and the edges between them."""

    rows: tuple[Row, ...]
    forward: tuple[Edge, ...]
    backward: tuple[Edge, ...]


@dataclass
class Part:
    """The equations of a row."""

    label: str
    forward: list[Equation] = field(default_factory=list)
    backward: list[Equation] = field(default_factory=list)


def graph(step: Recorded) -> Graph:
    """All layers of a step."""
    return _Builder(step).build()


def parts_of(step: Recorded) -> list[Part]:
    """The Program's equations by layer, in the order of the forward pass."""
    parts: list[Part] = []
    last = ""
    for e in step.program.equations:
        if e.phase == "forward":
            label = step.owner.get(e.module, e.module)
            if not parts or label != last:
                parts.append(Part(label))
            parts[-1].forward.append(e)
            last = label
    if not parts:
        return []
    runs: list[Part] = []
    for e in step.program.equations:
        if e.phase == "backward":
            label = step.owner.get(e.module, e.module)
            if not runs or label != runs[-1].label:
                runs.append(Part(label))
            runs[-1].backward.append(e)
    for run in runs:
        _part_of(run, parts).backward += run.backward
    return parts


def _part_of(run: Part, parts: list[Part]) -> Part:
    """The forward part that a piece of the backward pass belongs to.

    A layer that is called twice has two; its backward reads what its own call read and made, and
    the last call's comes first.
    """
    same = [p for p in parts if p.label == run.label]
    if not same:  # sums between layers: they go with what was there before
        return next((p for p in parts if p.backward), parts[-1])
    reads = set(_names(run.backward))

    def likeness(part: Part) -> tuple[int, bool]:
        own = {*_names(part.forward), *(e.out.name for e in part.forward if e.out is not None)}
        return len(own & reads), not part.backward

    return max(reversed(same), key=likeness)


class _Builder:
    """Rows and edges of a step."""

    def __init__(self, step: Recorded):
        self.step, self.program = step, step.program
        self.parts = parts_of(step)
        self.shapes = symbolic_shapes(self.program)[0]
        self.code = assignments(self.program)
        self.outside = {i.var.name: i for i in self.program.inputs}
        first = [n for e in self.parts[0].forward for n in e.names] if self.parts else []
        arguments = [i.var.name for i in self.program.inputs_of("argument")]
        self.on_top = [a for a in arguments if a in first]
        self.made_in = {e.out.name: i for i, _, e in self._all() if e.out is not None}
        self.made_in |= {a: i for i, a in enumerate(self.on_top)}
        self.by_forward = {
            e.out.name for p in self.parts for e in p.forward if e.out is not None
        } | set(self.on_top)
        self.constant = {e.out.name for _, _, e in self._all() if e.out is not None and not e.names}
        self.gradients = self._gradients()

    def _gradients(self) -> set[str]:
        """The values of the backward pass that follow from the loss's gradient."""
        found: set[str] = set()
        own = self.parts[-1].backward if self.parts else []
        for e in self.program.equations:
            follows = e in own or any(n in found for n in e.names)
            if e.phase == "backward" and e.out is not None and follows:
                found.add(e.out.name)
        return found

    def _all(self) -> Iterator[tuple[int, bool, Equation]]:
        for i, part in enumerate(self.parts, len(self.on_top)):
            for e in part.forward:
                yield i, True, e
            for e in part.backward:
                yield i, False, e

    def _flow(self, name: str) -> Flow:
        norm = self.step.norms.get(name)
        return Flow((name,), self.shapes[name], () if norm is None else (norm,))

    def build(self) -> Graph:
        """The rows and the edges."""
        rows = [Row(f"{a} {self.shapes[a]}", is_argument=True) for a in self.on_top]
        rows += map(self._row, self.parts)
        return Graph(tuple(rows), self._edges(True), self._edges(False))

    def _row(self, part: Part) -> Row:
        read = _names(part.forward)
        made = {e.out.name for e in part.backward if e.out is not None}
        read_back = _names(part.backward)
        kept = dict.fromkeys(k for n in read_back if n not in made for k in self._origins(n))
        return Row(
            part.label or self.program.name,
            self._lines(part.forward),
            self._lines(part.backward) if part.backward else None,
            tuple(self._flow(n) for n in read if self._is_shown(n)),
            tuple(self._flow(g) for g in self.step.gradients.values() if g in made),
            tuple(kept),
        )

    def _origins(self, name: str) -> list[str]:
        """The values of the forward pass and from outside that a value other than a gradient shows.

        Two layers' backward passes may share a view of one value.
        """
        if name in self.by_forward or name in self.outside:
            shown = name not in self.constant and not self._is_setting(name)
            return [name] if shown else []
        if name in self.gradients:
            return []
        made = next(e for _, _, e in self._all() if e.out is not None and e.out.name == name)
        return [origin for n in made.names for origin in self._origins(n)]

    def _is_shown(self, name: str) -> bool:
        """Whether it hangs off its layer: a random stream's seed and counter do not."""
        given = self.outside.get(name)
        return given is not None and name not in self.on_top and given.var.dtype != "uint64"

    def _is_setting(self, name: str) -> bool:
        return name in self.outside and self.outside[name].role == "setting"

    def _lines(self, equations: Iterable[Equation]) -> tuple[str, ...]:
        names = [e.out.name for e in equations if e.out is not None]
        return tuple(f"{n} = {self.code[n]}" for n in names if n in self.code)

    def _edges(self, is_forward: bool) -> tuple[Edge, ...]:
        found: dict[tuple[int, int, str], Edge] = {}
        for i, of_forward, e in self._all():
            if of_forward is not is_forward:
                continue
            for name in e.names:
                source = self.made_in.get(name, i)
                flows = name in (self.by_forward if is_forward else self.gradients)
                if source != i and flows and name not in self.constant:
                    found.setdefault((source, i, name), Edge(source, i, self._flow(name)))
        return tuple(found.values())


def _names(equations: Iterable[Equation]) -> list[str]:
    return list(dict.fromkeys(n for e in equations for n in e.names))


def assignments(program: Program) -> dict[str, str]:
    """What the printed step sets each name to, as source; loops over layers written out."""
    found = (re.fullmatch(r"(\w+) = (.*)", line.code) for line in Printer(program).run())
    return {match[1]: match[2] for match in found if match is not None}
