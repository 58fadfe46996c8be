"""Tensor as an object: what it holds, how it prints, copies and pickles, what it refuses."""

from __future__ import annotations

import copy
import pickle
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import groundup as gu
from groundup import Tensor
from groundup.errors import DtypeError, GradientError, ShapeError
from groundup.nn import Buffer, Parameter
from groundup.tensor import _UFUNCS

X = Tensor(np.arange(6.0, dtype=np.float32).reshape(2, 3))


def leaf(*values: float) -> Tensor:
    return Tensor(np.array(values), requires_grad=True)


class TestMaking:
    def test_an_array_is_held_not_copied(self) -> None:
        array = np.zeros(3)
        for made in (Tensor(array), Parameter(array), Buffer(array), Tensor(Tensor(array))):
            assert made.data is array

    @pytest.mark.parametrize(
        ("value", "dtype", "shape"),
        [
            (1.5, np.float32, ()),
            (2, np.int64, ()),
            (True, np.bool_, ()),
            ([1.5, 2.0], np.float32, (2,)),
            ([[1], [2]], np.int64, (2, 1)),
            ([], np.float32, (0,)),
            (np.float64(1.5), np.float64, ()),
            (np.zeros(2, np.uint8), np.uint8, (2,)),
            (np.zeros(2, np.float16), np.float16, (2,)),
            (range(3), np.int64, (3,)),
            (1j, np.complex128, ()),
        ],
    )
    def test_dtype_and_shape(self, value: Any, dtype: Any, shape: tuple[int, ...]) -> None:
        made = Tensor(value)
        assert (made.dtype, made.shape) == (dtype, shape)
        assert (made.ndim, made.dim()) == (len(shape), len(shape))
        assert made.size == made.numel() == made.data.size

    def test_dtype_is_converted(self) -> None:
        assert Tensor([1, 2], dtype=np.float64).dtype == np.float64
        assert Tensor(np.zeros(2), dtype="f4").dtype == np.float32

    def test_ragged_lists_are_refused(self) -> None:
        with pytest.raises(ShapeError, match=r"not an array: .*inhomogeneous"):
            Tensor([[1, 2], [3]])

    @pytest.mark.parametrize("dtype", [np.int64, np.bool_, np.uint8])
    def test_only_floats_require_a_gradient(self, dtype: Any) -> None:
        with pytest.raises(DtypeError, match=f"a {np.dtype(dtype)} tensor cannot require a grad"):
            Tensor(np.zeros(2, dtype), requires_grad=True)
        with pytest.raises(DtypeError, match="cannot require a gradient"):
            Tensor(np.zeros(2, dtype)).requires_grad_()

    def test_parameters_require_a_gradient_and_buffers_do_not(self) -> None:
        assert Parameter([1.0]).requires_grad
        assert not Parameter([1.0], requires_grad=False).requires_grad
        assert not Buffer([1.0]).requires_grad
        with pytest.raises(DtypeError):
            Parameter([1])


