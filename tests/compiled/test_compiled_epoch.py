"""step.epoch: the same bits as a loop over minibatches, and what can be seen of it meanwhile."""

from __future__ import annotations

import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
from small_steps import CLASSES, Made, bits, make, rows

import groundup as gu
from groundup import Tensor, data, nn, optim
from groundup.errors import DataError, GroundupError, LabelError, NonFiniteError, ShapeError

ROWS, SIZE = 90, 16  # 5 whole batches and one of 10 rows


def momentum(**options: Any) -> Made:
    return make(optim.SGD, 0.1, momentum=0.9, **options)


def dropping() -> Made:
    return make(before=(nn.Dropout(0.3, generator=gu.Generator(5)),))


def by_hand(made: Made, step: Any, x: Any, y: Any, epochs: int, lr: Any, **options: Any) -> Any:
    """The loop that `epoch` stands for: the losses of all steps."""
    losses, batches = [], data.batches(x, y, **options)
    for _ in range(epochs):
        for n, (xb, yb) in enumerate(batches):
            if lr is not None:
                made.opt.lr = lr(n) if callable(lr) else lr
            losses.append(step(xb, yb).data)
    return np.stack(losses)


CASES: dict[str, tuple[Callable[[], Made], dict[str, Any]]] = {
    "momentum, in order": (momentum, {}),
    "adam, shuffled": (make, {"shuffle": True, "seed": 4}),
    "dropout": (dropping, {"shuffle": True}),
    "without the last": (make, {"shuffle": True, "drop_last": True}),
    "one batch": (make, {"size": 1000}),
    "a batch a row": (momentum, {"size": 1}),
    "a rate": (momentum, {"lr": 0.3}),
    "a rate for each batch": (make, {"lr": lambda n: 0.1 / (n + 1)}),
}


@pytest.mark.parametrize("engine", ["native", "numpy"])
@pytest.mark.parametrize("name", CASES)
def test_an_epoch_is_the_loop_bit_for_bit(name: str, engine: str) -> None:
    build, options = CASES[name]
    size, lr = options.get("size", SIZE), options.get("lr")
    others = {k: v for k, v in options.items() if k not in ("size", "lr")}
    ours, theirs = build(), build()
    x, y = rows(ROWS)
    fast, slow = (gu.compile(m.step, engine=engine) for m in (ours, theirs))
    found = [
        fast.epoch(x, y, batch_size=size, epoch=e, lr=lr, **others).data for e in range(3)
    ]  # fmt: skip
    wanted = by_hand(theirs, slow, x, y, 3, lr, size=size, **others)
    assert np.concatenate(found).tobytes() == wanted.tobytes()
    assert ours.state() == theirs.state()
    assert fast.recordings == slow.recordings
    assert fast.progress.done == fast.progress.batches == len(wanted) // 3
    if engine == "numpy":
        eager = build()
        by_hand(eager, lambda *b: eager.step(*map(Tensor, b)), x, y, 3, lr, size=size, **others)
        assert ours.state() == eager.state()


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize(("features", "size"), [(64, 256), (512, 64)])  # rows or features shared
def test_several_threads_give_the_bits_of_as_many_in_a_loop(
    threads: int, features: int, size: int
) -> None:
    ours, theirs = (momentum(sizes=(features, 128, CLASSES)) for _ in range(2))
    x, y = rows(1100, features=features)
    fast, slow = (gu.compile(m.step, threads=threads) for m in (ours, theirs))
    found = fast.epoch(x, y, batch_size=size, shuffle=True)
    wanted = by_hand(theirs, slow, x, y, 1, None, size=size, shuffle=True)
    assert fast._entries[next(iter(fast._entries))][0].runner.threads == threads
    assert found.data.tobytes() == wanted.tobytes()
    assert ours.state() == theirs.state()


def test_epochs_and_steps_go_on_from_one_another() -> None:
    ours, theirs = make(), make()
    x, y = rows(ROWS)
    fast, slow = gu.compile(ours.step), gu.compile(theirs.step)
    for e in range(3):
        fast.epoch(x, y, batch_size=SIZE, epoch=e, shuffle=True)
        fast(x[:SIZE], y[:SIZE])
    batches = data.batches(x, y, SIZE, shuffle=True)
    for _ in range(3):
        for batch in batches:
            slow(*batch)
        slow(x[:SIZE], y[:SIZE])
    assert ours.state() == theirs.state()


