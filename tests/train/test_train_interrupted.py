"""Ctrl-C ends a training between two steps, with all that was learnt."""

import signal

import pytest
from small_training import EPOCHS, assert_same_end, make_learner, newest, same_weights, watched

from groundup.train import Callback
from groundup.train.files import load_tensors


class CtrlC(Callback):
    """Presses Ctrl-C within a step, or within validation."""

    def __init__(self, step, times=1):
        self.step, self.times = step, times

    def after_backward(self, learner):
        if learner.step == self.step:
            for _ in range(self.times):
                signal.raise_signal(signal.SIGINT)


@pytest.mark.parametrize("step", [0, 4, 5, 6, 16])
def test_ctrl_c_ends_between_two_steps_and_what_was_learnt_is_saved(tmp_path, step):
    whole = watched(tmp_path / "whole").fit(EPOCHS)
    broken = watched(tmp_path / "broken", CtrlC(step), every=None)
    with pytest.raises(KeyboardInterrupt) as caught:
        broken.fit(EPOCHS)
    assert f"in epoch {step // 6 + 1}, after batch {step % 6 + 1} of 6" in str(caught.value)
    assert broken.interrupted
    assert broken.step == step + 1  # the batch at hand was finished
    saved = load_tensors(newest(broken))[1]
    assert (saved["epoch"], saved["batch"], saved["step"]) == (step // 6, step % 6 + 1, step + 1)
    resumed = watched(tmp_path / "broken", model_seed=4).fit(EPOCHS, resume=True)
    assert_same_end(tmp_path, whole, resumed)


def test_the_learner_itself_may_go_on_after_ctrl_c(tmp_path):
    whole = make_learner().fit(EPOCHS)
    broken = make_learner(callbacks=[CtrlC(8)])
    with pytest.raises(KeyboardInterrupt):
        broken.fit(EPOCHS)
    assert same_weights(whole, broken.fit(EPOCHS - 1))


def test_ctrl_c_in_validation_repeats_only_that(tmp_path):
    class Press(Callback):
        def before_fit(self, learner):
            self.remove = learner.model.register_forward_hook(self.press)

        def press(self, module, args, out):
            if not module.training and broken.step == 12:
                signal.raise_signal(signal.SIGINT)

        def close(self, learner):
            self.remove()

    whole = watched(tmp_path / "whole").fit(EPOCHS)
    broken = watched(tmp_path / "broken", Press())
    with pytest.raises(KeyboardInterrupt, match="in epoch 2, after batch 6 of 6"):
        broken.fit(EPOCHS)
    assert len(broken.history) == 1
    assert_same_end(tmp_path, whole, watched(tmp_path / "broken").fit(EPOCHS, resume=True))


def test_a_second_ctrl_c_ends_at_once(tmp_path):
    broken = watched(tmp_path, CtrlC(8, times=2), every=None)
    with pytest.raises(KeyboardInterrupt) as caught:
        broken.fit(EPOCHS)
    assert str(caught.value) == ""
    assert not broken.interrupted
    assert broken.step == 8  # in the middle of a step: nothing of that is saved
    assert load_tensors(newest(broken))[1]["step"] == 6


def test_ctrl_c_at_the_very_end_is_not_lost():
    class Late(Callback):
        def after_fit(self, learner):
            signal.raise_signal(signal.SIGINT)

    learner = make_learner(callbacks=[Late()])
    with pytest.raises(KeyboardInterrupt, match="the training had just ended"):
        learner.fit(1)
    assert learner.epoch == 1


def test_where_ctrl_c_is_ignored_it_stays_ignored():
    outer = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        assert make_learner(callbacks=[CtrlC(2)]).fit(1).epoch == 1
    except KeyboardInterrupt:
        pytest.fail("interrupted all the same")
    finally:
        signal.signal(signal.SIGINT, outer)


def test_training_works_in_another_thread():
    from concurrent.futures import ThreadPoolExecutor

    learner = make_learner()
    with ThreadPoolExecutor(1) as pool:
        pool.submit(learner.fit, 1).result()
    assert same_weights(learner, make_learner().fit(1))
