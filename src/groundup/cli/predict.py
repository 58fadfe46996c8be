"""`groundup predict`."""

from __future__ import annotations

import os
from enum import StrEnum
from typing import Annotated

import numpy as np
import typer

from groundup.backward import no_grad
from groundup.cli.runs import Config
from groundup.cli.show import say, say_aside
from groundup.cli.sources import background, is_table
from groundup.data import load_images
from groundup.errors import DataError, StateError
from groundup.methods import softmax
from groundup.nn import Module
from groundup.ops.base import Array
from groundup.tensor import Tensor
from groundup.train.files import load_tensors, write_atomically
from groundup.train.state import evaluating


class Invert(StrEnum):
    """Whether an image's black and white are swapped."""

    auto = "auto"
    yes = "yes"
    no = "no"


EXAMPLES = """
[bold]Examples[/bold]

groundup predict runs/digits-1 seven.png

groundup predict runs/digits-1 scans/*.png --out predictions.csv

groundup predict runs/houses-1 new-houses.csv
"""


def predict(
    run: Annotated[str, typer.Argument(metavar="RUN", help="A run folder of groundup train.")],
    inputs: Annotated[
        list[str], typer.Argument(metavar="IMAGE_OR_TABLE", help="Images, or tables.")
    ],
    invert: Annotated[
        Invert,
        typer.Option(
            help="Swap black and white: auto does where an image's edges are bright and were dark "
            "in training, or the other way round."
        ),
    ] = Invert.auto,
    out: Annotated[
        str | None, typer.Option(metavar="FILE.csv", help="Write the predictions there.")
    ] = None,
) -> None:
    """Predict with a run: images are made gray and resized as in training, tables encoded so."""
    config = Config.read(run)
    model = _load(run, config)
    if config.size is not None:
        names, x = inputs, _read_images(inputs, config, invert)
    else:
        names, x = _read_tables(inputs, config)
    with evaluating(model), no_grad():
        outputs = model(Tensor.of(config.scaling.apply(x))).data
    if config.classes is None:
        assert config.target_scaling is not None
        values = config.target_scaling.undo(outputs[:, 0])
        head = ["input", config.table_encoder().target]
        shown = [[f"{v:.6g}"] for v in values]
        exact = [[repr(float(v))] for v in values]
    else:
        p = softmax(outputs).data
        head = ["input", "prediction", "probability", "next"]
        shown = [_in_words(row, config.classes) for row in p]
        exact = [[config.classes[row.argmax()], repr(float(row.max()))] for row in p]
    if out is None:
        _say_table(head, [[name, *row] for name, row in zip(names, shown, strict=True)])
    else:
        _write_table(out, head[:3], [[name, *row] for name, row in zip(names, exact, strict=True)])
        say(f"{len(exact):,} predictions in {out}")


def _load(run: str, config: Config) -> Module:
    path = os.path.join(run, "weights.safetensors")
    if not os.path.exists(path):
        raise StateError(
            f"{run} has no weights.safetensors: its training did not come to its end. Go on with "
            f"it: groundup train --resume {run}"
        )
    model = config.model()
    model.load_state_dict(load_tensors(path)[0])
    return model


def _read_images(paths: list[str], config: Config, invert: Invert) -> Array:
    """The images as the training's were, (n, height * width), 0 black and 1 white."""
    assert config.size is not None
    assert config.background is not None
    for path in paths:
        if is_table(path):
            raise DataError(f"{path} is a table, and the run was trained on images")
    x = load_images(paths, config.size)
    edges = np.array([background(image.reshape(1, *config.size)) for image in x])
    unlike = np.abs(edges - config.background) > 0.5
    swapped = unlike if invert is Invert.auto else np.full(len(x), invert is Invert.yes)
    x[swapped] = 1 - x[swapped]
    if invert is Invert.auto and unlike.any():
        here, there = ("dark", "bright") if config.background > 0.5 else ("bright", "dark")
        names = [path for path, is_so in zip(paths, unlike, strict=True) if is_so]
        more = f" and {len(names) - 3} more" if len(names) > 3 else ""
        say_aside(
            f"{', '.join(names[:3])}{more}: {here} background, {there} in training, so black and "
            "white are swapped (--invert no leaves them)"
        )
    return x


def _read_tables(paths: list[str], config: Config) -> tuple[list[str], Array]:
    """The names of all rows, and their features."""
    for path in paths:
        if not is_table(path):
            raise DataError(f"{path} is no table (.csv, .tsv, .txt, .parquet), as the run needs")
    parts = [config.table_encoder().encode(path) for path in paths]
    names = [
        f"{path}:{row + 1}" if len(paths) > 1 else f"row {row + 1}"
        for path, part in zip(paths, parts, strict=True)
        for row in range(len(part))
    ]
    return names, np.concatenate(parts)


def _in_words(p: Array, classes: tuple[str, ...]) -> list[str]:
    """The likeliest class, its probability, and the two after it; p (classes,)."""
    first, *rest = np.argsort(-p, kind="stable")[:3]
    after = ", ".join(f"{classes[i]} {p[i]:.1%}" for i in rest)
    return [classes[first], f"{p[first]:.1%}", after]


def _say_table(head: list[str], rows: list[list[str]]) -> None:
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    lines = ["  ".join(c.ljust(w) for c, w in zip(r, widths, strict=True)) for r in [head, *rows]]
    for i, line in enumerate(lines):
        say(line.rstrip(), "" if i else "dim")


def _write_table(path: str, head: list[str], rows: list[list[str]]) -> None:
    import csv
    import io

    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerows([head, *rows])
    write_atomically(path, text.getvalue().encode())


predict.__doc__ = f"{predict.__doc__}\n{EXAMPLES}"
