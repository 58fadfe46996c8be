"""`groundup check`: what is found in a file, the inputs that are made, and the exit codes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import groundup as package
from groundup.cli.checkable import find, load
from groundup.cli.guess import NoInputs, inputs_for

HEAD = """
import numpy as np
from groundup.nn import Linear, Module, Parameter, Relu, Sequential
"""
DENSE = """
class Dense(Module):
    def __init__(self, n_in, n_out):
        self.w = Parameter(np.random.normal(size=(n_in, n_out)))
        self.b = Parameter(np.zeros(n_out))
    def forward(self, inp): return inp @ self.w + self.b
    def bwd(self, out, inp):
        inp.g = out.g @ self.w.T
        self.w.g = inp.T @ out.g
        self.b.g = out.g.sum(0)
"""
WRONG = """
class Averaged(Module):
    def __init__(self, rng): self.w = Parameter(rng.normal(size=(4, 3)))
    def forward(self, inp): return inp @ self.w
    def bwd(self, out, inp):
        inp.g = out.g @ self.w.T
        self.w.g = inp.T @ out.g / len(inp)
"""
STRANGE = """
class Strange(Module):
    def __init__(self, config): self.factor = config["factor"]
    def forward(self, inp): return inp * self.factor
    def bwd(self, out, inp): inp.g = out.g * self.factor
"""
PAIR = """
def affine_forward(x, w, b): return x @ w + b, (x, w)
def affine_backward(dout, cache):
    x, w = cache
    return dout @ w.T, x.T @ dout, dout.sum(0)
"""


@pytest.fixture(autouse=True)
def _own_modules():
    """What a test imports and draws is forgotten."""
    before, state = set(sys.modules), np.random.get_state()  # noqa: NPY002
    yield
    np.random.set_state(state)  # noqa: NPY002
    for name in set(sys.modules) - before:
        file = getattr(sys.modules[name], "__file__", None) or ""
        if "site-packages" not in file and "groundup" not in name:
            del sys.modules[name]


@pytest.fixture
def write(tmp_path):
    """Write a file into the test's folder."""

    def write(name, *parts):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join([HEAD, *parts]))
        return name

    return write


def last(result):
    return result.stdout.rstrip().splitlines()[-1]


def names(path):
    return [item.name for item in find(*load(path))]


# Outcomes


def test_all_right(groundup, write):
    result = groundup("check", write("own.py", DENSE, PAIR))
    assert result.exit_code == 0, result.output
    assert last(result) == "2 right, 0 wrong"
    assert "gradients of Dense" in result.stdout
    assert "inputs: n_in=4, n_out=3; inp (5, 4)" in result.stdout
    assert "inputs: x (5, 4), w (4, 3), b (3,)" in result.stdout


def test_a_wrong_one(groundup, write):
    result = groundup("check", write("own.py", WRONG, DENSE))
    assert result.exit_code == 1, result.output
    assert last(result) == "1 right, 1 wrong"
    assert "WRONG" in result.stdout
    assert "[mean]" in result.stdout
    hint = "def check_inputs_Averaged(rng): return Averaged(rng), rng.normal(size=(5, 4))"
    assert f"These were guessed; if others are meant: {hint}" in result.stdout


def test_no_inputs_is_told_with_the_function_to_write(groundup, write):
    result = groundup("check", write("own.py", STRANGE, DENSE))
    assert result.exit_code == 2, result.output
    assert last(result) == "1 right, 0 wrong, 1 without inputs"
    assert "Strange: no value is known for config, which its constructor takes" in result.stdout
    example = "def check_inputs_Strange(rng): return Strange(...), rng.normal(size=(5, 4))"
    assert example in result.stdout
    written = "\n" + example.replace("...", '{"factor": 3.0}')
    result = groundup("check", write("other.py", STRANGE, written))
    assert result.exit_code == 0, result.output
    assert "inputs: from check_inputs_Strange" in result.stdout


def test_a_wrong_gradient_counts_more_than_missing_inputs(groundup, write):
    result = groundup("check", write("own.py", STRANGE, WRONG))
    assert result.exit_code == 1
    assert last(result) == "0 right, 1 wrong, 1 without inputs"


def test_what_raises_is_told_by_its_own_lines(groundup, write):
    raising = "\ndef check_inputs_Dense(rng):\n    return Dense(4, 3), rng.no_such_thing()\n"
    result = groundup("check", write("own.py", DENSE, raising, PAIR))
    assert result.exit_code == 2, result.output
    assert last(result) == "1 right, 0 wrong, 1 could not be checked"
    assert "in check_inputs_Dense" in result.stdout
    assert "AttributeError" in result.stdout
    assert "groundup/cli" not in result.stdout


