"""Pictures of a crop store on their way to the device: `CropImages` decodes them, `AheadLoader` does so for
the next batches while the model works on this one.

Legend: n pictures of a batch, H rows, W columns.
"""

from __future__ import annotations

import io
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from skelconv.crops import CropStore
from skelconv.extras import need
from skeltrain.data.loader import DataError
from skeltrain.data.sampler import EpochSampler, MicroBatch

AHEAD_PER_WORKER = 2
"""Batches that are made or wait for the model, for each worker: what bounds the memory."""

B = TypeVar("B")


class CropImages:
    """Decodes crops to (n, 3, H, W) uint8: red, green, blue.

    Parameters
    ----------
    crops
        Where they lie.
    size
        H and W; a crop has 256 x 192 pixels.
    device
        Where decoded pictures go.
    keep
        Crops (N,) to decode once and to keep on the device; none by default, then each is decoded whenever it
        is asked for. One takes 147 kB at full size.

    Raises
    ------
    MissingExtraError
        Pillow is not installed.
    DataError
        A crop cannot be decoded.
    """

    def __init__(
        self,
        crops: CropStore,
        size: tuple[int, int],
        device: torch.device,
        keep: NDArray[np.int64] | None = None,
    ) -> None:
        need("PIL", "view")
        self._crops = crops
        self._size = size
        self._device = device
        self._kept: Tensor | None = None
        self._place = np.full(len(crops), -1, np.int64)
        if keep is not None:
            self._place[keep] = np.arange(len(keep))
            self._kept = self._decode(keep)

    def __call__(self, numbers: NDArray[np.int64]) -> Tensor:
        """Return the pictures of crops (n,)."""
        if self._kept is None:
            return self._decode(numbers)
        places: Tensor = torch.from_numpy(self._place[numbers]).to(self._device)
        return self._kept[places]

    def _decode(self, numbers: NDArray[np.int64]) -> Tensor:
        whole = np.empty((len(numbers), *self._size, 3), np.uint8)
        for place, number in enumerate(numbers.tolist()):
            try:
                whole[place] = decode(self._crops.jpeg(number), self._size)
            except DataError as error:
                raise DataError(
                    f"{self._crops.path}: found crop {number} that cannot be decoded ({error}), expected a "
                    "JPEG file. The store is damaged; make it again with skelconv crops"
                ) from error
        return torch.from_numpy(whole).permute(0, 3, 1, 2).contiguous().to(self._device)


def decode(jpeg: bytes, size: tuple[int, int]) -> NDArray[np.uint8]:
    """(H, W, 3) uint8 of a JPEG file, brought to ``size`` (H, W); raises `DataError`."""
    from PIL import Image, UnidentifiedImageError

    rows, columns = size
    try:
        with Image.open(io.BytesIO(jpeg)) as picture:
            image = picture.convert("RGB")
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError) as error:
        raise DataError(str(error)) from error
    if image.size != (columns, rows):
        image = image.resize((columns, rows), Image.Resampling.BILINEAR)
    return np.asarray(image)


@dataclass(frozen=True)
class AheadLoader(Generic[B]):
    """The samples of a sampler, collated to batches by threads that work ahead.

    Batches come in the sampler's order, and are the same with any number of workers: what is random in one
    follows from its micro batch.

    Attributes
    ----------
    workers
        Threads, at least one. Decoding JPEG leaves other threads running.
    """

    sampler: EpochSampler
    collate: Callable[[MicroBatch], B]
    workers: int

    def steps(self, epoch: int) -> int:
        """Optimiser steps of an epoch, the same for every one."""
        return self.sampler.steps

    def epoch(self, epoch: int, first: int = 0) -> Iterator[B]:
        """Yield this process's batches of an epoch, from optimiser step ``first`` on."""
        waiting: deque[Future[B]] = deque()
        with ThreadPoolExecutor(self.workers) as pool:
            try:
                for micro in self.sampler.epoch(epoch, first):
                    waiting.append(pool.submit(self.collate, micro))
                    if len(waiting) == self.workers * AHEAD_PER_WORKER:
                        yield waiting.popleft().result()
                while waiting:
                    yield waiting.popleft().result()
            finally:
                for future in waiting:
                    future.cancel()
