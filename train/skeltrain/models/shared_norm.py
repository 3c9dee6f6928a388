"""Batch normalisation whose statistics are those of the whole step, however many processes share it.

N samples of a process, D features, T frames.
"""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import Tensor, nn

from skeltrain.distributed import sum_over_processes
from skeltrain.models.errors import ModelError


class SharedBatchNorm(nn.BatchNorm1d):
    """`torch.nn.BatchNorm1d`, whose statistics in training are those of the samples of every process.

    torch's SyncBatchNorm does that on cards alone. Values are (N, D), or (N, D, T) of which every frame is a
    sample. Parameters and buffers are those of BatchNorm1d, and so is the result in one process.

    Parameters
    ----------
    one_sample
        Normalise a step of one sample to the bias; otherwise it is refused.

    Attributes
    ----------
    counts
        Whether this process's samples take part; false for a sample that a process is only lent.

    Raises
    ------
    ModelError
        In training, a step of one sample, unless ``one_sample``.
    """

    def __init__(self, num_features: int, one_sample: bool = False) -> None:
        super().__init__(num_features)
        self.one_sample = one_sample
        self.counts = True

    def forward(self, input: Tensor) -> Tensor:
        """Return values of the same shape, with mean 0 and variance 1 but for scale and shift."""
        shared = dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1
        samples = input if input.ndim == 2 else input.transpose(1, 2).flatten(0, 1)
        if not self.training or (len(samples) > 1 and not shared):
            return super().forward(input)
        x_ND = samples.float()
        share = 1.0 if self.counts else 0.0
        count = sum_over_processes(x_ND.new_full((1,), share * len(x_ND)))
        if not self.one_sample and count.item() < 2:
            raise ModelError(
                f"found a batch of one sample to normalise over{' in all processes' if shared else ''}, "
                "expected at least two. Raise optim.batch, or lower optim.accum"
            )
        mean_D = sum_over_processes(x_ND.sum(dim=0) * share) / count
        variance_D = sum_over_processes((x_ND - mean_D).square().sum(dim=0) * share) / count
        self._remember(mean_D.detach(), variance_D.detach(), count)
        normal = (x_ND - mean_D) * torch.rsqrt(variance_D + self.eps)
        scaled = (normal * self.weight + self.bias).to(input.dtype)
        return scaled if input.ndim == 2 else scaled.view(len(input), -1, scaled.shape[1]).transpose(1, 2)

    @torch.no_grad()
    def _remember(self, mean_D: Tensor, variance_D: Tensor, count: Tensor) -> None:
        """Move the running statistics, of which the variance is the unbiased one."""
        assert self.num_batches_tracked is not None
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.momentum is not None
        self.num_batches_tracked.add_(1)
        self.running_mean.lerp_(mean_D, self.momentum)
        self.running_var.lerp_(variance_D * (count / (count - 1).clamp(min=1)), self.momentum)
