"""Module: what it finds, saves, converts, copies, prints; how it is called."""

from __future__ import annotations

import copy
import pickle
from collections import OrderedDict, namedtuple
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from oracle import F32, F64

from groundup import Tensor, nn
from groundup.errors import GradientError, StateError
from groundup.nn import Buffer, Module, Parameter

Pair = namedtuple("Pair", ["left", "right"])


def param(*values: float) -> Parameter:
    return Parameter(np.array(values or (1.0,), F32))


class Block(Module):
    def __init__(self) -> None:
        self.w = param(1, 2)
        self.mean = Buffer(np.zeros(2, F32))

    def forward(self, inp: Tensor) -> Any:
        return inp * self.w + self.mean


class Everything(Module):
    """Parameters in every place in which they are found, and in some in which they are not."""

    def __init__(self) -> None:
        self.w = param()
        self._private = param()
        self.block = Block()
        self.listed = [param(), [param(), Block()]]
        self.tupled = (Block(), param())
        self.named = {"a": param(), "deep": {"b": [Block()]}, 3: param()}
        self.pair = Pair(param(), 5)
        self.ordered = OrderedDict(x=param())
        self.tensor = Tensor(np.zeros(2))
        self.array = np.zeros(2)
        self.text = "text"
        self.nothing = None
        self.function = param
        self.hidden = {1, 2}


NAMES = [
    "w", "_private", "block.w", "block.mean", "listed.0", "listed.1.0", "listed.1.1.w",
    "listed.1.1.mean", "tupled.0.w", "tupled.0.mean", "tupled.1", "named.a", "named.deep.b.0.w",
    "named.deep.b.0.mean", "named.3", "pair.0", "ordered.x",
]  # fmt: skip


class TestMembers:
    def test_names(self) -> None:
        model = Everything()
        assert list(model.state_dict()) == NAMES
        parameters = [n for n in NAMES if "mean" not in n]
        assert [n for n, _ in model.named_parameters()] == parameters
        assert [n for n, _ in model.named_buffers()] == [n for n in NAMES if "mean" in n]
        assert [id(p) for p in model.parameters()] == [id(p) for _, p in model.named_parameters()]
        assert "tensor" in dict(model.named_members())

    def test_modules(self) -> None:
        model = Everything()
        names = ["", "block", "listed.1.1", "tupled.0", "named.deep.b.0"]
        assert [n for n, _ in model.named_modules()] == names
        assert [m for _, m in model.named_modules()] == list(model.modules())
        assert next(model.modules()) is model

    def test_what_is_shared_is_named_once(self) -> None:
        model = Module()
        model.a = Block()
        model.b = model.a
        model.c = [model.a.w, model.a]
        assert [n for n, _ in model.named_parameters()] == ["a.w"]
        assert [n for n, _ in model.named_modules()] == ["", "a"]
        assert list(model.state_dict()) == ["a.w", "a.mean"]

    def test_cycles(self) -> None:
        model, child = Module(), Block()
        model.child, child.parent = child, model
        model.loop = [model]
        model.loop.append(model.loop)
        assert [n for n, _ in model.named_parameters()] == ["child.w"]

    def test_assigned_later_and_removed(self) -> None:
        model = Module()
        model.w = param()
        assert len(list(model.parameters())) == 1
        model.w = None
        assert list(model.parameters()) == []

    def test_no_init_is_needed(self) -> None:
        assert list(Module().parameters()) == []
        assert Module().training


