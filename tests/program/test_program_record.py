"""What a recorded step may not do silently: each trap is right, or a clear error."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from steps import labels, mlp, numbers, training

import groundup as gu
from groundup import Tensor, nn, optim
from groundup.errors import (
    GradientError,
    LabelError,
    ProgramError,
    RecompileWarning,
    RecordError,
    ShapeError,
)
from groundup.nn import Buffer, Module, Parameter


def same(a: Tensor, b: Tensor) -> bool:
    return a.data.tobytes() == b.data.tobytes()


def model_and_step() -> tuple[nn.Sequential, Any, Callable[..., Any]]:
    model = mlp(5, 4, 3)
    opt = optim.SGD(model.parameters(), 0.1)
    made = training(model, nn.CrossEntropy(), opt, [])
    return model, opt, made.function


X, Y = numbers(6, 5), labels(6, 3)


# Reading values

READS: dict[str, Callable[[Tensor], Any]] = {
    "item": lambda t: t.sum().item(),
    "float": lambda t: float(t.sum()),
    "int": lambda t: int(t.sum()),
    "bool": lambda t: 1.0 if t.sum() > 0 else 0.0,
    "numpy": lambda t: t.numpy(),
    "data": lambda t: t.data * 2,
    "tolist": lambda t: t.tolist(),
    "asarray": lambda t: np.asarray(t),
    "concatenate": lambda t: np.concatenate([t, t]),
    "iterate": lambda t: list(t),
    "unpack": lambda t: [*t],
    "index": lambda t: [1, 2, 3][t.argmax(0)[0]],
    "format": lambda t: f"{t.sum():.3f}",
    "mask": lambda t: t[t > 0],
    "any": lambda t: 1.0 if (t > 0).any() else 0.0,
    "comparison": lambda t: max(t.sum(), t.mean()),
    "copy": lambda t: __import__("copy").deepcopy(t),
}


@pytest.mark.parametrize("how", READS)
def test_reading_a_value_is_an_error_that_names_the_line(how: str) -> None:
    def step(x: Tensor) -> Tensor:
        READS[how](x * 2.0)
        return x.sum()

    with pytest.raises(
        RecordError, match=r"test_program_record\.py:\d+, in .*reads the value.*return it"
    ):
        gu.record(step, X)


def test_writing_data_is_an_error() -> None:
    w = Parameter(numbers(5, 3))

    def step(x: Tensor) -> Tensor:
        loss = (x @ w).sum()
        loss.backward()
        w.data -= 0.1 * w.g.data
        return loss

    before = w.numpy().copy()
    with pytest.raises(RecordError, match=r"`w\.data -= .*\.data reads"):
        gu.record(step, X)
    assert np.array_equal(w.numpy(), before)


def test_looking_at_a_tensor_in_a_debugger_is_none() -> None:
    seen = []

    def step(x: Tensor) -> Tensor:
        seen[:] = [repr(x), str(x.sum()), len(x), x.shape]
        return x.sum()

    with pytest.raises(RecordError, match="seen"):  # the list changed
        gu.record(step, X)
    assert seen[:2] == ["Tensor(shape=(6, 5), dtype=float32)", "Tensor(shape=(), dtype=float32)"]


# Trap 1: a branch


def test_a_branch_on_a_value_is_an_error() -> None:
    def step(x: Tensor) -> Tensor:
        y = x.sum()
        if y > 0:
            return y
        return -y

    with pytest.raises(RecordError, match=r"`if y > 0:`.*gu\.where"):
        gu.compile(step)(X)


def test_a_branch_on_a_python_value_is_recorded_again() -> None:
    class Model(Module):
        def __init__(self) -> None:
            self.lin, self.extra = nn.Linear(5, 5), False

        def forward(self, x: Tensor) -> Tensor:
            return self.lin(x).tanh() if self.extra else self.lin(x)

    model = Model()
    step = gu.compile(lambda x: model(x).sum())
    for extra in (False, True, False, False, True, True, False):
        model.extra = extra
        for _ in range(3):
            assert same(step(X), model(X).sum())
    assert step.recordings == 4  # twice for each way


def test_training_and_evaluation_are_two_recordings() -> None:
    model = nn.Sequential(nn.Linear(5, 4), nn.Dropout(0.5, generator=gu.Generator(1)))
    step = gu.compile(lambda x: model(x))
    for _ in range(3):
        model.train()
        dropped = [step(X) for _ in range(4)]
        model.eval()
        whole = [step(X) for _ in range(4)]
        assert len({t.data.tobytes() for t in dropped}) == 4
        assert all(same(t, model(X)) for t in whole)


def test_modes_and_hooks_that_come_later_are_seen() -> None:
    model = nn.Sequential(nn.Linear(5, 4), nn.Dropout(0.5, generator=gu.Generator(1)))
    step = gu.compile(lambda x: model(x))
    for _ in range(4):
        step(X)
    model.eval()  # no mode was set before
    assert same(step(X), model(X))
    seen: list[int] = []
    for _ in range(3):
        step(X)
    model.register_forward_hook(lambda module, args, out: seen.append(1))
    with pytest.raises(RecordError, match="len"):
        step(X)


# Trap 2: a Python counter


def test_a_counter_is_an_error() -> None:
    count = 0

    def step(x: Tensor) -> Tensor:
        nonlocal count
        count += 1
        return x.sum() * count

    with pytest.raises(RecordError, match=r"count \(0 before, 1 after\).*Buffer"):
        gu.compile(step)(X)


def test_a_counter_in_an_object_is_an_error() -> None:
    class Counting(Module):
        def __init__(self) -> None:
            self.calls = 0

        def forward(self, x: Tensor) -> Tensor:
            self.calls += 1
            return x * 2.0

    model = Counting()
    with pytest.raises(RecordError, match=r"model\.calls \(0 before, 1 after\)"):
        gu.compile(lambda x: model(x))(X)


def test_a_counter_in_a_buffer_is_right() -> None:
    count = Buffer(np.zeros((), np.float32))

    def step(x: Tensor) -> Tensor:
        count.assign(count + 1.0)
        return x.sum() * count

    compiled = gu.compile(step)
    got = [compiled(X).item() / X.sum() for _ in range(5)]
    assert got == pytest.approx([1, 2, 3, 4, 5], rel=1e-5)


# Trap 3: a baked-in learning rate

RATE = 0.1
CONFIG = {"lr": 0.1}


class Settings:
    lr = 0.1


@dataclass(slots=True)
class Slotted:
    lr: float = 0.1


@pytest.mark.parametrize(
    "where", ["global", "dict", "class", "closure", "object", "slots", "default", "list"]
)
def test_a_learning_rate_that_changes_is_seen(where: str, monkeypatch: pytest.MonkeyPatch) -> None:
    w = Parameter(numbers(5, 3))
    lr = 0.1
    holder, slotted = Settings(), Slotted()
    rates = [0.1]

    def rate() -> float:
        return {
            "global": lambda: RATE, "dict": lambda: CONFIG["lr"], "class": lambda: Settings.lr,
            "closure": lambda: lr, "slots": lambda: slotted.lr, "object": lambda: holder.lr,
            "list": lambda: rates[0], "default": lambda r=RATE: r,
        }[where]()  # fmt: skip

    def step(x: Tensor) -> Tensor:
        loss = (x @ w).sum()
        loss.backward()
        with gu.no_grad():
            w.assign(w - rate() * w.g)
        return loss

    compiled = gu.compile(step)

    def change() -> float:
        before = w.numpy().copy()
        compiled(X)
        return float(np.abs(w.numpy() - before).max())

    first = [change() for _ in range(4)]
    if where == "default":
        return
    if where == "closure":
        lr = 0.2
    elif where == "list":
        rates[0] = 0.2
    elif where == "global":
        monkeypatch.setitem(globals(), "RATE", 0.2)
    elif where == "dict":
        monkeypatch.setitem(CONFIG, "lr", 0.2)
    else:
        owner = {"class": Settings, "object": holder, "slots": slotted}[where]
        monkeypatch.setattr(owner, "lr", 0.2)
    assert [change() for _ in range(4)] == pytest.approx([2 * f for f in first], rel=1e-4)


def test_an_optimizers_settings_are_read_anew() -> None:
    model, opt, step = model_and_step()
    other, theirs, eager = model_and_step()
    compiled = gu.compile(step)
    for i in range(8):
        opt.lr = theirs.lr = 0.1 / (i + 1)
        compiled(X, Y)
        eager(X, Y)
        assert all(same(p, q) for p, q in zip(model.parameters(), other.parameters(), strict=True))
    assert compiled.recordings == 2


def test_a_setting_that_becomes_zero_is_recorded_again() -> None:
    models = [mlp(5, 4, 3), mlp(5, 4, 3)]
    opts = [optim.SGD(m.parameters(), 0.1, momentum=0.9, weight_decay=0.1) for m in models]
    steps = [
        training(m, nn.CrossEntropy(), o, []).function for m, o in zip(models, opts, strict=True)
    ]
    compiled = gu.compile(steps[0])
    for decay in (0.1, 0.2, 0.3, 0.0, 0.0, 0.0, 0.4, 0.4):
        for opt in opts:
            opt.weight_decay = decay
        compiled(X, Y)
        steps[1](X, Y)
        both = zip(models[0].parameters(), models[1].parameters(), strict=True)
        assert all(same(p, q) for p, q in both)
    assert compiled.recordings == 4


def test_a_float_argument_is_a_setting() -> None:
    step = gu.compile(lambda x, scale: x.sum() * scale)
    got = [step(X, s).item() / X.sum() for s in (1.0, 2.0, 3.0, 4.0)]
    assert got == pytest.approx([1, 2, 3, 4], rel=1e-5)
    assert step.recordings == 2
    (scale,) = step.program.inputs_of("setting")
    assert scale.var.name == "scale"


def test_what_changes_at_each_call_makes_a_warning() -> None:
    rate = 0.0

    def step(x: Tensor) -> Tensor:
        return x.sum() * rate

    compiled = gu.compile(step)

    def change() -> None:
        nonlocal rate
        for i in range(12):
            rate = float(i)
            assert compiled(X).item() == pytest.approx(i * X.sum(), rel=1e-5)

    with pytest.warns(RecompileWarning, match=r"step has been recorded .*rate was .*argument"):
        change()


# Trap 4: a list that grows


def test_a_list_that_grows_is_an_error() -> None:
    losses: list[Tensor] = []

    def step(x: Tensor) -> Tensor:
        loss = x.sum()
        losses.append(loss)
        return loss

    with pytest.raises(RecordError, match=r"len\(losses\) \(0 before, 1 after\).*return it"):
        gu.compile(step)(X)


def test_a_list_that_another_function_fills_is_seen() -> None:
    parts = [1.0]

    def step(x: Tensor) -> Tensor:
        return sum((x * p for p in parts), Tensor(0.0)).sum()

    compiled = gu.compile(step)
    for n in range(1, 5):
        for _ in range(3):
            assert compiled(X).item() == pytest.approx(n * X.sum(), rel=1e-4)
        parts.append(1.0)


# Trap 5: buffers that are used again


def test_results_are_not_written_over_by_the_next_call() -> None:
    model, _, _step = model_and_step()
    compiled = gu.compile(lambda x: (model(x), x.T, model.layers[0].w * 1.0, x))
    batches = [numbers(6, 5, seed=i) for i in range(6)]
    kept = [compiled(b) for b in batches]
    copies = [[t.data.copy() for t in outs] for outs in kept]
    compiled(numbers(6, 5, seed=99))
    for outs, saved in zip(kept, copies, strict=True):
        assert all(np.array_equal(t.data, c) for t, c in zip(outs, saved, strict=True))
    assert np.array_equal(kept[4][0].data, model(batches[4]).data)


def test_an_input_array_that_is_filled_again_is_read_again() -> None:
    model, _, _ = model_and_step()
    buffer = np.empty((6, 5), np.float32)
    compiled = gu.compile(lambda: model(buffer))  # not even an argument
    for i in range(5):
        buffer[...] = numbers(6, 5, seed=i)
        assert same(compiled(), model(buffer))


def test_a_numpy_buffer_filled_in_the_step_is_an_error() -> None:
    buffer = np.empty((6, 5), np.float32)

    def step(x: Tensor) -> Tensor:
        buffer[...] = x * 2.0
        return (Tensor(buffer) + x).sum()

    with pytest.raises(RecordError, match="reads the value"):
        gu.compile(step)(X)


def test_a_view_taken_before_an_update_is_an_error_after_it() -> None:
    w = Parameter(numbers(5, 3))

    def step(x: Tensor) -> Tensor:
        turned = w.T
        with gu.no_grad():
            w.assign(w * 0.5)
        return (x @ turned.T).sum()

    with pytest.raises(RecordError, match=r"view of shape \(3, 5\).*before that was updated"):
        gu.compile(step)(X)


def test_old_and_new_values_of_what_is_updated() -> None:
    def make() -> tuple[Any, Parameter, Buffer]:
        w, seen = Parameter(numbers(3)), Buffer(numbers(3, seed=1))

        def step(x: Tensor) -> Any:
            old = w * 1.0
            with gu.no_grad():
                seen.assign(w)
                w.assign(w + x)
                w.assign(w * 2.0)
            return old, w - seen, seen

        return step, w, seen

    (eager, w1, s1), (step, w2, s2) = make(), make()
    compiled = gu.compile(step)
    x = numbers(3, seed=2)
    for _ in range(5):
        for a, b in zip(eager(x), compiled(x), strict=True):
            assert same(a, b)
        assert same(w1, w2)
        assert same(s1, s2)
    assert compiled(x)[2] is s2  # state itself, as the step returns it
    eager(x)
    given = compiled.arguments(x)
    for a, b in zip(eager(x), compiled.program.function()(**given), strict=True):
        assert a.data.tobytes() == b.tobytes()


def test_two_parameters_that_swap() -> None:
    a, b = Buffer(numbers(3)), Buffer(numbers(3, seed=1))

    def step(x: Tensor) -> Tensor:
        old = a * 1.0
        a.assign(b)
        b.assign(old)
        return (a - b) * x

    compiled = gu.compile(step)
    first, second = a.numpy().copy(), b.numpy().copy()
    for i in range(6):
        compiled(numbers(3))
        want = (first, second) if i % 2 else (second, first)
        assert np.array_equal(a.numpy(), want[0])
        assert np.array_equal(b.numpy(), want[1])


# Trap 6: other shapes


def test_another_batch_size_is_recorded_for_itself() -> None:
    model, _, step = model_and_step()
    other, _, eager = model_and_step()
    compiled = gu.compile(step)
    for n in (6, 6, 6, 4, 6, 4, 4, 1, 6, 1, 1):
        x, y = numbers(n, 5, seed=n), labels(n, 3, seed=n)
        assert same(compiled(x, y), eager(x, y))
        assert all(same(p, q) for p, q in zip(model.parameters(), other.parameters(), strict=True))
    assert compiled.recordings == 6


def test_another_dtype_is_recorded_for_itself() -> None:
    step = gu.compile(lambda x: (x * 2).sum())
    for _ in range(3):
        for dtype in (np.float32, np.float64, np.int64):
            assert step(X.astype(dtype)).dtype == (X.astype(dtype) * 2).sum().dtype


def test_only_so_many_recordings_are_kept() -> None:
    step = gu.compile(lambda x: x.sum())
    for n in range(1, 40):
        assert step(np.ones(n, np.float32)).item() == n
    assert sum(map(len, step._entries.values())) <= 16


# Randomness


def test_numpys_random_numbers_are_an_error() -> None:
    rng = np.random.default_rng(0)

    def step(x: Tensor) -> Tensor:
        return (x + rng.standard_normal((6, 5)).astype(np.float32)).sum()

    compiled = gu.compile(step)
    compiled(X)
    with pytest.raises(RecordError, match=r"does not do the same at every call.*gu\.randn"):
        compiled(X)


def test_the_time_is_an_error() -> None:
    compiled = gu.compile(lambda x: x.sum() * time.perf_counter())
    compiled(X)
    with pytest.raises(RecordError, match="does not do the same at every call"):
        compiled(X)


def test_groundups_random_numbers_are_drawn_anew_and_repeat() -> None:
    def step(x: Tensor) -> Any:
        return x * gu.rand(6, 5), gu.randn(6, 5)

    gu.manual_seed(11)
    eager = [step(Tensor(X)) for _ in range(5)]
    gu.manual_seed(11)
    compiled = gu.compile(step)
    for want in eager:
        assert all(same(a, b) for a, b in zip(want, compiled(X), strict=True))
    gu.manual_seed(11)
    assert all(same(a, b) for a, b in zip(eager[0], compiled(X), strict=True))
    assert compiled.recordings == 2


# Gradients


def test_a_gradient_that_was_not_kept_is_an_error() -> None:
    model, _, step = model_and_step()
    compiled = gu.compile(step)
    for _ in range(3):
        compiled(X, Y)
    with pytest.raises(GradientError, match="keep_gradients=True"):
        _ = model.layers[0].w.g
    with pytest.raises(GradientError, match="keep_gradients=True"):
        optim.SGD(model.parameters(), 0.1).step()
    nn.CrossEntropy()(model(X), Y).backward()  # an eager backward pass makes them anew
    assert model.layers[0].w.g.shape == (5, 4)


def test_kept_gradients_are_the_eager_ones() -> None:
    model, _, step = model_and_step()
    other, _, eager = model_and_step()
    compiled = gu.compile(step, keep_gradients=True)
    x = Tensor(X, requires_grad=True)
    for _ in range(5):
        assert same(compiled(x, Y), eager(x, Y))
        for p, q in zip(model.parameters(), other.parameters(), strict=True):
            assert same(p.g, q.g)
            assert same(p, q)
    kept = x.g
    eager(x, Y)
    assert kept.shape == x.g.shape


def test_a_returned_gradient_can_be_read() -> None:
    w = Parameter(numbers(5, 3))

    @gu.compile
    def step(x: Tensor) -> Any:
        loss = (x @ w).square().sum()
        loss.backward()
        return loss, w.g

    for _ in range(4):
        _loss, gradient = step(X)
        assert same(gradient, w.g)
    (X @ w).square().sum().backward()
    assert same(gradient, w.g)


def test_gradients_of_before_the_step_are_an_error() -> None:
    w = Parameter(numbers(5, 3))
    opt = optim.SGD([w], 0.1)
    (X @ w).sum().backward()
    with pytest.raises(RecordError, match="computed before the step"):
        gu.record(lambda: opt.step())

    def add_up(x: Tensor) -> Tensor:
        loss = (x @ w).sum()
        loss.backward(accumulate=True)
        return loss

    with pytest.raises(RecordError, match="computed before the step"):
        gu.record(add_up, X)


def test_accumulating_within_the_step_is_right() -> None:
    w = Parameter(numbers(5, 3))

    def step(a: Tensor, b: Tensor) -> Any:
        (a @ w).square().sum().backward()
        (b @ w).square().sum().backward(accumulate=True)
        return w.g

    compiled = gu.compile(step)
    for i in range(4):
        a, b = numbers(6, 5, seed=i), numbers(6, 5, seed=i + 50)
        assert same(compiled(a, b), step(Tensor(a), Tensor(b)))


# What may change around a step


def test_eager_and_compiled_steps_mix() -> None:
    for make in (optim.SGD, optim.Adam, optim.AdamW, optim.RMSprop):
        models = [mlp(5, 4, 3), mlp(5, 4, 3)]
        opts = [make(m.parameters(), 0.01) for m in models]
        steps = [
            training(m, nn.CrossEntropy(), o, []).function
            for m, o in zip(models, opts, strict=True)
        ]
        compiled = gu.compile(steps[0])
        for i in range(9):
            (steps[0] if i % 4 == 3 else compiled)(X, Y)
            steps[1](X, Y)
            both = zip(models[0].parameters(), models[1].parameters(), strict=True)
            assert all(same(p, q) for p, q in both)
        saved = [o.state_dict() for o in opts]
        assert all(np.array_equal(saved[0][k], saved[1][k]) for k in saved[1])
        assert opts[0].steps == 9


def test_weights_may_be_loaded_frozen_and_converted() -> None:
    model, _, step = model_and_step()
    other, _, eager = model_and_step()
    compiled = gu.compile(step)

    def check(x: Any = X) -> None:
        for _ in range(3):
            assert same(compiled(x, Y), eager(x, Y))
            both = zip(model.parameters(), other.parameters(), strict=True)
            assert all(same(p, q) for p, q in both)

    check()
    saved = {k: v * 0.5 for k, v in model.state_dict().items()}
    for m in (model, other):
        m.load_state_dict(saved)
    check()
    for m in (model, other):
        m.layers[0].requires_grad_(False)
    check()
    for m in (model, other):
        m.layers[0].requires_grad_(True)
        m.double()
    check(X.astype(np.float64))
    for m in (model, other):
        m.layers[0].w = Parameter(numbers(5, 4, seed=77, dtype=np.float64))
    # The optimizers still hold the old weight, in both alike.
    check(X.astype(np.float64))


def test_a_layer_that_keeps_its_output_for_bwd_is_right() -> None:
    class Keeps(Module):
        def forward(self, x: Tensor) -> Tensor:
            self.mask = x > 0
            return x * self.mask

        def bwd(self, out: Tensor, x: Tensor) -> None:
            x.g = out.g * self.mask

    def make() -> Any:
        gu.manual_seed(2)
        model = nn.Sequential(nn.Linear(5, 4), Keeps(), nn.Linear(4, 3))
        return model, training(
            model, nn.CrossEntropy(), optim.SGD(model.parameters(), 0.1), []
        ).function

    (model, step), (other, eager) = make(), make()
    compiled = gu.compile(step)
    for i in range(5):
        x = numbers(6, 5, seed=i)
        assert same(compiled(x, Y), eager(x, Y))
    assert all(same(p, q) for p, q in zip(model.parameters(), other.parameters(), strict=True))


def test_methods_and_keywords() -> None:
    class Trainer:
        def __init__(self) -> None:
            self.model = mlp(5, 4, 3)
            self.scale = 2.0

        @gu.compile
        def step(self, x: Tensor, *, extra: Any = None) -> Any:
            out = self.model(x) * self.scale
            return {"out": out if extra is None else out + extra["bias"], "n": None}

    trainer, second = Trainer(), Trainer()
    second.scale = 3.0
    bias = numbers(3)
    for _ in range(4):
        for t in (trainer, second):
            plain = t.model(X) * t.scale
            assert same(t.step(X)["out"], plain)
            assert same(t.step(X, extra={"bias": bias})["out"], plain + bias)


def test_a_compiled_model_predicts() -> None:
    model = mlp(5, 4, 3)
    fast = gu.compile(model)
    with gu.no_grad():
        for n in (1, 1, 1, 7, 7, 7):
            x = numbers(n, 5, seed=n)
            assert same(fast(x), model(x))
    assert "def sequential(inp, w1, b1, w2, b2):" in str(fast.program)


def test_compiled_within_compiled() -> None:
    model = mlp(5, 4, 3)
    inner = gu.compile(lambda x: model(x))
    inner(X)
    outer = gu.compile(lambda x: inner(x).sum())
    for i in range(4):
        assert same(outer(numbers(6, 5, seed=i)), model(numbers(6, 5, seed=i)).sum())


# Errors leave all as it was


@pytest.mark.parametrize("call", [0, 1, 2, 3])
def test_a_bad_label_changes_nothing(call: int) -> None:
    for make in (optim.SGD, optim.Adam):
        model = mlp(5, 4, 3)
        opt = make(model.parameters(), 0.1)
        compiled = gu.compile(training(model, nn.CrossEntropy(), opt, []).function)
        for _ in range(call):
            compiled(X, Y)
        before, held = model.state_dict(), opt.state_dict()
        wrong = Y.copy()
        wrong[4] = 3
        with pytest.raises(LabelError, match=r"label 3 at index 4 is outside 0\.\.2"):
            compiled(X, wrong)
        assert all(np.array_equal(v, before[k]) for k, v in model.state_dict().items())
        assert all(np.array_equal(v, held[k]) for k, v in opt.state_dict().items())
        compiled(X, Y)


def test_an_error_after_the_update_undoes_it() -> None:
    model = mlp(5, 4, 3)
    opt = optim.Adam(model.parameters(), 0.1)
    inner = training(model, nn.CrossEntropy(), opt, []).function

    def step(x: Tensor, y: Tensor) -> Tensor:
        inner(x, y)
        raise ZeroDivisionError("after the update")

    before, held = model.state_dict(), opt.state_dict()
    with pytest.raises(ZeroDivisionError):
        gu.compile(step)(X, Y)
    assert all(np.array_equal(v, before[k]) for k, v in model.state_dict().items())
    assert all(np.array_equal(v, held[k]) for k, v in opt.state_dict().items())
    assert model.layers[0].w.g is None


def test_wrong_results_of_an_engine_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    from groundup.compiled import step as module

    class Wrong(module.Runner):
        def __call__(self, values: Any) -> Any:
            return {k: v + np.float32(1e-3) for k, v in super().__call__(values).items()}

    monkeypatch.setattr(module, "Runner", Wrong)
    model, _, step = model_and_step()
    before = model.state_dict()
    with pytest.raises(
        ProgramError, match=r"output loss is not what the eager step computed: at \(\)"
    ):
        gu.compile(step)(X, Y)
    assert all(np.array_equal(v, before[k]) for k, v in model.state_dict().items())


def test_a_shape_error_names_what_came() -> None:
    _, _, step = model_and_step()
    with pytest.raises(ShapeError, match=r"Linear\(5, 4\): the input's last length must be 5"):
        gu.compile(step)(numbers(6, 7), Y)


@pytest.mark.parametrize(
    ("function", "args", "message"),
    [
        (lambda x: 3.0, (X,), "returns float"),
        (lambda x: (x, "a"), (X,), "returns str"),
        (lambda x: x * x, (Tensor(X, requires_grad=True) * 2.0,), "computed by mul outside"),
        (lambda x, y: x + y, (X, X), "two arguments .* are one array"),
    ],
)
def test_refused(function: Any, args: tuple[Any, ...], message: str) -> None:
    with pytest.raises(RecordError, match=message):
        gu.record(function, *args)


def test_recording_within_recording_is_refused() -> None:
    with pytest.raises(RecordError, match="being recorded already"):
        gu.record(lambda x: gu.record(lambda z: z * 2.0, x) and x, X)


def test_an_engine_that_is_none_is_refused() -> None:
    with pytest.raises(gu.errors.GroundupError, match="no engine 'cuda'"):
        gu.compile(lambda x: x, engine="cuda")
    with pytest.raises(gu.errors.GroundupError, match="not been called yet"):
        _ = gu.compile(lambda x: x).program
    with pytest.raises(gu.errors.GroundupError, match="takes a function"):
        gu.compile(3)


def test_a_model_may_be_an_argument() -> None:
    def step(model: Module, opt: optim.Optimizer, x: Tensor, y: Tensor) -> Tensor:
        loss = nn.CrossEntropy()(model(x), y)
        loss.backward()
        opt.step()
        return loss

    models = [mlp(5, 4, 3), mlp(5, 4, 3)]
    opts = [optim.Adam(m.parameters(), 0.1) for m in models]
    compiled = gu.compile(step)
    for i in range(8):
        for o in opts:
            o.lr = 0.1 / (i + 1)
        a, b = compiled(models[0], opts[0], X, Y), step(models[1], opts[1], Tensor(X), Tensor(Y))
        assert same(a, b)
        both = zip(models[0].parameters(), models[1].parameters(), strict=True)
        assert all(same(p, q) for p, q in both)
    assert compiled.recordings == 2


def test_what_is_written_to_is_no_argument() -> None:
    def step(w: Tensor) -> Tensor:
        return w.assign(w * 2.0)

    with pytest.raises(RecordError, match="writes to its argument of shape"):
        gu.record(step, Buffer(numbers(3)))


def test_a_learning_rate_that_the_step_changes_is_an_error() -> None:
    model = mlp(5, 4, 3)
    opt = optim.SGD(model.parameters(), 0.1)
    inner = training(model, nn.CrossEntropy(), opt, []).function

    def step(x: Tensor, y: Tensor) -> Tensor:
        loss = inner(x, y)
        opt.lr *= 0.9
        return loss

    with pytest.raises(RecordError, match=r"opt\.lr \(0\.1 before, 0\.09"):
        gu.compile(step)(X, Y)


def test_weights_copied_out_are_an_error() -> None:
    model, other = mlp(5, 4, 3), mlp(5, 4, 3)

    def step(x: Tensor) -> Tensor:
        other.load_state_dict({k: 0.5 * v for k, v in model.state_dict().items()})
        return other(x)

    with pytest.raises(RecordError, match="reads the value"):
        gu.record(step, X)


def test_a_constant_that_is_returned_is_the_callers_own() -> None:
    step = gu.compile(lambda x: (x.sum(), gu.zeros(3), gu.ones(2) * 3.0))
    for _ in range(5):
        _, zeros, threes = step(X)
        assert zeros.tolist() == [0, 0, 0]
        assert threes.tolist() == [3, 3]
        zeros.data[:] = 7
        threes.data[:] = 7


def test_updates_that_read_each_others_old_values() -> None:
    def make() -> tuple[Any, list[Buffer]]:
        a, b, c = (Buffer(numbers(3, seed=i)) for i in range(3))

        def step(x: Tensor) -> Tensor:
            kept = b * 1.0
            b.assign(x - b)
            a.assign(a + kept)
            c.assign(x / c)
            return x.sum()

        return step, [a, b, c]

    (eager, ours), (step, theirs) = make(), make()
    compiled = gu.compile(step)
    for i in range(5):
        x = numbers(3, seed=20 + i)
        if i:
            given = compiled.arguments(x)
            compiled.program.function()(**given)
        eager(Tensor(x))
        compiled(x)
        assert all(same(p, q) for p, q in zip(ours, theirs, strict=True))
        if i:
            now = compiled.arguments(x)
            assert all(np.array_equal(given[k], now[k]) for k in given)


def test_an_array_that_is_put_in_a_parameter_is_seen() -> None:
    model = mlp(5, 4, 3)
    fast = gu.compile(lambda x: model(x))
    for i in range(3):
        model.layers[0].w.data = numbers(5, 4, seed=i)
        for _ in range(4):
            assert same(fast(X), model(X))


def test_whose_gradients_are_asked_for_is_seen() -> None:
    w = Parameter(numbers(5, 3))

    def step(x: Tensor) -> Any:
        loss = (x @ w).square().sum()
        loss.backward()
        return loss, x.g

    compiled = gu.compile(step)
    for _ in range(3):
        assert compiled(Tensor(X))[1] is None
        x = Tensor(X, requires_grad=True)
        assert same(compiled(x)[1], step(x)[1])


def test_rules_of_layers_are_recorded_for_themselves() -> None:
    class Wrong(Module):
        def forward(self, x: Tensor) -> Tensor:
            return x * 2.0

        def bwd(self, out: Tensor, x: Tensor) -> None:
            x.g = out.g * 3.0

    w, wrong = Parameter(numbers(5)), Wrong()

    def step(x: Tensor) -> Any:
        wrong(x * w).sum().backward()
        return w.g

    compiled = gu.compile(step)
    for _ in range(3):
        by_rule = compiled(X[0])
        with gu.autograd_only():
            by_ops = compiled(X[0])
        np.testing.assert_allclose(by_rule.data, 1.5 * by_ops.data, rtol=1e-6)


def test_a_step_that_is_not_the_same_again_changes_nothing() -> None:
    w, rng = Parameter(numbers(3)), np.random.default_rng(0)
    opt = optim.Adam([w], 0.1)

    def step(x: Tensor) -> Tensor:
        loss = (w * x * rng.random(3).astype(np.float32)).sum()
        loss.backward()
        opt.step()
        return loss

    compiled = gu.compile(step)
    compiled(X[0, :3])
    before, held = w.data.copy(), opt.state_dict()
    with pytest.raises(RecordError, match="does not do the same"):
        compiled(X[0, :3])
    assert np.array_equal(w.data, before)
    assert all(np.array_equal(v, held[k]) for k, v in opt.state_dict().items())


def test_masks_and_indices_around_the_step_are_read_anew() -> None:
    mask, rows = np.array([True, False, True, False, True, False]), np.array([0, 2])
    by_mask, by_rows = gu.compile(lambda x: x[mask].sum()), gu.compile(lambda x: x[rows].sum())
    for i in range(5):
        rows[1] = i
        mask[i] = not mask[i]
        for _ in range(3):
            assert by_rows(X).item() == pytest.approx(X[rows].sum(), rel=1e-5)
            assert by_mask(X).item() == pytest.approx(X[mask].sum(), rel=1e-5)
    assert by_rows.recordings == 2


def test_constants_keep_the_sign_of_zero_and_may_be_empty() -> None:
    signed = gu.compile(lambda x: x * np.array([0.0, -0.0], np.float32))
    empty = gu.compile(lambda x: x + Tensor(np.zeros((0, 3), np.float32)))
    for _ in range(3):
        assert np.signbit(signed(np.ones(2, np.float32)).data).tolist() == [False, True]
        assert empty(np.zeros((0, 3), np.float32)).shape == (0, 3)


def test_an_update_from_another_order_in_memory() -> None:
    held = Buffer(np.zeros((40, 30), np.float32))

    def step(x: Tensor) -> Tensor:
        y = x.T.exp()
        held.assign(y)
        return y.sum(0)

    compiled = gu.compile(step)
    for i in range(4):
        x = numbers(30, 40, seed=i)
        wanted = step(Tensor(x))
        assert same(compiled(x), wanted)
        printed = compiled.program.function()(**compiled.arguments(x))
        assert np.asarray(printed).tobytes() == wanted.data.tobytes()


def test_means_of_half_precision() -> None:
    compiled = gu.compile(lambda x: x.mean(0) * 1.5)
    for i in range(4):
        x = numbers(30, 40, seed=i).astype(np.float16)
        assert same(compiled(x), Tensor(x).mean(0) * 1.5)


def test_settings_in_objects_of_a_script_are_seen() -> None:
    """A class of a script is in the module __main__; other packages' objects cost little."""
    pandas = pytest.importorskip("pandas")
    script = """
class Settings:
    def __init__(self):
        self.lr = 0.1

class Trainer:
    def __init__(self, extra):
        self.settings, self.extra = Settings(), extra

    def step(self, x):
        return x.sum() * self.settings.lr
"""
    space: dict[str, Any] = {"__name__": "__main__"}
    exec(compile(script, "script.py", "exec"), space)
    trainer = space["Trainer"](pandas.DataFrame({"a": [1.0, 2.0]}))
    compiled = gu.compile(trainer.step)
    for rate in (0.1, 0.2, 0.2, 0.4):
        trainer.settings.lr = rate
        for _ in range(4):
            assert compiled(X).item() == pytest.approx(rate * X.sum(), rel=1e-5)
    (entries,) = compiled._entries.values()
    assert len(entries[0].recording.places) < 100
