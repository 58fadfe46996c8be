"""Makes printed_steps.md: what groundup, JAX, PyTorch and tangent-ad print for the same models.

    pip install -e . torch==2.13.0 jax==0.10.2 tangent-ad==0.4.0 scipy==1.17.1
    python docs/printed_steps.py

Every tool gets the same numbers. Their losses and gradients have to agree, and each text that is
Python has to give them again when it is run, before the page is written.
"""

import ast
import builtins
import contextlib
import functools
import inspect
import io
import os
import platform
import re
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

os.environ["TANGENT_DISK_CACHE"] = "0"  # print the same at every run, leave no files behind

import jax
import jax.numpy as jnp
import numpy as np
import tangent
import torch
import torch.nn.functional as F
from functorch.compile import make_boxed_func
from scipy.special import logsumexp
from torch._dynamo.backends.debugging import aot_eager

import groundup as gu
from groundup import Tensor, nn, optim

PAGE = Path(__file__).with_suffix(".md")
PACKAGES = ("groundup", "numpy", "jax", "torch", "tangent-ad", "scipy")
BATCH, INPUTS, HIDDEN, CLASSES, LR = 64, 784, 50, 10, 0.1
RTOL, ATOL = 1e-5, 1e-6
COLUMNS = 110  # longer lines are cut on the page, and end in …
NAMES = ("x", "y", "w1", "b1", "w2", "b2")
Arrays = dict[str, Any]


@dataclass
class Printed:
    """What a tool printed, the numbers that it computed, and what can be counted."""

    tool: str
    code: str  # what the user writes
    text: str
    values: Arrays  # "loss", a gradient "dw1", an updated parameter "w1"
    names: list[str]  # the arguments in the printed text
    statements: tuple[int, ...]  # forward, backward, update
    operations: tuple[int, ...]
    given: Arrays
    own: bool = False  # the text runs with its own library imported
    alone: bool = field(init=False)  # the text runs with NumPy alone
    lines: int = field(init=False)
    widest: int = field(init=False)
    shapes: bool = field(init=False)
    python: bool = field(init=False)

    def __post_init__(self) -> None:
        lines = self.text.splitlines()
        self.lines = sum(bool(line.strip()) for line in lines)
        self.widest = max(map(len, lines))
        self.shapes = any(shape in self.text for shape in ("(n, 50)", "[64,50]", "[64, 50]"))
        self.python = is_python(self.text)
        self.alone = runs_alone(self.text, self.given)


# --- the lesson's model: linear, relu, linear, mean squared error; all five gradients


def groundup_lesson(a: Arrays) -> Printed:
    x = Tensor(a["x"], requires_grad=True)
    w1, b1, w2, b2 = (Tensor(a[k]) for k in ("w1", "b1", "w2", "b2"))
    mse = nn.Mse()
    model = nn.Sequential(nn.Lin(w1, b1), nn.Relu(), nn.Lin(w2, b2))

    def step(x, y):
        loss = mse(model(x), y)
        loss.backward()
        return loss, x.g, w1.g, b1.g, w2.g, b2.g

    program = gu.record(step, x, a["y"])
    keys = ("loss", "dx", "dw1", "db1", "dw2", "db2")
    eager = dict(zip(keys, (t.numpy() for t in step(x, a["y"])), strict=True))
    lines = "model = nn.Sequential(nn.Lin(w1, b1), nn.Relu(), nn.Lin(w2, b2))\nmse = nn.Mse()\n\n"
    code = lines + source(step) + "\n\nprint(gu.record(step, x, y))"

    def rerun(run: Callable[..., Any]) -> Arrays:
        return dict(zip(keys, run(**a), strict=True))

    return groundup_printed(a, code, str(program), eager, rerun)


