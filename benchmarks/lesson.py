"""The lesson's whole pass: forward, backward and all five gradients, against PyTorch eager.

    python benchmarks/lesson.py

50,000 x 784 inputs, 50 hidden units with ReLU, one output, mean squared error, float32. Every
contender gets the same arrays, and its loss and gradients are checked against PyTorch's first.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, TypeAlias

import numpy as np
import torch
from common import duration, interleave, machine, median, peak_memory, ratio
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

import groundup as gu
from groundup import nn
from groundup.foundations import Gradients, forward_and_backward

Array: TypeAlias = NDArray[np.float32]
Pass: TypeAlias = Callable[[], tuple[float, Gradients]]

N, I, H = 50_000, 784, 50
ROUNDS = 21
REFERENCE = "PyTorch eager"
MODULES = "groundup modules"
COMPILED = "groundup compiled"


def problem() -> tuple[Array, ...]:
    """x, y, w1, b1, w2, b2: pixels from 0 to 1, digits as labels, Kaiming-scaled weights."""
    rng = np.random.default_rng(0)
    x = rng.random((N, I), dtype=np.float32)
    y = rng.integers(0, 10, N).astype(np.float32)
    w1 = rng.standard_normal((I, H), dtype=np.float32) * np.float32((2 / I) ** 0.5)
    w2 = rng.standard_normal((H, 1), dtype=np.float32) * np.float32((2 / H) ** 0.5)
    # Rows that come within rounding of relu's kink are drawn again: there, libraries that round
    # differently have different gradients.
    near = np.ones(N, bool)
    while near.any():
        x[near] = rng.random((near.sum(), I), dtype=np.float32)
        near[near] = (np.abs(x[near] @ w1.astype(np.float64)) < 1e-5).any(1)
    return x, y, w1, np.zeros(H, np.float32), w2, np.zeros(1, np.float32)


def torch_pass(x: Array, y: Array, w1: Array, b1: Array, w2: Array, b2: Array) -> Pass:
    """The same pass by autograd, written as the lesson writes it."""
    inputs = [torch.from_numpy(a.copy()).requires_grad_() for a in (w1, b1, w2, b2, x)]
    tw1, tb1, tw2, tb2, tx = inputs
    ty = torch.from_numpy(y)

    def run() -> tuple[float, Gradients]:
        out = (tx @ tw1 + tb1).relu() @ tw2 + tb2
        loss = torch.nn.functional.mse_loss(out.squeeze(-1), ty)
        gradients = torch.autograd.grad(loss, inputs)
        return loss.item(), Gradients(*(gradient.numpy() for gradient in gradients))

    return run


def module_pass(x: Array, y: Array, w1: Array, b1: Array, w2: Array, b2: Array) -> Pass:
    """The same pass by groundup's layers, each of which has a hand-written bwd."""
    tx = gu.Tensor(x, requires_grad=True)
    layers = [nn.Lin(w1.copy(), b1.copy()), nn.Relu(), nn.Lin(w2.copy(), b2.copy())]
    model, mse = nn.Sequential(*layers), nn.Mse()

    def run() -> tuple[float, Gradients]:
        loss = mse(model(tx), y)
        loss.backward()
        wanted = (layers[0].w, layers[0].b, layers[2].w, layers[2].b, tx)
        return loss.item(), Gradients(*(tensor.g.numpy() for tensor in wanted))

    return run


def compiled_pass(x: Array, y: Array, w1: Array, b1: Array, w2: Array, b2: Array) -> Pass:
    """The pass by layers, compiled."""
    tx = gu.Tensor(x, requires_grad=True)
    layers = [nn.Lin(w1.copy(), b1.copy()), nn.Relu(), nn.Lin(w2.copy(), b2.copy())]
    model, mse = nn.Sequential(*layers), nn.Mse()

    @gu.compile
    def step(x: gu.Tensor, y: gu.Tensor) -> Any:
        loss = mse(model(x), y)
        loss.backward()
        return loss, layers[0].w.g, layers[0].b.g, layers[2].w.g, layers[2].b.g, x.g

    def run() -> tuple[float, Gradients]:
        loss, *gradients = step(tx, y)
        return loss.item(), Gradients(*(gradient.numpy() for gradient in gradients))

    return run


def autograd_pass(x: Array, y: Array, w1: Array, b1: Array, w2: Array, b2: Array) -> Pass:
    """The same pass by groundup's autograd, without any layer."""
    wanted = [gu.Tensor(a.copy(), requires_grad=True) for a in (w1, b1, w2, b2)]
    tw1, tb1, tw2, tb2 = wanted
    wanted.append(tx := gu.Tensor(x, requires_grad=True))

    def run() -> tuple[float, Gradients]:
        out = (tx @ tw1 + tb1).relu() @ tw2 + tb2
        loss = ((out.squeeze(-1) - y) ** 2).mean()
        loss.backward()
        return loss.item(), Gradients(*(tensor.g.numpy() for tensor in wanted))

    return run


def contenders(arrays: tuple[Array, ...]) -> dict[str, Pass]:
    """What is timed, by name: each a call without arguments that returns (loss, Gradients)."""
    return {
        REFERENCE: torch_pass(*arrays),
        "groundup.foundations": partial(forward_and_backward, *arrays),
        MODULES: module_pass(*arrays),
        "groundup autograd": autograd_pass(*arrays),
        COMPILED: compiled_pass(*arrays),
    }


def deviation(run: Pass, reference: Pass) -> float:
    """The largest difference of loss and gradients, each relative to its largest number."""
    (loss, gradients), (loss_0, gradients_0) = run(), reference()
    pairs: list[tuple[Any, Any]] = [(loss, loss_0), *zip(gradients, gradients_0, strict=True)]
    return max(float(np.abs(a - b).max() / np.abs(b).max()) for a, b in pairs)


def main() -> None:
    console = Console()
    console.print(machine(), highlight=False)
    console.print(f"PyTorch {torch.__version__}, {torch.get_num_threads()} threads")
    runs = contenders(problem())
    for name, run in runs.items():
        if not (difference := deviation(run, runs[REFERENCE])) < 1e-4:
            raise SystemExit(f"{name} differs from {REFERENCE} by {difference:.2g} of the largest")

    seconds = interleave(runs, ROUNDS)
    table = Table(title=f"{N} x {I} - {H} - 1, median of {ROUNDS}", title_justify="left")
    table.add_column("pass")
    table.add_column("time", justify="right")
    table.add_column(f"faster than {REFERENCE}", justify="right")
    for name, times in seconds.items():
        table.add_row(name, duration(median(times)), f"{ratio(seconds[REFERENCE], times):.2f} x")
    console.print(table)

    dx = 4 * N * I
    for name in ("groundup.foundations", MODULES, COMPILED):
        console.print(
            f"{name}: {peak_memory(runs[name]) / 1e6:.0f} MB above the inputs at the peak, "
            f"of which {dx / 1e6:.0f} MB are the result dx"
        )


if __name__ == "__main__":
    main()
