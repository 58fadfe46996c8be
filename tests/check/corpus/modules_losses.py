"""Wrong backward passes of losses, as Modules."""

from __future__ import annotations

import numpy as np

import groundup as gu
from corpus.case import Corpus, Made
from groundup.nn import Module, Parameter

corpus = Corpus()


def two(rng: np.random.Generator, *shape: int) -> tuple[np.ndarray, np.ndarray]:
    """A prediction and a target."""
    return rng.normal(size=shape), rng.normal(size=shape)


# Regression


class Mse(Module):
    """The mean of (inp - targ)**2."""

    def forward(self, inp, targ):
        return ((inp - targ) ** 2).mean()


@corpus.case("factor", wrong="inp targ")
def mse_without_two(rng: np.random.Generator) -> Made:
    """The 2 is forgotten."""

    class Wrong(Mse):
        def bwd(self, out, inp, targ):
            slope = (inp - targ) * out.g / inp.size
            inp.g, targ.g = slope, -slope

    return Made(Wrong(), two(rng, 5, 3))


@corpus.case("mean", wrong="inp targ")
def mse_divided_by_rows(rng: np.random.Generator) -> Made:
    """Divided by the rows; forward's mean is over all entries."""

    class Wrong(Mse):
        def bwd(self, out, inp, targ):
            slope = 2 * (inp - targ) * out.g / len(inp)
            inp.g, targ.g = slope, -slope

    return Made(Wrong(), two(rng, 5, 3))


@corpus.case("sign", wrong="inp targ")
def mse_reversed(rng: np.random.Generator) -> Made:
    """targ - inp."""

    class Wrong(Mse):
        def bwd(self, out, inp, targ):
            slope = 2 * (targ - inp) * out.g / inp.size
            inp.g, targ.g = slope, -slope

    return Made(Wrong(), two(rng, 5, 3))


@corpus.case("cotangent", wrong="inp targ")
def mse_ignores_cotangent(rng: np.random.Generator) -> Made:
    """As if the loss were always the end."""

    class Wrong(Mse):
        def bwd(self, out, inp, targ):
            slope = 2 * (inp - targ) / inp.size
            inp.g, targ.g = slope, -slope

    return Made(Wrong(), two(rng, 5, 3))


@corpus.case("stale", wrong="inp targ")
def mse_difference_of_first_batch(rng: np.random.Generator) -> Made:
    """The difference is kept once."""

    class Wrong(Mse):
        def __init__(self):
            self.diffs = []

        def forward(self, inp, targ):
            diff = inp - targ
            self.diffs.append(diff.detach())
            return (diff * diff).mean()

        def bwd(self, out, inp, targ):
            slope = 2 * self.diffs[0] * out.g / inp.size
            inp.g, targ.g = slope, -slope

    loss = Wrong()
    loss(*two(rng, 5, 3))
    return Made(loss, two(rng, 5, 3))


class SampleWeightedMse(Module):
    """sum(weight * (inp - targ)**2) / rows, a weight for each row."""

    def forward(self, inp, targ, weight):
        return (weight * ((inp - targ) ** 2).sum(1)).sum() / len(inp)


@corpus.case("sum", wrong="weight")
def weighted_mse_weight_from_one_column(rng: np.random.Generator) -> Made:
    """The weight's gradient from the first column's error, not the row's sum."""

    class Wrong(SampleWeightedMse):
        def bwd(self, out, inp, targ, weight):
            diff = inp - targ
            slope = 2 * diff * weight.unsqueeze(1) * out.g / len(inp)
            inp.g, targ.g = slope, -slope
            weight.g = (diff**2)[:, 0] * out.g / len(inp)

    return Made(Wrong(), (*two(rng, 5, 3), rng.uniform(0.5, 2, size=5)))


@corpus.case("axis", wrong="weight")
def weighted_mse_weight_summed_over_rows(rng: np.random.Generator) -> Made:
    """The squares are summed down the columns; there are as many as rows."""

    class Wrong(SampleWeightedMse):
        def bwd(self, out, inp, targ, weight):
            diff = inp - targ
            slope = 2 * diff * weight.unsqueeze(1) * out.g / len(inp)
            inp.g, targ.g = slope, -slope
            weight.g = (diff**2).sum(0) * out.g / len(inp)

    return Made(Wrong(), (*two(rng, 4, 4), rng.uniform(0.5, 2, size=4)))


@corpus.case("operand", wrong="inp targ")
def weighted_mse_weight_of_columns(rng: np.random.Generator) -> Made:
    """The weights stand over the columns: broadcasting without unsqueeze."""

    class Wrong(SampleWeightedMse):
        def bwd(self, out, inp, targ, weight):
            diff = inp - targ
            slope = 2 * diff * weight * out.g / len(inp)
            inp.g, targ.g = slope, -slope
            weight.g = (diff**2).sum(1) * out.g / len(inp)

    return Made(Wrong(), (*two(rng, 4, 4), rng.uniform(0.5, 2, size=4)))


