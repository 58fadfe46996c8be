import gzip
import os
import pickle
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from groundup.data import load_mnist_pickle, mnist
from groundup.errors import DataError, DataNotFoundError, LabelError

Part = tuple[np.ndarray, np.ndarray]


def part(n: int, seed: int) -> Part:
    rng = np.random.default_rng(seed)
    return (rng.integers(0, 256, (n, 784)) / 256).astype(np.float32), rng.integers(0, 10, n)


@pytest.fixture(scope="module")
def parts() -> list[Part]:
    return [part(50, 1), part(10, 2), part(12, 3)]


def python2_pickle(parts: list[Part]) -> bytes:
    """What Python 2 and an old NumPy write in protocol 2: their bytes are text of no encoding."""
    out = [b"\x80\x02"]

    def text(content: bytes) -> bytes:
        if len(content) < 256:
            return b"U" + bytes([len(content)]) + content
        return b"T" + struct.pack("<i", len(content)) + content

    def whole(n: int) -> bytes:
        return b"K" + bytes([n]) if n < 256 else b"M" + struct.pack("<H", n)

    def array(a: np.ndarray) -> bytes:
        code = a.dtype.str[1:].encode()
        dtype = b"cnumpy\ndtype\n" + text(code) + b"K\x00K\x01\x87R"
        dtype += b"(K\x03" + text(b"<") + b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
        empty = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85"
        empty += text(b"b") + b"\x87R"
        shape = b"(" + b"".join(whole(n) for n in a.shape) + b"t"
        return empty + b"(K\x01" + shape + dtype + b"\x89" + text(a.tobytes()) + b"tb"

    for x, y in parts:
        out.append(array(x) + array(y) + b"\x86")
    return b"".join(out) + b"\x87."


def test_the_python_2_writer_writes_what_numpy_reads(parts: list[Part]) -> None:
    for (x, y), (x2, y2) in zip(
        parts, pickle.loads(python2_pickle(parts), encoding="latin1"), strict=True
    ):
        np.testing.assert_array_equal(x, x2, strict=True)
        np.testing.assert_array_equal(y, y2, strict=True)


WRITERS: dict[str, Callable[[list[Part]], bytes]] = {
    "python2": python2_pickle,
    **{f"protocol{p}": lambda parts, p=p: pickle.dumps(tuple(parts), p) for p in range(2, 6)},
    "lists": lambda parts: pickle.dumps([list(p) for p in parts]),
    "fortran": lambda parts: pickle.dumps([(np.asfortranarray(x), y) for x, y in parts]),
    "fortran5": lambda parts: pickle.dumps([(np.asfortranarray(x), y) for x, y in parts], 5),
    "big-endian": lambda parts: pickle.dumps(
        [(x.astype(">f8"), y.astype(">i2")) for x, y in parts]
    ),
    "read-only": lambda parts: pickle.dumps(
        [(np.frombuffer(x.tobytes(), np.float32).reshape(x.shape), y) for x, y in parts], 5
    ),
}


@pytest.mark.parametrize("writer", WRITERS)
def test_reads_what_python_and_numpy_write(tmp_path: Path, parts: list[Part], writer: str) -> None:
    path = tmp_path / "mnist.pkl.gz"
    path.write_bytes(gzip.compress(WRITERS[writer](parts)))
    split = load_mnist_pickle(path)
    for got, expected in zip(split, (*parts[0], *parts[1]), strict=True):
        np.testing.assert_array_equal(got, expected)
        assert got.flags.writeable
        assert got.dtype.isnative
    assert [a.dtype for a in split] == [np.float32, np.int64, np.float32, np.int64]


def test_test_split_and_images(tmp_path: Path, parts: list[Part]) -> None:
    path = tmp_path / "plain.pkl"  # not gzipped
    path.write_bytes(python2_pickle(parts))
    split = load_mnist_pickle(path, flat=False, split="test")
    assert [a.shape for a in split] == [(60, 1, 28, 28), (60,), (12, 1, 28, 28), (12,)]
    np.testing.assert_array_equal(split.x_train[50:].reshape(10, 784), parts[1][0])
    np.testing.assert_array_equal(split.y_valid, parts[2][1])


def test_mnist_finds_the_pickle(tmp_path: Path, parts: list[Part]) -> None:
    content = gzip.compress(python2_pickle(parts))
    cached = tmp_path / "cache" / "mnist"
    cached.mkdir(parents=True)
    (cached / "mnist.pkl.gz").write_bytes(content)
    assert mnist(cached).x_train.shape == (50, 784)
    assert mnist(cache=tmp_path / "cache").x_valid.shape == (10, 784)
    assert mnist(cached / "mnist.pkl.gz", flat=False, split="test").x_train.shape == (60, 1, 28, 28)


class Calls:
    """Pickles as a call."""

    def __init__(self, function: Any, *args: Any) -> None:
        self.call = (function, args)

    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        return self.call


