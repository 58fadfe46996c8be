"""The elementary functions as vector arithmetic, written once for floats, doubles and any lanes.

Every function brings its argument into a short interval, exactly or nearly so (W. J. Cody and
W. Waite, "Software manual for the elementary functions", 1980), evaluates a polynomial there, and
puts the result together with shifts of exponents. The polynomials are minimax: their coefficients
were found by Remez exchange in 60 digits and rounded; comments tell the errors.

There are no branches but one (sine and cosine of huge numbers), no tables, no conversions from
integers to numbers or back: adding 1.5 * 2**23 (or 2**52) rounds to an integer, and leaves it in
the low bits. Results are within 2 units in the last place, with or without fused multiply-add.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from llvmlite import ir

from groundup.native.llvm import (
    F32,
    F64,
    I32,
    I64,
    constant,
    fma,
    intrinsic,
    lanes_of,
    scalar_of,
    vector,
)

# Formulas


class Lanes:
    """Numbers side by side, integers or floating, with operators that emit instructions.

    Attributes:
        builder: where the instructions go.
        value: the instruction's result.

    """

    __slots__ = ("builder", "value")

    def __init__(self, builder: Any, value: Any):
        self.builder = builder
        self.value = value

    def like(self, other: Lanes | float) -> Any:
        """The other operand; a Python number becomes a constant."""
        return other.value if isinstance(other, Lanes) else constant(self.value.type, other)

    def filled(self, number: float) -> Lanes:
        """A number in as many lanes."""
        return Lanes(self.builder, self.like(number))

    def emit(self, name: str, other: Lanes | float) -> Lanes:
        """An instruction for two integers, or with an f before its name for two numbers."""
        if scalar_of(self.value.type) in (F32, F64):
            name = "f" + name
        return Lanes(self.builder, getattr(self.builder, name)(self.value, self.like(other)))

    def __add__(self, other: Lanes | float) -> Lanes:
        return self.emit("add", other)

    def __sub__(self, other: Lanes | float) -> Lanes:
        return self.emit("sub", other)

    def __mul__(self, other: Lanes | float) -> Lanes:
        return self.emit("mul", other)

    def __truediv__(self, other: Lanes | float) -> Lanes:
        return self.emit("div", other)

    def __radd__(self, other: float) -> Lanes:
        return self + other

    def __rmul__(self, other: float) -> Lanes:
        return self * other

    def __rsub__(self, other: float) -> Lanes:
        return self.filled(other) - self

    def __rtruediv__(self, other: float) -> Lanes:
        return self.filled(other) / self

    def __neg__(self) -> Lanes:
        name = "fneg" if scalar_of(self.value.type) in (F32, F64) else "neg"
        return Lanes(self.builder, getattr(self.builder, name)(self.value))

    # Bits: of integers, or of comparisons

    def __and__(self, other: Lanes | int) -> Lanes:
        return Lanes(self.builder, self.builder.and_(self.value, self.like(other)))

    def __or__(self, other: Lanes | int) -> Lanes:
        return Lanes(self.builder, self.builder.or_(self.value, self.like(other)))

    def __xor__(self, other: Lanes | int) -> Lanes:
        return Lanes(self.builder, self.builder.xor(self.value, self.like(other)))

    def __lshift__(self, count: int) -> Lanes:
        return Lanes(self.builder, self.builder.shl(self.value, self.like(count)))

    def __rshift__(self, count: int) -> Lanes:
        return Lanes(self.builder, self.builder.lshr(self.value, self.like(count)))

    def __invert__(self) -> Lanes:
        return Lanes(self.builder, self.builder.not_(self.value))

    # Comparisons, false for NaN

    def compare(self, sign: str, other: Lanes | float) -> Lanes:
        """One bit per lane."""
        return Lanes(self.builder, self.builder.fcmp_ordered(sign, self.value, self.like(other)))

    def __lt__(self, other: Lanes | float) -> Lanes:
        return self.compare("<", other)

    def __gt__(self, other: Lanes | float) -> Lanes:
        return self.compare(">", other)

    def __ge__(self, other: Lanes | float) -> Lanes:
        return self.compare(">=", other)

    def equals(self, other: Lanes | float) -> Lanes:
        return self.compare("==", other)

    def non_zero(self) -> Lanes:
        """For integers."""
        return Lanes(self.builder, self.builder.icmp_unsigned("!=", self.value, self.like(0)))

    def any(self) -> Any:
        """Whether a bit is set in some lane of a comparison."""
        lanes = lanes_of(self.value.type)
        if lanes == 1:
            return self.value
        together = self.builder.bitcast(self.value, ir.IntType(lanes))
        return Lanes(self.builder, together).non_zero().value

    # Other types

    @property
    def form(self) -> Format:
        """How the numbers are stored."""
        return FORMATS[scalar_of(self.value.type)]

    def bits(self) -> Lanes:
        """The same bits as integers."""
        return self.cast("bitcast", self.form.integer)

    def number(self, form: Format) -> Lanes:
        """The same bits as numbers."""
        return self.cast("bitcast", form.kind)

    def cast(self, name: str, kind: Any) -> Lanes:
        """A conversion to another type, named as LLVM names it: fpext, trunc."""
        wanted = vector(kind, lanes_of(self.value.type))
        if wanted == self.value.type:
            return self
        return Lanes(self.builder, getattr(self.builder, name)(self.value, wanted))


@dataclass(frozen=True)
class Format:
    """A format of IEEE 754.

    Attributes:
        kind: LLVM's type.
        integer: the integer as wide.
        fraction: how many bits follow the leading one.
        bias: the exponent's bits of 1.0.

    """

    kind: Any
    integer: Any
    fraction: int
    bias: int

    @property
    def magic(self) -> float:
        """x + magic is magic + the integer nearest to x, and has this integer in its low bits."""
        return 1.5 * 2.0**self.fraction

    @property
    def one(self) -> int:
        """1.0's bits."""
        return self.bias << self.fraction

    @property
    def smallest(self) -> float:
        """The smallest normal number."""
        return 2.0 ** (1 - self.bias)


