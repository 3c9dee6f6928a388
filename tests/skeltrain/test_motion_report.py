"""The page of runs from scratch beside pretrained ones: its table, its 2D beside 3D, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from skelconv.cli.command import run
from skelconv.store.info import StoreError
from skelconv.store.recording import Recording, Sequence
from skelconv.view import ViewError, view
from skelconv.view.beside import GAP, beside_names, flat_beside
from skeltrain.motion_report import ReportError, error_curves, main, score_table
from skeltrain.run import predict_run, run_recipe
from skeltrain.tasks.pose3d import Pose3dRecipe, PoseData, errors_of_the_mean
from tests.skeltrain import motion_stores
from tests.skeltrain.test_motion_tasks import OPTIM, QUIET, SMALL


def written(folder: Path, seed: int, mpjpe: float) -> Path:
    """A run that ended with an error."""
    folder.mkdir()
    scores = {"mpjpe": mpjpe, "p_mpjpe": mpjpe / 2, "mpjve": 3.0}
    scores |= {"constant_mpjpe": 200.0, "constant_p_mpjpe": 150.0}
    (folder / "evaluation.json").write_text(json.dumps({"test": scores}))
    (folder / "recipe.yaml").write_text(f"# made by: a test\ntask: pose3d\nseed: {seed}\n")
    (folder / "metrics.csv").write_text(f"step,epoch,loss,mpjpe\n1,1,0.5,\n2,2,0.25,{mpjpe}\n")
    return folder


def test_means_and_spread_over_seeds_and_the_gain_of_each(tmp_path: Path) -> None:
    plain = [written(tmp_path / f"s{k}", k, 100.0 + 10 * k) for k in range(3)]
    tuned = [written(tmp_path / f"p{k}", k, value) for k, value in ((2, 90.0), (0, 80.0), (1, 115.0))]
    table = score_table(plain, tuned)
    assert table.heading == "3 seeds"
    assert table.rows[0] == [
        "MPJPE, mm",
        "200.0",
        "110.0 ± 10.0",
        "95.0 ± 18.0",
        "15.0 ± 18.0, in 2 of 3 seeds",
    ]
    assert table.rows[2][1] == "", "of a pose that does not move nothing is said"
    assert error_curves(plain, tuned).count("<path") > error_curves(plain[:1], tuned[:1]).count("<path")


def test_what_makes_no_table(tmp_path: Path) -> None:
    run0, run1 = written(tmp_path / "a", 0, 90.0), written(tmp_path / "b", 1, 90.0)
    with pytest.raises(ReportError, match=r"found seeds \[0\] from scratch and \[1\] pretrained"):
        score_table([run0], [run1])
    with pytest.raises(ReportError, match="found seed 0 twice"):
        score_table([run0, run0], [run1])
    with pytest.raises(ReportError, match="found no scores of the test part"):
        score_table([tmp_path], [run1])
    (run1 / "evaluation.json").write_text('{"test": {"loss": 1.0}}')
    (run1 / "recipe.yaml").write_text("seed: 0\n")
    with pytest.raises(ReportError, match="found no mpjpe in its evaluation"):
        score_table([run0], [run1])


def test_the_error_of_the_mean_pose_is_what_it_says() -> None:
    rng = np.random.default_rng(0)
    truth = rng.normal(0, 100, (5, 17, 3))
    seen = np.ones((5, 17), bool)
    seen[0, 3] = False
    truth[0, 3] = 1e6
    position, aligned = errors_of_the_mean(truth, seen)
    known = np.where(seen[..., None], truth, np.nan)
    mean = np.nanmean(known, axis=0)
    expected = np.nanmean(np.linalg.norm(known - mean, axis=-1), axis=-1)
    np.testing.assert_allclose(position, expected, rtol=1e-6)
    assert (aligned < position).all()


# 2D beside 3D


def recording(scale: float = 40.0) -> tuple[Recording, np.ndarray]:
    """Two persons whose pixels are their positions through a camera without perspective."""
    rng = np.random.default_rng(3)
    bodies, seen = [], []
    for k in range(2):
        place = rng.normal(0, 0.4, (4, 17, 3)) + np.array([3.0 * k, 0, 0])
        pixel = np.stack([-place[..., 0], -place[..., 1]], axis=-1) * scale + [500, 300]
        local = (place - place[:, :1]).astype(np.float32)  # where a person is, is in the pixels alone
        extras = {"pixel": pixel.astype(np.float32)}
        bodies.append(Sequence(f"r_{k}", str(k), np.arange(4, dtype=np.int32), local, None, extras))
        seen.append(place)
    return Recording("r", 4, tuple(bodies)), np.stack(seen)


def test_flat_and_solid_poses_agree_as_the_camera_sees_them() -> None:
    made, seen = recording()
    shown = flat_beside(made)
    flat, solid = shown.bodies[0::2], shown.bodies[1::2]
    np.testing.assert_allclose([body.position[..., 2] for body in flat], 0, atol=1e-6)
    shift = flat[0].position[0, 0, 0] - solid[0].position[0, 0, 0]
    high = np.ptp(np.percentile(seen[..., 1], (1, 99)))
    assert shift > np.ptp(np.percentile(seen[..., 0], (1, 99))) + GAP * high - 1e-3, "they do not overlap"
    for one, other, true in zip(flat, solid, seen, strict=True):
        np.testing.assert_allclose(
            one.position[..., :2] - [shift, 0],
            other.position[..., :2],
            atol=1e-3,
            err_msg="the same in x and y",
        )
        apart = other.position[:, 1:, :2] - other.position[:, :1, :2]
        np.testing.assert_allclose(apart, true[:, 1:, :2] - true[:, :1, :2], atol=1e-3)
    between = solid[1].position[..., 0].mean() - solid[0].position[..., 0].mean()
    assert between == pytest.approx(seen[1, ..., 0].mean() - seen[0, ..., 0].mean(), rel=0.01)
    assert beside_names(2) == ["2D, person 1", "3D, person 1", "2D, person 2", "3D, person 2"]


def test_without_2d_poses_there_is_nothing_beside() -> None:
    made, _ = recording()
    with pytest.raises(StoreError, match="r_0: found no array 'detection'"):
        flat_beside(made, "detection")


def test_view_shows_what_a_store_of_predictions_was_lifted_from(tmp_path: Path) -> None:
    store = motion_stores.write_3d(tmp_path / "people.zarr", 1, 12)
    flat = motion_stores.write_2d(tmp_path / "flat.zarr", "openpose25", "f4")
    data = PoseData(store=str(store), protocol=None, length=9, stride=9)
    optim = OPTIM.model_copy(update={"epochs": 1})
    run_recipe(
        Pose3dRecipe(data=data, model=SMALL, optim=optim, device="cpu", log=QUIET), out=tmp_path / "run"
    )
    predict_run(tmp_path / "run", str(flat), tmp_path / "poses.zarr")
    page = view(tmp_path / "poses.zarr", "r1", tmp_path / "page.html", beside=True).read_text()
    assert '"names":["2D, person 1","3D, person 1","2D, person 2","3D, person 2"]' in page
    for suffix in (".gif", ".png"):
        assert (
            view(tmp_path / "poses.zarr", None, tmp_path / f"page{suffix}", beside=True).stat().st_size > 1000
        )
    with pytest.raises(ViewError, match="found the axes x, y with --beside, expected 3D poses"):
        view(flat, None, tmp_path / "no.html", beside=True)
    with pytest.raises(StoreError, match="found no array 'pixel'"):
        view(store, None, tmp_path / "no.html", beside=True)
    assert not (tmp_path / "no.html").exists()


def test_the_command_writes_a_page_with_table_and_poses(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = motion_stores.write_3d(tmp_path / "people.zarr", 2, 20)
    flat = motion_stores.write_2d(tmp_path / "flat.zarr", "openpose25", "f4")
    data = PoseData(store=str(store), protocol=None, length=9, stride=9)
    optim = OPTIM.model_copy(update={"epochs": 1})
    recipe = Pose3dRecipe(data=data, model=SMALL, optim=optim, device="cpu", log=QUIET)
    run_recipe(recipe, out=tmp_path / "run")
    predict_run(tmp_path / "run", str(flat), tmp_path / "poses.zarr")
    (tmp_path / "run" / "evaluation.json").write_bytes(
        (written(tmp_path / "s", 0, 9.0) / "evaluation.json").read_bytes()
    )
    words = ["--scratch", str(tmp_path / "s"), "--pretrained", str(tmp_path / "run")]
    out = tmp_path / "page.html"
    with pytest.raises(SystemExit) as end:
        run(
            main,
            [
                *words,
                "--pretraining",
                str(tmp_path / "run"),
                "--poses",
                str(tmp_path / "poses.zarr"),
                "--out",
                str(out),
            ],
        )
    assert end.value.code == 0
    said = capsys.readouterr().out
    assert "from scratch" in said
    page = out.read_text()
    assert "MPJPE, mm" in page
    assert "2D, person 1" in page
    assert "http://" not in page.replace("http://www.w3.org", "").replace("http://purl.org", "").replace(
        "http://creativecommons.org", ""
    ), "nothing is fetched"
