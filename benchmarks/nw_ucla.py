"""NW-UCLA, cross-view: settings chosen on held-out subjects, the test view touched once, five seeds.

    skelconv ingest ucla all_sqe/ ucla.zarr
    python benchmarks/nw_ucla.py select ucla.zarr --out runs/nw_ucla      # never reads view 3
    python benchmarks/nw_ucla.py final ucla.zarr --out runs/nw_ucla       # two small ViTs and their sum
    python benchmarks/nw_ucla.py pretrain ucla.zarr --out runs/nw_ucla    # pretraining, probes, few labels
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

#: Where settings are chosen. `subjects`: clips of two views, by people whom the network never saw. `both`:
#: the same people before camera 2, after training on the others before camera 1.
HOLDOUTS: Mapping[str, str] = {
    "subjects": "data.holdout={subject: [3, 6, 9]}",
    "both": "data.holdout={subject: [3, 6, 9], camera: [2]}",
}

MEMBERS: Mapping[str, str] = {"range": "ucla_scratch_cpu", "facing": "ucla_facing_cpu"}
"""The two networks whose scores are added in the end, and their recipes."""

WHOLE = "tuning.patch_drop=0"
TURNED = "augment.rotate=[0.5, 1.05, 0.1]"
SHORT = "optim.epochs=60"
AVERAGED = ("ema.decay=0.99", "ema.warmup=true")


@dataclass(frozen=True)
class Candidate:
    """A setting that was tried: a recipe, what differs from it, and on which held-out part."""

    holdout: str
    member: str
    settings: tuple[str, ...] = ()


CANDIDATES: Mapping[str, Candidate] = {
    "range": Candidate("both", "range"),
    "range, all patches": Candidate("both", "range", (WHOLE,)),
    "range, facing before the scaling": Candidate("both", "range", ("data.clean=ucla_facing",)),
    "facing": Candidate("both", "facing"),
    "facing, turned further": Candidate("both", "facing", (TURNED,)),
    "metres without facing, turned further": Candidate("both", "facing", ("data.clean=metric", TURNED)),
    "range, 60 epochs": Candidate("subjects", "range", (SHORT,)),
    "range, 60 epochs, twice the rate": Candidate("subjects", "range", (SHORT, "optim.blr=0.002")),
    "range, 60 epochs, facing before the scaling": Candidate(
        "subjects", "range", (SHORT, "data.clean=ucla_facing")
    ),
    "facing, 60 epochs": Candidate("subjects", "facing", (SHORT,)),
    "facing, 60 epochs, turned further": Candidate("subjects", "facing", (SHORT, TURNED)),
}

SUMS: Sequence[tuple[str, ...]] = (
    ("range", "facing"),
    ("range", "facing, turned further"),
    ("range", "range, facing before the scaling"),
    ("range", "facing", "range, facing before the scaling"),
    ("range, 60 epochs", "facing, 60 epochs"),
    ("range, 60 epochs", "facing, 60 epochs, turned further"),
    ("range, 60 epochs", "range, 60 epochs, facing before the scaling"),
    ("range, 60 epochs", "facing, 60 epochs", "range, 60 epochs, facing before the scaling"),
)


def settings(*words: str) -> list[Override]:
    """Parse ``key=value`` words."""
    return [Override.parse(word) for word in words]


def scratch(member: str, store: str, *words: str) -> FinetuneRecipe:
    """Load the recipe of a member, with a store and other settings."""
    base = (f"data.store={store}", *QUIET)
    return load_recipe(MEMBERS[member], FinetuneRecipe, settings(*base, *words))


def finished(recipe: FinetuneRecipe | PretrainRecipe, out: Path) -> dict[str, float]:
    """Train in a folder, or go on there, and return the scores after the last epoch."""
    run_recipe(recipe, out=out, resume=RunFolder(out).last.exists())
    folder = RunFolder(out)
    if not folder.evaluation.exists():
        evaluate_run(out)
    scores: dict[str, float] = json.loads(folder.evaluation.read_bytes()).get("test", {})
    return scores


def select(store: str, out: Path) -> dict[str, Any]:
    """Try every candidate on its held-out part; averaged weights beside the last ones."""
    rows, runs = {}, {}
    for name, one in CANDIDATES.items():
        runs[name] = out / "select" / name.replace(", ", "_").replace(" ", "_")
        recipe = scratch(one.member, store, *one.settings, HOLDOUTS[one.holdout], *AVERAGED)
        averaged = finished(recipe, runs[name])
        last = runs[name].with_name(runs[name].name + "_last")
        if not RunFolder(last).evaluation.exists():
            evaluate_run(runs[name], settings("ema=null"), last)
        scores = json.loads(RunFolder(last).evaluation.read_bytes())["test"]
        rows[name] = {"holdout": one.holdout, "top1": scores["top1"], "averaged": averaged["top1"]}
        print(f"{name}: {scores['top1']:.2%}, averaged weights {averaged['top1']:.2%}", flush=True)
    sums = []
    for names in SUMS:
        report = fuse_runs(
            [runs[name].with_name(runs[name].name + "_last") for name in names], [1.0] * len(names)
        )
        sums.append(
            {"members": names, "holdout": CANDIDATES[names[0]].holdout, "top1": report["fused"]["top1"]}
        )
    return {"candidates": rows, "sums": sums, "holdouts": dict(HOLDOUTS)}


def final(store: str, out: Path, seeds: Sequence[int]) -> dict[str, Any]:
    """Train every member under every seed, test it once, and add up the scores of each seed's members."""
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in (*MEMBERS, "sum")}
    seconds: dict[str, list[float]] = {name: [] for name in MEMBERS}
    for seed in seeds:
        runs = []
        for name in MEMBERS:
            run = out / "final" / f"{name}_seed{seed}"
            scores = finished(scratch(name, store, f"seed={seed}"), run)
            found[name].append({"seed": seed, **scores})
            seconds[name].append(trained_seconds(run))
            runs.append(run)
        fused = fuse_runs(runs, [1.0] * len(runs), out / "final" / f"sum_seed{seed}")["fused"]
        found["sum"].append({"seed": seed, **fused})
        print(f"seed {seed}: " + ", ".join(f"{k} {v[-1]['top1']:.2%}" for k, v in found.items()), flush=True)
    together = {name: summarise(scores) for name, scores in found.items()}
    return {"scores": together, "seconds": seconds, "epochs": scratch("range", store).optim.epochs}


