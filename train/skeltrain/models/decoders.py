"""From an embedding back to a pose: three decoders behind one interface.

UniHPR (arXiv 2510.19078) decodes by a diffusion model whose condition is the sum of embedding, time embedding
and a learned token of the representation that the embedding came from; an MLP with an L2 loss is its
baseline. The networks stand in a supplement that is not public: they follow GFPose's score network here
(docs/unihpr.md).

Legend: B samples, D width of an embedding, J joints, C coordinates, S hypotheses.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from skelformats.errors import UnknownNameError
from skeltrain.models.encoder import TOKEN_STD, check_heads
from skeltrain.models.errors import ModelError
from skeltrain.models.subvp import EARLIEST_TRAIN, perturbation, sample

SOURCES = ("image", "pose2d", "pose3d")
"""What an embedding was made from."""

Source = str | Sequence[str] | Tensor
"""One of `SOURCES` for all, one each, or (B,) int64 numbers in `SOURCES`."""


class Decoder(nn.Module, ABC):
    """What every decoder does: `decode` and `loss`.

    Parameters
    ----------
    joints, dims
        J and C of the poses.
    width
        D of the embeddings.
    """

    def __init__(self, joints: int, dims: int, width: int) -> None:
        super().__init__()
        self.joints = joints
        self.dims = dims
        self.width = width
        self.project = nn.Linear(width, width)
        self.norm = nn.LayerNorm(width)
        self.token = nn.Parameter(torch.empty(len(SOURCES), width).normal_(std=TOKEN_STD))

    @abstractmethod
    def decode(self, embedding: Tensor, source: Source) -> Tensor:
        """Return one pose (B, J, C) for each embedding (B, D); in evaluation mode the same every time.

        Raises
        ------
        ModelError
            Embeddings of another width or of zero length, or as many sources as there are no embeddings.
        UnknownNameError
            No such source.
        """

    @abstractmethod
    def loss(self, embedding: Tensor, source: Source, pose: Tensor) -> Tensor:
        """Return the training loss, a scalar: a mean over samples, joints, coordinates of pose (B, J, C)."""

    def condition(self, embedding: Tensor, source: Source) -> Tensor:
        """(B, D) unit embedding, projected and normalised, plus the token of its source.

        Without the normalisation a unit vector of 512 entries of .04 is lost beside sinusoids of .7.
        """
        projected, token = self.parts(embedding, source)
        return projected + token

    def parts(self, embedding: Tensor, source: Source) -> tuple[Tensor, Tensor]:
        """Projected embedding and token of its source, (B, D) each."""
        if embedding.ndim != 2 or embedding.shape[1] != self.width:
            raise ModelError(
                f"found embeddings of shape {tuple(embedding.shape)}, expected (samples, {self.width})"
            )
        length = embedding.norm(dim=1, keepdim=True)
        if not bool(((length > 0) & length.isfinite()).all()):
            raise ModelError("found an embedding of zero or no finite length, expected one with a direction")
        return self.norm(self.project(embedding / length)), self.token[self._numbers(embedding, source)]

    def _numbers(self, embedding: Tensor, source: Source) -> Tensor:
        count = len(embedding)
        if isinstance(source, Tensor):
            numbers = source.to(embedding.device)
        else:
            names = [source] * count if isinstance(source, str) else list(source)
            for name in names:
                if name not in SOURCES:
                    raise UnknownNameError("source of an embedding", name, SOURCES)
            numbers = torch.tensor([SOURCES.index(name) for name in names], device=embedding.device)
        if numbers.shape != (count,):
            raise ModelError(f"found {len(numbers)} sources of {count} embeddings, expected one each")
        return numbers

    def _check(self, pose: Tensor) -> None:
        if pose.shape[1:] != (self.joints, self.dims):
            raise ModelError(
                f"found poses of shape {tuple(pose.shape)}, expected (samples, {self.joints}, {self.dims})"
            )


class MLPDecoder(Decoder):
    """Two residual blocks of Linear, BatchNorm, ReLU, Dropout; squared error. UniHPR's baseline.

    Parameters
    ----------
    joints, dims, width
        As `Decoder`.
    hidden
        Width of the blocks.
    dropout
        In the blocks.
    """

    def __init__(
        self, joints: int, dims: int, width: int = 512, hidden: int = 1024, dropout: float = 0.25
    ) -> None:
        super().__init__(joints, dims, width)
        self.enter = nn.Linear(width, hidden)
        self.blocks = nn.ModuleList(
            nn.Sequential(*(layer for _ in range(2) for layer in _dense(hidden, dropout))) for _ in range(2)
        )
        self.leave = nn.Linear(hidden, joints * dims)

    def decode(self, embedding: Tensor, source: Source) -> Tensor:
        """Return poses (B, J, C); see `Decoder.decode`."""
        hidden = self.enter(self.condition(embedding, source))
        for block in self.blocks:
            hidden = hidden + block(hidden)
        pose: Tensor = self.leave(hidden).unflatten(1, (self.joints, self.dims))
        return pose

    def loss(self, embedding: Tensor, source: Source, pose: Tensor) -> Tensor:
        """Mean squared error; see `Decoder.loss`."""
        self._check(pose)
        if self.training and len(pose) < 2:
            raise ModelError(
                "found a batch of one, expected at least two samples: the decoder normalises over the batch. "
                "Leave out the last, incomplete batch"
            )
        return functional.mse_loss(self.decode(embedding, source).float(), pose.float())


class TransformerDecoder(Decoder):
    """A learned query a joint that attends to the embedding and to the token of its source.

    Parameters
    ----------
    joints, dims, width
        As `Decoder`.
    depth, heads
        Layers, attention heads.
    dropout
        In the layers.

    Raises
    ------
    ModelError
        Heads that do not divide the width.
    """

    def __init__(
        self, joints: int, dims: int, width: int = 512, depth: int = 4, heads: int = 8, dropout: float = 0.1
    ) -> None:
        super().__init__(joints, dims, width)
        check_heads(width, heads)
        self.query = nn.Parameter(torch.empty(1, joints, width).normal_(std=TOKEN_STD))
        layer = nn.TransformerDecoderLayer(
            width, heads, 2 * width, dropout, "gelu", batch_first=True, norm_first=True
        )
        self.layers = nn.TransformerDecoder(layer, depth, nn.LayerNorm(width))
        self.leave = nn.Linear(width, dims)

    def decode(self, embedding: Tensor, source: Source) -> Tensor:
        """Return poses (B, J, C); see `Decoder.decode`."""
        memory = torch.stack(self.parts(embedding, source), dim=1)
        pose: Tensor = self.leave(self.layers(self.query.expand(len(embedding), -1, -1), memory))
        return pose

    def loss(self, embedding: Tensor, source: Source, pose: Tensor) -> Tensor:
        """Mean squared error; see `Decoder.loss`."""
        self._check(pose)
        return functional.mse_loss(self.decode(embedding, source).float(), pose.float())


class DiffusionDecoder(Decoder):
    """The score of poses given an embedding, learned by denoising, sampled by `skeltrain.models.subvp`.

    Parameters
    ----------
    joints, dims, width
        As `Decoder`.
    hidden
        Width of the blocks, a multiple of 32.
    dropout
        In the blocks.
    scale
        Poses are multiplied by it and divided after sampling. It brings root-relative metres to a deviation
        of about 5.
    null_share
        Share of training samples whose condition is replaced by a learned one, for guidance.

    Attributes
    ----------
    steps, guidance, seed
        Used when sampling: steps of the sampler (200 for evaluation in a loop, 1000 for reported figures),
        weight of guidance away from the learned null condition (0: none), seed of the noise.
    """

    def __init__(
        self,
        joints: int,
        dims: int,
        width: int = 512,
        hidden: int = 1024,
        dropout: float = 0.25,
        scale: float = 15.0,
        null_share: float = 0.1,
    ) -> None:
        super().__init__(joints, dims, width)
        if width % 2 or hidden % 32:
            raise ModelError(
                f"found width {width} and hidden width {hidden}, expected multiples of 2 and of 32"
            )
        self.scale = scale
        self.null_share = null_share
        self.steps = 200
        self.guidance = 0.0
        self.seed = 0
        self.null = nn.Parameter(torch.empty(width).normal_(std=TOKEN_STD))
        self.time = nn.Sequential(nn.Linear(width, width), nn.SiLU())
        self.enter = _Conditioned(joints * dims, hidden, width, dropout)
        self.blocks = nn.ModuleList(_Conditioned(hidden, hidden, width, dropout) for _ in range(4))
        self.leave = nn.Linear(hidden, joints * dims)

    def decode(self, embedding: Tensor, source: Source) -> Tensor:
        """Return near-mean poses (B, J, C) by the sampler ``mean``; see `Decoder.decode`."""
        return self.hypotheses(embedding, source, 1, "mean")[0]

    @torch.no_grad()
    def hypotheses(
        self,
        embedding: Tensor,
        source: Source,
        count: int,
        sampler: str = "euler_maruyama",
        generator: torch.Generator | None = None,
        one_noise: bool = False,
    ) -> Tensor:
        """Draw ``count`` poses for each embedding: (S, B, J, C).

        Their mean over the first axis is a single hypothesis of small error; the best of them against the
        truth is `skeltrain.metrics.alignment.best_of_s`, which needs the truth and is to be named so.

        Parameters
        ----------
        sampler
            As in `skeltrain.models.subvp.sample`; ``mean`` draws no distribution.
        generator
            Of all noise; without one a new one from ``seed``, so that figures repeat.
        one_noise
            Begin every embedding of a hypothesis at the same noise, as the points of a path do.

        Raises
        ------
        ModelError, UnknownNameError
            As `Decoder.decode`; a count below 1; no such sampler.
        """
        if count < 1:
            raise ModelError(f"found {count} hypotheses, expected at least one")
        generator = generator or torch.Generator().manual_seed(self.seed)
        condition = self.condition(embedding, source).repeat(count, 1).float()
        null = self.null.expand_as(condition)

        def score(x: Tensor, t: Tensor) -> Tensor:
            found = self._score(x, t, condition)
            if self.guidance:
                found = (1 + self.guidance) * found - self.guidance * self._score(x, t, null)
            return found

        shape = (len(condition), self.joints * self.dims)
        rows = (count, 1, shape[1]) if one_noise else (count, len(embedding), shape[1])
        start = torch.randn(rows, generator=generator, device=generator.device).to(embedding.device)
        start = start.expand(count, len(embedding), shape[1]).reshape(shape)
        drawn = sample(score, start, sampler, self.steps, generator) / self.scale
        return drawn.view(count, len(embedding), self.joints, self.dims)

    def loss(self, embedding: Tensor, source: Source, pose: Tensor) -> Tensor:
        """Denoising score matching, ``|score * deviation + noise|^2``: 1 at first; see `Decoder.loss`."""
        self._check(pose)
        condition = self.condition(embedding, source)
        nothing = torch.rand(len(pose), 1, device=pose.device) < self.null_share
        condition = torch.where(nothing, self.null.to(condition.dtype), condition)
        t = torch.rand(len(pose), device=pose.device) * (1 - EARLIEST_TRAIN) + EARLIEST_TRAIN
        mean, deviation = (factor[:, None] for factor in perturbation(t))
        noise = torch.randn(len(pose), self.joints * self.dims, device=pose.device)
        perturbed = mean * pose.float().flatten(1) * self.scale + deviation * noise
        return functional.mse_loss(self._noise(perturbed, t, condition).float(), noise)

    def _score(self, x: Tensor, t: Tensor, condition: Tensor) -> Tensor:
        return -self._noise(x, t, condition).float() / perturbation(t)[1][:, None]

    def _noise(self, x: Tensor, t: Tensor, condition: Tensor) -> Tensor:
        """Noise (N, J * C) that perturbed poses x (N, J * C) are predicted to hold."""
        steered = self.time(_sinusoids(t, self.width)) + condition
        hidden = self.enter(x, steered)
        for first, second in zip(self.blocks[::2], self.blocks[1::2], strict=True):
            hidden = hidden + second(first(hidden, steered), steered)
        noise: Tensor = self.leave(hidden)
        return noise


class _Conditioned(nn.Module):
    """Linear plus a linear map of the condition, GroupNorm, SiLU, Dropout."""

    def __init__(self, inward: int, outward: int, width: int, dropout: float) -> None:
        super().__init__()
        self.linear = nn.Linear(inward, outward)
        self.steer = nn.Linear(width, outward)
        self.norm = nn.GroupNorm(32, outward)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        hidden: Tensor = self.dropout(functional.silu(self.norm(self.linear(x) + self.steer(condition))))
        return hidden


def _dense(width: int, dropout: float) -> tuple[nn.Module, ...]:
    return nn.Linear(width, width), nn.BatchNorm1d(width), nn.ReLU(), nn.Dropout(dropout)


def _sinusoids(t: Tensor, width: int) -> Tensor:
    """(N, width) sines, then cosines, of times t (N,) counted from 0 to 999 (GFPose, as in transformers)."""
    count = width // 2
    frequency = torch.exp(
        -math.log(10_000) / (count - 1) * torch.arange(count, device=t.device, dtype=t.dtype)
    )
    angle = (t * 999)[:, None] * frequency
    return torch.cat([angle.sin(), angle.cos()], dim=1)
