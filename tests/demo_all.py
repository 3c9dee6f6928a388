"""Every dataset's generated form, written, ingested, verified and drawn: ``make demo-all``."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from skelconv import __version__
from skelconv.cli.command import DONE, PROBLEMS, run
from skelconv.cli.listing import table
from skelconv.ingest.ingest import ingest
from skelconv.ingest.plan import make_plan
from skelconv.synth import SYNTHESIZERS, synthesize
from skelconv.verify import verify
from skelconv.view import view
from skelformats.errors import SkelconvError

HEADER = (
    "dataset",
    "layout",
    "recordings",
    "sequences",
    "frames",
    "raw MB",
    "set aside",
    "verified",
    "picture",
)


def demonstrate(dataset: str, folder: Path, recordings: int) -> tuple[str, ...]:
    """Take one dataset through it all below ``folder``; returns a row of the table.

    Raises
    ------
    SkelconvError
        A step could not be done.
    """
    raw, store, picture = (folder / f"{dataset}{ending}" for ending in ("_raw", ".zarr", ".png"))
    synthesize(dataset, raw, recordings, overwrite=True)
    plan = make_plan(dataset, raw, f"skelconv {__version__}")
    made = ingest(plan, store, overwrite=True).info
    report = verify(store, raw)
    view(store, None, picture)
    provenance = made.provenance
    return (
        dataset,
        made.layout().name,
        str(provenance.recordings),
        str(provenance.sequences),
        str(provenance.frames),
        f"{plan.size / 1e6:.1f}",
        str(len(provenance.set_aside)),
        "sound" if report.ok else f"{len(report.problems)} problems",
        str(picture),
    )


@click.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--recordings", type=click.IntRange(1), default=12, show_default=True, help="Of each dataset.")
def main(folder: Path, recordings: int) -> int:
    """Write, ingest, verify and draw every dataset's generated form below FOLDER, and print one table."""
    folder.mkdir(parents=True, exist_ok=True)
    rows, failed = [], False
    for dataset in SYNTHESIZERS:
        try:
            rows.append(demonstrate(dataset, folder, recordings))
        except SkelconvError as error:
            click.echo(f"{dataset}: {error}", err=True)
            failed = True
    click.echo(table(HEADER, rows))
    sound = all(row[HEADER.index("verified")] == "sound" for row in rows)
    return DONE if sound and not failed else PROBLEMS


if __name__ == "__main__":
    run(main, sys.argv[1:])
