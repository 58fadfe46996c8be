from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from groundup.data import Batches, Split, batches, chunks, split_rows
from groundup.errors import DataError, ShapeError

SIZES = st.integers(1, 40)


def rows(n: int) -> tuple[np.ndarray, np.ndarray]:
    """x and y that name their row."""
    return np.arange(2.0 * n, dtype=np.float32).reshape(n, 2), np.arange(n)


@given(n=SIZES, size=SIZES)
def test_chunks_are_consecutive_views(n: int, size: int) -> None:
    x = rows(n)[0]
    parts = list(chunks(x, size))
    np.testing.assert_array_equal(np.concatenate(parts), x)
    assert all(len(part) == size for part in parts[:-1])
    assert 1 <= len(parts[-1]) <= size
    assert all(np.shares_memory(part, x) for part in parts)


def test_chunks_of_a_list() -> None:
    assert list(chunks([1, 2, 3, 4, 5], 2)) == [[1, 2], [3, 4], [5]]
    assert list(chunks("abc", 2)) == ["ab", "c"]


@pytest.mark.parametrize("size", [0, -1, 2.0, "3", None])
def test_sizes_that_are_none(size: Any) -> None:
    x, y = rows(3)
    with pytest.raises(DataError, match=f"chunks: size={size!r}; it must be an integer of at"):
        chunks(x, size)
    with pytest.raises(DataError, match=f"batches: size={size!r}; it must be an integer of at"):
        batches(x, y, size)


def test_chunks_of_nothing() -> None:
    with pytest.raises(DataError, match="chunks: x is empty"):
        chunks(np.empty((0, 3)), 2)


