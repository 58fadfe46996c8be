"""Every op and every Tensor method with its twin in torch, by family: the tables that the tests
of a family run, and that `test_ops_complete` holds against what the package has.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from oracle import F32, F64, normal, positive, whole

import groundup as gu
from groundup import functions, ops
from groundup.ops.indexing import ARRAY


@dataclass(frozen=True)
class Case:
    name: str
    ours: Callable[..., Any]
    theirs: Callable[..., Any]
    arrays: list[Any] = field(default_factory=lambda: [normal(3, 4)])
    second: bool = True
    dtypes: tuple[Any, ...] = (F64, F32)


def both(name: str, function: Callable[..., Any], *arrays: Any, **options: Any) -> Case:
    """A case in which ours and theirs read the same."""
    return Case(name, function, function, list(arrays) or [normal(3, 4)], **options)


X, Y = normal(3, 4, seed=1), normal(3, 4, seed=2)
P, Q = positive(3, 4, seed=3), positive(3, 4, seed=4)
B, V = normal(2, 3, 4, seed=5), normal(4, seed=6)
N = whole(3, 4, seed=7)
MASK, MASK2 = X > 0.2, Y > 0.1

UNARY = [
    both("exp", lambda x: x.exp()),
    both("expm1", lambda x: x.expm1()),
    both("log", lambda x: x.log(), P),
    both("log1p", lambda x: x.log1p(), P - 1.2),
    both("sqrt", lambda x: x.sqrt(), P),
    both("square", lambda x: x.square()),
    both("sin", lambda x: x.sin()),
    both("cos", lambda x: x.cos()),
    both("tanh", lambda x: x.tanh()),
    both("sigmoid", lambda x: x.sigmoid()),
    both("erf", lambda x: x.erf()),
    both("abs", lambda x: x.abs()),
    both("__abs__", abs),
    both("sign", lambda x: x.sign()),
    both("floor", lambda x: x.floor(), 3 * X),
    both("round", lambda x: x.round(), 3 * X),
    both("relu", lambda x: x.relu()),
    both("neg", operator.neg),
    both("pos", operator.pos),
    both("clone", lambda x: x.clone() * 2),
    both("detach", lambda x: x * x.detach()),
    both("clamp", lambda x: x.clamp(-0.5, 0.7)),
    both("clamp keywords", lambda x: x.clamp(max=0.3)),
    both("clamp_min", lambda x: x.clamp_min(0.1)),
    both("clamp_max", lambda x: x.clamp_max(-0.1)),
    both("isnan", lambda x: x.isnan(), np.array([0.0, np.nan, np.inf, -np.inf])),
    both("isfinite", lambda x: x.isfinite(), np.array([0.0, np.nan, np.inf, -np.inf])),
    both("invert", operator.invert, MASK),
    *[
        Case(f"gu.{name}", getattr(gu, name), getattr(torch, name), [x])
        for name, x in {
            **dict.fromkeys(["cos", "erf", "exp", "expm1", "relu", "sigmoid", "sign"], X),
            **dict.fromkeys(["sin", "tanh"], X),
            **dict.fromkeys(["log", "log1p", "sqrt"], P),
        }.items()
    ],
]

# x**exponent for each exponent; negative bases where that is real.
POWERS = [
    both(f"x**{e}", lambda x, e=e: x**e, P if float(e) != int(e) else X)
    for e in (0, 1, 2, 3, 4, -1, -2, 0.5, -0.5, 1.5, 2.0, -3.0)
]

BINARY = [
    both("add", operator.add, X, Y),
    both("sub", operator.sub, X, Y),
    both("mul", operator.mul, X, Y),
    both("div", operator.truediv, X, Q),
    *[
        both(f"{o.__name__} of a new tensor", lambda x, y, o=o: o(x * 1, y), X, Q)
        for o in (operator.iadd, operator.isub, operator.imul, operator.itruediv)
    ],
    both("pow tensor", operator.pow, P, Y),
    both("pow method", lambda x, y: x.pow(y), P, Y),
    both("pow number", lambda x: x.pow(3), X),
    both("maximum", lambda x, y: x.maximum(y), X, Y),
    both("minimum", lambda x, y: x.minimum(y), X, Y),
    Case("gu.maximum", gu.maximum, torch.maximum, [X, Y]),
    Case("gu.minimum", gu.minimum, torch.minimum, [X, Y]),
    Case("where", lambda c, x, y: x.where(c, y), lambda c, x, y: x.where(c, y), [MASK, X, Y]),
    Case("gu.where", gu.where, torch.where, [MASK, X, Y]),
    Case("functions.where", functions.where, torch.where, [MASK, X, Y]),
    both("masked_fill", lambda x, c: x.masked_fill(c, -3.5), X, MASK),
    both("number + x", lambda x: 2.5 + x),
    both("number - x", lambda x: 2.5 - x),
    both("number * x", lambda x: 2.5 * x),
    both("number / x", lambda x: 2.5 / x, P),
    both("number ** x", lambda x: 2.5**x),
    both("x + number", lambda x: x + 3),
    both("x - number", lambda x: x - 3),
    both("x / number", lambda x: x / 3),
    *[
        both(f"{o.__name__} {kind}", o, x, y)
        for o in (operator.lt, operator.le, operator.gt, operator.ge, operator.eq, operator.ne)
        for kind, x, y in [("floats", X, Y), ("ints", N, N.T.reshape(3, 4)), ("ties", X, X)]
    ],
    both("and", operator.and_, MASK, MASK2),
    both("or", operator.or_, MASK, MASK2),
    Case("array & mask", lambda c: MASK2 & c, lambda c: torch.tensor(MASK2) & c, [MASK]),
    Case("array | mask", lambda c: MASK2 | c, lambda c: torch.tensor(MASK2) | c, [MASK]),
    Case("mask & array", lambda c: c & MASK2, lambda c: torch.tensor(MASK2) & c, [MASK]),
    both("True & mask", lambda c: True & c, MASK),
    both("False | mask", lambda c: False | c, MASK),
]

REDUCTIONS = [
    both("sum", lambda x: x.sum()),
    both("sum axis", lambda x: x.sum(1), B),
    both("sum tuple keepdims", lambda x: x.sum((0, -1), keepdims=True), B),
    both("mean", lambda x: x.mean()),
    both("mean axis", lambda x: x.mean(-1), B),
    both("mean tuple", lambda x: x.mean((0, 2)), B),
    both("mean keepdims", lambda x: x.mean(1, keepdims=True), B),
    both("var", lambda x: x.var()),
    both("var axis", lambda x: x.var(1), B),
    both("var population", lambda x: x.var((0, 2), correction=0, keepdims=True), B),
    both("std", lambda x: x.std()),
    both("std axis", lambda x: x.std(-1, correction=0), B),
    both("std keepdims", lambda x: x.std((0, 1), keepdims=True), B),
    both("amax all", lambda x: x.amax()),
    both("amax axis", lambda x: x.amax(1), B),
    both("amax tuple keepdims", lambda x: x.amax((0, 2), keepdims=True), B),
    both("amin all", lambda x: x.amin()),
    both("amin axis", lambda x: x.amin(-1), B),
    both("amin tuple keepdims", lambda x: x.amin((1, 2), keepdims=True), B),
    both("max all", lambda x: x.max()),
    Case("max axis", lambda x: x.max(1), lambda x: x.max(1).values, [B]),
    Case("max keepdims", lambda x: x.max(-1, True), lambda x: x.max(-1, True).values, [B]),
    both("min all", lambda x: x.min()),
    Case("min axis", lambda x: x.min(0), lambda x: x.min(0).values, [B]),
    Case("min keepdims", lambda x: x.min(-2, True), lambda x: x.min(-2, True).values, [B]),
    both("argmax all", lambda x: x.argmax()),
    both("argmax axis", lambda x: x.argmax(1), B),
    both("argmax keepdims", lambda x: x.argmax(-1, keepdims=True), B),
    both("argmin all", lambda x: x.argmin()),
    both("argmin axis", lambda x: x.argmin(0), B),
    both("argmin keepdims", lambda x: x.argmin(-1, keepdims=True), B),
    both("cumsum", lambda x: x.cumsum(0), B),
    both("cumsum last", lambda x: x.cumsum(-1), B),
    both("logsumexp", lambda x: x.logsumexp(-1)),
    both("logsumexp keepdims", lambda x: x.logsumexp(1, True), B),
    both("logsumexp tuple", lambda x: x.logsumexp((0, 2)), B),
    both("softmax", lambda x: x.softmax(-1)),
    both("softmax axis", lambda x: x.softmax(1), B),
    both("log_softmax", lambda x: x.log_softmax(-1)),
    both("log_softmax axis", lambda x: x.log_softmax(0), B),
    Case("gu.softmax", gu.softmax, lambda x: torch.softmax(x, -1)),
    Case("gu.log_softmax", lambda x: gu.log_softmax(x, 0), lambda x: torch.log_softmax(x, 0)),
    Case("gu.logsumexp", lambda x: gu.logsumexp(x, (0, 1)), lambda x: torch.logsumexp(x, (0, 1))),
    both("all", lambda x: x.all(), N),
    both("all of all", lambda x: x.all(), N + 1),
    both("any", lambda x: x.any(), N),
    both("any of none", lambda x: x.any(), 0 * N),
    both("all of nothing", lambda x: x.all(), np.zeros((0, 2))),
    both("any of nothing", lambda x: x.any(), np.zeros((0, 2))),
]

SHAPES = [
    both("reshape", lambda x: x.reshape(2, 6)),
    both("reshape tuple", lambda x: x.reshape((4, 3))),
    both("reshape -1", lambda x: x.reshape(2, -1, 3)),
    both("reshape to itself", lambda x: x.reshape(3, 4)),
    both("view", lambda x: x.view(12)),
    both("flatten", lambda x: x.flatten(), B),
    both("flatten part", lambda x: x.flatten(1, -1), B),
    both("flatten 0-d", lambda x: x.flatten(), np.array(1.5)),
    both("squeeze", lambda x: x.squeeze(), normal(1, 3, 1)),
    both("squeeze axis", lambda x: x.squeeze(-1), normal(1, 3, 1)),
    both("squeeze tuple", lambda x: x.squeeze((0, 1)), normal(1, 3, 1)),
    both("squeeze nothing", lambda x: x.squeeze(1), normal(1, 3, 1)),
    both("unsqueeze", lambda x: x.unsqueeze(0)),
    both("unsqueeze middle", lambda x: x.unsqueeze(1)),
    both("unsqueeze last", lambda x: x.unsqueeze(-1)),
    both("T", lambda x: x.T),
    Case("T of three axes", lambda x: x.T, lambda x: x.permute(2, 1, 0), [B]),
    both("mT", lambda x: x.mT, B),
    both("t", lambda x: x.t()),
    both("t of a vector", lambda x: x.t(), V),
    both("transpose", lambda x: x.transpose(0, -1), B),
    both("permute", lambda x: x.permute(2, 0, 1), B),
    both("permute tuple", lambda x: x.permute((-1, 0, 1)), B),
    both("expand", lambda x: x.expand(2, 3, 4)),
    both("expand -1", lambda x: x.expand(5, -1, 4), normal(3, 1)),
    both("expand to itself", lambda x: x.expand((3, 4))),
    both("flip", lambda x: x.flip(0)),
    both("flip tuple", lambda x: x.flip((0, -1)), B),
    both("split", lambda x: x.split(3, 1)),
    both("split sizes", lambda x: x.split([1, 0, 2, 1], -1)),
    Case("gu.split", lambda x: gu.split(x, 2), lambda x: torch.split(x, 2)),
    Case("concatenate", lambda *xs: gu.concatenate(xs), lambda *xs: torch.cat(xs), [X, Y, P]),
    Case(
        "concatenate axis",
        lambda *xs: gu.concatenate(xs, axis=-1),
        lambda *xs: torch.cat(xs, -1),
        [X, normal(3, 2), normal(3, 0), normal(3, 1)],
    ),
    Case("stack", lambda *xs: gu.stack(xs), lambda *xs: torch.stack(xs), [X, Y]),
    Case("stack last", lambda *xs: gu.stack(xs, -1), lambda *xs: torch.stack(xs, -1), [X, Y]),
    Case("stack -2", lambda *xs: gu.stack(xs, -2), lambda *xs: torch.stack(xs, -2), [X, Y]),
    Case(
        "pad",
        lambda x: gu.pad(x, ((1, 2), (0, 3)), 1.5),
        lambda x: torch.nn.functional.pad(x, (0, 3, 1, 2), value=1.5),
    ),
    Case("pad all", lambda x: gu.pad(x, 2), lambda x: torch.nn.functional.pad(x, (2, 2, 2, 2))),
    both("cast float32", lambda x: x.float() * 2, second=False, dtypes=(F64,)),
    both("cast float64", lambda x: x.double() * 2, second=False),
    both("long", lambda x: x.long(), 3 * X),
    Case("cast", lambda x: x.cast(F32) * x, lambda x: x.to(torch.float32) * x, second=False),
    Case("astype", lambda x: x.astype("f4"), lambda x: x.float(), second=False),
]

PRODUCTS = [
    both(f"matmul {x.shape} {y.shape}", operator.matmul, x, y)
    for x, y in [
        (X, normal(4, 2)),
        (V, V[::-1].copy()),
        (V, normal(4, 2)),
        (X, V),
        (B, normal(4, 5)),
        (B, V),
        (V, normal(2, 4, 3)),
        (B, normal(2, 4, 5)),
        (normal(2, 1, 3, 4), normal(5, 4, 2)),
        (normal(3, 4), normal(2, 4, 5)),
        (normal(0, 4), normal(4, 2)),
        (normal(2, 0), normal(0, 3)),
        (normal(2, 3, 0), normal(0, 4)),
    ]
] + [
    Case("gu.matmul", gu.matmul, torch.matmul, [X, normal(4, 2)]),
    Case("list @ x", lambda x: X.tolist() @ x, lambda x: torch.tensor(X).to(x) @ x, [V]),
    Case("array @ x", lambda x: X.astype(x.dtype) @ x, lambda x: torch.tensor(X).to(x) @ x, [V]),
]

# Subscripts, and the operands' shapes. torch has no implicit broadcasting of length 1 in
# operands that name a letter; where it refuses, the twin expands first.
EINSUMS = [
    ("ij,jk->ik", (3, 4), (4, 2)),
    ("ij,jk", (3, 4), (4, 2)),
    ("ij,kj->ki", (3, 4), (2, 4)),
    ("ij->ji", (3, 4)),
    ("ba", (3, 4)),
    ("ij->", (3, 4)),
    ("ij->j", (3, 4)),
    ("ii->i", (3, 3)),
    ("ii", (3, 3)),
    ("iij->j", (3, 3, 2)),
    ("iij->ij", (3, 3, 2)),
    ("iji->j", (3, 2, 3)),
    ("iii->i", (3, 3, 3)),
    ("iijj->ij", (2, 2, 3, 3)),
    ("ijij->", (2, 3, 2, 3)),
    ("ii,ij->j", (3, 3), (3, 2)),
    ("ij,ij->ij", (3, 4), (3, 4)),
    ("ij,ij->", (3, 4), (3, 4)),
    ("i,j->ij", (3,), (4,)),
    ("i,j->", (3,), (4,)),
    ("i,j->j", (3,), (4,)),
    ("i,ij,j->", (3,), (3, 4), (4,)),
    ("ij,jk,kl->il", (2, 3), (3, 4), (4, 5)),
    ("ij,jk,ki->", (2, 3), (3, 4), (4, 2)),
    ("bij,bjk->bik", (2, 3, 4), (2, 4, 5)),
    ("bhqd,bhkd->bhqk", (2, 3, 4, 5), (2, 3, 6, 5)),
    ("...ij,...jk->...ik", (2, 3, 4), (4, 5)),
    ("...ij,...jk->...ik", (2, 1, 3, 4), (3, 4, 5)),
    ("...i,i->...", (2, 3, 4), (4,)),
    ("...i->i...", (2, 3, 4)),
    ("i...,i...", (2, 3), (2, 4, 3)),
    ("...,...->...", (2, 3), (3,)),
    ("...ii->...i", (2, 3, 3)),
    (" i j , j k -> i k ", (3, 4), (4, 2)),
    ("Aij,jk->Aik", (2, 3, 4), (4, 5)),
    (",ij->ij", (), (3, 4)),
    ("ij,jk->ik", (0, 4), (4, 2)),
    ("ij,jk->ik", (3, 0), (0, 2)),
]


def einsum_case(subscripts: str, *shapes: tuple[int, ...]) -> Case:
    return Case(
        f"einsum {subscripts} {shapes}",
        lambda *xs: gu.einsum(subscripts, *xs),
        lambda *xs: torch.einsum(subscripts, *xs),
        [normal(*shape, seed=i) for i, shape in enumerate(shapes)],
    )


PRODUCTS += [einsum_case(*row) for row in EINSUMS]

ROWS = np.array([2, 0, 2, 2])
GRID = np.array([[0, 1], [1, -1]])
INDEXING = [
    both(f"x[{text}]", lambda x, index=index: x[index], x)
    for text, index, x in [
        ("1", 1, X),
        ("-1", -1, X),
        ("1, 2", (1, 2), X),
        ("1:3", slice(1, 3), X),
        ("::2", slice(None, None, 2), X),
        ("-2:", slice(-2, None), X),
        ("5:", slice(5, None), X),
        (":, None", (slice(None), None), X),
        ("..., 1", (..., 1), B),
        ("None, ..., 0:1", (None, ..., slice(0, 1)), B),
        ("0, ..., 1", (0, ..., 1), B),
        ("...", ..., X),
        ("()", (), X),
        ("rows", ROWS, X),
        ("list", [2, 0, 0], X),
        ("grid", GRID, X),
        ("rows, cols", (np.array([0, 1, 0]), np.array([3, 3, 3])), X),
        ("rows, :, cols", (np.array([0, 1, 0]), slice(None), np.array([3, 3, 3])), B),
        (":, rows, cols", (slice(None), np.array([0, 1, 0]), np.array([3, 3, 3])), B),
        ("rows, None, 1:", (np.array([1, 1]), None, slice(1, None)), B),
        ("..., grid", (..., GRID), B),
        ("grid, 0", (GRID, 0), X),
        ("broadcast", (np.array([[0], [1]]), np.array([3, 3, 2])), X),
        ("mask", MASK, X),
        ("row mask", np.array([True, False, True]), X),
        (":, mask", (slice(None), np.array([True, False, True, True])), X),
        ("mask of two axes", MASK, normal(3, 4, 2)),
        ("0, mask", (0, np.array([True, False, True])), B),
        ("mask, 1:3", (np.array([True, False, True]), slice(1, 3)), X),
        ("empty mask", X > 1e9, X),
        ("int16", np.array([2, 0], np.int16), X),
        ("0-d array", np.array(1), X),
        ("np.int64", np.int64(1), X),
    ]
] + [
    Case("x[::-1]", lambda x: x[::-1], lambda x: x.flip(0)),
    Case("x[:, 3:0:-2]", lambda x: x[:, 3:0:-2], lambda x: x[:, [3, 1]]),
    Case("x[[]]", lambda x: x[[]], lambda x: x[torch.zeros(0, dtype=torch.long)]),
    Case("x[range]", lambda x: x[range(2)], lambda x: x[[0, 1]]),
    # NumPy's layout, not torch's: a number beside index arrays is an index array too.
    Case(
        "x[0, :, cols]",
        lambda x: x[0, :, np.array([3, 3, 1])],
        lambda x: x[[0, 0, 0], :, [3, 3, 1]],
        [B],
    ),
    Case("x[uint8]", lambda x: x[np.array([2, 0], np.uint8)], lambda x: x[[2, 0]]),
    both("x[tensor]", lambda x, i: x[i], X, ROWS),
    both("x[:, tensor]", lambda x, i: x[:, i], X, ROWS),
    both("x[mask tensor]", lambda x, m: x[m], X, MASK),
    both("iteration", lambda x: [2 * row for row in x]),
    Case(
        "take_along_axis",
        lambda x, i: x.take_along_axis(i, 1),
        lambda x, i: torch.take_along_dim(x, i, 1),
        [X, whole(3, 6)],
    ),
    Case(
        "gu.take_along_axis",
        lambda x, i: gu.take_along_axis(x, i, -2),
        lambda x, i: torch.take_along_dim(x, i, -2),
        [B, whole(2, 5, 4, high=3)],
    ),
    Case(
        "unslice",
        lambda x: ops.unslice(x, index=(slice(1, 5, 2), slice(None)), shape=(6, 4)),
        lambda x: torch.zeros(6, 4, dtype=x.dtype).slice_scatter(x, 0, 1, 5, 2),
        [normal(2, 4)],
    ),
    Case(
        "scatter_add",
        lambda x, i: ops.scatter_add(x, i, pattern=(ARRAY,), shape=(4, 4)),
        lambda x, i: torch.zeros(4, 4, dtype=x.dtype).index_add(0, i, x),
        [X, np.array([3, 1, 3])],
    ),
    Case(
        "one_hot",
        lambda i: gu.one_hot(i, 5, dtype=np.int64),
        lambda i: torch.nn.functional.one_hot(i, 5),
        [N],
    ),
]

# Arrays from nothing, beside an input so that there is something to differentiate; and numbers.
CONSTANTS = [
    Case(
        "full",
        lambda x: x * ops.full(shape=(2, 3, 4), value=1.5, dtype=x.dtype),
        lambda x: x * torch.full((2, 3, 4), 1.5, dtype=x.dtype),
    ),
    Case(
        "full of int32",
        lambda x: ops.full(shape=(0, 2), value=-7, dtype=np.dtype(np.int32)),
        lambda x: torch.full((0, 2), -7, dtype=torch.int32),
    ),
    Case(
        "array_",
        lambda x: x * ops.array_(entries=((0.1, -0.0), (1e9, 2.0)), dtype=x.dtype),
        lambda x: x * torch.tensor([[0.1, -0.0], [1e9, 2.0]], dtype=x.dtype),
        [normal(5, 2, 1)],
    ),
    Case(
        "arange",
        lambda x: x * ops.arange(shape=(4,)),
        lambda x: x * torch.arange(4),
    ),
    Case(
        "arange like",
        lambda x: x * ops.arange(x).unsqueeze(1),
        lambda x: x * torch.arange(len(x)).unsqueeze(1),
    ),
    Case("size", lambda x: ops.size(x, axis=None), lambda x: torch.tensor(x.numel()), [B]),
    Case("size axes", lambda x: ops.size(x, axis=(0, -1)), lambda x: torch.tensor(8), [B]),
    Case("size of 0-d", lambda x: ops.size(x, axis=()), lambda x: torch.tensor(1), [np.array(2.5)]),
    Case("value", ops.value, lambda i: i, [np.array(7)]),
]

# Nothing is wrong here; what is refused, and how, is in test_ops_checks.py.
CHECKS = [
    Case("check_labels", lambda i: ops.check_labels(i, classes=4), lambda i: i, [N]),
    Case(
        "check_range",
        lambda x: ops.check_range(x, low=0.0, high=3.0, what="targets"),
        lambda x: x.detach(),
        [P],
    ),
    Case("check_finite", lambda x: ops.check_finite(x, what="{}"), lambda x: x.detach()),
]

TABLES = {
    "elementwise": UNARY + POWERS + BINARY,
    "reduce": REDUCTIONS,
    "shape": SHAPES,
    "linalg": PRODUCTS,
    "indexing": INDEXING,
    "constants": CONSTANTS,
    "checks": CHECKS,
}
