"""The NumPy runner: a Program as a Python function of NumPy calls that write into kept buffers.

Everything that is known when the Program is planned is decided then: views of parameters are taken
once, every intermediate result has its place in memory, and a place is used again as soon as what
was in it is not needed any more.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextvars import Context
from dataclasses import dataclass
from functools import partial
from operator import call, setitem
from typing import Any

import numpy as np

from groundup.ops.base import Array, quiet
from groundup.ops.reduce import reduced_count
from groundup.program.program import NUMBER_OPS, OPS, Equation, Program, leaves

_END = 1 << 60  # after the last equation


@dataclass
class Slot:
    """A piece of memory that serves one value after another."""

    nbytes: int
    memory: Array | None = None


class Runner:
    """A Program, ready to run.

    Args:
        program: simplified or not; the result is the same.
        held: the arrays of all inputs but arguments and settings, by name. They are read and
            written where they are.
        arguments: arrays and numbers of one call: they tell the memory layout of what follows.
        copies: arrays that get an input's new value, too, by the input's name.
        counted: arrays that grow by a number with each run.

    """

    def __init__(
        self,
        program: Program,
        held: Mapping[str, Array],
        arguments: Mapping[str, Any],
        copies: Mapping[str, Sequence[Array]] | None = None,
        counted: Sequence[tuple[Array, int]] = (),
    ):
        self.copies = copies or {}
        self.program = program
        self.made = {e.out.name: e for e in program.equations if e.out is not None}
        self.held = dict(held)
        self.names = [i.var.name for i in program.inputs_of("argument", "setting")]
        self.returned = list(dict.fromkeys(leaves(program.outputs)))
        self.orders = self._layouts({**held, **arguments})
        self.last = self._last_uses()
        self.space: dict[str, Any] = {}  # the globals of the generated function
        self.fixed: dict[str, Array] = {}  # arrays that are the same at every call
        self.numbers: dict[str, Any] = {}
        self.slots: list[Slot] = []
        self.code: list[str] = []
        self.commits: list[Callable[[], Any]] = []
        self._plan()
        self.commits += [partial(np.add, array, n, out=array) for array, n in counted]
        source = f"def compute({', '.join(self.names)}):\n" + "".join(
            f"    {line}\n"
            for line in [*self.code, f"return ({''.join(r + ', ' for r in self._results())})"]
        )
        self.source = source
        exec(compile(source, f"<numpy runner of {program.name}>", "exec"), self.space)
        self._context = Context()
        self._context.run(np.seterr, all="ignore")
        self._compute: Callable[..., tuple[Any, ...]] = self.space["compute"]

    def __call__(self, values: Sequence[Any]) -> dict[str, Array]:
        """Run on arguments and settings, in the Program's order: the outputs by name.

        Until all is computed nothing is written to parameters and state. Then all is written in a
        single call into C code (no Python function among the commits), during which Python handles
        no signal: whatever interrupts a step leaves them all as they were, or all updated. NumPy's
        error settings are the context's, which a signal cannot leave half set either.
        """
        results = self._context.run(self._compute, *values)
        self._context.run(deque, map(call, self.commits), 0)
        return {
            name: r if type(r) is np.ndarray else np.asarray(r)
            for name, r in zip(self.returned, results, strict=True)
        }

    def written(
        self, name: Callable[[Any], str], inputs: Sequence[str]
    ) -> tuple[list[str], list[str]]:
        """Source that runs the step: lines, and after them an expression for each result.

        Args:
            name: gives a name to what the source needs.
            inputs: the names that arguments and settings have there.

        """
        lines = [f"results = {name(self)}(({''.join(f'{i}, ' for i in inputs)}))"]
        return lines, [f"results[{result!r}]" for result in self.returned]

    @property
    def buffer_bytes(self) -> int:
        """The memory that intermediate results take."""
        return sum(slot.nbytes for slot in self.slots)

    # Planning

    def _layouts(self, values: dict[str, Any]) -> dict[str, str]:
        """The memory order of every value, found by computing them all once, freely."""
        found: dict[str, str] = {}
        values = {k: v.copy("K") if isinstance(v, np.ndarray) else v for k, v in values.items()}
        uses = self.program.uses
        with quiet():
            for i, e in enumerate(self.program.equations):
                result = evaluate(e, values)
                if e.out is None:
                    continue
                values[e.out.name] = result
                if isinstance(result, np.ndarray):
                    flags = result.flags
                    found[e.out.name] = (
                        "C" if flags.c_contiguous else "F" if flags.f_contiguous else "K"
                    )
                    if found[e.out.name] == "K" and not OPS[e.op].is_view:
                        found[e.out.name] = "fresh"
                for name in e.names:
                    if uses[name][-1] == i and name in found and -1 not in uses[name]:
                        values.pop(name, None)
        return found

    def _last_uses(self) -> dict[str, int]:
        last = dict.fromkeys(self.program.vars, -1)
        for i, e in enumerate(self.program.equations):
            for name in e.names:
                last[name] = i
        for name in [*self.returned, *(new for _, new in self.program.updates)]:
            last[name] = _END  # and so, below, what a returned view shows
        for e in reversed(self.program.equations):
            if e.out is not None and OPS[e.op].is_view:
                source = str(e.ins[0])
                last[source] = max(last[source], last[e.out.name])
        return last

    def _plan(self) -> None:
        self.space |= self.held
        self.fixed |= self.held
        plans = self.program.equations
        to_fuse = self._to_fuse()
        for e in to_fuse:
            assert e.out is not None
            for name in e.names:
                self._keep_to_the_end(name)
        fused = {id(e) for e in to_fuse}
        free: list[Slot] = []
        places: dict[str, Slot] = {}
        # First the places, then the memory, then the code.
        assigned: dict[str, Slot] = {}
        for i, e in enumerate(plans):
            if e.out is not None and id(e) not in fused and self._wants_slot(e):
                slot = self._take(free, e, i, places)
                places[e.out.name] = assigned[e.out.name] = slot
            for name in dict.fromkeys([*e.names, *([e.out.name] if e.out else [])]):
                if name in places and self.last[name] <= i:
                    free.append(places.pop(name))
        for slot in self.slots:
            slot.memory = _aligned(slot.nbytes)
        for name, slot in assigned.items():
            self._fix(name, _view(slot, self.program.vars[name], self.orders[name]))
        for e in plans:
            if id(e) not in fused:
                self._equation(e, assigned)
        self._updates(fused)

    def _keep_to_the_end(self, name: str) -> None:
        self.last[name] = _END
        e = self.made.get(name)
        if e is not None and OPS[e.op].is_view:
            self._keep_to_the_end(str(e.ins[0]))

    def _to_fuse(self) -> list[Equation]:
        """The last op before an update that writes right into the parameter.

        It may read the parameter that it writes, and no other that this step writes.
        """
        written = {target for target, _ in self.program.updates}
        targets: dict[str, list[str]] = {}
        for target, new in self.program.updates:
            targets.setdefault(new, []).append(target)
        known, found = self.program.vars, []
        for e in self.program.equations:
            if e.out is None or len(targets.get(e.out.name, ())) != 1:
                continue
            (target,) = targets[e.out.name]
            if self.program.uses[e.out.name] != [-1] or e.out.name in self.returned:
                continue
            if not OPS[e.op].ufunc or not OPS[e.op].elementwise:
                continue
            if all(
                self._has_slot_or_is_held(n)
                and not (n in written and n != target)
                and not known[n].is_number
                for n in e.names
            ):
                found.append(e)
        return found

    def _has_slot_or_is_held(self, name: str) -> bool:
        if name in self.held:
            return True
        e = self.made.get(name)
        return e is not None and self._wants_slot(e)

    def _wants_slot(self, e: Equation) -> bool:
        """Whether the equation's result goes into a buffer."""
        assert e.out is not None
        if e.out.is_number or e.out.name in self.returned or not e.out.size:
            return False
        return _statement(e, e.out.name, self._shapes(e), ["x"] * len(e.ins)) is not None and (
            self.orders[e.out.name] in ("C", "F")
        )

    def _shapes(self, e: Equation) -> list[tuple[int, ...]]:
        known = self.program.vars
        return [known[i].shape if isinstance(i, str) else () for i in e.ins]

    def _take(self, free: list[Slot], e: Equation, i: int, places: dict[str, Slot]) -> Slot:
        """A place for a result: an input's that is not needed any more, a free one, a new one."""
        assert e.out is not None
        nbytes = e.out.nbytes
        if OPS[e.op].elementwise and OPS[e.op].ufunc:
            for name in dict.fromkeys(e.names):
                var = self.program.vars[name]
                same = (var.shape, var.dtype) == (e.out.shape, e.out.dtype)
                if (
                    same
                    and name in places
                    and self.last[name] == i
                    and (self.orders[name] == self.orders[e.out.name])
                ):
                    return places.pop(name)
        fitting = [s for s in free if s.nbytes >= nbytes]
        if fitting:
            slot = min(fitting, key=lambda s: s.nbytes)
        elif free:
            slot = max(free, key=lambda s: s.nbytes)
        else:
            slot = Slot(nbytes)
            self.slots.append(slot)
            return slot
        free.remove(slot)
        slot.nbytes = max(slot.nbytes, nbytes)
        return slot

    def _fix(self, name: str, array: Array) -> None:
        self.fixed[name] = self.space[name] = array

    # Code

    def _equation(self, e: Equation, assigned: Mapping[str, Slot]) -> None:
        op, attrs = OPS[e.op], dict(e.attrs)
        ins = [self._written(i) for i in e.ins]
        if e.out is None:
            self.code.append(f"{self._bound(op.forward, attrs)}({', '.join(ins)})")
            return
        name = e.out.name
        if e.op == "size":
            shape = self.program.vars[str(e.ins[0])].shape
            self.numbers[name] = reduced_count(shape, attrs["axis"])
        elif e.op == "value":
            self.code.append(f"{name} = int({ins[0]})")
        elif e.out.is_number:
            self.code.append(f"{name} = {_arithmetic(e.op, ins)}")
        elif not e.ins or e.op == "arange":  # a constant, as long as shapes are what they are
            array = op.forward(*(np.empty(s) for s in self._shapes(e)), **attrs)
            array.flags.writeable = False
            self._fix(name, array)
        elif op.is_view and str(e.ins[0]) in self.fixed:
            self._view(e, name)
        elif name in assigned:
            statement = _statement(e, name, self._shapes(e), ins)
            assert statement is not None
            self.space |= _FUNCTIONS
            self.code += statement
        elif e.op == "cast" and self.program.vars[str(e.ins[0])].is_number:
            self.space[f"as_{e.out.dtype}"] = np.dtype(e.out.dtype).type
            self.code.append(f"{name} = as_{e.out.dtype}({ins[0]})")
        elif op.ufunc and op.elementwise:
            self.space |= _FUNCTIONS
            self.code.append(f"{name} = {_short(op.ufunc)}({', '.join(ins)})")
        else:
            self.code.append(f"{name} = {self._bound(op.forward, attrs)}({', '.join(ins)})")

    def _view(self, e: Equation, name: str) -> None:
        source = self.fixed[str(e.ins[0])]
        array = OPS[e.op].forward(source, **dict(e.attrs))
        if array.size and not np.may_share_memory(array, source):  # reshape had to copy
            self.code.append(
                f"{name} = {self._bound(OPS[e.op].forward, dict(e.attrs))}({e.ins[0]})"
            )
        else:
            self._fix(name, array)

    def _written(self, operand: Any) -> str:
        if not isinstance(operand, str):
            return _literal(operand)
        return repr(self.numbers[operand]) if operand in self.numbers else operand

    def _bound(self, forward: Callable[..., Any], attrs: dict[str, Any]) -> str:
        name = f"op_{len(self.space)}"
        self.space[name] = partial(forward, **attrs) if attrs else forward
        return name

    def _results(self) -> list[str]:
        """The outputs; what lies in memory that will be written to again is copied."""
        fresh = []
        for name in self.returned:
            e = self.made.get(name)
            shows_other = e is None or OPS[e.op].is_view or name in self.fixed
            fresh.append(f"{name}.copy()" if shows_other else name)
        return fresh

    def _updates(self, fused: set[int]) -> None:
        late: list[str] = []
        for n, (target, new) in enumerate(self.program.updates):
            array, e = self.held[target], self.made.get(new)
            if e is not None and id(e) in fused:
                args = [self.fixed[i] if isinstance(i, str) else i for i in e.ins]
                self.commits.append(partial(_FUNCTIONS[_short(OPS[e.op].ufunc)], *args, out=array))
            elif new in self.fixed and e is not None and not OPS[e.op].is_view:
                self.commits.append(partial(setitem, array, ..., self.fixed[new]))
            else:
                # A value that is not in a buffer of its own waits in one.
                buffer = np.empty_like(array)
                self.space[f"new_{n}"] = buffer
                self.space |= _FUNCTIONS
                late.append(f"copyto(new_{n}, {new})")
                self.commits.append(partial(setitem, array, ..., buffer))
            self.commits += [
                partial(setitem, other, ..., array) for other in self.copies.get(target, ())
            ]
        self.code += late


