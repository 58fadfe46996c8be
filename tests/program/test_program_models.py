"""Larger and odder steps: eager, compiled and as printed source the same, bit for bit.

Also for batches of another size, of which the printed source says that it takes them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from models import (
    MODELS,
    adapted,
    contrastive,
    deep_gpt,
    gpt,
    gru,
    mixture_of_experts,
    rows,
    teacher,
    weight,
    whole_state,
)
from steps import Step, mlp, numbers
from test_program_steps import flatten, results, state

import groundup as gu
from groundup import Op, Tensor, nn, optim
from groundup.compiled.step import Compiled
from groundup.errors import RecordError
from groundup.nn import Buffer, Module, Parameter
from groundup.nn.step import tensors_in
from groundup.program.program import Program
from groundup.program.recording import record_step

functional = torch.nn.functional

# Their text is for the recorded size of the batch: a state of one row each, index arrays, pairs of
# rows, parts of the batch.
ONE_SIZE = {
    "accumulated", "carried_state", "contrastive", "linear_chain", "method", "policy_gradient",
    "q_learning", "triplet",
}  # fmt: skip


def tensors(given: Any) -> Any:
    """Arguments as a step gets them from `compile`."""
    if isinstance(given, dict):
        return {k: tensors(v) for k, v in given.items()}
    if isinstance(given, tuple):
        return tuple(tensors(v) for v in given)
    return Tensor(given) if isinstance(given, np.ndarray) else given


def rows_of(given: Any, n: int) -> Any:
    """Arguments with another number of rows: the first ones, over and over."""
    if isinstance(given, dict):
        return {k: rows_of(v, n) for k, v in given.items()}
    if isinstance(given, tuple):
        return tuple(rows_of(v, n) for v in given)
    return np.resize(given, (n, *given.shape[1:])) if isinstance(given, np.ndarray) else given


def printed_by_eager(step: Step, compiled: Compiled, batch: Any, program: Program) -> None:
    """Printed source and eager step on one batch, from the same state, give the same."""
    now = compiled.arguments(*batch)
    given = {i.var.name: now.get(i.var.name, i.value) for i in program.inputs}
    returned = program.function()(**given)
    assert results(step.function(*tensors(batch))) == [
        np.asarray(r).tobytes() for r in flatten(returned)
    ]
    after = compiled.arguments(*batch)
    for held in compiled.program.inputs_of("parameter", "state"):
        assert given[held.var.name].tobytes() == after[held.var.name].tobytes(), held


@pytest.mark.parametrize("name", MODELS)
def test_compiled_is_eager(name: str) -> None:
    eager, other = MODELS[name](), MODELS[name]()
    compiled = gu.compile(other.function)
    for batch in [*eager.batches, *eager.batches]:
        draws = gu.generator.default.state()
        wanted = results(eager.function(*tensors(batch)))
        gu.generator.default.restore(draws)
        assert results(compiled(*batch)) == wanted
        assert state(eager) == state(other)
    assert compiled.recordings == 2


@pytest.mark.parametrize("name", MODELS)
def test_kept_gradients_are_the_eager_ones(name: str) -> None:
    eager, other = MODELS[name](), MODELS[name]()
    compiled = gu.compile(other.function, keep_gradients=True)
    for batch in eager.batches:
        draws = gu.generator.default.state()
        eager.function(*tensors(batch))
        gu.generator.default.restore(draws)
        compiled(*batch)
    for key, tensor in eager.state.items():
        if isinstance(tensor, Parameter):
            wanted, found = tensor.g, other.state[key].g
            assert (found is None) is (wanted is None), key
            assert wanted is None or found.data.tobytes() == wanted.data.tobytes(), key


def printed_is_eager(make: Callable[[], Step], simplify: bool) -> None:
    step, twin = make(), make()
    program = gu.record(twin.function, *twin.batches[0], simplify=simplify)
    compiled = gu.compile(step.function)
    compiled(*step.batches[0])
    for batch in step.batches[1:]:
        printed_by_eager(step, compiled, batch, program)


@pytest.mark.parametrize("name", MODELS)
def test_printed_source_is_eager(name: str) -> None:
    printed_is_eager(MODELS[name], simplify=True)


@pytest.mark.parametrize("name", MODELS)
def test_printed_source_of_all_that_was_recorded_is_eager(name: str) -> None:
    printed_is_eager(MODELS[name], simplify=False)


@pytest.mark.parametrize("name", MODELS)
def test_programs_are_well_formed_and_keep(name: str) -> None:
    step, again = MODELS[name](), MODELS[name]()
    raw = record_step(step.function, step.batches[0], {}).program
    assert Program.from_json(raw.to_json()) == raw
    gu.manual_seed(0)
    assert record_step(again.function, again.batches[0], {}).program == raw
    simple = gu.record(step.function, *step.batches[1])
    assert Program.from_json(simple.to_json()) == simple


@pytest.mark.parametrize("name", MODELS)
def test_printed_source_takes_another_batch_size_or_refuses(name: str) -> None:
    step = MODELS[name]()
    compiled = gu.compile(step.function)
    compiled(*step.batches[0])
    for n in (12, 3):
        try:
            printed_by_eager(step, compiled, rows_of(step.batches[1], n), compiled.program)
        except (ValueError, IndexError, AssertionError):
            assert name in ONE_SIZE
            assert "n = len(" not in str(compiled.program)


# The text


def code_of(program: Program) -> list[str]:
    return [line.split("  # ")[0].rstrip() for line in str(program).splitlines()]


@pytest.mark.parametrize("name", MODELS)
def test_lines_are_not_too_long(name: str) -> None:
    step = MODELS[name]()
    for line in code_of(gu.record(step.function, *step.batches[0])):
        assert len(line) <= 88, line


@pytest.fixture(scope="module")
def deep() -> list[str]:
    step = deep_gpt()
    return code_of(gu.record(step.function, *step.batches[0]))


def test_a_deep_transformer_prints_no_longer_than_a_shallow_one(deep: list[str]) -> None:
    step = gpt(6)
    shallow = code_of(gu.record(step.function, *step.batches[0]))
    assert len(deep) <= len(shallow) + 30  # twice the blocks; names have more digits
    assert max(map(len, deep)) <= 88


def test_comments_stand_two_blanks_apart() -> None:
    step = gpt(2)
    for line in code_of(gu.record(step.function, *step.batches[0])):
        assert " # " not in line, line


# Repeated blocks


class Gate(Module):
    def __init__(self, name: str, seed: int):
        self.name = name
        setattr(self, name, weight(3, 3, seed=seed))

    def forward(self, x: Tensor) -> Tensor:
        return (x @ getattr(self, self.name)).tanh()


def gates(name: str, **settings: float) -> Step:
    """Layers whose only parameter has the given name, and a parameter before and after them."""
    first, last = weight(3, seed=8), weight(4, seed=9)
    model = nn.Sequential(*[Gate(name, seed) for seed in range(6)])
    opt = optim.RMSprop([first, *model.parameters(), last], 0.01, **settings)

    def step(x: Tensor) -> Tensor:
        loss = (model(x + first) ** 2).mean() + (last * last).mean()
        loss.backward()
        opt.step()
        return loss

    return Step(step, rows(4, (3,)), whole_state(model, opt))


# The names of lists hide what the text uses besides.
@pytest.mark.parametrize(
    "name",
    [
        "w",
        "t",
        "lr",
        "m",
        "param",
        "grad",
        "erf",
        "i",
        "n",
        "np",
        "range",
    ],
)
def test_a_parameter_may_have_any_name(name: str) -> None:
    printed_is_eager(lambda: gates(name, momentum=0.9), simplify=True)


def test_loops_over_updates_keep_their_order() -> None:
    printed_is_eager(lambda: gates("w", momentum=0.9), simplify=False)


# Small steps


def always_the_same(make: Callable[[], Callable[..., Any]], *args: Any, calls: int = 4) -> None:
    """Compiled is eager at every call; `make` makes the step with its state."""
    eager, compiled = make(), gu.compile(make())
    for _ in range(calls):
        assert results(compiled(*args)) == results(eager(*tensors(args)))


VIEWS: dict[str, Callable[[Tensor], Tensor]] = {
    "reshape": lambda t: t.reshape(-1),
    "transpose": lambda t: t.T,
    "slice": lambda t: t[0],
}


@pytest.mark.parametrize("how", VIEWS)
def test_a_view_may_be_returned(how: str) -> None:
    always_the_same(
        lambda: lambda x: (VIEWS[how](x + 1.0), (x + 2.0).exp().sin()), numbers(5, 4, seed=1)
    )


def test_a_returned_view_stays_right_after_the_first_call() -> None:
    def make() -> Callable[..., Any]:
        still, moving = (Buffer(np.ones((5, 4), np.float32)) for _ in range(2))

        def step(x: Tensor) -> Any:
            flat, total = (x * still).exp().reshape(-1), (x * moving).exp().sum()
            moving.assign(moving + 1.0)
            return flat, total

        return step

    always_the_same(make, numbers(5, 4, seed=1))


def test_weights_may_be_limited_before_the_optimizer_steps() -> None:
    def make() -> Callable[..., Any]:
        w = weight(4, 3, seed=1)
        opt = optim.SGD([w], 0.1, momentum=0.9)

        def step(x: Tensor) -> Tensor:
            loss = (x @ w).square().mean()
            loss.backward()
            with gu.no_grad():
                w.assign(w.clamp(-0.5, 0.5))
            opt.step()
            return loss

        return step

    always_the_same(make, numbers(5, 4, seed=2))


def test_a_number_of_numpys_is_a_float() -> None:
    always_the_same(lambda: lambda x, scale: x * scale, numbers(5, 4), np.float64(0.3))


NUMBERS: dict[str, Callable[[Tensor, float], Tensor]] = {
    "times": lambda x, s: x * s,
    "in_python": lambda x, s: x * (s * float("-inf")),
    "bound": lambda x, s: (x * s).clamp(float("-inf"), 1.0).exp(),
    "negative_base": lambda x, s: x * (-2.0) ** s,
    "negative": lambda x, s: x * (-0.5 - -s),
}


@pytest.mark.parametrize("scale", [2.0, -3.0, float("inf"), float("-inf")])
@pytest.mark.parametrize("how", NUMBERS)
def test_infinite_and_negative_numbers(how: str, scale: float) -> None:
    x = numbers(5, 4)
    always_the_same(lambda: NUMBERS[how], x, scale)
    program = gu.record(NUMBERS[how], x, scale)
    wanted = results(NUMBERS[how](Tensor(x), scale))
    assert [program.function()(x=x).tobytes()] == wanted  # the setting is its default


LENGTHS: dict[str, Callable[[Tensor], Tensor]] = {
    "shape": lambda x: x.sum() / x.shape[0],
    "len": lambda x: x.sum() / len(x),
    "root": lambda x: x.sum() / x.shape[0] ** 0.5,
    "half": lambda x: x[: x.shape[0] // 2].sum(),
    "ones": lambda x: x.sum() / gu.ones(x.shape[0]).sum(),
    "loop": lambda x: sum((x[i] * i).sum() for i in range(x.shape[0])),
    "classes": lambda x: gu.one_hot(x.argmax(1), 5).mean(0),  # 5 is no number of rows
}


@pytest.mark.parametrize("how", LENGTHS)
def test_a_length_in_python_is_the_batch_or_makes_the_text_for_one_size(how: str) -> None:
    program = gu.record(LENGTHS[how], numbers(5, 5, seed=1))
    if "n: the length of" in str(program) or "n = len(" in str(program):
        x = numbers(8, 5, seed=1)
        assert program.function()(x=x).tobytes() == LENGTHS[how](Tensor(x)).data.tobytes()


def test_a_batch_may_be_as_long_as_the_classes_are_many() -> None:
    model, loss_of = mlp(5, 5, 5), nn.CrossEntropy()

    def step(x: Tensor, y: Tensor) -> Any:
        loss = loss_of(model(x), y)
        loss.backward()
        return loss, [p.g for p in model.parameters()]

    program = gu.record(step, numbers(5, 5), np.arange(5))
    given = {i.var.name: i.value for i in program.inputs}
    given |= {
        i.var.name: p.data
        for i, p in zip(program.inputs_of("parameter"), model.parameters(), strict=True)
    }
    returned = program.function()(**given | {"x": numbers(5, 5, seed=3), "y": np.arange(5)})
    wanted = results(step(numbers(5, 5, seed=3), Tensor(np.arange(5))))
    assert [r.tobytes() for r in flatten(returned)] == wanted


# An op of the user's own


class Softplus(Op):
    def forward(self, x: Any) -> Any:
        return np.logaddexp(x, 0)

    def bwd(self, out: Tensor, x: Tensor) -> None:
        x.g = out.g * x.sigmoid()


class Tanh(Op):
    """Has the name of another op and computes something else."""

    def forward(self, x: Any) -> Any:
        return np.tanh(2 * x)

    def bwd(self, out: Tensor, x: Tensor) -> None:
        x.g = out.g * 2.0 * (1.0 - out * out)


def with_op(op: Op) -> tuple[Parameter, Callable[[Tensor], Tensor]]:
    w = weight(4, 3, seed=1)

    def step(x: Tensor) -> Tensor:
        loss = op(x @ w).mean()
        loss.backward()
        with gu.no_grad():
            w.assign(w - 0.1 * w.g)
        return loss

    return w, step


@pytest.mark.parametrize("make", [gu.record, lambda step, x: gu.compile(step)(x)])
def test_an_unknown_op_is_an_error_and_nothing_changes(make: Callable[..., Any]) -> None:
    w, step = with_op(Softplus())
    before = w.data.copy()
    with pytest.raises(RecordError, match=r"op\(x @ w\).*'softplus' is not one of groundup's"):
        make(step, numbers(5, 4))
    assert np.array_equal(w.data, before)
    loss = step(Tensor(numbers(5, 4)))  # it goes on as an eager one
    assert loss.shape == ()
    assert not np.array_equal(w.data, before)


@pytest.mark.parametrize("make", [gu.record, lambda step, x: gu.compile(step)(x)])
def test_an_op_that_has_another_ones_name_is_an_error(make: Callable[..., Any]) -> None:
    _, step = with_op(Tanh())
    with pytest.raises(RecordError, match="'tanh' is not one of groundup's"):
        make(step, numbers(5, 4))


# PyTorch

Torch = dict[str, torch.Tensor]


def learnt(held: Torch) -> list[torch.Tensor]:
    return [t for t in held.values() if t.requires_grad]


def updated(opt: torch.optim.Optimizer, loss: torch.Tensor) -> None:
    opt.zero_grad()
    loss.backward()
    opt.step()


def gru_in_torch(held: Torch) -> Callable[..., Any]:
    of_x, of_h, b = held["0.of_x"], held["0.of_h"], held["0.b"]
    opt = torch.optim.SGD(learnt(held), 0.1, momentum=0.9)

    def step(x: torch.Tensor, lengths: torch.Tensor, y: torch.Tensor) -> Any:
        h = torch.zeros(len(x), 4, dtype=x.dtype)
        for k in range(x.shape[1]):
            reset, keep, new = (x[:, k] @ of_x + b).split(4, 1)
            reset_h, keep_h, new_h = (h @ of_h).split(4, 1)
            keep = torch.sigmoid(keep + keep_h)
            new = torch.tanh(new + torch.sigmoid(reset + reset_h) * new_h)
            h = torch.where((lengths > k)[:, None], (1 - keep) * new + keep * h, h)
        loss = functional.cross_entropy(h @ held["1.w"] + held["1.b"], y)
        updated(opt, loss)
        return [loss]

    return step


def mixture_of_experts_in_torch(held: Torch) -> Callable[..., Any]:
    gate, up, down = held["0.gate"], held["0.up"], held["0.down"]
    opt = torch.optim.Adam([gate, up, down], 0.01)

    def step(x: torch.Tensor, y: torch.Tensor) -> Any:
        p = torch.softmax(x @ gate, -1)
        each = [torch.relu(x @ up[e]) @ down[e] for e in range(3)]
        out = sum(p[:, e : e + 1] * each[e] for e in range(3))
        chosen = functional.one_hot(p.argmax(-1), 3).to(x.dtype).mean(0)
        loss = functional.mse_loss(out, y) + 0.3 * (chosen * p.mean(0)).sum()
        updated(opt, loss)
        return [loss, chosen]

    return step


def contrastive_in_torch(held: Torch) -> Callable[..., Any]:
    left, right, log_scale = held["0.left"], held["0.right"], held["0.log_scale"]
    opt = torch.optim.AdamW([left, right, log_scale], 0.02)

    def step(image: torch.Tensor, text: torch.Tensor) -> Any:
        a, b = functional.normalize(image @ left), functional.normalize(text @ right)
        logits, own = a @ b.T * log_scale.exp(), torch.arange(len(image))
        loss = (functional.cross_entropy(logits, own) + functional.cross_entropy(logits.T, own)) / 2
        updated(opt, loss)
        return [loss, (logits.argmax(1) == own).float().mean()]

    return step


def adapted_in_torch(held: Torch) -> Callable[..., Any]:
    w, b, rate = held["0.w"], held["0.b"], held["0.rate"]
    opt = torch.optim.Adam([w, b, rate], 0.01)

    def error(x: torch.Tensor, y: torch.Tensor, w: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        return functional.mse_loss(torch.tanh(x @ w + b), y)

    def step(*given: torch.Tensor) -> Any:
        x, y, new_x, new_y = given
        dw, db = torch.autograd.grad(error(x, y, w, b), [w, b], create_graph=True)
        loss = error(new_x, new_y, w - rate * dw, b - rate * db)
        updated(opt, loss)
        return [loss, rate.grad]

    return step


def teacher_in_torch(held: Torch) -> Callable[..., Any]:
    named = [held[f"0.{i}"] for i in range(7)]
    student, teachers, center = named[:3], named[3:6], named[6]
    opt = torch.optim.SGD(student, 0.1)

    def outputs(of: list[torch.Tensor], x: torch.Tensor) -> torch.Tensor:
        return torch.relu(x @ of[0] + of[1]) @ of[2]

    def step(x: torch.Tensor, seen_otherwise: torch.Tensor) -> Any:
        targets = outputs(teachers, seen_otherwise)
        sharp = torch.softmax((targets - center) / 0.1, -1)
        loss = functional.cross_entropy(outputs(student, x) / 0.5, sharp)
        updated(opt, loss)
        with torch.no_grad():
            for mean, p in zip(teachers, student, strict=True):
                mean.mul_(0.9).add_(0.1 * p)
            center.mul_(0.9).add_(0.1 * targets.mean(0))
        return [loss]

    return step


TWINS: dict[str, tuple[Callable[[], Step], Callable[..., Any]]] = {
    "gru": (gru, gru_in_torch),
    "mixture_of_experts": (mixture_of_experts, mixture_of_experts_in_torch),
    "contrastive": (contrastive, contrastive_in_torch),
    "adapted": (adapted, adapted_in_torch),
    "teacher": (teacher, teacher_in_torch),
}


@pytest.mark.parametrize("name", TWINS)
def test_compiled_step_is_pytorchs(name: str) -> None:
    """PyTorch computes in float64, the step in float32."""
    make, in_torch = TWINS[name]
    step = make()
    mine = {k: t for k, t in step.state.items() if isinstance(t, Parameter | Buffer)}
    held = {
        k: torch.tensor(t.data.astype(np.float64), requires_grad=isinstance(t, Parameter))
        for k, t in mine.items()
    }
    ours, theirs = gu.compile(step.function), in_torch(held)
    for batch in step.batches:
        wanted = theirs(
            *(torch.tensor(a.astype(np.float64) if a.dtype.kind == "f" else a) for a in batch)
        )
        for a, b in zip(tensors_in([ours(*batch)]), wanted, strict=True):
            np.testing.assert_allclose(a.data, b.detach().numpy(), rtol=2e-4, atol=2e-5)
    for key, t in held.items():
        np.testing.assert_allclose(
            mine[key].data, t.detach().numpy(), rtol=2e-3, atol=2e-4, err_msg=key
        )
