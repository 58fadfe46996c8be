"""Checkpoints: a training that was killed at any moment goes on as if nothing had happened."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, Any

from groundup.errors import GroundupError, StateError
from groundup.ops.base import Array
from groundup.train.callbacks import Callback
from groundup.train.files import TEMPORARY, load_tensors, save_tensors
from groundup.train.state import capture, restore

if TYPE_CHECKING:
    from groundup.train.learner import Learner

_FORMAT = 1
_NAME = re.compile(r"checkpoint-(\d{10})\.safetensors")


class Checkpoint(Callback):
    """Save the whole state of a training: at its start, after each epoch, and on Ctrl-C.

    A checkpoint is one safetensors file, `checkpoint-STEP.safetensors`: arrays, a description in
    JSON and a checksum; nothing in it is code. It is written to a temporary file first, so that
    one under its own name is always whole, and the one before is kept. A full disk is a warning,
    and training goes on. A state with a NaN in a weight is refused.

    `learner.fit(epochs, resume=True)` goes on from the newest. Data, batch size and seed must be
    the same, and it is on the caller to give the same schedule and optimizer settings.

    Args:
        folder: where; it is made if it is not there. One folder for one training.
        every: save after so many steps, too.
        keep: how many checkpoints stay; the oldest are deleted.

    Raises:
        GroundupError: the folder has checkpoints of another training.
        OSError: the folder cannot be written to (when training starts; later it is a warning).

    """

    order = 100  # after all that changes the state

    def __init__(self, folder: str | os.PathLike[str], every: int | None = None, keep: int = 2):
        if (every is not None and every < 1) or keep < 1:
            raise GroundupError(f"Checkpoint: every and keep are at least 1, not {every}, {keep}")
        self.folder, self.every, self.keep = os.fspath(folder), every, keep
        self.each_step = every is not None
        self.mine = False  # whether what is in the folder is this training's

    def before_fit(self, learner: Learner) -> None:
        os.makedirs(self.folder, exist_ok=True)
        if self.paths() and not (self.mine or learner.resumed):
            raise GroundupError(
                f"{self.folder} has checkpoints of another training: go on with that one "
                "(fit(epochs, resume=True)) or name another folder"
            )
        self.mine = True
        for name in os.listdir(self.folder):  # left by a process that was killed while writing
            if name.startswith(".checkpoint-") and name.endswith(TEMPORARY):
                os.remove(os.path.join(self.folder, name))
        if not self.paths():
            self.save(learner)

    def after_step(self, learner: Learner) -> None:
        if self.every is not None and learner.step % self.every == 0:
            self._try_to_save(learner)

    def after_epoch(self, learner: Learner) -> None:
        self._try_to_save(learner)

    def after_interrupt(self, learner: Learner) -> None:
        self._try_to_save(learner)

    def paths(self) -> list[str]:
        """The checkpoints in the folder, the newest first."""
        names = os.listdir(self.folder) if os.path.isdir(self.folder) else []
        return [os.path.join(self.folder, n) for n in sorted(names)[::-1] if _NAME.fullmatch(n)]

    def save(self, learner: Learner) -> None:
        """Write a checkpoint, then delete all but the newest ones.

        Raises:
            NonFiniteError: a weight is NaN or infinite; nothing is written.
            OSError: it could not be written; the ones before are still there.

        """
        learner.check_weights()
        arrays, info = capture(learner)
        path = os.path.join(self.folder, f"checkpoint-{learner.step:010}.safetensors")
        save_tensors(path, arrays, {"format": _FORMAT, **_identity(learner), **info})
        for old in self.paths()[self.keep :]:
            os.remove(old)

    def load_newest(self, learner: Learner) -> bool:
        """Put the Learner into the newest whole checkpoint's state; False if there is none.

        A damaged one is renamed to NAME.damaged, with a warning, and the one before is taken.

        Raises:
            StateError: all are damaged, or they are of another training.

        """
        found = self.paths()
        problems = []
        for path in found:
            try:
                arrays, info = load_tensors(path)
            except StateError as error:
                problems.append(str(error))
                continue
            self._restore(learner, path, arrays, info)
            for damaged, problem in zip(found, problems, strict=False):
                os.replace(damaged, f"{damaged}.damaged")
                learner.warn(f"{problem}; going on from {os.path.basename(path)}, the one before")
            return True
        if problems:
            raise StateError("no checkpoint can be used:\n  " + "\n  ".join(problems))
        return False

    def _restore(
        self, learner: Learner, path: str, arrays: dict[str, Array], info: dict[str, Any]
    ) -> None:
        if info.get("format") != _FORMAT:
            raise StateError(f"{path} is no checkpoint that this version of groundup can read")
        for name, here in _identity(learner).items():
            if info[name] != here:
                raise StateError(
                    f"{path} is of another training: its {name.replace('_', ' ')} is "
                    f"{info[name]}, here it is {here}"
                )
        try:
            restore(learner, arrays, info)
        except StateError as error:
            raise StateError(f"{path}: {error}") from error

    def _try_to_save(self, learner: Learner) -> None:
        try:
            self.save(learner)
        except OSError as error:
            kept = self.paths()
            learner.warn(
                f"the checkpoint of step {learner.step} could not be written to {self.folder} "
                f"({error.strerror or error}). Training goes on; "
                + (f"{os.path.basename(kept[0])} is still there" if kept else "there is none yet")
            )


def _identity(learner: Learner) -> dict[str, Any]:
    """What must be the same for a training to be the same."""
    batches = learner.train_batches
    return {
        "batch_size": batches.size,
        "seed": learner.seed,
        "order_seed": batches.seed,
        "data": learner.fingerprint,
    }
