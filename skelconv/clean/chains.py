"""Cleaning: the published preprocessing chains, each a tuple of small named steps.

A store keeps what was recorded, whole; cleaning happens on the way out of it. `clean` runs a chain on one
recording, `skelconv.clean.samples.pack_samples` on a whole store. docs/cleaning.md describes every step.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Literal

from skelconv.clean import facing, metric, msg3d, ntu, pyskl, ucla
from skelconv.clean.candidates import (
    Actors,
    CleaningError,
    Step,
    cast_every_body,
    drop_bodyless_frames,
    drop_empty_frames,
    zero_missing_joints,
)
from skelconv.store.info import DatasetInfo
from skelconv.store.recording import Recording
from skelformats.registry import Registry
from skelformats.skeleton import Skeleton


@dataclass(frozen=True)
class Chain:
    """A published way from recorded bodies to persons.

    ``steps`` run in order: the first takes a `Recording`, the last gives `Actors`. ``axes`` is the number of
    coordinates that it needs, or None where any will do.
    """

    name: str
    title: str
    source: str
    steps: tuple[Step, ...]
    axes: int | None = None

    @property
    def step_names(self) -> tuple[str, ...]:
        """Names of the steps in order."""
        return tuple(step.__name__ for step in self.steps)

    @property
    def scaling(self) -> Literal["none", "minmax"]:
        """``minmax`` when the chain ends by stretching each axis to [-1, 1]."""
        return "minmax" if self.steps[-1] is ucla.scale_to_unit_range else "none"

    def without_scaling(self) -> Chain:
        """Return the chain without that final scaling, for callers that augment first and scale then."""
        return replace(self, steps=self.steps[:-1]) if self.scaling == "minmax" else self


def clean(recording: Recording, chain: str, skeleton: Skeleton) -> Actors:
    """Run the chain of that name on a recording whose joints are laid out as ``skeleton`` says.

    Raises
    ------
    CleaningError
        The recording has no body, no observed joint, or nothing that the chain keeps.
    UnknownNameError
        There is no such chain, or the layout lacks a joint that the chain needs.
    """
    return run_steps(recording, find_chain(chain), skeleton)


def run_steps(recording: Recording, chain: Chain, skeleton: Skeleton) -> Actors:
    """Run a chain on a recording; errors as `clean`."""
    if recording.bodies and chain.axes is not None:
        axes = recording.bodies[0].position.shape[-1]
        if axes != chain.axes:
            raise CleaningError(
                recording.name,
                f"positions of {axes} axes",
                f"{chain.axes}, as the chain {chain.name!r} needs",
            )
    state: Recording | Actors = recording
    for step in chain.steps:
        state = step(state, skeleton)
    if not isinstance(state, Actors):
        raise TypeError(f"the last step of the chain {chain.name!r} gives no Actors")
    if not state.present.any():
        raise CleaningError(recording.name, "no observed joint in any frame", "at least one")
    return state


def find_chain(name: str) -> Chain:
    """Return the chain called ``name``, ours or of another package; raises `UnknownNameError`."""
    return _registry().find(name)


def chain_names() -> tuple[str, ...]:
    """Names of every chain, installed ones included."""
    return _registry().names()


def default_chain(dataset: DatasetInfo) -> str:
    """Return the chain that a dataset is cleaned with unless asked otherwise: the one that its store names.

    The datasets name those of the S2I paper (section 4.2): SGN's for NTU RGB+D and PKU-MMD, Cheng et al.'s
    for NW-UCLA; all others only the translation. A merged store has the chain of its datasets where that is
    one, else only the translation.
    """
    if dataset.cleaning:
        return dataset.cleaning
    chains = {_BEFORE_STORES_SAID.get(name, "metric") for name in dataset.name.split("+")}
    return chains.pop() if len(chains) == 1 else "metric"


_BEFORE_STORES_SAID = {"ntu60": "sgn", "ntu120": "sgn", "pku1": "sgn", "pku2": "sgn", "ucla": "ucla"}
"""Chains of the datasets whose stores of skelconv 0.1 do not name one; those of all others are ``metric``."""


_NTU_BODIES: tuple[Step, ...] = (
    zero_missing_joints,
    drop_bodyless_frames,
    ntu.close_gaps,
    ntu.drop_short_bodies,
    ntu.measure_motion,
)
_CTRGCN: tuple[Step, ...] = (
    *_NTU_BODIES,
    ntu.drop_spread_bodies,
    ntu.rank_by_motion,
    ntu.choose_main_actors,
    ntu.drop_zero_sum_frames,
    ntu.translate_to_first_frame,
)
_PYSKL: tuple[Step, ...] = (
    *_NTU_BODIES,
    pyskl.drop_all_spread_bodies,
    ntu.rank_by_motion,
    pyskl.choose_apart_actors,
    pyskl.trim_empty_ends,
    pyskl.put_present_actor_first,
    pyskl.round_to_half,
)
_MSG3D: tuple[Step, ...] = (zero_missing_joints, msg3d.fill_slots, msg3d.keep_most_energetic)
_UCLA: tuple[Step, ...] = (
    zero_missing_joints,
    drop_bodyless_frames,
    cast_every_body,
    ucla.centre_on_first_frame,
    ucla.scale_to_unit_range,
)
_METRIC: tuple[Step, ...] = (
    zero_missing_joints,
    drop_bodyless_frames,
    cast_every_body,
    metric.translate_to_first_pose,
)

_SGN_PAPER = "P. Zhang et al., Semantics-Guided Neural Networks (SGN), CVPR 2020: public scripts"
_CTRGCN_PAPER = "Y. Chen et al., Channel-wise Topology Refinement (CTR-GCN), ICCV 2021: public scripts"
_PYSKL_PAPER = "H. Duan et al., PYSKL, ACM MM 2022: public scripts"
_MSG3D_PAPER = "Z. Liu et al., MS-G3D, CVPR 2020: public scripts, after 2s-AGCN"
_UCLA_PAPER = "K. Cheng et al., Shift-GCN, CVPR 2020: feeders of DecoupleGCN and CTR-GCN"

_ALL = (
    Chain(
        name="sgn",
        title="two denoised main actors, translated, only frames that show somebody",
        source=_SGN_PAPER,
        steps=(*_CTRGCN, drop_empty_frames),
    ),
    Chain(
        name="ctrgcn",
        title="two denoised main actors, translated",
        source=_CTRGCN_PAPER,
        steps=_CTRGCN,
    ),
    Chain(
        name="ctrgcn60",
        title="as ctrgcn, an empty second person beside a lone one (NTU-60 arrays)",
        source=_CTRGCN_PAPER,
        steps=(*_CTRGCN, ntu.add_empty_second),
    ),
    Chain(
        name="ctrgcn120",
        title="as ctrgcn, a copy as second person beside a lone one (NTU-120 arrays)",
        source=_CTRGCN_PAPER,
        steps=(*_CTRGCN, ntu.repeat_lone_actor),
    ),
    Chain(
        name="pyskl",
        title="two denoised main actors, rounded to float16",
        source=_PYSKL_PAPER,
        steps=_PYSKL,
    ),
    Chain(
        name="pyskl_prenorm",
        title="as pyskl, then centred and turned upright (PreNormalize3D)",
        source=_PYSKL_PAPER,
        steps=(
            *_PYSKL,
            pyskl.keep_longer_actor,
            pyskl.centre_observed_joints,
            pyskl.turn_first_frame_upright,
        ),
        axes=3,
    ),
    Chain(
        name="msg3d",
        title="the two file slots of largest energy",
        source=_MSG3D_PAPER,
        steps=_MSG3D,
    ),
    Chain(
        name="msg3d_prenorm",
        title="as msg3d, then filled up, centred in every frame and turned upright",
        source=_MSG3D_PAPER,
        steps=(
            *_MSG3D,
            msg3d.start_at_first_shown,
            msg3d.repeat_to_the_end,
            msg3d.centre_every_frame,
            pyskl.turn_first_frame_upright,
        ),
        axes=3,
    ),
    Chain(
        name="ucla",
        title="centred on the first frame, each axis scaled to [-1, 1]",
        source=_UCLA_PAPER,
        steps=_UCLA,
    ),
    Chain(
        name="ucla52",
        title="as ucla, then resampled to 52 frames",
        source=_UCLA_PAPER,
        steps=(*_UCLA, ucla.resample_to_52_frames),
    ),
    Chain(
        name="ucla_facing",
        title="as ucla, turned about the vertical to a canonical facing before it is scaled",
        source="skelconv, after K. Cheng et al.",
        steps=(*_UCLA[:-1], facing.turn_to_face_z, ucla.scale_to_unit_range),
        axes=3,
    ),
    Chain(
        name="metric",
        title="every body, translated to the first pose, in the store's unit",
        source="skelconv",
        steps=_METRIC,
    ),
    Chain(
        name="metric_facing",
        title="as metric, then turned about the vertical to a canonical facing",
        source="skelconv",
        steps=(*_METRIC, facing.turn_to_face_z),
        axes=3,
    ),
    Chain(
        name="none",
        title="every body in every frame, as stored",
        source="skelconv",
        steps=(zero_missing_joints, cast_every_body),
    ),
)

CHAINS: Mapping[str, Chain] = MappingProxyType({chain.name: chain for chain in _ALL})
"""Our chains by name; other packages add theirs through the entry-point group ``skelconv.chains``."""


def _registry() -> Registry[Chain]:
    return Registry("skelconv.chains", "cleaning chain", Chain, CHAINS)