class Rmse(Module):
    """sqrt(mean((inp - targ)**2) + eps)."""

    eps = 0.1

    def forward(self, inp, targ):
        return (((inp - targ) ** 2).mean() + self.eps).sqrt()


@corpus.case("eps", wrong="inp targ")
def rmse_eps_left_out(rng: np.random.Generator) -> Made:
    """The root is computed anew without eps."""

    class Wrong(Rmse):
        def bwd(self, out, inp, targ):
            diff = inp - targ
            slope = diff / (diff**2).mean().sqrt() * out.g / inp.size
            inp.g, targ.g = slope, -slope

    return Made(Wrong(), two(rng, 5, 3))


@corpus.case("formula", wrong="inp targ")
def rmse_root_not_in_derivative(rng: np.random.Generator) -> Made:
    """1 / (2 * mse), where 1 / (2 * sqrt(mse)) is meant."""

    class Wrong(Rmse):
        def bwd(self, out, inp, targ):
            diff = inp - targ
            slope = diff / (out * out) * out.g / inp.size
            inp.g, targ.g = slope, -slope

    return Made(Wrong(), two(rng, 5, 3))


class Mae(Module):
    """The mean of |inp - targ|."""

    def forward(self, inp, targ):
        return (inp - targ).abs().mean()


@corpus.case("operand", wrong="inp targ")
def mae_sign_of_input(rng: np.random.Generator) -> Made:
    """The input's sign, not the difference's."""

    class Wrong(Mae):
        def bwd(self, out, inp, targ):
            slope = inp.sign() * out.g / inp.size
            inp.g, targ.g = slope, -slope

    return Made(Wrong(), two(rng, 5, 3))


@corpus.case("formula", wrong="inp targ")
def mae_as_mse(rng: np.random.Generator) -> Made:
    """The difference itself, not its sign."""

    class Wrong(Mae):
        def bwd(self, out, inp, targ):
            slope = (inp - targ) * out.g / inp.size
            inp.g, targ.g = slope, -slope

    return Made(Wrong(), two(rng, 5, 3))


@corpus.case("sign", wrong="targ")
def mae_target_sign(rng: np.random.Generator) -> Made:
    """The target gets the input's gradient."""

    class Wrong(Mae):
        def bwd(self, out, inp, targ):
            slope = (inp - targ).sign() * out.g / inp.size
            inp.g = slope
            targ.g = slope

    return Made(Wrong(), two(rng, 5, 3))


class Huber(Module):
    """d**2 / 2 where |d| < delta, delta * (|d| - delta / 2) elsewhere; the mean."""

    delta = 0.7

    def forward(self, inp, targ):
        d = inp - targ
        linear = self.delta * (d.abs() - self.delta / 2)
        return gu.where(d.abs() < self.delta, d * d / 2, linear).mean()


@corpus.case("mask", wrong="inp targ")
def huber_mask_missing(rng: np.random.Generator) -> Made:
    """The quadratic part's slope everywhere."""

    class Wrong(Huber):
        def bwd(self, out, inp, targ):
            slope = (inp - targ) * out.g / inp.size
            inp.g, targ.g = slope, -slope

    return Made(Wrong(), two(rng, 5, 3))


@corpus.case("mask", wrong="inp targ")
def huber_branches_inverted(rng: np.random.Generator) -> Made:
    """The quadratic slope where the error is large."""

    class Wrong(Huber):
        def bwd(self, out, inp, targ):
            d = inp - targ
            slope = gu.where(d.abs() > self.delta, d, self.delta * d.sign()) * out.g / d.size
            inp.g, targ.g = slope, -slope

    return Made(Wrong(), two(rng, 5, 3))


@corpus.case("formula", wrong="inp targ")
def huber_linear_slope_is_one(rng: np.random.Generator) -> Made:
    """sign(d) in the linear part, where delta * sign(d) is meant."""

    class Wrong(Huber):
        def bwd(self, out, inp, targ):
            d = inp - targ
            slope = gu.where(d.abs() < self.delta, d, d.sign()) * out.g / d.size
            inp.g, targ.g = slope, -slope

    return Made(Wrong(), two(rng, 5, 3))


class LogCosh(Module):
    """sum(log(cosh(inp - targ)))."""

    def forward(self, inp, targ):
        d = inp - targ
        return ((d.exp() + (-d).exp()) / 2).log().sum()


