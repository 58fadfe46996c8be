"""Any shapes: Hypothesis chooses shapes, axes, indices and subscripts; torch knows the answer."""

from __future__ import annotations

import math
import operator
from typing import Any

import hypothesis.extra.numpy as npst
import numpy as np
import pytest
import torch
from hypothesis import assume, given, strategies as st
from oracle import F64, check, normal, positive

import groundup as gu

SHAPES = npst.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=3)
FULL = npst.array_shapes(min_dims=0, max_dims=4, min_side=1, max_side=3)


def check64(ours: Any, theirs: Any, *arrays: Any, **options: Any) -> None:
    check(ours, theirs, *arrays, dtypes=(F64,), **options)


# Broadcasting

BROADCAST = {
    "add": operator.add,
    "sub": operator.sub,
    "mul": operator.mul,
    "div": operator.truediv,
    "power": operator.pow,
    "maximum": lambda x, y: x.maximum(y),
    "minimum": lambda x, y: x.minimum(y),
    "less": operator.lt,
    "equal": operator.eq,
}


@pytest.mark.parametrize("name", BROADCAST)
@given(npst.mutually_broadcastable_shapes(num_shapes=2, min_side=0, max_side=3, max_dims=3))
def test_two_broadcast(name: str, shapes: npst.BroadcastableShapes) -> None:
    x, y = (positive(*s, seed=i) for i, s in enumerate(shapes.input_shapes))
    check64(BROADCAST[name], BROADCAST[name], x, y)


@given(npst.mutually_broadcastable_shapes(num_shapes=3, min_side=0, max_side=3, max_dims=3))
def test_where_broadcasts(shapes: npst.BroadcastableShapes) -> None:
    c, x, y = (normal(*s, seed=i) for i, s in enumerate(shapes.input_shapes))
    check64(gu.where, torch.where, c > 0, x, y)


@given(
    npst.mutually_broadcastable_shapes(
        signature=np.matmul.signature, min_side=0, max_side=3, max_dims=2
    )
)
def test_matmul(shapes: npst.BroadcastableShapes) -> None:
    x, y = (normal(*s, seed=i) for i, s in enumerate(shapes.input_shapes))
    check64(operator.matmul, operator.matmul, x, y)


# Reductions

REDUCTIONS = ["sum", "mean", "amax", "amin", "var", "std", "logsumexp"]


@pytest.mark.parametrize("name", REDUCTIONS)
@given(data=st.data(), keepdims=st.booleans())
def test_reduction(name: str, data: st.DataObject, keepdims: bool) -> None:
    shape = data.draw(npst.array_shapes(min_dims=1, max_dims=4, max_side=3))
    axis = data.draw(npst.valid_tuple_axes(len(shape), min_size=1) | st.integers(0, len(shape) - 1))
    count = math.prod(np.take(shape, axis).flat)
    assume(count > {"var": 1, "std": 2}.get(name, 0))  # two nearly equal entries: ill-conditioned

    def reduce(x: Any) -> Any:
        return getattr(x, name)(axis, keepdims=keepdims)

    check64(reduce, reduce, normal(*shape))


@given(data=st.data())
def test_along_an_axis(data: st.DataObject) -> None:
    shape = data.draw(npst.array_shapes(min_dims=1, max_dims=4, max_side=4))
    axis = data.draw(st.integers(-len(shape), len(shape) - 1))
    x = normal(*shape)
    for name in ("cumsum", "softmax", "log_softmax", "argmax", "argmin"):
        along = operator.methodcaller(name, axis)
        check64(along, along, x)
    for name in ("max", "min"):
        along = operator.methodcaller(name, axis)
        check64(along, lambda t, along=along: along(t).values, x)


# Shapes


@given(data=st.data())
def test_reshape(data: st.DataObject) -> None:
    shape = data.draw(FULL)
    rest, target = math.prod(shape), []
    while rest > 1:
        target.append(data.draw(st.sampled_from([n for n in range(1, rest + 1) if rest % n == 0])))
        rest //= target[-1]
    unknown = [*target]
    if target:
        unknown[data.draw(st.integers(0, len(target) - 1))] = -1
    for to in (target, unknown):
        check64(lambda x, to=to: x.reshape(*to), lambda x, to=to: x.reshape(to), normal(*shape))


