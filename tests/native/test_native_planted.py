"""Bugs planted in the engine: the comparison with NumPy finds each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from native_oracle import check_each, given_by
from oracle import F32, normal
from programs import Recorded

import groundup as gu
from groundup import Tensor
from groundup.native import code, elementwise, emit
from groundup.nn import Parameter

ROWS, COLUMNS = 7, 19  # neither a multiple of a tile or a vector


def check() -> None:
    """Three threads, tiles of two rows: sums over the batch and over columns, an update."""
    w = Parameter(normal(5, COLUMNS, seed=7).astype(F32))
    x, y = (Tensor(normal(ROWS, n, seed=n).astype(F32)) for n in (5, COLUMNS))

    def step(x: Tensor, y: Tensor) -> Any:
        apart = x @ w - y
        each = apart.exp().sum(1)
        (dw,) = gu.grad(each.mean(), [w])
        columns = apart.sum(0)
        with gu.no_grad():
            w.assign(w - 0.1 * dw)
        return each, dw, columns, columns * 2

    check_each(given_by(Recorded(step, x, y, held=[w])), threads=3, tile=2)


def test_nothing_planted() -> None:
    check()


def swapped_difference(patch: pytest.MonkeyPatch) -> None:
    right = elementwise._emit

    def wrong(builder: Any, op: str, attrs: Any, ins: Any, *more: Any) -> Any:
        return right(builder, op, attrs, ins[::-1] if op == "sub" else ins, *more)

    patch.setattr(elementwise, "_emit", wrong)


def last_row_left_out(patch: pytest.MonkeyPatch) -> None:
    right = code._tiles
    patch.setattr(
        code, "_tiles", lambda plan, *more: right(replace(plan, rows=plan.rows - 1), *more)
    )


def one_part_for_all(patch: pytest.MonkeyPatch) -> None:
    """Who reads a sum over the batch gets the first thread's part only."""
    right = emit.Writer.load

    def wrong(self: emit.Writer, view: Any, *more: Any) -> Any:
        if self.space(view) != "partial":
            return right(self, view, *more)
        return elementwise.Value(self._load(view, *more, 0), view.dtype)

    patch.setattr(emit.Writer, "load", wrong)


def last_tile_for_all(patch: pytest.MonkeyPatch) -> None:
    """A tile's sum takes the place of the thread's part."""

    def wrong(w: Any, value: Any, op: str, view: Any, at: Any, *more: Any) -> None:
        w.store(value, view, at, *more)

    patch.setattr(emit, "add_to_part", wrong)


def lanes_that_do_not_count(patch: pytest.MonkeyPatch) -> None:
    """Sums take all lanes of the last vector."""
    right = emit.NestWriter._body

    def wrong(self: emit.NestWriter, *more: Any) -> None:
        b, mask = self.w.builder, self.mask
        select = b.select

        def unmasked(condition: Any, x: Any, *others: Any) -> Any:
            counts = mask is not None and condition is mask.of
            return x if counts else select(condition, x, *others)

        b.select = unmasked
        right(self, *more)
        b.select = select

    patch.setattr(emit.NestWriter, "_body", wrong)


def mask_too_short(patch: pytest.MonkeyPatch) -> None:
    right = emit.fixed_mask
    patch.setattr(emit, "fixed_mask", lambda count, lanes: right(count - 1, lanes))


@pytest.mark.parametrize(
    ("plant", "found"),
    [
        (swapped_difference, r"= sub\("),
        (last_row_left_out, r"= matmul\("),
        (one_part_for_all, r"= sum\(.*axis'?: \(?0"),
        (last_tile_for_all, r"= sum\(.*axis'?: \(?0"),
        (lanes_that_do_not_count, r"= sum\("),
        (mask_too_short, r"= "),
    ],
    ids=lambda p: p.__name__ if callable(p) else "",
)
def test_planted(
    plant: Callable[[pytest.MonkeyPatch], None], found: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    plant(monkeypatch)
    with pytest.raises(AssertionError, match=found):
        check()


def test_no_barriers(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first thread is often done before the others have begun."""
    monkeypatch.setattr(code, "emit_barrier", lambda *args: None)
    with pytest.raises(AssertionError):  # noqa: PT012
        for _ in range(20):
            check()
