import numpy as np
import pytest
from hypothesis import given, strategies as st

from groundup.foundations import assert_close

nan, inf = np.nan, np.inf


def test_the_worst_element_and_both_values_are_named():
    a = np.arange(12.0).reshape(3, 4)
    b = a.copy()
    b[0, 1] += 0.1
    b[2, 3] = 21.5
    with pytest.raises(AssertionError, match=r"2 of 12 .* worst at \[2, 3\]: 11.0 and 21.5"):
        assert_close(a, b)


def test_worst_is_measured_against_the_tolerance():
    # 1000 differs by 0.5 of the 1.0 allowed, 1 by 0.1 of the 0.001: the second is the worst
    with pytest.raises(AssertionError, match=r"1 of 2 .* 0 \+ 0.001 \* \|b\|; worst at \[1\]: 1.1"):
        assert_close([1000.5, 1.1], [1000.0, 1.0], rtol=1e-3, atol=0)


@pytest.mark.parametrize(("difference", "close"), [(0.25, True), (0.2500001, False)])
def test_tolerances_add_up_and_include_their_edge(difference, close):
    a, b = 2 + difference, 2.0
    if close:
        assert_close(a, b, rtol=0.0625, atol=0.125)
    else:
        with pytest.raises(AssertionError, match="worst as scalars"):
            assert_close(a, b, rtol=0.0625, atol=0.125)


def test_b_is_the_reference():
    assert_close(1.0, 2.0, rtol=0.5, atol=0)
    with pytest.raises(AssertionError, match="1 of 1"):
        assert_close(2.0, 1.0, rtol=0.5, atol=0)


@pytest.mark.parametrize(("a", "b"), [((3, 1), (3,)), ((3,), ()), ((0,), (0, 1)), ((2, 3), (3, 2))])
def test_shapes_are_never_broadcast(a, b):
    with pytest.raises(AssertionError, match=r"shapes differ, \(.*\) and \(.*\)"):
        assert_close(np.ones(a), np.ones(b))


def test_dtypes_are_never_cast():
    with pytest.raises(AssertionError, match="dtypes differ, float32 and float64"):
        assert_close(np.ones(3, np.float32), np.ones(3))


@pytest.mark.parametrize(
    ("a", "b"), [(nan, nan), (nan, 1.0), (1.0, nan), (inf, -inf), (inf, 1.0), (1.0, inf)]
)
def test_not_finite_and_not_equal(a, b):
    with pytest.raises(AssertionError, match=rf"1 of 2 .* worst at \[1\]: {a} and {b}"):
        assert_close([0.0, a], [0.0, b])


def test_a_nan_is_worse_than_any_number():
    with pytest.raises(AssertionError, match=r"2 of 3 .* worst at \[1\]: nan and 0.0"):
        assert_close([1e300, nan, 0.0], [0.0, 0.0, 0.0])


def test_equal_nan_needs_both():
    assert_close([1.0, nan], [1.0, nan], equal_nan=True)
    with pytest.raises(AssertionError, match=r"worst at \[0\]: nan and 1.0"):
        assert_close([nan, nan], [1.0, nan], equal_nan=True)


def test_what_is_equal():
    assert_close([inf, -inf, 0.0], [inf, -inf, -0.0], rtol=0, atol=0)
    assert_close(np.ones((0, 3)), np.ones((0, 3)))
    assert_close(np.array([1, 2]), np.array([1, 2]))


def test_small_dtypes_neither_wrap_around_nor_overflow():
    with pytest.raises(AssertionError, match="0 and 255"):
        assert_close(np.array([0], np.uint8), np.array([255], np.uint8))
    with pytest.raises(AssertionError, match=r"6e\+04 and -6e\+04"):
        assert_close(np.array([6e4], np.float16), np.array([-6e4], np.float16))


@given(st.lists(st.floats(allow_nan=False), max_size=5), st.floats(0, 1), st.floats(0, 1))
def test_anything_is_close_to_itself(values, rtol, atol):
    assert_close(np.array(values), np.array(values), rtol, atol)
