"""Small inputs for what `groundup check` found: as `check_inputs` says, or guessed and tried."""

from __future__ import annotations

import copy
import inspect
import re
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice, product
from typing import Any, TypeAlias

import numpy as np

from groundup import generator
from groundup.backward import no_grad
from groundup.check import check
from groundup.cli.checkable import Item
from groundup.errors import GroundupError
from groundup.ops.base import Shape
from groundup.tensor import Tensor

TRIES = 1000  # in each world
SECONDS = 5.0  # in all
LENGTHS = 8  # of a module's parameters that its input may have
INTEGERS = (4, 3, 2, 5)  # for a constructor: different lengths show what is transposed


class NoInputs(GroundupError):
    """Nothing was found that a forward takes."""


@dataclass(frozen=True)
class Inputs:
    """What `gu.check` is called with.

    Attributes:
        subject: what is checked, of a class an instance.
        values: what forward takes.
        shown: how the report says it.
        world: the name of the shapes among which it was found.
        example: where they were guessed, a `check_inputs` to write instead.

    """

    subject: Any
    values: tuple[Any, ...]
    shown: str
    world: str = ""
    example: str = ""


def inputs_for(item: Item, seed: int) -> Inputs:
    """Inputs for an item, and an instance of it if it is a class.

    Raises:
        NoInputs: none were found; the message has a `check_inputs` to be filled in.

    """
    seed_all(seed)
    given = _written(item, seed)
    if given is not None:
        values, where = given
        if not item.is_class:
            return Inputs(item.subject, values, f"from {where}")
        if values and isinstance(values[0], item.subject):
            return Inputs(values[0], values[1:], f"from {where}")
        search = Search(item, seed, values)
        made = search.world("rows")
        if made is None:
            raise NoInputs(
                f"{item.name}: {where} gives inputs, but no {item.name} was found that takes them: "
                f"{search.reason()}. Return one before the inputs: {search.example()}"
            )
        return Inputs(made.subject, values, f"{made.shown}; from {where}".lstrip("; "))
    search = Search(item, seed, None)
    found: list[Inputs] = []
    passed_over: tuple[str, ...] = ()
    for name in WORLDS:
        made = None if name in passed_over else search.world(name)
        if made is None:
            continue
        found.append(made)
        misfit = _misfit(item, made, seed)
        if not misfit:
            break
        if name == "rows":
            # A vector if it cannot be called with rows; with a vector, a sum over rows that is
            # forgotten would be right.
            passed_over = UNLIKE_ROWS if misfit == "shape" else UNLIKE_ROWS[1:]
    else:
        if not found:
            raise NoInputs(
                f"{item.name}: {search.reason()}\n"
                f"Write a function that gives them beside it, such as:\n    {search.example()}"
            )
        made = found[0]
    if made is found[0]:
        return replace(made, example=search.example())
    # Its backward may be written for these alone, or be wrong: whoever reads it decides.
    aside = f"{made.shown} (with {found[0].shown} its backward fails)"
    return replace(made, shown=aside, example=search.example())


