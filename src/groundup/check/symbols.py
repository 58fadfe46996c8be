"""Programs computed on SymPy's symbols: arrays of expressions in place of arrays of numbers.

Most ops are computed by their own NumPy `forward`, on arrays of objects; those that call functions
of real numbers have a symbolic one here.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from fractions import Fraction
from functools import reduce
from typing import Any

import numpy as np

from groundup.errors import GroundupError
from groundup.ops.base import Array
from groundup.ops.reduce import axes_of, kept_shape, reduced_shape
from groundup.program.program import OPS, Equation, Program
from groundup.program.runner import evaluate


class Uninterpreted(GroundupError):
    """An op that has no symbolic form here."""


def symbols(name: str, shape: tuple[int, ...]) -> Array:
    """An array of real symbols: x[0,0], x[0,1], ...; a single number is just x."""
    import sympy

    made = np.empty(shape, object)
    for index in np.ndindex(shape):
        place = f"[{','.join(map(str, index))}]" if index else ""
        made[index] = sympy.Symbol(name + place, real=True)
    return made


def interpret(program: Program, values: Mapping[str, Any]) -> dict[str, Any]:
    """Every value of forward and backward, from arrays of symbols or of numbers by name.

    What depends on numbers alone stays numbers.

    Raises:
        Uninterpreted: an op cannot be computed on symbols.

    """
    found = dict(values)
    for e in program.equations:
        if e.out is not None and e.phase != "update":
            found[e.out.name] = _value(e, found)
    return found


def is_symbolic(value: Any) -> bool:
    """Whether it is an array of expressions."""
    return isinstance(value, np.ndarray) and value.dtype == object


def _value(e: Equation, known: Mapping[str, Any]) -> Any:
    ins = [known[i] if isinstance(i, str) else i for i in e.ins]
    if not any(is_symbolic(i) for i in ins):
        return evaluate(e, known)
    attrs = dict(e.attrs)
    if e.op in ("size", "value"):
        return OPS[e.op].forward(*ins, **attrs)
    exact = [expressions(i) for i in ins]
    try:
        rule = _rules().get(e.op)
        if rule is not None:
            result = rule(*exact, **attrs)
        elif e.op in ("take", "scatter_add"):
            result = OPS[e.op].forward(exact[0], *ins[1:], **attrs)
        elif OPS[e.op].differentiable:
            result = OPS[e.op].forward(*map(_as_numbers, exact), **attrs)
        else:
            raise Uninterpreted(f"SymPy is not told what the op {e.op} computes")
    except (TypeError, AttributeError, ValueError, IndexError) as error:
        raise Uninterpreted(f"the op {e.op} does not compute with symbols: {error}") from error
    return np.asarray(result, object)


def expressions(value: Any) -> Array:
    """An array of numbers as one of SymPy's exact numbers; one of expressions as it is."""
    import sympy

    if is_symbolic(value):
        array: Array = value
        return array

    def exact(v: Any) -> Any:
        if isinstance(v, bool | np.bool_):
            return sympy.true if v else sympy.false
        return sympy.Integer(int(v)) if isinstance(v, int | np.integer) else exact_number(float(v))

    given = np.asarray(value)
    made = np.empty(given.shape, object)
    for index in np.ndindex(given.shape):
        made[index] = exact(given[index])
    return made


def exact_number(v: float) -> Any:
    """What a float stands for: a fraction, a root of one, with a power of pi, or a decimal.

    Up to two units in the last place, by which 1 - 0.9 or 3 * 0.1 miss what they stand for.
    """
    import sympy

    if not math.isfinite(v):
        return sympy.nan if v != v else sympy.oo if v > 0 else -sympy.oo
    simple = Fraction(v).limit_denominator(1000)
    if (simple or not v) and abs(v - float(simple)) <= 4e-16 * abs(v):
        return sympy.Rational(simple.numerator, simple.denominator)
    for power in (0, 1, -1):
        square = v * v * math.pi**power
        root = Fraction(square).limit_denominator(1000)
        if root and abs(square - float(root)) <= 4e-16 * square:
            exact = sympy.sqrt(sympy.Rational(root.numerator, root.denominator) / sympy.pi**power)
            return exact if v > 0 else -exact
    short = f"{v:.14g}"
    return sympy.Rational(short if abs(v - float(short)) <= 4e-16 * abs(v) else repr(v))


def _as_numbers(x: Array) -> Array:
    """Conditions as 1 and 0, to compute with."""
    import sympy

    def number(v: Any) -> Any:
        if v in (sympy.true, sympy.false):
            return sympy.Integer(int(bool(v)))
        if isinstance(v, sympy.core.relational.Relational | sympy.logic.boolalg.BooleanFunction):
            return sympy.Piecewise((1, v), (0, True))
        return v

    return _each(number)(x)


def _each(function: Callable[..., Any]) -> Callable[..., Array]:
    """A function of entries as one of arrays, with broadcasting."""
    ufunc = np.frompyfunc(function, function.__code__.co_argcount, 1)
    return lambda *xs: np.asarray(ufunc(*xs), object)


