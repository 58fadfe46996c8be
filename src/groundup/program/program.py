"""Program: a step written down as a flat list of equations, each one op.

A Program is plain, frozen data: it holds names, shapes and numbers, no arrays and no functions.
Passes turn one Program into another; the printer, the runner and the checks read it.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, Any, Self, TypeAlias

import numpy as np

from groundup import ops
from groundup.errors import GroundupError, ProgramError
from groundup.ops import Op
from groundup.ops.base import Shape

if TYPE_CHECKING:
    from rich.table import Table

# The primitive ops, by the name under which a Program holds them.
OPS: dict[str, Op] = {op.name: op for op in vars(ops).values() if isinstance(op, Op)}

# What an equation computes with: the name of a value, or a Python number.
Operand: TypeAlias = str | bool | int | float

# Python's arithmetic on numbers, by the op that stands for it.
NUMBER_OPS: dict[str, Callable[..., Any]] = {
    "add": operator.add, "sub": operator.sub, "mul": operator.mul, "div": operator.truediv,
    "power": operator.pow, "neg": operator.neg,
}  # fmt: skip

PHASES = ("forward", "backward", "update")
ROLES = ("argument", "parameter", "state", "setting", "captured")


@dataclass(frozen=True)
class Var:
    """A value's name, shape and dtype.

    The dtypes "int" and "float" are Python numbers, such as a learning rate: like those, they
    take the dtype of the arrays that they meet.
    """

    name: str
    shape: Shape
    dtype: str

    @property
    def is_number(self) -> bool:
        """Whether it is a Python number."""
        return self.dtype in ("int", "float")

    @property
    def size(self) -> int:
        """The number of entries."""
        return int(np.prod(self.shape, dtype=np.int64))

    @property
    def nbytes(self) -> int:
        """The bytes that the array takes."""
        return 8 if self.is_number else self.size * np.dtype(self.dtype).itemsize


@dataclass(frozen=True)
class Input:
    """A value that is there before the step.

    Attributes:
        role: "argument" (of the step's function), "parameter" (what is learnt), "state" (a buffer,
            an optimizer's memory, a counter), "setting" (a number such as the learning rate, read
            anew at each call), "captured" (an array that the step found around it).
        path: where it lives: "layers.0.w", "lr of SGD".
        value: of a setting, its value when the step was recorded.

    """

    var: Var
    role: str
    path: str = ""
    value: int | float | None = None


@dataclass(frozen=True)
class Equation:
    """`out = op(ins, **attrs)`; a check (an op that only raises) has no out.

    Attributes:
        phase: "forward", "backward" or "update".
        module: whose part it is, such as "layers[0] Linear"; "" outside of modules.

    """

    out: Var | None
    op: str
    ins: tuple[Operand, ...]
    attrs: tuple[tuple[str, Any], ...] = ()
    phase: str = "forward"
    module: str = ""

    @property
    def names(self) -> list[str]:
        """The names that it reads."""
        return [i for i in self.ins if isinstance(i, str)]


@dataclass(frozen=True)
class Program:
    """A step: what goes in, what is computed in which order, what comes out, what is updated.

    Attributes:
        name: the function's name.
        inputs: see `Input`.
        equations: in the order in which they run.
        outputs: what the step returns: a name, None, or a tuple, list or dict of such.
        updates: the input that is written to, and the value that it gets, in order.
        fixed_batch: whether the step's code did something with the length of its batch that holds
            for this length only.

    """

    name: str
    inputs: tuple[Input, ...]
    equations: tuple[Equation, ...]
    outputs: Any
    updates: tuple[tuple[str, str], ...]
    fixed_batch: bool = False

    # Looking at it

    @cached_property
    def vars(self) -> dict[str, Var]:
        """Every value by name."""
        found = {i.var.name: i.var for i in self.inputs}
        found |= {e.out.name: e.out for e in self.equations if e.out is not None}
        return found

    @cached_property
    def uses(self) -> dict[str, list[int]]:
        """The equations, by index, that read each value; -1 stands for outputs and updates."""
        found: dict[str, list[int]] = {name: [] for name in self.vars}
        for i, equation in enumerate(self.equations):
            for name in dict.fromkeys(equation.names):
                found[name].append(i)
        for name in [*leaves(self.outputs), *(new for _, new in self.updates)]:
            found[name].append(-1)
        return found

    @property
    def batch(self) -> int:
        """The length of the first argument that has one, which may be another at the next call."""
        shapes = (i.var.shape for i in self.inputs if i.role == "argument" and i.var.shape)
        return next((shape[0] for shape in shapes), 0)

    def inputs_of(self, *roles: str) -> list[Input]:
        """The inputs of some roles."""
        return [i for i in self.inputs if i.role in roles]

    def __str__(self) -> str:
        from groundup.program.source import source

        return source(self)

    def __repr__(self) -> str:
        counts = {p: sum(e.phase == p for e in self.equations) for p in PHASES}
        shown = ", ".join(f"{n} {p}" for p, n in counts.items() if n)
        return f"<Program {self.name}: {shown or 'no'} equations>"

    def function(self) -> Any:
        """The printed source, executed: a function of NumPy arrays that runs with NumPy alone.

        It takes the inputs by name, writes to parameters and state in place, and returns the
        outputs. Where the source takes a list for parameters of equal blocks, this function takes
        them one by one all the same.
        """
        namespace: dict[str, Any] = {}
        exec(compile(str(self), f"<program {self.name}>", "exec"), namespace)
        printed = namespace[self.name]

        def function(**values: Any) -> Any:
            return printed(**self.grouped(values))

        return function

    def grouped(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Inputs by name as the printed function takes them: those of equal blocks in lists."""
        from groundup.program.source import lists_of

        grouped = dict(values)
        for name, members in lists_of(self).items():
            grouped[name] = [grouped.pop(m) for m in members]
        return grouped

    def table(self, profile: Mapping[str, Any] | None = None) -> Table:
        """A line for each equation: floating-point operations, bytes read and written.

        Args:
            profile: the inputs by name, as `Compiled.arguments` gives them: the Program is run on
                copies of them, and the table has the time of each equation too.

        Returns:
            A rich Table: `rich.print(program.table())`.

        """
        from groundup.program.table import measure, table

        return table(self, None if profile is None else measure(self, profile))

    # What it must be

    def verify(self) -> Self:
        """Check the Program, and return it.

        Every name is set once and before it is read, every shape and dtype is what the op's rules
        say, only parameters and state are updated, in their own shape and dtype.

        Raises:
            ProgramError: it is not so, and where.

        """
        known: dict[str, Var] = {}
        for given in self.inputs:
            if given.role not in ROLES:
                raise ProgramError(f"{self.name}: {given.var.name} has the role {given.role!r}")
            self._set(known, given.var, "an input")
        for i, equation in enumerate(self.equations):
            where = f"equation {i} ({equation.op})"
            if equation.phase not in PHASES:
                raise ProgramError(f"{self.name}: {where} is of phase {equation.phase!r}")
            for name in equation.names:
                if name not in known:
                    raise ProgramError(f"{self.name}: {where} reads {name}, which is not there yet")
            expected = infer(equation, known)
            if (expected is None) != (equation.out is None):
                raise ProgramError(
                    f"{self.name}: {where}: a check, and only a check, has no output"
                )
            if equation.out is not None:
                found = (equation.out.shape, equation.out.dtype)
                if found != expected:
                    raise ProgramError(
                        f"{self.name}: {where} makes {expected}, but {equation.out.name} is {found}"
                    )
                self._set(known, equation.out, where)
        for name in leaves(self.outputs):
            if name not in known:
                raise ProgramError(f"{self.name} returns {name}, which nothing computes")
        held = {i.var.name: i.var for i in self.inputs_of("parameter", "state")}
        for target, new in self.updates:
            if target not in held:
                raise ProgramError(f"{self.name} updates {target}, no parameter and no state")
            if new not in known:
                raise ProgramError(f"{self.name} updates {target} to {new}, which nothing computes")
            a, b = held[target], known[new]
            if (a.shape, a.dtype) != (b.shape, b.dtype):
                raise ProgramError(
                    f"{self.name} updates {target} {a.shape} {a.dtype} to {new} {b.shape} {b.dtype}"
                )
        if len(dict(self.updates)) < len(self.updates):
            raise ProgramError(f"{self.name} updates an input twice")
        return self

    def _set(self, known: dict[str, Var], var: Var, where: str) -> None:
        if var.name in known:
            raise ProgramError(f"{self.name}: {where} sets {var.name} a second time")
        if not var.name.isidentifier():
            raise ProgramError(f"{self.name}: {var.name!r} is no name")
        known[var.name] = var

    # Keeping it

    def to_json(self) -> str:
        """The Program as JSON, the same text for equal Programs."""
        import json

        return json.dumps(_packed(self), separators=(",", ":"), sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> Program:
        """A Program from what `to_json` gave.

        Raises:
            ProgramError: the text is damaged, or the Program not well formed.

        """
        import json

        try:
            program = _unpacked(json.loads(text))
            if not isinstance(program, Program):
                raise ProgramError(f"this JSON holds no Program, but {type(program).__name__}")
            return program.verify()
        except ProgramError:
            raise
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ProgramError(f"this is no Program's JSON: {error}") from error

    def save(self, path: Any) -> None:
        """Write the JSON to a file."""
        with open(path, "w", encoding="utf-8") as file:
            file.write(self.to_json())

    @classmethod
    def load(cls, path: Any) -> Program:
        """Read a file that `save` wrote."""
        with open(path, encoding="utf-8") as file:
            return cls.from_json(file.read())

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the JSON: the same on every machine and in every run."""
        import hashlib

        return hashlib.sha256(self.to_json().encode()).hexdigest()

    def __hash__(self) -> int:
        return int(self.digest[:15], 16)

    def with_equations(self, equations: Iterable[Equation], **changes: Any) -> Program:
        """A copy with other equations."""
        return replace(self, equations=tuple(equations), **changes)


def infer(equation: Equation, known: Mapping[str, Var]) -> tuple[Shape, str] | None:
    """Shape and dtype of an equation's output by its op's rules; None for a check.

    Raises:
        ProgramError: there is no such op, or its rules refuse the inputs.

    """
    if equation.op not in OPS:
        raise ProgramError(f"there is no op {equation.op!r}")
    ins = tuple(
        (known[i].shape, known[i].dtype) if isinstance(i, str) else (type(i), i)
        for i in equation.ins
    )
    try:
        try:
            return _inferred(equation.op, ins, equation.attrs, repr(equation.attrs))
        except TypeError:  # slices have no hash
            return _inferred.__wrapped__(equation.op, ins, equation.attrs, "")
    except (GroundupError, ValueError, TypeError, KeyError, IndexError) as error:
        shown = ", ".join(str(i[1]) if isinstance(i[0], type) else f"{i[0]} {i[1]}" for i in ins)
        raise ProgramError(
            f"{equation.op} of {shown} with {dict(equation.attrs)}: {error}"
        ) from error


@lru_cache(maxsize=4096)
def _inferred(
    name: str, ins: tuple[tuple[Any, Any], ...], attrs: tuple[tuple[str, Any], ...], written: str
) -> tuple[Shape, str] | None:
    """`infer` from what the rules look at; equal equations of a deep model ask it once.

    The attributes are also given as they are written, which tells 2 from 2.0.
    """
    op, given = OPS[name], dict(attrs)
    shapes = [() if isinstance(i[0], type) else i[0] for i in ins]
    if op.is_check:
        op.shape(*shapes, **given)
        return None
    if name in ("size", "value"):
        return (), "int"
    kinds = [i[0].__name__ if isinstance(i[0], type) else i[1] for i in ins]
    if (
        ins
        and name != "cast"
        and all(kind in ("int", "float", "bool") for kind in kinds)
        and not any(
            kind == "bool" and not isinstance(i[0], type)
            for kind, i in zip(kinds, ins, strict=True)
        )
    ):
        return (), number_kind(name, kinds)
    examples = [i[1] if isinstance(i[0], type) else _example(*i) for i in ins]
    return op.shape(*shapes, **given), str(op.dtype(*examples, **given))


def number_kind(op: str, kinds: list[str]) -> str:
    """Whether Python's arithmetic on ints and floats gives an int or a float."""
    if op not in NUMBER_OPS:
        raise ProgramError(f"{op} is not for Python numbers")
    return "float" if "float" in kinds or op == "div" else "int"


def _example(shape: Shape, dtype: str) -> Any:
    """What an op's dtype rule is told of a value."""
    if dtype in ("int", "float"):
        return 1 if dtype == "int" else 1.0
    return (np.dtype(dtype), len(shape))


def shape_of(operand: Any) -> Shape:
    """An operand's shape."""
    return operand.shape if isinstance(operand, Var) else ()


def leaves(outputs: Any) -> Iterator[str]:
    """The names in a structure of outputs."""
    if isinstance(outputs, str):
        yield outputs
    elif isinstance(outputs, tuple | list):
        for part in outputs:
            yield from leaves(part)
    elif isinstance(outputs, dict):
        for part in outputs.values():
            yield from leaves(part)


def filled(outputs: Any, values: Mapping[str, Any]) -> Any:
    """The structure of outputs with each name replaced by its value."""
    if isinstance(outputs, str):
        return values[outputs]
    if isinstance(outputs, tuple | list):
        return type(outputs)(filled(part, values) for part in outputs)
    if isinstance(outputs, dict):
        return {key: filled(part, values) for key, part in outputs.items()}
    return outputs


# JSON, without pickle: dataclasses, tuples, slices and the like are written as tagged lists.

_KINDS = {kind.__name__: kind for kind in (Program, Input, Equation, Var)}


def _packed(value: Any) -> Any:
    if isinstance(value, Program | Input | Equation | Var):
        return {"": type(value).__name__,
                **{f: _packed(getattr(value, f)) for f in value.__dataclass_fields__}}  # fmt: skip
    if isinstance(value, tuple):
        return ["tuple", *map(_packed, value)]
    if isinstance(value, list):
        return ["list", *map(_packed, value)]
    if isinstance(value, dict):
        return ["dict", *([_packed(k), _packed(v)] for k, v in value.items())]
    if isinstance(value, slice):
        return ["slice", value.start, value.stop, value.step]
    if isinstance(value, np.dtype):
        return ["dtype", value.str]
    if value is Ellipsis:
        return ["..."]
    if isinstance(value, float):
        return ["float", value.hex()]
    return value


def _unpacked(value: Any) -> Any:
    if isinstance(value, dict):
        kind = _KINDS[value[""]]
        return kind(**{k: _unpacked(v) for k, v in value.items() if k})
    if isinstance(value, list):
        tag, *rest = value
        if tag == "dict":
            return {_unpacked(k): _unpacked(v) for k, v in rest}
        if tag == "slice":
            return slice(*rest)
        if tag == "dtype":
            return np.dtype(rest[0])
        if tag == "...":
            return Ellipsis
        if tag == "float":
            number = float.fromhex(rest[0])
            return math.nan if number != number else number  # one NaN, which equals itself
        return {"tuple": tuple, "list": list}[tag](map(_unpacked, rest))
    return value
