"""gu.check beside torch.autograd.gradcheck and JAX's check_grads, on the same backward passes.

    OMP_NUM_THREADS=1 python benchmarks/checks.py [--only NAME ...] [--file PATH ...] [--cases]
                                                  [--json] [--limit SECONDS]

The cases are those of tests/check/corpus: backward passes with one planted mistake each, and right
ones. Every tool is called as its manual says: gu.check and gradcheck with their defaults,
check_grads with order=1, modes=["rev"], all in float64. gradcheck gets a torch.autograd.Function,
and check_grads a jax.custom_vjp, whose forward and backward call the case's own through NumPy;
a case that is a torch.autograd.Function goes to gradcheck as it is. Nothing is done for kinks.

A mistake is found if the tool objects to the gradients, or if the case's backward raises. Other
exceptions count as cases that could not be run. Times are of one call each, after a first one;
that of 784-50-10 (batch 64, with its loss, all gradients) comes from a process of its own that is
given --limit seconds, where gradcheck and check_grads differentiate a model of their own library.
One thread is best for all: where cores are shared, threads that wait cost more than the arithmetic.
"""

import argparse
import importlib
import json
import re
import subprocess
import sys
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from importlib import metadata
from importlib.util import find_spec, module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from common import duration, machine, median
from rich.console import Console
from rich.table import Table

import groundup as gu
from groundup import nn
from groundup.check.adapters.pairs import subject_for
from groundup.check.subjects import Subject
from groundup.ops.base import Array

FOLDER = Path(__file__).parents[1] / "tests" / "check"
FILES = ("modules_layers", "modules_losses", "modules_models", "pairs_layers", "pairs_models",
         "torch_functions", "right_modules", "right_pairs")  # fmt: skip
OURS, TORCH, JAX = "gu.check", "gradcheck", "check_grads"
FAST = "gradcheck, fast_mode"  # of the model alone
NEEDS = {TORCH: "torch", JAX: "jax"}
FOUND, PASSED, NOT_RUN = "found", "passed", "not run"
CORPUS, MODEL = "corpus", "784-50-10"

# How PyTorch and JAX object to a gradient before their checks see it.
OBJECTIONS = re.compile(
    r"returned an (invalid|incorrect number of) gradient|modified by an inplace operation"
    r"|Custom VJP bwd rule must produce"
)


@dataclass(frozen=True)
class Verdict:
    """What a tool said about a case."""

    outcome: str  # FOUND: it objects; PASSED; NOT_RUN
    seconds: float
    why: str = ""  # the exception's beginning
    kinds: tuple[str, ...] = ()  # the mistakes that gu.check names, the likeliest first
    reshaped: bool = False  # whether PyTorch summed a gradient of a wrong shape into a right one


@dataclass(frozen=True)
class Planted:
    """A case, and where it comes from."""

    group: str  # CORPUS or a held-out file
    file: str
    case: Any

    @property
    def is_wrong(self) -> bool:
        return bool(self.case.kind or self.case.wrong)

    def named(self, verdict: Verdict, among: int) -> bool:
        """Whether the planted mistake is one of the first that a report names."""
        kinds = {self.case.kind, *self.case.also}
        return not kinds.isdisjoint(verdict.kinds[:among])


Verdicts: TypeAlias = dict[str, Verdict]  # by tool


# The tools. Each makes its own kind of subject, and returns the call that is timed


class Refused(Exception):
    """The backward of a case raised."""


@contextmanager
def as_refusal() -> Iterator[None]:
    try:
        yield
    except Exception as error:
        raise Refused(f"{type(error).__name__}: {error}") from error


class Backward:
    """The forward and backward of a subject, on arrays in the order of its values."""

    def __init__(self, subject: Subject):
        self.subject = subject
        self.names = list(subject.values)
        self.arrays = [value.copy() for value in subject.values.values()]
        self.reshaped = False

    def forward(self, arrays: Sequence[Any]) -> list[Array]:
        return [np.array(out) for out in self.subject.forward(self._values(arrays))]

    def backward(self, arrays: Sequence[Any], cotangents: Sequence[Any]) -> list[Array | None]:
        with as_refusal():
            made = self.subject.backward(
                self._values(arrays), [np.array(c, np.float64) for c in cotangents]
            )
            found = [made.get(name) for name in self.names]
            given = [None if g is None else np.array(g, np.float64) for g in found]
        pairs = zip(given, self.arrays, strict=True)
        self.reshaped |= any(g is not None and g.shape != v.shape for g, v in pairs)
        return given

    def _values(self, arrays: Sequence[Any]) -> dict[str, Array]:
        return {n: np.array(a, np.float64) for n, a in zip(self.names, arrays, strict=True)}


