"""The command line's frame: commands, options common to all, and how errors are told."""

from __future__ import annotations

import warnings
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from groundup.cli.check import check
from groundup.cli.explain import explain
from groundup.cli.predict import predict
from groundup.cli.show import say, say_error, show_warning
from groundup.cli.train import train
from groundup.errors import GroundupError
from groundup.train import TrainingWarning

HELP = "Neural networks from the ground up: train one here, and use it."


class Commands(TyperGroup):
    """Ends with a clear line and an exit code where a program would end with a traceback."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command: 1 for an error, 130 for Ctrl-C."""
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("always", TrainingWarning)
                warnings.showwarning = show_warning
                return super().invoke(ctx)
        except KeyboardInterrupt as interrupt:
            say_error(str(interrupt) or "interrupted", label="")
            raise typer.Exit(130) from None
        except BrokenPipeError:
            raise
        except (GroundupError, OSError) as error:
            if ctx.params["debug"]:
                raise
            say_error(str(error))
            raise typer.Exit(1) from None


app = typer.Typer(
    name="groundup",
    cls=Commands,
    help=HELP,
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command()(train)
app.command()(predict)
app.command()(explain)
app.command()(check)


def _version(wanted: bool) -> None:
    if wanted:
        from groundup import __version__

        say(f"groundup {__version__}")
        raise typer.Exit


@app.callback()
def common(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
    debug: Annotated[
        bool, typer.Option("--debug", help="Show the whole traceback of an error.")
    ] = False,
) -> None:
    """Options that come before the command."""


def main() -> None:
    """The console script."""
    app(prog_name="groundup")
