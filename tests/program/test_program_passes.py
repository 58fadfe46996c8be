"""Passes: what each takes out, what it must leave in, and that not one bit changes."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, strategies as st
from oracle import F32, F64, rng
from programs import Recorded

import groundup as gu
from groundup import Tensor, ops
from groundup.nn import Buffer, Parameter
from groundup.program.passes import PASSES, simplify
from groundup.program.program import Program
from groundup.program.scalars import scalars
from groundup.program.softmax import shared_softmax

# Random programs: a list of small instructions over a pool of values, in which the inputs come
# first. An instruction that does not fit its operands does nothing.

ROWS, COLUMNS = 12, 20
SHAPES = [(ROWS, COLUMNS), (COLUMNS, ROWS), (COLUMNS,), (ROWS, 1), (1, COLUMNS), ()]
TINY = float(np.finfo(F32).smallest_subnormal)
SPECIAL = [0.0, -0.0, 1.0, -1.0, np.inf, -np.inf, np.nan, TINY, -3 * TINY, 3e38, 0.1, -2.5]
NUMBERS = [0, 1, 1.0, 0.0, -0.0, -1.0, 2, 0.1, 0.5]


def full(x: Tensor, value: float, shape: Any = None, dtype: Any = None) -> Tensor:
    dtype = np.dtype(dtype or (x.dtype if x.dtype.kind == "f" else F32))
    shape = x.array.shape if shape is None else shape
    return ops.full(shape=shape, value=float(value), dtype=dtype)


def reversed_shape(x: Tensor) -> tuple[int, ...]:
    return tuple(reversed(x.array.shape))


UNARY: list[Callable[[Tensor], Any]] = [
    lambda x: x * 1,
    lambda x: 1.0 * x,
    lambda x: x / 1,
    lambda x: x - 0.0,
    lambda x: x - 0,
    lambda x: x + 0.0,
    lambda x: x + -0.0,
    lambda x: ops.neg(ops.neg(x)),
    lambda x: x**1,
    lambda x: x**2,
    lambda x: x.exp(),
    lambda x: x.tanh(),
    lambda x: x.abs().sqrt(),
    lambda x: x.relu(),
    lambda x: x.sigmoid(),
    lambda x: x.clone(),
    lambda x: x.T,
    lambda x: x.T.T,
    lambda x: x.T.reshape(x.shape),
    lambda x: x.reshape(-1).reshape(x.shape),
    lambda x: x.reshape(-1).reshape(reversed_shape(x)),
    lambda x: x.unsqueeze(0).squeeze(0),
    lambda x: x.unsqueeze(0).sum(0, keepdims=True).squeeze(0),
    lambda x: x.unsqueeze(0).expand(3, *x.shape).sum(0),
    lambda x: x.unsqueeze(-1).expand(*x.shape, 2).sum(-1, keepdims=True).squeeze(-1),
    lambda x: x.sum(),
    lambda x: x.sum(-1, keepdims=True),
    lambda x: x.sum(0, keepdims=True).reshape(x.shape[1:]),
    lambda x: x.mean(-1, keepdims=True).reshape(x.shape[:-1]),
    lambda x: x.amax(-1, keepdims=True),
    lambda x: x - x.mean(0),
    lambda x: x.softmax(-1),
    lambda x: x.softmax(-1) * x.log_softmax(-1),
    lambda x: x.log_softmax(0),
    lambda x: x[::2].sum(0),
    lambda x: x[::2] * 1,
    lambda x: x[:1].expand(ROWS, *x.shape[1:]),
    lambda x: (x[:1].expand(ROWS, *x.shape[1:]) * 1).sum(),
    lambda x: x.maximum(x),
    lambda x: gu.where(x > 0, x, x),
    lambda x: gu.where(x > 0, x, 0.0),
    lambda x: x.double() if x.dtype == F32 else x.float(),
    lambda x: x.var(0),
    lambda x: x.cumsum(-1),
    lambda x: (x.mean().expand(*x.T.shape) / -3 * x.T).sum(),
    lambda x: x * -x.sum().expand(*x.shape) + x.mean().expand(*x.shape).maximum(x),
    lambda x: x.flip(0),
]
BINARY: list[Callable[[Tensor, Tensor], Any]] = [
    lambda x, y: x + y,
    lambda x, y: x - y,
    lambda x, y: x * y,
    lambda x, y: x / y,
    lambda x, y: x.maximum(y),
    lambda x, y: gu.where(x < y, x, y),
    lambda x, y: gu.where(x < y, full(x, 1), y),
    lambda x, y: x @ y,
    lambda x, y: x @ y.T,
    lambda x, y: x.T + y.T,
    lambda x, y: (x.T + y).sum(),
    lambda x, y: gu.einsum("ij,ij->j", x, y),
]
WITH_NUMBER: list[Callable[[Tensor, float], Any]] = [
    lambda x, n: x + n,
    lambda x, n: n - x,
    lambda x, n: x * n,
    lambda x, n: x / n,
    lambda x, n: full(x, n),
    lambda x, n: x + full(x, n),
    lambda x, n: x * full(x, n),
    lambda x, n: full(x, n) * x.T.T,
    lambda x, n: x.T + full(x, n, reversed_shape(x)),
    lambda x, n: x * full(x, n, ()),
    lambda x, n: x * full(x, n, x.shape[-1:]).expand(x.shape),
    lambda x, n: x * full(x, n, dtype=F32) - full(x, n, dtype=F64),
    lambda x, n: (x < full(x, n, dtype=F64)) | (x < full(x, n, dtype=F32)),
    lambda x, n: full(x, n, (3, 1)).expand(3, 100).sum() * x,
    lambda x, n: full(x, n, (7, 9)).sum(0) + full(x, n, (9,)).exp() * n,
    lambda x, n: ops.power(x.abs(), full(x, n)),
    lambda x, n: ops.power(full(x, n), full(x, 2.0)),
    lambda x, n: full(x, n, (COLUMNS, ROWS)).T @ full(x, 2, (COLUMNS,)).expand(ROWS, COLUMNS).T,
    lambda x, n: x @ full(x, n, (1, 3)).expand(x.shape[-1], 3),
    lambda x, n: -full(x, n).T + x.T,
]

INSTRUCTION = st.one_of(
    st.tuples(st.just("unary"), st.integers(0, len(UNARY) - 1), st.integers(0, 9)),
    st.tuples(
        st.just("binary"), st.integers(0, len(BINARY) - 1), st.integers(0, 9), st.integers(0, 9)
    ),
    st.tuples(
        st.just("number"), st.integers(0, len(WITH_NUMBER) - 1), st.integers(0, 9),
        st.sampled_from(NUMBERS),
    ),
    st.tuples(st.just("again"), st.integers(0, 9)),
)  # fmt: skip


def carried_out(instructions: list[Any], pool: list[Tensor]) -> list[Tensor]:
    """The pool with what the instructions made, the newest first."""
    pool = list(pool)
    for n, (kind, *rest) in enumerate(instructions):
        if kind == "again":
            kind, *rest = instructions[rest[0] % len(instructions)]
        if kind == "again":
            continue
        function = {"unary": UNARY, "binary": BINARY, "number": WITH_NUMBER}[kind][rest[0]]
        places = rest[1:3] if kind == "binary" else rest[1:2]
        operands: list[Any] = [pool[p % len(pool)] for p in places]
        if kind == "number":
            operands.append(rest[2])
        try:
            made = function(*operands)
        except (ValueError, IndexError, TypeError):
            continue  # shapes or dtypes that do not fit
        if made.size <= 2000 and n < 12:
            pool.insert(0, made)
    return pool


def entries(shape: tuple[int, ...], special: bool, seed: int, dtype: Any) -> np.ndarray:
    array = rng(seed).standard_normal(shape)
    if special:
        array = np.where(rng(seed + 1).random(shape) < 0.5, rng(seed).choice(SPECIAL, shape), array)
    return np.asarray(array, dtype)


def random_step(instructions: list[Any], special: bool, dtype: Any, clear: bool) -> Recorded:
    """A step of random instructions, their backward pass and updates, recorded."""
    xs = [
        Tensor(entries(shape, special, 10 * i, dtype), requires_grad=i != 2)
        for i, shape in enumerate(SHAPES[:4])
    ]
    p = Parameter(entries((COLUMNS,), special, 80, dtype))
    buffer = Buffer(entries((ROWS, COLUMNS), special, 90, dtype))

    def step(*args: Tensor) -> Any:
        pool = carried_out(instructions, [*args, p, buffer])
        out = pool[0] if clear else pool[0] * pool[1 % len(pool)].sum()
        total = out.sum() + (p * p).sum()
        total.backward(full(total, 1.5))
        gradients = [x.g for x in args if x.g is not None]
        with gu.no_grad():
            returned = [v + v for v in pool[:3]]
            p.assign(p - 0.1 * p.g)
            fitting = [v for v in pool if v.shape == buffer.shape and v.dtype == buffer.dtype]
            buffer.assign(0.9 * buffer + fitting[0] * 1)
        return returned, total, gradients, p.g

    return Recorded(step, *xs, held=[p, buffer])


# What these write out needs names; all others take out, and never rename.
MAKES_NAMES = (shared_softmax, scalars)


@given(
    st.lists(INSTRUCTION, min_size=1, max_size=9),
    st.booleans(),
    st.sampled_from([F32, F64]),
    st.booleans(),
)
def test_random_programs(instructions: list[Any], special: bool, dtype: Any, clear: bool) -> None:
    """Before a pass, after each alone, after all one by one, and simplified: the same bits."""
    run = random_step(instructions, special, dtype, clear)
    program = run.program
    run.check(program)
    for one in PASSES:
        after = one(program).verify()
        assert one in MAKES_NAMES or set(after.vars) <= set(program.vars)
        run.check(after)
    step_by_step = program
    for _ in range(3):
        for one in PASSES:
            step_by_step = one(step_by_step).verify()
        run.check(step_by_step)
    small = simplify(program)
    run.check(small)
    for one in PASSES:
        assert one(small) == small, f"{one.__name__} finds more in\n{small}"


# One by one: what is taken out


def x_of(shape: tuple[int, ...] = (3, 4), dtype: Any = F32) -> Tensor:
    return Tensor(entries(shape, False, 5, dtype), requires_grad=True)


def simplified(step: Callable[..., Any], *args: Any, held: Any = ()) -> Program:
    """The simplified Program of a step; simplified or not it does what the step did."""
    run = Recorded(step, *args, held=held)
    run.check_all()
    return simplify(run.program)


def lines(program: Program) -> list[str]:
    """The ops of a Program, with the operands that are numbers."""
    return [" ".join([e.op, *(repr(i) for i in e.ins if not isinstance(i, str))])
            for e in program.equations]  # fmt: skip


GONE: dict[str, Callable[[Tensor], Any]] = {
    "x * 1": lambda x: x * 1,
    "1.0 * x": lambda x: 1.0 * x,
    "x * full of 1": lambda x: x * full(x, 1),
    "x / 1": lambda x: x / 1,
    "x / full of 1": lambda x: x / full(x, 1, (4,)),
    "x - 0": lambda x: x - 0,
    "x - 0.0": lambda x: x - 0.0,
    "x - full of 0": lambda x: x - full(x, 0),
    "x + -0.0": lambda x: x + -0.0,
    "-0.0 + x": lambda x: -0.0 + x,
    "--x": lambda x: ops.neg(ops.neg(x)),
    "x ** 1": lambda x: x**1,
    "x.T.T": lambda x: x.T.T,
    "three transposes": lambda x: (
        x.unsqueeze(0).permute(1, 2, 0).permute(1, 2, 0).permute(1, 2, 0).squeeze(0)
    ),
    "reshape there and back": lambda x: x.reshape(2, 6).reshape(3, 4),
    "squeeze of unsqueeze": lambda x: x.unsqueeze(1).squeeze(1),
    "cast to its own dtype": lambda x: x.clone(),
    "maximum of one thing": lambda x: x.maximum(x),
    "where of one thing": lambda x: gu.where(x > 0, x, x),
    "amax over an axis of 1": lambda x: x.unsqueeze(1).amax(1, keepdims=True).squeeze(1),
    "amin over no axes": lambda x: x.amin(()),
    "1 and 0 computed": lambda x: x * (full(x, 3) - full(x, 2)) - full(x, 3) * 0,
}


@pytest.mark.parametrize("function", GONE.values(), ids=GONE.keys())
def test_gone(function: Callable[[Tensor], Any]) -> None:
    program = simplified(lambda x: function(x), x_of())
    assert program.equations == ()
    assert program.outputs == "x"


STAYS: dict[str, tuple[Callable[[Tensor], Any], list[str]]] = {
    # -0.0 + 0.0 is 0.0
    "x + 0.0": (lambda x: x + 0.0, ["add 0.0"]),
    "x + 0": (lambda x: x + 0, ["add 0"]),
    "x - -0.0": (lambda x: x - -0.0, ["sub -0.0"]),
    "0 - x": (lambda x: 0.0 - x, ["sub 0.0"]),
    "1 / x": (lambda x: 1.0 / x, ["div 1.0"]),
    "x * 0": (lambda x: x * 0.0, ["mul 0.0"]),
    "x * -1": (lambda x: x * -1.0, ["mul -1.0"]),
    "x * 1 that broadcasts": (lambda x: x * full(x, 1, (2, 3, 4)), ["full", "mul"]),
    "x * 1 that widens": (lambda x: x * full(x, 1, dtype=F64), ["full", "mul"]),
    "1 ** x": (lambda x: ops.power(1.0, x), ["power 1.0"]),
    "one transpose": (lambda x: x.T, ["transpose"]),
    "two transposes that are one": (
        lambda x: x.unsqueeze(0).permute(1, 2, 0).permute(1, 2, 0),
        ["reshape", "transpose"],
    ),
    "two transposes in this order": (
        lambda x: x.reshape(2, 3, 2).permute(1, 0, 2).permute(0, 2, 1),
        ["reshape", "transpose"],
    ),
    "two transposes that keep the shape": (
        lambda x: x.sum().expand(2, 2, 2).permute(1, 2, 0).permute(1, 2, 0),
        ["sum", "expand", "transpose"],
    ),
    "abs of abs": (lambda x: x.abs().abs(), ["abs", "abs"]),
    "reshape of reshape": (lambda x: x.reshape(2, 6).reshape(4, 3), ["reshape"]),
    # A transpose's entries are copied into another order by the first, not by a single one.
    "reshape of reshape of a transpose": (
        lambda x: x.T.reshape(12).reshape(4, 3).sum(),
        ["transpose", "reshape", "reshape", "sum"],
    ),
    "reshape of reshape of a transpose, into more axes": (
        lambda x: x.T.reshape(12).reshape(2, 2, 3).sum(),
        ["transpose", "reshape", "reshape", "sum"],
    ),
    "expand of expand": (lambda x: x.unsqueeze(0).expand(2, 3, 4).expand(5, 2, 3, 4),
                         ["reshape", "expand"]),
    # A copy of a view with gaps lies in memory in another way.
    "a copied slice": (lambda x: x[::2] * 1, ["slice", "mul 1"]),
    "a copied broadcast": (lambda x: x.unsqueeze(0).expand(2, 3, 4) * 1,
                           ["reshape", "expand", "mul 1"]),
    # NumPy's sum of a single -0.0 is 0.0; n * -0.0 is not, and n * x is rounded once.
    "sum over an axis of 1": (lambda x: x.unsqueeze(1).sum(1), ["reshape", "sum"]),
    "sum over an axis of 1 that is kept": (
        lambda x: x.unsqueeze(1).sum(1, keepdims=True),
        ["reshape", "sum"],
    ),
    "sum of a broadcast by 2": (
        lambda x: x.unsqueeze(0).expand(2, 3, 4).sum(0),
        ["reshape", "expand", "sum"],
    ),
    "sum of a broadcast by 3": (
        lambda x: x.unsqueeze(0).expand(3, 3, 4).sum(0),
        ["reshape", "expand", "sum"],
    ),
    "sum(keepdims) and reshape": (lambda x: x.sum(0, keepdims=True).reshape(4), ["sum"]),
    "mean(keepdims) and reshape": (lambda x: x.mean(1, keepdims=True).reshape(3), ["mean"]),
    "sum(keepdims) and another reshape": (
        lambda x: x.sum(0, keepdims=True).reshape(2, 2),
        ["sum", "reshape"],
    ),
    "element-wise of an expand": (lambda x: x.sum(0).expand(3, 4) * x, ["sum", "mul"]),
    "element-wise of an expand that makes the shape": (
        lambda x: x.sum(0).expand(3, 4).exp(),
        ["sum", "expand", "exp"],
    ),
    "a number for a constant": (lambda x: x * full(x, 0.1), ["mul 0.1"]),
    "a number for a constant computed": (lambda x: x * (full(x, 0.5) * 3 + 1), ["mul 2.5"]),
    "a number for a constant transposed": (lambda x: x * full(x, 3, (4, 3)).T, ["mul 3.0"]),
    "a number for a broadcast constant": (lambda x: x * full(x, 3, (4,)).expand(3, 4), ["mul 3.0"]),
    "a number for a sum of constants": (lambda x: x * full(x, 3, (8, 4)).sum(0), ["mul 24.0"]),
    "a sum of constants that is rounded": (
        lambda x: x * full(x, 0.1, (8, 4)).sum(0),
        ["full", "sum", "mul"],
    ),
    "a constant of another dtype": (
        lambda x: x.double() * full(x, 0.1, dtype=F32),
        ["cast", "mul 0.10000000149011612"],
    ),
    "a comparison with a wider constant": (lambda x: x < full(x, 0.1, dtype=F64), ["full", "less"]),
    "a constant beside a transpose": (lambda x: (x.T + full(x, 2, (4, 3))).sum(),
                                      ["transpose", "full", "add", "sum"]),
    # NumPy squares for an exponent 2.0, and takes powers for an array of them.
    "an array of exponents": (lambda x: ops.power(x, full(x, 2)), ["full", "power"]),
    "a power of constants": (lambda x: x * ops.power(full(x, 0.1), full(x, 2)),
                             ["full", "full", "power", "mul"]),
    "an exponent": (lambda x: ops.power(x, full(x, 2, ())), ["power 2.0"]),
    "the same twice": (lambda x: x.exp() * x.exp(), ["exp", "mul"]),
    "the same of the same": (lambda x: (x.exp() + 1) * (x.exp() + 1), ["exp", "add 1", "mul"]),
    "0.0 is not -0.0": (lambda x: [x * 0.0, x * -0.0], ["mul 0.0", "mul -0.0"]),
    "1 is not 1.0": (lambda x: [x**3, x**3.0], ["pow", "pow"]),
    "not needed": (lambda x: [x.exp(), x.tanh()][0], ["exp"]),
    "a check is needed": (lambda x: [ops.check_finite(x.exp(), what="{}"), x + 1][1],
                          ["exp", "check_finite", "add 1"]),
    "a check once": (lambda x: [ops.check_finite(x, what="{}") for _ in "ab"], ["check_finite"]),
}  # fmt: skip


@pytest.mark.parametrize(("function", "left"), STAYS.values(), ids=STAYS.keys())
def test_what_is_left(function: Callable[[Tensor], Any], left: list[str]) -> None:
    assert sorted(lines(simplified(lambda x: function(x), x_of()))) == sorted(left)


def test_softmax_and_its_logarithm_share_their_work() -> None:
    program = simplified(lambda x: [x.softmax(-1), x.log_softmax(-1), x.softmax(0)], x_of())
    assert [e.op for e in program.equations].count("exp") == 1
    assert [e.op for e in program.equations].count("softmax") == 1  # along the other axis


@pytest.mark.parametrize(
    "step",
    [
        lambda x: (x.mean().expand(60, 20) / -3 * x.T).sum(),
        lambda x: (x.mean().expand(24, 50).reshape(60, 20) + x.T).sum(),
        lambda x: (-x.mean().expand(20, 60).T * x.T).sum(),
    ],
)
def test_a_number_instead_of_an_array_that_chose_the_layout(step: Any) -> None:
    """C's order wins over a transpose's. A number has no say, and a sum is rounded differently."""
    for dtype in (F32, F64):
        simplified(lambda x: step(x), x_of((20, 60), dtype))


def test_integers_have_one_zero() -> None:
    whole = Tensor(np.arange(6).reshape(2, 3))
    assert simplified(lambda i: i + 0, whole).equations == ()
    assert lines(simplified(lambda i: i + full(i, 0, ()).long(), whole)) == []


def test_backward_takes_what_forward_computed() -> None:
    def step(x: Tensor) -> Any:
        loss = x.tanh().exp().sum()
        loss.backward()
        return loss, x.g

    program = simplified(step, x_of())
    assert [e.op for e in program.equations].count("exp") == 1
    assert [e.op for e in program.equations].count("tanh") == 1


def test_a_gradient_that_nobody_wants_is_not_computed() -> None:
    """The first layer's input needs no gradient: no product with its weights in backward."""
    w1, w2 = Parameter(entries((4, 5), False, 1, F32)), Parameter(entries((5, 2), False, 2, F32))

    def step(x: Tensor) -> Tensor:
        loss = ((x @ w1).relu() @ w2).sum()
        loss.backward()
        with gu.no_grad():
            w1.assign(w1 - 0.1 * w1.g)
            w2.assign(w2 - 0.1 * w2.g)
        return loss

    run = Recorded(step, x_of(), held=[w1, w2])
    run.check_all()
    products = [
        [e.op for e in p.equations].count("matmul") for p in (run.program, simplify(run.program))
    ]
    assert products == [6, 5]


