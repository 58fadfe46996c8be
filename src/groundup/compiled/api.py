"""compile. It imports what it needs only when called."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def compile(
    function: Callable[..., Any] | None = None,
    *,
    engine: str = "native",
    keep_gradients: bool = False,
    threads: int | None = None,
    nan: str = "allow",
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
        engine: what runs the Program: "native", machine code that takes a few rows of the batch
            at a time through all of it; what that cannot do (and everything where llvmlite is
            missing) NumPy does. "numpy": the same bits as the eager step.
        keep_gradients: leave gradients in `.g`, as an eager step does; otherwise reading one that
            the step did not return is an error.
        threads: how many run native code; None: as many as there are cores, and one for steps
            that are too small to gain. Results depend on the number (sums over the batch are
            rounded in another order), but not on timing.
        nan: "raise": look at every value, and raise NonFiniteError, which names the first equation
            that made a NaN or an infinity and its module, before anything is updated. It costs
            time: for finding out, not for training.

    Raises (when called):
        RecordError: the step cannot be a Program: it reads a value, changes Python state, or does
            something else at each call.
        ProgramError: the engine's result is not the eager one; which equation is wrong.
        NonFiniteError: with nan="raise".

    An exception leaves parameters, state and counts as they were before the call.

    """
    from groundup.compiled.step import Compiled

    if function is None:
        return lambda f: Compiled(f, engine, keep_gradients, threads, nan)
    return Compiled(function, engine, keep_gradients, threads, nan)
