"""A Program as NumPy source that a person would have written, and that runs with NumPy alone."""

from __future__ import annotations

import ast
import inspect
import re
import textwrap
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from groundup.ops.text import POWER, Text, atom, number, value
from groundup.program.batch import symbolic_shapes
from groundup.program.layouts import Layouts
from groundup.program.loops import Line, Rolled, listed, roll
from groundup.program.program import OPS, Equation, Program, leaves, shape_of

WIDTH = 88  # columns of code
_COLUMN = 56  # comments stand in one column, at most here
_LONG = 60  # columns up to which an expression is a part of another
_SHORT = 26  # columns up to which an expression may stand in several places


@dataclass
class Folded:
    """An expression that waits to be written into the line that uses it."""

    text: Text
    equation: Equation
    reads: set[str]  # names, also those of what is folded into it
    inner: list[Equation]  # what is folded into it


class Printer:
    """Goes through a Program and makes its lines."""

    def __init__(self, program: Program):
        self.program = program
        self.shapes, self.batch = symbolic_shapes(program)
        self.lines: list[Line] = []
        self.line_of: dict[str, int] = {}  # the line in which an equation's output is computed
        self.waiting: dict[str, Folded] = {}
        self.targets: dict[str, list[str]] = {}
        for target, new in program.updates:
            self.targets.setdefault(new, []).append(target)
        self.called: dict[str, str] = {}  # how a value is written, if not by its own name
        self.updated: set[str] = set()
        self.saved: list[str] = []  # inputs whose old entries are still read after the update
        self.helpers: dict[str, Callable[..., Any]] = {}
        self.copied: dict[str, str] = {}
        self.layouts = Layouts(program, program.vars)
        for e in program.equations:
            self.layouts.add(e)
        self.at = {id(e): i for i, e in enumerate(program.equations)}
        self.returned = set(leaves(program.outputs))
        self.count = self._occurrences()
        self.left = dict(self.count)

    def _occurrences(self) -> dict[str, int]:
        count = dict.fromkeys(self.program.vars, 0)
        for e in self.program.equations:
            for name in e.names:
                count[name] += 1
        for name in leaves(self.program.outputs):
            count[name] += 2  # needs a name
        for _, new in self.program.updates:
            count[new] += 2
        return count

    def run(self) -> list[Line]:
        """The lines of the function's body."""
        for target, new in self.program.updates:
            if new in {i.var.name for i in self.program.inputs}:
                self._update(target, None, new)
        # Constants first, as a person would write them: so that of equal blocks the first, where
        # a constant was met, has no line more.
        constants = [e for e in self.program.equations if not e.ins and e.out is not None]
        for e in constants:
            if e.out is not None and e.out.name not in self.targets:
                self._equation(replace(e, module="", phase=self.program.equations[0].phase))
        for e in self.program.equations:
            if e.ins or (e.out is not None and e.out.name in self.targets):
                self._equation(e)
        return self.lines

    def _equation(self, e: Equation) -> None:
        op = OPS[e.op]
        if op.helper is not None:
            self.helpers[op.helper.__name__] = op.helper
        if e.out is None:
            self._emit(self._fitted(e, ""), "", e)
            self._used(e)
            return
        name = e.out.name
        targets = self.targets.get(name, [])
        if targets:
            self._computed_update(e, targets)
        elif self._may_fold(e):
            text = self._text(e)
            single = self.count[name] == 1
            # What is used often is written again only if it is short.
            if len(text.code) <= (_LONG if single else _SHORT):
                self.waiting[name] = Folded(text, e, self._reads(e), self._inner(e))
            else:
                self._assign(e, name)
        else:
            self._assign(e, name)
        self._used(e)

    def _used(self, e: Equation) -> None:
        """Forget what waited for this equation only."""
        for name in e.names:
            self.left[name] -= 1
            if not self.left[name]:
                self.waiting.pop(name, None)

    def _may_fold(self, e: Equation) -> bool:
        assert e.out is not None
        name = e.out.name
        if not re.fullmatch(r"t\d+", name) or not self.count[name] or name in self.returned:
            return False
        new_axis = e.op == "reshape" and self._text(e).code.endswith("]")
        return self.count[name] == 1 or e.out.is_number or e.op in _CHEAP or new_axis

    def _reads(self, e: Equation) -> set[str]:
        names = set(e.names)
        for i in e.names:
            if i in self.waiting:
                names |= self.waiting[i].reads
        return names

    def _inner(self, e: Equation) -> list[Equation]:
        folded = [self.waiting[i] for i in e.names if i in self.waiting]
        return [inner for f in folded for inner in (f.equation, *f.inner)]

    def _assign(self, e: Equation, name: str) -> None:
        self._emit(self._fitted(e, f"{name} = "), self.shapes[name], e)

    def _emit(self, code: str, shape: str, e: Equation) -> None:
        self._note(e)
        self.lines.append(Line(code, shape, e.phase, e.module))

    def _note(self, e: Equation) -> None:
        """Write down that the line to come computes an equation, and what is folded into it."""
        for equation in (e, *self._inner(e)):
            if equation.out is not None:
                self.line_of.setdefault(equation.out.name, len(self.lines))

    def _fitted(self, e: Equation, start: str) -> str:
        """The statement, in one line if it fits; else long operands get lines of their own."""
        while True:
            code = start + self._text(e).code
            folded = [i for i in e.names if i in self.waiting and self._splits(i)]
            if len(code) + 4 <= WIDTH or not folded:
                return code
            longest = max(folded, key=lambda i: len(self.waiting[i].text.code))
            self._write_out(longest)

    def _write_out(self, name: str) -> None:
        """Give what waits a line of its own."""
        folded = self.waiting.pop(name)
        for inner in folded.inner:
            assert inner.out is not None
            self.line_of.setdefault(inner.out.name, len(self.lines))
        self._emit(f"{name} = {folded.text.code}", self.shapes[name], folded.equation)

    def _splits(self, name: str) -> bool:
        return len(self.waiting[name].text.code) > _SHORT

    # Updates

    def _computed_update(self, e: Equation, targets: list[str]) -> None:
        """`w -= lr * dw`: the equation that makes an input's new value, written into it."""
        assert e.out is not None
        name = e.out.name
        if self.program.uses[name] != [-1] or name in self.returned:
            # Read again from the parameter it would lie in memory as that does, and be summed in
            # another order.
            layout = self.layouts.found.get(name)
            if layout is None or not (layout.in_order and layout.dense):
                self._assign(e, name)
                for target in targets:
                    self._update(target, e, name)
                return
        first, *others = targets
        self._before_write(first, e)
        rest = self._in_place(e, first)
        code = rest if rest is not None else self._fitted(e, f"{first}[...] = ")
        self._emit(code, self.shapes[e.out.name], e)
        self.called[e.out.name] = first
        self.updated.add(first)
        for other in others:
            self._update(other, e, e.out.name)

    def _in_place(self, e: Equation, target: str) -> str | None:
        symbol = {"add": "+=", "sub": "-=", "mul": "*=", "div": "/="}.get(e.op)
        if symbol is None or e.ins.count(target) != 1:
            return None
        at = e.ins.index(target)
        if at == 1 and e.op not in ("add", "mul"):
            return None
        return f"{target} {symbol} {self.operand(e.ins[1 - at]).code}"

    def _update(self, target: str, e: Equation | None, new: str) -> None:
        equation = e or Equation(None, "copy", (new,), phase="update")
        self._before_write(target, equation)
        self._emit(f"{target}[...] = {self.called.get(new, new)}", self.shapes[target], equation)
        self.updated.add(target)

    def _before_write(self, target: str, e: Equation) -> None:
        """Write out what waits and reads the old entries; keep those that are read later."""
        for name in [n for n, f in self.waiting.items() if target in f.reads]:
            if name not in e.names:
                self._write_out(name)
        if self._read_later(target, e):
            old = f"old_{target}"
            while old in self.program.vars:
                old += "_"
            self.saved.append(target)
            self.copied[target] = old

    def _read_later(self, target: str, e: Equation) -> bool:
        later = max(self.program.uses[target], default=-1) > self.at.get(id(e), -1)
        return later or -1 in self.program.uses[target]

    # Expressions

    def _text(self, e: Equation) -> Text:
        ins = [self.operand(i) for i in e.ins]
        known = self.program.vars
        if e.op == "power" and e.out is not None and e.out.is_number:
            return Text(f"{ins[0].within(POWER + 1)}**{ins[1].within(POWER)}", POWER)
        if e.op == "cast" and known[str(e.ins[0])].is_number and e.out is not None:
            return atom(f"np.{e.out.dtype}({ins[0].code})")
        shapes = [shape_of(known[i]) if isinstance(i, str) else () for i in e.ins]
        out = self.shapes[e.out.name] if e.out is not None else ""
        return OPS[e.op].text(*ins, out=out, shapes=shapes, **dict(e.attrs))

    def operand(self, operand: Any) -> Text:
        """An operand as it is written here."""
        if not isinstance(operand, str):
            return number(operand)
        if operand in self.waiting:
            return self.waiting[operand].text
        if operand in self.updated:  # as it was before the update
            return atom(self.copied[operand])
        return atom(self.called.get(operand, operand))


