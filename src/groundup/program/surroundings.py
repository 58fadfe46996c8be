"""What a step's function can see besides its arguments: the Python values that a Program freezes.

A Program replays tensor operations; the Python around them ran once. So whatever number, string
or length the function could have read is written down, and looked at again before each replay.
"""

from __future__ import annotations

import builtins
import functools
import sys
import types
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from groundup import generator
from groundup.nn import Module
from groundup.ops.base import Op
from groundup.optim import Optimizer
from groundup.program.watch import is_users
from groundup.tensor import Tensor

_PLAIN = (bool, int, float, complex, str, bytes, type(None), np.generic, np.dtype)
_DEEPEST, _LONGEST = 12, 1000
_GONE = object()


class Place:
    """Where a Python value is kept: a dict's or list's entry, or a closure's cell."""

    __slots__ = ("holder", "key", "value", "where")

    def __init__(self, holder: Any, key: Any, value: Any, where: str):
        self.holder, self.key, self.value, self.where = holder, key, value, where

    def now(self) -> Any:
        """What is there now."""
        try:
            if isinstance(self.holder, types.CellType):
                return self.holder.cell_contents
            return len(self.holder) if self.key is len else self.holder[self.key]
        except (KeyError, IndexError, ValueError):
            return _GONE

    def changed(self) -> bool:
        """Whether something else is there now."""
        now, value = self.now(), self.value
        if now is value:
            return False
        return not (isinstance(value, (*_PLAIN, tuple)) and same(now, value))


def same(a: Any, b: Any) -> bool:
    """Whether two plain values are the same; NaN is itself."""
    return type(a) is type(b) and bool(a == b or (a != a and b != b))


class _Slots:
    """An object's attributes without a dict, as a dict has them."""

    def __init__(self, owner: Any):
        self.owner = owner
        listed = [vars(kind).get("__slots__", ()) for kind in type(owner).__mro__]
        names = [n for s in listed for n in ((s,) if isinstance(s, str) else s)]
        self.names = [
            n for n in names if n not in ("__dict__", "__weakref__") and hasattr(owner, n)
        ]

    def __getitem__(self, name: str) -> Any:
        try:
            return getattr(self.owner, name)
        except AttributeError:
            raise KeyError(name) from None


