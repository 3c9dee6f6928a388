"""Pretrained weights into our models, with an account of every key.

Sources: MAE's released files (encoder only, or "full" with the decoder), a timm hub id such as
``timm/vit_base_patch16_224.mae``, any file of a timm vision transformer, and checkpoints of skeltrain.
An encoder is taken whole or not at all; docs/models.md has the key map.
"""

from __future__ import annotations

import argparse
import pickle
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import timm
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor

from skeltrain.models.diffmae import DiffusionMAE
from skeltrain.models.errors import WeightsError
from skeltrain.models.feature_prediction import FeaturePredictor
from skeltrain.models.mae import MaskedAutoencoder
from skeltrain.models.motionbert_weights import load_motionbert
from skeltrain.models.weight_report import WeightReport
from skeltrain.models.weight_report import listing as _listing

__all__ = [
    "WeightReport",
    "Weights",
    "load_diffmae",
    "load_encoder",
    "load_feature_predictor",
    "load_mae",
    "load_motionbert",
    "our_name",
    "read_weights",
]

HUB_PREFIX = "timm/"

#: MAE's names for the decoder, and ours. Every other name of MAE's is the encoder's, which is timm's.
DECODER_NAMES: Mapping[str, str] = {
    "mask_token": "decoder.mask_token",
    "decoder_pos_embed": "decoder.pos_embed",
    "decoder_embed.": "decoder.embed.",
    "decoder_blocks.": "decoder.blocks.",
    "decoder_norm.": "decoder.norm.",
    "decoder_pred.": "decoder.pred.",
}


#: A key that every vision transformer has exactly once; what stands before it is where the encoder is.
_LANDMARK = "patch_embed.proj.weight"

#: What may lie beside an encoder and be left there. Any other surplus key belongs to another architecture.
_HEADS = ("encoder.head.", "encoder.head_dist.", "encoder.fc_norm.", "encoder.pre_logits.")

#: A decoder that has this belongs to a diffusion masked autoencoder; one that has not, to MAE.
_DIFFUSION = "decoder.embed_noisy.weight"

#: The slowly following copy of an encoder that predicts features: never what is meant by its weights.
_TEACHER = "teacher."

#: What the readers of torch and safetensors raise for a file that is damaged, or something else altogether.
UNREADABLE = (
    *(pickle.UnpicklingError, SafetensorError, RuntimeError, EOFError, ValueError, OSError),
    *(KeyError, IndexError, TypeError, AttributeError),
)


def load_mae(model: MaskedAutoencoder, source: str | Path) -> WeightReport:
    """Load the encoder of ``source``, and the decoder too if it has one, into ``model``.

    Parameters
    ----------
    model
        Changed in place, and only if everything fits.
    source
        A file, or a timm hub id beginning with ``timm/`` (downloads once, into the Hugging Face cache).

    Raises
    ------
    WeightsError
        If the source cannot be read, lacks a tensor of the encoder (or part of the decoder), has one of
        another shape, or has tensors of another architecture.
    """
    weights = read_weights(source)
    return _load(dict(model.state_dict()), weights, _parts(weights, "mae"))


def load_diffmae(model: DiffusionMAE, source: str | Path) -> WeightReport:
    """Load the encoder of ``source`` into ``model``, and of the decoder what there is.

    No official weights of a diffusion masked autoencoder are public, so training starts from MAE's: the
    encoder, and from a file with MAE's decoder every tensor of it that plays the same role here. A checkpoint
    of a diffusion masked autoencoder is loaded whole. Parameters and errors as for `load_mae`.
    """
    weights = read_weights(source)
    named = dict(model.state_dict())
    if weights.kind == "diffmae":
        return _load(named, weights, ("encoder", "decoder"))
    report = _load(named, weights, ("encoder",))
    shared = [name for name in named if name.startswith("decoder.") and name in weights.tensors]
    fitting = [name for name in shared if named[name].shape == weights.tensors[name].shape]
    with torch.no_grad():
        for name in fitting:
            named[name].copy_(weights.tensors[name])
    loaded = {*report.matched, *fitting}
    used = {weights.keys[name] for name in fitting}
    return replace(
        report,
        matched=(*report.matched, *fitting),
        missing=tuple(name for name in named if name not in loaded),
        unused=tuple(key for key in report.unused if key not in used),
        note=(
            "these are not the weights of a diffusion masked autoencoder, of which no official ones are "
            "public: it starts from them"
        ),
    )


