"""Run folders: what a training leaves behind, enough to go on with it and to predict."""

from __future__ import annotations

import json
import os
import platform
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import Any

import numpy as np

from groundup import generator, nn, optim
from groundup.cli.sources import Scaling
from groundup.data import TableEncoder
from groundup.errors import StateError
from groundup.train.files import write_atomically

_FORMAT = 1


@dataclass(frozen=True)
class Settings:
    """What the options of `groundup train` say."""

    source: str
    data_folder: str | None
    target: str | None
    size: int
    hidden: tuple[int, ...]
    epochs: int
    batch_size: int
    lr: float
    opt: str
    momentum: float
    weight_decay: float
    dropout: float
    seed: int

    def optimizer(self) -> Any:
        """What makes the optimizer from the parameters."""
        kinds: dict[str, Any] = {
            "sgd": partial(optim.SGD, momentum=self.momentum),
            "rmsprop": partial(optim.RMSprop, momentum=self.momentum),
            "adam": optim.Adam,
            "adamw": optim.AdamW,
        }
        return partial(kinds[self.opt], lr=self.lr, weight_decay=self.weight_decay)


@dataclass(frozen=True)
class Config:
    """config.json: the settings, and what was found in the data.

    Attributes:
        classes: the labels' names; None for regression.
        size: height and width of images; None for a table.
        inputs: the number of input columns.
        scaling: of the inputs. target_scaling: of a regression's target.
        background: how bright training images' edges are.
        encoder: a table's, as a dict.
        fingerprint: of the training rows as the model sees them.
        versions: of what the run was made with.
        result: the last row of the log, once there is one.
    """

    settings: Settings
    classes: tuple[str, ...] | None
    size: tuple[int, int] | None
    inputs: int
    scaling: Scaling
    target_scaling: Scaling | None
    background: float | None
    encoder: dict[str, Any] | None
    fingerprint: str
    versions: dict[str, str]
    result: dict[str, float] = field(default_factory=dict)

    def model(self) -> nn.Sequential:
        """The network, its weights drawn from the seed."""
        generator.manual_seed(self.settings.seed)
        layers: list[nn.Module] = []
        n_in = self.inputs
        for n_out in self.settings.hidden:
            layers += [nn.Linear(n_in, n_out), nn.Relu()]
            if self.settings.dropout:
                layers.append(nn.Dropout(self.settings.dropout))
            n_in = n_out
        return nn.Sequential(*layers, nn.Linear(n_in, len(self.classes) if self.classes else 1))

    def table_encoder(self) -> TableEncoder:
        """How a table becomes inputs."""
        assert self.encoder is not None
        return TableEncoder.from_dict(self.encoder)

    def write(self, folder: str) -> None:
        """Write config.json, atomically."""
        text = json.dumps({"format": _FORMAT, **asdict(self)}, indent=1)
        write_atomically(os.path.join(folder, "config.json"), text.encode())

    @classmethod
    def read(cls, folder: str) -> Config:
        """Read a run folder's config.json; StateError if there is none, or it is no such file."""
        path = os.path.join(folder, "config.json")
        try:
            with open(path, encoding="utf-8") as file:
                saved = json.load(file)
            if saved.pop("format") != _FORMAT:
                raise StateError(f"{path} is of a format that this version of groundup cannot read")
            settings = Settings(
                **{**saved["settings"], "hidden": tuple(saved["settings"]["hidden"])}
            )
            scalings = {
                name: None if saved[name] is None else _scaling(**saved[name])
                for name in ("scaling", "target_scaling")
            }
            tuples = {
                name: None if saved[name] is None else tuple(saved[name])
                for name in ("classes", "size")
            }
            return cls(**{**saved, **scalings, **tuples, "settings": settings})
        except FileNotFoundError as error:
            raise StateError(
                f"{folder} is no run folder: it has no config.json. Give a folder that groundup "
                "train made, such as runs/digits-1"
            ) from error
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise StateError(f"{path} is damaged ({type(error).__name__}: {error})") from error


def _scaling(mean: list[float], std: list[float]) -> Scaling:
    return Scaling(tuple(mean), tuple(std))


def new_folder(out: str, name: str) -> str:
    """Make the first of out/name-1, out/name-2, ... that is not there yet."""
    os.makedirs(out, exist_ok=True)
    number = 1
    while True:
        folder = os.path.join(out, f"{name}-{number}")
        try:
            os.mkdir(folder)
        except FileExistsError:
            number += 1
        else:
            return folder


def versions() -> dict[str, str]:
    """What a run is made with."""
    from groundup import __version__

    return {
        "groundup": __version__,
        "numpy": np.__version__,
        "python": platform.python_version(),
    }
