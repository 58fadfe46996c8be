"""Epochs as machine code: the same training as step by step, and as much to be seen of it."""

import math
import signal
import sys
import time

import numpy as np
import pytest
from small_training import (
    CLASSES,
    EPOCHS,
    FEATURES,
    SIZE,
    Crash,
    dropping_model,
    logged,
    make_data,
    make_learner,
    remembered,
    same_weights,
    without_time,
)

import groundup as gu
from groundup import nn, optim
from groundup.compiled.step import Compiled
from groundup.errors import NonFiniteError
from groundup.train import Callback, Checkpoint, ClipGradients, CsvLog, KeepBest, TrainingWarning


class EachStep(Callback):
    """Wants to see every step: they run one by one."""

    def __init__(self):
        self.rates, self.losses = [], []

    def after_step(self, learner):
        self.rates.append(learner.opt.lr)
        self.losses.append(float(learner.batch_loss.item()))


class Between(Callback):
    """Looks in now and then, and may do something when so many steps are done."""

    each_step = False

    def __init__(self, step=None, do=None):
        self.step, self.do, self.seen, self.batches = step, do, [], []

    def after_step(self, learner):
        self.seen.append(learner.step)
        self.batches.append((learner.epoch, learner.batch, learner.rows, learner.running_loss))
        if self.do is not None and learner.step >= self.step:
            do, self.do = self.do, None
            do()


def press():
    signal.raise_signal(signal.SIGINT)


def crash():
    raise RuntimeError("crash")


def native(*callbacks, **options):
    return make_learner(
        callbacks=callbacks, engine="native", **{"model": dropping_model(3)} | options
    )


def kept(folder, *callbacks, **options):
    folder.mkdir(exist_ok=True)
    watching = [Checkpoint(folder / "checkpoints"), CsvLog(folder / "log.csv"), KeepBest()]
    return native(*callbacks, *watching, **options)


@pytest.fixture
def epochs_taken(monkeypatch):
    """How many batches whole epochs were asked for."""
    asked, whole = [], Compiled.over

    def over(self, arrays, order, *args, **options):
        asked.append(len(order))
        return whole(self, arrays, order, *args, **options)

    monkeypatch.setattr(Compiled, "over", over)
    return asked


def momentum(params):
    return optim.SGD(params, momentum=0.9)


# The same training


@pytest.mark.parametrize("opt", [momentum, optim.Adam])
def test_in_one_go_is_step_by_step_bit_for_bit(opt, epochs_taken):
    options = {"opt": opt, "schedule": optim.one_cycle(0.05, EPOCHS * 6)}
    one_go = native(ClipGradients(0.5), **options).fit(EPOCHS)
    assert epochs_taken == [90] * EPOCHS
    stepwise = native(ClipGradients(0.5), EachStep(), **options).fit(EPOCHS)
    assert len(epochs_taken) == EPOCHS
    assert same_weights(one_go, stepwise)
    assert without_time(one_go.history) == without_time(stepwise.history)
    assert one_go.random == stepwise.random
    assert (one_go.step, one_go.batch, one_go.opt.lr) == (36, 0, stepwise.opt.lr)


def test_fits_may_follow_one_another():
    in_parts = native().fit(1).fit(0).fit(2)
    assert same_weights(in_parts, native().fit(3))
    assert without_time(in_parts.history) == without_time(native().fit(3).history)


def test_it_is_the_training_of_numpy_but_for_rounding():
    ours = native().fit(2)
    numpys = make_learner(model=dropping_model(3), engine="numpy").fit(2)
    for a, b in zip(ours.model.parameters(), numpys.model.parameters(), strict=True):
        assert np.abs(a.data - b.data).max() < 1e-5 * np.abs(b.data).max()
    losses = [learner.history[1]["train_loss"] for learner in (ours, numpys)]
    assert math.isclose(*losses, rel_tol=1e-5)


def test_shuffled_batches_that_drop_the_last():
    from groundup.data import Batches

    def data():
        x, y, xv, yv = make_data()
        return Batches(x, y, 20, True, 5, drop_last=True), Batches(xv, yv, 33)

    one_go = native(data=data(), batch_size=None).fit(3)
    stepwise = native(EachStep(), data=data(), batch_size=None).fit(3)
    assert one_go.step == 12
    assert same_weights(one_go, stepwise)
    assert without_time(one_go.history) == without_time(stepwise.history)


