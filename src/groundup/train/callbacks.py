"""Callbacks: what else happens while a Learner trains, each a small class with named hooks."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from groundup.errors import DataError, GroundupError, StateError
from groundup.optim import Optimizer, clip_grad_norm
from groundup.train.files import write_atomically
from groundup.train.metrics import better

if TYPE_CHECKING:
    from groundup.train.learner import Learner

HOOKS = (
    "before_fit",
    "before_epoch",
    "before_batch",
    "after_loss",
    "after_backward",
    "after_step",
    "after_epoch",
    "after_fit",
    "after_interrupt",
    "close",
)


class Callback:
    """Override the hooks that you need; each gets the Learner, and may read and set its attributes.

    Callbacks run by ascending `order`; equal ones in the order in which they were given. What a
    callback must remember over a crash it puts into `state_dict` and takes back in
    `load_state_dict`: arrays, and what JSON can hold.
    """

    order: int = 0
    # Whether the callback's part of a step is `within_step`, made of Tensor operations: then the
    # step stays compiled, and `after_loss` and `after_backward` are not called in it.
    recordable: bool = False
    # Whether `after_step` must be called after every single step. Where no callback wants that or
    # `before_batch`, steps run many at a time as machine code, with `after_step` in between, and
    # without `learner.xb`, `yb`, `pred` and `batch_loss`.
    each_step: bool = True

    def within_step(self, opt: Optimizer) -> None:
        """Of a recordable callback: what it does between backward and update."""

    def before_fit(self, learner: Learner) -> None:
        """Training starts or, after a crash, goes on (`learner.resumed` is then True)."""

    def before_epoch(self, learner: Learner) -> None:
        """An epoch starts or goes on at `learner.batch`."""

    def before_batch(self, learner: Learner) -> None:
        """`learner.xb` and `learner.yb` are there, and may be replaced."""

    def after_loss(self, learner: Learner) -> None:
        """`learner.pred` and `learner.batch_loss` are there; the latter may be replaced."""

    def after_backward(self, learner: Learner) -> None:
        """All gradients are there, and may be changed."""

    def after_step(self, learner: Learner) -> None:
        """The parameters were updated, and `learner.step` and `learner.batch` count that."""

    def after_epoch(self, learner: Learner) -> None:
        """`learner.history[-1]` has the epoch's row. `learner.stop = "why"` ends the training."""

    def after_fit(self, learner: Learner) -> None:
        """The training came to its end."""

    def after_interrupt(self, learner: Learner) -> None:
        """Ctrl-C was pressed; the Learner is between two batches. `after_fit` is not called."""

    def close(self, learner: Learner) -> None:
        """The last call, whatever ended the training: an error, too. Let go of what you hold."""

    def state_dict(self) -> dict[str, Any]:
        """What `load_state_dict` needs in order to go on."""
        return {}

    def load_state_dict(self, saved: Mapping[str, Any]) -> None:
        """Go on from what `state_dict` gave."""


class KeepBest(Callback):
    """Keep the weights of the best epoch, and put them back when the training ends.

    Args:
        monitor: a column of the history: "valid_loss", or a metric's name.
        mode: whether "min" or "max" is best; known for groundup's own columns.

    Attributes: best (the value, or None), best_epoch.
    """

    def __init__(self, monitor: str = "valid_loss", mode: Literal["min", "max"] | None = None):
        mode = mode or better(monitor)
        if mode not in ("min", "max"):
            raise GroundupError(
                f"{type(self).__name__}: is {monitor!r} better small or large? Say "
                'mode="min" or mode="max"'
            )
        self.monitor = monitor
        self.sign = 1.0 if mode == "min" else -1.0
        self.best: float | None = None
        self.best_epoch = 0
        self.weights: dict[str, Any] = {}

    def after_epoch(self, learner: Learner) -> None:
        row = learner.history[-1]
        if self.monitor not in row:
            raise GroundupError(
                f"{type(self).__name__} monitors {self.monitor!r}, and the history has "
                f"{', '.join(row)}; is there a valid set, and the metric in metrics=?"
            )
        if self.improves(row[self.monitor]):
            self.best, self.best_epoch = row[self.monitor], learner.epoch
            self.weights = learner.model.state_dict()

    def improves(self, value: float) -> bool:
        """Whether a value is the best so far."""
        return self.best is None or self.sign * value < self.sign * self.best

    def after_fit(self, learner: Learner) -> None:
        if self.weights:
            learner.model.load_state_dict(self.weights)

    def state_dict(self) -> dict[str, Any]:
        weights = {f"weights.{name}": array for name, array in self.weights.items()}
        return {"best": self.best, "best_epoch": self.best_epoch, **weights}

    def load_state_dict(self, saved: Mapping[str, Any]) -> None:
        self.best, self.best_epoch = saved["best"], saved["best_epoch"]
        self.weights = {
            name.removeprefix("weights."): array
            for name, array in saved.items()
            if name.startswith("weights.")
        }


