"""Random numbers as an op of a seed and a counter."""

from __future__ import annotations

from typing import Any

import numpy as np

from groundup.ops.base import Array, Op


class Uniform(Op):
    """Uniform numbers in [0, 1) from Philox4x64-10, keyed by a seed and started at a counter.

    The counter is data, so that a step run again with the next counter draws fresh numbers,
    and one run again with the same counter draws the same. Every value of the counter has its
    own 2**64 blocks of the stream.

    J. Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011.
    """

    differentiable = False
    chooses_dtype = True

    def forward(self, counter: Array, *, seed: int, shape: tuple[int, ...], dtype: Any) -> Array:
        bits = np.random.Philox(key=seed, counter=int(counter) << 64)
        return np.random.Generator(bits).random(shape, dtype=dtype)


uniform = Uniform()
