"""Whether an expression is zero, shown by arithmetic of polynomials with exact coefficients.

An expression becomes a fraction of polynomials in its symbols and its *atoms*: exp(x), tanh(x),
erf(x), a root. Roots and the like bring relations (s**2 = var + eps), by which powers of an atom
are lowered. If nothing is left of the numerator, the expression is zero; if something is, it may
still be: atoms can depend on each other in ways that are not known here.

That happens in two rounds. At first an atom is whatever a function is applied to, as it stands:
most gradients are made of the very atoms of the forward pass, however long those are inside.
Then the identities of exp, log and tanh are used: exp(x - y) is exp(x) / exp(y), tanh(x) is
(exp(2x) - 1) / (exp(2x) + 1), log(u / v) is log|u| - log|v|.
"""

from __future__ import annotations

import math
from typing import Any

# Polynomials of more terms than these are given up: what follows would take minutes.
TERMS = 20_000
RESTARTS = 50  # each finds one more exponent's unit

IDENTICAL = "identical expressions"
ATOMS = "equal as fractions of polynomials"
IDENTITIES = "equal by the identities of exp, log and tanh"
WAYS = (IDENTICAL, ATOMS, IDENTITIES)


class Unshown(Exception):
    """It got too long, or holds what has no place in a polynomial."""


def how_zero(expression: Any) -> str | None:
    """How an expression is shown to be zero for all values of its symbols; None if it is not.

    It is meant where it is defined: 1/x - 1/x is zero.
    """
    import sympy

    expression = sympy.sympify(expression)
    if expression == 0:
        return IDENTICAL
    for atoms, how in ((_Atoms, ATOMS), (_Identities, IDENTITIES)):
        try:
            if atoms.vanishes(expression):
                return how
        except Unshown:
            continue
    return None


