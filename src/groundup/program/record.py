"""Recording: run a step once, eagerly, and write down every op as a Program.

Values are told apart by the NumPy array that holds them, so it does not matter which Tensor (an
alias in a `bwd`, a detached one) an array comes in.
"""

from __future__ import annotations

import inspect
import linecache
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import CodeType, FrameType
from typing import Any, NoReturn

import numpy as np

import groundup
from groundup import ops
from groundup.errors import GradientError, GroundupError, RecordError, ShapeError
from groundup.nn import Module
from groundup.nn.step import mapped, tensors_in
from groundup.ops import Op
from groundup.ops.base import Array, Axis, Number, constant, quiet, state
from groundup.optim import Optimizer
from groundup.program.names import Hint, given_names
from groundup.program.passes import simplify as simplified
from groundup.program.program import Equation, Input, Program, Var
from groundup.program.surroundings import Surroundings
from groundup.tensor import NOT_KEPT, Buffer, Parameter, Tensor

_HERE = os.path.dirname(groundup.__file__) + os.sep
_NAMED_WITHIN = tuple(_HERE + f"nn{os.sep}{f}.py" for f in ("layers", "losses"))


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


# Where the compiled step finds an input, by role.


@dataclass
class FromArgument:
    index: int  # among the leaves of the arguments


@dataclass
class FromTensor:
    tensor: Tensor
    array: Array


@dataclass
class FromSetting:
    """A number that an object holds: `holder[key]`, or `holder[key][index]`."""

    holder: dict[str, Any]
    key: str
    index: int | None

    def now(self) -> float:
        """Its value now."""
        found = self.holder[self.key]
        return float(found if self.index is None else found[self.index])


@dataclass
class FromCount:
    """How many updates an optimizer counted for some parameters, always the same for all."""

    optimizer: Optimizer
    members: list[int]


@dataclass
class Recording:
    """A Program, and where its inputs live."""

    program: Program
    sources: dict[str, Any]
    result: Any  # what the step returned
    updated: dict[str, FromTensor]
    gradients: list[tuple[Tensor | int, str]]  # tensors (or arguments) whose .g the step set
    steps: dict[int, tuple[Optimizer, int]]
    truths: list[tuple[FromSetting, bool]]
    surroundings: Surroundings
    constants: dict[str, Array]


class Recorded(Number):
    """A Python number while a step is recorded: it computes, and what it computes is written down."""

    __array_ufunc__ = None  # a NumPy array must not take it for an object
    __slots__ = ("node", "recorder", "setting", "value")

    def __init__(self, recorder: Recorder, value: float, node: Value, setting: Any = None):
        self.recorder, self.value, self.node, self.setting = recorder, value, node, setting

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
            self._refuse("`if` or bool()")
        self.recorder.truths.append((self.setting, bool(self.value)))
        return bool(self.value)

    def _refuse(self, how: str) -> NoReturn:
        self.recorder.refuse(how, None)

    def __float__(self) -> float:
        self._refuse("float(), or a function of the math module,")

    def __int__(self) -> int:
        self._refuse("int()")

    def __index__(self) -> int:
        self._refuse("use as a count or index")

    def __eq__(self, other: object) -> bool:
        self._refuse("a comparison")

    def __lt__(self, other: Any) -> bool:
        self._refuse("a comparison")

    __gt__ = __le__ = __ge__ = __lt__
    __hash__ = object.__hash__

    def __repr__(self) -> str:
        return f"<number {self.value!r} of a recorded step>"


