"""The three back-ends give what zarr gives, bit for bit, over every layout; and say so where they cannot."""

from __future__ import annotations

import pickle
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import google_crc32c
import numpy as np
import orjson
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from zarr.codecs import BloscCodec, Crc32cCodec

from skelconv.store.backends import DirectArray, ResidentArray, ZarrArray, open_array
from skelconv.store.chunk_layout import DamagedChunkError, UnknownLayoutError, parse_layout
from skelconv.store.info import StoreError
from skelconv.store.location import locate, read_metadata
from skelconv.store.shards import CACHED_CHUNKS, OPEN_FILES
from skelconv.store.store import open_store
from skelconv.verify import verify
from skelformats.errors import UnknownNameError
from tests.data import make_store_v1
from tests.skelconv.small_store import make_store

LZ4 = BloscCodec(cname="lz4", clevel=5, shuffle="shuffle", typesize=4)


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_store(tmp_path_factory.mktemp("backends") / "small.zarr")


@pytest.fixture
def copy(path: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(path, tmp_path / "copy.zarr"))


def opened(path: Path, name: str, backend: Any, verify: bool = False) -> Any:
    location = locate(path)
    return open_array(location, name, read_metadata(location).arrays[name], backend, verify)


def same_bits(a: np.ndarray, b: np.ndarray) -> bool:
    if a.dtype == object:
        return a.tolist() == b.tolist()
    return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()


def foreign(folder: Path, data: np.ndarray, **layout: Any) -> Path:
    """An array of any layout in a group without consolidated metadata."""
    group = zarr.open_group(folder, mode="w")
    array = group.create_array(name="position", shape=data.shape, dtype=data.dtype, **layout)
    array[:] = data
    return folder


class TestEquality:
    def test_every_array_of_a_store_is_the_same_by_all_back_ends(self, path: Path) -> None:
        for name in read_metadata(locate(path)).arrays:
            expected = opened(path, name, "zarr").read_all()
            for backend in ("direct", "resident", "auto"):
                reader = opened(path, name, backend)
                assert same_bits(reader.read_all(), expected), (name, backend)
                assert same_bits(reader.read(0, reader.shape[0]), expected), (name, backend)

    @settings(max_examples=60, deadline=None)
    @given(st.lists(st.tuples(st.integers(0, 2731), st.integers(0, 700)), min_size=1, max_size=6))
    def test_any_ranges_in_any_order_are_the_same(self, path: Path, ranges: list[tuple[int, int]]) -> None:
        readers = [opened(path, "position", backend) for backend in ("zarr", "direct", "resident")]
        for start, length in ranges:
            stop = min(2731, start + length)
            expected, *others = (reader.read(start, stop) for reader in readers)
            assert len(expected) == stop - start
            assert all(same_bits(other, expected) for other in others)

    def test_a_store_with_absent_chunks_and_an_absent_shard_too(self) -> None:
        """As the first release wrote them; what it did not store is fill value, not damage."""
        reader = opened(make_store_v1.STORE, "position", "direct")
        absent = [reader.payload(number) is None for number in range(reader.layout.chunks)]
        assert True in absent
        assert False in absent
        assert any(not reader.path(number).exists() for number in range(reader.layout.files))
        expected = opened(make_store_v1.STORE, "position", "zarr").read_all()
        for backend in ("direct", "resident"):
            assert same_bits(opened(make_store_v1.STORE, "position", backend).read_all(), expected)

    def test_every_chunk_is_stored_those_of_fill_value_too(self, path: Path) -> None:
        for name in read_metadata(locate(path)).arrays:
            reader = opened(path, name, "direct")
            assert all(reader.payload(number) is not None for number in range(reader.layout.chunks)), name
        fill = opened(path, "position", "direct").read(1024, 1536)
        assert np.isnan(fill).all(), "no chunk of nothing but fill value, so this shows nothing"

    @pytest.mark.parametrize("dtype", ["f4", "f8", "i2", "i4", "i8", "u1", "u2"])
    @pytest.mark.parametrize(
        ("chunks", "shards"), [((7,), (7,)), ((7,), (21,)), ((64,), (128,)), ((1,), (50,)), ((5,), None)]
    )
    @pytest.mark.parametrize(
        "compressors",
        [(LZ4, Crc32cCodec()), (LZ4,), (Crc32cCodec(),), ()],
        ids=["both", "lz4", "crc", "none"],
    )
    def test_any_chunk_and_shard_length_dtype_and_chain(
        self, tmp_path: Path, dtype: str, chunks: Any, shards: Any, compressors: Any
    ) -> None:
        data = np.random.default_rng(0).integers(0, 100, 100).astype(dtype)
        data[21:44] = 0
        layout = {"chunks": chunks, "shards": shards, "compressors": compressors, "fill_value": 0}
        folder = foreign(tmp_path / "g", data, **layout)
        reader = opened(folder, "position", "direct", verify=True)
        assert isinstance(reader, DirectArray)
        assert same_bits(reader.read_all(), data)
        for start, stop in [(0, 0), (0, 1), (20, 45), (99, 100), (100, 100), (3, 97)]:
            assert same_bits(reader.read(start, stop), data[start:stop])

    def test_more_chunks_and_shards_than_are_kept(self, tmp_path: Path) -> None:
        data = np.arange(2 * OPEN_FILES * CACHED_CHUNKS, dtype="i4")
        folder = foreign(tmp_path / "g", data, chunks=(2,), shards=(4,), compressors=(Crc32cCodec(),))
        reader = opened(folder, "position", "direct")
        for at in np.random.default_rng(0).integers(0, len(data) - 5, 2000).tolist():
            assert (reader.read(at, at + 5) == data[at : at + 5]).all()

    def test_threads_may_read_one_array_at_once(self, path: Path) -> None:
        reader, expected = opened(path, "position", "direct"), opened(path, "position", "zarr").read_all()
        starts = np.random.default_rng(0).integers(0, 2500, 4000).tolist()
        with ThreadPoolExecutor(8) as pool:
            found = list(pool.map(lambda start: reader.read(start, start + 200), starts))
        assert all(same_bits(f, expected[s : s + 200]) for f, s in zip(found, starts, strict=True))

    def test_what_is_read_may_be_written_to(self, path: Path) -> None:
        for backend in ("direct", "resident", "zarr"):
            reader = opened(path, "position", backend)
            first = reader.read(0, 300)
            kept = first.copy()
            first[:] = 0
            assert same_bits(reader.read(0, 300), kept)


