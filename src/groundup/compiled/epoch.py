"""Whole epochs of a compiled step: the loop over minibatches, natively where that can be."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from time import perf_counter
from typing import TYPE_CHECKING, Any

import numpy as np

from groundup.errors import DataError, GroundupError, ShapeError
from groundup.ops.base import Array
from groundup.program.program import filled, leaves
from groundup.program.sources import FromArgument, FromSetting
from groundup.tensor import Tensor, as_tensor

if TYPE_CHECKING:
    from groundup.compiled.step import Compiled, Entry

# Seconds of steps in one native call: Ctrl-C, and whoever looks at the progress, wait no longer.
_CALL = 0.03
_FIRST_CALL = 4  # steps in the first one, from whose time the rest is reckoned

_NONE = np.zeros(1, np.int64)


@dataclass
class Progress:
    """How far an epoch is; another thread may look at it while it runs.

    Attributes:
        batches: how many there are.
        done: how many are done.
        latest: what the steps since the last look returned, stacked: an array, or a tuple, list or
            dict of arrays.
        seconds: since it began.

    """

    batches: int
    latest: Any = None
    began: float = field(default_factory=perf_counter)
    # Steps before the native call at hand, and where that counts its own: set at once, so that an
    # interrupt at any moment finds the right number.
    _done: tuple[int, Array] = field(default=(0, _NONE), repr=False)

    @property
    def done(self) -> int:
        before, now = self._done
        return before + int(now[0])

    def goes_on(self, more: int = 0) -> Array:
        """Where a native call is to count its steps."""
        counter = np.zeros(1, np.int64)
        self._done = self.done + more, counter
        return counter

    @property
    def seconds(self) -> float:
        return perf_counter() - self.began


def run_epoch(
    step: Compiled,
    arrays: Sequence[Any],
    batch_size: int,
    order: Array,
    lr: float | Callable[[int], float] | None,
    drop_last: bool,
    show: Callable[[Progress], None] | None,
) -> Any:
    """See `Compiled.epoch`."""
    data = [np.asarray(as_tensor(a).array, order="C") for a in arrays]
    _check(data, batch_size)
    rows = len(order)
    starts = range(0, rows - batch_size + 1 if drop_last else rows, batch_size)
    progress = step.progress = Progress(len(starts))
    results: list[list[Any]] = []
    structure: Any = None
    native: tuple[Entry, Any] | None = None
    size = _FIRST_CALL
    while progress.done < len(starts):
        n, seen = progress.done, len(results)
        full = min(len(starts) - n, (rows - starts[n]) // batch_size)
        if step.keep_gradients:  # a batch's, not all batches'
            full = 0
        entry = (
            step.ready(_batch(data, order[starts[n] : starts[n] + batch_size])) if full else None
        )
        if entry is None:
            structure = _one(step, data, order[starts[n] : starts[n] + batch_size], lr, n, results)
            progress.goes_on(1)
        else:
            if native is None or native[0] is not entry:
                native = entry, _engine(step, entry, data)
            began = perf_counter()
            count = min(full, size)
            block = order[starts[n] : starts[n] + count * batch_size].reshape(count, batch_size)
            made = _many(step, entry, native[1], data, block, lr, n, results, progress)
            progress.goes_on()
            structure = entry.outputs
            if made < count:  # a bad batch: NumPy says what is wrong with it
                if show is not None and made:  # but first it is told of the good ones
                    progress.latest = _stacked(structure, results[seen:])
                    show(progress)
                    seen = len(results)
                bad = order[starts[n + made] : starts[n + made] + batch_size]
                _one(step, data, bad, lr, n + made, results)
                progress.goes_on(1)
            each = (perf_counter() - began) / max(made, 1)
            size = max(1, int(_CALL / max(each, 1e-7)))
        if show is not None:
            progress.latest = _stacked(structure, results[seen:])
            show(progress)
    if not results:
        raise DataError(f"epoch: {rows} rows make no batch of {batch_size}, and drop_last is set")
    return _stacked(structure, results, Tensor.of)


def _stacked(structure: Any, results: list[list[Array]], kind: Any = np.asarray) -> Any:
    """What steps returned, each number as an array of all steps'."""
    stacked = [kind(np.concatenate(parts)) for parts in zip(*results, strict=True)]
    return filled(structure, dict(zip(leaves(structure), stacked, strict=True)))


