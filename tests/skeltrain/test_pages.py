"""What can be looked at of a run: reconstructions, attention on joints, its page; and that looking changes
nothing.
"""

from __future__ import annotations

import csv
import json
import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from skelconv.cli.command import run
from skelformats.errors import SkelconvError
from skeltrain.checkpoint import load_checkpoint
from skeltrain.cli import cli
from skeltrain.data.loader import DataError
from skeltrain.distributed import World
from skeltrain.models.attention_maps import attention_maps, patch_attention, rollout
from skeltrain.models.encoder import build_encoder
from skeltrain.models.mae import MaskedAutoencoder
from skeltrain.models.patches import patchify, pixel_targets
from skeltrain.pages import run_page
from skeltrain.pages.classes import Predictions, confused_pairs
from skeltrain.pages.explain import as_arrays, explain_run, to_joints
from skeltrain.pages.poses import decode_poses, find_samples, open_sample, read_tracks, why_no_poses
from skeltrain.pages.reconstruct import _paste, reconstruct, reconstruct_run
from skeltrain.pages.run_page import facts, group_curves, write_run_page
from skeltrain.recipe import Log, Optim
from skeltrain.run import run_recipe
from skeltrain.run_folder import RunError, RunFolder
from skeltrain.sections import ImageData
from skeltrain.tasks.image_data import ImageSource, open_images
from skeltrain.tasks.pretrain import Model, PretrainRecipe, build_pretraining
from skeltrain.tasks.pretrain_monitor import Monitor
from skeltrain.tasks.registry import Context, Trained
from tests.skeltrain.conftest import AUGMENT

CPU = torch.device("cpu")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
SMALL = Model(
    preset="vit_micro", patch_size=8, embed_dim=16, depth=2, num_heads=2, decoder_dim=16, decoder_depth=1,
    decoder_heads=2,
)  # fmt: skip
LOOK = Monitor(knn=True, samples=20, reconstructions=1, steps=3)


def recipe(store: Path, **changes: object) -> PretrainRecipe:
    made = PretrainRecipe(
        data=ImageData(store=str(store), protocol="half", image_size=32),
        augment=AUGMENT,
        model=SMALL,
        optim=Optim(blr=1e-2, batch=16, epochs=2, warmup=1),
        device="cpu",
        log=Log(every=1, tensorboard=False),
    )
    return made.model_copy(update=changes)


def skeltrain(*words: object) -> int:
    with pytest.raises(SystemExit) as end:
        run(cli, [str(word) for word in words])
    assert isinstance(end.value.code, int)
    return end.value.code


def source_of(store: Path, **settings: object) -> ImageSource:
    data = ImageData.model_validate(
        {"store": str(store), "protocol": "half", "image_size": [64, 32], **settings}
    )
    return open_images(data, Context(World(CPU)))


