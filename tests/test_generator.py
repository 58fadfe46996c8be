"""The generator: one seed, a run that repeats, and a state of two integers."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest

import groundup as gu
from groundup import Generator, Tensor, generator
from groundup.errors import DtypeError, GroundupError


def draws(g: Generator) -> list[list[float]]:
    return [g.uniform(3).tolist(), g.normal(3).tolist(), g.numpy().integers(100, size=3).tolist()]


def test_a_seed_repeats() -> None:
    assert draws(Generator(5)) == draws(Generator(5))
    assert draws(Generator(5)) != draws(Generator(6))
    g = Generator(5)
    first = draws(g)
    assert draws(g) != first
    g.seed(5)
    assert draws(g) == first


def test_each_draw_is_independent_of_the_sizes_before() -> None:
    a, b = Generator(1), Generator(1)
    a.uniform(1000)
    b.uniform(1)
    assert a.uniform(4).tolist() == b.uniform(4).tolist()


def test_draws_do_not_overlap() -> None:
    """Neighbouring counters are neighbouring streams, not the same one a little later."""
    g = Generator(1)
    drawn = [g.numpy().random(1000) for _ in range(3)]
    drawn += [g.uniform(1000, dtype=np.float64).data for _ in range(3)]
    assert len(np.unique(np.concatenate(drawn))) == 6000


def test_state() -> None:
    g = Generator(9)
    draws(g)
    saved = g.state()
    assert saved == (9, 3)
    later = draws(g)
    other = Generator(0)
    other.restore(saved)
    assert other.state() == saved
    assert draws(other) == later


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda g: pickle.loads(pickle.dumps(g))])
def test_copies_go_on_from_the_same_place(copied: object) -> None:
    g = Generator(2)
    g.uniform(3)
    assert draws(copied(g)) == draws(g)  # type: ignore[operator]


@pytest.mark.parametrize("seed", [-1, 2**64])
def test_seeds_out_of_range(seed: int) -> None:
    with pytest.raises(GroundupError, match=rf"a seed is an integer in 0\.\.2\*\*64-1, not {seed}"):
        Generator(seed)


def test_largest_seed() -> None:
    assert Generator(2**64 - 1).uniform(2).shape == (2,)


def test_manual_seed_is_the_default_generators() -> None:
    assert gu.manual_seed(3) is generator.default
    first = (gu.rand(2, 3).tolist(), gu.randn(2, 3).tolist())
    gu.manual_seed(3)
    assert (gu.rand(2, 3).tolist(), gu.randn(2, 3).tolist()) == first


def test_default_generator_is_seeded_per_test() -> None:
    assert generator.default.state() == (0, 0)


def test_rand_and_randn() -> None:
    x, z = gu.rand(100, 1000), gu.randn(100, 1000)
    assert isinstance(x, Tensor)
    assert isinstance(z, Tensor)
    assert (x.shape, x.dtype, x.requires_grad) == ((100, 1000), np.float32, False)
    assert (z.shape, z.dtype) == ((100, 1000), np.float32)
    assert gu.rand().shape == gu.randn().shape == ()
    assert abs(x.data.mean() - 0.5) < 0.005
    assert abs(z.data.mean()) < 0.015
    assert abs(z.data.std() - 1) < 0.01
    assert abs((z.data**3).mean()) < 0.05
    assert abs((z.data**4).mean() - 3) < 0.1


def test_normal_and_dtype() -> None:
    g = Generator(4)
    assert g.normal(50_000, std=2.0).std().item() == pytest.approx(2, rel=0.02)
    assert g.normal(2, dtype=np.float64).dtype == np.float64
    assert g.uniform(2, dtype=np.float64).dtype == np.float64
    with pytest.raises(DtypeError, match="uniform"):
        g.uniform(2, dtype=np.int64)


def test_drawing_records_nothing() -> None:
    g = Generator(1)
    assert g.uniform(2).is_leaf
    assert g.counter.is_leaf
    with gu.no_grad():
        g.uniform(2)
    assert int(g.counter) == 2