def test_updates_and_returned_values_stay() -> None:
    kept, p = Buffer(np.zeros((3, 4), F32)), Parameter(entries((3, 4), False, 3, F32))

    def step(x: Tensor) -> Any:
        with gu.no_grad():
            kept.assign(x * 1)
            p.assign(p * 1 - 0.0)
        return [x * 1, None, {"p": p.T.T}]

    program = simplified(step, x_of(), held=[kept, p])
    assert program.equations == ()
    assert program.updates == (("kept", "x"),)
    assert program.outputs == ["x", None, {"p": "p"}]


def test_arguments_and_parameters_stay_without_a_use() -> None:
    p, captured = Parameter(np.ones(3, F32)), np.full(3, 2.0, F32)

    def step(x: Tensor, y: Tensor) -> Any:
        _ = p * captured
        return y * 1

    program = simplified(step, x_of(), x_of((2,)))
    assert [i.var.name for i in program.inputs] == ["x", "y", "p"]


def test_the_first_name_that_somebody_chose_stays() -> None:
    def step(x: Tensor) -> Any:
        doubled = x.exp() * 2
        first = x.exp()
        second = x.exp()
        third = x.tanh()
        fourth = x.tanh()
        return doubled, [first, second], [third, fourth]

    program = simplified(step, x_of())
    assert [e.out.name for e in program.equations if e.out is not None] == [
        "first",
        "doubled",
        "third",
    ]
    assert program.outputs == ("doubled", ["first", "first"], ["third", "third"])


