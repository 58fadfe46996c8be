"""Native threads that run compiled code together: a pool, written in LLVM IR over libc's pthreads.

A job is a native function ``void job(ptr context, i64 thread, i64 threads)``: every thread of a
run calls the same one (SPMD), the calling thread as thread 0. Within, threads meet at barriers.
Between jobs workers spin a moment, since the next job often follows at once, then sleep.
"""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import math
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from llvmlite import ir
from llvmlite.ir import instructions

from groundup.native import llvm
from groundup.native.llvm import I32, I64, POINTER, VOID, i64

MOST_THREADS = 256  # that a job can have

# The memory that the threads share. Apart by 128 bytes, what different threads write at different
# times: CPUs fetch cache lines in pairs, and Apple's are that long.
_CALL = 0  # number of the latest call << 16 | how many threads it is for
_JOB = 8  # its function; these three are written and read together: one line
_CONTEXT = 16
_PENDING = 128  # how many workers are still at it
_BARRIER = 256  # how often the threads have met << 32 | how many wait for the next time
_WORKERS = 384  # how many there are
_LIMIT = 392  # the most threads, the calling one included
_CORES = 400
_PATIENCE = 408  # how often to look before giving the core away
_LOCK = 512  # a mutex: one job at a time
_SLOTS = 640

# Of these there is one per worker, _SLOT bytes long.
_MUTEX = 0
_CONDITION = 64  # neither is longer than 64 bytes, on Linux and on macOS
_ASLEEP = 128  # 1 if the worker sleeps or is about to
_THREAD = 136  # pthread_t
_SHARED = 144
_INDEX = 152
_SEEN = 160  # the latest call when it was made, which is none of its business
_SLOT = 256
_SIZE = _SLOTS + _SLOT * MOST_THREADS

# A look with its pause takes 10 to 60 nanoseconds.
_LOOKS = 64  # more than a barrier takes when all threads run
_LOOKS_BETWEEN = 16  # between two sched_yield(), each a system call of less than a microsecond
_IDLE_LOOKS = 128  # the same for workers without a job, who look at the clock, too; a power of 2
_AWAKE = 50_000  # nanoseconds that a worker looks for the next job before it sleeps

_LIBC = """
    pthread_create pthread_join pthread_sigmask sigfillset sigdelset sched_yield clock_gettime
    pthread_mutex_init pthread_mutex_lock pthread_mutex_trylock pthread_mutex_unlock
    pthread_cond_init pthread_cond_wait pthread_cond_signal
"""

JOB = ir.FunctionType(VOID, [POINTER, I64, I64])
BARRIER = ir.FunctionType(VOID, [POINTER, I64])
LAUNCH = ir.FunctionType(I64, [I64, POINTER, I64])


# Building blocks


def _at(builder: ir.IRBuilder, base: Any, offset: int) -> Any:
    """The address of something in the shared memory or a slot."""
    return builder.gep(base, [i64(offset)], source_etype=llvm.I8)


def _load(builder: ir.IRBuilder, base: Any, offset: int, order: str = "monotonic") -> Any:
    return builder.load_atomic(_at(builder, base, offset), order, 8, typ=I64)


def _store(
    builder: ir.IRBuilder, value: Any, base: Any, offset: int, order: str = "monotonic"
) -> None:
    # builder.store_atomic refuses pointers that don't say to what (llvmlite 0.50).
    place = _at(builder, base, offset)
    builder._insert(instructions.StoreAtomicInstr(builder.block, value, place, order, 8))


def _slot(builder: ir.IRBuilder, shared: Any, worker: Any) -> Any:
    """The address of a worker's slot; they count from 1."""
    offset = builder.mul(builder.sub(worker, i64(1)), i64(_SLOT))
    return builder.gep(shared, [builder.add(offset, i64(_SLOTS))], source_etype=llvm.I8)


def _libc(builder: ir.IRBuilder, name: str, *args: Any) -> Any:
    """Call a function that gives an int."""
    function = llvm.declare(builder, name, I32, *(a.type for a in args))
    return builder.call(function, args)


def _call_job(builder: ir.IRBuilder, job: Any, *args: Any) -> None:
    builder.call(builder.inttoptr(job, JOB.as_pointer()), args)


