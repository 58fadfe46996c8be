"""Wrong backward passes of larger parts, as Modules: convolution, attention, recurrence."""

from __future__ import annotations

import math

import numpy as np

import groundup as gu
from corpus.case import Corpus, Made
from groundup.nn import Module, Parameter

corpus = Corpus()


# Convolution and pooling


class Conv1d(Module):
    """inp (n, length, c_in), w (taps, c_in, c_out): the sum over taps of shifted inp @ w."""

    def __init__(self, rng, taps=3, c_in=2, c_out=4):
        self.w = Parameter(rng.normal(size=(taps, c_in, c_out)))
        self.b = Parameter(rng.normal(size=c_out))

    def forward(self, inp):
        length = inp.shape[1] - len(self.w) + 1
        out = self.b
        for k in range(len(self.w)):
            out = out + inp[:, k : k + length] @ self.w[k]
        return out


@corpus.case("overwritten", wrong="inp")
def conv_input_overwritten(rng: np.random.Generator) -> Made:
    """Each tap writes over what the tap before left."""

    class Wrong(Conv1d):
        def bwd(self, out, inp):
            length = out.shape[1]
            dx, dw = np.zeros(inp.shape), np.zeros(self.w.shape)
            for k in range(len(self.w)):
                dx[:, k : k + length] = (out.g @ self.w[k].T).numpy()
                dw[k] = gu.einsum("nli,nlo->io", inp[:, k : k + length], out.g).numpy()
            inp.g, self.w.g = dx, dw
            self.b.g = out.g.sum((0, 1))

    return Made(Wrong(rng), (rng.normal(size=(2, 6, 2)),))


@corpus.case("bias", wrong="b", also="sum cotangent")
def conv_bias_of_last_position(rng: np.random.Generator) -> Made:
    """The bias is summed over the batch, but only at the last position."""

    class Wrong(Conv1d):
        def bwd(self, out, inp):
            length = out.shape[1]
            dx = np.zeros(inp.shape)
            for k in range(len(self.w)):
                dx[:, k : k + length] += (out.g @ self.w[k].T).numpy()
            inp.g = dx
            self.w.g = gu.stack(
                [
                    gu.einsum("nli,nlo->io", inp[:, k : k + length], out.g)
                    for k in range(len(self.w))
                ]
            )
            self.b.g = out.g[:, -1].sum(0)

    return Made(Wrong(rng), (rng.normal(size=(2, 6, 2)),))


@corpus.case("shift", wrong="w")
def conv_taps_reversed(rng: np.random.Generator) -> Made:
    """The taps' gradients in the order of a true convolution's."""

    class Wrong(Conv1d):
        def bwd(self, out, inp):
            length, taps = out.shape[1], len(self.w)
            dx, dw = np.zeros(inp.shape), np.zeros(self.w.shape)
            for k in range(taps):
                dx[:, k : k + length] += (out.g @ self.w[k].T).numpy()
                window = inp[:, k : k + length]
                dw[taps - 1 - k] = gu.einsum("nli,nlo->io", window, out.g).numpy()
            inp.g, self.w.g = dx, dw
            self.b.g = out.g.sum((0, 1))

    return Made(Wrong(rng), (rng.normal(size=(2, 6, 2)),))


@corpus.case("transpose", wrong="inp")
def conv_weight_not_transposed(rng: np.random.Generator) -> Made:
    """w[k] where its transpose is meant; as many channels go out as come in."""

    class Wrong(Conv1d):
        def bwd(self, out, inp):
            length = out.shape[1]
            dx, dw = np.zeros(inp.shape), np.zeros(self.w.shape)
            for k in range(len(self.w)):
                dx[:, k : k + length] += (out.g @ self.w[k]).numpy()
                dw[k] = gu.einsum("nli,nlo->io", inp[:, k : k + length], out.g).numpy()
            inp.g, self.w.g = dx, dw
            self.b.g = out.g.sum((0, 1))

    return Made(Wrong(rng, c_in=3, c_out=3), (rng.normal(size=(2, 6, 3)),))


@corpus.case("mean", wrong="w")
def conv_weight_averaged_over_positions(rng: np.random.Generator) -> Made:
    """dw is a mean over the positions."""

    class Wrong(Conv1d):
        def bwd(self, out, inp):
            length = out.shape[1]
            dx, dw = np.zeros(inp.shape), np.zeros(self.w.shape)
            for k in range(len(self.w)):
                dx[:, k : k + length] += (out.g @ self.w[k].T).numpy()
                dw[k] = gu.einsum("nli,nlo->lio", inp[:, k : k + length], out.g).mean(0).numpy()
            inp.g, self.w.g = dx, dw
            self.b.g = out.g.sum((0, 1))

    return Made(Wrong(rng), (rng.normal(size=(2, 6, 2)),))


class Depthwise(Module):
    """A filter of its own for each channel; the input is padded to keep its length."""

    def __init__(self, rng):
        self.w = Parameter(rng.normal(size=(3, 4)))

    def windows(self, x):
        padded = gu.pad(x, ((0, 0), (1, 1), (0, 0)))
        return gu.stack([padded[:, k : k + x.shape[1]] for k in range(3)])

    def forward(self, inp):
        return gu.einsum("knlc,kc->nlc", self.windows(inp), self.w)


@corpus.case("shift", wrong="inp")
def depthwise_filter_not_reversed(rng: np.random.Generator) -> Made:
    """The gradient is correlated with the filter, where it is to be convolved."""

    class Wrong(Depthwise):
        def bwd(self, out, inp):
            inp.g = gu.einsum("knlc,kc->nlc", self.windows(out.g), self.w)
            self.w.g = gu.einsum("knlc,nlc->kc", self.windows(inp), out.g)

    return Made(Wrong(rng), (rng.normal(size=(2, 5, 4)),))


@corpus.case("sum", wrong="w", also="cotangent")
def depthwise_weight_of_first_example(rng: np.random.Generator) -> Made:
    """The filter's gradient is the first example's."""

    class Wrong(Depthwise):
        def bwd(self, out, inp):
            inp.g = gu.einsum("knlc,kc->nlc", self.windows(out.g), self.w.flip(0))
            self.w.g = gu.einsum("klc,lc->kc", self.windows(inp)[:, 0], out.g[0])

    return Made(Wrong(rng), (rng.normal(size=(2, 5, 4)),))


class ChannelBias(Module):
    """Channels first: inp (n, c, length) + b (c,) at every position, then tanh."""

    def __init__(self, rng, channels=3):
        self.b = Parameter(rng.normal(size=channels))

    def forward(self, inp):
        return (inp + self.b.reshape(-1, 1)).tanh()


@corpus.case("bias", wrong="inp b", also="sum")
def channel_bias_not_summed_over_length(rng: np.random.Generator) -> Made:
    """Summed over the batch only: the engine refuses the shape (c, length)."""

    class Wrong(ChannelBias):
        def bwd(self, out, inp):
            dz = (1 - out * out) * out.g
            inp.g = dz
            self.b.g = dz.sum(0)

    return Made(Wrong(rng), (rng.normal(size=(2, 3, 5)),))


@corpus.case("axis", wrong="b")
def channel_bias_summed_over_channels(rng: np.random.Generator) -> Made:
    """Summed over batch and channels; the length is the channels' number."""

    class Wrong(ChannelBias):
        def bwd(self, out, inp):
            dz = (1 - out * out) * out.g
            inp.g = dz
            self.b.g = dz.sum((0, 1))

    return Made(Wrong(rng), (rng.normal(size=(2, 3, 3)),))


