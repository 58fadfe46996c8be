"""The native engine: runs a Program as machine code, in place of the NumPy runner."""

from __future__ import annotations

import ctypes
import math
from collections.abc import Callable, Mapping, Sequence
from sys import getrefcount
from typing import Any

import numpy as np
from llvmlite import ir

from groundup.errors import ProgramError
from groundup.native.assemble import Plan, assemble
from groundup.native.code import Count, module_of, step_function
from groundup.native.elementwise import Unsupported
from groundup.native.emit import ALIGNED, ARRAYS, FLAGS, LARGE, SHARED, THREADS
from groundup.native.llvm import I64, POINTER, Compiled, Target, define, host, i64
from groundup.native.threads import default_threads, emit_launch, pool
from groundup.ops.base import Array, quiet
from groundup.program.program import Program, leaves
from groundup.program.runner import evaluate

__all__ = ["Engine", "Unsupported"]

_SMALL = 1024  # bytes of a result that is copied


class Engine:
    """A Program as machine code.

    Args:
        program: simplified.
        held: the arrays of all inputs but arguments and settings, by name. They are read and
            written where they are.
        copies: arrays that get an input's new value, too, by the input's name.
        counted: arrays that grow by a number with each run.
        threads: how many run it; None: as many as there are cores, or one where others would not
            pay.
        target: what to compile for; None: the CPU at hand.
        tile: rows of the batch that go through at a time; None chooses.

    Raises:
        Unsupported: something in the Program is left to NumPy.

    """

    def __init__(
        self,
        program: Program,
        held: Mapping[str, Array],
        copies: Mapping[str, Sequence[Array]] | None = None,
        counted: Sequence[tuple[Array, int]] = (),
        threads: int | None = None,
        target: Target | None = None,
        tile: int | None = None,
    ):
        self.program, self.held = program, dict(held)
        self.copied, self.counts_given = copies or {}, list(counted)
        self.names = [i.var.name for i in program.inputs_of("argument", "setting")]
        self.returned = list(dict.fromkeys(leaves(program.outputs)))
        self.plan: Plan = assemble(
            program, self.held, target or host(), threads or default_threads(), tile
        )
        self.threads = self.plan.threads
        module = module_of(self.plan, self._counts())
        self._prepare()
        self._functions(module)
        self.compiled = Compiled(module, self.plan.target)
        self.job = self.compiled.address("step")
        self._made_ready()

    def _functions(self, module: ir.Module) -> None:
        """Functions besides the step: `call()`, which runs it and gives what was flagged.

        All that it works on stays where it is, so it takes no arguments: to convert three would
        take Python longer than all else about a call.
        """
        _, b = define(module, "call", I64, internal=False)
        table = b.inttoptr(i64(self.table.ctypes.data), POINTER)
        if self.threads == 1:
            b.call(step_function(module), [table, i64(0), i64(1)])
        else:
            step = b.ptrtoint(step_function(module), I64)
            emit_launch(b, step, table, self.threads)
        flags = b.load(b.gep(table, [i64(FLAGS)], source_etype=POINTER), typ=POINTER)
        b.ret(b.load(flags, typ=I64))

    def _made_ready(self) -> None:
        """The Python side of a call."""
        # A short step keeps Python's GIL: to ask for it again, beside a busy Python thread, would
        # take 5 ms (sys.getswitchinterval).
        kind = ctypes.PYFUNCTYPE if self.plan.short else ctypes.CFUNCTYPE
        self._call = kind(ctypes.c_int64)(self.compiled.address("call"))
        self.run_on = self._written_out()

    def _written_out(self) -> Callable[..., tuple[Array, ...]]:
        """The function that runs the step on arguments and settings, as source without loops."""
        known: dict[str, Any] = {}

        def name(value: Any) -> str:
            known[f"v{len(known)}"] = value
            return f"v{len(known) - 1}"

        names = [f"x{n}" for n in range(len(self.names))]
        lines, results = self.written(name, names)
        lines.append(f"return ({''.join(f'{result}, ' for result in results)})")
        source = "\n    ".join([f"def run_on({', '.join(names)}):", *lines])
        exec(compile(source, f"<a call of {self.program.name}>", "exec"), known)
        run_on: Callable[..., tuple[Array, ...]] = known["run_on"]
        return run_on

    def written(
        self, name: Callable[[Any], str], inputs: Sequence[str]
    ) -> tuple[list[str], list[str]]:
        """Source that runs the step: see `Runner.written`."""
        last, lines, results = name(self._last), [], []
        for n, (_, dtype, _) in enumerate(self.given):
            change = name(self._set if dtype is None else self._point)
            lines.append(f"if {inputs[n]} is not {last}[{n}]: {change}({n}, {inputs[n]})")
        if self.hosted:
            lines.append(f"{name(self._host)}()")
        small = dict(self._small)
        for n, (result, value) in enumerate(self.plan.returned.items()):
            if result in small:
                copy = "astype('int64')" if value.dtype == "int" else "copy()"
                results.append(f"{name(small[result])}.{copy}")
            else:
                lines.append(f"r{n} = {name(self._large_result)}({n})")
                results.append(f"r{n}")
        complain = f"{name(self._complain)}([{', '.join(inputs)}])"
        lines.append(f"if {name(self._call)}(): {complain}")
        return lines, results

    def _counts(self) -> list[Count]:
        """What is counted besides the Program, in places behind the table's arrays."""
        self.counted: list[Array] = []
        first = ARRAYS + len(self.plan.arrays)
        found = []
        for name, others in self.copied.items():
            source = ARRAYS + self.plan.arrays.index(name)
            for other in others:
                found.append(Count(first + len(self.counted), other.size, source=source))
                self.counted.append(other)
        for array, n in self.counts_given:
            found.append(Count(first + len(self.counted), array.size, add=n))
            self.counted.append(array)
        if any(a.dtype != np.int64 or not a.flags.c_contiguous for a in self.counted):
            raise Unsupported("counts that are no int64 arrays in one piece")
        return found

    def _prepare(self) -> None:
        """Memory, and the table of pointers with all that stays where it is."""
        plan = self.plan
        self.memory = [
            aligned(plan.shared_bytes), aligned(plan.thread_bytes * plan.threads)
        ]  # fmt: skip
        self.flags = np.zeros(8, np.int64)
        first = ARRAYS + len(plan.arrays)
        self.table = np.zeros(first + len(self.counted), np.int64)
        self.table[first:] = [array.ctypes.data for array in self.counted]
        self.table[SHARED], self.table[THREADS] = (m.ctypes.data for m in self.memory)
        self.table[FLAGS] = self.flags.ctypes.data
        self.at = at = {name: ARRAYS + i for i, name in enumerate(plan.arrays)}
        self.settings = np.zeros(len(self.names))
        known = {i.var.name: i.var for i in self.program.inputs}
        # For each input where it goes: a place among the settings, or one in the table, with what
        # is expected there.
        self.given: list[tuple[int, Any, Any]] = []
        for n, name in enumerate(self.names):
            if known[name].is_number:
                self.table[at[name]] = self.settings.ctypes.data + 8 * n
                self.given.append((n, None, None))
            else:
                self.given.append((at[name], np.dtype(known[name].dtype), known[name].shape))
        self._kept: dict[int, Array] = {}  # the last large results
        self._copies: dict[int, Array] = {}  # of arguments in another order
        self._made: dict[int, Array] = {}  # what NumPy computed for this step
        # The arrays that the table points to, and the settings as they are in memory.
        self._last: list[Any] = [None] * len(self.names)
        for name, array in {**self.held, **plan.planner.constants}.items():
            self.table[at[name]] = array.ctypes.data
        self.hosted = [(e, at[e.out.name]) for e in plan.planner.hosted if e.out is not None]
        self.results = [(name, at[v.name], v.shape, array_dtype(v.dtype))
                        for name, v in plan.returned.items()]  # fmt: skip
        # Small results are copied out of arrays that stay: cheaper than telling new addresses.
        self._small: list[tuple[str, Array]] = []
        for name, where, shape, dtype in self.results:
            array = np.zeros(shape, dtype)
            if array.nbytes <= _SMALL:
                self.table[where] = array.ctypes.data
                self._small.append((name, array))
        # Python reads and writes single numbers faster through memoryviews.
        self._table, self._settings, self._flags = (
            memoryview(a)  # type: ignore[arg-type]
            for a in (self.table, self.settings, self.flags)
        )
        self._context = self.table.ctypes.data
        self._launch = pool().launch

    @property
    def buffer_bytes(self) -> int:
        """The memory that intermediate results take."""
        return sum(m.nbytes for m in self.memory)

    def __call__(self, values: Sequence[Any]) -> dict[str, Array]:
        """Run on arguments and settings, in the Program's order: the outputs by name.

        Parameters and state are written last, when all else is done, and not at all where a check
        finds the input bad.
        """
        return dict(zip(self.plan.returned, self.run_on(*values), strict=True))

    def _point(self, n: int, value: Array) -> None:
        """Tell the address of an argument."""
        where, dtype, shape = self.given[n]
        if value.dtype != dtype or value.shape != shape:
            raise ProgramError(
                f"{self.program.name} takes {shape} {dtype}, not {value.shape} {value.dtype}"
            )
        if value.flags.c_contiguous:
            self._last[n] = value
        else:
            value, self._last[n] = np.ascontiguousarray(value), None
            self._copies[n] = value
        self._table[where] = value.ctypes.data

    def _set(self, n: int, value: Any) -> None:
        """Tell a setting."""
        self._settings[n] = value
        self._last[n] = value

    def _host(self) -> None:
        """Compute what is left to NumPy."""
        for e, where in self.hosted:
            with quiet():
                made = np.ascontiguousarray(evaluate(e, self.held))
            self._made[where] = made
            self._table[where] = made.ctypes.data

    def _large_result(self, n: int) -> Array:
        """An array for a result, whose address is told."""
        _, where, shape, dtype = self.results[n]
        array = self._kept.pop(n, None)
        # The last call's result serves again, if nobody else holds it: no new pages of memory.
        # A large one is a view itself, and others' views of it are views of its base, too.
        if (
            array is None or getrefcount(array) > 2
            or (array.base is not None and getrefcount(array.base) > 2)
        ):  # fmt: skip
            array = result_array(shape, dtype)
        self._kept[n] = array
        self._table[where] = array.ctypes.data
        return array

    @property
    def values(self) -> list[Any]:
        """The last call's arguments and settings."""
        return [self._copies[n] if v is None else v for n, v in enumerate(self._last)]

    def launch(self, job: int) -> None:
        """Run a native function on this engine's memory, as it is."""
        self._launch(job, self._context, self.threads)

    def _complain(self, values: Sequence[Any]) -> None:
        """Raise what NumPy raises for the same input."""
        self._flags[0] = 0
        known: dict[str, Any] = {**self.held, **dict(zip(self.names, values, strict=True))}
        with quiet():
            for e in self.program.equations:
                result = evaluate(e, known)
                if e.out is not None:
                    known[e.out.name] = result
        raise ProgramError(f"{self.program.name}: the native engine found bad input, NumPy did not")


def array_dtype(dtype: str) -> np.dtype[Any]:
    """NumPy's dtype for a value's; Python numbers are kept as doubles."""
    return np.dtype(np.float64 if dtype in ("int", "float") else dtype)


def result_array(shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
    """An array for a result; a large one begins where it can be written past the caches."""
    nbytes = math.prod(shape) * dtype.itemsize
    if nbytes < LARGE:
        return np.empty(shape, dtype)
    memory = np.empty(nbytes + ALIGNED, np.uint8)
    start = -memory.ctypes.data % ALIGNED
    return memory[start : start + nbytes].view(dtype).reshape(shape)


def aligned(nbytes: int) -> Array:
    """Zeroed bytes that begin at a multiple of 64."""
    memory = np.zeros(nbytes + 64, np.uint8)
    start = -memory.ctypes.data % 64
    found: Array = memory[start : start + nbytes]
    return found