class TestReading:
    def test_item(self) -> None:
        assert Tensor([[2.5]]).item() == 2.5
        assert isinstance(Tensor(3).item(), int)
        with pytest.raises(ShapeError, match=r"item\(\) needs a single entry; .* shape \(2, 3\)"):
            X.item()

    def test_numbers(self) -> None:
        assert float(Tensor([2.5])) == 2.5
        assert int(Tensor(2.5)) == 2
        assert [10, 20, 30][Tensor(1)] == 20
        with pytest.raises(TypeError):
            [10, 20][Tensor(1.0)]

    def test_truth(self) -> None:
        assert Tensor(True)
        assert not Tensor([0.0])
        with pytest.raises(ShapeError, match=r"truth of a tensor of shape \(2, 3\) is ambiguous"):
            bool(X)
        with pytest.raises(ShapeError, match="ambiguous"):
            bool(Tensor([]))

    def test_length_and_rows(self) -> None:
        assert len(X) == 2
        assert [row.tolist() for row in X] == X.tolist()
        for of_a_number in (len, iter):
            with pytest.raises(ShapeError, match="0-d"):
                of_a_number(Tensor(1.0))

    def test_identity_is_what_sets_go_by(self) -> None:
        a, b = Tensor([1.0]), Tensor([1.0])
        assert len({a, b, a}) == 2
        assert (a == b).item() is True

    def test_numpy_shares_memory_and_array_copies_on_request(self) -> None:
        assert X.numpy() is X.data
        assert np.shares_memory(np.asarray(X), X.data)
        assert not np.shares_memory(np.array(X), X.data)
        assert np.asarray(X, np.float64).dtype == np.float64
        assert np.shares_memory(X.detach().data, X.data)
        assert not np.shares_memory(X.clone().data, X.data)

    def test_grad_is_g(self) -> None:
        x = leaf(1.0, 2.0)
        assert x.grad is None
        x.grad = np.array([3.0, 4.0])
        assert x.g is x.grad
        assert x.g.tolist() == [3.0, 4.0]
        x.g = None
        assert x.grad is None
        with pytest.raises(
            ShapeError, match=r"gradient has its tensor's shape: \(2,\) here, \(3,\)"
        ):
            x.g = np.zeros(3)


REPRS = [
    (Tensor([1.0, 2.5]), "Tensor([1. , 2.5])"),
    (Tensor(np.zeros(2)), "Tensor([0., 0.], dtype=float64)"),
    (Tensor([1, 2]), "Tensor([1, 2])"),
    (Tensor(True), "Tensor(True)"),
    (Tensor(np.zeros(1, np.uint8)), "Tensor([0], dtype=uint8)"),
    (Tensor(np.zeros((0, 3), np.float32)), "Tensor([], shape=(0, 3))"),
    (Tensor([1.0], requires_grad=True), "Tensor([1.], requires_grad=True)"),
    (Parameter([1.0]), "Parameter([1.], requires_grad=True)"),
    (Tensor([1.0], requires_grad=True) * 2, "Tensor([2.], from mul)"),
    (X, "Tensor([[0., 1., 2.],\n        [3., 4., 5.]])"),
]


@pytest.mark.parametrize(("tensor", "text"), REPRS, ids=[t for _, t in REPRS])
def test_repr(tensor: Tensor, text: str) -> None:
    assert repr(tensor) == text


def test_format() -> None:
    assert f"{Tensor(1.2345):.2f}" == "1.23"
    assert f"{Tensor([2]):03d}" == "002"
    assert f"{Tensor([1.0])}" == "Tensor([1.])"
    assert f"{Tensor([1.0, 2.0]):>20}" == "    Tensor([1., 2.])"


class TestCopying:
    @pytest.mark.parametrize("copied", [copy.deepcopy, lambda t: pickle.loads(pickle.dumps(t))])
    def test_leaves_are_copied_with_their_gradient(self, copied: Callable[[Any], Any]) -> None:
        w = Parameter(np.array([1.0, 2.0]))
        (w * w).sum().backward()
        other = copied(w)
        assert type(other) is Parameter
        assert other.requires_grad
        assert other.data.tolist() == [1.0, 2.0]
        assert other.g.tolist() == [2.0, 4.0]
        assert not np.shares_memory(other.data, w.data)
        assert not np.shares_memory(other.g.data, w.g.data)
        (other * 3).sum().backward()
        assert other.g.tolist() == [3.0, 3.0]
        assert w.g.tolist() == [2.0, 4.0]

    def test_computed_tensors_are_refused(self) -> None:
        y = leaf(1.0) * 2
        for copied in (copy.deepcopy, pickle.dumps):
            with pytest.raises(GradientError, match="computed by mul: detach it first"):
                copied(y)
        assert copy.deepcopy(y.detach()).item() == 2.0

    def test_a_recorded_gradient_is_left_behind(self) -> None:
        x = leaf(3.0)
        (x * x).sum().backward(create_graph=True)
        assert copy.deepcopy(x).g is None


