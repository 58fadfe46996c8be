"""The same change to several equations at once: at every step of a loop, or everywhere."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cached_property
from itertools import combinations
from typing import Any

import numpy as np

from groundup.check.changes import Changes, Edit, together
from groundup.check.rearranged import alike
from groundup.check.workings import (
    EPS_OPS,
    SMALL_NUMBER,
    VIEWS,
    Change,
    bound,
    computing,
    is_number,
    signature,
)
from groundup.program.program import Equation
from groundup.program.runner import evaluate


class Loops(Changes):
    """Changes of several equations."""

    def everywhere(self) -> Iterator[Edit]:
        """The same change to several equations at once."""
        yield from self._all_axes()
        yield from self._all_means()
        yield from self._all_eps()
        yield from self._at_every_step()
        yield from self._renamed()

    def _all_means(self) -> Iterator[Edit]:
        """Sums for means everywhere, and the reverse."""
        groups: dict[tuple[str, Any], list[int]] = {}
        for place in self.relevant:
            e = self.equations[place]
            if e.op in ("sum", "mean") and e.out is not None and e.out.name in self.backward:
                axis = dict(e.attrs).get("axis")
                groups.setdefault((e.op, axis if axis is None else str(axis)), []).append(place)
        for (op, _), places in groups.items():
            for chosen in [c for n in range(2, len(places) + 1) for c in combinations(places, n)][
                :30
            ]:
                for up in (True, False):
                    changes: list[tuple[int, Change]] = []
                    for place in chosen:
                        e = self.equations[place]
                        shape = np.shape(self._array(e.ins[0]))
                        n = np.prod(shape) / max(e.out.size, 1)  # type: ignore[union-attr]
                        by = n if up else 1 / n
                        changes.append((place, bound(lambda v, e, by: evaluate(e, v) * by, e, by)))
                    how = "times" if up else "divided by"
                    says = f"{op} of {len(chosen)} terms {how} its number of entries"
                    yield together("mean", 0.92, says, changes)

    def _all_eps(self) -> Iterator[Edit]:
        """The same eps left out everywhere."""
        by_number: dict[float, list[tuple[int, Change]]] = {}
        for place, e in enumerate(self.equations):
            for j, k in enumerate(e.ins):
                number = abs(is_number(k, self.graph) or 0.0)
                if e.op in EPS_OPS and e.out is not None and 0 < number <= SMALL_NUMBER:
                    ins = (*e.ins[:j], 0.0, *e.ins[j + 1 :])
                    changed = Equation(e.out, e.op, ins, e.attrs)
                    by_number.setdefault(number, []).append((place, computing(changed)))
        for number, changes in by_number.items():
            if len(changes) > 1:
                yield together("eps", 0.95, f"without {number:g}", changes)

    def _all_axes(self) -> Iterator[Edit]:
        """All reductions along another axis."""
        by_axis: dict[Any, list[int]] = {}
        for place in self.relevant:
            e = self.equations[place]
            if e.op in ("sum", "mean") and e.out is not None and isinstance(e.ins[0], str):
                by_axis.setdefault(
                    (dict(e.attrs).get("axis"), np.shape(self._array(e.ins[0]))), []
                ).append(place)
        for (axis, shape), places in by_axis.items():
            for size in range(len(places), 1, -1):
                for chosen in combinations(places, size) if len(places) < 7 else [tuple(places)]:
                    for other in range(len(shape)):
                        if axis in (other, other - len(shape), (other,)):
                            continue
                        changes = []
                        for place in chosen:
                            e = self.equations[place]
                            attrs = (("axis", other), ("keepdims", True))
                            changed = Equation(e.out, e.op, e.ins, attrs)
                            changes.append((place, computing(changed)))
                        says = f"and {size - 1} more, over axis {other}"
                        yield together("axis", 0.9, says, changes)
                if len(places) >= 7:
                    break

    @cached_property
    def families(self) -> list[list[int]]:
        """Relevant equations that are the same at several steps."""
        found: dict[Any, list[int]] = {}
        for place in self.relevant:
            e = self.equations[place]
            if e.out is not None and not e.out.is_number:
                found.setdefault(signature(e, self.made), []).append(place)
        return [f for f in found.values() if 2 <= len(f) <= 24]

    def _at_every_step(self) -> Iterator[Edit]:
        for family in self.families:
            yield from self._zipped(family)
        series = self._series()
        for family in self.families:
            first = self.equations[family[0]]
            if first.op in VIEWS or first.out is None or first.out.name in self.forward:
                continue
            for j, operand in enumerate(first.ins):
                if not isinstance(operand, str) or any(
                    not isinstance(self.equations[p].ins[j], str) for p in family
                ):
                    continue
                old = [str(self.equations[p].ins[j]) for p in family]
                yield from self._series_edits(family, j, old, series)

    def _zipped(self, family: list[int]) -> Iterator[Edit]:
        """The same single change to every member."""
        for one in (
            self._dropped,
            self._signs_and_axes,
            self._transposed,
            self._numbers,
            self._eps,
            self._scattered,
            self._functions,
        ):
            lists = [list(one(p, self.equations[p])) for p in family]
            if len({len(edits) for edits in lists}) > 1:
                continue
            for edits in zip(*lists, strict=True):
                if len({e.kind for e in edits}) == 1:
                    first = edits[0]
                    changes = [(e.place, e.change) for e in edits]
                    says = f"at every step {first.says}"
                    yield together(first.kind, first.weight, says, changes)

    def _series(self) -> list[list[str | None]]:
        """Values at the steps of a loop, and the same a step earlier and later."""
        found: dict[Any, list[str]] = {}
        for e in self.equations:
            if e.out is not None and e.out.shape and e.out.name in self.live:
                found.setdefault(signature(e, self.made), []).append(e.out.name)
                if e.out.name in self.forward:
                    # The first step, from zeros or an initial state, may be made another way.
                    found.setdefault((e.op, e.out.shape, "any"), []).append(e.out.name)
        made: list[list[str | None]] = []
        seen: set[tuple[Any, ...]] = set()
        for members in found.values():
            if not 2 <= len(members) <= 24 or tuple(members) in seen:
                continue
            seen.add(tuple(members))
            made.append(list(members))
            shape = np.shape(self.values[members[0]])
            starts = [n for n in self.pool.get(shape, ()) if n in self.graph.given][:3]
            for end in (None, *starts):
                made.append([end, *members[:-1]])
                made.append([*members[1:], end])
                made.append([end, *members])
        return made

    def _series_edits(
        self, family: list[int], j: int, old: list[str], series: list[list[str | None]]
    ) -> Iterator[Edit]:
        bases = [self._base(n) for n in old]
        for members in series:
            if len(members) < len(family):
                continue
            for backwards_ in (False, True):
                new = members[: len(family)][::-1] if backwards_ else members[: len(family)]
                if new == bases or any(
                    np.size(self.values[n]) != np.size(self.values[o])
                    for n, o in zip(new, old, strict=True)
                    if n is not None
                ):
                    continue
                known = next((n, o) for n, o in zip(new, old, strict=True) if n is not None)
                kind, weight = self._replacing(self.equations[family[0]], known[1], known[0])
                if set(filter(None, new)) & set(bases):
                    # Steps of a loop follow from one another, or are parts of one array.
                    if not self._chained(bases):
                        continue
                    kind, weight = "shift", 0.92 if set(new) != set(bases) else 0.9

                def change(
                    v: Mapping[str, Any], place: int, n: str | None, o: str, base: str
                ) -> Any:
                    fresh = np.zeros_like(v[o]) if n is None else alike(v[n], v[base], v[o])
                    e = self.equations[place]
                    ins = (*e.ins[:j], o, *e.ins[j + 1 :])
                    return evaluate(Equation(e.out, e.op, ins, e.attrs), {**v, o: fresh})

                changes: list[tuple[int, Change]] = [
                    (p, bound(change, p, n, o, b))
                    for p, n, o, b in zip(family, new, old, bases, strict=True)
                ]
                shown_ = ", ".join(n or "0" for n in new[:3])
                says = f"at every step {shown_}... for {old[0]}..."
                yield together(kind, weight + 0.01, says, changes)

    def _renamed(self) -> Iterator[Edit]:
        """One value for another in all of the backward."""
        for old in (*self.graph.given, *self.index):
            value = self.values[old]
            if not isinstance(value, np.ndarray) or value.dtype.kind not in "fb" or not value.ndim:
                continue
            users = [
                p
                for p in self.relevant
                if old in self.equations[p].names and self.equations[p].phase == "backward"
            ]
            if not users:
                continue
            if value.ndim == 2 and value.shape[0] == value.shape[1]:
                turned: list[tuple[int, Change]] = [
                    (
                        p,
                        bound(
                            lambda v, e, o: evaluate(e, {**v, o: v[o].T}), self.equations[p], old
                        ),
                    )
                    for p in users
                ]
                yield together("transpose", 0.92, f"{old}.T", turned)
            for new in self.pool.get(value.shape, ()):
                if new == old or self.values[new].dtype.kind != value.dtype.kind:
                    continue
                if self.index.get(new, -1) >= users[0] or new in self._after(users[0]):
                    continue
                first = self.equations[users[0]]
                if len(users) == 1 and first.names.count(old) == 1:
                    continue  # `_operands` has it
                kind, weight = self._replacing(first, old, new)
                if "matmul" in {self.equations[u].op for u in users} and kind == "output":
                    kind, weight = "operand", 0.84
                changes = []
                for place in users:
                    e = self.equations[place]
                    ins = tuple(new if i == old else i for i in e.ins)
                    changed = Equation(e.out, e.op, ins, e.attrs)
                    changes.append((place, computing(changed)))
                yield together(kind, weight + 0.01, f"{new} for {old}", changes)
