"""A look at a path: store, run, raw files of a dataset, or something that has to be unpacked or fetched
first.
"""

from __future__ import annotations

import shlex
from pathlib import Path

from skelconv.doctor.finding import Finding
from skelconv.doctor.raw import look_at_file, look_at_folder
from skelconv.store import schema
from skelconv.store.info import StoreError, StoreInfo
from skelconv.store.location import METADATA, locate, read_metadata
from skelconv.store.text import printable


def look(path: str | Path) -> Finding:
    """Say what lies at ``path``, and which commands fit; nothing is written.

    Raises
    ------
    StoreError
        There is nothing, or a store that cannot be opened.
    """
    location = locate(path)
    if location.folder is None or (location.folder / METADATA).exists():
        return _store(path)
    folder = location.folder
    if not folder.exists():
        partial = folder.with_name(f"{folder.name}.partial")
        if partial.exists():
            return _unfinished(partial)
        raise StoreError(f"{path}: found nothing there, expected a folder, file or store. Check the path")
    if any(part.endswith(".partial") for part in folder.parts):
        return _unfinished(folder)
    if (folder / ".zgroup").exists() or (folder / ".zarray").exists():
        return Finding(
            f"{path}: a Zarr format 2 hierarchy, which skelconv does not write",
            odd=("stores of skelconv are Zarr format 3: ingest the raw files again",),
        )
    if (folder / "recipe.yaml").is_file():
        return _run(folder)
    return look_at_folder(folder) if folder.is_dir() else look_at_file(folder)


def _store(path: str | Path) -> Finding:
    metadata = read_metadata(locate(path))
    attribute = metadata.attributes.get(schema.ATTRIBUTE)
    if attribute is None:
        names = ", ".join(sorted(metadata.arrays)[:8])
        return Finding(
            f"{path}: a zarr group that is not a store of skelconv",
            (f"arrays: {names}",),
            ("it has no attribute 'skelconv', so its joints, units and axes are not known",),
        )
    info = StoreInfo.from_attributes(attribute, str(path))
    words = shlex.quote(str(path))
    made = info.provenance
    facts = (
        made.describe().splitlines()[0],
        f"{len(info.layout())} joints ({info.layout().name}), {info.unit}, {len(info.classes)} classes",
        *(("generated data: " + info.dataset.generated,) if info.dataset.generated else ()),
    )
    odd = (f"set aside: {made.count_set_aside()}; skelconv info names them",) if made.set_aside else ()
    if info.kind == "s2i":
        return Finding(
            f"{path}: encoded images of {info.dataset.title}",
            facts,
            odd,
            (f"skelconv view {words} --out image.png",),
        )
    return Finding(
        f"{path}: a sequence store of {info.dataset.title}",
        facts,
        odd,
        (
            f"skelconv info {words}",
            f"skelconv verify {words}",
            f"skelconv view {words} --out look.html",
            f"skeltrain pretrain auto --store {words}",
        ),
    )


def _unfinished(path: Path) -> Finding:
    return Finding(
        f"{path}: an unfinished output",
        odd=("it was interrupted. Run the command that made it again: it goes on where it stopped",),
    )


def _run(folder: Path) -> Finding:
    words = shlex.quote(str(folder))
    task = next(
        (
            line.split(":", 1)[1].strip()
            for line in (folder / "recipe.yaml").read_text(encoding="utf-8", errors="replace").splitlines()
            if line.startswith("task:")
        ),
        "not named",
    )
    finished = (folder / "evaluation.json").is_file()
    kept = sorted(printable(file.name) for file in (folder / "checkpoints").glob("*.pt"))
    return Finding(
        f"{folder}: a run of skeltrain, task {task}",
        (f"checkpoints: {', '.join(kept) or 'none yet'}", "evaluated" if finished else "not evaluated"),
        () if kept else ("no checkpoint was written; the recipe is kept, and the same command starts again",),
        (f"skeltrain evaluate {words}", f"skeltrain train {words}/recipe.yaml --out {words} --resume"),
    )
