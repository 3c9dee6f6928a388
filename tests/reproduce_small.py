"""The S2I paper's programme in small, on generated recordings of four formats: ``make reproduce-small``.

Two processes with a thread each work off the steps; what is finished is kept, so the same command goes on
after a stop. At the end stand the paper's tables of it, on the terminal and in the folder.

    python -m tests.reproduce_small FOLDER [--scale 0.1] [--workers 2]
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass
from pathlib import Path

import click

from skelconv.ingest.executors import open_executor

SEEDS = (0, 1, 2)
SHARES = (0.05, 0.1)
"""One and two recordings of each class: the paper's 1 % of so few would be the same as its 10 %."""

TITLE = "The S2I paper's tables in small, on generated recordings"


@dataclass(frozen=True)
class Stored:
    """A generated dataset: its files, how they are split, and how many are made."""

    name: str
    protocol: str
    files: int


STORES = (
    Stored("ntu60", "xsub", 720),
    Stored("pku2", "xsub", 120),
    Stored("toyota", "cs", 360),
    Stored("ucla", "xview", 360),
)
NTU, PKU, TOYOTA, UCLA = STORES


@dataclass(frozen=True)
class Step:
    """A command line of one of the programs, and the steps that must be done before."""

    name: str
    words: tuple[str, ...]
    after: tuple[str, ...] = ()


@dataclass(frozen=True)
class Plan:
    """Where everything lies, and how much shorter than the recipes say trainings are to be."""

    folder: Path
    scale: float = 1.0

    def store(self, stored: Stored) -> str:
        """Return the path of a store."""
        return str(self.folder / f"{stored.name}.zarr")

    def run(self, name: str, seed: int) -> str:
        """Return the folder of a pretraining."""
        return str(self.folder / "runs" / f"{name}{seed}")

    def shorter(self, epochs: int) -> tuple[str, ...]:
        """Return the settings that shorten a training of ``epochs``; none at full length."""
        if self.scale == 1:
            return ()
        count = max(round(epochs * self.scale), 1)
        return ("--set", f"optim.epochs={count}", "--set", f"optim.warmup={count / 10:g}")


PRETRAIN, PROBE, FINETUNE = 75, 45, 30
"""Epochs of the recipes small_mae and small_diffmae, small_linprobe, small_finetune."""


def steps(plan: Plan) -> Iterator[Step]:
    """Yield every step, in an order in which they could be done."""
    for stored in STORES:
        raw = str(plan.folder / f"raw_{stored.name}")
        count = ("--recordings", str(stored.files), "--frames", "20", "60")
        generated = ("skelconv", "synth", stored.name, raw, *count, "--seed", "0", "--quiet", "--overwrite")
        yield Step(f"files of {stored.name}", generated)
        ingested = ("skelconv", "ingest", stored.name, raw, plan.store(stored), "--workers", "0", "--quiet")
        yield Step(stored.name, ingested, (f"files of {stored.name}",))
    for seed in SEEDS:
        yield from _own(plan, seed)
        yield from _elsewhere(plan, seed)
        yield from _universal(plan, seed)


def _own(plan: Plan, seed: int) -> Iterator[Step]:
    """Yield tables 1, 2, 4 to 6 and that of the streams: all on one dataset."""
    yield from _pretrained(plan, "mae", seed, "small_mae", untrained=False)
    yield from _pretrained(plan, "diffmae", seed, "small_diffmae", untrained=True)
    for mask in ("block", "joint", "temporal"):
        yield from _pretrained(plan, mask, seed, "small_diffmae", ("--set", f"model.masking={mask}"))
    for stream in ("bone", "motion"):
        yield from _pretrained(plan, stream, seed, "small_diffmae", ("--set", f"data.stream={stream}"))
    for kind, place in (("probe", "probe"), ("finetune", "small_finetune")):
        streams = ("diffmae", "bone", "motion")
        members = [str(Path(plan.run(name, seed)) / place / f"trained_seed{seed}") for name in streams]
        out = str(plan.folder / "runs" / f"fused_{kind}{seed}")
        needs = tuple(f"{kind} {name} {seed}" for name in streams)
        yield Step(f"fuse {kind} {seed}", ("skeltrain", "ensemble", *members, "--out", out), needs)
    for share in SHARES:
        out = ("--out", f"{plan.run('diffmae', seed)}/few{share:g}")
        yield _finetuned(
            plan, "diffmae", seed, f"few{share:g}", ("--set", f"labels.share={share}", *out), True
        )


def _elsewhere(plan: Plan, seed: int) -> Iterator[Step]:
    """Yield tables 7 and 8: an encoder of one dataset, fine-tuned on others."""
    for stored in (PKU, TOYOTA, UCLA):
        yield _to(plan, "diffmae", seed, stored, untrained=True)


def _universal(plan: Plan, seed: int) -> Iterator[Step]:
    """Yield table 9: pretrained on all at once, and each on its own."""
    listed = json.dumps([{"store": plan.store(s), "protocol": s.protocol} for s in STORES])
    words = ("--set", f"data.stores={listed}")
    needs = tuple(stored.name for stored in STORES)
    yield _pretraining(plan, "universal", seed, "small_diffmae", words, needs)
    for stored in STORES:
        yield _to(plan, "universal", seed, stored)
    for stored in (PKU, TOYOTA, UCLA):
        own = ("--store", plan.store(stored), "--set", f"data.protocol={stored.protocol}")
        yield _pretraining(plan, stored.name, seed, "small_diffmae", own, (stored.name,))
        yield _finetuned(plan, stored.name, seed, untrained=True)


