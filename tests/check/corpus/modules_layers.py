"""Wrong backward passes of layers, as Modules: dense, activations, normalisation, embedding."""

from __future__ import annotations

import math

import numpy as np

import groundup as gu
from corpus.case import Corpus, Made
from groundup.nn import Module, Parameter

corpus = Corpus()


# Dense layers


class Dense(Module):
    """inp @ w + b."""

    def __init__(self, rng, n_in=4, n_out=3):
        self.w = Parameter(rng.normal(size=(n_in, n_out)))
        self.b = Parameter(rng.normal(size=n_out))

    def forward(self, inp):
        return inp @ self.w + self.b


@corpus.case("mean", wrong="w")
def dense_weight_averaged(rng: np.random.Generator) -> Made:
    """dw is averaged over the batch, though the loss did that already."""

    class Wrong(Dense):
        def bwd(self, out, inp):
            inp.g = out.g @ self.w.T
            self.w.g = inp.T @ out.g / len(inp)
            self.b.g = out.g.sum(0)

    return Made(Wrong(rng), (rng.normal(size=(5, 4)),))


@corpus.case("mean", wrong="b")
def dense_bias_averaged(rng: np.random.Generator) -> Made:
    """db is the mean of the rows, not their sum."""

    class Wrong(Dense):
        def bwd(self, out, inp):
            inp.g = out.g @ self.w.T
            self.w.g = inp.T @ out.g
            self.b.g = out.g.mean(0)

    return Made(Wrong(rng), (rng.normal(size=(5, 4)),))


@corpus.case("bias", wrong="b", also="sum cotangent")
def dense_bias_first_row(rng: np.random.Generator) -> Made:
    """db is the first row's gradient only: what has b's shape."""

    class Wrong(Dense):
        def bwd(self, out, inp):
            inp.g = out.g @ self.w.T
            self.w.g = inp.T @ out.g
            self.b.g = out.g[0]

    return Made(Wrong(rng), (rng.normal(size=(5, 4)),))


@corpus.case("axis", wrong="b")
def dense_bias_summed_over_features(rng: np.random.Generator) -> Made:
    """db is summed along the rows; with as many rows as features the shape fits."""

    class Wrong(Dense):
        def bwd(self, out, inp):
            inp.g = out.g @ self.w.T
            self.w.g = inp.T @ out.g
            self.b.g = out.g.sum(1)

    return Made(Wrong(rng), (rng.normal(size=(3, 4)),))


@corpus.case("transpose", wrong="inp")
def dense_square_input_not_transposed(rng: np.random.Generator) -> Made:
    """w where w.T is meant; w is square."""

    class Wrong(Dense):
        def bwd(self, out, inp):
            inp.g = out.g @ self.w
            self.w.g = inp.T @ out.g
            self.b.g = out.g.sum(0)

    return Made(Wrong(rng, 4, 4), (rng.normal(size=(5, 4)),))


@corpus.case("transpose", wrong="w")
def dense_square_weight_transposed(rng: np.random.Generator) -> Made:
    """dw as for a weight stored (n_out, n_in), as PyTorch's is; here it is square."""

    class Wrong(Dense):
        def bwd(self, out, inp):
            inp.g = out.g @ self.w.T
            self.w.g = out.g.T @ inp
            self.b.g = out.g.sum(0)

    return Made(Wrong(rng, 4, 4), (rng.normal(size=(5, 4)),))


@corpus.case("transpose", wrong="inp w b")
def dense_weight_transposed_refused(rng: np.random.Generator) -> Made:
    """dw has shape (n_out, n_in): the engine refuses it."""

    class Wrong(Dense):
        def bwd(self, out, inp):
            inp.g = out.g @ self.w.T
            self.w.g = out.g.T @ inp
            self.b.g = out.g.sum(0)

    return Made(Wrong(rng), (rng.normal(size=(5, 4)),))


@corpus.case("cotangent", wrong="w")
def dense_weight_of_ones(rng: np.random.Generator) -> Made:
    """dw as if the loss were the sum of the outputs."""

    class Wrong(Dense):
        def bwd(self, out, inp):
            inp.g = out.g @ self.w.T
            self.w.g = inp.T @ gu.ones_like(out)
            self.b.g = out.g.sum(0)

    return Made(Wrong(rng), (rng.normal(size=(5, 4)),))


@corpus.case("stale", wrong="w")
def dense_input_of_first_call(rng: np.random.Generator) -> Made:
    """The input is kept at the first call only."""

    class Wrong(Dense):
        seen = None

        def forward(self, inp):
            if self.seen is None:
                self.seen = inp.numpy().copy()
            return inp @ self.w + self.b

        def bwd(self, out, inp):
            inp.g = out.g @ self.w.T
            self.w.g = self.seen.T @ out.g
            self.b.g = out.g.sum(0)

    layer = Wrong(rng)
    layer(rng.normal(size=(5, 4)))
    return Made(layer, (rng.normal(size=(5, 4)),))


class Centered(Module):
    """(inp - center) @ w."""

    def __init__(self, rng):
        self.center = Parameter(rng.normal(size=4))
        self.w = Parameter(rng.normal(size=(4, 3)))

    def forward(self, inp):
        return (inp - self.center) @ self.w


@corpus.case("sign", wrong="center")
def centered_center_sign(rng: np.random.Generator) -> Made:
    """The center is subtracted, its gradient is that of an added one."""

    class Wrong(Centered):
        def bwd(self, out, inp):
            dx = out.g @ self.w.T
            inp.g = dx
            self.center.g = dx.sum(0)
            self.w.g = (inp - self.center).T @ out.g

    return Made(Wrong(rng), (rng.normal(size=(5, 4)),))


@corpus.case("operand", wrong="w")
def centered_weight_from_raw_input(rng: np.random.Generator) -> Made:
    """dw from inp, where inp - center is meant."""

    class Wrong(Centered):
        def bwd(self, out, inp):
            dx = out.g @ self.w.T
            inp.g = dx
            self.center.g = -dx.sum(0)
            self.w.g = inp.T @ out.g

    return Made(Wrong(rng), (rng.normal(size=(5, 4)),))


