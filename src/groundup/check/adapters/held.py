"""What stands behind a traced array: a Tensor or an array, and how views lie in their base."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NoReturn, TypeAlias

import numpy as np

from groundup import ops
from groundup.errors import GroundupError
from groundup.ops.base import Array, Shape
from groundup.ops.helpers import unslice
from groundup.ops.indexing import Pattern
from groundup.tensor import Tensor

# What a Traced holds.
Held: TypeAlias = Tensor | Array

LARGEST = 4000  # arrays made in one trace: a longer Program would explain nothing


class Untraceable(GroundupError):
    """Code that cannot be followed operation by operation."""


class _Budget(threading.local):
    left: int = 0


_budget = _Budget()


def spend() -> None:
    """Count one more array."""
    if _budget.left <= 0:
        raise Untraceable(
            f"a computation of more than {LARGEST} operations is not followed, nor one outside of "
            "a trace"
        )
    _budget.left -= 1


@contextmanager
def tracing() -> Iterator[None]:
    """Allow Traced arrays to be made, so many."""
    before, _budget.left = _budget.left, LARGEST
    try:
        yield
    finally:
        _budget.left = before


def refuse(what: str) -> NoReturn:
    """Raise: this is not followed."""
    raise Untraceable(f"{what} cannot be followed operation by operation")


def lifted(held: Held) -> Tensor:
    """A Tensor of what is held: of an array of its own, which nobody writes to."""
    return held if isinstance(held, Tensor) else Tensor.of(np.array(held))


def fitted(tensor: Tensor, shape: Shape, dtype: np.dtype[Any]) -> Tensor:
    """A Tensor as it is assigned to an array: broadcast, in the array's dtype."""
    if tensor.array.dtype != dtype:
        tensor = ops.cast(tensor, dtype=dtype)
    while tensor.array.ndim > len(shape) and tensor.array.shape[0] == 1:
        tensor = ops.reshape(tensor, shape=tensor.array.shape[1:])
    return tensor if tensor.array.shape == shape else ops.expand(tensor, shape=shape)


def outline(shape: Shape) -> Array:
    """An array of a shape, of no memory, to ask NumPy about shapes."""
    return np.broadcast_to(np.zeros((), bool), shape)


# Views: how an array's entries lie in that of which it is a view


class View(ABC):
    """How a view is read from its base, and where its entries lie there."""

    @abstractmethod
    def read(self, base: Held) -> Held:
        """The view's entries."""

    @abstractmethod
    def embed(self, part: Held, shape: Shape) -> Held:
        """Zeros of the base's shape with the view's entries at their places."""


@dataclass(frozen=True)
class Window(View):
    """`base[index]` of slices, integers, None and Ellipsis."""

    index: Pattern

    def read(self, base: Held) -> Held:
        if isinstance(base, Tensor):
            return ops.slice_(base, index=self.index)
        return np.asarray(base[self.index])

    def embed(self, part: Held, shape: Shape) -> Held:
        if isinstance(part, Tensor):
            return ops.unslice(part, index=self.index, shape=shape)
        return unslice(part, self.index, shape)


@dataclass(frozen=True)
class Turned(View):
    """The axes in another order."""

    axes: tuple[int, ...]

    def read(self, base: Held) -> Held:
        if isinstance(base, Tensor):
            return ops.transpose(base, axes=self.axes)
        return base.transpose(self.axes)

    def embed(self, part: Held, shape: Shape) -> Held:
        return Turned(tuple(int(i) for i in np.argsort(self.axes))).read(part)


@dataclass(frozen=True)
class Reshaped(View):
    """The same entries in another shape."""

    shape: Shape

    def read(self, base: Held) -> Held:
        if isinstance(base, Tensor):
            return base if base.array.shape == self.shape else ops.reshape(base, shape=self.shape)
        return base.reshape(self.shape)

    def embed(self, part: Held, shape: Shape) -> Held:
        return Reshaped(shape).read(part)
