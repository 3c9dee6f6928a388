"""CDF files: what is read equals cdflib's reading; what is damaged or hostile is refused, quickly."""

from __future__ import annotations

import contextlib
import struct
import tracemalloc
from pathlib import Path

import cdflib
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from skelformats.cdf import read_variable
from skelformats.errors import FormatError
from tests.fuzzing import examples
from tests.skelformats.raw_h36m import pose, write_cdf, write_variable

CDR = 8
"""Byte at which the first record of a CDF file begins."""


def refused(path: Path, max_bytes: int = 10_000_000) -> str:
    with pytest.raises(FormatError) as error:
        read_variable(path, "Pose", max_bytes)
    assert str(path) in str(error.value)
    return str(error.value)


def record(data: bytes, kind: int) -> int:
    """Byte at which the first record of a type begins in a version 3 file, following the sizes."""
    at = CDR
    while at < len(data):
        size, found = struct.unpack_from(">qi", data, at)
        if found == kind:
            return at
        at += size
    raise AssertionError(f"no record of type {kind}")


@pytest.mark.parametrize("majority", ["row_major", "column_major"])
@pytest.mark.parametrize("encoding", [1, 6])
@pytest.mark.parametrize("compress", [0, 6])
@pytest.mark.parametrize("data_type", [44, 45])
def test_values_equal_those_of_cdflib(
    tmp_path: Path, majority: str, encoding: int, compress: int, data_type: int
) -> None:
    path = write_cdf(
        tmp_path / "a 1.54138969.cdf", pose(), data_type, compress, Majority=majority, Encoding=encoding
    )
    found = read_variable(path, "Pose")
    np.testing.assert_array_equal(found, cdflib.CDF(path)["Pose"])
    assert found.shape == (1, 5, 96)
    assert found.dtype == (np.float32 if data_type == 44 else np.float64)
    if majority == "row_major":  # cdflib's writer does not turn values for the other
        np.testing.assert_array_equal(found.reshape(5, 32, 3), pose())


def test_a_compressed_file_is_read(tmp_path: Path) -> None:
    path = write_cdf(tmp_path / "a.cdf", pose(), Compressed=5)
    assert path.read_bytes()[4:8] == b"\xcc\xcc\x00\x01"
    np.testing.assert_array_equal(read_variable(path, "Pose").reshape(5, 32, 3), pose())


@pytest.mark.parametrize("compress", [0, 6])
def test_many_records_come_together_from_their_blocks(tmp_path: Path, compress: int) -> None:
    values = np.random.default_rng(0).normal(size=(2000, 96)).astype(np.float32)
    path = write_variable(tmp_path / "a.cdf", values, compress=compress)
    np.testing.assert_array_equal(read_variable(path, "Pose"), values)


def test_an_old_file_with_short_offsets_is_read(tmp_path: Path) -> None:
    """Version 2.6 and 2.7, which MATLAB writes by default; this one is put together by hand."""
    values = pose(3).astype(">f4")
    path = tmp_path / "a.cdf"
    path.write_bytes(version_2(values.reshape(1, 3, 96)))
    np.testing.assert_array_equal(read_variable(path, "Pose").reshape(3, 32, 3), pose(3))
    np.testing.assert_array_equal(cdflib.CDF(path)["Pose"].reshape(3, 32, 3), pose(3))


def version_2(values: np.ndarray) -> bytes:
    """A CDF 2.7 file with one z-variable of one record, in network encoding."""

    def framed(kind: int, body: bytes) -> bytes:
        return struct.pack(">ii", 8 + len(body), kind) + body

    cdr_size, gdr_size = 8 + 36 + 256, 8 + 52
    vdr_size, vxr_size = 8 + 56 + 64 + 20, 8 + 12 + 12
    gdr_at = 8 + cdr_size
    vdr_at = gdr_at + gdr_size
    vxr_at = vdr_at + vdr_size
    vvr_at = vxr_at + vxr_size
    data = values.tobytes()
    end = vvr_at + 8 + len(data)
    cdr = struct.pack(">9i", gdr_at, 2, 7, 1, 3, 0, 0, 0, 0) + bytes(256)
    gdr = struct.pack(">13i", 0, vdr_at, 0, end, 0, 0, -1, 0, 1, 0, 0, -1, -1)
    vdr = struct.pack(">14i", 0, 44, 0, vxr_at, vxr_at, 1, 0, 0, -1, -1, 1, 0, -1, 0)
    vdr += b"Pose".ljust(64, b"\0") + struct.pack(">5i", 2, *values.shape[1:], -1, -1)
    vxr = struct.pack(">6i", 0, 1, 1, 0, 0, vvr_at)
    records = framed(1, cdr) + framed(2, gdr) + framed(8, vdr) + framed(6, vxr) + framed(7, data)
    return b"\xcd\xf2\x60\x02\x00\x00\xff\xff" + records


def test_a_variable_that_is_not_there_is_named_beside_those_that_are(tmp_path: Path) -> None:
    path = write_cdf(tmp_path / "a.cdf", pose())
    with pytest.raises(FormatError, match=r"no variable 'Angles' among Pose"):
        read_variable(path, "Angles")


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (b"", "an empty file"),
        (b"MATLAB 5.0 MAT-file", "no CDF file of version 2.6 or later"),
        (b"\xcd\xf3\x00\x01\x00\x00\xff\xff", "a reference to byte 8 of 8"),
        (b"\xcd\xf3\x00\x01ABCD", "second magic number"),
    ],
)
def test_what_is_no_cdf_is_refused(tmp_path: Path, content: bytes, found: str) -> None:
    path = tmp_path / "a.cdf"
    path.write_bytes(content)
    assert found in refused(path)


