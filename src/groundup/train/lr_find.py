"""The learning-rate search: a short training whose rate grows until the loss explodes."""

from __future__ import annotations

import os
from itertools import islice
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from groundup.errors import GroundupError, NonFiniteError
from groundup.train.state import capture, restore

if TYPE_CHECKING:
    from groundup.train.learner import Learner

_EXPLODED = 4.0  # times the loss at the start


class LrFind(NamedTuple):
    """What a learning-rate search found.

    Attributes:
        lrs: the rates tried, growing.
        losses: each step's loss.
        smooth: the same, each averaged with its neighbours.
        suggestion: the rate at which the loss fell the fastest.
    """

    lrs: tuple[float, ...]
    losses: tuple[float, ...]
    smooth: tuple[float, ...]
    suggestion: float

    def plot(self, path: str | os.PathLike[str] | None = None) -> Any:
        """The losses over the rates as a matplotlib Figure, also written to path if given."""
        from groundup.train.plots import plot_lr_find, save_figure

        return save_figure(plot_lr_find(self.lrs, self.losses, self.smooth, self.suggestion), path)


def find_lr(learner: Learner, lr_min: float, lr_max: float, steps: int) -> LrFind:
    """See `Learner.lr_find`; to be called where no callbacks run."""
    if not 0 < lr_min < lr_max or steps < 10:
        raise GroundupError(
            "lr_find: 0 < lr_min < lr_max and 10 steps or more are needed, not "
            f"lr_min={lr_min}, lr_max={lr_max}, steps={steps}"
        )
    saved, schedule = capture(learner), learner.schedule
    first = learner.step
    learner.schedule = lambda step: lr_min * (lr_max / lr_min) ** ((step - first) / (steps - 1))
    lrs: list[float] = []
    losses: list[float] = []
    try:
        for xb, yb in islice(_endless(learner), steps):
            try:
                learner.train_batch(xb, yb)
            except NonFiniteError:
                break
            losses.append(learner.batch_loss.item())
            lrs.append(learner.opt.lr)
            if np.mean(losses[-5:]) > _EXPLODED * np.mean(losses[:5]):
                break
    finally:
        learner.schedule = schedule
        restore(learner, *saved)
    near = max(2, len(losses) // 10)
    smooth = [float(np.mean(_around(losses, i, near // 2))) for i in range(len(losses))]
    lowest = int(np.argmin(smooth)) if smooth else 0
    # Single losses are noisy: the slope at a rate is that of a line through many around it.
    logs = np.log(lrs)
    slopes = [
        np.polyfit(_around(logs, i, near), _around(losses, i, near), 1)[0] for i in range(lowest)
    ]
    if lowest < 3 or min(slopes) >= 0:
        raise GroundupError(
            f"lr_find: the loss never fell between lr={lr_min:g} and {lr_max:g}: try a smaller "
            "lr_min, and look whether inputs are scaled and labels belong to their rows"
        )
    return LrFind(tuple(lrs), tuple(losses), tuple(smooth), lrs[int(np.argmin(slopes))])


def _around(values: Any, i: int, near: int) -> Any:
    """values[i] and up to `near` on either side."""
    return values[max(0, i - near) : i + near + 1]


def _endless(learner: Learner) -> Any:
    learner.train_batches.epoch = 0
    while True:
        yield from learner.train_batches