class _Atoms:
    """An expression as a rational one of symbols; functions, as they stand, become symbols."""

    def __init__(self, known: dict[Any, Any], units: dict[Any, Any]):
        self.known = known  # symbols by what they stand for
        self.units = units  # of exponents
        self.made: dict[Any, Any] = {}  # rational expressions by expression
        self.relations: dict[Any, tuple[int, Any]] = {}  # symbol**power is an expression

    @classmethod
    def vanishes(cls, expression: Any) -> bool:
        """Whether the numerator is zero."""
        known: dict[Any, Any] = {}
        units: dict[Any, Any] = {}
        for _ in range(RESTARTS):
            atoms = cls(known, units)
            try:
                rational = atoms.rational(expression)
                relations: dict[Any, tuple[int, Any]] = {}
                while len(relations) < len(atoms.relations):  # a root may be under a root
                    for s, (n, e) in list(atoms.relations.items()):
                        relations[s] = n, atoms.rational(e)
            except _Finer:
                continue  # an exponential got a smaller unit: all over again with that
            return _Fractions(rational, relations).vanishes()
        raise Unshown("its exponents have no common unit")

    def symbol(self, meaning: Any) -> Any:
        """The symbol that stands for something."""
        import sympy

        found = self.known.get(meaning)
        if found is None:
            found = self.known[meaning] = sympy.Dummy(f"a{len(self.known)}")
        return found

    def rational(self, e: Any) -> Any:
        """The expression by means of atoms."""
        found = self.made.get(e)
        if found is None:
            found = self.made[e] = self._rational(e)
        return found

    def _rational(self, e: Any) -> Any:
        import sympy

        if e.is_Rational or e.is_Symbol:
            return e
        if e.is_Add or e.is_Mul:
            return e.func(*map(self.rational, e.args))
        if e.is_Pow:
            return self.power(e.base, e.exp)
        if isinstance(e, sympy.exp) or e is sympy.E:
            return self.exponential(e.args[0] if e.args else sympy.Integer(1))
        if e in (sympy.nan, sympy.zoo, sympy.oo, -sympy.oo):
            raise Unshown("it is not finite")
        return self.function(e)

    def power(self, base: Any, exponent: Any) -> Any:
        """base**exponent."""
        import sympy

        if exponent.is_Integer:
            return self.rational(base) ** exponent
        if exponent.is_Rational:
            whole, part = divmod(exponent.p, exponent.q)
            root = self.root(base, exponent.q)
            return root**part * self.rational(base) ** whole
        number, rest = exponent.as_coeff_Add()
        if number and rest != 0:
            return self.power(base, number) * self.power(base, rest)
        return self.symbol(sympy.Pow(base, exponent, evaluate=False))

    def root(self, base: Any, n: int) -> Any:
        """The nth root of what is not negative."""
        if base.is_Integer and base > 1:
            return self._root_of_whole(int(base), n)
        if base.is_Rational and base > 0:
            return self._root_of_whole(base.p * base.q ** (n - 1), n) / base.q
        return self._new_root(base, n)

    def _root_of_whole(self, number: int, n: int) -> Any:
        """By the roots of primes: sqrt(2) * sqrt(3) must be sqrt(6)."""
        import sympy

        made = sympy.Integer(1)
        for prime, times in sympy.factorint(number).items():
            made *= sympy.Integer(prime) ** (times // n)
            if times % n:
                made *= self._new_root(sympy.Integer(prime), n) ** (times % n)
        return made

    def _new_root(self, base: Any, n: int) -> Any:
        symbol = self.symbol(("root", base, n))
        self.relations[symbol] = n, base
        return symbol

    def exponential(self, x: Any) -> Any:
        """exp(x)."""
        if x.could_extract_minus_sign():
            return 1 / self.symbol(("exp", -x))
        return self.symbol(("exp", x))

    def function(self, e: Any) -> Any:
        """Any other function."""
        import sympy

        symbol_of = self.symbol(e)
        if isinstance(e, sympy.sin):
            self.relations[symbol_of] = 2, 1 - sympy.cos(e.args[0]) ** 2
        return symbol_of


class _Finer(Exception):
    """An exponent is a fraction of what was taken for the smallest one."""


class _Identities(_Atoms):
    """Functions of equal arguments are one atom, and exp, log and tanh are taken apart."""

    def canonical(self, e: Any) -> Any:
        """One form for all expressions that are equal as fractions."""
        import sympy

        rational = self.rational(sympy.sympify(e))
        if rational.count_ops() > TERMS // 10:
            raise Unshown("an argument is too long")
        found = sympy.cancel(rational)
        while True:
            top, bottom = map(self._lowered, sympy.fraction(found))
            lower = sympy.cancel(top / bottom)
            if lower == found:
                return found
            found = lower

    def _lowered(self, part: Any) -> Any:
        """A polynomial with lower powers of roots: (1 + s)**2 is 1 + 2*s + s**2, and s**2 known."""
        import sympy

        for symbol, (n, e) in list(self.relations.items()):
            if part.has(symbol):
                part = sympy.rem(part, symbol**n - self.rational(e), symbol)
        return part

    def root(self, base: Any, n: int) -> Any:
        import sympy

        rational = self.canonical(base)
        if rational.is_Rational:
            return super().root(rational, n)
        content, rest = rational.as_content_primitive()
        return super().root(sympy.sympify(content), n) * self._new_root(rest, n)

    def power(self, base: Any, exponent: Any) -> Any:
        import sympy

        if not exponent.is_Rational:
            return self.exponential(exponent * sympy.log(base))
        return super().power(base, exponent)

    def exponential(self, x: Any) -> Any:
        import sympy

        top, bottom = sympy.fraction(self.canonical(x))
        if not bottom.is_Rational:  # e/(1 + e) and -1/(1 + e) are 1 apart
            whole, rest = sympy.div(top, bottom, *sorted(bottom.free_symbols, key=str))
            scale, bottom = bottom.as_content_primitive()
            rest = rest / scale
        else:
            whole, rest = top / bottom, sympy.Integer(0)
        made = sympy.Integer(1)
        for part, under in ((whole, sympy.Integer(1)), (rest, bottom)):
            for term, coefficient in sympy.expand(part).as_coefficients_dict().items():
                if term and coefficient:
                    made *= self._power_of_exp(term / under, sympy.Rational(coefficient))
        return made

    def _power_of_exp(self, term: Any, factor: Any) -> Any:
        """exp(factor * term), as a whole power of the smallest one that was met."""
        import sympy

        if term.could_extract_minus_sign():
            term, factor = -term, -factor
        unit = self.units.setdefault(term, abs(factor))
        times = factor / unit
        if not times.is_Integer:
            self.units[term] = sympy.Rational(
                math.gcd(unit.p * factor.q, abs(factor.p) * unit.q), unit.q * factor.q
            )
            raise _Finer
        return self.symbol(("exp", term)) ** times

    def function(self, e: Any) -> Any:
        import sympy

        if isinstance(e, sympy.tanh):
            square = self.rational(sympy.exp(2 * e.args[0]))  # SymPy knows exp(2 * log(u))
            return (square - 1) / (square + 1)
        if isinstance(e, sympy.log):
            return self.logarithm(e.args[0])
        if not isinstance(e, sympy.Function) or isinstance(e, sympy.Piecewise):
            return self.symbol(e)
        arguments = [self.canonical(a) for a in e.args]
        if not isinstance(e, sympy.erf | sympy.sin | sympy.cos):
            return self.symbol((e.func, *arguments))
        (x,) = arguments
        sign = 1
        if x.could_extract_minus_sign():
            x, sign = -x, 1 if isinstance(e, sympy.cos) else -1
        symbol = self.symbol((e.func, x))
        if isinstance(e, sympy.sin):
            self.relations[symbol] = 2, 1 - self.symbol((sympy.cos, x)) ** 2
        return sign * symbol

    def logarithm(self, x: Any) -> Any:
        """log(x): where it is defined, the logarithms of all factors' absolute values."""
        import sympy

        parts = sympy.fraction(self.canonical(x))
        meant = {symbol: meaning for meaning, symbol in self.known.items()}
        total = sympy.Integer(0)
        for part, sign in zip(parts, (1, -1), strict=True):
            content, factors = sympy.factor_list(part)
            for number, side in ((abs(content.p), 1), (content.q, -1)):
                for prime, times in sympy.factorint(number).items():
                    total += sign * side * times * self.symbol(("log", prime))
            for factor, times in factors:
                meaning = meant.get(factor, ())
                if isinstance(meaning, tuple) and meaning and meaning[0] == "exp":
                    total += sign * times * self.units[meaning[1]] * meaning[1]
                else:
                    total += sign * times * self.symbol(("log", factor))
        return total


class _Fractions:
    """Fractions of polynomials: a numerator, and the denominator's factors with their powers.

    No common factor is ever looked for, which is what takes computer algebra its time: sums are
    brought to the product of the different denominators, and there are few of those.
    """

    def __init__(self, expression: Any, relations: dict[Any, tuple[int, Any]]):
        import sympy

        everything = sympy.Tuple(expression, *relations, *(e for _, e in relations.values()))
        symbols = sorted(everything.free_symbols, key=str)
        self.expression = expression
        self.ring: Any = sympy.polys.rings.ring(symbols or [sympy.Dummy()], sympy.QQ)[0]
        self.generator = dict(zip(symbols, self.ring.gens, strict=False))
        self.place = {s: i for i, s in enumerate(symbols)}
        self.made: dict[Any, _Fraction] = {}
        self.relations: list[tuple[int, int, _Fraction]] = []
        for symbol, (n, e) in relations.items():
            self.relations.append((self.place[symbol], n, self.of(e)))

    def vanishes(self) -> bool:
        """Whether nothing is left of the numerator."""
        return not self.of(self.expression)[0]

    def of(self, e: Any) -> _Fraction:
        """A rational expression as a fraction."""
        found = self.made.get(e)
        if found is None:
            found = self.made[e] = self._reduced(self._of(e))
        return found

    def _of(self, e: Any) -> _Fraction:
        if e.is_Rational:
            return self.ring(self.ring.domain(e.p, e.q)), {}
        if e.is_Symbol:
            return self.generator[e], {}
        if e.is_Add:
            return self._sum([self.of(a) for a in e.args])
        if e.is_Mul:
            made: _Fraction = (self.ring.one, {})
            for a in e.args:
                made = self._product(made, self.of(a))
            return made
        if e.is_Pow and e.exp.is_Integer:
            return self._power(self.of(e.base), int(e.exp))
        raise Unshown(f"{e.func} has no place in a polynomial")

    def _times(self, a: Any, b: Any) -> Any:
        if len(a) * len(b) > 50 * TERMS:
            raise Unshown("too many terms")
        made = a * b
        if len(made) > TERMS:
            raise Unshown("too many terms")
        return made

    def _sum(self, parts: list[_Fraction]) -> _Fraction:
        bottom: dict[Any, int] = {}
        for _, own in parts:
            for factor, n in own.items():
                bottom[factor] = max(n, bottom.get(factor, 0))
        total = self.ring.zero
        for top, own in parts:
            for factor, n in bottom.items():
                for _ in range(n - own.get(factor, 0)):
                    top = self._times(top, factor)
            total = total + top
            if len(total) > TERMS:
                raise Unshown("too many terms")
        return total, bottom if total else {}

    def _product(self, a: _Fraction, b: _Fraction) -> _Fraction:
        top = self._times(a[0], b[0])
        bottom = dict(a[1])
        for factor, n in b[1].items():
            bottom[factor] = bottom.get(factor, 0) + n
        return (top, bottom) if top else (top, {})

    def _power(self, x: _Fraction, n: int) -> _Fraction:
        if n < 0:
            return self._power(self._inverse(x), -n)
        made: _Fraction = (self.ring.one, {})
        for _ in range(n):
            made = self._product(made, x)
        return made

    def _inverse(self, x: _Fraction) -> _Fraction:
        top, bottom = x
        if not top:
            raise Unshown("it divides by zero")
        new = self.ring.one
        for factor, n in bottom.items():
            for _ in range(n):
                new = self._times(new, factor)
        monic = top.monic()
        new = new / self.ring.domain.convert(top.LC) if top.LC != 1 else new
        if monic.is_ground:
            return new, {}
        if not monic.is_term:
            return new, {monic: 1}
        (powers,) = monic.keys()
        return new, {self.ring.gens[i]: n for i, n in enumerate(powers) if n}

    def _reduced(self, x: _Fraction) -> _Fraction:
        """The numerator with lower powers of what has a relation."""
        top, bottom = x
        low = False
        while top and not low:
            low = True
            highest = [max(powers) for powers in zip(*top.keys(), strict=True)]
            for place, n, value in self.relations:
                if highest[place] >= n:
                    top, bottom = self._lowered((top, bottom), place, n, value)
                    low = False  # what came in may hold powers of others
                    break
        return top, bottom

    def _lowered(self, x: _Fraction, place: int, n: int, value: _Fraction) -> _Fraction:
        top, bottom = x
        high, rest = self.ring.zero, self.ring.zero
        for powers, coefficient in top.items():
            if powers[place] >= n:
                lower = list(powers)
                lower[place] -= n
                high[tuple(lower)] = coefficient
            else:
                rest[powers] = coefficient
        top, more = self._sum([self._product((high, {}), value), (rest, {})])
        return self._product((top, bottom), (self.ring.one, more))


# A numerator, and factors of the denominator with their powers.
_Fraction = tuple[Any, dict[Any, int]]
