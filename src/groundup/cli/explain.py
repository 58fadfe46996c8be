"""`groundup explain`."""

from __future__ import annotations

import importlib
import os
import sys
from enum import StrEnum
from typing import Annotated, Any, TypeAlias

import numpy as np
import typer

from groundup import nn, optim
from groundup.backward import no_grad
from groundup.cli.runs import Config
from groundup.cli.show import console, say, say_aside
from groundup.errors import GroundupError, MissingDependencyError
from groundup.explain import explain as explain_step
from groundup.nn import Module
from groundup.ops.base import Array
from groundup.tensor import Tensor
from groundup.train.files import load_tensors

BATCH = 32

# Model, inputs, targets, loss, optimizer.
Step: TypeAlias = tuple[Module, Any, Any, Module | None, Any]


class Loss(StrEnum):
    """The losses by name; auto takes the one that fits the output."""

    auto = "auto"
    cross_entropy = "cross-entropy"
    mse = "mse"
    mae = "mae"
    bce = "bce"
    none = "none"


EXAMPLES = """
[bold]Examples[/bold]

groundup explain                               [dim]the network that groundup train makes[/dim]

groundup explain runs/digits-1 --save step.html

groundup explain models:make --input-shape 64,784   [dim]make() in models.py[/dim]
"""


def explain(
    target: Annotated[
        str | None,
        typer.Argument(
            metavar="RUN|MODULE:FACTORY",
            help="A run folder of groundup train; or a model, or what makes one, in a Python file "
            "of this folder: models:make. That code is run.",
        ),
    ] = None,
    input_shape: Annotated[
        list[str] | None,
        typer.Option(
            metavar="N,N...",
            help="The shape of a batch of inputs, the batch first: 64,784. With :K at its end the "
            "inputs are integers below K. Repeat it for a model with several inputs.",
        ),
    ] = None,
    loss: Annotated[
        Loss,
        typer.Option(
            metavar="NAME",
            help="auto, cross-entropy, mse, mae, bce, or none for the forward pass alone. auto: "
            "cross-entropy for outputs (n, classes), mse for others.",
        ),
    ] = Loss.auto,
    save: Annotated[
        str | None,
        typer.Option(
            metavar="FILE", help="FILE.svg: the drawing. FILE.html: all, drawing included."
        ),
    ] = None,
) -> None:
    """Show a training step: its source, its costs, a drawing, and where its gradients come from."""
    if save is not None and not save.endswith((".svg", ".html")):
        raise typer.BadParameter(
            f"{save!r}: a name that ends in .svg or .html", param_hint="--save"
        )
    step: Step
    if target is None or ":" not in target or os.path.isdir(target):
        if input_shape or loss not in (Loss.auto, Loss.none):
            raise typer.BadParameter(
                "for MODULE:FACTORY; a run knows its own",
                param_hint="--input-shape" if input_shape else "--loss",
            )
        step = _default() if target is None else _of_run(target)
        if loss is Loss.none:
            step = (*step[:2], None, None, None)
    else:
        if not input_shape:
            raise typer.BadParameter(
                "say the shape of a batch: --input-shape 64,784", param_hint="--input-shape"
            )
        inputs = [_inputs(shape, seed) for seed, shape in enumerate(input_shape)]
        step = _of_model(_imported(target), inputs, loss)
    made = explain_step(*step)
    out = console()
    out.print(made, soft_wrap=not out.is_terminal)
    if save is None:
        say_aside("--save step.html or step.svg keeps the drawing")
    else:
        made.save(save)
        say(f"saved in {save}")


def _default() -> Step:
    model = nn.Sequential(nn.Linear(64, 50), nn.Relu(), nn.Linear(50, 10))
    optimizer = optim.SGD(model.parameters(), lr=0.1)
    return model, _normal((BATCH, 64)), _integers((BATCH,), 10), nn.CrossEntropy(), optimizer


