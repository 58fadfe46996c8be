"""The pytest plugin: a fixture that checks gradients.

    def test_my_layer(check_gradients):
        check_gradients(MyLayer(4, 3), np.random.default_rng(0).normal(size=(5, 4)))

It stands beside the package, not in it, because pytest loads it in every run: importing a module of
the package would import NumPy and groundup for people whose tests use neither. `pytest -p
no:groundup` leaves it out.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any
from zlib import crc32

import pytest

if TYPE_CHECKING:
    from groundup.check.report import Report


@pytest.fixture
def check_gradients(request: pytest.FixtureRequest) -> Callable[..., Report]:
    """Check every gradient of a backward pass: `check_gradients(MyLayer(4, 3), x)`.

    Takes what `groundup.check` takes and returns its Report; a wrong gradient is an AssertionError
    with the whole report. Without a `seed` each test has its own, made from its name, so that it
    repeats.
    """

    def check_gradients(
        function: Any,
        *inputs: Any,
        backward: Callable[..., Any] | None = None,
        method: str = "auto",
        seed: int | None = None,
        diagnose: bool = True,
    ) -> Report:
        __tracebackhide__ = True
        import groundup

        if seed is None:
            seed = crc32(request.node.nodeid.encode())
        report = groundup.check(
            function, *inputs, backward=backward, method=method, seed=seed, diagnose=diagnose
        )
        try:
            report.assert_ok()
        except AssertionError as error:
            raise error.with_traceback(None) from None
        return report

    return check_gradients
