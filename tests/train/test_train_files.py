import errno
import os
from contextlib import suppress

import numpy as np
import pytest

from groundup.errors import DataNotFoundError, StateError
from groundup.train.files import load_tensors, save_tensors, write_atomically

ARRAYS = {
    "w": np.arange(6, dtype=np.float32).reshape(2, 3),
    "turned": np.arange(6, dtype=np.float64).reshape(2, 3).T,
    "number": np.array(3),
    "counter": np.array(2**64 - 1, np.uint64),
    "mask": np.array([True, False]),
    "empty": np.zeros((0, 4), np.float32),
    "nan": np.array([np.nan, np.inf, -0.0]),
}


def test_tensors_come_back_bit_by_bit(tmp_path):
    save_tensors(tmp_path / "a", ARRAYS, {"x": 0.1, "of": ["text", None]})
    arrays, info = load_tensors(tmp_path / "a")
    assert info == {"x": 0.1, "of": ["text", None]}
    assert arrays.keys() == ARRAYS.keys()
    for name, array in ARRAYS.items():
        assert arrays[name].dtype == array.dtype
        assert arrays[name].shape == array.shape
        assert arrays[name].tobytes() == array.tobytes()


def test_a_foreign_safetensors_file_has_no_description(tmp_path):
    from safetensors.numpy import save_file

    save_file({"w": ARRAYS["w"]}, tmp_path / "a")
    assert load_tensors(tmp_path / "a")[1] == {}


@pytest.mark.parametrize("keep", [0, 1, 7, 8, 100, 0.5, 0.99, -1])
def test_a_file_that_breaks_off_is_found(tmp_path, keep):
    path = tmp_path / "a"
    save_tensors(path, ARRAYS, {"x": 1})
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * keep) if isinstance(keep, float) else keep])
    with pytest.raises(StateError, match="a is damaged or no safetensors file"):
        load_tensors(path)


def test_every_flipped_bit_is_found(tmp_path):
    path = tmp_path / "a"
    save_tensors(path, {"w": ARRAYS["w"]}, {"x": 1})
    whole = bytearray(path.read_bytes())
    for i in range(len(whole)):
        path.write_bytes(whole[:i] + bytes([whole[i] ^ 0x10]) + whole[i + 1 :])
        with suppress(StateError):
            arrays, info = load_tensors(path)
            # A flip in the padding, or in the checksum's name: the content is still right.
            assert np.array_equal(arrays["w"], ARRAYS["w"])
            assert info == {"x": 1}


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(DataNotFoundError, match=r"there is no file .*none"):
        load_tensors(tmp_path / "none")


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_full_disk_leaves_the_old_file_and_no_other(tmp_path, monkeypatch, call):
    path = tmp_path / "a"
    write_atomically(path, b"old")

    def full(*args):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(f"os.{call}", full)
    with pytest.raises(OSError, match="No space left"):
        write_atomically(path, b"new")
    monkeypatch.undo()
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["a"]


def test_the_file_has_usual_permissions(tmp_path):
    write_atomically(tmp_path / "a", b"x")
    (tmp_path / "b").write_bytes(b"x")
    assert (tmp_path / "a").stat().st_mode == (tmp_path / "b").stat().st_mode
