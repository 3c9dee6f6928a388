"""A part to choose settings on: held-out values of the training part, and a test part that nobody reads."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from skelconv.cli.command import run
from skelconv.store.info import Provenance
from skelconv.store.writer import write_store
from skelformats.reader import Clip, Column
from skeltrain.checkpoint import load_checkpoint
from skeltrain.cli import cli
from skeltrain.data.holdout import find_leaked, part_of
from skeltrain.data.loader import DataError
from skeltrain.data.samples import SampleSet, open_samples
from skeltrain.distributed import World
from skeltrain.recipe import Log, Optim
from skeltrain.recipe_file import from_plain
from skeltrain.run import evaluate_run, run_recipe
from skeltrain.run_folder import RunFolder
from skeltrain.sections import ImageData, StoreData
from skeltrain.tasks.finetune import FinetuneData, FinetuneRecipe, Network
from skeltrain.tasks.image_data import open_images
from skeltrain.tasks.pretrain import Model, PretrainRecipe
from skeltrain.tasks.probe import ProbeData, ProbeRecipe
from skeltrain.tasks.probe_seeds import run_probe
from skeltrain.tasks.registry import Context
from tests.skeltrain.conftest import make_clips, make_dataset

CPU = torch.device("cpu")
LOG = Log(every=10, tensorboard=False)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """40 recordings: three subjects in turn, two cameras in turn; the test part moves unlike all others, but
    for its last.
    """
    columns = (Column("subject", "i4", "who"), Column("camera", "string", "from where"))
    clips: list[tuple[str, Clip]] = []
    for i, (name, clip) in enumerate(make_clips(40)):
        values = {"subject": 1 + i % 3, "camera": "ab"[i // 3 % 2]}
        tracks = clip.tracks
        if clip.splits["half"] == "test" and i < 39:
            # what would spoil statistics, if it was read
            tracks = tuple(replace(track, position=track.position * 100) for track in tracks)
        clips.append((name, replace(clip, columns=values, tracks=tracks)))
    path = tmp_path_factory.mktemp("stores") / "people.zarr"
    write_store(
        path,
        replace(make_dataset(), columns=columns),
        clips,
        Provenance(tool="tests", command="tests", digest="of 40"),
    )
    return path


def data_of(store: Path, **holdout: Any) -> ImageData:
    return ImageData(store=str(store), protocol="half", image_size=32, holdout=holdout)


def names(samples: SampleSet, data: StoreData, which: Any) -> set[str]:
    return set(samples.table["recording"].iloc[part_of(samples, data, which)])


def wanted(samples: SampleSet, **values: Any) -> set[str]:
    table = samples.table[samples.table["split_half"] == "train"]
    for column, value in values.items():
        table = table[table[column].isin(value)]
    return set(table["recording"])


def test_held_out_subjects_are_evaluated_and_all_others_trained_on(store: Path) -> None:
    data = data_of(store, subject=[2])
    samples = open_samples(data, CPU)
    assert names(samples, data, "test") == wanted(samples, subject=[2])
    assert names(samples, data, "train") == wanted(samples, subject=[1, 3])


def test_with_several_columns_both_sides_differ_in_each(store: Path) -> None:
    data = data_of(store, subject=[1, 2], camera="b")
    samples = open_samples(data, CPU)
    assert names(samples, data, "test") == wanted(samples, subject=[1, 2], camera=["b"])
    assert names(samples, data, "train") == wanted(samples, subject=[3], camera=["a"])


def test_the_test_part_is_read_neither_for_training_nor_for_statistics(store: Path) -> None:
    context = Context(World(CPU), None, lambda line: None)
    whole, held = (open_images(data, context) for data in (data_of(store), data_of(store, subject=[2])))
    test = set(whole.part("test").tolist())
    assert test
    assert not test & {*held.part("train").tolist(), *held.part("test").tolist()}
    direct = held.images.sets[0].statistics(held.part("train"))
    assert held.statistics == direct != whole.statistics


def test_a_motion_on_both_sides_is_leaked(store: Path) -> None:
    data = data_of(store, subject=[2])
    samples = open_samples(data, CPU)
    # the last recording, of the test part, repeats the first: no leak among the training part's own
    assert not find_leaked(samples, data).any()
    everyone = data.model_copy(update={"protocol": None, "holdout": {"recording": (samples.table.index[0],)}})
    leaked = find_leaked(samples, everyone)
    assert samples.table.index[leaked].tolist() == ["take000"]


@pytest.mark.parametrize(
    ("holdout", "message"),
    [
        ({"sex": [1]}, "found no column 'sex' in the table of the store, expected one of .*camera, subject"),
        ({"subject": [1, 9]}, "found no subject '9' in the training part, expected one of 1, 2, 3"),
        ({"subject": [1, 2, 3]}, "found no sample to train on: of 26 training samples"),
        ({"recording": ["take000"], "subject": [2]}, "found no sample to evaluate on"),
    ],
)
def test_what_cannot_be_held_out_is_said(store: Path, holdout: dict[str, Any], message: str) -> None:
    data = data_of(store, **holdout)
    with pytest.raises(DataError, match=message):
        part_of(open_samples(data, CPU), data, "train")


def test_a_training_and_its_evaluation_later_use_the_held_out_part(store: Path, tmp_path: Path) -> None:
    recipe = FinetuneRecipe(
        model=Network(preset="vit_micro", patch_size=8, embed_dim=32, depth=2, num_heads=2),
        data=FinetuneData(store=str(store), protocol="half", image_size=32, holdout={"subject": (2,)}),
        optim=Optim(batch=8, epochs=1, warmup=0),
        device="cpu",
        log=LOG,
    )
    run_recipe(recipe, out=tmp_path / "run")
    samples = open_samples(data_of(store), CPU)
    evaluated = [set(np.load(RunFolder(tmp_path / "run").predictions("test"))["recording"])]
    evaluate_run(tmp_path / "run", out=tmp_path / "again")
    evaluated.append(set(np.load(RunFolder(tmp_path / "again").predictions("test"))["recording"]))
    assert evaluated == [wanted(samples, subject=[2])] * 2
    kept = load_checkpoint(RunFolder(tmp_path / "run").last)["metadata"]["recipe"]
    assert from_plain(kept, "kept", FinetuneRecipe).data == recipe.data


def test_a_probe_holds_out_what_its_pretraining_did_unless_told_not_to(store: Path, tmp_path: Path) -> None:
    pretraining = PretrainRecipe(
        data=data_of(store, subject=[2]),
        model=Model(preset="vit_micro", patch_size=8, embed_dim=32, depth=2, num_heads=2, decoder_dim=16),
        optim=Optim(batch=8, epochs=1, warmup=0),
        device="cpu",
        log=LOG,
    )
    run_recipe(pretraining, out=tmp_path)
    assert evaluate_run(tmp_path)["reconstruction"].predictions["sample"].tolist() == sorted(
        wanted(open_samples(data_of(store), CPU), subject=[2])
    )
    probe = ProbeRecipe(device="cpu", optim=Optim(name="sgd", batch=8, epochs=1, warmup=0))
    found = run_probe(probe, tmp_path, tmp_path / "same")["data"]
    assert (found["holdout"], found["test_samples"]) == ({"subject": (2,)}, 9)
    whole = probe.model_copy(update={"data": ProbeData(holdout={})})
    found = run_probe(whole, tmp_path, tmp_path / "whole")["data"]
    assert (found["holdout"], found["test_samples"]) == ({}, 14)


def test_the_command_line_takes_it(store: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    words = ["train", "s2i_small_cpu", "--store", store, "--out", tmp_path / "run", "--device", "cpu"]
    words += ["--set", "data.protocol=half", "--set", "data.holdout={subject: [7]}"]
    with pytest.raises(SystemExit) as end:
        run(cli, [str(word) for word in words])
    assert end.value.code != 0
    assert "found no subject '7' in the training part" in capfd.readouterr().err
