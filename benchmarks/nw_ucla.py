"""NW-UCLA, cross-view: settings chosen on held-out subjects, the test view touched once, five seeds.

    skelconv ingest ucla all_sqe/ ucla.zarr
    python benchmarks/nw_ucla.py select ucla.zarr --out runs/nw_ucla      # never reads view 3
    python benchmarks/nw_ucla.py few ucla.zarr --out runs/nw_ucla         # few labels; never reads view 3
    python benchmarks/nw_ucla.py planned ucla.zarr --out runs/nw_ucla     # from scratch, and their sum
    python benchmarks/nw_ucla.py final ucla.zarr --out runs/nw_ucla       # one of them pretrained
    python benchmarks/nw_ucla.py pretrain ucla.zarr --out runs/nw_ucla    # probes, few labels
    python benchmarks/nw_ucla.py tables runs/nw_ucla/*.json               # what docs/results.md shows

Each stage writes OUT/STAGE.json; a stage that was stopped goes on where it was, and runs that are finished
are only read. docs/results_nw_ucla.json has what docs/results.md shows.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from skelconv.store.store import open_store
from skeltrain.distributed import World
from skeltrain.ensemble import fuse_runs
from skeltrain.recipe_file import Override, load_recipe
from skeltrain.run import evaluate_run, run_recipe
from skeltrain.run_folder import RunFolder
from skeltrain.tasks.finetune import FinetuneRecipe
from skeltrain.tasks.finetune_seeds import run_finetuning
from skeltrain.tasks.pretrain import PretrainRecipe
from skeltrain.tasks.probe import ProbeRecipe
from skeltrain.tasks.probe_seeds import run_probe
from skeltrain.tasks.seeds import machine, summarise, write_report

QUIET = ("log.tensorboard=false", "log.every=1000", "log.evaluate_every=1000", "log.checkpoint_every=100")

#: Where settings are chosen, and for how many epochs. `subjects`: clips of views 1 and 2, by people whom the
#: network never saw. `both`: such people before camera 2, after training on the others before camera 1; an
#: epoch then has a third of the clips, and of the steps.
HOLDOUTS: Mapping[str, tuple[str, str]] = {
    "subjects": ("data.holdout={subject: [3, 6, 9]}", "optim.epochs=60"),
    "both": ("data.holdout={subject: [3, 6, 9], camera: [2]}", "optim.epochs=100"),
}

RECIPES: Mapping[str, str] = {
    "range": "ucla_scratch_cpu",
    "facing": "ucla_facing_cpu",
    "metric": "ucla_metric_cpu",
    "pretrained": "ucla_finetune_cpu",
}
"""Networks of one size by what they get to see; `pretrained` is `facing` after a pretraining by MAE."""

SUMS_TESTED: Mapping[str, tuple[str, ...]] = {
    "planned": ("range", "facing", "metric"),
    "final": ("range", "pretrained"),
}
"""Networks whose logits are added, with equal weights, and tested on view 3: `planned` is the best sum on
held-out clips."""

AVERAGED = ("ema.decay=0.99", "ema.warmup=true")


@dataclass(frozen=True)
class Candidate:
    """A setting that was tried: whose recipe, what differs from it, and on which held-out parts."""

    member: str
    settings: tuple[str, ...] = ()
    holdouts: tuple[str, ...] = ("both", "subjects")


CANDIDATES: Mapping[str, Candidate] = {
    "range": Candidate("range"),
    "range, all patches": Candidate("range", ("tuning.patch_drop=0",), ("both",)),
    "range, turned further": Candidate("range", ("augment.rotate=[0.7, 2.0, 0.2]",), ("both",)),
    "range, facing first": Candidate("range", ("data.clean=ucla_facing",)),
    "range, twice the rate": Candidate("range", ("optim.blr=0.002",), ("subjects",)),
    "facing": Candidate("facing"),
    "facing, turned less": Candidate("facing", ("augment.rotate=[0.3, 0.5, 0.1]",)),
    "facing, turned further": Candidate("facing", ("augment.rotate=[0.7, 2.0, 0.2]",), ("both",)),
    "metric": Candidate("metric", (), ("both",)),
}

SUMS: Sequence[tuple[str, ...]] = (
    ("range", "facing"),
    ("range", "facing, turned less"),
    ("range", "metric"),
    ("facing", "metric"),
    ("range", "facing", "metric"),
    ("range, turned further", "facing", "metric"),
    ("range", "range, facing first", "facing", "metric"),
)


def settings(*words: str) -> list[Override]:
    """Parse ``key=value`` words."""
    return [Override.parse(word) for word in words]


def network(name: str, store: str, *words: str) -> FinetuneRecipe:
    """Load the recipe of a network, with a store and other settings."""
    base = (f"data.store={store}", *QUIET)
    return load_recipe(RECIPES[name], FinetuneRecipe, settings(*base, *words))


def finished(recipe: FinetuneRecipe, out: Path) -> dict[str, float]:
    """Train in a folder, or go on there, and return the scores after the last epoch."""
    if run_recipe(recipe, out=out, resume=RunFolder(out).last.exists()).interrupted:
        raise SystemExit(f"stopped in {out}; the same command goes on from there")
    folder = RunFolder(out)
    if not folder.evaluation.exists():
        evaluate_run(out)
    scores: dict[str, float] = json.loads(folder.evaluation.read_bytes()).get("test", {})
    return scores


def select(store: str, out: Path) -> dict[str, Any]:
    """Try every candidate on its held-out parts; averaged weights beside the last ones."""
    rows: dict[str, dict[str, Any]] = {name: {} for name in CANDIDATES}
    for name, one in CANDIDATES.items():
        for holdout in one.holdouts:
            run, last = selected(out, name, holdout)
            recipe = network(one.member, store, *HOLDOUTS[holdout], *one.settings, *AVERAGED)
            averaged = finished(recipe, run)
            if not RunFolder(last).evaluation.exists():
                evaluate_run(run, settings("ema=null"), last)
            scores = json.loads(RunFolder(last).evaluation.read_bytes())["test"]
            rows[name][holdout] = {"top1": scores["top1"], "averaged": averaged["top1"]}
            print(f"{name}, {holdout}: {scores['top1']:.2%}", flush=True)
    sums = []
    for names in SUMS:
        found = {}
        for holdout in HOLDOUTS:
            if all(holdout in CANDIDATES[name].holdouts for name in names):
                runs = [selected(out, name, holdout)[1] for name in names]
                report = fuse_runs(runs, [1.0] * len(names))
                found[holdout] = {"top1": report["fused"]["top1"], "recordings": report["recordings"]}
        sums.append({"members": names, **found})
    return {"candidates": rows, "sums": sums, "holdouts": {k: list(v) for k, v in HOLDOUTS.items()}}


def selected(out: Path, name: str, holdout: str) -> tuple[Path, Path]:
    """Folders of a candidate on a held-out part: of the run, and of its evaluation with the last weights."""
    run = out / "select" / f"{name.replace(', ', '_').replace(' ', '_')}_{holdout}"
    return run, run.with_name(f"{run.name}_last")


def final(store: str, out: Path, seeds: Sequence[int], members: Sequence[str]) -> dict[str, Any]:
    """Train every member under every seed, test it once, and add up the logits of each seed's members."""
    encoder = pretrained(store, out, "mae") if "pretrained" in members else None
    total = " + ".join(members)
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in (*members, total)}
    seconds: dict[str, list[float]] = {name: [] for name in members}
    for seed in seeds:
        runs = {name: out / "final" / f"{name}_seed{seed}" for name in members}
        for name, run in runs.items():
            words = (f"encoder.run={encoder}",) if name == "pretrained" else ()
            scores = finished(network(name, store, f"seed={seed}", *words), run)
            found[name].append({"seed": seed, **scores})
            seconds[name].append(trained_seconds(run))
        fused = fuse_runs([runs[member] for member in members], [1.0] * len(members))["fused"]
        found[total].append({"seed": seed, **fused})
        print(f"seed {seed}: " + ", ".join(f"{k} {v[-1]['top1']:.2%}" for k, v in found.items()), flush=True)
    return {
        "scores": {name: summarise(scores) for name, scores in found.items()},
        "seconds": seconds,
        "pretraining_seconds": 0.0 if encoder is None else trained_seconds(encoder),
    }


