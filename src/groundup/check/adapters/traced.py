"""Arrays that record: plain NumPy code runs on them, and groundup's ops do the computing.

A Traced stands where an ndarray would. One that depends on what is differentiated holds a Tensor
(it is *live*), one that does not holds an array, with which NumPy itself computes. Tensors do not
change, so writing into a live array gives it another Tensor; what was a view of it follows.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from groundup import ops
from groundup.check.adapters.array_methods import ArrayMethods
from groundup.check.adapters.held import (
    Held,
    Reshaped,
    Turned,
    View,
    Window,
    fitted,
    lifted,
    outline,
    refuse,
    spend,
)
from groundup.ops.base import Array, Op, Shape
from groundup.ops.helpers import scatter_add, unslice
from groundup.ops.indexing import Pattern, filled, split_index
from groundup.tensor import Tensor


@dataclass
class Picked:
    """Where a copy comes from: so that `a[i] += v` adds to a, whatever i."""

    base: Traced
    index: Any
    pattern: Pattern
    arrays: list[Any]
    version: int
    added: Held | None = None


class Traced(ArrayMethods):
    """An array that records what is computed with it."""

    __slots__ = (
        "_base", "_blank", "_dtype", "_held", "_later", "_picked", "_seen", "_shape", "_version",
        "_view",
    )  # fmt: skip

    def __init__(self, held: Held):
        if isinstance(held, Tensor):
            spend()
        array = held.array if isinstance(held, Tensor) else held
        self._shape: Shape = array.shape
        self._dtype: np.dtype[Any] = array.dtype
        self._held: Held | None = held
        self._base: Traced | None = None
        self._view: View | None = None
        self._version = 0  # a root's: counts what was written
        self._seen = -1  # the root's version that a view last read
        self._blank: Array | None = None  # where a live root's entries are 0, for all we know
        self._later: Callable[[], Tensor] | None = None  # makes _held when it is asked for
        self._picked: Picked | None = None

    @classmethod
    def viewing(cls, base: Traced, view: View) -> Traced:
        """A view: what is written to one is seen in the other."""
        self = cls(np.asarray(view.read(outline(base._shape))))
        self._base, self._view, self._held, self._dtype = base, view, None, base._dtype
        return self

    @classmethod
    def later(
        cls, make: Callable[[], Tensor], picked: Picked, shape: Shape, dtype: np.dtype[Any]
    ) -> Traced:
        """An array that is made when somebody looks at it."""
        self = cls(outline(shape))
        self._held, self._later, self._picked, self._dtype = None, make, picked, dtype
        return self

    # An ndarray to those who ask what it is.
    @property
    def __class__(self) -> Any:
        return np.ndarray

    @__class__.setter
    def __class__(self, kind: Any) -> None:
        refuse("another class for an array")

    # What it holds

    @property
    def root(self) -> Traced:
        """The array that is a view of no other."""
        found = self
        while found._base is not None:
            found = found._base
        return found

    @property
    def held(self) -> Held:
        """The Tensor, or of a constant the array."""
        if self._later is not None:
            spend()
            self._held, self._later = self._later(), None
        if self._base is not None and self._view is not None:
            version = self.root._version
            if self._seen != version:
                self._held, self._seen = self._view.read(self._base.held), version
                if isinstance(self._held, Tensor):
                    spend()
        assert self._held is not None
        return self._held

    @property
    def live(self) -> bool:
        """Whether the entries depend on what is differentiated."""
        root = self.root
        return root._later is not None or isinstance(root._held, Tensor)

    @property
    def array(self) -> Array:
        """The present entries, not recorded."""
        held = self.held
        return held.array if isinstance(held, Tensor) else held

    @property
    def tensor(self) -> Tensor:
        """The entries as a Tensor; a constant's are copied, because it may still change."""
        return lifted(self.held)

    def blank(self) -> Array | None:
        """Where the entries are 0 because nothing was written there yet; None if not known."""
        if self._base is not None and self._view is not None:
            known = self._base.blank()
            return None if known is None else np.asarray(self._view.read(known))
        if self.live:
            return self._blank
        return np.asarray(self.array == 0)

    # Writing

    def replace(self, new: Held, blank: Array | None = None) -> None:
        """Hold other entries of the same shape from now on."""
        if self._base is not None:
            places = np.ones(self._shape, bool)
            self._merge(new, places)
            return
        self._held, self._later, self._picked = new, None, None
        self._blank = blank
        self._version += 1

    def _up(self, part: Held) -> Held:
        """Entries of this view at their places in the root."""
        at = self
        while at._base is not None and at._view is not None:
            part = at._view.embed(part, at._base._shape)
            at = at._base
        return part

    def _merge(self, new: Held, places: Array) -> None:
        """Put new's entries at places, which both have this array's shape; new is 0 elsewhere."""
        root = self.root
        places = np.asarray(self._up(places))
        blank = root.blank()
        if places.all():
            root.replace(self._up(new))
            return
        if blank is not None and blank[places].all():
            made = self._plus(root, self._up(new), blank)
        else:
            made = ops.where(Tensor.of(places.copy()), lifted(self._up(new)), root.tensor)
        root.replace(made, None if blank is None else blank & ~places)

    @staticmethod
    def _plus(root: Traced, part: Held, blank: Array | None) -> Held:
        if blank is not None and blank.all():
            return lifted(part)
        return ops.add(root.tensor, lifted(part))

    def accumulate(self, part: Held, places: Array | None = None) -> None:
        """Add to the entries, at places and zero elsewhere."""
        root = self.root
        if places is None:
            places = np.ones(self._shape, bool)
        if not root.live and not isinstance(part, Tensor):
            self.array[...] += part
            return
        blank = root.blank()
        made = self._plus(root, self._up(part), blank)
        root.replace(made, None if blank is None else blank & ~np.asarray(self._up(places)))

    def write(self, value: Any) -> None:
        """`self[...] = value`."""
        value = held_of(value)
        if not self.live and not isinstance(value, Tensor):
            np.copyto(self.array, value, casting="unsafe")
            return
        self.replace(fitted(lifted(value), self._shape, self._dtype))

    # Indexing

    def __getitem__(self, index: Any) -> Any:
        pattern, arrays = parts_of(index, self._shape)
        if not arrays and not is_scalar(pattern, self.ndim):
            return Traced.viewing(self, Window(pattern))
        held, at = self.held, filled(pattern, arrays)
        if not isinstance(held, Tensor):
            found = held[at]
            if arrays and found.dtype.kind in "fb":
                return Traced(found)
            return found  # a number, or whole numbers
        picked = Picked(self, index, pattern, arrays, self.root._version)
        shape = outline(self._shape)[at].shape

        def entries() -> Tensor:
            if arrays:
                return ops.take(held, *arrays, pattern=pattern)
            return ops.slice_(held, index=pattern)

        return Traced.later(entries, picked, shape, self._dtype)

    def __setitem__(self, index: Any, value: Any) -> None:
        shape = self._shape
        mask = as_mask(index, shape)
        if mask is not None and not np.ndim(value):
            mask = mask.reshape(mask.array.shape + (1,) * (self.ndim - mask.ndim))
            number = fitted(lifted(held_of(value)), (), self._dtype)
            self.replace(ops.where(mask, number, self.tensor))
            return
        pattern, arrays = parts_of(index, shape)
        if type(value) is Traced:
            if value._base is self and value._view == Window(pattern):
                return  # `a[i] += v` of a view: it is there already
            if value._picked is not None and self._adds(value._picked, index, pattern):
                return
        held = held_of(value)
        if not self.live and not isinstance(held, Tensor):
            self.array[filled(pattern, arrays)] = held
            return
        window = outline(shape)[filled(pattern, arrays)].shape
        new = fitted(lifted(held), window, self._dtype)
        if not arrays:
            places = unslice(np.ones(window, bool), pattern, shape)
            self._merge(ops.unslice(new, index=pattern, shape=shape), places)
            return
        numbers = np.arange(math.prod(self._shape)).reshape(shape)[filled(pattern, arrays)].ravel()
        places = np.zeros(math.prod(self._shape), bool)
        places[numbers] = True
        if places.sum() == len(numbers):
            spread = ops.scatter_add(new, *arrays, pattern=pattern, shape=shape)
        else:  # of entries that are written twice, NumPy keeps the last
            last = {int(n): i for i, n in enumerate(numbers)}
            kept, at = np.array(list(last.values())), np.array(list(last))
            rows = ops.take(new.reshape(len(numbers)), kept, pattern=("array",))
            flat = ops.scatter_add(rows, at, pattern=("array",), shape=(math.prod(self._shape),))
            spread = flat.reshape(shape)
        self._merge(spread, places.reshape(shape))

    def _adds(self, picked: Picked, index: Any, pattern: Pattern) -> bool:
        """Do `self[index] += v` as a sum, if that is what this is, and no entry is named twice."""
        same = picked.index is index or (not picked.arrays and picked.pattern == pattern)
        if picked.base is not self or picked.added is None or not same:
            return False
        if picked.version != self.root._version:
            return False
        if not self.live and not isinstance(picked.added, Tensor):
            return False
        shape = self._shape
        at = filled(pattern, picked.arrays)
        count = scatter_add(np.ones(()), at, shape)
        if count.max(initial=0) > 1:
            return False
        window = outline(shape)[at].shape
        new = fitted(lifted(picked.added), window, self._dtype)
        if picked.arrays:
            spread = ops.scatter_add(new, *picked.arrays, pattern=pattern, shape=shape)
        else:
            spread = ops.unslice(new, index=pattern, shape=shape)
        self.accumulate(spread, count > 0)
        return True

    def add_at(self, index: Any, value: Any, sign: int = 1) -> None:
        """`np.add.at(self, index, value)`."""
        shape = self._shape
        pattern, arrays = parts_of(index, shape)
        held = held_of(value)
        at = filled(pattern, arrays)
        if not self.live and not isinstance(held, Tensor):
            np.add.at(self.array, at, sign * held)
            return
        window = outline(shape)[at].shape
        new = fitted(lifted(held), window, self._dtype)
        if sign < 0:
            new = -new
        if arrays:
            spread = ops.scatter_add(new, *arrays, pattern=pattern, shape=shape)
        else:
            spread = ops.unslice(new, index=pattern, shape=shape)
        self.accumulate(spread, scatter_add(np.ones(()), at, shape) > 0)

    def __len__(self) -> int:
        return len(self.array)

    def __iter__(self) -> Iterator[Any]:
        return (self[i] for i in range(len(self.array)))

    def __contains__(self, item: Any) -> bool:
        return bool(np.any(self.array == plain(item)))

    # In place: numbers are not changed but replaced, as NumPy's are

    def _added(self, other: Any, sign: int) -> Any:
        value = held_of(other)
        if isinstance(value, np.ndarray):
            value = value * sign  # a copy, too
        elif sign < 0:
            value = -value
        picked = self._picked
        if self.live and picked is not None and picked.added is None:
            before, held = self._later, self._held
            now = dataclasses.replace(picked, added=value)

            def total() -> Tensor:
                first = held if before is None else before()
                assert isinstance(first, Tensor)
                return ops.add(first, lifted(value))

            if not self._shape:
                return Traced.later(total, now, (), self._dtype)
            self._held, self._later, self._picked = None, total, now
            self._version += 1
        elif not self._shape:
            return Traced(ops.add(self.tensor, lifted(value)))
        elif not self.live and not isinstance(value, Tensor):
            np.add(self.array, value, out=self.array, casting="unsafe")
        elif self._base is not None or not self.live:
            self.accumulate(fitted(lifted(value), self._shape, self._dtype))
        else:
            self.write(Traced(ops.add(self.tensor, lifted(value))))
        return self

    def __iadd__(self, other: Any) -> Any:
        return self._added(other, 1)

    def __isub__(self, other: Any) -> Any:
        return self._added(other, -1)

    def _changed(self, value: Any) -> Any:
        if not self.ndim:
            return value
        self.write(value)
        return self

    def __imul__(self, other: Any) -> Any:
        return self._changed(self * other)

    def __itruediv__(self, other: Any) -> Any:
        return self._changed(self / other)

    def __ipow__(self, other: Any) -> Any:
        return self._changed(self**other)

    def __iand__(self, other: Any) -> Any:
        return self._changed(self & other)

    def __ior__(self, other: Any) -> Any:
        return self._changed(self | other)

    def __ixor__(self, other: Any) -> Any:
        return self._changed(self ^ other)

    # What NumPy asks

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *args: Any, **kwargs: Any) -> Any:
        from groundup.check.adapters import traced_numpy

        return traced_numpy.run_ufunc(ufunc, method, args, kwargs)

    def __array_function__(
        self, function: Any, types: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        from groundup.check.adapters import traced_numpy

        return traced_numpy.run_function(function, args, kwargs)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Array:
        if self.live:
            refuse("a call that needs a plain NumPy array")
        return np.array(self.array, dtype=dtype)

    # Values: they decide what the code does, and are no part of the record

    def __bool__(self) -> bool:
        return bool(self.array)

    def __int__(self) -> int:
        return int(self.array)

    def __index__(self) -> int:
        return self.array.item().__index__()  # type: ignore[no-any-return]

    def __float__(self) -> float:
        if self.live and self._dtype.kind == "f":
            refuse("float() of a value that is differentiated")
        return float(self.array)

    def __format__(self, spec: str) -> str:
        return format(self.array[()], spec)

    def __repr__(self) -> str:
        return f"Traced({self.array!r})"

    __hash__ = None  # type: ignore[assignment]

    # Attributes and methods that need more than NumPy's functions

    @property
    def shape(self) -> Shape:
        return self._shape

    @shape.setter
    def shape(self, shape: Shape) -> None:
        refuse("setting an array's shape")

    @property
    def dtype(self) -> np.dtype[Any]:
        return self._dtype

    @property
    def ndim(self) -> int:
        return len(self._shape)

    @property
    def size(self) -> int:
        return math.prod(self._shape)

    @property
    def imag(self) -> Any:
        return Traced(np.zeros(self._shape))

    def astype(self, dtype: Any, *args: Any, **kwargs: Any) -> Any:
        wanted, held = np.dtype(dtype), self.held
        if wanted.kind not in "fiub":
            refuse(f"a cast to {wanted}")
        if isinstance(held, np.ndarray):
            made = held.astype(wanted)
            return Traced(made) if wanted.kind in "fb" else made
        if wanted.kind == "b":
            return self != 0
        if wanted.kind in "iu":  # whole numbers choose and count: constants from here on
            return held.array.astype(wanted) if held.array.dtype.kind == "f" else held.array.copy()
        return Traced(held if wanted == held.dtype else ops.cast(held, dtype=wanted))

    def copy(self, *args: Any, **kwargs: Any) -> Any:
        held = self.held
        return Traced(held if isinstance(held, Tensor) else held.copy(order="K"))

    __copy__ = copy

    def __deepcopy__(self, memo: Any) -> Any:
        return self.copy()

    def view(self, *args: Any) -> Any:
        if args:
            refuse("a view of another kind")
        return self[...]

    def transpose(self, *axes: Any) -> Any:
        if len(axes) == 1 and (axes[0] is None or isinstance(axes[0], list | tuple)):
            axes = tuple(axes[0] or ())
        order = axes if axes else tuple(range(self.ndim))[::-1]
        return Traced.viewing(self, Turned(tuple(int(a) % self.ndim for a in order)))

    def reshape(self, *shape: Any, order: str = "C", copy: bool | None = None) -> Any:
        if order != "C":
            if order != "F":
                refuse(f"reshape with order {order!r}")
            wanted = np.empty(self._shape, bool).reshape(*shape).shape
            return self.transpose().reshape(wanted[::-1]).transpose()
        array = self.array
        made = array.reshape(*shape)
        view = Reshaped(made.shape)
        if np.may_share_memory(made, array):
            return Traced.viewing(self, view)
        return Traced(view.read(self.held))

    def item(self, *index: Any) -> Any:
        if index:
            return self.reshape(-1)[index[0]] if len(index) == 1 else self[index]
        if self._dtype.kind != "f" or not self.live:
            return self.array.item()
        if math.prod(self._shape) != 1:
            refuse("item() of several entries")
        return self.reshape(()) + 0.0 if self.ndim else self


# Between what code holds and what ops take


def held_of(value: Any) -> Held:
    """What a value is, as a Tensor or an array."""
    if type(value) is Traced:
        return value.held
    if isinstance(value, Tensor):
        return value
    if isinstance(value, list | tuple) and any(type(v) is Traced for v in value):
        return held_of(np.stack([v if type(v) is Traced else np.asarray(v) for v in value]))
    return np.asarray(value)


def plain(value: Any) -> Any:
    """A value as NumPy takes it: the present entries of what is traced, in containers too."""
    if type(value) is Traced:
        return value.array
    if isinstance(value, tuple | list):
        made = [plain(v) for v in value]
        return made if isinstance(value, list) else tuple(made)
    return value


def parts_of(index: Any, shape: Shape) -> tuple[Pattern, list[Any]]:
    """An index as its pattern and its index arrays, which are copies: constants of the record."""
    pattern, arrays = split_index(plain_index(index), shape)
    return pattern, [np.array(a) for a in arrays]


def plain_index(index: Any) -> Any:
    """An index with the present values of what is traced in it."""
    parts = index if isinstance(index, tuple) else (index,)
    made = []
    for part in parts:
        if type(part) is Traced:
            part = part.array if part.ndim else part.array.item()
        elif isinstance(part, slice):
            bounds = (part.start, part.stop, part.step)
            part = slice(*[None if b is None else int(b) for b in bounds])
        elif isinstance(part, list) and any(type(p) is Traced for p in part):
            part = np.array(plain(part))
        made.append(part)
    return tuple(made)


def is_scalar(pattern: Pattern, ndim: int) -> bool:
    """Whether an index picks one entry: NumPy gives a number then, and no view."""
    return len(pattern) == ndim and all(isinstance(p, int) for p in pattern)


def as_mask(index: Any, shape: Shape) -> Tensor | None:
    """The live boolean mask that an index is, if it is one over the first axes."""
    if isinstance(index, tuple) and len(index) == 1:
        index = index[0]
    if type(index) is not Traced or not index.live or index.dtype != np.bool_ or not index.ndim:
        return None
    return index.tensor if index.shape == shape[: index.ndim] else None


def emit(op: Op, *args: Any, **attrs: Any) -> Traced:
    """The result of an op of Tensors."""
    return Traced(op(*args, **attrs))
