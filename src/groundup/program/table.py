"""A Program as a table: what each line costs, by its ops' own count and by the clock."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from time import perf_counter
from typing import TYPE_CHECKING, Any

import numpy as np

from groundup.ops.base import quiet
from groundup.program.program import OPS, Equation, Program, shape_of
from groundup.program.runner import evaluate
from groundup.program.source import Printer

if TYPE_CHECKING:
    from rich.table import Table


def flops(program: Program, e: Equation) -> int:
    """An equation's floating-point operations: one an entry, a product's multiplications and sums
    each for themselves.
    """
    if e.out is None or e.out.is_number:
        return 0
    known = program.vars
    shapes = [shape_of(known[i]) if isinstance(i, str) else () for i in e.ins]
    return OPS[e.op].flops(e.out.shape, *shapes, **dict(e.attrs))


def traffic(program: Program, e: Equation) -> tuple[int, int]:
    """The bytes that an equation reads and writes; a view moves none."""
    if e.out is not None and OPS[e.op].is_view:
        return 0, 0
    read = sum(program.vars[name].nbytes for name in e.names if e.op != "size")
    return read, 0 if e.out is None or e.out.is_number else e.out.nbytes


def measure(program: Program, values: Mapping[str, Any], rounds: int = 20) -> dict[int, float]:
    """Seconds of each equation, by its index: the median of some rounds, each equation for itself.

    Args:
        program: what is run, with NumPy, equation by equation and without kept buffers.
        values: its inputs by name, such as `Compiled.arguments` gives. They are not changed.
        rounds: how often all is run.

    """
    seconds: list[list[float]] = [[] for _ in program.equations]
    with quiet():
        for _ in range(rounds):
            known = dict(values)
            for i, e in enumerate(program.equations):
                start = perf_counter()
                result = evaluate(e, known)
                seconds[i].append(perf_counter() - start)
                if e.out is not None:
                    known[e.out.name] = result
    return {i: float(np.median(s)) for i, s in enumerate(seconds)}


@dataclass
class Cost:
    """What a line, or a phase, costs."""

    flops: int = 0
    read: int = 0
    written: int = 0
    seconds: float = 0.0

    def add(self, program: Program, e: Equation, seconds: float) -> None:
        """Add an equation's."""
        read, written = traffic(program, e)
        self.flops += flops(program, e)
        self.read += read
        self.written += written
        self.seconds += seconds


def table(program: Program, profile: Mapping[int, float] | None = None) -> Table:
    """A line of the source with its cost, and sums for each phase. See `Program.table`."""
    from rich.markup import escape
    from rich.table import Table

    printer = Printer(program)
    lines = printer.run()
    costs = [Cost() for _ in lines]
    phases: dict[str, Cost] = {}
    checks = iter([i for i, line in enumerate(lines) if line.code.startswith("assert ")])
    for i, e in enumerate(program.equations):
        at = next(checks) if e.out is None else printer.line_of.get(e.out.name)
        seconds = profile[i] if profile is not None else 0.0
        if at is not None:
            costs[at].add(program, e, seconds)
        phases.setdefault(e.phase, Cost()).add(program, e, seconds)
    total = sum(profile.values()) if profile is not None else None
    rows: list[tuple[list[str], str]] = []
    phase = ""
    for line, cost in zip(lines, costs, strict=True):
        if line.phase != phase:
            phase = line.phase
            rows.append(([f"# {phase}", "", *_row(phases[phase], total)], "bold"))
        rows.append(([line.code, line.shape, *_row(cost, total)], ""))
    made = Table(title=f"{program.name}: {len(lines)} lines", title_justify="left")
    columns = ["line", "shape", "flops", "read", "written", "time", "share", "GFLOP/s"]
    for i, name in enumerate(columns[: 5 if total is None else 8]):
        # In a narrow terminal the source goes on in a second line, and no number is cut.
        made.add_column(name, justify="left" if i < 2 else "right", no_wrap=i > 0, overflow="fold")
    for row, style in rows:
        made.add_row(escape(row[0]), *row[1:], style=style)
    return made


def _row(cost: Cost, total: float | None) -> list[str]:
    texts = [count(cost.flops), size(cost.read), size(cost.written)]
    return texts if total is None else texts + _timed(cost.seconds, cost.flops, total)


def _timed(seconds: float, cost: int, total: float) -> list[str]:
    rate = f"{cost / seconds / 1e9:.2f}" if seconds and cost else ""
    return [f"{seconds * 1e6:.1f} us", f"{seconds / total:.0%}" if total else "", rate]


def count(n: int) -> str:
    """A number of operations for people: 12.3 M."""
    for unit, scale in (("G", 10**9), ("M", 10**6), ("k", 10**3)):
        if n >= scale:
            return f"{n / scale:.3g} {unit}"
    return str(n) if n else ""


def size(n: int) -> str:
    """A number of bytes for people: 12.3 MB."""
    for unit, scale in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if n >= scale:
            return f"{n / scale:.3g} {unit}"
    return f"{n} B" if n else ""
