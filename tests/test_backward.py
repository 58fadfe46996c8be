"""The reverse sweep: every way in which a value can be used, and every way to get it wrong."""

from __future__ import annotations

import gc
import threading
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from hypothesis import given, strategies as st
from oracle import F32, F64, check, compare_gradients, normal, positive, rng, same

import groundup as gu
from groundup import Tensor, nn
from groundup.errors import GradientError, ShapeError
from groundup.nn import Module, Parameter
from groundup.ops.base import State, state


def leaf(*shape: int, seed: int = 0) -> Tensor:
    return Tensor(normal(*shape, seed=seed), requires_grad=True)


def param(*shape: int, seed: int = 0) -> Parameter:
    return Parameter(normal(*shape, seed=seed))


def check64(ours: Callable[..., Any], theirs: Callable[..., Any], *arrays: Any) -> None:
    check(ours, theirs, *arrays, dtypes=(F64,))


# Graphs: how often, and along which paths, a value is used


def twice(x: Any) -> Any:
    return x * x


def fan_out(x: Any, y: Any) -> Any:
    a = x + x
    b = a * y + x
    return (a - b) * (b + y) * a


def residual(x: Any, w: Any) -> Any:
    for _ in range(3):
        x = x + (x @ w).tanh()
    return x


def diamond(x: Any, y: Any) -> Any:
    a = x.exp()
    return (a * y + a / y) * (a - x)


def broadcast_everywhere(x: Any, y: Any) -> Any:
    row = y[0]
    return (x + row) * x.sum(0) - row * y.mean(1, keepdims=True)


def one_branch_unused(x: Any, y: Any) -> Any:
    _ = x * y
    return x.sin()


@pytest.mark.parametrize(
    ("function", "shapes"),
    [
        (lambda b: twice(b + b), [(3,)]),
        (twice, [()]),
        (fan_out, [(2, 3), (3,)]),
        (residual, [(2, 3), (3, 3)]),
        (diamond, [(4,), (4,)]),
        (broadcast_everywhere, [(3, 3), (3, 3)]),
        (one_branch_unused, [(3,), (3,)]),
        (lambda w, x: (x @ w).relu() @ w.T @ w, [(3, 2), (4, 3)]),
    ],
    ids=["b = a + a", "x * x", "fan-out", "residual", "diamond", "broadcast", "unused", "shared"],
)
def test_uses(function: Callable[..., Any], shapes: list[tuple[int, ...]]) -> None:
    check64(function, function, *[positive(*s, seed=i) for i, s in enumerate(shapes)])


# Steps of a graph, ours and torch's: ops, reductions, and modules with a bwd of their own.
STEPS: list[tuple[int, Callable[..., Any], Callable[..., Any]]] = [
    (2, lambda a, b: a + b, lambda a, b: a + b),
    (2, lambda a, b: a * b, lambda a, b: a * b),
    (2, lambda a, b: a - b * b, lambda a, b: a - b * b),
    (2, lambda a, b: gu.where(a > b, a, 2 * b), lambda a, b: torch.where(a > b, a, 2 * b)),
    (1, lambda a: a.sin(), lambda a: a.sin()),
    (1, lambda a: a.mean(0, keepdims=True), lambda a: a.mean(0, keepdims=True)),
    (1, lambda a: a[..., :1], lambda a: a[..., :1]),
    (1, nn.Tanh(), torch.tanh),
    (1, nn.Sigmoid(), torch.sigmoid),
    (1, nn.Gelu(), torch.nn.functional.gelu),
]


@given(st.lists(st.tuples(*[st.integers(0, 99)] * 3), min_size=2, max_size=9))
def test_any_graph(steps: list[tuple[int, int, int]]) -> None:
    """Each step takes what any steps before it made: values used often, once, twice, never."""

    def run(side: int, *xs: Any) -> Any:
        values = list(xs)
        for step, i, j in steps:
            count, *functions = STEPS[step % len(STEPS)]
            operands = [values[i % len(values)], values[j % len(values)]][:count]
            values.append(functions[side](*operands))
        return values[-1] * values[-2]

    arrays = [normal(2, 3), normal(3, seed=1), normal(2, 1, seed=2)]
    check64(lambda *xs: run(0, *xs), lambda *xs: run(1, *xs), *arrays)