@given(data=st.data(), shape=SHAPES)
def test_axes_rearranged(data: st.DataObject, shape: tuple[int, ...]) -> None:
    x, n = normal(*shape), len(shape)
    order = data.draw(st.permutations(range(n)))
    order = [a - n if data.draw(st.booleans()) else a for a in order]
    check64(lambda x: x.permute(*order), lambda x: x.permute(order), x)
    flipped = data.draw(npst.valid_tuple_axes(n))
    check64(lambda x: x.flip(flipped), lambda x: x.flip(flipped), x)
    at = data.draw(st.integers(-n - 1, n))
    check64(lambda x: x.unsqueeze(at), lambda x: x.unsqueeze(at), x)
    check64(lambda x: x.squeeze(flipped), lambda x: x.squeeze(flipped), x)
    if n:
        a, b = data.draw(st.tuples(st.integers(-n, n - 1), st.integers(-n, n - 1)))
        check64(lambda x: x.transpose(a, b), lambda x: x.transpose(a, b), x)
        start, end = sorted((a % n, b % n))
        check64(lambda x: x.flatten(start, end), lambda x: x.flatten(start, end), x)


@given(npst.mutually_broadcastable_shapes(num_shapes=1, base_shape=(2, 3, 2), min_dims=0))
def test_expand(shapes: npst.BroadcastableShapes) -> None:
    to = shapes.result_shape
    check64(lambda x: x.expand(to), lambda x: x.expand(to), normal(*shapes.input_shapes[0]))


@given(data=st.data(), shape=npst.array_shapes(min_dims=1, max_dims=3, max_side=3))
def test_joined_and_parted(data: st.DataObject, shape: tuple[int, ...]) -> None:
    axis = data.draw(st.integers(-len(shape), len(shape) - 1))
    lengths = data.draw(st.lists(st.integers(0, 3), min_size=1, max_size=3))
    at = axis % len(shape)
    xs = [normal(*shape[:at], n, *shape[at + 1 :], seed=i) for i, n in enumerate(lengths)]
    check64(lambda *xs: gu.concatenate(xs, axis), lambda *xs: torch.cat(xs, axis), *xs)
    whole = np.concatenate(xs, axis)
    check64(lambda x: x.split(lengths, axis), lambda x: x.split(lengths, axis), whole)
    if sum(lengths):
        size = data.draw(st.integers(1, 4))
        check64(lambda x: x.split(size, axis), lambda x: x.split(size, axis), whole)
    ys = [normal(*shape, seed=i) for i in range(len(lengths))]
    where = data.draw(st.integers(-len(shape) - 1, len(shape)))
    check64(lambda *ys: gu.stack(ys, where), lambda *ys: torch.stack(ys, where), *ys)


@given(data=st.data(), shape=npst.array_shapes(min_dims=1, max_dims=3, max_side=3))
def test_pad(data: st.DataObject, shape: tuple[int, ...]) -> None:
    side = st.integers(0, 2)
    widths = [data.draw(st.tuples(side, side)) for _ in shape]
    backwards = [w for pair in reversed(widths) for w in pair]
    check64(
        lambda x: gu.pad(x, widths, -1.5),
        lambda x: torch.nn.functional.pad(x, backwards, value=-1.5),
        normal(*shape),
    )


# Indexing. torch knows neither negative steps nor NumPy's layout of mixed indices: its twin takes
# the entries that NumPy finds at the index.


def check_index(x: np.ndarray, index: Any) -> None:
    flat = np.arange(x.size).reshape(x.shape)[index]
    check64(lambda x: x[index], lambda x: x.reshape(-1)[torch.tensor(np.array(flat))], x)


@given(data=st.data(), shape=SHAPES)
def test_basic_index(data: st.DataObject, shape: tuple[int, ...]) -> None:
    index = data.draw(npst.basic_indices(shape, allow_newaxis=True))
    check_index(normal(*shape), index)


