"""Module: a `forward` and, beside it, a `bwd`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from itertools import chain
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from groundup.errors import StateError
from groundup.nn.step import as_one_step
from groundup.ops.base import Array, quiet, serials, state
from groundup.tensor import Buffer, Parameter, Tensor


class Module:
    """The base class of layers, losses and models.

    Write `forward`, with Tensor ops, and assign parameters and submodules to attributes (also in
    lists, tuples and dicts); no `super().__init__()` is needed. Without a `bwd` the gradient
    comes from the ops. With one, the module is a single step of the backward pass::

        class Relu(Module):
            def forward(self, inp): return inp.clamp_min(0.)
            def bwd(self, out, inp): inp.g = (inp > 0) * out.g

    `bwd` gets the output and the arguments of `forward`. `inp.g = v` contributes v to inp's
    gradient, and `self.w.g = v` to a parameter's; contributions from all uses are added up, and
    broadcast ones summed back, by the engine.
    """

    training: bool = True

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """The output from the inputs, in Tensor ops."""
        raise NotImplementedError(f"{type(self).__name__} has no forward: write one")

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        for i, arg in enumerate(args):
            if isinstance(arg, np.ndarray):
                args = (*args[:i], self._accept(arg, args), *args[i + 1 :])
        for name, value in kwargs.items():
            if isinstance(value, np.ndarray):
                kwargs[name] = self._accept(value, args)
        if state.quiet:
            out = self._run(args, kwargs)
        else:
            with quiet():
                out = self._run(args, kwargs)
        for hook in self.__dict__.get("_forward_hooks", ()):
            hook(self, args, out)
        return out

    def _run(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if state.recorder is not None:
            return state.recorder.call(self, lambda: self._forward(args, kwargs))
        return self._forward(args, kwargs)

    def _forward(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if not (state.recording and state.own_rules and has_bwd(self)):
            return self.forward(*args, **kwargs)
        began = next(serials)
        return as_one_step(self, self.forward(*args, **kwargs), args, kwargs, began)

    def _accept(self, array: Array, args: tuple[Any, ...]) -> Tensor:
        """A plain array as a Tensor; a floating-point one in the dtype of what it meets here."""
        if array.dtype.kind == "f":
            tensors = chain(self.parameters(), (a for a in args if isinstance(a, Tensor)))
            met = next((t.dtype for t in tensors if t.dtype.kind == "f"), array.dtype)
            array = array.astype(met, copy=False)
        return Tensor(array)

    # Parameters and submodules

    def named_members(self) -> Iterator[tuple[str, Tensor | Module]]:
        """Every tensor and module in attributes, lists, tuples and dicts, by path, each once."""
        return _members(self, "", {id(self)})

    def named_parameters(self) -> Iterator[tuple[str, Parameter]]:
        """The parameters by path, such as `layers.0.w`; a shared one once."""
        for path, value in self.named_members():
            if isinstance(value, Parameter):
                yield path, value

    def parameters(self) -> Iterator[Parameter]:
        """What an optimizer updates."""
        return (p for _, p in self.named_parameters())

    def named_buffers(self) -> Iterator[tuple[str, Buffer]]:
        """The buffers by path."""
        for path, value in self.named_members():
            if isinstance(value, Buffer):
                yield path, value

    def named_modules(self) -> Iterator[tuple[str, Module]]:
        """The submodules by path, depth first; this module comes first, under ""."""
        yield "", self
        for path, value in self.named_members():
            if isinstance(value, Module):
                yield path, value

    def modules(self) -> Iterator[Module]:
        """This module and all submodules."""
        return (m for _, m in self.named_modules())

    # State

    def state_dict(self) -> dict[str, Array]:
        """Copies of all parameters and buffers, by path."""
        return {
            path: value.data.copy()
            for path, value in self.named_members()
            if isinstance(value, Parameter | Buffer)
        }

    def load_state_dict(self, saved: Mapping[str, Any], strict: bool = True) -> Self:
        """Write saved arrays into the parameters and buffers of the same path.

        Nothing is written unless everything fits. With strict=False missing and extra names are
        passed over.

        Raises:
            StateError: names are missing or extra, or a shape or dtype differs.

        """
        own = {p: v for p, v in self.named_members() if isinstance(v, Parameter | Buffer)}
        arrays = {name: np.asarray(value) for name, value in saved.items()}
        wrong = []
        if strict:
            missing, extra = sorted(own.keys() - arrays), sorted(arrays.keys() - own.keys())
            if missing:
                wrong.append(f"missing: {', '.join(missing)}")
            if extra:
                wrong.append(f"extra: {', '.join(extra)}")
        both = [name for name in own if name in arrays]
        for name in both:
            given, wanted = arrays[name], own[name]
            if given.shape != wanted.shape:
                wrong.append(f"{name} has shape {given.shape}, the model's {wanted.shape}")
            elif not np.can_cast(given.dtype, wanted.dtype, "same_kind"):
                wrong.append(f"{name} is {given.dtype}, the model's {wanted.dtype}")
        if wrong:
            raise StateError(
                f"this state does not fit {type(self).__name__}:\n  "
                + "\n  ".join(wrong)
                + "\nIs it from another model, or one of another size?"
            )
        for name in both:
            own[name].assign(arrays[name])
        return self

    def train(self, training: bool = True) -> Self:
        """Set training mode here and in all submodules (Dropout drops)."""
        for module in self.modules():
            module.training = training
        return self

    def eval(self) -> Self:
        """Set evaluation mode here and in all submodules."""
        return self.train(False)

    def requires_grad_(self, requires_grad: bool = True) -> Self:
        """Freeze (False) or unfreeze all parameters."""
        for p in self.parameters():
            p.requires_grad_(requires_grad)
        return self

    def to(self, dtype: npt.DTypeLike) -> Self:
        """Convert floating-point parameters and buffers to a dtype, in place."""
        for _, value in self.named_members():
            if isinstance(value, Parameter | Buffer) and value.dtype.kind == "f":
                value.data = value.data.astype(dtype)
                value._g = None
        return self

    def float(self) -> Self:
        """Convert to float32."""
        return self.to(np.float32)

    def double(self) -> Self:
        """Convert to float64."""
        return self.to(np.float64)

    def register_forward_hook(
        self, hook: Callable[[Module, tuple[Any, ...], Any], None]
    ) -> Callable[[], None]:
        """Call hook(module, args, out) after every forward; returns what removes it again."""
        hooks = self.__dict__.setdefault("_forward_hooks", [])
        hooks.append(hook)
        return lambda: hooks.remove(hook)

    # How it prints

    def extra_repr(self) -> str:
        """What a layer says of itself in brackets."""
        return ""

    def __repr__(self) -> str:
        count = sum(p.size for p in self.parameters())
        counted = f"  # {count:,} parameters" if count else ""
        own = self.extra_repr()
        children = [
            (name, child)
            for attribute, value in vars(self).items()
            for name, child in _direct(value, attribute, set())
            if isinstance(child, Module)
        ]
        if not children:
            return f"{type(self).__name__}({own}){counted}"
        lines = [f"{type(self).__name__}({own}{counted}"]
        for name, child in children:
            lines += [f"  {line}" for line in f"{name}: {child!r}".split("\n")]
        return "\n".join([*lines, ")"])


def has_bwd(module: Module) -> bool:
    """Whether the module has a hand-written rule."""
    return getattr(type(module), "bwd", None) is not None


def _direct(value: Any, path: str, seen: set[int]) -> Iterator[tuple[str, Tensor | Module]]:
    """The tensors and modules in a value, through containers but not into modules."""
    if not isinstance(value, Tensor | Module | list | tuple | dict) or id(value) in seen:
        return
    seen.add(id(value))
    if isinstance(value, Tensor | Module):
        yield path, value
        return
    for name, inner in value.items() if isinstance(value, dict) else enumerate(value):
        yield from _direct(inner, f"{path}.{name}", seen)


def _members(module: Module, path: str, seen: set[int]) -> Iterator[tuple[str, Tensor | Module]]:
    for attribute, value in vars(module).items():
        for name, member in _direct(value, path + attribute, seen):
            yield name, member
            if isinstance(member, Module):
                yield from _members(member, name + ".", seen)