def _check(data: Sequence[Array], batch_size: int) -> None:
    if not data:
        raise GroundupError("epoch takes the arrays whose rows the step takes: step.epoch(x, y)")
    if batch_size < 1:
        raise DataError(f"epoch: batch_size={batch_size}; it must be at least 1")
    lengths = [len(a) if a.ndim else -1 for a in data]
    if len(set(lengths)) > 1 or lengths[0] < 0:
        raise ShapeError(
            f"epoch: the arrays have the shapes {[a.shape for a in data]}; each needs as many rows"
        )
    if not lengths[0]:
        raise DataError("epoch: the arrays are empty")


def _batch(data: Sequence[Array], rows: Array) -> list[Array]:
    return [a[rows] for a in data]


def _set(lr: float | Callable[[int], float] | None, n: int, step: Compiled) -> None:
    """Set the learning rate of the optimizers that the step uses."""
    if lr is None:
        return
    rate = lr(n) if callable(lr) else lr
    for source in step.rates():
        source.holder[source.key] = float(rate)


def _one(
    step: Compiled, data: Sequence[Array], rows: Array, lr: Any, n: int, results: list[list[Any]]
) -> Any:
    """A batch by a call of the step; the names in the structure of what it returns."""
    if lr is not None and not step.rates():  # what the rate's optimizer is, a recording tells
        step.prepare(_batch(data, rows))
    _set(lr, n, step)
    result = step(*_batch(data, rows))
    structure = step.latest().outputs
    found = dict(zip(leaves(structure), _flat(result), strict=True))
    _check_outputs(found)
    results.append([array[None].copy() for array in found.values()])  # a parameter's own, maybe
    return structure


def _flat(result: Any) -> Iterator[Array]:
    """The arrays of the Tensors in a structure."""
    if isinstance(result, Tensor):
        yield result.array
    elif isinstance(result, dict):
        for part in result.values():
            yield from _flat(part)
    elif result is not None:
        for part in result:
            yield from _flat(part)


def _check_outputs(found: dict[str, Array]) -> None:
    large = {name: a.shape for name, a in found.items() if a.ndim > 0}
    if large:
        raise GroundupError(
            f"epoch keeps what each step returns: numbers, not arrays such as {large}. Make the "
            "step return its loss alone"
        )


def _engine(step: Compiled, entry: Entry, data: Sequence[Array]) -> Any:
    """The native loop for a recording; kept with it."""
    from groundup.native.epoch import EpochEngine

    names = entry.runner.names
    lengths = {
        name: len(data[source.index])
        for name, source in zip(names, entry.sources, strict=True)
        if type(source) is FromArgument
    }
    key = tuple(lengths.items())
    if entry.epochs.get("key") != key:
        entry.epochs = {"key": key, "engine": EpochEngine(entry.runner, lengths)}  # type: ignore[arg-type]
    return entry.epochs["engine"]


def _many(
    step: Compiled, entry: Entry, engine: Any, data: Sequence[Array], block: Array, lr: Any,
    n: int, results: list[list[Any]], progress: Progress,
) -> int:  # fmt: skip
    """Batches in one native call; how many were made."""
    count = len(block)
    settings = np.zeros((count, len(engine.names)))
    at = {name: i for i, name in enumerate(engine.names)}
    pairs = list(zip(entry.runner.names, entry.sources, strict=True))
    for i in range(count if callable(lr) else min(count, 1)):
        _set(lr, n + i, step)
        for name, source in pairs:
            if isinstance(source, FromSetting):
                settings[i, at[name]] = source.now()
    if not callable(lr):
        settings[:] = settings[0]
    arrays = [data[s.index] for _, s in pairs if type(s) is FromArgument]
    outs = [np.empty((count, *shape), dtype) for _, _, shape, dtype in engine.results]
    names = [name for name, *_ in engine.results]
    _check_outputs({name: out[0] for name, out in zip(names, outs, strict=True)})
    made: int = engine.run(arrays, np.ascontiguousarray(block), settings, outs, progress.goes_on())
    step.touch(entry)
    if callable(lr) and made:
        _set(lr, n + made - 1, step)
    by_name = dict(zip(names, outs, strict=True))
    if made:
        results.append([by_name[name][:made] for name in leaves(entry.outputs)])
    return made


def orders(rows: int, shuffle: bool, seed: int, epoch: int) -> Array:
    """The rows in the order of an epoch, as `gu.data.batches` has them."""
    if not shuffle:
        return np.arange(rows)
    from groundup.data.shuffling import permutation

    return permutation(rows, seed, epoch)