class Recorder:
    """Writes down what runs; `groundup.ops.base.state.recorder` while it does."""

    def __init__(self) -> None:
        self.lines: list[Line] = []
        self.given: list[Given] = []
        self.sources: dict[int, Any] = {}  # by id of the Value
        self.values: dict[int, Any] = {}  # Value or number, by id of the array
        self.alive: list[Any] = []  # what ids stand for
        self.phase, self.module = "forward", ""
        self.depth = 0
        self.paths: dict[int, str] = {}  # of modules and parameters, by id
        self.names: dict[int, str] = {}  # of tensors and arrays around the step, by id
        self.kept_arrays: set[int] = set()
        self.stale: dict[int, str] = {}
        self.writes: dict[int, FromTensor] = {}  # by id of the array
        self.before: list[tuple[Array, Array]] = []  # arrays that were written, as they were
        self.gradients: list[tuple[Tensor, Any]] = []
        self.steps: dict[int, tuple[Optimizer, int]] = {}
        self.truths: list[tuple[FromSetting, bool]] = []
        self.counters: list[Counter] = []
        self.numbers: dict[Any, Any] = {}
        self.constants: dict[int, Array] = {}
        self.updating_now: list[tuple[Optimizer, dict[str, Any]]] = []

    # Ops

    def record(self, op: Op, args: tuple[Any, ...], attrs: dict[str, Any], out: Tensor) -> None:
        """Write down an op that ran."""
        ins = tuple(self.operand(a) for a in args)
        array = out.array
        if op.is_check:
            self._write(None, op.name, ins, attrs)
            return
        if any(isinstance(a, Tensor) and a.array is array for a in args):
            return  # the same value
        if any(not isinstance(i, Value) for i in ins) and not self._as_numbers(op, ins, attrs, out):
            ins = tuple(
                i if isinstance(i, Value) else self._typed(i, a)
                for i, a in zip(ins, args, strict=True)
            )
        self.bind(array, self._write(array, op.name, ins, attrs))

    def _write(
        self, array: Array | None, op: str, ins: tuple[Any, ...], attrs: dict[str, Any]
    ) -> Value | None:
        out = None if array is None else Value(array.shape, str(array.dtype), module=self.module)
        packed = tuple(sorted((k, _fixed(v)) for k, v in attrs.items()))
        taped = state.recording and self.phase == "forward"
        self.lines.append(Line(out, op, ins, packed, self.phase, self.module, taped))
        return out

    def bind(self, array: Array, value: Any) -> None:
        """An array holds a value from now on."""
        self.values[id(array)] = value
        self.stale.pop(id(array), None)
        self.alive.append(array)

    def alias(self, new: Array, old: Array) -> None:
        """An array is a copy of another."""
        if id(old) in self.values:
            self.bind(new, self.values[id(old)])

    def operand(self, arg: Any) -> Any:
        """What an argument of an op is: a Value, or a Python number."""
        if not isinstance(arg, Tensor):
            return arg
        key = id(arg.array)
        if key in self.stale:
            raise RecordError(
                f"{self.where()}: {self.stale[key]}. A Program would use the old entries, the eager "
                "step the new ones: take the view again after the update"
            )
        found = self.values.get(key)
        return self.outside(arg) if found is None else found

    def value_of(self, tensor: Tensor) -> Value:
        """The Value of a tensor."""
        found = self.operand(tensor)
        if isinstance(found, Value):
            return found
        made = self._typed(found, tensor)
        self.bind(tensor.array, made)
        return made

    def _as_numbers(self, op: Op, ins: tuple[Any, ...], attrs: dict[str, Any], out: Tensor) -> bool:
        """Whether the op makes the same dtype of Python numbers as of the arrays made of them."""
        given = [(np.dtype(i.dtype), len(i.shape)) if isinstance(i, Value) else i for i in ins]
        if not any(isinstance(i, Value) for i in ins):
            return False
        try:
            return bool(op.dtype(*given, **attrs) == out.array.dtype)
        except (OverflowError, TypeError, ValueError, GroundupError):
            return False

    def _typed(self, number: Any, tensor: Any) -> Value:
        """A number as an array."""
        dtype = tensor.array.dtype if isinstance(tensor, Tensor) else np.dtype(np.float32)
        made = np.array(number, dtype)
        value = self._write(made, "full", (), {"shape": (), "value": made.item(), "dtype": dtype})
        assert value is not None
        return value

    # What was there before

    def argument(self, array: Array, name: str, index: int) -> None:
        """An argument of the step."""
        value = Value(array.shape, str(array.dtype), [Hint(0, name)])
        if id(array) in self.values:
            raise RecordError(f"two arguments of the step are one array ({name}): pass a copy")
        self.bind(array, value)
        self._give(Given(value, "argument", name), FromArgument(index))

    def _give(self, given: Given, source: Any) -> None:
        self.given.append(given)
        self.sources[id(given.value)] = source

    def outside(self, tensor: Tensor) -> Any:
        """A tensor that the step found: a parameter, state, or a constant."""
        tensor, array = tensor.origin, tensor.array
        base = array
        while isinstance(base.base, np.ndarray):
            base = base.base
            if isinstance(self.values.get(id(base)), Value) and id(array) not in self.kept_arrays:
                raise RecordError(
                    f"{self.where()}: an array of shape {array.shape} was made from a tensor's own "
                    "array behind the recorder's back: use Tensor operations"
                )
        name = self.names.get(id(tensor)) or self.names.get(id(array), "")
        path = self.paths.get(id(tensor), "")
        known = isinstance(tensor, Parameter | Buffer) or tensor.requires_grad
        if not known and id(array) not in self.kept_arrays and not path:
            return self._constant(array)
        role = "parameter" if isinstance(tensor, Parameter) or tensor.requires_grad else "captured"
        value = Value(array.shape, str(array.dtype), [Hint(0, name)] if name.isidentifier() else [])
        self.bind(array, value)
        self._give(Given(value, role, path or name), FromTensor(tensor, array))
        return value

    def _constant(self, array: Array) -> Any:
        """An array that the step made, of nothing that the recorder knows: it becomes a constant."""
        if array.dtype.kind in "iu" and array.ndim == 1 and array.dtype == np.int64:
            n = len(array)
            if n and np.array_equal(array, np.arange(n)):
                value = self._write(array, "arange", (), {"shape": (n,)})
                self.bind(array, value)
                return value
        if array.size and array.dtype.kind in "biuf" and (array == array.flat[0]).all():
            attrs = {"shape": array.shape, "value": array.flat[0].item(), "dtype": array.dtype}
            value = self._write(array, "full", (), attrs)
        elif array.size <= 64 and array.dtype.kind in "biuf":
            attrs = {"entries": _nested(array.tolist()), "dtype": array.dtype}
            value = self._write(array, "array", (), attrs)
        else:
            value = Value(array.shape, str(array.dtype))
            self.constants[id(value)] = array.copy()
            self._give(Given(value, "captured"), FromTensor(Tensor.of(array), array))
        self.bind(array, value)
        return value

    def made_constant(self, value: Any, made: Tensor) -> None:
        """A Tensor was made of an op's plain argument."""
        if isinstance(value, np.generic):
            value = value.item()
        if isinstance(value, bool | int | float):
            self.bind(made.array, value)
        elif isinstance(value, np.ndarray) and value is not made.array:
            self._converted(value, made)

    def _converted(self, array: Array, made: Tensor) -> None:
        source = self.operand(Tensor.of(array))
        self.bind(made.array, self._write(made.array, "cast", (source,), {"dtype": made.array.dtype}))

    def plain(self, data: Any, dtype: Any) -> Any:
        """What a new Tensor is made of: the data itself, converted by an op if need be."""
        if isinstance(data, Recorded):
            return data.as_tensor(np.dtype(dtype or np.float32))
        if isinstance(data, np.ndarray) and dtype is not None and data.dtype != dtype:
            data = Tensor.of(data)
        if isinstance(data, Tensor) and dtype is not None:
            return data.cast(dtype)
        return data

    # State

    def assign(self, tensor: Tensor, value: Any) -> Tensor:
        """`tensor.assign(value)`: the value, as a Tensor of the tensor's dtype."""
        self.value_of(tensor)
        array = tensor.array
        new = value if isinstance(value, Tensor) else constant(value, (tensor,))
        if new.shape != tensor.shape:
            return new  # the caller refuses it
        if new.dtype != tensor.dtype:
            new = new.cast(tensor.dtype)
        result = self.value_of(new)
        if id(array) not in self.writes:
            self.before.append((array, array.copy()))
            self.writes[id(array)] = FromTensor(tensor.origin, array)
        for other in self.alive:
            if isinstance(other, np.ndarray) and other is not array and id(other) in self.values:
                if other.dtype != array.dtype or not np.may_share_memory(other, array):
                    continue
                self.stale[id(other)] = (
                    f"a view of shape {other.shape} was taken of a tensor of shape {array.shape} "
                    "before that was updated, and used after"
                )
        self.values[id(array)] = result
        return new

    # Numbers

    def size(self, x: Tensor, axis: Axis, count: int) -> Recorded:
        """The number of entries of x along axes."""
        value = self.value_of(x)
        key = ("size", id(value), axis)
        if key not in self.numbers:
            node = self._number_line("size", (value,), {"axis": axis}, "int")
            self.numbers[key] = Recorded(self, count, node)
        return self.numbers[key]  # type: ignore[no-any-return]

    def _number_line(self, op: str, ins: tuple[Any, ...], attrs: dict[str, Any], kind: str) -> Value:
        node = Value((), kind, module=self.module)
        packed = tuple(sorted((k, _fixed(v)) for k, v in attrs.items()))
        self.lines.append(Line(node, op, ins, packed, self.phase, self.module, False))
        return node

    def number(self, op: str, args: tuple[Any, ...], result: float) -> Recorded:
        """Arithmetic on Python numbers."""
        ins = tuple(a.node if isinstance(a, Recorded) else a for a in args)
        key = (op, *(id(i) if isinstance(i, Value) else (type(i), i) for i in ins))
        if key not in self.numbers:
            kind = "int" if isinstance(result, int) else "float"
            made = Recorded(self, result, self._number_line(op, ins, {}, kind))
            self.numbers[key] = made
        return self.numbers[key]  # type: ignore[no-any-return]

    def number_as_tensor(self, number: Recorded, dtype: np.dtype[Any]) -> Tensor:
        """A number as it takes part in an op with tensors of a dtype."""
        key = ("tensor", id(number.node), dtype)
        if key not in self.numbers:
            with quiet():
                tensor = Tensor.of(np.array(number.value, dtype))
            value = self._write(tensor.array, "cast", (number.node,), {"dtype": dtype})
            self.bind(tensor.array, value)
            self.numbers[key] = tensor
        return self.numbers[key]  # type: ignore[no-any-return]

    def setting(self, source: Any, name: str, value: float, path: str) -> Recorded:
        """A number that is read anew at each call."""
        holder = source.holder if isinstance(source, FromSetting) else None
        key = ("setting", id(holder), name, getattr(source, "index", None))
        if key not in self.numbers:
            node = Value((), "float", [Hint(0, name)])
            self._give(Given(node, "setting", path, value), source)
            self.numbers[key] = Recorded(
                self, value, node, source if isinstance(source, FromSetting) else None
            )
        return self.numbers[key]  # type: ignore[no-any-return]

    def count(self, optimizer: Optimizer, i: int) -> Recorded:
        """`optimizer.count(i)`: the count as state, shared by the parameters that have the same."""
        before = optimizer.counts[i]
        optimizer.counts[i] += 1
        for counter in self.counters:
            if counter.optimizer is optimizer and i in counter.members:
                break
            if counter.optimizer is optimizer and counter.start == before:
                counter.members.append(i)
                break
        else:
            counter = Counter(optimizer, before, [i], Value((), "int64", [Hint(0, "t")]))
            self.counters.append(counter)
            path = f"count of {type(optimizer).__name__}"
            self._give(Given(counter.value, "state", path), FromCount(optimizer, counter.members))
            counter.latest = counter.value
        if counter.now == before:
            array = np.array(before + 1, np.int64)
            counter.latest = self._write(array, "add", (counter.latest, 1), {})
            counter.now += 1
            node = self._number_line("value", (counter.latest,), {}, "int")
            counter.number = Recorded(self, before + 1, node)
        if counter.now != before + 1:
            raise RecordError(
                f"{type(optimizer).__name__}: parameters that were updated equally often so far "
                "are updated differently often in this step"
            )
        assert counter.number is not None
        return counter.number

    # Where in the step we are

    @contextmanager
    def backward(self) -> Iterator[None]:
        """A backward pass runs."""
        before = self.phase, self.module
        self.phase, self.module = "backward", ""
        try:
            yield
        finally:
            self.phase, self.module = before

    def backward_of(self, out: Tensor, gradient: Tensor) -> None:
        """A step of the backward pass begins: the bwd of what made `out`."""
        node = out.node
        module = getattr(node, "module", None)
        made = self.values.get(id(out.array))
        if isinstance(module, Module):
            self.module = self.label(module)
        elif isinstance(made, Value):
            self.module = made.module
        self._gradient_hint(out, gradient)

    def _gradient_hint(self, tensor: Tensor, gradient: Tensor) -> None:
        value, of = self.values.get(id(gradient.array)), self.values.get(id(tensor.array))
        if isinstance(value, Value) and isinstance(of, Value):
            value.hints.append(Hint(1, "d", of))

    def left_gradient(self, tensor: Tensor, gradient: Tensor) -> None:
        """Backward left a gradient in `tensor.g`."""
        self._gradient_hint(tensor, gradient)
        self.gradients.append((tensor, self.values.get(id(gradient.array))))

    def refuse_unknown_gradient(self, tensor: Tensor) -> None:
        """Refuse to read a gradient from before the step."""
        assert tensor._g is not None
        if id(tensor._g.array) not in self.values:
            raise RecordError(
                f"{self.where()}: the gradient of a tensor of shape {tensor.shape} was computed "
                "before the step that is being recorded: call backward() within the step (to add "
                "up gradients of several batches, keep the sums in Tensors of your own)"
            )

    @contextmanager
    def updating(self, optimizer: Optimizer) -> Iterator[None]:
        """An optimizer's step runs: its numbers become settings of the Program."""
        held, kind = vars(optimizer), type(optimizer).__name__
        lifted: dict[str, Any] = {}
        for name, v in list(held.items()):
            path = f"{name} of {kind}"
            if type(v) is float or (name == "lr" and isinstance(v, int | np.generic)):
                source = FromSetting(held, name, None)
                lifted[name] = self.setting(source, name, float(v), path)
            elif isinstance(v, tuple) and v and all(type(x) is float for x in v):
                lifted[name] = tuple(
                    self.setting(FromSetting(held, name, i), f"{name.rstrip('s')}{i + 1}", x, path)
                    for i, x in enumerate(v)
                )
        original = {name: held[name] for name in lifted}
        held.update(lifted)
        before = self.phase, self.module
        self.phase, self.module = "update", ""
        self.updating_now.append((optimizer, original))
        self._name_state(optimizer)
        known, count = self.steps.get(id(optimizer), (optimizer, 0))
        self.steps[id(optimizer)] = known, count + 1
        try:
            yield
            changed = [name for name, number in lifted.items() if held[name] is not number]
            if changed:
                raise RecordError(
                    f"{kind}.update changes its own {', '.join(changed)}, which a Program reads as "
                    "a setting: change it outside of the step, or keep it in a Tensor"
                )
        finally:
            held.update(original)
            self.updating_now.pop()
            self.phase, self.module = before

    def _name_state(self, optimizer: Optimizer) -> None:
        for name, tensors in optimizer.state.items():
            for tensor, p in zip(tensors, optimizer.params, strict=False):
                self.paths.setdefault(id(tensor), f"{name} of {type(optimizer).__name__}")
                if id(tensor.array) not in self.values:
                    value = self.outside(tensor)
                    value.hints.append(Hint(0, f"{name}_", self.value_of(p)))

    # Modules

    def call(self, module: Module, run: Callable[[], Any]) -> Any:
        """Run a module's call under its label."""
        if self.phase != "forward":
            return run()
        if self.depth == 0:
            self.enter_root(module)
        outer, self.module = self.module, self.label(module)
        self.depth += 1
        try:
            out = run()
        finally:
            self.module = outer
            self.depth -= 1
        for tensor in tensors_in([out]):
            value = self.values.get(id(tensor.array))
            if isinstance(value, Value):
                value.hints.append(Hint(3, self._output_name(module, tensor)))
        return out

    def enter_root(self, module: Module) -> None:
        """Learn the paths of a model's members."""
        name = self.names.get(id(module), "")
        others = {p for p in self.paths.values() if p}
        taken = any(path in others for path, _ in module.named_members())
        prefix = f"{name}." if taken and name.isidentifier() else ""
        self.paths.setdefault(id(module), name if prefix else "")
        for path, member in module.named_members():
            self.paths.setdefault(id(member), prefix + path)
            self.alive.append(member)

    def label(self, module: Module) -> str:
        """How comments call a module: "layers[0] Linear"."""
        path, kind = self.paths.get(id(module), ""), type(module).__name__
        return f"{_indexed(path)} {kind}" if path else kind

    def _output_name(self, module: Module, out: Tensor) -> str:
        path = self.paths.get(id(module), "")
        if self.depth == 0:
            return "loss" if not out.shape else "out"
        last = path.rsplit(".", 1)[-1]
        return last if last.isidentifier() else "h#"

    # Refusing

    def where(self) -> str:
        """The user's line that is running."""
        frame: FrameType | None = sys._getframe(1)
        while frame is not None and frame.f_code.co_filename.startswith(_HERE):
            frame = frame.f_back
        if frame is None:
            return "the step"
        code, line = frame.f_code, frame.f_lineno
        text = linecache.getline(code.co_filename, line).strip()
        return f"{code.co_filename}:{line}, in {code.co_name}" + (f": `{text}`" if text else "")

    def refuse(self, how: str, tensor: Tensor | None) -> NoReturn:
        """Refuse to give out a value."""
        what = "a number" if tensor is None else f"a tensor of shape {tensor.shape}"
        raise RecordError(
            f"{self.where()}: {how} reads the value of {what} while the step is being recorded. The "
            "Program would keep today's value for good. Compute with it as a Tensor (gu.where "
            "instead of if, tensor operations instead of NumPy's), or return it from the step and "
            "read it there"
        )

    def undo(self) -> None:
        """Put back what the step changed."""
        for array, copy in self.before:
            array[...] = copy
        for optimizer, n in self.steps.values():
            optimizer.steps -= n
        for counter in self.counters:
            for i in counter.members:
                counter.optimizer.counts[i] = counter.start

    # Names from the code's own variables

    def watch(self, function: Callable[..., Any]) -> Watch:
        """Notes the local variables of functions that return."""
        return Watch(self, getattr(function, "__code__", None))


