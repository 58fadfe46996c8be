"""What a Program must be: malformed ones are refused by name; what keeps a Program keeps all."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import FrozenInstanceError, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import groundup as gu
from groundup import Tensor, ops
from groundup.errors import ProgramError
from groundup.nn import Parameter
from groundup.program.program import Equation, Input, Program, Var, filled, leaves

X, W = Var("x", (3, 4), "float32"), Var("w", (4,), "float32")
LR = Input(Var("lr", (), "float"), "setting", "lr of SGD", 0.1)


def eq(out: Any, op: str, *ins: Any, phase: str = "forward", **attrs: Any) -> Equation:
    return Equation(out, op, ins, tuple(sorted(attrs.items())), phase)


def var(name: str, *shape: int, dtype: str = "float32") -> Var:
    return Var(name, shape, dtype)


GOOD = Program(
    "step",
    (Input(X, "argument"), Input(W, "parameter", "layers.0.w"), LR),
    (
        eq(None, "check_finite", "x", what="{}"),
        eq(var("t1", 3, 4), "mul", "x", "w"),
        eq(var("dw", 4), "sum", "t1", axis=0, keepdims=False, phase="backward"),
        eq(var("t2", 4), "mul", "lr", "dw", phase="update"),
        eq(var("t3", 4), "sub", "w", "t2", phase="update"),
    ),
    {"loss": "t1", "more": ["x", ("dw", None)]},
    (("w", "t3"),),
)


def json_with(**changes: Any) -> str:
    return json.dumps({**json.loads(GOOD.to_json()), **changes})


def with_(*equations: Equation, **changes: Any) -> Program:
    return GOOD.with_equations((*GOOD.equations, *equations), **changes)


def at(i: int, **changes: Any) -> Program:
    """The good Program with one equation changed."""
    equations = list(GOOD.equations)
    equations[i] = replace(equations[i], **changes)
    return GOOD.with_equations(equations)


BAD: dict[str, tuple[Program, str]] = {
    "a name set twice": (
        with_(eq(var("t1", 3, 4), "exp", "x")),
        r"step: equation 5 \(exp\) sets t1 a second time",
    ),
    "an input's name set": (
        with_(eq(var("x", 3, 4), "exp", "x")),
        r"equation 5 \(exp\) sets x a second time",
    ),
    "two inputs of one name": (
        replace(GOOD, inputs=(*GOOD.inputs, Input(X, "state"))),
        "an input sets x a second time",
    ),
    "read before it is set": (
        GOOD.with_equations(GOOD.equations[::-1]),
        r"equation 0 \(sub\) reads t2, which is not there yet",
    ),
    "read and never set": (at(1, ins=("x", "v")), r"equation 1 \(mul\) reads v"),
    "its own input": (at(1, ins=("x", "t1")), r"equation 1 \(mul\) reads t1"),
    "a wrong shape": (
        at(1, out=var("t1", 4, 3)),
        r"equation 1 \(mul\) makes \(\(3, 4\), 'float32'\), but t1 is \(\(4, 3\), 'float32'\)",
    ),
    "a wrong dtype": (
        at(1, out=var("t1", 3, 4, dtype="float64")),
        r"makes \(\(3, 4\), 'float32'\), but t1 is \(\(3, 4\), 'float64'\)",
    ),
    "a number that is an array": (
        with_(eq(var("n"), "size", "x", axis=None)),
        r"makes \(\(\), 'int'\), but n is \(\(\), 'float32'\)",
    ),
    "an int that is a float": (
        with_(eq(var("n", dtype="float"), "size", "x", axis=None)),
        r"makes \(\(\), 'int'\), but n is \(\(\), 'float'\)",
    ),
    "shapes that do not fit": (
        at(1, ins=("x", "x"), op="matmul"),
        r"matmul of \(3, 4\) float32, \(3, 4\) float32 with \{\}: matmul of \(3, 4\) and \(3, 4\)",
    ),
    "an op on booleans that has no meaning": (
        with_(eq(var("b", 3, 4, dtype="bool"), "less", "x", 0.0),
              eq(var("c", 3, 4, dtype="bool"), "neg", "b")),
        r"neg of \(3, 4\) bool with \{\}: ",
    ),
    "a missing attribute": (at(1, op="reshape", ins=("x",)), r"reshape of \(3, 4\) float32"),
    "an attribute that is not there": (
        at(1, attrs=(("colour", "red"),)),
        r"mul of \(3, 4\) float32, \(4,\) float32 with \{'colour': 'red'\}",
    ),
    "an axis out of range": (
        at(2, attrs=(("axis", 2), ("keepdims", False))),
        "axis 2 is out of range for a tensor of 2 dimensions",
    ),
    "an unknown op": (at(1, op="frobnicate"), "there is no op 'frobnicate'"),
    "an unknown phase": (at(1, phase="sideways"), r"equation 1 \(mul\) is of phase 'sideways'"),
    "a check with an output": (
        at(0, out=var("ok", 3, 4)),
        r"equation 0 \(check_finite\): a check, and only a check, has no output",
    ),
    "no output of what is no check": (
        with_(eq(None, "exp", "x")),
        r"equation 5 \(exp\): a check, and only a check, has no output",
    ),
    "an output that is not there": (
        replace(GOOD, outputs={"loss": ["t1", "t9"]}),
        "step returns t9, which nothing computes",
    ),
    "an update of an argument": (
        replace(GOOD, updates=(("x", "t1"),)),
        "step updates x, no parameter and no state",
    ),
    "an update of a setting": (replace(GOOD, updates=(("lr", "lr"),)), "step updates lr, no param"),
    "an update of what is computed": (replace(GOOD, updates=(("t1", "x"),)), "updates t1, no par"),
    "an update to nothing": (
        replace(GOOD, updates=(("w", "t9"),)),
        "step updates w to t9, which nothing computes",
    ),
    "an update of another shape": (
        replace(GOOD, updates=(("w", "t1"),)),
        r"step updates w \(4,\) float32 to t1 \(3, 4\) float32",
    ),
    "an update of another dtype": (
        with_(eq(var("d", 4, dtype="float64"), "cast", "t3", dtype=np.dtype(np.float64)),
              updates=(("w", "d"),)),
        r"updates w \(4,\) float32 to d \(4,\) float64",
    ),
    "an input updated twice": (
        replace(GOOD, updates=(("w", "t3"), ("w", "t2"))),
        "step updates an input twice",
    ),
    "a role that is none": (
        replace(GOOD, inputs=(Input(X, "guest"), *GOOD.inputs[1:])),
        "step: x has the role 'guest'",
    ),
    "a name that is none": (
        GOOD.with_equations([eq(var("t 1", 3, 4), "exp", "x")], outputs=None, updates=()),
        "'t 1' is no name",
    ),
    "an input's name that is none": (
        replace(GOOD, inputs=(*GOOD.inputs, Input(var("0.w", 4), "parameter"))),
        "'0.w' is no name",
    ),
}  # fmt: skip


def test_a_good_program() -> None:
    assert GOOD.verify() is GOOD
    assert repr(GOOD) == "<Program step: 2 forward, 1 backward, 2 update equations>"


@pytest.mark.parametrize(("program", "message"), BAD.values(), ids=BAD.keys())
def test_malformed(program: Program, message: str) -> None:
    with pytest.raises(ProgramError, match=message):
        program.verify()
    with pytest.raises(ProgramError, match=message):
        Program.from_json(program.to_json())


def test_an_error_names_its_cause() -> None:
    with pytest.raises(ProgramError) as caught:
        BAD["shapes that do not fit"][0].verify()
    assert isinstance(caught.value.__cause__, gu.errors.ShapeError)


def test_frozen() -> None:
    for part in (GOOD, GOOD.equations[0], GOOD.inputs[0], X):
        with pytest.raises(FrozenInstanceError):
            part.name = "other"  # type: ignore[union-attr, misc]


# Equality


def test_equal_programs_are_equal_and_hash_alike() -> None:
    again = GOOD.with_equations(list(GOOD.equations))
    assert again == GOOD
    assert hash(again) == hash(GOOD)
    assert again.digest == GOOD.digest
    assert len({GOOD, again}) == 1


CHANGES: dict[str, Program] = {
    "name": replace(GOOD, name="other"),
    "path": replace(GOOD, inputs=(*GOOD.inputs[:1], Input(W, "parameter", "w"), LR)),
    "role": replace(GOOD, inputs=(Input(X, "captured"), *GOOD.inputs[1:])),
    "setting": replace(GOOD, inputs=(*GOOD.inputs[:2], replace(LR, value=0.2))),
    "outputs": replace(GOOD, outputs="t1"),
    "order of outputs": replace(GOOD, outputs={"more": ["x", ("dw", None)], "loss": "t1"}),
    "list, not tuple": replace(GOOD, outputs={"loss": "t1", "more": ("x", ("dw", None))}),
    "updates": replace(GOOD, updates=()),
    "module": at(1, module="layers[0] Linear"),
    "phase": at(1, phase="backward"),
    "operands": at(1, ins=("w", "x")),
    "a number": at(1, ins=("x", 2.0)),
    "an int": at(1, ins=("x", 2)),
    "0.0": at(1, ins=("x", 0.0)),
    "-0.0": at(1, ins=("x", -0.0)),
    "attribute": at(2, attrs=(("axis", (0,)), ("keepdims", False))),
}


def test_any_change_changes_the_digest() -> None:
    digests = {p.digest for p in (GOOD, *CHANGES.values())}
    assert len(digests) == len(CHANGES) + 1


@pytest.mark.parametrize("program", CHANGES.values(), ids=CHANGES.keys())
def test_json_keeps_everything(program: Program) -> None:
    again = Program.from_json(program.verify().to_json())
    assert again == program
    assert again.to_json() == program.to_json()
    assert repr(again.outputs) == repr(program.outputs)  # a tuple stays one, a dict its order


@pytest.mark.parametrize(
    "value",
    [
        (), (1, -2), None, True, False, 0.1, -0.0, float("inf"), float("-inf"), 1e-310, 2**70,
        slice(None), slice(1, -2, 3), ..., (slice(0, 2), None, ..., -1), np.dtype("float16"),
        ((0, 1), (2, 3)), "ij,jk->ik", "", [1, [2]], {"a": (1, 2)},
    ],
    ids=repr,
)  # fmt: skip
def test_json_keeps_attributes(value: Any) -> None:
    program = at(1, attrs=(("anything", value),))
    packed = json.loads(program.to_json())
    assert packed == json.loads(json.dumps(packed, allow_nan=False)), "no standard JSON"
    from groundup.program.program import _unpacked

    found = dict(_unpacked(packed).equations[1].attrs)["anything"]
    assert repr(found) == repr(value)
    assert type(found) is type(value)


DAMAGED: dict[str, str] = {
    "nothing": "",
    "no JSON": "{",
    "another object": '{"a": 1}',
    "a list": "[]",
    "a number": "1",
    "null": "null",
    "no Program": '{"":"Var","name":"x","shape":["tuple"],"dtype":"float32"}',
    "cut off": GOOD.to_json()[:-20],
    "an unknown kind": GOOD.to_json().replace('"Equation"', '"Formula"'),
    "an unknown field": GOOD.to_json().replace('"phase"', '"stage"'),
    "an unknown tag": GOOD.to_json().replace('["tuple"', '["triple"'),
    "a dtype that is none": GOOD.to_json().replace('"float32"', '"float31"'),
    "a float that is none": GOOD.to_json().replace('["float","0x', '["float","zz'),
    "a length that is none": GOOD.to_json().replace('["tuple",3,4]', '["tuple",3,"four"]'),
    "a field too few": json.dumps({k: v for k, v in json.loads(GOOD.to_json()).items()
                                   if k != "updates"}),
}  # fmt: skip


# Parts of other kinds than they should be, in JSON that has the right form.
OF_ANOTHER_KIND = {
    "no equations": json_with(equations=None),
    "an equation that is none": json_with(equations=["tuple", 1]),
    "an input that is none": json_with(inputs=["tuple", None]),
    "an update that is none": json_with(updates=["tuple", "w"]),
}


@pytest.mark.parametrize("text", DAMAGED.values(), ids=DAMAGED.keys())
def test_damaged_json(text: str) -> None:
    with pytest.raises(ProgramError):
        Program.from_json(text)


@pytest.mark.parametrize("text", OF_ANOTHER_KIND.values(), ids=OF_ANOTHER_KIND.keys())
def test_damaged_json_of_the_right_form(text: str) -> None:
    with pytest.raises(ProgramError):
        Program.from_json(text)


def test_any_single_damage_is_refused_or_another_program() -> None:
    """A character that changes never leads to another exception, nor to an equal Program."""
    text = GOOD.to_json()
    for i in range(0, len(text), 7):
        for new in ('"', "9", "x", "]"):
            damaged = text[:i] + new + text[i + 1 :]
            if damaged == text:
                continue
            try:
                found = Program.from_json(damaged)
            except ProgramError:
                continue
            assert found != GOOD, damaged


# Keeping it

RECORDED = """
import sys
import numpy as np
import groundup as gu
from groundup import nn, optim

