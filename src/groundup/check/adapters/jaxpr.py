"""JAX's jaxprs, run with NumPy's functions on Traced arrays."""

from __future__ import annotations

import importlib
import itertools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from groundup import ops
from groundup.check.adapters.aten_operations import windows_of
from groundup.check.adapters.held import refuse
from groundup.check.adapters.traced import Traced, emit
from groundup.check.adapters.traced_ufuncs import gathered, is_live, traced


def _jax(name: str = "jax") -> Any:
    return importlib.import_module(name)


def run(closed: Any, arrays: Sequence[Any]) -> list[Any]:
    """A closed jaxpr's outputs from arrays, traced or not."""
    consts = [constant(c) for c in closed.consts]
    return _run(closed.jaxpr, consts, arrays)


def _run(jaxpr: Any, consts: Sequence[Any], arrays: Sequence[Any]) -> list[Any]:
    values: dict[Any, Any] = {}
    values.update(zip(jaxpr.constvars, consts, strict=True))
    values.update(zip(jaxpr.invars, arrays, strict=True))

    def read(atom: Any) -> Any:
        return constant(atom.val) if hasattr(atom, "val") else values[atom]

    for eqn in jaxpr.eqns:
        found = _call(eqn.primitive, [read(v) for v in eqn.invars], eqn.params)
        outs = found if eqn.primitive.multiple_results else [found]
        values.update(zip(eqn.outvars, outs, strict=True))
    return [read(v) for v in jaxpr.outvars]


def constant(value: Any) -> Any:
    """An array of JAX's, or a number, that depends on nothing: whole numbers stay NumPy's."""
    if not hasattr(value, "dtype") or _jax().dtypes.issubdtype(value.dtype, _jax().dtypes.extended):
        return value if hasattr(value, "dtype") else constant(np.asarray(value))
    array = np.array(value)
    return Traced(array) if array.dtype.kind in "fb" else array


def _call(primitive: Any, args: list[Any], params: dict[str, Any]) -> Any:
    name = primitive.name
    if name in CALLS:
        return CALLS[name](args, params)
    if not is_live(args):
        made = _really(primitive, args, params)
        return [constant(m) for m in made] if primitive.multiple_results else constant(made)
    known = PRIMITIVES.get(name)
    if known is None:
        refuse(f"JAX's {name}")
    if isinstance(known, np.ufunc):
        return known(*args)
    return known(*args, **{k: v for k, v in params.items() if k not in _IRRELEVANT})


_IRRELEVANT = ("out_sharding", "sharding", "accuracy", "weak_type", "is_stable", "precision",
               "preferred_element_type", "indices_are_sorted", "unique_indices")  # fmt: skip


def _really(primitive: Any, args: Sequence[Any], params: dict[str, Any]) -> Any:
    """The primitive itself, on what the arrays hold now."""
    return primitive.bind(*(a.array if type(a) is Traced else a for a in args), **params)


# Primitives that hold jaxprs


def _inner(jaxpr: Any, args: Sequence[Any]) -> list[Any]:
    return run(jaxpr, args) if hasattr(jaxpr, "consts") else _run(jaxpr, (), args)


def _calls(key: str) -> Callable[..., Any]:
    return lambda args, params: _inner(params[key], args)


def _scan(args: list[Any], params: dict[str, Any]) -> list[Any]:
    n_consts, n_carry, length = params["num_consts"], params["num_carry"], params["length"]
    consts, carry = args[:n_consts], args[n_consts : n_consts + n_carry]
    rows = args[n_consts + n_carry :]
    found: list[list[Any]] = []
    for i in range(length)[:: -1 if params["reverse"] else 1]:
        made = _inner(params["jaxpr"], [*consts, *carry, *(r[i] for r in rows)])
        carry = made[:n_carry]
        found.append(made[n_carry:])
    found = found[:: -1 if params["reverse"] else 1]
    return [*carry, *(np.stack([traced(m) for m in column]) for column in zip(*found, strict=True))]


