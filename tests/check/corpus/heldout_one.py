"""Held-out backward passes, each with one mistake: Modules, NumPy pairs, torch Functions."""

from __future__ import annotations

import math

import numpy as np

import groundup as gu
from corpus.case import Corpus, Made
from groundup.nn import Buffer, Module, Parameter

corpus = Corpus()


# ------------------------------------------------------------------------------- Modules
# Variational and Bayesian layers


@corpus.case("factor", wrong="logvar")
def module_reparametrised_sample_half(rng: np.random.Generator) -> Made:
    """The 1/2 of exp(logvar / 2) is lost in the derivative."""

    class Reparametrise(Module):
        def __init__(self):
            self.noise = Buffer(rng.normal(size=(5, 3)))

        def forward(self, mu, logvar):
            return mu + (0.5 * logvar).exp() * self.noise

        def bwd(self, out, mu, logvar):
            std = (0.5 * logvar).exp()
            mu.g = out.g
            logvar.g = out.g * self.noise * std

    return Made(Reparametrise(), (rng.normal(size=(5, 3)), rng.normal(size=(5, 3))))


@corpus.case("sign", wrong="logvar")
def module_vae_kl_logvar(rng: np.random.Generator) -> Made:
    """The minus before the 1/2 is forgotten for logvar."""

    class GaussianKl(Module):
        def forward(self, mu, logvar):
            return -0.5 * (1.0 + logvar - mu * mu - logvar.exp()).sum(1)

        def bwd(self, out, mu, logvar):
            g = out.g.unsqueeze(1)
            mu.g = g * mu
            logvar.g = 0.5 * g * (1.0 - logvar.exp())

    return Made(GaussianKl(), (rng.normal(size=(5, 3)), rng.normal(size=(5, 3))))


@corpus.case("activation", wrong="rho")
def module_bayes_by_backprop_rho(rng: np.random.Generator) -> Made:
    """The softplus that makes the standard deviation is not differentiated."""

    class BayesLinear(Module):
        def __init__(self, n_in=4, n_out=3):
            self.mu = Parameter(rng.normal(size=(n_in, n_out)))
            self.rho = Parameter(rng.normal(size=(n_in, n_out)))
            self.eps = Buffer(rng.normal(size=(n_in, n_out)))

        def weight(self):
            sigma = self.rho.exp().log1p()
            return self.mu + sigma * self.eps

        def forward(self, inp):
            return inp @ self.weight()

        def bwd(self, out, inp):
            inp.g = out.g @ self.weight().T
            dw = inp.T @ out.g
            self.mu.g = dw
            self.rho.g = dw * self.eps

    return Made(BayesLinear(), (rng.normal(size=(5, 4)),))


# Layers


@corpus.case("factor", wrong="inp centres")
def module_rbf_layer_two(rng: np.random.Generator) -> Made:
    """The derivative of the squared distance lacks its 2."""

    class Rbf(Module):
        def __init__(self, units=4, dims=3, gamma=0.3):
            self.centres = Parameter(rng.normal(size=(units, dims)))
            self.gamma = gamma

        def differences(self, inp):
            return inp.unsqueeze(1) - self.centres

        def forward(self, inp):
            diff = self.differences(inp)
            return (-self.gamma * (diff * diff).sum(2)).exp()

        def bwd(self, out, inp):
            d_dist = -self.gamma * out * out.g
            d_diff = d_dist.unsqueeze(2) * self.differences(inp)
            inp.g = d_diff.sum(1)
            self.centres.g = -d_diff.sum(0)

    return Made(Rbf(), (rng.normal(size=(5, 3)),))


@corpus.case("transpose", wrong="w")
def module_tied_autoencoder(rng: np.random.Generator) -> Made:
    """The decoder uses w.T: what it sends to w lacks the transposition."""

    class TiedAutoencoder(Module):
        def __init__(self, n=4):
            self.w = Parameter(rng.normal(size=(n, n)))
            self.b = Parameter(rng.normal(size=n))
            self.c = Parameter(rng.normal(size=n))

        def encode(self, inp):
            return (inp @ self.w + self.b).tanh()

        def forward(self, inp):
            return self.encode(inp) @ self.w.T + self.c

        def bwd(self, out, inp):
            code = self.encode(inp)
            dz = (out.g @ self.w) * (1.0 - code * code)
            self.w.g = code.T @ out.g  # decoder
            self.w.g = inp.T @ dz  # encoder
            self.b.g = dz.sum(0)
            self.c.g = out.g.sum(0)
            inp.g = dz @ self.w.T

    return Made(TiedAutoencoder(), (rng.normal(size=(5, 4)),))


@corpus.case("transpose", wrong="inp")
def module_gcn_directed_adjacency(rng: np.random.Generator) -> Made:
    """A directed graph's adjacency matrix is not symmetric, and must be transposed."""

    class GraphConv(Module):
        def __init__(self, adjacency, n_in, n_out):
            self.a = Buffer(adjacency / adjacency.sum(1, keepdims=True))
            self.w = Parameter(rng.normal(size=(n_in, n_out)))

        def forward(self, inp):
            return self.a @ (inp @ self.w)

        def bwd(self, out, inp):
            d_messages = self.a @ out.g
            inp.g = d_messages @ self.w.T
            self.w.g = (self.a @ inp).T @ out.g

    adjacency = np.eye(6) + (rng.random((6, 6)) < 0.4)
    return Made(GraphConv(adjacency, 4, 3), (rng.normal(size=(6, 4)),))


@corpus.case("mask", wrong="inp")
def module_soft_threshold_one_side(rng: np.random.Generator) -> Made:
    """Only entries above lam pass; those below -lam do not."""

    class SoftThreshold(Module):
        def __init__(self):
            self.lam = Parameter(np.array(0.4))

        def forward(self, inp):
            return inp.sign() * (inp.abs() - self.lam).relu()

        def bwd(self, out, inp):
            inp.g = (inp > self.lam) * out.g
            self.lam.g = -(out.sign() * out.g).sum()

    return Made(SoftThreshold(), (rng.normal(size=(5, 4)),))


class SqueezeExcite(Module):
    """(batch, channels, time): channels are scaled by a gate made from their means."""

    def __init__(self, rng, channels=4, hidden=3):
        self.w1 = Parameter(rng.normal(size=(channels, hidden)))
        self.w2 = Parameter(rng.normal(size=(hidden, channels)))

    def gates(self, inp):
        squeezed = inp.mean(2)
        hidden = (squeezed @ self.w1).relu()
        return squeezed, hidden, (hidden @ self.w2).sigmoid()

    def forward(self, inp):
        return inp * self.gates(inp)[2].unsqueeze(2)


@corpus.case("mask", wrong="inp w1")
def module_squeeze_excite_relu(rng: np.random.Generator) -> Made:
    """The ReLU in the bottleneck is masked by the gradient's sign."""

    class Wrong(SqueezeExcite):
        def bwd(self, out, inp):
            squeezed, hidden, gate = self.gates(inp)
            d_gate = (out.g * inp).sum(2) * gate * (1.0 - gate)
            self.w2.g = hidden.T @ d_gate
            d_hidden = d_gate @ self.w2.T
            d_hidden = d_hidden * (d_hidden > 0)
            self.w1.g = squeezed.T @ d_hidden
            d_squeezed = d_hidden @ self.w1.T
            inp.g = out.g * gate.unsqueeze(2)
            inp.g = (d_squeezed / inp.shape[2]).unsqueeze(2).expand(*inp.shape)

    return Made(Wrong(rng), (rng.normal(size=(6, 4, 5)),))


@corpus.case("output", wrong="inp")
def module_softsign_of_output(rng: np.random.Generator) -> Made:
    """1 / (1 + |inp|)**2, with the output for inp."""

    class Softsign(Module):
        def forward(self, inp):
            return inp / (1.0 + inp.abs())

        def bwd(self, out, inp):
            inp.g = out.g / (1.0 + out.abs()) ** 2

    return Made(Softsign(), (rng.normal(size=(5, 4)),))


