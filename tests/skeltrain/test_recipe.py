"""Recipes say what a run does, and mistakes in them are found before anything else happens."""

from __future__ import annotations

from pathlib import Path

import pytest

from skelformats.errors import UnknownNameError
from skeltrain.models.mae import PRESETS
from skeltrain.recipe import Optim, Recipe
from skeltrain.recipe_file import (
    Override,
    RecipeError,
    describe_recipes,
    differences,
    load_recipe,
    read_recipe,
    recipe_names,
    recipe_task,
    recipe_text,
    to_plain,
    to_yaml,
)
from skeltrain.sections import Augment
from skeltrain.tasks.finetune import FinetuneRecipe
from skeltrain.tasks.motion_pretrain import MotionData, MotionPretrainRecipe
from skeltrain.tasks.pretrain import PretrainRecipe
from skeltrain.tasks.probe import ProbeRecipe
from skeltrain.tasks.registry import find_task


def read(text: str, *overrides: str) -> PretrainRecipe:
    return read_recipe(text, "my.yaml", PretrainRecipe, [Override.parse(o) for o in overrides])


@pytest.mark.parametrize("name", recipe_names())
def test_every_shipped_recipe_is_valid_and_opens_with_its_command(name: str) -> None:
    text = recipe_text(name)
    kind = find_task(recipe_task(name)).recipe
    recipe = load_recipe(name, kind)
    assert text.startswith("#")
    comment = text[: text.index("task:")]
    assert f"skeltrain {recipe.task} " in comment or f"skeltrain train {name} " in comment
    assert name in comment
    assert name in describe_recipes()
    if isinstance(recipe, PretrainRecipe):
        assert recipe.model.preset in PRESETS


def test_the_papers_settings() -> None:
    """S2I, Tables 10, 11 and 13."""
    recipe = load_recipe("s2i_mae_ntu", PretrainRecipe)
    assert (recipe.optim.batch, recipe.optim.epochs, recipe.optim.warmup) == (512, 800, 40)
    assert recipe.optim.peak_lr == pytest.approx(3.0e-4)
    assert (recipe.optim.betas, recipe.optim.weight_decay) == ((0.9, 0.95), 0.05)
    assert (recipe.model.preset, recipe.model.mask_ratio, recipe.model.norm_pix_loss) == (
        "vit_base",
        0.75,
        False,
    )
    probe = load_recipe("s2i_linprobe", ProbeRecipe)
    assert (probe.optim.name, probe.optim.batch, probe.optim.epochs, probe.optim.warmup) == (
        "sgd",
        128,
        100,
        10,
    )
    assert probe.optim.peak_lr == pytest.approx(0.1)
    assert load_recipe("s2i_linprobe_ucla", ProbeRecipe).optim.batch == 32


def test_motionberts_settings() -> None:
    """MB_pretrain.yaml and MB_ft_h36m.yaml; without any setting, data and network are these."""
    for name, rate, batch, epochs in (
        ("motionbert_pretrain", 5e-4, 64, 90),
        ("motionbert_pose3d", 2e-4, 32, 60),
    ):
        kind = find_task(recipe_task(name)).recipe
        recipe, default = load_recipe(name, kind), kind()
        optim = recipe.optim
        assert (optim.name, optim.peak_lr, optim.weight_decay) == ("adamw", rate, 0.01)
        assert (optim.batch, optim.epochs, optim.warmup, optim.betas) == (batch, epochs, 0, (0.9, 0.999))
        assert (optim.schedule, optim.schedule_by, optim.decay) == ("exponential", "epoch", 0.99)
        assert recipe.model == default.model
        assert recipe.loss == default.loss
        assert recipe.augment == default.augment
        assert recipe.relative
    data = load_recipe("motionbert_pretrain", MotionPretrainRecipe).data
    assert data == MotionData()
    assert [(c.length, c.stride) for c in (data.depth, data.detected)] == [(243, 81), (81, 27)]
    assert (data.annotated.length, data.annotated.first, data.only_depth) == (30, True, 30)


def test_motionberts_settings_for_actions() -> None:
    """MB_ft_NTU60_xsub.yaml and its like; without any setting, a recipe is that of fine-tuning."""
    for name, rate, backbone, batch, epochs in (
        ("motionbert_action_xsub", 1e-3, 1e-4, 32, 300),
        ("motionbert_action_xview", 1e-3, 1e-4, 32, 300),
        ("motionbert_action_xsub_scratch", 1e-4, 1e-4, 32, 300),
        ("motionbert_action_xview_scratch", 1e-4, 1e-4, 32, 300),
        ("motionbert_oneshot", 1e-3, 1e-4, 32, 50),
    ):
        kind = find_task(recipe_task(name)).recipe
        recipe, default = load_recipe(name, kind), kind()
        optim = recipe.optim
        assert (optim.name, optim.peak_lr, optim.weight_decay) == ("adamw", rate, 0.01)
        assert recipe.tuning.backbone_lr * optim.peak_lr == pytest.approx(backbone)
        assert (optim.batch, optim.epochs, optim.warmup, optim.betas) == (batch, epochs, 0, (0.9, 0.999))
        assert (optim.schedule, optim.schedule_by, optim.decay) == ("exponential", "epoch", 0.99)
        for section in ("model", "head", "augment"):
            assert getattr(recipe, section) == getattr(default, section)
        assert (recipe.augment.angle, recipe.augment.crop, recipe.augment.flip) == (10, (1, 3), 0)
        assert recipe.head.hidden == 2048
        if name == "motionbert_oneshot":
            assert (recipe.data.length, recipe.head.dropout, recipe.contrast.each) == (100, 0.1, 2)
            assert recipe.contrast == default.contrast
            assert recipe.data == default.data
        else:
            assert (recipe.data.length, recipe.head.dropout) == (243, 0.5)
            assert recipe.data.protocol == name.split("_")[2]
    assert load_recipe("motionbert_action_xsub", kind=find_task("motion_action").recipe).optim == (
        find_task("motion_action").recipe().optim
    )


