import tracemalloc

import numpy as np
import pytest

from groundup.errors import DtypeError, ShapeError
from groundup.foundations import (
    Gradients,
    forward,
    forward_and_backward,
    lin,
    lin_grad,
    mse,
    mse_grad,
    relu,
    relu_grad,
)

# (n, i, h, o): an ordinary batch, a batch of one, the lesson's single output, nothing but ones
SIZES = [(7, 5, 4, 3), (1, 5, 4, 3), (6, 4, 3, 1), (1, 1, 1, 1)]


def problem(n, i, h, o, dtype=np.float64, seed=0):
    """Random x, y, w1, b1, w2, b2, marked read-only: a pass that writes to its inputs fails."""
    rng = np.random.default_rng(seed)
    shapes = [(n, i), (n, o), (i, h), (h,), (h, o), (o,)]
    arrays = [rng.standard_normal(shape).astype(dtype) for shape in shapes]
    for array in arrays:
        array.flags.writeable = False
    return arrays


def loss_by_element(x, y, w1, b1, w2, b2):
    """The loss of the two-layer model, one Python number at a time. Takes complex numbers."""
    (n, i), (h, o) = x.shape, w2.shape
    loss = 0
    for r in range(n):
        hidden = []
        for c in range(h):
            z = b1[c] + sum(x[r, k] * w1[k, c] for k in range(i))
            hidden.append(z if z.real > 0 else 0)
        for c in range(o):
            out = b2[c] + sum(hidden[k] * w2[k, c] for k in range(h))
            loss += (out - y[r, c]) ** 2
    return loss / (n * o)


def complex_step(arrays, which):
    """d loss / d arrays[which]: Im f(v + ih) / h has no subtraction, hence no rounding error."""
    gradient = np.empty(arrays[which].shape)
    for index in np.ndindex(gradient.shape):
        moved = [a.astype(complex) for a in arrays]
        moved[which][index] += 1e-30j
        gradient[index] = loss_by_element(*moved).imag / 1e-30
    return gradient


def torch_gradients(x, y, w1, b1, w2, b2):
    torch = pytest.importorskip("torch")
    x, y, w1, b1, w2, b2 = (torch.from_numpy(a.copy()) for a in (x, y, w1, b1, w2, b2))
    wanted = [w1, b1, w2, b2, x]
    for tensor in wanted:
        tensor.requires_grad_()
    out = torch.nn.functional.linear(x, w1.T, b1).relu() @ w2 + b2
    loss = torch.nn.functional.mse_loss(out, y)
    loss.backward()
    return loss.item(), Gradients(*(tensor.grad.numpy() for tensor in wanted))


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("seed", [0, 1])
def test_all_five_gradients_are_pytorchs(size, seed):
    arrays = problem(*size, seed=seed)
    loss, gradients = forward_and_backward(*arrays)
    expected_loss, expected = torch_gradients(*arrays)
    assert loss == pytest.approx(expected_loss, rel=1e-12)
    for name, ours, theirs in zip(Gradients._fields, gradients, expected, strict=True):
        assert ours.dtype == np.float64
        np.testing.assert_allclose(ours, theirs, rtol=1e-9, atol=1e-12, err_msg=name)


@pytest.mark.parametrize("size", SIZES)
def test_all_five_gradients_are_those_of_the_loss_by_element(size):
    arrays = problem(*size, seed=2)
    loss, gradients = forward_and_backward(*arrays)
    assert loss == pytest.approx(loss_by_element(*arrays), rel=1e-12)
    for name, which in {"dx": 0, "dw1": 2, "db1": 3, "dw2": 4, "db2": 5}.items():
        expected = complex_step(arrays, which)
        np.testing.assert_allclose(
            getattr(gradients, name), expected, rtol=1e-9, atol=1e-12, err_msg=name
        )


def test_forward_is_the_loss_of_forward_and_backward():
    arrays = problem(7, 5, 4, 3)
    assert forward(*arrays) == forward_and_backward(*arrays)[0]


def test_a_second_batch_has_its_own_loss_and_gradients():
    first, second = problem(6, 4, 3, 1, seed=3), problem(6, 4, 3, 1, seed=4)
    forward_and_backward(*first)
    loss, gradients = forward_and_backward(*second)
    assert loss == pytest.approx(loss_by_element(*second))
    np.testing.assert_allclose(gradients.dw1, complex_step(second, 2), rtol=1e-9)


