import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from groundup.data import ImageFolder, Split, image_folder, load_images
from groundup.errors import DataError, DataNotFoundError, MissingDependencyError

Image: Any = pytest.importorskip("PIL.Image")


@pytest.fixture
def shapes(tmp_path: Path) -> Path:
    """Ten 6x8 (height x width) gray images in each of two classes, each of one brightness."""
    folder = tmp_path / "shapes"
    for label, name in enumerate(["square", "circle"]):
        (folder / name).mkdir(parents=True)
        for i in range(10):
            gray = np.full((6, 8), 100 * label + i, np.uint8)
            Image.fromarray(gray).save(folder / name / f"{i}.png")
    return folder


def test_a_folder_of_images(shapes: Path) -> None:
    split, classes = result = image_folder(shapes)
    assert isinstance(result, ImageFolder)
    assert isinstance(split, Split)
    assert classes == ("circle", "square")  # in alphabetical order
    assert [a.shape for a in split] == [(16, 48), (16,), (4, 48), (4,)]
    assert [a.dtype for a in split] == [np.float32, np.int64, np.float32, np.int64]
    assert np.bincount(split.y_valid).tolist() == [2, 2]
    # Every image once, with its own label, none in both parts.
    x, y = np.concatenate([split.x_train, split.x_valid]), np.concatenate(split[1::2])
    grays = np.round(x * 255).astype(int)
    assert (grays == grays[:, :1]).all()
    assert sorted(grays[:, 0]) == [*range(10), *range(100, 110)]
    np.testing.assert_array_equal(y, grays[:, 0] < 100)
    assert len(set(split.y_train[:8])) == 2  # not class by class


def test_options(shapes: Path) -> None:
    assert image_folder(str(shapes), flat=False).split.x_train.shape == (16, 1, 6, 8)
    colour = image_folder(shapes, size=(4, 5), grayscale=False, flat=False, valid=0.5).split
    assert colour.x_train.shape == (10, 3, 4, 5)
    assert image_folder(shapes, size=7, valid=0).split.x_train.shape == (20, 49)
    assert image_folder(shapes, valid=0).split.x_valid.shape == (0, 48)
    first, other = image_folder(shapes).split, image_folder(shapes, seed=1).split
    np.testing.assert_array_equal(image_folder(shapes).split.x_valid, first.x_valid)
    assert not np.array_equal(other.x_valid, first.x_valid)


