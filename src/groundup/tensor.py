"""Tensor: a NumPy array that remembers how it came about.

Everything here is sugar: each operator and method is one op of `groundup.ops`, or a few.
"""

from __future__ import annotations

import copyreg
import math
import numbers
import operator
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Self, TypeAlias

import numpy as np
import numpy.typing as npt

from groundup import ops
from groundup.errors import DtypeError, GradientError, ShapeError
from groundup.ops import base
from groundup.ops.base import FLOAT32, FLOAT64, Array, Axis, Node, state
from groundup.ops.indexing import ARRAY, along_axis, split_index
from groundup.ops.reduce import axes_of, reduced_count, size_of

# What an op takes where it takes a Tensor.
Value: TypeAlias = "Tensor | npt.ArrayLike"
Shape: TypeAlias = tuple[int, ...]


class Tensor:
    """An n-d array with a gradient.

    Args:
        data: an array, a number or nested lists. A NumPy array is held, not copied, in its own
            dtype; Python floats become float32, Python ints int64.
        requires_grad: whether `backward` should leave a gradient in `.g`.
        dtype: convert to this dtype.

    Attributes:
        data: the NumPy array.
        g: the gradient, a Tensor of the same shape, or None. `backward` fills it in, for the
            tensors that require a gradient and everything computed from them. `grad` is the same.
        requires_grad: as given; True too for what is computed from such a tensor.

    Raises:
        DtypeError: data is not numeric, or requires a gradient and is not floating-point.

    """

    __slots__ = ("_g", "array", "node", "requires_grad", "written")

    array: Array  # what `data` gives out: used within the package, where no value is read
    requires_grad: bool
    node: Node | None  # the step that made it; None for a leaf
    written: int  # when `assign` last wrote into data, on the clock of node serials
    _g: Tensor | None

    def __init__(
        self, data: Value, requires_grad: bool = False, dtype: npt.DTypeLike | None = None
    ):
        if state.recorder is not None:
            data = state.recorder.plain(data, dtype)
        self.array = as_array(data, dtype)
        if requires_grad and self.array.dtype.kind not in "fc":
            raise DtypeError(
                f"a {self.array.dtype} tensor cannot require a gradient; only floating-point ones "
                "can: pass dtype=np.float32, or convert with .float()"
            )
        self.requires_grad = requires_grad
        self.node = None
        self.written = 0
        self._g = None

    @classmethod
    def of(cls, array: Array) -> Self:
        """A Tensor around an array that is known to be good (no checks: ops use this)."""
        self = cls.__new__(cls)
        self.array = array
        self.requires_grad = False
        self.node = None
        self.written = 0
        self._g = None
        return self

    # The gradient

    @property
    def g(self) -> Any:  # a Tensor or None; a bwd may rely on out.g, a step on w.g
        """The gradient. Inside a `bwd`, setting it contributes to it."""
        if state.sweep is not None:
            state.sweep.before_read(self)
        found = self._g
        if found is NOT_KEPT or found is APPLIED or state.recorder is not None:
            refuse_old_gradient(self)
        return found

    @g.setter
    def g(self, value: Value | None) -> None:
        if state.sweep is not None and state.sweep.takes(self, value):
            return
        if value is not None:
            value = as_tensor(value)
            if value.shape != self.shape:
                raise ShapeError(
                    f"a gradient has its tensor's shape: {self.shape} here, {value.shape} given"
                )
            if value.node is None and not value.requires_grad:
                value = Tensor.of(value.array)
                value.written = next(base.serials)  # a new gradient, for the optimizer
        self._g = value
        if state.recorder is not None and value is not None:
            state.recorder.left_gradient(self, value)

    @property
    def grad(self) -> Any:
        """PyTorch's name for `g`."""
        return self.g

    @grad.setter
    def grad(self, value: Value | None) -> None:
        self.g = value

    @property
    def origin(self) -> Tensor:
        """The tensor itself; what a `bwd` gets as an argument answers with what it stands for."""
        return self

    @property
    def is_leaf(self) -> bool:
        """Whether no recorded op made it."""
        return self.node is None

    def backward(
        self,
        gradient: Value | None = None,
        *,
        accumulate: bool = False,
        create_graph: bool = False,
    ) -> None:
        """Compute the gradient of this tensor in everything it was computed from: their `.g`.

        Args:
            gradient: the gradient of this tensor itself; may be left out for a single number.
            accumulate: add to the `.g` that leaves have, instead of clearing them first.
            create_graph: record the backward pass, so that gradients have gradients.

        Raises:
            GradientError: nothing here requires a gradient, or a tensor was written to since.
            ShapeError: `gradient` does not have this tensor's shape.

        """
        from groundup.backward import backward

        backward(self, gradient, accumulate=accumulate, create_graph=create_graph)

    def requires_grad_(self, requires_grad: bool = True) -> Self:
        """Set `requires_grad` and return the tensor."""
        if requires_grad and self.array.dtype.kind not in "fc":
            raise DtypeError(f"a {self.dtype} tensor cannot require a gradient; use .float()")
        if not requires_grad and self.node is not None:
            raise GradientError("this tensor was computed by an op: use .detach() to cut it off")
        self.requires_grad = requires_grad
        return self

    def detach(self) -> Tensor:
        """The same data, cut off from the backward pass (shares memory)."""
        return ops.detach(self)

    def clone(self) -> Tensor:
        """A copy; the gradient flows through."""
        return ops.cast(self, dtype=self.dtype)

    def assign(self, value: Value) -> Self:
        """Write a value of the same shape into this tensor, in place: how optimizers update.

        Raises:
            GradientError: the tensor was computed by an op, so its value belongs to the record.
            ShapeError: the shapes differ.

        """
        if self.node is not None:
            raise GradientError(
                "assign writes to a leaf; this tensor was computed by "
                f"{self.node.name}: detach it first"
            )
        if state.recorder is not None:
            value = state.recorder.assign(self, value)
        array = value.array if isinstance(value, Tensor) else as_array(value)
        if array.shape != self.array.shape:
            raise ShapeError(f"assign: the tensor has shape {self.shape}, the value {array.shape}")
        if array.dtype is self.array.dtype:
            self.array[...] = array
        else:
            with base.quiet():
                np.copyto(self.array, array, casting="same_kind")
        self.written = next(base.serials)
        return self

    # The array

    @property
    def data(self) -> Array:
        """The NumPy array."""
        self._read(".data")
        return self.array

    @data.setter
    def data(self, array: Array) -> None:
        self._read(".data = ...")
        self.array = array

    def _read(self, how: str) -> None:
        """Refuse while a step is being recorded: the Program would keep the value for good."""
        if state.recorder is not None:
            state.recorder.refuse(how, self)

    @property
    def shape(self) -> Shape:
        if state.recorder is not None:
            return state.recorder.shape_for_user(self)
        return self.array.shape

    @property
    def dtype(self) -> np.dtype[Any]:
        return self.array.dtype

    @property
    def ndim(self) -> int:
        return self.array.ndim

    @property
    def size(self) -> int:
        """The number of entries, as in NumPy."""
        if state.recorder is not None:
            return state.recorder.size_for_user(self)  # type: ignore[no-any-return]
        return self.array.size

    def numel(self) -> int:
        """The number of entries, as in PyTorch."""
        if state.recorder is not None:
            return state.recorder.size_for_user(self)  # type: ignore[no-any-return]
        return self.array.size

    def dim(self) -> int:
        """The number of dimensions, as in PyTorch."""
        return self.array.ndim

    def numpy(self) -> Array:
        """The NumPy array itself (shares memory)."""
        self._read("numpy()")
        return self.array

    def item(self) -> Any:
        """The only entry as a Python number."""
        self._read("item()")
        if self.array.size != 1:
            raise ShapeError(f"item() needs a single entry; this tensor has shape {self.shape}")
        return self.array.item()

    def tolist(self) -> Any:
        """Nested Python lists."""
        self._read("tolist()")
        return self.array.tolist()

    def __array__(self, dtype: npt.DTypeLike | None = None, copy: bool | None = None) -> Array:
        self._read("a NumPy function, or np.asarray,")
        return np.array(self.array, dtype=dtype, copy=copy)

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *args: Any, **kwargs: Any) -> Any:
        """`np.exp(tensor)` and `array + tensor` are the ops of the same name."""
        op = _UFUNCS.get(ufunc)
        if op is None or method != "__call__" or kwargs:
            raise DtypeError(
                f"np.{ufunc.__name__} has no gradient for a Tensor: use a groundup function, or "
                ".numpy() for the plain array"
            )
        return op(*args)

    def __len__(self) -> int:
        if not self.shape:
            raise ShapeError("a 0-d tensor has no length")
        if state.recorder is not None:
            state.recorder.length_read(len(self.array))
        return len(self.array)

    def __iter__(self) -> Iterator[Tensor]:
        if not self.shape:
            raise ShapeError("a 0-d tensor cannot be iterated over")
        self._read("iterating")
        return (self[i] for i in range(len(self.array)))

    def __bool__(self) -> bool:
        self._read("`if`, `while`, `and`, `or`, `not` or bool()")
        if self.array.size != 1:
            raise ShapeError(
                f"the truth of a tensor of shape {self.shape} is ambiguous: use .any() or .all()"
            )
        return bool(self.array.item())

    def __float__(self) -> float:
        self._read("float()")
        return float(self.item())

    def __int__(self) -> int:
        self._read("int()")
        return int(self.item())

    def __index__(self) -> int:
        self._read("use as an index")
        return operator.index(self.item())

    def __format__(self, spec: str) -> str:
        return (
            format(self.item(), spec) if spec and self.array.size == 1 else format(str(self), spec)
        )

    def __repr__(self) -> str:
        if state.recorder is not None:  # shown in a debugger or a traceback: no value
            return f"{type(self).__name__}(shape={self.shape}, dtype={self.dtype})"
        array = np.array2string(self.array, separator=", ", prefix="Tensor(")
        dtype = "" if self.dtype in (FLOAT32, np.int64, np.bool_) else f", dtype={self.dtype}"
        if self.array.size == 0:
            dtype = f", shape={self.shape}{dtype}"
        grad = ""
        if self.node is not None:
            grad = f", from {self.node.name}"
        elif self.requires_grad:
            grad = ", requires_grad=True"
        return f"{type(self).__name__}({array}{dtype}{grad})"

    def __reduce__(self) -> Any:
        self._read("copying or pickling")
        if self.node is not None:
            raise GradientError(
                "only leaves can be copied or pickled; this tensor was computed by "
                f"{self.node.name}: detach it first"
            )
        g = self._g if self._g is None or self._g.node is None else None
        return (copyreg.__newobj__, (type(self),), (self.array, self.requires_grad, g))  # type: ignore[attr-defined]

    def __setstate__(self, saved: tuple[Array, bool, Tensor | None]) -> None:
        data, self.requires_grad, self._g = saved
        self.array = as_array(data)
        self.node = None
        self.written = 0

    # Dtypes

    def cast(self, dtype: npt.DTypeLike) -> Tensor:
        """The tensor in another dtype; itself if it has that dtype."""
        return self if self.dtype == dtype else ops.cast(self, dtype=np.dtype(dtype))

    def astype(self, dtype: npt.DTypeLike) -> Tensor:
        """NumPy's name for `cast`."""
        return self.cast(dtype)

    def float(self) -> Tensor:
        """The tensor as float32."""
        return self.cast(np.float32)

    def double(self) -> Tensor:
        """The tensor as float64."""
        return self.cast(np.float64)

    def long(self) -> Tensor:
        """The tensor as int64."""
        return self.cast(np.int64)

    # Operators

    def __add__(self, other: Value) -> Tensor:
        return ops.add(self, other)

    def __radd__(self, other: Value) -> Tensor:
        return ops.add(other, self)

    def __sub__(self, other: Value) -> Tensor:
        return ops.sub(self, other)

    def __rsub__(self, other: Value) -> Tensor:
        return ops.sub(other, self)

    def __mul__(self, other: Value) -> Tensor:
        return ops.mul(self, other)

    def __rmul__(self, other: Value) -> Tensor:
        return ops.mul(other, self)

    def __truediv__(self, other: Value) -> Tensor:
        return ops.div(self, other)

    def __rtruediv__(self, other: Value) -> Tensor:
        return ops.div(other, self)

    def __matmul__(self, other: Value) -> Tensor:
        return ops.matmul(self, other)

    def __rmatmul__(self, other: Value) -> Tensor:
        return ops.matmul(other, self)

    # In place. `p -= lr * p.g` under no_grad() updates a parameter; elsewhere it is p = p - ...

    def __iadd__(self, other: Value) -> Tensor:
        return self._updated(ops.add, other)

    def __isub__(self, other: Value) -> Tensor:
        return self._updated(ops.sub, other)

    def __imul__(self, other: Value) -> Tensor:
        return self._updated(ops.mul, other)

    def __itruediv__(self, other: Value) -> Tensor:
        return self._updated(ops.div, other)

    def _updated(self, op: base.Op, other: Value) -> Tensor:
        """`self op= other`: written into parameters, buffers and other leaves that require a
        gradient; else a new tensor.
        """
        owned = self.requires_grad or isinstance(self, Parameter | Buffer)
        if self.node is not None or not owned:
            return op(self, other)
        if state.recording and self.requires_grad:
            raise GradientError(
                f"in-place {op.name} of a tensor that requires a gradient (shape {self.shape}): to "
                "update it do so within `with gu.no_grad():`, to compute with it write x = x + y"
            )
        return self.assign(op(self, other))

    def __pow__(self, other: Value) -> Tensor:
        if isinstance(other, np.generic):
            other = other.item()
        if isinstance(other, numbers.Real):
            return ops.pow_(self, exponent=other)
        return ops.power(self, other)

    def __rpow__(self, other: Value) -> Tensor:
        return ops.power(other, self)

    def __neg__(self) -> Tensor:
        return ops.neg(self)

    def __pos__(self) -> Tensor:
        return self

    def __abs__(self) -> Tensor:
        return ops.abs_(self)

    def __lt__(self, other: Value) -> Tensor:
        return ops.less(self, other)

    def __le__(self, other: Value) -> Tensor:
        return ops.less_equal(self, other)

    def __gt__(self, other: Value) -> Tensor:
        return ops.greater(self, other)

    def __ge__(self, other: Value) -> Tensor:
        return ops.greater_equal(self, other)

    def __eq__(self, other: object) -> Tensor:  # type: ignore[override]
        return ops.equal(self, other)

    def __ne__(self, other: object) -> Tensor:  # type: ignore[override]
        return ops.not_equal(self, other)

    def __and__(self, other: Value) -> Tensor:
        return ops.logical_and(_mask(self), _mask(other))

    def __rand__(self, other: Value) -> Tensor:
        return ops.logical_and(_mask(other), _mask(self))

    def __or__(self, other: Value) -> Tensor:
        return ops.logical_or(_mask(self), _mask(other))

    def __ror__(self, other: Value) -> Tensor:
        return ops.logical_or(_mask(other), _mask(self))

    def __invert__(self) -> Tensor:
        return ops.logical_not(_mask(self))

    # == compares entries, so identity is what a dict or set goes by.
    __hash__ = object.__hash__

    def __getitem__(self, index: Any) -> Tensor:
        pattern, arrays = split_index(index, self.shape)
        if arrays:
            return ops.take(self, *arrays, pattern=pattern)
        return ops.slice_(self, index=pattern)

    def take_along_axis(self, indices: Value, axis: int) -> Tensor:
        """For each entry of indices, the entry at that index along axis, as in NumPy."""
        indices = as_tensor(indices)
        grids = along_axis(self.shape, indices, axes_of(axis, self.ndim)[0])
        return ops.take(self, *grids, pattern=(ARRAY,) * self.ndim)

    # Element-wise functions

    def exp(self) -> Tensor:
        return ops.exp(self)

    def expm1(self) -> Tensor:
        return ops.expm1(self)

    def log(self) -> Tensor:
        return ops.log(self)

    def log1p(self) -> Tensor:
        return ops.log1p(self)

    def sqrt(self) -> Tensor:
        return ops.sqrt(self)

    def square(self) -> Tensor:
        return ops.pow_(self, exponent=2)

    def pow(self, exponent: Value) -> Tensor:
        return self**exponent

    def sin(self) -> Tensor:
        return ops.sin(self)

    def cos(self) -> Tensor:
        return ops.cos(self)

    def tanh(self) -> Tensor:
        return ops.tanh(self)

    def sigmoid(self) -> Tensor:
        return ops.sigmoid(self)

    def erf(self) -> Tensor:
        return ops.erf(self)

    def abs(self) -> Tensor:
        return ops.abs_(self)

    def sign(self) -> Tensor:
        return ops.sign(self)

    def floor(self) -> Tensor:
        return ops.floor(self)

    def round(self) -> Tensor:
        return ops.round_(self)

    def relu(self) -> Tensor:
        """max(x, 0); the gradient at 0 is 0."""
        return ops.relu(self)

    def clamp(self, min: int | float | None = None, max: int | float | None = None) -> Tensor:  # type: ignore[valid-type]
        """Limit to [min, max]; the gradient at a limit is 1, as in PyTorch."""
        return ops.clamp(self, low=_limit(min), high=_limit(max))

    def clamp_min(self, min: int | float) -> Tensor:  # type: ignore[valid-type]
        return ops.clamp(self, low=_limit(min), high=None)

    def clamp_max(self, max: int | float) -> Tensor:  # type: ignore[valid-type]
        return ops.clamp(self, low=None, high=_limit(max))

    def maximum(self, other: Value) -> Tensor:
        return ops.maximum(self, other)

    def minimum(self, other: Value) -> Tensor:
        return ops.minimum(self, other)

    def where(self, condition: Value, other: Value) -> Tensor:
        """This tensor where condition is true, other elsewhere (PyTorch's order)."""
        return ops.where(condition, self, other)

    def masked_fill(self, mask: Value, value: Value) -> Tensor:
        """Value where mask is true, this tensor elsewhere."""
        return ops.where(mask, value, self)

    def isnan(self) -> Tensor:
        return ops.not_equal(self, self)

    def isfinite(self) -> Tensor:
        return ops.less(ops.abs_(self), math.inf)

    def all(self) -> Tensor:
        """Whether every entry is true."""
        return ops.amin(self != 0) if self.size else Tensor(True)

    def any(self) -> Tensor:
        """Whether some entry is true."""
        return ops.amax(self != 0) if self.size else Tensor(False)

    # Reductions

    def sum(self, axis: Axis = None, keepdims: bool = False) -> Tensor:
        return ops.sum_(self, axis=axis, keepdims=keepdims)

    def mean(self, axis: Axis = None, keepdims: bool = False) -> Tensor:
        """The mean; over nothing it is an error."""
        return ops.mean(self, axis=axis, keepdims=keepdims)

    def var(self, axis: Axis = None, correction: int = 1, keepdims: bool = False) -> Tensor:
        """The variance: squared deviations over n - correction (PyTorch's default, unbiased)."""
        count = reduced_count(self.shape, axis)
        if count <= correction:
            raise ShapeError(
                f"var over axis {axis} of shape {self.shape}: {count} entries leave no degree of "
                f"freedom with correction={correction}"
            )
        deviation = self - self.mean(axis, keepdims=True)
        freedom = size_of(self, axis) - correction
        var: Tensor = (deviation * deviation).sum(axis, keepdims) / freedom
        return var

    def std(self, axis: Axis = None, correction: int = 1, keepdims: bool = False) -> Tensor:
        """The root of `var`. Where it is 0 so is its gradient, as in PyTorch."""
        var = self.var(axis, correction, keepdims)
        # The root of 1 stands in where the variance is 0: 0 * inf would be NaN.
        still = var == 0
        return ops.where(still, 0.0, ops.where(still, 1.0, var).sqrt())

    def amax(self, axis: Axis = None, keepdims: bool = False) -> Tensor:
        """The largest entry; ties share the gradient."""
        return ops.amax(self, axis=axis, keepdims=keepdims)

    def amin(self, axis: Axis = None, keepdims: bool = False) -> Tensor:
        """The smallest entry; ties share the gradient."""
        return ops.amin(self, axis=axis, keepdims=keepdims)

    def max(self, axis: int | None = None, keepdims: bool = False) -> Tensor:
        """The largest entry. Along an axis the first of equal ones gets the gradient, over all
        entries ties share it: as PyTorch's `max` does. Only values, as in NumPy.
        """
        if axis is None:
            return ops.amax(self, axis=None, keepdims=keepdims)
        picked = self.take_along_axis(ops.argmax(self, axis=axis, keepdims=True), axis)
        return picked if keepdims else picked.squeeze(axis)

    def min(self, axis: int | None = None, keepdims: bool = False) -> Tensor:
        """The smallest entry; ties as in `max`."""
        if axis is None:
            return ops.amin(self, axis=None, keepdims=keepdims)
        picked = self.take_along_axis(ops.argmin(self, axis=axis, keepdims=True), axis)
        return picked if keepdims else picked.squeeze(axis)

    def argmax(self, axis: int | None = None, keepdims: bool = False) -> Tensor:
        """The index of the first largest entry."""
        return ops.argmax(self, axis=axis, keepdims=keepdims)

    def argmin(self, axis: int | None = None, keepdims: bool = False) -> Tensor:
        """The index of the first smallest entry."""
        return ops.argmin(self, axis=axis, keepdims=keepdims)

    def cumsum(self, axis: int) -> Tensor:
        """Running sums along an axis."""
        return ops.cumsum(self, axis=axis)

    def logsumexp(self, axis: Axis = -1, keepdims: bool = False) -> Tensor:
        """log(sum(exp(x))), stable: the largest entry is taken out first."""
        largest = self.amax(axis, keepdims=True).detach()
        largest = ops.where(largest.isfinite(), largest, 0.0)  # inf - inf would be NaN
        total = (self - largest).exp().sum(axis, keepdims=True).log() + largest
        if keepdims:
            return total
        return total.reshape(
            tuple(n for i, n in enumerate(self.shape) if i not in axes_of(axis, self.ndim))
        )

    def softmax(self, axis: int = -1) -> Tensor:
        """exp(x) / sum(exp(x)) along an axis, stable."""
        return ops.softmax(self, axis=axis)

    def log_softmax(self, axis: int = -1) -> Tensor:
        """The logarithm of `softmax`, without forming it."""
        return ops.log_softmax(self, axis=axis)

    # Shapes

    @property
    def T(self) -> Tensor:
        """All axes reversed."""
        return ops.transpose(self, axes=_REVERSED[self.array.ndim])

    @property
    def mT(self) -> Tensor:
        """The last two axes swapped."""
        return self.transpose(-2, -1)

    def t(self) -> Tensor:
        """The transpose of a matrix."""
        if self.ndim > 2:
            raise ShapeError(f"t() is for matrices; this tensor has shape {self.shape}")
        return self.T

    def transpose(self, axis0: int, axis1: int) -> Tensor:
        """Two axes swapped, as in PyTorch."""
        axes = list(range(self.ndim))
        a, b = (axes_of(axis, self.ndim)[0] for axis in (axis0, axis1))
        axes[a], axes[b] = axes[b], axes[a]
        return ops.transpose(self, axes=tuple(axes))

    def permute(self, *axes: Any) -> Tensor:
        """The axes in the given order: `permute(2, 0, 1)` or `permute((2, 0, 1))`."""
        order = lengths(axes)
        if sorted(a % self.ndim if self.ndim else a for a in order) != list(range(self.ndim)):
            raise ShapeError(f"permute{order}: give each axis of shape {self.shape} once")
        return ops.transpose(self, axes=tuple(a % self.ndim for a in order))

    def reshape(self, *shape: Any) -> Tensor:
        """The same entries in another shape; one length may be -1."""
        target = lengths(shape)
        if -1 in target:
            known = math.prod(n for n in target if n != -1)
            if target.count(-1) > 1 or known == 0 or self.size % known:
                raise ShapeError(f"reshape: shape {self.shape} does not fit into {target}")
            target = tuple(self.size // known if n == -1 else n for n in target)
        if target == self.shape:
            return self
        if math.prod(target) != self.size:
            raise ShapeError(
                f"reshape: {self.shape} has {self.size} entries, {target} has {math.prod(target)}"
            )
        return ops.reshape(self, shape=target)

    def view(self, *shape: Any) -> Tensor:
        """PyTorch's name for `reshape`."""
        return self.reshape(*shape)

    def flatten(self, start: int = 0, end: int = -1) -> Tensor:
        """The axes from start to end (inclusive) made one."""
        if not self.ndim:
            return self.reshape(1)
        first, last = (axes_of(axis, self.ndim)[0] for axis in (start, end))
        if first > last:
            raise ShapeError(f"flatten({start}, {end}) of shape {self.shape}: start is after end")
        middle = math.prod(self.shape[first : last + 1])
        return self.reshape(*self.shape[:first], middle, *self.shape[last + 1 :])

    def squeeze(self, axis: Axis = None) -> Tensor:
        """Without axes of length 1: all of them, or the ones named (others stay, as in PyTorch)."""
        axes = axes_of(axis, self.ndim)
        return self.reshape(
            tuple(n for i, n in enumerate(self.shape) if not (i in axes and n == 1))
        )

    def unsqueeze(self, axis: int) -> Tensor:
        """With a new axis of length 1 at a position."""
        (at,) = axes_of(axis, self.ndim + 1)
        return ops.reshape(self, shape=(*self.shape[:at], 1, *self.shape[at:]))

    def expand(self, *shape: Any) -> Tensor:
        """Broadcast to a shape (a read-only view); -1 keeps a length."""
        target = lengths(shape)
        if len(target) < self.ndim:
            raise ShapeError(f"expand: {target} has fewer axes than shape {self.shape}")
        own = (1,) * (len(target) - self.ndim) + self.shape
        target = tuple(o if n == -1 else n for o, n in zip(own, target, strict=True))
        return self if target == self.shape else ops.expand(self, shape=target)

    def flip(self, *axes: Any) -> Tensor:
        """The entries in reverse order along the given axes."""
        flipped = axes_of(lengths(axes), self.ndim)
        return self[tuple(slice(None, None, -1 if i in flipped else 1) for i in range(self.ndim))]

    def split(self, size: int | Sequence[int], axis: int = 0) -> list[Tensor]:
        """Pieces along an axis: of a size each (the last may be smaller), or of given sizes."""
        (at,) = axes_of(axis, self.ndim)
        n = self.shape[at]
        if not isinstance(size, Sequence):
            size = operator.index(size)
            if size < 1:
                raise ShapeError(f"split: the size of a piece is at least 1, not {size}")
            sizes = [min(size, n - start) for start in range(0, n, size)]
        else:
            sizes = list(size)
            if sum(sizes) != n or min(sizes, default=0) < 0:
                raise ShapeError(f"split: sizes {sizes} do not add up to {n} (axis {axis})")
        pieces, start = [], 0
        for s in sizes:
            pieces.append(self[(slice(None),) * at + (slice(start, start + s),)])
            start += s
        return pieces


class Parameter(Tensor):
    """A tensor that an optimizer updates: it requires a gradient unless told otherwise.

    Floating-point data is held, not copied; a Tensor's data is shared.
    """

    __slots__ = ()

    def __init__(self, data: Value, requires_grad: bool = True, dtype: npt.DTypeLike | None = None):
        super().__init__(data, requires_grad, dtype)


class Buffer(Tensor):
    """A tensor that belongs to a module's state but is not learnt, such as a running mean."""

    __slots__ = ()


base.Tensor = Tensor

# Stand in `_g` for a gradient that a compiled step computed and did not keep; APPLIED if the step
# updated the tensor, too.
NOT_KEPT = Tensor.of(np.empty(0, np.float32))
APPLIED = Tensor.of(np.empty(0, np.float32))


def refuse_old_gradient(tensor: Tensor) -> None:
    """Raise for a gradient that a compiled step did not keep, or a recorded one did not make."""
    if tensor._g is NOT_KEPT or tensor._g is APPLIED:
        raise GradientError(
            f"the gradient of a tensor of shape {tensor.shape} was computed in a compiled step, "
            "which did not keep it: return it from the step (return loss, w.g), or compile with "
            "keep_gradients=True"
        )
    if state.recorder is not None and tensor._g is not None:
        state.recorder.refuse_unknown_gradient(tensor)


# The axes of n dimensions in reverse, for every n that NumPy has.
_REVERSED = tuple(tuple(range(n))[::-1] for n in range(65))


def as_array(data: Value, dtype: npt.DTypeLike | None = None) -> Array:
    """The NumPy array of a value: float32 from Python floats, an array's own dtype otherwise."""
    if isinstance(data, Tensor):
        array = data.array
    elif isinstance(data, np.ndarray | np.generic):
        array = np.asarray(data)
    else:
        try:
            array = np.asarray(data)
        except ValueError as error:
            raise ShapeError(f"not an array: {error}") from error
        if array.dtype is FLOAT64 and dtype is None:
            dtype = FLOAT32
    if array.dtype.kind not in "biufc":
        raise DtypeError(
            f"a Tensor holds numbers; this is {array.dtype} ({type(data).__name__}): {data!r:.80}"
        )
    if dtype is not None and array.dtype != dtype:
        with base.quiet():
            array = array.astype(dtype)
    # Of NumPy's equal dtypes there is one that ops know by identity; pickles have another.
    own = np.dtype(array.dtype.type)
    return array.view(own) if array.dtype == own and array.dtype is not own else array


def as_tensor(value: Value) -> Tensor:
    """The value itself if it is a Tensor, else a Tensor that holds it."""
    return value if isinstance(value, Tensor) else Tensor(value)


def _limit(value: Any) -> Any:
    """A limit of clamp: a Python number or None."""
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, Tensor | np.ndarray):
        raise DtypeError(
            f"clamp's limits are numbers; this one has shape {value.shape}: use x.maximum(low) "
            "and x.minimum(high), through which its gradient flows too"
        )
    return value


