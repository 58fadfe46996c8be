"""Forward and backward as one picture: down on the left, up on the right, a row for each layer."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from groundup.explain.graph import Edge, Flow, Graph, Row
from groundup.explain.svg import Canvas, shortened, width_of

MARGIN, PAD, LINE, CHIP, STUB, LANE, GAP = 16, 9, 15, 21, 17, 13, 30
LONGEST, MOST_LINES, MOST_SAVED = 44, 6, 3


@dataclass
class Side:
    """Forward's or backward's half of the picture: boxes, what hangs off them, and lanes."""

    is_forward: bool
    rows: Sequence[Row]
    straight: list[Edge] = field(default_factory=list)
    around: list[tuple[int, Flow, list[int]]] = field(default_factory=list)
    lanes: list[int] = field(default_factory=list)  # of each of `around`
    box: float = 0  # the boxes' width
    hung: float = 0  # the width of what hangs off them

    @classmethod
    def of(cls, is_forward: bool, rows: Sequence[Row], edges: Iterable[Edge]) -> Side:
        """Sort the edges: straight to the next box, or around through a lane."""
        side = cls(is_forward, rows)
        bent: dict[tuple[int, tuple[str, ...]], tuple[int, Flow, list[int]]] = {}
        for edge in edges:
            if side._is_straight(edge):
                side.straight.append(edge)
            else:
                key = edge.source, edge.flow.names
                bent.setdefault(key, (edge.source, edge.flow, []))[2].append(edge.target)
        side.around = list(bent.values())
        side.lanes = _lanes([(min(s, *t), max(s, *t)) for s, _, t in side.around])
        side._measure()
        return side

    def _is_straight(self, edge: Edge) -> bool:
        between = range(edge.source + 1, edge.target)
        if not self.is_forward:
            between = range(edge.target + 1, edge.source)
            return edge.target < edge.source and not any(self.lines(i) is not None for i in between)
        return edge.target > edge.source and not between

    def lines(self, row: int) -> tuple[str, ...] | None:
        """What is written in a box; None if there is none."""
        found = self.rows[row].forward if self.is_forward else self.rows[row].backward
        if found is None or len(found) <= MOST_LINES:
            return found
        return (*found[: MOST_LINES - 1], f"… and {len(found) - MOST_LINES + 1} lines more")

    def title(self, row: int) -> str:
        """A box's heading."""
        label = self.rows[row].label
        return shortened(label if self.is_forward else f"bwd of {label}", LONGEST - 4)

    def hanging(self, row: int) -> tuple[Flow, ...]:
        """What hangs off a box."""
        return self.rows[row].inputs if self.is_forward else self.rows[row].gradients

    def _measure(self) -> None:
        drawn = [i for i in range(len(self.rows)) if self.lines(i) is not None]
        widths = [width_of(self.title(i), 12) for i in drawn]
        widths += [width_of(shortened(t, LONGEST)) for i in drawn for t in self.lines(i) or ()]
        self.box = max([*widths, 140]) + 2 * PAD
        hung = [width_of(written(f)) + 2 * PAD for i in drawn for f in self.hanging(i)]
        hung += [width_of(written(f), 10) + PAD for _, f, _ in self.around]
        self.hung = max(hung, default=0) + 22

    @property
    def lane_width(self) -> float:
        """What all lanes take."""
        return LANE * (max(self.lanes, default=-1) + 1)

    def stubs(self, row: int) -> tuple[list[int], list[int]]:
        """The edges, by index in `around`, that enter a box and that leave it."""
        return (
            [k for k, (_, _, targets) in enumerate(self.around) if row in targets],
            [k for k, (source, _, _) in enumerate(self.around) if source == row],
        )

    def height(self, row: int) -> float:
        """How high a box must be."""
        lines = self.lines(row)
        if lines is None:
            return 0
        entering, leaving = self.stubs(row)
        inside = 2 * PAD + 13 + LINE * len(lines)
        return max(inside, STUB * len(entering + leaving) + CHIP * len(self.hanging(row)) + 10)


def _lanes(spans: Sequence[tuple[int, int]]) -> list[int]:
    """A lane for each span of rows, 0 the nearest; no two in a lane meet. Short ones first."""
    lanes = [0] * len(spans)
    taken: list[list[tuple[int, int]]] = []
    for k in sorted(range(len(spans)), key=lambda k: spans[k][1] - spans[k][0]):
        low, high = spans[k]
        free = [all(b < low or high < a for a, b in lane) for lane in taken]
        lanes[k] = free.index(True) if True in free else len(taken)
        if lanes[k] == len(taken):
            taken.append([])
        taken[lanes[k]].append((low, high))
    return lanes


def written(flow: Flow) -> str:
    """A value in words: name, shape and norm."""
    name = flow.names[0] if len(flow.names) == 1 else f"{flow.names[0]} … {flow.names[-1]}"
    return "  ".join(part for part in (f"{name} {flow.shape}", norm_of(flow)) if part)


