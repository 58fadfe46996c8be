"""Derivatives by evaluating the forward pass alone: complex step, and central differences.

Complex step: f'(x) = Im f(x + ih) / h, without cancellation, so that h may be 1e-30 (Squire &
Trapp, "Using complex variables to estimate derivatives of real functions", SIAM Review 40, 1998).
Central differences are extrapolated to step 0 with an estimate of what is left (Ridders, "Accurate
computation of F'(x) and F'(x)F''(x)", Advances in Engineering Software 4, 1982).
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from groundup.check.subjects import Subject, Values
from groundup.ops.base import Array

# From values to one number for each of several cotangents.
Scalars: TypeAlias = Callable[[Mapping[str, Array]], Array]

EPS = float(np.finfo(np.float64).eps)
COMPLEX_STEP = 1e-30
# The first try: two steps, extrapolated once. Truncation leaves about step**4 = 1e-16, rounding
# EPS / step = 1e-12.
STEP = 2e-4
# The second: eleven steps, each a quarter of the one before, the longest a tenth of the scale.
LADDER = 0.1 * 0.25 ** np.arange(12.0)
# More entries than these, and a check looks at less.
LARGE = 1_000_000
# What one-sided differences are taken with, to tell kinks.
ONE_SIDED = (1e-5, 1e-7)


@dataclass(frozen=True)
class Slope:
    """A directional derivative, one number for each cotangent.

    Attributes:
        value: the derivative.
        error: an estimate of how far from it `value` may be.

    """

    value: Array
    error: Array


def scalars(subject: Subject, cotangents: Sequence[Sequence[Array]]) -> Scalars:
    """The sums of cotangents * outputs as a function of the values."""

    def function(values: Mapping[str, Array]) -> Array:
        with np.errstate(all="ignore"):
            outs = subject.forward(values)
            return np.array(
                [
                    sum((np.sum(c * o) for c, o in zip(cs, outs, strict=True)), 0.0)
                    for cs in cotangents
                ]
            )

    return function


class Slopes:
    """Derivatives of numbers along directions from a point."""

    def __init__(self, function: Scalars, values: Values):
        self.function, self.values = function, values
        self.base = function(values)
        self.size = np.abs(self.base)
        self.complex = False  # whether the complex step has been found to work here
        self.narrow = False  # whether forward computes in float32

    # One direction

    def along(self, directions: Mapping[str, Array], careful: bool = False) -> Slope:
        """The derivative along directions (of the size of the values) at once."""
        if self.complex:
            try:
                return Slope(self._complex(directions), self.size * EPS)
            except Exception:  # an array of real numbers that a complex one is written to
                self.complex = False
        return self._careful(directions) if careful else self._quick(directions)

    def _moved(self, directions: Mapping[str, Array], step: complex) -> Array:
        moved = {
            n: np.asarray(v + step * directions[n]) if n in directions else v
            for n, v in self.values.items()
        }
        return self.function(moved)

    def _complex(self, directions: Mapping[str, Array]) -> Array:
        return np.asarray(self._moved(directions, 1j * COMPLEX_STEP).imag / COMPLEX_STEP)

    def _central(self, directions: Mapping[str, Array], step: float) -> Array:
        difference: Array = self._moved(directions, step) - self._moved(directions, -step)
        return difference / (2 * step)

    def _quick(self, directions: Mapping[str, Array]) -> Slope:
        wide, narrow = (self._central(directions, s) for s in (STEP, STEP / 2))
        value = (4 * narrow - wide) / 3
        return Slope(value, np.abs(narrow - wide) / 10 + 4 * EPS * self.size / STEP)

    def _careful(self, directions: Mapping[str, Array]) -> Slope:
        with np.errstate(all="ignore"):
            raw = np.array([self._central(directions, s) for s in LADDER])
            once = (16 * raw[1:] - raw[:-1]) / 15
            twice = (256 * once[1:] - once[:-1]) / 255
            errors = np.maximum(np.abs(twice - once[1:]), np.abs(twice - once[:-1]))
            errors = errors + EPS * self.size / LADDER[2:, None]
            errors[~np.isfinite(twice)] = np.inf
            if self.narrow:
                # Steps too short for float32 see no difference at all, and agree on that.
                unseen = (raw == 0) & np.any(raw != 0, axis=0)
                errors[unseen[2:] | unseen[1:-1] | unseen[:-2]] = np.inf
            # Two neighbours must be close: one alone may agree by chance.
            errors[1:] = np.maximum(errors[1:], 0.1 * np.minimum(errors[:-1], 1e300))
            seeds = np.arange(len(self.base))
            # Forward's own rounding, which shows at the shortest steps: in float32, or of terms
            # that cancel, it is far more than an EPS of what comes out.
            about = twice[np.argmin(errors, axis=0), seeds]
            noise = np.max(np.abs(raw[-4:] - about) * LADDER[-4:, None], axis=0)
            errors = errors + np.where(np.isfinite(noise), noise, 0.0) / LADDER[2:, None]
        best = np.argmin(errors, axis=0)
        return Slope(twice[best, seeds], errors[best, seeds])

    def one_sided(self, directions: Mapping[str, Array]) -> tuple[Array, Array, Array]:
        """Left and right derivatives, and where they are those of a kink."""
        found = []
        for step in ONE_SIDED:
            above = (self._moved(directions, step) - self.base) / step
            below = (self.base - self._moved(directions, -step)) / step
            found.append((below, above))
        (left, right), (left_near, right_near) = found
        gap, near = np.abs(right - left), np.abs(right_near - left_near)
        noise = 8 * EPS * self.size / ONE_SIDED[1]
        # A smooth function's gap shrinks with the step, by 100 here.
        return left_near, right_near, (near > 0.3 * gap) & (near > 10 * noise)

    # Whether the complex step is of use

    def try_complex(self, directions: Mapping[str, Array]) -> None:
        """Use the complex step from now on if it agrees with differences along a direction.

        It does not where forward is not analytic (abs, norms of complex numbers), drops the
        imaginary part, or takes no complex numbers.
        """
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error", np.exceptions.ComplexWarning)
                value = self._complex(directions)
        except Exception:  # whatever a forward raises that was not made for complex numbers
            return
        if not np.isfinite(value).all():
            return
        large = sum(d.size for d in directions.values()) > LARGE
        slope = self._quick(directions) if large else self._careful(directions)
        scale = np.maximum(np.abs(value), np.abs(slope.value))
        self.complex = bool(
            np.all(np.abs(value - slope.value) <= 10 * slope.error + 1e-7 * scale)
            and np.all(slope.error <= 1e-4 * scale)
            and np.any(scale > 0)
        )


def scale_of(array: Array) -> float:
    """The size of an array's entries: the root of their mean square, or 1 if they are all 0."""
    if not array.size:
        return 1.0
    largest = float(np.abs(array).max())
    if not largest:
        return 1.0
    return largest * float(np.sqrt(np.mean((array / largest) ** 2)))


