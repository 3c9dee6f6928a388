"""Finished runs in the paper's tables: placed by what they say of themselves, never dropped in silence."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from skeltrain.ensemble import fuse_runs
from skeltrain.recipe import Log, Optim
from skeltrain.recipe_file import load_recipe, to_plain
from skeltrain.run import evaluate_run, run_recipe
from skeltrain.run_folder import RunError
from skeltrain.sections import ImageData
from skeltrain.tables.facts import Facts
from skeltrain.tables.gather import Cell, Tables, gather_tables
from skeltrain.tables.paper import paper_tables
from skeltrain.tables.place import UnplacedError, place
from skeltrain.tables.render import to_csv, to_markdown
from skeltrain.tables.results import Result
from skeltrain.tasks.finetune import FinetuneRecipe, Labels
from skeltrain.tasks.finetune_seeds import run_finetuning
from skeltrain.tasks.pretrain import Model, PretrainRecipe
from skeltrain.tasks.probe import ProbeRecipe
from skeltrain.tasks.probe_seeds import run_probe
from tests.skeltrain.test_finetune import skeltrain

LAYOUTS = {"ntu60": "ntu25", "ntu120": "ntu25", "pku1": "ntu25", "pku2": "ntu25", "toyota": "toyota13"}


def stored(dataset: str = "ntu60", protocol: str | None = "xsub") -> dict[str, Any]:
    digest = f"sha256:{dataset}"
    return {
        "dataset": dataset,
        "digest": digest,
        "layout": LAYOUTS.get(dataset, dataset),
        "protocol": protocol,
    }


def pretrained(*stores: dict[str, Any], seed: int = 0, epochs: int = 1600, **settings: Any) -> dict[str, Any]:
    """Return the account of a pretraining by the paper's recipe, with some settings changed."""
    recipe = to_plain(load_recipe("s2i_diffmae_ntu", PretrainRecipe))
    recipe["seed"] = seed
    for name, value in settings.items():
        section, key = name.split("_", 1)
        recipe[section][key] = value
    return {
        "checkpoint": f"runs/{seed}",
        "recipe": recipe,
        "epochs": epochs,
        "seconds": 1.0,
        "stores": list(stores or [stored()]),
    }


def trial(
    task: str = "finetune",
    seed: int = 0,
    encoder: str = "pretrained",
    before: dict[str, Any] | None = None,
    share: float = 1.0,
    streams: tuple[str, ...] = ("joint",),
    batch: int = 128,
    **data: Any,
) -> dict[str, Any]:
    """Return what an evaluation says of itself."""
    kind = FinetuneRecipe() if task == "finetune" else ProbeRecipe()
    recipe = kind.model_copy(update={"seed": seed, "optim": kind.optim.model_copy(update={"batch": batch})})
    if task == "finetune":
        recipe = recipe.model_copy(update={"labels": Labels(share=share)})
    own = {
        **stored(),
        "train": "train",
        "test": "test",
        "clean": "auto",
        "persons": "interleave",
        "format": "own",
    }
    counts = {
        "train_samples": 10,
        "test_samples": 4,
        "leaked": 0,
        "classes": 2,
        "chance": 0.5,
        "majority": 0.5,
    }
    return {
        "version": 1,
        "task": task,
        "encoder": encoder,
        "seed": seed,
        "trained_here": True,
        "data": {**own, **counts, "streams": list(streams), **data},
        "recipe": to_plain(recipe),
        "pretraining": None if encoder in ("scratch", "weights") else (before or pretrained(seed=seed)),
    }


def keep(folder: Path, about: dict[str, Any], **scores: float) -> Path:
    folder.mkdir(parents=True)
    found = {"top1": 0.5, "mean_class": 0.4, **scores}
    (folder / "evaluation.json").write_text(json.dumps({"test": found, "about": about}))
    return folder


def cells(about: dict[str, Any], *more: dict[str, Any], **scores: float) -> set[tuple[str, str, str, str]]:
    members = (about, *more)
    weights = (0.6, 0.6, 0.4) if more else ()
    facts = Facts(Result(Path("run"), {"top1": 0.5, "mean_class": 0.4, **scores}, members, weights))
    return {(one.table, one.group, one.row, one.column) for one in place(facts)}


def cell(tables: Tables, key: str, row: str, column: str) -> Cell:
    (found,) = (
        one.cells[column]
        for drawn in tables.drawn
        if drawn.table.key == key
        for one in drawn.rows
        if one.name == row and column in one.cells
    )
    return found


