"""Times of a step's kernels, next to the machine's matrix-product peak."""

from __future__ import annotations

from time import perf_counter, sleep
from typing import Any

import numpy as np

from groundup.native.code import clock, module_of
from groundup.native.emit import TIMES
from groundup.native.engine import Engine
from groundup.native.llvm import I64, Compiled, Target, define, new_module
from groundup.native.show import KernelTime, Report, kernel_flops, shown_names
from groundup.program.program import Equation, Input, Program, Var

_ROUNDS, _SECONDS = 200, 0.5  # at most


def report(engine: Engine) -> Report:
    """Measure an engine's step on copies of its arrays, with the last call's arguments."""
    held = {name: array.copy() for name, array in engine.held.items()}
    copy = Engine(engine.program, held, threads=engine.threads, target=engine.plan.target,
                  tile=engine.plan.tile or None)  # fmt: skip
    timed = Compiled(module_of(copy.plan, timed=True), copy.plan.target)
    kernels = [(stage, kernel) for stage in copy.plan.stages for kernel in stage.kernels]
    times = np.zeros(len(kernels), np.int64)
    copy.table[TIMES] = times.ctypes.data
    copy(engine.values)  # the table points to the arguments from now on
    best = np.full(len(kernels), np.iinfo(np.int64).max)
    job = timed.address("step")
    began = perf_counter()
    for _ in range(_ROUNDS):
        times[:] = 0
        copy.launch(job)
        np.minimum(best, times, out=best)
        if perf_counter() - began > _SECONDS:
            break
    rate = clock_rate(copy.plan.target)
    whole = _least(lambda: copy.launch(copy.job))
    return Report(
        [
            KernelTime(stage.name, shown_names(kernel), float(cycles) / rate, kernel_flops(kernel))
            for (stage, kernel), cycles in zip(kernels, best, strict=True)
        ],
        whole,
        sum(kernel_flops(kernel) for _, kernel in kernels),
        peak(engine.threads, engine.plan.target),
        engine.threads,
    )  # fmt: skip


def _least(call: Any) -> float:
    """The least seconds that a call takes."""
    least, began = float("inf"), perf_counter()
    for _ in range(_ROUNDS):
        start = perf_counter()
        call()
        least = min(least, perf_counter() - start)
        if perf_counter() - began > _SECONDS:
            break
    return least


def peak(threads: int, target: Target) -> float:
    """Floating-point operations a second of a product of float32 matrices that stay in the cache.

    512 rows for each thread, 256 terms, 128 columns.
    """
    rows, terms, columns = 512 * threads, 256, 128
    x, w = Var("x", (rows, terms), "float32"), Var("w", (terms, columns), "float32")
    out = Var("out", (rows, columns), "float32")
    product = Equation(out, "matmul", ("x", "w"))
    total = Equation(Var("total", (), "float32"), "sum", ("out",),
                     (("axis", None), ("keepdims", False)))  # fmt: skip
    program = Program(
        "peak", (Input(x, "argument"), Input(w, "parameter")), (product, total), "total", ()
    )
    random = np.random.default_rng(0)
    held = {"w": random.standard_normal(w.shape, np.float32)}
    engine = Engine(program, held, threads=threads, target=target)
    engine([random.standard_normal(x.shape, np.float32)])
    return 2 * rows * terms * columns / _least(lambda: engine.launch(engine.job))


def clock_rate(target: Target) -> float:
    """Ticks a second of the counter that times kernels."""
    import ctypes

    module = new_module("clock", target)
    function, b = define(module, "now", I64, internal=False)
    b.ret(clock(b))
    compiled = Compiled(module, target)
    now = ctypes.CFUNCTYPE(ctypes.c_int64)(compiled.address("now"))
    start, ticks = perf_counter(), now()
    sleep(0.02)
    ticks, seconds = now() - ticks, perf_counter() - start
    del function
    return float(ticks / seconds)
