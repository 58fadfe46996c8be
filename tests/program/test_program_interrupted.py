"""A compiled step that a signal interrupts left everything as it was, or did everything."""

from __future__ import annotations

import signal
import sys
import threading
import time
from typing import Any

import numpy as np
import pytest
from steps import batches, mlp, training

import groundup as gu
from groundup import nn, optim


def make(kind: Any) -> tuple[Any, Any, Any]:
    model = mlp(40, 30, 5)
    opt = kind(model.parameters(), 0.01)
    return model, opt, training(model, nn.CrossEntropy(), opt, []).function


def state(model: Any, opt: optim.Optimizer) -> dict[str, bytes]:
    held = {**model.state_dict(), **opt.state_dict()}
    return {name: array.tobytes() for name, array in held.items()}


@pytest.mark.skipif(sys.platform == "win32", reason="setitimer is POSIX")
@pytest.mark.parametrize("kind", [optim.SGD, optim.Adam])
def test_a_signal_leaves_all_or_nothing(kind: Any) -> None:
    (model, opt, step), (other, theirs, eager) = make(kind), make(kind)
    compiled = gu.compile(step)
    ((x, y),) = batches(16, 40, 5, count=1)
    for _ in range(3):
        compiled(x, y)
        eager(x, y)
    begin = time.perf_counter()
    for _ in range(20):
        compiled(x, y)
        eager(x, y)
    took = (time.perf_counter() - begin) / 20
    rng = np.random.default_rng(0)
    interrupted = 0

    def handler(number: int, frame: Any) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, handler)
    try:
        for _ in range(400):
            old = state(model, opt)
            try:
                signal.setitimer(signal.ITIMER_REAL, rng.uniform(1e-6, took))
                compiled(x, y)
                signal.setitimer(signal.ITIMER_REAL, 0)
            except KeyboardInterrupt:
                interrupted += 1
            now = state(model, opt)
            if now == old:
                continue
            eager(x, y)
            assert now == state(other, theirs)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert interrupted > 20


def test_several_threads_take_turns() -> None:
    model = mlp(40, 30, 5)
    fast = gu.compile(lambda x: model(x))
    inputs = [x for x, _ in batches(16, 40, 5, count=4)]
    wanted = [model(x).data.tobytes() for x in inputs]
    fast(inputs[0])
    fast(inputs[0])
    wrong: list[int] = []

    def work(i: int) -> None:
        for _ in range(200):
            if fast(inputs[i]).data.tobytes() != wanted[i]:
                wrong.append(i)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not wrong