@dataclass(eq=False)
class Counter:
    """A step count that some parameters share."""

    optimizer: Optimizer
    start: int
    members: list[int]
    value: Value
    latest: Any = None
    number: Recorded | None = None

    def __post_init__(self) -> None:
        self.now = self.start


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
        if not file.startswith(_HERE):
            return True
        return (file in _NAMED_WITHIN and code.co_name in ("forward", "bwd")) or (
            code.co_name == "update" and file.endswith("optim.py")
        )

    def _returned(self, frame: FrameType, began: int) -> None:
        recorder, code = self.recorder, frame.f_code
        local = frame.f_locals
        made = {id(line.out) for line in recorder.lines[began:]}
        own = not code.co_filename.startswith(_HERE)
        parameter = local.get("p") if code.co_name == "update" else None
        of = recorder.values.get(id(parameter.array)) if isinstance(parameter, Tensor) else None
        for name, value in local.items():
            if not isinstance(value, Tensor) or name in code.co_varnames[: code.co_argcount]:
                continue
            found = recorder.values.get(id(value.array))
            if isinstance(found, Value) and id(found) in made:
                hint = Hint(2 if own else 4, name)
                if isinstance(of, Value):
                    hint = Hint(4, f"{name}_", _first(of, recorder))
                found.hints.append(hint)