@corpus.case("output", wrong="inp h c w u b")
def module_lstm_cell_tanh(rng: np.random.Generator) -> Made:
    """1 - c**2 where 1 - tanh(c)**2 is meant."""

    class LstmCell(Module):
        def __init__(self, n_in=3, n=4):
            self.n = n
            self.w = Parameter(rng.normal(size=(n_in, 4 * n)) * 0.5)
            self.u = Parameter(rng.normal(size=(n, 4 * n)) * 0.5)
            self.b = Parameter(rng.normal(size=4 * n))

        def gates(self, inp, h):
            z = inp @ self.w + h @ self.u + self.b
            i, f, o, g = z.split(self.n, axis=1)
            return i.sigmoid(), f.sigmoid(), o.sigmoid(), g.tanh()

        def forward(self, inp, h, c):
            i, f, o, g = self.gates(inp, h)
            return o * (f * c + i * g).tanh()

        def bwd(self, out, inp, h, c):
            i, f, o, g = self.gates(inp, h)
            cell = f * c + i * g
            d_cell = out.g * o * (1.0 - cell * cell)
            d_o = out.g * cell.tanh()
            c.g = d_cell * f
            dz = gu.concatenate(
                [
                    d_cell * g * i * (1.0 - i),
                    d_cell * c * f * (1.0 - f),
                    d_o * o * (1.0 - o),
                    d_cell * i * (1.0 - g * g),
                ],
                axis=1,
            )
            inp.g = dz @ self.w.T
            h.g = dz @ self.u.T
            self.w.g = inp.T @ dz
            self.u.g = h.T @ dz
            self.b.g = dz.sum(0)

    inputs = rng.normal(size=(5, 3)), rng.normal(size=(5, 4)), rng.normal(size=(5, 4))
    return Made(LstmCell(), inputs)


@corpus.case("activation", wrong="inp w b")
def module_siren_cosine(rng: np.random.Generator) -> Made:
    """The sine's derivative is forgotten; its frequency is there."""

    class Siren(Module):
        def __init__(self, n_in=3, n_out=4, frequency=1.5):
            self.w = Parameter(rng.normal(size=(n_in, n_out)))
            self.b = Parameter(rng.normal(size=n_out))
            self.frequency = frequency

        def forward(self, inp):
            return (self.frequency * (inp @ self.w + self.b)).sin()

        def bwd(self, out, inp):
            dz = self.frequency * out.g
            inp.g = dz @ self.w.T
            self.w.g = inp.T @ dz
            self.b.g = dz.sum(0)

    return Made(Siren(), (rng.normal(size=(5, 3)),))


@corpus.case("softmax", wrong="inp router")
def module_mixture_of_experts_router(rng: np.random.Generator) -> Made:
    """The router's softmax is differentiated entry by entry."""

    class Mixture(Module):
        def __init__(self, experts=3, n_in=4, n_out=5):
            self.router = Parameter(rng.normal(size=(n_in, experts)))
            self.experts = Parameter(rng.normal(size=(experts, n_in, n_out)))

        def parts(self, inp):
            gate = (inp @ self.router).softmax(1)
            answers = gu.einsum("bi,eio->beo", inp, self.experts)
            return gate, answers

        def forward(self, inp):
            gate, answers = self.parts(inp)
            return (gate.unsqueeze(2) * answers).sum(1)

        def bwd(self, out, inp):
            gate, answers = self.parts(inp)
            d_gate = (out.g.unsqueeze(1) * answers).sum(2)
            d_logits = d_gate * gate * (1.0 - gate)
            self.router.g = inp.T @ d_logits
            self.experts.g = gu.einsum("bi,be,bo->eio", inp, gate, out.g)
            inp.g = d_logits @ self.router.T
            inp.g = gu.einsum("be,bo,eio->bi", gate, out.g, self.experts)

    return Made(Mixture(), (rng.normal(size=(6, 4)),))


@corpus.case("scatter", wrong="inp")
def module_edge_differences(rng: np.random.Generator) -> Made:
    """A node has several edges; indexed `+=` in NumPy keeps one of them."""

    class EdgeDifferences(Module):
        def __init__(self, src, dst):
            self.src, self.dst = src, dst

        def forward(self, inp):
            return inp[self.src] - inp[self.dst]

        def bwd(self, out, inp):
            d = np.zeros(inp.shape, inp.dtype)
            g = np.asarray(out.g)
            d[self.src] += g
            d[self.dst] -= g
            inp.g = d

    src = np.array([0, 0, 1, 2, 2, 4, 3])
    dst = np.array([1, 2, 3, 3, 4, 3, 0])
    return Made(EdgeDifferences(src, dst), (rng.normal(size=(5, 3)),))


@corpus.case("stale", wrong="inp w1 w2")
def module_mlp_saved_activation(rng: np.random.Generator) -> Made:
    """Activations are saved at the end of a list and read from its front."""

    class Mlp(Module):
        def __init__(self, n_in=4, hidden=6, n_out=3):
            self.w1 = Parameter(rng.normal(size=(n_in, hidden)) * 0.5)
            self.w2 = Parameter(rng.normal(size=(hidden, n_out)))
            self.saved = []

        def forward(self, inp):
            h = (inp @ self.w1).tanh()
            self.saved.append(h.detach())
            return h @ self.w2

        def bwd(self, out, inp):
            h = self.saved[0]
            self.w2.g = h.T @ out.g
            dz = (out.g @ self.w2.T) * (1.0 - h * h)
            self.w1.g = inp.T @ dz
            inp.g = dz @ self.w1.T

    module = Mlp()
    module(rng.normal(size=(5, 4)))
    return Made(module, (rng.normal(size=(5, 4)),))


@corpus.case("stale", wrong="inp v scale")
def module_weight_norm_initial_norm(rng: np.random.Generator) -> Made:
    """The backward pass uses the norm that v had when the layer was made."""

    class WeightNorm(Module):
        def __init__(self, n_in=4, n_out=3):
            self.v = Parameter(rng.normal(size=(n_in, n_out)))
            self.scale = Parameter(rng.normal(size=n_out))
            self.norm = self.column_norms()

        def column_norms(self):
            return (self.v * self.v).sum(0).sqrt().detach()

        def forward(self, inp):
            norm = (self.v * self.v).sum(0).sqrt()
            return inp @ (self.v * (self.scale / norm))

        def bwd(self, out, inp):
            norm = self.norm
            unit = self.v / norm
            dw = inp.T @ out.g
            inp.g = out.g @ (self.scale * unit).T
            d_scale = (dw * unit).sum(0)
            self.scale.g = d_scale
            self.v.g = self.scale / norm * (dw - unit * d_scale)

    module = WeightNorm()
    module.v.assign(module.v.data - 0.4 * rng.normal(size=(4, 3)))  # a step of training
    return Made(module, (rng.normal(size=(5, 4)),))


@corpus.case("operand", wrong="w2")
def module_residual_mlp_preactivation(rng: np.random.Generator) -> Made:
    """w2's gradient is made from z, where the forward pass multiplies tanh(z)."""

    class ResidualMlp(Module):
        def __init__(self, n=4, hidden=6):
            self.w1 = Parameter(rng.normal(size=(n, hidden)))
            self.w2 = Parameter(rng.normal(size=(hidden, n)))

        def forward(self, inp):
            return inp + (inp @ self.w1).tanh() @ self.w2

        def bwd(self, out, inp):
            z = inp @ self.w1
            h = z.tanh()
            self.w2.g = z.T @ out.g
            dz = (out.g @ self.w2.T) * (1.0 - h * h)
            self.w1.g = inp.T @ dz
            inp.g = out.g + dz @ self.w1.T

    return Made(ResidualMlp(), (rng.normal(size=(5, 4)),))


@corpus.case("detached", wrong="inp", also="overwritten")
def module_swish_gate_constant(rng: np.random.Generator) -> Made:
    """The gate depends on the input, too; its derivative is missing."""

    class Swish(Module):
        def __init__(self):
            self.beta = Parameter(np.array([1.3]))

        def forward(self, inp):
            return inp * (self.beta * inp).sigmoid()

        def bwd(self, out, inp):
            gate = (self.beta * inp).sigmoid()
            inp.g = gate * out.g
            self.beta.g = out.g * inp * inp * gate * (1.0 - gate)

    return Made(Swish(), (rng.normal(size=(5, 4)),))


# Normalisation


class GroupNorm(Module):
    """(batch, channels, time): each group of channels has mean 0 and variance 1."""

    def __init__(self, rng, groups=2, channels=6, eps=0.05):
        self.groups, self.eps = groups, eps
        self.gamma = Parameter(rng.normal(size=(channels, 1)))
        self.beta = Parameter(rng.normal(size=(channels, 1)))

    def grouped(self, x):
        return x.reshape(x.shape[0], self.groups, -1)

    def statistics(self, inp):
        x = self.grouped(inp)
        mu = x.mean(2, keepdims=True)
        var = ((x - mu) * (x - mu)).mean(2, keepdims=True)
        return x - mu, var

    def normalised(self, inp):
        centred, var = self.statistics(inp)
        return centred / (var + self.eps).sqrt()

    def forward(self, inp):
        return self.normalised(inp).reshape(*inp.shape) * self.gamma + self.beta


@corpus.case("eps", wrong="inp")
def module_group_norm_eps(rng: np.random.Generator) -> Made:
    """eps is added to the standard deviation, in forward to the variance."""

    class Wrong(GroupNorm):
        def bwd(self, out, inp):
            _, var = self.statistics(inp)
            x_hat = self.normalised(inp)
            self.beta.g = out.g.sum((0, 2)).reshape(-1, 1)
            self.gamma.g = (out.g * x_hat.reshape(*inp.shape)).sum((0, 2)).reshape(-1, 1)
            d = self.grouped(out.g * self.gamma)
            d = d - d.mean(2, keepdims=True) - x_hat * (d * x_hat).mean(2, keepdims=True)
            inp.g = (d / (var.sqrt() + self.eps)).reshape(*inp.shape)

    return Made(Wrong(rng), (0.6 * rng.normal(size=(4, 6, 5)),))