# What may stand in several places of the text: it costs nothing and reads well.
_CHEAP = ("transpose", "size", "value", "cast", "arange", "full")


def source(program: Program) -> str:
    """The Program as source text."""
    printer = Printer(program)
    rolled = roll(printer.run(), program)
    head = "import numpy as np\n"
    for helper in printer.helpers.values():
        head += "\n\n" + helper_source(helper) + "\n"
    return f"{head}\n\n{_signature(program, rolled)}\n{_body(program, printer, rolled)}"


def lists_of(program: Program) -> dict[str, list[str]]:
    """The inputs that the printed function takes together, as a list, by the list's name."""
    rolled = roll(Printer(program).run(), program)
    return {name: rolled.lists[name] for name in rolled.given}


def _body(program: Program, printer: Printer, rolled: Rolled) -> str:
    rows: list[tuple[str, str]] = []
    returned = ""
    if program.outputs is not None:
        returned = f"return {_returned(program.outputs, printer, rolled.place)}"
    code = "\n".join([*(line.code for line in rolled.lines), returned])
    if rolled.given:
        length = len(rolled.lists[rolled.given[0]])
        lists = textwrap.wrap(f"{listed(rolled.given)}: lists of {length}", WIDTH - 6)
        rows += [(f"# {text}", "") for text in lists]
    if printer.batch:
        size = program.vars[printer.batch].shape[0]
        if re.search(r"\bn\b", code):
            rows.append((f"n = len({printer.batch})", f"# {size} when this was recorded"))
        else:
            rows.append((f"# n: the length of {printer.batch}, {size} when recorded", ""))
    batches = [i.var for i in program.inputs_of("argument") if i.var.shape]
    if program.fixed_batch and batches:
        length = batches[0].shape[0]
        rows.append((f"assert len({batches[0].name}) == {length}", "# the step used its length"))
    for name in printer.saved:
        held = rolled.place.get(name, name)
        rows.append((f"{printer.copied[name]} = {held}.copy()", f"# {printer.shapes[name]}"))
    phase, module = "", ""
    for line in rolled.lines:
        if line.phase != phase:
            if phase:
                rows.append(("", ""))
            rows.append((f"# {line.phase}", ""))
            phase, module = line.phase, ""
        label = ""
        if line.module is not None and line.module != module:
            label = f"bwd of {line.module}" if phase == "backward" and line.module else line.module
            module = line.module
        shape = "" if line.shape == "()" else line.shape
        comment = "  ".join(part for part in (shape, label) if part)
        indent = "    " * line.indent
        first, *rest = _wrapped(line.code, WIDTH - 4 - len(indent))
        rows.append((indent + first, f"# {comment}" if comment else ""))
        rows += [(indent + code, "") for code in rest]
    if returned:
        first, *rest = _wrapped(returned, WIDTH - 4)
        rows += [("", "")] if rolled.lines else []
        rows += [(first, ""), *((text, "") for text in rest)]
    if not rows:
        rows.append(("pass", ""))
    return _aligned(rows)


