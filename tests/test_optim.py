"""Optimizers, clipping and schedules: the numbers are PyTorch's, step after step."""

from __future__ import annotations

import math
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from oracle import F32, F64, normal, rng, same
from torch.optim import lr_scheduler

import groundup as gu
from groundup import Tensor, optim
from groundup.errors import GroundupError, NonFiniteError, StateError
from groundup.nn import Parameter
from groundup.optim import Optimizer

SETTINGS: list[tuple[str, dict[str, Any]]] = [
    ("SGD", {"lr": 0.1}),
    ("SGD", {"lr": 0.1, "weight_decay": 0.05}),
    ("SGD", {"lr": 0.1, "momentum": 0.9}),
    ("SGD", {"lr": 0.1, "momentum": 0.9, "nesterov": True}),
    ("SGD", {"lr": 0.1, "momentum": 0.5, "weight_decay": 0.05}),
    ("SGD", {"lr": 0.1, "momentum": 0.5, "nesterov": True, "weight_decay": 0.05}),
    ("RMSprop", {"lr": 0.02}),
    ("RMSprop", {"lr": 0.02, "alpha": 0.8, "eps": 1e-3}),
    ("RMSprop", {"lr": 0.02, "weight_decay": 0.1}),
    ("RMSprop", {"lr": 0.02, "momentum": 0.9}),
    ("RMSprop", {"lr": 0.02, "centered": True}),
    ("RMSprop", {"lr": 0.02, "centered": True, "momentum": 0.5, "weight_decay": 0.1}),
    ("Adam", {"lr": 0.05}),
    ("Adam", {"lr": 0.05, "betas": (0.7, 0.9), "eps": 1e-3}),
    ("Adam", {"lr": 0.05, "betas": (0.0, 0.99)}),
    ("Adam", {"lr": 0.05, "weight_decay": 0.1}),
    ("AdamW", {"lr": 0.05}),
    ("AdamW", {"lr": 0.05, "weight_decay": 0.0}),
    ("AdamW", {"lr": 0.05, "weight_decay": 0.3, "betas": (0.8, 0.95), "eps": 1e-4}),
]
IDS = [f"{name} {' '.join(f'{k}={v}' for k, v in s.items())}" for name, s in SETTINGS]
X, Y = normal(8, 3, seed=1), normal(8, 2, seed=2)


def params(dtype: Any = F64) -> list[Parameter]:
    return [Parameter(normal(3, 2, seed=3).astype(dtype)), Parameter(np.zeros(2, dtype))]


def loss_of(w: Any, b: Any) -> Any:
    """Any smooth loss, of Tensors or torch's."""
    kind = Tensor if isinstance(w, Tensor) else torch.tensor
    x, y = (kind(a.astype(str(w.dtype).removeprefix("torch."))) for a in (X, Y))
    return (((x @ w + b).tanh() - y) ** 2).mean()


def train(opt: Optimizer, steps: int) -> None:
    for _ in range(steps):
        loss_of(*opt.params).backward()
        opt.step()


@pytest.mark.parametrize(("name", "settings"), SETTINGS, ids=IDS)
@pytest.mark.parametrize(("dtype", "rtol"), [(F64, 1e-11), (F32, 2e-4)], ids=["float64", "float32"])
def test_as_torch(name: str, settings: dict[str, Any], dtype: Any, rtol: float) -> None:
    ours = params(dtype)
    theirs = [torch.tensor(p.data, requires_grad=True) for p in ours]
    opt, topt = (
        getattr(optim, name)(ours, **settings),
        getattr(torch.optim, name)(theirs, **settings),
    )
    for i in range(20):
        if i == 10:  # the learning rate may be set at any time
            opt.lr = topt.param_groups[0]["lr"] = settings["lr"] / 3
        loss_of(*ours).backward()
        opt.step()
        topt.zero_grad()
        loss_of(*theirs).backward()
        topt.step()
        for p, t in zip(ours, theirs, strict=True):
            assert p.dtype == dtype
            same(p, t, f"after step {i + 1}", rtol=rtol)
    assert opt.steps == 20


@pytest.mark.parametrize("name", ["SGD", "RMSprop", "Adam", "AdamW"])
def test_defaults_are_torchs(name: str) -> None:
    opt, topt = getattr(optim, name)(params()), getattr(torch.optim, name)([torch.zeros(1)])
    ours = {k: v for k, v in vars(opt).items() if k in topt.defaults}
    assert len(ours) >= 4
    for key, value in ours.items():
        if (name, key) != ("SGD", "lr"):
            assert value == topt.defaults[key], key


