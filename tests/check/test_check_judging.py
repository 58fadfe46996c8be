"""The verdicts of a check, what it refuses, and what it leaves as it was."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import groundup as gu
from groundup import generator, nn
from groundup.check.adapters.pairs import subject_for
from groundup.check.judging import Judge
from groundup.check.report import FINE, Report, Row
from groundup.errors import GroundupError
from groundup.nn import Buffer, Module, Parameter
from groundup.tensor import Tensor

X = np.array([[0.7, -1.3, 0.4], [1.1, 0.9, -0.6]])


def squared(x: Any) -> Any:
    return x * x


def checked(function: Any, *inputs: Any, **options: Any) -> Report:
    return gu.check(function, *inputs, diagnose=False, **options)


def only(report: Report) -> Row:
    (row,) = report.rows
    return row


class Dense(Module):
    """inp @ w + b, with its right backward."""

    def __init__(self, n_in: int = 3, n_out: int = 2):
        rng = np.random.default_rng(5)
        self.w = Parameter(rng.normal(size=(n_in, n_out)))
        self.b = Parameter(rng.normal(size=n_out))

    def forward(self, inp):
        return inp @ self.w + self.b

    def bwd(self, out, inp):
        inp.g = out.g @ self.w.T
        self.w.g = inp.T @ out.g
        self.b.g = out.g.sum(0)


# Right and wrong


def test_a_right_backward_is_right_with_an_error_of_rounding() -> None:
    report = checked(squared, X, backward=lambda dout, x: 2 * x * dout)
    row = only(report)
    assert (row.name, row.shape, row.verdict, row.ok) == ("x", (2, 3), "right", True)
    assert row.relative is not None
    assert row.relative < 1e-14
    assert report


def test_a_wrong_entry_is_shown_with_both_values_and_the_errors_that_numpy_finds() -> None:
    seen = []

    def backward(dout, x):
        seen.append(dout.copy())
        dx = 2 * x * dout
        dx[1, 2] += 0.01
        return dx

    row = only(checked(squared, X, backward=backward))
    assert (row.verdict, row.index, row.ok) == ("wrong", (1, 2), False)
    # Which of the two cotangents is shown is told by the value.
    hits = [d for d in seen if abs(2 * X[1, 2] * d[1, 2] + 0.01 - row.value) < 1e-15]
    truth = 2 * X * hits[0]
    assert row.expected == pytest.approx(truth[1, 2], rel=1e-12)
    assert row.absolute == pytest.approx(0.01, rel=1e-9)
    assert row.absolute == abs(row.value - row.expected)
    assert row.relative == pytest.approx(0.01 / np.abs(truth).max(), rel=1e-9)


def test_the_worst_entry_is_the_one_shown() -> None:
    def backward(dout, x):
        return 2 * x * dout + np.array([[0.0, 0.01, 0.0], [0.3, 0.0, 0.02]])

    assert only(checked(squared, X, backward=backward)).index == (1, 0)


def test_only_the_wrong_gradient_of_several_is_wrong() -> None:
    class Wrong(Dense):
        def bwd(self, out, inp):
            inp.g = out.g @ self.w.T
            self.w.g = inp.T @ out.g
            self.b.g = out.g.mean(0)

    report = checked(Wrong(), X)
    assert [(r.name, r.verdict) for r in report.rows] == [
        ("inp", "right"),
        ("w", "right"),
        ("b", "wrong"),
    ]
    assert not report


def test_an_error_at_one_cotangent_only_is_wrong() -> None:
    def backward(dout, x):
        return 2 * x * np.where(dout.flat[0] > 0, dout, 1.001 * dout)

    signs = set()
    for seed in range(12):
        drawn = np.random.Generator(np.random.Philox(key=seed)).standard_normal((2, *X.shape))
        positive = tuple(bool(d.flat[0] > 0) for d in drawn)
        signs.add(positive)
        verdict = only(checked(squared, X, backward=backward, seed=seed)).verdict
        assert verdict == ("right" if all(positive) else "wrong"), (seed, positive)
    assert {(True, False), (False, True)} <= signs


@pytest.mark.parametrize("factor", [1.0001, 1 + 1e-6, 0.999])
def test_a_factor_close_to_one_is_wrong(factor: float) -> None:
    row = only(checked(squared, X, backward=lambda dout, x: 2 * factor * x * dout))
    assert row.verdict == "wrong"
    assert row.relative == pytest.approx(abs(factor - 1), rel=1e-6)


# At a kink


def test_relu_at_zero_is_right_with_any_slope_between_the_one_sided_ones() -> None:
    x = np.array([1.0, 0.0, -2.0, 0.5])
    for slope in (0.0, 0.5, 1.0):
        row = only(
            checked(
                lambda x: np.maximum(x, 0),
                x,
                backward=lambda dout, x, slope=slope: dout * np.where(x == 0, slope, x > 0),
            )
        )
        assert row.ok, slope
        assert row.verdict in ("kink", "right")
    # Half of both is the central difference itself, and one of the ends is a kink's.
    for slope in (-0.5, 1.5, 2.0):
        row = only(
            checked(
                lambda x: np.maximum(x, 0),
                x,
                backward=lambda dout, x, slope=slope: dout * np.where(x == 0, slope, x > 0),
            )
        )
        assert (row.verdict, row.index) == ("wrong", (1,)), slope


def test_relu_at_zero_is_called_a_kink_where_the_slopes_differ() -> None:
    def forward(x):
        return np.where(x > 0, x, 0.1 * x)

    row = only(
        checked(
            forward,
            np.array([1.0, 0.0, -2.0]),
            backward=lambda dout, x: dout * np.where(x >= 0, 1, 0.1),
        )
    )
    assert row.ok
    assert row.verdict in ("kink", "right")
    wrong = checked(
        forward,
        np.array([1.0, 0.0, -2.0]),
        backward=lambda dout, x: dout * np.where(x > 0, 1, np.where(x < 0, 0.1, 3)),
    )
    assert only(wrong).verdict == "wrong"


def test_a_kink_does_not_hide_an_error_elsewhere() -> None:
    row = only(
        checked(
            lambda x: np.maximum(x, 0) * x,
            np.array([1.0, 0.0, -2.0, 0.5]),
            backward=lambda dout, x: 2.1 * dout * np.maximum(x, 0),
        )
    )
    assert row.verdict == "wrong"


def test_the_maximum_of_equal_entries_may_give_to_any_of_them() -> None:
    x = np.array([0.3, 2.0, 2.0, -1.0])

    def first(dout, x):
        dx = np.zeros_like(x)
        dx[np.argmax(x)] = dout
        return dx

    def shared(dout, x):
        hit = x == x.max()
        return dout * hit / hit.sum()

    def both(dout, x):
        return dout * (x == x.max()) * 2.0

    assert only(checked(lambda x: x.max(), x, backward=first)).ok
    assert only(checked(lambda x: x.max(), x, backward=shared)).ok
    assert only(checked(lambda x: x.max(), x, backward=both)).verdict == "wrong"


# Float32, and what is right for other reasons


def test_a_backward_in_float32_is_right_to_float32() -> None:
    row = only(
        checked(squared, X, backward=lambda dout, x: 2 * x.astype(np.float32) * dout.astype("f4"))
    )
    assert (row.verdict, row.note, row.ok) == ("noise", "computed in float32", True)
    assert 1e-9 < row.relative < 1e-6


def test_a_forward_in_float32_is_no_fault_of_the_backward() -> None:
    def forward(x):
        return np.exp(x.astype(np.float32))

    row = only(checked(forward, X, backward=lambda dout, x: np.exp(x) * dout))
    assert row.ok, row


def test_a_forward_in_float32_hides_no_large_error() -> None:
    def forward(x):
        return np.exp(x.astype(np.float32))

    assert only(checked(forward, X, backward=lambda d, x: 1.5 * np.exp(x) * d)).verdict == "wrong"
    assert only(checked(forward, X, backward=lambda d, x: -np.exp(x) * d)).verdict == "wrong"


def test_an_error_larger_than_float32_is_not_excused_by_float32() -> None:
    row = only(checked(squared, X, backward=lambda dout, x: (2.001 * x * dout).astype(np.float32)))
    assert row.verdict == "wrong"


def test_what_forward_detaches_is_cut() -> None:
    class Straight(Module):
        """Rounds, with the gradient of the identity."""

        def forward(self, inp):
            return inp * inp + inp.detach() * 3

        def bwd(self, out, inp):
            inp.g = out.g * 2 * inp

    row = only(checked(Straight(), X))
    assert (row.verdict, row.ok) == ("cut", True)
    assert row.note == "forward detaches a path to it, and the backward agrees with that"


def test_a_wrong_backward_of_a_forward_that_detaches_is_wrong() -> None:
    class Wrong(Module):
        def forward(self, inp):
            return inp * inp + inp.detach() * 3

        def bwd(self, out, inp):
            inp.g = out.g * 2.5 * inp

    assert only(checked(Wrong(), X)).verdict == "wrong"


# No gradient, and none that could be right


def test_a_gradient_that_is_not_given_is_missing() -> None:
    class Forgets(Dense):
        def bwd(self, out, inp):
            inp.g = out.g @ self.w.T
            self.w.g = inp.T @ out.g

    row = checked(Forgets(), X)["b"]
    assert (row.verdict, row.value, row.note) == ("missing", 0.0, "backward gives no gradient")
    assert abs(row.expected) == pytest.approx(row.absolute)


def test_none_for_a_gradient_is_missing() -> None:
    report = checked(lambda x, y: x * y, X, X + 1, backward=lambda dout, x, y: (dout * y, None))
    assert [(r.name, r.verdict) for r in report.rows] == [("x", "right"), ("y", "missing")]


def test_none_is_right_for_a_gradient_that_is_zero() -> None:
    report = checked(
        lambda x, y: x * np.floor(y), X, X + 1.5, backward=lambda d, x, y: (d * np.floor(y), None)
    )
    assert report["y"].verdict == "right"
    assert report["y"].note == "none is given; it is 0"

    class Unused(Dense):
        def forward(self, inp):
            return inp @ self.w

        def bwd(self, out, inp):
            inp.g = out.g @ self.w.T
            self.w.g = inp.T @ out.g

    assert checked(Unused(), X)["b"].note == "none is given; it is 0"


def test_zeros_for_a_gradient_that_is_zero_are_right_and_anything_else_is_wrong() -> None:
    def forward(x, y):
        return x * np.floor(y)

    for wrong, verdict in ((0.0, "right"), (1e-3, "wrong")):
        report = checked(
            forward,
            X,
            X + 1.5,
            backward=lambda d, x, y, wrong=wrong: (d * np.floor(y), np.full_like(y, wrong)),
        )
        assert report["y"].verdict == verdict, wrong


def test_a_gradient_of_another_shape_is_told_so() -> None:
    class Wrong(Dense):
        def bwd(self, out, inp):
            inp.g = out.g @ self.w.T
            self.w.g = out.g.T @ inp
            self.b.g = out.g.sum(0)

    row = checked(Wrong(), X)["w"]
    assert (row.verdict, row.note) == ("shape", "the gradient has shape (2, 3), w has (3, 2)")


def test_a_shape_that_would_broadcast_is_a_wrong_shape() -> None:
    row = only(checked(squared, X, backward=lambda dout, x: (2 * x * dout).sum(0)))
    assert (row.verdict, row.note) == ("shape", "the gradient has shape (3,), x has (2, 3)")


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_gradient_that_is_not_finite_is_shown_where_it_is(bad: float) -> None:
    def backward(dout, x):
        dx = 2 * x * dout
        dx[0, 1] = bad
        return dx

    row = only(checked(squared, X, backward=backward))
    assert (row.verdict, row.index) == ("nan", (0, 1))
    assert row.note == f"the gradient is {bad} at [0, 1]"


def test_a_gradient_that_is_not_finite_for_the_second_cotangent_only_is_no_right_one() -> None:
    def backward(dout, x):
        return 2 * x * dout + (np.nan if dout.flat[0] < 0 else 0.0)

    for seed in range(8):
        drawn = np.random.Generator(np.random.Philox(key=seed)).standard_normal((2, *X.shape))
        report = checked(squared, X, backward=backward, seed=seed)
        assert bool(report) == bool((drawn[:, 0, 0] > 0).all()), seed


# Calls that do not repeat


def test_a_backward_that_adds_to_a_buffer_is_not_repeatable() -> None:
    total = np.zeros_like(X)

    def backward(dout, x):
        np.add(total, 2 * x * dout, out=total)
        return total.copy()

    row = only(checked(squared, X, backward=backward))
    assert row.verdict == "nondeterministic"
    assert "two calls of backward on the same values differ by" in row.note
    assert row.absolute > 0


def test_a_module_whose_backward_keeps_adding_is_not_repeatable() -> None:
    class Adds(Dense):
        def __init__(self):
            super().__init__()
            self.total = np.zeros((3, 2))

        def bwd(self, out, inp):
            inp.g = out.g @ self.w.T
            self.total = self.total + (inp.T @ out.g).array
            self.w.g = gu.Tensor.of(self.total)
            self.b.g = out.g.sum(0)

    report = checked(Adds(), X)
    assert report["w"].verdict == "nondeterministic"
    assert report["b"].verdict == "right"


def test_a_backward_with_random_numbers_of_its_own_is_not_repeatable() -> None:
    def backward(dout, x):
        return 2 * x * dout * (1 + 1e-3 * np.random.default_rng().normal(size=x.shape))

    assert only(checked(squared, X, backward=backward)).verdict == "nondeterministic"


def test_random_numbers_of_the_global_streams_repeat() -> None:
    def forward(x):
        keep = np.random.rand(*x.shape) < 0.5  # noqa: NPY002
        return x * keep, keep

    report = checked(forward, X, backward=lambda dout, keep: dout * keep)
    assert report

    class Drops(Module):
        def forward(self, inp):
            return nn.Dropout(0.5)(inp)

    assert checked(Drops(), X)


def test_a_backward_that_keeps_the_first_calls_values_is_wrong_at_the_second_point() -> None:
    kept: list[np.ndarray] = []

    def backward(dout, x):
        if not kept:
            kept.append(x.copy())
        return 2 * kept[0] * dout

    row = only(checked(squared, X, backward=backward))
    assert row.verdict == "wrong"
    assert row.note == "right at the given values, wrong at others checked after them"

    class Stale(Dense):
        def forward(self, inp):
            if not hasattr(self, "kept"):
                self.kept = inp.array.copy()
            return inp @ self.w + self.b

        def bwd(self, out, inp):
            inp.g = out.g @ self.w.T
            self.w.g = Tensor.of(self.kept).T @ out.g
            self.b.g = out.g.sum(0)

    report = checked(Stale(), X)
    assert [r.verdict for r in report.rows] == ["right", "wrong", "right"]
    assert report["w"].note == row.note


# Inputs that are written to


def test_a_forward_that_writes_to_its_input_is_told_so() -> None:
    def forward(x):
        x *= 2
        return x * x

    row = only(checked(forward, X, backward=lambda dout, x: 8 * x * dout))
    assert (row.verdict, row.note) == ("mutated", "forward writes to its input x")


def test_a_backward_that_writes_to_an_input_is_told_so() -> None:
    def backward(dout, x):
        x *= 2
        return x * dout

    row = only(checked(squared, X, backward=backward))
    assert (row.verdict, row.note) == ("mutated", "backward writes to x, an input of forward")


def test_a_backward_that_writes_to_the_gradient_that_arrives_may_do_so() -> None:
    def backward(dout, x):
        dout *= 2 * x
        return dout

    assert checked(squared, X, backward=backward)


# A backward that fails


def test_what_a_backward_raised_is_in_the_note() -> None:
    class Fails(Dense):
        def bwd(self, out, inp):
            raise ValueError("no such axis")

    report = checked(Fails(), X)
    assert [r.verdict for r in report.rows] == ["error"] * 3
    assert all("ValueError: no such axis" in r.note for r in report.rows)
    assert not report

    def backward(dout, x):
        raise KeyError("dout")

    row = only(checked(squared, X, backward=backward))
    assert (row.verdict, row.note) == ("error", "backward raised KeyError: 'dout'")


# What is refused


def test_an_output_that_is_not_finite_is_refused() -> None:
    with pytest.raises(GroundupError, match=r"forward's output is nan at \[1\].*other inputs"):
        gu.check(np.log, np.array([1.0, -1.0]), backward=lambda dout, x: dout / x)
    with pytest.raises(GroundupError, match=r"forward's output is inf at \[0, 1\]"):
        gu.check(lambda x: 1 / x, np.array([[1.0, 0.0]]), backward=lambda dout, x: -dout / x**2)

    class Logs(Module):
        def forward(self, inp):
            return gu.log(inp)

    with pytest.raises(GroundupError, match=r"Logs: forward's output is nan at \[0\]"):
        gu.check(Logs(), np.array([-1.0, 1.0]))


def test_a_forward_that_is_not_the_same_every_time_is_refused() -> None:
    def forward(x):
        return x * np.random.default_rng().normal()

    with pytest.raises(
        GroundupError, match=r"two calls of forward .* differ by .*: fix its random"
    ):
        gu.check(forward, X, backward=lambda dout, x: dout)


def test_an_empty_output_is_refused() -> None:
    with pytest.raises(GroundupError, match=r"forward's output is empty \(\(0, 3\)\)"):
        gu.check(lambda x: x[:0], X, backward=lambda dout, x: np.zeros_like(x))


def test_no_input_of_floating_point_numbers_is_refused() -> None:
    for subject, options in (
        (lambda x: x * 1.0, {"backward": lambda dout, x: dout}),
        (lambda x: x * 1.0, {}),
    ):
        with pytest.raises(GroundupError, match=r"no gradient to check: .*no input of floating"):
            gu.check(subject, np.arange(3), **options)


def test_an_unknown_method_is_refused() -> None:
    with pytest.raises(
        GroundupError, match="method is one of auto, ops, complex, differences, jax, not 'numeric'"
    ):
        gu.check(squared, X, backward=lambda dout, x: 2 * x * dout, method="numeric")


def test_a_wrong_number_of_arguments_is_an_error_that_tells() -> None:
    with pytest.raises(
        GroundupError, match=r"Dense: forward\(inp\) does not go with 2 inputs: too many positional"
    ):
        gu.check(Dense(), X, X)
    with pytest.raises(GroundupError, match=r"does not go with 0 inputs: missing .* 'inp'"):
        gu.check(Dense())
    with pytest.raises(GroundupError, match=r"does not go with 1 inputs: missing .* 'y'"):
        gu.check(lambda x, y: x * y, X)
    with pytest.raises(GroundupError, match=r"backward.* does not go with it"):
        gu.check(lambda x, y: x * y, X, X, backward=lambda dout: (dout, dout, dout))


# What is left as it was


class Counts(Module):
    """Keeps a running mean, as normalisation does, in a Buffer."""

    def __init__(self):
        self.mean = Buffer(np.zeros(4, np.float32))

    def forward(self, inp):
        self.mean.assign(0.9 * self.mean + 0.1 * inp.detach().mean(0))
        return inp * 2


def test_a_module_is_left_as_it_was() -> None:
    model = nn.Sequential(nn.Linear(3, 4), Counts(), nn.Dropout(0.5), nn.Linear(4, 2))
    x = X.copy()
    (model(Tensor(x.astype(np.float32))) ** 2).sum().backward()
    list(model.modules())[1].eval()
    arrays = {n: p.array for n, p in model.named_parameters()}
    copies = {n: a.copy() for n, a in arrays.items()}
    grads = {n: p.g for n, p in model.named_parameters()}
    grad_copies = {n: g.array.copy() for n, g in grads.items()}
    buffers = {n: b.array.copy() for n, b in model.named_buffers()}
    flags = [m.training for m in model.modules()]
    stream, numpy_stream = generator.default.state(), np.random.get_state()[1].copy()  # noqa: NPY002
    python_stream = random.getstate()
    assert gu.check(model, x)
    assert generator.default.state() == stream
    assert np.array_equal(np.random.get_state()[1], numpy_stream)  # noqa: NPY002
    assert random.getstate() == python_stream
    assert np.array_equal(x, X)
    for name, p in model.named_parameters():
        assert p.array is arrays[name]
        assert np.array_equal(p.array, copies[name])
        assert p.dtype == np.float32
        assert p.g is grads[name]
        assert np.array_equal(p.g.array, grad_copies[name])
    assert all(np.array_equal(b.array, buffers[n]) for n, b in model.named_buffers())
    assert [m.training for m in model.modules()] == flags


def test_random_streams_are_left_as_they_were_by_code_that_draws_from_them() -> None:
    def forward(x):
        keep = (np.random.rand(*x.shape) < 0.5) * random.choice([1.0, 2.0])  # noqa: NPY002
        return x * keep, keep

    before = np.random.get_state()[1:3], random.getstate()  # noqa: NPY002
    assert checked(forward, X, backward=lambda dout, keep: dout * keep)
    after = np.random.get_state()[1:3], random.getstate()  # noqa: NPY002
    assert np.array_equal(before[0][0], after[0][0])
    assert (before[0][1], before[1]) == (after[0][1], after[1])


def test_arrays_are_left_as_they_were_by_code_that_writes_to_them() -> None:
    def forward(x):
        x *= 2
        return x

    x = X.copy()
    assert not checked(forward, x, backward=lambda dout, x: 2 * dout)
    assert np.array_equal(x, X)
    t = Tensor(X)
    assert checked(lambda x: x * 2, t)
    assert t.g is None
    assert not t.requires_grad


# What is checked


def test_float32_is_checked_in_float64() -> None:
    seen = set()

    def forward(x):
        seen.add(x.dtype)
        return np.sin(x) * np.exp(x)

    x = X.astype(np.float32)
    row = only(checked(forward, x, backward=lambda d, x: d * np.exp(x) * (np.sin(x) + np.cos(x))))
    assert row.verdict == "right"
    assert row.relative < 1e-12
    assert np.dtype(np.float32) not in seen
    off = only(
        checked(
            forward, x, backward=lambda d, x: d * np.exp(x) * (np.sin(x) + np.cos(x)) * (1 + 1e-7)
        )
    )
    assert off.verdict == "wrong"
    model = nn.Linear(3, 2)
    assert all(r.relative < 1e-12 for r in checked(model, x).rows)


@pytest.mark.parametrize(
    "shape", [(), (1,), (1, 1), (1, 3), (3, 1), (1, 1, 4, 1)], ids=lambda s: f"shape{s}"
)
def test_every_shape_is_checked(shape: tuple[int, ...]) -> None:
    x = np.random.default_rng(2).normal(size=shape)
    right = only(checked(squared, x, backward=lambda dout, x: 2 * x * dout))
    assert (right.verdict, right.shape) == ("right", shape)
    wrong = only(checked(squared, x, backward=lambda dout, x: 3 * x * dout))
    assert wrong.verdict == "wrong"
    assert len(wrong.index) == len(shape)
    assert wrong.relative == pytest.approx(0.5)
    assert only(checked(lambda x: x * x + x, x)).verdict == "right"


def test_a_batch_of_one_is_checked() -> None:
    assert checked(Dense(), X[:1])


def test_an_input_without_entries_is_right() -> None:
    report = checked(
        lambda x, y: x * y.sum(), X, np.zeros((0, 2)), backward=lambda d, x, y: (0 * x, 0 * y)
    )
    assert report["y"].verdict == "right"
    assert report["y"].note == "it has no entries"


def test_integers_and_masks_are_passed_on_and_have_no_row() -> None:
    def forward(table, index, mask):
        return table[index] * mask[:, None]

    def backward(dout, table, index, mask):
        d = np.zeros_like(table)
        np.add.at(d, index, dout * mask[:, None])
        return d, None, None

    index, mask = np.array([1, 1, 0]), np.array([True, True, False])
    report = checked(forward, X, index, mask, backward=backward)
    assert [(r.name, r.verdict) for r in report.rows] == [("table", "right")]
    loss = checked(nn.CrossEntropy(), X, np.array([0, 2]))
    assert [r.verdict for r in loss.rows] == ["right"]


def test_several_outputs_are_checked_together() -> None:
    def forward(x):
        return np.sin(x), x.sum(axis=0)

    def backward(dsine, dtotal, x):
        return dsine * np.cos(x) + dtotal

    assert checked(forward, X, backward=backward)
    assert not checked(forward, X, backward=lambda dsine, dtotal, x: dsine * np.cos(x))
    assert not checked(forward, X, backward=lambda dsine, dtotal, x: dsine * np.cos(x) - dtotal)

    class Two(Module):
        def forward(self, inp):
            return inp * inp, inp.sum(0)

    assert checked(Two(), X)


# Seeds


def test_the_same_seed_gives_the_same_report() -> None:
    class Wrong(Dense):
        def bwd(self, out, inp):
            inp.g = out.g @ self.w.T
            self.w.g = inp.T @ out.g
            self.b.g = out.g.mean(0)

    first, again, other = (gu.check(Wrong(), X, seed=s) for s in (3, 3, 4))
    assert replace(first, seconds=0) == replace(again, seconds=0)
    assert str(first) == str(again)
    assert first["b"].value != other["b"].value
    assert first["b"].verdict == other["b"].verdict == "wrong"


def test_a_seed_decides_on_the_cotangents() -> None:
    def judged(seed: int) -> Judge:
        judge = Judge(subject_for(squared, (X,), lambda dout, x: 2 * x * dout), seed)
        judge.judge()
        return judge

    first, again, other = (judged(s).points[0].cotangents for s in (0, 0, 1))
    assert len(first) == 2
    assert np.array_equal(first, again)
    assert not np.isin(np.ravel(first), np.ravel(other)).any()
    assert len(np.unique(np.ravel(first))) == 2 * X.size


# Methods


METHODS = {"ops": "ops", "complex": "complex step", "differences": "differences"}


@pytest.mark.parametrize("method", METHODS)
def test_each_method_alone_finds_right_and_wrong(method: str) -> None:
    def forward(x, w):
        return np.tanh(x @ w)

    def right(dout, x, w):
        d = dout * (1 - np.tanh(x @ w) ** 2)
        return d @ w.T, x.T @ d

    def wrong(dout, x, w):
        d = dout * (1 - np.tanh(x @ w) ** 2)
        return d @ w.T, 1.001 * x.T @ d

    w = np.random.default_rng(1).normal(size=(3, 4))
    report = checked(forward, X, w, backward=right, method=method)
    assert [r.verdict for r in report.rows] == ["right", "right"]
    assert all(list(r.errors) == [METHODS[method]] for r in report.rows)
    report = checked(forward, X, w, backward=wrong, method=method)
    assert [r.verdict for r in report.rows] == ["right", "wrong"]
    assert report["w"].relative == pytest.approx(1e-3, rel=1e-4)


@pytest.mark.parametrize("method", METHODS)
def test_each_method_alone_checks_a_module(method: str) -> None:
    assert checked(Dense(), X, method=method)

    class Wrong(Dense):
        def bwd(self, out, inp):
            inp.g = out.g @ self.w.T
            self.w.g = inp.T @ out.g
            self.b.g = out.g.mean(0)

    assert [r.verdict for r in checked(Wrong(), X, method=method).rows] == [
        "right", "right", "wrong",
    ]  # fmt: skip


def test_differences_are_used_where_nothing_else_goes() -> None:
    def forward(x):
        return np.array([float(str(v)) ** 3 for v in x])

    row = only(checked(forward, X[0], backward=lambda dout, x: 3 * x**2 * dout))
    assert (row.verdict, list(row.errors)) == ("right", ["differences"])


def test_every_fine_verdict_is_fine_and_every_other_is_not() -> None:
    fine = {"right", "kink", "noise", "cut", "unsure"}
    assert set(FINE) == fine
    for verdict in ("wrong", "shape", "missing", "nan", "nondeterministic", "mutated", "error"):
        assert not Row("x", (), verdict).ok


def test_a_gradient_that_is_no_numbers_is_an_error() -> None:
    row = only(checked(squared, X, backward=lambda dout, x: np.array([["a"] * 3] * 2)))
    assert row.verdict == "error"
    assert "the gradient of x: <U1 is no array of numbers" in row.note


def test_a_pair_says_so_when_it_gets_too_many_or_too_few_inputs():
    x = np.ones(3)
    for inputs in ((x, x), ()):
        with pytest.raises(GroundupError, match=rf"\(x\) does not go with {len(inputs)} in"):
            gu.check(lambda x: x * x, *inputs, backward=lambda dout, x: 2 * x * dout)


class Layer(nn.Module):
    """The norm of softmax(gelu(inp @ w + b))."""

    def __init__(self):
        rng = np.random.default_rng(1)
        self.w, self.b = Parameter(rng.normal(size=(4, 3))), Parameter(rng.normal(size=3))

    def forward(self, inp):
        out = nn.Gelu()(inp @ self.w + self.b).softmax(1)
        return (out * out).sum(1) ** 0.5


def test_jax_is_another_judge_of_the_same_weights() -> None:
    pytest.importorskip("jax")
    x = np.random.default_rng(0).normal(size=(5, 4))
    report = gu.check(Layer(), x, method="jax")
    assert report
    assert {m for row in report.rows for m in row.errors} == {"jax"}
    several = gu.check(Layer(), x, method=("jax", "differences"))
    assert several
    assert {m for row in several.rows for m in row.errors} == {"jax", "differences"}
    for method in ("jax", ("jax", "complex")):
        wrong = gu.check(
            lambda v: 2 * (v * v), x, backward=lambda dout, v: 2 * v * dout, method=method
        )
        assert not wrong
        assert wrong.findings[0].kind == "factor"


def test_methods_are_named_in_the_error() -> None:
    for method in ("magic", (), ("ops", "magic")):
        with pytest.raises(GroundupError, match="method is one of auto, ops, complex, differ"):
            gu.check(Layer(), np.ones((2, 4)), method=method)


@pytest.mark.parametrize("seed", range(6))
def test_differences_of_a_float32_forward_judge_by_what_it_can_show(seed: int) -> None:
    def forward(x, w1, b1, w2):
        x, w1, b1, w2 = (a.astype(np.float32) for a in (x, w1, b1, w2))
        return np.tanh(x @ w1 + b1) @ w2

    def backward(dout, x, w1, b1, w2):
        h = np.tanh(x @ w1 + b1)
        dh = (dout @ w2.T) * (1 - h * h)
        return dh @ w1.T, x.T @ dh, dh.sum(0), h.T @ dout

    rng = np.random.default_rng(seed)
    inputs = [rng.normal(size=s) for s in ((5, 4), (4, 6), 6, (6, 3))]
    assert gu.check(forward, *inputs, backward=backward, method="differences")
    off = gu.check(
        forward,
        *inputs,
        backward=lambda dout, *given: tuple(1.05 * g for g in backward(dout, *given)),
        method="differences",
        diagnose=False,
    )
    assert [row.verdict for row in off.rows] == ["wrong"] * 4
