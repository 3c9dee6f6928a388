"""Prediction of features instead of pixels: what a slowly following copy of the encoder sees.

The student gets an image with patches hidden and predicts, at the hidden ones, the features that the teacher
gives for the whole image; the teacher is an exponential moving average of the student (Grill et al. 2020;
Baevski et al. 2022, data2vec). Without a predictor there is no decoder at all, as in SLiM (Do et al. 2026,
arXiv 2603.10648, whose contrastive term is not part of it); with one, it works as I-JEPA (Assran et al.
2023) and S-JEPA.

Against collapse, a target is what a patch's feature has that the average image has not at that place, scaled
to unit variance: an encoder that gives the same for every image predicts nothing of it.
"""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass
from typing import Any, Self

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn import functional

from skeltrain.models import encoder as vit
from skeltrain.models.attention import set_attention
from skeltrain.models.errors import ModelError
from skeltrain.models.mae import Decoder
from skeltrain.models.masking import Mask, check_noise, find_strategy, masked_count, split
from skeltrain.models.patches import at_least_float32, check_image, pair
from skeltrain.models.presets import Sizes, split_options
from skeltrain.models.registry import Family

#: How much of the teacher stays at each step, at the start of a run (Grill et al. 2020, BYOL).
MOMENTUM = 0.996

#: How much of the average features stays at each step (Caron et al. 2021, DINO's centring).
CENTRE_MOMENTUM = 0.9


@dataclass(frozen=True, eq=False)
class FeatureOutput:
    """What one forward pass of `FeaturePredictor` gives, for N images of L patches of which M are masked.

    Attributes
    ----------
    loss
        Scalar: mean squared error; 1 is what knowing nothing costs. float32 under autocast.
    spread
        Scalar without gradient: how much the teacher's features differ between the images of the batch, as
        part of their size (root mean square). Near 0 the encoder has collapsed.
    prediction, target
        ``(N, M, D)`` at the masked patches, in the order of ``mask.hidden``.
    mask
        Which patches were masked.
    """

    loss: Tensor
    spread: Tensor
    prediction: Tensor
    target: Tensor
    mask: Mask


def build_feature_predictor(preset: str, attention: str = "fused", **options: Any) -> FeaturePredictor:
    """Build the model of that name.

    Parameters
    ----------
    preset
        Sizes of the encoder, and width and heads of a predictor (`skeltrain.models.presets.preset_options`).
    attention
        How attention is computed (`skeltrain.models.attention.set_attention`).
    options
        Fields of `Sizes`, which win over the preset, and ``predictor_depth``, ``mask_ratio``, ``masking`` and
        ``momentum`` of `FeaturePredictor`.

    Raises
    ------
    UnknownNameError
        If there is no such preset or masking strategy.
    ModelError
        If the sizes do not fit each other.
    """
    sizes, rest = split_options(preset, options)
    model = FeaturePredictor(sizes, **rest)
    set_attention(model, attention)
    return model


