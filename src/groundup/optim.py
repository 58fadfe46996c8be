"""Optimizers, each written out whole, gradient clipping, and learning-rate schedules.

An optimizer's `step()` reads each parameter's `.g` and writes the parameter in place; its state
(momentum and the like) is a list of tensors as long as the parameters. All follow PyTorch's
definitions to the last digit that rounding allows.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import nullcontext
from typing import Any, TypeAlias

import numpy as np

from groundup.errors import GroundupError, StateError
from groundup.ops import check_finite
from groundup.ops.base import Array, quiet, state
from groundup.tensor import APPLIED, Tensor, refuse_old_gradient

Schedule: TypeAlias = Callable[[int], float]


class Optimizer(ABC):
    """What all optimizers share: the parameters, the learning rate, and saving the state.

    Attributes:
        params: the parameters, in order.
        lr: the learning rate; set it at will, or let a schedule.
        counts: how many updates of each parameter were counted, where the rule needs that (Adam).
        state: by name, one tensor for each parameter.

    """

    def __init__(self, params: Iterable[Tensor], lr: float, **settings: float):
        if isinstance(params, Tensor):
            raise GroundupError(f"{type(self).__name__}: pass a list of parameters, [w], not w")
        self.params = list(params)
        if not self.params:
            raise GroundupError(
                f"{type(self).__name__}: no parameters to update; pass model.parameters()"
            )
        wrong = next((p for p in self.params if not isinstance(p, Tensor)), None)
        if wrong is not None:
            raise GroundupError(
                f"{type(self).__name__}: parameters are Tensors, not {type(wrong).__name__}; pass "
                "model.parameters(), not named_parameters() or the model"
            )
        for p in self.params:
            if p.node is not None:
                raise GroundupError(
                    f"{type(self).__name__}: a tensor of shape {p.shape} was computed by "
                    f"{p.node.name}; only leaves, such as parameters, can be updated"
                )
        if len({id(p) for p in self.params}) < len(self.params):
            raise GroundupError(
                f"{type(self).__name__}: a parameter was given twice and would be updated twice"
            )
        for name, value in {"lr": lr, **settings}.items():
            if not value >= 0:
                raise GroundupError(f"{type(self).__name__}: {name} must be 0 or more, not {value}")
        self.lr = lr
        # Arrays, so that a compiled step can write them together with the parameters.
        self.taken = np.zeros((), np.int64)
        self.counts = np.zeros(len(self.params), np.int64)
        self.state: dict[str, list[Tensor]] = {}

    @property
    def steps(self) -> int:
        """How many steps were taken."""
        return int(self.taken)

    @abstractmethod
    def update(self, i: int, p: Tensor, g: Tensor) -> None:
        """Write the new value of parameter i from its gradient."""

    def step(self) -> None:
        """Update every parameter that requires a gradient and has one.

        A gradient that an earlier step applied, and that the backward pass since then did not
        reach, is not applied again: there is no `zero_grad` that would have cleared it.
        """
        if state.recorder is not None:
            state.recorder.keep(self.taken)
        self.taken += 1
        recording, state.recording = state.recording, False
        recorder = state.recorder
        try:
            with quiet(), nullcontext() if recorder is None else recorder.updating(self):
                for i, p, g in _pending(self.params):
                    self.update(i, p, g)
        finally:
            state.recording = recording

    def count(self, i: int) -> int:
        """Count an update of parameter i: how many there were, this one included."""
        if state.recorder is not None:
            return state.recorder.count(self, i)  # type: ignore[return-value]
        self.counts[i] += 1
        return int(self.counts[i])

    def zeros(self, name: str) -> list[Tensor]:
        """A new state of zeros in the parameters' shapes."""
        self.state[name] = [Tensor.of(np.zeros_like(p.array)) for p in self.params]
        return self.state[name]

    def state_dict(self) -> dict[str, Array]:
        """Copies of the state, as arrays by name, with the learning rate and the step count."""
        saved = {
            f"{k}.{i}": t.data.copy() for k, ts in self.state.items() for i, t in enumerate(ts)
        }
        counts = {"steps": self.taken.copy(), "counts": self.counts.copy()}
        return {"lr": np.array(self.lr), **counts, **saved}

    def load_state_dict(self, saved: Mapping[str, Any]) -> None:
        """Continue from a saved state; if it does not fit, StateError, and nothing is changed."""
        own = {f"{k}.{i}": t for k, ts in self.state.items() for i, t in enumerate(ts)}
        shapes = {"lr": (), "steps": (), "counts": (len(self.counts),)}
        shapes |= {k: t.shape for k, t in own.items()}
        arrays = {k: np.asarray(v) for k, v in saved.items()}
        wrong = [f"missing: {k}" for k in shapes if k not in arrays]
        wrong += [f"extra: {k}" for k in arrays if k not in shapes]
        wrong += [
            f"{k} has shape {arrays[k].shape}, here {shape}"
            for k, shape in shapes.items()
            if k in arrays and arrays[k].shape != shape
        ]
        if wrong:
            raise StateError(
                f"this state does not fit {type(self).__name__}:\n  " + "\n  ".join(wrong)
            )
        for k, t in own.items():
            t.assign(arrays[k])
        self.lr = float(arrays["lr"])
        self.taken[...], self.counts[...] = arrays["steps"], arrays["counts"]


