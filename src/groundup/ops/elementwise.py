"""Element-wise ops: one output entry from the entries at the same place, with broadcasting."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from groundup.errors import ShapeError
from groundup.ops import helpers
from groundup.ops.base import Array, Op, Shape
from groundup.ops.text import COMPARE, POWER, PRODUCT, SIGN, SUM, Text, call, infix, method, value

if TYPE_CHECKING:
    from groundup.tensor import Tensor


class Elementwise(Op):
    """One with NumPy's broadcasting, which prints as a call of its NumPy function."""

    elementwise = True

    def shape(self, *shapes: Shape, **attrs: Any) -> Shape:
        try:
            return np.broadcast_shapes(*shapes)
        except ValueError as error:
            raise ShapeError(f"{self.name}: shapes {shapes} do not broadcast") from error

    def text(self, *ins: Text, **attrs: Any) -> Text:
        return call(self.ufunc, *(x.code for x in ins))


class Infix(Elementwise):
    """One that prints as an operator."""

    symbol: ClassVar[str]
    level: ClassVar[int]

    def text(self, *ins: Text, **attrs: Any) -> Text:
        return infix(ins[0], self.symbol, ins[1], self.level)


# Arithmetic


class Add(Infix):
    ufunc, symbol, level = "np.add", "+", SUM

    def forward(self, x: Array, y: Array) -> Array:
        return x + y

    def bwd(self, out: Tensor, x: Tensor, y: Tensor) -> None:
        x.g = out.g
        y.g = out.g


class Sub(Infix):
    ufunc, symbol, level = "np.subtract", "-", SUM

    def forward(self, x: Array, y: Array) -> Array:
        return np.subtract(x, y)

    def bwd(self, out: Tensor, x: Tensor, y: Tensor) -> None:
        x.g = out.g
        if y.requires_grad:
            y.g = -out.g


class Mul(Infix):
    ufunc, symbol, level = "np.multiply", "*", PRODUCT

    def forward(self, x: Array, y: Array) -> Array:
        return x * y

    def bwd(self, out: Tensor, x: Tensor, y: Tensor) -> None:
        if x.requires_grad:
            x.g = out.g * y
        if y.requires_grad:
            y.g = out.g * x


class Div(Infix):
    ufunc, symbol, level = "np.true_divide", "/", PRODUCT

    def forward(self, x: Array, y: Array) -> Array:
        return x / y

    def bwd(self, out: Tensor, x: Tensor, y: Tensor) -> None:
        if x.requires_grad:
            x.g = out.g / y
        if y.requires_grad:
            y.g = -out.g * out / y


class Neg(Elementwise):
    ufunc = "np.negative"

    def forward(self, x: Array) -> Array:
        return -x

    def bwd(self, out: Tensor, x: Tensor) -> None:
        x.g = -out.g

    def text(self, *ins: Text, **attrs: Any) -> Text:
        return Text("-" + ins[0].within(SIGN), SIGN)


class Pow(Elementwise):
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

    def text(self, *ins: Text, exponent: float, **attrs: Any) -> Text:  # type: ignore[override]
        return Text(f"{ins[0].within(POWER + 1)}**{value(exponent)}", POWER)


class Power(Elementwise):
    """x ** y for two Tensors. d/dx = y * x**(y-1), d/dy = x**y * log(x).

    As in PyTorch, d/dx is 0 where y is 0, and d/dy is 0 where x is 0 and y >= 0.
    """

    ufunc = "np.power"

    def forward(self, x: Array, y: Array) -> Array:
        return np.power(x, y)

    def bwd(self, out: Tensor, x: Tensor, y: Tensor) -> None:
        if x.requires_grad:
            x.g = where(y == 0, 0.0, out.g * y * x ** (y - 1))
        if y.requires_grad:
            y.g = where((x == 0) & (y >= 0), 0.0, out.g * out * log(x))


# Exponentials, roots and trigonometry


class Exp(Elementwise):
    ufunc = "np.exp"

    def forward(self, x: Array) -> Array:
        return np.exp(x)

    def bwd(self, out: Tensor, x: Tensor) -> None:
        x.g = out.g * out


class Expm1(Elementwise):
    """exp(x) - 1 without cancellation near 0."""

    ufunc = "np.expm1"

    def forward(self, x: Array) -> Array:
        return np.expm1(x)

    def bwd(self, out: Tensor, x: Tensor) -> None:
        x.g = out.g * (out + 1.0)


class Log(Elementwise):
    ufunc = "np.log"

    def forward(self, x: Array) -> Array:
        return np.log(x)

    def bwd(self, out: Tensor, x: Tensor) -> None:
        x.g = out.g / x