gu.manual_seed(1)
model = nn.Sequential(nn.Linear(4, 5), nn.Relu(), nn.Linear(5, 3))
opt = optim.Adam(model.parameters(), 0.01)
loss_fn = nn.CrossEntropy()

def step(x, labels):
    loss = loss_fn(model(x), labels)
    loss.backward()
    opt.step()
    return {"loss": loss, "more": [x.sum((0, 1)), model.layers[0].w.g]}

program = gu.record(step, np.ones((6, 4), np.float32), np.array([0, 1, 2, 0, 1, 2]))
program.save(sys.argv[1])
print(program.digest, hash(program))
"""


def test_a_digest_is_the_same_in_every_process(tmp_path: Path) -> None:
    found = []
    for seed in ("0", "1"):
        file = tmp_path / f"{seed}.json"
        run = subprocess.run(
            [sys.executable, "-W", "error", "-c", RECORDED, str(file)],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=False,
        )
        assert run.returncode == 0, run.stderr
        program = Program.load(file)
        assert run.stdout.split() == [program.digest, str(hash(program))]
        found.append((program, file.read_text(encoding="utf-8"), str(program)))
    assert found[0] == found[1]


def test_save_and_load(tmp_path: Path) -> None:
    path = tmp_path / "step.json"
    GOOD.save(path)
    assert Program.load(path) == GOOD
    assert Program.load(str(path)).digest == GOOD.digest
    path.write_text("{}", encoding="utf-8")
    with pytest.raises(ProgramError, match="this is no Program's JSON"):
        Program.load(path)


def test_names_beyond_ascii_are_kept(tmp_path: Path) -> None:
    program = replace(GOOD, inputs=(GOOD.inputs[0], Input(W, "parameter", "größe.w"), LR))
    program.save(tmp_path / "step.json")
    assert Program.load(tmp_path / "step.json") == program


def test_a_constant_nan_equals_itself() -> None:
    def step(x: Tensor) -> Tensor:
        return x + ops.full(shape=(3,), value=float("nan"), dtype=x.dtype)

    program = gu.record(step, np.ones(3, np.float32))
    assert Program.from_json(program.to_json()) == program


# What one asks it


def test_vars_and_uses() -> None:
    assert list(GOOD.vars) == ["x", "w", "lr", "t1", "dw", "t2", "t3"]
    assert GOOD.uses == {
        "x": [0, 1, -1], "w": [1, 4], "lr": [3], "t1": [2, -1], "dw": [3, -1], "t2": [4],
        "t3": [-1],
    }  # fmt: skip
    assert [i.var.name for i in GOOD.inputs_of("parameter", "setting")] == ["w", "lr"]


def test_leaves_and_filled() -> None:
    assert list(leaves(GOOD.outputs)) == ["t1", "x", "dw"]
    filled_in = filled(GOOD.outputs, {"t1": 1, "x": 2, "dw": 3})
    assert filled_in == {"loss": 1, "more": [2, (3, None)]}
    assert list(leaves(None)) == []


def test_sizes() -> None:
    assert (X.size, X.nbytes, X.is_number) == (12, 48, False)
    assert (LR.var.size, LR.var.nbytes, LR.var.is_number) == (1, 8, True)
    assert (var("e", 0, 3).size, var("e", 0, 3).nbytes) == (0, 0)


def test_function_does_what_it_says() -> None:
    x, w = np.arange(12, dtype=np.float32).reshape(3, 4), np.ones(4, np.float32)
    returned = GOOD.function()(x=x, w=w, lr=0.5)
    np.testing.assert_array_equal(returned["loss"], x)
    assert returned["more"][1] == (pytest.approx(x.sum(0)), None)
    np.testing.assert_array_equal(w, 1 - 0.5 * x.sum(0))


def test_simplify_is_an_option_of_record() -> None:
    w = Parameter(np.ones(3, np.float32))

    def step(x: Tensor) -> Tensor:
        return (x * w) * 1

    assert len(gu.record(step, np.ones(3, np.float32), simplify=False).equations) == 2
    assert len(gu.record(step, np.ones(3, np.float32)).equations) == 1
