"""The pool of native threads: who runs, what barriers order, sleeping, forking, ending."""

from __future__ import annotations

import ctypes
import faulthandler
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from llvmlite import ir

from groundup.native import llvm, threads
from groundup.native.llvm import I64, POINTER, VOID, i64
from groundup.native.threads import MOST_THREADS, Pool, default_threads, emit_barrier, pool

pytestmark = pytest.mark.skipif(not threads.has_threads(), reason="no pthreads here")
linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks into /proc")


@pytest.fixture(autouse=True)
def no_hang() -> Iterator[None]:
    """Native code that waits for ever cannot be interrupted: end the process, with a traceback."""
    faulthandler.dump_traceback_later(90, exit=True, file=sys.__stderr__)
    yield
    faulthandler.cancel_dump_traceback_later()


def at(builder: ir.IRBuilder, base: ir.Value, index: ir.Value) -> ir.Value:
    return builder.gep(base, [index], source_etype=I64)


class Jobs:
    """Native jobs, compiled for the process's pool; `jobs.mark` is an address."""

    def __init__(self) -> None:
        module = llvm.new_module("jobs", llvm.host())
        self.build_mark(module)
        self.build_phases(module)
        self.build_wait(module)
        self.build_storm(module)
        self.compiled = llvm.Compiled(module, llvm.host())
        self.mark = self.compiled.address("mark")
        self.phases = self.compiled.address("phases")
        self.wait = self.compiled.address("wait")
        self.storm = self.compiled.address("storm")

    @staticmethod
    def build_mark(module: ir.Module) -> None:
        """context[thread] += threads."""
        f, b = llvm.define(module, "mark", VOID, POINTER, I64, I64, internal=False)
        context, thread, count = f.args
        b.atomic_rmw("add", at(b, context, thread), count, "monotonic")
        b.ret_void()

    @staticmethod
    def build_phases(module: ir.Module) -> None:
        """In context[0] rounds each thread writes a number and reads its neighbour's.

        Even and odd rounds write to two places, so one barrier a round must do. Wrong numbers
        are counted in context[1], threads that got to the end in context[2].
        """
        f, b = llvm.define(module, "phases", VOID, POINTER, I64, I64, internal=False)
        context, thread, count = f.args
        other = b.urem(b.add(thread, i64(1)), count)

        def place(turn: ir.Value, who: ir.Value) -> ir.Value:
            row = b.mul(b.and_(turn, i64(1)), i64(MOST_THREADS))
            return at(b, context, b.add(b.add(row, who), i64(8)))

        def number(turn: ir.Value, who: ir.Value) -> ir.Value:
            return b.add(b.mul(turn, i64(1000)), who)

        with llvm.for_range(b, i64(0), b.load(context, typ=I64)) as turn:
            b.store(number(turn, thread), place(turn, thread))
            emit_barrier(b, count)
            found = b.load(place(turn, other), typ=I64)
            wrong = b.icmp_signed("!=", found, number(turn, other))
            b.atomic_rmw("add", at(b, context, i64(1)), b.zext(wrong, I64), "monotonic")
        b.atomic_rmw("add", at(b, context, i64(2)), i64(1), "monotonic")
        b.ret_void()

    @staticmethod
    def build_wait(module: ir.Module) -> None:
        """context[1] += 1, then wait until context[0] isn't 0, but not for ever."""
        f, b = llvm.define(module, "wait", VOID, POINTER, I64, I64, internal=False)
        context, _, _ = f.args
        b.atomic_rmw("add", at(b, context, i64(1)), i64(1), "monotonic")
        done, looks = b.append_basic_block("done"), b.append_basic_block("looks")
        with llvm.for_range(b, i64(0), i64(4_000_000_000)):
            flag = b.load_atomic(context, "acquire", 8, typ=I64)
            b.cbranch(b.icmp_signed("!=", flag, i64(0)), done, looks)
            b.position_at_end(looks)
        b.atomic_rmw("add", at(b, context, i64(2)), i64(1), "monotonic")
        b.branch(done)
        b.position_at_end(done)
        b.ret_void()

    @staticmethod
    def build_storm(module: ir.Module) -> None:
        """Launch context[0] jobs through context[1], the pauses between about as long as workers
        stay awake; each adds 1 to context[2 + thread].
        """
        now = threads._build_now(module)
        one, b = llvm.define(module, "one", VOID, POINTER, I64, I64)
        b.atomic_rmw("add", at(b, one.args[0], b.add(one.args[1], i64(2))), i64(1), "monotonic")
        b.ret_void()
        f, b = llvm.define(module, "storm", VOID, POINTER, I64, I64, internal=False)
        context = f.args[0]
        kind = ir.FunctionType(I64, [I64, POINTER, I64]).as_pointer()
        launch = b.inttoptr(b.load(at(b, context, i64(1)), typ=I64), kind)
        with llvm.for_range(b, i64(0), b.load(context, typ=I64)) as turn:
            b.call(launch, [b.ptrtoint(one, I64), context, i64(2)])
            pause = b.add(b.urem(b.mul(turn, i64(37)), i64(60000)), i64(threads._AWAKE - 1000))
            until = b.add(b.call(now, []), pause)
            body, after = b.append_basic_block("body"), b.append_basic_block("after")
            b.branch(body)
            b.position_at_end(body)
            threads._libc(b, "sched_yield")  # the worker may be on the same core
            b.cbranch(b.icmp_signed("<", b.call(now, []), until), body, after)
            b.position_at_end(after)
        b.ret_void()


