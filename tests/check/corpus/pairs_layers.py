"""NumPy pairs of single layers and losses; each backward pass has one mistake."""

import numpy as np

from corpus.case import Corpus, Made

corpus = Corpus()


def pair(forward, backward, *inputs) -> Made:
    return Made(forward, inputs, {"backward": backward})


def normals(rng, *shapes):
    return [rng.normal(size=shape) for shape in shapes]


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


# Affine layers


def affine(x, w, b):
    return x @ w + b


def affine_cached(x, w, b):
    return x @ w + b, (x, w)


@corpus.case("transpose", wrong="x")
def np_affine_square_weight_not_transposed(rng: np.random.Generator) -> Made:
    """dx multiplies by w instead of w.T; w is square, so no shape tells."""

    def backward(dout, x, w, b):
        return dout @ w, x.T @ dout, dout.sum(0)

    return pair(affine, backward, *normals(rng, (5, 4), (4, 4), 4))


@corpus.case("transpose", wrong="w")
def np_affine_weight_gradient_in_torch_layout(rng: np.random.Generator) -> Made:
    """dw is (n_out, n_in), as for a weight that is kept transposed."""

    def backward(dout, cache):
        x, w = cache
        dx = dout @ w.T
        dw = dout.T @ x
        db = dout.sum(axis=0)
        return dx, dw, db

    return pair(affine_cached, backward, *normals(rng, (5, 4), (4, 3), 3))


@corpus.case("bias", wrong="b", also="sum")
def np_affine_bias_not_summed(rng: np.random.Generator) -> Made:
    """db keeps the batch axis."""

    def backward(dout, cache):
        x, w = cache
        dx = dout @ w.T
        dw = x.T @ dout
        db = dout
        return dx, dw, db

    return pair(affine_cached, backward, *normals(rng, (5, 4), (4, 3), 3))


@corpus.case("bias", wrong="b", also="sum")
def np_affine_bias_of_the_first_row(rng: np.random.Generator) -> Made:
    """db is made to fit by taking the first row instead of the sum."""

    def backward(dout, x, w, b):
        return dout @ w.T, x.T @ dout, dout[0]

    return pair(affine, backward, *normals(rng, (5, 4), (4, 3), 3))


@corpus.case("bias", wrong="b", also="sum")
def np_affine_sequence_bias_summed_over_batch_only(rng: np.random.Generator) -> Made:
    """x is (batch, time, features); db is summed over the batch, not over time."""

    def backward(dout, x, w, b):
        rows, grads = x.reshape(-1, x.shape[-1]), dout.reshape(-1, dout.shape[-1])
        return {"x": dout @ w.T, "w": rows.T @ grads, "b": dout.sum(0)}

    return pair(affine, backward, *normals(rng, (3, 5, 4), (4, 2), 2))


@corpus.case("mean", wrong="w b")
def np_affine_averaged_over_the_batch(rng: np.random.Generator) -> Made:
    """dw and db are divided by the batch size, as for the gradient of a mean loss."""

    def backward(dout, x, w, b):
        n = len(x)
        return dout @ w.T, x.T @ dout / n, dout.sum(0) / n

    return pair(affine, backward, *normals(rng, (5, 4), (4, 3), 3))


@corpus.case("stale", wrong="w")
def np_affine_input_remembered_by_shape(rng: np.random.Generator) -> Made:
    """The input is saved once for every shape, so dw uses the first batch."""
    saved = {}

    def forward(x, w, b):
        if x.shape not in saved:
            saved[x.shape] = x.copy()
        return x @ w + b

    def backward(dout, x, w, b):
        return dout @ w.T, saved[x.shape].T @ dout, dout.sum(0)

    x, w, b = normals(rng, (5, 4), (4, 3), 3)
    forward(rng.normal(size=(5, 4)), w, b)
    return pair(forward, backward, x, w, b)


@corpus.case("cotangent", wrong="w")
def np_affine_weight_gradient_without_dout(rng: np.random.Generator) -> Made:
    """dw takes every arriving gradient as one."""

    def backward(dout, cache):
        x, w = cache
        dw = x.T @ np.ones_like(dout)
        return dout @ w.T, dw, dout.sum(0)

    return pair(affine_cached, backward, *normals(rng, (5, 4), (4, 3), 3))


