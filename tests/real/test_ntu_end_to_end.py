"""Every real NTU file, crlf/ and derived/ too: raw -> store -> S2I -> pretraining batch, through the CLI."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
import torch

from skelconv import open as open_store
from skelconv.clean import clean
from skelconv.clean.samples import arrange
from skelconv.cli.command import run
from skelconv.cli.main import cli as skelconv_cli
from skelconv.s2i import make_plan
from skelconv.s2i.read import open_s2i
from skeltrain.cli import cli as skeltrain_cli
from skeltrain.data.images import Images
from skeltrain.data.samples import open_samples
from skeltrain.sections import ImageData

pytestmark = pytest.mark.real

RECIPE = """
task: pretrain
data: {image_size: 224}
model: {preset: vit_micro, embed_dim: 16, depth: 1, num_heads: 2, decoder_dim: 16, decoder_depth: 1}
optim: {batch: 15, epochs: 1, warmup: 0}
log: {tensorboard: false}
"""


def command(cli: object, *words: object) -> int:
    with pytest.raises(SystemExit) as stop:
        run(cli, [str(word) for word in words])  # type: ignore[arg-type]
    assert isinstance(stop.value.code, int)
    return stop.value.code


@pytest.fixture(scope="module")
def store(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("ntu") / "ntu.zarr"
    assert command(skelconv_cli, "ingest", "ntu120", shared_data / "ntu", out, "-j", 0) == 0
    return out


@pytest.fixture(scope="module")
def images(store: Path) -> Path:
    out = store.with_name("s2i.zarr")
    assert command(skelconv_cli, "s2i", store, out, "--format", "ntu25", "--threads", 1) == 0
    return out


def test_every_file_is_in_the_store(store: Path, shared_data: Path) -> None:
    files = {file.relative_to(shared_data / "ntu").as_posix() for file in shared_data.rglob("*.skeleton")}
    assert len(files) == 15
    assert set(open_store(store).to_frame()["source"]) == files


def test_the_store_is_sound_and_equals_its_sources(store: Path, shared_data: Path) -> None:
    assert command(skelconv_cli, "verify", store, "--raw", shared_data / "ntu", "--quiet") == 0


def test_line_ends_change_nothing(store: Path) -> None:
    opened = open_store(store)
    name = "S001C001P001R001A001"
    lf, crlf = opened.recording(name).bodies[0], opened.recording(f"crlf/{name}").bodies[0]
    np.testing.assert_array_equal(lf.position, crlf.position)
    assert lf.row["digest"] == crlf.row["digest"]


def golden_names(golden: Path) -> list[str]:
    return sorted(path.stem for path in (golden / "ntu").glob("*.npz"))


def test_cleaned_recordings_equal_the_published_arrays(store: Path, golden: Path) -> None:
    opened = open_store(store)
    for name in golden_names(golden):
        want = np.load(golden / "ntu" / f"{name}.npz")
        recording = opened.recording(name)
        for chain, key in (("ctrgcn60", "ctrgcn60_aligned"), ("ctrgcn120", "ctrgcn120_aligned")):
            actors = clean(recording, chain, opened.skeleton).position
            persons = actors.transpose(1, 0, 2, 3).reshape(actors.shape[1], -1)
            np.testing.assert_array_equal(persons, want[key], err_msg=f"{name}, {chain}")
        (rows,) = arrange(clean(recording, "sgn", opened.skeleton), "interleave")
        np.testing.assert_array_equal(
            rows.position.reshape(len(rows), -1), want["sgn_one_person_frames"], err_msg=name
        )


def test_images_are_the_linear_map_of_the_published_frames(store: Path, images: Path, golden: Path) -> None:
    plan = make_plan(open_store(store).skeleton)
    encoded = open_s2i(images)
    order = list(encoded.to_frame().index)
    for name in golden_names(golden):
        frames = np.load(golden / "ntu" / f"{name}.npz")["sgn_one_person_frames"].astype(np.float64)
        frames = frames.reshape(-1, 25, 3)[:, list(plan.order)]
        in_time = np.tensordot(matrix(plan.weights_time(len(frames)), len(frames)), frames, axes=1)
        want = np.tensordot(in_time, matrix(plan.weights_joint(), 25), axes=(1, 1)).transpose(1, 0, 2)
        number = order.index(name)
        np.testing.assert_allclose(encoded.images(number, number + 1)[0], want, atol=1e-6, err_msg=name)


def matrix(weights: tuple[np.ndarray, ...], size: int) -> np.ndarray:
    """Interpolation weights (lower, upper, weight of the upper) as a dense matrix (rows, size)."""
    lower, upper, share = weights
    dense = np.zeros((len(lower), size))
    rows = np.arange(len(lower))
    np.add.at(dense, (rows, lower), 1 - share)
    np.add.at(dense, (rows, upper), share)
    return dense


def test_a_pretraining_batch_holds_those_images(store: Path, images: Path) -> None:
    settings = ImageData(store=str(store))
    samples = open_samples(settings, torch.device("cpu"))
    encoded = open_s2i(images)
    assert list(samples.table.index) == list(encoded.to_frame().index)
    batch = Images([samples], settings).images(np.arange(len(samples))).numpy()
    np.testing.assert_allclose(batch, encoded.images(0, len(encoded)), atol=1e-5)


def test_pretraining_runs_on_them(store: Path, tmp_path: Path) -> None:
    (tmp_path / "recipe.yaml").write_text(RECIPE)
    run_folder = tmp_path / "run"
    words = ("pretrain", tmp_path / "recipe.yaml", "--store", store, "--out", run_folder, "--device", "cpu")
    assert command(skeltrain_cli, *words) == 0
    with (run_folder / "metrics.csv").open() as file:
        (row,) = csv.DictReader(file)
    assert np.isfinite(float(row["loss"]))
