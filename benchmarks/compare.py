"""groundup beside PyTorch, JAX and scikit-learn: training steps, an epoch, inference, first calls.

    python benchmarks/compare.py [--only NAME ...] [--rounds N] [--engine native] [--alone]
                                 [--chart docs/compare.svg]

Each work starts from the same float32 weights everywhere, and losses, gradients or updates must
agree before anything is timed. Then the contenders take turns in one process, in another order in
each round: a pause (libraries' idle threads spin on for a while), a call that is not timed, a
block of calls that is. --alone gives each contender a process of its own instead, by turns.
Ratios are the peer's time over that of groundup compiled, the median over rounds. A call returns
each library's own tensors, ready to be read; nobody converts them.
"""

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from importlib import metadata
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from common import duration, interleave, machine, median, ratio
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

import groundup as gu
from groundup.errors import DataNotFoundError

Array: TypeAlias = NDArray[Any]
Times: TypeAlias = dict[str, list[float]]  # seconds of a call, by contender, one a round

EAGER, OURS, TORCH, INDUCTOR = "groundup eager", "groundup", "PyTorch eager", "torch.compile"
JAX, SKLEARN = "JAX jit", "scikit-learn"
NEEDS = {TORCH: "torch", INDUCTOR: "torch", JAX: "jax", SKLEARN: "sklearn"}
SETTLE = 0.2  # seconds; OpenBLAS' threads spin for up to 100 ms after their work
CALLS = 4  # validated; groundup's engine runs without its eager twin from the third call on
TOLERANCE = 1e-3  # of each array's largest entry
LOOSE = 0.25  # of a loss after random numbers that no two libraries share
FRESH = 5  # processes for what is measured in fresh ones
EPOCHS = 5  # rounds of an epoch at most

# eps is larger than usual: where a gradient is nearly zero, m / sqrt(v) is made of rounding.
ADAM = {"lr": 1e-3, "betas": (0.9, 0.999), "eps": 1e-4}
OPTIMIZERS: dict[str, tuple[str, dict[str, Any]]] = {  # class and settings, here as in PyTorch
    "sgd": ("SGD", {"lr": 0.1}),
    "momentum": ("SGD", {"lr": 0.01, "momentum": 0.9}),
    "adam": ("Adam", ADAM),
    "adamw": ("AdamW", {**ADAM, "weight_decay": 0.1}),
}


@dataclass(frozen=True)
class Work:
    name: str
    kind: str  # "pass": loss and gradients; "step": with update; "epoch" of steps; "row": output
    sizes: tuple[int, ...]
    batch: int
    target: float  # wanted of the fastest peer's time over ours
    calls: int  # in a block
    against_torch: float = 0.0  # wanted against PyTorch eager, where that is more
    peers: tuple[str, ...] = (TORCH, INDUCTOR, JAX)
    activation: str = "relu"
    optimizer: str = "sgd"
    dropout: float = 0.0
    dx: bool = False  # whether a pass gives x's gradient, too
    mse: bool = False  # else cross-entropy
    rows: int = 0  # of an epoch
    shuffle: bool = True

    @property
    def trains(self) -> bool:
        return self.kind in ("step", "epoch")

    def flops(self) -> int:
        """Of the products in forward and backward; the first layer's dx only where it is asked."""
        products = [2 * self.batch * i * o for i, o in pairwise(self.sizes)]
        return 3 * sum(products) - (0 if self.dx else products[0])