@corpus.case("activation", wrong="x w b")
def np_dense_tanh_forgets_tanh(rng: np.random.Generator) -> Made:
    """dout goes straight into the affine part."""

    def forward(x, w, b):
        return np.tanh(x @ w + b)

    def backward(dout, x, w, b):
        return dout @ w.T, x.T @ dout, dout.sum(0)

    return pair(forward, backward, *normals(rng, (5, 4), (4, 3), 3))


@corpus.case("activation", wrong="x w b", also="mask")
def np_affine_relu_forgets_relu(rng: np.random.Generator) -> Made:
    """The relu part of the cache is unpacked and not used."""

    def forward(x, w, b):
        z = x @ w + b
        return np.maximum(z, 0), ((x, w), z)

    def backward(dout, cache):
        (x, w), _ = cache
        dx = dout @ w.T
        dw = x.T @ dout
        db = dout.sum(axis=0)
        return dx, dw, db

    return pair(forward, backward, *normals(rng, (5, 4), (4, 3), 3))


@corpus.case("output", wrong="x w", also="operand")
def np_dense_silu_in_place(rng: np.random.Generator) -> Made:
    """z is overwritten in place by the activation, so the cached z is the output."""

    def forward(x, w):
        z = x @ w
        cache = (x, w, z)
        z *= sigmoid(z)
        return z, cache

    def backward(dout, cache):
        x, w, z = cache
        s = sigmoid(z)
        dz = dout * s * (1 + z * (1 - s))
        return dz @ w.T, x.T @ dz

    return pair(forward, backward, *normals(rng, (5, 4), (4, 3)))


# Activations and other functions of single entries


def relu(x):
    return np.maximum(x, 0)


@corpus.case("mask", wrong="x")
def np_relu_mask_of_dout(rng: np.random.Generator) -> Made:
    """The gradient is masked where it is negative itself."""

    def backward(dout, x):
        return (dout * (dout > 0),)

    return pair(relu, backward, rng.normal(size=(5, 4)))


@corpus.case("stale", wrong="x")
def np_relu_mask_of_the_first_batch(rng: np.random.Generator) -> Made:
    """setdefault keeps the first call's mask."""
    masks = {}

    def forward(x):
        masks.setdefault("relu", x > 0)
        return np.maximum(x, 0)

    def backward(dout, x):
        return (dout * masks["relu"],)

    forward(rng.normal(size=(5, 4)))
    return pair(forward, backward, rng.normal(size=(5, 4)))


@corpus.case("mask", wrong="x")
def np_leaky_relu_sides_exchanged(rng: np.random.Generator) -> Made:
    """The slope is used on the positive side."""

    def forward(x):
        return np.where(x > 0, x, 0.1 * x), x

    def backward(dout, cache):
        x = cache
        dx = np.where(x > 0, 0.1 * dout, dout)
        return (dx,)

    return pair(forward, backward, rng.normal(size=(5, 4)))


@corpus.case("mask", wrong="x")
def np_clip_only_from_above(rng: np.random.Generator) -> Made:
    """The entries below the lower bound let the gradient through."""

    def forward(x):
        return np.clip(x, -0.5, 0.5)

    def backward(dout, x):
        return (np.where(x < 0.5, dout, 0.0),)

    return pair(forward, backward, rng.normal(size=(5, 4)))


@corpus.case("mask", wrong="x")
def np_dropout_without_the_mask(rng: np.random.Generator) -> Made:
    """The scale is applied backward, the mask is not."""
    p = 0.4

    def forward(x, keep):
        return x * keep / (1 - p), keep

    def backward(dout, cache):
        dx = dout / (1 - p)
        return dx, None

    keep = np.array([[1, 0, 1, 1], [0, 1, 1, 0], [1, 1, 0, 1], [1, 0, 0, 1], [0, 1, 1, 1]])
    return pair(forward, backward, rng.normal(size=(5, 4)), keep)


@corpus.case("factor", wrong="x")
def np_inverted_dropout_scale_forgotten(rng: np.random.Generator) -> Made:
    """The mask is applied backward, the scale 1/(1-p) is not."""
    p = 0.4

    def forward(x, keep):
        return x * keep / (1 - p)

    def backward(dout, x, keep):
        return dout * keep, None

    keep = np.array([[1, 0, 1, 1], [0, 1, 1, 0], [1, 1, 0, 1], [1, 0, 0, 1], [0, 1, 1, 1]])
    return pair(forward, backward, rng.normal(size=(5, 4)), keep)


