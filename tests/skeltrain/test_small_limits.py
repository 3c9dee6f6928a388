"""Few labels for a probe, labels by recording, mixing over a whole step, other layouts, and errors of models
before data.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from skelformats.errors import UnknownNameError
from skeltrain.checkpoint import find_checkpoint, load_checkpoint
from skeltrain.data import samples as sample_sets
from skeltrain.data.frames import Frames
from skeltrain.distributed import World
from skeltrain.models.errors import ModelError
from skeltrain.models.weights import WeightsError
from skeltrain.recipe import Log, Optim
from skeltrain.run import embed_run, predict_run, run_recipe
from skeltrain.sections import ImageData, Init
from skeltrain.tasks.finetune import (
    FinetuneData,
    FinetuneRecipe,
    MixBatch,
    Network,
    StartingEncoder,
    Tuning,
    build_finetuning,
)
from skeltrain.tasks.image_data import open_images
from skeltrain.tasks.labelled import Encoder
from skeltrain.tasks.labels import Labels, labelled_rows
from skeltrain.tasks.pretrain import Model, PretrainRecipe, build_pretraining
from skeltrain.tasks.probe import ProbeRecipe, build_probe
from skeltrain.tasks.probe_seeds import run_probe
from skeltrain.tasks.registry import Context
from tests.skeltrain.conftest import AUGMENT, make_dataset, write_tiny
from tests.skeltrain.test_engine import curve

CPU = torch.device("cpu")
WORLD = World(CPU)


@pytest.fixture(scope="module")
def pretrained(tiny_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    recipe = PretrainRecipe(
        data=ImageData(store=str(tiny_store), protocol="half", image_size=32),
        model=Model(preset="vit_micro", patch_size=8, embed_dim=16, depth=1, num_heads=2, decoder_dim=16),
        optim=Optim(batch=16, epochs=1, warmup=0),
        device="cpu",
        log=Log(tensorboard=False),
    )
    out = tmp_path_factory.mktemp("limits") / "run"
    run_recipe(recipe, out=out)
    return out


def probe_of(run: Path, **settings: object) -> ProbeRecipe:
    return ProbeRecipe.model_validate(
        {
            "device": "cpu",
            "encoder": {"run": str(run)},
            "optim": {"name": "sgd", "blr": 4.0, "batch": 8, "weight_decay": 0, "epochs": 2, "warmup": 0},
            "log": {"tensorboard": False},
            **settings,
        }
    )


# Labels


def test_a_probe_of_few_labels_trains_on_the_picked_ones_of_each_seed(
    pretrained: Path, tmp_path: Path
) -> None:
    picked = []
    for seed in (0, 1):
        job = build_probe(probe_of(pretrained, labels={"share": 0.1}, seed=seed), Context(WORLD))
        (batch,) = job.loader.epoch(0)
        assert sorted(batch.label.tolist()) == [0, 1, 2], "one of each class"
        picked.append(batch.feature)
    assert not torch.equal(picked[0].sum(dim=0), picked[1].sum(dim=0))
    report = run_probe(probe_of(pretrained, labels={"share": 0.1}), pretrained, tmp_path)
    scores = report["encoders"]["trained"]["seeds"][0]
    assert report["recipe"]["labels"]["share"] == 0.1
    whole = run_probe(probe_of(pretrained), pretrained, tmp_path)["encoders"]["trained"]["seeds"][0]
    assert scores["loss"] != whole["loss"]
    assert scores["knn_top1"] != whole["knn_top1"], "neighbours have few labels too"


def test_a_recording_is_labelled_with_all_its_persons_or_not_at_all(tiny_store: Path) -> None:
    data = ImageData(store=str(tiny_store), protocol="half", image_size=32, persons="separate")
    source = open_images(data, Context(WORLD))
    train = source.part("train")
    names = source.images.mixture.sets[0].table["recording"].to_numpy(str)[train]
    assert len(set(names)) == 32 < len(names)
    rows = labelled_rows(source, train, Labels(share=0.5), seed=0)
    chosen = set(names[rows])
    assert 14 <= len(chosen) <= 18, "half of the recordings"
    assert set(np.flatnonzero(np.isin(names, sorted(chosen)))) == set(rows.tolist())
    assert np.array_equal(labelled_rows(source, train, Labels(), seed=0), np.arange(len(train)))


# Mixing


def mixing(pretrained: Path, accum: int) -> FinetuneRecipe:
    return FinetuneRecipe(
        encoder=StartingEncoder(run=str(pretrained)),
        augment=AUGMENT,
        tuning=Tuning(drop_path=0.0, mixup=0.8, pooling="avg"),
        optim=Optim(blr=1e-3, batch=9, accum=accum, epochs=2, warmup=0, betas=(0.9, 0.999)),
        device="cpu",
        log=Log(every=1, tensorboard=False),
    )


def test_partners_of_a_mixture_do_not_depend_on_how_a_step_is_divided(
    pretrained: Path, tmp_path: Path
) -> None:
    """Steps of 9 in parts of 5 and 4, with augmentation; the last step is smaller."""
    curves = []
    for accum in (1, 2, 3):
        out = tmp_path / str(accum)
        run_recipe(mixing(pretrained, accum), out=out)
        curves.append(curve(out))
    assert len(curves[0]) == 8
    for other in curves[1:]:
        assert other == pytest.approx(curves[0], rel=1e-4)


def test_the_partner_of_the_nth_sample_is_the_nth_last(pretrained: Path) -> None:
    whole = build_finetuning(mixing(pretrained, 1), Context(WORLD))
    parts = build_finetuning(mixing(pretrained, 3), Context(WORLD))
    step = next(iter(whole.loader.epoch(0)))
    assert not isinstance(step, MixBatch)
    found = [batch for _, batch in zip(range(3), parts.loader.epoch(0), strict=False)]
    partners = [(batch.partner if isinstance(batch, MixBatch) else batch).image.flip(0) for batch in found]
    torch.testing.assert_close(torch.cat(partners), step.image.flip(0), rtol=0, atol=1e-5)


# Layouts


def test_a_layout_without_the_models_joints_is_encoded_by_its_own_order(
    pretrained: Path, tmp_path: Path
) -> None:
    store = write_tiny(tmp_path / "toyota.zarr", 12, make_dataset("other", "toyota13"))
    lines: list[str] = []
    features, _ = embed_run(pretrained, str(store), "cpu", lines.append)
    assert features.feature.shape == (12, 16)
    assert features.attributes["skeleton"] == "toyota13"
    assert any("toyota13 lacks joints of ntu25" in line for line in lines)
    probed = tmp_path / "probed"
    run_recipe(probe_of(pretrained), out=probed)
    assert "12 predictions" in predict_run(probed, str(store), tmp_path / "labels.csv", "cpu")


# Errors of the model come before data


def test_what_is_wrong_with_a_model_is_said_before_a_frame_is_read(
    pretrained: Path, tiny_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[str] = []

    def gather(*given: object, **named: object) -> None:
        read.append("frames")
        raise AssertionError("read frames before the model was sound")

    monkeypatch.setattr(sample_sets, "pack_samples", gather)
    monkeypatch.setattr(Frames, "__init__", gather)
    data = {"store": str(tiny_store), "protocol": "half", "image_size": 32}
    broken = tmp_path / "broken.pt"
    broken.write_bytes(b"no weights")
    pretrain = PretrainRecipe(data=ImageData.model_validate(data), device="cpu")
    finetune = FinetuneRecipe(data=FinetuneData.model_validate(data), device="cpu")
    for build, recipe, error in (
        (build_pretraining, {"model": Model(preset="vit_none")}, UnknownNameError),
        (build_pretraining, {"model": Model(patch_size=7)}, ModelError),
        (build_pretraining, {"init": Init(weights=str(broken))}, WeightsError),
    ):
        with pytest.raises(error):
            build(pretrain.model_copy(update=recipe), Context(WORLD))
    network = Network(preset="vit_micro", patch_size=8)
    for changed, error in (
        ({"model": network.model_copy(update={"patch_size": 7})}, ModelError),
        ({"model": network, "encoder": StartingEncoder(weights=str(broken))}, WeightsError),
    ):
        with pytest.raises(error, match="found"):
            build_finetuning(finetune.model_copy(update=changed), Context(WORLD))
    checkpoint = load_checkpoint(find_checkpoint(pretrained))
    checkpoint["metadata"]["model"]["config"]["patch_size"] = 7
    monkeypatch.setattr("skeltrain.tasks.labelled.load_checkpoint", lambda *given: checkpoint)
    probe = probe_of(pretrained)
    with pytest.raises(ModelError, match="tile the image"):
        build_probe(probe, Context(WORLD))
    with pytest.raises(ModelError, match="tile the image"):
        run_probe(probe, pretrained, tmp_path)
    with pytest.raises(ModelError, match="tile the image"):
        build_probe(
            probe.model_copy(update={"encoder": Encoder(run=str(pretrained), random=True)}), Context(WORLD)
        )
    assert read == []
