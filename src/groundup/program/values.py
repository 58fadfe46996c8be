"""What a recorder keeps before values have names."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from groundup.program.names import Hint


@dataclass(eq=False)
class Value:
    """A value of the step that is being recorded."""

    shape: tuple[int, ...]
    dtype: str
    hints: list[Hint] = field(default_factory=list)
    module: str = ""


@dataclass(eq=False)
class Line:
    """An equation before its values have names."""

    out: Value | None
    op: str
    ins: tuple[Any, ...]
    attrs: tuple[tuple[str, Any], ...]
    phase: str
    module: str
    taped: bool  # it ran where ops leave nodes: part of a forward pass


@dataclass(eq=False)
class Given:
    """A value that was there before the step, and where it comes from."""

    value: Value
    role: str
    path: str = ""
    default: int | float | None = None