@corpus.case("mask", wrong="y")
def np_maximum_same_mask_for_both(rng: np.random.Generator) -> Made:
    """Both arguments get the gradient where x is larger."""

    def forward(x, y):
        return np.maximum(x, y)

    def backward(dout, x, y):
        larger = x > y
        return dout * larger, dout * larger

    return pair(forward, backward, *normals(rng, (5, 4), (5, 4)))


@corpus.case("output", wrong="x")
def np_tanh_of_the_input(rng: np.random.Generator) -> Made:
    """1 - x**2 where 1 - out**2 belongs."""

    def forward(x):
        return np.tanh(x)

    def backward(dout, x):
        return (dout * (1 - x**2),)

    return pair(forward, backward, rng.normal(size=(5, 4)))


@corpus.case("output", wrong="x")
def np_sigmoid_applied_twice(rng: np.random.Generator) -> Made:
    """The cache is the output, and backward takes its sigmoid again."""

    def forward(x):
        out = sigmoid(x)
        return out, out

    def backward(dout, cache):
        s = sigmoid(cache)
        return (dout * s * (1 - s),)

    return pair(forward, backward, rng.normal(size=(5, 4)))


@corpus.case("output", wrong="x")
def np_softplus_slope_at_the_output(rng: np.random.Generator) -> Made:
    """The derivative is sigmoid(x); here sigmoid(out)."""

    def forward(x):
        return np.log1p(np.exp(x))

    def backward(dout, x, out):
        return (dout * sigmoid(out),)

    return pair(forward, backward, rng.normal(size=(5, 4)))


@corpus.case("formula", wrong="x")
def np_cube_loses_an_exponent(rng: np.random.Generator) -> Made:
    """3*x for the derivative of x**3."""

    def forward(x):
        return x**3

    def backward(dout, x):
        return (3 * x * dout,)

    return pair(forward, backward, rng.normal(size=(5, 4)))


@corpus.case("formula", wrong="x")
def np_silu_product_rule_loses_a_factor(rng: np.random.Generator) -> Made:
    """The second term of the product rule has 1-s instead of s*(1-s)."""

    def forward(x):
        s = sigmoid(x)
        return x * s, (x, s)

    def backward(dout, cache):
        x, s = cache
        dx = dout * (s + x * (1 - s))
        return (dx,)

    return pair(forward, backward, rng.normal(size=(5, 4)))


@corpus.case("formula", wrong="x")
def np_sqrt_multiplied_by_the_root(rng: np.random.Generator) -> Made:
    """0.5*sqrt(x) where the root belongs below the line."""

    def forward(x):
        return np.sqrt(x)

    def backward(dout, x, out):
        return (0.5 * out * dout,)

    return pair(forward, backward, rng.uniform(0.5, 3.0, size=(5, 4)))


@corpus.case("detached", wrong="x")
def np_gelu_without_the_density(rng: np.random.Generator) -> Made:
    """Only the first term of the product rule."""
    c = np.sqrt(2 / np.pi)

    def forward(x):
        t = np.tanh(c * (x + 0.044715 * x**3))
        return 0.5 * x * (1 + t)

    def backward(dout, x):
        t = np.tanh(c * (x + 0.044715 * x**3))
        return (dout * 0.5 * (1 + t),)

    return pair(forward, backward, rng.normal(size=(5, 4)))


@corpus.case("sign", wrong="x")
def np_reciprocal_without_minus(rng: np.random.Generator) -> Made:
    """1/x**2 for the derivative of 1/x."""

    def forward(x):
        return 1 / x

    def backward(dout, x):
        return (dout / x**2,)

    return pair(forward, backward, rng.uniform(0.5, 2.0, size=(5, 4)))


@corpus.case("eps", wrong="x")
def np_log_eps_left_out(rng: np.random.Generator) -> Made:
    """log(x + eps) is differentiated as log(x)."""
    eps = 1e-3

    def forward(x):
        return np.log(x + eps)

    def backward(dout, x):
        return (dout / x,)

    return pair(forward, backward, rng.uniform(0.002, 0.02, size=(5, 4)))


# Arithmetic with broadcasting


