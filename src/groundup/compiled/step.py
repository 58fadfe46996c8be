"""A step that is recorded once, checked against what it does eagerly, and then replayed."""

from __future__ import annotations

import functools
import threading
import types
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from groundup.compiled.compare import differences, wrong_equation
from groundup.compiled.epoch import Progress, orders, run_epoch
from groundup.compiled.finite import finite_everywhere
from groundup.compiled.replay import written_finish, written_replay, written_run
from groundup.compiled.same import as_it_was
from groundup.errors import GroundupError, ProgramError, RecompileWarning, RecordError
from groundup.ops.base import Array, serials, state
from groundup.program.passes import simplify
from groundup.program.program import Equation, Input, Program, leaves
from groundup.program.recording import record_step
from groundup.program.runner import Runner
from groundup.program.sources import FromArgument, FromCount, FromSetting, FromTensor, Recording
from groundup.tensor import APPLIED, NOT_KEPT, Tensor, as_tensor

if TYPE_CHECKING:
    from groundup.native.engine import Engine
    from groundup.native.show import Report

ENGINES = ("native", "numpy")
_MOST = 16  # recordings that are kept
_MANY = 8  # recordings for changed surroundings, after which something is said


@dataclass
class Entry:
    """A recording, what runs it, and what must still be as it was."""

    recording: Recording
    program: Program
    runner: Runner | Engine
    sources: list[Any]  # of the runner's arguments
    guards: list[tuple[Tensor, Array, bool]]
    counts: list[FromCount]
    written: list[Tensor]
    state_outputs: dict[str, Tensor]  # outputs that are parameters or state themselves
    outputs: Any  # the names in the structure of what the step returns
    checked: bool = False  # recorded a second time, with the same result
    epochs: dict[str, Any] = field(default_factory=dict)  # the engine of whole epochs

    def __post_init__(self) -> None:
        self._as_it_was = as_it_was(self.recording.places, self.guards)
        # Gradients that are not kept, by whose they are, and what is left there instead.
        returned, written = set(leaves(self.program.outputs)), {id(t) for t in self.written}
        self.left = [
            (holder, APPLIED if id(holder) in written else NOT_KEPT)
            for holder, name in self.recording.gradients
            if not isinstance(holder, int) and name not in returned
        ]
        self.gradients = [
            (holder, name)
            for holder, name in self.recording.gradients
            if isinstance(holder, int) or name in returned
        ]
        self.run, self.finish = written_run(self), written_finish(self)
        self.replay: Callable[[tuple[Any, ...]], Any] = _look_closer

    def expect(self, given: Given) -> None:
        """Prepare for calls with arguments like these."""
        if not given.kwargs and self.replay is _look_closer:
            self.replay = written_replay(self, given.args, given.values) or _look_closer

    def misfit(self) -> str:
        """What is not as it was when this was recorded; "" if all is."""
        try:
            same = self._as_it_was()
        except (KeyError, IndexError, ValueError):  # it is not there any more
            same = False
        if not same:
            for place in self.recording.places:
                if place.changed():
                    return f"{place.where} was {place.value!r:.60}, now it is {place.now()!r:.60}"
            for tensor, array, wanted in self.guards:
                if tensor.array is not array:
                    return f"a tensor of shape {array.shape} holds another array"
                if tensor.requires_grad is not wanted:
                    return f"requires_grad of a tensor of shape {array.shape} changed"
        return self._rest()

    def _rest(self) -> str:
        """What does not fit besides places and tensors."""
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
        fallback: why the latest recording runs with NumPy though machine code was asked for; ""
            if it does not.
        progress: of the latest `epoch`.

    """

    def __init__(
        self,
        function: Callable[..., Any],
        engine: str = "native",
        keep_gradients: bool = False,
        threads: int | None = None,
        nan: str = "allow",
    ):
        if not callable(function):
            raise GroundupError(f"compile takes a function or a Module, not {function!r:.60}")
        if engine not in ENGINES:
            raise GroundupError(f"there is no engine {engine!r}; there is {', '.join(ENGINES)}")
        if threads is not None and threads < 1:
            raise GroundupError(f"threads is at least 1, not {threads}")
        self.function, self.engine, self.keep_gradients = function, engine, keep_gradients
        if nan not in ("allow", "raise"):
            raise GroundupError(f'nan is "allow" or "raise", not {nan!r}')
        self.threads, self.nan = threads, nan
        self.recordings = 0
        self._name = getattr(function, "__name__", type(function).__name__)
        self._entries: dict[Any, list[Entry]] = {}
        self._latest: Entry | None = None
        self._replay_latest: Callable[[tuple[Any, ...]], Any] = _look_closer
        self._lock = threading.RLock()
        self._changes = 0
        self._rates: list[FromSetting] = []
        self.fallback = ""
        self.progress = Progress(0)
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

    def native(self) -> str:
        """What the machine code of the latest call does: stages, tiles, loops, as pseudo-code.

        Raises:
            GroundupError: it runs with NumPy.

        """
        engine = self._native_engine()
        from groundup.native.show import listing

        return listing(engine.plan)

    def report(self) -> Report:
        """Measure the latest call's step, kernel by kernel, on copies of all that it changes.

        Returns:
            A Report: `print` or `rich.print` shows its table.

        Raises:
            GroundupError: it runs with NumPy.

        """
        engine = self._native_engine()
        from groundup.native.measure import report

        return report(engine)

    def _native_engine(self) -> Engine:
        runner = self._known().runner
        if isinstance(runner, Runner):
            why = self.fallback or f"engine is {self.engine!r}"
            raise GroundupError(f"{self._name} runs with NumPy, not as machine code: {why}")
        return runner

    @property
    def buffer_bytes(self) -> int:
        """The memory that the latest call's recording keeps for intermediate results."""
        return self._known().runner.buffer_bytes

    def _known(self) -> Entry:
        if self._latest is None:
            raise GroundupError(f"{self._name} has not been called yet: there is no Program so far")
        return self._latest

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if not kwargs:
            with self._lock:
                result = self._replay_latest(args)
            if result is not NotImplemented:
                return result
        if state.recorder is not None:  # within another recorded step: a part of that
            return self.function(*args, **kwargs)
        with self._lock:
            return self._look(args, kwargs)

    def _look(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """A call that is not like the latest: replay another recording, or make one."""
        given = Given(args, kwargs)
        found, misfit = self._entries.get(given.key, ()), ""
        for entry in found:
            misfit = entry.misfit()
            if not misfit:
                self._use(entry)
                return self._replay(entry, given) if entry.checked else self._again(entry, given)
        if found:
            self._recorded_anew(misfit)
        return self._first(given)

    def _use(self, entry: Entry) -> None:
        self._latest, self._replay_latest = entry, entry.replay

    # Whole epochs

    def epoch(
        self,
        *arrays: Any,
        batch_size: int = 64,
        shuffle: bool = False,
        seed: int = 0,
        epoch: int = 0,
        lr: float | Callable[[int], float] | None = None,
        drop_last: bool = False,
        show: Callable[[Progress], None] | None = None,
    ) -> Any:
        """Take a step for each minibatch of some arrays: the loop over them is native.

            losses = step.epoch(x, y, batch_size=64, shuffle=True, seed=1)

        The same bits as `for xb, yb in gu.data.batches(x, y, 64, shuffle=True, seed=1): step(xb,
        yb)`, of whose order it is too. Ctrl-C ends it between two steps, at most about 50 ms later.

        Args:
            *arrays: what the step takes, with a row an example: (n, ...) each.
            batch_size: rows of a step; the last one has what is left.
            shuffle: whether to take the rows in an order drawn from `seed` and `epoch`.
            seed: see `gu.data.batches`.
            epoch: the number of the epoch, from 0.
            lr: the learning rate of the step's optimizers, or a function that gives it for the
                number of the batch, from 0.
            drop_last: leave out a last batch that is smaller.
            show: called with `progress` every few hundredths of a second. Other threads may look
                at `step.progress` at any time.

        Returns:
            What the step returns, each number as a Tensor (batches,) of all steps' numbers.

        Raises:
            GroundupError: the step returns more than numbers; what a call raises, too.

        """
        data = [as_tensor(a) for a in arrays]
        rows = len(data[0]) if data and data[0].ndim else 0
        order = orders(rows, shuffle, seed, epoch)
        return self.over(data, order, batch_size, lr=lr, drop_last=drop_last, show=show)

    def over(
        self,
        arrays: Sequence[Any],
        order: Array,
        batch_size: int,
        *,
        lr: float | Callable[[int], float] | None = None,
        drop_last: bool = False,
        show: Callable[[Progress], None] | None = None,
    ) -> Any:
        """As `epoch`, for the rows that `order` (int64) names, in its order."""
        with self._lock:
            return run_epoch(self, arrays, batch_size, order, lr, drop_last, show)

    def ready(self, batch: list[Array]) -> Entry | None:
        """The native recording for a batch, if it may run as things are now."""
        found = self._entries.get(Given(tuple(batch), {}).key, ())
        for entry in found:
            if entry.checked and not isinstance(entry.runner, Runner) and not entry.misfit():
                self._use(entry)
                return entry
        return None

    def prepare(self, batch: list[Array]) -> None:
        """Find the optimizers' learning rates by a step that is taken back."""
        recording = record_step(self.function, tuple(batch), {})
        recording.undo()
        self._remember_rates(recording)

    def _remember_rates(self, recording: Recording) -> None:
        settings = [s for s in recording.sources.values() if isinstance(s, FromSetting)]
        self._rates = [s for s in settings if s.key == "lr"]

    def rates(self) -> list[FromSetting]:
        """Where the learning rates are that the latest recording reads."""
        return self._rates

    def latest(self) -> Entry:
        """The recording that ran last."""
        return self._known()

    def touch(self, entry: Entry) -> None:
        """Note that a recording's parameters and state were written to."""
        now = next(serials)
        for tensor in entry.written:
            tensor.written = now

    # The first call: record, run both ways, compare

    def _first(self, given: Given) -> Any:
        recording = record_step(self.function, given.args, given.kwargs)
        self.recordings += 1
        after = [(array, array.copy()) for array, _ in recording.before]
        recording.undo()
        try:
            entry = self._entry(recording, given)
            inputs = entry.inputs(given.values)
            found = entry.runner(inputs)
            pairs = [
                (f"output {name}", recording.arrays[name], array)
                for name, array in found.items()
                if name in recording.arrays
            ]
            pairs += [
                (f"update of {name}", wanted, array)
                for (array, wanted), name in zip(after, recording.updated, strict=False)
            ]
            apart = differences(self._name, pairs, entry.program)
            if apart and self.engine == "native" and not self.fallback:
                made = [array.copy() for array, _ in recording.before]
                recording.undo()
                apart = wrong_equation(entry.program, entry.runner.held, inputs, self.threads)
                for (array, _), copy in zip(recording.before, made, strict=True):
                    array[...] = copy
            if apart:
                raise ProgramError(apart)
        except BaseException:
            recording.undo()
            raise
        entries = self._entries.setdefault(given.key, [])
        entries.insert(0, entry)
        self._forget()
        self._use(entry)
        self._remember_rates(recording)
        result = entry.finish(given.holders, list(found.values()))
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
        runner = self._runner(program, held, given_now, copies, recording.steps)
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
            program.outputs[0] if self.keep_gradients else program.outputs,
        )

    def _runner(
        self,
        program: Program,
        held: dict[str, Array],
        given: dict[str, Any],
        copies: dict[str, list[Array]],
        steps: list[tuple[Array, int]],
    ) -> Runner | Engine:
        """What runs the Program: machine code, or NumPy where that is wanted or has to be."""
        self.fallback = ""
        if self.nan == "raise":
            program = finite_everywhere(program)
        if self.engine == "native":
            try:
                from groundup.native.engine import Engine, Unsupported
            except ImportError as error:
                self.fallback = f"llvmlite is not there: {error}"
            else:
                try:
                    return Engine(program, held, copies, steps, self.threads)
                except Unsupported as error:
                    self.fallback = str(error)
                except Exception as error:
                    # A fault of ours, which is said, and should not end somebody's training.
                    self.fallback = f"making machine code of it failed: {error!r}"
                    warnings.warn(
                        f"{self._name} runs with NumPy, as {self.fallback}. This is a fault of "
                        "groundup's: please report it, with what `print(step.program)` shows",
                        RuntimeWarning,
                        stacklevel=6,
                    )
        return Runner(program, held, given, copies, steps)

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
        recording.undo()
        recording.release()
        return self._replay(entry, given)

    # Every call after that

    def _replay(self, entry: Entry, given: Given) -> Any:
        entry.expect(given)
        self._use(entry)
        return entry.run(given.holders, entry.inputs(given.values))

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


def _look_closer(args: tuple[Any, ...]) -> Any:
    """The replay of a step that has none."""
    return NotImplemented


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
