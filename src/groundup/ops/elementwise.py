"""Element-wise ops: one output entry from the entries at the same place, with broadcasting."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from groundup.errors import ShapeError
from groundup.ops.base import Array, Op

if TYPE_CHECKING:
    from groundup.tensor import Tensor


# Arithmetic


class Add(Op):
    def forward(self, x: Array, y: Array) -> Array:
        return x + y

    def bwd(self, out: Tensor, x: Tensor, y: Tensor) -> None:
        x.g = out.g
        y.g = out.g


class Sub(Op):
    def forward(self, x: Array, y: Array) -> Array:
        return np.subtract(x, y)

    def bwd(self, out: Tensor, x: Tensor, y: Tensor) -> None:
        x.g = out.g
        if y.requires_grad:
            y.g = -out.g


class Mul(Op):
    def forward(self, x: Array, y: Array) -> Array:
        return x * y

    def bwd(self, out: Tensor, x: Tensor, y: Tensor) -> None:
        if x.requires_grad:
            x.g = out.g * y
        if y.requires_grad:
            y.g = out.g * x


class Div(Op):
    def forward(self, x: Array, y: Array) -> Array:
        return x / y

    def bwd(self, out: Tensor, x: Tensor, y: Tensor) -> None:
        if x.requires_grad:
            x.g = out.g / y
        if y.requires_grad:
            y.g = -out.g * out / y


class Neg(Op):
    def forward(self, x: Array) -> Array:
        return -x

    def bwd(self, out: Tensor, x: Tensor) -> None:
        x.g = -out.g


class Pow(Op):
    """x ** exponent for a number: d/dx = exponent * x**(exponent - 1), and 0 for exponent 0."""

    def forward(self, x: Array, *, exponent: float) -> Array:
        # NumPy's ** with a Python number keeps x's dtype and has fast paths for 2, 0.5, -1.
        return x**exponent

    def bwd(self, out: Tensor, x: Tensor, *, exponent: float) -> None:
        if exponent == 0:
            x.g = out.g * 0.0
        elif exponent == 2:
            x.g = out.g * (2.0 * x)
        else:
            x.g = out.g * (exponent * x ** (exponent - 1))


class Power(Op):
    """x ** y for two Tensors. d/dx = y * x**(y-1), d/dy = x**y * log(x).

    As in PyTorch, d/dx is 0 where y is 0, and d/dy is 0 where x is 0 and y >= 0.
    """

    def forward(self, x: Array, y: Array) -> Array:
        return np.power(x, y)

    def bwd(self, out: Tensor, x: Tensor, y: Tensor) -> None:
        if x.requires_grad:
            x.g = where(y == 0, 0.0, out.g * y * x ** (y - 1))
        if y.requires_grad:
            y.g = where((x == 0) & (y >= 0), 0.0, out.g * out * log(x))


# Exponentials, roots and trigonometry


class Exp(Op):
    def forward(self, x: Array) -> Array:
        return np.exp(x)

    def bwd(self, out: Tensor, x: Tensor) -> None:
        x.g = out.g * out


class Expm1(Op):
    """exp(x) - 1 without cancellation near 0."""

    def forward(self, x: Array) -> Array:
        return np.expm1(x)

    def bwd(self, out: Tensor, x: Tensor) -> None:
        x.g = out.g * (out + 1.0)


class Log(Op):
    def forward(self, x: Array) -> Array:
        return np.log(x)

    def bwd(self, out: Tensor, x: Tensor) -> None:
        x.g = out.g / x


class Log1p(Op):
    """log(1 + x) without cancellation near 0."""

    def forward(self, x: Array) -> Array:
        return np.log1p(x)

    def bwd(self, out: Tensor, x: Tensor) -> None:
        x.g = out.g / (x + 1.0)


class Sqrt(Op):
    def forward(self, x: Array) -> Array:
        return np.sqrt(x)

    def bwd(self, out: Tensor, x: Tensor) -> None:
        x.g = out.g / (2.0 * out)


class Sin(Op):
    def forward(self, x: Array) -> Array:
        return np.sin(x)

    def bwd(self, out: Tensor, x: Tensor) -> None:
        x.g = out.g * cos(x)


class Cos(Op):
    def forward(self, x: Array) -> Array:
        return np.cos(x)

    def bwd(self, out: Tensor, x: Tensor) -> None:
        x.g = -out.g * sin(x)


class Tanh(Op):
    """d/dx = 1 - tanh(x)**2, from the output."""

    def forward(self, x: Array) -> Array:
        return np.tanh(x)

    def bwd(self, out: Tensor, x: Tensor) -> None:
        x.g = out.g * (1.0 - out * out)


class Sigmoid(Op):
    """1 / (1 + exp(-x)), stable for large |x|. d/dx = s * (1 - s), from the output."""

    def forward(self, x: Array) -> Array:
        # exp of a non-positive number only, so nothing overflows.
        e = np.exp(-np.abs(x)) if x.dtype.kind != "c" else np.exp(np.where(x.real < 0, x, -x))
        s: Array = np.where(x.real >= 0, 1, e) / (1 + e)
        return s

    def bwd(self, out: Tensor, x: Tensor) -> None:
        x.g = out.g * out * (1.0 - out)


class Erf(Op):
    """The error function. d/dx = 2/sqrt(pi) * exp(-x**2)."""

    def forward(self, x: Array) -> Array:
        wide = _erf(x.astype(np.float64, copy=False))
        return wide if x.dtype.kind != "f" else wide.astype(x.dtype, copy=False)

    def bwd(self, out: Tensor, x: Tensor) -> None:
        x.g = out.g * (2.0 / math.sqrt(math.pi) * exp(-(x * x)))


# Piecewise


class Abs(Op):
    def forward(self, x: Array) -> Array:
        return np.abs(x)

    def bwd(self, out: Tensor, x: Tensor) -> None:
        x.g = out.g * sign(x)


class Sign(Op):
    """-1, 0 or 1. The gradient is 0."""

    def forward(self, x: Array) -> Array:
        return np.sign(x)

    def bwd(self, out: Tensor, x: Tensor) -> None:
        x.g = out.g * 0.0


class Floor(Op):
    """The largest integer not above x. The gradient is 0."""

    def forward(self, x: Array) -> Array:
        return np.floor(x)

    def bwd(self, out: Tensor, x: Tensor) -> None:
        x.g = out.g * 0.0


class Round(Op):
    """The nearest integer, halves to even. The gradient is 0."""

    def forward(self, x: Array) -> Array:
        return np.round(x)

    def bwd(self, out: Tensor, x: Tensor) -> None:
        x.g = out.g * 0.0


class Relu(Op):
    """max(x, 0). The gradient at 0 is 0."""

    def forward(self, x: Array) -> Array:
        return np.maximum(x, 0)

    def bwd(self, out: Tensor, x: Tensor) -> None:
        x.g = where(x > 0, out.g, 0.0)


class Clamp(Op):
    """x limited to [low, high], either may be None. The gradient at a limit is 1 (PyTorch)."""

    def forward(self, x: Array, *, low: float | None, high: float | None) -> Array:
        if low is None and high is None:
            raise ShapeError("clamp: give a lower limit, an upper limit, or both; both are None")
        if low is not None:
            x = np.maximum(x, low)
        return x if high is None else np.minimum(x, high)

    def bwd(self, out: Tensor, x: Tensor, *, low: float | None, high: float | None) -> None:
        g = out.g
        if low is not None:
            g = where(x >= low, g, 0.0)
        x.g = g if high is None else where(x <= high, g, 0.0)


class Maximum(Op):
    """The larger of two. Equal ones share the gradient in halves (PyTorch)."""

    def forward(self, x: Array, y: Array) -> Array:
        return np.maximum(x, y)

    def bwd(self, out: Tensor, x: Tensor, y: Tensor) -> None:
        shared = where(x == y, out.g * 0.5, out.g)
        if x.requires_grad:
            x.g = where(x < y, 0.0, shared)
        if y.requires_grad:
            y.g = where(y < x, 0.0, shared)


class Minimum(Op):
    """The smaller of two. Equal ones share the gradient in halves (PyTorch)."""

    def forward(self, x: Array, y: Array) -> Array:
        return np.minimum(x, y)

    def bwd(self, out: Tensor, x: Tensor, y: Tensor) -> None:
        shared = where(x == y, out.g * 0.5, out.g)
        if x.requires_grad:
            x.g = where(x > y, 0.0, shared)
        if y.requires_grad:
            y.g = where(y > x, 0.0, shared)


class Where(Op):
    """x where condition is true, y elsewhere."""

    def forward(self, condition: Array, x: Array, y: Array) -> Array:
        return np.where(condition, x, y)

    def bwd(self, out: Tensor, condition: Tensor, x: Tensor, y: Tensor) -> None:
        if x.requires_grad:
            x.g = where(condition, out.g, 0.0)
        if y.requires_grad:
            y.g = where(condition, 0.0, out.g)


# Comparisons and logic: no gradient


class Less(Op):
    differentiable = False

    def forward(self, x: Array, y: Array) -> Array:
        return np.less(x, y)


class LessEqual(Op):
    differentiable = False

    def forward(self, x: Array, y: Array) -> Array:
        return np.less_equal(x, y)


class Greater(Op):
    differentiable = False

    def forward(self, x: Array, y: Array) -> Array:
        return np.greater(x, y)


class GreaterEqual(Op):
    differentiable = False

    def forward(self, x: Array, y: Array) -> Array:
        return np.greater_equal(x, y)


class Equal(Op):
    differentiable = False

    def forward(self, x: Array, y: Array) -> Array:
        return np.equal(x, y)


class NotEqual(Op):
    differentiable = False

    def forward(self, x: Array, y: Array) -> Array:
        return np.not_equal(x, y)


class LogicalAnd(Op):
    differentiable = False

    def forward(self, x: Array, y: Array) -> Array:
        return np.logical_and(x, y)


class LogicalOr(Op):
    differentiable = False

    def forward(self, x: Array, y: Array) -> Array:
        return np.logical_or(x, y)


class LogicalNot(Op):
    differentiable = False

    def forward(self, x: Array) -> Array:
        return np.logical_not(x)


# Dtype and identity


class Detach(Op):
    """x itself, with no gradient."""

    differentiable = False

    def forward(self, x: Array) -> Array:
        return x


class Cast(Op):
    """x as another dtype. The gradient goes back in x's own dtype."""

    chooses_dtype = True

    def forward(self, x: Array, *, dtype: Any) -> Array:
        return x.astype(dtype)

    def bwd(self, out: Tensor, x: Tensor, *, dtype: Any) -> None:
        x.g = cast(out.g, dtype=x.dtype)