@corpus.case("sign", wrong="y")
def np_difference_of_column_without_minus(rng: np.random.Generator) -> Made:
    """dy has the sign of a sum."""

    def forward(x, y):
        return x - y

    def backward(dout, x, y):
        return dout, dout.sum(1, keepdims=True)

    return pair(forward, backward, *normals(rng, (5, 4), (5, 1)))


@corpus.case("sign", wrong="y")
def np_quotient_denominator_without_minus(rng: np.random.Generator) -> Made:
    """dy is x/y**2."""

    def forward(x, y):
        return x / y, (x, y)

    def backward(dout, cache):
        x, y = cache
        dx = dout / y
        dy = dout * x / y**2
        return dx, dy

    return pair(forward, backward, rng.normal(size=(5, 4)), rng.uniform(0.5, 2.0, size=(5, 4)))


@corpus.case("sum", wrong="scale")
def np_scale_gradient_not_summed(rng: np.random.Generator) -> Made:
    """The scale is broadcast over the batch; its gradient keeps the batch axis."""

    def forward(x, scale):
        return x * scale

    def backward(dout, x, scale):
        return dout * scale, dout * x

    return pair(forward, backward, *normals(rng, (5, 4), 4))


@corpus.case("sum", wrong="x")
def np_outer_sum_takes_the_first_column(rng: np.random.Generator) -> Made:
    """dx is a column of dout instead of the sum of its columns."""

    def forward(x, y):
        return x[:, None] + y[None, :]

    def backward(dout, x, y):
        return dout[:, 0], dout.sum(0)

    return pair(forward, backward, *normals(rng, 5, 4))


@corpus.case("sum", wrong="temperature")
def np_scalar_temperature_one_for_each_class(rng: np.random.Generator) -> Made:
    """The scalar's gradient is summed over the batch, not over the classes."""

    def forward(x, temperature):
        return x / temperature, (x, temperature)

    def backward(dout, cache):
        x, temperature = cache
        dtemperature = -(dout * x / temperature**2).sum(axis=0)
        return dout / temperature, dtemperature

    return pair(forward, backward, rng.normal(size=(5, 4)), np.array(1.7))


@corpus.case("axis", wrong="scale")
def np_row_scale_summed_over_rows(rng: np.random.Generator) -> Made:
    """scale[:, None] is one factor a row; its gradient is summed over axis 0."""

    def forward(x, scale):
        return x * scale[:, None]

    def backward(dout, x, scale):
        return dout * scale[:, None], (dout * x).sum(axis=0)

    return pair(forward, backward, *normals(rng, (4, 4), 4))


@corpus.case("operand", wrong="x")
def np_product_times_itself(rng: np.random.Generator) -> Made:
    """dx is dout*x instead of dout*y."""

    def forward(x, y):
        return x * y

    def backward(dout, x, y):
        return dout * x, dout * x

    return pair(forward, backward, *normals(rng, (5, 4), (5, 4)))


@corpus.case("swapped", wrong="x y")
def np_quotient_gradients_exchanged(rng: np.random.Generator) -> Made:
    """dy is returned before dx."""

    def forward(x, y):
        return x / y

    def backward(dout, x, y):
        dy = -dout * x / y**2
        dx = dout / y
        return dy, dx

    return pair(forward, backward, rng.normal(size=(5, 4)), rng.uniform(0.5, 2.0, size=(5, 4)))


@corpus.case("swapped", wrong="gamma beta")
def np_scale_and_shift_exchanged(rng: np.random.Generator) -> Made:
    """dbeta is returned where dgamma belongs, and the reverse."""

    def forward(x, gamma, beta):
        return gamma * x + beta, (x, gamma)

    def backward(dout, cache):
        x, gamma = cache
        dbeta = dout.sum(axis=0)
        dgamma = (dout * x).sum(axis=0)
        return dout * gamma, dbeta, dgamma

    return pair(forward, backward, *normals(rng, (5, 4), 4, 4))


@corpus.case("overwritten", wrong="x")
def np_residual_skip_lost(rng: np.random.Generator) -> Made:
    """dx holds dout for the skip, and the branch's gradient is put in its place."""

    def forward(x, w):
        h = np.tanh(x @ w)
        return x + h, (x, w, h)

    def backward(dout, cache):
        x, w, h = cache
        dx = dout
        dz = dout * (1 - h**2)
        dw = x.T @ dz
        dx = dz @ w.T
        return dx, dw

    return pair(forward, backward, *normals(rng, (5, 4), (4, 4)))


