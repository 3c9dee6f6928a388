"""What the tasks on motion share: network, first weights, losses, identity of the data, inference."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field
from torch import Tensor, nn

from skeltrain.checkpoint import find_checkpoint, load_checkpoint
from skeltrain.data.loader import DataError
from skeltrain.data.motion import flip
from skeltrain.data.motion_batches import MotionBatch
from skeltrain.losses.motion import mpjpe, n_mpjpe, velocity, weighted_2d
from skeltrain.models.dstformer import DSTformer
from skeltrain.models.errors import ModelError
from skeltrain.models.motionbert_weights import FRESH_RECOVERY
from skeltrain.models.registry import build, load_backbone
from skeltrain.models.weights import load_motionbert
from skeltrain.recipe import NotNegative, Positive, Section
from skeltrain.run_folder import RunError
from skeltrain.sections import Init
from skeltrain.tasks.registry import Context, Log

FAMILY = "dstformer"

OWN_SUFFIX = ".pt"
"""Of skeltrain's checkpoints; MotionBERT's end in .bin, MMPose's in .pth."""


class Prune(Section):
    """Frames that the network goes on with, as `skeltrain.models.frame_pruning.Prune` has them."""

    after: Positive = 1
    frames: Positive = 81
    neighbours: Positive = 2


class Network(Section):
    """The size of the `DSTformer`; the default is that of the released models.

    Attributes
    ----------
    prune
        Work on representative frames alone from some block on; null prunes nothing.
    """

    dim_feat: Positive = 512
    dim_rep: Positive = 512
    depth: Positive = 5
    num_heads: Positive = 8
    mlp_ratio: Annotated[float, Field(gt=0)] = 2
    maxlen: Positive = 243
    prune: Prune | None = None


class LossWeights(Section):
    """What the losses of 3D clips count (MotionBERT, configs/pretrain/MB_pretrain.yaml).

    Attributes
    ----------
    scale
        Of the distance after the best scale.
    velocity
        Of the distance of the steps from frame to frame.
    """

    scale: NotNegative = 0.5
    velocity: NotNegative = 20.0


def build_network(settings: Network, init: Init, context: Context) -> DSTformer:
    """Build the network of a recipe; a fresh run takes the weights that ``init`` names.

    A folder, or a file that ends in ``.pt``, is a run or checkpoint of skeltrain; any other file is one of
    MotionBERT or MMPose.

    Raises
    ------
    ModelError, WeightsError, CheckpointError
        The settings make no network, or the weights do not fit.
    """
    model = build(FAMILY, settings.model_dump())
    assert isinstance(model, DSTformer)
    if init.weights is not None and context.checkpoint is None:
        context.log(load_weights(model, init.weights))
    return model


def load_weights(model: nn.Module, where: str) -> str:
    """Load weights into a network, and say which.

    A whole model, whose attribute ``backbone`` is the network, takes of a run of skeltrain the backbone
    alone, and of a file of MotionBERT also the head, if there is one.
    """
    path = Path(where)
    if not path.is_dir() and path.suffix != OWN_SUFFIX:
        return load_motionbert(model, path).summary()
    found = find_checkpoint(path)
    backbone = load_backbone(load_checkpoint(found))
    if not isinstance(backbone, DSTformer):
        raise ModelError(f"{found}: found a {type(backbone).__name__}, expected a DSTformer")
    network = model if isinstance(model, DSTformer) else model.get_submodule("backbone")
    assert isinstance(network, DSTformer)
    wanted, given = network.state_dict(), backbone.state_dict()
    pruning = [prune is not None for prune in (network.prune, backbone.prune)]
    if pruning == [True, False]:
        given |= {name: value for name, value in wanted.items() if name.startswith("recover.")}
    elif pruning == [False, True]:
        given = {name: value for name, value in given.items() if not name.startswith("recover.")}
    try:
        network.load_state_dict(given)
    except RuntimeError as error:
        raise ModelError(
            f"{found}: found a network of another size ({str(error).splitlines()[-1].strip()}), expected "
            "that of the recipe. Set model to the sizes in the run's recipe.yaml"
        ) from error
    note = {
        (True, False): f"; {FRESH_RECOVERY}",
        (False, True): "; its recovery of pruned frames is not used",
    }
    return f"weights from {found}{note.get((pruning[0], pruning[1]), '')}"


