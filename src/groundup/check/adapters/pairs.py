"""A forward and a backward in plain NumPy; and which kind of subject something is."""

from __future__ import annotations

import copy
import inspect
import random
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any

import numpy as np

from groundup.check.adapters.calling import Calling, by_name, callings, floating, parameters_of
from groundup.check.adapters.followed import FollowedSubject
from groundup.check.adapters.held import lifted
from groundup.check.adapters.rebound import Rebinder, set_state, state_of
from groundup.check.adapters.traced import Traced, held_of
from groundup.check.adapters.trees import leaves, rebuilt
from groundup.check.subjects import (
    Gradients,
    Mutated,
    Subject,
    TensorSubject,
    as_double,
    fits,
    plain,
)
from groundup.errors import GradientError
from groundup.ops.base import Array, state
from groundup.tensor import Tensor

# What np.random.normal and its like draw from.
_GLOBAL: Any = np.random.mtrand._rand


class PairSubject(FollowedSubject):
    """Two functions of NumPy arrays: a forward, and a backward written by hand.

    Args:
        forward: `forward(*inputs)`, which returns the output, several, or (output, cache).
        backward: `backward(dout, *inputs)`, `backward(dout, cache)`, or with parameters named
            like forward's inputs, or `out`. Returns gradients as a tuple in the order of the
            inputs, a dict by name, or one array.
        inputs: what forward is called with. Floating-point arrays are checked, in dicts and
            lists too if backward gives a gradient there.
        name: what a report calls it.

    Raises:
        GradientError: backward cannot be called in any of these ways.

    """

    def __init__(
        self,
        forward: Callable[..., Any],
        backward: Callable[..., Any],
        inputs: Sequence[Any],
        name: str = "",
    ):
        self.name = name or _name_of(forward)
        self.functions = forward, backward
        self.stream = state_of(_GLOBAL), random.getstate()
        self.pristine, generators = self._copied((forward, backward))
        self.generators = [(own, state_of(own)) for own, _ in generators]
        fits(forward, inputs, self.name)
        self.names = _input_names(forward, backward, len(inputs))
        self.inputs = {n: _own(v) for n, v in zip(self.names, inputs, strict=True)}
        self.order = [n for n, v in self.inputs.items() if _checkable(v)]
        if not self.order:
            raise GradientError(
                f"{self.name}: there is no gradient to check: no input of floating-point numbers"
            )
        everything = {
            path: np.array(leaf, np.float64)
            for n in self.order
            for path, leaf in leaves(self.inputs[n], n)
            if floating(leaf)
        }
        self.values = everything
        self.calling, given = self._probe()
        # A number, or an array in a dict, that backward gives no gradient of is a setting.
        settings = [
            n
            for n in self.order
            if not isinstance(self.inputs[n], np.ndarray)
            and all(given.get(path) is None for path, _ in leaves(self.inputs[n], n))
        ]
        self.order = [n for n in self.order if n not in settings] or self.order
        self.values = {p: v for p, v in everything.items() if p.split(".")[0] in self.order}
        self._followed: bool | None = None

    # Calling

    def _copied(self, functions: tuple[Any, Any]) -> tuple[tuple[Any, Any], list[tuple[Any, Any]]]:
        """The functions with state of their own, as it is now; and the generators found."""
        rebind = Rebinder(traced=False, packages=self._packages())
        try:
            made = rebind(functions[0]), rebind(functions[1])
        except Exception:  # state that cannot be copied: a file, a class of unusual making
            return functions, []
        return made, rebind.generators

    def _packages(self) -> tuple[str, ...]:
        modules = {getattr(f, "__module__", None) or "" for f in self.functions}
        return tuple(m.split(".")[0] for m in modules if not m.startswith(("numpy", "scipy")))

    def _probe(self) -> tuple[Calling, dict[str, Any]]:
        """How backward is called, and what it then returned."""
        (forward, backward), _ = self._copied(self.pristine)
        with self._calm(False):
            result = forward(*self._given(self.values).values())
        first: tuple[Calling, Exception] | None = None
        misfit: GradientError | None = None
        for calling in callings(self.names, backward, result):
            try:
                return calling, self._run(forward, backward, calling, self.values, None, False)[1]
            except GradientError as error:
                misfit = misfit or error
            except Exception as error:
                first = first or (calling, error)
        if first is not None and misfit is None:
            return first[0], dict(self.values)  # the check will say so
        why = "its parameters fit none of the conventions"
        raise GradientError(
            f"{self.name}: forward{_signature(forward)} returned {_kind(result)}, and "
            f"backward{_signature(backward)} does not go with it: "
            f"{why if misfit is None else f'it returned {misfit}'}. Backward takes the output's "
            "gradient, then forward's inputs (by their names) or what forward returned as the "
            "second of (out, cache), and returns gradients in the order of the inputs"
        ) from misfit

    def _given(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Forward's arguments: copies, with the values in their places."""
        own = {p: v.copy() if isinstance(v, np.ndarray) else v for p, v in values.items()}
        return {
            n: rebuilt(v, n, own) if n in self.order else copy.deepcopy(v)
            for n, v in self.inputs.items()
        }

    @contextmanager
    def _calm(self, is_complex: bool) -> Iterator[None]:
        """Every call draws the same random numbers, which leaves no trace; no NumPy warnings."""
        streams = [(_GLOBAL, self.stream[0]), *self.generators]
        before = [state_of(g) for g, _ in streams], random.getstate()
        for generator, at in streams:
            set_state(generator, at)
        random.setstate(self.stream[1])
        try:
            with np.errstate(all="ignore"), warnings.catch_warnings():
                warnings.simplefilter("ignore", RuntimeWarning)
                if is_complex:  # an imaginary part that is dropped is a derivative that is lost
                    warnings.simplefilter("error", np.exceptions.ComplexWarning)
                yield
        finally:
            for (generator, _), at in zip(streams, before[0], strict=True):
                set_state(generator, at)
            random.setstate(before[1])

    def _run(
        self,
        forward: Any,
        backward: Any,
        calling: Calling,
        values: Mapping[str, Array],
        cotangents: Sequence[Array] | None,
        strict: bool = True,
    ) -> tuple[list[Array], dict[str, Any]]:
        """The outputs, and the gradients as they were returned."""
        given = self._given(values)
        with self._calm(False):
            result = forward(*given.values())
            if strict:
                self._unchanged(given, values)
            out, saved = calling.split(result)
            outs = [np.array(leaf) for _, leaf in leaves(out, "") if floating(leaf)]
            if cotangents is None:
                cotangents = [np.ones(o.shape) for o in outs]
            found = _backward(calling, backward, given, out, saved, list(cotangents), np.copy)
            if strict:
                self._unchanged(given, values)
        if calling.scaled:
            if len(outs) != 1 or outs[0].size != 1:
                raise GradientError("gradients without taking one, though it is no single number")
            found = by_name(found, self.inputs, self.order)
            return outs, {
                n: None if g is None else np.asarray(g) * cotangents[0].reshape(())
                for n, g in found.items()
            }
        return outs, by_name(found, self.inputs, self.order)

    def _unchanged(self, given: Mapping[str, Any], values: Mapping[str, Any]) -> None:
        """Raise for an input that was written to; arrays in dicts that are settings are state."""
        arrays = {n: v for n, v in self.inputs.items() if isinstance(v, np.ndarray)}
        before = {**arrays, **values}
        for name, value in given.items():
            for path, leaf in leaves(value, name):
                if (
                    isinstance(leaf, np.ndarray)
                    and path in before
                    and not (
                        np.array_equal(leaf, before[path])  # equal_nan takes ten times as long
                        or (
                            leaf.dtype.kind in "fc"
                            and np.array_equal(leaf, before[path], equal_nan=True)
                        )
                    )
                ):
                    raise Mutated(path)

    # What a check asks for

    def forward(self, values: Mapping[str, Array]) -> list[Array]:
        is_complex = any(np.iscomplexobj(v) for v in values.values())
        given = self._given(values)
        with self._calm(is_complex):
            result = self.functions[0](*given.values())
        self._unchanged(given, values)
        out, _ = self.calling.split(result)
        found = [leaf for _, leaf in leaves(out, "") if floating(leaf)]
        if not found:
            raise GradientError(
                f"{self.name}: forward returned {_kind(result)}, and no floating-point array to "
                "differentiate"
            )
        return [np.array(leaf) if np.iscomplexobj(leaf) else as_double(leaf, self.name)
                for leaf in found]  # fmt: skip

    def backward(self, values: Mapping[str, Array], cotangents: Sequence[Array]) -> Gradients:
        try:
            found = self._run(*self.functions, self.calling, values, cotangents)[1]
        except GradientError as error:
            raise GradientError(f"{self.name}: backward returned {error}") from error
        return {
            n: None if found.get(n) is None
            else np.array(as_double(found[n], f"{self.name}: the gradient of {n}"))
            for n in values
        }  # fmt: skip

    def fresh(self) -> Subject:
        made = copy.copy(self)
        made.functions, generators = self._copied(self.pristine)
        made.generators = [(copied, state_of(copied)) for _, copied in generators]
        return made

    def reference(
        self, values: Mapping[str, Array], cotangents: Sequence[Array]
    ) -> Gradients | None:
        if self._followed is False:
            return None
        found: Gradients | None = self.by_ops(values, cotangents)
        self._followed = found is not None
        return found

    def follow(self, values: Mapping[str, Tensor], cotangents: Sequence[Tensor]) -> Any:
        recorder = state.recorder
        with self._calm(False):
            rebind, given, out, saved = self._traced(values)
            outs = _tensors(out)
            with nullcontext() if recorder is None else recorder.backward():
                returned = _backward(
                    self.calling, rebind(self.functions[1]), given, out, saved,
                    [Traced(c) for c in cotangents], _same,
                )  # fmt: skip
                found = by_name(returned, self.inputs, self.order)
                grads = {n: lifted(held_of(g)) for n, g in found.items() if g is not None}
                if self.calling.scaled:
                    grads = {n: g * cotangents[0].reshape(()) for n, g in grads.items()}
        return outs, {n: g for n, g in grads.items() if n in values}

    def follow_forward(self, values: Mapping[str, Tensor]) -> list[Tensor]:
        with self._calm(False):
            return _tensors(self._traced(values)[2])

    def _traced(self, values: Mapping[str, Tensor]) -> tuple[Any, dict[str, Any], Any, Any]:
        rebind = Rebinder(traced=True, packages=self._packages())
        forward = rebind(self.functions[0])
        given = self._given({n: Traced(t) for n, t in values.items()})
        for n in given:
            if n not in self.order:
                given[n] = rebind(given[n])
        out, saved = self.calling.split(forward(*given.values()))
        return rebind, given, out, saved


def _backward(
    calling: Calling,
    backward: Any,
    given: Mapping[str, Any],
    out: Any,
    saved: Sequence[Any],
    cotangents: Sequence[Any],
    own: Callable[[Any], Any],
) -> Any:
    """Call backward with the cotangents built like the outputs: a tuple of several."""
    paths = [path for path, leaf in leaves(out, "") if floating(leaf)]
    # The cotangent of a number is a number.
    arrays = [leaf for _, leaf in leaves(out, "") if floating(leaf)]
    made = {
        path: own(c) if isinstance(leaf, np.ndarray) else own(c)[()]
        for path, leaf, c in zip(paths, arrays, cotangents, strict=True)
    }
    positional, keywords = calling.arguments(
        list(given.values()), out, saved, rebuilt(out, "", made)
    )
    return backward(*positional, **keywords)


def _same(value: Any) -> Any:
    return value


def _tensors(out: Any) -> list[Tensor]:
    return [lifted(held_of(leaf)) for _, leaf in leaves(out, "") if floating(leaf)]


def _own(value: Any) -> Any:
    """An input as the subject keeps it: arrays copied, lists of numbers as arrays."""
    if isinstance(value, Tensor | np.ndarray | np.floating):
        return plain(value)
    if isinstance(value, list) and value and all(isinstance(v, float) for v in value):
        return np.array(value)
    return copy.deepcopy(value)


def _checkable(value: Any) -> bool:
    return any(floating(leaf) and not isinstance(leaf, complex) for _, leaf in leaves(value, ""))


def _input_names(forward: Any, backward: Any, count: int) -> list[str]:
    """What the inputs are called: as forward's parameters, else as backward's."""
    names: list[str] = []
    rest = ""
    try:
        parameters = list(inspect.signature(forward).parameters.values())
    except (TypeError, ValueError):
        parameters = []
    for p in parameters:
        if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD):
            names.append(p.name)
        elif p.kind is p.VAR_POSITIONAL:
            rest = p.name
    if isinstance(forward, np.ufunc) or (not names and not rest):
        own = [p.name for p in parameters_of(backward, []) if p.kind is not p.VAR_POSITIONAL][1:]
        names = own if len(own) >= count and not isinstance(forward, np.ufunc) else names
    if len(names) < count:
        free = count - len(names)
        stem = rest.rstrip("s") or "x"
        names += [stem] if free == 1 else [f"{stem}{i + 1}" for i in range(free)]
    return names[:count]


