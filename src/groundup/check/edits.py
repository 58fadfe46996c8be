"""Graphs with one thing changed: what a mistake, or its repair, would make of them.

The same changes are tried both ways: in the true backward, until it gives the wrong numbers that
were found, and in the one that was written, until it gives the true ones.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any

import numpy as np

from groundup.check.changes import Edit
from groundup.check.loops import Loops
from groundup.check.relations import Clue, close, size_of
from groundup.check.workings import UNNAMED, Change
from groundup.ops.base import Array, quiet
from groundup.program.runner import evaluate


class Explorer(Loops):
    """Tries changes to a graph, until `deadline`, a time of `time.perf_counter`."""

    deadline = float("inf")

    def found(self, edits: Iterator[Edit]) -> Iterator[Clue]:
        """The edits that give the target, at both points."""
        for edit in edits:
            if time.perf_counter() > self.deadline:
                return
            names = self._works(edit, self.values, self.target)
            if names and set(names) == set(self._works(edit, self.other_values, self.other_target)):
                share = len(names) / max(len(self.wrong), 1)
                if share == 1.0:
                    yield Clue(edit.kind, names, self._evidence(edit), edit.weight)
                elif self.repairs or share >= 0.5:
                    yield Clue(edit.kind, names, self._evidence(edit), edit.weight * 0.6)

    def _works(
        self, edit: Edit, values: Mapping[str, Any], target: Mapping[str, Array]
    ) -> tuple[str, ...]:
        try:
            with quiet():
                changes = {edit.place: edit.change, **dict(edit.others)}
                return self.score(self.changed(changes, values), target)
        except (ValueError, TypeError, IndexError, KeyError, ArithmeticError):
            return ()
        except Exception as error:
            if type(error).__module__.startswith("groundup"):
                return ()
            raise

    def changed(self, changes: Mapping[int, Change], values: Mapping[str, Any]) -> dict[str, Any]:
        """The values that follow when equations compute something else."""
        now = dict(values)
        places = set(changes)
        for place in changes:
            places.update(self.descendants[place])
        for j in sorted(places):
            e = self.equations[j]
            assert e.out is not None
            if j not in changes:
                now[e.out.name] = evaluate(e, now)
                continue
            new = np.asarray(changes[j](now))
            if new.shape != e.out.shape:
                # Another axis may leave another shape, and what follows broadcast it.
                with suppress(ValueError):
                    if new.ndim == len(e.out.shape):
                        new = np.broadcast_to(new, e.out.shape)
            now[e.out.name] = new
        return now

    def score(self, now: Mapping[str, Any], target: Mapping[str, Array]) -> tuple[str, ...]:
        """The wrong gradients that have become as they should."""
        return tuple(
            name for own, name in self.where_wrong.items() if close(now[own], target[name])
        )

    def _evidence(self, edit: Edit) -> str:
        e = self.equations[edit.place]
        assert e.out is not None
        says = UNNAMED.sub(lambda m: self.described(m.group()), edit.says)
        line = self.described(e.out.name)
        if self.repairs:
            return f"in the backward as written, {line}: {says}, and it is right"
        return f"in the true backward, {line}: {says}, and these numbers come out"

    def factors(self) -> Iterator[tuple[int, float, tuple[str, ...]]]:
        """Equations whose output, times a constant, gives the target: place, constant, names."""
        for place in self.relevant:
            if time.perf_counter() > self.deadline:
                return
            out = self.equations[place].out
            if out is None or np.asarray(self.values[out.name]).dtype.kind != "f":
                continue
            constants = []
            for values, target in (
                (self.values, self.target),
                (self.other_values, self.other_target),
            ):
                try:
                    with quiet():
                        constants.append(self._factor(place, values, target))
                except Exception:  # what a zero does to a division, a root, a check
                    break
            if len(constants) == 2 and None not in constants:
                (c, names), (again, same) = constants  # type: ignore[misc]
                if names and names == same and abs(c - again) <= 1e-6 * max(abs(c), 1e-3):
                    yield place, c, names

    def _factor(
        self, place: int, values: Mapping[str, Any], target: Mapping[str, Array]
    ) -> tuple[float, tuple[str, ...]] | None:
        out = self.equations[place].out
        assert out is not None
        base = values[out.name]
        without = self.changed({place: lambda v: np.zeros_like(base)}, values)
        top = bottom = 0.0
        for own, name in self.where_wrong.items():
            part = values[own] - without[own]
            if np.shape(values[own]) != np.shape(target[name]) or not np.isfinite(part).all():
                return None
            weight = 1 / max(size_of(target[name]), 1e-300) ** 2
            top += weight * float(np.vdot(part, target[name] - without[own]))
            bottom += weight * float(np.vdot(part, part))
        if not bottom:
            return None
        c = top / bottom
        if abs(c - 1) < 1e-9 or not np.isfinite(c):
            return None
        names = self.score(self.changed({place: lambda v: c * base}, values), target)
        return (c, names) if len(names) == len(self.wrong) else None
