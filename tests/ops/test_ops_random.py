"""Uniform and Normal: the numbers depend on the key and the counter, and on nothing else."""

from typing import Any

import numpy as np
import pytest

from groundup import Tensor, ops
from groundup.ops import Op


def given(number: int) -> Tensor:
    return Tensor(np.array(number, np.uint64))


def draw(
    op: Op = ops.uniform, key: int = 7, counter: int = 3, shape: Any = (4,), dtype: str = "f4"
) -> Tensor:
    return op(given(key), given(counter), shape=shape, dtype=np.dtype(dtype))


@pytest.mark.parametrize("op", [ops.uniform, ops.normal])
@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_a_counter_has_its_numbers(op: Op, dtype: str) -> None:
    numbers = draw(op, dtype=dtype).tolist()
    assert draw(op, dtype=dtype).tolist() == numbers
    assert draw(op, dtype=dtype, counter=4).tolist() != numbers
    assert draw(op, dtype=dtype, key=8).tolist() != numbers
    assert draw(op, dtype=dtype, shape=(2, 2)).tolist() == [numbers[:2], numbers[2:]]


def test_keys_and_counters_are_64_bits() -> None:
    top = 2**64 - 1
    draws = [draw(key=k, counter=c, dtype="f8").tolist() for k in (0, top) for c in (0, top)]
    assert len({tuple(d) for d in draws}) == 4


def test_golden() -> None:
    """Philox4x64-10: a seed's numbers stay the same from version to version."""
    assert draw(dtype="f8").tolist()[:2] == [0.43900223090044976, 0.1656586882435429]
    assert draw(ops.normal, dtype="f8").tolist()[:2] == [1.1764753625746867, 0.6681386720925817]


@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_uniform_statistics(dtype: str) -> None:
    x = draw(key=1, shape=(200, 500), dtype=dtype).data
    assert x.dtype == dtype
    assert x.min() >= 0
    assert x.max() < 1
    assert abs(x.mean() - 0.5) < 4 / np.sqrt(12 * x.size)
    assert abs(x.var() - 1 / 12) < 1e-3
    counts = np.histogram(x, bins=50, range=(0, 1))[0]
    assert ((counts - 2000) ** 2 / 2000).sum() < 90  # chi-square of 49 degrees: p > 1e-4


@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_normal_statistics(dtype: str) -> None:
    x = draw(ops.normal, key=1, shape=(200, 500), dtype=dtype).data
    assert x.dtype == dtype
    assert abs(x.mean()) < 4 / np.sqrt(x.size)
    assert abs(x.var() - 1) < 4 * np.sqrt(2 / x.size)
    assert abs((x**3).mean()) < 4 * np.sqrt(15 / x.size)
    assert abs((x**4).mean() - 3) < 4 * np.sqrt(96 / x.size)


@pytest.mark.parametrize("op", [ops.uniform, ops.normal])
def test_has_no_gradient(op: Op) -> None:
    x = draw(op, shape=())
    assert x.shape == ()
    assert x.is_leaf
    assert not x.requires_grad
