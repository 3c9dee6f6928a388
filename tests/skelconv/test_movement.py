"""``export --to movement`` and ``ingest movement``: files as movement has them, and back to the same
store.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
from click.testing import CliRunner

import skelconv
from skelconv.cli.main import cli
from skelconv.export import export_store
from skelconv.store.store import open_store
from skelconv.synth import Settings
from skelconv.testing import check_reader
from skelformats.errors import FormatError, SkelconvError
from skelformats.movement import MOVEMENT
from skelformats.reader import Clip
from skelformats.skeleton import load_skeleton
from tests.skelconv.round_trips import ABOUT, again, check_equal, generated, takes
from tests.skelconv.side_store import side_store

COCO = load_skeleton("coco17").names


pytest.importorskip("h5netcdf", reason="the extra netcdf is not installed")


def poses(frames: int = 4, axes: int = 2, **attributes: Any) -> xr.Dataset:
    """Poses as movement's ``from_numpy`` makes them (movement 0.15): two individuals, frames by number."""
    rng = np.random.default_rng(axes)
    return xr.Dataset(
        {
            "position": (("time", "space", "keypoints", "individuals"), rng.random((frames, axes, 17, 2))),
            "confidence": (("time", "keypoints", "individuals"), rng.random((frames, 17, 2))),
        },
        {
            "time": np.arange(frames),
            "space": list("xyz"[:axes]),
            "keypoints": list(COCO),
            "individuals": ["ann", "bob"],
        },
        {"ds_type": "poses", "time_unit": "frames", "source_software": "DeepLabCut", **attributes},
    )


def read(folder: Path, made: xr.Dataset | bytes, name: str = "walk.nc", **options: Any) -> Clip:
    folder.mkdir(exist_ok=True)
    if isinstance(made, bytes):
        (folder / name).write_bytes(made)
    else:
        made.to_netcdf(folder / name, engine="h5netcdf")
    asked = MOVEMENT.options(**{"skeleton": "coco17", **options})
    (source,) = (source for source in MOVEMENT.scan(folder, asked) if source.path == name)
    (clip,) = MOVEMENT.read(folder, source, asked)
    assert isinstance(clip, Clip)
    return clip


class TestRoundTrip:
    def test_the_commands_of_the_documents(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)
        skelconv.write_store("own.zarr", takes(), skeleton="toyota13", **ABOUT)
        for words in ("export own.zarr tracks/ --to movement", "ingest movement tracks/ again.zarr -j 0"):
            done = CliRunner().invoke(cli, words.split(), catch_exceptions=False)
            assert done.exit_code == 0, done.output
        check_equal(open_store("own.zarr"), open_store("again.zarr"))

    def test_2d_with_scores_and_lost_joints(self, tmp_path: Path) -> None:
        store = generated(tmp_path, "alphapose")
        check_equal(store, again(store, tmp_path, "movement"))

    def test_3d_of_two_people_with_states(self, tmp_path: Path) -> None:
        store = generated(tmp_path, "ntu60", Settings(frames=(8, 10), actions=(58,)))
        check_equal(store, again(store, tmp_path, "movement"))

    def test_columns_of_arrays_and_a_body_without_joints(self, tmp_path: Path) -> None:
        store = side_store(tmp_path / "in.zarr")
        exported = export_store(store, tmp_path / "movement", "movement")
        assert set(exported.left_out) == {"pixel", "root", "interval", "calibration"}
        other = again(store, tmp_path / "more", "movement")
        for name in ("position", "confidence", "betas", "names", "weight", "frame_index", "label"):
            assert (
                other.array(name).tolist() == store.array(name).tolist() or np.isnan(store.array(name)).any()
            )
            np.testing.assert_array_equal(other.array(name), store.array(name))


class TestFiles:
    def test_an_exported_file_is_a_dataset_of_movement(self, tmp_path: Path) -> None:
        store = generated(tmp_path, "alphapose")
        export_store(store, tmp_path / "out", "movement")
        recording = store.recording(store.recording_names()[0])
        with xr.open_dataset(tmp_path / "out" / f"{recording.name}.nc", engine="h5netcdf") as made:
            assert made["position"].dims == ("time", "space", "keypoints", "individuals")
            assert made["confidence"].dims == ("time", "keypoints", "individuals")
            assert made["keypoints"].values.tolist() == list(store.skeleton.names)
            assert made.attrs["ds_type"] == "poses"
            assert made.attrs["time_unit"] == "frames"
            body = recording.bodies[0]
            track = made["position"].sel(individuals=body.body, keypoints="left_wrist")
            wrist = body.position[:, store.skeleton.index("left_wrist")]
            np.testing.assert_array_equal(track[body.frame_index], wrist)
            absent = np.setdiff1d(np.arange(recording.length), body.frame_index)
            assert np.isnan(track[absent]).all()

    def test_movement_itself_takes_it(self, tmp_path: Path) -> None:
        datasets = pytest.importorskip("movement.validators.datasets")
        skelconv.write_store(tmp_path / "own.zarr", takes(), skeleton="toyota13", **ABOUT)
        export_store(open_store(tmp_path / "own.zarr"), tmp_path / "out", "movement")
        for file in (tmp_path / "out").glob("*.nc"):
            datasets.ValidPosesInputs.validate(xr.load_dataset(file))


