import csv
import errno
import math

import numpy as np
import pytest
from small_training import make_learner, same_weights, without_time

from groundup import nn, optim
from groundup.errors import DataError, GroundupError
from groundup.train import (
    ActivationStats,
    Callback,
    Checkpoint,
    ClipGradients,
    CsvLog,
    EarlyStopping,
    KeepBest,
    TrainingWarning,
)


class Script(Callback):
    """Puts given valid losses into the history, before other callbacks look."""

    order = -10

    def __init__(self, *losses):
        self.losses = losses
        self.weights = {}

    def after_epoch(self, learner):
        learner.history[-1]["valid_loss"] = self.losses[learner.epoch - 1]
        self.weights[learner.epoch] = learner.model.state_dict()


def is_epoch(learner, script, epoch):
    now = learner.model.state_dict()
    return all(np.array_equal(v, now[k]) for k, v in script.weights[epoch].items())


def test_keep_best_puts_the_best_weights_back():
    script, best = Script(3.0, 1.0, 2.0), KeepBest()
    learner = make_learner(callbacks=[script, best]).fit(3)
    assert (best.best, best.best_epoch) == (1.0, 2)
    assert is_epoch(learner, script, 2)
    assert not is_epoch(learner, script, 3)


def test_early_stopping_waits_and_puts_the_best_weights_back():
    script = Script(3.0, 1.0, 2.0, 0.99, 1.5, 1.4, 1.3, 0.1)
    stopping = EarlyStopping(patience=3, min_delta=0.0)
    learner = make_learner(callbacks=[script, stopping]).fit(8)
    assert learner.epoch == 7
    assert is_epoch(learner, script, 4)
    assert learner.stop == (
        "no better valid_loss for 3 epochs; back to the weights of epoch 4 (0.99)"
    )


def test_early_stopping_wants_more_than_min_delta():
    script = Script(1.0, 0.995, 0.98, 0.975, 0.2)
    learner = make_learner(callbacks=[script, EarlyStopping(patience=2, min_delta=0.1)]).fit(5)
    assert learner.epoch == 3
    assert is_epoch(learner, script, 1)


def test_early_stopping_of_an_accuracy_wants_more():
    class Accuracies(Callback):
        order = -10

        def after_epoch(self, learner):
            learner.history[-1]["accuracy"] = [0.5, 0.9, 0.8, 0.7, 0.99][learner.epoch - 1]

    stopping = EarlyStopping("accuracy", patience=2)
    assert make_learner(callbacks=[Accuracies(), stopping]).fit(5).epoch == 4
    assert (stopping.best, stopping.best_epoch) == (0.9, 2)


def test_a_second_fit_waits_anew():
    script = Script(1.0, 2.0, 2.0, 2.0, 2.0, 0.5)
    learner = make_learner(callbacks=[script, EarlyStopping(patience=2)])
    assert learner.fit(9).epoch == 3
    assert learner.fit(2).epoch == 5


def test_what_cannot_be_monitored():
    with pytest.raises(GroundupError, match="KeepBest: is 'mine' better small or large"):
        KeepBest("mine")
    learner = make_learner(callbacks=[EarlyStopping("r2")])
    with pytest.raises(GroundupError, match="EarlyStopping monitors 'r2', and the history has epo"):
        learner.fit(1)
    with pytest.raises(GroundupError, match="patience is at least 1 and min_delta at least 0"):
        EarlyStopping(patience=0)
    assert KeepBest("mine", mode="max").sign == -1


def test_clip_gradients():
    norms = []

    class Norm(Callback):
        order = 1

        def after_backward(self, learner):
            norms.append(math.sqrt(sum(float((p.g.data**2).sum()) for p in learner.opt.params)))

    make_learner(callbacks=[Norm(), ClipGradients(0.1)]).fit(1)
    assert len(norms) == 6
    assert max(norms) <= 0.1 + 1e-5


# The log


def read(path):
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def test_the_log_has_the_history(tmp_path):
    path = tmp_path / "log.csv"
    learner = make_learner(callbacks=[CsvLog(path)]).fit(2)
    learner.fit(1)
    rows = read(path)
    assert list(rows[0]) == learner.columns
    assert [{k: float(v) for k, v in row.items()} for row in rows] == learner.history