#: Pretraining: what differs from `ucla_pretrain_cpu`.
OBJECTIVES: Mapping[str, tuple[str, ...]] = {
    "mae": (),
    "features": ("model.objective=features", "model.decoder_depth=null"),
}
SHARES: Sequence[float] = (0.1, 0.01)

_LONG = ("optim.epochs=300", "optim.warmup=30")
#: Fine-tuning with a tenth of the labels: what differs from 100 epochs at 1e-3.
FEW: Mapping[str, tuple[str, ...]] = {
    "100 epochs": ("optim.epochs=100", "optim.warmup=10"),
    "300 epochs": _LONG,
    "300 epochs, all patches": (*_LONG, "tuning.patch_drop=0"),
    "300 epochs, half the rate": (*_LONG, "optim.blr=0.0005"),
    "300 epochs, layer decay 0.5": (*_LONG, "tuning.layer_decay=0.5"),
}
FEW_SEEDS = 3


def few(store: str, out: Path, seeds: Sequence[int]) -> dict[str, Any]:
    """Try fine-tunings with a tenth of the labels on held-out people, after MAE on views 1 and 2.

    The pretraining saw the clips of the held-out people, without their labels.
    """
    encoder = pretrained(store, out, "mae")
    rows = {}
    for name, words in FEW.items():
        base = ("labels.share=0.1", HOLDOUTS["subjects"][0], "tuning.patch_drop=0.5", "optim.blr=0.001")
        tuned = load_recipe(
            "ucla_semi_cpu", FinetuneRecipe, settings(*base, "tuning.layer_decay=0.75", *words)
        )
        tuned = tuned.model_copy(update={"seeds": tuple(seeds)[:FEW_SEEDS]})
        folder = out / "few" / name.replace(", ", "_").replace(" ", "_")
        report = kept(
            folder / "finetune.json",
            lambda t=tuned, f=folder: run_finetuning(t, encoder, f, f.exists()),
        )
        rows[name] = report["encoders"]["trained"]
        print(f"{name}: {cell(rows[name])}", flush=True)
    return {"few": rows}


