"""Nothing is missing: every op, and every operation of Tensor, is run by the table of cases."""

from __future__ import annotations

import inspect
import sys
from types import CodeType, FrameType
from typing import Any

import numpy as np
import pytest
from op_cases import TABLES
from oracle import is_float, several

import groundup as gu
from groundup import Tensor, functions, ops
from groundup.ops import Op

OPS = {name: op for name, op in vars(ops).items() if isinstance(op, Op)}
# Not functions of tensors with values to compare: tested in test_tensor.py and test_backward.py.
OTHER_METHODS = {
    "__array__", "__array_ufunc__", "__bool__", "__float__", "__format__", "__hash__", "__index__",
    "__init__", "__int__", "__len__", "__reduce__", "__repr__", "__setstate__", "assign",
    "backward", "data", "dim", "dtype", "g", "grad", "is_leaf", "item", "ndim", "numel", "numpy",
    "of", "origin", "requires_grad_", "shape", "size", "tolist",
}  # fmt: skip
# Random numbers are compared with their distribution: test_ops_random.py.
RANDOM = {"uniform", "normal"}
# Not a function of tensors: tested in test_ops_checks.py.
OTHER_FUNCTIONS = {"check_labels"}


@pytest.fixture(scope="module")
def ran() -> set[CodeType]:
    """The code of every function that the cases run, forward and backward."""
    codes: set[CodeType] = set()

    def note(frame: FrameType, event: str, arg: Any) -> None:
        codes.add(frame.f_code)

    for cases in TABLES.values():
        for case in cases:
            arrays = [np.asarray(a) for a in case.arrays]
            xs = [Tensor(a.copy(), requires_grad=is_float(a)) for a in arrays]
            sys.setprofile(note)
            try:
                for out in several(case.ours(*xs)):
                    if out.requires_grad:
                        out.backward(np.ones(out.shape))
            finally:
                sys.setprofile(None)
    return codes


@pytest.mark.parametrize("name", OPS)
def test_every_op_has_a_case(name: str, ran: set[CodeType]) -> None:
    kind = type(OPS[name])
    assert name in RANDOM or kind.forward.__code__ in ran, f"ops.{name}: add a case to op_cases.py"
    if kind.differentiable:
        assert kind.bwd.__code__ in ran, f"ops.{name}: no case runs its bwd"
    else:
        assert kind.bwd is Op.bwd


@pytest.mark.parametrize("name", sorted(set(vars(Tensor)) - OTHER_METHODS))
def test_every_method_has_a_case(name: str, ran: set[CodeType]) -> None:
    member = vars(Tensor)[name]
    function = member.fget if isinstance(member, property) else member
    if inspect.isfunction(function):
        assert function.__code__ in ran, f"Tensor.{name}: add a case to op_cases.py"


@pytest.mark.parametrize(
    "name",
    [n for n, f in vars(functions).items() if inspect.isfunction(f) and n not in OTHER_FUNCTIONS],
)
def test_every_function_has_a_case(name: str, ran: set[CodeType]) -> None:
    if vars(functions)[name].__module__ == functions.__name__:
        assert vars(functions)[name].__code__ in ran, f"gu.{name}: add a case to op_cases.py"


def test_every_exported_op_is_the_op() -> None:
    exported = {n: v for n, v in vars(gu).items() if isinstance(v, Op)}
    assert exported
    assert all(v in OPS.values() for v in exported.values())


def test_every_op_is_exported() -> None:
    def subclasses(kind: type) -> set[type]:
        return {kind}.union(*(subclasses(k) for k in kind.__subclasses__()))

    # What several ops have in common is a class, too, and no op.
    made = {
        k
        for k in subclasses(Op)
        if k.__module__.startswith("groundup.ops") and not subclasses(k) - {k}
    }
    assert {type(op) for op in OPS.values()} == made
    assert len({op.name for op in OPS.values()}) == len(OPS), "two ops have one name"
