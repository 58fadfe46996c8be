"""Random steps: matrix products, broadcasting, reductions, views, indices, gradients, updates.

`python tests/native/fuzz.py --minutes 10 --seed 3` looks for steps that the native engine computes
differently from NumPy, and prints the smallest that it finds as Python.
"""

from __future__ import annotations

import argparse
import contextlib
import math
import os
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    _here = Path(__file__).parent
    sys.path[:0] = [str(_here), str(_here.parent), str(_here.parent / "program")]

import hypothesis
import numpy as np
from hypothesis import strategies as st
from native_oracle import Given, check_each, given_by
from programs import Recorded

import groundup as gu
from groundup import Tensor, nn, optim
from groundup.errors import GroundupError
from groundup.native.engine import Unsupported
from groundup.native.llvm import host
from groundup.ops.base import quiet

Draw = Callable[..., Any]
LENGTHS = st.one_of(
    st.integers(1, 9),
    st.sampled_from([15, 16, 17, 31, 32, 33, 63, 64, 65]),
    st.integers(1, 70),
)
MOST = 40_000  # entries of a value
LARGEST = 100.0  # what is beyond goes through tanh
LAST = Path(tempfile.gettempdir()) / f"fuzz_{os.getpid()}.txt"


@dataclass
class Case:
    """A step as text, what it is called with, and how it runs.

    Attributes:
        arguments: name -> (shape, dtype), the batch first.
        weights: shapes of parameters by name.
        lines: what the step does.

    """

    rows: int
    arguments: dict[str, tuple[tuple[int, ...], str]] = field(default_factory=dict)
    weights: dict[str, tuple[int, ...]] = field(default_factory=dict)
    lines: list[str] = field(default_factory=list)
    dtype: str = "float32"
    optimizer: str = ""
    threads: int = 1
    tile: int | None = None
    width: int | None = None

    def __repr__(self) -> str:
        return (
            f"Case(rows={self.rows}, dtype={self.dtype!r}, optimizer={self.optimizer!r}, "
            f"threads={self.threads}, tile={self.tile}, width={self.width},\n"
            f"  arguments={self.arguments},\n  weights={self.weights},\n  lines=[\n"
            + "".join(f"    {line!r},\n" for line in self.lines) + "  ])"
        )  # fmt: skip

    # What it runs on

    def array(self, name: str, shape: tuple[int, ...], dtype: str) -> Any:
        """Numbers that depend on the name only."""
        random = np.random.default_rng([ord(c) for c in name])
        if dtype == "bool":
            return random.random(shape) < 0.5
        if np.dtype(dtype).kind in "iu":
            return random.integers(0, 3, shape).astype(dtype)
        return random.standard_normal(shape).astype(dtype)

    def inputs(self) -> dict[str, Tensor]:
        """Arguments, with gradients where they are of real numbers."""
        return {
            name: Tensor(self.array(name, *given), requires_grad=given[1].startswith("float"))
            for name, given in self.arguments.items()
        }

    def parameters(self) -> dict[str, nn.Parameter]:
        return {
            name: nn.Parameter(self.array(name, shape, self.dtype))
            for name, shape in self.weights.items()
        }

    # Running it

    def given(self) -> Given:
        """The step's Program and its inputs."""
        weights, arguments = self.parameters(), self.inputs()
        made = {"": None, "SGD": optim.SGD, "Adam": optim.Adam, "Momentum": optim.SGD}
        opt: Any = made[self.optimizer]
        more = {"momentum": 0.9} if self.optimizer == "Momentum" else {}
        used = [w for n, w in weights.items() if any(n in line for line in self.lines)]
        if opt is not None and used:
            opt = opt(used, 0.01, **more)
        else:
            opt = None
        source = f"def step({', '.join(arguments)}):\n" + "".join(
            f"    {line}\n" for line in self.lines
        )
        space: dict[str, Any] = {"gu": gu, "np": np, "opt": opt, **weights}
        exec(source, space)
        held: list[Tensor] = [*weights.values()]
        if opt is not None:
            held += [t for ts in opt.state.values() for t in ts]
        return given_by(Recorded(space["step"], *arguments.values(), held=held))

    def check(self) -> None:
        """Compare the engine with NumPy, equation by equation."""
        check_each(
            self.given(), threads=self.threads, tile=self.tile,
            target=host(self.width) if self.width else None,
        )  # fmt: skip


# Making one


