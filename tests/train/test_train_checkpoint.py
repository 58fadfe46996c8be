"""What was interrupted and goes on ends as if it had not been: here within one process."""

import errno
import math
from functools import partial

import pytest
from small_training import (
    EPOCHS,
    Crash,
    assert_same_end,
    dropping_model,
    make_data,
    make_learner,
    newest,
    same_weights,
    watched,
)

import groundup as gu
from groundup import nn, optim
from groundup.errors import GroundupError, NonFiniteError, StateError
from groundup.train import (
    Callback,
    Checkpoint,
    EarlyStopping,
    KeepBest,
    TrainingWarning,
)
from groundup.train.files import load_tensors

OPTIMIZERS = {
    "sgd": optim.SGD,
    "momentum": partial(optim.SGD, momentum=0.9, nesterov=True),
    "rmsprop": partial(optim.RMSprop, momentum=0.5, centered=True),
    "adam": optim.Adam,
    "adamw": optim.AdamW,
}


@pytest.mark.parametrize("opt", OPTIMIZERS)
@pytest.mark.parametrize("step", [1, 4, 5, 6, 12, 17])
def test_a_resumed_training_ends_as_an_unbroken_one(tmp_path, opt, step):
    options = {"opt": OPTIMIZERS[opt]}
    whole = watched(tmp_path / "whole", **options).fit(EPOCHS)
    with pytest.raises(RuntimeError, match="crash"):
        watched(tmp_path / "broken", Crash(step), **options).fit(EPOCHS)
    gu.rand(7)  # another process has other weights, and has drawn other numbers
    resumed = watched(tmp_path / "broken", model_seed=77, **options)
    assert_same_end(tmp_path, whole, resumed.fit(EPOCHS, resume=True))


def test_a_training_may_break_off_again_and_again(tmp_path):
    whole = watched(tmp_path / "whole").fit(EPOCHS)
    for step in (2, 3, 9, 10, 11, 22):
        with pytest.raises(RuntimeError, match="crash"):
            watched(tmp_path / "broken", Crash(step)).fit(EPOCHS, resume=True)
    resumed = watched(tmp_path / "broken").fit(EPOCHS, resume=True)
    assert_same_end(tmp_path, whole, resumed)


def test_early_stopping_goes_on_counting_and_a_stopped_training_stays_stopped(tmp_path):
    class Flat(Callback):
        order = -1

        def after_epoch(self, learner):
            learner.history[-1]["accuracy"] = [0.5, 0.9, 0.8, 0.7, 0.6, 0.99][learner.epoch - 1]

    whole = watched(tmp_path / "whole", Flat()).fit(EPOCHS)
    assert whole.epoch == 5
    for step in (19, 25):
        with pytest.raises(RuntimeError, match="crash"):
            watched(tmp_path / "broken", Flat(), Crash(step)).fit(EPOCHS, resume=True)
    resumed = watched(tmp_path / "broken", Flat()).fit(EPOCHS, resume=True)
    assert_same_end(tmp_path, whole, resumed)
    again = watched(tmp_path / "broken", Flat()).fit(EPOCHS, resume=True)
    assert_same_end(tmp_path, whole, again)


def test_without_a_checkpoint_resume_starts_at_the_beginning(tmp_path):
    fresh = watched(tmp_path / "whole").fit(2, resume=True)
    assert same_weights(fresh, watched(tmp_path / "broken").fit(2))
    with pytest.raises(GroundupError, match=r"resume=True needs a Checkpoint\(folder\)"):
        make_learner().fit(1, resume=True)


def test_resume_counts_epochs_in_all(tmp_path):
    watched(tmp_path).fit(2)
    assert watched(tmp_path).fit(2, resume=True).epoch == 2
    assert watched(tmp_path).fit(3, resume=True).epoch == 3


def test_the_seconds_of_a_broken_epoch_count(tmp_path):
    class Slow(Callback):
        def after_step(self, learner):
            if learner.step in (2, 5):
                learner.began -= 100

    with pytest.raises(RuntimeError, match="crash"):
        watched(tmp_path, Slow(), Crash(4), every=3).fit(1)
    assert 200 < watched(tmp_path, Slow()).fit(1, resume=True).history[0]["seconds"] < 210


# What can be wrong with the files


def checkpoints(folder):
    return sorted((folder / "checkpoints").iterdir())


def test_the_last_two_are_kept(tmp_path):
    watched(tmp_path, every=None).fit(3)
    names = [path.name for path in checkpoints(tmp_path)]
    assert names == ["checkpoint-0000000012.safetensors", "checkpoint-0000000018.safetensors"]


@pytest.mark.parametrize("damage", ["cut", "empty", "bit", "text"])
def test_of_a_damaged_checkpoint_the_one_before_is_taken(tmp_path, damage):
    whole = watched(tmp_path / "whole").fit(EPOCHS)
    with pytest.raises(RuntimeError, match="crash"):
        watched(tmp_path / "broken", Crash(15)).fit(EPOCHS)
    path = checkpoints(tmp_path / "broken")[-1]
    content = bytearray(path.read_bytes())
    content[-9] ^= 4
    path.write_bytes(
        {"cut": content[:-40], "empty": b"", "bit": content, "text": b"{}" * 40}[damage]
    )
    resumed = watched(tmp_path / "broken", model_seed=9)
    match = r"0012.safetensors is damaged.*; going on from checkpoint-0000000008.safetensors, the"
    with pytest.warns(TrainingWarning, match=match):
        resumed.fit(EPOCHS, resume=True)
    assert_same_end(tmp_path, whole, resumed)
    assert path.with_name(path.name + ".damaged").exists()


