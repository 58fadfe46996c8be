"""NumPy pairs of larger layers and small models; each backward pass has one mistake."""

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from corpus.case import Corpus, Made

corpus = Corpus()


def pair(forward, backward, *inputs) -> Made:
    return Made(forward, inputs, {"backward": backward})


def normals(rng, *shapes):
    return [rng.normal(size=shape) for shape in shapes]


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def softmax(x):
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


# Convolution, by loops over the places of the output; padding 1


def conv(x, w, b):
    """x (n, c, h, w), w (filters, c, kh, kw), b (filters,)."""
    kh, kw = w.shape[2:]
    padded = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)))
    rows, cols = padded.shape[2] - kh + 1, padded.shape[3] - kw + 1
    out = np.zeros((len(x), len(w), rows, cols))
    for i in range(rows):
        for j in range(cols):
            window = padded[:, :, i : i + kh, j : j + kw]
            out[:, :, i, j] = np.einsum("nchw,fchw->nf", window, w) + b
    return out, (padded, w)


def image(rng):
    return normals(rng, (2, 2, 4, 5), (3, 2, 3, 2), 3)


@corpus.case("overwritten", wrong="x")
def np_conv_windows_overwrite_each_other(rng: np.random.Generator) -> Made:
    """dx is assigned window by window; the overlap keeps the last one."""

    def backward(dout, cache):
        padded, w = cache
        kh, kw = w.shape[2:]
        dpadded, dw = np.zeros_like(padded), np.zeros_like(w)
        for i in range(dout.shape[2]):
            for j in range(dout.shape[3]):
                g = dout[:, :, i, j]
                window = padded[:, :, i : i + kh, j : j + kw]
                dpadded[:, :, i : i + kh, j : j + kw] = np.einsum("nf,fchw->nchw", g, w)
                dw += np.einsum("nf,nchw->fchw", g, window)
        return dpadded[:, :, 1:-1, 1:-1], dw, dout.sum(axis=(0, 2, 3))

    return pair(conv, backward, *image(rng))


@corpus.case("bias", wrong="b", also="sum")
def np_conv_bias_summed_over_batch_only(rng: np.random.Generator) -> Made:
    """db keeps the picture's axes."""

    def backward(dout, cache):
        padded, w = cache
        kh, kw = w.shape[2:]
        dpadded, dw = np.zeros_like(padded), np.zeros_like(w)
        for i in range(dout.shape[2]):
            for j in range(dout.shape[3]):
                g = dout[:, :, i, j]
                window = padded[:, :, i : i + kh, j : j + kw]
                dpadded[:, :, i : i + kh, j : j + kw] += np.einsum("nf,fchw->nchw", g, w)
                dw += np.einsum("nf,nchw->fchw", g, window)
        return dpadded[:, :, 1:-1, 1:-1], dw, dout.sum(axis=0)

    return pair(conv, backward, *image(rng))


@corpus.case("shift", wrong="x")
def np_conv_padding_cut_off_on_one_side(rng: np.random.Generator) -> Made:
    """The padding is taken off dx at the end only, so dx is one place off."""

    def backward(dout, cache):
        padded, w = cache
        kh, kw = w.shape[2:]
        dpadded, dw = np.zeros_like(padded), np.zeros_like(w)
        for i in range(dout.shape[2]):
            for j in range(dout.shape[3]):
                g = dout[:, :, i, j]
                window = padded[:, :, i : i + kh, j : j + kw]
                dpadded[:, :, i : i + kh, j : j + kw] += np.einsum("nf,fchw->nchw", g, w)
                dw += np.einsum("nf,nchw->fchw", g, window)
        return dpadded[:, :, :-2, :-2], dw, dout.sum(axis=(0, 2, 3))

    return pair(conv, backward, *image(rng))


@corpus.case("overwritten", wrong="w")
def np_conv_weight_of_the_last_picture(rng: np.random.Generator) -> Made:
    """A loop over the pictures of the batch sets dw instead of adding to it."""

    def forward(x, w):
        windows = sliding_window_view(x, w.shape[2:], axis=(2, 3))
        return np.einsum("ncijhw,fchw->nfij", windows, w)

    def backward(dout, x, w):
        kh, kw = w.shape[2:]
        windows = sliding_window_view(x, (kh, kw), axis=(2, 3))
        for picture, grad in zip(windows, dout, strict=True):
            dw = np.einsum("fij,cijhw->fchw", grad, picture)
        padded = np.pad(dout, ((0, 0), (0, 0), (kh - 1, kh - 1), (kw - 1, kw - 1)))
        flipped = w[:, :, ::-1, ::-1]
        dx = np.einsum(
            "nfijhw,fchw->ncij", sliding_window_view(padded, (kh, kw), axis=(2, 3)), flipped
        )
        return dx, dw

    return pair(forward, backward, *normals(rng, (3, 2, 4, 5), (2, 2, 2, 3)))


def conv_im2col(x, w, b):
    """No padding; the windows are the rows of a matrix."""
    n, filters = len(x), len(w)
    windows = sliding_window_view(x, w.shape[2:], axis=(2, 3))
    rows, cols = windows.shape[2:4]
    columns = windows.transpose(0, 2, 3, 1, 4, 5).reshape(n * rows * cols, -1)
    out = columns @ w.reshape(filters, -1).T + b
    return out.reshape(n, rows, cols, filters).transpose(0, 3, 1, 2), (columns, x.shape, w)


def col2im(dcolumns, shape, kh, kw):
    n, c, height, width = shape
    rows, cols = height - kh + 1, width - kw + 1
    dcolumns = dcolumns.reshape(n, rows, cols, c, kh, kw)
    dx = np.zeros(shape)
    for i in range(rows):
        for j in range(cols):
            dx[:, :, i : i + kh, j : j + kw] += dcolumns[:, i, j]
    return dx


@corpus.case("transpose", wrong="x w b")
def np_im2col_axes_of_dout_not_moved(rng: np.random.Generator) -> Made:
    """dout is reshaped to a matrix without bringing the filters to the end first."""

    def backward(dout, cache):
        columns, shape, w = cache
        filters, _, kh, kw = w.shape
        g = dout.reshape(-1, filters)
        dw = (g.T @ columns).reshape(w.shape)
        dx = col2im(g @ w.reshape(filters, -1), shape, kh, kw)
        return dx, dw, g.sum(axis=0)

    return pair(conv_im2col, backward, *image(rng))


