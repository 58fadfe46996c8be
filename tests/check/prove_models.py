"""Modules with hand-written bwds, right ones and planted bugs, that only the proofs' tests use."""

from __future__ import annotations

import numpy as np

import groundup as gu
from groundup import nn


class LayerNorm(nn.Module):
    def __init__(self, n, eps=1e-5):
        self.gain, self.bias = nn.Parameter(np.ones(n)), nn.Parameter(np.zeros(n))
        self.eps = eps

    def forward(self, inp):
        d = inp - inp.mean(-1, keepdims=True)
        return d / ((d * d).mean(-1, keepdims=True) + self.eps).sqrt() * self.gain + self.bias

    def parts(self, inp):
        d = inp - inp.mean(-1, keepdims=True)
        rstd = 1 / ((d * d).mean(-1, keepdims=True) + self.eps).sqrt()
        return d * rstd, rstd

    def bwd(self, out, inp):
        norm, rstd = self.parts(inp)
        dnorm = out.g * self.gain
        mean, along = dnorm.mean(-1, keepdims=True), (dnorm * norm).mean(-1, keepdims=True)
        inp.g = (dnorm - mean - norm * along) * rstd
        self.gain.g = (out.g * norm).sum(0)
        self.bias.g = out.g.sum(0)


class BatchNorm(nn.Module):
    """With statistics of its own in evaluation."""

    def __init__(self, n):
        self.gain = nn.Parameter(np.ones(n))
        self.mean, self.var = nn.Buffer(np.zeros(n)), nn.Buffer(np.ones(n))

    def forward(self, inp):
        if not self.training:
            return (inp - self.mean) / (self.var + 1e-5).sqrt() * self.gain
        d = inp - inp.mean(0)
        return d / ((d**2).mean(0) + 1e-5).sqrt() * self.gain

    def bwd(self, out, inp):
        if not self.training:
            rstd = (self.var + 1e-5) ** -0.5
            inp.g = out.g * self.gain * rstd
            self.gain.g = (out.g * (inp - self.mean) * rstd).sum(0)
            return
        n = len(inp)
        rstd = (inp.var(0, correction=0) + 1e-5) ** -0.5
        norm = (inp - inp.mean(0)) * rstd
        dnorm = out.g * self.gain
        inp.g = rstd / n * (n * dnorm - dnorm.sum(0) - norm * (dnorm * norm).sum(0))
        self.gain.g = (out.g * norm).sum(0)


class RmsNorm(nn.Module):
    def forward(self, inp):
        return inp * ((inp * inp).mean(-1, keepdims=True) + 1e-6) ** -0.5

    def bwd(self, out, inp):
        square = (inp * inp).sum(-1, keepdims=True) / inp.shape[-1] + 1e-6
        along = (out.g * inp).mean(-1, keepdims=True)
        inp.g = (out.g - inp * along / square) / square.sqrt()


class Softmax(nn.Module):
    """As it is often written, the largest taken out first."""

    def forward(self, inp):
        e = (inp - inp.amax(1, keepdims=True)).exp()
        return e / e.sum(1, keepdims=True)

    def bwd(self, out, inp):
        inp.g = out * (out.g - (out.g * out).sum(1, keepdims=True))


class Attention(nn.Module):
    """softmax(q @ k.T / sqrt(d)) @ v."""

    def forward(self, q, k, v):
        return self.weights(q, k) @ v

    def weights(self, q, k):
        return (q @ k.T / q.shape[-1] ** 0.5).softmax(-1)

    def bwd(self, out, q, k, v):
        p = self.weights(q, k)
        v.g = p.T @ out.g
        dp = out.g @ v.T
        ds = p * (dp - (dp * p).sum(-1, keepdims=True)) / q.shape[-1] ** 0.5
        q.g = ds @ k
        k.g = ds.T @ q


