"""The native engine: runs a Program as machine code, in place of the NumPy runner."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from sys import getrefcount
from typing import Any

import numpy as np
from llvmlite import ir

from groundup.errors import ProgramError
from groundup.native.assemble import Plan, assemble
from groundup.native.code import Count, module_of
from groundup.native.elementwise import Unsupported
from groundup.native.emit import ALIGNED, ARRAYS, FLAGS, LARGE, SHARED, THREADS
from groundup.native.llvm import Compiled, Target, host
from groundup.native.threads import default_threads, pool
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
        self._functions(module)
        self.compiled = Compiled(module, self.plan.target)
        self.job = self.compiled.address("step")
        self._prepare()

    def _functions(self, module: ir.Module) -> None:
        """Functions besides the step."""

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
        self.values: Sequence[Any] = ()  # of the last call
        self._kept: dict[str, Array] = {}  # the last large results
        self._copies: dict[int, Array] = {}  # of arguments in another order
        self._made: dict[int, Array] = {}  # what NumPy computed for this step
        self._last: list[Any] = [None] * len(self.names)  # the arrays that the table points to
        for name, array in {**self.held, **plan.planner.constants}.items():
            self.table[at[name]] = array.ctypes.data
        self.hosted = [(e, at[e.out.name]) for e in plan.planner.hosted if e.out is not None]
        self.results = [(name, at[v.name], v.shape, array_dtype(v.dtype))
                        for name, v in plan.returned.items()]  # fmt: skip
        self._whole_numbers = [n for n, v in plan.returned.items() if v.dtype == "int"]
        # Small results are copied out of arrays that stay: cheaper than telling new addresses.
        self._small: list[tuple[str, Array]] = []
        self._large: list[tuple[str, int, Any, Any]] = []
        for name, where, shape, dtype in self.results:
            array = np.zeros(shape, dtype)
            if array.nbytes <= _SMALL:
                self.table[where] = array.ctypes.data
                self._small.append((name, array))
            else:
                self._large.append((name, where, shape, dtype))
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
        self.values = values
        table, settings, last = self._table, self._settings, self._last
        for n, value in enumerate(values):
            if value is last[n]:
                continue
            where, dtype, shape = self.given[n]
            if dtype is None:
                settings[where] = value
                continue
            if value.dtype != dtype or value.shape != shape:
                raise ProgramError(
                    f"{self.program.name} takes {shape} {dtype}, not {value.shape} {value.dtype}"
                )
            if value.flags.c_contiguous:
                last[n] = value
            else:
                value, last[n] = np.ascontiguousarray(value), None
                self._copies[n] = value
            table[where] = value.ctypes.data
        for e, where in self.hosted:
            with quiet():
                made = np.ascontiguousarray(evaluate(e, self.held))
            self._made[where] = made
            table[where] = made.ctypes.data
        found = {}
        for name, where, shape, dtype in self._large:
            array = self._kept.pop(name, None)
            # The last call's result serves again, if nobody else holds it: no new pages of memory.
            # A large one is a view itself, and others' views of it are views of its base, too.
            if (
                array is None or getrefcount(array) > 2
                or (array.base is not None and getrefcount(array.base) > 2)
            ):  # fmt: skip
                array = result_array(shape, dtype)
            found[name] = self._kept[name] = array
            table[where] = array.ctypes.data
        self._launch(self.job, self._context, self.threads)
        if self._flags[0]:
            self._flags[0] = 0
            self._complain(values)
        for name, array in self._small:
            found[name] = array.copy()
        for name in self._whole_numbers:
            found[name] = found[name].astype(np.int64)
        return found

    def launch(self, job: int) -> None:
        """Run a native function on this engine's memory, as it is."""
        self._launch(job, self._context, self.threads)

    def _complain(self, values: Sequence[Any]) -> None:
        """Raise what NumPy raises for the same input."""
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
