"""Shape ops: the same entries, arranged differently."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from groundup.errors import ShapeError
from groundup.ops.base import Array, Op, Shape
from groundup.ops.reduce import axes_of
from groundup.ops.text import ATOM, Text, call, method, value as constant

if TYPE_CHECKING:
    from groundup.tensor import Tensor


class Rearrangement(Op):
    """The same entries, of the same dtype."""

    def dtype(self, *given: Any, **attrs: Any) -> np.dtype[Any]:
        return given[0][0]  # type: ignore[no-any-return]


class Reshape(Rearrangement):
    is_view = True

    def forward(self, x: Array, *, shape: tuple[int, ...]) -> Array:
        return x.reshape(shape)

    def bwd(self, out: Tensor, x: Tensor, *, shape: tuple[int, ...]) -> None:
        x.g = out.g.reshape(x.shape)

    def shape(self, *shapes: Shape, **attrs: Any) -> Shape:
        shape: Shape = attrs["shape"]
        if math.prod(shape) != math.prod(shapes[0]) or min(shape, default=0) < 0:
            raise ShapeError(f"reshape: {shapes[0]} does not fit into {shape}")
        return shape

    def text(  # type: ignore[override]
        self, *ins: Text, out: str, shape: Shape, shapes: Sequence[Shape], **attrs: Any
    ) -> Text:
        added = [i for i in range(len(shape)) if shape[:i] + shape[i + 1 :] == shapes[0]]
        if added and shape[added[-1]] == 1:  # a new axis: x[:, None]
            index = ", ".join([":"] * added[-1] + ["None"])
            return Text(f"{ins[0].within(ATOM)}[{index}]", ATOM)
        return method(ins[0], "reshape", out.strip("(,)") if out != "()" else "()")


class Transpose(Rearrangement):
    """The axes in another order: output axis i is input axis axes[i]."""

    is_view = True

    def forward(self, x: Array, *, axes: tuple[int, ...]) -> Array:
        return x.transpose(axes)

    def bwd(self, out: Tensor, x: Tensor, *, axes: tuple[int, ...]) -> None:
        inverse = [0] * len(axes)
        for i, axis in enumerate(axes):
            inverse[axis] = i
        x.g = out.g.permute(*inverse)

    def shape(self, *shapes: Shape, **attrs: Any) -> Shape:
        axes: tuple[int, ...] = attrs["axes"]
        if sorted(axes) != list(range(len(shapes[0]))):
            raise ShapeError(f"transpose: {axes} are not the axes of {shapes[0]}, each once")
        return tuple(shapes[0][a] for a in axes)

    def text(self, *ins: Text, axes: tuple[int, ...], **attrs: Any) -> Text:  # type: ignore[override]
        if axes == tuple(range(len(axes)))[::-1]:
            return Text(f"{ins[0].within(ATOM)}.T", ATOM)
        return method(ins[0], "transpose", *map(str, axes))


class Expand(Rearrangement):
    """x broadcast to a shape (a read-only view). The engine sums the gradient back."""

    is_view = True

    def forward(self, x: Array, *, shape: tuple[int, ...]) -> Array:
        return np.broadcast_to(x, shape)

    def bwd(self, out: Tensor, x: Tensor, *, shape: tuple[int, ...]) -> None:
        x.g = out.g

    def shape(self, *shapes: Shape, **attrs: Any) -> Shape:
        shape: Shape = attrs["shape"]
        if np.broadcast_shapes(shapes[0], shape) != shape:
            raise ShapeError(f"expand: {shapes[0]} does not broadcast to {shape}")
        return shape

    def text(self, *ins: Text, out: str, **attrs: Any) -> Text:
        return call("np.broadcast_to", ins[0].code, out)


class Concatenate(Op):
    """Tensors one after another along an existing axis."""

    def forward(self, *xs: Array, axis: int) -> Array:
        return np.concatenate(xs, axis=axis)

    def bwd(self, out: Tensor, *xs: Tensor, axis: int) -> None:
        start = 0
        for x in xs:
            stop = start + x.shape[axis]
            index = [slice(None)] * x.ndim
            index[axis] = slice(start, stop)
            x.g = out.g[tuple(index)]
            start = stop

    def shape(self, *shapes: Shape, **attrs: Any) -> Shape:
        (axis,) = axes_of(attrs["axis"], len(shapes[0]))
        if len({s[:axis] + s[axis + 1 :] for s in shapes}) > 1:
            raise ShapeError(f"concatenate: shapes {shapes} differ beyond axis {axis}")
        return (*shapes[0][:axis], sum(s[axis] for s in shapes), *shapes[0][axis + 1 :])

    def flops(self, out: Shape, *shapes: Shape, **attrs: Any) -> int:
        return 0

    def text(self, *ins: Text, axis: int, **attrs: Any) -> Text:  # type: ignore[override]
        return call("np.concatenate", f"[{', '.join(x.code for x in ins)}]", axis=axis)


class Pad(Rearrangement):
    """A constant border: widths is ((before, after), ...) for every axis."""

    def forward(self, x: Array, *, widths: tuple[tuple[int, int], ...], value: float) -> Array:
        return np.pad(x, widths, constant_values=value)

    def bwd(
        self, out: Tensor, x: Tensor, *, widths: tuple[tuple[int, int], ...], value: float
    ) -> None:
        # Counted from the end where there is a border, so that no length is in the index.
        x.g = out.g[tuple(slice(a or None, -b if b else None) for a, b in widths)]

    def shape(self, *shapes: Shape, **attrs: Any) -> Shape:
        fits = len(attrs["widths"]) == len(shapes[0]) > 0
        if not fits or np.min(attrs["widths"]) < 0:
            raise ShapeError(f"pad: widths {attrs['widths']} do not fit shape {shapes[0]}")
        sides = zip(attrs["widths"], shapes[0], strict=True)
        return tuple(before + n + after for (before, after), n in sides)

    def flops(self, out: Shape, *shapes: Shape, **attrs: Any) -> int:
        return 0

    def text(self, *ins: Text, widths: Any, value: float, **attrs: Any) -> Text:  # type: ignore[override]
        return call("np.pad", ins[0].code, constant(widths), constant_values=value)


reshape, transpose, expand, concatenate, pad = (
    Reshape(),
    Transpose(),
    Expand(),
    Concatenate(),
    Pad(),
)