def test_json_is_all_of_the_standard_output(groundup, write):
    result = groundup("check", write("own.py", 'print("hello")\n', DENSE, WRONG, STRANGE), "--json")
    assert result.exit_code == 1
    made = json.loads(result.stdout)
    assert (made["ok"], made["counts"]["right"], made["counts"]["wrong"]) == (False, 1, 1)
    by_name = {one["name"]: one for one in made["checked"]}
    assert list(by_name) == ["Dense", "Averaged", "Strange"]
    assert by_name["Averaged"]["report"]["findings"][0]["kind"] == "mean"
    assert by_name["Dense"]["report"]["rows"][0]["verdict"] == "right"
    assert by_name["Strange"]["outcome"] == "no inputs"
    assert "hello" in result.stderr
    result = groundup("check", "none.py", "--json")
    assert result.exit_code == 2
    assert "there is no file none.py" in json.loads(result.stdout)["error"]


def test_seed_and_method(groundup, write):
    file = write("own.py", DENSE)
    made = [
        json.loads(groundup("check", file, "--json", "--seed", seed, "--method", "ops").stdout)
        for seed in (1, 1, 2)
    ]
    rows = [one["checked"][0]["report"]["rows"] for one in made]
    assert rows[0] == rows[1] != rows[2]
    assert set(rows[0][0]["errors"]) == {"ops"}
    assert groundup("check", file, "--method", "magic").exit_code == 2


# What is found


def test_only_what_is_defined_here_and_can_be_checked(write):
    write("helpers.py", DENSE, "\nshared = Linear(4, 3)\n")
    path = write(
        "own.py",
        DENSE.replace("Dense", "Mine"),
        "from helpers import Dense, shared\n",
        "class Plain(Module):\n    def forward(self, x): return x\n",
        "class Abstract(Module):\n    def bwd(self, out, x): x.g = out.g\n",
        "net = Sequential(Linear(7, 6), Relu())\nsame = net\nmine = Mine(4, 3)\nnumber = 3\n",
    )
    assert names(path) == ["net", "mine"]
    assert names(path + ":Plain") == ["Plain"]
    assert names(path + ":Dense") == ["Dense"]


@pytest.mark.parametrize(
    ("forward", "backward", "name"),
    [
        ("forward", "backward", "forward"),
        ("relu_forward", "relu_backward", "relu"),
        ("relu", "relu_backward", "relu"),
        ("relu_fwd", "relu_bwd", "relu"),
        ("relu", "relu_grad", "relu"),
        ("relu", "d_relu", "relu"),
    ],
)
def test_pairs_by_name(groundup, write, forward, backward, name):
    functions = (
        f"def {forward}(x): return np.maximum(x, 0)\ndef {backward}(dout, x): return dout * (x > 0)"
    )
    path = write("own.py", functions)
    (item,) = find(*load(path))
    assert (item.name, item.kind) == (name, "pair")
    assert (item.subject.__name__, item.backward.__name__) == (forward, backward)
    for asked in {name, forward, backward}:
        assert names(f"{path}:{asked}") == [name]
    assert groundup("check", path).exit_code == 0


def test_tests_and_lone_functions_are_no_pairs(write):
    path = write("own.py", "def test_forward(): pass\ndef test_backward(): pass\n", PAIR)
    assert names(path) == ["affine"]


def test_torch(groundup, write):
    pytest.importorskip("torch")
    path = write(
        "own.py",
        """
import torch

class Tanh(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return torch.tanh(x)
    @staticmethod
    def backward(ctx, grad):
        (y,) = ctx.saved_tensors
        return grad * (1 - y * y)

class Affine(torch.autograd.Function):
    @staticmethod
    def forward(x, w, b=None): return x @ w + b
    @staticmethod
    def setup_context(ctx, inputs, out): ctx.save_for_backward(*inputs)
    @staticmethod
    def backward(ctx, grad):
        x, w, b = ctx.saved_tensors
        return grad @ w.T, x.T @ grad, grad.sum(0)

class Net(torch.nn.Module):
    def __init__(self, n_in: int, n_out: int):
        super().__init__()
        self.layer = torch.nn.Linear(n_in, n_out)
    def forward(self, x): return torch.sigmoid(self.layer(x))
""",
    )
    result = groundup("check", path)
    assert result.exit_code == 1, result.output
    assert last(result) == "1 right, 1 wrong"
    assert "[output]" in result.stdout
    assert "inputs: x (5, 4), w (4, 3), b (3,)" in result.stdout
    assert names(path) == ["Tanh", "Affine"]
    assert groundup("check", path + ":Net").exit_code == 0