_jobs: Jobs | None = None


def jobs() -> Jobs:
    global _jobs
    if _jobs is None:
        _jobs = Jobs()
    return _jobs


def memory(*start: int) -> tuple[ctypes.Array[ctypes.c_int64], int]:
    """Numbers for a job, and their address."""
    numbers = (ctypes.c_int64 * (8 + 2 * MOST_THREADS))(*start)
    return numbers, ctypes.addressof(numbers)


def check_phases(count: int, rounds: int, times: int = 1) -> None:
    """Run `phases` some times."""
    numbers, address = memory(rounds)
    for _ in range(times):
        pool().run(jobs().phases, address, count)
    assert numbers[1] == 0, f"{numbers[1]} times a neighbour's number was not there"
    assert numbers[2] == count * times


def script(code: str, *options: str, timeout: float = 30) -> subprocess.CompletedProcess[str]:
    """Run code in a new interpreter that has this module as `t`; it must end well, and soon."""
    head = f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r})\n"
    head += "import test_native_threads as t\nimport ctypes, os, signal, threading, time\n"
    command = [sys.executable, "-W", "error", *options, "-c", head + code]
    run = subprocess.run(command, capture_output=True, text=True, timeout=timeout)
    assert (run.returncode, run.stderr) == (0, "")
    return run


# Jobs


@pytest.mark.parametrize("count", [1, 2, 3, 8])
def test_every_thread_runs_once_with_its_index(count):
    numbers, address = memory()
    for turn in range(1, 51):
        pool().run(jobs().mark, address, count)
        assert list(numbers[: count + 1]) == [count * turn] * count + [0]


def test_fewer_threads_than_workers_and_more_again():
    p = pool()
    expected = [0] * 9
    numbers, address = memory()
    for count in [8, 2, 3, 8, 1, 2, 8, 5] * 20:
        assert p.launch(jobs().mark, address, count) == count
        expected = [e + (count if i < count else 0) for i, e in enumerate(expected)]
        assert list(numbers[:9]) == expected
    assert p.workers >= 7


def test_no_threads_is_one():
    numbers, address = memory()
    assert [pool().launch(jobs().mark, address, n) for n in (0, -3)] == [1, 1]
    assert list(numbers[:2]) == [2, 0]


def test_there_is_a_most():
    numbers, address = memory()
    p = Pool()
    assert p.launch(jobs().mark, address, 10**6) == MOST_THREADS
    assert list(numbers[: MOST_THREADS + 1]) == [MOST_THREADS] * MOST_THREADS + [0]
    p.close()


def test_python_functions_are_jobs_too():
    seen = []
    kind = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64)
    job = kind(lambda *args: seen.append(args))
    pool().run(ctypes.cast(job, ctypes.c_void_p).value, 77, 3)
    assert sorted(seen) == [(77, 0, 3), (77, 1, 3), (77, 2, 3)]


# Barriers


@pytest.mark.parametrize(("count", "rounds"), [(1, 3000), (2, 50000), (3, 10000), (8, 2000)])
def test_barriers_order_phases(count, rounds):
    check_phases(count, rounds)


@pytest.mark.parametrize("count", [2, 3, 8])
def test_thousands_of_short_jobs(count):
    check_phases(count, rounds=3, times=3000)


def test_barriers_of_jobs_of_different_sizes():
    for count in [2, 3, 8, 2, 1, 5] * 50:
        check_phases(count, rounds=5)


def test_a_barrier_through_pointers():
    # For code that does not have this process's addresses in it.
    module = llvm.new_module("meet", llvm.host())
    f, b = llvm.define(module, "meet", VOID, POINTER, I64, I64, internal=False)
    context, thread, count = f.args
    b.atomic_rmw("add", at(b, context, i64(2)), i64(1), "monotonic")
    barrier, shared = (b.load(at(b, context, i64(i)), typ=POINTER) for i in (0, 1))
    emit_barrier(b, count, barrier, shared)
    met = b.load_atomic(at(b, context, i64(2)), "monotonic", 8, typ=I64)
    b.store(met, at(b, context, b.add(thread, i64(3))))
    b.ret_void()
    compiled = llvm.Compiled(module, llvm.host())
    for count in (1, 2, 3, 8):
        numbers, address = memory(pool().barrier, pool().shared)
        pool().run(compiled.address("meet"), address, count)
        assert list(numbers[2 : 4 + count]) == [count] * (count + 1) + [0]


