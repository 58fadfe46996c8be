"""One training step of a small network: groundup, eager and compiled, against PyTorch eager.

    python benchmarks/step.py

784-50-10, batch 64, cross-entropy, SGD, float32: forward, backward and update. Both start from
the same weights and must agree after 20 steps before anything is timed.

Two ways of timing, for threads matter at this size. "interleaved": one process, steps by turns,
as when both are in use; the libraries' worker threads then get in each other's way. "alone": a
process for each, where they do not.
"""

import subprocess
import sys
from collections.abc import Callable
from itertools import pairwise
from typing import Any, TypeAlias

import numpy as np
from common import duration, interleave, machine, median, ratio
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

Array: TypeAlias = NDArray[Any]
Step: TypeAlias = Callable[[], float]

BATCH, SIZES, LR = 64, (784, 50, 10), 0.1
ROUNDS, STEPS = 31, 100  # a round times this many steps of each
OURS, COMPILED, THEIRS = "groundup eager", "groundup compiled", "PyTorch eager"


def problem() -> tuple[Array, Array, list[Array]]:
    """x (n, 784), labels (n,), and the two weights."""
    rng = np.random.default_rng(0)
    x = rng.random((BATCH, SIZES[0]), dtype=np.float32)
    y = rng.integers(0, SIZES[-1], BATCH)
    weights = [
        rng.standard_normal((i, o), dtype=np.float32) * np.float32((2 / i) ** 0.5)
        for i, o in pairwise(SIZES)
    ]
    return x, y, weights


def groundup_step(compiled: bool = False) -> Step:
    import groundup as gu
    from groundup import nn, optim

    x, y, (w1, w2) = problem()
    layers = [nn.Linear(*SIZES[:2]), nn.Relu(), nn.Linear(*SIZES[1:])]
    layers[0].w.assign(w1)
    layers[2].w.assign(w2)
    model, loss_of = nn.Sequential(*layers), nn.CrossEntropy()
    opt = optim.SGD(model.parameters(), lr=LR)
    tx, ty = gu.Tensor(x), gu.Tensor(y)

    def whole(x: gu.Tensor, y: gu.Tensor) -> gu.Tensor:
        loss = loss_of(model(x), y)
        loss.backward()
        opt.step()
        return loss

    run = gu.compile(whole) if compiled else whole
    return lambda: run(tx, ty).item()


def torch_step() -> Step:
    import torch

    x, y, (w1, w2) = problem()
    layers = [torch.nn.Linear(*SIZES[:2]), torch.nn.ReLU(), torch.nn.Linear(*SIZES[1:])]
    with torch.no_grad():
        for layer, w in ((layers[0], w1), (layers[2], w2)):
            layer.weight.copy_(torch.from_numpy(w.T))
            layer.bias.zero_()
    model, loss_of = torch.nn.Sequential(*layers), torch.nn.CrossEntropyLoss()
    opt = torch.optim.SGD(model.parameters(), lr=LR)
    tx, ty = torch.from_numpy(x), torch.from_numpy(y)

    def step() -> float:
        opt.zero_grad()
        loss = loss_of(model(tx), ty)
        loss.backward()
        opt.step()
        return loss.item()

    return step


CONTENDERS = {
    OURS: groundup_step,
    COMPILED: lambda: groundup_step(compiled=True),
    THEIRS: torch_step,
}


def repeated(step: Step) -> Callable[[], None]:
    def run() -> None:
        for _ in range(STEPS):
            step()

    return run


def alone(name: str) -> list[float]:
    """Seconds of a round, in a process of its own."""
    command = [sys.executable, __file__, name]
    out = subprocess.run(command, check=True, capture_output=True, text=True)
    return [float(line) for line in out.stdout.split()]


def main() -> None:
    if len(sys.argv) > 1:
        run = repeated(CONTENDERS[sys.argv[1]]())
        print(*interleave({"": run}, ROUNDS, warmup=5)[""], sep="\n")
        return
    console = Console()
    console.print(machine(), highlight=False)
    losses = {}
    for name, make in CONTENDERS.items():
        step = make()
        losses[name] = [step() for _ in range(20)]
    alike = (np.allclose(losses[name], losses[THEIRS], rtol=1e-4, atol=0) for name in CONTENDERS)
    if not all(alike):
        raise SystemExit(f"the losses of 20 steps differ: {losses}")

    table = Table(
        title=f"{SIZES[0]}-{SIZES[1]}-{SIZES[2]}, batch {BATCH}, median of {ROUNDS} rounds",
        title_justify="left",
    )
    for column in ("timing", *CONTENDERS, "PyTorch / eager", "PyTorch / compiled"):
        table.add_column(column, justify="left" if column == "timing" else "right")
    together = interleave({n: repeated(make()) for n, make in CONTENDERS.items()}, ROUNDS, 5)
    separate = {name: alone(name) for name in CONTENDERS}
    for timing, seconds in (("interleaved", together), ("alone", separate)):
        table.add_row(
            timing,
            *(duration(median(seconds[name]) / STEPS) for name in CONTENDERS),
            f"{ratio(seconds[THEIRS], seconds[OURS]):.2f} x",
            f"{ratio(seconds[THEIRS], seconds[COMPILED]):.2f} x",
        )
    console.print(table)


if __name__ == "__main__":
    main()
