"""Kernels put together: what can share loops does, and every value gets its place in memory."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from groundup.native.blocking import panel_vectors
from groundup.native.elementwise import Unsupported
from groundup.native.kernels import (
    Domain,
    Draw,
    Item,
    Kernel,
    Line,
    Nest,
    Pack,
    Product,
    Stage,
    Value,
    View,
)
from groundup.native.llvm import F32, F64, Target
from groundup.native.plan import Planner
from groundup.native.views import contiguous
from groundup.program.program import Program, leaves

# Bytes of a tile's values and inputs, which are meant to stay in a core's second-level cache. With
# each tile all weights and their gradients go through that too: the more there are, the more rows
# should share the way; where they are many, even rows whose values do not stay.
LEAST_TILE = 256 * 1024
MOST_ROWS = 64
MANY_WEIGHTS, MORE_ROWS = 4 * 1024 * 1024, 128  # bytes, and how many rows may be in a tile then
# Entries below which a whole kernel is left to one thread, as waking another would cost more.
FEW = 16384
# Rows of a batch up to which a matrix is read where it lies, and a small one up to some more:
# to copy it into panels, once for all rows, takes longer than it saves.
PLAIN_ROWS, PLAIN_ROWS_IF_SMALL = 64, 512
SMALL_MATRIX = 128 * 1024  # entries
# Floating-point operations below which a step runs on one thread.
SMALL_STEP = 1_500_000
# Ops that cost about as much as loading their operands: these are computed as products are stored.
CHEAP = {
    "add", "sub", "mul", "neg", "relu", "maximum", "minimum", "clamp", "abs", "less", "greater",
    "less_equal", "greater_equal", "equal", "where", "cast", "detach",
}  # fmt: skip


@dataclass(frozen=True)
class Place:
    """Where a value's memory is.

    Attributes:
        space: "table" (an array that the caller gives), "shared", "thread" (a tile's rows, once for
            each thread) or "partial" (once for each thread).
        at: the number of the array, or the byte at which it begins.

    """

    space: str
    at: int


@dataclass
class Plan:
    """All that code is made from.

    Attributes:
        tile: rows of the batch in a tile.
        threads: how many run the step.
        short: whether it takes some microseconds, so that others' help or turns would cost more.
        thread_bytes: memory of each thread; shared_bytes: of all together.
        arrays: names of the arrays in the table, in order.
        returned: for each output its shape and dtype.

    """

    program: Program
    target: Target
    planner: Planner
    stages: list[Stage]
    places: dict[str, Place]
    rows: int
    tile: int
    threads: int
    short: bool
    thread_bytes: int
    shared_bytes: int
    arrays: list[str]
    returned: dict[str, Value]

    @property
    def tiles(self) -> int:
        """How many tiles a batch has."""
        return -(-self.rows // self.tile) if self.rows else 0

    @property
    def tile_threads(self) -> int:
        """How many threads have tiles."""
        return min(self.threads, self.tiles)

    def parts(self, name: str) -> int:
        """How many threads have a part of a sum."""
        terms = self.planner.terms.get(name)
        return self.tile_threads if terms is None else len(shares(terms, self.threads))


def assemble(
    program: Program, held: dict[str, Any], target: Target, threads: int, tile: int | None = None
) -> Plan:
    """The plan of a Program.

    Args:
        program: simplified.
        held: the arrays of inputs other than arguments and settings.
        target: what to compile for.
        threads: at most.
        tile: rows of a tile; None chooses.

    Raises:
        Unsupported: something in the Program is left to NumPy.

    """
    planner = Planner(program, held, target.lanes(F32), threads)
    returned = _returns(planner)
    _updates(planner)
    _mark_final(planner)
    _put_off(planner)
    stages = _stages(planner)
    for stage in stages:
        _fuse_epilogues(planner, stage)
    short = _work(planner, stages) <= SMALL_STEP
    if threads > 1 and short:
        return assemble(program, held, target, 1, tile)
    stages = _packs(planner, stages, target)
    _safe_updates(planner, stages)
    if threads > 1:
        for stage in stages:
            _share(planner, stage)
    places, arrays, shared_bytes = _whole_places(planner, stages, returned)
    rows = planner.rows if any(s.tiled for s in stages) else 0
    thread_places, partial_bytes, row_bytes, spans = _thread_needs(planner, stages, places)
    if rows and tile is None:
        weights = sum(i.var.nbytes for i in program.inputs_of("parameter"))
        most = MORE_ROWS if weights > MANY_WEIGHTS else MOST_ROWS
        most = min(most, max(1, max(LEAST_TILE, weights) // max(row_bytes, 1)))
        tile = _tile_rows(rows, most, threads)
    tile = min(tile or 1, rows or 1)
    at = partial_bytes
    end = at
    for name, begins in thread_places.items():
        places[name] = Place("thread", at + begins * tile)
        end = max(end, at + (begins + spans[name]) * tile)
    return Plan(
        program, target, planner, stages, places, rows, tile, threads, short,
        _rounded(end + 256), shared_bytes, arrays, returned,
    )  # fmt: skip


def shares(n: int, threads: int) -> list[int]:
    """A length in equal parts for threads; the last is smaller."""
    part = -(-n // threads)
    used = -(-n // part)
    return [part] * (used - 1) + [n - (used - 1) * part]


def _rounded(n: int) -> int:
    return -(-n // 64) * 64


def _returns(planner: Planner) -> dict[str, Value]:
    """A copy of every output, into an array that the caller gives."""
    found = {}
    for name in dict.fromkeys(leaves(planner.program.outputs)):
        source = planner.values[name]
        if name in planner.sizes:
            raise Unsupported("a size among the outputs")
        out = Value(f"return {name}", source.shape, source.dtype, source.batch, padded=False)
        view = View(out.name, 0, contiguous(out.shape), out.shape, out.dtype, out.batch)
        found[name] = out
        _copy(planner, name, out.name, view)
    return found


def _copy(planner: Planner, name: str, out: str, target: View) -> Item:
    source = planner.values[name]
    line = Line(out, "detach", (planner.view(name).broadcast(len(source.shape)),), {},
                source.dtype, len(planner.program.equations))  # fmt: skip
    nest = Nest(domain=Domain(source.shape, source.batch), lines=[line], stores=[(out, target)])
    planner._place(
        out, source.shape, source.dtype, source.batch, nest, [name], source.batch is not None
    )
    planner.values[out].padded = False
    return planner.items[-1]


def _updates(planner: Planner) -> None:
    for target, new in planner.program.updates:
        held = planner.values[target].view
        assert held is not None
        if planner.values[new].batch is not None:  # as a whole, when all tiles are done
            source = planner.values[new]
            view = replace(planner.view(new), batch=None)
            line = Line(f"new {target}", "detach", (view,), {}, source.dtype,
                        len(planner.program.equations))  # fmt: skip
            nest = Nest(domain=Domain(source.shape, None), lines=[line],
                        stores=[(line.out, held)])  # fmt: skip
            planner._place(line.out, source.shape, source.dtype, None, nest, [new], False)
        else:
            _copy(planner, new, f"new {target}", held)
        planner.items[-1].final = True


def _mark_final(planner: Planner) -> None:
    """What only updates need is computed with them."""
    needed_elsewhere: set[str] = set()
    for item in reversed(planner.items):
        made = _targets(item.kernel)
        checks = any(m.startswith("check.") for m in made)
        returns = any(m.startswith("return ") for m in made)
        if not item.final:
            item.final = not item.tiled and not checks and (
                returns or not (made & needed_elsewhere)
            )  # fmt: skip
        if not item.final:
            needed_elsewhere |= item.needs
    # A value of several parts is made in one stage.
    late: dict[str, bool] = {}
    for item in planner.items:
        for name in _targets(item.kernel):
            late[name] = late.get(name, True) and item.final
    for item in planner.items:
        item.final = item.final and all(late[n] for n in _targets(item.kernel))


def _put_off(planner: Planner) -> None:
    """What tiles make of the step's inputs alone waits for the tiles that need it: else it might be
    a stage of its own.
    """
    inputs = {i.var.name for i in planner.program.inputs} | set(planner.constants)
    makers: dict[str, list[Item]] = {}
    readers: dict[str, list[Item]] = {}
    for item in planner.items:
        for name in _targets(item.kernel):
            makers.setdefault(name, []).append(item)
        for name in item.needs:
            readers.setdefault(name, []).append(item)
    last = max((item.level for item in planner.items if item.tiled), default=0)
    of_inputs: set[str] = set(inputs)
    free: list[Item] = []
    for item in planner.items:
        made = _targets(item.kernel)
        alone = all(len(makers[n]) == 1 and not planner.is_partial(n) for n in made)
        if item.tiled and alone and item.needs <= of_inputs:
            free.append(item)
            of_inputs |= made
    for item in reversed(free):
        wanted = [r for name in _targets(item.kernel) for r in readers.get(name, ())]
        levels = [last if r.final else r.level if r.tiled else r.level - 1 for r in wanted]
        item.level = min(levels, default=last)


def _targets(kernel: Kernel) -> set[str]:
    """The values that a kernel writes to memory for, with those of which it makes a part."""
    found = {view.base for _, view in kernel.stores}
    if isinstance(kernel, Nest) and kernel.scatter is not None:
        found.add(kernel.scatter.view.base)
    return found | set(kernel.makes())


def _stages(planner: Planner) -> list[Stage]:
    """Items in their stages, put together into kernels."""
    stages: dict[tuple[int, bool, bool], Stage] = {}
    order: dict[tuple[int, bool, bool], list[Item]] = {}
    for item in planner.items:
        level = 1 << 30 if item.final else item.level
        order.setdefault((level, item.tiled, item.final), []).append(item)
    for key in sorted(order):
        stage = Stage(key[0], key[1], final=key[2])
        where: dict[str, int] = {}  # the kernel that makes a value, in this stage
        for item in order[key]:
            _insert(planner, stage, item, where)
        stages[key] = stage
    return list(stages.values())


def _insert(planner: Planner, stage: Stage, item: Item, where: dict[str, int]) -> None:
    earliest = max([where[n] for n in item.needs if n in where], default=0)
    nest = item.kernel
    for j in range(earliest, len(stage.kernels)):
        if _joins(planner, stage.kernels[j], nest, where, j):
            _join(planner, stage.kernels[j], nest)
            for name in _targets(nest):
                where[name] = max(where.get(name, 0), j)
            return
    stage.kernels.append(nest)
    for name in _targets(nest):
        where[name] = len(stage.kernels) - 1


def _direct(planner: Planner, nest: Nest, view: Any, domain: Domain) -> bool:
    """Whether a view is a line's value at the loops' own place."""
    if not isinstance(view, View) or view.base not in {line.out for line in nest.lines}:
        return False
    value = planner.values.get(view.base)
    if value is None or value.view is not None or value.shape != domain.shape:
        return False
    layout = planner.layout(value)
    return (view.offset, view.strides) == (layout.offset, layout.strides)


def _joins(planner: Planner, kernel: Kernel, nest: Kernel, where: dict[str, int], j: int) -> bool:
    """Whether a nest may be computed in the loops of an earlier one."""
    if not isinstance(kernel, Nest) or not isinstance(nest, Nest):
        return False
    if kernel.alone or nest.alone or kernel.domain != nest.domain:
        return False
    if kernel.reduced is not None and nest.reduced is not None and kernel.reduced != nest.reduced:
        return False
    made = _targets(kernel)
    if any(where.get(v.base, -1) > j for v in nest.reads()):
        return False
    return all(v.base not in made or _direct(planner, kernel, v, nest.domain)
               for v in nest.reads())  # fmt: skip


def _join(planner: Planner, kernel: Kernel, nest: Kernel) -> None:
    assert isinstance(kernel, Nest)
    assert isinstance(nest, Nest)
    made = {line.out for line in kernel.lines}

    def inside(operand: Any) -> Any:
        return operand.base if isinstance(operand, View) and operand.base in made else operand

    for line in nest.lines:
        kernel.lines.append(replace(line, ins=tuple(inside(i) for i in line.ins)))
    for r in nest.reductions:
        kernel.reductions.append(replace(r, source=inside(r.source)))
    if nest.reduced is not None:
        kernel.reduced = nest.reduced
    kernel.stores += nest.stores


def _fuse_epilogues(planner: Planner, stage: Stage) -> None:
    """Bias, activation and the like are computed as a product's entries are stored."""
    kernels = stage.kernels
    for product in list(kernels):
        if not isinstance(product, Product) or product.over == "k" or product.swapped:
            continue
        value = planner.values[product.out]
        if value.shape != product.shape:
            continue
        at = kernels.index(product)
        for nest in kernels[at + 1 :]:
            if not isinstance(nest, Nest) or nest.reduced is not None or nest.scatter or nest.alone:
                continue
            if nest.domain.shape != value.shape or nest.domain.batch != value.batch:
                continue
            if not all(line.op in CHEAP for line in nest.lines) or len(nest.lines) > 8:
                continue
            layout = planner.layout(value)
            reads = [v for v in nest.reads() if v.base == product.out]
            if not reads or any(
                (v.offset, v.strides) != (layout.offset, layout.strides) for v in reads
            ):
                continue
            before = {n for k in kernels[:at] for n in _targets(k)}
            here = {n for k in kernels for n in _targets(k)}
            others = {v.base for v in nest.reads()} - {product.out}
            if any(n in here and n not in before for n in others):
                continue

            def inside(operand: Any, out: str = product.out) -> Any:
                return out if isinstance(operand, View) and operand.base == out else operand

            product.epilogue = [
                replace(line, ins=tuple(inside(i) for i in line.ins)) for line in nest.lines
            ]
            product.stores += nest.stores
            kernels.remove(nest)
            break


