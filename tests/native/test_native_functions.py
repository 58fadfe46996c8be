"""The elementary functions, on every vector width and both dtypes, against more digits."""

from __future__ import annotations

import ctypes
import functools
import math
from collections.abc import Callable
from typing import Any

import llvmlite.binding
import numpy as np
import pytest

from groundup.native.functions import FUNCTIONS
from groundup.native.llvm import (
    F32,
    F64,
    I64,
    POINTER,
    VOID,
    Compiled,
    Target,
    define,
    for_range,
    host,
    i64,
    new_module,
    vector,
)
from groundup.native.measure import clock_rate
from groundup.ops import helpers

LONG = np.longdouble
KINDS = {np.float32: F32, np.float64: F64}
WIDER = {np.float32: np.float64, np.float64: LONG}
WIDTHS = (64, 32, 16)
ALLOWED = 2.0  # units in the last place
PI = LONG(math.pi) + LONG(1.2246467991473532e-16)

extended = pytest.mark.skipif(
    np.finfo(LONG).nmant < 63, reason="long double has no more digits than double here"
)


def compiled(
    name: str, dtype: Any, lanes: int, target: Target
) -> tuple[Compiled, Callable[..., Any]]:
    """A loop over arrays, whose lengths are multiples of the lanes."""
    kind, operands = KINDS[dtype], 2 if name == "power" else 1
    module = new_module(name, target)
    function, builder = define(
        module, "run", VOID, *[POINTER] * (operands + 1), I64, internal=False
    )
    *ins, out, count = function.args
    with for_range(builder, i64(0), count, lanes) as i:

        def at(pointer: Any) -> Any:
            return builder.gep(pointer, [i], source_etype=kind)

        size = np.dtype(dtype).itemsize
        values = [builder.load(at(p), typ=vector(kind, lanes), align=size) for p in ins]
        builder.store(FUNCTIONS[name](builder, *values), at(out), align=size)
    builder.ret_void()
    code = Compiled(module, target)
    signature = ctypes.CFUNCTYPE(None, *[ctypes.c_void_p] * (operands + 1), ctypes.c_int64)

    def run(*arrays: Any) -> Any:
        assert all(a.dtype == dtype and a.flags.c_contiguous for a in arrays)
        count = len(arrays[0])
        padded = [np.append(a, np.ones(-count % lanes, dtype)) for a in arrays]
        result = np.empty_like(padded[0])
        entry = signature(code.address("run"))  # valid while this function holds the code
        entry(*(a.ctypes.data for a in padded), result.ctypes.data, len(result))
        return result[:count]

    return code, run


def ulps(got: Any, want: Any) -> Any:
    """The distance from the exact result in units of got's last place; inf for a wrong kind.

    What overflows counts as the power of two after the largest number.
    """
    info = np.finfo(got.dtype)
    limit = want.dtype.type(2.0) ** int(info.maxexp)
    exponent = np.frexp(np.clip(want, -limit, limit / 2))[1]
    last = np.clip(exponent, info.minexp + 1, info.maxexp) - info.nmant - 1
    exact = np.clip(want, -limit, limit)
    error = np.abs(np.clip(got, -limit, limit) - exact) * np.ldexp(want.dtype.type(1), -last)
    wrong = np.isnan(got) != np.isnan(want)
    wrong |= np.signbit(got) != np.signbit(want)
    wrong |= np.isfinite(got) & (np.abs(want) > 1.001 * limit)
    error[np.isnan(want)] = 0.0
    error[wrong & ~(np.isnan(got) & np.isnan(want))] = math.inf
    return error


def assert_close(label: str, got: Any, want: Any, *args: Any) -> None:
    error = ulps(got, want)
    worst = int(error.argmax())
    assert error[worst] <= ALLOWED, (
        f"{label}({', '.join(repr(a[worst]) for a in args)}): {error[worst]} ulp off; "
        f"{got[worst]!r} for {want[worst]!r}"
    )


def long_erf(x: Any) -> Any:
    """2/sqrt(pi) exp(-x**2) (x + 2 x**3 / 3 + 4 x**5 / 15 + ...): all terms are positive."""
    size = np.minimum(np.abs(x), LONG(6.5))
    double_square = 2 * size * size
    term, total = size.copy(), size.copy()
    for n in range(1, 140):
        term *= double_square
        term /= 2 * n + 1
        total += term
    return np.copysign(2 / np.sqrt(PI) * np.exp(-size * size) * total, x)


REFERENCES: dict[str, Callable[..., Any]] = {
    "exp": np.exp,
    "expm1": np.expm1,
    "log": np.log,
    "log1p": np.log1p,
    "sqrt": np.sqrt,
    "sin": np.sin,
    "cos": np.cos,
    "tanh": np.tanh,
    "sigmoid": helpers.sigmoid,
    "erf": lambda x: long_erf(x) if x.dtype == LONG else helpers.erf(x),
    "power": np.power,
}
UNARY = [name for name in REFERENCES if name != "power"]


