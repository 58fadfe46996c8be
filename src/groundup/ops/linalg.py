"""Matrix products and einsum."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from groundup.errors import ShapeError
from groundup.ops.base import Array, Op, Shape
from groundup.ops.shape import expand
from groundup.ops.text import PRODUCT, Text, call, infix, method

if TYPE_CHECKING:
    from groundup.tensor import Tensor


class Matmul(Op):
    """x @ y with NumPy's rules: matrices in the last two axes, batch axes broadcast, vectors.

    d/dx = out.g @ y.T and d/dy = x.T @ out.g.
    """

    def forward(self, x: Array, y: Array) -> Array:
        if x.ndim > 2 and y.ndim == 2 and x.shape[-1] == y.shape[0]:  # one product, not a loop
            rows = math.prod(x.shape[:-1])
            return (x.reshape(rows, x.shape[-1]) @ y).reshape(*x.shape[:-1], y.shape[1])
        try:
            product: Array = x @ y
        except ValueError as error:
            raise ShapeError(f"matmul of {x.shape} and {y.shape}: {_misfit(x, y)}") from error
        return product

    def bwd(self, out: Tensor, x: Tensor, y: Tensor) -> None:
        g = out.g
        if x.ndim == 2 and y.ndim == 2:
            if x.requires_grad:
                x.g = g @ y.T
            if y.requires_grad:
                y.g = x.T @ g
            return
        # A vector is a matrix of one row (left) or one column (right).
        left = x.unsqueeze(0) if x.ndim == 1 else x
        right = y.unsqueeze(1) if y.ndim == 1 else y
        if x.ndim == 1:
            g = g.unsqueeze(g.ndim if y.ndim == 1 else -2)
        if y.ndim == 1:
            g = g.unsqueeze(-1)
        if x.requires_grad:
            x.g = g @ right.mT
        if y.requires_grad:
            if right.ndim == 2 and left.ndim > 2:
                # Rows of all batches in one product: no (batch, in, out) array to sum over.
                rows = math.prod(left.shape[:-1])
                dy = left.reshape(rows, left.shape[-1]).T @ g.reshape(rows, g.shape[-1])
            else:
                dy = left.mT @ g
            y.g = dy.squeeze(-1) if y.ndim == 1 else dy

    def shape(self, *shapes: Shape, **attrs: Any) -> Shape:
        x, y = shapes
        if not x or not y or x[-1] != y[max(len(y) - 2, 0)]:
            raise ShapeError(f"matmul of {x} and {y}")
        batch = np.broadcast_shapes(x[:-2], y[:-2])
        return (*batch, *x[-2:-1], *(y[-1:] if len(y) > 1 else ()))

    def flops(self, out: Shape, *shapes: Shape, **attrs: Any) -> int:
        return 2 * math.prod(out) * shapes[0][-1]

    def text(self, *ins: Text, out: str, shapes: Sequence[Shape], **attrs: Any) -> Text:
        x, y = ins
        # As forward does; rows without entries cannot be counted by reshape(-1, 0).
        if len(shapes[0]) > 2 and len(shapes[1]) == 2 and shapes[0][-1]:
            rows = method(x, "reshape", "-1", str(shapes[0][-1]))
            product = infix(rows, "@", y, PRODUCT)
            return method(product, "reshape", out.strip("()"))
        return infix(x, "@", y, PRODUCT)


def _misfit(x: Array, y: Array) -> str:
    """Why two shapes cannot be multiplied."""
    if not x.ndim or not y.ndim:
        return "a single number has no rows and columns: multiply with *"
    rows = y.shape[-2] if y.ndim > 1 else y.shape[0]
    if x.shape[-1] != rows:
        return (
            f"the left one's rows have {x.shape[-1]} entries, the right one's columns {rows}; "
            "is a transpose (.T) missing?"
        )
    return f"their batch axes {x.shape[:-2]} and {y.shape[:-2]} do not broadcast"


class Einsum(Op):
    """Sums of products named by letters: `einsum("bij,bjk->bik", x, y)`.

    Letters, "..." for broadcast axes, and repeated letters (diagonals). The gradient of one
    operand is an einsum of the output's with the others.
    """

    def forward(self, *xs: Array, subscripts: str) -> Array:
        return np.asarray(np.einsum(subscripts, *xs, optimize=len(xs) > 1))

    def bwd(self, out: Tensor, *xs: Tensor, subscripts: str) -> None:
        terms, result = explicit_subscripts(subscripts, [x.ndim for x in xs])
        size = {
            letter: n
            for term, x in zip(terms, xs, strict=True)
            for letter, n in zip(term, x.shape, strict=True)
            if n != 1
        }
        for i, (x, term) in enumerate(zip(xs, terms, strict=True)):
            if not x.requires_grad:
                continue
            others = [(t, o) for j, (t, o) in enumerate(zip(terms, xs, strict=True)) if j != i]
            # Letters that only x has were summed away: every entry along them gets the same.
            known = set(result).union(*(t for t, _ in others))
            wanted = "".join(dict.fromkeys(term))
            found = "".join(letter for letter in wanted if letter in known)
            pattern = ",".join([result, *(t for t, _ in others)]) + "->" + found
            g = einsum(out.g, *(o for _, o in others), subscripts=pattern)
            for axis, letter in enumerate(wanted):
                if letter not in known:
                    g = g.unsqueeze(axis)
            g = expand(g, shape=tuple(size.get(letter, 1) for letter in wanted))
            if wanted != term:
                # A repeated letter read the diagonal: write the diagonal, zeros elsewhere.
                for axis, letter in enumerate(term):
                    if letter in term[:axis]:
                        first = term.index(letter)
                        n = size.get(letter, 1)
                        eye = np.eye(n, dtype=x.dtype).reshape(
                            [n if k in (first, axis) else 1 for k in range(axis + 1)]
                            + [1] * (g.ndim - axis)
                        )
                        g = g.unsqueeze(axis) * eye
            x.g = g

    def shape(self, *shapes: Shape, **attrs: Any) -> Shape:
        terms, result = explicit_subscripts(attrs["subscripts"], [len(s) for s in shapes])
        size: dict[str, int] = {}
        for term, shape in zip(terms, shapes, strict=True):
            if len(set(zip(term, shape, strict=True))) > len(set(term)):
                raise ShapeError(f"einsum {attrs['subscripts']!r}: {shape} has no such diagonal")
            for letter, n in zip(term, shape, strict=True):
                if size.setdefault(letter, n) != n and 1 not in (n, size[letter]):
                    raise ShapeError(
                        f"einsum {attrs['subscripts']!r}: {letter} is {size[letter]} and {n}"
                    )
                size[letter] = max(size[letter], n) if n else 0
        return tuple(size[letter] for letter in result)

    def flops(self, out: Shape, *shapes: Shape, **attrs: Any) -> int:
        terms, _ = explicit_subscripts(attrs["subscripts"], [len(s) for s in shapes])
        size = {c: n for t, s in zip(terms, shapes, strict=True) for c, n in zip(t, s, strict=True)}
        return max(len(shapes), 1) * math.prod(size.values())

    def text(self, *ins: Text, subscripts: str, **attrs: Any) -> Text:  # type: ignore[override]
        optimize = True if len(ins) > 1 else None
        return call("np.einsum", repr(subscripts), *(x.code for x in ins), optimize=optimize)


def explicit_subscripts(subscripts: str, ndims: list[int]) -> tuple[list[str], str]:
    """Einsum's terms and result with "..." written out in capitals that nothing else uses."""
    given = subscripts.replace(" ", "")
    left, arrow, result = given.partition("->")
    terms = left.split(",")
    if len(terms) != len(ndims):
        raise ShapeError(f"einsum {subscripts!r} names {len(terms)} operands, {len(ndims)} came")
    if not arrow:
        letters = left.replace(",", "").replace(".", "")
        single = sorted(letter for letter in set(letters) if letters.count(letter) == 1)
        result = ("..." if "..." in left else "") + "".join(single)
    spare = [c for c in "ABCDEFGHIJKLMNOPQRSTUVWXYZ" if c not in given]
    widest = max(n - len(t) + 3 if "..." in t else 0 for t, n in zip(terms, ndims, strict=True))
    dots = spare[:widest]

    def written(term: str, ndim: int) -> str:
        extra = ndim - len(term) + 3
        return term.replace("...", "".join(dots[len(dots) - extra :])) if "..." in term else term

    return (
        [written(t, n) for t, n in zip(terms, ndims, strict=True)],
        result.replace("...", "".join(dots)),
    )


matmul, einsum = Matmul(), Einsum()
