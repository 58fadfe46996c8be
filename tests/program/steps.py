"""Training steps that the tests of Programs record, print, run and compare.

Each function makes a fresh step, the same at every call: a `Step` with the function over Tensors,
batches to call it with, and the tensors that it changes.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

import groundup as gu
from groundup import Tensor, nn, optim
from groundup.nn import Buffer, Module, Parameter


@dataclass
class Step:
    function: Callable[..., Any]
    batches: list[tuple[Any, ...]]
    state: dict[str, Tensor]


def numbers(*shape: int, seed: int = 0, dtype: Any = np.float32) -> Any:
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


def labels(n: int, classes: int, seed: int = 0) -> Any:
    return np.random.default_rng(seed).integers(0, classes, n)


def batches(
    n: int,
    features: int,
    classes: int = 0,
    count: int = 4,
    outputs: int = 0,
    dtype: Any = np.float32,
) -> list[tuple[Any, ...]]:
    """Batches of rows with labels, or with targets of `outputs` columns."""
    return [
        (
            numbers(n, features, seed=10 * i, dtype=dtype),
            labels(n, classes, i) if classes else numbers(n, outputs, seed=10 * i + 1, dtype=dtype),
        )
        for i in range(count)
    ]


def mlp(
    *sizes: int, activation: Callable[[], Module] = nn.Relu, dtype: Any = None
) -> nn.Sequential:
    gu.manual_seed(3)
    layers: list[Module] = []
    for a, b in itertools.pairwise(sizes):
        layers += [nn.Linear(a, b), activation()]
    model = nn.Sequential(*layers[:-1])
    for i, p in enumerate(model.parameters()):
        p.assign(0.3 * numbers(*p.shape, seed=100 + i))
    return model if dtype is None else model.to(dtype)


def state_of(*modules: Module, opt: optim.Optimizer | None = None) -> dict[str, Tensor]:
    found: dict[str, Tensor] = {}
    for i, module in enumerate(modules):
        found |= {
            f"{i}.{name}": m
            for name, m in module.named_members()
            if isinstance(m, Parameter | Buffer)
        }
    if opt is not None:
        found |= {f"{k}.{i}": t for k, ts in opt.state.items() for i, t in enumerate(ts)}
    return found


def training(
    model: Module, loss_of: Module, opt: optim.Optimizer, given: list[tuple[Any, ...]]
) -> Step:
    def step(x: Tensor, y: Tensor) -> Tensor:
        loss = loss_of(model(x), y)
        loss.backward()
        opt.step()
        return loss

    return Step(step, given, state_of(model, loss_of, opt=opt))


def lesson() -> Step:
    """The lesson's model: nothing is updated, all five gradients are returned."""
    w1, b1 = Tensor(0.1 * numbers(12, 5, seed=1)), Tensor(numbers(5, seed=2))
    w2, b2 = Tensor(numbers(5, 1, seed=3)), Tensor(numbers(1, seed=4))
    model, mse = nn.Sequential(nn.Lin(w1, b1), nn.Relu(), nn.Lin(w2, b2)), nn.Mse()

    def forward_and_backward(x: Tensor, y: Tensor) -> Any:
        loss = mse(model(x), y)
        loss.backward()
        return loss, w1.g, b1.g, w2.g, b2.g, x.g

    given = [(Tensor(x, requires_grad=True), y) for x, y in batches(7, 12, outputs=1)]
    return Step(forward_and_backward, given, {})


def classifier() -> Step:
    model = mlp(20, 8, 5)
    return training(model, nn.CrossEntropy(), optim.SGD(model.parameters(), 0.1), batches(9, 20, 5))


def momentum() -> Step:
    model = mlp(4, 8, 8, 2, activation=nn.Tanh)
    opt = optim.SGD(model.parameters(), 0.1, momentum=0.9, weight_decay=0.01)
    return training(model, nn.CrossEntropy(), opt, batches(8, 4, 2))


def adam() -> Step:
    model = mlp(6, 5, 3, activation=nn.Gelu)
    return training(
        model, nn.CrossEntropy(), optim.Adam(model.parameters(), 0.01), batches(8, 6, 3)
    )