@corpus.case("swapped", wrong="gamma beta")
def module_group_norm_affine(rng: np.random.Generator) -> Made:
    """gamma gets beta's gradient, and beta gamma's."""

    class Wrong(GroupNorm):
        def bwd(self, out, inp):
            _, var = self.statistics(inp)
            x_hat = self.normalised(inp)
            self.gamma.g = out.g.sum((0, 2)).reshape(-1, 1)
            self.beta.g = (out.g * x_hat.reshape(*inp.shape)).sum((0, 2)).reshape(-1, 1)
            d = self.grouped(out.g * self.gamma)
            d = d - d.mean(2, keepdims=True) - x_hat * (d * x_hat).mean(2, keepdims=True)
            inp.g = (d / (var + self.eps).sqrt()).reshape(*inp.shape)

    return Made(Wrong(rng), (rng.normal(size=(4, 6, 5)),))


@corpus.case("eps", wrong="inp")
def module_rms_norm_eps(rng: np.random.Generator) -> Made:
    """The second term divides by the mean square without its eps."""

    class RmsNorm(Module):
        def __init__(self, n=4, eps=0.05):
            self.gain = Parameter(rng.normal(size=n))
            self.eps = eps

        def forward(self, inp):
            ms = (inp * inp).mean(-1, keepdims=True)
            return inp / (ms + self.eps).sqrt() * self.gain

        def bwd(self, out, inp):
            ms = (inp * inp).mean(-1, keepdims=True)
            r = 1.0 / (ms + self.eps).sqrt()
            self.gain.g = (out.g * inp * r).sum(0)
            d = out.g * self.gain
            inp.g = r * (d - inp * (d * inp).mean(-1, keepdims=True) / ms)

    return Made(RmsNorm(), (0.5 * rng.normal(size=(6, 4)),))


@corpus.case("detached", wrong="inp")
def module_scale_norm_length(rng: np.random.Generator) -> Made:
    """The length by which a row is divided is taken as a constant."""

    class ScaleNorm(Module):
        def __init__(self):
            self.scale = Parameter(np.array(1.7))

        def forward(self, inp):
            return self.scale * inp / (inp * inp).sum(-1, keepdims=True).sqrt()

        def bwd(self, out, inp):
            length = (inp * inp).sum(-1, keepdims=True).sqrt()
            inp.g = out.g * self.scale / length
            self.scale.g = (out.g * inp / length).sum()

    return Made(ScaleNorm(), (rng.normal(size=(5, 3)),))


@corpus.case("axis", wrong="inp")
def module_slot_attention_softmax(rng: np.random.Generator) -> Made:
    """Slots compete along axis 1; the Jacobian is summed along the last axis."""

    class SlotWeights(Module):
        def forward(self, inp):
            return inp.softmax(axis=1)

        def bwd(self, out, inp):
            inner = (out.g * out).sum(-1, keepdims=True)
            inp.g = out * (out.g - inner)

    return Made(SlotWeights(), (rng.normal(size=(4, 3, 5)),))


@corpus.case("axis", wrong="positions")
def module_centre_of_mass(rng: np.random.Generator) -> Made:
    """The mean over particles is taken over the configurations, going back."""

    class Centred(Module):
        def forward(self, positions):
            return positions - positions.mean(1, keepdims=True)

        def bwd(self, out, positions):
            positions.g = out.g - out.g.mean(0, keepdims=True)

    return Made(Centred(), (rng.normal(size=(4, 5, 3)),))


# Attention


class CausalAttention(Module):
    """One head over one sequence (time, features), with an ALiBi bias."""

    def __init__(self, rng, n=4, head=3, time=5, slope=0.25):
        self.wq = Parameter(rng.normal(size=(n, head)))
        self.wk = Parameter(rng.normal(size=(n, head)))
        self.wv = Parameter(rng.normal(size=(n, head)))
        back = np.arange(time)[:, None] - np.arange(time)
        self.bias = Buffer(np.where(back >= 0, -slope * back, -1e9))
        self.scale = head**-0.5

    def parts(self, inp):
        q, k, v = inp @ self.wq, inp @ self.wk, inp @ self.wv
        return q, k, v, (self.scale * (q @ k.T) + self.bias).softmax(1)

    def forward(self, inp):
        _, _, v, p = self.parts(inp)
        return p @ v

    def back_through_softmax(self, out, p, v):
        dp = out.g @ v.T
        return self.scale * p * (dp - (dp * p).sum(1, keepdims=True))


@corpus.case("swapped", wrong="wq wk")
def module_attention_query_key(rng: np.random.Generator) -> Made:
    """The gradients of the query's and the key's weights are exchanged."""

    class Wrong(CausalAttention):
        def bwd(self, out, inp):
            q, k, v, p = self.parts(inp)
            ds = self.back_through_softmax(out, p, v)
            dq, dk, dv = ds @ k, ds.T @ q, p.T @ out.g
            self.wq.g = inp.T @ dk
            self.wk.g = inp.T @ dq
            self.wv.g = inp.T @ dv
            inp.g = dq @ self.wq.T + dk @ self.wk.T + dv @ self.wv.T

    return Made(Wrong(rng), (rng.normal(size=(5, 4)),))


@corpus.case("operand", wrong="inp wq")
def module_attention_query_for_key(rng: np.random.Generator) -> Made:
    """dq is made from q, where it needs k."""

    class Wrong(CausalAttention):
        def bwd(self, out, inp):
            q, _, v, p = self.parts(inp)
            ds = self.back_through_softmax(out, p, v)
            dq = ds @ q
            dk = ds.T @ q
            dv = p.T @ out.g
            self.wq.g = inp.T @ dq
            self.wk.g = inp.T @ dk
            self.wv.g = inp.T @ dv
            inp.g = dq @ self.wq.T + dk @ self.wk.T + dv @ self.wv.T

    return Made(Wrong(rng), (rng.normal(size=(5, 4)),))


@corpus.case("shift", wrong="inp", also="transpose")
def module_token_shift(rng: np.random.Generator) -> Made:
    """The gradient is moved forward in time, as the input was, instead of back."""

    class TokenShift(Module):
        def __init__(self, n=3):
            self.mix = Parameter(rng.random(n))

        def previous(self, x):
            return gu.pad(x, [(0, 0), (1, 0), (0, 0)])[:, :-1]

        def forward(self, inp):
            return self.mix * inp + (1.0 - self.mix) * self.previous(inp)

        def bwd(self, out, inp):
            self.mix.g = (out.g * (inp - self.previous(inp))).sum((0, 1))
            inp.g = self.mix * out.g + self.previous((1.0 - self.mix) * out.g)

    return Made(TokenShift(), (rng.normal(size=(4, 5, 3)),))


# Losses


@corpus.case("sign", wrong="logits")
def module_advantage_weighted_policy(rng: np.random.Generator) -> Made:
    """The loss is minus the log-probability; the gradient in the logits lacks the minus."""

    class PolicyLoss(Module):
        def forward(self, logits, actions, advantages):
            log_p = logits.log_softmax(1)[np.arange(len(logits)), actions]
            return -(advantages * log_p).mean()

        def bwd(self, out, logits, actions, advantages):
            n = len(logits)
            chosen = gu.one_hot(actions, logits.shape[1], logits.dtype)
            score = chosen - logits.softmax(1)
            logits.g = out.g * advantages.unsqueeze(1) * score / n
            advantages.g = -out.g * logits.log_softmax(1)[np.arange(n), actions] / n

    inputs = rng.normal(size=(6, 4)), rng.integers(0, 4, 6), rng.normal(size=6)
    return Made(PolicyLoss(), inputs)


@corpus.case("mean", wrong="pred targ")
def module_quantile_loss(rng: np.random.Generator) -> Made:
    """The gradient of a sum, where the loss is a mean."""

    class Pinball(Module):
        def __init__(self, q):
            self.q = q

        def forward(self, pred, targ):
            err = targ - pred
            return (self.q * err).maximum((self.q - 1.0) * err).mean()

        def bwd(self, out, pred, targ):
            slope = gu.where(targ > pred, self.q, self.q - 1.0)
            pred.g = -slope * out.g
            targ.g = slope * out.g

    return Made(Pinball(0.8), (rng.normal(size=7), rng.normal(size=7)))