@functools.cache
def special(dtype: Any) -> Any:
    """Numbers where a function turns, with 32 neighbours on either side, and their negatives."""
    info = np.finfo(dtype)
    centres = np.concatenate(
        [
            np.ldexp(1.0, np.arange(info.minexp, info.maxexp)),
            np.ldexp(math.sqrt(0.5), np.arange(-30, 31)),
            np.arange(1, 200) * (math.pi / 2),
            2.0 ** np.arange(18, 22) + np.arange(100)[:, None].ravel()[::25],
            np.arange(1, 200) * (math.log(2) / 2),  # where exp's n changes
            [0.55, 9.0, 16.6, 17.3, 18.7, 36.7, 37.4, 4.0, 6.0, 87.34, 88.72, 103.28, 103.98],
            [708.4, 709.78, 744.44, 745.13, 746.0],
        ]
    ).astype(dtype)
    bits = centres.view(np.int32 if dtype == np.float32 else np.int64)
    near = (bits[:, None] + np.arange(-32, 33)).ravel().view(dtype)
    return np.concatenate([near, -near, dtype([0.0, -0.0, math.inf, -math.inf, math.nan])])


@functools.cache
def float_points() -> Any:
    every = np.arange(0, 2**32, 997, dtype=np.int64).astype(np.uint32).view(np.float32)
    return np.concatenate([special(np.float32), every])


@functools.cache
def double_points() -> Any:
    rng = np.random.default_rng(0)
    n = 30_000
    sign = rng.choice([-1.0, 1.0], n)
    return np.concatenate(
        [
            special(np.float64),
            rng.integers(0, 2**64, n, dtype=np.uint64).view(np.float64),
            rng.normal(size=n),
            rng.normal(size=n) * 20.0,
            rng.uniform(-750.0, 750.0, n),
            np.exp(rng.uniform(-700.0, 700.0, n)) * sign,
            rng.uniform(0.4, 1.6, n),
            rng.uniform(-2e6, 2e6, n),
        ]
    )