#: Pretraining: what differs from `ucla_pretrain_cpu`.
OBJECTIVES: Mapping[str, tuple[str, ...]] = {
    "mae": (),
    "features": ("model.objective=features", "model.decoder_depth=null"),
}
SHARES: Sequence[float] = (1.0, 0.1, 0.01)


def pretrain(store: str, out: Path, seeds: Sequence[int], objectives: Sequence[str]) -> dict[str, Any]:
    """Pretrain by each objective on views 1 and 2; probe and fine-tune, beside random encoders."""
    rows: dict[str, Any] = {}
    for number, name in enumerate(objectives):
        run = out / "pretrain" / name
        words = (f"data.store={store}", "log.tensorboard=false", *OBJECTIVES[name])
        finished(load_recipe("ucla_pretrain_cpu", PretrainRecipe, settings(*words)), run)
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
    titles = {"subjects": "held-out subjects", "both": "held-out subjects, other camera"}
    rows = [
        [name, titles[row["holdout"]], f"{100 * row['top1']:.1f}", f"{100 * row['averaged']:.1f}"]
        for name, row in report["candidates"].items()
    ]
    sums = [
        [" + ".join(row["members"]), titles[row["holdout"]], f"{100 * row['top1']:.1f}"]
        for row in report["sums"]
    ]
    return [
        table(("setting", "evaluated on", "last weights", "averaged weights"), rows),
        table(("sum of the logits of", "evaluated on", "top-1"), sums),
    ]


def final_tables(report: Mapping[str, Any]) -> list[str]:
    """Return the accuracies on the test view."""
    recipes = {**{name: f"`{recipe}`" for name, recipe in MEMBERS.items()}, "sum": "**both, logits added**"}
    rows = []
    for name, title in recipes.items():
        scores = report["scores"][name]
        each = " ".join(f"{100 * one['top1']:.1f}" for one in scores["seeds"])
        used = [sum(own) for own in zip(*report["seconds"].values(), strict=True)]
        spent = report["seconds"].get(name, used)
        rows.append(
            [title, cell(scores), cell(scores, "top1_without_leaked"), each, f"{np.mean(spent) / 60:.1f}"]
        )
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


TABLES: Mapping[str, Callable[[Mapping[str, Any]], list[str]]] = {
    "select": select_tables,
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
    parser.add_argument("stage", choices=("select", "final", "pretrain", "tables"))
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
    elif options.stage == "final":
        report = final(store, options.out, seeds)
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