class Scale(Module):
    """inp * scale + b, a scale for each feature."""

    def __init__(self, rng):
        self.scale = Parameter(rng.normal(size=3))
        self.b = Parameter(rng.normal(size=3))

    def forward(self, inp):
        return inp * self.scale + self.b


@corpus.case("sum", wrong="scale", also="cotangent")
def scale_last_row(rng: np.random.Generator) -> Made:
    """The scale's gradient is the last row's only."""

    class Wrong(Scale):
        def bwd(self, out, inp):
            inp.g = out.g * self.scale
            self.scale.g = (out.g * inp)[-1]
            self.b.g = out.g.sum(0)

    return Made(Wrong(rng), (rng.normal(size=(5, 3)),))


@corpus.case("swapped", wrong="scale b")
def scale_and_bias_swapped(rng: np.random.Generator) -> Made:
    """The gradients of scale and b are exchanged."""

    class Wrong(Scale):
        def bwd(self, out, inp):
            inp.g = out.g * self.scale
            self.b.g = (out.g * inp).sum(0)
            self.scale.g = out.g.sum(0)

    return Made(Wrong(rng), (rng.normal(size=(5, 3)),))


@corpus.case("cotangent", wrong="scale")
def scale_of_summed_cotangent(rng: np.random.Generator) -> Made:
    """The scale's gradient from the two sums, not from the sum of products."""

    class Wrong(Scale):
        def bwd(self, out, inp):
            inp.g = out.g * self.scale
            self.scale.g = out.g.sum(0) * inp.sum(0)
            self.b.g = out.g.sum(0)

    return Made(Wrong(rng), (rng.normal(size=(5, 3)),))


# Two layers


class TwoLayers(Module):
    """act(inp @ w1 + b1) @ w2 + b2."""

    def __init__(self, rng, n_in=4, hidden=6, n_out=3):
        self.w1 = Parameter(rng.normal(size=(n_in, hidden)))
        self.b1 = Parameter(rng.normal(size=hidden))
        self.w2 = Parameter(rng.normal(size=(hidden, n_out)))
        self.b2 = Parameter(rng.normal(size=n_out))

    def act(self, z):
        return z.relu()

    def forward(self, inp):
        return self.act(inp @ self.w1 + self.b1) @ self.w2 + self.b2


@corpus.case("activation", wrong="inp w1 b1", also="mask")
def mlp_relu_forgotten(rng: np.random.Generator) -> Made:
    """The gradient goes through the relu unchanged."""

    class Wrong(TwoLayers):
        def bwd(self, out, inp):
            h = (inp @ self.w1 + self.b1).relu()
            self.w2.g = h.T @ out.g
            self.b2.g = out.g.sum(0)
            dh = out.g @ self.w2.T
            self.w1.g = inp.T @ dh
            self.b1.g = dh.sum(0)
            inp.g = dh @ self.w1.T

    return Made(Wrong(rng), (rng.normal(size=(5, 4)),))


@corpus.case("mask", wrong="inp w1 b1")
def mlp_relu_mask_of_gradient(rng: np.random.Generator) -> Made:
    """The relu's mask from the gradient, as in guided backpropagation."""

    class Wrong(TwoLayers):
        def bwd(self, out, inp):
            h = (inp @ self.w1 + self.b1).relu()
            self.w2.g = h.T @ out.g
            self.b2.g = out.g.sum(0)
            dh = out.g @ self.w2.T
            dz = (dh > 0) * dh
            self.w1.g = inp.T @ dz
            self.b1.g = dz.sum(0)
            inp.g = dz @ self.w1.T

    return Made(Wrong(rng), (rng.normal(size=(5, 4)),))


@corpus.case("operand", wrong="w2")
def mlp_preactivation_for_activation(rng: np.random.Generator) -> Made:
    """dw2 from what goes into the relu."""

    class Wrong(TwoLayers):
        def bwd(self, out, inp):
            z = inp @ self.w1 + self.b1
            self.w2.g = z.T @ out.g
            self.b2.g = out.g.sum(0)
            dz = (z > 0) * (out.g @ self.w2.T)
            self.w1.g = inp.T @ dz
            self.b1.g = dz.sum(0)
            inp.g = dz @ self.w1.T

    return Made(Wrong(rng), (rng.normal(size=(5, 4)),))


@corpus.case("operand", wrong="inp w1 b1")
def mlp_first_weight_for_second(rng: np.random.Generator) -> Made:
    """w1 where w2 is meant; both are square."""

    class Wrong(TwoLayers):
        def bwd(self, out, inp):
            z = inp @ self.w1 + self.b1
            self.w2.g = z.relu().T @ out.g
            self.b2.g = out.g.sum(0)
            dz = (z > 0) * (out.g @ self.w1.T)
            self.w1.g = inp.T @ dz
            self.b1.g = dz.sum(0)
            inp.g = dz @ self.w1.T

    return Made(Wrong(rng, 4, 4, 4), (rng.normal(size=(5, 4)),))


@corpus.case("swapped", wrong="b1 b2")
def mlp_biases_swapped(rng: np.random.Generator) -> Made:
    """The two biases' gradients are exchanged."""

    class Wrong(TwoLayers):
        def bwd(self, out, inp):
            z = inp @ self.w1 + self.b1
            dz = (z > 0) * (out.g @ self.w2.T)
            self.w2.g = z.relu().T @ out.g
            self.w1.g = inp.T @ dz
            self.b1.g = out.g.sum(0)
            self.b2.g = dz.sum(0)
            inp.g = dz @ self.w1.T

    return Made(Wrong(rng, 4, 3, 3), (rng.normal(size=(5, 4)),))


class TanhLayers(TwoLayers):
    def act(self, z):
        return z.tanh()