MNIST = (784, 50, 10)
LESSON = Work("lesson, all five gradients", "pass", (784, 50, 1), 50_000, 2.5, 3, dx=True, mse=True)
STEP = Work("784-50-10, batch 64, SGD", "step", MNIST, 64, 4, 1000)
WORKS = [
    LESSON,
    replace(LESSON, name="lesson, without dx", dx=False, target=1.6),
    Work("4-64-64-2, batch 32, momentum", "step", (4, 64, 64, 2), 32, 5, 1000, 12,
         optimizer="momentum"),
    STEP,
    Work("784-256-128-10, batch 128, SGD", "step", (784, 256, 128, 10), 128, 1.8, 200),
    Work("784-512-512-10, batch 512, SGD", "step", (784, 512, 512, 10), 512, 1.25, 30),
    Work("epoch of Fashion-MNIST, 784-50-10", "epoch", MNIST, 64, 4, 1,
         peers=(TORCH, INDUCTOR, JAX, SKLEARN), rows=60_000),
    Work("one row, inference, 784-50-10", "row", MNIST, 1, 5, 5000),
]  # fmt: skip
MIDDLE = Work("", "step", (784, 256, 10), 128, 1, 200, peers=(TORCH, JAX))
OTHERS = [
    replace(MIDDLE, name="784-256-10, Adam", optimizer="adam"),
    replace(MIDDLE, name="784-256-10, AdamW", optimizer="adamw"),
    replace(MIDDLE, name="784-256-10, Tanh", activation="tanh"),
    replace(MIDDLE, name="784-256-10, Gelu", activation="gelu"),
    replace(MIDDLE, name="784-256-10, Sigmoid", activation="sigmoid"),
    replace(MIDDLE, name="784-256-10, Dropout 0.5", dropout=0.5),
    replace(MIDDLE, name="37-61-13, batch 29, SGD", sizes=(37, 61, 13), batch=29, calls=2000),
]
FIRST, INSTALL = "first call", "install and import"


class Peer(NamedTuple):
    call: Callable[[], Any]  # does the work once: gradients, loss or output, as a list; or None
    array: Callable[[Any], Array]  # of one of those
    weights: Callable[[], list[Array]]  # copies of them, now
    restart: Callable[[], None]  # from the first weights, with an optimizer that has seen nothing

    def numbers(self, work: Work) -> list[Array]:
        """What a call computes: loss or output first, then gradients or the new weights."""
        found = [self.array(value) for value in self.call() or ()]
        weights = self.weights() if work.trains else []
        return found + ([mean_loss(work, weights)] if work.kind == "epoch" else []) + weights


# The problem


@lru_cache(maxsize=2)
def problem(work: Work) -> tuple[Array, Array, list[Array]]:
    """x (n, i), y (n,) or (n, 1), and the weights [w1 (i, h), b1 (h,), w2, b2, ...]; b is zero."""
    rng = np.random.default_rng(0)
    weights: list[Array] = []
    for i, o in pairwise(work.sizes):
        scale = np.float32((2 / i) ** 0.5)
        weights += [rng.standard_normal((i, o), dtype=np.float32) * scale, np.zeros(o, np.float32)]
    n = work.rows or work.batch
    if work.rows and (images := fashion()):
        return images[0][:n], images[1][:n], weights
    x = rng.random((n, work.sizes[0]), dtype=np.float32)
    y = rng.integers(0, 10 if work.mse else work.sizes[-1], n)
    # Rows that come within rounding of relu's kink are drawn again: there, libraries that round
    # differently have different gradients.
    near = np.full(n, work.activation == "relu" and not work.rows)
    while near.any():
        x[near] = rng.random((near.sum(), work.sizes[0]), dtype=np.float32)
        hidden = forward(weights, x[near].astype(np.float64))[:-1]
        near[near] = np.any([(np.abs(h) < 1e-5).any(1) for h in hidden], axis=0)
    return x, y.astype(np.float32)[:, None] if work.mse else y, weights


@lru_cache(maxsize=1)
def fashion() -> tuple[Array, Array] | None:
    """Fashion-MNIST's 60,000 training images; None where its files are not."""
    try:
        x, y, *_ = gu.data.fashion_mnist(split="test")
    except DataNotFoundError:
        return None
    return x, y


def forward(weights: Sequence[Array], x: Array) -> list[Array]:
    """Each layer's output before its relu."""
    outs: list[Array] = []
    for w, b in zip(weights[::2], weights[1::2], strict=True):
        outs.append((np.maximum(outs[-1], 0) if outs else x) @ w + b)
    return outs


def mean_loss(work: Work, weights: Sequence[Array]) -> Any:
    """Cross-entropy over the whole data: how far an epoch came."""
    x, y, _ = problem(work)
    out = forward(weights, x)[-1]
    out -= out.max(1, keepdims=True)
    return (np.log(np.exp(out).sum(1)) - out[np.arange(len(y)), y]).mean()