def test_jax(write):
    pytest.importorskip("jax")
    path = write(
        "own.py",
        """
import jax

@jax.custom_vjp
def square(x): return (x * x).sum()
def square_fwd(x): return square(x), x
def square_bwd(x, g): return (g * x,)
square.defvjp(square_fwd, square_bwd)
""",
    )
    code, out, errors = process("check", path, "--json")
    assert (code, errors) == (1, "")
    (one,) = json.loads(out)["checked"]
    assert (one["name"], one["kind"]) == ("square", "jax")
    assert one["report"]["findings"][0]["kind"] == "factor"


def test_modules_by_name_and_the_filter(groundup, write):
    write("mine/__init__.py", "\n")
    write("mine/base.py", "\n")
    write("mine/layers.py", "from . import base\n", DENSE, WRONG, PAIR)
    for target in ("mine.layers:Dense", "mine/layers.py:Dense", "mine/layers.py:affine"):
        result = groundup("check", target)
        assert (result.exit_code, last(result)) == (0, "1 right, 0 wrong"), result.output
    assert last(groundup("check", "mine.layers")) == "2 right, 1 wrong"
    assert last(groundup("check", "mine/layers.py", "-k", "aver")) == "0 right, 1 wrong"
    assert last(groundup("check", "mine/base.py", "mine/layers.py")) == "2 right, 1 wrong"


# Inputs


def made(source, name=""):
    """The inputs of a pair or class that is defined by its source."""
    Path("own.py").write_text(HEAD + source)
    (item,) = find(*load(f"own.py:{name}" if name else "own.py"))
    return inputs_for(item, 0)


def pair(forward):
    """A forward with a backward that gives zeros."""
    return f"def f({forward.partition('->')[0].strip()}): return {forward.partition('->')[2]}\n" + (
        "def f_backward(dout, *inputs): return tuple(np.zeros_like(x) for x in inputs)"
    )


@pytest.mark.parametrize(
    ("forward", "shown"),
    [
        ("x -> np.log(x)", "x (5, 4) from 0.2 to 0.8"),
        ("x, w, b -> x @ w.T + b", "x (5, 4), w (3, 4), b (3,)"),
        ("x, w, b -> w @ x + b", "x (4, 5), w (3, 4), b (3, 1)"),
        ("x, w1, b1, w2, b2 -> (x @ w1 + b1) @ w2 + b2",
         "x (5, 4), w1 (4, 3), b1 (3,), w2 (3, 2), b2 (2,)"),
        ("x, w, b=None -> x @ w + b", "x (5, 4), w (4, 3), b (3,)"),
        ("a, b -> a @ b", "a (5, 4), b (4, 3)"),
        ("a, b -> a * b", "a (5, 4), b (5, 4)"),
        ("pred, target -> ((pred - target) ** 2).mean()", "pred (5, 4), target (5, 4)"),
        ("scores, y -> scores[np.arange(len(y)), y]", "scores (5, 4), y (5,) integers"),
        ("table, idx -> table[idx]", "table (4, 3), idx (5,) integers"),
        ("x, gamma, beta, eps -> x * gamma + beta + eps",
         "x (5, 4), gamma (4,), beta (4,), eps=1e-05"),
        ("x, stride: int -> x[::stride]", "x (5, 4), stride=1"),
        ("x, power: float -> np.abs(x) ** power", "x (5, 4), power=0.5"),
        ("x, mask -> np.where(mask, x, 0)", "x (5, 4), mask (5, 4) mask"),
        ("x: 'np.ndarray', n: int -> np.einsum('nct,c->nt', x, np.ones(4)) * n",
         "x (2, 4, 7), n=4"),
        ("x -> x.transpose(0, 2, 3, 1) @ np.ones(4)", "x (2, 4, 6, 8)"),
        ("a -> np.linalg.inv(a)", "a (4, 4)"),
    ],
)  # fmt: skip
def test_guessed_inputs(forward, shown):
    assert made(pair(forward)).shown == shown


def test_an_instance_tells_its_lengths_and_stays_as_it_is(write):
    source = """
class Counting(Module):
    calls = 0
    def forward(self, inp):
        self.calls += 1
        return inp
net = Sequential(Counting(), Linear(7, 6))
"""
    found = made(source, "net")
    assert found.shown == "inp (5, 7)"
    assert found.subject.layers[0].calls == 0


def test_shapes_that_backward_takes():
    outer = """
def f(x, w): return w @ x
def f_backward(dout, x, w): return w.T @ dout, np.outer(dout, x)
"""
    assert made(outer).shown.startswith("x (4,), w (3, 4) (with x (4, 5), w (3, 4) its")
    forgotten = """
def f(x, w, b): return x @ w + b
def f_backward(dout, x, w, b): return dout @ w.T, x.T @ dout, dout
"""
    assert made(forgotten).shown == "x (5, 4), w (4, 3), b (3,)"  # no vector, where it is right