def _first(value: Value, recorder: Recorder) -> Value:
    """The parameter whose updated value this is, or the value itself."""
    for write in recorder.writes.values():
        if recorder.values.get(id(write.array)) is value:
            for given in recorder.given:
                source = recorder.sources[id(given.value)]
                if isinstance(source, FromTensor) and source.array is write.array:
                    return given.value
    return value


def record(fn: Callable[..., Any], *args: Any, simplify: bool = True, **kwargs: Any) -> Program:
    """Run a step once and return it as a Program.

    The step runs for real: parameters and state are updated, as by a call.

    Args:
        fn: a function over Tensors that does any of forward, backward and update, and returns a
            Tensor or a tuple, list or dict of Tensors.
        *args: its arguments: Tensors and arrays become arguments of the Program, floats become
            settings; anything else (ints, strings) is fixed.
        simplify: whether to take out what is not needed; False keeps every op, in order.
        **kwargs: the same by name.

    Raises:
        RecordError: the step reads a value, changes Python state, or depends on what cannot be
            recorded.

    """
    program = record_step(fn, args, kwargs).program
    return simplified(program) if simplify else program


def record_step(fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Recording:
    """Run a step under the recorder; on an exception everything is put back as it was."""
    if state.recorder is not None:
        raise RecordError("a step is being recorded already: call the function inside it itself")
    if state.sweep is not None:
        raise RecordError("a step cannot be recorded inside a bwd")
    around = Surroundings(fn)
    recorder = Recorder()
    recorder.names, recorder.kept_arrays = around.names, around.arrays
    given_args, given_kwargs = _entered(recorder, fn, args, kwargs)
    outer_gradients = {id(t): t._g for t in _tensors(around)}
    state.recorder = recorder
    try:
        with quiet(), recorder.watch(fn):
            result = fn(*given_args, **given_kwargs)
        state.recorder = None
        changed = [p for p in around.changes() if not _is_activation(p, recorder)]
        if changed:
            raise RecordError(_side_effect(changed))
        return _finished(recorder, fn, result, around)
    except BaseException:
        state.recorder = None
        recorder.undo()
        for tensor in _tensors(around):
            tensor._g = outer_gradients[id(tensor)]
        raise
    finally:
        state.recorder = None


def _tensors(around: Surroundings) -> list[Tensor]:
    return [t for t in around.found if isinstance(t, Tensor)]


def _is_activation(place: Any, recorder: Recorder) -> bool:
    """Whether a place holds a tensor that the step made: a layer that kept its output."""
    now = place.now()
    return (
        isinstance(now, Tensor)
        and id(now.array) in recorder.values
        and (place.value is None or isinstance(place.value, Tensor))
    )


def _side_effect(changed: list[Any]) -> str:
    shown = ", ".join(
        f"{p.where} ({p.value!r:.40} before, {p.now()!r:.40} after)" for p in changed[:4]
    )
    return (
        f"the step changes Python values while it runs: {shown}. A compiled step replays tensor "
        "operations only, so this would happen once and never again. Keep what changes in a Tensor "
        "(nn.Buffer, with assign), or return it from the step and change it outside"
    )


def _entered(
    recorder: Recorder, fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[list[Any], dict[str, Any]]:
    """The arguments as the step gets them, noted as the Program's."""
    counter = iter(range(1_000_000))

    def enter(value: Any, name: str) -> Any:
        if isinstance(value, np.ndarray | np.generic):
            value = Tensor(value)
        if isinstance(value, Tensor):
            if value.node is not None:
                raise RecordError(
                    f"argument {name} was computed by {value.node.name} outside of the step, and "
                    "gradients would flow there: detach it, or compute it in the step"
                )
            recorder.argument(value.array, name, next(counter))
            recorder.alive.append(value)
        elif type(value) is float:
            return recorder.setting(FromArgument(next(counter)), name, value, name)
        elif isinstance(value, tuple | list):
            parts = [enter(v, f"{name}{i + 1}") for i, v in enumerate(value)]
            return type(value)(*parts) if hasattr(value, "_fields") else type(value)(parts)
        elif isinstance(value, dict):
            return {k: enter(v, str(k) if str(k).isidentifier() else f"{name}_{i}")
                    for i, (k, v) in enumerate(value.items())}  # fmt: skip
        return value

    names = _argument_names(fn, len(args))
    return (
        [enter(a, n) for a, n in zip(args, names, strict=True)],
        {k: enter(v, k) for k, v in kwargs.items()},
    )


def _argument_names(fn: Callable[..., Any], count: int) -> list[str]:
    try:
        parameters = list(inspect.signature(fn).parameters.values())
    except (TypeError, ValueError):
        parameters = []
    names: list[str] = []
    for p in parameters:
        if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD):
            names.append(p.name)
        elif p.kind is p.VAR_POSITIONAL:
            names += [f"{p.name}{i + 1}" for i in range(count - len(names))]
    return (names + [f"x{i + 1}" for i in range(len(names), count)])[:count]


def _finished(
    recorder: Recorder, fn: Callable[..., Any], result: Any, around: Surroundings
) -> Recording:
    """The Program of what was recorded."""
    structure = _returned(recorder, result)
    for optimizer, _ in recorder.steps.values():
        for counter in recorder.counters:
            if counter.optimizer is optimizer and any(
                optimizer.counts[i] != counter.now for i in counter.members
            ):
                raise RecordError(f"{type(optimizer).__name__}: its counts went apart in this step")
    _phases(recorder)
    names = given_names(
        [g.value for g in recorder.given], recorder.lines, _parameter_names(recorder), fn.__name__
        if hasattr(fn, "__name__") and fn.__name__.isidentifier() else "step",
    )  # fmt: skip
    var = {key: Var(name, v.shape, v.dtype) for key, (name, v) in names.items()}
    arrays = {id(w.array): w for w in recorder.writes.values()}
    inputs, sources, updates, updated = [], {}, [], {}
    for given in recorder.given:
        source, own = recorder.sources[id(given.value)], var[id(given.value)]
        role = given.role
        if isinstance(source, FromTensor) and id(source.array) in arrays:
            role = "state" if role != "parameter" else role
            new = recorder.values[id(source.array)]
            updated[own.name] = source
            updates.append((own.name, new))
        inputs.append(Input(own, role, given.path, given.default))
        sources[own.name] = source
    counted = {id(c.value): c.latest for c in recorder.counters}
    updates += [(var[key].name, latest) for key, latest in counted.items()]
    order = {id(line.out): i for i, line in enumerate(recorder.lines) if line.out is not None}
    updates = [
        (name, var[id(new)].name)
        for name, new in sorted(updates, key=lambda u: order.get(id(u[1]), -1))
        if var[id(new)].name != name
    ]
    equations = tuple(
        Equation(
            None if line.out is None else var[id(line.out)],
            line.op,
            tuple(var[id(i)].name if isinstance(i, Value) else i for i in line.ins),
            line.attrs,
            line.phase,
            line.module,
        )
        for line in recorder.lines
    )
    outputs = mapped(structure, lambda value: var[id(value)].name, Value)
    name = getattr(fn, "__name__", "step")
    program = Program(
        name if name.isidentifier() else "step",
        tuple(sorted(inputs, key=lambda i: _ORDER.index(i.role))),
        equations,
        outputs,
        tuple(updates),
    ).verify()
    gradients: list[tuple[Tensor | int, str]] = []
    for tensor, value in recorder.gradients:
        own = recorder.values.get(id(tensor.array))
        source = next(
            (recorder.sources[id(g.value)] for g in recorder.given if g.value is own), None
        )
        place = source.index if isinstance(source, FromArgument) else tensor
        if isinstance(value, Value):
            gradients.append((place, var[id(value)].name))
    constants = {var[key].name: array for key, array in recorder.constants.items()}
    return Recording(
        program, sources, result, updated, gradients, dict(recorder.steps), recorder.truths,
        around, constants,
    )  # fmt: skip


_ORDER = ("argument", "parameter", "state", "captured", "setting")


def _returned(recorder: Recorder, result: Any) -> Any:
    """The step's result with a Value for each Tensor."""
    allowed = (Tensor, type(None), tuple, list, dict)

    def check(value: Any) -> None:
        if not isinstance(value, allowed):
            raise RecordError(
                f"the step returns {type(value).__name__} ({value!r:.40}): a compiled step returns "
                "Tensors, or tuples, lists and dicts of them"
            )
        if isinstance(value, tuple) and hasattr(value, "_fields"):
            raise RecordError("the step returns a named tuple: return a tuple or a dict")
        if isinstance(value, tuple | list | dict):
            for part in value.values() if isinstance(value, dict) else value:
                check(part)

    check(result)
    state.recorder = recorder
    try:
        return mapped(result, recorder.value_of)
    finally:
        state.recorder = None


def _phases(recorder: Recorder) -> None:
    """Ops outside of backward passes and optimizers that follow from a gradient are updates."""
    late: set[int] = set()
    for line in recorder.lines:
        follows = any(id(i) in late for i in line.ins if isinstance(i, Value))
        if line.phase == "forward" and not line.taped and follows:
            line.phase = "update"
        if line.out is not None and (line.phase != "forward" or (follows and not line.taped)):
            late.add(id(line.out))
    # What only updates use, such as `1 - decay`, is one, too.
    users: dict[int, list[Line]] = {}
    for line in recorder.lines:
        for i in line.ins:
            if isinstance(i, Value):
                users.setdefault(id(i), []).append(line)
    for line in reversed(recorder.lines):
        found = users.get(id(line.out), [])
        if line.phase == "forward" and found and all(u.phase == "update" for u in found):
            line.phase = "update"


def _parameter_names(recorder: Recorder) -> dict[int, str]:
    """The last part of each input's path, from which its name is made."""
    return {id(g.value): g.path for g in recorder.given}


def _fixed(value: Any) -> Any:
    """An attribute as a Program holds it: hashable, of Python's own types."""
    if isinstance(value, list | tuple):
        return tuple(_fixed(v) for v in value)
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, type) or isinstance(value, np.dtype):
        return np.dtype(value)
    return value


def _nested(entries: Any) -> Any:
    return tuple(_nested(e) for e in entries) if isinstance(entries, list) else entries


def _indexed(path: str) -> str:
    """`layers.0.fc` as `layers[0].fc`."""
    parts = path.split(".")
    return parts[0] + "".join(f"[{p}]" if p.isdigit() else f".{p}" for p in parts[1:])


_ = (GradientError, ShapeError, ops, NOT_KEPT)