@contextmanager
def _forever(builder: ir.IRBuilder) -> Iterator[Callable[[Any], None]]:
    """while True: ..., in which ``leave_if(condition)`` is the only way out."""
    body = builder.append_basic_block("forever")
    after = builder.append_basic_block("left")

    def leave_if(condition: Any) -> None:
        on = builder.append_basic_block("on")
        builder.cbranch(condition, after, on)
        builder.position_at_end(on)

    builder.branch(body)
    builder.position_at_end(body)
    yield leave_if
    builder.branch(body)
    builder.position_at_end(after)


@contextmanager
def _each_worker(builder: ir.IRBuilder, start: Any, threads: Any) -> Iterator[Any]:
    """for worker in range(start, threads), maybe none."""
    with (
        builder.if_then(builder.icmp_signed("<", start, threads)),
        llvm.for_range(builder, start, threads) as worker,
    ):
        yield worker


def _pause(builder: ir.IRBuilder) -> None:
    """Tell the CPU that we spin: it saves power, and gives way to a twin hyperthread."""
    triple = builder.module.triple
    if triple.startswith(("x86_64", "amd64", "i686", "i386")):
        builder.call(llvm.declare(builder, "llvm.x86.sse2.pause", VOID), [])
    elif triple.startswith(("aarch64", "arm64")):
        builder.call(llvm.declare(builder, "llvm.aarch64.hint", VOID, I32), [I32(1)])


def _spin_until(builder: ir.IRBuilder, shared: Any, condition: Callable[[], Any]) -> None:
    """Look until a condition holds: a bounded number of times, then giving the core away.

    Whoever we wait for may be waiting for our core: another thread of ours if there are more of
    them than cores, or behind another process's thread that spins just so.
    """
    with builder.goto_entry_block():
        looks = builder.alloca(I64)
    patience = _load(builder, shared, _PATIENCE)
    builder.store(i64(0), looks)
    with _forever(builder) as leave_if:
        leave_if(condition())
        _pause(builder)
        now = builder.add(builder.load(looks), i64(1))
        builder.store(now, looks)
        with builder.if_then(builder.icmp_signed(">", now, patience)):
            _libc(builder, "sched_yield")
            builder.store(builder.sub(patience, i64(_LOOKS_BETWEEN)), looks)


def _publish(builder: ir.IRBuilder, shared: Any, job: Any, context: Any, threads: Any) -> None:
    """Give the workers a job, and wake those who sleep.

    The number and the count of threads are one word: a worker that the call is not for must not
    look at the rest, which may be the next call's by then. Workers that it is for can: there is
    no next call before they are done.

    A worker sets "asleep", then looks at the call; we set the call, then look at "asleep". All
    four are sequentially consistent, so one of us sees the other's, and no wake-up is lost.
    """
    _store(builder, job, shared, _JOB)
    _store(builder, builder.ptrtoint(context, I64), shared, _CONTEXT)
    _store(builder, builder.sub(threads, i64(1)), shared, _PENDING)
    number = builder.add(builder.lshr(_load(builder, shared, _CALL), i64(16)), i64(1))
    call = builder.or_(builder.shl(number, i64(16)), threads)
    _store(builder, call, shared, _CALL, "seq_cst")
    with _each_worker(builder, i64(1), threads) as worker:
        slot = _slot(builder, shared, worker)
        asleep = builder.icmp_signed("!=", _load(builder, slot, _ASLEEP, "seq_cst"), i64(0))
        with builder.if_then(asleep, likely=False):
            # Having had the mutex, we know that the worker waits, or will look at the call again.
            mutex = _at(builder, slot, _MUTEX)
            _libc(builder, "pthread_mutex_lock", mutex)
            _libc(builder, "pthread_mutex_unlock", mutex)
            _libc(builder, "pthread_cond_signal", _at(builder, slot, _CONDITION))


# The functions


