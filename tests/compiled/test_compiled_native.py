"""gu.compile with its native engine: results, and all that is around a single call."""

from __future__ import annotations

import re
import sys
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from small_steps import CLASSES, FEATURES, Centre, Made, all_near, bits, make, near, rows

import groundup as gu
from groundup import Tensor, nn, optim
from groundup.compiled.compare import wrong_equation
from groundup.errors import (
    DtypeError,
    GradientError,
    GroundupError,
    LabelError,
    NonFiniteError,
    ProgramError,
)
from groundup.native import elementwise
from groundup.nn import Parameter

LARGE = (256, 64, 128, CLASSES)  # rows and sizes of a step for which two threads are taken


def large(dtype: Any = np.float32) -> Made:
    return make(optim.SGD, 0.1, momentum=0.9, sizes=LARGE[1:], dtype=dtype)


def threads_of(compiled: Any) -> int:
    return int(compiled._native_engine().plan.threads)


def called(compiled: Any, *args: Any, times: int = 3) -> Any:
    """Call it: the third time, nothing but the engine runs."""
    for _ in range(times):
        result = compiled(*args)
    return result


# Results


def test_parameters_are_read_before_they_are_written() -> None:
    """The product reads a where the loops before it have its new value ready."""
    a = Parameter(np.arange(15, dtype=np.float32).reshape(3, 5))
    b = Parameter(np.ones((3, 2), np.float32))
    c = Tensor(np.arange(10, dtype=np.float32).reshape(5, 2))

    def step(x: Tensor) -> Tensor:
        twice, product = a * 2.0, a @ c
        a.assign(twice)
        b.assign(product)
        return x.mean()

    compiled, x = gu.compile(step), np.ones(4, np.float32)
    for _ in range(4):
        wanted = a.data * 2, a.data @ c.data
        compiled(x)
        assert np.array_equal(a.data, wanted[0])
        assert np.array_equal(b.data, wanted[1])
    assert compiled.fallback == ""


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("opt", [optim.SGD, optim.Adam])
def test_several_steps_are_numpys_but_for_rounding(opt: Any, dtype: Any) -> None:
    native, wanted = make(opt, dtype=dtype), make(opt, dtype=dtype)
    fast, slow = gu.compile(native.step), gu.compile(wanted.step, engine="numpy")
    for seed in range(8):
        loss, other = (f(*rows(17, seed, dtype)) for f in (fast, slow))
        assert near(loss.data, other.data)
    assert all_near(native, wanted)
    assert fast.fallback == ""
    assert fast.recordings == 2


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("threads", [1, 2])
def test_threads_change_rounding_and_timing_changes_nothing(threads: int, dtype: Any) -> None:
    runs, wanted = [large(dtype), large(dtype)], large(dtype)
    batches = [rows(LARGE[0], seed, dtype, LARGE[1]) for seed in range(5)]
    for run in runs:
        compiled = gu.compile(run.step, threads=threads)
        for batch in batches:
            compiled(*batch)
        assert threads_of(compiled) == threads
    for batch in batches:
        wanted.step(*map(Tensor, batch))
    assert runs[0].state() == runs[1].state()
    assert all_near(runs[0], wanted)


def test_a_small_step_has_one_thread_however_many_it_may_have() -> None:
    compiled = gu.compile(make().step, threads=2)
    compiled(*rows(16))
    assert threads_of(compiled) == 1


def test_rounding_that_is_amplified_is_not_refused() -> None:
    """Adam divides a gradient by its size: of one that is rounding alone only the sign counts."""
    native, wanted = make(before=(Centre(),)), make(before=(Centre(),))
    fast, slow = gu.compile(native.step), gu.compile(wanted.step, engine="numpy")
    for seed in range(4):
        assert near(fast(*rows(16, seed)).data, slow(*rows(16, seed)).data)
    assert not near(native.model[0].b.data, wanted.model[0].b.data)  # or this tests nothing
    assert near(native.model[0].w.data, wanted.model[0].w.data)


# How it is called


