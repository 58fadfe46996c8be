import gzip
import os
import re
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from groundup.data import DIGIT_CLASSES, FASHION_CLASSES, digits, fashion_mnist, mnist, sets
from groundup.data.sets import FASHION, FILES, Source, load
from groundup.errors import DataError, DataNotFoundError, LabelError

DEBIAN = Path("/usr/share/datasets/fashion-mnist")
needs_debian = pytest.mark.skipif(
    not DEBIAN.is_dir(), reason="Debian's dataset-fashion-mnist is not installed"
)
ToIdx = Callable[[np.ndarray], bytes]


def test_digits() -> None:
    x_train, y_train, x_valid, y_valid = split = digits()
    assert [a.shape for a in split] == [(1437, 64), (1437,), (360, 64), (360,)]
    assert [a.dtype for a in split] == [np.float32, np.int64, np.float32, np.int64]
    x, y = np.concatenate([x_train, x_valid]), np.concatenate([y_train, y_valid])
    assert (x.min(), x.max()) == (0, 1)
    assert (x * 16 == np.round(x * 16)).all()
    # The counts that the data set's own description gives for its test file.
    assert np.bincount(y).tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]
    assert np.bincount(y_valid).min() >= 35
    assert np.bincount(y_valid).max() <= 37
    images = digits(flat=False)
    assert images.x_train.shape == (1437, 1, 8, 8)
    np.testing.assert_array_equal(images.x_valid.reshape(360, 64), x_valid)
    for again, first in zip(digits(), split, strict=True):
        np.testing.assert_array_equal(again, first)


def test_digits_are_scikit_learns() -> None:
    theirs = pytest.importorskip("sklearn.datasets").load_digits()
    x_train, y_train, x_valid, y_valid = digits()
    rows = np.column_stack(
        [np.concatenate([x_train, x_valid]) * 16, np.concatenate([y_train, y_valid])]
    )
    expected = np.column_stack([theirs.data, theirs.target])
    np.testing.assert_array_equal(rows[np.lexsort(rows.T)], expected[np.lexsort(expected.T)])


def test_digits_are_small_and_attributed() -> None:
    folder = Path(sets.__file__).parent
    assert (folder / "digits.npz").stat().st_size < 100 * 1024
    text = (folder / "digits-ATTRIBUTION.txt").read_text()
    assert "Alpaydin" in text
    assert "CC BY 4.0" in text


@needs_debian
def test_fashion_mnist_from_debian(tmp_path: Path) -> None:
    start = time.perf_counter()
    x_train, y_train, x_valid, y_valid = fashion_mnist(cache=tmp_path)
    seconds = time.perf_counter() - start
    assert x_train.shape == (50_000, 784)
    assert x_valid.shape == (10_000, 784)
    assert x_train.dtype == np.float32
    assert y_train.dtype == np.int64
    assert (x_train.min(), x_train.max()) == (0, 1)
    # Published facts: 6,000 of each class in the training file, whose first item is a boot.
    assert np.bincount(np.concatenate([y_train, y_valid])).tolist() == [6000] * 10
    assert FASHION_CLASSES[y_train[0]] == "Ankle boot"
    assert x_train.mean() == pytest.approx(0.286, abs=0.001)
    assert seconds < 10  # about 0.4 s on an idle machine
    assert not any(tmp_path.iterdir())


@needs_debian
def test_fashion_mnist_test_split_and_images() -> None:
    x, y, x_test, y_test = fashion_mnist(split="test", flat=False)
    assert (x.shape, x_test.shape) == ((60_000, 1, 28, 28), (10_000, 1, 28, 28))
    assert np.bincount(y_test).tolist() == [1000] * 10
    assert len(y) == 60_000


def _rename(folder: Path, new: Callable[[str], str]) -> None:
    for path in folder.iterdir():
        path.rename(folder / new(path.name))


def _unpack(folder: Path) -> None:
    for path in list(folder.iterdir()):
        (folder / path.name.removesuffix(".gz")).write_bytes(gzip.decompress(path.read_bytes()))
        path.unlink()


