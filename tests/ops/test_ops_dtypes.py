"""Dtypes: float32 never widens silently, float64 and integers are honoured, bool is bool."""

from __future__ import annotations

import operator
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from oracle import F32, F64

import groundup as gu
from groundup import Tensor
from groundup.errors import DtypeError

ARITHMETIC = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "/": operator.truediv,
    "**": operator.pow,
    "maximum": gu.maximum,
    "where": lambda x, y: gu.where(np.array([True, False]), x, y),
}
ANYTHING = {
    "float": 0.5,
    "int": 2,
    "bool": True,
    "np.float64": np.float64(0.1),
    "np.float32": np.float32(0.5),
    "np.int64": np.int64(3),
    "float64 array": np.array([0.1, 0.2]),
    "float32 array": np.array([0.1, 0.2], F32),
    "int array": np.array([1, 2]),
    "uint8 array": np.array([1, 2], np.uint8),
    "bool array": np.array([True, False]),
    "float64 0-d array": np.array(0.1),
    "list of floats": [0.1, 0.2],
    "list of ints": [1, 2],
    "int64 tensor": Tensor(np.array([1, 2])),
    "int32 tensor": Tensor(np.array([1, 2], np.int32)),
    "uint8 tensor": Tensor(np.array([1, 2], np.uint8)),
    "bool tensor": Tensor(np.array([True, False])),
}


@pytest.mark.parametrize("other", ANYTHING.values(), ids=ANYTHING.keys())
@pytest.mark.parametrize("symbol", ARITHMETIC)
@pytest.mark.parametrize("dtype", [F32, F64])
def test_a_float_tensor_keeps_its_dtype(symbol: str, other: Any, dtype: Any) -> None:
    x = Tensor(np.array([1.5, 2.5], dtype), requires_grad=True)
    plain = other.data if isinstance(other, Tensor) else np.asarray(other)
    for ours in (ARITHMETIC[symbol](x, other), ARITHMETIC[symbol](other, x)):
        assert ours.dtype == dtype
    with np.errstate(divide="ignore"):
        exact = ARITHMETIC[symbol](x.data.astype(F64), plain.astype(F64))
    exact = exact.data if isinstance(exact, Tensor) else exact
    rtol = 1e-15 if dtype is F64 and plain.dtype != F32 else 1e-6
    np.testing.assert_allclose(ARITHMETIC[symbol](x, other).data, exact, rtol=rtol)
    ARITHMETIC[symbol](x, other).sum().backward()
    assert x.g.dtype == dtype


def ints(*values: int, dtype: Any = np.int64) -> Tensor:
    return Tensor(np.array(values, dtype))


def floats(*values: float, dtype: Any = F32) -> Tensor:
    return Tensor(np.array(values, dtype))