def _while(args: list[Any], params: dict[str, Any]) -> list[Any]:
    n, m = params["cond_nconsts"], params["body_nconsts"]
    of_condition, of_body, carry = args[:n], args[n : n + m], args[n + m :]
    while bool(_inner(params["cond_jaxpr"], [*of_condition, *carry])[0]):
        carry = _inner(params["body_jaxpr"], [*of_body, *carry])
    return carry


def _cond(args: list[Any], params: dict[str, Any]) -> list[Any]:
    branches = params["branches"]
    return _inner(branches[min(max(int(args[0]), 0), len(branches) - 1)], args[1:])


CALLS: dict[str, Callable[..., Any]] = {
    "jit": _calls("jaxpr"), "pjit": _calls("jaxpr"), "closed_call": _calls("call_jaxpr"),
    "core_call": _calls("call_jaxpr"), "checkpoint": _calls("jaxpr"), "remat2": _calls("jaxpr"),
    "custom_jvp_call": _calls("call_jaxpr"), "custom_vjp_call": _calls("call_jaxpr"),
    "custom_lin": _calls("call_jaxpr"), "scan": _scan, "while": _while, "cond": _cond,
}  # fmt: skip


# The primitives


def _broadcast(x: Any, shape: Any, broadcast_dimensions: Any) -> Any:
    at = dict(zip(broadcast_dimensions, np.shape(x), strict=True))
    spread = np.reshape(x, tuple(at.get(i, 1) for i in range(len(shape))))
    return np.broadcast_to(spread, tuple(shape))


def _dot(x: Any, y: Any, dimension_numbers: Any, **params: Any) -> Any:
    (left, right), (batch_x, batch_y) = dimension_numbers
    letters = iter("abcdefghijklmnopqrstuvwxyz")
    of_x = [next(letters) for _ in range(np.ndim(x))]
    of_y = [next(letters) for _ in range(np.ndim(y))]
    for i, j in itertools.chain(zip(left, right, strict=True), zip(batch_x, batch_y, strict=True)):
        of_y[j] = of_x[i]
    batch = [of_x[i] for i in batch_x]
    gone = {of_x[i] for i in (*left, *batch_x)}
    kept = [c for c in (*of_x, *of_y) if c not in gone]
    if np.ndim(x) == np.ndim(y) == 2 and not batch and (list(left), list(right)) == ([1], [0]):
        return np.matmul(x, y)
    return np.einsum(f"{''.join(of_x)},{''.join(of_y)}->{''.join(batch + kept)}", x, y)


def _slice(x: Any, start_indices: Any, limit_indices: Any, strides: Any) -> Any:
    steps = strides or (1,) * np.ndim(x)
    return x[tuple(slice(*s) for s in zip(start_indices, limit_indices, steps, strict=True))]


def _pad(x: Any, value: Any, padding_config: Any) -> Any:
    x = traced(x)
    if any(inner for _, _, inner in padding_config):
        shape = tuple(
            n + max(n - 1, 0) * c for n, (_, _, c) in zip(x.shape, padding_config, strict=True)
        )
        made = Traced(np.full(shape, float(value)))
        made[tuple(slice(None, None, c + 1) for _, _, c in padding_config)] = x
        x = made
    cut = tuple(
        slice(max(-a, 0), n - max(-b, 0))
        for n, (a, b, _) in zip(x.shape, padding_config, strict=True)
    )
    sides = [(int(max(a, 0)), int(max(b, 0))) for a, b, _ in padding_config]
    return np.pad(x[cut], sides, constant_values=float(value))


