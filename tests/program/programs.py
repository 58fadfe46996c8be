"""What tests of Programs share: recording with its inputs' arrays, and comparing bit for bit."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from groundup import Tensor
from groundup.ops.base import quiet
from groundup.program.passes import simplify
from groundup.program.program import Program
from groundup.program.recording import record_step
from groundup.program.sources import FromArgument, FromCount, FromSetting, FromTensor


class Recorded:
    """A step's Program with what it started from and what the eager run made of it.

    Args:
        step: the function.
        *args: its arguments, no containers among them.
        held: the tensors that it writes to.

    Attributes:
        program: as recorded, nothing taken out.
        start: every input's array (or number) before the step, by name.
        result: the arrays that the eager step returned.
        left: the arrays that it left in what it updated, by name.

    """

    def __init__(
        self, step: Callable[..., Any], *args: Tensor | float, held: Sequence[Tensor] = ()
    ):
        given = [(a.array if isinstance(a, Tensor) else a) for a in args]
        written = [*(a for a in given if isinstance(a, np.ndarray)), *(t.array for t in held)]
        before = {id(a): a.copy() for a in written}
        recording = record_step(step, args, {})
        self.program = recording.program
        self.start: dict[str, Any] = {}
        for name, source in recording.sources.items():
            if isinstance(source, FromArgument):
                found = given[source.index]
                self.start[name] = before.get(id(found), found)
            elif isinstance(source, FromSetting):
                self.start[name] = source.now()
            elif isinstance(source, FromTensor):
                self.start[name] = before.get(id(source.array), source.array)
            else:
                assert isinstance(source, FromCount)
                self.start[name] = np.array(0)
        self.result = arrays_in(recording.result)
        self.left = {name: source.array.copy() for name, source in recording.updated.items()}

    def run(self, program: Program) -> tuple[list[np.ndarray], dict[str, np.ndarray]]:
        """What a Program makes of the same start: its outputs, and what it left in its inputs."""
        given = {k: np.array(v) if isinstance(v, np.ndarray) else v for k, v in self.start.items()}
        wanted = {i.var.name for i in program.inputs}
        given = {k: v for k, v in given.items() if k in wanted}
        with quiet():
            returned = program.function()(**given)
        targets = [target for target, _ in program.updates]
        return arrays_in(returned), {name: given[name] for name in targets}

    def check(self, program: Program) -> None:
        """A Program does what the eager step did, bit for bit."""
        result, left = self.run(program)
        assert len(result) == len(self.result)
        for i, (ours, eager) in enumerate(zip(result, self.result, strict=True)):
            identical(ours, eager, f"output {i} of\n{program}")
        for name, eager in self.left.items():
            ours = left.get(name, self.start[name])
            identical(ours, eager, f"{name}, updated by\n{program}")

    def check_all(self) -> None:
        """The Program as recorded and simplified: well formed, kept by JSON, and exact."""
        for program in (self.program, simplify(self.program)):
            assert program.verify() is program
            again = Program.from_json(program.to_json())
            assert again == program
            assert again.digest == program.digest
            self.check(program)


def arrays_in(value: Any) -> list[np.ndarray]:
    """The arrays in what a step returned, in order."""
    if isinstance(value, Tensor):
        return [value.array.copy()]
    if isinstance(value, tuple | list):
        return [a for part in value for a in arrays_in(part)]
    if isinstance(value, dict):
        return [a for part in value.values() for a in arrays_in(part)]
    return [] if value is None else [np.array(value)]


def identical(ours: Any, eager: Any, what: str) -> None:
    """Equal shape, dtype and bits; one NaN is as good as another."""
    a, b = np.asarray(ours), np.asarray(eager)
    assert a.shape == b.shape, f"shape {a.shape}, eager {b.shape}: {what}"
    assert a.dtype == b.dtype, f"dtype {a.dtype}, eager {b.dtype}: {what}"
    if a.dtype.kind == "f":
        a, b = (np.where(np.isnan(x), np.array(np.nan, x.dtype), x) for x in (a, b))
    assert a.tobytes() == b.tobytes(), f"{a}\neager\n{b}\n{what}"
