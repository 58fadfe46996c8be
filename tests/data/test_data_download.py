import errno
import gzip
import hashlib
import io
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from groundup.data.sets import FILES, Source, load
from groundup.data.split import Split
from groundup.errors import DataError, DataNotFoundError

Serve = Callable[[str], Any]
MakeSource = Callable[..., Source]


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """Without pooch's line about each download."""
    import pooch

    logger = pooch.get_logger()
    level = logger.level
    logger.setLevel("WARNING")
    yield
    logger.setLevel(level)


@pytest.fixture
def dead_mirror() -> str:
    """An address of this machine at which nobody answers."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{free.getsockname()[1]}/"


def fetch(source: Source, cache: Path) -> Split:
    return load(source, None, cache, True, "lesson")


def held(cache: Path) -> list[str]:
    """Every file in the cache, temporary ones too."""
    return sorted(path.name for path in cache.rglob("*") if path.is_file())


TRAIN = sorted(f"{name}.gz" for name in FILES[:2])


def test_download_then_the_cache_alone(tmp_path: Path, serve: Serve, source: MakeSource) -> None:
    server = serve("ok")
    split = fetch(source(server.mirror), tmp_path)
    assert [a.shape for a in split] == [(50, 784), (50,), (10, 784), (10,)]
    assert held(tmp_path) == TRAIN  # the lesson needs no test files
    assert sorted(server.asked) == TRAIN
    again = fetch(source(server.mirror), tmp_path)
    assert sorted(server.asked) == TRAIN
    np.testing.assert_array_equal(again.x_train, split.x_train)
    test = load(source(server.mirror), None, tmp_path, True, "test")
    assert test.x_valid.shape == (10, 784)
    assert len(server.asked) == 4  # what was there already was not asked for again


@pytest.mark.parametrize("behaviour", ["missing", "damaged", "drop"])
def test_the_second_mirror_is_asked(
    tmp_path: Path, serve: Serve, source: MakeSource, behaviour: str
) -> None:
    bad, good = serve(behaviour), serve("ok")
    assert len(fetch(source(bad.mirror, good.mirror), tmp_path).x_train) == 50
    assert sorted(bad.asked) == sorted(good.asked) == TRAIN
    assert held(tmp_path) == TRAIN


def test_no_server_then_a_good_one(
    tmp_path: Path, serve: Serve, source: MakeSource, dead_mirror: str
) -> None:
    assert len(fetch(source(dead_mirror, serve("ok").mirror), tmp_path).x_train) == 50


@pytest.mark.parametrize(
    ("behaviour", "answer"),
    [
        ("missing", "404 Not Found"),
        ("damaged", "a damaged or different file .SHA256 hash of downloaded file"),
        ("drop", "the connection broke in mid-file"),
    ],
)
def test_what_the_mirror_answered(
    tmp_path: Path, serve: Serve, source: MakeSource, behaviour: str, answer: str
) -> None:
    server = serve(behaviour)
    with pytest.raises(DataNotFoundError, match=f"{server.mirror}{FILES[0]}.gz: {answer}"):
        fetch(source(server.mirror), tmp_path)
    assert held(tmp_path) == []


def test_offline(tmp_path: Path, serve: Serve, source: MakeSource, dead_mirror: str) -> None:
    missing = serve("missing")
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(DataNotFoundError) as info:
        load(source(dead_mirror, missing.mirror), empty, tmp_path / "cache", True, "test")
    cached = tmp_path / "cache" / "tiny"
    first, *rest = str(info.value).split("\n")
    assert first == f"Tiny is in none of these folders: {empty}, {cached}."
    assert rest[0] == f"{FILES[0]}.gz could not be downloaded:"
    assert rest[1].startswith(f"  {dead_mirror}{FILES[0]}.gz: no connection (")
    assert "refused" in rest[1]
    assert rest[2] == f"  {missing.mirror}{FILES[0]}.gz: 404 Not Found"
    assert rest[3] == (
        f"Fix: put {', '.join(f'{name}.gz' for name in FILES)} into {cached}, or name the folder "
        "that has them with folder="
    )


def test_no_such_host(tmp_path: Path, source: MakeSource) -> None:
    with pytest.raises(DataNotFoundError, match=r"http://nowhere\.invalid/.*: no connection \("):
        fetch(source("http://nowhere.invalid/"), tmp_path)


def test_an_address_that_is_none(tmp_path: Path, source: MakeSource) -> None:
    with pytest.raises(DataNotFoundError, match=r"http:///.*: InvalidURL"):
        fetch(source("http:///"), tmp_path)


def test_a_mirror_that_stays_silent(
    tmp_path: Path, serve: Serve, source: MakeSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("groundup.data.download._TIMEOUT", (0.2, 0.2))
    start = time.monotonic()
    with pytest.raises(DataNotFoundError, match=r"no answer in time|no connection .*timed out"):
        fetch(source(serve("stall").mirror), tmp_path)
    assert time.monotonic() - start < 10
    assert held(tmp_path) == []


def test_a_broken_download_is_taken_up_where_the_files_end(
    tmp_path: Path, serve: Serve, source: MakeSource
) -> None:
    server = serve("ok")
    labels = server.files.pop(f"{FILES[1]}.gz")
    with pytest.raises(DataNotFoundError, match=f"{FILES[1]}.gz: 404"):
        fetch(source(server.mirror), tmp_path)
    assert held(tmp_path) == [f"{FILES[0]}.gz"]  # whole and verified: it stays
    packed = tmp_path / "tiny" / f"{FILES[0]}.gz"
    (tmp_path / "tiny" / FILES[0]).write_bytes(gzip.decompress(packed.read_bytes()))
    packed.unlink()  # unpacked by the user, it counts as well
    server.files[f"{FILES[1]}.gz"] = labels
    server.asked.clear()
    fetch(source(server.mirror), tmp_path)
    assert server.asked == [f"{FILES[1]}.gz"]


class _Full:
    """A file on a full disk."""

    def __init__(self, *args: object) -> None:
        self.file = io.FileIO(*args)  # type: ignore[arg-type]

    def write(self, chunk: bytes) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def close(self) -> None:
        self.file.close()


def test_a_full_disk(
    tmp_path: Path, serve: Serve, source: MakeSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pooch.downloaders.open", _Full, raising=False)
    server = serve("ok")
    with pytest.raises(
        DataNotFoundError,
        match=f"{FILES[0]}.gz cannot be saved in {tmp_path}/tiny: No space left on device. Nothing "
        "was left there. Make room or name another folder with cache=",
    ):
        fetch(source(server.mirror, server.mirror), tmp_path)
    assert held(tmp_path) == []
    assert len(server.asked) == 1  # another mirror would not help


def test_a_cache_that_cannot_be_made(tmp_path: Path, serve: Serve, source: MakeSource) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(
        DataNotFoundError, match=r"cannot be saved in .*/file/tiny: Not a directory"
    ):
        fetch(source(serve("ok").mirror), tmp_path / "file")


def test_a_damaged_file_in_the_cache(tmp_path: Path, serve: Serve, source: MakeSource) -> None:
    server = serve("ok")
    fetch(source(server.mirror), tmp_path)
    path = tmp_path / "tiny" / f"{FILES[0]}.gz"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(DataError, match=f"{path} is damaged: .*Delete it and load again"):
        fetch(source(server.mirror), tmp_path)
    path.unlink()  # as the message says
    assert len(fetch(source(server.mirror), tmp_path).x_train) == 50


SCRIPT = """
import sys
from groundup.data.sets import Source, load
tiny = Source("Tiny", "tiny", (sys.argv[1],), ("0" * 64,) * 4, (), None)
load(tiny, None, sys.argv[2], True, "lesson")
"""


@pytest.mark.skipif(sys.platform == "win32", reason="sends SIGINT")
def test_ctrl_c_in_mid_download(tmp_path: Path, serve: Serve) -> None:
    server = serve("stall")
    process = subprocess.Popen(
        [sys.executable, "-c", SCRIPT, server.mirror, str(tmp_path)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert server.stalled.wait(30)
        deadline = time.monotonic() + 10
        while not held(tmp_path) and time.monotonic() < deadline:
            time.sleep(0.01)
        assert len(held(tmp_path)) == 1  # pooch's temporary file
        process.send_signal(signal.SIGINT)
        _, stderr = process.communicate(timeout=30)
    finally:
        process.kill()
    assert stderr.rstrip().endswith("KeyboardInterrupt")
    assert held(tmp_path) == []


def test_the_servers_files_have_the_sums_of_the_source(serve: Serve, source: MakeSource) -> None:
    files = serve("ok").files
    sums = tuple(hashlib.sha256(files[f"{name}.gz"]).hexdigest() for name in FILES)
    assert source().sha256 == sums