def test_other_data_and_other_layouts_give_the_same_rows() -> None:
    ours, theirs = make(), make()
    fast, slow = gu.compile(ours.step), gu.compile(theirs.step)
    spread = lambda a: np.repeat(a, 2, 0)[::2]
    for n, kind in ((ROWS, np.asfortranarray), (50, Tensor), (ROWS, spread)):
        x, y = rows(n, n)
        found = fast.epoch(kind(x), kind(y), batch_size=SIZE)
        assert found.data.tobytes() == by_hand(theirs, slow, x, y, 1, None, size=SIZE).tobytes()
    assert ours.state() == theirs.state()


def test_rows_may_be_named() -> None:
    ours, theirs = make(), make()
    fast, slow = gu.compile(ours.step), gu.compile(theirs.step)
    (x, y), order = rows(ROWS), np.random.default_rng(0).integers(0, ROWS, 100)
    found = fast.over([x, y], order, SIZE)
    wanted = by_hand(theirs, slow, x[order], y[order], 1, None, size=SIZE)
    assert found.data.tobytes() == wanted.tobytes()
    assert ours.state() == theirs.state()


def test_what_steps_return_is_stacked_in_its_structure() -> None:
    made, scale = make(), nn.Parameter(np.float32(2.0))

    @gu.compile
    def step(x: Tensor, y: Tensor) -> Any:
        loss = made.step(x, y)
        right = made.model(x).argmax(1) == y
        return {"loss": loss, "more": (right.sum(), [right.float().mean(), scale])}

    x, y = rows(ROWS)
    found = [step.epoch(x, y, batch_size=SIZE) for _ in range(2)][1]
    assert found["loss"].shape == (6,)
    right, (share, same) = found["more"]
    assert (right.dtype, share.dtype) == (np.int64, np.float32)
    assert np.array_equal(np.float32(right.data / np.float32([16] * 5 + [10])), share.data)
    assert same.tolist() == [2.0] * 6


@pytest.mark.parametrize("engine", ["native", "numpy"])
def test_a_parameter_that_is_returned_is_as_each_step_left_it(engine: str) -> None:
    def build() -> Any:
        scale = nn.Parameter(np.float32(2.0))
        opt = optim.SGD([scale], 0.05)

        def step(x: Tensor) -> Any:
            loss = (x * scale - 1).square().mean()
            loss.backward()
            opt.step()
            return loss, scale

        return gu.compile(step, engine=engine)

    (x, _), fast, slow = rows(ROWS), build(), build()
    _, found = fast.epoch(x, batch_size=SIZE)
    wanted = [slow(x[i : i + SIZE])[1].item() for i in range(0, ROWS, SIZE)]
    assert found.tolist() == wanted


def test_gradients_may_be_kept() -> None:
    ours, theirs = make(), make()
    fast, slow = (gu.compile(m.step, keep_gradients=True) for m in (ours, theirs))
    x, y = rows(64)
    found = fast.epoch(x, y, batch_size=SIZE)
    assert found.data.tobytes() == by_hand(theirs, slow, x, y, 1, None, size=SIZE).tobytes()
    for p, q in zip(ours.model.parameters(), theirs.model.parameters(), strict=True):
        assert bits(p.g) == bits(q.g)


# What goes wrong


@pytest.mark.parametrize("engine", ["native", "numpy"])
@pytest.mark.parametrize("at", [0, 1, 4])
def test_a_bad_label_ends_it_after_the_batches_before(at: int, engine: str) -> None:
    ours, theirs = dropping(), dropping()
    fast, slow = (gu.compile(m.step, engine=engine) for m in (ours, theirs))
    x, y = rows(ROWS)
    y[at * SIZE + 3] = CLASSES
    with pytest.raises(LabelError) as of_the_loop:
        by_hand(theirs, slow, x, y, 1, None, size=SIZE)
    with pytest.raises(LabelError, match=f"label {CLASSES} at index 3 is outside 0..2") as caught:
        fast.epoch(x, y, batch_size=SIZE)
    assert str(caught.value) == str(of_the_loop.value)
    assert fast.progress.done == at
    assert ours.state() == theirs.state()
    y[at * SIZE + 3] = 0
    fast.epoch(x, y, batch_size=SIZE)  # it goes on
    by_hand(theirs, slow, x, y, 1, None, size=SIZE)
    assert ours.state() == theirs.state()