def _wrapped(code: str, width: int) -> list[str]:
    """A statement in lines that are not too long: an assignment's right side in brackets."""
    left, equals, right = code.partition(" = ")
    if code.startswith("return "):
        left, equals, right = "return", " ", code.removeprefix("return ")
    if len(code) <= width or not equals or '"' in right or "'" in right:
        return [code]
    return [f"{left}{equals}(", *(f"    {t}" for t in textwrap.wrap(right, width - 4)), ")"]


def _aligned(rows: list[tuple[str, str]]) -> str:
    widths = [len(code) for code, comment in rows if comment and len(code) <= _COLUMN]
    column = max(widths, default=0) + 2
    out = []
    for code, comment in rows:
        line = f"    {code.ljust(column) if len(code) + 2 <= column else code + '  '}{comment}"
        out.append((line if comment else f"    {code}").rstrip())
    return "\n".join(out) + "\n"


def _signature(program: Program, rolled: Rolled) -> str:
    list_of = {n: name for name in rolled.given for n in rolled.lists[name]}
    groups = [
        list(dict.fromkeys(
            list_of.get(i.var.name, i.var.name) for i in program.inputs if i.role in roles
        ))
        for roles in (("argument",), ("parameter",), ("state", "captured"))
    ]  # fmt: skip
    settings = [f"{i.var.name}={value(i.value)}" for i in program.inputs_of("setting")]
    if settings:
        groups.append(["*", *settings])
    groups = [g for g in groups if g]
    flat = ", ".join(name for group in groups for name in group)
    one = f"def {program.name}({flat}):"
    if len(one) <= WIDTH:
        return one
    wrapped = [
        line
        for group in groups
        for line in textwrap.wrap(", ".join(group) + ",", WIDTH - 4, break_long_words=False)
    ]
    return f"def {program.name}(\n" + "".join(f"    {line}\n" for line in wrapped) + "):"


