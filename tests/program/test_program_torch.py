"""Compiled steps against the same steps written in PyTorch: losses and weights over some steps."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from steps import Step, averaged, residual, second_order, shared, two_inputs, two_losses

import groundup as gu
from groundup.nn.step import tensors_in

functional = torch.nn.functional


def weights(step: Step) -> dict[str, torch.Tensor]:
    """The step's parameters in PyTorch, by the names in its state."""
    return {
        name: torch.tensor(t.data.astype(np.float64), requires_grad=t.requires_grad)
        for name, t in step.state.items()
    }


def learnt(held: dict[str, torch.Tensor]) -> list[torch.Tensor]:
    return [t for t in held.values() if t.requires_grad]


def residual_in_torch(held: dict[str, torch.Tensor]) -> Callable[..., Any]:
    opt = torch.optim.SGD(learnt(held), 0.01)
    w = {k.removeprefix("0."): t for k, t in held.items()}

    def step(x: torch.Tensor, y: torch.Tensor) -> Any:
        h = x @ w["embed.w"] + w["embed.b"]
        for i in range(2):
            inner = functional.relu(h @ w[f"blocks.{i}.fc1.w"] + w[f"blocks.{i}.fc1.b"])
            h = h + inner @ w[f"blocks.{i}.fc2.w"] + w[f"blocks.{i}.fc2.b"]
        loss = functional.cross_entropy(h @ w["head.w"] + w["head.b"], y)
        opt.zero_grad()
        loss.backward()
        opt.step()
        return [loss]

    return step


def shared_in_torch(held: dict[str, torch.Tensor]) -> Callable[..., Any]:
    opt = torch.optim.RMSprop(learnt(held), 0.01)
    w, b = held["0.lin.w"], held["0.lin.b"]

    def step(x: torch.Tensor, y: torch.Tensor) -> Any:
        h = torch.tanh(x @ w + b) @ w + b
        loss = functional.mse_loss(h @ w.T, y)
        opt.zero_grad()
        loss.backward()
        opt.step()
        return [loss]

    return step


def two_inputs_in_torch(held: dict[str, torch.Tensor]) -> Callable[..., Any]:
    opt = torch.optim.SGD(learnt(held), 0.1, momentum=0.9, nesterov=True)

    def step(a: torch.Tensor, b: torch.Tensor, y: torch.Tensor) -> Any:
        left, right = a @ held["0.w"] + held["0.b"], b @ held["1.w"] + held["1.b"]
        logits = torch.sigmoid(left + right) @ held["2.w"] + held["2.b"]
        loss = functional.cross_entropy(logits, y)
        opt.zero_grad()
        loss.backward()
        opt.step()
        return [loss, logits]

    return step


def two_losses_in_torch(held: dict[str, torch.Tensor]) -> Callable[..., Any]:
    opt = torch.optim.Adam(learnt(held), 0.01)

    def step(x: torch.Tensor, y: torch.Tensor, z: torch.Tensor) -> Any:
        h = functional.relu(x @ held["0.w"] + held["0.b"])
        out = h @ held["1.w"] + held["1.b"]
        second = h @ held["2.w"] + held["2.b"]
        loss = functional.cross_entropy(out, y) + 0.5 * functional.mse_loss(second, z)
        opt.zero_grad()
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(learnt(held), 0.5)
        opt.step()
        return [loss, out, norm]

    return step


def averaged_in_torch(held: dict[str, torch.Tensor]) -> Callable[..., Any]:
    parameters = learnt(held)
    means = [t for name, t in held.items() if name.startswith("mean")]

    def step(x: torch.Tensor, y: torch.Tensor) -> Any:
        w1, b1, w2, b2 = parameters
        loss = functional.cross_entropy(functional.relu(x @ w1 + b1) @ w2 + b2, y)
        gradients = torch.autograd.grad(loss, parameters)
        with torch.no_grad():
            for p, g, mean in zip(parameters, gradients, means, strict=True):
                p -= 0.1 * g
                mean.copy_(0.9 * mean + 0.1 * p)
        return [loss]

    return step


def second_order_in_torch(held: dict[str, torch.Tensor]) -> Callable[..., Any]:
    opt = torch.optim.SGD(learnt(held), 0.05)

    def step(x: torch.Tensor) -> Any:
        x.requires_grad_()
        (dx,) = torch.autograd.grad(torch.tanh(x @ held["w"]).sum(), x, create_graph=True)
        loss = (dx * dx).sum()
        opt.zero_grad()
        loss.backward()
        opt.step()
        return [loss]

    return step


TWINS: dict[str, tuple[Callable[[], Step], Callable[..., Any]]] = {
    "residual": (residual, residual_in_torch),
    "shared": (shared, shared_in_torch),
    "two_inputs": (two_inputs, two_inputs_in_torch),
    "two_losses": (two_losses, two_losses_in_torch),
    "averaged": (averaged, averaged_in_torch),
    "second_order": (second_order, second_order_in_torch),
}


@pytest.mark.parametrize("name", TWINS)
def test_compiled_step_is_pytorchs(name: str) -> None:
    make, in_torch = TWINS[name]
    step = make()
    held = weights(step)
    theirs = in_torch(held)
    ours = gu.compile(step.function)
    for batch in [*step.batches, *step.batches]:
        arrays = [np.asarray(a.data if isinstance(a, gu.Tensor) else a) for a in batch]
        wanted = theirs(
            *(torch.tensor(a.astype(np.float64) if a.dtype.kind == "f" else a) for a in arrays)
        )
        found = tensors_in([ours(*batch)])
        for a, b in zip(found, wanted, strict=True):
            np.testing.assert_allclose(a.data, b.detach().numpy(), rtol=2e-4, atol=2e-5)
    for key, t in held.items():
        if t.requires_grad or key.startswith("mean"):  # the rest is optimizer state of ours
            np.testing.assert_allclose(
                step.state[key].data, t.detach().numpy(), rtol=2e-3, atol=2e-4, err_msg=key
            )