@corpus.case("mask", wrong="logits")
def module_cross_entropy_padding(rng: np.random.Generator) -> Made:
    """Padding tokens have no loss, but get a gradient."""

    class TokenCrossEntropy(Module):
        def __init__(self, pad=0):
            self.pad = pad

        def forward(self, logits, labels):
            keep = (labels != self.pad).cast(logits.dtype)
            nll = -logits.log_softmax(1)[np.arange(len(logits)), labels]
            return (keep * nll).sum() / keep.sum()

        def bwd(self, out, logits, labels):
            tokens = (labels != self.pad).cast(logits.dtype).sum()
            target = gu.one_hot(labels, logits.shape[1], logits.dtype)
            logits.g = out.g * (logits.softmax(1) - target) / tokens

    return Made(TokenCrossEntropy(), (rng.normal(size=(7, 4)), np.array([2, 1, 3, 1, 0, 0, 0])))


@corpus.case("cotangent", wrong="inp")
def module_focal_loss_alone(rng: np.random.Generator) -> Made:
    """Written as if nothing came after the loss: out.g is not used."""

    class BinaryFocal(Module):
        def __init__(self, gamma=1.5):
            self.gamma = gamma

        def forward(self, inp, labels):
            p = inp.sigmoid()
            pt = gu.where(labels == 1, p, 1.0 - p)
            return -((1.0 - pt) ** self.gamma * pt.log()).mean()

        def bwd(self, out, inp, labels):
            p = inp.sigmoid()
            pt = gu.where(labels == 1, p, 1.0 - p)
            miss = 1.0 - pt
            d_pt = self.gamma * miss ** (self.gamma - 1.0) * pt.log() - miss**self.gamma / pt
            inp.g = gu.where(labels == 1, d_pt, -d_pt) * p * (1.0 - p) / inp.size

    return Made(BinaryFocal(), (rng.normal(size=8), np.array([0, 1, 1, 0, 1, 0, 0, 1])))


@corpus.case("formula", wrong="mu")
def module_student_t_nll(rng: np.random.Generator) -> Made:
    """z / (1 + z**2), where the degrees of freedom belong in the place of the 1."""

    class StudentT(Module):
        def __init__(self, y, nu=4.0):
            self.y, self.nu = Buffer(y), nu

        def forward(self, mu, log_scale):
            z = (self.y - mu) / log_scale.exp()
            return 0.5 * (self.nu + 1.0) * (z * z / self.nu).log1p() + log_scale

        def bwd(self, out, mu, log_scale):
            z = (self.y - mu) / log_scale.exp()
            mu.g = -(self.nu + 1.0) * z / (1.0 + z * z) / log_scale.exp() * out.g
            log_scale.g = (1.0 - (self.nu + 1.0) * z * z / (self.nu + z * z)) * out.g

    return Made(StudentT(rng.normal(size=8)), (rng.normal(size=8), 0.3 * rng.normal(size=8)))


# Time and physics


@corpus.case("sign", wrong="theta")
def module_pendulum_step(rng: np.random.Generator) -> Made:
    """Gravity pulls back: the angle's term has a minus that the gradient lost."""

    class PendulumStep(Module):
        def __init__(self, dt=0.2, drag=0.1):
            self.dt, self.drag = dt, drag
            self.k = Parameter(np.array([9.8]))

        def forward(self, theta, omega):
            omega2 = omega - self.dt * (self.k * theta.sin() + self.drag * omega)
            theta2 = theta + self.dt * omega2
            return gu.stack([theta2, omega2], axis=1)

        def bwd(self, out, theta, omega):
            d_theta2 = out.g[:, 0]
            d_omega2 = out.g[:, 1] + self.dt * d_theta2
            omega.g = d_omega2 * (1.0 - self.dt * self.drag)
            theta.g = d_theta2 + d_omega2 * self.dt * self.k * theta.cos()
            self.k.g = -self.dt * d_omega2 * theta.sin()

    return Made(PendulumStep(), (rng.normal(size=6), rng.normal(size=6)))


@corpus.case("overwritten", wrong="w")
def module_neural_ode_steps(rng: np.random.Generator) -> Made:
    """All Euler steps use w; only one of their contributions is kept."""

    class EulerOde(Module):
        def __init__(self, n=4, steps=3, dt=0.5):
            self.w = Parameter(rng.normal(size=(n, n)))
            self.steps, self.dt = steps, dt

        def states(self, inp):
            xs = [inp]
            for _ in range(self.steps):
                xs.append(xs[-1] + self.dt * (xs[-1] @ self.w).tanh())
            return xs

        def forward(self, inp):
            return self.states(inp)[-1]

        def bwd(self, out, inp):
            dx = out.g
            for x in reversed(self.states(inp)[:-1]):
                t = (x @ self.w).tanh()
                dz = self.dt * dx * (1.0 - t * t)
                dw = x.T @ dz
                dx = dx + dz @ self.w.T
            self.w.g = dw
            inp.g = dx

    return Made(EulerOde(), (rng.normal(size=(5, 4)),))


@corpus.case("cotangent", wrong="start rate capacity")
def module_logistic_growth_trajectory(rng: np.random.Generator) -> Made:
    """The whole trajectory is returned; only the last state's gradient is sent back."""

    class LogisticGrowth(Module):
        def __init__(self, steps=4, dt=0.3):
            self.rate = Parameter(np.array([0.9]))
            self.capacity = Parameter(np.array([2.0]))
            self.steps, self.dt = steps, dt

        def states(self, x):
            xs = [x]
            for _ in range(self.steps):
                x = x + self.dt * self.rate * x * (1.0 - x / self.capacity)
                xs.append(x)
            return xs

        def forward(self, start):
            return gu.stack(self.states(start)[1:], axis=1)

        def bwd(self, out, start):
            dx = out.g[:, -1]
            for x in reversed(self.states(start)[:-1]):
                free = 1.0 - x / self.capacity
                self.rate.g = dx * self.dt * x * free
                self.capacity.g = dx * self.dt * self.rate * (x / self.capacity) ** 2
                dx = dx * (1.0 + self.dt * self.rate * (1.0 - 2.0 * x / self.capacity))
            start.g = dx

    return Made(LogisticGrowth(), (rng.random(5) + 0.3,))


@corpus.case("shift", wrong="rewards", also="transpose")
def module_discounted_returns(rng: np.random.Generator) -> Made:
    """Returns are summed from the end; so is the gradient, which has to go the other way."""

    class Returns(Module):
        def __init__(self, gamma=0.8):
            self.gamma = gamma

        def discounted(self, x):
            found, total = [], 0.0
            for t in reversed(range(x.shape[1])):
                total = x[:, t] + self.gamma * total
                found.append(total)
            return gu.stack(found[::-1], axis=1)

        def forward(self, rewards):
            return self.discounted(rewards)

        def bwd(self, out, rewards):
            rewards.g = self.discounted(out.g)

    return Made(Returns(), (rng.normal(size=(3, 5)),))


# --------------------------------------------------------------------------- NumPy pairs


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def softmax(x, axis=-1):
    e = np.exp(x - x.max(axis=axis, keepdims=True))
    return e / e.sum(axis=axis, keepdims=True)


@corpus.case("factor", wrong="q k")
def numpy_attention_unscaled(rng: np.random.Generator) -> Made:
    """Scores are divided by sqrt(d); their gradient is not."""

    def forward(q, k, v):
        scores = q @ k.transpose(0, 2, 1) / math.sqrt(q.shape[-1])
        p = softmax(scores)
        return p @ v, (q, k, v, p)

    def backward(dout, cache):
        q, k, v, p = cache
        dv = p.transpose(0, 2, 1) @ dout
        dp = dout @ v.transpose(0, 2, 1)
        ds = p * (dp - (dp * p).sum(-1, keepdims=True))
        dq = ds @ k
        dk = ds.transpose(0, 2, 1) @ q
        return dq, dk, dv

    inputs = tuple(rng.normal(size=s) for s in [(3, 5, 4), (3, 6, 4), (3, 6, 7)])
    return Made(forward, inputs, {"backward": backward})


@corpus.case("softmax", wrong="q k")
def numpy_causal_attention_diagonal(rng: np.random.Generator) -> Made:
    """Attention weights are treated like sigmoids."""

    def forward(q, k, v):
        T, d = q.shape
        s = q @ k.T / np.sqrt(d)
        s[np.triu_indices(T, 1)] = -np.inf
        p = softmax(s)
        cache = (q, k, v, p)
        return p @ v, cache

    def backward(dout, cache):
        q, k, v, p = cache
        dp = dout @ v.T
        ds = dp * p * (1 - p) / np.sqrt(q.shape[1])
        return {"q": ds @ k, "k": ds.T @ q, "v": p.T @ dout}

    inputs = tuple(rng.normal(size=(5, 3)) for _ in range(3))
    return Made(forward, inputs, {"backward": backward})


