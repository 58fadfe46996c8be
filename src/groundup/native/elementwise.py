"""Element-wise ops as LLVM: a value in a register for each op of a Program, with NumPy's dtypes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from llvmlite import ir

from groundup.native import functions
from groundup.native.llvm import F32, F64, I1, I8, constant, intrinsic, lanes_of, splat, vector

KINDS: dict[str, Any] = {
    "float32": F32, "float64": F64, "bool": I1,
    **{f"{u}int{bits}": ir.IntType(bits) for u in ("", "u") for bits in (8, 16, 32, 64)},
}  # fmt: skip


class Unsupported(Exception):
    """What the native engine leaves to NumPy; its text says why."""


@dataclass(frozen=True)
class Value:
    """Numbers in registers.

    Attributes:
        of: LLVM's value: a number or a vector of them; a bool is an i1.
        dtype: NumPy's name of the dtype; "float" and "int" are Python numbers, kept as doubles.

    """

    of: Any
    dtype: str

    @property
    def is_number(self) -> bool:
        return self.dtype in ("int", "float")


def kind_of(dtype: str) -> Any:
    """LLVM's type of a dtype in registers."""
    if dtype in ("int", "float"):
        return F64
    if dtype not in KINDS:
        raise Unsupported(f"dtype {dtype}")
    return KINDS[dtype]


def memory_kind(dtype: str) -> Any:
    """LLVM's type of a dtype in memory: a bool is a byte there."""
    return I8 if dtype == "bool" else kind_of(dtype)


def converted(builder: ir.IRBuilder, value: Value, dtype: str) -> Any:
    """The numbers as another dtype, as NumPy's astype does."""
    source, kind = value.of, kind_of(dtype)
    lanes = lanes_of(source.type)
    wanted = vector(kind, lanes)
    before = np.dtype(float if value.is_number else value.dtype).kind
    after = np.dtype(dtype).kind
    if source.type == wanted:
        return source
    if after == "b":
        zero = constant(source.type, 0 if before != "f" else 0.0)
        if before == "f":
            return builder.fcmp_unordered("!=", source, zero)
        return builder.icmp_unsigned("!=", source, zero)
    if before == "f" and after == "f":
        wider = kind is F64
        return (builder.fpext if wider else builder.fptrunc)(source, wanted)
    if before == "f":
        # Beyond the range LLVM leaves the result open; NumPy's is the CPU's. Both mean nothing.
        return (builder.fptosi if after == "i" else builder.fptoui)(source, wanted)
    if after == "f":
        return (builder.sitofp if before == "i" else builder.uitofp)(source, wanted)
    from_bits = lanes_width(source.type)
    to_bits = lanes_width(wanted)
    if from_bits > to_bits:
        return builder.trunc(source, wanted)
    return (builder.sext if before == "i" else builder.zext)(source, wanted)


def lanes_width(kind: Any) -> int:
    """Bits of each number of an integer type."""
    return int((kind.element if isinstance(kind, ir.VectorType) else kind).width)


def number(builder: ir.IRBuilder, value: float, dtype: str, lanes: int) -> Any:
    """A Python number as constant lanes of a dtype."""
    kind = vector(kind_of(dtype), lanes)
    if np.dtype(dtype).kind == "f":
        return constant(kind, float(np.array(value, dtype)))
    return constant(kind, int(np.array(value).astype(dtype)))


def common(values: list[Value]) -> str:
    """The dtype in which values meet; Python numbers take the arrays'."""
    arrays = [np.dtype(v.dtype) for v in values if not v.is_number]
    weak = [1.0 if v.dtype == "float" else 1 for v in values if v.is_number]
    if not arrays:
        return "float64"
    return str(np.result_type(*arrays, *weak))


def larger(builder: ir.IRBuilder, a: Any, b: Any, dtype: str, sign: str = ">") -> Any:
    """np.maximum (with "<" np.minimum): NaN if either is."""
    kind = np.dtype(dtype).kind
    if kind == "f":
        # The comparison is false for NaN in either: a NaN in a is asked for, one in b comes out.
        first = builder.fcmp_ordered(sign, a, b)
        return builder.select(builder.or_(first, builder.fcmp_unordered("uno", a, a)), a, b)
    compare = builder.icmp_signed if kind == "i" else builder.icmp_unsigned
    return builder.select(compare(sign, a, b), a, b)


