"""A step that is recorded once, checked against what it does eagerly, and then replayed."""

from __future__ import annotations

import functools
import threading
import types
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from groundup.errors import GroundupError, ProgramError, RecompileWarning, RecordError
from groundup.ops.base import Array, serials, state
from groundup.program.passes import simplify
from groundup.program.program import Equation, Input, Program, filled
from groundup.program.recording import record_step
from groundup.program.runner import Runner
from groundup.program.sources import FromArgument, FromCount, FromTensor, Recording
from groundup.tensor import APPLIED, NOT_KEPT, Tensor, as_tensor

ENGINES = ("numpy",)
_MOST = 16  # recordings that are kept
_MANY = 8  # recordings for changed surroundings, after which something is said


@dataclass
class Entry:
    """A recording, what runs it, and what must still be as it was."""

    recording: Recording
    program: Program
    runner: Runner
    sources: list[Any]  # of the runner's arguments
    guards: list[tuple[Tensor, Array, bool]]
    counts: list[FromCount]
    written: list[Tensor]
    state_outputs: dict[str, Tensor]  # outputs that are parameters or state themselves
    checked: bool = False  # recorded a second time, with the same result

    def __post_init__(self) -> None:
        places = [p for p in self.recording.places if p.key is not len]
        cells = [p for p in places if isinstance(p.holder, types.CellType)]
        self.cells = [(p.holder, p.value) for p in cells]
        self.quick = [(p.holder, p.key, p.value) for p in places if p not in cells]
        self.lengths = [(p.holder, p.value) for p in self.recording.places if p.key is len]

    def misfit(self) -> str:
        """What is not as it was when this was recorded; "" if all is."""
        for holder, key, value in self.quick:
            try:
                if holder[key] is not value:
                    break
            except (KeyError, IndexError):
                break
        else:
            cells = all([cell.cell_contents is value for cell, value in self.cells])  # noqa: C419
            if cells and all([len(holder) == n for holder, n in self.lengths]):  # noqa: C419
                return self._other_misfit()
        for place in self.recording.places:
            if place.changed():
                return f"{place.where} was {place.value!r:.60}, now it is {place.now()!r:.60}"
        return self._other_misfit()

    def _other_misfit(self) -> str:
        for tensor, array, wanted in self.guards:
            if tensor.array is not array:
                return f"a tensor of shape {array.shape} holds another array"
            if tensor.requires_grad is not wanted:
                return f"requires_grad of a tensor of shape {array.shape} changed"
        for setting, truth in self.recording.truths:
            if bool(setting.now()) is not truth:
                return f"{setting.key} became {setting.now():g}"
        for mask, copy in self.recording.masks:
            if not np.array_equal(mask, copy):
                return f"a boolean index of shape {mask.shape} has other entries"
        if any([source.went_apart() for source in self.counts]):  # noqa: C419
            return "an optimizer's update counts went apart"
        return ""

    def inputs(self, given: list[Any]) -> list[Any]:
        """What the runner takes."""
        return [given[s.index] if type(s) is FromArgument else s.now() for s in self.sources]


