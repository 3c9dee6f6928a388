"""How an alignment is evaluated: diagnostics while training, retrieval in every direction, of pictures, poses
decoded, and the way between two poses.

Poses are in millimetres, relative to the root. Frames that lack a joint in 3D are left out of retrieval and
decoding; the metric ``frames`` counts those that are not.

Legend: N frames, D width, J joints, S hypotheses.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from skeltrain.data.crop_images import CropImages
from skeltrain.data.loader import DataError
from skeltrain.data.pair_batches import PairCollator
from skeltrain.data.pose_pairs import Pairs
from skeltrain.data.sampler import MicroBatch
from skeltrain.distributed import autocast
from skeltrain.engine import Evaluation, Evaluator
from skeltrain.metrics.alignment import alignment_diagnostics, best_of_s, interpolation_measures, slerp
from skeltrain.metrics.pose import JOINTS_14, mpjpe, p_mpjpe, root_relative
from skeltrain.metrics.retrieval import Embedded, evaluate_retrieval, recall, retrieve
from skeltrain.models.decoders import SOURCES, DiffusionDecoder
from skeltrain.models.registry import build
from skeltrain.models.unihpr import AlignModel
from skeltrain.tasks.align_recipe import AlignRecipe

MILLIMETRES = 1000.0

DIAGNOSED = 4096
"""Frames at most, evenly spaced, whose cosines the diagnostics compare all with all."""

ERRORS: Mapping[str, Callable[[Tensor, Tensor], Tensor]] = {"mpjpe": mpjpe, "pa-mpjpe": p_mpjpe}


def evaluators(
    recipe: AlignRecipe,
    config: Mapping[str, Any],
    pairs: Pairs,
    images: CropImages | None,
    device: torch.device,
) -> list[Evaluator]:
    """Return the evaluations of a stage: ``alignment`` between epochs; when asked for ``retrieval``, the same
    by untrained towers, ``pictures`` where there are any, ``poses`` and ``paths`` where there are decoders.
    """
    source = Source(recipe, pairs, images, device)

    def untrained(module: nn.Module) -> Evaluation:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(recipe.seed)
            model = build("align", config).to(device).eval()
        return Evaluation(retrieval(source, model).metrics)

    found = [
        Evaluator("alignment", lambda module: alignment(source, module.get_submodule("model"))),
        Evaluator("retrieval", lambda module: retrieval(source, module.get_submodule("model")), False),
        Evaluator("untrained", untrained, False),
    ]
    if images is not None:
        found.append(
            Evaluator("pictures", lambda module: pictures(source, module.get_submodule("model")), False)
        )
    if config["decoder"] is not None:
        found.append(Evaluator("poses", lambda module: poses(source, module.get_submodule("model")), False))
    if config["decoder"] is not None and recipe.evaluation.paths:
        found.append(Evaluator("paths", lambda module: paths(source, module.get_submodule("model")), False))
    return found


@dataclass(frozen=True)
class Source:
    """The frames that are evaluated on."""

    recipe: AlignRecipe
    pairs: Pairs
    images: CropImages | None
    device: torch.device

    def part(self, which: str) -> NDArray[np.int64]:
        """Numbers of the frames of a part; of the test part every so many."""
        data = self.recipe.data
        index = self.pairs.samples.part(data.protocol, getattr(data, which))
        return index[:: self.recipe.evaluation.every] if which == "test" else index

    def whole(self, index: NDArray[np.int64]) -> NDArray[np.int64]:
        """Those frames that lack no joint in 3D; raises `DataError` where fewer than two do."""
        _, pose3d = self.pairs.poses(index)
        kept = index[pose3d.isfinite().all(dim=(1, 2)).cpu().numpy()]
        if len(kept) < 2:
            raise DataError(
                f"{self.recipe.data.store}: found {len(kept)} frames to evaluate with every joint in 3D, "
                "expected at least two"
            )
        return kept

    def poses(self, index: NDArray[np.int64]) -> Tensor:
        """3D poses (N, J, 3) in millimetres, relative to the root."""
        return self.pairs.poses(index)[1] * MILLIMETRES

    def embed(self, model: nn.Module, index: NDArray[np.int64]) -> dict[str, Tensor]:
        """Embeddings (N, D) float32 of frames by modality."""
        motion = self.recipe.model.motion
        collate = PairCollator(self.pairs, self.images, length=None if motion is None else motion.length)
        found: dict[str, list[Tensor]] = {}
        size = self.recipe.evaluation.batch
        with torch.no_grad():
            for start in range(0, len(index), size):
                batch = collate(MicroBatch(index[start : start + size], slice(None)))
                with autocast(self.device, self.recipe.precision):
                    made = model(batch.image, batch.pose2d, batch.pose3d, batch.motion)
                for name, embedding in made.items():
                    found.setdefault(name, []).append(embedding.float())
        return {name: torch.cat(parts) for name, parts in found.items()}

    def places(self, index: NDArray[np.int64]) -> tuple[Tensor, Tensor]:
        """Number of the sequence, and of the frame in it."""
        pairs = self.pairs
        sequence, frame = torch.from_numpy(np.stack([pairs.sequence[index], pairs.frame[index]])).to(
            self.device
        )
        return sequence, frame

    def names(self, index: NDArray[np.int64]) -> dict[str, NDArray[Any]]:
        """Sequence and frame of the rows of predictions."""
        table = self.pairs.samples.table.iloc[index]
        return {
            "sequence": table["sequence"].to_numpy(str),
            "frame_index": table["frame_index"].to_numpy(np.int64),
        }


def alignment(source: Source, model: nn.Module) -> Evaluation:
    """`alignment_diagnostics` of test frames, and ``<query>-<gallery> at 1``: how often the very frame comes
    first.
    """
    index = source.part("test")
    found = source.embed(model, index)
    own = torch.arange(len(index), device=source.device)
    metrics = {
        f"{one}-{other} at 1": recall(retrieve(found[one], found[other], 1).indices, own)
        for one, other in itertools.permutations(found, 2)
    }
    some = np.linspace(0, len(index) - 1, min(len(index), DIAGNOSED)).round().astype(np.int64)
    chosen = torch.from_numpy(some).to(source.device)
    if len(index) > 1:
        metrics |= alignment_diagnostics({name: embedding[chosen] for name, embedding in found.items()})
    return Evaluation(metrics)


def retrieval(source: Source, model: nn.Module) -> Evaluation:
    """`evaluate_retrieval` in every direction, ``<query>-<gallery>/<protocol>/<figure>``, and what a random
    choice would give, ``chance/<figure>``.

    Figures that do not exist are left out: those of ``apart`` where the store does not know its frame rate,
    or where nothing is left of the gallery.
    """
    recipe, settings = source.recipe, source.recipe.evaluation
    index = source.whole(source.part("test"))
    pose, place = source.poses(index), source.places(index)
    found = source.embed(model, index)
    train = None
    if settings.train_gallery and recipe.data.protocol is not None:
        rows = source.whole(source.part("train"))
        theirs = source.embed(model, rows)
        train = {
            name: Embedded(embedding, source.poses(rows), *source.places(rows))
            for name, embedding in theirs.items()
        }
    rate = source.pairs.rate
    window = round(settings.apart * rate) if rate else 0
    metrics = {"frames": float(len(index)), "chance/exact index at 1": 1 / len(index)}
    shuffled = _shuffled(len(index), recipe.seed).to(pose.device)
    for name, error in ERRORS.items():
        metrics[f"chance/{name}"] = float(error(pose[shuffled], pose).mean())
    predictions: dict[str, NDArray[Any]] = source.names(index)
    for one, other in itertools.permutations(found, 2):
        test = Embedded(found[other], pose, *place)
        gallery = None if train is None else train[other]
        figures = evaluate_retrieval(found[one], test, ERRORS, window, gallery)
        metrics |= {
            f"{one}-{other}/{key}": value
            for key, value in figures.items()
            if np.isfinite(value) and (rate or not key.startswith("apart/"))
        }
        best = retrieve(found[one], found[other], 1).indices[:, 0]
        predictions[f"{one}-{other}"] = best.cpu().numpy()
    return Evaluation(metrics, predictions)


def pictures(source: Source, model: nn.Module) -> Evaluation:
    """How often the very picture is the first, or among the first three, that a pose finds (UniHPR, Table
    IV).

    Of each sequence ``image_rate`` frames a second; of equal cosines the lowest row comes first.
    ``<query>-image/top 1`` and ``top 3``, ``chance/top 1`` and ``top 3``, and how many ``pictures``.
    """
    rate = source.pairs.rate or source.recipe.evaluation.image_rate
    index = source.part("test")
    step = max(round(rate / source.recipe.evaluation.image_rate), 1)
    # the first frame of a sequence in each stretch of so many
    place = np.stack([source.pairs.sequence[index], source.pairs.frame[index] // step])
    index = index[np.sort(np.unique(place, axis=1, return_index=True)[1])]
    found = source.embed(model, index)
    own = torch.arange(len(index), device=source.device)
    metrics = {"pictures": float(len(index))}
    for top in (1, 3):
        metrics[f"chance/top {top}"] = min(top / len(index), 1.0)
    for name in found:
        if name != "image":
            best = retrieve(found[name], found["image"], min(3, len(index))).indices
            metrics |= {f"{name}-image/top {top}": recall(best[:, :top], own) for top in (1, 3)}
    return Evaluation(metrics)


def paths(source: Source, model: nn.Module) -> Evaluation:
    """`interpolation_measures` of the 3D poses decoded between pairs of test frames, in the mean over pairs.

    Embeddings of two 3D poses are joined by the great circle through them; all points of a path begin at one
    noise. ``straight`` is the same of poses between which joints move on straight lines, whose bones shorten.
    Distances are in millimetres.
    """
    assert isinstance(model, AlignModel)
    decoder, settings = model.decoder3d, source.recipe.evaluation
    assert decoder is not None
    index = source.whole(source.part("test"))
    generator = np.random.default_rng(source.recipe.seed)
    ends = np.stack([generator.choice(len(index), 2, replace=False) for _ in range(settings.paths)])
    rows = index[ends.ravel()]
    found = source.embed(model, rows)["pose3d"]
    embedding = found.view(-1, 2, found.shape[1])
    pose = source.poses(rows)
    pose = pose.view(-1, 2, *pose.shape[1:])
    train = source.poses(source.whole(source.part("train")))
    part = torch.linspace(0, 1, settings.points, device=pose.device)[:, None, None]
    bones = source.pairs.samples.skeleton.edges
    each: dict[str, list[float]] = {}
    for (start, end), (first, last) in zip(embedding, pose, strict=True):
        way = slerp(start, end, settings.points)
        if isinstance(decoder, DiffusionDecoder):
            decoder.steps = settings.steps
            decoded = decoder.hypotheses(way, "pose3d", 1, "mean", one_noise=True)[0]
        else:
            with torch.no_grad():
                decoded = decoder.decode(way, "pose3d")
        decoded = root_relative(decoded.float() * MILLIMETRES, source.pairs.root)
        for kind, path in (("", decoded), ("straight ", first + (last - first) * part)):
            for name, value in interpolation_measures(path, bones, train).items():
                each.setdefault(f"{kind}{name}", []).append(value)
    metrics = {name: float(np.mean(values)) for name, values in each.items()}
    return Evaluation({"paths": float(settings.paths), **metrics})


def poses(source: Source, model: nn.Module) -> Evaluation:
    """Errors of the 3D poses that are decoded from each modality, ``<source>/<error>``, one pose a frame.

    With ``reflection`` a mirrored pose may be mirrored back; ``14`` are the joints of `JOINTS_14`; ``by
    action`` is the mean over actions, where the store says which. ``mean of S`` and ``best of S`` are of
    several hypotheses, the latter chosen by the truth. ``chance``: the training frames' mean pose for every
    frame, and the pose of another frame. 2D poses are named by their array, ``pose2d of pixel`` or ``pose2d
    of detection``: figures of true and of detected joints are not of one kind.
    """
    assert isinstance(model, AlignModel)
    decoder, settings = model.decoder3d, source.recipe.evaluation
    assert decoder is not None
    if isinstance(decoder, DiffusionDecoder):
        decoder.steps = settings.steps
    index = source.whole(source.part("test"))
    truth = source.poses(index)
    metrics = {"frames": float(len(index))}
    mean = source.poses(source.whole(source.part("train"))).mean(dim=0)
    guesses = {
        "chance mean pose": mean.expand_as(truth),
        "chance other frame": truth[_shuffled(len(index), source.recipe.seed).to(truth.device)],
    }
    predictions: dict[str, NDArray[Any]] = {**source.names(index), "truth": truth.cpu().numpy()}
    for source_name, embedding in source.embed(model, index).items():
        if source_name not in SOURCES:
            continue
        name = f"pose2d of {source.pairs.pixels}" if source_name == "pose2d" else source_name
        guesses[name] = _decoded(source, decoder.decode, embedding, source_name)
        predictions[source_name] = guesses[name].cpu().numpy()
        count = settings.hypotheses
        if count > 1 and isinstance(decoder, DiffusionDecoder):
            drawn = decoder.hypotheses(embedding, source_name, count) * MILLIMETRES
            drawn = root_relative(drawn, source.pairs.root)
            guesses[f"{name}, mean of {count}"] = drawn.mean(dim=0)
            for kind, error in ERRORS.items():
                metrics[f"{name}, best of {count}/{kind}"] = float(best_of_s(drawn, truth, error).mean())
    for name, guess in guesses.items():
        metrics |= {f"{name}/{kind}": value for kind, value in _errors(source, index, guess, truth).items()}
    return Evaluation(metrics, predictions)


def _decoded(source: Source, decode: Callable[[Tensor, str], Tensor], embedding: Tensor, name: str) -> Tensor:
    """Poses (N, J, 3) in millimetres, relative to the root, decoded batch by batch."""
    with torch.no_grad():
        size = source.recipe.evaluation.batch
        parts = [
            decode(embedding[start : start + size], name).float() for start in range(0, len(embedding), size)
        ]
    return root_relative(torch.cat(parts) * MILLIMETRES, source.pairs.root)


def _errors(source: Source, index: NDArray[np.int64], guess: Tensor, truth: Tensor) -> dict[str, float]:
    each = {name: error(guess, truth) for name, error in ERRORS.items()}
    each["pa-mpjpe, reflection"] = p_mpjpe(guess, truth, reflection=True)
    if source.pairs.samples.skeleton.name == "h36m17":
        chosen = list(JOINTS_14)
        each |= {f"{name} 14": error(guess[:, chosen], truth[:, chosen]) for name, error in ERRORS.items()}
    figures = {name: float(error.mean()) for name, error in each.items()}
    table = source.pairs.samples.table
    if "action" in table:
        action = table["action"].to_numpy(str)[index]
        for name in ERRORS:
            of_each = each[name].cpu().numpy()
            figures[f"{name} by action"] = float(
                np.mean([of_each[action == one].mean() for one in np.unique(action)])
            )
    return figures


def _shuffled(count: int, seed: int) -> Tensor:
    """(N,) another row for each row, by turning them in a circle."""
    step = int(torch.randint(1, count, (1,), generator=torch.Generator().manual_seed(seed)))
    return (torch.arange(count) + step) % count
