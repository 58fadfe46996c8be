"""Whether a call is like the one that was recorded: asked before each replay, so written out.

Each function here makes Python source, one expression without a loop, and executes it.
"""

from __future__ import annotations

import types
from collections.abc import Callable, Sequence
from typing import Any

from groundup.ops.base import Array, state
from groundup.program.sources import FromArgument
from groundup.program.surroundings import Place
from groundup.tensor import Tensor

Guard = tuple[Tensor, Array, bool]


class Terms:
    """Parts of a condition, and the objects that they name."""

    def __init__(self) -> None:
        self.known: dict[str, Any] = {"state": state}
        self.written: list[str] = []

    def name(self, value: Any) -> str:
        """A name for an object."""
        name = f"v{len(self.known)}"
        self.known[name] = value
        return name

    def add_places(self, places: Sequence[Place]) -> None:
        """What Python values the step saw are still where they were."""
        for place in places:
            holder, value = self.name(place.holder), self.name(place.value)
            if place.key is len:
                self.written.append(f"len({holder}) == {value}")
            elif isinstance(place.holder, types.CellType):
                self.written.append(f"{holder}.cell_contents is {value}")
            else:
                self.written.append(f"{holder}[{self.name(place.key)}] is {value}")

    def add_guards(self, guards: Sequence[Guard]) -> None:
        """Tensors hold the arrays that they held."""
        for tensor, array, wanted in guards:
            name = self.name(tensor)
            self.written.append(
                f"{name}.array is {self.name(array)} and {name}.requires_grad is {wanted}"
            )

    @property
    def condition(self) -> str:
        return " and ".join(self.written) or "True"

    def function(self, source: str) -> Any:
        """The function that a source defines."""
        exec(compile(source, "<what a recording depends on>", "exec"), self.known)
        return self.known["test"]


def as_it_was(places: Sequence[Place], guards: Sequence[Guard]) -> Callable[[], bool]:
    """Whether all is as it was; a KeyError, IndexError or ValueError says that it is not."""
    terms = Terms()
    terms.add_places(places)
    terms.add_guards(guards)
    test: Callable[[], bool] = terms.function(f"def test(): return {terms.condition}")
    return test


def inputs_if_same(
    args: Sequence[Any],
    values: Sequence[Any],
    sources: Sequence[Any],
    places: Sequence[Place],
    guards: Sequence[Guard],
    rest: Callable[[], str] | None,
) -> Callable[[tuple[Any, ...]], list[Any] | None] | None:
    """What takes a call's arguments and gives the runner's inputs; None where it has to be looked
    at more closely, or where the arguments are more than Tensors, arrays and floats.

    Args:
        args: of the call that was recorded.
        values: their arrays, and floats.
        sources: of the runner's inputs.
        places: see `as_it_was`.
        guards: see `as_it_was`.
        rest: what else may not fit, in words; "" if nothing.

    """
    terms = Terms()
    lines: list[str] = []
    arrays: list[str] = []
    for i, (arg, value) in enumerate(zip(args, values, strict=True)):
        if isinstance(arg, Tensor):
            array = f"a{i}.array"
        elif arg is value:
            array = f"a{i}"
        else:
            return None
        lines.append(f"if type(a{i}) is not {terms.name(type(arg))}: return None")
        lines.append(f"x{i} = {array}")
        arrays.append(f"x{i}")
        if type(arg) is float:
            continue
        wanted = [
            f"x{i}.shape != {value.shape}",
            f"x{i}.dtype is not {terms.name(value.dtype)}",
            f"x{i}.strides != {value.strides}",
        ]
        if isinstance(arg, Tensor):
            wanted.append(f"a{i}.requires_grad is not {arg.requires_grad}")
        lines.append(f"if {' or '.join(wanted)}: return None")
    terms.add_places(places)
    terms.add_guards(guards)
    lines.append(f"if not ({terms.condition}): return None")
    if rest is not None:
        lines.append(f"if {terms.name(rest)}(): return None")
    inputs = [
        arrays[s.index] if type(s) is FromArgument else f"{terms.name(s.now)}()" for s in sources
    ]
    modes = (
        "state.recorder is not None"
        f" or state.recording is not {state.recording} or state.own_rules is not {state.own_rules}"
    )
    unpacked = f"{', '.join(f'a{i}' for i in range(len(args)))}, = args" if args else "pass"
    source = "\n".join(
        [
            "def test(args):",
            f"    if len(args) != {len(args)} or {modes}: return None",
            f"    {unpacked}",
            "    try:",
            *[f"        {line}" for line in lines],
            "    except (KeyError, IndexError, ValueError):",
            "        return None",
            f"    return [{', '.join(inputs)}]",
        ]
    )
    test: Callable[[tuple[Any, ...]], list[Any] | None] = terms.function(source)
    return test
