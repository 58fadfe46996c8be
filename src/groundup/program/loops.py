"""Repeated lines as loops: twelve equal blocks print as one, over lists.

Lines that differ in names only are iterations. A name that changes from one to the next is an entry
of a list: `h1, h2, h3` become `h[0], h[1], h[2]`. The lists of all loops must agree (backward goes
through the lists of forward in reverse), and a list of parameters holds those of equal places in
`blocks.0`, `blocks.1` and so on. The updates of other parameters, if they repeat, become a loop
over all of them with `zip`. What does not fit stays written out.
"""

from __future__ import annotations

import re
import textwrap
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise

from groundup.program.names import RESERVED
from groundup.program.program import Program, leaves

_LONGEST = 400  # lines of one iteration
_LEAST = 3  # iterations
_SAVED = 8  # lines that a loop must save
_TOKEN = re.compile(r"[A-Za-z_]\w*|[^A-Za-z_]+|.")


@dataclass
class Line:
    """A statement, the shape of what it makes, whose part it is, and how far it is indented."""

    code: str
    shape: str
    phase: str
    module: str | None  # None leaves the label as it is
    indent: int = 0


@dataclass
class Loop:
    """Iterations of equal lines: where they start, lines in one, how many; names that change."""

    start: int
    length: int
    count: int
    columns: list[tuple[str, ...]] = field(default_factory=list)
    down: bool = False  # through the lists from their ends
    zipped: bool = False  # over the columns side by side, without lists
    local: set[tuple[str, ...]] = field(default_factory=set)

    @property
    def stop(self) -> int:
        """The line after the last one."""
        return self.start + self.length * self.count


@dataclass
class Rolled:
    """Lines with loops.

    Attributes:
        place: how a name is written by now: `h[3]`.
        lists: the names in each list, in order.
        given: the lists that are inputs of the function.

    """

    lines: list[Line]
    place: dict[str, str]
    lists: dict[str, list[str]]
    given: list[str]


def roll(lines: list[Line], program: Program) -> Rolled:
    """The lines with what repeats written once."""
    return _Roller(lines, program).run()


