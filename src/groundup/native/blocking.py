"""How matrix products are cut into blocks: rows by vectors of columns that registers hold.

A model of what a block costs, in cycles for each term of its sums: two multiplications of vectors
a cycle; two loads; and where a panel of b is larger than the first-level cache, its way from the
second. It takes no account of the rest, and has to get an order right, not times.
"""

from __future__ import annotations

from functools import lru_cache

from groundup.native.llvm import Target

# With so many vectors of columns, so many rows at most, by the number of registers.
MOST_ROWS = {32: {1: 16, 2: 14, 3: 9, 4: 6}, 16: {1: 10, 2: 6}}
FIRST_LEVEL = 32 * 1024  # bytes of the first-level cache that a panel may take
SECOND_LEVEL = 40.0  # bytes a cycle that come from the second
LATENCY = 4.0  # cycles until a sum can be added to again
LOOP = 0.8  # cycles for going round once


def block_rows(sizes: tuple[int, ...], vectors: int, terms: int, target: Target) -> int:
    """How many rows go together for panels of so many vectors.

    Args:
        sizes: the numbers of rows that there may be.
        vectors: of columns.
        terms: how many are summed.
        target: the CPU.

    """
    return _best(sizes, vectors, terms, target)[1]


def panel_vectors(sizes: tuple[int, ...], columns: int, terms: int, target: Target) -> int:
    """How many vectors of columns go together.

    Args:
        sizes: the numbers of rows that there may be.
        columns: how many vectors there are in all.
        terms: how many are summed.
        target: the CPU.

    """

    def cost(vectors: int) -> float:
        full, rest = divmod(columns, vectors)
        total = full * _best(sizes, vectors, terms, target)[0]
        return total + (_best(sizes, rest, terms, target)[0] * 1.02 if rest else 0)

    widest = max(MOST_ROWS[target.registers])
    return min(range(1, min(widest, columns) + 1), key=lambda v: (cost(v), -v))


@lru_cache(maxsize=1024)
def _best(sizes: tuple[int, ...], vectors: int, terms: int, target: Target) -> tuple[float, int]:
    """The least cost, and with how many rows."""
    streamed = terms * vectors * target.width > FIRST_LEVEL
    way = vectors * target.width / SECOND_LEVEL if streamed else 0.0

    def one(rows: int) -> float:
        busy = max(rows * vectors / 2, (rows + vectors) / 2, way, LATENCY)
        return busy + LOOP + 8 / max(terms, 1)

    def cost(rows: int) -> float:
        total = 0.0
        for n in sizes:
            total += n // rows * one(rows) + (one(n % rows) if n % rows else 0)
        # Another block's code is worth a hundredth.
        return total * (1 + 0.01 * len({n % rows for n in sizes if n % rows}))

    most = MOST_ROWS[target.registers][vectors]
    rows = min(range(1, most + 1), key=lambda r: (cost(r), -r))
    return cost(rows), rows