def _op(module: str, name: str) -> bytes:
    return f"c{module}\n{name}\n".encode()


ENCODE = _op("_codecs", "encode")
ATTACKS: dict[str, tuple[Callable[[str], bytes], str]] = {
    "os.system": (
        lambda mark: pickle.dumps(Calls(os.system, f"touch {mark}")),
        r"refused: it asks for posix\.system",
    ),
    "eval": (
        lambda mark: pickle.dumps(Calls(eval, f"open({mark!r}, 'w')")),
        r"refused: it asks for builtins\.eval",
    ),
    "eval in protocol 0": (
        lambda mark: f"c__builtin__\neval\n(S\"open({mark!r}, 'w')\"\ntR.".encode(),
        r"refused: it asks for __builtin__\.eval",
    ),
    "getattr": (
        lambda mark: pickle.dumps(Calls(getattr, np.ndarray, "tofile")),
        r"refused: it asks for builtins\.getattr",
    ),
    "a dotted name": (
        lambda mark: b"\x80\x04\x8c\x05numpy\x8c\x0dndarray.dumps\x93.",
        r"refused: it asks for numpy\.ndarray\.dumps",
    ),
    "an instruction that creates an instance": (
        lambda mark: f"(S'touch {mark}'\nios\nsystem\n.".encode(),
        r"refused: it asks for os\.system",
    ),
    "numpy's own loader": (
        lambda mark: _op("numpy", "load") + f"(S'{mark}'\ntR.".encode(),
        r"refused: it asks for numpy\.load",
    ),
    "a registered extension": (lambda mark: b"\x80\x02\x82\x01.", "no pickle of arrays"),
    "a persistent object": (lambda mark: b"Pmine\n.", "no pickle of arrays"),
    "a direct array": (
        lambda mark: _op("numpy", "ndarray") + b"(M\xff\xfftR.",
        "refused: it creates an array directly",
    ),
    "a direct array with NEWOBJ": (
        lambda mark: b"\x80\x02" + _op("numpy", "ndarray") + b"(M\xff\xfft\x81.",
        "no pickle of arrays",
    ),
    "another codec": (
        lambda mark: ENCODE + b"(X\x01\0\0\0aX\x03\0\0\0hextR.",
        "refused: it encodes text as 'hex'",
    ),
    "a function's state": (
        lambda mark: ENCODE + b"}X\x08\0\0\0__code__K\x01sb.",
        "refused: it changes a function",
    ),
    "a function's slots": (
        lambda mark: ENCODE + b"N}X\x05\0\0\0_callNs\x86b.",
        "refused: it changes a function",
    ),
    "an item of a function": (lambda mark: ENCODE + b"K\x01K\x02s.", "no pickle of arrays"),
    "an element for a function": (lambda mark: ENCODE + b"K\x01a.", "no pickle of arrays"),
}


@pytest.mark.parametrize("attack", ATTACKS)
@pytest.mark.parametrize("hidden", [False, True])
def test_no_pickle_runs_code(tmp_path: Path, parts: list[Part], attack: str, hidden: bool) -> None:
    make, message = ATTACKS[attack]
    mark = tmp_path / "mark"
    content = make(str(mark))
    if hidden:  # on top of a set that is all right, thrown away again
        content = python2_pickle(parts)[:-1] + content.removesuffix(b".") + b"0."
    path = tmp_path / "mnist.pkl.gz"
    path.write_bytes(gzip.compress(content))
    with pytest.raises(DataError, match=message) as info:
        load_mnist_pickle(path)
    assert str(path) in str(info.value)
    assert not mark.exists()


def test_the_attacks_would_work_on_pickle(tmp_path: Path) -> None:
    for name in ("os.system", "eval"):
        mark = tmp_path / name
        result = pickle.loads(ATTACKS[name][0](str(mark)))
        if hasattr(result, "close"):
            result.close()
        assert mark.exists()


def state(shape: object, dtype: object, raw: object) -> Any:
    """An array whose state is made up."""

    class Lies:
        def __reduce__(self) -> Any:
            reconstruct, args, _ = np.zeros(1).__reduce__()
            return reconstruct, args, (1, shape, dtype, False, raw)

    return Lies()


