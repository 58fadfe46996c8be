"""PyTorch as the oracle: the same function in groundup and in torch, to the second derivative.

Every comparison is element-wise. The cotangents are random (never ones: softmax's gradient is
then truly 0, and any bug passes) and require gradients themselves, so that the second derivatives
are checked in the cotangent's direction too.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

import groundup as gu
from groundup import Tensor

torch.set_num_threads(1)

# By dtype: the relative error of an entry, and how much of the array's largest entry may be
# lost in one that is near zero only because large terms cancelled.
TOLERANCE = {np.dtype(np.float64): (1e-9, 1e-13), np.dtype(np.float32): (1e-5, 1e-6)}

F64, F32 = np.float64, np.float32


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(key=seed))


def normal(*shape: int, seed: int = 0) -> np.ndarray:
    """Standard normal numbers."""
    return rng(seed).standard_normal(shape)


def positive(*shape: int, seed: int = 0) -> np.ndarray:
    """Numbers between 0.5 and 2.5."""
    return rng(seed).uniform(0.5, 2.5, shape)


def whole(*shape: int, high: int = 4, seed: int = 0) -> np.ndarray:
    """Whole numbers from 0 up to high, as int64."""
    return rng(seed).integers(0, high, shape)


def is_float(array: Any) -> bool:
    return array.dtype.kind == "f"


def same(ours: Any, theirs: Any, what: str = "value", rtol: float | None = None) -> None:
    """Equal shape and dtype, and entries equal up to rounding; NaN equals NaN, inf equals inf."""
    if theirs is None:  # torch: this does not depend on that
        theirs = np.zeros_like(array_of(ours))
    a, b = array_of(ours), array_of(theirs)
    assert a.shape == b.shape, f"{what}: shape {a.shape}, torch has {b.shape}"
    assert a.dtype == b.dtype, f"{what}: dtype {a.dtype}, torch has {b.dtype}"
    if a.dtype.kind != "f":
        np.testing.assert_array_equal(a, b, err_msg=what)
        return
    relative, cancelled = TOLERANCE[a.dtype]
    if rtol is not None:
        relative, cancelled = rtol, rtol / 100
    finite = np.abs(b[np.isfinite(b)])
    # Inputs and cotangents are about 1 in size: so are the terms that cancel to nothing.
    atol = cancelled * finite.max(initial=1.0 if a.dtype == F64 else 0.0)
    np.testing.assert_allclose(a, b, rtol=relative, atol=atol, equal_nan=True, err_msg=what)


def array_of(value: Any) -> np.ndarray:
    if isinstance(value, torch.Tensor):
        return value.detach().numpy(force=True)
    return value.data if isinstance(value, Tensor) else np.asarray(value)


def several(value: Any) -> list[Any]:
    return list(value) if isinstance(value, tuple | list) else [value]


def check(
    ours: Callable[..., Any],
    theirs: Callable[..., Any],
    *arrays: Any,
    second: bool = True,
    dtypes: Sequence[Any] = (F64, F32),
    seed: int = 0,
) -> None:
    """Compare values, gradients and (in float64) second derivatives in all float inputs.

    Args:
        ours: a function of Tensors that returns one, or several in a list.
        theirs: the same of torch tensors.
        arrays: the inputs; float64 ones are differentiated, integers and booleans are not.
        second: whether torch has second derivatives here.
        dtypes: what the float64 inputs are converted to, one round for each.
        seed: of the cotangents.
    """
    for dtype in dtypes:
        given = [a.astype(dtype) if is_float(a) else a for a in map(np.asarray, arrays)]
        compare(ours, theirs, given, second=second and dtype is F64, seed=seed)


def compare(
    ours: Callable[..., Any],
    theirs: Callable[..., Any],
    arrays: Sequence[np.ndarray],
    *,
    second: bool = True,
    seed: int = 0,
) -> None:
    """As `check`, with the arrays in their own dtypes."""
    xs = [Tensor(a.copy(), requires_grad=is_float(a)) for a in arrays]
    ts = [torch.tensor(a.copy(), requires_grad=is_float(a)) for a in arrays]
    outs, touts = several(ours(*xs)), several(theirs(*ts))
    assert len(outs) == len(touts)
    for i, (out, tout) in enumerate(zip(outs, touts, strict=True)):
        same(out, tout, f"value {i}")
        if tout.requires_grad and out.size:
            compare_gradients(out, tout, xs, ts, second=second, random=rng(1000 + seed))
        elif not tout.requires_grad:
            assert not out.requires_grad, "torch has no gradient here"
    for x, a in zip(xs, arrays, strict=True):
        np.testing.assert_array_equal(x.data, a, err_msg="an op changed its input")


def compare_gradients(
    out: Tensor,
    tout: torch.Tensor,
    inputs: Sequence[Tensor],
    tinputs: Sequence[torch.Tensor],
    *,
    second: bool = True,
    random: np.random.Generator,
) -> None:
    """Compare the gradients of one output under a random cotangent, and the gradients of those."""
    pairs = [(x, t) for x, t in zip(inputs, tinputs, strict=True) if t.requires_grad]
    xs, ts = [x for x, _ in pairs], [t for _, t in pairs]
    cotangent = np.asarray(random.standard_normal(out.shape), out.dtype)
    c, tc = Tensor(cotangent, requires_grad=True), torch.tensor(cotangent, requires_grad=True)
    gs = gu.grad(out, xs, c, create_graph=second)
    tgs = torch.autograd.grad(tout, ts, tc, create_graph=second, allow_unused=True)
    for i, (g, tg) in enumerate(zip(gs, tgs, strict=True)):
        same(g, tg, f"gradient of input {i}")
    if not second:
        return
    for i, (g, tg) in enumerate(zip(gs, tgs, strict=True)):
        v = np.asarray(random.standard_normal(g.shape), g.dtype)
        again = seconds(g, [*xs, c], v)
        tagain = torch_seconds(tg, [*ts, tc], v)
        for j, (h, th) in enumerate(zip(again, tagain, strict=True)):
            same(h, th, f"second derivative {i}, {j}")


def seconds(g: Tensor, inputs: list[Tensor], v: np.ndarray) -> list[Any]:
    if not g.requires_grad:
        return [np.zeros_like(array_of(t)) for t in inputs]
    return list(gu.grad(g, inputs, v))


def torch_seconds(g: Any, inputs: list[torch.Tensor], v: np.ndarray) -> list[Any]:
    if g is None or not g.requires_grad:
        return [np.zeros_like(array_of(t)) for t in inputs]
    found = torch.autograd.grad(g, inputs, torch.tensor(v), allow_unused=True, retain_graph=True)
    return [
        np.zeros_like(array_of(t)) if h is None else h for h, t in zip(found, inputs, strict=True)
    ]
