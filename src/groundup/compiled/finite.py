"""A Program that stops at the first NaN or infinity, and says whose it is."""

from __future__ import annotations

from groundup.program.program import Equation, Program, Var


def finite_everywhere(program: Program) -> Program:
    """The Program with a check of every value; checks come before anything is updated."""
    made: list[Equation] = []
    for given in program.inputs:
        if _can_fail(given.var):
            what = f"the {given.role} {given.path or given.var.name}"
            made.append(_check(given.var, what, "forward", ""))
    for e in program.equations:
        made.append(e)
        if e.out is None or not _can_fail(e.out):
            continue
        if any(isinstance(i, str) for i in e.ins):
            ins = ", ".join(map(str, e.ins))
            where = f" of {e.module}" if e.module else ""
            what = f"{e.out.name} = {e.op}({ins}){where}, {e.phase}"
            made.append(_check(e.out, what, e.phase, e.module))
    return program.with_equations(made)


def _can_fail(var: Var) -> bool:
    return not var.is_number and var.dtype.startswith("float")


def _check(var: Var, what: str, phase: str, module: str) -> Equation:
    text = what.replace("{", "(").replace("}", ")")
    attrs = (("what", f"{text}: {{}}"),)
    return Equation(None, "check_finite", (var.name,), attrs, phase, module)
