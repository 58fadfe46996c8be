"""The IDX format: a magic number, the sizes, the numbers. MNIST and Fashion-MNIST are stored in it.

byte 0, 1   0
byte 2      what the numbers are: 0x08 is an unsigned byte
byte 3      how many axes
4 bytes     the length of each axis, big-endian
the rest    the numbers in C order, big-endian
"""

import math
import os
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from groundup.data.gz import MAX_RATIO, damaged, gunzip, gunzip_head, is_gzip, read_bytes

_DTYPES: Final = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}


def read_idx(path: str | os.PathLike[str]) -> NDArray[Any]:
    """The array in an IDX file, gzipped or not, in the machine's byte order.

    Errors: DataNotFoundError without the file; DataError, which names the file, for a wrong magic
    number, a gzip stream that breaks off or whose checksum is wrong, and for a content that is
    longer or shorter than the header says. The header is checked against the file's size before
    anything is allocated.

    Format: LeCun, Cortes and Burges, "The MNIST database of handwritten digits".
    """
    path = os.fspath(path)
    data = read_bytes(path)
    packed = is_gzip(data)
    start = gunzip_head(path, data, 4 + 4 * 255) if packed else data[: 4 + 4 * 255]

    magic = start[:4]
    if len(magic) < 4 or magic[:2] != b"\0\0" or magic[2] not in _DTYPES or magic[3] == 0:
        raise damaged(path, f"it starts with the bytes '{magic.hex(' ')}', which is no IDX file")
    axes = magic[3]
    header = 4 + 4 * axes
    if len(start) < header:
        raise damaged(path, f"it ends within its header of {header} bytes")
    shape = tuple(int(n) for n in np.frombuffer(start, ">u4", axes, offset=4))
    dtype = np.dtype(_DTYPES[magic[2]])
    size = header + math.prod(shape) * dtype.itemsize
    if size > len(data) * (MAX_RATIO if packed else 1):
        raise damaged(
            path, f"its header says {shape}, {size:,} bytes; the file's {len(data):,} are too few"
        )
    if packed:
        data = gunzip(path, data, limit=size)
    if len(data) != size:
        raise damaged(path, f"its header says {shape}, {size:,} bytes, but it holds {len(data):,}")
    return np.frombuffer(data, dtype, offset=header).reshape(shape).astype(dtype.newbyteorder("="))