def adamw_schedule() -> Step:
    model = mlp(6, 5, 3, activation=nn.Sigmoid)
    opt = optim.AdamW(model.parameters(), 0.01)
    loss_of = nn.CrossEntropy(label_smoothing=0.1)

    def step(x: Tensor, y: Tensor, lr: float) -> Tensor:
        loss = loss_of(model(x), y) * lr
        loss.backward()
        opt.step()
        return loss

    given = [(x, y, 0.5 / (i + 1)) for i, (x, y) in enumerate(batches(8, 6, 3))]
    return Step(step, given, state_of(model, opt=opt))


def dropout() -> Step:
    generator = gu.Generator(7)
    gu.manual_seed(3)
    model = nn.Sequential(
        nn.Linear(6, 16), nn.Relu(), nn.Dropout(0.4, generator=generator), nn.Linear(16, 3)
    )
    opt = optim.SGD(model.parameters(), 0.1)
    made = training(model, nn.CrossEntropy(), opt, batches(8, 6, 3))
    made.state["counter"] = generator.counter
    return made


class Residual(Module):
    def __init__(self, width: int, blocks: int):
        self.embed = nn.Linear(6, width)
        self.blocks = [Block(width) for _ in range(blocks)]
        self.head = nn.Linear(width, 3)

    def forward(self, x: Tensor) -> Tensor:
        h = self.embed(x)
        for block in self.blocks:
            h = block(h)
        return self.head(h)


class Block(Module):
    def __init__(self, width: int):
        self.fc1, self.relu, self.fc2 = nn.Linear(width, width), nn.Relu(), nn.Linear(width, width)
        self.fc2.w.assign(0.1 * self.fc2.w)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.fc2(self.relu(self.fc1(x)))


def residual(blocks: int = 2) -> Step:
    gu.manual_seed(3)
    model = Residual(8, blocks)
    return training(model, nn.CrossEntropy(), optim.SGD(model.parameters(), 0.01), batches(8, 6, 3))


def deep() -> Step:
    return residual(12)


def deep_adam() -> Step:
    gu.manual_seed(3)
    model = Residual(8, 12)
    return training(
        model, nn.CrossEntropy(), optim.Adam(model.parameters(), 0.01), batches(8, 6, 3)
    )


class Shared(Module):
    """One layer used twice, and its weight a third time."""

    def __init__(self) -> None:
        self.lin = nn.Linear(6, 6)

    def forward(self, x: Tensor) -> Tensor:
        h = self.lin(self.lin(x).tanh())
        return h @ self.lin.w.T


def shared() -> Step:
    gu.manual_seed(3)
    model = Shared()
    return training(
        model, nn.Mse(), optim.RMSprop(model.parameters(), 0.01), batches(8, 6, outputs=6)
    )


def two_inputs() -> Step:
    gu.manual_seed(3)
    left, right, head = nn.Linear(4, 5), nn.Linear(3, 5), nn.Linear(5, 2)
    parameters = [*left.parameters(), *right.parameters(), *head.parameters()]
    opt = optim.SGD(parameters, 0.1, momentum=0.9, nesterov=True)
    loss_of = nn.CrossEntropy()

    def step(a: Tensor, b: Tensor, y: Tensor) -> dict[str, Tensor]:
        hidden = (left(a) + right(b)).sigmoid()
        logits = head(hidden)
        loss = loss_of(logits, y)
        loss.backward()
        opt.step()
        return {"loss": loss, "logits": logits}

    given = [(numbers(8, 4, seed=i), numbers(8, 3, seed=50 + i), labels(8, 2, i)) for i in range(4)]
    return Step(step, given, state_of(left, right, head, opt=opt))


def two_losses() -> Step:
    """Two losses of one body, an auxiliary output, clipped gradients."""
    gu.manual_seed(3)
    body, first, second = nn.Linear(6, 8), nn.Linear(8, 3), nn.Linear(8, 1)
    parameters = [*body.parameters(), *first.parameters(), *second.parameters()]
    opt = optim.Adam(parameters, 0.01)
    cross_entropy, mse = nn.CrossEntropy(), nn.Mse()

    def step(x: Tensor, y: Tensor, z: Tensor) -> Any:
        h = body(x).relu()
        out = first(h)
        loss = cross_entropy(out, y) + 0.5 * mse(second(h), z)
        loss.backward()
        norm = optim.clip_grad_norm(parameters, 0.5)
        opt.step()
        return loss, [out, norm]

    given = [(numbers(8, 6, seed=i), labels(8, 3, i), numbers(8, 1, seed=70 + i)) for i in range(4)]
    return Step(step, given, state_of(body, first, second, opt=opt))


