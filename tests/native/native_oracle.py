"""NumPy as the oracle of the native engine: every equation, on the engine's own values of its ins.

Rounding noise that a step amplifies (Adam divides a gradient that is 0 in exact arithmetic by its
size) says nothing about an engine, and a tolerance wide enough for it would let wrong numbers pass.
So each equation is judged alone: all intermediate values are made outputs of the Program, NumPy
computes every equation from the engine's values of what it reads, and the bound is that op's own.
What is fused only where values are not returned is then compared with those values.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from programs import Recorded
from steps import Step

from groundup import Tensor
from groundup.native import assemble
from groundup.native.engine import Engine
from groundup.native.llvm import Target
from groundup.ops.base import quiet
from groundup.program.passes import simplify
from groundup.program.program import OPS, Equation, Program, Var
from groundup.program.recording import record_step
from groundup.program.runner import evaluate
from groundup.program.sources import FromArgument, FromCount, FromSetting, FromTensor

Values = Mapping[str, Any]


@dataclass
class Given:
    """A Program and what it runs on.

    Attributes:
        program: simplified.
        held: the arrays of parameters, state and what else is held, by name.
        calls: for each call the arguments and settings, in the Program's order.

    """

    program: Program
    held: dict[str, Any]
    calls: list[list[Any]]


def given_by(recorded: Recorded) -> Given:
    """What one recorded call started from."""
    program = simplify(recorded.program)
    for i in program.inputs:
        found = np.shape(recorded.start[i.var.name])
        assert found == i.var.shape, f"{i.var} was recorded, but its array is {found}"
    called = [i.var.name for i in program.inputs_of("argument", "setting")]
    held = {i.var.name: recorded.start[i.var.name] for i in program.inputs}
    return Given(
        program,
        {k: np.array(v) for k, v in held.items() if k not in called},
        [[held[name] for name in called]],
    )


def given_by_step(step: Step) -> Given:
    """A step's Program, its state before the first call, and its batches."""
    recording = record_step(step.function, tuple(_tensors(b) for b in step.batches[0]), {})
    recording.undo()
    program = simplify(recording.program)
    held: dict[str, Any] = {}
    for i in program.inputs:
        source = recording.sources[i.var.name]
        if isinstance(source, FromTensor):
            held[i.var.name] = recording.constants.get(i.var.name, source.array).copy()
        elif isinstance(source, FromCount):
            held[i.var.name] = source.array.copy()
    calls = []
    for batch in step.batches:
        leaves = list(_leaves(batch))
        calls.append([])
        for i in program.inputs_of("argument", "setting"):
            source = recording.sources[i.var.name]
            assert isinstance(source, FromArgument | FromSetting)
            calls[-1].append(
                leaves[source.index] if isinstance(source, FromArgument) else source.now()
            )
    return Given(program, held, calls)


def _tensors(value: Any) -> Any:
    """Arrays among a step's arguments as Tensors."""
    if isinstance(value, np.ndarray):
        return Tensor(value)
    if isinstance(value, dict):
        return {k: _tensors(v) for k, v in value.items()}
    return type(value)(map(_tensors, value)) if isinstance(value, tuple | list) else value


def _leaves(value: Any) -> Iterator[Any]:
    """Arrays and numbers among a step's arguments, in the recorder's order."""
    if isinstance(value, dict):
        value = tuple(value.values())
    if isinstance(value, tuple | list):
        for part in value:
            yield from _leaves(part)
    elif isinstance(value, Tensor | np.ndarray):
        yield Tensor(value).array if isinstance(value, np.ndarray) else value.array
    elif isinstance(value, float):
        yield value


# Programs in other forms


def with_all_outputs(program: Program) -> Program:
    """The Program, returning all that it computes but whole numbers of Python."""
    names = [e.out.name for e in program.equations if e.out and e.out.dtype != "int"]
    return replace(program, outputs=tuple(names))


