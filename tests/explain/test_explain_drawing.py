"""The picture: what must be on it, where it may be, and that nothing covers anything."""

from __future__ import annotations

import re
from xml.etree import ElementTree

import numpy as np
import pytest
from explain_models import Deep, Feed, cases, normal

from groundup import nn
from groundup.explain import explain
from groundup.explain.folding import folded
from groundup.explain.graph import graph

SVG = "{http://www.w3.org/2000/svg}"
CASES = cases()


def texts(svg: str) -> list[str]:
    return [t.text or "" for t in ElementTree.fromstring(svg).iter(f"{SVG}text")]


def boxes(svg: str) -> list[tuple[str, float, float, float, float]]:
    """Each text with left, right, top and bottom, in a font of 0.602 em."""
    found = []
    for t in ElementTree.fromstring(svg).iter(f"{SVG}text"):
        kind = t.get("class") or ""
        size = 13 if "head" in kind else 12 if "title" in kind else 10 if "small" in kind else 11
        width = 0.602 * size * len(t.text or "")
        shift = {"start": 0.0, "middle": 0.5, "end": 1.0}[t.get("text-anchor", "start")]
        left, y = float(t.get("x", 0)) - shift * width, float(t.get("y", 0))
        found.append((t.text or "", left, left + width, y - 0.75 * size, y + 0.2 * size))
    return found


@pytest.mark.parametrize("name", CASES)
def test_no_text_covers_another_or_is_cut_off(name):
    model, x, y = CASES[name]
    svg = explain(model, x, y).svg
    root = ElementTree.fromstring(svg)
    width, height = (float(v) for v in root.get("viewBox", "").split()[2:])
    found = boxes(svg)
    assert len(found) > 4
    for text, left, right, top, bottom in found:
        assert left >= 0, text
        assert right <= width, text
        assert top >= 0, text
        assert bottom <= height, text
    for i, (text, left, right, top, bottom) in enumerate(found):
        for other, left2, right2, top2, bottom2 in found[i + 1 :]:
            apart = right <= left2 or right2 <= left or bottom <= top2 or bottom2 <= top
            assert apart, f"{text!r} and {other!r} overlap"


@pytest.mark.parametrize("name", CASES)
def test_titles_and_lines_stay_in_their_boxes(name):
    model, x, y = CASES[name]
    svg = explain(model, x, y).svg
    rects = [
        [float(r.get(k, 0)) for k in ("x", "y", "width", "height")]
        for r in ElementTree.fromstring(svg).iter(f"{SVG}rect")
        if r.get("class") in ("forward", "backward", "argument", "value")
    ]
    for text, left, right, top, bottom in boxes(svg):
        for x0, y0, width, height in rects:
            inside = x0 <= left and right <= x0 + width and y0 <= top and bottom <= y0 + height
            outside = right <= x0 or left >= x0 + width or bottom <= y0 or top >= y0 + height
            assert inside or outside, f"{text!r} crosses the edge of a box"


def test_every_layer_shape_and_gradient_is_there():
    model, x, y = CASES["mlp"]
    shown = texts(explain(model, x, y).svg)
    for label in ("layers[0] Linear", "layers[1] Relu", "layers[2].mask Mask", "CrossEntropy"):
        assert label in shown
        assert f"bwd of {label}" in shown
    for value in ("x (n, 12)", "h1 (n, 7)", "out (n, 3)", "w1 (12, 7)", "b2 (3,)", "y (n,)"):
        assert value in shown
    assert "dw1 = x.T @ dh1" in shown
    assert "h1 = x @ w1 + b1" in shown
    assert any(t.startswith("dw1 (12, 7)  ‖") for t in shown)
    assert any(t.startswith("dout (n, 3)  ‖") for t in shown)


def test_the_norms_are_those_of_the_eager_gradients():
    model, x, y = CASES["two"]
    shown = texts(explain(model, x, y).svg)
    nn.Mse()(model(*x), y).backward()
    for i, layer in enumerate((model.left, model.right, model.out), 1):
        for kind in "wb":
            true = float(np.linalg.norm(getattr(layer, kind).g.data))
            (text,) = [t for t in shown if t.startswith(f"d{kind}{i} (")]
            assert text.endswith(f"‖ {true:.3g} ‖")


