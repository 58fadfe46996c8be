"""The comparison of gradient checkers: what counts as found, passed and not run."""

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest

FOLDER = Path(__file__).parents[2] / "benchmarks"
HELD_OUT = """
from corpus.case import Corpus, Made

corpus = Corpus()


@corpus.case("sign", wrong="x")
def held_out_tanh(rng):
    return Made(lambda x: x * x, (rng.normal(size=3),), {"backward": lambda dout, x: -2 * x * dout})
"""


@pytest.fixture(scope="module")
def checks():
    spec = importlib.util.spec_from_file_location("benchmarks_checks", FOLDER / "checks.py")
    module = importlib.util.module_from_spec(spec)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(FOLDER)
        patch.syspath_prepend(FOLDER.parent / "tests" / "check")
        patch.setitem(sys.modules, spec.name, module)  # dataclasses look their module up
        spec.loader.exec_module(module)
        yield module


@pytest.fixture
def jax64():
    """JAX in float64, and afterwards as it was."""
    if importlib.util.find_spec("jax"):
        import jax

        before = jax.config.jax_enable_x64
        jax.config.update("jax_enable_x64", True)
        yield
        jax.config.update("jax_enable_x64", before)
    else:
        yield


@pytest.fixture(params=["gu.check", "gradcheck", "check_grads"])
def tool(request, checks, jax64):
    if request.param in checks.NEEDS:
        pytest.importorskip(checks.NEEDS[request.param])
    return request.param


def affine(x, w, b):
    return x @ w + b


def pair(backward, forward=affine, kind="some"):
    from corpus.case import Case, Made

    def make(rng):
        inputs = rng.normal(size=(5, 4)), rng.normal(size=(4, 3)), rng.normal(size=3)
        return Made(forward, inputs, {"backward": backward})

    return Case("affine", make, kind)


def test_a_right_backward_passes(checks, tool):
    case = pair(lambda dout, x, w, b: (dout @ w.T, x.T @ dout, dout.sum(0)), kind="")
    assert checks.judge(tool, case).outcome == checks.PASSED


def test_a_wrong_one_is_found(checks, tool):
    case = pair(lambda dout, x, w, b: (dout @ w.T, -(x.T @ dout), dout.sum(0)), kind="sign")
    verdict = checks.judge(tool, case)
    assert verdict.outcome == checks.FOUND
    assert verdict.kinds[:1] == (("sign",) if tool == checks.OURS else ())
    planted = checks.Planted("g", "f", case)
    row = checks.summary([planted], [{tool: verdict}], tool)
    assert (row["wrong"], row["found"], row["right"], row["missed"]) == (1, 1, 0, [])
    assert row["first"] == (1 if tool == checks.OURS else None)


def test_a_backward_that_raises_is_found(checks, tool):
    def backward(dout, x, w, b):
        return dout @ x.T @ w, x.T @ dout, dout.sum(0)

    assert checks.judge(tool, pair(backward)).outcome == checks.FOUND


def test_what_has_no_forward_is_not_run(checks, tool):
    def forward(x, w, b):
        raise RuntimeError("no")

    verdict = checks.judge(tool, pair(lambda dout, x, w, b: (x, w, b), forward))
    assert verdict.outcome == checks.NOT_RUN
    assert "no" in verdict.why


def test_pytorch_alone_sums_a_wrong_shape(checks, tool):
    case = pair(lambda dout, x, w, b: (dout @ w.T, x.T @ dout, dout))
    verdict = checks.judge(tool, case)
    assert verdict.outcome == (checks.PASSED if tool == checks.TORCH else checks.FOUND)
    assert verdict.reshaped == (tool == checks.TORCH)


def test_a_torch_function_is_found_wrong(checks, tool):
    torch = pytest.importorskip("torch")
    from corpus.case import Case, Made

    class Square(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(x)
            return x * x

        @staticmethod
        def backward(ctx, grad):
            return grad * ctx.saved_tensors[0]

    case = Case("square", lambda rng: Made(Square, (rng.normal(size=3),)), "factor")
    assert checks.judge(tool, case).outcome == checks.FOUND


def test_held_out_files_are_a_group_of_their_own(checks, tmp_path):
    (tmp_path / "mine.py").write_text(HELD_OUT)
    everything = checks.cases([tmp_path / "mine.py"])
    groups = [p.group for p in everything]
    assert groups.count("mine.py") == 1
    assert groups.count(checks.CORPUS) == len(everything) - 1 > 500
    (own,) = checks.chosen_from(everything, ["Held_Out_Tanh"])
    assert own.is_wrong
    assert checks.judge(checks.OURS, own.case).kinds[0] == "sign"
    with pytest.raises(SystemExit, match="no such Python file"):
        checks.cases([tmp_path / "yours.py"])


def test_every_checker_takes_the_small_model(checks, jax64):
    rng = np.random.default_rng(0)
    weights = [rng.normal(size=shape) for shape in ((4, 3), 3, (3, 2), 2)]
    for tool, make in checks.MODELS.items():
        needs = checks.NEEDS.get(tool, "torch" if tool == checks.FAST else "numpy")
        if importlib.util.find_spec(needs):
            make(rng.normal(size=(3, 4)), np.array([0, 1, 1]), weights)()
