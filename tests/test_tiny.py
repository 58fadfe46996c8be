"""Everything important in a few seconds, with NumPy alone: run it before every commit."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import groundup as gu
from groundup import Tensor, nn, optim


def random(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape)


def check_differences(function: Callable[..., Tensor], *arrays: np.ndarray) -> None:
    """Gradients under a random cotangent against central differences, entry by entry."""
    xs = [Tensor(a.copy(), requires_grad=True) for a in arrays]
    out = function(*xs)
    c = random(*out.shape, seed=9)
    out.backward(c)
    for x, array in zip(xs, arrays, strict=True):
        expected = np.zeros_like(array)
        for place in np.ndindex(array.shape):
            for sign in (1, -1):
                x.data[place] = array[place] + sign * 1e-6
                expected[place] += sign * float((function(*xs).data * c).sum()) / 2e-6
            x.data[place] = array[place]
        np.testing.assert_allclose(x.g.data, expected, rtol=1e-6, atol=1e-8)


FUNCTIONS: dict[str, Callable[..., Any]] = {
    "arithmetic": lambda x, y: (x + 2 * y) * x / (y * y + 1) - y**3,
    "functions": lambda x, y: x.exp() * y.sin() + (x * x + 1).log() - (y * y + 1).sqrt() + x.erf(),
    "squashing": lambda x, y: x.tanh() * y.sigmoid() + x.relu() + y.abs(),
    "extremes": lambda x, y: x.maximum(y) + x.amax(1, keepdims=True) * y.min(0) + x.clamp(-1, 1),
    "reductions": lambda x, y: x.sum(0) * y.mean(1, keepdims=True) + x.var(0) - y.std(),
    "softmax": lambda x, y: x.softmax(1) * y.log_softmax(0) + x.logsumexp(0),
    "products": lambda x, y: (x @ y.T) @ x + gu.einsum("ij,kj->ik", x, y) @ y,
    "shapes": lambda x, y: gu.concatenate([x.T, y.reshape(4, 3)], 1)[1:, ::-2] * x[0, 1],
    "indexing": lambda x, y: x[[0, 2, 2]] * y[:, [1, 1, 0, 3]] + gu.pad(y[1:], ((1, 0), (0, 0))),
    "where": lambda x, y: gu.where(x > 0, x * y, y * y).cumsum(1) + gu.stack([x, y]).sum(0),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_gradients(name: str) -> None:
    check_differences(FUNCTIONS[name], random(3, 4, seed=1), random(3, 4, seed=2))


def test_second_derivatives() -> None:
    x = Tensor(random(4), requires_grad=True)
    (g,) = gu.grad((x.sin() * x).sum(), [x], create_graph=True)
    (h,) = gu.grad(g, [x], np.ones(4))
    np.testing.assert_allclose(h.data, 2 * np.cos(x.data) - x.data * np.sin(x.data), rtol=1e-12)


LABELS = np.array([0, 2, 1, 2, 0])
MODELS: dict[str, tuple[nn.Module, nn.Loss, Any]] = {
    "regression": (
        nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2), nn.LeakyRelu(0.1)),
        nn.Mse(),
        random(5, 2),
    ),
    "classes": (
        nn.Sequential(nn.Linear(3, 4), nn.Gelu(), nn.Linear(4, 3)),
        nn.CrossEntropy([1.0, 2.0, 0.5], label_smoothing=0.1),
        LABELS,
    ),
    "yes or no": (
        nn.Sequential(nn.Linear(3, 4), nn.Relu(), nn.Linear(4, 1), nn.Flatten()),
        nn.BinaryCrossEntropyWithLogits(),
        np.array([0, 1, 1, 0, 1]),
    ),
}


@pytest.mark.parametrize("name", MODELS)
def test_hand_written_rules_agree_with_the_ops(name: str) -> None:
    model, loss, y = MODELS[name]
    model.double()
    x = Tensor(random(5, 3), requires_grad=True)
    wanted = [x, *model.parameters()]
    by_hand = gu.grad(loss(model(x), y), wanted)
    with gu.autograd_only():
        by_ops = gu.grad(loss(model(x), y), wanted)
    for a, b in zip(by_hand, by_ops, strict=True):
        np.testing.assert_allclose(a.data, b.data, rtol=1e-9, atol=1e-12)


def test_a_bwd_is_what_runs() -> None:
    class Scale(nn.Module):
        def __init__(self) -> None:
            self.w = nn.Parameter([2.0])

        def forward(self, inp: Tensor) -> Any:
            return inp * self.w

        def bwd(self, out: Tensor, inp: Tensor) -> None:
            inp.g = out.g * self.w
            self.w.g = 10 * out.g * inp  # ten times too much: it must show

    model = Scale()
    model(model(np.ones((1, 1)))).backward()
    assert model.w.g.tolist() == [40.0]


def test_state_and_modes() -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.Dropout(0.5), nn.Linear(4, 1))
    other = nn.Sequential(nn.Linear(3, 4), nn.Dropout(0.5), nn.Linear(4, 1))
    other.load_state_dict(model.state_dict())
    x = random(6, 3)
    np.testing.assert_array_equal(model.eval()(x).data, other.eval()(x).data)
    assert (model.train()(x).data != model(x).data).any()


@pytest.mark.parametrize(
    "make",
    [
        lambda p: optim.SGD(p, lr=0.3, momentum=0.9, nesterov=True),
        lambda p: optim.RMSprop(p, lr=0.01),
        lambda p: optim.Adam(p, lr=0.05),
        lambda p: optim.AdamW(p, lr=0.05),
    ],
    ids=["SGD", "RMSprop", "Adam", "AdamW"],
)
def test_learns_xor(make: Callable[[Any], optim.Optimizer]) -> None:
    gu.manual_seed(1)
    x, y = np.array([[0, 0], [0, 1], [1, 0], [1, 1]], np.float32), np.array([0, 1, 1, 0])
    model, loss = nn.Sequential(nn.Linear(2, 8), nn.Tanh(), nn.Linear(8, 2)), nn.CrossEntropy()
    opt, schedule = make(model.parameters()), optim.cosine(1.0, 200)
    lr = opt.lr
    for i in range(200):
        out = loss(model(x), y)
        out.backward()
        optim.clip_grad_norm(model.parameters(), 5.0)
        opt.lr = lr * schedule(i)
        opt.step()
    assert out.item() < 0.1 * math.log(2)
    assert model(x).argmax(1).tolist() == y.tolist()
