"""Compiled steps against eager ones: what the recorded Program, run with NumPy, saves.

    python benchmarks/compiled.py

Steps of small and middle-sized networks, float32. Before anything is timed, eager and compiled
steps start from the same weights and must agree bit for bit over some steps. Then they are timed
by turns in one process; the ratio is the median over rounds. Peak memory is what a step allocates
at most beyond weights and inputs; a compiled step's kept buffers are counted in.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from time import perf_counter
from typing import Any

import numpy as np
from common import duration, interleave, machine, median, peak_memory, ratio
from rich.console import Console
from rich.table import Table

import groundup as gu
from groundup import nn, optim

ROUNDS = 31


@dataclass
class Case:
    name: str
    sizes: tuple[int, ...]
    batch: int
    optimizer: Callable[..., optim.Optimizer]
    steps: int  # in a round
    activation: Callable[[], nn.Module] = nn.Relu
    loss: str = "cross-entropy"

    def make(self) -> tuple[Callable[..., Any], tuple[Any, Any], nn.Module]:
        """A step, its arguments, and the model."""
        gu.manual_seed(0)
        layers: list[nn.Module] = []
        for a, b in zip(self.sizes, self.sizes[1:], strict=False):
            layers += [nn.Linear(a, b), self.activation()]
        model = nn.Sequential(*layers[:-1])
        opt = self.optimizer(model.parameters())
        rng = np.random.default_rng(0)
        x = gu.Tensor(rng.random((self.batch, self.sizes[0]), dtype=np.float32))
        if self.loss == "mse":
            y = gu.Tensor(rng.random((self.batch, self.sizes[-1]), dtype=np.float32))
        else:
            y = gu.Tensor(rng.integers(0, self.sizes[-1], self.batch))
        loss_of = nn.Mse() if self.loss == "mse" else nn.CrossEntropy()

        def step(x: gu.Tensor, y: gu.Tensor) -> gu.Tensor:
            loss = loss_of(model(x), y)
            loss.backward()
            opt.step()
            return loss

        return step, (x, y), model


def sgd(parameters: Any) -> optim.Optimizer:
    return optim.SGD(parameters, 0.01)


def momentum(parameters: Any) -> optim.Optimizer:
    return optim.SGD(parameters, 0.01, momentum=0.9)


CASES = [
    Case("4-64-64-2, batch 32, SGD with momentum", (4, 64, 64, 2), 32, momentum, 200),
    Case("784-50-10, batch 64, SGD", (784, 50, 10), 64, sgd, 100),
    Case("784-50-10, batch 64, Adam", (784, 50, 10), 64, optim.Adam, 50),
    Case("784-256-128-10, batch 128, SGD", (784, 256, 128, 10), 128, sgd, 20),
    Case("784-512-512-10, batch 512, Adam", (784, 512, 512, 10), 512, optim.Adam, 2),
    Case("37-61-13, batch 29, GELU, AdamW", (37, 61, 13), 29, optim.AdamW, 100, nn.Gelu),
    Case("784-50-1, batch 50,000, MSE, SGD", (784, 50, 1), 50_000, sgd, 1, nn.Relu, "mse"),
]


def validate(case: Case) -> None:
    """SystemExit unless compiled steps leave the same bits as eager ones."""
    (eager, args, one), (other, same_args, two) = case.make(), case.make()
    compiled = gu.compile(other, engine="numpy")
    for _ in range(4):
        a, b = eager(*args), compiled(*same_args)
        both = zip([a, *one.parameters()], [b, *two.parameters()], strict=True)
        if not all(p.data.tobytes() == q.data.tobytes() for p, q in both):
            raise SystemExit(f"{case.name}: compiled and eager steps differ")


def repeated(step: Callable[..., Any], args: tuple[Any, Any], steps: int) -> Callable[[], None]:
    def run() -> None:
        for _ in range(steps):
            step(*args)

    return run


def main() -> None:
    console = Console()
    console.print(machine(), highlight=False)
    table = Table(title=f"median of {ROUNDS} rounds", title_justify="left")
    for column in ("step", "eager", "compiled", "eager / compiled", "first call",
                   "peak, eager", "peak, compiled"):  # fmt: skip
        table.add_column(column, justify="left" if column == "step" else "right")
    for case in CASES:
        validate(case)
        (eager, args, _), (other, _, _) = case.make(), case.make()
        compiled = gu.compile(other, engine="numpy")
        start = perf_counter()
        compiled(*args)
        first = perf_counter() - start
        compiled(*args)
        seconds = interleave(
            {
                "eager": repeated(eager, args, case.steps),
                "compiled": repeated(compiled, args, case.steps),
            },
            ROUNDS,
            warmup=3,
        )
        kept = compiled.buffer_bytes
        table.add_row(
            case.name,
            duration(median(seconds["eager"]) / case.steps),
            duration(median(seconds["compiled"]) / case.steps),
            f"{ratio(seconds['eager'], seconds['compiled']):.2f} x",
            duration(first),
            f"{peak_memory(lambda e=eager, a=args: e(*a)) / 1e6:.2f} MB",
            f"{(kept + peak_memory(lambda c=compiled, a=args: c(*a))) / 1e6:.2f} MB",
        )
    console.print(table)


if __name__ == "__main__":
    main()