def ours(made: Any) -> Callable[[], Verdict]:
    def run() -> Verdict:
        report = gu.check(made.subject, *made.inputs, **made.options)
        kinds = tuple(finding.kind for finding in report.findings)
        why = ", ".join(f"{row.name}: {row.verdict}" for row in report.rows if not row.ok)
        return Verdict(PASSED if report.ok else FOUND, 0.0, why, kinds)

    return run


def torchs(made: Any) -> Callable[[], Verdict]:
    import torch

    function: Any
    own: Backward | None = None
    torch.manual_seed(0)
    if isinstance(made.subject, type) and issubclass(made.subject, torch.autograd.Function):
        function, inputs = watched(made.subject), [torch_input(value) for value in made.inputs]
    else:
        own = Backward(subject_for(made.subject, made.inputs, made.options.get("backward")))
        function, inputs = torch_function(own), [torch_input(array) for array in own.arrays]

    def run() -> Verdict:
        torch.autograd.gradcheck(function.apply, inputs)
        return Verdict(PASSED, 0.0, reshaped=own is not None and own.reshaped)

    return run


def torch_input(value: Any) -> Any:
    """A tensor, of float64 and differentiated if it is of floating-point numbers."""
    import torch

    if isinstance(value, np.ndarray | np.generic):
        value = torch.from_numpy(np.array(value))
    if isinstance(value, torch.Tensor) and value.is_floating_point():
        return value.detach().double().clone().requires_grad_()
    return value


def torch_function(own: Backward) -> Any:
    import torch

    class Case(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, *tensors: Any) -> Any:
            ctx.save_for_backward(*tensors)
            outs = own.forward([t.detach().numpy() for t in tensors])
            return tuple(torch.from_numpy(out) for out in outs)

        @staticmethod
        def backward(ctx: Any, *cotangents: Any) -> Any:
            saved = [t.detach().numpy() for t in ctx.saved_tensors]
            found = own.backward(saved, [c.numpy() for c in cotangents])
            return tuple(None if g is None else torch.from_numpy(g) for g in found)

    return Case


def watched(function: Any) -> Any:
    """The same torch.autograd.Function, with what its backward raises as Refused."""

    def backward(ctx: Any, *cotangents: Any) -> Any:
        with as_refusal():
            return function.backward(ctx, *cotangents)

    return type(function.__name__, (function,), {"backward": staticmethod(backward)})


def jaxs(made: Any) -> Callable[[], Verdict]:
    import jax
    import jax.numpy as jnp

    check_grads = jax_check()

    own = Backward(subject_for(made.subject, made.inputs, made.options.get("backward")))

    @jax.custom_vjp  # nothing here is traced, so NumPy may be called
    def function(*arrays: Any) -> Any:
        return tuple(jnp.asarray(out) for out in own.forward(arrays))

    def forward(*arrays: Any) -> Any:
        return function(*arrays), arrays

    def backward(arrays: Any, cotangents: Any) -> Any:
        found = own.backward(arrays, cotangents)
        return tuple(None if g is None else jnp.asarray(g) for g in found)

    function.defvjp(forward, backward)

    def run() -> Verdict:
        check_grads(function, own.arrays, order=1, modes=["rev"])
        return Verdict(PASSED, 0.0)

    return run


TOOLS: dict[str, Callable[[Any], Callable[[], Verdict]]] = {OURS: ours, TORCH: torchs, JAX: jaxs}


def present() -> list[str]:
    """The tools whose libraries are installed, ready to be called."""
    names = [name for name in TOOLS if name == OURS or find_spec(NEEDS[name])]
    if JAX in names:
        jax_in_float64()
    return names


def jax_in_float64() -> Any:
    jax = importlib.import_module("jax")
    jax.config.update("jax_enable_x64", True)
    return jax


