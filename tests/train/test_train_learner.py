import subprocess
import sys
from functools import partial

import numpy as np
import pytest
from small_training import CLASSES, EPOCHS, make_data, make_learner, same_weights, without_time

import groundup as gu
from groundup import generator, nn, optim
from groundup.data import Batches
from groundup.errors import (
    DataNotFoundError,
    GroundupError,
    StateError,
)
from groundup.train import Callback, accuracy


def test_it_is_the_hand_written_loop(data):
    """Without dropout, a fit is exactly the loop that one would write."""
    gu.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 8), nn.Relu(), nn.Linear(8, CLASSES))
    twin = nn.Sequential(nn.Linear(6, 8), nn.Relu(), nn.Linear(8, CLASSES))
    twin.load_state_dict(model.state_dict())

    learner = make_learner(data, model=model, schedule=None, opt=partial(optim.SGD, lr=0.1))
    learner.fit(3)

    opt, loss = optim.SGD(twin.parameters(), lr=0.1), nn.CrossEntropy()
    total = 0.0
    for xb, yb in [b for e in range(3) for b in _epoch(data, e)]:
        value = loss(twin(xb), yb)
        total += value.item() * len(xb)
        value.backward()
        opt.step()
    for name, array in twin.state_dict().items():
        assert np.array_equal(array, model.state_dict()[name])
    assert sum(row["train_loss"] for row in learner.history) * 90 == pytest.approx(total)


def _epoch(data, epoch):
    batches = Batches(data.x_train, data.y_train, 16, shuffle=True, seed=3)
    batches.epoch = epoch
    return batches


def test_it_learns_and_keeps_a_history(learner):
    assert learner.fit(EPOCHS) is learner
    assert [row["epoch"] for row in learner.history] == [1, 2, 3, 4, 5, 6]
    assert list(learner.history[0]) == learner.columns
    assert learner.columns == ["epoch", "train_loss", "valid_loss", "accuracy", "lr", "seconds"]
    assert learner.history[-1]["train_loss"] < 0.8 * learner.history[0]["train_loss"]
    assert (learner.epoch, learner.batch, learner.step) == (6, 0, 36)
    assert "epoch=6, step=36" in repr(learner)


def test_one_seed_says_all():
    one, other = make_learner(), make_learner()
    one.fit(2)
    generator.default.uniform(100)  # what else the program draws changes nothing
    other.fit(1)
    generator.default.uniform(3)
    other.fit(1)
    assert same_weights(one, other)
    assert without_time(one.history) == without_time(other.history)
    assert not same_weights(one, make_learner(seed=4).fit(2))


def test_dropout_masks_depend_on_the_learners_seed():
    def weights(seed):
        learner = make_learner()
        learner.__init__(
            learner.model, make_data(), nn.CrossEntropy(), optim.SGD, seed=seed, display=False
        )
        return learner.fit(1)

    assert not same_weights(weights(0), weights(1))


def test_masks_are_not_made_of_the_numbers_that_made_the_weights():
    """The same seed for both is usual; the streams must not be the same all the same."""
    seen = []

    class Look(Callback):
        def after_loss(self, learner):
            seen.append(generator.default.state())

    gu.manual_seed(3)
    start = generator.default.state()
    make_learner(seed=3, callbacks=[Look()]).fit(1)
    assert seen[0][0] == start[0] == 3
    assert seen[0][1] > 2**60


def test_training_leaves_random_numbers_and_modes_as_they_were(learner):
    learner.model.layers[2].eval()
    before = generator.default.state()
    learner.fit(1)
    learner.predict(make_data().x_valid)
    assert generator.default.state() == before
    assert [m.training for m in learner.model.modules()] == [True, True, True, False, False, True]


def test_hooks_come_in_their_order_and_callbacks_in_theirs():
    calls = []

    class Told(Callback):
        def __init__(self, name, order=0):
            self.name, self.order = name, order

    def hook(name):
        return lambda self, learner: calls.append((name, self.name))

    from groundup.train.callbacks import HOOKS

    for name in HOOKS:
        setattr(Told, name, hook(name))
    make_learner(callbacks=[Told("late", 5), Told("a"), Told("b"), Told("first", -1)]).fit(1)
    assert [who for what, who in calls if what == "after_epoch"] == ["first", "a", "b", "late"]
    batch = ["before_batch", "after_loss", "after_backward", "after_step"]
    expected = ["before_fit", "before_epoch", *batch * 6, "after_epoch", "after_fit", "close"]
    assert [what for what, who in calls if who == "a"] == expected