FORMATS = {F32: Format(F32, I32, 23, 127), F64: Format(F64, I64, 52, 1023)}


def emits(formula: Callable[..., Lanes]) -> Callable[..., Any]:
    """A formula of Lanes as a function of a builder and LLVM's values, which gives a value."""

    @functools.wraps(formula)
    def function(builder: Any, *values: Any) -> Any:
        return formula(*(Lanes(builder, value) for value in values)).value

    return function


def times_plus(x: Lanes, y: Lanes | float, z: Lanes | float) -> Lanes:
    """x * y + z, rounded once where that is one instruction."""
    return Lanes(x.builder, fma(x.builder, x.value, x.like(y), x.like(z)))


def call(name: str, *args: Lanes) -> Lanes:
    """An intrinsic."""
    return Lanes(args[0].builder, intrinsic(args[0].builder, name, *(a.value for a in args)))


def select(condition: Lanes, yes: Lanes | float, no: Lanes | float) -> Lanes:
    """One or the other in each lane; one of them may be a Python number."""
    typed = yes if isinstance(yes, Lanes) else no
    assert isinstance(typed, Lanes)
    chosen = condition.builder.select(condition.value, typed.like(yes), typed.like(no))
    return Lanes(condition.builder, chosen)


def polynomial(x: Lanes, coefficients: tuple[float, ...]) -> Lanes:
    """c[0] + c[1] x + c[2] x**2 + ... by Horner's rule."""
    *others, last = coefficients
    total = x.filled(last)
    for coefficient in reversed(others):
        total = times_plus(total, x, coefficient)
    return total


# Sums and what rounding them lost

Pair = tuple[Lanes, Lanes]  # a number and what it lacks: twice the digits


def carry(x: Lanes, y: Lanes | float) -> Pair:
    """x + y rounded, and what that lost, for |x| >= |y| or x = 0."""
    total = x + y
    return total, (x - total) + y


def two_sum(x: Lanes, y: Lanes | float) -> Pair:
    """x + y rounded, and what that lost (D. E. Knuth, TAOCP 4.2.2)."""
    total = x + y
    from_y = total - x
    return total, (x - (total - from_y)) + (y - from_y)


# Rounding and roots: instructions


@emits
def sqrt(x: Lanes) -> Lanes:
    """The square root, correctly rounded."""
    return call("sqrt", x)