def _mask(value: Value) -> Tensor:
    """An operand of &, | or ~: booleans, for the bits of integers are another matter."""
    value = as_tensor(value)
    if value.dtype != np.bool_:
        raise DtypeError(f"& | ~ take booleans; this is {value.dtype}: compare first, as in x != 0")
    return value


def lengths(args: tuple[Any, ...]) -> tuple[int, ...]:
    """The integers of `f(2, 3)` or of `f((2, 3))`."""
    if len(args) == 1 and isinstance(args[0], tuple | list):
        args = tuple(args[0])
    try:
        return tuple(operator.index(a) for a in args)
    except TypeError:
        raise ShapeError(f"lengths and axes are integers, not {args}") from None


# The NumPy functions that work on Tensors as they do on arrays.
_UFUNCS: dict[np.ufunc, Callable[..., Tensor]] = {
    np.add: ops.add,
    np.subtract: ops.sub,
    np.multiply: ops.mul,
    np.true_divide: ops.div,
    np.matmul: ops.matmul,
    np.power: ops.power,
    np.negative: ops.neg,
    np.exp: ops.exp,
    np.expm1: ops.expm1,
    np.log: ops.log,
    np.log1p: ops.log1p,
    np.sqrt: ops.sqrt,
    np.square: Tensor.square,
    np.sin: ops.sin,
    np.cos: ops.cos,
    np.tanh: ops.tanh,
    np.absolute: ops.abs_,
    np.sign: ops.sign,
    np.floor: ops.floor,
    np.maximum: ops.maximum,
    np.minimum: ops.minimum,
    np.less: ops.less,
    np.less_equal: ops.less_equal,
    np.greater: ops.greater,
    np.greater_equal: ops.greater_equal,
    np.equal: ops.equal,
    np.not_equal: ops.not_equal,
    np.logical_and: ops.logical_and,
    np.logical_or: ops.logical_or,
    np.logical_not: ops.logical_not,
    np.bitwise_and: lambda x, y: as_tensor(x) & y,
    np.bitwise_or: lambda x, y: as_tensor(x) | y,
    np.invert: Tensor.__invert__,
}
