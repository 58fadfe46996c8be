"""A layer alone, small enough that SymPy can go through every entry, as a Program."""

from __future__ import annotations

import copy
from collections.abc import Iterable

import numpy as np

from groundup.check.alone import Alone, NotDifferentiable, alone, tensor_names
from groundup.errors import GroundupError
from groundup.explain.recorded import Call
from groundup.nn.module import Module
from groundup.ops.base import Shape, quiet
from groundup.tensor import Buffer, Parameter, Tensor

BATCH, LENGTHS = 2, (3, 2, 4)
# More entries than these, and expressions get longer than anybody reads.
LARGEST = 60


class NotSmall(GroundupError):
    """A layer that cannot be run at a small size."""


def small(call: Call) -> Alone:
    """The layer of a call, recorded on its own with short axes.

    Raises:
        NotSmall: it cannot be.

    """
    reason: Exception | None = None
    # Targets of some losses lie between 0 and 1: what numbers of any size are refused by.
    for low, high in ((-2.0, 2.0), (0.1, 0.9)):
        rng = np.random.Generator(np.random.Philox(key=0))
        try:
            with quiet():
                return _recorded(call, rng, low, high)
        except NotSmall:
            raise
        except (GroundupError, ValueError, IndexError, TypeError, AssertionError) as error:
            reason = reason or error
    raise NotSmall(f"it does not run at a small size ({reason})") from reason


def _recorded(call: Call, rng: np.random.Generator, low: float, high: float) -> Alone:
    module = copy.deepcopy(call.module).double()
    tensors = [a for a in call.args if isinstance(a, Tensor)]
    shorter = _Shorter(tensors)
    _shrink(module, shorter)
    args = [
        _example(a, shorter.argument(a.shape), rng, low, high) if isinstance(a, Tensor) else a
        for a in call.args
    ]
    given = [a for a in args if isinstance(a, Tensor)]
    wanted = [t for t in given if t.dtype.kind == "f"][: 1 if call.of_loss else None]
    parameters = [p for p in module.parameters() if p.dtype.kind == "f"]
    if sum(t.size for t in (*given, *parameters)) > LARGEST:
        raise NotSmall("it has too many entries, even at a small size")
    names = tensor_names(module, call.args)
    try:
        made = alone(module, args, wanted, names, lambda shape: rng.uniform(low, high, shape))
    except NotDifferentiable as error:
        raise NotSmall(str(error)) from error
    if len(made.outs) != 1:
        raise NotSmall(f"it returns {len(made.outs)} Tensors, not one")
    if not all(np.isfinite(a).all() for a in made.inputs.values()):
        raise NotSmall("it makes numbers that are not finite")
    return made


class _Shorter:
    """Short lengths for long ones, the same for the same."""

    def __init__(self, tensors: Iterable[Tensor]):
        shapes = [t.shape for t in tensors]
        self.batch = shapes[0][0] if shapes and shapes[0] else 0
        self.known: dict[int, int] = {}

    def length(self, n: int) -> int:
        if n <= LENGTHS[0]:
            return n
        return self.known.setdefault(n, LENGTHS[len(self.known) % len(LENGTHS)])

    def argument(self, shape: Shape) -> Shape:
        """An argument's shape: the first axis is the batch."""
        if shape and shape[0] == self.batch:
            return (min(self.batch, BATCH), *map(self.length, shape[1:]))
        return tuple(map(self.length, shape))


def _shrink(module: Module, shorter: _Shorter) -> None:
    """Cut the module's arrays to corners."""
    for _, member in module.named_members():
        if isinstance(member, Parameter | Buffer):
            corner = tuple(slice(shorter.length(n)) for n in member.shape)
            member.array = member.array[corner].copy()
            member._g = None


def _example(
    tensor: Tensor, shape: Shape, rng: np.random.Generator, low: float, high: float
) -> Tensor:
    if tensor.dtype.kind == "f":
        return Tensor(rng.uniform(low, high, shape), dtype=np.float64)
    entries = np.arange(int(np.prod(shape))).reshape(shape) % 2  # below any length
    return Tensor((entries == 0) if tensor.dtype.kind == "b" else entries.astype(tensor.dtype))
