"""Indexing: slices, which are fixed when the program is written, and index arrays, which are data.

An index such as `x[1:, labels, None]` is kept as a pattern, a tuple in which `ARRAY` stands
where an index array goes; the arrays themselves are inputs of the op.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from groundup.errors import DtypeError, ShapeError
from groundup.ops import helpers
from groundup.ops.base import Array, Number, Op, Shape, state
from groundup.ops.text import ATOM, Text, call, index as index_text

if TYPE_CHECKING:
    from groundup.tensor import Tensor

Pattern: TypeAlias = tuple[Any, ...]

ARRAY = "array"


def filled(pattern: Pattern, indices: Sequence[Array]) -> tuple[Any, ...]:
    """The NumPy index: the arrays put where the pattern says."""
    arrays = iter(indices)
    return tuple(next(arrays) if isinstance(part, str) else part for part in pattern)


def split_index(index: Any, shape: tuple[int, ...]) -> tuple[Pattern, list[Any]]:
    """An index into an array of a shape as its pattern and the index arrays that go into it.

    A boolean mask becomes the index arrays of its true entries.
    """
    parts = index if isinstance(index, tuple) else (index,)
    pattern: list[Any] = []
    arrays: list[Any] = []
    axis = 0  # the axis of the array that the next part is about
    for part in parts:
        if isinstance(part, list | range):
            part = np.asarray(part)
        if isinstance(part, slice):
            bounds = (part.start, part.stop, part.step)
            if any(isinstance(b, Number) for b in bounds):
                fixed_size()
            pattern.append(slice(*[b if b is None else operator.index(b) for b in bounds]))
        elif part is None:
            pattern.append(part)
        elif part is Ellipsis:
            pattern.append(part)
            axis += len(shape) - sum([_axes_used(p) for p in parts])
        elif isinstance(part, Number):
            fixed_size()
            pattern.append(operator.index(part))
        elif isinstance(part, int | np.integer) and not isinstance(part, bool):
            pattern.append(int(part))
        elif _is_mask(part):
            uses = part.ndim
            if part.shape != shape[axis : axis + uses]:
                raise ShapeError(
                    f"a boolean index of shape {part.shape} does not fit shape {shape} "
                    f"at axis {axis}"
                )
            if state.recorder is not None:
                state.recorder.mask_read(part)
            pattern.extend([ARRAY] * uses)
            arrays.extend(np.nonzero(np.asarray(part)))
        elif getattr(part, "dtype", _NO_DTYPE).kind in "iu":
            pattern.append(ARRAY)
            arrays.append(part)
        elif getattr(part, "size", 1) == 0:  # an empty list has NumPy's default dtype
            pattern.append(ARRAY)
            arrays.append(np.asarray(part, dtype=np.int64))
        else:
            raise DtypeError(
                "an index is made of integers, slices, None, ..., and integer or boolean "
                f"arrays; {part!r:.60} is none of them"
            )
        axis += _axes_used(part)
    return tuple(pattern), arrays


_NO_DTYPE = np.dtype(object)


def fixed_size() -> None:
    """Note that a recorded step has the size of its batch in an index, for good."""
    if state.recorder is not None:
        state.recorder.fixed_batch = True


def _axes_used(part: Any) -> int:
    """How many axes of the indexed array a part of the index is about (besides Ellipsis)."""
    if part is None or part is Ellipsis:
        return 0
    return part.ndim if _is_mask(part) else 1


def _is_mask(part: Any) -> bool:
    return getattr(part, "dtype", None) == np.bool_ and part.ndim > 0


def along_axis(shape: tuple[int, ...], indices: Any, axis: int) -> list[Any]:
    """The index arrays of every axis that pick `indices` along one and stay put on the others."""
    grids: list[Any] = []
    if indices.ndim != len(shape):
        raise ShapeError(f"take_along_axis: x has shape {shape}, the indices {indices.shape}")
    for i, n in enumerate(indices.shape):
        if i != axis and shape[i] != n:
            raise ShapeError(
                f"take_along_axis: x has shape {shape}, the indices {indices.shape}; they may "
                f"differ along axis {axis} only"
            )
        own = np.arange(n).reshape((n,) + (1,) * (len(shape) - i - 1))
        grids.append(indices if i == axis else own)
    return grids


def indexed_shape(shape: Shape, pattern: Pattern, arrays: Sequence[Shape]) -> Shape:
    """The shape of x[index], without x: NumPy is asked about an array that takes no memory."""
    trial = np.broadcast_to(np.zeros((), bool), shape)
    try:
        return trial[filled(pattern, [np.zeros(a, np.intp) for a in arrays])].shape  # type: ignore[no-any-return]
    except (IndexError, ValueError) as error:
        raise ShapeError(f"index {pattern} of shape {shape}: {error}") from error


def written_index(pattern: Pattern, arrays: Sequence[Text]) -> str:
    """An index as an argument: `np.s_[:, 2:4]`, or the index array itself."""
    if pattern == (ARRAY,):
        return arrays[0].code
    return f"np.s_[{index_text(pattern, [a.code for a in arrays])}]"


def indexed_dtype(x: Any, *indices: Any) -> np.dtype[Any]:
    """The dtype of x[indices], all given as dtype and ndim."""
    for dtype, _ in indices:
        if dtype.kind not in "iu":
            raise DtypeError(f"an index array is of integers, not {dtype}")
    return x[0]  # type: ignore[no-any-return]


class Slice(Op):
    """x[index] for ints, slices, None and Ellipsis (a view)."""

    is_view = True

    def forward(self, x: Array, *, index: Pattern) -> Array:
        return np.asarray(x[index])

    def bwd(self, out: Tensor, x: Tensor, *, index: Pattern) -> None:
        x.g = unslice(out.g, index=index, shape=x.shape)

    def shape(self, *shapes: Shape, **attrs: Any) -> Shape:
        return indexed_shape(shapes[0], attrs["index"], ())

    def dtype(self, *given: Any, **attrs: Any) -> np.dtype[Any]:
        return given[0][0]  # type: ignore[no-any-return]

    def text(self, *ins: Text, index: Pattern, **attrs: Any) -> Text:  # type: ignore[override]
        return Text(f"{ins[0].within(ATOM)}[{index_text(index)}]", ATOM)


class Unslice(Op):
    """Zeros of a shape with x written at index: a slice's gradient."""

    helper = staticmethod(helpers.unslice)

    def forward(self, x: Array, *, index: Pattern, shape: tuple[int, ...]) -> Array:
        return helpers.unslice(x, index, shape)

    def bwd(self, out: Tensor, x: Tensor, *, index: Pattern, shape: tuple[int, ...]) -> None:
        x.g = out.g[index]

    def shape(self, *shapes: Shape, **attrs: Any) -> Shape:
        shape: Shape = attrs["shape"]
        if indexed_shape(shape, attrs["index"], ()) != shapes[0]:
            raise ShapeError(f"unslice: {shapes[0]} is no slice {attrs['index']} of {shape}")
        return shape

    def dtype(self, *given: Any, **attrs: Any) -> np.dtype[Any]:
        return given[0][0]  # type: ignore[no-any-return]

    def flops(self, out: Shape, *shapes: Shape, **attrs: Any) -> int:
        return 0

    def text(self, *ins: Text, out: str, index: Pattern, **attrs: Any) -> Text:  # type: ignore[override]
        return call("unslice", ins[0].code, written_index(index, ()), out)


