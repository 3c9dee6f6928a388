"""The commands of docs/own-data.md from an own table to labels of new recordings, word by word."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner

import skelconv.cli.main
import skeltrain.cli
from skelformats.skeleton import load_skeleton

DOCUMENT = Path(__file__).parents[2] / "docs" / "own-data.md"
JOINTS = load_skeleton("toyota13").names
HEIGHTS = {"head": 1.7, "shoulder": 1.4, "elbow": 1.2, "wrist": 1.0, "hip": 1.0, "knee": 0.5, "ankle": 0.1}
FRAMES = 20


def commands() -> list[str]:
    section = DOCUMENT.read_text().partition("## From a table to labels")[2].partition("\n## ")[0]
    return re.findall(r"^\$ (.+)$", section, re.MULTILINE)


def take(number: int) -> np.ndarray:
    """(T, 13, 3) metres: who waves with the left hand (odd numbers), or sits down (even ones)."""
    rng, time = np.random.default_rng(number), np.arange(FRAMES)
    side = np.array([0.2 * (name.startswith("left") - name.startswith("right")) for name in JOINTS])
    height = np.array([HEIGHTS[name.rpartition("_")[2]] for name in JOINTS])
    position = np.tile(np.stack([side, height, np.zeros(13)], axis=-1), (FRAMES, 1, 1))
    position += rng.normal(0, 0.01, position.shape)
    if number % 2:
        wrist = JOINTS.index("left_wrist")
        position[:, wrist, 0] += 0.3 * np.sin(time / 2 + rng.uniform(0, 6))
        position[:, wrist, 1] += 0.7
    else:
        position[..., 1] -= 0.4 * (time / FRAMES)[:, None] * (height > 0.6)
    return position


def table(numbers: range, labelled: bool) -> pd.DataFrame:
    parts = []
    for number in numbers:
        rows = pd.DataFrame(
            {
                "video": f"take{number:02d}",
                "frame": np.repeat(np.arange(FRAMES), len(JOINTS)),
                "joint": list(JOINTS) * FRAMES,
                **dict(zip("xyz", take(number).reshape(-1, 3).T, strict=True)),
            }
        )
        if labelled:
            part = "train" if number < 16 else "test"
            rows = rows.assign(label=("sit", "wave")[number % 2], split=part)
        parts.append(rows)
    return pd.concat(parts)


def test_the_documents_table_has_the_columns_of_the_tests() -> None:
    assert f"```\n{','.join(table(range(1), labelled=True).columns)}\n" in DOCUMENT.read_text()


def test_from_a_table_to_labels_of_new_recordings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    table(range(24), labelled=True).to_csv("takes.csv", index=False)
    table(range(24, 34), labelled=False).to_csv("new.csv", index=False)
    programs = {"skelconv": skelconv.cli.main.cli, "skeltrain": skeltrain.cli.cli}
    asked = commands()
    assert len(asked) == 5
    for line in asked:
        program, *words = shlex.split(line)
        done = CliRunner().invoke(programs[program], words, catch_exceptions=False)
        assert done.exit_code == 0, f"{line}\n{done.output}"
    found = pd.read_csv("labels.csv")
    assert list(found.columns) == ["recording", "label", "class", "probability"]
    assert found["recording"].tolist() == [f"take{number:02d}" for number in range(24, 34)]
    true = ["sit", "wave"] * 5
    assert (found["class"] == true).mean() >= 0.9