class TestBackward:
    def test_sets_g_of_leaves_and_of_what_was_computed(self) -> None:
        x = leaf(3)
        y = x * 2
        z = y.sin()
        loss = z.sum()
        loss.backward()
        assert loss.g.tolist() == 1.0
        assert z.g.tolist() == [1.0] * 3
        same(y.g, np.cos(y.data))
        same(x.g, 2 * np.cos(y.data))
        assert x.grad is x.g

    def test_clears_before(self) -> None:
        x = leaf(3)
        for _ in range(2):
            (x * 3).sum().backward()
            assert x.g.tolist() == [3.0] * 3

    def test_accumulates_on_request(self) -> None:
        x = leaf(3)
        y = x * 3
        y.sum().backward()
        y.sum().backward(accumulate=True)
        assert x.g.tolist() == [6.0] * 3
        assert y.g.tolist() == [1.0] * 3  # only leaves accumulate, as in PyTorch
        (x * 1).sum().backward(accumulate=True)
        assert x.g.tolist() == [7.0] * 3
        (x * 1).sum().backward()
        assert x.g.tolist() == [1.0] * 3

    def test_accumulates_into_an_assigned_gradient(self) -> None:
        x = leaf(2)
        x.g = np.array([1.0, 2.0])
        x.sum().backward(accumulate=True)
        assert x.g.tolist() == [2.0, 3.0]

    def test_leaves_what_it_does_not_reach_alone(self) -> None:
        x, y = leaf(2), leaf(2)
        (x + y).sum().backward()
        (2 * x).sum().backward()
        assert x.g.tolist() == [2.0, 2.0]
        assert y.g.tolist() == [1.0, 1.0]

    def test_can_be_repeated(self) -> None:
        x = leaf(3)
        loss = (x**3).sum()
        loss.backward()
        first = x.g.data.copy()
        loss.backward()
        same(x.g, first)

    def test_of_a_leaf(self) -> None:
        x = Tensor(2.0, requires_grad=True)
        x.backward()
        assert x.g.item() == 1.0

    def test_of_one_entry_of_any_shape(self) -> None:
        x = leaf(1, 1)
        (x * 2).backward()
        assert x.g.tolist() == [[2.0]]

    def test_gradient_argument(self) -> None:
        x = leaf(2, 3)
        c = normal(2, 3, seed=1)
        for c_of_any_kind in (c, Tensor(c), c.tolist()):
            (x * 2).backward(c_of_any_kind)
            np.testing.assert_allclose(x.g.data, 2 * c, rtol=1e-6)
        with pytest.raises(ShapeError, match=r"the tensor has shape \(2, 3\), gradient \(3,\)"):
            x.backward(np.ones(3))

    def test_more_than_one_entry_needs_a_gradient(self) -> None:
        with pytest.raises(ShapeError, match=r"backward from shape \(2,\): only a single number"):
            (leaf(2) * 2).backward()
        with pytest.raises(ShapeError, match=r"backward from shape \(0,\)"):
            (leaf(0) * 2).backward()

    def test_needs_something_that_requires_a_gradient(self) -> None:
        x = leaf(2)
        with gu.no_grad():
            inside = (x * 2).sum()
        for loss in (Tensor(1.0), inside, x.detach().sum(), (x > 0).sum(), x.argmax()):
            with pytest.raises(GradientError, match="nothing that this tensor was computed from"):
                loss.backward()

    def test_frozen_tensors_get_none(self) -> None:
        x, w = leaf(2), param(2).requires_grad_(False)
        (x * w).sum().backward()
        assert w.g is None
        same(x.g, w.data)


def test_leaf_gradients_share_no_memory() -> None:
    x, y, z = leaf(3), leaf(3), leaf(3)
    c = np.ones(3)
    ((x + y) + z).backward(c)
    gradients = [t.g.data for t in (x, y, z)]
    for i, g in enumerate(gradients):
        for other in [*gradients[:i], c, x.data, y.data, z.data]:
            assert not np.shares_memory(g, other)
        g += 1  # writable


def test_leaf_gradients_of_views_are_whole_and_writable() -> None:
    x, y = leaf(2, 3), leaf(3, 2)
    (x.T + y).sum().backward()
    for g in (x.g.data, y.g.data):
        assert g.base is None
        g *= 2
    assert (x.g.data == 2).all()


def test_assigning_before_backward_is_refused() -> None:
    w = param(2)
    loss = (w * w).sum()
    w.assign(np.zeros(2))
    with pytest.raises(
        GradientError, match=r"shape \(2,\) that mul used was written to .*before b"
    ):
        loss.backward()
    (w * w).sum().backward()
    assert w.g.tolist() == [0.0, 0.0]


def test_assigning_to_a_constant_is_refused_too() -> None:
    w, scale = param(2), Tensor(np.ones(2))
    loss = (w * scale).sum()
    scale.assign(np.zeros(2))
    with pytest.raises(GradientError, match="that mul used was written to"):
        loss.backward()


def test_an_optimizers_step_before_backward_is_refused() -> None:
    model = nn.Linear(2, 1)
    opt = gu.optim.SGD(model.parameters(), lr=0.1)
    x = np.ones((3, 2), F32)
    model(x).sum().backward()
    loss = model(x).sum()
    opt.step()
    with pytest.raises(GradientError, match="Linear used was written to"):
        loss.backward()