def compare(builder: ir.IRBuilder, sign: str, a: Any, b: Any, dtype: str) -> Any:
    """a < b and the like; only != is true where there is a NaN."""
    kind = np.dtype(dtype).kind
    if kind == "f":
        ask = builder.fcmp_unordered if sign == "!=" else builder.fcmp_ordered
        return ask(sign, a, b)
    return (builder.icmp_signed if kind == "i" else builder.icmp_unsigned)(sign, a, b)


COMPARE = {
    "less": "<", "less_equal": "<=", "greater": ">", "greater_equal": ">=", "equal": "==",
    "not_equal": "!=",
}  # fmt: skip
FLOAT_ARITHMETIC = {"add": "fadd", "sub": "fsub", "mul": "fmul", "div": "fdiv"}
INT_ARITHMETIC = {"add": "add", "sub": "sub", "mul": "mul"}


def emit(
    builder: ir.IRBuilder, op: str, attrs: Mapping[str, Any], ins: list[Value], dtype: str
) -> Value:
    """One op on registers.

    Args:
        builder: where the code goes.
        op: the op's name in a Program.
        attrs: its attributes.
        ins: as many lanes each, or one: that is used for all.
        dtype: of the result, by the op's rules.

    Raises:
        Unsupported: for this op or dtype.

    """
    lanes = max([lanes_of(v.of.type) for v in ins], default=1)
    ins = [Value(splat(builder, v.of, lanes) if lanes_of(v.of.type) == 1 else v.of, v.dtype)
           for v in ins]  # fmt: skip
    return Value(_emit(builder, op, attrs, ins, dtype, lanes), dtype)


def _emit(
    builder: ir.IRBuilder,
    op: str,
    attrs: Mapping[str, Any],
    ins: list[Value],
    dtype: str,
    lanes: int,
) -> Any:
    if dtype in ("int", "float"):
        dtype = "float64"  # Python's numbers
    if op in ("cast", "detach"):
        return converted(builder, ins[0], dtype)
    if op in COMPARE:
        met = common(ins)
        a, b = (converted(builder, v, met) for v in ins)
        return compare(builder, COMPARE[op], a, b, met)
    if op == "where":
        condition = converted(builder, ins[0], "bool")
        x, y = (converted(builder, v, dtype) for v in ins[1:])
        return builder.select(condition, x, y)
    if op in ("logical_and", "logical_or", "logical_not"):
        asked = [converted(builder, v, "bool") for v in ins]
        if op == "logical_not":
            return builder.not_(asked[0])
        return (builder.and_ if op == "logical_and" else builder.or_)(*asked)
    if dtype == "bool":
        return _on_bools(builder, op, [converted(builder, v, "bool") for v in ins])
    xs = [converted(builder, v, dtype) for v in ins]
    if op in ("maximum", "minimum"):
        return larger(builder, xs[0], xs[1], dtype, ">" if op == "maximum" else "<")
    if op in ("relu", "clamp"):
        bounds = {"low": 0, "high": None} if op == "relu" else attrs
        return _limited(builder, xs[0], bounds["low"], bounds["high"], dtype)
    if np.dtype(dtype).kind == "f":
        return _on_floats(builder, op, attrs, xs, dtype, lanes)
    return _on_ints(builder, op, attrs, xs, dtype, lanes)


def _limited(builder: ir.IRBuilder, x: Any, low: Any, high: Any, dtype: str) -> Any:
    """x between two numbers, of which each may be None."""
    for bound, sign in ((low, ">"), (high, "<")):
        if bound is not None:
            limit = number(builder, bound, dtype, lanes_of(x.type))
            x = larger(builder, x, limit, dtype, sign)
    return x


def _on_bools(builder: ir.IRBuilder, op: str, xs: list[Any]) -> Any:
    if op in ("add", "maximum"):
        return builder.or_(*xs)
    if op in ("mul", "minimum"):
        return builder.and_(*xs)
    if op in ("abs", "sign", "floor", "round"):
        return xs[0]
    raise Unsupported(f"{op} of bools")


