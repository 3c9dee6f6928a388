"""What the shell offers after TAB, in bash, zsh and fish, by click's own mechanism."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.shell_completion import BashComplete, ShellComplete
from click.testing import CliRunner

from skelconv.cli.main import cli
from skelformats.skeleton import skeleton_names
from skeltrain.cli import cli as train_cli
from skeltrain.recipe_file import recipe_names
from tests.skelconv.scenes import body, recording
from tests.skelconv.stores import dataset, store_of


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> str:
    takes = [recording(body(range(9), n), name=f"take{n}") for n in range(2)]
    return str(store_of(tmp_path_factory.mktemp("tab") / "a.zarr", takes, dataset()).path)


def offered(line: str, incomplete: str = "", program: click.Command = cli) -> list[str]:
    complete = ShellComplete(program, {}, "program", "_PROGRAM_COMPLETE")
    return [item.value for item in complete.get_completions(line.split(), incomplete)]


def test_verbs_are_offered_without_importing_them() -> None:
    assert {"ingest", "view", "completion"} <= set(offered(""))
    assert offered("", "rep") == ["report"]
    code = (
        "import sys; from click.shell_completion import ShellComplete; from skelconv.cli.main import cli; "
        "ShellComplete(cli, {}, 'x', 'X').get_completions([], 'v'); sys.exit('zarr' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("line", ["s2i --format", "remap a.zarr b.zarr --format"])
def test_layouts(line: str) -> None:
    assert offered(line) == list(skeleton_names())
    assert offered(line, "toy") == ["toyota13"]


@pytest.mark.parametrize("line", ["s2i --clean", "clean --chain", "export --clean"])
def test_chains(line: str) -> None:
    assert {"auto", "sgn", "ctrgcn"} <= set(offered(line))


def test_datasets_that_can_be_ingested_or_made() -> None:
    assert "toyota" in offered("ingest")
    assert offered("synth", "ntu") == ["ntu60", "ntu120"]
    assert "--with" in offered("ingest ntu60 raw out", "--w")


def test_arrays_are_completed_one_after_another() -> None:
    every = offered("ingest ntu60 raw out --with")
    assert len(every) > 1
    first, second = every[:2]
    assert offered("ingest ntu60 raw out --with", f"{first},{second[:3]}") == [f"{first},{second}"]
    assert f"{first},{first}" not in offered("ingest ntu60 raw out --with", f"{first},")


def test_what_the_store_holds(store: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COMP_WORDS", f"skelconv verb {store}")
    assert offered(f"export {store} out --protocol") == ["xsub"]
    assert "take1" in offered(f"view {store} --sequence")
    assert all(name.startswith("take1") for name in offered(f"view {store} --sequence", "take1"))
    assert "position" in offered(f"crops {store} images out --pixels")
    monkeypatch.setenv("COMP_WORDS", "skelconv view nowhere.zarr --sequence")
    assert offered("view nowhere.zarr --sequence") == []


def test_forms() -> None:
    assert {"csv", "pyskl", "ctrgcn", "bvh"} <= set(offered("export a b --to"))


@pytest.mark.parametrize(
    "line", ["train", "pretrain", "recipes", "probe run --recipe", "finetune run --recipe"]
)
def test_recipes(line: str) -> None:
    assert offered(line, program=train_cli) == list(recipe_names())
    assert offered(line, "s2i_mae_n", train_cli) == [
        name for name in recipe_names() if name.startswith("s2i_mae_n")
    ]
    # a recipe of one's own: the shell completes files
    item = ShellComplete(train_cli, {}, "program", "P").get_completions(line.split(), "./my")[0]
    assert item.type == "file"


@pytest.mark.parametrize(("program", "verbs"), [("skelconv", cli), ("skeltrain", train_cli)])
@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_each_shell_gets_a_script_of_its_own(
    shell: str, program: str, verbs: click.Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(BashComplete, "_check_version", staticmethod(lambda: None))
    printed = CliRunner().invoke(verbs, ["completion", shell])
    assert printed.exit_code == 0
    assert f"_{program.upper()}_COMPLETE={shell}_complete" in printed.output.replace("env ", "")


def test_a_shell_asks_the_program_itself(store: str) -> None:
    script = Path(sys.executable).with_name("skelconv")
    for words, expected in (
        ("skelconv s2i --format toy", ["plain,toyota13"]),
        (f"skelconv export {store} out --protocol x", ["plain,xsub"]),
    ):
        asked = {
            "_SKELCONV_COMPLETE": "bash_complete",
            "COMP_WORDS": words,
            "COMP_CWORD": str(words.count(" ")),
        }
        done = subprocess.run(
            [script], env={**os.environ, **asked}, capture_output=True, text=True, check=True
        )
        assert done.stdout.split() == expected