def test_views_of_what_was_written_are_refused() -> None:
    w = param(2, 2)
    loss = w.T.sum()
    w.assign(w.data * 2)
    with pytest.raises(GradientError, match="transpose used was written to"):
        loss.backward()


class TestGrad:
    def test_touches_no_g(self) -> None:
        x = leaf(3)
        x.g = np.ones(3)
        (g,) = gu.grad((x * 2).sum(), [x])
        assert g.tolist() == [2.0] * 3
        assert x.g.tolist() == [1.0] * 3

    def test_of_what_was_computed(self) -> None:
        x = leaf(3)
        y = x.sin()
        z = y * y
        gy, gx, gz = gu.grad(z.sum(), [y, x, z])
        same(gy, 2 * y.data)
        same(gx, 2 * y.data * np.cos(x.data))
        assert gz.tolist() == [1.0] * 3

    def test_unused_inputs_have_zeros(self) -> None:
        x, y = leaf(3), leaf(2, 2)
        _, gy = gu.grad(x.sum(), [x, y])
        same(gy, np.zeros((2, 2)))

    def test_same_input_twice(self) -> None:
        x = leaf(2)
        a, b = gu.grad((x * 3).sum(), [x, x])
        assert a.tolist() == b.tolist() == [3.0, 3.0]

    def test_of_itself(self) -> None:
        x = leaf(2)
        c = normal(2)
        same(gu.grad(x, [x], c)[0], c)

    def test_refusals(self) -> None:
        x = leaf(2)
        with pytest.raises(GradientError, match=r"input 1 of shape \(3,\) requires no gradient"):
            gu.grad(x.sum(), [x, Tensor(np.zeros(3))])
        with pytest.raises(ShapeError, match="only a single number"):
            gu.grad(x * 2, [x])
        with pytest.raises(GradientError, match="nothing that this tensor"):
            gu.grad(x.detach().sum(), [x])


class TestCreateGraph:
    def test_gradient_penalty(self) -> None:
        """A loss of the gradient's norm (WGAN-GP), through two layers and back."""
        x, w, v = normal(4, 3), normal(3, 5, seed=1), normal(5, 1, seed=2)
        xs, ws, vs = (Tensor(a, requires_grad=True) for a in (x, w, v))
        tx, tw, tv = (torch.tensor(a, requires_grad=True) for a in (x, w, v))

        def score(x: Any, w: Any, v: Any) -> Any:
            return ((x @ w).tanh() @ v).sum()

        (g,) = gu.grad(score(xs, ws, vs), [xs], create_graph=True)
        (tg,) = torch.autograd.grad(score(tx, tw, tv), [tx], create_graph=True)
        loss = score(xs, ws, vs) + ((g**2).sum(1).sqrt() - 1).square().mean()
        tloss = score(tx, tw, tv) + ((tg**2).sum(1).sqrt() - 1).square().mean()
        same(loss, tloss)
        loss.backward()
        tloss.backward()
        for ours, theirs in ((xs, tx), (ws, tw), (vs, tv)):
            same(ours.g, theirs.grad)

    def test_backward_leaves_a_recorded_gradient(self) -> None:
        x = Tensor(np.array([2.0]), requires_grad=True)
        (x**3).sum().backward(create_graph=True)
        g = x.g
        assert g.requires_grad
        g.sum().backward()
        assert x.g.tolist() == [12.0]

    def test_third_derivative(self) -> None:
        x = Tensor(np.array([0.7]), requires_grad=True)
        y = x.exp() * x.sin()
        for _ in range(3):
            (y,) = gu.grad(y.sum(), [x], create_graph=True)
        e, s, c = np.exp(0.7), np.sin(0.7), np.cos(0.7)
        assert y.item() == pytest.approx(2 * e * (c - s), rel=1e-12)

    def test_without_it_gradients_are_plain(self) -> None:
        x = leaf(2)
        (g,) = gu.grad((x**3).sum(), [x])
        assert g.is_leaf
        assert not g.requires_grad
        (x**3).sum().backward()
        assert x.g.is_leaf
        assert not x.g.requires_grad

    def test_inside_no_grad(self) -> None:
        x = leaf(2)
        loss = (x**3).sum()
        with gu.no_grad():
            (g,) = gu.grad(loss, [x])
            (h,) = gu.grad(loss, [x], create_graph=True)
            assert not state.recording
        assert g.is_leaf
        same(gu.grad(h.sum(), [x])[0], 6 * x.data)