@emits
def floor(x: Lanes) -> Lanes:
    """The largest integer not above x."""
    return call("floor", x)


@emits
def round_(x: Lanes) -> Lanes:
    """The nearest integer, halves to even."""
    return call("rint", x)


# Exponentials

# log(2) as a number so short that its product with an exponent is exact, and the rest.
# fmt: off
LOG2 = {
    F32: (0.693145751953125, 1.4286068e-6),
    F64: (0.6931471803691238, 1.9082149292705877e-10),
}
# (exp(r) - 1 - r) / r**2 on |r| <= log(2)/2, for expm1(r)'s relative error of 2**-26, 2**-55.
EXPM1 = {
    F32: (0.49999997, 0.16666543, 0.0416672, 0.0083665205, 0.0013882524),
    F64: (
        0.5000000000000006, 0.16666666666666588, 0.04166666666657675, 0.008333333333389549,
        0.0013888888931565344, 0.00019841269719010133, 2.480150527331633e-5, 2.755740754189483e-6,
        2.7626038057651203e-7, 2.505377476544742e-8,
    ),
}
# Beyond these, exp(x) is 0 and inf.
EXP_LIMITS = {F32: (-104.0, 89.0), F64: (-746.0, 710.0)}
# fmt: on


def clamp(x: Lanes, low: float, high: float) -> Lanes:
    """x between two limits; NaN remains."""
    x = select(x < low, low, x)
    return select(x > high, high, x)


def reduced_exp(x: Lanes, tail: Lanes | float | None = None) -> tuple[Lanes, Lanes]:
    """exp(x + tail) = 2**n * (1 + q) as q and, in the low bits, n.

    With n the integer nearest to x / log(2), r = x - n log(2) is at most log(2)/2, and
    q = exp(r) - 1 = r + r**2 * (1/2 + r/6 + ...). With a tail, what rounding r lost is added too.
    """
    high, low = LOG2[x.form.kind]
    shifted = times_plus(x, 1 / math.log(2), x.form.magic)
    n = shifted - x.form.magic
    r = times_plus(-n, high, x)
    if tail is None:
        r = times_plus(-n, low, r)
        return times_plus(r * r, polynomial(r, EXPM1[x.form.kind]), r), shifted.bits()
    r, lost = carry(r, times_plus(-n, low, tail))
    return times_plus(r * r, polynomial(r, EXPM1[x.form.kind]), lost) + r, shifted.bits()


def power_of_two(n: Lanes, form: Format, below: int = 0) -> Lanes:
    """2**(n - below) for an exponent in range: its bits, moved in place."""
    return ((n << form.fraction) + (form.one - (below << form.fraction))).number(form)


def powers_of_two(n: Lanes, form: Format) -> tuple[Lanes, Lanes]:
    """Two numbers whose product is 2**n; that alone may be too large or too small."""
    half = (n << (form.fraction - 1)) & (-1 << form.fraction)  # n // 2, in the exponent's place
    rest = (n << form.fraction) - half
    return (half + form.one).number(form), (rest + form.one).number(form)


def exp_(x: Lanes) -> Lanes:
    """exp(x) as 2**n * (1 + q): with inf, 0, and subnormal numbers between."""
    q, n = reduced_exp(clamp(x, *EXP_LIMITS[x.form.kind]))
    one, other = powers_of_two(n, x.form)
    return times_plus(q, one, one) * other


exp = emits(exp_)


@emits
def expm1(x: Lanes) -> Lanes:
    """exp(x) - 1 = 2**n * q + (2**n - 1), all halved as 2**n may be too large, then doubled.

    Where exp(x) - 1 rounds to x, it is x: this keeps -0.0, and subnormal numbers whole.
    """
    form = x.form
    q, n = reduced_exp(clamp(x, -2.0 - form.fraction, EXP_LIMITS[form.kind][1]), 0.0)
    half = power_of_two(n, form, below=1)
    y = times_plus(half, q, half - 0.5) * 2.0
    return select(call("fabs", x) < 2.0 ** (-2 - form.fraction), x, y)