def jax_lesson(a: Arrays) -> Printed:
    def loss_of(x, y, w1, b1, w2, b2):
        h = jax.nn.relu(x @ w1 + b1)
        out = h @ w2 + b2
        return jnp.mean((out - y) ** 2)

    step = jax.value_and_grad(loss_of, argnums=(0, 2, 3, 4, 5))
    loss, grads = step(*a.values())
    values = {"loss": loss, **dict(zip(("dx", "dw1", "db1", "dw2", "db2"), grads, strict=True))}
    code = source(loss_of) + (
        "\n\nstep = jax.value_and_grad(loss_of, argnums=(0, 2, 3, 4, 5))"
        "\nprint(jax.make_jaxpr(step)(x, y, w1, b1, w2, b2))"
    )
    return jax_printed(code, step, a, values)


def torch_lesson(a: Arrays) -> Printed:
    def loss_of(x, y, w1, b1, w2, b2):
        h = F.relu(x @ w1 + b1)
        out = h @ w2 + b2
        return F.mse_loss(out, y)

    return torch_printed(loss_of, a, ("x", "w1", "b1", "w2", "b2"))


def tangent_lesson(a: Arrays) -> Printed:
    def loss_of(x, y, w1, b1, w2, b2):
        h1 = x @ w1 + b1
        h2 = np.maximum(h1, 0)
        out = h2 @ w2 + b2
        return np.mean((out - y) ** 2)

    return tangent_printed(loss_of, a, (0, 2, 3, 4, 5))


# --- the classifier: 784-50-10, cross-entropy, a step of SGD


def groundup_classifier(a: Arrays) -> Printed:
    model = nn.Sequential(nn.Linear(INPUTS, HIDDEN), nn.Relu(), nn.Linear(HIDDEN, CLASSES))
    loss_of, opt = nn.CrossEntropy(), optim.SGD(model.parameters(), lr=LR)
    parameters = dict(zip(("w1", "b1", "w2", "b2"), model.parameters(), strict=True))
    for name, p in parameters.items():
        p.assign(a[name].copy())

    def step(x, y):
        loss = loss_of(model(x), y)
        loss.backward()
        opt.step()
        return loss

    loss = loss_of(model(a["x"]), a["y"]).numpy()
    program = gu.record(step, a["x"], a["y"])  # runs the step once
    eager = {name: p.numpy().copy() for name, p in parameters.items()}
    eager |= {f"d{name}": p.g.numpy() for name, p in parameters.items()}
    eager["loss"] = loss
    code = (
        "model = nn.Sequential(nn.Linear(784, 50), nn.Relu(), nn.Linear(50, 10))\n"
        "loss_of, opt = nn.CrossEntropy(), optim.SGD(model.parameters(), lr=0.1)\n\n"
        + source(step)
        + "\n\nprint(gu.record(step, x, y))"
    )

    def rerun(run: Callable[..., Any]) -> Arrays:
        given = {k: v.copy() for k, v in a.items()}
        return {"loss": run(**given), **{k: given[k] for k in parameters}}

    return groundup_printed(a, code, str(program), eager, rerun)


def jax_classifier(a: Arrays) -> Printed:
    def loss_of(params, x, y):
        w1, b1, w2, b2 = params
        h = jax.nn.relu(x @ w1 + b1)
        log_p = jax.nn.log_softmax(h @ w2 + b2)
        return -jnp.mean(jnp.sum(jax.nn.one_hot(y, 10) * log_p, axis=1))

    def step(x, y, *params):
        loss, grads = jax.value_and_grad(loss_of)(params, x, y)
        return loss, [p - 0.1 * g for p, g in zip(params, grads, strict=True)]

    x, y, *params = a.values()
    names = ("w1", "b1", "w2", "b2")
    loss, updated = step(x, y, *params)
    grads = jax.grad(loss_of)(tuple(params), x, y)
    values = {"loss": loss, **dict(zip(names, updated, strict=True))}
    values |= {f"d{k}": g for k, g in zip(names, grads, strict=True)}
    code = source(loss_of) + "\n\n" + source(step)
    code += "\n\nprint(jax.make_jaxpr(step)(x, y, w1, b1, w2, b2))"
    return jax_printed(code, step, a, values)