class TestNoGrad:
    def test_context(self) -> None:
        x = leaf(2)
        with gu.no_grad():
            assert (x * 2).is_leaf
            assert not (x * 2).requires_grad
            with gu.no_grad():
                pass
            assert (x * 2).is_leaf
        assert not (x * 2).is_leaf

    def test_decorator_may_be_called_again(self) -> None:
        @gu.no_grad()
        def double(x: Tensor) -> Tensor:
            return x * 2

        for _ in range(2):
            assert double(leaf(2)).is_leaf
        assert state.recording

    def test_ends_when_the_last_of_those_that_overlap_ends(self) -> None:
        def part() -> Iterator[None]:
            with gu.no_grad():
                yield

        first, second = part(), part()
        next(first), next(second)
        list(first)
        assert not state.recording
        list(second)
        assert state.recording

    def test_one_may_be_entered_within_itself(self) -> None:
        once = gu.no_grad()
        with once, once:
            pass
        assert state.recording
        with once:
            assert (leaf(2) * 2).is_leaf
        assert state.recording

    def test_ends_with_an_exception(self) -> None:
        with pytest.raises(ZeroDivisionError), gu.no_grad():
            1 / 0  # noqa: B018
        assert state.recording

    def test_detach(self) -> None:
        x = leaf(3)
        (x * x.detach()).sum().backward()
        same(x.g, x.data)
        assert x.detach().data is x.data

    def test_modules_with_a_bwd(self) -> None:
        with gu.no_grad():
            assert nn.Linear(2, 2)(np.ones((1, 2), F32)).is_leaf


def test_threads_have_their_own_flags() -> None:
    inside, done = threading.Event(), threading.Event()
    seen: list[Any] = []

    def other() -> None:
        seen.append(((leaf(2) * 2).is_leaf, state.quiet))
        with gu.autograd_only():
            inside.set()
            done.wait(10)
        x = leaf(2)
        (x * 2).sum().backward()
        seen.append(x.g.tolist())

    with gu.no_grad():
        thread = threading.Thread(target=other)
        thread.start()
        assert inside.wait(10)
        assert state.own_rules
        done.set()
        thread.join()
    assert seen == [(False, False), [2.0, 2.0]]


def test_flags_are_those_that_the_tests_watch() -> None:
    assert set(vars(State())) == {
        "recording", "outside", "own_rules", "quiet", "sweep", "recorder",
    }  # fmt: skip


# Depth


@pytest.mark.parametrize("module", [False, True], ids=["ops", "modules"])
def test_a_long_chain(module: bool) -> None:
    """Forward, backward and deletion use no recursion."""
    n = 20_000 if module else 100_000
    relu = nn.Relu()
    x = Tensor(np.array([1.0]), requires_grad=True)
    y = x
    for _ in range(n):
        y = relu(y) if module else y + 0.5
    y.backward()
    assert x.g.item() == 1.0
    del y
    gc.collect()


def test_the_record_is_freed_without_the_garbage_collector() -> None:
    """No cycles: a step's memory goes when its loss does."""
    model = nn.Sequential(nn.Linear(3, 4), nn.Relu(), nn.Dropout(0.5), nn.Linear(4, 2))
    model.layers += [Parts("tuple"), lambda out: out[0] + out[1]]
    x, y = np.ones((5, 3), F32), np.zeros(5, np.int64)
    gc.collect()
    gc.disable()
    try:
        for _ in range(2):
            nn.CrossEntropy()(model(x), y).backward()
        before = sum(issubclass(type(o), Tensor) for o in gc.get_objects())
        for _ in range(5):
            nn.CrossEntropy()(model(x), y).backward()
        after = sum(issubclass(type(o), Tensor) for o in gc.get_objects())
    finally:
        gc.enable()
    assert after == before


# Modules with a bwd of their own


class Affine(Module):
    """w * inp + b, by hand."""

    def __init__(self, n: int = 3) -> None:
        self.w, self.b = param(n, seed=1), param(n, seed=2)

    def forward(self, inp: Tensor) -> Any:
        return inp * self.w + self.b

    def bwd(self, out: Tensor, inp: Tensor) -> None:
        inp.g = out.g * self.w
        self.w.g = out.g * inp
        self.b.g = out.g


class Cube(Module):
    def forward(self, inp: Tensor) -> Any:
        return inp * inp * inp

    def bwd(self, out: Tensor, inp: Tensor) -> None:
        inp.g = 3 * inp**2 * out.g


class ExpByOutput(Module):
    """Its bwd uses the output's value."""

    def forward(self, inp: Tensor) -> Any:
        return inp.exp()

    def bwd(self, out: Tensor, inp: Tensor) -> None:
        inp.g = out * out.g


class ExpKept(Module):
    """Its bwd uses a value that forward kept."""

    def forward(self, inp: Tensor) -> Any:
        self.half = (inp / 2).exp()
        return self.half * self.half

    def bwd(self, out: Tensor, inp: Tensor) -> None:
        inp.g = self.half * self.half * out.g


