"""record and compile. Both import what they need only when called."""

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


def compile(
    function: Callable[..., Any] | None = None,
    *,
    engine: str = "numpy",
    keep_gradients: bool = False,
) -> Any:
    """Make a step fast: record it as a Program, and replay that.

        @gu.compile
        def step(x, y):
            loss = loss_of(model(x), y)
            loss.backward()
            opt.step()
            return loss

    The first call with arguments of some shapes and dtypes runs eagerly, is recorded, and the
    engine's result is compared with it. The second is recorded once more, which must give the same
    Program. From the third on the engine runs. Parameters stay ordinary Tensors, written in place,
    so compiled and eager code can be mixed. Numbers that the function sees (settings of layers, of
    the optimizer, variables around it) are looked at before each call: a learning rate is read
    anew, anything else that changed makes a new recording.

    Args:
        function: over Tensors (arrays and floats are accepted); it returns a Tensor, or a tuple,
            list or dict of Tensors. A Module, too. Left out, `compile` is a decorator.
        engine: what runs the Program: "numpy".
        keep_gradients: leave gradients in `.g`, as an eager step does; otherwise reading one that
            the step did not return is an error.

    Raises (when called):
        RecordError: the step cannot be a Program: it reads a value, changes Python state, or does
            something else at each call.
        ProgramError: the engine's result is not the eager one.

    An exception leaves parameters, state and counts as they were before the call.

    """
    from groundup.program.compiled import Compiled

    if function is None:
        return lambda f: Compiled(f, engine, keep_gradients)
    return Compiled(function, engine, keep_gradients)
