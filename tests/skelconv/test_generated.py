"""A store of generated files says so, and carries nothing of the dataset but its format."""

from __future__ import annotations

from pathlib import Path

import pytest

import skelconv
from skelconv.derive.clean import clean_store
from skelconv.derive.merge import merge_stores
from skelconv.ingest.generated import LONGEST, MARKER
from skelconv.ingest.ingest import ingest
from skelconv.ingest.plan import make_plan
from skelconv.report.summary import describe
from skelconv.synth import synthesize
from skelformats.reader import find_reader


class TestTheMarker:
    @pytest.fixture
    def raw(self, tmp_path: Path) -> Path:
        synthesize("ucla", tmp_path / "raw", 4)
        return tmp_path / "raw"

    def ingested(self, raw: Path, out: Path) -> skelconv.Store:
        ingest(make_plan("ucla", raw, "test 1"), out)
        return skelconv.open(out)

    def test_a_store_of_generated_files_has_no_licence_and_no_citation_of_the_dataset(
        self, raw: Path, tmp_path: Path
    ) -> None:
        real = find_reader("ucla").dataset
        about = self.ingested(raw, tmp_path / "out.zarr").info.dataset
        assert about.name == "ucla"
        assert "seed 0" in about.generated
        assert real.licence not in about.licence
        assert about.citation == about.homepage == ""
        assert "generated" in describe(skelconv.open(tmp_path / "out.zarr"))

    def test_without_the_marker_it_is_a_store_of_recordings(self, raw: Path, tmp_path: Path) -> None:
        made = self.ingested(raw, tmp_path / "generated.zarr")
        (raw / MARKER).unlink()
        about = self.ingested(raw, tmp_path / "out.zarr").info
        assert about.dataset.licence == find_reader("ucla").dataset.licence
        # stores of recordings keep the bytes and the plan's digest that they always had
        assert "generated" not in about.to_attributes()["dataset"]
        assert about.provenance.digest != made.info.provenance.digest

    def test_derived_and_merged_stores_still_say_so(self, raw: Path, tmp_path: Path) -> None:
        made = self.ingested(raw, tmp_path / "out.zarr")
        cleaned = clean_store(made, tmp_path / "clean.zarr", "metric")
        assert cleaned.dataset.generated == made.info.dataset.generated
        synthesize("ucla", tmp_path / "others", 4, seed=1)
        (tmp_path / "others" / MARKER).unlink()
        other = self.ingested(tmp_path / "others", tmp_path / "recorded.zarr")
        merged = merge_stores([made, other], tmp_path / "merged.zarr").info.dataset
        assert made.info.dataset.generated in merged.generated
        assert find_reader("ucla").dataset.licence in merged.licence
        assert "nobody" in merged.licence

    def test_a_marker_of_any_content_is_kept_short_and_in_one_line(self, raw: Path, tmp_path: Path) -> None:
        (raw / MARKER).write_bytes(b"\x00\xff made\n up " * 100_000)
        text = self.ingested(raw, tmp_path / "out.zarr").info.dataset.generated
        assert 0 < len(text) <= LONGEST
        assert "\n" not in text
