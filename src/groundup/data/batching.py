"""Slices of a data set: `chunks` in order, `batches` for training."""

import operator
from collections.abc import Iterator
from typing import Any, Protocol, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from groundup.data.shuffling import check_seed, permutation
from groundup.errors import DataError, ShapeError


class Sliceable(Protocol):
    """What `chunks` takes: arrays, lists, tuples, strings, ranges."""

    def __len__(self) -> int: ...
    def __getitem__(self, key: slice, /) -> Any: ...


S = TypeVar("S", bound=Sliceable)


def chunks(x: S, size: int) -> Iterator[S]:
    """`x` in consecutive slices of `size` items, the last one smaller if need be.

    Of an array each slice is a view. DataError if x is empty or size < 1.
    """
    size = _size("chunks", size)
    if len(x) == 0:
        raise DataError("chunks: x is empty")
    return (x[start : start + size] for start in range(0, len(x), size))


class Batches:
    """The rows of x (n, ...) and y (n, ...) in batches, an epoch an iteration.

    for xb, yb in batches:   # xb (size, ...), yb (size, ...)

    In order, the batches are views; shuffled, they are copies. The permutation depends on nothing
    but (seed, epoch): see `groundup.data.shuffling.permutation`. `iter(batches)` takes the epoch
    in `batches.epoch` and sets the attribute to the next, so each pass over the data has a new
    order; a training that resumes sets `batches.epoch` and meets the very batches that it would
    have met.

    Attributes: x, y (arrays), size, shuffle, seed, drop_last, epoch (the next iteration's, from 0).
    """

    def __init__(
        self,
        x: ArrayLike,
        y: ArrayLike,
        size: int = 64,
        shuffle: bool = False,
        seed: int = 0,
        drop_last: bool = False,
    ) -> None:
        self.x: NDArray[Any] = np.asarray(x)
        self.y: NDArray[Any] = np.asarray(y)
        self.size = _size("batches", size)
        self.shuffle = shuffle
        self.seed = check_seed(seed)
        self.drop_last = drop_last
        self.epoch = 0
        if self.x.ndim == 0 or self.y.ndim == 0:
            raise ShapeError(
                f"batches: x has the shape {self.x.shape} and y {self.y.shape}; both need rows"
            )
        if len(self.x) != len(self.y):
            raise ShapeError(
                f"batches: x has {len(self.x)} rows and y {len(self.y)}: each row of x needs its y"
            )
        if len(self.x) == 0:
            raise DataError("batches: x and y are empty")
        if drop_last and len(self.x) < self.size:
            raise DataError(
                f"batches: drop_last drops the only batch, {len(self.x)} rows of size={self.size}. "
                "Take a smaller size or keep the last batch"
            )

    def __len__(self) -> int:
        """The number of batches in an epoch."""
        n = len(self.x)
        return n // self.size if self.drop_last else -(-n // self.size)

    def order(self, epoch: int) -> NDArray[np.int64]:
        """The rows in the order in which `epoch` visits them: int64, shape (n,)."""
        if self.shuffle:
            return permutation(len(self.x), self.seed, epoch)
        return np.arange(len(self.x))

    def __iter__(self) -> Iterator[tuple[NDArray[Any], NDArray[Any]]]:
        order = self.order(self.epoch)
        self.epoch = int(self.epoch) + 1  # a checkpoint may have held a NumPy integer
        return self._batches(order)

    def _batches(self, order: NDArray[np.int64]) -> Iterator[tuple[NDArray[Any], NDArray[Any]]]:
        for i in range(len(self)):
            part = slice(i * self.size, (i + 1) * self.size)
            rows = order[part] if self.shuffle else part
            yield self.x[rows], self.y[rows]

    def __repr__(self) -> str:
        return (
            f"Batches(x={self.x.shape}, y={self.y.shape}, size={self.size}, "
            f"shuffle={self.shuffle}, seed={self.seed}, epoch={self.epoch}): {len(self)} batches"
        )


def batches(
    x: ArrayLike,
    y: ArrayLike,
    size: int = 64,
    shuffle: bool = False,
    seed: int = 0,
    drop_last: bool = False,
) -> Batches:
    """Pairs (xb, yb) of `size` rows each, the last one smaller unless `drop_last`: see Batches.

    Errors: ShapeError if x and y differ in length; DataError if they are empty, if size < 1, if
    the seed is no integer of 0..2**128-1, or if `drop_last` would drop everything.
    """
    return Batches(x, y, size, shuffle, seed, drop_last)


def _size(name: str, size: int) -> int:
    try:
        whole = operator.index(size)
    except TypeError:
        whole = 0
    if whole < 1:
        raise DataError(f"{name}: size={size!r}; it must be an integer of at least 1")
    return whole