@pytest.mark.parametrize("learns", [False, True])
@pytest.mark.parametrize("threads", [1, 2, 5])
def test_threads_end_it_together_at_a_bad_label(learns: bool, threads: int) -> None:
    """With and without an update, before which threads meet; in any batch, in any one's part."""
    made = make(optim.SGD, 0.1, sizes=(64, 128, CLASSES))
    loss_of, done = nn.CrossEntropy(), []
    step = gu.compile(
        made.step if learns else lambda x, y: loss_of(made.model(x), y), threads=threads
    )
    x, y = rows(12 * 128, features=64)
    step.epoch(x, y, batch_size=128)
    assert step._native_engine().threads == threads
    for batch in range(12):
        bad = y.copy()
        bad[128 * batch + 11 * batch] = CLASSES
        with pytest.raises(LabelError, match=f"label {CLASSES} at index {11 * batch}"):
            step.epoch(x, bad, batch_size=128)
        done.append(step.progress.done)
    assert done == list(range(12))


@pytest.mark.parametrize("engine", ["native", "numpy"])
def test_a_nan_ends_it_before_its_batch_if_wanted(engine: str) -> None:
    ours, theirs = make(), make()
    fast, slow = (gu.compile(m.step, engine=engine, nan="raise") for m in (ours, theirs))
    x, y = rows(ROWS)
    x[3 * SIZE, 1] = np.nan
    with pytest.raises(NonFiniteError, match="the argument x"):
        fast.epoch(x, y, batch_size=SIZE)
    with pytest.raises(NonFiniteError, match="the argument x"):
        by_hand(theirs, slow, x, y, 1, None, size=SIZE)
    assert ours.state() == theirs.state()


def test_what_is_no_epoch() -> None:
    x, y = rows(ROWS)
    step = gu.compile(make().step)
    for args, options, error, match in (
        ((), {}, GroundupError, r"epoch takes the arrays whose rows .*step\.epoch\(x, y\)"),
        ((x, y[:-1]), {}, ShapeError, r"shapes \[\(90, 6\), \(89,\)\]; each needs as many rows"),
        ((x, 1.0), {}, ShapeError, r"shapes \[\(90, 6\), \(\)\]"),
        ((1.0,), {}, ShapeError, r"shapes \[\(\)\]"),
        ((x[:0], y[:0]), {}, DataError, "the arrays are empty"),
        ((x, y), {"batch_size": 0}, DataError, "batch_size=0; it must be at least 1"),
        ((x, y), {"batch_size": -2}, DataError, "batch_size=-2"),
        ((x, y), {"batch_size": 91, "drop_last": True}, DataError, "90 rows make no batch of 91"),
        ((x, y), {"seed": -1, "shuffle": True}, DataError, "seed=-1: it must be an integer"),
        ((x, y), {"epoch": -1, "shuffle": True}, DataError, "epoch=-1"),
    ):
        with pytest.raises(error, match=match):
            step.epoch(*args, **options)
    assert step.recordings == 0


@pytest.mark.parametrize("engine", ["native", "numpy"])
def test_steps_that_return_arrays_are_refused(engine: str) -> None:
    model = make().model
    step = gu.compile(lambda x: model(x), engine=engine)
    with pytest.raises(GroundupError, match=r"numbers, not arrays such as .*\(16, 3\)"):
        step.epoch(rows(ROWS)[0], batch_size=SIZE)


# While it runs


LONG = 1_600_000  # rows: a fifth of a second or so


@pytest.fixture(scope="module")
def much() -> tuple[np.ndarray, np.ndarray]:
    return rows(LONG)


@pytest.fixture
def going(much: tuple[np.ndarray, np.ndarray]) -> tuple[Made, Any, Callable[[int], bool]]:
    """A step whose machine code is ready, and whether its state is that after some steps more."""
    made, twin = momentum(), momentum()
    step, other = gu.compile(made.step), gu.compile(twin.step)
    for s in (step, other):
        s.over(much, np.arange(80), 8)

    def is_after(steps: int) -> bool:
        if steps:
            other.over(much, np.arange(8 * steps), 8)
        return made.state() == twin.state()

    assert is_after(0)
    return made, step, is_after


