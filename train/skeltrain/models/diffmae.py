"""The diffusion masked autoencoder: masked patches are denoised, given the visible ones.

Wei et al., "Diffusion Models as Masked Autoencoders", ICCV 2023, as S2I uses it (sections 3.3, 4.2 and A.1).
No official code or weights are public; docs/models.md says what was decided where the papers are silent.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from skeltrain.models import encoder as vit
from skeltrain.models.attention import set_attention
from skeltrain.models.diffmae_decoder import DiffusionDecoder
from skeltrain.models.diffusion import STEPS, add_noise, alpha_bar, sample, standard_normal
from skeltrain.models.errors import ModelError
from skeltrain.models.masking import Mask, check_noise, find_strategy, masked_count, split
from skeltrain.models.patches import (
    at_least_float32,
    check_image,
    pair,
    patchify,
    pixel_targets,
    unpatchify,
)
from skeltrain.models.presets import Sizes, split_options
from skeltrain.models.registry import Family


@dataclass(frozen=True)
class Diffusion:
    """How patches are noised and denoised.

    Attributes
    ----------
    decoder
        ``cross``: hidden patches attend to the visible ones alone (S2I, section A.1). ``cross_self``: to the
        visible ones, then to each other (section 4.2). ``joint``: all attend to all.
    kv
        What ``cross`` and ``cross_self`` attend to: ``last``, the encoder's output; ``top_down``, in the
        decoder's blocks from first to last the encoder's blocks from last to first, as in DiffMAE.
    time
        ``add`` tells the decoder the step of the diffusion, ``none`` does not. S2I does not say.
    steps, rho
        The schedule (`skeltrain.models.diffusion.alpha_bar`).
    min_snr
        Largest weight of a sample's loss, which then is the ratio of signal to noise at its step (Hang et
        al. 2023 have 5); None weighs all steps alike, as S2I.
    """

    decoder: str = "cross"
    kv: str = "last"
    time: str = "add"
    steps: int = STEPS
    rho: float = 1.0
    min_snr: float | None = None


@dataclass(frozen=True, eq=False)
class DiffMAEOutput:
    """What one forward pass of `DiffusionMAE` gives, for N images of L patches of which M are masked.

    Attributes
    ----------
    loss
        Scalar: mean squared error over all pixels of the masked patches. float32 under autocast.
    prediction
        ``(N, M, P)``: the clean pixels of the masked patches, in the order of ``mask.hidden``.
    noisy
        ``(N, M, P)``: the pixels that they were predicted from.
    mask
        Which patches were masked.
    latent
        ``(N, 1 + L - M, D)``: the encoder's class token and visible patches.
    """

    loss: Tensor
    prediction: Tensor
    noisy: Tensor
    mask: Mask
    latent: Tensor


def build_diffmae(preset: str, attention: str = "fused", **options: Any) -> DiffusionMAE:
    """Build the model of that name.

    Parameters
    ----------
    preset
        Sizes of encoder and decoder (`skeltrain.models.presets.preset_options`).
    attention
        How attention is computed (`skeltrain.models.attention.set_attention`).
    options
        Fields of `Sizes`, which win over the preset; fields of `Diffusion`; and ``norm_pix_loss``,
        ``mask_ratio`` and ``masking`` of `DiffusionMAE`.

    Raises
    ------
    UnknownNameError
        If there is no such preset, decoder or masking strategy.
    ModelError
        If the sizes do not fit each other.
    """
    sizes, rest = split_options(preset, options)
    names = Diffusion.__dataclass_fields__
    diffusion = Diffusion(**{key: value for key, value in rest.items() if key in names})
    own = {key: value for key, value in rest.items() if key not in names}
    model = DiffusionMAE(sizes, diffusion, **own)
    set_attention(model, attention)
    return model


class DiffusionMAE(nn.Module):
    """Encode the visible patches of an image; predict the masked ones from themselves with noise added.

    Parameters
    ----------
    sizes
        Of encoder and decoder.
    diffusion
        Decoder and schedule.
    norm_pix_loss
        Denoise patches that are normalised one by one, instead of their pixels (S2I has pixels).
    mask_ratio, masking
        As for `skeltrain.models.mae.MaskedAutoencoder`.

    Attributes
    ----------
    encoder
        The same as in `skeltrain.models.mae.MaskedAutoencoder`.
    decoder
        A `skeltrain.models.diffmae_decoder.DiffusionDecoder`.
    left
        ``(steps,)`` float64, of `skeltrain.models.diffusion.alpha_bar`; not part of the state.

    Raises
    ------
    ModelError
        If the sizes or the settings of the diffusion do not fit each other.
    UnknownNameError
        If there is no such decoder or masking strategy.
    """

    left: Tensor

    def __init__(
        self,
        sizes: Sizes,
        diffusion: Diffusion = Diffusion(),
        norm_pix_loss: bool = False,
        mask_ratio: float = 0.75,
        masking: str = "random",
    ) -> None:
        super().__init__()
        self.sizes = sizes
        self.diffusion = diffusion
        self.grid = sizes.grid
        self.norm_pix_loss = norm_pix_loss
        self.masked = masked_count(self.grid[0] * self.grid[1], mask_ratio)
        self.strategy = find_strategy(masking)
        # it follows from the settings, so checkpoints need not have it
        self.register_buffer("left", alpha_bar(diffusion.steps, diffusion.rho), persistent=False)
        self.encoder = sizes.encoder()
        self.decoder = DiffusionDecoder(sizes, diffusion.decoder, diffusion.kv, diffusion.time)

    def draw(
        self, samples: int, device: torch.device, generator: torch.Generator | None = None
    ) -> dict[str, Tensor]:
        """Draw what `forward` takes besides the images, a row for each of ``samples``.

        Draw for a whole step and hand each process its rows: then what a sample gets does not depend on
        the number of processes. With a generator on the CPU it does not depend on the device either, but
        a generator on the device is much faster where the images are large.
        """
        noise = self.strategy(samples, self.grid, device, generator)
        where = device if generator is None else generator.device
        step = torch.randint(len(self.left), (samples,), device=where, generator=generator).to(device)
        pixels = standard_normal((samples, self.masked, self.sizes.pixels), device, generator)
        return {"noise": noise, "step": step, "pixel_noise": pixels}

    def forward(
        self,
        image: Tensor,
        noise: Tensor | None = None,
        step: Tensor | None = None,
        pixel_noise: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> DiffMAEOutput:
        """Mask, noise, encode, denoise and compare.

        Parameters
        ----------
        image
            ``(N, C, rows, columns)``, normalised.
        noise
            ``(N, L)``: the patches of largest noise are masked.
        step
            ``(N,)`` int64: how far each sample is diffused, from 0 (hardly) to ``steps - 1`` (wholly).
        pixel_noise
            ``(N, M, P)`` standard normal, for the masked patches in the order of ``mask.hidden``.
        generator
            Where the three come from when ``noise`` is not given; torch's default generator when None.

        Raises
        ------
        ModelError
            If the images, or the random numbers, are not of the shapes above, or only some are given.
        """
        samples = self._check_image(image)
        if noise is None and step is None and pixel_noise is None:
            noise, step, pixel_noise = self.draw(samples, image.device, generator).values()
        if noise is None or step is None or pixel_noise is None:
            raise ModelError("found some of noise, step and pixel_noise, expected all of them or none")
        self._check_draw(samples, noise, step, pixel_noise)
        mask = split(noise, self.masked)
        with torch.autocast(image.device.type, enabled=False):
            clean = self._targets(image, mask)
            noisy = add_noise(clean, step, pixel_noise.to(clean.dtype), self.left)
        levels = self._encode(image, mask)
        prediction = self.decoder(levels, noisy, mask, step)
        with torch.autocast(image.device.type, enabled=False):
            error = (at_least_float32(prediction) - clean).square().mean(dim=(1, 2))
            if self.diffusion.min_snr is not None:
                left = self.left[step]
                error = error * (left / (1 - left)).clamp(max=self.diffusion.min_snr).to(error.dtype)
            loss = error.mean()
        return DiffMAEOutput(loss, prediction, noisy, mask, levels[-1])

    @torch.no_grad()
    def fill(
        self,
        image: Tensor,
        noise: Tensor,
        steps: int = 50,
        eta: float = 0.0,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """Return ``image`` with its masked patches drawn anew, given the visible ones.

        The encoder runs once. Put the model in ``eval()`` first.

        Parameters
        ----------
        image
            ``(N, C, rows, columns)``; its masked patches are not looked at.
        noise
            ``(N, L)``: the patches of largest noise are masked.
        steps, eta, generator
            As for `skeltrain.models.diffusion.sample`; ``steps`` of 1 to all, with ``eta`` 1 for DDPM's.

        Raises
        ------
        ModelError
            If shapes or settings do not fit, or the model predicts normalised patches, of which mean and
            spread are unknown.
        """
        samples = self._check_image(image)
        check_noise(noise, samples, self.grid)
        if self.norm_pix_loss:
            raise ModelError(
                "found norm_pix_loss, expected a model of plain pixels: only these can be filled in"
            )
        mask = split(noise, self.masked)
        levels = self._encode(image, mask)
        start = standard_normal((samples, self.masked, self.sizes.pixels), image.device, generator)

        def predict(noisy: Tensor, step: Tensor) -> Tensor:
            return self.decoder(levels, noisy, mask, step).to(image.dtype)

        filled = sample(predict, start.to(image.dtype), self.left, steps, eta, generator)
        patches = patchify(image, self.sizes.patch_size)
        patches = patches.scatter(1, mask.hidden[:, :, None].expand_as(filled), filled)
        return unpatchify(patches, self.sizes.patch_size, self.grid)

    def features(self, image: Tensor, pool: str = "token") -> Tensor:
        """Return one feature vector (N, D) for each image, as `MaskedAutoencoder.features` does."""
        self._check_image(image)
        return vit.features(self.encoder, image, pool)

    def _encode(self, image: Tensor, mask: Mask) -> list[Tensor]:
        """Return the encoder's output, with ``top_down`` after the outputs of all blocks before the last."""
        if self.diffusion.kv == "top_down":
            return vit.encode_levels(self.encoder, image, mask.keep)
        return [vit.encode_visible(self.encoder, image, mask.keep)]

    def _targets(self, image: Tensor, mask: Mask) -> Tensor:
        patches = pixel_targets(image, self.sizes.patch_size, self.norm_pix_loss)
        return patches.gather(1, mask.hidden[:, :, None].expand(-1, -1, patches.shape[-1]))

    def _check_image(self, image: Tensor) -> int:
        return check_image(image, self.sizes.channels, pair(self.sizes.image_size))

    def _check_draw(self, samples: int, noise: Tensor, step: Tensor, pixel_noise: Tensor) -> None:
        check_noise(noise, samples, self.grid)
        pixels = (samples, self.masked, self.sizes.pixels)
        if step.shape != (samples,) or pixel_noise.shape != pixels:
            raise ModelError(
                f"found step of shape {tuple(step.shape)} and pixel_noise of shape "
                f"{tuple(pixel_noise.shape)}, expected ({samples},) and {pixels}"
            )


#: Diffusion masked autoencoders, as checkpoints name them.
FAMILY = Family("diffmae", build_diffmae, lambda model: model.get_submodule("encoder"))
