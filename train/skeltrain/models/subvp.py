"""The sub-VP diffusion of poses, and the ways to sample from it given a score.

Song et al., Score-Based Generative Modeling through Stochastic Differential Equations (ICLR 2021), appendix
B: dx = -b(t) x / 2 dt + g(t) dw with b(t) from `BETA_MIN` to `BETA_MAX` and g^2 = b (1 - exp(-2 B)), B the
integral of b. The perturbed x has mean exp(-B / 2) x0 and deviation 1 - exp(-B); the VP diffusion's would be
that number's square root.

Legend: N samples, ``...`` the axes of one sample, t (N,) in (0, 1].
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from types import MappingProxyType

import torch
from torch import Tensor

from skelformats.errors import UnknownNameError
from skeltrain.models.errors import ModelError

BETA_MIN, BETA_MAX = 0.1, 20.0

#: Earliest time: of training, and of sampling.
EARLIEST_TRAIN, EARLIEST_SAMPLE = 1e-5, 1e-3

#: (x (N, ...), t (N,)) to the score, of x's shape.
Score = Callable[[Tensor, Tensor], Tensor]


def perturbation(t: Tensor) -> tuple[Tensor, Tensor]:
    """Return factor of the mean and deviation of the perturbed sample at times t, both of t's shape."""
    half = -0.25 * t**2 * (BETA_MAX - BETA_MIN) - 0.5 * t * BETA_MIN
    return half.exp(), -torch.expm1(2 * half)


def sample(
    score: Score,
    start: Tensor,
    sampler: str = "mean",
    steps: int = 200,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Run the diffusion backwards from noise.

    Parameters
    ----------
    score
        Gradient of the log density of perturbed samples.
    start
        (N, ...) standard normal noise.
    sampler
        ``euler_maruyama`` draws from the distribution: for several hypotheses.
        ``probability_flow`` and ``heun`` draw from it without noise on the way, by the ordinary differential
        equation with half the score's weight (Song et al., Eq. 13), the latter in second order: 50 steps.
        ``mean`` keeps the whole weight without the noise, as the code of GFPose and ZeDO does under the name
        of the former. That is not the distribution: samples contract to near its mean (deviation 0.13 for a
        normal distribution of deviation 4.5). For a single hypothesis this is wanted, for several never.
    steps
        Evaluations of the score (``heun``: twice as many). The mean is off by 0.003 of a pose's unit at 1000,
        0.017 at 200 and 0.07 at 50.
    generator
        Of the noise on the way.

    Returns
    -------
    Tensor
        (N, ...) samples; without the noise of the last step.

    Raises
    ------
    UnknownNameError
        No such sampler.
    ModelError
        Fewer than two steps.
    """
    if sampler not in SAMPLERS:
        raise UnknownNameError("sampler", sampler, tuple(SAMPLERS))
    if steps < 2:
        raise ModelError(f"found {steps} steps of the sampler, expected at least 2")
    return SAMPLERS[sampler](score, start, steps, generator)


def _euler(weight: float, noisy: bool) -> Callable[[Score, Tensor, int, torch.Generator | None], Tensor]:
    def run(score: Score, start: Tensor, steps: int, generator: torch.Generator | None) -> Tensor:
        x = mean = start
        times = torch.linspace(1.0, EARLIEST_SAMPLE, steps)
        step = float(times[0] - times[1])
        for time in times.tolist():
            mean = x - step * _velocity(score, x, time, weight)
            x = mean
            if noisy:
                _, square = _rates(time)
                noise = torch.randn(x.shape, generator=generator, device=_device(generator, x), dtype=x.dtype)
                x = mean + (square * step) ** 0.5 * noise.to(x.device)
        return mean

    return run


def _heun(score: Score, start: Tensor, steps: int, generator: torch.Generator | None) -> Tensor:
    x = start
    times = torch.linspace(1.0, EARLIEST_SAMPLE, steps + 1).tolist()
    for now, then in itertools.pairwise(times):
        first = _velocity(score, x, now, 0.5)
        second = _velocity(score, x + (then - now) * first, then, 0.5)
        x = x + (then - now) / 2 * (first + second)
    return x


def _velocity(score: Score, x: Tensor, time: float, weight: float) -> Tensor:
    """Derivative of x by t in the reverse diffusion without its noise, ``weight`` times the score."""
    beta, square = _rates(time)
    t = torch.full((len(x),), time, device=x.device, dtype=x.dtype)
    return -0.5 * beta * x - weight * square * score(x, t)


def _rates(time: float) -> tuple[float, float]:
    """b(t) and g(t)^2."""
    beta = BETA_MIN + time * (BETA_MAX - BETA_MIN)
    integral = BETA_MIN * time + 0.5 * time**2 * (BETA_MAX - BETA_MIN)
    return beta, beta * -float(torch.expm1(torch.tensor(-2 * integral, dtype=torch.float64)))


def _device(generator: torch.Generator | None, x: Tensor) -> torch.device:
    return x.device if generator is None else generator.device


SAMPLERS: Mapping[str, Callable[[Score, Tensor, int, torch.Generator | None], Tensor]] = MappingProxyType(
    {
        "mean": _euler(1.0, noisy=False),
        "euler_maruyama": _euler(1.0, noisy=True),
        "probability_flow": _euler(0.5, noisy=False),
        "heun": _heun,
    }
)
