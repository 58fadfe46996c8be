"""Loop nests as LLVM: loads, element-wise lines, reductions, stores."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from llvmlite import ir

from groundup.native import elementwise
from groundup.native.assemble import Plan
from groundup.native.elementwise import Value, converted, kind_of, memory_kind, number
from groundup.native.kernels import Batch, Domain, Gather, Line, Nest, Reduction, View
from groundup.native.llvm import (
    F32,
    F64,
    I1,
    I8,
    I32,
    I64,
    POINTER,
    VOID,
    constant,
    declare,
    define,
    for_range,
    i64,
    lanes_of,
    splat,
    type_name,
    vector,
)

# Results of so many bytes begin at a multiple of so many, and are written past the caches.
LARGE, ALIGNED = 4 << 20, 64
# The caller's table of pointers: these, then the arrays.
SHARED, THREADS, FLAGS, TIMES, ARRAYS = range(5)


@dataclass
class Mask:
    """Which lanes count: the first ones.

    Attributes:
        of: a vector of i1.
        count: how many, an i64.

    """

    of: Any
    count: Any


class Writer:
    """A kernel's function: `kernel(table, thread, row, rows, first)`.

    Args of that: the table of pointers; the number of the thread; the first row of the tile (or the
    first entry of this thread's part), and how many; whether it is this thread's first tile.

    """

    def __init__(self, plan: Plan, module: ir.Module, name: str, batch: Batch | None, tiled: bool):
        self.plan, self.batch, self.tiled = plan, batch, tiled
        self.function, self.top = define(module, name, VOID, POINTER, I64, I64, I64, I64)
        self.table, self.thread, self.row, self.rows, self.first = self.function.args
        self.builder = ir.IRBuilder(self.function.append_basic_block("body"))
        self.bases: dict[tuple[str, int], Any] = {}
        times = batch.times if batch is not None else 1
        self.start = self.top.mul(self.row, i64(times))
        self.length = self.top.mul(self.rows, i64(times))  # of the tile's axis
        self._mine: Any = None

    def finish(self) -> None:
        """End the function."""
        self.builder.ret_void()
        self.top.branch(self.function.basic_blocks[1])

    # Memory

    def pointer(self, slot: int) -> Any:
        """An entry of the table."""
        place = self.top.gep(self.table, [i64(slot)], source_etype=POINTER)
        return self.top.load(place, typ=POINTER)

    def mine(self) -> Any:
        """The thread's own memory."""
        if self._mine is None:
            offset = self.top.mul(self.thread, i64(self.plan.thread_bytes))
            self._mine = self.top.gep(self.pointer(THREADS), [offset], source_etype=I8)
        return self._mine

    def base(self, name: str, thread: int = -1) -> Any:
        """Where a value's memory begins; a thread's part of it."""
        key = (name, thread)
        if key not in self.bases:
            place = self.plan.places[name]
            if place.space == "table":
                found = self.pointer(ARRAYS + place.at)
            elif place.space == "shared":
                found = self.top.gep(self.pointer(SHARED), [i64(place.at)], source_etype=I8)
            elif thread >= 0:
                at = thread * self.plan.thread_bytes + place.at
                found = self.top.gep(self.pointer(THREADS), [i64(at)], source_etype=I8)
            else:
                found = self.top.gep(self.mine(), [i64(place.at)], source_etype=I8)
            self.bases[key] = found
        return self.bases[key]

    def space(self, view: View) -> str:
        """Where a view's memory is."""
        return self.plan.places[view.base].space

    def offset(self, view: View, at: Sequence[Any]) -> Any:
        """The entry of a view at loop indices, an i64."""
        b = self.builder
        total: Any = None
        fixed = view.offset
        local = self.space(view) == "thread"
        for axis, (stride, i) in enumerate(zip(view.strides, at, strict=True)):
            if stride == 0:
                continue
            if self.batch is not None and axis == self.batch.axis and not local:
                i = self.start if isinstance(i, int) and i == 0 else b.add(_index(i), self.start)
            if isinstance(i, int):
                fixed += i * stride
                continue
            term = i if stride == 1 else b.mul(i, i64(stride), flags=("nsw",))
            total = term if total is None else b.add(total, term, flags=("nsw",))
        if total is None:
            return i64(fixed)
        return b.add(total, i64(fixed), flags=("nsw",)) if fixed else total

    def address(self, view: View, at: Sequence[Any], thread: int = -1) -> Any:
        """The address of a view's entry."""
        base = self.base(view.base, thread)
        return self.builder.gep(base, [self.offset(view, at)],
                                source_etype=memory_kind(view.dtype))  # fmt: skip

    def padded(self, view: View, lane: int, n: int, lanes: int) -> bool:
        """Whether whole vectors may be read and written along an axis of n entries."""
        if self.batch is not None and lane == self.batch.axis:
            return False  # the next rows are another tile's
        if n % lanes == 0:
            return True
        if self.space(view) == "table" or view.strides[lane] != 1:
            return False
        value = self.plan.planner.values.get(view.base)
        if value is None or value.view is not None or not value.padded:
            return False
        layout = self.plan.planner.layout(value)
        if (layout.offset, sorted(layout.strides)) != (view.offset, sorted(view.strides)):
            return False
        if n not in [m for m, s in zip(layout.shape, layout.strides, strict=True) if s == 1]:
            return False  # a part of the rows
        wanted = -(-n // lanes) * lanes
        others = [s for a, s in enumerate(view.strides) if a != lane and s]
        return all(s >= wanted for s in others) and (bool(others) or self.space(view) != "thread")

    def load(
        self, view: View, at: Sequence[Any], lane: int, lanes: int, mask: Mask | None
    ) -> Value:
        """Entries of a view at loop indices: lanes along an axis, or one for all of them."""
        place = self.plan.places[view.base]
        if place.space == "partial":
            # Every thread's part, added up in their order.
            total: Any = None
            for thread in range(self.plan.parts(view.base)):
                part = self._load(view, at, lane, lanes, mask, thread)
                total = (
                    part
                    if total is None
                    else elementwise.together(self.builder, "sum", total, part, view.dtype)
                )
            return Value(total, view.dtype)
        return Value(self._load(view, at, lane, lanes, mask), view.dtype)

    def own_part(
        self, view: View, at: Sequence[Any], lane: int, lanes: int, mask: Mask | None
    ) -> Any:
        """What this thread's part of a sum holds."""
        return self._load(view, at, lane, lanes, mask)

    def _load(
        self, view: View, at: Sequence[Any], lane: int, lanes: int, mask: Mask | None,
        thread: int = -1,
    ) -> Any:  # fmt: skip
        b = self.builder
        kind = memory_kind(view.dtype)
        stride = view.strides[lane] if lanes > 1 else 0
        size = kind_size(kind)
        if stride == 0:
            found = b.load(self.address(view, at, thread), typ=kind, align=size)
        elif stride == 1:
            pointer = self.address(view, at, thread)
            if mask is None or self.padded(view, lane, view.shape[lane], lanes):
                found = b.load(pointer, typ=vector(kind, lanes), align=size)
            else:
                found = masked_load(b, pointer, vector(kind, lanes), mask.of)
        else:
            found = ir.Constant(vector(kind, lanes), ir.Undefined)
            for n in range(lanes):
                shift: Any = i64(n)
                if mask is not None:  # lanes that do not count read the last one that does
                    last = b.sub(mask.count, i64(1))
                    shift = b.select(b.icmp_signed("<", shift, mask.count), shift, last)
                here = list(at)
                here[lane] = b.add(_index(at[lane]), shift)
                one = b.load(self.address(view, here, thread), typ=kind, align=size)
                found = b.insert_element(found, one, ir.Constant(I32, n))
        return self._from_memory(found, view.dtype)

    def _from_memory(self, found: Any, dtype: str) -> Any:
        if dtype == "bool":
            return self.builder.icmp_unsigned("!=", found, constant(found.type, 0))
        return found

    def store(
        self, value: Any, view: View, at: Sequence[Any], lane: int, lanes: int, mask: Mask | None,
        past: bool = False,
    ) -> None:  # fmt: skip
        """Write lanes along an axis, which is contiguous; or one number.

        With `past` they are written past the caches, where nobody reads them soon, to an address
        that is a multiple of 64.
        """
        b = self.builder
        kind = memory_kind(view.dtype)
        if view.dtype == "bool":
            value = b.zext(value, vector(I8, lanes_of(value.type)))
        size = kind_size(kind)
        if lanes == 1:
            b.store(value, self.address(view, at), align=size)
            return
        value = splat(b, value, lanes) if lanes_of(value.type) == 1 else value
        stride = view.strides[lane]
        if stride == 1:
            pointer = self.address(view, at)
            if past:
                node = b.module.add_metadata([ir.Constant(I32, 1)])
                b.store(value, pointer, align=ALIGNED).set_metadata("nontemporal", node)
            elif mask is None or self.padded(view, lane, view.shape[lane], lanes):
                b.store(value, pointer, align=size)
            else:
                masked_store(b, value, pointer, mask.of)
            return
        for n in range(lanes):
            here = list(at)
            here[lane] = b.add(_index(at[lane]), i64(n))

            def write(n: int = n, here: list[Any] = here) -> None:
                one = b.extract_element(value, ir.Constant(I32, n))
                b.store(one, self.address(view, here), align=size)

            if mask is None:
                write()
            else:
                with b.if_then(b.icmp_signed("<", i64(n), mask.count)):
                    write()

    # Lines

    def operand(
        self, i: Any, values: dict[Any, Value], at: Sequence[Any], lane: int, lanes: int,
        mask: Mask | None,
    ) -> Value:  # fmt: skip
        """What a line reads."""
        if isinstance(i, str):
            return values[i]
        if isinstance(i, View):
            if i not in values:
                values[i] = self.load(i, at, lane, lanes, mask)
            return values[i]
        return literal(i)

    def line(
        self, line: Line, values: dict[Any, Value], at: Sequence[Any], lane: int, lanes: int,
        mask: Mask | None,
    ) -> Value:  # fmt: skip
        """Compute a line."""
        if line.op == "full":
            return Value(number(self.builder, line.attrs["value"], line.dtype, lanes), line.dtype)
        if line.op == "take":
            return self.gathered(line.ins[0], at, lane, lanes, mask)
        ins = [self.operand(i, values, at, lane, lanes, mask) for i in line.ins]
        return elementwise.emit(self.builder, line.op, line.attrs, ins, line.dtype)

    def flag(self) -> None:
        """Note that something is wrong with the step's input."""
        flags = self.pointer(FLAGS)
        self.builder.store(i64(1), flags)

    def gather_offset(self, gather: Gather, at: Sequence[Any]) -> Any:
        """The entry that indices choose; one that is out of range raises the flag."""
        b = self.builder
        total = self.offset(gather.view, at)
        for view, stride, length in gather.indices:
            index = self.load(view, at, 0, 1, None)
            chosen = converted(b, index, "int64")
            if np.dtype(index.dtype).kind == "i":
                negative = b.icmp_signed("<", chosen, i64(0))
                chosen = b.select(negative, b.add(chosen, i64(length)), chosen)
            wrong = b.icmp_unsigned(">=", chosen, i64(length))
            with b.if_then(wrong, likely=False):
                self.flag()
            chosen = b.select(wrong, i64(0), chosen)
            total = b.add(total, b.mul(chosen, i64(stride)))
        return total

    def gathered(
        self, gather: Gather, at: Sequence[Any], lane: int, lanes: int, mask: Mask | None
    ) -> Value:
        """Entries that indices choose, the same for all lanes."""
        b, view = self.builder, gather.view
        kind = memory_kind(view.dtype)
        offset = self.gather_offset(gather, at)
        wide = vector(kind, lanes if view.strides[lane] else 1) if lanes > 1 else kind
        size = kind_size(kind)
        total: Any = None
        # Of a sum of which each thread has a part, all parts.
        parts = range(self.plan.parts(view.base)) if self.space(view) == "partial" else [-1]
        for thread in parts:
            place = b.gep(self.base(view.base, thread), [offset], source_etype=kind)
            if mask is None or lanes_of(wide) == 1:
                found = b.load(place, typ=wide, align=size)
            else:
                found = masked_load(b, place, wide, mask.of)
            part = self._from_memory(found, view.dtype)
            total = (
                part if total is None else elementwise.together(b, "sum", total, part, view.dtype)
            )
        return Value(total, view.dtype)

    # Loops

    def extent(self, axis: int, shape: Sequence[int]) -> Any:
        """How often a loop runs: a number, or for the tile's axis an i64."""
        if self.batch is not None and axis == self.batch.axis:
            return self.length
        return shape[axis]

    @contextmanager
    def loop(self, axis: int, shape: Sequence[int], at: list[Any], carried: list[Any]) -> Any:
        """One loop over an axis, one entry at a time."""
        n = self.extent(axis, shape)
        if isinstance(n, int) and n == 1:
            at[axis] = 0
            yield
            return
        with for_range(self.builder, i64(0), _index(n), 1, carried) as i:
            at[axis] = i
            yield


def kind_size(kind: Any) -> int:
    """Bytes of a number in memory."""
    return {F32: 4, F64: 8}.get(kind) or kind.width // 8


def _index(i: Any) -> Any:
    return i64(i) if isinstance(i, int) else i


def literal(i: Any) -> Value:
    """A Python number."""
    if isinstance(i, bool):
        return Value(ir.Constant(I1, int(i)), "bool")
    return Value(ir.Constant(F64, float(i)), "int" if isinstance(i, int) else "float")


def masked_load(b: ir.IRBuilder, pointer: Any, kind: Any, mask: Any) -> Any:
    """A vector of which only the lanes in the mask are read; the others are 0."""
    name = f"llvm.masked.load.{type_name(kind)}.p0"
    function = declare(b, name, kind, POINTER, I32, mask.type, kind)
    align = ir.Constant(I32, kind_size(kind.element))
    return b.call(function, [pointer, align, mask, ir.Constant(kind, None)])


def masked_store(b: ir.IRBuilder, value: Any, pointer: Any, mask: Any) -> None:
    """Write only the lanes in the mask."""
    name = f"llvm.masked.store.{type_name(value.type)}.p0"
    function = declare(b, name, VOID, value.type, POINTER, I32, mask.type)
    align = ir.Constant(I32, kind_size(value.type.element))
    b.call(function, [value, pointer, align, mask])


def fixed_mask(count: int, lanes: int) -> Mask:
    """The first lanes."""
    bits = [ir.Constant(I1, int(i < count)) for i in range(lanes)]
    return Mask(ir.Constant(ir.VectorType(I1, lanes), bits), i64(count))


def counted_mask(b: ir.IRBuilder, count: Any, lanes: int) -> Mask:
    """As many lanes as an i64 says, or all."""
    each = ir.Constant(ir.VectorType(I64, lanes), [i64(i) for i in range(lanes)])
    return Mask(b.icmp_signed("<", each, splat(b, count, lanes)), count)


def flattened(nest: Nest, tiled: bool) -> Nest:
    """A nest whose neighbouring axes are one where all its arrays lie so; often a single loop."""
    shape, batch = list(nest.domain.shape), nest_batch(nest, tiled)
    gathers = any(isinstance(i, Gather) for line in nest.lines for i in line.ins)
    if nest.reduced is not None or nest.scatter is not None or gathers:
        return nest
    ndim = len(shape)
    loads = {i: i.broadcast(ndim) for line in nest.lines for i in line.ins if isinstance(i, View)}
    stores = [(name, view.broadcast(ndim)) for name, view in nest.stores]
    first = 0 if batch is None else batch.axis + 1

    def together(view: View, axis: int) -> bool:
        return view.strides[axis] == view.strides[axis + 1] * shape[axis + 1]

    axis = ndim - 2
    while axis >= first:
        views = [*loads.values(), *(view for _, view in stores)]
        if shape[axis] == 1 or shape[axis + 1] == 1 or all(together(v, axis) for v in views):
            low = axis + 1 if shape[axis + 1] > 1 else axis

            def merged(view: View, low: int = low, axis: int = axis) -> View:
                strides = [*view.strides[:axis], view.strides[low], *view.strides[axis + 2 :]]
                lengths = [*view.shape[:axis], view.shape[axis] * view.shape[axis + 1],
                           *view.shape[axis + 2 :]]  # fmt: skip
                return replace(view, strides=tuple(strides), shape=tuple(lengths))

            loads = {i: merged(v) for i, v in loads.items()}
            stores = [(name, merged(v)) for name, v in stores]
            shape[axis : axis + 2] = [shape[axis] * shape[axis + 1]]
        axis -= 1
    lines = [
        replace(line, ins=tuple(loads[i] if isinstance(i, View) else i for i in line.ins))
        for line in nest.lines
    ]
    domain = Domain(tuple(shape), nest.domain.batch)
    return replace(nest, domain=domain, lines=lines, stores=stores)


def nest_batch(nest: Nest, tiled: bool) -> Batch | None:
    """The axis of which a call of the kernel does a part."""
    if tiled:
        return nest.domain.batch
    return Batch(0, 1) if nest.parallel else None


class NestWriter:
    """Code of a loop nest.

    Loops over axes that stay are outside, those over reduced ones inside; along one axis, the last
    that has more than one entry, vectors are computed.
    """

    def __init__(self, plan: Plan, module: ir.Module, name: str, nest: Nest, tiled: bool):
        nest = flattened(nest, tiled)
        self.nest, self.shape = nest, nest.domain.shape
        self.w = Writer(plan, module, name, nest_batch(nest, tiled), tiled)
        self.plan = plan
        self.reduced = nest.reduced or frozenset()
        self.results = {r.out: self._result_axes(r) for r in nest.reductions}
        views = list(nest.reads()) + [v for _, v in nest.stores]
        dtypes = {v.dtype for v in views} | {line.dtype for line in nest.lines}
        wide = "float64" in dtypes
        self.lanes = plan.target.lanes(F64 if wide else F32)
        self.lane = self._lane()
        if self.lane is None:
            self.lanes = 1
        kept = [a for a in range(len(self.shape)) if a not in self.reduced and a != self.lane]
        inner = [a for a in range(len(self.shape)) if a in self.reduced and a != self.lane]
        lane = [] if self.lane is None else [self.lane]
        if self.lane in self.reduced:
            self.outer, self.inner = kept, inner + lane
        else:
            self.outer, self.inner = kept + lane, inner
        self.pending = list(dict.fromkeys(v for v in self._plain_views()))
        self.at: list[Any] = [0] * len(self.shape)
        self.mask: Mask | None = None

    def _plain_views(self) -> list[View]:
        found = [i for line in self.nest.lines for i in line.ins if isinstance(i, View)]
        return found + [r.source for r in self.nest.reductions if isinstance(r.source, View)]

    def _result_axes(self, r: Reduction) -> list[int]:
        value = self.plan.planner.values.get(r.out)
        ndim = len(self.shape)
        if r.op == "cumsum" or (value is not None and len(value.shape) == ndim):
            return list(range(ndim))
        return [a for a in range(ndim) if a not in self.reduced]

    def _lane(self) -> int | None:
        nest = self.nest
        wide = [a for a in range(len(self.shape)) if self.shape[a] > 1]
        if not wide:
            return None
        axis = wide[-1]
        if any(r.op in ("argmax", "argmin", "cumsum") for r in nest.reductions):
            wide = [a for a in wide if a not in self.reduced]
            if not wide:
                return None
            axis = wide[-1]
        gathers = [i for line in nest.lines for i in line.ins if isinstance(i, Gather)]
        if nest.scatter is not None:
            gathers.append(nest.scatter)
        for gather in gathers:
            if gather.view.strides[axis] not in (0, 1):
                return None
            if any(view.strides[axis] for view, _, _ in gather.indices):
                return None
        if nest.scatter is not None and nest.scatter.view.strides[axis] != 1:
            return None
        return axis

    def write(self) -> None:
        """The whole function."""
        if self.nest.scatter is not None:
            self._zero_part()
        self._outer(0, {})
        self.w.finish()

    def _zero_part(self) -> None:
        assert self.nest.scatter is not None
        view = self.nest.scatter.view
        if self.w.space(view) != "partial":
            return
        b = self.w.builder
        value = self.plan.planner.values[view.base]
        kind = memory_kind(view.dtype)
        with (
            b.if_then(b.icmp_unsigned("!=", self.w.first, i64(0))),
            for_range(b, i64(0), i64(self.plan.planner.row_entries(value))) as i,
        ):
            b.store(constant(kind, 0 if np.dtype(view.dtype).kind != "f" else 0.0),
                    b.gep(self.w.base(view.base), [i], source_etype=kind))  # fmt: skip

    def _ahead(self, left: Sequence[int], values: dict[Any, Value]) -> dict[Any, Value]:
        """Load what does not change in the loops that are left."""
        values = dict(values)
        left = [*left, self.lane] if self.lane is not None else left
        for view in self.pending:
            if view not in values and not any(view.strides[a] for a in left):
                values[view] = self.w.load(view, self.at, 0, 1, None)
        return values

    def _lanes(self, axis: int, carried: list[Any], inside: Callable[[], None]) -> None:
        """The loop over vectors: whole ones, then what is left."""
        b, lanes = self.w.builder, self.lanes
        n = self.w.extent(axis, self.shape)
        if not isinstance(n, int):
            with for_range(b, i64(0), n, lanes, carried) as i:
                self.at[axis] = i
                self.mask = counted_mask(b, b.sub(n, i), lanes)
                inside()
            self.mask = None
            return
        stop = n // lanes * lanes
        if n % lanes and self._whole_vectors(axis, n):
            stop = -(-n // lanes) * lanes
        if stop == lanes:
            self.at[axis] = 0
            inside()
        elif stop:
            with for_range(b, i64(0), i64(stop), lanes, carried) as i:
                self.at[axis] = i
                inside()
        if stop < n:
            self.at[axis] = stop
            self.mask = fixed_mask(n - stop, lanes)
            inside()
            self.mask = None

    def _whole_vectors(self, axis: int, n: int) -> bool:
        """Whether all that is loaded and stored along an axis has rows of whole vectors."""
        if (self.nest.reductions and axis in self.reduced) or self.nest.scatter is not None:
            return False
        gathers = [i for line in self.nest.lines for i in line.ins if isinstance(i, Gather)]
        if gathers or any(r.op == "check" for r in self.nest.reductions):
            return False
        views = [*self._plain_views(), *(self._aligned(name, v) for name, v in self.nest.stores)]
        return all(v.strides[axis] == 0 or self.w.padded(v, axis, n, self.lanes) for v in views)

    def _aligned(self, name: str, view: View) -> View:
        """A store's view with the nest's axes."""
        if name in self.results:
            return view.aligned(len(self.shape), self.results[name])
        return view.broadcast(len(self.shape))

    def _outer(self, k: int, values: dict[Any, Value]) -> None:
        values = self._ahead([*self.outer[k:], *self.inner], values)
        if k == len(self.outer):
            self._reduce(values)
            return
        axis = self.outer[k]
        if axis == self.lane:
            self._lanes(axis, [], lambda: self._outer(k + 1, values))
        else:
            with self.w.loop(axis, self.shape, self.at, []):
                self._outer(k + 1, values)

    def _reduce(self, values: dict[Any, Value]) -> None:
        carried: list[Any] = []
        across = self.lane in self.reduced
        lanes = self.lanes if across or self.lane is not None else 1
        for r in self.nest.reductions:
            carried += self._begin(r, lanes)
        self._inner(0, values, carried)
        n = 0
        for r in self.nest.reductions:
            n += self._end(r, carried, n, across)

    def _begin(self, r: Reduction, lanes: int) -> list[Any]:
        if r.op == "check":
            return [constant(vector(I1, lanes), 0)]
        op = {"argmax": "amax", "argmin": "amin", "cumsum": "sum"}.get(r.op, r.op)
        dtype = self._source_dtype(r) if r.op in ("argmax", "argmin") else r.dtype
        first = constant(vector(kind_of(dtype), lanes), elementwise.identity(op, dtype))
        return [first, constant(vector(I64, lanes), 0)] if "arg" in r.op else [first]

    def _source_dtype(self, r: Reduction) -> str:
        if isinstance(r.source, View):
            return r.source.dtype
        return next(line.dtype for line in self.nest.lines if line.out == r.source)

    def _inner(self, k: int, values: dict[Any, Value], carried: list[Any]) -> None:
        values = self._ahead(self.inner[k:], values)
        if k == len(self.inner):
            self._body(values, carried)
            return
        axis = self.inner[k]
        if axis == self.lane:
            self._lanes(axis, carried, lambda: self._inner(k + 1, values, carried))
        else:
            with self.w.loop(axis, self.shape, self.at, carried):
                self._inner(k + 1, values, carried)

    def _body(self, values: dict[Any, Value], carried: list[Any]) -> None:
        w, b, nest = self.w, self.w.builder, self.nest
        lane = self.lane or 0
        values = dict(values)
        for line in nest.lines:
            values[line.out] = w.line(line, values, self.at, lane, self.lanes, self.mask)
        stored = {name for name, _ in nest.stores} - set(self.results)
        for name, view in nest.stores:
            if name in stored:
                aligned = view.broadcast(len(self.shape))
                w.store(values[name].of, aligned, self.at, lane, self.lanes, self.mask)
        if nest.scatter is not None:
            self._scatter(values[nest.lines[-1].out].of)
        n = 0
        for r in nest.reductions:
            value = w.operand(r.source, values, self.at, lane, self.lanes, self.mask)
            if r.op == "check":
                bad = self._spread(value.of)
                if self.mask is not None:
                    bad = b.and_(bad, self.mask.of)
                carried[n] = b.or_(carried[n], bad)
                n += 1
            elif "arg" in r.op:
                self._best(r, value, carried, n)
                n += 2
            else:
                op = "sum" if r.op == "cumsum" else r.op
                term = self._spread(converted(b, value, r.dtype))
                if self.mask is not None and self.lane in self.reduced:
                    identity = constant(term.type, elementwise.identity(op, r.dtype))
                    term = b.select(self.mask.of, term, identity)
                carried[n] = elementwise.together(b, op, carried[n], term, r.dtype)
                if r.op == "cumsum":
                    for name, view in nest.stores:
                        if name == r.out:
                            w.store(carried[n], view, self.at, lane, self.lanes, self.mask)
                n += 1

    def _spread(self, value: Any) -> Any:
        return splat(self.w.builder, value, self.lanes) if lanes_of(value.type) == 1 else value

    def _best(self, r: Reduction, value: Value, carried: list[Any], n: int) -> None:
        """The first largest entry and its index; a NaN counts as the largest."""
        b = self.w.builder
        x = self._spread(value.of)
        best, where = carried[n], carried[n + 1]
        sign = ">" if r.op == "argmax" else "<"
        better = elementwise.compare(b, sign, x, best, value.dtype)
        if np.dtype(value.dtype).kind == "f":
            nan = b.fcmp_unordered("uno", x, x)
            better = b.or_(better, b.and_(nan, b.fcmp_ordered("ord", best, best)))
        flat: Any = i64(0)
        for axis in sorted(self.reduced):
            step = b.mul(flat, i64(self.shape[axis]))
            flat = b.add(step, _index(self.at[axis]))
        carried[n] = b.select(better, x, best)
        carried[n + 1] = b.select(better, self._spread(flat), where)

    def _scatter(self, value: Any) -> None:
        w, b, gather = self.w, self.w.builder, self.nest.scatter
        assert gather is not None
        view = gather.view
        kind = memory_kind(view.dtype)
        place = b.gep(w.base(view.base), [w.gather_offset(gather, self.at)], source_etype=kind)
        size = kind_size(kind)
        value = self._spread(value)
        if self.mask is None:
            before = b.load(place, typ=value.type, align=size)
            b.store(elementwise.together(b, "sum", before, value, view.dtype), place, align=size)
        else:
            before = masked_load(b, place, value.type, self.mask.of)
            total = elementwise.together(b, "sum", before, value, view.dtype)
            masked_store(b, total, place, self.mask.of)

    def _end(self, r: Reduction, carried: list[Any], n: int, across: bool) -> int:
        """Store a reduction's result; returns how many carried values it had."""
        w, b = self.w, self.w.builder
        if r.op == "check":
            found = carried[n]
            if lanes_of(found.type) > 1:
                bits = ir.IntType(lanes_of(found.type))
                found = b.icmp_unsigned("!=", b.bitcast(found, bits), ir.Constant(bits, 0))
            with b.if_then(found, likely=False):
                w.flag()
            return 1
        if r.op == "cumsum":
            return 1
        result = carried[n + 1] if "arg" in r.op else carried[n]
        lanes = self.lanes
        if across:
            result = elementwise.across(b, r.op, result, r.dtype)
            lanes = 1
        at = [0 if a in self.reduced else i for a, i in enumerate(self.at)]
        lane = 0 if self.lane is None or across else self.lane
        mask = None if across else self.mask
        for name, view in self.nest.stores:
            if name != r.out:
                continue
            aligned = self._aligned(name, view)
            if w.space(aligned) == "partial":
                add_to_part(w, result, r.op, aligned, at, lane, lanes, mask)
            else:
                w.store(result, aligned, at, lane, lanes, mask)
        return 2 if "arg" in r.op else 1


def add_to_part(
    w: Writer, value: Any, op: str, view: View, at: Sequence[Any], lane: int, lanes: int,
    mask: Mask | None,
) -> None:  # fmt: skip
    """Add a tile's sum to the thread's part; the first tile's is the part."""
    b = w.builder
    wide = splat(b, value, lanes) if lanes > 1 and lanes_of(value.type) == 1 else value
    before = w.own_part(view, at, lane, lanes, mask)
    total = elementwise.together(b, op, before, wide, view.dtype)
    fresh = b.icmp_unsigned("!=", w.first, i64(0))
    w.store(b.select(fresh, wide, total), view, at, lane, lanes, mask)
