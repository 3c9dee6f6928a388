"""``skelconv export`` and ``skelconv ingest table`` are each other's inverse, without any option."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner

import skelconv
from skelconv.cli.main import cli
from skelconv.ingest.ingest import Summary, ingest
from skelconv.ingest.plan import make_plan
from skelconv.store.store import open_store
from skelconv.synth import Settings
from skelconv.testing import check_reader
from skelformats.errors import SkelconvError
from skelformats.reader import find_reader
from skelformats.skeleton import load_skeleton, skeleton_toml
from tests.skelconv.round_trips import ABOUT, again, check_equal, generated, takes
from tests.skelconv.side_store import side_store

FORMS = ("csv", "parquet")


def test_the_commands_of_the_documents(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    skelconv.write_store("own.zarr", takes(), skeleton="toyota13", **ABOUT)
    for words in ("export own.zarr tables/ --to csv", "ingest table tables/ again.zarr -j 0"):
        done = CliRunner().invoke(cli, words.split(), catch_exceptions=False)
        assert done.exit_code == 0, done.output
    check_equal(open_store("own.zarr"), open_store("again.zarr"))


@pytest.mark.parametrize("form", FORMS)
class TestRoundTrip:
    def test_2d_with_scores_and_lost_joints(self, tmp_path: Path, form: str) -> None:
        store = generated(tmp_path, "alphapose")
        assert np.isnan(store.array("position")).any()
        check_equal(store, again(store, tmp_path, form))

    def test_3d_of_two_people_with_states_classes_splits_and_optional_arrays(
        self, tmp_path: Path, form: str
    ) -> None:
        two = Settings(frames=(8, 10), actions=(58,), faults=0.0)  # walking towards each other
        store = generated(tmp_path, "ntu60", two, ("color", "orientation"))
        assert store.array("body").size == 2 * len(store.recording_names())
        other = again(store, tmp_path, form)
        check_equal(store, other)
        assert other.array("raw_source").tolist() == store.array("source").tolist()
        assert other.info.dataset.cleaning == "sgn"

    def test_side_tables_columns_of_arrays_and_text_and_raw_axes(self, tmp_path: Path, form: str) -> None:
        store = side_store(tmp_path / "in.zarr")
        assert set(store.info.tables) == {"interval", "calibration"}
        check_equal(store, again(store, tmp_path, form), without={"root", "root_axis"})

    def test_a_second_time_round_is_the_same_again(self, tmp_path: Path, form: str) -> None:
        first = again(generated(tmp_path, "alphapose"), tmp_path, form)
        second = again(first, tmp_path / "second", form)
        check_equal(first, second)
        assert second.array("raw_source").tolist() == first.array("raw_source").tolist()

    def test_a_layout_of_ones_own_columns_and_names_that_look_like_formulas(
        self, tmp_path: Path, form: str
    ) -> None:
        text = skeleton_toml(load_skeleton("toyota13")).replace('"toyota13"', '"mine13"')
        (tmp_path / "mine.toml").write_text(text)
        skelconv.write_store(tmp_path / "in.zarr", takes(), skeleton=tmp_path / "mine.toml", **ABOUT)
        (tmp_path / "mine.toml").unlink()
        store = open_store(tmp_path / "in.zarr")
        other = again(store, tmp_path, form)
        check_equal(store, other)
        assert other.recording_names() == ["=1+1", "'quoted", "NA"]
        assert other.to_frame()["age"].tolist() == [30, 31, 32]


@pytest.fixture
def export(tmp_path: Path) -> Path:
    skelconv.write_store(tmp_path / "in.zarr", takes(), skeleton="toyota13", **ABOUT)
    done = CliRunner().invoke(
        cli, ["export", str(tmp_path / "in.zarr"), str(tmp_path / "csv"), "--to", "csv"]
    )
    assert done.exit_code == 0
    return tmp_path / "csv"


def taken(export: Path, **options: Any) -> Summary:
    return ingest(make_plan("table", export, "test", options=options), export.parent / "out.zarr")


class TestChanged:
    def test_rows_in_another_order_are_the_same_and_those_left_out_are_missing(self, export: Path) -> None:
        table = pd.read_csv(export / "frames.csv", dtype=str, keep_default_na=False)
        kept = table[~((table["frame"] == "5") & (table["joint"] == "head"))]
        kept.sample(frac=1, random_state=0).to_csv(export / "frames.csv", index=False)
        taken(export)
        before, after = (
            open_store(export.parent / name).array("position") for name in ("in.zarr", "out.zarr")
        )
        head = load_skeleton("toyota13").index("head")
        assert np.isnan(after[2::5, head]).all()
        before[2::5, head] = np.nan
        np.testing.assert_array_equal(after, before)

    @pytest.mark.parametrize(
        ("file", "old", "new", "found"),
        [
            ("about.json", '"unit"', '"units"', "no description of a store (KeyError('unit'))"),
            ("about.json", "{", "", "text that is not JSON"),
            (
                "frames.csv",
                "'=1+1_b0",
                "=2_b0",
                "the sequence '=2_b0', expected the sequences of sequences.csv",
            ),
            ("frames.csv", ",head,", ",tail,", "the joint 'tail', expected the joints of toyota13"),
            ("frames.csv", "_b0,1,", "_b0,0,", "a joint twice in a frame"),
            ("frames.csv", "_b0,9,", "_b0,x,", "the column frame of frames.csv"),
            (
                "frames.csv",
                "_b0,9,",
                "_b0,99,",
                "of 10 frames in sequences.csv, expected the 100 that it has in frames",
            ),
            ("sequences.csv", "recording_length", "size", "no column 'recording_length'"),
        ],
    )
    def test_what_does_not_belong_together_is_named(
        self, export: Path, file: str, old: str, new: str, found: str
    ) -> None:
        path = export / file
        path.write_text(path.read_text().replace(old, new))
        try:
            problems = [item.reason for item in taken(export).set_aside]
        except SkelconvError as error:
            problems = [str(error)]
        assert any(found in problem for problem in problems), problems
        assert file == "frames.csv" or any(file in problem for problem in problems)

    def test_an_export_says_itself_what_it_holds(self, export: Path) -> None:
        with pytest.raises(SkelconvError, match="--skeleton, expected no such option: it was written by"):
            taken(export, skeleton="coco17")

    def test_damaged_copies_are_read_or_refused(self, export: Path) -> None:
        done = check_reader(find_reader("table"), export, damaged=60)
        assert (done.recordings, done.refused) == (3, 0)

    def test_an_export_of_an_earlier_version_is_a_table(self, export: Path) -> None:
        about = json.loads((export / "about.json").read_text())
        del about["described"]
        (export / "about.json").write_text(json.dumps(about))
        for name in ("sequences.csv", "about.json"):
            (export / name).unlink()
        assert taken(export, skeleton="toyota13").info.provenance.sequences == 3
