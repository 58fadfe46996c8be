"""Whether an engine computes what the eager step did, and if not, which equation is wrong."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from groundup.ops.base import Array, quiet
from groundup.ops.reduce import reduced_count
from groundup.program.program import Equation, Program
from groundup.program.runner import evaluate


def differences(name: str, pairs: Sequence[tuple[str, Array, Array]], program: Program) -> str:
    """How the engine's results differ from the eager ones by more than rounding; "" if they do not.

    Within 64 units in the last place of the largest entry, and four more times the square root of
    the longest sum: the rounding errors of a sum grow like a random walk.
    """
    units = 64 + 4 * math.sqrt(longest_sum(program))
    for what, eager, engine in pairs:
        if not _agree(eager, engine, units):
            return f"{name}'s {what} is not what the eager step computed: {_worst(eager, engine)}"
    return ""


def longest_sum(program: Program) -> int:
    """The most terms that an equation adds up."""
    return max((_terms(e, program) for e in program.equations), default=1)


def _terms(e: Equation, program: Program) -> int:
    shapes = [program.vars[i].shape if isinstance(i, str) else () for i in e.ins]
    if e.op == "matmul":
        return shapes[0][-1]
    if e.op in ("sum", "mean"):
        return max(reduced_count(shapes[0], dict(e.attrs)["axis"]), 1)
    if e.op in ("cumsum", "softmax", "log_softmax"):
        return int(shapes[0][dict(e.attrs)["axis"]])
    if e.op in ("scatter_add", "einsum"):
        return max(math.prod(s) for s in shapes)
    return 1


def _agree(eager: Array, engine: Array, units: float) -> bool:
    if eager.shape != engine.shape:
        return False
    if eager.dtype.kind != "f":
        return bool(np.array_equal(eager, engine))
    finite = np.abs(eager[np.isfinite(eager)])
    scale = float(finite.max()) if finite.size else 1.0
    tolerance = units * float(np.finfo(eager.dtype).eps)
    return bool(np.allclose(engine, eager, rtol=tolerance, atol=tolerance * scale, equal_nan=True))


def _worst(eager: Array, engine: Array) -> str:
    if eager.shape != engine.shape:
        return "shapes differ"
    gap = np.abs(np.asarray(eager, np.float64) - np.asarray(engine, np.float64))
    gap = np.where(np.isnan(gap), np.where(np.isnan(eager) & np.isnan(engine), 0.0, np.inf), gap)
    place = np.unravel_index(int(np.argmax(gap)), gap.shape) if gap.size else ()
    where = tuple(int(i) for i in place)
    return f"at {where} {engine[where]} instead of {eager[where]}"


def wrong_equation(
    program: Program, held: Mapping[str, Array], inputs: Sequence[Any], threads: int | None
) -> str:
    """The first equation that machine code computes wrongly from its own inputs; "" if none is.

    Rounding may be amplified (Adam's first step divides a gradient by its own size, be it nothing
    but rounding; a relu's mask flips where its input is nearly 0), so whole steps may differ though
    each equation is right. Here all values are outputs, and each equation is computed by NumPy from
    what the engine found for its inputs, within an error bound of its own.
    """
    from groundup.native.engine import Engine

    names = [e.out.name for e in program.equations if e.out is not None and not e.out.is_number]
    looked_at = replace(program, outputs=names, updates=())
    arrays = {name: array.copy() for name, array in held.items()}
    engine = Engine(looked_at, arrays, threads=threads)
    values: dict[str, Any] = {**arrays, **dict(zip(engine.names, inputs, strict=True))}
    values |= engine(inputs)
    with quiet():
        for e in program.equations:
            if e.out is None:
                continue
            wanted = evaluate(e, values)
            if e.out.is_number:
                values[e.out.name] = wanted
                continue
            found, wanted = values[e.out.name], np.asarray(wanted)
            if not _within(found, wanted, _bound(e, values, wanted)):
                where = f", of {e.module}" if e.module else ""
                ins = ", ".join(map(str, e.ins))
                return (
                    f"{program.name}: the native engine is wrong in {e.out.name} = {e.op}({ins})"
                    f"{where} ({e.phase}): {_worst(wanted, found)}. The step was not run; "
                    'engine="numpy" runs it'
                )
    return ""


def _within(found: Array, wanted: Array, bound: Any) -> bool:
    if found.shape != wanted.shape or found.dtype != wanted.dtype:
        return False
    if wanted.dtype.kind != "f":
        return bool(np.array_equal(found, wanted))
    near = np.abs(found - wanted) <= bound
    return bool((near | (found == wanted) | (np.isnan(found) & np.isnan(wanted))).all())


def _bound(e: Equation, values: Mapping[str, Any], wanted: Array) -> Any:
    """How far two ways to compute an equation in its dtype may be apart, entry by entry.

    A sum's rounding error is proportional to the sum of its terms' sizes (Higham, "Accuracy and
    Stability of Numerical Algorithms", 2002, chapter 4).
    """
    if wanted.dtype.kind != "f":
        return 0
    info = np.finfo(wanted.dtype)
    eps, tiny = float(info.eps), float(info.tiny)
    sizes = {
        i: np.abs(values[i]) if isinstance(values[i], np.ndarray) else abs(values[i])
        for i in e.names
        if getattr(values[i], "dtype", np.dtype(float)).kind in "fiu"
    }
    shapes = [np.shape(values[i]) for i in e.names]
    if e.op in ("matmul", "einsum"):  # a random walk of roundings
        count = shapes[0][-1] if e.op == "matmul" else max(map(math.prod, shapes), default=1)
        return (8 + 4 * math.sqrt(count)) * eps * evaluate(e, sizes) + tiny
    if e.op in ("sum", "mean", "cumsum", "scatter_add"):
        # NumPy may add one after another, and then all equal terms are rounded the same way.
        x, indices = e.names[0], {i: values[i] for i in e.names[1:]}
        counts: Any = math.prod(shapes[0]) // max(wanted.size, 1)
        if e.op in ("cumsum", "scatter_add"):
            counts = evaluate(e, {x: np.ones(shapes[0]), **indices})
        return (8 + counts / 2) * eps * evaluate(e, {**sizes, **indices}) + tiny
    if e.op in ("softmax", "log_softmax"):
        (x,) = sizes.values()
        spread = float(np.max(x[np.isfinite(x)], initial=1.0))
        return (32 + 4 * math.sqrt(x.shape[dict(e.attrs)["axis"]])) * eps * (
            np.abs(wanted) * (1 + spread)
        ) + tiny
    return 16 * eps * np.abs(wanted) + tiny
