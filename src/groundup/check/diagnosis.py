"""Which mistake a wrong gradient looks like.

Three kinds of hypotheses are tried against the numbers, each at two random cotangents so that
nothing matches by chance: relations between the wrong gradient and the true ones (a factor, a
transpose); forward's graph with a path cut or bent; and the backward graphs, the one that was
written and the true one, with a single thing changed.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from groundup.check.edits import Explorer
from groundup.check.graphs import Graph, graph
from groundup.check.judging import Judge, Point
from groundup.check.kinds import KINDS
from groundup.check.numeric import LARGE
from groundup.check.paths import Paths
from groundup.check.relations import Clue, Numbers, axis_counts, close, counted, relations
from groundup.check.report import Finding, Row
from groundup.check.workings import VIEWS, following, forward_of, small_numbers
from groundup.ops.base import Array, quiet

SECONDS = 5.0


def diagnosed(judge: Judge, rows: Sequence[Row]) -> list[Finding]:
    """The likely mistakes, the likeliest first."""
    wrong = tuple(r.name for r in rows if r.verdict in ("wrong", "missing", "shape"))
    if not wrong or not judge.points:
        return []
    later = [r for r in rows if r.name in wrong and "others checked after" in r.note]
    point = (
        judge.points[1] if len(later) == len(wrong) and len(judge.points) > 1 else (judge.points[0])
    )
    with quiet():  # a changed graph may divide by zero
        return ranked(clues(judge, point, wrong, bool(later)))


def clues(judge: Judge, point: Point, wrong: tuple[str, ...], later: bool) -> list[Clue]:
    """Everything that speaks for one mistake or another."""
    subject = judge.subject
    deadline = time.perf_counter() + SECONDS
    truth = point.truth
    derivative = None
    if judge.reference(point) is not None:

        def derivative(cotangents: Sequence[Array]) -> Any:
            return subject.reference(point.values, cotangents) or {}

    small = sum(v.size for v in point.values.values()) <= LARGE
    true = graph(subject, point.values, point.cotangents[0], derived=True) if small else None
    numbers = Numbers(
        wrong,
        point.values,
        judge.integers(),
        point.outputs,
        point.claimed,
        truth,
        point.cotangents,
        derivative,
        None if true is None else added(true),
        lambda name: _elsewhere(judge, name),
        subject.forward,
    )
    found = list(relations(numbers))
    found += _stale(judge, point, wrong, later)
    if not small:
        return found
    known = [n for n in wrong if n in point.truth[0]]
    shaped = [
        n
        for n in known
        if all(c.get(n) is None or c[n].shape == point.values[n].shape for c in point.claimed)  # type: ignore[union-attr]
    ]
    if not shaped:
        return found
    claimed = [
        {n: c[n] if c.get(n) is not None else np.zeros(point.values[n].shape) for n in shaped}
        for c in point.claimed
    ]
    given = None
    if true is not None:
        given = [true.given_at(point.values, cs) for cs in point.cotangents]
        paths = Paths(true, shaped, claimed, given, deadline)  # type: ignore[arg-type]
        found += paths.clues()
    # What is left over: it is no known slip, and so the derivative itself.
    found.append(Clue("formula", tuple(shaped), "nothing simpler gives these numbers", 0.3))
    own = None
    if subject.own_rule or true is not None:
        own = graph(subject, point.values, point.cotangents[0], derived=False)
    found += _edited(own, true, shaped, point, claimed, numbers, deadline)  # type: ignore[arg-type]
    return found


def _elsewhere(judge: Judge, name: str) -> tuple[Array, Array] | None:
    """A gradient and the true one at the second point."""
    if len(judge.points) < 2:
        return None
    there = judge.points[1]
    try:
        found = judge.subject.reference(there.values, there.cotangents[0])
    except Exception:
        return None
    mine = there.claimed[0].get(name)
    true = (found or {}).get(name)
    return None if mine is None or true is None else (mine, true)


def _edited(
    own: Graph | None,
    true: Graph | None,
    names: Sequence[str],
    point: Point,
    claimed: Sequence[Mapping[str, Array]],
    numbers: Numbers,
    deadline: float,
) -> Iterable[Clue]:
    """What single changes of the written and of the true backward show."""
    lent: tuple[dict[str, Any], dict[str, Any]] = ({}, {})
    if true is not None:
        for k, cotangents in enumerate(point.cotangents[:2]):
            values = true.run(true.given_at(point.values, cotangents))
            lent[k].update({f"true {n}": v for n, v in values.items()})
    eps = frozenset(() if true is None else small_numbers(true))
    for source, target, borrowed in (
        (own, point.truth, lent),
        (true, claimed, ({}, {})),
    ):
        if source is None:
            continue
        explorer = Explorer(
            source,
            names,
            target[0],
            (source.given_at(point.values, point.cotangents[1]), target[1]),
            borrowed,
            source is own,
        )
        explorer.deadline = time.perf_counter() + max(0.5, (deadline - time.perf_counter()) / 2)
        explorer.borrowed_numbers = eps
        if source is own and true is not None:
            known = forward_of(true)
            explorer.lent = {f"true {e.out.name}": e for e in true.equations if e.out is not None}
            explorer.lent_forward = frozenset(f"true {n}" for n in known)
            explorer.lent_backward = frozenset(
                f"true {n}" for n in following(true.equations, set(true.cotangents))
            )
        explorer.known = [*numbers.integers, *(true.given.values() if true is not None else ())]
        explorer.counts = sorted(n for n in axis_counts(numbers) if n > 1)[:6]
        explorer.labels = [i for i in numbers.integers if i.dtype.kind in "iu"]
        yield from _factors(explorer, numbers)
        searches = [explorer.edits, explorer.everywhere]
        # In an unrolled loop a mistake is made at every step.
        for search in searches if len(explorer.relevant) < 60 else searches[::-1]:
            yield from explorer.found(search())
        if source is own and true is not None:
            kept = explorer.frozen_arrays(list(true.values.values()))
            if kept:
                yield Clue(
                    "stale",
                    tuple(names),
                    f"the backward uses {kept[0]}, an array that "
                    "follows from no input: is it kept from an earlier call?",
                    0.78,
                )


def _factors(explorer: Explorer, numbers: Numbers) -> Iterable[Clue]:
    """Terms with a wrong constant factor."""
    counts = axis_counts(numbers)
    for place, c, names in explorer.factors():
        e = explorer.equations[place]
        assert e.out is not None
        factor = c if not explorer.repairs else (1 / c if c else 0.0)
        where = "the backward as written" if explorer.repairs else "the true backward"
        term = explorer.described(e.out.name)
        gives = "it is right" if explorer.repairs else "these numbers come out"
        says = f"in {where}, {term} times {c:.6g}, and {gives}"
        final = e.out.name in explorer.where_wrong
        less = 0.0 if final else 0.02
        if abs(c + 1) < 1e-6:
            yield Clue("sign", names, says, 0.93 - less)
        elif abs(c) < 1e-9:
            if explorer.repairs:
                yield Clue("formula", names, says, 0.7)
            else:
                yield Clue("detached", names, says, 0.7)
        else:
            count = counted(factor, counts)
            if count:
                two = 0.06 if count == 2 and counts[2] != "the batch" else 0.0
                yield Clue(
                    "mean", names, f"{says}: {counts[count]} has {count} entries", 0.9 - less - two
                )
            yield Clue("factor", names, says, 0.87 - less if final else 0.8)
            if not final:
                yield Clue("formula", names, says, 0.78)


def added(graph: Graph) -> frozenset[str]:
    """The values that forward does nothing with but add them to larger ones."""
    forward = forward_of(graph)
    found = set()
    for name, own in graph.variables.items():
        names, only = {own}, False
        for e in graph.equations:
            if e.out is None or e.out.name not in forward or names.isdisjoint(e.names):
                continue
            same = e.op == "slice" and e.out.size == np.size(graph.values[own])
            if e.op in VIEWS or same:
                names.add(e.out.name)
                continue
            only = e.op in ("add", "sub") and e.out.size > np.size(graph.values[own])
            if not only:
                break
        if only:
            found.add(name)
    return frozenset(found)


def _stale(judge: Judge, point: Point, wrong: tuple[str, ...], later: bool) -> Iterable[Clue]:
    """Whether a fresh copy of the subject is right where this one is wrong."""
    if later:
        fresh = judge.subject.fresh()
        if fresh is not judge.subject:
            try:
                found = fresh.backward(point.values, point.cotangents[0])
            except Exception:
                found = {}
            truth = point.truth[0]
            good = tuple(n for n in wrong if n in truth and close(found.get(n), truth[n], 1e-6))
            if good:
                yield Clue(
                    "stale", good, "a fresh copy that was never called before is right", 0.99
                )
                return
        yield Clue("stale", wrong, "it is right at the first values and wrong at the next", 0.93)


def ranked(found: Iterable[Clue]) -> list[Finding]:
    """One finding for each kind, by the best clue, the likeliest first."""
    best: dict[str, Clue] = {}
    for clue in found:
        known = best.get(clue.kind)
        if known is None or clue.weight > known.weight:
            best[clue.kind] = clue
    order = sorted(best.values(), key=lambda c: -c.weight)
    made = []
    for clue in order:
        what, fix = KINDS[clue.kind]
        names = ", ".join(clue.names)
        made.append(
            Finding(
                clue.kind,
                clue.names,
                f"{what} ({names})",
                fix,
                clue.evidence,
                round(clue.weight, 3),
            )
        )
    return made
