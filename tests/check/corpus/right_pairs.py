"""NumPy pairs and torch Functions whose backward is right: plain ones, then awkward ones."""

import numpy as np

from corpus.case import Corpus, Made

corpus = Corpus()


def pair(forward, backward, *inputs) -> Made:
    return Made(forward, inputs, {"backward": backward})


# Layers


@corpus.case()
def pair_linear(rng: np.random.Generator) -> Made:
    """x @ w + b."""

    def forward(x, w, b):
        return x @ w + b

    def backward(dout, x, w, b):
        return dout @ w.T, x.T @ dout, dout.sum(axis=0)

    inputs = (rng.normal(size=shape) for shape in ((5, 4), (4, 3), 3))
    return pair(forward, backward, *inputs)


@corpus.case()
def pair_affine_with_cache(rng: np.random.Generator) -> Made:
    """The affine layer of cs231n: images are flattened first."""

    def forward(x, w, b):
        out = x.reshape(x.shape[0], -1) @ w + b
        cache = (x, w)
        return out, cache

    def backward(dout, cache):
        x, w = cache
        dx = (dout @ w.T).reshape(x.shape)
        dw = x.reshape(x.shape[0], -1).T @ dout
        db = dout.sum(axis=0)
        return dx, dw, db

    inputs = (rng.normal(size=shape) for shape in ((3, 2, 4), (8, 5), 5))
    return pair(forward, backward, *inputs)


@corpus.case()
def pair_two_layers_as_dict(rng: np.random.Generator) -> Made:
    """relu(x @ w1 + b1) @ w2 + b2; gradients by name, in the order in which they are found."""

    def forward(x, w1, b1, w2, b2):
        return np.maximum(x @ w1 + b1, 0) @ w2 + b2

    def backward(dout, x, w1, b1, w2, b2):
        grads = {}
        hidden = np.maximum(x @ w1 + b1, 0)
        grads["w2"] = hidden.T @ dout
        grads["b2"] = dout.sum(0)
        dhidden = dout @ w2.T
        dhidden[hidden <= 0] = 0
        grads["w1"] = x.T @ dhidden
        grads["b1"] = dhidden.sum(0)
        grads["x"] = dhidden @ w1.T
        return grads

    inputs = (rng.normal(size=shape) for shape in ((5, 4), (4, 6), 6, (6, 3), 3))
    return pair(forward, backward, *inputs)


@corpus.case()
def pair_conv2d_strided(rng: np.random.Generator) -> Made:
    """The naive convolution of cs231n with stride 2 and padding 1."""
    stride, border = 2, 1

    def forward(x, w, b):
        n, _, height, width = x.shape
        f, _, hh, ww = w.shape
        padded = np.pad(x, ((0, 0), (0, 0), (border, border), (border, border)))
        h_out = (height + 2 * border - hh) // stride + 1
        w_out = (width + 2 * border - ww) // stride + 1
        out = np.zeros((n, f, h_out, w_out), x.dtype)
        for i in range(h_out):
            for j in range(w_out):
                top, left = i * stride, j * stride
                window = padded[:, :, top : top + hh, left : left + ww]
                out[:, :, i, j] = np.tensordot(window, w, axes=((1, 2, 3), (1, 2, 3))) + b
        return out, (padded, w)

    def backward(dout, cache):
        padded, w = cache
        hh, ww = w.shape[2:]
        dpadded, dw = np.zeros_like(padded), np.zeros_like(w)
        for i in range(dout.shape[2]):
            for j in range(dout.shape[3]):
                here = (..., slice(i * stride, i * stride + hh), slice(j * stride, j * stride + ww))
                d = dout[:, :, i, j]
                dpadded[here] += np.tensordot(d, w, axes=(1, 0))
                dw += np.tensordot(d, padded[here], axes=(0, 0))
        dx = dpadded[:, :, border:-border, border:-border]
        return dx, dw, dout.sum(axis=(0, 2, 3))

    inputs = (rng.normal(size=shape) for shape in ((2, 2, 5, 4), (3, 2, 3, 3), 3))
    return pair(forward, backward, *inputs)


@corpus.case()
def pair_max_pool(rng: np.random.Generator) -> Made:
    """Windows of three with stride two: neighbouring windows share an entry."""

    def forward(x):
        return np.stack([x[:, i : i + 3].max(axis=1) for i in range(0, x.shape[1] - 2, 2)], axis=1)

    def backward(dout, x):
        dx = np.zeros_like(x)
        rows = np.arange(len(x))
        for j in range(dout.shape[1]):
            winner = 2 * j + x[:, 2 * j : 2 * j + 3].argmax(axis=1)
            dx[rows, winner] += dout[:, j]
        return (dx,)

    return pair(forward, backward, rng.normal(size=(4, 7)))


def batchnorm(x, gamma, beta):
    """Over the batch, eps inside the root; the cache has what backward needs."""
    mu = x.mean(axis=0)
    var = x.var(axis=0)
    std = np.sqrt(var + 1e-5)
    xhat = (x - mu) / std
    return gamma * xhat + beta, (xhat, gamma, std)


@corpus.case()
def pair_batchnorm(rng: np.random.Generator) -> Made:
    """The short form of the backward pass."""

    def backward(dout, cache):
        xhat, gamma, std = cache
        n = len(dout)
        dbeta = dout.sum(axis=0)
        dgamma = (dout * xhat).sum(axis=0)
        dx = gamma / (n * std) * (n * dout - dbeta - xhat * dgamma)
        return dx, dgamma, dbeta

    inputs = (rng.normal(1, 2, size=(6, 3)), rng.normal(size=3), rng.normal(size=3))
    return pair(batchnorm, backward, *inputs)


