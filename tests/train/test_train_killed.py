"""Really killed: a process that got SIGKILL at any moment goes on to the very same weights."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import groundup
from groundup.train.files import load_tensors

PROGRAM = Path(__file__).with_name("killed_training.py")


def start(folder, how):
    package = str(Path(groundup.__file__).parents[1])
    return subprocess.Popen(
        [sys.executable, PROGRAM, folder, how],
        env={**os.environ, "PYTHONPATH": package},
        stderr=subprocess.PIPE,
        text=True,
    )


def start_training(folder):
    """A slow training, once its fit has begun and it has written the log anew."""

    def written():
        return (folder / "log.csv").stat().st_mtime_ns if (folder / "log.csv").exists() else 0

    before, process, began = written(), start(folder, "slow"), time.monotonic()
    while written() == before and process.poll() is None and time.monotonic() - began < 60:
        time.sleep(0.001)
    return process


def finish(folder, how="run"):
    process = start(folder, how)
    _, errors = process.communicate(timeout=60)
    return process.returncode, errors


def result(folder):
    """The weights, and the log without the seconds."""
    arrays, _ = load_tensors(folder / "weights.safetensors")
    log = (folder / "log.csv").read_text().splitlines()
    return {k: v.tobytes() for k, v in arrays.items()}, [row.rsplit(",", 1)[0] for row in log]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    assert finish(folder) == (0, "")
    return result(folder)


@pytest.mark.parametrize("round_", range(2))
def test_killed_at_random_moments(tmp_path, whole, round_):
    """A step takes 4 ms and every third writes a checkpoint: kills fall anywhere."""
    moments = random.Random(round_)
    kills = 0
    while kills < 5:
        process = start_training(tmp_path)
        time.sleep(moments.uniform(0, 0.06))
        process.kill()
        process.communicate(timeout=60)
        if process.returncode == 0:
            break
        kills += 1
    assert kills > 1
    assert finish(tmp_path) == (0, "")
    assert result(tmp_path) == whole


@pytest.mark.parametrize("place", ["half", "before", "replaced", "after"])
def test_killed_while_a_file_is_written(tmp_path, whole, place):
    """The log's and the checkpoints' files: one process after the other dies at the next one."""
    for count in (1, 2, 5):
        assert finish(tmp_path, f"{place} {count}")[0] == -signal.SIGKILL
    assert finish(tmp_path) == (0, "")
    assert result(tmp_path) == whole
    assert not list(tmp_path.glob("checkpoints/.*"))


def test_ctrl_c_in_a_program(tmp_path, whole):
    process = start_training(tmp_path)
    time.sleep(0.03)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == -signal.SIGINT
    assert "KeyboardInterrupt: interrupted in epoch" in errors
    assert finish(tmp_path) == (0, "")
    assert result(tmp_path) == whole