@corpus.case("softmax", wrong="logits")
def numpy_gumbel_softmax(rng: np.random.Generator) -> Made:
    """y * (1 - y) for the Jacobian of a relaxed sample."""
    gumbel = -np.log(-np.log(rng.random((5, 4))))
    tau = 0.7

    def forward(logits):
        return softmax((logits + gumbel) / tau)

    def backward(dout, logits, out):
        return (dout * out * (1 - out) / tau,)

    return Made(forward, (rng.normal(size=(5, 4)),), {"backward": backward})


@corpus.case("sum", wrong="slopes")
def numpy_alibi_slopes(rng: np.random.Generator) -> Made:
    """Each head's slope is used by every sequence; these are not summed over."""

    def forward(scores, slopes):
        T = scores.shape[-1]
        dist = np.abs(np.arange(T)[:, None] - np.arange(T))
        return scores - slopes[:, None, None] * dist

    def backward(dout, scores, slopes):
        T = scores.shape[-1]
        dist = np.abs(np.arange(T)[:, None] - np.arange(T))
        dslopes = -(dout * dist).sum(axis=(-2, -1))
        return dout, dslopes

    inputs = rng.normal(size=(4, 3, 5, 5)), rng.random(3)
    return Made(forward, inputs, {"backward": backward})


@corpus.case("sign", wrong="negative")
def numpy_triplet_negative(rng: np.random.Generator) -> Made:
    """The negative is pulled towards the anchor."""
    margin = 1.0

    def forward(anchor, positive, negative):
        d_pos = ((anchor - positive) ** 2).sum(1)
        d_neg = ((anchor - negative) ** 2).sum(1)
        return np.maximum(d_pos - d_neg + margin, 0)

    def backward(dout, anchor, positive, negative, out):
        g = 2 * (dout * (out > 0))[:, None]
        danchor = g * (negative - positive)
        dpositive = -g * (anchor - positive)
        dnegative = -g * (anchor - negative)
        return danchor, dpositive, dnegative

    inputs = tuple(rng.normal(size=(8, 3)) for _ in range(3))
    return Made(forward, inputs, {"backward": backward})


@corpus.case("mean", wrong="x")
def numpy_global_average_pool(rng: np.random.Generator) -> Made:
    """Every pixel gets the pooled gradient whole, not its share."""

    def forward(x, w):
        pooled = x.mean(axis=(2, 3))
        return pooled @ w, (x.shape, pooled, w)

    def backward(dout, cache):
        shape, pooled, w = cache
        dw = pooled.T @ dout
        dpooled = dout @ w.T
        dx = np.ones(shape) * dpooled[:, :, None, None]
        return dx, dw

    inputs = rng.normal(size=(5, 6, 4, 3)), rng.normal(size=(6, 7))
    return Made(forward, inputs, {"backward": backward})


@corpus.case("transpose", wrong="x")
def numpy_bilinear_score(rng: np.random.Generator) -> Made:
    """x A y: the gradient in x needs A y, and gets A.T y."""

    def forward(x, a, y):
        return np.einsum("bi,ij,bj->b", x, a, y)

    def backward(dout, x, a, y):
        g = dout[:, None]
        dx = g * (y @ a)
        dy = g * (x @ a)
        da = (g * x).T @ y
        return dx, da, dy

    inputs = rng.normal(size=(5, 4)), rng.normal(size=(4, 4)), rng.normal(size=(5, 4))
    return Made(forward, inputs, {"backward": backward})


@corpus.case("transpose", wrong="P")
def numpy_kalman_predict_covariance(rng: np.random.Generator) -> Made:
    """F P F' has the adjoint F' G F, not F G F'."""

    def predict(F, P, Q):
        return F @ P @ F.T + Q

    def predict_vjp(dout, F, P, Q):
        dF = dout @ F @ P.T + dout.T @ F @ P
        dP = F @ dout @ F.T
        return dF, dP, dout

    root = rng.normal(size=(4, 4))
    inputs = rng.normal(size=(4, 4)), root @ root.T, np.diag(rng.random(4))
    return Made(predict, inputs, {"backward": predict_vjp})


@corpus.case("operand", wrong="p r")
def numpy_kalman_update_innovation(rng: np.random.Generator) -> Made:
    """The innovation is taken at the corrected state, not at the predicted one."""

    def update(x, p, z, r):
        gain = p / (p + r)
        return x + gain * (z - x)

    def update_vjp(dout, x, p, z, r):
        gain = p / (p + r)
        x = x + gain * (z - x)
        dgain = dout * (z - x)
        dp = dgain * r / (p + r) ** 2
        dr = -dgain * p / (p + r) ** 2
        return dout * (1 - gain), dp, dout * gain, dr

    inputs = rng.normal(size=6), rng.random(6) + 0.5, rng.normal(size=6), rng.random(6) + 0.5
    return Made(update, inputs, {"backward": update_vjp})


@corpus.case("sum", wrong="gamma")
def numpy_layer_norm_sequence_gamma(rng: np.random.Generator) -> Made:
    """gamma is summed over the batch, as for plain rows, and not over time."""

    def forward(x, gamma, beta):
        mu = x.mean(-1, keepdims=True)
        inv = 1 / np.sqrt(x.var(-1, keepdims=True) + 1e-5)
        x_hat = (x - mu) * inv
        return gamma * x_hat + beta, (x_hat, inv, gamma)

    def backward(dout, cache):
        x_hat, inv, gamma = cache
        dgamma = (dout * x_hat).sum(axis=0)
        dbeta = dout.sum(axis=(0, 1))
        d = dout * gamma
        dx = inv * (d - d.mean(-1, keepdims=True) - x_hat * (d * x_hat).mean(-1, keepdims=True))
        return dx, dgamma, dbeta

    inputs = rng.normal(size=(3, 4, 5)), rng.normal(size=5), rng.normal(size=5)
    return Made(forward, inputs, {"backward": backward})


@corpus.case("bias", wrong="b")
def numpy_depthwise_conv_bias(rng: np.random.Generator) -> Made:
    """The bias is summed over positions, not over the batch."""

    def forward(x, w, b):
        n, c, length = x.shape
        k = w.shape[1]
        out = np.zeros((n, c, length - k + 1))
        for j in range(k):
            out += x[:, :, j : j + out.shape[2]] * w[:, j, None]
        return out + b[:, None], (x, w)

    def backward(dout, cache):
        x, w = cache
        size = dout.shape[2]
        dx, dw = np.zeros_like(x), np.zeros_like(w)
        for j in range(w.shape[1]):
            dx[:, :, j : j + size] += dout * w[:, j, None]
            dw[:, j] = (dout * x[:, :, j : j + size]).sum(axis=(0, 2))
        db = dout.sum(axis=2)
        return dx, dw, db

    inputs = rng.normal(size=(5, 4, 8)), rng.normal(size=(4, 3)), rng.normal(size=4)
    return Made(forward, inputs, {"backward": backward})


@corpus.case("bias", wrong="b")
def numpy_mixer_token_bias(rng: np.random.Generator) -> Made:
    """A bias for each new token, summed over channels but not over the batch."""

    def token_mix(x, w, b):
        return np.einsum("btc,ts->bsc", x, w) + b[:, None]

    def token_mix_backward(dout, x, w, b):
        dx = np.einsum("bsc,ts->btc", dout, w)
        dw = np.einsum("btc,bsc->ts", x, dout)
        db = dout.sum(-1)
        return dx, dw, db

    inputs = rng.normal(size=(3, 4, 5)), rng.normal(size=(4, 6)), rng.normal(size=6)
    return Made(token_mix, inputs, {"backward": token_mix_backward})


@corpus.case("bias", wrong="w0")
def numpy_factorization_machine_bias(rng: np.random.Generator) -> Made:
    """The global bias gets one gradient for each row."""

    def forward(x, w0, w, v):
        linear = x @ w
        pairs = 0.5 * ((x @ v) ** 2 - (x**2) @ (v**2)).sum(axis=1)
        return w0 + linear + pairs

    def backward(dout, x, w0, w, v):
        g = dout[:, None]
        s = x @ v
        dx = g * (w + s @ v.T - x * (v**2).sum(axis=1))
        dv = x.T @ (g * s) - (g * x**2).sum(axis=0)[:, None] * v
        return {"x": dx, "w0": dout, "w": x.T @ dout, "v": dv}

    inputs = (
        rng.normal(size=(5, 4)),
        rng.normal(size=1),
        rng.normal(size=4),
        rng.normal(size=(4, 3)),
    )
    return Made(forward, inputs, {"backward": backward})