@corpus.case()
def pair_batchnorm_step_by_step(rng: np.random.Generator) -> Made:
    """The long form: every step of the computational graph on its own."""

    def forward(x, gamma, beta):
        xmu = x - x.mean(axis=0)
        sq = xmu**2
        var = sq.mean(axis=0)
        sqrtvar = np.sqrt(var + 1e-5)
        ivar = 1 / sqrtvar
        xhat = xmu * ivar
        return gamma * xhat + beta, (xmu, sqrtvar, ivar, xhat, gamma)

    def backward(dout, cache):
        xmu, sqrtvar, ivar, xhat, gamma = cache
        n = len(dout)
        dbeta = np.sum(dout, axis=0)
        dgamma = np.sum(dout * xhat, axis=0)
        dxhat = dout * gamma
        divar = np.sum(dxhat * xmu, axis=0)
        dxmu = dxhat * ivar
        dsqrtvar = -divar / sqrtvar**2
        dvar = 0.5 * dsqrtvar / sqrtvar
        dsq = np.ones_like(xmu) * dvar / n
        dxmu += 2 * xmu * dsq
        dmu = -dxmu.sum(axis=0)
        dx = dxmu + dmu / n
        return dx, dgamma, dbeta

    inputs = (rng.normal(1, 2, size=(6, 3)), rng.normal(size=3), rng.normal(size=3))
    return pair(forward, backward, *inputs)


@corpus.case()
def pair_groupnorm(rng: np.random.Generator) -> Made:
    """Four channels in two groups."""

    def forward(x, scale):
        xhat, _ = normalised(x)
        return xhat.reshape(x.shape) * scale[:, None]

    def backward(dout, x, scale):
        xhat, std = normalised(x)
        dscale = (dout * xhat.reshape(x.shape)).sum(axis=(0, 2))
        d = (dout * scale[:, None]).reshape(xhat.shape)
        mean_d, mean_dx = (t.mean(axis=2, keepdims=True) for t in (d, d * xhat))
        return ((d - mean_d - xhat * mean_dx) / std).reshape(x.shape), dscale

    def normalised(x):
        groups = x.reshape(len(x), 2, -1)
        std = np.sqrt(groups.var(axis=2, keepdims=True) + 1e-5)
        return (groups - groups.mean(axis=2, keepdims=True)) / std, std

    return pair(forward, backward, rng.normal(size=(3, 4, 5)), rng.normal(size=4))


@corpus.case()
def pair_dropout_seeded(rng: np.random.Generator) -> Made:
    """The mask comes from a generator that starts anew in every call."""

    def forward(x):
        mask = (np.random.default_rng(3).random(x.shape) < 0.6) / 0.6
        return x * mask, mask

    def backward(dout, mask):
        return (dout * mask,)

    return pair(forward, backward, rng.normal(size=(5, 4)))


@corpus.case()
def pair_embedding(rng: np.random.Generator) -> Made:
    """Words are rows of a table; several words are the same."""

    def forward(words, table):
        return table[words]

    def backward(dout, words, table):
        dtable = np.zeros_like(table)
        np.add.at(dtable, words, dout)
        return None, dtable

    return pair(forward, backward, np.array([[0, 3, 3], [1, 0, 3]]), rng.normal(size=(5, 4)))


@corpus.case()
def pair_attention(rng: np.random.Generator) -> Made:
    """Two heads of scaled dot products, by einsum."""

    def forward(q, k, v):
        return np.einsum("hij,hjd->hid", weights(q, k), v)

    def backward(dout, q, k, v):
        a = weights(q, k)
        dv = np.einsum("hij,hid->hjd", a, dout)
        da = np.einsum("hid,hjd->hij", dout, v)
        ds = a * (da - (da * a).sum(axis=-1, keepdims=True)) / np.sqrt(q.shape[-1])
        return np.einsum("hij,hjd->hid", ds, k), np.einsum("hij,hid->hjd", ds, q), dv

    def weights(q, k):
        s = np.einsum("hid,hjd->hij", q, k) / np.sqrt(q.shape[-1])
        e = np.exp(s - s.max(axis=-1, keepdims=True))
        return e / e.sum(axis=-1, keepdims=True)

    inputs = (rng.normal(size=shape) for shape in ((2, 4, 3), (2, 5, 3), (2, 5, 2)))
    return pair(forward, backward, *inputs)


@corpus.case()
def pair_rnn(rng: np.random.Generator) -> Made:
    """Backpropagation through time, weights shared by all steps."""

    def forward(x, h0, wx, wh, b):
        hs = [h0]
        for t in range(x.shape[1]):
            hs.append(np.tanh(x[:, t] @ wx + hs[-1] @ wh + b))
        return np.stack(hs[1:], axis=1), (x, hs, wx, wh)

    def backward(dout, cache):
        x, hs, wx, wh = cache
        dx, dwx, dwh = np.zeros_like(x), np.zeros_like(wx), np.zeros_like(wh)
        db, dh = np.zeros(wh.shape[0]), np.zeros_like(hs[0])
        for t in reversed(range(x.shape[1])):
            da = (dh + dout[:, t]) * (1 - hs[t + 1] ** 2)
            dx[:, t] = da @ wx.T
            dwx += x[:, t].T @ da
            dwh += hs[t].T @ da
            db += da.sum(axis=0)
            dh = da @ wh.T
        return dx, dh, dwx, dwh, db

    inputs = (rng.normal(size=shape) for shape in ((2, 4, 3), (2, 5), (3, 5), (5, 5), 5))
    return pair(forward, backward, *inputs)


@corpus.case()
def pair_bilinear_upsampling(rng: np.random.Generator) -> Made:
    """np.interp onto a finer grid: each sample is shared between two neighbours."""
    grid = np.linspace(0, 4, 11)
    left = np.minimum(np.floor(grid).astype(int), 3)
    part = grid - left

    def forward(x):
        return (1 - part) * x[left] + part * x[left + 1]

    def backward(dout, x):
        dx = np.bincount(left, (1 - part) * dout, minlength=5)
        return (dx + np.bincount(left + 1, part * dout, minlength=5),)

    return pair(forward, backward, rng.normal(size=5))


# Losses


def softmax_loss(logits, labels):
    """The mean of -log softmax(logits)[label]."""
    shifted = logits - logits.max(axis=1, keepdims=True)
    log_p = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    return -log_p[np.arange(len(labels)), labels].mean()


