"""Activations and gradients, layer by layer, while a model trains."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from groundup.errors import GroundupError
from groundup.nn import Module
from groundup.tensor import Tensor
from groundup.train.callbacks import Callback

if TYPE_CHECKING:
    from groundup.train.learner import Learner

QUANTITIES = ("mean", "std", "near_zero", "dead", "grad_norm")


class ActivationStats(Callback):
    """What comes out of each layer in training, and the gradient that comes back to it.

    Args:
        every: look at each so-manieth step.
        layers: paths of submodules, such as "layers.1"; all innermost ones unless given.
        zero: outputs no larger than this count as near zero.

    Attributes:
        steps: the steps looked at.
        stats: by layer's path, for each step looked at: `mean` and `std` of the outputs,
            `near_zero` the share of outputs near zero, `dead` the share of units near zero for
            every row of the batch, `grad_norm` the norm of the gradient of the outputs.

    """

    def __init__(self, every: int = 10, layers: Sequence[str] | None = None, zero: float = 1e-6):
        if every < 1:
            raise GroundupError(f"ActivationStats: every is at least 1, not {every}")
        self.every, self.layers, self.zero = every, layers, zero
        self.steps: list[int] = []
        self.stats: dict[str, dict[str, list[float]]] = {}
        self.remove: list[Any] = []
        self.outputs: dict[str, Tensor] = {}
        self.looking = False

    def before_fit(self, learner: Learner) -> None:
        modules = dict(learner.model.named_modules())
        names = self.layers or [n for n, m in modules.items() if len(list(m.modules())) == 1]
        for name in names:
            if name not in modules:
                raise GroundupError(
                    f"ActivationStats: there is no layer {name!r}; there are {', '.join(modules)}"
                )
            self.stats.setdefault(name, {quantity: [] for quantity in QUANTITIES})
            self.remove.append(modules[name].register_forward_hook(self._keeper(name)))

    def before_batch(self, learner: Learner) -> None:
        self.looking = learner.step % self.every == 0

    def after_backward(self, learner: Learner) -> None:
        if not self.looking:
            return
        self.looking = False
        self.steps.append(learner.step)
        for name, kept in self.stats.items():
            out = self.outputs.pop(name, None)
            for quantity, value in zip(QUANTITIES, self._look(out), strict=True):
                kept[quantity].append(value)

    def close(self, learner: Learner) -> None:
        while self.remove:
            self.remove.pop()()

    def state_dict(self) -> dict[str, Any]:
        kept = {name: {q: list(v) for q, v in each.items()} for name, each in self.stats.items()}
        return {"steps": list(self.steps), "stats": kept}

    def load_state_dict(self, saved: Mapping[str, Any]) -> None:
        self.steps, self.stats = list(saved["steps"]), saved["stats"]

    def plot(self, path: str | os.PathLike[str] | None = None) -> Any:
        """All quantities over the steps as a matplotlib Figure, also written to path if given."""
        from groundup.train.plots import plot_stats, save_figure

        return save_figure(plot_stats(self.steps, self.stats), path)

    def _keeper(self, name: str) -> Any:
        def keep(module: Module, args: tuple[Any, ...], out: Any) -> None:
            if self.looking and isinstance(out, Tensor):
                self.outputs[name] = out

        return keep

    def _look(self, out: Tensor | None) -> tuple[float, ...]:
        """QUANTITIES of an output; NaN where there is none."""
        if out is None or not out.size:
            return (float("nan"),) * len(QUANTITIES)
        a = out.data
        near = np.abs(a) <= self.zero
        g = np.nan if out.g is None else np.linalg.norm(out.g.data)
        return (
            float(a.mean()),
            float(a.std()),
            float(near.mean()),
            float(near.all(0).mean()),
            float(g),
        )
