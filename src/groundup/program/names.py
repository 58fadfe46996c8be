"""Names for a Program's values: those of the user's parameters, layers and variables."""

from __future__ import annotations

import builtins
import keyword
from typing import Any, NamedTuple


class Hint(NamedTuple):
    """A name that a value might have.

    Ranks: 0 what it is called where it lives, 1 a gradient, 2 the user's own variable, 3 a
    module's output, 4 a variable in a layer's code. `of` is a value whose name is added.
    """

    rank: int
    name: str
    of: Any = None


# Names that printed programs use for other things.
RESERVED = {*keyword.kwlist, *dir(builtins), "np", "n", "i"}
# Helpers that printed programs may define.
RESERVED |= {"sigmoid", "softmax", "log_softmax", "erf", "unslice", "scatter_add", "philox"}


def given_names(
    inputs: list[Any], lines: list[Any], paths: dict[int, str], function: str
) -> dict[int, tuple[str, Any]]:
    """A name for every value, by its id, with the value."""
    names: dict[int, tuple[str, Any]] = {}
    used = {*RESERVED, function}
    numbers: dict[str, int] = {}  # the next number to try behind a name
    stems = {
        id(v): _stem(paths.get(id(v), "")) for v in inputs if not any(h.rank == 0 for h in v.hints)
    }
    counts: dict[str, int] = {}
    for stem in stems.values():
        counts[stem] = counts.get(stem, 0) + 1
    taken_directly = {h.name for v in inputs for h in v.hints if h.rank == 0 and h.of is None}

    def give(value: Any, wanted: str, numbered: bool = False) -> None:
        name, i = wanted, numbers.get(wanted, 1)
        if numbered or name in used:
            separator = "_" if wanted[-1].isdigit() else ""
            while numbered or name in used:
                numbered = False
                name = f"{wanted}{separator}{i}"
                i += 1
            numbers[wanted] = i
        used.add(name)
        names[id(value)] = (name, value)

    def hinted(hint: Hint) -> str:
        return hint.name if hint.of is None else hint.name + names[id(hint.of)][0]

    later = [v for v in inputs if any(h.of is not None for h in v.hints if h.rank == 0)]
    for value in inputs:
        if value in later:
            continue
        direct = next((h for h in value.hints if h.rank == 0), None)
        if direct is not None:
            give(value, direct.name)
        else:
            stem = stems[id(value)]
            give(value, stem, counts[stem] > 1 or stem in taken_directly)
    for value in later:
        give(value, hinted(next(h for h in value.hints if h.rank == 0)))

    outs = [line.out for line in lines if line.out is not None]
    # Gradients are named after values, which need their names first; and of two values that want
    # one name, the user's own variable gets it.
    gradients = [v for v in outs if any(h.rank == 1 for h in v.hints)]
    others = [v for v in outs if not any(h.rank == 1 for h in v.hints)]
    given = {id(v) for v in inputs}
    chosen = {id(v): _best([h for h in v.hints if h.of is None or id(h.of) in names])
              for v in others}  # fmt: skip
    for own in (True, False):
        for value in others:
            best = chosen[id(value)]
            if (best is not None and best.rank == 2) is own:
                if best is None:
                    give(value, "t", True)
                elif best.name == "h#":
                    give(value, "h", True)
                else:
                    give(value, hinted(best))
    while gradients:  # a gradient's own gradient comes after it
        ready = [v for v in gradients if any(h.rank == 1 and id(h.of) in names for h in v.hints)]
        for value in ready or gradients:
            known = [h for h in value.hints if h.rank == 1 and id(h.of) in names]
            known.sort(key=lambda h: id(h.of) not in given)  # dw1, dx before dh2
            give(value, hinted(known[0])) if known else give(value, "t", True)
        gradients = [v for v in gradients if id(v) not in names]
    return names


def _best(hints: list[Hint]) -> Hint | None:
    """The hint of the lowest rank: the outermost module's output, the first variable."""
    if not hints:
        return None
    rank = min(h.rank for h in hints)
    found = [h for h in hints if h.rank == rank]
    return found[-1] if rank == 3 else found[0]


def _stem(path: str) -> str:
    """The name that a path ends with: w of layers.0.w, ws0 of ws.0."""
    parts = path.split(" of ", 1)[0].split(".")
    last = parts[-1]
    if last.isdigit() and len(parts) > 1:
        last = parts[-2] + last
    cleaned = "".join(c if c.isalnum() else "_" for c in last).strip("_")
    if not cleaned.isidentifier():
        cleaned = "const"
    return cleaned
