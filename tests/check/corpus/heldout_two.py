"""A second held-out set of wrong backward passes, written without a look at the others."""

from __future__ import annotations

import numpy as np

import groundup as gu
from corpus.case import Corpus, Made
from groundup.nn import Buffer, Module, Parameter

corpus = Corpus()


# ----------------------------------------------------------------------------- groundup Modules


@corpus.case("factor", wrong="r")
def harmonic_bond_half_kept(rng: np.random.Generator) -> Made:
    """The 2 of the square is kept, though the 1/2 in front cancels it."""

    class Bonds(Module):
        """Energy k/2 (r - r0)**2 of each bond."""

        def __init__(self, rng):
            self.k = Parameter(rng.uniform(0.5, 2.0, size=4))
            self.r0 = Parameter(rng.uniform(0.8, 1.2, size=4))

        def forward(self, r):
            stretch = r - self.r0
            return 0.5 * self.k * stretch * stretch

        def bwd(self, out, r):
            stretch = r - self.r0
            r.g = 2.0 * self.k * stretch * out.g
            self.r0.g = -self.k * stretch * out.g
            self.k.g = 0.5 * stretch * stretch * out.g

    return Made(Bonds(rng), (rng.uniform(0.5, 1.8, size=(5, 4)),))


@corpus.case("sign", wrong="mu")
def gaussian_nll_residual_reversed(rng: np.random.Generator) -> Made:
    """The gradient of the mean points away from the target: y - mu for mu - y."""

    class GaussianNll(Module):
        def forward(self, mu, log_var, y):
            diff = y - mu
            return 0.5 * (log_var + diff * diff * (-log_var).exp()).mean()

        def bwd(self, out, mu, log_var, y):
            n = mu.size
            precision = (-log_var).exp()
            diff = y - mu
            mu.g = diff * precision * out.g / n
            y.g = diff * precision * out.g / n
            log_var.g = 0.5 * (1.0 - diff * diff * precision) * out.g / n

    inputs = (rng.normal(size=(5, 3)), 0.5 * rng.normal(size=(5, 3)), rng.normal(size=(5, 3)))
    return Made(GaussianNll(), inputs)


@corpus.case("sign", wrong="km")
def michaelis_menten_denominator(rng: np.random.Generator) -> Made:
    """km stands in the denominator, its minus is forgotten."""

    class MichaelisMenten(Module):
        """Rate vmax s / (km + s)."""

        def __init__(self, rng):
            self.vmax = Parameter(rng.uniform(1.0, 3.0, size=3))
            self.km = Parameter(rng.uniform(0.5, 2.0, size=3))

        def forward(self, s):
            return self.vmax * s / (self.km + s)

        def bwd(self, out, s):
            total = self.km + s
            s.g = out.g * self.vmax * self.km / (total * total)
            self.vmax.g = out.g * s / total
            self.km.g = out.g * self.vmax * s / (total * total)

    return Made(MichaelisMenten(rng), (rng.uniform(0.2, 4.0, size=(6, 3)),))


@corpus.case("mean", wrong="x")
def mean_pool_over_time(rng: np.random.Generator) -> Made:
    """Every time step gets the whole gradient of the mean over time."""

    class PooledHead(Module):
        def __init__(self, rng):
            self.w = Parameter(rng.normal(size=(4, 3)))
            self.b = Parameter(rng.normal(size=3))

        def forward(self, x):
            return x.mean(1) @ self.w + self.b

        def bwd(self, out, x):
            self.w.g = x.mean(1).T @ out.g
            self.b.g = out.g.sum(0)
            pooled = out.g @ self.w.T
            x.g = pooled.unsqueeze(1).expand(*x.shape)

    return Made(PooledHead(rng), (rng.normal(size=(5, 6, 4)),))


@corpus.case("transpose", wrong="x")
def residual_dense_square(rng: np.random.Generator) -> Made:
    """The gradient goes back through w where w.T is meant."""

    class ResidualDense(Module):
        def __init__(self, rng):
            self.w = Parameter(rng.normal(size=(4, 4)))
            self.b = Parameter(rng.normal(size=4))

        def forward(self, x):
            return x + (x @ self.w + self.b).relu()

        def bwd(self, out, x):
            dz = out.g * (x @ self.w + self.b > 0)
            self.w.g = x.T @ dz
            self.b.g = dz.sum(0)
            x.g = out.g + dz @ self.w

    return Made(ResidualDense(rng), (rng.normal(size=(6, 4)),))


@corpus.case("mask", wrong="x w1 b1 w2 b2")
def mlp_mask_of_first_layer_twice(rng: np.random.Generator) -> Made:
    """The second relu's mask is made from the first layer's pre-activation."""

    class Mlp(Module):
        def __init__(self, rng):
            self.w1 = Parameter(rng.normal(size=(4, 6)))
            self.b1 = Parameter(0.1 * rng.normal(size=6))
            self.w2 = Parameter(rng.normal(size=(6, 6)))
            self.b2 = Parameter(0.1 * rng.normal(size=6))
            self.w3 = Parameter(rng.normal(size=(6, 2)))

        def forward(self, x):
            a1 = (x @ self.w1 + self.b1).relu()
            a2 = (a1 @ self.w2 + self.b2).relu()
            return a2 @ self.w3

        def bwd(self, out, x):
            z1 = x @ self.w1 + self.b1
            a1 = z1.relu()
            z2 = a1 @ self.w2 + self.b2
            a2 = z2.relu()
            self.w3.g = a2.T @ out.g
            dz2 = (out.g @ self.w3.T) * (z1 > 0)
            self.w2.g = a1.T @ dz2
            self.b2.g = dz2.sum(0)
            dz1 = (dz2 @ self.w2.T) * (z1 > 0)
            self.w1.g = x.T @ dz1
            self.b1.g = dz1.sum(0)
            x.g = dz1 @ self.w1.T

    return Made(Mlp(rng), (rng.normal(size=(5, 4)),))


@corpus.case("mask", wrong="mu", also="activation")
def bounded_action_clamp_passed(rng: np.random.Generator) -> Made:
    """The gradient passes the clamp also where the action is out of bounds."""

    class BoundedAction(Module):
        def __init__(self, rng):
            self.scale = Parameter(rng.uniform(0.5, 2.0, size=3))

        def forward(self, mu):
            return self.scale * mu.clamp(-1.0, 1.0)

        def bwd(self, out, mu):
            self.scale.g = (out.g * mu.clamp(-1.0, 1.0)).sum(0)
            mu.g = self.scale * out.g

    return Made(BoundedAction(rng), (1.5 * rng.normal(size=(6, 3)),))


@corpus.case("output", wrong="x w b")
def dense_tanh_of_preactivation(rng: np.random.Generator) -> Made:
    """1 - z**2 with the pre-activation z, where the output is meant."""

    class DenseTanh(Module):
        def __init__(self, rng):
            self.w = Parameter(0.5 * rng.normal(size=(4, 3)))
            self.b = Parameter(0.5 * rng.normal(size=3))

        def forward(self, x):
            return (x @ self.w + self.b).tanh()

        def bwd(self, out, x):
            z = x @ self.w + self.b
            dz = out.g * (1.0 - z * z)
            self.w.g = x.T @ dz
            self.b.g = dz.sum(0)
            x.g = dz @ self.w.T

    return Made(DenseTanh(rng), (rng.normal(size=(5, 4)),))


