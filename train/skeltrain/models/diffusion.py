"""Gaussian diffusion with prediction of the clean values: schedule, forward process, sampling.

Ho et al. 2020 (DDPM), Song et al. 2021 (DDIM); the exponent rho is DiffMAE's (Wei et al. 2023). Steps are
numbered from 0, the least noise, to T - 1. With a the cumulative product that `alpha_bar` gives,
``x_t = sqrt(a_t) x_0 + sqrt(1 - a_t) noise``.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from skeltrain.models.errors import ModelError

#: Noise variance of the first and of the last step, linear between them (Ho et al. 2020, section 4).
FIRST_BETA, LAST_BETA = 1e-4, 0.02

STEPS = 1000


def alpha_bar(steps: int = STEPS, rho: float = 1.0) -> Tensor:
    """Return what part of the clean values' variance is left at each step.

    Parameters
    ----------
    steps
        Number of steps T.
    rho
        Exponent of the steps' noise variances, which are below 1: less than 1 means *more* noise. S2I has 1,
        DiffMAE 0.8.

    Returns
    -------
    Tensor
        ``(T,)`` float64, falling: the cumulative product of ``1 - beta ** rho``.

    Raises
    ------
    ModelError
        If there is no step, or ``rho`` is not positive.
    """
    if steps < 1 or not rho > 0:
        raise ModelError(f"found {steps} steps and rho {rho:g}, expected at least one step and rho above 0")
    beta = torch.linspace(FIRST_BETA, LAST_BETA, steps, dtype=torch.float64)
    return (1 - beta**rho).cumprod(dim=0)


def add_noise(clean: Tensor, step: Tensor, noise: Tensor, left: Tensor) -> Tensor:
    """Return ``x_t``, what the forward process makes of clean values.

    Parameters
    ----------
    clean, noise
        ``(N, ...)``, and standard normal numbers of that shape.
    step
        ``(N,)`` int64, the step t of each sample.
    left
        ``(T,)``, of `alpha_bar`, on the same device.
    """
    now = left[step].reshape(-1, *[1] * (clean.ndim - 1))
    return now.sqrt().to(clean.dtype) * clean + (1 - now).sqrt().to(clean.dtype) * noise


def sampling_steps(steps: int, of: int) -> list[int]:
    """Return ``steps`` numbers from ``of - 1`` down to 0, evenly spaced.

    A single one is ``of - 1``: clean values are then predicted from pure noise at once.

    Raises
    ------
    ModelError
        If more steps are asked for than there are, or none.
    """
    if not 1 <= steps <= of:
        raise ModelError(f"found {steps} sampling steps, expected from 1 to the {of} of the diffusion")
    if steps == 1:
        return [of - 1]
    return [round((of - 1) * (1 - i / (steps - 1))) for i in range(steps)]


def sample(
    predict: Callable[[Tensor, Tensor], Tensor],
    start: Tensor,
    left: Tensor,
    steps: int,
    eta: float = 0.0,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Turn noise into clean values, step by step; nothing is clipped, since coordinates have no bounds.

    Parameters
    ----------
    predict
        ``(x_t, t)`` to the predicted clean values; t is ``(N,)`` int64.
    start
        ``(N, ...)``, standard normal.
    left
        ``(T,)``, of `alpha_bar`.
    steps
        How many steps to take, from 1 to T.
    eta
        0 adds no further noise (DDIM); 1 with all T steps is DDPM's ancestral sampling.
    generator
        Where further noise comes from.

    Raises
    ------
    ModelError
        If more steps are asked for than there are, or ``eta`` is not between 0 and 1.
    """
    if not 0 <= eta <= 1:
        raise ModelError(f"found eta {eta:g}, expected 0 (no further noise) to 1 (as much as was added)")
    x = start
    for t, now, then in _pairs(sampling_steps(steps, len(left)), left):
        clean = predict(x, torch.full((len(x),), t, device=x.device))
        noise = (x - now**0.5 * clean) / (1 - now) ** 0.5
        fresh = eta * ((1 - then) / (1 - now) * (1 - now / then)) ** 0.5
        # rounding must not make a variance negative
        x = then**0.5 * clean + max(1 - then - fresh**2, 0.0) ** 0.5 * noise
        if fresh:
            x = x + fresh * standard_normal(tuple(x.shape), x.device, generator).to(x.dtype)
    return x


def _pairs(chosen: list[int], left: Tensor) -> Iterator[tuple[int, float, float]]:
    """Yield each step with what is left of the clean variance at it, and at the next one (at last 1)."""
    values = [*left[chosen].tolist(), 1.0]
    for t, (now, then) in zip(chosen, itertools.pairwise(values), strict=True):
        yield t, now, then


def standard_normal(
    shape: tuple[int, ...], device: torch.device, generator: torch.Generator | None
) -> Tensor:
    """Draw N(0, 1) float32 on ``device``, where the generator is or, without one, on the device itself."""
    if generator is None:
        return torch.randn(shape, device=device)
    return torch.randn(shape, device=generator.device, generator=generator).to(device)