RESULTS: dict[str, tuple[Callable[[], Tensor], Any]] = {
    "int / int": (lambda: ints(1, 2) / ints(2, 2), F32),
    "int / 2": (lambda: ints(1, 2) / 2, F32),
    "int + int": (lambda: ints(1, 2) + ints(1, 2), np.int64),
    "int * 2": (lambda: ints(1, 2) * 2, np.int64),
    "int32 * 2": (lambda: ints(1, 2, dtype=np.int32) * 2, np.int32),
    "int + 0.5": (lambda: ints(1, 2) + 0.5, F32),
    "int + np.float64": (lambda: ints(1, 2) + np.float64(0.5), F32),
    "int32 + 0.5": (lambda: ints(1, 2, dtype=np.int32) + 0.5, F32),
    "int ** 2": (lambda: ints(1, 2) ** 2, np.int64),
    "int ** 0.5": (lambda: ints(1, 2) ** 0.5, F32),
    "2 ** int": (lambda: 2 ** ints(1, 2), np.int64),
    "exp(int)": (lambda: ints(1, 2).exp(), F32),
    "sqrt(int32)": (lambda: ints(1, 2, dtype=np.int32).sqrt(), F32),
    "sigmoid(int)": (lambda: ints(1, 2).sigmoid(), F32),
    "erf(int)": (lambda: ints(1, 2).erf(), F32),
    "softmax(int)": (lambda: ints(1, 2).softmax(), F32),
    "mean(int)": (lambda: ints(1, 2).mean(), F32),
    "mean(bool)": (lambda: (ints(1, 2) > 1).mean(), F32),
    "sum(int32)": (lambda: ints(1, 2, dtype=np.int32).sum(), np.int64),
    "sum(bool)": (lambda: (ints(1, 2) > 1).sum(), np.int64),
    "abs(int)": (lambda: abs(ints(-1, 2)), np.int64),
    "relu(int)": (lambda: ints(-1, 2).relu(), np.int64),
    "clamp(int)": (lambda: ints(-1, 2).clamp(0, 1), np.int64),
    "clamp(int, 0.5)": (lambda: ints(-1, 2).clamp_min(0.5), F32),
    "clamp np.float64": (lambda: floats(-1, 2).clamp(np.float64(0), np.float64(1)), F32),
    "x ** np.float64": (lambda: floats(1, 2) ** np.float64(2), F32),
    "masked_fill": (lambda: floats(1, 2).masked_fill(np.array([True, False]), -np.inf), F32),
    "where of numbers": (lambda: gu.where(ints(1, 2) > 1, 1.0, 0.0), F32),
    "where of ints": (lambda: gu.where(ints(1, 2) > 1, 1, 0), np.int64),
    "comparison": (lambda: floats(1, 2) > 1, np.bool_),
    "logical": (lambda: ~(floats(1, 2) > 1), np.bool_),
    "bool * float32": (lambda: (floats(1, 2) > 1) * floats(1, 2), F32),
    "bool + bool": (lambda: (floats(1, 2) > 1) + (floats(1, 2) > 1), np.bool_),
    "float32 + float64": (lambda: floats(1, 2) + floats(1, 2, dtype=F64), F64),
    "float16 + int": (lambda: floats(1, 2, dtype=np.float16) + ints(1, 2), np.float16),
    "float16 * 0.5": (lambda: floats(1, 2, dtype=np.float16) * 0.5, np.float16),
    "mean(float16)": (lambda: floats(1, 2, dtype=np.float16).mean(), np.float16),
    "var(float32)": (lambda: floats(1, 2).var(), F32),
    "matmul int": (lambda: ints(1, 2) @ ints(1, 2), np.int64),
    "matmul mixed": (lambda: ints(1, 2) @ floats(1, 2), F32),
    "matmul float64 array": (lambda: floats(1, 2) @ np.ones((2, 2)), F32),
    "array @ tensor": (lambda: np.ones((2, 2)) @ floats(1, 2), F32),
    "einsum float64 array": (lambda: gu.einsum("i,i->", floats(1, 2), np.ones(2)), F32),
    "einsum int": (lambda: gu.einsum("i,i->", ints(1, 2), floats(1, 2)), F32),
    "concatenate array": (lambda: gu.concatenate([floats(1), np.ones(2)]), F32),
    "concatenate int": (lambda: gu.concatenate([floats(1), ints(2)]), F32),
    "concatenate float64": (lambda: gu.concatenate([floats(1, dtype=F64), [0.1]]), F64),
    "stack array": (lambda: gu.stack([floats(1), np.ones(1)]), F32),
    "stack numbers": (lambda: gu.stack([floats(1)[0], 0.5, 1]), F32),
    "pad np.float64": (lambda: gu.pad(floats(1), 1, np.float64(0.1)), F32),
    "one_hot": (lambda: gu.one_hot(ints(0, 1), 2), F32),
    "argmax": (lambda: floats(1, 2).argmax(), np.int64),
    "cumsum int32": (lambda: ints(1, 2, dtype=np.int32).cumsum(0), np.int64),
    "exp(2.0)": (lambda: gu.exp(2.0), F32),
    "exp(float64 array)": (lambda: gu.exp(np.ones(2)), F64),
    "rand": (lambda: gu.rand(2), F32),
    "randn": (lambda: gu.randn(2), F32),
    "np.exp(tensor)": (lambda: np.exp(floats(1, 2)), F32),
    "np.float64 * tensor": (lambda: np.float64(0.1) * floats(1, 2), F32),
    "float64 array * tensor": (lambda: np.ones(2) * floats(1, 2), F32),
    "np.power(tensor, 2)": (lambda: np.power(floats(1, 2), 2), F32),
    "uint8 image / 255": (lambda: ints(0, 255, dtype=np.uint8) / 255, F32),
    "uint8 == -1": (lambda: ints(0, 255, dtype=np.uint8) == -1, np.bool_),
    "uint8 < 300": (lambda: ints(0, 255, dtype=np.uint8) < 300, np.bool_),
    "int32 + 2**40": (lambda: ints(1, dtype=np.int32) + 2**40, np.int64),
}


