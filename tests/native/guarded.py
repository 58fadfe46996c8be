"""Memory that an engine must not touch: around every array that native code is given.

Run as a program, `python guarded.py after` (or `before`) goes through op cases and models; every
array ends (begins) at a page that nobody may read or write. Each case's name is printed before it
runs: an access beyond an array ends the process, and the last name says where. A part of a name may
follow, or a number n: every n-th case.
"""

from __future__ import annotations

import ctypes
import faulthandler
import mmap
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from groundup.native import engine as native
from groundup.native.emit import FLAGS, SHARED, THREADS
from groundup.ops.base import Array

PAGE = mmap.PAGESIZE
EDGE = 256  # bytes of canaries beside memory for intermediate results
PATTERN = 0xA5
_libc = ctypes.CDLL(None, use_errno=True)
_libc.mprotect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]


def guarded(shape: tuple[int, ...], dtype: Any, side: str) -> Array:
    """An array full of 0xFF (NaN) between two pages that nobody may touch.

    Args:
        shape: of the array.
        dtype: of the array.
        side: "after": its last byte is the last before a page; "before": its first the first after.

    """
    dtype = np.dtype(dtype)
    nbytes = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
    pages = max(1, -(-nbytes // PAGE)) * PAGE
    memory = mmap.mmap(-1, pages + 2 * PAGE)
    whole = np.frombuffer(memory, np.uint8)
    whole[PAGE:-PAGE] = 0xFF
    for start in (0, PAGE + pages):
        if _libc.mprotect(whole.ctypes.data + start, PAGE, 0):  # PROT_NONE
            raise OSError(ctypes.get_errno(), "mprotect")
    begin = PAGE + (pages - nbytes if side == "after" else 0)
    found: Array = whole[begin : begin + nbytes].view(dtype).reshape(shape)
    return found


def guarded_copy(array: Array, side: str) -> Array:
    """An array in guarded memory, its axes in the same order of memory."""
    order = sorted(range(array.ndim), key=lambda a: -abs(array.strides[a]))
    lying = guarded(tuple(array.shape[a] for a in order), array.dtype, side)
    found = lying.transpose(np.argsort(order)) if order else lying
    found[...] = array
    return found


class Names:
    """NumPy as an engine sees it, with `empty` in guarded memory."""

    def __init__(self, side: str):
        self.side = side

    def __getattr__(self, name: str) -> Any:
        return getattr(np, name)

    def empty(self, shape: tuple[int, ...], dtype: Any) -> Array:
        return guarded(shape, dtype, self.side)

    def ascontiguousarray(self, array: Any) -> Array:
        return guarded_copy(np.ascontiguousarray(array), self.side)


class Guarded(native.Engine):
    """An engine all of whose arrays are guarded; its memory is poisoned between canaries."""

    side = "after"

    def _prepare(self) -> None:
        super()._prepare()
        at = self.at
        self.constants = {
            name: guarded_copy(array, self.side)
            for name, array in self.plan.planner.constants.items()
        }
        for name, array in self.constants.items():
            self.table[at[name]] = array.ctypes.data
        self.settings = guarded_copy(self.settings, self.side)
        for n, (name, (_, dtype, _)) in enumerate(zip(self.names, self.given, strict=True)):
            if dtype is None:
                self.table[at[name]] = self.settings.ctypes.data + 8 * n
        self.flags = guarded_copy(self.flags, self.side)
        self.table[FLAGS] = self.flags.ctypes.data
        self.around = []
        for slot, memory in zip((SHARED, THREADS), self.memory, strict=True):
            around = native.aligned(memory.nbytes + 2 * EDGE)
            self.table[slot] = around.ctypes.data + EDGE
            self.around.append(around)
        self._small = [(name, guarded_copy(array, self.side)) for name, array in self._small]
        where = {name: slot for name, slot, _, _ in self.results}
        for name, array in self._small:
            self.table[where[name]] = array.ctypes.data
        self.table = guarded_copy(self.table, self.side)
        self._table, self._settings = memoryview(self.table), memoryview(self.settings)
        self._flags = memoryview(self.flags)
        self._context = self.table.ctypes.data

    def __call__(self, values: Sequence[Any]) -> dict[str, Array]:
        for around in self.around:
            around[...] = PATTERN
            around[EDGE:-EDGE] = 0xFF  # NaN to whoever reads what nobody wrote
        for _, array in self._small:
            ctypes.memset(array.ctypes.data, 0xFF, array.nbytes)
        self._kept.clear()  # new arrays for large results
        given = [guarded_copy(v, self.side) if isinstance(v, np.ndarray) else v for v in values]
        before = native.np
        native.np = Names(self.side)  # type: ignore[assignment]
        try:
            found = super().__call__(given)
        finally:
            native.np = before
        for around in self.around:
            assert (around[:EDGE] == PATTERN).all(), "written before the memory of results"
            assert (around[-EDGE:] == PATTERN).all(), "written behind the memory of results"
        for was, value in zip(values, given, strict=True):
            if isinstance(was, np.ndarray):
                assert was.tobytes() == value.tobytes(), "an argument was written to"
        return found


class GuardedBefore(Guarded):
    side = "before"


ENGINES: dict[str, type[Guarded]] = {"after": Guarded, "before": GuardedBefore}


def run(side: str, cases: Sequence[tuple[str, Callable[[], Any]]]) -> int:
    """Run cases by name, print what is wrong, and return how many are."""
    faulthandler.enable()
    failed = 0
    for name, case in cases:
        print(f"> {name}", flush=True)
        try:
            case()
        except native.Unsupported:
            pass
        except Exception as error:
            failed += 1
            print(f"! {name}: {type(error).__name__}: {str(error)[:600]}", flush=True)
    print(f"= {len(cases)} cases, {failed} failed, guarded {side}", flush=True)
    return failed


def checked(given: Any, side: str, **options: Any) -> None:
    """Check a Program with held arrays and everything else guarded."""
    from native_oracle import check_each

    def engine(program: Any, held: dict[str, Any], **more: Any) -> Guarded:
        for name, array in held.items():
            held[name] = guarded_copy(array, side)
        return ENGINES[side](program, held, **more)

    check_each(given, engine, **options)


def all_cases(side: str, wanted: str = "") -> list[tuple[str, Callable[[], Any]]]:
    """Op cases in float32, and models, each with one thread and with three."""
    from models import MODELS
    from native_oracle import given_by, given_by_step
    from oracle import F32
    from steps import STEPS
    from test_program_ops import CASES, EDGES, recorded

    found: list[tuple[str, Callable[[], Any]]] = []

    def add(name: str, make: Callable[[], Any]) -> None:
        if wanted not in name:
            return
        for options in ({"threads": 1}, {"threads": 3, "tile": 2}):
            found.append(
                (f"{name} {options}", lambda o=options: checked(make(), side, **o))  # type: ignore[misc]
            )

    for name, case in CASES.items():
        add(name, lambda case=case: given_by(recorded(case, F32)))  # type: ignore[misc]
    for i, case in enumerate(EDGES):
        add(f"edge {i} {case.name}", lambda c=case: given_by(recorded(c, F32)))  # type: ignore[misc]
    for name, make in {**STEPS, **MODELS}.items():
        if name not in ("gpt", "deep", "deep_adam"):  # nothing new, and long
            add(name, lambda make=make: given_by_step(make()))  # type: ignore[misc]
    return found


if __name__ == "__main__":
    here = Path(__file__).parent
    sys.path[:0] = [str(here), str(here.parent), str(here.parent / "program")]
    which, *more = sys.argv[1:]
    step = int(more.pop()) if more and more[-1].isdigit() else 1
    sys.exit(run(which, all_cases(which, *more)[::step]) > 0)
