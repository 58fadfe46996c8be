"""True gradients with a path cut or bent: what is forgotten on the way back through forward."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np

from groundup.backward import Sweep
from groundup.check.graphs import Graph
from groundup.check.relations import Clue, close
from groundup.check.subjects import swept
from groundup.check.workings import following, is_number, signature
from groundup.ops.base import Array, quiet
from groundup.program.program import OPS, Equation
from groundup.program.runner import evaluate
from groundup.tensor import Tensor

# Entry-by-entry functions of one array, whose derivative may be forgotten.
MASKING = ("relu", "clamp", "where", "maximum", "minimum")
CURVED = (
    "exp",
    "expm1",
    "log",
    "log1p",
    "sqrt",
    "sin",
    "cos",
    "tanh",
    "erf",
    "sigmoid",
    "pow",
    "power",
    "abs",
    *MASKING,
)

POWERS = ("pow", "power", "sqrt", "abs")


class Paths:
    """Walks back through forward, with some of its steps changed.

    Args:
        graph: forward with the true backward.
        wrong: the wrong gradients.
        target: at two points, the wrong numbers by name.
        given: at two points, what goes in.

    """

    def __init__(
        self,
        graph: Graph,
        wrong: Sequence[str],
        target: Sequence[Mapping[str, Array]],
        given: Sequence[Mapping[str, Array]],
        deadline: float,
    ):
        self.graph, self.target, self.given = graph, target, given
        self.wrong = [n for n in wrong if n in target[0]]
        self.deadline = deadline
        needed = set(graph.outputs)
        kept: list[Equation] = []
        for e in reversed(graph.equations):
            if e.out is not None and e.out.name in needed:
                kept.append(e)
                needed.update(e.names)
        self.forward = kept[::-1]
        self.made = {e.out.name: e for e in self.forward if e.out is not None}
        self.own = {own: name for name, own in graph.variables.items()}

    @cached_property
    def live(self) -> set[str]:
        """What depends on a value that gradients are of."""
        return following(self.forward, set(self.own))

    def gradients(
        self,
        point: int,
        cut: frozenset[tuple[int, int]] = frozenset(),
        bent: Mapping[str, tuple[str, str]] | None = None,
        extra: Mapping[str, Array] | None = None,
        also: str = "",
        instead: Mapping[str, Any] | None = None,
    ) -> dict[str, Array]:
        """The gradients with some uses of values cut off, and some steps' slopes others.

        Args:
            point: which of the two points.
            cut: uses: the equation's number in forward, and which of its inputs.
            bent: by a value's name, from what else it is said to follow, and how: "straight" (with
                slope 1), "own" (with the slope that each entry has in itself alone), "weighted"
                (with slope p).
            extra: gradients that arrive at values besides what flows there.
            also: another value whose gradient is wanted.
            instead: for a value's name, what forward computes in its place, from all values.

        """
        given = self.given[point]
        values: dict[str, Any] = {}
        for name, array in given.items():
            if name in self.graph.cotangents:
                continue
            leaf = Tensor.of(np.asarray(array))
            leaf.requires_grad = name in self.own
            values[name] = leaf
        with quiet():
            for k, e in enumerate(self.forward):
                if e.out is None:
                    continue
                if e.out.is_number or not any(isinstance(i, str) for i in e.ins):
                    plain = {n: v.array if isinstance(v, Tensor) else v for n, v in values.items()}
                    result = evaluate(e, plain)
                    values[e.out.name] = (
                        Tensor.of(result) if isinstance(result, np.ndarray) else result
                    )
                    continue
                ins = []
                for j, i in enumerate(e.ins):
                    value = values[i] if isinstance(i, str) else i
                    if (k, j) in cut and isinstance(value, Tensor):
                        value = Tensor.of(value.array)
                    ins.append(value)
                if instead and e.out.name in instead:
                    values[e.out.name] = instead[e.out.name](values)
                    continue
                out = OPS[e.op](*ins, **dict(e.attrs))
                if bent and e.out.name in bent:
                    source, how = bent[e.out.name]
                    x = values[source]
                    step = x - Tensor.of(x.array)
                    flat = Tensor.of(out.array)
                    slope: Tensor | None
                    if how == "own":
                        slope = Tensor.of(self._diagonal(source, e.out.name, point))
                    else:
                        slope = {"straight": None, "weighted": flat}[how]
                    out = flat + (step if slope is None else slope * step)
                values[e.out.name] = out
            outs = [values[n] for n in self.graph.outputs]
            cotangents = [Tensor.of(np.asarray(given[c])) for c in self.graph.cotangents]
            for name, arriving in (extra or {}).items():
                outs.append(values[name])
                cotangents.append(Tensor.of(arriving))
            sweep = Sweep()
            swept(outs, cotangents, sweep)
        leaves = {self.own[n]: values[n] for n in self.own}
        if also:
            leaves[also] = values[also]
        found = {}
        for n, t in leaves.items():
            g = sweep.grads.get(id(t))
            found[n] = np.zeros(t.shape) if g is None else g.array
        return found

    def _matches(self, **change: Any) -> tuple[str, ...]:
        """The wrong gradients that a change gives, at both points."""
        found: tuple[str, ...] = tuple(self.wrong)
        for point in (0, 1):
            try:
                made = self.gradients(point, **change)
            except Exception:  # a bent step that does not fit
                return ()
            found = tuple(n for n in found if close(made[n], self.target[point][n]))
            if not found:
                return ()
        return found

    def _clue(self, kind: str, weight: float, says: str, **change: Any) -> Iterator[Clue]:
        names = self._matches(**change)
        if names:
            full = len(names) == len(self.wrong)
            yield Clue(kind, names, says, weight if full else weight * 0.7)

    def clues(self) -> Iterator[Clue]:
        """What is found, the likeliest first."""
        for one in (
            self._bent,
            self._eps,
            self._at_every_step,
            self._overlapping,
            self._fan_out,
            self._cut,
        ):
            yield from one()
            if time.perf_counter() > self.deadline:
                return

    # Activations and softmax

    def _bent(self) -> Iterator[Clue]:
        for e in self.forward:
            if e.out is None or e.out.name not in self.live:
                continue
            name = e.out.name
            for source in self._mixed(e):
                for how in ("own", "weighted"):
                    yield from self._clue(
                        "softmax",
                        0.96,
                        f"taking the Jacobian of {name} as diagonal gives it",
                        bent={name: (source, how)},
                    )
            if e.op == "log_softmax":
                names = self._matches(bent={name: (str(e.ins[0]), "straight")})
                if names:
                    says = f"the normaliser of {name} taken for a constant gives it"
                    yield Clue("detached", names, says, 0.93)
                    yield Clue("softmax", names, says, 0.88)
            for source in self._sources(e):
                if time.perf_counter() > self.deadline:
                    return
                masking = self._masks(name, source)
                one = len(self.forward) <= 3 or all(
                    not np.shape(self.graph.values[o]) for o in self.graph.outputs
                )
                kinds = [("activation", 0.9), ("mask", 0.86)]
                if masking and (one or e.op != "relu"):
                    kinds = [("mask", 0.9), ("activation", 0.84)]
                if not masking:
                    kinds = kinds[:1]
                names = self._matches(bent={name: (source, "straight")})
                if names:
                    says = f"passing the gradient of {name} to {source} unchanged gives it"
                    share = 1.0 if len(names) == len(self.wrong) else 0.7
                    for kind, weight in kinds:
                        yield Clue(kind, names, says, weight * share)

    def _mixed(self, e: Equation) -> list[str]:
        """What a softmax, or its logarithm, is of: written as an op or by exp and sum."""
        assert e.out is not None
        if e.op in ("softmax", "log_softmax"):
            return [str(e.ins[0])]
        if e.op not in ("div", "sub", "mul"):
            return []
        stack, seen, sources, found = list(e.names), set(), [], set()
        while stack:
            now = stack.pop()
            equation = self.made.get(now)
            if now in seen or equation is None:
                continue
            seen.add(now)
            found.add(equation.op)
            stack += equation.names
            if equation.op == "exp":
                sources += [i for i in equation.names if i in self.live]
        if not {"exp", "sum"} <= found:
            return []
        more = [i for s in sources if s in self.made for i in self.made[s].names if i in self.live]
        shape = e.out.shape
        return [
            s for s in dict.fromkeys([*sources, *more]) if np.shape(self.graph.values[s]) == shape
        ]

    def _diagonal(self, source: str, result: str, point: int) -> Array:
        """How each entry of a result moves with the same entry of its source, by differences."""
        values = self._run(point)
        x = np.asarray(values[source])
        made = np.zeros(x.shape)
        if x.size > 400:
            raise ValueError("too many entries")
        last = self.forward.index(self.made[result])
        after = [k for k in sorted(self._reach_of(source)) if k <= last]
        for index in np.ndindex(x.shape):
            step = 1e-5 * max(abs(float(x[index])), 1e-2)
            ends = []
            for by in (step, -step):
                moved = x.copy()
                moved[index] += by
                now = {**values, source: moved}
                for k in after:
                    equation = self.forward[k]
                    if equation.out is not None:
                        now[equation.out.name] = evaluate(equation, now)
                ends.append(np.asarray(now[result])[index])
            made[index] = (ends[0] - ends[1]) / (2 * step)
        return made

    def _reach_of(self, name: str) -> set[int]:
        found: set[int] = set()
        for k, _ in self._uses(name):
            found |= self._reach(k)
        return found

    def _run(self, point: int) -> dict[str, Any]:
        values: dict[str, Any] = dict(self.given[point])
        for e in self.forward:
            if e.out is not None:
                values[e.out.name] = evaluate(e, values)
        return values

    def _sources(self, e: Equation) -> list[str]:
        """Values of the same shape of which this one is an entry-by-entry, curved function."""
        assert e.out is not None
        found: list[str] = []
        curved = e.op in CURVED
        name = e.out.name
        shape = e.out.shape
        seen: set[str] = set()
        stack = [name]
        while stack:
            now = stack.pop()
            equation = self.made.get(now)
            if equation is None or not (OPS[equation.op].elementwise or equation.op == "softmax"):
                continue
            for i in equation.names:
                if i in self.live and np.shape(self.graph.values[i]) == shape and i not in seen:
                    seen.add(i)
                    stack.append(i)
        for source in seen:
            inner = self._between(source, name)
            if inner is not None and (
                (curved and len(inner) == 1 and e.op not in POWERS)
                or any(self.made[n].op in CURVED and self.made[n].op not in POWERS for n in inner)
                or self._masks(name, source)
            ):
                found.append(source)
        return found

    def _between(self, source: str, result: str) -> set[str] | None:
        """The values from one to another, if all live ones in between come from the first."""
        found: set[str] = set()
        stack = [result]
        while stack:
            now = stack.pop()
            if now == source or now in found or now not in self.live:
                continue
            equation = self.made.get(now)
            if equation is None or not OPS[equation.op].elementwise:
                return None
            found.add(now)
            stack += equation.names
        return found

    def _at_every_step(self) -> Iterator[Clue]:
        """One activation forgotten, or one path cut, at every step of a loop."""
        families: dict[Any, list[Equation]] = {}
        for e in self.forward:
            if e.out is not None and e.out.name in self.live:
                families.setdefault(signature(e, self.made), []).append(e)
                families.setdefault((e.op, "any", e.out.shape), []).append(e)
        done: set[Any] = set()
        for members in families.values():
            if len(members) < 2:
                continue
            names = [e.out.name for e in members if e.out is not None]
            if tuple(names) in done:
                continue
            done.add(tuple(names))
            op = members[0].op
            if op in CURVED and op not in POWERS:
                bent = {}
                for e in members:
                    sources = [i for i in e.names if i in self.live]
                    if (
                        len(sources) == 1
                        and e.out is not None
                        and (np.shape(self.graph.values[sources[0]]) == e.out.shape)
                    ):
                        bent[e.out.name] = (sources[0], "straight")
                if len(bent) > 1:
                    kind = "mask" if op in MASKING and op != "relu" else "activation"
                    yield from self._clue(
                        kind,
                        0.93,
                        f"passing the gradient through every {op} unchanged gives it",
                        bent=bent,
                    )
            by_use: dict[Any, set[tuple[int, int]]] = {}
            for name in names:
                for k, j in self._uses(name):
                    by_use.setdefault((signature(self.forward[k], self.made), j), set()).add((k, j))
                    by_use.setdefault("all", set()).add((k, j))
            for edges in by_use.values():
                if len(edges) > 1:
                    if time.perf_counter() > self.deadline:
                        return
                    yield from self._clue(
                        "detached",
                        0.92,
                        f"{names[0]}, {names[1]}... taken for constants give it",
                        cut=frozenset(edges),
                    )

    def _masks(self, result: str, source: str) -> bool:
        """Whether it lets entries pass or not."""
        inner = self._between(source, result) or set()
        ops_ = {self.made[n].op for n in inner}
        if ops_ & set(MASKING):
            return True
        for n in inner:
            e = self.made[n]
            if e.op == "mul":
                for i in e.names:
                    v = np.asarray(self.graph.values[i])
                    if (
                        i not in self.live
                        and v.size > 1
                        and len(np.unique(v)) == 2
                        and (v == 0).any()
                    ):
                        return True
        return False

    def _eps(self) -> Iterator[Clue]:
        """The backward of a forward that has eps elsewhere, or nowhere."""
        for e in self.forward:
            if e.op != "add" or e.out is None or len(e.ins) != 2:
                continue
            for v, k in (e.ins, e.ins[::-1]):
                eps = is_number(k, self.graph)
                if (
                    not isinstance(v, str)
                    or v not in self.live
                    or eps is None
                    or not (0 < abs(eps) <= 0.1)
                ):
                    continue
                name, made = e.out.name, self.made.get(v)
                changes: list[dict[str, Any]] = [{name: lambda x, v=v: x[v]}]
                if made is not None and made.op in ("sqrt", "pow"):
                    inner = str(made.ins[0])
                    changes.append({name: lambda x, i=inner, k=eps: (x[i] + k).sqrt()})
                    changes.append({name: lambda x, i=inner, k=eps: (x[i] + k * k).sqrt()})
                for k_, _ in self._uses(name):
                    after = self.forward[k_]
                    if after.op in ("sqrt", "pow") and after.out is not None:
                        power = 0.5 if after.op == "sqrt" else dict(after.attrs)["exponent"]
                        changes.append(
                            {
                                after.out.name: lambda x, v=v, k=eps, p=power: (
                                    (x[v].sqrt() + k) if p > 0 else 1 / (x[v].sqrt() + k)
                                )
                            }
                        )
                for instead in changes:
                    yield from self._clue(
                        "eps",
                        0.95,
                        f"with eps {eps:g} elsewhere, or nowhere, in forward it would be right",
                        instead=instead,
                    )

    # Uses of one value

    def _uses(self, name: str) -> list[tuple[int, int]]:
        return [
            (k, j) for k, e in enumerate(self.forward) for j, i in enumerate(e.ins) if i == name
        ]

    def _fan_out(self) -> Iterator[Clue]:
        """Some uses' contributions only, or one of them with another sign or factor."""
        for name in [*self.own, *self.made]:
            if name not in self.live:
                continue
            uses = self._uses(name)
            if len(uses) < 2 or len(uses) > 40:
                continue
            if time.perf_counter() > self.deadline:
                return
            own = self.own.get(name)
            if own in self.wrong:
                yield from self._combined(name, own, uses)
            for use in uses:
                if time.perf_counter() > self.deadline:
                    return
                rest = frozenset(u for u in uses if u != use)
                one = self.forward[use[0]]
                says = f"only what {name}'s use in {one.op} contributes"
                kind, weight = self._lost(name, uses, list(rest))
                yield from self._clue(kind, weight, says, cut=rest)
                if len(uses) > 2:
                    says = f"all that {name}'s uses contribute but the one in {one.op}"
                    kind, weight = self._lost(name, uses, [use])
                    yield from self._clue(kind, weight, says, cut=frozenset([use]))
                    for part in ([u for u in uses if u > use], [u for u in uses if u < use]):
                        kind, weight = self._lost(name, uses, part)
                        yield from self._clue(kind, weight, says, cut=frozenset(part))

    def _lost(
        self, name: str, uses: Sequence[tuple[int, int]], lost: Sequence[tuple[int, int]]
    ) -> tuple[str, float]:
        """Whether lost uses were overwritten, or taken for constants on the way.

        The uses of a shared weight, or the branches that are added up or set side by side, are
        what gets overwritten. What scales or centres the other branch is taken for a constant.
        """
        base = 0.92 if name in self.own else 0.88
        ops = {(self.forward[k].op, j) for k, j in uses}
        if len(ops) == 1 and next(iter(ops))[0] in ("matmul", "einsum", "take", "slice", "add"):
            return "overwritten", base
        kept = [u for u in uses if u not in set(lost)]
        reached = [self._reach(k) for k, _ in kept]
        for use in lost:
            mine = self._reach(use[0])
            inside = [self.forward[k].op for k in sorted(mine) if not any(k in r for r in reached)]
            meet = next((k for k in sorted(mine) if any(k in r for r in reached)), None)
            op = self.forward[meet].op if meet is not None else ""
            if "amax" in inside or "amin" in inside:
                return "detached", 0.5
            if "sum" in inside or "mean" in inside:
                # One use of three that is left is rather what was assigned last.
                several = len({k for k, _ in lost}) > 1 and len(kept) == 1
                return ("overwritten" if several else "detached"), base
            if op == "where":
                return "mask", 0.9
            if op in ("mul", "div", "power", "sub"):
                return "detached", base
        return "overwritten", base

    def _reach(self, start: int) -> set[int]:
        """The equations that an equation leads to, itself among them."""
        first = self.forward[start].out
        names, found = {first.name if first is not None else ""}, {start}
        for k in range(start + 1, len(self.forward)):
            e = self.forward[k]
            if e.out is not None and not names.isdisjoint(e.names):
                names.add(e.out.name)
                found.add(k)
        return found

    def _combined(self, name: str, own: str, uses: list[tuple[int, int]]) -> Iterator[Clue]:
        """The gradient as a sum of what the uses contribute, each with a factor."""
        everything = frozenset(uses)
        factors = []
        for point in (0, 1):
            try:
                parts = [self.gradients(point, cut=everything - {u})[own] for u in uses]
            except Exception:
                return
            target = self.target[point][own]
            columns = np.array([p.reshape(-1) for p in parts]).T
            if columns.shape[0] < columns.shape[1]:
                break
            solved = np.linalg.lstsq(columns, target.reshape(-1), rcond=None)[0]
            if not close((columns @ solved).reshape(target.shape), target, 1e-6):
                break
            factors.append(solved)
        if len(factors) == 2 and np.allclose(factors[0], factors[1], 1e-5, 1e-6):
            yield from self._read(name, own, factors[0], uses)

    def _read(
        self, name: str, own: str, factors: Array, uses: list[tuple[int, int]]
    ) -> Iterator[Clue]:
        off = [(f, u) for f, u in zip(factors, uses, strict=True) if abs(f - 1) > 1e-6]
        if not off or (len(off) > 1 and len({round(float(f), 6) for f, _ in off}) > 1):
            return
        f = float(off[0][0])
        places = ", ".join(dict.fromkeys(self.forward[u[0]].op for _, u in off))
        if abs(f) < 1e-6:
            kind, weight = self._lost(name, uses, [u for _, u in off])
            yield Clue(kind, (own,), f"what {name}'s use in {places} contributes is lost", weight)
        else:
            kind = "sign" if abs(f + 1) < 1e-6 else "factor"
            yield Clue(
                kind,
                (own,),
                f"what {name}'s use in {places} contributes is multiplied by {f:.6g}",
                0.85,
            )

    def _overlapping(self) -> Iterator[Clue]:
        """Parts of an array, assigned one after another where they overlap."""
        for name in [*self.own, *self.made]:
            uses = [u for u in self._uses(name) if self.forward[u[0]].op in ("slice", "take")]
            if (
                name not in self.live
                or not 2 <= len(uses) <= 64
                or len(uses) < len(self._uses(name))
            ):
                continue
            everything = frozenset(uses)
            parts = []
            for point in (0, 1):
                if time.perf_counter() > self.deadline:
                    return
                parts.append(
                    [self.gradients(point, cut=everything - {u}, also=name)[name] for u in uses]
                )
            places = [self._place(u, name) for u in uses]
            for order in (1, -1):
                found: tuple[str, ...] = tuple(self.wrong)
                for point in (0, 1):
                    made = np.zeros_like(parts[point][0])
                    for place, part in list(zip(places, parts[point], strict=True))[::order]:
                        made[place] = part[place]
                    total = self.gradients(point, cut=everything, extra={name: made})
                    found = tuple(n for n in found if close(total[n], self.target[point][n]))
                if found:
                    full = len(found) == len(self.wrong)
                    yield Clue(
                        "overwritten",
                        found,
                        f"where parts of {name} overlap, the last one written is all there is",
                        0.95 if full else 0.7,
                    )

    def _place(self, use: tuple[int, int], name: str) -> Array:
        """Where in an array the entries lie that an equation reads."""
        e = self.forward[use[0]]
        array = np.asarray(self.graph.values[name])
        marks = np.arange(array.size).reshape(array.shape)
        read = evaluate(Equation(e.out, e.op, e.ins, e.attrs), {**self.graph.values, name: marks})
        mask = np.zeros(array.size, bool)
        mask[np.asarray(read).reshape(-1)] = True
        return mask.reshape(array.shape)

    # Paths through a value

    def _cut(self) -> Iterator[Clue]:
        """All of a value's uses, or one, taken for constants."""
        statistics = [
            e.out.name
            for e in self.forward
            if e.op in ("sum", "mean")
            and e.out is not None
            and e.out.name in self.live
            and e.out.name not in self.graph.outputs
        ]
        if len(statistics) > 1:
            uses = frozenset(u for s in statistics for u in self._uses(s))
            says = f"all statistics ({', '.join(statistics[:4])}) taken for constants give it"
            yield from self._clue("detached", 0.93, says, cut=uses)
        for e in self.forward:
            if e.out is None or e.out.name not in self.live or e.out.name in self.graph.outputs:
                continue
            if time.perf_counter() > self.deadline:
                return
            name = e.out.name
            says = f"{name} = {e.op}(...) taken for a constant gives it"
            yield from self._clue("detached", 0.9, says, cut=frozenset(self._uses(name)))
        for k, e in enumerate(self.forward):
            for j, i in enumerate(e.ins):
                if isinstance(i, str) and i in self.live and len(self._uses(i)) > 1:
                    if time.perf_counter() > self.deadline:
                        return
                    says = f"{i} taken for a constant in {e.op} gives it"
                    yield from self._clue("detached", 0.86, says, cut=frozenset([(k, j)]))