class Maker:
    """Draws the lines of a step; each runs at once, so that shapes and sizes are known."""

    def __init__(self, draw: Draw):
        self.draw = draw
        self.case = Case(draw(st.one_of(st.integers(1, 9), LENGTHS)))
        self.case.dtype = draw(st.sampled_from(["float32", "float32", "float32", "float64"]))
        self.known: dict[str, Tensor] = {}
        self.count = 0
        for i in range(draw(st.integers(1, 3))):
            dtype = self.case.dtype if i == 0 else draw(
                st.sampled_from([*[self.case.dtype] * 2, "int64", "bool", "int32", "uint8"])
            )  # fmt: skip
            self.case.arguments[f"x{i}"] = ((self.case.rows, *self.shape(2)), dtype)
        self.known |= self.case.inputs()

    def shape(self, most: int) -> tuple[int, ...]:
        """Lengths of some axes, not too many entries together."""
        found: list[int] = []
        for _ in range(self.draw(st.integers(0, most))):
            room = MOST // 70 // math.prod(found)
            found.append(min(self.draw(LENGTHS), max(1, room)))
        return tuple(found)

    def pick(self, test: Callable[[Tensor], bool] = lambda t: True) -> str | None:
        """A value's name, the newest ones first."""
        names = [n for n, t in reversed(self.known.items()) if test(t)]
        return self.draw(st.sampled_from(names)) if names else None

    def weight(self, *shape: int) -> str:
        """A parameter of a shape: one that is there, or a new one."""
        for name, there in self.case.weights.items():
            if there == shape and self.draw(st.booleans()):
                return name
        name = f"w{len(self.case.weights)}"
        self.case.weights[name] = shape
        self.known[name] = nn.Parameter(self.case.array(name, shape, self.case.dtype))
        return name

    def add(self, expression: str) -> bool:
        """A line for an expression, if it works out; whether it does."""
        with quiet():
            try:
                value = eval(expression, {"gu": gu, "np": np}, self.known)
            except (GroundupError, ValueError, TypeError, IndexError):
                return False
            if not isinstance(value, Tensor) or not 0 < value.size <= MOST:
                return False
            array = value.array
            if array.dtype.kind == "f":
                if not np.isfinite(array).all():
                    return False
                if np.abs(array).max() > LARGEST:
                    expression = f"({expression}).tanh()"
                    value = value.tanh()
            elif array.dtype.kind in "iu" and np.abs(array.astype(float)).max() > 1e6:
                return False
        name = f"a{self.count}"
        self.count += 1
        self.case.lines.append(f"{name} = {expression}")
        self.known[name] = value
        return True

    # The kinds of lines

    def real(self) -> str:
        found = self.pick(lambda t: t.dtype.kind == "f")
        assert found is not None
        return found

    def unary(self) -> str:
        op = self.draw(st.sampled_from([
            "-{0}", "{0}.tanh()", "{0}.relu()", "{0}.exp()", "{0}.sigmoid()", "{0} * 0.5",
            "2 - {0}", "{0}.abs()", "{0}.sign()", "({0}.abs() + 0.5).sqrt()",
            "({0}.abs() + 0.1).log()",
            "{0}.sin()", "{0}.erf()", "{0}.clamp(-0.5, 0.7)", "{0} ** 2", "({0}.abs() + 1) ** 1.5",
            "1 / ({0}.abs() + 1)", "{0}.detach()", "{0}.floor()", "{0}.round()", "{0} ** 3",
            "({0}.abs() + 1) ** -0.5", "{0}.expm1()", "{0}.abs().log1p()", "{0}.cos()",
        ]))  # fmt: skip
        return op.format(self.real())

    def binary(self) -> str:
        a, b = self.pick(), self.pick()
        if self.draw(st.booleans()):  # a shape that broadcasts
            shape = self.known[a].shape
            other = [n if self.draw(st.booleans()) else 1 for n in shape]
            b = self.weight(*other[self.draw(st.integers(0, len(other))) :])
        return self.draw(st.sampled_from([
            "{0} + {1}", "{0} - {1}", "{0} * {1}", "{0} / ({1} * {1} + 1)", "{1} - {0}",
            "gu.maximum({0}, {1})", "gu.minimum({0}, {1})", "{0} * {0} + {1}",
        ])).format(a, b)  # fmt: skip

    def compare(self) -> str:
        sign = self.draw(st.sampled_from(["<", "<=", ">", ">=", "==", "!="]))
        other = self.draw(st.sampled_from(["0", "0.5", "1"])) if self.draw(st.booleans()) else (
            self.pick()
        )  # fmt: skip
        return f"{self.pick()} {sign} {other}"

    def where(self) -> str:
        x = self.real()
        shape = self.known[x].shape
        test = self.pick(lambda t: t.shape == shape)
        other = self.draw(st.sampled_from(["0.0", "-1.0", f"-{x}"]))
        return f"gu.where({test} > 0.1, {x}, {other})"

    def matmul(self) -> str:
        x = self.pick(lambda t: t.dtype.kind == "f" and t.ndim >= 1)
        if x is None:
            return "x0"
        a = self.known[x]
        k, n = a.shape[-1], self.draw(LENGTHS)
        scale = f" * {1 / math.sqrt(k):.3g}"
        kind = self.draw(
            st.sampled_from(["x@w", "x@w.T", "x@v", "x.T@x", "x@x.T", "mT", "batch", "known"])
        )
        if kind == "x@w":
            return f"{x} @ {self.weight(k, n)}{scale}"
        if kind == "x@w.T":
            return f"{x} @ {self.weight(n, k)}.T{scale}"
        if kind == "x@v":
            return f"{x} @ {self.weight(k)}{scale}"
        if kind == "batch" and a.ndim > 2:
            return f"{x} @ {self.weight(*a.shape[:-2], k, n)}{scale}"
        if kind == "known":
            y = self.pick(
                lambda t: t.dtype.kind == "f" and t.ndim >= 1 and t.shape[-min(2, t.ndim)] == k
            )
            return f"{x} @ {y or self.weight(k, 3)}{scale}"
        if a.ndim < 2:
            return f"{self.weight(n, k)} @ {x}{scale}"
        root = f" * {1 / math.sqrt(a.shape[-2]):.3g}"
        if kind == "x.T@x":
            return f"{x}.mT @ {x}{root}"
        if kind == "mT":
            return f"{x}.mT @ {self.weight(a.shape[-2], n)}{root}"
        return f"{x} @ {x}.mT{scale}"

    def axes(self, ndim: int) -> str:
        if not ndim or self.draw(st.integers(0, 4)) == 0:
            return "None"
        axis = st.integers(0, ndim - 1)
        chosen = self.draw(st.lists(axis, min_size=1, max_size=ndim, unique=True))
        chosen = [a - ndim if self.draw(st.booleans()) else a for a in chosen]
        return str(chosen[0]) if len(chosen) == 1 else str(tuple(chosen))

    def reduction(self) -> str:
        x = self.real()
        kept = self.draw(st.booleans())
        op = self.draw(st.sampled_from(["sum", "mean", "amax", "amin", "sum", "logsumexp", "var"]))
        return f"{x}.{op}(axis={self.axes(self.known[x].ndim)}, keepdims={kept})"

    def of_any_reduction(self) -> str:
        x = self.pick()
        op = self.draw(st.sampled_from(["sum", "amax", "amin"]))
        return f"{x}.{op}(axis={self.axes(self.known[x].ndim)})"

    def along(self) -> str:
        x = self.pick(lambda t: t.dtype.kind == "f" and t.ndim > 0) or "x0"
        axis = self.draw(st.integers(-self.known[x].ndim, max(0, self.known[x].ndim - 1)))
        op = self.draw(st.sampled_from([
            "softmax({1})", "log_softmax({1})", "cumsum({1})", "argmax({1})", "argmin({1})",
            "argmax({1}, keepdims=True)",
        ]))  # fmt: skip
        return f"{x}.{op.format(x, axis)}"

    def slices(self) -> str:
        x = self.pick(lambda t: t.ndim > 0) or "x0"
        parts = []
        for n in self.known[x].shape:
            kind = self.draw(st.sampled_from([":", ":", "slice", "slice", "number", "back"]))
            a, b = sorted((self.draw(st.integers(0, n)), self.draw(st.integers(0, n))))
            step = self.draw(st.integers(1, 3))
            parts.append({
                ":": ":", "slice": f"{a}:{b}:{step}", "number": str(min(a, n - 1)),
                "back": f"::-{step}",
            }[kind])  # fmt: skip
        if self.draw(st.integers(0, 3)) == 0:
            parts.insert(self.draw(st.integers(0, len(parts))), "None")
        return f"{x}[{', '.join(parts)}]"

    def shapes(self) -> str:
        x = self.pick() or "x0"
        a = self.known[x]
        kind = self.draw(
            st.sampled_from(["transpose", "join", "split", "unsqueeze", "expand", "flip"])
        )
        if kind == "transpose":
            return f"{x}.permute({self.draw(st.permutations(range(a.ndim)))})"
        if kind == "join":
            at = self.draw(st.integers(0, max(0, a.ndim - 2)))
            joined = (*a.shape[:at], -1, *a.shape[at + 2 :])
            return f"{x}.reshape({joined})"
        if kind == "split":
            at = self.draw(st.integers(0, max(0, a.ndim - 1)))
            factors = [d for d in range(1, (a.shape[at] if a.ndim else 1) + 1)
                       if (a.shape[at] if a.ndim else 1) % d == 0]  # fmt: skip
            shape = (*a.shape[:at], self.draw(st.sampled_from(factors)), -1, *a.shape[at + 1 :])
            return f"{x}.reshape({shape})"
        if kind == "unsqueeze":
            return f"{x}.unsqueeze({self.draw(st.integers(0, a.ndim))})"
        if kind == "flip" and a.ndim:
            return f"{x}.flip({self.draw(st.integers(0, a.ndim - 1))})"
        more = (self.draw(st.integers(1, 5)), *a.shape)
        return f"{x}.expand({more})"

    def pieces(self) -> str:
        x = self.pick(lambda t: t.ndim > 0) or "x0"
        a = self.known[x]
        axis = self.draw(st.integers(0, max(0, a.ndim - 1)))
        kind = self.draw(st.sampled_from(["concatenate", "pad", "stack"]))
        if kind == "pad":
            return f"gu.pad({x}, {self.draw(st.integers(1, 3))}, 0.5)"
        others = [n for n, t in self.known.items()
                  if t.dtype == a.dtype and t.ndim == a.ndim
                  and all(i == axis or p == q for i, (p, q) in enumerate(
                      zip(t.shape, a.shape, strict=True)))]  # fmt: skip
        if kind == "stack":
            others = [n for n in others if self.known[n].shape == a.shape]
        chosen = self.draw(st.lists(st.sampled_from(others), min_size=1, max_size=3))
        return f"gu.{kind}([{', '.join([x, *chosen])}], {axis})"

    def indexed(self) -> str:
        x = self.pick(lambda t: t.ndim > 0) or "x0"
        a = self.known[x]
        if not a.ndim:
            return x
        axis = self.draw(st.integers(0, a.ndim - 1))
        n = a.shape[axis]
        before = ":, " * axis
        kind = self.draw(st.sampled_from(["fixed", "own", "argmax", "along", "labels"]))
        if kind == "fixed":
            places = self.draw(st.lists(st.integers(-n, n - 1), min_size=1, max_size=7))
            return f"{x}[{before}np.array({places})]"
        if kind == "own" and a.ndim >= 2 and a.dtype.kind == "f":
            return f"{x}[np.arange({a.shape[0]}), {x}.argmax(1)]" if a.ndim == 2 else (
                f"{x}[np.arange({a.shape[0]}), {x}[..., 0].argmax(1)]" if a.ndim == 3 else x
            )  # fmt: skip
        if kind == "along":
            return f"{x}.take_along_axis({x}.argmax({axis}, keepdims=True), {axis})"
        whole = self.pick(lambda t: t.dtype.kind == "i" and t.size > 0
                          and int(t.array.max()) < n and int(t.array.min()) >= -n)  # fmt: skip
        return f"{x}[{before}{whole}]" if whole else f"gu.one_hot(({x} > 0).cast(np.int64), 3)"

    def casts(self) -> str:
        x = self.pick() or "x0"
        dtype = self.draw(
            st.sampled_from(["int64", "int32", "float32", "float64", "bool", "uint8"])
        )
        if dtype == "uint8":
            return f"({x} * {x}).cast('uint8')"
        return f"{x}.cast({dtype!r})"

    def make(self) -> Case:
        """A whole step."""
        kinds = [
            self.unary, self.binary, self.binary, self.matmul, self.matmul, self.reduction,
            self.reduction, self.along, self.slices, self.shapes, self.pieces, self.indexed,
            self.compare, self.where, self.casts, self.of_any_reduction,
        ]  # fmt: skip
        for _ in range(self.draw(st.integers(1, 12))):
            self.add(self.draw(st.sampled_from(kinds))())
        if not self.case.lines:
            self.add("x0 * 2.0")
        self.finish()
        case, draw = self.case, self.draw
        case.threads = draw(st.integers(1, 4))
        case.tile = draw(st.one_of(st.none(), st.integers(1, case.rows)))
        case.width = draw(st.sampled_from([64, 64, 32, 16]))
        return case

    def shows_weight(self, name: str) -> bool:
        """Whether a value shares the memory of a parameter."""
        array = self.known[name].array
        return any(np.shares_memory(array, self.known[w].array) for w in self.case.weights)

    def finish(self) -> None:
        """Gradients, an update, and what is returned."""
        draw, case = self.draw, self.case
        made = [line.split(" = ")[0] for line in case.lines]
        differentiable = [n for n in made if self.known[n].requires_grad]
        made = [n for n in made if not self.shows_weight(n)]  # old entries or new ones?
        returned = draw(st.lists(st.sampled_from(made), max_size=3, unique=True)) if made else []
        if differentiable and draw(st.integers(0, 3)):
            one = st.sampled_from(differentiable)
            chosen = draw(st.lists(one, min_size=1, max_size=3, unique=True))
            terms = " + ".join(f"({n} * {n}.sin()).mean()" if self.known[n].dtype.kind == "f"
                               else f"{n}.mean()" for n in chosen)  # fmt: skip
            case.lines.append(f"loss = {terms}")
            wanted = [n for n in [*case.arguments, *case.weights] if self.known[n].requires_grad]
            case.optimizer = draw(st.sampled_from(["", "SGD", "Momentum", "Adam"]))
            used = any(name in line for line in case.lines for name in case.weights)
            if case.optimizer and used:
                case.lines += ["loss.backward()", "opt.step()"]
                gradients = [n for n in case.arguments if self.known[n].requires_grad]
                returned += [f"{n}.g" for n in gradients if draw(st.booleans())]
            else:
                case.optimizer = ""
                case.lines.append(f"grads = gu.grad(loss, [{', '.join(wanted)}])")
                returned.append("*grads")
            returned.append("loss")
        if not returned:
            returned = [self.pick() or "x0"]
        case.lines.append(f"return [{', '.join(returned)}]")


