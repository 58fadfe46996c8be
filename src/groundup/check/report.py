"""What a check found: a row for every gradient, and for a wrong one the likely mistake."""

from __future__ import annotations

import html
import json
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING

from groundup.errors import GradientError

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderResult
    from rich.table import Table

# Verdicts that are no fault of the gradient.
FINE = ("right", "kink", "noise", "cut", "unsure")
WORDS = {
    "right": "right",
    "kink": "right (at a kink)",
    "noise": "right to float32",
    "cut": "right (cut in forward)",
    "unsure": "cannot tell",
    "wrong": "WRONG",
    "shape": "WRONG SHAPE",
    "missing": "MISSING",
    "nan": "NOT FINITE",
    "nondeterministic": "NOT REPEATABLE",
    "mutated": "INPUT CHANGED",
    "error": "ERROR",
}


@dataclass(frozen=True)
class Row:
    """One gradient.

    Attributes:
        name: the input's or parameter's name.
        shape: its shape.
        verdict: "right", or "kink" (a subgradient where there is no derivative), "noise" (right up
            to float32 rounding), "cut" (as forward's ops have it, which detach a path), "unsure"
            (the forward is too noisy for differences to tell); "wrong", "shape", "missing", "nan",
            "nondeterministic", "mutated", "error".
        absolute: the largest absolute error; None where nothing could be compared.
        relative: that error relative to the gradient's largest entry.
        index: where it is.
        value: the entry there as the backward has it.
        expected: as it should be.
        errors: the largest relative error by each method that the gradient was compared with.
        note: what else there is to say.

    """

    name: str
    shape: tuple[int, ...]
    verdict: str
    absolute: float | None = None
    relative: float | None = None
    index: tuple[int, ...] | None = None
    value: float | None = None
    expected: float | None = None
    errors: dict[str, float] = field(default_factory=dict)
    note: str = ""

    @property
    def ok(self) -> bool:
        """Whether there is no fault."""
        return self.verdict in FINE


@dataclass(frozen=True)
class Finding:
    """A likely mistake.

    Attributes:
        kind: its name, such as "mean"; see `groundup.check.kinds.KINDS`.
        gradients: the gradients that it explains.
        what: the mistake in a sentence.
        fix: what to do.
        evidence: the numbers that speak for it.
        confidence: from 0 to 1; findings are in its order.

    """

    kind: str
    gradients: tuple[str, ...]
    what: str
    fix: str
    evidence: str
    confidence: float


@dataclass(frozen=True)
class Report:
    """All gradients of a subject; true if none is wrong.

    Attributes:
        subject: what was checked.
        rows: one for each gradient.
        findings: the likely mistakes, the likeliest first.
        seconds: how long it took.

    """

    subject: str
    rows: tuple[Row, ...]
    findings: tuple[Finding, ...] = ()
    seconds: float = 0.0

    @property
    def ok(self) -> bool:
        """Whether no gradient is wrong."""
        return all(row.ok for row in self.rows)

    def __bool__(self) -> bool:
        return self.ok

    def __getitem__(self, name: str) -> Row:
        """The row of a gradient."""
        for row in self.rows:
            if row.name == name:
                return row
        known = ", ".join(row.name for row in self.rows)
        raise KeyError(f"there is no gradient {name!r} among {known}")

    def assert_ok(self) -> None:
        """Do nothing if no gradient is wrong.

        Raises:
            GradientError: (an AssertionError too) with the whole report as its text.

        """
        if not self.ok:
            raise WrongGradient("\n" + str(self))

    def to_json(self) -> str:
        """All of it as JSON."""
        return json.dumps({"ok": self.ok, **asdict(self)}, default=str)

    @property
    def likely(self) -> tuple[Finding, ...]:
        """The findings worth a look: the first, and others that are nearly as likely."""
        least = max(f.confidence for f in self.findings) - 0.12 if self.findings else 0.0
        return tuple(f for f in self.findings if f.confidence >= least)[:3]

    # Showing it

    def __str__(self) -> str:
        from io import StringIO

        from rich.console import Console

        text = StringIO()
        Console(file=text, width=100, color_system=None, force_jupyter=False).print(self)
        return "\n".join(line.rstrip() for line in text.getvalue().splitlines())

    __repr__ = __str__

    def table(self) -> Table:
        """The rows as a rich Table."""
        from rich.table import Table
        from rich.text import Text

        table = Table(title=f"gradients of {self.subject}", title_justify="left")
        for heading in ("gradient", "shape", "verdict", "rel. error", "at", "backward", "truth"):
            right = heading in ("rel. error", "backward", "truth")
            table.add_column(heading, justify="right" if right else "left")
        for row in self.rows:
            style = "green" if row.ok else "bold red"
            table.add_row(
                Text(row.name),
                Text(str(row.shape)),
                Text(WORDS[row.verdict], style=style),
                _number(row.relative, "{:.1e}"),
                "" if row.index is None else Text(str(list(row.index))),
                _number(row.value, "{:.6g}"),
                _number(row.expected, "{:.6g}"),
            )
        return table

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        from rich.text import Text

        yield self.table()
        for row in self.rows:
            if row.note:
                yield Text(f"{row.name}: {row.note}")
        for i, finding in enumerate(self.likely):
            first = "It looks like" if i == 0 else "or"
            style = "" if i else "bold"
            yield Text(f"{first} [{finding.kind}]: {finding.what}", style=style)
            yield Text(f"    evidence: {finding.evidence}")
            yield Text(f"    fix: {finding.fix}")

    def _repr_html_(self) -> str:
        """The same for a notebook."""
        cells = []
        for row in self.rows:
            color = "#197a31" if row.ok else "#b00020"
            shown = (
                html.escape(row.name),
                html.escape(str(row.shape)),
                f'<b style="color:{color}">{WORDS[row.verdict]}</b>',
                _number(row.relative, "{:.1e}"),
                "" if row.index is None else str(list(row.index)),
                _number(row.value, "{:.6g}"),
                _number(row.expected, "{:.6g}"),
            )
            cells.append("<tr>" + "".join(f"<td>{cell}</td>" for cell in shown) + "</tr>")
        headings = ("gradient", "shape", "verdict", "rel. error", "at", "backward", "truth")
        head = "".join(f"<th>{h}</th>" for h in headings)
        notes = [
            f"<p>{html.escape(r.name)}: {html.escape(r.note)}</p>" for r in self.rows if r.note
        ]
        found = "".join(
            f"<li><b>{html.escape(f.what)}</b> [{f.kind}]<br>evidence: {html.escape(f.evidence)}"
            f"<br>fix: {html.escape(f.fix)}</li>"
            for f in self.likely
        )
        return (
            f"<b>gradients of {html.escape(self.subject)}</b><table><tr>{head}</tr>"
            + "".join(cells)
            + "</table>"
            + "".join(notes)
            + (f"<ol>{found}</ol>" if found else "")
        )


class WrongGradient(GradientError, AssertionError):
    """A check found a wrong gradient."""


def merged(rows: tuple[Row, ...], others: tuple[Row, ...]) -> tuple[Row, ...]:
    """The rows of two methods as one: the second's where it finds a fault, all errors in both."""
    return tuple(
        replace(b if not b.ok or a.verdict == "unsure" else a, errors={**a.errors, **b.errors})
        for a, b in zip(rows, others, strict=True)
    )


def _number(value: float | None, form: str) -> str:
    return "" if value is None else form.format(value + 0.0)  # not -0