class Log1p(Elementwise):
    """log(1 + x) without cancellation near 0."""

    ufunc = "np.log1p"

    def forward(self, x: Array) -> Array:
        return np.log1p(x)

    def bwd(self, out: Tensor, x: Tensor) -> None:
        x.g = out.g / (x + 1.0)


class Sqrt(Elementwise):
    ufunc = "np.sqrt"

    def forward(self, x: Array) -> Array:
        return np.sqrt(x)

    def bwd(self, out: Tensor, x: Tensor) -> None:
        x.g = out.g / (2.0 * out)


class Sin(Elementwise):
    ufunc = "np.sin"

    def forward(self, x: Array) -> Array:
        return np.sin(x)

    def bwd(self, out: Tensor, x: Tensor) -> None:
        x.g = out.g * cos(x)


class Cos(Elementwise):
    ufunc = "np.cos"

    def forward(self, x: Array) -> Array:
        return np.cos(x)

    def bwd(self, out: Tensor, x: Tensor) -> None:
        x.g = -out.g * sin(x)


class Tanh(Elementwise):
    """d/dx = 1 - tanh(x)**2, from the output."""

    ufunc = "np.tanh"

    def forward(self, x: Array) -> Array:
        return np.tanh(x)

    def bwd(self, out: Tensor, x: Tensor) -> None:
        x.g = out.g * (1.0 - out * out)


class Sigmoid(Elementwise):
    """1 / (1 + exp(-x)), stable for large |x|. d/dx = s * (1 - s), from the output."""

    def forward(self, x: Array) -> Array:
        return helpers.sigmoid(x)

    def bwd(self, out: Tensor, x: Tensor) -> None:
        x.g = out.g * out * (1.0 - out)

    helper = staticmethod(helpers.sigmoid)

    def text(self, *ins: Text, **attrs: Any) -> Text:
        return call("sigmoid", ins[0].code)


class Erf(Elementwise):
    """The error function. d/dx = 2/sqrt(pi) * exp(-x**2)."""

    def forward(self, x: Array) -> Array:
        return helpers.erf(x)

    def bwd(self, out: Tensor, x: Tensor) -> None:
        x.g = out.g * (2.0 / math.sqrt(math.pi) * exp(-(x * x)))

    helper = staticmethod(helpers.erf)

    def text(self, *ins: Text, **attrs: Any) -> Text:
        return call("erf", ins[0].code)


# Piecewise


class Abs(Elementwise):
    ufunc = "np.abs"

    def forward(self, x: Array) -> Array:
        return np.abs(x)

    def bwd(self, out: Tensor, x: Tensor) -> None:
        x.g = out.g * sign(x)


class Sign(Elementwise):
    """-1, 0 or 1. The gradient is 0."""

    ufunc = "np.sign"

    def forward(self, x: Array) -> Array:
        return np.sign(x)

    def bwd(self, out: Tensor, x: Tensor) -> None:
        x.g = out.g * 0.0


class Floor(Elementwise):
    """The largest integer not above x. The gradient is 0."""

    ufunc = "np.floor"

    def forward(self, x: Array) -> Array:
        return np.floor(x)

    def bwd(self, out: Tensor, x: Tensor) -> None:
        x.g = out.g * 0.0


class Round(Elementwise):
    """The nearest integer, halves to even. The gradient is 0."""

    def forward(self, x: Array) -> Array:
        return np.round(x)

    def bwd(self, out: Tensor, x: Tensor) -> None:
        x.g = out.g * 0.0

    def text(self, *ins: Text, **attrs: Any) -> Text:
        return call("np.round", ins[0].code)


class Relu(Elementwise):
    """max(x, 0). The gradient at 0 is 0."""

    def forward(self, x: Array) -> Array:
        return np.maximum(x, 0)

    def bwd(self, out: Tensor, x: Tensor) -> None:
        x.g = where(x > 0, out.g, 0.0)

    def text(self, *ins: Text, **attrs: Any) -> Text:
        return call("np.maximum", ins[0].code, "0")


class Clamp(Elementwise):
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

    def text(  # type: ignore[override]
        self, *ins: Text, low: float | None, high: float | None, **attrs: Any
    ) -> Text:
        (x,) = ins
        if low is not None:
            x = call("np.maximum", x.code, value(low))
        return x if high is None else call("np.minimum", x.code, value(high))


class Maximum(Elementwise):
    """The larger of two. Equal ones share the gradient in halves (PyTorch)."""

    ufunc = "np.maximum"

    def forward(self, x: Array, y: Array) -> Array:
        return np.maximum(x, y)

    def bwd(self, out: Tensor, x: Tensor, y: Tensor) -> None:
        shared = where(x == y, out.g * 0.5, out.g)
        if x.requires_grad:
            x.g = where(x < y, 0.0, shared)
        if y.requires_grad:
            y.g = where(y < x, 0.0, shared)