# The contenders


def network(work: Work, nn: Any, optim: Any) -> tuple[Any, Any, Any]:
    """Model, loss and optimizer from groundup's classes or PyTorch's, alike but for capitals."""

    def named(*names: str) -> Any:
        return next(getattr(nn, found) for found in dir(nn) if found.lower() in names)

    layers: list[Any] = []
    for i, o in pairwise(work.sizes):
        layers += [nn.Linear(i, o), named(work.activation)()]
        layers += [nn.Dropout(work.dropout)] if work.dropout else []
    model = nn.Sequential(*layers[: -2 if work.dropout else -1])
    loss_of = named("mse", "mseloss")() if work.mse else named("crossentropy", "crossentropyloss")()
    name, settings = OPTIMIZERS[work.optimizer]
    return model, loss_of, getattr(optim, name)(list(model.parameters()), **settings)


def groundup_peer(work: Work, engine: str | None) -> Peer:
    """Eager without an engine."""
    x, y, weights = problem(work)
    model, loss_of, opt = network(work, gu.nn, gu.optim)
    params, untouched = list(model.parameters()), opt.state_dict()
    tx, ty = gu.Tensor(x, requires_grad=work.dx), gu.Tensor(y)

    def gradients(x: gu.Tensor, y: gu.Tensor) -> Any:
        loss = loss_of(model(x), y)
        loss.backward()
        return loss, *(p.g for p in params), *([x.g] if work.dx else [])

    def step(x: gu.Tensor, y: gu.Tensor) -> Any:
        loss = loss_of(model(x), y)
        loss.backward()
        opt.step()
        return loss

    def restart() -> None:
        for p, w in zip(params, weights, strict=True):
            p.assign(w)
        opt.load_state_dict(untouched)

    restart()
    run: Any = {"pass": gradients, "row": model}.get(work.kind, step)
    if engine:
        run = gu.compile(run, engine=engine)

    def infer() -> Any:
        with gu.no_grad():
            return [run(tx)]

    def epoch() -> None:
        if hasattr(run, "epoch"):
            run.epoch(x, y, batch_size=work.batch, shuffle=work.shuffle, seed=0)
            return
        for xb, yb in gu.data.batches(x, y, work.batch, shuffle=work.shuffle, seed=0):
            run(xb, yb)

    calls = {"pass": lambda: run(tx, ty), "step": lambda: [run(tx, ty)], "epoch": epoch}
    return Peer(
        calls.get(work.kind, infer),
        lambda tensor: np.array(tensor.numpy()),
        lambda: [p.numpy().copy() for p in params],
        restart,
    )


def torch_peer(work: Work, compiled: bool) -> Peer:
    import torch

    x, y, weights = problem(work)
    model, loss_of, opt = network(work, torch.nn, torch.optim)
    params = list(model.parameters())
    tx, ty = torch.from_numpy(x).requires_grad_(work.dx), torch.from_numpy(y)

    def loss_at(x: Any, y: Any) -> Any:
        return loss_of(model(x), y)

    def restart() -> None:
        opt.state.clear()
        for p, w in zip(params, weights, strict=True):
            p.data.copy_(torch.from_numpy(w.T))  # PyTorch keeps w as (out, in)

    restart()
    predict = model
    if compiled:  # the optimizer is not: compiled, it was slower
        torch._dynamo.reset()  # it counts recompilations by function, not by model
        predict = torch.compile(model, dynamic=False)
        loss_at = torch.compile(loss_at, dynamic=False)

    def gradients() -> Any:
        loss = loss_at(tx, ty)
        grads = torch.autograd.grad(loss, [*params, tx] if work.dx else params)
        return loss, *(g.t() for g in grads[: len(params)]), *grads[len(params) :]

    def step(x: Any = tx, y: Any = ty) -> Any:
        opt.zero_grad()
        loss = loss_at(x, y)
        loss.backward()
        opt.step()
        return [loss]

    def epoch() -> None:
        order = torch.randperm(len(tx)) if work.shuffle else torch.arange(len(tx))
        for rows in order.split(work.batch):
            step(tx[rows], ty[rows])

    def infer() -> Any:
        with torch.inference_mode():
            return [predict(tx)]

    return Peer(
        {"pass": gradients, "step": step, "epoch": epoch}.get(work.kind, infer),
        lambda tensor: tensor.detach().numpy().copy(),
        lambda: [p.detach().t().numpy().copy() for p in params],
        restart,
    )


