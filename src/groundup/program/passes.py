"""Passes: pure functions from a Program to one that computes the same, bit for bit, with less.

None renames: a value keeps its name or is gone. Of two names for one value the one that somebody
chose is kept, not the recorder's t1, t2.

Identities that hold for real numbers and not for floating-point ones are left out: x + 0.0 is not x
where x is -0.0, NumPy's sum of a single -0.0 is 0.0, and a sum of n equal terms is rounded at each,
n*x once. And since how sums and matrix products are rounded depends on the order of entries in
memory, a value is computed in another way only where it surely lies there as before (`layouts`).
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, TypeAlias

import numpy as np

from groundup.errors import ProgramError
from groundup.ops.base import quiet
from groundup.ops.reduce import reduced_axes
from groundup.program.layouts import Layouts
from groundup.program.program import (
    NUMBER_OPS,
    OPS,
    Equation,
    Operand,
    Program,
    Var,
    filled,
    infer,
    leaves,
)
from groundup.program.scalars import scalars
from groundup.program.softmax import shared_softmax

Pass: TypeAlias = Callable[[Program], Program]


def simplify(program: Program) -> Program:
    """All passes, until they find nothing more; the Program is verified after each."""
    for _ in range(20):
        before = program
        for one in PASSES:
            program = one(program).verify()
        if program.equations == before.equations:
            break
    return program


def dead_equations(program: Program) -> Program:
    """Take out what no output, update or check needs."""
    needed = {*leaves(program.outputs), *(new for _, new in program.updates)}
    kept: list[Equation] = []
    for equation in reversed(program.equations):
        if equation.out is None or equation.out.name in needed:
            kept.append(equation)
            needed.update(equation.names)
    inputs = tuple(
        i for i in program.inputs
        if i.role in ("argument", "parameter") or i.var.name in needed
        or i.var.name in dict(program.updates)
    )  # fmt: skip
    return program.with_equations(reversed(kept), inputs=inputs)


def common_subexpressions(program: Program) -> Program:
    """Compute nothing twice: what backward computes again is taken from forward."""
    rewrite = Rewrite(program)
    known: dict[str, Var | None] = {}
    for equation in program.equations:
        new = rewrite.current(equation)
        key = repr((new.op, [(type(i).__name__, i) for i in new.ins], new.attrs))
        if key in known:
            earlier = known[key]
            if equation.out is not None and earlier is not None:
                rewrite.same(equation.out, earlier.name)
            continue
        known[key] = new.out
        rewrite.keep(new)
    return rewrite.done()


def fold_constants(program: Program) -> Program:
    """Compute what depends on nothing but constants, and write constants into their uses."""
    rewrite = Rewrite(program)
    constant: dict[str, Equation] = {}  # by name, `full` of what has the same in every entry
    number: dict[str, Operand] = {}
    for equation in program.equations:
        new = rewrite.current(equation)
        new = replace(new, ins=tuple(number.get(i, i) if isinstance(i, str) else i
                                     for i in new.ins))  # fmt: skip
        out = new.out
        if out is not None and out.is_number and new.op not in ("size", "value") and not new.names:
            number[out.name] = NUMBER_OPS[new.op](*new.ins)
            continue
        if out is not None and new.op not in ("full", "size", "value", "array", "arange"):
            made = _uniform(new, constant, rewrite.vars, program.batch)
            if made is None:
                new = _with_numbers(new, constant, rewrite)
            else:
                constant[out.name] = made
                if rewrite.layouts.same(new, made):
                    new = made
        elif new.op == "full" and out is not None:
            constant[out.name] = new
        rewrite.keep(new)
    return rewrite.done()


def _uniform(
    equation: Equation, constant: Mapping[str, Equation], known: Mapping[str, Var], batch: int
) -> Equation | None:
    """The equation as a `full`, if all that goes in is, and all that comes out is one number."""
    op, out = OPS[equation.op], equation.out
    assert out is not None
    ins = equation.ins
    if not ins or not all(not isinstance(i, str) or i in constant for i in ins):
        return None
    if not any(isinstance(i, str) for i in ins):
        return None
    attrs = dict(equation.attrs)
    if op.elementwise and equation.op != "power":  # of single entries powers take short cuts
        shapes = [(1,) * len(known[i].shape) if isinstance(i, str) else () for i in ins]
    elif op.is_view and out.size:
        return _full(equation, out, dict(constant[str(ins[0])].attrs)["value"])
    elif equation.op == "sum" and _sums_exactly(constant[str(ins[0])], known[str(ins[0])].size):
        shapes = [known[str(ins[0])].shape]
        axes = reduced_axes(attrs.get("axis"), len(shapes[0]))
        if batch > 1 and any(shapes[0][a] == batch for a in axes):
            return None  # the number of rows is no constant
    else:
        return None
    arrays = []
    for i, shape in zip(ins, shapes, strict=True):
        if isinstance(i, str):
            given = dict(constant[i].attrs)
            arrays.append(np.full(shape, given["value"], given["dtype"]))
        else:
            arrays.append(i)  # type: ignore[arg-type]
    with quiet():
        result = np.asarray(op.forward(*arrays, **attrs))
    if str(result.dtype) != out.dtype or not result.size or (result != result.flat[0]).any():
        return None
    return _full(equation, out, result.flat[0].item())


def _sums_exactly(full: Equation, n: int) -> bool:
    """Whether n times the constant has so few digits that no sum on the way is rounded."""
    attrs = dict(full.attrs)
    dtype = np.dtype(attrs["dtype"])
    value = dtype.type(attrs["value"])
    if n > 1 << 20:  # it is computed to see what comes out
        return False
    if dtype.kind != "f" or not np.isfinite(value):
        return dtype.kind in "iub"
    digits = abs(value.as_integer_ratio()[0])
    digits //= max(digits & -digits, 1)
    limits = np.finfo(dtype)
    return bool(digits * n < 2**limits.nmant and abs(value.item()) * n < limits.max)


def _full(equation: Equation, out: Var, value: Any) -> Equation:
    attrs = (("dtype", np.dtype(out.dtype)), ("shape", out.shape), ("value", value))
    return replace(equation, op="full", ins=(), attrs=attrs)


def _with_numbers(
    equation: Equation, constant: Mapping[str, Equation], rewrite: Rewrite
) -> Equation:
    """An element-wise equation that takes constants as numbers, if that changes nothing."""
    if not OPS[equation.op].elementwise or equation.op == "cast":
        return equation
    for at, i in enumerate(equation.ins):
        if not isinstance(i, str) or i not in constant:
            continue
        if equation.op == "power" and rewrite.vars[i].shape:
            continue  # NumPy squares for an exponent 2.0, and not for an array of them
        rest = (*equation.ins[:at], *equation.ins[at + 1 :])
        value = _shortest(constant[i], [rewrite.vars[r].dtype for r in rest if isinstance(r, str)])
        if value is None:
            continue
        new = replace(equation, ins=(*equation.ins[:at], value, *equation.ins[at + 1 :]))
        lines = sum(n != 1 for n in rewrite.vars[i].shape) < 2  # has no say in the layout
        if _fits(new, rewrite.vars) and (lines or rewrite.layouts.same(equation, new)):
            equation = new
    return equation


def _shortest(full: Equation, others: list[str]) -> Operand | None:
    """The constant as a number beside arrays of some dtypes, None if they would change it.

    It is the shortest that is the constant in its dtype: 0.1, not 0.10000000149.
    """
    attrs = dict(full.attrs)
    dtype = np.dtype(attrs["dtype"])
    arrays = [np.dtype(d) for d in others if d not in ("int", "float")]
    if not arrays or np.result_type(*arrays) != np.result_type(*arrays, dtype):
        return None
    value: Any = attrs["value"]
    if isinstance(value, float) and math.isfinite(value):
        value = dtype.type(value)
        return float(str(value)) if np.result_type(*arrays) == dtype else float(value)
    return value  # type: ignore[no-any-return]


def _fits(equation: Equation, known: Mapping[str, Var]) -> bool:
    """Whether the equation still makes what it made."""
    out = equation.out
    if out is None or not equation.names:
        return False
    try:
        return infer(equation, known) == (out.shape, out.dtype)
    except ProgramError:
        return False


def identities(program: Program) -> Program:
    """Algebra that is exact: x*1, x/1, x - 0, --x, x**1, views of views."""
    rewrite = Rewrite(program)
    made: dict[str, Equation] = {}
    for equation in program.equations:
        new = rewrite.current(equation)
        out = new.out
        if out is None:
            rewrite.keep(new)
            continue
        same = _same_as(new, made, rewrite)
        if same is not None:
            rewrite.same(out, same)
            continue
        new = _narrower(new, made, rewrite)
        made[out.name] = new
        rewrite.keep(new)
    return rewrite.done()


def _same_as(e: Equation, made: Mapping[str, Equation], rewrite: Rewrite) -> str | None:
    """The value that the equation's output is, if it is another one."""
    assert e.out is not None
    ins, attrs, known = e.ins, dict(e.attrs), rewrite.vars

    def unchanged(i: Operand) -> bool:
        return isinstance(i, str) and (known[i].shape, known[i].dtype) == (e.out.shape, e.out.dtype)  # type: ignore[union-attr]

    candidates: list[Operand] = []
    if e.op == "mul":
        candidates = [a for a, b in ((ins[0], ins[1]), (ins[1], ins[0])) if _is(b, 1)]
    elif e.op == "div":
        candidates = [ins[0]] if _is(ins[1], 1) else []
    elif e.op == "sub":
        candidates = [ins[0]] if _is_zero(ins[1], 1) else []
    elif e.op == "add":
        whole = np.dtype("float" if e.out.is_number else e.out.dtype).kind in "iu"
        for a, b in ((ins[0], ins[1]), (ins[1], ins[0])):
            if _is_zero(b, -1) or (whole and _is(b, 0)):
                candidates.append(a)
    elif e.op == "pow":
        candidates = [ins[0]] if attrs["exponent"] == 1 else []
    elif e.op in ("reshape", "expand", "cast"):
        candidates = [ins[0]]
    elif e.op == "transpose":
        if attrs["axes"] == tuple(range(len(attrs["axes"]))):
            candidates = [ins[0]]
        inner = made.get(str(ins[0]))
        if inner is not None and inner.op == "transpose":
            first = dict(inner.attrs)["axes"]
            if tuple(first[a] for a in attrs["axes"]) == tuple(range(len(first))):
                candidates = [inner.ins[0]]
    elif e.op in ("neg", "logical_not"):
        inner = made.get(str(ins[0]))
        if inner is not None and inner.op == e.op:
            candidates = [inner.ins[0]]
    elif e.op == "where" and ins[1] == ins[2]:
        candidates = [ins[1]]
    elif e.op in ("maximum", "minimum") and ins[0] == ins[1]:
        candidates = [ins[0]]
    elif e.op in ("amax", "amin"):
        shape = known[str(ins[0])].shape
        if all(shape[a] == 1 for a in reduced_axes(attrs.get("axis"), len(shape))):
            candidates = [ins[0]]
    views = OPS[e.op].is_view  # of the very same memory
    return next(
        (str(c) for c in candidates
         if unchanged(c) and (views or rewrite.layouts.is_copy(e, str(c)))), None
    )  # fmt: skip