class SGD(Optimizer):
    """Gradient descent: p -= lr * g, with momentum v = momentum * v + g in g's place.

    With Nesterov's momentum the step looks ahead: g + momentum * v (Sutskever et al., ICML 2013).
    """

    def __init__(
        self,
        params: Iterable[Tensor],
        lr: float = 1e-2,
        momentum: float = 0.0,
        nesterov: bool = False,
        weight_decay: float = 0.0,
    ):
        super().__init__(params, lr, momentum=momentum, weight_decay=weight_decay)
        if nesterov and not momentum:
            raise GroundupError("SGD: nesterov=True needs a momentum above 0")
        self.momentum, self.nesterov, self.weight_decay = momentum, nesterov, weight_decay
        self.v = self.zeros("v") if momentum else []

    def update(self, i: int, p: Tensor, g: Tensor) -> None:
        if self.weight_decay:
            g = g + self.weight_decay * p
        if self.momentum:
            v = self.v[i].assign(self.momentum * self.v[i] + g)
            g = g + self.momentum * v if self.nesterov else v
        p -= self.lr * g


class RMSprop(Optimizer):
    """g over the root of a running mean of its squares s = alpha * s + (1 - alpha) * g**2.

    Tieleman and Hinton, Coursera lecture 6.5 (2012). eps is added to the root.
    """

    def __init__(
        self,
        params: Iterable[Tensor],
        lr: float = 1e-2,
        alpha: float = 0.99,
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        momentum: float = 0.0,
        centered: bool = False,
    ):
        settings = {"alpha": alpha, "eps": eps, "weight_decay": weight_decay, "momentum": momentum}
        super().__init__(params, lr, **settings)
        self.alpha, self.eps, self.weight_decay = alpha, eps, weight_decay
        self.momentum, self.centered = momentum, centered
        self.s = self.zeros("s")
        self.v = self.zeros("v") if momentum else []
        self.m = self.zeros("m") if centered else []

    def update(self, i: int, p: Tensor, g: Tensor) -> None:
        if self.weight_decay:
            g = g + self.weight_decay * p
        s = self.s[i].assign(self.alpha * self.s[i] + (1 - self.alpha) * g * g)
        variance: Tensor = s
        if self.centered:
            m = self.m[i].assign(self.m[i] + (1 - self.alpha) * (g - self.m[i]))
            variance = s - m * m
        step = g / (variance.sqrt() + self.eps)
        if self.momentum:
            step = self.v[i].assign(self.momentum * self.v[i] + step)
        p.assign(p - self.lr * step)


class Adam(Optimizer):
    """Running means of g (m) and g**2 (v), both corrected for starting at zero.

    Kingma and Ba, "Adam: a method for stochastic optimization", ICLR 2015, algorithm 1.
    `weight_decay` is added to the gradient; AdamW's is not.
    """

    def __init__(
        self,
        params: Iterable[Tensor],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
    ):
        super().__init__(params, lr, eps=eps, weight_decay=weight_decay)
        check_betas(self, betas)
        self.betas, self.eps, self.weight_decay = betas, eps, weight_decay
        self.m, self.v = self.zeros("m"), self.zeros("v")

    def update(self, i: int, p: Tensor, g: Tensor) -> None:
        (beta1, beta2), t = self.betas, self.count(i)
        if self.weight_decay:
            g = g + self.weight_decay * p
        m = self.m[i].assign(beta1 * self.m[i] + (1 - beta1) * g)
        v = self.v[i].assign(beta2 * self.v[i] + (1 - beta2) * g * g)
        m_hat = m / (1 - beta1**t)
        v_hat = v / (1 - beta2**t)
        p.assign(p - self.lr * m_hat / (v_hat.sqrt() + self.eps))


class AdamW(Optimizer):
    """Adam with weight decay apart from the gradient: p shrinks by lr * weight_decay first.

    Loshchilov and Hutter, "Decoupled weight decay regularization", ICLR 2019, algorithm 2.
    """

    def __init__(
        self,
        params: Iterable[Tensor],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
    ):
        super().__init__(params, lr, eps=eps, weight_decay=weight_decay)
        check_betas(self, betas)
        self.betas, self.eps, self.weight_decay = betas, eps, weight_decay
        self.m, self.v = self.zeros("m"), self.zeros("v")

    def update(self, i: int, p: Tensor, g: Tensor) -> None:
        (beta1, beta2), t = self.betas, self.count(i)
        m = self.m[i].assign(beta1 * self.m[i] + (1 - beta1) * g)
        v = self.v[i].assign(beta2 * self.v[i] + (1 - beta2) * g * g)
        m_hat = m / (1 - beta1**t)
        v_hat = v / (1 - beta2**t)
        decayed = p * (1 - self.lr * self.weight_decay)
        p.assign(decayed - self.lr * m_hat / (v_hat.sqrt() + self.eps))