@corpus.case("mask", wrong="logp")
def numpy_ppo_clip(rng: np.random.Generator) -> Made:
    """Every clipped ratio is masked, also where the minimum takes the unclipped term."""
    clip = 0.2
    old = rng.normal(size=10) - 1
    advantage = np.array([1.0, -0.5, 0.8, -1.2, 0.3, -0.7, 1.5, -0.9, 0.6, -0.4])
    moved = np.array([0.5, 0.6, -0.5, -0.7, 0.05, -0.04, 0.4, 0.9, -0.6, -0.3])

    def forward(logp):
        ratio = np.exp(logp - old)
        clipped = np.clip(ratio, 1 - clip, 1 + clip)
        return -np.minimum(ratio * advantage, clipped * advantage).mean()

    def backward(dout, logp):
        ratio = np.exp(logp - old)
        inside = (ratio > 1 - clip) & (ratio < 1 + clip)
        return (-dout * inside * advantage * ratio / len(logp),)

    return Made(forward, (old + moved,), {"backward": backward})


@corpus.case("output", wrong="x")
def numpy_elu_input(rng: np.random.Generator) -> Made:
    """alpha + out, with the input for the output."""
    alpha = 1.0

    def elu(x):
        return np.where(x > 0, x, alpha * np.expm1(np.minimum(x, 0)))

    def elu_backward(dout, x):
        return (dout * np.where(x > 0, 1.0, x + alpha),)

    return Made(elu, (rng.normal(size=(5, 4)),), {"backward": elu_backward})


@corpus.case("overwritten", wrong="wh")
def numpy_rnn_recurrent_weight(rng: np.random.Generator) -> Made:
    """wx and b are added up over time, wh is assigned."""

    def forward(x, h0, wx, wh, b):
        hs = [h0]
        for t in range(x.shape[1]):
            hs.append(np.tanh(x[:, t] @ wx + hs[-1] @ wh + b))
        return hs[-1], (x, hs, wx, wh)

    def backward(dout, cache):
        x, hs, wx, wh = cache
        dx = np.zeros_like(x)
        dwx, dwh, db = np.zeros_like(wx), np.zeros_like(wh), 0
        dh = dout
        for t in range(x.shape[1] - 1, -1, -1):
            da = dh * (1 - hs[t + 1] ** 2)
            dx[:, t] = da @ wx.T
            dwx += x[:, t].T @ da
            dwh = hs[t].T @ da
            db += da.sum(0)
            dh = da @ wh.T
        return dx, dh, dwx, dwh, db

    inputs = tuple(rng.normal(size=s) for s in [(3, 4, 2), (3, 5), (2, 5), (5, 5), (5,)])
    return Made(forward, inputs, {"backward": backward})


@corpus.case("overwritten", wrong="x", also="detached")
def numpy_residual_block_skip(rng: np.random.Generator) -> Made:
    """grads["x"] holds the skip's part until the branch's part replaces it."""

    def block(x, w1, w2):
        hidden = np.maximum(x @ w1, 0)
        return x + hidden @ w2

    def block_backward(dout, x, w1, w2):
        grads = {}
        hidden = np.maximum(x @ w1, 0)
        grads["x"] = dout
        grads["w2"] = hidden.T @ dout
        dhidden = dout @ w2.T * (hidden > 0)
        grads["w1"] = x.T @ dhidden
        grads["x"] = dhidden @ w1.T
        return grads

    inputs = rng.normal(size=(5, 4)), rng.normal(size=(4, 6)), rng.normal(size=(6, 4))
    return Made(block, inputs, {"backward": block_backward})


@corpus.case("scatter", wrong="table")
def numpy_embedding_bag(rng: np.random.Generator) -> Made:
    """`+=` on an index array counts a repeated word once."""

    def forward(table, words):
        return table[words].mean(axis=1)

    def backward(dout, table, words):
        dtable = np.zeros_like(table)
        dtable[words] += dout[:, None, :] / words.shape[1]
        return dtable, None

    words = np.array([[1, 4, 1], [0, 2, 4], [5, 5, 3], [2, 0, 1]])
    return Made(forward, (rng.normal(size=(7, 5)), words), {"backward": backward})


@corpus.case("scatter", wrong="image")
def numpy_bilinear_sampling(rng: np.random.Generator) -> Made:
    """Points in one cell share its corners; the corners keep the last point."""

    def forward(image, points):
        y0, x0 = np.floor(points).astype(int).T
        fy, fx = (points - np.floor(points)).T
        top = image[y0, x0] * (1 - fx) + image[y0, x0 + 1] * fx
        bottom = image[y0 + 1, x0] * (1 - fx) + image[y0 + 1, x0 + 1] * fx
        return top * (1 - fy) + bottom * fy, (image, y0, x0, fy, fx, top, bottom)

    def backward(dout, cache):
        image, y0, x0, fy, fx, top, bottom = cache
        dimage = np.zeros_like(image)
        dimage[y0, x0] += dout * (1 - fy) * (1 - fx)
        dimage[y0, x0 + 1] += dout * (1 - fy) * fx
        dimage[y0 + 1, x0] += dout * fy * (1 - fx)
        dimage[y0 + 1, x0 + 1] += dout * fy * fx
        dy = dout * (bottom - top)
        dx = dout * (
            (image[y0, x0 + 1] - image[y0, x0]) * (1 - fy)
            + (image[y0 + 1, x0 + 1] - image[y0 + 1, x0]) * fy
        )
        return dimage, np.stack([dy, dx], axis=1)

    cells = np.array([[0, 1], [2, 2], [0, 1], [1, 0], [2, 2], [0, 1], [1, 3]])
    points = cells + 0.2 + 0.6 * rng.random((7, 2))
    return Made(forward, (rng.normal(size=(4, 5)), points), {"backward": backward})


@corpus.case("stale", wrong="x gamma")
def numpy_batch_norm_first_batch(rng: np.random.Generator) -> Made:
    """setdefault keeps the first batch's deviation for all later ones."""
    kept = {}

    def forward(x, gamma, beta):
        inv = 1 / np.sqrt(x.var(axis=0) + 1e-5)
        kept.setdefault("inv", inv)
        return gamma * (x - x.mean(axis=0)) * inv + beta

    def backward(dout, x, gamma, beta):
        inv = kept["inv"]
        x_hat = (x - x.mean(axis=0)) * inv
        d = dout * gamma
        dx = inv * (d - d.mean(axis=0) - x_hat * (d * x_hat).mean(axis=0))
        return dx, (dout * x_hat).sum(axis=0), dout.sum(axis=0)

    gamma, beta = rng.normal(size=4), rng.normal(size=4)
    forward(2.5 * rng.normal(size=(6, 4)), gamma, beta)
    return Made(forward, (rng.normal(size=(6, 4)), gamma, beta), {"backward": backward})


@corpus.case("activation", wrong="x wt bt")
def numpy_highway_transform_gate(rng: np.random.Generator) -> Made:
    """The gate's sigmoid is not differentiated."""

    def forward(x, wh, bh, wt, bt):
        h = np.tanh(x @ wh + bh)
        t = sigmoid(x @ wt + bt)
        return t * h + (1 - t) * x, (x, wh, wt, h, t)

    def backward(dout, cache):
        x, wh, wt, h, t = cache
        dzh = dout * t * (1 - h**2)
        dzt = dout * (h - x)
        dx = dout * (1 - t) + dzh @ wh.T + dzt @ wt.T
        return dx, x.T @ dzh, dzh.sum(0), x.T @ dzt, dzt.sum(0)

    inputs = tuple(rng.normal(size=s) for s in [(5, 4), (4, 4), (4,), (4, 4), (4,)])
    return Made(forward, inputs, {"backward": backward})


@corpus.case("activation", wrong="x h wr ur wn un")
def numpy_gru_candidate(rng: np.random.Generator) -> Made:
    """The candidate's tanh is not differentiated."""

    def gates(x, h, wz, uz, wr, ur, wn, un):
        z = sigmoid(x @ wz + h @ uz)
        r = sigmoid(x @ wr + h @ ur)
        return z, r, np.tanh(x @ wn + r * (h @ un))

    def forward(x, h, wz, uz, wr, ur, wn, un):
        z, _, n = gates(x, h, wz, uz, wr, ur, wn, un)
        return (1 - z) * n + z * h

    def backward(dout, x, h, wz, uz, wr, ur, wn, un):
        z, r, n = gates(x, h, wz, uz, wr, ur, wn, un)
        da_n = dout * (1 - z)
        da_z = dout * (h - n) * z * (1 - z)
        da_r = da_n * (h @ un) * r * (1 - r)
        dx = da_z @ wz.T + da_r @ wr.T + da_n @ wn.T
        dh = dout * z + da_z @ uz.T + da_r @ ur.T + (da_n * r) @ un.T
        return (
            *(dx, dh),
            *(x.T @ da_z, h.T @ da_z),
            *(x.T @ da_r, h.T @ da_r),
            *(x.T @ da_n, h.T @ (da_n * r)),
        )

    weights = [rng.normal(size=s) for s in [(3, 4), (4, 4)] * 3]
    inputs = rng.normal(size=(5, 3)), rng.normal(size=(5, 4)), *weights
    return Made(forward, inputs, {"backward": backward})


