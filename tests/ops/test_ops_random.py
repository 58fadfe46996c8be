"""Uniform: the numbers depend on the seed and the counter, and on nothing else."""

import numpy as np
import pytest

from groundup import Tensor, ops

COUNTER = Tensor(np.array(3, np.uint64))


def draw(seed: int = 7, counter: int = 3, shape: tuple[int, ...] = (4,), dtype: str = "f4") -> list:
    given = Tensor(np.array(counter, np.uint64))
    return ops.uniform(given, seed=seed, shape=shape, dtype=np.dtype(dtype)).tolist()


def test_a_counter_has_its_numbers() -> None:
    assert draw() == draw()
    assert draw() != draw(counter=4)
    assert draw() != draw(seed=8)
    assert draw(shape=(2, 2)) == [draw()[:2], draw()[2:]]


def test_golden() -> None:
    """Philox4x64-10: a seed's numbers stay the same from version to version."""
    assert draw(dtype="f8")[:2] == [0.43900223090044976, 0.1656586882435429]


@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_statistics(dtype: str) -> None:
    x = ops.uniform(COUNTER, seed=1, shape=(200, 500), dtype=np.dtype(dtype)).data
    assert x.dtype == dtype
    assert x.min() >= 0
    assert x.max() < 1
    assert abs(x.mean() - 0.5) < 4 / np.sqrt(12 * x.size)
    assert abs(x.var() - 1 / 12) < 1e-3
    counts = np.histogram(x, bins=50, range=(0, 1))[0]
    assert ((counts - 2000) ** 2 / 2000).sum() < 90  # chi-square of 49 degrees: p > 1e-4


def test_has_no_gradient() -> None:
    x = ops.uniform(COUNTER, seed=1, shape=(), dtype=np.dtype("f4"))
    assert x.shape == ()
    assert x.is_leaf
    assert not x.requires_grad