def test_ops_on_parameters_make_plain_tensors() -> None:
    w = Parameter([1.0, 2.0])
    for made in (w * 2, w[0], w.detach(), w.reshape(2, 1), -w, w.clone(), Buffer([1.0]) + 1):
        assert type(made) is Tensor


class TestAssign:
    def test_writes_in_place(self) -> None:
        x = leaf(1.0, 2.0)
        array = x.data
        assert x.assign([3.0, 4.0]) is x
        assert x.data is array
        assert array.tolist() == [3.0, 4.0]

    def test_from_itself(self) -> None:
        x = leaf(1.0, 2.0)
        with gu.no_grad():
            x.assign(x.flip(0))
        assert x.tolist() == [2.0, 1.0]

    def test_refusals(self) -> None:
        x = leaf(1.0, 2.0)
        with pytest.raises(ShapeError, match=r"the tensor has shape \(2,\), the value \(3,\)"):
            x.assign([1.0, 2.0, 3.0])
        with pytest.raises(ShapeError, match=r"the tensor has shape \(2,\), the value \(\)"):
            x.assign(1.0)
        with pytest.raises(GradientError, match=r"assign writes to a leaf; .* computed by exp"):
            x.exp().assign([1.0, 2.0])
        with pytest.raises(TypeError, match="same_kind"):
            Tensor([1, 2]).assign([1.5, 2.5])


@pytest.mark.parametrize(
    "made",
    [Buffer(np.ones(2)), Parameter(np.ones(2), requires_grad=False)],
    ids=["buffer", "frozen"],
)
def test_in_place_arithmetic_writes_into_state(made: Tensor) -> None:
    """A running mean, an average of weights: they stay the objects that the module holds."""
    held, array = made, made.data
    made *= 3
    made -= np.array([1.0, 2.0])
    made /= 2
    made += 1
    assert made is held
    assert made.data is array
    assert array.tolist() == [2.0, 1.5]
    plain = Tensor(array)
    plain += 1
    assert array.tolist() == [2.0, 1.5]


def test_a_buffer_takes_the_value_and_not_the_record() -> None:
    running, x = Buffer(np.zeros(2)), leaf(1.0, 2.0)
    running += x
    assert running.is_leaf
    assert not running.requires_grad
    assert running.tolist() == [1.0, 2.0]
    count = Buffer(np.array(0))
    count += 1
    assert (count.item(), count.dtype) == (1, np.int64)


def test_requires_grad_() -> None:
    x = leaf(1.0)
    assert x.requires_grad_(False) is x
    assert (x * 2).is_leaf
    assert not (x.requires_grad_() * 2).is_leaf
    with pytest.raises(GradientError, match=r"computed by an op: use \.detach\(\)"):
        (x * 2).requires_grad_(False)


def test_cast_to_its_own_dtype_is_itself() -> None:
    assert X.cast("float32") is X
    assert X.float() is X
    assert X.long().dtype == np.int64


# NumPy's functions on Tensors

UFUNCS = sorted(_UFUNCS, key=lambda u: u.__name__)


@pytest.mark.parametrize("ufunc", UFUNCS, ids=[u.__name__ for u in UFUNCS])
def test_ufunc(ufunc: np.ufunc) -> None:
    """The value is NumPy's, and the result a Tensor with a gradient where there is one."""
    logical = ufunc.__name__.startswith(("bitwise", "invert"))
    arrays = [np.array([0.5, 2.0, 1.0]), np.array([1.5, 2.0, 0.5])][: ufunc.nin]
    if ufunc is np.matmul:
        arrays = [np.arange(4.0).reshape(2, 2), np.eye(2) + 1]
    if logical:
        arrays = [a > 1 for a in arrays]
    expected = ufunc(*arrays)
    for i in range(ufunc.nin):
        given: list[Any] = list(arrays)
        given[i] = Tensor(arrays[i], requires_grad=not logical)
        out = ufunc(*given)
        assert isinstance(out, Tensor)
        assert out.dtype == expected.dtype
        np.testing.assert_allclose(out.data, expected, rtol=1e-15)
        assert out.requires_grad == (expected.dtype.kind == "f")


