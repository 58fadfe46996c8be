"""The calls of a recorded step, written out: Python made for one recording, without its loops.

A small step takes its machine code a few microseconds; a loop over its parameters, settings and
results would take Python as long.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from groundup.compiled.same import Terms
from groundup.ops.base import Array, serials, state
from groundup.program.sources import FromArgument, FromSetting
from groundup.tensor import APPLIED, NOT_KEPT, Tensor

if TYPE_CHECKING:
    from groundup.compiled.step import Entry


def written_run(entry: Entry) -> Callable[[Sequence[Any], Sequence[Any]], Any]:
    """What runs a recording: `run(holders, inputs)` gives what the step returns.

    Holders are the Tensors among the call's arguments, each in its place.
    """
    terms = Terms()
    lines = _cleared(terms, entry, "holders[{}]")
    inputs = [f"inputs[{n}]" for n in range(len(entry.sources))]
    running, results = entry.runner.written(terms.name, inputs)
    lines += running + _handed_out(terms, entry, "holders[{}]", results)
    return terms.function("run(holders, inputs)", lines)


def written_finish(entry: Entry) -> Callable[[Sequence[Any], Sequence[Array]], Any]:
    """The same without the run: `finish(holders, results)`."""
    terms = Terms()
    results = [f"results[{n}]" for n in range(len(entry.runner.returned))]
    lines = _handed_out(terms, entry, "holders[{}]", results)
    return terms.function("finish(holders, results)", lines)


def written_replay(
    entry: Entry, args: Sequence[Any], values: Sequence[Any]
) -> Callable[[tuple[Any, ...]], Any] | None:
    """What takes a call's arguments, runs a recording if all is as it was, and gives what the step
    returns; NotImplemented where things have to be looked at more closely.

    None if the arguments are more than Tensors, arrays and floats.

    Args:
        entry: the recording.
        args: of the call that was recorded.
        values: their arrays, and floats.

    """
    if len(args) != len(values):
        return None
    terms, recording = Terms(), entry.recording
    checks: list[str] = []
    for i, (arg, value) in enumerate(zip(args, values, strict=True)):
        if not isinstance(arg, Tensor) and arg is not value:
            return None
        array = f"a{i}.array" if isinstance(arg, Tensor) else f"a{i}"
        checks.append(f"if type(a{i}) is not {terms.name(type(arg))}: return NotImplemented")
        checks.append(f"x{i} = {array}")
        if type(arg) is float:
            continue
        other = [
            f"x{i}.shape != {value.shape}",
            f"x{i}.dtype is not {terms.name(value.dtype)}",
            f"not x{i}.flags.c_contiguous"
            if value.flags.c_contiguous
            else f"x{i}.strides != {value.strides}",
        ]
        if isinstance(arg, Tensor):
            other.append(f"a{i}.requires_grad is not {arg.requires_grad}")
        checks.append(f"if {' or '.join(other)}: return NotImplemented")
    terms.add_places(recording.places)
    terms.add_guards(entry.guards)
    checks += terms.lines("return NotImplemented")
    settings: dict[Any, str] = {}  # what reads each, once

    def setting(source: FromSetting) -> str:
        place = (id(source.holder), source.key, source.index)
        if place not in settings:
            name = settings[place] = f"s{len(settings)}"
            index = "" if source.index is None else f"[{source.index}]"
            checks.append(f"{name} = {terms.name(source.holder)}[{source.key!r}]{index}")
            checks.append(f"if type({name}) is not float: {name} = float({name})")
        return settings[place]

    for source, truth in recording.truths:
        checks.append(f"if {'not ' if truth else ''}{setting(source)}: return NotImplemented")
    for mask, copy in recording.masks:
        equal = f"{terms.name(np.array_equal)}({terms.name(mask)}, {terms.name(copy)})"
        checks.append(f"if not {equal}: return NotImplemented")
    for count in entry.counts:
        checks.append(f"if {terms.name(count.went_apart)}(): return NotImplemented")
    inputs = [f"x{s.index}" if type(s) is FromArgument else setting(s) for s in entry.sources]
    running, results = entry.runner.written(terms.name, inputs)
    lines = [
        "here = state.__dict__",
        f"if (len(args) != {len(args)} or here['recorder'] is not None"
        f" or here['recording'] is not {state.recording}"
        f" or here['own_rules'] is not {state.own_rules}): return NotImplemented",
        f"{', '.join(f'a{i}' for i in range(len(args)))}, = args" if args else "pass",
        "try:",
        *[f"    {line}" for line in checks or ["pass"]],
        "except (KeyError, IndexError, ValueError):",
        "    return NotImplemented",
        *_cleared(terms, entry, "a{}"),
        *running,
        *_handed_out(terms, entry, "a{}", results),
    ]
    return terms.function("replay(args)", lines)


def _cleared(terms: Terms, entry: Entry, holder: str) -> list[str]:
    """As backward does, a step clears what it will set: then no older gradient keeps memory that
    this one's can have.
    """
    return [_set(terms, whose, "None", holder) for whose, _ in entry.gradients]


def _handed_out(terms: Terms, entry: Entry, holder: str, results: Sequence[str]) -> list[str]:
    """What a step leaves in tensors and gradients, and what it returns."""
    terms.known |= {"serials": serials, "new": object.__new__, "Tensor": Tensor}
    terms.known |= {"applied": APPLIED, "none": NOT_KEPT}
    lines = []
    written = [f"{terms.name(tensor)}.written" for tensor in entry.written]
    if written or entry.gradients:
        lines.append(f"{' = '.join(['now', *written])} = next(serials)")
    tensors: dict[str, str] = {}
    for n, (name, result) in enumerate(zip(entry.runner.returned, results, strict=True)):
        if name in entry.state_outputs:
            tensors[name] = terms.name(entry.state_outputs[name])
        else:
            tensors[name] = t = f"t{n}"
            lines.append(f"{t} = new(Tensor); {t}.array = {result}")  # as Tensor.of does
            lines.append(f"{t}.requires_grad = False; {t}.written = 0; {t}.node = {t}._g = None")
    for what, word in ((APPLIED, "applied"), (NOT_KEPT, "none")):
        left = [f"{terms.name(tensor)}._g" for tensor, missing in entry.left if missing is what]
        if left:
            lines.append(f"{' = '.join(left)} = {word}")
    for whose, name in entry.gradients:
        if name in tensors:
            lines.append(f"{tensors[name]}.written = now")
        gone = f"applied if {_holder(terms, whose, holder)}.written == now else none"
        lines.append(_set(terms, whose, tensors.get(name, gone), holder))
    lines.append(f"return {_structure(terms, entry.outputs, tensors)}")
    return lines


def _holder(terms: Terms, whose: Tensor | int, holder: str) -> str:
    return holder.format(whose) if isinstance(whose, int) else terms.name(whose)


def _set(terms: Terms, whose: Tensor | int, value: str, holder: str) -> str:
    """The line that sets a gradient; an argument may be no Tensor."""
    name = _holder(terms, whose, holder)
    if not isinstance(whose, int):
        return f"{name}._g = {value}"
    return f"if isinstance({name}, {terms.name(Tensor)}): {name}._g = {value}"


def _structure(terms: Terms, outputs: Any, values: Mapping[str, str]) -> str:
    """The expression for a structure of outputs, with each name replaced by its value's."""
    if isinstance(outputs, str):
        return values[outputs]
    if isinstance(outputs, tuple | list):
        parts = "".join(f"{_structure(terms, part, values)}, " for part in outputs)
        return f"{terms.name(type(outputs))}(({parts}))"
    if isinstance(outputs, dict):
        parts = "".join(
            f"{terms.name(key)}: {_structure(terms, part, values)}, "
            for key, part in outputs.items()
        )
        return f"{{{parts}}}"
    return terms.name(outputs)