def jax_check() -> Any:
    return importlib.import_module("jax.test_util").check_grads


def judge(tool: str, case: Any) -> Verdict:
    """What a tool says about a case, made anew from the same random numbers."""
    gu.manual_seed(0)
    start = time.perf_counter()
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        run = None
        try:
            run = TOOLS[tool](case.make(np.random.default_rng(0)))
            start = time.perf_counter()
            made = run()
        except Exception as error:
            why = f"{type(error).__name__}: {error}"[:300]
            # gu.check says in its report what it objects to.
            found = tool != OURS and run is not None and objects(error)
            return Verdict(FOUND if found else NOT_RUN, time.perf_counter() - start, why)
        seconds = time.perf_counter() - start
    return Verdict(made.outcome, seconds, made.why, made.kinds, made.reshaped)


def objects(error: Exception) -> bool:
    """Whether an exception says that gradients are wrong."""
    if isinstance(error, AssertionError | Refused) or type(error).__name__ == "GradcheckError":
        return True
    return OBJECTIONS.search(str(error)) is not None


# The cases


def cases(files: Sequence[Path]) -> list[Planted]:
    """The corpus, and held-out files."""
    if str(FOLDER) not in sys.path:
        sys.path.insert(0, str(FOLDER))  # where the cases find `corpus.case`
    found = [
        Planted(CORPUS, name, case)
        for name in FILES
        for case in importlib.import_module(f"corpus.{name}").corpus.cases
    ]
    for path in files:
        spec = spec_from_file_location(path.stem, path)
        if spec is None or spec.loader is None or not path.exists():
            raise SystemExit(f"{path}: there is no such Python file")
        module = module_from_spec(spec)
        spec.loader.exec_module(module)
        found += [Planted(path.name, path.stem, case) for case in module.corpus.cases]
    return found


def chosen_from(planted: Sequence[Planted], only: Sequence[str] | None) -> list[Planted]:
    """The cases whose name, file or kind of mistake holds one of the words."""
    if only is None:
        return list(planted)
    words = [word.lower() for word in only]
    return [
        p for p in planted
        if any(w in text.lower() for w in words for text in (p.case.name, p.file, p.case.kind))
    ]  # fmt: skip


# The model


def time_model(tool: str) -> tuple[float, bool]:
    """Seconds of one check of the model, after a small one, and whether it passed."""
    rng = np.random.default_rng(0)
    for rows, *sizes in ((3, 4, 3, 2), (64, 784, 50, 10)):
        weights = [
            rng.normal(size=shape) / np.sqrt(shape[0])
            for shape in (sizes[:2], sizes[1:2], sizes[1:], sizes[2:])
        ]
        x, y = rng.normal(size=(rows, sizes[0])), rng.integers(0, sizes[2], rows)
        check = MODELS[tool](x, y, weights)
        start = time.perf_counter()
        try:
            check()
            passed = True
        except Exception as error:
            if not objects(error):
                raise
            passed = False
        seconds = time.perf_counter() - start
    return seconds, passed


class Classifier(nn.Module):
    def __init__(self, weights: Sequence[Array]):
        (i, h), (_, o) = weights[0].shape, weights[2].shape
        self.layers = nn.Sequential(nn.Linear(i, h), nn.Relu(), nn.Linear(h, o))
        self.loss = nn.CrossEntropy()
        for parameter, value in zip(self.layers.parameters(), weights, strict=True):
            parameter.data[...] = value

    def forward(self, x: Any, y: Any) -> Any:
        return self.loss(self.layers(x), y)


def our_model(x: Array, y: Array, weights: Sequence[Array]) -> Callable[[], Any]:
    model = Classifier(weights)
    return lambda: gu.check(model, x, y).assert_ok()


def torch_model(
    x: Array, y: Array, weights: Sequence[Array], fast_mode: bool = False
) -> Callable[[], Any]:
    import torch

    labels = torch.from_numpy(y)

    def loss(x: Any, w1: Any, b1: Any, w2: Any, b2: Any) -> Any:
        hidden = torch.addmm(b1, x, w1).relu()
        return torch.nn.functional.cross_entropy(torch.addmm(b2, hidden, w2), labels)

    inputs = [torch_input(value) for value in (x, *weights)]
    return lambda: torch.autograd.gradcheck(loss, inputs, fast_mode=fast_mode)