@corpus.case("overwritten", wrong="x")
def np_lagged_difference_second_assignment_wins(rng: np.random.Generator) -> Made:
    """Every inner entry is used twice; the second use's gradient replaces the first's."""

    def forward(x):
        return x[1:] - x[:-1]

    def backward(dout, x):
        dx = np.zeros_like(x)
        dx[1:] = dout
        dx[:-1] = -dout
        return (dx,)

    return pair(forward, backward, rng.normal(size=(6, 3)))


@corpus.case("shift", wrong="x")
def np_second_difference_off_by_one(rng: np.random.Generator) -> Made:
    """The middle entry's gradient lands one place too early."""

    def forward(x):
        return x[2:] - 2 * x[1:-1] + x[:-2], x.shape

    def backward(dout, cache):
        dx = np.zeros(cache)
        dx[2:] += dout
        dx[:-2] -= 2 * dout
        dx[:-2] += dout
        return (dx,)

    return pair(forward, backward, rng.normal(size=7))


@corpus.case("transpose", wrong="b")
def np_matmul_second_factor_transposed(rng: np.random.Generator) -> Made:
    """db is (a.T @ dout).T."""

    def forward(a, b):
        return a @ b, (a, b)

    def backward(dout, cache):
        a, b = cache
        da = dout @ b.T
        db = dout.T @ a
        return da, db

    return pair(forward, backward, *normals(rng, (4, 4), (4, 4)))


@corpus.case("transpose", wrong="a")
def np_einsum_indices_exchanged(rng: np.random.Generator) -> Made:
    """The result's indices of a are in the wrong order."""

    def forward(a, b):
        return np.einsum("ij,kj->ik", a, b)

    def backward(dout, a, b):
        da = np.einsum("ik,kj->ji", dout, b)
        db = np.einsum("ik,ij->kj", dout, a)
        return da, db

    return pair(forward, backward, *normals(rng, (4, 4), (3, 4)))


@corpus.case("operand", wrong="left")
def np_bilinear_form_wrong_vector(rng: np.random.Generator) -> Made:
    """d(left) is contracted with left again instead of right."""

    def forward(left, m, right):
        return np.einsum("bi,ij,bj->b", left, m, right)

    def backward(dout, left, m, right):
        dleft = np.einsum("b,ij,bj->bi", dout, m, left)
        dm = np.einsum("b,bi,bj->ij", dout, left, right)
        dright = np.einsum("b,bi,ij->bj", dout, left, m)
        return dleft, dm, dright

    return pair(forward, backward, *normals(rng, (5, 4), (4, 4), (5, 4)))


# Reductions, norms, cumulative sums


@corpus.case("mean", wrong="x")
def np_batch_mean_sent_back_as_a_sum(rng: np.random.Generator) -> Made:
    """Each row gets dout whole, not its n-th part."""

    def forward(x):
        return x.mean(0)

    def backward(dout, x):
        return (np.broadcast_to(dout, x.shape).copy(),)

    return pair(forward, backward, rng.normal(size=(5, 4)))


@corpus.case("mean", wrong="x")
def np_row_sum_sent_back_as_a_mean(rng: np.random.Generator) -> Made:
    """A sum over the columns, with the gradient of a mean over them."""

    def forward(x):
        return x.sum(axis=1), x.shape

    def backward(dout, cache):
        d = cache[1]
        dx = np.repeat(dout[:, None], d, axis=1) / d
        return (dx,)

    return pair(forward, backward, rng.normal(size=(5, 4)))


@corpus.case("cotangent", wrong="x")
def np_sum_gradient_of_ones(rng: np.random.Generator) -> Made:
    """Ones, whatever arrives."""

    def forward(x):
        return x.sum(axis=1)

    def backward(dout, x):
        return (np.ones_like(x),)

    return pair(forward, backward, rng.normal(size=(5, 4)))


@corpus.case("cotangent", wrong="x")
def np_exp_times_total_of_dout(rng: np.random.Generator) -> Made:
    """The arriving gradient is summed to one number first."""

    def forward(x):
        out = np.exp(x)
        return out, out

    def backward(dout, cache):
        return (np.sum(dout) * cache,)

    return pair(forward, backward, rng.normal(size=(5, 4)))


