"""Files that are whole or absent: atomic writing, and tensors with a description in safetensors."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import numpy as np

from groundup.errors import DataNotFoundError, StateError
from groundup.ops.base import Array

TEMPORARY = ".part"


def write_atomically(path: str | os.PathLike[str], content: bytes) -> None:
    """Write a file such that, whatever happens, either the old or the new content is there.

    The content goes to a temporary file in the same folder, is forced to the disk, and only then
    takes the file's name. If writing fails (a full disk), the temporary file is deleted and the
    OSError passes on.
    """
    path = os.fspath(path)
    folder, name = os.path.split(os.path.abspath(path))
    temporary = os.path.join(folder, f".{name}.{os.getpid()}{TEMPORARY}")
    try:
        with open(temporary, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        if os.path.exists(temporary):
            os.remove(temporary)
        raise
    _sync_folder(folder)


def _sync_folder(folder: str) -> None:
    """Force the folder's new entry to the disk, where the system can open a folder."""
    if os.name == "posix":
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def save_tensors(
    path: str | os.PathLike[str], arrays: Mapping[str, Array], info: Mapping[str, Any]
) -> None:
    """Write arrays and a description (what JSON can hold) as one safetensors file, atomically."""
    import json

    from safetensors.numpy import save

    whole = {name: np.asarray(array, order="C") for name, array in arrays.items()}
    text = json.dumps(info)
    metadata = {"groundup": text, "checksum": _checksum(whole, text)}
    write_atomically(path, save(whole, metadata=metadata))


def load_tensors(path: str | os.PathLike[str]) -> tuple[dict[str, Array], dict[str, Any]]:
    """The arrays and the description in a safetensors file; of a foreign file, {}.

    Raises:
        DataNotFoundError: there is no such file.
        StateError: the file is damaged: cut off, altered, or none of safetensors' format.

    """
    import json

    from safetensors import SafetensorError, safe_open

    path = os.fspath(path)
    if not os.path.isfile(path):
        raise DataNotFoundError(f"there is no file {path}")
    try:
        with safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise StateError(
            f"{path} is damaged or no safetensors file ({error}, {os.path.getsize(path):,} bytes)"
        ) from error
    text = metadata.get("groundup", "{}")
    if "checksum" in metadata and metadata["checksum"] != _checksum(arrays, text):
        raise StateError(f"{path} is damaged: its checksum does not fit its content")
    return arrays, json.loads(text)


def _checksum(arrays: Mapping[str, Array], text: str) -> str:
    """A hash of all names, shapes, numbers and the description."""
    import hashlib

    digest = hashlib.blake2b(text.encode(), digest_size=16)
    for name in sorted(arrays):
        array = arrays[name]
        digest.update(f"{name} {array.dtype.str} {array.shape}".encode())
        digest.update(array.reshape(-1).view(np.uint8).data)
    return digest.hexdigest()