def fast_torch_model(x: Array, y: Array, weights: Sequence[Array]) -> Callable[[], Any]:
    return torch_model(x, y, weights, fast_mode=True)


def jax_model(x: Array, y: Array, weights: Sequence[Array]) -> Callable[[], Any]:
    jax, check_grads = jax_in_float64(), jax_check()

    def loss(x: Any, w1: Any, b1: Any, w2: Any, b2: Any) -> Any:
        logits = jax.nn.relu(x @ w1 + b1) @ w2 + b2
        return -jax.nn.log_softmax(logits)[np.arange(len(y)), y].mean()

    return lambda: check_grads(loss, (x, *weights), order=1, modes=["rev"])


MODELS: dict[str, Callable[[Array, Array, Sequence[Array]], Callable[[], Any]]] = {
    OURS: our_model, TORCH: torch_model, FAST: fast_torch_model, JAX: jax_model
}  # fmt: skip


def model_time(tool: str, limit: float) -> str:
    """The same from a process of its own."""
    command = [sys.executable, __file__, "--child", tool]
    try:
        ran = subprocess.run(command, capture_output=True, text=True, timeout=limit)
    except subprocess.TimeoutExpired:
        return f"> {limit:g} s"
    if ran.returncode:
        lines = ran.stderr.strip().splitlines()
        return f"failed: {lines[-1][:80] if lines else ran.returncode}"
    seconds, passed = json.loads(ran.stdout)
    return duration(seconds) + ("" if passed else ", false alarm")


# Printing


def summary(planted: Sequence[Planted], verdicts: Sequence[Verdicts], tool: str) -> dict[str, Any]:
    """The numbers of a row: a tool's on one group of cases."""
    pairs = [(p, v[tool]) for p, v in zip(planted, verdicts, strict=True)]
    wrong = [(p, v) for p, v in pairs if p.is_wrong]
    right = [(p, v) for p, v in pairs if not p.is_wrong]
    seconds = [v.seconds for _, v in pairs]
    missed = [p for p, v in wrong if v.outcome == PASSED]
    return {
        "tool": tool,
        "wrong": len(wrong),
        "found": sum(v.outcome == FOUND for _, v in wrong),
        "first": sum(p.named(v, 1) for p, v in wrong) if tool == OURS else None,
        "first three": sum(p.named(v, 3) for p, v in wrong) if tool == OURS else None,
        "right": len(right),
        "false alarms": [p.case.name for p, v in right if v.outcome == FOUND],
        "not run": [p.case.name for p, v in pairs if v.outcome == NOT_RUN],
        "missed": [p.case.name for p in missed],
        "missed by kind": dict(Counter(p.case.kind for p in missed).most_common()),
        "missed, wrong shape summed": [p.case.name for p, v in wrong if v.reshaped],
        "median": median(seconds),
        "total": sum(seconds),
    }


def part(count: int, of: int) -> str:
    return f"{count}/{of} {100 * count / of:.1f}%" if of else "-"


def main_table(rows: Sequence[tuple[str, dict[str, Any]]], models: Mapping[str, str]) -> Table:
    table = Table(title="gradient checkers on the same cases", title_justify="left")
    for column in ("cases", "checker", "found", "named first", "in first three",
                   "false alarms", "not run", "median", "total", MODEL):  # fmt: skip
        table.add_column(column, justify="left" if column in ("cases", "checker") else "right")
    for group, row in rows:
        wrong, right, tool = row["wrong"], row["right"], row["tool"]
        table.add_row(
            group,
            tool,
            part(row["found"], wrong),
            "-" if row["first"] is None else part(row["first"], wrong),
            "-" if row["first three"] is None else part(row["first three"], wrong),
            f"{len(row['false alarms'])}/{right}" if right else "-",
            str(len(row["not run"])),
            duration(row["median"]),
            duration(row["total"]),
            models.get(tool, "") if group == CORPUS else "",
            end_section=tool == JAX,
        )
    return table