def softmax_loss_backward(dout, logits, labels):
    """(p - onehot) / n."""
    p = np.exp(logits - logits.max(axis=1, keepdims=True))
    p /= p.sum(axis=1, keepdims=True)
    p[np.arange(len(labels)), labels] -= 1
    return p / len(labels) * dout, None


@corpus.case()
def pair_softmax_loss(rng: np.random.Generator) -> Made:
    """Logits and labels."""
    labels = np.array([1, 2, 0, 2, 2])
    return pair(softmax_loss, softmax_loss_backward, rng.normal(size=(5, 3)), labels)


@corpus.case()
def pair_svm_loss(rng: np.random.Generator) -> Made:
    """The multiclass hinge loss of cs231n, vectorised."""

    def forward(scores, y):
        rows = np.arange(len(y))
        margins = np.maximum(0, scores - scores[rows, y][:, None] + 1)
        margins[rows, y] = 0
        return margins.sum() / len(y)

    def backward(dout, scores, y):
        rows = np.arange(len(y))
        d = (scores - scores[rows, y][:, None] + 1 > 0).astype(float)
        d[rows, y] = 0
        d[rows, y] = -d.sum(axis=1)
        return {"scores": dout * d / len(y), "y": None}

    return pair(forward, backward, rng.normal(size=(5, 4)), np.array([0, 3, 1, 3, 2]))


@corpus.case()
def pair_gaussian_log_likelihood(rng: np.random.Generator) -> Made:
    """Of a multivariate normal, through the Cholesky factor; the precision is an inverse."""

    def forward(x, mean, cov):
        lower = np.linalg.cholesky((cov + cov.T) / 2)
        z = np.linalg.solve(lower, x - mean)
        return -0.5 * z @ z - np.log(np.diag(lower)).sum()

    def backward(dout, x, mean, cov):
        precision = np.linalg.inv((cov + cov.T) / 2)
        a = precision @ (x - mean)
        return -dout * a, dout * a, dout * 0.5 * (np.outer(a, a) - precision)

    root = rng.normal(size=(3, 3))
    cov = root @ root.T + np.eye(3)
    return pair(forward, backward, rng.normal(size=3), rng.normal(size=3), cov)


@corpus.case()
def pair_contrastive_loss(rng: np.random.Generator) -> Made:
    """Pairs of the same kind are pulled together, others pushed apart up to a margin."""

    def forward(a, b, same):
        d = np.sqrt(((a - b) ** 2).sum(axis=1))
        return np.where(same, d**2, np.maximum(2.5 - d, 0) ** 2).mean()

    def backward(dout, a, b, same):
        diff = a - b
        d = np.sqrt((diff**2).sum(axis=1))
        slope = np.where(same, 2 * d, -2 * np.maximum(2.5 - d, 0)) / len(d)
        da = dout * (slope / d)[:, None] * diff
        return da, -da, None

    same = np.array([True, False, False, True, False])
    return pair(forward, backward, rng.normal(size=(5, 3)), rng.normal(size=(5, 3)), same)


# Linear algebra


@corpus.case()
def pair_determinant(rng: np.random.Generator) -> Made:
    """det(a) * inv(a).T, by the output."""

    def forward(a):
        return np.linalg.det(a)

    def backward(dout, a, out):
        return (dout * out * np.linalg.inv(a).T,)

    return pair(forward, backward, rng.normal(size=(4, 4)))


@corpus.case()
def pair_inverse(rng: np.random.Generator) -> Made:
    """-inv.T @ g @ inv.T."""

    def forward(a):
        return np.linalg.inv(a)

    def backward(dout, a, out):
        return (-out.T @ dout @ out.T,)

    return pair(forward, backward, rng.normal(size=(3, 3)) + 3 * np.eye(3))


@corpus.case()
def pair_solve(rng: np.random.Generator) -> Made:
    """Solve with the transposed matrix."""

    def forward(a, b):
        return np.linalg.solve(a, b)

    def backward(dout, a, b, out):
        db = np.linalg.solve(a.T, dout)
        return -db @ out.T, db

    return pair(forward, backward, rng.normal(size=(4, 4)) + 3 * np.eye(4), rng.normal(size=(4, 2)))


@corpus.case()
def pair_cholesky(rng: np.random.Generator) -> Made:
    """Murray's formula (arXiv:1602.07527); the matrix is made symmetric in forward."""

    def forward(a):
        return np.linalg.cholesky((a + a.T) / 2)

    def backward(dout, a, out):
        inverse = np.linalg.inv(out)
        phi = np.tril(out.T @ np.tril(dout))
        phi[np.diag_indices(len(a))] /= 2
        d = inverse.T @ phi @ inverse
        return ((d + d.T) / 2,)

    root = rng.normal(size=(3, 3))
    return pair(forward, backward, root @ root.T + np.eye(3))


@corpus.case()
def pair_largest_eigenvalues(rng: np.random.Generator) -> Made:
    """Weighted eigenvalues of a symmetric matrix: v diag(w) v.T."""

    def forward(a, weights):
        return np.linalg.eigvalsh((a + a.T) / 2) @ weights

    def backward(dout, a, weights):
        values, vectors = np.linalg.eigh((a + a.T) / 2)
        return dout * (vectors * weights) @ vectors.T, dout * values

    return pair(forward, backward, rng.normal(size=(4, 4)), rng.normal(size=4))


@corpus.case()
def pair_matrix_power_series(rng: np.random.Generator) -> Made:
    """I + a + a@a/2 + a@a@a/6: every factor has a gradient of its own."""

    def forward(a):
        return np.eye(len(a)) + a + a @ a / 2 + a @ a @ a / 6

    def backward(dout, a):
        t = a.T
        da = dout + (dout @ t + t @ dout) / 2
        da += (dout @ t @ t + t @ dout @ t + t @ t @ dout) / 6
        return (da,)

    return pair(forward, backward, rng.normal(size=(3, 3)))


# Reductions, order, shapes and broadcasting