def check_lengths(lengths: Sequence[int], network: Network) -> None:
    """Raise `DataError` where clips are longer than the network takes, or all too short for its pruning."""
    longest = max(lengths)
    if longest > network.maxlen:
        raise DataError(
            f"found clips of {longest} frames, expected at most the {network.maxlen} of model.maxlen"
        )
    if network.prune is not None and longest <= network.prune.frames:
        raise DataError(
            f"found clips of {longest} frames for model.prune.frames={network.prune.frames}, expected longer "
            "ones: none would be pruned. Keep fewer frames, or leave model.prune out"
        )


def check_same_data(context: Context, identity: Sequence[Mapping[str, Any]]) -> None:
    """Raise `RunError` where a run would go on with other data than it began with."""
    if context.checkpoint is None or not context.same_data:
        return
    before = [dict(entry) for entry in context.checkpoint["metadata"]["data"]]
    now = [dict(entry) for entry in identity]
    if before != now:
        raise RunError(f"found a run on other data ({before} there, {now} here), expected the same data")


def pose_losses(predicted: Tensor, batch: MotionBatch, weights: LossWeights) -> dict[str, Tensor]:
    """Return ``loss`` of clips, and what it is made of; means are over all joints, seen or not.

    With depth: position, scale and velocity, over the joints that are known, and steps between frames where
    both are. Without: the distance in the picture, by confidence.
    """
    seen = batch.weight > 0
    guess, truth = (x.masked_fill(~seen, 0.0) for x in (predicted, batch.target))
    if not batch.depth:
        loss = weighted_2d(guess, truth, batch.weight)
        return {"loss": loss, "loss_2d": loss}
    position, scaled = mpjpe(guess, truth), n_mpjpe(guess, truth)
    if guess.shape[1] > 1:
        both = seen[:, 1:] & seen[:, :-1]
        speed = mpjpe(*(x.diff(dim=1).masked_fill(~both, 0.0) for x in (guess, truth)))
    else:
        speed = velocity(guess, truth)
    loss = position + weights.scale * scaled + weights.velocity * speed
    return {"loss": loss, "position": position, "scale": scaled, "velocity": speed}


class MotionTask(nn.Module):
    """A network that predicts motion: ``forward(batch)`` gives the losses of a `MotionBatch`."""

    def __init__(self, model: DSTformer, weights: LossWeights) -> None:
        super().__init__()
        self.model = model
        self._weights = weights

    def forward(self, batch: MotionBatch) -> dict[str, Tensor]:
        """Return ``loss`` and its terms."""
        return pose_losses(self.model(batch.input), batch, self._weights)

    def compile(self, *args: Any, **kwargs: Any) -> None:
        """Compile the network alone."""
        self.model.compile(*args, **kwargs)


def infer(model: nn.Module, clips: Tensor, relative: bool, flip_test: bool) -> Tensor:
    """Return the motion (N, T, J, 3) that a network in evaluation mode predicts of clips.

    Parameters
    ----------
    relative
        The root of every frame is put at 0.
    flip_test
        Take the mean with what it predicts of the mirrored clips.
    """
    motion: Tensor = model(clips).float()
    if flip_test:
        motion = (motion + flip(model(flip(clips)).float())) / 2
    if relative:
        motion = motion.clone()
        motion[:, :, 0] = 0.0
    return motion


def describe(parameters: nn.Module, log: Log, precision: str) -> None:
    """Say how large a network is."""
    count = sum(p.numel() for p in parameters.parameters() if p.requires_grad)
    log(f"model: DSTformer, {count / 1e6:.2f} M parameters, {precision}")
