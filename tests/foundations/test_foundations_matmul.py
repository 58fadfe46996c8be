import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from groundup.errors import MissingDependencyError, ShapeError
from groundup.foundations import LADDER, loops_ijk, loops_ikj, matmul_lists
from groundup.foundations.matmul import compile_loops

RUNGS = pytest.mark.parametrize("rung", LADDER.values(), ids=LADDER.keys())
sides = st.integers(0, 6)


@RUNGS
@settings(max_examples=40, deadline=None)
@given(m=sides, k=sides, n=sides, dtype=st.sampled_from([np.float32, np.float64, np.int64]))
def test_every_rung_is_the_matrix_product(rung, m, k, n, dtype):
    rng = np.random.default_rng([m, k, n])
    a = (10 * rng.standard_normal((m, k))).astype(dtype)
    b = (10 * rng.standard_normal((k, n))).astype(dtype)
    c = rung(a, b)
    assert c.shape == (m, n)
    assert c.dtype == dtype
    np.testing.assert_allclose(c, a @ b, rtol=1e-5, atol=1e-3)


@RUNGS
def test_no_term_is_lost_or_misplaced(rung):
    # a[i, k] * b[k, j] = 1 at exactly one (i, k, j): any wrong index moves or loses it.
    for i, k, j in np.ndindex(2, 3, 4):
        a, b, expected = np.zeros((2, 3)), np.zeros((3, 4)), np.zeros((2, 4))
        a[i, k] = b[k, j] = expected[i, j] = 1
        np.testing.assert_array_equal(rung(a, b), expected)


@RUNGS
def test_views_that_are_not_contiguous(rung):
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((4, 6)).T, rng.standard_normal((8, 6))[::2, ::-1]
    np.testing.assert_allclose(rung(a, b), a @ b)


@RUNGS
def test_mixed_dtypes_give_the_dtype_of_numpys_product(rung):
    a, b = np.ones((2, 3), np.float32), np.ones((3, 2), np.float64)
    assert rung(a, b).dtype == np.float64


@RUNGS
def test_a_single_element(rung):
    np.testing.assert_array_equal(rung(np.array([[2.0]]), np.array([[3.0]])), [[6.0]])


@RUNGS
def test_shapes_that_do_not_fit_are_named(rung):
    with pytest.raises(
        ShapeError, match=r"\(2, 3\) by \(4, 5\): the first has 3 columns, the second 4 rows"
    ):
        rung(np.ones((2, 3)), np.ones((4, 5)))


@RUNGS
@pytest.mark.parametrize("shapes", [((3,), (3, 2)), ((2, 3), (3,)), ((1, 2, 3), (3, 2))])
def test_only_two_axes(rung, shapes):
    with pytest.raises(ShapeError, match="takes two matrices, but the shapes are"):
        rung(np.ones(shapes[0]), np.ones(shapes[1]))


@settings(max_examples=40, deadline=None)
@given(m=st.integers(1, 5), k=st.integers(1, 5), n=sides)
def test_lists_in_lists_out(m, k, n):
    rng = np.random.default_rng([m, k, n])
    a, b = rng.standard_normal((m, k)), rng.standard_normal((k, n))
    c = matmul_lists(a.tolist(), b.tolist())
    assert isinstance(c, list)
    assert isinstance(c[0], list)
    np.testing.assert_allclose(np.array(c).reshape(m, n), a @ b, rtol=1e-12, atol=1e-12)


def test_lists_have_rows_of_their_own():
    c = matmul_lists([[1.0], [2.0]], [[1.0]])
    assert c == [[1.0], [2.0]]
    assert c[0] is not c[1]


@pytest.mark.parametrize(
    ("a", "b", "text"),
    [
        ([[1.0, 2.0]], [[1.0]], r"cannot multiply \(1, 2\) by \(1, 1\)"),
        ([[1.0, 2.0], [3.0]], [[1.0]], r"a is no matrix: it has rows of different lengths, \[1, 2"),
        ([[1.0]], [[1.0], [1.0, 2.0]], r"b is no matrix: it has rows of different lengths"),
        ([], [[1.0]], "a is no matrix: it has no rows"),
        ([[]], [], "b is no matrix: it has no rows"),
    ],
)
def test_lists_that_are_no_matrices(a, b, text):
    with pytest.raises(ShapeError, match=text):
        matmul_lists(a, b)


def test_loops_compile_once():
    assert compile_loops(loops_ijk) is compile_loops(loops_ijk)
    assert compile_loops(loops_ijk) is not compile_loops(loops_ikj)


def test_without_numba_the_error_names_the_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "numba", None)
    compile_loops.cache_clear()
    with pytest.raises(MissingDependencyError, match=r'pip install "groundup\[lessons\]"'):
        LADDER["compiled"](np.ones((1, 1)), np.ones((1, 1)))
    compile_loops.cache_clear()


def test_importing_loads_neither_numba_nor_torch():
    code = (
        "import sys, groundup.foundations.matmul;"
        "sys.exit(' '.join({'numba', 'torch'} & set(sys.modules)) or None)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