def evaluate(e: Equation, values: Mapping[str, Any]) -> Any:
    """One equation, computed from arrays and numbers by name as the eager step did."""
    op, attrs = OPS[e.op], dict(e.attrs)
    ins = [values[i] if isinstance(i, str) else i for i in e.ins]
    if e.out is not None and e.out.is_number and e.op not in ("size", "value"):
        return NUMBER_OPS[e.op](*ins)
    if e.op == "cast" and not isinstance(ins[0], np.ndarray):
        return np.array(ins[0], attrs["dtype"])
    result = op.forward(*ins, **attrs)
    return result if e.out is None or e.out.is_number else np.asarray(result)


def _arithmetic(op: str, ins: Sequence[str]) -> str:
    """Python's arithmetic on numbers."""
    if op == "neg":
        return f"-{ins[0]}"
    symbol = {"add": "+", "sub": "-", "mul": "*", "div": "/", "power": "**"}[op]
    return f"{ins[0]} {symbol} {ins[1]}"


def _literal(number: Any) -> str:
    """A number as Python reads it, whatever stands beside it: -2**n is -(2**n)."""
    finite = not isinstance(number, float) or math.isfinite(number)
    text = repr(number) if finite else f"float('{number}')"
    return f"({text})" if text.startswith("-") else text


