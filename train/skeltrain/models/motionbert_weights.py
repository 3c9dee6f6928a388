"""MotionBERT's released weights into our models, with an account of every key.

Sources: checkpoints of its pretraining and 3D pose training (``model_pos``: one `DSTformer`), of action and
mesh training (``model``: ``backbone.*`` and ``head.*``), and MMPose's converted ones (``state_dict``: other
names). Files are read with ``weights_only``: nothing in them is run. docs/motionbert.md has the key map.
"""

from __future__ import annotations

import pickle
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from skeltrain.models.dstformer import DSTformer
from skeltrain.models.errors import WeightsError
from skeltrain.models.weight_report import WeightReport, listing

#: Where a checkpoint keeps its tensors, in the order of looking.
_CONTENT = ("model_pos", "model", "state_dict")

#: Every DSTformer has exactly one tensor of this name; what stands before it is where the network is.
_LANDMARK = "joints_embed.weight"

#: MMPose's names of tensors, as patterns below the network, and MotionBERT's.
_MMPOSE = (
    (re.compile(r"^spat_embed$"), "pos_embed"),
    (re.compile(r"^attn_regress\."), "ts_attn."),
    (re.compile(r"^(blocks_(?:st|ts)\.\d+\.mlp_[st])\.0\."), r"\1.fc1."),
    (re.compile(r"^(blocks_(?:st|ts)\.\d+\.mlp_[st])\.2\."), r"\1.fc2."),
)

_BLOCK = re.compile(r"^backbone\.blocks_st\.(\d{1,3})\.")

#: What MMPose has as its head, and where that is in MotionBERT's network.
_MMPOSE_HEAD = {"head.pre_logits.": "pre_logits.", "head.fc.": "head."}

#: Tensors whose shapes tell the settings of a network, and how many axes each has.
_AXES = {
    _LANDMARK: 2,
    "head.weight": 2,
    "pre_logits.fc.weight": 2,
    "blocks_st.0.mlp_s.fc1.weight": 2,
    "pos_embed": 3,
    "temp_embed": 4,
}

#: What numpy's numbers and arrays are made with in a pickle; modules are named by the numpy that wrote it.
_NUMPY = (
    "numpy.dtype",
    "numpy.ndarray",
    *(f"numpy.{core}.multiarray.{name}" for core in ("core", "_core") for name in ("scalar", "_reconstruct")),
)

#: What recovers pruned frames, an option of our own that no released file has.
_RECOVERY = "backbone.recover."

#: The body model that official mesh checkpoints carry; ours is the user's own file.
_BODY = "head.smpl."


FRESH_RECOVERY = (
    "the recovery of pruned frames (recover) is fresh: it interpolates in time until it is trained"
)


@dataclass(frozen=True, eq=False)
class MotionBERTFile:
    """What a checkpoint holds.

    Attributes
    ----------
    source
        The file.
    tensors
        Its tensors under the names of our models: a bare network's are ``backbone.*``, a head's ``head.*``.
    keys
        The file's name of each.
    unknown
        The file's other keys, of no network of MotionBERT.
    """

    source: str
    tensors: Mapping[str, Tensor]
    keys: Mapping[str, str]
    unknown: tuple[str, ...]

    def settings(self) -> dict[str, Any]:
        """Return the arguments of the `DSTformer` that the tensors fit.

        The number of heads shows in no tensor; every released model has 8, the default.

        Raises
        ------
        WeightsError
            Tensors that every such network has are not there, or have another number of axes.
        """

        def shape(name: str) -> tuple[int, ...]:
            tensor, axes = self.tensors.get(f"backbone.{name}"), _AXES[name]
            if tensor is None or tensor.ndim != axes:
                found = "no tensor" if tensor is None else f"shape {tuple(tensor.shape)} for"
                expected = f"a network of MotionBERT, with {axes} axes there"
                raise WeightsError(self.source, f"{found} {name}", expected)
            return tuple(tensor.shape)

        width, dim_in = shape("joints_embed.weight")
        blocks = [int(block[1]) for name in self.tensors if (block := _BLOCK.match(name))]
        return {
            "dim_in": dim_in,
            "dim_out": shape("head.weight")[0],
            "dim_feat": width,
            "dim_rep": shape("pre_logits.fc.weight")[0],
            "depth": max(blocks, default=-1) + 1,
            "mlp_ratio": _whole(shape("blocks_st.0.mlp_s.fc1.weight")[0] / max(width, 1)),
            "num_joints": shape("pos_embed")[1],
            "maxlen": shape("temp_embed")[1],
            "att_fuse": any(name.startswith("backbone.ts_attn.") for name in self.tensors),
        }


