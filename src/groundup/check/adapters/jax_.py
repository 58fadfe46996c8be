"""Functions of JAX: mostly a jax.custom_vjp, whose gradient is written by hand."""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from groundup.check.adapters.followed import FollowedSubject
from groundup.check.adapters.held import lifted
from groundup.check.adapters.traced import Traced, held_of
from groundup.check.adapters.trees import leaves, rebuilt
from groundup.check.subjects import Gradients, argument_names
from groundup.errors import GradientError
from groundup.ops.base import Array
from groundup.tensor import Tensor


def _jax(name: str = "jax") -> Any:
    return importlib.import_module(name)


def is_jax(function: Any, inputs: Sequence[Any]) -> bool:
    """Whether a function is JAX's, or is given JAX's arrays."""
    jax = _jax()
    if isinstance(function, jax.custom_vjp | jax.custom_jvp):
        return True
    if type(function).__module__.startswith(("jax", "jaxlib")):
        return True
    return any(isinstance(leaf, jax.Array) for v in inputs for _, leaf in leaves(v, ""))


class JaxSubject(FollowedSubject):
    """A function of JAX arrays, in float64.

    Of a jax.custom_vjp its own fwd and bwd are called, so that a gradient comes as bwd returns
    it; of another function the gradient is jax.vjp's, with the rules that it meets on the way.
    """

    def __init__(self, function: Any, inputs: Sequence[Any], name: str = ""):
        jax = _jax()
        self.function = function
        self.name = name or getattr(function, "__name__", type(function).__name__)
        own = isinstance(function, jax.custom_vjp)
        self.fixed: tuple[int, ...] = tuple(function.nondiff_argnums or ()) if own else ()
        names = argument_names(function, len(inputs))
        self.inputs = {n: _plain(v) for n, v in zip(names, inputs, strict=True)}
        self.values = {}
        for i, (n, value) in enumerate(self.inputs.items()):
            for path, leaf in leaves(value, n) if i not in self.fixed else ():
                if isinstance(leaf, np.ndarray | float) and np.asarray(leaf).dtype.kind == "f":
                    self.values[path] = np.array(leaf, np.float64)
        if not self.values:
            raise GradientError(
                f"{self.name}: there is no gradient to check: no input of floating-point numbers"
            )
        self.direct = own
        with self._wide():
            jaxpr = jax.make_jaxpr(self._outputs)(self.values)
        self.own_rule = own or _has_rule(jaxpr.jaxpr)

    @contextmanager
    def _wide(self) -> Iterator[None]:
        with _jax().enable_x64(True), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield

    def _given(self, made: Mapping[str, Any]) -> list[Any]:
        return [rebuilt(v, n, made) for n, v in self.inputs.items()]

    def _outputs(self, made: Mapping[str, Any]) -> list[Any]:
        return _floating(self.function(*self._given(made)))

    def _gradients(self, made: Mapping[str, Any], cotangents: Sequence[Any]) -> Any:
        """The outputs, and the gradients by name."""
        jax = _jax()
        if not self.direct:
            outs, back = jax.vjp(self._outputs, dict(made))
            return outs, back(list(cotangents))[0]
        given = self._given(made)
        out, saved = self.function.fwd(*given)
        arriving = iter(cotangents)
        nothing = jax.dtypes.float0  # what arrives at whole numbers
        tree = jax.tree_util.tree_map(
            lambda o: next(arriving) if _is_floating(o) else np.zeros(np.shape(o), nothing), out
        )
        found = self.function.bwd(*(given[i] for i in self.fixed), saved, tree)
        wanted = [n for i, n in enumerate(self.inputs) if i not in self.fixed]
        if not isinstance(found, tuple | list) or len(found) != len(wanted):
            raise GradientError(
                f"{self.name}: bwd returned "
                f"{len(found) if isinstance(found, tuple | list) else type(found).__name__}, for "
                f"the {len(wanted)} inputs {', '.join(wanted)}: a tuple with one gradient for each"
            )
        grads = {
            path: leaf
            for n, g in zip(wanted, found, strict=True)
            for path, leaf in leaves(g, n)
            if leaf is not None
        }
        return _floating(out), {n: grads[n] for n in made if n in grads}

    def forward(self, values: Mapping[str, Array]) -> list[Array]:
        with self._wide():
            outs = self._outputs({n: _jax("jax.numpy").asarray(v) for n, v in values.items()})
            found = [np.array(o) for o in outs]
        if not found:
            raise GradientError(
                f"{self.name}: the function returned no floating-point array to differentiate"
            )
        return found

    def backward(self, values: Mapping[str, Array], cotangents: Sequence[Array]) -> Gradients:
        jnp = _jax("jax.numpy")
        with self._wide():
            made = {n: jnp.asarray(v) for n, v in values.items()}
            _, found = self._gradients(made, [jnp.asarray(c) for c in cotangents])
            return {n: np.array(found[n], np.float64) if n in found else None for n in values}

    def reference(
        self, values: Mapping[str, Array], cotangents: Sequence[Array]
    ) -> Gradients | None:
        if not self.own_rule:
            return None
        jax = _jax()
        with self._wide():
            try:
                jaxpr = jax.make_jaxpr(self._outputs)(dict(values))
                flat, tree = jax.tree_util.tree_flatten(dict(values))
                _, back = jax.vjp(lambda *xs: _stripped(jaxpr, xs), *flat)
                found = back([np.asarray(c) for c in cotangents])
            except Exception:  # whatever JAX raises about what it cannot differentiate
                return None
            return {n: np.array(g) for n, g in jax.tree_util.tree_unflatten(tree, found).items()}

    def follow(self, values: Mapping[str, Tensor], cotangents: Sequence[Tensor]) -> Any:
        names: list[str] = []
        count = 0

        def step(made: Mapping[str, Any], arriving: Sequence[Any]) -> list[Any]:
            nonlocal count
            outs, found = self._gradients(made, arriving)
            names[:], count = list(found), len(outs)
            return [*outs, *found.values()]

        made = self._run(step, dict(values), list(cotangents))
        return made[:count], dict(zip(names, made[count:], strict=True))

    def follow_forward(self, values: Mapping[str, Tensor]) -> list[Tensor]:
        return self._run(self._outputs, dict(values))

    def _run(self, step: Any, *args: Any) -> list[Tensor]:
        """A step of JAX, done with groundup's ops."""
        from groundup.check.adapters import jaxpr

        jax = _jax()
        with self._wide():
            arrays = jax.tree_util.tree_map(
                lambda t: t.array, args, is_leaf=lambda t: isinstance(t, Tensor)
            )
            closed = jax.make_jaxpr(step)(*arrays)
            flat = jax.tree_util.tree_leaves(args, is_leaf=lambda t: isinstance(t, Tensor))
            made = jaxpr.run(closed, [Traced(t) for t in flat])
        return [lifted(held_of(m)) for m in made]


