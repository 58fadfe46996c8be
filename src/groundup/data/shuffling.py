"""Permutations from a counter-based generator: a seed and an epoch say everything."""

import operator

import numpy as np
from numpy.typing import NDArray

from groundup.errors import DataError


def permutation(n: int, seed: int, epoch: int = 0) -> NDArray[np.int64]:
    """A permutation of 0..n-1, int64, that depends on nothing but its arguments.

    Drawn from NumPy's Philox generator. The seed is its key; the epoch is the highest of the four
    64-bit words of its counter, so that no epoch ever reaches the numbers of another.
    """
    if not 0 <= epoch < 1 << 64:
        raise DataError(f"epoch={epoch}: epochs count from 0 to 2**64-1")
    philox = np.random.Philox(key=check_seed(seed), counter=int(epoch) << 192)
    return np.random.Generator(philox).permutation(n)


def check_seed(seed: int) -> int:
    """The seed as a Python integer; DataError unless it fits Philox's key of 128 bits."""
    try:
        whole = operator.index(seed)
    except TypeError:
        whole = -1
    if not 0 <= whole < 1 << 128:
        raise DataError(f"seed={seed!r}: it must be an integer of 0..2**128-1")
    return whole