class TestChoice:
    def test_auto_is_direct_for_a_store_of_skelconv(self, path: Path) -> None:
        for name in read_metadata(locate(path)).arrays:
            assert isinstance(opened(path, name, "auto"), DirectArray)

    def test_resident_loads_on_first_use_only(self, path: Path) -> None:
        reader = opened(path, "position", "resident")
        assert isinstance(reader, ResidentArray)
        assert reader.read_all() is reader.read_all()

    @pytest.mark.parametrize(
        ("layout", "what"),
        [
            ({"chunks": (10, 2), "compressors": ()}, "chunks"),
            ({"chunks": (10, 4), "compressors": "auto"}, "zstd"),
            (
                {
                    "chunks": (10, 4),
                    "compressors": (),
                    "serializer": {"name": "bytes", "configuration": {"endian": "big"}},
                },
                "big",
            ),
            (
                {
                    "chunks": (10, 4),
                    "compressors": (),
                    "filters": {"name": "transpose", "configuration": {"order": (1, 0)}},
                },
                "transpose",
            ),
            (
                {
                    "chunks": (10, 4),
                    "compressors": (),
                    "chunk_key_encoding": {"name": "v2", "separator": "."},
                },
                "v2",
            ),
        ],
    )
    def test_another_layout_is_read_by_zarr_or_refused_with_the_reason(
        self, tmp_path: Path, layout: dict[str, Any], what: str
    ) -> None:
        data = np.arange(100, dtype="f4").reshape(25, 4)
        folder = foreign(tmp_path / "g", data, **layout)
        reader = opened(folder, "position", "auto")
        assert isinstance(reader, ZarrArray)
        assert (reader.read(3, 17) == data[3:17]).all()
        assert (opened(folder, "position", "resident").read(3, 17) == data[3:17]).all()
        with pytest.raises(UnknownLayoutError, match=what):
            opened(folder, "position", "direct")

    def test_an_index_at_the_start_is_left_to_zarr(self, path: Path) -> None:
        metadata = orjson.loads((path / "position" / "zarr.json").read_bytes())
        metadata["codecs"][0]["configuration"]["index_location"] = "start"
        with pytest.raises(UnknownLayoutError, match="index at the start"):
            parse_layout(metadata, "here")

    def test_an_unknown_back_end_gets_a_suggestion(self, path: Path) -> None:
        with pytest.raises(UnknownNameError, match="Did you mean 'resident'"):
            opened(path, "position", "residant")