class Scaled(Module):
    """No bwd, an Affine inside: the ops' gradients and a hand-written one in one graph."""

    def __init__(self) -> None:
        self.inner = Affine()
        self.scale = param(3, seed=5)

    def forward(self, inp: Tensor) -> Any:
        return self.inner(inp * self.scale).tanh()


class Outer(Module):
    """A bwd of its own around modules with theirs: only its own runs."""

    def __init__(self) -> None:
        self.a, self.b = Affine(), Cube()

    def forward(self, inp: Tensor) -> Any:
        self.mid = self.a(inp)
        return self.b(self.mid)

    def bwd(self, out: Tensor, inp: Tensor) -> None:
        d = 3 * self.mid**2 * out.g
        inp.g = d * self.a.w
        self.a.w.g = d * inp
        self.a.b.g = d


def check_module(make: Callable[[], Module], *arrays: np.ndarray, times: int = 1) -> None:
    """Value, gradients and second derivatives of a module's own rules against autograd_only."""
    results = []
    for rules in (True, False):
        model = make()
        inputs = [Tensor(a, requires_grad=True) for a in arrays]
        if rules:
            results.append(derivatives(model, inputs, times))
        else:
            with gu.autograd_only():
                results.append(derivatives(model, inputs, times))
    assert len(results[0]) == len(results[1])
    for i, (by_hand, by_ops) in enumerate(zip(*results, strict=True)):
        same(by_hand, by_ops, f"of value, gradients, second derivatives: number {i}")


def derivatives(model: Module, inputs: list[Tensor], times: int) -> list[Tensor]:
    random = rng(3)
    out = model(*inputs)
    for _ in range(times - 1):
        out = model(out)
    wanted = [*inputs, *model.parameters()]
    c = Tensor(random.standard_normal(out.shape), requires_grad=True)
    first = gu.grad(out, wanted, c, create_graph=True)
    found = [out, *first]
    for g in first:
        v = random.standard_normal(g.shape)
        found += gu.grad(g, [*wanted, c], v) if g.requires_grad else []
    return found


@pytest.mark.parametrize(
    ("make", "times"),
    [
        *[(make, times) for make in (Affine, Cube, ExpByOutput, Scaled) for times in (1, 2, 3)],
        *[(ExpKept, 1), (Outer, 1)],  # what forward keeps is of its last call
    ],
)
def test_own_rules_agree_with_the_ops(make: Callable[[], Module], times: int) -> None:
    check_module(make, 0.3 * normal(2, 3), times=times)


def test_the_own_rule_is_what_runs() -> None:
    class Wrong(Module):
        def forward(self, inp: Tensor) -> Any:
            return inp * 2

        def bwd(self, out: Tensor, inp: Tensor) -> None:
            inp.g = 7 * out.g

    x = leaf(2)
    Wrong()(x).sum().backward()
    assert x.g.tolist() == [7.0, 7.0]
    with gu.autograd_only():
        Wrong()(x).sum().backward()
    assert x.g.tolist() == [2.0, 2.0]


def test_autograd_only_ends_with_an_exception() -> None:
    with pytest.raises(ZeroDivisionError), gu.autograd_only():
        1 / 0  # noqa: B018
    assert state.own_rules


def test_inner_rules_do_not_run_inside_an_outer_one() -> None:
    class Inner(Module):
        def forward(self, inp: Tensor) -> Any:
            return inp * 2

        def bwd(self, out: Tensor, inp: Tensor) -> None:
            raise AssertionError("the outer rule is the rule")

    class Around(Module):
        def __init__(self) -> None:
            self.inner = Inner()

        def forward(self, inp: Tensor) -> Any:
            return self.inner(inp)

        def bwd(self, out: Tensor, inp: Tensor) -> None:
            inp.g = 2 * out.g

    x = leaf(2)
    Around()(x).sum().backward()
    assert x.g.tolist() == [2.0, 2.0]


def test_against_torch_by_hand() -> None:
    """A hand-written module in torch's terms, to the second derivative."""
    affine, x = Affine(), leaf(2, 3, seed=7)
    tx, tw, tb = (torch.tensor(t.data, requires_grad=True) for t in (x, affine.w, affine.b))
    out, tout = affine(affine(x)).tanh(), ((tx * tw + tb) * tw + tb).tanh()
    same(out, tout)
    compare_gradients(out, tout, [x, affine.w, affine.b], [tx, tw, tb], random=rng(4))


