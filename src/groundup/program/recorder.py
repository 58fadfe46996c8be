"""The recorder: writes down every op of a step while it runs.

Values are told apart by the NumPy array that holds them, so it does not matter which Tensor (an
alias in a `bwd`, a detached one) an array comes in.
"""

from __future__ import annotations

import linecache
import math
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import Any

import numpy as np

from groundup.errors import GroundupError, RecordError
from groundup.nn import Module
from groundup.nn.step import tensors_in
from groundup.ops import Op, slice_
from groundup.ops.base import Array, Axis, constant, quiet, state
from groundup.optim import Optimizer
from groundup.program import numbers
from groundup.program.names import Hint
from groundup.program.numbers import Recorded
from groundup.program.program import OPS
from groundup.program.sources import FromArgument, FromCount, FromSetting, FromTensor
from groundup.program.values import Given, Line, Value
from groundup.program.watch import is_users
from groundup.tensor import Buffer, Parameter, Tensor

_NUMBERS = (__file__, numbers.__file__)


class Recorder:
    """Writes down what runs; `groundup.ops.base.state.recorder` while it does."""

    def __init__(self, frozen: bool = False) -> None:
        self.frozen = frozen  # the Program is for these values only, which may be read
        self.lines: list[Line] = []
        self.given: list[Given] = []
        self.sources: dict[int, Any] = {}  # by id of the Value
        self.values: dict[int, Any] = {}  # Value or number, by id of the array
        self.alive: list[Any] = []  # what ids stand for
        self.sharing: dict[
            int, list[Array]
        ] = {}  # arrays by id of the array that they are views of
        self.phase, self.module = "forward", ""
        self.batch = 0  # the length of the first argument
        self.detaches = False  # whether forward cut a gradient's way
        self.fixed_batch = False  # whether that length went into what does not follow it
        self.depth = 0
        self.paths: dict[int, str] = {}  # of modules and parameters, by id
        self.roots: dict[int, str] = {}  # names of the outermost modules, by id, in order
        self.root_of: dict[int, int] = {}  # which of them a member belongs to
        self.models: set[int] = set()  # the roots that have parameters or submodules
        self.names: dict[int, str] = {}  # of tensors and arrays around the step, by id
        self.kept_arrays: set[int] = set()
        self.stale: dict[int, str] = {}
        self.writes: dict[int, FromTensor] = {}  # by id of the array
        self.before: list[tuple[Array, Array]] = []  # arrays that were written, as they were
        self.gradients: list[tuple[Tensor, Any]] = []
        self.steps: dict[int, tuple[Array, int]] = {}  # the count of an optimizer's steps
        self.truths: list[tuple[FromSetting, bool]] = []
        self.counters: list[Counter] = []
        self.numbers: dict[Any, Any] = {}
        self.constants: dict[int, Array] = {}
        self.masks: list[tuple[Array, Array]] = []  # boolean indices, and copies of them

    # Ops

    def record(self, op: Op, args: tuple[Any, ...], attrs: dict[str, Any], out: Tensor) -> None:
        """Write down an op that ran."""
        if OPS.get(op.name) is not op:
            raise RecordError(
                f"{self.where()}: the op {op.name!r} is not one of groundup's, and a Program is "
                "made of those alone: write it as a Module whose forward and bwd are made of them"
            )
        if op.name in ("size", "value"):
            raise RecordError(f"{self.where()}: ops.{op.name} is for the recorder: use x.shape")
        ins = tuple(self.operand(a) for a in args)
        array = out.array
        if attrs.get("classes") == self.batch or _cuts_batch(op, args, attrs, self.batch):
            # As many classes as rows: one may follow from the other. A part of the rows: so may
            # how many parts there are.
            self.fixed_batch = True
        if op.is_check:
            self._write(None, op.name, ins, attrs)
            return
        if any(isinstance(a, Tensor) and a.array is array for a in args):
            self.detaches |= op.name == "detach" and self.phase == "forward"
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
        taped = state.recording
        self.lines.append(Line(out, op, ins, packed, self.phase, self.module, taped))
        return out

    def bind(self, array: Array, value: Any) -> None:
        """An array holds a value from now on."""
        self.values[id(array)] = value
        self.stale.pop(id(array), None)
        self.alive.append(array)
        self.sharing.setdefault(id(_root(array)), []).append(array)

    def alias(self, new: Array, old: Array) -> None:
        """An array is a copy of another."""
        if id(old) in self.values:
            self.bind(new, self.values[id(old)])

    def operand(self, arg: Any) -> Any:
        """What an argument of an op is: a Value, or a Python number."""
        if not isinstance(arg, Tensor):
            return _fixed(arg)
        key = id(arg.array)
        if key in self.stale:
            raise RecordError(
                f"{self.where()}: {self.stale[key]}. A Program would use the old entries, the "
                "eager step the new ones: take the view again after the update"
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
        if not self.batch and array.ndim:
            self.batch = len(array)
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
            known = isinstance(self.values.get(id(base)), Value)
            if known and id(array) not in self.kept_arrays and not self.frozen:
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
        """An array that the step made of nothing that the recorder knows: a constant."""
        key = ("constant", array.shape, array.dtype, array.tobytes())
        if key in self.numbers:
            self.bind(array, self.numbers[key])
            return self.numbers[key]
        value = self._new_constant(array)
        self.numbers[key] = value
        self.bind(array, value)
        return value

    def _new_constant(self, array: Array) -> Value:
        value: Value | None
        if self.batch > 1 and array.shape[:1] == (self.batch,) and array.strides[0]:
            self.fixed_batch |= not _uniform(array)
        if array.dtype.kind in "iu" and array.ndim == 1 and array.dtype == np.int64:
            n = len(array)
            if n and np.array_equal(array, np.arange(n)):
                value = self._write(array, "arange", (), {"shape": (n,)})
                assert value is not None
                return value
        if array.dtype.kind in "biuf" and _uniform(array):
            entry = array.flat[0].item() if array.size else array.dtype.type(0).item()
            attrs = {"shape": array.shape, "value": entry, "dtype": array.dtype}
            value = self._write(array, "full", (), attrs)
        elif array.size <= 16 and array.dtype.kind in "biuf":
            attrs = {"entries": _nested(array.tolist()), "dtype": array.dtype}
            value = self._write(array, "array", (), attrs)
        else:
            value = Value(array.shape, str(array.dtype))
            self.constants[id(value)] = array.copy()
            self._give(Given(value, "captured"), FromTensor(Tensor.of(array), array))
        assert value is not None
        return value

    def made_constant(self, value: Any, made: Tensor) -> None:
        """A Tensor was made of an op's plain argument."""
        if isinstance(value, np.generic):
            value = value.item()
        if isinstance(value, bool | int | float):
            self.bind(made.array, _fixed(value))
        elif isinstance(value, np.ndarray) and value is not made.array:
            self._converted(value, made)

    def _converted(self, array: Array, made: Tensor) -> None:
        source = self.operand(Tensor.of(array))
        self.bind(
            made.array, self._write(made.array, "cast", (source,), {"dtype": made.array.dtype})
        )

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
        if isinstance(self.sources.get(id(self.value_of(tensor))), FromArgument):
            raise RecordError(
                f"{self.where()}: the step writes to its argument of shape {tensor.shape}: make it "
                "a Parameter or Buffer that the step finds around it, or return the new value"
            )
        array = tensor.array
        new = value if isinstance(value, Tensor) else constant(value, (tensor,))
        if new.shape != tensor.shape:
            return new  # the caller refuses it
        if new.dtype != tensor.dtype:
            new = new.cast(tensor.dtype)
        result = self.value_of(new)
        if id(array) not in self.writes:
            self.keep(array)
            self.writes[id(array)] = FromTensor(tensor.origin, array)
        for other in self.sharing.get(id(_root(array)), ()):
            if other is not array and np.may_share_memory(other, array):
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
            self.numbers[key] = Recorded(self, count, node, is_size=True)
        return self.numbers[key]  # type: ignore[no-any-return]

    # Sizes that the user's code asks for. `x.shape[0]` is a number that follows x; where its value
    # goes into something that does not, the Program is for batches of this size only.

    def shape_for_user(self, tensor: Tensor) -> tuple[Any, ...]:
        """A shape: in the user's code the length of the batch is such a number."""
        shape = tensor.array.shape
        if self.batch not in shape or not is_users(sys._getframe(2).f_code.co_filename):
            return shape
        return tuple(self.size(tensor, i, n) if n == self.batch else n for i, n in enumerate(shape))

    def size_for_user(self, tensor: Tensor) -> Any:
        """The number of entries, in the user's code as a number that follows the tensor."""
        size = tensor.array.size
        if is_users(sys._getframe(2).f_code.co_filename):
            return self.size(tensor, None, size)
        return size

    def mask_read(self, mask: Any) -> None:
        """A boolean index becomes the places where it is true now: it must stay as it is."""
        if id(mask) in self.kept_arrays:
            self.masks.append((mask, mask.copy()))

    def length_read(self, length: int) -> None:
        """`len` gives a plain int."""
        if length == self.batch and is_users(sys._getframe(2).f_code.co_filename):
            self.fixed_batch = True

    def size_read(self) -> None:
        """The value of a size is looked at: by groundup for a shape, or by the user's code."""
        frame: FrameType | None = sys._getframe(1)
        while frame is not None and frame.f_code.co_filename in _NUMBERS:
            frame = frame.f_back
        if frame is None or is_users(frame.f_code.co_filename):
            self.fixed_batch = True

    def _number_line(
        self, op: str, ins: tuple[Any, ...], attrs: dict[str, Any], kind: str
    ) -> Value:
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
            size = all(not isinstance(a, Recorded) or a.is_size for a in args)
            node = self._number_line(op, ins, {}, kind)
            made = Recorded(self, result, node, is_size=size)
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
        before = int(optimizer.counts[i])
        self.keep(optimizer.counts)
        optimizer.counts[i] += 1
        for counter in self.counters:
            mine = counter.source.optimizer is optimizer
            if mine and (i in counter.source.members or counter.start == before):
                break
        else:
            entry = optimizer.counts[i : i + 1].reshape(())
            source = FromCount(optimizer, [], optimizer.counts, entry)
            counter = Counter(source, before, Value((), "int64", [Hint(0, "t")]))
            self.counters.append(counter)
            path = f"count of {type(optimizer).__name__}"
            self._give(Given(counter.value, "state", path), source)
        if i not in counter.source.members:
            counter.source.members.append(i)
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

    def keep(self, array: Array) -> None:
        """Remember an array as it was before the step first wrote to it."""
        if not any(known is array for known, _ in self.before):
            self.before.append((array, array.copy()))

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
        self._name_state(optimizer)
        _, steps = self.steps.get(id(optimizer), (optimizer.taken, 0))
        self.steps[id(optimizer)] = optimizer.taken, steps + 1
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
            self.phase, self.module = before

    def _name_state(self, optimizer: Optimizer) -> None:
        for name, tensors in optimizer.state.items():
            for tensor, p in zip(tensors, optimizer.params, strict=False):
                self.paths.setdefault(id(tensor), f"{name} of {type(optimizer).__name__}")
                if id(tensor.array) not in self.values:
                    value = self.outside(tensor)
                    value.hints.append(Hint(0, f"{name}_", self.given_value(p)))

    def given_value(self, tensor: Tensor) -> Value:
        """The Value that a tensor held before the step."""
        value = self.value_of(tensor)
        for given in self.given:
            source = self.sources[id(given.value)]
            if isinstance(source, FromTensor) and source.array is tensor.array:
                return given.value
        return value

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
        """Learn the paths of a model's members; the second model's begin with its name."""
        if id(module) in self.roots:
            return
        root = len(self.roots)
        self.roots[id(module)] = self.names.get(id(module), "")
        self.alive.append(module)
        self.paths.setdefault(id(module), "")
        self.root_of.setdefault(id(module), root)
        for path, member in module.named_members():
            self.paths.setdefault(id(member), path)
            self.root_of.setdefault(id(member), root)
            self.alive.append(member)
            if isinstance(member, Module | Parameter):
                self.models.add(root)

    def label(self, module: Module) -> str:
        """How comments call a module, before it is known how many models there are."""
        root = self.root_of.get(id(module), "")
        return f"{root}|{self.paths.get(id(module), '')}|{type(module).__name__}"

    def shown(self, label: str) -> str:
        """A label as comments show it: "layers[0] Linear"; of several models "judge.layers[0]"."""
        if not label:
            return ""
        root, path, kind = label.split("|")
        name = list(self.roots.values())[int(root)] if root else ""
        if not name.isidentifier() or len(self.models) < 2 or int(root) not in self.models:
            name = ""  # one model needs no name
        full = ".".join(part for part in (name, path) if part)
        return f"{_indexed(full)} {kind}" if full else kind

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
        while frame is not None and not is_users(frame.f_code.co_filename):
            frame = frame.f_back
        if frame is None:
            return "the step"
        code, line = frame.f_code, frame.f_lineno
        text = linecache.getline(code.co_filename, line).strip()
        return f"{code.co_filename}:{line}, in {code.co_name}" + (f": `{text}`" if text else "")

    def refuse(self, how: str, tensor: Tensor | None) -> None:
        """Refuse to give out a value."""
        if self.frozen:
            return
        what = "a number" if tensor is None else f"a tensor of shape {tensor.shape}"
        raise RecordError(
            f"{self.where()}: {how} reads the value of {what} while the step is being recorded. "
            "The Program would keep today's value for good. Compute with it as a Tensor (gu.where "
            "instead of if, tensor operations instead of NumPy's), or return it from the step and "
            "read it there"
        )

    def undo(self) -> None:
        """Put back what the step changed."""
        for array, copy in self.before:
            array[...] = copy


@dataclass(eq=False)
class Counter:
    """A step count that some parameters share."""

    source: FromCount
    start: int
    value: Value
    latest: Any = None
    number: Recorded | None = None

    def __post_init__(self) -> None:
        self.now, self.latest = self.start, self.value


def _cuts_batch(op: Op, args: tuple[Any, ...], attrs: dict[str, Any], batch: int) -> bool:
    """Whether an op takes some of the batch's rows by their number."""
    if op is not slice_ or batch < 2 or args[0].array.shape[:1] != (batch,):
        return False
    first = attrs["index"][0] if attrs["index"] else None
    return isinstance(first, slice) and (first.start, first.stop) != (None, None)


def _uniform(array: Array) -> bool:
    """Whether all entries have the same bits: 0.0 and -0.0 are two."""
    return array.tobytes() == array.flat[0].tobytes() * array.size if array.size else True


def _root(array: Array) -> Array:
    """The array that owns the memory."""
    while isinstance(array.base, np.ndarray):
        array = array.base
    return array


def _fixed(value: Any) -> Any:
    """An attribute as a Program holds it: hashable, of Python's own types."""
    if isinstance(value, list | tuple):
        return tuple(_fixed(v) for v in value)
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, Recorded):
        return value.value
    if isinstance(value, float) and value != value:
        return math.nan  # one NaN, which equals itself
    if isinstance(value, type | np.dtype):
        return np.dtype(value)
    return value


def _nested(entries: Any) -> Any:
    return tuple(_nested(e) for e in entries) if isinstance(entries, list) else entries


def _indexed(path: str) -> str:
    """`layers.0.fc` as `layers[0].fc`."""
    parts = path.split(".")
    return parts[0] + "".join(f"[{p}]" if p.isdigit() else f".{p}" for p in parts[1:])