@given(
    n=SIZES,
    size=SIZES,
    shuffle=st.booleans(),
    seed=st.integers(0, (1 << 128) - 1),
    epoch=st.integers(0, (1 << 64) - 1),
)
def test_each_row_exactly_once(n: int, size: int, shuffle: bool, seed: int, epoch: int) -> None:
    x, y = rows(n)
    data = batches(x, y, size, shuffle, seed)
    data.epoch = epoch
    got = list(data)
    assert len(got) == len(data) == -(-n // size)
    assert all(len(xb) == len(yb) == size for xb, yb in got[:-1])
    xs, ys = (np.concatenate(parts) for parts in zip(*got, strict=True))
    np.testing.assert_array_equal(np.sort(ys), y)
    np.testing.assert_array_equal(xs, x[ys])
    if not shuffle:
        np.testing.assert_array_equal(ys, y)


@given(n=SIZES, size=SIZES)
def test_drop_last(n: int, size: int) -> None:
    x, y = rows(n)
    if n < size:
        with pytest.raises(DataError, match=f"drops the only batch, {n} rows of size={size}"):
            batches(x, y, size, drop_last=True)
        return
    got = list(batches(x, y, size, shuffle=True, drop_last=True))
    assert [len(yb) for _, yb in got] == [size] * (n // size)
    assert len(batches(x, y, size, drop_last=True)) == n // size


def test_batches_in_order_are_views_and_shuffled_ones_copies() -> None:
    x, y = rows(10)
    assert all(np.shares_memory(xb, x) for xb, _ in batches(x, y, 3))
    assert not any(np.shares_memory(xb, x) for xb, _ in batches(x, y, 3, shuffle=True))


def labels_of(data: Batches) -> list[int]:
    return np.concatenate([yb for _, yb in data]).tolist()


def test_each_epoch_has_its_own_order() -> None:
    x, y = rows(50)
    data = batches(x, y, 8, shuffle=True, seed=3)
    epochs = [labels_of(data) for _ in range(5)]
    assert data.epoch == 5
    assert len({tuple(e) for e in epochs}) == 5
    assert [labels_of(data) for data in [batches(x, y, 8, True, 3)] for _ in range(5)] == epochs
    assert labels_of(batches(x, y, 8, True, 4)) != epochs[0]
    for k, epoch in enumerate(epochs):
        assert data.order(k).tolist() == epoch


def test_a_resumed_training_meets_the_same_batches() -> None:
    x, y = rows(50)
    whole = batches(x, y, 8, shuffle=True, seed=3)
    expected = [labels_of(whole) for _ in range(6)]
    resumed = batches(x, y, 8, shuffle=True, seed=3)
    resumed.epoch = 4
    assert [labels_of(resumed) for _ in range(2)] == expected[4:]


def test_leaving_an_epoch_early_does_not_disturb_the_next() -> None:
    x, y = rows(50)
    data = batches(x, y, 8, shuffle=True, seed=3)
    next(iter(data))
    first, second = iter(data), iter(data)  # two at once, each with its own epoch
    seen = [next(second)[1], next(first)[1]]
    assert seen[0].tolist() == data.order(2)[:8].tolist()
    assert seen[1].tolist() == data.order(1)[:8].tolist()


def test_the_permutation_is_the_one_that_is_documented() -> None:
    x, y = rows(1000)
    data = batches(x, y, 64, shuffle=True, seed=7)
    philox = np.random.Philox(key=7, counter=[0, 0, 0, 5])
    expected = np.random.Generator(philox).permutation(1000)
    np.testing.assert_array_equal(data.order(5), expected)
    # These very rows, so that a change of NumPy's would be seen: it would break resumed trainings.
    assert batches(*rows(10), shuffle=True, seed=7).order(5).tolist() == [
        2,
        4,
        6,
        5,
        1,
        8,
        9,
        7,
        3,
        0,
    ]


def test_it_leaves_numpys_global_generator_alone() -> None:
    np.random.seed(0)  # noqa: NPY002
    before = np.random.get_state()[1].tolist()  # noqa: NPY002
    list(batches(*rows(10), 3, shuffle=True))
    assert np.random.get_state()[1].tolist() == before  # noqa: NPY002


def test_arrays_that_do_not_fit() -> None:
    x, y = rows(5)
    with pytest.raises(ShapeError, match="batches: x has 5 rows and y 4: each row of x needs its"):
        batches(x, y[:4])
    with pytest.raises(DataError, match="batches: x and y are empty"):
        batches(x[:0], y[:0])
    with pytest.raises(ShapeError, match=r"x has the shape \(\) and y \(5,\); both need rows"):
        batches(3.0, y)


@pytest.mark.parametrize("seed", [-1, 1 << 128, 0.5, None, "a"])
def test_seeds_that_are_none(seed: Any) -> None:
    with pytest.raises(DataError, match=r"seed=.*: it must be an integer of 0\.\.2\*\*128-1"):
        batches(*rows(5), seed=seed)
    with pytest.raises(DataError, match="seed="):
        split_rows(np.zeros(5, np.int64), 0.2, seed)


def test_epochs_count_from_0() -> None:
    data = batches(*rows(5), shuffle=True)
    for epoch in (-1, 1 << 64):
        data.epoch = epoch
        with pytest.raises(DataError, match=rf"epoch={epoch}: epochs count from 0 to 2\*\*64-1"):
            iter(data)
    data.epoch = np.uint64((1 << 64) - 1)  # type: ignore[assignment]
    assert sorted(labels_of(data)) == [0, 1, 2, 3, 4]


def test_repr_and_sizes_from_numpy() -> None:
    data = batches(*rows(5), size=np.int64(2), shuffle=True)  # type: ignore[arg-type]
    assert (
        repr(data) == "Batches(x=(5, 2), y=(5,), size=2, shuffle=True, seed=0, epoch=0): 3 batches"
    )


@settings(max_examples=60)
@given(
    labels=st.lists(st.integers(0, 4), min_size=1, max_size=200),
    valid=st.sampled_from([0, 0.1, 0.2, 0.25, 1 / 3, 0.5, 0.9]),
    seed=st.integers(0, 5),
)
def test_split_rows_gives_each_class_its_share(labels: list[int], valid: float, seed: int) -> None:
    y = np.array(labels)
    n = len(y)
    if valid and int(np.ceil(round(valid * n, 6))) >= n:
        with pytest.raises(DataError, match=f"valid={valid} of {n} rows leaves none to train on"):
            split_rows(y, valid, seed)
        return
    train, held = split_rows(y, valid, seed)
    assert sorted([*train, *held]) == list(range(n))
    assert len(held) == np.ceil(round(valid * n, 6))
    for label in range(5):
        share = (y == label).sum() * len(held) / n
        assert abs((y[held] == label).sum() - share) <= 1
    for again, first in zip(split_rows(y, valid, seed), (train, held), strict=True):
        np.testing.assert_array_equal(again, first)


def test_split_rows_of_unequal_classes() -> None:
    y = np.repeat([0, 1, 2], [900, 90, 10])
    assert np.bincount(y[split_rows(y, 0.2, 0)[1]]).tolist() == [180, 18, 2]


def test_split_rows_mixes_the_classes_and_heeds_the_seed() -> None:
    y = np.repeat([0, 1], 50)
    train, held = split_rows(y, 0.2, 0)
    assert len(set(y[train[:20]])) == len(set(y[held[:10]])) == 2
    assert train.tolist() != split_rows(y, 0.2, 1)[0].tolist()
    assert len(split_rows(np.zeros(100, np.int64), 0.07, 0)[1]) == 7  # 0.07 * 100 is 7.0...01


@pytest.mark.parametrize("valid", [-0.1, 1, 1.5, float("nan")])
def test_shares_that_are_none(valid: float) -> None:
    with pytest.raises(DataError, match=f"valid={valid}: the share to hold out must be at least 0"):
        split_rows(np.zeros(5, np.int64), valid, 0)


def test_a_split_is_four_arrays() -> None:
    x, y = rows(4)
    split = Split(x[:3], y[:3], x[3:], y[3:])
    x_train, y_train, x_valid, y_valid = split
    assert x_train is split.x_train
    assert y_train is split.y_train
    assert x_valid is split.x_valid
    assert y_valid is split.y_valid
