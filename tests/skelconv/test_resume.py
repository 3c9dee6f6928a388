"""What an interrupted ingest left is checked before it is continued; --overwrite always works."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from skelconv.derive.clean import clean_store
from skelconv.ingest.ingest import IngestError, Parsed, ingest, parse_batch
from skelconv.ingest.journal import Journal
from skelconv.ingest.plan import IngestPlan, make_plan
from skelconv.store.info import StoreError
from skelconv.store.store import open_store
from skelconv.verify import verify
from skelformats.reader import Clip, ReadOptions, Source
from tests.skelconv.raw_ucla import write_raw
from tests.skelconv.test_ingest import tree

SHARD = 256
STEPS = 30


def plan_of(raw: Path, **settings: object) -> IngestPlan:
    return make_plan("ucla", raw, "test", **{"shard_frames": SHARD, **settings})  # type: ignore[arg-type]


def interrupt(raw: Path, out: Path, steps: int = STEPS, overwrite: bool = False) -> None:
    """Ingest the first ``steps`` sources, and stop as by Ctrl-C."""
    done = 0

    def stop(count: int, size: int) -> None:
        nonlocal done
        done += 1
        if done == steps:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        ingest(plan_of(raw), out, advance=stop, overwrite=overwrite)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str], Path]:
    """Raw files, the store they give, and a partial folder with several shards."""
    folder = tmp_path_factory.mktemp("resume")
    write_raw(folder / "raw", 45)
    ingest(plan_of(folder / "raw"), folder / "whole.zarr")
    interrupt(folder / "raw", folder / "out.zarr")
    partial = folder / "out.zarr.partial"
    assert sum(1 for _ in (partial / "store" / "position" / "c").iterdir()) >= 3
    return folder / "raw", tree(folder / "whole.zarr"), partial


@pytest.fixture
def raw(made: tuple[Path, dict[str, str], Path]) -> Path:
    return made[0]


@pytest.fixture
def out(made: tuple[Path, dict[str, str], Path], tmp_path: Path) -> Path:
    shutil.copytree(made[2], tmp_path / "out.zarr.partial")
    return tmp_path / "out.zarr"


def shard(partial: Path) -> Path:
    return partial / "store" / "position" / "c" / "1" / "0" / "0"


def flip(file: Path, at: int) -> None:
    data = bytearray(file.read_bytes())
    data[at] ^= 1
    file.write_bytes(data)


def link_away(folder: Path) -> None:
    moved = folder.rename(folder.with_name("elsewhere"))
    folder.symlink_to(moved)


DAMAGE: dict[str, tuple[Callable[[Path], object], str]] = {
    "a shard is gone": (lambda p: shard(p).unlink(), "found no file there, expected shard 1"),
    "a shard is empty": (lambda p: shard(p).write_bytes(b""), "other bytes than were written"),
    "a shard is cut": (lambda p: os.truncate(shard(p), 100), "other bytes than were written"),
    "a shard is zeros": (
        lambda p: shard(p).write_bytes(bytes(shard(p).stat().st_size)),
        "other bytes than were written",
    ),
    "a bit of a shard": (lambda p: flip(shard(p), 50), "other bytes than were written"),
    "a link for shards": (lambda p: link_away(p / "store" / "position" / "c"), "found no file there"),
    "a bit of the journal": (lambda p: flip(p / "journal.jsonl", 700), "bytes in line 2"),
    "a cut line": (
        lambda p: (p / "journal.jsonl").write_bytes(
            (p / "journal.jsonl").read_bytes().replace(b"digests", b"digest", 1)
        ),
        "bytes in line 2",
    ),
    "no JSON": (lambda p: (p / "journal.jsonl").write_text("{\n[\n{]\n"), "bytes in line 1"),
    "no text": (lambda p: (p / "journal.jsonl").write_bytes(b"\xff\xfe\n" * 9), "bytes in line 1"),
    "a folder": (
        lambda p: ((p / "journal.jsonl").unlink(), (p / "journal.jsonl").mkdir()),
        "something that is not a file",
    ),
}


class TestDamage:
    @pytest.mark.parametrize("name", DAMAGE)
    def test_it_is_said_with_what_to_do_and_overwrite_works(
        self, raw: Path, out: Path, made: tuple[Path, dict[str, str], Path], name: str
    ) -> None:
        damage, message = DAMAGE[name]
        damage(out.with_name("out.zarr.partial"))
        with pytest.raises(StoreError, match=f"{message}.*--overwrite"):
            ingest(plan_of(raw), out)
        assert not out.exists()
        ingest(plan_of(raw), out, overwrite=True)
        assert tree(out) == made[1]
        assert [entry.name for entry in out.parent.iterdir()] == ["out.zarr"]

    @pytest.mark.parametrize(
        "damage",
        [
            lambda store: (store / "zarr.json").write_text("{"),
            lambda store: (store / "position" / "zarr.json").write_bytes(b"\xff" * 99),
            lambda store: (store / "position" / "zarr.json").unlink(),
            lambda store: shutil.copytree(store / "position", store / "stray"),
            lambda store: (store / "position" / "c" / "1" / "0" / "note").write_text(""),
            lambda store: (store / "label").symlink_to("/"),
        ],
        ids=["root", "array", "no array", "stray array", "stray file", "link"],
    )
    def test_metadata_and_strays_do_not_matter_since_only_shards_are_kept(
        self,
        raw: Path,
        out: Path,
        made: tuple[Path, dict[str, str], Path],
        damage: Callable[[Path], object],
    ) -> None:
        damage(out.with_name("out.zarr.partial") / "store")
        assert ingest(plan_of(raw), out).resumed_at > 0
        assert tree(out) == made[1]

    def test_a_journal_cut_anywhere_resumes_or_says_why_not(
        self, raw: Path, made: tuple[Path, dict[str, str], Path], tmp_path: Path
    ) -> None:
        content = (made[2] / "journal.jsonl").read_bytes()
        for size in np.linspace(0, len(content) - 1, 12).astype(int):
            out = tmp_path / f"{size}.zarr"
            partial = out.with_name(f"{size}.zarr.partial")
            shutil.copytree(made[2], partial)
            (partial / "journal.jsonl").write_bytes(content[:size])
            ingest(plan_of(raw), out)
            assert tree(out) == made[1]

    def test_a_bit_of_the_journal_never_becomes_a_wrong_table(
        self, raw: Path, made: tuple[Path, dict[str, str], Path], tmp_path: Path
    ) -> None:
        """Every flip is found, or of a newline at the end of what is then a torn line."""
        content = (made[2] / "journal.jsonl").read_bytes()
        journal = Journal(tmp_path / "journal.jsonl")
        plan = plan_of(raw)
        whole = len(Journal(made[2] / "journal.jsonl").begin(plan).shards)
        found = 0
        for at in np.random.default_rng(0).choice(len(content), 200, replace=False):
            damaged = bytearray(content)
            damaged[at] ^= 1 << int(at % 8)
            journal.path.write_bytes(damaged)
            try:
                assert len(journal.begin(plan).shards) < whole
            except StoreError:
                found += 1
        assert found >= 195


class TestSourcesThatChange:
    @pytest.fixture
    def raw(self, made: tuple[Path, dict[str, str], Path], tmp_path: Path) -> Path:
        return Path(shutil.copytree(made[0], tmp_path / "raw"))

    def replace(self, file: Path) -> None:
        """Another file of the same size."""
        text = file.read_text()
        digit = next(i for i in range(60, len(text)) if text[i] in "123456")
        other = str(int(text[digit]) + 1)
        file.write_text(text[:digit] + other + text[digit + 1 :])
        found = file.stat()
        os.utime(file, ns=(found.st_atime_ns, found.st_mtime_ns + 10**6))

    def test_between_interruption_and_resume(self, raw: Path, tmp_path: Path) -> None:
        out = tmp_path / "out.zarr"
        interrupt(raw, out)
        first = plan_of(raw).sources[0]
        self.replace(raw / first.path)
        with pytest.raises(
            StoreError, match=rf"{first.path}: found another time of modification.*--overwrite"
        ):
            ingest(plan_of(raw), out)
        ingest(plan_of(raw), out, overwrite=True)
        assert verify(out, raw=raw).ok

    def test_one_that_was_not_read_yet_may_change(self, raw: Path, tmp_path: Path) -> None:
        out = tmp_path / "out.zarr"
        interrupt(raw, out)
        self.replace(raw / plan_of(raw).sources[-1].path)
        assert ingest(plan_of(raw), out).resumed_at > 0
        assert verify(out, raw=raw).ok

    def test_during_the_run_it_is_set_aside(self, raw: Path, tmp_path: Path) -> None:
        plan = plan_of(raw)
        self.replace(raw / plan.sources[7].path)
        (aside,) = ingest(plan, tmp_path / "out.zarr").set_aside
        assert aside.source == plan.sources[7].path
        assert "changed since this run began" in aside.reason

    def test_the_bytes_of_the_store_do_not_depend_on_times(
        self, raw: Path, tmp_path: Path, made: tuple[Path, dict[str, str], Path]
    ) -> None:
        for file in raw.iterdir():
            os.utime(file, ns=(0, 10**18))
        ingest(plan_of(raw), tmp_path / "out.zarr")
        assert tree(tmp_path / "out.zarr") == made[1]


class TestNothingToStore:
    def test_the_corrected_run_is_not_blocked(self, raw: Path, tmp_path: Path) -> None:
        folder = tmp_path / "raw"
        names = write_raw(folder, 4)
        for name in names:
            (folder / f"{name}.json").write_text("{")
        with pytest.raises(IngestError, match="found nothing to store in 4 sources"):
            ingest(plan_of(folder), tmp_path / "out.zarr")
        assert [entry.name for entry in tmp_path.iterdir()] == ["raw"]
        ingest(plan_of(raw), tmp_path / "out.zarr")

    def test_an_unfinished_run_without_a_whole_shard_is_in_nobodys_way(
        self, raw: Path, tmp_path: Path
    ) -> None:
        interrupt(raw, tmp_path / "out.zarr", steps=1)
        ingest(plan_of(raw, precision=1e-3), tmp_path / "out.zarr")


class TestNames:
    @pytest.fixture
    def folder(self, tmp_path: Path) -> Path:
        write_raw(tmp_path / "raw", 12)
        return tmp_path / "raw"

    def test_a_source_whose_name_is_not_utf8_is_set_aside(self, folder: Path, tmp_path: Path) -> None:
        bad = os.fsencode(folder) + b"/b\xff\xfe"
        os.mkdir(bad)  # noqa: PTH102 - a name that is no text
        first = sorted(folder.glob("*.json"))[0]
        Path(os.fsdecode(bad), "a01_s09_e05_v03.json").write_bytes(
            first.read_bytes().replace(first.stem.encode(), b"a01_s09_e05_v03")
        )
        summary = ingest(plan_of(folder), tmp_path / "out.zarr")
        (aside,) = summary.set_aside
        assert "expected a UTF-8 name" in aside.reason
        assert aside.source == "b\\udcff\\udcfe/a01_s09_e05_v03.json"
        summary.describe(tmp_path / "out.zarr").encode()
        assert verify(tmp_path / "out.zarr", raw=folder).ok
        plan_of(folder).describe(tmp_path / "out.zarr").encode()

    def test_two_recordings_of_one_name_in_one_source(
        self, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The first is kept, the second set aside: they are never run together."""
        ingest(plan_of(folder), tmp_path / "once.zarr")
        chosen = plan_of(folder).sources[3].path

        def twice(dataset: str, root: Path, sources: Sequence[Source], options: ReadOptions) -> list[Parsed]:
            parsed = parse_batch(dataset, root, sources, options)
            return [
                replace(one, clips=(*one.clips, *map(longer, one.clips))) if source.path == chosen else one
                for source, one in zip(sources, parsed, strict=True)
            ]

        monkeypatch.setattr("skelconv.ingest.ingest.parse_batch", twice)
        monkeypatch.setattr("skelconv.verify.raw.parse_batch", twice)
        (aside,) = ingest(plan_of(folder), tmp_path / "out.zarr").set_aside
        assert aside.recording == chosen.removesuffix(".json")
        assert "again, expected a new name; it holds it already" in aside.reason
        once, out = open_store(tmp_path / "once.zarr"), open_store(tmp_path / "out.zarr")
        np.testing.assert_array_equal(out.load()["position"], once.load()["position"])
        assert verify(tmp_path / "out.zarr", raw=folder).problems == []


def longer(clip: Clip) -> Clip:
    """Another recording of the same name."""
    (track,) = clip.tracks
    frames = np.arange(400, dtype=np.int32)
    position = np.resize(track.position, (400, 20, 3))
    return replace(clip, length=400, tracks=(replace(track, frame_index=frames, position=position),))


def test_a_partial_of_an_ingest_is_kept_from_clean(raw: Path, out: Path, tmp_path: Path) -> None:
    ingest(plan_of(raw), tmp_path / "source.zarr")
    with pytest.raises(StoreError, match="unfinished ingest"):
        clean_store(open_store(tmp_path / "source.zarr"), out, "metric")
    assert json.loads((out.with_name("out.zarr.partial") / "journal.jsonl").read_text().splitlines()[0])