@pytest.mark.parametrize("dotted", [False, True])
@pytest.mark.parametrize("packed", [False, True])
def test_every_spelling_of_the_files(
    mnist_folder: Path, mnist_files: dict[str, bytes], packed: bool, dotted: bool
) -> None:
    if not packed:
        _unpack(mnist_folder)
    if dotted:
        _rename(mnist_folder, lambda name: name.replace("-idx", ".idx"))
    x_train, y_train, x_valid, y_valid = mnist(mnist_folder)
    raw = np.frombuffer(mnist_files[FILES[0]], np.uint8, offset=16).reshape(60, 784)
    labels = np.frombuffer(mnist_files[FILES[1]], np.uint8, offset=8)
    # The naive twin: through float64, rounded once.
    np.testing.assert_array_equal(x_train, (raw[:50] / 255).astype(np.float32), strict=True)
    np.testing.assert_array_equal(x_valid, (raw[50:] / 255).astype(np.float32), strict=True)
    np.testing.assert_array_equal(y_train, labels[:50].astype(np.int64), strict=True)
    np.testing.assert_array_equal(y_valid, labels[50:].astype(np.int64), strict=True)


def test_test_split_and_images(mnist_folder: Path) -> None:
    flat = mnist(str(mnist_folder), split="test")
    assert [a.shape for a in flat] == [(60, 784), (60,), (10, 784), (10,)]
    images = mnist(mnist_folder, split="test", flat=False)
    assert images.x_train.shape == (60, 1, 28, 28)
    np.testing.assert_array_equal(images.x_valid.reshape(10, 784), flat.x_valid)
    with pytest.raises(DataError, match=r"split='all': take 'lesson' .* or 'test'"):
        mnist(mnist_folder, split="all")  # type: ignore[arg-type]


def test_the_lesson_needs_no_test_files(mnist_folder: Path) -> None:
    for name in FILES[2:]:
        (mnist_folder / f"{name}.gz").unlink()
    assert len(mnist(mnist_folder).x_train) == 50
    with pytest.raises(
        DataNotFoundError,
        match="has some of the files but lacks t10k-images-idx3-ubyte, t10k-labels-idx1-ubyte",
    ):
        mnist(mnist_folder, split="test")


def test_order_of_places(
    tmp_path: Path, mnist_folder: Path, source: Callable[..., Source], to_idx: ToIdx
) -> None:
    def place(name: str, value: int) -> Path:
        folder = tmp_path / name
        folder.mkdir(parents=True)
        (folder / FILES[0]).write_bytes(to_idx(np.full((6, 28, 28), value, np.uint8)))
        (folder / FILES[1]).write_bytes(to_idx(np.zeros(6, np.uint8)))
        return folder

    given, cached, system = place("given", 51), place("cache/tiny", 102), place("system", 153)
    where = source()._replace(folders=(str(system),))

    def first_pixel(folder: Path | None) -> float:
        return round(
            float(load(where, folder, tmp_path / "cache", True, "lesson").x_train[0, 0]), 3
        )

    assert first_pixel(given) == 0.2
    empty = tmp_path / "empty"
    empty.mkdir()
    assert first_pixel(empty) == 0.4
    assert first_pixel(None) == 0.4
    shutil.rmtree(cached)
    assert first_pixel(None) == 0.6


def test_a_half_set_in_the_cache_does_not_hide_a_whole_one(
    tmp_path: Path, mnist_folder: Path, source: Callable[..., Source]
) -> None:
    cached = tmp_path / "cache" / "tiny"
    cached.mkdir(parents=True)
    shutil.copy(mnist_folder / f"{FILES[0]}.gz", cached)
    where = source()._replace(folders=(str(mnist_folder),))
    assert len(load(where, None, tmp_path / "cache", True, "lesson").x_train) == 50


