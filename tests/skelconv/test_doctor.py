"""The doctor names what lies at a path and the command that fits, which then works; and what is odd."""

from __future__ import annotations

import shlex
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner

from skelconv.cli.command import run
from skelconv.cli.main import cli
from skelconv.doctor import examine_machine, look
from skelconv.ingest.ingest import ingest
from skelconv.ingest.plan import make_plan
from skelconv.store.info import StoreError
from skelconv.synth import MARKER, SYNTHESIZERS, synthesize


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("raw")


def generated(raw: Path, name: str) -> Path:
    if not (raw / name).exists():
        synthesize(name, raw / name, 2)
    return raw / name


@pytest.mark.parametrize("name", sorted(set(SYNTHESIZERS) - {"h36m", "mpi3dhp"}))
def test_the_first_command_is_that_of_the_dataset(raw: Path, name: str) -> None:
    commands = look(generated(raw, name)).commands
    # files of the first half of NTU RGB+D 120 are those of NTU RGB+D 60, name by name
    expected = "ntu60" if name == "ntu120" else name
    assert shlex.split(commands[0])[:3] == ["skelconv", "ingest", expected]


def test_the_command_works(raw: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    command = look(generated(raw, "ucla")).commands[0]
    done = CliRunner().invoke(cli, [*shlex.split(command)[1:], "-j", "0"], catch_exceptions=False)
    assert done.exit_code == 0
    store = look(tmp_path / "out.zarr")
    assert "sequence store" in store.what
    for words in store.commands[:2]:
        assert CliRunner().invoke(cli, shlex.split(words)[1:], catch_exceptions=False).exit_code == 0


class TestOdd:
    def test_archives_pointers_and_empty_files_are_named(self, tmp_path: Path) -> None:
        synthesize("ucla", tmp_path / "raw", 2)
        (tmp_path / "raw/more.zip").write_bytes(b"PK")
        (tmp_path / "raw/a01_s01_e00_v01.json").write_text(
            "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 3\n"
        )
        (tmp_path / "raw/nothing.json").touch()
        said = " ".join(look(tmp_path / "raw").odd)
        for words in ("more.zip: found no whole zip", "git lfs pull", "nothing.json: empty"):
            assert words in said
        with pytest.raises(SystemExit) as stopped:
            run(cli, ["doctor", str(tmp_path / "raw")])
        assert stopped.value.code == 1

    def test_several_datasets_in_one_folder(self, tmp_path: Path) -> None:
        synthesize("ucla", tmp_path / "raw/a", 2)
        synthesize("ntu60", tmp_path / "raw/b", 2)
        finding = look(tmp_path / "raw")
        assert "several datasets" in finding.odd[0]
        assert {shlex.split(command)[2] for command in finding.commands} >= {"ucla", "ntu60"}

    def test_a_folder_inside_of_the_raw_folder(self, raw: Path) -> None:
        finding = look(generated(raw, "pku1") / "Split")
        assert "the folder above" in " ".join(finding.odd)

    def test_files_that_end_like_sources_and_are_not_taken_are_named(self, raw: Path) -> None:
        assert "shape.npz" in " ".join(look(generated(raw, "amass")).facts)

    def test_an_archive_says_whose_files_are_in_it(self, raw: Path, tmp_path: Path) -> None:
        packed = shutil.make_archive(str(tmp_path / "more"), "gztar", generated(raw, "ntu120"))
        finding = look(Path(packed))
        assert "raw files of ntu60 or ntu120" in finding.what
        assert f"skelconv ingest ntu120 {packed} out.zarr" in finding.commands

    def test_an_archive_a_stranger_and_nothing(self, tmp_path: Path) -> None:
        (tmp_path / "s001_to_s017.zip").write_bytes(b"PK\3\4")
        (tmp_path / "stranger.xyz").write_text("1 2 3")
        assert "archive" in look(tmp_path / "s001_to_s017.zip").what
        assert "no installed reader" in look(tmp_path / "stranger.xyz").what
        with pytest.raises(StoreError, match="found nothing there"):
            look(tmp_path / "nowhere")


class TestOutputs:
    def test_a_generated_store_says_so_and_an_unfinished_one_how_to_go_on(
        self, raw: Path, tmp_path: Path
    ) -> None:
        ingest(make_plan("ucla", generated(raw, "ucla"), "test 1"), tmp_path / "out.zarr")
        assert "generated" in " ".join(look(tmp_path / "out.zarr").facts)
        (tmp_path / "other.zarr.partial").mkdir()
        assert "goes on where it stopped" in look(tmp_path / "other.zarr").odd[0]

    def test_one_source_leads_to_its_folder(self, raw: Path) -> None:
        folder = generated(raw, "ucla")
        file = next(folder.glob("a*.json"))
        assert shlex.split(look(file).commands[0])[3] == str(folder)
        assert (folder / MARKER).exists()

    def test_a_run(self) -> None:
        finding = look(Path(__file__).parents[1] / "data/run-v1")
        assert "a run of skeltrain" in finding.what
        assert "skeltrain evaluate" in finding.commands[0]


def test_the_machine() -> None:
    text = examine_machine().describe()
    for words in ("Python 3", "processors", "GB of memory", "extra train", "extra remote"):
        assert words in text