@corpus.case()
def pair_broadcast_every_way(rng: np.random.Generator) -> Made:
    """(4, 1, 3) * (5, 1) / (3,) - (): each gradient is summed by hand."""

    def forward(a, b, c, d):
        return a * b / c - d

    def backward(dout, a, b, c, d):
        da = (dout * b / c).sum(axis=1, keepdims=True)
        db = (dout * a / c).sum(axis=(0, 2))[:, None]
        dc = -(dout * a * b / c**2).sum(axis=(0, 1))
        return da, db, dc, -dout.sum()

    shapes = ((4, 1, 3), (5, 1), (3,), ())
    return pair(forward, backward, *(np.array(rng.uniform(1, 2, size=shape)) for shape in shapes))


@corpus.case()
def pair_einsum_of_three(rng: np.random.Generator) -> Made:
    """A Tucker product: core[a, b, c] with a factor for every axis."""

    def forward(core, u, v, w):
        return np.einsum("abc,ia,jb,kc->ijk", core, u, v, w)

    def backward(dout, core, u, v, w):
        return (
            np.einsum("ijk,ia,jb,kc->abc", dout, u, v, w),
            np.einsum("ijk,abc,jb,kc->ia", dout, core, v, w),
            np.einsum("ijk,abc,ia,kc->jb", dout, core, u, w),
            np.einsum("ijk,abc,ia,jb->kc", dout, core, u, v),
        )

    shapes = ((2, 3, 2), (3, 2), (2, 3), (4, 2))
    return pair(forward, backward, *(rng.normal(size=shape) for shape in shapes))


@corpus.case()
def pair_kronecker(rng: np.random.Generator) -> Made:
    """np.kron."""

    def forward(a, b):
        return np.kron(a, b)

    def backward(dout, a, b):
        blocks = dout.reshape(a.shape[0], b.shape[0], a.shape[1], b.shape[1])
        return np.einsum("ikjl,kl->ij", blocks, b), np.einsum("ikjl,ij->kl", blocks, a)

    return pair(forward, backward, rng.normal(size=(2, 3)), rng.normal(size=(3, 2)))


@corpus.case()
def pair_convolve(rng: np.random.Generator) -> Made:
    """np.convolve in full: gradients are correlations."""

    def forward(signal, kernel):
        return np.convolve(signal, kernel)

    def backward(dout, signal, kernel):
        dsignal = np.correlate(dout, kernel, "valid")
        return dsignal, np.correlate(dout, signal, "valid")

    return pair(forward, backward, rng.normal(size=7), rng.normal(size=3))


@corpus.case()
def pair_discounted_returns(rng: np.random.Generator) -> Made:
    """returns[t] = rewards[t] + gamma * returns[t + 1], gamma an input."""

    def forward(rewards, gamma):
        returns = rewards.copy()
        for t in reversed(range(len(rewards) - 1)):
            returns[t] += gamma * returns[t + 1]
        return returns

    def backward(dout, rewards, gamma, out):
        drewards, dgamma = dout.copy(), 0.0
        for t in range(len(rewards) - 1):
            dgamma += drewards[t] * out[t + 1]
            drewards[t + 1] += gamma * drewards[t]
        return drewards, dgamma

    return pair(forward, backward, rng.normal(size=6), np.array(0.9))


@corpus.case()
def pair_cumprod_with_a_zero(rng: np.random.Generator) -> Made:
    """Running products; dividing by x is no way to their gradient, as one entry is 0."""

    def forward(x):
        return np.cumprod(x)

    def backward(dout, x):
        dx = np.zeros_like(x)
        for i in range(len(x)):
            others = x.copy()
            others[i] = 1
            dx[i] = (dout * np.cumprod(others))[i:].sum()
        return (dx,)

    return pair(forward, backward, np.array([1.5, -0.5, 0.0, 2.0, 0.7]))


