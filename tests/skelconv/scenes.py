"""Small recordings for tests of cleaning: moving random bodies, upright unless asked otherwise."""

from __future__ import annotations

from collections.abc import Sequence as Numbers

import numpy as np

from skelconv.store.recording import Recording, Sequence
from skelformats.skeleton import load_skeleton

NTU25 = load_skeleton("ntu25")
UCLA20 = load_skeleton("ucla20")
TOYOTA13 = load_skeleton("toyota13")


def body(
    frames: Numbers[int] | range, seed: int = 0, motion: float = 0.3, wide: int = 0, joints: int = 25
) -> Sequence:
    """Make a body seen in the given frames; its first ``wide`` frames are wider than high."""
    rng = np.random.default_rng(seed)
    rest = rng.uniform((-0.2, -0.8, 2.9), (0.2, 0.8, 3.1), (joints, 3))
    position = rest + motion * rng.uniform(-0.3, 0.3, (len(frames), 1, 3))
    position[:wide, :, 0] *= 20
    return Sequence(
        name=f"body_{seed}",
        body=str(seed),
        frame_index=np.array(frames, np.int32),
        position=position.astype(np.float32),
    )


def recording(*bodies: Sequence, length: int | None = None, name: str = "walk") -> Recording:
    last = max((int(one.frame_index[-1]) for one in bodies), default=-1)
    return Recording(name, last + 1 if length is None else length, bodies)
