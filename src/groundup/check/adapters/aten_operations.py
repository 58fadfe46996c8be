"""PyTorch's operations, by NumPy's functions on Traced arrays."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from groundup import ops
from groundup.backward import grad
from groundup.check.adapters.held import lifted, refuse
from groundup.check.adapters.traced import Traced, emit, held_of
from groundup.check.adapters.traced_ufuncs import gathered, is_live, traced
from groundup.ops.base import state
from groundup.tensor import Tensor


def torch_module(name: str = "torch") -> Any:
    """PyTorch, or a module of it; it is there, if anything of it is checked."""
    return importlib.import_module(name)


def constant(array: Any) -> Any:
    """An array of PyTorch's: whole numbers stay NumPy's."""
    array = np.array(array)
    return Traced(array) if array.dtype.kind in "fb" else array


def _dtype(dtype: Any) -> Any:
    if dtype is None:
        return None
    return np.dtype(str(dtype).removeprefix("torch."))


def _scaled(value: Any, alpha: Any) -> Any:
    return value if alpha == 1 else value * alpha


def _add(x: Any, y: Any, alpha: Any = 1) -> Any:
    return np.add(x, _scaled(y, alpha))


def _sub(x: Any, y: Any, alpha: Any = 1) -> Any:
    return np.subtract(x, _scaled(y, alpha))


def _div(x: Any, y: Any, rounding_mode: str | None = None) -> Any:
    if rounding_mode is None:
        return np.true_divide(x, y)
    return np.floor_divide(x, y) if rounding_mode == "floor" else np.trunc(np.true_divide(x, y))


def _axes(dim: Any) -> Any:
    if isinstance(dim, list | tuple):
        return tuple(dim) if len(dim) else None
    return dim


def _sum(x: Any, dim: Any = None, keepdim: bool = False, dtype: Any = None) -> Any:
    return np.sum(x, axis=_axes(dim), keepdims=keepdim)


def _mean(x: Any, dim: Any = None, keepdim: bool = False, dtype: Any = None) -> Any:
    return np.mean(x, axis=_axes(dim), keepdims=keepdim)


def _extreme(largest: bool) -> Callable[..., Any]:
    values, places = (np.max, np.argmax) if largest else (np.min, np.argmin)

    def of(x: Any, dim: int | None = None, keepdim: bool = False) -> Any:
        if dim is None:
            return values(x)
        at = places(x, axis=dim, keepdims=True)
        found = np.take_along_axis(x, at, dim)
        return (found, at) if keepdim else (np.squeeze(found, dim), np.squeeze(at, dim))

    return of


def _median(x: Any, dim: int | None = None, keepdim: bool = False) -> Any:
    """The lower of the two in the middle, as in PyTorch."""
    if dim is None:
        return np.sort(x, None)[(np.size(x) - 1) // 2]
    at = np.argsort(traced(x).array, axis=dim, kind="stable")
    at = _slice(at, dim, (at.shape[dim] - 1) // 2, (at.shape[dim] - 1) // 2 + 1)
    found = np.take_along_axis(x, at, dim)
    return (found, at) if keepdim else (np.squeeze(found, dim), np.squeeze(at, dim))


def _amax(x: Any, dim: Any = (), keepdim: bool = False) -> Any:
    return np.max(x, axis=_axes(dim), keepdims=keepdim)


def _amin(x: Any, dim: Any = (), keepdim: bool = False) -> Any:
    return np.min(x, axis=_axes(dim), keepdims=keepdim)


def _prod(x: Any, dim: Any = None, keepdim: bool = False, dtype: Any = None) -> Any:
    return np.prod(x, axis=dim, keepdims=keepdim)


def _clamp(x: Any, min: Any = None, max: Any = None) -> Any:
    return np.clip(x, min, max)


def _slice(x: Any, dim: int = 0, start: Any = None, end: Any = None, step: int = 1) -> Any:
    end = None if end is not None and end > np.shape(x)[dim] else end
    return x[(*(slice(None),) * (dim % np.ndim(x)), slice(start, end, step))]


def _slice_scatter(
    x: Any, part: Any, dim: int = 0, start: Any = None, end: Any = None, step: int = 1
) -> Any:
    made = traced(x).copy()
    _slice(made, dim, start, end, step)[...] = part
    return made


def _select(x: Any, dim: int, index: int) -> Any:
    return x[(*(slice(None),) * (dim % np.ndim(x)), index)]


def _select_scatter(x: Any, part: Any, dim: int, index: int) -> Any:
    made = traced(x).copy()
    made[(*(slice(None),) * (dim % np.ndim(x)), index)] = part
    return made


def _diagonal_scatter(x: Any, part: Any, offset: int = 0, dim1: int = 0, dim2: int = 1) -> Any:
    numbers = np.arange(x.size).reshape(x.shape)
    return _put(x, np.diagonal(numbers, offset, dim1, dim2), part)


def _put(x: Any, places: Any, values: Any) -> Any:
    made = traced(x).copy().reshape(-1)
    made[places] = values
    return made.reshape(np.shape(x))


def _strided(x: Any, size: Any, stride: Any) -> Any:
    numbers = np.arange(np.size(x))
    return np.lib.stride_tricks.as_strided(numbers, size, [s * 8 for s in stride])


def _as_strided(x: Any, size: Any, stride: Any, offset: int = 0) -> Any:
    if not size:
        return np.reshape(x, -1)[offset or 0]
    return gathered(traced(x), _strided(x, size, stride) + 1 + (offset or 0))


def _as_strided_scatter(x: Any, part: Any, size: Any, stride: Any, offset: int = 0) -> Any:
    return _put(x, _strided(x, size, stride) + (offset or 0), part)


def _index(x: Any, indices: Any) -> Any:
    return traced(x)[tuple(slice(None) if i is None else i for i in indices)]


def _index_put(x: Any, indices: Any, values: Any, accumulate: bool = False, *rest: Any) -> Any:
    made = traced(x).copy()
    index = tuple(slice(None) if i is None else i for i in indices)
    if accumulate:
        made.add_at(index, values)
    else:
        made[index] = values
    return made


def _along(x: Any, dim: int, index: Any) -> tuple[Any, ...]:
    """The index that picks along an axis and stays put on the others, which may be longer."""
    shape = np.shape(index)
    return tuple(
        np.asarray(index)
        if i == dim % np.ndim(x)
        else np.arange(n).reshape((n,) + (1,) * (len(shape) - i - 1))
        for i, n in enumerate(shape)
    )


def _gather(x: Any, dim: int, index: Any, sparse_grad: bool = False) -> Any:
    return traced(x)[_along(x, dim, index)]


def _scatter(x: Any, dim: int, index: Any, values: Any, reduce: str | None = None) -> Any:
    made = traced(x).copy()
    if np.ndim(values):
        values = values[tuple(slice(n) for n in np.shape(index))]
    if reduce is None:
        made[_along(x, dim, index)] = values
    elif reduce == "add":
        made.add_at(_along(x, dim, index), values)
    else:
        refuse(f"scatter with {reduce}")
    return made


def _scatter_add(x: Any, dim: int, index: Any, values: Any) -> Any:
    return _scatter(x, dim, index, values, "add")


def _index_select(x: Any, dim: int, index: Any) -> Any:
    return np.take(traced(x), index, axis=dim)


def _index_add(x: Any, dim: int, index: Any, values: Any, alpha: Any = 1) -> Any:
    made = traced(x).copy()
    made.add_at((*(slice(None),) * (dim % np.ndim(x)), np.asarray(index)), _scaled(values, alpha))
    return made


def _unfold(x: Any, dim: int, size: int, step: int) -> Any:
    windows = np.lib.stride_tricks.sliding_window_view(traced(x), size, axis=dim)
    return windows[(*(slice(None),) * (dim % np.ndim(x)), slice(None, None, step))]


def _embedding(table: Any, words: Any, *rest: Any) -> Any:
    return traced(table)[words]


def _pad(x: Any, widths: Any, value: Any = 0.0) -> Any:
    sides = [(0, 0)] * np.ndim(x)
    for i in range(len(widths) // 2):
        sides[-1 - i] = (widths[2 * i], widths[2 * i + 1])
    if any(w < 0 for pair in sides for w in pair):
        cut = tuple(
            slice(max(-a, 0), n - max(-b, 0)) for (a, b), n in zip(sides, np.shape(x), strict=True)
        )
        x, sides = x[cut], [(max(a, 0), max(b, 0)) for a, b in sides]
    return np.pad(x, sides, constant_values=value)


def _cat(xs: Any, dim: int = 0) -> Any:
    kept = [x for x in xs if np.shape(x) != (0,)]
    return np.concatenate([traced(x) for x in kept], dim)


def _squeeze(x: Any, dim: Any = None) -> Any:
    if dim is None:
        return np.squeeze(x)
    dims = [dim] if isinstance(dim, int) else dim
    shape = np.shape(x)
    gone = {d % max(len(shape), 1) for d in dims}
    return np.reshape(x, tuple(n for i, n in enumerate(shape) if i not in gone or n != 1))


def _expand(x: Any, size: Any, implicit: bool = False) -> Any:
    own = (1,) * (len(size) - np.ndim(x)) + np.shape(x)
    return np.broadcast_to(x, tuple(o if n == -1 else n for o, n in zip(own, size, strict=True)))


def _split_with_sizes(x: Any, sizes: Any, dim: int = 0) -> Any:
    starts = np.cumsum([0, *sizes]).tolist()
    return [_slice(x, dim, a, a + n) for a, n in zip(starts, sizes, strict=False)]


def _roll(x: Any, shifts: Any, dims: Any = ()) -> Any:
    return np.roll(x, tuple(shifts), tuple(dims)) if len(dims) else np.roll(x, shifts[0])


def _softmax(x: Any, dim: int, half: bool = False) -> Any:
    return emit(ops.softmax, traced(x).tensor, axis=dim)


def _log_softmax(x: Any, dim: int, half: bool = False) -> Any:
    return emit(ops.log_softmax, traced(x).tensor, axis=dim)


def _sigmoid(x: Any) -> Any:
    return emit(ops.sigmoid, traced(x).tensor)


def _relu(x: Any) -> Any:
    return emit(ops.relu, traced(x).tensor)


def _erf(x: Any) -> Any:
    return emit(ops.erf, traced(x).tensor)


def _cast(x: Any, dtype: Any = None, **kwargs: Any) -> Any:
    wanted = _dtype(dtype)
    if wanted is None:
        return x
    return x.astype(wanted) if wanted.kind in "fb" else np.asarray(traced(x).astype(wanted))


def _full(size: Any, value: Any, dtype: Any = None, **kwargs: Any) -> Any:
    kind = _dtype(dtype)
    if kind is None:
        kind = np.dtype(np.float64) if isinstance(value, float) else None
    return constant(np.full(tuple(size), value, kind))


def _full_like(x: Any, value: Any, dtype: Any = None, **kwargs: Any) -> Any:
    return constant(np.full(np.shape(x), value, _dtype(dtype) or x.dtype))


def _scalar(value: Any, dtype: Any = None, **kwargs: Any) -> Any:
    return constant(np.array(value, _dtype(dtype)))


def _arange(start: Any, end: Any = None, step: Any = 1, dtype: Any = None, **kwargs: Any) -> Any:
    start, end = (0, start) if end is None else (start, end)
    return constant(np.arange(start, end, step, dtype=_dtype(dtype)))


def _sort(x: Any, dim: int = -1, descending: bool = False, stable: Any = None) -> Any:
    array = traced(x).array
    at = np.argsort(-array if descending else array, axis=dim, kind="stable")
    return np.take_along_axis(x, at, dim), at


def _topk(x: Any, k: int, dim: int = -1, largest: bool = True, ordered: bool = True) -> Any:
    found, at = _sort(x, dim, largest)
    return _slice(found, dim, 0, k), _slice(at, dim, 0, k)


def _var(x: Any, dim: Any = None, correction: Any = 1, keepdim: bool = False) -> Any:
    return np.var(x, axis=_axes(dim), ddof=1 if correction is None else correction,
                  keepdims=keepdim)  # fmt: skip


def _var_mean(x: Any, dim: Any = None, correction: Any = 1, keepdim: bool = False) -> Any:
    return _var(x, dim, correction, keepdim), _mean(x, dim, keepdim)


def windows_of(x: Any, sizes: Any, stride: Any, padding: Any, dilation: Any, fill: float) -> Any:
    """(n, c, out0, k0, out1, k1, ...) of (n, c, length0, length1, ...)."""
    n = len(sizes)
    stride, padding, dilation = (list(v) * (n if len(v) == 1 else 1)
                                 for v in (stride, padding, dilation))  # fmt: skip
    if any(padding):
        x = np.pad(x, [(0, 0), (0, 0), *((p, p) for p in padding)], constant_values=fill)
    grids = []
    for i, (k, s, d, length) in enumerate(zip(sizes, stride, dilation, x.shape[2:], strict=True)):
        starts = np.arange(0, length - d * (k - 1), s)
        grid = starts[:, None] + d * np.arange(k)
        grids.append(grid.reshape(*grid.shape, *(1,) * (2 * (n - i - 1))))
    return x[(slice(None), slice(None), *grids)]


def _convolution(
    x: Any, w: Any, bias: Any, stride: Any, padding: Any, dilation: Any, transposed: bool,
    output_padding: Any, groups: int,
) -> Any:  # fmt: skip
    x, w = traced(x), traced(w)
    n = x.ndim - 2
    if transposed:
        x, w = _turned(x, w, stride, padding, dilation, output_padding, groups)
        stride, padding = (1,), (0,)
    outs, inner = "pqr"[:n], "ijk"[:n]
    pairs = "".join(a + b for a, b in zip(outs, inner, strict=True))
    subscripts = f"nc{pairs},fc{inner}->nf{outs}"
    parts = []
    rows, filters = x.shape[1] // groups, w.shape[0] // groups
    for g in range(groups):
        own = x if groups == 1 else x[:, g * rows : (g + 1) * rows]
        kernel = w if groups == 1 else w[g * filters : (g + 1) * filters]
        windows = windows_of(own, w.shape[2:], stride, padding, dilation, 0.0)
        parts.append(np.einsum(subscripts, windows, kernel))
    out = parts[0] if groups == 1 else np.concatenate(parts, 1)
    return out if bias is None else out + np.reshape(bias, (-1, *(1,) * n))


def _turned(
    x: Any, w: Any, stride: Any, padding: Any, dilation: Any, output_padding: Any, groups: int
) -> tuple[Any, Any]:
    """The image and kernel whose plain convolution is the transposed one."""
    n = x.ndim - 2
    stride, padding, dilation, more = (
        list(v) * (n if len(v) == 1 else 1) for v in (stride, padding, dilation, output_padding)
    )
    spread = Traced(np.zeros((*x.shape[:2], *((m - 1) * s + 1
                              for m, s in zip(x.shape[2:], stride, strict=True)))))  # fmt: skip
    spread[(slice(None), slice(None), *(slice(None, None, s) for s in stride))] = x
    sides = [d * (k - 1) - p for k, d, p in zip(w.shape[2:], dilation, padding, strict=True)]
    widths = [side for a, m in zip(sides, more, strict=True) for side in (a, a + m)]
    # _pad counts from the last axis on, pair by pair.
    pairs = [widths[i : i + 2] for i in range(0, len(widths), 2)][::-1]
    image = _pad(spread, [side for pair in pairs for side in pair])
    kernel = np.flip(w, tuple(range(2, w.ndim)))
    parts = [np.swapaxes(part, 0, 1) for part in np.split(kernel, groups, 0)]
    return image, np.concatenate(parts, 0)


def _convolution_backward(
    g: Any, x: Any, w: Any, bias_sizes: Any, stride: Any, padding: Any, dilation: Any,
    transposed: bool, output_padding: Any, groups: int, wanted: Any,
) -> Any:  # fmt: skip
    def forward(x: Any, w: Any) -> Any:
        return _convolution(
            x, w, None, stride, padding, dilation, transposed, output_padding, groups
        )

    dx, dw = pulled_back(forward, [x, w], g)
    db = np.sum(g, axis=(0, *range(2, np.ndim(g)))) if wanted[2] else None
    return dx, dw, db


def pulled_back(function: Callable[..., Any], inputs: Sequence[Any], cotangent: Any) -> list[Any]:
    """The gradients of a function of Traced arrays, by its ops."""
    # The same arrays, so the same values to a recorder.
    tensors = [Tensor.of(traced(x).tensor.array) for x in inputs]
    for tensor in tensors:
        tensor.requires_grad = True
    before, state.recording = state.recording, True
    try:
        out = function(*map(Traced, tensors)).tensor
        return [Traced(g) for g in grad(out, tensors, lifted(held_of(cotangent)))]
    finally:
        state.recording = before


def _max_pool(
    x: Any, kernel: Any, stride: Any = (), padding: Any = (0,), dilation: Any = (1,), *rest: Any
) -> Any:
    if any(rest):
        refuse("max pooling with ceil_mode")
    torch = torch_module()
    kernel = list(kernel) * (2 if len(kernel) == 1 else 1)
    array = torch.from_numpy(np.array(traced(x).array))
    at = torch.ops.aten.max_pool2d_with_indices(
        array, kernel, list(stride), list(padding), list(dilation)
    )[1].numpy()
    flat = np.reshape(x, (*np.shape(x)[:-2], -1))
    found = np.take_along_axis(flat, at.reshape(*at.shape[:-2], -1), -1)
    return found.reshape(at.shape), at


def _avg_pool(
    x: Any, kernel: Any, stride: Any = (), padding: Any = (0,), ceil: bool = False,
    include: bool = True, divisor: Any = None,
) -> Any:  # fmt: skip
    if ceil or divisor or (any(padding) and not include):
        refuse("average pooling with such options")
    kernel = list(kernel) * (2 if len(kernel) == 1 else 1)
    made = windows_of(traced(x), kernel, stride or kernel, padding, (1,), 0.0)
    return np.mean(made, axis=(3, 5))


def _avg_pool_backward(g: Any, x: Any, *options: Any) -> Any:
    return pulled_back(lambda x: _avg_pool(x, *options), [x], g)[0]


def _where(condition: Any, x: Any, y: Any) -> Any:
    return np.where(condition, x, y)


def _same(x: Any, *args: Any, **kwargs: Any) -> Any:
    return x


OPERATIONS: dict[str, Callable[..., Any]] = {
    "add": _add, "sub": _sub, "rsub": lambda x, y, alpha=1: y - _scaled(x, alpha),
    "mul": np.multiply, "div": _div, "neg": np.negative, "pow": np.power, "exp": np.exp,
    "expm1": np.expm1, "log": np.log, "log1p": np.log1p, "log2": np.log2, "log10": np.log10,
    "sqrt": np.sqrt, "rsqrt": lambda x: 1.0 / np.sqrt(x), "reciprocal": lambda x: 1.0 / x,
    "square": np.square, "sin": np.sin, "cos": np.cos, "tan": np.tan, "sinh": np.sinh,
    "cosh": np.cosh, "tanh": np.tanh, "sigmoid": _sigmoid, "relu": _relu, "erf": _erf,
    "abs": np.abs, "sign": np.sign, "sgn": np.sign, "floor": np.floor, "ceil": np.ceil,
    "round": np.rint, "trunc": np.trunc, "asinh": np.arcsinh, "atanh": np.arctanh,
    "acosh": np.arccosh, "exp2": np.exp2, "remainder": np.remainder, "fmod": np.fmod,
    "clamp": _clamp, "clamp_min": lambda x, low: np.clip(x, low, None),
    "clamp_max": lambda x, high: np.clip(x, None, high), "maximum": np.maximum,
    "minimum": np.minimum, "where": _where, "eq": np.equal, "ne": np.not_equal, "lt": np.less,
    "le": np.less_equal, "gt": np.greater, "ge": np.greater_equal, "logical_and": np.logical_and,
    "logical_or": np.logical_or, "logical_not": np.logical_not, "logical_xor": np.logical_xor,
    "bitwise_and": np.bitwise_and, "bitwise_or": np.bitwise_or, "bitwise_not": np.invert,
    "isnan": np.isnan, "isinf": np.isinf, "signbit": np.signbit, "hypot": np.hypot,
    "mm": np.matmul, "bmm": np.matmul, "mv": np.matmul, "dot": np.matmul, "matmul": np.matmul,
    "permute": np.transpose, "transpose": np.swapaxes, "t": np.transpose,
    "view": lambda x, size: np.reshape(x, tuple(size)),
    "_unsafe_view": lambda x, size: np.reshape(x, tuple(size)),
    "reshape": lambda x, size: np.reshape(x, tuple(size)), "expand": _expand,
    "unsqueeze": lambda x, dim: np.expand_dims(x, dim), "squeeze": _squeeze, "slice": _slice,
    "slice_scatter": _slice_scatter, "select": _select, "select_scatter": _select_scatter,
    "diagonal": np.diagonal, "diagonal_scatter": _diagonal_scatter, "as_strided": _as_strided,
    "as_strided_scatter": _as_strided_scatter, "cat": _cat, "stack": lambda xs, dim=0: np.stack(
        [traced(x) for x in xs], dim),
    "split": lambda x, n, dim=0: _split_with_sizes(
        x, [min(n, np.shape(x)[dim] - a) for a in range(0, np.shape(x)[dim], n)], dim),
    "split_with_sizes": _split_with_sizes, "constant_pad_nd": _pad, "flip": np.flip,
    "unbind": lambda x, dim=0: [_select(x, dim, i) for i in range(np.shape(x)[dim])],
    "roll": _roll, "repeat": lambda x, times: np.tile(x, tuple(times)),
    "sum": _sum, "mean": _mean, "amax": _amax, "amin": _amin, "max": _extreme(True),
    "min": _extreme(False), "prod": _prod, "cumprod": lambda x, dim, dtype=None: np.cumprod(x, dim),
    "median": _median, "var": _var, "var_mean": _var_mean,
    "cumsum": lambda x, dim, dtype=None: np.cumsum(x, dim), "any": lambda x, dim=None,
    keepdim=False: np.any(x, axis=_axes(dim), keepdims=keepdim), "all": lambda x, dim=None,
    keepdim=False: np.all(x, axis=_axes(dim), keepdims=keepdim),
    "index": _index, "index_put": _index_put, "_unsafe_index": _index,
    "_unsafe_index_put": _index_put, "gather": _gather, "scatter": _scatter,
    "scatter_add": _scatter_add, "index_select": _index_select, "index_add": _index_add,
    "unfold": _unfold, "embedding": _embedding, "sort": _sort, "topk": _topk,
    "tril": np.tril, "triu": np.triu,
    "_softmax": _softmax, "_log_softmax": _log_softmax,
    "convolution": _convolution, "convolution_backward": _convolution_backward,
    "max_pool2d_with_indices": _max_pool, "avg_pool2d": _avg_pool,
    "avg_pool2d_backward": _avg_pool_backward,
    "clone": lambda x, **kwargs: traced(x).copy() if type(x) is Traced else x,
    "copy": lambda x, y, *rest: _expand(y, np.shape(x)), "copy_": lambda x, y, *rest: y,
    "detach": _same, "alias": _same, "lift_fresh_copy": _same, "lift_fresh": _same,
    "lift": _same, "contiguous": _same, "_to_copy": _cast, "full": _full,
    "full_like": _full_like, "zeros": lambda size, **kw: _full(size, 0.0, **kw),
    "ones": lambda size, **kw: _full(size, 1.0, **kw),
    "empty": lambda size, **kw: _full(size, 0.0, **kw),
    "zeros_like": lambda x, **kw: _full_like(x, 0, **kw),
    "ones_like": lambda x, **kw: _full_like(x, 1, **kw),
    "empty_like": lambda x, **kw: _full_like(x, 0, **kw),
    "new_zeros": lambda x, size, **kw: _full(size, 0.0, **kw),
    "new_ones": lambda x, size, **kw: _full(size, 1.0, **kw),
    "new_empty": lambda x, size, **kw: _full(size, 0.0, **kw),
    "new_empty_strided": lambda x, size, stride, **kw: _full(size, 0.0, **kw),
    "new_full": lambda x, size, value, **kw: _full(size, value, **kw),
    "fill": lambda x, value: _full_like(x, value) if not is_live(value) else _expand(
        value, np.shape(x)),
    "scalar_tensor": _scalar, "arange": _arange, "_local_scalar_dense": lambda x: traced(x).item(),
    "sym_size": lambda x, dim: np.shape(x)[dim],
}  # fmt: skip
