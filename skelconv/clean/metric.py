"""The chain of datasets without a published one: the unit stays, only the place of the person goes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from skelconv.clean.candidates import Actors, observed_joints
from skelformats.skeleton import Skeleton


def translate_to_first_pose(actors: Actors, skeleton: Skeleton) -> Actors:
    """Move all persons so that the first one's origin is 0 in its first observed frame; units stay.

    The origin is the mean of the skeleton's origin joints. The first frame that shows one of them counts;
    where no frame does, the mean of the joints observed in the first frame that has any. Missing joints and
    absent persons stay at 0.
    """
    observed = observed_joints(actors.position)
    with_joints = observed.any(axis=(1, 2))
    if not with_joints.any():
        return actors
    main = int(np.argmax(with_joints))
    chosen = np.zeros(len(skeleton), np.bool_)
    chosen[list(skeleton.origin)] = True
    usable = observed[main] & chosen
    if not usable.any():
        usable = observed[main]
    frame = int(np.argmax(usable.any(axis=1)))
    origin = actors.position[main, frame, usable[frame]].mean(axis=0, dtype=np.float64).astype(np.float32)
    return replace(actors, position=np.where(observed[..., None], actors.position - origin, np.float32(0)))