class TestState:
    def test_round_trip(self) -> None:
        a, b = Everything(), Everything()
        for p in a.parameters():
            p.assign(np.random.Generator(np.random.Philox(1)).standard_normal(p.shape))
        a.block.mean.assign([3.0, 4.0])
        saved = a.state_dict()
        arrays = [p.data for p in b.parameters()]
        assert b.load_state_dict(saved) is b
        for name, value in b.state_dict().items():
            np.testing.assert_array_equal(value, saved[name])
        assert all(p.data is array for p, array in zip(b.parameters(), arrays, strict=True))

    def test_state_is_a_copy(self) -> None:
        model = Block()
        saved = model.state_dict()
        saved["w"][:] = 9
        assert model.w.tolist() == [1, 2]

    def test_values_of_any_kind(self) -> None:
        model = Block()
        model.load_state_dict({"w": [5.0, 6.0], "mean": Tensor([1.0, 1.0])})
        assert model.w.tolist() == [5, 6]
        model.load_state_dict({"w": np.array([7, 8]), "mean": np.zeros(2, F64)})
        assert model.w.tolist() == [7, 8]
        assert (model.w.dtype, model.mean.dtype) == (F32, F32)

    def test_what_does_not_fit(self) -> None:
        model = nn.Sequential(nn.Linear(2, 3), nn.Relu(), nn.Linear(3, 1))
        before = model.state_dict()
        wrong = {
            "layers.0.w": np.zeros((3, 2), F32),
            "layers.0.b": np.ones(3, complex),
            "layers.2.b": np.full(1, 7.0, F32),
            "head.w": np.zeros(1),
        }
        with pytest.raises(StateError) as caught:
            model.load_state_dict(wrong)
        assert str(caught.value) == (
            "this state does not fit Sequential:\n"
            "  missing: layers.2.w\n"
            "  extra: head.w\n"
            "  layers.0.w has shape (3, 2), the model's (2, 3)\n"
            "  layers.0.b is complex128, the model's float32\n"
            "Is it from another model, or one of another size?"
        )
        for name, value in model.state_dict().items():
            np.testing.assert_array_equal(value, before[name])

    def test_not_strict(self) -> None:
        model = Block()
        model.load_state_dict({"w": [5.0, 6.0], "other": [1.0]}, strict=False)
        assert model.w.tolist() == [5, 6]
        with pytest.raises(StateError, match="w has shape"):
            model.load_state_dict({"w": [5.0]}, strict=False)

    def test_loading_counts_as_writing(self) -> None:
        model = Block()
        loss = model(np.ones(2, F32)).sum()
        model.load_state_dict(model.state_dict())
        with pytest.raises(GradientError, match="was written to"):
            loss.backward()


class TestModes:
    def test_train_and_eval(self) -> None:
        model = nn.Sequential(nn.Dropout(0.5), nn.Sequential(nn.Dropout(0.5)))
        assert model.eval() is model
        assert not any(m.training for m in model.modules())
        model.train()
        assert all(m.training for m in model.modules())
        model[1].eval()
        assert (model[0].training, model[1].training, model[1][0].training) == (True, False, False)

    def test_freezing(self) -> None:
        model = Everything()
        assert model.requires_grad_(False) is model
        assert not any(p.requires_grad for p in model.parameters())
        assert model.block(np.ones(2)).is_leaf
        model.requires_grad_()
        assert all(p.requires_grad for p in model.parameters())

    def test_to(self) -> None:
        model = Everything()
        model.count = Buffer(np.array(3))
        w = model.w
        w.g = np.ones(1)
        assert model.double() is model
        assert model.w is w
        assert {v.dtype for v in model.state_dict().values()} == {np.dtype(F64), np.dtype(int)}
        assert w.g is None
        assert model.block(np.ones(2, F32)).dtype == F64
        assert model.float().block(np.ones(2)).dtype == F32
        assert model.to(np.float16).w.dtype == np.float16