@corpus.case("overwritten", wrong="w", also="detached")
def tied_autoencoder(rng: np.random.Generator) -> Made:
    """w encodes and decodes; the encoder's gradient replaces the decoder's."""

    class TiedAutoencoder(Module):
        def __init__(self, rng):
            self.w = Parameter(rng.normal(size=(5, 3)))
            self.b = Parameter(rng.normal(size=3))
            self.c = Parameter(rng.normal(size=5))

        def forward(self, x):
            return (x @ self.w + self.b).sigmoid() @ self.w.T + self.c

        def bwd(self, out, x):
            h = (x @ self.w + self.b).sigmoid()
            dw = out.g.T @ h
            self.c.g = out.g.sum(0)
            dz = (out.g @ self.w) * h * (1.0 - h)
            dw = x.T @ dz
            self.w.g = dw
            self.b.g = dz.sum(0)
            x.g = dz @ self.w.T

    return Made(TiedAutoencoder(rng), (rng.normal(size=(6, 5)),))


class Elman(Module):
    """The last state of a tanh recurrence over x (batch, time, n_in)."""

    def __init__(self, rng, n_in=3, n_hidden=5):
        self.wx = Parameter(0.6 * rng.normal(size=(n_in, n_hidden)))
        self.wh = Parameter(0.4 * rng.normal(size=(n_hidden, n_hidden)))

    def states(self, x):
        hs = [(x[:, 0] @ self.wx).tanh()]
        for t in range(1, x.shape[1]):
            hs.append((x[:, t] @ self.wx + hs[-1] @ self.wh).tanh())
        return hs

    def forward(self, x):
        return self.states(x)[-1]


@corpus.case("overwritten", wrong="wx", also="detached")
def elman_input_weight_of_first_step(rng: np.random.Generator) -> Made:
    """The input weight's gradient is assigned anew in every time step; the first step's stays."""

    class Wrong(Elman):
        def bwd(self, out, x):
            hs = self.states(x)
            dxs = []
            dwh = 0.0
            dh = out.g
            for t in reversed(range(len(hs))):
                dz = dh * (1.0 - hs[t] * hs[t])
                dwx = x[:, t].T @ dz
                if t > 0:
                    dwh = dwh + hs[t - 1].T @ dz
                dxs.append(dz @ self.wx.T)
                dh = dz @ self.wh.T
            self.wx.g = dwx
            self.wh.g = dwh
            x.g = gu.stack(dxs[::-1], 1)

    return Made(Wrong(rng), (rng.normal(size=(4, 6, 3)),))


@corpus.case("stale", wrong="logits")
def cross_entropy_first_probabilities(rng: np.random.Generator) -> Made:
    """The probabilities are computed once and kept, whatever batch comes next."""

    class SoftmaxLoss(Module):
        def __init__(self):
            self.probabilities = None

        def forward(self, logits, labels):
            if self.probabilities is None:
                self.probabilities = logits.softmax(1).numpy()
            log_p = logits.log_softmax(1)
            return -log_p[gu.arange(len(labels)), labels].mean()

        def bwd(self, out, logits, labels):
            n, classes = logits.shape
            hot = gu.one_hot(labels, classes, dtype=logits.dtype)
            logits.g = (self.probabilities - hot) / n * out.g

    loss = SoftmaxLoss()
    labels = rng.integers(0, 4, size=6)
    loss(rng.normal(size=(6, 4)), labels)
    return Made(loss, (rng.normal(size=(6, 4)), labels))


@corpus.case("stale", wrong="x", also="operand")
def dense_transpose_kept_from_start(rng: np.random.Generator) -> Made:
    """The transposed weight is made once, and not again after w was trained."""

    class Dense(Module):
        def __init__(self, rng):
            w = rng.normal(size=(4, 3))
            self.w = Parameter(w)
            self.wt = Buffer(w.T.copy())

        def forward(self, x):
            return x @ self.w

        def bwd(self, out, x):
            x.g = out.g @ self.wt
            self.w.g = x.T @ out.g

    layer = Dense(rng)
    step = rng.normal(size=(4, 3)).astype(layer.w.dtype)
    layer.w.data = layer.w.data - 0.3 * step
    return Made(layer, (rng.normal(size=(5, 4)),))


@corpus.case("activation", wrong="x w1 b1")
def regressor_tanh_forgotten(rng: np.random.Generator) -> Made:
    """What arrives at the hidden layer goes on without the derivative of tanh."""

    class Regressor(Module):
        def __init__(self, rng):
            self.w1 = Parameter(rng.normal(size=(3, 6)))
            self.b1 = Parameter(rng.normal(size=6))
            self.w2 = Parameter(rng.normal(size=(6, 2)))
            self.b2 = Parameter(rng.normal(size=2))

        def forward(self, x):
            return (x @ self.w1 + self.b1).tanh() @ self.w2 + self.b2

        def bwd(self, out, x):
            h = (x @ self.w1 + self.b1).tanh()
            self.w2.g = h.T @ out.g
            self.b2.g = out.g.sum(0)
            dh = out.g @ self.w2.T
            self.w1.g = x.T @ dh
            self.b1.g = dh.sum(0)
            x.g = dh @ self.w1.T

    return Made(Regressor(rng), (rng.normal(size=(5, 3)),))


@corpus.case("activation", wrong="x wt bt")
def highway_gate_sigmoid_forgotten(rng: np.random.Generator) -> Made:
    """The gate's gradient is sent on as if the gate were linear."""

    class Highway(Module):
        def __init__(self, rng):
            self.wh = Parameter(rng.normal(size=(4, 4)))
            self.wt = Parameter(rng.normal(size=(4, 4)))
            self.bt = Parameter(rng.normal(size=4))

        def forward(self, x):
            h = (x @ self.wh).relu()
            t = (x @ self.wt + self.bt).sigmoid()
            return t * h + (1.0 - t) * x

        def bwd(self, out, x):
            z = x @ self.wh
            t = (x @ self.wt + self.bt).sigmoid()
            dz = out.g * t * (z > 0)
            dt = out.g * (z.relu() - x)
            self.wh.g = x.T @ dz
            self.wt.g = x.T @ dt
            self.bt.g = dt.sum(0)
            x.g = dz @ self.wh.T
            x.g = dt @ self.wt.T
            x.g = out.g * (1.0 - t)

    return Made(Highway(rng), (rng.normal(size=(5, 4)),))


@corpus.case("softmax", wrong="q k")
def attention_softmax_elementwise(rng: np.random.Generator) -> Made:
    """The attention weights are differentiated as if each depended on its own score alone."""

    class Attention(Module):
        def forward(self, q, k, v):
            return (q @ k.T / q.shape[1] ** 0.5).softmax(1) @ v

        def bwd(self, out, q, k, v):
            scale = q.shape[1] ** -0.5
            a = (q @ k.T * scale).softmax(1)
            v.g = a.T @ out.g
            da = out.g @ v.T
            ds = da * a * (1.0 - a) * scale
            q.g = ds @ k
            k.g = ds.T @ q

    inputs = (rng.normal(size=(5, 4)), rng.normal(size=(6, 4)), rng.normal(size=(6, 3)))
    return Made(Attention(), inputs)


@corpus.case("eps", wrong="x gain")
def rms_norm_eps_after_root(rng: np.random.Generator) -> Made:
    """The forward has eps under the root, the backward adds it to the root."""

    class RmsNorm(Module):
        def __init__(self, rng, n=5, eps=1e-2):
            self.gain = Parameter(rng.uniform(0.5, 1.5, size=n))
            self.eps = eps

        def forward(self, x):
            return x / ((x * x).mean(-1, keepdims=True) + self.eps).sqrt() * self.gain

        def bwd(self, out, x):
            rms = (x * x).mean(-1, keepdims=True).sqrt() + self.eps
            scaled = x / rms
            self.gain.g = (out.g * scaled).sum(0)
            d = out.g * self.gain
            x.g = (d - scaled * (d * scaled).mean(-1, keepdims=True)) / rms

    return Made(RmsNorm(rng), (0.3 * rng.normal(size=(4, 5)),))