def test_colours_and_axes(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (5, 7, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    x = load_images([tmp_path / "a.png"], grayscale=False, flat=False)
    np.testing.assert_array_equal(x[0], (pixels.transpose(2, 0, 1) / 255).astype(np.float32))
    flat = load_images([tmp_path / "a.png"], grayscale=False)
    np.testing.assert_array_equal(flat[0], x[0].ravel())
    gray = load_images([tmp_path / "a.png"], flat=False)
    luma = pixels @ [0.299, 0.587, 0.114] / 255
    np.testing.assert_allclose(gray[0, 0], luma, atol=1 / 255)


def test_load_images_keeps_the_order_of_the_paths(shapes: Path) -> None:
    paths = [shapes / "circle" / f"{i}.png" for i in (7, 2, 5)]
    assert np.round(load_images(paths)[:, 0] * 255).tolist() == [107, 102, 105]


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P", "1"])
def test_transparent_and_other_modes(tmp_path: Path, mode: str) -> None:
    path = tmp_path / "a.png"
    if mode == "P":
        image = Image.new("P", (2, 1))
        image.putpalette([0, 0, 0, 0, 0, 0])
        image.putpixel((1, 0), 1)
        image.save(path, transparency=0)
        expected = [1, 0]
    elif mode == "1":
        image = Image.new("1", (2, 1))
        image.putpixel((0, 0), 1)
        image.save(path)
        expected = [1, 0]
    else:  # black everywhere; seen on the right only
        pixels = np.zeros((1, 2, len(mode)), np.uint8)
        pixels[0, 1, -1] = 255
        Image.fromarray(pixels, mode=None).save(path)
        expected = [1, 0]
    assert load_images([path])[0].tolist() == expected


def test_photos_are_turned_as_they_say(tmp_path: Path) -> None:
    image = Image.fromarray(np.array([[0, 100, 200]], np.uint8))
    exif = image.getexif()
    exif[0x0112] = 6  # turn clockwise by 90 degrees
    image.save(tmp_path / "a.png", exif=exif)
    x = load_images([tmp_path / "a.png"], flat=False)
    assert x.shape == (1, 1, 3, 1)
    assert np.round(x[0, 0, :, 0] * 255).tolist() == [0, 100, 200]


def test_what_is_left_out(shapes: Path) -> None:
    (shapes / ".hidden").mkdir()
    (shapes / "README.txt").write_text("no class")
    (shapes / "circle" / ".DS_Store").write_text("no image")
    (shapes / "circle" / "._1.png").write_text("no image")
    (shapes / "circle" / "notes.txt").write_text("no image")
    (shapes / "circle" / "more.png").mkdir()
    split, classes = image_folder(shapes)
    assert classes == ("circle", "square")
    assert len(split.x_train) + len(split.x_valid) == 20


def test_sizes_that_differ(shapes: Path) -> None:
    odd = shapes / "square" / "3.png"
    Image.new("L", (9, 6)).save(odd)
    with pytest.raises(
        DataError,
        match=rf"{odd} is 6x9 \(height x width\), but .*/circle/0.png is 6x8: pass size= to resize",
    ):
        image_folder(shapes)
    assert image_folder(shapes, size=(6, 8)).split.x_train.shape == (16, 48)


def _truncated(path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (64, 64), np.uint8)
    Image.fromarray(pixels).save(path)
    path.write_bytes(path.read_bytes()[:-500])


def _flipped(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[20] ^= 255
    path.write_bytes(content)


@pytest.mark.parametrize(
    "damage",
    [lambda p: p.write_bytes(b""), lambda p: p.write_text("no image"), _truncated, _flipped],
)
def test_damaged_images(shapes: Path, damage: Callable[[Path], Any]) -> None:
    path = shapes / "square" / "3.png"
    damage(path)
    with pytest.raises(DataError, match=rf"{path} cannot be read as an image \(.*Delete it or put"):
        image_folder(shapes, size=8)


def test_images_of_more_than_8_bits(shapes: Path) -> None:
    Image.fromarray(np.full((6, 8), 1000, np.uint16)).save(shapes / "square" / "3.png")
    with pytest.raises(DataError, match=r"square/3.png has more than 8 bits a channel \(mode I"):
        image_folder(shapes)


def test_a_bomb(shapes: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    with pytest.raises(DataError, match=r"0.png cannot be read as an image .DecompressionBomb"):
        image_folder(shapes)


def test_folders_that_are_none(tmp_path: Path, shapes: Path) -> None:
    with pytest.raises(DataNotFoundError, match=r"there is no folder .*/shape$"):
        image_folder(tmp_path / "shape")
    with pytest.raises(DataError, match=r"0\.png cannot be listed: Not a directory"):
        image_folder(shapes / "circle" / "0.png")
    with pytest.raises(DataError, match="circle has no subfolders: put each class's images into"):
        image_folder(shapes / "circle")
    (shapes / "triangle").mkdir()
    with pytest.raises(DataError, match="triangle: the class has no images directly in its folder"):
        image_folder(shapes)
    with pytest.raises(DataError, match="shapes: the class has no images directly in its folder"):
        image_folder(tmp_path)


def test_a_class_that_may_not_be_listed(shapes: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.scandir

    def scandir(path: str) -> Any:  # root may list everything, so permissions would not do
        if str(path).endswith("square"):
            raise PermissionError(13, "Permission denied", path)
        return real(path)

    monkeypatch.setattr(os, "scandir", scandir)
    with pytest.raises(DataError, match=r"square cannot be listed: Permission denied. Check"):
        image_folder(shapes)


def test_arguments_that_are_none(shapes: Path) -> None:
    with pytest.raises(DataError, match="load_images: no paths"):
        load_images([])
    with pytest.raises(DataNotFoundError, match=r"there is no image .*x.png"):
        load_images([shapes / "x.png"])
    for size in (0, (3, 0), -1):
        with pytest.raises(DataError, match=r"size=.*: height and width must be at least 1"):
            image_folder(shapes, size=size)
    with pytest.raises(DataError, match="valid=1: the share"):
        image_folder(shapes, valid=1)


def test_without_pillow(shapes: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "PIL.Image", None)
    with pytest.raises(
        MissingDependencyError,
        match=r"Reading images needs PIL, .*Fix: pip install groundup\[images\]",
    ):
        image_folder(shapes)
