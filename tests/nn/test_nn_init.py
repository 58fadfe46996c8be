"""Initial weights: the distribution that the formula promises, and seeds that repeat."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

import groundup as gu
from groundup.errors import ShapeError
from groundup.nn import init

SHAPE = (300, 200)
SCALED = {  # the standard deviation that torch's function of that name has
    "kaiming_normal": torch.nn.init.kaiming_normal_,
    "kaiming_uniform": torch.nn.init.kaiming_uniform_,
    "xavier_normal": torch.nn.init.xavier_normal_,
    "xavier_uniform": torch.nn.init.xavier_uniform_,
}
STD = {
    "kaiming_normal": math.sqrt(2 / 300),
    "kaiming_uniform": math.sqrt(2 / 300),
    "xavier_normal": math.sqrt(2 / 500),
    "xavier_uniform": math.sqrt(2 / 500),
}


@pytest.mark.parametrize("name", SCALED)
def test_statistics(name: str) -> None:
    w = getattr(init, name)(*SHAPE)
    assert (w.shape, w.dtype) == (SHAPE, np.float32)
    assert w.std() == pytest.approx(STD[name], rel=0.01)
    assert abs(w.mean()) < 4 * STD[name] / math.sqrt(w.size)
    theirs = SCALED[name](torch.empty(SHAPE[::-1])).numpy()  # torch's weights are (out, in)
    assert w.std() == pytest.approx(theirs.std(), rel=0.02)
    if "uniform" in name:
        assert np.abs(w).max() == pytest.approx(STD[name] * math.sqrt(3), rel=1e-3)
        assert np.abs(w).max() <= np.float32(STD[name] * math.sqrt(3))
    else:
        assert (np.abs(w) < STD[name]).mean() == pytest.approx(0.6827, abs=0.01)


def test_plain_ones() -> None:
    w = init.normal(200, 300, std=0.5)
    assert (w.dtype, w.std()) == (np.float32, pytest.approx(0.5, rel=0.01))
    u = init.uniform(200, 300, bound=0.25)
    assert u.dtype == np.float32
    assert (u.min(), u.max()) == pytest.approx((-0.25, 0.25), abs=1e-3)
    assert u.min() >= -0.25
    assert u.max() < 0.25
    assert init.normal(7).shape == (7,)


def test_leading_lengths_are_the_fan_in() -> None:
    assert init.kaiming_normal(5, 5, 8, 400).std() == pytest.approx(math.sqrt(2 / 200), rel=0.02)


@pytest.mark.parametrize("function", [getattr(init, n) for n in (*SCALED, "normal", "uniform")])
def test_seeds(function: Callable[..., Any]) -> None:
    gu.manual_seed(4)
    first, second = function(3, 2), function(3, 2)
    assert (first != second).any()
    gu.manual_seed(4)
    np.testing.assert_array_equal(function(3, 2), first)
    np.testing.assert_array_equal(function(3, 2, generator=gu.Generator(4)), first)


def test_a_vector_has_no_fans() -> None:
    with pytest.raises(ShapeError, match=r"a weight of two dimensions or more, not \(3,\)"):
        init.kaiming_normal(3)