WRONG = [
    (
        "inp.g += v",
        lambda self, out, inp: setattr(inp, "g", inp.g + out.g),
        GradientError,
        r"Times: bwd reads the gradient of an input or parameter.*never `x.g \+= v`",
    ),
    (
        "w.g += v",
        lambda self, out, inp: setattr(self.w, "g", self.w.g + out.g.sum(0)),
        GradientError,
        "Times: bwd reads the gradient of an input or parameter",
    ),
    (
        "out.g = v",
        lambda self, out, inp: setattr(out, "g", inp),
        GradientError,
        "Times: bwd sets out.g, which is what arrived from behind",
    ),
    (
        "inp.g = None",
        lambda self, out, inp: setattr(inp, "g", None),
        GradientError,
        "Times: bwd sets a gradient to None; leave it out where it is zero",
    ),
    (
        "shape of inp",
        lambda self, out, inp: setattr(inp, "g", out.g.sum(0)),
        ShapeError,
        r"Times: bwd contributed a gradient of shape \(3,\) to a tensor of shape \(2, 3\)",
    ),
    (
        "shape of w",
        lambda self, out, inp: setattr(self.w, "g", out.g.T),
        ShapeError,
        r"shape \(3, 2\) to a tensor of shape \(3,\).*is a transpose or a sum missing\?",
    ),
    ("an exception", lambda self, out, inp: 1 / 0, ZeroDivisionError, "division"),
]


class TestContributions:
    """What a bwd may write, and what it may not."""

    def run(self, bwd: Callable[..., None], *, broadcast: bool = False) -> tuple[Tensor, Parameter]:
        class Times(Module):
            def __init__(self) -> None:
                self.w = param(3, seed=1)

            def forward(self, inp: Tensor) -> Any:
                return inp * self.w

        Times.bwd = bwd  # type: ignore[attr-defined]
        x, model = leaf(2, 3), Times()
        model(x).sum().backward()
        return x, model.w

    def test_broadcast_ones_are_summed_back(self) -> None:
        def bwd(self: Any, out: Tensor, inp: Tensor) -> None:
            self.w.g = out.g * inp  # (2, 3) for a w of (3,)

        x, w = self.run(bwd)
        same(w.g, x.data.sum(0))
        assert x.g is None

    def test_setting_twice_adds(self) -> None:
        def bwd(self: Any, out: Tensor, inp: Tensor) -> None:
            inp.g = out.g
            inp.g = 2 * out.g
            self.w.g = np.ones(3)
            self.w.g = np.ones((2, 3))

        x, w = self.run(bwd)
        assert x.g.tolist() == [[3.0] * 3] * 2
        assert w.g.tolist() == [3.0] * 3

    def test_numpy_arrays_and_other_dtypes(self) -> None:
        def bwd(self: Any, out: Tensor, inp: Tensor) -> None:
            inp.g = out.g.data.astype(np.float32)

        x, _ = self.run(bwd)
        assert x.g.dtype == np.float64

    @pytest.mark.parametrize(
        ("bwd", "kind", "text"), [w[1:] for w in WRONG], ids=[w[0] for w in WRONG]
    )
    def test_refused(self, bwd: Callable[..., None], kind: type, text: str) -> None:
        with pytest.raises(kind, match=text):
            self.run(bwd)
        assert (state.recording, state.own_rules, state.quiet, state.sweep) == (
            True,
            True,
            False,
            None,
        )
        x = leaf(2)
        (x * 2).sum().backward()
        assert x.g.tolist() == [2.0, 2.0]

    def test_a_failed_pass_leaves_gradients_as_they_were(self) -> None:
        class Fails(Module):
            def forward(self, inp: Tensor) -> Any:
                return inp * 1

            def bwd(self, out: Tensor, inp: Tensor) -> None:
                raise ZeroDivisionError

        x, w = leaf(2), leaf(2)
        (x * w).sum().backward()
        gx, gw = x.g, w.g
        with pytest.raises(ZeroDivisionError):
            (Fails()(x) * w).sum().backward()
        assert x.g is gx
        assert w.g is gw


class Tied(Module):
    """One weight under two names, contributed to under both."""

    def __init__(self) -> None:
        self.w = param(3, seed=1)
        self.v = self.w

    def forward(self, inp: Tensor) -> Any:
        return (inp * self.w).tanh() * self.v

    def bwd(self, out: Tensor, inp: Tensor) -> None:
        t = (inp * self.w).tanh()
        d = out.g * self.v * (1 - t * t)
        inp.g = d * self.w
        self.w.g = d * inp
        self.v.g = out.g * t


def test_tied_weights() -> None:
    check_module(Tied, normal(2, 3))
    model = Tied()
    assert [name for name, _ in model.named_parameters()] == ["w"]


class NumpyOnly(Module):
    """forward in plain NumPy: there is no record, the bwd is all there is."""

    def __init__(self) -> None:
        self.w = param(3, seed=1)

    def forward(self, inp: Tensor) -> Any:
        return Tensor(np.sin(inp.data) * self.w.data)

    def bwd(self, out: Tensor, inp: Tensor) -> None:
        inp.g = out.g * inp.cos() * self.w
        self.w.g = out.g * inp.sin()