def _pretrained(
    plan: Plan, name: str, seed: int, recipe: str, settings: Sequence[str] = (), untrained: bool = False
) -> Iterator[Step]:
    """Yield a pretraining on NTU, its probe and its fine-tuning."""
    words = ("--store", plan.store(NTU), *settings)
    yield _pretraining(plan, name, seed, recipe, words, (NTU.name,))
    probe = ("skeltrain", "probe", plan.run(name, seed), "--recipe", "small_linprobe", "--seeds", str(seed))
    bare = ("--untrained",) if untrained or name in ("bone", "motion") else ()
    shorter = plan.shorter(PROBE)
    yield Step(f"probe {name} {seed}", (*probe, *bare, *shorter), (f"pretrain {name} {seed}",))
    yield _finetuned(plan, name, seed, untrained=untrained)


def _pretraining(
    plan: Plan, name: str, seed: int, recipe: str, words: Sequence[str], needs: tuple[str, ...]
) -> Step:
    out = ("--out", plan.run(name, seed), "--set", f"seed={seed}", "--device", "cpu", "--resume")
    command = ("skeltrain", "pretrain", recipe, *words, *out, *plan.shorter(PRETRAIN))
    return Step(f"pretrain {name} {seed}", command, needs)


def _finetuned(
    plan: Plan, name: str, seed: int, what: str = "", words: Sequence[str] = (), untrained: bool = False
) -> Step:
    run = ("skeltrain", "finetune", plan.run(name, seed), "--recipe", "small_finetune", *words)
    bare = ("--untrained",) if untrained else ()
    command = (*run, *bare, "--seeds", str(seed), "--device", "cpu", "--resume", *plan.shorter(FINETUNE))
    return Step(
        " ".join(filter(None, ("finetune", name, str(seed), what))), command, (f"pretrain {name} {seed}",)
    )


def _to(plan: Plan, name: str, seed: int, stored: Stored, untrained: bool = False) -> Step:
    where = ("--store", plan.store(stored), "--set", f"data.protocol={stored.protocol}")
    out = ("--out", f"{plan.run(name, seed)}/to_{stored.name}")
    made = _finetuned(plan, name, seed, f"to {stored.name}", (*where, *out), untrained)
    return Step(made.name, made.words, (*made.after, stored.name))


def perform(words: tuple[str, ...], log: str) -> tuple[int, float]:
    """Run a command line in this process, its output into a file; returns its exit code and seconds."""
    from skelconv.cli.command import run
    from skelconv.cli.main import cli as skelconv
    from skeltrain.cli import cli as skeltrain

    programs: dict[str, click.Command] = {"skelconv": skelconv, "skeltrain": skeltrain}
    began, code = time.perf_counter(), 0
    # recipes and stores keep the command that made them
    sys.argv = list(words)
    with Path(log).open("w") as file, contextlib.redirect_stdout(file), contextlib.redirect_stderr(file):
        try:
            run(programs[words[0]], list(words[1:]))
        except SystemExit as end:
            code = int(end.code or 0)
    return code, time.perf_counter() - began


def work(plan: Plan, workers: int, say: Callable[[str], None]) -> bool:
    """Do what is not done yet; returns whether all of it is."""
    notes = plan.folder / "steps"
    notes.mkdir(parents=True, exist_ok=True)
    todo = {step.name: step for step in steps(plan)}
    total, done = len(todo), set[str]()
    for name, step in list(todo.items()):
        note = notes / f"{name}.json"
        if note.exists() and json.loads(note.read_text())["words"] == list(step.words):
            done.add(todo.pop(name).name)
    say(f"{total} steps, {len(done)} of them done")
    failed, running = set[str](), dict[Future[tuple[int, float]], Step]()
    with open_executor(workers) as (pool, _):
        assert pool is not None
        while todo or running:
            ready = [step for step in todo.values() if done.issuperset(step.after)]
            for step in ready[: workers - len(running)]:
                del todo[step.name]
                running[pool.submit(perform, step.words, str(notes / f"{step.name}.log"))] = step
            if not running:
                # the rest needs what failed
                break
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                step = running.pop(future)
                code, seconds = future.result()
                if code:
                    failed.add(step.name)
                    end = (notes / f"{step.name}.log").read_text().rstrip().splitlines()[-3:]
                    say(f"FAILED {step.name} ({code}): " + " / ".join(end))
                    continue
                done.add(step.name)
                note = {"words": step.words, "seconds": seconds}
                (notes / f"{step.name}.json").write_text(json.dumps(note))
                say(f"[{len(done)}/{total}] {step.name}: {seconds:.0f} s")
    return not failed and not todo


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--scale", type=float, default=1.0, help="share of the recipes' epochs")
    parser.add_argument("--workers", type=int, default=2)
    given = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    began = time.perf_counter()

    def say(line: str) -> None:
        click.echo(f"{time.perf_counter() - began:6.0f} s  {line}")

    plan = Plan(given.folder, given.scale)
    if not work(plan, given.workers, say):
        return 1
    from skeltrain.tables.gather import gather_tables
    from skeltrain.tables.render import to_markdown, write_tables

    tables = gather_tables([plan.folder / "runs"])
    title = TITLE if plan.scale == 1 else f"{TITLE}; {plan.scale:g} of the epochs"
    write_tables(tables, plan.folder, title)
    click.echo(to_markdown(tables, title))
    say(f"done; {plan.folder}/tables.md, {plan.folder}/tables.csv")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