@pytest.mark.parametrize(("name", "settings"), SETTINGS, ids=IDS)
def test_continues_from_a_saved_state(name: str, settings: dict[str, Any]) -> None:
    through = getattr(optim, name)(params(), **settings)
    train(through, 10)
    first = getattr(optim, name)(params(), **settings)
    train(first, 4)
    first.lr = settings["lr"]
    saved = first.state_dict()
    train(first, 1)  # a copy: what comes after changes nothing
    saved = pickle.loads(pickle.dumps(saved))
    values = [p.data for p in params()]
    restart = getattr(optim, name)([Parameter(v) for v in values], **{**settings, "lr": 9.0})
    again = getattr(optim, name)(params(), **settings)
    train(again, 4)
    for p, q in zip(restart.params, again.params, strict=True):
        p.assign(q)
    restart.load_state_dict(saved)
    assert (restart.lr, restart.steps) == (settings["lr"], 4)
    train(restart, 6)
    for p, q in zip(restart.params, through.params, strict=True):
        np.testing.assert_array_equal(p.data, q.data)


def test_a_state_that_does_not_fit() -> None:
    opt = optim.SGD(params(), momentum=0.9)
    train(opt, 2)
    before = opt.state_dict()
    assert sorted(before) == ["counts", "lr", "steps", "v.0", "v.1"]
    wrong = {"lr": 1.0, "v.0": np.zeros((2, 3)), "v.1": np.zeros(2), "m.0": np.zeros(2)}
    with pytest.raises(StateError) as caught:
        opt.load_state_dict(wrong)
    assert str(caught.value) == (
        "this state does not fit SGD:\n"
        "  missing: steps\n"
        "  missing: counts\n"
        "  extra: m.0\n"
        "  v.0 has shape (2, 3), here (3, 2)"
    )
    for key, value in opt.state_dict().items():
        np.testing.assert_array_equal(value, before[key])


class TestStep:
    def test_skips_what_has_no_gradient_or_is_frozen(self) -> None:
        a, b, c = (Parameter([1.0]) for _ in range(3))
        (a * b).sum().backward()
        b.requires_grad_(False)
        optim.SGD([a, b, c], lr=0.5).step()
        assert (a.item(), b.item(), c.item()) == (0.5, 1.0, 1.0)

    def test_writes_in_place_and_records_nothing(self) -> None:
        p = Parameter([1.0, 2.0])
        array = p.data
        opt = optim.Adam([p])
        (p * p).sum().backward()
        opt.step()
        assert p.data is array
        assert p.is_leaf
        assert p.requires_grad
        assert all(t.is_leaf for ts in opt.state.values() for t in ts)

    def test_leaves_the_gradient_alone(self) -> None:
        p = Parameter([1.0, 2.0])
        (p * p).sum().backward()
        g = p.g.data.copy()
        optim.SGD([p], momentum=0.9, weight_decay=0.1).step()
        np.testing.assert_array_equal(p.g.data, g)

    def test_parameters_may_come_from_a_generator(self) -> None:
        model = gu.nn.Sequential(gu.nn.Linear(2, 3), gu.nn.Linear(3, 1))
        assert len(optim.SGD(model.parameters()).params) == 4

    def test_an_exception_leaves_recording_on(self) -> None:
        class Broken(Optimizer):
            def update(self, i: int, p: Tensor, g: Tensor) -> None:
                raise ZeroDivisionError

        p = Parameter([1.0])
        p.g = [1.0]
        with pytest.raises(ZeroDivisionError):
            Broken([p], 0.1).step()
        assert not (p * 2).is_leaf

    def test_your_own(self) -> None:
        class SignSGD(Optimizer):
            def update(self, i: int, p: Tensor, g: Tensor) -> None:
                p.assign(p - self.lr * g.sign())

        p = Parameter([1.0, -2.0, 0.0])
        (p * p).sum().backward()
        SignSGD([p], lr=0.5).step()
        assert p.tolist() == [0.5, -1.5, 0.0]


