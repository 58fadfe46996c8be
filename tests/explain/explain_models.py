"""Models of all shapes that the tests explain."""

from __future__ import annotations

from typing import Any

import numpy as np

import groundup as gu
from groundup import nn

RNG = np.random.default_rng(0)


def normal(*shape: int) -> np.ndarray:
    return RNG.standard_normal(shape).astype(np.float32)


class Block(nn.Module):
    """A residual block without a bwd of its own."""

    def __init__(self, n: int):
        self.fc, self.act = nn.Linear(n, n), nn.Relu()

    def forward(self, inp):
        return inp + self.act(self.fc(inp))


class Deep(nn.Module):
    def __init__(self, blocks: int, n: int = 8):
        self.emb = nn.Linear(n, n)
        self.blocks = [Block(n) for _ in range(blocks)]
        self.head = nn.Linear(n, 3)

    def forward(self, x):
        x = self.emb(x)
        for block in self.blocks:
            x = block(x)
        return self.head(x)


class Two(nn.Module):
    """Two inputs, and one Tanh for both."""

    def __init__(self):
        self.left, self.right, self.act = nn.Linear(4, 5), nn.Linear(3, 5), nn.Tanh()
        self.out = nn.Linear(10, 1)

    def forward(self, a, b):
        both = [self.act(self.left(a)), self.act(self.right(b))]
        return self.out(gu.concatenate(both, axis=1))


class Shared(nn.Module):
    """One layer called twice, and a skip over both."""

    def __init__(self):
        self.fc, self.head = nn.Linear(6, 6), nn.Linear(6, 3)

    def forward(self, x):
        return self.head(self.fc(self.fc(x).tanh()).relu() + x)


class Attention(nn.Module):
    def __init__(self, d: int = 8):
        self.q, self.k, self.v = (nn.Linear(d, d, bias=False) for _ in range(3))
        self.o = nn.Linear(d, d)
        self.scale = d**-0.5

    def forward(self, x):
        scores = (self.q(x) @ self.k(x).transpose(1, 2)) * self.scale
        return x + self.o(scores.softmax(2) @ self.v(x))


class Feed(nn.Module):
    """A bwd of its own around two layers: they are one step of the backward pass."""

    def __init__(self, n: int = 6):
        self.one, self.two = nn.Linear(n, n), nn.Linear(n, n)

    def forward(self, inp):
        return self.two(self.one(inp))

    def bwd(self, out, inp):
        h = inp @ self.one.w + self.one.b
        dh = out.g @ self.two.w.T
        self.two.w.g, self.two.b.g = h.T @ out.g, out.g.sum(0)
        self.one.w.g, self.one.b.g = inp.T @ dh, dh.sum(0)
        inp.g = dh @ self.one.w.T


def cases() -> dict[str, tuple[nn.Module, Any, Any]]:
    """Model, inputs and targets by name."""
    labels = RNG.integers(0, 3, 16)
    mlp = nn.Sequential(nn.Linear(12, 7), nn.Relu(), nn.Dropout(0.2), nn.Linear(7, 3))
    return {
        "mlp": (mlp, normal(16, 12), labels),
        "deep": (Deep(2), normal(16, 8), labels),
        "deepest": (Deep(12), normal(16, 8), labels),
        "two": (Two(), (normal(16, 4), normal(16, 3)), normal(16, 1)),
        "shared": (Shared(), normal(16, 6), labels),
        "attention": (Attention(), normal(4, 5, 8), normal(4, 5, 8)),
        "own rule": (nn.Sequential(Feed(), nn.Tanh()), normal(16, 6), normal(16, 6)),
        "forward only": (nn.Sequential(nn.Linear(4, 3), nn.Sigmoid()), normal(5, 4), None),
        "nothing to learn": (nn.Sequential(nn.Tanh(), nn.Gelu()), normal(5, 4), normal(5, 4)),
    }
