"""The command as a process: what signals and pipes do to it."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import groundup as package
from groundup.train.files import load_tensors

EPOCHS = 30


def start(*words):
    env = {**os.environ, "PYTHONPATH": str(Path(package.__file__).parents[1])}
    return subprocess.Popen(
        [sys.executable, "-m", "groundup", *words],
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process):
    out, errors = process.communicate(timeout=100)
    return process.returncode, out, errors


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The weights and the log of a run that nothing broke."""
    out = tmp_path_factory.mktemp("whole")
    code, printed, errors = finish(start(*training(), "--out", str(out)))
    assert (code, errors) == (0, "")
    assert printed.isascii()  # piped: no escape sequences, no lines to draw
    assert "\x1b" not in printed
    assert printed.count("\n") < EPOCHS + 15
    return result(out / "digits-1")


def training():
    return ["train", "--no-check", "--epochs", str(EPOCHS), "--dropout", "0.2"]


def result(folder):
    arrays, _ = load_tensors(folder / "weights.safetensors")
    log = (folder / "log.csv").read_text().splitlines()
    return {k: v.tobytes() for k, v in arrays.items()}, [row.rsplit(",", 1)[0] for row in log]


def wait_for_rows(folder, count):
    log, began = folder / "log.csv", time.monotonic()
    while not log.exists() or log.read_text().count("\n") <= count:
        assert time.monotonic() - began < 60
        time.sleep(0.002)


def test_ctrl_c_says_where_things_are_and_the_run_goes_on(whole, tmp_path):
    process = start(*training())
    folder = tmp_path / "runs" / "digits-1"
    wait_for_rows(folder, 4)
    process.send_signal(signal.SIGINT)
    code, _, errors = finish(process)
    assert code == 130
    assert errors.startswith("interrupted in epoch ")
    assert f"Saved in {Path('runs/digits-1')}. Go on: groundup train --resume" in errors
    assert "Traceback" not in errors
    assert {"weights.safetensors", "config.json", "log.csv"} <= set(os.listdir(folder))
    rows = len(result(folder)[1])
    assert rows < EPOCHS
    code, out, errors = finish(start("train", "--resume", "runs/digits-1"))
    assert (code, errors) == (0, "")
    assert "going on in epoch" in out
    assert result(folder) == whole


def test_a_killed_run_goes_on(whole, tmp_path):
    process = start(*training())
    folder = tmp_path / "runs" / "digits-1"
    wait_for_rows(folder, 7)
    process.kill()
    finish(process)
    assert not (folder / "weights.safetensors").exists()
    assert finish(start("train", "--resume", "runs/digits-1", "--no-check"))[0] == 0
    assert result(folder) == whole


def test_a_reader_that_leaves_is_no_traceback(tmp_path):
    process = start("train", "--no-check", "--epochs", "30")
    process.stdout.readline()
    process.stdout.close()
    errors = process.stderr.read()
    process.stderr.close()
    process.wait()
    assert "Traceback" not in errors