def norm_of(flow: Flow) -> str:
    """A gradient's norm, or the least and the largest of several."""
    if not flow.norms:
        return ""
    low, high = (f"{v:.3g}" for v in (min(flow.norms), max(flow.norms)))
    return f"‖ {low} ‖" if low == high else f"‖ {low} … {high} ‖"


def draw(graph: Graph, name: str) -> str:
    """The picture as SVG."""
    return Picture(graph).draw(name)


class Picture:
    """Places everything, then draws it."""

    def __init__(self, graph: Graph):
        self.rows = graph.rows
        self.forward = Side.of(True, graph.rows, graph.forward)
        self.backward = Side.of(False, graph.rows, graph.backward)
        self.has_backward = any(r.backward is not None for r in graph.rows)
        self.canvas = Canvas()
        self._columns()
        self._heights()

    def _columns(self) -> None:
        saved = [width_of(t, 10) for row in self.rows for t in self._saved(row)]
        self.left = MARGIN + self.forward.lane_width + self.forward.hung
        self.middle = self.left + self.forward.box
        self.width = self.middle + MARGIN
        self.right = self.width
        if self.has_backward:
            self.right = self.middle + max([*saved, 40]) + 34
            end = self.right + self.backward.box + self.backward.hung + self.backward.lane_width
            self.width = end + MARGIN
        self.width = max(self.width, 330)

    def _saved(self, row: Row) -> list[str]:
        """What backward reads of forward's, as lines for between the boxes."""
        names = [*row.saved]
        if len(names) > 2 * MOST_SAVED:
            names = [*names[: 2 * MOST_SAVED - 1], "…"]
        pairs = [names[i : i + 2] for i in range(0, len(names), 2)]
        return [", ".join(shortened(n, 14) for n in pair) for pair in pairs]

    def _heights(self) -> None:
        self.tops: list[float] = []
        self.heights: list[float] = []
        self.label_y: list[float] = []  # the middle of the texts below each row
        y = 52.0
        for i, row in enumerate(self.rows):
            y += 26 if row.block and self._block_at(i - 1) != row.block else 0
            height = max(self.forward.height(i), self.backward.height(i))
            if row.backward is not None:
                height = max(height, 12 * len(self._saved(row)) + 26)
            self.tops.append(y)
            self.heights.append(27 if row.is_argument else height)
            y += self.heights[-1]
            y += 12 if row.block and self._block_at(i + 1) != row.block else 0
            gap = GAP + 13 * max(self._labels_below(i) - 1, 0)
            self.label_y.append(y + gap / 2)
            y += gap
        self.height = y - GAP + 34

    def _block_at(self, row: int) -> str:
        return self.rows[row].block if 0 <= row < len(self.rows) else ""

    def _labels_below(self, row: int) -> int:
        """How many lines of text are between a row and the next."""
        down = sum(e.source == row for e in self.forward.straight)
        up = sum(e.target <= row < e.source for e in self.backward.straight)
        return max(down, up)

    def draw(self, name: str) -> str:
        canvas = self.canvas
        canvas.text(self.left + self.forward.box / 2, 30, "forward ↓", "head", "middle")
        if self.has_backward:
            canvas.text(self.right + self.backward.box / 2, 30, "↑ backward", "head", "middle")
        self._frames()
        for side in (self.forward, self.backward):
            self._straight(side)
            self._around(side)
        for i, row in enumerate(self.rows):
            self._box(self.forward, i)
            if row.backward is not None:
                self._box(self.backward, i)
                self._kept(i)
        note = "dashed: what backward reads of forward · ‖ ‖: a gradient's norm"
        note = shortened(note, int((self.width - 2 * MARGIN) / width_of("x", 10)))
        canvas.text(MARGIN, self.height - 12, note if self.has_backward else "", "small")
        return canvas.picture(self.width, self.height, f"Forward and backward of {name}")

    def _frames(self) -> None:
        for i, row in enumerate(self.rows):
            if not row.block or self._block_at(i - 1) == row.block:
                continue
            last = max(k for k, r in enumerate(self.rows) if r.block == row.block)
            x = MARGIN + self.forward.lane_width + 4
            end = self.middle + 12
            if self.has_backward:
                end = self.right + self.backward.box + self.backward.hung - 4
            top = self.tops[i] - 26
            bottom = self.tops[last] + self.heights[last] + 8
            self.canvas.rect(x, top, end - x, bottom - top, "frame")
            middle = self.left + self.forward.box / 2
            name, _, drawn = row.block.partition(", ")
            length = int((middle - x - 16) / width_of("x", 12))
            self.canvas.text(x + 8, top + 16, shortened(name, length), "title")
            self.canvas.text(middle + 8, top + 16, drawn, "small")

    def _edge_of(self, side: Side) -> tuple[float, float]:
        """Where a side's boxes have their outer edge, and the direction from there outward."""
        return (self.left, -1) if side.is_forward else (self.right + side.box, 1)

    def _box(self, side: Side, i: int) -> None:
        row, canvas = self.rows[i], self.canvas
        x, top, height = self.left if side.is_forward else self.right, self.tops[i], self.heights[i]
        if row.is_argument:
            canvas.rect(x, top, side.box, height, "argument")
            canvas.text(x + side.box / 2, top + 18, row.label, "title", "middle")
            return
        lines = (row.forward if side.is_forward else row.backward) or ()
        kind = "forward" if side.is_forward else "backward"
        canvas.rect(x, top, side.box, height, kind, "\n".join([row.label, *lines]))
        shown = side.lines(i) or ()
        first = top + (height - 13 - LINE * len(shown)) / 2 + 11
        canvas.text(x + PAD, first, side.title(i), "title")
        for k, line in enumerate(shown):
            canvas.text(x + PAD, first + LINE * (k + 1) + 2, shortened(line, LONGEST))
        self._hanging(side, i)

    def _hanging(self, side: Side, i: int) -> None:
        flows = side.hanging(i)
        entering, leaving = side.stubs(i)
        # Lanes enter forward's boxes above what hangs there, and leave below; backward's so too.
        above = len(entering if side.is_forward else leaving)
        below = len(leaving if side.is_forward else entering)
        room = self.heights[i] - STUB * (above + below)
        y = self.tops[i] + STUB * above + (room - CHIP * len(flows)) / 2
        edge, outward = self._edge_of(side)
        for flow in flows:
            text = written(flow)
            width = width_of(text) + 2 * PAD - 4
            x = edge + outward * 16
            left = x if outward > 0 else x - width
            self.canvas.line("hang", (edge, y + CHIP / 2), (x, y + CHIP / 2), arrow=False)
            tip = f"{', '.join(flow.names)} {flow.shape}"
            self.canvas.rect(left, y + 2, width, CHIP - 4, "value", tip)
            self.canvas.text(left + PAD - 2, y + 14, text, "norm" if flow.norms else "")
            y += CHIP

    def _straight(self, side: Side) -> None:
        x = (self.left if side.is_forward else self.right) + side.box / 2
        placed: dict[int, int] = {}
        for edge in side.straight:
            start, end = self.tops[edge.source], self.tops[edge.target]
            if side.is_forward:
                start += self.heights[edge.source]
            else:
                end += self.heights[edge.target]
            k = placed.get(edge.source, 0)
            placed[edge.source] = k + 1
            if not k:
                self.canvas.line("flow" if side.is_forward else "back", (x, start), (x, end))
            if not self.rows[edge.source].is_argument:  # it says what it is itself
                count = sum(e.source == edge.source for e in side.straight)
                y = self.label_y[edge.source if side.is_forward else edge.source - 1]
                y += 4 + 13 * (k - (count - 1) / 2)
                self.canvas.text(x + 8, y, written(edge.flow), "" if side.is_forward else "norm")

    def _around(self, side: Side) -> None:
        edge, outward = self._edge_of(side)
        kind = "flow" if side.is_forward else "back"
        for k, (source, flow, targets) in enumerate(side.around):
            lane = edge + outward * (side.hung + LANE * side.lanes[k] + LANE / 2)
            y = self._stub(side, source, k, leaving=True)
            for target in targets:
                end = self._stub(side, target, k, leaving=False)
                self.canvas.line(kind, (edge, y), (lane, y), (lane, end), (edge, end))
                anchor = "end" if side.is_forward else "start"
                style = "small" if side.is_forward else "small norm"
                self.canvas.text(edge + outward * 12, end - 5, written(flow), style, anchor)

    def _stub(self, side: Side, row: int, k: int, *, leaving: bool) -> float:
        """The height at which an edge through a lane meets a box."""
        entering_edges, leaving_edges = side.stubs(row)
        own = leaving_edges if leaving else entering_edges
        at_top = leaving is not side.is_forward
        if self.rows[row].is_argument:
            return self.tops[row] + self.heights[row] / 2
        if at_top:
            return self.tops[row] + STUB * (own.index(k) + 1) - 2
        return self.tops[row] + self.heights[row] - STUB * (len(own) - own.index(k)) + STUB - 5

    def _kept(self, i: int) -> None:
        lines = self._saved(self.rows[i])
        if not lines:
            return
        y = self.tops[i] + self.heights[i] / 2 + 6 * len(lines)
        middle = (self.middle + self.right) / 2
        self.canvas.line("kept", (self.middle, y), (self.right, y))
        for k, line in enumerate(lines):
            self.canvas.text(middle - 3, y - 5 - 12 * (len(lines) - 1 - k), line, "small", "middle")