@corpus.case("output", wrong="inp w1 b1")
def mlp_tanh_derivative_of_input(rng: np.random.Generator) -> Made:
    """1 - z**2, where the tanh of z is meant."""

    class Wrong(TanhLayers):
        def bwd(self, out, inp):
            z = inp @ self.w1 + self.b1
            h = z.tanh()
            self.w2.g = h.T @ out.g
            self.b2.g = out.g.sum(0)
            dz = (1 - z * z) * (out.g @ self.w2.T)
            self.w1.g = inp.T @ dz
            self.b1.g = dz.sum(0)
            inp.g = dz @ self.w1.T

    return Made(Wrong(rng), (rng.normal(size=(5, 4)),))


@corpus.case("activation", wrong="b1")
def mlp_bias_before_tanh(rng: np.random.Generator) -> Made:
    """db1 is summed from the gradient before it went through tanh."""

    class Wrong(TanhLayers):
        def bwd(self, out, inp):
            h = (inp @ self.w1 + self.b1).tanh()
            self.w2.g = h.T @ out.g
            self.b2.g = out.g.sum(0)
            dh = out.g @ self.w2.T
            dz = (1 - h * h) * dh
            self.w1.g = inp.T @ dz
            self.b1.g = dh.sum(0)
            inp.g = dz @ self.w1.T

    return Made(Wrong(rng), (rng.normal(size=(5, 4)),))


class SharedTwice(Module):
    """tanh(tanh(inp @ w + b) @ w + b): the same square layer, applied twice."""

    def __init__(self, rng):
        self.w = Parameter(rng.normal(size=(4, 4)))
        self.b = Parameter(rng.normal(size=4))

    def forward(self, inp):
        return ((inp @ self.w + self.b).tanh() @ self.w + self.b).tanh()


@corpus.case("overwritten", wrong="w")
def shared_weight_overwritten(rng: np.random.Generator) -> Made:
    """The second use's dw is replaced by the first's."""

    class Wrong(SharedTwice):
        def bwd(self, out, inp):
            h = (inp @ self.w + self.b).tanh()
            dz2 = (1 - out * out) * out.g
            dw, db = h.T @ dz2, dz2.sum(0)
            dz1 = (1 - h * h) * (dz2 @ self.w.T)
            dw, db = inp.T @ dz1, db + dz1.sum(0)
            self.w.g, self.b.g = dw, db
            inp.g = dz1 @ self.w.T

    return Made(Wrong(rng), (rng.normal(size=(5, 4)),))


@corpus.case("overwritten", wrong="b")
def shared_bias_overwritten(rng: np.random.Generator) -> Made:
    """db is the last use's only."""

    class Wrong(SharedTwice):
        def bwd(self, out, inp):
            h = (inp @ self.w + self.b).tanh()
            dz = (1 - out * out) * out.g
            dw = 0
            for below, here in ((h, dz), (inp, (1 - h * h) * (dz @ self.w.T))):
                dw = dw + below.T @ here
                db = here.sum(0)
            self.w.g = dw
            self.b.g = db
            inp.g = here @ self.w.T

    return Made(Wrong(rng), (rng.normal(size=(5, 4)),))


# Activations


class Relu(Module):
    def forward(self, inp):
        return inp.relu()


@corpus.case("mask", wrong="inp")
def relu_mask_of_gradient(rng: np.random.Generator) -> Made:
    """The mask from the gradient instead of the input."""

    class Wrong(Relu):
        def bwd(self, out, inp):
            inp.g = out.g.relu()

    return Made(Wrong(), (rng.normal(size=(5, 4)),))


@corpus.case("mask", wrong="inp")
def relu_mask_inverted(rng: np.random.Generator) -> Made:
    """The gradient where the input is not positive."""

    class Wrong(Relu):
        def bwd(self, out, inp):
            inp.g = gu.where(inp > 0, 0.0, out.g)

    return Made(Wrong(), (rng.normal(size=(5, 4)),))


@corpus.case("stale", wrong="inp")
def relu_mask_of_first_batch(rng: np.random.Generator) -> Made:
    """The mask is made once, with the first batch."""

    class Wrong(Relu):
        def __init__(self):
            self.mask = None

        def forward(self, inp):
            if self.mask is None:
                self.mask = inp > 0
            return inp.relu()

        def bwd(self, out, inp):
            inp.g = self.mask * out.g

    layer = Wrong()
    layer(rng.normal(size=(5, 4)))
    return Made(layer, (rng.normal(size=(5, 4)),))


@corpus.case("operand", wrong="inp")
def relu_times_itself(rng: np.random.Generator) -> Made:
    """The output as the factor, not the mask of where it is positive."""

    class Wrong(Relu):
        def bwd(self, out, inp):
            inp.g = out * out.g

    return Made(Wrong(), (rng.normal(size=(5, 4)),))


class LeakyRelu(Module):
    def __init__(self, slope=0.2):
        self.slope = slope

    def forward(self, inp):
        return gu.where(inp > 0, inp, self.slope * inp)


@corpus.case("formula", wrong="inp", also="mask")
def leaky_relu_as_relu(rng: np.random.Generator) -> Made:
    """The derivative of relu: no slope below 0."""

    class Wrong(LeakyRelu):
        def bwd(self, out, inp):
            inp.g = (inp > 0) * out.g

    return Made(Wrong(), (rng.normal(size=(5, 4)),))


@corpus.case("mask", wrong="inp")
def leaky_relu_mask_inverted(rng: np.random.Generator) -> Made:
    """The slope where the input is positive."""

    class Wrong(LeakyRelu):
        def bwd(self, out, inp):
            inp.g = gu.where(inp > 0, self.slope * out.g, out.g)

    return Made(Wrong(), (rng.normal(size=(5, 4)),))


class Tanh(Module):
    def forward(self, inp):
        return inp.tanh()


@corpus.case("output", wrong="inp")
def tanh_derivative_of_input(rng: np.random.Generator) -> Made:
    """1 - inp**2."""

    class Wrong(Tanh):
        def bwd(self, out, inp):
            inp.g = (1 - inp**2) * out.g

    return Made(Wrong(), (rng.normal(size=(5, 4)),))


@corpus.case("output", wrong="inp")
def tanh_derivative_twice_through(rng: np.random.Generator) -> Made:
    """1 - tanh(out)**2."""

    class Wrong(Tanh):
        def bwd(self, out, inp):
            t = out.tanh()
            inp.g = (1 - t * t) * out.g

    return Made(Wrong(), (rng.normal(size=(5, 4)),))