def test_sums_of_equal_terms_are_not_refused() -> None:
    """NumPy adds 21,060 equal numbers one after another, and rounds each time the same way."""
    w = Parameter(np.float32([0.7, 0.3]))

    def step(index: Tensor) -> Any:
        taken = w[index]
        loss = (taken * taken.sin()).mean()
        loss.backward()
        return loss, w.g

    compiled, index = gu.compile(step, threads=2), np.zeros((65, 324), np.int64)
    _, gradient = called(compiled, index)
    exact = np.sin(np.float64(w.data[0])) + w.data[0] * np.cos(np.float64(w.data[0]))
    assert abs(gradient.data[0] - exact) < 21_060 / 2 * np.finfo(np.float32).eps * exact
    held = compiled._native_engine().held
    assert wrong_equation(compiled.program, held, [index], 2) == ""


def test_decorators_with_and_without_settings() -> None:
    w = Parameter(np.arange(3, dtype=np.float32))

    @gu.compile
    def plain(x: Tensor) -> Tensor:
        """Doubled."""
        return x * w

    @gu.compile(threads=1, nan="raise")
    def set_up(x: Tensor) -> Tensor:
        return x * w

    x = np.ones((2, 3), np.float32)
    for f in (plain, set_up):
        assert called(f, x).tolist() == [[0, 1, 2], [0, 1, 2]]
    assert (plain.__name__, plain.__doc__) == ("plain", "Doubled.")
    assert (plain.threads, plain.nan, set_up.threads, set_up.nan) == (None, "allow", 1, "raise")
    assert repr(plain) == "<compiled plain, engine native, recorded 2 times>"


def test_methods_and_modules() -> None:
    class Trainer:
        def __init__(self) -> None:
            self.made = make(optim.SGD)

        @gu.compile
        def step(self, x: Tensor, y: Tensor) -> Tensor:
            return self.made.step(x, y)

    ours, wanted = Trainer(), make(optim.SGD)
    for seed in range(4):
        ours.step(*rows(8, seed))
        wanted.step(*map(Tensor, rows(8, seed)))
    assert all_near(ours.made, wanted)
    model = gu.compile(wanted.model)
    assert near(called(model, rows(8)[0]).data, wanted.model(Tensor(rows(8)[0])).data)


@pytest.mark.parametrize("n", [1, 7])
def test_inference(n: int) -> None:
    model = make().model.eval()
    fast, (x, _) = gu.compile(model), rows(n)
    with gu.no_grad():
        out = called(fast, x)
        wanted = model(Tensor(x))
    assert near(out.data, wanted.data)
    assert not out.requires_grad
    assert fast.fallback == ""


def test_arguments_of_other_layouts_and_dtypes() -> None:
    model, loss_of = make().model, nn.CrossEntropy()
    x, y = rows(16)
    wanted = loss_of(model(Tensor(x)), Tensor(y)).data
    compiled = gu.compile(lambda x, y: loss_of(model(x), y))
    wide = np.zeros((16, 2 * FEATURES), np.float32)
    wide[:, ::2] = x
    turned = np.ascontiguousarray(x[::-1])[::-1]
    for form in (x, np.asfortranarray(x), wide[:, ::2], turned, Tensor(x)):
        for label in (y, y.astype(np.int32), np.repeat(y, 2)[::2], Tensor(y)):
            for _ in range(2):
                assert near(compiled(form, label).data, wanted)
            assert compiled.fallback == ""


def test_float64_for_a_float32_model_is_the_eager_steps_error() -> None:
    made, (x, y) = make(), rows(16)
    compiled = gu.compile(made.step)
    called(compiled, x, y)
    before = made.state()
    with pytest.raises(DtypeError, match="the input is float64, the weights are float32"):
        compiled(x.astype(np.float64), y)
    assert made.state() == before
    double = gu.compile(lambda x: (x * 2).sum())
    assert near(called(double, x.astype(np.float64)).data, 2 * x.sum(dtype=np.float64))


