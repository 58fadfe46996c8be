"""Gradients proven on symbols, or refuted with numbers."""

from __future__ import annotations

import contextlib
import copy
import inspect
import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import numpy as np

from groundup.check import algebra, cases, digits, symbols
from groundup.check.alone import Alone, NotDifferentiable, alone, tensor_names
from groundup.check.zero import IDENTICAL, WAYS, Unshown
from groundup.errors import GradientError, GroundupError
from groundup.nn.module import Module, has_bwd
from groundup.ops.base import Array, Shape
from groundup.tensor import Buffer, Parameter, Tensor

if TYPE_CHECKING:
    from rich.console import RenderableType

# Expressions for more symbols, or of more operations, take minutes.
LARGEST, TOO_LONG = 100, 60_000
# At so many points numbers are put in for the symbols.
POINTS = 3
# Relative to a gradient's largest entry: below, it may be a constant that a module holds rounded.
TOLERANCE = 1e-9
# Where arguments may lie: some take no negative numbers, or only those between 0 and 1.
RANGES = ((-2.0, 2.0), (0.1, 0.9), (1.1, 3.0))
_READABLE = 60  # operations; no other form of longer ones is looked for
_TRIALS = 200  # points that are looked at for one in a region


@dataclass(frozen=True)
class Counterexample:
    """Numbers for which a gradient is not the derivative.

    Attributes:
        entry: which entry of the gradient.
        claimed_formula: what backward computes for it.
        derivative_formula: what it should be.
        at: an array for each symbol's name: arguments, parameters, buffers, `dout`.
        claimed: the first formula's value there.
        derivative: the second one's.

    """

    entry: tuple[int, ...]
    claimed_formula: str
    derivative_formula: str
    at: dict[str, Array]
    claimed: float
    derivative: float


@dataclass(frozen=True)
class ProvenGradient:
    """What was shown of one gradient.

    Attributes:
        name: of what it is the gradient: an argument or a parameter.
        shape: its shape.
        status: "proven", "refuted" or "undecided".
        how: in words; of a refuted one, what it looks like (the other sign, half of it).
        counterexample: of a refuted one.
        gap: the largest difference at the points where numbers were put in, relative to the
            gradient's largest entry.

    """

    name: str
    shape: Shape
    status: str
    how: str
    counterexample: Counterexample | None = None
    gap: float = 0.0


@dataclass(frozen=True)
class Proof:
    """What `prove` found. True if every gradient is proven.

    Attributes:
        module: its class.
        shapes: of the arguments.
        rule: whose gradients these are: "its bwd", or "backward of its parts".
        gradients: one row for each.
        borders: conditions between regions, on whose borders nothing is claimed.

    """

    module: str
    shapes: tuple[Shape, ...]
    rule: str
    gradients: tuple[ProvenGradient, ...]
    borders: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return all(g.status == "proven" for g in self.gradients)

    def assert_ok(self) -> None:
        """Raise GradientError, with everything that was found, unless all is proven."""
        if not self:
            raise GradientError(str(self))

    def __str__(self) -> str:
        lines = [self._title]
        width = max((len(g.name) for g in self.gradients), default=0) + 1
        for g in self.gradients:
            lines.append(f"  {'d' + g.name:<{width}}  {g.status.upper():<9}  {g.how}")
            if g.counterexample is not None:
                lines += [f"      {line}" for line in _told(g.name, g.counterexample)]
        return "\n".join([*lines, *self._left_out])

    def __rich__(self) -> RenderableType:
        from rich.console import Group
        from rich.table import Table
        from rich.text import Text

        table = Table("gradient", "shape", "", "how", title=self._title)
        style = {"proven": "green", "refuted": "bold red", "undecided": "yellow"}
        for g in self.gradients:
            told = [] if g.counterexample is None else _told(g.name, g.counterexample)
            how = Text("\n".join([g.how, *told]))
            table.add_row(f"d{g.name}", str(g.shape), Text(g.status, style[g.status]), how)
        return Group(table, *map(Text, self._left_out))

    @property
    def _title(self) -> str:
        return f"{self.module}{', '.join(map(str, self.shapes)).join('()')}: {self.rule}"

    @property
    def _left_out(self) -> list[str]:
        if not self.borders:
            return []
        shown = ", ".join(self.borders[:3]) + (", ..." if len(self.borders) > 3 else "")
        return [f"  left out, for there is no derivative: the borders of {shown}"]