def load_motionbert(model: nn.Module, path: str | Path, strict: bool = True) -> WeightReport:
    """Load a checkpoint of MotionBERT, or MMPose's conversion of one, into a model.

    Parameters
    ----------
    model
        A `DSTformer`, an `ActionNet` or a `MeshNet`. Changed in place, and only if everything fits.
    strict
        Whether anything but this is an error: every tensor of the model is in the file and of its shape, and
        the other way round. Three things are no fault and are only reported: a head that one side has and the
        other has not (a pretrained network under a new head, or a network taken from a whole model), the
        body model in a mesh checkpoint, and the recovery of a network that prunes frames. When off, every
        tensor of equal name and shape is taken.

    Raises
    ------
    WeightsError
        The file cannot be read safely, is none of these, or does not fit; the text names the keys, their
        shapes, and the settings that would fit.
    """
    file = read_motionbert(path)
    alone = isinstance(model, DSTformer)
    state = {f"backbone.{name}" if alone else name: value for name, value in model.state_dict().items()}
    fitting = [
        name for name in state if name in file.tensors and file.tensors[name].shape == state[name].shape
    ]
    if strict:
        _check(file, state)
    if not fitting:
        raise WeightsError(file.source, "no tensor of this model", f"some of its {len(state)}")
    with torch.no_grad():
        for name in fitting:
            state[name].copy_(file.tensors[name])
    loaded = set(fitting)

    def ours(name: str) -> str:
        return name.removeprefix("backbone.") if alone else name

    return WeightReport(
        source=file.source,
        matched=tuple(ours(name) for name in fitting),
        missing=tuple(ours(name) for name in state if name not in loaded),
        unused=(*(key for name, key in file.keys.items() if name not in loaded), *file.unknown),
        parts=() if alone else ("backbone", "head"),
        note=FRESH_RECOVERY if any(n.startswith(_RECOVERY) and n not in loaded for n in state) else "",
    )


def read_motionbert(path: str | Path) -> MotionBERTFile:
    """Read a checkpoint and give its tensors the names of our models; raises `WeightsError`."""
    tensors = _tensors(Path(path))
    bare = {key: key.removeprefix("module.") for key in tensors}
    landmarks = [name for name in bare.values() if name == _LANDMARK or name.endswith(f".{_LANDMARK}")]
    if len(landmarks) != 1 or landmarks[0].removesuffix(_LANDMARK) not in ("", "backbone."):
        raise WeightsError(
            str(path),
            f"{len(landmarks)} keys ending in {_LANDMARK!r} among {len(tensors)} tensors",
            "exactly one, alone or behind 'module.' and 'backbone.': a checkpoint of MotionBERT, or one that "
            "MMPose converted",
        )
    within = landmarks[0] != _LANDMARK
    mmpose = f"{'backbone.' if within else ''}spat_embed" in bare.values()
    keys: dict[str, str] = {}
    unknown = []
    for key, name in bare.items():
        if name.startswith("backbone."):
            inner = name.removeprefix("backbone.")
            keys[f"backbone.{_rename(inner) if mmpose else inner}"] = key
        elif mmpose and name.startswith(tuple(_MMPOSE_HEAD)):
            theirs = next(prefix for prefix in _MMPOSE_HEAD if name.startswith(prefix))
            keys[f"backbone.{_MMPOSE_HEAD[theirs]}{name.removeprefix(theirs)}"] = key
        elif within and name.startswith("head."):
            keys[name] = key
        elif not within:
            keys[f"backbone.{_rename(name) if mmpose else name}"] = key
        else:
            unknown.append(key)
    return MotionBERTFile(str(path), {name: tensors[key] for name, key in keys.items()}, keys, tuple(unknown))