def pretrain(store: str, out: Path, seeds: Sequence[int], objectives: Sequence[str]) -> dict[str, Any]:
    """Pretrain by each objective on views 1 and 2; probe and fine-tune, beside random encoders."""
    rows: dict[str, Any] = {}
    for number, name in enumerate(objectives):
        run = pretrained(store, out, name)
        row: dict[str, Any] = {"seconds": trained_seconds(run)}
        first = number == 0
        probe = load_recipe("ucla_probe_cpu", ProbeRecipe)
        probe = probe.model_copy(update={"seeds": tuple(seeds)[:3], "untrained": first})
        row["probe"] = kept(run / "probe.json", lambda p=probe, r=run: run_probe(p, r))["encoders"]
        for share in SHARES:
            tuned = load_recipe("ucla_semi_cpu", FinetuneRecipe, settings(f"labels.share={share}"))
            tuned = tuned.model_copy(update={"seeds": tuple(seeds), "untrained": first})
            folder = run / f"labels_{share:g}"
            report = kept(
                folder / "finetune.json", lambda t=tuned, r=run, f=folder: run_finetuning(t, r, f, f.exists())
            )
            row[f"labels_{share:g}"] = report["encoders"]
            print(f"{name}, {share:.0%} of the labels:", shown(report["encoders"]), flush=True)
        rows[name] = row
    return {"objectives": rows}


def pretrained(store: str, out: Path, objective: str) -> Path:
    """Pretrain by an objective on views 1 and 2, without labels, unless that is done; return the run."""
    run = out / "pretrain" / objective
    words = (f"data.store={store}", "log.tensorboard=false", *OBJECTIVES[objective])
    recipe = load_recipe("ucla_pretrain_cpu", PretrainRecipe, settings(*words))
    if run_recipe(recipe, out=run, resume=RunFolder(run).last.exists()).interrupted:
        raise SystemExit(f"stopped in {run}; the same command goes on from there")
    return run


def kept(path: Path, make: Callable[[], Any]) -> dict[str, Any]:
    """Read a report that is there already, else make it."""
    if not path.exists():
        make()
    report: dict[str, Any] = json.loads(path.read_bytes())
    return report


def shown(encoders: Mapping[str, Any]) -> str:
    """One line of accuracies."""
    return ", ".join(f"{arm} {cell(scores)}" for arm, scores in encoders.items())


def cell(scores: Mapping[str, Any], name: str = "top1") -> str:
    """Mean ± standard deviation in percent."""
    mean, std = scores["mean"][name], scores["std"][name]
    return f"{100 * mean:.1f}" if std is None else f"{100 * mean:.1f} ± {100 * std:.1f}"


def trained_seconds(run: Path) -> float:
    """Return the seconds that the epochs of a run took, evaluations included."""
    last = RunFolder(run).metrics.read_text().splitlines()
    return float(dict(zip(last[0].split(","), last[-1].split(","), strict=True))["seconds"])


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Write a Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def select_tables(report: Mapping[str, Any]) -> list[str]:
    """Return the held-out figures of every candidate, and of sums of them."""

    def top1(row: Mapping[str, Any], holdout: str, name: str = "top1") -> str:
        return f"{100 * row[holdout][name]:.1f}" if holdout in row else ""

    rows = [
        [name, *(top1(row, holdout, kind) for holdout in HOLDOUTS for kind in ("top1", "averaged"))]
        for name, row in report["candidates"].items()
    ]
    sums = [
        [" + ".join(row["members"]), *(top1(row, holdout) for holdout in HOLDOUTS)] for row in report["sums"]
    ]
    titles = ("held-out subjects", "held-out subjects, other camera")
    head = [f"{title}{kind}" for title in titles for kind in ("", ", averaged weights")]
    return [table(("network", *head), rows), table(("logits added", *titles), sums)]


