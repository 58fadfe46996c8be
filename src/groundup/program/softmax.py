"""The pass that lets softmax and log_softmax of one input share their work.

Cross-entropy needs both: log_softmax for the loss, softmax for its gradient. Written out, what
forward computed (the shifted logits, their exponentials, the sums) is there for backward.
"""

from __future__ import annotations

from dataclasses import replace

from groundup.ops.reduce import kept_shape
from groundup.program.program import Equation, Program, Var


def shared_softmax(program: Program) -> Program:
    """Write out softmax and log_softmax where both are taken of one value along one axis."""
    taken: dict[object, set[str]] = {}
    for e in program.equations:
        if e.op in ("softmax", "log_softmax"):
            taken.setdefault((e.ins, e.attrs), set()).add(e.op)
    names = set(program.vars)
    known: dict[object, tuple[Var, Var, Var]] = {}
    equations: list[Equation] = []
    for e in program.equations:
        if e.op not in ("softmax", "log_softmax") or len(taken[e.ins, e.attrs]) < 2:
            equations.append(e)
            continue
        key = (e.ins, e.attrs)
        if key not in known:
            known[key], lines = _shifted(e, program, names)
            equations += lines
        shifted, exps, total = known[key]
        if e.op == "softmax":
            equations.append(replace(e, op="div", ins=(exps.name, total.name), attrs=()))
        else:
            log = Var(_temporary(names), total.shape, total.dtype)
            equations.append(replace(e, out=log, op="log", ins=(total.name,), attrs=()))
            equations.append(replace(e, op="sub", ins=(shifted.name, log.name), attrs=()))
    return program.with_equations(equations)


def _shifted(
    e: Equation, program: Program, names: set[str]
) -> tuple[tuple[Var, Var, Var], list[Equation]]:
    """x - max(x), its exponentials and their sum, as `helpers.softmax` computes them."""
    x, axis = program.vars[str(e.ins[0])], dict(e.attrs)["axis"]
    row = kept_shape(x.shape, axis)
    largest = Var(_temporary(names), row, x.dtype)
    shifted = Var(_new("shifted", names), x.shape, x.dtype)
    exps = Var(_new("exps", names), x.shape, x.dtype)
    total = Var(_new("total", names), row, x.dtype)
    reduced = (("axis", axis), ("keepdims", True))
    return (shifted, exps, total), [
        replace(e, out=largest, op="amax", ins=(x.name,), attrs=reduced),
        replace(e, out=shifted, op="sub", ins=(x.name, largest.name), attrs=()),
        replace(e, out=exps, op="exp", ins=(shifted.name,), attrs=()),
        replace(e, out=total, op="sum", ins=(exps.name,), attrs=reduced),
    ]


def _new(name: str, names: set[str]) -> str:
    wanted, i = name, 1
    while wanted in names:
        wanted, i = f"{name}{i}", i + 1
    names.add(wanted)
    return wanted


def _temporary(names: set[str]) -> str:
    """A name like the recorder's own, for what is written into the line that uses it."""
    i = 1
    while f"t{i}" in names:
        i += 1
    names.add(f"t{i}")
    return f"t{i}"
