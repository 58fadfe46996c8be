import tracemalloc
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from hypothesis.extra import numpy as hnp

from groundup.data import mean_std, normalize
from groundup.data.scaling import to_unit
from groundup.errors import DataError, DtypeError, NonFiniteError, ShapeError


def test_to_unit_rounds_once_and_makes_no_float64() -> None:
    raw = np.random.default_rng(0).integers(0, 256, (1000, 784), np.uint8)
    raw[0, :256] = np.arange(256)
    tracemalloc.start()
    got = to_unit(raw, 255)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    np.testing.assert_array_equal(got, (raw / 255).astype(np.float32), strict=True)
    assert peak < 1.5 * got.nbytes


FLOATS = st.floats(-1000, 1000, width=32)


@settings(max_examples=60, deadline=None)
@given(
    x=st.sampled_from([np.float32, np.float64]).flatmap(
        lambda dtype: hnp.arrays(dtype, (7, 3, 2), elements=FLOATS)
    ),
    axis=st.sampled_from([None, 0, (0,), (0, 2), (0, -1), (0, 1, 2)]),
)
def test_mean_std_is_numpys_in_float64(x: np.ndarray, axis: Any) -> None:
    mean, std = mean_std(x, axis)
    wide = x.astype(np.float64)
    keep = axis is not None
    assert mean.dtype == std.dtype == x.dtype
    tolerance = {"rtol": 1e-6, "atol": 1e-4}
    np.testing.assert_allclose(mean, wide.mean(axis, keepdims=keep), **tolerance)
    np.testing.assert_allclose(std, wide.std(axis, keepdims=keep), **tolerance)
    assert np.shape(mean) == wide.mean(axis, keepdims=keep).shape


@pytest.mark.parametrize("axis", [None, 0])
def test_mean_std_of_many_rows_far_from_0(axis: Any) -> None:
    # float32 sums of 2,000,000 numbers near 1000 would be off in the third digit of std.
    x = (1000 + np.random.default_rng(0).standard_normal((500_000, 4))).astype(np.float32)
    mean, std = mean_std(x, axis)
    wide = x.astype(np.float64)
    np.testing.assert_allclose(mean, wide.mean(axis, keepdims=axis == 0), rtol=1e-6)
    np.testing.assert_allclose(std, wide.std(axis, keepdims=axis == 0), rtol=1e-6)


def test_normalized_data_has_mean_0_and_std_1() -> None:
    x = np.random.default_rng(0).gamma(2, 3, (500, 6)).astype(np.float32)
    for axis in (None, 0):
        z = normalize(x, *mean_std(x, axis))
        assert z.dtype == np.float32
        np.testing.assert_allclose(z.astype(np.float64).mean(axis), 0, atol=1e-5)
        np.testing.assert_allclose(z.astype(np.float64).std(axis), 1, atol=1e-5)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("constant", [0.0, 0.1, -1e-3, 12345.678])
def test_a_constant_feature_becomes_0(dtype: type, constant: float) -> None:
    x = np.random.default_rng(0).standard_normal((1001, 2)).astype(dtype)
    x[:, 1] = constant
    mean, std = mean_std(x, axis=0)
    assert mean[0, 1] == x[0, 1]
    assert std[0, 1] == 0
    z = normalize(x, mean, std)
    assert z.dtype == dtype
    assert (z[:, 1] == 0).all()
    x[0, 1] = 2  # a validation set may differ: it is shifted, and not blown up
    assert normalize(x, mean, std)[0, 1] == dtype(2) - dtype(constant)


def test_images_by_channel_and_inputs_left_alone() -> None:
    x = np.random.default_rng(0).random((20, 3, 4, 4), np.float32)
    before = x.copy()
    mean, std = mean_std(x, axis=(0, 2, 3))
    assert mean.shape == std.shape == (1, 3, 1, 1)
    assert normalize(x, mean, std).shape == x.shape
    np.testing.assert_array_equal(x, before)


def test_mean_std_refuses() -> None:
    with pytest.raises(
        DtypeError, match=r"mean_std takes floating .*uint8: x.astype\(np.float32\)"
    ):
        mean_std(np.zeros(3, np.uint8))
    with pytest.raises(DataError, match=r"an array of shape \(0, 3\) has no items to average"):
        mean_std(np.zeros((0, 3)))
    for axis in (1, (1, 2), (0, 3), -4, ()):
        with pytest.raises(ShapeError, match=r"mean_std: axis=.* for x of shape \(2, 3, 4\)"):
            mean_std(np.zeros((2, 3, 4)), axis)
    with pytest.raises(DataError, match=r"shape \(\)"):
        mean_std(np.array(3.0))


def test_normalize_refuses() -> None:
    x = np.ones((4, 3), np.float32)
    with pytest.raises(ShapeError, match=r"mean of shape \(2,\) does not fit x of shape \(4, 3\)"):
        normalize(x, np.zeros(2), np.ones(3))
    with pytest.raises(ShapeError, match=r"std of shape \(5, 4, 3\) does not fit"):
        normalize(x, 0, np.ones((5, 4, 3)))
    with pytest.raises(NonFiniteError, match="mean holds a NaN or an infinity: clean x first"):
        normalize(x, np.nan, 1)
    with pytest.raises(NonFiniteError, match=r"std holds -0.5, .* Are mean and std swapped\?"):
        normalize(x, 1, -0.5)
    with pytest.raises(DtypeError, match="normalize takes floating numbers, and x is int64"):
        normalize(np.ones((4, 3), np.int64), 0, 1)