def test_lists_and_dicts_of_arguments() -> None:
    made = make(optim.SGD)

    @gu.compile
    def step(batch: list[Any], more: dict[str, Any]) -> Tensor:
        x, y = batch
        return made.step(x, y) * more["times"]

    wanted = make(optim.SGD)
    for seed in range(4):
        times = 1.5 * seed
        loss = step(list(rows(8, seed)), {"times": times})
        assert near(loss.data, times * wanted.step(*map(Tensor, rows(8, seed))).data)
    assert step.recordings == 2
    assert all_near(made, wanted)


def test_another_batch_size_is_another_recording_of_the_same_training() -> None:
    native, wanted = make(), make()
    fast = gu.compile(native.step)
    for seed, n in enumerate([8, 8, 8, 5, 8, 5, 5, 8, 1, 5]):
        fast(*rows(n, seed))
        wanted.step(*map(Tensor, rows(n, seed)))
    assert fast.recordings == 2 + 2 + 1
    assert all_near(native, wanted)


def test_numpy_does_what_is_left_to_it() -> None:
    w = Parameter(np.ones(3, np.float32))
    total = gu.compile(lambda x: (x * w).sum())
    assert called(total, np.ones((4, 3), np.float32)).item() == 12
    assert total.fallback == ""
    assert called(total, np.ones((0, 3), np.float32)).item() == 0
    assert total.fallback == "x has no entries"
    with pytest.raises(GroundupError, match="not as machine code: x has no entries"):
        total.native()


def test_without_llvmlite_numpy_runs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "llvmlite", None)
    monkeypatch.delitem(sys.modules, "groundup.native.engine")
    made, wanted = make(), make()
    compiled = gu.compile(made.step)
    for seed in range(4):
        compiled(*rows(8, seed))
        wanted.step(*map(Tensor, rows(8, seed)))
    assert made.state() == wanted.state()
    assert compiled.fallback.startswith("llvmlite is not there: ")
    with pytest.raises(GroundupError, match="step runs with NumPy, not as machine code: llvmlite"):
        compiled.report()


def test_a_fault_in_the_engine_is_said_and_numpy_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    made, wanted = make(optim.SGD, 0.1), make(optim.SGD, 0.1)
    monkeypatch.setitem(elementwise.FLOAT_ARITHMETIC, "sub", "no_such_builder")
    compiled = gu.compile(made.step)
    with pytest.warns(
        RuntimeWarning, match="step runs with NumPy, as making machine code .* fault"
    ):
        compiled(*rows(8, 0))
    wanted.step(*map(Tensor, rows(8, 0)))
    assert made.state() == wanted.state()
    assert "no_such_builder" in compiled.fallback


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        ({"engine": "torch"}, "there is no engine 'torch'; there is native, numpy"),
        ({"threads": 0}, "threads is at least 1, not 0"),
        ({"threads": -3}, "threads is at least 1, not -3"),
        ({"nan": "x"}, 'nan is "allow" or "raise", not \'x\''),
    ],
)
def test_settings_that_do_not_exist(settings: dict[str, Any], match: str) -> None:
    with pytest.raises(GroundupError, match=match):
        gu.compile(make().step, **settings)
    with pytest.raises(GroundupError, match=match):
        gu.compile(**settings)(make().step)


# Together with eager code


def test_eager_and_compiled_steps_go_on_from_one_another() -> None:
    native, wanted = make(), make()
    fast = gu.compile(native.step)
    for seed in range(12):
        if seed < 3 or seed in (6, 9):  # at first, and in between
            native.step(*map(Tensor, rows(8, seed)))
        else:
            fast(*rows(8, seed))
        wanted.step(*map(Tensor, rows(8, seed)))
    assert all_near(native, wanted)
    assert native.opt.counts.tolist() == wanted.opt.counts.tolist() == [12] * 4
    assert fast.recordings == 2


def test_weights_that_are_set_by_hand_are_seen() -> None:
    native, wanted = make(), make()
    fast = gu.compile(native.step)
    called(fast, *rows(8))
    native.model.load_state_dict(wanted.model.state_dict())
    native.opt.load_state_dict(wanted.opt.state_dict())
    assert native.state() == wanted.state()
    fast(*rows(8, 1))
    wanted.step(*map(Tensor, rows(8, 1)))
    assert all_near(native, wanted)


