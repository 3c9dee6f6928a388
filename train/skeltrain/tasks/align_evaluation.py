"""How an alignment is evaluated: diagnostics while training, retrieval in every direction, poses decoded.

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
from skeltrain.metrics.alignment import alignment_diagnostics, best_of_s
from skeltrain.metrics.pose import JOINTS_14, mpjpe, p_mpjpe, root_relative
from skeltrain.metrics.retrieval import Embedded, evaluate_retrieval, recall, retrieve
from skeltrain.models.decoders import DiffusionDecoder
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
    by untrained towers, and ``poses`` where there are decoders.
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
    if config["decoder"] is not None:
        found.append(Evaluator("poses", lambda module: poses(source, module.get_submodule("model")), False))
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
        collate = PairCollator(self.pairs, self.images)
        found: dict[str, list[Tensor]] = {}
        size = self.recipe.evaluation.batch
        with torch.no_grad():
            for start in range(0, len(index), size):
                batch = collate(MicroBatch(index[start : start + size], slice(None)))
                with autocast(self.device, self.recipe.precision):
                    made = model(batch.image, batch.pose2d, batch.pose3d)
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


def poses(source: Source, model: nn.Module) -> Evaluation:
    """Errors of the 3D poses that are decoded from each modality, ``<source>/<error>``, one pose a frame.

    With ``reflection`` a mirrored pose may be mirrored back; ``14`` are the joints of `JOINTS_14`; ``by
    action`` is the mean over actions, where the store says which. ``mean of S`` and ``best of S`` are of
    several hypotheses, the latter chosen by the truth. ``chance``: the training frames' mean pose for every
    frame, and the pose of another frame.
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
    for name, embedding in source.embed(model, index).items():
        guesses[name] = _decoded(source, decoder.decode, embedding, name)
        predictions[name] = guesses[name].cpu().numpy()
        count = settings.hypotheses
        if count > 1 and isinstance(decoder, DiffusionDecoder):
            drawn = decoder.hypotheses(embedding, name, count) * MILLIMETRES
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
