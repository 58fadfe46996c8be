"""Layers against torch and against their own ops: value, gradients, second derivatives."""

from __future__ import annotations

import copy
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from oracle import F32, F64, compare_gradients, normal, rng, same

import groundup as gu
from groundup import Tensor, nn
from groundup.errors import DtypeError, GroundupError, ShapeError
from groundup.nn import Module, Parameter


def check_layer(
    make: Callable[[], Module], theirs: Callable[..., Any], *arrays: np.ndarray, second: bool = True
) -> None:
    """A layer of (x, ...) against torch's function of (x, ..., parameters); without bwd, too."""
    for dtype in (F64, F32):
        for own_rules in (True, False):
            module = make().to(dtype)
            given = [a.astype(dtype) if a.dtype.kind == "f" else a for a in arrays]
            xs = [Tensor(a, requires_grad=a.dtype.kind == "f") for a in given]
            ts = [torch.tensor(a, requires_grad=a.dtype.kind == "f") for a in given]
            params = list(module.parameters())
            tparams = [torch.tensor(p.data, requires_grad=True) for p in params]
            with nullcontext() if own_rules else gu.autograd_only():
                out, tout = module(*xs), theirs(*ts, *tparams)
                same(out, tout)
                if out.size and out.requires_grad:
                    deep = second and dtype is F64
                    compare_gradients(
                        out, tout, xs + params, ts + tparams, second=deep, random=rng(5)
                    )


KINKS = np.array([[0.0, -0.0, 1e-30, -1e-30], [1.0, -1.0, 3.0, -3.0]])


def linear(x: Any, w: Any, b: Any = None) -> Any:
    return x @ w if b is None else x @ w + b


@pytest.mark.parametrize(
    "shape", [(4, 3), (3,), (2, 4, 3), (2, 1, 2, 3), (1, 3), (0, 3), (2, 0, 3)]
)
@pytest.mark.parametrize("bias", [True, False])
def test_linear(shape: tuple[int, ...], bias: bool) -> None:
    def make() -> Module:
        module = nn.Linear(3, 2, bias=bias)
        if bias:
            module.b.assign(normal(2, seed=9))
        return module

    check_layer(make, linear, normal(*shape))


@pytest.mark.parametrize("b", [None, (2,), (1,), (1, 2)])
@pytest.mark.parametrize("shape", [(4, 3), (3,), (2, 4, 3)])
def test_lin(b: tuple[int, ...] | None, shape: tuple[int, ...]) -> None:
    def make() -> Module:
        return nn.Lin(normal(3, 2, seed=1), None if b is None else normal(*b, seed=2))

    check_layer(make, linear, normal(*shape))


ACTIVATIONS: dict[str, tuple[Callable[[], Module], Callable[[Any], Any]]] = {
    "Relu": (nn.Relu, F.relu),
    "LeakyRelu": (nn.LeakyRelu, F.leaky_relu),
    "LeakyRelu 0.2": (lambda: nn.LeakyRelu(0.2), lambda x: F.leaky_relu(x, 0.2)),
    "Tanh": (nn.Tanh, torch.tanh),
    "Sigmoid": (nn.Sigmoid, torch.sigmoid),
    "Gelu": (nn.Gelu, F.gelu),
    "Gelu tanh": (lambda: nn.Gelu("tanh"), lambda x: F.gelu(x, approximate="tanh")),
}


@pytest.mark.parametrize("name", ACTIVATIONS)
@pytest.mark.parametrize(
    "x",
    [normal(3, 4), normal(5), normal(2, 3, 4), np.array(0.3), np.zeros((0, 3)), KINKS, 30 * KINKS],
    ids=["matrix", "vector", "three axes", "number", "nothing", "kinks", "far out"],
)
def test_activation(name: str, x: np.ndarray) -> None:
    check_layer(*ACTIVATIONS[name], x)


@pytest.mark.parametrize("shape", [(3, 4), (2, 3, 4), (2, 1, 3, 2), (0, 3, 2), (1, 4)])
def test_flatten(shape: tuple[int, ...]) -> None:
    check_layer(nn.Flatten, lambda x: x.reshape(len(x), int(np.prod(shape[1:]))), normal(*shape))


def test_flatten_of_a_vector_is_a_column() -> None:
    check_layer(nn.Flatten, lambda x: x[:, None], normal(4))


