"""A layer alone, small enough that SymPy can go through every entry, as a Program."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from groundup.errors import GroundupError
from groundup.explain.recorded import Call, argument_names, arrays_of, called_in, named
from groundup.nn.module import Module
from groundup.ops.base import Array, Shape, quiet
from groundup.program.passes import (
    common_subexpressions,
    dead_equations,
    fold_constants,
    identities,
)
from groundup.program.program import Program
from groundup.program.recording import record_step
from groundup.program.runner import evaluate
from groundup.tensor import Buffer, Parameter, Tensor

BATCH, LENGTHS = 2, (3, 2, 4)
# More entries than these, and expressions get longer than anybody reads.
LARGEST = 60


class NotSmall(GroundupError):
    """A layer that cannot be run at a small size."""


@dataclass(frozen=True)
class Small:
    """A layer's forward and backward, at a small size and in float64.

    Attributes:
        program: from the layer's arguments and `dout`, the gradient of its output.
        out: the output's name.
        gradients: by the name of what was differentiated, the gradient's name.
        inputs: arrays for all of the Program's inputs.

    """

    program: Program
    out: str
    gradients: dict[str, str]
    inputs: dict[str, Array]

    def is_variable(self, name: str) -> bool:
        """Whether an input is a symbol: floating-point numbers are, labels and masks are not."""
        return self.inputs[name].dtype.kind == "f"

    def run(self, inputs: dict[str, Array]) -> dict[str, Any]:
        """All values of forward and backward from arrays."""
        values: dict[str, Any] = dict(inputs)
        with quiet():
            for e in self.program.equations:
                result = evaluate(e, values)
                if e.out is not None:
                    values[e.out.name] = result
        return values


def small(call: Call) -> Small:
    """The layer of a call, recorded on its own with short axes.

    Raises:
        NotSmall: it cannot be.

    """
    reason: Exception | None = None
    # Targets of some losses lie between 0 and 1: what numbers of any size are refused by.
    for low, high in ((-2.0, 2.0), (0.1, 0.9)):
        rng = np.random.Generator(np.random.Philox(key=0))
        try:
            with quiet():
                return _recorded(call, rng, low, high)
        except NotSmall:
            raise
        except (GroundupError, ValueError, IndexError, TypeError, AssertionError) as error:
            reason = reason or error
    raise NotSmall(f"it does not run at a small size ({reason})") from reason


def _recorded(call: Call, rng: np.random.Generator, low: float, high: float) -> Small:
    module = copy.deepcopy(call.module).double()
    tensors = [a for a in call.args if isinstance(a, Tensor)]
    shorter = _Shorter(tensors)
    _shrink(module, shorter)
    given: list[Tensor] = []
    places: list[Any] = []  # the arguments, a Tensor's by its number
    for a in call.args:
        places.append(len(given) if isinstance(a, Tensor) else a)
        if isinstance(a, Tensor):
            given.append(_example(a, shorter.argument(a.shape), rng, low, high))
    wanted = [t for t in given if t.dtype.kind == "f"][: 1 if call.of_loss else None]
    for t in wanted:
        t.requires_grad_()
    parameters = [p for p in module.parameters() if p.dtype.kind == "f"]
    for p in parameters:
        p.requires_grad_()
    if sum(t.size for t in (*given, *parameters)) > LARGEST:
        raise NotSmall("it has too many entries, even at a small size")
    names = _names(module, call.args)

    def run(*xs: Tensor) -> Any:
        is_tensor = [isinstance(a, Tensor) for a in call.args]
        return module(*(xs[p] if t else p for p, t in zip(places, is_tensor, strict=True)))

    def step(*xs: Tensor) -> Any:
        out = run(*xs[:-1])
        out.backward(xs[-1])
        return out, [t.g for t in (*wanted, *parameters)]

    out = run(*given)
    if not isinstance(out, Tensor):
        raise NotSmall(f"it returns {type(out).__name__}, not one Tensor")
    if not out.requires_grad:
        raise NotSmall("nothing in it is differentiable")
    dout = Tensor(rng.uniform(low, high, out.shape), dtype=np.float64)
    recording = record_step(named(step, [*names, "dout"]), (*given, dout), {})
    recording.undo()
    program = _plain(recording.program)
    arguments = [*given, dout]
    inputs = arrays_of(recording, arguments)
    called = called_in(recording, arguments)
    value, found = program.outputs
    pairs = zip((*wanted, *parameters), found, strict=True)
    gradients = {called[id(t)]: g for t, g in pairs if g is not None}
    if not all(np.isfinite(a).all() for a in inputs.values()):
        raise NotSmall("it makes numbers that are not finite")
    return Small(program, value, gradients, inputs)


def _plain(program: Program) -> Program:
    """Simplified, but softmax stays one op: SymPy knows its formula."""
    for one in (fold_constants, identities, common_subexpressions, dead_equations) * 3:
        program = one(program)
    return program.verify()


class _Shorter:
    """Short lengths for long ones, the same for the same."""

    def __init__(self, tensors: Iterable[Tensor]):
        shapes = [t.shape for t in tensors]
        self.batch = shapes[0][0] if shapes and shapes[0] else 0
        self.known: dict[int, int] = {}

    def length(self, n: int) -> int:
        if n <= LENGTHS[0]:
            return n
        return self.known.setdefault(n, LENGTHS[len(self.known) % len(LENGTHS)])

    def argument(self, shape: Shape) -> Shape:
        """An argument's shape: the first axis is the batch."""
        if shape and shape[0] == self.batch:
            return (min(self.batch, BATCH), *map(self.length, shape[1:]))
        return tuple(map(self.length, shape))


def _shrink(module: Module, shorter: _Shorter) -> None:
    """Cut the module's arrays to corners."""
    for _, member in module.named_members():
        if isinstance(member, Parameter | Buffer):
            corner = tuple(slice(shorter.length(n)) for n in member.shape)
            member.array = member.array[corner].copy()
            member._g = None


def _example(
    tensor: Tensor, shape: Shape, rng: np.random.Generator, low: float, high: float
) -> Tensor:
    if tensor.dtype.kind == "f":
        return Tensor(rng.uniform(low, high, shape), dtype=np.float64)
    entries = np.arange(int(np.prod(shape))).reshape(shape) % 2  # below any length
    return Tensor((entries == 0) if tensor.dtype.kind == "b" else entries.astype(tensor.dtype))


def _names(module: Module, args: tuple[Any, ...]) -> list[str]:
    """What the Tensors among the arguments are called: x if there is one."""
    names = argument_names(module, len(args))
    own = [n for n, a in zip(names, args, strict=True) if isinstance(a, Tensor)]
    return ["x"] if len(own) == 1 else own
