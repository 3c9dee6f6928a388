"""HDF5 files that nobody vouches for: links, foreign storage, filters, bombs."""

from __future__ import annotations

import contextlib
import resource
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skelformats.errors import FormatError
from skelformats.hdf5 import read_hdf5
from tests.fuzzing import examples

VALUES = np.arange(96 * 50, dtype=np.float64).reshape(96, 50)
MOST = 10_000_000


def read(path: Path, name: str = "x", most: int = MOST) -> np.ndarray[Any, Any]:
    return read_hdf5(path, name, lambda shape, dtype: len(shape) == 2 and dtype.kind == "f", "an array", most)


@pytest.mark.parametrize(
    "how",
    [
        {},
        {"chunks": (96, 7)},
        {"chunks": (5, 7), "compression": "gzip"},
        {"chunks": (96, 20), "compression": "gzip", "shuffle": True, "fletcher32": True},
        {"maxshape": (None, None), "chunks": (50, 20), "fletcher32": True},
    ],
)
def test_what_h5py_and_matlab_write_comes_back(tmp_path: Path, how: dict[str, Any]) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("x", data=VALUES, **how)
    np.testing.assert_array_equal(read(tmp_path / "a.h5"), VALUES)


def test_chunks_that_were_never_written_are_zeros_and_take_no_more_than_asked(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("x", (96, 50), "f8", chunks=(96, 10), compression="gzip")
    assert not read(tmp_path / "a.h5").any()
    with h5py.File(tmp_path / "b.h5", "w") as file:
        file.create_dataset("x", (2**20, 2**20), "f8", chunks=(1024, 1024), compression="gzip")
        file.create_dataset("y", (1000, 1000), "f8", chunks=(1, 1))
    with pytest.raises(FormatError, match=r"'x' of shape \(1048576, 1048576\)"):
        read(tmp_path / "b.h5")
    with pytest.raises(FormatError, match="in 1000000 chunks"):
        read(tmp_path / "b.h5", "y")


@pytest.mark.parametrize("link", ["external", "soft", "soft to outside"])
def test_links_are_not_followed(tmp_path: Path, link: str) -> None:
    with h5py.File(tmp_path / "secret.h5", "w") as file:
        file["x"] = VALUES
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["other"] = h5py.ExternalLink("secret.h5", "x")
        file["own"] = VALUES
        paths = {"external": file.get("other", getlink=True), "soft": h5py.SoftLink("/own")}
        file["x"] = paths.get(link, h5py.SoftLink("/other"))
    with pytest.raises(FormatError, match="no array 'x' among"):
        read(tmp_path / "a.h5")


def test_values_in_other_files_are_not_read(tmp_path: Path) -> None:
    VALUES.tofile(tmp_path / "secret.bin")
    with h5py.File(tmp_path / "secret.h5", "w") as file:
        file["x"] = VALUES
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("x", (96, 50), "f8", external=[(tmp_path / "secret.bin", 0, VALUES.nbytes)])
        layout = h5py.VirtualLayout((96, 50), "f8")
        layout[:] = h5py.VirtualSource(str(tmp_path / "secret.h5"), "x", (96, 50))
        file.create_virtual_dataset("y", layout)
    for name in "xy":
        with pytest.raises(FormatError, match="whose values lie in other files"):
            read(tmp_path / "a.h5", name)


@pytest.mark.parametrize(
    "how", [{"compression": "lzf"}, {"scaleoffset": 4}, {"compression": "szip"}], ids=lambda how: str(how)
)
def test_filters_that_are_not_needed_are_refused(tmp_path: Path, how: dict[str, Any]) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        try:
            file.create_dataset("x", data=VALUES, chunks=(96, 10), **how)
        except ValueError:
            pytest.skip("this HDF5 cannot write the filter")
    with pytest.raises(FormatError, match="with the HDF5 filters"):
        read(tmp_path / "a.h5")


def test_a_chunk_that_inflates_beyond_its_size_is_refused_within_bounded_memory(tmp_path: Path) -> None:
    """HDF5 itself inflates to the end of the stream: a megabyte becomes a gigabyte."""
    import zlib

    path = tmp_path / "bomb.h5"
    packer = zlib.compressobj(9)
    block = bytes(2**20)
    bomb = b"".join(packer.compress(block) for _ in range(1024)) + packer.flush()
    assert len(bomb) < 1_100_000
    with h5py.File(path, "w") as file:
        array = file.create_dataset("x", (96, 50), "f8", chunks=(96, 50), compression="gzip")
        array.id.write_direct_chunk((0, 0), bomb)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(FormatError, match="a chunk that inflates beyond its 38400 bytes"):
        read(path)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100 * 1024


def test_two_compressions_and_chunks_without_theirs_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        array = file.create_dataset("x", (96, 50), "f8", chunks=(96, 50), compression="gzip")
        array.id.write_direct_chunk((0, 0), VALUES.tobytes(), filter_mask=1)
        properties = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        properties.set_chunk((96, 50))
        properties.set_deflate(1)
        properties.set_deflate(1)
        h5py.h5d.create(file.id, b"y", h5py.h5t.NATIVE_DOUBLE, h5py.h5s.create_simple((96, 50)), properties)
    with pytest.raises(FormatError, match="chunks that leave out filters"):
        read(path)
    with pytest.raises(FormatError, match="with the HDF5 filters"):
        read(path, "y")


@settings(max_examples=examples(60))
@given(data=st.data())
def test_a_mutated_file_is_read_or_refused(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    path = tmp_path_factory.getbasetemp() / "mutated.h5"
    path.unlink(missing_ok=True)
    with h5py.File(path, "w") as file:
        file.create_dataset("x", data=VALUES, chunks=(48, 25), compression="gzip", shuffle=True)
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(content)
    with contextlib.suppress(FormatError):
        assert read(path).dtype.kind == "f"
