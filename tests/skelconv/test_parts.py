"""``--part i/n`` and merging: the bytes of one run; what does not go together is named."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from skelconv.cli.main import cli
from skelconv.derive.merge import MergeError
from skelconv.derive.merge_parts import merge_parts
from skelconv.ingest.ingest import ingest
from skelconv.ingest.part import PartError, cuts, parse_part, take_part
from skelconv.ingest.plan import IngestPlan, make_plan
from skelconv.store.info import StoreError
from skelconv.store.store import Store, open_store
from skelconv.synth.folder import synthesize
from skelconv.verify import verify
from skelformats.reader import Source
from tests.skelconv.raw_ucla import write_raw
from tests.skelconv.test_ingest import tree
from tests.skelconv.test_resume import flip

PARTS = 3


def plan_of(raw: Path, dataset: str = "ucla", extras: tuple[str, ...] = ()) -> IngestPlan:
    return make_plan(dataset, raw, "test", extras, shard_frames=512)


def parts_of(plan: IngestPlan, folder: Path, of: int = PARTS) -> list[Store]:
    stores = []
    for number in range(1, of + 1):
        ingest(take_part(plan, number, of), folder / f"part{number}.zarr")
        stores.append(open_store(folder / f"part{number}.zarr"))
    return stores


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("raw")
    names = write_raw(folder, 40)
    # one that is set aside, and so is in a part's account
    (folder / f"{names[30]}.json").write_text("{")
    return folder


@pytest.fixture(scope="module")
def made(raw: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, str], list[Store]]:
    """The files of one run, and the parts."""
    folder = tmp_path_factory.mktemp("parts")
    ingest(plan_of(raw), folder / "whole.zarr")
    return tree(folder / "whole.zarr"), parts_of(plan_of(raw), folder)


def test_merged_parts_are_the_store_of_one_run(
    made: tuple[dict[str, str], list[Store]], tmp_path: Path
) -> None:
    whole, parts = made
    assert [store.frames % 256 for store in parts] != [0, 0, 0], "boundaries on chunks test nothing"
    merge_parts(parts[::-1], tmp_path / "out.zarr")
    assert tree(tmp_path / "out.zarr") == whole


def test_each_part_is_a_sound_store_of_its_own(made: tuple[dict[str, str], list[Store]]) -> None:
    for store in made[1]:
        assert verify(store.path).ok


@pytest.mark.parametrize(("dataset", "recordings", "extras"), [("pku1", 5, ()), ("ntu60", 9, ("color",))])
def test_side_tables_and_optional_arrays_come_out_alike(
    tmp_path: Path, dataset: str, recordings: int, extras: tuple[str, ...]
) -> None:
    synthesize(dataset, tmp_path / "raw", recordings)
    plan = plan_of(tmp_path / "raw", dataset, extras)
    ingest(plan, tmp_path / "whole.zarr")
    merge_parts(parts_of(plan, tmp_path, 2), tmp_path / "out.zarr")
    assert tree(tmp_path / "out.zarr") == tree(tmp_path / "whole.zarr")


def test_chunks_that_keep_their_place_are_moved_and_not_decoded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Recordings of 256 frames each: every part begins on a chunk, so nothing at all is decoded."""
    write_raw(tmp_path / "raw", 6, frames=(256, 257))
    plan = plan_of(tmp_path / "raw")
    ingest(plan, tmp_path / "whole.zarr")
    parts = parts_of(plan, tmp_path)

    def refuse(*asked: Any) -> None:
        raise AssertionError("frames were decoded")

    monkeypatch.setattr(Store, "read", refuse)
    merge_parts(parts, tmp_path / "out.zarr")
    assert tree(tmp_path / "out.zarr") == tree(tmp_path / "whole.zarr")


def test_a_chunk_that_is_damaged_is_not_moved(tmp_path: Path) -> None:
    write_raw(tmp_path / "raw", 6, frames=(256, 257))
    parts = parts_of(plan_of(tmp_path / "raw"), tmp_path)
    flip(tmp_path / "part2.zarr" / "position" / "c" / "0" / "0" / "0", 99)
    with pytest.raises(StoreError, match=r"part2\.zarr, position, chunk 0: found bytes that differ"):
        merge_parts(parts, tmp_path / "out.zarr")
    assert not (tmp_path / "out.zarr").exists()


