"""Batch normalisation whose statistics are those of the whole step, however many processes share it.

N samples of a process, D features.
"""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import Tensor, nn

from skeltrain.distributed import sum_over_processes


class SharedBatchNorm(nn.BatchNorm1d):
    """`torch.nn.BatchNorm1d` of features (N, D); in training, mean and variance are over all processes.

    In one process it is that class, except that a single sample is no error: it is normalised to the bias.
    torch's own `SyncBatchNorm` runs on cards only.
    """

    def forward(self, input: Tensor) -> Tensor:
        """Return (N, D), normalised."""
        shared = dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1
        if not self.training or (len(input) > 1 and not shared):
            return super().forward(input)
        x_ND = input.float()
        ones = x_ND.new_ones(len(x_ND), 1)
        parts = torch.cat([x_ND.sum(dim=0), ones.sum(dim=0)])
        total = sum_over_processes(parts)
        count, mean_D = total[-1], total[:-1] / total[-1]
        variance_D = sum_over_processes((x_ND - mean_D).square().sum(dim=0)) / count
        self._remember(mean_D.detach(), variance_D.detach(), float(count))
        normal = (x_ND - mean_D) * torch.rsqrt(variance_D + self.eps)
        return (normal * self.weight + self.bias).to(input.dtype)

    @torch.no_grad()
    def _remember(self, mean_D: Tensor, variance_D: Tensor, count: float) -> None:
        """Move the running statistics, of which the variance is the unbiased one."""
        assert self.num_batches_tracked is not None
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.momentum is not None
        self.num_batches_tracked.add_(1)
        unbiased = variance_D * (count / max(count - 1, 1))
        self.running_mean.lerp_(mean_D, self.momentum)
        self.running_var.lerp_(unbiased, self.momentum)