@corpus.case("activation", wrong="inp b")
def channel_bias_tanh_forgotten(rng: np.random.Generator) -> Made:
    """Written as if there was no tanh."""

    class Wrong(ChannelBias):
        def bwd(self, out, inp):
            inp.g = out.g
            self.b.g = out.g.sum((0, 2))

    return Made(Wrong(rng), (rng.normal(size=(2, 3, 5)),))


class MaxPool(Module):
    """The largest of each two neighbours in time: (n, 2 * length, c) to (n, length, c)."""

    def pairs(self, inp):
        n, length, channels = inp.shape
        return inp.reshape(n, length // 2, 2, channels)

    def forward(self, inp):
        return self.pairs(inp).amax(2)


@corpus.case("mask", wrong="inp")
def max_pool_gradient_to_all(rng: np.random.Generator) -> Made:
    """Both of a pair get the gradient."""

    class Wrong(MaxPool):
        def bwd(self, out, inp):
            n, length, channels = out.shape
            inp.g = out.g.unsqueeze(2).expand(n, length, 2, channels).reshape(inp.shape)

    return Made(Wrong(), (rng.normal(size=(2, 6, 3)),))


@corpus.case("mask", wrong="inp")
def max_pool_smaller_one(rng: np.random.Generator) -> Made:
    """The mask is true where a value is below the maximum."""

    class Wrong(MaxPool):
        def bwd(self, out, inp):
            below = self.pairs(inp) < out.unsqueeze(2)
            inp.g = (below * out.g.unsqueeze(2)).reshape(inp.shape)

    return Made(Wrong(), (rng.normal(size=(2, 6, 3)),))


class AveragePool(Module):
    """The mean of windows of 3 in time, one step apart."""

    def forward(self, inp):
        return (inp[:, :-2] + inp[:, 1:-1] + inp[:, 2:]) / 3


@corpus.case("mean", wrong="inp")
def average_pool_not_divided(rng: np.random.Generator) -> Made:
    """The gradient of a sum of the window."""

    class Wrong(AveragePool):
        def bwd(self, out, inp):
            dx = np.zeros(inp.shape)
            for k in range(3):
                dx[:, k : k + out.shape[1]] += out.g.numpy()
            inp.g = dx

    return Made(Wrong(), (rng.normal(size=(2, 7, 3)),))


@corpus.case("overwritten", wrong="inp")
def average_pool_windows_overwritten(rng: np.random.Generator) -> Made:
    """Overlapping windows write over each other."""

    class Wrong(AveragePool):
        def bwd(self, out, inp):
            dx = np.zeros(inp.shape)
            for i in range(out.shape[1]):
                dx[:, i : i + 3] = out.g[:, i : i + 1].numpy() / 3
            inp.g = dx

    return Made(Wrong(), (rng.normal(size=(2, 7, 3)),))


class GlobalMax(Module):
    """The largest over time: (n, length, c) to (n, c)."""

    def forward(self, inp):
        return inp.amax(1)


@corpus.case("axis", wrong="inp")
def global_max_over_channels(rng: np.random.Generator) -> Made:
    """The mask compares with the largest over the channels."""

    class Wrong(GlobalMax):
        def bwd(self, out, inp):
            inp.g = (inp == inp.amax(2, keepdims=True)) * out.g.unsqueeze(1)

    return Made(Wrong(), (rng.normal(size=(2, 5, 3)),))


# Attention


class Attention(Module):
    """softmax(q @ k.mT / sqrt(d)) @ v."""

    def scores(self, q, k):
        return q @ k.mT / math.sqrt(q.shape[-1])

    def forward(self, q, k, v):
        return self.scores(q, k).softmax(-1) @ v


def queries(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """q (2, 4, 3), k (2, 5, 3), v (2, 5, 6)."""
    return rng.normal(size=(2, 4, 3)), rng.normal(size=(2, 5, 3)), rng.normal(size=(2, 5, 6))


def self_queries(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """q, k and v of the same shape (2, 4, 3)."""
    return rng.normal(size=(2, 4, 3)), rng.normal(size=(2, 4, 3)), rng.normal(size=(2, 4, 3))


@corpus.case("softmax", wrong="q k")
def attention_softmax_diagonal(rng: np.random.Generator) -> Made:
    """The softmax's gradient as a * (1 - a)."""

    class Wrong(Attention):
        def bwd(self, out, q, k, v):
            a = self.scores(q, k).softmax(-1)
            v.g = a.mT @ out.g
            ds = a * (1 - a) * (out.g @ v.mT) / math.sqrt(q.shape[-1])
            q.g = ds @ k
            k.g = ds.mT @ q

    return Made(Wrong(), queries(rng))


@corpus.case("factor", wrong="q k")
def attention_scale_forgotten(rng: np.random.Generator) -> Made:
    """1 / sqrt(d) is not sent back."""

    class Wrong(Attention):
        def bwd(self, out, q, k, v):
            a = self.scores(q, k).softmax(-1)
            v.g = a.mT @ out.g
            da = out.g @ v.mT
            ds = a * (da - (a * da).sum(-1, keepdims=True))
            q.g = ds @ k
            k.g = ds.mT @ q

    return Made(Wrong(), queries(rng))


@corpus.case("axis", wrong="q k")
def attention_softmax_sum_over_queries(rng: np.random.Generator) -> Made:
    """The softmax's inner sum over the queries."""

    class Wrong(Attention):
        def bwd(self, out, q, k, v):
            a = self.scores(q, k).softmax(-1)
            v.g = a.mT @ out.g
            da = out.g @ v.mT
            ds = a * (da - (a * da).sum(-2, keepdims=True)) / math.sqrt(q.shape[-1])
            q.g = ds @ k
            k.g = ds.mT @ q

    return Made(Wrong(), queries(rng))


@corpus.case("transpose", wrong="k")
def attention_key_scores_not_transposed(rng: np.random.Generator) -> Made:
    """dk from ds as it is; there are as many queries as keys."""

    class Wrong(Attention):
        def bwd(self, out, q, k, v):
            a = self.scores(q, k).softmax(-1)
            v.g = a.mT @ out.g
            da = out.g @ v.mT
            ds = a * (da - (a * da).sum(-1, keepdims=True)) / math.sqrt(q.shape[-1])
            q.g = ds @ k
            k.g = ds @ q

    return Made(Wrong(), self_queries(rng))


@corpus.case("transpose", wrong="v")
def attention_value_not_transposed(rng: np.random.Generator) -> Made:
    """dv = a @ g, as in the forward pass."""

    class Wrong(Attention):
        def bwd(self, out, q, k, v):
            a = self.scores(q, k).softmax(-1)
            v.g = a @ out.g
            da = out.g @ v.mT
            ds = a * (da - (a * da).sum(-1, keepdims=True)) / math.sqrt(q.shape[-1])
            q.g = ds @ k
            k.g = ds.mT @ q

    return Made(Wrong(), self_queries(rng))


@corpus.case("swapped", wrong="q k")
def attention_query_and_key_swapped(rng: np.random.Generator) -> Made:
    """dq and dk are exchanged."""

    class Wrong(Attention):
        def bwd(self, out, q, k, v):
            a = self.scores(q, k).softmax(-1)
            v.g = a.mT @ out.g
            da = out.g @ v.mT
            ds = a * (da - (a * da).sum(-1, keepdims=True)) / math.sqrt(q.shape[-1])
            k.g = ds @ k
            q.g = ds.mT @ q

    return Made(Wrong(), self_queries(rng))


@corpus.case("operand", wrong="q")
def attention_query_for_key(rng: np.random.Generator) -> Made:
    """q where k is meant."""

    class Wrong(Attention):
        def bwd(self, out, q, k, v):
            a = self.scores(q, k).softmax(-1)
            v.g = a.mT @ out.g
            da = out.g @ v.mT
            ds = a * (da - (a * da).sum(-1, keepdims=True)) / math.sqrt(q.shape[-1])
            q.g = ds @ q
            k.g = ds.mT @ q

    return Made(Wrong(), self_queries(rng))


@corpus.case("operand", wrong="v")
def attention_scores_for_weights(rng: np.random.Generator) -> Made:
    """dv from the scores before the softmax."""

    class Wrong(Attention):
        def bwd(self, out, q, k, v):
            s = self.scores(q, k)
            a = s.softmax(-1)
            v.g = s.mT @ out.g
            da = out.g @ v.mT
            ds = a * (da - (a * da).sum(-1, keepdims=True)) / math.sqrt(q.shape[-1])
            q.g = ds @ k
            k.g = ds.mT @ q

    return Made(Wrong(), queries(rng))


@corpus.case("detached", wrong="q k")
def attention_weights_constant(rng: np.random.Generator) -> Made:
    """The attention weights are treated as constants."""

    class Wrong(Attention):
        def bwd(self, out, q, k, v):
            v.g = self.scores(q, k).softmax(-1).mT @ out.g

    return Made(Wrong(), queries(rng))


@corpus.case("stale", wrong="v")
def attention_weights_of_first_call(rng: np.random.Generator) -> Made:
    """The weights that are kept for drawing are the first call's."""

    class Wrong(Attention):
        weights = None

        def forward(self, q, k, v):
            a = self.scores(q, k).softmax(-1)
            if self.weights is None:
                self.weights = a.detach()
            return a @ v

        def bwd(self, out, q, k, v):
            a = self.scores(q, k).softmax(-1)
            v.g = self.weights.mT @ out.g
            da = out.g @ v.mT
            ds = a * (da - (a * da).sum(-1, keepdims=True)) / math.sqrt(q.shape[-1])
            q.g = ds @ k
            k.g = ds.mT @ q

    layer = Wrong()
    layer(*queries(rng))
    return Made(layer, queries(rng))


class CausalAttention(Attention):
    """Each place sees itself and what was before."""

    def weights(self, q, k):
        seen = np.tri(q.shape[-2], dtype=bool)
        return gu.where(seen, self.scores(q, k), -1e9).softmax(-1)

    def forward(self, q, k, v):
        return self.weights(q, k) @ v


@corpus.case("mask", wrong="q k v")
def causal_attention_unmasked(rng: np.random.Generator) -> Made:
    """The weights are computed anew without the mask."""

    class Wrong(CausalAttention):
        def bwd(self, out, q, k, v):
            a = self.scores(q, k).softmax(-1)
            v.g = a.mT @ out.g
            da = out.g @ v.mT
            ds = a * (da - (a * da).sum(-1, keepdims=True)) / math.sqrt(q.shape[-1])
            q.g = ds @ k
            k.g = ds.mT @ q

    return Made(Wrong(), self_queries(rng))


@corpus.case("sign", wrong="q k")
def causal_attention_softmax_sign(rng: np.random.Generator) -> Made:
    """The softmax's difference the wrong way round."""

    class Wrong(CausalAttention):
        def bwd(self, out, q, k, v):
            a = self.weights(q, k)
            v.g = a.mT @ out.g
            da = out.g @ v.mT
            ds = a * ((a * da).sum(-1, keepdims=True) - da) / math.sqrt(q.shape[-1])
            q.g = ds @ k
            k.g = ds.mT @ q

    return Made(Wrong(), self_queries(rng))


class MultiHead(Module):
    """Self-attention with heads, from inp (n, length, width)."""

    def __init__(self, rng, width=4, heads=2):
        self.wq = Parameter(rng.normal(size=(width, width)))
        self.wk = Parameter(rng.normal(size=(width, width)))
        self.wv = Parameter(rng.normal(size=(width, width)))
        self.wo = Parameter(rng.normal(size=(width, width)))
        self.heads = heads

    def split(self, x):
        return x.reshape(*x.shape[:2], self.heads, -1).transpose(1, 2)

    def merge(self, x):
        return x.transpose(1, 2).flatten(2)

    def attend(self, inp):
        q, k, v = (self.split(inp @ w) for w in (self.wq, self.wk, self.wv))
        return q, k, v, (q @ k.mT / math.sqrt(q.shape[-1])).softmax(-1)

    def forward(self, inp):
        _, _, v, a = self.attend(inp)
        return self.merge(a @ v) @ self.wo

    def into_heads(self, out, inp):
        """The gradients of the projected q, k and v, merged."""
        q, k, v, a = self.attend(inp)
        dmixed = self.split(out.g @ self.wo.T)
        da = dmixed @ v.mT
        ds = a * (da - (a * da).sum(-1, keepdims=True)) / math.sqrt(q.shape[-1])
        return self.merge(ds @ k), self.merge(ds.mT @ q), self.merge(a.mT @ dmixed)

    def mixed(self, inp):
        _, _, v, a = self.attend(inp)
        return self.merge(a @ v)


def product(x: gu.Tensor, g: gu.Tensor) -> gu.Tensor:
    """A weight's gradient, over batch and time."""
    return gu.einsum("nti,nto->io", x, g)


@corpus.case("overwritten", wrong="inp", also="detached")
def multi_head_input_of_value_only(rng: np.random.Generator) -> Made:
    """dx from q and from k are replaced by that from v."""

    class Wrong(MultiHead):
        def bwd(self, out, inp):
            self.wo.g = product(self.mixed(inp), out.g)
            dq, dk, dv = self.into_heads(out, inp)
            for w, d in ((self.wq, dq), (self.wk, dk), (self.wv, dv)):
                w.g = product(inp, d)
                dx = d @ w.T
            inp.g = dx

    return Made(Wrong(rng), (rng.normal(size=(2, 3, 4)),))


@corpus.case("operand", wrong="wo")
def multi_head_output_weight_from_input(rng: np.random.Generator) -> Made:
    """dwo from the block's input, not from what the heads made of it."""

    class Wrong(MultiHead):
        def bwd(self, out, inp):
            self.wo.g = product(inp, out.g)
            dq, dk, dv = self.into_heads(out, inp)
            self.wq.g, self.wk.g, self.wv.g = (product(inp, d) for d in (dq, dk, dv))
            inp.g = dq @ self.wq.T + dk @ self.wk.T + dv @ self.wv.T

    return Made(Wrong(rng), (rng.normal(size=(2, 3, 4)),))


@corpus.case("swapped", wrong="wk wv")
def multi_head_key_and_value_swapped(rng: np.random.Generator) -> Made:
    """The weights of key and value get each other's gradient."""

    class Wrong(MultiHead):
        def bwd(self, out, inp):
            self.wo.g = product(self.mixed(inp), out.g)
            dq, dk, dv = self.into_heads(out, inp)
            self.wq.g, self.wv.g, self.wk.g = (product(inp, d) for d in (dq, dk, dv))
            inp.g = dq @ self.wq.T + dk @ self.wk.T + dv @ self.wv.T

    return Made(Wrong(rng), (rng.normal(size=(2, 3, 4)),))


@corpus.case("transpose", wrong="wo")
def multi_head_output_weight_transposed(rng: np.random.Generator) -> Made:
    """dwo is (out, in)."""

    class Wrong(MultiHead):
        def bwd(self, out, inp):
            self.wo.g = product(out.g, self.mixed(inp))
            dq, dk, dv = self.into_heads(out, inp)
            self.wq.g, self.wk.g, self.wv.g = (product(inp, d) for d in (dq, dk, dv))
            inp.g = dq @ self.wq.T + dk @ self.wk.T + dv @ self.wv.T

    return Made(Wrong(rng), (rng.normal(size=(2, 3, 4)),))


# Recurrence


class Rnn(Module):
    """h = tanh(x[:, t] @ wx + h @ wh + b), from zeros; all h, (n, length, width)."""

    def __init__(self, rng, n_in=2, width=3):
        self.wx = Parameter(rng.normal(size=(n_in, width)))
        self.wh = Parameter(rng.normal(size=(width, width)))
        self.b = Parameter(rng.normal(size=width))

    def forward(self, inp):
        h, outs = np.zeros((inp.shape[0], len(self.wh))), []
        for t in range(inp.shape[1]):
            h = (inp[:, t] @ self.wx + h @ self.wh + self.b).tanh()
            outs.append(h)
        return gu.stack(outs, 1)

    def before(self, out, t):
        return out[:, t - 1] if t else gu.zeros_like(out[:, 0])


def sequence(rng: np.random.Generator) -> tuple[np.ndarray]:
    """(4 sequences, 5 steps, 2 features)."""
    return (rng.normal(size=(4, 5, 2)),)


@corpus.case("overwritten", wrong="wx")
def rnn_input_weight_of_first_step(rng: np.random.Generator) -> Made:
    """dwx is assigned at every step: what remains is the first step's."""

    class Wrong(Rnn):
        def bwd(self, out, inp):
            dx, dwh, db, dh = [], 0, 0, 0
            for t in reversed(range(inp.shape[1])):
                dz = (1 - out[:, t] ** 2) * (out.g[:, t] + dh)
                dwx = inp[:, t].T @ dz
                dwh = dwh + self.before(out, t).T @ dz
                db = db + dz.sum(0)
                dx.append(dz @ self.wx.T)
                dh = dz @ self.wh.T
            inp.g = gu.stack(dx[::-1], 1)
            self.wx.g, self.wh.g, self.b.g = dwx, dwh, db

    return Made(Wrong(rng), sequence(rng))


@corpus.case("shift", wrong="wh")
def rnn_state_after_for_before(rng: np.random.Generator) -> Made:
    """h[t], where h[t - 1] is meant."""

    class Wrong(Rnn):
        def bwd(self, out, inp):
            dx, dwx, dwh, db, dh = [], 0, 0, 0, 0
            for t in reversed(range(inp.shape[1])):
                dz = (1 - out[:, t] ** 2) * (out.g[:, t] + dh)
                dwx = dwx + inp[:, t].T @ dz
                dwh = dwh + out[:, t].T @ dz
                db = db + dz.sum(0)
                dx.append(dz @ self.wx.T)
                dh = dz @ self.wh.T
            inp.g = gu.stack(dx[::-1], 1)
            self.wx.g, self.wh.g, self.b.g = dwx, dwh, db

    return Made(Wrong(rng), sequence(rng))


@corpus.case("shift", wrong="inp")
def rnn_steps_in_backward_order(rng: np.random.Generator) -> Made:
    """The steps' gradients are stacked as they were found, the last step first."""

    class Wrong(Rnn):
        def bwd(self, out, inp):
            dx, dwx, dwh, db, dh = [], 0, 0, 0, 0
            for t in reversed(range(inp.shape[1])):
                dz = (1 - out[:, t] ** 2) * (out.g[:, t] + dh)
                dwx = dwx + inp[:, t].T @ dz
                dwh = dwh + self.before(out, t).T @ dz
                db = db + dz.sum(0)
                dx.append(dz @ self.wx.T)
                dh = dz @ self.wh.T
            inp.g = gu.stack(dx, 1)
            self.wx.g, self.wh.g, self.b.g = dwx, dwh, db

    return Made(Wrong(rng), sequence(rng))


@corpus.case("detached", wrong="inp wx wh b")
def rnn_truncated_to_one_step(rng: np.random.Generator) -> Made:
    """The gradient does not go from step to step."""

    class Wrong(Rnn):
        def bwd(self, out, inp):
            dx, dwx, dwh, db = [], 0, 0, 0
            for t in range(inp.shape[1]):
                dz = (1 - out[:, t] ** 2) * out.g[:, t]
                dwx = dwx + inp[:, t].T @ dz
                dwh = dwh + self.before(out, t).T @ dz
                db = db + dz.sum(0)
                dx.append(dz @ self.wx.T)
            inp.g = gu.stack(dx, 1)
            self.wx.g, self.wh.g, self.b.g = dwx, dwh, db

    return Made(Wrong(rng), sequence(rng))


@corpus.case("activation", wrong="inp wx wh b")
def rnn_tanh_forgotten(rng: np.random.Generator) -> Made:
    """The steps are taken for linear ones."""

    class Wrong(Rnn):
        def bwd(self, out, inp):
            dx, dwx, dwh, db, dh = [], 0, 0, 0, 0
            for t in reversed(range(inp.shape[1])):
                dz = out.g[:, t] + dh
                dwx = dwx + inp[:, t].T @ dz
                dwh = dwh + self.before(out, t).T @ dz
                db = db + dz.sum(0)
                dx.append(dz @ self.wx.T)
                dh = dz @ self.wh.T
            inp.g = gu.stack(dx[::-1], 1)
            self.wx.g, self.wh.g, self.b.g = dwx, dwh, db

    return Made(Wrong(rng), sequence(rng))


@corpus.case("cotangent", wrong="inp wx wh b")
def rnn_last_output_only(rng: np.random.Generator) -> Made:
    """Only what arrives at the last step is used, as for a classifier of sequences."""

    class Wrong(Rnn):
        def bwd(self, out, inp):
            dx, dwx, dwh, db, dh = [], 0, 0, 0, out.g[:, -1]
            for t in reversed(range(inp.shape[1])):
                dz = (1 - out[:, t] ** 2) * dh
                dwx = dwx + inp[:, t].T @ dz
                dwh = dwh + self.before(out, t).T @ dz
                db = db + dz.sum(0)
                dx.append(dz @ self.wx.T)
                dh = dz @ self.wh.T
            inp.g = gu.stack(dx[::-1], 1)
            self.wx.g, self.wh.g, self.b.g = dwx, dwh, db

    return Made(Wrong(rng), sequence(rng))


class RnnCell(Module):
    """tanh(inp @ wx + h @ wh + b)."""

    def __init__(self, rng, n_in=2, width=3):
        self.wx = Parameter(rng.normal(size=(n_in, width)))
        self.wh = Parameter(rng.normal(size=(width, width)))
        self.b = Parameter(rng.normal(size=width))

    def forward(self, inp, h):
        return (inp @ self.wx + h @ self.wh + self.b).tanh()


@corpus.case("transpose", wrong="h")
def rnn_cell_recurrent_weight_not_transposed(rng: np.random.Generator) -> Made:
    """wh where wh.T is meant."""

    class Wrong(RnnCell):
        def bwd(self, out, inp, h):
            dz = (1 - out * out) * out.g
            inp.g, h.g = dz @ self.wx.T, dz @ self.wh
            self.wx.g, self.wh.g, self.b.g = inp.T @ dz, h.T @ dz, dz.sum(0)

    return Made(Wrong(rng), (rng.normal(size=(4, 2)), rng.normal(size=(4, 3))))


@corpus.case("operand", wrong="wh")
def rnn_cell_new_state_for_old(rng: np.random.Generator) -> Made:
    """The state is overwritten before it is used."""

    class Wrong(RnnCell):
        def bwd(self, out, inp, h):
            dz = (1 - out * out) * out.g
            inp.g, h.g = dz @ self.wx.T, dz @ self.wh.T
            h = out
            self.wx.g, self.wh.g, self.b.g = inp.T @ dz, h.T @ dz, dz.sum(0)

    return Made(Wrong(rng), (rng.normal(size=(4, 2)), rng.normal(size=(4, 3))))


class GruCell(Module):
    """(1 - z) * n + z * h; gates z and r, candidate n = tanh(inp @ wn + r * (h @ un))."""

    def __init__(self, rng, n_in=2, width=3):
        self.wz, self.wr, self.wn = (Parameter(rng.normal(size=(n_in, width))) for _ in range(3))
        self.uz, self.ur, self.un = (Parameter(rng.normal(size=(width, width))) for _ in range(3))

    def gates(self, inp, h):
        z = (inp @ self.wz + h @ self.uz).sigmoid()
        r = (inp @ self.wr + h @ self.ur).sigmoid()
        return z, r, (inp @ self.wn + r * (h @ self.un)).tanh()

    def forward(self, inp, h):
        z, _, n = self.gates(inp, h)
        return (1 - z) * n + z * h

    def send(self, inp, h, dz, dr, dn, r):
        """From the gradients before the gates' functions to the weights'."""
        self.wz.g, self.wr.g, self.wn.g = inp.T @ dz, inp.T @ dr, inp.T @ dn
        self.uz.g, self.ur.g, self.un.g = h.T @ dz, h.T @ dr, h.T @ (dn * r)
        inp.g = dz @ self.wz.T + dr @ self.wr.T + dn @ self.wn.T
        return dz @ self.uz.T + dr @ self.ur.T + (dn * r) @ self.un.T


def cell(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """An input (4, 2) and a state (4, 3)."""
    return rng.normal(size=(4, 2)), rng.normal(size=(4, 3))


@corpus.case("sign", wrong="inp h wz uz")
def gru_update_gate_sign(rng: np.random.Generator) -> Made:
    """n - h, where h - n is meant."""

    class Wrong(GruCell):
        def bwd(self, out, inp, h):
            z, r, n = self.gates(inp, h)
            dz = out.g * (n - h) * z * (1 - z)
            dn = out.g * (1 - z) * (1 - n * n)
            dr = dn * (h @ self.un) * r * (1 - r)
            h.g = out.g * z + self.send(inp, h, dz, dr, dn, r)

    return Made(Wrong(rng), cell(rng))


@corpus.case("overwritten", wrong="h", also="detached")
def gru_state_carried_over_lost(rng: np.random.Generator) -> Made:
    """The direct way z * h is replaced by the way through the gates."""

    class Wrong(GruCell):
        def bwd(self, out, inp, h):
            z, r, n = self.gates(inp, h)
            dh = out.g * z
            dz = out.g * (h - n) * z * (1 - z)
            dn = out.g * (1 - z) * (1 - n * n)
            dr = dn * (h @ self.un) * r * (1 - r)
            dh = self.send(inp, h, dz, dr, dn, r)
            h.g = dh

    return Made(Wrong(rng), cell(rng))


@corpus.case("activation", wrong="inp h wr ur")
def gru_reset_gate_sigmoid_forgotten(rng: np.random.Generator) -> Made:
    """r * (1 - r) is left out."""

    class Wrong(GruCell):
        def bwd(self, out, inp, h):
            z, r, n = self.gates(inp, h)
            dz = out.g * (h - n) * z * (1 - z)
            dn = out.g * (1 - z) * (1 - n * n)
            dr = dn * (h @ self.un)
            h.g = out.g * z + self.send(inp, h, dz, dr, dn, r)

    return Made(Wrong(rng), cell(rng))


@corpus.case("detached", wrong="inp h wr ur")
def gru_reset_gate_constant(rng: np.random.Generator) -> Made:
    """The reset gate is treated as a constant."""

    class Wrong(GruCell):
        def bwd(self, out, inp, h):
            z, r, n = self.gates(inp, h)
            dz = out.g * (h - n) * z * (1 - z)
            dn = out.g * (1 - z) * (1 - n * n)
            h.g = out.g * z + self.send(inp, h, dz, gu.zeros_like(r), dn, r)

    return Made(Wrong(rng), cell(rng))


class LstmCell(Module):
    """o * tanh(f * c + i * tanh(inp @ wg)), gates i, f, o = sigmoid(inp @ w)."""

    def __init__(self, rng, n_in=2, width=3):
        self.wi, self.wf, self.wo, self.wg = (
            Parameter(rng.normal(size=(n_in, width))) for _ in range(4)
        )

    def gates(self, inp):
        i, f, o = ((inp @ w).sigmoid() for w in (self.wi, self.wf, self.wo))
        return i, f, o, (inp @ self.wg).tanh()

    def forward(self, inp, c):
        i, f, o, g = self.gates(inp)
        return o * (f * c + i * g).tanh()


@corpus.case("activation", wrong="inp c wi wf wg")
def lstm_tanh_of_cell_forgotten(rng: np.random.Generator) -> Made:
    """dc = do * o, without the tanh's derivative."""

    class Wrong(LstmCell):
        def bwd(self, out, inp, c):
            i, f, o, g = self.gates(inp)
            dc = out.g * o
            di, df = dc * g * i * (1 - i), dc * c * f * (1 - f)
            do, dg = out.g * (f * c + i * g).tanh() * o * (1 - o), dc * i * (1 - g * g)
            self.wi.g, self.wf.g = inp.T @ di, inp.T @ df
            self.wo.g, self.wg.g = inp.T @ do, inp.T @ dg
            inp.g = di @ self.wi.T + df @ self.wf.T + do @ self.wo.T + dg @ self.wg.T
            c.g = dc * f

    return Made(Wrong(rng), cell(rng))


@corpus.case("output", wrong="inp c wi wf wg", also="operand")
def lstm_output_for_tanh_of_cell(rng: np.random.Generator) -> Made:
    """1 - out**2, where the tanh of the cell, before the gate, is meant."""

    class Wrong(LstmCell):
        def bwd(self, out, inp, c):
            i, f, o, g = self.gates(inp)
            dc = out.g * o * (1 - out * out)
            di, df = dc * g * i * (1 - i), dc * c * f * (1 - f)
            do, dg = out.g * (f * c + i * g).tanh() * o * (1 - o), dc * i * (1 - g * g)
            self.wi.g, self.wf.g = inp.T @ di, inp.T @ df
            self.wo.g, self.wg.g = inp.T @ do, inp.T @ dg
            inp.g = di @ self.wi.T + df @ self.wf.T + do @ self.wo.T + dg @ self.wg.T
            c.g = dc * f

    return Made(Wrong(rng), cell(rng))


@corpus.case("swapped", wrong="wi wf")
def lstm_gate_weights_swapped(rng: np.random.Generator) -> Made:
    """The weights of input and forget gate get each other's gradient."""

    class Wrong(LstmCell):
        def bwd(self, out, inp, c):
            i, f, o, g = self.gates(inp)
            t = (f * c + i * g).tanh()
            dc = out.g * o * (1 - t * t)
            di, df = dc * g * i * (1 - i), dc * c * f * (1 - f)
            do, dg = out.g * t * o * (1 - o), dc * i * (1 - g * g)
            self.wf.g, self.wi.g = inp.T @ di, inp.T @ df
            self.wo.g, self.wg.g = inp.T @ do, inp.T @ dg
            inp.g = di @ self.wi.T + df @ self.wf.T + do @ self.wo.T + dg @ self.wg.T
            c.g = dc * f

    return Made(Wrong(rng), cell(rng))


@corpus.case("operand", wrong="c")
def lstm_input_gate_for_forget_gate(rng: np.random.Generator) -> Made:
    """The old cell's gradient times i, where f is meant."""

    class Wrong(LstmCell):
        def bwd(self, out, inp, c):
            i, f, o, g = self.gates(inp)
            t = (f * c + i * g).tanh()
            dc = out.g * o * (1 - t * t)
            di, df = dc * g * i * (1 - i), dc * c * f * (1 - f)
            do, dg = out.g * t * o * (1 - o), dc * i * (1 - g * g)
            self.wi.g, self.wf.g = inp.T @ di, inp.T @ df
            self.wo.g, self.wg.g = inp.T @ do, inp.T @ dg
            inp.g = di @ self.wi.T + df @ self.wf.T + do @ self.wo.T + dg @ self.wg.T
            c.g = dc * i

    return Made(Wrong(rng), cell(rng))


# Residual blocks, tied weights, gates


class Residual(Module):
    """relu(inp + scale * tanh(inp @ w))."""

    def __init__(self, rng, scale=0.5):
        self.w = Parameter(rng.normal(size=(4, 4)))
        self.scale = scale

    def forward(self, inp):
        return (inp + self.scale * (inp @ self.w).tanh()).relu()


@corpus.case("overwritten", wrong="inp", also="detached")
def residual_skip_lost(rng: np.random.Generator) -> Made:
    """The block's gradient replaces the skip's."""

    class Wrong(Residual):
        def bwd(self, out, inp):
            t = (inp @ self.w).tanh()
            dx = (out > 0) * out.g
            dz = self.scale * (1 - t * t) * dx
            self.w.g = inp.T @ dz
            dx = dz @ self.w.T
            inp.g = dx

    return Made(Wrong(rng), (rng.normal(size=(5, 4)),))


@corpus.case("mask", wrong="inp w")
def residual_mask_of_input(rng: np.random.Generator) -> Made:
    """inp > 0, where the sum's sign is meant."""

    class Wrong(Residual):
        def bwd(self, out, inp):
            t = (inp @ self.w).tanh()
            ds = (inp > 0) * out.g
            dz = self.scale * (1 - t * t) * ds
            self.w.g = inp.T @ dz
            inp.g = ds + dz @ self.w.T

    return Made(Wrong(rng, scale=3.0), (rng.normal(size=(5, 4)),))


@corpus.case("factor", wrong="w")
def residual_scale_not_in_weight(rng: np.random.Generator) -> Made:
    """The branch's scale is left out in dw."""

    class Wrong(Residual):
        def bwd(self, out, inp):
            t = (inp @ self.w).tanh()
            ds = (out > 0) * out.g
            dz = (1 - t * t) * ds
            self.w.g = inp.T @ dz
            inp.g = ds + self.scale * dz @ self.w.T

    return Made(Wrong(rng), (rng.normal(size=(5, 4)),))


class PreNorm(Module):
    """inp + norm(inp) @ w, norm without gain: (inp - mean) / sqrt(var + eps) of each row."""

    eps = 0.1

    def __init__(self, rng):
        self.w = Parameter(rng.normal(size=(6, 6)))

    def normed(self, inp):
        centered = inp - inp.mean(1, keepdims=True)
        std = ((centered**2).mean(1, keepdims=True) + self.eps).sqrt()
        return centered / std, std

    def forward(self, inp):
        return inp + self.normed(inp)[0] @ self.w


@corpus.case("eps", wrong="inp")
def prenorm_eps_added_again(rng: np.random.Generator) -> Made:
    """eps is added once more to the deviation that has it already."""

    class Wrong(PreNorm):
        def bwd(self, out, inp):
            xhat, std = self.normed(inp)
            self.w.g = xhat.T @ out.g
            d = out.g @ self.w.T
            d = d - d.mean(1, keepdims=True) - xhat * (d * xhat).mean(1, keepdims=True)
            inp.g = out.g + d / (std + self.eps)

    return Made(Wrong(rng), (rng.normal(size=(5, 6)),))


@corpus.case("operand", wrong="w")
def prenorm_weight_from_raw_input(rng: np.random.Generator) -> Made:
    """dw from the block's input, not the normalised one."""

    class Wrong(PreNorm):
        def bwd(self, out, inp):
            xhat, std = self.normed(inp)
            self.w.g = inp.T @ out.g
            d = out.g @ self.w.T
            d = d - d.mean(1, keepdims=True) - xhat * (d * xhat).mean(1, keepdims=True)
            inp.g = out.g + d / std

    return Made(Wrong(rng), (rng.normal(size=(5, 6)),))


class TiedAutoencoder(Module):
    """tanh(inp @ w) @ w.T."""

    def __init__(self, rng, width=4):
        self.w = Parameter(rng.normal(size=(4, width)))

    def forward(self, inp):
        return (inp @ self.w).tanh() @ self.w.T


@corpus.case("overwritten", wrong="w", also="detached")
def tied_decoder_lost(rng: np.random.Generator) -> Made:
    """The encoder's dw replaces the decoder's."""

    class Wrong(TiedAutoencoder):
        def bwd(self, out, inp):
            h = (inp @ self.w).tanh()
            grads = {"w": out.g.T @ h}
            dz = (1 - h * h) * (out.g @ self.w)
            grads["w"] = inp.T @ dz
            self.w.g = grads["w"]
            inp.g = dz @ self.w.T

    return Made(Wrong(rng, width=3), (rng.normal(size=(5, 4)),))


@corpus.case("transpose", wrong="w")
def tied_decoder_not_transposed(rng: np.random.Generator) -> Made:
    """The decoder's part as if its weight were w, not w.T; w is square."""

    class Wrong(TiedAutoencoder):
        def bwd(self, out, inp):
            h = (inp @ self.w).tanh()
            dz = (1 - h * h) * (out.g @ self.w)
            self.w.g = h.T @ out.g + inp.T @ dz
            inp.g = dz @ self.w.T

    return Made(Wrong(rng), (rng.normal(size=(5, 4)),))


class Quadratic(Module):
    """x @ a @ x for each row x; a need not be symmetric."""

    def __init__(self, rng):
        self.a = Parameter(rng.normal(size=(4, 4)))

    def forward(self, inp):
        return gu.einsum("ni,ij,nj->n", inp, self.a, inp)


@corpus.case("overwritten", wrong="inp", also="detached")
def quadratic_one_side(rng: np.random.Generator) -> Made:
    """a @ x, without a.T @ x."""

    class Wrong(Quadratic):
        def bwd(self, out, inp):
            inp.g = out.g.unsqueeze(1) * (inp @ self.a.T)
            self.a.g = gu.einsum("n,ni,nj->ij", out.g, inp, inp)

    return Made(Wrong(rng), (rng.normal(size=(5, 4)),))


@corpus.case("transpose", wrong="inp")
def quadratic_taken_for_symmetric(rng: np.random.Generator) -> Made:
    """2 * a @ x: the second a is not transposed."""

    class Wrong(Quadratic):
        def bwd(self, out, inp):
            inp.g = out.g.unsqueeze(1) * (inp @ self.a.T + inp @ self.a.T)
            self.a.g = gu.einsum("n,ni,nj->ij", out.g, inp, inp)

    return Made(Wrong(rng), (rng.normal(size=(5, 4)),))


class Bilinear(Module):
    """out[k] = x @ a[k] @ y."""

    def __init__(self, rng):
        self.a = Parameter(rng.normal(size=(2, 3, 3)))

    def forward(self, x, y):
        return gu.einsum("ni,kij,nj->nk", x, self.a, y)


@corpus.case("swapped", wrong="x y")
def bilinear_swapped(rng: np.random.Generator) -> Made:
    """x and y get each other's gradient."""

    class Wrong(Bilinear):
        def bwd(self, out, x, y):
            y.g = gu.einsum("nk,kij,nj->ni", out.g, self.a, y)
            x.g = gu.einsum("nk,kij,ni->nj", out.g, self.a, x)
            self.a.g = gu.einsum("nk,ni,nj->kij", out.g, x, y)

    return Made(Wrong(rng), (rng.normal(size=(5, 3)), rng.normal(size=(5, 3))))


@corpus.case("operand", wrong="a")
def bilinear_one_factor_twice(rng: np.random.Generator) -> Made:
    """x twice, where x and y are meant."""

    class Wrong(Bilinear):
        def bwd(self, out, x, y):
            x.g = gu.einsum("nk,kij,nj->ni", out.g, self.a, y)
            y.g = gu.einsum("nk,kij,ni->nj", out.g, self.a, x)
            self.a.g = gu.einsum("nk,ni,nj->kij", out.g, x, x)

    return Made(Wrong(rng), (rng.normal(size=(5, 3)), rng.normal(size=(5, 3))))


class Glu(Module):
    """value * sigmoid(gate): the halves of the input."""

    def halves(self, inp):
        return inp.split(inp.shape[1] // 2, 1)

    def forward(self, inp):
        value, gate = self.halves(inp)
        return value * gate.sigmoid()


@corpus.case("activation", wrong="inp")
def glu_sigmoid_forgotten(rng: np.random.Generator) -> Made:
    """The gate's half as if the gate were linear."""

    class Wrong(Glu):
        def bwd(self, out, inp):
            value, gate = self.halves(inp)
            inp.g = gu.concatenate([out.g * gate.sigmoid(), out.g * value], 1)

    return Made(Wrong(), (rng.normal(size=(5, 6)),))


@corpus.case("output", wrong="inp")
def glu_gate_from_raw_input(rng: np.random.Generator) -> Made:
    """gate * (1 - gate) with the gate before the sigmoid."""

    class Wrong(Glu):
        def bwd(self, out, inp):
            value, gate = self.halves(inp)
            s = gate.sigmoid()
            inp.g = gu.concatenate([out.g * s, out.g * value * gate * (1 - gate)], 1)

    return Made(Wrong(), (rng.normal(size=(5, 6)),))


class Highway(Module):
    """t * h + (1 - t) * inp, with t = sigmoid(inp @ wt) and h = relu(inp @ wh)."""

    def __init__(self, rng):
        self.wt = Parameter(rng.normal(size=(4, 4)))
        self.wh = Parameter(rng.normal(size=(4, 4)))

    def forward(self, inp):
        t, h = (inp @ self.wt).sigmoid(), (inp @ self.wh).relu()
        return t * h + (1 - t) * inp


@corpus.case("detached", wrong="inp wt")
def highway_gate_of_carry_constant(rng: np.random.Generator) -> Made:
    """The gate's use in the carried part is treated as a constant."""

    class Wrong(Highway):
        def bwd(self, out, inp):
            t, h = (inp @ self.wt).sigmoid(), (inp @ self.wh).relu()
            dt = out.g * h * t * (1 - t)
            dh = (h > 0) * out.g * t
            self.wt.g, self.wh.g = inp.T @ dt, inp.T @ dh
            inp.g = dt @ self.wt.T + dh @ self.wh.T + out.g * (1 - t)

    return Made(Wrong(rng), (rng.normal(size=(5, 4)),))


@corpus.case("stale", wrong="inp wt wh")
def highway_gate_of_first_batch(rng: np.random.Generator) -> Made:
    """The gate is kept under a name that is set once."""

    class Wrong(Highway):
        def forward(self, inp):
            if "gate" not in vars(self):
                self.gate = (inp @ self.wt).sigmoid().detach()
            return super().forward(inp)

        def bwd(self, out, inp):
            t, h = self.gate, (inp @ self.wh).relu()
            dt = out.g * (h - inp) * t * (1 - t)
            dh = (h > 0) * out.g * t
            self.wt.g, self.wh.g = inp.T @ dt, inp.T @ dh
            inp.g = dt @ self.wt.T + dh @ self.wh.T + out.g * (1 - t)

    layer = Wrong(rng)
    layer(rng.normal(size=(5, 4)))
    return Made(layer, (rng.normal(size=(5, 4)),))


# Two inputs


class PairwiseDistance(Module):
    """Squared distances of all rows of a and b: (n, m)."""

    def forward(self, a, b):
        return ((a.unsqueeze(1) - b) ** 2).sum(2)


@corpus.case("sign", wrong="b")
def pairwise_distance_sign(rng: np.random.Generator) -> Made:
    """b's gradient has a's sign."""

    class Wrong(PairwiseDistance):
        def bwd(self, out, a, b):
            d = 2 * (a.unsqueeze(1) - b) * out.g.unsqueeze(2)
            a.g, b.g = d.sum(1), d.sum(0)

    return Made(Wrong(), (rng.normal(size=(5, 3)), rng.normal(size=(4, 3))))


@corpus.case("axis", wrong="a")
def pairwise_distance_summed_over_own_rows(rng: np.random.Generator) -> Made:
    """a's gradient is summed over a's rows; b has as many."""

    class Wrong(PairwiseDistance):
        def bwd(self, out, a, b):
            d = 2 * (a.unsqueeze(1) - b) * out.g.unsqueeze(2)
            a.g, b.g = d.sum(0), -d.sum(0)

    return Made(Wrong(), (rng.normal(size=(4, 3)), rng.normal(size=(4, 3))))


@corpus.case("factor", wrong="a b")
def pairwise_distance_without_two(rng: np.random.Generator) -> Made:
    """The square's 2 is missing."""

    class Wrong(PairwiseDistance):
        def bwd(self, out, a, b):
            d = (a.unsqueeze(1) - b) * out.g.unsqueeze(2)
            a.g, b.g = d.sum(1), -d.sum(0)

    return Made(Wrong(), (rng.normal(size=(5, 3)), rng.normal(size=(4, 3))))


class Divide(Module):
    """a / b."""

    def forward(self, a, b):
        return a / b


def fraction(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Numerators, and denominators of both signs away from 0."""
    sign = np.where(np.arange(12).reshape(4, 3) % 2, 1.0, -1.0)
    return rng.normal(size=(4, 3)), sign * rng.uniform(0.6, 2.0, size=(4, 3))


@corpus.case("sign", wrong="b")
def divide_denominator_sign(rng: np.random.Generator) -> Made:
    """a / b**2 without the minus."""

    class Wrong(Divide):
        def bwd(self, out, a, b):
            a.g = out.g / b
            b.g = out.g * a / b**2

    return Made(Wrong(), fraction(rng))


@corpus.case("formula", wrong="b")
def divide_denominator_not_squared(rng: np.random.Generator) -> Made:
    """-a / b."""

    class Wrong(Divide):
        def bwd(self, out, a, b):
            a.g = out.g / b
            b.g = -out.g * a / b

    return Made(Wrong(), fraction(rng))


@corpus.case("cotangent", wrong="a")
def divide_numerator_without_cotangent(rng: np.random.Generator) -> Made:
    """1 / b, whatever arrives."""

    class Wrong(Divide):
        def bwd(self, out, a, b):
            a.g = 1 / b
            b.g = -out.g * out / b

    return Made(Wrong(), fraction(rng))


class Product(Module):
    """a * b, a row of b for all of a's."""

    def forward(self, a, b):
        return a * b


@corpus.case("operand", wrong="a")
def product_own_value(rng: np.random.Generator) -> Made:
    """a's gradient times a."""

    class Wrong(Product):
        def bwd(self, out, a, b):
            a.g = out.g * a
            b.g = (out.g * a).sum(0)

    return Made(Wrong(), (rng.normal(size=(5, 3)), rng.normal(size=3)))


@corpus.case("sum", wrong="a b")
def product_column_not_summed(rng: np.random.Generator) -> Made:
    """b is one number for each row; its gradient keeps the columns and is refused."""

    class Wrong(Module):
        def forward(self, a, b):
            return a * b.unsqueeze(1)

        def bwd(self, out, a, b):
            a.g = out.g * b.unsqueeze(1)
            b.g = out.g * a

    return Made(Wrong(), (rng.normal(size=(5, 3)), rng.normal(size=5)))


class Choose(Module):
    """a where choice is 1, b where it is 0."""

    def forward(self, choice, a, b):
        return gu.where(choice == 1, a, b)


@corpus.case("mask", wrong="a")
def where_first_not_masked(rng: np.random.Generator) -> Made:
    """a gets the whole gradient."""

    class Wrong(Choose):
        def bwd(self, out, choice, a, b):
            a.g = out.g
            b.g = gu.where(choice == 1, 0.0, out.g)

    choice = rng.permutation(np.arange(15) % 2).reshape(5, 3)
    return Made(Wrong(), (choice, rng.normal(size=(5, 3)), rng.normal(size=(5, 3))))


@corpus.case("swapped", wrong="a b", also="mask")
def where_branches_swapped(rng: np.random.Generator) -> Made:
    """Each gets the gradient where the other was taken."""

    class Wrong(Choose):
        def bwd(self, out, choice, a, b):
            taken = choice == 1
            a.g = gu.where(taken, 0.0, out.g)
            b.g = gu.where(taken, out.g, 0.0)

    choice = rng.permutation(np.arange(15) % 2).reshape(5, 3)
    return Made(Wrong(), (choice, rng.normal(size=(5, 3)), rng.normal(size=(5, 3))))


class Concatenate(Module):
    """a's and b's columns side by side, times a scale for each column."""

    def __init__(self, rng, columns):
        self.scale = Parameter(rng.normal(size=columns))

    def forward(self, a, b):
        return gu.concatenate([a, b], 1) * self.scale


@corpus.case("shift", wrong="b")
def concatenate_off_by_one(rng: np.random.Generator) -> Made:
    """b's columns are taken from one too early."""

    class Wrong(Concatenate):
        def bwd(self, out, a, b):
            n, d = a.shape[1], out.g * self.scale
            self.scale.g = (out.g * gu.concatenate([a, b], 1)).sum(0)
            a.g = d[:, :n]
            b.g = d[:, n - 1 : -1]

    return Made(Wrong(rng, 5), (rng.normal(size=(4, 3)), rng.normal(size=(4, 2))))


@corpus.case("swapped", wrong="a b")
def concatenate_halves_swapped(rng: np.random.Generator) -> Made:
    """The halves go to the wrong sides."""

    class Wrong(Concatenate):
        def bwd(self, out, a, b):
            self.scale.g = (out.g * gu.concatenate([a, b], 1)).sum(0)
            b.g, a.g = (out.g * self.scale).split(3, 1)

    return Made(Wrong(rng, 6), (rng.normal(size=(4, 3)), rng.normal(size=(4, 3))))


# Along the time axis


class Cumulative(Module):
    """Sums from the start: (n, length)."""

    def forward(self, inp):
        return inp.cumsum(1)


@corpus.case("shift", wrong="inp", also="axis")
def cumsum_not_reversed(rng: np.random.Generator) -> Made:
    """The gradient is summed from the start, where from the end is meant."""

    class Wrong(Cumulative):
        def bwd(self, out, inp):
            inp.g = out.g.cumsum(1)

    return Made(Wrong(), (rng.normal(size=(4, 5)),))


@corpus.case("axis", wrong="inp")
def cumsum_over_batch(rng: np.random.Generator) -> Made:
    """Reversed and summed, along the batch."""

    class Wrong(Cumulative):
        def bwd(self, out, inp):
            inp.g = out.g.flip(0).cumsum(0).flip(0)

    return Made(Wrong(), (rng.normal(size=(4, 5)),))


class Differences(Module):
    """inp[:, 1:] - inp[:, :-1]."""

    def forward(self, inp):
        return inp[:, 1:] - inp[:, :-1]


@corpus.case("overwritten", wrong="inp")
def differences_overwritten(rng: np.random.Generator) -> Made:
    """The second slice is assigned over the first's."""

    class Wrong(Differences):
        def bwd(self, out, inp):
            dx, g = np.zeros(inp.shape), out.g.numpy()
            dx[:, 1:] = g
            dx[:, :-1] = -g
            inp.g = dx

    return Made(Wrong(), (rng.normal(size=(4, 5)),))


# Graphs


class Edges(Module):
    """For each edge the difference of its nodes' rows, times w."""

    def __init__(self, rng):
        self.w = Parameter(rng.normal(size=(3, 2)))

    def forward(self, nodes, source, target):
        return (nodes[target] - nodes[source]) @ self.w


def graph(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """5 nodes and 6 edges; some nodes have several."""
    source, target = np.array([0, 0, 1, 3, 4, 1]), np.array([1, 2, 2, 2, 0, 4])
    return rng.normal(size=(5, 3)), source, target


@corpus.case("scatter", wrong="nodes")
def graph_nodes_fancy_plus_equals(rng: np.random.Generator) -> Made:
    """A node with several edges gets the gradient of one at each end."""

    class Wrong(Edges):
        def bwd(self, out, nodes, source, target):
            self.w.g = (nodes[target] - nodes[source]).T @ out.g
            d = (out.g @ self.w.T).numpy()
            dnodes = np.zeros(nodes.shape)
            dnodes[target.numpy()] += d
            dnodes[source.numpy()] -= d
            nodes.g = dnodes

    return Made(Wrong(rng), graph(rng))


@corpus.case("overwritten", wrong="nodes", also="detached")
def graph_source_end_lost(rng: np.random.Generator) -> Made:
    """Only the edges' targets get a gradient: the sources' is replaced."""

    class Wrong(Edges):
        def bwd(self, out, nodes, source, target):
            self.w.g = (nodes[target] - nodes[source]).T @ out.g
            d = out.g @ self.w.T
            for ends, sign in ((source, -1), (target, 1)):
                places = gu.one_hot(ends, len(nodes), dtype=d.dtype)
                dnodes = sign * (places.T @ d)
            nodes.g = dnodes

    return Made(Wrong(rng), graph(rng))