def test_a_part_without_any_body_is_a_part(tmp_path: Path) -> None:
    names = write_raw(tmp_path / "raw", 3)
    (tmp_path / "raw" / f"{names[1]}.json").write_text("{")
    ingest(plan_of(tmp_path / "raw"), tmp_path / "whole.zarr")
    parts = parts_of(plan_of(tmp_path / "raw"), tmp_path)
    assert sorted(len(store) for store in parts) == [0, 1, 1]
    merge_parts(parts, tmp_path / "out.zarr")
    assert tree(tmp_path / "out.zarr") == tree(tmp_path / "whole.zarr")


class TestRefused:
    def refuse(self, stores: list[Store], tmp_path: Path, message: str) -> None:
        with pytest.raises(MergeError, match=message):
            merge_parts(stores, tmp_path / "out.zarr")
        assert not (tmp_path / "out.zarr").exists()

    def test_missing_parts_are_named(self, made: tuple[dict[str, str], list[Store]], tmp_path: Path) -> None:
        self.refuse(made[1][1:2], tmp_path, r"1 of 3 parts, expected all; missing: 1, 3.*--part 1/3")

    def test_a_part_twice(self, made: tuple[dict[str, str], list[Store]], tmp_path: Path) -> None:
        self.refuse([*made[1], made[1][0]], tmp_path, "found part 1 again")

    def test_parts_of_two_ingests(
        self, raw: Path, made: tuple[dict[str, str], list[Store]], tmp_path: Path
    ) -> None:
        plan = make_plan("ucla", raw, "test", shard_frames=512, precision=1e-3)
        ingest(take_part(plan, 2, 3), tmp_path / "other.zarr")
        self.refuse([made[1][0], open_store(tmp_path / "other.zarr")], tmp_path, "part of another ingest")

    def test_parts_of_different_numbers(
        self, raw: Path, made: tuple[dict[str, str], list[Store]], tmp_path: Path
    ) -> None:
        ingest(take_part(plan_of(raw), 4, 4), tmp_path / "other.zarr")
        self.refuse([*made[1], open_store(tmp_path / "other.zarr")], tmp_path, "found parts of 3 and of 4")

    def test_a_whole_store_among_them(
        self, raw: Path, made: tuple[dict[str, str], list[Store]], tmp_path: Path
    ) -> None:
        ingest(plan_of(raw), tmp_path / "whole.zarr")
        self.refuse([*made[1], open_store(tmp_path / "whole.zarr")], tmp_path, "found a whole store")

    @pytest.mark.parametrize("text", ["0/3", "4/3", "3", "a/b", "1/0", "-1/3", "1/3/5"])
    def test_what_is_no_part(self, text: str) -> None:
        with pytest.raises(PartError, match="expected i/n"):
            parse_part(text)

    def test_more_parts_than_sources(self, raw: Path) -> None:
        with pytest.raises(PartError, match="found 41 parts asked for, expected at most 40"):
            take_part(plan_of(raw), 1, 41)


def test_parts_are_stretches_of_about_as_many_bytes_and_none_is_empty() -> None:
    rng = np.random.default_rng(0)
    for _ in range(200):
        count = int(rng.integers(1, 40))
        sizes = rng.integers(0, 5, count) if rng.random() < 0.3 else rng.integers(1, 10**6, count)
        of = int(rng.integers(1, count + 1))
        bounds = cuts([Source(str(n), int(size)) for n, size in enumerate(sizes)], of)
        assert bounds[0] == 0
        assert bounds[-1] == count
        assert all(before < after for before, after in pairwise(bounds))
    even = cuts([Source(str(n), 7) for n in range(80)], 8)
    assert even == list(range(0, 81, 10))


def test_by_the_command_line(raw: Path, tmp_path: Path) -> None:
    runner = CliRunner()
    words = ["ingest", "ucla", str(raw)]
    for number in (1, 2):
        out = str(tmp_path / f"part{number}.zarr")
        done = runner.invoke(cli, [*words, out, "--part", f"{number}/2", "-q"])
        assert done.exit_code in (0, 1), done.output
    stores = [str(tmp_path / f"part{number}.zarr") for number in (1, 2)]
    assert (
        "leave out --prefix" in runner.invoke(cli, ["merge", str(tmp_path / "o"), *stores, "--prefix"]).output
    )
    assert runner.invoke(cli, ["merge", str(tmp_path / "out.zarr"), *stores]).exit_code == 0
    runner.invoke(cli, [*words, str(tmp_path / "whole.zarr"), "-q"])
    assert tree(tmp_path / "out.zarr") == tree(tmp_path / "whole.zarr")
