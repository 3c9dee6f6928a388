"""Reading npy and npz files that nobody vouches for."""

from __future__ import annotations

import contextlib
import io
import os
import pickle
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from skelformats.errors import FormatError
from skelformats.safe_npz import load_npy, load_npz
from tests.fuzzing import examples


def npy(array: Any) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


def header(shape: str, descr: str = "<f8") -> bytes:
    text = f"{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}"
    text += " " * (-(len(text) + 11) % 64) + "\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text.encode()


def archive(path: Path, members: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", method) as file:
        for name, content in members.items():
            file.writestr(name, content)
    return path


ARRAYS: dict[str, Any] = {
    "poses": np.arange(12.0).reshape(4, 3),
    "fortran": np.asfortranarray(np.arange(12).reshape(4, 3)),
    "gender": np.array("female"),
    "bytes": np.array(b"male"),
    "empty": np.zeros((0, 3), np.float32),
    "objects": np.array(["a", None, 3, np.arange(2)], object),
}


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_what_numpy_writes_comes_back(tmp_path: Path, save: Any) -> None:
    save(tmp_path / "a.npz", **ARRAYS)
    found = load_npz(tmp_path / "a.npz")
    assert list(found) == list(ARRAYS)
    for key, want in ARRAYS.items():
        assert found[key].dtype == want.dtype
        assert repr(found[key]) == repr(want)


def test_an_npy_file_comes_back(tmp_path: Path) -> None:
    for key, want in ARRAYS.items():
        np.save(tmp_path / f"{key}.npy", want)
        assert repr(load_npy(tmp_path / f"{key}.npy")) == repr(want)


def test_only_the_arrays_asked_for_are_read(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", **ARRAYS)
    assert set(load_npz(tmp_path / "a.npz", ["poses"], optional=["gender", "dmpls"])) == {"poses", "gender"}
    with pytest.raises(FormatError, match="no array trans among bytes, empty, fortran"):
        load_npz(tmp_path / "a.npz", ["poses", "trans"])


def test_arrays_nobody_asked_for_do_not_count_and_do_no_harm(tmp_path: Path) -> None:
    path = archive(tmp_path / "a.npz", {"poses.npy": npy(np.zeros(3)), "bad.npy": b"garbage" * 1000})
    np.testing.assert_array_equal(load_npz(path, ["poses"], max_bytes=200)["poses"], np.zeros(3))


class Payload:
    """An object whose pickle runs a command when it is opened as Python would."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> Any:
        return os.system, (f"touch {self.marker}",)


def test_an_object_array_with_a_payload_is_refused_by_name(tmp_path: Path) -> None:
    marker = tmp_path / "ran"
    np.savez(tmp_path / "a.npz", poses=np.zeros(3), vids=np.array([Payload(marker)], object))
    with pytest.raises(FormatError, match=r"array 'vids': found the global (posix|nt)\.system"):
        load_npz(tmp_path / "a.npz")
    assert not marker.exists()


def test_an_object_array_whose_pickle_is_something_else_is_refused(tmp_path: Path) -> None:
    content = header("(1,)", "|O") + pickle.dumps([1])
    with pytest.raises(FormatError, match="a pickle of list that is not an array"):
        load_npz(archive(tmp_path / "a.npz", {"x.npy": content}))


def test_a_zip_bomb_is_refused_by_the_size_it_declares(tmp_path: Path) -> None:
    path = tmp_path / "bomb.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file, file.open("x.npy", "w") as member:
        member.write(header("(33554432,)", "|u1"))
        for _ in range(32):
            member.write(bytes(2**20))
    assert path.stat().st_size < 2**16
    with pytest.raises(FormatError, match=r"arrays of 335545[0-9]+ bytes .'x' has .* at most 1048576 bytes"):
        load_npz(path, max_bytes=2**20)


def test_a_zip_bomb_that_lies_about_its_size_inflates_no_further_than_it_said(tmp_path: Path) -> None:
    real = header("(1000000,)", "|u1") + bytes(1_000_000)
    path = archive(tmp_path / "bomb.npz", {"x.npy": real})
    said = header("(72,)", "|u1") + bytes(72)
    data = path.read_bytes().replace(len(real).to_bytes(4, "little"), len(said).to_bytes(4, "little"))
    path.write_bytes(data)
    with pytest.raises(FormatError, match=r"over 72 bytes of data|damaged zip member"):
        load_npz(path, max_bytes=4096)


@pytest.mark.parametrize(
    ("shape", "descr"),
    [
        ("(1000000000000, 1000000)", "<f8"),
        ("(99999999999999999999999999,)", "<f8"),
        ("(-1,)", "<f8"),
        ("(True,)", "<f8"),
        ("(2.5,)", "<f8"),
        ("'text'", "<f8"),
        ("(0, 99999999999999999)", "<f8"),
        ("(1000000000000,)", "|V0"),
        ("(" + "1," * 40 + ")", "<f8"),
        ("(1,)", "<q99"),
        ("(" * 400 + ")" * 400, "<f8"),
    ],
)
def test_an_absurd_header_is_refused_before_anything_is_allocated(
    tmp_path: Path, shape: str, descr: str
) -> None:
    (tmp_path / "a.npy").write_bytes(header(shape, descr) + bytes(8))
    with pytest.raises(FormatError):
        load_npy(tmp_path / "a.npy")


def test_a_header_that_python_2_wrote_is_read(tmp_path: Path) -> None:
    (tmp_path / "a.npy").write_bytes(header("(2L,)") + np.arange(2.0).tobytes())
    np.testing.assert_array_equal(load_npy(tmp_path / "a.npy"), [0, 1])


def test_a_file_that_is_cut_off_is_refused(tmp_path: Path) -> None:
    whole = npy(np.arange(100.0))
    for size in (0, 4, 9, 60, 128, 500, len(whole) - 1):
        (tmp_path / "a.npy").write_bytes(whole[:size])
        with pytest.raises(FormatError):
            load_npy(tmp_path / "a.npy")


def test_a_list_of_members_that_would_fill_memory_is_refused_before_it_is_read(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    with zipfile.ZipFile(path, "w") as archive:
        for number in range(20_000):
            archive.writestr(f"{number:0100d}.npy", b"")
    with pytest.raises(FormatError, match="a list of members of 3000000 bytes"):
        load_npz(path)


def test_a_compression_that_numpy_never_uses_is_refused(tmp_path: Path) -> None:
    path = archive(tmp_path / "a.npz", {"x.npy": npy(np.zeros(3))}, zipfile.ZIP_LZMA)
    with pytest.raises(FormatError, match="compressed by method 14"):
        load_npz(path)


def test_what_is_no_archive_and_what_is_not_there_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.npz").write_bytes(b"PK\x03\x04 no zip")
    for name in ("a.npz", "absent.npz"):
        with pytest.raises(FormatError, match="zip archive"):
            load_npz(tmp_path / name)
    with pytest.raises(FormatError, match="cannot be read"):
        load_npy(tmp_path / "absent.npy")


@settings(max_examples=examples(150), suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_damaged_archive_is_read_or_refused(tmp_path: Path, data: st.DataObject) -> None:
    path = tmp_path / "a.npz"
    np.savez_compressed(path, **ARRAYS)
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(content)
    with contextlib.suppress(FormatError):
        load_npz(path)