def test_default_cache_is_the_platforms(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import pooch

    from groundup.data.download import cache_folder

    assert cache_folder(None) == str(pooch.os_cache("groundup"))
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_folder("~/mine") == str(tmp_path / "mine")
    (tmp_path / "data").mkdir()
    with pytest.raises(DataNotFoundError, match=f"there is no folder {tmp_path}/dat$"):
        mnist("~/dat")


def test_no_such_folder(tmp_path: Path) -> None:
    with pytest.raises(DataNotFoundError, match=r"MNIST: there is no folder .*/mnit"):
        mnist(tmp_path / "mnit")
    file = tmp_path / "a.pkl"
    file.write_bytes(b"")
    with pytest.raises(DataNotFoundError, match=r"Fashion-MNIST: there is no folder .*a\.pkl"):
        fashion_mnist(file)


@pytest.mark.parametrize(
    ("name", "array", "error", "message"),
    [
        (FILES[1], np.zeros(59, np.uint8), DataError, "holds 60 images, but .* 59 labels"),
        (FILES[1], np.full(60, 10, np.uint8), LabelError, "label 10 at row 0, and 60 in all"),
        (FILES[1], np.zeros((60, 1), np.uint8), DataError, r"uint8 of shape \(60, 1\), not bytes"),
        (FILES[0], np.zeros((60, 28, 27), np.uint8), DataError, r"shape \(60, 28, 27\), not bytes"),
        (FILES[0], np.zeros((60, 28, 28), np.int32), DataError, "holds int32 of shape"),
        (FILES[0], np.zeros((60, 784), np.uint8), DataError, r"shape \(60, 784\), not bytes"),
    ],
)
def test_files_that_do_not_fit(
    mnist_folder: Path,
    to_idx: ToIdx,
    name: str,
    array: np.ndarray,
    error: type[Exception],
    message: str,
) -> None:
    path = mnist_folder / f"{name}.gz"
    path.write_bytes(to_idx(array))  # gzip is recognised by its content
    with pytest.raises(error, match=message) as info:
        mnist(mnist_folder)
    assert str(path) in str(info.value)


def test_too_few_images_to_split(mnist_folder: Path, to_idx: ToIdx) -> None:
    (mnist_folder / f"{FILES[0]}.gz").write_bytes(to_idx(np.zeros((5, 28, 28), np.uint8)))
    (mnist_folder / f"{FILES[1]}.gz").write_bytes(to_idx(np.zeros(5, np.uint8)))
    with pytest.raises(DataError, match="holds 5 images: too few to hold out a sixth"):
        mnist(mnist_folder)


def test_class_names() -> None:
    assert len(set(FASHION_CLASSES)) == 10
    assert "".join(DIGIT_CLASSES) == "0123456789"


@pytest.mark.parametrize("source_", [sets.MNIST, FASHION], ids=lambda s: s.name)
def test_the_sums_are_of_the_form_that_pooch_takes(source_: Source) -> None:
    assert all(re.fullmatch("[0-9a-f]{64}", s) for s in source_.sha256)
    assert len(set(source_.sha256)) == len(FILES)
    assert all(mirror.endswith("/") for mirror in source_.mirrors)
    assert len(source_.mirrors) >= 2


@needs_debian
def test_the_sums_are_the_published_files() -> None:
    # Debian packed the same deflate streams without name and date (gzip -n). With the name and the
    # date of the originals put back, the files are the published ones, bit by bit.
    import hashlib

    dates = (1504176606, 1504176606, 1504176627, 1504176627)
    for name, date, expected in zip(FILES, dates, FASHION.sha256, strict=True):
        content = (DEBIAN / f"{name}.gz").read_bytes()
        head = b"\x1f\x8b\x08\x08" + date.to_bytes(4, "little") + content[8:10]
        original = head + name.encode() + b"\0" + content[10:]
        assert hashlib.sha256(original).hexdigest() == expected


def test_reading_needs_no_permission_to_write(tmp_path: Path, mnist_folder: Path) -> None:
    os.chmod(mnist_folder, 0o555)
    try:
        assert len(mnist(mnist_folder, cache=tmp_path / "not made").y_train) == 50
    finally:
        os.chmod(mnist_folder, 0o755)
    assert not (tmp_path / "not made").exists()