def entry(array: Array, index: tuple[int, ...], own: bool = True) -> Array:
    """A direction along one entry, as long as the entry is, or as the array's are."""
    direction = np.zeros_like(array)
    size = abs(float(array[index])) if own else 0.0
    direction[index] = size or scale_of(array)
    return direction


def random_direction(array: Array, rng: np.random.Generator, scale: float | None = None) -> Array:
    """A random direction in all entries, each by its own size and sign.

    `scale` is the size of the entries that the array is a part of; its own unless given.
    """
    floor = 1e-2 * (scale_of(array) if scale is None else scale)
    # Never a smaller step than 0 is from a zero entry, never a sign lost along the way.
    size = np.where(array == 0, floor, np.abs(array))
    moves = rng.uniform(-0.5, 0.5, array.shape)
    return np.asarray(size * (moves + np.copysign(0.5, moves)))


def elementwise(
    slopes: Slopes, name: str, expected: Array, tolerance: float
) -> tuple[Array, Array]:
    """The derivative by every entry of a value, and its error: (cotangents, *shape) each.

    The quick differences do where they agree with what is expected; the careful ones elsewhere.
    """
    array = slopes.values[name]
    found = np.zeros((len(slopes.base), *array.shape))
    errors = np.zeros_like(found)
    scale = np.abs(expected).reshape(len(expected), -1).max(axis=1, initial=0.0)
    for index in np.ndindex(array.shape):
        place = (slice(None), *index)
        for own, careful in ((True, False), (True, True), (False, True)):
            direction = entry(array, index, own)
            size = float(direction[index])
            slope = slopes.along({name: direction}, careful)
            value, error = slope.value / size, slope.error / size
            # The quick ones' estimate does not see forward's rounding, and is no match for others.
            if own or np.all(error < errors[place]):
                found[place], errors[place] = value, error
            with np.errstate(invalid="ignore"):
                agrees = np.abs(value - expected[place]) <= tolerance * scale
            if slopes.complex or bool(np.all(agrees)):
                break
    return found, errors