def cases_table(
    planted: Sequence[Planted], verdicts: Sequence[Verdicts], tools: Sequence[str]
) -> Table:
    table = Table(title="cases", title_justify="left")
    for column in ("file", "case", "mistake", *tools, "gu.check names"):
        table.add_column(column)
    for p, said in zip(planted, verdicts, strict=True):
        cells = []
        for tool in tools:
            outcome = said[tool].outcome
            fine = outcome == (FOUND if p.is_wrong else PASSED)
            cells.append(f"[{'green' if fine else 'bold red'}]{outcome}[/]")
        names = " ".join(said[OURS].kinds[:3])
        table.add_row(p.file, p.case.name, p.case.kind, *cells, names)
    return table


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--only", nargs="+", metavar="NAME",
                        help="cases whose name, file or mistake holds a NAME; or 784")  # fmt: skip
    parser.add_argument("--file", nargs="+", type=Path, default=[], metavar="PATH",
                        help="held-out cases: files with a corpus")  # fmt: skip
    parser.add_argument("--cases", action="store_true", help="list each case")
    parser.add_argument("--json", action="store_true", help="print everything as JSON instead")
    parser.add_argument("--limit", type=float, default=60, help="seconds for the model: 60")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    return parser.parse_args()


def main() -> None:
    args = arguments()
    if args.child:
        print(json.dumps(time_model(args.child)))
        return
    tools = present()
    everything = cases(args.file)
    chosen = chosen_from(everything, args.only)
    with_model = args.only is None or any(word in MODEL for word in args.only)
    if not chosen and not with_model:
        raise SystemExit(f"--only {' '.join(args.only)}: there is no such case")

    for tool in tools:  # what is loaded and compiled at a first call is in no time
        judge(tool, everything[0].case)
    verdicts: list[Verdicts] = []
    for i, planted in enumerate(chosen):
        if i % 50 == 0:
            print(f"... {i} of {len(chosen)}", file=sys.stderr)
        verdicts.append({tool: judge(tool, planted.case) for tool in tools})
    timed = [tool for tool in MODELS if tool in tools or (tool == FAST and TORCH in tools)]
    models = {tool: model_time(tool, args.limit) for tool in timed if with_model}

    rows = []
    for group in dict.fromkeys(p.group for p in chosen):
        own = [i for i, p in enumerate(chosen) if p.group == group]
        members, said = [chosen[i] for i in own], [verdicts[i] for i in own]
        rows += [(group, summary(members, said, tool)) for tool in tools]
    packages = ("groundup", *(NEEDS[tool] for tool in tools if tool != OURS))
    versions = ", ".join(f"{name} {metadata.version(name)}" for name in packages)
    if args.json:
        listed = [
            {"group": p.group, "file": p.file, "name": p.case.name, "kind": p.case.kind,
             "also": p.case.also, "verdicts": {tool: asdict(v) for tool, v in said.items()}}
            for p, said in zip(chosen, verdicts, strict=True)
        ]  # fmt: skip
        print(json.dumps({
            "machine": machine(), "versions": versions, "model": models,
            "rows": [{"group": group, **row} for group, row in rows], "cases": listed,
        }))  # fmt: skip
        return
    console = Console(width=None if sys.stdout.isatty() else 150)
    console.print(machine(), versions, sep="\n", highlight=False)
    for tool in TOOLS.keys() - tools:
        console.print(f"{tool} is left out: {NEEDS[tool]} is not installed", highlight=False)
    if args.cases and chosen:
        console.print(cases_table(chosen, verdicts, tools))
    if rows:
        console.print(main_table(rows, models))
    for group, row in rows:
        if row["missed"] or row["false alarms"]:
            print_misses(console, group, row)
    for tool, text in models.items():
        console.print(f"{MODEL} under {tool}: {text}", highlight=False)


def print_misses(console: Console, group: str, row: Mapping[str, Any]) -> None:
    kinds = ", ".join(f"{kind} {count}" for kind, count in row["missed by kind"].items())
    parts = [f"missed: {kinds}"] if kinds else []
    if summed := len(row["missed, wrong shape summed"]):
        parts.append(f"{summed} of these have a wrong shape that PyTorch sums into a right one")
    if row["false alarms"]:
        parts.append(f"false alarms: {', '.join(row['false alarms'])}")
    console.print(f"{group}, {row['tool']}: {'; '.join(parts)}", highlight=False)


if __name__ == "__main__":
    main()