def seed_all(seed: int) -> None:
    """Make what draws random numbers repeat."""
    generator.manual_seed(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002 (the user's code may draw from it)
    torch = sys.modules.get("torch")
    if torch is not None:
        torch.manual_seed(seed)


def _written(item: Item, seed: int) -> tuple[tuple[Any, ...], str] | None:
    """What the item's own check_inputs gives, or one beside it; and where that is."""
    beside = f"check_inputs_{item.name.replace('.', '_')}"
    places = [
        (item.subject, "check_inputs", f"{item.name}.check_inputs"),
        (item.source, beside, beside),
        (item.source, "check_inputs", "check_inputs"),
    ]
    for owner, name, where in places:
        made = getattr(owner, name, None)
        if callable(made):
            given = (np.random.default_rng(seed), item.name)
            made = made(*given[: len(inspect.signature(made).parameters)])
        if made is not None:
            return (made if isinstance(made, tuple) else (made,)), where
    return None


def _misfit(item: Item, made: Inputs, seed: int) -> str:
    """What does not fit: "error" where backward does not run, "shape" of a gradient; or ""."""
    try:
        report = check(
            made.subject, *made.values, backward=item.backward, seed=seed, diagnose=False
        )
    except Exception:
        return "error"
    verdicts = {row.verdict for row in report.rows}
    return next((misfit for misfit in ("error", "shape") if misfit in verdicts), "")


# What may be tried


@dataclass(frozen=True)
class Draw:
    """A value to be tried.

    Attributes:
        kind: "normal", "integers", "mask", "generator"; or "value".
        shape: of an array.
        value: of what is no array.

    """

    kind: str
    shape: Shape = ()
    value: Any = None

    def make(self, rng: np.random.Generator, positive: bool) -> Any:
        """The value; where it should be positive, numbers between 0 and 1."""
        if self.kind == "generator":
            return np.random.default_rng(0)
        if self.kind == "integers":
            return rng.integers(0, 3, self.shape)
        if self.kind == "mask":
            return rng.integers(0, 2, self.shape) == 1
        if self.kind == "normal":
            drawn = rng.uniform(0.2, 0.8, self.shape) if positive else rng.normal(size=self.shape)
            return np.asarray(drawn)
        return self.value

    def shown(self, name: str, positive: bool) -> str:
        """How a report names it."""
        if self.kind == "value":
            return f"{name}={self.value!r}"
        if self.kind == "generator":
            return name
        what = {"normal": " from 0.2 to 0.8" if positive else ""}.get(self.kind, f" {self.kind}")
        return f"{name} {self.shape}{what}"

    def code(self) -> str:
        """How a check_inputs makes it."""
        if self.kind == "value":
            return repr(self.value)
        if self.kind == "generator":
            return "rng"
        if self.kind == "normal":
            return f"rng.normal(size={self.shape})"
        return f"rng.integers(0, {2 if self.kind == 'mask' else 3}, size={self.shape})"


@dataclass(frozen=True)
class World:
    """Shapes that go together, the likeliest first."""

    data: list[Shape]  # of the first argument
    others: list[Shape]  # of further ones
    weight: list[Shape]
    bias: list[Shape]
    scale: list[Shape]
    integers: list[Shape]


# 4 features everywhere, so that a layer made for 4 finds them.
WORLDS = {
    "rows": World(
        [(5, 4)],
        [(5, 4), (4, 3), (5, 3), (5, 1)],
        [(4, 3), (3, 2), (3, 4), (2, 3), (4,), (4, 4), (3, 3)],
        [(3,), (2,), (4,), (1, 3), (1, 4), ()],
        [(4,), (3,), (1, 4), ()],
        [(5,), (5, 4)],
    ),
    "column": World(
        [(4, 5)],
        [(4, 5), (3, 5), (1, 5)],
        [(3, 4), (2, 3), (4, 3), (3, 2), (4, 1), (1, 4)],
        [(3, 1), (2, 1), (1, 1), ()],
        [(4, 1), (3, 1)],
        [(5,), (1, 5)],
    ),
    "vector": World(
        [(4,)],
        [(4,), (3,), ()],
        [(3, 4), (2, 3), (4, 3), (3, 2), (4,)],
        [(3,), (2,), (4,), ()],
        [(4,), ()],
        [(), (4,)],
    ),
    "square": World(
        [(4, 4)], [(4, 4), (4, 3), (4,)], [(4, 4), (4, 3)], [(4,), ()], [(4,), ()], [(4,)]
    ),
    "sequence": World(
        [(2, 5, 4)],
        [(2, 5, 4), (2, 4, 3), (2, 3), (2, 4)],
        [(4, 3), (3, 4), (4, 4), (3, 3), (3, 2)],
        [(3,), (4,), (2,)],
        [(4,), (3,), ()],
        [(2, 5), (2,)],
    ),
    "signal": World([(2, 4, 7)], [(2, 4, 7)], [(3, 4, 3)], [(3,), (4,)], [(4,), (4, 1)], [(2,)]),
    "image": World(
        [(2, 4, 6, 8)],
        [(2, 4, 6, 8), (3, 4, 3, 3)],
        [(3, 4, 3, 3), (3, 4, 2, 2)],
        [(3,), (4,), (1, 3, 1, 1)],
        [(4,), (1, 4, 1, 1)],
        [(2,)],
    ),
    "image, channels last": World(
        [(2, 6, 8, 4)], [(2, 6, 8, 4)], [(3, 3, 4, 3)], [(3,), (4,)], [(4,)], [(2,)]
    ),
    "number": World([()], [()], [()], [()], [()], [()]),
    "ids": World([], [], [(4, 3), (3, 2)], [(3,), (2,)], [(3,)], [(5,), (2, 5)]),
}

# Not for a backward that runs with rows.
UNLIKE_ROWS = ("vector", "square", "column", "number", "ids")

WEIGHT = r"w\d*|w_.+|w[xhuiofgcqkv]{1,2}|.+_w|.*(weight|kernel|filter|embedding|theta).*|table|emb"
BIAS = r"b\d*|b_.+|b[xhuiofgcqkv]{1,2}|.+_b|.*bias.*"
SCALE = r"gamma|beta|gain|scale|shift"
LABELS = r"labels?|targets?|targs?|idx|index|indices|ids|tokens?|words?|.*_(ids|idx|labels)"
LABELS += r"|rows?|cols?|columns?"
MAYBE_LABELS = r"y|t|y_true|y_batch"
# Settings that are called the same everywhere.
VALUES: list[tuple[str, list[Any]]] = [
    (r"eps|epsilon", [1e-5]),
    (r"(is_)?training|train(ing_mode)?", [True]),
    (r"axis|dim", [-1, 0, 1]),
    (r"strides?", [1, 2]),
    (r"pad(ding)?", [1, 0]),
    (r"kernel_size|ksize|window|pool_size", [3, 2]),
    (r"p|p_.+|drop(out)?(_p|_rate)?|alpha|slope|momentum|lr|temperature|tau|sigma|rate", [0.5]),
]
OBJECTS = r"config|cfg|options|opts|params|args|layers?|model|module|activation|act|name|mode|dtype"
COUNTS = r"n_.+|num_.+|d_.+|.+_(size|dim|count|features|channels)|size|steps|heads|groups"
COUNTS += r"|hidden|units|in_.+|out_.+|channels|features|classes"


class Search:
    """Tries what a constructor and a forward may take, until finite numbers come out."""

    def __init__(self, item: Item, seed: int, fixed: tuple[Any, ...] | None):
        self.item, self.seed, self.fixed = item, seed, fixed
        self.first = ""  # what was tried first, and what it raised
        self.until = time.perf_counter() + SECONDS
        self.constructor = _arguments(item.subject, 0)[0] if item.is_class else []
        self.forwards = [] if fixed is not None else _arguments(*_forward_of(item))

    def world(self, name: str) -> Inputs | None:
        """The first that goes, of a world of shapes."""
        for made, subject, drawn in islice(self._tries(WORLDS[name]), TRIES):
            for positive in (False, True):
                values = (
                    self.fixed if self.fixed is not None else _values(drawn, self.seed, positive)
                )
                said = _said(drawn, positive)
                finite = self._run(subject, values, said)
                if finite:
                    if self.item.is_class:
                        subject = self._instance(made)  # as it was before it ran
                    else:
                        subject = self.item.subject
                    shown = "; ".join(filter(None, (_said(made), said)))
                    return Inputs(subject, values, shown, name)
                if finite is None:
                    break
        return None

    def _tries(self, world: World) -> Iterator[tuple[Drawn, Any, Drawn]]:
        """What the constructor gets, what it then makes, and what forward gets."""
        for made in _combinations(self.constructor, world, True):
            if time.perf_counter() > self.until:
                return
            subject = self._instance(made) if self.item.is_class else _own_copy(self.item.subject)
            if subject is None:
                continue
            own = _widened(world, subject)
            learnt = bool(_parameter_shapes(subject))
            if self.fixed is not None:
                yield made, subject, ()
            for parameters in self.forwards:
                for drawn in _combinations(parameters, own, False):
                    if time.perf_counter() > self.until:
                        return
                    if learnt or any(draw.kind == "normal" for _, draw in drawn):
                        yield made, subject, drawn

    def _instance(self, made: Drawn) -> Any:
        """An instance of the class, or None if its constructor refuses."""
        seed_all(self.seed)
        values = dict(zip((p.name for p, _ in made), _values(made, self.seed, False), strict=True))
        by_name = {p.name: values[p.name] for p, _ in made if p.kind is p.KEYWORD_ONLY}
        try:
            return self.item.subject(*(v for n, v in values.items() if n not in by_name), **by_name)
        except Exception as error:
            self._note(f"{self.item.name}({_said(made)})", error)
            return None

    def _run(self, subject: Any, values: Sequence[Any], said: str) -> bool | None:
        """Whether forward's output is finite; None if forward raises, or gives no numbers."""
        try:
            with np.errstate(all="ignore"), warnings.catch_warnings(), no_grad():
                warnings.simplefilter("ignore")
                arrays = _numbers(_called(self.item, subject, values))
        except Exception as error:
            self._note(f"forward with {said or 'these inputs'}", error)
            return None
        if not arrays:
            self._note(f"forward with {said or 'these inputs'}", "gave no floating-point numbers")
            return None
        finite = all(np.isfinite(a).all() for a in arrays)
        if not finite:
            self._note(f"forward with {said or 'these inputs'}", "gave numbers that are not finite")
        return finite

    def _note(self, what: str, problem: Exception | str) -> None:
        if isinstance(problem, Exception):
            said = str(problem).partition("\n")[0]
            problem = f"raised {type(problem).__name__}: {said}"
        self.first = self.first or f"{what} {problem}"

    # In words

    def reason(self) -> str:
        """Why nothing was found."""
        for parameters, what in (
            (self.constructor, "constructor"),
            (self.forwards[-1] if self.forwards else [], "forward"),
        ):
            for p in parameters:
                if not _draws(p, parameters, WORLDS["rows"], what == "constructor"):
                    return f"no value is known for {p.name}, which its {what} takes"
        if self.first:
            return f"none that were tried fit; the first: {self.first}"
        return "its forward takes no array, and it has no parameters"

    def example(self) -> str:
        """A check_inputs for this very item."""
        codes = _codes(self.forwards[0] if self.forwards else [], False)
        if self.item.is_class:
            codes.insert(0, f"{self.item.name}({', '.join(_codes(self.constructor, True))})")
        name = self.item.name.replace(".", "_")
        return f"def check_inputs_{name}(rng): return {', '.join(codes) or '()'}"


# A parameter and what is tried for it.
Drawn: TypeAlias = Sequence[tuple[inspect.Parameter, Draw]]


def _values(drawn: Drawn, seed: int, positive: bool) -> tuple[Any, ...]:
    rng = np.random.default_rng(seed)
    return tuple(draw.make(rng, positive) for _, draw in drawn)


def _said(drawn: Drawn, positive: bool = False) -> str:
    return ", ".join(draw.shown(p.name, positive) for p, draw in drawn)


def _codes(parameters: Sequence[inspect.Parameter], constructing: bool) -> list[str]:
    found = []
    for p in parameters:
        draws = _draws(p, parameters, WORLDS["rows"], constructing)
        code = draws[0].code() if draws else "..."
        found.append(f"{p.name}={code}" if p.kind is p.KEYWORD_ONLY else code)
    return found


def _combinations(
    parameters: Sequence[inspect.Parameter], world: World, constructing: bool
) -> Iterator[Drawn]:
    draws = [_draws(p, parameters, world, constructing) for p in parameters]
    for chosen in product(*draws):
        yield list(zip(parameters, chosen, strict=True))


def _draws(
    p: inspect.Parameter, among: Sequence[inspect.Parameter], world: World, constructing: bool
) -> list[Draw]:
    """What may be tried for a parameter: by its annotation, then by its name."""
    name = p.name.lower()
    said = p.annotation if isinstance(p.annotation, str) else getattr(
        p.annotation, "__name__", str(p.annotation)
    )  # fmt: skip
    said = "" if p.annotation is p.empty else said.split("|")[0].strip().strip("'\"")
    if "Generator" in said or (said == "" and name in ("rng", "generator")):
        return [Draw("generator")]
    if said == "" and re.fullmatch(OBJECTS, name):
        return []
    values = next((v for pattern, v in VALUES if re.fullmatch(pattern, name)), [])
    if said == "int" or (said == "" and not values and _is_count(name, constructing)):
        ints = [q for q in among if q.annotation in ("", "int", int, p.empty)]
        first = INTEGERS[ints.index(p) % len(INTEGERS)]
        values = [v for v in values if isinstance(v, int)]
        values = values or list(dict.fromkeys([first, 2, 3, 4, 5, 1]))
    elif said in ("float", "bool"):
        values = [v for v in values if type(v).__name__ == said]
        values = values or ([0.5] if said == "float" else [True, False])
    elif said.split("[")[0] in ("tuple", "Sequence"):
        values = [(4, 3), (3, 3)]
    elif said and not re.search(r"Tensor|[aA]rray|Any", said):
        return []
    elif said:
        values = []
    if values:
        return [Draw("value", value=v) for v in values]
    return _arrays(p, among, world)


def _is_count(name: str, constructing: bool) -> bool:
    array = any(re.fullmatch(pattern, name) for pattern in (WEIGHT, BIAS, SCALE))
    return not array if constructing else re.fullmatch(COUNTS, name) is not None


def _arrays(p: inspect.Parameter, among: Sequence[inspect.Parameter], world: World) -> list[Draw]:
    """The arrays that a name stands for."""
    name = p.name.lower()
    weights = [q for q in among if re.fullmatch(WEIGHT, q.name.lower())]
    if re.fullmatch(LABELS, name):
        first, *more = _of("integers", world.integers)
        return [first, *_of("normal", world.others), *more]
    if re.fullmatch(r"(.*_)?(mask|keep)", name):
        return _of("mask", [*world.data, *world.integers]) + _of("normal", world.data)
    if re.fullmatch(WEIGHT, name):
        return _of("normal", world.weight)
    # Beside an a, b is no bias.
    if re.fullmatch(BIAS, name) and (weights or p is among[0] or "bias" in name):
        return _of("normal", world.bias)
    if re.fullmatch(SCALE, name):
        return _of("normal", world.scale)
    if not world.data:
        return _of("integers", world.integers)
    if p is among[0]:
        return _of("normal", world.data)
    found = _of("normal", world.others)
    return [*found, *_of("integers", world.integers)] if re.fullmatch(MAYBE_LABELS, name) else found


def _of(kind: str, shapes: Sequence[Shape]) -> list[Draw]:
    return [Draw(kind, shape) for shape in shapes]


def _widened(world: World, subject: Any) -> World:
    """The world with the lengths that a module's parameters have, too."""
    lengths = dict.fromkeys(n for shape in _parameter_shapes(subject) for n in shape)
    more = [
        tuple(length if n == 4 else n for n in shape)
        for length in islice(lengths, LENGTHS)
        for shape in world.data[:1]
    ]
    return replace(
        world,
        data=list(dict.fromkeys([*world.data, *more])),
        others=list(dict.fromkeys([*world.others, *more])),
    )


def _parameter_shapes(subject: Any) -> list[Shape]:
    if isinstance(subject, type) or not hasattr(subject, "parameters"):
        return []
    return [tuple(p.shape) for p in subject.parameters()]


# Signatures


def _forward_of(item: Item) -> tuple[Callable[..., Any], int]:
    """Forward, and how many of its first parameters are no inputs."""
    if item.kind == "torch Function":
        torch = sys.modules["torch"]
        apart = item.subject.setup_context is not torch.autograd.Function.setup_context
        return item.subject.forward, 0 if apart else 1
    if item.kind in ("module", "torch Module"):
        return item.subject.forward, int(item.is_class)
    return item.subject, 0


def _arguments(function: Callable[..., Any], skip: int) -> list[list[inspect.Parameter]]:
    """What has to be given; for a forward first with the arrays that may be None after it.

    As in `forward(x, w, b=None)`: with a bias, more is checked.
    """
    parameters = list(inspect.signature(function).parameters.values())[skip:]
    needed = [
        p
        for p in parameters
        if p.default is p.empty and p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)
    ]
    if not needed:
        rest = [p for p in parameters if p.kind is p.VAR_POSITIONAL]  # forward(self, *inputs)
        return [[] if isinstance(function, type) else rest]
    more = []
    for p in parameters[len(needed) :]:
        if p.default is not None or not re.fullmatch(f"{WEIGHT}|{BIAS}|{SCALE}", p.name.lower()):
            break
        more.append(p)
    if more and not isinstance(function, type):
        return [[*needed, *more], needed]
    return [needed]


# Running


def _own_copy(subject: Any) -> Any:
    """A module of its own, for what forward counts or averages."""
    try:
        return copy.deepcopy(subject)
    except Exception:
        return subject


def _called(item: Item, subject: Any, values: Sequence[Any]) -> Any:
    values = [v.copy() if isinstance(v, np.ndarray) else v for v in values]
    if item.kind.startswith("torch"):
        torch = sys.modules["torch"]
        values = [torch.from_numpy(v) if isinstance(v, np.ndarray) else v for v in values]
        with torch.no_grad():
            if item.kind == "torch Function":
                return subject.apply(*values)
            return copy.deepcopy(subject).double()(*values)
    if item.kind == "function":
        values = [Tensor(v) if isinstance(v, np.ndarray) else v for v in values]
    return subject(*values)


def _numbers(out: Any) -> list[Any]:
    """The floating-point arrays of an output; of several, the first may be all there is."""
    if isinstance(out, tuple | list) and out:
        return _numbers(out[0])
    if isinstance(out, dict):
        return [a for value in out.values() for a in _numbers(value)]
    if hasattr(out, "detach"):
        out = out.detach()
    array = np.asarray(out.array if isinstance(out, Tensor) else out)
    return [array] if array.dtype.kind == "f" else []
