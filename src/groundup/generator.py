"""Random numbers for a run: one seed, a counter-based stream, the same bits everywhere."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from groundup import ops
from groundup.errors import GroundupError
from groundup.ops import helpers
from groundup.ops.base import FLOAT32
from groundup.tensor import Buffer, Tensor


class Generator:
    """A stream of random numbers from Philox4x64-10, keyed by a seed.

    Each draw takes the next value of a counter, so the n-th draw depends on the seed and n only,
    and the whole state is two integers: saving and restoring them repeats a run exactly.

    Args:
        seed: 0 <= seed < 2**64.

    """

    def __init__(self, seed: int = 0):
        self.key = Buffer(np.zeros((), np.uint64))  # these two stay the same tensors for good
        self.counter = Buffer(np.zeros((), np.uint64))
        self.seed(seed)

    def seed(self, seed: int) -> None:
        """Start the stream of a seed from its beginning."""
        if not 0 <= seed < 2**64:
            raise GroundupError(f"a seed is an integer in 0..2**64-1, not {seed}")
        self.key.assign(np.asarray(seed, np.uint64))
        self.counter.assign(np.zeros((), np.uint64))

    def uniform(self, *shape: int, dtype: npt.DTypeLike = FLOAT32) -> Tensor:
        """Numbers in [0, 1)."""
        drawn = ops.uniform(self.key, self.counter, shape=shape, dtype=np.dtype(dtype))
        self.counter.assign(self.counter + 1)
        return drawn

    def numpy(self) -> np.random.Generator:
        """A NumPy generator for the next draw: for permutations and the like."""
        stream = helpers.philox(self.key.data, self.counter.data)
        self.counter.assign(self.counter + 1)
        return stream

    def normal(self, *shape: int, std: float = 1.0, dtype: npt.DTypeLike = FLOAT32) -> Tensor:
        """Normal numbers of mean 0 and the given standard deviation."""
        drawn = ops.normal(self.key, self.counter, shape=shape, dtype=np.dtype(dtype))
        self.counter.assign(self.counter + 1)
        return drawn if std == 1.0 else drawn * std

    def state(self) -> tuple[int, int]:
        """The seed and the counter."""
        return int(self.key), int(self.counter)

    def restore(self, state: tuple[int, int]) -> None:
        """Continue from a saved state."""
        self.seed(state[0])
        self.counter.assign(np.asarray(state[1], np.uint64))


# What layers draw from unless they are given a generator of their own.
default = Generator(0)


def manual_seed(seed: int) -> Generator:
    """Seed the default generator, from which initial weights and dropout masks are drawn."""
    default.seed(seed)
    return default


def rand(*shape: int) -> Tensor:
    """A float32 tensor of uniform numbers in [0, 1) from the default generator."""
    return default.uniform(*shape)


def randn(*shape: int) -> Tensor:
    """A float32 tensor of standard normal numbers from the default generator."""
    return default.normal(*shape)