def jax_peer(work: Work) -> Peer:
    import jax
    from jax import numpy as jnp

    x, y, weights = problem(work)
    activation = {"relu": jax.nn.relu, "tanh": jnp.tanh, "sigmoid": jax.nn.sigmoid,
                  "gelu": partial(jax.nn.gelu, approximate=False)}[work.activation]  # fmt: skip

    def predict(params: Any, x: Any, keys: Any = None) -> Any:
        for i in range(0, len(params), 2):
            if i:
                x = activation(x)
                if work.dropout:
                    kept = jax.random.bernoulli(keys[i // 2], 1 - work.dropout, x.shape)
                    x = jnp.where(kept, x / (1 - work.dropout), 0)
            x = x @ params[i] + params[i + 1]
        return x

    def loss_at(params: Any, x: Any, y: Any, keys: Any = None) -> Any:
        out = predict(params, x, keys)
        if work.mse:
            return ((out - y) ** 2).mean()
        return -jnp.take_along_axis(jax.nn.log_softmax(out), y[:, None], 1).mean()

    @partial(jax.jit, donate_argnums=0)
    def step(carry: Any, x: Any, y: Any, rows: Any = None) -> Any:
        params, state = carry
        keys = None
        if work.dropout:
            keys = jax.random.split(state["key"], len(params) // 2)
            state = {**state, "key": keys[0]}
        if rows is not None:
            x, y = x[rows], y[rows]
        loss, grads = jax.value_and_grad(loss_at)(params, x, y, keys)
        return jax_update(work, params, grads, state), loss

    gradients = jax.jit(jax.value_and_grad(loss_at, argnums=(0, 1) if work.dx else 0))
    infer = jax.jit(predict)
    slots = {"momentum": "v", "adam": "mv", "adamw": "mv"}.get(work.optimizer, "")
    params, carry = [jnp.asarray(w) for w in weights], None

    def restart() -> None:
        nonlocal carry
        state: dict[str, Any] = {name: [jnp.zeros_like(p) for p in params] for name in slots}
        state |= {"t": jnp.zeros(())} if "m" in slots else {}
        state |= {"key": jax.random.PRNGKey(0)} if work.dropout else {}
        carry = ([jnp.array(w) for w in weights], state)  # copies, for they are donated

    restart()
    jx, jy, rng = jnp.asarray(x), jnp.asarray(y), np.random.default_rng(0)

    def train() -> Any:
        nonlocal carry
        carry, loss = step(carry, jx, jy)
        return [loss.block_until_ready()]

    def epoch() -> None:
        nonlocal carry
        order = rng.permutation(len(x)) if work.shuffle else np.arange(len(x))
        for rows in np.split(order.astype(np.int32), range(work.batch, len(x), work.batch)):
            carry, loss = step(carry, jx, jy, rows)
        loss.block_until_ready()

    calls: dict[str, Callable[[], Any]] = {
        "pass": lambda: jax.tree.leaves(jax.block_until_ready(gradients(params, jx, jy))),
        "row": lambda: [infer(params, jx).block_until_ready()],
        "epoch": epoch,
    }
    return Peer(
        calls.get(work.kind, train), np.array, lambda: [np.array(p) for p in carry[0]], restart
    )


def jax_update(work: Work, params: Any, grads: Any, state: Any) -> tuple[Any, Any]:
    """The optimizer, written out: parameters and state after a step."""
    from jax import numpy as jnp

    s = OPTIMIZERS[work.optimizer][1]
    lr, pairs = s["lr"], list(zip(params, grads, strict=True))
    if work.optimizer == "sgd":
        return [p - lr * g for p, g in pairs], state
    if work.optimizer == "momentum":
        vs = [s["momentum"] * v + g for v, g in zip(state["v"], grads, strict=True)]
        return [p - lr * v for p, v in zip(params, vs, strict=True)], {**state, "v": vs}
    (beta1, beta2), t, decay = s["betas"], state["t"] + 1, 1 - lr * s.get("weight_decay", 0.0)
    ms = [beta1 * m + (1 - beta1) * g for m, g in zip(state["m"], grads, strict=True)]
    vs = [beta2 * v + (1 - beta2) * g * g for v, g in zip(state["v"], grads, strict=True)]
    params = [
        decay * p - lr * m / (1 - beta1**t) / (jnp.sqrt(v / (1 - beta2**t)) + s["eps"])
        for p, m, v in zip(params, ms, vs, strict=True)
    ]
    return params, {**state, "m": ms, "v": vs, "t": t}


def sklearn_peer(work: Work) -> Peer:
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.neural_network import MLPClassifier

    x, y, weights = problem(work)
    model = MLPClassifier(
        work.sizes[1:-1], solver="sgd", batch_size=work.batch, max_iter=1, momentum=0.0, alpha=0.0,
        learning_rate_init=OPTIMIZERS["sgd"][1]["lr"], shuffle=work.shuffle, warm_start=True,
    )  # fmt: skip

    def fit() -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # one epoch is what is asked for
            model.fit(x, y)

    def restart() -> None:
        model.coefs_ = [w.copy() for w in weights[::2]]
        model.intercepts_ = [b.copy() for b in weights[1::2]]

    fit()  # makes the arrays that the common weights replace; a warm start keeps those
    restart()
    return Peer(fit, np.array, lambda: [
        a.copy() for pair in zip(model.coefs_, model.intercepts_, strict=True) for a in pair
    ], restart)  # fmt: skip


def make(name: str, work: Work, engine: str) -> Peer:
    makers: dict[str, Callable[[], Peer]] = {
        EAGER: lambda: groundup_peer(work, None),
        OURS: lambda: groundup_peer(work, engine),
        TORCH: lambda: torch_peer(work, compiled=False),
        INDUCTOR: lambda: torch_peer(work, compiled=True),
        JAX: lambda: jax_peer(work),
        SKLEARN: lambda: sklearn_peer(work),
    }
    return makers[name]()


def missing(name: str) -> str:
    """Why a contender cannot take part; "" if it can."""
    if name in NEEDS and find_spec(NEEDS[name]) is None:
        return f"{NEEDS[name]} is not installed"
    if name == INDUCTOR and shutil.which("g++") is None:
        return "it needs a C++ compiler, and there is no g++"
    return ""


# Validating


def validate(work: Work, makers: Mapping[str, Callable[[Work], Peer]]) -> None:
    """SystemExit unless all contenders compute the same as the first, call by call.

    Random numbers are no two libraries' alike: dropout is compared with p = 0, an epoch in order
    and over its first 100 batches and a half. With random numbers, the losses must be near.
    """
    exact = replace(
        work, dropout=0.0, shuffle=False, rows=min(work.rows, 100 * work.batch + work.batch // 2)
    )
    random = work.dropout or work.kind == "epoch"
    for case, tolerance in ((exact, TOLERANCE), *([(work, LOOSE)] if random else [])):
        reference = None
        for name, maker in makers.items():
            peer = maker(case)
            found = [peer.numbers(case) for _ in range(2 if case.rows else CALLS)]
            if case is work:
                # Of an epoch, measured by the loss before it: where it ends depends on the order.
                start = [mean_loss(case, problem(case)[2])] if case.rows else []
                found = [[np.array([numbers[0], *start])] for numbers in found]
            elif case.trains:  # the changes of the weights, which are small beside the weights
                start = problem(case)[2]
                found = [[n[0], *map(np.subtract, n[1:], start)] for n in found]
            reference = reference or found
            if not (worst := deviation(found, reference)) < tolerance:
                raise SystemExit(
                    f"{work.name}: {name} differs from {next(iter(makers))} by {worst:.2g} of the "
                    f"largest number; {tolerance:g} is allowed"
                )


def deviation(found: list[list[Array]], reference: list[list[Array]]) -> float:
    """The largest difference of two arrays, relative to the largest number in the second."""
    worst = 0.0
    for one, two in zip(found, reference, strict=True):
        for a, b in zip(one, two, strict=True):
            if np.shape(a) != np.shape(b):
                return np.inf
            largest = max(np.abs(b).max(), 1e-30)
            worst = float(np.maximum(worst, np.abs(a - b).max() / largest))  # NaN stays
    return worst


# Timing


def by_turns(names: Sequence[str], rounds: int, measure: Callable[[str], float]) -> Times:
    """What `measure` gives for each name, by round; the order moves on by one each round."""
    seconds: Times = {name: [] for name in names}
    for turn in range(rounds):
        first = turn % len(names)
        for name in [*names[first:], *names[:first]]:
            seconds[name].append(measure(name))
    return seconds


def together(work: Work, names: Sequence[str], engine: str, rounds: int) -> Times:
    """Seconds of a call, all contenders in this process."""
    peers = {name: make(name, work, engine) for name in names}
    for peer in peers.values():
        for _ in range(2 if work.rows else CALLS):  # recordings and compilations
            peer.call()

    def block(name: str) -> float:
        # Each block trains anew: in thousands of steps on one batch, units die, and what their
        # momentum fades to are subnormal numbers, which are slow where they are not flushed to 0.
        peers[name].restart()
        run = peers[name].call
        time.sleep(SETTLE)
        run()
        start = time.perf_counter()
        for _ in range(work.calls):
            run()
        return (time.perf_counter() - start) / work.calls

    return by_turns(names, min(rounds, EPOCHS) if work.rows else rounds, block)


def alone(work: Work, names: Sequence[str], engine: str, rounds: int) -> Times:
    """Seconds of a call, each contender in a process of its own in each round."""
    return by_turns(names, rounds, lambda name: child("time", name, work, engine))


def child(do: str, contender: str, work: Work, engine: str) -> Any:
    """What `in_child` gives in a fresh process, without what an earlier one left on the disk."""
    fresh = {}
    if do == "first":  # PyTorch warns that the cache is off
        fresh = {"TORCHINDUCTOR_FORCE_DISABLE_CACHES": "1", "PYTHONWARNINGS": "ignore"}
    command = [sys.executable, __file__, "--child", do, contender, work.name, "--engine", engine]
    run = subprocess.run(command, stdout=subprocess.PIPE, text=True, env={**os.environ, **fresh})
    if run.returncode:
        raise SystemExit(f"{contender}, {do} of {work.name}: the process failed, see above")
    return json.loads(run.stdout.splitlines()[-1])


def in_child(do: str, contender: str, work: Work, engine: str) -> float:
    if do == "time":
        return median(together(work, [contender], engine, 1 if work.rows else FRESH)[contender])
    if do == "memory":
        return peak(contender, work, engine)
    peer = make(contender, work, engine)
    start = time.perf_counter()
    peer.call()
    return time.perf_counter() - start


def peak(contender: str, work: Work, engine: str) -> int:
    """Bytes in memory during a call at most, beyond inputs and results, what is kept included."""
    small = make(contender, replace(work, batch=256), engine)
    for _ in range(CALLS):  # code, threads and their buffers are not the work's
        small.call()
    peer = make(contender, work, engine)
    before = resident("VmRSS")
    for _ in range(CALLS):
        peer.call()
    Path("/proc/self/clear_refs").write_text("5")  # VmHWM starts anew
    result = peer.call()
    highest = resident("VmHWM")
    return highest - before - sum(peer.array(value).nbytes for value in result)


def resident(field: str) -> int:
    """Bytes of this process in memory: VmRSS now, VmHWM at most so far."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith(field))


# Printing


def best_of(work: Work, seconds: Times) -> tuple[float, str]:
    """The fastest peer's ratio and name; NaN if no peer took part."""
    ratios = [(ratio(seconds[p], seconds[OURS]), p) for p in work.peers if p in seconds]
    return min(ratios, default=(np.nan, "-"))


def main_table(title: str, results: Mapping[Work, Times]) -> Table:
    columns = [n for n in (EAGER, *NEEDS) if any(n in s for s in results.values())]
    table = Table(title=title, title_justify="left", show_lines=True)
    for column in ("work", OURS, *columns, "best peer", "target", "met"):
        table.add_column(column, justify="left" if column == "work" else "right")
    for work, seconds in results.items():
        ratios = {name: ratio(times, seconds[OURS]) for name, times in seconds.items()}
        cells = [
            f"{duration(median(seconds[n]))}\n{ratios[n]:.2f} x" if n in seconds else "-"
            for n in columns
        ]
        best, peer = best_of(work, seconds)
        met = best >= work.target and ratios.get(TORCH, np.inf) >= work.against_torch
        wanted = f"{work.target:g}"
        if work.against_torch:
            wanted += f"\n{work.against_torch:g} PyTorch"
        cells = [duration(median(seconds[OURS])), *cells, f"{best:.2f} x\n{peer}", wanted]
        table.add_row(work.name, *cells, "[green]yes[/]" if met else "[red]no[/]")
    return table


def lesson_table(work: Work, seconds: Times, engine: str) -> Table:
    table = Table(f"{work.name}, {work.flops() / 1e9:.2f} GFLOP")
    for column in ("time", "GFLOP/s", "peak memory beyond inputs and results"):
        table.add_column(column, justify="right")
    for name, times in seconds.items():
        rate, memory = work.flops() / median(times) / 1e9, child("memory", name, work, engine)
        table.add_row(name, duration(median(times)), f"{rate:.0f}", f"{memory / 1e6:.1f} MB")
    return table


def list_times(console: Console, title: str, seconds: Times) -> None:
    console.print(f"{title}, median of {FRESH} fresh processes", highlight=False)
    for name, times in seconds.items():
        console.print(f"  {name:28} {duration(median(times))}", highlight=False)


def print_sizes(console: Console) -> None:
    console.print("Installed: these alone, and with all that they declare to need")
    for names in (("numpy", "llvmlite", "groundup"), ("torch",), ("jax", "jaxlib")):
        if all(size(name) for name in names):
            own, whole = (sum(map(size, group)) / 1e6 for group in (names, needed(names)))
            line = f"  {' + '.join(names):28} {own:.0f} MB, {whole:.0f} MB"
            console.print(line, highlight=False)


def size(name: str) -> int:
    """Bytes on disk of an installed distribution, without caches; 0 if it is not there."""
    if name == "groundup":  # perhaps installed from a checkout
        files: Iterable[Path] = Path(gu.__file__).parent.rglob("*")
    else:
        try:
            files = [Path(str(file.locate())) for file in metadata.files(name) or ()]
        except metadata.PackageNotFoundError:
            return 0
    return sum(f.stat().st_size for f in files if f.is_file() and "__pycache__" not in f.parts)


def needed(names: Iterable[str]) -> set[str]:
    """These distributions and the installed ones that they require, directly or not."""
    found: set[str] = set()
    ahead = set(names)
    while ahead:
        found.add(name := ahead.pop())
        lines = (metadata.requires(name) or []) if size(name) else []
        plain = [re.split(r"[^\w.-]", line)[0] for line in lines if "extra ==" not in line]
        ahead |= {word.lower().replace("_", "-") for word in plain} - found
    return found


def draw(path: Path, results: Mapping[Work, Times]) -> None:
    """Bars of the best peer's time over ours, in colours for light and dark pages."""
    import matplotlib
    from matplotlib.figure import Figure

    matplotlib.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "groundup"})
    best = {work.name: best_of(work, s) for work, s in results.items() if set(work.peers) & set(s)}
    gray = "#808792"
    axes = Figure(figsize=(9, 1.0 + 0.36 * len(best)), layout="constrained").add_subplot()
    for place, (value, peer) in enumerate(best.values()):
        axes.barh(place, value, 0.62, color="#3f8fd0" if value >= 1 else "#d0743f")
        axes.annotate(f"{value:.2f}  {peer}", (value, place), (5, 0), va="center", color=gray,
                      textcoords="offset points", fontsize=9)  # fmt: skip
    axes.axvline(1, color=gray, linewidth=1.2, linestyle="--")
    axes.set_yticks(range(len(best)), list(best))
    axes.invert_yaxis()
    axes.set_xlim(0, 1.3 * max(value for value, _ in [*best.values(), (1.0, "")]))
    axes.set_xlabel("fastest peer's time / groundup's", color=gray)
    axes.tick_params(colors=gray)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(gray)
    axes.figure.savefig(path, transparent=True, metadata={"Date": None})


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, help=f"21; with --alone 5; epochs: at most {EPOCHS}")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="works whose names hold a NAME")
    parser.add_argument("--engine", default="native", help="of gu.compile: native, numpy")
    parser.add_argument("--chart", type=Path, metavar="FILE.svg", help="draw the ratios")
    parser.add_argument("--alone", action="store_true", help="each contender in its own process")
    parser.add_argument("--child", nargs=3, help=argparse.SUPPRESS)
    args = parser.parse_args()
    args.rounds = args.rounds or (5 if args.alone else 21)
    return args