def in_float64(given: Given) -> Given:
    """The Program with float64 wherever there was float32."""

    def var(v: Var) -> Var:
        return replace(v, dtype="float64") if v.dtype == "float32" else v

    def attr(value: Any) -> Any:
        is_float32 = isinstance(value, np.dtype | type | str) and value in (
            np.float32, np.dtype(np.float32), "float32"
        )  # fmt: skip
        return np.dtype(np.float64) if is_float32 else value

    def array(value: Any) -> Any:
        is_float32 = getattr(value, "dtype", None) == np.float32
        return value.astype(np.float64) if is_float32 else value

    program = replace(
        given.program,
        inputs=tuple(replace(i, var=var(i.var)) for i in given.program.inputs),
        equations=tuple(
            replace(e, out=e.out and var(e.out), attrs=tuple((k, attr(v)) for k, v in e.attrs))
            for e in given.program.equations
        ),
    )
    return Given(
        program.verify(),
        {k: array(v) for k, v in given.held.items()},
        [[array(v) for v in call] for call in given.calls],
    )


@contextmanager
def threads_always() -> Iterator[None]:
    """Let small steps run on as many threads as are asked for, and share small kernels."""
    before = assemble.SMALL_STEP, assemble.FEW
    assemble.SMALL_STEP, assemble.FEW = -1, 1
    try:
        yield
    finally:
        assemble.SMALL_STEP, assemble.FEW = before


# Comparing

# What is rounded once, in one way: IEEE arithmetic and what only moves entries.
EXACT = {
    "add", "sub", "mul", "div", "neg", "abs", "sign", "maximum", "minimum", "relu", "clamp",
    "floor", "round", "sqrt", "where", "cast", "detach", "value", "amax", "amin", "concatenate",
    "pad", "unslice", "take", "slice", "reshape", "transpose", "expand", "full", "array", "arange",
    "uniform", "normal",
}  # fmt: skip