def test_other_ufuncs_are_refused() -> None:
    with pytest.raises(DtypeError, match=r"np\.arctan has no gradient for a Tensor"):
        np.arctan(X)
    with pytest.raises(DtypeError, match=r"np\.add has no gradient"):
        np.add.reduce(X)
    with pytest.raises(DtypeError, match=r"np\.add has no gradient"):
        np.add(X, X, out=np.zeros((2, 3), np.float32))
    array = np.zeros((2, 3), np.float32)
    with pytest.raises(DtypeError, match=r"np\.add"):
        array += X


# Shapes that do not fit

REFUSED: list[tuple[str, Callable[[], Any], str]] = [
    (
        "add",
        lambda: X + np.zeros(4),
        r"add\(\(2, 3\) float32, \(4,\) float32\): operands could not",
    ),
    ("matmul", lambda: X @ X, r"\(2, 3\) and \(2, 3\): .*rows have 3.*columns 2.*transpose"),
    ("matmul batch", lambda: gu.rand(2, 2, 3) @ X, r"matmul of \(2, 2, 3\) and \(2, 3\): "),
    ("matmul 0-d", lambda: X @ Tensor(1.0), "matmul"),
    ("reshape", lambda: X.reshape(4), r"reshape: \(2, 3\) has 6 entries, \(4,\) has 4"),
    ("reshape -1", lambda: X.reshape(-1, 4), r"shape \(2, 3\) does not fit into \(-1, 4\)"),
    ("reshape two -1", lambda: X.reshape(-1, -1), "does not fit"),
    ("reshape -2", lambda: X.reshape(-2, -3), "reshape"),
    ("reshape float", lambda: X.reshape(2.0, 3), "lengths and axes are integers"),
    ("permute", lambda: X.permute(0, 0), r"permute\(0, 0\): give each axis of shape \(2, 3\) once"),
    ("permute few", lambda: X.permute(0), "once"),
    ("transpose", lambda: X.transpose(0, 2), "axis 2 is out of range for a tensor of 2 dim"),
    ("sum", lambda: X.sum(2), "axis 2 is out of"),
    ("sum twice", lambda: X.sum((0, -2)), r"duplicate|same dimension twice"),
    ("mean twice", lambda: X.mean((0, -2)), "names the same dimension twice"),
    ("t", lambda: gu.rand(2, 2, 2).t(), r"t\(\) is for matrices; this tensor has shape"),
    ("expand", lambda: X.expand(4, 3), r"expand\(\(2, 3\) float32, shape=\(4, 3\)\)"),
    ("expand fewer", lambda: X.expand(3), r"expand: \(3,\) has fewer axes than shape \(2, 3\)"),
    ("flatten", lambda: X.flatten(1, 0), "start is after end"),
    ("unsqueeze", lambda: X.unsqueeze(4), "axis 4 is out of range"),
    ("split", lambda: X.split(0), "the size of a piece is at least 1, not 0"),
    ("split sizes", lambda: X.split([1, 2]), r"sizes \[1, 2\] do not add up to 2 \(axis 0\)"),
    ("split negative", lambda: X.split([3, -1]), "do not add up"),
    ("index", lambda: X[2], r"slice\(\(2, 3\) float32, index=\(2,\)\): index 2 is out of bounds"),
    ("index array", lambda: X[np.array([0, 5])], "index 5 is out of bounds"),
    ("too many", lambda: X[0, 0, 0], "too many indices"),
    ("mask", lambda: X[np.array([True])], r"boolean index of shape \(1,\) does not fit .* axis 0"),
    (
        "mask last",
        lambda: X[:, np.ones(2, bool)],
        r"shape \(2,\) does not fit shape \(2, 3\) at ax",
    ),
    ("two ellipses", lambda: X[..., ...], "ellips"),
    ("take rank", lambda: X.take_along_axis(np.array([0]), 0), r"the indices \(1,\)"),
    (
        "take axis",
        lambda: X.take_along_axis(np.zeros((1, 2), int), 0),
        "may differ along axis 0 only",
    ),
    ("concatenate", lambda: gu.concatenate([X, gu.rand(2, 2)]), "concatenate.*must match exactly"),
    ("concatenate none", lambda: gu.concatenate([]), "the list of tensors is empty"),
    ("stack", lambda: gu.stack([X, X.T]), r"stack: the shapes differ: \[\(2, 3\), \(3, 2\)\]"),
    ("stack none", lambda: gu.stack([]), "the list of tensors is empty"),
    ("pad", lambda: gu.pad(X, ((1, 2, 3),)), r"pad: widths .* do not fit shape \(2, 3\)"),
    ("pad negative", lambda: gu.pad(X, -1), "pad"),
    ("clamp", lambda: X.clamp(), "give a lower limit, an upper limit, or both"),
    ("einsum letters", lambda: gu.einsum("ijk->i", X), "einsum"),
    ("einsum operands", lambda: gu.einsum("ij,jk->ik", X), "einsum"),
]


