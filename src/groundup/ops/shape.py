"""Shape ops: the same entries, arranged differently."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from groundup.ops.base import Array, Op

if TYPE_CHECKING:
    from groundup.tensor import Tensor


class Reshape(Op):
    def forward(self, x: Array, *, shape: tuple[int, ...]) -> Array:
        return x.reshape(shape)

    def bwd(self, out: Tensor, x: Tensor, *, shape: tuple[int, ...]) -> None:
        x.g = out.g.reshape(x.shape)


class Transpose(Op):
    """The axes in another order: output axis i is input axis axes[i]."""

    def forward(self, x: Array, *, axes: tuple[int, ...]) -> Array:
        return x.transpose(axes)

    def bwd(self, out: Tensor, x: Tensor, *, axes: tuple[int, ...]) -> None:
        inverse = [0] * len(axes)
        for i, axis in enumerate(axes):
            inverse[axis] = i
        x.g = out.g.permute(*inverse)


class Expand(Op):
    """x broadcast to a shape (a read-only view). The engine sums the gradient back."""

    def forward(self, x: Array, *, shape: tuple[int, ...]) -> Array:
        return np.broadcast_to(x, shape)

    def bwd(self, out: Tensor, x: Tensor, *, shape: tuple[int, ...]) -> None:
        x.g = out.g


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


class Pad(Op):
    """A constant border: widths is ((before, after), ...) for every axis."""

    def forward(self, x: Array, *, widths: tuple[tuple[int, int], ...], value: float) -> Array:
        return np.pad(x, widths, constant_values=value)

    def bwd(
        self, out: Tensor, x: Tensor, *, widths: tuple[tuple[int, int], ...], value: float
    ) -> None:
        sides = zip(widths, x.shape, strict=True)
        x.g = out.g[tuple(slice(before, before + n) for (before, _), n in sides)]


reshape, transpose, expand, concatenate, pad = (
    Reshape(),
    Transpose(),
    Expand(),
    Concatenate(),
    Pad(),
)