class TestCalling:
    def test_float64_arrays_become_the_parameters_dtype(self) -> None:
        seen = []

        class Spy(Block):
            def forward(self, inp: Any, *others: Any, **named: Any) -> Any:
                seen.append([v.dtype for v in (inp, *others, *named.values())])
                return inp

        Spy()(np.ones(2), np.ones(2), k=np.ones(2), n=np.arange(2), m=np.ones(2, bool))
        Spy().double()(np.ones(2, F32))
        assert seen == [[F32, F32, F32, np.int64, np.bool_], [F64]]

    def test_without_parameters_arrays_follow_the_tensors(self) -> None:
        class Add(Module):
            def forward(self, a: Tensor, b: Tensor, c: Any = None) -> Any:
                return a + b

        assert Add()(np.ones(2), Tensor([1.0, 2.0])).dtype == F32
        assert Add()(Tensor([1.0, 2.0]), b=np.ones(2)).dtype == F32
        assert Add()(np.ones(2), np.ones(2)).dtype == F64

    def test_tensors_stay_as_they_are(self) -> None:
        x = Tensor(np.ones(2))
        assert Block()(x).dtype == F64

    def test_forward_is_missing(self) -> None:
        with pytest.raises(NotImplementedError, match="Module has no forward: write one"):
            Module()(1)

    def test_hooks(self) -> None:
        model, seen = Block(), []
        remove = model.register_forward_hook(lambda m, args, out: seen.append((m, args, out)))
        also = model.register_forward_hook(lambda m, args, out: seen.append("second"))
        out = model(np.ones(2, F32))
        assert seen[0][0] is model
        assert isinstance(seen[0][1][0], Tensor)
        assert seen[0][2] is out
        assert seen[1:] == ["second"]
        remove()
        also()
        model(np.ones(2, F32))
        assert len(seen) == 2

    def test_an_output_that_a_hook_keeps_has_its_gradient(self) -> None:
        model, kept = nn.Sequential(nn.Linear(2, 3), nn.Relu(), nn.Linear(3, 1)), []
        for layer in model:
            layer.register_forward_hook(lambda m, args, out: kept.append(out))
        out = model(np.ones((4, 2), F32))
        out.sum().backward()
        assert kept[2] is out
        assert kept[2].g.tolist() == [[1.0]] * 4
        np.testing.assert_allclose(kept[1].g.data, np.ones((4, 1)) @ model[2].w.data.T)
        np.testing.assert_allclose(kept[0].g.data, kept[1].g.data * (kept[0].data > 0))


COPIES: list[Callable[[Any], Any]] = [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))]


@pytest.mark.parametrize("copied", COPIES, ids=["deepcopy", "pickle"])
class TestCopies:
    def test_are_equal_and_independent(self, copied: Callable[[Any], Any]) -> None:
        model = nn.Sequential(nn.Linear(2, 3), nn.Dropout(0.1), nn.Gelu("tanh"), nn.Linear(3, 1))
        model.eval()
        x = np.ones((4, 2), F32)
        model(x).sum().backward()
        other = copied(model)
        np.testing.assert_array_equal(other(x).data, model(x).data)
        assert not other[1].training
        assert other[2].approximate == "tanh"
        for p, q in zip(model.parameters(), other.parameters(), strict=True):
            assert type(q) is Parameter
            assert not np.shares_memory(p.data, q.data)
            np.testing.assert_array_equal(p.g.data, q.g.data)
        other[0].w.assign(np.zeros((2, 3)))
        assert model[0].w.data.any()
        other(x).sum().backward()
        assert other[0].w.g is not None

    def test_what_is_shared_stays_shared(self, copied: Callable[[Any], Any]) -> None:
        layer = nn.Linear(2, 2)
        other = copied(nn.Sequential(layer, nn.Relu(), layer))
        assert other[0] is other[2]
        assert len(list(other.parameters())) == 2


REPRS: list[tuple[Module, str]] = [
    (nn.Linear(784, 50), "Linear(784, 50)  # 39,250 parameters"),
    (nn.Linear(2, 3, bias=False), "Linear(2, 3, bias=False)  # 6 parameters"),
    (nn.Lin(np.zeros((2, 3), F32)), "Lin(2, 3, bias=False)  # 6 parameters"),
    (nn.Relu(), "Relu()"),
    (nn.LeakyRelu(0.2), "LeakyRelu(0.2)"),
    (nn.Gelu(), "Gelu()"),
    (nn.Gelu("tanh"), "Gelu('tanh')"),
    (nn.Sequential(), "Sequential()"),
    (
        nn.Sequential(nn.Linear(784, 50), nn.Relu(), nn.Sequential(nn.Linear(50, 10, bias=False))),
        "Sequential(  # 39,750 parameters\n"
        "  layers.0: Linear(784, 50)  # 39,250 parameters\n"
        "  layers.1: Relu()\n"
        "  layers.2: Sequential(  # 500 parameters\n"
        "    layers.0: Linear(50, 10, bias=False)  # 500 parameters\n"
        "  )\n"
        ")",
    ),
]


@pytest.mark.parametrize(("model", "text"), REPRS, ids=[t.split("\n")[0] for _, t in REPRS])
def test_repr(model: Module, text: str) -> None:
    assert repr(model) == text