@corpus.case("formula", wrong="inp targ")
def logcosh_second_derivative(rng: np.random.Generator) -> Made:
    """1 - tanh**2, the derivative of the derivative."""

    class Wrong(LogCosh):
        def bwd(self, out, inp, targ):
            t = (inp - targ).tanh()
            slope = (1 - t * t) * out.g
            inp.g, targ.g = slope, -slope

    return Made(Wrong(), two(rng, 5, 3))


class GaussianNll(Module):
    """sum(log_var + (targ - mu)**2 / exp(log_var)) / 2, for fixed targets."""

    def __init__(self, targ):
        self.targ = targ

    def forward(self, mu, log_var):
        return (log_var + (self.targ - mu) ** 2 * (-log_var).exp()).sum() / 2


@corpus.case("swapped", wrong="mu log_var")
def gaussian_nll_swapped(rng: np.random.Generator) -> Made:
    """The mean gets the variance's gradient and the reverse."""

    class Wrong(GaussianNll):
        def bwd(self, out, mu, log_var):
            precision = (-log_var).exp()
            diff = mu - self.targ
            mu.g = (1 - diff * diff * precision) / 2 * out.g
            log_var.g = diff * precision * out.g

    return Made(Wrong(rng.normal(size=(5, 2))), two(rng, 5, 2))


@corpus.case("detached", wrong="log_var")
def gaussian_nll_log_only(rng: np.random.Generator) -> Made:
    """The weighting of the error is treated as a constant."""

    class Wrong(GaussianNll):
        def bwd(self, out, mu, log_var):
            mu.g = (mu - self.targ) * (-log_var).exp() * out.g
            log_var.g = gu.ones_like(log_var) / 2 * out.g

    return Made(Wrong(rng.normal(size=(5, 2))), two(rng, 5, 2))


class Ridge(Module):
    """mean((inp @ w - targ)**2) + penalty * sum(w**2), for fixed targets."""

    def __init__(self, rng, penalty=0.3):
        self.w = Parameter(rng.normal(size=4))
        self.targ = rng.normal(size=5)
        self.penalty = penalty

    def forward(self, inp):
        return ((inp @ self.w - self.targ) ** 2).mean() + self.penalty * (self.w**2).sum()


@corpus.case("overwritten", wrong="w", also="detached")
def ridge_penalty_lost(rng: np.random.Generator) -> Made:
    """The data's part of dw replaces the penalty's."""

    class Wrong(Ridge):
        def bwd(self, out, inp):
            slope = 2 * (inp @ self.w - self.targ) / len(inp) * out.g
            dw = 2 * self.penalty * self.w * out.g
            dw = inp.T @ slope
            inp.g = slope.unsqueeze(1) * self.w
            self.w.g = dw

    return Made(Wrong(rng), (rng.normal(size=(5, 4)),))


@corpus.case("cotangent", wrong="w")
def ridge_penalty_without_cotangent(rng: np.random.Generator) -> Made:
    """The penalty's part is not multiplied by what arrives."""

    class Wrong(Ridge):
        def bwd(self, out, inp):
            slope = 2 * (inp @ self.w - self.targ) / len(inp) * out.g
            inp.g = slope.unsqueeze(1) * self.w
            self.w.g = inp.T @ slope + 2 * self.penalty * self.w

    return Made(Wrong(rng), (rng.normal(size=(5, 4)),))


# Classification


class CrossEntropy(Module):
    """The mean of -log(softmax(logits))[label]."""

    def forward(self, logits, labels):
        rows = gu.arange(len(labels))
        return -logits.log_softmax(1)[rows, labels].mean()

    def one_hot(self, logits, labels):
        return gu.one_hot(labels, logits.shape[1], dtype=logits.dtype)