@corpus.case("eps", wrong="re im")
def log_power_floor_left_out(rng: np.random.Generator) -> Made:
    """The floor under the logarithm of the power is missing in the derivative."""

    class LogPower(Module):
        """Log power of a spectrum from its real and imaginary part."""

        floor = 1e-2

        def forward(self, re, im):
            return (re * re + im * im + self.floor).log()

        def bwd(self, out, re, im):
            power = re * re + im * im
            re.g = 2.0 * re / power * out.g
            im.g = 2.0 * im / power * out.g

    return Made(LogPower(), (0.3 * rng.normal(size=(3, 8)), 0.3 * rng.normal(size=(3, 8))))


@corpus.case("axis", wrong="x u")
def attention_pool_sums_over_batch(rng: np.random.Generator) -> Made:
    """The softmax is over time, the sum in its backward over the batch."""

    class AttentionPool(Module):
        def __init__(self, rng):
            self.u = Parameter(rng.normal(size=4))

        def forward(self, x):
            a = (x @ self.u).softmax(1)
            return (a.unsqueeze(2) * x).sum(1)

        def bwd(self, out, x):
            a = (x @ self.u).softmax(1)
            da = (x * out.g.unsqueeze(1)).sum(2)
            ds = a * (da - (a * da).sum(0, keepdims=True))
            self.u.g = (ds.unsqueeze(2) * x).sum((0, 1))
            x.g = a.unsqueeze(2) * out.g.unsqueeze(1) + ds.unsqueeze(2) * self.u

    return Made(AttentionPool(rng), (rng.normal(size=(3, 5, 4)),))


@corpus.case("detached", wrong="x")
def standardised_signal_deviation_constant(rng: np.random.Generator) -> Made:
    """The standard deviation is treated as a constant; the mean is not."""

    class Standardise(Module):
        """Each signal with mean zero and variance one."""

        def forward(self, x):
            centred = x - x.mean(1, keepdims=True)
            return centred / ((centred * centred).mean(1, keepdims=True) + 1e-5).sqrt()

        def bwd(self, out, x):
            centred = x - x.mean(1, keepdims=True)
            deviation = ((centred * centred).mean(1, keepdims=True) + 1e-5).sqrt()
            x.g = (out.g - out.g.mean(1, keepdims=True)) / deviation

    return Made(Standardise(), (rng.normal(size=(4, 7)),))


@corpus.case("detached", wrong="centers")
def center_loss_centers_fixed(rng: np.random.Generator) -> Made:
    """The features are pulled to their centers, the centers get nothing."""

    class CenterLoss(Module):
        def __init__(self, rng, classes=3, n=4):
            self.centers = Parameter(rng.normal(size=(classes, n)))

        def forward(self, x, labels):
            diff = x - self.centers[labels]
            return 0.5 * (diff * diff).sum() / len(x)

        def bwd(self, out, x, labels):
            x.g = (x - self.centers[labels]) / len(x) * out.g

    return Made(CenterLoss(rng), (rng.normal(size=(6, 4)), np.array([0, 2, 1, 0, 2, 2])))


class GruCell(Module):
    """One step of a gated recurrent unit."""

    def __init__(self, rng, n_in=3, n=4):
        self.wz, self.wr, self.wn = (Parameter(rng.normal(size=(n_in, n))) for _ in range(3))
        self.uz, self.ur, self.un = (Parameter(rng.normal(size=(n, n))) for _ in range(3))

    def gates(self, x, h):
        z = (x @ self.wz + h @ self.uz).sigmoid()
        r = (x @ self.wr + h @ self.ur).sigmoid()
        n = (x @ self.wn + r * (h @ self.un)).tanh()
        return z, r, n

    def forward(self, x, h):
        z, _, n = self.gates(x, h)
        return (1.0 - z) * n + z * h


@corpus.case("swapped", wrong="wz wr")
def gru_gate_weights_exchanged(rng: np.random.Generator) -> Made:
    """The input weights of the update and the reset gate get each other's gradient."""

    class Wrong(GruCell):
        def bwd(self, out, x, h):
            z, r, n = self.gates(x, h)
            dz = out.g * (h - n) * z * (1.0 - z)
            dn = out.g * (1.0 - z) * (1.0 - n * n)
            dr = dn * (h @ self.un) * r * (1.0 - r)
            self.wn.g = x.T @ dn
            self.wz.g = x.T @ dr
            self.wr.g = x.T @ dz
            self.un.g = h.T @ (dn * r)
            self.uz.g = h.T @ dz
            self.ur.g = h.T @ dr
            x.g = dn @ self.wn.T + dz @ self.wz.T + dr @ self.wr.T
            h.g = out.g * z + (dn * r) @ self.un.T + dz @ self.uz.T + dr @ self.ur.T

    return Made(Wrong(rng), (rng.normal(size=(5, 3)), rng.normal(size=(5, 4))))


@corpus.case("swapped", wrong="user item", also="operand")
def recommender_product(rng: np.random.Generator) -> Made:
    """Each factor of the product gets itself instead of the other one."""

    class Interaction(Module):
        def __init__(self, rng):
            self.w = Parameter(rng.normal(size=(4, 2)))

        def forward(self, user, item):
            return (user * item) @ self.w

        def bwd(self, out, user, item):
            self.w.g = (user * item).T @ out.g
            dprod = out.g @ self.w.T
            user.g = dprod * user
            item.g = dprod * item

    return Made(Interaction(rng), (rng.normal(size=(6, 4)), rng.normal(size=(6, 4))))


@corpus.case("cotangent", wrong="pred targ")
def mse_starts_from_one(rng: np.random.Generator) -> Made:
    """The loss takes itself for the end of the graph and leaves out.g out."""

    class MeanSquare(Module):
        def forward(self, pred, targ):
            diff = pred - targ
            return (diff * diff).mean()

        def bwd(self, out, pred, targ):
            slope = 2.0 * (pred - targ) / pred.size
            pred.g = slope
            targ.g = -slope

    return Made(MeanSquare(), (rng.normal(size=(5, 2)), rng.normal(size=(5, 2))))


@corpus.case("cotangent", wrong="pred targ")
def log_cosh_mean_of_what_arrives(rng: np.random.Generator) -> Made:
    """One loss for each example, but all get the mean of the gradients that arrive."""

    class LogCosh(Module):
        def forward(self, pred, targ):
            diff = pred - targ
            return (0.5 * (diff.exp() + (-diff).exp())).log()

        def bwd(self, out, pred, targ):
            slope = (pred - targ).tanh() * out.g.mean()
            pred.g = slope
            targ.g = -slope

    return Made(LogCosh(), (rng.normal(size=7), rng.normal(size=7)))


@corpus.case("operand", wrong="q")
def self_attention_query_times_query(rng: np.random.Generator) -> Made:
    """dq is the scores' gradient times the queries, where the keys are meant."""

    class Attention(Module):
        def forward(self, q, k, v):
            return (q @ k.T / q.shape[1] ** 0.5).softmax(1) @ v

        def bwd(self, out, q, k, v):
            scale = q.shape[1] ** -0.5
            a = (q @ k.T * scale).softmax(1)
            v.g = a.T @ out.g
            da = out.g @ v.T
            ds = a * (da - (a * da).sum(1, keepdims=True)) * scale
            q.g = ds @ q
            k.g = ds.T @ q

    inputs = (rng.normal(size=(5, 4)), rng.normal(size=(5, 4)), rng.normal(size=(5, 3)))
    return Made(Attention(), inputs)