def _is(operand: Operand, n: int) -> bool:
    return not isinstance(operand, str) and operand == n


def _is_zero(operand: Operand, sign: int) -> bool:
    """Whether the operand is +0.0 (or the integer 0), for a sign of 1, or -0.0, for one of -1."""
    return _is(operand, 0) and math.copysign(1, float(operand)) == sign


def _narrower(e: Equation, made: Mapping[str, Equation], rewrite: Rewrite) -> Equation:
    """The equation, reading what its inputs were made from where that makes the same."""
    known = rewrite.vars
    if OPS[e.op].elementwise:
        for at, i in enumerate(e.ins):
            inner = made.get(i) if isinstance(i, str) else None
            # Element-wise ops broadcast by themselves; axes of length 1 in front do not matter; and
            # a number takes the dtype of the arrays that it meets.
            number = inner is not None and _is_cast_number(inner, e, known)
            if inner is not None and (number or inner.op in ("expand", "reshape")):
                source = str(inner.ins[0])
                if inner.op == "reshape" and not _only_ones_in_front(
                    known[source].shape, known[str(i)].shape
                ):
                    continue
                ins = (*e.ins[:at], source, *e.ins[at + 1 :])
                if _fits(replace(e, ins=ins), known):
                    e = replace(e, ins=ins)
        return e
    inner = made.get(str(e.ins[0])) if e.ins else None
    if inner is None:
        return e
    attrs, within = dict(e.attrs), dict(inner.attrs)
    if e.op == inner.op == "transpose":
        axes = tuple(within["axes"][a] for a in attrs["axes"])
        return replace(e, ins=inner.ins, attrs=(("axes", axes),))
    if e.op == inner.op == "expand":
        return replace(e, ins=inner.ins)
    fewer = e
    if e.op == inner.op == "reshape":
        fewer = replace(e, ins=inner.ins)
    elif (
        e.op == "reshape" and inner.op in ("sum", "mean", "amax", "amin") and within.get("keepdims")
    ):
        fewer = replace(inner, out=e.out, phase=e.phase, module=e.module,
                        attrs=tuple(sorted({**within, "keepdims": False}.items())))  # fmt: skip
    return fewer if _fits(fewer, known) and rewrite.layouts.same(e, fewer) else e


