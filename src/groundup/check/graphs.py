"""Forward and backward of a subject as a flat list of equations, with every value known."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from groundup.check.subjects import Subject, Values
from groundup.ops.base import Array, quiet
from groundup.program.passes import (
    common_subexpressions,
    dead_equations,
    fold_constants,
    identities,
)
from groundup.program.program import Equation, Program
from groundup.program.recording import record_step
from groundup.program.runner import evaluate
from groundup.program.sources import FromArgument, FromTensor, Recording
from groundup.tensor import Tensor


@dataclass(frozen=True)
class Graph:
    """What a forward and a backward compute.

    Attributes:
        equations: in the order in which they run.
        given: the arrays that go in, by the Program's names.
        variables: the Program's name of each value that gradients are of, by its own name.
        cotangents: the names of the gradients of the outputs.
        outputs: the outputs' names.
        gradients: the Program's name of each gradient, by the name of what it is of.
        values: every value, by name.

    """

    equations: tuple[Equation, ...]
    given: dict[str, Array]
    variables: dict[str, str]
    cotangents: tuple[str, ...]
    outputs: tuple[str, ...]
    gradients: dict[str, str]
    values: dict[str, Any] = field(default_factory=dict)

    def run(self, given: Mapping[str, Array]) -> dict[str, Any]:
        """All values from other arrays."""
        values: dict[str, Any] = dict(given)
        with quiet():
            for e in self.equations:
                if e.out is not None:
                    values[e.out.name] = evaluate(e, values)
        return values

    def given_at(self, values: Values, cotangents: Sequence[Array]) -> dict[str, Array]:
        """What goes in at other values and cotangents."""
        given = dict(self.given)
        given |= {own: values[name] for name, own in self.variables.items() if own in given}
        return given | dict(zip(self.cotangents, cotangents, strict=True))


class _Step:
    """A function for the recorder; what it is made of is hidden from it."""

    __slots__ = ("__name__", "__signature__", "_run")

    def __init__(self, run: Any, names: Sequence[str]):
        kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
        self._run = run
        self.__name__ = "step"
        self.__signature__ = inspect.Signature([inspect.Parameter(n, kind) for n in names])

    def __call__(self, *args: Any) -> Any:
        return self._run(*args)


def graph(
    subject: Subject, values: Values, cotangents: Sequence[Array], derived: bool
) -> Graph | None:
    """The subject's forward with its backward, or with the gradients of forward's ops.

    None where it cannot be recorded: it reads values, or goes through other libraries.
    """
    names = list(values)
    run = subject.derived if derived else subject.claimed
    arguments = subject.leaves(values)
    given = [arguments[n] for n in names] + [Tensor.of(np.array(c)) for c in cotangents]

    def step(*args: Tensor) -> Any:
        variables = dict(zip(names, args[: len(names)], strict=True))
        outs, gradients = run(variables, args[len(names) :])
        return list(outs), dict(gradients)

    own = _identifiers([*names, *(f"d_out{i or ''}" for i in range(len(cotangents)))])
    try:
        with quiet():
            recording = record_step(_Step(step, own), tuple(given), {}, frozen=True)
            recording.undo()
            return _made(recording, names, given)
    except Exception:  # whatever a forward or backward raises that was not made for Tensors
        return None


def _made(recording: Any, names: list[str], given: list[Tensor]) -> Graph:
    program: Program = recording.program
    arrays: dict[str, Array] = {}
    by_index: dict[int, str] = {}
    for name, source in recording.sources.items():
        if isinstance(source, FromArgument):
            arrays[name] = given[source.index].array
            by_index[source.index] = name
        elif isinstance(source, FromTensor):
            arrays[name] = source.array.copy()
    for _ in range(3):
        for one in (fold_constants, identities, common_subexpressions, dead_equations):
            program = one(program)
    outs, gradients = program.outputs
    made = Graph(
        program.equations,
        arrays,
        {n: by_index[i] for i, n in enumerate(names)},
        tuple(by_index[i] for i in range(len(names), len(given))),
        tuple(outs),
        {n: g for n, g in gradients.items() if g is not None},
    )
    made.values.update(made.run(arrays))
    return made


def forward_recording(subject: Subject, values: Values) -> tuple[Recording, list[Tensor]]:
    """Forward alone, and the Tensors that went in: the values, in order."""
    names = list(values)
    arguments = subject.leaves(values)
    outs = subject.forward(values)
    given = [arguments[n] for n in names] + [Tensor.of(np.ones(np.shape(o))) for o in outs]

    def step(*args: Tensor) -> Any:
        made, _ = subject.derived(dict(zip(names, args, strict=False)), args[len(names) :])
        return list(made)

    own = _identifiers([*names, *(f"d_out{i or ''}" for i in range(len(outs)))])
    with quiet():
        recording = record_step(_Step(step, own), tuple(given), {}, frozen=True)
        recording.undo()
    return recording, given


def detaches(subject: Subject) -> bool:
    """Whether forward detaches something on purpose."""
    try:
        return forward_recording(subject, subject.values)[0].detaches
    except Exception:  # whatever a forward raises that was not made for Tensors
        return False


def _identifiers(names: Sequence[str]) -> list[str]:
    """The names with what Python does not allow in them replaced, each once."""
    found: list[str] = []
    for name in names:
        made = "".join(c if c.isalnum() else "_" for c in name)
        made = made if made.isidentifier() else f"v_{made}"
        while made in found:
            made += "_"
        found.append(made)
    return found
