"""The data sets of the lessons: digits, MNIST, Fashion-MNIST."""

import os
from typing import Final, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from groundup.data.download import cache_folder, download
from groundup.data.idx import read_idx
from groundup.data.pickles import check_labels, check_split, load_mnist_pickle
from groundup.data.scaling import to_unit
from groundup.data.split import Split, split_rows
from groundup.errors import DataError, DataNotFoundError

FASHION_CLASSES: Final = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)
DIGIT_CLASSES: Final = ("0", "1", "2", "3", "4", "5", "6", "7", "8", "9")

FILES: Final = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)

Path = str | os.PathLike[str]


class Source(NamedTuple):
    """Where a data set of MNIST's form comes from."""

    title: str
    name: str  # its folder in the cache
    mirrors: tuple[str, ...]
    sha256: tuple[str, str, str, str]  # of FILES, gzipped, as the mirrors serve them
    folders: tuple[str, ...]  # where a system package puts it
    pickle: str | None  # the file that holds all of it as a pickle


MNIST: Final = Source(
    title="MNIST",
    name="mnist",
    mirrors=(
        "https://ossci-datasets.s3.amazonaws.com/mnist/",
        "https://storage.googleapis.com/cvdf-datasets/mnist/",
    ),
    sha256=(
        "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
        "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
        "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
        "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
    ),
    folders=(),
    pickle="mnist.pkl.gz",
)
FASHION: Final = Source(
    title="Fashion-MNIST",
    name="fashion-mnist",
    mirrors=(
        "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
        "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/",
    ),
    sha256=(
        "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
        "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845",
        "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073",
        "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5",
    ),
    # Debian's dataset-fashion-mnist: the same streams, gzipped without name and date.
    folders=("/usr/share/datasets/fashion-mnist",),
    pickle=None,
)


def digits(*, flat: bool = True) -> Split:
    """1,797 handwritten digits of 8x8 pixels, which come with groundup: 1,437 and 360.

    x is float32 in 0..1 (the file's 0..16, divided), (n, 64), or (n, 1, 8, 8) with flat=False; y
    is int64 (n,), 0..9. A fifth of each digit is held out, by a permutation with the fixed seed 0.

    Alpaydin and Kaynak (1998), Optical Recognition of Handwritten Digits, UCI Machine Learning
    Repository, https://doi.org/10.24432/C50P49, CC BY 4.0: see digits-ATTRIBUTION.txt beside it.
    """
    with np.load(os.path.join(os.path.dirname(__file__), "digits.npz"), allow_pickle=False) as file:
        x = to_unit(file["images"], 16).reshape((-1, 64) if flat else (-1, 1, 8, 8))
        y = file["labels"].astype(np.int64)
    train, valid = split_rows(y, valid=0.2, seed=0)
    return Split(x[train], y[train], x[valid], y[valid])


def mnist(
    folder: Path | None = None,
    *,
    cache: Path | None = None,
    flat: bool = True,
    split: Literal["lesson", "test"] = "lesson",
) -> Split:
    """MNIST's handwritten digits: x float32 in 0..1, y int64 in 0..9.

    x is (n, 784), or (n, 1, 28, 28) with flat=False. split="lesson" divides the training file into
    its first 50,000 and its last 10,000 images (of another number of images: the last sixth);
    split="test" gives the whole training file and the 10,000 test images.

    The files are looked for in `folder`, then in the cache, and are else downloaded to the cache,
    each verified by its SHA-256. They are IDX files, gzipped or not: train-images-idx3-ubyte.gz
    and so on, train-images.idx3-ubyte too. A `mnist.pkl.gz` in one of the folders, or a pickle
    named as `folder`, does as well: see `load_mnist_pickle`. All files come from one folder.
    cache: instead of the platform's folder (`pooch.os_cache("groundup")`); the files lie in its
    subfolder mnist.

    Errors: DataNotFoundError, with what was looked for, where, and what each mirror answered;
    DataError, with the path, for a damaged file; LabelError for labels outside 0..9.

    LeCun, Bottou, Bengio and Haffner (1998), Gradient-based learning applied to document
    recognition.
    """
    return load(MNIST, folder, cache, flat, split)