def test_the_schedule_sets_the_rate_of_each_step():
    asked = []

    def schedule(step):
        asked.append(step)
        return 0.5 / (step + 1)

    watch = EachStep()
    stepwise = native(watch, schedule=schedule).fit(2)
    assert watch.rates == [0.5 / (i + 1) for i in range(12)]
    asked.clear()
    one_go = native(schedule=schedule).fit(2)
    assert asked == sorted(asked)
    assert set(asked) == set(range(12))
    assert same_weights(one_go, stepwise)
    assert one_go.opt.lr == one_go.history[-1]["lr"] == 0.5 / 12
    assert not same_weights(one_go, native(schedule=lambda step: 0.5).fit(2))


# What is seen of it


def test_who_looks_in_now_and_then_sees_counts_and_losses_that_agree():
    watch, between = EachStep(), Between()
    native(watch).fit(1)
    learner = native(between).fit(1)
    assert len(between.seen) >= 2
    assert between.seen == sorted(between.seen)
    assert between.seen[-1] == 6
    for step, (epoch, batch, rows, loss) in zip(between.seen, between.batches, strict=True):
        assert (epoch, batch, rows) == (0, step, min(step * SIZE, 90))
        sizes = [min(SIZE, 90 - SIZE * i) for i in range(step)]
        assert math.isclose(loss, np.average(watch.losses[:step], weights=sizes))
    assert learner.history[0]["train_loss"] == between.batches[-1][3]


def test_lines_are_printed_as_ever(capsys):
    learner = native(display=True).fit(2)
    printed = capsys.readouterr().out.splitlines()
    assert len(printed) == 3
    assert f"{learner.history[1]['train_loss']:.4f}" in printed[2]


# Broken off


