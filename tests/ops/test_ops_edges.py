"""The edge conventions, each a row: what PyTorch does at 0, at ties, at infinity and with NaN."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from op_cases import POWERS, UNARY, Case, both
from oracle import F64, check, is_float

import groundup as gu
from groundup import Tensor
from groundup.errors import ShapeError

INF, NAN = math.inf, math.nan
SPECIAL = np.array([0.0, -0.0, 1.0, -1.0, 0.5, 2.5, -2.5, 1e4, -1e4, 1e-200, INF, -INF, NAN])
TIES = np.array([[1.0, 3.0, 3.0], [3.0, 2.0, 3.0], [0.0, 0.0, 0.0]])
HUGE = np.array([[1e4, -1e4, 9999.0]])
PAIRS = np.meshgrid(np.array([0.0, 1.0, 2.0, -1.0, INF, -INF, NAN]), [0.0, 1.0, 2.0, 0.5, -1.0])


def row(name: str, function: Callable[..., Any], *arrays: Any, **options: Any) -> Any:
    return pytest.param(both(name, function, *arrays, **options), id=name)


def twins(name: str, ours: Any, theirs: Any, *arrays: Any, **options: Any) -> Any:
    return pytest.param(Case(name, ours, theirs, list(arrays), **options), id=name)


EDGES = [
    row("relu'(0) = 0", lambda x: x.relu(), np.array([0.0, -0.0, 1.0])),
    row("abs'(0) = 0", abs, np.array([0.0, -0.0, 1.0])),
    row("clamp's gradient at a limit is 1", lambda x: x.clamp(-1, 2), np.array([-1.0, 2.0, 3.0])),
    row("clamp_min at its limit", lambda x: x.clamp_min(0.0), np.array([0.0, -0.0, NAN])),
    row("clamp with crossed limits", lambda x: x.clamp(2, 1), np.array([0.0, 1.0, 1.5, 3.0])),
    row("amax shares among ties", lambda x: x.amax(1), TIES),
    row("amax shares over two axes", lambda x: x.amax((0, 1)), TIES),
    row("amin shares among ties", lambda x: x.amin(0, keepdims=True), TIES),
    row("max of all shares", lambda x: x.max(), TIES),
    row("min of all shares", lambda x: x.min(), TIES),
    twins("max picks the first", lambda x: x.max(1), lambda x: x.max(1).values, TIES),
    twins("min picks the first", lambda x: x.min(0), lambda x: x.min(0).values, TIES),
    row("argmax takes the first", lambda x: x.argmax(1), TIES),
    row("argmin takes the first", lambda x: x.argmin(), TIES),
    row("maximum's ties take half", lambda x, y: x.maximum(y), TIES, TIES.T.copy()),
    row("minimum's ties take half", lambda x, y: x.minimum(y), TIES, TIES.T.copy()),
    row("maximum with itself", lambda x: x.maximum(x), TIES),
    row("maximum passes NaN on", lambda x, y: x.maximum(y), np.array([NAN, 1.0]), np.full(2, NAN)),
    row("amax passes NaN on", lambda x: x.amax(0), np.array([1.0, NAN, 2.0])),
    row("sqrt'(0) = inf", lambda x: x.sqrt(), np.array([0.0, -1.0, INF, 4.0])),
    row("log(0) = -inf", lambda x: x.log(), np.array([0.0, -1.0, INF, 4.0])),
    row("0 * inf", operator.mul, np.array([0.0, INF, NAN]), np.array([INF, 0.0, 1.0])),
    row("0 / 0", operator.truediv, np.array([0.0, 1.0, INF, 0.0]), np.array([0.0, 0.0, INF, 2.0])),
    row("power at its corners", operator.pow, *PAIRS, second=False),
    row("0 ** y", lambda y: 0.0**y, np.array([0.0, 1.0, -1.0, 2.0]), second=False),
    row("std of equal entries has gradient 0", lambda x: x.std(1), TIES, second=False),
    row("std of all equal", lambda x: x.std(), np.full((2, 3), 1.5), second=False),
    row("var of equal entries", lambda x: x.var(1), TIES),
    row("where hides an infinity", lambda x: x.where(x > 0, 2 * x), np.array([INF, -INF, NAN])),
    row("sigmoid far out", lambda x: x.sigmoid(), np.array([1e4, -1e4, 88.0, -88.0, 0.0])),
    row("tanh far out", lambda x: x.tanh(), np.array([1e4, -1e4, 20.0, 0.0])),
    row("softmax of 1e4", lambda x: x.softmax(-1), np.array([[1e4, -1e4, 9999.0], [-1e4, 0, 1]])),
    row("softmax with -inf", lambda x: x.softmax(-1), np.array([[-INF, 1.0, 2.0]])),
    row("softmax of only -inf", lambda x: x.softmax(-1), np.array([[-INF, -INF]])),
    row("softmax with NaN", lambda x: x.softmax(-1), np.array([[NAN, 1.0], [1.0, 2.0]])),
    row("log_softmax of 1e4", lambda x: x.log_softmax(-1), HUGE),
    row("log_softmax with -inf", lambda x: x.log_softmax(-1), np.array([[-INF, 1.0, 2.0]])),
    row(
        "logsumexp of 1e4",
        lambda x: x.logsumexp(-1),
        np.array([[1e4, -1e4, 9999.0]]),
        dtypes=(F64,),
    ),
    row("logsumexp with -inf", lambda x: x.logsumexp(-1), np.array([[-INF, 1.0, 2.0]])),
    row("logsumexp of only -inf", lambda x: x.logsumexp(-1), np.array([[-INF, -INF], [1.0, 2.0]])),
    row("logsumexp with inf", lambda x: x.logsumexp(-1), np.array([[INF, 1.0]]), second=False),
    row("sum along a number's axis", lambda x: x.sum(-1), np.array(1.5)),
    row("mean along a number's axis", lambda x: x.mean(0, keepdims=True), np.array(1.5)),
    row("amax along a number's axis", lambda x: x.amax(-1), np.array(1.5)),
    row("softmax of a number", lambda x: x.softmax(-1), np.array(1.5)),
    row("log_softmax of a number", lambda x: x.log_softmax(0), np.array(1.5)),
    row("sum of nothing", lambda x: x.sum(0), np.zeros((0, 3))),
    row("round takes halves to even", lambda x: x.round(), np.array([0.5, 1.5, 2.5, -0.5, -1.5])),
    row("floor of negatives", lambda x: x.floor(), np.array([-0.5, -1.0, 0.5, INF, NAN])),
    row("cumsum through NaN", lambda x: x.cumsum(0), np.array([1.0, NAN, 2.0])),
    row("comparisons with NaN", lambda x, y: x != y, np.array([NAN, 1.0]), np.array([NAN, 1.0])),
]


@pytest.mark.parametrize("case", EDGES)
def test_edge(case: Case) -> None:
    check(case.ours, case.theirs, *case.arrays, second=case.second, dtypes=case.dtypes)


# Where torch goes its own way: sign(NaN) is 0 and relu sends a gradient to a NaN; the square roots
# of -0 and -inf have other signs. Ours are NumPy's.
DIFFERENT = {
    **dict.fromkeys(["sign", "gu.sign", "abs", "__abs__", "relu", "gu.relu"], (NAN,)),
    **dict.fromkeys(["x**0.5", "x**-0.5"], (-0.0, -INF)),
}


@pytest.mark.parametrize(
    "case",
    [pytest.param(c, id=c.name) for c in UNARY + POWERS if is_float(c.arrays[0])],
)
def test_special_values(case: Case) -> None:
    different = [str(v) for v in DIFFERENT.get(case.name, ())]  # as text: NaN is not NaN, -0 is 0
    x = np.array([v for v in SPECIAL if str(v) not in different])
    check(case.ours, case.theirs, x, second=False, dtypes=(F64,))


@pytest.mark.parametrize("name", ["relu", "sign", "abs", "maximum", "minimum", "clamp"])
def test_nan_stays_nan(name: str) -> None:
    x = Tensor([NAN, 1.0])
    limits = {"maximum": [0.0], "minimum": [0.0], "clamp": [-1, 2]}.get(name, [])
    assert np.isnan(getattr(x, name)(*limits).data).tolist() == [True, False]


def test_mean_of_nothing_is_an_error() -> None:
    with pytest.raises(ShapeError, match=r"mean over axis 0 of shape \(0, 3\): there is nothing"):
        Tensor(np.zeros((0, 3))).mean(0)
    assert Tensor(np.zeros((0, 3))).mean(1).shape == (0,)


@pytest.mark.parametrize("name", ["amax", "amin", "max", "min", "argmax"])
def test_extremes_of_nothing_are_errors(name: str) -> None:
    with pytest.raises(ShapeError, match=r"zero-size array|empty sequence"):
        getattr(Tensor(np.zeros((0, 3))), name)()


def test_var_without_a_degree_of_freedom_is_an_error() -> None:
    with pytest.raises(ShapeError, match="1 entries leave no degree of freedom with correction=1"):
        Tensor([[1.0], [2.0]]).var(1)


class TestErf:
    """Against math.erf, whose own error is below 1 unit in the last place."""

    X = np.concatenate(
        [
            np.linspace(-6.5, 6.5, 26_001),
            np.geomspace(1e-320, 1.0, 2_000),
            np.nextafter([0.46875, 0.5, 4.0, 6.0], [1, 0, 5, 5]),
            [0.46875, 4.0, -4.0, -0.46875, 27.0, 1e308, -1e200],
        ]
    )

    def test_relative_error(self) -> None:
        expected = np.array([math.erf(v) for v in self.X])
        with np.errstate(under="ignore"):
            np.testing.assert_allclose(gu.erf(self.X).data, expected, rtol=8e-16, atol=1e-323)

    def test_special(self) -> None:
        out = gu.erf(np.array([0.0, -0.0, INF, -INF, NAN, 1e-310])).data
        assert repr(out[:2].tolist()) == "[0.0, -0.0]"
        assert out[2:4].tolist() == [1.0, -1.0]
        assert np.isnan(out[4])
        assert out[5] == math.erf(1e-310)

    def test_float32_is_rounded_once(self) -> None:
        x = self.X[np.abs(self.X) < 1e38].astype(np.float32)
        expected = np.array([math.erf(v) for v in x.astype(float)]).astype(np.float32)
        np.testing.assert_allclose(gu.erf(x).data, expected, rtol=1.2e-7)


# Far out, where a formula that is right on paper overflows or cancels.
@pytest.mark.parametrize(
    ("ours", "exact"),
    [
        pytest.param(lambda: gu.expm1(1e-12), 1e-12 + 0.5e-24, id="expm1"),
        pytest.param(lambda: gu.log1p(np.array(1e-12)), 1e-12 - 0.5e-24, id="log1p"),
        pytest.param(lambda: gu.sigmoid(np.array(-700.0)), math.exp(-700), id="sigmoid"),
        pytest.param(lambda: gu.logsumexp(np.array([-800.0, -800.0])), math.log(2) - 800, id="lse"),
    ],
)
def test_accurate_far_out(ours: Callable[[], Tensor], exact: float) -> None:
    out = ours()
    assert out.item() == pytest.approx(exact, rel=1e-15 if out.dtype == F64 else 1e-7)


SMOOTH = ["exp", "expm1", "log", "log1p", "sqrt", "square", "sin", "cos", "tanh", "sigmoid"]


@pytest.mark.parametrize("name", SMOOTH)
def test_complex_step(name: str) -> None:
    """Smooth ops work on complex numbers: Im f(x + ih) / h is the derivative, to the last digit."""
    x = np.array([0.3, 1.7, 2.5])
    stepped = getattr(Tensor(x + 1e-200j), name)().data.imag / 1e-200
    given = Tensor(x, requires_grad=True)
    getattr(given, name)().sum().backward()
    np.testing.assert_allclose(stepped, given.g.data, rtol=1e-14)
