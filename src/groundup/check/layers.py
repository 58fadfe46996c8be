"""Check a model's gradients layer by layer, in float64, with random cotangents."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from groundup.backward import autograd_only, grad, no_grad
from groundup.errors import GradientError, GroundupError
from groundup.nn.module import Module, has_bwd
from groundup.ops.base import Array, quiet
from groundup.tensor import Parameter, Tensor, Value, as_tensor

# Relative errors that rounding explains in float64: two ways of computing the same sums, and a
# central difference with step 1e-6 (truncation about 1e-12, rounding about 1e-16 / 1e-6).
TOLERANCE_OPS = 1e-9
TOLERANCE_DIFFERENCES = 1e-6


# Where in the model, what was called, and with which arguments.
Call: TypeAlias = tuple[str, Module, tuple[Any, ...]]


class LayerCheck(NamedTuple):
    """One gradient of one layer, compared.

    Attributes:
        layer: the layer's path in the model, such as "layers.0"; "loss" for the loss.
        kind: its class.
        gradient: which gradient: "input" (numbered when there are several) or a parameter's path.
        shape: that gradient's shape.
        vs_ops: largest difference between the hand-written bwd and autograd of the ops, relative
            to the gradient's largest entry; None if the layer has no bwd.
        vs_differences: the same between the gradient and central differences, along random
            directions.
        ok: whether both are within what rounding explains.
    """

    layer: str
    kind: str
    gradient: str
    shape: tuple[int, ...]
    vs_ops: float | None
    vs_differences: float
    ok: bool


def check_layers(
    model: Module, loss: Module, x: Value, y: Value, *, seed: int = 0
) -> list[LayerCheck]:
    """Compare every layer's gradients with autograd of its ops and with finite differences.

    The model is copied, in float64 and evaluation mode, and run once on the batch. Then each
    module that has a `bwd`, parameters of its own or no submodules is run alone, on the input
    that it got moved a little off any kink, with a random cotangent: its hand-written `bwd`
    against autograd of the ops in its `forward`, and against central differences along random
    directions. A module without a `bwd` is compared with the differences only.

    Args:
        model: any module.
        loss: a module of (output, target).
        x: a small batch of inputs: a few rows are enough.
        y: its targets.
        seed: for cotangents and directions.

    Returns:
        A row for each gradient, in the order in which the layers ran.
    """
    model, loss = copy.deepcopy(model).double().eval(), copy.deepcopy(loss).double().eval()
    calls: list[Call] = []
    for path, module in model.named_modules():
        if _has_something_to_check(module):
            module.register_forward_hook(_keep_call(path, calls))
    with no_grad():
        predicted = model(as_tensor(x).cast(np.float64))
    calls.append(("loss", loss, (predicted, as_tensor(y))))
    rng = np.random.Generator(np.random.Philox(key=seed))
    checked: set[int] = set()
    rows = []
    for path, module, args in calls:
        if id(module) not in checked:
            checked.add(id(module))
            rows += _check_layer(path, module, args, rng)
    return rows


def _keep_call(path: str, calls: list[Call]) -> Callable[[Module, tuple[Any, ...], Any], None]:
    return lambda module, args, out: calls.append((path, module, args))


def _has_something_to_check(module: Module) -> bool:
    """Whether it has a bwd, parameters of its own, or no submodules that would be checked."""
    return has_bwd(module) or bool(_own_parameters(module)) or len(list(module.modules())) == 1


def _own_parameters(module: Module) -> list[tuple[str, Parameter]]:
    """The parameters that belong to no submodule."""
    inner = {id(p) for m in module.modules() if m is not module for p in m.parameters()}
    return [(name, p) for name, p in module.named_parameters() if id(p) not in inner]


def _check_layer(
    path: str, module: Module, args: tuple[Any, ...], rng: np.random.Generator
) -> list[LayerCheck]:
    inputs = [
        Tensor(_jittered(a.data, rng), requires_grad=True) if _is_float(a) else a for a in args
    ]
    # The loss's gradient in its target is right too, but nobody trains by it.
    wanted = [t for t in inputs if _is_float(t)][: 1 if path == "loss" else None]
    names = ["input"] if len(wanted) == 1 else [f"input {i}" for i in range(len(wanted))]
    # A bwd answers for all parameters within; without one, submodules have rows of their own.
    for name, p in module.named_parameters() if has_bwd(module) else _own_parameters(module):
        p.requires_grad_()
        names.append(name)
        wanted.append(p)
    out = module(*inputs)
    if not isinstance(out, Tensor) or not wanted or not out.requires_grad:
        return []
    cotangent = rng.standard_normal(out.shape)
    gradients = _gradients(out, wanted, cotangent)
    by_ops: list[Array | None] = [None] * len(wanted)
    if has_bwd(module):
        with autograd_only():
            by_ops = list(_gradients(module(*inputs), wanted, cotangent))

    def value() -> float:
        with no_grad():
            return float(np.vdot(module(*inputs).data, cotangent))

    rows = []
    for name, tensor, gradient, other in zip(names, wanted, gradients, by_ops, strict=True):
        vs_ops = None if other is None else _relative(gradient - other, gradient, other)
        vs_differences = _directional_error(value, tensor, gradient, rng)
        ok = vs_differences <= TOLERANCE_DIFFERENCES and (vs_ops or 0.0) <= TOLERANCE_OPS
        rows.append(
            LayerCheck(path, type(module).__name__, name, tensor.shape, vs_ops, vs_differences, ok)
        )
    return rows


def _jittered(x: Array, rng: np.random.Generator) -> Array:
    """x moved by a thousandth: relu outputs and black pixels sit on the next layer's kink, 0."""
    scale = 1e-3 * (float(np.abs(x).max(initial=0.0)) or 1.0)
    return x + scale * rng.standard_normal(x.shape)


def _gradients(out: Tensor, wanted: list[Tensor], cotangent: Array) -> list[Array]:
    try:
        return [g.data for g in grad(out, wanted, cotangent)]
    except GradientError as error:
        raise GroundupError(f"the gradients cannot be checked: {error}") from error


def _directional_error(
    value: Callable[[], float], tensor: Tensor, gradient: Array, rng: np.random.Generator
) -> float:
    """The largest error of <gradient, v> against (f(p + hv) - f(p - hv)) / 2h over directions v.

    Along a random direction a wrong entry shows with probability one; two directions guard
    against a kink (a relu at 0) that one of them happens to cross: the smaller error counts.
    """
    start = tensor.data.copy()
    errors = []
    for _ in range(2):
        v = rng.standard_normal(start.shape)
        h = 1e-6 / max(float(np.abs(v).max(initial=0.0)), 1e-12)
        tensor.data = start + h * v
        above = value()
        tensor.data = start - h * v
        below = value()
        tensor.data = start
        measured, claimed = (above - below) / (2 * h), float(np.vdot(gradient, v))
        scale = float(np.linalg.norm(gradient) + abs(measured)) or 1.0
        errors.append(abs(measured - claimed) / scale)
    return min(errors)


def _relative(difference: Array, *arrays: Array) -> float:
    """The largest entry of a difference over the largest entry of what is compared."""
    with quiet():
        largest = max(float(np.abs(a).max(initial=0.0)) for a in arrays)
        worst = float(np.abs(difference).max(initial=0.0))
    return worst / largest if largest else worst


def _is_float(value: Any) -> bool:
    return isinstance(value, Tensor) and value.dtype.kind == "f"
