"""Arrays from nothing, and numbers from shapes."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from groundup.errors import ShapeError
from groundup.ops.base import Array, Axis, Op, Shape
from groundup.ops.reduce import reduced_axes, reduced_count
from groundup.ops.text import ATOM, PRODUCT, Text, call, infix, value as written


def lengths(name: str, shape: Shape) -> Shape:
    """A shape that is asked for; no length is negative."""
    if min(shape, default=0) < 0:
        raise ShapeError(f"{name}: the shape {shape} has a negative length")
    return shape


class Full(Op):
    """A number in every entry."""

    differentiable = False
    chooses_dtype = True

    def forward(self, *, shape: Shape, value: float, dtype: Any) -> Array:
        return np.full(shape, value, dtype)

    def shape(self, *shapes: Shape, **attrs: Any) -> Shape:
        return lengths(self.name, attrs["shape"])

    def dtype(self, *given: Any, **attrs: Any) -> np.dtype[Any]:
        return np.dtype(attrs["dtype"])  # type: ignore[no-any-return]

    def flops(self, out: Shape, *shapes: Shape, **attrs: Any) -> int:
        return 0

    def text(self, *ins: Text, out: str, value: float, dtype: Any, **attrs: Any) -> Text:  # type: ignore[override]
        dtype = np.dtype(dtype)
        if out == "()":
            return call("np.bool_" if dtype == np.bool_ else written(dtype), written(value))
        if value in (0, 1) and math.copysign(1, value) > 0:  # -0.0 is no np.zeros
            return call("np.ones" if value else "np.zeros", out, written(dtype))
        return call("np.full", out, written(value), written(dtype))


class ArrayOf(Op):
    """An array of given entries, nested tuples."""

    name = "array"
    differentiable = False
    chooses_dtype = True

    def forward(self, *, entries: Any, dtype: Any) -> Array:
        return np.array(entries, dtype)

    def shape(self, *shapes: Shape, **attrs: Any) -> Shape:
        return np.array(attrs["entries"]).shape

    def dtype(self, *given: Any, **attrs: Any) -> np.dtype[Any]:
        return np.dtype(attrs["dtype"])  # type: ignore[no-any-return]

    def flops(self, out: Shape, *shapes: Shape, **attrs: Any) -> int:
        return 0

    def text(self, *ins: Text, entries: Any, dtype: Any, **attrs: Any) -> Text:  # type: ignore[override]
        nested = _listed(entries)
        plain = dtype in (np.int64, np.bool_) and entries  # NumPy's own choice for these entries
        return call("np.array", nested, *([] if plain else [written(np.dtype(dtype))]))


def _listed(entries: Any) -> str:
    if isinstance(entries, tuple):
        return f"[{', '.join(map(_listed, entries))}]"
    return written(entries)


class Arange(Op):
    """0, 1, ... (int64): as many as shape says, or as an array has rows."""

    differentiable = False

    def forward(self, *like: Array, shape: Shape | None = None) -> Array:
        return np.arange(len(like[0]) if shape is None else shape[0])

    def shape(self, *shapes: Shape, **attrs: Any) -> Shape:
        shape = lengths(self.name, attrs["shape"] if "shape" in attrs else shapes[0])
        if not shape:
            raise ShapeError(f"{self.name}: a single number has no rows")
        return shape[:1]

    def dtype(self, *given: Any, **attrs: Any) -> np.dtype[Any]:
        return np.dtype(np.int64)

    def flops(self, out: Shape, *shapes: Shape, **attrs: Any) -> int:
        return 0

    def text(self, *ins: Text, out: str, **attrs: Any) -> Text:
        return call("np.arange", out.strip("(,)"))


class Size(Op):
    """The number of entries along axes: a Python number, in a Program a value of its own."""

    differentiable = False

    def forward(self, x: Array, *, axis: Axis) -> int:
        return reduced_count(x.shape, axis)

    def shape(self, *shapes: Shape, **attrs: Any) -> Shape:
        return ()

    def flops(self, out: Shape, *shapes: Shape, **attrs: Any) -> int:
        return 0

    def text(self, *ins: Text, axis: Axis, shapes: Any, **attrs: Any) -> Text:  # type: ignore[override]
        (x,) = ins
        axes = reduced_axes(axis, len(shapes[0]))
        if len(axes) == len(shapes[0]) and len(axes) != 1:
            return Text(f"{x.within(ATOM)}.size", ATOM)
        if axes == (0,):
            return call("len", x.code)
        lengths = [Text(f"{x.within(ATOM)}.shape[{a}]", ATOM) for a in axes]
        product = lengths[0] if lengths else Text("1", ATOM)
        for length in lengths[1:]:
            product = infix(product, "*", length, PRODUCT)
        return product


class Value(Op):
    """The only entry of an integer array as a Python number: what a step counter is read with."""

    differentiable = False

    def forward(self, x: Array) -> int:
        return int(x)

    def shape(self, *shapes: Shape, **attrs: Any) -> Shape:
        return ()

    def flops(self, out: Shape, *shapes: Shape, **attrs: Any) -> int:
        return 0

    def text(self, *ins: Text, **attrs: Any) -> Text:
        return call("int", ins[0].code)


full, array_, arange, size, value = Full(), ArrayOf(), Arange(), Size(), Value()
