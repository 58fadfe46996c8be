"""check and prove, which import what they need when they are called."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from groundup.errors import GroundupError

if TYPE_CHECKING:
    from groundup.check.report import Report

METHODS = ("auto", "ops", "complex", "differences", "jax")


def check(
    function: Any,
    *inputs: Any,
    backward: Callable[..., Any] | None = None,
    method: str | Sequence[str] = "auto",
    seed: int = 0,
    diagnose: bool = True,
) -> Report:
    """Check every gradient of a backward pass, and say what is wrong with it.

    Args:
        function: a Module or a function of Tensors; a plain NumPy function with its `backward`
            (or a pair of both); a `torch.autograd.Function`, a `torch.nn.Module`, or a JAX
            function such as a `jax.custom_vjp`.
        *inputs: what forward takes. Arrays of floating-point numbers are checked, in float64;
            integer and boolean arrays, and whatever is no array, are passed on. Values away from
            kinks and special points (0, equal entries) say the most.
        backward: of a NumPy function: `backward(dout, *inputs)`, or `backward(dout, cache)` where
            forward returns `(out, cache)`; it returns the gradients in the order of the inputs.
        method: "auto"; or one of "ops" (automatic differentiation of forward's ops), "complex"
            (complex step), "differences" and "jax" (JAX's gradients of forward's Program, if JAX is
            installed); or several: a gradient is right if it is by all of them.
        seed: for the random cotangents and directions.
        diagnose: whether to look for the mistake where a gradient is wrong.

    Returns:
        A `Report`: true if all gradients are right. It has a row for each, `.assert_ok()` for
        tests, and shows itself in a terminal and in a notebook.

    Raises:
        GroundupError: there is nothing to check: no input or parameter of floating-point numbers,
            a forward that is not finite or not the same at every call.

    """
    import time

    from groundup.check.adapters.pairs import subject_for
    from groundup.check.diagnosis import diagnosed
    from groundup.check.judging import Judge
    from groundup.check.report import Report, merged

    methods = [method] if isinstance(method, str) else list(method)
    if not methods or not set(methods) <= set(METHODS):
        raise GroundupError(f"check: method is one of {', '.join(METHODS)}, not {method!r}")
    begin = time.perf_counter()
    subject = subject_for(function, inputs, backward)
    judge = Judge(subject, seed, methods[0])
    rows = judge.judge()
    for other in methods[1:]:
        if not all(row.ok for row in rows):
            break
        second = Judge(subject.fresh(), seed, other)
        rows, judge = merged(rows, second.judge()), second
    findings = diagnosed(judge, rows) if diagnose and not all(r.ok for r in rows) else ()
    return Report(subject.name, rows, tuple(findings), time.perf_counter() - begin)