def _build_barrier(module: ir.Module) -> None:
    """void barrier(ptr shared, i64 threads): return when so many threads have called it.

    One word has both how many wait and how often all have met, so that arriving is one atomic
    addition. Its acquire and release pass what each thread wrote before to the last to arrive,
    whose store passes all of it on to those who wait. The store resets the count, too: nobody
    arrives at the next barrier before having seen it.
    """
    function, builder = llvm.define(module, "barrier", VOID, POINTER, I64, internal=False)
    shared, threads = function.args
    with builder.if_then(builder.icmp_signed(">", threads, i64(1))):
        word = _at(builder, shared, _BARRIER)
        before = builder.atomic_rmw("add", word, i64(1), "acq_rel")
        met = builder.lshr(before, i64(32))
        waiting = builder.add(builder.and_(before, i64(0xFFFFFFFF)), i64(1))
        with builder.if_else(builder.icmp_signed("==", waiting, threads)) as (last, other):
            with last:
                following = builder.shl(builder.add(met, i64(1)), i64(32))
                _store(builder, following, shared, _BARRIER, "release")
            with other:

                def released() -> Any:
                    now = _load(builder, shared, _BARRIER, "acquire")
                    return builder.icmp_signed("!=", builder.lshr(now, i64(32)), met)

                _spin_until(builder, shared, released)
    builder.ret_void()


def _build_now(module: ir.Module) -> ir.Function:
    """Nanoseconds on a clock that only goes on."""
    function, builder = llvm.define(module, "now", I64)
    moment = builder.alloca(ir.LiteralStructType([I64, I64]))
    clock = I32(getattr(time, "CLOCK_MONOTONIC", 1))
    _libc(builder, "clock_gettime", clock, builder.bitcast(moment, POINTER))
    seconds = builder.load(_at(builder, moment, 0), typ=I64)
    rest = builder.load(_at(builder, moment, 8), typ=I64)
    builder.ret(builder.add(builder.mul(seconds, i64(1_000_000_000)), rest))
    return function


def _build_worker(module: ir.Module, now: ir.Function) -> ir.Function:
    """A worker's life: wait for a call that is for it, run the job, say so."""
    function, builder = llvm.define(module, "worker", POINTER, POINTER)
    (slot,) = function.args
    seen, looks, since = builder.alloca(I64), builder.alloca(I64), builder.alloca(I64)
    shared = builder.inttoptr(_load(builder, slot, _SHARED), POINTER)
    index = _load(builder, slot, _INDEX)
    builder.store(_load(builder, slot, _SEEN), seen)

    def called(order: str) -> Any:
        """Is there a call that is new, and for this worker?"""
        call = _load(builder, shared, _CALL, order)
        new = builder.icmp_signed("!=", call, builder.load(seen))
        threads = builder.and_(call, i64(0xFFFF))
        return builder.and_(new, builder.icmp_signed("<", index, threads))

    with _forever(builder) as leave_if:
        # Spin, now and then looking at the clock and giving the core away.
        builder.store(i64(0), looks)
        with _forever(builder) as stop_if:
            stop_if(called("acquire"))
            _pause(builder)
            count = builder.add(builder.load(looks), i64(1))
            builder.store(count, looks)
            often = builder.icmp_signed("==", builder.and_(count, i64(_IDLE_LOOKS - 1)), i64(0))
            with builder.if_then(often):
                time_now = builder.call(now, [])
                with builder.if_then(builder.icmp_signed("==", count, i64(_IDLE_LOOKS))):
                    builder.store(time_now, since)
                spent = builder.sub(time_now, builder.load(since))
                _libc(builder, "sched_yield")
                with builder.if_then(builder.icmp_signed(">", spent, i64(_AWAKE))):
                    # Sleep. "Asleep" first, then look: see _publish.
                    mutex = _at(builder, slot, _MUTEX)
                    condition = _at(builder, slot, _CONDITION)
                    _libc(builder, "pthread_mutex_lock", mutex)
                    _store(builder, i64(1), slot, _ASLEEP, "seq_cst")
                    with _forever(builder) as wake_if:
                        wake_if(called("seq_cst"))
                        _libc(builder, "pthread_cond_wait", condition, mutex)
                    _store(builder, i64(0), slot, _ASLEEP)
                    _libc(builder, "pthread_mutex_unlock", mutex)
        # Nobody writes these before all workers called are done: see _publish.
        call = _load(builder, shared, _CALL, "acquire")
        builder.store(call, seen)
        job = _load(builder, shared, _JOB)
        leave_if(builder.icmp_signed("==", job, i64(0)))
        context = builder.inttoptr(_load(builder, shared, _CONTEXT), POINTER)
        _call_job(builder, job, context, index, builder.and_(call, i64(0xFFFF)))
        # What the job wrote is seen by who sees this. And it's done with the call's memory.
        builder.atomic_rmw("sub", _at(builder, shared, _PENDING), i64(1), "acq_rel")
    builder.ret(ir.Constant(POINTER, None))
    return function