class FeaturePredictor(nn.Module):
    """Predict, at hidden patches, the features that a teacher gives for the whole image.

    Call `after_step` after each step of the optimiser: it moves the teacher.

    Parameters
    ----------
    sizes
        Of the encoder; ``decoder_dim`` and ``decoder_heads`` are the predictor's.
    predictor_depth
        Blocks of the predictor, which gets the encoder's visible patches and mask tokens. With 0, mask tokens
        go through the encoder itself, and a linear layer predicts from what comes out.
    mask_ratio, masking
        As for `skeltrain.models.mae.MaskedAutoencoder`.
    momentum
        How much of the teacher stays at each step, at first.

    Attributes
    ----------
    encoder
        The student, and what is used afterwards.
    teacher
        The slowly following copy; never trained.
    centre
        ``(L, D)`` float32: the teacher's average features.

    Raises
    ------
    ModelError
        If the sizes do not fit each other, or the momentum is not between 0 and 1.
    UnknownNameError
        If there is no such masking strategy.
    """

    centre: Tensor
    seen: Tensor

    def __init__(
        self,
        sizes: Sizes,
        predictor_depth: int = 0,
        mask_ratio: float = 0.75,
        masking: str = "tube",
        momentum: float = MOMENTUM,
    ) -> None:
        super().__init__()
        if not 0 <= momentum < 1 or predictor_depth < 0:
            raise ModelError(
                f"found a momentum of {momentum:g} and a predictor of {predictor_depth} blocks, "
                "expected a momentum from 0 to below 1, and no negative number of blocks"
            )
        self.sizes = sizes
        self.grid = sizes.grid
        self.momentum = momentum
        patches, dim = self.grid[0] * self.grid[1], sizes.embed_dim
        self.masked = masked_count(patches, mask_ratio)
        self.strategy = find_strategy(masking)
        self.encoder = sizes.encoder()
        self.teacher = copy.deepcopy(self.encoder).requires_grad_(False)
        self.mask_token: nn.Parameter | None = None
        self.predictor: nn.Module
        if predictor_depth:
            heads, ratio = sizes.decoder_heads, sizes.mlp_ratio
            self.predictor = Decoder(dim, dim, self.grid, sizes.decoder_dim, predictor_depth, heads, ratio)
        else:
            self.mask_token = nn.Parameter(torch.empty(1, 1, dim).normal_(std=vit.TOKEN_STD))
            self.predictor = nn.Linear(dim, dim)
            vit.initialise(self.predictor)
        self.register_buffer("centre", torch.zeros(patches, dim))
        self.register_buffer("seen", torch.zeros((), dtype=torch.int64))
        # Sum of the features of this step, and their number. No buffers: processes must not share them.
        self._sum: Tensor | None = None
        self._count = 0
        self.train()

    def train(self, mode: bool = True) -> Self:
        """Put the student in training mode; the teacher never is."""
        super().train(mode)
        self.teacher.eval()
        return self

    def draw(
        self, samples: int, device: torch.device, generator: torch.Generator | None = None
    ) -> dict[str, Tensor]:
        """Draw what `forward` takes besides the images, as `skeltrain.models.mae.MaskedAutoencoder.draw`."""
        return {"noise": self.strategy(samples, self.grid, device, generator)}

    def forward(
        self, image: Tensor, noise: Tensor | None = None, generator: torch.Generator | None = None
    ) -> FeatureOutput:
        """Mask, predict and compare.

        Parameters
        ----------
        image
            ``(N, C, rows, columns)``, normalised.
        noise
            ``(N, L)``: the patches of largest noise are masked. Drawn by the masking strategy when not given.
        generator
            Where the strategy takes its random numbers from; torch's default generator when not given.

        Raises
        ------
        ModelError
            If the images are not of the size the model was built for, or ``noise`` not of their number.
        """
        samples = check_image(image, self.sizes.channels, pair(self.sizes.image_size))
        if noise is None:
            noise = self.draw(samples, image.device, generator)["noise"]
        check_noise(noise, samples, self.grid)
        mask = split(noise, self.masked)
        with torch.no_grad():
            seen = at_least_float32(self.teacher.forward_features(image)[:, 1:])
        if self.training:
            self._gather(seen)
        prediction = _pick(self._predict(image, mask), mask.hidden)
        with torch.autocast(image.device.type, enabled=False):
            target = _pick(self._targets(seen), mask.hidden)
            loss = (at_least_float32(prediction) - target).square().mean()
            spread = _root_mean_square(seen - seen.mean(dim=0)) / _root_mean_square(seen)
        return FeatureOutput(loss, spread, prediction, target, mask)

    @torch.no_grad()
    def after_step(self, progress: float = 0.0) -> None:
        """Move teacher and average features after a step of the optimiser; every process must call it.

        Parameters
        ----------
        progress
            Part of the run that is over, 0 to 1: the teacher moves ever more slowly, and at the end not at
            all, along half a cosine (BYOL).
        """
        keep = 1 - (1 - self.momentum) * (math.cos(math.pi * progress) + 1) / 2
        for old, new in zip(self.teacher.parameters(), self.encoder.parameters(), strict=True):
            old.lerp_(new, 1 - keep)
        if self._sum is None:
            return
        total = torch.cat([self._sum.flatten(), self._sum.new_tensor([self._count])])
        if dist.is_available() and dist.is_initialized():
            dist.all_reduce(total)
        mean = (total[:-1] / total[-1]).view_as(self.centre)
        self.centre.lerp_(mean.to(self.centre.dtype), 1 - CENTRE_MOMENTUM)
        self.seen += 1
        self._sum, self._count = None, 0

    def features(self, image: Tensor, pool: str = "token") -> Tensor:
        """Return one feature vector (N, D) for each image, as `MaskedAutoencoder.features` does."""
        check_image(image, self.sizes.channels, pair(self.sizes.image_size))
        return vit.features(self.encoder, image, pool)

    def _predict(self, image: Tensor, mask: Mask) -> Tensor:
        """Return predictions ``(N, L, D)``, of which those at the hidden patches count."""
        if self.mask_token is None:
            return self.predictor(vit.encode_visible(self.encoder, image, mask.keep), mask.restore)
        patches, first = vit.embed(self.encoder, image)
        assert self.encoder.pos_embed is not None
        fill = (self.mask_token + self.encoder.pos_embed[:, 1:]).to(patches.dtype)
        patches = torch.where(mask.mask[:, :, None] == 1, fill, patches)
        tokens = torch.cat([first.expand(len(patches), -1, -1).to(patches.dtype), patches], dim=1)
        return self.predictor(self.encoder.norm(self.encoder.blocks(tokens)))[:, 1:]

    def _targets(self, seen: Tensor) -> Tensor:
        """Return what is to be predicted of the teacher's features ``seen`` (N, L, D)."""
        # the average starts at zero, and is corrected for that
        weight = 1 - CENTRE_MOMENTUM ** self.seen.clamp(min=1).to(self.centre.dtype)
        return functional.layer_norm(seen - (self.centre / weight).to(seen.dtype), seen.shape[-1:])

    def _gather(self, seen: Tensor) -> None:
        """Add a batch's features to the sum of the step."""
        total = seen.double().sum(dim=0)
        self._sum = total if self._sum is None else self._sum + total
        self._count += len(seen)


def _pick(tokens: Tensor, hidden: Tensor) -> Tensor:
    return tokens.gather(1, hidden[:, :, None].expand(-1, -1, tokens.shape[-1]))


def _root_mean_square(value: Tensor) -> Tensor:
    return value.square().mean().sqrt()


#: Predictors of features, whose backbone is the student, as checkpoints name them.
FAMILY = Family("features", build_feature_predictor, lambda model: model.get_submodule("encoder"))