def _work(planner: Planner, stages: list[Stage]) -> float:
    """About how many floating-point operations a step has."""
    total = 0.0
    for stage in stages:
        for kernel in stage.kernels:
            if isinstance(kernel, Product):
                total += 2 * math.prod(kernel.shape) * kernel.a.shape[-1]
            elif isinstance(kernel, Nest):
                lines = sum(not line.out.startswith("return ") for line in kernel.lines)
                total += 4 * math.prod(kernel.domain.shape) * (lines + len(kernel.reductions))
            elif isinstance(kernel, Draw):
                total += 16 * math.prod(kernel.shape)
    return total


def panel_width(
    target: Target, dtype: str, columns: int, terms: int, sizes: tuple[int, ...]
) -> int:
    """How many columns of a product go together."""
    lanes = target.lanes(F64 if dtype == "float64" else F32)
    return panel_vectors(sizes, -(-columns // lanes), terms, target) * lanes


def _packs(planner: Planner, stages: list[Stage], target: Target) -> list[Stage]:
    """Matrices that tiles read again and again are copied into panels first."""
    made: list[Stage] = []
    for stage in stages:
        packs: dict[tuple[View, int], Pack] = {}
        for kernel in stage.kernels if stage.tiled else []:
            if not isinstance(kernel, Product) or kernel.over != "m" or len(kernel.shape) != 2:
                continue
            b = kernel.b
            if b.batch is not None:
                continue
            sizes = (min(MOST_ROWS, -(-kernel.shape[-2] // 2)),)
            width = panel_width(target, kernel.dtype, b.shape[-1], b.shape[-2], sizes)
            lies_well = b.strides[-1] == 1 or b.shape[-1] == 1
            small = math.prod(b.shape[-2:]) <= SMALL_MATRIX and planner.rows <= PLAIN_ROWS_IF_SMALL
            if lies_well and (planner.rows <= PLAIN_ROWS or small):
                continue
            key = (b, width)
            if key not in packs:
                packs[key] = Pack(out=f"packed {b.base}.{len(made)}.{len(packs)}", b=b,
                                  equation=kernel.equation, width=width)  # fmt: skip
            kernel.packed, kernel.width = packs[key].out, width
        if packs:
            before = made[-1] if made and not made[-1].tiled else None
            if before is None:
                before = Stage(stage.level, False)
                made.append(before)
            before.kernels += packs.values()
        made.append(stage)
    return made


def _safe_updates(planner: Planner, stages: list[Stage]) -> None:
    """Updates that would be read by later kernels wait until those are done."""
    inputs = {i.var.name for i in planner.program.inputs}
    if not stages or not stages[-1].final:
        return
    stage = stages[-1]
    for j, kernel in enumerate(list(stage.kernels)):
        if not isinstance(kernel, Nest):
            continue
        for n, (name, view) in enumerate(kernel.stores):
            if view.base not in inputs or not name.startswith("new "):
                continue
            late = any(v.base == view.base for k in stage.kernels[j + 1 :] for v in k.reads())
            own = [v for v in kernel.reads() if v.base == view.base]
            moved = any((v.strides, v.offset) != (view.strides, view.offset) for v in own)
            if late or moved or kernel.reduced is not None:
                value = planner.values[name]
                layout = planner.layout(value)
                kernel.stores[n] = (name, layout)
                line = Line(f"{name}.", "detach", (layout,), {}, value.dtype,
                            len(planner.program.equations))  # fmt: skip
                stage.kernels.append(
                    Nest(domain=Domain(value.shape, None), lines=[line], stores=[(line.out, view)])
                )


def _share(planner: Planner, stage: Stage) -> None:
    """Which whole kernels threads share."""
    if stage.tiled:
        return
    for kernel in stage.kernels:
        if isinstance(kernel, Nest):
            shape, reduced = kernel.domain.shape, kernel.reduced or frozenset()
            kernel.parallel = (
                len(shape) > 0 and shape[0] > 1 and 0 not in reduced and kernel.scatter is None
                and not any(r.op == "check" for r in kernel.reductions)
                and math.prod(shape) >= FEW
            )  # fmt: skip
        elif isinstance(kernel, Product):
            kernel.parallel = kernel.over == "terms" or (
                math.prod(kernel.shape) * kernel.a.shape[-1] >= SMALL_STEP
                and kernel.shape[0 if len(kernel.shape) > 2 else -2] > 1
            )
        elif isinstance(kernel, Pack):
            kernel.parallel = math.prod(kernel.b.shape) >= FEW


def _whole_places(
    planner: Planner, stages: list[Stage], returned: dict[str, Value]
) -> tuple[dict[str, Place], list[str], int]:
    """Memory of inputs, outputs, and what stages hand to one another."""
    arrays = [i.var.name for i in planner.program.inputs]
    arrays += planner.constants
    arrays += [e.out.name for e in planner.hosted if e.out is not None]
    arrays += [v.name for v in returned.values()]
    places = {name: Place("table", i) for i, name in enumerate(arrays)}
    made: dict[str, tuple[int, Stage]] = {}
    for n, stage in enumerate(stages):
        for kernel in stage.kernels:
            for name in _targets(kernel):
                made.setdefault(name, (n, stage))
    at = 0
    for n, stage in enumerate(stages):
        for kernel in stage.kernels:
            for view in kernel.reads():
                name = view.base
                if name in places:
                    continue
                where, maker = made[name]
                value = planner.values[name]
                if value.partial:
                    places[name] = Place("partial", -1)
                elif not maker.tiled or where != n:
                    entries = planner.row_entries(value)
                    entries *= planner.rows if value.batch is not None else 1
                    places[name] = Place("shared", at)
                    at += _rounded(entries * _itemsize(value.dtype) + 64)
        for kernel in stage.kernels:
            if isinstance(kernel, Product) and kernel.packed and kernel.packed not in places:
                k, columns = kernel.b.shape[-2:]
                panels = -(-columns // 16) * 16 + 256
                places[kernel.packed] = Place("shared", at)
                at += _rounded(k * panels * _itemsize(kernel.dtype) + 64)
            for _, view in kernel.stores:  # updates that wait
                if view.base not in places and not stage.tiled:
                    value = planner.values[view.base]
                    places[view.base] = Place("shared", at)
                    at += _rounded(planner.row_entries(value) * _itemsize(value.dtype) + 64)
    _store_where_read(planner, stages, places)
    return places, arrays, at + 256


def _itemsize(dtype: str) -> int:
    return 8 if dtype in ("int", "float") else np.dtype(dtype).itemsize


def _store_where_read(planner: Planner, stages: list[Stage], places: dict[str, Place]) -> None:
    """Each kernel stores what is read outside of it."""
    readers: dict[str, list[Kernel]] = {}
    for stage in stages:
        for kernel in stage.kernels:
            for view in kernel.reads():
                readers.setdefault(view.base, []).append(kernel)
    for stage in stages:
        for kernel in stage.kernels:
            if isinstance(kernel, Pack):
                continue
            explicit = {name for name, view in kernel.stores if view.base == name}
            for name in kernel.makes():
                if name in explicit or name not in planner.values or name.startswith("return "):
                    continue
                parts = any(view.base == name for _, view in kernel.stores)
                if any(k is not kernel for k in readers.get(name, ())) and not parts:
                    kernel.stores.append((name, planner.layout(planner.values[name])))


def _thread_needs(
    planner: Planner, stages: list[Stage], places: dict[str, Place]
) -> tuple[dict[str, int], int, int, dict[str, int]]:
    """Memory that each thread has for itself.

    Returns:
        For each tiled value where it begins, in bytes for one row of the batch; the bytes of sums;
        the bytes of a row of everything that a tile goes through; the bytes of a row of each value.

    """
    at = 0
    for name, place in list(places.items()):
        if place.space == "partial":
            value = planner.values[name]
            places[name] = Place("partial", at)
            rows = planner.rows if value.batch is not None else 1
            at += _rounded(planner.row_entries(value) * rows * _itemsize(value.dtype) + 64)
    begins: dict[str, int] = {}
    spans: dict[str, int] = {}
    row_bytes = 0
    for stage in stages:
        if not stage.tiled:
            continue
        last: dict[str, int] = {}
        first: dict[str, int] = {}
        inputs: dict[str, int] = {}
        for j, kernel in enumerate(stage.kernels):
            for name in [*(v.base for v in kernel.reads()), *(v.base for _, v in kernel.stores)]:
                if name not in planner.values or planner.values[name].batch is None:
                    continue
                value = planner.values[name]
                if name in places:
                    # Results are written and not read: what is computed must not depend on them.
                    if places[name].space != "partial" and not name.startswith("return "):
                        inputs[name] = planner.row_entries(value) * _itemsize(value.dtype)
                    continue
                first.setdefault(name, j)
                last[name] = j
        free: list[tuple[int, int]] = [(0, 1 << 40)]
        held: list[tuple[int, str]] = []
        top = 0
        for name in sorted(first, key=lambda n: first[n]):
            j = first[name]
            for until, other in list(held):
                if until < j:
                    free.append((begins[other], spans[other]))
                    held.remove((until, other))
            free = _joined(free)
            value = planner.values[name]
            # A multiple of 64 bytes, so that every value of a tile begins at one.
            size = _rounded(planner.row_entries(value) * _itemsize(value.dtype))
            for i, (start, length) in enumerate(free):
                if length >= size:
                    begins[name], spans[name] = start, size
                    free[i] = (start + size, length - size)
                    break
            held.append((last[name], name))
            top = max(top, begins[name] + size)
        row_bytes = max(row_bytes, top + sum(inputs.values()))
    return begins, at, row_bytes, spans


def _joined(free: list[tuple[int, int]]) -> list[tuple[int, int]]:
    found: list[tuple[int, int]] = []
    for start, length in sorted(f for f in free if f[1]):
        if found and found[-1][0] + found[-1][1] == start:
            found[-1] = (found[-1][0], found[-1][1] + length)
        else:
            found.append((start, length))
    return found


def _tile_rows(rows: int, most: int, threads: int) -> int:
    """Rows of a tile: as many as may be, the same for all tiles if it can be."""
    if most >= 16:
        most -= most % 8
    share = -(-rows // threads)
    tiles = -(-share // most)
    tile = -(-share // tiles)
    if tile > 16:
        tile = -(-tile // 8) * 8
    return min(tile, rows)
