"""The lesson's `mnist.pkl.gz`, read without giving the pickle any power.

A pickle is a program that calls what it names. Here all that it can name is the six stand-ins of
`_STAND_INS`, which do nothing but keep what they are given; NumPy's own constructors, which would
allocate or reinterpret memory as the pickle says, never run. What was kept is then checked and
made into arrays.
"""

import io
import math
import os
import pickle
from collections.abc import Callable
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from groundup.data.gz import gunzip, is_gzip, read_bytes
from groundup.data.split import Split
from groundup.errors import DataError, LabelError

_LIMIT: Final = 1 << 30  # bytes unpacked; the real file holds 220 million
_NUMBERS: Final = ("f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8")
_PARTS: Final = ("training", "validation", "test")


def load_mnist_pickle(
    path: str | os.PathLike[str], *, flat: bool = True, split: str = "lesson"
) -> Split:
    """MNIST from a pickle of ((x, y) training, (x, y) validation, (x, y) test), gzipped or not.

    This is deeplearning.net's `mnist.pkl.gz`, which the fast.ai lessons use: 50,000, 10,000 and
    10,000 images, written by Python 2. Returns x float32 (n, 784), or (n, 1, 28, 28) with
    flat=False, and y int64 (n,), as `mnist()` does; split="test" gives training and validation
    images together, and the test images. The pixels are left as they are: that file has the bytes
    divided by 256, not 255, so its white is 0.99609375.

    Errors: DataNotFoundError without the file. DataError, with the reason, if it is damaged, if it
    names anything but NumPy's array constructors (no pickle can run code here), or if it holds
    anything but numbers of the right shapes in 0..1. LabelError for labels outside 0..9.
    """
    path = os.fspath(path)
    check_split(split)
    data = read_bytes(path)
    if is_gzip(data):
        data = gunzip(path, data, _LIMIT)
    sets = _unpickle(path, data)
    if not (isinstance(sets, tuple | list) and len(sets) == 3):
        raise DataError(f"{path}: not three data sets (training, validation, test)")
    (x_train, y_train), (x_valid, y_valid), (x_test, y_test) = (
        _images_and_labels(path, name, part) for name, part in zip(_PARTS, sets, strict=True)
    )
    if split == "test":
        x_train, y_train = np.concatenate([x_train, x_valid]), np.concatenate([y_train, y_valid])
        x_valid, y_valid = x_test, y_test
    if not flat:
        x_train, x_valid = x_train.reshape(-1, 1, 28, 28), x_valid.reshape(-1, 1, 28, 28)
    return Split(x_train, y_train, x_valid, y_valid)


def check_split(split: str) -> None:
    """DataError unless `split` names one of the two ways to divide MNIST."""
    if split not in ("lesson", "test"):
        raise DataError(
            f"split={split!r}: take 'lesson' (the training file in two) or 'test' (the whole "
            "training file, judged by the test file)"
        )


class _StandIn:
    """What a pickle gets for a name. It has no attributes and no state that a pickle could set."""

    __slots__ = ("_call",)

    def __init__(self, call: Callable[..., object] | None) -> None:
        self._call = call

    def __call__(self, *args: object) -> object:
        if self._call is None:
            raise DataError("it creates an array directly, which no NumPy pickle does")
        return self._call(*args)

    def __setstate__(self, state: object) -> None:
        raise DataError("it changes a function, which no NumPy pickle does")


class _Dtype:
    """The arguments of `numpy.dtype`, and the byte order that its state adds."""

    __slots__ = ("code", "order")

    def __init__(self, code: str | bytes, align: object = False, copy: object = False) -> None:
        self.code = _text(code)
        self.order = "|"

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self.order = _text(state[1])

    def resolve(self) -> np.dtype[Any]:
        if self.code not in _NUMBERS or self.order not in ("<", ">", "|", "="):
            raise DataError(f"it holds an array of dtype {self.order}{self.code}, not of numbers")
        return np.dtype(self.order + self.code)


class _Array:
    """An array's state as pickled: its version, shape, dtype, whether in Fortran order, bytes."""

    __slots__ = ("state",)

    def __init__(self, state: tuple[Any, ...] = ()) -> None:
        self.state = state

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self.state = state

    def resolve(self) -> NDArray[Any]:
        if not (isinstance(self.state, tuple) and len(self.state) == 5):
            raise DataError("it holds an array without its shape and dtype")
        _, shape, dtype, fortran, raw = self.state
        if not isinstance(dtype, _Dtype):
            raise DataError(f"it holds an array whose dtype is {type(dtype).__name__}")
        real = dtype.resolve()
        if not (isinstance(shape, tuple) and all(isinstance(n, int) and n >= 0 for n in shape)):
            raise DataError(f"it holds an array of shape {shape!r}")
        if not isinstance(raw, bytes | bytearray):
            raise DataError(f"it holds an array whose numbers are a {type(raw).__name__}")
        size = math.prod(shape) * real.itemsize
        if size != len(raw):
            raise DataError(
                f"it holds an array of shape {shape} and dtype {real}, {size:,} bytes, but of "
                f"{len(raw):,} bytes"
            )
        return np.frombuffer(raw, real).reshape(shape, order="F" if fortran else "C")


