"""What every benchmark here needs: interleaved timing, medians, ratios, memory, the machine.

A benchmark checks its contenders' results against each other before it times anything, and times
them in one process, on the same inputs, alternately: noise and a warming CPU then hit all alike.
"""

import os
import platform
import statistics
import time
import tracemalloc
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np


def interleave(
    functions: Mapping[str, Callable[[], Any]], rounds: int, warmup: int = 1
) -> dict[str, list[float]]:
    """Seconds of each call: every round calls each function once, in the order of `functions`.

    Before that come `warmup` rounds that are not timed. A result is freed after its call's time
    was taken, so before the next function starts.
    """
    seconds: dict[str, list[float]] = {name: [] for name in functions}
    for timed in [False] * warmup + [True] * rounds:
        for name, function in functions.items():
            start = time.perf_counter()
            result = function()
            elapsed = time.perf_counter() - start
            del result
            if timed:
                seconds[name].append(elapsed)
    return seconds


def median(seconds: Sequence[float]) -> float:
    return statistics.median(seconds)


def ratio(slow: Sequence[float], fast: Sequence[float]) -> float:
    """How many times as long `slow` takes as `fast`: the median over rounds of their ratios.

    Both must come from one `interleave`: the two calls of a round shared the machine's mood.
    """
    return statistics.median(s / f for s, f in zip(slow, fast, strict=True))


def peak_memory(function: Callable[[], Any]) -> int:
    """Bytes that one call of `function` held at most, its result included, as NumPy allocates."""
    tracemalloc.start()
    try:
        function()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def duration(seconds: float) -> str:
    """`seconds` for people: three digits and a unit from ns to s."""
    for unit, size in (("s", 1.0), ("ms", 1e-3), ("us", 1e-6)):
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds / 1e-9:.3g} ns"


def machine() -> str:
    """One line: CPU, cores this process may use, Python, NumPy, and NumPy's BLAS kernel."""
    return (
        f"{_cpu()}, {_cores()} cores, Python {platform.python_version()}, "
        f"NumPy {np.__version__}{_blas()}"
    )


def _cpu() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _cores() -> int:
    if hasattr(os, "sched_getaffinity"):  # Linux: a container may own fewer than the machine has
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _blas() -> str:
    """NumPy's BLAS, its kernel and threads; empty without threadpoolctl or for an unknown BLAS."""
    try:
        from threadpoolctl import threadpool_info
    except ImportError:
        return ""
    for pool in threadpool_info():
        if pool["user_api"] == "blas":
            kernel = pool.get("architecture", "unknown")
            return (
                f", {pool['internal_api']} {pool['version']} "
                f"({kernel} kernel, {pool['num_threads']} threads)"
            )
    return ""