class TestDamage:
    @pytest.fixture
    def shard(self, copy: Path) -> Path:
        return copy / "position" / "c" / "0" / "0" / "0"

    def flip(self, file: Path, at: int) -> None:
        data = bytearray(file.read_bytes())
        data[at] ^= 1
        file.write_bytes(data)

    @pytest.mark.parametrize("backend", ["auto", "direct", "resident"])
    def test_a_flipped_bit_in_a_chunk_is_found_by_every_reader(
        self, copy: Path, shard: Path, backend: Any
    ) -> None:
        self.flip(shard, 5000)
        with pytest.raises(
            DamagedChunkError, match=r"0/0/0, chunk 0: found bytes that differ from their crc32c"
        ):
            open_store(copy, backend).read(0, 10)
        with pytest.raises(StoreError, match="rows 0 to 10"):
            opened(copy, "position", "zarr").read(0, 10)

    def test_who_asks_for_it_reads_without_checking(self, copy: Path) -> None:
        sound = open_store(copy).read(0, 300)
        # the checksum itself, so that the values stay as they are
        reader = opened(copy, "position", "direct")
        offset, size = reader.file(0).index[0].tolist()
        self.flip(copy / "position" / "c" / "0" / "0" / "0", offset + size - 1)
        with pytest.raises(DamagedChunkError, match="crc32c"):
            open_store(copy).read(0, 300)
        store = open_store(copy, verify=False)
        assert same_bits(store.read(0, 300), sound)
        assert not pickle.loads(pickle.dumps(store)).verify

    @pytest.mark.parametrize("backend", ["direct", "resident", "zarr"])
    @pytest.mark.parametrize("array", ["position", "confidence"])
    def test_a_missing_shard_is_damage_not_missing_values(self, copy: Path, array: str, backend: Any) -> None:
        next(file for file in sorted((copy / array / "c" / "2").rglob("*")) if file.is_file()).unlink()
        store = open_store(copy, backend)
        with pytest.raises(StoreError, match="found no file"):
            store.read(1024, 1034, array)

    def test_a_chunk_that_a_shard_does_not_hold_is_damage(self, copy: Path, shard: Path) -> None:
        data = bytearray(shard.read_bytes())
        data[-36:-20] = b"\xff" * 16  # offset and size of the first of two chunks
        data[-4:] = google_crc32c.value(bytes(data[-36:-4])).to_bytes(4, "little")
        shard.write_bytes(data)
        with pytest.raises(DamagedChunkError, match="as every chunk was stored"):
            open_store(copy).read(0, 10)
        assert any("found no chunk 0" in problem for problem in verify(copy).problems)

    def test_a_flipped_bit_in_the_index_is_always_found(self, copy: Path, shard: Path) -> None:
        self.flip(shard, -10)
        with pytest.raises(StoreError, match="damaged shard index"):
            opened(copy, "position", "direct").read(0, 10)

    @pytest.mark.parametrize("size", [0, 3, 36, 100, -1])
    def test_a_truncated_shard_is_found(self, copy: Path, shard: Path, size: int) -> None:
        shard.write_bytes(shard.read_bytes()[:size])
        with pytest.raises(StoreError, match="expected"):
            opened(copy, "position", "direct").read(0, 300)

    def test_an_index_that_points_outside_is_found(self, tmp_path: Path) -> None:
        """Also where the sum of offset and size wraps around 2^64."""
        data = np.arange(10, dtype="i4")
        for offset, size in [(0, 10**6), (10**6, 4), (2**64 - 4, 8), (8, 2**64 - 4)]:
            layout = {"chunks": (5,), "shards": (10,), "compressors": ()}
            folder = foreign(tmp_path / "g", data, **layout)
            shard = folder / "position" / "c" / "0"
            metadata = orjson.loads((folder / "position" / "zarr.json").read_bytes())
            sharding = metadata["codecs"][0]["configuration"]
            sharding["index_codecs"] = [{"name": "bytes", "configuration": {"endian": "little"}}]
            (folder / "position" / "zarr.json").write_bytes(orjson.dumps(metadata))
            index = np.array([[0, 20], [offset, size]], "<u8")
            shard.write_bytes(data.tobytes() + index.tobytes())
            with pytest.raises(StoreError, match="points outside the file"):
                opened(folder, "position", "direct").read(0, 10)

    @pytest.mark.parametrize(
        "stored", [b"", b"\x02\x01", bytes(16), bytes(40), b"\x02\x01\x21\x04" + b"\xff" * 36]
    )
    def test_bytes_that_are_no_blosc_are_refused_not_crashed_on(self, tmp_path: Path, stored: bytes) -> None:
        folder = foreign(tmp_path / "g", np.arange(8, dtype="i4"), chunks=(8,), compressors=(LZ4,))
        (folder / "position" / "c" / "0").write_bytes(stored)
        with pytest.raises(StoreError, match="expected"):
            opened(folder, "position", "direct").read(0, 8)

    def test_text_that_claims_too_much_is_refused(self, tmp_path: Path) -> None:
        group = zarr.open_group(tmp_path / "g", mode="w")
        group.create_array(name="position", shape=(3,), chunks=(3,), dtype="string", compressors=())[:] = [
            "a",
            "",
            "ż",
        ]
        assert opened(tmp_path / "g", "position", "direct").read_all().tolist() == ["a", "", "ż"]
        for stored in (b"\xff\xff\xff\xff", b"\x03\0\0\0", b"\x03\0\0\0" + b"\xff" * 12, b""):
            (tmp_path / "g" / "position" / "c" / "0").write_bytes(stored)
            with pytest.raises(StoreError, match="expected"):
                opened(tmp_path / "g", "position", "direct").read_all()

    def test_a_store_deleted_while_open_is_not_taken_for_missing_values(self, copy: Path) -> None:
        reader = opened(copy, "position", "direct")
        shutil.rmtree(copy)
        with pytest.raises(StoreError, match="moved, deleted or replaced"):
            reader.read(0, 10)