def test_learning_rates_are_looked_at_before_each_call() -> None:
    native, wanted = make(), make()
    fast = gu.compile(native.step)
    for seed, lr in enumerate([0.01, 0.01, 0.01, 0.1, 0.001, 0.02]):
        native.opt.lr = wanted.opt.lr = lr
        fast(*rows(8, seed))
        wanted.step(*map(Tensor, rows(8, seed)))
    assert fast.recordings == 2
    assert all_near(native, wanted)


@pytest.mark.parametrize("keep", [False, True])
def test_gradients_are_kept_if_wanted(keep: bool) -> None:
    native, wanted = make(optim.SGD), make(optim.SGD)
    fast = gu.compile(native.step, keep_gradients=keep)
    for seed in range(3):
        loss = fast(*rows(8, seed))
        other = wanted.step(*map(Tensor, rows(8, seed)))
        assert near(loss.data, other.data)
    if not keep:
        with pytest.raises(GradientError):
            _ = native.model[0].w.g
        return
    for p, q in zip(native.model.parameters(), wanted.model.parameters(), strict=True):
        assert near(p.g.data, q.g.data)


def test_python_threads_that_call_one_step_take_turns() -> None:
    model = make().model
    fast = gu.compile(model)
    inputs = [rows(16, seed)[0] for seed in range(2)]
    called(fast, inputs[0])
    wanted = [bits(fast(x)) for x in inputs]
    assert [bits(fast(x)) for x in inputs] == wanted
    assert wanted[0] != wanted[1]
    wrong = in_threads([lambda i=i: bits(fast(inputs[i])) != wanted[i] for i in range(2)])
    assert wrong == [0, 0]


@pytest.mark.parametrize(
    ("made", "batch", "calls", "lets_go"),
    [(make, rows(8), 1000, range(6)), (large, rows(20_000, features=LARGE[1]), 4, range(3, 5))],
)
def test_a_short_step_keeps_the_gil_and_a_long_one_lets_go(
    made: Any, batch: Any, calls: int, lets_go: range
) -> None:
    fast = gu.compile(made().step, threads=1)
    called(fast, *batch)
    counted, over = [0], threading.Event()

    def count() -> None:
        while not over.is_set():
            counted[0] += 1

    other = threading.Thread(target=count)
    before = sys.getswitchinterval()
    other.start()
    sys.setswitchinterval(0.05)  # who takes the GIL meanwhile has it for so long
    try:
        went_on = 0
        for _ in range(calls):
            start = counted[0]
            fast(*batch)
            went_on += counted[0] > start
    finally:
        over.set()
        sys.setswitchinterval(before)
        other.join()
    assert went_on in lets_go  # the calling thread's own 0.05 s may end within a call, too


def test_python_threads_may_run_a_step_each() -> None:
    """Each uses all of the native threads, one job after another."""
    steps, alone = [large(), large()], large()
    compiled = [gu.compile(s.step, threads=2) for s in steps]
    batch = rows(LARGE[0], features=LARGE[1])
    in_threads([lambda f=f: bool(f(*batch).requires_grad) and False for f in compiled], times=30)
    one = gu.compile(alone.step, threads=2)
    for _ in range(30):
        one(*batch)
    assert threads_of(one) == 2
    assert steps[0].state() == steps[1].state() == alone.state()


def in_threads(work: list[Callable[[], bool]], times: int = 200) -> list[int]:
    """Do each again and again in a Python thread of its own: how often it was true."""
    found: list[Any] = [None] * len(work)

    def run(i: int) -> None:
        found[i] = sum(work[i]() for _ in range(times))

    threads = [threading.Thread(target=run, args=(i,)) for i in range(len(work))]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    return found


# Results