@pytest.mark.parametrize(("wrong", "text"), [r[1:] for r in REFUSED], ids=[r[0] for r in REFUSED])
def test_shapes_that_do_not_fit(wrong: Callable[[], Any], text: str) -> None:
    with pytest.raises(ShapeError, match=text):
        wrong()


@pytest.mark.parametrize("index", [1.0, "a", True, np.array([0.5]), Tensor([0.5]), np.array(True)])
def test_what_is_no_index(index: Any) -> None:
    with pytest.raises(DtypeError, match="an index is made of integers, slices"):
        X[index]


def test_tensors_as_numbers_in_an_index() -> None:
    i = Tensor(1)
    assert X[i:].tolist() == X.data[1:].tolist()
    assert X[i, i].item() == X.data[1, 1]


def test_subtracting_booleans_is_refused() -> None:
    mask = Tensor([True, False])
    with pytest.raises(DtypeError, match=re.escape("sub((2,) bool, (2,) bool): ")):
        mask - mask


def test_ops_leave_views_of_their_input_alone() -> None:
    """reshape, slices and transposes share memory, as in NumPy; nothing else does."""
    x = Tensor(np.ones((2, 3)))
    for shared in (x.reshape(3, 2), x.T, x[0], x.expand(2, 2, 3), x.detach(), x.unsqueeze(0)):
        assert np.shares_memory(shared.data, x.data)
    for own in (x + 0, x[[0, 1]], x.sum(0), x.clone(), x.relu(), x.clamp(-9, 9), x**1, x.cumsum(0)):
        assert not np.shares_memory(own.data, x.data)


@pytest.mark.parametrize(
    ("left", "right", "text"),
    [
        ((2, 3), (4,), r"rows have 3 entries.* columns 4"),
        ((2, 1, 3), (3, 3, 2), r"batch axes \(2,\) and \(3,\) do not broadcast"),
        ((), (2, 2), r"single number.*multiply with \*"),
    ],
)
def test_shapes_that_cannot_be_multiplied(left, right, text):
    with pytest.raises(ShapeError, match=text):
        Tensor(np.ones(left)) @ Tensor(np.ones(right))


@pytest.mark.parametrize(
    ("kind", "builtin"),
    [
        ("ShapeError", ValueError),
        ("DtypeError", TypeError),
        ("LabelError", ValueError),
        ("GradientError", RuntimeError),
        ("NonFiniteError", FloatingPointError),
        ("StateError", KeyError),
        ("DataError", ValueError),
        ("DataNotFoundError", FileNotFoundError),
        ("MissingDependencyError", ImportError),
    ],
)
def test_errors_are_also_the_builtin_that_users_catch(kind: str, builtin: type) -> None:
    error = getattr(gu.errors, kind)
    assert issubclass(error, builtin)
    assert issubclass(error, gu.errors.GroundupError)
    assert str(error("two\nlines")) == "two\nlines"
