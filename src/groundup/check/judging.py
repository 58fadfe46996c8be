"""The check itself: evaluates a subject's gradients and the truth, and compares them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np

from groundup.check.numeric import (
    LARGE,
    Slopes,
    elementwise,
    random_direction,
    scalars,
    scale_of,
)
from groundup.check.report import Row
from groundup.check.subjects import Gradients, Mutated, Subject, Values
from groundup.errors import GroundupError
from groundup.ops.base import Array

# Relative to the gradient's largest entry. Two exact ways to the same numbers differ by rounding
# alone; differences by what is left of them besides their own estimate.
EXACT, DIFFERENCES = 1e-9, 1e-6
FLOAT32 = 2e-5
SEEDS = 2  # cotangents
BY_OPS = ("ops", "jax")  # automatic differentiation, ours and JAX's
ENTRIES = 20_000  # evaluations of forward that a check entry by entry may take
SECONDS = 1.0  # of them
DIRECTIONS = 3


@dataclass
class Point:
    """A place where gradients were compared.

    Attributes:
        cotangents: for each seed, an array for each output.
        claimed: for each seed, the gradients to be checked.
        truth: for each seed, the true ones as far as they are known entry by entry.
        errors: how far those may be off, as an array over seeds and entries, or a number.

    """

    values: Values
    cotangents: list[list[Array]]
    outputs: list[Array]
    claimed: list[Gradients]
    truth: list[dict[str, Array]] = field(default_factory=lambda: [{} for _ in range(SEEDS)])
    errors: dict[str, Any] = field(default_factory=dict)
    how: dict[str, str] = field(default_factory=dict)

    @cached_property
    def narrow(self) -> bool:
        """Whether forward computes in float32."""
        return all(_is_narrow(np.asarray(o)) for o in self.outputs)


class Unusable(GroundupError):
    """A forward pass whose gradients cannot be checked."""


class Judge:
    """Checks one subject.

    Attributes:
        points: where gradients were compared: the given values, and values nearby.

    """

    def __init__(self, subject: Subject, seed: int = 0, method: str = "auto"):
        self.subject, self.method = subject, method
        self.rng = np.random.Generator(np.random.Philox(key=seed))
        self.points: list[Point] = []
        self.rows: dict[str, Row] = {}

    def judge(self) -> tuple[Row, ...]:
        """A row for every gradient."""
        subject = self.subject
        try:
            outs = self._outputs()
        except Mutated as error:
            return self._all("mutated", f"forward writes to its input {error}")
        cotangents = [[self.rng.standard_normal(np.shape(o)) for o in outs] for _ in range(SEEDS)]
        try:
            claimed = [subject.backward(subject.values, cs) for cs in cotangents]
            again = subject.backward(subject.values, cotangents[0])
        except Mutated as error:
            return self._all("mutated", f"backward writes to {error}, an input of forward")
        except Unusable:
            raise
        except Exception as error:  # whatever a backward that is wrong raises
            return self._all("error", f"backward raised {type(error).__name__}: {error}")
        here = Point(subject.values, cotangents, outs, claimed)
        self.points.append(here)
        slopes = self._slopes(subject.values, cotangents)
        if self.method in ("auto", "complex"):
            slopes.try_complex(
                {n: random_direction(v, self.rng) for n, v in subject.values.items()}
            )
        reference = self.reference(here)
        for name in subject.values:
            row = self._defects(name, here, again)
            if row is not None:
                self._truth(name, here, slopes, reference, np.zeros((SEEDS, *row.shape)))
            self.rows[name] = row or self._compared(name, here, slopes, reference)
        self._elsewhere(slopes.complex)
        return tuple(self.rows[name] for name in subject.values)

    def _all(self, verdict: str, note: str) -> tuple[Row, ...]:
        values = self.subject.values
        return tuple(Row(n, v.shape, verdict, note=note) for n, v in values.items())

    def _outputs(self) -> list[Array]:
        subject = self.subject
        outs, again = (subject.forward(subject.values) for _ in range(2))
        for out, other in zip(outs, again, strict=True):
            if not np.isfinite(out).all():
                place = tuple(int(i) for i in np.argwhere(~np.isfinite(out))[0])
                raise Unusable(
                    f"{subject.name}: forward's output is {out[place]} at {list(place)}: a "
                    "gradient can be checked only where the function is finite; choose other inputs"
                )
            if not np.array_equal(out, other):
                raise Unusable(
                    f"{subject.name}: two calls of forward on the same values differ by "
                    f"{np.abs(out - other).max():.2g}: fix its random numbers (a mask given as an "
                    "input, a seed set in forward, or evaluation mode), then check"
                )
            if not out.size:
                raise Unusable(f"{subject.name}: forward's output is empty ({out.shape})")
        return outs

    def reference(self, point: Point) -> list[Gradients] | None:
        """The gradients by automatic differentiation, if there are such."""
        if self.method == "jax":
            from groundup.check.adapters.by_jax import jax_gradients

            return [jax_gradients(self.subject, point.values, cs) for cs in point.cotangents]
        if self.method not in ("auto", "ops"):
            return None
        try:
            found = [self.subject.reference(point.values, cs) for cs in point.cotangents]
        except Exception:  # automatic differentiation of what was not made for it
            return None
        if any(f is None for f in found):
            return None
        return found  # type: ignore[return-value]

    def integers(self) -> list[Array]:
        """The integer and boolean inputs."""
        given = getattr(self.subject, "inputs", ())
        if isinstance(given, dict):
            given = given.values()
        return [g for g in given if isinstance(g, np.ndarray) and g.dtype.kind in "iub"]

    def _slopes(self, values: Values, cotangents: Sequence[Sequence[Array]]) -> Slopes:
        """Derivatives at a point."""
        made = Slopes(scalars(self.subject, cotangents), values)
        made.narrow = self.points[0].narrow
        return made

    # One gradient

    def _defects(self, name: str, point: Point, again: Gradients) -> Row | None:
        """What can be said of a gradient without the truth."""
        shape = point.values[name].shape
        claimed = [c.get(name) for c in point.claimed]
        first, other = claimed[0], again.get(name)
        if first is None:
            return None
        for one in claimed:
            if one is not None and one.shape != shape:
                note = f"the gradient has shape {one.shape}, {name} has {shape}"
                return Row(name, shape, "shape", note=note)
        for one in claimed:
            if one is not None and not np.isfinite(one).all():
                index = tuple(int(i) for i in np.argwhere(~np.isfinite(one))[0])
                return Row(
                    name,
                    shape,
                    "nan",
                    index=index,
                    value=float(one[index]),
                    note=f"the gradient is {one[index]} at {list(index)}",
                )
        if other is None or not np.array_equal(first, other):
            gap = np.inf if other is None else float(np.abs(first - other).max())
            return Row(
                name,
                shape,
                "nondeterministic",
                absolute=gap,
                note=f"two calls of backward on the same values differ by {gap:.2g}: does "
                "it add to what is left from the call before?",
            )
        return None

    def _compared(
        self, name: str, point: Point, slopes: Slopes, reference: list[Gradients] | None
    ) -> Row:
        value = point.values[name]
        claimed = stacked(point.claimed, name, value.shape)
        missing = point.claimed[0].get(name) is None
        if not value.size:
            return Row(name, value.shape, "right", note="it has no entries")
        truth = self._truth(name, point, slopes, reference, claimed)
        if truth is None:
            return self._projected(name, point, claimed, slopes, missing)
        if point.how[name] not in BY_OPS and reference is not None and not missing:
            by_ops = stacked(reference, name, value.shape)
            same = np.abs(claimed - by_ops) <= EXACT * spread(largest(by_ops), by_ops.ndim)
            if bool(same.all()) and self._cuts():
                note = "forward detaches a path to it, and the backward agrees with that"
                return Row(name, value.shape, "cut", 0.0, 0.0, note=note)
        return self._row(name, point, claimed, truth, slopes, missing)

    def _truth(
        self,
        name: str,
        point: Point,
        slopes: Slopes,
        reference: list[Gradients] | None,
        expected: Array,
    ) -> Array | None:
        """The true gradient for every seed, entry by entry; None if there are too many entries."""
        value = point.values[name]
        truth = None
        if reference is not None:
            truth = stacked(reference, name, value.shape)
            if self._verified(name, truth, slopes):
                how = "jax" if self.method == "jax" else "ops"
                point.how[name], point.errors[name] = how, 0.0
            else:
                truth = None
        if truth is None and self._affordable(value, slopes):
            tolerance = EXACT if slopes.complex else DIFFERENCES
            truth, off = elementwise(slopes, name, expected, tolerance)
            point.how[name] = "complex step" if slopes.complex else "differences"
            point.errors[name] = off
        if truth is not None:
            for known, found in zip(point.truth, truth, strict=True):
                known[name] = found
        return truth

    def _cuts(self) -> bool:
        """Whether forward detaches something on purpose."""
        from groundup.check.graphs import detaches

        return detaches(self.subject)

    def _verified(self, name: str, truth: Array, slopes: Slopes) -> bool:
        """Whether differences along random directions agree with gradients by ops."""
        value = slopes.values[name]
        for _ in range(DIRECTIONS):
            d = random_direction(value, self.rng)
            # One is enough: others may have met a kink.
            if any(_agrees(slopes, name, truth, d, careful) for careful in (False, True)):
                return True
        return False

    def _affordable(self, value: Array, slopes: Slopes) -> bool:
        """Whether there is time to go through all entries."""
        import time

        per_entry = 1 if slopes.complex else 4
        if value.size * per_entry > ENTRIES:
            return False
        begin = time.perf_counter()
        slopes.function(slopes.values)
        return (time.perf_counter() - begin) * value.size * per_entry < SECONDS

    def _row(
        self,
        name: str,
        point: Point,
        claimed: Array,
        truth: Array,
        slopes: Slopes,
        missing: bool,
    ) -> Row:
        value = point.values[name]
        off = np.abs(claimed - truth)
        allowed = self._allowed(name, point, truth, claimed)
        bad = off > allowed
        scale = largest(truth)
        worst = np.unravel_index(int(np.argmax(off - allowed)), off.shape)
        seed, index = int(worst[0]), tuple(int(i) for i in worst[1:])
        size = float(scale[seed]) or float(np.abs(claimed[seed]).max(initial=0.0))
        relative = float(off[worst]) / size if size else 0.0
        errors = {point.how[name]: relative}
        facts: dict[str, Any] = {
            "absolute": float(off[worst]),
            "relative": relative,
            "index": index,
            "value": float(claimed[worst]),
            "expected": float(truth[worst]),
            "errors": errors,
        }
        if missing:
            if not bad.any():
                return Row(name, value.shape, "right", **facts, note="none is given; it is 0")
            return Row(name, value.shape, "missing", **facts, note="backward gives no gradient")
        if not bad.any():
            return Row(name, value.shape, "right", **facts)
        if self._rounded(claimed, truth, point.narrow):
            return Row(name, value.shape, "noise", **facts, note="computed in float32")
        if self._kink(name, point, bad, slopes, claimed):
            facts |= {"value": None, "expected": None}
            return Row(
                name,
                value.shape,
                "kink",
                **facts,
                note="where it differs there is a kink: the function has no derivative "
                "there, and the backward takes one of its slopes",
            )
        doubt = np.broadcast_to(point.errors[name], off.shape)
        if bool(
            np.all(doubt[bad] > 0.02 * np.broadcast_to(spread(scale, off.ndim), off.shape)[bad])
        ):
            return Row(
                name,
                value.shape,
                "unsure",
                **facts,
                note="the forward pass is too noisy, or too steep, for differences",
            )
        return Row(name, value.shape, "wrong", **facts)

    def _allowed(self, name: str, point: Point, truth: Array, claimed: Array) -> Array:
        """What rounding and the errors of differences explain, entry by entry."""
        exact = point.how[name] != "differences"
        # The noise of a forward in float32 is no smooth error: its estimate is rough.
        trust = 40 if point.narrow and not exact else 4
        tolerance = EXACT if exact else DIFFERENCES
        allowed = tolerance * spread(largest(truth), truth.ndim) + trust * np.asarray(
            point.errors[name]
        )
        shown = np.broadcast_to(allowed, truth.shape)
        if np.any(np.abs(claimed - truth) > shown):
            shown = shown + self._conditioning(name, point)
        return np.asarray(shown)

    def _conditioning(self, name: str, point: Point) -> Array:
        """How much the gradients move when the values do by a few units in the last place.

        What a badly conditioned but right formula may be off by. A gradient that jumps is no
        matter of rounding.
        """
        moves = np.zeros((SEEDS, *point.values[name].shape))
        floor = natural(point, name)
        for _ in range(3 if moves[0].size <= LARGE else 1):
            near = {
                n: np.asarray(v * (1 + 4e-16 * self.rng.uniform(-2, 2, v.shape)))
                for n, v in point.values.items()
            }
            for both in (self.subject.backward, self.subject.reference):
                try:
                    found = [both(near, cs) for cs in point.cotangents]
                except Exception:
                    continue
                if any(f is None for f in found):
                    continue
                now = stacked(found, name, moves.shape[1:])  # type: ignore[arg-type]
                before = stacked(
                    point.claimed if both == self.subject.backward else point.truth,
                    name,
                    moves.shape[1:],
                )
                moves = np.maximum(moves, np.abs(now - before))
        moves = moves.max(axis=tuple(range(1, moves.ndim)), keepdims=True)
        size = spread(largest(stacked(point.truth, name, point.values[name].shape)), moves.ndim)
        small = (moves <= 1e-7 * size) | (moves <= 1e-10 * floor)
        return np.where(small, 100 * moves, 0.0)

    def _kink(self, name: str, point: Point, bad: Array, slopes: Slopes, claimed: Array) -> bool:
        """Whether the gradients agree as soon as the values are moved off, and kinks are there."""
        plainly = Slopes(slopes.function, slopes.values)
        places = np.argwhere(bad.any(axis=0))[:8]
        one_sided = False
        for place in places:
            index = tuple(int(i) for i in place)
            direction = np.zeros_like(point.values[name])
            direction[index] = scale_of(point.values[name])
            left, right, kinked = plainly.one_sided({name: direction})
            if kinked.any():
                one_sided = True
                mine = np.array([c[index] for c in claimed]) * float(direction[index])
                low, high = np.minimum(left, right), np.maximum(left, right)
                room = 1e-3 * (np.abs(low) + np.abs(high) + np.abs(high - low))
                if np.any((mine < low - room) | (mine > high + room)):
                    return False
        if not one_sided:
            return False
        for _ in range(2):
            near = {
                n: np.asarray(v + 1e-3 * scale_of(v) * _away(v.shape, self.rng))
                for n, v in point.values.items()
            }
            if not self._agrees_at(near, name, point.cotangents):
                return False
        return True

    def _agrees_at(
        self, values: Values, name: str, cotangents: Sequence[Sequence[Array]]
    ) -> bool | None:
        """Whether a gradient is right at other values; None if it cannot be computed there."""
        subject = self.subject
        try:
            claimed = stacked(
                [subject.backward(values, cs) for cs in cotangents], name, values[name].shape
            )
            slopes = self._slopes(values, cotangents)
            if not (np.isfinite(slopes.base).all() and np.isfinite(claimed).all()):
                return None
            return any(
                _agrees(slopes, name, claimed, random_direction(values[name], self.rng), True)
                for _ in range(DIRECTIONS)
            )
        except Exception:
            return None

    @staticmethod
    def _rounded(claimed: Array, truth: Array, narrow: bool) -> bool:
        """Whether it was computed in float32, and is right to that."""
        scale = spread(largest(truth), truth.ndim)
        off = np.abs(claimed - truth)
        if (narrow or _is_narrow(claimed)) and np.all(off <= FLOAT32 * scale):
            return True
        # A constant of forward or backward that was rounded to float32 is one factor for all.
        with np.errstate(all="ignore"):
            ratio = (claimed / truth)[np.abs(truth) > 1e-3 * scale]
        return bool(np.all(off <= 1e-7 * scale) and np.ptp(ratio) <= 1e-12 and np.all(ratio != 1))

    # Large ones

    def _projected(
        self, name: str, point: Point, claimed: Array, slopes: Slopes, missing: bool
    ) -> Row:
        """Compare along random directions, and find wrong entries by halving."""
        value = point.values[name]
        size, flat = value.size, claimed.reshape(SEEDS, -1)
        worst = 0.0

        entries = value.reshape(-1)
        floor = scale_of(value)

        def differs(low: int, high: int, careful: bool = False) -> float:
            """How far off the sum over entries low..high is, relative to its parts."""
            part = random_direction(entries[low:high], self.rng, floor)
            direction = np.zeros(size)
            direction[low:high] = part
            slope = slopes.along({name: direction.reshape(value.shape)}, careful)
            mine = flat[:, low:high]
            parts = np.array([np.linalg.norm(m * part) for m in mine])
            off = np.abs(slope.value - mine @ part)
            room = DIFFERENCES * np.maximum(parts, 1e-3 * np.abs(slope.value)) + 4 * slope.error
            scale = np.maximum(np.maximum(parts, np.abs(slope.value)), 1e-300)
            return float(np.max(np.where(off > room, off / scale, 0.0)))

        for _ in range(DIRECTIONS):
            # The quick differences do not see how much forward rounds.
            worst = max(worst, differs(0, size) and differs(0, size, careful=True))
        method = "complex step" if slopes.complex else "differences"
        point.how[name] = method
        errors = {f"{method} along random directions": worst}
        if not worst:
            note = "none is given; it is 0" if missing else ""
            return Row(name, value.shape, "right", None, 0.0, errors=errors, note=note)
        low, high = 0, size
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (low, middle) if differs(low, middle) else (middle, high)
        index = tuple(int(i) for i in np.unravel_index(low, value.shape))
        direction = np.zeros_like(value)
        step = abs(float(value[index])) or scale_of(value)
        direction[index] = step
        slope = slopes.along({name: direction}, careful=True).value / step
        mine = np.array([c[index] for c in claimed])
        seed = int(np.argmax(np.abs(slope - mine)))
        off = float(abs(slope[seed] - mine[seed]))
        return Row(
            name,
            value.shape,
            "missing" if missing else "wrong",
            off,
            worst,
            index,
            float(mine[seed]),
            float(slope[seed]),
            errors,
            note="found by halving: other entries may be wrong, too",
        )

    # Another place

    def _elsewhere(self, complex_step: bool) -> None:
        """Check again at values a little smaller: a gradient kept from the first call is wrong."""
        subject, here = self.subject, self.points[0]
        values = {
            n: np.asarray(v * (1 - 1e-3 * self.rng.uniform(0.5, 1.0, v.shape)))
            for n, v in subject.values.items()
        }
        try:
            outs = subject.forward(values)
            if not all(np.isfinite(o).all() for o in outs):
                return
            claimed = [subject.backward(values, cs) for cs in here.cotangents]
        except Exception:
            return  # the domain is narrow
        there = Point(values, here.cotangents, outs, claimed)
        self.points.append(there)
        slopes = self._slopes(values, here.cotangents)
        slopes.complex = complex_step
        reference = self.reference(there)
        for name, row in list(self.rows.items()):
            if not row.ok or row.verdict in ("cut", "unsure"):
                continue
            if any(
                c[name].shape != values[name].shape or not np.isfinite(c[name]).all()  # type: ignore[union-attr, arg-type]
                for c in claimed
                if c.get(name) is not None
            ):
                continue
            if here.how.get(name) in BY_OPS and reference is not None:
                now = self._compared(name, there, slopes, reference)
            elif self._agrees_at(values, name, here.cotangents) is False:
                now = self._compared(name, there, slopes, None)
            else:
                continue
            if not now.ok:
                note = "right at the given values, wrong at others checked after them"
                self.rows[name] = replace(now, note=note)


def _agrees(slopes: Slopes, name: str, gradient: Array, direction: Array, careful: bool) -> bool:
    """Whether a gradient, given for every seed, is right along a direction."""
    slope = slopes.along({name: direction}, careful)
    expected = np.array([np.vdot(g, direction) for g in gradient])
    size = np.array([np.linalg.norm(g * direction) for g in gradient])
    off = np.abs(slope.value - expected)
    return bool(np.all(off <= DIFFERENCES * size + 10 * slope.error))


def _is_narrow(array: Array) -> bool:
    """Whether float32 holds all of it."""
    with np.errstate(all="ignore"):
        return bool(np.array_equal(array.astype(np.float32).astype(np.float64), array))


def _away(shape: tuple[int, ...], rng: np.random.Generator) -> Array:
    """Random moves of either sign, none of them small."""
    size: Array = rng.uniform(0.5, 1.0, shape)
    return np.where(rng.random(shape) < 0.5, -size, size)


def stacked(
    gradients: Sequence[Mapping[str, Array | None]], name: str, shape: tuple[int, ...]
) -> Array:
    """A gradient for every seed, zeros where there is none."""
    found = [g.get(name) for g in gradients]
    return np.array([np.zeros(shape) if f is None else f for f in found], np.float64)


def largest(stack: Array) -> Array:
    """The largest entry for each seed."""
    found: Array = np.abs(stack).reshape(len(stack), -1).max(axis=1, initial=0.0)
    return found


def spread(numbers: Array, ndim: int) -> Array:
    """A number for each seed, to be broadcast over entries."""
    return np.expand_dims(numbers, tuple(range(1, ndim)))


def natural(point: Point, name: str) -> float:
    """The size that a gradient would have if nothing cancelled: outputs over values."""
    size = max(
        float(sum(np.sum(np.abs(c * o)) for c, o in zip(cs, point.outputs, strict=True)))
        for cs in point.cotangents
    )
    # Outputs that cancel, such as a sum of what has mean 0, are of no size at all.
    arriving = max(float(np.abs(c).max(initial=0.0)) for cs in point.cotangents for c in cs)
    return max(size, arriving) / max(float(np.abs(point.values[name]).max(initial=0.0)), 1e-300)