# The paper


def test_figures_that_the_paper_has_in_several_tables_are_the_same() -> None:
    tables = paper_tables()
    assert [table.number for table in tables.values()] == [1, 2, None, 4, 5, 6, 7, 8, 9]

    def figure(key: str, row: str, column: str, group: str = "ntu60 xsub") -> float:
        return tables[key].figures[group, row, column]

    for kind, key in (("LP", "probe"), ("FT", "finetune")):
        joint = figure(key, "ntu60 xsub", "joint", "all")
        assert figure("ablation", "image and skeleton", f"DiffMAE {kind}") == joint
        assert figure("masks", "random", f"DiffMAE {kind}") == joint
        assert figure("streams", "joint", kind) == joint
        assert figure("streams", "3s", kind) == figure(key, "ntu60 xsub", "3s", "all")
        assert figure("ablation", "none", f"MAE {kind}") == figure("ablation", "none", f"DiffMAE {kind}")
    for dataset in ("ntu60 xsub", "ntu120 xsub"):
        assert figure("universal", dataset, "self FT", "all") == figure("finetune", dataset, "joint", "all")
    assert all(0 < value < 100 for table in tables.values() for value in table.figures.values())


# Places


def test_each_protocol_has_its_cell() -> None:
    own = "ntu60 xsub"
    assert cells(trial("probe")) >= {
        ("ablation", own, "skeleton only", "DiffMAE LP"),
        ("masks", own, "random", "DiffMAE LP"),
        ("streams", own, "joint", "LP"),
        ("probe", "all", own, "joint"),
    }
    started = pretrained(init_weights="timm/vit_base_patch16_224.mae", model_objective="mae")
    assert ("ablation", own, "image and skeleton", "MAE FT") in cells(trial(before=started))
    loaded = pretrained(init_weights="timm/vit_base_patch16_224.mae", optim_blr=0.0)
    assert ("ablation", own, "image only", "DiffMAE LP") in cells(trial("probe", before=loaded))
    for encoder in ("random", "scratch"):
        found = cells(trial(encoder=encoder))
        assert {("ablation", own, "none", f"{name} FT") for name in ("MAE", "DiffMAE")} <= found
    masked = cells(trial(before=pretrained(model_masking="temporal")))
    assert masked == {("masks", own, "temporal", "DiffMAE FT")}
    assert cells(trial(streams=("motion",))) == {("streams", own, "motion", "FT")}
    assert cells(trial(share=0.1)) == {("semi", own, "joint", "10 %")}
    assert cells(trial(share=0.01, encoder="random")) == {("semi", own, "joint", "1 % from scratch")}
    assert cells(trial(**stored("pku2"))) == {("transfer", "to pku2 xsub", "ntu60", "FT")}
    assert cells(trial(**stored("pku2"), encoder="random")) == {
        ("transfer", "to pku2 xsub", "from scratch", "FT")
    }
    toyota = trial(**stored("toyota", "cv1"))
    assert cells(toyota) == {
        ("cross_format", "from ntu60", "toyota cv1", "FT"),
        ("cross_format", "from ntu60", "toyota cv1", "FT, mean per class"),
    }
    leaked = cells(trial(**stored("ucla", "xview")), top1_without_leaked=0.3)
    assert ("cross_format", "from ntu60", "ucla xview", "FT, without leaked") in leaked
    several = pretrained(stored("ntu60"), stored("toyota", "cs"))
    assert cells(trial(before=several)) == {("universal", "all", own, "universal FT")}
    part = trial(before=pretrained(stored("ntu120"), stored("pku1")))
    assert cells(part) == {("universal", "all", own, "universal FT")}, "all of NTU60 is in NTU120"


def test_three_fused_streams_have_their_row() -> None:
    members = [
        trial("probe", streams=(name,), before=pretrained(data_stream=name))
        for name in ("joint", "bone", "motion")
    ]
    assert cells(*members) == {("streams", "ntu60 xsub", "3s", "LP"), ("probe", "all", "ntu60 xsub", "3s")}
    with pytest.raises(UnplacedError, match=r"the paper fuses joint, bone, motion"):
        cells(*members[:2])
    other = trial("probe", streams=("motion",), before=pretrained(data_stream="motion", optim_epochs=3))
    with pytest.raises(UnplacedError, match=r"differ in more than their stream: pretrain\.optim\.epochs"):
        cells(*members[:2], other)