@corpus.case("formula", wrong="inp")
def tanh_not_squared(rng: np.random.Generator) -> Made:
    """1 - out, without the square."""

    class Wrong(Tanh):
        def bwd(self, out, inp):
            inp.g = (1 - out) * out.g

    return Made(Wrong(), (rng.normal(size=(5, 4)),))


@corpus.case("sign", wrong="inp")
def tanh_sign(rng: np.random.Generator) -> Made:
    """out**2 - 1."""

    class Wrong(Tanh):
        def bwd(self, out, inp):
            inp.g = (out * out - 1) * out.g

    return Made(Wrong(), (rng.normal(size=(5, 4)),))


class Sigmoid(Module):
    def forward(self, inp):
        return 1 / (1 + (-inp).exp())


@corpus.case("output", wrong="inp")
def sigmoid_of_output(rng: np.random.Generator) -> Made:
    """The helper takes the input, and gets the output."""

    def sigmoid_prime(x):
        return x.sigmoid() * (1 - x.sigmoid())

    class Wrong(Sigmoid):
        def bwd(self, out, inp):
            inp.g = sigmoid_prime(out) * out.g

    return Made(Wrong(), (rng.normal(size=(5, 4)),))


@corpus.case("activation", wrong="inp")
def sigmoid_derivative_forgotten(rng: np.random.Generator) -> Made:
    """The gradient is handed through."""

    class Wrong(Sigmoid):
        def bwd(self, out, inp):
            inp.g = out.g

    return Made(Wrong(), (rng.normal(size=(5, 4)),))


@corpus.case("cotangent", wrong="inp")
def sigmoid_without_cotangent(rng: np.random.Generator) -> Made:
    """The derivative itself, not times what arrives."""

    class Wrong(Sigmoid):
        def bwd(self, out, inp):
            inp.g = out * (1 - out)

    return Made(Wrong(), (rng.normal(size=(5, 4)),))


class Gelu(Module):
    """inp * P(N <= inp)."""

    def forward(self, inp):
        return inp * self.cdf(inp)

    def cdf(self, inp):
        return 0.5 * (1 + (inp * math.sqrt(0.5)).erf())

    def density(self, inp):
        return (-0.5 * inp * inp).exp() / math.sqrt(2 * math.pi)


@corpus.case("detached", wrong="inp")
def gelu_without_density(rng: np.random.Generator) -> Made:
    """The probability is treated as a constant gate."""

    class Wrong(Gelu):
        def bwd(self, out, inp):
            inp.g = self.cdf(inp) * out.g

    return Made(Wrong(), (rng.normal(size=(5, 4)),))


@corpus.case("formula", wrong="inp")
def gelu_density_without_half(rng: np.random.Generator) -> Made:
    """exp(-x**2) where exp(-x**2 / 2) is meant."""

    class Wrong(Gelu):
        def bwd(self, out, inp):
            density = (-inp * inp).exp() / math.sqrt(2 * math.pi)
            inp.g = (self.cdf(inp) + inp * density) * out.g

    return Made(Wrong(), (rng.normal(size=(5, 4)),))


class GeluTanh(Module):
    """GPT-2's approximation of gelu."""

    def inner(self, inp):
        return math.sqrt(2 / math.pi) * (inp + 0.044715 * inp**3)

    def forward(self, inp):
        return 0.5 * inp * (1 + self.inner(inp).tanh())


@corpus.case("formula", wrong="inp")
def gelu_tanh_cubic_without_three(rng: np.random.Generator) -> Made:
    """d/dx of a * x**3 as a * x**2."""

    class Wrong(GeluTanh):
        def bwd(self, out, inp):
            t = self.inner(inp).tanh()
            slope = math.sqrt(2 / math.pi) * (1 + 0.044715 * inp**2)
            inp.g = (0.5 * (1 + t) + 0.5 * inp * (1 - t * t) * slope) * out.g

    return Made(Wrong(), (rng.normal(size=(5, 4)),))


class Silu(Module):
    """inp * sigmoid(inp)."""

    def forward(self, inp):
        return inp * inp.sigmoid()


@corpus.case("output", wrong="inp")
def silu_input_for_output(rng: np.random.Generator) -> Made:
    """s + x * (1 - s), where s + out * (1 - s) is meant."""

    class Wrong(Silu):
        def bwd(self, out, inp):
            s = inp.sigmoid()
            inp.g = (s + inp * (1 - s)) * out.g

    return Made(Wrong(), (rng.normal(size=(5, 4)),))


@corpus.case("detached", wrong="inp")
def silu_gate_constant(rng: np.random.Generator) -> Made:
    """The sigmoid is treated as a constant."""

    class Wrong(Silu):
        def bwd(self, out, inp):
            inp.g = inp.sigmoid() * out.g

    return Made(Wrong(), (rng.normal(size=(5, 4)),))


class Softplus(Module):
    """log(1 + exp(inp)), sharper with a larger beta."""

    def __init__(self, beta=2.0):
        self.beta = beta

    def forward(self, inp):
        return (self.beta * inp).exp().log1p() / self.beta


@corpus.case("output", wrong="inp")
def softplus_sigmoid_of_output(rng: np.random.Generator) -> Made:
    """The sigmoid of the output."""

    class Wrong(Softplus):
        def bwd(self, out, inp):
            inp.g = (self.beta * out).sigmoid() * out.g

    return Made(Wrong(), (rng.normal(size=(5, 4)),))


@corpus.case("factor", wrong="inp")
def softplus_beta_not_cancelled(rng: np.random.Generator) -> Made:
    """beta from inside the exponential, without the division outside."""

    class Wrong(Softplus):
        def bwd(self, out, inp):
            inp.g = self.beta * (self.beta * inp).sigmoid() * out.g

    return Made(Wrong(), (rng.normal(size=(5, 4)),))