F4 = np.dtype("f4")


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (state((1 << 40, 784), F4, b"\0" * 8), r"shape \(1099511627776, 784\) .*, but of 8 bytes"),
        (state((1 << 70,), F4, b""), "but of 0 bytes"),
        (state((-1, 784), F4, b""), r"shape \(-1, 784\)"),
        (state((1.5,), F4, b""), r"shape \(1.5,\)"),
        (state(5, F4, b"\0" * 20), "shape 5"),
        (state((1, 784), np.dtype(object), [None] * 784), r"dtype \|O8, not of numbers"),
        (state((1, 784), np.dtype([("a", "f4")]), b""), r"dtype \|V4, not of numbers"),
        (state((1, 784), np.dtype("M8[s]"), b""), "dtype <M8, not of numbers"),
        (state((1, 784), np.dtype("c8"), b""), "dtype <c8, not of numbers"),
        (state((1, 784), "f4", b""), "whose dtype is (str|bytes)"),
        (state((1, 784), F4, "text"), "whose numbers are a (str|bytes)|but of 4 bytes"),
        (state((1, 784), F4, [0.5] * 784), "whose numbers are a list"),
        (np.zeros((3, 784), object), r"dtype \|O8, not of numbers"),
        (np.zeros((3, 783), np.float32), r"float32 of shape \(3, 783\), not floats of \(n, 784\)"),
        (np.zeros((3, 28, 28), np.float32), r"of shape \(3, 28, 28\)"),
        (np.zeros((0, 784), np.float32), r"of shape \(0, 784\)"),
        (np.zeros((3, 784), np.uint8), "are uint8"),
        (np.full((3, 784), 255.0, np.float32), r"not within 0\.\.1: 255\.0 to 255\.0"),
        (np.full((3, 784), -0.5, np.float32), r"not within 0\.\.1"),
        (np.full((3, 784), np.nan, np.float32), r"not within 0\.\.1: nan to nan"),
        ([0.5] * 784, "images are a list, no array"),
        (None, "images are a NoneType, no array"),
    ],
)
def test_images_that_are_none(tmp_path: Path, images: Any, message: str) -> None:
    path = tmp_path / "mnist.pkl"
    good = part(3, 0)
    path.write_bytes(pickle.dumps((good, (images, good[1]), good), 4))
    with pytest.raises(DataError, match=f"mnist.pkl.* validation .*{message}"):
        load_mnist_pickle(path)


@pytest.mark.parametrize(
    ("labels", "error", "message"),
    [
        (np.array([0, 1, 10]), LabelError, r"label 10 at row 2, and 1 in all, are outside 0\.\.9"),
        (np.array([0, -1, -2]), LabelError, "label -1 at row 1, and 2 in all"),
        (np.array([0.0, 1, 2]), DataError, r"float64 of shape \(3,\), not integers of \(3,\)"),
        (np.array([0, 1]), DataError, r"int64 of shape \(2,\), not integers of \(3,\)"),
        (np.array([[0], [1], [2]]), DataError, r"int64 of shape \(3, 1\)"),
    ],
)
def test_labels_that_are_none(
    tmp_path: Path, labels: np.ndarray, error: type[Exception], message: str
) -> None:
    path = tmp_path / "mnist.pkl"
    good = part(3, 0)
    path.write_bytes(pickle.dumps(((good[0], labels), good, good)))
    with pytest.raises(error, match=message):
        load_mnist_pickle(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([1, 2], "not three data sets"),
        ({"train": 1}, "not three data sets"),
        ((1, 2, 3), r"its training set is no pair \(images, labels\)"),
    ],
)
def test_another_structure(tmp_path: Path, content: Any, message: str) -> None:
    path = tmp_path / "mnist.pkl"
    path.write_bytes(pickle.dumps(content))
    with pytest.raises(DataError, match=message):
        load_mnist_pickle(path)


def test_an_array_without_its_state(tmp_path: Path) -> None:
    bare = b"\x80\x02cnumpy.core.multiarray\n_reconstruct\n)R"
    path = tmp_path / "mnist.pkl"
    path.write_bytes(b"\x80\x02" + (bare + b"K\x01\x86") * 3 + b"\x87.")
    with pytest.raises(DataError, match=r"without its shape and dtype|no pickle of arrays"):
        load_mnist_pickle(path)


@pytest.mark.parametrize("share", [0, 0.01, 0.3, 0.99])
def test_a_broken_off_pickle(tmp_path: Path, parts: list[Part], share: float) -> None:
    content = python2_pickle(parts)
    path = tmp_path / "mnist.pkl"
    path.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(DataError, match=r"mnist\.pkl is damaged: no pickle of arrays"):
        load_mnist_pickle(path)
    path.write_bytes(gzip.compress(content)[: int(10000 * share)])
    with pytest.raises(DataError, match=r"mnist\.pkl is damaged: "):
        load_mnist_pickle(path)


def test_a_file_that_unpacks_without_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("groundup.data.pickles._LIMIT", 1 << 16)
    path = tmp_path / "mnist.pkl.gz"
    path.write_bytes(gzip.compress(bytes(1 << 20)))
    with pytest.raises(DataError, match="it unpacks to more than the 65,536 bytes"):
        load_mnist_pickle(path)


def test_no_file_and_no_such_split(tmp_path: Path) -> None:
    with pytest.raises(DataNotFoundError, match=r"there is no file .*mnist\.pkl"):
        load_mnist_pickle(tmp_path / "mnist.pkl")
    with pytest.raises(DataError, match="split='train'"):
        load_mnist_pickle(tmp_path / "mnist.pkl", split="train")