def test_callbacks_see_and_may_change_what_goes_on():
    class Frozen(Callback):
        def after_backward(self, learner):
            for p in learner.opt.params:
                p.g = p.g * 0.0

    class Doubled(Callback):
        def after_loss(self, learner):
            assert learner.pred.shape == (len(learner.yb), CLASSES)
            learner.batch_loss = learner.batch_loss * 2.0

    frozen = make_learner(callbacks=[Frozen()])
    before = frozen.model.state_dict()
    frozen.fit(1)
    assert all(np.array_equal(v, before[k]) for k, v in frozen.model.state_dict().items())

    doubled = make_learner(callbacks=[Doubled()], schedule=lambda step: 0.05, opt=optim.SGD)
    plain = make_learner(schedule=lambda step: 0.1, opt=optim.SGD)
    assert same_weights_but_lr(doubled.fit(1), plain.fit(1))


def same_weights_but_lr(a, b):
    ours, theirs = a.model.state_dict(), b.model.state_dict()
    return all(np.allclose(ours[k], theirs[k], rtol=1e-5, atol=1e-6) for k in ours)


def test_a_callback_that_is_none_is_refused():
    class Mine(Callback):
        pass

    with pytest.raises(GroundupError, match=r"is no Callback: make an instance, with \(\)"):
        make_learner(callbacks=[Mine])


def test_a_callback_may_stop_and_close_is_called_even_after_an_error():
    closed = []

    class Stop(Callback):
        def after_epoch(self, learner):
            learner.stop = "enough"

        def close(self, learner):
            closed.append(learner.epoch)

    class Fails(Callback):
        def after_epoch(self, learner):
            raise RuntimeError("boom")

    assert make_learner(callbacks=[Stop()]).fit(9).epoch == 1
    with pytest.raises(RuntimeError, match="boom"):
        make_learner(callbacks=[Fails(), Stop()]).fit(9)
    assert closed == [1, 1]


def test_a_schedule_sets_the_rate_of_each_step():
    seen = []

    class Watch(Callback):
        def before_batch(self, learner):
            seen.append(learner.opt.lr)

    learner = make_learner(callbacks=[Watch()], schedule=lambda step: 1 / (step + 1))
    learner.fit(1)
    learner.fit(1)
    assert seen == [1 / (i + 1) for i in range(12)]
    assert learner.history[-1]["lr"] == 1 / 12


def test_opt_is_an_optimizer_or_what_makes_one(data):
    model = nn.Sequential(nn.Linear(6, CLASSES))
    adam = optim.Adam(model.parameters(), lr=0.01)
    assert make_learner(data, model=model, opt=adam).opt is adam
    assert make_learner(data, model=model, opt=optim.RMSprop).opt.params == adam.params
    with pytest.raises(GroundupError, match="Adam updates none of the model's parameters"):
        make_learner(data, opt=adam)
    with pytest.raises(GroundupError, match="opt makes a list"):
        make_learner(data, opt=list)


def test_without_valid_rows_nothing_is_validated(data):
    learner = make_learner((data.x_train, data.y_train, data.x_valid[:0], data.y_valid[:0]))
    learner.fit(1)
    assert list(learner.history[0]) == ["epoch", "train_loss", "lr", "seconds"]
    assert learner.validate() == {}


def test_batches_given_keep_their_place_and_size(data):
    train = Batches(data.x_train, data.y_train, 30, shuffle=True, seed=8)
    train.epoch = 7
    valid = Batches(data.x_valid, data.y_valid, 5)
    learner = make_learner((train, valid), batch_size=None).fit(2)
    assert (learner.step, train.epoch) == (6, 7)
    with pytest.raises(GroundupError, match="batch_size: the batches given have theirs"):
        make_learner((train, valid))


def test_predict_is_in_evaluation_mode_in_parts_and_of_any_float(learner, data):
    whole = learner.predict(data.x_valid)
    assert whole.shape == (33, CLASSES)
    assert whole.dtype == np.float32
    assert np.allclose(learner.predict(data.x_valid, rows=7), whole, atol=1e-6)
    assert np.array_equal(learner.predict(data.x_valid.astype(np.float64)), whole)
    assert np.array_equal(learner.predict(gu.Tensor(data.x_valid)), whole)
    assert learner.predict(data.x_valid[:0]).shape == (0, CLASSES)
    assert learner.model.training


