"""Recipes of mesh recovery, and the user's body model that they name."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import model_validator

from skelformats.body_folder import find_model
from skelformats.errors import SkelconvError
from skelformats.smpl import BodyModel, load_body_model
from skeltrain.data.mesh_batches import Scale
from skeltrain.data.motion_batches import Source
from skeltrain.losses.mesh import WEIGHTS
from skeltrain.models.errors import ModelError
from skeltrain.models.mesh import BodyJoints, Layout
from skeltrain.models.motion_heads import MESH_HIDDEN
from skeltrain.recipe import Fraction, NotNegative, Positive, Recipe, Section
from skeltrain.sections import PATHS_ARE_STORES, Init
from skeltrain.tasks.motion_common import Network
from skeltrain.tasks.pose3d import Test

PROTOCOLS = {"pw3d": "pw3d", "amass": "official", "motionbert_mesh": "official"}
"""Splits that are used by dataset, where ``protocol`` is ``auto``."""

WHERE_FROM = (
    "SMPL's neutral model (basicModel_neutral_lbs_10_207_0_v1.0.0.pkl or SMPL_NEUTRAL.pkl) is free for "
    "research, after registration, at https://smplify.is.tue.mpg.de; skelconv synth pw3d writes a synthetic "
    "one for generated data. Name it with --set body.model=FILE"
)


class BodyFiles(Section):
    """The user's body model: its licence forbids to pass it on, so no checkpoint holds it.

    Attributes
    ----------
    model
        SMPL's file, ``.npz`` or the original pickle; or a folder with the one for gender neutral.
    regressor
        ``.npy`` with what makes the joints of h36m17 (17, V) of its vertices.
    mean
        ``smpl_mean_params.npz``, where the head starts; null starts from the rest pose, upright and facing
        the camera.
    """

    model: str | None = None
    regressor: str | None = None
    mean: str | None = None


class MeshEntry(Section):
    """One of several stores; null keeps what the section says for all of them.

    Attributes
    ----------
    until
        Epoch from which on it is trained on no more.
    flip
        Probability of mirroring its clips.
    """

    store: str
    protocol: str | None = "auto"
    train: str | None = None
    length: Positive | None = None
    stride: Positive | None = None
    until: Positive | None = None
    flip: Fraction | None = None


class MeshData(Section):
    """The stores of bodies, and how they are cut into clips.

    Attributes
    ----------
    store, stores
        One, or several, which every epoch goes through one after the other; the last one is evaluated.
    protocol, train, test
        Split and its two parts; ``auto`` is the published one of 3DPW, AMASS and MotionBERT's mesh files,
        else all is trained on, and evaluated only when asked for.
    input
        Whose 2D poses, in training and in tests alike: a detector's, or those that the true bodies make.
    scale
        What the 2D poses are scaled to: the picture, as in the released code, or the square about the person,
        as predictions are made. ``crop`` is then the range of its side in training, in units of the extent.
    length, stride
        Of the clips of the training parts; the test part has clips one after another.
    """

    store: str | None = None
    stores: Annotated[tuple[MeshEntry, ...], PATHS_ARE_STORES] = ()
    protocol: str | None = "auto"
    train: str = "train"
    test: str = "test"
    input: Source = "detection"
    scale: Scale = "picture"
    crop: tuple[NotNegative, NotNegative] = (1.0, 1.0)
    length: Positive = 16
    stride: Positive = 8

    @model_validator(mode="after")
    def _checked(self) -> MeshData:
        if self.stores and self.store is not None:
            raise ValueError("found both store and stores; give one of the two")
        low, high = self.crop
        if not 0 < low <= high:
            raise ValueError(f"found crop {low:g} to {high:g}, expected numbers above 0 that rise")
        return self

    def each(self) -> tuple[MeshEntry, ...]:
        """Return every store."""
        if self.store is None:
            return self.stores
        return (MeshEntry(store=self.store, protocol=self.protocol),)


class MeshNetwork(Network):
    """The size of the `DSTformer`, and of the head on it; the default is that of the released models."""

    hidden_dim: Positive = MESH_HIDDEN
    dropout_ratio: Fraction = 0.1


class MeshWeights(Section):
    """What each loss counts (MotionBERT, MB_ft_h36m_mesh.yaml); joints in millimetres.

    Attributes
    ----------
    joints, velocity
        Distance of the joints relative to the root, and of their steps from frame to frame.
    pose, shape
        Mean absolute difference of rotation matrices, and of shape coefficients.
    norm
        Length of the vector of pose and shape.
    """

    joints: NotNegative = WEIGHTS["joints"]
    velocity: NotNegative = WEIGHTS["velocity"]
    pose: NotNegative = WEIGHTS["pose"]
    shape: NotNegative = WEIGHTS["shape"]
    norm: NotNegative = WEIGHTS["norm"]


class Refine(Section):
    """Correct estimates of bodies instead of making them from 2D poses alone.

    Attributes
    ----------
    run
        Run of task mesh that makes the estimates, which the new checkpoint then holds too; null takes those
        of another method from the stores' arrays ``estimate_pose`` and ``estimate_shape``.
    layout
        How rotations are given to the refiner; ``rows`` for weights of the released one, which turns what it
        should leave alone (`skeltrain.models.mesh.Layout`).
    """

    run: str | None = None
    layout: Layout = "columns"


class MeshRecipe(Recipe):
    """Pose and shape of SMPL from 2D pose.

    Attributes
    ----------
    flip
        Probability of mirroring a clip in training.
    backbone_rate
        The backbone's learning rate in units of the head's; 0 leaves it as it is.
    refine
        Settings of a refiner; null makes bodies from 2D poses alone.
    """

    task: Literal["mesh"] = "mesh"
    data: MeshData = MeshData()
    flip: Fraction = 0.5
    model: MeshNetwork = MeshNetwork()
    body: BodyFiles = BodyFiles()
    loss: MeshWeights = MeshWeights()
    backbone_rate: Fraction = 0.1
    refine: Refine | None = None
    test: Test = Test()
    init: Init = Init()

    FREE: ClassVar[tuple[str, ...]] = (*Recipe.FREE, "body.model", "body.regressor", "body.mean")


def load_body(files: BodyFiles) -> tuple[BodyModel, BodyJoints]:
    """Load the body model of a recipe, and what makes joints of it.

    Raises
    ------
    ModelError
        None is named, it is not SMPL, or there is no regressor for it.
    BodyModelError, FormatError
        A file is not there, or cannot be read.
    """
    if files.model is None:
        raise ModelError(f"found no body model, expected SMPL's. {WHERE_FROM}")
    place = Path(files.model)
    if not place.exists():
        raise ModelError(f"{place}: found no such file, expected SMPL's. {WHERE_FROM}")
    model = load_body_model(find_model(place, "smpl", "neutral"))
    try:
        return model, BodyJoints(model, files.regressor)
    except SkelconvError as error:
        if files.regressor is None:
            raise ModelError(f"{error}. Name it with --set body.regressor=FILE") from error
        raise


def body_identity(model: BodyModel, joints: BodyJoints) -> dict[str, Any]:
    """Say which body model it is, as plain data: equal for two copies of one, wherever they lie."""
    digest = hashlib.sha256()
    for array in (model.template, model.shape_directions, joints.regressor.cpu().numpy()):
        digest.update(array.tobytes())
    return {"dataset": "body model", "digest": digest.hexdigest()}