def _build_grow(module: ir.Module, worker: ir.Function) -> ir.Function:
    """void grow(ptr shared, i64 threads): make workers, as many as the system gives us.

    They start with all signals blocked, so that Ctrl-C reaches a thread that runs Python; faults
    are a thread's own, and faulthandler wants to report them.
    """
    function, builder = llvm.define(module, "grow", VOID, POINTER, I64)
    shared, threads = function.args
    masks = [builder.bitcast(builder.alloca(ir.ArrayType(I64, 16)), POINTER) for _ in range(2)]
    blocked, before = masks
    _libc(builder, "sigfillset", blocked)
    for name in ("SIGSEGV", "SIGBUS", "SIGFPE", "SIGILL", "SIGTRAP", "SIGABRT"):
        if hasattr(signal, name):
            _libc(builder, "sigdelset", blocked, I32(int(getattr(signal, name))))
    how = I32(int(getattr(signal, "SIG_SETMASK", 2)))
    nothing = ir.Constant(POINTER, None)
    _libc(builder, "pthread_sigmask", how, blocked, before)
    with _forever(builder) as leave_if:
        number = builder.add(_load(builder, shared, _WORKERS), i64(1))
        leave_if(builder.icmp_signed(">=", number, threads))
        slot = _slot(builder, shared, number)
        _libc(builder, "pthread_mutex_init", _at(builder, slot, _MUTEX), nothing)
        _libc(builder, "pthread_cond_init", _at(builder, slot, _CONDITION), nothing)
        _store(builder, i64(0), slot, _ASLEEP)
        _store(builder, builder.ptrtoint(shared, I64), slot, _SHARED)
        _store(builder, number, slot, _INDEX)
        _store(builder, _load(builder, shared, _CALL), slot, _SEEN)
        thread = _at(builder, slot, _THREAD)
        main = builder.bitcast(worker, POINTER)
        failed = _libc(builder, "pthread_create", thread, nothing, main, slot)
        leave_if(builder.icmp_signed("!=", failed, I32(0)))
        _store(builder, number, shared, _WORKERS)
    _libc(builder, "pthread_sigmask", how, before, nothing)
    builder.ret_void()
    return function


def _build_launch(module: ir.Module, shared: Any, grow: ir.Function | None) -> None:
    """i64 launch(i64 job, ptr context, i64 threads): run a job; on how many threads, it gives."""
    function, builder = llvm.define(module, "launch", I64, I64, POINTER, I64, internal=False)
    job, context, wanted = function.args

    def alone() -> None:
        _call_job(builder, job, context, i64(0), i64(1))
        builder.ret(i64(1))

    if grow is None:
        alone()
        return

    def least(a: Any, b: Any) -> Any:
        return builder.select(builder.icmp_signed("<", a, b), a, b)

    # Before the lock, too: after stop() nobody takes it any more.
    asked = least(wanted, _load(builder, shared, _LIMIT))
    with builder.if_then(builder.icmp_signed("<=", asked, i64(1))):
        alone()
    lock = _at(builder, shared, _LOCK)
    _libc(builder, "pthread_mutex_lock", lock)
    asked = least(wanted, _load(builder, shared, _LIMIT))
    there = builder.add(_load(builder, shared, _WORKERS), i64(1))
    with builder.if_then(builder.icmp_signed(">", asked, there), likely=False):
        builder.call(grow, [shared, asked])
    threads = least(asked, builder.add(_load(builder, shared, _WORKERS), i64(1)))
    with builder.if_then(builder.icmp_signed("<=", threads, i64(1)), likely=False):
        _libc(builder, "pthread_mutex_unlock", lock)
        alone()
    # Spinning is of no use where not all threads can run at once.
    crowded = builder.icmp_signed(">", threads, _load(builder, shared, _CORES))
    _store(builder, builder.select(crowded, i64(0), i64(_LOOKS)), shared, _PATIENCE)
    _publish(builder, shared, job, context, threads)
    _call_job(builder, job, context, i64(0), threads)

    def done() -> Any:
        return builder.icmp_signed("==", _load(builder, shared, _PENDING, "acquire"), i64(0))

    _spin_until(builder, shared, done)
    _libc(builder, "pthread_mutex_unlock", lock)
    builder.ret(threads)


