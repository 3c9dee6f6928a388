"""``skelconv datasets``, ``skelconv ingest``: what can be read, and reading it."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterator
from concurrent.futures import Executor
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import click

from skelconv.cli.command import (
    DONE,
    PROBLEMS,
    CommaList,
    NaturalOrderGroup,
    RunInterruptedError,
    progress,
    stop_signals,
)
from skelconv.cli.complete import offering_list
from skelconv.cli.paths import PATH
from skelconv.store.encode import SHARD_FRAMES
from skelformats.reader import Option, Reader, find_reader, usable_readers


@click.command(short_help="List the datasets that can be ingested.")
def datasets() -> None:
    """List the datasets that can be ingested, each with its layout and optional arrays.

    \b
    Example:
        skelconv datasets
    """
    from skelconv.cli.listing import describe_datasets

    click.echo(describe_datasets())


@click.command(short_help="List the joint layouts that --format takes.")
def skeletons() -> None:
    """List the joint layouts that --format takes.

    \b
    Example:
        skelconv skeletons
    """
    from skelconv.cli.listing import describe_skeletons

    click.echo(describe_skeletons())


class WorkersType(click.ParamType[int | None]):
    """A number of workers, or ``auto``, which is None."""

    name = "auto|N"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int | None:
        """Return the number."""
        if value is None or isinstance(value, int):
            return value
        if value == "auto":
            return None
        if not str(value).isdecimal():
            self.fail(f"found {value!r}, expected `auto` or a number of processes, 0 or more", param, ctx)
        return int(value)


class _DatasetGroup(NaturalOrderGroup):
    """One verb a reader, made from what the reader says of itself."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [reader.name for reader in usable_readers()[0]]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        return _ingest_command(find_reader(cmd_name))


@click.group(cls=_DatasetGroup, short_help="Raw files of a dataset to a store.")
def ingest() -> None:
    """Read the raw files of a dataset into a store: in parallel, resumably, the same bytes every time.

    \b
    Example:
        skelconv ingest ntu120 raw/ out.zarr --workers 8
        skelconv ingest ntu120 --help        # the options of one dataset
    """


def _ingest_command(reader: Reader) -> click.Command:
    """Make ``skelconv ingest <dataset>`` with the options that its reader offers."""
    dataset = reader.dataset
    params: list[click.Parameter] = [
        click.Argument(["raw"], type=PATH, nargs=-1, metavar="RAW..."),
        click.Argument(["out"], type=PATH),
        *(_reader_option(option) for option in dataset.options),
    ]
    if dataset.extras:
        names = [extra.name for extra in dataset.extras]
        words = "; ".join(f"{extra.name}: {extra.description}" for extra in dataset.extras)
        params.append(
            click.Option(
                ["--with", "extras"],
                type=CommaList(),
                default="",
                shell_complete=offering_list(lambda: names),
                help=f"Optional arrays to keep. {words}.",
            )
        )
    return click.Command(
        dataset.name,
        params=[*params, *_INGEST_OPTIONS],
        callback=lambda **values: _saying_what_compiles(reader, **values),
        short_help=dataset.title,
        help=(
            f"Read raw files of {dataset.title} below RAW into the store OUT.\n\n"
            "RAW is a folder, a file, an archive (.zip, .tar, .tar.gz, .gz), or several of them.\n\n"
            "Interrupted or killed, the same command goes on where it stopped.\n\n"
            f"\b\nExample:\n    skelconv ingest {dataset.name} raw/ out.zarr\n\n"
            "Exit codes: 0 done; 1 done, some sources were set aside; 2 not done; 130 interrupted."
        ),
    )


def _reader_option(option: Option) -> click.Option:
    flag = f"--{option.name.replace('_', '-')}"
    if option.type is bool:
        return click.Option([flag, option.name], is_flag=True, default=option.default, help=option.help)
    kind: Any = click.Choice(option.choices) if option.choices else option.type
    if option.type is Path:
        kind = PATH
    return click.Option(
        [flag, option.name], type=kind, default=option.default, help=option.help, show_default=True
    )