def test_labels_may_be_flat_and_of_any_real_dtype():
    x, _, *parameters = problem(6, 4, 3, 1, dtype=np.float32)
    labels = np.arange(6)
    loss, gradients = forward_and_backward(x, labels.astype(np.float32)[:, None], *parameters)
    for y in (labels, labels.astype(np.uint8), labels.astype(np.float64), labels[:, None]):
        other_loss, other = forward_and_backward(x, y, *parameters)
        assert other_loss == loss
        for a, b in zip(gradients, other, strict=True):
            assert b.dtype == np.float32
            np.testing.assert_array_equal(a, b)


class TestLin:
    def test_by_element(self):
        x, _, w, b, _, _ = problem(3, 4, 2, 1)
        out = lin(x, w, b)
        for r, c in np.ndindex(3, 2):
            assert out[r, c] == pytest.approx(sum(x[r, k] * w[k, c] for k in range(4)) + b[c])

    def test_grad_with_a_random_cotangent(self):
        x, dout, w, b, _, _ = problem(5, 4, 3, 3)
        dx, dw, db = lin_grad(dout, x, w)
        # out[n, o] = sum over i of x[n, i] * w[i, o] + b[o], differentiated term by term
        for n, i in np.ndindex(x.shape):
            assert dx[n, i] == pytest.approx(sum(dout[n, o] * w[i, o] for o in range(3)))
        for i, o in np.ndindex(w.shape):
            assert dw[i, o] == pytest.approx(sum(x[n, i] * dout[n, o] for n in range(5)))
        for o in range(3):
            assert db[o] == pytest.approx(sum(dout[n, o] for n in range(5)))
        assert (dx.shape, dw.shape, db.shape) == (x.shape, w.shape, b.shape)

    def test_an_empty_batch(self):
        x, w, b = np.ones((0, 3)), np.ones((3, 2)), np.ones(2)
        assert lin(x, w, b).shape == (0, 2)
        dx, dw, db = lin_grad(np.ones((0, 2)), x, w)
        assert dx.shape == (0, 3)
        np.testing.assert_array_equal(dw, np.zeros((3, 2)))
        np.testing.assert_array_equal(db, np.zeros(2))

    @pytest.mark.parametrize(
        ("x", "w", "b", "text"),
        [
            ((2, 3), (4, 5), (5,), r"x \(2, 3\), w \(4, 5\), b \(5,\): x's last axis must be w's"),
            ((3,), (3, 5), (5,), r"x \(n, i\) and w \(i, o\), but got x \(3,\)"),
            ((2, 3), (3,), (1,), r"w \(3,\)"),
            ((2, 3), (3, 5), (4,), r"b \(4,\): one bias a column"),
            ((2, 3), (3, 5), (1, 5), r"b \(1, 5\): one bias a column"),
            ((2, 3), (3, 5), (), r"b \(\): one bias a column"),
        ],
    )
    def test_wrong_shapes(self, x, w, b, text):
        with pytest.raises(ShapeError, match=text):
            lin(np.ones(x), np.ones(w), np.ones(b))

    @pytest.mark.parametrize("dout", [(2, 3), (5, 2), (2,), (1, 5)])
    def test_grad_with_a_wrong_dout(self, dout):
        with pytest.raises(ShapeError, match=r"dout has shape .* but lin's output .* has \(2, 5\)"):
            lin_grad(np.ones(dout), np.ones((2, 3)), np.ones((3, 5)))

    def test_grad_with_a_wrong_w(self):
        with pytest.raises(ShapeError, match=r"x \(2, 3\), w \(5, 3\)"):
            lin_grad(np.ones((2, 5)), np.ones((2, 3)), np.ones((5, 3)))

    def test_dtypes_that_would_widen(self):
        x, w = np.ones((2, 3), np.float32), np.ones((3, 5), np.float32)
        with pytest.raises(DtypeError, match="x float32, w float32, b float64"):
            lin(x, w, np.ones(5))
        with pytest.raises(DtypeError, match="x int64, w int64"):
            lin(x.astype(np.int64), w.astype(np.int64), np.ones(5, np.int64))