class LstmCell(nn.Module):
    """Two outputs: h and c."""

    def __init__(self, n_in, n):
        self.w = nn.Parameter(np.ones((n_in, 4 * n)))
        self.u = nn.Parameter(np.ones((n, 4 * n)))
        self.n = n

    def gates(self, x, h):
        z = x @ self.w + h @ self.u
        i, f, g, o = (z[:, k * self.n : (k + 1) * self.n] for k in range(4))
        return i.sigmoid(), f.sigmoid(), g.tanh(), o.sigmoid()

    def forward(self, x, h, c):
        i, f, g, o = self.gates(x, h)
        new = f * c + i * g
        return o * new.tanh(), new

    def bwd(self, out, x, h, c):
        i, f, g, o = self.gates(x, h)
        t = out[1].tanh()
        dc = out[1].g + out[0].g * o * (1 - t * t)
        c.g = dc * f
        dz = gu.concatenate(
            [
                dc * g * i * (1 - i),
                dc * c * f * (1 - f),
                dc * i * (1 - g * g),
                out[0].g * t * o * (1 - o),
            ],
            axis=1,
        )
        x.g, h.g = dz @ self.w.T, dz @ self.u.T
        self.w.g, self.u.g = x.T @ dz, h.T @ dz


class Swish(nn.Module):
    def __init__(self):
        self.beta = nn.Parameter(np.ones(()))

    def forward(self, inp):
        return inp * (self.beta * inp).sigmoid()

    def bwd(self, out, inp):
        s = (self.beta * inp).sigmoid()
        inp.g = out.g * (s + self.beta * inp * s * (1 - s))
        self.beta.g = (out.g * inp * inp * s * (1 - s)).sum()


class Mish(nn.Module):
    """inp * tanh(log(1 + exp(inp)))."""

    def forward(self, inp):
        return inp * inp.exp().log1p().tanh()

    def bwd(self, out, inp):
        e = inp.exp()
        w = 4 * (inp + 1) + 4 * e * e + e**3 + e * (4 * inp + 6)
        inp.g = out.g * e * w / (2 * e + e * e + 2) ** 2


class LogSumExp(nn.Module):
    def forward(self, inp):
        m = inp.amax(1, keepdims=True)
        return (inp - m).exp().sum(1).log() + m.squeeze(1)

    def bwd(self, out, inp):
        inp.g = inp.softmax(1) * out.g.unsqueeze(1)


class MaxRow(nn.Module):
    def forward(self, inp):
        return inp.amax(1)

    def bwd(self, out, inp):
        inp.g = (inp == out.unsqueeze(1)) * out.g.unsqueeze(1)


class HuberLoss(nn.Module):
    def forward(self, inp, targ):
        d = (inp - targ).abs()
        return gu.where(d < 1, 0.5 * d * d, d - 0.5).mean()

    def bwd(self, out, inp, targ):
        slope = (inp - targ).clamp(-1.0, 1.0) / inp.size
        inp.g = slope * out.g
        targ.g = -slope * out.g


class Power(nn.Module):
    """inp ** p for positive inp."""

    def __init__(self):
        self.p = nn.Parameter(np.array(2.0))

    def forward(self, inp):
        return inp**self.p

    def bwd(self, out, inp):
        inp.g = out.g * self.p * inp ** (self.p - 1)
        self.p.g = (out.g * out * inp.log()).sum()


class Cosine(nn.Module):
    """The cosine of the angle between rows."""

    def forward(self, a, b):
        return (a * b).sum(1) / ((a * a).sum(1) * (b * b).sum(1)).sqrt()

    def bwd(self, out, a, b):
        na, nb = (a * a).sum(1, keepdims=True), (b * b).sum(1, keepdims=True)
        cos, g = out.unsqueeze(1), out.g.unsqueeze(1)
        a.g = g * (b / (na * nb).sqrt() - cos * a / na)
        b.g = g * (a / (na * nb).sqrt() - cos * b / nb)


# Planted bugs


class HalfMse(nn.Mse):
    """The factor 2 is missing."""

    def bwd(self, out, inp, targ):
        inp.g = (inp - targ) * out.g / inp.size
        targ.g = -(inp - targ) * out.g / inp.size


class SumMse(nn.Mse):
    """The mean is missing."""

    def bwd(self, out, inp, targ):
        inp.g = 2 * (inp - targ) * out.g
        targ.g = -2 * (inp - targ) * out.g


class SignMae(nn.Mae):
    """The target's gradient has the input's sign."""

    def bwd(self, out, inp, targ):
        inp.g = targ.g = (inp - targ).sign() * out.g / inp.size