def _on_floats(
    builder: ir.IRBuilder, op: str, attrs: Mapping[str, Any], xs: list[Any], dtype: str, lanes: int
) -> Any:
    if op in FLOAT_ARITHMETIC:
        return getattr(builder, FLOAT_ARITHMETIC[op])(*xs)
    x = xs[0]
    zero, one = constant(x.type, 0.0), constant(x.type, 1.0)
    if op == "neg":
        return builder.fneg(x)
    if op == "abs":
        return intrinsic(builder, "fabs", x)
    if op == "sign":
        negative = builder.select(builder.fcmp_ordered("<", x, zero), builder.fneg(one), x)
        return builder.select(builder.fcmp_ordered(">", x, zero), one, negative)
    if op == "pow":
        return _pow(builder, x, float(attrs["exponent"]), dtype, lanes)
    if op == "power":
        return functions.power(builder, *xs)
    if op in functions.FUNCTIONS:
        return functions.FUNCTIONS[op](builder, x)
    raise Unsupported(op)


def _pow(builder: ir.IRBuilder, x: Any, exponent: float, dtype: str, lanes: int) -> Any:
    """x to a number's power; the small ones as NumPy and everybody writes them."""
    if exponent == 0:
        return constant(x.type, 1.0)
    if exponent == 1:
        return x
    if exponent == 2:
        return builder.fmul(x, x)
    if exponent == 3:
        return builder.fmul(builder.fmul(x, x), x)
    if exponent == -1:
        return builder.fdiv(constant(x.type, 1.0), x)
    if exponent == 0.5:
        return intrinsic(builder, "sqrt", x)
    return functions.power(builder, x, number(builder, exponent, dtype, lanes))


def _on_ints(
    builder: ir.IRBuilder, op: str, attrs: Mapping[str, Any], xs: list[Any], dtype: str, lanes: int
) -> Any:
    if op in INT_ARITHMETIC:
        return getattr(builder, INT_ARITHMETIC[op])(*xs)
    x = xs[0]
    zero, one = constant(x.type, 0), constant(x.type, 1)
    signed = np.dtype(dtype).kind == "i"
    if op == "neg":
        return builder.neg(x)
    if op in ("floor", "round"):
        return x
    if op == "abs":
        return larger(builder, x, builder.neg(x), dtype) if signed else x
    if op == "sign":
        positive = builder.select(builder.icmp_unsigned("!=", x, zero), one, zero)
        if not signed:
            return positive
        return builder.select(builder.icmp_signed("<", x, zero), builder.neg(one), positive)
    if op == "pow" and attrs["exponent"] in (0, 1, 2, 3):
        power = one
        for _ in range(attrs["exponent"]):
            power = builder.mul(power, x)
        return power
    raise Unsupported(f"{op} of {dtype}")


# How reductions begin, and how two parts of one become one.


def identity(op: str, dtype: str) -> Any:
    """What a reduction begins with."""
    if op in ("sum", "mean"):
        return 0
    if np.dtype(dtype).kind == "f":
        return float("-inf") if op == "amax" else float("inf")
    if dtype == "bool":
        return 0 if op == "amax" else 1
    info = np.iinfo(dtype)
    return int(info.min if op == "amax" else info.max)


def together(builder: ir.IRBuilder, op: str, a: Any, b: Any, dtype: str) -> Any:
    """Two parts of a reduction."""
    if op in ("sum", "mean"):
        return (builder.fadd if np.dtype(dtype).kind == "f" else builder.add)(a, b)
    return larger(builder, a, b, dtype, ">" if op == "amax" else "<")


def across(builder: ir.IRBuilder, op: str, value: Any, dtype: str) -> Any:
    """One number of all lanes: halves are put together until one is left."""
    lanes = lanes_of(value.type)
    while lanes > 1:
        lanes //= 2
        order = [
            ir.Constant(ir.VectorType(ir.IntType(32), lanes), list(range(start, start + lanes)))
            for start in (0, lanes)
        ]
        halves = [builder.shuffle_vector(value, value, o) for o in order]
        value = together(builder, op, halves[0], halves[1], dtype)
    return builder.extract_element(value, ir.Constant(ir.IntType(32), 0))