def _build_stop(module: ir.Module, shared: Any) -> None:
    """void stop(i64 limit): end and join the workers; later jobs have so many threads at most.

    With a limit of 0 jobs make workers again, and if one runs just now, nothing happens.
    """
    function, builder = llvm.define(module, "stop", VOID, I64, internal=False)
    (limit,) = function.args
    lock, nothing = _at(builder, shared, _LOCK), ir.Constant(POINTER, None)
    with builder.if_else(builder.icmp_signed(">", limit, i64(0))) as (last, resting):
        with last:
            _store(builder, limit, shared, _LIMIT)
            _libc(builder, "pthread_mutex_lock", lock)
        with resting:
            busy = _libc(builder, "pthread_mutex_trylock", lock)
            with builder.if_then(builder.icmp_signed("!=", busy, I32(0))):
                builder.ret_void()
    threads = builder.add(_load(builder, shared, _WORKERS), i64(1))
    _publish(builder, shared, i64(0), nothing, threads)
    with _each_worker(builder, i64(1), threads) as worker:
        thread = _load(builder, _slot(builder, shared, worker), _THREAD)
        _libc(builder, "pthread_join", thread, nothing)
    _store(builder, i64(0), shared, _WORKERS)
    _libc(builder, "pthread_mutex_unlock", lock)
    builder.ret_void()


def _build_start(module: ir.Module, shared: Any) -> None:
    """void start(): make a lock of the memory for one."""
    _, builder = llvm.define(module, "start", VOID, internal=False)
    lock = _at(builder, shared, _LOCK)
    _libc(builder, "pthread_mutex_init", lock, ir.Constant(POINTER, None))
    builder.ret_void()


def _build(address: int, threaded: bool) -> ir.Module:
    module = llvm.new_module("threads", llvm.host())
    shared = i64(address).inttoptr(POINTER)
    if threaded:
        _build_barrier(module)
        worker = _build_worker(module, _build_now(module))
        _build_launch(module, shared, _build_grow(module, worker))
        _build_stop(module, shared)
        _build_start(module, shared)
    else:
        _, builder = llvm.define(module, "barrier", VOID, POINTER, I64, internal=False)
        builder.ret_void()
        _build_launch(module, shared, None)
    return module


# Python's side


def has_threads() -> bool:
    """Whether this process has what the pool is made of; without, each job has one thread."""
    if os.name != "posix" or sys.maxsize < 2**32:
        return False
    process = ctypes.CDLL(None)
    return all(hasattr(process, name) for name in _LIBC.split())


class Pool:
    """Native threads, made when first needed, that run jobs together with the calling thread.

    Jobs of different Python threads wait for one another; within a job no other can be launched.

    Args:
        threaded: False for a pool of just the calling thread; default: if the system can.

    Attributes:
        launch: (job, context, threads) -> threads: what `run` calls, without Python around it.
        shared: address of the memory that barriers work on.
        launcher: its address, for native code.
        barrier: address of ``void barrier(ptr shared, i64 threads)``, for code within jobs.

    """

    def __init__(self, threaded: bool | None = None):
        self.threaded = has_threads() if threaded is None else threaded
        self._memory = ctypes.create_string_buffer(_SIZE + 128)
        self.shared = -(-ctypes.addressof(self._memory) // 128) * 128
        self._compiled = llvm.Compiled(_build(self.shared, self.threaded), llvm.host())
        self.barrier = self._compiled.address("barrier")
        # CFUNCTYPE lets go of the GIL during a call.
        kind = ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_int64, ctypes.c_void_p, ctypes.c_int64)
        self.launcher = self._compiled.address("launch")
        self.launch: Callable[[int, int, int], int] = kind(self.launcher)
        if not self.threaded:
            return
        self._start = ctypes.CFUNCTYPE(None)(self._compiled.address("start"))
        self._stop = ctypes.CFUNCTYPE(None, ctypes.c_int64)(self._compiled.address("stop"))
        self._set(_LIMIT, MOST_THREADS)
        self._set(_CORES, default_threads())
        self._start()
        # A daemon thread may be in native code while the interpreter goes: never free any of it.
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(self))
        atexit.register(self.close)
        # Without workers a fork is clean, and Python 3.12 doesn't warn of it.
        os.register_at_fork(before=self._rest, after_in_child=self._forked)

    def run(self, job: int, context: int, threads: int) -> None:
        """Run a native function on several threads at once, and return when all are done.

        Args:
            job: address of a ``void job(ptr context, i64 thread, i64 threads)``.
            context: address of what it works on, which must stay alive.
            threads: at most how many. The job is told how many there are: fewer if the system
                gives no more, or after `close`.

        """
        self.launch(job, context, threads)

    def close(self) -> None:
        """End the workers; jobs then have one thread. Done at exit, before code can go away."""
        if self.threaded:
            self._stop(1)

    @property
    def workers(self) -> int:
        """How many threads there are besides the calling one."""
        return self._get(_WORKERS)

    def _get(self, offset: int) -> int:
        return ctypes.c_int64.from_address(self.shared + offset).value

    def _set(self, offset: int, value: int) -> None:
        ctypes.c_int64.from_address(self.shared + offset).value = value

    def _rest(self) -> None:
        self._stop(0)

    def _forked(self) -> None:
        """In the child there are no workers, and whoever held the lock is not there to let go."""
        limit, cores = self._get(_LIMIT), self._get(_CORES)
        ctypes.memset(self.shared, 0, _SIZE)
        self._set(_LIMIT, limit)
        self._set(_CORES, cores)
        self._start()