def chosen_from(only: Sequence[str] | None) -> set[str]:
    everything = [work.name for work in WORKS + OTHERS] + [FIRST, INSTALL]
    words = [word.lower() for word in only or [""]]
    chosen = {name for name in everything if any(word in name.lower() for word in words)}
    if not chosen:
        raise SystemExit(f"--only {' '.join(words)}: there are {'; '.join(everything)}")
    return chosen


def main() -> None:
    args = arguments()
    if args.child:
        do, contender, name = args.child
        work = next(work for work in WORKS + OTHERS if work.name == name)
        print(json.dumps(in_child(do, contender, work, args.engine)))
        return
    chosen = chosen_from(args.only)
    console = Console(width=None if sys.stdout.isatty() else 150)
    packages = ("groundup", "llvmlite", "torch", "jax", "jaxlib", "scikit-learn")
    versions = [f"{name} {metadata.version(name)}" for name in packages if size(name)]
    console.print(
        machine(), ", ".join(versions), f"engine: {args.engine}", sep="\n", highlight=False
    )
    present = {name for name in (EAGER, OURS, *NEEDS) if not missing(name)}
    for name in set(NEEDS) - present:
        console.print(f"{name} is left out: {missing(name)}", highlight=False)

    drawn: dict[Work, Times] = {}
    measure, way = (alone, "a process each") if args.alone else (together, "one process")
    for title, works in (("works", WORKS), ("others (no target but 1)", OTHERS)):
        results: dict[Work, Times] = {}
        for work in (work for work in works if work.name in chosen):
            print(f"... {work.name}", file=sys.stderr)
            if work.rows and not fashion():
                console.print(f"{work.name}: its files are not there, so random data")
            names = [name for name in (EAGER, OURS, *work.peers) if name in present]
            validate(work, {name: partial(make, name, engine=args.engine) for name in names})
            results[work] = measure(work, names, args.engine, args.rounds)
        if results:
            console.print(main_table(f"{title}: {way}, by turns, {args.rounds} rounds", results))
        for work in (work for work in results if work.kind == "pass"):
            console.print(lesson_table(work, results[work], args.engine))
        drawn |= results
    if FIRST in chosen:
        names = [name for name in (OURS, JAX, INDUCTOR) if name in present]
        first = by_turns(names, FRESH, lambda name: child("first", name, STEP, args.engine))
        list_times(console, f"First call of {STEP.name} (target: 500 ms)", first)
    if INSTALL in chosen:
        print_sizes(console)
        modules = [m for m in ("numpy", "groundup", "torch", "jax", "sklearn") if find_spec(m)]
        codes = {"python": "pass", **{f"import {m}": f"import {m}" for m in modules}}
        with tempfile.TemporaryDirectory() as cache:
            # Compiled modules are kept, as pip keeps them.
            kept = {**os.environ, "PYTHONPYCACHEPREFIX": cache, "PYTHONDONTWRITEBYTECODE": ""}
            runs = {n: partial(subprocess.run, [sys.executable, "-c", c], env=kept)
                    for n, c in codes.items()}  # fmt: skip
            list_times(console, "Python's start with an import", interleave(runs, FRESH))
    if args.chart:
        draw(args.chart, drawn)


if __name__ == "__main__":
    main()
