"""A folder of images, one subfolder a class. Needs Pillow: pip install groundup[images]."""

import os
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from groundup.data.extras import optional
from groundup.data.scaling import to_unit
from groundup.data.split import Split, split_rows
from groundup.errors import DataError, DataNotFoundError

SUFFIXES: Final = (
    ".bmp",
    ".gif",
    ".jpeg",
    ".jpg",
    ".pbm",
    ".pgm",
    ".png",
    ".ppm",
    ".tif",
    ".tiff",
    ".webp",
)


class ImageFolder(NamedTuple):
    """`split, classes = image_folder(path)`; classes[label] is the subfolder's name."""

    split: Split
    classes: tuple[str, ...]


def image_folder(
    path: str | os.PathLike[str],
    size: int | tuple[int, int] | None = None,
    grayscale: bool = True,
    valid: float = 0.2,
    seed: int = 0,
    *,
    flat: bool = True,
) -> ImageFolder:
    """The images in path/CLASS/FILE as a Split, and the classes' names in alphabetical order.

    x is float32 in 0..1, (n, channels * height * width), or (n, channels, height, width) with
    flat=False; channels is 1, or 3 (red, green, blue) with grayscale=False. y is int64 (n,). `size`
    (height, width), or one number for both, resizes every image; without it all must be of one
    size. ceil(valid * n) images are held out, the same share of every class: see `split_rows`.

    Files whose name starts with a dot or does not end in an image's suffix are left out, and so
    are folders within a class's folder. See `load_images` for how a file becomes numbers.

    Errors: DataNotFoundError without the folder; DataError, which names the file or folder, if
    there are no subfolders, if one is empty or cannot be read, if an image is damaged or has more
    than 8 bits a channel, or if sizes differ; MissingDependencyError without Pillow.
    """
    path = os.path.expanduser(os.fspath(path))
    classes = tuple(entry.name for entry in _visible(path) if entry.is_dir())
    if not classes:
        raise DataError(
            f"{path} has no subfolders: put each class's images into a folder of its own"
        )
    paths: list[str] = []
    counts = []
    for name in classes:
        entries = _visible(os.path.join(path, name))
        files = [e.path for e in entries if e.is_file() and _suffix(e.name) in SUFFIXES]
        if not files:
            raise DataError(
                f"{os.path.join(path, name)}: the class has no images directly in its folder. Put "
                f"some there ({' '.join(SUFFIXES)}) or delete the folder"
            )
        paths += files
        counts.append(len(files))
    x = load_images(paths, size, grayscale, flat=flat)
    y = np.repeat(np.arange(len(classes), dtype=np.int64), counts)
    train, held = split_rows(y, valid, seed)
    return ImageFolder(Split(x[train], y[train], x[held], y[held]), classes)


def load_images(
    paths: Sequence[str | os.PathLike[str]],
    size: int | tuple[int, int] | None = None,
    grayscale: bool = True,
    *,
    flat: bool = True,
) -> NDArray[np.float32]:
    """Image files as float32 in 0..1, in the order given: x of `image_folder`, for predictions.

    Each is turned as its EXIF orientation says, laid on white where it is transparent, made gray
    or RGB, resized (bilinearly, without keeping its proportions) if `size` is given, and divided
    by 255. Of an animation the first frame counts. Errors as `image_folder`'s.
    """
    if not paths:
        raise DataError("load_images: no paths")
    if size is not None:
        height, width = (size, size) if isinstance(size, int) else size
        if height < 1 or width < 1:
            raise DataError(f"size={size}: height and width must be at least 1")
    pil = optional("PIL.Image", "images", "Reading images")
    ops = optional("PIL.ImageOps", "images", "Reading images")
    raw: NDArray[np.uint8] | None = None
    for i, given in enumerate(paths):
        path = os.fspath(given)
        image = _open(pil, ops, path, "L" if grayscale else "RGB")
        if size is not None:
            image = image.resize((width, height), pil.Resampling.BILINEAR)
        pixels = np.asarray(image, np.uint8).reshape(image.height, image.width, -1)
        if raw is None:
            raw = np.empty((len(paths), pixels.shape[2], *pixels.shape[:2]), np.uint8)
        if pixels.shape[:2] != raw.shape[2:]:
            raise DataError(
                f"{path} is {pixels.shape[0]}x{pixels.shape[1]} (height x width), but "
                f"{os.fspath(paths[0])} is {raw.shape[2]}x{raw.shape[3]}: pass size= to resize all"
            )
        raw[i] = pixels.transpose(2, 0, 1)
    assert raw is not None
    return to_unit(raw.reshape(len(raw), -1) if flat else raw, 255)


def _open(pil: Any, ops: Any, path: str, mode: str) -> Any:
    try:
        with pil.open(path) as file:
            if file.mode[0] in "IF":  # 16 and 32 bits: converting would cut them off at 255
                raise DataError(
                    f"{path} has more than 8 bits a channel (mode {file.mode}): convert it first"
                )
            image = ops.exif_transpose(file)
            if "A" in image.getbands() or "transparency" in image.info:
                image = image.convert("RGBA")
                image = pil.alpha_composite(pil.new("RGBA", image.size, "white"), image)
            return image.convert(mode)
    except DataError:
        raise
    except FileNotFoundError as error:
        raise DataNotFoundError(f"there is no image {path}") from error
    except Exception as error:  # decoders raise nearly anything over a damaged file
        raise DataError(
            f"{path} cannot be read as an image ({type(error).__name__}: {error}). Delete it or "
            "put a whole copy in its place"
        ) from error


def _visible(folder: str) -> list[os.DirEntry[str]]:
    """The folder's entries by name, without the hidden ones."""
    try:
        with os.scandir(folder) as entries:
            return sorted((e for e in entries if not e.name.startswith(".")), key=lambda e: e.name)
    except FileNotFoundError as error:
        raise DataNotFoundError(f"there is no folder {folder}") from error
    except OSError as error:
        raise DataError(
            f"{folder} cannot be listed: {error.strerror}. Check that it is a folder and its "
            "permissions"
        ) from error


def _suffix(name: str) -> str:
    return os.path.splitext(name)[1].lower()