w = Parameter([1.0])
REFUSED: list[tuple[str, Callable[[], Any], str]] = [
    ("no parameters", lambda: optim.SGD([]), r"SGD: no parameters to update; pass model\.param"),
    ("a tensor", lambda: optim.SGD(w), r"SGD: pass a list of parameters, \[w\], not w"),
    ("names", lambda: optim.Adam([("w", w)]), "Adam: parameters are Tensors, not tuple; pass"),
    ("a dict", lambda: optim.Adam({"w": w}), "parameters are Tensors, not str"),
    ("computed", lambda: optim.SGD([w, w * 2]), r"shape \(1,\) was computed by mul; only leaves"),
    ("twice", lambda: optim.SGD([w, w]), "SGD: a parameter was given twice and would be updated"),
    ("lr", lambda: optim.SGD([w], lr=-0.1), r"SGD: lr must be 0 or more, not -0\.1"),
    ("lr NaN", lambda: optim.SGD([w], lr=math.nan), "SGD: lr must be 0 or more, not nan"),
    ("momentum", lambda: optim.SGD([w], momentum=-1), "SGD: momentum must be 0 or more, not -1"),
    ("nesterov", lambda: optim.SGD([w], nesterov=True), "nesterov=True needs a momentum above 0"),
    ("decay", lambda: optim.AdamW([w], weight_decay=-1), "AdamW: weight_decay must be 0 or more"),
    ("eps", lambda: optim.Adam([w], eps=-1), "Adam: eps must be 0 or more"),
    (
        "beta 1",
        lambda: optim.Adam([w], betas=(0.9, 1.0)),
        r"Adam: betas lie in \[0, 1\), not \(0\.9",
    ),
    ("beta 0", lambda: optim.AdamW([w], betas=(-0.1, 0.9)), r"AdamW: betas lie in \[0, 1\)"),
    ("alpha", lambda: optim.RMSprop([w], alpha=-0.1), "RMSprop: alpha must be 0 or more"),
    ("every", lambda: optim.step_decay(0.1, every=0), "a schedule's every is at least 1, not 0"),
    ("total", lambda: optim.cosine(0.1, total=0), "a schedule's total is at least 1, not 0"),
    ("cycle", lambda: optim.one_cycle(0.1, total=-1), "a schedule's total is at least 1, not -1"),
    ("warm-up", lambda: optim.linear_warmup(0, 0.1), "a schedule's steps is at least 1, not 0"),
]


@pytest.mark.parametrize(("wrong", "text"), [r[1:] for r in REFUSED], ids=[r[0] for r in REFUSED])
def test_refused(wrong: Callable[[], Any], text: str) -> None:
    with pytest.raises(GroundupError, match=text):
        wrong()


# Clipping


def with_gradients(*arrays: np.ndarray | None) -> list[Parameter]:
    made = [Parameter(np.zeros((2, 2)) if a is None else np.zeros_like(a)) for a in arrays]
    for p, a in zip(made, arrays, strict=True):
        p.g = a
    return made


@pytest.mark.parametrize("limit", [0.1, 1.0, 2.5, 100.0])
@pytest.mark.parametrize("dtype", [F64, F32])
def test_clip_grad_norm(limit: float, dtype: Any) -> None:
    arrays = [normal(3, 2).astype(dtype), normal(4, seed=1).astype(dtype)]
    ours = with_gradients(*arrays, None)
    theirs = [torch.tensor(a, requires_grad=True) for a in arrays]
    for t, a in zip(theirs, arrays, strict=True):
        t.grad = torch.tensor(a)
    expected = torch.nn.utils.clip_grad_norm_(theirs, limit)
    norm = optim.clip_grad_norm(iter(ours), limit)
    assert isinstance(norm, Tensor)
    assert norm.item() == pytest.approx(expected.item(), rel=1e-6)
    for p, t in zip(ours, theirs, strict=False):
        same(p.g, t.grad)
    assert ours[2].g is None
    np.testing.assert_array_equal(arrays[0], normal(3, 2).astype(dtype))


@pytest.mark.parametrize("limit", [0.1, 0.7, 100.0])
def test_clip_grad_value(limit: float) -> None:
    array = normal(3, 2)
    (p, _) = ours = with_gradients(array, None)
    t = torch.tensor(array, requires_grad=True)
    t.grad = torch.tensor(array)
    torch.nn.utils.clip_grad_value_([t], limit)
    optim.clip_grad_value(iter(ours), limit)
    same(p.g, t.grad)
    np.testing.assert_array_equal(array, normal(3, 2))


