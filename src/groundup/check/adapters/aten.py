"""PyTorch's graphs of ATen operations, run with NumPy's functions on Traced arrays.

PyTorch itself writes down what its code does (`make_fx`), without in-place operations and views
(`functionalize`), larger operations taken apart; what is left is here, by its name.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from groundup.check.adapters.aten_operations import OPERATIONS, constant, torch_module
from groundup.check.adapters.held import refuse
from groundup.check.adapters.traced import Traced
from groundup.check.adapters.traced_ufuncs import is_live

# Beyond those of PyTorch's core set, operations that PyTorch takes apart for us.
_TAKEN_APART = (
    "native_layer_norm", "native_layer_norm_backward", "native_group_norm",
    "native_group_norm_backward", "native_batch_norm", "_native_batch_norm_legit",
    "_native_batch_norm_legit_functional", "_native_batch_norm_legit_no_training",
    "native_batch_norm_backward", "nll_loss_forward", "nll_loss_backward", "gelu", "elu", "silu",
    "leaky_relu", "softplus", "hardtanh", "log_sigmoid_forward", "mse_loss", "smooth_l1_loss",
    "var_mean", "std", "std_mean", "addmm", "addmv", "embedding", "norm", "var",
    "max_pool2d_with_indices_backward", "glu", "logsumexp", "linalg_vector_norm", "hardswish",
    "unfold_backward", "split_with_sizes", "unbind", "l1_loss", "celu", "mish",
    "native_dropout", "baddbmm",
)  # fmt: skip


_tables: list[dict[Any, Any]] = []


def _table() -> dict[Any, Any]:
    if not _tables:
        aten = torch_module().ops.aten
        decompositions = torch_module("torch._decomp")
        known = [getattr(aten, name) for name in _TAKEN_APART if hasattr(aten, name)]
        made = {**decompositions.core_aten_decompositions()}
        made.update(decompositions.get_decompositions(known))
        _tables.append({k: v for k, v in made.items() if _name(k) not in OPERATIONS})
    return _tables[0]


def _name(target: Any) -> str:
    schema = getattr(target, "_schema", None)
    return "" if schema is None else str(schema.name).split("::")[-1]


def graph_of(function: Callable[..., Any], tensors: Sequence[Any]) -> Any:
    """What a function of PyTorch tensors does with these, as a graph of ATen operations."""
    make_fx = torch_module("torch.fx.experimental.proxy_tensor").make_fx
    options = {"tracing_mode": "real", "_error_on_data_dependent_ops": False}
    # First with in-place operations and its own autograd, which functionalize must not see.
    attention = torch_module("torch.nn.attention")
    with attention.sdpa_kernel(attention.SDPBackend.MATH):
        first = make_fx(function, **options)(*tensors)
    functional = torch_module("torch.func").functionalize(first)
    return make_fx(functional, decomposition_table=_table(), **options)(*tensors)


def run(graph: Any, arrays: Sequence[Any]) -> list[Any]:
    """The graph's outputs from arrays, traced or not."""
    values: dict[Any, Any] = {}
    given = iter(arrays)
    for node in graph.graph.nodes:
        if node.op == "placeholder":
            values[node] = next(given)
        elif node.op == "get_attr":
            values[node] = constant(getattr(graph, node.target).detach().numpy())
        elif node.op == "call_function":
            args = _filled(node.args, values)
            kwargs = {k: _filled(v, values) for k, v in node.kwargs.items()}
            values[node] = _call(node.target, args, kwargs)
        elif node.op == "output":
            return list(_filled(node.args[0], values))
        else:
            refuse(f"a {node.op} of PyTorch")
    return []


def _filled(value: Any, values: dict[Any, Any]) -> Any:
    if isinstance(value, list | tuple):
        made = [_filled(v, values) for v in value]
        return made if isinstance(value, list) else tuple(made)
    if isinstance(value, slice):
        return value
    return values.get(value, value) if getattr(value, "graph", None) is not None else value


def _call(target: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    if target is operator.getitem:
        return args[0][args[1]]
    name = _name(target)
    known = OPERATIONS.get(name)
    if known is not None and name not in _MAKING:
        return known(*args, **{k: v for k, v in kwargs.items() if k not in _IRRELEVANT})
    if name in _MAKING or not is_live([a for a in args if type(a) is Traced]):
        return _really(target, args, kwargs)
    refuse(f"PyTorch's {name}")


_IRRELEVANT = ("layout", "device", "pin_memory", "memory_format", "non_blocking")
# Random numbers: PyTorch itself draws them, in the same order as it would.
_MAKING = (
    "rand", "randn", "rand_like", "randn_like", "bernoulli", "normal", "uniform", "randint",
    "randperm", "multinomial", "normal_functional", "argmax", "argmin", "argsort", "nonzero",
)  # fmt: skip


def _really(target: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    """The operation itself, on what the arrays hold now: its result is a constant."""
    torch = torch_module()

    def tensors(value: Any) -> Any:
        if isinstance(value, list | tuple):
            return [tensors(v) for v in value]
        if type(value) is Traced or isinstance(value, np.ndarray | np.generic):
            array = value.array if type(value) is Traced else np.asarray(value)
            return torch.from_numpy(np.array(array))
        return value

    def back(value: Any) -> Any:
        if isinstance(value, list | tuple):
            return tuple(back(v) for v in value)
        return constant(value.detach().numpy()) if isinstance(value, torch.Tensor) else value

    return back(target(*map(tensors, args), **{k: tensors(v) for k, v in kwargs.items()}))