class TestRelu:
    def test_values(self):
        np.testing.assert_array_equal(relu(np.array([-2.0, -0.0, 0.0, 3.0])), [0, 0, 0, 3])
        assert np.isnan(relu(np.array([np.nan])))

    def test_gradient_at_zero_is_zero(self):
        x = np.array([-1.0, -0.0, 0.0, 1e-300, 2.0])
        dout = np.array([5.0, 6.0, 7.0, 8.0, 9.0])
        np.testing.assert_array_equal(relu_grad(dout, x), [0, 0, 0, 8, 9])

    def test_float32_stays(self):
        x = np.ones((2, 2), np.float32)
        assert relu(x).dtype == relu_grad(x, x).dtype == np.float32

    def test_grad_refuses_to_broadcast(self):
        with pytest.raises(ShapeError, match=r"dout has shape \(4,\), .* its input's, \(3, 4\)"):
            relu_grad(np.ones(4), np.ones((3, 4)))


class TestMse:
    def test_predictions_n_1_against_labels_n(self):
        # broadcast to (3, 3), the mean would be 4/3 + ... and not this
        out, y = np.array([[1.0], [2.0], [4.0]]), np.array([1.0, 2.0, 3.0])
        assert mse(out, y) == mse(out[:, 0], y[:, None]) == mse(out, y[:, None]) == 1 / 3
        np.testing.assert_allclose(mse_grad(out, y), [[0], [0], [2 / 3]])
        assert mse_grad(out[:, 0], y[:, None]).shape == (3,)

    def test_batch_of_one(self):
        assert mse(np.array([[5.0]]), np.array([3.0])) == 4.0
        np.testing.assert_array_equal(mse_grad(np.array([[5.0]]), np.array([3.0])), [[4.0]])

    def test_mean_over_all_elements(self):
        out, y = np.array([[1.0, 2.0], [3.0, 4.0]]), np.zeros((2, 2))
        assert mse(out, y) == 30 / 4
        np.testing.assert_array_equal(mse_grad(out, y), 2 * out / 4)

    @pytest.mark.parametrize(
        ("out", "y"),
        [
            ((4,), (4, 2)),
            ((4, 2), (4,)),
            ((4, 1), (1, 4)),
            ((4, 1), (3,)),
            ((4, 1), (1,)),
            ((4, 1), ()),
            ((1, 1), ()),
            ((2, 2), (2,)),
            ((4, 2), (4, 1)),
        ],
    )
    @pytest.mark.parametrize("function", [mse, mse_grad])
    def test_shapes_that_only_broadcasting_would_join(self, function, out, y):
        with pytest.raises(ShapeError, match="they must be equal, up to a last axis of length 1"):
            function(np.ones(out), np.ones(y))

    @pytest.mark.parametrize("function", [mse, mse_grad])
    def test_no_mean_of_nothing(self, function):
        with pytest.raises(ShapeError, match=r"empty, of shape \(0, 1\)"):
            function(np.ones((0, 1)), np.ones(0))

    @pytest.mark.parametrize("function", [mse, mse_grad])
    def test_predictions_are_floats(self, function):
        with pytest.raises(DtypeError, match=r"out is int64.*astype"):
            function(np.ones(3, np.int64), np.ones(3))


def peak_bytes(function, *arguments):
    """The most memory that one call held at a time, and the bytes of what it returned."""
    tracemalloc.start()
    try:
        result = function(*arguments)
        return tracemalloc.get_traced_memory()[1], result
    finally:
        tracemalloc.stop()


def test_lin_grad_needs_no_memory_beyond_its_results():
    n, i, o = 2000, 300, 50
    x, dout, w, _, _, _ = problem(n, i, o, o, dtype=np.float32)
    peak, gradients = peak_bytes(lin_grad, dout, x, w)
    results = sum(gradient.nbytes for gradient in gradients)
    assert n * i * o * 4 > 40 * results  # the array of all terms would be seen
    assert peak < results + 20_000


def test_forward_and_backward_needs_four_hidden_arrays_beside_its_results():
    n, i, h = 5000, 100, 20
    arrays = problem(n, i, h, 1, dtype=np.float32)
    peak, (_, gradients) = peak_bytes(forward_and_backward, *arrays)
    results = sum(gradient.nbytes for gradient in gradients)
    hidden = n * h * 4  # l1, l2, dl1, dl2; out and dout are n * 4 bytes
    assert peak < results + 4 * hidden + 2 * n * 4 + 20_000