def test_clipping_one_tensor() -> None:
    (p,) = with_gradients(np.array([3.0, 4.0]))
    assert optim.clip_grad_norm(p, 1.0) == 5.0
    np.testing.assert_allclose(p.g.data, [0.6, 0.8], rtol=1e-6)
    optim.clip_grad_value(p, 0.7)
    np.testing.assert_allclose(p.g.data, [0.6, 0.7], rtol=1e-6)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_norm_that_is_not_finite(value: float) -> None:
    ours = with_gradients(np.array([1.0]), np.array([value]))
    with pytest.raises(NonFiniteError, match=r"the gradients' norm is (nan|inf); look for a NaN"):
        optim.clip_grad_norm(ours, 1.0)
    assert ours[0].g.tolist() == [1.0]


def test_clipping_cuts_the_record() -> None:
    p = Parameter(np.array([2.0]))
    (p**3).sum().backward(create_graph=True)
    optim.clip_grad_norm([p], 1.0)
    assert p.g.is_leaf


# Schedules


def torch_rates(make: Callable[[Any], Any], lr: float, steps: int) -> list[float]:
    """The learning rate of each of the first steps."""
    opt = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=lr)
    scheduler = make(opt)
    rates = []
    for _ in range(steps):
        rates.append(opt.param_groups[0]["lr"])
        opt.step()
        scheduler.step()
    return rates


SCHEDULES: list[tuple[str, Any, Callable[[Any], Any], int]] = [
    ("constant", optim.constant(0.3), lambda o: lr_scheduler.LambdaLR(o, lambda s: 1.0), 5),
    ("step", optim.step_decay(0.3, 4), lambda o: lr_scheduler.StepLR(o, 4), 20),
    (
        "step factor",
        optim.step_decay(0.3, 3, factor=0.5),
        lambda o: lr_scheduler.StepLR(o, 3, gamma=0.5),
        20,
    ),
    ("cosine", optim.cosine(0.3, 10), lambda o: lr_scheduler.CosineAnnealingLR(o, 10), 11),
    (
        "cosine minimum",
        optim.cosine(0.3, 7, lr_min=0.05),
        lambda o: lr_scheduler.CosineAnnealingLR(o, 7, eta_min=0.05),
        8,
    ),
    *[
        (
            f"one cycle {total} {settings}",
            optim.one_cycle(0.3, total, **ours),
            lambda o, total=total, settings=settings: lr_scheduler.OneCycleLR(
                o, 0.3, total_steps=total, **settings
            ),
            total - 1,
        )
        for total in (2, 7, 10, 25)
        for ours, settings in [
            ({}, {}),
            (
                {"warm": 0.45, "div": 10.0, "final_div": 100.0},
                {"pct_start": 0.45, "div_factor": 10.0, "final_div_factor": 100.0},
            ),
            ({"warm": 0.0}, {"pct_start": 0.0}),
        ]
    ],
    (
        "warm-up",
        optim.linear_warmup(5, 0.3),
        lambda o: lr_scheduler.LinearLR(o, 1 / 5, total_iters=4),
        12,
    ),
    (
        "warm-up, cosine",
        optim.linear_warmup(4, optim.cosine(0.3, 10)),
        lambda o: lr_scheduler.LambdaLR(
            o, lambda s: (s + 1) / 4 if s < 4 else (1 + math.cos(math.pi * (s - 4) / 10)) / 2
        ),
        14,
    ),
]


@pytest.mark.parametrize(
    ("ours", "theirs", "steps"), [s[1:] for s in SCHEDULES], ids=[s[0] for s in SCHEDULES]
)
def test_schedule(ours: Any, theirs: Callable[[Any], Any], steps: int) -> None:
    expected = torch_rates(theirs, 0.3, steps)
    assert [ours(i) for i in range(steps)] == pytest.approx(expected, rel=1e-9, abs=1e-15)


def test_schedules_have_an_end() -> None:
    assert [optim.cosine(0.3, 5, 0.1)(i) for i in (5, 6, 100)] == pytest.approx([0.1] * 3)
    last = 0.3 / 25 / 1e4
    assert [optim.one_cycle(0.3, 10)(i) for i in (9, 10, 99)] == pytest.approx([last] * 3)
    assert optim.one_cycle(0.3, 1)(0) == pytest.approx(last)
    assert max(optim.one_cycle(0.3, 10)(i) for i in range(10)) == pytest.approx(0.3)
    assert optim.one_cycle(0.3, 10)(0) == pytest.approx(0.3 / 25)
    assert optim.linear_warmup(3, optim.step_decay(0.3, 2))(5) == pytest.approx(0.03)


