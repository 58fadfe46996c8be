"""From what was recorded to a Program: names, phases, outputs, updates."""

from __future__ import annotations

import keyword
from collections.abc import Callable
from typing import Any

from groundup.errors import RecordError
from groundup.nn.step import mapped, tensors_in
from groundup.ops.base import state
from groundup.program.names import given_names
from groundup.program.program import Equation, Input, Program, Var
from groundup.program.recorder import Recorder
from groundup.program.sources import FromArgument, FromTensor, Recording
from groundup.program.surroundings import Surroundings
from groundup.program.values import Line, Value
from groundup.tensor import Tensor


def finished(
    recorder: Recorder, fn: Callable[..., Any], result: Any, around: Surroundings
) -> Recording:
    """The Program of what was recorded."""
    structure = _returned(recorder, result)
    name = getattr(fn, "__name__", type(fn).__name__.lower())
    name = name if name.isidentifier() and not keyword.iskeyword(name) else "step"
    for counter in recorder.counters:
        source = counter.source
        if any(source.optimizer.counts[i] != counter.now for i in source.members):
            name = type(source.optimizer).__name__
            raise RecordError(f"{name}: its update counts went apart in this step")
    _phases(recorder)
    paths = {id(g.value): g.path for g in recorder.given}
    names = given_names([g.value for g in recorder.given], recorder.lines, paths, name)
    var = {key: Var(name, v.shape, v.dtype) for key, (name, v) in names.items()}
    arrays = {id(w.array): w for w in recorder.writes.values()}
    inputs, sources, updates, updated = [], {}, [], {}
    for given in recorder.given:
        source, own = recorder.sources[id(given.value)], var[id(given.value)]
        role = given.role
        if isinstance(source, FromTensor) and id(source.array) in arrays:
            role = "state" if role != "parameter" else role
            new = recorder.values[id(source.array)]
            updated[own.name] = source
            updates.append((own.name, new))
        inputs.append(Input(own, role, given.path, given.default))
        sources[own.name] = source
    counted = {id(c.value): c.latest for c in recorder.counters}
    updates += [(var[key].name, latest) for key, latest in counted.items()]
    order = {id(line.out): i for i, line in enumerate(recorder.lines) if line.out is not None}
    updates = [
        (name, var[id(new)].name)
        for name, new in sorted(updates, key=lambda u: order.get(id(u[1]), -1))
        if var[id(new)].name != name
    ]
    equations = tuple(
        Equation(
            None if line.out is None else var[id(line.out)],
            line.op,
            tuple(var[id(i)].name if isinstance(i, Value) else i for i in line.ins),
            line.attrs,
            line.phase,
            recorder.shown(line.module),
        )
        for line in recorder.lines
    )
    outputs = mapped(structure, lambda value: var[id(value)].name, Value)
    program = Program(
        name,
        tuple(sorted(inputs, key=lambda i: _ORDER.index(i.role))),
        equations,
        outputs,
        tuple(updates),
        recorder.fixed_batch,
    ).verify()
    gradients: list[tuple[Tensor | int, str]] = []
    for tensor, value in recorder.gradients:
        made = recorder.values.get(id(tensor.array))
        found = [recorder.sources[id(g.value)] for g in recorder.given if g.value is made]
        arguments = [source.index for source in found if isinstance(source, FromArgument)]
        place = arguments[0] if arguments else tensor
        if isinstance(value, Value):
            gradients.append((place, var[id(value)].name))
    tensors = tensors_in([result])
    return Recording(
        program,
        sources,
        result,
        {var[id(recorder.value_of(t))].name: t.array for t in tensors},
        recorder.before,
        updated,
        gradients,
        list(recorder.steps.values()),
        recorder.truths,
        around.places,
        {var[key].name: array for key, array in recorder.constants.items()},
        recorder.masks,
        recorder.detaches,
    )


_ORDER = ("argument", "parameter", "state", "captured", "setting")


def _returned(recorder: Recorder, result: Any) -> Any:
    """The step's result with a Value for each Tensor."""
    allowed = (Tensor, type(None), tuple, list, dict)

    def check(value: Any) -> None:
        if not isinstance(value, allowed):
            raise RecordError(
                f"the step returns {type(value).__name__} ({value!r:.40}): a compiled step returns "
                "Tensors, or tuples, lists and dicts of them"
            )
        if isinstance(value, tuple) and hasattr(value, "_fields"):
            raise RecordError("the step returns a named tuple: return a tuple or a dict")
        if isinstance(value, tuple | list | dict):
            for part in value.values() if isinstance(value, dict) else value:
                check(part)

    check(result)
    state.recorder = recorder
    try:
        return mapped(result, recorder.value_of)
    finally:
        state.recorder = None


def _phases(recorder: Recorder) -> None:
    """Ops outside of backward passes and optimizers that follow from a gradient are updates."""
    late: set[int] = set()
    for line in recorder.lines:
        follows = any(id(i) in late for i in line.ins if isinstance(i, Value))
        if line.phase == "forward" and not line.taped and follows:
            line.phase = "update"
        if line.out is not None and (line.phase != "forward" or (follows and not line.taped)):
            late.add(id(line.out))
    # What only updates use, such as `1 - decay`, is one, too.
    users: dict[int, list[Line]] = {}
    for line in recorder.lines:
        for i in line.ins:
            if isinstance(i, Value):
                users.setdefault(id(i), []).append(line)
    for line in reversed(recorder.lines):
        found = users.get(id(line.out), [])
        if line.phase == "forward" and found and all(u.phase == "update" for u in found):
            line.phase = "update"