def fashion_mnist(
    folder: Path | None = None,
    *,
    cache: Path | None = None,
    flat: bool = True,
    split: Literal["lesson", "test"] = "lesson",
) -> Split:
    """Fashion-MNIST's pictures of clothes, of MNIST's form: FASHION_CLASSES names the labels.

    Arguments, result and errors are `mnist`'s. Between the cache (its subfolder fashion-mnist) and
    the mirrors it is looked for in /usr/share/datasets/fashion-mnist, where Debian's package
    dataset-fashion-mnist puts it. There is no pickle of it.

    Xiao, Rasul and Vollgraf (2017), Fashion-MNIST: a novel image dataset for benchmarking machine
    learning algorithms, https://arxiv.org/abs/1708.07747, MIT licence.
    """
    return load(FASHION, folder, cache, flat, split)


def load(source: Source, folder: Path | None, cache: Path | None, flat: bool, split: str) -> Split:
    """`source`'s arrays from a folder, the cache, the system or a mirror: see `mnist`."""
    check_split(split)
    names = FILES if split == "test" else FILES[:2]
    paths = _find(source, names, folder, cache)
    if isinstance(paths, str):
        return load_mnist_pickle(paths, flat=flat, split=split)
    x, y = _images_and_labels(paths[0], paths[1], flat)
    if split == "test":
        return Split(x, y, *_images_and_labels(paths[2], paths[3], flat))
    held = len(x) // 6
    if held == 0:
        raise DataError(f"{paths[0]} holds {len(x)} images: too few to hold out a sixth of them")
    return Split(x[:-held], y[:-held], x[-held:], y[-held:])


def _find(
    source: Source, names: tuple[str, ...], folder: Path | None, cache: Path | None
) -> list[str] | str:
    """The paths of the named files, or of the pickle that holds them all; downloaded if need be."""
    looked = []
    if folder is not None:
        given = os.path.expanduser(os.fspath(folder))
        if source.pickle is not None and os.path.isfile(given):
            return given
        if not os.path.isdir(given):
            raise DataNotFoundError(f"{source.title}: there is no folder {given}")
        if found := _in_folder(source, names, given):
            return found
        missing = [name for name in names if _spelling(given, name) is None]
        if len(missing) < len(names):
            raise DataNotFoundError(
                f"{source.title}: {given} has some of the files but lacks {', '.join(missing)} "
                "(.gz or not). Put them there too, or leave folder= out"
            )
        looked.append(given)

    cached = os.path.join(cache_folder(cache), source.name)
    for place in (cached, *source.folders):
        if found := _in_folder(source, names, place):
            return found
        looked.append(place)
    try:
        return [
            _spelling(cached, name) or download(f"{name}.gz", sha256, source.mirrors, cached)
            for name, sha256 in zip(names, source.sha256, strict=False)
        ]
    except DataNotFoundError as error:
        raise DataNotFoundError(
            f"{source.title} is in none of these folders: {', '.join(looked)}.\n{error}\n"
            f"Fix: put {', '.join(f'{name}.gz' for name in names)} into {cached}, or name the "
            "folder that has them with folder="
        ) from error


def _in_folder(source: Source, names: tuple[str, ...], folder: str) -> list[str] | str | None:
    found = [_spelling(folder, name) for name in names]
    whole = [path for path in found if path is not None]
    if len(whole) == len(names):
        return whole
    if source.pickle is not None and os.path.isfile(os.path.join(folder, source.pickle)):
        return os.path.join(folder, source.pickle)
    return None


def _spelling(folder: str, name: str) -> str | None:
    """The file of that name in `folder`, under any of the spellings in use."""
    for spelling in (name, name.replace("-idx", ".idx")):
        for path in (os.path.join(folder, spelling), os.path.join(folder, f"{spelling}.gz")):
            if os.path.isfile(path):
                return path
    return None


def _images_and_labels(
    images_path: str, labels_path: str, flat: bool
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    images, labels = read_idx(images_path), read_idx(labels_path)
    if images.dtype != np.uint8 or images.shape[1:] != (28, 28):
        raise DataError(
            f"{images_path} holds {images.dtype} of shape {images.shape}, not bytes of (n, 28, 28)"
        )
    if labels.dtype != np.uint8 or labels.ndim != 1:
        raise DataError(
            f"{labels_path} holds {labels.dtype} of shape {labels.shape}, not bytes of (n,)"
        )
    if len(images) != len(labels):
        raise DataError(
            f"{images_path} holds {len(images)} images, but {labels_path} {len(labels)} labels: "
            "they are not of one set, or one is damaged. Delete both and load again"
        )
    x = to_unit(images, 255).reshape((-1, 784) if flat else (-1, 1, 28, 28))
    return x, check_labels(labels_path, labels, 10)