def _plain(value: Any) -> Any:
    """An input with NumPy arrays for JAX's."""
    jax = _jax()
    found = {
        path: np.array(leaf)
        for path, leaf in leaves(value, "")
        if isinstance(leaf, jax.Array | np.ndarray | np.generic | Tensor)
        and not jax.dtypes.issubdtype(getattr(leaf, "dtype", np.float64), jax.dtypes.extended)
    }
    return rebuilt(value, "", found)


def _is_floating(value: Any) -> bool:
    return np.dtype(getattr(value, "dtype", type(value))).kind in "fc"


def _floating(out: Any) -> list[Any]:
    return [leaf for leaf in _jax().tree_util.tree_leaves(out) if _is_floating(leaf)]


def _has_rule(jaxpr: Any) -> bool:
    """Whether a jaxpr calls a function with a gradient of its own."""
    for eqn in jaxpr.eqns:
        if eqn.primitive.name == "custom_vjp_call":
            return True
        for value in eqn.params.values():
            inner = getattr(value, "jaxpr", value)
            if hasattr(inner, "eqns") and _has_rule(inner):
                return True
    return False


def _stripped(closed: Any, arrays: Sequence[Any]) -> list[Any]:
    """A jaxpr's outputs, its functions' own gradients forgotten."""
    jaxpr = closed.jaxpr
    values = dict(zip(jaxpr.constvars, closed.consts, strict=True))
    values.update(zip(jaxpr.invars, arrays, strict=True))

    def read(atom: Any) -> Any:
        return atom.val if hasattr(atom, "val") else values[atom]

    for eqn in jaxpr.eqns:
        args = [read(v) for v in eqn.invars]
        inner = eqn.params.get("call_jaxpr") if eqn.primitive.name == "custom_vjp_call" else None
        if eqn.primitive.name in ("jit", "pjit"):
            inner = eqn.params["jaxpr"]
        if inner is not None:
            found = _stripped(inner, args)
        else:
            bound = eqn.primitive.get_bind_params(eqn.params)
            functions, params = ((), bound) if isinstance(bound, dict) else bound
            made = eqn.primitive.bind(*functions, *args, **params)
            found = made if eqn.primitive.multiple_results else [made]
        values.update(zip(eqn.outvars, found, strict=True))
    return [read(v) for v in jaxpr.outvars]
