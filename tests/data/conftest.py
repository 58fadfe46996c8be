"""Small files of MNIST's form, and web servers that misbehave in one way each."""

import gzip
import hashlib
import http.server
import struct
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from groundup.data.sets import FILES, Source

CODES = {"u1": 0x08, "i1": 0x09, "i2": 0x0B, "i4": 0x0C, "f4": 0x0D, "f8": 0x0E}


def idx_bytes(array: np.ndarray) -> bytes:
    head = bytes([0, 0, CODES[array.dtype.str[1:]], array.ndim])
    return (
        head
        + struct.pack(f">{array.ndim}I", *array.shape)
        + array.astype(array.dtype.newbyteorder(">")).tobytes()
    )


def image_set(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (n, 28, 28), np.uint8), rng.integers(0, 10, n).astype(np.uint8)


@pytest.fixture(scope="session")
def to_idx() -> Callable[[np.ndarray], bytes]:
    """The naive writer that the reader is held against."""
    return idx_bytes


@pytest.fixture(scope="session")
def mnist_files() -> dict[str, bytes]:
    """The four IDX files of a set of 60 and 10 images, not gzipped."""
    arrays = [*image_set(60, 1), *image_set(10, 2)]
    return {name: idx_bytes(a) for name, a in zip(FILES, arrays, strict=True)}


@pytest.fixture
def mnist_folder(tmp_path: Path, mnist_files: dict[str, bytes]) -> Path:
    folder = tmp_path / "mnist-files"
    folder.mkdir()
    for name, content in mnist_files.items():
        (folder / f"{name}.gz").write_bytes(gzip.compress(content, 1))
    return folder


class Server(http.server.ThreadingHTTPServer):
    """Serves `files`; `asked` lists the paths that were asked for."""

    daemon_threads = True

    def __init__(self, behaviour: str, files: dict[str, bytes]) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.behaviour, self.files = behaviour, files
        self.asked: list[str] = []
        self.stalled = threading.Event()  # half of a file is on its way
        self.closing = threading.Event()

    @property
    def mirror(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/data/"


class Handler(http.server.BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        name = self.path.rpartition("/")[2]
        self.server.asked.append(name)
        content = self.server.files.get(name)
        if content is None or self.server.behaviour == "missing":
            self.send_error(404)
            return
        if self.server.behaviour == "damaged":
            content = content[:-1] + bytes([content[-1] ^ 1])
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.server.behaviour in ("drop", "stall"):
            self.wfile.write(content[: len(content) // 2])
            self.wfile.flush()
            if self.server.behaviour == "stall":
                self.server.stalled.set()
                self.server.closing.wait(30)
            self.close_connection = True
            return
        self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def serve(mnist_files: dict[str, bytes]) -> Iterator[Callable[[str], Server]]:
    """serve(behaviour) starts a server: 'ok', 'missing', 'damaged', 'drop' or 'stall'."""
    packed = {f"{name}.gz": gzip.compress(b, 1, mtime=0) for name, b in mnist_files.items()}
    running = []

    def start(behaviour: str) -> Server:
        server = Server(behaviour, packed)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        running.append((server, thread))
        return server

    yield start
    for server, thread in running:
        server.closing.set()
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture
def source(mnist_files: dict[str, bytes]) -> Callable[..., Source]:
    """source(*mirrors): a data set that these mirrors are said to have."""
    sums = [
        hashlib.sha256(gzip.compress(content, 1, mtime=0)).hexdigest()
        for content in mnist_files.values()
    ]

    def make(*mirrors: str) -> Source:
        return Source("Tiny", "tiny", mirrors, (sums[0], sums[1], sums[2], sums[3]), (), None)

    return make
