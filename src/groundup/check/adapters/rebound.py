"""A user's functions, copied: with state of their own, and with `np` seen through a glass.

NumPy itself is never patched. Copies of the functions, and of what they reach through globals,
closures and attributes, find a stand-in where they say `np`: its creation functions give Traced
arrays, so that a loop that fills one is followed.
"""

from __future__ import annotations

import functools
import math
import sys
import types
from collections.abc import Callable
from typing import Any

import numpy as np

from groundup import ops
from groundup.check.adapters.held import refuse
from groundup.check.adapters.traced import Traced, emit
from groundup.check.adapters.traced_shapes import array_of
from groundup.check.adapters.traced_ufuncs import is_live, rearranged, wrapped
from groundup.program.watch import is_users

_ABSENT = object()


class Rebinder:
    """Copies functions and what they can reach, each once.

    Args:
        traced: whether the copies are for tracing: they find stand-ins for NumPy, and Traced
            arrays for arrays.
        packages: top packages whose code is copied though it is installed.

    Attributes:
        generators: NumPy's random generators that were found, each with its copy.

    """

    def __init__(self, traced: bool, packages: tuple[str, ...] = ()):
        self.traced = traced
        self.packages = packages
        self.generators: list[tuple[Any, Any]] = []
        self._made: dict[int, Any] = {}
        self._kept: list[Any] = []  # so that ids stay what they are

    def __call__(self, value: Any) -> Any:
        """The value's copy; itself where there is nothing to copy."""
        found = self._made.get(id(value), _ABSENT)
        if found is _ABSENT:
            self._kept.append(value)
            found = self._copy(value)
            self._made[id(value)] = found
        return found

    def _copy(self, value: Any) -> Any:
        if self.traced:
            found = _stand_in(value)
            if found is not None:
                return found
        if isinstance(value, types.FunctionType):
            return self._function(value) if self._is_users(value.__module__) else value
        if isinstance(value, types.MethodType):
            return types.MethodType(self(value.__func__), self(value.__self__))
        if isinstance(value, staticmethod | classmethod):
            return type(value)(self(value.__func__))
        if isinstance(value, property):
            return property(*(self(f) for f in (value.fget, value.fset, value.fdel)))
        if isinstance(value, functools.partial):
            inner = [self(a) for a in value.args]
            return functools.partial(
                self(value.func), *inner, **{k: self(v) for k, v in value.keywords.items()}
            )
        if isinstance(value, np.ndarray):
            if self.traced and type(value) is np.ndarray and value.dtype.kind in "fb":
                return Traced(value.copy())
            return value.copy()
        if isinstance(value, np.random.Generator | np.random.RandomState):
            self.generators.append((value, self._generator(value)))
            return self.generators[-1][1]
        if isinstance(value, types.ModuleType):
            users = self.traced and self._is_users(value.__name__)
            return Glass(value, {}, self) if users else value
        if isinstance(value, type):
            return self._class(value) if self._is_users(value.__module__) else value
        return self._container(value)

    @staticmethod
    def _generator(value: Any) -> Any:
        if isinstance(value, np.random.Generator):
            made: Any = np.random.Generator(type(value.bit_generator)())
        else:
            made = np.random.RandomState()
        set_state(made, state_of(value))
        return made

    def _container(self, value: Any) -> Any:
        if type(value) is list:
            made: Any = []
            self._made[id(value)] = made
            made.extend(self(v) for v in value)
            return made
        if isinstance(value, dict) and type(value).__module__ in ("builtins", "collections"):
            made = value.copy()
            self._made[id(value)] = made
            for key, inner in value.items():
                made[key] = self(inner)
            return made
        if isinstance(value, set) and type(value) is set:
            return set(value)
        if isinstance(value, tuple):
            parts = [self(v) for v in value]
            return type(value)(*parts) if hasattr(value, "_fields") else tuple(parts)
        if self._is_users(type(value).__module__) and hasattr(value, "__dict__"):
            kind = self(type(value))
            made = object.__new__(kind)
            self._made[id(value)] = made
            made.__dict__.update({k: self(v) for k, v in vars(value).items()})
            return made
        return value

    def _function(self, function: types.FunctionType) -> Any:
        code = function.__code__
        cells = tuple(
            self._made.setdefault(id(c), types.CellType()) for c in function.__closure__ or ()
        )
        made = types.FunctionType(
            code, self._globals(function), function.__name__, None, cells or None
        )
        self._made[id(function)] = made
        made.__module__, made.__qualname__ = function.__module__, function.__qualname__
        made.__dict__.update(function.__dict__)
        for old, new in zip(function.__closure__ or (), cells, strict=True):
            self._kept.append(old)
            if not _is_set(new) and _is_set(old):
                new.cell_contents = _PENDING
                new.cell_contents = self(old.cell_contents)
        made.__defaults__ = self(function.__defaults__) if function.__defaults__ else None
        made.__kwdefaults__ = self(function.__kwdefaults__) if function.__kwdefaults__ else None
        return made

    def _globals(self, function: types.FunctionType) -> dict[str, Any]:
        """The copy of a function's globals, with what the function names copied in it."""
        old = function.__globals__
        new: dict[str, Any] | None = self._made.get(id(old))
        if new is None:
            new = self._made[id(old)] = dict(old)
            new["__copied__"] = set()
            if self.traced:
                new.update({k: v for k, v in _BUILTINS.items() if k not in old})
        for name in _names(function.__code__):
            if name in old and name not in new["__copied__"]:
                new["__copied__"].add(name)
                new[name] = self(old[name])
        return new

    def _class(self, kind: type) -> Any:
        if not self.traced and not any(self._is_users(k.__module__) for k in kind.__mro__):
            return kind
        skipped = ("__dict__", "__weakref__")
        if "__slots__" in vars(kind) or type(kind) is not type:
            return kind
        bases = tuple(self(b) for b in kind.__bases__)
        made = type(kind.__name__, bases, {})
        self._made[id(kind)] = made
        for name, value in vars(kind).items():
            if name not in skipped:
                setattr(made, name, self(value) if not isinstance(value, str) else value)
        return made

    def _is_users(self, module: str | None) -> bool:
        """Whether a module's code is the user's: no installed package's, nor Python's."""
        if module is None or module.split(".")[0] in self.packages:
            return True
        if module in sys.builtin_module_names or module.startswith("numpy"):
            return False
        file = getattr(sys.modules.get(module), "__file__", None)
        if file is None:
            return True
        return is_users(file) and "site-packages" not in file and "dist-packages" not in file


