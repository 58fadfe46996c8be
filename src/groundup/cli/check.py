"""`groundup check`: the gradients of everything that a Python file defines.

The file is imported, which runs its code. What is found in it, and how inputs are made, is told by
the modules `checkable` and `guess`.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from contextlib import ExitStack, redirect_stdout
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Any

import typer

from groundup.check import check as check_item
from groundup.check.report import Report
from groundup.cli.checkable import Item, Unusable, find, imports, load, told
from groundup.cli.guess import NoInputs, inputs_for
from groundup.cli.show import console, say, say_error
from groundup.errors import GroundupError

WIDTH = 100  # of tables in pipes and files
# The outcomes, and how the last line counts them.
OUTCOMES = {
    "right": "right",
    "wrong": "wrong",
    "no inputs": "without inputs",
    "failed": "could not be checked",
}


class Method(StrEnum):
    """The methods of `groundup.check`."""

    auto = "auto"
    ops = "ops"
    complex = "complex"
    differences = "differences"


@dataclass(frozen=True)
class Outcome:
    """What became of an item: a report, or why there is none."""

    item: Item
    outcome: str
    inputs: str = ""
    example: str = ""
    report: Report | None = None
    message: str = ""

    def as_json(self) -> dict[str, Any]:
        """All of it; numbers that are not finite are null."""
        report = None
        if self.report is not None:
            report = json.loads(self.report.to_json(), parse_constant=lambda _: None)
        return {
            "name": self.item.name,
            "kind": self.item.kind,
            "file": self.item.source.__file__,
            "outcome": self.outcome,
            "inputs": self.inputs,
            "message": self.message,
            "report": report,
        }


EXAMPLES = """
[bold]What is found[/bold]

Modules with a bwd and instances of Modules, torch.autograd.Functions, jax.custom_vjps, and pairs \
of functions: forward and backward, f_forward and f_backward, f and f_backward, f_fwd and f_bwd, \
f and f_grad, f and d_f. By name also a Module without bwd, a torch.nn.Module, a \
function of Tensors.

[bold]Inputs[/bold]

They are guessed from names and annotations; each report says which were taken. To give your own, \
write beside MyLayer, or in it as a staticmethod check_inputs:

def check_inputs_MyLayer(rng): return MyLayer(4, 3), rng.normal(size=(5, 4))

That is a tuple of what forward takes, for a class with an instance first. check_inputs(rng, name) \
is asked for whatever has none of its own; it may return None.

[bold]Exit code[/bold]

0 if all is right, 1 if a gradient is wrong, 2 if something could not be checked.

[bold]Examples[/bold]

groundup check layers.py

groundup check layers.py:MyLayer          [dim]one of them, of whatever kind[/dim]

groundup check mypackage.layers -k Norm   [dim]those with Norm in their name[/dim]
"""


def check(
    ctx: typer.Context,
    targets: Annotated[
        list[str],
        typer.Argument(
            metavar="FILE.py[:NAME]...",
            help="Python files, or modules: package.layers:MyLayer. They are imported: that code "
            "is run.",
        ),
    ],
    only: Annotated[
        str, typer.Option("-k", "--only", metavar="NAME", help="Only names with this in them.")
    ] = "",
    method: Annotated[Method, typer.Option(help="What gradients are compared with.")] = Method.auto,
    seed: Annotated[int, typer.Option(min=0, help="Of inputs, cotangents and directions.")] = 0,
    as_json: Annotated[
        bool, typer.Option("--json", help="One JSON object on the standard output, and no more.")
    ] = False,
) -> None:
    """Check the gradients of all that a Python file defines, and say what is wrong with them."""
    _encodable()
    done: list[Outcome] = []
    try:
        with ExitStack() as stack:
            stack.enter_context(imports())
            if as_json:  # what the file prints is no JSON
                stack.enter_context(redirect_stdout(sys.stderr))
            for item in _items(targets, only):
                done.append(_checked(item, method, seed))
                if not as_json:
                    _show(done[-1])
    except Unusable as error:
        if ctx.find_root().params["debug"]:
            raise
        if as_json:
            print(json.dumps({"ok": False, "error": str(error), "counts": {}, "checked": []}))
        say_error(str(error))
        raise typer.Exit(2) from None
    counts = Counter(one.outcome for one in done)
    if as_json:
        made = {
            "ok": counts["right"] == len(done),
            "counts": {outcome: counts[outcome] for outcome in OUTCOMES},
            "checked": [one.as_json() for one in done],
        }
        print(json.dumps(made))
    else:
        said = [
            f"{counts[outcome]} {word}"
            for outcome, word in OUTCOMES.items()
            if counts[outcome] or outcome in ("right", "wrong")
        ]
        style = "green" if counts["right"] == len(done) else "bold red"
        say(", ".join(said), style=style)
    if counts["wrong"]:
        raise typer.Exit(1)
    if counts["right"] < len(done):
        raise typer.Exit(2)


def _items(targets: list[str], only: str) -> list[Item]:
    """What the targets have.

    Raises:
        Unusable: a target cannot be imported or has nothing, or the filter leaves nothing.

    """
    found: list[Item] = []
    for target in targets:
        source, name = load(target)
        found += find(source, name)
    if not found:
        raise Unusable(
            f"found nothing to check in {', '.join(targets)}: no Module with a bwd, no instance of "
            "a Module, no torch.autograd.Function, no jax.custom_vjp, and no functions called f "
            "and f_backward, or f_forward and f_backward, are defined there. Give the name of "
            f"something of another kind: {targets[0]}:NAME"
        )
    chosen = [i for i in found if only.lower() in i.name.lower()]
    if not chosen:
        raise Unusable(
            f"-k {only}: no name has {only!r} in it; there are {', '.join(i.name for i in found)}"
        )
    return chosen


def _checked(item: Item, method: Method, seed: int) -> Outcome:
    shown = example = ""
    try:
        made = inputs_for(item, seed)
        shown, example = made.shown, made.example
        report = check_item(
            made.subject, *made.values, backward=item.backward, method=method.value, seed=seed
        )
    except NoInputs as error:
        return Outcome(item, "no inputs", message=str(error))
    except Exception as error:
        own = isinstance(error, GroundupError)
        message = str(error) if own else "\n" + told(error, item.source.__file__ or "")
        name = "" if message.startswith(f"{item.name}:") else f"{item.name}: "
        return Outcome(item, "failed", shown, example, message=name + message)
    return Outcome(item, "right" if report else "wrong", shown, example, report)


def _show(one: Outcome) -> None:
    from rich.text import Text

    out = console()
    if not out.is_terminal:
        out.width = WIDTH
    if one.report is not None:
        out.print(one.report)
    else:
        out.print(Text.assemble((f"{one.outcome}: ", "bold red"), one.message))
    if one.inputs:
        say(f"inputs: {one.inputs}", style="dim")
    if one.example and one.outcome != "right":
        say(f"These were guessed; if others are meant: {one.example}", style="dim")
    say()


def _encodable() -> None:
    """Write what the terminal cannot show as escapes, not an error."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure") and not (stream.encoding or "").lower().startswith("utf"):
            stream.reconfigure(errors="backslashreplace")


check.__doc__ = f"{check.__doc__}\n{EXAMPLES}"