class Elu(Module):
    """inp where positive, alpha * (exp(inp) - 1) elsewhere."""

    def __init__(self, alpha=0.7):
        self.alpha = alpha

    def forward(self, inp):
        return gu.where(inp > 0, inp, self.alpha * inp.expm1())


@corpus.case("output", wrong="inp")
def elu_input_for_output(rng: np.random.Generator) -> Made:
    """inp + alpha, where out + alpha is meant."""

    class Wrong(Elu):
        def bwd(self, out, inp):
            inp.g = gu.where(inp > 0, out.g, (inp + self.alpha) * out.g)

    return Made(Wrong(), (rng.normal(size=(5, 4)),))


@corpus.case("formula", wrong="inp")
def elu_derivative_is_output(rng: np.random.Generator) -> Made:
    """The output itself below 0, as if the 1 had not been subtracted."""

    class Wrong(Elu):
        def bwd(self, out, inp):
            inp.g = gu.where(inp > 0, out.g, out * out.g)

    return Made(Wrong(), (rng.normal(size=(5, 4)),))


class Square(Module):
    def forward(self, inp):
        return inp**2


@corpus.case("factor", wrong="inp")
def square_without_two(rng: np.random.Generator) -> Made:
    """x where 2 * x is meant."""

    class Wrong(Square):
        def bwd(self, out, inp):
            inp.g = inp * out.g

    return Made(Wrong(), (rng.normal(size=(5, 4)),))


class Clip(Module):
    """inp limited to [-1, 1]."""

    def forward(self, inp):
        return inp.clamp(-1.0, 1.0)


@corpus.case("mask", wrong="inp")
def clip_masked_below_only(rng: np.random.Generator) -> Made:
    """The upper limit is forgotten in the mask."""

    class Wrong(Clip):
        def bwd(self, out, inp):
            inp.g = (inp > -1) * out.g

    return Made(Wrong(), (2 * rng.normal(size=(5, 4)),))


# Softmax


class Softmax(Module):
    """softmax(inp / temperature) along the last axis."""

    def __init__(self, temperature=1.0):
        self.temperature = temperature

    def forward(self, inp):
        return (inp / self.temperature).softmax(-1)


@corpus.case("softmax", wrong="inp")
def softmax_diagonal(rng: np.random.Generator) -> Made:
    """out * (1 - out), as for a sigmoid."""

    class Wrong(Softmax):
        def bwd(self, out, inp):
            inp.g = out * (1 - out) * out.g

    return Made(Wrong(), (rng.normal(size=(5, 4)),))


@corpus.case("axis", wrong="inp")
def softmax_summed_over_batch(rng: np.random.Generator) -> Made:
    """The inner sum runs over the batch."""

    class Wrong(Softmax):
        def bwd(self, out, inp):
            inp.g = out * (out.g - (out * out.g).sum(0, keepdims=True))

    return Made(Wrong(), (rng.normal(size=(5, 4)),))


@corpus.case("factor", wrong="inp")
def softmax_temperature_forgotten(rng: np.random.Generator) -> Made:
    """Not divided by the temperature."""

    class Wrong(Softmax):
        def bwd(self, out, inp):
            inp.g = out * (out.g - (out * out.g).sum(-1, keepdims=True))

    return Made(Wrong(temperature=3.0), (rng.normal(size=(5, 4)),))


@corpus.case("stale", wrong="inp")
def softmax_of_first_call(rng: np.random.Generator) -> Made:
    """The probabilities are kept by setdefault, which keeps the first ones."""

    class Wrong(Softmax):
        def __init__(self):
            super().__init__()
            self.kept = {}

        def forward(self, inp):
            out = inp.softmax(-1)
            self.kept.setdefault("p", out.detach())
            return out

        def bwd(self, out, inp):
            p = self.kept["p"]
            inp.g = p * (out.g - (p * out.g).sum(-1, keepdims=True))

    layer = Wrong()
    layer(rng.normal(size=(5, 4)))
    return Made(layer, (rng.normal(size=(5, 4)),))


class LogSoftmax(Module):
    def forward(self, inp):
        return inp - inp.logsumexp(-1, keepdims=True)


@corpus.case("softmax", wrong="inp", also="sum")
def log_softmax_diagonal(rng: np.random.Generator) -> Made:
    """(1 - p) * g: what the other classes get is left out."""

    class Wrong(LogSoftmax):
        def bwd(self, out, inp):
            inp.g = (1 - out.exp()) * out.g

    return Made(Wrong(), (rng.normal(size=(5, 4)),))


@corpus.case("output", wrong="inp")
def log_softmax_exp_of_input(rng: np.random.Generator) -> Made:
    """exp(inp) where the probability, exp(out), is meant."""

    class Wrong(LogSoftmax):
        def bwd(self, out, inp):
            inp.g = out.g - inp.exp() * out.g.sum(-1, keepdims=True)

    return Made(Wrong(), (rng.normal(size=(5, 4)),))


@corpus.case("detached", wrong="inp")
def log_softmax_normaliser_constant(rng: np.random.Generator) -> Made:
    """The normaliser is treated as a constant."""

    class Wrong(LogSoftmax):
        def bwd(self, out, inp):
            inp.g = out.g

    return Made(Wrong(), (rng.normal(size=(5, 4)),))


@corpus.case("axis", wrong="inp")
def log_softmax_summed_over_batch(rng: np.random.Generator) -> Made:
    """The gradient is summed down the columns."""

    class Wrong(LogSoftmax):
        def bwd(self, out, inp):
            inp.g = out.g - out.exp() * out.g.sum(0)

    return Made(Wrong(), (rng.normal(size=(5, 4)),))


# Normalisation


class Norm(Module):
    """Over an axis: (inp - mean) / sqrt(var + eps) * gain + bias."""

    def __init__(self, rng, axis=-1, eps=0.1, n=6):
        self.gain = Parameter(rng.normal(size=n))
        self.bias = Parameter(rng.normal(size=n))
        self.axis = axis
        self.eps = eps

    def mean(self, x):
        return x.mean(self.axis, keepdims=True)

    def center(self, inp):
        return inp - self.mean(inp)

    def std(self, inp):
        return (self.mean(self.center(inp) ** 2) + self.eps).sqrt()

    def forward(self, inp):
        return self.center(inp) / self.std(inp) * self.gain + self.bias