def _name_of(function: Any) -> str:
    name = getattr(function, "__qualname__", getattr(function, "__name__", type(function).__name__))
    return str(name).rsplit("<locals>.", 1)[-1]


def _signature(function: Any) -> str:
    try:
        return str(inspect.signature(function))
    except (TypeError, ValueError):
        return "(...)"


def _kind(value: Any) -> str:
    """A result in words, for messages."""
    if isinstance(value, tuple | list) and len(value) <= 6:
        return f"a {type(value).__name__} of ({', '.join(map(_kind, value))})"
    if isinstance(value, np.ndarray):
        return f"an array of shape {value.shape}"
    return f"a {type(value).__name__}"


# Which kind of subject


def subject_for(function: Any, inputs: Sequence[Any], backward: Any = None) -> Subject:
    """The subject that something is: what libraries' own kinds are is asked only if they are there.

    Args:
        function: a Module, a function of Tensors, a pair of NumPy functions, a
            torch.autograd.Function (or its `apply`), a torch.nn.Module, a function of JAX.
        inputs: what it is called with.
        backward: the backward of a NumPy forward.

    """
    if isinstance(function, tuple | list) and len(function) == 2 and backward is None:
        function, backward = function
    if backward is not None:
        return PairSubject(function, backward, inputs)
    torch = sys.modules.get("torch")
    if torch is not None:
        from groundup.check.adapters import torch_

        owner = getattr(function, "__self__", None)
        if getattr(function, "__name__", "") == "apply" and _is_function(torch, owner):
            function = owner
        if _is_function(torch, function):
            return torch_.TorchFunctionSubject(function, inputs)
        if isinstance(function, torch.nn.Module):
            return torch_.TorchModuleSubject(function, inputs)
    jax = sys.modules.get("jax")
    if jax is not None:
        from groundup.check.adapters import jax_

        if jax_.is_jax(function, inputs):
            return jax_.JaxSubject(function, inputs)
    return TensorSubject(function, inputs)


def _is_function(torch: Any, value: Any) -> bool:
    return isinstance(value, type) and issubclass(value, torch.autograd.Function)