@pytest.mark.parametrize(("make", "dtype"), RESULTS.values(), ids=RESULTS.keys())
def test_result(make: Callable[[], Tensor], dtype: Any) -> None:
    assert make().dtype == dtype


def test_too_large_numbers_compare_as_they_are() -> None:
    pixels = ints(0, 255, dtype=np.uint8)
    assert (pixels == -1).tolist() == [False, False]
    assert (pixels < 300).tolist() == [True, True]
    assert (ints(1, dtype=np.int32) + 2**40).tolist() == [2**40 + 1]


def test_beyond_the_largest_float_is_infinity_without_a_warning() -> None:
    x = floats(1.0)
    assert Tensor(1e300).item() == np.inf
    assert Tensor([1e300], dtype=F32).item() == np.inf
    assert (x * 1e300).item() == np.inf
    assert (x - 1e39).item() == -np.inf
    assert Tensor(np.array([1e300])).float().item() == np.inf
    assert floats(0.0).assign(np.array([1e300])).item() == np.inf


def test_float64_is_exact_where_it_is_asked_for() -> None:
    assert Tensor([0.1], dtype=F64).item() == 0.1
    assert operator.add(floats(0.0, dtype=F64), [0.1]).item() == 0.1
    assert gu.concatenate([floats(0.0, dtype=F64), [0.1]]).data[1] == 0.1


@pytest.mark.parametrize("dtype", [F32, F64, np.int64])
def test_dtypes_that_come_from_a_pickle(dtype: Any) -> None:
    """A pickled array's dtype equals NumPy's own and is another object."""
    array = pickle.loads(pickle.dumps(np.array([1, 2], dtype)))
    expected = F64 if dtype is F64 else F32
    assert Tensor(array).exp().dtype == expected
    assert (floats(1, 2) + array).dtype == F32
    assert (array + floats(1, 2)).dtype == F32
    restored = pickle.loads(pickle.dumps(Tensor(np.array([1, 2], dtype))))
    assert (restored / 2).dtype == expected
    assert np.shares_memory(Tensor(array).data, array)


def test_gradients_have_their_tensors_dtype() -> None:
    x, y = (Tensor(np.ones(2, d), requires_grad=True) for d in (F32, F64))
    (x * y).sum().backward()
    assert (x.g.dtype, y.g.dtype) == (F32, F64)
    z = Tensor(np.ones(2, F32), requires_grad=True)
    (z * 2).backward(np.ones(2))
    assert z.g.dtype == F32


@pytest.mark.parametrize(
    "combine",
    [lambda x: x & x, lambda x: x | True, lambda x: True & x, lambda x: ~x],
    ids=["&", "|", "reflected &", "~"],
)
def test_logic_is_of_booleans(combine: Callable[[Tensor], Tensor]) -> None:
    with pytest.raises(DtypeError, match="take booleans; this is int64: compare first"):
        combine(ints(6, 3))


def test_clamp_takes_numbers() -> None:
    with pytest.raises(DtypeError, match=r"clamp's limits are numbers; this one has shape \(1,\)"):
        floats(1.0).clamp_min(Tensor([2.0], requires_grad=True))


@pytest.mark.parametrize("value", ["text", None, {1}, object(), np.array(["a"])])
def test_what_is_no_number_is_refused(value: Any) -> None:
    with pytest.raises(DtypeError, match="a Tensor holds numbers"):
        Tensor(value)
    with pytest.raises(DtypeError, match="a Tensor holds numbers"):
        floats(1.0) + value