class Compiled:
    """A step that runs as a Program: see `gu.compile`.

    Attributes:
        recordings: how often the function was recorded so far.

    """

    def __init__(self, function: Callable[..., Any], engine: str, keep_gradients: bool):
        if not callable(function):
            raise GroundupError(f"compile takes a function or a Module, not {function!r:.60}")
        if engine not in ENGINES:
            raise GroundupError(f"there is no engine {engine!r}; there is {', '.join(ENGINES)}")
        self.function, self.engine, self.keep_gradients = function, engine, keep_gradients
        self.recordings = 0
        self._name = getattr(function, "__name__", type(function).__name__)
        self._entries: dict[Any, list[Entry]] = {}
        self._latest: Entry | None = None
        self._lock = threading.RLock()
        self._changes = 0
        functools.update_wrapper(self, function, updated=())

    def __get__(self, owner: Any, kind: type | None = None) -> Any:
        return self if owner is None else types.MethodType(self, owner)

    @property
    def program(self) -> Program:
        """The Program of the latest call, simplified."""
        return self._known().program

    def arguments(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Copies of all that the Program takes, by name, as of now: to run its source by hand.

        step.program.function()(**step.arguments(x, y))
        """
        entry = self._known()
        given = Given(args, kwargs)
        values = dict(zip(entry.runner.names, entry.inputs(given.values), strict=True))
        values |= entry.runner.held
        return {
            i.var.name: np.array(values[i.var.name]) if not i.var.is_number else values[i.var.name]
            for i in entry.program.inputs
        }

    @property
    def buffer_bytes(self) -> int:
        """The memory that the latest call's recording keeps for intermediate results."""
        return self._known().runner.buffer_bytes

    def _known(self) -> Entry:
        if self._latest is None:
            raise GroundupError(f"{self._name} has not been called yet: there is no Program so far")
        return self._latest

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if state.recorder is not None:  # within another recorded step: a part of that
            return self.function(*args, **kwargs)
        given = Given(args, kwargs)
        with self._lock:
            found, misfit = self._entries.get(given.key, ()), ""
            for entry in found:
                misfit = entry.misfit()
                if not misfit:
                    self._latest = entry
                    return (
                        self._replay(entry, given) if entry.checked else self._again(entry, given)
                    )
            if found:
                self._recorded_anew(misfit)
            return self._first(given)

    # The first call: record, run both ways, compare

    def _first(self, given: Given) -> Any:
        recording = record_step(self.function, given.args, given.kwargs)
        self.recordings += 1
        after = [(array, array.copy()) for array, _ in recording.before]
        recording.undo()
        try:
            entry = self._entry(recording, given)
            found = entry.runner(entry.inputs(given.values))
            for name, array in found.items():
                if name in recording.arrays:
                    _compare(f"{self._name}'s output {name}", recording.arrays[name], array)
            for (array, wanted), name in zip(after, recording.updated, strict=False):
                _compare(f"{self._name}'s update of {name}", wanted, array)
        except BaseException:
            for array, copy in recording.before:
                array[...] = copy
            raise
        for array, wanted in after:
            array[...] = wanted
        entries = self._entries.setdefault(given.key, [])
        entries.insert(0, entry)
        self._forget()
        self._latest = entry
        result = recording.result
        recording.release()
        return result

    def _entry(self, recording: Recording, given: Given) -> Entry:
        program = recording.program
        if self.keep_gradients:
            names = list(dict.fromkeys(name for _, name in recording.gradients))
            program = replace(program, outputs=(program.outputs, names))
        program = simplify(program)
        held: dict[str, Array] = {}
        counts: list[FromCount] = []
        copies: dict[str, list[Array]] = {}
        for i in program.inputs:
            source = recording.sources[i.var.name]
            if isinstance(source, FromTensor):
                held[i.var.name] = recording.constants.get(i.var.name, source.array)
            elif isinstance(source, FromCount):
                held[i.var.name] = source.array
                copies[i.var.name] = source.others()
                counts.append(source)
        sources = [recording.sources[i.var.name] for i in program.inputs_of("argument", "setting")]
        arguments = [given.values[s.index] if type(s) is FromArgument else s.now() for s in sources]
        names = [i.var.name for i in program.inputs_of("argument", "setting")]
        given_now = dict(zip(names, arguments, strict=True))
        runner = Runner(program, held, given_now, copies, recording.steps)
        tensors = [s for s in recording.sources.values() if isinstance(s, FromTensor)]
        return Entry(
            recording,
            program,
            runner,
            sources,
            [(s.tensor, s.array, s.tensor.requires_grad) for s in tensors],
            counts,
            [s.tensor for s in recording.updated.values()],
            recording.state_outputs(),
        )

    def _forget(self) -> None:
        """Keep the number of recordings within bounds: the oldest goes."""
        while sum(map(len, self._entries.values())) > _MOST:
            oldest = next(iter(self._entries))
            self._entries[oldest].pop()
            if not self._entries[oldest]:
                del self._entries[oldest]

    # The second call: record again, which must give the same

    def _again(self, entry: Entry, given: Given) -> Any:
        recording = record_step(self.function, given.args, given.kwargs)
        self.recordings += 1
        difference = _difference(entry.recording, recording)
        if difference:
            recording.undo()
            self._entries.pop(given.key, None)
            raise RecordError(
                f"{self._name} does not do the same at every call, though nothing changed that "
                f"groundup can see: {difference}. A compiled step would repeat the first call. "
                "Pass what changes as an argument (a Tensor, or a float), keep it in an nn.Buffer, "
                "or draw random numbers with gu.rand and gu.randn"
            )
        entry.checked = True
        return recording.result

    # Every call after that

    def _replay(self, entry: Entry, given: Given) -> Any:
        arrays = entry.runner(entry.inputs(given.values))
        recording, now = entry.recording, next(serials)
        for tensor in entry.written:
            tensor.written = now
        tensors = {name: Tensor.of(array) for name, array in arrays.items()} | entry.state_outputs
        for whose, name in recording.gradients:
            holder = given.holders[whose] if isinstance(whose, int) else whose
            gradient = tensors.get(name)
            if gradient is not None:
                gradient.written = now
            if holder is not None:
                missing = APPLIED if holder.written == now else NOT_KEPT
                holder._g = missing if gradient is None else gradient
        outputs = entry.program.outputs
        return filled(outputs[0] if self.keep_gradients else outputs, tensors)

    def _recorded_anew(self, why: str) -> None:
        self._changes += 1
        if self._changes == _MANY:
            warnings.warn(
                f"{self._name} has been recorded {self.recordings + 1} times, as something around "
                f"it changed each time; now {why}. Pass it as an argument (a Tensor, or a float): "
                "then one recording is enough",
                RecompileWarning,
                stacklevel=4,
            )

    def __repr__(self) -> str:
        return f"<compiled {self._name}, engine {self.engine}, recorded {self.recordings} times>"


class Given:
    """The arguments of a call.

    Attributes:
        key: what a recording depends on: structure, shapes, dtypes, order in memory, and whatever
            is neither array nor float.
        values: the arrays and floats, in order.
        holders: for each of them the Tensor that was passed, or None.

    """

    def __init__(self, args: tuple[Any, ...], kwargs: dict[str, Any]):
        self.values: list[Any] = []
        self.holders: list[Tensor | None] = []
        modes = (state.recording, state.own_rules)
        self.args: tuple[Any, ...] = tuple(args)
        self.kwargs = kwargs
        parts = [self._enter(a) for a in args]
        parts += [(name, self._enter(v)) for name, v in kwargs.items()]
        self.key = (modes, *parts)

    def _enter(self, value: Any) -> Any:
        if isinstance(value, Tensor):
            array = value.array
            self.values.append(array)
            self.holders.append(value)
            return (array.shape, array.dtype, array.flags.c_contiguous, value.requires_grad)
        if isinstance(value, np.generic):
            value = value.item()
        if isinstance(value, np.ndarray):
            array = as_tensor(value).array
            self.values.append(array)
            self.holders.append(None)
            return (array.shape, array.dtype, array.flags.c_contiguous, False)
        if type(value) is float:
            self.values.append(value)
            self.holders.append(None)
            return float
        if isinstance(value, tuple | list):
            return (type(value), *[self._enter(v) for v in value])
        if isinstance(value, dict):
            return (dict, *[(k, self._enter(v)) for k, v in value.items()])
        try:
            hash(value)
        except TypeError:
            raise RecordError(
                f"a compiled step takes Tensors, arrays, numbers and hashable values; "
                f"{type(value).__name__} is none"
            ) from None
        return (type(value), value)


def _compare(what: str, eager: Array, engine: Array) -> None:
    """Raise unless two results agree within rounding."""
    if eager.dtype.kind != "f":
        same = eager.shape == engine.shape and bool(np.array_equal(eager, engine))
    else:
        finite = np.abs(eager[np.isfinite(eager)])
        scale = float(finite.max()) if finite.size else 1.0
        tolerance = 64 * float(np.finfo(eager.dtype).eps)
        same = eager.shape == engine.shape and bool(
            np.allclose(engine, eager, rtol=tolerance, atol=tolerance * scale, equal_nan=True)
        )
    if not same:
        apart = "shapes differ" if eager.shape != engine.shape else _worst(eager, engine)
        raise ProgramError(f"{what} is not what the eager step computed: {apart}")


def _worst(eager: Array, engine: Array) -> str:
    gap = np.abs(np.asarray(eager, np.float64) - np.asarray(engine, np.float64))
    gap = np.where(np.isnan(gap), np.where(np.isnan(eager) & np.isnan(engine), 0.0, np.inf), gap)
    place = np.unravel_index(int(np.argmax(gap)), gap.shape) if gap.size else ()
    where = tuple(int(i) for i in place)
    return f"at {where} {engine[where]} instead of {eager[where]}"


def _difference(first: Recording, second: Recording) -> str:
    """How two recordings of one step differ; "" if they do the same."""
    a, b = first.program, second.program
    for e, f in zip(a.equations, b.equations, strict=False):
        if _bare(e) != _bare(f):
            return f"{_shown(e)} became {_shown(f)}" + (f" (in {e.module})" if e.module else "")
    if len(a.equations) != len(b.equations):
        return f"it ran {len(a.equations)} operations, then {len(b.equations)}"
    if a.outputs != b.outputs or a.updates != b.updates:
        return "it returned or updated something else"
    if [_bare_input(i) for i in a.inputs] != [_bare_input(i) for i in b.inputs]:
        return "it used other tensors"
    for name, source in first.sources.items():
        other = second.sources[name]
        if not isinstance(source, FromTensor) or source.array is other.array:
            continue
        if name not in first.constants or not np.array_equal(
            first.constants[name], second.constants[name], equal_nan=True
        ):
            return f"{name}, an array of shape {source.array.shape}, has other entries"
    return ""


def _bare(e: Equation) -> Any:
    return (e.out, e.op, [(type(i), i) for i in e.ins], repr(e.attrs), e.phase)


def _bare_input(given: Input) -> Any:
    return (given.var, given.role, given.path)


def _shown(e: Equation) -> str:
    attrs = "".join(f", {k}={v!r:.40}" for k, v in e.attrs)
    out = e.out.name if e.out is not None else "check"
    return f"{out} = {e.op}({', '.join(map(str, e.ins))}{attrs})"
