"""Generated AMASS files, read back."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import skelconv
from skelconv.ingest.ingest import ingest
from skelconv.ingest.plan import make_plan
from skelconv.synth import SYNTHESIZERS, Settings, SynthError, synthesize
from skelconv.verify.report import verify
from skelformats.amass import AMASS
from skelformats.reader import Clip
from skelformats.skeleton import load_skeleton

COUNT = 10
MAKER = SYNTHESIZERS["amass"]


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("amass") / "raw"
    synthesize("amass", folder, COUNT, 5, settings=Settings(frames=(12, 30)))
    return folder


def test_the_reader_finds_the_truth_with_the_models_that_lie_beside(raw: Path) -> None:
    options = AMASS.options()
    sources = AMASS.scan(raw, options)
    assert len(sources) == COUNT
    truths = {}
    for index in range(COUNT):
        truth, _ = MAKER.make(5, index, Settings(frames=(12, 30)))
        truths[truth.name] = truth
    parts = set()
    for source in sources:
        (clip,) = AMASS.read(raw, source, options)
        assert isinstance(clip, Clip)
        truth = truths[clip.recording]
        assert clip.length == truth.length
        np.testing.assert_allclose(clip.tracks[0].position, truth.tracks[0].position, rtol=0, atol=1e-6)
        parts.add(clip.splits["official"])
    assert parts >= {"train", "test"}


def test_a_take_does_not_depend_on_when_it_is_made() -> None:
    first, second = (MAKER.make(1, 3, Settings())[1] for _ in range(2))
    assert first == second
    assert MAKER.make(2, 3, Settings())[1] != first


def test_people_stand_on_the_floor_upright_with_plus_z_up() -> None:
    names = load_skeleton("smpl22").names
    for index in range(6):
        position = MAKER.make(0, index, Settings())[0].tracks[0].position
        lowest = position[..., 2].min()
        assert -0.1 < lowest < 0.12
        head = position[:, names.index("head"), 2]
        pelvis = position[:, names.index("pelvis"), 2]
        assert head[0] - pelvis[0] > 0.4
        assert 1.3 < head.max() < 2.1


def test_left_is_where_the_body_has_it() -> None:
    names = load_skeleton("smpl22").names
    position = MAKER.make(0, 0, Settings())[0].tracks[0].position[0]
    at = {name: position[names.index(name)] for name in names}
    across = at["left_hip"] - at["right_hip"]
    up = at["neck"] - at["pelvis"]
    ahead = at["left_foot"] - at["left_ankle"]
    assert np.cross(across, up) @ ahead > 0
    assert (at["left_shoulder"] - at["right_shoulder"]) @ across > 0


def test_the_store_keeps_rates_shapes_and_extras_and_verifies_against_the_files(
    raw: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out.zarr"
    ingest(make_plan("amass", raw, "test", ["pose"], {"fps": 50.0, "joints": "smplh52"}), out)
    store = skelconv.open(out)
    assert store.skeleton.name == "smplh52"
    frame = store.to_frame()
    assert set(frame["frame_rate"]) == {50.0}
    assert set(frame["source_frame_rate"]) <= {120.0, 100.0, 60.0, 120.00004577636719, 150.0}
    assert store.array("betas").shape == (COUNT, 16)
    assert store.sequence(0).extras["pose"].shape[1:] == (52, 3)
    # canonical: +y up
    head, foot = (store.sequence(0).position[:, joint, 1] for joint in (15, 10))
    assert (head - foot > 0.8).all()
    assert verify(out, raw).ok


def test_what_cannot_be_generated_is_refused() -> None:
    with pytest.raises(SynthError, match="AMASS has no classes"):
        MAKER.make(0, 0, Settings(actions=(999,)))
    with pytest.raises(SynthError, match="take number 100000"):
        MAKER.make(0, 100_000, Settings())
