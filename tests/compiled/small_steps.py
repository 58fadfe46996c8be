"""A small training step, made anew and always the same, and what can be asked of it."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

import groundup as gu
from groundup import Tensor, nn, optim

FEATURES, CLASSES = 6, 3


class Centre(nn.Module):
    """Takes the batch's mean out: a bias before it has a gradient of 0, but for rounding."""

    def forward(self, x: Tensor) -> Tensor:
        return x - x.mean(0, keepdims=True)


@dataclass
class Made:
    """A model, its optimizer, and a step of both that returns the loss."""

    model: nn.Sequential
    opt: optim.Optimizer
    step: Callable[[Any, Any], Tensor]

    def state(self) -> dict[str, bytes]:
        """All that the step changes, bit for bit."""
        return {name: array.tobytes() for name, array in self.arrays().items()}

    def arrays(self) -> dict[str, np.ndarray]:
        """Weights, the generators' counters, the optimizer's state and counts, copied."""
        generators = [m.generator for m in self.model if isinstance(m, nn.Dropout)]
        counters = {f"counter.{i}": g.counter.data for i, g in enumerate(generators) if g}
        held = {**self.model.state_dict(), **self.opt.state_dict(), **counters}
        return {name: np.array(value) for name, value in held.items()}


def make(
    opt: Any = optim.Adam,
    lr: float = 0.01,
    *,
    sizes: tuple[int, ...] = (FEATURES, 8, CLASSES),
    dtype: Any = np.float32,
    before: tuple[nn.Module, ...] = (),
    **options: Any,
) -> Made:
    """An MLP, with some modules behind its first layer."""
    gu.manual_seed(3)
    layers: list[nn.Module] = []
    for a, b in itertools.pairwise(sizes):
        layers += [nn.Linear(a, b), nn.Tanh()]
    layers[1:1] = before
    model = nn.Sequential(*layers[:-1]).to(dtype)
    optimizer, loss_of = opt(model.parameters(), lr, **options), nn.CrossEntropy()

    def step(x: Tensor, y: Tensor) -> Tensor:
        loss = loss_of(model(x), y)
        loss.backward()
        optimizer.step()
        return loss

    return Made(model, optimizer, step)


def rows(
    n: int, seed: int = 0, dtype: Any = np.float32, features: int = FEATURES
) -> tuple[np.ndarray, np.ndarray]:
    """Features (n, features) and labels (n,)."""
    rng = np.random.default_rng(seed)
    return rng.standard_normal((n, features)).astype(dtype), rng.integers(0, CLASSES, n)


def bits(tensor: Tensor) -> bytes:
    return np.asarray(tensor.data).tobytes()


def near(found: Any, wanted: Any) -> bool:
    """Whether two arrays are the same but for rounding, which the largest entry is the measure of.

    1e-5 of it in float32, 1e-12 in float64.
    """
    found, wanted = np.asarray(found), np.asarray(wanted)
    if (found.shape, found.dtype) != (wanted.shape, wanted.dtype):
        return False
    if wanted.dtype.kind != "f":
        return np.array_equal(found, wanted)
    tolerance = {np.dtype(np.float32): 1e-5, np.dtype(np.float64): 1e-12}[wanted.dtype]
    return bool(np.abs(found - wanted).max(initial=0) <= tolerance * np.abs(wanted).max(initial=0))


def all_near(found: Made, wanted: Made) -> bool:
    a, b = found.arrays(), wanted.arrays()
    return a.keys() == b.keys() and all(near(a[name], b[name]) for name in a)