def entry_rules() -> dict[str, Callable[..., Any]]:
    """The element-wise ops that a function of entries computes; attributes are left aside."""
    import sympy

    return {
        "add": lambda x, y: x + y,
        "sub": lambda x, y: x - y,
        "mul": lambda x, y: x * y,
        "div": lambda x, y: x / y,
        "neg": lambda x: -x,
        "power": lambda x, y: x**y,
        "exp": lambda x: sympy.exp(x),
        "expm1": lambda x: sympy.exp(x) - 1,
        "log": lambda x: sympy.log(x),
        "log1p": lambda x: sympy.log(1 + x),
        "sqrt": lambda x: sympy.sqrt(x),
        "sin": lambda x: sympy.sin(x),
        "cos": lambda x: sympy.cos(x),
        "tanh": lambda x: sympy.tanh(x),
        "erf": lambda x: sympy.erf(x),
        "sigmoid": lambda x: 1 / (1 + sympy.exp(-x)),
        "abs": lambda x: sympy.Abs(x),
        "sign": lambda x: sympy.sign(x),
        "relu": lambda x: _larger(x, sympy.Integer(0)),
        "maximum": _larger,
        "minimum": _smaller,
        "less": lambda x, y: x < y,
        "less_equal": lambda x, y: x <= y,
        "greater": lambda x, y: x > y,
        "greater_equal": lambda x, y: x >= y,
        "equal": lambda x, y: sympy.Eq(x, y),
        "not_equal": lambda x, y: sympy.Ne(x, y),
    }


def _larger(x: Any, y: Any) -> Any:
    import sympy

    return sympy.Piecewise((x, x > y), (y, True))


def _smaller(x: Any, y: Any) -> Any:
    import sympy

    return sympy.Piecewise((x, x < y), (y, True))


def _rules() -> dict[str, Callable[..., Any]]:
    """The ops that are not computed by their own forward, with the same attributes."""
    import sympy

    def numbers(rule: Callable[..., Any]) -> Callable[..., Any]:
        return lambda *xs, **attrs: _each(rule)(*map(_as_numbers, xs))

    def truths(rule: Callable[..., Any]) -> Callable[..., Any]:
        return lambda *xs, **attrs: _each(rule)(*xs)

    def clamp(x: Array, *, low: float | None, high: float | None) -> Array:
        if low is not None:
            x = _each(_larger)(x, expressions(low))
        return x if high is None else _each(_smaller)(x, expressions(high))

    def where(condition: Array, x: Array, y: Array) -> Array:
        def pick(c: Any, a: Any, b: Any) -> Any:
            return sympy.Piecewise((a, c), (b, True))

        return _each(pick)(condition, _as_numbers(x), _as_numbers(y))

    def cast(x: Array, *, dtype: Any) -> Array:
        if np.dtype(dtype).kind == "f":
            return _as_numbers(x)
        raise Uninterpreted(f"SymPy is not told what a cast to {np.dtype(dtype)} does")

    def exponentials(x: Array) -> Array:
        return _each(lambda v: sympy.exp(v))(x)

    def softmax(x: Array, *, axis: int) -> Array:
        e = exponentials(x)
        return np.asarray(e / np.add.reduce(e, axis=axis, keepdims=True), object)

    def log_softmax(x: Array, *, axis: int) -> Array:
        total = np.add.reduce(exponentials(x), axis=axis, keepdims=True)
        return np.asarray(x - _each(lambda v: sympy.log(v))(total), object)

    def mean(x: Array, *, axis: Any = None, keepdims: bool = False) -> Array:
        total = OPS["sum"].forward(x, axis=axis, keepdims=keepdims)
        count = math.prod(x.shape[a] for a in axes_of(axis, x.ndim))
        return np.asarray(total / sympy.Integer(count), object)

    def extreme(rule: Callable[..., Any]) -> Callable[..., Any]:
        def reduced(x: Array, *, axis: Any = None, keepdims: bool = False) -> Array:
            axes = axes_of(axis, x.ndim)
            kept = kept_shape(x.shape, axis)
            made = np.empty(kept, object)
            for index in np.ndindex(kept):
                part = tuple(slice(None) if a in axes else i for a, i in enumerate(index))
                made[index] = reduce(rule, x[part].reshape(-1))
            return made.reshape(reduced_shape(x.shape, axis, keepdims))

        return reduced

    return {
        **{name: numbers(rule) for name, rule in entry_rules().items()},
        "pow": lambda x, *, exponent: _as_numbers(x) ** exact_number(float(exponent)),
        "logical_and": truths(lambda x, y: sympy.And(x, y)),
        "logical_or": truths(lambda x, y: sympy.Or(x, y)),
        "logical_not": truths(lambda x: sympy.Not(x)),
        "clamp": clamp,
        "where": where,
        "cast": cast,
        "softmax": softmax,
        "log_softmax": log_softmax,
        "mean": mean,
        "amax": extreme(_larger),
        "amin": extreme(_smaller),
    }