@corpus.case("factor", wrong="x")
def np_euclidean_norm_of_a_square(rng: np.random.Generator) -> Made:
    """The 2 of the square stays, the 1/2 of the root is forgotten."""

    def forward(x):
        return np.sqrt((x * x).sum(1))

    def backward(dout, x, out):
        return (dout[:, None] * 2 * x / out[:, None],)

    return pair(forward, backward, rng.normal(size=(5, 4)))


@corpus.case("factor", wrong="x")
def np_squared_norm_without_two(rng: np.random.Generator) -> Made:
    """x instead of 2*x."""

    def forward(x):
        return (x**2).sum(axis=1), x

    def backward(dout, cache):
        x = cache
        dx = dout[:, None] * x
        return (dx,)

    return pair(forward, backward, rng.normal(size=(5, 4)))


@corpus.case("detached", wrong="x")
def np_rows_divided_by_a_constant_sum(rng: np.random.Generator) -> Made:
    """The sum by which a row is divided is treated as a constant."""

    def forward(x):
        return x / x.sum(1, keepdims=True)

    def backward(dout, x):
        return (dout / x.sum(1, keepdims=True),)

    return pair(forward, backward, rng.uniform(0.5, 2.0, size=(5, 4)))


@corpus.case("eps", wrong="x")
def np_unit_rows_eps_moved_inside_the_root(rng: np.random.Generator) -> Made:
    """Forward divides by root + eps; backward by root(... + eps)."""
    eps = 0.05

    def forward(x):
        norm = np.sqrt((x**2).sum(axis=1, keepdims=True))
        return x / (norm + eps), x

    def backward(dout, cache):
        x = cache
        norm = np.sqrt((x**2).sum(axis=1, keepdims=True) + eps)
        dot = (dout * x).sum(axis=1, keepdims=True)
        return (dout / norm - x * dot / norm**3,)

    return pair(forward, backward, rng.normal(size=(5, 4)))


@corpus.case("axis", wrong="x")
def np_cumsum_reversed_along_the_batch(rng: np.random.Generator) -> Made:
    """The gradient's cumulative sum runs back along axis 0 instead of 1."""

    def forward(x):
        return np.cumsum(x, axis=1)

    def backward(dout, x):
        return (np.cumsum(dout[::-1], axis=0)[::-1],)

    return pair(forward, backward, rng.normal(size=(5, 4)))


@corpus.case("shift", wrong="x")
def np_cumsum_gradient_not_reversed(rng: np.random.Generator) -> Made:
    """The gradient is accumulated from the front, not from the back."""

    def forward(x):
        return np.cumsum(x, axis=1), x.shape

    def backward(dout, cache):
        return (np.cumsum(dout, axis=1),)

    return pair(forward, backward, rng.normal(size=(5, 4)))


@corpus.case("axis", wrong="x")
def np_centred_rows_averaged_over_columns(rng: np.random.Generator) -> Made:
    """Forward subtracts each row's mean; backward each column's."""

    def forward(x):
        return x - x.mean(axis=1, keepdims=True), x.shape

    def backward(dout, cache):
        dx = dout - dout.mean(axis=0, keepdims=True)
        return (dx,)

    return pair(forward, backward, rng.normal(size=(5, 4)))


@corpus.case("mean", wrong="x")
def np_variance_without_one_over_n(rng: np.random.Generator) -> Made:
    """2*(x - mean), not divided by the number of rows."""

    def forward(x):
        return x.var(axis=0), x

    def backward(dout, cache):
        x = cache
        dx = 2 * (x - x.mean(axis=0)) * dout
        return (dx,)

    return pair(forward, backward, rng.normal(size=(5, 4)))


@corpus.case("overwritten", wrong="x")
def np_value_and_square_share_the_input(rng: np.random.Generator) -> Made:
    """concatenate([x, x**2]): the first half's gradient is overwritten by the second's."""

    def forward(x):
        return np.concatenate([x, x**2], axis=1), x

    def backward(dout, cache):
        x = cache
        d = x.shape[1]
        dx = np.zeros_like(x)
        for part, slope in ((dout[:, :d], 1.0), (dout[:, d:], 2 * x)):
            dx[:] = part * slope
        return (dx,)

    return pair(forward, backward, rng.normal(size=(5, 4)))


# Softmax


def softmax(x):
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


