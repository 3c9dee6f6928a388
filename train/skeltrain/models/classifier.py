"""Classifiers: linear on the features of a frozen encoder (linear probe), or with the encoder fine-tuned."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

import torch
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from skelformats.errors import UnknownNameError
from skeltrain.models.encoder import embed, features, find_pool, initialise, set_drop_path
from skeltrain.models.errors import ModelError
from skeltrain.models.registry import Family, build, find_family

#: Standard deviation of the head's first weights, and the normalisation's epsilon (MAE's linear probing).
HEAD_STD = 0.01
NORM_EPS = 1e-6

#: Standard deviation of the head's first weights in MAE's fine-tuning.
FINE_TUNING_HEAD_STD = 2e-5

FINE_TUNING_POOLS = ("token", "avg")


class LinearProbe(nn.Module):
    """Classify images from frozen features: ``Linear(BatchNorm(features))``; only the head learns.

    The encoder stays in evaluation mode whatever mode the probe is put in, and gets no gradients.

    Parameters
    ----------
    encoder
        A timm vision transformer without a head; it is frozen in place.
    classes
        Number of classes.
    head_bn
        Normalise the features over the batch first, without learned scale, as MAE does (He et al. 2022,
        section A.1). S2I does not say; on by default.
    pool
        How tokens become a feature: ``token`` or ``avg`` (`skeltrain.models.encoder.features`).

    Raises
    ------
    UnknownNameError
        If there is no such pooling.
    """

    def __init__(
        self, encoder: VisionTransformer, classes: int, head_bn: bool = True, pool: str = "token"
    ) -> None:
        super().__init__()
        find_pool(pool)
        self.pool = pool
        self.encoder = encoder.requires_grad_(False)
        self.norm = (
            nn.BatchNorm1d(encoder.embed_dim, affine=False, eps=NORM_EPS) if head_bn else nn.Identity()
        )
        self.head = nn.Linear(encoder.embed_dim, classes)
        nn.init.trunc_normal_(self.head.weight, std=HEAD_STD)
        nn.init.zeros_(self.head.bias)
        self.train()

    def train(self, mode: bool = True) -> Self:
        """Put the head in training mode; the encoder never is."""
        super().train(mode)
        self.encoder.eval()
        return self

    def forward(self, image: Tensor) -> Tensor:
        """Return logits ``(N, classes)`` float32 of ``image`` (N, C, rows, columns)."""
        return self.logits_from_features(self.features(image))

    @torch.no_grad()
    def features(self, image: Tensor) -> Tensor:
        """Return the frozen features ``(N, D)`` of ``image``; without augmentation, compute them once."""
        return features(self.encoder, image, self.pool)

    def logits_from_features(self, feature: Tensor) -> Tensor:
        """Return logits ``(N, classes)`` of features ``(N, D)``, float32 even under autocast."""
        with torch.autocast(feature.device.type, enabled=False):
            return self.head(self.norm(feature.to(self.head.weight.dtype)))


class Classifier(nn.Module):
    """Classify images, with everything trained: fine-tuning, or training from scratch.

    Where the encoder drops paths (`skeltrain.models.encoder.build_encoder`), it does so in training mode.

    Parameters
    ----------
    encoder
        A timm vision transformer without a head, whose positions are trained from here on, as in MAE's
        fine-tuning.
    classes
        Number of classes.
    pool
        ``token``: the class token after the final normalisation (S2I, section A.3). ``avg``: the mean of the
        patch tokens, and then the normalisation, which starts afresh: so MAE fine-tunes.
    patch_drop
        Share of the patches that each sample loses in training mode, others in every pass (PatchDropout, Liu
        et al. 2023); at least one stays. It regularises, and a step costs so much less.

    Raises
    ------
    UnknownNameError
        If there is no such pooling.
    ModelError
        If ``patch_drop`` is no share below 1.
    """

    def __init__(
        self, encoder: VisionTransformer, classes: int, pool: str = "token", patch_drop: float = 0.0
    ) -> None:
        super().__init__()
        if pool not in FINE_TUNING_POOLS:
            raise UnknownNameError("pooling", pool, FINE_TUNING_POOLS)
        if not 0 <= patch_drop < 1:
            raise ModelError(f"found a patch drop of {patch_drop:g}, expected a share below 1")
        self.pool = pool
        self.patch_drop = patch_drop
        self.encoder = encoder
        if encoder.pos_embed is not None:
            encoder.pos_embed.requires_grad_(True)
        if pool == "avg":
            initialise(encoder.norm)
        self.head = nn.Linear(encoder.embed_dim, classes)
        nn.init.trunc_normal_(self.head.weight, std=FINE_TUNING_HEAD_STD)
        nn.init.zeros_(self.head.bias)

    def forward(self, image: Tensor) -> Tensor:
        """Return logits ``(N, classes)`` float32 of ``image`` (N, C, rows, columns)."""
        feature = self.features(image)
        with torch.autocast(feature.device.type, enabled=False):
            return self.head(feature.to(self.head.weight.dtype))

    def features(self, image: Tensor) -> Tensor:
        """Return what the head gets: ``(N, D)``."""
        dropping = self.training and self.patch_drop > 0
        if self.pool == "token" and not dropping:
            return features(self.encoder, image, "token")
        patches, first = embed(self.encoder, image)
        if dropping:
            patches = drop_patches(patches, self.patch_drop)
        tokens = torch.cat([first.expand(len(patches), -1, -1).to(patches.dtype), patches], dim=1)
        encoded = self.encoder.blocks(tokens)
        return self.encoder.norm(encoded[:, 0] if self.pool == "token" else encoded[:, 1:].mean(dim=1))


def drop_patches(patches: Tensor, rate: float) -> Tensor:
    """Leave out that share of the patches (N, L, D), others for each sample; the rest keeps its order."""
    samples, count, width = patches.shape
    left = max(count - int(rate * count), 1)
    drawn = torch.rand(samples, count, device=patches.device)
    kept = drawn.argsort(dim=1)[:, :left].sort(dim=1).values
    return patches.gather(1, kept[:, :, None].expand(-1, -1, width))


def build_fresh(encoder: Mapping[str, Any]) -> VisionTransformer:
    """Build a fresh encoder from family and settings (`skeltrain.models.registry`)."""
    backbone = find_family(encoder["family"]).backbone(build(encoder["family"], encoder["config"]))
    assert isinstance(backbone, VisionTransformer)
    return backbone


def build_linear_probe(
    encoder: Mapping[str, Any], classes: int, head_bn: bool = True, pool: str = "token"
) -> LinearProbe:
    """Build a probe on a fresh encoder; ``encoder`` is family and settings (`skeltrain.models.registry`)."""
    return LinearProbe(build_fresh(encoder), classes, head_bn, pool)


def build_classifier(
    encoder: Mapping[str, Any], classes: int, pool: str = "token", drop_path: float = 0.0
) -> Classifier:
    """Build a classifier on a fresh encoder, given as for `build_linear_probe`."""
    fresh = build_fresh(encoder)
    set_drop_path(fresh, drop_path)
    return Classifier(fresh, classes, pool)


#: Linear probes, as checkpoints name them.
FAMILY = Family("linear_probe", build_linear_probe, lambda model: model.get_submodule("encoder"))

#: Classifiers of which everything was trained, as checkpoints name them.
CLASSIFIERS = Family("classifier", build_classifier, lambda model: model.get_submodule("encoder"))
