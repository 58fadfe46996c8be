"""A step explained: how it prints, shows itself in notebooks, and is saved."""

from __future__ import annotations

import os
from functools import cached_property
from typing import Any

from groundup.errors import GroundupError
from groundup.explain import page
from groundup.explain.derive import Derivation, derivations
from groundup.explain.drawing import draw
from groundup.explain.folding import folded
from groundup.explain.graph import graph
from groundup.explain.recorded import Recorded
from groundup.explain.summary import LayerRow, summary, table
from groundup.program.program import Program


class Explanation:
    """A step explained; what is costly is made when it is first looked at.

    Attributes:
        name: the model's class.
        program: the step as a Program.

    """

    def __init__(self, name: str, step: Recorded):
        self.name, self._step = name, step
        self.program: Program = step.program

    @cached_property
    def source(self) -> str:
        """The step as NumPy source."""
        return str(self.program)

    @cached_property
    def svg(self) -> str:
        """Forward and backward as one picture."""
        return draw(folded(graph(self._step)), self.name)

    @cached_property
    def summary(self) -> list[LayerRow]:
        """A row for each layer's call: parameters, operations, bytes."""
        return summary(self._step)

    @cached_property
    def derivations(self) -> list[Derivation]:
        """How each layer's gradients follow from its forward, by SymPy."""
        return derivations(self._step)

    def __repr__(self) -> str:
        return f"<Explanation of {self.name}: .print() or .save('step.html') shows it>"

    def __str__(self) -> str:
        parts = [self.source.rstrip(), "\n".join(table(self.summary))]
        parts += [f"{d.layer}\n\n{_indented(d.text)}" for d in self.derivations]
        return "\n\n\n".join(parts)

    # How it shows itself

    def _repr_svg_(self) -> str:
        return self.svg

    def _repr_html_(self) -> str:
        return page.notebook(self)

    def __rich__(self) -> Any:
        """For rich's console: source with colours, the table, the derivations."""
        from rich.console import Group
        from rich.syntax import Syntax
        from rich.text import Text

        head, *rows, total = table(self.summary)
        parts: list[Any] = [
            Syntax(self.source.rstrip(), "python", background_color="default", theme="ansi_dark"),
            Text.assemble("\n", (head, "dim"), "\n", "\n".join(rows), "\n", (total, "bold"), "\n"),
        ]
        for one in self.derivations:
            parts.append(Text(one.layer, style="bold"))
            for line in one.lines:
                style = "bold red" if line is one.lines[-1] and one.agrees is False else ""
                style = style or {"source": "cyan", "words": "dim"}.get(line.kind, "")
                whole = line.kind == "formula"
                parts.append(Text(_indented(line.text), style=style, no_wrap=whole))
            parts.append(Text())
        return Group(*parts)

    def print(self) -> None:
        """Print source, table and derivations to the terminal."""
        from rich.console import Console

        console = Console(highlight=False)
        console.print(self, soft_wrap=not console.is_terminal)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the drawing to an .svg file, or everything to an .html page."""
        suffix = os.path.splitext(os.fspath(path))[1].lower()
        if suffix not in (".svg", ".html"):
            raise GroundupError(f"{os.fspath(path)}: give a name that ends in .svg or .html")
        text = self.svg if suffix == ".svg" else page.document(self)
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)


def _indented(text: str) -> str:
    return "\n".join(f"  {line}".rstrip() for line in text.split("\n"))
