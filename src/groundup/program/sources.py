"""Where a Program's inputs live, and what else a recording knows besides the Program."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from groundup.ops.base import Array
from groundup.optim import Optimizer
from groundup.program.program import Program
from groundup.program.surroundings import Place
from groundup.tensor import Tensor


@dataclass
class FromArgument:
    index: int  # among the leaves of the arguments


@dataclass
class FromTensor:
    tensor: Tensor
    array: Array


@dataclass
class FromSetting:
    """A number that an object holds: `holder[key]`, or `holder[key][index]`."""

    holder: dict[str, Any]
    key: str
    index: int | None

    def now(self) -> float:
        """Its value now."""
        found = self.holder[self.key]
        return float(found if self.index is None else found[self.index])


@dataclass
class FromCount:
    """How many updates an optimizer counted for some parameters, always the same for all.

    Attributes:
        array: the first one's entry of the optimizer's counts: it is what the Program reads and
            writes.

    """

    optimizer: Optimizer
    members: list[int]
    counts: Array
    array: Array

    def others(self) -> list[Array]:
        """Views of the other members' entries."""
        rest = self.members[1:]
        if rest and rest == list(range(rest[0], rest[-1] + 1)):
            return [self.counts[rest[0] : rest[-1] + 1]]
        return [self.counts[i : i + 1] for i in rest]

    def went_apart(self) -> bool:
        """Whether the members' counts differ by now, or are kept elsewhere."""
        counts = self.counts.tolist()
        if len(self.members) < len(counts):
            counts = [counts[i] for i in self.members]
        apart = counts.count(counts[0]) < len(counts)
        return apart or self.optimizer.counts is not self.counts


@dataclass
class Recording:
    """A Program, where its inputs live, and what the eager run did.

    Attributes:
        sources: by input.
        result: what the step returned.
        arrays: the outputs' arrays by name.
        before: each array that was written to, with a copy of it as it was.
        updated: the tensors that were written to, by input.
        gradients: whose `.g` the step set (a tensor, or the index of an argument), and to what.
        steps: the counts of optimizers' steps, and by how much they grow.
        truths: settings whose being zero or not decided what the step did.
        places: what the function could see around it.
        constants: arrays that the step made of nothing that is recorded.
        masks: boolean indices around the step, with copies of them as they were.
        detaches: whether the forward pass cut a gradient's way with `detach`.

    """

    program: Program
    sources: dict[str, Any]
    result: Any
    arrays: dict[str, Array]
    before: list[tuple[Array, Array]]
    updated: dict[str, FromTensor]
    gradients: list[tuple[Tensor | int, str]]
    steps: list[tuple[Array, int]]
    truths: list[tuple[FromSetting, bool]]
    places: list[Place]
    constants: dict[str, Array]
    masks: list[tuple[Array, Array]]
    detaches: bool

    def undo(self) -> None:
        """Put parameters, state and counts back as they were before the step."""
        for array, copy in self.before:
            array[...] = copy

    def state_outputs(self) -> dict[str, Tensor]:
        """The outputs that are parameters or state themselves, not results."""
        found = {}
        for name, array in self.arrays.items():
            for source in self.sources.values():
                if isinstance(source, FromTensor) and source.array is array:
                    found[name] = source.tensor
        return found

    def release(self) -> None:
        """Let go of the arrays of the eager run."""
        self.result, self.before = None, []
        self.arrays.clear()