def torch_classifier(a: Arrays) -> Printed:
    def loss_of(x, y, w1, b1, w2, b2):
        h = F.relu(x @ w1 + b1)
        out = h @ w2 + b2
        return F.cross_entropy(out, y)

    return torch_printed(loss_of, a, ("w1", "b1", "w2", "b2"))


def tangent_classifier(a: Arrays) -> Printed:
    def loss_of(x, y, w1, b1, w2, b2):
        h1 = x @ w1 + b1
        h2 = np.maximum(h1, 0)
        out = h2 @ w2 + b2
        return np.mean(logsumexp(out, axis=1) - out[np.arange(len(y)), y])

    return tangent_printed(loss_of, a, (2, 3, 4, 5))


# --- how each tool prints, and what is counted in it


def groundup_printed(
    a: Arrays,
    code: str,
    text: str,
    eager: Arrays,
    rerun: Callable[[Callable[..., Any]], Arrays],
) -> Printed:
    found: dict[str, Any] = {}
    exec(text, found)  # an empty namespace: the text has to bring its own imports
    names = signature(text)
    again = rerun(found[re.search(r"def (\w+)\(", text)[1]])
    agree("groundup's text", again, {k: eager[k] for k in again})
    parts = phases(text, "# backward", "# update")
    return Printed("groundup", code, text, eager, names, *counted(text, parts), a, own=True)


def jax_printed(code: str, step: Callable[..., Any], a: Arrays, values: Arrays) -> Printed:
    jaxpr = jax.make_jaxpr(step)(*a.values())
    text = str(jaxpr)
    names = re.findall(r"(\w+):", text.split(". let")[0])
    count = [0, 0, 0]
    for phase in equations(jaxpr.jaxpr):
        count[phase] += 1
    again = jax.tree.leaves(jax.core.eval_jaxpr(jaxpr.jaxpr, jaxpr.consts, *a.values()))
    for got, value in zip(again, values.values(), strict=False):  # outputs come first in values
        np.testing.assert_allclose(got, value, rtol=RTOL, atol=ATOL)
    return Printed("JAX", code, text, values, names, tuple(count), tuple(count), a)


def equations(jaxpr: Any, outer: str = "") -> Iterator[int]:
    """The phase (0, 1, 2) of each equation; those of inner jaxprs instead of their call.

    JAX's name stack says `jvp` for what `value_and_grad` runs forward, `transpose(jvp)` for what
    it runs backward.
    """
    for eqn in jaxpr.eqns:
        stack = outer + "/" + str(eqn.source_info.name_stack)
        inner = [p for k, p in eqn.params.items() if k in ("jaxpr", "call_jaxpr")]
        for found in inner:
            yield from equations(getattr(found, "jaxpr", found), stack)
        if not inner:
            yield 1 if "transpose" in stack else 0 if "jvp" in stack else 2


def torch_printed(loss_of: Callable[..., Any], a: Arrays, wanted: tuple[str, ...]) -> Printed:
    given = {k: torch.from_numpy(v.copy()) for k, v in a.items()}
    for name in wanted:
        given[name].requires_grad_()
    texts: list[str] = []
    calls: list[tuple[Any, ...]] = []

    def keep(gm: Any, _: Any) -> Any:
        """Keeps what `aot_eager` compiles, and what it is called with."""
        texts.append(gm.print_readable(print_output=False))

        def run(*args: Any) -> Any:
            calls.append(args)
            return gm(*args)

        return make_boxed_func(run)

    backend = functools.partial(aot_eager, fw_compiler=keep, bw_compiler=keep)
    loss = torch.compile(loss_of, backend=backend)(*given.values())
    loss.backward()
    values = {"loss": loss.detach().numpy()}
    values |= {f"d{k}": given[k].grad.numpy() for k in wanted}
    forward, backward = (
        re.sub(r"# File: [^\n]*?([^/\n]+:\d+ in )", r"# File: \1", t.strip("\n")) for t in texts
    )

    order = [next(k for k, t in given.items() if t.data_ptr() == p.data_ptr()) for p in calls[0]]
    with torch.no_grad():
        out, *saved = module(forward)(*calls[0])
        grads = module(backward)(*saved, torch.ones_like(out))
    again = {f"d{k}": g.numpy() for k, g in zip(order, grads, strict=True) if g is not None}
    agree("PyTorch's text", again | {"loss": out.numpy()}, values)

    text = forward + "\n\n" + backward
    parts = [range(0, lines_of(forward)), range(lines_of(forward), lines_of(text) + 1), range(0)]
    code = (
        "from functorch.compile import make_boxed_func\n"
        "from torch._dynamo.backends.debugging import aot_eager\n\n"
    )
    code += source(loss_of) + (
        "\n\ndef show(gm, example_inputs):\n    gm.print_readable()\n"
        "    return make_boxed_func(gm.forward)\n\n"
        "backend = functools.partial(aot_eager, fw_compiler=show, bw_compiler=show)\n"
        "torch.compile(loss_of, backend=backend)(x, y, w1, b1, w2, b2).backward()"
    )
    names = signature(forward)[1:]  # without self
    return Printed("PyTorch", code, text, values, names, *counted(text, parts), a, own=True)