@pytest.mark.parametrize("kind", [lambda step: Crash(step), lambda step: Between(step, crash)])
@pytest.mark.parametrize("step", [1, 8, 18])
def test_a_resumed_training_ends_as_an_unbroken_one(tmp_path, whole, step, kind):
    with pytest.raises(RuntimeError, match="crash"):
        kept(tmp_path / "broken", kind(step)).fit(EPOCHS)
    resumed = kept(tmp_path / "broken", model=dropping_model(77)).fit(EPOCHS, resume=True)
    assert_same_end(tmp_path / "broken", whole, resumed)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The training that nothing broke off."""
    folder = tmp_path_factory.mktemp("whole")
    learner = kept(folder).fit(EPOCHS)
    learner.log = logged(folder)
    return learner


def assert_same_end(folder, whole, resumed):
    assert same_weights(whole, resumed)
    assert without_time(whole.history) == without_time(resumed.history)
    assert (whole.epoch, whole.step, whole.stop) == (resumed.epoch, resumed.step, resumed.stop)
    assert remembered(whole)[-3:] == remembered(resumed)[-3:]
    assert logged(folder) == whole.log
    assert whole.random == resumed.random


@pytest.mark.parametrize("step", [1, 8, 12])
def test_ctrl_c_ends_between_two_steps_and_what_was_learnt_is_saved(tmp_path, whole, step):
    broken = kept(tmp_path / "broken", Between(step, press))
    with pytest.raises(KeyboardInterrupt) as caught:
        broken.fit(EPOCHS)
    assert broken.interrupted
    assert broken.step >= step
    assert broken.opt.steps == broken.step
    done = broken.step - 6 * broken.epoch
    assert broken.batch == done
    assert f"in epoch {broken.epoch + 1}, after batch {done} of 6" in str(caught.value)
    resumed = kept(tmp_path / "broken", model=dropping_model(77)).fit(EPOCHS, resume=True)
    assert_same_end(tmp_path / "broken", whole, resumed)


@pytest.mark.skipif(sys.platform == "win32", reason="setitimer is POSIX")
def test_ctrl_c_at_any_moment_ends_a_long_epoch_soon():
    rng = np.random.default_rng(0)
    x = rng.standard_normal((1_000_000, FEATURES), np.float32)
    y = rng.integers(0, CLASSES, len(x))
    pressed = []

    def alarm(number, frame):
        pressed.append(time.perf_counter())
        press()

    class Alarm(Between):
        def before_epoch(self, learner):
            if learner.epoch == 1:  # machine code is there
                signal.setitimer(signal.ITIMER_REAL, 0.01)

    learner = native(Alarm(), data=(x, y, x[:9], y[:9]), batch_size=8, schedule=None)
    before = signal.signal(signal.SIGALRM, alarm)
    try:
        with pytest.raises(KeyboardInterrupt, match="in epoch 2, after batch"):
            learner.fit(50)
        assert time.perf_counter() - pressed[0] < 1
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert 0 < learner.batch < 125_000
    assert learner.step == 125_000 + learner.batch
    assert learner.opt.steps == learner.step


# What goes wrong


@pytest.mark.parametrize("batch", [0, 1, 4, 5])
def test_a_nan_among_the_inputs_is_told_with_its_batch(batch):
    learner = native()
    batches = learner.train_batches
    batches.x = batches.x.copy()
    batches.x[batches.order(1)[batch * SIZE]] = np.nan
    clean = np.isnan(batches.x).any(1)[batches.order(0)].argmax() // SIZE
    with pytest.raises(NonFiniteError) as caught:
        learner.fit(1)
    first = f"the loss is nan, in epoch 1, batch {clean + 1} of 6 (step {clean + 1}). Likely"
    assert str(caught.value).startswith(first)
    assert "NaN or infinite inputs in this batch" in str(caught.value)
    assert (learner.step, learner.batch) == (clean, clean)
    assert learner.opt.steps == clean
    stepwise = native(EachStep())
    stepwise.train_batches.x = batches.x
    with pytest.raises(NonFiniteError) as again:
        stepwise.fit(1)
    assert str(again.value) == str(caught.value)
    assert same_weights(learner, stepwise)


def test_an_explosion_in_a_later_epoch_is_told_with_its_batch():
    rates = [0.1] * 9 + [1e30] * 9

    learner, stepwise = (native(*c, schedule=rates.__getitem__) for c in ((), (EachStep(),)))
    with pytest.raises(NonFiniteError, match=r"epoch 2, batch \d of 6 .*is too large \(it is 1e"):
        learner.fit(3)
    with pytest.raises(NonFiniteError) as caught:
        stepwise.fit(3)
    assert str(caught.value).split(". Likely")[0]
    assert learner.step == stepwise.step
    assert same_weights(learner, stepwise)


def test_without_compiling_steps_are_eager(epochs_taken):
    eager = native(compile=False).fit(2)
    assert epochs_taken == []
    assert same_weights(eager, make_learner(model=dropping_model(3), engine="numpy").fit(2))


class Looks(nn.Module):
    """Reads a value: no Program can do that."""

    def forward(self, x):
        return x * 2 if x.sum().item() > 0 else x


class Counts(nn.Module):
    """Does something else at its second call."""

    calls = 0

    def forward(self, x):
        Counts.calls += 1
        return x * float(np.random.default_rng(Counts.calls).integers(9))


def unrecordable(kind):
    gu.manual_seed(3)
    Counts.calls = 0
    return nn.Sequential(nn.Linear(FEATURES, 8), kind(), nn.Linear(8, CLASSES))


def test_a_model_that_cannot_be_recorded_trains_eagerly_with_a_warning(epochs_taken):
    with pytest.warns(TrainingWarning, match="trains eagerly, as its step cannot be recorded") as w:
        learner = native(model=unrecordable(Looks)).fit(2)
    assert len(w) == 1
    assert epochs_taken == [90]
    assert same_weights(learner, native(model=unrecordable(Looks), compile=False).fit(2))


def test_a_model_that_changes_its_mind_loses_no_step():
    with pytest.warns(TrainingWarning, match="trains eagerly, as its step cannot be recorded"):
        learner = native(model=unrecordable(Counts)).fit(2)
    assert learner.step == 12
    assert learner.opt.steps == 12
    assert len(learner.history) == 2