def _is_cast_number(inner: Equation, e: Equation, known: Mapping[str, Var]) -> bool:
    """Whether an input of e is a Python number in the dtype that it would take by itself."""
    if inner.op != "cast" or inner.out is None or not known[str(inner.ins[0])].is_number:
        return False
    others = [known[i] for i in e.names if i != inner.out.name]
    dtypes = [np.dtype(v.dtype) for v in others if not v.is_number]
    return bool(dtypes) and np.result_type(*dtypes) == inner.out.dtype


def _only_ones_in_front(shape: tuple[int, ...], longer: tuple[int, ...]) -> bool:
    extra = len(longer) - len(shape)
    return extra >= 0 and longer[:extra] == (1,) * extra and longer[extra:] == shape


class Rewrite:
    """A Program's equations while a pass goes through them."""

    def __init__(self, program: Program):
        self.program = program
        self.vars = dict(program.vars)
        self.layouts = Layouts(program, self.vars)
        self.kept: list[Equation] = []
        self.place: dict[str, int] = {}  # where in `kept` a value is computed
        self.instead: dict[str, str] = {}

    def current(self, equation: Equation) -> Equation:
        """The equation as it reads by now."""
        ins = tuple(self._now(i) if isinstance(i, str) else i for i in equation.ins)
        return equation if ins == equation.ins else replace(equation, ins=ins)

    def keep(self, equation: Equation) -> None:
        """Leave an equation in."""
        if equation.out is not None:
            self.place[equation.out.name] = len(self.kept)
            self.layouts.add(equation)
        self.kept.append(equation)

    def same(self, out: Var, other: str) -> None:
        """`out` is the value `other`: one of the two names goes."""
        if _automatic(other) and not _automatic(out.name) and other in self.place:
            at = self.place.pop(other)
            self.kept[at] = replace(self.kept[at], out=out)
            self.place[out.name] = at
            self.layouts.found[out.name] = self.layouts.found[other]
            self.instead[other] = out.name
        else:
            self.instead[out.name] = other

    def _now(self, name: str) -> str:
        while name in self.instead:
            name = self.instead[name]
        return name

    def done(self) -> Program:
        """The Program with what was kept."""
        names = {name: self._now(name) for name in self.program.vars}
        return self.program.with_equations(
            (self.current(e) for e in self.kept),
            outputs=filled(self.program.outputs, names),
            updates=tuple(
                (target, names[new]) for target, new in self.program.updates
                if names[new] != target
            ),
        )  # fmt: skip


def _automatic(name: str) -> bool:
    """Whether the recorder made the name up."""
    return re.fullmatch(r"t\d+", name) is not None


PASSES: tuple[Pass, ...] = (
    shared_softmax,
    scalars,
    fold_constants,
    identities,
    common_subexpressions,
    dead_equations,
)