def test_text_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.cdf"
    file = cdflib.cdfwrite.CDF(path, cdf_spec={"Compressed": False})
    file.write_var(
        {"Variable": "Pose", "Data_Type": 51, "Num_Elements": 4, "Rec_Vary": True, "Dim_Sizes": []},
        var_data=["abcd"],
    )
    file.close()
    assert "of data type 51, not floating point numbers" in refused(path)


VDR_MAX_RECORD, VDR_FIRST_SIZE, VDR_DIMENSIONS = 24, 8 + 336, 8 + 332


@pytest.mark.parametrize(
    ("kind", "offset", "value", "found"),
    [
        (8, VDR_DIMENSIONS, 2**31 - 1, "2147483647 dimensions, of at most 10"),
        (8, VDR_FIRST_SIZE, 2**31 - 1, "a variable of 1 records of shape (2147483647, 96)"),
        (8, VDR_FIRST_SIZE, -5, "with 1 records of shape (-5, 96)"),
        (8, VDR_MAX_RECORD, 2**31 - 2, "a variable of 2147483647 records"),
        (8, VDR_MAX_RECORD, 3, "1 records, of 4"),
        (8, VDR_FIRST_SIZE, 6, "in the middle of its fields"),
        (2, 8 + 52, 2**31 - 1, "2147483647 variables, of at most 1000"),
        (2, 8 + 48, 2**31 - 1, "2147483647 dimensions"),
        (6, 8 + 12, 2**31 - 1, "in the middle of its fields"),
        (6, 8 + 16, 2**31 - 1, "an index of 2147483647 entries"),
    ],
)
def test_an_absurd_count_is_refused_before_anything_is_allocated(
    tmp_path: Path, kind: int, offset: int, value: int, found: str
) -> None:
    path = write_cdf(tmp_path / "a.cdf", pose())
    data = bytearray(path.read_bytes())
    struct.pack_into(">i", data, record(data, kind) + offset, value)
    path.write_bytes(data)
    assert found in refused(path)


def test_an_index_that_runs_in_a_circle_is_refused(tmp_path: Path) -> None:
    path = write_cdf(tmp_path / "a.cdf", pose())
    data = bytearray(path.read_bytes())
    at = record(data, 6)
    struct.pack_into(">q", data, at + 12, at)
    path.write_bytes(data)
    assert "an index that returns to byte" in refused(path)


def test_a_block_that_inflates_further_than_its_records_is_cut_there(tmp_path: Path) -> None:
    """A gzip bomb of 38 MB in 40 kB; the variable says 5 frames."""
    path = write_cdf(tmp_path / "a.cdf", np.zeros((100_000, 32, 3)), compress=9)
    data = bytearray(path.read_bytes())
    struct.pack_into(">i", data, record(data, 8) + VDR_FIRST_SIZE, 5)
    path.write_bytes(data)
    assert read_variable(path, "Pose").shape == (1, 5, 96)


def test_a_compressed_file_inflates_no_further_than_asked_whatever_it_claims(tmp_path: Path) -> None:
    path = write_cdf(tmp_path / "a.cdf", np.zeros((100_000, 96), np.float32), Compressed=9)
    content = bytearray(path.read_bytes())
    assert len(content) < 100_000
    with pytest.raises(FormatError, match="a compressed file that claims 384"):
        read_variable(path, "Pose", 1_000_000)
    # size and type of the record, where the method stands, and then the claim
    at = 8 + 8 + 4 + 8
    for claim in (2**62, -1, 1000):
        content[at : at + 8] = claim.to_bytes(8, "big", signed=True)
        path.write_bytes(content)
        tracemalloc.start()
        with pytest.raises(FormatError):
            read_variable(path, "Pose", 1_000_000)
        assert tracemalloc.get_traced_memory()[1] < 5_000_000
        tracemalloc.stop()


@pytest.mark.parametrize("spec", [{}, {"Compressed": 5}])
def test_a_variable_beyond_the_limit_is_refused(tmp_path: Path, spec: dict[str, int]) -> None:
    path = write_cdf(tmp_path / "a.cdf", np.zeros((3000, 32, 3)), compress=6, **spec)
    assert "of at most 100000" in refused(path, max_bytes=100_000)


@pytest.fixture(scope="module", params=[0, 6])
def whole(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Path:
    return write_cdf(tmp_path_factory.mktemp("cdf") / "a.cdf", pose(), compress=request.param)


@given(data=st.data())
@settings(max_examples=examples(150), suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_mutated_file_is_refused_or_read(whole: Path, data: st.DataObject) -> None:
    content = bytearray(whole.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(content) - 1))
        content[at] = data.draw(st.integers(0, 255))
    del content[data.draw(st.integers(len(content) // 2, len(content))) :]
    changed = whole.with_name("changed.cdf")
    changed.write_bytes(content)
    # any other error would escape
    with contextlib.suppress(FormatError):
        assert read_variable(changed, "Pose", 1_000_000).nbytes <= 1_000_000