def module(text: str) -> Any:
    found: dict[str, Any] = {"torch": torch}
    exec(text, found)
    return found["GraphModule"]()


def tangent_printed(loss_of: Callable[..., Any], a: Arrays, wrt: tuple[int, ...]) -> Printed:
    with contextlib.redirect_stdout(io.StringIO()) as out, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        step = tangent.grad(loss_of, wrt=wrt, preserve_result=True, verbose=1)
    text = out.getvalue().strip("\n")
    text = text[text.index("def ") :]  # without verbose's two lines about its cache and its passes
    keys = [*(f"d{NAMES[i]}" for i in wrt), "loss"]
    values = dict(zip(keys, step(*a.values()), strict=True))
    found: dict[str, Any] = {"np": np, "numpy": np, "tangent": tangent, "logsumexp": logsumexp}
    exec(text, found)
    again = dict(zip(keys, found[text[4 : text.index("(")]](*a.values()), strict=True))
    agree("tangent-ad's text", again, values)
    code = source(loss_of) + (
        f"\n\ntangent.grad(loss_of, wrt={wrt}, preserve_result=True, verbose=1)"
    )
    parts = phases(text, "result = _return", "# update")
    names = [name for name in signature(text) if name != "b_return"]
    return Printed("tangent-ad", code, text, values, names, *counted(text, parts), a, own=True)


def runs_alone(text: str, a: Arrays) -> bool:
    """Whether a printed function runs where NumPy is all that there is to import."""

    def only_numpy(name: str, *args: Any) -> Any:
        if name != "numpy":
            raise ImportError(name)
        return np

    builtin = {**vars(builtins), "__import__": only_numpy}
    found: dict[str, Any] = {"np": np, "numpy": np, "__builtins__": builtin}
    try:
        exec(text, found)
        found[re.search(r"def (\w+)\(", text)[1]](*(v.copy() for v in a.values()))
    except (NameError, SyntaxError, ImportError):
        return False
    return True


def is_python(text: str) -> bool:
    try:
        ast.parse(text)
    except SyntaxError:
        return False
    return True


def signature(text: str) -> list[str]:
    """The arguments of the first function in a Python text, without keyword-only ones."""
    tree = ast.walk(ast.parse(text))
    function = next(node for node in tree if isinstance(node, ast.FunctionDef))
    return [arg.arg for arg in function.args.args]


def lines_of(text: str) -> int:
    return text.count("\n") + 1


def phases(text: str, backward: str, update: str) -> list[range]:
    """The line numbers of a Python text's forward, backward and update."""
    lines = [line.strip() for line in text.splitlines()]
    second = lines.index(backward) + 1
    third = lines.index(update) + 1 if update in lines else len(lines) + 1
    return [range(second), range(second, third), range(third, len(lines) + 1)]