def state_of(generator: Any) -> Any:
    """The state of a NumPy random generator, of either kind."""
    if isinstance(generator, np.random.Generator):
        return generator.bit_generator.state
    return generator.get_state()


def set_state(generator: Any, state: Any) -> None:
    """Put a random generator back to a state."""
    if isinstance(generator, np.random.Generator):
        generator.bit_generator.state = state
    else:
        generator.set_state(state)


_PENDING = object()


def _is_set(cell: types.CellType) -> bool:
    try:
        cell.cell_contents  # noqa: B018
    except ValueError:
        return False
    return True


def _names(code: types.CodeType) -> set[str]:
    """The global names that a function and those inside it mention."""
    found = set(code.co_names)
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            found |= _names(constant)
    return found


class Glass(types.ModuleType):
    """A module seen through a glass: some of its functions are others."""

    def __init__(self, module: types.ModuleType, mine: dict[str, Any], rebind: Any = None):
        super().__init__(module.__name__)
        self._module, self._mine, self._rebind = module, mine, rebind

    def __getattr__(self, name: str) -> Any:
        mine = self.__dict__["_mine"]
        if name in mine:
            return mine[name]
        found = getattr(self.__dict__["_module"], name)
        if self.__dict__["_rebind"] is not None:
            return self.__dict__["_rebind"](found)
        if isinstance(found, types.ModuleType) and found.__name__.startswith("numpy."):
            return Glass(found, _SUBMODULES.get(found.__name__, {}))
        return found


# NumPy's functions that make arrays, as Traced ones


