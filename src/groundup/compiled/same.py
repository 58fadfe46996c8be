"""Whether things are as they were when a step was recorded: asked before each replay, so written
out, as Python source without a loop.
"""

from __future__ import annotations

import types
from collections.abc import Callable, Sequence
from typing import Any

from groundup.ops.base import Array, state
from groundup.program.surroundings import Place
from groundup.tensor import Tensor

Guard = tuple[Tensor, Array, bool]


class Terms:
    """Parts of a condition, and the objects that they name."""

    def __init__(self) -> None:
        self.known: dict[str, Any] = {"state": state}
        self.names: dict[int, str] = {}
        self.unpacked: list[str] = []
        self.written: list[str] = []

    def name(self, value: Any) -> str:
        """A name for an object."""
        name = self.names.get(id(value))
        if name is None:
            name = self.names[id(value)] = f"v{len(self.known)}"
            self.known[name] = value
        return name

    def add_places(self, places: Sequence[Place]) -> None:
        """What Python values the step saw are still where they were."""
        lists: dict[int, list[Place]] = {}
        for place in places:
            if type(place.holder) is list:
                lists.setdefault(id(place.holder), []).append(place)
            elif type(place.holder) is not tuple:  # that has always what it had
                self.written.append(self._place(place))
        for found in lists.values():
            lengths = [place.value for place in found if place.key is len]
            entries = [place for place in found if place.key is not len]
            if lengths and entries:
                self._unpack(lengths[0], entries)
            else:
                self.written += map(self._place, found)

    def _place(self, place: Place) -> str:
        holder = self.name(place.holder)
        if place.key is len:
            return f"len({holder}) == {place.value}"
        value = self.name(place.value)
        if isinstance(place.holder, types.CellType):
            return f"{holder}.cell_contents is {value}"
        key = repr(place.key) if type(place.key) is str else self.name(place.key)
        return f"{holder}[{key}] is {value}"

    def _unpack(self, length: int, entries: Sequence[Place]) -> None:
        """A list's length and entries: faster than to ask for each."""
        holder = self.name(entries[0].holder)
        parts = [f"{holder}_{i}" for i in range(length)]
        self.unpacked.append(f"{', '.join(parts)}, = {holder}")
        self.written += [f"{parts[place.key]} is {self.name(place.value)}" for place in entries]

    def add_guards(self, guards: Sequence[Guard]) -> None:
        """Tensors hold the arrays that they held."""
        for tensor, array, wanted in guards:
            name = self.name(tensor)
            self.written.append(
                f"{name}.array is {self.name(array)} and {name}.requires_grad is {wanted}"
            )

    def lines(self, otherwise: str) -> list[str]:
        """The lines that find out; a KeyError, IndexError or ValueError says no, too."""
        if not self.written:
            return []
        return [*self.unpacked, f"if not ({' and '.join(self.written)}): {otherwise}"]

    def function(self, signature: str, lines: Sequence[str]) -> Callable[..., Any]:
        """The function of a signature and a body."""
        source = "\n    ".join([f"def {signature}:", *lines])
        exec(compile(source, "<a recording's calls>", "exec"), self.known)
        function: Callable[..., Any] = self.known[signature.partition("(")[0]]
        return function


def as_it_was(places: Sequence[Place], guards: Sequence[Guard]) -> Callable[[], bool]:
    """Whether all is as it was; a KeyError, IndexError or ValueError says that it is not."""
    terms = Terms()
    terms.add_places(places)
    terms.add_guards(guards)
    return terms.function("test()", [*terms.lines("return False"), "return True"])