@corpus.case("softmax", wrong="x")
def np_softmax_like_a_sigmoid(rng: np.random.Generator) -> Made:
    """p*(1-p) for each entry."""

    def forward(x):
        p = softmax(x)
        return p, p

    def backward(dout, cache):
        p = cache
        return (dout * p * (1 - p),)

    return pair(forward, backward, rng.normal(size=(5, 4)))


@corpus.case("softmax", wrong="x")
def np_log_softmax_of_single_entries(rng: np.random.Generator) -> Made:
    """1 - p for each entry, without the other classes."""

    def forward(x):
        return np.log(softmax(x))

    def backward(dout, x):
        return (dout * (1 - softmax(x)),)

    return pair(forward, backward, rng.normal(size=(5, 4)))


@corpus.case("axis", wrong="x")
def np_softmax_dot_over_the_batch(rng: np.random.Generator) -> Made:
    """The inner product of the Jacobian runs over axis 0."""

    def backward(dout, x, out):
        return (out * (dout - (out * dout).sum(axis=0, keepdims=True)),)

    return pair(softmax, backward, rng.normal(size=(5, 4)))


# Indexing


@corpus.case("scatter", wrong="table")
def np_embedding_assigns(rng: np.random.Generator) -> Made:
    """Repeated words keep only the last row's gradient."""

    def forward(table, words):
        return table[words]

    def backward(dout, table, words):
        dtable = np.zeros_like(table)
        dtable[words] = dout
        return dtable, None

    return pair(forward, backward, rng.normal(size=(6, 3)), np.array([1, 4, 1, 0, 4, 4]))


@corpus.case("scatter", wrong="table")
def np_embedding_fancy_plus_equals(rng: np.random.Generator) -> Made:
    """`+=` with an index array adds repeated rows once."""

    def forward(words, table):
        return table[words], (words, table.shape)

    def backward(dout, cache):
        words, shape = cache
        dtable = np.zeros(shape)
        dtable[words] += dout
        return None, dtable

    return pair(forward, backward, np.array([[2, 0, 2], [5, 2, 0]]), rng.normal(size=(6, 4)))


@corpus.case("scatter", wrong="x")
def np_gather_of_pairs_assigns(rng: np.random.Generator) -> Made:
    """x[rows, cols] with a pair that occurs twice."""

    def forward(x, rows, cols):
        return x[rows, cols]

    def backward(dout, x, rows, cols):
        dx = np.zeros_like(x)
        dx[rows, cols] += dout
        return dx, None, None

    rows, cols = np.array([0, 3, 0, 2, 3]), np.array([1, 2, 1, 0, 2])
    return pair(forward, backward, rng.normal(size=(5, 4)), rows, cols)


# Losses


def mse(pred, targ):
    return ((pred - targ) ** 2).mean()


@corpus.case("factor", wrong="pred targ")
def np_mse_without_two(rng: np.random.Generator) -> Made:
    """The 2 of the square is left out."""

    def backward(dout, pred, targ):
        dpred = dout * (pred - targ) / pred.size
        return dpred, -dpred

    return pair(mse, backward, *normals(rng, (5, 3), (5, 3)))


@corpus.case("sign", wrong="pred targ")
def np_mse_target_minus_prediction(rng: np.random.Generator) -> Made:
    """The difference is taken the other way round."""

    def backward(dout, pred, targ):
        diff = 2 * dout * (targ - pred) / targ.size
        return {"pred": diff, "targ": -diff}

    return pair(mse, backward, *normals(rng, (5, 3), (5, 3)))


@corpus.case("cotangent", wrong="pred targ")
def np_mse_returns_its_own_gradient(rng: np.random.Generator) -> Made:
    """dout is ignored, as if the loss were always the end."""

    def forward(pred, targ):
        diff = pred - targ
        return np.mean(diff**2), diff

    def backward(dout, cache):
        diff = cache
        grad = 2 * diff / diff.size
        return grad, -grad

    return pair(forward, backward, *normals(rng, (5, 3), (5, 3)))


