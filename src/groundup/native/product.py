"""Matrix products: a block of rows by a few vectors of columns is held in registers while one loop
goes over what is summed.

Each step of that loop loads the vectors of b, and multiplies them with each row's entry of a, put
in all lanes. With enough of those sums side by side the multipliers are always busy: 14 rows by 2
vectors or 6 by 4 fill the 32 registers of AVX-512.

K. Goto and R. van de Geijn, "Anatomy of high-performance matrix multiplication", ACM TOMS 34
(2008), has the idea; tiles of the batch take the place of its outer blocks here.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from llvmlite import ir

from groundup.native.assemble import Plan, panel_width, shares
from groundup.native.blocking import block_rows
from groundup.native.elementwise import Value, kind_of
from groundup.native.emit import (
    ALIGNED,
    LARGE,
    Mask,
    Writer,
    fixed_mask,
    kind_size,
    masked_load,
)
from groundup.native.kernels import Batch, Pack, Product, View
from groundup.native.llvm import (
    F32,
    F64,
    I1,
    I64,
    POINTER,
    constant,
    fma,
    for_range,
    i64,
    prefetch,
    splat,
    vector,
)

# A sum needs the one before: so many must be under way to keep two multipliers busy.
UNDER_WAY = 8
LINE = 16  # float32 numbers of a cache line


def product_batch(product: Product, tiled: bool) -> Batch | None:
    """The axis of which a call of the kernel does a part; past the shape it is the summed one."""
    if tiled:
        return product.batch
    if product.over == "terms":
        return Batch(len(product.shape), 1)
    if product.parallel:
        return Batch(0 if len(product.shape) > 2 else len(product.shape) - 2, 1)
    return None


class ProductWriter:
    """Code of a matrix product."""

    def __init__(self, plan: Plan, module: ir.Module, name: str, product: Product, tiled: bool):
        self.plan, self.product = plan, product
        batch = product_batch(product, tiled)
        self.w = Writer(plan, module, name, batch, tiled)
        self.kind = kind_of(product.dtype)
        self.lanes = plan.target.lanes(F64 if product.dtype == "float64" else F32)
        self.ndim = len(product.shape)
        self.m, self.n = product.shape[-2:]
        self.k = product.a.shape[-1]
        self.leading = list(range(self.ndim - 2))
        self.batch = batch
        self.sums_rows = product.over == "k" and tiled
        self.shares_terms = product.over == "terms"
        # The loops' axes: those of the result (..., m, n), then the one that is summed, k.
        self.a = product.a.aligned(self.ndim + 1, [*self.leading, self.ndim - 2, self.ndim])
        self.b = product.b.aligned(self.ndim + 1, [*self.leading, self.ndim, self.ndim - 1])
        self.tiled_m = batch is not None and batch.axis == self.ndim - 2
        self.vectors = -(-self.n // self.lanes)
        self.row_sizes = self._row_sizes(tiled)
        self.terms = self.k
        if self.sums_rows and batch is not None:
            self.terms = plan.tile * batch.times
        elif self.shares_terms:
            self.terms = shares(self.k, plan.threads)[0]
        sizes = tuple(self.row_sizes)
        self.width = product.width or panel_width(
            plan.target, product.dtype, self.n, self.terms, sizes
        )

    def block(self, vectors: int) -> int:
        """How many rows go together in a panel of so many vectors."""
        return block_rows(tuple(self.row_sizes), vectors, self.terms, self.plan.target)

    def _row_sizes(self, tiled: bool) -> list[int]:
        """The numbers of rows that a call may get."""
        if not self.tiled_m:
            return [self.m]
        if not tiled:
            return sorted(set(shares(self.m, self.plan.threads)))
        assert self.batch is not None
        last = self.plan.rows - (self.plan.tiles - 1) * self.plan.tile
        return sorted({self.plan.tile * self.batch.times, last * self.batch.times})

    def write(self) -> None:
        """The whole function."""
        self.at: list[Any] = [0] * self.ndim
        self._leading(0)
        self.w.finish()

    def _leading(self, k: int) -> None:
        if k == len(self.leading):
            self._panels()
            return
        with self.w.loop(self.leading[k], self.product.shape, self.at, []):
            self._leading(k + 1)

    def _panels(self) -> None:
        """All columns, a panel at a time."""
        b = self.w.builder
        if self._lies_as_one_row():
            self._one_row()
            return
        per = self.width // self.lanes
        full, rest = divmod(self.vectors, per)
        ragged = self.n % self.lanes
        if ragged and not rest and full > 1:  # the last panel has an incomplete vector
            full, rest = full - 1, per
        if full == 1 and not rest:
            self._rows(i64(0), per, bool(ragged))
            return
        with for_range(b, i64(0), i64(full * self.width), self.width) as j:
            self._rows(j, per, False)
        if rest:
            self._rows(i64(full * self.width), rest, bool(ragged))

    def _lies_as_one_row(self) -> bool:
        """Whether one row is multiplied with rows that are no whole vectors, but a few together."""
        p, view, n = self.product, self.b, self.n
        vectors = n // math.gcd(n, self.lanes)
        return (
            p.shape[-2:] == (1, n) and n % self.lanes > 0 and self.k * n >= vectors * self.lanes
            and not p.packed and not self.sums_rows
            and view.strides[-1] == n and view.strides[self.ndim - 1] == 1
            and self.w.space(self.a) != "partial" and self.w.space(view) != "partial"
            and vectors <= self.plan.target.registers - 7
        )  # fmt: skip

    def _one_row(self) -> None:
        """A row by a narrow matrix, which is read once: as few loads as there can be.

        50 columns are 3 vectors and an incomplete one, most of them across two cache lines. But 8
        rows of 50 are 25 vectors. A vector has entries of two rows or more, then: it is multiplied
        with the entries of a that belong to them. At the end the rows' parts are added up.
        """
        w, b, n, lanes = self.w, self.w.builder, self.n, self.lanes
        wide, size = vector(self.kind, lanes), kind_size(self.kind)
        count = n // math.gcd(n, lanes)
        rows = count * lanes // n
        a, mask = self._a_loader(i64(0)), fixed_mask(n % lanes, lanes)
        first = w.address(self.b, [*self.at[:-2], 0, 0, 0])
        sums: list[Any] = [constant(wide, 0.0)] * count
        stop = self.k // rows * rows
        with for_range(b, i64(0), i64(stop), rows, sums) as k:
            xs = [splat(b, a(0, b.add(k, i64(r))), lanes) for r in range(rows)]
            start = b.gep(first, [b.mul(k, i64(n))], source_etype=self.kind)
            for v in range(count):
                row_of = [(v * lanes + lane) // n for lane in range(lanes)]
                x = xs[row_of[0]]
                for r in range(row_of[0] + 1, row_of[-1] + 1):
                    from_here = [ir.Constant(I1, int(row >= r)) for row in row_of]
                    x = b.select(ir.Constant(ir.VectorType(I1, lanes), from_here), xs[r], x)
                place = b.gep(start, [i64(v * lanes)], source_etype=self.kind)
                sums[v] = fma(b, x, b.load(place, typ=wide, align=size), sums[v])
        # The last row's last vector is read from beyond the sums; those lanes do not count.
        memory = w.top.alloca(ir.ArrayType(self.kind, (count + 1) * lanes))
        memory.align = ALIGNED
        parts = w.top.inttoptr(w.top.ptrtoint(memory, I64), POINTER)  # to nothing of a known size
        for v, total in enumerate(sums):
            place = b.gep(parts, [i64(v * lanes)], source_etype=self.kind)
            b.store(total, place, align=ALIGNED)
        totals: list[Any] = [constant(wide, 0.0)] * self.vectors
        for v in range(self.vectors):
            for r in range(rows):
                place = b.gep(parts, [i64(r * n + v * lanes)], source_etype=self.kind)
                totals[v] = b.fadd(totals[v], b.load(place, typ=wide, align=size))
        load_b = self._b_loader(i64(0), self.vectors, mask)
        for k_left in range(stop, self.k):
            x = splat(b, a(0, i64(k_left)), lanes)
            found = load_b(i64(k_left))
            totals = [fma(b, x, y, total) for y, total in zip(found, totals, strict=True)]
        self._write_out(i64(0), i64(0), 1, self.vectors, mask, totals)

    def _rows(self, j: Any, vectors: int, ragged: bool) -> None:
        """All rows of a panel, a block at a time."""
        b = self.w.builder
        mask = fixed_mask(self.n % self.lanes, self.lanes) if ragged else None
        rows = self.block(vectors)
        if not self.tiled_m:
            full, rest = divmod(self.m, rows)
            if full == 1:
                self._block(i64(0), j, rows, vectors, mask)
            elif full:
                with for_range(b, i64(0), i64(full * rows), rows) as i:
                    self._block(i, j, rows, vectors, mask)
            if rest:
                self._block(i64(full * rows), j, rest, vectors, mask)
            return
        length = self.w.length
        whole = b.mul(b.udiv(length, i64(rows)), i64(rows))
        if max(self.row_sizes) >= rows:

            def loop() -> None:
                with for_range(b, i64(0), whole, rows) as i:
                    self._block(i, j, rows, vectors, mask)

            if min(self.row_sizes) >= rows:
                loop()
            else:
                with b.if_then(b.icmp_unsigned(">", whole, i64(0))):
                    loop()
        for rest in sorted({size % rows for size in self.row_sizes} - {0}):
            left = b.sub(length, whole)
            if len({size % rows for size in self.row_sizes}) == 1:
                self._block(whole, j, rest, vectors, mask)
            else:
                with b.if_then(b.icmp_unsigned("==", left, i64(rest))):
                    self._block(whole, j, rest, vectors, mask)

    def _block(self, i: Any, j: Any, rows: int, vectors: int, mask: Mask | None) -> None:
        """A block of rows by vectors: summed, then stored."""
        b = self.w.builder
        wide = vector(self.kind, self.lanes)
        runtime = self.sums_rows or self.shares_terms
        # Few sums are taken several at a time, and put together at the end.
        several = 1
        if not runtime and rows * vectors < UNDER_WAY:
            several = min(-(-UNDER_WAY // (rows * vectors)), self.k, 8)
        zero = constant(wide, 0.0)
        sums: list[Any] = [zero] * (rows * vectors * several)
        a = self._a_loader(i)
        load_b = self._b_loader(j, vectors, mask)

        def step(k: Any, part: int) -> None:
            bs = load_b(k)
            for r in range(rows):
                x = splat(b, a(r, k), self.lanes)
                for v in range(vectors):
                    n = (part * rows + r) * vectors + v
                    sums[n] = fma(b, x, bs[v], sums[n])

        if runtime:
            with for_range(b, i64(0), self.w.length, 1, sums) as k:
                step(k, 0)
        else:
            whole = self.k // several * several
            if several == 1 and self._fetches_ahead():
                self._steps_ahead(i, rows, step, sums)
            elif whole == several:
                for part in range(several):
                    step(i64(part), part)
            else:
                with for_range(b, i64(0), i64(whole), several, sums) as k:
                    for part in range(several):
                        step(b.add(k, i64(part)) if part else k, part)
            for k_left in range(whole, self.k):
                step(i64(k_left), 0)
        while several > 1:
            half = several // 2
            for part in range(half):
                for n in range(rows * vectors):
                    other = (several - 1 - part) * rows * vectors + n
                    here = part * rows * vectors + n
                    sums[here] = b.fadd(sums[here], sums[other])
            several -= half
        self._write_out(i, j, rows, vectors, mask, sums)

    def _fetches_ahead(self) -> bool:
        """Whether the rows of the next tile are asked for while this one's are multiplied.

        They come from main memory, which is far: what nothing asks for before it is needed is
        waited for.
        """
        w, a = self.w, self.a
        return (
            self.tiled_m and w.tiled and a.batch is not None and w.space(a) == "table"
            and a.strides[-1] == 1 and self.k >= LINE and self.plan.tiles > self.plan.tile_threads
        )  # fmt: skip

    def _steps_ahead(
        self, i: Any, rows: int, step: Callable[[Any, int], None], sums: list[Any]
    ) -> None:
        """The loop over terms, a cache line of a's rows at a time; the next tile's is fetched."""
        b, a = self.w.builder, self.a
        assert self.batch is not None
        tile = self.plan.tile * self.batch.times
        first = self.w.address(a, [*self.at[:-2], b.add(i, i64(tile)), 0, 0])
        stop = self.k // LINE * LINE
        with for_range(b, i64(0), i64(stop), LINE, sums) as start:
            for r in range(rows):
                shift = b.add(start, i64(r * a.strides[-3]))
                prefetch(b, b.gep(first, [shift], source_etype=self.kind))
            with for_range(b, start, b.add(start, i64(LINE)), 1, sums) as k:
                step(k, 0)
        for k_left in range(stop, self.k):
            step(i64(k_left), 0)

    def _a_loader(self, i: Any) -> Callable[[int, Any], Any]:
        """Reads a's entry of a row of the block."""
        w, b, view = self.w, self.w.builder, self.a
        if w.space(view) == "partial":

            def summed(r: int, k: Any) -> Any:
                at = [*self.at[:-2], b.add(i, i64(r)), 0, k]
                return w.load(view, at, 0, 1, None).of

            return summed
        m_stride, k_stride = view.strides[-3], view.strides[-1]
        first = w.address(view, [*self.at[:-2], i, 0, 0])
        size = kind_size(self.kind)

        def load(r: int, k: Any) -> Any:
            # The row's distance is a constant, so that one register serves all rows.
            place = b.gep(first, [b.mul(k, i64(k_stride))], source_etype=self.kind)
            place = b.gep(place, [i64(r * m_stride)], source_etype=self.kind)
            return b.load(place, typ=self.kind, align=size)

        return load

    def _b_loader(self, j: Any, vectors: int, mask: Mask | None) -> Callable[[Any], list[Any]]:
        """Reads vectors of a row of b."""
        w, b, view = self.w, self.w.builder, self.b
        lanes, size, lane = self.lanes, kind_size(self.kind), self.ndim - 1
        wide = vector(self.kind, lanes)
        masks = [None] * (vectors - 1) + [mask]
        if self.product.packed:
            # Panel after panel, each with its rows one after another.
            start = b.gep(w.base(self.product.packed), [b.mul(j, i64(self.k))],
                          source_etype=self.kind)  # fmt: skip
            stride, masks = self.width, [None] * vectors
        elif w.space(view) == "partial" or view.strides[lane] != 1:

            def apart(k: Any) -> list[Any]:
                at = [[*self.at[:-2], 0, b.add(j, i64(v * lanes)), k] for v in range(vectors)]
                found = [
                    w.load(view, place, lane, lanes, m).of
                    for place, m in zip(at, masks, strict=True)
                ]
                return found if view.strides[lane] else [splat(b, x, lanes) for x in found]

            return apart
        else:
            start = w.address(view, [*self.at[:-2], 0, j, 0])
            stride = view.strides[-1]
            if w.padded(view, lane, self.n, lanes):
                masks = [None] * vectors

        def load(k: Any) -> list[Any]:
            row = b.gep(start, [b.mul(k, i64(stride))], source_etype=self.kind)
            found = []
            for v, m in enumerate(masks):
                place = b.gep(row, [i64(v * lanes)], source_etype=self.kind)
                if m is None:
                    found.append(b.load(place, typ=wide, align=size))
                else:
                    found.append(masked_load(b, place, wide, m.of))
            return found

        return load

    def _write_out(
        self, i: Any, j: Any, rows: int, vectors: int, mask: Mask | None, sums: list[Any]
    ) -> None:
        """Store a block, or what the epilogue makes of it; a part's sums are added to it."""
        w, b, p, lane = self.w, self.w.builder, self.product, self.ndim - 1
        blocks = []
        for r in range(rows):
            row = b.add(i, i64(r)) if r else i
            for v in range(vectors):
                column = b.add(j, i64(v * self.lanes)) if v else j
                last = mask if v == vectors - 1 else None
                blocks.append(([*self.at[:-2], row, column, 0], last, v))
        stores = [(name, self._own_axes(view)) for name, view in p.stores]
        if self.sums_rows:
            first = b.icmp_unsigned("!=", w.first, i64(0))
            for _, view in stores:
                with b.if_else(first) as (begin, go_on):
                    with begin:
                        for (at, last, _), total in zip(blocks, sums, strict=False):
                            w.store(total, view, at, lane, self.lanes, last)
                    with go_on:
                        for (at, last, _), total in zip(blocks, sums, strict=False):
                            before = w.own_part(view, at, lane, self.lanes, last)
                            total = b.fadd(splat(b, before, self.lanes), total)
                            w.store(total, view, at, lane, self.lanes, last)
            return
        shared: dict[tuple[Any, int], Value] = {}
        for (at, last, v), total in zip(blocks, sums, strict=False):
            values: dict[Any, Value] = {p.out: Value(total, p.dtype)}
            for line in p.epilogue:
                for operand in line.ins:
                    if isinstance(operand, View) and operand.strides[-2] == 0:  # of all rows
                        key = (operand, v)
                        if key not in shared:
                            shared[key] = w.load(
                                self._own_axes(operand), at, lane, self.lanes, last
                            )
                        values[operand] = shared[key]
                    elif isinstance(operand, View):
                        values[operand] = w.load(
                            self._own_axes(operand), at, lane, self.lanes, last
                        )
                values[line.out] = w.line(line, values, at, lane, self.lanes, last)
            for name, view in stores:
                past = name == f"return {p.out}" and self._past_the_caches(view)
                w.store(values[name].of, view, at, lane, self.lanes, last, past)

    def _past_the_caches(self, view: View) -> bool:
        """Whether a result is so large, and lies so, that it is better written past the caches."""
        entries = math.prod(self.product.shape)
        lanes, size = self.lanes, kind_size(self.kind)
        lies = view.offset == 0 and all(s % lanes == 0 or s == 1 for s in view.strides)
        whole = self.n % lanes == 0 and lanes * size == ALIGNED and view.strides[-2] == 1
        return whole and lies and entries * size >= LARGE

    def _own_axes(self, view: View) -> View:
        """A view of the result with the loops' axes: (..., m, n, k). A vector has fewer."""
        p, ndim = self.product, self.ndim
        m, n = (ndim - 1, ndim - 2) if p.swapped else (ndim - 2, ndim - 1)
        leading = list(range(ndim - 2))
        if len(view.shape) == ndim:
            axes = [*leading, m, n]
        elif len(view.shape) == ndim - 2:
            axes = leading
        else:
            axes = [*leading, n if p.row_vector else m]
        return view.aligned(ndim + 1, axes)