@corpus.case("shift", wrong="x")
def np_conv1d_kernel_not_reversed(rng: np.random.Generator) -> Made:
    """dx correlates dout with the kernel as it is; it must be reversed."""

    def forward(x, w):
        return sliding_window_view(x, len(w), axis=1) @ w

    def backward(dout, x, w):
        k = len(w)
        dw = np.einsum("bt,btk->k", dout, sliding_window_view(x, k, axis=1))
        padded = np.pad(dout, ((0, 0), (k - 1, k - 1)))
        dx = sliding_window_view(padded, k, axis=1) @ w
        return dx, dw

    return pair(forward, backward, *normals(rng, (3, 7), 3))


@corpus.case("shift", wrong="w")
def np_causal_conv_kernel_index_off_by_one(rng: np.random.Generator) -> Made:
    """dw[k] pairs dout[t] with x[t-k-1] instead of x[t-k]."""

    def forward(x, w):
        out = np.zeros_like(x)
        for k in range(len(w)):
            out[:, k:] += w[k] * x[:, : x.shape[1] - k]
        return out

    def backward(dout, x, w):
        steps = x.shape[1]
        dx, dw = np.zeros_like(x), np.zeros_like(w)
        for k in range(len(w)):
            dx[:, : steps - k] += w[k] * dout[:, k:]
            dw[k] = (dout[:, k + 1 :] * x[:, : steps - k - 1]).sum()
        return dx, dw

    return pair(forward, backward, *normals(rng, (3, 7), 3))


# Pooling