def test_a_skip_goes_around_and_a_shared_layer_is_drawn_at_each_call():
    model, x, y = CASES["shared"]
    shown = texts(explain(model, x, y).svg)
    assert shown.count("fc Linear") == shown.count("bwd of fc Linear") == 2
    assert shown.count("x (n, 6)") == 2  # on top, and where the skip ends
    assert shown.count("w1 (6, 6)") == 2
    # The second call's backward comes first, and reads what that call read.
    rows = graph(explain(model, x, y)._step).rows
    first, second = [r for r in rows if r.label == "fc Linear"]
    assert "x" in first.saved
    assert "x" not in second.saved
    assert "w1" in second.saved


def test_a_layer_with_its_own_rule_is_one_box():
    model, x, y = CASES["own rule"]
    shown = texts(explain(model, x, y).svg)
    assert "layers[0] Feed" in shown
    assert "bwd of layers[0] Feed" in shown
    assert not any("one Linear" in t for t in shown)


def test_equal_blocks_are_drawn_once():
    model, x, y = CASES["deepest"]
    step = explain(model, x, y)
    shown = texts(step.svg)
    assert "blocks[0..11] × 12" in shown
    assert "drawn: blocks[1]" in shown
    assert not any("blocks[2]" in t for t in shown)
    assert any(t.startswith("w2 … w13 (8, 8)") for t in shown)
    nn.CrossEntropy()(model(x), y).backward()
    norms = [float(np.linalg.norm(b.fc.w.g.data)) for b in model.blocks]
    assert f"dw2 … dw13 (8, 8)  ‖ {min(norms):.3g} … {max(norms):.3g} ‖" in shown
    whole = graph(step._step)
    assert len(folded(whole).rows) == len(whole.rows) - 11 * 3


def test_two_blocks_are_drawn_both_and_unequal_ones_too():
    model, x, y = CASES["deep"]
    assert "blocks[1].act Relu" in texts(explain(model, x, y).svg)
    uneven = Deep(4)
    uneven.blocks[2].act = nn.Tanh()
    shown = texts(explain(uneven, x, y).svg)
    assert "blocks[2].act Tanh" in shown
    assert not any("×" in t for t in shown)


def test_forward_alone_has_no_right_half():
    model, x, y = CASES["forward only"]
    svg = explain(model, x, y).svg
    assert "backward" not in " ".join(texts(svg))
    assert "layers[1] Sigmoid" in texts(svg)


def test_a_model_that_does_nothing_is_drawn_too():
    svg = explain(nn.Dropout(0.5).eval(), normal(2, 3)).svg
    assert ElementTree.fromstring(svg).tag == f"{SVG}svg"


def test_names_that_mean_something_in_xml():
    odd = type("A<b>&\"'", (nn.Tanh,), {})
    svg = explain(nn.Sequential(odd()), normal(2, 3), normal(2, 3)).svg
    assert "layers[0] A<b>&\"'" in texts(svg)


def test_long_names_are_cut_short_and_whole_under_the_pointer():
    class ALayerWithANameThatGoesOnAndOnAndOnAndOnUntilItDoesNotFit(nn.Tanh):
        pass

    svg = explain(
        nn.Sequential(ALayerWithANameThatGoesOnAndOnAndOnAndOnUntilItDoesNotFit()), normal(2, 3)
    ).svg
    assert max(len(t) for t in texts(svg)) < 50
    titles = [t.text or "" for t in ElementTree.fromstring(svg).iter(f"{SVG}title")]
    assert any("UntilItDoesNotFit" in t for t in titles)


def test_light_and_dark_and_no_help_from_outside():
    svg = explain(Feed(), normal(2, 6), normal(2, 6)).svg
    assert "prefers-color-scheme: dark" in svg
    assert not re.search(r"(href|src)=", svg)


def test_values_that_backward_reads_are_named_between_the_boxes():
    model, x, y = CASES["attention"]
    rows = graph(explain(model, x, y)._step).rows
    (k,) = [r for r in rows if r.label == "k Linear"]
    assert k.saved == ("x",)  # through a view that the three layers share
    scores, values, last = [r for r in rows if r.label == "Attention"]
    assert {"q", "k"} <= set(scores.saved)
    assert "v" in values.saved
    assert last.backward is None  # a sum passes its gradient on as it is