def write_pack(plan: Plan, module: ir.Module, name: str, pack: Pack) -> None:
    """Code that copies a matrix (k, n) into panels (n / width, k, width), filled up with zeros.

    A part is some of the rows; of a matrix that lies transposed, some blocks of columns.
    """
    w = Writer(plan, module, name, Batch(0, 1), False)
    lanes = plan.target.lanes(F64 if pack.b.dtype == "float64" else F32)
    if pack.b.strides == (1, pack.b.strides[1]) and pack.b.strides[1] != 1:
        _pack_transposed(w, pack, lanes)
    else:
        _pack_rows(w, pack, lanes)
    w.finish()


def pack_length(pack: Pack, lanes: int) -> int:
    """How many parts a matrix that is packed has at most."""
    transposed = pack.b.strides == (1, pack.b.strides[1]) and pack.b.strides[1] != 1
    return -(-pack.b.shape[1] // lanes) if transposed else pack.b.shape[0]


def _panel_place(w: Writer, pack: Pack, row: Any, column: Any) -> Any:
    """Where an entry of the matrix goes."""
    b, kind = w.builder, kind_of(pack.b.dtype)
    panel, inside = b.udiv(column, i64(pack.width)), b.urem(column, i64(pack.width))
    start = b.mul(panel, i64(pack.b.shape[0] * pack.width))
    offset = b.add(b.add(start, b.mul(row, i64(pack.width))), inside)
    return b.gep(w.base(pack.out), [offset], source_etype=kind)


def _pack_rows(w: Writer, pack: Pack, lanes: int) -> None:
    b, view = w.builder, pack.b
    n, size = view.shape[1], kind_size(kind_of(view.dtype))
    with for_range(b, i64(0), w.length) as i:

        def put(j: Any, mask: Mask | None) -> None:
            value = w.load(view, [i, j], 1, lanes, mask).of
            if view.strides[1] == 0:  # one entry for all columns
                value = splat(b, value, lanes)
            if mask is not None:
                value = b.select(mask.of, value, constant(value.type, 0.0))
            place = _panel_place(w, pack, b.add(i, w.start), j)
            b.store(value, place, align=size)

        stop = n // lanes * lanes
        if stop:
            with for_range(b, i64(0), i64(stop), lanes) as j:
                put(j, None)
        if n % lanes:
            put(i64(stop), fixed_mask(n % lanes, lanes))


def _pack_transposed(w: Writer, pack: Pack, lanes: int) -> None:
    """Square blocks are loaded by columns, which are contiguous, and turned in registers."""
    b, view = w.builder, pack.b
    kind = kind_of(view.dtype)
    wide, size = vector(kind, lanes), kind_size(kind)
    k, n = view.shape
    # Of a sum of which each thread has a part, all parts.
    threads = range(w.plan.parts(view.base)) if w.space(view) == "partial" else [-1]
    bases = [w.base(view.base, thread) for thread in threads]

    def block(row: Any, column: Any, rows: int, columns: int) -> None:
        mask = fixed_mask(rows, lanes) if rows < lanes else None
        vectors = []
        for c in range(lanes):
            if c >= columns:
                vectors.append(constant(wide, 0.0))
                continue
            at = b.mul(b.add(column, i64(c)), i64(view.strides[1]))
            total: Any = None
            for base in bases:
                place = b.gep(base, [b.add(b.add(at, row), i64(view.offset))], source_etype=kind)
                part = (
                    b.load(place, typ=wide, align=size) if mask is None
                    else masked_load(b, place, wide, mask.of)
                )  # fmt: skip
                total = part if total is None else b.fadd(total, part)
            vectors.append(total)
        for r, turned in enumerate(transposed(b, vectors)[:rows]):
            b.store(turned, _panel_place(w, pack, b.add(row, i64(r)), column), align=size)

    def all_rows(column: Any, columns: int) -> None:
        stop = k // lanes * lanes
        if stop:
            with for_range(b, i64(0), i64(stop), lanes) as row:
                block(row, column, lanes, columns)
        if k % lanes:
            block(i64(stop), column, k % lanes, columns)

    with for_range(b, i64(0), w.length) as i:
        column = b.mul(b.add(i, w.start), i64(lanes))
        if n % lanes == 0:
            all_rows(column, lanes)
        elif n < lanes:
            all_rows(column, n)
        else:
            whole = b.icmp_unsigned("<=", b.add(column, i64(lanes)), i64(n))
            with b.if_else(whole) as (full, rest):
                with full:
                    all_rows(column, lanes)
                with rest:
                    all_rows(column, n % lanes)


def transposed(b: ir.IRBuilder, rows: list[Any]) -> list[Any]:
    """A square block in registers, transposed: halves are exchanged, then halves of those, ..."""
    n = len(rows)
    distance = n // 2
    while distance:
        keep = [i if not i & distance else n + i - distance for i in range(n)]
        move = [i + distance if not i & distance else n + i for i in range(n)]
        masks = [ir.Constant(ir.VectorType(ir.IntType(32), n), m) for m in (keep, move)]
        turned = list(rows)
        for i in range(n):
            if not i & distance:
                pair = rows[i], rows[i + distance]
                turned[i] = b.shuffle_vector(*pair, masks[0])
                turned[i + distance] = b.shuffle_vector(*pair, masks[1])
        rows, distance = turned, distance // 2
    return rows
