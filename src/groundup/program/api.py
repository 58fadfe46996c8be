"""record. It imports what it needs only when called."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from groundup.program.program import Program


def record(fn: Callable[..., Any], *args: Any, simplify: bool = True, **kwargs: Any) -> Program:
    """Run a step once and return it as a Program.

    The step runs for real: parameters and state are updated, as by a call.

    Args:
        fn: a function over Tensors that does any of forward, backward and update, and returns a
            Tensor or a tuple, list or dict of Tensors.
        *args: its arguments: Tensors and arrays become arguments of the Program, floats become
            settings; anything else (ints, strings) is fixed.
        simplify: whether to take out what is not needed; False keeps every op, in order.
        **kwargs: the same by name.

    Raises:
        RecordError: the step reads a value, changes Python state, or depends on what cannot be
            recorded.

    """
    from groundup.program.passes import simplify as simplified
    from groundup.program.recording import record_step

    program = record_step(fn, args, kwargs).program
    return simplified(program) if simplify else program