@pytest.fixture(scope="module")
def looked_at(tiny_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("pages") / "looked_at"
    run_recipe(recipe(tiny_store, monitor=LOOK), out=out)
    return out


def train_on(looked_at: Path, shipped: str, name: str) -> Path:
    """Train a classifier on the pretrained encoder, as a run of its own."""
    out = looked_at.with_name(name)
    settings = ("optim.epochs=2", "optim.warmup=1", "optim.batch=16", "log.tensorboard=false")
    words = [word for text in (f"encoder.run={looked_at}", *settings) for word in ("--set", text)]
    assert skeltrain("train", shipped, *words, "--device", "cpu", "--out", out) == 0
    return out


@pytest.fixture(scope="module")
def tuned(looked_at: Path) -> Path:
    return train_on(looked_at, "finetune_small_cpu", "tuned")


@pytest.fixture(scope="module")
def probed(looked_at: Path) -> Path:
    return train_on(looked_at, "linprobe", "probed")


class TestLookingChangesNothing:
    @pytest.mark.parametrize(
        "objective", ["mae", "diffmae", pytest.param("features", marks=pytest.mark.slow)]
    )
    def test_curves_and_weights_are_the_same_to_the_bit(
        self, objective: str, tiny_store: Path, tmp_path: Path
    ) -> None:
        # features have no pixels to draw, and no blocks of a decoder
        fits = {"decoder_depth": None} if objective == "features" else {}
        plain = recipe(tiny_store, model=SMALL.model_copy(update={"objective": objective, **fits}))
        look = LOOK if objective != "features" else Monitor(knn=True)
        outs = [tmp_path / "plain", tmp_path / "looked_at"]
        for out, one in zip(outs, (plain, plain.model_copy(update={"monitor": look})), strict=True):
            run_recipe(one, out=out)
        rows = [list(csv.DictReader(RunFolder(out).metrics.read_text().splitlines())) for out in outs]
        for key in ("step", "lr", "loss"):
            assert [row[key] for row in rows[0]] == [row[key] for row in rows[1]]
        first, second = (load_checkpoint(RunFolder(out).last) for out in outs)
        assert all(torch.equal(first["model"][key], second["model"][key]) for key in first["model"])
        # not even what a model with dropout would draw next
        (one,), (other,) = first["processes"], second["processes"]
        assert torch.equal(one["random"]["torch"], other["random"]["torch"])
        looked = [row for row in rows[1] if row["knn20_top1"]]
        assert len(looked) == 2  # after each epoch
        assert all(0 <= float(row["retrieval_map"]) <= 1 for row in looked)
        drawn = sorted(path.name for path in (outs[1] / "reconstructions").glob("*"))
        wanted = [f"epoch_000{n}.{suffix}" for n in (1, 2) for suffix in ("html", "png")]
        assert drawn == (wanted if look.reconstructions else [])

    def test_it_may_be_switched_on_when_a_run_goes_on(self) -> None:
        assert "monitor" in PretrainRecipe.FREE

    def test_what_cannot_be_watched_is_said_before_training(self, tiny_store: Path) -> None:
        features = SMALL.model_copy(update={"objective": "features", "decoder_depth": None})
        made = recipe(tiny_store, model=features, monitor=Monitor(reconstructions=1))
        with pytest.raises(RunError, match="predicts no pixels"):
            build_pretraining(made, Context(World(CPU)))
        whole = recipe(tiny_store, data=ImageData(store=str(tiny_store), image_size=32), monitor=LOOK)
        with pytest.raises(DataError, match=r"expected a protocol"):
            build_pretraining(whole, Context(World(CPU)))


class TestPoses:
    def test_rows_of_two_persons_are_told_apart(self, tiny_store: Path) -> None:
        both = open_sample(source_of(tiny_store), 3)
        assert both.tracks.persons == 2
        apart = source_of(tiny_store, persons="separate")
        for person, number in enumerate(find_samples(apart, [both.recording]).tolist()):
            own = both.position[both.tracks.person == person]
            np.testing.assert_array_equal(own, open_sample(apart, number).position)
        frames = [both.tracks.frame[both.tracks.person == person] for person in (0, 1)]
        assert [frame.tolist() for frame in frames] == [list(range(len(frame))) for frame in frames]

    def test_persons_one_after_the_other_have_the_same_frames(self) -> None:
        tracks = read_tracks(np.array([1, 2, 2, 4, 4]), "concat")
        assert tracks.person.tolist() == [0, 0, 0, 1, 1]
        assert tracks.frame.tolist() == [0, 1, 2, 0, 1]

    @pytest.mark.parametrize("stream", ["joint", "spine", "bone", ["motion", "bone"]])
    def test_images_decode_to_the_poses_they_were_made_of(
        self, stream: str | list[str], tiny_store: Path
    ) -> None:
        source = source_of(tiny_store, stream=stream)
        for number in (0, 3):
            sample = open_sample(source, number)
            image = source.images.images(np.array([number]))[0].numpy()
            position = sample.position.astype(np.float64)
            skeleton = sample.images.skeleton
            if stream == "spine":
                position = position - position[:, list(skeleton.origin)].mean(axis=1, keepdims=True)
            elif stream != "joint":
                position = position - position[:, [skeleton.parents.index(-1)]]
            assert why_no_poses(sample.images) is None
            np.testing.assert_allclose(decode_poses(image, sample), position, atol=1e-3)

    def test_scaling_to_the_unit_range_is_undone(self, unit_store: Path) -> None:
        source = source_of(unit_store)
        sample = open_sample(source, 3)
        image = source.images.images(np.array([3]))[0].numpy()
        assert np.abs(image).max() <= 1
        np.testing.assert_allclose(decode_poses(image, sample), sample.position, atol=1e-3)

    def test_what_holds_no_pose_says_so(self, tiny_store: Path) -> None:
        motion = source_of(tiny_store, stream="motion").images.sets[0]
        assert "holds no pose" in str(why_no_poses(motion))
        narrow = source_of(tiny_store, image_size=[64, 20]).images.sets[0]
        assert "20 columns for 25 joints" in str(why_no_poses(narrow))


class TestReconstructions:
    def test_the_error_is_the_loss_and_what_was_visible_stays(self, tiny_store: Path) -> None:
        torch.manual_seed(0)
        source = source_of(tiny_store, image_size=32)
        model = MaskedAutoencoder(32, 8, 16, 1, 2, 16, 1, 2).eval()
        one, other = reconstruct(model, source, np.array([0, 3]), seed=5)
        assert (~one.visible).mean() == pytest.approx(0.75)
        assert (one.visible != other.visible).any()
        for found in (one, other):
            np.testing.assert_allclose(
                found.filled[:, found.visible], found.target[:, found.visible], atol=1e-5
            )
            std = np.array(source.statistics.std)[:, None]
            hidden = (found.filled - found.target)[:, ~found.visible] / std
            assert found.error == pytest.approx(np.square(hidden).mean(), rel=1e-3)
        # the mask of a sample does not depend on which others are asked for
        (alone,) = reconstruct(model, source, np.array([3]), seed=5)
        np.testing.assert_array_equal(alone.filled, other.filled)

    def test_normalised_patches_are_brought_back_with_the_targets_mean_and_spread(self) -> None:
        model = MaskedAutoencoder(32, 8, 16, 1, 2, 16, 1, 2, norm_pix_loss=True)
        image = torch.randn(1, 3, 32, 32) * 3 + 1
        noise = torch.rand(1, 16)
        filled = _paste(image, pixel_targets(image, 8, normalise=True), noise, model)
        torch.testing.assert_close(filled, image, atol=1e-4, rtol=1e-4)
        grey = _paste(image, torch.zeros(1, 16, 192), noise, model)
        hidden = patchify(grey, 8)[0, noise[0].argsort()[4:]]
        means = patchify(image, 8)[0, noise[0].argsort()[4:]].mean(dim=-1)
        torch.testing.assert_close(hidden, means[:, None].expand_as(hidden))

    def test_on_demand_as_a_page_and_a_picture(self, looked_at: Path, tmp_path: Path) -> None:
        page = tmp_path / "filled.html"
        assert skeltrain("reconstruct", looked_at, "--row", "take003", "--out", page) == 0
        text = page.read_text()
        assert text.count("data:image/png") == 3
        data = json.loads(re.search(r'sv-data">(.*?)</script>', text)[1])
        # three panels of two persons
        assert data["names"] == [
            f"{panel} {k}" for panel in ("masked input", "reconstruction", "target") for k in (1, 2)
        ]
        assert not re.findall(r'(?:src|href)="(?!data:|#)', text)
        assert skeltrain("reconstruct", looked_at, "--out", tmp_path / "filled.png") == 0
        assert (tmp_path / "filled.png").read_bytes().startswith(b"\x89PNG")

    def test_what_cannot_be_drawn_is_one_message(
        self, looked_at: Path, tuned: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert skeltrain("reconstruct", looked_at, "--out", "filled.jpg") == 2
        assert "found the suffix '.jpg'" in capsys.readouterr().err
        assert skeltrain("reconstruct", looked_at, "--row", "nobody", "--out", "filled.png") == 2
        assert "no sample or recording named 'nobody'" in capsys.readouterr().err
        with pytest.raises(RunError, match="predicts no pixels"):
            reconstruct_run(tuned)


class TestAttention:
    def test_maps_are_the_attention_of_the_blocks(self) -> None:
        torch.manual_seed(0)
        encoder = build_encoder(32, 8, 16, 2, 2).eval()
        with torch.no_grad():
            for parameter in encoder.parameters():
                parameter.add_(0.2 * torch.randn_like(parameter))
        seen: list[tuple[torch.Tensor, torch.Tensor]] = []
        for block in encoder.blocks:
            block.attn.register_forward_hook(lambda _, given, gave: seen.append((given[0], gave)))
        maps = attention_maps(encoder, torch.randn(3, 3, 32, 32))
        assert [tuple(one.shape) for one in maps] == [(3, 2, 17, 17)] * 2
        for one, (given, gave), block in zip(maps, seen, encoder.blocks, strict=True):
            value = block.attn.qkv(given).unflatten(2, (3, 2, -1)).permute(2, 0, 3, 1, 4)[2]
            mixed = block.attn.proj((one @ value).transpose(1, 2).flatten(2))
            torch.testing.assert_close(mixed, gave, atol=1e-5, rtol=1e-4)
        whole = rollout(maps)
        torch.testing.assert_close(whole.sum(dim=-1), torch.ones(3, 17))
        by_hand = [(one.mean(dim=1) + torch.eye(17)) / 2 for one in maps]
        torch.testing.assert_close(whole, by_hand[1] @ by_hand[0])
        for method in ("rollout", "last"):
            for pool in ("token", "avg"):
                torch.testing.assert_close(patch_attention(maps, method, pool).sum(dim=1), torch.ones(3))

    def test_attention_to_a_patch_is_attention_to_what_it_was_made_of(self, tiny_store: Path) -> None:
        sample = open_sample(source_of(tiny_store, image_size=32), 0)
        frames = len(sample.position)
        patches = np.zeros((4, 4))
        patches[0, 3] = 1
        weight = to_joints(patches, sample)
        assert weight.sum() == pytest.approx(1, rel=1e-12)
        late = int(np.ceil(frames / 4)) + 1
        assert weight[late:].sum() == 0
        right_leg = list(sample.images.skeleton.parts[4])
        assert weight[:, right_leg].sum() > 0.5
        assert weight[:, list(sample.images.skeleton.parts[0])].sum() == 0

    @pytest.mark.parametrize("method", ["rollout", "last"])
    def test_none_is_lost_for_any_run_of_images(
        self, method: str, looked_at: Path, tuned: Path, probed: Path, tiny_store: Path
    ) -> None:
        for where, predicts in ((looked_at, False), (tuned, True), (probed, True)):
            (found,) = explain_run(where, str(tiny_store), ["take003"], method)
            assert found.weight.sum() == pytest.approx(1, abs=1e-6)
            assert found.patches.sum() == pytest.approx(1, abs=1e-6)
            assert bool(found.predicted) == predicts
            even = to_joints(np.full((4, 4), 1 / 16), found.sample)
            np.testing.assert_allclose(found.relative * even, found.weight, atol=1e-12)

    def test_numbers_and_a_page(self, tuned: Path, tiny_store: Path, tmp_path: Path) -> None:
        outs = [tmp_path / f"look.{suffix}" for suffix in ("html", "csv", "npz")]
        words = [word for out in outs for word in ("--out", out)]
        rows = ("--row", "take003", "--row", "take000")
        assert skeltrain("explain", tuned, tiny_store, *rows, *words) == 0
        table = pd.read_csv(outs[1])
        assert table.groupby("sample")["weight"].sum().to_numpy() == pytest.approx([1, 1], abs=1e-6)
        with np.load(outs[2], allow_pickle=False) as kept:
            assert kept["sample"].tolist() == ["take003", "take000"]
            assert kept["weight"].shape == (kept["offsets"][-1], 25)
        text = outs[0].read_text()
        data = json.loads(re.search(r'sv-data">(.*?)</script>', text)[1])
        assert len(data["recordings"][0]["bodies"]) == 2
        assert all("heat" in body for body in data["recordings"][0]["bodies"])
        assert "predicted: " in text
        assert not re.findall(r'(?:src|href)="(?!data:|#)', text)

    def test_arrays_hold_what_was_found(self, looked_at: Path, tiny_store: Path) -> None:
        found = explain_run(looked_at, str(tiny_store), [])
        assert found[0].sample.name == "take000"
        np.testing.assert_array_equal(as_arrays(found)["weight"], found[0].weight)


class TestRunPage:
    def test_pairs_are_those_confused_most(self) -> None:
        label = np.array([0, 0, 0, 0, 1, 1, 2])
        score = np.eye(3)[[0, 1, 1, 2, 1, 0, 2]] * 0.5 + 0.1
        score[2, 1] = 0.9
        found = Predictions(np.array(list("abcdefg")), label, score, ("x", "y", "z"))
        assert found.confusion().tolist() == [[1, 2, 1], [1, 1, 0], [0, 0, 1]]
        pairs = confused_pairs(found)
        assert [(pair.true, pair.taken_for, pair.count, pair.total) for pair in pairs] == [
            (0, 1, 2, 4),
            (1, 0, 1, 2),
            (0, 2, 1, 4),
        ]
        assert (pairs[0].mistaken, pairs[0].typical) == ("c", "e")

    def test_a_finetuning_has_every_section(self, tuned: Path, tmp_path: Path) -> None:
        out = tmp_path / "tuned.html"
        assert skeltrain("page", tuned, "--points", 12, "--out", out) == 0
        text = out.read_text()
        for heading in ("Curves", "Scores", "Classes", "Features", "Settings"):
            assert f"<h2>{heading}</h2>" in text
        assert "left arm" in text
        assert "features of 12 of 17 held-out samples" in text
        assert not re.findall(r'(?:src|href)="(?!data:|#)', text)

    def test_a_pretraining_shows_reconstructions_and_says_what_it_lacks(self, looked_at: Path) -> None:
        assert skeltrain("page", looked_at) == 0
        text = (looked_at / "page.html").read_text()
        assert "<h2>Reconstructions</h2>" in text
        assert "a pretraining predicts no classes" in text
        assert "knn20_top1" in text

    def test_a_store_that_has_moved_is_said_and_can_be_named(
        self, looked_at: Path, tiny_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        moved = tmp_path / "moved.zarr"
        shutil.copytree(tiny_store, moved)
        opened, asked = run_page.open_source, []

        def gone(trained: Trained, store: str | None) -> ImageSource:
            return opened(trained, store or str(tmp_path / "gone.zarr"))

        monkeypatch.setattr(run_page, "open_source", gone)
        monkeypatch.setattr(run_page, "SHOWN_RECONSTRUCTIONS", 1)
        monkeypatch.setattr(run_page, "map_features", lambda _, source, *rest: asked.append(source))
        write_run_page(looked_at, tmp_path / "without.html")
        text = (tmp_path / "without.html").read_text()
        assert "No recordings, features or reconstructions" in text
        assert "<h2>Reconstructions</h2>" not in text
        assert not asked
        write_run_page(looked_at, tmp_path / "with.html", str(moved))
        assert "<h2>Reconstructions</h2>" in (tmp_path / "with.html").read_text()
        assert [source.stores[0].store for source in asked] == [str(moved)]
        with pytest.raises(SkelconvError, match=r"gone\.zarr"):
            write_run_page(looked_at, tmp_path / "never.html", str(tmp_path / "gone.zarr"))
        assert not (tmp_path / "never.html").exists()

    def test_a_run_of_another_task_has_curves_scores_and_settings(
        self, tuned: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(run_page, "OF_IMAGES", ())
        write_run_page(tuned, tmp_path / "other.html")
        text = (tmp_path / "other.html").read_text()
        assert re.findall("<h2>(.*?)</h2>", text) == ["Curves", "Scores", "Settings"]

    def test_other_tasks_may_describe_their_data_as_they_like(self) -> None:
        content = {
            "metadata": {"task": "pose3d", "data": [{"dataset": "h36m"}]},
            "model": {"weight": torch.zeros(1000, 1000)},
        }
        table = pd.DataFrame({"epoch": [1], "seconds": [90.0], "loss": [0.25]})
        found = facts(table, Trained(Path("last.pt"), content, World(CPU)), 3)
        assert found == {"epochs": "3", "minutes": "1.5", "last loss": "0.2500", "M parameters": "1.00"}

    def test_losses_stand_together_and_errors_by_themselves(self) -> None:
        none = np.nan
        table = pd.DataFrame(
            {
                **{"step": [1, 2], "epoch": [0.5, 1], "lr": [1, 1.0], "loss": [2, 1.0], "loss_3d": [1, 1.0]},
                **{"mpjpe": [none, 80], "top1": [none, 0.5], "knn1_top1": [none, 0.4]},
            }
        )
        charts = group_curves(table)
        assert [(chart.title, list(chart.lines)) for chart in charts] == [
            ("loss", ["loss", "loss_3d"]),
            ("part of the samples", ["top1", "knn1_top1"]),
            ("mpjpe", ["mpjpe"]),
            ("learning rate", ["lr"]),
        ]
        assert charts[2].lines["mpjpe"] == ([1.0], [80.0])

    @pytest.mark.skipif(CHROMIUM is None, reason="needs chromium to load the page in")
    def test_chromium_draws_heat_and_panels(
        self, looked_at: Path, tuned: Path, tiny_store: Path, tmp_path: Path
    ) -> None:
        assert skeltrain("explain", tuned, tiny_store, "--row", "take000", "--out", tmp_path / "a.html") == 0
        text = (tmp_path / "a.html").read_text()
        command = [
            *(str(CHROMIUM), "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run"),
            *("--disable-background-networking", f"--user-data-dir={tmp_path / 'profile'}"),
            *("--enable-logging=stderr", "--virtual-time-budget=1500", "--dump-dom"),
        ]
        count = """<script>setTimeout(() => {
          const canvas = document.querySelector("canvas"), kinds = new Set();
          const pixels = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
          for (let k = 0; k < pixels.length; k += 4)
            if (pixels[k + 3] > 200) kinds.add(pixels.slice(k, k + 3).join());
          document.body.dataset.kinds = kinds.size;
        }, 400);</script></body>"""
        (tmp_path / "a.html").write_text(text.replace("</body>", count))
        done = subprocess.run(
            [*command, (tmp_path / "a.html").as_uri()],
            capture_output=True,
            text=True,
            timeout=120,
            check=True,
        )
        assert "CONSOLE" not in done.stderr
        assert int(re.search(r'data-strokes="(\d+)"', done.stdout)[1]) == 49
        # joints of many shades: left and right would be three
        assert int(re.search(r'data-kinds="(\d+)"', done.stdout)[1]) > 20


def test_a_sample_keeps_its_name_and_class(tiny_store: Path) -> None:
    sample = open_sample(source_of(tiny_store), 4)
    assert (sample.name, sample.recording, sample.action) == ("take004", "take004", "right arm")
    unknown = replace(sample.images.samples, classes=())
    assert replace(sample, images=type("Set", (), {"samples": unknown})()).action == ""
