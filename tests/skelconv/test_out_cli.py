"""The verbs merge, remap and export, as they are called."""

from __future__ import annotations

import pickle
import re
from pathlib import Path

import numpy as np
import pytest

from skelconv.cli.command import run
from skelconv.cli.main import cli
from skelconv.export import form_names
from skelconv.store.store import open_store
from tests.installed import install
from tests.skelconv.scenes import body, recording
from tests.skelconv.side_store import side_store
from tests.skelconv.stores import store_of


def call(capsys: pytest.CaptureFixture[str], *words: str | Path) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as done:
        run(cli, [str(word) for word in words])
    printed = capsys.readouterr()
    return int(done.value.code or 0), printed.out, printed.err


def test_merge(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for n in range(2):
        side_store(tmp_path / f"{n}.zarr", 3 * n, 3)
    code, out, _ = call(capsys, "merge", tmp_path / "m.zarr", tmp_path / "1.zarr", tmp_path / "0.zarr")
    assert code == 0
    assert "9 sequences of 6 recordings" in out
    assert len(open_store(tmp_path / "m.zarr")) == 9
    code, _, err = call(capsys, "merge", tmp_path / "n.zarr", tmp_path / "1.zarr", tmp_path / "1.zarr")
    assert code == 2
    assert "Leave one of the two stores out" in err


def test_remap(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store_of(tmp_path / "s.zarr", [recording(body(range(9)))])
    code, _, _ = call(capsys, "remap", tmp_path / "s.zarr", tmp_path / "t.zarr", "--format", "toyota13")
    assert code == 0
    assert open_store(tmp_path / "t.zarr").skeleton.name == "toyota13"
    code, _, err = call(capsys, "remap", tmp_path / "t.zarr", tmp_path / "u.zarr", "--format", "ntu25")
    assert code == 2
    assert "no counterpart of spine_base" in err


def test_export(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    takes = [recording(body(range(9), n), name=f"take{n}") for n in range(2)]
    store_of(tmp_path / "s.zarr", takes)
    assert call(capsys, "export", tmp_path / "s.zarr", tmp_path / "o.pkl", "--to", "pyskl")[0] == 0
    assert len(pickle.loads((tmp_path / "o.pkl").read_bytes())["annotations"]) == 2
    words = ("export", tmp_path / "s.zarr", tmp_path / "o.npz", "--to", "ctrgcn", "--protocol", "xsub")
    assert call(capsys, *words)[0] == 0
    with np.load(tmp_path / "o.npz") as arrays:
        assert arrays["x_train"].shape == (1, 9, 150)
    code, out, _ = call(capsys, "export", tmp_path / "s.zarr", tmp_path / "csv", "--to", "csv")
    assert code == 0
    assert "2 sequences, 450 rows of frames" in out


def test_what_cannot_be_cleaned_is_named_and_told_by_the_exit_code(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ghost = body(range(9), 1)
    ghost.position[...] = np.nan
    store_of(tmp_path / "s.zarr", [recording(body(range(9))), recording(ghost, name="ghost")])
    code, out, _ = call(capsys, "export", tmp_path / "s.zarr", tmp_path / "o.pkl", "--to", "pyskl")
    assert code == 1
    assert "ghost: found no observed joint" in out


@pytest.mark.parametrize("option", [("--protocol", "xsub"), ("--clean", "sgn")])
def test_options_of_another_form_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], option: tuple[str, str]
) -> None:
    store_of(tmp_path / "s.zarr", [recording(body(range(9)))])
    code, _, err = call(capsys, "export", tmp_path / "s.zarr", tmp_path / "o", "--to", "csv", *option)
    assert code == 2
    assert option[0] in err


def test_an_unknown_form_is_answered_with_those_that_there_are(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store_of(tmp_path / "s.zarr", [recording(body(range(9)))])
    code, _, err = call(capsys, "export", tmp_path / "s.zarr", tmp_path / "o", "--to", "pyskel")
    assert code == 2
    assert "Did you mean 'pyskl'? Known: bvh, csv, ctrgcn, movement, parquet, pyskl" in err


NAMES = """
from skelconv.export import ExportForm, Exported, written_aside


def write(store, path, how):
    with written_aside(path, how.overwrite) as partial:
        partial.write_text("".join(f"{name}\\n" for name in store.names))
    return Exported(path, {"names": len(store)})


FORM = ExportForm("names", "a text file of the sequences' names", write)
"""


def test_a_form_of_another_package_is_found_through_its_entry_point(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    store_of(tmp_path / "s.zarr", [recording(body(range(9)), name="a"), recording(body(range(9)), name="b")])
    install(tmp_path, monkeypatch, "nameslist", NAMES, "skelconv.exports", {"names": "FORM"})
    code, out, _ = call(capsys, "export", tmp_path / "s.zarr", tmp_path / "names.txt", "--to", "names")
    assert (code, out) == (0, f"{tmp_path / 'names.txt'}: 2 names\n")
    assert (tmp_path / "names.txt").read_text() == "a_b0\nb_b0\n"
    assert form_names() == ("bvh", "csv", "ctrgcn", "movement", "names", "parquet", "pyskl")
    code, _, err = call(capsys, "export", tmp_path / "s.zarr", tmp_path / "names.txt", "--to", "names")
    assert code == 2
    assert "--overwrite" in err


@pytest.mark.parametrize(
    ("points", "message"),
    [
        ({"names": "ABSENT"}, "cannot be loaded .*repair or uninstall"),
        ({"names": "write"}, "does not lead to an object of ExportForm named 'names'"),
        ({"other": "FORM"}, "does not lead to an object of ExportForm named 'other'"),
        ({"csv": "FORM"}, "'csv' is offered more than once"),
    ],
)
def test_a_broken_form_of_another_package_is_one_message(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    points: dict[str, str],
    message: str,
) -> None:
    store_of(tmp_path / "s.zarr", [recording(body(range(9)))])
    install(tmp_path, monkeypatch, "brokenlist", NAMES, "skelconv.exports", points)
    (name,) = points
    code, _, err = call(capsys, "export", tmp_path / "s.zarr", tmp_path / "o", "--to", name)
    assert code == 2
    assert re.search(message, err)
