"""A plan as one native function: `step(table, thread, threads)`, which every thread runs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any, TypeAlias

from llvmlite import ir

from groundup.native.assemble import Plan
from groundup.native.draw import write_draw
from groundup.native.emit import FLAGS, TIMES, NestWriter, nest_batch
from groundup.native.kernels import Draw, Kernel, Nest, Pack, Product, Stage, View
from groundup.native.llvm import (
    F32,
    F64,
    I64,
    POINTER,
    VOID,
    declare,
    define,
    for_range,
    i64,
    new_module,
)
from groundup.native.product import ProductWriter, pack_length, product_batch, write_pack
from groundup.native.threads import emit_barrier
from groundup.ops.base import Shape

Each: TypeAlias = Callable[[int], AbstractContextManager[Any]]


@dataclass(frozen=True)
class Count:
    """Integers in memory that change with a step: `target += add`, or `target = source`.

    Attributes:
        target: the table's entry for an int64 array of `size` entries, contiguous.
        source: the table's entry for the array whose only entry is copied, or -1.

    """

    target: int
    size: int
    add: int = 0
    source: int = -1


def module_of(plan: Plan, counts: Sequence[Count] = (), timed: bool = False) -> ir.Module:
    """The module with a plan's kernels and its step, after which counts are changed.

    Timed, it adds up the CPU's cycles that the first thread spends in each kernel, by number.
    """
    module = new_module(plan.program.name, plan.target)
    functions: dict[int, ir.Function] = {}
    number = 0
    for s, stage in enumerate(plan.stages):
        for k, kernel in enumerate(stage.kernels):
            function = _kernel(plan, module, f"stage{s}_kernel{k}", kernel, stage)
            functions[id(kernel)] = _timed(module, function, number) if timed else function
            number += 1
    _step(plan, module, functions, counts)
    return module


def step_function(module: ir.Module) -> ir.Function:
    """The step of a module."""
    return module.globals["step"]


def _kernel(plan: Plan, module: ir.Module, name: str, kernel: Kernel, stage: Stage) -> ir.Function:
    if isinstance(kernel, Product):
        ProductWriter(plan, module, name, kernel, stage.tiled).write()
    elif isinstance(kernel, Nest):
        NestWriter(plan, module, name, kernel, stage.tiled).write()
    elif isinstance(kernel, Pack):
        write_pack(plan, module, name, kernel)
    else:
        assert isinstance(kernel, Draw)
        write_draw(plan, module, name, kernel, stage.tiled)
    function = module.globals[name]
    function.attributes.add("noinline")
    return function


def clock(b: ir.IRBuilder) -> Any:
    """A counter that ticks evenly: x86's time stamps, ARM's virtual timer, others' own."""
    # For ARM LLVM makes a constant 0 of the steady counter, and the timer of the cycle counter.
    ours = b.module.triple.startswith(("x86_64", "i686", "aarch64", "arm64"))
    return b.call(declare(b, f"llvm.read{'cycle' if ours else 'steady'}counter", I64), [])


def _timed(module: ir.Module, kernel: ir.Function, number: int) -> ir.Function:
    """A kernel that notes the time it takes."""
    args = [a.type for a in kernel.args]
    function, b = define(module, f"timed_{kernel.name}", VOID, *args)
    before = clock(b)
    b.call(kernel, function.args)
    spent = b.sub(clock(b), before)
    with b.if_then(b.icmp_unsigned("==", function.args[1], i64(0))):
        times = b.load(b.gep(function.args[0], [i64(TIMES)], source_etype=POINTER), typ=POINTER)
        place = b.gep(times, [i64(number)], source_etype=I64)
        b.store(b.add(b.load(place, typ=I64), spent), place)
    b.ret_void()
    return function


def _step(
    plan: Plan, module: ir.Module, functions: dict[int, ir.Function], counts: Sequence[Count]
) -> None:
    """All stages in order, with barriers where threads need what others made."""
    function, b = define(module, "step", VOID, POINTER, I64, I64, internal=False)
    table, thread, threads = function.args

    def meet() -> None:
        if plan.threads > 1:
            emit_barrier(b, threads)

    @contextmanager
    def each(parts: int) -> Iterator[Any]:
        """The parts of this thread: its own, and others' where there are fewer threads."""
        with (
            b.if_then(b.icmp_unsigned("<", thread, i64(parts))),
            for_range(b, thread, i64(parts), threads) as part,
        ):
            yield part

    for n, stage in enumerate(plan.stages):
        if n:
            meet()
        if stage.final:
            _stop_if_wrong(b, table)
        if stage.tiled:
            _tiles(plan, b, stage, functions, table, each)
        else:
            _whole(plan, b, stage, functions, table, each, meet)
    if counts:
        if not any(stage.final for stage in plan.stages):
            meet()
            _stop_if_wrong(b, table)
        with each(1):
            for count in counts:
                _count(b, table, count)
    b.ret_void()


def _stop_if_wrong(b: ir.IRBuilder, table: Any) -> None:
    """Leave before anything is written, if a check found the input bad."""
    flags = b.load(b.gep(table, [i64(FLAGS)], source_etype=POINTER), typ=POINTER)
    wrong = b.icmp_unsigned("!=", b.load(flags, typ=I64), i64(0))
    stop, go_on = b.append_basic_block("wrong"), b.append_basic_block("go_on")
    b.cbranch(wrong, stop, go_on)
    b.position_at_end(stop)
    b.ret_void()
    b.position_at_end(go_on)


