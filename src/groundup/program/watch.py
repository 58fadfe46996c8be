"""Names from the code's own variables."""

from __future__ import annotations

import os
import sys
from types import CodeType, FrameType
from typing import TYPE_CHECKING, Any

import numpy as np

from groundup.program.names import Hint
from groundup.program.values import Value
from groundup.tensor import Tensor

if TYPE_CHECKING:
    from groundup.program.recorder import Recorder

# Code that is not the user's: a message about a step names none of its lines.
_LIBRARY = os.path.dirname(os.__file__) + os.sep
_NUMPY = os.path.dirname(np.__file__) + os.sep
HERE = os.path.dirname(os.path.dirname(__file__)) + os.sep
_OPTIM = f"{HERE}optim.py"
_LAYERS = tuple(f"{HERE}nn{os.sep}{name}.py" for name in ("layers", "losses"))


def is_users(file: str) -> bool:
    """Whether a source file is neither groundup's nor NumPy's nor Python's own."""
    library = file.startswith(_LIBRARY) and "site-packages" not in file
    return not (library or file.startswith((HERE, _NUMPY)))


class Watch:
    """Learns from functions that return what their authors called their values.

    It is a profile function; where there is one already, it stands back.
    """

    def __init__(self, recorder: Recorder, step: CodeType | None):
        self.recorder, self.step = recorder, step
        self.frames: list[tuple[FrameType, int]] = []

    def __enter__(self) -> None:
        self.active = sys.getprofile() is None
        if self.active:
            sys.setprofile(self._event)

    def __exit__(self, *exc: object) -> None:
        if self.active:
            sys.setprofile(None)

    def _event(self, frame: FrameType, event: str, arg: Any) -> None:
        if event == "call" and self._interesting(frame.f_code):
            self.frames.append((frame, len(self.recorder.lines)))
        elif event == "return" and self.frames and self.frames[-1][0] is frame:
            self._returned(*self.frames.pop())

    def _interesting(self, code: CodeType) -> bool:
        if code.co_name.startswith("<"):
            return False
        file = code.co_filename
        if not file.startswith(HERE):
            return True
        return (file in _LAYERS and code.co_name in ("forward", "bwd")) or (
            file == _OPTIM and code.co_name in ("update", "clip_grad_norm")
        )

    def _returned(self, frame: FrameType, began: int) -> None:
        recorder, code = self.recorder, frame.f_code
        local = frame.f_locals
        made = {id(line.out) for line in recorder.lines[began:]}
        own = not code.co_filename.startswith(HERE)
        parameter = local.get("p") if code.co_name == "update" else None
        of = recorder.given_value(parameter) if isinstance(parameter, Tensor) else None
        for name, value in local.items():
            if name in code.co_varnames[: code.co_argcount]:
                continue
            array = value.array if isinstance(value, Tensor) else value
            found = recorder.values.get(id(array))
            if isinstance(found, Value) and id(found) in made | recorder.constants.keys():
                hint = Hint(2 if own else 4, name)
                if of is not None:
                    hint = Hint(4, f"{name}_", of)
                found.hints.append(hint)