class Take(Op):
    """x[pattern with index arrays]. An entry taken twice gets both gradients."""

    def forward(self, x: Array, *indices: Array, pattern: Pattern) -> Array:
        return np.asarray(x[filled(pattern, indices)])

    def bwd(self, out: Tensor, x: Tensor, *indices: Tensor, pattern: Pattern) -> None:
        x.g = scatter_add(out.g, *indices, pattern=pattern, shape=x.shape)

    def shape(self, *shapes: Shape, **attrs: Any) -> Shape:
        return indexed_shape(shapes[0], attrs["pattern"], shapes[1:])

    def dtype(self, *given: Any, **attrs: Any) -> np.dtype[Any]:
        return indexed_dtype(*given)

    def flops(self, out: Shape, *shapes: Shape, **attrs: Any) -> int:
        return 0

    def text(self, *ins: Text, pattern: Pattern, **attrs: Any) -> Text:  # type: ignore[override]
        inside = index_text(pattern, [i.code for i in ins[1:]])
        return Text(f"{ins[0].within(ATOM)}[{inside}]", ATOM)


class ScatterAdd(Op):
    """Zeros of a shape with x added at the indexed places; repeated indices add up."""

    helper = staticmethod(helpers.scatter_add)

    def forward(self, x: Array, *indices: Array, pattern: Pattern, shape: tuple[int, ...]) -> Array:
        return helpers.scatter_add(x, filled(pattern, indices), shape)

    def bwd(
        self,
        out: Tensor,
        x: Tensor,
        *indices: Tensor,
        pattern: Pattern,
        shape: tuple[int, ...],
    ) -> None:
        x.g = take(out.g, *indices, pattern=pattern)

    def shape(self, *shapes: Shape, **attrs: Any) -> Shape:
        shape: Shape = attrs["shape"]
        taken = indexed_shape(shape, attrs["pattern"], shapes[1:])
        if np.broadcast_shapes(shapes[0], taken) != taken:
            raise ShapeError(f"scatter_add: {shapes[0]} does not fit {taken}, part of {shape}")
        return shape

    def dtype(self, *given: Any, **attrs: Any) -> np.dtype[Any]:
        return indexed_dtype(*given)

    def flops(self, out: Shape, *shapes: Shape, **attrs: Any) -> int:
        return math.prod(shapes[0])

    def text(self, *ins: Text, out: str, pattern: Pattern, **attrs: Any) -> Text:  # type: ignore[override]
        return call("scatter_add", ins[0].code, written_index(pattern, ins[1:]), out)


slice_, unslice, take, scatter_add = Slice(), Unslice(), Take(), ScatterAdd()