@pytest.mark.parametrize(
    "given",
    [
        "def check_inputs_Half(rng): return rng.normal(size=(6, 2))",
        "def check_inputs_Half(rng): return (rng.normal(size=(6, 2)),)",
        "def check_inputs_Half(): return Half(), np.ones((6, 2))",
        "def check_inputs(rng, name): return np.ones((6, 2)) if name == 'Half' else None",
        "Half.check_inputs = staticmethod(lambda rng: rng.normal(size=(6, 2)))",
        "Half.check_inputs = np.ones((6, 2))",
    ],
)
def test_check_inputs_wherever_it_is(given):
    half = """
class Half(Module):
    def forward(self, inp): return inp[:, :2] / 2
    def bwd(self, out, inp): inp.g = out.g / 2
"""
    found = made(half + given)
    assert [np.shape(v) for v in found.values] == [(6, 2)]
    assert type(found.subject).__name__ == "Half"
    assert "from " in found.shown


def test_inputs_without_an_instance_that_takes_them():
    with pytest.raises(NoInputs, match=r"no Dense was found that takes them: .* Return one before"):
        made(DENSE + "def check_inputs_Dense(rng): return rng.normal(size=(5, 70))")


def test_a_layer_whose_lengths_depend_on_each_other():
    heads = DENSE.replace(
        "def __init__(self, n_in, n_out):",
        "def __init__(self, n_in: int, n_out: int, *, rng: 'np.random.Generator'):\n"
        "        if n_in % n_out: raise ValueError('heads')",
    )
    assert made(heads).shown == "n_in=4, n_out=2, rng; inp (5, 4)"


def test_the_search_ends():
    many = ", ".join(f"x{i}" for i in range(12))
    with pytest.raises(NoInputs, match="none that were tried fit; the first: forward with x0"):
        made(pair(f"{many} -> np.linalg.no_such_function(x0)"))


# What is refused


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["none.py"], "there is no file none.py in"),
        (["."], ". is a folder: name its files"),
        (["no_such_module"], "there is no module 'no_such_module' in"),
        (["no-such-name"], "'no-such-name' is neither a Python file nor the name of a module"),
        (["own.py:Dance"], "own.py has no 'Dance'; it has Dense"),
        (["own.py:number"], "number in own.py is 3, of type int: give a Module"),
        (["own.py", "-k", "none"], "-k none: no name has 'none' in it; there are Dense"),
        (["empty.py"], "found nothing to check in empty.py: no Module with a bwd"),
        (["importing.py"], "importing importing.py failed: File"),
        (["importing.py"], "No module named 'not_installed'"),
        (["syntax.py"], "SyntaxError: invalid syntax"),
        (["leaving.py"], "SystemExit: 3"),
        ([], "Missing argument"),
    ],
)
def test_what_is_refused(groundup, write, words, message):
    write("own.py", DENSE, "number = 3\n")
    write("empty.py")
    write("importing.py", "def later():\n    import not_installed\n\nlater()\n")
    write("syntax.py", "x = = 3\n")
    write("leaving.py", "raise SystemExit(3)\n")
    result = groundup("check", *words)
    assert result.exit_code == 2, result.output
    assert message in " ".join(result.stderr.replace("│", " ").split())
    assert "Traceback" not in result.output
    assert "checkable.py" not in result.output
    assert "importlib" not in result.output


def test_debug_shows_the_traceback(groundup):
    result = groundup("--debug", "check", "none.py")
    assert type(result.exception).__name__ == "Unusable"


def test_the_help_says_that_code_is_run(groundup):
    text = " ".join(groundup("check", "--help").stdout.replace("│", " ").split())
    assert "that code is run." in text
    assert "def check_inputs_MyLayer(rng): return MyLayer(4, 3), rng.normal(size=(5, 4))" in text


# As a process


def process(*words, **env):
    source = str(Path(package.__file__).parents[1])
    run = subprocess.run(
        [sys.executable, "-m", "groundup", *words],
        env={**os.environ, "PYTHONPATH": source, **env},
        capture_output=True,
        check=False,
    )
    return run.returncode, run.stdout.decode(), run.stderr.decode()


def test_a_terminal_of_ascii_in_ci(write):
    path = write("own.py", DENSE, WRONG.replace("Averaged", "Größe"))
    code, out, errors = process("check", path, PYTHONIOENCODING="ascii", PYTHONUTF8="0")
    assert (code, errors) == (1, "")
    assert out.isascii()
    assert "\x1b" not in out
    assert "gradients of Gr\\xf6\\xdfe" in out


def test_exit_codes_of_the_process(write):
    assert process("check", write("own.py", DENSE))[0] == 0
    code, out, errors = process("check", "none.py")
    assert (code, out) == (2, "")
    assert errors.startswith("error: there is no file none.py")