def test_a_probe_without_any_setting_is_the_papers() -> None:
    for name in ("linprobe", "s2i_linprobe"):
        shipped, default = load_recipe(name, ProbeRecipe), ProbeRecipe()
        assert shipped.optim == default.optim
        assert shipped.head == default.head


@pytest.mark.parametrize(
    ("probe", "pretraining"),
    [
        ("s2i_linprobe", "s2i_mae_ntu"),
        ("s2i_linprobe_ucla", "ucla_vits_gpu"),
    ],
)
def test_the_paper_augments_the_probe_as_it_does_pretraining(probe: str, pretraining: str) -> None:
    """S2I, section A.3; ``linprobe`` leaves it out, to compute features only once."""
    assert load_recipe(probe, ProbeRecipe).augment == load_recipe(pretraining, PretrainRecipe).augment
    assert not load_recipe("linprobe", ProbeRecipe).augment.active


def test_an_unknown_key_names_file_line_path_and_the_nearest_key() -> None:
    with pytest.raises(RecipeError) as caught:
        read("task: pretrain\noptim:\n  batch: 4\n  epoch: 3\n")
    text = str(caught.value)
    assert text.startswith("my.yaml, line 4: unknown key 'optim.epoch'. Did you mean 'optim.epochs'?")
    assert "weight_decay" in text


def test_an_unknown_key_at_the_top_and_in_an_override() -> None:
    with pytest.raises(
        RecipeError, match=r"line 1: unknown key 'sead'\. Did you mean 'seed'\? Keys at the top"
    ):
        read("sead: 3")
    with pytest.raises(
        RecipeError, match=r"^--set: unknown key 'model\.presett'\. Did you mean 'model\.preset'"
    ):
        read("", "model.presett=vit_tiny")