def test_mask() -> None:
    keep = normal(3, 4, seed=1) > 0
    check_layer(
        lambda: nn.Mask(1.25), lambda x, k: torch.where(k, 1.25 * x, 0.0), normal(3, 4), keep
    )


def test_sequential() -> None:
    def make() -> Module:
        gu.manual_seed(3)
        return nn.Sequential(
            nn.Linear(3, 5), nn.Tanh(), lambda x: x * 2, nn.Linear(5, 2), nn.Gelu()
        )

    def theirs(x: Any, w: Any, b: Any, v: Any, c: Any) -> Any:
        return F.gelu(2 * (x @ w + b).tanh() @ v + c)

    check_layer(make, theirs, normal(4, 3))


def test_one_layer_in_two_places() -> None:
    def make() -> Module:
        gu.manual_seed(3)
        shared = nn.Linear(3, 3)
        return nn.Sequential(shared, nn.Tanh(), shared)

    check_layer(make, lambda x, w, b: (x @ w + b).tanh() @ w + b, normal(4, 3))


class TestLinear:
    def test_initial_weights(self) -> None:
        layer = nn.Linear(400, 300)
        assert (layer.w.shape, layer.b.shape) == ((400, 300), (300,))
        assert (layer.w.dtype, layer.b.dtype) == (F32, F32)
        assert layer.w.data.std() == pytest.approx((2 / 400) ** 0.5, rel=0.02)
        assert not layer.b.data.any()

    def test_initial_and_generator(self) -> None:
        a, b = (nn.Linear(3, 2, generator=gu.Generator(5)).w.tolist() for _ in range(2))
        assert a == b
        other = nn.Linear(3, 2, initial=nn.init.xavier_uniform, generator=gu.Generator(5))
        expected = nn.init.xavier_uniform(3, 2, generator=gu.Generator(5))
        np.testing.assert_array_equal(other.w.data, expected)

    def test_refusals(self) -> None:
        layer = nn.Linear(6, 2)
        with pytest.raises(
            ShapeError,
            match=r"Linear\(6, 2\): the input's last length must be 6; its shape is \(4, 5\)$",
        ):
            layer(np.zeros((4, 5), F32))
        with pytest.raises(
            ShapeError, match=r"its shape is \(4, 2, 3\); is a Flatten\(\) missing before it\?"
        ):
            layer(np.zeros((4, 2, 3), F32))
        with pytest.raises(ShapeError, match=r"its shape is \(\)"):
            layer(np.float32(1) * Tensor(1.0))
        with pytest.raises(
            DtypeError,
            match=r"input is float64, the weights are float32; convert one: x\.cast\(np\.float32\)",
        ):
            layer(Tensor(np.zeros((4, 6))))
        with pytest.raises(DtypeError, match="the input is int64"):
            layer(np.zeros((4, 6), np.int64))
        with pytest.raises(ShapeError, match=r"Linear\(0, 2\): both lengths are at least 1"):
            nn.Linear(0, 2)

    def test_numpy_input_of_float64_becomes_float32(self) -> None:
        out = nn.Linear(3, 2)(np.ones((4, 3)))
        assert out.dtype == F32
        assert nn.Linear(3, 2).double()(np.ones((4, 3), F32)).dtype == F64


class TestLin:
    def test_arrays_become_parameters_that_share_memory(self) -> None:
        w, b = normal(3, 2), normal(2)
        layer = nn.Lin(w, b)
        assert isinstance(layer.w, Parameter)
        assert layer.w.data is w
        assert layer.b.data is b
        assert [n for n, _ in layer.named_parameters()] == ["w", "b"]

    def test_leaves_become_the_parameters_themselves(self) -> None:
        w, b = Tensor(normal(3, 2)), Tensor(normal(2))
        layer = nn.Lin(w, b)
        assert layer.w is w
        assert isinstance(w, Parameter)
        layer(Tensor(normal(4, 3))).sum().backward()
        assert w.g.shape == (3, 2)
        assert b.g.tolist() == [4.0, 4.0]

    def test_computed_tensors_stay_what_they_are(self) -> None:
        z = Tensor(normal(3, 2), requires_grad=True)
        layer = nn.Lin(z * 2)
        assert list(layer.parameters()) == []
        layer(Tensor(np.ones((1, 3)))).sum().backward()
        assert z.g.tolist() == [[2.0, 2.0]] * 3

    def test_frozen_parameters_stay_frozen(self) -> None:
        w = Parameter(normal(3, 2), requires_grad=False)
        assert not nn.Lin(w).w.requires_grad

    def test_refusals(self) -> None:
        with pytest.raises(
            ShapeError, match=r"Lin: w is a matrix \(n_in, n_out\); its shape is \(3,\)"
        ):
            nn.Lin(normal(3))
        with pytest.raises(
            ShapeError, match=r"Lin: w has shape \(3, 2\), so b has \(2,\), not \(3,\)"
        ):
            nn.Lin(normal(3, 2), normal(3))
        with pytest.raises(ShapeError, match=r"Lin\(3, 2\): the input's last length must be 3"):
            nn.Lin(normal(3, 2))(normal(4, 2))


