"""`verify` finds what is wrong with a store, and nothing in a sound one."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from zarr.codecs import Crc32cCodec

from skelconv.ingest.ingest import ingest
from skelconv.ingest.plan import PlanError, make_plan
from skelconv.store import schema
from skelconv.store.canonical import canonical_positions
from skelconv.store.digest import motion_digest
from skelconv.store.info import StoreError
from skelconv.store.store import open_store
from skelconv.verify import verify
from skelconv.verify.findings import SHOWN_OF_A_KIND, Findings
from skelformats.errors import UnknownNameError
from tests.data import make_store_v1
from tests.skelconv.raw_ucla import write_raw
from tests.skelconv.small_store import DATASET, RECORDINGS, make_store


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_store(tmp_path_factory.mktemp("verify") / "small.zarr")


@pytest.fixture
def store(sound: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(sound, tmp_path / "copy.zarr"))


def problems(path: Path) -> str:
    return "\n".join(verify(path).problems)


class TestSound:
    def test_a_store_as_written_has_no_problem(self, sound: Path) -> None:
        report = verify(sound)
        assert report.ok
        assert report.problems == []
        assert (report.checked["sequences"], report.checked["frames"]) == (8, 2731)
        assert report.leakage == {"xsub": 1, "cv1": 0}
        assert report.describe().splitlines()[-1] == "sound"

    def test_the_share_of_missing_joints_is_counted(self, sound: Path) -> None:
        report = verify(sound)
        position = open_store(sound).load()["position"]
        assert report.checked["missing joints"] == int(np.isnan(position[..., 0]).sum())
        assert report.finite == pytest.approx(np.isfinite(position).mean())

    def test_the_archived_store_of_version_1(self) -> None:
        assert verify(make_store_v1.STORE).problems == []

    def test_every_byte_of_every_chunk_is_looked_at(self, sound: Path) -> None:
        chunks = [file for file in sound.rglob("*") if file.is_file() and file.name != "zarr.json"]
        assert verify(sound).checked["bytes"] == sum(file.stat().st_size for file in chunks)
        assert verify(sound).checked["files"] == len(chunks)

    def test_the_digest_is_that_of_the_specification(self, sound: Path) -> None:
        """BLAKE2b-64 of the little-endian float32 bytes in C order, every NaN as 0x7fc00000."""
        for sequence in open_store(sound):
            bits = sequence.position.astype("<f4").view("<u4").copy()
            bits[np.isnan(sequence.position)] = 0x7FC00000
            assert hashlib.blake2b(bits.tobytes(), digest_size=8).hexdigest() == sequence.row["digest"]

    def test_progress_runs_to_the_totals_it_was_given(self, sound: Path) -> None:
        runs: list[list[int]] = []

        @contextmanager
        def progress(steps: int, unit: str, size: int) -> Iterator[Callable[[int, int], None]]:
            run = [steps, size, 0, 0]
            runs.append(run)

            def advance(step: int, done: int) -> None:
                run[2] += step
                run[3] += done

            yield advance

        verify(sound, progress=progress)
        assert len(runs) == 2
        assert all(run[:2] == run[2:] for run in runs)


class TestDamage:
    def test_thirty_flipped_bytes_are_all_found(self, store: Path) -> None:
        """Anywhere in the chunk files: values, checksums, shard indices, table."""
        files = sorted(file for file in store.rglob("*") if file.is_file() and file.name != "zarr.json")
        sizes = np.array([file.stat().st_size for file in files])
        rng = np.random.default_rng(30)
        found = []
        for number in range(30):
            # half of them by size, so mostly in positions; half by file, so also in the small ones
            file = files[rng.choice(len(files), p=sizes / sizes.sum() if number % 2 else None)]
            kept = file.read_bytes()
            damaged = bytearray(kept)
            damaged[rng.integers(len(kept))] ^= int(rng.integers(1, 256))
            file.write_bytes(damaged)
            report = verify(store)
            found.append(any(str(file) in problem for problem in report.problems))
            file.write_bytes(kept)
        assert found == [True] * 30
        assert verify(store).ok

    def test_a_truncated_and_a_longer_shard(self, store: Path) -> None:
        shard = store / "position" / "c" / "0" / "0" / "0"
        kept = shard.read_bytes()
        shard.write_bytes(kept[:-1])
        assert "damaged shard index" in problems(store)
        index = kept[-36:]
        shard.write_bytes(kept[:-36] + bytes(5) + index)
        assert "belong to no chunk" in problems(store)

    @pytest.mark.parametrize("array", ["position", "frame_index", "label", "sequence", "confidence", "view"])
    def test_a_lost_chunk_file(self, store: Path, array: str) -> None:
        file = next(file for file in (store / array / "c").rglob("*") if file.is_file())
        file.unlink()
        assert f"{file}: found no file, expected a shard or chunk" in problems(store)

    def test_a_lost_array(self, store: Path) -> None:
        shutil.rmtree(store / "pixel")
        assert "array pixel: found other metadata" in problems(store)

    def test_the_other_checks_go_on_after_damage(self, store: Path) -> None:
        shard = store / "position" / "c" / "0" / "0" / "0"
        data = bytearray(shard.read_bytes())
        data[100] ^= 1
        shard.write_bytes(data)
        report = verify(store)
        assert len(report.problems) == 1
        assert report.checked["unreadable sequences"] == 1
        assert report.checked["sequences"] == 7

    def test_many_problems_of_a_kind_are_counted_not_listed(self) -> None:
        findings = Findings()
        for number in range(SHOWN_OF_A_KIND + 7):
            findings.add("things", f"thing {number}")
        assert len(findings.problems()) == SHOWN_OF_A_KIND + 1
        assert findings.problems()[-1] == "and 7 more problems of this kind: things"


def edit(array: str, at: Any, value: Any) -> Callable[[Path], None]:
    """Write into a store behind its back, as a faulty writer would: chunks and checksums are right."""

    def change(path: Path) -> None:
        zarr.open_group(path, mode="r+")[array][at] = value

    return change


def metadata(change: Callable[[dict[str, Any]], Any], file: str = "zarr.json") -> Callable[[Path], None]:
    def rewrite(path: Path) -> None:
        content = json.loads((path / file).read_text())
        change(content)
        (path / file).write_text(json.dumps(content))

    return rewrite


def position_with_new_digest(at: Any, value: float) -> Callable[[Path], None]:
    """Change the first sequence's positions and its digest with them."""

    def change(path: Path) -> None:
        group = zarr.open_group(path, mode="r+")
        group["position"][at] = value
        for row in (0, 4):
            group["digest"][row : row + 1] = np.array([motion_digest(group["position"][:300])], object)

    return change


