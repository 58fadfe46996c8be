"""All that a training's future depends on, as arrays and as what JSON can hold."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from time import perf_counter
from typing import TYPE_CHECKING, Any

import numpy as np

from groundup import generator
from groundup.errors import StateError
from groundup.generator import Generator
from groundup.nn import Module
from groundup.ops.base import Array
from groundup.train.callbacks import load_states, names_of

if TYPE_CHECKING:
    from groundup.train.learner import Learner

# Where in a seed's stream training begins to draw: initial weights, drawn from the same seed's
# beginning, and dropout masks shall not be made of the same numbers.
_START = 1 << 62

_COUNTS = ("epoch", "batch", "step", "loss_sum", "rows", "history", "stop")


def own_stream(seed: int) -> tuple[int, int]:
    """The state of the default generator with which a Learner of that seed starts."""
    return seed, _START


@contextmanager
def evaluating(*modules: Module) -> Iterator[None]:
    """Evaluation mode for a while; then each submodule has the mode again that it had."""
    with modes_kept(*modules):
        for module in modules:
            module.eval()
        yield


@contextmanager
def modes_kept(*modules: Module) -> Iterator[None]:
    """Afterwards each submodule has the mode again that it had."""
    before = [(m, m.training) for module in modules for m in module.modules()]
    try:
        yield
    finally:
        for m, training in before:
            m.training = training


def capture(learner: Learner) -> tuple[dict[str, Array], dict[str, Any]]:
    """The Learner's state: arrays, and the rest. To be called where its random stream is in force.

    Arrays are copies; both parts are what `groundup.train.files.save_tensors` takes.
    """
    parts = {
        "model": learner.model.state_dict(),
        "loss": learner.loss.state_dict(),
        "opt": learner.opt.state_dict(),
    }
    info = {name: getattr(learner, name) for name in _COUNTS}
    info["history"] = list(learner.history)
    info["seconds"] = perf_counter() - learner.began if learner.batch else 0.0
    info["opt"] = type(learner.opt).__name__
    info["random"] = {name: list(g.state()) for name, g in _generators(learner)}
    info["callbacks"] = {}
    for name, callback in zip(names_of(learner.callbacks), learner.callbacks, strict=True):
        saved = callback.state_dict()
        parts[f"callback.{name}"] = {k: v for k, v in saved.items() if isinstance(v, np.ndarray)}
        info["callbacks"][name] = {k: v for k, v in saved.items() if not isinstance(v, np.ndarray)}
    arrays = {f"{part}/{k}": v for part, saved in parts.items() for k, v in saved.items()}
    return arrays, info


def restore(learner: Learner, arrays: Mapping[str, Array], info: Mapping[str, Any]) -> None:
    """Put the Learner into a captured state.

    Raises:
        StateError: the state is of another model, optimizer or set of callbacks.

    """
    if info["opt"] != type(learner.opt).__name__:
        raise StateError(
            f"the state was saved with the optimizer {info['opt']}; here it is "
            f"{type(learner.opt).__name__}: give the same one"
        )
    generators = dict(_generators(learner))
    if generators.keys() != info["random"].keys():
        raise StateError("the state was saved with generators in other layers; is it this model's?")
    learner.model.load_state_dict(_part(arrays, "model"))
    learner.loss.load_state_dict(_part(arrays, "loss"))
    learner.opt.load_state_dict(_part(arrays, "opt"))
    saved = {k: {**v, **_part(arrays, f"callback.{k}")} for k, v in info["callbacks"].items()}
    load_states(learner.callbacks, saved)
    for name, (seed, counter) in info["random"].items():
        generators[name].restore((seed, counter))
    for name in _COUNTS:
        setattr(learner, name, info[name])
    learner.history = list(info["history"])
    learner.spent = info["seconds"]


def _part(arrays: Mapping[str, Array], part: str) -> dict[str, Array]:
    return {
        name.removeprefix(f"{part}/"): array
        for name, array in arrays.items()
        if name.startswith(f"{part}/")
    }


def _generators(learner: Learner) -> Iterator[tuple[str, Generator]]:
    """The default generator, and those that modules have to themselves, by path."""
    yield "default", generator.default
    for root, module in (("model", learner.model), ("loss", learner.loss)):
        for path, m in module.named_modules():
            for attribute, value in vars(m).items():
                if isinstance(value, Generator) and value is not generator.default:
                    yield f"{root}.{path}.{attribute}", value