@corpus.case("mean", wrong="logits")
def np_softmax_loss_not_averaged(rng: np.random.Generator) -> Made:
    """The loss is a mean, its gradient that of a sum."""

    def forward(logits, labels):
        p = softmax(logits)
        n = len(labels)
        return -np.log(p[np.arange(n), labels]).sum() / n, (p, labels)

    def backward(dout, cache):
        p, labels = cache
        dlogits = p.copy()
        dlogits[np.arange(len(labels)), labels] -= 1
        return dout * dlogits, None

    return pair(forward, backward, rng.normal(size=(5, 3)), np.array([0, 2, 1, 1, 2]))


@corpus.case("sign", wrong="logits")
def np_cross_entropy_target_minus_p(rng: np.random.Generator) -> Made:
    """target - p."""

    def forward(logits, labels):
        return -np.log(softmax(logits)[np.arange(len(labels)), labels]).mean()

    def backward(dout, logits, labels):
        target = np.eye(logits.shape[1])[labels]
        return dout * (target - softmax(logits)) / len(labels), None

    return pair(forward, backward, rng.normal(size=(5, 3)), np.array([0, 2, 1, 1, 2]))


@corpus.case("formula", wrong="logits")
def np_cross_entropy_without_the_target(rng: np.random.Generator) -> Made:
    """The derivative of the log of the sum alone: minus the target is forgotten."""

    def forward(logits, labels):
        return -np.log(softmax(logits)[np.arange(len(labels)), labels]).mean()

    def backward(dout, logits, labels):
        return dout * softmax(logits) / len(labels), None

    return pair(forward, backward, rng.normal(size=(5, 3)), np.array([0, 2, 1, 1, 2]))


@corpus.case("stale", wrong="logits")
def np_cross_entropy_one_hot_of_the_first_batch(rng: np.random.Generator) -> Made:
    """The one-hot targets are made once for a batch size and reused."""
    targets = {}

    def one_hot(labels, classes):
        if len(labels) not in targets:
            targets[len(labels)] = np.eye(classes)[labels]
        return targets[len(labels)]

    def forward(logits, labels):
        p = softmax(logits)
        loss = -np.log(p[np.arange(len(labels)), labels]).mean()
        return loss, (p, one_hot(labels, logits.shape[1]))

    def backward(dout, cache):
        p, target = cache
        return dout * (p - target) / len(p), None

    forward(rng.normal(size=(5, 3)), np.array([2, 1, 0, 1, 0]))
    return pair(forward, backward, rng.normal(size=(5, 3)), np.array([0, 2, 1, 1, 2]))


@corpus.case("eps", wrong="p")
def np_binary_cross_entropy_eps_only_forward(rng: np.random.Generator) -> Made:
    """Forward guards the logarithms by eps, backward divides by p and 1-p as they are."""
    eps = 1e-2

    def forward(p, labels):
        losses = labels * np.log(p + eps) + (1 - labels) * np.log(1 - p + eps)
        return -losses.mean(), (p, labels)

    def backward(dout, cache):
        p, labels = cache
        dp = -(labels / p - (1 - labels) / (1 - p)) / p.size
        return dout * dp, None

    return pair(forward, backward, rng.uniform(0.05, 0.95, size=6), np.array([0, 1, 1, 0, 1, 0]))


@corpus.case("mask", wrong="pred")
def np_huber_branches_exchanged(rng: np.random.Generator) -> Made:
    """The linear part's slope is used for small errors, the quadratic part's for large."""

    def forward(pred, targ):
        diff = pred - targ
        small = np.abs(diff) < 1
        return np.where(small, 0.5 * diff**2, np.abs(diff) - 0.5), (diff, small)

    def backward(dout, cache):
        diff, small = cache
        slope = np.where(small, np.sign(diff), diff)
        dtarg = -dout * np.where(small, diff, np.sign(diff))
        return dout * slope, dtarg

    return pair(forward, backward, *normals(rng, (6, 3), (6, 3)))


@corpus.case("detached", wrong="scores")
def np_hinge_right_class_forgotten(rng: np.random.Generator) -> Made:
    """The right class's score, subtracted from each margin, gets no gradient."""

    def forward(scores, labels):
        rows = np.arange(len(labels))
        margins = np.maximum(0, scores - scores[rows, labels][:, None] + 1)
        margins[rows, labels] = 0
        return margins.sum() / len(labels), margins

    def backward(dout, cache):
        margins = cache
        dscores = (margins > 0).astype(float)
        return dout * dscores / len(margins), None

    return pair(forward, backward, rng.normal(size=(5, 4)), np.array([0, 3, 1, 1, 2]))
