"""A Program as stages of kernels: what runs for a tile of the batch, what for the whole arrays.

Nearly every equation of a step is independent along the batch: row i of its result needs row i of
what it reads. Those are *tiled*: a few rows go through all of them while everything is in the
cache. What sums over the batch (weight gradients, the loss, batch statistics) ends a stage: each
thread adds up its rows in memory of its own, and who reads the sum adds the threads' parts, always
in the same order. Equations without a batch (updates, numbers) run between those stages, over the
whole arrays.

    level 0: whole, tiled · level 1: whole, tiled · ... · the updates
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from groundup.native.elementwise import Unsupported, memory_kind
from groundup.native.kernels import (
    Batch,
    Domain,
    Draw,
    Gather,
    Item,
    Kernel,
    Line,
    Nest,
    Product,
    Reduction,
    Value,
    View,
)
from groundup.native.views import contiguous, part_of, placed, seen, spelled, transposed
from groundup.ops.base import Shape
from groundup.ops.indexing import ARRAY
from groundup.ops.linalg import explicit_subscripts
from groundup.ops.reduce import kept_shape, reduced_axes, reduced_count
from groundup.program.program import OPS, Equation, Program, Var

REDUCTIONS = ("sum", "amax", "amin")
# Behind a Program's own names, in names that the engine makes: an identifier's end that none has.
REST = "__"
CONSTANTS = ("array", "full", "arange")
# A batch of at most so many rows, of so many features for each row, times a matrix of so many
# entries: threads share the features.
FEW_ROWS, FEATURES, WIDE = 128, 4, 16384


class Planner:
    """Makes the stages of a Program.

    Args:
        program: simplified.
        held: the arrays of inputs other than arguments and settings: their memory layout counts.
        lanes: numbers in a vector, to which rows are padded.
        threads: how many run it.

    """

    def __init__(self, program: Program, held: Mapping[str, Any], lanes: int, threads: int):
        self.program, self.lanes, self.threads = program, lanes, threads
        self.rows = program.batch if program.batch > 1 else 0
        self.values: dict[str, Value] = {}
        self.constants: dict[str, Any] = {}  # arrays that are always the same
        self.sizes: dict[str, int] = {}  # numbers that are
        self.hosted: list[Equation] = []  # what NumPy computes before each step
        self.own_row: set[str] = set()  # arrays of 0, 1, ...: each row's own index
        self.items: list[Item] = []
        self.made: dict[str, Equation] = {}
        self.terms: dict[str, int] = {}  # of products whose terms threads share, how many there are
        self.current = 0
        self._fresh = 0
        for var in program.vars.values():
            if not var.is_number:
                memory_kind(var.dtype)
            if not var.size:
                raise Unsupported(f"{var.name} has no entries")
        self._inputs(held)
        self.unpadded = self._unpadded()
        for i, e in enumerate(program.equations):
            self.current = i
            self._equation(e)

    # Values

    def _inputs(self, held: Mapping[str, Any]) -> None:
        for given in self.program.inputs:
            var = given.var
            batch = None
            if given.role == "argument" and self.rows and var.shape[:1] == (self.rows,):
                batch = Batch(0, 1)
            value = Value(var.name, var.shape, var.dtype, batch, padded=False)
            array = held.get(var.name)
            if isinstance(array, np.ndarray):
                strides = tuple(s // array.itemsize for s in array.strides)
            else:
                strides = contiguous(var.shape)
            value.view = View(var.name, 0, strides, var.shape, var.dtype, batch)
            self.values[var.name] = value

    def _unpadded(self) -> set[str]:
        """What is reshaped in a way that padded rows forbid."""
        root: dict[str, str] = {}
        found = set()
        for e in self.program.equations:
            if e.out is None or not OPS[e.op].is_view:
                continue
            source = str(e.ins[0])
            root[e.out.name] = root.get(source, source)
            if e.op == "reshape":
                before = [n for n in self.program.vars[source].shape if n != 1]
                after = [n for n in e.out.shape if n != 1]
                if before[-1:] != after[-1:] or root.get(source):
                    found.add(root[e.out.name])
        return found

    def layout(self, value: Value) -> View:
        """Where the entries of a computed value lie: the batch outermost, the last axis padded."""
        axes = list(range(len(value.shape)))
        if value.batch is not None:
            axes.remove(value.batch.axis)
        lengths = {a: value.shape[a] for a in axes}
        wide = [a for a in axes if value.shape[a] > 1]
        # Rows far shorter than a vector stay together: they are read in one go.
        if (
            wide
            and value.padded
            and (value.batch is not None or value.shape[wide[-1]] * 2 > self.lanes)
        ):
            vectors = -(-value.shape[wide[-1]] // self.lanes)
            # Rows a multiple of large powers of 2 apart would share a few sets of the first-level
            # cache, and drive one another out.
            if vectors >= 8 and vectors % 2 == 0:
                vectors += 1
            lengths[wide[-1]] = vectors * self.lanes
        strides = [0] * len(value.shape)
        step = 1
        for a in reversed(axes):
            strides[a] = step if value.shape[a] > 1 else 0
            step *= lengths[a]
        if value.batch is not None:
            strides[value.batch.axis] = step
        return View(value.name, 0, tuple(strides), value.shape, value.dtype, value.batch)

    def is_partial(self, name: str) -> bool:
        """Whether threads have parts of a value."""
        return name in self.values and self.values[name].partial

    def row_entries(self, value: Value) -> int:
        """How many entries of memory a value takes; of a batched one for each row of the batch."""
        view = self.layout(value)
        if value.batch is not None:
            return view.strides[value.batch.axis] * value.batch.times
        ends = [s * n for s, n in zip(view.strides, view.shape, strict=True)]
        return max(ends, default=1)

    def view(self, name: str) -> View:
        """Where a value lies."""
        value = self.values[name]
        return value.view if value.view is not None else self.layout(value)

    def _new(self, hint: str) -> str:
        """A name that nothing has."""
        self._fresh += 1
        return f"{hint}.{self._fresh}"

    def _ready(self, names: Sequence[str], tiled: bool) -> int:
        """The level of an item that reads these."""
        level = 0
        for name in names:
            value = self.values[name]
            later = value.partial or (value.tiled and not tiled)
            level = max(level, value.level + later)
        return level

    def _batches(self, names: Sequence[Any]) -> list[Batch | None]:
        return [self.values[n].batch if isinstance(n, str) else None for n in names]

    def _place(
        self, out: str, shape: Shape, dtype: str, batch: Batch | None, kernel: Kernel,
        ins: Sequence[Any], tiled: bool, partial: bool = False, padded: bool | None = None,
    ) -> Value:  # fmt: skip
        """Put an item in, and what is known of its result."""
        names = [n for n in ins if isinstance(n, str)]
        level = self._ready(names, tiled)
        value = self.values.get(out)
        if value is None:
            value = Value(
                out, shape, dtype, batch, level, tiled, partial,
                out not in self.unpadded if padded is None else padded,
            )  # fmt: skip
            self.values[out] = value
        else:  # one of several parts
            value.level = max(value.level, level)
        self.items.append(Item(kernel, level, tiled, {self._root(n) for n in names}))
        return value

    def _root(self, name: str) -> str:
        value = self.values[name]
        return value.view.base if value.view is not None else name

    # Equations

    def _equation(self, e: Equation) -> None:
        attrs = dict(e.attrs)
        if e.out is not None:
            self.made[e.out.name] = e
        if e.op == "size":
            assert e.out is not None
            shape = self.program.vars[str(e.ins[0])].shape
            self.sizes[e.out.name] = reduced_count(shape, attrs["axis"])
            return
        e = replace(e, ins=tuple(self.sizes.get(i, i) if isinstance(i, str) else i for i in e.ins))
        op = OPS[e.op]
        if op.is_check:
            self._check(e, attrs)
        elif e.op in CONSTANTS:
            self._constant(e, attrs)
        elif op.is_view or e.op == "detach":
            self._view(e, attrs)
        elif op.elementwise or e.op == "value" or (e.out is not None and e.out.is_number):
            self._elementwise(e, attrs)
        elif e.op == "mean":
            self._mean(e, attrs)
        elif e.op in (*REDUCTIONS, "argmax", "argmin", "cumsum"):
            self._reduction(e, attrs)
        elif e.op in ("softmax", "log_softmax"):
            self._softmax(e, attrs)
        elif e.op == "matmul":
            self._matmul(e)
        elif e.op in ("concatenate", "pad", "unslice"):
            self._pieces(e, attrs)
        elif e.op in ("take", "scatter_add"):
            self._indexed(e, attrs)
        elif e.op == "einsum":
            self._einsum(e, attrs)
        elif e.op == "uniform":
            self._uniform(e, attrs)
        elif e.op == "normal" and all(self._is_input(i) for i in e.ins):
            assert e.out is not None
            self.hosted.append(e)
            view = View(e.out.name, 0, contiguous(e.out.shape), e.out.shape, e.out.dtype, None)
            self.values[e.out.name] = Value(e.out.name, e.out.shape, e.out.dtype, view=view)
        else:
            raise Unsupported(e.op)

    def _is_input(self, name: Any) -> bool:
        return any(i.var.name == name and i.role != "argument" for i in self.program.inputs)

    def _constant(self, e: Equation, attrs: dict[str, Any]) -> None:
        assert e.out is not None
        like = [np.empty(self.program.vars[str(i)].shape, bool) for i in e.ins]
        array = np.ascontiguousarray(OPS[e.op].forward(*like, **attrs))
        strides = contiguous(e.out.shape)
        if e.op == "full":  # one entry stands for all
            array, strides = array.reshape(-1)[:1].copy(), (0,) * len(e.out.shape)
        self.constants[e.out.name] = array
        view = View(e.out.name, 0, strides, e.out.shape, e.out.dtype, None)
        self.values[e.out.name] = Value(e.out.name, e.out.shape, e.out.dtype, view=view)
        if e.op == "arange" and e.out.shape == (self.rows,):
            self.own_row.add(e.out.name)

    def _view(self, e: Equation, attrs: dict[str, Any]) -> None:
        assert e.out is not None
        name, out = str(e.ins[0]), e.out
        source = self.values[name]
        view = self.view(name)
        batch = self._batch_of_view(e, attrs, source) if source.batch is not None else None
        if name in self.own_row and [n for n in out.shape if n != 1] == [self.rows]:
            self.own_row.add(out.name)
        strided = seen(view, e.op, attrs)
        if strided is None:  # the entries have to be copied first
            copy = self._copied(name)
            strided = seen(self.view(copy), e.op, attrs)
            if strided is None:  # the batch comes first in memory, and does not here
                copy = self._copied(name, whole=True)
                strided = seen(self.view(copy), e.op, attrs)
            assert strided is not None
            source = self.values[copy]
            view = self.view(copy)
        offset, strides = strided
        self.values[out.name] = replace(
            source, name=out.name, shape=out.shape, batch=batch,
            view=View(view.base, view.offset + offset, strides, out.shape, out.dtype, batch),
        )  # fmt: skip

    def _copied(self, name: str, whole: bool = False) -> str:
        """A value once more, its rows one after another; whole, when all tiles are done."""
        source, view = self.values[name], self.view(name)
        batch = None if whole else source.batch
        copy = self._new(name)
        domain = Domain(source.shape, batch)
        view = replace(view, batch=None) if whole else view
        line = Line(copy, "detach", (view.broadcast(len(domain.shape)),), {}, source.dtype,
                    self.current)  # fmt: skip
        self._place(
            copy, source.shape, source.dtype, batch,
            Nest(domain=domain, lines=[line]), [name], batch is not None, padded=False,
        )  # fmt: skip
        return copy

    def _batch_of_view(self, e: Equation, attrs: dict[str, Any], source: Value) -> Batch | None:
        """The batch of what a view shows; None if it shows no batch any more."""
        assert e.out is not None
        batch, shape = source.batch, e.out.shape
        assert batch is not None
        axis = batch.axis
        if e.op == "detach":
            return batch
        if e.op == "transpose":
            return batch._replace(axis=attrs["axes"].index(axis))
        if e.op == "expand":
            return batch._replace(axis=axis + len(shape) - len(source.shape))
        if e.op == "reshape":
            before = [n for n in source.shape[:axis] if n != 1]
            if before:
                # Lengths of 1 that come and go leave the rest as it is.
                if [n for n in source.shape if n != 1] == [n for n in shape if n != 1]:
                    position = len(before)
                    wide = [i for i, n in enumerate(shape) if n != 1]
                    return batch._replace(axis=wide[position])
                return None
            for i, n in enumerate(shape):
                if n != 1:
                    return Batch(i, n // self.rows) if n % self.rows == 0 else None
            return None
        index = attrs["index"]
        parts = list(index) if isinstance(index, tuple) else [index]
        if Ellipsis in parts:
            at = parts.index(Ellipsis)
            used = sum(p is not None and p is not Ellipsis for p in parts)
            parts[at : at + 1] = [slice(None)] * (len(source.shape) - used)
        used = sum(p is not None for p in parts)
        parts += [slice(None)] * (len(source.shape) - used)
        before_axis, position = 0, 0
        for part in parts:
            if part is None:
                position += 1
                continue
            if before_axis == axis:
                whole = isinstance(part, slice) and part.indices(source.shape[axis]) == (
                    0, source.shape[axis], 1,
                )  # fmt: skip
                return batch._replace(axis=position) if whole else None
            before_axis += 1
            position += isinstance(part, slice)
        return None

    def _operand(self, operand: Any, ndim: int) -> Any:
        """What a line of a nest of so many axes reads: a view, or a number."""
        return self.view(operand).broadcast(ndim) if isinstance(operand, str) else operand

    def _shared_batch(self, shape: Shape, ins: Sequence[Any]) -> Batch | None:
        """The batch of an element-wise result; None if the operands do not agree."""
        found = set()
        for name in ins:
            value = self.values[name] if isinstance(name, str) else None
            if value is not None and value.batch is not None:
                axis = value.batch.axis + len(shape) - len(value.shape)
                found.add(value.batch._replace(axis=axis))
        if len(found) != 1:
            return None
        (batch,) = found
        return batch if shape[batch.axis] == self.rows * batch.times else None

    def _elementwise(self, e: Equation, attrs: dict[str, Any]) -> None:
        assert e.out is not None
        op = {"value": "cast"}.get(e.op, e.op)
        self._line(e.out, op, e.ins, attrs)

    def _line(self, out: Var, op: str, ins: Sequence[Any], attrs: dict[str, Any]) -> Value:
        batch = self._shared_batch(out.shape, ins)
        domain = Domain(out.shape, batch)
        operands = tuple(self._operand(i, len(out.shape)) for i in ins)
        line = Line(out.name, op, operands, attrs, out.dtype, self.current)
        nest = Nest(domain=domain, lines=[line])
        return self._place(out.name, out.shape, out.dtype, batch, nest, ins, batch is not None)

    def _mean(self, e: Equation, attrs: dict[str, Any]) -> None:
        assert e.out is not None
        total = self._new(e.out.name)
        var = Var(total, e.out.shape, e.out.dtype)
        self._reduction(replace(e, op="sum", out=var), attrs)
        count = reduced_count(self.program.vars[str(e.ins[0])].shape, attrs["axis"])
        self._line(e.out, "div", (total, count), {})

    def _softmax(self, e: Equation, attrs: dict[str, Any]) -> None:
        """Written out: the largest, the rest below it, exponentials, their sum."""
        assert e.out is not None
        x = self.values[str(e.ins[0])]
        row = kept_shape(x.shape, attrs["axis"])
        along = {"axis": attrs["axis"], "keepdims": True}

        def var(shape: Shape) -> Var:
            return Var(self._new(e.out.name), shape, e.out.dtype)  # type: ignore[union-attr]

        most, shifted, exps, total = var(row), var(x.shape), var(x.shape), var(row)
        self._reduction(replace(e, op="amax", out=most), along)
        self._line(shifted, "sub", (x.name, most.name), {})
        self._line(exps, "exp", (shifted.name,), {})
        self._reduction(replace(e, op="sum", out=total, ins=(exps.name,)), along)
        if e.op == "softmax":
            self._line(e.out, "div", (exps.name, total.name), {})
        else:
            log = var(row)
            self._line(log, "log", (total.name,), {})
            self._line(e.out, "sub", (shifted.name, log.name), {})

    def _reduction(self, e: Equation, attrs: dict[str, Any]) -> None:
        assert e.out is not None
        name = str(e.ins[0])
        source = self.values[name]
        ndim, axis = len(source.shape), attrs.get("axis")
        axes = frozenset(reduced_axes(axis, ndim))
        batch, over = source.batch, False
        if batch is not None and batch.axis in axes:
            over = True
            if e.op not in ("sum", "amax", "amin"):
                batch, over = None, False  # in order, over the whole batch
        domain = Domain(source.shape, batch)
        if e.op in ("sum", "amax", "amin") and over and e.op != "sum":
            # Parts of threads are added up; the largest of all is taken over the whole array.
            domain, batch, over = Domain(source.shape, None), None, False
        kept = out_batch = None
        if batch is not None and not over:
            if e.op == "cumsum" or attrs.get("keepdims"):
                kept = batch.axis
            else:
                kept = batch.axis - sum(a < batch.axis for a in axes)
            out_batch = Batch(kept, batch.times)
        reduction = Reduction(
            e.out.name, e.op, self._operand(name, ndim), e.out.dtype, self.current
        )
        nest = Nest(domain=domain, reductions=[reduction], reduced=axes,
                    alone=e.op in ("argmax", "argmin", "cumsum"))  # fmt: skip
        tiled = domain.batch is not None
        self._place(e.out.name, e.out.shape, e.out.dtype, out_batch, nest, [name], tiled, over)

    def _check(self, e: Equation, attrs: dict[str, Any]) -> None:
        """A check: whether any entry is wrong; what to say of it, NumPy finds out."""
        x = self.values[str(e.ins[0])]
        domain = Domain(x.shape, x.batch)
        ndim = len(x.shape)
        view = self.view(x.name).broadcast(ndim)
        low, high, bad = self._new("low"), self._new("high"), self._new("bad")
        if e.op == "check_labels":
            below: tuple[str, float] = ("less", 0)
            above: tuple[str, float] = ("greater_equal", attrs["classes"])
        elif e.op == "check_range":
            below, above = ("less", attrs["low"]), ("greater", attrs["high"])
        else:
            below, above = ("equal", -math.inf), ("equal", math.inf)
        lines = [
            Line(name, op, (view, bound), {}, "bool", self.current)
            for name, (op, bound) in ((low, below), (high, above))
        ]
        lines.append(Line(bad, "logical_or", (low, high), {}, "bool", self.current))
        if np.dtype(x.dtype).kind == "f":
            nan, either = self._new("nan"), self._new("either")
            lines.append(Line(nan, "not_equal", (view, view), {}, "bool", self.current))
            lines.append(Line(either, "logical_or", (bad, nan), {}, "bool", self.current))
            bad = either
        check = Reduction(self._new("check"), "check", bad, "bool", self.current)
        nest = Nest(domain=domain, lines=lines, reductions=[check],
                    reduced=frozenset(range(ndim)))  # fmt: skip
        self._place(check.out, (), "bool", None, nest, [x.name], x.batch is not None)

    # Matrix products

    def _matmul(self, e: Equation) -> None:
        assert e.out is not None
        if e.out.dtype not in ("float32", "float64"):
            raise Unsupported(f"matmul of {e.out.dtype}")
        x, y = (self.values[str(i)] for i in e.ins)
        if (x.dtype, y.dtype) != (e.out.dtype, e.out.dtype):
            raise Unsupported(f"matmul of {x.dtype} and {y.dtype}")
        a, b = self.view(x.name), self.view(y.name)
        out = Value(e.out.name, e.out.shape, e.out.dtype)
        # A vector is a matrix of one row (left) or one column (right).
        a = a.aligned(2, (1,)) if len(a.shape) == 1 else a
        if len(b.shape) == 1:
            b = View(b.base, b.offset, (*b.strides, 0), (*b.shape, 1), b.dtype, b.batch)
        if len(x.shape) == 1:
            a = replace(a, shape=(1, x.shape[0]), strides=(0, self.view(x.name).strides[0]))
            if x.batch is not None:
                a = replace(a, batch=Batch(1, x.batch.times))
        leading = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
        ndim = len(leading) + 2
        over, batch = self._batch_of_product(a, b, ndim)
        if self._by_features(over, a, b):
            over = "terms" if over == "m" else ""
        tiled = over not in ("", "terms")
        if not tiled and (a.batch or b.batch):
            a, b = replace(a, batch=None), replace(b, batch=None)
            batch = None
        full = (*leading, a.shape[-2], b.shape[-1])
        a, b = a.broadcast(ndim), b.broadcast(ndim)
        out_batch = None
        if over in ("m", "n", "batch"):
            assert batch is not None
            # The result's own axes: without those that a vector does not have.
            axis = batch.axis
            if axis == ndim - 1 and len(x.shape) == 1:
                axis -= 1
            out_batch = Batch(axis, batch.times)
        elif over == "terms":
            out_batch = Batch(0, 1)
            self.terms[out.name] = a.shape[-1]
        partial = over in ("k", "terms")
        thin = full[-1] == 1 or (a.shape[-1] == 1 and over != "batch")
        if over != "k" and out.shape == full and thin:
            self._thin(e, a, b, full, batch)
            return
        product = Product(
            out=out.name, a=a, b=b, shape=full, batch=batch, over=over, equation=self.current,
            dtype=e.out.dtype, row_vector=len(x.shape) == 1,
        )  # fmt: skip
        self._place(
            out.name, out.shape, out.dtype, out_batch, product, e.ins, tiled, partial,
            padded=out.name not in self.unpadded,
        )  # fmt: skip
        # Where the tile's rows are columns, the transposed product has them as rows; where a sum
        # over rows has a single column, it has that as a row of vectors.
        if over == "n" or (over == "k" and full[-1] == 1):
            product.a, product.b = transposed(b), transposed(a)
            product.shape = (*leading, full[-1], full[-2])
            product.swapped = True
        if over == "n":
            assert batch is not None
            product.over, product.batch = "m", batch._replace(axis=ndim - 2)

    def _by_features(self, over: str, a: View, b: View) -> bool:
        """Whether threads share the features of a product, in place of the rows of the batch.

        Of x @ w each then sums its features' terms for all rows, with its rows of w; of x.T @ dout
        it makes its rows of the gradient, and updates its rows of w. So those stay in its core's
        cache: nothing goes from core to core but the first product's sums and dout, which are small
        where the batch has few rows. x itself has to be there for all threads.
        """
        if self.threads == 1 or not 0 < self.rows <= FEW_ROWS or len(a.shape) + len(b.shape) > 4:
            return False
        made = self.made.get(a.base)
        if (made is not None and made.op != "take") or a.batch is None or a.batch.times > 1:
            return False
        features = a.shape[1] if over == "m" else a.shape[0]
        large = features >= FEATURES * self.rows and features * b.shape[1] >= WIDE
        return large and (over == "k" or (over == "m" and b.batch is None))

    def _thin(self, e: Equation, a: View, b: View, shape: Shape, batch: Batch | None) -> None:
        """A product that sums a single term, or has a single column: loops do it better."""
        assert e.out is not None
        out, ndim = e.out, len(shape)
        tiled = batch is not None
        if a.shape[-1] == 1:
            left = a.aligned(ndim, [*range(ndim - 1), ndim - 2])
            right = b.aligned(ndim, [*range(ndim - 2), ndim - 1, ndim - 1])
            line = Line(out.name, "mul", (left, right), {}, out.dtype, self.current)
            nest = Nest(domain=Domain(shape, batch), lines=[line])
        else:  # (..., m, 1, k)
            leading = range(ndim - 2)
            left = a.aligned(ndim + 1, [*leading, ndim - 2, ndim])
            right = b.aligned(ndim + 1, [*leading, ndim, ndim - 1])
            term = self._new(out.name)
            line = Line(term, "mul", (left, right), {}, out.dtype, self.current)
            sum_ = Reduction(out.name, "sum", term, out.dtype, self.current)
            nest = Nest(domain=Domain((*shape, a.shape[-1]), batch), lines=[line],
                        reductions=[sum_], reduced=frozenset({ndim}), alone=True)  # fmt: skip
        self._place(out.name, shape, out.dtype, batch, nest, e.ins, tiled)

    def _batch_of_product(self, a: View, b: View, ndim: int) -> tuple[str, Batch | None]:
        """Which axis of a product the batch is, and where in the nest (..., m, n)."""
        kinds: set[tuple[str, int, int]] = set()
        for view, names in ((a, ("m", "k")), (b, ("k", "n"))):
            if view.batch is None:
                continue
            behind = len(view.shape) - view.batch.axis
            if behind <= 2:
                kinds.add((names[2 - behind], 0, view.batch.times))
            else:
                kinds.add(("batch", ndim - behind, view.batch.times))
        if len(kinds) != 1:
            return "", None
        ((kind, axis, times),) = kinds
        if kind == "k":
            return "k", Batch(ndim, times)
        axis = {"m": ndim - 2, "n": ndim - 1}.get(kind, axis)
        return kind, Batch(axis, times)

    # Pieces, indices, letters

    def _pieces(self, e: Equation, attrs: dict[str, Any]) -> None:
        """Arrays that are written into parts of another."""
        assert e.out is not None
        out = e.out
        names = [str(i) for i in e.ins]
        batch = self._shared_piece_batch(e, attrs)
        value = Value(out.name, out.shape, out.dtype, batch, padded=out.name not in self.unpadded)
        layout = self.layout(value)
        if e.op != "concatenate":
            fill = Line(out.name, "full", (), {"value": attrs.get("value", 0)}, out.dtype,
                        self.current)  # fmt: skip
            nest = Nest(domain=Domain(out.shape, batch), lines=[fill],
                        stores=[(out.name, layout)], alone=True)  # fmt: skip
            self._place(out.name, out.shape, out.dtype, batch, nest, names, batch is not None)
        start = 0
        for name in names:
            source = self.values[name]
            if e.op == "concatenate":
                axis = attrs["axis"] % len(out.shape)
                stop = start + source.shape[axis]
                index: Any = [slice(None)] * axis + [slice(start, stop)]
                start = stop
            elif e.op == "pad":
                index = [slice(a, a + n) for (a, _), n in zip(attrs["widths"], source.shape,
                                                              strict=True)]  # fmt: skip
            else:
                index = attrs["index"]
            shown = seen(layout, "slice", {"index": tuple(index)})
            assert shown is not None
            offset, strides = shown
            part = View(out.name, layout.offset + offset, strides, source.shape, out.dtype, batch)
            inner = (source.batch or batch) if batch is not None else None
            part = replace(part, batch=inner)
            piece = self._new(out.name)
            ndim = len(source.shape)
            line = Line(piece, "cast", (self._operand(name, ndim),), {}, out.dtype, self.current)
            nest = Nest(domain=Domain(source.shape, inner), lines=[line],
                        stores=[(piece, part)], alone=True)  # fmt: skip
            self._place(out.name, out.shape, out.dtype, batch, nest, names, batch is not None)

    def _shared_piece_batch(self, e: Equation, attrs: dict[str, Any]) -> Batch | None:
        """The batch of the pieces, if it goes through."""
        assert e.out is not None
        # Of whole arrays among the pieces each tile reads its rows.
        batches = set(self._batches(e.ins)) - {None}
        if len(batches) != 1:
            return None
        (batch,) = batches
        assert batch is not None
        if e.op == "concatenate":
            return None if attrs["axis"] % len(e.out.shape) == batch.axis else batch
        if e.op == "pad":
            return batch if attrs["widths"][batch.axis] == (0, 0) else None
        # A slice's gradient: the batch of the whole is where the slice's is.
        for axis in range(len(e.out.shape)):
            if e.out.shape[axis] != self.rows * batch.times:
                continue
            trial = Value("", e.out.shape, e.out.dtype, Batch(axis, batch.times))
            cut = replace(e, op="slice", out=Var("x", self.values[str(e.ins[0])].shape, "bool"))
            if self._batch_of_view(cut, attrs, trial) == batch:
                return Batch(axis, batch.times)
        return None

    def _indexed(self, e: Equation, attrs: dict[str, Any]) -> None:
        """take: x[indices]. scatter_add: zeros, with x added at indices."""
        assert e.out is not None
        out = e.out
        scatter = e.op == "scatter_add"
        x, arrays = self.values[str(e.ins[0])], [str(i) for i in e.ins[1:]]
        whole_shape = attrs["shape"] if scatter else x.shape
        parts = spelled(attrs["pattern"], len(whole_shape))
        joint = np.broadcast_shapes(*(self.values[a].shape for a in arrays))
        first, shape, axes = placed(parts, whole_shape, joint)
        ndim = len(shape)
        rows = [n for n in arrays if n in self.own_row]
        # The batch of the nest: that of the indices, or of what keeps its place.
        found: set[Batch] = set()
        for a in arrays:
            value = self.values[a]
            if value.batch is not None:
                axis = first + len(joint) - len(value.shape) + value.batch.axis
                found.add(value.batch._replace(axis=axis))
        subject = None if scatter else x
        subject_axis = None
        if subject is not None and subject.batch is not None:
            at = subject.batch.axis
            part = parts[part_of(parts, at)]
            if isinstance(part, slice) and part == slice(None):
                found.add(subject.batch._replace(axis=axes[at]))
                subject_axis = at
            elif part is ARRAY and subject.batch.times == 1:
                index = arrays[sum(p is ARRAY for p in parts[: part_of(parts, at)])]
                if index in rows:
                    value = self.values[index]
                    wide = next(i for i, n in enumerate(value.shape) if n != 1)
                    found.add(Batch(first + len(joint) - len(value.shape) + wide, 1))
                    subject_axis = at
                else:
                    found.add(Batch(-1, 0))
            else:
                found.add(Batch(-1, 0))
        if scatter and x.batch is not None:
            found.add(x.batch._replace(axis=x.batch.axis + ndim - len(x.shape)))
        batch = next(iter(found)) if len(found) == 1 else None
        if batch is not None and (batch.axis < 0 or shape[batch.axis] != self.rows * batch.times):
            batch = None
        out_batch, partial = batch, False
        if scatter:
            out_batch, subject_axis = self._scattered_batch(
                parts, whole_shape, axes, arrays, batch, first + len(joint)
            )
            partial = batch is not None and out_batch is None
        value = Value(out.name, out.shape, out.dtype, out_batch,
                      padded=out.name not in self.unpadded)  # fmt: skip
        data = self.layout(value) if scatter else self.view(x.name)
        if batch is None:
            data = replace(data, batch=None)
        gather = self._gather(data, parts, arrays, axes, first, joint, ndim,
                              subject_axis if batch is not None else None, batch)  # fmt: skip
        domain = Domain(shape, batch)
        tiled = batch is not None
        if not scatter:
            line = Line(out.name, "take", (gather,), {}, out.dtype, self.current)
            nest = Nest(domain=domain, lines=[line], alone=True)
            self._place(out.name, out.shape, out.dtype, batch, nest, e.ins, tiled)
            return
        if not partial:
            fill = Line(out.name, "full", (), {"value": 0}, out.dtype, self.current)
            zero = Nest(domain=Domain(out.shape, out_batch), lines=[fill],
                        stores=[(out.name, self.layout(value))], alone=True)  # fmt: skip
            self._place(out.name, out.shape, out.dtype, out_batch, zero, e.ins, tiled)
        piece = self._new(out.name)
        line = Line(piece, "cast", (self._operand(x.name, ndim),), {}, out.dtype, self.current)
        nest = Nest(domain=domain, lines=[line], scatter=gather, alone=True)
        self._place(out.name, out.shape, out.dtype, out_batch, nest, e.ins, tiled, partial)

    def _scattered_batch(
        self, parts: list[Any], shape: Shape, axes: dict[int, int], arrays: list[str],
        batch: Batch | None, end: int,
    ) -> tuple[Batch | None, int | None]:  # fmt: skip
        """The batch of a scatter_add's result: where each row writes to itself only.

        The arrays' axes are those of the nest up to `end`.
        """
        if batch is None:
            return None, None
        axis, n = 0, 0
        for part in parts:
            if part is None:
                continue
            if part is ARRAY:
                index = self.values[arrays[n]].shape
                wide = next((a for a, m in enumerate(index) if m != 1), 0)
                own = arrays[n] in self.own_row and batch.times == 1
                if own and end - len(index) + wide == batch.axis and shape[axis] == self.rows:
                    return Batch(axis, 1), axis
                n += 1
            elif (
                isinstance(part, slice)
                and part == slice(None)
                and axes.get(axis) == batch.axis
                and shape[axis] == self.rows * batch.times
            ):
                return Batch(axis, batch.times), axis
            axis += 1
        return None, None

    def _gather(
        self, data: View, parts: list[Any], arrays: list[str], axes: dict[int, int], first: int,
        joint: Shape, ndim: int, own: int | None, batch: Batch | None,
    ) -> Gather:  # fmt: skip
        """Addresses of data[parts] in a nest: strides of what is sliced, indices of the rest."""
        offset, strides, lengths = data.offset, [0] * ndim, [1] * ndim
        indices = []
        axis = n = 0
        for part in parts:
            if part is None:
                continue
            stride, length = data.strides[axis], data.shape[axis]
            if isinstance(part, slice):
                start, stop, step = part.indices(length)
                offset += start * stride
                strides[axes[axis]] += step * stride
                lengths[axes[axis]] = len(range(start, stop, step))
            elif part is ARRAY:
                view = self.view(arrays[n])
                shift = first + len(joint) - len(view.shape)
                view = view.aligned(ndim, range(shift, shift + len(view.shape)))
                if own == axis:  # each row's own entry, whose place is known
                    assert batch is not None
                    strides[batch.axis] += stride
                    lengths[batch.axis] = length
                else:
                    indices.append((view, stride, length))
                n += 1
            else:
                offset += (part % length) * stride
            axis += 1
        batch = batch if data.batch is not None else None
        return Gather(
            View(data.base, offset, tuple(strides), tuple(lengths), data.dtype, batch), indices
        )

    def _einsum(self, e: Equation, attrs: dict[str, Any]) -> None:
        """Loops over all letters: the product of the operands, added up over those not kept."""
        assert e.out is not None
        shapes = [self.program.vars[str(i)].shape for i in e.ins]
        terms, result = explicit_subscripts(attrs["subscripts"], [len(s) for s in shapes])
        size: dict[str, int] = {}
        for term, shape in zip(terms, shapes, strict=True):
            for letter, n in zip(term, shape, strict=True):
                size[letter] = max(size.get(letter, 1), n)
        letters = result + "".join(c for c in dict.fromkeys("".join(terms)) if c not in result)
        shape = tuple(size[c] for c in letters)
        ndim = len(shape)
        found, operands = set(), []
        for name, term in zip(e.ins, terms, strict=True):
            view = self.view(str(name))
            if view.batch is not None:
                found.add((letters.index(term[view.batch.axis]), view.batch.times))
            operands.append(view.aligned(ndim, [letters.index(c) for c in term]))
        batch = Batch(*next(iter(found))) if len(found) == 1 else None
        if batch is not None and shape[batch.axis] != self.rows * batch.times:
            batch = None
        reduced = frozenset(range(len(result), ndim))
        partial = batch is not None and batch.axis in reduced
        lines, product = [], operands[0]
        for operand in operands[1:]:
            name = self._new(e.out.name)
            lines.append(Line(name, "mul", (product, operand), {}, e.out.dtype, self.current))
            product = name  # type: ignore[assignment]
        out_batch = None if partial else batch
        nest = Nest(domain=Domain(shape, batch), lines=lines, alone=True)
        if reduced:
            nest.reductions = [Reduction(e.out.name, "sum", product, e.out.dtype, self.current)]
            nest.reduced = reduced
        else:
            nest.lines.append(Line(e.out.name, "detach", (product,), {}, e.out.dtype, self.current))
        self._place(
            e.out.name, e.out.shape, e.out.dtype, out_batch, nest, e.ins, batch is not None, partial
        )

    def _uniform(self, e: Equation, attrs: dict[str, Any]) -> None:
        assert e.out is not None
        shape = e.out.shape
        times = shape[0] // self.rows if self.rows and shape and shape[0] % self.rows == 0 else 0
        batch = Batch(0, times) if times else None
        key, counter = (self.view(str(i)) for i in e.ins)
        draw = Draw(out=e.out.name, key=key, counter=counter, shape=shape, batch=batch,
                    dtype=e.out.dtype, equation=self.current)  # fmt: skip
        self._place(e.out.name, shape, e.out.dtype, batch, draw, e.ins, batch is not None,
                    padded=False)  # fmt: skip
