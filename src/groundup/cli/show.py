"""What the command prints: to people in a terminal, and as plain lines into pipes and files."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from groundup.check import LayerCheck


def console(stderr: bool = False) -> Any:
    """A rich Console on the standard output (or error) of this moment; pipes get whole lines."""
    from rich.console import Console

    made = Console(stderr=stderr, highlight=False)
    made.soft_wrap = not made.is_terminal
    return made


def say(text: str = "", style: str = "") -> None:
    """Print a line; brackets in it are brackets."""
    console().print(text, style=style or None, markup=False)


def say_facts(facts: Sequence[tuple[str, str]]) -> None:
    """Print lines of a dim name and what there is to say about it."""
    from rich.text import Text

    width = max(len(name) for name, _ in facts)
    for name, fact in facts:
        console().print(Text.assemble((f"  {name.ljust(width)}  ", "dim"), fact))


def say_aside(text: str) -> None:
    """Print a remark to the standard error, so that it is no part of what is piped on."""
    console(stderr=True).print(text, style="dim", markup=False)


def say_error(text: str, label: str = "error: ") -> None:
    """Print an error to the standard error."""
    from rich.text import Text

    console(stderr=True).print(Text.assemble((label, "bold red"), text))


def show_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: Any = None,
    line: str | None = None,
) -> None:
    """In place of `warnings.showwarning`: a warning as a line, groundup's own without its place."""
    from rich.text import Text

    place = (
        "" if filename.endswith("learner.py") else f" ({category.__name__}, {filename}:{lineno})"
    )
    console(stderr=True).print(Text.assemble(("warning: ", "bold yellow"), f"{message}{place}"))


def say_checks(checks: Sequence[LayerCheck]) -> None:
    """Print the gradients' table: a wrong one in red."""
    from rich.text import Text

    rows = [
        (
            f"{c.layer} {c.kind}",
            c.gradient,
            " x ".join(map(str, c.shape)) or "1",
            "-" if c.vs_ops is None else _power(c.vs_ops),
            _power(c.vs_differences),
            "ok" if c.ok else "WRONG",
        )
        for c in checks
    ]
    head = ("gradient of", "in its", "shape", "bwd - ops", "bwd - differences", "")
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]

    def line(row: Sequence[str]) -> str:
        cells = [row[i].ljust(widths[i]) if i < 3 else row[i].rjust(widths[i]) for i in range(6)]
        return "  " + "  ".join(cells).rstrip()

    out = console()
    out.print(Text(line(head), style="dim"))
    for check, row in zip(checks, rows, strict=True):
        text = Text(line(row), style="" if check.ok else "bold red")
        if check.ok:
            text.highlight_words(["ok"], "green")
        out.print(text)


def _power(error: float) -> str:
    return f"{error:.0e}" if error else "0"
