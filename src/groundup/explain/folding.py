"""Equal blocks of a graph folded into one, whose values stand for those of all of them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from groundup.explain.graph import Edge, Flow, Graph, Row

FEWEST = 3  # so many equal blocks are folded into one


@dataclass(frozen=True)
class Run:
    """Equal blocks that follow one another.

    Attributes:
        first: the first row. size: rows of a block. count: blocks.
        name: what to write on their frame: "blocks[0..11] × 12, drawn: blocks[1]".

    """

    first: int
    size: int
    count: int
    name: str

    def block_of(self, row: int) -> int | None:
        """Which block a row is in."""
        block = (row - self.first) // self.size
        return block if 0 <= block < self.count else None

    def place(self, row: int) -> int:
        """Where a row is once the blocks are one."""
        if row < self.first:
            return row
        if self.block_of(row) is not None:
            return self.first + (row - self.first) % self.size
        return row - self.size * (self.count - 1)


def folded(graph: Graph) -> Graph:
    """The graph with equal blocks that follow one another drawn once."""
    rows, forward, backward = list(graph.rows), list(graph.forward), list(graph.backward)
    for run in _runs(rows)[::-1]:
        end = run.first + run.size * run.count
        same = [rows[run.first + i : end : run.size] for i in range(run.size)]
        merged = [_merged(s, run.name) for s in same]
        rows = [*rows[: run.first], *merged, *rows[end:]]
        forward, backward = _moved(forward, run), _moved(backward, run)
    return Graph(tuple(rows), tuple(forward), tuple(backward))


def _merged(same: Sequence[Row], block: str) -> Row:
    """One row for those of all blocks; the second's lines, as the first often passes nothing on."""
    return replace(
        same[1],
        inputs=_together([r.inputs for r in same]),
        gradients=_together([r.gradients for r in same]),
        block=block,
    )


def _together(columns: Sequence[Sequence[Flow]]) -> tuple[Flow, ...]:
    """The first flows as one, the second ones as one, ..."""
    made: list[Flow] = []
    for flows in columns:
        for i, flow in enumerate(flows):
            if i < len(made):
                made[i] = made[i].together(flow)
            else:
                made.append(flow)
    return tuple(made)


def _moved(edges: list[Edge], run: Run) -> list[Edge]:
    """The edges between the rows that are left; what goes from block to block is left out."""
    found: dict[tuple[int, int], dict[tuple[int, int], list[Flow]]] = {}
    for edge in edges:
        blocks = run.block_of(edge.source), run.block_of(edge.target)
        if None in blocks or blocks[0] == blocks[1]:
            pair = run.place(edge.source), run.place(edge.target)
            by_block = found.setdefault(pair, {})
            by_block.setdefault((edge.source, edge.target), []).append(edge.flow)
    return [
        Edge(*pair, flow)
        for pair, by_block in found.items()
        for flow in _together(list(by_block.values()))
    ]


def _runs(rows: list[Row]) -> list[Run]:
    """Equal blocks, from top to bottom."""
    found: list[Run] = []
    i = 0
    while i < len(rows):
        run = _run_at(rows, i)
        if run is not None:
            found.append(run)
        i += run.size * run.count if run is not None else 1
    return found


def _run_at(rows: list[Row], start: int) -> Run | None:
    """The blocks `path[i]`, `path[i + 1]`, ... of equal rows that begin at a row."""
    label = rows[start].label
    for match in re.finditer(r"\[(\d+)\]", label.split(" ")[0]):
        path, number = label[: match.start()], int(match[1])
        blocks = _blocks(rows, start, path, number)
        if len(blocks) >= FEWEST:
            name = f"{path}[{number}..{number + len(blocks) - 1}] × {len(blocks)}"
            return Run(start, len(blocks[0]), len(blocks), f"{name}, drawn: {path}[{number + 1}]")
    return None


def _blocks(rows: list[Row], start: int, path: str, number: int) -> list[list[str]]:
    """What is in each block, in words; as many blocks as are equal."""
    blocks: list[list[str]] = []
    i = start
    while i < len(rows):
        prefix = f"{path}[{number + len(blocks)}]"
        own: list[str] = []
        while i < len(rows) and rows[i].label.startswith((prefix + ".", prefix + " ")):
            shapes = [flow.shape for flow in rows[i].inputs]
            own.append(f"{rows[i].label[len(prefix) :]} {shapes}")
            i += 1
        if not own or (blocks and own != blocks[0]):
            break
        blocks.append(own)
    return blocks
