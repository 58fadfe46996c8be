"""The table: counts that can be checked by hand."""

from __future__ import annotations

import pytest
from explain_models import cases, normal

from groundup import nn
from groundup.explain import explain
from groundup.explain.summary import size, table

CASES = cases()


def test_a_linear_layer_by_hand():
    rows = explain(
        nn.Sequential(nn.Linear(12, 7), nn.Relu()), normal(16, 12), normal(16, 7)
    ).summary
    linear, relu, mse = rows
    assert (linear.path, linear.kind, linear.shape) == ("layers[0]", "Linear", (16, 7))
    assert linear.parameters == 12 * 7 + 7
    assert linear.flops_forward == 2 * 16 * 12 * 7 + 16 * 7
    # x.T @ dout, and the bias's sum; x itself needs no gradient.
    assert linear.flops_backward == 2 * 16 * 12 * 7 + 16 * 7
    assert linear.activation_bytes == 16 * 7 * 4  # not the product before the bias
    assert (relu.parameters, relu.flops_forward, relu.flops_backward) == (0, 112, 2 * 112)
    assert (mse.path, mse.kind, mse.shape) == ("", "Mse", ())


@pytest.mark.parametrize("name", CASES)
def test_all_parameters_and_all_work_are_counted_once(name):
    model, x, y = CASES[name]
    made = explain(model, x, y)
    assert sum(r.parameters for r in made.summary) == sum(p.size for p in model.parameters())
    from groundup.explain.summary import flops

    for phase, column in (("forward", "flops_forward"), ("backward", "flops_backward")):
        own = [e for e in made.program.equations if e.phase == phase]
        assert sum(getattr(r, column) for r in made.summary) == flops(made.program, own)


def test_a_shared_layer_has_two_rows_and_is_counted_once():
    model, x, y = CASES["shared"]
    rows = [r for r in explain(model, x, y).summary if r.path == "fc"]
    assert [r.parameters for r in rows] == [42, 0]
    assert rows[0].flops_forward == rows[1].flops_forward == 2 * 16 * 6 * 6 + 16 * 6


def test_a_layer_with_its_own_rule_counts_what_is_inside():
    model, x, y = CASES["own rule"]
    rows = explain(model, x, y).summary
    assert [r.kind for r in rows] == ["Feed", "Tanh", "Mse"]
    assert rows[0].parameters == 2 * (36 + 6)


def test_it_is_printed_in_columns():
    model, x, y = CASES["mlp"]
    head, *lines, total = table(explain(model, x, y).summary)
    assert head.split() == ["layer", "output", "parameters", "flops", "fwd", "flops", "bwd",
                            "activations"]  # fmt: skip
    assert lines[0].split()[:2] == ["layers[0]", "Linear"]
    assert total.split()[:2] == ["total", "115"]
    assert [size(n) for n in (0, 999, 12_345, 7_000_000, 10**13)] == [
        "0 B", "999 B", "12.3 kB", "7 MB", "1e+04 GB"
    ]  # fmt: skip