def _told(name: str, c: Counterexample) -> list[str]:
    index = f"[{','.join(map(str, c.entry))}]" if c.entry else ""
    used = {}
    for variable, array in c.at.items():
        for place in np.ndindex(array.shape):
            symbol = variable + (f"[{','.join(map(str, place))}]" if place else "")
            if symbol in c.claimed_formula or symbol in c.derivative_formula:
                used[symbol] = float(array[place])
    given = ", ".join(f"{s} = {v:g}" for s, v in used.items())
    return [
        f"d{name}{index} is       {_cut(c.claimed_formula)}",
        f"{' ' * len(name + index)}  must be  {_cut(c.derivative_formula)}",
        f"with {_cut(given)}" if given else "whatever the numbers",
        f"it is {c.claimed:.10g}, and the derivative {c.derivative:.10g}",
    ]


def _cut(text: str) -> str:
    return text if len(text) <= 400 else text[:400] + " ..."


def proved(module: Any, args: Sequence[Any], constant: Sequence[str]) -> Proof:
    """See `prove`."""
    if isinstance(module, Module):
        return _Prover(module, args, constant).proof()
    if isinstance(module, type) and issubclass(module, Module):
        hint = f"make one: {module.__name__}(...)"
    else:
        hint = "wrap functions: nn.Sequential(f)"
    raise GroundupError(f"prove takes a Module, not {module!r:.60}; {hint}")