def test_results_of_all_kinds() -> None:
    w, scale = Parameter(np.float32([[1, 2], [3, 4], [5, 6]])), Parameter(np.float32(2.0))
    opt = optim.SGD([w], 0.5)

    def step(x: Tensor) -> Any:
        out = x @ w * scale
        loss = (out * out).mean()
        loss.backward()
        grad = w.g.T
        opt.step()
        return {
            "tuple": (loss, [out, out.reshape(-1)]),
            "views": (grad, out[1:, 0], out.T),
            "itself": w,
            "int": out.argmax(1),
            "bool": out > 0,
            "untouched": scale,
        }

    x = np.random.default_rng(0).standard_normal((5, 3)).astype(np.float32)
    eager = step(Tensor(x))
    wanted = {name: copied(part) for name, part in eager.items()}
    w.assign(np.float32([[1, 2], [3, 4], [5, 6]]))
    compiled = gu.compile(step)
    for _ in range(3):
        found = compiled(x)
        assert found["itself"] is w
        assert found["untouched"] is scale
        for name, part in found.items():
            pairs = zip(leaves(copied(part)), leaves(wanted[name]), strict=True)
            assert all(near(a, b) for a, b in pairs), name
        assert type(found["tuple"]) is tuple
        assert type(found["tuple"][1]) is list
        w.assign(np.float32([[1, 2], [3, 4], [5, 6]]))
    assert compiled.fallback == ""
    assert (found["int"].dtype, found["bool"].dtype) == (np.int64, np.bool_)


def copied(part: Any) -> Any:
    if isinstance(part, tuple | list):
        return type(part)(map(copied, part))
    return part.data.copy()


def leaves(part: Any) -> list[Any]:
    return [x for p in part for x in leaves(p)] if isinstance(part, tuple | list) else [part]


@pytest.mark.parametrize("n", [4, 3000])  # numbers that are copied; 6 MB that may serve again
@pytest.mark.parametrize("held", [lambda t: t, lambda t: t.data, lambda t: t.data[1:3]])
def test_results_stay_as_they_were(n: int, held: Callable[[Tensor], Any]) -> None:
    w = Parameter(np.ones((2, 512), np.float32))
    compiled = gu.compile(lambda x: x @ w, threads=1)
    for _ in range(2):
        compiled(np.zeros((n, 2), np.float32))
    kept = [held(compiled(np.full((n, 2), i, np.float32))) for i in range(5)]
    for i, result in enumerate(kept):
        assert np.all(np.asarray(getattr(result, "data", result)) == 2 * i)


def test_results_may_be_written_to() -> None:
    compiled = gu.compile(lambda x: (x.sum(), x * 2))
    x = np.ones((3000, 512), np.float32)
    for _ in range(4):
        total, doubled = compiled(x)
        assert total.item() == x.size
        assert np.all(doubled.data == 2)
        total.data[...] = doubled.data[...] = -1


# What goes wrong leaves all as it was


@pytest.mark.parametrize("engine", ["native", "numpy"])
@pytest.mark.parametrize("at", [0, 1, 2, 4])
def test_a_bad_label_changes_nothing(at: int, engine: str) -> None:
    made = make(before=(nn.Dropout(0.3, generator=gu.Generator(5)),))
    compiled = gu.compile(made.step, engine=engine)
    for seed in range(at):
        compiled(*rows(8, seed))
    before = made.state()
    x, y = rows(8, 9)
    y[5] = CLASSES + 1
    with pytest.raises(LabelError, match=rf"label {CLASSES + 1} at index 5 is outside 0..2"):
        compiled(x, y)
    assert made.state() == before
    twin = make(before=(nn.Dropout(0.3, generator=gu.Generator(5)),))
    other = gu.compile(twin.step, engine=engine)
    for seed in range(at + 2):
        other(*rows(8, seed))
    for seed in range(at, at + 2):
        compiled(*rows(8, seed))
    assert made.state() == twin.state()