class TestContents:
    @pytest.mark.parametrize(
        ("change", "message"),
        [
            (edit("position", (5, 0, 0), 1.0), "take00_b0: found positions of digest"),
            (
                edit("digest", slice(1, 2), np.array(["0" * 16], object)),
                "take01_b0: found positions of digest",
            ),
            (position_with_new_digest((5, 1, 0), np.nan), "take00_b0: found a joint with some axes NaN"),
            (position_with_new_digest((5, 1, 0), np.inf), "take00_b0: found an infinite position"),
            (edit("frame_index", 7, 6), "take00_b0: found frame numbers that do not increase"),
            (
                edit("frame_index", 299, 300),
                "take00_b0: found frame numbers 0 to 300, expected them within the",
            ),
            (
                edit("confidence", (3, 3), 9),
                r"take00_b0: found tracking states [9], expected some of [0, 1, 2]",
            ),
            (edit("start", 3, 671), "found sequences that overlap, leave gaps"),
            (edit("length", 7, 69), "found sequences that overlap, leave gaps"),
            (edit("length", 3, -5), "found sequences that overlap"),
            (edit("label", 2, 3), "take01_b1: found label 3 with action 'walk'"),
            (edit("label", 2, 2), "recording take01: found several values of label"),
            (
                edit("sequence", slice(1, 2), np.array(["take00_b0"], object)),
                "found the id 'take00_b0' again",
            ),
            (edit("split_xsub", slice(1, 2), np.array(["dev"], object)), "found the split 'dev' of xsub"),
            (
                edit("split_xsub", slice(4, 5), np.array(["val"], object)),
                "found 0 leaked test sequences of xsub",
            ),
            (edit("joint", slice(0, 1), np.array(["nose"], object)), "array joint: found ('nose'"),
        ],
    )
    def test_a_value_that_breaks_a_rule_is_named(
        self, store: Path, change: Callable[[Path], None], message: str
    ) -> None:
        change(store)
        assert message in problems(store)

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            (
                metadata(lambda m: m["attributes"].update(units="mm"), "position/zarr.json"),
                "array position: found other metadata",
            ),
            (
                lambda p: (p / "position" / "c" / "0" / "x.partial").write_text(""),
                "x.partial: found a file that belongs to no array",
            ),
            (lambda p: (p / "notes.txt").write_text(""), "notes.txt: found a file that belongs to no array"),
            (
                metadata(lambda m: m["consolidated_metadata"]["metadata"]["label"].update(data_type="int64")),
                "array label: found int64",
            ),
            (
                metadata(lambda m: m["consolidated_metadata"]["metadata"].pop("split_cv1")),
                "found no array split_cv1",
            ),
            (metadata(lambda m: m.pop("consolidated_metadata")), "found no consolidated metadata"),
            (
                metadata(lambda m: m["attributes"]["skelconv"]["provenance"].update(frames=5)),
                "expected 8, 6, 5 as the provenance",
            ),
        ],
    )
    def test_structure(self, store: Path, change: Callable[[Path], None], message: str) -> None:
        change(store)
        assert message in problems(store)

    def test_frames_without_shards_or_with_another_fill_value_are_not_of_this_format(
        self, store: Path
    ) -> None:
        group = zarr.open_group(store, mode="r+")
        layout: dict[str, Any] = {
            "overwrite": True,
            "dimension_names": ("frame",),
            "compressors": (Crc32cCodec(),),
        }
        group.create_array(
            name="frame_index", shape=(2731,), dtype="i4", chunks=(256,), fill_value=-1, **layout
        )
        schema.consolidate(store)
        assert "array frame_index: found no shards" in problems(store)
        assert "array frame_index: found the fill value -1" in problems(store)

    def test_an_array_without_checksums_is_not_of_this_format(self, store: Path) -> None:
        group = zarr.open_group(store, mode="r+")
        label = group["label"][:]
        group.create_array(
            name="label",
            data=label,
            chunks=(8,),
            compressors=(),
            overwrite=True,
            dimension_names=("sequence",),
        )
        schema.consolidate(store)
        assert "array label: found no crc32c" in problems(store)

    def test_what_is_no_store_raises(self, tmp_path: Path) -> None:
        with pytest.raises(StoreError, match="found nothing there"):
            verify(tmp_path / "nothing.zarr")
        with pytest.raises(StoreError, match="copy the store to this machine"):
            verify("s3://bucket/store.zarr")


