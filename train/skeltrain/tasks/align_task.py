"""The losses of a stage of alignment, over the frames of all processes.

Every frame of a step is compared with every other. With several processes each embeds its own frames, gets
the embeddings of the others, and computes the loss of the whole step; its gradient goes through its own
embeddings alone, so added up over the processes it is that of one process with all frames.

Legend: n frames of this process, B of the step, J joints.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from skeltrain.data.pair_batches import AlignBatch
from skeltrain.data.sampler import Purpose
from skeltrain.distributed import World
from skeltrain.losses.alignment import (
    gram_infonce,
    largest_eigenvalue,
    near_in_time,
    near_poses,
    pair_infonce,
    sample_negatives,
    triplet_infonce,
)
from skeltrain.losses.temperature import Temperature
from skeltrain.models.decoders import SOURCES
from skeltrain.models.unihpr import AlignModel, in_box
from skeltrain.tasks.align_recipe import Contrast


class AlignTask(nn.Module):
    """The losses of a stage: ``forward(batch)`` gives ``loss``, and what it is made of.

    In the stage ``image`` the other towers are frozen: they stay in evaluation mode, without gradients, and
    the pairs among them, which have no tower to teach and would still move the temperature, are left out.

    Parameters
    ----------
    world
        The processes that the frames of a step are dealt out to; one by default.
    """

    def __init__(self, model: AlignModel, stage: str, loss: Contrast, world: World | None = None) -> None:
        super().__init__()
        self.model = model
        self.stage = stage
        self.settings = loss
        self.world = world or World(torch.device("cpu"))
        self.tau = Temperature(loss.tau, loss.tau_low, loss.tau_high)
        several = model.image is not None or model.motion is not None
        own = several and not loss.share_tau
        self.tau_triplet = Temperature(loss.tau, loss.tau_low, loss.tau_high) if own else self.tau
        for tower in self.frozen():
            tower.requires_grad_(False)

    def frozen(self) -> list[nn.Module]:
        """Return the towers that do not learn in this stage."""
        if self.stage != "image":
            return []
        towers = (self.model.pose2d, self.model.pose3d, self.model.motion)
        return [tower for tower in towers if tower is not None]

    def train(self, mode: bool = True) -> AlignTask:
        """Set the mode of all but the frozen towers, whose dropout stays off."""
        super().train(mode)
        for tower in self.frozen():
            tower.eval()
        return self

    def clamp(self) -> None:
        """Put the temperatures back within their bounds."""
        self.tau.clamp()
        self.tau_triplet.clamp()

    def forward(self, batch: AlignBatch) -> dict[str, Tensor]:
        """Return ``loss`` with ``pairs``, ``triplet`` and ``decode``, the temperature, and diagnostics:
        matched cosines of each pair, the mean ``unmatched`` one, and with three modalities the mean
        ``eigenvalue``.

        Raises
        ------
        AlignmentError, ModelError
            A batch of one, or a frame that has no joint.
        """
        settings = self.settings
        own = self._embed(batch)
        found = {name: self._of_all(embedding, batch) for name, embedding in own.items()}
        near = self._near(batch)
        learning = [name for name in found if self.stage != "image" or name == "image"]
        pairs = [
            (one, other)
            for one, other in itertools.combinations(found, 2)
            if one in learning or other in learning
        ]
        tau = self._shared(self.tau())
        terms = {"pairs": torch.stack([pair_infonce(found[m], found[n], tau, near) for m, n in pairs]).sum()}
        if len(found) > 2:
            terms["triplet"] = self._many(list(found.values()), batch, near)
        contrast = terms["pairs"] + settings.alpha * terms.get("triplet", 0.0)
        loss = self._whole(contrast, own, batch)
        if self.model.decoder3d is not None:
            decoded = self._decode(own, batch)
            if decoded is not None:
                terms["decode"] = decoded
                loss = loss + settings.decode * decoded
        return {"loss": loss, **terms, **_diagnostics(found), "tau": tau.detach()}

    def _embed(self, batch: AlignBatch) -> dict[str, Tensor]:
        if not self.frozen():
            found: dict[str, Tensor] = self.model(batch.image, batch.pose2d, batch.pose3d, batch.motion)
            return found
        with torch.no_grad():
            others = self.model(None, batch.pose2d, batch.pose3d, batch.motion)
        return {**self.model(batch.image, None, None), **others}

    def _many(self, embeddings: list[Tensor], batch: AlignBatch, near: Tensor | None) -> Tensor:
        """The term over all modalities at once: in closed form where there are three."""
        count = len(embeddings[0])
        generator = batch.micro.generator(Purpose.PAIR)
        drawn = sample_negatives(count, count - 1, generator, self.settings.negatives, len(embeddings))
        negatives, tau = drawn.to(batch.index.device), self._shared(self.tau_triplet())
        if len(embeddings) == 3:
            one, two, three = embeddings
            return triplet_infonce(one, two, three, negatives, tau, near)
        return gram_infonce(embeddings, negatives, tau, near)

    def _near(self, batch: AlignBatch) -> Tensor | None:
        settings = self.settings
        near = None
        if settings.near_frames is not None:
            sequence, frame = (self._of_all(x, batch) for x in (batch.sequence, batch.frame))
            near = near_in_time(sequence, frame, settings.near_frames)
        if settings.near_poses is not None:
            close = near_poses(self._of_all(batch.pose3d, batch), settings.near_poses)
            near = close if near is None else near | close
        return near

    def _decode(self, found: Mapping[str, Tensor], batch: AlignBatch) -> Tensor | None:
        """Sum of the losses of both decoders over all sources, of frames that lack no joint."""
        total = None
        sources = [name for name in found if name in SOURCES]
        for decoder, pose in (
            (self.model.decoder2d, in_box(batch.pose2d)),
            (self.model.decoder3d, batch.pose3d),
        ):
            assert decoder is not None
            whole = pose.isfinite().all(dim=(1, 2))
            count = int(whole.sum())
            # one alone cannot be normalised over the batch
            if count < 2:
                part = sum(
                    (p.sum() * 0.0 for p in decoder.parameters()), start=torch.zeros((), device=pose.device)
                )
                if self.world.size == 1:
                    continue
            else:
                embedding = torch.cat([found[name][whole] for name in sources])
                numbers = [torch.full((count,), SOURCES.index(name), device=pose.device) for name in sources]
                part = decoder.loss(embedding, torch.cat(numbers), pose[whole].repeat(len(sources), 1, 1))
            if self.world.size > 1:
                # the mean over the frames of all processes, which the engine weighs by what each has of them
                share = count / max(
                    self.world.mean(torch.tensor(float(count), device=pose.device)).item(), 1.0
                )
                part = part * (share / batch.micro.weight if batch.micro.weight else 0.0)
            total = part if total is None else total + part
        return total

    def _of_all(self, own: Tensor, batch: AlignBatch) -> Tensor:
        """Rows (B, ...) of all processes in order, this one's (n, ...) with their gradient."""
        if self.world.size == 1:
            return own
        if not batch.micro.weight:
            # a frame that was lent, and counts nothing
            own = own[:0]
        parts = self.world.gather_rows(own.detach())
        parts[self.world.rank] = own
        return torch.cat(parts)

    def _shared(self, tau: Tensor) -> Tensor:
        """The temperature, whose gradient each process works out whole: a part of it each, to be added up."""
        size = self.world.size
        return tau if size == 1 else tau.detach() + (tau - tau.detach()) / size

    def _whole(self, loss: Tensor, own: Mapping[str, Tensor], batch: AlignBatch) -> Tensor:
        """A loss of the whole step whose gradients, weighed and averaged by the engine, add up over
        processes.
        """
        size, weight = self.world.size, batch.micro.weight
        if size == 1:
            return loss
        # every parameter takes part, even where the process has no frame that counts
        loss = loss + sum(embedding.sum() * 0.0 for embedding in own.values() if embedding.requires_grad)
        return loss.detach() + (size / weight if weight else 0.0) * (loss - loss.detach())

    def compile(self, *args: Any, **kwargs: Any) -> None:
        """Compile the model alone: negatives are drawn outside."""
        self.model.compile(*args, **kwargs)


@torch.no_grad()
def _diagnostics(found: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Matched cosines, the mean of the unmatched ones, and the mean eigenvalue of matched triples."""
    unit = {
        name: nn.functional.normalize(embedding.detach().float(), dim=1) for name, embedding in found.items()
    }
    terms, matched, unmatched = {}, [], []
    for one, other in itertools.combinations(unit, 2):
        own = (unit[one] * unit[other]).sum(dim=1)
        count = len(own)
        # all with all by the sums of the vectors, without the matrix
        everything = unit[one].sum(dim=0) @ unit[other].sum(dim=0)
        unmatched.append((everything - own.sum()) / (count * (count - 1)))
        matched.append(own)
        terms[f"cosine {one}-{other}"] = own.mean()
    terms["unmatched"] = torch.stack(unmatched).mean()
    if len(matched) == 3:
        terms["eigenvalue"] = largest_eigenvalue(*matched).mean()
    return terms