def _of_run(run: str) -> Step:
    """A run's model with what it learnt, a batch of its kind, its loss and its optimizer."""
    config = Config.read(run)
    model = config.model()
    weights = os.path.join(run, "weights.safetensors")
    if os.path.exists(weights):
        model.load_state_dict(load_tensors(weights)[0])
    else:
        say_aside(f"{run} has no weights yet: the model is as training began")
    size = config.settings.batch_size
    x = _normal((size, config.inputs))
    optimizer = config.settings.optimizer()(model.parameters())
    if config.classes is None:
        return model, x, _normal((size, 1), seed=1), nn.Mse(), optimizer
    return model, x, _integers((size,), len(config.classes)), nn.CrossEntropy(), optimizer


def _of_model(model: Module, inputs: list[Array], loss: Loss) -> Step:
    """A model, a random batch, random targets that fit its output, and plain gradient descent."""
    x = inputs[0] if len(inputs) == 1 else tuple(inputs)
    if loss is Loss.none:
        return model, x, None, None, None
    with no_grad():
        out = model(*inputs)
    if not isinstance(out, Tensor):
        raise GroundupError(
            f"the model returns {type(out).__name__}, which no loss here takes: --loss none"
        )
    learnt = [p for p in model.parameters() if p.requires_grad]
    optimizer = optim.SGD(learnt, lr=0.1) if learnt else None
    if loss is Loss.auto:
        loss = Loss.cross_entropy if out.ndim == 2 and out.shape[1] > 1 else Loss.mse
    if loss is Loss.cross_entropy:
        labels = _integers(out.shape[:1], out.shape[-1] if out.shape else 1)
        return model, x, labels, nn.CrossEntropy(), optimizer
    if loss is Loss.bce:
        y = _integers(out.shape, 2).astype(np.float32)
        return model, x, y, nn.BinaryCrossEntropyWithLogits(), optimizer
    of = nn.Mae() if loss is Loss.mae else nn.Mse()
    return model, x, _normal(out.shape, seed=1), of, optimizer


def _imported(target: str) -> Module:
    """The model that `module:factory` names; a function or a class is called for it."""
    module_name, _, path = target.partition(":")
    sys.path.insert(0, os.getcwd())
    try:
        found: Any = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is not None and module_name.split(".")[0] != error.name.split(".")[0]:
            raise MissingDependencyError(f"{module_name} imports {error.name}, which is not "
                                         "installed") from error  # fmt: skip
        raise GroundupError(
            f"there is no module {module_name!r} in {os.getcwd()}, nor an installed one; "
            "models:make means make() in ./models.py"
        ) from error
    finally:
        sys.path.remove(os.getcwd())
    for name in path.split("."):
        if not hasattr(found, name):
            known = [n for n, v in vars(found).items() if callable(v) and n[0] != "_"]
            raise GroundupError(
                f"{module_name} has no {name!r}; it has {', '.join(known[:8]) or 'nothing to call'}"
            )
        found = getattr(found, name)
    model = found if isinstance(found, Module) else found() if callable(found) else found
    if not isinstance(model, Module):
        raise GroundupError(
            f"{target} is no Module, nor a function that returns one: {type(model).__name__} came"
        )
    return model


def _inputs(text: str, seed: int) -> Array:
    """A batch of a shape as the option says it: 64,784, or 8,16:1000 for integers."""
    shape, _, below = text.partition(":")
    try:
        lengths = tuple(int(n) for n in shape.split(","))
        limit = int(below) if below else 0
    except ValueError:
        lengths, limit = (), 0
    if not lengths or min(lengths) < 1 or (":" in text and limit < 1):
        raise typer.BadParameter(
            f"{text!r}: give lengths of 1 or more, the batch first: 64,784; or 8,16:1000 for "
            "integers below 1000",
            param_hint="--input-shape",
        )
    return _integers(lengths, limit, seed) if limit else _normal(lengths, seed)


def _normal(shape: tuple[int, ...], seed: int = 0) -> Array:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def _integers(shape: tuple[int, ...], below: int, seed: int = 1) -> Array:
    return np.random.default_rng(seed).integers(0, below, shape)


explain.__doc__ = f"{explain.__doc__}\n{EXAMPLES}"
