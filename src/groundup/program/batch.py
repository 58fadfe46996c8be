"""Which lengths of a Program are the batch: shapes as text, with n in its place.

The Program was recorded for one batch size. It is put through its shape rules again with a length
that no real one is mistaken for; where that length comes out, the batch is.
"""

from __future__ import annotations

import math
from typing import Any

from groundup.errors import GroundupError
from groundup.ops.base import Shape
from groundup.program.program import OPS, Equation, Program, Var

# A prime, so that no product of other lengths has it as a factor.
_BATCH = 1_000_003


def symbolic_shapes(program: Program) -> tuple[dict[str, str], str]:
    """Every value's shape as text, and the argument of which n is the length ("" if none)."""
    arguments = [i.var for i in program.inputs_of("argument") if i.var.shape]
    if arguments and arguments[0].shape[0] > 1 and not program.fixed_batch:
        size = arguments[0].shape[0]
        shapes = _generalised(program, size, False) or _generalised(program, size, True)
        if shapes is not None:
            return {name: written(shape) for name, shape in shapes.items()}, arguments[0].name
    return {name: written(v.shape) for name, v in program.vars.items()}, ""


def written(shape: Shape) -> str:
    """A shape as text: (n, 50)."""
    texts = [_length(n) for n in shape]
    return f"({texts[0]},)" if len(texts) == 1 else f"({', '.join(texts)})"


def _length(n: int) -> str:
    times, rest = divmod(n, _BATCH)
    if not times:
        return str(n)
    return (f"{times} * n" if times > 1 else "n") + (f" + {rest}" if rest else "")


def _generalised(program: Program, size: int, multiples: bool) -> dict[str, Shape] | None:
    """Every value's shape for a batch of `_BATCH`; None if the Program works for one size only.

    With multiples, a constant whose first length is a multiple of the size is as many batches.
    """

    def wide(shape: Shape) -> Shape:
        return (_BATCH, *shape[1:]) if shape and shape[0] == size else shape

    known = {i.var.name: wide(i.var.shape) if i.role == "argument" else i.var.shape
             for i in program.inputs}  # fmt: skip
    for e in program.equations:
        if e.out is None:
            continue
        if e.out.is_number:
            known[e.out.name] = ()
            continue
        op, attrs = OPS[e.op], dict(e.attrs)
        ins = [known[i] if isinstance(i, str) else () for i in e.ins]
        if "shape" in attrs and e.op != "arange":
            found = _wider_attribute(e, ins, attrs["shape"], size, multiples)
            if found is None:
                return None
            attrs["shape"] = found
        try:
            made = op.shape(*ins, **attrs)
        except (GroundupError, ValueError, IndexError):
            return None
        if not _is_wider(made, e.out, size):
            return None
        known[e.out.name] = made
    for target, new in program.updates:
        if known[target] != known[new]:
            return None
    return known


def _is_wider(shape: Shape, out: Var, size: int) -> bool:
    """Whether a shape is the recorded one, with the batch where it has multiples of it."""
    return len(shape) == len(out.shape) and all(
        n == m or (n >= _BATCH and n // _BATCH * size + n % _BATCH == m)
        for n, m in zip(shape, out.shape, strict=True)
    )


def _wider_attribute(
    e: Equation, ins: list[Shape], shape: Shape, size: int, multiples: bool
) -> Shape | None:
    """A shape that an equation asks for, for the wider batch."""
    if e.op == "reshape":
        entries = math.prod(ins[0])
        candidates = [shape] + [
            (*shape[:i], n // size * _BATCH, *shape[i + 1 :])
            for i, n in enumerate(shape)
            if n and n % size == 0
        ]
        return next((c for c in candidates if math.prod(c) == entries), None)
    if e.op == "expand":
        own: Any = (1,) * (len(shape) - len(ins[0])) + ins[0]
        return tuple(
            o if o != 1 else _wider(n, size, multiples) if i == 0 else n
            for i, (o, n) in enumerate(zip(own, shape, strict=True))
        )
    return (_wider(shape[0], size, multiples), *shape[1:]) if shape else shape


def _wider(n: int, size: int, multiples: bool) -> int:
    """A first length for the wider batch."""
    return n // size * _BATCH if n == size or (multiples and n % size == 0) else n
