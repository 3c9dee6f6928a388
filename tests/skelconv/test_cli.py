"""The command line: exit codes, messages, help; never a traceback."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import click
import psutil
import pytest

from skelconv.cli.command import run
from skelconv.cli.main import VERBS, cli
from tests import command_line
from tests.skelconv.raw_ucla import write_raw
from tests.skelconv.test_ingest import tree

COMMAND = [sys.executable, "-c", "from skelconv.cli.main import main; main()"]


def skelconv(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, str, str]:
    """Run the command in this process; returns (exit code, stdout, stderr)."""
    with pytest.raises(SystemExit) as stop:
        run(cli, [str(word) for word in words])
    said = capsys.readouterr()
    assert isinstance(stop.value.code, int)
    return stop.value.code, said.out, said.err


def all_commands(command: click.Command, path: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    paths = [path]
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            child = command.get_command(context, name)
            assert child is not None
            paths += all_commands(child, (*path, name))
    return paths


def test_the_list_of_verbs_says_what_each_verb_says_of_itself() -> None:
    context = click.Context(cli)
    for name, (module, line) in VERBS.items():
        command = cli.get_command(context, name)
        assert command is not None
        assert (name, command.short_help) == (name, line), module


def test_help_imports_neither_zarr_nor_pandas_nor_numba() -> None:
    code = "from skelconv.cli.main import cli; cli(['--help'], standalone_mode=False); print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", f"import sys; {code}"], capture_output=True, text=True, check=True
    )
    assert "completion" in done.stdout
    assert not {"zarr", "pandas", "numba", "numpy", "torch"} & set(done.stdout.splitlines()[-1].split())


@pytest.mark.parametrize("path", all_commands(cli), ids=" ".join)
def test_every_verb_has_help_with_an_example(
    capsys: pytest.CaptureFixture[str], path: tuple[str, ...]
) -> None:
    code, out, _ = skelconv(capsys, *path, "--help")
    assert code == 0
    assert "Example" in out
    assert "skelconv" in out


def test_the_version_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    from skelconv import __version__

    assert skelconv(capsys, "--version")[:2] == (0, f"skelconv, version {__version__}\n")


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_completion_script_is_printed(capsys: pytest.CaptureFixture[str], shell: str) -> None:
    code, out, _ = skelconv(capsys, "completion", shell)
    assert code == 0
    assert "_SKELCONV_COMPLETE" in out


def test_datasets_and_layouts_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert "ucla20" in skelconv(capsys, "datasets")[1]
    assert "toyota13" in skelconv(capsys, "skeletons")[1]


def test_ingest_says_what_it_did(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    write_raw(tmp_path / "raw", 10)
    code, out, err = skelconv(capsys, "ingest", "ucla", tmp_path / "raw", tmp_path / "out.zarr", "-j", 0)
    assert code == 0
    assert "10 sequences of 10 recordings" in out
    assert "10/10 sources" in err


def test_ingest_exits_with_1_when_something_was_set_aside(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    names = write_raw(tmp_path / "raw", 10)
    (tmp_path / "raw" / f"{names[0]}.json").write_text("{")
    code, out, _ = skelconv(capsys, "ingest", "ucla", tmp_path / "raw", tmp_path / "out.zarr", "-j", 0)
    assert code == 1
    assert f"{names[0]}.json, line 1: found text that is not JSON" in out


def test_a_dry_run_writes_nothing(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    write_raw(tmp_path / "raw", 10)
    code, out, _ = skelconv(capsys, "ingest", "ucla", tmp_path / "raw", tmp_path / "out.zarr", "--dry-run")
    assert code == 0
    assert "would read 10 sources" in out
    assert [f.name for f in tmp_path.iterdir()] == ["raw"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("ingest", "ucle", "raw", "out.zarr"), "no dataset named 'ucle'. Did you mean 'ucla'?"),
        (("ingest", "ucla", "absent", "out.zarr"), "found no folder"),
        (("ingest", "ucla", "raw"), "Missing argument 'OUT'"),
        (("ingest", "ucla", "raw", "out.zarr", "--workers", "-1"), "-1"),
        (("ingest", "ucla", "raw", "out.zarr", "--precision", "0"), "expected a length above 0"),
        (("ingest", "ucla", "raw", "out.zarr", "--shard-frames", "300"), "multiple of 256"),
        (("ingest", "ucla", "raw", "out.zarr", "--scheduler", "nonsense"), "nonsense"),
        (("nonsense",), "No such command 'nonsense'"),
    ],
)
def test_what_cannot_be_done_is_one_message_and_exit_code_2(
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    words: tuple[str, ...],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    write_raw(tmp_path / "raw", 2)
    code, _, err = skelconv(
        capsys, *words, *(("-j", "0") if len(words) > 3 and "--workers" not in words else ())
    )
    assert code == 2
    assert message in err
    assert "Traceback" not in err
    assert not (tmp_path / "out.zarr").exists()


def test_an_output_that_cannot_be_written_is_one_message(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    write_raw(tmp_path / "raw", 2)
    (tmp_path / "file").write_text("")
    code, _, err = skelconv(
        capsys, "ingest", "ucla", tmp_path / "raw", tmp_path / "file" / "out.zarr", "-j", 0
    )
    assert code == 2
    assert "Error:" in err


def _start(raw: Path, out: Path) -> subprocess.Popen[bytes]:
    words = ["ingest", "ucla", str(raw), str(out), "-j", "2", "--shard-frames", "256"]
    return subprocess.Popen(
        [*COMMAND, *words],
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        # a shell's background jobs, which tests may run in, are started with SIGINT ignored
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


def _wait_for_journal(out: Path, lines: int) -> None:
    journal = out.with_name(out.name + ".partial") / "journal.jsonl"
    deadline = time.monotonic() + 60
    while not (journal.exists() and journal.read_text().count("\n") >= lines):
        assert time.monotonic() < deadline, "the ingest wrote no shard"
        time.sleep(0.005)


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("many")
    write_raw(folder, 600, frames=(20, 60))
    return folder


@pytest.fixture(scope="module")
def whole(many: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The store that a run gives which nobody disturbs."""
    out = tmp_path_factory.mktemp("whole") / "out.zarr"
    process = _start(many, out)
    process.communicate()
    assert process.returncode == 0
    return tree(out)


