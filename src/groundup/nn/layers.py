"""Layers: each a `forward` and, beside it, a hand-written `bwd`."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from groundup.errors import DtypeError, GroundupError, ShapeError
from groundup.functions import where
from groundup.generator import Generator, default as default_generator
from groundup.nn import init
from groundup.nn.module import Module
from groundup.tensor import Parameter, Tensor, Value


class Linear(Module):
    """inp @ w + b.

    Args:
        n_in: length of an input row.
        n_out: length of an output row.
        bias: whether there is a b.
        initial: a function of (n_in, n_out, generator=...) that makes w; b starts at zero.
        generator: where random numbers come from.

    Shapes: inp (..., n_in), w (n_in, n_out), b (n_out,), output (..., n_out).

    Raises:
        ShapeError: the last length of the input is not n_in.
        DtypeError: the input and the weights differ in dtype.

    """

    def __init__(
        self,
        n_in: int,
        n_out: int,
        bias: bool = True,
        *,
        initial: Callable[..., Any] = init.kaiming_normal,
        generator: Generator | None = None,
    ):
        if n_in < 1 or n_out < 1:
            raise ShapeError(f"Linear({n_in}, {n_out}): both lengths are at least 1")
        self.w: Tensor = Parameter(initial(n_in, n_out, generator=generator))
        self.b: Tensor | None = Parameter(np.zeros(n_out, np.float32)) if bias else None

    def forward(self, inp: Tensor) -> Tensor:
        self._check(inp)
        return inp @ self.w if self.b is None else inp @ self.w + self.b

    def bwd(self, out: Tensor, inp: Tensor) -> None:
        if inp.requires_grad:
            inp.g = out.g @ self.w.T
        x, g = inp, out.g
        if inp.ndim != 2:  # one row for each example, whatever the leading axes
            x, g = x.reshape(-1, x.shape[-1]), g.reshape(-1, g.shape[-1])
        self.w.g = x.T @ g
        if self.b is not None:
            self.b.g = g.sum(0, keepdims=self.b.ndim == 2)

    def _check(self, inp: Tensor) -> None:
        n_in, n_out = self.w.shape
        if not inp.ndim or inp.shape[-1] != n_in:
            raise ShapeError(
                f"{type(self).__name__}({n_in}, {n_out}): the input's last length must be {n_in}; "
                f"its shape is {inp.shape}"
                + (
                    "; is a Flatten() missing before it?"
                    if math.prod(inp.shape[1:]) == n_in
                    else ""
                )
            )
        if inp.dtype != self.w.dtype:
            raise DtypeError(
                f"{type(self).__name__}({n_in}, {n_out}): the input is {inp.dtype}, the weights "
                f"are {self.w.dtype}; convert one: x.cast(np.{self.w.dtype}) or "
                f"model.to(np.{inp.dtype})"
            )

    def extra_repr(self) -> str:
        bias = "" if self.b is not None else ", bias=False"
        return f"{self.w.shape[0]}, {self.w.shape[1]}{bias}"


class Lin(Linear):
    """A Linear layer from a given weight and bias.

    Arrays become parameters that share their memory. Tensors become parameters themselves, so
    that after `backward` their own `.g` is set; computed tensors stay what they are.

    Args:
        w: shape (n_in, n_out).
        b: shape (n_out,), or None.

    """

    def __init__(self, w: Value, b: Value | None = None):
        self.w = _parameter(w)
        self.b = None if b is None else _parameter(b)
        if self.w.ndim != 2:
            raise ShapeError(f"Lin: w is a matrix (n_in, n_out); its shape is {self.w.shape}")
        if self.b is not None and self.b.shape not in (
            (self.w.shape[1],),
            (1,),
            (1, self.w.shape[1]),
        ):
            raise ShapeError(
                f"Lin: w has shape {self.w.shape}, so b has ({self.w.shape[1]},), "
                f"not {self.b.shape}"
            )


def _parameter(value: Value) -> Tensor:
    if not isinstance(value, Tensor):
        return Parameter(value)
    if value.is_leaf and not isinstance(value, Parameter):
        value.requires_grad_()
        value.__class__ = Parameter
    return value


class Relu(Module):
    """max(inp, 0). The gradient at 0 is 0."""

    def forward(self, inp: Tensor) -> Tensor:
        return inp.relu()

    def bwd(self, out: Tensor, inp: Tensor) -> None:
        inp.g = (inp > 0) * out.g


class LeakyRelu(Module):
    """inp where positive, slope * inp elsewhere."""

    def __init__(self, slope: float = 0.01):
        self.slope = slope

    def forward(self, inp: Tensor) -> Tensor:
        return where(inp > 0, inp, self.slope * inp)

    def bwd(self, out: Tensor, inp: Tensor) -> None:
        inp.g = where(inp > 0, out.g, self.slope * out.g)

    def extra_repr(self) -> str:
        return f"{self.slope:g}"


class Tanh(Module):
    """tanh(inp); its derivative is 1 - out**2."""

    def forward(self, inp: Tensor) -> Tensor:
        return inp.tanh()

    def bwd(self, out: Tensor, inp: Tensor) -> None:
        inp.g = (1.0 - out * out) * out.g


class Sigmoid(Module):
    """1 / (1 + exp(-inp)); its derivative is out * (1 - out)."""

    def forward(self, inp: Tensor) -> Tensor:
        return inp.sigmoid()

    def bwd(self, out: Tensor, inp: Tensor) -> None:
        inp.g = out * (1.0 - out) * out.g


class Gelu(Module):
    """inp * P(N <= inp), N standard normal. "tanh" is the approximation of GPT-2.

    Hendrycks and Gimpel, "Gaussian error linear units", arXiv:1606.08415.
    """

    def __init__(self, approximate: str = "none"):
        if approximate not in ("none", "tanh"):
            raise GroundupError(f'Gelu: approximate is "none" or "tanh", not {approximate!r}')
        self.approximate = approximate

    def forward(self, inp: Tensor) -> Tensor:
        if self.approximate == "tanh":
            return 0.5 * inp * (1.0 + self._inner(inp).tanh())
        return 0.5 * inp * (1.0 + (inp * _SQRT_HALF).erf())

    def bwd(self, out: Tensor, inp: Tensor) -> None:
        if self.approximate == "tanh":
            t = self._inner(inp).tanh()
            slope = _SQRT_2_OVER_PI * (1.0 + 3 * 0.044715 * inp * inp)
            inp.g = (0.5 * (1.0 + t) + 0.5 * inp * (1.0 - t * t) * slope) * out.g
        else:
            # d/dx x*P(x) = P(x) + x*p(x), p the normal density
            density = (-0.5 * inp * inp).exp() * _INV_SQRT_2PI
            inp.g = (0.5 * (1.0 + (inp * _SQRT_HALF).erf()) + inp * density) * out.g

    def _inner(self, inp: Tensor) -> Tensor:
        return _SQRT_2_OVER_PI * (inp + 0.044715 * inp * inp * inp)

    def extra_repr(self) -> str:
        return "" if self.approximate == "none" else repr(self.approximate)


_SQRT_HALF = math.sqrt(0.5)
_SQRT_2_OVER_PI = math.sqrt(2 / math.pi)
_INV_SQRT_2PI = 1 / math.sqrt(2 * math.pi)


class Flatten(Module):
    """(n, ...) as (n, product of the rest)."""

    def forward(self, inp: Tensor) -> Tensor:
        return inp.flatten(1) if inp.ndim > 1 else inp.reshape(-1, 1)

    def bwd(self, out: Tensor, inp: Tensor) -> None:
        inp.g = out.g.reshape(inp.shape)


class Mask(Module):
    """scale * inp where keep is true, 0 elsewhere."""

    def __init__(self, scale: float = 1.0):
        self.scale = scale

    def forward(self, inp: Tensor, keep: Tensor) -> Tensor:
        return where(keep, inp * self.scale, 0.0)

    def bwd(self, out: Tensor, inp: Tensor, keep: Tensor) -> None:
        inp.g = where(keep, out.g * self.scale, 0.0)

    def extra_repr(self) -> str:
        return f"{self.scale:g}"


class Dropout(Module):
    """In training, each entry is zero with probability p and the rest is scaled by 1/(1-p).

    Srivastava et al., "Dropout: a simple way to prevent neural networks from overfitting",
    JMLR 15 (2014).

    Args:
        p: 0 <= p < 1.
        generator: where the masks come from; the default generator unless given.

    """

    def __init__(self, p: float = 0.5, *, generator: Generator | None = None):
        if not 0 <= p < 1:
            raise GroundupError(f"Dropout: p is a probability with 0 <= p < 1, not {p}")
        self.p = p
        # None, not the default generator itself: a deep copy would get a generator of its own.
        self.generator = generator
        self.mask = Mask(1 / (1 - p))

    def forward(self, inp: Tensor) -> Any:
        if not self.training or self.p == 0:
            return inp
        generator = self.generator or default_generator
        keep = generator.uniform(*inp.shape) >= self.p
        return self.mask(inp, keep)

    def extra_repr(self) -> str:
        return f"{self.p:g}"


class Sequential(Module):
    """Layers one after another: `Sequential(Linear(784, 50), Relu(), Linear(50, 10))`."""

    def __init__(self, *layers: Any):
        self.layers = list(
            layers[0] if len(layers) == 1 and isinstance(layers[0], list) else layers
        )
        for i, layer in enumerate(self.layers):
            if isinstance(layer, type) or not callable(layer):
                raise GroundupError(
                    f"Sequential: layer {i} is no module or function: {layer!r:.60}"
                )

    def forward(self, inp: Tensor) -> Any:
        for layer in self.layers:
            inp = layer(inp)
        return inp

    def __len__(self) -> int:
        return len(self.layers)

    def __iter__(self) -> Iterator[Any]:
        return iter(self.layers)

    def __getitem__(self, index: Any) -> Any:
        chosen = self.layers[index]
        return Sequential(*chosen) if isinstance(index, slice) else chosen