@st.composite
def cases(draw: Draw) -> Case:
    """Random steps."""
    return Maker(draw).make()


class TimeIsUp(KeyboardInterrupt):
    """Hypothesis lets it through at once."""


def look_for_failures(seed: int, end: float, count: Counter[str]) -> tuple[str, Exception] | None:
    """Check random steps until one is wrong, and find a small one that is: its text, what is wrong.

    Args:
        seed: of the steps.
        end: when to stop, by the monotonic clock.
        count: grows by what became of each step.

    """
    smallest: tuple[str, Exception] | None = None

    @hypothesis.seed(seed)
    @hypothesis.settings(
        max_examples=200, deadline=None, database=None,
        suppress_health_check=list(hypothesis.HealthCheck),
    )  # fmt: skip
    @hypothesis.given(cases())
    def look(case: Case) -> None:
        nonlocal smallest
        if time.monotonic() > end:
            raise TimeIsUp
        LAST.write_text(repr(case))  # if the process dies
        try:
            case.check()
            count["right"] += 1
        except Unsupported as error:
            count[f"left to NumPy: {error}"[:60]] += 1
        except Exception as error:
            count["wrong"] += 1
            if smallest is None or len(repr(case)) <= len(smallest[0]):
                smallest = repr(case), error
            raise

    with contextlib.suppress(Exception, TimeIsUp):
        look()
    return smallest


def main() -> int:
    """Look for failures until the time is up; the exit status says whether there are any."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--minutes", type=float, default=5)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    print(f"the step being checked is in {LAST}", flush=True)
    end = time.monotonic() + 60 * options.minutes
    count: Counter[str] = Counter()
    seed = 1000 * options.seed
    while time.monotonic() < end:
        found = look_for_failures(seed, end, count)
        if found is not None:
            case, error = found
            where = traceback.extract_tb(error.__traceback__)[-1]
            print(f"--- seed {seed}, {type(error).__name__} at {where.filename}:{where.lineno}")
            print(case, str(error)[:3000], sep="\n", flush=True)
        seed += 1
    print(dict(count))
    return int(count["wrong"] > 0)


if __name__ == "__main__":
    sys.exit(main())