# Sleep


def test_jobs_after_sleep():
    for pause in [0.001, 0.02, 0.1]:
        time.sleep(pause)
        check_phases(3, rounds=10)


@pytest.mark.parametrize("slow", ["nobody", "worker", "caller"])
def test_no_wake_up_is_lost(slow, monkeypatch):
    # Jobs that come about when the worker goes to sleep; a moment decides, so natively. With one
    # side slowed down at the decisive places, a wrong order of steps loses one soon.
    place = {"worker": threads._ASLEEP, "caller": threads._CALL}.get(slow)
    if place is not None:
        libc, store = threads._libc, threads._store

        def dawdle(builder):
            with llvm.for_range(builder, i64(0), i64(20)):
                with llvm.for_range(builder, i64(0), i64(50)):
                    threads._pause(builder)
                libc(builder, "sched_yield")  # the other may be behind us, on the same core

        def slow_libc(builder, name, *args):
            if name == "pthread_cond_wait" and slow == "worker":
                dawdle(builder)
            return libc(builder, name, *args)

        def slow_store(builder, value, base, offset, order="monotonic"):
            if (offset, order) == (place, "seq_cst"):
                dawdle(builder)
            store(builder, value, base, offset, order)
            if (offset, order) == (place, "seq_cst"):
                dawdle(builder)

        monkeypatch.setattr(threads, "_libc", slow_libc)
        monkeypatch.setattr(threads, "_store", slow_store)
    p = Pool()
    numbers, address = memory(6000, ctypes.cast(p.launch, ctypes.c_void_p).value)
    p.run(jobs().storm, address, 1)
    assert list(numbers[2:5]) == [6000, 6000, 0]
    p.close()


def test_idle_workers_use_no_time():
    check_phases(4, rounds=1)
    time.sleep(0.01)
    start = time.process_time()
    time.sleep(0.3)
    assert time.process_time() - start < 0.05


# Python's threads


def test_two_threads_launch_at_once():
    failures = []

    def go(count):
        try:
            check_phases(count, rounds=20, times=500)
        except AssertionError as error:
            failures.append(error)

    both = [threading.Thread(target=go, args=(count,)) for count in (2, 3, 1)]
    for thread in both:
        thread.start()
    for thread in both:
        thread.join()
    assert not failures


@pytest.mark.parametrize("count", [1, 2])
def test_a_job_lets_go_of_the_gil(count):
    numbers, address = memory()

    def free():
        while numbers[1] < count:
            time.sleep(0.001)
        numbers[0] = 1

    other = threading.Thread(target=free)
    other.start()
    pool().run(jobs().wait, address, count)
    other.join()
    assert list(numbers[:3]) == [1, count, 0]


def test_one_pool_for_all_threads():
    code = """
found = []
gate = threading.Barrier(4)
def get():
    gate.wait()
    found.append(t.pool())
ts = [threading.Thread(target=get) for _ in range(4)]
[x.start() for x in ts]; [x.join() for x in ts]
assert len(found) == 4 and len(set(found)) == 1
"""
    script(code)


@linux
def test_workers_leave_signals_to_python_but_not_faults():
    tasks = Path("/proc/self/task")
    before = {task.name for task in tasks.iterdir()}
    own = signal.pthread_sigmask(signal.SIG_BLOCK, [])
    p = Pool()
    numbers, address = memory()
    p.run(jobs().mark, address, 3)
    assert list(numbers[:3]) == [3, 3, 3]
    new = [task for task in tasks.iterdir() if task.name not in before]
    assert len(new) == 2
    for task in new:
        lines = (task / "status").read_text().splitlines()
        mask = int(next(line.split()[1] for line in lines if line.startswith("SigBlk")), 16)
        assert mask >> (signal.SIGINT - 1) & 1
        assert mask >> (signal.SIGALRM - 1) & 1
        assert not mask >> (signal.SIGSEGV - 1) & 1
    assert signal.pthread_sigmask(signal.SIG_BLOCK, []) == own
    p.close()
    assert {task.name for task in tasks.iterdir()} <= before


# Ends


def test_closed_it_has_one_thread():
    p = Pool()
    numbers, address = memory()
    assert p.launch(jobs().mark, address, 3) == 3
    p.close()
    assert p.workers == 0
    assert p.launch(jobs().mark, address, 3) == 1
    assert list(numbers[:3]) == [4, 3, 3]
    p.close()


