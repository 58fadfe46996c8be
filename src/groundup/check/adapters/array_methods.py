"""The attributes and methods of an ndarray that follow from others."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from typing import Any

import numpy

from groundup.ops.base import Array

np: Any = numpy  # whose stubs know no arrays but its own


class ArrayMethods(numpy.lib.mixins.NDArrayOperatorsMixin):
    """Methods by NumPy's functions, which come back to the array through its protocols.

    `array` is what the array holds now. Indices and truths are read from it: they decide what
    code does, and are no part of the record.
    """

    __slots__ = ()

    @property
    @abstractmethod
    def array(self) -> Array:
        """The present entries."""

    @property
    @abstractmethod
    def ndim(self) -> int: ...

    @abstractmethod
    def __iter__(self) -> Iterator[Any]: ...

    @abstractmethod
    def transpose(self, *axes: Any) -> Any: ...

    @abstractmethod
    def reshape(self, *shape: Any, order: str = "C", copy: bool | None = None) -> Any: ...

    @abstractmethod
    def item(self, *index: Any) -> Any: ...

    @abstractmethod
    def write(self, value: Any) -> None:
        """`self[...] = value`."""

    @property
    def itemsize(self) -> int:
        return self.array.itemsize

    @property
    def nbytes(self) -> int:
        return self.array.nbytes

    @property
    def strides(self) -> tuple[int, ...]:
        return self.array.strides

    @property
    def T(self) -> Any:
        return self.transpose()

    @property
    def mT(self) -> Any:
        return np.swapaxes(self, -1, -2)

    @property
    def flat(self) -> Any:
        return self.reshape(-1)

    @property
    def real(self) -> Any:
        return self

    # Methods of an ndarray

    def ravel(self, order: str = "C") -> Any:
        return self.reshape(-1, order="C" if order in "KA" else order)

    def flatten(self, order: str = "C") -> Any:
        return self.ravel(order).copy()

    def squeeze(self, axis: Any = None) -> Any:
        return self.reshape(np.squeeze(self.array, axis).shape)

    def swapaxes(self, axis1: int, axis2: int) -> Any:
        return np.swapaxes(self, axis1, axis2)

    def fill(self, value: Any) -> None:
        self.write(value)

    def tolist(self) -> Any:
        return [e.tolist() for e in self] if self.ndim else self.item()

    def sum(
        self, axis: Any = None, dtype: Any = None, out: Any = None, keepdims: Any = False
    ) -> Any:
        return np.sum(self, axis=axis, keepdims=keepdims)

    def mean(
        self, axis: Any = None, dtype: Any = None, out: Any = None, keepdims: Any = False
    ) -> Any:
        return np.mean(self, axis=axis, keepdims=keepdims)

    def prod(self, axis: Any = None, **kwargs: Any) -> Any:
        return np.prod(self, axis=axis, **kwargs)

    def var(self, axis: Any = None, **kwargs: Any) -> Any:
        return np.var(self, axis=axis, **kwargs)

    def std(self, axis: Any = None, **kwargs: Any) -> Any:
        return np.std(self, axis=axis, **kwargs)

    def max(self, axis: Any = None, out: Any = None, **kwargs: Any) -> Any:
        return np.max(self, axis=axis, **kwargs)

    def min(self, axis: Any = None, out: Any = None, **kwargs: Any) -> Any:
        return np.min(self, axis=axis, **kwargs)

    def argmax(self, axis: Any = None, **kwargs: Any) -> Any:
        return np.argmax(self.array, axis=axis, **kwargs)

    def argmin(self, axis: Any = None, **kwargs: Any) -> Any:
        return np.argmin(self.array, axis=axis, **kwargs)

    def argsort(self, axis: int = -1, **kwargs: Any) -> Any:
        return np.argsort(self.array, axis=axis, **kwargs)

    def nonzero(self) -> Any:
        return np.nonzero(self.array)

    def any(self, axis: Any = None, **kwargs: Any) -> Any:
        return np.any(self.array, axis=axis, **kwargs)

    def all(self, axis: Any = None, **kwargs: Any) -> Any:
        return np.all(self.array, axis=axis, **kwargs)

    def sort(self, axis: int = -1) -> None:
        self.write(np.sort(self, axis=axis))

    def dot(self, other: Any) -> Any:
        return np.dot(self, other)

    def clip(self, min: Any = None, max: Any = None, out: Any = None) -> Any:
        return np.clip(self, min, max)

    def cumsum(self, axis: Any = None, **kwargs: Any) -> Any:
        return np.cumsum(self, axis=axis)

    def repeat(self, repeats: Any, axis: Any = None) -> Any:
        return np.repeat(self, repeats, axis)

    def take(self, indices: Any, axis: Any = None, **kwargs: Any) -> Any:
        return np.take(self, indices, axis)

    def diagonal(self, *args: Any, **kwargs: Any) -> Any:
        return np.diagonal(self, *args, **kwargs)

    def trace(self) -> Any:
        return np.trace(self)

    def round(self, decimals: int = 0) -> Any:
        return np.round(self, decimals)

    def conj(self) -> Any:
        return self

    def setflags(self, **kwargs: Any) -> None:
        """Nothing to set."""