@corpus.case()
def pair_sort_and_median(rng: np.random.Generator) -> Made:
    """Columns sorted, less their medians."""

    def forward(x):
        return np.sort(x, axis=0) - np.median(x, axis=0)

    def backward(dout, x):
        order = np.argsort(x, axis=0)
        d = dout.copy()
        d[len(x) // 2] -= dout.sum(axis=0)
        dx = np.empty_like(x)
        np.put_along_axis(dx, order, d, axis=0)
        return (dx,)

    return pair(forward, backward, rng.normal(size=(5, 3)))


@corpus.case()
def pair_gather_with_negative_indices(rng: np.random.Generator) -> Made:
    """Indices count from the end as well: -1 and 3 are the same row."""

    def forward(x, rows, flags):
        return x[rows] * flags[:, None] + x[0]

    def backward(dout, x, rows, flags):
        dx = np.zeros_like(x)
        np.add.at(dx, rows, dout * flags[:, None])
        dx[0] += dout.sum(axis=0)
        return dx, None, None

    rows, flags = np.array([-1, 3, 1, 3, -4]), np.array([True, True, False, True, True])
    return pair(forward, backward, rng.normal(size=(4, 3)), rows, flags)


@corpus.case()
def pair_p_norm_of_rows(rng: np.random.Generator) -> Made:
    """(sum |x|**p)**(1/p), with p a number that has a gradient, too."""

    def forward(x, p):
        return (np.abs(x) ** p).sum(axis=1) ** (1 / p)

    def backward(dout, x, p, out):
        size = np.abs(x)
        total = (size**p).sum(axis=1)
        dx = (dout * out ** (1 - p))[:, None] * np.sign(x) * size ** (p - 1)
        weighted = (size**p * np.log(size)).sum(axis=1) / (p * total)
        return dx, (dout * out * (weighted - np.log(total) / p**2)).sum()

    return pair(forward, backward, rng.normal(size=(4, 3)), np.array(3.0))


# torch.autograd.Function


@corpus.case()
def function_linear(rng: np.random.Generator) -> Made:
    """The example of PyTorch's documentation: only what is needed is computed."""
    import torch

    class Linear(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x, weight, bias):
            ctx.save_for_backward(x, weight)
            return x @ weight.t() + bias

        @staticmethod
        def backward(ctx, grad):
            x, weight = ctx.saved_tensors
            dx = dweight = dbias = None
            if ctx.needs_input_grad[0]:
                dx = grad @ weight
            if ctx.needs_input_grad[1]:
                dweight = grad.t() @ x
            if ctx.needs_input_grad[2]:
                dbias = grad.sum(0)
            return dx, dweight, dbias

    return Made(Linear, tuple(rng.normal(size=shape) for shape in ((5, 4), (3, 4), 3)))


@corpus.case()
def function_exp_from_output(rng: np.random.Generator) -> Made:
    """The output is saved."""
    import torch

    class Exp(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            out = x.exp()
            ctx.save_for_backward(out)
            return out

        @staticmethod
        def backward(ctx, grad):
            (out,) = ctx.saved_tensors
            return grad * out

    return Made(Exp, (rng.normal(size=(4, 3)),))


@corpus.case()
def function_layernorm(rng: np.random.Generator) -> Made:
    """torch.var with correction=0."""
    import torch

    class LayerNorm(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x, gain, bias):
            rstd = (x.var(-1, correction=0, keepdim=True) + 1e-5).rsqrt()
            xhat = (x - x.mean(-1, keepdim=True)) * rstd
            ctx.save_for_backward(xhat, rstd, gain)
            return xhat * gain + bias

        @staticmethod
        def backward(ctx, grad):
            xhat, rstd, gain = ctx.saved_tensors
            d = grad * gain
            d = d - d.mean(-1, keepdim=True) - xhat * (d * xhat).mean(-1, keepdim=True)
            return d * rstd, (grad * xhat).sum((0, 1)), grad.sum((0, 1))

    return Made(LayerNorm, (rng.normal(size=(2, 3, 6)), rng.normal(size=6), rng.normal(size=6)))


@corpus.case()
def function_cross_entropy(rng: np.random.Generator) -> Made:
    """Labels are integers and get None."""
    import torch

    class CrossEntropy(torch.autograd.Function):
        @staticmethod
        def forward(ctx, logits, labels):
            log_p = logits.log_softmax(1)
            ctx.save_for_backward(log_p, labels)
            return -log_p.gather(1, labels[:, None]).mean()

        @staticmethod
        def backward(ctx, grad):
            log_p, labels = ctx.saved_tensors
            right = torch.nn.functional.one_hot(labels, log_p.shape[1])
            return grad * (log_p.exp() - right) / len(labels), None

    return Made(CrossEntropy, (rng.normal(size=(5, 3)), np.array([1, 0, 2, 2, 1])))


@corpus.case()
def function_index_add(rng: np.random.Generator) -> Made:
    """Messages of a graph: gathered from one end of each edge, added up at the other."""
    import torch

    class Messages(torch.autograd.Function):
        @staticmethod
        def forward(ctx, nodes, weight, source, target):
            ctx.save_for_backward(nodes, weight, source, target)
            messages = nodes[source] * weight[:, None]
            return torch.zeros_like(nodes).index_add(0, target, messages)

        @staticmethod
        def backward(ctx, grad):
            nodes, weight, source, target = ctx.saved_tensors
            arrived = grad[target]
            dnodes = torch.zeros_like(nodes).index_add(0, source, arrived * weight[:, None])
            return dnodes, (arrived * nodes[source]).sum(1), None, None

    source, target = np.array([0, 0, 1, 3, 2, 0]), np.array([1, 2, 3, 1, 1, 0])
    return Made(Messages, (rng.normal(size=(4, 3)), rng.normal(size=6), source, target))


@corpus.case()
def function_with_two_outputs(rng: np.random.Generator) -> Made:
    """Polar coordinates; both gradients go back to both inputs."""
    import torch

    class Polar(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x, y):
            ctx.save_for_backward(x, y)
            return torch.sqrt(x * x + y * y), torch.atan2(y, x)

        @staticmethod
        def backward(ctx, dr, dangle):
            x, y = ctx.saved_tensors
            rr = x * x + y * y
            r = rr.sqrt()
            return dr * x / r - dangle * y / rr, dr * y / r + dangle * x / rr

    return Made(Polar, (rng.uniform(0.5, 2, size=5), rng.normal(size=5)))


@corpus.case()
def function_with_an_integer_output(rng: np.random.Generator) -> Made:
    """Values and where they were found; the second output has no gradient."""
    import torch

    class Max(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            values, indices = x.max(1)
            ctx.save_for_backward(indices)
            ctx.mark_non_differentiable(indices)
            ctx.columns = x.shape[1]
            return values, indices

        @staticmethod
        def backward(ctx, grad, _):
            (indices,) = ctx.saved_tensors
            dx = grad.new_zeros(len(grad), ctx.columns)
            return dx.scatter(1, indices[:, None], grad[:, None])

    return Made(Max, (rng.normal(size=(4, 5)),))


@corpus.case()
def function_of_a_number(rng: np.random.Generator) -> Made:
    """A 0-d input times a vector: the gradient is 0-d, too."""
    import torch

    class Scale(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x, scale):
            ctx.save_for_backward(x, scale)
            return x * scale.exp()

        @staticmethod
        def backward(ctx, grad):
            x, scale = ctx.saved_tensors
            return grad * scale.exp(), (grad * x).sum() * scale.exp()

    return Made(Scale, (rng.normal(size=5), np.array(0.4)))


# Awkward ones, which a careless check calls wrong. First: kinks, hit exactly.


@corpus.case()
def pair_relu_at_zero(rng: np.random.Generator) -> Made:
    """Half of the entries are 0, where the slope is taken to be 1."""

    def forward(x):
        return np.maximum(x, 0)

    def backward(dout, x):
        return (np.where(x < 0, 0, dout),)

    return pair(forward, backward, np.round(rng.normal(size=(4, 3))))


@corpus.case()
def pair_l1_penalty_of_sparse_weights(rng: np.random.Generator) -> Made:
    """sum |w| where most weights are 0."""

    def forward(w, strength):
        return strength * np.abs(w).sum()

    def backward(dout, w, strength):
        return dout * strength * np.sign(w), dout * np.abs(w).sum()

    w = rng.normal(size=(5, 3)) * (rng.random((5, 3)) < 0.4)
    return pair(forward, backward, w, np.array(0.1))


@corpus.case()
def pair_max_of_ties(rng: np.random.Generator) -> Made:
    """Rows of small whole numbers: argmax takes the first."""

    def forward(x):
        return x.max(axis=1)

    def backward(dout, x):
        dx = np.zeros_like(x)
        dx[np.arange(len(x)), x.argmax(axis=1)] = dout
        return (dx,)

    return pair(forward, backward, rng.integers(0, 3, size=(4, 5)).astype(float))


@corpus.case()
def pair_sort_of_ties(rng: np.random.Generator) -> Made:
    """Entries that are equal in twos: a stable order is one of several right ones."""

    def forward(x):
        return np.sort(x)

    def backward(dout, x):
        dx = np.empty_like(x)
        dx[np.argsort(x, kind="stable")] = dout
        return (dx,)

    return pair(forward, backward, np.array([2.0, 1.0, 2.0, 0.5, 1.0, 3.0]))


@corpus.case()
def pair_clip_at_the_bounds(rng: np.random.Generator) -> Made:
    """PPO's objective: ratios of exactly 1 +- 0.25 and equal branches of the minimum."""

    def forward(ratio, advantage):
        return np.minimum(ratio * advantage, np.clip(ratio, 0.75, 1.25) * advantage)

    def backward(dout, ratio, advantage):
        clipped = np.clip(ratio, 0.75, 1.25)
        free = ratio * advantage <= clipped * advantage
        return dout * free * advantage, dout * np.where(free, ratio, clipped)

    ratio = np.array([0.5, 0.75, 1.0, 1.25, 1.5, 0.75, 1.25, 2.0])
    return pair(forward, backward, ratio, rng.normal(size=8))


@corpus.case()
def pair_svm_at_the_margin(rng: np.random.Generator) -> Made:
    """Whole scores: some classes are exactly 1 behind the right one."""

    def forward(scores, y):
        rows = np.arange(len(y))
        margins = np.maximum(0, scores - scores[rows, y][:, None] + 1)
        return margins.sum() / len(y) - 1

    def backward(dout, scores, y):
        rows = np.arange(len(y))
        active = (scores - scores[rows, y][:, None] + 1 > 0).astype(float)
        active[rows, y] -= active.sum(axis=1)
        return dout * active / len(y), None

    scores = np.array([[3.0, 2, 1, 4], [0, 0, 1, 0], [5, 3, 4, 4]])
    return pair(forward, backward, scores, np.array([0, 2, 0]))


@corpus.case()
def pair_quantile_loss_at_its_corner(rng: np.random.Generator) -> Made:
    """The pinball loss with predictions that are exact; there the slope is taken to be 0."""

    def forward(pred, targ):
        error = targ - pred
        return np.where(error > 0, 0.9 * error, -0.1 * error).mean()

    def backward(dout, pred, targ):
        error = targ - pred
        slope = np.select([error > 0, error < 0], [0.9, -0.1], 0.0)
        d = dout * slope / error.size
        return -d, d

    targ = rng.normal(size=(4, 3))
    pred = np.where(rng.random((4, 3)) < 0.4, targ, rng.normal(size=(4, 3)))
    return pair(forward, backward, pred, targ)


@corpus.case()
def pair_hypot_at_the_origin(rng: np.random.Generator) -> Made:
    """sqrt(x*x + y*y) with both 0: the gradient is taken to be 0."""

    def forward(x, y):
        return np.hypot(x, y)

    def backward(dout, x, y, out):
        safe = np.where(out == 0, 1, out)
        return dout * x / safe, dout * y / safe

    return pair(forward, backward, np.array([0.0, 3.0, 0.0, -1.0]), np.array([0.0, 4.0, -2.0, 0.0]))


@corpus.case()
def function_clamp_at_its_bounds(rng: np.random.Generator) -> Made:
    """Entries of exactly 0 and 1; there the slope is 0."""
    import torch

    class Clamp(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(x)
            return x.clamp(0, 1)

        @staticmethod
        def backward(ctx, grad):
            (x,) = ctx.saved_tensors
            return grad * ((x > 0) & (x < 1))

    return Made(Clamp, (np.array([[0.0, 1.0, 0.5], [-1.0, 0.0, 2.0]]),))


# Large, small and vanishing numbers


@corpus.case()
def pair_softmax_loss_of_huge_logits(rng: np.random.Generator) -> Made:
    """Logits of +-1e4, one row all equal."""
    logits = rng.choice([-1e4, 0.0, 1e4], size=(5, 4))
    logits[2] = 1e4
    return pair(softmax_loss, softmax_loss_backward, logits, np.array([0, 1, 3, 2, 1]))


@corpus.case()
def pair_softplus_far_out(rng: np.random.Generator) -> Made:
    """log(1 + exp(x)) from -800 to 800: slopes of 0, 1e-13 and 1."""

    def forward(x):
        return np.logaddexp(0, x)

    def backward(dout, x):
        return (dout * np.exp(-np.logaddexp(0, -x)),)

    return pair(forward, backward, np.array([-800.0, -30.0, -1.0, 0.0, 2.0, 30.0, 800.0]))


@corpus.case()
def pair_tanh_saturated(rng: np.random.Generator) -> Made:
    """All units at +-1: the input's gradient is zero."""

    def forward(x, w):
        return np.tanh(x @ w)

    def backward(dout, x, w, out):
        d = dout * (1 - out**2)
        return d @ w.T, x.T @ d

    x = 500 * rng.choice([-1.0, 1.0], size=(4, 1)) * rng.uniform(1, 2, size=(4, 3))
    return pair(forward, backward, x, rng.uniform(0.5, 1.5, size=(3, 2)))


@corpus.case()
def pair_logsumexp_with_masked_entries(rng: np.random.Generator) -> Made:
    """Scores of -1e9 stand for what is masked out."""

    def forward(scores, bonus):
        x = scores + bonus
        top = x.max(axis=1)
        return top + np.log(np.exp(x - top[:, None]).sum(axis=1))

    def backward(dout, scores, bonus, out):
        d = dout[:, None] * np.exp(scores + bonus - out[:, None])
        return d, d.sum(axis=0)

    scores = np.where(rng.random((4, 5)) < 0.4, -1e9, rng.normal(size=(4, 5)))
    scores[:, 0] = rng.normal(size=4)
    return pair(forward, backward, scores, rng.normal(size=5))


@corpus.case()
def pair_gradients_of_1e_minus_30(rng: np.random.Generator) -> Made:
    """A physical constant: forces of 1e-30 from distances of 1."""

    def forward(x, charge):
        return 1e-30 * charge / x**2

    def backward(dout, x, charge):
        return -2e-30 * dout * charge / x**3, 1e-30 * dout / x**2

    return pair(forward, backward, rng.uniform(1, 2, size=5), rng.normal(size=5))


@corpus.case()
def pair_scales_far_apart(rng: np.random.Generator) -> Made:
    """Inputs of 1e6 beside weights of 1e-6; gradients differ by 1e12."""

    def forward(x, w, b):
        return np.sin(x @ w + b)

    def backward(dout, x, w, b):
        d = dout * np.cos(x @ w + b)
        return d @ w.T, x.T @ d, d.sum(axis=0)

    x, w = 1e6 * rng.normal(size=(5, 3)), 1e-6 * rng.normal(size=(3, 2))
    return pair(forward, backward, x, w, rng.normal(size=2))


@corpus.case()
def pair_standardised_sum(rng: np.random.Generator) -> Made:
    """The mean of standardised columns is 0, whatever the input: so is the gradient."""

    def forward(x):
        return ((x - x.mean(axis=0)) / x.std(axis=0)).mean(axis=0)

    def backward(dout, x):
        return (np.zeros_like(x),)

    return pair(forward, backward, rng.normal(size=(5, 3)))


@corpus.case()
def pair_steps(rng: np.random.Generator) -> Made:
    """Counts of entries above a threshold: a step, so flat wherever it has a slope."""

    def forward(x, threshold):
        return (x > threshold).sum(axis=0) + np.floor(x[0]) * 1.0

    def backward(dout, x, threshold):
        return np.zeros_like(x), np.zeros_like(threshold)

    x = np.array([[0.2, -1.3, 2.4], [1.6, 0.7, -0.4]])
    return pair(forward, backward, x, np.array(0.5))


@corpus.case()
def pair_product_with_zeros(rng: np.random.Generator) -> Made:
    """Products of rows with one zero and with two: a single entry has a gradient, or none."""

    def forward(x):
        return np.prod(x, axis=1)

    def backward(dout, x):
        before = np.cumprod(np.insert(x[:, :-1], 0, 1, axis=1), axis=1)
        after = np.cumprod(np.insert(x[:, :0:-1], 0, 1, axis=1), axis=1)[:, ::-1]
        return (dout[:, None] * before * after,)

    x = rng.normal(size=(3, 4))
    x[1, 2] = x[2, 0] = x[2, 3] = 0
    return pair(forward, backward, x)


# Ill-conditioned, oscillating, cancelling


@corpus.case()
def pair_hilbert_solve(rng: np.random.Generator) -> Made:
    """A Hilbert matrix of condition 1.6e4 and a right side; both have gradients."""

    def forward(a, b):
        return np.linalg.solve(a, b)

    def backward(dout, a, b, out):
        db = np.linalg.solve(a.T, dout)
        return -np.outer(db, out), db

    n = np.arange(4)
    return pair(forward, backward, 1 / (n[:, None] + n + 1.0), rng.normal(size=4))


@corpus.case()
def pair_log_determinant_near_singular(rng: np.random.Generator) -> Made:
    """log det of a covariance of almost parallel features, 1e-3 on the diagonal."""

    def forward(x):
        return np.linalg.slogdet(x.T @ x + 1e-3 * np.eye(x.shape[1]))[1]

    def backward(dout, x):
        return (2 * dout * x @ np.linalg.inv(x.T @ x + 1e-3 * np.eye(x.shape[1])),)

    common = rng.normal(size=(5, 1))
    return pair(forward, backward, common + 1e-3 * rng.normal(size=(5, 3)))


@corpus.case()
def pair_variance_of_large_numbers(rng: np.random.Generator) -> Made:
    """mean(x*x) - mean(x)**2 around 1e4: digits cancel, the gradient is of size 1."""

    def forward(x):
        return (x * x).mean(axis=0) - x.mean(axis=0) ** 2

    def backward(dout, x):
        return (2 * dout * (x - x.mean(axis=0)) / len(x),)

    return pair(forward, backward, 1e4 + rng.normal(size=(5, 3)))


@corpus.case()
def pair_variance_near_eps(rng: np.random.Generator) -> Made:
    """Batches whose variance is 1e-6 and 0 beside an eps of 1e-5."""

    def backward(dout, cache):
        xhat, gamma, std = cache
        d = dout * gamma
        dx = (d - d.mean(axis=0) - xhat * (d * xhat).mean(axis=0)) / std
        return dx, (dout * xhat).sum(axis=0), dout.sum(axis=0)

    x = 1.0 + 1e-3 * rng.normal(size=(6, 3))
    x[:, 1] = 1.0
    return pair(batchnorm, backward, x, rng.normal(size=3), rng.normal(size=3))


@corpus.case()
def pair_reciprocal_of_small_numbers(rng: np.random.Generator) -> Made:
    """x / (x*x + 1e-6) across its peak, which is 1e-3 wide."""

    def forward(x):
        return x / (x * x + 1e-6)

    def backward(dout, x):
        return (dout * (1e-6 - x * x) / (x * x + 1e-6) ** 2,)

    return pair(forward, backward, np.array([0.0, 1e-3, -1e-3, 2e-4, 0.1, -3.0]))


@corpus.case()
def pair_entropy_near_zero(rng: np.random.Generator) -> Made:
    """-sum p log p with probabilities of 1e-9."""

    def forward(p):
        return -(p * np.log(p)).sum(axis=1)

    def backward(dout, p):
        return (-dout[:, None] * (np.log(p) + 1),)

    return pair(forward, backward, np.array([[1e-9, 0.3, 0.7 - 1e-9], [1e-3, 1e-6, 0.998999]]))


@corpus.case()
def pair_arcsin_near_one(rng: np.random.Generator) -> Made:
    """Within 1e-8 of the end of the domain the slope is 1e4."""

    def forward(x):
        return np.arcsin(x)

    def backward(dout, x):
        return (dout / np.sqrt((1 - x) * (1 + x)),)

    return pair(forward, backward, np.array([1 - 1e-8, -1 + 1e-6, 0.5, 0.0, 0.999]))


@corpus.case()
def pair_polynomial_of_degree_twenty(rng: np.random.Generator) -> Made:
    """prod(x - root) near its roots: it swings between them."""
    roots = np.arange(1, 21) / 10

    def forward(x):
        return (x[:, None] - roots).prod(axis=1)

    def backward(dout, x):
        dx = np.zeros_like(x)
        for i in range(len(roots)):
            dx += (x[:, None] - np.delete(roots, i)).prod(axis=1)
        return (dout * dx,)

    return pair(forward, backward, np.array([0.1, 0.55, 1.0, 1.51, 2.0, 2.5]))


@corpus.case()
def pair_fourier_features(rng: np.random.Generator) -> Made:
    """sin and cos of up to 2**10 * x, as positions are encoded for radiance fields."""
    frequencies = 2.0 ** np.arange(11)

    def forward(x):
        angles = x[:, None] * frequencies
        return np.concatenate([np.sin(angles), np.cos(angles)], axis=1)

    def backward(dout, x):
        angles = x[:, None] * frequencies
        d = dout[:, :11] * np.cos(angles) - dout[:, 11:] * np.sin(angles)
        return (d @ frequencies,)

    return pair(forward, backward, rng.normal(size=4))


@corpus.case()
def pair_direction_of_a_tiny_vector(rng: np.random.Generator) -> Made:
    """x / |x| for rows of length 1e-8, 1 and 1e8."""

    def forward(x):
        return x / np.sqrt((x * x).sum(axis=1, keepdims=True))

    def backward(dout, x, out):
        along = (dout * out).sum(axis=1, keepdims=True)
        return ((dout - out * along) / np.sqrt((x * x).sum(axis=1, keepdims=True)),)

    return pair(forward, backward, rng.normal(size=(3, 4)) * np.array([[1e-8], [1.0], [1e8]]))


# float32, and how a backward may be written


@corpus.case()
def pair_float32_inputs(rng: np.random.Generator) -> Made:
    """Inputs, outputs and gradients are float32."""

    def forward(x, w):
        return 1 / (1 + np.exp(-(x @ w)))

    def backward(dout, x, w, out):
        d = dout * out * (1 - out)
        return d @ w.T, x.T @ d

    x, w = rng.normal(size=(5, 4)), rng.normal(size=(4, 3))
    return pair(forward, backward, x.astype(np.float32), w.astype(np.float32))


@corpus.case()
def pair_float32_inside(rng: np.random.Generator) -> Made:
    """Whatever comes in, float32 is computed with."""

    def forward(x, w):
        x, w = x.astype(np.float32), w.astype(np.float32)
        return np.maximum(x @ w, 0)

    def backward(dout, x, w):
        x, w = x.astype(np.float32), w.astype(np.float32)
        d = dout * (x @ w > 0)
        return d @ w.T, x.T @ d

    return pair(forward, backward, rng.normal(size=(5, 4)), rng.normal(size=(4, 3)))


@corpus.case()
def function_float32(rng: np.random.Generator) -> Made:
    """Single precision throughout, gelu by its tanh approximation."""
    import torch

    class Gelu(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(x)
            return 0.5 * x * (1 + torch.tanh(0.7978845608 * (x + 0.044715 * x**3)))

        @staticmethod
        def backward(ctx, grad):
            (x,) = ctx.saved_tensors
            t = torch.tanh(0.7978845608 * (x + 0.044715 * x**3))
            inner = 0.7978845608 * (1 + 3 * 0.044715 * x**2)
            return grad * (0.5 * (1 + t) + 0.5 * x * (1 - t**2) * inner)

    return Made(Gelu, (rng.normal(size=(4, 3)).astype(np.float32),))


@corpus.case()
def pair_backward_that_calls_forward(rng: np.random.Generator) -> Made:
    """Recomputed: the derivative of x**y * exp(-x) from its value."""

    def forward(x, y):
        return x**y * np.exp(-x)

    def backward(dout, x, y):
        out = forward(x, y)
        dx = dout * out * (y / x - 1)
        dy = dout * out * np.log(x)
        return dx.sum(axis=1, keepdims=True), dy.sum(axis=0)

    return pair(forward, backward, rng.uniform(0.5, 2, size=(4, 1)), rng.normal(size=3))


@corpus.case()
def pair_backward_that_writes_into_dout(rng: np.random.Generator) -> Made:
    """To save memory what arrived is changed in place, and handed on."""

    def forward(x):
        return np.maximum(x, 0), x

    def backward(dout, x):
        dout[x <= 0] = 0
        return (dout,)

    return pair(forward, backward, rng.normal(size=(4, 3)))


@corpus.case()
def pair_single_entry(rng: np.random.Generator) -> Made:
    """One of many entries matters."""

    def forward(x, row):
        return np.exp(x[row, -1])

    def backward(dout, x, row, out):
        dx = np.zeros_like(x)
        dx[row, -1] = dout * out
        return dx, None

    return pair(forward, backward, rng.normal(size=(5, 4)), np.array(2))


@corpus.case()
def function_without_a_gradient_for_one_input(rng: np.random.Generator) -> Made:
    """The output does not depend on the values of `like`, so None is right."""
    import torch

    class ExpandAs(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x, like):
            return x.expand(like.shape).clone()

        @staticmethod
        def backward(ctx, grad):
            return grad.sum(0, keepdim=True), None

    return Made(ExpandAs, (rng.normal(size=(1, 3)), rng.normal(size=(4, 3))))
