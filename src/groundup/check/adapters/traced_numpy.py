"""NumPy's calls on Traced arrays: it computes what is constant itself, groundup's ops the rest."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from groundup.check.adapters import (  # they fill the tables
    traced_linalg as traced_linalg,
    traced_shapes as traced_shapes,
)
from groundup.check.adapters.held import refuse
from groundup.check.adapters.traced import Traced, plain
from groundup.check.adapters.traced_reductions import (
    cumsum,
    largest,
    logsumexp,
    prod,
    smallest,
    total,
)
from groundup.check.adapters.traced_ufuncs import (
    FUNCTIONS,
    VIEWS,
    WRITING,
    call_ufunc,
    is_live,
    rearranged,
    wrapped,
)


def run_ufunc(ufunc: np.ufunc, method: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """`Traced.__array_ufunc__`."""
    kwargs = {k: v for k, v in kwargs.items() if k not in ("casting", "order", "subok", "dtype")}
    out = kwargs.pop("out", None)
    if out is not None:
        out = out[0] if isinstance(out, tuple) else out
    if method == "at":
        if ufunc not in (np.add, np.subtract) or type(args[0]) is not Traced:
            refuse(f"np.{ufunc.__name__}.at of such arrays")
        args[0].add_at(args[1], args[2], 1 if ufunc is np.add else -1)
        return None
    where = kwargs.pop("where", True)
    if not is_live(list(args)) and not is_live(where) and not is_live(out):
        if out is not None:
            kwargs["out"] = plain(out)
        if where is not True:
            kwargs["where"] = plain(where)
        made = getattr(ufunc, method)(*plain(args), **kwargs)
        return out if out is not None else wrapped(made, args)
    if method == "__call__":
        made = call_ufunc(ufunc, args)
    else:
        made = _METHODS[method](ufunc, *args, **kwargs) if method in _METHODS else None
    if made is None:
        refuse(f"np.{ufunc.__name__}.{method}")
    if where is not True:
        made = np.where(where, made, 0.0 if out is None else out)
    if out is None:
        return made
    if type(out) is not Traced:
        refuse("writing into a plain array")
    out.write(made)
    return out


_REDUCING: dict[str, Callable[..., Any]] = {
    "add": total, "multiply": prod, "maximum": largest, "minimum": smallest,
    "logaddexp": logsumexp,
}  # fmt: skip


def _reduce(ufunc: np.ufunc, x: Any, axis: Any = 0, keepdims: bool = False, **kwargs: Any) -> Any:
    if ufunc in (np.logical_and, np.logical_or):
        truths: Any = ufunc
        return truths.reduce(plain(x), axis=axis, keepdims=keepdims)
    found = _REDUCING.get(ufunc.__name__)
    return None if found is None else found(x, axis=axis, keepdims=keepdims)


def _accumulate(ufunc: np.ufunc, x: Any, axis: int = 0) -> Any:
    return cumsum(x, axis) if ufunc is np.add else None


def _outer(ufunc: np.ufunc, x: Any, y: Any) -> Any:
    return ufunc(np.reshape(x, (*np.shape(x), *(1,) * np.ndim(y))), y)


_METHODS: dict[str, Callable[..., Any]] = {
    "reduce": _reduce, "accumulate": _accumulate, "outer": _outer,
}  # fmt: skip


def run_function(function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """`Traced.__array_function__`."""
    if function in VIEWS:
        return VIEWS[function](*args, **kwargs)
    out = kwargs.pop("out", None)
    if function in WRITING:
        return WRITING[function](*args, **kwargs)
    if not is_live([*args, *kwargs.values(), out]):
        made = function(*plain(args), **{k: plain(v) for k, v in kwargs.items()})
        made = wrapped(made, [*args, *_inside(args)])
    elif function in FUNCTIONS:
        kwargs.pop("dtype", None)
        made = FUNCTIONS[function](*args, **kwargs)
    elif function in REARRANGING:
        made = rearranged(function, args, kwargs)
    elif function in OF_VALUES:
        made = function(*plain(args), **{k: plain(v) for k, v in kwargs.items()})
    else:
        refuse(f"np.{function.__name__}")
    if out is None:
        return made
    if type(out) is not Traced:
        refuse("writing into a plain array")
    out.write(made)
    return out


def _inside(args: Sequence[Any]) -> list[Any]:
    return [v for a in args if isinstance(a, list | tuple) for v in a]


# Functions of which only the present values matter: what they give chooses, counts and sorts.
OF_VALUES = {
    np.argmax, np.argmin, np.argsort, np.nonzero, np.argwhere, np.flatnonzero, np.count_nonzero,
    np.any, np.all, np.array_equal, np.allclose, np.isclose, np.searchsorted, np.digitize,
    np.shape, np.ndim, np.size, np.iscomplexobj, np.isrealobj, np.lexsort, np.argpartition,
    np.result_type, np.can_cast, np.may_share_memory, np.shares_memory, np.array2string,
    np.array_repr, np.array_str, np.min_scalar_type, np.common_type, np.isneginf, np.isposinf,
    np.ix_, np.unravel_index, np.iscomplex, np.isreal,
}  # fmt: skip

# Functions whose result has entries of their first argument, at places that the others decide.
REARRANGING = {
    np.flip, np.fliplr, np.flipud, np.rot90, np.repeat, np.tile, np.delete, np.diag, np.diagonal,
    np.diagflat, np.triu, np.tril, np.resize, np.lib.stride_tricks.as_strided,
    np.lib.stride_tricks.sliding_window_view, np.roll,
}  # fmt: skip