# (tanh(x)/x - 1) / x**2 in x**2 for |x| < 0.55, for tanh's relative error of 2**-30, 2**-55.
TANH = {
    F32: (-0.33333316, 0.13332592, -0.05385274, 0.021072794, -0.00627498),
    F64: (
        -0.33333333333332316, 0.1333333333316882, -0.053968253875935485, 0.02186948596724614,
        -0.00886319435375007, 0.003591718131956782, -0.0014532074332733274,
        0.0005791050533611874, -0.0002102436989527478, 5.097673433366794e-05,
    ),
}  # fmt: skip


@emits
def tanh(x: Lanes) -> Lanes:
    """Of |x|, and then with x's sign: x + x**3 P(x**2) to 0.55, 1 - 2 / (exp(2 x) + 1) beyond.

    There the quotient is below 1/2, and its errors are small beside the result. From the limit on,
    tanh(x) rounds to 1.
    """
    size, z = call("fabs", x), x * x
    inner = times_plus(size * z, polynomial(z, TANH[x.form.kind]), size)
    limit = 0.5 * x.form.fraction
    q, n = reduced_exp(select(size > limit, limit, size) * 2.0)
    factor = power_of_two(n, x.form)
    outer = 1.0 - 2.0 / times_plus(factor, q, factor + 1.0)
    return call("copysign", select(size < 0.55, inner, outer), x)


@emits
def sigmoid(x: Lanes) -> Lanes:
    """1 / (1 + exp(-x)) = t / (1 + t + q) with exp(-x) = 2**n * (1 + q), t = 2**-n.

    Nothing overflows. 1 + t is exact; where t is too small for that, q + t is nearly so.
    """
    form = x.form
    q, n = reduced_exp(clamp(-x, -1.0 * form.fraction, -EXP_LIMITS[form.kind][0]))
    one, other = powers_of_two(-n, form)
    t = one * other
    small = t < 2.0**-form.fraction
    total = select(small, 1.0, t + 1.0) + select(small, q + t, q)
    return one / total * other


# Logarithms

# (log(1 + f) - f + f**2/2) / f**3 on sqrt(1/2) <= 1 + f <= sqrt(2), to 2**-27 of log(1 + f).
LOG1P_F32 = (
    0.3333333, -0.25000823, 0.20001228, -0.16623339, 0.14201699, -0.13160329, 0.12762077,
    -0.07634705,
)  # fmt: skip
# (log((1 + s)/(1 - s)) - 2 s) / s**3 in z = s**2 for the same interval, to 2**-58.
LOG1P_F64 = (
    0.6666666666666734, 0.39999999999414326, 0.28571428742473987, 0.22222198563544204,
    0.18183564864917712, 0.15314035854772698, 0.1479610544214874,
)  # fmt: skip


def exponent_and_fraction(x: Lanes) -> tuple[Lanes, Lanes]:
    """x = 2**e * m with m from sqrt(1/2) to sqrt(2), for positive normal x.

    Adding the distance from sqrt(1/2) to 1 carries into the exponent where m would be too large.
    """
    form = x.form
    least = form.one - (1 << form.fraction) + int((math.sqrt(2.0) - 1.0) * 2**form.fraction)
    raised = x.bits() + (form.one - least)
    m = ((raised & ((1 << form.fraction) - 1)) + least).number(form)
    # The exponent as the low bits of 2**23 or 2**52: a number without a conversion.
    unit = (form.bias + form.fraction) << form.fraction
    e = ((raised >> form.fraction) | unit).number(form) - (2.0**form.fraction + form.bias)
    return e, m


def log1p_rest(f: Lanes) -> Lanes:
    """log(1 + f) - f for 1 + f from sqrt(1/2) to sqrt(2).

    For doubles 1 + f = (1 + s)/(1 - s) with s = f / (2 + f): the logarithm is odd in s, and takes
    half as many terms, 2 s + s**3 P(s**2). As 2 s = f - f**2/2 + s f**2/2, f comes out exactly.
    """
    half = f * f * 0.5
    if f.form.kind == F32:
        return times_plus(f * f * f, polynomial(f, LOG1P_F32), -half)
    s = f / (f + 2.0)
    z = s * s
    return times_plus(s, times_plus(z, polynomial(z, LOG1P_F64), half), -half)