class LayerNorm(Norm):
    def __init__(self, rng):
        super().__init__(rng, axis=-1)


@corpus.case("detached", wrong="inp")
def layernorm_statistics_constant(rng: np.random.Generator) -> Made:
    """Mean and deviation are treated as constants."""

    class Wrong(LayerNorm):
        def bwd(self, out, inp):
            xhat = self.center(inp) / self.std(inp)
            self.gain.g = (out.g * xhat).sum(0)
            self.bias.g = out.g.sum(0)
            inp.g = out.g * self.gain / self.std(inp)

    return Made(Wrong(rng), (rng.normal(size=(5, 6)),))


@corpus.case("detached", wrong="inp")
def layernorm_variance_constant(rng: np.random.Generator) -> Made:
    """The term that comes through the variance is missing."""

    class Wrong(LayerNorm):
        def bwd(self, out, inp):
            std = self.std(inp)
            self.gain.g = (out.g * self.center(inp) / std).sum(0)
            self.bias.g = out.g.sum(0)
            dxhat = out.g * self.gain
            inp.g = (dxhat - self.mean(dxhat)) / std

    return Made(Wrong(rng), (rng.normal(size=(5, 6)),))


@corpus.case("axis", wrong="inp")
def layernorm_means_over_batch(rng: np.random.Generator) -> Made:
    """The two means of the gradient are batchnorm's."""

    class Wrong(LayerNorm):
        def bwd(self, out, inp):
            std = self.std(inp)
            xhat = self.center(inp) / std
            self.gain.g = (out.g * xhat).sum(0)
            self.bias.g = out.g.sum(0)
            dxhat = out.g * self.gain
            inp.g = (dxhat - dxhat.mean(0) - xhat * (dxhat * xhat).mean(0)) / std

    return Made(Wrong(rng), (rng.normal(size=(5, 6)),))


@corpus.case("eps", wrong="inp gain")
def layernorm_eps_outside_the_root(rng: np.random.Generator) -> Made:
    """eps is added to the deviation instead of the variance."""

    class Wrong(LayerNorm):
        def bwd(self, out, inp):
            centered = self.center(inp)
            std = self.mean(centered**2).sqrt() + self.eps
            xhat = centered / std
            self.gain.g = (out.g * xhat).sum(0)
            self.bias.g = out.g.sum(0)
            dxhat = out.g * self.gain
            inp.g = (dxhat - self.mean(dxhat) - xhat * self.mean(dxhat * xhat)) / std

    return Made(Wrong(rng), (rng.normal(size=(5, 6)),))


@corpus.case("operand", wrong="gain")
def layernorm_gain_from_input(rng: np.random.Generator) -> Made:
    """The gain's gradient from the input, not the normalised input."""

    class Wrong(LayerNorm):
        def bwd(self, out, inp):
            std = self.std(inp)
            xhat = self.center(inp) / std
            self.gain.g = (out.g * inp).sum(0)
            self.bias.g = out.g.sum(0)
            dxhat = out.g * self.gain
            inp.g = (dxhat - self.mean(dxhat) - xhat * self.mean(dxhat * xhat)) / std

    return Made(Wrong(rng), (rng.normal(size=(5, 6)),))


@corpus.case("sum", wrong="gain", also="cotangent")
def layernorm_gain_of_one_row(rng: np.random.Generator) -> Made:
    """The gain's gradient is one row of what should be summed."""

    class Wrong(LayerNorm):
        def bwd(self, out, inp):
            std = self.std(inp)
            xhat = self.center(inp) / std
            self.gain.g = (out.g * xhat)[0]
            self.bias.g = out.g.sum(0)
            dxhat = out.g * self.gain
            inp.g = (dxhat - self.mean(dxhat) - xhat * self.mean(dxhat * xhat)) / std

    return Made(Wrong(rng), (rng.normal(size=(5, 6)),))


class BatchNorm(Norm):
    def __init__(self, rng):
        super().__init__(rng, axis=0)


@corpus.case("detached", wrong="inp")
def batchnorm_mean_constant(rng: np.random.Generator) -> Made:
    """The batch's mean is treated as a constant."""

    class Wrong(BatchNorm):
        def bwd(self, out, inp):
            std = self.std(inp)
            xhat = self.center(inp) / std
            self.gain.g = (out.g * xhat).sum(0)
            self.bias.g = out.g.sum(0)
            dxhat = out.g * self.gain
            inp.g = (dxhat - xhat * self.mean(dxhat * xhat)) / std

    return Made(Wrong(rng), (rng.normal(size=(5, 6)),))


@corpus.case("axis", wrong="inp")
def batchnorm_means_over_features(rng: np.random.Generator) -> Made:
    """The two means of the gradient are layernorm's."""

    class Wrong(BatchNorm):
        def bwd(self, out, inp):
            std = self.std(inp)
            xhat = self.center(inp) / std
            self.gain.g = (out.g * xhat).sum(0)
            self.bias.g = out.g.sum(0)
            dxhat = out.g * self.gain
            over = (dxhat * xhat).mean(1, keepdims=True)
            inp.g = (dxhat - dxhat.mean(1, keepdims=True) - xhat * over) / std

    return Made(Wrong(rng), (rng.normal(size=(5, 6)),))


@corpus.case("eps", wrong="inp gain")
def batchnorm_eps_left_out(rng: np.random.Generator) -> Made:
    """The deviation is computed anew, without eps."""

    class Wrong(BatchNorm):
        def bwd(self, out, inp):
            std = self.mean(self.center(inp) ** 2).sqrt()
            xhat = self.center(inp) / std
            self.gain.g = (out.g * xhat).sum(0)
            self.bias.g = out.g.sum(0)
            dxhat = out.g * self.gain
            inp.g = (dxhat - self.mean(dxhat) - xhat * self.mean(dxhat * xhat)) / std

    return Made(Wrong(rng), (rng.normal(size=(5, 6)),))