def test_the_log_of_another_training_is_not_overwritten(tmp_path):
    path = tmp_path / "log.csv"
    make_learner(callbacks=[CsvLog(path)]).fit(1)
    before = path.read_bytes()
    with pytest.raises(DataError, match=r"log.csv is there already, from another training"):
        make_learner(callbacks=[CsvLog(path)]).fit(1)
    assert path.read_bytes() == before
    elsewhere = [CsvLog(path), Checkpoint(tmp_path / "empty")]
    with pytest.raises(DataError, match=r"log.csv is there already, from another training"):
        make_learner(callbacks=elsewhere).fit(1, resume=True)
    assert path.read_bytes() == before


def test_a_log_that_cannot_be_written_is_a_warning(tmp_path, monkeypatch):
    path = tmp_path / "log.csv"

    def full(descriptor):
        if path.exists() and read(path):
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    learner = make_learner(callbacks=[CsvLog(path)])
    with pytest.warns(
        TrainingWarning, match=r"log.csv could not be written \(No space left on dev"
    ):
        learner.fit(2)
    assert len(learner.history) == 2
    assert len(read(path)) == 1  # whole, if old
    assert [p.name for p in tmp_path.iterdir()] == ["log.csv"]


# Activation statistics


def test_stats_are_numpys(data):
    stats = ActivationStats(every=4)
    seen = {}

    class Look(Callback):
        order = 1

        def after_backward(self, learner):
            if learner.step % 4 == 0:
                first = learner.model.layers[0]
                out = learner.xb.data @ first.w.data + first.b.data
                seen[learner.step] = (out, learner.pred.g.data, learner.opt.params[1].g.data)

    model = nn.Sequential(nn.Linear(6, 8), nn.Relu(), nn.Linear(8, 3))
    make_learner(data, model=model, callbacks=[stats, Look()]).fit(1)
    assert stats.steps == [0, 4]
    assert list(stats.stats) == ["layers.0", "layers.1", "layers.2"]
    for i, step in enumerate(stats.steps):
        out, pred_g, b_g = seen[step]
        first, relu, last = (
            {k: v[i] for k, v in stats.stats[f"layers.{layer}"].items()} for layer in range(3)
        )
        assert first["mean"] == pytest.approx(out.mean(), rel=1e-4, abs=1e-6)
        assert first["std"] == pytest.approx(out.std(), rel=1e-4)
        assert first["near_zero"] == 0
        assert relu["near_zero"] == pytest.approx((out <= 0).mean())
        assert relu["dead"] == pytest.approx((out <= 0).all(0).mean())
        assert last["grad_norm"] == pytest.approx(np.linalg.norm(pred_g), rel=1e-5)
        assert first["grad_norm"] > 0
        assert b_g.shape == (8,)


def test_dead_units_are_found(data):
    model = nn.Sequential(nn.Linear(6, 8), nn.Relu(), nn.Linear(8, 3))
    model.layers[0].b.data[:2] = -1e3
    stats = ActivationStats(every=1, layers=["layers.1"])
    make_learner(data, model=model, callbacks=[stats]).fit(1)
    assert list(stats.stats) == ["layers.1"]
    assert all(dead >= 0.25 for dead in stats.stats["layers.1"]["dead"])


def test_hooks_are_removed_and_training_is_the_same():
    stats = ActivationStats(every=1)
    learner = make_learner(callbacks=[stats]).fit(1)
    assert not any(m.__dict__.get("_forward_hooks") for m in learner.model.modules())
    assert len(stats.steps) == 6
    learner.predict(np.zeros((2, 6), np.float32))
    assert len(stats.steps) == 6
    assert same_weights(learner, make_learner().fit(1))


def test_hooks_are_removed_after_an_error():
    class Fails(Callback):
        def after_step(self, learner):
            raise RuntimeError("boom")

    learner = make_learner(callbacks=[ActivationStats(), Fails()])
    with pytest.raises(RuntimeError, match="boom"):
        learner.fit(1)
    assert not any(m.__dict__.get("_forward_hooks") for m in learner.model.modules())


def test_layers_that_are_not_there_are_named():
    learner = make_learner(callbacks=[ActivationStats(layers=["layers.7"])])
    with pytest.raises(GroundupError, match=r"there is no layer 'layers.7'; there are , layers.0"):
        learner.fit(1)
    with pytest.raises(GroundupError, match="every is at least 1"):
        ActivationStats(every=0)


def test_callbacks_do_not_change_the_training(tmp_path):
    watched = make_learner(
        callbacks=[CsvLog(tmp_path / "log.csv"), ActivationStats(3), EarlyStopping(patience=99)],
        opt=optim.Adam,
    )
    plain = make_learner(opt=optim.Adam)
    assert without_time(watched.fit(2).history) == without_time(plain.fit(2).history)
