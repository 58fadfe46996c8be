"""Progress: a live bar in a terminal, a table in a notebook, plain lines everywhere else.

Each finished epoch is a line that stays; what is under way is drawn ten times a second at most,
and never from within a batch.
"""

from __future__ import annotations

import sys
from time import perf_counter
from typing import TYPE_CHECKING, Any

from groundup.train.callbacks import Callback
from groundup.train.metrics import better, is_share

if TYPE_CHECKING:
    from groundup.train.learner import Learner


def display_for() -> Display:
    """The display that fits where the program runs."""
    if _in_notebook():
        return Notebook()
    if sys.stdout.isatty():
        from rich.console import Console

        console = Console(highlight=False)
        if not console.is_dumb_terminal:
            return Bar(console)
    return Display()


class Display(Callback):
    """Plain lines: a head, and one for each epoch."""

    order = 90
    each_step = False

    def before_fit(self, learner: Learner) -> None:
        self.began, self.first = perf_counter(), learner.step
        if learner.step and learner.epoch < learner.end:
            self.line(f"going on in epoch {learner.epoch + 1}, after step {learner.step:,}")
        self.head(learner.columns)

    def after_epoch(self, learner: Learner) -> None:
        self.line("".join(cell.rjust(width_of(name)) for name, cell in cells(learner).items()))

    def after_fit(self, learner: Learner) -> None:
        if learner.stop:
            self.line(f"stopped after epoch {learner.epoch}: {learner.stop}")

    def head(self, columns: list[str]) -> None:
        """Show the columns' names."""
        self.line("".join(title(name).rjust(width_of(name)) for name in columns))

    def line(self, text: str) -> None:
        """Show a line that stays."""
        print(text, flush=True)


class Bar(Display):
    """Lines that stay, and below them a bar that a thread of rich's draws."""

    def __init__(self, console: Any):
        self.console = console

    def before_fit(self, learner: Learner) -> None:
        from rich.live import Live

        super().before_fit(learner)
        drawn = _Drawn(lambda: self.progress(learner))
        self.live = Live(drawn, console=self.console, refresh_per_second=10, transient=True)
        self.live.start()

    def head(self, columns: list[str]) -> None:
        self.console.print(
            "".join(title(name).rjust(width_of(name)) for name in columns), style="dim"
        )

    def after_epoch(self, learner: Learner) -> None:
        from rich.text import Text

        best = best_column(learner)
        text = Text()
        for name, cell in cells(learner).items():
            style = "bold green" if name == best else "dim" if name in ("lr", "seconds") else ""
            text.append(cell.rjust(width_of(name)), style)
        self.console.print(text)

    def after_fit(self, learner: Learner) -> None:
        self.live.stop()
        super().after_fit(learner)

    def close(self, learner: Learner) -> None:
        if hasattr(self, "live"):
            self.live.stop()

    def line(self, text: str) -> None:
        self.console.print(text, markup=False)

    def progress(self, learner: Learner) -> Any:
        """What is under way: epoch, bar, batch, running loss, time left."""
        from rich.progress_bar import ProgressBar
        from rich.table import Table

        batches = len(learner.train_batches)
        done, total = learner.epoch * batches + learner.batch, learner.end * batches
        epoch = min(learner.epoch + 1, learner.end)
        grid = Table.grid(padding=(0, 2))
        grid.add_row(
            f"  epoch {epoch}/{learner.end}",
            ProgressBar(total, done, width=24, complete_style="green", finished_style="green"),
            f"batch {learner.batch}/{batches}",
            f"loss {learner.running_loss:.4f}",
            f"[dim]{self.left(learner, total - done)}",
        )
        return grid

    def left(self, learner: Learner, steps: int) -> str:
        """How long the rest takes at the pace so far."""
        taken = learner.step - self.first
        return f"{clock((perf_counter() - self.began) / taken * steps)} left" if taken else ""


class Notebook(Display):
    """A table that grows in place in a notebook's output."""

    pause = 0.25  # seconds between two drawings of what is under way

    def before_fit(self, learner: Learner) -> None:
        from importlib import import_module

        self.ipython: Any = import_module("IPython.display")
        self.lines: list[str] = []
        self.rows: list[dict[str, str]] = []
        self.drawn = perf_counter()
        self.handle = self.ipython.display(self.ipython.HTML(""), display_id=True)
        super().before_fit(learner)

    def head(self, columns: list[str]) -> None:
        self.columns = columns
        self.draw()

    def after_step(self, learner: Learner) -> None:
        now = perf_counter()
        if now - self.drawn > self.pause:
            self.drawn = now
            batches = len(learner.train_batches)
            self.draw(
                f"epoch {learner.epoch + 1}/{learner.end}, batch {learner.batch}/{batches}, "
                f"loss {learner.running_loss:.4f}"
            )

    def after_epoch(self, learner: Learner) -> None:
        self.rows.append(cells(learner))
        self.draw()

    def line(self, text: str) -> None:
        self.lines.append(text)
        self.draw()

    def draw(self, under_way: str = "") -> None:
        """Show the table, what is under way and the lines."""
        from html import escape

        head = "".join(f"<th>{escape(title(name))}</th>" for name in getattr(self, "columns", []))
        body = "".join(
            "<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row.values()) + "</tr>"
            for row in self.rows
        )
        below = "".join(f"<div>{escape(text)}</div>" for text in [*self.lines, under_way] if text)
        self.handle.update(self.ipython.HTML(f"<table><tr>{head}</tr>{body}</table>{below}"))


class _Drawn:
    """What rich asks anew whenever it draws."""

    def __init__(self, made: Any):
        self.made = made

    def __rich__(self) -> Any:
        return self.made()


def cells(learner: Learner) -> dict[str, str]:
    """The latest epoch's row as text."""
    return {name: cell(name, learner.history[-1][name]) for name in learner.columns}


def cell(name: str, value: float) -> str:
    """A number as the column of that name shows it."""
    if name == "epoch":
        return str(value)
    if name == "seconds":
        return f"{value:.2f}" if value < 60 else clock(value)
    if is_share(name):
        return f"{value:.2%}"
    if name == "lr":
        return f"{value:.2g}"
    if 1e4 <= abs(value) < 1e8:
        return f"{value:,.0f}"
    return f"{value:.4f}" if 1e-3 <= abs(value) < 1e4 or value == 0 else f"{value:.3e}"


def title(name: str) -> str:
    """A column's name in words."""
    return name.replace("_", " ")


def width_of(name: str) -> int:
    """How wide a column is."""
    return 7 if name == "epoch" else max(11, len(name) + 2)


def clock(seconds: float) -> str:
    """Minutes and seconds, or hours too."""
    whole = round(seconds)
    hours, minutes = whole // 3600, whole // 60 % 60
    return f"{hours}:{minutes:02}:{whole % 60:02}" if hours else f"{minutes}:{whole % 60:02}"


def best_column(learner: Learner) -> str:
    """The column that tells how good the model is, if its latest value is the best so far."""
    known = [name for name in learner.columns[2:-2] if better(name)]
    if not known:
        return ""
    name = next((name for name in known if name != "valid_loss"), known[0])
    values = [row[name] for row in learner.history]
    return name if values[-1] == (min if better(name) == "min" else max)(values) else ""


def _in_notebook() -> bool:
    ipython: Any = sys.modules.get("IPython")
    return ipython is not None and type(ipython.get_ipython()).__name__ == "ZMQInteractiveShell"
