"""Gradients by JAX of any subject's forward: its Program, printed and run with jax.numpy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from importlib import import_module
from typing import Any

import numpy as np

from groundup.check.graphs import forward_recording
from groundup.check.subjects import Gradients, Subject, Values
from groundup.errors import GroundupError, MissingDependencyError
from groundup.ops.base import Array
from groundup.program.passes import simplify
from groundup.program.sources import FromArgument, FromTensor


def jax_gradients(subject: Subject, values: Values, cotangents: Sequence[Array]) -> Gradients:
    """The gradients that JAX finds.

    Raises:
        MissingDependencyError: JAX is not installed.
        GroundupError: forward cannot be recorded, or its Program does not run with JAX.

    """
    try:
        jax = import_module("jax")
    except ImportError as error:
        raise MissingDependencyError('method "jax" needs JAX: pip install jax') from error
    try:
        recording, given = forward_recording(subject, values)
        program = simplify(replace(recording.program, updates=()))
        source = str(program).replace("import numpy as np", "import jax.numpy as np")
        space: dict[str, Any] = {}
        exec(compile(source, f"<{subject.name} for JAX>", "exec"), space)
        if "erf" in space:  # NumPy has none, and the printed one is for its arrays
            space["erf"] = jax.scipy.special.erf
        names = list(values)
        fixed: dict[str, Any] = {}
        own: dict[str, str] = {}  # the Program's name of each value
        for name, place in recording.sources.items():
            if isinstance(place, FromArgument):
                if place.index < len(names):
                    own[names[place.index]] = name
                else:
                    fixed[name] = given[place.index].array
            elif isinstance(place, FromTensor):
                fixed[name] = place.array
        wanted = {i.var.name for i in program.inputs}
        with jax.enable_x64(True):

            def forward(variables: dict[str, Any]) -> Any:
                arguments = {own[n]: v for n, v in variables.items()} | fixed
                arguments = {n: v for n, v in arguments.items() if n in wanted}
                return space[program.name](**program.grouped(arguments))

            outs, pull = jax.vjp(forward, {n: jax.numpy.asarray(values[n]) for n in own})
            arriving = [jax.numpy.asarray(c) for c in cotangents]
            (found,) = pull(type(outs)(arriving))
            return {n: np.asarray(found[n], np.float64) if n in found else None for n in values}
    except GroundupError:
        raise
    except Exception as error:  # what jax.numpy has not, or will not do
        raise GroundupError(
            f"{subject.name}: its forward does not run with JAX ({type(error).__name__}: {error})"
        ) from error