def windows_of_two(x):
    n, c, height, width = x.shape
    return x.reshape(n, c, height // 2, 2, width // 2, 2)


@corpus.case("mask", wrong="x")
def np_max_pool_spreads_over_the_window(rng: np.random.Generator) -> Made:
    """Every entry of a window gets the gradient, not only the largest."""

    def forward(x):
        out = windows_of_two(x).max(axis=(3, 5))
        return out, (x.shape, out)

    def backward(dout, cache):
        shape, _ = cache
        dx = dout.repeat(2, axis=2).repeat(2, axis=3)
        return (dx.reshape(shape),)

    return pair(forward, backward, rng.normal(size=(2, 3, 4, 6)))


@corpus.case("scatter", wrong="x")
def np_max_pool_overlapping_argmax_assigned(rng: np.random.Generator) -> Made:
    """An entry that is the largest of two windows keeps the last one's gradient."""

    def forward(x):
        return sliding_window_view(x, 3, axis=1).max(axis=2)

    def backward(dout, x):
        chosen = sliding_window_view(x, 3, axis=1).argmax(axis=2) + np.arange(dout.shape[1])
        dx = np.zeros_like(x)
        np.put_along_axis(dx, chosen, dout, axis=1)
        return (dx,)

    return pair(forward, backward, rng.normal(size=(3, 8)))


@corpus.case("mean", wrong="x", also="factor")
def np_average_pool_not_divided(rng: np.random.Generator) -> Made:
    """Each entry of a window gets the whole gradient instead of a quarter."""

    def forward(x):
        return windows_of_two(x).mean(axis=(3, 5))

    def backward(dout, x):
        dx = np.zeros_like(x)
        windows_of_two(dx)[:] = dout[:, :, :, None, :, None]
        return (dx,)

    return pair(forward, backward, rng.normal(size=(2, 3, 4, 6)))


@corpus.case("sum", wrong="x")
def np_upsampling_takes_a_corner(rng: np.random.Generator) -> Made:
    """Each entry is copied to four places; dx is one of the four gradients."""

    def forward(x):
        return x.repeat(2, axis=1).repeat(2, axis=2), x.shape

    def backward(dout, cache):
        dx = dout[:, ::2, ::2]
        return (dx.reshape(cache),)

    return pair(forward, backward, rng.normal(size=(2, 3, 4)))


@corpus.case("mask", wrong="x")
def np_masked_average_pool_reaches_the_padding(rng: np.random.Generator) -> Made:
    """The gradient goes to the padding as well."""

    def forward(x, valid):
        count = valid.sum(axis=1)
        return (x * valid[:, :, None]).sum(axis=1) / count[:, None], (x.shape, valid, count)

    def backward(dout, cache):
        shape, _, count = cache
        dx = np.zeros(shape)
        dx += (dout / count[:, None])[:, None, :]
        return dx, None

    valid = np.array([[1, 1, 1, 0, 0], [1, 1, 1, 1, 0], [1, 1, 0, 0, 0]])
    return pair(forward, backward, rng.normal(size=(3, 5, 2)), valid)


@corpus.case("axis", wrong="x")
def np_time_reversal_undone_on_the_features(rng: np.random.Generator) -> Made:
    """Forward reverses the time axis, backward the feature axis."""

    def forward(x, w):
        return x[:, ::-1] @ w

    def backward(dout, x, w):
        dw = np.einsum("bti,bto->io", x[:, ::-1], dout)
        dx = (dout @ w.T)[:, :, ::-1]
        return dx, dw

    return pair(forward, backward, *normals(rng, (2, 4, 3), (3, 2)))


@corpus.case("transpose", wrong="x")
def np_axes_moved_forward_again(rng: np.random.Generator) -> Made:
    """The permutation itself is applied to dout where its inverse belongs."""

    def forward(x):
        return x.transpose(1, 2, 0), x

    def backward(dout, cache):
        return (dout.transpose(1, 2, 0),)

    return pair(forward, backward, rng.normal(size=(3, 3, 3)))


# Attention of a single head: q, k (time, d), v (time, dv)


def attention(q, k, v):
    p = softmax(q @ k.T / np.sqrt(q.shape[1]))
    return p @ v


def attention_cached(q, k, v):
    p = softmax(q @ k.T / np.sqrt(q.shape[1]))
    return p @ v, (q, k, v, p)


def sequence(rng):
    return normals(rng, (5, 4), (5, 4), (5, 3))


@corpus.case("softmax", wrong="q k")
def np_attention_diagonal_jacobian(rng: np.random.Generator) -> Made:
    """The weights' Jacobian is p*(1-p)."""

    def backward(dout, cache):
        q, k, v, p = cache
        scale = 1 / np.sqrt(q.shape[1])
        dv = p.T @ dout
        dp = dout @ v.T
        ds = dp * p * (1 - p) * scale
        return ds @ k, ds.T @ q, dv

    return pair(attention_cached, backward, *sequence(rng))


@corpus.case("softmax", wrong="q k")
def np_attention_jacobian_without_the_inner_product(rng: np.random.Generator) -> Made:
    """p*dp alone: what the other weights lose is left out."""

    def backward(dout, q, k, v):
        scale = 1 / np.sqrt(q.shape[1])
        p = softmax(q @ k.T * scale)
        ds = p * (dout @ v.T) * scale
        return ds @ k, ds.T @ q, p.T @ dout

    return pair(attention, backward, *sequence(rng))


@corpus.case("operand", wrong="q")
def np_attention_query_from_queries(rng: np.random.Generator) -> Made:
    """dq multiplies by q where k belongs."""

    def backward(dout, q, k, v):
        scale = 1 / np.sqrt(q.shape[1])
        p = softmax(q @ k.T * scale)
        dp = dout @ v.T
        ds = p * (dp - (dp * p).sum(axis=1, keepdims=True)) * scale
        return ds @ q, ds.T @ q, p.T @ dout

    return pair(attention, backward, *sequence(rng))


@corpus.case("factor", wrong="q k")
def np_attention_scale_forgotten(rng: np.random.Generator) -> Made:
    """The 1/sqrt(d) of the scores is missing backward."""

    def backward(dout, cache):
        q, k, v, p = cache
        dv = p.T @ dout
        dp = dout @ v.T
        ds = p * (dp - np.sum(dp * p, axis=1, keepdims=True))
        dq = ds @ k
        dk = ds.T @ q
        return dq, dk, dv

    return pair(attention_cached, backward, *sequence(rng))


@corpus.case("transpose", wrong="v")
def np_attention_weights_not_transposed(rng: np.random.Generator) -> Made:
    """dv = p @ dout instead of p.T @ dout."""

    def backward(dout, cache):
        q, k, v, p = cache
        scale = 1 / np.sqrt(q.shape[1])
        dv = p @ dout
        dp = dout @ v.T
        ds = p * (dp - np.sum(dp * p, axis=1, keepdims=True)) * scale
        return ds @ k, ds.T @ q, dv

    return pair(attention_cached, backward, *sequence(rng))


@corpus.case("swapped", wrong="q k")
def np_attention_queries_and_keys_exchanged(rng: np.random.Generator) -> Made:
    """dk is returned first."""

    def backward(dout, q, k, v):
        scale = 1 / np.sqrt(q.shape[1])
        p = softmax(q @ k.T * scale)
        dp = dout @ v.T
        ds = p * (dp - (dp * p).sum(axis=1, keepdims=True)) * scale
        dq, dk, dv = ds @ k, ds.T @ q, p.T @ dout
        return dk, dq, dv

    return pair(attention, backward, *sequence(rng))


@corpus.case("axis", wrong="q k")
def np_attention_softmax_over_the_queries(rng: np.random.Generator) -> Made:
    """The inner product of the softmax's backward runs over the queries."""

    def backward(dout, cache):
        q, k, v, p = cache
        scale = 1 / np.sqrt(q.shape[1])
        dp = dout @ v.T
        ds = p * (dp - (dp * p).sum(axis=0)) * scale
        return {"q": ds @ k, "k": ds.T @ q, "v": p.T @ dout}

    return pair(attention_cached, backward, *sequence(rng))


@corpus.case("detached", wrong="q k")
def np_attention_weights_as_constants(rng: np.random.Generator) -> Made:
    """Only the values get a gradient."""

    def backward(dout, q, k, v):
        p = softmax(q @ k.T / np.sqrt(q.shape[1]))
        return np.zeros_like(q), np.zeros_like(k), p.T @ dout

    return pair(attention, backward, *sequence(rng))


@corpus.case("stale", wrong="q k v")
def np_attention_weights_of_the_first_sequence(rng: np.random.Generator) -> Made:
    """The weights are kept under the sequence's length."""
    kept = {}

    def forward(q, k, v):
        p = softmax(q @ k.T / np.sqrt(q.shape[1]))
        if len(q) not in kept:
            kept[len(q)] = p
        return p @ v

    def backward(dout, q, k, v):
        scale = 1 / np.sqrt(q.shape[1])
        p = kept[len(q)]
        dp = dout @ v.T
        ds = p * (dp - (dp * p).sum(axis=1, keepdims=True)) * scale
        return ds @ k, ds.T @ q, p.T @ dout

    forward(*sequence(rng))
    return pair(forward, backward, *sequence(rng))


@corpus.case("mask", wrong="q k")
def np_linear_attention_looks_ahead_backward(rng: np.random.Generator) -> Made:
    """The causal mask of the scores is not applied to their gradient."""

    def forward(q, k, v):
        return np.tril(q @ k.T) @ v

    def backward(dout, q, k, v):
        scores = np.tril(q @ k.T)
        dscores = dout @ v.T
        return dscores @ k, dscores.T @ q, scores.T @ dout

    return pair(forward, backward, *sequence(rng))


@corpus.case("overwritten", wrong="x")
def np_self_attention_keeps_the_last_path(rng: np.random.Generator) -> Made:
    """x is used for scores (twice) and values; the values' gradient replaces the others."""

    def forward(x):
        p = softmax(x @ x.T / np.sqrt(x.shape[1]))
        return p @ x, (x, p)

    def backward(dout, cache):
        x, p = cache
        dp = dout @ x.T
        ds = p * (dp - (dp * p).sum(axis=1, keepdims=True)) / np.sqrt(x.shape[1])
        dx = ds @ x
        dx += ds.T @ x
        dx = p.T @ dout
        return (dx,)

    return pair(forward, backward, rng.normal(size=(5, 4)))


@corpus.case("sum", wrong="position")
def np_position_embedding_not_summed_over_the_batch(rng: np.random.Generator) -> Made:
    """The positions are shared by the batch; their gradient keeps the batch axis."""

    def forward(table, position, words):
        return table[words] + position, (table.shape, words)

    def backward(dout, cache):
        shape, words = cache
        dtable = np.zeros(shape)
        np.add.at(dtable, words, dout)
        return dtable, dout, None

    words = np.array([[1, 0, 3, 3], [4, 1, 1, 2]])
    return pair(forward, backward, *normals(rng, (5, 3), (4, 3)), words)


@corpus.case("mask", wrong="table")
def np_embedding_padding_row_gets_a_gradient(rng: np.random.Generator) -> Made:
    """Word 0 is padding, embedded as zero; backward adds to its row all the same."""

    def forward(table, words):
        return np.where((words == 0)[..., None], 0.0, table[words])

    def backward(dout, table, words):
        dtable = np.zeros_like(table)
        np.add.at(dtable, words, dout)
        return dtable, None

    words = np.array([[1, 3, 3, 0], [4, 1, 0, 0]])
    return pair(forward, backward, rng.normal(size=(5, 3)), words)


@corpus.case("scatter", wrong="x")
def np_graph_messages_assigned_to_their_source(rng: np.random.Generator) -> Made:
    """A node that sends along several edges keeps the last edge's gradient."""

    def forward(x, w, source, target):
        out = np.zeros((len(x), w.shape[1]))
        np.add.at(out, target, x[source] @ w)
        return out, (x, w, source, target)

    def backward(dout, cache):
        x, w, source, target = cache
        dmessages = dout[target]
        dx = np.zeros_like(x)
        dx[source] = dmessages @ w.T
        dw = x[source].T @ dmessages
        return dx, dw, None, None

    source, target = np.array([0, 1, 1, 3, 0, 2]), np.array([1, 2, 3, 0, 2, 0])
    return pair(forward, backward, *normals(rng, (4, 3), (3, 2)), source, target)


# Recurrent networks, unrolled: x (batch, time, features), out (batch, time, hidden)


def rnn(x, h0, wx, wh, b):
    hs = [h0]
    for t in range(x.shape[1]):
        hs.append(np.tanh(x[:, t] @ wx + hs[-1] @ wh + b))
    return np.stack(hs[1:], axis=1), (x, hs, wx, wh)


def sentence(rng, hidden=3):
    return normals(rng, (2, 4, 5), (2, hidden), (5, hidden), (hidden, hidden), hidden)


@corpus.case("overwritten", wrong="wh")
def np_rnn_recurrent_weight_of_one_step(rng: np.random.Generator) -> Made:
    """dwh is assigned at each step."""

    def backward(dout, cache):
        x, hs, wx, wh = cache
        dx, dwx, dwh, db = np.zeros_like(x), np.zeros_like(wx), np.zeros_like(wh), 0
        dh = np.zeros_like(hs[0])
        for t in reversed(range(x.shape[1])):
            dz = (dout[:, t] + dh) * (1 - hs[t + 1] ** 2)
            dx[:, t] = dz @ wx.T
            dwx += x[:, t].T @ dz
            dwh = hs[t].T @ dz
            db += dz.sum(axis=0)
            dh = dz @ wh.T
        return dx, dh, dwx, dwh, db

    return pair(rnn, backward, *sentence(rng))


@corpus.case("shift", wrong="wh")
def np_rnn_recurrent_weight_with_the_new_state(rng: np.random.Generator) -> Made:
    """dwh pairs dz[t] with h[t] instead of h[t-1]."""

    def backward(dout, cache):
        x, hs, wx, wh = cache
        dx, dwx, dwh, db = np.zeros_like(x), np.zeros_like(wx), np.zeros_like(wh), 0
        dh = np.zeros_like(hs[0])
        for t in reversed(range(x.shape[1])):
            h = hs[t + 1]
            dz = (dout[:, t] + dh) * (1 - h**2)
            dx[:, t] = dz @ wx.T
            dwx += x[:, t].T @ dz
            dwh += h.T @ dz
            db += dz.sum(axis=0)
            dh = dz @ wh.T
        return dx, dh, dwx, dwh, db

    return pair(rnn, backward, *sentence(rng))


@corpus.case("activation", wrong="x h0 wx wh b")
def np_rnn_forgets_tanh(rng: np.random.Generator) -> Made:
    """dz is dh; 1 - h**2 is missing."""

    def backward(dout, cache):
        x, hs, wx, wh = cache
        dx, dwx, dwh, db = np.zeros_like(x), np.zeros_like(wx), np.zeros_like(wh), 0
        dh = np.zeros_like(hs[0])
        for t in reversed(range(x.shape[1])):
            dz = dout[:, t] + dh
            dx[:, t] = dz @ wx.T
            dwx += x[:, t].T @ dz
            dwh += hs[t].T @ dz
            db += dz.sum(axis=0)
            dh = dz @ wh.T
        return dx, dh, dwx, dwh, db

    return pair(rnn, backward, *sentence(rng))


@corpus.case("detached", wrong="x h0 wx wh b")
def np_rnn_state_gradient_not_carried(rng: np.random.Generator) -> Made:
    """Each step's gradient stops there, but for the one to h0."""

    def backward(dout, cache):
        x, hs, wx, wh = cache
        dx, dwx, dwh, db = np.zeros_like(x), np.zeros_like(wx), np.zeros_like(wh), 0
        for t in reversed(range(x.shape[1])):
            dz = dout[:, t] * (1 - hs[t + 1] ** 2)
            dx[:, t] = dz @ wx.T
            dwx += x[:, t].T @ dz
            dwh += hs[t].T @ dz
            db += dz.sum(axis=0)
            dh0 = dz @ wh.T
        return dx, dh0, dwx, dwh, db

    return pair(rnn, backward, *sentence(rng))


@corpus.case("cotangent", wrong="x h0 wx wh b")
def np_rnn_gradient_of_the_last_step_only(rng: np.random.Generator) -> Made:
    """Only dout's last time step is used, as for a classifier of whole sentences."""

    def backward(dout, cache):
        x, hs, wx, wh = cache
        dx, dwx, dwh, db = np.zeros_like(x), np.zeros_like(wx), np.zeros_like(wh), 0
        dh = dout[:, -1]
        for t in reversed(range(x.shape[1])):
            dz = dh * (1 - hs[t + 1] ** 2)
            dx[:, t] = dz @ wx.T
            dwx += x[:, t].T @ dz
            dwh += hs[t].T @ dz
            db += dz.sum(axis=0)
            dh = dz @ wh.T
        return dx, dh, dwx, dwh, db

    return pair(rnn, backward, *sentence(rng))


def last_state(x, wx, wh):
    """The RNN's state after the last step, from a zero state."""
    h = np.zeros((len(x), len(wh)))
    for t in range(x.shape[1]):
        h = np.tanh(x[:, t] @ wx + h @ wh)
    return h


@corpus.case("transpose", wrong="x wx wh")
def np_rnn_recurrent_weight_not_transposed(rng: np.random.Generator) -> Made:
    """The state's gradient goes back through wh instead of wh.T."""

    def backward(dout, x, wx, wh):
        hs = [np.zeros((len(x), len(wh)))]
        for t in range(x.shape[1]):
            hs.append(np.tanh(x[:, t] @ wx + hs[-1] @ wh))
        dx, dwx, dwh = np.zeros_like(x), np.zeros_like(wx), np.zeros_like(wh)
        dh = dout
        for t in reversed(range(x.shape[1])):
            dz = dh * (1 - hs[t + 1] ** 2)
            dx[:, t] = dz @ wx.T
            dwx += x[:, t].T @ dz
            dwh += hs[t].T @ dz
            dh = dz @ wh
        return dx, dwx, dwh

    return pair(last_state, backward, *normals(rng, (2, 3, 5), (5, 4), (4, 4)))


@corpus.case("output", wrong="x wx wh")
def np_rnn_slope_from_the_preactivation(rng: np.random.Generator) -> Made:
    """The saved sums z are used in 1 - z**2, where tanh(z) is meant."""

    def backward(dout, x, wx, wh):
        h, hs, zs = np.zeros((len(x), len(wh))), [], []
        for t in range(x.shape[1]):
            hs.append(h)
            zs.append(x[:, t] @ wx + h @ wh)
            h = np.tanh(zs[-1])
        dx, dwx, dwh = np.zeros_like(x), np.zeros_like(wx), np.zeros_like(wh)
        dh = dout
        for t in reversed(range(x.shape[1])):
            dz = dh * (1 - zs[t] ** 2)
            dx[:, t] = dz @ wx.T
            dwx += x[:, t].T @ dz
            dwh += hs[t].T @ dz
            dh = dz @ wh.T
        return dx, dwx, dwh

    return pair(last_state, backward, *normals(rng, (2, 3, 5), (5, 4), (4, 4)))


@corpus.case("shift", wrong="x")
def np_leaky_integrator_state_off_by_one(rng: np.random.Generator) -> Made:
    """h[t] = a*h[t-1] + x[t]; the gradient of x[t] is written to x[t-1], and x[0]'s to the end."""

    def forward(x, a):
        h, out = np.zeros(x.shape[0]), np.zeros_like(x)
        for t in range(x.shape[1]):
            h = a * h + x[:, t]
            out[:, t] = h
        return out

    def backward(dout, x, a):
        out = forward(x, a)
        dx, da, carried = np.zeros_like(x), 0.0, np.zeros(len(x))
        for t in reversed(range(x.shape[1])):
            carried = a * carried + dout[:, t]
            dx[:, t - 1] = carried
            if t > 0:
                da += (carried * out[:, t - 1]).sum()
        return dx, da

    return pair(forward, backward, rng.normal(size=(2, 6)), np.array(0.7))


def lstm(x, wx, wh, b):
    """The gates are input, forget, output and candidate, side by side."""
    n, d = len(x), len(wh)
    h, c, out, steps = np.zeros((n, d)), np.zeros((n, d)), [], []
    for t in range(x.shape[1]):
        a = x[:, t] @ wx + h @ wh + b
        i, f, o = (sigmoid(a[:, k * d : (k + 1) * d]) for k in range(3))
        g = np.tanh(a[:, 3 * d :])
        before, c_before = h, c
        c = f * c + i * g
        h = o * np.tanh(c)
        out.append(h)
        steps.append((before, c_before, i, f, o, g, c))
    return np.stack(out, axis=1), (x, steps, wx, wh)


def phrase(rng):
    return normals(rng, (2, 4, 3), (3, 8), (2, 8), 8)


@corpus.case("shift", wrong="x wx wh b")
def np_lstm_forget_gate_with_the_new_cell(rng: np.random.Generator) -> Made:
    """The forget gate's gradient uses c[t] instead of c[t-1]."""

    def backward(dout, cache):
        x, steps, wx, wh = cache
        dx, dwx, dwh, db = np.zeros_like(x), np.zeros_like(wx), np.zeros_like(wh), 0
        dh, dc = 0, 0
        for t in reversed(range(x.shape[1])):
            before, _, i, f, o, g, c = steps[t]
            dh = dh + dout[:, t]
            dc = dc + dh * o * (1 - np.tanh(c) ** 2)
            di, df, do, dg = dc * g, dc * c, dh * np.tanh(c), dc * i
            da = np.hstack([di * i * (1 - i), df * f * (1 - f), do * o * (1 - o), dg * (1 - g**2)])
            dx[:, t], dh, dc = da @ wx.T, da @ wh.T, dc * f
            dwx += x[:, t].T @ da
            dwh += before.T @ da
            db += da.sum(axis=0)
        return dx, dwx, dwh, db

    return pair(lstm, backward, *phrase(rng))


@corpus.case("output", wrong="x wx wh b")
def np_lstm_cell_squared_without_tanh(rng: np.random.Generator) -> Made:
    """1 - c**2 where 1 - tanh(c)**2 belongs."""

    def backward(dout, cache):
        x, steps, wx, wh = cache
        dx, dwx, dwh, db = np.zeros_like(x), np.zeros_like(wx), np.zeros_like(wh), 0
        dh, dc = 0, 0
        for t in reversed(range(x.shape[1])):
            before, c_before, i, f, o, g, c = steps[t]
            dh = dh + dout[:, t]
            dc = dc + dh * o * (1 - c**2)
            di, df, do, dg = dc * g, dc * c_before, dh * np.tanh(c), dc * i
            da = np.hstack([di * i * (1 - i), df * f * (1 - f), do * o * (1 - o), dg * (1 - g**2)])
            dx[:, t], dh, dc = da @ wx.T, da @ wh.T, dc * f
            dwx += x[:, t].T @ da
            dwh += before.T @ da
            db += da.sum(axis=0)
        return dx, dwx, dwh, db

    return pair(lstm, backward, *phrase(rng))


@corpus.case("detached", wrong="x wx wh b")
def np_lstm_cell_gradient_not_carried(rng: np.random.Generator) -> Made:
    """The gradient of c does not go back to the step before."""

    def backward(dout, cache):
        x, steps, wx, wh = cache
        dx, dwx, dwh, db = np.zeros_like(x), np.zeros_like(wx), np.zeros_like(wh), 0
        dh = 0
        for t in reversed(range(x.shape[1])):
            before, c_before, i, f, o, g, c = steps[t]
            dh = dh + dout[:, t]
            dc = dh * o * (1 - np.tanh(c) ** 2)
            di, df, do, dg = dc * g, dc * c_before, dh * np.tanh(c), dc * i
            da = np.hstack([di * i * (1 - i), df * f * (1 - f), do * o * (1 - o), dg * (1 - g**2)])
            dx[:, t], dh = da @ wx.T, da @ wh.T
            dwx += x[:, t].T @ da
            dwh += before.T @ da
            db += da.sum(axis=0)
        return dx, dwx, dwh, db

    return pair(lstm, backward, *phrase(rng))


@corpus.case("activation", wrong="x wx wh b")
def np_lstm_candidate_forgets_tanh(rng: np.random.Generator) -> Made:
    """The gates' sigmoids are differentiated, the candidate's tanh is not."""

    def backward(dout, cache):
        x, steps, wx, wh = cache
        dx, dwx, dwh, db = np.zeros_like(x), np.zeros_like(wx), np.zeros_like(wh), 0
        dh, dc = 0, 0
        for t in reversed(range(x.shape[1])):
            before, c_before, i, f, o, g, c = steps[t]
            dh = dh + dout[:, t]
            dc = dc + dh * o * (1 - np.tanh(c) ** 2)
            di, df, do, dg = dc * g, dc * c_before, dh * np.tanh(c), dc * i
            da = np.hstack([di * i * (1 - i), df * f * (1 - f), do * o * (1 - o), dg])
            dx[:, t], dh, dc = da @ wx.T, da @ wh.T, dc * f
            dwx += x[:, t].T @ da
            dwh += before.T @ da
            db += da.sum(axis=0)
        return dx, dwx, dwh, db

    return pair(lstm, backward, *phrase(rng))


def gru_step(x, h, wz, wr, wn):
    """Each gate has one weight for x and h side by side."""
    both = np.hstack([x, h])
    z, r = sigmoid(both @ wz), sigmoid(both @ wr)
    n = np.tanh(np.hstack([x, r * h]) @ wn)
    return (1 - z) * n + z * h


def gru_inputs(rng):
    return normals(rng, (4, 3), (4, 2), (5, 2), (5, 2), (5, 2))


@corpus.case("swapped", wrong="wz wr")
def np_gru_gate_gradients_exchanged(rng: np.random.Generator) -> Made:
    """dwr is returned before dwz."""

    def backward(dout, x, h, wz, wr, wn):
        d = x.shape[1]
        both = np.hstack([x, h])
        z, r = sigmoid(both @ wz), sigmoid(both @ wr)
        reset = np.hstack([x, r * h])
        n = np.tanh(reset @ wn)
        dn = dout * (1 - z) * (1 - n**2)
        dreset = dn @ wn.T
        dz = dout * (h - n) * z * (1 - z)
        dr = dreset[:, d:] * h * r * (1 - r)
        dboth = dz @ wz.T + dr @ wr.T
        dx = dboth[:, :d] + dreset[:, :d]
        dh = dboth[:, d:] + dreset[:, d:] * r + dout * z
        return dx, dh, both.T @ dr, both.T @ dz, reset.T @ dn

    return pair(gru_step, backward, *gru_inputs(rng))


@corpus.case("operand", wrong="wn")
def np_gru_candidate_weight_without_reset(rng: np.random.Generator) -> Made:
    """dwn pairs dn with [x, h] instead of [x, r*h]."""

    def backward(dout, x, h, wz, wr, wn):
        d = x.shape[1]
        both = np.hstack([x, h])
        z, r = sigmoid(both @ wz), sigmoid(both @ wr)
        n = np.tanh(np.hstack([x, r * h]) @ wn)
        dn = dout * (1 - z) * (1 - n**2)
        dreset = dn @ wn.T
        dz = dout * (h - n) * z * (1 - z)
        dr = dreset[:, d:] * h * r * (1 - r)
        dboth = dz @ wz.T + dr @ wr.T
        dx = dboth[:, :d] + dreset[:, :d]
        dh = dboth[:, d:] + dreset[:, d:] * r + dout * z
        return dx, dh, both.T @ dz, both.T @ dr, both.T @ dn

    return pair(gru_step, backward, *gru_inputs(rng))


@corpus.case("sign", wrong="x h wz")
def np_gru_update_gate_the_other_way(rng: np.random.Generator) -> Made:
    """The update gate's gradient is n - h instead of h - n."""

    def backward(dout, x, h, wz, wr, wn):
        d = x.shape[1]
        both = np.hstack([x, h])
        z, r = sigmoid(both @ wz), sigmoid(both @ wr)
        reset = np.hstack([x, r * h])
        n = np.tanh(reset @ wn)
        dn = dout * (1 - z) * (1 - n**2)
        dreset = dn @ wn.T
        dz = dout * (n - h) * z * (1 - z)
        dr = dreset[:, d:] * h * r * (1 - r)
        dboth = dz @ wz.T + dr @ wr.T
        dx = dboth[:, :d] + dreset[:, :d]
        dh = dboth[:, d:] + dreset[:, d:] * r + dout * z
        return dx, dh, both.T @ dz, both.T @ dr, reset.T @ dn

    return pair(gru_step, backward, *gru_inputs(rng))


# Normalisation


def batchnorm(x, gamma, beta):
    """Written out step by step, as in the assignments of cs231n; eps 1e-5."""
    mean = x.mean(axis=0)
    centred = x - mean
    var = (centred**2).mean(axis=0)
    root = np.sqrt(var + 1e-5)
    inverse = 1 / root
    hat = centred * inverse
    return gamma * hat + beta, (hat, gamma, centred, inverse, root)


def features(rng):
    return normals(rng, (6, 4), 4, 4)


@corpus.case("sum", wrong="x")
def np_batchnorm_mean_gradient_not_summed(rng: np.random.Generator) -> Made:
    """The mean is subtracted from all rows; its gradient is not summed over them."""

    def backward(dout, cache):
        hat, gamma, centred, inverse, root = cache
        n = len(dout)
        dhat = dout * gamma
        dinverse = (dhat * centred).sum(axis=0)
        dvar = -dinverse / root**2 * 0.5 / root
        dcentred = dhat * inverse + 2 * centred * dvar / n
        dmean = -dcentred
        dx = dcentred + dmean / n
        return dx, (dout * hat).sum(axis=0), dout.sum(axis=0)

    return pair(batchnorm, backward, *features(rng))


@corpus.case("formula", wrong="x")
def np_batchnorm_square_without_two(rng: np.random.Generator) -> Made:
    """The square's derivative is centred instead of 2*centred."""

    def backward(dout, cache):
        hat, gamma, centred, inverse, root = cache
        n = len(dout)
        dhat = dout * gamma
        dinverse = (dhat * centred).sum(axis=0)
        dvar = -dinverse / root**2 * 0.5 / root
        dsquare = dvar / n * np.ones_like(centred)
        dcentred = dhat * inverse + centred * dsquare
        dx = dcentred - dcentred.mean(axis=0)
        return dx, (dout * hat).sum(axis=0), dout.sum(axis=0)

    return pair(batchnorm, backward, *features(rng))


@corpus.case("mean", wrong="x")
def np_batchnorm_variance_not_divided(rng: np.random.Generator) -> Made:
    """The mean over the batch in the variance is treated as a sum."""

    def backward(dout, cache):
        hat, gamma, centred, inverse, root = cache
        dhat = dout * gamma
        dinverse = (dhat * centred).sum(axis=0)
        dvar = -dinverse / root**2 * 0.5 / root
        dsquare = np.ones_like(centred) * dvar
        dcentred = dhat * inverse + 2 * centred * dsquare
        dx = dcentred - dcentred.mean(axis=0)
        return dx, (dout * hat).sum(axis=0), dout.sum(axis=0)

    return pair(batchnorm, backward, *features(rng))


@corpus.case("detached", wrong="x")
def np_batchnorm_variance_as_a_constant(rng: np.random.Generator) -> Made:
    """The path through the variance is left out."""

    def backward(dout, cache):
        hat, gamma, _, inverse, _ = cache
        dcentred = dout * gamma * inverse
        dx = dcentred - dcentred.mean(axis=0)
        return dx, (dout * hat).sum(axis=0), dout.sum(axis=0)

    return pair(batchnorm, backward, *features(rng))


@corpus.case("formula", wrong="x")
def np_batchnorm_root_with_the_wrong_power(rng: np.random.Generator) -> Made:
    """d(var**-0.5) is -0.5*var**-0.5 instead of -0.5*var**-1.5."""

    def backward(dout, cache):
        hat, gamma, centred, inverse, root = cache
        n = len(dout)
        var = root**2
        dhat = dout * gamma
        dvar = (dhat * centred * -0.5 * var**-0.5).sum(axis=0)
        dmean = (-dhat * inverse).sum(axis=0)
        dx = dhat * inverse + dvar * 2 * centred / n + dmean / n
        return dx, (dout * hat).sum(axis=0), dout.sum(axis=0)

    x, gamma, beta = features(rng)
    return pair(batchnorm, backward, 1.5 * x, gamma, beta)


@corpus.case("stale", wrong="x gamma")
def np_batchnorm_statistics_of_the_first_batch(rng: np.random.Generator) -> Made:
    """Mean and root are kept from the first call for backward."""
    statistics = {}

    def forward(x, gamma, beta):
        mean, root = x.mean(axis=0), np.sqrt(x.var(axis=0) + 1e-5)
        if not statistics:
            statistics.update(mean=mean, root=root)
        return gamma * (x - mean) / root + beta

    def backward(dout, x, gamma, beta):
        root = statistics["root"]
        hat = (x - statistics["mean"]) / root
        dhat = dout * gamma
        dx = (dhat - dhat.mean(axis=0) - hat * (dhat * hat).mean(axis=0)) / root
        return dx, (dout * hat).sum(axis=0), dout.sum(axis=0)

    forward(*features(rng))
    return pair(forward, backward, *features(rng))


def layernorm(x, gamma, beta, eps=0.1):
    mean = x.mean(axis=1, keepdims=True)
    root = np.sqrt(x.var(axis=1, keepdims=True) + eps)
    hat = (x - mean) / root
    return gamma * hat + beta, (hat, gamma, root, beta)


@corpus.case("axis", wrong="x")
def np_layernorm_backward_of_batchnorm(rng: np.random.Generator) -> Made:
    """Copied from batchnorm: the means run over the batch."""

    def forward(x, gamma, beta):
        return layernorm(x, gamma, beta)

    def backward(dout, cache):
        hat, gamma, root, _ = cache
        dhat = dout * gamma
        dx = (dhat - dhat.mean(axis=0) - hat * (dhat * hat).mean(axis=0)) / root
        return dx, (dout * hat).sum(axis=0), dout.sum(axis=0)

    return pair(forward, backward, *features(rng))


@corpus.case("operand", wrong="x")
def np_layernorm_multiplied_by_beta(rng: np.random.Generator) -> Made:
    """dhat is dout*beta instead of dout*gamma."""

    def forward(x, gamma, beta):
        return layernorm(x, gamma, beta)

    def backward(dout, cache):
        hat, _, root, beta = cache
        dhat = dout * beta
        shared = dhat.mean(axis=1, keepdims=True)
        along = hat * (dhat * hat).mean(axis=1, keepdims=True)
        dx = (dhat - shared - along) / root
        return dx, (dout * hat).sum(axis=0), dout.sum(axis=0)

    return pair(forward, backward, *features(rng))


@corpus.case("eps", wrong="x")
def np_layernorm_divided_without_eps(rng: np.random.Generator) -> Made:
    """Backward divides by the standard deviation alone."""

    def forward(x, gamma, beta):
        mean = x.mean(axis=1, keepdims=True)
        var = x.var(axis=1, keepdims=True)
        hat = (x - mean) / np.sqrt(var + 1e-5)
        return gamma * hat + beta, (hat, gamma, var)

    def backward(dout, cache):
        hat, gamma, var = cache
        dhat = dout * gamma
        shared = dhat.mean(axis=1, keepdims=True)
        along = hat * (dhat * hat).mean(axis=1, keepdims=True)
        dx = (dhat - shared - along) / np.sqrt(var)
        return dx, (dout * hat).sum(axis=0), dout.sum(axis=0)

    x, gamma, beta = features(rng)
    return pair(forward, backward, 0.01 * x, gamma, beta)


@corpus.case("eps", wrong="x gamma")
def np_rms_norm_eps_outside_the_root(rng: np.random.Generator) -> Made:
    """Forward has eps inside the root, backward outside."""
    eps = 0.1

    def forward(x, gamma):
        return gamma * x / np.sqrt((x**2).mean(axis=1, keepdims=True) + eps)

    def backward(dout, x, gamma):
        root = np.sqrt((x**2).mean(axis=1, keepdims=True)) + eps
        hat = x / root
        dhat = dout * gamma
        dx = (dhat - hat * (dhat * hat).mean(axis=1, keepdims=True)) / root
        return dx, (dout * hat).sum(axis=0)

    return pair(forward, backward, *normals(rng, (5, 4), 4))


# Whole small models


@corpus.case("operand", wrong="w2")
def np_mlp_last_weight_with_the_preactivation(rng: np.random.Generator) -> Made:
    """dw2 pairs dout with z instead of relu(z)."""

    def forward(x, w1, w2):
        z = x @ w1
        h = np.maximum(z, 0)
        return h @ w2, (x, z, h, w1, w2)

    def backward(dout, cache):
        x, z, h, w1, w2 = cache
        dw2 = z.T @ dout
        dh = dout @ w2.T
        dz = dh * (h > 0)
        return dz @ w1.T, x.T @ dz, dw2

    return pair(forward, backward, *normals(rng, (5, 4), (4, 6), (6, 3)))


@corpus.case("operand", wrong="x w1")
def np_mlp_goes_back_through_the_first_weight(rng: np.random.Generator) -> Made:
    """dh multiplies by w1.T where w2.T belongs; both are square."""

    def forward(x, w1, w2):
        return np.tanh(x @ w1) @ w2

    def backward(dout, x, w1, w2):
        h = np.tanh(x @ w1)
        dz = (dout @ w1.T) * (1 - h**2)
        return dz @ w1.T, x.T @ dz, h.T @ dout

    return pair(forward, backward, *normals(rng, (5, 4), (4, 4), (4, 4)))


@corpus.case("overwritten", wrong="w")
def np_autoencoder_tied_weight(rng: np.random.Generator) -> Made:
    """The decoder's gradient of the shared weight is replaced by the encoder's."""

    def forward(x, w):
        return np.tanh(x @ w) @ w.T

    def backward(dout, x, w):
        h = np.tanh(x @ w)
        grads = {"w": dout.T @ h}
        dz = (dout @ w) * (1 - h**2)
        grads["w"] = x.T @ dz
        grads["x"] = dz @ w.T
        return grads

    return pair(forward, backward, *normals(rng, (5, 4), (4, 3)))


@corpus.case("swapped", wrong="gate up")
def np_gated_product_exchanged(rng: np.random.Generator) -> Made:
    """dgate and dup are returned the wrong way round."""

    def forward(gate, up):
        s = sigmoid(gate)
        return gate * s * up, (gate, up, s)

    def backward(dout, cache):
        gate, up, s = cache
        dup = dout * gate * s
        dgate = dout * up * s * (1 + gate * (1 - s))
        return dup, dgate

    return pair(forward, backward, *normals(rng, (5, 4), (5, 4)))


@corpus.case("swapped", wrong="positive negative")
def np_triplet_loss_positive_and_negative_exchanged(rng: np.random.Generator) -> Made:
    """The gradients of the two examples are exchanged."""

    def forward(anchor, positive, negative):
        near = ((anchor - positive) ** 2).sum(axis=1)
        far = ((anchor - negative) ** 2).sum(axis=1)
        return np.maximum(near - far + 1, 0).mean()

    def backward(dout, anchor, positive, negative):
        near = ((anchor - positive) ** 2).sum(axis=1)
        far = ((anchor - negative) ** 2).sum(axis=1)
        g = (dout * (near - far + 1 > 0) / len(anchor))[:, None]
        danchor = g * 2 * (negative - positive)
        dpositive = -g * 2 * (anchor - positive)
        dnegative = g * 2 * (anchor - negative)
        return danchor, dnegative, dpositive

    return pair(forward, backward, *normals(rng, (6, 3), (6, 3), (6, 3)))


@corpus.case("shift", wrong="logits")
def np_next_word_loss_rows_off_by_one(rng: np.random.Generator) -> Made:
    """Row t predicts word t+1; its gradient is written to row t+1."""

    def forward(logits, words):
        p = softmax(logits[:-1])
        targets = words[1:]
        return -np.log(p[np.arange(len(p)), targets]).mean(), (p, targets, logits.shape)

    def backward(dout, cache):
        p, targets, shape = cache
        g = p.copy()
        g[np.arange(len(p)), targets] -= 1
        dlogits = np.zeros(shape)
        dlogits[1:] = dout * g / len(p)
        return dlogits, None

    return pair(forward, backward, rng.normal(size=(6, 4)), np.array([0, 3, 1, 1, 2, 0]))


@corpus.case("activation", wrong="x w b")
def np_logistic_regression_forgets_the_sigmoid(rng: np.random.Generator) -> Made:
    """Squared error of a sigmoid: p - y goes on without p*(1-p)."""

    def forward(x, w, b, y):
        p = sigmoid(x @ w + b)
        return 0.5 * ((p - y) ** 2).sum(), (x, w, p, y)

    def backward(dout, cache):
        x, w, p, y = cache
        dz = dout * (p - y)
        return np.outer(dz, w), x.T @ dz, dz.sum(), None

    x, w = normals(rng, (6, 4), 4)
    return pair(forward, backward, x, w, np.array(0.3), np.array([0, 1, 1, 0, 1, 0]))


@corpus.case("detached", wrong="u v")
def np_cosine_similarity_norms_as_constants(rng: np.random.Generator) -> Made:
    """The lengths by which the product is divided get no gradient."""

    def forward(u, v):
        lengths = np.linalg.norm(u, axis=1) * np.linalg.norm(v, axis=1)
        return (u * v).sum(axis=1) / lengths, (u, v, lengths)

    def backward(dout, cache):
        u, v, lengths = cache
        g = (dout / lengths)[:, None]
        return g * v, g * u

    return pair(forward, backward, *normals(rng, (5, 4), (5, 4)))


@corpus.case("sum", wrong="w")
def np_batched_matmul_shared_weight_of_the_first_item(rng: np.random.Generator) -> Made:
    """dw is the first sequence's alone instead of the sum over the batch."""

    def forward(x, w):
        return np.einsum("bti,io->bto", x, w)

    def backward(dout, x, w):
        dx = np.einsum("bto,io->bti", dout, w)
        dw = np.einsum("bti,bto->bio", x, dout)[0]
        return dx, dw

    return pair(forward, backward, *normals(rng, (2, 5, 4), (4, 3)))


@corpus.case("formula", wrong="x")
def np_pairwise_distance_without_the_root(rng: np.random.Generator) -> Made:
    """The distances are differentiated like their squares."""

    def forward(x, centres):
        diff = x[:, None] - centres[None]
        return np.sqrt((diff**2).sum(axis=2)), diff

    def backward(dout, cache):
        diff = cache
        dist = np.sqrt((diff**2).sum(axis=2))
        dx = (dout[:, :, None] * diff).sum(axis=1)
        dcentres = -(dout[:, :, None] * diff / dist[:, :, None]).sum(axis=0)
        return dx, dcentres

    return pair(forward, backward, *normals(rng, (5, 3), (4, 3)))