def test_without_pthreads_it_has_one_thread():
    p = Pool(threaded=False)
    numbers, address = memory()
    assert p.launch(jobs().mark, address, 3) == 1
    p.run(jobs().mark, address, 2)
    ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64)(p.barrier)(p.shared, 1)
    p.close()
    assert list(numbers[:2]) == [2, 0]
    assert p.workers == 0


@pytest.mark.parametrize("state", ["unused", "spinning", "asleep", "at exit", "daemon"])
def test_exit_is_clean(state):
    codes = {
        "unused": "t.pool()",
        "spinning": "t.check_phases(4, 1)",
        "asleep": "t.check_phases(4, 1); time.sleep(0.02)",
        # Registered first, called last: after the pool's own.
        "at exit": """
import atexit
numbers, address = t.memory()
atexit.register(lambda: print(t.pool().launch(t.jobs().mark, address, 4)))
t.check_phases(4, 1)
""",
        "daemon": """
def go():
    numbers, address = t.memory(10)
    while True:
        t.pool().run(t.jobs().phases, address, 3)
t.check_phases(3, 1)
threading.Thread(target=go, daemon=True).start()
time.sleep(0.05)
""",
    }
    run = script(codes[state] + "\nprint(time.time())")
    lines = run.stdout.split()
    assert time.time() - float(lines[0]) < 5
    assert lines[1:] == (["1"] if state == "at exit" else [])


@linux
def test_fewer_threads_if_the_system_gives_no_more():
    code = """
import resource
with open("/proc/self/statm") as file:
    size = int(file.read().split()[0]) * resource.getpagesize()
numbers, address = t.memory()
job = t.jobs().mark
resource.setrlimit(resource.RLIMIT_STACK, (32 << 20, 32 << 20))
resource.setrlimit(resource.RLIMIT_AS, (size + (100 << 20),) * 2)
got = t.pool().launch(job, address, 64)
assert 1 <= got < 64, got
assert list(numbers[:65]) == [got] * got + [0] * (65 - got)
"""
    script(code)


# Fork


FORK = """
def in_child(work):
    child = os.fork()
    if not child:
        signal.alarm(20)
        try:
            work()
        except BaseException as error:
            os.write(2, repr(error).encode())
            os._exit(1)
        os._exit(0)
    return child
def good(child):
    status = os.waitpid(child, 0)[1]
    assert status == 0, status
"""


@pytest.mark.parametrize("start", ["unused", "spinning", "asleep"])
def test_a_forked_process_has_its_own_workers(start):
    first = {
        "unused": "t.pool()",
        "spinning": "t.check_phases(3, 10)",
        "asleep": "t.check_phases(3, 10); time.sleep(0.02)",
    }[start]
    code = f"""
{FORK}
t.jobs()
{first}
children = [in_child(lambda: t.check_phases(3, 50, 20)) for _ in range(2)]
assert t.pool().workers == 0
t.check_phases(3, 50, 20)
[good(child) for child in children]
assert t.pool().workers == 2
good(in_child(lambda: good(in_child(lambda: t.check_phases(3, 50, 20)))))
"""
    script(code)


def test_fork_while_another_thread_runs_a_job():
    code = f"""
{FORK}
numbers, address = t.memory()
job = t.jobs().wait
t.check_phases(3, 1)
other = threading.Thread(target=t.pool().run, args=(job, address, 2))
other.start()
while numbers[1] < 2:
    time.sleep(0.001)
child = in_child(lambda: t.check_phases(3, 20, 10))
good(child)
numbers[0] = 1
other.join()
t.check_phases(3, 1)
assert numbers[2] == 0
"""
    script(code, "-W", "ignore::DeprecationWarning")  # for the threads, from Python 3.12 on


def test_a_forked_process_exits_cleanly():
    code = """
t.check_phases(3, 1)
child = os.fork()
t.check_phases(3, 1)
if child:
    status = os.waitpid(child, 0)[1]
    assert status == 0, status
"""
    script(code)


# Neighbours


def test_two_processes_side_by_side():
    code = f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r})\n"
    code += (
        "import test_native_threads as t; t.check_phases(2, 5000, 4); t.check_phases(2, 1, 2000)"
    )
    both = [subprocess.Popen([sys.executable, "-c", code]) for _ in range(2)]
    start = time.monotonic()
    try:
        assert [process.wait(timeout=30) for process in both] == [0, 0]
    finally:
        for process in both:
            process.kill()
    assert time.monotonic() - start < 30


def test_default_threads():
    assert 1 <= default_threads() <= (os.cpu_count() or 1)


@linux
def test_default_threads_heeds_affinity():
    one = min(os.sched_getaffinity(0))
    script(f"os.sched_setaffinity(0, [{one}]); assert t.default_threads() == 1")
