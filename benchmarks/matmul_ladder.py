"""The matmul ladder: what each rung costs, from three loops over Python lists to BLAS.

    python benchmarks/matmul_ladder.py

Two products of the lesson: five digits by ten classes, small enough for the slowest rung, and a
whole training set by fifty hidden units, for the rungs that can. Every rung's result is checked
against a float64 product before anything is timed.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np
from common import duration, interleave, machine, median, ratio
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from groundup.foundations import LADDER, assert_close, matmul_lists

FAST = ("broadcast", "einsum", "compiled", "reordered", "blas")


def matrices(m: int, k: int, n: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Random numbers from 0 to 1: no sum comes near 0, so a relative tolerance makes sense."""
    rng = np.random.default_rng(0)
    return rng.random((m, k), dtype=np.float32), rng.random((k, n), dtype=np.float32)


def validate(rungs: Mapping[str, Callable[[], Any]], a: NDArray[Any], b: NDArray[Any]) -> None:
    expected = a.astype(np.float64) @ b.astype(np.float64)
    for rung in rungs.values():
        assert_close(np.asarray(rung(), np.float64), expected, rtol=1e-4, atol=0)


def table(
    title: str, rungs: Mapping[str, Callable[[], Any]], operations: int, rounds: int
) -> Table:
    seconds = interleave(rungs, rounds, warmup=0)  # validate has called each once
    result = Table(title=title, title_justify="left")
    result.add_column("rung")
    for header in ("time", "GFLOP/s", "faster than above", "@ is faster by"):
        result.add_column(header, justify="right")
    above = None
    for name, times in seconds.items():
        result.add_row(
            name,
            duration(median(times)),
            f"{operations / median(times) / 1e9:.3g}",
            f"{ratio(above, times):.3g} x" if above else "",
            f"{ratio(times, seconds['blas']):.3g} x",
        )
        above = times
    return result


def main() -> None:
    console = Console()
    console.print(machine(), highlight=False)

    a, b = matrices(5, 784, 10)
    rungs = {"lists": partial(matmul_lists, a.tolist(), b.tolist())}
    rungs |= {name: partial(rung, a, b) for name, rung in LADDER.items()}
    validate(rungs, a, b)
    console.print(table("(5, 784) by (784, 10), median of 51", rungs, 2 * 5 * 784 * 10, 51))

    a, b = matrices(50_000, 784, 50)
    rungs = {name: partial(LADDER[name], a, b) for name in FAST}
    validate(rungs, a, b)
    console.print(table("(50000, 784) by (784, 50), median of 3", rungs, 2 * 50_000 * 784 * 50, 3))


if __name__ == "__main__":
    main()