def test_each_pass_alone_is_a_pure_function() -> None:
    run = Recorded(lambda x: x.exp() * 1 + x.exp() * -x.mean().expand(3, 4), x_of())
    before, known = run.program.to_json(), dict(run.program.vars)
    for one in PASSES:
        one(run.program)
        assert run.program.to_json() == before
        assert run.program.vars == known


def test_settings_are_numbers_beside_arrays() -> None:
    def step(x: Tensor, rate: float) -> Any:
        # where takes the number in the dtype of its first input, here not the widest.
        return x * rate, x.double() * rate, gu.where(x, x.double(), rate)

    run = Recorded(step, x_of(), 0.1)
    run.check_all()
    ops_of_rate = [e.op for e in simplify(run.program).equations if "rate" in e.ins]
    assert sorted(ops_of_rate) == ["cast", "mul", "mul"]


def test_constants_keep_their_zero_and_their_bits() -> None:
    def step(x: Tensor) -> Any:
        return (
            full(x, -0.0), full(x, -0.0, ()), full(x, 0.1), full(x, math.inf) * 0.0 + x,
            full(x, 2, (0, 3)) * 2,
            ops.array_(entries=(), dtype=np.dtype(np.int64)),
        )  # fmt: skip

    simplified(step, x_of())


def test_numbers_of_python_fold() -> None:
    """Arithmetic on numbers alone is done once and for all."""
    program = simplified(lambda x, rate: x * (rate * 2), x_of(), 0.1)
    (twice, product) = program.equations
    assert twice.out is not None
    fixed = replace(twice, ins=(0.25, 2))
    again = simplify(program.with_equations([fixed, product]))
    assert lines(again) == ["mul 0.5"]