@pytest.mark.parametrize(
    ("about", "reason"),
    [
        (trial(streams=("spine", "bone")), "several streams"),
        (trial(streams=("spine",)), "stream spine"),
        (trial(before=pretrained(model_mask_ratio=0.6)), "mask ratio 0.6"),
        (trial(before=pretrained(stored(protocol=None))), "those of the test part too"),
        (trial(before=pretrained(stored(protocol="xview"))), "holds test recordings of xsub"),
        (trial(test="val"), "tested on 'val'"),
        (trial(share=0.1, **stored("pku2")), "few labels of another dataset"),
        (trial(share=0.1, streams=("bone",)), "few labels of stream bone"),
        (trial(streams=("bone",), **stored("pku2")), "transfer of stream bone"),
        (trial(before=pretrained(stored("pku1"), stored("pku2"))), "none is of ntu60"),
        (trial("probe", before=pretrained(stored(), stored("pku2"))), "the paper fine-tunes then"),
        ({**trial(), "trained_here": False}, "other data than it was trained on"),
        ({**trial(), "encoder": "unknown"}, "earlier version"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_fits_no_table_is_named_with_the_reason(
    about: dict[str, Any], reason: str, tmp_path: Path
) -> None:
    keep(tmp_path / "good", trial())
    bad = keep(tmp_path / "bad", about)
    tables = gather_tables([tmp_path])
    (left,) = tables.left
    assert reason in left.reason
    assert str(bad / "evaluation.json") in to_markdown(tables)
    with pytest.raises(RunError, match=reason):
        gather_tables([bad])


# Cells


def test_a_cell_is_mean_and_sample_deviation_over_trials(tmp_path: Path) -> None:
    for seed, score in enumerate((0.50, 0.60, 0.70)):
        keep(tmp_path / f"run{seed}", trial(seed=seed), top1=score)
    found = cell(gather_tables([tmp_path]), "finetune", "ntu60 xsub", "joint")
    assert (found.mean, found.std) == (pytest.approx(60), pytest.approx(10))
    assert (found.trials, found.pretrainings) == (3, 3)
    shown = to_markdown(gather_tables([tmp_path]))
    assert "60.0 ± 10.0 (3 of 3) | 91.0" in shown, "the paper's figure stands beside it"
    keep(tmp_path / "again", trial(seed=0), top1=0.50)
    keep(tmp_path / "head", trial(seed=5, before=pretrained(seed=0)), top1=0.60)
    more = cell(gather_tables([tmp_path, tmp_path / "again"]), "finetune", "ntu60 xsub", "joint")
    assert (more.mean, more.trials, more.pretrainings) == (pytest.approx(60), 4, 3), (
        "a repetition counts once"
    )


def test_random_encoders_beside_two_objectives_are_the_same_trial(tmp_path: Path) -> None:
    for name, objective in (("a", "mae"), ("b", "diffmae")):
        settings = {"model_objective": objective, "model_decoder": None, "model_rho": None}
        keep(tmp_path / name, trial(encoder="random", before=pretrained(**settings)))
    tables = gather_tables([tmp_path])
    assert {cell(tables, "ablation", "none", f"{name} FT").trials for name in ("MAE", "DiffMAE")} == {1}


def test_other_settings_stand_in_rows_of_their_own(tmp_path: Path) -> None:
    keep(tmp_path / "a", trial(seed=0), top1=0.5)
    keep(tmp_path / "b", trial(seed=1, batch=32), top1=0.7)
    keep(tmp_path / "c", trial(seed=2, before=pretrained(seed=2, epochs=800)), top1=0.9)
    tables = gather_tables([tmp_path])
    (drawn,) = (one for one in tables.drawn if one.table.key == "finetune")
    apart = {row.apart: row.cells["joint"].mean for row in drawn.rows if row.name == "ntu60 xsub"}
    assert apart == {
        "optim.batch=128, pretrained epochs=1600": 50,
        "optim.batch=32, pretrained epochs=1600": 70,
        "optim.batch=128, pretrained epochs=800": 90,
    }


def test_two_objectives_in_one_row_are_told_apart_by_their_names(tmp_path: Path) -> None:
    settings = {"model_objective": "mae", "model_decoder": None, "model_rho": None}
    keep(tmp_path / "a", trial(before=pretrained(**settings)))
    keep(tmp_path / "b", trial())
    (drawn,) = (one for one in gather_tables([tmp_path]).drawn if one.table.key == "finetune")
    apart = [row.apart for row in drawn.rows if row.name == "ntu60 xsub"]
    assert apart == ["pretrain.model.objective=diffmae", "pretrain.model.objective=mae"]


def test_tables_are_drawn_where_a_run_calls_for_them(tmp_path: Path) -> None:
    keep(tmp_path / "a", trial())
    tables = gather_tables([tmp_path])
    assert [one.table.key for one in tables.drawn] == ["ablation", "finetune"]
    assert "No run for: Table 2: what is masked; Streams" in to_markdown(tables)
    keep(tmp_path / "b", trial(before=pretrained(model_masking="joint")))
    shown = to_markdown(gather_tables([tmp_path]))
    assert "## Table 2: what is masked · ntu60 xsub" in shown
    lines = [line for line in shown.splitlines() if line.startswith("| block")]
    assert "81.3" in lines[0], "the paper's rows stand there without a run too"
    assert "–" in lines[0]
    rows = list(csv.DictReader(to_csv(gather_tables([tmp_path])).splitlines()))
    (row,) = (
        one for one in rows if (one["table"], one["row"], one["column"]) == ("2", "joint", "DiffMAE FT")
    )
    assert (float(row["mean"]), row["std"], row["trials"], row["paper"]) == (50, "", "1", "90.4")
    assert row["source"] == "S2I paper, Table 2"
    assert row["files"].endswith("b/evaluation.json")


# Bad input


def test_what_is_no_finished_run_is_one_clear_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    keep(tmp_path / "good", trial())
    empty, stopped, bare, damaged = (tmp_path / name for name in ("empty", "stopped", "bare", "damaged"))
    for folder in (empty, stopped, bare, damaged):
        folder.mkdir()
    (stopped / "recipe.yaml").write_text("# made by\ntask: finetune\n")
    (bare / "recipe.yaml").write_text("# made by\ntask: pretrain\n")
    for folder, message in (
        (tmp_path / "absent", "found no folder"),
        (empty, "found no run"),
        (stopped, "not finished (stopped: stopped before its last evaluation)"),
        (bare, "a run without evaluations"),
    ):
        assert skeltrain("table", tmp_path / "good", folder) == 2
        told = capsys.readouterr().err
        assert message in told
        assert str(folder) in told
    for text in ("{", "[]", '{"test": {}, "about": {"version": 1}}', '{"about": {}}'):
        (damaged / "evaluation.json").write_text(text)
        assert skeltrain("table", tmp_path / "good", damaged) == 2
        assert "damaged" in capsys.readouterr().err
    (damaged / "evaluation.json").write_text(json.dumps({"test": {}, "about": {**trial(), "version": 2}}))
    tables = gather_tables([tmp_path / "good", damaged])
    assert "later version" in tables.left[0].reason
    tables = gather_tables([tmp_path])
    assert {"stopped", "damaged"} <= {
        one.where.name if one.where.is_dir() else one.where.parent.name for one in tables.left
    }


# Real runs


@pytest.fixture(scope="module")
def programme(tiny_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three streams pretrained, probed and fused; the joints fine-tuned too, on a third of the labels as
    well.
    """
    folder = tmp_path_factory.mktemp("programme")
    short = Log(every=10, tensorboard=False)
    for stream in ("joint", "bone", "motion"):
        recipe = PretrainRecipe(
            data=ImageData(store=str(tiny_store), protocol="half", image_size=16, stream=stream),
            model=Model(preset="vit_micro", patch_size=8, embed_dim=16, depth=1, num_heads=2, decoder_dim=16),
            optim=Optim(blr=5e-2, batch=8, epochs=1, warmup=0),
            device="cpu",
            log=short,
        )
        run_recipe(recipe, out=folder / stream)
        optim = Optim(name="sgd", blr=4.0, batch=8, weight_decay=0, epochs=3, warmup=0)
        probe = ProbeRecipe(device="cpu", seeds=(0, 1), untrained=stream == "joint", optim=optim)
        run_probe(probe, folder / stream)
    members = [folder / stream / "probe" / "trained_seed0" for stream in ("joint", "bone", "motion")]
    fuse_runs(members, out=folder / "fused")
    tune = FinetuneRecipe(
        optim=Optim(blr=0.1, batch=8, epochs=1, warmup=0), device="cpu", log=short, labels=Labels(share=0.3)
    )
    run_finetuning(tune, folder / "joint", folder / "joint" / "few")
    return folder


def test_real_runs_say_what_their_place_needs(programme: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert skeltrain("table", programme, "--out", programme / "out", "--title", "Tiny") == 0
    shown = capsys.readouterr().out
    assert shown == (programme / "out" / "tables.md").read_text()
    assert shown.startswith("# Tiny\n")
    tables = gather_tables([programme])
    report = json.loads((programme / "joint" / "probe.json").read_text())["encoders"]
    for row, arm in (("skeleton only", "trained"), ("none", "untrained")):
        found = cell(tables, "ablation", row, "MAE LP")
        assert found.mean == pytest.approx(100 * report[arm]["mean"]["top1"])
        assert found.std == pytest.approx(100 * report[arm]["std"]["top1"])
        assert (found.trials, found.pretrainings) == (2, 1 if arm == "trained" else 0)
    fused = json.loads((programme / "fused" / "ensemble.json").read_text())["fused"]
    assert cell(tables, "streams", "3s", "LP").mean == pytest.approx(100 * fused["top1"])
    assert cell(tables, "semi", "joint", "30 %").trials == 1
    (part,) = {(one.place, one.test_samples, one.leaked) for one in tables.data}
    assert part == ("tiny half", 17, 1)
    assert not tables.left


def test_every_evaluation_keeps_scores_and_predictions_of_each_recording(programme: Path) -> None:
    """Of a probe, a fine-tuning and a fusion: the same 17 recordings, a distribution over classes, the
    score.
    """
    files = [
        *programme.glob("*/probe/*/predictions_test.npz"),
        *programme.glob("joint/few/*/predictions_test.npz"),
        programme / "fused" / "predictions_fused.npz",
    ]
    assert len(files) == 2 * 3 + 2 + 1 + 1
    recordings = []
    for path in files:
        with np.load(path, allow_pickle=False) as kept:
            recordings.append(sorted(kept["recording"]))
            assert kept["score"].shape == kept["logits"].shape == (17, 3)
            np.testing.assert_allclose(kept["score"].sum(axis=1), 1, rtol=1e-5)
            assert (kept["score"].argmax(axis=1) == kept["logits"].argmax(axis=1)).all()
            top1 = (kept["logits"].argmax(axis=1) == kept["label"]).mean()
        name, key = ("ensemble", "fused") if path.parent.name == "fused" else ("evaluation", "test")
        assert json.loads((path.parent / f"{name}.json").read_text())[key]["top1"] == pytest.approx(top1)
    assert all(names == recordings[0] for names in recordings)


def test_runs_of_earlier_versions_are_read(programme: Path, tmp_path: Path) -> None:
    """Without accounts in their evaluations, where their stores still are."""
    content = json.loads((programme / "joint" / "probe.json").read_text())
    (tmp_path / "probe.json").write_text(json.dumps(content))
    found = cell(gather_tables([tmp_path]), "ablation", "skeleton only", "MAE LP")
    assert found.mean == pytest.approx(100 * content["encoders"]["trained"]["mean"]["top1"])
    assert found.trials == 2
    content["data"]["store"] = str(tmp_path / "gone.zarr")
    (tmp_path / "probe.json").write_text(json.dumps(content))
    with pytest.raises(RunError, match="its store is gone"):
        gather_tables([tmp_path])


def test_an_evaluation_elsewhere_says_so(programme: Path, tiny_store: Path, tmp_path: Path) -> None:
    from skeltrain.recipe_file import Override

    tuned = programme / "joint" / "few" / "trained_seed0"
    evaluate_run(tuned, [Override(("data", "store"), str(tiny_store))], tmp_path / "found")
    about = json.loads((tmp_path / "found" / "evaluation.json").read_text())["about"]
    assert about["trained_here"] is False
    assert about["pretraining"]["stores"][0]["dataset"] == "tiny"
    here = json.loads((tuned / "evaluation.json").read_text())["about"]
    assert {**about, "trained_here": True, "recipe": None} == {**here, "recipe": None}


def test_published_weights_go_to_their_streams(programme: Path) -> None:
    members = [programme / stream / "probe" / "trained_seed0" for stream in ("joint", "motion", "bone")]
    with pytest.raises(
        RunError, match=r"streams joint, motion, bone, expected them in the order joint, bone"
    ):
        fuse_runs(members)
    assert (
        fuse_runs(members, [0.6, 0.4, 0.6])["fused"]
        == fuse_runs([members[0], members[2], members[1]])["fused"]
    )
