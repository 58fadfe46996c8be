"""The rules of every op: the shape and dtype that `forward` makes, and an error where it raises."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import hypothesis.extra.numpy as npst
import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from groundup.errors import ProgramError
from groundup.ops.base import quiet
from groundup.program.program import OPS, Equation, Var, infer

SHAPES = npst.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=3)
FLOATS = st.sampled_from(["float32", "float64", "float16"])
DTYPES = st.one_of(FLOATS, st.sampled_from(["int64", "int32", "uint8", "bool"]))
NUMBERS = st.sampled_from([0, 1, 3, 0.5, -1.5, True])

# An op's inputs (shape and dtype, or a number) and attributes, some of which fit and some do not.
Drawn = tuple[list[Any], dict[str, Any]]


def inputs(draw: st.DrawFn, count: int, shapes: Any = SHAPES, dtypes: Any = DTYPES) -> list[Any]:
    return [(draw(shapes), draw(dtypes)) for _ in range(count)]


def broadcastable(draw: st.DrawFn, count: int) -> list[Any]:
    """Shapes that fit together, or mostly; some inputs are numbers; dtypes that are often equal."""
    drawn = draw(npst.mutually_broadcastable_shapes(num_shapes=count, min_side=0, max_side=3))
    shapes = [draw(st.one_of(st.just(s), st.just(s), st.just(s), SHAPES))
              for s in drawn.input_shapes]  # fmt: skip
    given: list[Any] = [(s, draw(DTYPES)) for s in shapes]
    if count > 1 and draw(st.booleans()):
        given[draw(st.integers(0, count - 1))] = draw(NUMBERS)
    return given


def axis(draw: st.DrawFn, several: bool) -> Any:
    one = st.integers(-4, 3)
    many = st.lists(one, max_size=3).map(tuple)
    return draw(st.one_of(st.none(), one, many) if several else one)


def elementwise(count: int) -> Callable[[st.DrawFn], Drawn]:
    return lambda draw: (broadcastable(draw, count), {})


def reduction(several: bool) -> Callable[[st.DrawFn], Drawn]:
    return lambda draw: (
        inputs(draw, 1), {"axis": axis(draw, several), "keepdims": draw(st.booleans())}
    )  # fmt: skip


def along(draw: st.DrawFn) -> Drawn:
    return inputs(draw, 1), {"axis": axis(draw, False)}


def power_of_number(draw: st.DrawFn) -> Drawn:
    exponents = st.sampled_from([0, 1, 2, 3, 0.5, -1.0, -2.5])
    return inputs(draw, 1), {"exponent": draw(exponents)}


def clamp(draw: st.DrawFn) -> Drawn:
    limit = st.sampled_from([None, 0, 1, 0.5])
    return inputs(draw, 1), {"low": draw(limit), "high": draw(limit)}


def reshape(draw: st.DrawFn) -> Drawn:
    (x,) = inputs(draw, 1)
    n = math.prod(x[0])
    fitting = st.sampled_from([(n,), (1, n), (n, 1, 1), x[0][::-1], (*x[0], 1)])
    return [x], {
        "shape": draw(st.one_of(fitting, st.lists(st.integers(0, 4), max_size=4).map(tuple)))
    }


def transpose(draw: st.DrawFn) -> Drawn:
    (x,) = inputs(draw, 1)
    order = st.permutations(range(len(x[0]))).map(tuple)
    wrong = st.lists(st.integers(0, 3), max_size=3).map(tuple)
    return [x], {"axes": draw(st.one_of(order, order, wrong))}


def expand(draw: st.DrawFn) -> Drawn:
    (x,) = inputs(draw, 1)
    wider = tuple(draw(st.integers(0, 3)) if n == 1 else n for n in x[0])
    front = draw(st.lists(st.integers(0, 3), max_size=2))
    return [x], {"shape": draw(st.one_of(st.just((*front, *wider)), SHAPES))}


def concatenate(draw: st.DrawFn) -> Drawn:
    first, at = draw(SHAPES), draw(st.integers(-4, 3))
    given = []
    for _ in range(draw(st.integers(1, 3))):
        shape = list(first)
        if shape:
            shape[at % len(shape)] = draw(st.integers(0, 3))
        given.append((draw(st.one_of(st.just(tuple(shape)), st.just(tuple(shape)), SHAPES)),
                      draw(DTYPES)))  # fmt: skip
    return given, {"axis": at}


def pad(draw: st.DrawFn) -> Drawn:
    (x,) = inputs(draw, 1)
    count = draw(st.sampled_from([len(x[0])] * 4 + [0, 2]))
    width = st.sampled_from([0, 1, 2, 2, 1, -1])
    widths = tuple((draw(width), draw(width)) for _ in range(count))
    return [x], {"widths": widths, "value": draw(st.sampled_from([0.0, -1.5]))}


def matmul(draw: st.DrawFn) -> Drawn:
    drawn = draw(
        npst.mutually_broadcastable_shapes(
            signature=np.matmul.signature, min_side=0, max_side=3, max_dims=2
        )
    )
    shapes = [draw(st.one_of(st.just(s), st.just(s), SHAPES)) for s in drawn.input_shapes]
    dtypes = st.sampled_from(["float32", "float64", "int64"])
    return [(s, draw(dtypes)) for s in shapes], {}


EINSUMS = ["ij,jk->ik", "ij,jk", "ij->ji", "ii->i", "ii", "i,j->", "bij,bjk->bik", "...i,i->...",
           "...ij,...jk->...ik", "i...->...i", "ij,kj,k->i", ",ij->j"]  # fmt: skip


def einsum(draw: st.DrawFn) -> Drawn:
    subscripts = draw(st.sampled_from(EINSUMS))
    sizes = {c: draw(st.integers(0, 3)) for c in "ijkb"}
    dots = draw(st.lists(st.integers(1, 3), max_size=1))
    given = []
    for term in subscripts.split("->")[0].split(","):
        shape: list[int] = []
        for part in term.replace("...", "."):
            shape += dots if part == "." else [draw(st.sampled_from([sizes[part]] * 5 + [1, 2]))]
        given.append((tuple(shape), draw(st.sampled_from(["float32", "float64"]))))
    return given, {"subscripts": subscripts}


def basic_index(draw: st.DrawFn, shape: tuple[int, ...]) -> tuple[Any, ...]:
    part = st.one_of(st.integers(-3, 2), st.slices(3), st.none(), st.just(...))
    anything = st.lists(part, max_size=4).map(tuple)
    fitting = npst.basic_indices(shape, allow_newaxis=True).map(
        lambda i: i if isinstance(i, tuple) else (i,)
    )
    return draw(st.one_of(fitting, anything))


def slice_(draw: st.DrawFn) -> Drawn:
    (x,) = inputs(draw, 1)
    return [x], {"index": basic_index(draw, x[0])}


def unslice(draw: st.DrawFn) -> Drawn:
    shape = draw(SHAPES)
    index = basic_index(draw, shape)
    try:
        sliced = np.zeros(shape)[index].shape
    except IndexError:
        sliced = ()
    return [(sliced, draw(DTYPES))], {"index": index, "shape": shape}


def with_arrays(draw: st.DrawFn, shape: tuple[int, ...]) -> tuple[tuple[Any, ...], list[Any]]:
    """An index with arrays in it. They hold zeros, which are within every length but 0."""
    part = st.sampled_from(["array", "array", slice(None), slice(1, None), None, 0])
    pattern = tuple(draw(part) for _ in range(draw(st.integers(1, 3))))
    lengths = st.sampled_from([(2,), (1,), (3, 1), (), (2,), (0,)])
    indices = [
        (draw(lengths), draw(st.sampled_from(["int64", "int64", "int32", "uint8", "float32"])))
        for p in pattern
        if p == "array"
    ]
    return pattern, indices


def take(draw: st.DrawFn) -> Drawn:
    (x,) = inputs(draw, 1)
    pattern, indices = with_arrays(draw, x[0])
    return [x, *indices], {"pattern": pattern}


def scatter_add(draw: st.DrawFn) -> Drawn:
    shape = draw(SHAPES)
    pattern, indices = with_arrays(draw, shape)
    places = iter(indices)
    filled = [np.zeros(next(places)[0], np.intp) if p == "array" else p for p in pattern]
    try:
        taken = np.zeros(shape)[tuple(filled)].shape
    except (IndexError, ValueError):
        taken = (2,)
    x = (draw(st.sampled_from([taken, taken, (5, 5)])), draw(FLOATS))
    return [x, *indices], {"pattern": pattern, "shape": shape}


def from_nothing(**more: Any) -> Callable[[st.DrawFn], Drawn]:
    def drawn(draw: st.DrawFn) -> Drawn:
        shape = tuple(draw(st.lists(st.integers(-1, 3), max_size=3)))
        return [], {"shape": shape, "dtype": np.dtype(draw(DTYPES)), **more}

    return drawn


def array(draw: st.DrawFn) -> Drawn:
    made = draw(npst.arrays(draw(st.sampled_from(["int64", "float64"])), draw(SHAPES)))

    def nested(entries: Any) -> Any:
        return tuple(map(nested, entries)) if isinstance(entries, list) else entries

    dtype = np.dtype(draw(st.sampled_from(["float32", "float64", made.dtype.name])))
    return [], {"entries": nested(made.tolist()), "dtype": dtype}


def arange(draw: st.DrawFn) -> Drawn:
    if draw(st.booleans()):
        return inputs(draw, 1), {}
    return [], {"shape": (draw(st.integers(0, 5)),)}


def random(draw: st.DrawFn) -> Drawn:
    attrs = from_nothing()(draw)[1]
    attrs["dtype"] = np.dtype(draw(st.sampled_from(["float32", "float64"])))
    return [((), "uint64")] * 2, attrs


def cast(draw: st.DrawFn) -> Drawn:
    return inputs(draw, 1), {"dtype": np.dtype(draw(DTYPES))}


def number_of(several: bool) -> Callable[[st.DrawFn], Drawn]:
    return lambda draw: (inputs(draw, 1), {"axis": axis(draw, several)})


UNARY = [
    "neg", "exp", "expm1", "log", "log1p", "sqrt", "sin", "cos", "tanh", "sigmoid", "erf", "abs_",
    "sign", "floor", "round", "relu", "logical_not",
]  # fmt: skip
BINARY = [
    "add", "sub", "mul", "div", "power", "maximum", "minimum", "less", "less_equal", "greater",
    "greater_equal", "equal", "not_equal", "logical_and", "logical_or",
]  # fmt: skip
RULES: dict[str, Callable[[st.DrawFn], Drawn]] = {
    **{name.rstrip("_"): elementwise(1) for name in UNARY},
    **{name: elementwise(2) for name in BINARY},
    "where": elementwise(3),
    "pow": power_of_number,
    "clamp": clamp,
    "cast": cast,
    **{name: reduction(True) for name in ("sum", "mean", "amax", "amin")},
    **{name: reduction(False) for name in ("argmax", "argmin")},
    **dict.fromkeys(["cumsum", "softmax", "log_softmax"], along),
    "reshape": reshape, "transpose": transpose, "expand": expand, "concatenate": concatenate,
    "pad": pad, "matmul": matmul, "einsum": einsum, "slice": slice_, "unslice": unslice,
    "take": take, "scatter_add": scatter_add, "full": from_nothing(value=1), "array": array,
    "arange": arange, "uniform": random, "normal": random,
}  # fmt: skip
# No rule of their own: checks make nothing, numbers are () and int, and detach is never recorded.
WITHOUT = {"check_labels", "check_range", "check_finite", "size", "value", "detach"}


def test_every_op_is_here() -> None:
    assert set(RULES) | WITHOUT == set(OPS)


@pytest.mark.parametrize("name", RULES)
@settings(max_examples=60)
@given(data=st.data())
def test_rule(name: str, data: st.DataObject) -> None:
    given_, attrs = data.draw(st.composite(RULES[name])())
    arrays = [np.zeros(*g) if isinstance(g, tuple) else g for g in given_]
    known = {f"x{i}": Var(f"x{i}", *g) for i, g in enumerate(given_) if isinstance(g, tuple)}
    ins = tuple(f"x{i}" if isinstance(g, tuple) else g for i, g in enumerate(given_))
    equation = Equation(Var("out", (), "float32"), name, ins, tuple(sorted(attrs.items())))
    try:
        with quiet():
            made = np.asarray(OPS[name].forward(*arrays, **attrs))
    except (ValueError, IndexError, TypeError, OverflowError):
        with pytest.raises(ProgramError, match=f"^{name} of "):
            infer(equation, known)
    else:
        assert infer(equation, known) == (made.shape, str(made.dtype))


@pytest.mark.parametrize("shape", [(-1,), (-1, -1), (2, -3)])
def test_a_shape_is_given_in_full(shape: tuple[int, ...]) -> None:
    """NumPy would fill in a -1. A Program says what comes out."""
    with pytest.raises(ProgramError, match="does not fit into"):
        infer(Equation(None, "reshape", ("x",), (("shape", shape),)), {"x": Var("x", (), "int64")})


@pytest.mark.parametrize("name", ["size", "value"])
def test_numbers_of_arrays_are_ints(name: str) -> None:
    attrs = (("axis", None),) if name == "size" else ()
    assert infer(Equation(None, name, ("x",), attrs), {"x": Var("x", (), "int64")}) == ((), "int")


@pytest.mark.parametrize(
    ("op", "ins", "kind"),
    [
        ("add", ("i", 1), "int"), ("add", ("i", 1.0), "float"), ("mul", ("i", "f"), "float"),
        ("div", ("i", "i"), "float"), ("power", (2, "i"), "int"), ("neg", ("f",), "float"),
        ("neg", ("i",), "int"), ("sub", (1.5, "f"), "float"),
    ],
)  # fmt: skip
def test_arithmetic_of_numbers(op: str, ins: tuple[Any, ...], kind: str) -> None:
    known = {"i": Var("i", (), "int"), "f": Var("f", (), "float")}
    assert infer(Equation(None, op, ins), known) == ((), kind)


def test_numbers_that_are_equal_are_not_the_same() -> None:
    """2 and 2.0 are equal, and make ints and floats."""
    known = {"i": Var("i", (3,), "int64")}
    for _ in range(2):
        for low, exponent, dtype in [(0, 2, "int64"), (0.0, 2.0, "float64"), (0, True, "int64")]:
            power = Equation(None, "pow", ("i",), (("exponent", exponent),))
            clamp = Equation(None, "clamp", ("i",), (("high", None), ("low", low)))
            assert infer(power, known) == ((3,), dtype)
            assert infer(clamp, known) == ((3,), dtype)
            assert infer(Equation(None, "add", ("i", low)), known) == ((3,), dtype)


def test_other_ops_are_not_for_numbers() -> None:
    with pytest.raises(ProgramError, match="exp is not for Python numbers"):
        infer(Equation(None, "exp", ("f",)), {"f": Var("f", (), "float")})


@pytest.mark.parametrize("number", ["int", "float"])
@pytest.mark.parametrize("dtype", ["float32", "float64", "float16"])
def test_a_number_takes_the_dtype_of_the_array(number: str, dtype: str) -> None:
    known = {"n": Var("n", (), number), "x": Var("x", (3,), dtype)}
    for op in ("add", "sub", "mul", "div", "maximum", "power"):
        assert infer(Equation(None, op, ("x", "n")), known) == ((3,), dtype)
        assert infer(Equation(None, op, ("n", "x")), known) == ((3,), dtype)