@given(data=st.data(), shape=npst.array_shapes(min_dims=1, max_dims=4, max_side=4))
def test_mixed_index(data: st.DataObject, shape: tuple[int, ...]) -> None:
    """Integer arrays that broadcast and repeat, masks, numbers, slices, None and Ellipsis."""
    index: list[Any] = []
    axis = 0
    dots = data.draw(st.integers(0, len(shape)))
    while axis < len(shape):
        n = shape[axis]
        if axis == dots:
            skipped = data.draw(st.integers(0, len(shape) - axis))
            index.append(...)
            axis += skipped
            dots = -1
            continue
        kind = data.draw(st.sampled_from(["array", "column", "mask", "number", "slice", "none"]))
        if kind == "none":
            index.append(None)
            continue
        index.append(
            {
                "array": lambda n=n: data.draw(
                    npst.arrays(np.int64, 3, elements=st.integers(-n, n - 1))
                ),
                "column": lambda n=n: data.draw(
                    npst.arrays(int, (2, 1), elements=st.integers(0, n - 1))
                ),
                "mask": lambda n=n: np.arange(n) == n // 2,  # one True: broadcasts with all
                "number": lambda n=n: data.draw(st.integers(-n, n - 1)),
                "slice": lambda n=n: data.draw(st.slices(n)),
            }[kind]()
        )
        axis += 1
    check_index(normal(*shape), tuple(index))


@given(data=st.data(), shape=npst.array_shapes(min_dims=1, max_dims=3, max_side=4))
def test_mask(data: st.DataObject, shape: tuple[int, ...]) -> None:
    axes = data.draw(st.integers(1, len(shape)))
    check_index(normal(*shape), data.draw(npst.arrays(bool, shape[:axes])))
    check_index(normal(*shape), (..., data.draw(npst.arrays(bool, shape[-axes:]))))


@given(data=st.data(), shape=npst.array_shapes(min_dims=1, max_dims=3, max_side=4))
def test_take_along_axis(data: st.DataObject, shape: tuple[int, ...]) -> None:
    axis = data.draw(st.integers(-len(shape), len(shape) - 1))
    at = axis % len(shape)
    wanted = (*shape[:at], data.draw(st.integers(0, 5)), *shape[at + 1 :])
    indices = data.draw(npst.arrays(np.int64, wanted, elements=st.integers(0, shape[at] - 1)))
    check64(
        lambda x: gu.take_along_axis(x, indices, axis),
        lambda x: torch.take_along_dim(x, torch.tensor(indices), axis),
        normal(*shape),
    )


# Einsum


@st.composite
def einsums(draw: st.DrawFn) -> tuple[str, list[tuple[int, ...]]]:
    """Subscripts with repeated and summed letters and "...", and shapes, some lengths 1."""
    sizes = dict(zip("abcd", (2, 3, 1, 2), strict=True))
    batch = draw(npst.array_shapes(min_dims=0, max_dims=2, max_side=3))
    terms, shapes = [], []
    for _ in range(draw(st.integers(1, 3))):
        letters = draw(st.text("abcd", max_size=3))
        stretched = {c: draw(st.sampled_from([n, n, 1])) for c, n in sizes.items()}
        lengths = [stretched[c] for c in letters]
        if draw(st.booleans()):
            at = draw(st.integers(0, len(letters)))
            dots = batch[draw(st.integers(0, len(batch))) :]
            dots = tuple(draw(st.sampled_from([n, 1])) for n in dots)
            lengths[at:at] = dots
            letters = letters[:at] + "..." + letters[at:]
        terms.append(letters)
        shapes.append(tuple(lengths))
    subscripts = ",".join(terms)
    if draw(st.booleans()):
        known = sorted(set(subscripts) & set(sizes))
        kept = draw(st.lists(st.sampled_from(known), unique=True)) if known else []
        if "..." in subscripts:
            kept.insert(draw(st.integers(0, len(kept))), "...")
        subscripts += "->" + "".join(kept)
    return subscripts, shapes


@given(einsums())
def test_einsum(case: tuple[str, list[tuple[int, ...]]]) -> None:
    subscripts, shapes = case
    arrays = [normal(*shape, seed=i) for i, shape in enumerate(shapes)]
    check64(
        lambda *xs: gu.einsum(subscripts, *xs), lambda *xs: torch.einsum(subscripts, *xs), *arrays
    )