def final_tables(report: Mapping[str, Any]) -> list[str]:
    """Return the accuracies on the test view."""
    rows = []
    for name, scores in report["scores"].items():
        members = name.split(" + ")
        spent = sum(float(np.mean(report["seconds"][member])) for member in members)
        if "pretrained" in members:
            spent += report["pretraining_seconds"]
        title = f"{name}, `{RECIPES[name]}`" if name in RECIPES else f"{name}, logits added"
        each = " ".join(f"{100 * one['top1']:.1f}" for one in scores["seeds"])
        rows.append([title, cell(scores), cell(scores, "top1_without_leaked"), each, f"{spent / 60:.1f}"])
    return [
        table(("network", "all 464 clips", "without the 95 leaked", "each seed, all clips", "minutes"), rows)
    ]


def pretrain_tables(report: Mapping[str, Any]) -> list[str]:
    """Return what each objective's encoder is worth, beside a random one."""
    rows = []
    for name, row in report["objectives"].items():
        for arm in row["probe"]:
            title = f"{name}, {row['seconds'] / 60:.1f} minutes" if arm == "trained" else "none"
            cells = [cell(row["probe"][arm]), cell(row["probe"][arm], "top1_without_leaked")]
            cells.append(cell(row["probe"][arm], "knn_top1"))
            cells += [cell(row[f"labels_{share:g}"][arm]) for share in SHARES]
            rows.append([title, *cells])
    head = ("pretraining", "linear probe", "without leaked", "nearest neighbour")
    return [table((*head, *(f"fine-tuned, {share:.0%} of labels" for share in SHARES)), rows)]


def few_tables(report: Mapping[str, Any]) -> list[str]:
    """Return the held-out figures of fine-tunings with a tenth of the labels."""
    rows = [[name, cell(scores)] for name, scores in report["few"].items()]
    return [table(("fine-tuned, 10% of labels", "held-out subjects"), rows)]


TABLES: Mapping[str, Callable[[Mapping[str, Any]], list[str]]] = {
    "select": select_tables,
    "few": few_tables,
    "planned": final_tables,
    "final": final_tables,
    "pretrain": pretrain_tables,
}


def tables(report: Mapping[str, Any]) -> list[str]:
    """Return every table of a report, or of several under the names of their stages."""
    if "stage" in report:
        return TABLES[report["stage"]](report)
    return [text for stage in report.values() for text in tables(stage)]


def main() -> None:
    """Run a stage."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("stage", choices=(*TABLES, "tables"))
    parser.add_argument("path", nargs="+", help="the store of NW-UCLA; for tables, the reports of stages")
    parser.add_argument("--out", type=Path, default=Path("runs/nw_ucla"))
    parser.add_argument("--seeds", default="0,1,2,3,4")
    parser.add_argument("--objectives", default=",".join(OBJECTIVES))
    options = parser.parse_args()
    if options.stage == "tables":
        for path in options.path:
            print("\n\n".join(tables(json.loads(Path(path).read_bytes()))) + "\n")
        return
    store, seeds = options.path[0], [int(word) for word in options.seeds.split(",")]
    began = time.perf_counter()
    if options.stage == "select":
        report = select(store, options.out)
    elif options.stage == "few":
        report = few(store, options.out, seeds)
    elif options.stage in SUMS_TESTED:
        report = final(store, options.out, seeds, SUMS_TESTED[options.stage])
    else:
        report = pretrain(store, options.out, seeds, options.objectives.split(","))
    digest = open_store(store).info.provenance.digest
    account = {
        "stage": options.stage,
        "store": digest,
        "machine": machine(World(torch.device("cpu"))),
        "threads": torch.get_num_threads(),
        "load": os.getloadavg()[2],
        "seconds_of_this_call": time.perf_counter() - began,
    }
    options.out.mkdir(parents=True, exist_ok=True)
    write_report(options.out / f"{options.stage}.json", {**account, **report})
    print("\n\n".join(tables({**account, **report})))


if __name__ == "__main__":
    main()
