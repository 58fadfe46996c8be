"""Ctrl-C between two batches, never within one."""

from __future__ import annotations

import signal
import threading
from types import FrameType
from typing import Any


class BetweenSteps(KeyboardInterrupt):
    """Ctrl-C was pressed, and no step is under way: weights, optimizer and counts agree."""


class Interrupts:
    """While entered, Ctrl-C sets `pressed`, and the loop ends at the next batch's end.

    A second Ctrl-C raises KeyboardInterrupt at once. Signals reach the main thread only; in other
    threads this does nothing, and neither does it where Ctrl-C is being ignored.
    """

    def __init__(self) -> None:
        self.pressed = False
        self.outer: Any = None

    def __enter__(self) -> None:
        self.pressed, self.outer = False, None
        if threading.current_thread() is threading.main_thread():
            outer = signal.getsignal(signal.SIGINT)
            if outer not in (signal.SIG_IGN, None):
                self.outer = outer
                signal.signal(signal.SIGINT, self._press)

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        if self.outer is not None:
            signal.signal(signal.SIGINT, self.outer)
        pressed, self.pressed = self.pressed, False
        if pressed and kind is None:  # too late to end anything, but not to be told
            raise KeyboardInterrupt("interrupted when the training had just ended")

    def _press(self, signum: int, frame: FrameType | None) -> None:
        if self.pressed:
            raise KeyboardInterrupt
        self.pressed = True