def _text(text: str | bytes) -> str:
    return text.decode("latin1") if isinstance(text, bytes) else str(text)


def _encode(text: str, encoding: str | bytes) -> bytes:
    # How Python 3 writes bytes in protocol 2, which has none: as text of the same code points.
    if not isinstance(text, str) or _text(encoding) not in ("latin1", "latin-1"):
        raise DataError(f"it encodes text as {encoding!r}, which no NumPy pickle does")
    return text.encode("latin1")


def _reconstruct(kind: object, shape: object, dtype: object) -> _Array:
    return _Array()  # its state follows


def _frombuffer(raw: object, dtype: object, shape: object, order: object) -> _Array:
    return _Array((1, shape, dtype, order == "F", raw))  # protocol 5


_STAND_INS: Final[dict[tuple[str, str], _StandIn]] = {
    ("numpy.core.multiarray", "_reconstruct"): _StandIn(_reconstruct),
    ("numpy._core.multiarray", "_reconstruct"): _StandIn(_reconstruct),
    ("numpy.core.numeric", "_frombuffer"): _StandIn(_frombuffer),
    ("numpy._core.numeric", "_frombuffer"): _StandIn(_frombuffer),
    ("numpy", "ndarray"): _StandIn(None),
    ("numpy", "dtype"): _StandIn(_Dtype),
    ("_codecs", "encode"): _StandIn(_encode),
}


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        try:
            return _STAND_INS[module, name]
        except KeyError:
            raise DataError(
                f"it asks for {module}.{name}, which has no place in a pickle of arrays and could "
                "run code. Nothing was run; do not trust this file"
            ) from None


def _unpickle(path: str, data: bytes) -> Any:
    try:
        # Python 2's strings stay bytes, so the pixels are not copied into text and back.
        return _Unpickler(io.BytesIO(data), encoding="bytes").load()
    except DataError as error:
        raise DataError(f"{path}: refused: {error}") from None
    except Exception as error:  # a damaged pickle raises nearly anything
        raise DataError(
            f"{path} is damaged: no pickle of arrays ({type(error).__name__}: {error}). "
            "Put a whole copy in its place"
        ) from error


def _images_and_labels(
    path: str, name: str, part: Any
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    if not (isinstance(part, tuple | list) and len(part) == 2):
        raise DataError(f"{path}: its {name} set is no pair (images, labels)")
    arrays = []
    for what, array in zip(("images", "labels"), part, strict=True):
        if not isinstance(array, _Array):
            raise DataError(f"{path}: its {name} {what} are a {type(array).__name__}, no array")
        try:
            arrays.append(array.resolve())
        except DataError as error:
            raise DataError(f"{path}: refused: its {name} {what}: {error}") from None
    x, y = arrays
    if x.ndim != 2 or x.shape[1] != 784 or x.dtype.kind != "f" or len(x) == 0:
        raise DataError(
            f"{path}: its {name} images are {x.dtype} of shape {x.shape}, not floats of (n, 784)"
        )
    if not (x.min() >= 0 and x.max() <= 1):  # also false for NaN
        raise DataError(f"{path}: its {name} images are not within 0..1: {x.min()} to {x.max()}")
    if y.dtype.kind not in "iu" or y.shape != (len(x),):
        raise DataError(
            f"{path}: its {name} labels are {y.dtype} of shape {y.shape}, not integers of "
            f"({len(x)},)"
        )
    return x.astype(np.float32), check_labels(path, y, 10)


def check_labels(path: str, labels: NDArray[Any], classes: int) -> NDArray[np.int64]:
    """The labels as int64; LabelError, which names the first wrong one, outside 0..classes-1."""
    wrong = np.flatnonzero((labels < 0) | (labels >= classes))
    if len(wrong):
        raise LabelError(
            f"{path}: label {labels[wrong[0]]} at row {wrong[0]}, and {len(wrong)} in all, are "
            f"outside 0..{classes - 1}"
        )
    return labels.astype(np.int64)