@corpus.case("stale", wrong="gain")
def batchnorm_gain_from_earlier_batch(rng: np.random.Generator) -> Made:
    """The normalised input is cached when there is none yet."""

    class Wrong(BatchNorm):
        xhat = None

        def forward(self, inp):
            xhat = self.center(inp) / self.std(inp)
            if self.xhat is None:
                self.xhat = xhat.detach()
            return xhat * self.gain + self.bias

        def bwd(self, out, inp):
            std = self.std(inp)
            xhat = self.center(inp) / std
            self.gain.g = (out.g * self.xhat).sum(0)
            self.bias.g = out.g.sum(0)
            dxhat = out.g * self.gain
            inp.g = (dxhat - self.mean(dxhat) - xhat * self.mean(dxhat * xhat)) / std

    layer = Wrong(rng)
    layer(rng.normal(size=(5, 6)))
    return Made(layer, (rng.normal(size=(5, 6)),))


@corpus.case("mean", wrong="inp", also="formula")
def batchnorm_sums_for_means(rng: np.random.Generator) -> Made:
    """The two means of the gradient are left as sums."""

    class Wrong(BatchNorm):
        def bwd(self, out, inp):
            std = self.std(inp)
            xhat = self.center(inp) / std
            self.gain.g = (out.g * xhat).sum(0)
            self.bias.g = out.g.sum(0)
            dxhat = out.g * self.gain
            inp.g = (dxhat - dxhat.sum(0) - xhat * (dxhat * xhat).sum(0)) / std

    return Made(Wrong(rng), (rng.normal(size=(5, 6)),))


@corpus.case("swapped", wrong="gain bias")
def batchnorm_gain_and_bias_swapped(rng: np.random.Generator) -> Made:
    """dgamma and dbeta come back in the wrong order."""

    class Wrong(BatchNorm):
        def bwd(self, out, inp):
            std = self.std(inp)
            xhat = self.center(inp) / std
            self.bias.g, self.gain.g = (out.g * xhat).sum(0), out.g.sum(0)
            dxhat = out.g * self.gain
            inp.g = (dxhat - self.mean(dxhat) - xhat * self.mean(dxhat * xhat)) / std

    return Made(Wrong(rng), (rng.normal(size=(5, 6)),))


class RmsNorm(Module):
    """inp / sqrt(mean(inp**2) + eps) * gain."""

    def __init__(self, rng):
        self.gain = Parameter(rng.normal(size=6))
        self.eps = 0.1

    def rms(self, inp):
        return ((inp * inp).mean(-1, keepdims=True) + self.eps).sqrt()

    def forward(self, inp):
        return inp / self.rms(inp) * self.gain


@corpus.case("detached", wrong="inp")
def rmsnorm_rms_constant(rng: np.random.Generator) -> Made:
    """The root mean square is treated as a constant."""

    class Wrong(RmsNorm):
        def bwd(self, out, inp):
            rms = self.rms(inp)
            self.gain.g = (out.g * inp / rms).sum(0)
            inp.g = out.g * self.gain / rms

    return Made(Wrong(rng), (rng.normal(size=(5, 6)),))


@corpus.case("eps", wrong="inp gain")
def rmsnorm_eps_after_the_root(rng: np.random.Generator) -> Made:
    """eps is added after the root in the backward pass."""

    class Wrong(RmsNorm):
        def bwd(self, out, inp):
            rms = (inp * inp).mean(-1, keepdims=True).sqrt() + self.eps
            xhat = inp / rms
            self.gain.g = (out.g * xhat).sum(0)
            dxhat = out.g * self.gain
            inp.g = (dxhat - xhat * (dxhat * xhat).mean(-1, keepdims=True)) / rms

    return Made(Wrong(rng), (rng.normal(size=(5, 6)),))


@corpus.case("formula", wrong="inp")
def rmsnorm_exponent(rng: np.random.Generator) -> Made:
    """The second term over rms**2, where rms**3 is meant."""

    class Wrong(RmsNorm):
        def bwd(self, out, inp):
            rms = self.rms(inp)
            self.gain.g = (out.g * inp / rms).sum(0)
            dxhat = out.g * self.gain
            inp.g = dxhat / rms - inp * (dxhat * inp).mean(-1, keepdims=True) / rms**2

    return Made(Wrong(rng), (rng.normal(size=(5, 6)),))


# Dropout


class Dropout(Module):
    """inp where keep is true, scaled by 1 / (1 - p)."""

    def __init__(self, p=0.4):
        self.p = p

    def forward(self, inp, keep):
        return inp * keep / (1 - self.p)


@corpus.case("factor", wrong="inp")
def dropout_scale_forgotten(rng: np.random.Generator) -> Made:
    """The mask without the scale."""

    class Wrong(Dropout):
        def bwd(self, out, inp, keep):
            inp.g = out.g * keep

    return Made(Wrong(), (rng.normal(size=(5, 4)), np.eye(5, 4, dtype=np.int64)))


@corpus.case("mask", wrong="inp")
def dropout_mask_forgotten(rng: np.random.Generator) -> Made:
    """The scale without the mask."""

    class Wrong(Dropout):
        def bwd(self, out, inp, keep):
            inp.g = out.g / (1 - self.p)

    return Made(Wrong(), (rng.normal(size=(5, 4)), 1 - np.eye(5, 4, dtype=np.int64)))


@corpus.case("stale", wrong="inp")
def dropout_mask_of_earlier_batch(rng: np.random.Generator) -> Made:
    """The first call's mask is used for ever."""

    class Wrong(Dropout):
        keep = None

        def forward(self, inp, keep):
            if self.keep is None:
                self.keep = keep
            return super().forward(inp, keep)

        def bwd(self, out, inp, keep):
            inp.g = out.g * self.keep / (1 - self.p)

    layer = Wrong()
    keep = np.eye(5, 4, dtype=np.int64)
    layer(rng.normal(size=(5, 4)), keep)
    return Made(layer, (rng.normal(size=(5, 4)), keep[::-1].copy()))


# Embedding, gather