class RowsMse(nn.Mse):
    """Divides by the rows, not by the entries."""

    def bwd(self, out, inp, targ):
        inp.g = 2 * (inp - targ) * out.g / len(inp)
        targ.g = -2 * (inp - targ) * out.g / len(inp)


class MaskOfGradient(nn.Relu):
    """Masks by the sign of what arrives."""

    def bwd(self, out, inp):
        inp.g = (out.g > 0) * out.g


class ShiftedRelu(nn.Relu):
    """Wrong only between 0 and 1."""

    def bwd(self, out, inp):
        inp.g = (inp > 1) * out.g


class FarRelu(nn.Relu):
    """Wrong only beyond 5, where numbers of the usual size do not come."""

    def bwd(self, out, inp):
        inp.g = gu.where(inp > 5, 2 * out.g, (inp > 0) * out.g)


class Transposed(nn.Linear):
    """out.g @ w, which fits as the weight is square."""

    def bwd(self, out, inp):
        inp.g = out.g @ self.w
        self.w.g = inp.T @ out.g
        self.b.g = out.g.sum(0)


class WeightTransposed(nn.Linear):
    def bwd(self, out, inp):
        inp.g = out.g @ self.w.T
        self.w.g = out.g.T @ inp
        self.b.g = out.g.sum(0)


class NoBias(nn.Linear):
    """Leaves the bias out."""

    def bwd(self, out, inp):
        inp.g = out.g @ self.w.T
        self.w.g = inp.T @ out.g


class FirstRowBias(nn.Linear):
    def bwd(self, out, inp):
        inp.g = out.g @ self.w.T
        self.w.g = inp.T @ out.g
        self.b.g = out.g[0]


class DiagonalSoftmax(Softmax):
    """Only the diagonal of the Jacobian."""

    def bwd(self, out, inp):
        inp.g = out * (1 - out) * out.g


class ForgetsMean(LayerNorm):
    """As if the mean did not depend on the input."""

    def bwd(self, out, inp):
        norm, rstd = self.parts(inp)
        dnorm = out.g * self.gain
        inp.g = (dnorm - norm * (dnorm * norm).mean(-1, keepdims=True)) * rstd
        self.gain.g = (out.g * norm).sum(0)
        self.bias.g = out.g.sum(0)


class EpsOutside(LayerNorm):
    """In the backward pass eps is added to the root."""

    def parts(self, inp):
        d = inp - inp.mean(-1, keepdims=True)
        rstd = 1 / ((d * d).mean(-1, keepdims=True).sqrt() + self.eps)
        return d * rstd, rstd


class NoScale(Attention):
    """The scores' scale is missing in the backward pass."""

    def bwd(self, out, q, k, v):
        p = self.weights(q, k)
        v.g = p.T @ out.g
        dp = out.g @ v.T
        ds = p * (dp - (dp * p).sum(-1, keepdims=True))
        q.g = ds @ k
        k.g = ds.T @ q


class TanhOfInput(nn.Tanh):
    """1 - inp**2 for 1 - out**2."""

    def bwd(self, out, inp):
        inp.g = (1 - inp * inp) * out.g


class NoDensity(nn.Gelu):
    """P(x) alone."""

    def bwd(self, out, inp):
        inp.g = 0.5 * (1 + (inp * 0.5**0.5).erf()) * out.g


class Unweighted(nn.CrossEntropy):
    """p without the row's weight."""

    def bwd(self, out, logits, labels):
        weight = self.weight.cast(logits.dtype)
        target = (labels.unsqueeze(1) == gu.arange(logits.shape[1])) * weight
        logits.g = (logits.softmax(1) - target) / weight[labels].sum() * out.g


class ForgetsCell(LstmCell):
    """What came to the cell's state is not taken."""

    def bwd(self, out, x, h, c):
        _, f, _, o = self.gates(x, h)
        t = out[1].tanh()
        c.g = out[0].g * o * (1 - t * t) * f


class TwoInBoth(nn.Module):
    """Two outputs, mixed up."""

    def forward(self, a, b):
        return a * b, a + b

    def bwd(self, out, a, b):
        a.g = out[0].g * a + out[1].g
        b.g = out[0].g * b + out[1].g