def load_feature_predictor(model: FeaturePredictor, source: str | Path) -> WeightReport:
    """Load the encoder of ``source`` as student and as teacher; parameters and errors as for `load_mae`."""
    report = load_encoder(model.encoder, source)
    model.teacher.load_state_dict(model.encoder.state_dict())
    return report


def load_encoder(encoder: VisionTransformer, source: str | Path) -> WeightReport:
    """Load the encoder of ``source`` into a vision transformer without a head; errors as for `load_mae`."""
    named = {f"encoder.{name}": value for name, value in encoder.state_dict().items()}
    return _load(named, read_weights(source), ("encoder",))


@dataclass(frozen=True, eq=False)
class Weights:
    """Tensors of a source under our names; ``keys`` gives the source's name of each, ``other`` the rest.

    Attributes
    ----------
    kind
        ``encoder`` alone, or with the decoder of a masked autoencoder (``mae``) or of a diffusion masked
        autoencoder (``diffmae``).
    """

    source: str
    tensors: Mapping[str, Tensor]
    keys: Mapping[str, str]
    other: tuple[str, ...]

    @property
    def kind(self) -> str:
        """What the source is."""
        if _DIFFUSION in self.tensors:
            return "diffmae"
        return "mae" if any(name.startswith("decoder.") for name in self.tensors) else "encoder"


def read_weights(source: str | Path) -> Weights:
    """Read a file or hub id and give its tensors our names; raises `WeightsError`."""
    text = str(source)
    if text.startswith(HUB_PREFIX) and not Path(text).exists():
        return _rename(text, _from_hub(text))
    return _rename(text, _from_file(Path(source)))


def _from_hub(source: str) -> dict[str, Tensor]:
    name = source.removeprefix(HUB_PREFIX)
    if not timm.is_model(name):
        raise WeightsError(
            source,
            "no vision transformer of that name in timm",
            "a hub id such as timm/vit_base_patch16_224.mae, or a file",
        )
    try:
        return timm.create_model(name, pretrained=True, num_classes=0).state_dict()
    except (OSError, RuntimeError) as error:  # no network, no such repository; no weights of that name
        raise WeightsError(
            source,
            f"no weights to be had ({_first_line(error)})",
            "weights in the Hugging Face cache, or a network to fetch them through",
            "Without a network, fetch the file elsewhere and give its path instead",
        ) from error


def _from_file(path: Path) -> dict[str, Tensor]:
    if not path.is_file():
        found = "a folder" if path.is_dir() else "no such file"
        raise WeightsError(
            str(path),
            found,
            "a .pth, .pt or .safetensors file, or a hub id such as timm/vit_base_patch16_224.mae",
        )
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        # Checkpoints of MAE's own training script carry its command line beside the tensors.
        with torch.serialization.safe_globals([argparse.Namespace]):
            content = torch.load(path, map_location="cpu", weights_only=True)
    except UNREADABLE as error:
        raise WeightsError(
            str(path),
            f"nothing that can be read safely ({_first_line(error)})",
            "tensors saved by torch.save or safetensors, and no other objects",
        ) from error
    return _state_dict(path, content)


def _state_dict(path: Path, content: object) -> dict[str, Tensor]:
    """Take the tensors out of what a checkpoint file holds."""
    for key in ("model", "state_dict"):
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
    if not isinstance(content, Mapping):
        raise WeightsError(
            str(path),
            f"an object of type {type(content).__name__}",
            "a state dict, alone or under the key 'model' or 'state_dict'",
        )
    return {str(key): value for key, value in content.items() if isinstance(value, Tensor)}