def _erf(x: Array) -> Array:
    """The error function of a float64 array, relative error below 1e-15.

    Rational Chebyshev approximations on |x| <= 0.46875, up to 4, and beyond:
    W. J. Cody, "Rational Chebyshev approximations for the error function",
    Mathematics of Computation 23 (1969), 631-637.
    """
    size = np.abs(x)
    inner = _ratio(_ERF_SMALL, np.square(np.minimum(size, 0.46875))) * size
    middle = np.clip(size, 0.46875, 4.0)
    outer = np.maximum(size, 4.0)
    inverse = 1.0 / np.square(outer)
    tail = (_INV_SQRT_PI - inverse * _ratio(_ERF_LARGE, inverse)) / outer
    complement = np.where(size <= 4.0, _ratio(_ERF_MIDDLE, middle), tail) * np.exp(-size * size)
    erf = np.where(size <= 0.46875, inner, 1.0 - complement)
    return np.copysign(erf, x)


def _ratio(coefficients: tuple[tuple[float, ...], tuple[float, ...]], x: Array) -> Array:
    """The quotient of two polynomials, by Horner's rule, the highest power first."""
    top, bottom = (np.full_like(x, c[0]) for c in coefficients)
    for a in coefficients[0][1:]:
        top = top * x + a
    for b in coefficients[1][1:]:
        bottom = bottom * x + b
    return top / bottom


