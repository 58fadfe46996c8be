"""What each layer costs: parameters, floating-point operations, bytes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from groundup.explain.graph import Part, parts_of
from groundup.explain.recorded import Call, Recorded, own_parameters
from groundup.nn.module import Module, has_bwd
from groundup.ops.base import Shape
from groundup.program.program import OPS, Equation, Program, shape_of


@dataclass(frozen=True)
class LayerRow:
    """One call of a layer.

    Attributes:
        path: where the layer is in the model: "layers[0]"; "" for the model and the loss.
        kind: its class.
        shape: of its output.
        parameters: how many numbers are learnt here; 0 in a shared layer's second row.
        flops_forward: floating-point operations of the forward pass.
        flops_backward: of the backward pass.
        activation_bytes: what the forward pass computes here and others read later: the next
            layers, or the backward pass.

    """

    path: str
    kind: str
    shape: Shape
    parameters: int
    flops_forward: int
    flops_backward: int
    activation_bytes: int


def summary(step: Recorded) -> list[LayerRow]:
    """A row for each layer's call, in the order of the forward pass."""
    parts = parts_of(step)
    waiting: dict[str, list[Part]] = {}
    for part in parts:
        waiting.setdefault(part.label, []).append(part)
    shown = [c for c in step.calls if _is_shown(c, step, waiting)]
    rows: list[LayerRow] = []
    counted: set[int] = set()
    for i, call in enumerate(shown):
        path, _, kind = call.label.rpartition(" ")
        # What a model computes between its layers is in several parts; calls of one layer are
        # matched with their parts in order, and the last takes what is left.
        own = waiting.get(call.label, [])
        later = sum(c.label == call.label for c in shown[i + 1 :])
        taken = own if not later else own[:1]
        waiting[call.label] = own[len(taken) :]
        parameters = list(call.module.parameters())
        if not has_bwd(call.module):
            parameters = own_parameters(call.module)
        new = {id(p): p.size for p in parameters if id(p) not in counted}
        counted |= new.keys()
        rows.append(
            LayerRow(
                path,
                kind,
                call.shapes[0] if call.shapes else (),
                sum(new.values()),
                sum(flops(step.program, part.forward) for part in taken),
                sum(flops(step.program, part.backward) for part in taken),
                sum(_activation_bytes(step.program, part.forward) for part in taken),
            )
        )
    return rows


def _is_shown(call: Call, step: Recorded, parts: dict[str, list[Part]]) -> bool:
    """Whether a call is a row: a layer, not what only holds layers or is inside a bwd's layer."""
    if step.owner[call.label] != call.label:
        return False
    return call.label in parts or is_layer(call.module)


def is_layer(module: Module) -> bool:
    """Whether a module has a bwd, parameters of its own, or nothing inside."""
    alone = next((m for m in module.modules() if m is not module), None) is None
    return has_bwd(module) or alone or bool(own_parameters(module))


def flops(program: Program, equations: Iterable[Equation]) -> int:
    """Floating-point operations of equations, by each op's own count."""
    total = 0
    for e in equations:
        if e.out is not None and not e.out.is_number:
            shapes = [shape_of(program.vars[i] if isinstance(i, str) else i) for i in e.ins]
            total += OPS[e.op].flops(e.out.shape, *shapes, **dict(e.attrs))
    return total


def _activation_bytes(program: Program, equations: Sequence[Equation]) -> int:
    own = {id(e) for e in equations}
    total = 0
    for e in equations:
        if e.out is None or e.out.is_number or OPS[e.op].is_view:
            continue
        users = program.uses[e.out.name]
        if any(i < 0 or id(program.equations[i]) not in own for i in users):
            total += e.out.nbytes
    return total


HEAD = ("layer", "", "output", "parameters", "flops fwd", "flops bwd", "activations")


def cells(rows: Sequence[LayerRow]) -> list[tuple[str, ...]]:
    """The rows, and their sum, as text under `HEAD`."""
    made = [
        (r.path, r.kind, str(r.shape), *_numbers(r.parameters, r.flops_forward, r.flops_backward,
         r.activation_bytes)) for r in rows
    ]  # fmt: skip
    sums = _numbers(
        sum(r.parameters for r in rows),
        sum(r.flops_forward for r in rows),
        sum(r.flops_backward for r in rows),
        sum(r.activation_bytes for r in rows),
    )
    return [*made, ("total", "", "", *sums)]


def _numbers(parameters: int, forward: int, backward: int, held: int) -> tuple[str, ...]:
    return f"{parameters:,}", f"{forward:,}", f"{backward:,}", size(held)


def size(count: int) -> str:
    """A number of bytes in words: 12.5 kB."""
    amount = float(count)
    for unit in ("B", "kB", "MB", "GB"):
        if amount < 1000 or unit == "GB":
            break
        amount /= 1000
    return f"{amount:.3g} {unit}"


def table(rows: Sequence[LayerRow]) -> list[str]:
    """The summary as aligned lines, the head first."""
    lines = [HEAD, *cells(rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return [
        "  ".join(
            c.ljust(w) if i < 3 else c.rjust(w)
            for i, (c, w) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    ]