_pool: Pool | None = None
_making = threading.Lock()


def pool() -> Pool:
    """The process's pool."""
    global _pool
    if _pool is None:
        with _making:
            if _pool is None:
                _pool = Pool()
    return _pool


def _fresh_lock() -> None:
    """The parent's may be held by a thread that the child does not have."""
    global _making
    _making = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_fresh_lock)


def emit_barrier(
    builder: ir.IRBuilder, threads: Any, barrier: Any = None, shared: Any = None
) -> None:
    """Emit a meeting of all threads of a job.

    Args:
        builder: stands within the job.
        threads: an i64: what the job was called with.
        barrier: pointer to the function, and
        shared: to its memory, say from the job's context. Default: this process's pool's, as
            constants in the code.

    """
    address = i64(pool().barrier) if barrier is None else builder.ptrtoint(barrier, I64)
    if shared is None:
        shared = builder.inttoptr(i64(pool().shared), POINTER)
    # From a number, since a pointer has no function's type to call it by (llvmlite 0.50).
    function = builder.inttoptr(address, BARRIER.as_pointer())
    builder.call(function, [shared, threads])


def emit_launch(builder: ir.IRBuilder, job: Any, context: Any, threads: int) -> None:
    """Emit `Pool.launch` on this process's pool.

    Args:
        builder: stands in code that no job runs.
        job: an i64, a function's address.
        context: a pointer.
        threads: how many.

    """
    launch = builder.inttoptr(i64(pool().launcher), LAUNCH.as_pointer())
    builder.call(launch, [job, context, i64(threads)])


def default_threads() -> int:
    """How many cores this process may use: affinity, hyperthreads and cgroup quota considered."""
    if hasattr(os, "sched_getaffinity"):
        usable = os.sched_getaffinity(0)
    else:
        usable = set(range(os.cpu_count() or 1))
    # Two hyperthreads of a core share its arithmetic.
    cores = set()
    for cpu in usable:
        siblings = Path(f"/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list")
        try:
            cores.add(siblings.read_text())
        except OSError:
            cores.add(str(cpu))
    return max(1, min(len(cores), _quota(), MOST_THREADS))


def _quota() -> int:
    """How many CPUs' time the process's cgroups (version 2) may use."""
    least = MOST_THREADS
    with contextlib.suppress(OSError, ValueError):
        lines = Path("/proc/self/cgroup").read_text().splitlines()
        path = next((line[3:] for line in lines if line.startswith("0::")), "/")
        group = Path("/sys/fs/cgroup") / path.lstrip("/")
        for folder in (group, *group.parents):
            limit = folder / "cpu.max"
            if limit.is_file():
                most, period = limit.read_text().split()
                if most != "max":
                    least = min(least, math.floor(int(most) / int(period)))
    return max(1, least)
