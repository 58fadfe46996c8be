"""No access beyond an array, in either direction: pages around them that nobody may touch."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

GUARDED = Path(__file__).parent / "guarded.py"
# Each case is there with one thread and with three: an odd step takes both kinds.
EVERY = 13

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="guard pages as Linux has them")


def run(*options: str) -> str:
    """What is wrong in some cases; "" if nothing is."""
    done = subprocess.run(
        [sys.executable, str(GUARDED), *options], capture_output=True, text=True, timeout=100
    )
    lines = done.stdout.splitlines()
    wrong = [line for line in lines if line.startswith("!")]
    if done.returncode < 0:
        case = next((line[2:] for line in reversed(lines) if line.startswith(">")), "the start")
        wrong.append(f"{signal.Signals(-done.returncode).name} in {case}")
    elif done.returncode and not wrong:
        wrong.append(done.stderr[-2000:])
    return "\n".join(wrong)


@pytest.mark.parametrize("side", ["after", "before"])
def test_nothing_beyond_arrays(side: str) -> None:
    assert run(side, str(EVERY)) == ""


def test_an_access_beyond_an_array_is_found() -> None:
    code = f"""
import sys; sys.path[:0] = [{str(GUARDED.parent)!r}]
import ctypes, guarded
a = guarded.guarded((3,), "float32", sys.argv[1])
beyond = a.ctypes.data + (12 if sys.argv[1] == "after" else -4)
ctypes.memset(a.ctypes.data, 0, 12)
print("inside", flush=True)
ctypes.memset(beyond, 0, 4)
"""
    for side in ("after", "before"):
        done = subprocess.run([sys.executable, "-c", code, side], capture_output=True, text=True)
        assert (done.stdout, done.returncode) == ("inside\n", -signal.SIGSEGV)