@corpus.case("operand", wrong="a", also="formula")
def cosine_similarity_other_norm(rng: np.random.Generator) -> Made:
    """The second term for a is divided by the squared norm of b."""

    class CosineSimilarity(Module):
        def norms(self, a, b):
            na = (a * a).sum(1, keepdims=True).sqrt()
            nb = (b * b).sum(1, keepdims=True).sqrt()
            return na, nb

        def forward(self, a, b):
            na, nb = self.norms(a, b)
            return (a * b / (na * nb)).sum(1)

        def bwd(self, out, a, b):
            na, nb = self.norms(a, b)
            g, cos = out.g.unsqueeze(1), out.unsqueeze(1)
            a.g = g * (b / (na * nb) - cos * a / (nb * nb))
            b.g = g * (a / (na * nb) - cos * b / (nb * nb))

    return Made(CosineSimilarity(), (rng.normal(size=(6, 4)), 1.7 * rng.normal(size=(6, 4))))


@corpus.case("shift", wrong="x")
def fir_filter_adjoint_one_late(rng: np.random.Generator) -> Made:
    """The gradient of a causal filter's input is read one sample too late."""

    class Fir(Module):
        """y[t] = sum over k of taps[k] x[t - k]."""

        def __init__(self, rng, k=3):
            self.taps = Parameter(rng.normal(size=k))

        def forward(self, x):
            k, n = len(self.taps), x.shape[1]
            padded = gu.pad(x, ((0, 0), (k - 1, 0)))
            return sum(self.taps[i] * padded[:, k - 1 - i : k - 1 - i + n] for i in range(k))

        def bwd(self, out, x):
            k, n = len(self.taps), x.shape[1]
            padded = gu.pad(x, ((0, 0), (k - 1, 0)))
            self.taps.g = gu.stack(
                [(out.g * padded[:, k - 1 - i : k - 1 - i + n]).sum() for i in range(k)]
            )
            late = gu.pad(out.g, ((0, 0), (0, k)))
            x.g = sum(self.taps[i] * late[:, i + 1 : i + 1 + n] for i in range(k))

    return Made(Fir(rng), (rng.normal(size=(2, 9)),))


@corpus.case("shift", wrong="v")
def td_error_next_value_misplaced(rng: np.random.Generator) -> Made:
    """The part for the next step's value is added to the present step's."""

    class TdLoss(Module):
        """Half the squared one-step errors r[t] + gamma v[t + 1] - v[t]."""

        gamma = 0.9

        def forward(self, v, r):
            delta = r + self.gamma * v[:, 1:] - v[:, :-1]
            return 0.5 * (delta * delta).sum(1)

        def bwd(self, out, v, r):
            delta = r + self.gamma * v[:, 1:] - v[:, :-1]
            d = delta * out.g.unsqueeze(1)
            r.g = d
            v.g = gu.pad(-d, ((0, 0), (0, 1)))
            v.g = gu.pad(self.gamma * d, ((0, 0), (0, 1)))

    return Made(TdLoss(), (rng.normal(size=(4, 7)), rng.normal(size=(4, 6))))


@corpus.case("formula", wrong="x")
def gelu_tanh_inner_derivative(rng: np.random.Generator) -> Made:
    """The cubic term inside is differentiated without its 3."""

    class GeluTanh(Module):
        c = (2.0 / np.pi) ** 0.5

        def forward(self, x):
            return 0.5 * x * (1.0 + (self.c * (x + 0.044715 * x * x * x)).tanh())

        def bwd(self, out, x):
            t = (self.c * (x + 0.044715 * x * x * x)).tanh()
            inner = self.c * (1.0 + 0.044715 * x * x)
            x.g = out.g * (0.5 * (1.0 + t) + 0.5 * x * (1.0 - t * t) * inner)

    return Made(GeluTanh(), (1.3 * rng.normal(size=(5, 4)),))


@corpus.case("formula", wrong="x mu")
def student_t_degrees_in_denominator(rng: np.random.Generator) -> Made:
    """The denominator is 1 + r**2, where it is nu + r**2."""

    class StudentNll(Module):
        def __init__(self, rng, nu=4.0):
            self.mu = Parameter(rng.normal(size=3))
            self.nu = nu

        def forward(self, x):
            r = x - self.mu
            return 0.5 * (self.nu + 1.0) * (r * r / self.nu).log1p()

        def bwd(self, out, x):
            r = x - self.mu
            slope = (self.nu + 1.0) * r / (1.0 + r * r) * out.g
            x.g = slope
            self.mu.g = -slope.sum(0)

    return Made(StudentNll(rng), (1.5 * rng.normal(size=(6, 3)),))


# ------------------------------------------------------------------------------- NumPy pairs


def sigmoid(x):
    return 1.0 / (1.0 + np.exp(-x))


def softmax(x, axis=1):
    e = np.exp(x - x.max(axis=axis, keepdims=True))
    return e / e.sum(axis=axis, keepdims=True)


@corpus.case("factor", wrong="q k")
def scaled_scores_unscaled_back(rng: np.random.Generator) -> Made:
    """The scores are divided by the root of the width, their gradient is not."""

    def forward(q, k):
        return q @ k.T / np.sqrt(q.shape[1])

    def backward(dout, q, k):
        return dout @ k, dout.T @ q

    inputs = (rng.normal(size=(5, 3)), rng.normal(size=(4, 3)))
    return Made(forward, inputs, {"backward": backward})


@corpus.case("factor", wrong="x")
def inverted_dropout_not_rescaled(rng: np.random.Generator) -> Made:
    """Kept units are scaled up in the forward, their gradient is not."""
    keep = 0.7

    def dropout_forward(x):
        mask = np.random.default_rng(3).random(x.shape) < keep
        return x * mask / keep, mask

    def dropout_backward(dout, cache):
        mask = cache
        return dout * mask

    return Made(dropout_forward, (rng.normal(size=(6, 5)),), {"backward": dropout_backward})


@corpus.case("sign", wrong="neg")
def bpr_negative_item_pulled(rng: np.random.Generator) -> Made:
    """The item that was not chosen is moved as the chosen one is."""

    def forward(user, pos, neg):
        margin = (user * (pos - neg)).sum(axis=1)
        return np.log1p(np.exp(-margin)).mean()

    def backward(dout, user, pos, neg):
        margin = (user * (pos - neg)).sum(axis=1)
        dmargin = -sigmoid(-margin)[:, None] * dout / len(user)
        duser = dmargin * (pos - neg)
        dpos = dmargin * user
        dneg = dmargin * user
        return duser, dpos, dneg

    inputs = tuple(rng.normal(size=(5, 4)) for _ in range(3))
    return Made(forward, inputs, {"backward": backward})


@corpus.case("mean", wrong="logits")
def reinforce_sum_over_episodes(rng: np.random.Generator) -> Made:
    """The loss is a mean over the batch, the gradient of the logits is that of the sum."""

    def forward(logits, actions, returns):
        p = softmax(logits)
        chosen = p[np.arange(len(actions)), actions]
        return -(np.log(chosen) * returns).mean(), (p, actions, returns)

    def backward(dout, cache):
        p, actions, returns = cache
        n = len(actions)
        rows = np.arange(n)
        dlogits = p.copy()
        dlogits[rows, actions] -= 1
        dlogits *= returns[:, None] * dout
        dreturns = -np.log(p[rows, actions]) * dout / n
        return dlogits, None, dreturns

    inputs = (rng.normal(size=(6, 3)), rng.integers(0, 3, size=6), rng.normal(size=6))
    return Made(forward, inputs, {"backward": backward})


