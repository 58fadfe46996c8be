import io
import os
import pty
import subprocess
import sys
import types
from pathlib import Path

import pytest
from rich.console import Console
from small_training import make_learner

import groundup
from groundup.train import Callback, EarlyStopping, top_k
from groundup.train.display import Bar, Display, Notebook, cell, clock, display_for


def shown(learner):
    return next(c for c in learner.callbacks if isinstance(c, Display))


def test_where_there_is_no_terminal_epochs_are_plain_lines(capsys):
    make_learner(display=True).fit(2)
    head, first, second = capsys.readouterr().out.splitlines()
    assert head.split() == ["epoch", "train", "loss", "valid", "loss", "accuracy", "lr", "seconds"]
    assert first.split()[0] == "1"
    assert second.split()[0] == "2"
    assert second.split()[3].endswith("%")
    assert len(head) == len(first) == len(second)
    assert "\x1b" not in head + first


def test_display_false_prints_nothing(capsys):
    make_learner(display=False).fit(1)
    assert capsys.readouterr() == ("", "")


def test_a_stop_is_explained(capsys):
    class Worse(Callback):
        order = -1

        def after_epoch(self, learner):
            learner.history[-1]["valid_loss"] = float(learner.epoch)

    make_learner(display=True, callbacks=[Worse(), EarlyStopping(patience=2)]).fit(5)
    last = capsys.readouterr().out.splitlines()[-1]
    assert last == (
        "stopped after epoch 3: no better valid_loss for 2 epochs; back to the weights of "
        "epoch 1 (1)"
    )


def test_a_second_fit_says_where_it_goes_on(capsys):
    make_learner(display=True).fit(1).fit(1)
    assert "going on in epoch 2, after step 6\n" in capsys.readouterr().out


def bar_learner(**options):
    learner = make_learner(**options)
    out = io.StringIO()
    learner.add(Bar(Console(file=out, force_terminal=True, width=100, highlight=False)))
    return learner, out


def test_in_a_terminal_lines_stay_and_the_bar_goes():
    learner, out = bar_learner()
    learner.fit(3)
    text = out.getvalue()
    assert "\x1b[" in text
    rows = [line for line in text.splitlines() if "%" in line]
    assert len(rows) >= 3
    assert text.rstrip().endswith(("\x1b[2K", "\x1b[?25h", "\x1b[1A\x1b[2K"))  # the bar is erased


def test_the_bar_is_drawn_by_a_clock_and_not_by_batches(monkeypatch):
    """Nothing of it is called from within an epoch, and it is drawn 10 times a second at most."""
    learner, _ = bar_learner(batch_size=1)
    hooks = {h for h in ("before_batch", "after_step", "after_loss") if h in vars(Bar)}
    assert not hooks
    drawn = []
    bar = shown(learner)
    progress = bar.progress
    monkeypatch.setattr(bar, "progress", lambda learner: drawn.append(1) or progress(learner))
    learner.fit(4)
    assert learner.step == 360
    seconds = sum(row["seconds"] for row in learner.history)
    assert 1 <= len(drawn) <= 3 * 4 + 10 * seconds + 5


def test_what_the_bar_says():
    learner, _ = bar_learner()

    class Look(Callback):
        def after_step(self, learner):
            if learner.step == 9:
                console = Console(file=io.StringIO(), width=100)
                console.print(shown(learner).progress(learner))
                said.append(console.file.getvalue())

    said = []
    learner.add(Look()).fit(3)
    assert "epoch 2/3" in said[0]
    assert "batch 3/6" in said[0]
    assert "left" in said[0]


def test_the_bar_stops_after_an_error():
    class Fails(Callback):
        def after_step(self, learner):
            raise RuntimeError("boom")

    learner, _ = bar_learner(callbacks=[Fails()])
    with pytest.raises(RuntimeError, match="boom"):
        learner.fit(1)
    assert not shown(learner).live.is_started


@pytest.fixture
def notebook(monkeypatch):
    """IPython, as far as a notebook shows."""
    pages = []

    class Handle:
        def update(self, html):
            pages.append(html)

    ipython, display = types.ModuleType("IPython"), types.ModuleType("IPython.display")
    ipython.get_ipython = type("ZMQInteractiveShell", (), {})
    display.HTML = str
    display.display = lambda page, display_id: Handle()
    ipython.display = display
    monkeypatch.setitem(sys.modules, "IPython", ipython)
    monkeypatch.setitem(sys.modules, "IPython.display", display)
    return pages


def test_in_a_notebook_a_table_grows_in_place(notebook, capsys):
    learner = make_learner(display=True, metrics=[top_k(2)])
    assert isinstance(shown(learner), Notebook)
    learner.fit(2)
    assert notebook[-1].count("<tr>") == 3
    assert "<th>top 2</th>" in notebook[-1]
    assert capsys.readouterr().out == ""


def test_a_notebook_sees_what_is_under_way_now_and_then(notebook, monkeypatch):
    learner = make_learner(display=True)
    shown(learner).pause = 0.0
    learner.fit(1)
    assert "epoch 1/1, batch 3/6, loss " in "".join(notebook)
    slow = len(notebook)
    notebook.clear()
    make_learner(display=True, batch_size=1).fit(1)
    assert len(notebook) < slow


def test_pythons_prompt_is_no_notebook(notebook):
    sys.modules["IPython"].get_ipython = type("TerminalInteractiveShell", (), {})
    assert type(display_for()) is Display


def test_a_real_terminal_gets_the_bar():
    code = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "from small_training import make_learner\n"
        "make_learner(display=True).fit(2)\n"
    )
    ours, theirs = pty.openpty()
    env = {**os.environ, "PYTHONPATH": str(Path(groundup.__file__).parents[1]), "TERM": "xterm"}
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(Path(__file__).parent)], stdout=theirs, env=env
    )
    os.close(theirs)
    text = b""
    while True:
        try:
            part = os.read(ours, 1 << 16)
        except OSError:  # what Linux says when the other side is closed
            break
        if not part:
            break
        text += part
    os.close(ours)
    assert process.wait() == 0
    assert b"\x1b[?25l" in text  # the cursor is hidden while the bar is there
    assert b"train loss" in text


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        ("epoch", 3, "3"),
        ("accuracy", 0.97221, "97.22%"),
        ("top_5", 1.0, "100.00%"),
        ("valid_loss", 0.123456, "0.1235"),
        ("valid_loss", 0.0, "0.0000"),
        ("valid_loss", 1.5e-7, "1.500e-07"),
        ("valid_loss", 123456.7, "123,457"),
        ("valid_loss", 1.5e12, "1.500e+12"),
        ("r2", -0.5, "-0.5000"),
        ("lr", 0.001, "0.001"),
        ("seconds", 0.0123, "0.01"),
        ("seconds", 75.2, "1:15"),
    ],
)
def test_numbers(name, value, text):
    assert cell(name, value) == text


def test_the_clock():
    assert [clock(s) for s in (0.4, 59.6, 3661)] == ["0:00", "1:00", "1:01:01"]