def _count(b: ir.IRBuilder, table: Any, count: Count) -> None:
    def entry(slot: int) -> Any:
        return b.load(b.gep(table, [i64(slot)], source_etype=POINTER), typ=POINTER)

    target = entry(count.target)
    with for_range(b, i64(0), i64(count.size)) as i:
        place = b.gep(target, [i], source_etype=I64)
        if count.source >= 0:
            value = b.load(entry(count.source), typ=I64)
        else:
            value = b.add(b.load(place, typ=I64), i64(count.add))
        b.store(value, place)


def _tiles(
    plan: Plan, b: ir.IRBuilder, stage: Stage, functions: dict[int, ir.Function], table: Any,
    each: Each,
) -> None:  # fmt: skip
    """Each part's tiles, one after another."""
    tiles, used = plan.tiles, plan.tile_threads
    with each(used) as part:
        begin = b.udiv(b.mul(part, i64(tiles)), i64(used))
        end = b.udiv(b.mul(b.add(part, i64(1)), i64(tiles)), i64(used))
        with for_range(b, begin, end) as tile:
            row = b.mul(tile, i64(plan.tile))
            left = b.sub(i64(plan.rows), row)
            full = b.icmp_unsigned("<", i64(plan.tile), left)
            rows = b.select(full, i64(plan.tile), left)
            first = b.zext(b.icmp_unsigned("==", tile, begin), I64)
            for kernel in stage.kernels:
                b.call(functions[id(kernel)], [table, part, row, rows, first])


def _whole(
    plan: Plan, b: ir.IRBuilder, stage: Stage, functions: dict[int, ir.Function], table: Any,
    each: Each, meet: Callable[[], None],
) -> None:  # fmt: skip
    """Kernels over whole arrays: in parts, or everything by the first thread."""
    before: list[Kernel] = []  # since the threads last met
    for kernel in stage.kernels:
        if any(_clash(other, kernel) for other in before):
            meet()
            before = []
        before.append(kernel)
        length = _length(plan, kernel) if kernel.parallel else 1
        share = -(-length // plan.threads)
        parts = -(-length // share)
        with each(parts) as part:
            begin = b.mul(part, i64(share))
            left = b.sub(i64(length), begin)
            rows = b.select(b.icmp_unsigned("<", i64(share), left), i64(share), left)
            if isinstance(kernel, Pack) and not kernel.parallel:
                rows = i64(_length(plan, kernel))
            b.call(functions[id(kernel)], [table, part, begin, rows, i64(1)])


def _touched(kernel: Kernel) -> tuple[list[View], list[View], set[str]]:
    """The views that a kernel loads, those that it stores to, and what it writes all over."""
    all_over: set[str] = set()
    if isinstance(kernel, Pack):
        all_over.add(kernel.out)
    if isinstance(kernel, Nest) and kernel.scatter is not None:
        all_over.add(kernel.scatter.view.base)
    return list(kernel.reads()), [view for _, view in kernel.stores], all_over


def _clash(first: Kernel, second: Kernel) -> bool:
    """Whether a thread may meet in memory, in the second kernel, what another does in the first."""
    if not first.parallel and not second.parallel:
        return False  # both are the first thread's
    reads, stores, over = _touched(first)
    more_reads, more_stores, more_over = _touched(second)
    written = {v.base for v in stores} | over
    more_written = {v.base for v in more_stores} | more_over
    shared = (written & ({v.base for v in more_reads} | more_written)) | (
        more_written & {v.base for v in reads}
    )
    if not shared:
        return False
    if shared & (over | more_over) or not (first.parallel and second.parallel):
        return True
    # Parts are the same rows of both, if every view of what they share lies the same way.
    shape = _shape_by_rows(first, shared)
    if shape is None or _shape_by_rows(second, shared) != shape:
        return True
    views = [v for v in (*reads, *stores, *more_reads, *more_stores) if v.base in shared]
    places = {(v.base, v.offset, v.broadcast(len(shape)).strides) for v in views}
    return len(places) > len(shared) or any(strides[0] == 0 for _, _, strides in places)


def _shape_by_rows(kernel: Kernel, shared: set[str]) -> Shape | None:
    """The shape of a kernel of whose result each part makes some rows; of the values that count
    here it reads no others.
    """
    if isinstance(kernel, Nest) and not kernel.reductions:
        return kernel.domain.shape
    if isinstance(kernel, Product) and kernel.over != "terms" and len(kernel.shape) == 2:
        return None if {kernel.a.base, kernel.b.base} & shared else kernel.shape
    return None


def _length(plan: Plan, kernel: Kernel) -> int:
    """The axis of which threads take parts."""
    if isinstance(kernel, Nest):
        return kernel.domain.shape[nest_batch(kernel, False).axis]  # type: ignore[union-attr]
    if isinstance(kernel, Pack):
        return pack_length(kernel, plan.target.lanes(F64 if kernel.b.dtype == "float64" else F32))
    assert isinstance(kernel, Product)
    if kernel.over == "terms":
        return kernel.a.shape[-1]
    return kernel.shape[product_batch(kernel, False).axis]  # type: ignore[union-attr]