def _creating(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def made(*args: Any, **kwargs: Any) -> Any:
        if any(type(a) is Traced for a in (*args, *kwargs.values())):
            return function(*args, **kwargs)
        return wrapped(function(*args, **kwargs))

    return made


def _full(shape: Any, value: Any, dtype: Any = None, **kwargs: Any) -> Any:
    if not is_live(value):
        return wrapped(np.full(shape, value, dtype, **kwargs))
    made = Traced(np.zeros(shape, dtype or np.float64))
    made[...] = value
    return made


def _array(entries: Any, dtype: Any = None, copy: Any = True, **kwargs: Any) -> Any:
    """`np.array`; of what is traced a copy that is traced."""
    if type(entries) is Traced or _mentions(entries):
        ndmin = kwargs.pop("ndmin", 0)
        made = array_of(entries)
        made = made.astype(dtype) if dtype is not None else made.copy() if copy else made
        while made.ndim < ndmin:
            made = made[None]
        return made
    return wrapped(np.array(entries, dtype, copy=copy, **kwargs))


def _asarray(entries: Any, dtype: Any = None, **kwargs: Any) -> Any:
    """`np.asarray`: nothing is copied that is an array already."""
    if type(entries) is Traced:
        return entries if dtype in (None, entries.dtype) else entries.astype(dtype)
    if type(entries) is np.ndarray:
        return np.asarray(entries, dtype)
    return _array(entries, dtype)


def _mentions(entries: Any) -> bool:
    return isinstance(entries, list | tuple) and any(
        type(e) is Traced or _mentions(e) for e in entries
    )


def _as_strided(x: Any, shape: Any = None, strides: Any = None, **kwargs: Any) -> Any:
    if type(x) is not Traced:
        return np.lib.stride_tricks.as_strided(x, shape, strides, **kwargs)
    # Entries of eight bytes and no gaps: what the strides of x count in, here and there.
    array = x.array
    if not array.flags.c_contiguous or array.itemsize != 8:
        refuse("as_strided of such an array")
    if not x.live:
        return wrapped(np.lib.stride_tricks.as_strided(array, shape, strides).copy())
    return rearranged(
        np.lib.stride_tricks.as_strided, (x,), {"shape": tuple(shape), "strides": strides}
    )


def _iterated(function: Any, **kwargs: Any) -> Callable[..., Any]:
    """`np.vectorize(function)`."""
    if kwargs:
        refuse("np.vectorize with options")
    by_name = {math.erf: "erf", math.exp: "exp", math.log: "log", math.tanh: "tanh"}
    known = next((n for f, n in by_name.items() if function in (f, _MATH.get(n))), None)

    def each(x: Any) -> Any:
        if type(x) is not Traced:
            return wrapped(np.vectorize(function)(x))
        if known is not None:
            return _named(known, x)
        flat = x.ravel()
        return array_of([function(flat[i]) for i in range(x.size)]).reshape(x.shape)

    return each


def _named(name: str, *args: Any) -> Any:
    """A function of the math module."""
    if not any(type(a) is Traced for a in args):
        return getattr(math, name)(*args)
    if name == "erf":
        return emit(ops.erf, *(a.tensor for a in args))
    return getattr(np, name)(*args)


def _pow(x: Any, y: Any) -> Any:
    """`math.pow`."""
    return x**y if type(x) is Traced or type(y) is Traced else math.pow(x, y)


_NAMES = ("exp", "log", "log1p", "expm1", "sqrt", "tanh", "sin", "cos", "fabs", "erf", "log2",
          "sinh", "cosh", "log10", "isnan", "isfinite", "isinf")  # fmt: skip
_MATH: dict[str, Any] = {name: functools.partial(_named, name) for name in _NAMES}
_MATH["pow"] = _pow


class _Float(type):
    def __instancecheck__(cls, value: Any) -> bool:
        return isinstance(value, float)

    def __subclasscheck__(cls, kind: Any) -> bool:
        return issubclass(kind, float)


class Float(float, metaclass=_Float):
    """`float`, that leaves a number as it is which is followed; a dtype as ever."""

    dtype = np.dtype(np.float64)

    def __new__(cls, value: Any = 0.0) -> Any:
        if type(value) is Traced:
            return value.item() if value.live else float(value.array)
        return float(value)


_BUILTINS: dict[str, Any] = {"float": Float}

_CREATING: tuple[Any, ...] = (
    np.zeros, np.ones, np.empty, np.eye, np.identity, np.linspace, np.zeros_like, np.ones_like,
    np.empty_like, np.full_like, np.tri, np.arange,
)  # fmt: skip
_MINE: dict[str, Any] = {f.__name__: _creating(f) for f in _CREATING} | {
    "full": _full,
    "array": _array,
    "asarray": _asarray,
    "asanyarray": _asarray,
    "ascontiguousarray": _asarray,
    "asfortranarray": _asarray,
    "vectorize": _iterated,
}
_SUBMODULES: dict[str, dict[str, Any]] = {
    "numpy.lib.stride_tricks": {"as_strided": _as_strided},
}
_BY_IDENTITY: dict[int, Any] = {
    **{id(getattr(np, name)): mine for name, mine in _MINE.items()},
    id(np.lib.stride_tricks.as_strided): _as_strided,
    **{id(getattr(math, name)): mine for name, mine in _MATH.items()},
}


def _stand_in(value: Any) -> Any:
    """What stands for a module or function of NumPy; None if nothing does."""
    if isinstance(value, types.ModuleType):
        if value is np:
            return Glass(np, _MINE)
        if value is math:
            return Glass(math, _MATH)
        if value.__name__.startswith("numpy."):
            return Glass(value, _SUBMODULES.get(value.__name__, {}))
        return None
    return _BY_IDENTITY.get(id(value))
