"""A module's forward and backward alone, recorded as a Program from its arguments."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from groundup.errors import GroundupError
from groundup.nn.module import Module
from groundup.nn.step import tensors_in
from groundup.ops.base import Array, quiet
from groundup.program.passes import (
    common_subexpressions,
    dead_equations,
    fold_constants,
    identities,
)
from groundup.program.program import Program
from groundup.program.recording import record_step
from groundup.program.runner import evaluate
from groundup.program.sources import FromArgument, FromTensor, Recording
from groundup.tensor import Buffer, Parameter, Tensor


class NotDifferentiable(GroundupError):
    """A module without anything that a gradient can come back to."""


@dataclass(frozen=True)
class Alone:
    """A module's forward and backward, at a small size and in float64.

    Attributes:
        program: from the module's arguments, and the gradients of its outputs.
        outs: the outputs' names.
        douts: the names of their gradients: `dout`, or `dout1`, `dout2`, ...
        gradients: by the name of what was differentiated, the gradient's name.
        untouched: names of what should have got a gradient, and got none.
        inputs: arrays for all of the Program's inputs.
        variables: which inputs stand for any numbers: arguments, parameters and buffers of
            floating-point numbers. Labels and masks are not, nor arrays that the module keeps.
        members: the id of the Tensor that an input was, by name.

    """

    program: Program
    outs: tuple[str, ...]
    douts: tuple[str, ...]
    gradients: dict[str, str]
    untouched: tuple[str, ...]
    inputs: dict[str, Array]
    variables: tuple[str, ...]
    members: dict[str, int]

    def run(self, inputs: dict[str, Array]) -> dict[str, Any]:
        """All values of forward and backward from arrays."""
        values: dict[str, Any] = dict(inputs)
        with quiet():
            for e in self.program.equations:
                result = evaluate(e, values)
                if e.out is not None:
                    values[e.out.name] = result
        return values


def alone(
    module: Module,
    args: Sequence[Any],
    wanted: Sequence[Tensor],
    names: Sequence[str],
    draw: Callable[[tuple[int, ...]], Array],
) -> Alone:
    """Run and record a module on its own.

    Args:
        module: in float64; its floating-point parameters get gradients.
        args: what it is called with.
        wanted: the Tensors among them that get gradients.
        names: what the Tensors among the arguments are called.
        draw: random numbers of a shape, for the outputs' gradients.

    Raises:
        NotDifferentiable: there is nothing to differentiate.

    """
    for t in wanted:
        t.requires_grad_()
    parameters = [p for p in module.parameters() if p.dtype.kind == "f"]
    for p in parameters:
        p.requires_grad_()
    given = [a for a in args if isinstance(a, Tensor)]

    def run(tensors: Sequence[Tensor]) -> Any:
        left = iter(tensors)
        return module(*(next(left) if isinstance(a, Tensor) else a for a in args))

    result = run(given)
    outs = differentiable(result)
    if not outs:
        if tensors_in([result]):
            raise NotDifferentiable("nothing in it is differentiable")
        raise NotDifferentiable(f"it returns {type(result).__name__}, which holds no Tensor")
    douts = [Tensor(draw(out.shape), dtype=np.float64) for out in outs]
    called = ["dout"] if len(outs) == 1 else [f"dout{i + 1}" for i in range(len(outs))]

    def step(*xs: Tensor) -> Any:
        made = differentiable(run(xs[: len(given)]))
        cotangents = xs[len(given) :]
        if len(made) == 1:
            made[0].backward(cotangents[0])
        else:
            sum((o * d).sum() for o, d in zip(made, cotangents, strict=True)).backward()  # type: ignore[union-attr]
        return tuple(made), [t.g for t in (*wanted, *parameters)]

    arguments = [*given, *douts]
    recording = record_step(named(step, [*names, *called]), tuple(arguments), {})
    recording.undo()
    inputs = arrays_of(recording, arguments)
    name_of = called_in(recording, arguments)
    values, found = recording.program.outputs
    pairs = list(zip((*wanted, *parameters), found, strict=True))
    return Alone(
        _plain(recording.program),
        tuple(values),
        tuple(name_of.get(id(d), n) for d, n in zip(douts, called, strict=True)),
        {name_of[id(t)]: g for t, g in pairs if g is not None},
        tuple(name_of[id(t)] for t, g in pairs if g is None and id(t) in name_of),
        inputs,
        tuple(n for n in inputs if _varies(recording.sources[n]) and inputs[n].dtype.kind == "f"),
        {name: key for key, name in name_of.items()},
    )


def differentiable(result: Any) -> list[Tensor]:
    """The Tensors in what a module returned that a gradient can come back to."""
    return [t for t in tensors_in([result]) if t.requires_grad]


def _varies(source: Any) -> bool:
    return isinstance(source, FromArgument) or (
        isinstance(source, FromTensor) and isinstance(source.tensor, Parameter | Buffer)
    )


def _plain(program: Program) -> Program:
    """Simplified, but softmax stays one op: SymPy knows its formula."""
    for one in (fold_constants, identities, common_subexpressions, dead_equations) * 3:
        program = one(program)
    return program.verify()


def called_in(recording: Recording, given: list[Tensor]) -> dict[int, str]:
    """The Program's names of the Tensors that go in, by id."""
    found = {}
    for name, source in recording.sources.items():
        if isinstance(source, FromArgument):
            found[id(given[source.index])] = name
        elif isinstance(source, FromTensor):
            found[id(source.tensor)] = name
    return found


def named(function: Callable[..., Any], names: list[str]) -> Callable[..., Any]:
    """The function, saying that its arguments have these names."""
    import inspect

    kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
    function.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        [inspect.Parameter(name, kind) for name in names]
    )
    return function


def argument_names(module: Module, count: int) -> list[str]:
    """What a module's forward calls its first arguments."""
    import inspect

    given = [
        p.name
        for p in inspect.signature(module.forward).parameters.values()
        if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)
    ]
    return (given + [f"x{i + 1}" for i in range(len(given), count)])[:count]


def tensor_names(module: Module, args: Sequence[Any]) -> list[str]:
    """What the Tensors among the arguments are called: x if there is one."""
    names = argument_names(module, len(args))
    own = [n for n, a in zip(names, args, strict=True) if isinstance(a, Tensor)]
    return ["x"] if len(own) == 1 else own


def arrays_of(recording: Recording, given: list[Tensor]) -> dict[str, Array]:
    """The arrays that go in, by the Program's names."""
    found = {}
    for name, source in recording.sources.items():
        if isinstance(source, FromArgument):
            found[name] = given[source.index].array
        elif isinstance(source, FromTensor):
            found[name] = source.array.copy()
    return found
