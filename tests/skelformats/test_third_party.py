"""A dataset from somebody else's package: what docs/adding-a-dataset.md shows is installed and ingests."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from skelconv.store.store import open_store

PAGE = (Path(__file__).parents[2] / "docs" / "adding-a-dataset.md").read_text(encoding="utf-8")
MAIN = "from skelconv.cli.main import main; main()"


def _example(language: str, number: int = 0) -> str:
    """Return one of the page's examples in a language: the reader's first, then the layout's."""
    return str(re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)[number])


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder that pip installed the page's package into."""
    folder = tmp_path_factory.mktemp("third_party")
    reader, joints = folder / "tinyset", folder / "tinyjoints"
    for path, content in (
        (reader / "pyproject.toml", _example("toml")),
        (reader / "tinyset.py", _example("python")),
        (joints / "pyproject.toml", _example("toml", 1)),
        (joints / "tinyjoints" / "__init__.py", _example("python", 1)),
        (joints / "tinyjoints" / "tiny6.toml", _example("toml", 2)),
    ):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    subprocess.run(
        [
            *(sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-index"),
            *(
                "--no-deps",
                "--no-build-isolation",
                "--target",
                str(folder / "site"),
                str(reader),
                str(joints),
            ),
        ],
        check=True,
        capture_output=True,
    )
    return folder / "site"


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    """Three recordings, one of them broken in line 2."""
    folder = tmp_path / "raw"
    folder.mkdir()
    for name, seed in (("P1_wave", 1), ("P2_walk", 2)):
        values = np.random.default_rng(seed).normal(0, 1000, (6, 39)).round(3)
        values[2] = np.nan
        values[4, 6:9] = np.nan
        np.savetxt(folder / f"{name}.csv", values, "%.3f", ",")
    (folder / "P3_wave.csv").write_text(",".join(["0"] * 39) + "\n1,2,3\n")
    return folder


def python(
    installed: Path, code: str, *words: str | Path, cwd: Path | None = None
) -> subprocess.CompletedProcess[str]:
    """Run code where the page's packages are installed."""
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(installed), str(Path(__file__).parents[2])]),
    }
    return subprocess.run(
        [sys.executable, "-c", code, *map(str, words)],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        cwd=cwd,
    )


def skelconv(installed: Path, *words: str | Path) -> subprocess.CompletedProcess[str]:
    return python(installed, MAIN, *words)


def test_its_dataset_is_listed_and_ingests_like_any_other(installed: Path, raw: Path, tmp_path: Path) -> None:
    assert "tinyset" in skelconv(installed, "datasets").stdout
    done = skelconv(installed, "ingest", "tinyset", raw, tmp_path / "out.zarr", "-j", "2")
    assert done.returncode == 1, done.stderr
    assert "P3_wave.csv, line 2: found 3 values, expected 39" in done.stdout + done.stderr
    store = open_store(tmp_path / "out.zarr")
    assert store.names == ["P1_wave_b0", "P2_walk_b0"]
    assert store.to_frame()["split_xsub"].tolist() == ["train", "test"]
    sequence = store["P2_walk_b0"]
    assert sequence.frame_index.tolist() == [0, 1, 3, 4, 5]
    x, y, z = np.loadtxt(raw / "P2_walk.csv", delimiter=",")[:, :3].T
    np.testing.assert_allclose(
        sequence.position[:, 0], np.stack([x, z, -y], 1)[sequence.frame_index] / 1000, rtol=1e-6
    )
    assert np.isnan(sequence.position[3, 2]).all()
    checked = skelconv(installed, "verify", tmp_path / "out.zarr", "--raw", raw)
    assert checked.returncode == 0, checked.stdout


def test_the_page_s_check_passes_on_it(installed: Path, raw: Path) -> None:
    (raw / "P3_wave.csv").unlink()
    session = str(re.findall(r"```pycon\n(.*?)```", PAGE, re.DOTALL)[0])
    code = [line.removeprefix(">>> ") for line in session.splitlines() if line.startswith(">>> ")]
    code[-1] = f"print({code[-1]})"
    done = python(installed, "\n".join(code), cwd=raw.parent)
    assert done.stdout == session.splitlines()[-1] + "\n", done.stderr


def test_a_layout_of_another_package_is_taken_by_name_and_by_path(
    installed: Path, raw: Path, tmp_path: Path
) -> None:
    assert "six joints" in skelconv(installed, "skeletons").stdout
    named = skelconv(installed, "s2i", "--format", "tiny6")
    assert named.returncode == 0, named.stderr
    (tmp_path / "tiny6.toml").write_text(_example("toml", 2))
    assert skelconv(installed, "s2i", "--format", tmp_path / "tiny6.toml").stdout == named.stdout
    (tmp_path / "bad.toml").write_text(_example("toml", 2).replace('"left_ankle"]', "3]"))
    refused = skelconv(installed, "s2i", "--format", tmp_path / "bad.toml")
    assert refused.returncode == 2
    assert "bad.toml: 'parts.left_leg' is [3] of type list, expected a list of joint names" in refused.stderr
    unknown = skelconv(tmp_path / "nothing", "s2i", "--format", "tiny6")
    assert unknown.returncode == 2
    assert "no skeleton named 'tiny6'" in unknown.stderr


def test_it_is_unknown_where_it_is_not_installed(raw: Path, tmp_path: Path) -> None:
    done = skelconv(tmp_path / "nothing", "ingest", "tinyset", raw, tmp_path / "out.zarr")
    assert done.returncode == 2
    assert "tinyset" in done.stderr
    assert "Traceback" not in done.stderr