@pytest.mark.parametrize("engine", ["native", "numpy"])
def test_the_first_nan_is_named(engine: str) -> None:
    made = make()
    compiled = gu.compile(made.step, engine=engine, nan="raise")
    x, y = rows(8)
    called(compiled, x, y)
    assert compiled.fallback == ""
    before = made.state()
    bad = x.copy()
    bad[3, 2] = np.nan
    with pytest.raises(NonFiniteError, match="the argument x"):
        compiled(bad, y)
    assert made.state() == before
    made.model[2].w.data[1, 1] = np.inf
    with pytest.raises(NonFiniteError, match=r"the parameter layers\.2\.w"):
        compiled(x, y)
    made.model[2].w.data[1, 1] = 0
    made.model[0].w.data[...] = 3e38
    before = made.state()
    with pytest.raises(NonFiniteError, match=r"= matmul\(x, w1\) of layers\[0\] Linear, forward"):
        compiled(x, y)
    assert made.state() == before


def test_nan_is_allowed_unless_it_is_not() -> None:
    native, wanted = make(optim.SGD), make(optim.SGD)
    fast, slow = gu.compile(native.step), gu.compile(wanted.step, engine="numpy")
    called(fast, *rows(8))
    called(slow, *rows(8))
    x, y = rows(8)
    x[3, 2] = np.nan
    assert np.isnan(fast(x, y).item())
    assert np.isnan(slow(x, y).item())
    for a, b in zip(native.arrays().values(), wanted.arrays().values(), strict=True):
        assert np.array_equal(np.isnan(a), np.isnan(b))


@pytest.mark.parametrize(
    ("op", "instead", "match"),
    [
        (
            "sub",
            "fadd",
            r"wrong in \w+ = sub\(\w+, \w+\), of layers\[1\] Centre \(forward\): at",
        ),
        ("add", "fsub", r"wrong in \w+ = add\(\w+, b1\), of layers\[0\] Linear \(forward\): at"),
    ],
)
def test_a_wrong_engine_is_found_and_the_equation_named(
    op: str, instead: str, match: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(elementwise.FLOAT_ARITHMETIC, op, instead)
    made = make(before=(Centre(),))
    made.model[0].b.data[...] = np.linspace(1, 2, 8)
    before = made.state()
    compiled = gu.compile(made.step)
    with pytest.raises(ProgramError, match=match) as caught:
        compiled(*rows(8))
    assert "The step was not run" in str(caught.value)
    assert made.state() == before
    monkeypatch.undo()
    compiled(*rows(8))
    assert made.state() != before


# What the engine shows of itself


def test_the_report_and_the_listing() -> None:
    """x (9, 20) @ w1 (20, 8), then h (9, 8) @ w2 (8, 5): dw1, dw2 and dh are products, too."""
    made = make(sizes=(20, 8, 5))
    compiled = gu.compile(made.step, threads=1)
    called(compiled, *rows(9, features=20))
    before = made.state()
    report = compiled.report()
    assert made.state() == before
    assert report.flops == 2 * 9 * (2 * 20 * 8 + 3 * 8 * 5)
    assert sum(kernel.flops for kernel in report.kernels) == report.flops
    assert report.threads == 1
    assert 0 < report.seconds < 1
    assert 0 < report.share < 1
    assert re.match(r"\s*[\d.]+ us a step on 1 thread\(s\): \d+ GFLOP/s, \d+% of the", str(report))
    assert len(str(report).splitlines()) >= len(report.kernels)
    text = compiled.native()
    assert text.startswith("step: 1 thread, vectors of")
    assert "the batch's 9 rows go through in tiles of" in text
    for part in (
        "layers[0] Linear, forward",
        "layers[2] Linear, backward",
        "CrossEntropy",
        "x @ w",
    ):
        assert part in text


def test_numpy_has_no_machine_code_to_show() -> None:
    compiled = gu.compile(make().step, engine="numpy")
    for ask in (compiled.native, compiled.report):
        with pytest.raises(GroundupError, match="step has not been called yet"):
            ask()
    compiled(*rows(8))
    for ask in (compiled.native, compiled.report):
        with pytest.raises(GroundupError, match="not as machine code: engine is 'numpy'"):
            ask()