def _rename(source: str, tensors: Mapping[str, Tensor]) -> Weights:
    """Find out whose names these are, and give the tensors ours."""
    landmarks = [key for key in tensors if key.endswith(_LANDMARK) and _TEACHER not in key]
    if len(landmarks) != 1:
        raise WeightsError(
            source,
            f"{len(landmarks)} keys ending in {_LANDMARK!r} among {len(tensors)} tensors",
            "exactly one: the weights of one vision transformer",
        )
    prefix = landmarks[0].removesuffix(_LANDMARK)
    ours = prefix.endswith("encoder.")
    root = prefix.removesuffix("encoder.") if ours else prefix
    keys: dict[str, str] = {}
    other = []
    for key in tensors:
        name = key.removeprefix(root)
        if not key.startswith(root) or (ours and not name.startswith(("encoder.", "decoder."))):
            other.append(key)
        else:
            keys[name if ours else our_name(name)] = key
    return Weights(source, {name: tensors[key] for name, key in keys.items()}, keys, tuple(other))


def our_name(key: str) -> str:
    """Return our name of the tensor that MAE, or timm, calls ``key``."""
    for theirs, ours in DECODER_NAMES.items():
        if key == theirs or (theirs.endswith(".") and key.startswith(theirs)):
            return ours + key.removeprefix(theirs)
    return f"encoder.{key}"


def _parts(weights: Weights, kind: str) -> tuple[str, ...]:
    """Return what a model of that kind takes from a source: the encoder, and the decoder if it is its own."""
    return ("encoder", "decoder") if weights.kind == kind else ("encoder",)


def _load(model: Mapping[str, Tensor], weights: Weights, parts: tuple[str, ...]) -> WeightReport:
    """Copy the tensors of ``parts`` into ``model`` (name to live tensor), after checking all of them."""
    wanted = [name for name in model if name.startswith(tuple(f"{part}." for part in parts))]
    _check(wanted, model, weights, parts)
    with torch.no_grad():
        for name in wanted:
            model[name].copy_(weights.tensors[name])
    loaded = set(wanted)
    unused = [weights.keys[name] for name in weights.tensors if name not in loaded]
    return WeightReport(
        source=weights.source,
        matched=tuple(wanted),
        missing=tuple(name for name in model if name not in loaded),
        unused=(*unused, *weights.other),
        kind=weights.kind,
    )


def _check(wanted: list[str], model: Mapping[str, Tensor], weights: Weights, parts: tuple[str, ...]) -> None:
    """Raise `WeightsError` unless ``weights`` has exactly the tensors of ``parts``, heads apart."""
    what = " and ".join(parts)
    missing = [name for name in wanted if name not in weights.tensors]
    if missing:
        raise WeightsError(
            weights.source,
            f"no values for {_listing(missing)}",
            f"all {len(wanted)} tensors of the {what}",
            "Choose the model size and parts that this file was saved from",
        )
    wrong = [
        f"{weights.keys[name]} {tuple(weights.tensors[name].shape)} instead of {tuple(model[name].shape)}"
        for name in wanted
        if weights.tensors[name].shape != model[name].shape
    ]
    if wrong:
        raise WeightsError(
            weights.source,
            _listing(wrong, separator="; "),
            f"the shapes of this model's {what}",
            "Choose the model size, image size and patch size that these weights were made for",
        )
    known = set(wanted)
    surplus = [
        weights.keys[name]
        for name in weights.tensors
        if name not in known
        and name.startswith(tuple(f"{part}." for part in parts))
        and not name.startswith(_HEADS)
    ]
    if surplus:
        raise WeightsError(
            weights.source,
            f"tensors that this model's {what} does not have: {_listing(surplus)}",
            f"the {len(wanted)} tensors of this model's {what}",
            "The weights are of another depth or architecture, and would not compute the same here",
        )


def _first_line(error: BaseException) -> str:
    text = str(error).strip()
    return text.splitlines()[0] if text else type(error).__name__
