"""Forward and backward by hand: linear, ReLU, linear, mean squared error, and all five gradients.

Shapes in this file: `n` examples, `i` inputs, `o` outputs of one layer. An argument `dv` is the
gradient of the loss with respect to `v`, so it always has `v`'s shape. All arrays of a call have
one floating-point dtype; labels `y` may be integers.
"""

from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from groundup.errors import DtypeError, ShapeError

Array: TypeAlias = NDArray[np.floating[Any]]


class LinGradients(NamedTuple):
    """The gradients of a linear layer, each in the shape of its namesake."""

    dx: Array  # (n, i)
    dw: Array  # (i, o)
    db: Array  # (o,)


class Gradients(NamedTuple):
    """The gradients of the two-layer model, each in the shape of its namesake."""

    dw1: Array
    db1: Array
    dw2: Array
    db2: Array
    dx: Array


def lin(x: Array, w: Array, b: Array) -> Array:
    """`x @ w + b`: from x (n, i), w (i, o) and b (o,) to (n, o)."""
    _check_lin(x, w, b)
    out = x @ w
    out += b
    return out


def relu(x: Array) -> Array:
    """`max(x, 0)`, element by element."""
    return np.maximum(x, 0)


def mse(out: Array, y: NDArray[Any]) -> float:
    """The mean of `(out - y)**2` over all elements.

    `out` and `y` have one shape; one of them may lack a last axis of length 1, so predictions
    (n, 1) meet labels (n,) element by element and never broadcast to (n, n). Other shapes, and
    empty ones, are a ShapeError.
    """
    return float((_difference(out, y) ** 2).mean())


def mse_grad(out: Array, y: NDArray[Any]) -> Array:
    """`dout` of `mse`: `2 * (out - y) / out.size`, in the shape of `out`."""
    diff = _difference(out, y)
    diff *= 2 / out.size
    return diff


def relu_grad(dout: Array, x: Array) -> Array:
    """`dx` of `relu`: `dout` where x > 0, else 0 (at x = 0 too, as in PyTorch)."""
    if dout.shape != x.shape:
        raise ShapeError(
            f"relu_grad: dout has shape {dout.shape}, but relu's output has its input's, {x.shape}"
        )
    return (x > 0) * dout


def lin_grad(dout: Array, x: Array, w: Array) -> LinGradients:
    """`dx`, `dw` and `db` of `lin`, from `dout` (n, o), x (n, i) and w (i, o).

    Three products, and no memory beyond their results. `dw[i, o]` is the sum over n of
    `x[n, i] * dout[n, o]`: the sum is the matrix product's own, so the array (n, i, o) of all its
    terms never exists.
    """
    _check_lin(x, w)
    if dout.shape != (len(x), w.shape[1]):
        raise ShapeError(
            f"lin_grad: dout has shape {dout.shape}, but lin's output for x {x.shape} and "
            f"w {w.shape} has {(len(x), w.shape[1])}"
        )
    return LinGradients(dx=dout @ w.T, dw=x.T @ dout, db=dout.sum(axis=0))


def forward(x: Array, y: NDArray[Any], w1: Array, b1: Array, w2: Array, b2: Array) -> float:
    """The loss of the two-layer model: x (n, i), w1 (i, h), b1 (h,), w2 (h, o), b2 (o,), y (n, o).

    `y` may also be (n,) where o is 1.
    """
    return mse(lin(relu(lin(x, w1, b1)), w2, b2), y)


def forward_and_backward(
    x: Array, y: NDArray[Any], w1: Array, b1: Array, w2: Array, b2: Array
) -> tuple[float, Gradients]:
    """The loss of `forward`, and its gradient with respect to each array that went in but `y`."""
    # forward
    l1 = lin(x, w1, b1)  # (n, h)
    l2 = relu(l1)  # (n, h)
    out = lin(l2, w2, b2)  # (n, o)
    loss = mse(out, y)
    # backward: the same steps, last to first
    dout = mse_grad(out, y)  # (n, o)
    dl2, dw2, db2 = lin_grad(dout, l2, w2)  # (n, h), (h, o), (o,)
    dl1 = relu_grad(dl2, l1)  # (n, h)
    dx, dw1, db1 = lin_grad(dl1, x, w1)  # (n, i), (i, h), (h,)
    return loss, Gradients(dw1, db1, dw2, db2, dx)


def _difference(out: Array, y: NDArray[Any]) -> Array:
    """`out - y` in the shape and dtype of `out`."""
    if out.shape not in (y.shape, (*y.shape, 1)) and y.shape != (*out.shape, 1):
        raise ShapeError(
            f"mse: out has shape {out.shape} and y {y.shape}; they must be equal, up to a last "
            "axis of length 1"
        )
    if out.size == 0:
        raise ShapeError(f"mse: out and y are empty, of shape {out.shape}: there is no mean")
    if not np.issubdtype(out.dtype, np.floating):
        raise DtypeError(f"mse: out is {out.dtype}, not floating-point: out.astype(np.float32)?")
    # dtype=: integer or double labels must not widen a float32 loss.
    difference: Array = np.subtract(out, y.reshape(out.shape), dtype=out.dtype)
    return difference


def _check_lin(x: Array, w: Array, b: Array | None = None) -> None:
    arrays = {"x": x, "w": w} if b is None else {"x": x, "w": w, "b": b}
    shapes = ", ".join(f"{name} {array.shape}" for name, array in arrays.items())
    if x.ndim != 2 or w.ndim != 2 or x.shape[1] != w.shape[0]:
        raise ShapeError(
            f"lin takes x (n, i) and w (i, o), but got {shapes}: x's last axis must be w's first"
        )
    if b is not None and b.shape != (w.shape[1],):
        raise ShapeError(f"lin takes b (o,) for w (i, o), but got {shapes}: one bias a column of w")
    dtypes = ", ".join(f"{name} {array.dtype}" for name, array in arrays.items())
    if len({a.dtype for a in arrays.values()}) > 1 or not np.issubdtype(x.dtype, np.floating):
        raise DtypeError(
            f"lin takes arrays of one floating-point dtype, but got {dtypes}: "
            "convert, e.g. with .astype(np.float32)"
        )