def check_widths(name: str, dtype: Any, args: list[Any], want: Any, spare: int) -> None:
    """On each target all lanes and one; every spare-th point only after the first target."""
    size = np.dtype(dtype).itemsize
    for width in WIDTHS:
        step = 1 if width == WIDTHS[0] else spare
        _, run = compiled(name, dtype, width // size, host(width))
        some = [np.ascontiguousarray(a[::step]) for a in args]
        got = run(*some)
        assert_close(f"{name} of {width} bytes", got, want[::step], *some)
        _, run_one = compiled(name, dtype, 1, host(width))
        few = [np.ascontiguousarray(a[::17]) for a in some]
        # A lane knows nothing of the others.
        np.testing.assert_array_equal(run_one(*few), got[::17])


@pytest.mark.parametrize("name", UNARY)
def test_floats(name: str) -> None:
    x = float_points()
    with np.errstate(all="ignore"):
        check_widths(name, np.float32, [x], REFERENCES[name](x.astype(np.float64)), spare=13)


@extended
@pytest.mark.parametrize("name", UNARY)
def test_doubles(name: str) -> None:
    x = double_points()
    with np.errstate(all="ignore"):
        check_widths(name, np.float64, [x], REFERENCES[name](x.astype(LONG)), spare=1)


CORNERS = [0.0, 1.0, 0.5, 2.0, 3.0, 1.5, 1e300, 1e-300, 5e-324, 2.0**52 + 1, 2.0**53 - 1, 2.0**53]


def power_points() -> tuple[Any, Any]:
    rng = np.random.default_rng(1)
    n = 40_000
    corners = np.array(CORNERS + [-c for c in CORNERS] + [math.inf, -math.inf, math.nan])
    first, second = (c.ravel() for c in np.meshgrid(corners, corners))
    random = rng.integers(0, 2**64, (2, n), dtype=np.uint64).view(np.float64)
    x = [first, random[0], np.exp(rng.uniform(-700.0, 700.0, n)), rng.uniform(0.0, 3.0, n)]
    y = [second, random[1], rng.normal(size=n), rng.uniform(-30.0, 30.0, n)]
    x += [1.0 + rng.normal(size=n) * 1e-3, rng.integers(-30, 30, n) * 1.0]
    y += [rng.uniform(-7e5, 7e5, n), rng.integers(-30, 30, n) * 0.5]
    return np.concatenate(x), np.concatenate(y)


@pytest.mark.parametrize("dtype", [np.float32, pytest.param(np.float64, marks=extended)])
def test_power(dtype: Any) -> None:
    with np.errstate(all="ignore"):
        args = [a.astype(dtype) for a in power_points()]
        want = np.power(*(a.astype(WIDER[dtype]) for a in args))
        check_widths("power", dtype, args, want, spare=1)


EXACT = {
    "exp": [(0.0, 1.0), (-0.0, 1.0), (710.0, math.inf), (-746.0, 0.0)],
    "expm1": [(0.0, 0.0), (-0.0, -0.0), (710.0, math.inf), (-746.0, -1.0)],
    "log": [(0.0, -math.inf), (-0.0, -math.inf), (1.0, 0.0), (-1.0, math.nan)],
    "log1p": [(0.0, 0.0), (-0.0, -0.0), (-1.0, -math.inf), (-2.0, math.nan)],
    "sqrt": [(0.0, 0.0), (-0.0, -0.0), (4.0, 2.0), (-1.0, math.nan)],
    "sin": [(0.0, 0.0), (-0.0, -0.0), (math.inf, math.nan)],
    "cos": [(0.0, 1.0), (-0.0, 1.0), (math.inf, math.nan)],
    "tanh": [(0.0, 0.0), (-0.0, -0.0), (30.0, 1.0), (-30.0, -1.0)],
    "sigmoid": [(0.0, 0.5), (-0.0, 0.5), (40.0, 1.0), (-760.0, 0.0)],
    "erf": [(0.0, 0.0), (-0.0, -0.0), (7.0, 1.0), (-7.0, -1.0)],
    "floor": [(0.0, 0.0), (-0.0, -0.0), (-0.5, -1.0), (2.5, 2.0), (-math.inf, -math.inf)],
    "round": [(0.5, 0.0), (-0.5, -0.0), (1.5, 2.0), (2.5, 2.0), (-2.5, -2.0), (1e30, 1e30)],
}
AT_INFINITY = {
    "exp": (0.0, math.inf),
    "expm1": (-1.0, math.inf),
    "log": (math.nan, math.inf),
    "log1p": (math.nan, math.inf),
    "tanh": (-1.0, 1.0),
    "sigmoid": (0.0, 1.0),
    "erf": (-1.0, 1.0),
}


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", EXACT)
def test_exact(name: str, dtype: Any) -> None:
    rows = [*EXACT[name], (math.nan, math.nan)]
    if name in AT_INFINITY:
        rows += zip((-math.inf, math.inf), AT_INFINITY[name], strict=True)
    x, want = (np.array(column, dtype) for column in zip(*rows, strict=True))
    for width in WIDTHS:
        _, run = compiled(name, dtype, width // x.itemsize, host(width))
        got = run(x)
        np.testing.assert_array_equal(got, want)
        known = ~np.isnan(want)
        np.testing.assert_array_equal(np.signbit(got[known]), np.signbit(want[known]))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("name", "ufunc"), [("floor", np.floor), ("round", np.round)])
def test_rounding(name: str, ufunc: Any, dtype: Any) -> None:
    x = special(dtype)
    for width in WIDTHS:
        for lanes in (1, width // x.itemsize):
            _, run = compiled(name, dtype, lanes, host(width))
            np.testing.assert_array_equal(run(x), ufunc(x))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", sorted(FUNCTIONS.keys() - {"sin", "cos"}))
def test_nothing_is_called(name: str, dtype: Any) -> None:
    code, _ = compiled(name, dtype, host().width // np.dtype(dtype).itemsize, host())
    words = code.assembly().split()
    assert not {"call", "callq", "bl", "blr"} & set(words)


def test_targets_without_fused_multiply_add_are_among_these() -> None:
    assert not host(16).fused or "+neon" in host().features


@pytest.mark.parametrize("triple", ["arm64-apple-darwin25.0.0", "aarch64-unknown-linux-gnu"])
def test_arm_has_neon_where_llvm_does_not_say_so(
    triple: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On macOS, and on Linux without its /proc/cpuinfo, LLVM names no features."""
    monkeypatch.setattr(llvmlite.binding, "get_default_triple", lambda: triple)
    monkeypatch.setattr(llvmlite.binding, "get_host_cpu_features", dict)
    arm = host.__wrapped__()
    assert (arm.features, arm.width, arm.registers, arm.fused) == ("+neon", 16, 32, True)


def test_the_clock_ticks() -> None:
    assert clock_rate(host()) > 1e6


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_ulps(dtype: Any) -> None:
    info = np.finfo(dtype)
    after_one, tiny = np.nextafter(dtype(1), dtype(2)), info.smallest_subnormal
    rows = [
        (1.0, 1.0, 0.0),
        (after_one, 1.0, 1.0),
        (-1.0, 1.0, math.inf),
        (tiny, 3 * tiny, 2.0),
        (-0.0, 0.0, math.inf),
        (math.inf, info.max, 1.0),
        (info.max, math.inf, math.inf),
        (math.inf, math.inf, 0.0),
        (math.nan, math.nan, 0.0),
        (math.nan, 1.0, math.inf),
        (1.0, math.nan, math.inf),
    ]
    got, want, error = zip(*rows, strict=True)
    found = ulps(np.array(got, dtype), np.array(want, WIDER[dtype]))
    np.testing.assert_array_equal(found, error)
