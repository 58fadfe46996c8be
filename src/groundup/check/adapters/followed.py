"""What subjects share that follow other libraries' code with groundup's ops."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from groundup.backward import Sweep, no_grad
from groundup.check.adapters.held import Untraceable, tracing
from groundup.check.subjects import Subject, swept
from groundup.errors import GroundupError
from groundup.ops.base import Array, quiet
from groundup.tensor import Tensor

# How much a trace may differ from what it follows, of the largest entry: sums are added up in
# another order.
CLOSE = 1e-7


class FollowedSubject(Subject):
    """A subject whose code is not made of Tensors, but can be followed with groundup's ops."""

    @abstractmethod
    def follow(self, values: Mapping[str, Tensor], cotangents: Sequence[Tensor]) -> Any:
        """The outputs, and the gradients by name, with groundup's ops."""

    @abstractmethod
    def follow_forward(self, values: Mapping[str, Tensor]) -> list[Tensor]:
        """The outputs with groundup's ops."""

    def claimed(self, values: Mapping[str, Tensor], cotangents: Sequence[Tensor]) -> Any:
        with following(self.name):
            with no_grad():
                outs, found = self.follow(values, cotangents)
            given = {n: t.array for n, t in values.items()}
            self._agrees(given, outs)
            real = self.backward(given, [c.array for c in cotangents])
            same(self.name, found, {n: g for n, g in real.items() if g is not None})
        return outs, found

    def derived(self, values: Mapping[str, Tensor], cotangents: Sequence[Tensor]) -> Any:
        made: dict[str, Tensor] = {}
        for n, t in values.items():  # the same arrays, so the same values to a recorder
            made[n] = Tensor.of(t.array)
            made[n].requires_grad = True
        with following(self.name):
            outs, sweep = self.follow_forward(made), Sweep()
            self._agrees({n: t.array for n, t in values.items()}, outs)
            if not swept(outs, cotangents, sweep):
                return outs, {}
        grads = {n: sweep.grads.get(id(t)) for n, t in made.items()}
        return outs, {n: g for n, g in grads.items() if g is not None}

    def by_ops(self, values: Mapping[str, Array], cotangents: Sequence[Array]) -> Any:
        """The gradients that follow from forward's ops; None if it cannot be followed."""
        try:
            with quiet():
                _, found = self.derived(
                    {n: Tensor.of(v.copy()) for n, v in values.items()},
                    [Tensor.of(c.copy()) for c in cotangents],
                )
        except GroundupError:
            return None
        return {n: found[n].array if n in found else None for n in values}

    def _agrees(self, values: Mapping[str, Array], outs: Sequence[Tensor]) -> None:
        """Raise unless the trace gives what the code itself gives."""
        real = self.forward(values)
        same(self.name, dict(enumerate(outs)), dict(enumerate(real)))


def same(name: str, followed: Mapping[Any, Tensor], real: Mapping[Any, Array]) -> None:
    """Raise unless a trace gives what the code itself gives: a view was missed, or a number."""
    good = followed.keys() == real.keys()
    for key in real if good else ():
        made, array = followed[key].array, real[key]
        close = CLOSE * np.max(np.abs(array), initial=1e-3, where=np.isfinite(array))
        if made.shape != array.shape or not np.allclose(made, array, 0, close, equal_nan=True):
            good = False
    if not good:
        raise Untraceable(f"{name}: following it operation by operation gives something else")


@contextmanager
def following(name: str) -> Iterator[None]:
    """Around a trace: whatever goes wrong in it, the code cannot be followed.

    Raises:
        Untraceable: for every error that is not groundup's own.

    """
    try:
        with tracing():
            yield
    except GroundupError:
        raise
    except Exception as error:
        raise Untraceable(
            f"{name} cannot be followed operation by operation: {type(error).__name__}: {error}"
        ) from error
