"""Every case of the ops' tables, recorded with its backward pass, printed, run: the same bits."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from op_cases import TABLES, Case, both
from oracle import F32, F64, is_float, normal, positive, rng, several
from programs import Recorded

import groundup as gu
from groundup import Tensor, ops
from groundup.errors import RecordError

# A Program would keep what these read: how many entries are true, how many rows there are.
READ_VALUES = {"x[mask tensor]", "iteration"}
# Recorders write these lines themselves, where a step counts or asks for a size.
NUMBERS = {"size", "size axes", "size of 0-d", "value"}
CASES = {
    f"{family}: {case.name}": case
    for family, cases in TABLES.items()
    for case in cases
    if case.name not in READ_VALUES | NUMBERS
}


def recorded(case: Case, dtype: Any, backward: bool = True) -> Recorded:
    """A step that returns the outputs and all gradients under fixed random cotangents."""
    given = [np.asarray(a) for a in case.arrays]
    given = [a.astype(dtype) if a.dtype == F64 else a.copy() for a in given]
    xs = [Tensor(a, requires_grad=is_float(a)) for a in given]
    random = rng(5)
    cotangents = [
        Tensor(np.asarray(random.standard_normal(o.shape), o.dtype))
        for o in several(case.ours(*xs))
        if o.requires_grad and backward
    ]

    def step(*args: Tensor) -> Any:
        inputs, cs = args[: len(xs)], iter(args[len(xs) :])
        outs = several(case.ours(*inputs))
        wanted = [x for x in inputs if x.requires_grad]
        return outs, [gu.grad(o, wanted, next(cs)) for o in outs if backward and o.requires_grad]

    return Recorded(step, *xs, *cotangents)


@pytest.mark.parametrize("dtype", [F32, F64])
@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_as_eager(case: Case, dtype: Any) -> None:
    recorded(case, dtype).check_all()


@pytest.mark.parametrize(
    "case",
    [c for cases in TABLES.values() for c in cases if c.name in READ_VALUES],
    ids=lambda c: c.name,
)
def test_reads_a_value(case: Case) -> None:
    with pytest.raises(RecordError, match="reads the value of a tensor of shape"):
        recorded(case, F64)


# Shapes at the edge

SCALAR, EMPTY, ONE = np.array(-1.5), np.zeros((0, 3)), normal(1)
X, COLUMN, ROW, CUBE = normal(3, 4), normal(3, 1, seed=1), positive(4, seed=2), normal(2, 3, 4)
ROWS = np.array([2, 0, 2, 2])

EDGES = [
    *[
        both(f"{name} of {x.shape}", lambda x, name=name: getattr(x, name)(), x)
        for name in ("exp", "sigmoid", "erf", "relu", "square", "sign", "sum", "abs", "tanh")
        for x in (SCALAR, EMPTY, ONE)
    ],
    *[
        both(f"{name} of {x.shape} and {y.shape}", lambda x, y, f=name: getattr(x, f)(y), x, y)
        for name in ("__add__", "__sub__", "__mul__", "__truediv__", "maximum", "__pow__", "__lt__")
        for x, y in [
            (X, COLUMN), (ROW, COLUMN), (SCALAR, X), (X, SCALAR), (EMPTY, ONE), (CUBE, ROW),
            (COLUMN, CUBE), (SCALAR, SCALAR), (ONE, EMPTY),
        ]
    ],
    *[
        both(
            f"{name} {axis} {kept} of {x.shape}",
            lambda x, name=name, axis=axis, kept=kept: getattr(x, name)(axis, keepdims=kept),
            x,
        )
        for name in ("sum", "mean", "amax", "amin", "var", "logsumexp")
        for kept in (False, True)
        for x, axis in [
            (CUBE, -1), (CUBE, (-1, 0)), (CUBE, (0, 1, 2)), (CUBE, None), (X, (-2,)), (CUBE, 1),
        ]
    ],
    both("sum of no axes", lambda x: x.sum(()), X),
    both("amax of no axes", lambda x: x.amax(()), X),
    both("sum along an axis of 0-d", lambda x: x.sum(-1, keepdims=True), SCALAR),
    both("softmax of 0-d", lambda x: x.softmax(-1), SCALAR),
    both("amax along an axis of 0-d", lambda x: x.amax(0), SCALAR),
    both("mean along an axis of 0-d", lambda x: x.mean(-1, keepdims=True), SCALAR),
    both("argmax along an axis of 0-d", lambda x: x.argmax(0), SCALAR),
    both("sum of 0-d", lambda x: x.sum((), keepdims=True), SCALAR),
    both("mean of 0-d", lambda x: x.mean(), SCALAR),
    both("sum over nothing", lambda x: x.sum(0, keepdims=True), EMPTY),
    both("softmax of one", lambda x: x.softmax(-1), normal(3, 1)),
    both("softmax of no rows", lambda x: x.softmax(-1), EMPTY),
    both("log_softmax of a long first axis", lambda x: x.log_softmax(-3), CUBE),
    both("cumsum of no rows", lambda x: x.cumsum(0), EMPTY),
    both("argmax of one", lambda x: x.argmax(-2, keepdims=True), normal(2, 1, 3)),
    both("reshape of 0-d", lambda x: x.reshape(1, 1), SCALAR),
    both("reshape to 0-d", lambda x: x.reshape(()), ONE),
    both("reshape of nothing", lambda x: x.reshape(3, 0, 2), EMPTY),
    both("expand of 0-d", lambda x: x.expand(2, 3), SCALAR),
    both("expand to nothing", lambda x: x.expand(0, 3), normal(1, 3)),
    both("transpose of 0-d", lambda x: x.T, SCALAR),
    both("transpose of nothing", lambda x: x.permute(1, 0), EMPTY),
    both("x[...] of 0-d", lambda x: x[...], SCALAR),
    both("x[None] of 0-d", lambda x: x[None], SCALAR),
    both("x[()] of 0-d", lambda x: x[()], SCALAR),
    both("x[2:2]", lambda x: x[2:2], X),
    both("x[-1, -1]", lambda x: x[-1, -1], X),
    both("x[..., ::-2]", lambda x: x[..., ::-2], CUBE),
    both("x[rows] of nothing", lambda x: x[np.zeros(0, np.int64)], X),
    both("x[rows][0]", lambda x: x[ROWS][0], X),
    both("concatenate with nothing", lambda x, y: gu.concatenate([x, y, x]), EMPTY, normal(2, 3)),
    both("stack of numbers", lambda x, y: gu.stack([x, y, x]), SCALAR, np.array(2.5)),
    both("pad of nothing", lambda x: gu.pad(x, 1, -0.5), EMPTY),
    both("matmul of nothing", lambda x, y: x @ y, normal(0, 4), normal(4, 0)),
    # One product of all rows, which is rounded in another way than a product for each batch.
    both("matmul of batches and a matrix", lambda x, y: x @ y, normal(4, 38, 48), normal(48, 34)),
    both("matmul of other batches", lambda x, y: x @ y, normal(3, 2, 38), normal(38, 42)),
    both("matmul of empty batches", lambda x, y: x @ y, normal(0, 3, 4), normal(4, 2)),
    both("matmul of batches of vectors", lambda x, y: x @ y, normal(5, 1, 4), normal(4)),
    both("einsum of 0-d", lambda x, y: gu.einsum(",->", x, y), SCALAR, np.array(2.5)),
    both("one_hot of nothing", lambda i: gu.one_hot(i, 3), np.zeros((0, 2), np.int64)),
    both("where of three shapes", gu.where, X > 0, COLUMN, ROW),
    both("clamp of nothing", lambda x: x.clamp(-1, 1), EMPTY),
    both("all of nothing", lambda x: x.all(), np.zeros((0,), bool)),
    *[
        both(f"brackets {i}", function, X, positive(3, 4, seed=3))
        for i, function in enumerate([
            lambda x, y: -(x + y), lambda x, y: -(x * y), lambda x, y: (-x) * y,
            lambda x, y: (-x) ** 2, lambda x, y: -(x**2), lambda x, y: (x**2) ** 3,
            lambda x, y: (x + y) ** 3, lambda x, y: x - (y - x), lambda x, y: (x - y) - x,
            lambda x, y: x - (y + x), lambda x, y: x / (y / x), lambda x, y: x / (y * x),
            lambda x, y: x * (y / x), lambda x, y: (x + y) * (x - y), lambda x, y: 2 - (-x),
            lambda x, y: (x < y) == (y < x), lambda x, y: (x + y < y - x) != (x == y),
            lambda x, y: (x + y).T, lambda x, y: (-x).T, lambda x, y: (x + y).sum(0),
            lambda x, y: (-x).sum(), lambda x, y: (x * y)[0], lambda x, y: (x - y)[:, None],
            lambda x, y: (x @ y.T) @ x, lambda x, y: x @ (y.T @ x), lambda x, y: x @ (y + x).T,
            lambda x, y: (x + y).reshape(4, 3), lambda x, y: (x > y).cast(np.int32),
            lambda x, y: ops.check_range((x - y) * 0, low=-1.0, high=1.0, what="x"),
            lambda x, y: ops.check_range(x < y, low=0.0, high=1.0, what="x"),
            lambda x, y: y ** (x - y), lambda x, y: (y + 1) ** -1.0, lambda x, y: x * -0.5 - -2.0,
            lambda x, y: gu.concatenate([x + y, -x]), lambda x, y: (x + y)[ROWS],
        ])
    ],
    both("unused input", lambda x, y: 2 * x, X, ROW),
    both("the input itself", lambda x: x, X),
    both("the same output twice", lambda x: [x.exp()] * 2, X),
    both("an input used three ways", lambda x: x * x + x.T.T * x.sum(0), X),
]  # fmt: skip


@pytest.mark.parametrize("dtype", [F32, F64])
@pytest.mark.parametrize("case", EDGES, ids=lambda c: c.name)
def test_edge(case: Case, dtype: Any) -> None:
    recorded(case, dtype).check_all()


# Entries at the edge

TINY = np.finfo(F32).smallest_subnormal
SPECIAL = np.array(
    [[0.0, -0.0, 1.0, -1.0, 2.0, -2.5], [np.inf, -np.inf, np.nan, TINY, -3 * TINY, 3e38]]
)
MIXED = SPECIAL[::-1, ::-1].copy()


@pytest.mark.parametrize("dtype", [F32, F64])
@pytest.mark.parametrize(
    "case",
    [c for c in CASES.values() if all(is_float(np.asarray(a)) for a in c.arrays)
     and {np.shape(a) for a in c.arrays} == {(3, 4)} and not c.name.startswith("check")],
    ids=lambda c: c.name,
)  # fmt: skip
def test_special_entries(case: Case, dtype: Any) -> None:
    """Infinities, NaN, -0 and subnormal numbers, in every case of matrices of 3 x 4."""
    arrays = [SPECIAL.reshape(3, 4), MIXED.reshape(3, 4), np.roll(SPECIAL, 5).reshape(3, 4)]
    recorded(replace(case, arrays=arrays[: len(case.arrays)]), dtype).check_all()


OTHER_DTYPES = ["int64", "int32", "uint8", "bool", "float16"]
OF_ANY_DTYPE = [
    "add", "sub", "mul", "div", "maximum", "pow tensor", "exp", "sigmoid", "abs", "neg", "relu",
    "x / number", "number - x", "x + number", "sum", "mean", "amax all", "sum axis", "softmax",
    "x**2", "x**0.5", "clamp", "round", "matmul (3, 4) (4, 2)", "concatenate", "pad", "cumsum",
]  # fmt: skip
NOT_OF_BOOL = {"sub", "sigmoid", "neg", "softmax"}


@pytest.mark.parametrize(
    ("name", "dtype"),
    [(n, d) for n in OF_ANY_DTYPE for d in OTHER_DTYPES if d != "bool" or n not in NOT_OF_BOOL],
)
def test_other_dtypes(name: str, dtype: str) -> None:
    """Integers become float32 where NumPy would make float64: the Program says where."""
    case = next(c for c in CASES.values() if c.name == name)
    given = [np.asarray(10 * np.abs(a)).astype(dtype) for a in case.arrays]
    recorded(replace(case, arrays=given), F64).check_all()


@pytest.mark.parametrize("op", ["uniform", "normal"])
@pytest.mark.parametrize("dtype", [F32, F64])
def test_random_numbers(op: str, dtype: Any) -> None:
    generator = gu.Generator(3)
    generator.uniform(2)

    def step(x: Tensor) -> Any:
        first = getattr(generator, op)(3, 4, dtype=dtype)
        return x * first, getattr(generator, op)(dtype=dtype), first

    run = Recorded(step, Tensor(X.astype(dtype)), held=[generator.key, generator.counter])
    run.check_all()
    assert [u[0] for u in run.program.updates] == ["counter"]
    assert run.left["counter"] == 3
