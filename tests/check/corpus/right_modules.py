"""Modules whose hand-written bwd is right, plain ones first, then those that are hard to check."""

import math

import numpy as np

import groundup as gu
from corpus.case import Corpus, Made
from groundup.nn import Buffer, Module, Parameter

corpus = Corpus()


# Linear layers


class Linear(Module):
    """inp @ w + b."""

    def __init__(self, rng: np.random.Generator, n_in: int = 4, n_out: int = 3):
        self.w = Parameter(rng.normal(size=(n_in, n_out)))
        self.b = Parameter(rng.normal(size=n_out))

    def forward(self, inp):
        return inp @ self.w + self.b

    def bwd(self, out, inp):
        inp.g = out.g @ self.w.T
        self.w.g = inp.T @ out.g
        self.b.g = out.g.sum(0)


@corpus.case()
def linear(rng: np.random.Generator) -> Made:
    """inp @ w + b, rows of a batch."""
    return Made(Linear(rng), (rng.normal(size=(5, 4)),))


@corpus.case()
def linear_square(rng: np.random.Generator) -> Made:
    """A square weight and as many rows: every transpose would fit."""
    return Made(Linear(rng, 4, 4), (rng.normal(size=(4, 4)),))


@corpus.case()
def linear_leading_axes(rng: np.random.Generator) -> Made:
    """Rows along two leading axes; the bias is left to the engine to sum."""

    class LinearOfSequence(Linear):
        def bwd(self, out, inp):
            inp.g = out.g @ self.w.T
            self.w.g = gu.einsum("nti,nto->io", inp, out.g)
            self.b.g = out.g

    return Made(LinearOfSequence(rng), (rng.normal(size=(2, 5, 4)),))


@corpus.case()
def linear_weight_of_every_row(rng: np.random.Generator) -> Made:
    """The weight gets one contribution a row; they add up."""

    class LinearByRow(Linear):
        def bwd(self, out, inp):
            inp.g = out.g @ self.w.T
            for i in range(len(inp)):
                self.w.g = inp[i].unsqueeze(1) * out.g[i]
                self.b.g = out.g[i]

    return Made(LinearByRow(rng), (rng.normal(size=(5, 4)),))


@corpus.case()
def bilinear(rng: np.random.Generator) -> Made:
    """out[n, k] = left[n, i] * w[k, i, j] * right[n, j]."""

    class Bilinear(Module):
        def __init__(self):
            self.w = Parameter(rng.normal(size=(2, 4, 3)))

        def forward(self, left, right):
            return gu.einsum("ni,kij,nj->nk", left, self.w, right)

        def bwd(self, out, left, right):
            left.g = gu.einsum("nk,kij,nj->ni", out.g, self.w, right)
            right.g = gu.einsum("nk,kij,ni->nj", out.g, self.w, left)
            self.w.g = gu.einsum("nk,ni,nj->kij", out.g, left, right)

    return Made(Bilinear(), (rng.normal(size=(5, 4)), rng.normal(size=(5, 3))))


@corpus.case()
def batched_matmul(rng: np.random.Generator) -> Made:
    """(2, 4, 3) @ (3, 5): the second matrix is broadcast over the batch, the engine sums."""

    class Product(Module):
        def forward(self, left, right):
            return left @ right

        def bwd(self, out, left, right):
            left.g = out.g @ right.mT
            right.g = left.mT @ out.g

    return Made(Product(), (rng.normal(size=(2, 4, 3)), rng.normal(size=(3, 5))))


# Convolution and pooling


@corpus.case()
def conv1d(rng: np.random.Generator) -> Made:
    """Correlation along the last axis, without padding."""

    class Conv1d(Module):
        def __init__(self):
            self.w = Parameter(rng.normal(size=(3, 2, 3)))  # (c_out, c_in, k)
            self.b = Parameter(rng.normal(size=3))

        def forward(self, inp):
            steps = inp.shape[2] - self.w.shape[2] + 1
            out = self.b.reshape(-1, 1)
            for i in range(self.w.shape[2]):
                out = out + gu.einsum("ncl,oc->nol", inp[:, :, i : i + steps], self.w[:, :, i])
            return out

        def bwd(self, out, inp):
            k, steps = self.w.shape[2], out.shape[2]
            slices = []
            for i in range(k):
                dx = gu.einsum("nol,oc->ncl", out.g, self.w[:, :, i])
                inp.g = gu.pad(dx, ((0, 0), (0, 0), (i, k - 1 - i)))
                slices.append(gu.einsum("nol,ncl->oc", out.g, inp[:, :, i : i + steps]))
            self.w.g = gu.stack(slices, axis=2)
            self.b.g = out.g.sum((0, 2))

    return Made(Conv1d(), (rng.normal(size=(2, 2, 7)),))


@corpus.case()
def conv2d_same(rng: np.random.Generator) -> Made:
    """3x3 with padding 1; the input's gradient is a convolution with the flipped kernel."""

    class Conv2d(Module):
        def __init__(self):
            self.w = Parameter(rng.normal(size=(2, 3, 3, 3)))  # (c_out, c_in, 3, 3)

        def forward(self, inp):
            return self._correlate(inp, self.w)

        def bwd(self, out, inp):
            inp.g = self._correlate(out.g, self.w.transpose(0, 1).flip(2, 3))
            h, w = inp.shape[2:]
            padded = gu.pad(inp, ((0, 0), (0, 0), (1, 1), (1, 1)))
            self.w.g = gu.stack(
                [
                    gu.stack(
                        [
                            gu.einsum("nohw,nchw->oc", out.g, padded[:, :, i : i + h, j : j + w])
                            for j in range(3)
                        ],
                        axis=2,
                    )
                    for i in range(3)
                ],
                axis=2,
            )

        def _correlate(self, x, kernel):
            h, w = x.shape[2:]
            padded = gu.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)))
            return sum(
                gu.einsum("nchw,oc->nohw", padded[:, :, i : i + h, j : j + w], kernel[:, :, i, j])
                for i in range(3)
                for j in range(3)
            )

    return Made(Conv2d(), (rng.normal(size=(2, 3, 4, 5)),))