@corpus.case("mean", wrong="log_rate")
def poisson_loss_not_averaged(rng: np.random.Generator) -> Made:
    """The Poisson loss is averaged, its gradient not."""

    def forward(log_rate, counts):
        return (np.exp(log_rate) - counts * log_rate).mean()

    def backward(dout, log_rate, counts):
        return {"log_rate": (np.exp(log_rate) - counts) * dout}

    inputs = (rng.normal(size=11), rng.integers(0, 6, size=11))
    return Made(forward, inputs, {"backward": backward})


@corpus.case("transpose", wrong="w")
def bilinear_score_weight(rng: np.random.Generator) -> Made:
    """The outer product of the weight's gradient is the wrong way round."""

    def bilinear(q, w, k):
        return ((q @ w) * k).sum(axis=1), (q, w, k)

    def bilinear_backward(dout, cache):
        q, w, k = cache
        d = dout[:, None]
        dq = d * (k @ w.T)
        dk = d * (q @ w)
        dw = (d * k).T @ q
        return dq, dw, dk

    inputs = (rng.normal(size=(6, 4)), rng.normal(size=(4, 4)), rng.normal(size=(6, 4)))
    return Made(bilinear, inputs, {"backward": bilinear_backward})


@corpus.case("sum", wrong="gamma")
def layernorm_gain_not_summed(rng: np.random.Generator) -> Made:
    """The gain's gradient keeps the batch axis."""

    def layernorm_forward(x, gamma, beta):
        mu = x.mean(axis=1, keepdims=True)
        rstd = 1 / np.sqrt(x.var(axis=1, keepdims=True) + 1e-5)
        xhat = (x - mu) * rstd
        return gamma * xhat + beta, (xhat, rstd, gamma)

    def layernorm_backward(dout, cache):
        xhat, rstd, gamma = cache
        dgamma = dout * xhat
        dbeta = dout.sum(axis=0)
        dxhat = dout * gamma
        dx = dxhat - dxhat.mean(axis=1, keepdims=True)
        dx = rstd * (dx - xhat * (dxhat * xhat).mean(axis=1, keepdims=True))
        return dx, dgamma, dbeta

    inputs = (rng.normal(size=(4, 5)), rng.normal(size=5), rng.normal(size=5))
    return Made(layernorm_forward, inputs, {"backward": layernorm_backward})


@corpus.case("sum", wrong="pos", also="bias")
def position_embedding_keeps_batch(rng: np.random.Generator) -> Made:
    """The positions are shared by all sequences, their gradient is handed back for each."""

    def forward(x, pos):
        return np.sqrt(x.shape[-1]) * x + pos

    def backward(dout, x, pos):
        return {"x": np.sqrt(x.shape[-1]) * dout, "pos": dout}

    inputs = (rng.normal(size=(3, 5, 4)), rng.normal(size=(5, 4)))
    return Made(forward, inputs, {"backward": backward})


@corpus.case("sum", wrong="tau")
def temperature_for_each_logit(rng: np.random.Generator) -> Made:
    """One temperature for all logits, but a gradient for each of them."""

    def forward(logits, tau):
        return logits / tau

    def backward(dout, logits, tau):
        dlogits = dout / tau
        dtau = -dout * logits / tau**2
        return dlogits, dtau

    inputs = (rng.normal(size=(5, 3)), np.array([1.6]))
    return Made(forward, inputs, {"backward": backward})


@corpus.case("bias", wrong="b1", also="sum")
def two_layer_net_hidden_bias(rng: np.random.Generator) -> Made:
    """The hidden layer's bias gets the gradient of every example."""

    def forward(x, w1, b1, w2, b2):
        h = np.maximum(x @ w1 + b1, 0)
        return h @ w2 + b2, (x, w1, w2, h)

    def backward(dout, cache):
        x, w1, w2, h = cache
        dw2 = h.T @ dout
        db2 = dout.sum(axis=0)
        dz = dout @ w2.T * (h > 0)
        dw1 = x.T @ dz
        db1 = dz
        return dz @ w1.T, dw1, db1, dw2, db2

    shapes = ((6, 4), (4, 5), (5,), (5, 3), (3,))
    inputs = tuple(rng.normal(size=s) for s in shapes)
    return Made(forward, inputs, {"backward": backward})


@corpus.case("bias", wrong="b", also="sum")
def conv1d_bias_keeps_positions(rng: np.random.Generator) -> Made:
    """The bias of a channel is summed over the batch and not over the positions."""

    def forward(x, w, b):
        n, _, length = x.shape
        filters, _, k = w.shape
        out = np.zeros((n, filters, length - k + 1))
        for i in range(out.shape[2]):
            out[:, :, i] = np.einsum("nck,fck->nf", x[:, :, i : i + k], w)
        return out + b[None, :, None]

    def backward(dout, x, w, b):
        k = w.shape[2]
        dx, dw = np.zeros_like(x), np.zeros_like(w)
        for i in range(dout.shape[2]):
            dw += np.einsum("nf,nck->fck", dout[:, :, i], x[:, :, i : i + k])
            dx[:, :, i : i + k] += np.einsum("nf,fck->nck", dout[:, :, i], w)
        db = dout.sum(axis=0)
        return dx, dw, db

    inputs = (rng.normal(size=(4, 2, 8)), rng.normal(size=(3, 2, 3)), rng.normal(size=3))
    return Made(forward, inputs, {"backward": backward})


@corpus.case("bias", wrong="b", also="sum")
def rnn_bias_summed_over_time_only(rng: np.random.Generator) -> Made:
    """The bias collects all time steps, but one row for each sequence."""

    def rnn_forward(x, wx, wh, b):
        hs = [np.zeros((len(x), len(b)))]
        for t in range(x.shape[1]):
            hs.append(np.tanh(x[:, t] @ wx + hs[-1] @ wh + b))
        return np.stack(hs[1:], axis=1), (x, wx, wh, hs)

    def rnn_backward(dout, cache):
        x, wx, wh, hs = cache
        dx, dwx, dwh = np.zeros_like(x), np.zeros_like(wx), np.zeros_like(wh)
        db = 0
        dh = np.zeros_like(hs[0])
        for t in reversed(range(x.shape[1])):
            dz = (dout[:, t] + dh) * (1 - hs[t + 1] ** 2)
            dwx += x[:, t].T @ dz
            dwh += hs[t].T @ dz
            db = db + dz
            dx[:, t] = dz @ wx.T
            dh = dz @ wh.T
        return dx, dwx, dwh, db

    shapes = ((3, 6, 2), (2, 4), (4, 4), (4,))
    inputs = tuple(0.7 * rng.normal(size=s) for s in shapes)
    return Made(rnn_forward, inputs, {"backward": rnn_backward})


@corpus.case("mask", wrong="pred targ")
def padded_sequences_all_steps(rng: np.random.Generator) -> Made:
    """Steps behind a sequence's end count in the gradient and not in the loss."""

    def forward(pred, targ, lengths):
        valid = np.arange(pred.shape[1]) < lengths[:, None]
        return (valid * (pred - targ) ** 2).sum() / valid.sum()

    def backward(dout, pred, targ, lengths):
        valid = np.arange(pred.shape[1]) < lengths[:, None]
        dpred = 2 * (pred - targ) / valid.sum() * dout
        return dpred, -dpred, None

    inputs = (rng.normal(size=(4, 6)), rng.normal(size=(4, 6)), np.array([6, 2, 4, 3]))
    return Made(forward, inputs, {"backward": backward})