def _returned(outputs: Any, printer: Printer, place: dict[str, str], inner: bool = False) -> str:
    if isinstance(outputs, str):
        code = printer.operand(outputs).code
        return place.get(code, code)
    if isinstance(outputs, dict):
        pairs = (f"{k!r}: {_returned(v, printer, place, True)}" for k, v in outputs.items())
        return f"{{{', '.join(pairs)}}}"
    if isinstance(outputs, tuple | list):
        text = ", ".join(_returned(o, printer, place, True) for o in outputs)
        if isinstance(outputs, list):
            return f"[{text}]"
        text += "," if len(outputs) == 1 else ""
        return f"({text})" if inner or not outputs else text
    return repr(outputs)


def helper_source(function: Callable[..., Any]) -> str:
    """A helper's source without annotations, which name what printed text does not import."""
    text = textwrap.dedent(inspect.getsource(function))
    lines = text.splitlines()
    cuts: list[tuple[ast.AST, ast.AST]] = []  # from the end of the first to that of the second
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.arg) and node.annotation is not None:
            name = ast.copy_location(ast.Name(node.arg), node)
            name.end_lineno, name.end_col_offset = node.lineno, node.col_offset + len(node.arg)
            cuts.append((name, node.annotation))
        elif isinstance(node, ast.AnnAssign):
            cuts.append((node.target, node.annotation))
    for first, last in sorted(cuts, key=lambda c: (c[0].lineno, c[0].col_offset), reverse=True):  # type: ignore[attr-defined]
        at = first.end_lineno - 1  # type: ignore[attr-defined]
        line = lines[at]
        lines[at] = line[: first.end_col_offset] + line[last.end_col_offset :]  # type: ignore[attr-defined]
    kept = (line for line in lines if not line.strip().startswith("# fmt: "))
    return re.sub(r"\) -> [^\n]+:\n", "):\n", "\n".join(kept))