def test_progress_can_be_read_from_another_thread(
    going: Any, much: tuple[np.ndarray, np.ndarray]
) -> None:
    _, step, _ = going
    seen, over = [], threading.Event()
    before = step.progress

    def watch() -> None:
        while not over.is_set():
            if step.progress is not before:
                seen.append((step.progress.done, step.progress.seconds))
            time.sleep(0.001)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        step.epoch(*much, batch_size=8)
    finally:  # or Python would wait for it for ever
        over.set()
        watcher.join()
    done = [d for d, _ in seen]
    assert done == sorted(done)
    assert any(0 < d < LONG // 8 for d in done)
    assert step.progress.done == step.progress.batches == LONG // 8
    assert [s for _, s in seen] == sorted(s for _, s in seen)


def test_show_is_told_of_all_that_was_done_before_an_error() -> None:
    made = make()
    step, done = gu.compile(made.step), []
    x, y = rows(ROWS)
    y[4 * SIZE + 3] = CLASSES
    with pytest.raises(LabelError):
        step.epoch(x, y, batch_size=SIZE, show=lambda p: done.append((p.done, len(p.latest))))
    assert done[-1][0] == sum(n for _, n in done) == 4
    assert made.opt.counts.tolist() == [4] * 4


def test_show_sees_every_loss_once(going: Any, much: tuple[np.ndarray, np.ndarray]) -> None:
    _, step, _ = going
    shown, done = [], []

    def show(progress: Any) -> None:
        shown.append(progress.latest)
        done.append(progress.done)
        assert progress is step.progress
        assert sum(map(len, shown)) == progress.done

    losses = step.epoch(*much, batch_size=8, show=show)
    assert len(shown) >= 3
    assert np.concatenate(shown).tobytes() == losses.data.tobytes()
    assert done[-1] == LONG // 8


def test_an_exception_in_show_comes_out_and_nothing_is_lost(
    going: Any, much: tuple[np.ndarray, np.ndarray]
) -> None:
    _, step, is_after = going

    def show(progress: Any) -> None:
        if progress.done > 100:
            raise RuntimeError("enough")

    with pytest.raises(RuntimeError, match="enough"):
        step.epoch(*much, batch_size=8, show=show)
    assert 100 < step.progress.done < LONG // 8
    assert is_after(step.progress.done)


@contextmanager
def ctrl_c_after(seconds: float) -> Iterator[list[float]]:
    """Ctrl-C is pressed then; when, is written down."""
    pressed: list[float] = []

    def press(number: int, frame: Any) -> None:
        pressed.append(time.perf_counter())
        signal.raise_signal(signal.SIGINT)

    before = signal.signal(signal.SIGALRM, press)
    try:
        signal.setitimer(signal.ITIMER_REAL, seconds)
        yield pressed
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@pytest.mark.skipif(sys.platform == "win32", reason="setitimer is POSIX")
@pytest.mark.parametrize("after", [0.003, 0.01, 0.03])
def test_ctrl_c_ends_it_soon_between_two_steps(
    after: float, going: Any, much: tuple[np.ndarray, np.ndarray]
) -> None:
    _, step, is_after = going
    with pytest.raises(KeyboardInterrupt), ctrl_c_after(after) as pressed:
        step.epoch(*much, batch_size=8)
    assert time.perf_counter() - pressed[0] < 1
    assert step.progress.done < LONG // 8
    assert is_after(step.progress.done)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_an_epoch_in_another_python_thread(going: Any, much: tuple[np.ndarray, np.ndarray]) -> None:
    _, step, is_after = going
    thread = threading.Thread(target=lambda: step.over(much, np.arange(8000), 8))
    thread.start()
    thread.join()
    assert is_after(1000)


def test_a_recorded_step_with_a_large_result_is_refused_before_it_runs() -> None:
    """Such a result lies where it can be written past the caches; an epoch's rows need not."""
    w = gu.nn.Parameter(np.ones((8, 4096), np.float32))
    compiled, x = gu.compile(lambda x: x @ w), np.ones((512, 8), np.float32)
    for _ in range(3):
        compiled(x[:256])
    with pytest.raises(GroundupError, match=r"numbers, not arrays such as .*\(256, 4096\)"):
        compiled.epoch(x, batch_size=256)