def test_it_learns() -> None:
    """Each optimizer fits a line."""
    x = rng(1).standard_normal((64, 3)).astype(F32)
    y = x @ np.array([1.0, -2.0, 0.5], F32) + 3
    for make in (
        lambda p: optim.SGD(p, lr=0.1, momentum=0.9),
        lambda p: optim.RMSprop(p, lr=0.05),
        lambda p: optim.Adam(p, lr=0.2),
        lambda p: optim.AdamW(p, lr=0.2, weight_decay=0.0),
    ):
        model = gu.nn.Linear(3, 1)
        opt, loss = make(model.parameters()), gu.nn.Mse()
        for i in range(200):
            opt.lr *= 0.98 if i > 100 else 1.0
            loss(model(x), y).backward()
            opt.step()
        np.testing.assert_allclose(model.w.data[:, 0], [1.0, -2.0, 0.5], atol=0.02)


# A gradient is applied once: what PyTorch users get from zero_grad


@pytest.mark.parametrize("name", ["SGD", "Adam"])
def test_a_branch_that_is_not_reached_is_not_updated_again(name: str) -> None:
    settings = {"lr": 0.1, "momentum": 0.9} if name == "SGD" else {"lr": 0.1}
    starts = [normal(3, seed=1), normal(3, seed=2), normal(3, seed=3)]
    ours = [Parameter(a.copy()) for a in starts]
    theirs = [torch.tensor(a, requires_grad=True) for a in starts]
    opt = getattr(optim, name)(ours, **settings)
    their_opt = getattr(torch.optim, name)(theirs, **settings)
    for i in range(6):
        for (shared, *branches), stepper in ((ours, opt), (theirs, their_opt)):
            if stepper is their_opt:
                stepper.zero_grad()
            ((shared * branches[i % 2]) ** 2).sum().backward()
            stepper.step()
        for a, b in zip(ours, theirs, strict=True):
            same(a, b, f"step {i}", rtol=1e-12)
    before = [p.data.copy() for p in ours]
    ((ours[0] * ours[1]) ** 2).sum().backward()
    opt.step()
    changed = [bool((p.data != old).any()) for p, old in zip(ours, before, strict=True)]
    assert changed == [True, True, False]


def test_gradients_set_by_hand_are_applied_at_every_step() -> None:
    ours = [Parameter(normal(3, seed=i)) for i in range(2)]
    theirs = [torch.tensor(p.data.copy(), requires_grad=True) for p in ours]
    for p, t in zip(ours, theirs, strict=True):
        p.g = normal(3, seed=5)
        t.grad = torch.from_numpy(normal(3, seed=5))
    opt, their_opt = optim.SGD(ours, lr=0.1), torch.optim.SGD(theirs, lr=0.1)
    for _ in range(3):
        opt.step()
        their_opt.step()
    for a, b in zip(ours, theirs, strict=True):
        same(a, b, rtol=1e-12)


def test_gradients_of_several_backward_passes_are_all_applied() -> None:
    a, b = Parameter(normal(3, seed=1)), Parameter(normal(3, seed=2))
    opt = optim.SGD([a, b], lr=0.1)
    for _ in range(2):
        before = a.data.copy(), b.data.copy()
        (a * a).sum().backward()
        (b * b).sum().backward()
        opt.step()
        same(a, before[0] * 0.8, rtol=1e-12)
        same(b, before[1] * 0.8, rtol=1e-12)


@pytest.mark.parametrize("clip", [optim.clip_grad_norm, optim.clip_grad_value])
def test_clipping_does_not_bring_an_applied_gradient_back(clip: Callable[..., Any]) -> None:
    ours = [Parameter(normal(3, seed=i)) for i in range(2)]
    theirs = [torch.tensor(p.data.copy(), requires_grad=True) for p in ours]
    opt, their_opt = optim.SGD(ours, lr=0.1), torch.optim.SGD(theirs, lr=0.1)
    their_clip = getattr(torch.nn.utils, f"{clip.__name__}_")
    for i in range(5):
        (ours[i % 2] ** 2).sum().backward()
        clip(ours, 0.3)
        opt.step()
        their_opt.zero_grad()
        (theirs[i % 2] ** 2).sum().backward()
        their_clip(theirs, 0.3)
        their_opt.step()
        for a, b in zip(ours, theirs, strict=True):
            same(a, b, f"step {i}", rtol=1e-12)