_INV_SQRT_PI = 1.0 / math.sqrt(math.pi)
_ERF_SMALL = (
    (
        1.85777706184603153e-1,
        3.16112374387056560e0,
        1.13864154151050156e2,
        3.77485237685302021e2,
        3.20937758913846947e3,
    ),
    (
        1.0,
        2.36012909523441209e1,
        2.44024637934444173e2,
        1.28261652607737228e3,
        2.84423683343917062e3,
    ),
)
_ERF_MIDDLE = (
    (
        2.15311535474403846e-8,
        5.64188496988670089e-1,
        8.88314979438837594e0,
        6.61191906371416295e1,
        2.98635138197400131e2,
        8.81952221241769090e2,
        1.71204761263407058e3,
        2.05107837782607147e3,
        1.23033935479799725e3,
    ),
    (
        1.0,
        1.57449261107098347e1,
        1.17693950891312499e2,
        5.37181101862009858e2,
        1.62138957456669019e3,
        3.29079923573345963e3,
        4.36261909014324716e3,
        3.43936767414372164e3,
        1.23033935480374942e3,
    ),
)
_ERF_LARGE = (
    (
        1.63153871373020978e-2,
        3.05326634961232344e-1,
        3.60344899949804439e-1,
        1.25781726111229246e-1,
        1.60837851487422766e-2,
        6.58749161529837803e-4,
    ),
    (
        1.0,
        2.56852019228982242e0,
        1.87295284992346047e0,
        5.27905102951428412e-1,
        6.05183413124413191e-2,
        2.33520497626869185e-3,
    ),
)

add, sub, mul, div, neg, pow_, power = Add(), Sub(), Mul(), Div(), Neg(), Pow(), Power()
exp, expm1, log, log1p, sqrt = Exp(), Expm1(), Log(), Log1p(), Sqrt()
sin, cos, tanh, sigmoid, erf = Sin(), Cos(), Tanh(), Sigmoid(), Erf()
abs_, sign, floor, round_, relu, clamp = Abs(), Sign(), Floor(), Round(), Relu(), Clamp()
maximum, minimum, where = Maximum(), Minimum(), Where()
less, less_equal, greater, greater_equal = Less(), LessEqual(), Greater(), GreaterEqual()
equal, not_equal = Equal(), NotEqual()
logical_and, logical_or, logical_not = LogicalAnd(), LogicalOr(), LogicalNot()
cast, detach = Cast(), Detach()