def _gather(x: Any, at: Any, dimension_numbers: Any, slice_sizes: Any, mode: Any,
            fill_value: Any) -> Any:  # fmt: skip
    numbers = np.arange(1, np.size(x) + 1).reshape(np.shape(x))
    places = np.array(_jax("jax.lax").gather(
        numbers, np.asarray(at), dimension_numbers, slice_sizes, mode=mode, fill_value=0
    ))  # fmt: skip
    if (places == 0).any() and fill_value is None:
        refuse("JAX's gather of places that are not there")
    return gathered(traced(x), places)


def _dynamic_slice(x: Any, *starts: Any, slice_sizes: Any) -> Any:
    begin = [
        min(max(int(s), 0), n - k) for s, n, k in zip(starts, np.shape(x), slice_sizes, strict=True)
    ]
    return x[tuple(slice(b, b + k) for b, k in zip(begin, slice_sizes, strict=True))]


def _dynamic_update_slice(x: Any, part: Any, *starts: Any) -> Any:
    made = traced(x).copy()
    _dynamic_slice(made, *starts, slice_sizes=np.shape(part))[...] = part
    return made


def _scatter(adds: bool) -> Callable[..., Any]:
    def of(x: Any, at: Any, updates: Any, dimension_numbers: Any, mode: Any, **params: Any) -> Any:
        jax = _jax()
        # Where each update goes: what comes back to it if every place sends its number.
        shape = np.shape(x)
        numbers = np.arange(1.0, int(np.prod(shape)) + 1).reshape(shape)

        def scattered(u: Any) -> Any:
            return jax.lax.scatter_add(
                np.zeros(shape), np.asarray(at), u, dimension_numbers, mode=mode
            )

        _, back = jax.vjp(scattered, np.zeros(np.shape(updates)))
        places = np.rint(np.array(back(numbers)[0])).astype(np.int64) - 1
        if (places < 0).any():
            refuse("JAX's scatter to places that are not there")
        flat = traced(x).copy().reshape(-1)
        if adds:
            flat.add_at(places, updates)
        else:
            flat[places] = updates
        return np.reshape(flat, shape)

    return of


def _convolution(
    x: Any, w: Any, window_strides: Any, padding: Any, lhs_dilation: Any, rhs_dilation: Any,
    dimension_numbers: Any, feature_group_count: int, batch_group_count: int, **params: Any,
) -> Any:  # fmt: skip
    if batch_group_count != 1 or feature_group_count != 1:
        refuse("JAX's convolution in groups")
    spec = dimension_numbers
    x, w = np.transpose(traced(x), spec.lhs_spec), np.transpose(traced(w), spec.rhs_spec)
    sides = [(a, b, d - 1) for (a, b), d in zip(padding, lhs_dilation, strict=True)]
    x = _pad(x, 0.0, [(0, 0, 0), (0, 0, 0), *sides])
    n = x.ndim - 2
    outs, inner = "pqr"[:n], "ijk"[:n]
    pairs = "".join(a + b for a, b in zip(outs, inner, strict=True))
    windows = windows_of(x, w.shape[2:], window_strides, (0,), rhs_dilation, 0.0)
    out = np.einsum(f"nc{pairs},fc{inner}->nf{outs}", windows, w)
    return np.transpose(out, tuple(int(i) for i in np.argsort(spec.out_spec)))


def _cast(x: Any, new_dtype: Any) -> Any:
    return traced(x).astype(np.dtype(new_dtype))


def _select(which: Any, *cases: Any) -> Any:
    if len(cases) != 2:
        refuse("JAX's select of more than two")
    return np.where(which != 0, cases[1], cases[0])


def _cumsum(x: Any, axis: int, reverse: bool) -> Any:
    return np.flip(np.cumsum(np.flip(x, axis), axis), axis) if reverse else np.cumsum(x, axis)


def _sort(*xs: Any, dimension: int, num_keys: int, **params: Any) -> list[Any]:
    if num_keys != 1:
        refuse("JAX's sort by several keys")
    at = np.argsort(traced(xs[0]).array, axis=dimension, kind="stable")
    return [np.take_along_axis(x, at, dimension) for x in xs]


