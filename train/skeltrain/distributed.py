"""Processes that train together: who we are, and the few things that have to be agreed upon.

Starting processes is torchrun's business, on one machine or several; joining them is timm's. A run without
torchrun is a world of one, in which everything here does nothing.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
import torch.distributed as dist
from timm.utils.distributed import init_distributed_device_so
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from skelformats.errors import SkelconvError

AUTOCAST = {"bf16": torch.bfloat16, "fp16": torch.float16}

BF16_PROCESSORS = ("avx512_bf16", "amx_bf16", "bf16")
"""What processors call their instructions for bfloat16 (`torch.cpu.get_capabilities`; the last is ARM's)."""


class DeviceError(SkelconvError):
    """A device that was asked for is not there, or cannot do what was asked of it."""


@dataclass(frozen=True)
class World:
    """The processes of a run: this one's number and device, and how many there are."""

    device: torch.device
    rank: int = 0
    size: int = 1

    @property
    def primary(self) -> bool:
        """Whether this is the process that writes and reports."""
        return self.rank == 0

    def mean(self, value: Tensor) -> Tensor:
        """Return the mean of a tensor over processes."""
        if self.size == 1:
            return value
        total = value.clone()
        dist.all_reduce(total)
        return total / self.size

    def any(self, flag: bool) -> bool:
        """Tell every process whether any of them says yes; all must ask."""
        if self.size == 1:
            return flag
        count = torch.tensor([float(flag)], device=self.device)
        dist.all_reduce(count)
        return bool(count.item() > 0)

    def barrier(self) -> None:
        """Wait until every process is here."""
        if self.size > 1:
            dist.barrier()

    def gather(self, value: Any) -> list[Any]:
        """Return every process's value (plain data) to every process, in order of their numbers."""
        if self.size == 1:
            return [value]
        values: list[Any] = [None] * self.size
        dist.all_gather_object(values, value)
        return values

    def gather_rows(self, rows: Tensor) -> list[Tensor]:
        """Return every process's rows (n, ...) to every process, in order; n may differ. No gradient."""
        if self.size == 1:
            return [rows]
        counts = [torch.zeros(1, dtype=torch.long, device=rows.device) for _ in range(self.size)]
        dist.all_gather(counts, torch.tensor([len(rows)], device=rows.device))
        most = int(torch.stack(counts).max())
        padded = rows.new_zeros(most, *rows.shape[1:])
        padded[: len(rows)] = rows
        found = [torch.empty_like(padded) for _ in counts]
        dist.all_gather(found, padded)
        return [one[: int(count)] for one, count in zip(found, counts, strict=True)]

    def wrap(self, task: nn.Module) -> nn.Module:
        """Let processes share the gradients of a task; a world of one trains the task itself."""
        if self.size == 1:
            return task
        on_card = [self.device] if self.device.type == "cuda" else None
        return DistributedDataParallel(task, device_ids=on_card)


def sum_over_processes(value: Tensor) -> Tensor:
    """Return the sum of a tensor over processes, in every one; gradients come back from all of them.

    Without several processes it is the tensor itself.
    """
    if not (dist.is_available() and dist.is_initialized()) or dist.get_world_size() == 1:
        return value
    total: Tensor = _Sum.apply(value)
    return total


class _Sum(torch.autograd.Function):
    """The sum over processes, whose gradient is the sum of the gradients."""

    @staticmethod
    def forward(ctx: Any, value: Tensor) -> Tensor:
        total = value.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        total = gradient.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(total)
        return total


@contextmanager
def join_world(device: str) -> Iterator[World]:
    """Join the processes that torchrun started, and leave them at the end.

    Parameters
    ----------
    device
        ``auto``, ``cpu``, ``cuda`` or ``cuda:1``; with several processes, each takes the card of its number.

    Raises
    ------
    DeviceError
        There is no such device.
    """
    chosen = pick_device(device)
    found = init_distributed_device_so(device=chosen)
    world = World(torch.device(found["device"]), int(found["global_rank"]), int(found["world_size"]))
    try:
        yield world
    finally:
        if found["distributed"]:
            dist.destroy_process_group()


def pick_device(name: str) -> str:
    """Return the name of a device that exists; ``auto`` is the first card, or the CPU where there is none.

    Raises
    ------
    DeviceError
        There is no such device.
    """
    cards = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if name == "auto":
        return "cuda" if cards else "cpu"
    kind, _, number = name.partition(":")
    if kind == "cpu" and not number:
        return name
    if kind != "cuda" or (number and not number.isdigit()):
        raise DeviceError(f"found device {name!r}, expected auto, cpu, cuda, or cuda:0 and so on")
    if not cards or (number and int(number) >= cards):
        raise DeviceError(
            f"found device {name!r}, but torch sees {cards} cards here. Use --device cpu or auto"
        )
    return name


def require_single_process(what: str) -> None:
    """Refuse to run under torchrun; raises `DeviceError`."""
    if os.environ.get("WORLD_SIZE", "1") != "1":
        raise DeviceError(f"{what} runs in one process; start it without torchrun")


def autocast(device: torch.device, precision: str) -> AbstractContextManager[Any]:
    """Run what lies within in a precision: fp32, bf16, fp16 or auto (the weights stay float32)."""
    precision = precision_on(device, precision)
    return nullcontext() if precision == "fp32" else torch.autocast(device.type, AUTOCAST[precision])


def precision_on(device: torch.device, precision: str) -> str:
    """Return what ``auto`` is on a device: bf16 where it has instructions for it, else fp32.

    Where there are none, products of bfloat16 are put together of others and take two to three times as long
    as those of float32 (docs/performance.md).
    """
    if precision != "auto":
        return precision
    return "bf16" if _has_bf16(device.type) else "fp32"


@cache
def _has_bf16(kind: str) -> bool:
    if kind == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    told = torch.cpu.get_capabilities() if kind == "cpu" else {}
    return any(bool(told.get(name)) for name in BF16_PROCESSORS)


def describe_device(device: torch.device) -> Mapping[str, str | int]:
    """Say what a device is, for the record of a run."""
    if device.type == "cuda":
        return {"device": torch.cuda.get_device_name(device), "cuda": str(torch.version.cuda)}
    return {"device": "cpu", "threads": torch.get_num_threads()}
