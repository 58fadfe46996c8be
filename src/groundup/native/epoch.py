"""Many steps in one native call: minibatches of rows chosen by their indices.

The Program is rewritten so that each argument is `take(whole array, rows)`: a tile's rows are
gathered as it begins. Between two steps every thread moves the pointers of its own table on.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from llvmlite import ir

from groundup.native.code import step_function
from groundup.native.emit import ARRAYS, FLAGS
from groundup.native.engine import Engine, array_dtype
from groundup.native.llvm import I8, I64, POINTER, VOID, define, for_range, i64
from groundup.native.plan import REST
from groundup.native.threads import emit_barrier
from groundup.ops.base import Array
from groundup.ops.indexing import ARRAY
from groundup.program.program import Equation, Input, Program, Var


def over_rows(program: Program, lengths: Mapping[str, int]) -> Program:
    """The Program of a step that takes its rows from whole arrays.

    Args:
        program: of a step of a batch.
        lengths: for each argument the rows of the array that it is taken from.

    """
    rows = Var("rows" + REST, (program.batch,), "int64")
    inputs, equations = [Input(rows, "argument")], []
    for given in program.inputs:
        var = given.var
        if var.name not in lengths:
            inputs.append(given)
            continue
        whole = Var(var.name + REST, (lengths[var.name], *var.shape[1:]), var.dtype)
        inputs.append(Input(whole, "captured"))
        equations.append(Equation(var, "take", (whole.name, rows.name), (("pattern", (ARRAY,)),)))
    return replace(program, inputs=tuple(inputs), equations=(*equations, *program.equations))


class EpochEngine(Engine):
    """Runs a step for batch after batch without coming back to Python in between.

    Args:
        engine: the step's own: this one works on the same parameters and state, in as many threads
            and as large tiles, so that the results are the same bits.
        lengths: for each argument the rows of the array that its batches are taken from.

    """

    def __init__(self, engine: Engine, lengths: Mapping[str, int]):
        program = over_rows(engine.program, lengths)
        self.moves: list[tuple[int, int]] = []
        self.whole = [name + REST for name in lengths]
        super().__init__(
            program, engine.held, engine.copied, engine.counts_given, engine.threads,
            engine.plan.target, engine.plan.tile or None,
        )  # fmt: skip

    def _made_ready(self) -> None:
        """There is no single step."""

    def _functions(self, module: ir.Module) -> None:
        """The loop over batches: `batches(context, thread, threads)`.

        The context holds the tables' address, the number of batches, and where to write how many
        are done.
        """
        at = {name: ARRAYS + i for i, name in enumerate(self.plan.arrays)}
        settings = [n for n, i in enumerate(self.program.inputs_of("argument", "setting"))
                    if i.role == "setting"]  # fmt: skip
        names = [i.var.name for i in self.program.inputs_of("argument", "setting")]
        self.moves = [(at[self.names[0]], 8 * self.program.batch)]
        self.moves += [(at[names[n]], 8 * len(names)) for n in settings]
        self.moves += [
            (at[v.name], math.prod(v.shape) * array_dtype(v.dtype).itemsize)
            for v in self.plan.returned.values()
        ]
        self.slots = ARRAYS + len(self.plan.arrays) + len(self.counted)
        function, b = define(module, "batches", VOID, POINTER, I64, I64, internal=False)
        context, thread, threads = function.args

        def entry(n: int) -> Any:
            return b.load(b.gep(context, [i64(n)], source_etype=POINTER), typ=POINTER)

        table = b.gep(entry(0), [b.mul(thread, i64(8 * self.slots))], source_etype=I8)
        count = b.load(b.gep(context, [i64(1)], source_etype=I64), typ=I64)
        done, flags = (
            entry(2),
            b.load(b.gep(table, [i64(FLAGS)], source_etype=POINTER), typ=POINTER),
        )
        step = step_function(module)
        # Threads must agree on whether a batch is bad: they look when all are behind the last check
        # and none has begun with the next batch. Before an update they have met anyway.
        meet_again = not any(stage.final for stage in self.plan.stages) and not self.counted
        end = b.append_basic_block("end")
        with for_range(b, i64(0), count) as i:
            b.call(step, [table, thread, threads])
            if self.plan.threads > 1 and meet_again:
                emit_barrier(b, threads)
            wrong = b.icmp_unsigned("!=", b.load(flags, typ=I64), i64(0))
            if self.plan.threads > 1:
                emit_barrier(b, threads)
            go_on = b.append_basic_block("go_on")
            b.cbranch(wrong, end, go_on)
            b.position_at_end(go_on)
            with b.if_then(b.icmp_unsigned("==", thread, i64(0))):
                b.store(b.add(i, i64(1)), done)
            for slot, stride in self.moves:
                place = b.gep(table, [i64(slot)], source_etype=I64)
                b.store(b.add(b.load(place, typ=I64), i64(stride)), place)
        b.branch(end)
        b.position_at_end(end)
        b.ret_void()

    def run(
        self, arrays: Sequence[Array], rows: Array, settings: Array, results: Sequence[Array],
        done: Array,
    ) -> int:  # fmt: skip
        """Run a step for each row of `rows`.

        Args:
            arrays: the whole arrays, contiguous.
            rows: int64 (batches, rows of a batch), contiguous.
            settings: float64 (batches, inputs), for each batch the settings in their places.
            results: for each output an array (batches, ...).
            done: int64 (1,), where the machine code counts the steps.

        Returns:
            How many steps were made: fewer than there are batches if one found bad input.

        """
        self._last = [None] * len(self.names)
        for name, array in zip(self.whole, arrays, strict=True):
            self.table[self.at[name]] = array.ctypes.data
        self.table[self.at[self.names[0]]] = rows.ctypes.data
        for n, given in enumerate(self.given):
            if given[1] is None:
                self.table[self.at[self.names[n]]] = settings.ctypes.data + 8 * n
        for (_, where, *_), array in zip(self.results, results, strict=True):
            self.table[where] = array.ctypes.data
        tables = np.tile(self.table, (self.plan.threads, 1))
        context = np.array([tables.ctypes.data, len(rows), done.ctypes.data], np.int64)
        self.flags[0] = 0
        self._launch(self.compiled.address("batches"), context.ctypes.data, self.plan.threads)
        self.flags[0] = 0
        return int(done[0])