_FUNCTIONS: dict[str, Any] = {
    name: getattr(np, name)
    for name in (
        "add", "subtract", "multiply", "true_divide", "negative", "power", "exp", "expm1", "log",
        "log1p", "sqrt", "sin", "cos", "tanh", "abs", "sign", "floor", "maximum", "minimum", "less",
        "less_equal", "greater", "greater_equal", "equal", "not_equal", "logical_and", "logical_or",
        "logical_not", "matmul", "copyto", "concatenate", "square",
    )
}  # fmt: skip
_FUNCTIONS |= {
    "add_reduce": np.add.reduce,
    "maximum_reduce": np.maximum.reduce,
    "minimum_reduce": np.minimum.reduce,
}


def _short(ufunc: str) -> str:
    return ufunc.removeprefix("np.").replace(".", "_")


def _statement(
    e: Equation, out: str, shapes: Sequence[tuple[int, ...]], ins: Sequence[str]
) -> list[str] | None:
    """Source that writes the equation's result into the array `out`; None if NumPy offers none."""
    op, attrs = OPS[e.op], dict(e.attrs)
    args = ", ".join(ins)
    if op.ufunc and op.elementwise:
        return [f"{_short(op.ufunc)}({args}, out={out})"]
    if op.ufunc:  # a reduction: (x, axis, dtype, out, keepdims)
        return [f"{_short(op.ufunc)}({args}, {attrs['axis']}, None, {out}, {attrs['keepdims']})"]
    if e.op == "mean" and e.out is not None and e.out.dtype != "float16":  # NumPy adds in float32
        count = reduced_count(shapes[0], attrs["axis"])
        return [
            f"add_reduce({args}, {attrs['axis']}, None, {out}, {attrs['keepdims']})",
            f"true_divide({out}, {count}, {out})",
        ]
    if e.op == "matmul" and (len(shapes[0]) <= 2 or len(shapes[1]) != 2):
        return [f"matmul({args}, {out})"]
    if e.op == "relu":
        return [f"maximum({args}, 0, out={out})"]
    if e.op == "clamp":
        lines: list[str] = []
        for function, bound in (("maximum", attrs["low"]), ("minimum", attrs["high"])):
            if bound is not None:
                source = out if lines else args
                lines.append(f"{function}({source}, {_literal(bound)}, out={out})")
        return lines
    if e.op == "pow" and attrs["exponent"] == 2:
        return [f"square({args}, {out})"]
    if e.op == "where":
        condition, x, y = ins
        return [f"copyto({out}, {y})", f"copyto({out}, {x}, 'same_kind', {condition})"]
    if e.op == "cast":
        return [f"copyto({out}, {args}, 'unsafe')"]
    if e.op == "concatenate":
        return [f"concatenate(({args},), {attrs['axis']}, {out})"]
    return None


def _aligned(nbytes: int) -> Array:
    """Bytes that begin at a multiple of 64."""
    memory = np.empty(nbytes + 64, np.uint8)
    start = -memory.ctypes.data % 64
    aligned: Array = memory[start : start + nbytes]
    return aligned


def _view(slot: Slot, var: Any, order: str) -> Array:
    assert slot.memory is not None
    flat = slot.memory[: var.nbytes].view(var.dtype)
    shaped: Array = flat.reshape(var.shape, order="F" if order == "F" else "C")
    return shaped
