"""Subjects that are not made of Tensors: NumPy pairs, what PyTorch and JAX users write."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest
from corpus import pairs_layers, pairs_models, right_pairs, torch_functions

from groundup import nn
from groundup.check.adapters.held import Untraceable, tracing
from groundup.check.adapters.pairs import PairSubject, subject_for
from groundup.check.adapters.traced import Traced
from groundup.check.graphs import graph
from groundup.check.subjects import Mutated, Subject, TensorSubject
from groundup.errors import GradientError
from groundup.ops.base import quiet
from groundup.tensor import Tensor

torch = pytest.importorskip("torch")


def normals(*shapes: Any, seed: int = 0) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    return [rng.normal(size=shape) for shape in shapes]


def cotangents_of(subject: Subject) -> list[np.ndarray]:
    rng = np.random.default_rng(7)
    return [rng.normal(size=np.shape(o)) for o in subject.forward(subject.values)]


def slopes(subject: Subject, cotangents: list[np.ndarray]) -> dict[str, np.ndarray]:
    """The gradients by central differences."""

    def value(values: dict[str, np.ndarray]) -> float:
        outs = subject.forward(values)
        return sum(float(np.sum(o * c)) for o, c in zip(outs, cotangents, strict=True))

    found = {}
    for name, array in subject.values.items():
        g = found[name] = np.zeros(array.shape)
        for i in np.ndindex(array.shape):
            step = np.zeros(array.shape)
            step[i] = 1e-6
            up, down = (value({**subject.values, name: array + s * step}) for s in (1, -1))
            g[i] = (up - down) / 2e-6
    return found


def followed(subject: Subject) -> None:
    """Claimed and derived give what the code gives, and can be recorded."""
    cotangents = cotangents_of(subject)
    outs = subject.forward(subject.values)
    real = {n: g for n, g in subject.backward(subject.values, cotangents).items() if g is not None}
    for derived in (False, True):
        run = subject.derived if derived else subject.claimed
        with quiet():
            made, found = run(subject.leaves(subject.values), [Tensor.of(c) for c in cotangents])
        for a, b in zip(made, outs, strict=True):
            np.testing.assert_allclose(a.array, b, 1e-9, 1e-11)
        if not derived:
            assert found.keys() == real.keys()
            for n, g in real.items():
                np.testing.assert_allclose(found[n].array, g, 1e-9, 1e-11)
        recorded = graph(subject, subject.values, cotangents, derived)
        assert recorded is not None
        for name, b in zip(recorded.outputs, outs, strict=True):
            np.testing.assert_allclose(recorded.values[name], b, 1e-9, 1e-11)


def right(subject: Subject) -> None:
    """Followed, and backward, reference and differences agree."""
    followed(subject)
    cotangents = cotangents_of(subject)
    found = subject.backward(subject.values, cotangents)
    truth = slopes(subject, cotangents)
    references = [found, subject.reference(subject.values, cotangents)]
    for by in references:
        assert by is not None
        for n, g in truth.items():
            np.testing.assert_allclose(by[n], g, 1e-6, 1e-7)


def by_its_ops(subject: Subject) -> None:
    """Followed, and the library's own gradients are those of groundup's ops."""
    followed(subject)
    cotangents = cotangents_of(subject)
    with quiet():
        _, found = subject.derived(
            subject.leaves(subject.values), [Tensor.of(c) for c in cotangents]
        )
    for n, g in subject.backward(subject.values, cotangents).items():
        np.testing.assert_allclose(found[n].array, g, 1e-9, 1e-11)


# The conventions


def affine(x, w, b):
    return x @ w + b


def by_order(dout, x, w, b):
    return dout @ w.T, x.T @ dout, dout.sum(0)


def by_dict(g, x, w):
    return {"dx": g @ w.T, "w": x.T @ g, "grad_b": g.sum(0)}


def affine_cached(x, w, b):
    return x @ w + b, (x, w)


def from_cache(grad_output, cache):
    x, w = cache
    return [grad_output @ w.T, x.T @ grad_output, grad_output.sum(0)]


def from_anything(dout, stuff):
    return from_cache(dout, stuff)


def saves_apart(x, w, b):
    return x @ w + b, x, w


def each_saved(dout, x_, w_):
    return dout @ w_.T, x_.T @ dout, dout.sum(0)


def keyword_only(dout, *, w, x):
    return dout @ w.T, x.T @ dout, dout.sum(0)


def starred(dout, *inputs):
    return by_order(dout, *inputs)


def cache_first(cache, dout):
    return from_cache(dout, cache)


def with_an_option(dout, x, w, b, scale=1.0):
    return tuple(g * scale for g in by_order(dout, x, w, b))


@pytest.mark.parametrize(
    ("forward", "backward"),
    [
        (affine, by_order), (affine, by_dict), (affine_cached, from_cache),
        (affine_cached, from_anything), (saves_apart, each_saved), (affine, keyword_only),
        (affine, starred), (affine_cached, cache_first), (affine, with_an_option),
        (affine_cached, by_order),
    ],
)  # fmt: skip
def test_conventions(forward: Any, backward: Any) -> None:
    subject = PairSubject(forward, backward, normals((5, 4), (4, 3), 3))
    assert list(subject.values) == ["x", "w", "b"]
    assert subject.name == forward.__name__
    right(subject)


def test_output_by_name() -> None:
    right(PairSubject(lambda x: np.exp(x), lambda dy, out: dy * out, normals((3, 2))))


def test_a_ufunc_is_a_forward() -> None:
    subject = PairSubject(np.tanh, lambda dout, x: dout * (1 - np.tanh(x) ** 2), normals(4))
    assert list(subject.values) == ["x"]
    right(subject)


def test_integers_and_none_are_passed_on() -> None:
    def forward(table, words, scale=None):
        return table[words] * (scale or 2.0)

    def backward(dout, table, words):
        dtable = np.zeros_like(table)
        np.add.at(dtable, words, 2 * dout)
        return dtable, None, None

    subject = PairSubject(forward, backward, [*normals((5, 3)), np.array([1, 0, 1]), None])
    assert list(subject.values) == ["table"]
    right(subject)


def test_one_array_is_the_first_gradient() -> None:
    subject = PairSubject(lambda x, y: x * y, lambda g, x, y: g * y, normals(3, 3))
    found = subject.backward(subject.values, [np.ones(3)])
    np.testing.assert_array_equal(found["x"], subject.values["y"])
    assert found["y"] is None


def test_gradients_of_floating_inputs_only() -> None:
    labels = np.array([0, 2])

    def backward(dout, x, labels, y):
        dx = np.zeros_like(x)
        dx[labels] = dout * y
        return dx, dout * x[labels]

    right(PairSubject(lambda x, labels, y: x[labels] * y, backward, [*normals(4), labels,
                                                                     *normals(2)]))  # fmt: skip


def test_several_outputs() -> None:
    def forward(x):
        return np.sin(x), np.cos(x)

    right(PairSubject(forward, lambda dout, x: dout[0] * np.cos(x) - dout[1] * np.sin(x),
                      normals(3)))  # fmt: skip
    right(PairSubject(forward, lambda ds, dc, x: ds * np.cos(x) - dc * np.sin(x), normals(3)))


def test_several_outputs_and_a_cache() -> None:
    def forward(x):
        return np.sin(x), np.cos(x), {"x": x}

    right(PairSubject(forward, lambda ds, dc, cache: ds * np.cos(cache["x"])
                      - dc * np.sin(cache["x"]), normals(3)))  # fmt: skip


def test_a_loss_without_a_cotangent() -> None:
    def loss(p, y):
        return np.mean((p - y) ** 2)

    right(PairSubject(loss, lambda p, y: (2 * (p - y) / p.size, 2 * (y - p) / p.size),
                      normals((3, 2), (3, 2))))  # fmt: skip


def test_a_dict_of_parameters() -> None:
    def forward(x, params):
        return np.tanh(x @ params["W"] + params["b"])

    def backward(dout, x, params, out):
        dz = dout * (1 - out**2)
        return dz @ params["W"].T, {"dW": x.T @ dz, "db": dz.sum(0)}

    x, w, b = normals((4, 3), (3, 2), 2)
    subject = PairSubject(forward, backward, [x, {"W": w, "b": b}])
    assert list(subject.values) == ["x", "params.W", "params.b"]
    right(subject)


def test_a_number_without_a_gradient_is_a_setting() -> None:
    def backward(dout, x, slope):
        return np.where(x > 0, dout, slope * dout), None

    subject = PairSubject(lambda x, slope: np.where(x > 0, x, slope * x), backward,
                          [*normals(5), 0.1])  # fmt: skip
    assert list(subject.values) == ["x"]
    right(subject)


def test_methods_of_an_object() -> None:
    class Layer:
        def __init__(self, w):
            self.w = w

        def forward(self, x):
            self.x = x
            return np.maximum(x @ self.w, 0)

        def backward(self, dout):
            return (dout * (self.x @ self.w > 0)) @ self.w.T

    layer = Layer(normals((4, 3))[0])
    subject = PairSubject(layer.forward, layer.backward, normals((5, 4), seed=1))
    assert subject.name == "Layer.forward"
    right(subject)
    assert type(layer.x) is np.ndarray


# What fits nothing


def test_a_wrong_number_of_gradients_is_named() -> None:
    with pytest.raises(GradientError, match=r"\(x, w, b\).*\(dout, x, w\).*tuple of 2, for 3"):
        PairSubject(affine, lambda dout, x, w: (x, w), normals((5, 4), (4, 3), 3))


def test_a_result_without_a_cache_is_named() -> None:
    with pytest.raises(GradientError, match=r"returned an array.*fit none of the conventions"):
        PairSubject(affine, from_cache, normals((5, 4), (4, 3), 3))


def test_nothing_to_check() -> None:
    with pytest.raises(GradientError, match="no input of floating-point numbers"):
        PairSubject(lambda i: i, lambda d, i: d, [np.arange(3)])


def test_a_backward_that_raises_is_left_to_the_check() -> None:
    def backward(dout, x):
        raise ValueError("not finished")

    subject = PairSubject(np.exp, backward, normals(3))
    with pytest.raises(ValueError, match="not finished"):
        subject.backward(subject.values, [np.ones(3)])


# What it leaves behind


def test_inputs_that_are_written_to() -> None:
    def forward(x):
        x *= 2
        return x.copy()

    subject = PairSubject(forward, lambda dout, x: 2 * dout, normals(3))
    with pytest.raises(Mutated, match="x"):
        subject.forward(subject.values)

    def backward(dout, x, w):
        w[0] = 0
        return dout * w, dout * x

    subject = PairSubject(lambda x, w: x * w, backward, normals(3, 3))
    before = {n: v.copy() for n, v in subject.values.items()}
    with pytest.raises(Mutated, match="w"):
        subject.backward(subject.values, [np.ones(3)])
    for n, v in subject.values.items():
        np.testing.assert_array_equal(v, before[n])


def test_writing_into_the_cotangent_is_nobody_elses_business() -> None:
    def backward(dout, x):
        dout[x < 0] = 0
        return dout

    subject = PairSubject(lambda x: np.maximum(x, 0), backward, normals((3, 4)))
    cotangent = np.ones((3, 4))
    subject.backward(subject.values, [cotangent])
    assert cotangent.all()
    right(subject)


def test_random_numbers_repeat_and_are_not_used_up() -> None:
    own = np.random.default_rng(3)

    def forward(x):
        keep = (np.random.rand(*x.shape) < 0.5) * own.integers(1, 3) * (1 + random.random())  # noqa: NPY002
        return x * keep, keep

    def draws() -> tuple[float, float, float]:
        return np.random.rand(), own.random(), random.random()  # noqa: NPY002

    np.random.seed(1)  # noqa: NPY002
    random.seed(1)
    own.bit_generator.state = np.random.default_rng(3).bit_generator.state
    expected = draws()
    np.random.seed(1)  # noqa: NPY002
    random.seed(1)
    own.bit_generator.state = np.random.default_rng(3).bit_generator.state
    subject = PairSubject(forward, lambda dout, keep: dout * keep, normals((4, 5)))
    np.testing.assert_array_equal(*[subject.forward(subject.values)[0] for _ in range(2)])
    right(subject)
    right(subject.fresh())
    assert draws() == expected


def test_fresh_has_the_state_of_the_beginning() -> None:
    saved: dict[str, Any] = {}

    def forward(x):
        saved.setdefault("mask", x > 0)
        return np.maximum(x, 0)

    subject = PairSubject(forward, lambda dout, x: dout * saved["mask"], normals(5))
    assert not saved  # it tried on a copy
    subject.forward(subject.values)
    other = {"x": -subject.values["x"]}
    stale = subject.backward(other, [np.ones(5)])["x"]
    new = subject.fresh().backward(other, [np.ones(5)])["x"]
    np.testing.assert_array_equal(stale, subject.values["x"] > 0)
    np.testing.assert_array_equal(new, other["x"] > 0)


def test_tracing_leaves_nothing_in_the_users_state() -> None:
    seen: list[Any] = []

    def forward(x):
        seen.append(x)
        return x * 2

    subject = PairSubject(forward, lambda dout, x: 2 * dout, normals(3))
    followed(subject)
    assert seen
    assert all(type(s) is np.ndarray for s in seen)


def test_complex_step() -> None:
    def forward(x, w):
        return np.tanh(x @ w).sum(1)

    subject = PairSubject(forward, lambda d, x, w: (None, None), normals((3, 4), (4, 2)))
    direction = normals((3, 4), seed=1)[0]
    step = subject.forward({**subject.values, "x": subject.values["x"] + 1e-30j * direction})
    h = 1e-6
    up, down = (
        subject.forward({**subject.values, "x": subject.values["x"] + s * h * direction})
        for s in (1, -1)
    )
    np.testing.assert_allclose(step[0].imag / 1e-30, (up[0] - down[0]) / (2 * h), 1e-7)


def test_a_dropped_imaginary_part_is_an_error() -> None:
    def forward(x):
        out = np.zeros(x.shape)
        out[...] = x * 2
        return out

    subject = PairSubject(forward, lambda d, x: 2 * d, normals(3))
    with pytest.raises(np.exceptions.ComplexWarning):
        subject.forward({"x": subject.values["x"] + 1e-30j})


# Realistic pairs


def conv_loops(x, w, b):
    n, _, height, width = x.shape
    filters, _, kh, kw = w.shape
    out = np.zeros((n, filters, height - kh + 1, width - kw + 1))
    for i in range(n):
        for f in range(filters):
            for r in range(out.shape[2]):
                for s in range(out.shape[3]):
                    out[i, f, r, s] = np.sum(x[i, :, r : r + kh, s : s + kw] * w[f]) + b[f]
    return out, (x, w)


def conv_loops_backward(dout, cache):
    x, w = cache
    kh, kw = w.shape[2:]
    dx, dw, db = np.zeros_like(x), np.zeros(w.shape), np.zeros(len(w))
    for i in range(dout.shape[0]):
        for f in range(dout.shape[1]):
            db[f] += dout[i, f].sum()
            for r in range(dout.shape[2]):
                for s in range(dout.shape[3]):
                    g = dout[i, f, r, s]
                    dx[i, :, r : r + kh, s : s + kw] += w[f] * g
                    dw[f] += x[i, :, r : r + kh, s : s + kw] * g
    return dx, dw, db


def im2col(x, kh, kw):
    n, c, height, width = x.shape
    rows, cols = height - kh + 1, width - kw + 1
    s = x.strides
    windows = np.lib.stride_tricks.as_strided(
        x, (n, rows, cols, c, kh, kw), (s[0], s[2], s[3], s[1], s[2], s[3])
    )
    return windows.reshape(n * rows * cols, -1)


def conv_im2col(x, w):
    columns = im2col(x, *w.shape[2:])
    out = columns.dot(w.reshape(len(w), -1).T)
    return out.reshape(len(x), x.shape[2] - w.shape[2] + 1, -1, len(w)).transpose(0, 3, 1, 2)


def conv_im2col_backward(dout, x, w):
    kh, kw = w.shape[2:]
    g = dout.transpose(0, 2, 3, 1).reshape(-1, len(w))
    dw = (g.T @ im2col(x, kh, kw)).reshape(w.shape)
    dcolumns = (g @ w.reshape(len(w), -1)).reshape(*dout.shape[:1], *dout.shape[2:], -1, kh, kw)
    dx = np.zeros_like(x)
    for r in range(dout.shape[2]):
        for s in range(dout.shape[3]):
            dx[:, :, r : r + kh, s : s + kw] += dcolumns[:, r, s]
    return dx, dw


def batchnorm(x, gamma, beta):
    n = x.shape[0]
    mu = 1.0 / n * np.sum(x, axis=0)
    xmu = x - mu
    var = 1.0 / n * np.sum(xmu**2, axis=0)
    sqrtvar = np.sqrt(var + 1e-5)
    ivar = 1.0 / sqrtvar
    xhat = xmu * ivar
    return gamma * xhat + beta, (xhat, gamma, xmu, ivar, sqrtvar, var)


def batchnorm_backward(dout, cache):
    xhat, gamma, xmu, ivar, sqrtvar, var = cache
    n, d = dout.shape
    dbeta = np.sum(dout, axis=0)
    dgamma = np.sum(dout * xhat, axis=0)
    dxhat = dout * gamma
    divar = np.sum(dxhat * xmu, axis=0)
    dxmu1 = dxhat * ivar
    dsqrtvar = -1.0 / (sqrtvar**2) * divar
    dvar = 0.5 * 1.0 / np.sqrt(var + 1e-5) * dsqrtvar
    dsq = 1.0 / n * np.ones((n, d)) * dvar
    dxmu2 = 2 * xmu * dsq
    dx1 = dxmu1 + dxmu2
    dmu = -1 * np.sum(dxmu1 + dxmu2, axis=0)
    dx2 = 1.0 / n * np.ones((n, d)) * dmu
    return dx1 + dx2, dgamma, dbeta


def sigmoid(x):
    out = np.empty_like(x)
    positive = x >= 0
    out[positive] = 1 / (1 + np.exp(-x[positive]))
    e = np.exp(x[~positive])
    out[~positive] = e / (1 + e)
    return out


def lstm_step(x, h, c, w, u):
    i, f, o, g = np.split(x @ w + h @ u, 4, axis=1)
    i, f, o, g = sigmoid(i), sigmoid(f), sigmoid(o), np.tanh(g)
    new_c = f * c + i * g
    t = np.tanh(new_c)
    return o * t, new_c, (x, h, c, w, u, i, f, o, g, t)


def lstm_step_backward(dh, dc, cache):
    x, h, c, w, u, i, f, o, g, t = cache
    dc = dc + dh * o * (1 - t * t)
    da = np.hstack([dc * g * i * (1 - i), dc * c * f * (1 - f), dh * t * o * (1 - o),
                    dc * i * (1 - g * g)])  # fmt: skip
    return da @ w.T, da @ u.T, dc * f, x.T @ da, h.T @ da


def attention(q, k, v):
    scores = np.matmul(q, np.swapaxes(k, -1, -2)) / np.sqrt(q.shape[-1])
    future = np.triu(np.ones(scores.shape[-2:], dtype=bool), k=1)
    scores = np.where(future, -1e9, scores)
    scores -= scores.max(-1, keepdims=True)
    p = np.exp(scores)
    p /= np.sum(p, axis=-1, keepdims=True)
    return np.einsum("bts,bsd->btd", p, v), p


def attention_backward(dout, q, k, v, cache):
    p = cache
    dv = np.einsum("bts,btd->bsd", p, dout)
    dp = np.einsum("btd,bsd->bts", dout, v)
    ds = p * (dp - (dp * p).sum(-1, keepdims=True)) / np.sqrt(q.shape[-1])
    return ds @ k, ds.transpose(0, 2, 1) @ q, dv


def max_pool(x):
    n, c, height, width = x.shape
    out = np.zeros((n, c, height // 2, width // 2))
    places = np.zeros(out.shape, dtype=int)
    for i in range(height // 2):
        for j in range(width // 2):
            window = x[:, :, 2 * i : 2 * i + 2, 2 * j : 2 * j + 2].reshape(n, c, 4)
            places[:, :, i, j] = window.argmax(axis=2)
            out[:, :, i, j] = np.max(window, axis=2)
    return out, (x.shape, places)


def max_pool_backward(dout, cache):
    shape, places = cache
    dx = np.zeros(shape)
    for n, c, i, j in np.ndindex(*dout.shape):
        r, s = np.unravel_index(places[n, c, i, j], (2, 2))
        dx[n, c, 2 * i + r, 2 * j + s] += dout[n, c, i, j]
    return dx


def cross_entropy(logits, y):
    n = logits.shape[0]
    shifted = logits - np.max(logits, axis=1, keepdims=True)
    log_p = shifted - np.log(np.sum(np.exp(shifted), axis=1, keepdims=True))
    return float(-np.mean(log_p[np.arange(n), y])), (np.exp(log_p), y)


def cross_entropy_backward(dout, cache):
    p, y = cache
    n = p.shape[0]
    p = p.copy()
    p[np.arange(n), y] -= 1
    p /= n
    return dout * p, None


def recurrent(x, h0, w, u):
    h = np.zeros((x.shape[0], x.shape[1], len(h0)))
    last = h0
    for t in range(x.shape[1]):
        last = np.tanh(x[:, t] @ w + last @ u)
        h[:, t, :] = last
    return h


def recurrent_backward(dh, x, h0, w, u, out):
    dx, dw, du = np.zeros_like(x), np.zeros_like(w), np.zeros_like(u)
    later = np.zeros((x.shape[0], len(h0)))
    for t in reversed(range(x.shape[1])):
        dz = (dh[:, t] + later) * (1 - out[:, t] ** 2)
        before = out[:, t - 1] if t else np.tile(h0, (len(x), 1))
        dw += x[:, t].T @ dz
        du += before.T @ dz
        dx[:, t] = dz @ w.T
        later = dz @ u.T
    return dx, later.sum(0), dw, du


def layernorm_by_rows(x, gain):
    out = np.empty(x.shape)
    for row, result in zip(x, out, strict=True):
        result[:] = (row - row.mean()) / np.sqrt(row.var() + 1e-5)
        result *= gain
    return out


def layernorm_by_rows_backward(dout, x, gain):
    mean, std = x.mean(1, keepdims=True), np.sqrt(x.var(1, keepdims=True) + 1e-5)
    normal = (x - mean) / std
    d = dout * gain
    dx = (d - d.mean(1, keepdims=True) - normal * (d * normal).mean(1, keepdims=True)) / std
    return dx, np.add.reduce(dout * normal, axis=0)


REALISTIC = {
    "conv_loops": (conv_loops, conv_loops_backward, normals((2, 2, 4, 4), (2, 2, 2, 3), 2)),
    "im2col": (conv_im2col, conv_im2col_backward, normals((2, 2, 4, 5), (3, 2, 2, 3))),
    "batchnorm": (batchnorm, batchnorm_backward, normals((6, 3), 3, 3)),
    "lstm": (lstm_step, lstm_step_backward, normals((2, 3), (2, 4), (2, 4), (3, 16), (4, 16))),
    "attention": (attention, attention_backward, normals((2, 4, 3), (2, 4, 3), (2, 4, 2))),
    "max_pool": (max_pool, max_pool_backward, normals((1, 2, 4, 4))),
    "cross_entropy": (cross_entropy, cross_entropy_backward,
                      [*normals((5, 3)), np.array([0, 2, 1, 1, 0])]),
    "recurrent": (recurrent, recurrent_backward, normals((2, 3, 2), 4, (2, 4), (4, 4))),
    "layernorm_by_rows": (layernorm_by_rows, layernorm_by_rows_backward, normals((4, 5), 5)),
}  # fmt: skip


@pytest.mark.parametrize("name", REALISTIC)
def test_realistic_pairs(name: str) -> None:
    forward, backward, inputs = REALISTIC[name]
    right(PairSubject(forward, backward, inputs))


# Traced arrays against NumPy's


def traced_like_numpy(function: Any, *arrays: np.ndarray) -> None:
    expected = function(*[a.copy() for a in arrays])
    with tracing(), quiet():
        found = function(*[Traced(Tensor.of(a.copy())) for a in arrays])
        assert type(found) is Traced
        assert found.live
        np.testing.assert_allclose(found.array, expected, 1e-12, 1e-12)


def write_views(x):
    y = x * 1.0
    rows = y.reshape(2, 3, 4)
    rows[0] += 1
    turned = rows.transpose(2, 0, 1)
    turned[1:3, 1] *= 3
    y[:, 0] = 7
    turned[0, 0, 0] -= 2
    return np.concatenate([y.ravel(), rows.ravel(), turned.ravel()])


def write_copies(x):
    y = x * 1.0
    taken = y[[0, 0, 3]]
    taken += 1
    number = y[1, 1]
    number += 5
    y[[2, 2, 4]] += x[:3]
    y[y < 0] = 0.5
    y[np.array([1, 1]), np.array([2, 2])] = np.array([1.0, 2.0])
    flat = y.flatten()
    flat[0] = 100
    return np.concatenate([y.ravel(), taken.ravel(), flat, number[None]])


def fill_in(x):
    out = np.zeros_like(x)
    part = out[1:4]
    part[:, 1:3] += x[:3, :2]
    part[0] -= x[5]
    np.add.at(out, (np.array([0, 0, 5]), slice(None)), x[1:4])
    np.copyto(out[5:], 3.0, where=x[5:] > 0)
    np.put_along_axis(out, np.argmax(x, 1)[:, None], 9.0, 1)
    np.fill_diagonal(out, x[0, 0])
    return out


@pytest.mark.parametrize(
    "function",
    [
        write_views, write_copies, fill_in,
        lambda x: np.sort(x, axis=0), lambda x: np.median(x, axis=1), lambda x: np.ptp(x, axis=1),
        lambda x: np.prod(x, axis=0), lambda x: np.cumprod(x, axis=1), lambda x: np.diff(x, axis=0),
        lambda x: np.roll(x, 2, axis=0), lambda x: np.rot90(x), lambda x: np.tril(x, -1),
        lambda x: np.diag(x[:4]), lambda x: np.diag(x[0]), lambda x: np.repeat(x, [1, 2, 0, 1], 1),
        lambda x: np.tile(x, (2, 2)), lambda x: np.pad(x, 1, mode="edge"),
        lambda x: np.pad(x, ((1, 0), (0, 2)), constant_values=3), lambda x: np.kron(x, x[:2]),
        lambda x: np.cross(x[:, :3], x[:, 1:]), lambda x: np.tensordot(x, x, ((0, 1), (0, 1))),
        lambda x: np.convolve(x[:, 0], x[0], "same"), lambda x: np.linalg.norm(x, axis=1),
        lambda x: np.linalg.norm(x), lambda x: np.linalg.norm(x, 3, axis=0),
        lambda x: np.linalg.inv(x[:4]), lambda x: np.linalg.det(x[1:5]) + x,
        lambda x: np.linalg.solve(x[:4], x[4:].T), lambda x: np.linalg.cholesky(x.T @ x),
        lambda x: np.linalg.slogdet(x[:4])[1] + x, lambda x: np.std(x, axis=0, ddof=1),
        lambda x: np.average(x, axis=0, weights=np.arange(6.0)), lambda x: np.logaddexp(x, 2 * x),
        lambda x: np.logaddexp.reduce(x, axis=1), lambda x: np.add.outer(x[0], x[1]),
        lambda x: np.maximum.reduce(x, axis=0), lambda x: np.add.accumulate(x, axis=0),
        lambda x: np.select([x > 1, x < -1], [0.1, x], 0.7), lambda x: np.clip(x, -0.5, x + 1),
        lambda x: np.heaviside(x, 0.5) * x, lambda x: np.hypot(x, 2.0), lambda x: x % 0.3,
        lambda x: np.sinh(x) + np.cosh(x) + np.tan(x), lambda x: np.arcsinh(x), lambda x: 2.0**x,
        lambda x: np.abs(x) ** 0.1, lambda x: np.log2(np.abs(x)) + np.log10(np.abs(x)),
        lambda x: np.exp2(x), lambda x: np.sign(x) * np.cbrt(np.abs(x)), lambda x: np.round(x, 1),
        lambda x: (x > 0) * 0.1 + x, lambda x: np.mean(x > 0) + x,
        lambda x: ((x > 0) | (x < -1)) * x,
        lambda x: np.where(x > 0, 0.1, 0.2), lambda x: np.insert(x, 2, 0.0, axis=0),
        lambda x: np.moveaxis(x.reshape(2, 3, 4), 0, -1), lambda x: np.stack([x, x * 2], -1),
        lambda x: np.dstack([x, x]), lambda x: np.column_stack([x[:, 0], x]),
        lambda x: np.bincount([0, 2, 2, 1, 0, 4], x[:, 0]), lambda x: x[..., None, 1:][::2],
        lambda x: np.apply_along_axis(lambda r: r / r.sum(), 1, x),
        lambda x: np.append(x, x[:1], 0),
        lambda x: np.lib.stride_tricks.sliding_window_view(x, (2, 3)).sum((2, 3)),
        lambda x: np.add(x, 1.0, where=x > 0, out=x * 2.0),
    ],
)  # fmt: skip
def test_traced_like_numpy(function: Any) -> None:
    traced_like_numpy(function, *normals((6, 4)))


def test_what_is_not_followed_says_so() -> None:
    with tracing():
        x = Traced(Tensor.of(np.ones((3, 3))))
        with pytest.raises(Untraceable, match=r"np\.eigvalsh"):
            np.linalg.eigvalsh(x)
        with pytest.raises(Untraceable, match=r"np\.arctan "):
            np.arctan(x)
        with pytest.raises(Untraceable, match="plain NumPy array"):
            np.zeros(3)[:] = x[0]
        with pytest.raises(Untraceable, match=r"float\(\)"):
            float(x[0, 0])


def test_long_loops_are_given_up() -> None:
    def forward(x):
        for _ in range(5000):
            x = x * 1.0001
        return x

    subject = PairSubject(forward, lambda dout, x: dout * 1.0001**5000, normals(2))
    assert subject.reference(subject.values, [np.ones(2)]) is None
    with pytest.raises(Untraceable, match="more than 4000"):
        subject.claimed(subject.leaves(subject.values), [Tensor.of(np.ones(2))])


def test_a_number_that_escapes_is_noticed() -> None:
    def forward(x):
        return np.array([x.array[0] if hasattr(x, "array") else x[0] + 1.0])  # not what NumPy sees

    subject = PairSubject(forward, lambda dout, x: dout, normals(1))
    with pytest.raises(Untraceable, match="gives something else"):
        subject.claimed(subject.leaves(subject.values), [Tensor.of(np.ones(1))])
    assert subject.reference(subject.values, [np.ones(1)]) is None


# The corpora: what can be followed

CASES = {c.name: c for m in (pairs_layers, pairs_models, right_pairs, torch_functions)
         for c in m.corpus.cases}  # fmt: skip
# Operations that groundup has no op for.
BEYOND = {"pair_largest_eigenvalues", "pair_arcsin_near_one", "function_with_two_outputs"}


@pytest.mark.parametrize("name", CASES)
def test_corpus(name: str) -> None:
    made = CASES[name].make(np.random.default_rng(0))
    subject = subject_for(made.subject, made.inputs, made.options.get("backward"))
    if name in BEYOND:
        with pytest.raises(Untraceable):
            subject.derived(subject.leaves(subject.values), [
                Tensor.of(c) for c in cotangents_of(subject)])  # fmt: skip
        return
    followed(subject)
    assert not subject.own_rule or subject.reference(subject.values, cotangents_of(subject))


# PyTorch


class Old(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, w, rows, scale):
        ctx.save_for_backward(x, w, rows)
        ctx.scale = scale
        return (x @ w)[rows] * scale

    @staticmethod
    def backward(ctx, grad):
        x, w, rows = ctx.saved_tensors
        assert ctx.needs_input_grad == (True, True, False, False)
        d = torch.zeros(len(x), w.shape[1], dtype=grad.dtype)
        d.index_add_(0, rows, grad * ctx.scale)
        return d @ w.t(), x.t().mm(d), None, None


class New(torch.autograd.Function):
    @staticmethod
    def forward(x, w, rows, scale):
        return (x @ w)[rows] * scale

    @staticmethod
    def setup_context(ctx, inputs, output):
        x, w, rows, ctx.scale = inputs
        ctx.save_for_backward(x, w, rows)

    backward = Old.backward


@pytest.mark.parametrize("function", [Old, New, New.apply])
def test_torch_function(function: Any) -> None:
    subject = subject_for(function, [*normals((4, 3), (3, 2)), np.array([0, 2, 0]), 2.0])
    assert list(subject.values) == ["x", "w"]
    right(subject)
    made = subject.forward({n: v + 1e-30j for n, v in subject.values.items()})
    assert np.iscomplexobj(made[0])


def test_torch_function_with_everything() -> None:
    class Dirty(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            ctx.mark_dirty(x)
            x.mul_(2)
            best = x.argmax(1)
            ctx.mark_non_differentiable(best)
            ctx.set_materialize_grads(True)
            ctx.keep = torch.rand_like(x) < 0.5
            return x * ctx.keep, best

        @staticmethod
        @torch.autograd.function.once_differentiable
        def backward(ctx, grad, _):
            return grad * 2 * ctx.keep

    before = torch.get_rng_state()
    subject = subject_for(Dirty, [torch.randn(3, 4)])
    after = torch.get_rng_state()
    right(subject)
    assert torch.equal(torch.get_rng_state(), after)
    torch.set_rng_state(before)


def test_torch_function_that_writes_to_its_input() -> None:
    class Mul(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x.mul_(2) + 0

        @staticmethod
        def backward(ctx, grad):
            return grad * 2

    subject = subject_for(Mul, normals(3))
    with pytest.raises(Mutated, match="x"):
        subject.forward(subject.values)


def test_torch_gradient_of_another_shape_comes_as_it_is() -> None:
    class Add(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x, b):
            return x + b

        @staticmethod
        def backward(ctx, grad):
            return grad, grad

    subject = subject_for(Add, normals((4, 3), 3))
    found = subject.backward(subject.values, [np.ones((4, 3))])
    assert np.shape(found["b"]) == (4, 3)
    _, claimed = subject.claimed(subject.leaves(subject.values), [Tensor.of(np.ones((4, 3)))])
    assert claimed["b"].array.shape == (4, 3)


def test_torch_gradients_too_few() -> None:
    class Mul(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x, y):
            return x * y

        @staticmethod
        def backward(ctx, grad):
            return grad

    subject = subject_for(Mul, normals(3, 3))
    with pytest.raises(GradientError, match=r"Mul: backward returned 1 gradients.* 2 inputs"):
        subject.backward(subject.values, [np.ones(3)])


@pytest.mark.parametrize(
    ("make", "shape"),
    [
        (lambda nn: nn.Sequential(nn.Linear(6, 8), nn.GELU(), nn.LayerNorm(8), nn.Linear(8, 3),
                                  nn.LogSoftmax(-1)), (4, 6)),
        (lambda nn: nn.Sequential(nn.Conv2d(2, 3, 3, padding=1), nn.BatchNorm2d(3),
                                  nn.ReLU(inplace=True), nn.MaxPool2d(2), nn.Flatten()),
         (2, 2, 4, 4)),
        (lambda nn: nn.ConvTranspose2d(2, 4, 3, stride=2, padding=1, output_padding=1, groups=2),
         (1, 2, 3, 3)),
        (lambda nn: nn.Sequential(nn.GroupNorm(1, 2), nn.SiLU(), nn.AvgPool2d(2), nn.Softplus()),
         (2, 2, 4, 4)),
        (lambda nn: nn.TransformerEncoderLayer(4, 2, 6, batch_first=True, dropout=0.0), (1, 3, 4)),
    ],
)  # fmt: skip
def test_torch_module(make: Any, shape: Any) -> None:
    torch.manual_seed(0)
    module = make(torch.nn)
    subject = subject_for(module, normals(shape))
    assert not subject.own_rule
    assert len(subject.values) == 1 + len(list(module.parameters()))
    by_its_ops(subject.fresh())
    assert subject.reference(subject.values, cotangents_of(subject)) is None


# JAX


def test_jax_custom_vjp() -> None:
    jax = pytest.importorskip("jax")
    jnp = jax.numpy

    @jax.custom_vjp
    def dense(x, w):
        return jnp.tanh(x @ w)

    def fwd(x, w):
        out = jnp.tanh(x @ w)
        return out, (x, w, out)

    def bwd(saved, g):
        x, w, out = saved
        d = g * (1 - out**2)
        return d @ w.T, x.T @ d

    dense.defvjp(fwd, bwd)
    subject = subject_for(dense, normals((3, 4), (4, 2)))
    assert subject.own_rule
    assert (subject.name, list(subject.values)) == ("dense", ["x", "w"])
    right(subject)
    inside = subject_for(jax.jit(lambda x, w: dense(x, w).sum(0)), normals((3, 4), (4, 2)))
    assert inside.own_rule
    right(inside)
    dense.defvjp(fwd, lambda saved, g: (g, g))
    wrong = subject_for(dense, normals((3, 4), (4, 2))).backward(subject.values, [np.ones((3, 2))])
    assert np.shape(wrong["x"]) == (3, 2)


def test_jax_functions_of_all_kinds() -> None:
    jax = pytest.importorskip("jax")
    jnp = jax.numpy
    x, w, b, square = normals((3, 4), (4, 2), 2, (4, 4))

    def classifier(params, x, labels):
        logits = jax.nn.relu(x @ params["w"] + params["b"])
        return jax.nn.log_softmax(logits)[jnp.arange(3), labels].mean()

    subject = subject_for(classifier, [{"w": jnp.asarray(w), "b": b}, x, np.array([0, 1, 1])])
    assert list(subject.values) == ["params.w", "params.b", "x"]
    functions = [
        (lambda x, w: jax.lax.scan(lambda c, a: (jnp.tanh(c @ w + a), c), x[0], x), (x, square)),
        (lambda x, w: jax.lax.conv(x, w, (1, 1), "SAME"), normals((1, 2, 3, 4), (3, 2, 2, 3))),
        (lambda x: (x.at[jnp.array([0, 2, 0])].add(1.0) * x, jnp.sort(x, 0)), (x,)),
        (lambda x: jax.nn.gelu(x) + jnp.var(x) + jnp.take_along_axis(x, jnp.zeros((3, 1), int), 1),
         (x,)),
        (lambda x: jax.lax.cond(x[0, 0] > 0, jnp.sin, jnp.cos, x) @ jnp.pad(x, 1)[1:5, :3], (x,)),
    ]  # fmt: skip
    for one in [subject, *(subject_for(f, list(map(jnp.asarray, i))) for f, i in functions)]:
        assert not one.own_rule
        by_its_ops(one)
    assert jnp.ones(1).dtype == np.float32  # x64 was on for the check alone


# Which subject


def test_subject_for() -> None:
    x, w, b = normals((5, 4), (4, 3), 3)
    assert isinstance(subject_for(affine, [x, w, b], by_order), PairSubject)
    assert isinstance(subject_for((affine, by_order), [x, w, b]), PairSubject)
    assert isinstance(subject_for(nn.Linear(4, 3), [x]), TensorSubject)
    assert isinstance(subject_for(lambda x: x.exp(), [x]), TensorSubject)