def test_float64_data_trains_a_float32_model(data):
    wide = tuple(part.astype(np.float64) if part.dtype.kind == "f" else part for part in data)
    assert same_weights(make_learner(wide).fit(1), make_learner(data).fit(1))


def test_a_float64_model_stays_float64(data):
    model = nn.Sequential(nn.Linear(6, CLASSES)).double()
    learner = make_learner(data, model=model).fit(1)
    assert learner.predict(data.x_valid).dtype == np.float64


def test_weights_go_to_a_file_and_back(tmp_path, learner):
    path = tmp_path / "weights.safetensors"
    learner.fit(1)
    learner.save(path)
    other = make_learner(seed=9).load(path)
    assert all(
        np.array_equal(v, learner.model.state_dict()[k])
        for k, v in other.model.state_dict().items()
    )

    from safetensors.numpy import load_file

    assert set(load_file(path)) == set(learner.model.state_dict())


def test_weights_that_do_not_fit_are_refused(tmp_path, learner, data):
    path = tmp_path / "weights.safetensors"
    make_learner(data, model=nn.Sequential(nn.Linear(6, CLASSES))).save(path)
    with pytest.raises(
        StateError, match=r"weights.safetensors: this state does not fit Sequential"
    ):
        learner.load(path)
    with pytest.raises(DataNotFoundError, match="there is no file"):
        learner.load(tmp_path / "none")
    path.write_bytes(path.read_bytes()[:-3])
    with pytest.raises(StateError, match="is damaged or no safetensors file"):
        learner.load(path)


# The learning-rate search


def test_lr_find_suggests_a_rate_that_works_and_changes_nothing():
    learner, twin = make_learner(), make_learner()
    own = nn.Dropout(0.1, generator=gu.Generator(4))
    for one in (learner, twin):
        one.model.layers.insert(
            0, own if one is learner else nn.Dropout(0.1, generator=gu.Generator(4))
        )
    learner.fit(1)
    twin.fit(1)
    before = generator.default.state()
    found = learner.lr_find()
    assert generator.default.state() == before
    assert same_weights(learner, twin)
    assert 1e-3 < found.suggestion < 3
    assert found.suggestion in found.lrs
    assert list(found.lrs) == sorted(found.lrs)
    assert found.losses[-1] > 2 * min(found.losses)  # it went on until the loss exploded
    learner.fit(2)
    twin.fit(2)
    assert same_weights(learner, twin)  # the random numbers are the same, too
    assert without_time(learner.history) == without_time(twin.history)


def test_lr_find_suggests_where_the_loss_falls_the_fastest(data):
    learner = make_learner(data, schedule=None, opt=optim.SGD, model=nn.Sequential(nn.Linear(6, 3)))
    found = learner.lr_find()
    rate = {}
    for factor in (0.01, 1.0):
        trial = make_learner(data, opt=optim.SGD, schedule=lambda s, f=factor: f * found.suggestion)
        rate[factor] = trial.fit(1).history[-1]["train_loss"]
    assert rate[1.0] < rate[0.01]


def test_lr_find_says_when_the_loss_never_fell(data):
    learner = make_learner(
        data, model=nn.Sequential(nn.Linear(6, 8), nn.Linear(8, 3)), opt=optim.SGD
    )
    with pytest.raises(GroundupError, match=r"the loss never fell between lr=1000 and 1e\+06"):
        learner.lr_find(1e3, 1e6)
    with pytest.raises(GroundupError, match="0 < lr_min < lr_max and 10 steps or more"):
        learner.lr_find(1.0, 0.1)


def test_lr_find_restores_even_after_an_error(monkeypatch):
    learner, twin = make_learner(), make_learner()
    monkeypatch.setattr(learner.opt, "step", lambda: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        learner.lr_find()
    monkeypatch.undo()
    assert same_weights(learner.fit(1), twin.fit(1))


def test_importing_it_is_light():
    code = (
        "import sys, groundup.train\n"
        "heavy = 'rich typer matplotlib safetensors PIL pandas json IPython'.split()\n"
        "assert not set(heavy) & set(sys.modules), set(heavy) & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_metrics_may_be_any_function(data):
    def half(pred, targ):
        return 0.5

    assert make_learner(data, metrics=[half, accuracy]).fit(1).history[0]["half"] == 0.5