def log_from(e: Lanes, f: Lanes, x: Lanes) -> Lanes:
    """e log(2) + log(1 + f), the logarithm of x; -inf for x = 0, and NaN for x < 0."""
    high, low = LOG2[x.form.kind]
    y = times_plus(e, high, f + times_plus(e, low, log1p_rest(f)))
    y = select(x >= 0.0, y, math.nan)
    y = select(x.equals(0.0), -math.inf, y)
    return select(x.equals(math.inf), math.inf, y)


def log_(x: Lanes) -> Lanes:
    """log(x) = e log(2) + log(m) with x = 2**e * m; subnormal numbers are made larger first."""
    up = x.form.fraction
    small = x < x.form.smallest
    e, m = exponent_and_fraction(select(small, x * 2.0**up, x))
    e = select(small, e - float(up), e)
    return log_from(e, m - 1.0, x)


log = emits(log_)


@emits
def log1p(x: Lanes) -> Lanes:
    """log(u) with u = 1 + x, and what rounding u lost added to u's fraction.

    u + lost is 1 + x exactly (D. E. Knuth's sum of two numbers), so f = m - 1 + lost / 2**e.
    """
    u, lost = two_sum(x, 1.0)
    e, m = exponent_and_fraction(u)
    # 2**(1 - e) rather than 2**-e, which has no bits for the largest e; there it is 0.
    unscale = power_of_two((x.form.magic - e).bits(), x.form, below=-1)
    f = times_plus(lost * 0.5, unscale, m - 1.0)
    return call("copysign", log_from(e, f, u), x)


# The error function

# fmt: off
# erf(x)/x - 1 in x**2 for |x| <= 1, for erf's relative error of 2**-29, 2**-56.
ERF = {
    F32: (
        0.12837917, -0.37612626, 0.112835854, -0.026853811, 0.0051883277, -0.00080101937,
        7.853861e-5,
    ),
    F64: (
        0.12837916709551256, -0.3761263890318352, 0.11283791670944185, -0.026866170643111476,
        0.005223977606118523, -0.0008548325929316332, 0.00012055293576947499,
        -1.4924712302821876e-5, 1.6447131580579989e-6, -1.6206313825291185e-7,
        1.3710980668777896e-8, -7.779468959375288e-10,
    ),
}
# log(1 - erf(1 + t)) for t from 0 to 3, 0 to 5, for erf's relative error of 2**-29, 2**-59.
LOG_ERFC = {
    F32: (
        -1.8496056, -2.6389668, -0.8431176, -0.041503496, 0.009895461, -0.0018293831,
        0.00018637915,
    ),
    F64: (
        -1.8496055099332482, -2.6389675142347886, -0.843107256358659, -0.04156109804218328,
        0.01003382537847086, -0.001977902594130469, 0.00023732259116784419,
        2.6277560767195838e-5, -2.715847272771512e-5, 9.607953538726324e-6,
        -2.058735955845198e-6, 1.4203061694655929e-7, 9.80610239991993e-8,
        -5.226919840703641e-8, 1.498734491795369e-8, -2.881629477990171e-9,
        3.7097114882211535e-10, -2.90677712057273e-11, 1.0496505200318743e-12,
    ),
}
# From here on erf(x) rounds to 1.
ERF_LIMIT = {F32: 4.0, F64: 6.0}
# fmt: on


@emits
def erf(x: Lanes) -> Lanes:
    """x + x P(x**2) for |x| < 1; else 1 - exp(log(1 - erf|x|)) with x's sign.

    1 - erf falls like exp(-x**2): its logarithm is nearly a parabola, and needs the fewer correct
    digits the larger x is.
    """
    kind = x.form.kind
    size, limit = call("fabs", x), ERF_LIMIT[kind]
    inner = times_plus(x, polynomial(x * x, ERF[kind]), x)
    t = select(size > limit, limit, size) - 1.0
    q, n = reduced_exp(polynomial(t, LOG_ERFC[kind]))
    factor = power_of_two(n, x.form)
    outer = 1.0 - times_plus(factor, q, factor)
    return select(size < 1.0, inner, call("copysign", outer, x))


# Sine and cosine

