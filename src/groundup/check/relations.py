"""Mistakes that show in the numbers alone: how a wrong gradient relates to true ones."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from groundup.check.numeric import LARGE
from groundup.ops.base import Array

CLOSE = 1e-7  # relative: what counts as the same


@dataclass(frozen=True)
class Clue:
    """That a known mistake gives the wrong numbers.

    Attributes:
        kind: one of `KINDS`.
        names: the gradients that it explains.
        evidence: in words and numbers.
        weight: how much it says, from 0 to 1.

    """

    kind: str
    names: tuple[str, ...]
    evidence: str
    weight: float


@dataclass(frozen=True)
class Numbers:
    """What the relations are looked for in.

    Attributes:
        wrong: names of the wrong gradients.
        values: the inputs and parameters by name.
        integers: integer and boolean inputs.
        outputs: forward's.
        claimed, truth: by seed, the gradients by name.
        cotangents: by seed, for each output.
        derivative: the true gradients for other cotangents, if they can be had.
        added: the values that forward only adds to others, if that is known.
        elsewhere: a wrong gradient and the true one at other values, if they can be had.
        forward: the outputs from values.

    """

    wrong: tuple[str, ...]
    values: Mapping[str, Array]
    integers: Sequence[Array]
    outputs: Sequence[Array]
    claimed: Sequence[Mapping[str, Array | None]]
    truth: Sequence[Mapping[str, Array]]
    cotangents: Sequence[Sequence[Array]]
    derivative: Any = None
    added: frozenset[str] | None = None
    elsewhere: Any = None
    forward: Any = None


def close(a: Any, b: Any, tolerance: float = CLOSE) -> bool:
    """Whether two arrays are the same, relative to their largest entry."""
    if a is None or b is None or np.shape(a) != np.shape(b):
        return False
    scale = max(size_of(a), size_of(b))
    return bool(0 < scale < np.inf and np.max(np.abs(np.subtract(a, b))) <= tolerance * scale)


def size_of(a: Any) -> float:
    """The largest entry."""
    return float(np.max(np.abs(a))) if np.size(a) else 0.0


def relations(numbers: Numbers) -> Iterator[Clue]:
    """All that is found."""
    for name in numbers.wrong:
        mine = [c.get(name) for c in numbers.claimed]
        true = [t.get(name) for t in numbers.truth]
        if any(t is None for t in true):
            continue
        if mine[0] is None:
            yield Clue("detached", (name,), f"backward gives no gradient of {name}", 0.97)
        elif mine[0].shape != true[0].shape:  # type: ignore[union-attr]
            yield from _misshapen(name, mine, true, numbers)  # type: ignore[arg-type]
        elif np.isfinite(mine[0]).all():
            yield from _same_shape(name, mine, true, numbers)  # type: ignore[arg-type]
    yield from _exchanged(numbers)
    yield from _repeated(numbers)


def _both(test: Any, mine: Sequence[Array], true: Sequence[Array]) -> bool:
    """Whether something holds for all seeds."""
    try:
        return all(bool(test(m, t)) for m, t in zip(mine, true, strict=True))
    except (ValueError, IndexError):
        return False


def _misshapen(
    name: str, mine: Sequence[Array], true: Sequence[Array], numbers: Numbers
) -> Iterator[Clue]:
    given, wanted = mine[0].shape, true[0].shape
    shapes = f"shape {given}, wanted {wanted}"
    for axes in itertools.permutations(range(len(given))) if len(given) <= 4 else ():
        if axes != tuple(range(len(given))) and _both(
            lambda m, t, axes=axes: close(m.transpose(axes), t), mine, true
        ):
            yield Clue("transpose", (name,), f"{shapes}; transposed it is right", 0.98)
            return
    if given == wanted[::-1]:
        yield Clue("transpose", (name,), f"{shapes}: the axes are reversed", 0.8)
    for count in range(1, len(given) + 1):
        for axes in itertools.combinations(range(len(given)), count):
            if _both(lambda m, t, axes=axes: _sums_to(m, t, axes), mine, true):
                shown = axes[0] if len(axes) == 1 else axes
                says = f"{shapes}; summed over axis {shown} it is right"
                yield from _unsummed(name, numbers, says, 0.98)
                return
            if _both(lambda m, t, axes=axes: _sums_to(m / _count(m, axes), t, axes), mine, true):
                yield Clue("sum", (name,), f"{shapes}; its mean over axis {axes} is right", 0.95)
                return
    if len(given) > len(wanted) or math.prod(given) > math.prod(wanted):
        yield from _unsummed(name, numbers, f"{shapes}: it has more entries", 0.6)
    elif _both(lambda m, t: close(np.broadcast_to(m, t.shape), t), mine, true):
        yield Clue("sum", (name,), f"{shapes}; broadcast to {wanted} it is right", 0.9)
    else:
        yield Clue("axis", (name,), f"{shapes}: too much is summed, or along another axis", 0.6)
        yield Clue("sum", (name,), shapes, 0.5)


def _count(m: Array, axes: tuple[int, ...]) -> int:
    return math.prod(m.shape[a] for a in axes)


def _sums_to(m: Array, t: Array, axes: tuple[int, ...]) -> bool:
    total = m.sum(axes)
    return bool(total.size == t.size and close(total.reshape(t.shape), t))


def _unsummed(name: str, numbers: Numbers, evidence: str, weight: float) -> Iterator[Clue]:
    """A missing sum: of a bias, which is what is only added, or of something else."""
    called = is_called_bias(name)
    bias = is_bias(name, numbers) and (called or np.ndim(numbers.values[name]) < 2)
    first, second = ("bias", "sum") if bias else ("sum", "bias")
    yield Clue(first, (name,), evidence, weight)
    if bias or called or is_bias(name, numbers):
        yield Clue(second, (name,), evidence, weight - 0.06)


def is_called_bias(name: str) -> bool:
    """Whether a value is called as biases are."""
    last = name.rsplit(".", 1)[-1].lower()
    return "bias" in last or (last.startswith("b") and "beta" not in last and "batch" not in last)


def is_bias(name: str, numbers: Numbers) -> bool:
    """Whether a value is added to the output, or called as if it were."""
    if numbers.added is not None:
        return name in numbers.added
    if is_called_bias(name):
        return True
    t, c = numbers.truth[0].get(name), numbers.cotangents[0]
    if t is None or len(c) != 1 or t.ndim > c[0].ndim:
        return False
    axes = tuple(range(c[0].ndim - t.ndim))
    return bool(axes) and close(c[0].sum(axes), t)


def _same_shape(
    name: str, mine: Sequence[Array], true: Sequence[Array], numbers: Numbers
) -> Iterator[Clue]:
    m, t = mine[0], true[0]
    if not any(size_of(x) for x in mine):
        yield Clue("detached", (name,), "the gradient is zero", 0.97)
        return
    ratios = [
        float(np.vdot(a, b) / np.vdot(b, b)) if np.any(b) else 0.0
        for a, b in zip(mine, true, strict=True)
    ]
    same = abs(ratios[0] - ratios[-1]) <= 1e-6 * abs(ratios[0])
    if (same and t.size > 1) or (same and m.size == 1):
        c = ratios[0]
        if c and _both(lambda a, b: close(a, c * b, 1e-6), mine, true):
            if _varies(name, c, numbers):
                weight = 0.7 if m.size == 1 or abs(c - 1) < 0.1 else 0.97
                yield Clue(
                    "formula",
                    (name,),
                    f"it is {c:.6g} times the true gradient here, and "
                    "another multiple at other values",
                    weight,
                )
                yield from _eps_like(name, c)
            else:
                weight = 0.95 if m.size > 1 else 0.85
                yield from scaled(name, c, numbers, "it is {} times the true gradient", weight)
            if m.size > 1:
                return
    if m.size > LARGE:
        return
    for axes in itertools.permutations(range(m.ndim)) if 2 <= m.ndim <= 4 else ():
        if axes != tuple(range(m.ndim)) and _both(
            lambda a, b, axes=axes: close(a.transpose(axes), b), mine, true
        ):
            yield Clue("transpose", (name,), "transposed it is right", 0.96)
            break
    for axis in range(m.ndim):
        if m.shape[axis] < 2:
            continue
        if m.shape[axis] > 2 and _both(
            lambda a, b, axis=axis: close(np.flip(a, axis), b), mine, true
        ):
            yield Clue("axis", (name,), f"flipped along axis {axis} it is right", 0.85)
            yield Clue("shift", (name,), f"reversed along axis {axis} it is right", 0.9)
        for by in (1, -1):
            if m.shape[axis] > 2 and _both(
                lambda a, b, axis=axis, by=by: close(np.roll(a, by, axis), b), mine, true
            ):
                yield Clue("shift", (name,), f"moved by {by} along axis {axis} it is right", 0.95)
        cut = [slice(None)] * m.ndim
        for by in (1, -1):
            kept, other = list(cut), list(cut)
            kept[axis] = slice(by, None) if by > 0 else slice(None, by)
            other[axis] = slice(None, -by) if by > 0 else slice(-by, None)
            if m.shape[axis] > 2 and _both(
                lambda a, b, kept=tuple(kept), other=tuple(other): close(a[kept], b[other]),
                mine,
                true,
            ):
                yield Clue(
                    "shift",
                    (name,),
                    f"moved by {by} along axis {axis} it is right but for the border",
                    0.9,
                )
    if len(mine) > 1 and close(mine[0], mine[1], 1e-12):
        yield Clue("cotangent", (name,), "it is the same whatever gradient arrives", 0.97)
    elif numbers.derivative is not None:
        yield from _other_cotangent(name, mine, numbers)
    yield from _patterns(name, mine, true, numbers)
    if m.ndim and len(numbers.outputs) == 1 and np.shape(numbers.outputs[0]) == m.shape:
        yield from _forward_again(name, mine, numbers)


def _forward_again(name: str, mine: Sequence[Array], numbers: Numbers) -> Iterator[Clue]:
    """Whether what arrives was sent through forward itself, not through its adjoint."""
    zero = {**numbers.values, name: np.zeros_like(numbers.values[name])}
    for m, cs in zip(mine, numbers.cotangents, strict=True):
        try:
            with np.errstate(all="ignore"):
                moved = numbers.forward({**zero, name: np.asarray(cs[0])})
                still = numbers.forward(zero)
        except Exception:  # a forward that does not take such values
            return
        if not close(np.subtract(moved[0], still[0]), m):
            return
    says = "it is forward applied to dout; the gradient of a linear map is its transpose"
    yield Clue("shift", (name,), says, 0.92)
    yield Clue("transpose", (name,), says, 0.91)


def _varies(name: str, c: float, numbers: Numbers) -> bool:
    """Whether the factor is another one at other values."""
    there = numbers.elsewhere(name) if numbers.elsewhere is not None else None
    if there is None:
        return False
    mine, true = there
    if not np.any(true) or np.shape(mine) != np.shape(true):
        return False
    other = float(np.vdot(mine, true) / np.vdot(true, true))
    return abs(other - c) > 1e-7 * abs(c)


def _eps_like(name: str, c: float) -> Iterator[Clue]:
    if 0 < abs(c - 1) < 0.1:
        yield Clue("eps", (name,), f"it is {c:.6g} times the true gradient, about the same", 0.6)


def scaled(
    name: str, c: float, numbers: Numbers, says: str, weight: float = 0.95
) -> Iterator[Clue]:
    """What a constant factor means."""
    shown = says.format(f"{c:.6g}")
    if abs(c + 1) < 1e-6:
        yield Clue("sign", (name,), shown, weight + 0.01)
        return
    counts = axis_counts(numbers)
    n = counted(c, counts)
    if n:
        small = n == 2 and counts[n] != "the batch"
        says = f"{shown}: {counts[n]} has {n} entries"
        yield Clue("mean", (name,), says, weight - (0.03 if small else 0))
        yield Clue("factor", (name,), shown, weight - (0.01 if small else 0.1))
    else:
        # Next to 1 it is rather something left out, such as eps.
        yield Clue("factor", (name,), shown, weight - (0.1 if abs(c - 1) < 0.1 else 0.0))
    if c < 0:
        yield Clue("sign", (name,), shown, weight - 0.2)


def counted(factor: float, counts: Iterable[int]) -> int:
    """The number of entries, of those known, that a factor is, or is one over; 0 if none."""
    size = abs(factor)
    near = (n for n in counts if n > 1 and min(abs(size - n) / n, abs(size * n - 1)) < 1e-6)
    return next(near, 0)


def axis_counts(numbers: Numbers) -> dict[int, str]:
    """Lengths that a mean may be over, and of what."""
    found: dict[int, str] = {}
    arrays = [*numbers.outputs, *numbers.values.values(), *numbers.integers]
    for a in arrays:
        if np.ndim(a):
            found.setdefault(np.shape(a)[0], "the batch")
            break
    for a in arrays:
        shape = np.shape(a)
        for i in range(len(shape)):
            found.setdefault(shape[i], f"axis {i}")
        for i in range(len(shape)):
            for j in range(i + 1, len(shape)):
                found.setdefault(math.prod(shape[i : j + 1]), f"axes {i} to {j} together")
    return found


def _other_cotangent(name: str, mine: Sequence[Array], numbers: Numbers) -> Iterator[Clue]:
    """Whether it would be right for another gradient of the output."""
    if len(numbers.outputs) != 1:
        return
    for says, change in COTANGENTS.items():
        hits = 0
        for m, cs in zip(mine, numbers.cotangents, strict=True):
            try:
                other = np.broadcast_to(change(cs[0]), cs[0].shape).astype(np.float64)
                found = numbers.derivative([other]).get(name)
            except (ValueError, IndexError):
                break
            if found is None or close(other, cs[0]) or not close(found, m):
                break
            hits += 1
        if hits == len(mine):
            shown = f"it is right for {says} in place of dout"
            yield Clue("cotangent", (name,), shown, 0.9)
            if says.startswith("nothing but") and set(numbers.wrong) < set(numbers.values):
                # The rest are right: a sum in a loop that keeps one turn's part, or a slice.
                yield Clue("overwritten", (name,), shown, 0.91 if "the last" in says else 0.84)
                weight = 0.92 if "first" in says else 0.87
                yield from _unsummed(name, numbers, shown, weight)


def only(axis: int, index: int) -> Any:
    """The part of a cotangent at one index of an axis; zeros elsewhere."""

    def change(c: Array) -> Array:
        made = np.zeros_like(c)
        place: list[Any] = [slice(None)] * c.ndim
        place[axis] = index
        made[tuple(place)] = c[tuple(place)]
        return made

    return change


COTANGENTS: dict[str, Any] = {
    "nothing but the first row of dout": only(0, 0),
    "nothing but the last row of dout": only(0, -1),
    "nothing but the first of dout along axis 1": only(1, 0),
    "nothing but the last of dout along axis 1": only(1, -1),
    "ones": lambda c: np.ones_like(c),
    "the sum of dout": lambda c: c.sum(),
    "the mean of dout": lambda c: c.mean(),
    "the signs of dout": lambda c: np.sign(c),
    "|dout|": lambda c: np.abs(c),
    "dout squared": lambda c: c * c,
    "the first row of dout": lambda c: c[:1],
    "the last row of dout": lambda c: c[-1:],
    "the first column of dout": lambda c: c[..., :1],
    "the sum of dout over its rows": lambda c: c.sum(0, keepdims=True),
    "the mean of dout over its rows": lambda c: c.mean(0, keepdims=True),
    "the sum of dout along its last axis": lambda c: c.sum(-1, keepdims=True),
    "the mean of dout along its last axis": lambda c: c.mean(-1, keepdims=True),
    "the first entry of dout": lambda c: c.reshape(-1)[0],
}


def _patterns(
    name: str, mine: Sequence[Array], true: Sequence[Array], numbers: Numbers
) -> Iterator[Clue]:
    """Right at some entries, zero (or what should be zero) at the others."""
    m, t = np.array(mine), np.array(true)
    scale = max(size_of(m), size_of(t))
    right = np.all(np.abs(m - t) <= CLOSE * scale, axis=0)
    if right.all() or m[0].size < 3:
        return
    off = ~right
    none, extra = np.all(m == 0, axis=0), np.all(np.abs(t) <= 1e-12 * scale, axis=0)
    if right.mean() >= 0.15:
        if np.all(none[off]):
            yield Clue(
                "mask",
                (name,),
                f"{off.sum()} of {off.size} entries are 0 and should not be; the rest is right",
                0.55,
            )
        elif np.all(extra[off]):
            yield Clue(
                "mask",
                (name,),
                f"{off.sum()} of {off.size} entries should be 0; the rest is right",
                0.6,
            )
        elif np.all((none | extra)[off]):
            yield Clue(
                "mask",
                (name,),
                "entries that should be 0 are not, and the reverse; the rest is right",
                0.65,
            )
    elif np.all((none | extra)[off & ~(none & extra)]):
        yield Clue("mask", (name,), "it is 0 where it should not be, and the reverse", 0.6)
    repeats = [
        i
        for i in numbers.integers
        if i.dtype.kind in "iu" and i.size and len(np.unique(i)) < i.size and i.max() > 1
    ]
    for index in repeats:
        for axis in range(t.ndim - 1):
            n = t.shape[axis + 1]
            if index.max() >= n or index.min() < -n:
                continue
            counts = np.bincount(index.reshape(-1) % n, minlength=n)
            by = tuple(a for a in range(off.ndim) if a != axis)
            wrong_there = off.any(axis=by)
            if not wrong_there.any() or not np.all(counts[wrong_there] > 1):
                continue
            empty = extra.all(axis=by) & wrong_there  # nothing should be there: a mask's matter
            rows = n != len(index)  # else it may be the batch's axis, which the index is not for
            yield Clue(
                "scatter",
                (name,),
                "it is wrong only at indices that occur more than "
                f"once: {np.flatnonzero(wrong_there).tolist()[:6]}",
                0.96 if rows and not empty.any() else 0.7,
            )
            return


def _exchanged(numbers: Numbers) -> Iterator[Clue]:
    """Gradients that are another's."""
    for name, other in itertools.permutations(numbers.values, 2):
        if name not in numbers.wrong:
            continue
        mine, true = (
            [g.get(n) for g in source]
            for n, source in ((name, numbers.claimed), (other, numbers.truth))
        )
        if any(x is None for x in (*mine, *true)):
            continue
        if not _both(close, mine, true):  # type: ignore[arg-type]
            continue
        back = [g.get(other) for g in numbers.claimed], [g.get(name) for g in numbers.truth]
        both = other in numbers.wrong and not any(x is None for x in (*back[0], *back[1]))
        if both and _both(close, *back):  # type: ignore[arg-type]
            # Where one is minus the other, each has the wrong sign.
            opposite = close(true[0], -np.asarray(back[1][0]))
            yield Clue(
                "swapped",
                (name, other),
                f"{name}'s gradient is {other}'s, and the reverse",
                0.9 if opposite else 0.98,
            )
        elif both:
            yield Clue("swapped", (name, other), f"{name}'s gradient is {other}'s", 0.6)
        else:
            yield Clue("operand", (name,), f"it is the gradient of {other}", 0.5)


def _repeated(numbers: Numbers) -> Iterator[Clue]:
    """The same factor for several gradients."""
    factors: dict[str, float] = {}
    for name in numbers.wrong:
        m, t = numbers.claimed[0].get(name), numbers.truth[0].get(name)
        if m is not None and t is not None and m.shape == t.shape and np.any(t):
            c = float(np.vdot(m, t) / np.vdot(t, t))
            if close(m, c * t, 1e-6):
                factors[name] = c
    if len(factors) > 1 and np.ptp(list(factors.values())) < 1e-6 * abs(max(factors.values())):
        c = next(iter(factors.values()))
        for clue in scaled("", c, numbers, "all are {} times the true gradients"):
            yield Clue(clue.kind, tuple(factors), clue.evidence, clue.weight)