class TestMovementsOwn:
    def test_individuals_are_sequences(self, tmp_path: Path) -> None:
        made = poses()
        made["position"][1, :, :, 1] = np.nan
        made["position"][2, 0, 5, 0] = np.nan
        clip = read(tmp_path, made)
        assert (clip.recording, clip.length) == ("walk", 4)
        ann, bob = clip.tracks
        assert (ann.body, bob.body) == ("ann", "bob")
        assert bob.frame_index.tolist() == [0, 2, 3]
        np.testing.assert_array_equal(
            bob.position, made["position"].values[[0, 2, 3], ..., 1].transpose(0, 2, 1).astype(np.float32)
        )
        assert np.argwhere(np.isnan(ann.position[..., 1])).tolist() == [[2, 5]]
        np.testing.assert_array_equal(ann.confidence, made["confidence"].values[..., 0].astype(np.float32))
        assert ann.columns == {"source_software": "DeepLabCut"}

    def test_keypoints_in_another_order_and_times_in_seconds_from_later_on(self, tmp_path: Path) -> None:
        made = poses(axes=3, fps=30.0, time_unit="seconds").assign_coords(time=np.arange(7, 11) / 30)
        turned = made.isel(keypoints=list(reversed(range(17))))
        clip = read(tmp_path, turned)
        assert clip.tracks[0].frame_index.tolist() == [7, 8, 9, 10]
        expected = made["position"].values[..., 0].transpose(0, 2, 1).astype(np.float32)
        np.testing.assert_array_equal(clip.tracks[0].position, expected)
        dataset = MOVEMENT.dataset_of(tmp_path, MOVEMENT.options(skeleton="coco17"))
        assert (dataset.unit, dataset.frame_rate) == ("m", 30.0)

    def test_without_any_confidence_there_is_none(self, tmp_path: Path) -> None:
        made = poses()
        made["confidence"][:] = np.nan
        assert read(tmp_path, made).tracks[0].confidence is None

    def test_names_that_are_not_the_layouts(self, tmp_path: Path) -> None:
        made = poses().assign_coords(keypoints=[f"keypoint_{number}" for number in range(17)])
        with pytest.raises(FormatError, match=r"the joint 'keypoint_0', .*--columns"):
            read(tmp_path, made)
        (tmp_path / "names.toml").write_text(
            "[joints]\n" + "\n".join(f'keypoint_{number} = "{name}"' for number, name in enumerate(COCO))
        )
        assert read(tmp_path, made, columns=tmp_path / "names.toml").tracks[0].position.shape == (4, 17, 2)

    @pytest.mark.parametrize(
        ("made", "found"),
        [
            (poses(ds_type="bboxes"), "a dataset of 'bboxes'"),
            (poses(time_unit="seconds"), "times in seconds and no fps"),
            (poses().assign_coords(time=[0.0, 0.5, 1.0, 1.5]), "times that are not those of frames"),
            (poses().assign_coords(time=[3, 2, 1, 0]), "times that are not those of frames"),
            (poses().drop_vars("confidence"), "no array 'confidence'"),
            (poses().drop_vars("keypoints"), "'keypoints'"),
            (
                poses().transpose("individuals", "keypoints", "space", "time"),
                "position of shape (2, 17, 2, 4)",
            ),
            (poses().assign_coords(individuals=["ann", "ann"]), "one of the individuals twice"),
            (poses(skelconv="{"), "the attribute 'skelconv', which is not JSON"),
            (
                poses(skelconv="{}" + " " * 0).assign_attrs(skelconv='{"label": 0}'),
                "the attribute 'skelconv' with",
            ),
            (b"CDF\x01", "a file of netCDF 3"),
            (b"\x89HDF\r\n\x1a\n", "a file that HDF5 cannot read"),
        ],
    )
    def test_what_is_wrong_is_named(self, tmp_path: Path, made: xr.Dataset | bytes, found: str) -> None:
        with pytest.raises(FormatError) as error:
            read(tmp_path, made)
        assert found in str(error.value)
        assert "walk.nc" in str(error.value)

    def test_files_are_like_the_first_one(self, tmp_path: Path) -> None:
        read(tmp_path, poses(fps=30.0), "a.nc")
        with pytest.raises(FormatError, match="25 frames a second, expected 30, as in the first file"):
            read(tmp_path, poses(fps=25.0), "b.nc")
        with pytest.raises(FormatError, match="3 axes, expected the 2 of the first file"):
            read(tmp_path, poses(axes=3), "b.nc")
        with pytest.raises(SkelconvError, match="found no --skeleton"):
            read(tmp_path, poses(), "b.nc", skeleton="")

    def test_damaged_copies_are_read_or_refused(self, tmp_path: Path) -> None:
        read(tmp_path, poses(frames=2), "a.nc")
        done = check_reader(MOVEMENT, tmp_path, MOVEMENT.options(skeleton="coco17"), damaged=60)
        assert (done.recordings, done.tracks) == (1, 2)
