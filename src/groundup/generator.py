"""Random numbers for a run: one seed, a counter-based stream, the same bits everywhere."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from groundup import ops
from groundup.errors import GroundupError
from groundup.ops.base import FLOAT32, Array
from groundup.tensor import Buffer, Tensor


class Generator:
    """A stream of random numbers from Philox4x64-10, keyed by a seed.

    Each draw takes the next value of a counter, so the n-th draw depends on the seed and n only,
    and the whole state is two integers: saving and restoring them repeats a run exactly.

    Args:
        seed: 0 <= seed < 2**64.

    """

    def __init__(self, seed: int = 0):
        self.counter = Buffer(np.zeros((), np.uint64))  # the same one for good
        self.seed(seed)

    def seed(self, seed: int) -> None:
        """Start the stream of a seed from its beginning."""
        if not 0 <= seed < 2**64:
            raise GroundupError(f"a seed is an integer in 0..2**64-1, not {seed}")
        self.key = int(seed)
        self.counter.assign(np.zeros((), np.uint64))

    def uniform(self, *shape: int, dtype: npt.DTypeLike = FLOAT32) -> Tensor:
        """Numbers in [0, 1)."""
        drawn = ops.uniform(self.counter, seed=self.key, shape=shape, dtype=np.dtype(dtype))
        self.counter.assign(self.counter + 1)
        return drawn

    def numpy(self) -> np.random.Generator:
        """A NumPy generator for the next draw: for normals, permutations and the like."""
        bits = np.random.Philox(key=self.key, counter=int(self.counter) << 64)
        self.counter.assign(self.counter + 1)
        return np.random.Generator(bits)

    def normal(self, *shape: int, std: float = 1.0, dtype: npt.DTypeLike = FLOAT32) -> Array:
        """An array of normal numbers of mean 0."""
        drawn: Array = self.numpy().standard_normal(shape, dtype=np.dtype(dtype))  # type: ignore[arg-type]
        return drawn * std

    def state(self) -> tuple[int, int]:
        """The seed and the counter."""
        return self.key, int(self.counter)

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
    return Tensor.of(default.normal(*shape))