def bound(e: Equation, ins: Sequence[Any], expected: Any) -> Any:
    """How far each entry of an equation's result may be from NumPy's."""
    attrs = dict(e.attrs)
    eps, tiny = np.finfo(expected.dtype).eps, np.finfo(expected.dtype).tiny
    sizes = [
        np.abs(x, dtype=np.float64) if isinstance(x, np.ndarray) and x.dtype.kind == "f" else x
        for x in ins
    ]
    if e.op in ("sum", "mean", "cumsum", "scatter_add", "matmul", "einsum"):
        # The sum of the terms' sizes; a random walk of that many roundings.
        size = np.asarray(OPS[e.op].forward(*sizes, **attrs))
        if e.op in ("cumsum", "scatter_add"):
            # NumPy adds these one after another: equal terms are all rounded the same way.
            ones = np.ones(ins[0].shape)
            counts = np.asarray(OPS[e.op].forward(ones, *ins[1:], **attrs))
            return (8 + counts / 2) * eps * size + tiny
        if e.op in ("matmul", "einsum"):
            terms = max(max(x.shape, default=1) for x in ins)
        else:
            terms = max(1, ins[0].size)
        if e.op in ("sum", "mean"):
            terms = max(1, ins[0].size // max(1, expected.size))
        return (8 + 4 * np.sqrt(terms)) * eps * size + tiny
    if e.op in ("softmax", "log_softmax"):
        n = max(1, ins[0].size)
        size = np.abs(expected) + (e.op == "log_softmax")
        return (32 + 4 * np.sqrt(n)) * eps * size + tiny
    return 16 * eps * np.abs(expected, dtype=np.float64) + tiny


def complaint(actual: Any, expected: Any, allowed: Any, what: str) -> str:
    """What is wrong with an array; "" if nothing is."""
    a, b = np.asarray(actual), np.asarray(expected)
    if a.shape != b.shape or a.dtype != b.dtype:
        return f"{what}: {a.dtype} {a.shape}, NumPy has {b.dtype} {b.shape}"
    with quiet():
        right = (a == b) | ((a != a) & (b != b))
        if b.dtype.kind == "f":
            off = np.abs(a.astype(np.float64) - b.astype(np.float64))
            # Where the terms' sum overflows, the order of adding decides what comes out.
            right = right | (off <= allowed) | np.isinf(allowed)
    if right.all():
        return ""
    where = np.argwhere(~np.broadcast_to(right, b.shape))
    first = tuple(int(i) for i in where[0])
    return (
        f"{what}: {len(where)} of {b.size} entries of {b.shape} {b.dtype} are wrong, the first at "
        f"{first}: {a[first]!r}, NumPy has {b[first]!r}"
    )


def complaints(
    program: Program, before: Values, got: Values, after: Mapping[str, Any]
) -> Iterator[str]:
    """What is wrong with a run that returned all that it computed.

    Args:
        program: of which all values are outputs.
        before: the inputs as they were.
        got: the outputs by name.
        after: held arrays as they are now.

    """
    known = dict(before)
    for n, e in enumerate(program.equations):
        ins = [known[i] if isinstance(i, str) else i for i in e.ins]
        with quiet():
            expected = evaluate(e, known)
        if e.out is None:
            continue
        if e.out.dtype == "int":
            known[e.out.name] = expected
            continue
        shapes = ", ".join(f"{np.shape(i)}" if isinstance(i, np.ndarray) else f"{i}" for i in ins)
        what = f"equation {n}, {e.out.name} = {e.op}({shapes}, {dict(e.attrs)})"
        actual = got[e.out.name]
        if e.out.is_number:
            close = np.isclose(float(actual), float(expected), rtol=1e-14, atol=0, equal_nan=True)
            if not close:
                yield f"{what}: {actual}, Python has {expected}"
            known[e.out.name] = float(actual)
            continue
        exact = e.op in EXACT or expected.dtype.kind != "f"
        if e.op in ("sum", "mean") and len(ins) and expected.size == ins[0].size:
            exact = True
        with quiet():
            allowed = 0 if exact else bound(e, ins, expected)
        wrong = complaint(actual, expected, allowed, what)
        if wrong:
            yield wrong
        known[e.out.name] = actual
    for target, new in program.updates:
        wrong = complaint(after[target], known[new], 0, f"{target}, updated to {new},")
        if wrong:
            yield wrong
    written = {target for target, _ in program.updates}
    for name, array in after.items():
        if name not in written and not _same_bits(array, before[name]):
            yield f"{name}, which is not updated, was written to"


def _same_bits(a: Any, b: Any) -> bool:
    return np.asarray(a).tobytes() == np.asarray(b).tobytes()


def copied(values: Mapping[str, Any]) -> dict[str, Any]:
    """Copies in the same memory layout."""
    return {k: v.copy("K") for k, v in values.items()}


def check_each(
    given: Given,
    engine: Callable[..., Engine] = Engine,
    threads: int = 1,
    tile: int | None = None,
    target: Target | None = None,
    amplified: float = 64.0,
) -> None:
    """Every equation is right; and so is the Program as it is, which returns less and fuses more.

    Args:
        given: what to run.
        engine: makes the engine.
        threads: as many run, however small the step is.
        tile: rows of a tile.
        target: what to compile for.
        amplified: how many units of rounding at an array's largest entry the Program's outputs may
            be from those of the same Program that returns everything.

    Raises:
        AssertionError: what is wrong, and the Program.

    """
    held, plain_held = copied(given.held), copied(given.held)
    full, options = with_all_outputs(given.program), {"tile": tile, "target": target}
    with threads_always():
        everything = engine(full, held, threads=threads, **options)
        plain = engine(given.program, plain_held, threads=threads, **options)
    for n, values in enumerate(given.calls):
        before = copied(held)
        for name, array in before.items():
            plain_held[name][...] = array
        got = everything(values)
        start = {**before, **dict(zip(everything.names, values, strict=True))}
        wrong = list(complaints(full, start, got, held))
        for name, array in plain(values).items():
            wrong.append(apart(array, got.get(name, start.get(name)), amplified, name))
        for name, array in plain_held.items():
            wrong.append(apart(array, held[name], amplified, name))
        wrong = [w for w in wrong if w]
        assert not wrong, f"call {n}: " + "\n".join([*wrong[:4], str(given.program)])


def apart(actual: Any, expected: Any, units: float, what: str) -> str:
    """What is wrong with an array that was computed in another order; "" if nothing is."""
    allowed = 0.0
    if expected.dtype.kind == "f":
        largest = np.abs(expected[np.isfinite(expected)], dtype=np.float64).max(initial=0)
        allowed = units * np.finfo(expected.dtype).eps * largest
    return complaint(actual, expected, allowed, f"{what} of the Program as it is")


__all__ = ["Given", "check_each", "given_by", "given_by_step", "in_float64", "threads_always"]