@corpus.case("eps", wrong="x y")
def numpy_cosine_similarity_eps(rng: np.random.Generator) -> Made:
    """The denominator in the backward pass has no eps."""
    eps = 0.01

    def cosine(x, y):
        nx, ny = np.linalg.norm(x, axis=1), np.linalg.norm(y, axis=1)
        return (x * y).sum(axis=1) / (nx * ny + eps)

    def cosine_backward(dout, x, y):
        nx = np.linalg.norm(x, axis=1, keepdims=True)
        ny = np.linalg.norm(y, axis=1, keepdims=True)
        dot = (x * y).sum(axis=1, keepdims=True)
        den = nx * ny
        g = dout[:, None]
        dx = g * (y / den - dot / den**2 * ny * x / nx)
        dy = g * (x / den - dot / den**2 * nx * y / ny)
        return dx, dy

    inputs = 0.3 * rng.normal(size=(5, 3)), 0.3 * rng.normal(size=(5, 3))
    return Made(cosine, inputs, {"backward": cosine_backward})


@corpus.case("eps", wrong="probs")
def numpy_dice_loss_eps(rng: np.random.Generator) -> Made:
    """The numerator's eps is left out."""
    eps = 0.5

    def forward(probs, mask):
        inter = (probs * mask).sum(axis=1)
        total = probs.sum(axis=1) + mask.sum(axis=1)
        loss = 1 - (2 * inter + eps) / (total + eps)
        return loss, (mask, inter, total)

    def backward(dout, cache):
        mask, inter, total = cache
        num = 2 * inter[:, None]
        den = total[:, None] + eps
        dprobs = -(2 * mask * den - num) / den**2
        return dout[:, None] * dprobs, None

    inputs = rng.random((4, 9)), rng.integers(0, 2, (4, 9))
    return Made(forward, inputs, {"backward": backward})


@corpus.case("axis", wrong="hazards")
def numpy_log_survival_cumsum(rng: np.random.Generator) -> Made:
    """The running sum goes along time; its reverse goes along the patients."""

    def log_survival(hazards):
        return np.cumsum(np.log1p(-hazards), axis=1)

    def log_survival_backward(dout, hazards):
        later = np.cumsum(dout[::-1], axis=0)[::-1]
        return (-later / (1 - hazards),)

    inputs = (0.1 + 0.6 * rng.random((4, 6)),)
    return Made(log_survival, inputs, {"backward": log_survival_backward})


@corpus.case("axis", wrong="v")
def numpy_weight_norm_projection(rng: np.random.Generator) -> Made:
    """Columns are normalised; the projection sums along the rows."""

    def forward(x, v, g):
        norm = np.sqrt((v**2).sum(axis=0, keepdims=True))
        return x @ (g * v / norm)

    def backward(dout, x, v, g):
        norm = np.sqrt((v**2).sum(axis=0, keepdims=True))
        unit = v / norm
        dw = x.T @ dout
        dg = (dw * unit).sum(axis=0)
        dv = g / norm * (dw - unit * (dw * unit).sum(axis=1, keepdims=True))
        return dout @ (g * unit).T, dv, dg

    inputs = rng.normal(size=(5, 4)), rng.normal(size=(4, 3)), rng.normal(size=3)
    return Made(forward, inputs, {"backward": backward})


@corpus.case("detached", wrong="x", also="overwritten")
def numpy_soft_maximum_weights(rng: np.random.Generator) -> Made:
    """A mean weighted by softmax(x) depends on x through the weights, too."""

    def forward(x):
        weights = softmax(x, axis=1)
        return (weights * x).sum(axis=1), weights

    def backward(dout, cache):
        weights = cache
        return (dout[:, None] * weights,)

    return Made(forward, (rng.normal(size=(5, 4)),), {"backward": backward})


@corpus.case("swapped", wrong="w v")
def numpy_gated_linear_unit(rng: np.random.Generator) -> Made:
    """The value's and the gate's weights come back in the wrong order."""

    def glu_forward(x, w, v):
        a, s = x @ w, sigmoid(x @ v)
        return a * s, (x, w, v, a, s)

    def glu_backward(dout, cache):
        x, w, v, a, s = cache
        d_value = dout * s
        d_gate = dout * a * s * (1 - s)
        dw = x.T @ d_gate
        dv = x.T @ d_value
        dx = d_value @ w.T + d_gate @ v.T
        return dx, dw, dv

    inputs = rng.normal(size=(5, 4)), rng.normal(size=(4, 3)), rng.normal(size=(4, 3))
    return Made(glu_forward, inputs, {"backward": glu_backward})


@corpus.case("cotangent", wrong="x")
def numpy_logsumexp_rows(rng: np.random.Generator) -> Made:
    """Each row gets the sum of all that arrives."""

    def logsumexp(x):
        top = x.max(axis=1)
        return top + np.log(np.exp(x - top[:, None]).sum(axis=1))

    def logsumexp_backward(dout, x, out):
        return (dout.sum() * np.exp(x - out[:, None]),)

    return Made(logsumexp, (rng.normal(size=(5, 4)),), {"backward": logsumexp_backward})


@corpus.case("operand", wrong="w2")
def numpy_cross_network_second_layer(rng: np.random.Generator) -> Made:
    """The second layer multiplies x1 by w2; the gradient takes x0."""

    def forward(x0, w1, w2):
        x1 = x0 * (x0 @ w1)[:, None] + x0
        x2 = x0 * (x1 @ w2)[:, None] + x1
        return x2, (x0, x1, w1, w2)

    def backward(dout, cache):
        x0, x1, w1, w2 = cache
        s2 = (dout * x0).sum(axis=1)
        dw2 = x0.T @ s2
        dx1 = dout + np.outer(s2, w2)
        s1 = (dx1 * x0).sum(axis=1)
        dw1 = x0.T @ s1
        dx0 = dout * (x1 @ w2)[:, None] + dx1 * (x0 @ w1)[:, None] + np.outer(s1, w1) + dx1
        return dx0, dw1, dw2

    inputs = rng.normal(size=(5, 4)), rng.normal(size=4), rng.normal(size=4)
    return Made(forward, inputs, {"backward": backward})


@corpus.case("shift", wrong="a")
def numpy_leaky_unit_decay(rng: np.random.Generator) -> Made:
    """The decay multiplies the state before the step; its gradient takes the one after."""

    def run(x, a):
        h = np.zeros((len(x) + 1, x.shape[1]))
        for t in range(len(x)):
            h[t + 1] = np.tanh(a * h[t] + x[t])
        return h[1:]

    def run_backward(dout, x, a, out):
        h = np.vstack([np.zeros_like(out[:1]), out])
        dx, da = np.zeros_like(x), np.zeros_like(a)
        dh = np.zeros_like(a)
        for t in reversed(range(len(x))):
            dh = dh + dout[t]
            dz = dh * (1 - h[t + 1] ** 2)
            dx[t] = dz
            da += dz * h[t + 1]
            dh = dz * a
        return dx, da

    inputs = rng.normal(size=(6, 3)), rng.normal(size=3)
    return Made(run, inputs, {"backward": run_backward})


@corpus.case("shift", wrong="w")
def numpy_circular_convolution(rng: np.random.Generator) -> Made:
    """The kernel's gradient is off by one in the shift."""

    def circular(x, w):
        return sum(w[k] * np.roll(x, k, axis=1) for k in range(len(w)))

    def circular_backward(dout, x, w):
        dx = sum(w[k] * np.roll(dout, -k, axis=1) for k in range(len(w)))
        dw = np.array([(dout * np.roll(x, k + 1, axis=1)).sum() for k in range(len(w))])
        return dx, dw

    inputs = rng.normal(size=(4, 7)), rng.normal(size=3)
    return Made(circular, inputs, {"backward": circular_backward})


@corpus.case("formula", wrong="x")
def numpy_cubic_spline_basis(rng: np.random.Generator) -> Made:
    """The derivative of r**3 is written 3 * r."""
    knots = np.linspace(-2, 1, 5)

    def spline(x, coef):
        return np.maximum(x[:, None] - knots, 0) ** 3 @ coef

    def spline_backward(dout, x, coef):
        r = np.maximum(x[:, None] - knots, 0)
        dx = dout * (3 * r @ coef)
        return dx, (r**3).T @ dout

    return Made(spline, (rng.normal(size=7), rng.normal(size=5)), {"backward": spline_backward})


@corpus.case("formula", wrong="logits")
def numpy_label_smoothing_share(rng: np.random.Generator) -> Made:
    """The loss shares e among all classes, the gradient among the wrong ones."""
    e = 0.2

    def forward(logits, labels):
        n, classes = logits.shape
        logp = logits - logits.max(axis=1, keepdims=True)
        logp = logp - np.log(np.exp(logp).sum(axis=1, keepdims=True))
        target = np.full((n, classes), e / classes)
        target[np.arange(n), labels] += 1 - e
        return -(target * logp).sum() / n, (logp, labels)

    def backward(dout, cache):
        logp, labels = cache
        n, classes = logp.shape
        target = np.full((n, classes), e / (classes - 1))
        target[np.arange(n), labels] = 1 - e
        return dout * (np.exp(logp) - target) / n, None

    inputs = rng.normal(size=(6, 4)), rng.integers(0, 4, 6)
    return Made(forward, inputs, {"backward": backward})


