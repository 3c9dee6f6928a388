"""The noise of a 2D detector: what MotionBERT adds to true 2D poses, and how it then scores them.

K. Wang et al., PoseLifter (2020): an error is drawn from a joint's normal distribution, or, with the rest of
the probability, from a uniform one. W. Zhu et al., MotionBERT (ICCV 2023), section 3.3, fits both to a
detector's errors, makes them change slowly over time, and fits the score that such a detector gives to its
distance.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from skeltrain.data.motion_random import Array, Randomness, as_tensor, like, normal, uniform
from skeltrain.models.errors import ModelError

#: For each joint of h36m17: mean x, mean y, deviation x, deviation y, weight of the normal distribution.
#: MotionBERT (Apache-2.0), params/synthetic_noise.pth, sha256 9c801dfb...; positions are in [-1, 1].
_JOINTS = (
    (0.000813253220642, 0.000212395779434, 0.00366263004164, 0.00357260579839, 0.998745424878),
    (-0.00014820766368, 0.00199760265983, 0.00713492849314, 0.00510918655217, 0.966954301051),
    (0.00203882421089, -0.00151008290568, 0.00608442268914, 0.00500342584474, 0.889606868859),
    (0.000943847457031, 0.000908369923775, 0.0089530241868, 0.0052931741382, 0.893835329616),
    (0.00186711024853, -0.000703703445069, 0.00671657744431, 0.00532772590505, 0.974620207449),
    (0.00193283960705, -0.00520416580497, 0.00701292391843, 0.0049212298048, 0.876672936096),
    (0.000894205643628, -0.00187177111369, 0.00950580441068, 0.00562536911203, 0.821006254287),
    (0.00246769431205, 0.00233391687418, 0.00658831892116, 0.00496766957019, 0.957807386397),
    (0.00214122240826, -0.00650841104397, 0.0054914247446, 0.00530532901681, 0.918314634741),
    (0.0016559242553, 0.00165510843782, 0.00533883124637, 0.00487664200285, 0.967940316725),
    (0.000836943968957, 0.00159293522385, 0.00341637764777, 0.003492242145, 0.984119811911),
    (0.000793935361897, -0.00462190916312, 0.00800661725446, 0.00608720444852, 0.890993166463),
    (0.00149935400204, 0.000296017135455, 0.00516767229847, 0.00475361500588, 0.801556174638),
    (0.00115918245908, 0.00162996435295, 0.00499040392958, 0.0050890378118, 0.702770229759),
    (0.0021038208682, -0.00316605189849, 0.00782345455712, 0.00793426616564, 0.880895627657),
    (0.0016822635946, -0.000330003253471, 0.00600908629726, 0.005721288595, 0.824628773829),
    (0.0016638808526, 0.00131751548934, 0.00537029969115, 0.00568407164729, 0.728747609789),
)  # fmt: skip


@dataclass(frozen=True, eq=False)
class NoiseParameters:
    """How a detector errs, and scores itself. Lengths are in the unit of the positions, [-1, 1].

    Attributes
    ----------
    mean, deviation
        (J, 2) of the normal distribution of each joint's error.
    weight
        (J,) probability of it; else the error is uniform.
    uniform_range
        Width of the uniform distribution about 0.
    key_frames
        Errors that are drawn along a clip; between them they are interpolated.
    jitter
        Deviation of what every frame has on top.
    score_a, score_b, score_mean, score_deviation
        A joint that is off by d scores a / (a + d) + b d, plus a normal number, within [0, 1].
    """

    mean: Tensor
    deviation: Tensor
    weight: Tensor
    uniform_range: float = 0.06
    key_frames: int = 27
    jitter: float = 0.002
    score_a: float = 0.028
    score_b: float = 1.1
    score_mean: float = -0.004585696384310722
    score_deviation: float = 0.14310568571090698


def published_noise() -> NoiseParameters:
    """Return MotionBERT's parameters for h36m17: its synthetic_noise.pth and d2c_params.pkl."""
    table = torch.tensor(_JOINTS, dtype=torch.float64)
    return NoiseParameters(table[:, :2], table[:, 2:4], table[:, 4])


def add_noise(
    motion: Array,
    generator: Randomness,
    parameters: NoiseParameters | None = None,
    parity: bool = False,
) -> Array:
    """Give true 2D poses the errors and the scores of a detector.

    Parameters
    ----------
    motion
        (N, T, J, 2 or 3) x and y in [-1, 1], and a confidence.
    parameters
        None for `published_noise`.
    parity
        As the released code has it: the jitter of each frame is the same in all clips of the batch, and
        joints of confidence 0 too are moved and get a score. When off, every clip has its own jitter, and
        joints of confidence 0 stay as they are. Draws come in the same order: choice, normal, uniform,
        jitter, score.

    Returns
    -------
    (N, T, J, 3) in the type of ``motion``; the old confidence is discarded.

    Raises
    ------
    ModelError
        ``motion`` has another shape, or the parameters are for other joints.
    """
    x = as_tensor(motion)
    p = published_noise() if parameters is None else parameters
    if x.ndim != 4 or x.shape[-1] not in (2, 3) or x.shape[2] != len(p.weight):
        raise ModelError(
            f"add_noise: found motion of shape {tuple(x.shape)}, expected (clips, frames, {len(p.weight)} "
            "joints, 2 or 3): the parameters are for these joints"
        )
    clips, frames, joints = x.shape[:3]
    mean, deviation, weight = (value.to(x) for value in (p.mean, p.deviation, p.weight))
    choice = uniform(generator, (clips, p.key_frames, joints, 1), x)
    drawn = normal(generator, (clips, p.key_frames, joints, 2), x) * deviation + mean
    spread = (uniform(generator, (clips, p.key_frames, joints, 2), x) - 0.5) * p.uniform_range
    jitter = normal(generator, (frames, joints, 2) if parity else (clips, frames, joints, 2), x) * p.jitter
    score = normal(generator, (clips, frames, joints), x) * p.score_deviation + p.score_mean
    key_errors = torch.where(choice < weight[:, None], drawn, spread)
    error = _between(key_errors, frames) + jitter
    distance = error.norm(dim=-1)
    confidence = p.score_a / (distance + p.score_a) + p.score_b * distance + score
    noisy = torch.cat([x[..., :2] + error, confidence.clamp(0, 1)[..., None]], dim=-1)
    if not parity and x.shape[-1] == 3:
        noisy = torch.where(x[..., 2:] == 0, x, noisy)
    return like(motion, noisy)


def _between(key_errors: Tensor, frames: int) -> Tensor:
    """Interpolate (N, K, J, 2) linearly in time to (N, T, J, 2), first and last aligned."""
    clips, keys, joints, axes = key_errors.shape
    rows = key_errors.permute(0, 2, 3, 1).reshape(clips, joints * axes, keys)
    rows = torch.nn.functional.interpolate(rows, size=frames, mode="linear", align_corners=True)
    return rows.reshape(clips, joints, axes, frames).permute(0, 3, 1, 2)
