"""The passes as classes: each layer remembers what it saw, so that `backward` needs no arguments.

This is half-way from functions to `groundup.nn`. An Array carries its gradient:

    x, w1 = array(x), array(w1)
    model = Model(w1, b1, w2, b2)
    loss = model(x, y)
    model.backward()
    x.g, w1.g
"""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from groundup.errors import GradientError
from groundup.foundations.passes import lin, lin_grad, mse, mse_grad, relu, relu_grad


class Array(np.ndarray[Any, np.dtype[Any]]):
    """A NumPy array that can also carry its gradient, `g`."""

    _g: NDArray[Any] | None = None

    @property
    def g(self) -> NDArray[Any]:
        if self._g is None:
            raise GradientError(
                f"this array of shape {self.shape} has no gradient yet: run the forward pass, "
                "then backward from the loss down to here"
            )
        return self._g

    @g.setter
    def g(self, gradient: NDArray[Any]) -> None:
        self._g = gradient


def array(a: ArrayLike) -> Array:
    """`a` as an Array: itself if it is one already, else a view of it, never a copy of an array."""
    return a if isinstance(a, Array) else np.asarray(a).view(Array)


class Relu:
    """`out = max(inp, 0)`."""

    def __call__(self, inp: NDArray[Any]) -> Array:
        self.inp = array(inp)
        self.out = array(relu(self.inp))
        return self.out

    def backward(self) -> None:
        self.inp.g = relu_grad(self.out.g, self.inp)


class Lin:
    """`out = inp @ w + b`, with weights w (i, o) and biases b (o,)."""

    def __init__(self, w: NDArray[Any], b: NDArray[Any]) -> None:
        self.w, self.b = array(w), array(b)

    def __call__(self, inp: NDArray[Any]) -> Array:
        self.inp = array(inp)
        self.out = array(lin(self.inp, self.w, self.b))
        return self.out

    def backward(self) -> None:
        self.inp.g, self.w.g, self.b.g = lin_grad(self.out.g, self.inp, self.w)


class Mse:
    """`loss = mean((inp - y)**2)`: where every backward pass begins."""

    inp: Array | None = None

    def __call__(self, inp: NDArray[Any], y: NDArray[Any]) -> float:
        self.inp, self.y = array(inp), y
        return mse(inp, y)

    def backward(self) -> None:
        if self.inp is None:
            raise GradientError("backward before forward: call the model, or Mse, with data first")
        self.inp.g = mse_grad(self.inp, self.y)


class Model:
    """Linear, ReLU, linear and the loss. A layer remembers one call: use each once a pass."""

    def __init__(
        self, w1: NDArray[Any], b1: NDArray[Any], w2: NDArray[Any], b2: NDArray[Any]
    ) -> None:
        self.layers: list[Lin | Relu] = [Lin(w1, b1), Relu(), Lin(w2, b2)]
        self.loss = Mse()

    def __call__(self, x: NDArray[Any], y: NDArray[Any]) -> float:
        for layer in self.layers:
            x = layer(x)
        return self.loss(x, y)

    def backward(self) -> None:
        self.loss.backward()
        for layer in reversed(self.layers):
            layer.backward()