class Minimum(Elementwise):
    """The smaller of two. Equal ones share the gradient in halves (PyTorch)."""

    ufunc = "np.minimum"

    def forward(self, x: Array, y: Array) -> Array:
        return np.minimum(x, y)

    def bwd(self, out: Tensor, x: Tensor, y: Tensor) -> None:
        shared = where(x == y, out.g * 0.5, out.g)
        if x.requires_grad:
            x.g = where(x > y, 0.0, shared)
        if y.requires_grad:
            y.g = where(y > x, 0.0, shared)


class Where(Elementwise):
    """x where condition is true, y elsewhere."""

    def forward(self, condition: Array, x: Array, y: Array) -> Array:
        return np.where(condition, x, y)

    def bwd(self, out: Tensor, condition: Tensor, x: Tensor, y: Tensor) -> None:
        if x.requires_grad:
            x.g = where(condition, out.g, 0.0)
        if y.requires_grad:
            y.g = where(condition, 0.0, out.g)

    def text(self, *ins: Text, **attrs: Any) -> Text:
        return call("np.where", *(x.code for x in ins))


# Comparisons and logic: no gradient


class Less(Infix):
    differentiable = False
    ufunc, symbol, level = "np.less", "<", COMPARE

    def forward(self, x: Array, y: Array) -> Array:
        return np.less(x, y)


class LessEqual(Infix):
    differentiable = False
    ufunc, symbol, level = "np.less_equal", "<=", COMPARE

    def forward(self, x: Array, y: Array) -> Array:
        return np.less_equal(x, y)


class Greater(Infix):
    differentiable = False
    ufunc, symbol, level = "np.greater", ">", COMPARE

    def forward(self, x: Array, y: Array) -> Array:
        return np.greater(x, y)


class GreaterEqual(Infix):
    differentiable = False
    ufunc, symbol, level = "np.greater_equal", ">=", COMPARE

    def forward(self, x: Array, y: Array) -> Array:
        return np.greater_equal(x, y)


class Equal(Infix):
    differentiable = False
    ufunc, symbol, level = "np.equal", "==", COMPARE

    def forward(self, x: Array, y: Array) -> Array:
        return np.equal(x, y)


class NotEqual(Infix):
    differentiable = False
    ufunc, symbol, level = "np.not_equal", "!=", COMPARE

    def forward(self, x: Array, y: Array) -> Array:
        return np.not_equal(x, y)


class LogicalAnd(Elementwise):
    differentiable = False
    ufunc = "np.logical_and"

    def forward(self, x: Array, y: Array) -> Array:
        return np.logical_and(x, y)


class LogicalOr(Elementwise):
    differentiable = False
    ufunc = "np.logical_or"

    def forward(self, x: Array, y: Array) -> Array:
        return np.logical_or(x, y)


class LogicalNot(Elementwise):
    differentiable = False
    ufunc = "np.logical_not"

    def forward(self, x: Array) -> Array:
        return np.logical_not(x)


# Dtype and identity


class Detach(Op):
    """x itself, with no gradient."""

    differentiable = False

    def forward(self, x: Array) -> Array:
        return x


class Cast(Elementwise):
    """x as another dtype. The gradient goes back in x's own dtype."""

    chooses_dtype = True

    def forward(self, x: Array, *, dtype: Any) -> Array:
        return x.astype(dtype)

    def bwd(self, out: Tensor, x: Tensor, *, dtype: Any) -> None:
        x.g = cast(out.g, dtype=x.dtype)

    def dtype(self, *given: Any, **attrs: Any) -> np.dtype[Any]:
        return np.dtype(attrs["dtype"])  # type: ignore[no-any-return]

    def text(self, *ins: Text, dtype: Any, **attrs: Any) -> Text:  # type: ignore[override]
        return method(ins[0], "astype", value(np.dtype(dtype)))


add, sub, mul, div, neg, pow_, power = Add(), Sub(), Mul(), Div(), Neg(), Pow(), Power()
exp, expm1, log, log1p, sqrt = Exp(), Expm1(), Log(), Log1p(), Sqrt()
sin, cos, tanh, sigmoid, erf = Sin(), Cos(), Tanh(), Sigmoid(), Erf()
abs_, sign, floor, round_, relu, clamp = Abs(), Sign(), Floor(), Round(), Relu(), Clamp()
maximum, minimum, where = Maximum(), Minimum(), Where()
less, less_equal, greater, greater_equal = Less(), LessEqual(), Greater(), GreaterEqual()
equal, not_equal = Equal(), NotEqual()
logical_and, logical_or, logical_not = LogicalAnd(), LogicalOr(), LogicalNot()
cast, detach = Cast(), Detach()