class Surroundings:
    """What a function sees, found by walking closures, globals, attributes and containers.

    Attributes:
        places: every plain value, tensor and length found, where it is kept.
        names: how tensors, arrays and modules are called there, by id.

    """

    def __init__(self, function: Callable[..., Any], arguments: tuple[Any, ...] = ()):
        self.places: list[Place] = []
        # Optimizers' settings: they may change between steps, but not within one.
        self.settings: list[Place] = []
        self.names: dict[int, str] = {}
        self.found: list[Any] = []  # keeps ids valid
        self.arrays: set[int] = set()  # ids of the NumPy arrays that are kept somewhere
        self._seen: set[int] = set()
        self._visit(function, "", 0)
        for name, tensor in vars(generator.default).items():  # it keeps them for good
            self._visit(tensor, name, 1)
        for argument in arguments:
            if not isinstance(argument, Tensor | np.ndarray):
                self._visit(argument, "", 1)

    def changes(self) -> list[Place]:
        """The places where something else is by now."""
        return [p for p in (*self.places, *self.settings) if p.changed()]

    def _visit(self, value: Any, path: str, depth: int) -> None:
        if isinstance(value, Tensor):
            self._name(value, path)
            self.arrays.add(id(value.array))
            return
        if isinstance(value, np.ndarray):
            self._name(value, path)
            self.arrays.add(id(value))
            return
        if id(value) in self._seen or depth > _DEEPEST:
            return
        self._seen.add(id(value))
        self.found.append(value)
        if isinstance(value, Module):
            self._name(value, path)
        for holder, key, inner, name in self._inside(value, path):
            if isinstance(value, Optimizer) and isinstance(inner, float | tuple):
                self.settings.append(Place(holder, key, inner, name))
            elif self._matters(inner):
                self.places.append(Place(holder, key, inner, name))
            self._visit(inner, name, depth + 1)

    def _name(self, value: Any, path: str) -> None:
        if path.isidentifier() or id(value) not in self.names:  # `w` rather than `opt.params[0]`
            self.names[id(value)] = path
        self.found.append(value)

    @staticmethod
    def _matters(value: Any) -> bool:
        """Whether a step could do something else if another value were in this one's place."""
        kinds = (Tensor, np.ndarray, Module, Optimizer, types.FunctionType, types.MethodType)
        return isinstance(value, (*_PLAIN, *kinds))

    def _inside(self, value: Any, path: str) -> Iterator[tuple[Any, Any, Any, str]]:
        """The parts of a value: the holder, the key in it, the part, its name."""
        if isinstance(value, types.FunctionType):
            if _is_users_module(value.__module__):
                yield from self._function(value)
        elif isinstance(value, types.MethodType):
            yield from self._inside(value.__func__, path)
            self._visit(value.__self__, "self", 1)
        elif not isinstance(value, type) and hasattr(value, "__wrapped__"):  # decorated, compiled
            self._visit(value.__wrapped__, path, 1)
        elif isinstance(value, functools.partial):
            for part in (value.func, *value.args, *value.keywords.values()):
                self._visit(part, path, 1)
        elif isinstance(value, list | tuple | dict):
            if len(value) > _LONGEST or not isinstance(value, tuple):
                yield value, len, len(value), f"len({path})"
            if len(value) <= _LONGEST:
                items = value.items() if isinstance(value, dict) else enumerate(value)
                for key, inner in list(items):
                    yield value, key, inner, f"{path}[{key!r}]"
        elif isinstance(value, type):
            if _is_users_module(value.__module__):
                for key, inner in list(vars(value).items()):
                    if not key.startswith("__"):
                        yield vars(value), key, inner, f"{path}.{key}"
        elif isinstance(value, types.ModuleType | Op | np.random.Generator):
            return
        elif isinstance(value, Module | Optimizer) or not _foreign(value):
            prefix = f"{path}." if path else ""
            if hasattr(value, "__dict__"):  # eval() may give it an attribute that it had not
                own = value.__dict__
                yield own, len, len(own), f"the number of attributes of {path or 'self'}"
            for key, inner in list(getattr(value, "__dict__", {}).items()):
                if not (isinstance(value, Optimizer) and key in ("counts", "taken")):
                    yield value.__dict__, key, inner, prefix + key
            slots = _Slots(value)
            for key in slots.names:
                yield slots, key, slots[key], prefix + key
            for base in type(value).__mro__[:-1]:  # methods read globals and class attributes, too
                if _is_users_module(base.__module__):
                    self._visit(base, type(value).__name__, 1)
            if isinstance(value, Module) and "forward" in vars(value):
                self._visit(vars(value)["forward"], prefix + "forward", 1)

    def _function(self, function: types.FunctionType) -> Iterator[tuple[Any, Any, Any, str]]:
        code = function.__code__
        for name, cell in zip(code.co_freevars, function.__closure__ or (), strict=True):
            try:
                yield cell, name, cell.cell_contents, name
            except ValueError:  # not set yet
                continue
        known = function.__globals__
        names = set(_names(code))
        for name in sorted(names):
            if name in known and not hasattr(builtins, name):
                inner = known[name]
                yield known, name, inner, name
                if isinstance(inner, types.ModuleType) and _is_users_module(inner.__name__):
                    for attribute in sorted(names):
                        found = vars(inner).get(attribute)
                        if isinstance(found, (*_PLAIN, Tensor, np.ndarray)) and found is not None:
                            yield vars(inner), attribute, found, f"{name}.{attribute}"
        for i, default in enumerate(function.__defaults__ or ()):
            self._visit(default, f"{function.__name__}'s default {i}", 1)
        for name, default in (function.__kwdefaults__ or {}).items():
            self._visit(default, name, 1)


def _names(code: types.CodeType) -> Iterator[str]:
    """The global names and attributes that a function and those inside it mention."""
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _names(constant)


@functools.cache
def _is_users_module(name: str | None) -> bool:
    """Whether a module's code is the user's: no installed package's, nor groundup's or Python's."""
    file = getattr(sys.modules.get(name or ""), "__file__", None)
    if file is None:
        return name not in sys.builtin_module_names
    return is_users(file) and "site-packages" not in file and "dist-packages" not in file


def _foreign(value: Any) -> bool:
    """Whether a value is of a kind that has nothing to do with a step: Python's own, NumPy's."""
    module = type(value).__module__.split(".")[0]
    return module in ("builtins", "numpy", "io", "threading", "_io", "_thread", "_contextvars")
