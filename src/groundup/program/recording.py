"""Running a step under the recorder."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import numpy as np

from groundup.errors import RecordError
from groundup.nn import Module
from groundup.ops.base import quiet, state
from groundup.program.finish import finished
from groundup.program.recorder import Recorder
from groundup.program.sources import FromArgument, Recording
from groundup.program.surroundings import Surroundings
from groundup.program.watch import Watch
from groundup.tensor import Tensor


def record_step(
    fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], frozen: bool = False
) -> Recording:
    """Run a step under the recorder; on an exception everything is put back as it was.

    A frozen recording is one for the values at hand only: the step may read them.
    """
    if state.recorder is not None:
        raise RecordError("a step is being recorded already: call the function inside it itself")
    if state.sweep is not None:
        raise RecordError("a step cannot be recorded inside a bwd")
    around = Surroundings(fn, (*args, *kwargs.values()))
    recorder = Recorder(frozen)
    recorder.names, recorder.kept_arrays = around.names, around.arrays
    given_args, given_kwargs = _entered(recorder, fn, args, kwargs)
    outer_gradients = {id(t): t._g for t in _tensors(around)}
    state.recorder = recorder
    try:
        with quiet(), Watch(recorder, getattr(fn, "__code__", None)):
            result = fn(*given_args, **given_kwargs)
        state.recorder = None
        changed = around.changes()
        kept = [p for p in changed if _is_activation(p, recorder)]
        if len(kept) < len(changed):
            raise RecordError(_side_effect([p for p in changed if p not in kept]))
        around.places = [p for p in around.places if p not in kept]
        return finished(recorder, fn, result, around)
    except BaseException:
        state.recorder = None
        recorder.undo()
        for tensor in _tensors(around):
            tensor._g = outer_gradients[id(tensor)]
        raise
    finally:
        # The arrays of the whole step must not wait for the garbage collector.
        recorder.alive.clear()
        recorder.sharing.clear()


def _tensors(around: Surroundings) -> list[Tensor]:
    return [t for t in around.found if isinstance(t, Tensor)]


def _is_activation(place: Any, recorder: Recorder) -> bool:
    """Whether a place holds a tensor that the step made: a layer that kept its output."""
    now = place.now()
    if place.key is len:  # attributes that are new: are they all such tensors?
        return isinstance(place.holder, dict) and all(
            isinstance(v, Tensor) and id(v.array) in recorder.values
            for v in list(place.holder.values())[place.value :]
        )
    return (
        isinstance(now, Tensor)
        and id(now.array) in recorder.values
        and (place.value is None or isinstance(place.value, Tensor))
    )


def _side_effect(changed: list[Any]) -> str:
    shown = ", ".join(
        f"{p.where} ({p.value!r:.40} before, {p.now()!r:.40} after)" for p in changed[:4]
    )
    return (
        f"the step changes Python values while it runs: {shown}. A compiled step replays tensor "
        "operations only, so this would happen once and never again. Keep what changes in a Tensor "
        "(nn.Buffer, with assign), or return it from the step and change it outside"
    )


def _entered(
    recorder: Recorder, fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[list[Any], dict[str, Any]]:
    """The arguments as the step gets them, noted as the Program's."""
    counter = iter(range(1_000_000))

    def enter(value: Any, name: str) -> Any:
        if isinstance(value, np.generic):  # NumPy's numbers are Python's
            value = value.item()
        if isinstance(value, np.ndarray):
            value = Tensor(value)
        if isinstance(value, Tensor):
            if value.node is not None:
                raise RecordError(
                    f"argument {name} was computed by {value.node.name} outside of the step, and "
                    "gradients would flow there: detach it, or compute it in the step"
                )
            recorder.argument(value.array, name, next(counter))
            recorder.alive.append(value)
        elif type(value) is float:
            return recorder.setting(FromArgument(next(counter)), name, value, name)
        elif isinstance(value, tuple | list):
            parts = [enter(v, f"{name}{i + 1}") for i, v in enumerate(value)]
            return type(value)(*parts) if hasattr(value, "_fields") else type(value)(parts)
        elif isinstance(value, dict):
            return {k: enter(v, str(k) if str(k).isidentifier() else f"{name}_{i}")
                    for i, (k, v) in enumerate(value.items())}  # fmt: skip
        return value

    names = _argument_names(fn, len(args))
    return (
        [enter(a, n) for a, n in zip(args, names, strict=True)],
        {k: enter(v, k) for k, v in kwargs.items()},
    )


def _argument_names(fn: Callable[..., Any], count: int) -> list[str]:
    try:
        signature = inspect.signature(fn.forward if isinstance(fn, Module) else fn)
        parameters = list(signature.parameters.values())
    except (TypeError, ValueError):
        parameters = []
    names: list[str] = []
    for p in parameters:
        if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD):
            names.append(p.name)
        elif p.kind is p.VAR_POSITIONAL:
            names += [f"{p.name}{i + 1}" for i in range(count - len(names))]
    return (names + [f"x{i + 1}" for i in range(len(names), count)])[:count]