# pi/2 as two numbers so short that their products with n <= 2**20 are exact, and the rest.
HALF_PI = (1.5707963267341256, 6.077100506303966e-11, 2.0222662487959506e-21)
# Beyond this, n may be larger.
LARGEST_ANGLE = 2.0**20
# fmt: off
# (sin(r)/r - 1) / r**2 and (cos(r) - 1 + r**2/2) / r**4 in r**2 on |r| <= pi/4; the errors are
# 2**-28 and 2**-58 of sin(r), 2**-33 and 2**-64 of cos(r).
SIN = {
    F32: (-0.16666655, 0.008332178, -0.00019517235),
    F64: (
        -0.16666666666666632, 0.008333333333322413, -0.00019841269829807791,
        2.7557313691908864e-6, -2.5050758113533788e-8, 1.5896795544103904e-10,
    ),
}
COS = {
    F32: (0.041666646, -0.0013887367, 2.443838e-5),
    F64: (
        0.0416666666666666, -0.0013888888888874125, 2.4801587289482188e-5,
        -2.7557314352332347e-7, 2.0875723273049776e-9, -1.1359647789100564e-11,
    ),
}
# fmt: on


def wave(x: Lanes, quarters: int, name: str) -> Lanes:
    """sin(x + quarters * pi/2), which the C library calls by a name.

    With n the integer nearest to x / (pi/2) and r = x - n pi/2, it is one of +-sin(r), +-cos(r) by
    the last two bits of n + quarters. Floats are reduced as doubles: pi/2 has too many digits.
    """
    form = x.form
    wide = x.cast("fpext", F64)
    shifted = times_plus(wide, 2.0 / math.pi, wide.form.magic)
    n = shifted - wide.form.magic
    first, second, third = HALF_PI
    wide, lost = carry(times_plus(-n, first, wide), -n * second)
    wide, lost = carry(wide, times_plus(-n, third, lost))
    r = wide.cast("fptrunc", form.kind)
    quadrant = shifted.bits().cast("trunc", form.integer) + quarters
    z = r * r
    if form.kind == F32:
        sine = times_plus(z * r, polynomial(z, SIN[F32]), r)
        cosine = times_plus(z * z, polynomial(z, COS[F32]), times_plus(z, -0.5, 1.0))
    else:
        sine = times_plus(z * r, polynomial(z, SIN[F64]), lost) + r
        cosine = times_plus(z * z, polynomial(z, COS[F64]), -r * lost)
        cosine = times_plus(z, -0.5, cosine) + 1.0
    y = select((quadrant & 1).non_zero(), cosine, sine)
    y = (y.bits() ^ ((quadrant & 2) << (form.integer.width - 2))).number(form)
    return where_large(call("fabs", x) > LARGEST_ANGLE, x, y, name)


def where_large(large: Lanes, x: Lanes, y: Lanes, name: str) -> Lanes:
    """y, but the C library's function of x in some lanes; it is called if there are any."""
    builder, before = x.builder, x.builder.block
    with builder.if_then(large.any(), likely=False):
        slow = call(name, x.cast("fpext", F64)).cast("fptrunc", x.form.kind)
        mixed = select(large, slow, y)
        within = builder.block
    result = builder.phi(y.value.type)
    result.add_incoming(y.value, before)
    result.add_incoming(mixed.value, within)
    return Lanes(builder, result)


@emits
def sin(x: Lanes) -> Lanes:
    """The sine of an angle in radians; of -0.0 it is -0.0."""
    return select(x.equals(0.0), x, wave(x, 0, "sin"))


@emits
def cos(x: Lanes) -> Lanes:
    """The cosine of an angle in radians."""
    return wave(x, 1, "cos")


# Powers

# (log((1 + s)/(1 - s)) - 2 s - 2/3 s**3) / s**5 in s**2, as LOG1P_F64, to 2**-72.
LOG_TAIL = (
    0.3999999999999998, 0.2857142857144511, 0.22222222217536453, 0.1818181887031568,
    0.15384556870931665, 0.13336317421894003, 0.11674818438117125, 0.11989013844188845,
)  # fmt: skip
TWO_THIRDS = (0.6666666666666666, 3.700743415417188e-17)


