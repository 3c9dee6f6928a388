"""BatchNorm over the samples of all processes: what one process computes of the whole batch."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from skeltrain.models.errors import ModelError


class SharedBatchNorm1d(nn.BatchNorm1d):
    """`torch.nn.BatchNorm1d`, whose statistics in training are those of the samples of every process.

    torch's SyncBatchNorm does that on cards alone. Values are (N, C), or (N, C, T) of which every frame is a
    sample. Parameters and buffers are those of BatchNorm1d, and so is the result in one process.

    Attributes
    ----------
    counts
        Whether this process's samples take part; false for a sample that a process is only lent.
    """

    def __init__(self, num_features: int) -> None:
        super().__init__(num_features)
        self.counts = True

    def forward(self, input: Tensor) -> Tensor:
        """Return values of the same shape, with mean 0 and variance 1 but for scale and shift."""
        alone = not (dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1)
        samples = input if input.ndim == 2 else input.transpose(1, 2).flatten(0, 1)
        if not self.training:
            return super().forward(input)
        if alone:
            if len(samples) < 2:
                raise ModelError(
                    "found a batch of one sample to normalise over, expected at least two. Raise "
                    "optim.batch, or lower optim.accum"
                )
            return super().forward(input)
        share = 1.0 if self.counts else 0.0
        count = _sum(samples.new_full((1,), share * len(samples)))
        if count.item() < 2:
            raise ModelError(
                "found one sample to normalise over in all processes, expected at least two. Raise "
                "optim.batch"
            )
        mean = _sum(samples.sum(dim=0) * share) / count
        variance = _sum(((samples - mean) ** 2).sum(dim=0) * share) / count
        with torch.no_grad():
            assert self.running_mean is not None
            assert self.running_var is not None
            assert self.num_batches_tracked is not None
            assert self.momentum is not None
            self.num_batches_tracked += 1
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(variance * count / (count - 1), self.momentum)
        scaled = (samples - mean) * (variance + self.eps).rsqrt() * self.weight + self.bias
        return scaled if input.ndim == 2 else scaled.view(len(input), -1, scaled.shape[1]).transpose(1, 2)


class _Sum(torch.autograd.Function):
    """The sum over processes; its gradient is the sum of theirs, since each of their losses depends on it."""

    @staticmethod
    def forward(ctx: Any, value: Tensor) -> Tensor:
        total = value.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        total = gradients[0].clone()
        dist.all_reduce(total)
        return total


def _sum(value: Tensor) -> Tensor:
    result = _Sum.apply(value)
    assert isinstance(result, Tensor)
    return result
