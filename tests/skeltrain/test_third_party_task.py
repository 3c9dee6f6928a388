"""A task from somebody else's package: what docs/adding-a-task.md shows is installed and trains."""

from __future__ import annotations

import csv
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from skelconv.store.info import Provenance
from skelconv.store.writer import write_store
from skelformats.reader import Clip, Confidence, Dataset, Track

PAGE = (Path(__file__).parents[2] / "docs" / "adding-a-task.md").read_text(encoding="utf-8")
MAIN = "from skeltrain.cli import main; main()"


def _example(language: str) -> str:
    (code,) = re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)
    return str(code)


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder that pip installed the page's package into."""
    folder = tmp_path_factory.mktemp("third_party_task")
    package = folder / "nextframe"
    package.mkdir()
    (package / "pyproject.toml").write_text(_example("toml"))
    (package / "nextframe.py").write_text(_example("python"))
    subprocess.run(
        [
            *(sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-index"),
            *("--no-deps", "--no-build-isolation", "--target", str(folder / "site"), str(package)),
        ],
        check=True,
        capture_output=True,
    )
    return folder / "site"


@pytest.fixture(scope="module")
def flat_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A 2D store: people of 17 joints who sway, in pixels, with scores, and a gap in one of them."""
    rng = np.random.default_rng(5)
    dataset = Dataset(
        name="flat",
        title="people who sway",
        skeleton="coco17",
        licence="none",
        citation="none",
        homepage="none",
        frame_rate=30.0,
        classes=(),
        columns=(),
        protocols=(),
        missing="a score of 0",
        unit="px",
        axes=("x", "y"),
        axis_convention="image, +y down",
        confidence=Confidence("f4", "score of the detector"),
    )
    clips = []
    for n in range(6):
        index = np.delete(np.arange(40, dtype=np.int32), slice(20, 20 + 5 * (n == 0)))
        sway = 40 * np.sin(0.3 * index + n)[:, None, None]
        position = (rng.normal(300, 60, (1, 17, 2)) + sway).astype(np.float32)
        score = rng.uniform(0.5, 1, (len(index), 17)).astype(np.float32)
        position[:, 3], score[:, 3] = np.nan, 0
        clips.append((f"{n}.json", Clip(f"v{n}", 40, (Track("0", index, position, score),), -1, {}, {})))
    path = tmp_path_factory.mktemp("flat") / "flat.zarr"
    write_store(path, dataset, clips, Provenance(tool="tests", command="tests", digest="flat"))
    return path


def skeltrain(installed: Path, *words: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", MAIN, *map(str, words)],
        env={**os.environ, "PYTHONPATH": str(installed), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )


def losses(run: Path) -> list[float]:
    with (run / "metrics.csv").open() as file:
        return [float(row["loss"]) for row in csv.DictReader(file)]


def test_it_trains_and_is_evaluated_like_any_other(installed: Path, flat_store: Path, tmp_path: Path) -> None:
    recipe = tmp_path / "next.yaml"
    recipe.write_text(_example("yaml"))
    words = ("train", recipe, "--store", flat_store, "--device", "cpu", "--set", "log.tensorboard=false")
    done = skeltrain(installed, *words, "--out", tmp_path / "run")
    assert done.returncode == 0, done.stderr
    # 40 frames in windows of 8, every 4: nine a sequence; the gap leaves four windows on its left and two
    # on its right
    assert "data: 51 windows of flat" in done.stderr
    found = losses(tmp_path / "run")
    assert len(found) == 6
    assert found[-1] < 0.9 * found[0]

    short = skeltrain(installed, *words, "--out", tmp_path / "cut", "--set", "optim.epochs=3")
    assert short.returncode == 0, short.stderr
    assert losses(tmp_path / "cut") == found[:3]

    evaluated = skeltrain(installed, "evaluate", tmp_path / "run")
    assert evaluated.returncode == 0, evaluated.stderr
    kept = json.loads((tmp_path / "run" / "evaluation.json").read_text())
    assert evaluated.stdout == f"windows  error  {kept['windows']['error']:.6g}\n"


def test_its_recipe_is_checked_like_any_other(installed: Path, flat_store: Path, tmp_path: Path) -> None:
    recipe = tmp_path / "next.yaml"
    recipe.write_text(_example("yaml").replace("stride", "strid"))
    done = skeltrain(installed, "train", recipe, "--store", flat_store)
    assert done.returncode == 2
    assert "line 2: unknown key 'data.strid'. Did you mean 'data.stride'?" in done.stderr


def test_it_is_unknown_where_it_is_not_installed(tmp_path: Path) -> None:
    recipe = tmp_path / "next.yaml"
    recipe.write_text(_example("yaml"))
    done = skeltrain(tmp_path / "nothing", "train", recipe)
    assert done.returncode == 2
    assert "nextframe" in done.stderr
    assert "pretrain" in done.stderr
    assert "Traceback" not in done.stderr