def scored(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Logits (5, 4) and labels."""
    return rng.normal(size=(5, 4)), np.array([1, 0, 3, 1, 2])


@corpus.case("mean", wrong="logits")
def cross_entropy_not_averaged(rng: np.random.Generator) -> Made:
    """p - y without the division by the batch."""

    class Wrong(CrossEntropy):
        def bwd(self, out, logits, labels):
            logits.g = (logits.softmax(1) - self.one_hot(logits, labels)) * out.g

    return Made(Wrong(), scored(rng))


@corpus.case("sign", wrong="logits")
def cross_entropy_y_minus_p(rng: np.random.Generator) -> Made:
    """y - p."""

    class Wrong(CrossEntropy):
        def bwd(self, out, logits, labels):
            slope = self.one_hot(logits, labels) - logits.softmax(1)
            logits.g = slope * out.g / len(labels)

    return Made(Wrong(), scored(rng))


@corpus.case("axis", wrong="logits")
def cross_entropy_softmax_over_batch(rng: np.random.Generator) -> Made:
    """The softmax of the columns."""

    class Wrong(CrossEntropy):
        def bwd(self, out, logits, labels):
            slope = logits.softmax(0) - self.one_hot(logits, labels)
            logits.g = slope * out.g / len(labels)

    return Made(Wrong(), scored(rng))


@corpus.case("softmax", wrong="logits")
def cross_entropy_through_diagonal(rng: np.random.Generator) -> Made:
    """-y / p, then p * (1 - p): only the right class gets a gradient."""

    class Wrong(CrossEntropy):
        def bwd(self, out, logits, labels):
            p = logits.softmax(1)
            dp = -self.one_hot(logits, labels) / p / len(labels) * out.g
            logits.g = p * (1 - p) * dp

    return Made(Wrong(), scored(rng))


@corpus.case("detached", wrong="logits")
def cross_entropy_without_normaliser(rng: np.random.Generator) -> Made:
    """-y: the log of the sum is treated as a constant."""

    class Wrong(CrossEntropy):
        def bwd(self, out, logits, labels):
            logits.g = -self.one_hot(logits, labels) * out.g / len(labels)

    return Made(Wrong(), scored(rng))


@corpus.case("cotangent", wrong="logits")
def cross_entropy_ignores_cotangent(rng: np.random.Generator) -> Made:
    """(p - y) / n, whatever arrives."""

    class Wrong(CrossEntropy):
        def bwd(self, out, logits, labels):
            logits.g = (logits.softmax(1) - self.one_hot(logits, labels)) / len(labels)

    return Made(Wrong(), scored(rng))


@corpus.case("stale", wrong="logits")
def cross_entropy_first_probabilities(rng: np.random.Generator) -> Made:
    """The probabilities of the first call."""

    class Wrong(CrossEntropy):
        def forward(self, logits, labels):
            if not hasattr(self, "p"):
                self.p = logits.softmax(1).detach()
            return super().forward(logits, labels)

        def bwd(self, out, logits, labels):
            logits.g = (self.p - self.one_hot(logits, labels)) * out.g / len(labels)

    loss = Wrong()
    loss(*scored(rng))
    return Made(loss, scored(rng))


class CrossEntropyFromOne(CrossEntropy):
    """Labels are counted from 1."""

    def forward(self, logits, labels):
        return super().forward(logits, labels - 1)


@corpus.case("shift", wrong="logits")
def cross_entropy_labels_from_one(rng: np.random.Generator) -> Made:
    """The backward pass counts the classes from 0."""

    class Wrong(CrossEntropyFromOne):
        def bwd(self, out, logits, labels):
            slope = logits.softmax(1) - self.one_hot(logits, labels)
            logits.g = slope * out.g / len(labels)

    return Made(Wrong(), (rng.normal(size=(5, 4)), np.array([1, 3, 2, 1, 3])))


class SmoothCrossEntropy(CrossEntropy):
    """With label smoothing."""

    smoothing = 0.2

    def forward(self, logits, labels):
        log_p = logits.log_softmax(1)
        rows = gu.arange(len(labels))
        nll, uniform = -log_p[rows, labels].mean(), -log_p.mean()
        return (1 - self.smoothing) * nll + self.smoothing * uniform


@corpus.case("detached", wrong="logits", also="formula")
def smooth_cross_entropy_as_plain(rng: np.random.Generator) -> Made:
    """The uniform part, the penalty, sends nothing back."""

    class Wrong(SmoothCrossEntropy):
        def bwd(self, out, logits, labels):
            slope = logits.softmax(1) - self.one_hot(logits, labels)
            logits.g = (1 - self.smoothing) * slope * out.g / len(labels)

    return Made(Wrong(), scored(rng))


@corpus.case("formula", wrong="logits")
def smooth_cross_entropy_not_over_classes(rng: np.random.Generator) -> Made:
    """The smoothed target has e, where e / classes is meant."""

    class Wrong(SmoothCrossEntropy):
        def bwd(self, out, logits, labels):
            e = self.smoothing
            target = (1 - e) * self.one_hot(logits, labels) + e
            logits.g = (logits.softmax(1) - target) * out.g / len(labels)

    return Made(Wrong(), scored(rng))


class WeightedCrossEntropy(CrossEntropy):
    """A weight for each class; the mean is over the labels' weights."""

    def __init__(self, weight):
        self.weight = weight

    def forward(self, logits, labels):
        rows, each = gu.arange(len(labels)), self.each(labels)
        return -(each * logits.log_softmax(1)[rows, labels]).sum() / each.sum()

    def each(self, labels):
        return self.weight[labels.numpy()]


@corpus.case("factor", wrong="logits")
def weighted_cross_entropy_over_classes(rng: np.random.Generator) -> Made:
    """Divided by the sum of the classes' weights."""

    class Wrong(WeightedCrossEntropy):
        def bwd(self, out, logits, labels):
            slope = logits.softmax(1) - self.one_hot(logits, labels)
            logits.g = self.each(labels)[:, None] * slope * out.g / self.weight.sum()

    return Made(Wrong(np.array([0.5, 2.0, 1.5, 3.0])), scored(rng))


@corpus.case("operand", wrong="logits")
def weighted_cross_entropy_column_weights(rng: np.random.Generator) -> Made:
    """The column's weight, where that of the row's label is meant."""

    class Wrong(WeightedCrossEntropy):
        def bwd(self, out, logits, labels):
            slope = logits.softmax(1) - self.one_hot(logits, labels)
            logits.g = self.weight * slope * out.g / self.each(labels).sum()

    return Made(Wrong(np.array([0.5, 2.0, 1.5, 3.0])), scored(rng))


class IgnoringCrossEntropy(CrossEntropy):
    """Rows with label 0 do not count; the mean is over the others."""

    def forward(self, logits, labels):
        log_p = logits.log_softmax(1)[gu.arange(len(labels)), labels]
        return -(log_p * (labels != 0)).sum() / (labels != 0).sum()


@corpus.case("mask", wrong="logits")
def cross_entropy_padding_counted(rng: np.random.Generator) -> Made:
    """The padding's rows get a gradient."""

    class Wrong(IgnoringCrossEntropy):
        def bwd(self, out, logits, labels):
            slope = logits.softmax(1) - self.one_hot(logits, labels)
            logits.g = slope * out.g / (labels != 0).sum()

    return Made(Wrong(), (rng.normal(size=(5, 4)), np.array([1, 0, 3, 0, 2])))


class Nll(Module):
    """-log_p[label], summed over rows; log_p comes from a log-softmax before."""

    def forward(self, log_p, labels):
        return -log_p[gu.arange(len(labels)), labels].sum()


@corpus.case("sign", wrong="log_p")
def nll_sign(rng: np.random.Generator) -> Made:
    """The minus is forgotten."""

    class Wrong(Nll):
        def bwd(self, out, log_p, labels):
            dlog_p = np.zeros(log_p.shape)
            dlog_p[np.arange(len(labels)), labels.numpy()] = 1.0
            log_p.g = dlog_p * out.g

    return Made(Wrong(), scored(rng))


@corpus.case("mean", wrong="log_p")
def nll_averaged(rng: np.random.Generator) -> Made:
    """Divided by the batch, where forward sums."""

    class Wrong(Nll):
        def bwd(self, out, log_p, labels):
            dlog_p = np.zeros(log_p.shape)
            dlog_p[np.arange(len(labels)), labels.numpy()] = -1.0 / len(labels)
            log_p.g = dlog_p * out.g

    return Made(Wrong(), scored(rng))


class NextTokenNll(Module):
    """The mean of -log_p[n, t, ids[n, t + 1]]: each place predicts the next token."""

    def forward(self, log_p, ids):
        return -log_p[:, :-1].take_along_axis(ids[:, 1:].unsqueeze(-1), 2).mean()


@corpus.case("shift", wrong="log_p")
def next_token_not_shifted(rng: np.random.Generator) -> Made:
    """The place's own token is the target."""

    class Wrong(NextTokenNll):
        def bwd(self, out, log_p, ids):
            n, length, classes = log_p.shape
            target = gu.one_hot(ids[:, :-1], classes, dtype=log_p.dtype)
            dlog_p = np.zeros(log_p.shape)
            dlog_p[:, :-1] = -target.numpy() / (n * (length - 1))
            log_p.g = dlog_p * out.g

    return Made(Wrong(), (rng.normal(size=(2, 4, 5)), rng.integers(0, 5, size=(2, 4))))


class Bce(Module):
    """Binary cross-entropy from logits, the mean; targ holds zeros and ones."""

    def forward(self, inp, targ):
        return ((1 + (-inp.abs()).exp()).log() + inp.relu() - inp * targ).mean()


def decided(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Logits (5, 3), and zeros and ones."""
    return rng.normal(size=(5, 3)), rng.integers(0, 2, size=(5, 3))


@corpus.case("operand", wrong="inp", also="activation")
def bce_without_sigmoid(rng: np.random.Generator) -> Made:
    """inp - targ, as for mse."""

    class Wrong(Bce):
        def bwd(self, out, inp, targ):
            inp.g = (inp - targ) * out.g / inp.size

    return Made(Wrong(), decided(rng))


@corpus.case("mean", wrong="inp")
def bce_not_averaged(rng: np.random.Generator) -> Made:
    """The gradient of the sum."""

    class Wrong(Bce):
        def bwd(self, out, inp, targ):
            inp.g = (inp.sigmoid() - targ) * out.g

    return Made(Wrong(), decided(rng))


@corpus.case("formula", wrong="inp")
def bce_sigmoid_derivative_kept(rng: np.random.Generator) -> Made:
    """(s - y) * s * (1 - s), as for the mse of a sigmoid."""

    class Wrong(Bce):
        def bwd(self, out, inp, targ):
            s = inp.sigmoid()
            inp.g = (s - targ) * s * (1 - s) * out.g / inp.size

    return Made(Wrong(), decided(rng))


class BceOfProbability(Module):
    """The sum of -y * log(p + eps) - (1 - y) * log(1 - p + eps)."""

    eps = 0.1

    def forward(self, p, targ):
        return -(targ * (p + self.eps).log() + (1 - targ) * (1 - p + self.eps).log()).sum()


@corpus.case("eps", wrong="p")
def bce_of_probability_eps_left_out(rng: np.random.Generator) -> Made:
    """-y / p + (1 - y) / (1 - p), without the eps of the logs."""

    class Wrong(BceOfProbability):
        def bwd(self, out, p, targ):
            p.g = ((1 - targ) / (1 - p) - targ / p) * out.g

    return Made(Wrong(), (rng.uniform(0.1, 0.9, size=(5, 3)), rng.integers(0, 2, size=(5, 3))))


@corpus.case("sign", wrong="p")
def bce_of_probability_negative_sign(rng: np.random.Generator) -> Made:
    """The whole slope's sign is the log-likelihood's."""

    class Wrong(BceOfProbability):
        def bwd(self, out, p, targ):
            positive = targ / (p + self.eps)
            negative = (1 - targ) / (1 - p + self.eps)
            p.g = (positive - negative) * out.g

    return Made(Wrong(), (rng.uniform(0.1, 0.9, size=(5, 3)), rng.integers(0, 2, size=(5, 3))))


# Divergences and margins


class Kl(Module):
    """sum(p * log(p / q)) / rows."""

    def forward(self, p, q):
        return (p * (p / q).log()).sum() / len(p)


def distributions(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Two of them, in each row."""
    return rng.dirichlet(np.full(4, 3.0), size=5), rng.dirichlet(np.full(4, 3.0), size=5)


@corpus.case("detached", wrong="p", also="formula")
def kl_without_one(rng: np.random.Generator) -> Made:
    """log(p / q), without the 1 that comes through the log."""

    class Wrong(Kl):
        def bwd(self, out, p, q):
            p.g = (p / q).log() * out.g / len(p)
            q.g = -p / q * out.g / len(p)

    return Made(Wrong(), distributions(rng))


@corpus.case("sign", wrong="q")
def kl_q_sign(rng: np.random.Generator) -> Made:
    """p / q, where -p / q is meant."""

    class Wrong(Kl):
        def bwd(self, out, p, q):
            p.g = ((p / q).log() + 1) * out.g / len(p)
            q.g = p / q * out.g / len(p)

    return Made(Wrong(), distributions(rng))


@corpus.case("swapped", wrong="p q")
def kl_arguments_swapped(rng: np.random.Generator) -> Made:
    """The prediction gets the target's gradient."""

    class Wrong(Kl):
        def bwd(self, out, p, q):
            dp, dq = ((p / q).log() + 1) / len(p), -p / q / len(p)
            q.g = dp * out.g
            p.g = dq * out.g

    return Made(Wrong(), distributions(rng))


class Hinge(Module):
    """The mean of max(0, 1 - y * score), y is -1 or 1."""

    def forward(self, score, y):
        return (1 - y * score).relu().mean()


def signed(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Scores, and -1 or 1 for each."""
    return rng.normal(size=6), np.array([1, -1, -1, 1, -1, 1])


@corpus.case("mask", wrong="score")
def hinge_without_margin_mask(rng: np.random.Generator) -> Made:
    """-y everywhere, beyond the margin too."""

    class Wrong(Hinge):
        def bwd(self, out, score, y):
            score.g = -y * out.g / len(score)

    return Made(Wrong(), (np.array([2.0, 0.3, -1.5, -0.4, 0.8, 1.7]), signed(rng)[1]))


@corpus.case("mask", wrong="score")
def hinge_mask_of_score(rng: np.random.Generator) -> Made:
    """score < 1, where y * score < 1 is meant."""

    class Wrong(Hinge):
        def bwd(self, out, score, y):
            score.g = -y * (score < 1) * out.g / len(score)

    return Made(Wrong(), (np.array([2.0, 0.3, -1.5, -0.4, 0.8, -1.7]), signed(rng)[1]))


class SquaredHinge(Module):
    """The sum of max(0, 1 - y * score)**2."""

    def forward(self, score, y):
        return ((1 - y * score).relu() ** 2).sum()


@corpus.case("factor", wrong="score")
def squared_hinge_without_two(rng: np.random.Generator) -> Made:
    """The square's 2 is missing."""

    class Wrong(SquaredHinge):
        def bwd(self, out, score, y):
            score.g = -y * (1 - y * score).relu() * out.g

    return Made(Wrong(), signed(rng))


class MulticlassHinge(Module):
    """The sum over wrong classes of max(0, score - right score + 1)."""

    def forward(self, scores, labels):
        return self.margins(scores, labels).relu().sum()

    def margins(self, scores, labels):
        right = scores.take_along_axis(labels.unsqueeze(1), 1)
        return (scores - right + 1) * (1 - gu.one_hot(labels, scores.shape[1], scores.dtype))


@corpus.case("sum", wrong="scores", also="formula")
def multiclass_hinge_right_class_once(rng: np.random.Generator) -> Made:
    """The right class gets -1, not minus the number of classes in the margin."""

    class Wrong(MulticlassHinge):
        def bwd(self, out, scores, labels):
            within = self.margins(scores, labels) > 0
            slope = within - gu.one_hot(labels, scores.shape[1], scores.dtype)
            scores.g = slope * out.g

    return Made(Wrong(), scored(rng))


@corpus.case("detached", wrong="scores")
def multiclass_hinge_right_class_forgotten(rng: np.random.Generator) -> Made:
    """The right class's score is treated as a constant."""

    class Wrong(MulticlassHinge):
        def bwd(self, out, scores, labels):
            scores.g = (self.margins(scores, labels) > 0) * out.g

    return Made(Wrong(), scored(rng))


# Distances


class CosineLoss(Module):
    """The mean of 1 - cos(a, b), with |a| = sqrt(a . a + eps)."""

    eps = 0.05

    def norm(self, x):
        return ((x * x).sum(1, keepdims=True) + self.eps).sqrt()

    def forward(self, a, b):
        return (1 - (a / self.norm(a) * (b / self.norm(b))).sum(1)).mean()


@corpus.case("detached", wrong="a b")
def cosine_norms_constant(rng: np.random.Generator) -> Made:
    """The norms are treated as constants."""

    class Wrong(CosineLoss):
        def bwd(self, out, a, b):
            scale = -out.g / len(a) / (self.norm(a) * self.norm(b))
            a.g = scale * b
            b.g = scale * a

    return Made(Wrong(), two(rng, 5, 3))


@corpus.case("swapped", wrong="a b")
def cosine_swapped(rng: np.random.Generator) -> Made:
    """Each gets the other's gradient."""

    class Wrong(CosineLoss):
        def bwd(self, out, a, b):
            x, y = a / self.norm(a), b / self.norm(b)
            cos = (x * y).sum(1, keepdims=True)
            scale = -out.g / len(a)
            b.g = scale * (y - cos * x) / self.norm(a)
            a.g = scale * (x - cos * y) / self.norm(b)

    return Made(Wrong(), two(rng, 5, 3))


@corpus.case("eps", wrong="a")
def cosine_eps_outside(rng: np.random.Generator) -> Made:
    """|a| with eps after the root."""

    class Wrong(CosineLoss):
        def bwd(self, out, a, b):
            norm_a, norm_b = (a * a).sum(1, keepdims=True).sqrt() + self.eps, self.norm(b)
            scale = -out.g / len(a)
            y = b / norm_b
            a.g = scale * (y - a * (a * y).sum(1, keepdims=True) / norm_a**2) / norm_a
            x = a / self.norm(a)
            b.g = scale * (x - y * (x * y).sum(1, keepdims=True)) / norm_b

    return Made(Wrong(), two(rng, 5, 3))


class Contrastive(Module):
    """same * d**2 + (1 - same) * max(0, margin - d)**2, summed; d is the rows' distance."""

    margin = 2.0

    def distance(self, a, b):
        return (((a - b) ** 2).sum(1) + 0.01).sqrt()

    def forward(self, a, b, same):
        d = self.distance(a, b)
        return (same * d**2 + (1 - same) * (self.margin - d).relu() ** 2).sum()


def pairs(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Two points and whether they belong together, near and far ones."""
    a = rng.normal(size=(6, 3))
    step = rng.normal(size=(6, 3)) * np.array([[0.4], [0.4], [0.4], [3.0], [3.0], [3.0]])
    return a, a + step, np.array([1, 0, 0, 1, 0, 0])


@corpus.case("mask", wrong="a b")
def contrastive_margin_not_masked(rng: np.random.Generator) -> Made:
    """Strangers beyond the margin are pulled back."""

    class Wrong(Contrastive):
        def bwd(self, out, a, b, same):
            d = self.distance(a, b)
            dd = 2 * (same * d - (1 - same) * (self.margin - d)) * out.g
            da = (dd / d).unsqueeze(1) * (a - b)
            a.g, b.g = da, -da

    return Made(Wrong(), pairs(rng))


@corpus.case("formula", wrong="a b")
def contrastive_distance_not_divided(rng: np.random.Generator) -> Made:
    """d distance = a - b, without the division by the distance."""

    class Wrong(Contrastive):
        def bwd(self, out, a, b, same):
            d = self.distance(a, b)
            dd = 2 * (same * d - (1 - same) * (self.margin - d).relu()) * out.g
            da = dd.unsqueeze(1) * (a - b)
            a.g, b.g = da, -da

    return Made(Wrong(), pairs(rng))


class InfoNce(Module):
    """The mean cross-entropy of a @ b.T / temperature, whose right classes are the diagonal."""

    temperature = 0.5

    def logits(self, a, b):
        return a @ b.T / self.temperature

    def forward(self, a, b):
        rows = gu.arange(len(a))
        return -self.logits(a, b).log_softmax(1)[rows, rows].mean()


@corpus.case("transpose", wrong="b")
def infonce_logits_not_transposed(rng: np.random.Generator) -> Made:
    """b's gradient from the logits' gradient as it is; it is square."""

    class Wrong(InfoNce):
        def bwd(self, out, a, b):
            slope = self.logits(a, b).softmax(1) - gu.eye(len(a), dtype=a.dtype)
            slope = slope * out.g / (len(a) * self.temperature)
            a.g = slope @ b
            b.g = slope @ a

    return Made(Wrong(), two(rng, 4, 3))


@corpus.case("factor", wrong="a b")
def infonce_temperature_forgotten(rng: np.random.Generator) -> Made:
    """The logits' scale is not sent back."""

    class Wrong(InfoNce):
        def bwd(self, out, a, b):
            slope = self.logits(a, b).softmax(1) - gu.eye(len(a), dtype=a.dtype)
            slope = slope * out.g / len(a)
            a.g = slope @ b
            b.g = slope.T @ a

    return Made(Wrong(), two(rng, 4, 3))


@corpus.case("axis", wrong="a b")
def infonce_softmax_over_columns(rng: np.random.Generator) -> Made:
    """The softmax of the other direction's loss."""

    class Wrong(InfoNce):
        def bwd(self, out, a, b):
            slope = self.logits(a, b).softmax(0) - gu.eye(len(a), dtype=a.dtype)
            slope = slope * out.g / (len(a) * self.temperature)
            a.g = slope @ b
            b.g = slope.T @ a

    return Made(Wrong(), two(rng, 4, 3))


class Triplet(Module):
    """The sum of max(0, |anchor - near|**2 - |anchor - far|**2 + margin)."""

    margin = 1.0

    def forward(self, anchor, near, far):
        return self.excess(anchor, near, far).relu().sum()

    def excess(self, anchor, near, far):
        return ((anchor - near) ** 2).sum(1) - ((anchor - far) ** 2).sum(1) + self.margin

    def inside(self, anchor, near, far):
        return (self.excess(anchor, near, far) > 0).unsqueeze(1)


def triplets(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Some within the margin and some beyond it."""
    anchor = rng.normal(size=(6, 3))
    reach = np.array([[2.0], [0.1], [2.0], [0.1], [2.0], [0.1]])
    return anchor, anchor + reach * rng.normal(size=(6, 3)), rng.normal(size=(6, 3)) + 0.5


@corpus.case("overwritten", wrong="anchor", also="detached")
def triplet_anchor_overwritten(rng: np.random.Generator) -> Made:
    """The anchor's pull from near is replaced by the push from far."""

    class Wrong(Triplet):
        def bwd(self, out, anchor, near, far):
            inside = self.inside(anchor, near, far)
            d_anchor = 2 * inside * (anchor - near) * out.g
            near.g = -d_anchor
            d_anchor = -2 * inside * (anchor - far) * out.g
            far.g = -d_anchor
            anchor.g = d_anchor

    return Made(Wrong(), triplets(rng))


@corpus.case("operand", wrong="far")
def triplet_near_for_far(rng: np.random.Generator) -> Made:
    """A copied line: near where far is meant."""

    class Wrong(Triplet):
        def bwd(self, out, anchor, near, far):
            g = self.inside(anchor, near, far) * out.g
            anchor.g = 2 * (far - near) * g
            near.g = -2 * (anchor - near) * g
            far.g = 2 * (anchor - near) * g

    return Made(Wrong(), triplets(rng))


class Poisson(Module):
    """The mean of exp(inp) - count * inp."""

    def forward(self, inp, count):
        return (inp.exp() - count * inp).mean()


@corpus.case("operand", wrong="inp", also="activation")
def poisson_without_exp(rng: np.random.Generator) -> Made:
    """inp - count: the exponential is forgotten."""

    class Wrong(Poisson):
        def bwd(self, out, inp, count):
            inp.g = (inp - count) * out.g / inp.size

    return Made(Wrong(), (rng.normal(size=(5, 3)), rng.poisson(2.0, size=(5, 3))))