class _Roller:
    def __init__(self, lines: list[Line], program: Program):
        self.lines, self.program = lines, program
        self.names = set(program.vars)
        self.tokens = [self._split(line.code) for line in lines]
        self.used = [[t for t, is_name in tokens if is_name] for tokens in self.tokens]
        self.inputs = {i.var.name: i.path for i in program.inputs}
        self.owner = self._owners()
        self.after: dict[str, str] = {}  # the next entry of the list that a name is in
        self.before: dict[str, str] = {}
        outputs = set(leaves(program.outputs))
        self.where: dict[str, list[int]] = {}
        for i, names in enumerate(self.used):
            for name in names:
                self.where.setdefault(name, []).append(i)
        for name in outputs:
            self.where.setdefault(name, []).append(len(lines))

    def _owners(self) -> dict[str, str]:
        """The parameter that a name belongs to: w1 of w1, dw1, m_w1."""
        parameters = {
            i.var.name for i in self.program.inputs_of("parameter", "state") if " of " not in i.path
        }
        found = {}
        for name in self.names:
            known = name in parameters
            numbered = () if known else (re.sub(r"_\d+$", "", name), re.sub(r"\d+$", "", name))
            for whole in (name, *numbered):
                parts = [whole, *(whole[i + 1 :] for i, c in enumerate(whole) if c == "_")]
                owner = next((p for p in parts if p in parameters), None)
                owner = owner or (
                    whole[1:] if whole[:1] == "d" and whole[1:] in parameters else None
                )
                if owner is not None:
                    found[name] = owner
                    break
        return found

    def _split(self, code: str) -> list[tuple[str, bool]]:
        """The code's tokens, and whether each is the name of a value."""
        found: list[tuple[str, bool]] = []
        for match in _TOKEN.finditer(code):
            text, at = match.group(), match.start()
            keyword = code[match.end() : match.end() + 1] == "=" and at > 0
            attribute = code[at - 1 : at] == "."
            found.append((text, text in self.names and not keyword and not attribute))
        return found

    def run(self) -> Rolled:
        loops = self._loops()
        lists = self._lists(loops)
        place = {
            n: f"{name}[{i}]" for name, members in lists.items() for i, n in enumerate(members)
        }
        index = {n: (name, i) for name, members in lists.items() for i, n in enumerate(members)}
        inputs = {i.var.name for i in self.program.inputs}
        given = [name for name, members in lists.items() if set(members) <= inputs]
        made: list[Line] = []
        started = set(given)
        at = 0
        for loop in [*loops, None]:
            stop = len(self.lines) if loop is None else loop.start
            for i in range(at, stop):
                made += self._start_lists(self.used[i], index, lists, started, self.lines[i])
                made.append(replace(self.lines[i], code=self._written(i, place)))
            if loop is not None:
                names = [n for i in range(loop.start, loop.stop) for n in self.used[i]]
                made += self._start_lists(names, index, lists, started, self.lines[loop.start])
                made += self._loop_lines(loop, index, place, lists)
                at = loop.stop
        return Rolled(made, place, lists, given)

    # Finding loops

    def _signature(self, i: int) -> tuple[str, str, str]:
        code = "".join("\0" if is_name else text for text, is_name in self.tokens[i])
        line = self.lines[i]
        return code, line.phase, re.sub(r"\[\d+\]", "[]", line.module or "")

    def _loops(self) -> list[Loop]:
        signatures = [self._signature(i) for i in range(len(self.lines))]
        candidates: list[Loop] = []
        n = len(signatures)
        for length in range(1, min(_LONGEST, n // _LEAST) + 1):
            run = 0
            for i in range(n - length - 1, -1, -1):
                run = run + 1 if signatures[i] == signatures[i + length] else 0
                count = run // length + 1
                if count >= _LEAST and length * (count - 1) >= _SAVED:
                    candidates.append(Loop(i, length, count))
        candidates.sort(key=lambda c: (-c.length * (c.count - 1), c.length, c.start))
        chosen: list[Loop] = []
        for phase in ("forward", "backward", "update"):
            for loop in candidates:
                if self.lines[loop.start].phase != phase:
                    continue
                if any(loop.start < c.stop and c.start < loop.stop for c in chosen):
                    continue
                if self._fits(loop):
                    chosen.append(loop)
        return sorted(chosen, key=lambda c: c.start)

    def _fits(self, loop: Loop) -> bool:
        """Whether the loop's lists agree with those there are; if so they are noted."""
        rows = [
            [n for i in range(self.length_start(loop, j), self.length_start(loop, j + 1))
             for n in self.used[i]]
            for j in range(loop.count)
        ]  # fmt: skip
        columns = list(dict.fromkeys(zip(*rows, strict=True)))
        loop.columns = [c for c in columns if len(set(c)) > 1]
        if not loop.columns or any(len(set(c)) < len(c) for c in loop.columns):
            return False
        loop.local = {c for c in loop.columns if self._is_local(c, loop)}
        lasting = [c for c in loop.columns if c not in loop.local]
        flat = [n for c in lasting for n in c[:1]]
        if len(set(flat)) < len(flat) or not lasting:
            return False
        if not all(self._belongs_together(c) for c in lasting):
            return self._fits_zip(loop, lasting)
        loop.down = any(self.after.get(c[1]) == c[0] for c in lasting)
        after, before = dict(self.after), dict(self.before)
        for c in lasting:
            ordered = c[::-1] if loop.down else c
            for a, b in pairwise(ordered):
                if after.get(a, b) != b or before.get(b, a) != a:
                    return False
                after[a], before[b] = b, a
        reached = 0  # no list may bite its own tail: from their beginnings all must be reached
        for first in after:
            if first not in before:
                name = first
                while name in after:
                    name, reached = after[name], reached + 1
        if reached < len(after):
            return False
        self.after, self.before = after, before
        return True

    def _belongs_together(self, column: tuple[str, ...]) -> bool:
        """Whether parameters (or their gradients, or state) are at equal places of equal blocks."""
        owners = [self.owner.get(n) for n in column]
        if not any(owners):
            return not any(n in self.inputs for n in column)
        places = [re.fullmatch(r"(.*?)\.(\d+)\.(.*)", self.inputs.get(o or "", "")) for o in owners]
        if not all(places):
            return False
        found = [p.groups() for p in places if p is not None]
        steps = {int(b[1]) - int(a[1]) for a, b in pairwise(found)}
        return len({(p[0], p[2]) for p in found}) == 1 and len(steps) == 1

    def _fits_zip(self, loop: Loop, lasting: list[tuple[str, ...]]) -> bool:
        """Whether the loop goes over values that are all there before it."""
        if self.lines[loop.start].phase != "update":
            return False
        made: set[str] = set()
        written: set[str] = set()
        for i in range(loop.start, loop.stop):
            target = re.match(r"(\w+)(\[\.\.\.\])? (.?)= ", self.lines[i].code)
            if target is not None:
                (written if target[2] or target[3] else made).add(target[1])
        # The rounds may change places, so each has its values for itself.
        changing = {n for c in loop.columns for n in c}
        several = sum(len({c[j] for c in loop.columns}) for j in range(loop.count))
        loop.zipped = (
            not any(n in made for c in lasting for n in c)
            and several == len(changing)
            and written <= changing
            and len(lasting) <= 8
        )
        return loop.zipped

    @staticmethod
    def length_start(loop: Loop, j: int) -> int:
        """The first line of an iteration."""
        return loop.start + j * loop.length

    def _is_local(self, column: tuple[str, ...], loop: Loop) -> bool:
        """Whether each name of a column is made and used within its iteration."""
        for j, name in enumerate(column):
            lines = self.where[name]
            first = self.length_start(loop, j)
            if min(lines) < first or max(lines) >= first + loop.length:
                return False
            if not self.lines[min(lines)].code.startswith(f"{name} = "):
                return False
        return True

    # Lists

    def _lists(self, loops: list[Loop]) -> dict[str, list[str]]:
        chains: list[list[str]] = []
        for name in self.program.vars:
            if name in self.after and name not in self.before:
                chain = [name]
                while chain[-1] in self.after:
                    chain.append(self.after[chain[-1]])
                chains.append(chain)
        chains += self._besides(chains, loops)
        members = {n for chain in chains for n in chain}
        taken = ({*self.names} - members) | RESERVED
        named: dict[str, list[str]] = {}
        # Gradients and optimizer state are called after what they belong to: that comes first.
        for chain in sorted(chains, key=lambda c: max(map(len, c))):
            wanted = self._stem(chain, named)
            name, i = wanted, 1
            while name in taken or name in named:
                name, i = f"{wanted}_{i}", i + 1
            named[name] = chain
        return {name: chain for chain in chains for name, c in named.items() if c is chain}

    def _besides(self, chains: list[list[str]], loops: list[Loop]) -> list[list[str]]:
        """Lists of what a zip puts beside a list of parameters: their gradients, their state."""
        listed_already = {n for chain in chains for n in chain}
        found: list[list[str]] = []
        for loop in loops:
            for owners in loop.columns if loop.zipped else ():
                for chain in chains:
                    if not set(chain) <= set(owners):
                        continue
                    rows = [owners.index(n) for n in chain]
                    beside = [[c[r] for r in rows] for c in loop.columns if c not in loop.local]
                    new = [names for names in beside if not listed_already & set(names)]
                    found += new
                    listed_already |= {n for names in new for n in names}
        return found

    def _stem(self, chain: list[str], named: dict[str, list[str]]) -> str:
        for name, others in named.items():
            for prefix in ("d", *self._prefixes(chain[0])):
                if chain == [prefix + o for o in others]:
                    return prefix + name
        paths = {i.var.name: i.path for i in self.program.inputs}
        tails = {re.sub(r"^.*\.\d+\.", "", paths.get(n, "")) for n in chain}
        tail = next(iter(tails)).replace(".", "_") if len(tails) == 1 else ""
        if tail.isidentifier():
            return tail
        return _common(chain)

    @staticmethod
    def _prefixes(name: str) -> list[str]:
        return [name[: i + 1] for i, c in enumerate(name) if c == "_"]

    def _start_lists(
        self,
        names: Iterable[str],
        index: dict[str, tuple[str, int]],
        lists: dict[str, list[str]],
        started: set[str],
        line: Line,
    ) -> list[Line]:
        """`h = [None] * 13` before the first line that needs it."""
        made: list[str] = []
        empty: dict[int, list[str]] = {}  # names of lists to start with, by length
        for name in dict.fromkeys(index[n][0] for n in names if n in index):
            if name not in started:
                started.add(name)
                members = lists[name]
                if any(n in self.inputs for n in members):
                    entries = ", ".join(n if n in self.inputs else "None" for n in members)
                    made.append(f"{name} = [{entries}]")
                else:
                    empty.setdefault(len(members), []).append(name)
        for length, new in empty.items():
            for at in range(0, len(new), 4):
                part = new[at : at + 4]
                one = f"[None] * {length}"
                several = f"({one} for _ in range({len(part)}))"
                made.append(f"{', '.join(part)} = {one if len(part) == 1 else several}")
        return [replace(line, code=code, shape="", module=None) for code in made]

    # Writing

    def _written(self, i: int, place: dict[str, str]) -> str:
        return "".join(place.get(t, t) if is_name else t for t, is_name in self.tokens[i])

    def _loop_lines(
        self,
        loop: Loop,
        index: dict[str, tuple[str, int]],
        place: dict[str, str],
        lists: dict[str, list[str]],
    ) -> list[Line]:
        if loop.zipped:
            return self._zip_lines(loop, index, place, lists)
        written = dict(place)
        others = (self.names - {n for c in loop.local for n in c}) | set(lists)
        for column in loop.columns:
            if column in loop.local:
                written[column[0]] = _unused(_common(column), others)
                others.add(written[column[0]])
                continue
            name, first = index[column[-1] if loop.down else column[0]]
            written[column[0]] = f"{name}[i{_added(first)}]"
        over = f"range({loop.count})"
        head = self.lines[loop.start]
        lines = [replace(head, code=f"for i in {'reversed(' + over + ')' if loop.down else over}:",
                         shape="", module=self._label(loop, head.module, True))]  # fmt: skip
        for i in range(loop.start, loop.start + loop.length):
            line = self.lines[i]
            shapes = {self.lines[i + j * loop.length].shape for j in range(loop.count)}
            lines.append(
                Line(
                    self._written(i, written),
                    line.shape if len(shapes) == 1 else "",
                    line.phase,
                    self._label(loop, line.module, False),
                    line.indent + 1,
                )
            )
        return lines

    def _zip_lines(
        self,
        loop: Loop,
        index: dict[str, tuple[str, int]],
        place: dict[str, str],
        lists: dict[str, list[str]],
    ) -> list[Line]:
        """`for param, grad, m in zip((w1, b1), (dw1, db1), (m_w1, m_b1)):` and what is in it."""
        owners = next((c for c in loop.columns if set(c) <= set(self.owner.values())), None)
        written, over = dict(place), []
        taken = self.names - {n for c in loop.columns for n in c}
        for column in loop.columns:
            name = _common(column)
            if column is owners:
                name = "param"
            elif owners is not None and all(
                self.owner.get(n) == o for n, o in zip(column, owners, strict=True)
            ):
                prefix = column[0][: column[0].rfind(owners[0])].rstrip("_")
                name = "grad" if prefix == "d" else prefix or name
            elif owners is not None and all(
                n.endswith(o) for n, o in zip(column, owners, strict=True)
            ):
                name = column[0].removesuffix(owners[0]).rstrip("_") or name
            while name in taken or name in RESERVED:
                name += "_"
            taken = taken | {name}
            written[column[0]] = name
            if column not in loop.local:
                over.append((name, column))
        over.sort(key=lambda pair: ["param", "grad", pair[0]].index(pair[0]))
        head = self.lines[loop.start]

        def line(code: str, indent: int) -> Line:
            return Line(code, "", head.phase, "", head.indent + indent)

        rows = self._rows(owners or over[0][1], index, lists)
        lines = [line(f"for {', '.join(n for n, _ in over)} in zip(", 0)]
        for _, column in over:
            parts = [part for row in rows for part in self._entries(column, row, place, lists)]
            texts = textwrap.wrap(f"({', '.join(parts)}),", 76)
            lines += [line(text, 1 if i == 0 else 2) for i, text in enumerate(texts)]
        lines.append(line("):", 0))
        for i in range(loop.start, loop.start + loop.length):
            lines.append(line(self._written(i, written), 1))
        return lines

    @staticmethod
    def _rows(
        column: tuple[str, ...], index: dict[str, tuple[str, int]], lists: dict[str, list[str]]
    ) -> list[list[int]]:
        """The rows of a zip in groups: a list's together, which may change their order."""
        rows: list[list[int]] = []
        for i, name in enumerate(column):
            members = lists[index[name][0]] if name in index else []
            if not members or not set(members) <= set(column):
                rows.append([i])
            elif name == members[0]:
                rows.append([column.index(m) for m in members])
        return rows

    @staticmethod
    def _entries(
        column: tuple[str, ...], row: list[int], place: dict[str, str], lists: dict[str, list[str]]
    ) -> list[str]:
        names = [column[i] for i in row]
        whole = next((name for name, members in lists.items() if members == names), None)
        return [f"*{whole}"] if whole else [place.get(n, n) for n in names]

    def _label(self, loop: Loop, module: str | None, head: bool) -> str:
        """The module with i for the number that changes: "blocks[i].fc1 Linear"."""
        if module is None:
            return ""
        other = self._module_of(loop, module)
        if other == module:
            return "" if head else module
        if head:
            return ""
        first, second = re.findall(r"\[(\d+)\]", module), re.findall(r"\[(\d+)\]", other)
        for at, (a, b) in enumerate(zip(first, second, strict=True)):
            if a != b:
                stride = int(b) - int(a)
                start = int(a) + stride * (loop.count - 1) if loop.down else int(a)
                stride = -stride if loop.down else stride
                index = "i" if stride == 1 else f"{stride} * i"
                parts = re.split(r"(\[\d+\])", module)
                parts[2 * at + 1] = f"[{index}{_added(start)}]"
                return "".join(parts)
        return ""

    def _module_of(self, loop: Loop, module: str) -> str:
        for i in range(loop.start, loop.start + loop.length):
            if self.lines[i].module == module:
                return self.lines[i + loop.length].module or module
        return module


def _unused(stem: str, taken: set[str]) -> str:
    """The stem as a name, with a number if it is taken or no name for a value."""
    name, i = stem, 1
    while name in taken or name in RESERVED or name in ("t", "dt"):
        name, i = f"{stem}{'_' if stem[-1].isdigit() else ''}{i}", i + 1
    return name


def _added(n: int) -> str:
    """What stands behind i: " + 1", or nothing for 0."""
    return f" {'+' if n > 0 else '-'} {abs(n)}" if n else ""


def _common(names: Sequence[str]) -> str:
    """What names have in common but for a number at the end: fc2 of fc2, fc2_1, fc2_2."""
    bare = {re.sub(r"_\d+$", "", n) for n in names}
    if len(bare) == 1:
        return bare.pop()
    return Counter(re.sub(r"_?\d+$", "", n) or n for n in names).most_common(1)[0][0]


def listed(names: Sequence[str]) -> str:
    """`a, b and c`."""
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