def averaged() -> Step:
    """Weights are averaged in the step, and the update is written by hand."""
    model = mlp(6, 5, 3)
    average = [Buffer(p.array.copy()) for p in model.parameters()]
    loss_of = nn.CrossEntropy()

    def step(x: Tensor, y: Tensor) -> Tensor:
        loss = loss_of(model(x), y)
        loss.backward()
        with gu.no_grad():
            for p, mean in zip(model.parameters(), average, strict=True):
                p -= 0.1 * p.g
                mean.assign(0.9 * mean + 0.1 * p)
        return loss

    return Step(
        step, batches(8, 6, 3), state_of(model) | {f"mean{i}": t for i, t in enumerate(average)}
    )


class Odd(Module):
    """A bwd that looks wrong and is right: d/dx x**2 * sign(x) = 2 |x|."""

    def forward(self, x: Tensor) -> Tensor:
        self.sign = x.sign()
        return x * x * self.sign

    def bwd(self, out: Tensor, x: Tensor) -> None:
        x.g = out.g * (x + x) * self.sign


def odd_module() -> Step:
    gu.manual_seed(3)
    model = nn.Sequential(nn.Linear(6, 5), Odd(), nn.Linear(5, 1))
    return training(model, nn.Mae(), optim.SGD(model.parameters(), 0.1), batches(8, 6, outputs=1))


def binary() -> Step:
    model = mlp(6, 5, 1, activation=nn.LeakyRelu)
    loss_of = nn.BinaryCrossEntropyWithLogits(pos_weight=2.0)
    given = [(x, labels(8, 2, i).astype(np.float32)) for i, (x, _) in enumerate(batches(8, 6, 2))]
    return training(model, loss_of, optim.SGD(model.parameters(), 0.1), given)


def second_order() -> Step:
    """A gradient penalty: the gradient of a gradient."""
    w = Parameter(numbers(4, 3, seed=5))
    opt = optim.SGD([w], 0.05)

    def step(x: Tensor) -> Tensor:
        out = (x @ w).tanh().sum()
        (dx,) = gu.grad(out, [x], create_graph=True)
        loss = (dx * dx).sum()
        loss.backward()
        opt.step()
        return loss

    given = [(Tensor(numbers(6, 4, seed=i), requires_grad=True),) for i in range(4)]
    return Step(step, given, {"w": w})


def two_players() -> Step:
    """Two models, two optimizers, one after the other, as a GAN has them."""
    gu.manual_seed(3)
    maker, judge = mlp(3, 6, 4), mlp(4, 5, 1, activation=nn.Tanh)
    of_maker, of_judge = optim.Adam(maker.parameters(), 0.01), optim.SGD(judge.parameters(), 0.05)
    bce = nn.BinaryCrossEntropyWithLogits()

    def step(real: Tensor, noise: Tensor) -> Any:
        fake = maker(noise)
        judged = bce(judge(real), gu.ones(8, 1)) + bce(judge(fake.detach()), gu.zeros(8, 1))
        judged.backward()
        of_judge.step()
        made = bce(judge(fake), gu.ones(8, 1))
        made.backward()
        of_maker.step()
        return judged, made

    given = [(numbers(8, 4, seed=i), numbers(8, 3, seed=30 + i)) for i in range(4)]
    return Step(step, given, state_of(maker, judge, opt=of_maker))


STEPS: dict[str, Callable[[], Step]] = {
    f.__name__: f
    for f in (
        lesson, classifier, momentum, adam, adamw_schedule, dropout, residual, deep, deep_adam,
        shared,
        two_inputs, two_losses, averaged, odd_module, binary, second_order, two_players,
    )
}  # fmt: skip