def _split(x: Any, sizes: Any, axis: int) -> list[Any]:
    return list(np.split(x, np.cumsum(sizes)[:-1].tolist(), axis))


def _argument(function: Callable[..., Any]) -> Callable[..., Any]:
    return lambda x, axes, index_dtype: function(x, axis=axes[0]).astype(index_dtype)


def _reduction(function: Callable[..., Any]) -> Callable[..., Any]:
    return lambda x, axes: function(x, axis=tuple(axes)) if len(axes) else x


def _op(op: Any) -> Callable[..., Any]:
    return lambda x: emit(op, traced(x).tensor)


PRIMITIVES: dict[str, Callable[..., Any]] = {
    "add": np.add, "add_any": np.add, "sub": np.subtract, "mul": np.multiply,
    "div": np.true_divide, "rem": np.fmod, "neg": np.negative, "max": np.maximum,
    "min": np.minimum, "pow": np.power, "integer_pow": lambda x, y: x**y, "exp": np.exp,
    "exp2": np.exp2, "expm1": np.expm1, "log": np.log, "log1p": np.log1p, "sqrt": np.sqrt,
    "rsqrt": lambda x: 1.0 / np.sqrt(x), "cbrt": np.cbrt, "square": np.square, "sin": np.sin,
    "cos": np.cos, "tan": np.tan, "sinh": np.sinh, "cosh": np.cosh, "tanh": np.tanh,
    "asinh": np.arcsinh, "acosh": np.arccosh, "atanh": np.arctanh, "logistic": _op(ops.sigmoid),
    "erf": _op(ops.erf), "erfc": lambda x: 1.0 - emit(ops.erf, traced(x).tensor),
    "abs": np.abs, "sign": np.sign, "floor": np.floor, "ceil": np.ceil,
    "round": lambda x, rounding_method: np.rint(x), "is_finite": np.isfinite, "eq": np.equal,
    "ne": np.not_equal, "lt": np.less, "le": np.less_equal, "gt": np.greater,
    "ge": np.greater_equal, "and": np.bitwise_and, "or": np.bitwise_or, "not": np.invert,
    "xor": np.bitwise_xor, "select_n": _select, "clamp": lambda low, x, high: np.clip(x, low, high),
    "stop_gradient": _op(ops.detach), "copy": lambda x: x, "copy_p": lambda x: x,
    "reduce_precision": lambda x, **params: x, "convert_element_type": _cast,
    "broadcast_in_dim": _broadcast, "dot_general": _dot,
    "reshape": lambda x, new_sizes, dimensions: np.reshape(x, tuple(new_sizes)),
    "transpose": lambda x, permutation: np.transpose(x, tuple(permutation)),
    "squeeze": lambda x, dimensions: np.squeeze(x, tuple(dimensions)),
    "expand_dims": lambda x, dimensions: np.expand_dims(x, tuple(dimensions)),
    "rev": lambda x, dimensions: np.flip(x, tuple(dimensions)), "slice": _slice, "pad": _pad,
    "concatenate": lambda *xs, dimension: np.concatenate([traced(x) for x in xs], dimension),
    "split": _split, "gather": _gather, "scatter": _scatter(False), "scatter-add": _scatter(True),
    "dynamic_slice": _dynamic_slice, "dynamic_update_slice": _dynamic_update_slice,
    "reduce_sum": _reduction(np.sum), "reduce_max": _reduction(np.max),
    "reduce_min": _reduction(np.min), "reduce_prod": _reduction(np.prod),
    "reduce_and": _reduction(np.all), "reduce_or": _reduction(np.any),
    "argmax": _argument(np.argmax), "argmin": _argument(np.argmin), "cumsum": _cumsum,
    "sort": _sort, "conv_general_dilated": _convolution, "real": lambda x: x,
}  # fmt: skip