def counted(text: str, parts: list[range]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Statements and operations of a Python text in each of three ranges of lines.

    A statement is an assignment of anything but None. Its operations are its calls, operators,
    comparisons, indexing and `.T`; not `len`, the sign of a number, or an index that picks an
    element of a tuple.
    """
    statements, operations = [0, 0, 0], [0, 0, 0]
    for node in ast.walk(ast.parse(text)):
        if not isinstance(node, ast.Assign | ast.AnnAssign | ast.AugAssign):
            continue
        if isinstance(node.value, ast.Constant) and node.value.value is None:
            continue
        phase = next(i for i, lines in enumerate(parts) if node.lineno in lines)
        statements[phase] += 1
        operations[phase] += isinstance(node, ast.AugAssign)
        operations[phase] += sum(map(is_operation, ast.walk(node.value)))
    return tuple(statements), tuple(operations)


def is_operation(node: ast.AST) -> bool:
    match node:
        case ast.Call(func=ast.Name(id="len")) | ast.UnaryOp(operand=ast.Constant()):
            return False
        case ast.Subscript(slice=ast.Constant()):
            return False
        case ast.Call() | ast.BinOp() | ast.UnaryOp() | ast.Compare() | ast.Subscript():
            return True
        case ast.Attribute(attr="T"):
            return True
    return False


def agree(what: str, got: Arrays, expected: Arrays) -> None:
    assert got.keys() >= expected.keys(), (what, got.keys(), expected.keys())
    for name, value in expected.items():
        np.testing.assert_allclose(
            np.asarray(got[name]),
            np.asarray(value),
            rtol=RTOL,
            atol=ATOL,
            err_msg=f"{what}: {name}",
        )


def source(function: Callable[..., Any]) -> str:
    return inspect.cleandoc("\n" + inspect.getsource(function))


# --- the page


def arrays(outputs: int) -> Arrays:
    """Inputs, targets (labels where there are several outputs) and parameters."""
    rng = np.random.default_rng(0)

    def normal(*shape: int) -> Any:
        return rng.standard_normal(shape).astype(np.float32)

    x = normal(BATCH, INPUTS)
    y = normal(BATCH, 1) if outputs == 1 else rng.integers(0, outputs, BATCH)
    w1, b1 = normal(INPUTS, HIDDEN) / np.float32(28), normal(HIDDEN)
    w2, b2 = normal(HIDDEN, outputs) / np.float32(7), normal(outputs)
    return dict(zip(NAMES, (x, y, w1, b1, w2, b2), strict=True))


def fenced(text: str, language: str) -> str:
    lines = (x if len(x) <= COLUMNS else x[: COLUMNS - 1].rstrip() + "…" for x in text.splitlines())
    return f"```{language}\n" + "\n".join(lines) + "\n```\n"


def yes(value: bool) -> str:
    return "yes" if value else "no"


def both(first: Any, second: Any) -> str:
    return str(first) if first == second else f"{first}, {second}"


def table(lesson: list[Printed], classifier: list[Printed]) -> str:
    def kept(p: Printed) -> str:
        return f"{sum(name in p.names for name in NAMES)} of {len(NAMES)}"

    facts: dict[str, Callable[[Printed], Any]] = {
        "lines that are not blank": lambda p: p.lines,
        "longest line, columns": lambda p: p.widest,
        "statements, forward": lambda p: p.statements[0],
        "statements, backward": lambda p: p.statements[1],
        "statements, update": lambda p: p.statements[2],
        "operations, forward": lambda p: p.operations[0],
        "operations, backward": lambda p: p.operations[1],
        "operations, update": lambda p: p.operations[2],
        "`x y w1 b1 w2 b2` keep their names": kept,
        "shapes shown": lambda p: yes(p.shapes),
        "update step included": lambda p: yes(p.statements[2] > 0),
        "is Python source": lambda p: yes(p.python),
        "runs as printed, NumPy alone": lambda p: yes(p.alone),
        "runs as printed, its own library imported": lambda p: yes(p.own),
    }
    rows = ["| | " + " | ".join(p.tool for p in lesson) + " |", "|---|" + "--:|" * len(lesson)]
    for name, fact in facts.items():
        cells = (both(fact(p), fact(q)) for p, q in zip(lesson, classifier, strict=True))
        rows.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(rows) + "\n"


INTRO = """
# What a training step prints: groundup, JAX, PyTorch, tangent-ad

The same two models with the same numbers, batch {batch}, float32: the lesson's model (784-50-1,
mean squared error, the gradients of the input and of all four parameters) and a classifier
(784-50-10, cross-entropy, SGD). Each block is a tool's own output, unedited but for three things:
lines over {columns} columns are cut and end in …, and the folders in PyTorch's comments and
tangent-ad's two lines about its cache and its passes are left out.