@corpus.case()
def max_pool(rng: np.random.Generator) -> Made:
    """The largest of each 2x2 block."""

    class MaxPool(Module):
        def forward(self, inp):
            return self._blocks(inp).amax((3, 5))

        def bwd(self, out, inp):
            largest = self._blocks(inp) == out.unsqueeze(3).unsqueeze(5)
            inp.g = (largest * out.g.unsqueeze(3).unsqueeze(5)).reshape(inp.shape)

        def _blocks(self, x):
            n, c, h, w = x.shape
            return x.reshape(n, c, h // 2, 2, w // 2, 2)

    return Made(MaxPool(), (rng.normal(size=(2, 3, 4, 6)),))


@corpus.case()
def average_pool_overlapping(rng: np.random.Generator) -> Made:
    """The mean of every three neighbours, stride 1."""

    class AveragePool(Module):
        def forward(self, inp):
            return (inp[:, :-2] + inp[:, 1:-1] + inp[:, 2:]) / 3.0

        def bwd(self, out, inp):
            for before in range(3):
                inp.g = gu.pad(out.g / 3.0, ((0, 0), (before, 2 - before)))

    return Made(AveragePool(), (rng.normal(size=(3, 7)),))


# Activations


@corpus.case()
def tanh_from_output(rng: np.random.Generator) -> Made:
    """1 - out**2."""

    class Tanh(Module):
        def forward(self, inp):
            return inp.tanh()

        def bwd(self, out, inp):
            inp.g = (1.0 - out * out) * out.g

    return Made(Tanh(), (rng.normal(size=(4, 3)),))


@corpus.case()
def sigmoid_from_input(rng: np.random.Generator) -> Made:
    """The same derivative without the output: 1 / (2 + exp(x) + exp(-x))."""

    class Sigmoid(Module):
        def forward(self, inp):
            return inp.sigmoid()

        def bwd(self, out, inp):
            inp.g = out.g / (2.0 + inp.exp() + (-inp).exp())

    return Made(Sigmoid(), (rng.normal(size=(4, 3)),))


@corpus.case()
def gelu(rng: np.random.Generator) -> Made:
    """inp * P(N <= inp)."""

    class Gelu(Module):
        def forward(self, inp):
            return 0.5 * inp * (1.0 + (inp / math.sqrt(2)).erf())

        def bwd(self, out, inp):
            below = 0.5 * (1.0 + (inp / math.sqrt(2)).erf())
            density = (-0.5 * inp * inp).exp() / math.sqrt(2 * math.pi)
            inp.g = (below + inp * density) * out.g

    return Made(Gelu(), (rng.normal(size=(4, 3)),))


@corpus.case()
def silu_with_beta(rng: np.random.Generator) -> Made:
    """inp * sigmoid(beta * inp), beta a single learnt number."""

    class Swish(Module):
        def __init__(self):
            self.beta = Parameter(np.array(1.5))

        def forward(self, inp):
            return inp * (self.beta * inp).sigmoid()

        def bwd(self, out, inp):
            s = (self.beta * inp).sigmoid()
            inp.g = (s + self.beta * inp * s * (1.0 - s)) * out.g
            self.beta.g = (inp * inp * s * (1.0 - s) * out.g).sum()

    return Made(Swish(), (rng.normal(size=(4, 3)),))


@corpus.case()
def mish(rng: np.random.Generator) -> Made:
    """inp * tanh(softplus(inp))."""

    class Mish(Module):
        def forward(self, inp):
            return inp * inp.exp().log1p().tanh()

        def bwd(self, out, inp):
            t = inp.exp().log1p().tanh()
            inp.g = (t + inp * (1.0 - t * t) * inp.sigmoid()) * out.g

    return Made(Mish(), (rng.normal(size=(4, 3)),))


@corpus.case()
def selu(rng: np.random.Generator) -> Made:
    """scale * (inp or alpha * (exp(inp) - 1)); the negative side from the output."""
    alpha, scale = 1.6732632423543772, 1.0507009873554805

    class Selu(Module):
        def forward(self, inp):
            return scale * gu.where(inp > 0, inp, alpha * inp.minimum(0.0).expm1())

        def bwd(self, out, inp):
            inp.g = gu.where(inp > 0, scale, out + scale * alpha) * out.g

    return Made(Selu(), (rng.normal(size=(4, 5)),))


@corpus.case()
def prelu_slope_per_channel(rng: np.random.Generator) -> Made:
    """A learnt slope for each channel of an image."""

    class Prelu(Module):
        def __init__(self):
            self.slope = Parameter(rng.uniform(0.1, 0.4, size=(3, 1, 1)))

        def forward(self, inp):
            return gu.where(inp > 0, inp, self.slope * inp)

        def bwd(self, out, inp):
            inp.g = gu.where(inp > 0, out.g, self.slope * out.g)
            self.slope.g = gu.where(inp > 0, 0.0, inp * out.g)

    return Made(Prelu(), (rng.normal(size=(2, 3, 2, 4)),))


@corpus.case()
def gated_linear_unit(rng: np.random.Generator) -> Made:
    """The first half of the columns times the sigmoid of the second."""

    class Glu(Module):
        def forward(self, inp):
            value, gate = inp.split(inp.shape[1] // 2, axis=1)
            return value * gate.sigmoid()

        def bwd(self, out, inp):
            value, gate = inp.split(inp.shape[1] // 2, axis=1)
            s = gate.sigmoid()
            inp.g = gu.concatenate([s * out.g, value * s * (1.0 - s) * out.g], axis=1)

    return Made(Glu(), (rng.normal(size=(5, 6)),))


# Softmax and losses


@corpus.case()
def softmax(rng: np.random.Generator) -> Made:
    """out * (g - sum(out * g)), along the middle axis."""

    class Softmax(Module):
        def forward(self, inp):
            e = (inp - inp.amax(1, keepdims=True)).exp()
            return e / e.sum(1, keepdims=True)

        def bwd(self, out, inp):
            inp.g = out * (out.g - (out * out.g).sum(1, keepdims=True))

    return Made(Softmax(), (rng.normal(size=(2, 4, 3)),))


@corpus.case()
def log_softmax(rng: np.random.Generator) -> Made:
    """g - softmax * sum(g)."""

    class LogSoftmax(Module):
        def forward(self, inp):
            return inp - inp.logsumexp(1, keepdims=True)

        def bwd(self, out, inp):
            inp.g = out.g - out.exp() * out.g.sum(1, keepdims=True)

    return Made(LogSoftmax(), (rng.normal(size=(4, 5)),))


class CrossEntropy(Module):
    """The mean of -log softmax(logits)[label]."""

    def forward(self, logits, labels):
        return -logits.log_softmax(1)[np.arange(len(labels)), labels].mean()

    def bwd(self, out, logits, labels):
        right = gu.one_hot(labels, logits.shape[1], dtype=logits.dtype)
        logits.g = (logits.softmax(1) - right) / len(labels) * out.g


@corpus.case()
def cross_entropy(rng: np.random.Generator) -> Made:
    """Logits and integer labels, some of them the same."""
    return Made(CrossEntropy(), (rng.normal(size=(5, 3)), np.array([2, 0, 2, 1, 2])))


@corpus.case()
def cross_entropy_soft_targets(rng: np.random.Generator) -> Made:
    """Targets are distributions and get a gradient, too."""

    class SoftCrossEntropy(Module):
        def forward(self, logits, targ):
            return -(targ * logits.log_softmax(1)).sum(1).mean()

        def bwd(self, out, logits, targ):
            share = out.g / len(logits)
            logits.g = (logits.softmax(1) * targ.sum(1, keepdims=True) - targ) * share
            targ.g = -logits.log_softmax(1) * share

    return Made(SoftCrossEntropy(), (rng.normal(size=(5, 3)), rng.dirichlet(np.ones(3), size=5)))


@corpus.case()
def mse_of_both(rng: np.random.Generator) -> Made:
    """The target's gradient is minus the input's."""

    class Mse(Module):
        def forward(self, inp, targ):
            return ((inp - targ) ** 2).mean()

        def bwd(self, out, inp, targ):
            slope = 2.0 * (inp - targ) / inp.size * out.g
            inp.g = slope
            targ.g = -slope

    return Made(Mse(), (rng.normal(size=(5, 3)), rng.normal(size=(5, 3))))


@corpus.case()
def binary_cross_entropy(rng: np.random.Generator) -> Made:
    """From logits, with a weight for each row; targets are booleans."""

    class Bce(Module):
        def forward(self, inp, targ, weight):
            signed = gu.where(targ, -inp, inp)
            return (weight * (signed.exp() + 1.0).log()).sum()

        def bwd(self, out, inp, targ, weight):
            signed = gu.where(targ, -inp, inp)
            inp.g = weight * (inp.sigmoid() - targ) * out.g
            weight.g = (signed.exp() + 1.0).log() * out.g

    inputs = (rng.normal(size=(5, 3)), rng.random((5, 3)) < 0.5, rng.uniform(1, 2, size=(5, 1)))
    return Made(Bce(), inputs)


@corpus.case()
def gaussian_kl(rng: np.random.Generator) -> Made:
    """KL of N(mean, exp(log_var)) from N(0, 1), as in a variational autoencoder."""

    class Kl(Module):
        def forward(self, mean, log_var):
            return -0.5 * (1.0 + log_var - mean * mean - log_var.exp()).sum(1).mean()

        def bwd(self, out, mean, log_var):
            mean.g = mean / len(mean) * out.g
            log_var.g = 0.5 * (log_var.exp() - 1.0) / len(mean) * out.g

    return Made(Kl(), (rng.normal(size=(5, 3)), rng.normal(size=(5, 3))))


@corpus.case()
def cosine_similarity(rng: np.random.Generator) -> Made:
    """a.b / (|a| |b|) for each row."""

    class Cosine(Module):
        def forward(self, a, b):
            return (a * b).sum(1) / ((a * a).sum(1) * (b * b).sum(1)).sqrt()

        def bwd(self, out, a, b):
            g, cosine = out.g.unsqueeze(1), out.unsqueeze(1)
            na = (a * a).sum(1, keepdims=True).sqrt()
            nb = (b * b).sum(1, keepdims=True).sqrt()
            a.g = g * (b / nb - cosine * a / na) / na
            b.g = g * (a / na - cosine * b / nb) / nb

    return Made(Cosine(), (rng.normal(size=(5, 4)), rng.normal(size=(5, 4))))


# Normalisation


class LayerNorm(Module):
    """(inp - mean) / sqrt(var + eps) * gain + bias along the last axis."""

    def __init__(self, rng: np.random.Generator, features: int = 6, eps: float = 1e-5):
        self.gain = Parameter(rng.normal(size=features))
        self.bias = Parameter(rng.normal(size=features))
        self.eps = eps

    def forward(self, inp):
        return self._normalised(inp)[0] * self.gain + self.bias

    def bwd(self, out, inp):
        normed, root = self._normalised(inp)
        d = out.g * self.gain
        mean = d.mean(-1, keepdims=True) + normed * (d * normed).mean(-1, keepdims=True)
        inp.g = (d - mean) / root
        self.gain.g = normed * out.g
        self.bias.g = out.g

    def _normalised(self, inp):
        centred = inp - inp.mean(-1, keepdims=True)
        root = ((centred * centred).mean(-1, keepdims=True) + self.eps).sqrt()
        return centred / root, root


@corpus.case()
def layernorm(rng: np.random.Generator) -> Made:
    """Over the last of three axes."""
    return Made(LayerNorm(rng), (rng.normal(1.0, 2.0, size=(2, 3, 6)),))


@corpus.case()
def rmsnorm(rng: np.random.Generator) -> Made:
    """inp / sqrt(mean(inp**2) + eps) * gain."""

    class RmsNorm(Module):
        def __init__(self):
            self.gain = Parameter(rng.normal(size=6))

        def forward(self, inp):
            return inp / ((inp * inp).mean(1, keepdims=True) + 1e-6).sqrt() * self.gain

        def bwd(self, out, inp):
            r = ((inp * inp).mean(1, keepdims=True) + 1e-6) ** -0.5
            d = out.g * self.gain
            inp.g = d * r - inp * r**3 * (d * inp).mean(1, keepdims=True)
            self.gain.g = (out.g * inp * r).sum(0)

    return Made(RmsNorm(), (rng.normal(size=(4, 6)),))


@corpus.case()
def batchnorm_of_images(rng: np.random.Generator) -> Made:
    """Statistics over batch and pixels; the running ones are updated on the way."""

    class BatchNorm(Module):
        def __init__(self):
            self.gain = Parameter(rng.normal(size=(3, 1, 1)))
            self.bias = Parameter(rng.normal(size=(3, 1, 1)))
            self.running_mean = Buffer(np.zeros((3, 1, 1)))

        def forward(self, inp):
            mean = inp.mean((0, 2, 3), keepdims=True)
            var = ((inp - mean) ** 2).mean((0, 2, 3), keepdims=True)
            self.running_mean.assign(
                0.9 * self.running_mean.detach() + 0.1 * mean.detach().squeeze(0)
            )
            return (inp - mean) / (var + 1e-5).sqrt() * self.gain + self.bias

        def bwd(self, out, inp):
            axes = (0, 2, 3)
            centred = inp - inp.mean(axes, keepdims=True)
            r = ((centred * centred).mean(axes, keepdims=True) + 1e-5) ** -0.5
            normed, d = centred * r, out.g * self.gain
            inp.g = r * (
                d - d.mean(axes, keepdims=True) - normed * (d * normed).mean(axes, keepdims=True)
            )
            self.gain.g = (out.g * normed).sum(axes).reshape(3, 1, 1)
            self.bias.g = out.g.sum(axes).reshape(3, 1, 1)

    return Made(BatchNorm(), (rng.normal(size=(4, 3, 2, 2)),))


@corpus.case()
def weight_norm(rng: np.random.Generator) -> Made:
    """The weight is a direction times a length: inp @ (v / |v| * length)."""

    class WeightNorm(Module):
        def __init__(self):
            self.v = Parameter(rng.normal(size=(4, 3)))
            self.length = Parameter(rng.uniform(0.5, 2, size=3))

        def forward(self, inp):
            return inp @ (self.v / (self.v * self.v).sum(0).sqrt() * self.length)

        def bwd(self, out, inp):
            norm = (self.v * self.v).sum(0).sqrt()
            unit = self.v / norm
            inp.g = out.g @ (unit * self.length).T
            dw = inp.T @ out.g
            along = (dw * unit).sum(0)
            self.length.g = along
            self.v.g = self.length / norm * (dw - unit * along)

    return Made(WeightNorm(), (rng.normal(size=(5, 4)),))


# Attention and embedding


class Attention(Module):
    """softmax(q @ k.T / sqrt(d)) @ v where keep is true."""

    def forward(self, q, k, v, keep):
        return self._weights(q, k, keep) @ v

    def bwd(self, out, q, k, v, keep):
        a = self._weights(q, k, keep)
        v.g = a.mT @ out.g
        da = out.g @ v.mT
        ds = a * (da - (a * da).sum(-1, keepdims=True)) / math.sqrt(q.shape[-1])
        q.g = ds @ k
        k.g = ds.mT @ q

    def _weights(self, q, k, keep):
        scores = q @ k.mT / math.sqrt(q.shape[-1])
        return gu.where(keep, scores, -1e9).softmax(-1)


@corpus.case()
def attention_causal(rng: np.random.Generator) -> Made:
    """Heads of causal attention, the mask an argument."""
    q, k, v = (rng.normal(size=(2, 4, 3)) for _ in range(3))
    return Made(Attention(), (q, k, v, np.tril(np.ones((4, 4), bool))))


@corpus.case()
def self_attention(rng: np.random.Generator) -> Made:
    """The input makes queries, keys and values, and is added to the result."""

    class SelfAttention(Module):
        def __init__(self):
            self.wq, self.wk, self.wv = (Parameter(rng.normal(size=(3, 3))) for _ in range(3))

        def forward(self, inp):
            q, k, v = inp @ self.wq, inp @ self.wk, inp @ self.wv
            return inp + (q @ k.mT).softmax(-1) @ v

        def bwd(self, out, inp):
            q, k, v = inp @ self.wq, inp @ self.wk, inp @ self.wv
            a = (q @ k.mT).softmax(-1)
            da = out.g @ v.mT
            ds = a * (da - (a * da).sum(-1, keepdims=True))
            inp.g = out.g
            for w, d in ((self.wq, ds @ k), (self.wk, ds.mT @ q), (self.wv, a.mT @ out.g)):
                inp.g = d @ w.T
                w.g = (inp.mT @ d).sum(0)

    return Made(SelfAttention(), (rng.normal(size=(2, 4, 3)),))


@corpus.case()
def embedding_with_repeats(rng: np.random.Generator) -> Made:
    """Rows of a table; row 4 is used three times, row 3 never."""

    class Embedding(Module):
        def __init__(self):
            self.table = Parameter(rng.normal(size=(6, 3)))

        def forward(self, ids):
            return self.table[ids]

        def bwd(self, out, ids):
            d = np.zeros(self.table.shape, out.g.dtype)
            np.add.at(d, ids.data, out.g.data)
            self.table.g = d

    return Made(Embedding(), (np.array([[4, 0, 4], [1, 4, 2], [0, 5, 1]]),))


# Recurrent layers


@corpus.case()
def rnn_unrolled(rng: np.random.Generator) -> Made:
    """tanh(x[t] @ w + h @ u + b) over time: the weights are shared by all steps."""

    class Rnn(Module):
        def __init__(self):
            self.w = Parameter(rng.normal(size=(3, 4)))
            self.u = Parameter(0.5 * rng.normal(size=(4, 4)))
            self.b = Parameter(rng.normal(size=4))

        def forward(self, inp, start):
            h, states = start, []
            for t in range(inp.shape[1]):
                h = (inp[:, t] @ self.w + h @ self.u + self.b).tanh()
                states.append(h)
            return gu.stack(states, axis=1)

        def bwd(self, out, inp, start):
            steps = inp.shape[1]
            dh, dx = 0.0, []
            for t in reversed(range(steps)):
                dz = (out.g[:, t] + dh) * (1.0 - out[:, t] * out[:, t])
                before = out[:, t - 1] if t else start
                self.w.g = inp[:, t].T @ dz
                self.u.g = before.T @ dz
                self.b.g = dz.sum(0)
                dx.append(dz @ self.w.T)
                dh = dz @ self.u.T
            inp.g = gu.stack(dx[::-1], axis=1)
            start.g = dh

    return Made(Rnn(), (rng.normal(size=(2, 5, 3)), rng.normal(size=(2, 4))))


@corpus.case()
def lstm_cell(rng: np.random.Generator) -> Made:
    """Two outputs: the state and the cell."""

    class Lstm(Module):
        def __init__(self):
            self.w = Parameter(rng.normal(size=(3, 16)))
            self.u = Parameter(rng.normal(size=(4, 16)))
            self.b = Parameter(rng.normal(size=16))

        def forward(self, inp, state, cell):
            i, f, o, c = self._gates(inp, state)
            cell = f * cell + i * c
            return o * cell.tanh(), cell

        def bwd(self, out, inp, state, cell):
            h, new = out
            i, f, o, c = self._gates(inp, state)
            t = new.tanh()
            dc = new.g + h.g * o * (1.0 - t * t)
            cell.g = dc * f
            dz = gu.concatenate(
                [
                    dc * c * i * (1.0 - i),
                    dc * cell * f * (1.0 - f),
                    h.g * t * o * (1.0 - o),
                    dc * i * (1.0 - c * c),
                ],
                axis=1,
            )
            inp.g, state.g = dz @ self.w.T, dz @ self.u.T
            self.w.g, self.u.g, self.b.g = inp.T @ dz, state.T @ dz, dz.sum(0)

        def _gates(self, inp, state):
            i, f, o, c = (inp @ self.w + state @ self.u + self.b).split(4, axis=1)
            return i.sigmoid(), f.sigmoid(), o.sigmoid(), c.tanh()

    return Made(Lstm(), tuple(rng.normal(size=(5, n)) for n in (3, 4, 4)))


@corpus.case()
def gru_cell(rng: np.random.Generator) -> Made:
    """Reset and update gates; the old state goes three ways."""

    class Gru(Module):
        def __init__(self):
            self.wz, self.wr, self.wn = (Parameter(rng.normal(size=(3, 4))) for _ in range(3))
            self.uz, self.ur, self.un = (Parameter(rng.normal(size=(4, 4))) for _ in range(3))

        def forward(self, inp, h):
            z, _, n = self._inner(inp, h)
            return (1.0 - z) * n + z * h

        def bwd(self, out, inp, h):
            z, r, n = self._inner(inp, h)
            dn = out.g * (1.0 - z) * (1.0 - n * n)
            dz = out.g * (h - n) * z * (1.0 - z)
            drh = dn @ self.un.T
            dr = drh * h * r * (1.0 - r)
            inp.g = dn @ self.wn.T + dz @ self.wz.T + dr @ self.wr.T
            h.g = out.g * z + drh * r + dz @ self.uz.T + dr @ self.ur.T
            self.wz.g, self.wr.g, self.wn.g = inp.T @ dz, inp.T @ dr, inp.T @ dn
            self.uz.g, self.ur.g, self.un.g = h.T @ dz, h.T @ dr, (r * h).T @ dn

        def _inner(self, inp, h):
            z = (inp @ self.wz + h @ self.uz).sigmoid()
            r = (inp @ self.wr + h @ self.ur).sigmoid()
            return z, r, (inp @ self.wn + (r * h) @ self.un).tanh()

    return Made(Gru(), (rng.normal(size=(5, 3)), rng.normal(size=(5, 4))))


# Values used more than once, several outputs, broadcasting, shapes


@corpus.case()
def tied_autoencoder(rng: np.random.Generator) -> Made:
    """The same weight there and, transposed, back."""

    class Tied(Module):
        def __init__(self):
            self.w = Parameter(rng.normal(size=(4, 3)))

        def forward(self, inp):
            return (inp @ self.w).tanh() @ self.w.T

        def bwd(self, out, inp):
            code = (inp @ self.w).tanh()
            dz = out.g @ self.w * (1.0 - code * code)
            inp.g = dz @ self.w.T
            self.w.g = out.g.T @ code
            self.w.g = inp.T @ dz

    return Made(Tied(), (rng.normal(size=(5, 4)),))


@corpus.case()
def residual_block_of_layers(rng: np.random.Generator) -> Made:
    """inp + relu(up(inp)) down: one bwd for the parameters of both inner layers."""

    class Block(Module):
        def __init__(self):
            self.up, self.down = Linear(rng, 3, 5), Linear(rng, 5, 3)

        def forward(self, inp):
            return inp + self.down(self.up(inp).relu())

        def bwd(self, out, inp):
            hidden = self.up(inp).relu()
            inp.g = out.g
            self.down.w.g = hidden.T @ out.g
            self.down.b.g = out.g.sum(0)
            dz = out.g @ self.down.w.T * (hidden > 0)
            self.up.w.g = inp.T @ dz
            self.up.b.g = dz.sum(0)
            inp.g = dz @ self.up.w.T

    return Made(Block(), (rng.normal(size=(4, 3)),))


@corpus.case()
def moments(rng: np.random.Generator) -> Made:
    """Two outputs of different shapes: each row's mean, and the whole's variance."""

    class Moments(Module):
        def forward(self, inp):
            return inp.mean(1), inp.var(correction=0)

        def bwd(self, out, inp):
            mean, var = out
            inp.g = mean.g.unsqueeze(1) / inp.shape[1]
            inp.g = var.g * 2.0 * (inp - inp.mean()) / inp.size

    return Made(Moments(), (rng.normal(size=(4, 3)),))


@corpus.case()
def broadcast_every_way(rng: np.random.Generator) -> Made:
    """(4, 1, 3) * (5, 1) + (3,) - (): the engine sums each gradient back."""

    class Broadcast(Module):
        def forward(self, a, b, c, d):
            return a * b + c - d

        def bwd(self, out, a, b, c, d):
            a.g = out.g * b
            b.g = out.g * a
            c.g = out.g
            d.g = -out.g

    inputs = tuple(rng.normal(size=shape) for shape in ((4, 1, 3), (5, 1), (3,), ()))
    return Made(Broadcast(), inputs)


@corpus.case()
def axes_of_length_one(rng: np.random.Generator) -> Made:
    """Parameters (1, 3, 1) and (1,) and an input of shape (1, 1, 4)."""

    class Scaled(Module):
        def __init__(self):
            self.scale = Parameter(rng.normal(size=(1, 3, 1)))
            self.power = Parameter(np.array([2.5]))

        def forward(self, inp):
            return self.scale * inp**self.power

        def bwd(self, out, inp):
            raised = inp**self.power
            inp.g = out.g * self.scale * self.power * inp ** (self.power - 1.0)
            self.scale.g = (out.g * raised).sum((0, 2), keepdims=True)
            self.power.g = (out.g * self.scale * raised * inp.log()).sum().reshape(1)

    return Made(Scaled(), (rng.uniform(0.5, 2, size=(1, 1, 4)),))


@corpus.case()
def number_from_numbers(rng: np.random.Generator) -> Made:
    """Arrays without axes: a * exp(-b * t)."""

    class Decay(Module):
        def __init__(self):
            self.a, self.b = Parameter(np.array(2.0)), Parameter(np.array(0.3))

        def forward(self, t):
            return self.a * (-self.b * t).exp()

        def bwd(self, out, t):
            self.a.g = (-self.b * t).exp() * out.g
            self.b.g = -t * out * out.g
            t.g = -self.b * out * out.g

    return Made(Decay(), (np.array(rng.uniform(1, 2)),))


@corpus.case()
def cumsum_reversed(rng: np.random.Generator) -> Made:
    """Sums from the end; the gradient runs from the start."""

    class SumsFromTheEnd(Module):
        def forward(self, inp):
            return inp.flip(1).cumsum(1).flip(1)

        def bwd(self, out, inp):
            inp.g = out.g.cumsum(1)

    return Made(SumsFromTheEnd(), (rng.normal(size=(3, 5)),))


@corpus.case()
def top_two(rng: np.random.Generator) -> Made:
    """The two largest of each row, weighted."""

    class TopTwo(Module):
        def __init__(self):
            self.w = Parameter(rng.normal(size=2))

        def forward(self, inp):
            return inp.take_along_axis(self._best(inp), 1) @ self.w

        def bwd(self, out, inp):
            best = self._best(inp)
            inp.g = (gu.one_hot(best, inp.shape[1], inp.dtype) * self.w.unsqueeze(1)).sum(
                1
            ) * out.g.unsqueeze(1)
            self.w.g = out.g @ inp.take_along_axis(best, 1)

        def _best(self, inp):
            return np.argsort(-inp.data, axis=1)[:, :2]

    return Made(TopTwo(), (rng.normal(size=(4, 5)),))


@corpus.case()
def pairwise_distances(rng: np.random.Generator) -> Made:
    """|a[i] - b[j]|."""

    class Distances(Module):
        def forward(self, a, b):
            diff = a.unsqueeze(1) - b
            return (diff * diff).sum(2).sqrt()

        def bwd(self, out, a, b):
            d = (a.unsqueeze(1) - b) * (out.g / out).unsqueeze(2)
            a.g = d.sum(1)
            b.g = -d.sum(0)

    return Made(Distances(), (rng.normal(size=(4, 3)), rng.normal(size=(5, 3))))


@corpus.case()
def padded_sequences(rng: np.random.Generator) -> Made:
    """The mean over the steps before each sequence's length; lengths are integers."""

    class MaskedMean(Module):
        def forward(self, inp, lengths):
            keep = np.arange(inp.shape[1]) < lengths.unsqueeze(1)
            return (inp * keep.unsqueeze(2)).sum(1) / lengths.unsqueeze(1)

        def bwd(self, out, inp, lengths):
            keep = np.arange(inp.shape[1]) < lengths.unsqueeze(1)
            inp.g = keep.unsqueeze(2) * (out.g / lengths.unsqueeze(1)).unsqueeze(1)

    return Made(MaskedMean(), (rng.normal(size=(3, 4, 2)), np.array([4, 1, 3])))


@corpus.case()
def argument_with_a_default(rng: np.random.Generator) -> Made:
    """Forward and bwd have an argument that is not given."""

    class Scale(Module):
        def forward(self, inp, by=3.0):
            return by * inp * inp

        def bwd(self, out, inp, by=3.0):
            inp.g = 2.0 * by * inp * out.g

    return Made(Scale(), (rng.normal(size=(4, 3)),))


# Awkward ones, which a careless check calls wrong. First: kinks, hit exactly.


class Relu(Module):
    """max(inp, 0)."""

    def forward(self, inp):
        return inp.relu()


def with_zeros(rng: np.random.Generator) -> np.ndarray:
    """Normal numbers with a row and a corner of exact zeros."""
    x = rng.normal(size=(4, 5))
    x[1] = x[3, 4] = 0.0
    return x


@corpus.case()
def relu_zero_at_zero(rng: np.random.Generator) -> Made:
    """relu'(0) = 0, as in PyTorch."""

    class Zero(Relu):
        def bwd(self, out, inp):
            inp.g = (inp > 0) * out.g

    return Made(Zero(), (with_zeros(rng),))


@corpus.case()
def relu_one_at_zero(rng: np.random.Generator) -> Made:
    """relu'(0) = 1."""

    class One(Relu):
        def bwd(self, out, inp):
            inp.g = (inp >= 0) * out.g

    return Made(One(), (with_zeros(rng),))


@corpus.case()
def relu_half_at_zero(rng: np.random.Generator) -> Made:
    """relu'(0) = 1/2, as JAX has it for maximum(x, 0)."""

    class Half(Relu):
        def bwd(self, out, inp):
            inp.g = 0.5 * (1.0 + inp.sign()) * out.g

    return Made(Half(), (with_zeros(rng),))


@corpus.case()
def linear_after_relu_at_its_kink(rng: np.random.Generator) -> Made:
    """A hidden unit whose weights are all zero stands at its kink for every row."""

    class Mlp(Module):
        def __init__(self):
            self.w1 = Parameter(rng.normal(size=(3, 4)))
            self.w1.data[:, 2] = 0.0
            self.w2 = Parameter(rng.normal(size=(4, 2)))

        def forward(self, inp):
            return (inp @ self.w1).relu() @ self.w2

        def bwd(self, out, inp):
            hidden = (inp @ self.w1).relu()
            dz = (hidden > 0) * (out.g @ self.w2.T)
            inp.g = dz @ self.w1.T
            self.w1.g = inp.T @ dz
            self.w2.g = hidden.T @ out.g

    return Made(Mlp(), (rng.uniform(0.5, 1.5, size=(5, 3)),))


@corpus.case()
def abs_at_zero(rng: np.random.Generator) -> Made:
    """|x| with sign(0) = 0."""

    class Abs(Module):
        def forward(self, inp):
            return inp.abs()

        def bwd(self, out, inp):
            inp.g = inp.sign() * out.g

    return Made(Abs(), (with_zeros(rng),))


@corpus.case()
def mae_one_sided_at_zero(rng: np.random.Generator) -> Made:
    """Predictions that are exact; their derivative is taken from the right."""

    class Mae(Module):
        def forward(self, inp, targ):
            return (inp - targ).abs().mean()

        def bwd(self, out, inp, targ):
            slope = gu.where(inp >= targ, 1.0, -1.0) / inp.size * out.g
            inp.g = slope
            targ.g = -slope

    targ = rng.normal(size=(4, 3))
    return Made(Mae(), (np.where(rng.random((4, 3)) < 0.5, targ, targ + 0.7), targ))


@corpus.case()
def max_ties_share(rng: np.random.Generator) -> Made:
    """The largest of a row of small whole numbers: equal ones share evenly."""

    class Max(Module):
        def forward(self, inp):
            return inp.amax(1)

        def bwd(self, out, inp):
            ties = (inp == out.unsqueeze(1)) * 1.0
            inp.g = ties / ties.sum(1, keepdims=True) * out.g.unsqueeze(1)

    x = np.array([[1.0, 3, 3, 0, 3], [2, 2, 2, 2, 2], [5, 1, 0, 5, 2], [0, 1, 2, 3, 4]])
    return Made(Max(), (x,))


@corpus.case()
def min_ties_first(rng: np.random.Generator) -> Made:
    """The smallest of a row: the first of equal ones gets everything."""

    class Min(Module):
        def forward(self, inp):
            return inp.min(1)

        def bwd(self, out, inp):
            first = inp.argmin(1)
            inp.g = gu.one_hot(first, inp.shape[1], inp.dtype) * out.g.unsqueeze(1)

    x = np.array([[1.0, 3, 1, 0, 0], [2, 2, 2, 2, 2], [5, 1, 7, 5, 1], [0, 1, 2, 3, 4]])
    return Made(Min(), (x,))


@corpus.case()
def max_pool_of_a_flat_image(rng: np.random.Generator) -> Made:
    """Blocks of equal pixels (a relu came before): the last of equal ones gets everything."""

    class MaxPool(Module):
        def forward(self, inp):
            return inp.reshape(2, 4, 3).amax(2)

        def bwd(self, out, inp):
            last = 2 - inp.reshape(2, 4, 3).flip(2).argmax(2)
            d = gu.one_hot(last, 3, inp.dtype) * out.g.unsqueeze(2)
            inp.g = d.reshape(inp.shape)

    return Made(MaxPool(), (np.maximum(rng.normal(-0.5, size=(2, 12)), 0),))


@corpus.case()
def maximum_of_equals(rng: np.random.Generator) -> Made:
    """Where both are equal the first gets everything."""

    class Maximum(Module):
        def forward(self, a, b):
            return a.maximum(b)

        def bwd(self, out, a, b):
            a.g = (a >= b) * out.g
            b.g = (a < b) * out.g

    a = rng.normal(size=(4, 3))
    b = rng.normal(size=(4, 3))
    b[::2] = a[::2]
    return Made(Maximum(), (a, b))


@corpus.case()
def clamp_inclusive(rng: np.random.Generator) -> Made:
    """At the bounds the derivative is 1, as in PyTorch."""

    class Clamp(Module):
        def forward(self, inp):
            return inp.clamp(-1.0, 1.0)

        def bwd(self, out, inp):
            inp.g = ((inp >= -1) & (inp <= 1)) * out.g

    return Made(Clamp(), (np.array([[-1.0, 1, 0.5], [-3, -1, 2], [1, 1, -0.25]]),))


@corpus.case()
def relu6_exclusive(rng: np.random.Generator) -> Made:
    """At 0 and at 6 the derivative is 0."""

    class Relu6(Module):
        def forward(self, inp):
            return inp.clamp(0.0, 6.0)

        def bwd(self, out, inp):
            inp.g = ((out > 0) & (out < 6)) * out.g

    return Made(Relu6(), (np.array([[0.0, 6, 3.5], [-3, 0, 7], [6, 1, 0]]),))


@corpus.case()
def huber_at_its_corners(rng: np.random.Generator) -> Made:
    """Errors of exactly +-delta and 0: there the second derivative jumps."""

    class Huber(Module):
        def forward(self, inp, targ):
            diff = inp - targ
            size = diff.abs()
            return gu.where(size <= 0.5, 0.5 * diff * diff, 0.5 * (size - 0.25)).sum()

        def bwd(self, out, inp, targ):
            slope = (inp - targ).clamp(-0.5, 0.5) * out.g
            inp.g = slope
            targ.g = -slope

    targ = rng.integers(-8, 8, size=(3, 4)) / 4
    return Made(Huber(), (targ + rng.choice([-0.5, 0, 0.5, 2], size=(3, 4)), targ))


@corpus.case()
def hinge_at_the_margin(rng: np.random.Generator) -> Made:
    """Scores of exactly +-1: the loss is just 0, and its derivative taken to be -y."""

    class Hinge(Module):
        def forward(self, score, sign):
            return (1.0 - sign * score).clamp_min(0.0).mean()

        def bwd(self, out, score, sign):
            score.g = (sign * score <= 1.0) * -sign * out.g / score.size

    score = np.array([1.0, -1.0, 0.3, -2.0, 1.0, 2.0, -1.0])
    return Made(Hinge(), (score, np.array([1, -1, 1, -1, -1, 1, 1])))


@corpus.case()
def elu_with_a_kink(rng: np.random.Generator) -> Made:
    """With alpha = 2 the slope jumps from 2 to 1 at 0; the left one is taken."""

    class Elu(Module):
        def forward(self, inp):
            return gu.where(inp > 0, inp, 2.0 * inp.minimum(0.0).expm1())

        def bwd(self, out, inp):
            inp.g = gu.where(inp > 0, 1.0, out + 2.0) * out.g

    return Made(Elu(), (with_zeros(rng),))


@corpus.case()
def soft_threshold_at_the_threshold(rng: np.random.Generator) -> Made:
    """sign(x) * max(|x| - t, 0) with entries at +-t; t is learnt, its slope the one from above."""

    class SoftThreshold(Module):
        def __init__(self):
            self.t = Parameter(np.array(0.5))

        def forward(self, inp):
            return inp.sign() * (inp.abs() - self.t).relu()

        def bwd(self, out, inp):
            beyond = inp.abs() > self.t
            inp.g = beyond * out.g
            self.t.g = -(beyond * inp.sign() * out.g).sum()

    return Made(SoftThreshold(), (np.array([[0.5, -0.5, 1.25], [-2.0, 0.25, 0.75]]),))


@corpus.case()
def norm_at_the_origin(rng: np.random.Generator) -> Made:
    """|x| of rows, one of which is zero: its gradient is taken to be zero."""

    class Norm(Module):
        def forward(self, inp):
            return (inp * inp).sum(1).sqrt()

        def bwd(self, out, inp):
            safe = gu.where(out == 0, 1.0, out)
            inp.g = inp * (out.g / safe).unsqueeze(1)

    class SafeNorm(Norm):
        def forward(self, inp):
            total = (inp * inp).sum(1)
            still = total == 0
            return gu.where(still, 0.0, gu.where(still, 1.0, total).sqrt())

    x = rng.normal(size=(4, 3))
    x[2] = 0.0
    return Made(SafeNorm(), (x,))


# Large, small and vanishing numbers


@corpus.case()
def cross_entropy_of_huge_logits(rng: np.random.Generator) -> Made:
    """Logits of +-1e4: probabilities are exactly 0 or 1."""
    return Made(
        CrossEntropy(), (rng.choice([-1e4, 0.0, 1e4], size=(5, 4)), np.array([0, 1, 2, 3, 1]))
    )


@corpus.case()
def mse_of_millions(rng: np.random.Generator) -> Made:
    """Predictions around 1e6, targets around 1."""

    class SumOfSquares(Module):
        def forward(self, inp, targ):
            return ((inp - targ) ** 2).sum()

        def bwd(self, out, inp, targ):
            inp.g = 2.0 * (inp - targ) * out.g
            targ.g = -2.0 * (inp - targ) * out.g

    return Made(SumOfSquares(), (1e6 * rng.normal(size=(4, 3)), rng.normal(size=(4, 3))))


@corpus.case()
def gradient_of_1e_minus_12(rng: np.random.Generator) -> Made:
    """A loss in tiny units."""

    class Tiny(Module):
        def forward(self, inp):
            return 1e-12 * inp.sin()

        def bwd(self, out, inp):
            inp.g = 1e-12 * inp.cos() * out.g

    return Made(Tiny(), (rng.normal(size=(4, 3)),))


@corpus.case()
def gradient_of_1e_minus_30(rng: np.random.Generator) -> Made:
    """The output is of ordinary size, what the parameter does to it is not."""

    class Faint(Module):
        def __init__(self):
            self.w = Parameter(1e30 * rng.normal(size=3))

        def forward(self, inp):
            return 1e-60 * (self.w * inp) ** 2

        def bwd(self, out, inp):
            inp.g = 2e-60 * self.w * self.w * inp * out.g
            self.w.g = 2e-60 * self.w * inp * inp * out.g

    return Made(Faint(), (rng.normal(size=(4, 3)),))


@corpus.case()
def softmax_summed(rng: np.random.Generator) -> Made:
    """Probabilities add up to 1 whatever the input: the gradient is zero."""

    class One(Module):
        def forward(self, inp):
            return inp.softmax(1).sum(1)

        def bwd(self, out, inp):
            inp.g = np.zeros(inp.shape)

    return Made(One(), (rng.normal(size=(4, 3)),))


@corpus.case()
def sigmoid_saturated(rng: np.random.Generator) -> Made:
    """At +-800 the derivative is zero, at 30 it is 1e-13."""

    class Sigmoid(Module):
        def forward(self, inp):
            return inp.sigmoid()

        def bwd(self, out, inp):
            inp.g = out * (1.0 - out) * out.g

    return Made(Sigmoid(), (np.array([[800.0, -800, 12], [-700, -12, 15], [0, 400, -15]]),))


@corpus.case()
def relu_dead(rng: np.random.Generator) -> Made:
    """All units are off: every gradient but the last bias's is zero."""

    class Dead(Module):
        def __init__(self):
            self.w = Parameter(rng.normal(size=(3, 4)))
            self.b = Parameter(np.full(4, -100.0))
            self.w2 = Parameter(rng.normal(size=(4, 2)))
            self.b2 = Parameter(rng.normal(size=2))

        def forward(self, inp):
            return (inp @ self.w + self.b).relu() @ self.w2 + self.b2

        def bwd(self, out, inp):
            hidden = (inp @ self.w + self.b).relu()
            dz = (hidden > 0) * (out.g @ self.w2.T)
            inp.g = dz @ self.w.T
            self.w.g, self.b.g = inp.T @ dz, dz.sum(0)
            self.w2.g, self.b2.g = hidden.T @ out.g, out.g.sum(0)

    return Made(Dead(), (rng.normal(size=(5, 3)),))


@corpus.case()
def constant_function(rng: np.random.Generator) -> Made:
    """The output does not depend on the input, and bwd says nothing of it."""

    class Constant(Module):
        def __init__(self):
            self.level = Parameter(np.array(7.0))

        def forward(self, inp):
            return inp * 0.0 + self.level

        def bwd(self, out, inp):
            self.level.g = out.g.sum()

    return Made(Constant(), (rng.normal(size=(4, 3)),))


@corpus.case()
def rounded(rng: np.random.Generator) -> Made:
    """Steps: floor and round have derivative zero between the jumps."""

    class Quantise(Module):
        def forward(self, inp):
            return inp.round() + (4.0 * inp).floor() * 0.25 + inp.sign()

        def bwd(self, out, inp):
            inp.g = 0.0 * out.g

    return Made(Quantise(), (np.array([[0.3, 1.7, -2.1], [0.6, -0.9, 5.4]]),))


@corpus.case()
def scales_far_apart(rng: np.random.Generator) -> Made:
    """Gradients of 1e6, 1 and 1e-7 in one layer."""

    class Mixed(Module):
        def __init__(self):
            self.w = Parameter(1e-7 * rng.normal(size=(4, 3)))
            self.b = Parameter(rng.normal(size=3))

        def forward(self, inp):
            return (inp @ self.w + self.b).tanh()

        def bwd(self, out, inp):
            dz = (1.0 - out * out) * out.g
            inp.g = dz @ self.w.T
            self.w.g = inp.T @ dz
            self.b.g = dz.sum(0)

    return Made(Mixed(), (1e6 * rng.normal(size=(5, 4)),))


# Ill-conditioned, oscillating, near the edge of the domain


@corpus.case()
def softmax_cold(rng: np.random.Generator) -> Made:
    """Temperature 1e-3, the logits within a few thousandths of each other."""

    class Cold(Module):
        def forward(self, inp):
            return (inp / 1e-3).softmax(1)

        def bwd(self, out, inp):
            inp.g = out * (out.g - (out * out.g).sum(1, keepdims=True)) / 1e-3

    return Made(Cold(), (1e-3 * rng.normal(size=(4, 3)),))


@corpus.case()
def layernorm_of_almost_equal_entries(rng: np.random.Generator) -> Made:
    """The variance is about eps: 1e-5."""
    x = 2.0 + 3e-3 * rng.normal(size=(4, 6))
    return Made(LayerNorm(rng), (x,))


@corpus.case()
def reciprocal_near_the_pole(rng: np.random.Generator) -> Made:
    """1 / (x + 1e-6) for x from 1e-6 to 1: slopes from 1 to 1e11."""

    class Reciprocal(Module):
        def forward(self, inp):
            return 1.0 / (inp + 1e-6)

        def bwd(self, out, inp):
            inp.g = -out * out * out.g

    return Made(Reciprocal(), (np.logspace(-6, 0, 7),))


@corpus.case()
def log_near_zero(rng: np.random.Generator) -> Made:
    """log x down to x = 1e-8."""

    class Log(Module):
        def forward(self, inp):
            return inp.log()

        def bwd(self, out, inp):
            inp.g = out.g / inp

    return Made(Log(), (np.array([[1e-8, 1e-3, 1.0], [2.0, 1e-6, 0.1]]),))


@corpus.case()
def sqrt_near_zero(rng: np.random.Generator) -> Made:
    """x**0.5 down to x = 1e-10, from the output."""

    class Sqrt(Module):
        def forward(self, inp):
            return inp**0.5

        def bwd(self, out, inp):
            inp.g = out.g / (2.0 * out)

    return Made(Sqrt(), (np.array([[1e-10, 1e-4, 1.0], [4.0, 1e-7, 0.1]]),))


@corpus.case()
def power_of_twenty(rng: np.random.Generator) -> Made:
    """x**20 for x from 0 to 3: slopes from 0 to 1e10."""

    class Power(Module):
        def forward(self, inp):
            return inp**20

        def bwd(self, out, inp):
            inp.g = 20.0 * inp**19 * out.g

    return Made(Power(), (np.array([0.0, 0.1, -0.5, 1.0, -1.5, 2.0, 3.0]),))


@corpus.case()
def integer_power_at_zero(rng: np.random.Generator) -> Made:
    """Powers 1, 2 and 3 of exact zeros, the exponents an integer input."""

    class Powers(Module):
        def forward(self, inp, exponents):
            return sum(gu.where(exponents == n, inp.unsqueeze(1) ** n, 0.0) for n in range(1, 4))

        def bwd(self, out, inp, exponents):
            for n in range(1, 4):
                slope = n * inp.unsqueeze(1) ** (n - 1)
                inp.g = (gu.where(exponents == n, slope, 0.0) * out.g).sum(1)

    return Made(Powers(), (np.array([0.0, -0.5, 0.0, 2.0]), np.array([1, 2, 3])))


@corpus.case()
def sin_of_fifty_x(rng: np.random.Generator) -> Made:
    """A step of 1e-3 is far too large here."""

    class Wave(Module):
        def __init__(self):
            self.frequency = Parameter(np.array([50.0, 200.0, 1000.0]))

        def forward(self, inp):
            return (self.frequency * inp).sin()

        def bwd(self, out, inp):
            slope = (self.frequency * inp).cos() * out.g
            inp.g = self.frequency * slope
            self.frequency.g = (inp * slope).sum(0)

    return Made(Wave(), (rng.normal(size=(4, 3)),))


@corpus.case()
def attention_with_rows_all_but_masked(rng: np.random.Generator) -> Made:
    """Scores of -1e9 beside a few others; one row sees a single key."""
    keep = np.array([[True, False, False, False], [True, True, False, True], [False] * 3 + [True]])
    q, k, v = (rng.normal(size=shape) for shape in ((3, 2), (4, 2), (4, 5)))
    return Made(Attention(), (q, k, v, keep))


@corpus.case()
def sum_with_cancellation(rng: np.random.Generator) -> Made:
    """(1e8 + x) - 1e8: half of the digits are lost on the way."""

    class Cancelled(Module):
        def forward(self, inp):
            return (inp * inp + 1e8) - 1e8

        def bwd(self, out, inp):
            inp.g = 2.0 * inp * out.g

    return Made(Cancelled(), (rng.normal(size=(4, 3)),))


# How a bwd may be written, and what a forward may hold


@corpus.case()
def single_entry_of_the_input(rng: np.random.Generator) -> Made:
    """Out of twenty entries one matters."""

    class Pick(Module):
        def forward(self, inp):
            return inp[2, 1] ** 2

        def bwd(self, out, inp):
            d = np.zeros(inp.shape)
            d[2, 1] = 2.0 * inp.data[2, 1] * out.g.data
            inp.g = d

    return Made(Pick(), (rng.normal(size=(5, 4)),))


@corpus.case()
def dropout_with_a_fixed_mask(rng: np.random.Generator) -> Made:
    """The mask was drawn once and is kept."""

    class Dropout(Module):
        def __init__(self):
            self.mask = Buffer((rng.random((5, 4)) < 0.7) / 0.7)

        def forward(self, inp):
            return inp * self.mask

        def bwd(self, out, inp):
            inp.g = out.g * self.mask

    return Made(Dropout(), (rng.normal(size=(5, 4)),))


@corpus.case()
def activation_kept_by_forward(rng: np.random.Generator) -> Made:
    """Forward leaves what bwd needs in an attribute, anew in every call."""

    class Layer(Module):
        def __init__(self):
            self.w = Parameter(rng.normal(size=(4, 3)))

        def forward(self, inp):
            self.hidden = (inp @ self.w).tanh()
            return self.hidden * self.hidden

        def bwd(self, out, inp):
            hidden = self.hidden
            dz = 2.0 * hidden * (1.0 - hidden * hidden) * out.g
            inp.g = dz @ self.w.T
            self.w.g = inp.T @ dz

    return Made(Layer(), (rng.normal(size=(5, 4)),))


@corpus.case()
def bwd_that_runs_forward_again(rng: np.random.Generator) -> Made:
    """Recomputed instead of kept: x * exp(-x*x / 2) / |w|, by forward itself."""

    class Recomputed(Module):
        def __init__(self):
            self.w = Parameter(rng.uniform(0.5, 1.5, size=3))

        def forward(self, inp):
            return inp * (-0.5 * inp * inp).exp() / self.w

        def bwd(self, out, inp):
            again = self.forward(inp)
            inp.g = (again / inp - inp * again) * out.g
            self.w.g = -again / self.w * out.g

    return Made(Recomputed(), (rng.uniform(0.5, 2, size=(4, 3)),))


@corpus.case()
def two_contributions(rng: np.random.Generator) -> Made:
    """x * x + x * y: each assignment adds to those before it."""

    class Sum(Module):
        def forward(self, x, y):
            return x * x + x * y

        def bwd(self, out, x, y):
            x.g = x * out.g
            x.g = x * out.g
            x.g = y * out.g
            y.g = x * out.g

    return Made(Sum(), (rng.normal(size=(4, 3)), rng.normal(size=(1, 3))))


@corpus.case()
def float32_input(rng: np.random.Generator) -> Made:
    """Everything is in float32."""

    class Softplus(Module):
        def __init__(self):
            self.b = Parameter(rng.normal(size=3).astype(np.float32))

        def forward(self, inp):
            return (inp + self.b).exp().log1p()

        def bwd(self, out, inp):
            s = (inp + self.b).sigmoid()
            inp.g = s * out.g
            self.b.g = (s * out.g).sum(0)

    return Made(Softplus(), (rng.normal(size=(4, 3)).astype(np.float32),))


@corpus.case()
def float32_inside(rng: np.random.Generator) -> Made:
    """Forward computes in float32, whatever the input is."""

    class Low(Module):
        def __init__(self):
            self.w = Parameter(rng.normal(size=(4, 3)))

        def forward(self, inp):
            return (inp.float() @ self.w.float()).tanh()

        def bwd(self, out, inp):
            dz = (1.0 - out * out) * out.g
            inp.g = dz @ self.w.float().T
            self.w.g = inp.float().T @ dz

    return Made(Low(), (rng.normal(size=(5, 4)),))


@corpus.case()
def float32_constant_inside(rng: np.random.Generator) -> Made:
    """A table of float32 numbers that is no buffer: 0.1 there is not the float64 0.1."""
    table = np.array([0.1, 0.7, -0.3], np.float32)

    class Table(Module):
        def forward(self, inp):
            return inp * inp * table

        def bwd(self, out, inp):
            inp.g = 2.0 * inp * table * out.g

    return Made(Table(), (rng.normal(size=(4, 3)),))


@corpus.case()
def gate_stopped_on_purpose(rng: np.random.Generator) -> Made:
    """Forward detaches the gate, so its path is no part of the gradient."""

    class Gate(Module):
        def forward(self, inp):
            return inp * inp.sigmoid().detach()

        def bwd(self, out, inp):
            inp.g = inp.sigmoid() * out.g

    return Made(Gate(), (rng.normal(size=(4, 3)),))


@corpus.case()
def commitment_loss(rng: np.random.Generator) -> Made:
    """The codes are detached in one of two terms."""

    class Commitment(Module):
        def forward(self, inp, codes):
            towards = ((inp - codes.detach()) ** 2).mean()
            return 0.25 * towards + ((inp.detach() - codes) ** 2).mean()

        def bwd(self, out, inp, codes):
            slope = 2.0 * (inp - codes) / inp.size * out.g
            inp.g = 0.25 * slope
            codes.g = -slope

    return Made(Commitment(), (rng.normal(size=(4, 3)), rng.normal(size=(4, 3))))