@corpus.case("formula", wrong="logvar")
def numpy_gaussian_nll_logvar(rng: np.random.Generator) -> Made:
    """err**2 / var**2 is for the derivative in var; in logvar it is err**2 / var."""

    def nll(mu, logvar, y):
        return 0.5 * (logvar + (y - mu) ** 2 * np.exp(-logvar))

    def nll_backward(dout, mu, logvar, y):
        var = np.exp(logvar)
        err = y - mu
        dmu = -dout * err / var
        dlogvar = 0.5 * dout * (1 - err**2 / var**2)
        return dmu, dlogvar, -dmu

    inputs = tuple(rng.normal(size=(4, 3)) for _ in range(3))
    return Made(nll, inputs, {"backward": nll_backward})


# ----------------------------------------------------------------------- torch Functions


@corpus.case("factor", wrong="x")
def torch_inverted_dropout(rng: np.random.Generator) -> Made:
    """What is kept was scaled up by 1 / (1 - p); the gradient is not."""
    import torch

    class InvertedDropout(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x, keep):
            ctx.save_for_backward(keep)
            p = 0.4
            return x * keep / (1 - p)

        @staticmethod
        def backward(ctx, grad_output):
            (keep,) = ctx.saved_tensors
            return grad_output * keep, None

    keep = (rng.random((5, 4)) > 0.4).astype(np.int64)
    return Made(InvertedDropout, (rng.normal(size=(5, 4)), keep))


@corpus.case("mean", wrong="log_rate counts")
def torch_poisson_nll(rng: np.random.Generator) -> Made:
    """The loss is a sum over the batch, the gradient that of a mean."""
    import torch

    class PoissonNll(torch.autograd.Function):
        @staticmethod
        def forward(ctx, log_rate, counts):
            ctx.save_for_backward(log_rate, counts)
            return (log_rate.exp() - counts * log_rate).sum()

        @staticmethod
        def backward(ctx, grad_output):
            log_rate, counts = ctx.saved_tensors
            grad = grad_output / len(log_rate)
            return grad * (log_rate.exp() - counts), -grad * log_rate

    return Made(PoissonNll, (rng.normal(size=7), rng.poisson(2.0, 7).astype(float)))


@corpus.case("sum", wrong="slope")
def torch_prelu_slope(rng: np.random.Generator) -> Made:
    """A channel's slope is summed over the batch only, not over positions."""
    import torch

    class PRelu(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x, slope):
            ctx.save_for_backward(x, slope)
            return torch.where(x > 0, x, slope[:, None] * x)

        @staticmethod
        def backward(ctx, grad_output):
            x, slope = ctx.saved_tensors
            grad_x = torch.where(x > 0, grad_output, slope[:, None] * grad_output)
            grad_slope = (grad_output * x.clamp(max=0)).sum(0)
            return grad_x, grad_slope

    return Made(PRelu, (rng.normal(size=(3, 4, 5)), rng.random(4)))


@corpus.case("mask", wrong="x w b")
def torch_maxout_positive(rng: np.random.Generator) -> Made:
    """A ReLU's mask: pieces above zero get the gradient, not the largest piece."""
    import torch

    def pieces(x, w, b):
        return torch.einsum("bi,kio->bko", x, w) + b

    class Maxout(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x, w, b):
            ctx.save_for_backward(x, w, b)
            return pieces(x, w, b).amax(1)

        @staticmethod
        def backward(ctx, grad_output):
            x, w, b = ctx.saved_tensors
            z = pieces(x, w, b)
            dz = grad_output[:, None, :] * (z > 0)
            grad_x = torch.einsum("bko,kio->bi", dz, w)
            grad_w = torch.einsum("bi,bko->kio", x, dz)
            return grad_x, grad_w, dz.sum(0)

    inputs = rng.normal(size=(6, 4)), rng.normal(size=(3, 4, 5)), rng.normal(size=(3, 5))
    return Made(Maxout, inputs)


@corpus.case("output", wrong="x")
def torch_softplus_of_output(rng: np.random.Generator) -> Made:
    """The sigmoid of what was returned, not of what came in."""
    import torch

    class Softplus(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            y = torch.log1p(torch.exp(x))
            ctx.save_for_backward(y)
            return y

        @staticmethod
        def backward(ctx, grad_output):
            (y,) = ctx.saved_tensors
            return grad_output * torch.sigmoid(y)

    return Made(Softplus, (rng.normal(size=(5, 4)),))


@corpus.case("overwritten", wrong="x", also="detached")
def torch_self_gating(rng: np.random.Generator) -> Made:
    """x is both the value and what makes the gate; the second use replaces the first."""
    import torch

    class SelfGate(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x, w):
            gate = torch.sigmoid(x @ w)
            ctx.save_for_backward(x, w, gate)
            return x * gate

        @staticmethod
        def backward(ctx, grad_output):
            x, w, gate = ctx.saved_tensors
            grad_x = grad_output * gate
            grad_z = grad_output * x * gate * (1 - gate)
            grad_w = x.t() @ grad_z
            grad_x = grad_z @ w.t()
            return grad_x, grad_w

    return Made(SelfGate, (rng.normal(size=(5, 4)), rng.normal(size=(4, 4))))


@corpus.case("scatter", wrong="x")
def torch_gather_rows(rng: np.random.Generator) -> Made:
    """Rows taken twice get the gradient of one of the two."""
    import torch

    class GatherRows(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x, index):
            ctx.save_for_backward(index)
            ctx.shape = x.shape
            return x[index]

        @staticmethod
        def backward(ctx, grad_output):
            (index,) = ctx.saved_tensors
            grad_x = grad_output.new_zeros(ctx.shape)
            grad_x[index] = grad_output
            return grad_x, None

    return Made(GatherRows, (rng.normal(size=(6, 3)), np.array([4, 1, 1, 0, 4, 4, 5])))


@corpus.case("detached", wrong="temperature")
def torch_temperature_softmax(rng: np.random.Generator) -> Made:
    """The temperature is an input as well, and gets no gradient."""
    import torch

    class TemperatureSoftmax(torch.autograd.Function):
        @staticmethod
        def forward(ctx, logits, temperature):
            p = torch.softmax(logits / temperature, dim=1)
            ctx.save_for_backward(p, temperature)
            return p

        @staticmethod
        def backward(ctx, grad_output):
            p, temperature = ctx.saved_tensors
            inner = (grad_output * p).sum(1, keepdim=True)
            return p * (grad_output - inner) / temperature, None

    return Made(TemperatureSoftmax, (rng.normal(size=(5, 4)), np.array([1.6])))


@corpus.case("swapped", wrong="y x")
def torch_atan2_order(rng: np.random.Generator) -> Made:
    """The arguments are (y, x), the gradients are returned as (x, y)."""
    import torch

    class Atan2(torch.autograd.Function):
        @staticmethod
        def forward(ctx, y, x):
            ctx.save_for_backward(y, x)
            return torch.atan2(y, x)

        @staticmethod
        def backward(ctx, grad_output):
            y, x = ctx.saved_tensors
            r2 = x * x + y * y
            grad_x = -y / r2 * grad_output
            grad_y = x / r2 * grad_output
            return grad_x, grad_y

    inputs = rng.normal(size=(4, 3)), rng.random((4, 3)) + 0.5
    return Made(Atan2, inputs)


@corpus.case("formula", wrong="logits")
def torch_focal_loss_exponent(rng: np.random.Generator) -> Made:
    """The power of (1 - p) is not lowered by one in its derivative."""
    import torch

    class FocalLoss(torch.autograd.Function):
        @staticmethod
        def forward(ctx, logits, labels):
            p = torch.softmax(logits, dim=1)
            pt = p.gather(1, labels[:, None])
            ctx.save_for_backward(p, pt, labels)
            ctx.gamma = 2.5
            return -((1 - pt) ** ctx.gamma * pt.log()).mean()

        @staticmethod
        def backward(ctx, grad_output):
            p, pt, labels = ctx.saved_tensors
            gamma = ctx.gamma
            d_pt = gamma * (1 - pt) ** gamma * pt.log() - (1 - pt) ** gamma / pt
            onehot = torch.nn.functional.one_hot(labels, p.shape[1])
            grad = d_pt * pt * (onehot - p) / len(p)
            return grad_output * grad, None

    return Made(FocalLoss, (rng.normal(size=(6, 4)), rng.integers(0, 4, 6)))