Before this page was written, the losses and gradients of all four, and the updated parameters of
the two that update, were found to agree (rtol {rtol:g}, atol {atol:g}). Each text that is Python
was run, and gave the same numbers again.

Made with Python {python}, {versions}.
To make it again, in a fresh virtual environment (a CPU build of torch will do):

    pip install -e . {pins}
    python docs/printed_steps.py

## Counted

Where a cell has two entries, they are the lesson's model and the classifier.

{table}
- A statement is an assignment; in a jaxpr it is an equation, and a call of an inner jaxpr counts as
  the equations in it. JAX's name stack tells forward from backward.
- An operation is a call, operator, comparison, indexing or `.T` in a statement:
  `loss = (diff * diff).mean()` is one statement and two operations. They differ in size: PyTorch's
  `mse_loss_backward` is one. Checks (`assert`) are not counted.
- The forward of JAX and of PyTorch includes work for backward: `gt` for relu, the transposes `t`.
- The lesson's model has no update. For the classifier, the interfaces of PyTorch and tangent-ad
  that are used here differentiate a loss, and the update is left to the user.
{note}"""

REMARKS = {
    ("groundup", 0): """
Inputs and parameters have the user's names, a gradient is `d` and a name, and a comment gives each
line's shape and layer; `n` is the batch size. The lines of `# backward` are the layers' own `bwd`,
so `dw1 = x.T @ dh1` can be read against the formula. The text runs with NumPy alone.
""",
    ("JAX", 0): """
Every equation has its type and shape, and nothing is implied: the broadcast of a bias, the
transpose of a product and the zero in relu's gradient are equations of their own. Variables are
letters in order, and the text does not say where forward ends. `pretty_print(name_stack=True)`
marks the backward equations, and `pretty_print(source_info=True)` adds the user's lines.
""",
    ("PyTorch", 0): """
Two graphs: forward returns the loss and what backward needs, and backward takes that. Comments
quote the user's line above its operations, in backward too; inputs are `primals_1` and so on.
`threshold_backward` and `mse_loss_backward` name a kernel and do not show its formula.
`;  mm = None` frees memory.
""",
    ("tangent-ad", 0): """
The user's own lines come first, one operation each, under the user's names; a gradient is `b` and a
name, and comments quote lines of the user's (the first one stands above the gradient of the mean,
too). `tangent.unbroadcast` sums where NumPy had broadcast, whatever the shapes are at run time, so
the text serves every shape and shows none.
""",
    ("groundup", 1): """
The layers have the same lines. The softmax and its gradient `(p - target) / len(y)` are spelled
out, and so is SGD. A model's parameters have paths for names: `layers.0.w` is printed as `w1`.
""",
    ("JAX", 1): """
JAX stages the whole step, with an update that returns new parameters. `log_softmax` is an inner
jaxpr under its own name, once forward and once backward, so the structure of the loss stays
visible. `log_p[jnp.arange(n), y]` instead of `one_hot` prints more: a gather, a scatter-add and the
handling of negative indices.
""",
    ("PyTorch", 1): """
The loss is two kernels forward and two backward: short, without their formulas. The optimizer is
not in these graphs: `torch.compile` of `opt.step` makes a graph of its own.
""",
    ("tangent-ad", 1): """