class _Prover:
    def __init__(self, module: Module, args: Sequence[Any], constant: Sequence[str]):
        self.kind = type(module).__name__
        self.module = copy.deepcopy(module).double()
        self.args = [self._argument(i, a) for i, a in enumerate(args)]
        self.tensors = [a for a in self.args if isinstance(a, Tensor)]
        self.names = tensor_names(self.module, self.args)
        self.shapes = tuple(t.shape for t in self.tensors)
        unknown = [n for n in constant if n not in self.names]
        if unknown:
            raise GroundupError(
                f"prove({self.kind}): constant={unknown}, but the arguments are "
                f"called {', '.join(self.names) or 'nothing'}"
            )
        self.constant = set(constant)
        self.rng = np.random.Generator(np.random.Philox(key=1))
        members = [m for _, m in self.module.named_members() if isinstance(m, Parameter | Buffer)]
        self.free = [t for t in (*self.tensors, *members) if t.dtype.kind == "f"]
        if not self.free:
            raise GroundupError(
                f"prove({self.kind}): no symbols: give the shapes of what it is called with, "
                f"such as prove({self.kind}(...), (2, 3))"
            )
        count = sum(t.size for t in self.free)
        if count > LARGEST:
            raise GroundupError(
                f"prove({self.kind}): {count} symbols (arguments {', '.join(map(str, self.shapes))}"
                f", {sum(m.size for m in members)} in parameters and buffers); at most {LARGEST} "
                "are proven in reasonable time. A wrong rule is wrong for small shapes, too: make "
                "a small module, and try (2, 3)"
            )
        self.ranges: dict[str, tuple[float, float]] = {}

    def _argument(self, i: int, value: Any) -> Any:
        where = f"prove({self.kind}): argument {i + 1}"
        if isinstance(value, tuple):
            if not all(isinstance(n, int | np.integer) and n >= 0 for n in value):
                raise GroundupError(
                    f"{where} is {value!r:.60}, which is no shape; give a shape such as (2, 3), or "
                    "an array of labels or of a mask"
                )
            shape: Shape = tuple(map(int, value))
        elif isinstance(value, int) and not isinstance(value, bool):
            raise GroundupError(f"{where} is {value}: is the shape ({value},) meant?")
        elif isinstance(value, list | np.ndarray | np.generic | Tensor):
            array = value.data if isinstance(value, Tensor) else np.asarray(value)
            if array.dtype.kind in "iub":
                return Tensor(array.copy(), dtype=array.dtype)
            if array.dtype.kind != "f":
                raise GroundupError(f"{where} is an array of {array.dtype}")
            shape = array.shape
        else:
            return value
        if 0 in shape:
            raise GroundupError(f"{where} has shape {shape}: of no entries nothing can be proven")
        return Tensor(np.zeros(shape), dtype=np.float64)

    # The Program

    def _recorded(self) -> Alone:
        """The module's Program, and ranges of numbers in which it can be computed."""
        wanted = [
            t
            for t, n in zip(self.tensors, self.names, strict=True)
            if t.dtype.kind == "f" and n not in self.constant
        ]
        first: Exception | None = None
        for choice in self._choices():
            for t, bounds in zip(self.free, choice, strict=True):
                t.data = self._drawn(t.shape, bounds).astype(np.float64)
                t._g = None
            try:
                made = alone(self.module, self.args, wanted, self.names, self._cotangent)
            except NotDifferentiable as error:
                raise GroundupError(f"prove({self.kind}): {error}") from error
            except (GroundupError, ValueError, ArithmeticError) as error:
                first = first or error
                continue
            except TypeError as error:
                takes = ", ".join(inspect.signature(self.module.forward).parameters)
                raise GroundupError(
                    f"prove({self.kind}): {error}; its forward takes {takes or 'nothing'}, and "
                    f"{len(self.args)} were given"
                ) from error
            self._refuse_random(made)
            at = {id(t): b for t, b in zip(self.free, choice, strict=True)}
            self.ranges = {n: at.get(made.members[n], RANGES[0]) for n in made.variables}
            values = made.run(made.inputs)
            if all(np.isfinite(values[n]).all() for n in (*made.outs, *made.gradients.values())):
                return made
            first = first or GroundupError(
                f"prove({self.kind}): it makes NaN or infinity of all numbers that were tried"
            )
        assert first is not None
        raise first

    def _choices(self) -> Iterator[tuple[tuple[float, float], ...]]:
        """Ranges for each array, the likeliest first; a buffer without a sign has none."""
        likely = [
            1 if isinstance(t, Buffer) and t.size and (t.array >= 0).all() else 0 for t in self.free
        ]
        every = itertools.product(range(len(RANGES)), repeat=min(len(self.free), 4))
        for moved in sorted(every, key=sum):
            steps = itertools.chain(moved, itertools.repeat(moved[-1]))
            yield tuple(RANGES[(k + n) % len(RANGES)] for k, n in zip(likely, steps, strict=False))

    def _refuse_random(self, made: Alone) -> None:
        draws = [e for e in made.program.equations if e.op in ("uniform", "normal")]
        if draws:
            raise GroundupError(
                f"prove({self.kind}): {draws[0].module or 'it'} draws random numbers, and a proof "
                "is for what is the same each time: call eval() first, or give what is drawn as "
                "an argument (as Mask is for Dropout)"
            )

    def _cotangent(self, shape: Shape) -> Array:
        return self._drawn(shape, RANGES[0]).astype(np.float64)

    def _drawn(self, shape: Shape, bounds: tuple[float, float], scale: int = 1) -> Array:
        """Short fractions, no two of the same size: no ties, and nothing on a kink."""
        low, high = bounds
        count = int(np.prod(shape))
        steps = max(200, 4 * count)
        sizes = [Fraction(int(k), steps) for k in self.rng.permutation(steps - 1)[:count] + 1]
        if low < 0:
            signs = self.rng.integers(0, 2, count)
            drawn = [Fraction(high) * s * (1 if up else -1) * scale
                     for s, up in zip(sizes, signs, strict=True)]  # fmt: skip
        else:
            start, end = (Fraction(str(v)) for v in bounds)
            drawn = [start + (end - start) * s for s in sizes]
        made = np.empty(count, object)
        made[:] = drawn
        return made.reshape(shape)

    # The proof

    def proof(self) -> Proof:
        """All gradients, one after another."""
        self.one = self._recorded()
        self.given: dict[str, Any] = {
            n: symbols.symbols(n, a.shape) if n in self.one.variables else a
            for n, a in self.one.inputs.items()
        }
        try:
            values = symbols.interpret(self.one.program, self.given)
        except symbols.Uninterpreted as error:
            raise GroundupError(
                f"prove({self.kind}): {error}; check_layers compares its gradients with numbers"
            ) from error
        outs = [cases.opened(symbols.expressions(values[n])) for n in self.one.outs]
        operations = sum(int(e.count_ops()) for out in outs for e in out.flat)
        if operations > TOO_LONG:
            raise GroundupError(
                f"prove({self.kind}): its output takes {operations} operations on symbols, and "
                f"{TOO_LONG} are feasible; try smaller shapes"
            )
        self.derived, self.claimed = {}, {}
        for name in (*self.one.gradients, *self.one.untouched):
            variable = self.given[name]
            parts = [
                algebra.gradient(out, self.given[dout], variable)
                for out, dout in zip(outs, self.one.douts, strict=True)
            ]
            self.derived[name] = np.asarray(sum(parts), object)
            gradient = self.one.gradients.get(name)
            self.claimed[name] = (
                symbols.expressions(np.zeros(variable.shape, int))
                if gradient is None
                else cases.opened(symbols.expressions(values[gradient]))
            )
        self.points = list(itertools.islice(self._points(), POINTS))
        self.found = [self._values(at) for at in self.points]
        self._compare_with_numpy()
        found = tuple(self._shown(n) for n in self.derived)
        conditions = {str(c): None for out in outs for e in out.flat for c in cases.borders(e)}
        rule = "its bwd" if has_bwd(self.module) else "backward of its parts"
        return Proof(self.kind, self.shapes, rule, found, tuple(conditions))

    def _shown(self, name: str) -> ProvenGradient:
        claimed, derived = self.claimed[name], self.derived[name]
        gap, worst = self._gap(name)
        if worst is not None:
            at, place = worst
            example = self._counterexample(name, place, at)
            return ProvenGradient(name, claimed.shape, "refuted", self._looks(name), example, gap)
        ways, regions = {IDENTICAL}, 0
        for place in np.ndindex(claimed.shape):
            found = cases.shown(claimed[place] - derived[place])
            if found.how is None:
                return self._unshown(name, place, found, gap)
            ways.add(found.how)
            regions = max(regions, found.regions)
        how = max(ways, key=WAYS.index)
        if regions:
            how += f"; by cases, in up to {regions} regions for an entry"
        return ProvenGradient(name, claimed.shape, "proven", how, gap=gap)

    def _unshown(
        self, name: str, place: tuple[int, ...], found: cases.Shown, gap: float
    ) -> ProvenGradient:
        """What is not zero for SymPy: numbers from the very region decide, if there are any."""
        shape = self.claimed[name].shape
        both = [self.claimed[name][place], self.derived[name][place]]
        tried = 0
        for at in itertools.islice(self._points(check=False), _TRIALS):
            *region, claimed, derived = self._at([*found.region, *both], at)
            if (
                claimed is None
                or derived is None
                or not all(v is not None and v > 0 for v in region)
            ):
                continue
            tried += 1
            if abs(claimed - derived) > TOLERANCE * max(abs(claimed), abs(derived)):
                example = self._counterexample(name, place, at)
                where = " and ".join(f"{e} > 0" for e in found.region)
                how = f"not where {where}" if where else self._looks(name)
                return ProvenGradient(name, shape, "refuted", how, example, gap)
            if tried == POINTS and not found.region:
                break
        index = f"[{','.join(map(str, place))}]" if place else ""
        reason = f" ({found.reason})" if found.reason else ""
        how = (
            f"no proof found for d{name}{index}{reason}; at {tried} exact points the two agree "
            f"within {gap:.0e} (relative)"
        )
        return ProvenGradient(name, shape, "undecided", how, gap=gap)

    # Numbers in place of symbols

    def _at(self, entries: Iterable[Any], at: dict[str, Array]) -> list[Any]:
        point = {
            s: v
            for n in self.one.variables
            for s, v in zip(self.given[n].flat, at[n].flat, strict=True)
        }
        return digits.values(entries, point)

    def _values(self, at: dict[str, Array]) -> dict[str, tuple[list[Any], list[Any]]]:
        """All entries that are claimed, and the derivatives."""
        pairs = [(self.claimed[n], self.derived[n]) for n in self.derived]
        left = iter(self._at((e for p in pairs for array in p for e in array.flat), at))
        return {
            n: (list(itertools.islice(left, d.size)), list(itertools.islice(left, d.size)))
            for n, d in self.derived.items()
        }

    def _points(self, check: bool = True) -> Iterator[dict[str, Array]]:
        """Fractions for all symbols, where everything can be computed."""
        failed = 0
        for k in itertools.count():
            # A region may begin further out than where the usual numbers are.
            scale = 1 if check or k % 2 else 4
            at = {
                n: self._drawn(self.given[n].shape, self.ranges[n], scale)
                for n in self.one.variables
            }
            if check and any(
                v is None for both in self._values(at).values() for part in both for v in part
            ):
                failed += 1
                if failed > _TRIALS:
                    raise GroundupError(
                        f"prove({self.kind}): no numbers found at which its gradients are defined"
                    )
                continue
            yield at

    def _gap(self, name: str) -> tuple[float, tuple[dict[str, Array], tuple[int, ...]] | None]:
        """The largest relative difference, and where the first one is that is none of rounding."""
        largest, worst = 0.0, None
        for at, found in zip(self.points, self.found, strict=True):
            claimed, derived = found[name]
            scale = max((abs(v) for v in (*claimed, *derived)), default=0) or 1
            gaps = [float(abs(a - b) / scale) for a, b in zip(claimed, derived, strict=True)]
            largest = max([largest, *gaps])
            if worst is None and max(gaps) > TOLERANCE:
                k = next(i for i, g in enumerate(gaps) if g > TOLERANCE)
                place = np.unravel_index(k, self.derived[name].shape)
                worst = at, tuple(int(i) for i in place)
        return largest, worst

    def _looks(self, name: str) -> str:
        """What a wrong gradient looks like, beside the right one."""
        pairs = [pair for found in self.found for pair in zip(*found[name], strict=True)]
        wrong = sum(abs(a - b) > TOLERANCE * max(abs(a), abs(b)) for a, b in pairs)
        if all(a == 0 for a, _ in pairs):
            return "it is zero: does bwd leave it out?"
        ratios = [a / b for a, b in pairs if b]
        if ratios and all(b or not a for a, b in pairs):
            ratio = ratios[0]
            simple = Fraction(float(ratio)).limit_denominator(1000)
            if all(abs(r - ratio) < 1e-20 * abs(ratio) for r in ratios):
                if simple == -1:
                    return "it has the other sign"
                return (
                    f"it is {simple} times the derivative"
                    if (abs(float(simple) - float(ratio)) < 1e-12 * abs(float(ratio)))
                    else f"it is {float(ratio):.10g} times the derivative"
                )
        return f"{wrong} of {len(pairs)} entries differ, at {len(self.points)} points"

    def _counterexample(
        self, name: str, place: tuple[int, ...], at: dict[str, Array]
    ) -> Counterexample:
        both = self.claimed[name][place], self.derived[name][place]
        claimed, derived = self._at(both, at)
        own, true = (self._readable(e, at) for e in both)
        numbers = {n: a.astype(np.float64) for n, a in at.items()}
        return Counterexample(place, own, true, numbers, float(claimed), float(derived))

    def _readable(self, e: Any, at: dict[str, Array]) -> str:
        import sympy

        if e.has(sympy.ITE):  # conditions on conditions: what holds around the point says more
            with contextlib.suppress(Unshown):
                e = cases.around(e, lambda sign_of: bool(self._at([sign_of], at)[0] > 0))
        return str(algebra.shortest(e) if e.count_ops() < _READABLE else e)

    def _compare_with_numpy(self) -> None:
        """The symbols must compute what NumPy does, or a proof would be about something else."""
        at = self.points[0]
        arrays = {**self.one.inputs, **{n: a.astype(np.float64) for n, a in at.items()}}
        values, exact = self.one.run(arrays), self.found[0]
        for name, gradient in self.one.gradients.items():
            own = np.asarray(values[gradient], np.float64).reshape(-1)
            meant = np.array([float(v) for v in exact[name][0]])
            scale = float(np.abs(meant).max(initial=0.0)) or 1.0
            if not np.allclose(own, meant, rtol=0, atol=1e-6 * scale):
                raise GroundupError(
                    f"prove({self.kind}): on symbols d{name} is {meant.tolist()!r:.200}, and with "
                    f"NumPy {own.tolist()!r:.200}: it is too sensitive to rounding to be proven"
                )