def test_numpy_forward_with_a_bwd() -> None:
    model, x = NumpyOnly(), leaf(2, 3)
    tx, tw = (torch.tensor(t.data, requires_grad=True) for t in (x, model.w))
    compare_gradients(model(x), tx.sin() * tw, [x, model.w], [tx, tw], random=rng(1))


def test_numpy_forward_without_an_input_that_requires_a_gradient() -> None:
    model = NumpyOnly()
    model(Tensor(np.ones((2, 3)))).sum().backward()
    assert model.w.g.tolist() == pytest.approx([2 * np.sin(1)] * 3)


def test_part_of_a_forward_in_numpy() -> None:
    """b is used outside the record; what its bwd contributes arrives all the same."""

    class Mixed(Module):
        def __init__(self) -> None:
            self.w, self.b = param(3, seed=1), param(3, seed=2)

        def forward(self, inp: Tensor) -> Any:
            return inp * self.w + self.b.data

        def bwd(self, out: Tensor, inp: Tensor) -> None:
            inp.g = out.g * self.w
            self.w.g = out.g * inp
            self.b.g = out.g

    model = Mixed()
    for _ in range(2):
        model(Tensor(np.ones((2, 3)))).sum().backward()
        assert model.b.g.tolist() == [2.0] * 3


class Several(NamedTuple):
    low: Any
    high: Any


class Parts(Module):
    """Several outputs, in a structure."""

    def __init__(self, kind: str) -> None:
        self.kind = kind

    def forward(self, inp: Tensor) -> Any:
        a, b = inp * inp, inp.sin()
        return {
            "tuple": (a, b),
            "list": [a, b],
            "dict": {"a": a, "more": [b, "text"]},
            "named": Several(a, b),
        }[self.kind]

    def bwd(self, out: Any, inp: Tensor) -> None:
        a, b = both(out)
        inp.g = 2 * inp * a.g
        inp.g = inp.cos() * b.g


def both(out: Any) -> tuple[Any, Any]:
    return (out["a"], out["more"][0]) if isinstance(out, dict) else (out[0], out[1])


@pytest.mark.parametrize("kind", ["tuple", "list", "dict", "named"])
def test_several_outputs(kind: str) -> None:
    model = Parts(kind)

    def ours(x: Tensor) -> list[Tensor]:
        out = model(x)
        assert type(out).__name__ == {"named": "Several"}.get(kind, kind)
        a, b = both(out)
        return [a, b, a * b + a]  # either unused, then both used, one of them twice

    def theirs(x: Any) -> list[Any]:
        a, b = x * x, x.sin()
        return [a, b, a * b + a]

    check64(ours, theirs, normal(3))


def test_several_outputs_whose_values_the_bwd_uses() -> None:
    """The loss uses an output, and so does the gradient: both contributions count."""

    class Both(Module):
        def forward(self, inp: Tensor) -> Any:
            return inp.exp(), inp * 2

        def bwd(self, out: Any, inp: Tensor) -> None:
            e, _ = out
            inp.g = e * e.g
            inp.g = 2 * out[1].g

    x, tx = leaf(3), torch.tensor(normal(3), requires_grad=True)
    e, d = Both()(x)
    te = tx.exp()
    (g,) = gu.grad(e, [x], np.ones(3), create_graph=True)
    (tg,) = torch.autograd.grad(te, [tx], torch.ones(3, dtype=torch.float64), create_graph=True)
    (e + d + g * g).sum().backward()
    (te + 2 * tx + tg * tg).sum().backward()
    same(x.g, tx.grad)


def test_several_outputs_some_of_them_integers() -> None:
    class TopOne(Module):
        def forward(self, inp: Tensor) -> Any:
            return inp.max(1), inp.argmax(1)

        def bwd(self, out: Any, inp: Tensor) -> None:
            values, places = out
            inp.g = gu.one_hot(places, inp.shape[1], dtype=inp.dtype) * values.g.unsqueeze(1)

    def ours(x: Tensor) -> Any:
        values, places = TopOne()(x)
        assert places.is_leaf
        return [values, places]

    check64(ours, lambda x: list(x.max(1)), normal(3, 4))


class Mixer(Module):
    """Lists, dicts and keywords of tensors as arguments."""

    def forward(self, xs: list[Tensor], named: dict[str, Tensor], *, scale: Tensor) -> Any:
        return (xs[0] + xs[1] * named["w"]) * scale

    def bwd(
        self, out: Tensor, xs: list[Tensor], named: dict[str, Tensor], *, scale: Tensor
    ) -> None:
        xs[0].g = out.g * scale
        xs[1].g = out.g * scale * named["w"]
        named["w"].g = out.g * scale * xs[1]
        scale.g = out.g * (xs[0] + xs[1] * named["w"])


