import gzip
import re
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from hypothesis.extra import numpy as hnp

from groundup.data import read_idx
from groundup.errors import DataError, DataNotFoundError

ToIdx = Callable[[np.ndarray], bytes]
ARRAYS = st.sampled_from(["u1", "i1", "i2", "i4", "f4", "f8"]).flatmap(
    lambda dtype: hnp.arrays(dtype, hnp.array_shapes(max_dims=5, max_side=5, min_side=0))
)


@settings(max_examples=60, deadline=None)
@given(array=ARRAYS, packed=st.booleans())
def test_reads_back_what_was_written(to_idx: ToIdx, array: np.ndarray, packed: bool) -> None:
    content = to_idx(array)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "array.idx")
        path.write_bytes(gzip.compress(content) if packed else content)
        got = read_idx(path)
    assert got.dtype == array.dtype
    assert got.dtype.isnative
    assert got.flags.writeable
    np.testing.assert_array_equal(got, array, strict=True)


@pytest.fixture
def images(tmp_path: Path, to_idx: ToIdx) -> Callable[..., Path]:
    """images(change): the file of five 4x3 images, its bytes changed."""

    def write(change: Callable[[bytes], bytes], name: str = "images.idx") -> Path:
        array = np.arange(60, dtype=np.uint8).reshape(5, 4, 3)
        path = tmp_path / name
        path.write_bytes(change(to_idx(array)))
        return path

    return write


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda b: b[:-1], r"its header says \(5, 4, 3\), 76 bytes; the file's 75 are too few"),
        (lambda b: b + b"!", r"its header says \(5, 4, 3\), 76 bytes, but it holds 77"),
        (lambda b: b[:10], "it ends within its header of 16 bytes"),
        (lambda b: b"", "it starts with the bytes '', which is no IDX file"),
        (lambda b: b"\x89PNG" + b, "it starts with the bytes '89 50 4e 47'"),
        (lambda b: b"\0\0\x07" + b[3:], "it starts with the bytes '00 00 07 03'"),
        (lambda b: b"\0\0\x08\0" + b[4:], "it starts with the bytes '00 00 08 00'"),
        (lambda b: b[:4] + b"\xff" * 12 + b[16:], r"\(4294967295, 4294967295, 4294967295\)"),
    ],
)
def test_a_damaged_file_is_named(
    images: Callable[..., Path], change: Callable[[bytes], bytes], message: str
) -> None:
    path = images(change)
    with pytest.raises(DataError, match=f"{re.escape(str(path))} is damaged: .*{message}") as info:
        read_idx(path)
    assert "Delete it and load again, or put a whole copy in its place" in str(info.value)


def _huge(content: bytes) -> bytes:
    # A header of 16 EiB, which the packed file cannot hold: refused before anything is allocated.
    return gzip.compress(content[:4] + b"\xff\xff\xff\xff" * 2 + content[12:])


def _flipped(content: bytes) -> bytes:
    packed = bytearray(gzip.compress(content))
    packed[-8] ^= 1  # the checksum
    return bytes(packed)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda b: gzip.compress(b)[:-9], "the gzip stream breaks off after"),
        (lambda b: gzip.compress(b)[:30], "the gzip stream breaks off after 22 "),
        (lambda b: gzip.compress(b)[:12], "it starts with the bytes '00'"),
        (lambda b: gzip.compress(b) + b"tail", "4 bytes follow the end of the gzip stream"),
        (lambda b: gzip.compress(b + b"!"), "it unpacks to more than the 76 bytes"),
        (lambda b: gzip.compress(b[:-1]), "76 bytes, but it holds 75"),
        (lambda b: gzip.compress(b)[:18], "it ends within its header"),
        (lambda b: gzip.compress(b)[:10] + b"\xff" * 50, "it cannot be unpacked .*invalid block"),
        (_flipped, "it cannot be unpacked .*incorrect data check"),
        (_huge, "the file's .* are too few"),
    ],
)
def test_a_damaged_gzip_file_is_named(
    images: Callable[..., Path], change: Callable[[bytes], bytes], message: str
) -> None:
    path = images(change, "images.gz")
    with pytest.raises(DataError, match=f"{re.escape(str(path))} is damaged: .*({message})"):
        read_idx(path)


def test_every_truncation_is_an_error(images: Callable[..., Path]) -> None:
    whole = gzip.compress(images(lambda b: b).read_bytes())
    for length in range(len(whole)):
        path = images(lambda b, n=length: whole[:n], "images.gz")
        with pytest.raises(DataError, match="is damaged"):
            read_idx(path)


def test_no_file_and_no_readable_file(tmp_path: Path) -> None:
    with pytest.raises(DataNotFoundError, match=r"there is no file .*nowhere"):
        read_idx(tmp_path / "nowhere")
    with pytest.raises(DataError, match="cannot be read: Is a directory"):
        read_idx(tmp_path)
