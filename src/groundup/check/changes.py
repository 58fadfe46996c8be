"""Changes of single equations: the mistakes that people make, and their repairs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, permutations
from typing import Any

import numpy as np

from groundup.check.rearranged import (
    assigned,
    backwards,
    fitted,
    fitting,
    moved_index,
    moved_together,
    others_than,
    plain_index,
    pushed,
    unstrided,
)
from groundup.check.workings import (
    ALONG,
    COMPARISONS,
    REDUCED,
    SMALL_NUMBER,
    UNARY,
    VIEWS,
    Change,
    Workings,
    bound,
    computing,
)
from groundup.ops.reduce import kept_shape
from groundup.program.program import OPS, Equation
from groundup.program.runner import evaluate


@dataclass(frozen=True)
class Edit:
    """A change to an equation.

    Attributes:
        place: the equation's index.
        kind: the mistake that the change is, or undoes.
        weight: how much it says.
        change: the new value.
        says: the change in words.
        others: the same change to other equations, by index.

    """

    place: int
    kind: str
    weight: float
    change: Change
    says: str
    others: tuple[tuple[int, Change], ...] = ()


def together(kind: str, weight: float, says: str, changes: Sequence[tuple[int, Change]]) -> Edit:
    """Changes of several equations as one edit."""
    (place, change), *others = changes
    return Edit(place, kind, weight, change, says, tuple(others))


class Changes(Workings):
    """The changes that are tried at every equation."""

    def edits(self) -> Iterator[Edit]:
        """All changes of single equations, the likeliest first."""
        for one in (
            self._dropped,
            self._signs_and_axes,
            self._transposed,
            self._numbers,
            self._compared,
            self._scattered,
            self._shifted,
            self._eps,
            self._unreduced,
            self._frozen,
            self._operands,
            self._functions,
            self._multiplied,
        ):
            for place in self.relevant:
                e = self.equations[place]
                if e.out is not None and not e.out.is_number:
                    yield from one(place, e)

    def _dropped(self, place: int, e: Equation) -> Iterator[Edit]:
        out = e.out
        assert out is not None
        for j, operand in enumerate(e.ins):
            value = self._array(operand)
            if not isinstance(operand, str) or np.shape(value) != out.shape:
                continue
            others = [i for k, i in enumerate(e.ins) if k != j]
            kind, weight = self._dropping(e, operand, others)
            if kind:
                yield Edit(
                    place, kind, weight, bound(lambda v, o: v[o], operand), f"just {operand}"
                )

    def _dropping(self, e: Equation, kept: str, others: Sequence[Any]) -> tuple[str, float]:
        """What the mistake is if an equation is left out, and one of its inputs stays."""
        if e.op in ("mul", "div") and others:
            if self.is_mask(others[0]):
                return "mask", 0.9
            if np.ndim(self._array(others[0])) == 0:
                return "", 0.0  # a factor: `factors` tells which
            if isinstance(others[0], str) and others[0] in self.backward:
                return "cotangent", 0.8 if self._base(others[0]) in self.graph.cotangents else 0.6
            return ("operand", 0.62) if self.repairs else ("formula", 0.55)
        if e.op in ("where", "clamp"):
            return "mask", 0.88
        if e.op == "transpose":
            return "transpose", 0.93
        if e.op in ("add", "sub"):
            return ("formula", 0.6) if self.repairs else ("detached", 0.6)
        if e.op in UNARY or e.op in ("pow", "power"):
            return "formula", 0.6
        if e.op in ALONG:
            return "formula", 0.6
        if e.op == "slice":  # a flip
            return "shift", 0.75
        return "", 0.0

    def _signs_and_axes(self, place: int, e: Equation) -> Iterator[Edit]:
        attrs = dict(e.attrs)
        out = e.out
        assert out is not None
        if e.op in ("sub", "div") and len(e.ins) == 2:
            a, b = e.ins
            swapped = Equation(out, e.op, (b, a), e.attrs)
            kind = "sign" if e.op == "sub" else "formula"
            yield Edit(place, kind, 0.8, lambda v: evaluate(swapped, v), f"{e.op} the other way")
        if e.op in (*REDUCED, *ALONG) and isinstance(e.ins[0], str):
            shape = np.shape(self._array(e.ins[0]))
            for axis in range(len(shape)):
                if attrs.get("axis") in (axis, axis - len(shape), (axis,)):
                    continue
                if isinstance(attrs.get("axis"), tuple) and len(attrs["axis"]) > 1:
                    continue
                other = tuple((k, axis if k == "axis" else x) for k, x in e.attrs)
                if "axis" not in attrs:
                    other = (*e.attrs, ("axis", axis))
                changed = Equation(out, e.op, e.ins, other)

                yield Edit(place, "axis", 0.92, computing(changed), f"{e.op} over axis {axis}")
                if e.op in REDUCED and not attrs.get("keepdims"):
                    kept = Equation(
                        out,
                        e.op,
                        e.ins,
                        (*(o for o in other if o[0] != "keepdims"), ("keepdims", True)),
                    )
                    yield Edit(
                        place, "axis", 0.91, computing(kept), f"{e.op} over axis {axis}, kept"
                    )
        if e.op in REDUCED and isinstance(attrs.get("axis"), tuple):
            shape = np.shape(self._array(e.ins[0]))
            for axes in combinations(range(len(shape)), len(attrs["axis"])):
                if set(axes) != {a % len(shape) for a in attrs["axis"]}:
                    other = tuple((k, axes if k == "axis" else x) for k, x in e.attrs)
                    changed = Equation(out, e.op, e.ins, other)
                    yield Edit(place, "axis", 0.92, computing(changed), f"{e.op} over axes {axes}")
        if e.op == "cumsum":
            for axis in range(len(out.shape)):
                same = attrs["axis"] % len(out.shape) == axis
                yield Edit(
                    place,
                    "shift" if same else "axis",
                    0.92,
                    bound(lambda v, a: backwards(v[str(e.ins[0])], a), axis),
                    f"cumsum from the end along axis {axis}",
                )
        if e.op == "slice" and self._flips_cumsum(e):
            source = str(self.made[str(self.made[str(e.ins[0])].ins[0])].ins[0])
            for axis in range(len(out.shape)):
                yield Edit(
                    place,
                    "axis",
                    0.92,
                    bound(lambda v, a: backwards(v[source], a), axis),
                    f"cumsum from the end along axis {axis}",
                )
                yield Edit(
                    place,
                    "shift",
                    0.92,
                    bound(lambda v, a: np.cumsum(v[source], a), axis),
                    f"cumsum from the beginning along axis {axis}",
                )
        if e.op == "slice" and np.shape(self._array(e.ins[0])) == out.shape:
            for axis in range(len(out.shape)):
                yield Edit(
                    place,
                    "axis",
                    0.9,
                    bound(lambda v, a: np.flip(v[str(e.ins[0])], a), axis),
                    f"reversed along axis {axis}",
                )
        if e.op == "slice" or e.op == "concatenate":
            shape = out.shape
            for axis in range(len(shape)):
                if shape[axis] > 1:
                    yield Edit(
                        place,
                        "shift" if e.op == "slice" else "axis",
                        0.7,
                        bound(lambda v, a: np.flip(evaluate(e, v), a), axis),
                        f"reversed along axis {axis}",
                    )

    def _flips_cumsum(self, e: Equation) -> bool:
        """Whether it reverses a cumsum of something reversed."""
        if str(e.ins[0]) not in self.index or self.made[str(e.ins[0])].op != "cumsum":
            return False
        inner = str(self.made[str(e.ins[0])].ins[0])
        return inner in self.index and self.made[str(inner)].op == "slice"

    def _transposed(self, place: int, e: Equation) -> Iterator[Edit]:
        out = e.out
        assert out is not None
        if len(out.shape) >= 2 and out.shape[-1] == out.shape[-2] > 1:
            yield Edit(
                place, "transpose", 0.9, lambda v: np.swapaxes(evaluate(e, v), -1, -2), "transposed"
            )
        if e.op == "matmul":
            a, b = (self._array(i) for i in e.ins)
            x, y = map(str, e.ins)
            tries: list[tuple[str, Change]] = []
            if a.ndim >= 2 and b.ndim >= 2:
                tries = [
                    (f"{x}.T @ {y}", lambda v: np.swapaxes(v[x], -1, -2) @ v[y]),
                    (f"{x} @ {y}.T", lambda v: v[x] @ np.swapaxes(v[y], -1, -2)),
                    (f"{y} @ {x}", lambda v: v[y] @ v[x]),
                    (f"{y}.T @ {x}", lambda v: np.swapaxes(v[y], -1, -2) @ v[x]),
                    (f"{y} @ {x}.T", lambda v: v[y] @ np.swapaxes(v[x], -1, -2)),
                    (
                        f"{x}.T @ {y}.T",
                        lambda v: np.swapaxes(v[x], -1, -2) @ np.swapaxes(v[y], -1, -2),
                    ),
                ]
            elif (a.ndim == 1 and b.ndim == 2) or (a.ndim == 2 and b.ndim == 1):
                tries = [(f"{y} @ {x}", lambda v: v[y] @ v[x])]
            for says, change in tries:
                yield Edit(place, "transpose", 0.92, change, f"as {says}")
        if e.op == "reshape" and isinstance(e.ins[0], str):
            source = np.shape(self._array(e.ins[0]))
            if 3 <= len(source) <= 4:
                for order in permutations(range(len(source))):
                    if order != tuple(range(len(source))):
                        yield Edit(
                            place,
                            "transpose",
                            0.92,
                            bound(
                                lambda v, o: v[str(e.ins[0])].transpose(o).reshape(out.shape), order
                            ),
                            f"axes in the order {order} before it",
                        )
        if e.op == "einsum":
            subscripts = dict(e.attrs)["subscripts"]
            left, _, result = subscripts.partition("->")
            terms = left.split(",")
            for k, term in enumerate(terms):
                for i in range(len(term)):
                    for j in range(i + 1, len(term)):
                        other = term[:i] + term[j] + term[i + 1 : j] + term[i] + term[j + 1 :]
                        made = ",".join([*terms[:k], other, *terms[k + 1 :]]) + "->" + result
                        changed = Equation(out, e.op, e.ins, (("subscripts", made),))
                        yield Edit(place, "transpose", 0.85, computing(changed), f"as {made}")

    def _numbers(self, place: int, e: Equation) -> Iterator[Edit]:
        out = e.out
        assert out is not None
        for j, k in enumerate(e.ins):
            number: Any = k
            if isinstance(k, str):
                value = self._array(k)
                if np.ndim(value) or k in self.live or np.asarray(value).dtype.kind not in "fi":
                    continue
                number = float(value)
            if isinstance(number, bool):
                continue
            if e.op in ("mul", "div") and e.op != "power":
                continue  # `factors`
            kind, weight = "formula", 0.8
            if e.op in COMPARISONS or e.op in ("maximum", "minimum", "where"):
                kind, weight = "mask", 0.86
            small = 0 < abs(number) <= SMALL_NUMBER and e.op in ("add", "sub")
            for other in [
                *others_than(float(number)),
                *(made for n in self.counts for made in (number / n, number * n)),
            ]:
                if small and other == 0:
                    kind_, weight_ = "eps", 0.95
                else:
                    kind_, weight_ = kind, weight
                ins = (*e.ins[:j], other, *e.ins[j + 1 :])
                changed = Equation(out, e.op, ins, e.attrs)
                yield Edit(place, kind_, weight_, computing(changed), f"{other:g} for {number:g}")
        attrs = dict(e.attrs)
        if e.op == "pow":
            for other in others_than(float(attrs["exponent"])):
                yield Edit(
                    place,
                    "formula",
                    0.8,
                    bound(lambda v, o: np.asarray(v[str(e.ins[0])]) ** o, other),
                    f"to the power {other:g}",
                )
        if e.op == "clamp":
            for low, high in ((None, attrs["high"]), (attrs["low"], None)):
                if (low, high) != (attrs["low"], attrs["high"]) and (low, high) != (None, None):
                    yield Edit(
                        place,
                        "mask",
                        0.85,
                        bound(lambda v, lo, hi: np.clip(v[str(e.ins[0])], lo, hi), low, high),
                        "with one bound only",
                    )

    def _compared(self, place: int, e: Equation) -> Iterator[Edit]:
        out = e.out
        assert out is not None
        if e.op in COMPARISONS or np.asarray(self.values[out.name]).dtype.kind == "b":
            yield Edit(place, "mask", 0.92, lambda v: ~evaluate(e, v), "the other way round")
            yield Edit(place, "mask", 0.86, lambda v: np.ones(out.shape, bool), "always true")
            for name in self._signed(out.shape):
                yield Edit(place, "mask", 0.9, bound(lambda v, n: v[n] > 0, name), f"{name} > 0")
                yield Edit(place, "mask", 0.88, bound(lambda v, n: v[n] < 0, name), f"{name} < 0")
            for name in self.pool.get(out.shape, ()):
                if self.values[name].dtype.kind == "b":
                    yield Edit(place, "mask", 0.9, bound(lambda v, n: v[n], name), name)
                    yield Edit(place, "mask", 0.88, bound(lambda v, n: ~v[n], name), f"not {name}")
        if e.op == "where" and len(e.ins) == 3:
            c, a, b = e.ins
            other = Equation(out, "where", (c, b, a), e.attrs)
            yield Edit(place, "mask", 0.9, lambda v: evaluate(other, v), "branches exchanged")

    def _shifted(self, place: int, e: Equation) -> Iterator[Edit]:
        out = e.out
        assert out is not None
        attrs = dict(e.attrs)
        if e.op == "slice":
            shape = np.shape(self._array(e.ins[0]))
            for axis, other in moved_index(attrs["index"], shape):
                yield Edit(
                    place,
                    "shift",
                    0.93,
                    bound(lambda v, i: v[str(e.ins[0])][i], other),
                    f"an index moved by one along axis {axis}",
                )
            for other in moved_together(attrs["index"], shape):
                yield Edit(
                    place,
                    "shift",
                    0.93,
                    bound(lambda v, i: v[str(e.ins[0])][i], other),
                    "its indices moved by one",
                )
        if e.op in ("take", "scatter_add"):
            for j, operand in enumerate(e.ins[1:], 1):
                index = self._array(operand)
                for by in (1, -1):
                    n = int(np.max(index, initial=0)) + 1
                    arrays = [i if k != j else (index + by) % n for k, i in enumerate(e.ins)]

                    def moved(v: Mapping[str, Any], arrays: list[Any] = arrays) -> Any:
                        ins = [v[i] if isinstance(i, str) else i for i in arrays]
                        return OPS[e.op].forward(*ins, **attrs)

                    yield Edit(place, "shift", 0.85, moved, f"the index moved by {by}")
        if len(out.shape) and place in self.backward_places:
            for axis in range(len(out.shape)):
                if out.shape[axis] < 3:
                    continue
                for by in (1, -1):
                    yield Edit(
                        place,
                        "shift",
                        0.8,
                        bound(lambda v, a, b: np.roll(evaluate(e, v), b, a), axis, by),
                        f"moved by {by} along axis {axis}",
                    )
                    yield Edit(
                        place,
                        "shift",
                        0.8,
                        bound(lambda v, a, b: pushed(evaluate(e, v), b, a), axis, by),
                        f"moved by {by} along axis {axis}, 0 at the border",
                    )
                yield Edit(
                    place,
                    "shift",
                    0.7,
                    bound(lambda v, a: np.flip(evaluate(e, v), a), axis),
                    f"reversed along axis {axis}",
                )

    def _scattered(self, place: int, e: Equation) -> Iterator[Edit]:
        if e.op == "scatter_add":
            for nonzero in (False, True):
                yield Edit(
                    place,
                    "scatter",
                    0.94,
                    bound(lambda v, z: assigned(e, v, z), nonzero),
                    "assigned, not added",
                )

    def _eps(self, place: int, e: Equation) -> Iterator[Edit]:
        out = e.out
        assert out is not None
        value = np.asarray(self.values[out.name])
        if value.dtype.kind != "f" or not value.size or value.min() <= 0:
            return
        if out.name in self.backward:
            return
        for eps in self.small_numbers:
            for says, change in (
                (f"plus eps {eps:g}", lambda y, k: y + k),
                (f"minus eps {eps:g}", lambda y, k: y - k),
                (f"eps {eps:g} inside the root", lambda y, k: np.sqrt(y * y + k)),
                (f"eps {eps:g} taken out of the root", lambda y, k: np.sqrt(y * y - k)),
                (f"eps {eps:g} moved into the root", lambda y, k: np.sqrt((y - k) ** 2 + k)),
                (f"eps {eps:g} moved out of the root", lambda y, k: np.sqrt(y * y - k) + k),
                (f"eps squared {eps:g}", lambda y, k: y + k * k),
                (f"eps squared {eps:g}", lambda y, k: y - k * k),
                (f"eps {eps:g} moved", lambda y, k: y - k + k * k),
                (f"at least {eps:g}", lambda y, k: np.maximum(y, k)),
                (f"the reciprocal's eps {eps:g}", lambda y, k: 1 / (1 / y + k)),
                (f"the reciprocal's eps {eps:g}", lambda y, k: 1 / (1 / y - k)),
                (
                    f"the reciprocal's root eps {eps:g}",
                    lambda y, k: 1 / (np.sqrt(1 / (y * y) - k) + k),
                ),
                (
                    f"the reciprocal's root eps {eps:g}",
                    lambda y, k: 1 / np.sqrt((1 / y - k) ** 2 + k),
                ),
                (f"the reciprocal's root eps {eps:g}", lambda y, k: 1 / np.sqrt(1 / (y * y) - k)),
                (f"the reciprocal's root eps {eps:g}", lambda y, k: 1 / np.sqrt(1 / (y * y) + k)),
            ):
                yield Edit(
                    place,
                    "eps",
                    0.9,
                    bound(lambda v, f, k: f(evaluate(e, v), k), change, eps),
                    says,
                )

    def _unreduced(self, place: int, e: Equation) -> Iterator[Edit]:
        out = e.out
        assert out is not None
        attrs = dict(e.attrs)
        source = e.ins[0] if e.ins and isinstance(e.ins[0], str) else ""
        if e.op == "slice":
            shape = np.shape(self._array(source))
            whole = unstrided(attrs["index"], shape)
            if whole is not None:
                yield Edit(
                    place,
                    "sum",
                    0.92,
                    bound(lambda v, w: sum(np.asarray(v[source][i]) for i in w), whole),
                    "the sum over all entries of each block for one of them",
                )
            axes = [
                a
                for a, part in enumerate(plain_index(attrs["index"], len(shape)))
                if isinstance(part, int)
            ]
            for axis in axes:
                if shape[axis] > 1:
                    yield Edit(
                        place,
                        "sum",
                        0.93,
                        bound(lambda v, a: fitted(v[source].sum(a), out.shape), axis),
                        f"the sum over axis {axis} for one index of it",
                    )
        if e.op in ("sum", "mean"):
            shape = np.shape(self._array(source))
            kept = kept_shape(shape, attrs.get("axis"))
            for axis in range(len(shape)):
                if kept[axis] == 1 and shape[axis] > 1:
                    for i in (0, -1):

                        def single(v: Mapping[str, Any], axis: int = axis, i: int = i) -> Any:
                            x = np.take(v[source], [i], axis)
                            changed = OPS[e.op].forward(x, **attrs)
                            return fitted(changed, out.shape)

                        yield Edit(
                            place, "sum", 0.9, single, f"one index of axis {axis} for its sum"
                        )
            yield Edit(place, "mean", 0.5, lambda v: evaluate(e, v) * np.prod(kept), "")
        if place in self.backward_places and len(out.shape):
            for axis in range(len(out.shape)):
                if out.shape[axis] > 1:
                    yield Edit(
                        place,
                        "sum",
                        0.75,
                        bound(lambda v, a: evaluate(e, v).sum(a, keepdims=True), axis),
                        f"summed over axis {axis} and spread again",
                    )
                    yield Edit(
                        place,
                        "mean",
                        0.72,
                        bound(lambda v, a: evaluate(e, v).mean(a, keepdims=True), axis),
                        f"averaged over axis {axis} and spread again",
                    )

    def _frozen(self, place: int, e: Equation) -> Iterator[Edit]:
        """A mask, or labels, of this call for ones that were kept from another."""
        out = e.out
        assert out is not None
        if not self.repairs:
            return
        for j, operand in enumerate(e.ins):
            if not isinstance(operand, str) or operand in self.live:
                continue
            old = self._array(operand)
            if not self.is_mask(operand):
                continue

            def placed(v: Mapping[str, Any], new: Any, j: int = j, o: str = operand) -> Any:
                return evaluate(e, {**v, o: np.asarray(new).astype(np.asarray(v[o]).dtype)})

            if operand in self.index and self.made[operand].op in (
                "full",
                "array",
            ):
                continue  # a constant of the backward itself
            for name in self._signed(old.shape):
                yield Edit(
                    place,
                    "stale",
                    0.93,
                    bound(lambda v, n, p: p(v, v[n] > 0), name, placed),
                    f"the mask {name} > 0 of this call",
                )
            for labels in self.labels:
                if labels.shape == old.shape[:-1] and labels.max(initial=0) < old.shape[-1]:
                    yield Edit(
                        place,
                        "stale",
                        0.93,
                        bound(lambda v, i, n, p: p(v, np.eye(n)[i]), labels, old.shape[-1], placed),
                        "the labels of this call",
                    )

    def _operands(self, place: int, e: Equation) -> Iterator[Edit]:
        out = e.out
        assert out is not None
        if e.op in ("reshape", "transpose", "expand", "cast"):
            return  # their operand's own equation has it
        after = {self.equations[j].out.name for j in self.descendants[place]}  # type: ignore[union-attr]
        for j, operand in enumerate(e.ins):
            if not isinstance(operand, str):
                continue
            value = self._array(operand)
            if not isinstance(value, np.ndarray) or value.dtype.kind not in "fbi" or not value.ndim:
                continue
            shapes = [value.shape]
            if e.op in ("mul", "div", "add", "sub", "where"):
                shapes += [s for s in fitting(out.shape) if s != value.shape]
            for other in (n for s in shapes for n in self.pool.get(s, ())):
                if other == operand or other == out.name or other in after:
                    continue
                if self.values[other].dtype.kind == "f" and value.dtype.kind in "bi":
                    continue
                kind, weight = self._replacing(e, operand, other)
                ins = (*e.ins[:j], other, *e.ins[j + 1 :])
                changed = Equation(out, e.op, ins, e.attrs)
                yield Edit(place, kind, weight, computing(changed), f"{other} for {operand}")
                if e.ins.count(operand) > 1 and e.ins.index(operand) == j:
                    ins = tuple(other if i == operand else i for i in e.ins)
                    both = Equation(out, e.op, ins, e.attrs)
                    yield Edit(place, kind, weight, computing(both), f"{other} for {operand}")

    def _functions(self, place: int, e: Equation) -> Iterator[Edit]:
        out = e.out
        assert out is not None
        if e.op in UNARY:
            for other in UNARY:
                if other != e.op:
                    changed = Equation(out, other, e.ins[:1])
                    kind, weight = ("output", 0.7) if other in ("exp", "log") else ("formula", 0.8)
                    yield Edit(place, kind, weight, computing(changed), f"{other} for {e.op}")
        if e.op not in (*VIEWS, "matmul", "take", "scatter_add", "slice") and len(out.shape):
            for operand in e.ins:
                if (
                    not isinstance(operand, str)
                    or operand not in self.forward
                    or (
                        operand in self.backward
                        or np.asarray(self._array(operand)).dtype.kind != "f"
                    )
                ):
                    continue
                for other in ("exp", "sigmoid", "tanh", "log", "softmax"):
                    # A derivative of the logits that needs their probabilities, and the like.
                    kind, weight = "operand", 0.83
                    given = operand in self.graph.given
                    if not given:
                        kind, weight = "output", 0.7

                    def applied(v: Mapping[str, Any], o: str = operand, f: str = other) -> Any:
                        attrs = {"axis": -1} if f == "softmax" else {}
                        return evaluate(e, {**v, o: OPS[f].forward(v[o], **attrs)})

                    yield Edit(place, kind, weight, applied, f"{other}({operand}) for {operand}")
                    if given:
                        yield Edit(
                            place, "activation", 0.82, applied, f"{other}({operand}) for {operand}"
                        )
        if e.op in ("maximum", "minimum"):
            changed = Equation(out, "minimum" if e.op == "maximum" else "maximum", e.ins)
            yield Edit(place, "mask", 0.8, computing(changed), "the other extreme")
        if np.asarray(self.values[out.name]).dtype.kind == "f" and out.name not in self.backward:
            for other in ("exp", "tanh", "sigmoid", "sqrt", "log", "abs"):
                kind = "output" if other in ("tanh", "sigmoid", "exp", "log") else "formula"
                yield Edit(
                    place,
                    kind,
                    0.62,
                    bound(lambda v, o: OPS[o].forward(evaluate(e, v)), other),
                    f"its {other}",
                )
            yield Edit(place, "formula", 0.7, lambda v: evaluate(e, v) ** 2, "squared")
            yield Edit(place, "formula", 0.7, lambda v: 1 / evaluate(e, v), "its reciprocal")
            yield Edit(place, "formula", 0.7, lambda v: 1 - evaluate(e, v), "1 minus it")

    def _multiplied(self, place: int, e: Equation) -> Iterator[Edit]:
        out = e.out
        assert out is not None
        value = np.asarray(self.values[out.name])
        if value.dtype.kind != "f" or out.name not in self.backward:
            return
        after = {self.equations[j].out.name for j in self.descendants[place]}  # type: ignore[union-attr]
        for shape in fitting(out.shape):
            for other in self.pool.get(shape, ()):
                if other in after or other == out.name:
                    continue
                mask = self.is_mask(other)
                kind, weight = ("mask", 0.86) if mask else ("formula", 0.64)
                if not mask and other in self.backward:
                    exact = self._base(other) in self.graph.cotangents
                    kind, weight = "cotangent", 0.8 if exact else 0.6
                yield Edit(
                    place,
                    kind,
                    weight,
                    bound(lambda v, n: evaluate(e, v) * v[n], other),
                    f"times {other}",
                )
                if not mask:
                    yield Edit(
                        place,
                        kind,
                        weight,
                        bound(lambda v, n: evaluate(e, v) / v[n], other),
                        f"divided by {other}",
                    )
            if shape == out.shape:
                for other in self._signed(shape):
                    if other not in after and other != out.name:
                        yield Edit(
                            place,
                            "mask",
                            0.84,
                            bound(lambda v, n: evaluate(e, v) * (v[n] > 0), other),
                            f"where {other} > 0",
                        )