class EarlyStopping(KeepBest):
    """Stop when nothing got better for some epochs, and put the best epoch's weights back.

    Args:
        monitor, mode: see `KeepBest`.
        patience: how many epochs without a better value are waited for.
        min_delta: by how much a value must be better to count.

    """

    def __init__(
        self,
        monitor: str = "valid_loss",
        patience: int = 5,
        min_delta: float = 0.0,
        mode: Literal["min", "max"] | None = None,
    ):
        super().__init__(monitor, mode)
        if patience < 1 or min_delta < 0:
            raise GroundupError(
                "EarlyStopping: patience is at least 1 and min_delta at least 0, not "
                f"{patience} and {min_delta}"
            )
        self.patience, self.min_delta = patience, min_delta
        self.waited = 0

    def before_fit(self, learner: Learner) -> None:
        if not learner.resumed:
            self.waited = 0

    def after_epoch(self, learner: Learner) -> None:
        super().after_epoch(learner)
        self.waited = 0 if self.best_epoch == learner.epoch else self.waited + 1
        if self.waited >= self.patience:
            learner.stop = (
                f"no better {self.monitor} for {self.patience} epochs; back to the weights of "
                f"epoch {self.best_epoch} ({self.best:.4g})"
            )

    def improves(self, value: float) -> bool:
        """Whether a value is better than the best so far by more than min_delta."""
        return self.best is None or self.sign * value < self.sign * self.best - self.min_delta

    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), "waited": self.waited}

    def load_state_dict(self, saved: Mapping[str, Any]) -> None:
        super().load_state_dict(saved)
        self.waited = saved["waited"]


class ClipGradients(Callback):
    """Scale each step's gradients so that their joint norm is at most max_norm."""

    recordable = True

    def __init__(self, max_norm: float):
        self.max_norm = max_norm

    def within_step(self, opt: Optimizer) -> None:
        clip_grad_norm(opt.params, self.max_norm)

    def after_backward(self, learner: Learner) -> None:
        self.within_step(learner.opt)


class CsvLog(Callback):
    """The history as a CSV file, whole at any moment: after each epoch it is written anew.

    So a training that goes on after a crash leaves the file as an unbroken one would have.

    Raises:
        DataError: the file is there already, from another training.

    """

    order = 80

    def __init__(self, path: str | os.PathLike[str]):
        self.path = os.fspath(path)
        self.mine = False  # whether the file is this training's

    def before_fit(self, learner: Learner) -> None:
        if not (self.mine or learner.resumed) and self._has_rows():
            raise DataError(
                f"the log {self.path} is there already, from another training: go on with that "
                "one (fit(epochs, resume=True)) or name another file"
            )
        write_atomically(self.path, self._text(learner))
        self.mine = True

    def after_epoch(self, learner: Learner) -> None:
        try:
            write_atomically(self.path, self._text(learner))
        except OSError as error:
            learner.warn(f"{self.path} could not be written ({error.strerror}); training goes on")

    def _has_rows(self) -> bool:
        if not os.path.exists(self.path):
            return False
        with open(self.path, "rb") as file:
            return len(file.readlines()) > 1

    def _text(self, learner: Learner) -> bytes:
        import csv
        import io

        text = io.StringIO()
        writer = csv.DictWriter(text, learner.columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(learner.history)
        return text.getvalue().encode()


def in_order(callbacks: Sequence[Any]) -> list[Callback]:
    """The callbacks as they run; GroundupError if one is none."""
    for callback in callbacks:
        if not isinstance(callback, Callback):
            hint = ": make an instance, with ()" if isinstance(callback, type) else ""
            raise GroundupError(f"{callback!r:.60} is no Callback{hint}")
    return sorted(callbacks, key=lambda callback: callback.order)


def names_of(callbacks: list[Callback]) -> list[str]:
    """A name for each callback by which its state is saved: its class, numbered if need be."""
    kinds = [type(callback).__name__ for callback in callbacks]
    return [f"{kind}-{kinds[:i].count(kind)}" for i, kind in enumerate(kinds)]


def load_states(callbacks: list[Callback], saved: Mapping[str, Mapping[str, Any]]) -> None:
    """Give each callback the state saved under its name; StateError if one lacks its own."""
    for name, callback in zip(names_of(callbacks), callbacks, strict=True):
        if name in saved:
            callback.load_state_dict(saved[name])
        elif callback.state_dict():
            raise StateError(
                f"the state holds nothing for {name}; it was saved with the callbacks "
                f"{', '.join(saved) or '(none)'}: give the same ones"
            )