@corpus.case("output", wrong="x")
def glu_gate_sigmoid_twice(rng: np.random.Generator) -> Made:
    """The gate is put through the sigmoid once more before its derivative is taken."""

    def glu(x):
        a, b = np.split(x, 2, axis=1)
        gate = sigmoid(b)
        return a * gate, (a, gate)

    def glu_backward(dout, cache):
        a, gate = cache
        da = dout * gate
        db = dout * a * sigmoid(gate) * (1 - sigmoid(gate))
        return np.concatenate([da, db], axis=1)

    return Made(glu, (1.5 * rng.normal(size=(5, 6)),), {"backward": glu_backward})


@corpus.case("overwritten", wrong="x", also="detached")
def residual_block_skip_lost(rng: np.random.Generator) -> Made:
    """dx of the branch replaces dx of the skip."""

    def block_forward(x, w1, w2):
        h = np.maximum(x @ w1, 0)
        return x + h @ w2, (x, w1, w2, h)

    def block_backward(dout, cache):
        x, w1, w2, h = cache
        dx = dout.copy()
        dw2 = h.T @ dout
        dh = dout @ w2.T
        dh[h <= 0] = 0
        dw1 = x.T @ dh
        dx = dh @ w1.T
        return dx, dw1, dw2

    inputs = (rng.normal(size=(5, 4)), rng.normal(size=(4, 6)), rng.normal(size=(6, 4)))
    return Made(block_forward, inputs, {"backward": block_backward})


@corpus.case("overwritten", wrong="x w u b", also="detached")
def lstm_cell_state_gradient_reset(rng: np.random.Generator) -> Made:
    """dc from the output replaces the dc that came from the next step."""

    def lstm_forward(x, w, u, b):
        n, steps, _ = x.shape
        h = c = np.zeros((n, len(u)))
        cache = []
        for t in range(steps):
            i, f, o, g = np.split(x[:, t] @ w + h @ u + b, 4, axis=1)
            i, f, o, g = sigmoid(i), sigmoid(f), sigmoid(o), np.tanh(g)
            before = (h, c)
            c = f * c + i * g
            h = o * np.tanh(c)
            cache.append((before, c, i, f, o, g))
        return h, (x, w, u, cache)

    def lstm_backward(dout, cache):
        x, w, u, steps = cache
        dx, dw, du, db = np.zeros_like(x), np.zeros_like(w), np.zeros_like(u), 0
        dh, dc = dout, np.zeros_like(dout)
        for t in reversed(range(len(steps))):
            (h0, c0), c, i, f, o, g = steps[t]
            tc = np.tanh(c)
            do = dh * tc
            dc = dh * o * (1 - tc**2)
            dz = np.concatenate(
                [
                    dc * g * i * (1 - i),
                    dc * c0 * f * (1 - f),
                    do * o * (1 - o),
                    dc * i * (1 - g**2),
                ],
                axis=1,
            )
            dx[:, t] = dz @ w.T
            dw += x[:, t].T @ dz
            du += h0.T @ dz
            db = db + dz.sum(axis=0)
            dh = dz @ u.T
            dc = dc * f
        return dx, dw, du, db

    shapes = ((3, 5, 2), (2, 16), (4, 16), (16,))
    inputs = tuple(0.7 * rng.normal(size=s) for s in shapes)
    return Made(lstm_forward, inputs, {"backward": lstm_backward})


@corpus.case("scatter", wrong="table")
def token_embedding_plus_equals(rng: np.random.Generator) -> Made:
    """`+=` through an index array adds a repeated token once."""

    def embed(tokens, table):
        return table[tokens]

    def embed_backward(dout, tokens, table):
        dtable = np.zeros_like(table)
        dtable[tokens] += dout
        return None, dtable

    tokens = np.array([[1, 4, 1, 0], [4, 4, 2, 5], [0, 1, 3, 1]])
    return Made(embed, (tokens, rng.normal(size=(7, 3))), {"backward": embed_backward})


@corpus.case("scatter", wrong="x")
def graph_messages_from_shared_source(rng: np.random.Generator) -> Made:
    """A node that sends along several edges keeps the gradient of the last one."""

    def forward(x, src, dst, w):
        out = np.zeros((len(x), w.shape[1]))
        np.add.at(out, dst, x[src] @ w)
        return out, (x, src, dst, w)

    def backward(dout, cache):
        x, src, dst, w = cache
        dmessage = dout[dst]
        dw = x[src].T @ dmessage
        dx = np.zeros_like(x)
        dx[src] = dmessage @ w.T
        return dx, None, None, dw

    src = np.array([0, 0, 1, 2, 2, 2, 3, 4])
    dst = np.array([1, 2, 0, 3, 4, 1, 0, 0])
    inputs = (rng.normal(size=(5, 3)), src, dst, rng.normal(size=(3, 4)))
    return Made(forward, inputs, {"backward": backward})


