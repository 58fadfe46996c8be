"""Python numbers in a step that is recorded."""

from __future__ import annotations

import operator
from typing import TYPE_CHECKING, Any

import numpy as np

from groundup.ops.base import Number
from groundup.tensor import Tensor

if TYPE_CHECKING:
    from groundup.program.recorder import Recorder
    from groundup.program.values import Value


class Recorded(Number):
    """A Python number while a step is recorded: what is computed with it is written down."""

    __array_ufunc__ = None  # a NumPy array must not take it for an object
    __slots__ = ("is_size", "node", "recorder", "setting", "value")

    def __init__(
        self,
        recorder: Recorder,
        value: float,
        node: Value,
        setting: Any = None,
        is_size: bool = False,
    ):
        self.recorder, self.value, self.node, self.setting = recorder, value, node, setting
        self.is_size = is_size  # it follows from shapes alone

    def as_tensor(self, dtype: np.dtype[Any]) -> Tensor:
        """The number as a 0-d Tensor."""
        return self.recorder.number_as_tensor(self, dtype)

    def _with(self, op: str, other: Any, value: Any, swapped: bool = False) -> Any:
        if isinstance(other, np.generic):
            other = other.item()
        if not isinstance(other, int | float | Recorded):
            return NotImplemented
        a, b = (other, self) if swapped else (self, other)
        x, y = (i.value if isinstance(i, Recorded) else i for i in (a, b))
        return self.recorder.number(op, (a, b), value(x, y))

    def __add__(self, other: Any) -> Any:
        return self._with("add", other, lambda x, y: x + y)

    def __radd__(self, other: Any) -> Any:
        return self._with("add", other, lambda x, y: x + y, True)

    def __sub__(self, other: Any) -> Any:
        return self._with("sub", other, lambda x, y: x - y)

    def __rsub__(self, other: Any) -> Any:
        return self._with("sub", other, lambda x, y: x - y, True)

    def __mul__(self, other: Any) -> Any:
        return self._with("mul", other, lambda x, y: x * y)

    def __rmul__(self, other: Any) -> Any:
        return self._with("mul", other, lambda x, y: x * y, True)

    def __truediv__(self, other: Any) -> Any:
        return self._with("div", other, lambda x, y: x / y)

    def __rtruediv__(self, other: Any) -> Any:
        return self._with("div", other, lambda x, y: x / y, True)

    def __pow__(self, other: Any) -> Any:
        return self._with("power", other, lambda x, y: x**y)

    def __rpow__(self, other: Any) -> Any:
        return self._with("power", other, lambda x, y: x**y, True)

    def __neg__(self) -> Any:
        return self.recorder.number("neg", (self,), -self.value)

    def __bool__(self) -> bool:
        """Whether a setting is zero may decide what the step does: it is looked at again later."""
        if self.setting is None:
            return bool(self._refuse("`if` or bool()"))
        self.recorder.truths.append((self.setting, bool(self.value)))
        return bool(self.value)

    def _refuse(self, how: str) -> float:
        """A size that shapes give may be looked at; another number must not be."""
        if not self.is_size:
            self.recorder.refuse(how, None)
        self.recorder.size_read()
        return self.value

    def __float__(self) -> float:
        return float(self._refuse("float(), or a function of the math module,"))

    def __int__(self) -> int:
        return int(self._refuse("int()"))

    def __index__(self) -> int:
        return operator.index(self._refuse("use as a count or index"))  # type: ignore[arg-type]

    def _compared(self, other: Any) -> tuple[float, Any]:
        value = self._refuse("a comparison")
        return value, other.value if isinstance(other, Recorded) else other

    def __eq__(self, other: object) -> bool:
        a, b = self._compared(other)
        return bool(a == b)

    def __lt__(self, other: Any) -> bool:
        a, b = self._compared(other)
        return bool(a < b)

    def __le__(self, other: Any) -> bool:
        a, b = self._compared(other)
        return bool(a <= b)

    def __gt__(self, other: Any) -> bool:
        return not self <= other

    def __ge__(self, other: Any) -> bool:
        return not self < other

    def __floordiv__(self, other: Any) -> Any:
        return int(self) // other

    def __mod__(self, other: Any) -> Any:
        return int(self) % other

    def __hash__(self) -> int:
        return hash(self.value)

    def __repr__(self) -> str:
        return str(self.value)