def test_a_killed_command_leaves_no_workers_and_resumes(
    many: Path, whole: dict[str, str], tmp_path: Path
) -> None:
    out = tmp_path / "out.zarr"
    for lines in (2, 8):
        process = _start(many, out)
        _wait_for_journal(out, lines)
        workers = psutil.Process(process.pid).children(recursive=True)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        _, alive = psutil.wait_procs(workers, timeout=10)
        assert not alive, "workers outlived their parent"
        assert not out.exists()
    process = _start(many, out)
    said, _ = process.communicate()
    assert process.returncode == 0
    assert b"were read by an earlier run" in said
    assert tree(out) == whole


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_an_interrupted_command_says_how_to_resume(
    many: Path, tmp_path: Path, number: signal.Signals
) -> None:
    out = tmp_path / "out.zarr"
    process = _start(many, out)
    _wait_for_journal(out, 3)
    os.kill(process.pid, number)
    _, err = process.communicate()
    assert process.returncode == 130
    assert b"run the same command again" in err
    assert b"Traceback" not in err
    assert str(out).encode() in err


def test_verbs_options_and_defaults_change_on_purpose_only() -> None:
    command_line.check(cli, "skelconv", Path(__file__).with_name("command_line.txt"))


def test_a_changed_default_is_shown_as_a_difference() -> None:
    @click.command()
    @click.option("--seed", type=int, default=1)
    def verb(seed: int) -> None:
        """Do nothing."""

    before = command_line.describe(verb, "verb")
    verb.params[0].default = 2
    assert before != command_line.describe(verb, "verb") == "verb\n    --seed  integer  default=2\n"


def test_a_signal_to_the_whole_job_is_not_taken_for_a_broken_worker(many: Path, tmp_path: Path) -> None:
    """Batch systems send SIGTERM to every process of a job at once."""
    out = tmp_path / "out.zarr"
    process = _start(many, out)
    _wait_for_journal(out, 3)
    workers = psutil.Process(process.pid).children(recursive=True)
    for each in (*workers, psutil.Process(process.pid)):
        each.send_signal(signal.SIGTERM)
    _, err = process.communicate()
    assert process.returncode == 130
    assert b"run the same command again" in err
    _, alive = psutil.wait_procs(workers, timeout=10)
    assert not alive


def test_under_nohup_a_hangup_is_ignored(many: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.zarr"
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        process = _start(many, out)
    finally:
        signal.signal(signal.SIGHUP, before)
    _wait_for_journal(out, 2)
    os.kill(process.pid, signal.SIGHUP)
    process.communicate()
    assert process.returncode == 0
    assert out.exists()


def test_two_ingests_into_one_output_at_once(many: Path, whole: dict[str, str], tmp_path: Path) -> None:
    """One is refused, and the store is the one that either would have written alone."""
    out = tmp_path / "out.zarr"
    first = _start(many, out)
    _wait_for_journal(out, 1)
    first.send_signal(signal.SIGSTOP)  # so that it is certainly still at it
    second = _start(many, out)
    _, err = second.communicate()
    assert second.returncode == 2
    assert b"locked by process %d" % first.pid in err
    assert b"Traceback" not in err
    first.send_signal(signal.SIGCONT)
    first.communicate()
    assert first.returncode == 0
    assert tree(out) == whole