def _pending(params: Sequence[Tensor]) -> list[tuple[int, Tensor, Tensor]]:
    """Which parameters have a gradient that no step has applied: place, parameter, gradient.

    One that came before the parameter was last written, while others came after that, is of an
    earlier backward pass.
    """
    found = [(i, p, p.g) for i, p in enumerate(params) if p.requires_grad and p._g is not APPLIED]
    latest = max([g.written for _, _, g in found if g is not None], default=0)
    for p in params:
        if p._g is APPLIED and p.written >= latest:
            refuse_old_gradient(p)
    return [(i, p, g) for i, p, g in found if g is not None and not g.written < p.written < latest]


def check_betas(optimizer: Optimizer, betas: tuple[float, float]) -> None:
    """Raise unless both decay rates are in [0, 1)."""
    if not all(0 <= beta < 1 for beta in betas):
        raise GroundupError(f"{type(optimizer).__name__}: betas lie in [0, 1), not {betas}")


# Gradient clipping


def clip_grad_norm(params: Iterable[Tensor], max_norm: float) -> Tensor:
    """Scale all gradients by one factor so that their joint Euclidean norm is at most max_norm.

    Returns the norm before, a 0-d Tensor. Pascanu et al., "On the difficulty of training recurrent
    neural networks", ICML 2013.

    Raises:
        NonFiniteError: the norm is NaN or infinite (no gradient is changed).

    """
    pending = _pending([params] if isinstance(params, Tensor) else list(params))
    recording, state.recording = state.recording, False
    try:
        with quiet():
            squares = [(g * g).sum() for _, _, g in pending]
            norm = sum(squares[1:], squares[0]).sqrt() if squares else Tensor(0.0)
            check_finite(norm, what=_NON_FINITE_NORM)
            scale = (max_norm / (norm + 1e-6)).minimum(1.0)
            for _, p, g in pending:
                p.g = g * scale
    finally:
        state.recording = recording
    return norm


_NON_FINITE_NORM = (
    "clip_grad_norm: the gradients' norm is {}; look for a NaN in the data or a learning rate that "
    "is too large"
)


def clip_grad_value(params: Iterable[Tensor], max_value: float) -> None:
    """Limit every entry of every gradient to [-max_value, max_value]."""
    for _, p, g in _pending([params] if isinstance(params, Tensor) else list(params)):
        p.g = g.detach().clamp(-max_value, max_value)


# Schedules: functions from the number of steps taken to a learning rate. `opt.lr = schedule(i)`.


def constant(lr: float) -> Schedule:
    """The same learning rate always."""
    return lambda step: lr


def step_decay(lr: float, every: int, factor: float = 0.1) -> Schedule:
    """lr, multiplied by a factor after every so many steps."""
    _at_least_one(every=every)
    return lambda step: lr * factor ** (step // every)


def cosine(lr: float, total: int, lr_min: float = 0.0) -> Schedule:
    """From lr to lr_min along half a cosine, then lr_min. Loshchilov and Hutter, ICLR 2017."""
    _at_least_one(total=total)
    return lambda step: _cosine(lr, lr_min, step / total)


def one_cycle(
    lr_max: float, total: int, warm: float = 0.3, div: float = 25.0, final_div: float = 1e4
) -> Schedule:
    """Up from lr_max/div over the first part (warm), then down to lr_max/div/final_div, on cosines.

    The last of `total` steps has the lowest learning rate. Smith and Topin, "Super-convergence",
    2018; as PyTorch's OneCycleLR.
    """
    _at_least_one(total=total)
    top = warm * total - 1
    low = lr_max / div

    def schedule(step: int) -> float:
        if step <= top:
            return _cosine(low, lr_max, step / top if top else 1.0)
        return _cosine(lr_max, low / final_div, (step - top) / max(total - 1 - top, 1e-12))

    return schedule


def linear_warmup(steps: int, then: Schedule | float) -> Schedule:
    """From then(0)/steps up to then(0) in a straight line over so many steps, then `then`."""
    _at_least_one(steps=steps)
    after = then if callable(then) else constant(then)
    return lambda step: after(0) * (step + 1) / steps if step < steps else after(step - steps)


def _cosine(start: float, end: float, part: float) -> float:
    return end + (start - end) * (1 + math.cos(math.pi * min(max(part, 0.0), 1.0))) / 2


def _at_least_one(**counts: int) -> None:
    for name, n in counts.items():
        if n < 1:
            raise GroundupError(f"a schedule's {name} is at least 1, not {n}")
