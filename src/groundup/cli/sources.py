"""What `groundup train` learns from: a data set by name, a folder of images, a table."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

import numpy as np
import typer

from groundup import data
from groundup.data import Split, TableEncoder
from groundup.errors import DataNotFoundError
from groundup.ops.base import Array

NAMES = ("digits", "mnist", "fashion-mnist")
TABLES = (".csv", ".tsv", ".txt", ".parquet")


@dataclass(frozen=True)
class Scaling:
    """(x - mean) / std of the training rows: one number for images, one a column for tables."""

    mean: tuple[float, ...]
    std: tuple[float, ...]

    @classmethod
    def of(cls, x: Array, axis: int | None) -> Scaling:
        """The scaling that x (n, ...) needs, over all numbers or along an axis."""
        mean, std = data.mean_std(x, axis=axis)
        return cls(tuple(np.ravel(mean).tolist()), tuple(np.ravel(std).tolist()))

    def apply(self, x: Array) -> Array:
        """The scaled numbers, as a new float32 array of x's shape (n, features)."""
        scaled: Array = data.normalize(x, np.array(self.mean), np.array(self.std))
        return scaled

    def undo(self, x: Array) -> Array:
        """The numbers of which x is the scaled version."""
        undone: Array = x * np.array(self.std, x.dtype) + np.array(self.mean, x.dtype)
        return undone


@dataclass(frozen=True)
class Source:
    """A data set, and what is needed to treat later data the same way.

    Attributes:
        name: for the run's folder: "digits", or a folder's or file's name.
        split: the arrays, x (n, features) as loaded.
        classes: the names of the labels; None for regression.
        size: height and width of images; None for a table.
        encoder: of a table; None for images.
    """

    name: str
    split: Split
    classes: tuple[str, ...] | None
    size: tuple[int, int] | None
    encoder: TableEncoder | None

    @property
    def target(self) -> str:
        """What is predicted."""
        return self.encoder.target if self.encoder else "class"

    def images(self, x: Array) -> Array:
        """Rows x (n, height * width) as images (n, height, width)."""
        assert self.size is not None
        return x.reshape(len(x), *self.size)

    def describe(self) -> str:
        """The data in a line."""
        x = self.split.x_train
        what = (
            f"images of {self.size[0]}x{self.size[1]}"
            if self.size
            else f"rows, {x.shape[1]} inputs"
        )
        goal = f"{len(self.classes)} classes" if self.classes else f"a number: {self.target}"
        return f"{len(x):,} training and {len(self.split.x_valid):,} valid {what}, {goal}"


def name_of(source: str) -> str:
    """What a run on this source is called; typer.BadParameter if it is none."""
    if source in NAMES:
        return source
    path = os.path.abspath(os.path.expanduser(source))
    name = os.path.basename(path)
    if is_table(path):
        return name.split(".")[0] or "table"
    if not os.path.isdir(path):
        raise typer.BadParameter(
            f"{source!r} is neither a data set ({', '.join(NAMES)}), nor a folder of images, nor "
            f"the name of a table ({', '.join(TABLES)})",
            param_hint="DATA",
        )
    return name or "images"


def is_table(path: str) -> bool:
    """Whether a path has a table's suffix."""
    return path.lower().removesuffix(".gz").endswith(TABLES)


def load(
    source: str, *, data_folder: str | None, target: str | None, size: int, seed: int
) -> Source:
    """The data set that the command's options name.

    Raises:
        DataNotFoundError, DataError, MissingDependencyError: see `groundup.data`.

    """
    name = name_of(source)
    if source == "digits":
        return Source(name, data.digits(), data.DIGIT_CLASSES, (8, 8), None)
    if source in NAMES:
        fetch, classes = {
            "mnist": (data.mnist, data.DIGIT_CLASSES),
            "fashion-mnist": (data.fashion_mnist, data.FASHION_CLASSES),
        }[source]
        try:
            return Source(name, fetch(data_folder), classes, (28, 28), None)
        except DataNotFoundError as error:
            raise DataNotFoundError(f"{error} (for this command: --data-folder)") from error
    if is_table(source):
        split, encoder = data.table(source, target, seed=seed, missing="mean")
        return Source(name, split, encoder.classes, None, encoder)
    split, names = data.image_folder(source, size, seed=seed)
    return Source(name, split, names, (size, size), None)


def background(images: Array) -> float:
    """How bright the images' (n, height, width) edges are: the median, 0 black, 1 white."""
    edges: list[Any] = [images[:, 0], images[:, -1], images[:, :, 0], images[:, :, -1]]
    return float(np.median(np.concatenate(edges, axis=1)))
