"""Each layer, loss and optimizer in a step: printed and compiled, it is the eager one to a bit."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from steps import Step, batches, labels, mlp, numbers, state_of, training
from test_program_steps import flatten, results, state

import groundup as gu
from groundup import Tensor, nn, optim
from groundup.nn import Module

LAYERS: dict[str, Callable[[], Module]] = {
    "Linear": lambda: nn.Linear(6, 6),
    "Linear, no bias": lambda: nn.Linear(6, 6, bias=False),
    "Lin": lambda: nn.Lin(numbers(6, 6, seed=8), numbers(6, seed=9)),
    "Lin, (1, n) bias": lambda: nn.Lin(numbers(6, 6, seed=8), numbers(1, 6, seed=9)),
    "Relu": nn.Relu,
    "LeakyRelu": lambda: nn.LeakyRelu(0.2),
    "Tanh": nn.Tanh,
    "Sigmoid": nn.Sigmoid,
    "Gelu": nn.Gelu,
    "Gelu, tanh": lambda: nn.Gelu("tanh"),
    "Flatten": nn.Flatten,
    "Dropout": lambda: nn.Dropout(0.3, generator=gu.Generator(5)),
    "Mask": lambda: nn.Sequential(lambda x: nn.Mask(2.0)(x, x > 0.1)),
    "Sequential": lambda: nn.Sequential(nn.Linear(6, 4), nn.Tanh(), nn.Linear(4, 6)),
}
LOSSES: dict[str, tuple[Callable[[], Module], str]] = {
    "Mse": (nn.Mse, "numbers"),
    "Mse, sum": (lambda: nn.Mse(reduction="sum"), "numbers"),
    "Mae": (nn.Mae, "numbers"),
    "CrossEntropy": (nn.CrossEntropy, "labels"),
    "CrossEntropy, sum": (lambda: nn.CrossEntropy(reduction="sum"), "labels"),
    "CrossEntropy, smoothed": (lambda: nn.CrossEntropy(label_smoothing=0.2), "labels"),
    "CrossEntropy, weighted": (
        lambda: nn.CrossEntropy(weight=[1, 2, 3, 1, 2, 3], label_smoothing=0.1), "labels",
    ),
    "BinaryCrossEntropyWithLogits": (nn.BinaryCrossEntropyWithLogits, "shares"),
    "BinaryCrossEntropyWithLogits, weighted": (
        lambda: nn.BinaryCrossEntropyWithLogits(pos_weight=[1, 2, 3, 1, 2, 3]), "shares",
    ),
}  # fmt: skip
OPTIMIZERS: dict[str, Callable[..., optim.Optimizer]] = {
    "SGD": lambda p: optim.SGD(p, 0.1),
    "SGD, weight decay": lambda p: optim.SGD(p, 0.1, weight_decay=0.01),
    "SGD, momentum": lambda p: optim.SGD(p, 0.1, momentum=0.9),
    "SGD, Nesterov": lambda p: optim.SGD(p, 0.1, momentum=0.9, nesterov=True, weight_decay=0.01),
    "RMSprop": lambda p: optim.RMSprop(p, 0.01),
    "RMSprop, all": lambda p: optim.RMSprop(p, 0.01, weight_decay=0.1, momentum=0.5, centered=True),
    "Adam": lambda p: optim.Adam(p, 0.01),
    "Adam, weight decay": lambda p: optim.Adam(p, 0.01, weight_decay=0.1),
    "AdamW": lambda p: optim.AdamW(p, 0.01),
}


def check(make: Callable[[], Step]) -> None:
    """Compare eager steps with compiled ones and with the printed source, from the same start."""
    eager, other = make(), make()
    compiled = gu.compile(other.function)
    for i, batch in enumerate(eager.batches):
        if i:
            given = compiled.arguments(*batch)
            returned = compiled.program.function()(**given)
        wanted = results(eager.function(*batch))
        assert results(compiled(*batch)) == wanted
        assert state(eager) == state(other)
        if i:
            assert [np.asarray(r).tobytes() for r in flatten(returned)] == wanted
            after = compiled.arguments(*batch)
            for held in compiled.program.inputs_of("parameter", "state"):
                assert given[held.var.name].tobytes() == after[held.var.name].tobytes(), held
    assert compiled.recordings == 2


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("autograd", [False, True])
@pytest.mark.parametrize("name", LAYERS)
def test_layer(name: str, autograd: bool, dtype: Any) -> None:
    def make() -> Step:
        gu.manual_seed(3)
        layer = LAYERS[name]().to(dtype)
        lin = nn.Linear(6, 6).to(dtype)
        parameters = [*lin.parameters(), *layer.parameters()]
        opt = optim.SGD(parameters, 0.1)
        mse = nn.Mse()

        def step(x: Tensor, y: Tensor) -> Any:
            if autograd:
                with gu.autograd_only():
                    out = layer(lin(x))
                    loss = mse(out, y)
            else:
                out = layer(lin(x))
                loss = mse(out, y)
            loss.backward()
            opt.step()
            return loss, out, x.g

        given = [
            (Tensor(x, requires_grad=True), y) for x, y in batches(7, 6, outputs=6, dtype=dtype)
        ]
        return Step(step, given, state_of(layer, lin, opt=opt))

    check(make)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", LOSSES)
def test_loss(name: str, dtype: Any) -> None:
    kind, targets = LOSSES[name]

    def make() -> Step:
        model = mlp(4, 6, dtype=dtype)
        opt = optim.SGD(model.parameters(), 0.1)
        made = training(model, kind(), opt, [])
        for i in range(4):
            x = numbers(7, 4, seed=i, dtype=dtype)
            y = {
                "labels": labels(7, 6, i),
                "numbers": numbers(7, 6, seed=40 + i, dtype=dtype),
                "shares": np.random.default_rng(i).random((7, 6)).astype(dtype),
            }[targets]
            made.batches.append((x, y))
        return made

    check(make)


@pytest.mark.parametrize("name", LOSSES)
def test_loss_of_single_rows(name: str) -> None:
    kind, targets = LOSSES[name]
    loss_of = kind()
    loss_of.reduction = "none"
    compiled = gu.compile(lambda x, y: loss_of(x, y))
    for i in range(4):
        x = numbers(7, 6, seed=i)
        y = {"labels": labels(7, 6, i), "numbers": x[::-1].copy(), "shares": (x > 0) * 1.0}[targets]
        assert results(compiled(x, y.astype(y.dtype))) == results(loss_of(Tensor(x), Tensor(y)))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_optimizer(name: str, dtype: Any) -> None:
    def make() -> Step:
        model = mlp(5, 4, 3, dtype=dtype)
        opt = OPTIMIZERS[name](model.parameters())
        return training(model, nn.CrossEntropy(), opt, batches(7, 5, 3, count=6, dtype=dtype))

    check(make)


def test_none_is_missing() -> None:
    def kinds(parent: type, module: Any) -> set[str]:
        return {
            n for n, k in vars(module).items()
            if isinstance(k, type) and issubclass(k, parent) and k not in (parent, nn.Loss)
        }  # fmt: skip

    tested = {name.split(",")[0] for name in (*LAYERS, *LOSSES)}
    assert tested == kinds(Module, nn)
    assert {name.split(",")[0] for name in OPTIMIZERS} == kinds(optim.Optimizer, optim)
