"""Score fusion: weighted sums of what runs answered for the same recordings."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from skelconv.cli.command import run
from skeltrain.cli import cli
from skeltrain.ensemble import fuse_runs, read_predictions
from skeltrain.run_folder import RunError

LABEL = np.array([0, 1, 2, 2])
JOINT = np.array([[3.0, 0, 0], [0, 0, 1], [0, 0, 2], [2, 0, 0]])
BONE = np.array([[1.0, 0, 0], [0, 2, 0], [0, 1, 0], [0, 0, 1]])
MOTION = np.array([[0.0, 5, 0], [0, 1, 0], [0, 0, 1], [0, 0, 4]])


def keep(folder: Path, logits: np.ndarray, **changed: Any) -> Path:
    folder.mkdir()
    arrays = {
        "recording": np.array(["a", "b", "c", "d"]),
        "label": LABEL,
        "leaked": np.array([True, False, False, False]),
        "logits": logits.astype(np.float32),
        **changed,
    }
    np.savez(folder / "predictions_test.npz", **arrays)
    return folder


@pytest.fixture
def runs(tmp_path: Path) -> list[Path]:
    return [keep(tmp_path / n, x) for n, x in (("joint", JOINT), ("bone", BONE), ("motion", MOTION))]


def test_three_streams_are_added_with_the_published_weights(runs: list[Path], tmp_path: Path) -> None:
    report = fuse_runs(runs, out=tmp_path / "fused")
    assert [one["weight"] for one in report["runs"]] == [0.6, 0.6, 0.4]
    assert [one["top1"] for one in report["runs"]] == [0.5, 0.75, 0.75]
    total = 0.6 * JOINT + 0.6 * BONE + 0.4 * MOTION
    with np.load(tmp_path / "fused" / "predictions_fused.npz", allow_pickle=False) as kept:
        np.testing.assert_allclose(kept["logits"], total)
    assert total.argmax(axis=1).tolist() == [0, 1, 2, 2], "each run is wrong somewhere, their sum is not"
    assert report["fused"] == {"top1": 1.0, "mean_class": 1.0, "top1_without_leaked": 1.0}
    equal = (JOINT + BONE + MOTION).argmax(axis=1) == LABEL
    assert report["equal"]["top1"] == equal.mean() == 0.75
    assert report["equal"]["top1_without_leaked"] == 1
    assert json.loads((tmp_path / "fused" / "ensemble.json").read_text()) == report


def test_recordings_are_matched_by_name(runs: list[Path], tmp_path: Path) -> None:
    order = [2, 0, 3, 1]
    names = np.array(["a", "b", "c", "d"])[order]
    leaked = np.array([True, False, False, False])[order]
    turned = keep(tmp_path / "turned", BONE[order], recording=names, label=LABEL[order], leaked=leaked)
    assert fuse_runs([runs[0], turned])["fused"] == fuse_runs(runs[:2])["fused"]
    assert read_predictions(turned).recording.tolist() == ["a", "b", "c", "d"]


def test_runs_that_do_not_belong_together_are_refused(runs: list[Path], tmp_path: Path) -> None:
    others = {
        "names": (
            JOINT,
            {"recording": np.array(["a", "b", "c", "e"])},
            "4 recordings and 3 classes, expected",
        ),
        "classes": (JOINT[:, :2], {}, "4 recordings and 2 classes"),
        "labels": (JOINT, {"label": LABEL[::-1]}, "other classes of the same recordings"),
    }
    for name, (logits, changed, message) in others.items():
        other = keep(tmp_path / name, logits, **changed)
        with pytest.raises(RunError, match=message):
            fuse_runs([runs[0], other])
    with pytest.raises(RunError, match="at least two"):
        fuse_runs(runs[:1])
    for weights in ([1.0], [0.0, 0.0], [1.0, -1.0], [1.0, float("nan")]):
        with pytest.raises(RunError, match="expected a number from 0 on for each"):
            fuse_runs(runs[:2], weights)
    with pytest.raises(RunError, match="skeltrain evaluate"):
        fuse_runs([runs[0], tmp_path / "absent"])
    (runs[1] / "predictions_test.npz").write_bytes(b"PK\x03\x04 nothing")
    with pytest.raises(RunError, match="cannot be read"):
        fuse_runs(runs)


def test_the_verb_shows_each_run_and_the_sums(runs: list[Path], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        run(cli, ["ensemble", *map(str, runs[:2]), "--weights", "1,0.5"])
    assert end.value.code == 0
    shown = capsys.readouterr().out
    assert "4 test recordings (1 leaked)" in shown
    assert f"{runs[1]} × 0.5" in shown
    assert "fused with equal weights" in shown
    with pytest.raises(SystemExit) as end:
        run(cli, ["ensemble", *map(str, runs[:2]), "--weights", "1,much"])
    assert end.value.code == 2