def test_gelu_refuses_other_approximations() -> None:
    with pytest.raises(GroundupError, match='Gelu: approximate is "none" or "tanh", not \'erf\''):
        nn.Gelu("erf")


class TestDropout:
    def test_statistics(self) -> None:
        x = np.ones((500, 400), F32)
        out = nn.Dropout(0.3)(x).data
        kept = out != 0
        assert kept.mean() == pytest.approx(0.7, abs=0.005)
        np.testing.assert_allclose(out[kept], 1 / 0.7, rtol=1e-6)
        assert np.corrcoef(kept[:, 0], kept[:, 1])[0, 1] == pytest.approx(0, abs=0.2)

    def test_gradient_goes_through_the_same_mask(self) -> None:
        x = Tensor(normal(20, 30), requires_grad=True)
        out = nn.Dropout(0.4)(x)
        c = normal(20, 30, seed=1)
        out.backward(c)
        same(x.g, np.where(out.data != 0, c / 0.6, 0.0))
        with gu.autograd_only():
            gu.manual_seed(0)
            again = nn.Dropout(0.4)(x)
            again.backward(c)
        same(x.g, np.where(out.data != 0, c / 0.6, 0.0))

    def test_used_twice_draws_twice(self) -> None:
        layer, x = nn.Dropout(0.5), Tensor(np.ones((10, 20)), requires_grad=True)
        a, b = layer(x), layer(x)
        assert (a.data != b.data).any()
        (a + b).sum().backward()
        same(x.g, a.data + b.data)

    def test_reproducible(self) -> None:
        x = np.ones((10, 20), F32)
        first = nn.Dropout(0.5)(x).tolist()
        gu.manual_seed(0)
        assert nn.Dropout(0.5)(x).tolist() == first
        own = [nn.Dropout(0.5, generator=gu.Generator(3))(x).tolist() for _ in range(2)]
        assert own[0] == own[1]

    def test_a_copy_draws_from_the_default_generator_too(self) -> None:
        layer, x = nn.Dropout(0.5), np.ones((10, 20), F32)
        first = layer(x).tolist()
        gu.manual_seed(0)
        assert copy.deepcopy(layer)(x).tolist() == first
        assert layer(x).tolist() != first

    def test_evaluation_and_p_of_zero_change_nothing(self) -> None:
        x = Tensor(normal(3, 4))
        assert nn.Dropout(0.5).eval()(x) is x
        assert nn.Dropout(0.0)(x) is x

    def test_float64(self) -> None:
        assert nn.Dropout(0.5)(Tensor(normal(3, 4))).dtype == F64

    @pytest.mark.parametrize("p", [-0.1, 1.0, 1.5, float("nan")])
    def test_p_is_a_probability_below_one(self, p: float) -> None:
        with pytest.raises(
            GroundupError, match=f"Dropout: p is a probability with 0 <= p < 1, not {p}"
        ):
            nn.Dropout(p)


class TestSequential:
    def test_of_a_list(self) -> None:
        layers = [nn.Linear(2, 3), nn.Relu()]
        model = nn.Sequential(layers)
        assert len(model) == 2
        assert list(model) == layers
        assert model[0] is layers[0]
        assert model[-1] is layers[1]
        part = model[:1]
        assert isinstance(part, nn.Sequential)
        assert part[0] is layers[0]

    def test_empty_is_the_identity(self) -> None:
        x = Tensor([1.0])
        assert nn.Sequential()(x) is x

    def test_refuses_what_is_no_layer(self) -> None:
        with pytest.raises(GroundupError, match="Sequential: layer 1 is no module or function: 3"):
            nn.Sequential(nn.Relu(), 3)
        with pytest.raises(GroundupError, match=r"layer 0 is no module or function: <class .*Relu"):
            nn.Sequential(nn.Relu)
