"""A small training that has everything a resume can get wrong."""

from functools import partial

import numpy as np

import groundup as gu
from groundup import nn, optim
from groundup.data import Split
from groundup.train import (
    ActivationStats,
    Callback,
    Checkpoint,
    CsvLog,
    EarlyStopping,
    KeepBest,
    Learner,
    accuracy,
)

ROWS, VALID, FEATURES, CLASSES = 90, 33, 6, 3
SIZE = 16  # 6 batches an epoch, the last of 10 rows
EPOCHS = 6


def make_data(seed=5):
    rng = np.random.default_rng(seed)
    y = rng.integers(0, CLASSES, ROWS + VALID)
    x = rng.standard_normal((len(y), FEATURES)) + 1.5 * np.eye(CLASSES, FEATURES)[y]
    x = x.astype(np.float32)
    return Split(x[:ROWS], y[:ROWS], x[ROWS:], y[ROWS:])


def make_learner(data=None, *, seed=3, callbacks=(), opt=None, model=None, **options):
    """Dropout, momentum, a schedule: deterministic in `seed`."""
    gu.manual_seed(seed)
    settings = {
        "metrics": [accuracy],
        "seed": seed,
        "batch_size": SIZE,
        "schedule": optim.one_cycle(0.2, EPOCHS * 6),
        "display": False,
        "engine": "numpy",  # the same bits as steps that a callback makes eager
    } | options
    return Learner(
        nn.Sequential(nn.Linear(FEATURES, 8), nn.Relu(), nn.Dropout(0.3), nn.Linear(8, CLASSES))
        if model is None
        else model,
        make_data() if data is None else data,
        nn.CrossEntropy(),
        opt or partial(optim.SGD, momentum=0.9),
        callbacks=callbacks,
        **settings,
    )


def same_weights(a, b):
    """Whether two Learners agree in every bit of weights and optimizer state."""
    pairs = [
        (one.state_dict(), other.state_dict())
        for one, other in ((a.model, b.model), (a.opt, b.opt))
    ]
    return all(
        one.keys() == other.keys()
        and all(one[k].tobytes() == np.asarray(other[k]).tobytes() for k in one)
        for one, other in pairs
    )


def without_time(history):
    return [{k: v for k, v in row.items() if k != "seconds"} for row in history]


class Crash(Callback):
    """An end as sudden as there is within a process: after a step, before it is saved."""

    def __init__(self, step):
        self.step = step

    def after_step(self, learner):
        if learner.step == self.step:
            raise RuntimeError("crash")


def dropping_model(seed):
    """A model of which one dropout draws from the default generator, one from its own."""
    gu.manual_seed(seed)
    own = nn.Dropout(0.2, generator=gu.Generator(8))
    return nn.Sequential(nn.Linear(6, 8), nn.Relu(), nn.Dropout(0.3), own, nn.Linear(8, 3))


def watched(folder, *more, model_seed=3, every=4, **options):
    callbacks = [
        *more,
        Checkpoint(folder / "checkpoints", every=every),
        CsvLog(folder / "log.csv"),
        EarlyStopping("accuracy", patience=3),
        KeepBest(),
        ActivationStats(5),
    ]
    folder.mkdir(exist_ok=True)
    return make_learner(callbacks=callbacks, model=dropping_model(model_seed), **options)


def remembered(learner):
    """What the callbacks remember."""
    return [
        {k: v.tobytes() if hasattr(v, "tobytes") else v for k, v in c.state_dict().items()}
        for c in learner.callbacks
    ]


def newest(learner):
    """The path of the newest checkpoint."""
    return next(c for c in learner.callbacks if isinstance(c, Checkpoint)).paths()[0]


def logged(folder):
    """The log without the seconds."""
    return [line.rsplit(",", 1)[0] for line in (folder / "log.csv").read_text().splitlines()]


def assert_same_end(tmp_path, whole, resumed):
    assert same_weights(whole, resumed)
    assert without_time(whole.history) == without_time(resumed.history)
    assert (whole.epoch, whole.step, whole.stop) == (resumed.epoch, resumed.step, resumed.stop)
    assert remembered(whole) == remembered(resumed)
    assert logged(tmp_path / "whole") == logged(tmp_path / "broken")
    assert whole.random == resumed.random