def test_every_mistake_is_listed_at_once() -> None:
    with pytest.raises(RecipeError) as caught:
        read("optim:\n  batch: many\n  name: lion\nprecision: fp8\n")
    lines = sorted(str(caught.value).splitlines())
    assert lines[0].startswith("my.yaml, line 2: optim.batch: found 'many', expected integer")
    assert lines[1] == "my.yaml, line 3: optim.name: found 'lion', expected 'adamw' or 'sgd'"
    assert lines[2].startswith("my.yaml, line 4: precision: found 'fp8'")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("optim: 3", r"line 1: optim: found 3, expected a section with the keys name, blr"),
        ("optim: {batch: 0}", r"optim\.batch: found 0, expected greater than or equal to 1"),
        ("seed: 1\nseed: 2", r"line 2: the key seed stands here a second time"),
        ("a: [", r"my\.yaml: this is not YAML: .*line 1"),
        ("- 1", r"my\.yaml: found a list, expected keys and values"),
        ("task: probe", r"found a recipe of task 'probe', expected 'pretrain'.*skeltrain probe"),
        ("augment: {scale: [1.1, 0.9]}", r"scale runs from 1\.1 down to 0\.9"),
        ("augment: {flip: 1.5}", r"augment\.flip: found 1\.5, expected less than or equal to 1"),
    ],
)
def test_what_a_recipe_cannot_say(text: str, message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        read(text)


def test_overrides_win_and_make_sections() -> None:
    recipe = read("optim: {batch: 4}", "optim.batch=64", "data.protocol=xsub", "augment.rotate=[1, 0, 0]")
    assert recipe.optim.batch == 64
    assert recipe.data.protocol == "xsub"
    assert recipe.augment.rotate == (1, 0, 0)


def test_numbers_may_be_written_without_a_point() -> None:
    """YAML 1.1 reads 1e-3 as text."""
    assert read("optim: {blr: 1e-3}", "optim.min_lr=1e-6").optim.blr == 1e-3


@pytest.mark.parametrize("text", ["optim.batch", "=3", "optim.=3", "optim.batch=[1"])
def test_an_override_that_is_none(text: str) -> None:
    with pytest.raises(RecipeError, match="--set"):
        Override.parse(text)


def test_an_override_below_a_value() -> None:
    with pytest.raises(RecipeError, match="seed is a value, not a section"):
        read("seed: 3", "seed.deep=1")


def test_a_recipe_is_a_path_or_a_shipped_name(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("seed: 5\n")
    assert load_recipe(path, PretrainRecipe).seed == 5
    with pytest.raises(RecipeError, match=r"absent\.yaml: the recipe cannot be read"):
        load_recipe(tmp_path / "absent.yaml", PretrainRecipe)
    with pytest.raises(UnknownNameError, match="Did you mean 'demo'"):
        load_recipe("demoo", PretrainRecipe)


def test_a_resolved_recipe_reads_back_as_itself() -> None:
    recipe = read("augment: {rotate: 0.3}\nmodel: {embed_dim: 32}", "optim.blr=2.5e-4")
    text = to_yaml(recipe, "made by\nhand")
    assert text.startswith("# made by\n# hand\n")
    assert read(text) == recipe


def test_differences_name_each_key_and_spare_the_free_ones() -> None:
    old = read("optim: {batch: 4}\ndevice: cpu\ndata: {store: a.zarr}")
    new = read("optim: {batch: 8}\ndevice: cuda\ndata: {store: b.zarr, stream: bone}")
    assert differences(to_plain(old), to_plain(new), Recipe.FREE) == [
        "optim.batch: 4 there, 8 here",
        "data.stream: 'joint' there, 'bone' here",
    ]
    assert differences({"a": 1}, {"b": 2}) == ["a: 1 there, absent here", "b: absent there, 2 here"]


def test_the_papers_settings_of_diffmae_and_of_universal_pretraining() -> None:
    """S2I, Tables 10 and 11, sections A.1 and A.5."""
    mae = load_recipe("s2i_mae_ntu", PretrainRecipe)
    diffmae = load_recipe("s2i_diffmae_ntu", PretrainRecipe)
    assert (diffmae.model.objective, diffmae.model.decoder, diffmae.model.rho) == ("diffmae", "cross", 1.0)
    assert diffmae.optim == mae.optim.model_copy(update={"epochs": 1600})
    assert (diffmae.augment, diffmae.data) == (mae.augment, mae.data)
    universal = load_recipe("s2i_universal", PretrainRecipe)
    assert universal.optim == diffmae.optim.model_copy(update={"batch": 768})
    assert universal.optim.peak_lr == pytest.approx(4.5e-4)
    assert universal.data.statistics == 0


def test_the_papers_settings_of_fine_tuning() -> None:
    """S2I, Table 12, sections 4.2 and A.3; betas, least rate and drop path are MAE's."""
    recipe = load_recipe("s2i_finetune", FinetuneRecipe)
    optim, tuning = recipe.optim, recipe.tuning
    assert (optim.name, optim.batch, optim.epochs, optim.warmup) == ("adamw", 128, 100, 10)
    assert (optim.peak_lr, optim.min_lr) == pytest.approx((5e-4, 1e-6))
    assert (optim.betas, optim.weight_decay) == ((0.9, 0.999), 0.05)
    assert (tuning.layer_decay, tuning.drop_path, tuning.pooling) == (0.75, 0.1, "token")
    assert (tuning.label_smoothing, tuning.mixup) == (0, 0)
    ucla = load_recipe("s2i_finetune_ucla", FinetuneRecipe)
    assert (ucla.optim.batch, ucla.optim.peak_lr) == (32, pytest.approx(1.25e-4))
    semi = load_recipe("s2i_semi", FinetuneRecipe)
    assert (semi.labels.share, semi.labels.pick, len(semi.seeds)) == (0.01, "stratified", 5)
    assert semi.tuning == recipe.tuning
    assert FinetuneRecipe().optim == optim


def test_the_learning_rate_follows_the_batch_unless_told_otherwise() -> None:
    assert Optim(blr=0.2, batch=128).peak_lr == pytest.approx(0.1)
    assert Optim(blr=0.2, batch=128, lr_scale_rule="none").peak_lr == 0.2


def test_augmentation_is_active_only_when_it_changes_something() -> None:
    assert not Augment().active
    assert not Augment(noise=0.1, noise_probability=0).active
    for setting in ({"flip": 0.5}, {"rotate": 0.1}, {"scale": (0.9, 1)}, {"translate": 0.1}, {"noise": 0.1}):
        assert Augment.model_validate(setting).active, setting


def test_sizes_are_one_number_or_rows_and_columns() -> None:
    recipe = read("data: {image_size: [40, 20]}\nmodel: {patch_size: [8, 4], attention: auto}")
    assert (recipe.data.image_size, recipe.model.patch_size) == ((40, 20), (8, 4))
    assert read(to_yaml(recipe, "")) == recipe
    for wrong in ("0", "[40]", "[40, 20, 3]", "[40, 0]", "wide", "1.5", "true"):
        with pytest.raises(RecipeError, match=r"data\.image_size: found .*\[rows, columns\]") as caught:
            read(f"data: {{image_size: {wrong}}}")
        assert len(str(caught.value).splitlines()) == 1
    with pytest.raises(RecipeError, match=r"model\.patch_size: found 0, expected one whole number"):
        read("model: {patch_size: 0}")