def test_arguments_in_structures() -> None:
    model = Mixer()
    check64(
        lambda a, b, w, s: model([a, b], {"w": w}, scale=s),
        lambda a, b, w, s: (a + b * w) * s,
        *[normal(3, seed=i) for i in range(4)],
    )
    check64(  # the same tensor in every place
        lambda a: model([a, a], {"w": a}, scale=a), lambda a: (a + a * a) * a, normal(3)
    )


def test_a_module_used_twice_in_one_pass() -> None:
    affine = Affine()
    x, y = leaf(2, 3), leaf(3)
    tx, ty, tw, tb = (torch.tensor(t.data, requires_grad=True) for t in (x, y, affine.w, affine.b))
    out = affine(x) * affine(affine(y))
    tout = (tx * tw + tb) * ((ty * tw + tb) * tw + tb)
    compare_gradients(out, tout, [x, y, affine.w, affine.b], [tx, ty, tw, tb], random=rng(2))


def test_hypernetwork() -> None:
    """A Lin whose weight is computed: the gradient goes on to what it was computed from."""
    x, z = normal(4, 3), normal(6, seed=1)

    def ours(x: Tensor, z: Tensor) -> Tensor:
        return nn.Lin((z * z).reshape(3, 2), z[:2].sin())(x)

    check64(ours, lambda x, z: x @ (z * z).reshape(3, 2) + z[:2].sin(), x, z)


def test_a_computed_tensor_that_forward_finds_outside_its_arguments() -> None:
    class Gate(Module):
        def __init__(self, gate: Tensor) -> None:
            self.gate = gate

        def forward(self, inp: Tensor) -> Any:
            return inp * self.gate

        def bwd(self, out: Tensor, inp: Tensor) -> None:
            inp.g = out.g * self.gate
            self.gate.g = out.g * inp

    check64(
        lambda x, z: Gate(z.exp())(x), lambda x, z: x * z.exp(), normal(2, 3), normal(3, seed=1)
    )


def test_a_value_that_a_module_keeps_for_the_loss() -> None:
    """An auxiliary loss: computed in forward from the output, added outside."""

    class Penalised(Module):
        def forward(self, inp: Tensor) -> Any:
            out = inp * inp
            self.penalty = (out * out).sum()
            return out

        def bwd(self, out: Tensor, inp: Tensor) -> None:
            inp.g = 2 * inp * out.g

    model, x = Penalised(), leaf(3)
    loss = model(x).sum() + model.penalty
    loss.backward()
    same(x.g, 2 * x.data + 4 * x.data**3)


def test_frozen_parameters() -> None:
    affine, x = Affine(), leaf(2, 3)
    affine.w.requires_grad_(False)
    affine(x).sum().backward()
    assert affine.w.g is None
    assert affine.b.g.tolist() == [2.0] * 3
    same(x.g, np.broadcast_to(affine.w.data, (2, 3)).copy())
    affine.requires_grad_(False)
    assert affine(Tensor(np.ones((2, 3)))).is_leaf


def test_an_identity_gives_a_tensor_of_its_own() -> None:
    class Double(Module):
        """Returns its argument; only its rule doubles."""

        def forward(self, inp: Tensor) -> Any:
            return inp

        def bwd(self, out: Tensor, inp: Tensor) -> None:
            inp.g = 2 * out.g

    x = leaf(2)
    y = Double()(x)
    assert x.is_leaf
    (y + x).sum().backward()
    assert x.g.tolist() == [3.0, 3.0]


def test_a_module_without_gradient_leaves_no_node() -> None:
    assert nn.Relu()(Tensor([1.0])).is_leaf
    assert Cube()(np.ones(2)).is_leaf


def test_gradients_inside_a_bwd() -> None:
    """A bwd may itself take gradients (implicit layers do)."""

    class Sine(Module):
        def forward(self, inp: Tensor) -> Any:
            return inp.sin()

        def bwd(self, out: Tensor, inp: Tensor) -> None:
            x = Tensor(inp.data, requires_grad=True)
            before, state.recording = state.recording, True
            try:
                y = x.sin()
            finally:
                state.recording = before
            (g,) = gu.grad(y, [x], out.g.detach())
            inp.g = g

    x = leaf(3)
    Sine()(x).sum().backward()
    same(x.g, np.cos(x.data))


def test_functions_with_numbers_as_arguments() -> None:
    class Power(Module):
        def forward(self, inp: Tensor, exponent: int, flag: bool = False) -> Any:
            return inp**exponent

        def bwd(self, out: Tensor, inp: Tensor, exponent: int, flag: bool = False) -> None:
            assert flag
            inp.g = exponent * inp ** (exponent - 1) * out.g

    check64(lambda x: Power()(x, 3, flag=True), lambda x: x**3, normal(3))