class Embedding(Module):
    """Rows of w, scaled by sqrt(width)."""

    def __init__(self, rng, vocabulary=7, width=3):
        self.w = Parameter(rng.normal(size=(vocabulary, width)))
        self.scale = math.sqrt(width)

    def forward(self, ids):
        return self.w[ids] * self.scale


@corpus.case("scatter", wrong="w")
def embedding_rows_assigned(rng: np.random.Generator) -> Made:
    """dw[ids] = ... keeps the last of equal ids."""

    class Wrong(Embedding):
        def bwd(self, out, ids):
            dw = np.zeros(self.w.shape)
            dw[ids.numpy()] = out.g.numpy() * self.scale
            self.w.g = dw

    return Made(Wrong(rng), (np.array([[2, 0, 2, 5], [5, 2, 1, 0]]),))


@corpus.case("factor", wrong="w")
def embedding_scale_forgotten(rng: np.random.Generator) -> Made:
    """The scale is left out."""

    class Wrong(Embedding):
        def bwd(self, out, ids):
            dw = np.zeros(self.w.shape)
            np.add.at(dw, ids.numpy(), out.g.numpy())
            self.w.g = dw

    return Made(Wrong(rng), (np.array([[2, 0, 2, 5], [5, 2, 1, 0]]),))


@corpus.case("scatter", wrong="w")
def embedding_plus_equals(rng: np.random.Generator) -> Made:
    """dw[ids] += ... adds once for each id, however often it occurs."""

    class Wrong(Embedding):
        def bwd(self, out, ids):
            dw = np.zeros(self.w.shape)
            dw[ids.numpy()] += out.g.numpy() * self.scale
            self.w.g = dw

    return Made(Wrong(rng), (np.array([3, 3, 0, 6, 3]),))


class ShiftedEmbedding(Module):
    """Rows of w; row 0 is kept for padding, so id 0 has row 1."""

    def __init__(self, rng):
        self.w = Parameter(rng.normal(size=(7, 3)))

    def forward(self, ids):
        return self.w[ids + 1]


@corpus.case("shift", wrong="w")
def embedding_padding_row_forgotten(rng: np.random.Generator) -> Made:
    """dw at the ids, where forward took the rows after them."""

    class Wrong(ShiftedEmbedding):
        def bwd(self, out, ids):
            self.w.g = gu.einsum("nv,nd->vd", gu.one_hot(ids, len(self.w), dtype=out.dtype), out.g)

    return Made(Wrong(rng), (np.array([0, 3, 5, 3]),))


class PaddedEmbedding(Module):
    """Rows of w, zeros for id 0."""

    def __init__(self, rng):
        self.w = Parameter(rng.normal(size=(6, 3)))

    def forward(self, ids):
        return self.w[ids] * (ids != 0).unsqueeze(-1)


@corpus.case("mask", wrong="w")
def embedding_padding_not_masked(rng: np.random.Generator) -> Made:
    """The padding's row learns."""

    class Wrong(PaddedEmbedding):
        def bwd(self, out, ids):
            self.w.g = gu.one_hot(ids, len(self.w), dtype=out.dtype).T @ out.g

    return Made(Wrong(rng), (np.array([4, 2, 0, 2, 0]),))


class EmbeddingBag(Module):
    """The mean of each row of ids' embeddings."""

    def __init__(self, rng):
        self.w = Parameter(rng.normal(size=(6, 3)))

    def forward(self, ids):
        return self.w[ids].mean(1)


@corpus.case("mean", wrong="w")
def embedding_bag_not_divided(rng: np.random.Generator) -> Made:
    """The gradient of a sum: not divided by the bag's length."""

    class Wrong(EmbeddingBag):
        def bwd(self, out, ids):
            counts = gu.one_hot(ids, len(self.w), dtype=out.dtype).sum(1)
            self.w.g = counts.T @ out.g

    return Made(Wrong(rng), (rng.integers(0, 6, size=(5, 4)),))


class PositionedEmbedding(Module):
    """w[ids] + position."""

    def __init__(self, rng):
        self.w = Parameter(rng.normal(size=(6, 3)))
        self.position = Parameter(rng.normal(size=(4, 3)))

    def forward(self, ids):
        return self.w[ids] + self.position


@corpus.case("bias", wrong="position", also="sum cotangent")
def embedding_position_of_first_sentence(rng: np.random.Generator) -> Made:
    """The positions' gradient is the first sentence's."""

    class Wrong(PositionedEmbedding):
        def bwd(self, out, ids):
            places = gu.one_hot(ids, len(self.w), dtype=out.dtype)
            self.w.g = gu.einsum("ntv,ntd->vd", places, out.g)
            self.position.g = out.g[0]

    return Made(Wrong(rng), (rng.integers(0, 6, size=(5, 4)),))


class TakeRows(Module):
    def forward(self, inp, index):
        return inp[index]


@corpus.case("scatter", wrong="inp")
def take_rows_assigned(rng: np.random.Generator) -> Made:
    """Rows that are taken twice get one gradient."""

    class Wrong(TakeRows):
        def bwd(self, out, inp, index):
            dx = np.zeros(inp.shape)
            for row, i in enumerate(index.numpy()):
                dx[i] = out.g[row].numpy()
            inp.g = dx

    return Made(Wrong(), (rng.normal(size=(5, 3)), np.array([4, 0, 4, 1, 4, 0])))


class TakeAlong(Module):
    """In each row the entries that the row's indices name."""

    def forward(self, inp, index):
        return inp.take_along_axis(index, 1)


@corpus.case("scatter", wrong="inp")
def take_along_axis_put(rng: np.random.Generator) -> Made:
    """put_along_axis assigns."""

    class Wrong(TakeAlong):
        def bwd(self, out, inp, index):
            dx = np.zeros(inp.shape)
            np.put_along_axis(dx, index.numpy(), out.g.numpy(), axis=1)
            inp.g = dx

    index = np.array([[0, 0, 3], [1, 2, 1], [3, 3, 3], [0, 1, 2], [2, 2, 0]])
    return Made(Wrong(), (rng.normal(size=(5, 4)), index))
