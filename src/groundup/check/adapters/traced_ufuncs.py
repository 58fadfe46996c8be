"""Element-wise functions of Traced arrays; and the tables of what other functions do with them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import numpy as np

from groundup import ops
from groundup.check.adapters.held import lifted, refuse
from groundup.check.adapters.traced import Traced, emit, held_of, plain
from groundup.ops.base import Array, Op
from groundup.tensor import Tensor

F = TypeVar("F", bound=Callable[..., Any])

# What NumPy functions do with a live array among their arguments; and those that give views,
# which know about their base whether it is live or not.
FUNCTIONS: dict[Any, Callable[..., Any]] = {}
VIEWS: dict[Any, Callable[..., Any]] = {}
# And those that write into their first argument.
WRITING: dict[Any, Callable[..., Any]] = {}


def implements(
    *functions: Any, table: dict[Any, Callable[..., Any]] = FUNCTIONS
) -> Callable[[F], F]:
    """Decorate what does the same as these functions of NumPy."""

    def added(mine: F) -> F:
        for function in functions:
            table[function] = mine
        return mine

    return added


def is_live(value: Any) -> bool:
    """Whether a value, or one in a container, depends on what is differentiated."""
    if type(value) is Traced:
        return value.live
    return isinstance(value, list | tuple) and any(is_live(v) for v in value)


def wrapped(result: Any, given: Sequence[Any] = ()) -> Any:
    """What NumPy made of constants: an array that may be written to, of its own memory."""
    if isinstance(result, tuple):
        return tuple(wrapped(r, given) for r in result)
    if isinstance(result, list):
        return [wrapped(r, given) for r in result]
    if type(result) is np.ndarray and result.dtype.kind in "fb":
        shared = any(type(g) is Traced and np.may_share_memory(g.array, result) for g in given)
        return Traced(result.copy() if shared or not result.flags.writeable else result)
    return result


def traced(value: Any) -> Traced:
    """A value as an array that records."""
    return value if type(value) is Traced else Traced(held_of(value))


def operands(args: Sequence[Any], floating: bool = False) -> list[Any]:
    """Arguments of an op, in the dtypes that NumPy would compute in.

    Args:
        args: arrays and numbers.
        floating: whether whole numbers and truths become floats first.

    """
    found: list[Any] = []
    for a in args:
        if type(a) is Traced:
            found.append(a.tensor)
        elif isinstance(a, bool | np.bool_):
            found.append(Tensor.of(np.array(a)))
        elif isinstance(a, int | float):
            found.append(a)
        elif isinstance(a, np.number):
            found.append(a.item())
        else:
            found.append(lifted(held_of(a)))
    tensors = [a for a in found if isinstance(a, Tensor)]
    if any(t.array.dtype.kind not in "fiub" for t in tensors):
        refuse("arithmetic with complex numbers")
    floats = any(t.array.dtype.kind == "f" for t in tensors)
    if floating or (not floats and any(isinstance(a, float) for a in found)):
        found = [
            ops.cast(a, dtype=np.float64)
            if isinstance(a, Tensor) and a.array.dtype.kind != "f"
            else a
            for a in found
        ]
        floats = bool(tensors)
    # An op gives a number the dtype of the floats that it meets; of nothing it would be float32.
    return [a if isinstance(a, Tensor) or floats else Tensor.of(np.array(a)) for a in found]


def rearranged(function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """The function runs on the numbers of the entries, from 1: 0 stands for a zero."""
    if is_live([*args[1:], *kwargs.values()]):
        refuse(f"np.{function.__name__} of such arguments")
    x = traced(args[0])
    numbers = np.arange(1, x.size + 1, dtype=np.int64).reshape(x.shape)
    places = np.asarray(function(numbers, *plain(args[1:]), **kwargs))
    return gathered(x, places)


def gathered(x: Traced, places: Array) -> Traced:
    """The entries of x with the given numbers, from 1; zeros for 0."""
    flat = x.tensor.reshape(x.size)
    zeros = places == 0
    found = ops.take(flat, np.maximum(places - 1, 0), pattern=("array",))
    return Traced(ops.where(Tensor.of(~zeros), found, 0.0) if zeros.any() else found)


# Ufuncs


def call_ufunc(ufunc: np.ufunc, args: Sequence[Any]) -> Any:
    """A ufunc of arguments one of which is live."""
    known = OPS.get(ufunc.__name__)
    if known is not None:
        return emit(known, *operands(args, floating=ufunc.__name__ in FLOATING))
    composed = COMPOSED.get(ufunc.__name__)
    if composed is None:
        refuse(f"np.{ufunc.__name__}")
    return composed(*args)


OPS: dict[str, Op] = {
    "add": ops.add, "subtract": ops.sub, "multiply": ops.mul, "divide": ops.div,
    "true_divide": ops.div, "negative": ops.neg, "exp": ops.exp, "expm1": ops.expm1,
    "log": ops.log, "log1p": ops.log1p, "sqrt": ops.sqrt, "sin": ops.sin, "cos": ops.cos,
    "tanh": ops.tanh, "absolute": ops.abs_, "fabs": ops.abs_, "sign": ops.sign,
    "floor": ops.floor, "rint": ops.round_, "maximum": ops.maximum, "minimum": ops.minimum,
    "fmax": ops.maximum, "fmin": ops.minimum, "less": ops.less, "less_equal": ops.less_equal,
    "greater": ops.greater, "greater_equal": ops.greater_equal, "equal": ops.equal,
    "not_equal": ops.not_equal, "logical_and": ops.logical_and, "logical_or": ops.logical_or,
    "logical_not": ops.logical_not, "matmul": ops.matmul, "erf": ops.erf, "expit": ops.sigmoid,
    "logical_xor": ops.not_equal,
}  # fmt: skip

# Ufuncs that give floats of whole numbers.
FLOATING = {
    "divide", "true_divide", "exp", "expm1", "log", "log1p", "sqrt", "sin", "cos", "tanh", "erf",
    "expit",
}  # fmt: skip


def power(x: Any, y: Any) -> Any:
    """x**y; by a number it is an op of its own."""
    exponent = y
    if type(y) is Traced and not y.live and not y.ndim:
        exponent = y.array.item()
    if isinstance(exponent, np.ndarray) and not exponent.ndim:
        exponent = exponent.item()
    if isinstance(exponent, int | float | np.number):
        base, fraction = traced(x), isinstance(exponent, float | np.floating)
        whole = not fraction or float(exponent).is_integer()
        number = int(exponent) if whole else float(exponent)
        return emit(ops.pow_, *operands([base], floating=fraction), exponent=number)
    return emit(ops.power, *operands([x, y]))


def _bits(truths: Op) -> Callable[..., Any]:
    """&, | and ~ of truths; those of whole numbers are another matter."""

    def of(*args: Any) -> Any:
        if any(np.asarray(plain(a)).dtype != np.bool_ for a in args):
            refuse("arithmetic with the bits of numbers")
        return emit(truths, *operands(args))

    return of


def heaviside(x: Any, at_zero: Any) -> Any:
    return np.where(x == 0, at_zero, np.where(x > 0, 1.0, 0.0))


def logaddexp(x: Any, y: Any) -> Any:
    return np.maximum(x, y) + np.log1p(np.exp(-np.abs(x - y)))


def copysign(x: Any, y: Any) -> Any:
    return np.abs(x) * np.where(np.signbit(plain(y)), -1.0, 1.0)


COMPOSED: dict[str, Callable[..., Any]] = {
    "positive": lambda x: x.copy(),
    "conjugate": lambda x: x.copy(),
    "power": power,
    "float_power": power,
    "square": lambda x: power(x, 2),
    "reciprocal": lambda x: 1.0 / x,
    "cbrt": lambda x: np.sign(x) * np.exp(np.log(np.abs(x)) / 3),
    "exp2": lambda x: np.exp(x * math.log(2)),
    "log2": lambda x: np.log(x) * (1 / math.log(2)),
    "log10": lambda x: np.log(x) * (1 / math.log(10)),
    "sinh": lambda x: (np.exp(x) - np.exp(-x)) * 0.5,
    "cosh": lambda x: (np.exp(x) + np.exp(-x)) * 0.5,
    "tan": lambda x: np.sin(x) / np.cos(x),
    "arcsinh": lambda x: np.sign(x) * np.log(np.abs(x) + np.sqrt(x * x + 1)),
    "arctanh": lambda x: 0.5 * (np.log1p(x) - np.log1p(-x)),
    "arccosh": lambda x: np.log(x + np.sqrt(x * x - 1)),
    "hypot": lambda x, y: np.sqrt(x * x + y * y),
    "ceil": lambda x: -np.floor(-x),
    "trunc": lambda x: np.sign(x) * np.floor(np.abs(x)),
    "heaviside": heaviside,
    "logaddexp": logaddexp,
    "copysign": copysign,
    "floor_divide": lambda x, y: np.floor(x / y),
    "remainder": lambda x, y: x - y * np.floor(x / y),
    "isnan": lambda x: x != x,
    "isfinite": lambda x: np.abs(x) < math.inf,
    "isinf": lambda x: np.abs(x) == math.inf,
    "signbit": lambda x: x < 0,
    "bitwise_and": _bits(ops.logical_and),
    "bitwise_or": _bits(ops.logical_or),
    "bitwise_xor": _bits(ops.not_equal),
    "invert": _bits(ops.logical_not),
    "xlogy": lambda x, y: np.where(x == 0, 0.0, x * np.log(np.where(x == 0, 1.0, y))),
    "log_expit": lambda x: -logaddexp(0.0, -x),
    "vecdot": lambda x, y: np.sum(x * y, axis=-1),
    "matvec": lambda x, y: np.matmul(x, np.expand_dims(y, -1))[..., 0],
}