def test_if_all_are_damaged_each_is_named(tmp_path):
    watched(tmp_path).fit(2)
    for path in checkpoints(tmp_path):
        path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(StateError) as caught:
        watched(tmp_path).fit(3, resume=True)
    assert "no checkpoint can be used:\n" in str(caught.value)
    assert str(caught.value).count("is damaged") == 2


def test_files_of_a_killed_writer_are_cleared_away(tmp_path):
    watched(tmp_path).fit(1)
    left = tmp_path / "checkpoints" / ".checkpoint-0000000099.safetensors.123.part"
    left.write_bytes(b"half")
    watched(tmp_path).fit(2, resume=True)
    assert not left.exists()


def test_another_trainings_folder_is_left_alone(tmp_path):
    make_learner(callbacks=[Checkpoint(tmp_path)]).fit(1)
    before = {p.name: p.read_bytes() for p in tmp_path.iterdir()}
    with pytest.raises(GroundupError, match="has checkpoints of another training: go on with that"):
        make_learner(callbacks=[Checkpoint(tmp_path)]).fit(1)
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == before


def test_one_learner_may_fit_twice_in_one_folder(tmp_path):
    learner = watched(tmp_path).fit(1)
    learner.fit(1)
    assert watched(tmp_path, model_seed=1).fit(2, resume=True).step == 12


def test_a_checkpoint_of_another_training_is_refused(tmp_path):
    def learner(**options):
        return make_learner(callbacks=[Checkpoint(tmp_path), EarlyStopping()], **options)

    learner().fit(1)
    small = nn.Sequential(nn.Linear(6, 3))
    for options, match in (
        ({"seed": 4}, "is of another training: its seed is 3, here it is 4"),
        ({"batch_size": 8}, "its batch size is 16, here it is 8"),
        ({"data": make_data(6)}, "its data is .*, here it is"),
        ({"opt": optim.Adam}, "saved with the optimizer SGD; here it is Adam"),
        ({"opt": optim.SGD}, "this state does not fit SGD:\n  extra: v.0"),
        ({"model": small}, "this state does not fit Sequential"),
        ({"model": dropping_model(0)}, "saved with generators in other layers"),
    ):
        with pytest.raises(StateError, match=match):
            learner(**options).fit(2, resume=True)
    other = make_learner(callbacks=[Checkpoint(tmp_path), KeepBest()])
    with pytest.raises(StateError, match="holds nothing for KeepBest-0; it was saved with the cal"):
        other.fit(2, resume=True)


def test_a_format_of_the_future_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("groundup.train.checkpoint._FORMAT", 2)
    make_learner(callbacks=[Checkpoint(tmp_path)]).fit(1)
    monkeypatch.undo()
    with pytest.raises(StateError, match="is no checkpoint that this version of groundup can read"):
        make_learner(callbacks=[Checkpoint(tmp_path)]).fit(1, resume=True)


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_full_disk_is_a_warning_and_nothing_is_lost(tmp_path, monkeypatch, call):
    class Fills(Callback):
        def after_step(self, learner):
            if learner.step == 8:
                monkeypatch.setattr(f"os.{call}", self.full)

        def full(self, *args):
            raise OSError(errno.ENOSPC, "No space left on device")

    folder = tmp_path / "checkpoints"
    learner = make_learner(callbacks=[Checkpoint(folder), Fills()])
    with pytest.warns(TrainingWarning) as told:
        learner.fit(EPOCHS)
    monkeypatch.undo()
    assert len(told) == 5
    assert "the checkpoint of step 12 could not be written to" in str(told[0].message)
    assert "(No space left on device). Training goes on; checkpoint-0000000006" in str(
        told[0].message
    )
    assert same_weights(learner, make_learner().fit(EPOCHS))
    assert sorted(p.name for p in folder.iterdir())[-1] == "checkpoint-0000000006.safetensors"
    resumed = make_learner(callbacks=[Checkpoint(folder)])
    assert same_weights(learner, resumed.fit(EPOCHS, resume=True))


def test_a_folder_that_cannot_be_written_to_is_told_before_training(tmp_path):
    (tmp_path / "file").write_text("")
    learner = make_learner(callbacks=[Checkpoint(tmp_path / "file" / "folder")])
    with pytest.raises(OSError, match="Not a directory"):
        learner.fit(1)
    assert learner.step == 0


def test_a_state_with_a_nan_is_not_saved(tmp_path):
    class Spoils(Callback):
        def after_step(self, learner):
            if learner.step == 8:
                learner.model.layers[0].w.data[0] = math.nan

    learner = make_learner(callbacks=[Checkpoint(tmp_path, every=2), Spoils()])
    with pytest.raises(
        NonFiniteError, match=r"The last good checkpoint is .*checkpoint-0000000006"
    ):
        learner.fit(EPOCHS)
    resumed = make_learner(callbacks=[Checkpoint(tmp_path)])
    assert same_weights(make_learner().fit(EPOCHS), resumed.fit(EPOCHS, resume=True))


def test_what_a_checkpoint_holds_is_open(tmp_path):
    """Arrays and JSON, for any reader of safetensors."""
    from safetensors.numpy import load_file

    learner = watched(tmp_path).fit(1)
    path = newest(learner)
    names = set(load_file(path))
    assert {
        "model/layers.0.w",
        "opt/v.0",
        "opt/lr",
        "callback.KeepBest-0/weights.layers.0.w",
    } <= names
    assert load_tensors(path)[1]["history"] == learner.history


def test_settings_out_of_range(tmp_path):
    with pytest.raises(GroundupError, match="every and keep are at least 1, not 0, 2"):
        Checkpoint(tmp_path, every=0)