def _rename(name: str) -> str:
    for pattern, ours in _MMPOSE:
        name = pattern.sub(ours, name)
    return name


def _tensors(path: Path) -> dict[str, Tensor]:
    if not path.is_file():
        found = "a folder" if path.is_dir() else "no such file"
        raise WeightsError(str(path), found, "a .bin, .pth or .pt file of MotionBERT or MMPose")
    try:
        with torch.serialization.safe_globals([(_Inert, name) for name in _NUMPY]):
            content = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError, KeyError, OSError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise WeightsError(
            str(path),
            f"nothing that can be read safely ({reason})",
            "tensors and plain numbers saved by torch.save, and no other objects",
            "Nothing in it was run. If you trust where it is from, save its tensors alone",
        ) from error
    for key in _CONTENT:
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
            break
    if not isinstance(content, Mapping):
        raise WeightsError(
            str(path),
            f"an object of type {type(content).__name__}",
            f"a state dict, alone or under one of the keys {', '.join(_CONTENT)}",
        )
    return {str(key): value for key, value in content.items() if isinstance(value, Tensor)}


class _Inert:
    """Stands for a numpy object in a checkpoint: takes what would make it, and keeps nothing.

    The official training stores its least error as a numpy number, MMPose arrays of its data set. Only
    tensors are wanted, and numpy's own unpickling trusts what it is given.
    """

    def __init__(self, *_: object) -> None:
        pass

    def __setstate__(self, state: object) -> None:
        pass


def _check(file: MotionBERTFile, state: Mapping[str, Tensor]) -> None:
    """Raise `WeightsError` unless file and model have the same tensors, whole heads and body models apart."""
    for part in ("backbone.", "head."):
        wanted = [name for name in state if name.startswith(part)]
        given = [name for name in file.tensors if name.startswith(part) and not name.startswith(_BODY)]
        if part == "head." and (not wanted or not given):
            continue
        what = "network" if part == "backbone." else "head"
        wrong = [
            f"{file.keys[name]} {tuple(file.tensors[name].shape)} instead of {tuple(state[name].shape)}"
            for name in wanted
            if name in file.tensors and file.tensors[name].shape != state[name].shape
        ]
        surplus = [file.keys[name] for name in given if name not in state]
        surplus += file.unknown if part == "backbone." else ()
        missing = [
            name.removeprefix("backbone.")
            for name in wanted
            if name not in file.tensors and not name.startswith(_RECOVERY)
        ]
        found = [
            text
            for names, text in (
                (wrong, f"shapes of another {what}: {listing(wrong, '; ')}"),
                (missing, f"no values for {listing(missing)}"),
                (surplus, f"tensors that the model has no place for: {listing(surplus)}"),
            )
            if names
        ]
        if found:
            raise WeightsError(
                file.source,
                "; ".join(found),
                f"the {len(wanted)} tensors of this model's {what}",
                _action(file, state, part),
            )


def _action(file: MotionBERTFile, state: Mapping[str, Tensor], part: str) -> str:
    """Say which settings would fit."""
    if part == "head.":
        shapes = {
            name.removeprefix("head."): tuple(value.shape)
            for name, value in file.tensors.items()
            if name.startswith("head.") and name.endswith("weight") and not name.startswith(_BODY)
        }
        text = ", ".join(f"{name} {shape}" for name, shape in shapes.items())
        return f"The file's head has {text}: build the model with these sizes, or load the network only"
    asked = MotionBERTFile("the model", state, {}, ()).settings()
    try:
        fits = file.settings()
    except WeightsError as error:
        return f"No settings would fit: {error.found}, expected {error.expected}"
    differing = {name: value for name, value in fits.items() if value != asked[name]}
    if not differing:
        return "The file is of another architecture, or incomplete"
    wanted = ", ".join(f"{name}={value}" for name, value in differing.items())
    has = ", ".join(f"{name}={asked[name]}" for name in differing)
    return f"Build the model with DSTformer({wanted}) where it has {has}"


def _whole(ratio: float) -> float:
    return int(ratio) if ratio == int(ratio) else ratio