@corpus.case("stale", wrong="x")
def max_pool_switches_of_first_batch(rng: np.random.Generator) -> Made:
    """Where the maxima were is noted for the first batch and never again."""
    memory: dict[str, np.ndarray] = {}

    def pool_forward(x):
        windows = x.reshape(x.shape[0], -1, 2)
        memory.setdefault("argmax", windows.argmax(axis=2))
        return windows.max(axis=2)

    def pool_backward(dout, x):
        dwindows = np.zeros((x.shape[0], x.shape[1] // 2, 2))
        np.put_along_axis(dwindows, memory["argmax"][..., None], dout[..., None], axis=2)
        return dwindows.reshape(x.shape)

    pool_forward(rng.normal(size=(5, 8)))
    return Made(pool_forward, (rng.normal(size=(5, 8)),), {"backward": pool_backward})


@corpus.case("activation", wrong="image kernel", also="mask")
def conv2d_relu_forgotten(rng: np.random.Generator) -> Made:
    """The relu after the convolution has no part in the backward."""

    def forward(image, kernel):
        n, rows, cols = image.shape
        kh, kw = kernel.shape
        z = np.zeros((n, rows - kh + 1, cols - kw + 1))
        for i in range(kh):
            for j in range(kw):
                z += kernel[i, j] * image[:, i : i + z.shape[1], j : j + z.shape[2]]
        return np.maximum(z, 0), (image, kernel)

    def backward(dout, cache):
        image, kernel = cache
        dimage, dkernel = np.zeros_like(image), np.zeros_like(kernel)
        _, rows, cols = dout.shape
        for i in range(kernel.shape[0]):
            for j in range(kernel.shape[1]):
                dkernel[i, j] = (dout * image[:, i : i + rows, j : j + cols]).sum()
                dimage[:, i : i + rows, j : j + cols] += kernel[i, j] * dout
        return dimage, dkernel

    inputs = (rng.normal(size=(2, 6, 5)), rng.normal(size=(3, 2)))
    return Made(forward, inputs, {"backward": backward})


@corpus.case("softmax", wrong="x gate")
def mixture_of_experts_gate(rng: np.random.Generator) -> Made:
    """The gate's softmax is differentiated like a sigmoid, p * (1 - p)."""

    def forward(x, gate, experts):
        p = softmax(x @ gate)
        return np.einsum("ne,nd,edm->nm", p, x, experts)

    def backward(dout, x, gate, experts):
        p = softmax(x @ gate)
        y = np.einsum("nd,edm->nem", x, experts)
        dp = np.einsum("nm,nem->ne", dout, y)
        dlogits = dp * p * (1 - p)
        dgate = x.T @ dlogits
        dexperts = np.einsum("ne,nd,nm->edm", p, x, dout)
        dx = np.einsum("ne,nm,edm->nd", p, dout, experts) + dlogits @ gate.T
        return dx, dgate, dexperts

    inputs = (rng.normal(size=(5, 4)), rng.normal(size=(4, 3)), rng.normal(size=(3, 4, 2)))
    return Made(forward, inputs, {"backward": backward})


@corpus.case("eps", wrong="x")
def batchnorm_eps_beside_root(rng: np.random.Generator) -> Made:
    """The backward divides by the deviation plus eps, the forward by the root of var plus eps."""
    eps = 1e-3

    def batchnorm_forward(x, gamma, beta):
        mu, var = x.mean(axis=0), x.var(axis=0)
        xhat = (x - mu) / np.sqrt(var + eps)
        return gamma * xhat + beta, (xhat, var, gamma)

    def batchnorm_backward(dout, cache):
        xhat, var, gamma = cache
        n = len(dout)
        dbeta = dout.sum(axis=0)
        dgamma = (dout * xhat).sum(axis=0)
        inv_std = 1 / (np.sqrt(var) + eps)
        dx = gamma * inv_std / n * (n * dout - dbeta - xhat * dgamma)
        return dx, dgamma, dbeta

    inputs = (0.1 * rng.normal(size=(6, 4)), rng.uniform(0.5, 2, size=4), rng.normal(size=4))
    return Made(batchnorm_forward, inputs, {"backward": batchnorm_backward})


@corpus.case("axis", wrong="hazard")
def survival_cumulated_over_patients(rng: np.random.Generator) -> Made:
    """The reversed cumulative sum runs over the patients, where it is over time."""

    def survival(hazard):
        return np.exp(-np.cumsum(hazard, axis=1))

    def survival_backward(dout, hazard, out):
        dtotal = -out * dout
        return dtotal[::-1].cumsum(axis=0)[::-1]

    inputs = (rng.uniform(0.05, 0.6, size=(4, 6)),)
    return Made(survival, inputs, {"backward": survival_backward})


@corpus.case("detached", wrong="log_var")
def vae_noise_path_missing(rng: np.random.Generator) -> Made:
    """log_var gets the gradient of the divergence, none through the sample."""
    noise = rng.normal(size=(5, 3))

    def forward(mu, log_var, decoder, target):
        z = mu + np.exp(0.5 * log_var) * noise
        diff = z @ decoder - target
        divergence = 0.5 * (np.exp(log_var) + mu**2 - 1 - log_var).sum()
        return 0.5 * (diff**2).sum() + divergence, (mu, log_var, decoder, z, diff)

    def backward(dout, cache):
        mu, log_var, decoder, z, diff = cache
        ddiff = diff * dout
        dz = ddiff @ decoder.T
        dmu = dz + mu * dout
        dlog_var = 0.5 * (np.exp(log_var) - 1) * dout
        return dmu, dlog_var, z.T @ ddiff, -ddiff

    shapes = ((5, 3), (5, 3), (3, 4), (5, 4))
    inputs = tuple(rng.normal(size=s) for s in shapes)
    return Made(forward, inputs, {"backward": backward})


@corpus.case("swapped", wrong="gamma beta")
def instance_norm_returns_exchanged(rng: np.random.Generator) -> Made:
    """The gradients of gain and offset are handed back in the other order."""

    def instance_norm(x, gamma, beta):
        mu = x.mean(axis=2, keepdims=True)
        rstd = 1 / np.sqrt(x.var(axis=2, keepdims=True) + 1e-5)
        xhat = (x - mu) * rstd
        return xhat * gamma[:, None] + beta[:, None], (xhat, rstd, gamma)

    def instance_norm_backward(dout, cache):
        xhat, rstd, gamma = cache
        dbeta = dout.sum(axis=(0, 2))
        dgamma = (dout * xhat).sum(axis=(0, 2))
        dxhat = dout * gamma[:, None]
        dx = dxhat - dxhat.mean(axis=2, keepdims=True)
        dx = rstd * (dx - xhat * (dxhat * xhat).mean(axis=2, keepdims=True))
        return dx, dbeta, dgamma

    inputs = (rng.normal(size=(4, 3, 7)), rng.normal(size=3), rng.normal(size=3))
    return Made(instance_norm, inputs, {"backward": instance_norm_backward})


@corpus.case("cotangent", wrong="scores")
def svm_loss_alone(rng: np.random.Generator) -> Made:
    """The hinge loss hands back its own gradient and leaves dout out."""

    def svm_loss(scores, y):
        rows = np.arange(len(y))
        margins = np.maximum(0, scores - scores[rows, y][:, None] + 1)
        margins[rows, y] = 0
        return margins.sum() / len(y), (margins, y)

    def svm_backward(dout, cache):
        margins, y = cache
        dscores = (margins > 0).astype(float)
        dscores[np.arange(len(y)), y] = -dscores.sum(axis=1)
        return dscores / len(y), None

    inputs = (rng.normal(size=(6, 4)), rng.integers(0, 4, size=6))
    return Made(svm_loss, inputs, {"backward": svm_backward})


@corpus.case("operand", wrong="x w1 w2")
def mlp_back_through_wrong_weight(rng: np.random.Generator) -> Made:
    """The output layer's gradient goes back through the weight of the layer before."""

    def forward(x, w1, w2, w3):
        h1 = np.tanh(x @ w1)
        h2 = np.tanh(h1 @ w2)
        return h2 @ w3, (x, w1, w2, h1, h2)

    def backward(dout, cache):
        x, w1, w2, h1, h2 = cache
        dw3 = h2.T @ dout
        dz2 = dout @ w2.T * (1 - h2**2)
        dw2 = h1.T @ dz2
        dz1 = dz2 @ w2.T * (1 - h1**2)
        dw1 = x.T @ dz1
        return dz1 @ w1.T, dw1, dw2, dw3

    shapes = ((6, 3), (3, 4), (4, 4), (4, 4))
    inputs = tuple(0.8 * rng.normal(size=s) for s in shapes)
    return Made(forward, inputs, {"backward": backward})


@corpus.case("operand", wrong="gamma")
def layernorm_gain_from_raw_input(rng: np.random.Generator) -> Made:
    """The gain's gradient is taken with x, where the normalised x is meant."""

    def forward(x, gamma, beta):
        mu = x.mean(axis=-1, keepdims=True)
        rstd = 1 / np.sqrt(x.var(axis=-1, keepdims=True) + 1e-5)
        return (x - mu) * rstd * gamma + beta

    def backward(dout, x, gamma, beta):
        mu = x.mean(axis=-1, keepdims=True)
        rstd = 1 / np.sqrt(x.var(axis=-1, keepdims=True) + 1e-5)
        xhat = (x - mu) * rstd
        d = dout * gamma
        dx = d - d.mean(axis=-1, keepdims=True) - xhat * (d * xhat).mean(axis=-1, keepdims=True)
        return {
            "x": dx * rstd,
            "gamma": (dout * x).sum(axis=(0, 1)),
            "beta": dout.sum(axis=(0, 1)),
        }

    inputs = (1 + 2 * rng.normal(size=(2, 3, 5)), rng.normal(size=5), rng.normal(size=5))
    return Made(forward, inputs, {"backward": backward})


@corpus.case("shift", wrong="wh", also="operand")
def rnn_recurrent_weight_same_step(rng: np.random.Generator) -> Made:
    """The recurrent weight's gradient takes the state after the step, not the one before."""

    def rnn(x, h0, wx, wh):
        h, hs = h0, []
        for t in range(x.shape[1]):
            h = np.tanh(x[:, t] @ wx + h @ wh)
            hs.append(h)
        return np.stack(hs, axis=1)

    def rnn_backward(dout, x, h0, wx, wh, out):
        dx, dwx, dwh = np.zeros_like(x), np.zeros_like(wx), np.zeros_like(wh)
        dh = np.zeros_like(h0)
        for t in reversed(range(x.shape[1])):
            dz = (dout[:, t] + dh) * (1 - out[:, t] ** 2)
            dx[:, t] = dz @ wx.T
            dwx += x[:, t].T @ dz
            dwh += out[:, t].T @ dz
            dh = dz @ wh.T
        return dx, dh, dwx, dwh

    shapes = ((3, 5, 2), (3, 4), (2, 4), (4, 4))
    inputs = tuple(0.7 * rng.normal(size=s) for s in shapes)
    return Made(rnn, inputs, {"backward": rnn_backward})


@corpus.case("formula", wrong="r")
def lennard_jones_exponents(rng: np.random.Generator) -> Made:
    """The powers of r are not lowered by the derivative."""

    def energy(r, sigma, epsilon):
        s6 = (sigma / r) ** 6
        return 4 * epsilon * (s6**2 - s6)

    def energy_backward(dout, r, sigma, epsilon):
        s6 = (sigma / r) ** 6
        dr = dout * 4 * epsilon * (-12 * s6**2 + 6 * s6)
        dsigma = dout * 4 * epsilon * (12 * s6**2 - 6 * s6) / sigma
        depsilon = dout * 4 * (s6**2 - s6)
        return dr, dsigma, depsilon

    inputs = tuple(rng.uniform(lo, hi, size=8) for lo, hi in ((1.1, 2.4), (0.9, 1.3), (0.5, 1.5)))
    return Made(energy, inputs, {"backward": energy_backward})


# --------------------------------------------------------------------- torch.autograd.Functions


@corpus.case("factor", wrong="power", also="formula")
def torch_decibel_natural_log(rng: np.random.Generator) -> Made:
    """The logarithm to base ten is differentiated like the natural one."""
    import torch

    class Decibel(torch.autograd.Function):
        @staticmethod
        def forward(ctx, power):
            ctx.save_for_backward(power)
            return 10 * torch.log10(power)

        @staticmethod
        def backward(ctx, grad_output):
            (power,) = ctx.saved_tensors
            return grad_output * 10 / power

    return Made(Decibel, (rng.uniform(0.2, 5.0, size=(4, 6)),))


@corpus.case("transpose", wrong="a")
def torch_inverse_untransposed(rng: np.random.Generator) -> Made:
    """-B G B, where B.T G B.T is meant."""
    import torch

    class Inverse(torch.autograd.Function):
        @staticmethod
        def forward(ctx, a):
            inverse = torch.linalg.inv(a)
            ctx.save_for_backward(inverse)
            return inverse

        @staticmethod
        def backward(ctx, grad_output):
            (inverse,) = ctx.saved_tensors
            return -inverse @ grad_output @ inverse

    return Made(Inverse, (2 * np.eye(4) + 0.5 * rng.normal(size=(4, 4)),))


@corpus.case("sum", wrong="slope")
def torch_prelu_slope_keeps_columns(rng: np.random.Generator) -> Made:
    """The sum over the last axis is missing for a slope shared by a channel."""
    import torch

    class ChannelPRelu(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x, slope):
            ctx.save_for_backward(x, slope)
            return torch.where(x > 0, x, slope.view(1, -1, 1, 1) * x)

        @staticmethod
        def backward(ctx, grad_output):
            x, slope = ctx.saved_tensors
            grad_x = torch.where(x > 0, grad_output, slope.view(1, -1, 1, 1) * grad_output)
            grad_slope = (grad_output * x.clamp(max=0)).sum((0, 2))
            return grad_x, grad_slope

    return Made(ChannelPRelu, (rng.normal(size=(2, 3, 4, 5)), rng.uniform(0.1, 0.5, size=3)))


@corpus.case("mask", wrong="x")
def torch_leaky_relu_sides_exchanged(rng: np.random.Generator) -> Made:
    """The small slope is used on the positive side."""
    import torch

    class LeakyRelu(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(x)
            return torch.where(x > 0, x, 0.1 * x)

        @staticmethod
        def backward(ctx, grad_output):
            (x,) = ctx.saved_tensors
            grad_x = grad_output.clone()
            grad_x[x > 0] *= 0.1
            return grad_x

    return Made(LeakyRelu, (rng.normal(size=(5, 4)),))


@corpus.case("output", wrong="x")
def torch_softplus_saves_output(rng: np.random.Generator) -> Made:
    """The sigmoid of the output, where the input is meant."""
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

    return Made(Softplus, (rng.normal(size=(6, 3)),))


@corpus.case("scatter", wrong="weight")
def torch_embedding_index_assignment(rng: np.random.Generator) -> Made:
    """A word that occurs twice keeps the gradient of one occurrence."""
    import torch

    class Embedding(torch.autograd.Function):
        @staticmethod
        def forward(ctx, weight, words):
            ctx.save_for_backward(words)
            ctx.shape = weight.shape
            return weight[words]

        @staticmethod
        def backward(ctx, grad_output):
            (words,) = ctx.saved_tensors
            grad_weight = grad_output.new_zeros(ctx.shape)
            grad_weight[words] = grad_output
            return grad_weight, None

    return Made(Embedding, (rng.normal(size=(6, 4)), np.array([2, 0, 2, 5, 2, 0, 1])))


@corpus.case("softmax", wrong="x")
def torch_softmax_diagonal(rng: np.random.Generator) -> Made:
    """y * (1 - y) alone: the other entries of the row are forgotten."""
    import torch

    class Softmax(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            y = torch.softmax(x, dim=-1)
            ctx.save_for_backward(y)
            return y

        @staticmethod
        def backward(ctx, grad_output):
            (y,) = ctx.saved_tensors
            return grad_output * (y - y * y)

    return Made(Softmax, (rng.normal(size=(4, 5)),))


@corpus.case("axis", wrong="x")
def torch_logsumexp_normalised_down(rng: np.random.Generator) -> Made:
    """The forward goes along the rows, the softmax of the backward along the columns."""
    import torch

    class LogSumExp(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(x)
            return torch.logsumexp(x, dim=1)

        @staticmethod
        def backward(ctx, grad_output):
            (x,) = ctx.saved_tensors
            return grad_output.unsqueeze(1) * torch.softmax(x, dim=0)

    return Made(LogSumExp, (rng.normal(size=(6, 4)),))


@corpus.case("detached", wrong="x beta", also="formula")
def torch_swish_gate_constant(rng: np.random.Generator) -> Made:
    """The gate sigmoid(beta x) is taken for a constant."""
    import torch

    class Swish(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x, beta):
            gate = torch.sigmoid(beta * x)
            ctx.save_for_backward(gate, beta)
            return x * gate

        @staticmethod
        def backward(ctx, grad_output):
            gate, beta = ctx.saved_tensors
            return grad_output * gate, torch.zeros_like(beta)

    return Made(Swish, (rng.normal(size=(5, 3)), rng.uniform(0.5, 1.5, size=3)))


@corpus.case("formula", wrong="x")
def torch_arcsin_without_root(rng: np.random.Generator) -> Made:
    """1 / (1 - x**2), the root is forgotten."""
    import torch

    class Arcsin(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(x)
            return torch.asin(x)

        @staticmethod
        def backward(ctx, grad_output):
            (x,) = ctx.saved_tensors
            return grad_output / (1 - x**2)

    return Made(Arcsin, (rng.uniform(-0.9, 0.9, size=(4, 5)),))