def two_product(x: Lanes, y: Lanes) -> Pair:
    """x * y rounded, and what that lost.

    Without fused multiply-add, both are split in halves whose products are exact (T. J. Dekker,
    "A floating-point technique for extending the available precision", 1971).
    """
    total = x * y
    if x.builder.module.fused:
        return total, times_plus(x, y, -total)
    (a, b), (c, d) = halves(x), halves(y)
    return total, ((a * c - total) + a * d + b * c) + b * d


def halves(x: Lanes) -> Pair:
    """The upper 26 bits of a double, and the others."""
    raised = x * (2.0**27 + 1.0)
    high = raised - (raised - x)
    return high, x - high


def pair_product(x: Pair, y: Pair) -> Pair:
    """The product of two pairs."""
    high, low = two_product(x[0], y[0])
    return high, low + (x[0] * y[1] + x[1] * y[0])


def log_pair(x: Lanes) -> Pair:
    """log(x) of a double that is not below 0, to 2**-62 or so.

    e log(2) + 2 s + s**3 (2/3 + z P(z)) with s = f / (2 + f), z = s**2: all but z P(z) as pairs.
    """
    small = x < x.form.smallest
    e, m = exponent_and_fraction(select(small, x * 2.0**52, x))
    e = select(small, e - 52.0, e)
    f = m - 1.0
    over, over_low = carry(f.filled(2.0), f)
    s = f / over
    product, lost = two_product(s, over)
    s_low = (f - product - lost - s * over_low) / over
    z, z_low = two_product(s, s)
    z_low = times_plus(s * 2.0, s_low, z_low)
    factor, factor_low = carry(z.filled(TWO_THIRDS[0]), z * polynomial(z, LOG_TAIL))
    cube = pair_product(pair_product((s, s_low), (z, z_low)), (factor, factor_low + TWO_THIRDS[1]))
    high, low = LOG2[F64]
    total, first = carry(e * high, s * 2.0)
    total, second = carry(total, cube[0])
    rest = first + (second + (cube[1] + times_plus(s_low, 2.0, e * low)))
    total, rest = carry(total, rest)
    total = select(x.equals(0.0), -math.inf, total)
    return select(x < math.inf, total, x), rest


@emits
def power(x: Lanes, y: Lanes) -> Lanes:
    """x**y = exp(y log|x|), negated for negative x and odd y; the special cases are C's.

    Doubles need log|x| and y log|x| in twice the digits, as exp makes absolute errors relative
    ones; for floats double is enough.
    """
    kind = x.form.kind
    x, y = x.cast("fpext", F64), y.cast("fpext", F64)
    size = call("fabs", x)
    if kind == F32:
        product, tail = y * log_(size), None
    else:
        high, low = log_pair(size)
        product, lost = two_product(y, high)
        tail = times_plus(y, low, lost)
        # The result is 0 or inf there, and the tail may have overflowed.
        tail = select(call("fabs", product) > 800.0, 0.0, tail)
    q, n = reduced_exp(clamp(product, *EXP_LIMITS[F64]), tail)
    one, other = powers_of_two(n, x.form)
    return signed_power(x, y, size, times_plus(q, one, one) * other).cast("fptrunc", kind)


def signed_power(x: Lanes, y: Lanes, size: Lanes, result: Lanes) -> Lanes:
    """The sign of a power of |x|, and what is 1 or NaN by definition (C99, F.9.4.4)."""
    half = y * 0.5
    whole = y.equals(call("trunc", y))  # true of inf
    odd = whole & ~half.equals(call("trunc", half))
    result = select(size.equals(1.0) & y.equals(y), 1.0, result)
    result = select(odd, call("copysign", result, x), result)
    result = select((x < 0.0) & (size < math.inf) & ~whole, math.nan, result)
    return select(x.equals(1.0) | y.equals(0.0), 1.0, result)


FUNCTIONS: dict[str, Callable[..., Any]] = {
    "exp": exp,
    "expm1": expm1,
    "log": log,
    "log1p": log1p,
    "sqrt": sqrt,
    "sin": sin,
    "cos": cos,
    "tanh": tanh,
    "sigmoid": sigmoid,
    "erf": erf,
    "power": power,
    "floor": floor,
    "round": round_,
}