The gradient of `logsumexp` is a function of tangent's, and `add_grad_at_index` undoes the indexing.
A rule's result gets a temporary name and is then copied to the gradient's name, which is where many
of the statements come from.
""",
}

OTHERS = """
## What the others do that groundup does not

- **JAX** stages any function of arrays, not only training steps. A jaxpr can hold control flow
  (`cond`, `scan`, `while`) and be transformed again (`vmap`, `jit`, higher derivatives), and XLA
  fuses and compiles it for CPUs, GPUs and TPUs.
- **PyTorch** runs what it cannot capture as ordinary Python, and keeps sizes symbolic on request
  (`dynamic=True`). Its graphs are what Inductor fuses into C++ or Triton kernels, on GPUs too.
- **tangent-ad** reads a function's source, not a run of it: loops and branches stay loops and
  branches in the gradient. Its documentation lists functions of JAX, TensorFlow and PyTorch as
  well, and user code inserted into the backward pass.
- groundup records one run of a step made of its own operations, on a CPU. A branch on a tensor's
  value is an error there.

Google's own `tangent` 0.1.9 (2017), of which tangent-ad is a fork, did not run on Python 3.11. As
pip installs it, `import tangent` ends in `AttributeError: module 'gast' has no attribute 'Num'`
(gast 0.7.0). With gast 0.2.2 it ends in `AttributeError: module 'tensorflow' has no attribute
'to_float'` (the nightly TensorFlow 2.23 that pip chooses for it), and without TensorFlow in
`ModuleNotFoundError`.
"""


def page(lesson: list[Printed], classifier: list[Printed]) -> str:
    versions = {name: version(name).split("+")[0] for name in PACKAGES}
    widened = {
        p.tool
        for p in lesson + classifier
        for value in p.values.values()
        if np.asarray(value).dtype == np.float64
    }
    intro = INTRO.format(
        batch=BATCH,
        columns=COLUMNS,
        rtol=RTOL,
        atol=ATOL,
        python=platform.python_version(),
        versions=", ".join(f"{name} {v}" for name, v in versions.items()),
        pins=" ".join(f"{name}=={versions[name]}" for name in PACKAGES[2:]),
        table=table(lesson, classifier),
        note=f"- Some gradients came as float64: {', '.join(sorted(widened))}.\n"
        if widened
        else "",
    )
    parts = [intro.lstrip("\n")]
    both_models = (("The lesson's model", lesson), ("The classifier", classifier))
    for i, (title, printed) in enumerate(both_models):
        parts.append(f"## {title}\n")
        for p in printed:
            parts += [
                f"### {p.tool}\n",
                fenced(p.code, "python"),
                "prints\n",
                fenced(p.text, "python" if p.python else ""),
                REMARKS[p.tool, i].strip() + "\n",
            ]
    return "\n".join([*parts, OTHERS.strip() + "\n"])


def main() -> None:
    print("Python", platform.python_version(), *(f"{name} {version(name)}" for name in PACKAGES))
    one, ten = arrays(1), arrays(CLASSES)
    lesson = [f(one) for f in (groundup_lesson, jax_lesson, torch_lesson, tangent_lesson)]
    classifier = [
        f(ten) for f in (groundup_classifier, jax_classifier, torch_classifier, tangent_classifier)
    ]
    for first, *rest in (lesson, classifier):
        for other in rest:
            shared = {k: v for k, v in first.values.items() if k in other.values}
            assert shared.keys() >= {"loss", "dw1", "db1", "dw2", "db2"}, (other.tool, shared)
            agree(f"{other.tool} and {first.tool}", other.values, shared)
            print(f"{other.tool} agrees with {first.tool}: {' '.join(shared)}")
    text = page(lesson, classifier)
    for private in (str(Path.home()), str(PAGE.parent.parent), "site-packages", "/tmp"):
        assert private not in text, private
    PAGE.write_text(text)
    print(f"{PAGE.name}: {lines_of(text)} lines")


if __name__ == "__main__":
    main()