@pytest.fixture(scope="module")
def ingested(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("raw")
    write_raw(folder / "raw", 12)
    (folder / "raw" / "a01_s01_e09_v01.json").write_text("not json")
    ingest(make_plan("ucla", folder / "raw", "test", precision=1e-3), folder / "out.zarr", workers=0)
    return folder / "raw", folder / "out.zarr"


class TestAgainstTheSources:
    @pytest.fixture
    def raw(self, ingested: tuple[Path, Path], tmp_path: Path) -> Path:
        return Path(shutil.copytree(ingested[0], tmp_path / "raw"))

    def test_equal_sources_are_no_problem(self, ingested: tuple[Path, Path]) -> None:
        report = verify(ingested[1], raw=ingested[0])
        assert report.problems == []
        assert report.checked["sources"] == 13

    def change(self, file: Path, value: float) -> None:
        content = json.loads(file.read_text())
        old = content["skeletons"][2][3][1]
        content["skeletons"][2][3][1] = round(old + value, len(str(old).split(".")[1]))
        file.write_text(json.dumps(content))

    def test_another_position_in_a_source_is_found(self, raw: Path, ingested: tuple[Path, Path]) -> None:
        self.change(raw / "a02_s01_e00_v01.json", 1.0)
        found = verify(ingested[1], raw=raw).problems
        assert (
            "a02_s01_e00_v01.json, a02_s01_e00_v01_b0: found another position, expected the source's" in found
        )

    def test_lost_new_and_repaired_sources_are_found(self, raw: Path, ingested: tuple[Path, Path]) -> None:
        (raw / "a02_s01_e00_v01.json").unlink()
        content = json.loads((raw / "a01_s01_e00_v01.json").read_text())
        for name in ("a01_s01_e08_v01", "a01_s01_e09_v01"):
            (raw / f"{name}.json").write_text(json.dumps(content | {"file_name": name}))
        text = "\n".join(verify(ingested[1], raw=raw).problems)
        assert "found other sources than those of the store" in text
        assert "a02_s01_e00_v01_b0: found in the store only" in text
        assert "a01_s01_e08_v01_b0: found in its source only" in text
        assert "a01_s01_e09_v01_b0: found a source that can be read" in text

    def test_a_source_that_can_no_longer_be_read(self, raw: Path, ingested: tuple[Path, Path]) -> None:
        (raw / "a03_s01_e00_v01.json").write_text("{}")
        text = "\n".join(verify(ingested[1], raw=raw).problems)
        assert "The store holds it" in text

    def test_a_changed_table_cell_is_found(self, ingested: tuple[Path, Path], tmp_path: Path) -> None:
        store = Path(shutil.copytree(ingested[1], tmp_path / "copy.zarr"))
        edit("subject", 0, 77)(store)
        assert any(
            "found subject 77, expected 1" in problem for problem in verify(store, raw=ingested[0]).problems
        )

    def test_a_store_made_from_a_store_has_no_sources(self, store: Path, tmp_path: Path) -> None:
        metadata(lambda m: m["attributes"]["skelconv"]["provenance"].update(derived_from={"digest": "x"}))(
            store
        )
        schema.consolidate(store)
        assert verify(store).ok
        with pytest.raises(StoreError, match="verify the store that it was made from"):
            verify(store, raw=tmp_path)

    def test_no_sources_or_no_reader_raises(
        self, ingested: tuple[Path, Path], sound: Path, tmp_path: Path
    ) -> None:
        with pytest.raises(PlanError, match="found no source of ucla"):
            verify(ingested[1], raw=tmp_path)
        with pytest.raises(UnknownNameError, match="no dataset named 'small'"):
            verify(sound, raw=tmp_path)


class TestCanonical:
    def test_rounding_stays_within_the_precision(self) -> None:
        raw = RECORDINGS[0].tracks[0].position
        exact = canonical_positions(raw, DATASET.axis_map)
        for precision in (1e-1, 1e-3, 1e-4):
            rounded = canonical_positions(raw, DATASET.axis_map, precision)
            error = np.nanmax(np.abs(rounded.astype("f8") - exact))
            assert precision / 8 < error <= precision
            np.testing.assert_array_equal(np.isnan(rounded), np.isnan(exact))

    @pytest.mark.parametrize("precision", [0, -1, float("nan"), float("inf")])
    def test_a_precision_must_be_a_length(self, precision: float) -> None:
        with pytest.raises(StoreError, match="expected a length above 0"):
            canonical_positions(np.zeros((1, 3), "f4"), DATASET.axis_map, precision)
