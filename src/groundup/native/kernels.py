"""What a plan is made of: views of memory, values, kernels, stages."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from groundup.ops.base import Shape


class Batch(NamedTuple):
    """Which axis of a value is the batch, and how many entries of it belong to one row of that."""

    axis: int
    times: int


@dataclass(frozen=True)
class View:
    """Where a value's entries lie: in the memory of `base`, as in NumPy, strides in entries."""

    base: str
    offset: int
    strides: tuple[int, ...]
    shape: Shape
    dtype: str
    batch: Batch | None

    def aligned(self, ndim: int, axes: Sequence[int]) -> View:
        """The view with as many axes as a loop nest has: axis i of it becomes axes[i]."""
        strides, shape = [0] * ndim, [1] * ndim
        for stride, n, axis in zip(self.strides, self.shape, axes, strict=True):
            if n != 1:
                strides[axis] += stride
                shape[axis] = n
        batch = None if self.batch is None else self.batch._replace(axis=axes[self.batch.axis])
        return replace(self, strides=tuple(strides), shape=tuple(shape), batch=batch)

    def broadcast(self, ndim: int) -> View:
        """The view with more axes in front, as NumPy broadcasts."""
        return self.aligned(ndim, range(ndim - len(self.shape), ndim))


@dataclass
class Value:
    """What is known of a name of the Program.

    Attributes:
        level: the stage after whose beginning it is there.
        tiled: whether it is computed tile by tile.
        partial: whether each thread has a part of it, whose sum it is.
        padded: whether its rows take a multiple of a vector's length.

    """

    name: str
    shape: Shape
    dtype: str
    batch: Batch | None = None
    level: int = 0
    tiled: bool = False
    partial: bool = False
    padded: bool = True
    view: View | None = None


@dataclass(frozen=True)
class Domain:
    """What a loop nest runs over."""

    shape: Shape
    batch: Batch | None


@dataclass
class Line:
    """One element-wise equation within a nest.

    Attributes:
        ins: names computed in the nest, views that are loaded, numbers.
        equation: the number of the Program's equation.

    """

    out: str
    op: str
    ins: tuple[Any, ...]
    attrs: dict[str, Any]
    dtype: str
    equation: int


@dataclass
class Kernel(ABC):
    """A piece of work: a nest, a product.

    Attributes:
        stores: where values go that others read.
        parallel: of a whole one, whether each thread takes a part of its first axis.

    """

    stores: list[tuple[str, View]] = field(default_factory=list)
    parallel: bool = False

    @abstractmethod
    def reads(self) -> Iterator[View]:
        """All that it loads."""

    @abstractmethod
    def makes(self) -> Iterator[str]:
        """All values that it computes."""

    @abstractmethod
    def equations(self) -> Iterator[int]:
        """The Program's equations that it computes."""


@dataclass
class Reduction:
    """A value that a nest adds up, or the largest, or a running sum.

    Attributes:
        op: "sum", "amax", "amin", "argmax", "argmin", "cumsum", "check".
        source: a line of the nest, or a view.
        equation: the number of the Program's equation.

    """

    out: str
    op: str
    source: Any
    dtype: str
    equation: int


@dataclass
class Nest(Kernel):
    """Loops over a domain: element-wise lines, and reductions of what they give.

    Attributes:
        reduced: the axes over which the reductions run; None without reductions.
        scatter: (value, view, index views with their strides): it adds to where indices say.

    """

    domain: Domain = field(default_factory=lambda: Domain((), None))
    lines: list[Line] = field(default_factory=list)
    reductions: list[Reduction] = field(default_factory=list)
    reduced: frozenset[int] | None = None
    scatter: Gather | None = None
    alone: bool = False

    def reads(self) -> Iterator[View]:
        for line in self.lines:
            for i in line.ins:
                yield from _views(i)
        for r in self.reductions:
            yield from _views(r.source)
        if self.scatter is not None:
            yield from _views(self.scatter)

    def makes(self) -> Iterator[str]:
        for line in self.lines:
            yield line.out
        for r in self.reductions:
            yield r.out

    def equations(self) -> Iterator[int]:
        for line in self.lines:
            yield line.equation
        for r in self.reductions:
            yield r.equation


@dataclass
class Gather:
    """An address that depends on data.

    Attributes:
        view: the array, aligned to the nest; axes that an index array chooses have no stride here.
        indices: of each index array its view, the stride of the chosen axis, and its length.

    """

    view: View
    indices: list[tuple[View, int, int]]


def _views(operand: Any) -> Iterator[View]:
    if isinstance(operand, View):
        yield operand
    elif isinstance(operand, Gather):
        yield operand.view
        for view, _, _ in operand.indices:
            yield view


@dataclass
class Product(Kernel):
    """A matrix product a @ b -> out: views of shape (..., m, k), (..., k, n), (..., m, n).

    Attributes:
        over: which axis the tile's rows are: "m", "k", "batch" (an axis before the last two) or "".
            "terms": it is no tile's; of k each thread has a part, for all rows.
        epilogue: lines that are computed of each entry before it is stored.
        packed: what b was copied to in panels, if it was, and the `width` of those.

    """

    out: str = ""
    a: View = None  # type: ignore[assignment]
    b: View = None  # type: ignore[assignment]
    shape: Shape = ()
    batch: Batch | None = None
    over: str = ""
    equation: int = 0
    dtype: str = "float32"
    swapped: bool = False  # the result is the transposed product
    row_vector: bool = False  # the result has no rows, as a had none
    epilogue: list[Line] = field(default_factory=list)
    packed: str = ""
    width: int = 0

    def reads(self) -> Iterator[View]:
        yield self.a
        yield self.b
        for line in self.epilogue:
            for i in line.ins:
                yield from _views(i)

    def makes(self) -> Iterator[str]:
        yield self.out
        for line in self.epilogue:
            yield line.out

    def equations(self) -> Iterator[int]:
        yield self.equation
        for line in self.epilogue:
            yield line.equation


@dataclass
class Draw(Kernel):
    """Uniform random numbers."""

    out: str = ""
    key: View = None  # type: ignore[assignment]
    counter: View = None  # type: ignore[assignment]
    shape: Shape = ()
    batch: Batch | None = None
    dtype: str = "float32"
    equation: int = 0

    def reads(self) -> Iterator[View]:
        yield self.key
        yield self.counter

    def makes(self) -> Iterator[str]:
        yield self.out

    def equations(self) -> Iterator[int]:
        yield self.equation


@dataclass
class Pack(Kernel):
    """A matrix copied into panels of columns, as products read it: (panels, k, width)."""

    out: str = ""
    b: View = None  # type: ignore[assignment]
    equation: int = 0
    width: int = 0

    def reads(self) -> Iterator[View]:
        yield self.b

    def makes(self) -> Iterator[str]:
        yield self.out

    def equations(self) -> Iterator[int]:
        yield self.equation


@dataclass
class Stage:
    """Kernels in order: each for every tile, or each for the whole arrays."""

    level: int
    tiled: bool
    kernels: list[Kernel] = field(default_factory=list)
    final: bool = False  # what writes to parameters and state

    @property
    def name(self) -> str:
        return "updates" if self.final else f"{'tiles' if self.tiled else 'whole'} {self.level}"


@dataclass
class Item:
    """A kernel of one equation, before kernels are put together."""

    kernel: Kernel
    level: int
    tiled: bool
    needs: set[str]
    final: bool = False