_INGEST_OPTIONS: tuple[click.Parameter, ...] = (
    click.Option(
        ["-j", "--workers"],
        type=WorkersType(),
        default="auto",
        show_default=True,
        help="Processes that parse and encode; 0 does it in this one; `auto` goes by the first batches.",
    ),
    click.Option(["--scheduler"], metavar="ADDRESS", help="Parse on this dask cluster: tcp://host:8786."),
    click.Option(["--limit"], type=click.IntRange(1), help="Take only the first N sources."),
    click.Option(["--part"], metavar="I/N", help="Ingest part I of N; `skelconv merge` puts them together."),
    click.Option(
        ["--dry-run"], is_flag=True, help="Say what would be read and what it would take, and write nothing."
    ),
    click.Option(["--strict"], is_flag=True, help="Stop at the first source that cannot be read."),
    click.Option(["--overwrite"], is_flag=True, help="Replace OUT, or an unfinished ingest of another plan."),
    click.Option(
        ["--precision"],
        type=float,
        help="Round positions, by at most this much of the store's unit; recorded. Default: lossless.",
    ),
    click.Option(
        ["--shard-frames"],
        type=click.IntRange(256),
        default=SHARD_FRAMES,
        show_default=True,
        help="Frames a shard file.",
    ),
    click.Option(["-q", "--quiet"], is_flag=True, help="No progress."),
)


@dataclass(frozen=True)
class _Asked:
    """The options that every dataset's verb has; the others are the reader's own."""

    workers: int | None
    scheduler: str | None
    limit: int | None
    part: str | None
    dry_run: bool
    strict: bool
    overwrite: bool
    precision: float | None
    shard_frames: int
    quiet: bool


def _saying_what_compiles(reader: Reader, quiet: bool, **values: Any) -> int:
    from skelconv.ingest.warm import MESSAGE
    from skelformats.kernel import told_of_compiling

    with told_of_compiling(lambda: None if quiet else click.echo(MESSAGE, err=True)):
        return _ingest(reader, quiet=quiet, **values)


def _ingest(
    reader: Reader, raw: tuple[Path, ...], out: Path, extras: tuple[str, ...] = (), **options: Any
) -> int:
    from skelconv import __version__
    from skelconv.ingest.estimate import NO_ESTIMATE, estimate, refuse_what_does_not_fit
    from skelconv.ingest.executors import default_workers
    from skelconv.ingest.ingest import ingest as carry_out
    from skelconv.ingest.part import parse_part, take_part
    from skelconv.ingest.plan import make_plan
    from skelconv.ingest.warm import compile_beforehand
    from skelformats.raw_open import open_raw

    if not raw:
        raise click.UsageError("Missing argument 'OUT': name the raw files, then the store to write.")
    asked = _Asked(**{field.name: options.pop(field.name) for field in fields(_Asked)})
    plan = make_plan(
        reader.name,
        open_raw([path.resolve() for path in raw], out.absolute(), lambda text: click.echo(text, err=True)),
        f"skelconv {__version__}",
        extras,
        options,
        asked.limit,
        asked.shard_frames,
        asked.precision,
    )
    if asked.part is not None:
        plan = take_part(plan, *parse_part(asked.part))
    if asked.dry_run:
        click.echo(plan.describe(out))
        expected = estimate(plan, out)
        count = default_workers() if asked.workers is None else asked.workers
        click.echo(expected.describe(count) if expected else NO_ESTIMATE)
        refuse_what_does_not_fit(plan, out, expected)
        return DONE
    refuse_what_does_not_fit(plan, out)
    if asked.workers and asked.scheduler is None:
        compile_beforehand(plan)  # otherwise this process reads the first batch, and compiles for all
    try:
        with (
            stop_signals(),
            _executor(asked) as (executor, width),
            progress(len(plan.sources), "sources", plan.size, asked.quiet) as advance,
        ):
            summary = carry_out(plan, out, executor, width, asked.overwrite, asked.strict, advance)
    except KeyboardInterrupt:
        raise RunInterruptedError(
            "Interrupted. What was written is kept; to resume, run the same command again:\n"
            f"    {shlex.join(['skelconv', *sys.argv[1:]])}"
        ) from None
    click.echo(summary.describe(out))
    return PROBLEMS if summary.set_aside else DONE


@contextmanager
def _executor(asked: _Asked) -> Iterator[tuple[Executor | None, int]]:
    """Yield what does the work, and how much of it at once."""
    from skelconv.ingest.auto import open_auto
    from skelconv.ingest.executors import open_executor

    if asked.workers is None and asked.scheduler is None:
        with open_auto(_nothing if asked.quiet else _say) as executor:
            yield executor, 1
        return
    with open_executor(asked.workers or 0, asked.scheduler) as found:
        yield found


def _nothing(text: str) -> None:
    """Say nothing."""


def _say(text: str) -> None:
    """Write a line above the progress, to stderr."""
    from tqdm import tqdm

    tqdm.write(text, file=sys.stderr)
