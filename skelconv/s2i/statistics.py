"""Images of many samples in bounded memory, and their mean and standard deviation per channel.

Normalisation uses the statistics of the images of a run's training part (S2I paper, section A.5: of NTU 120,
cross-subject), never those of the joints, and never one stream's for another: motion is far smaller.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skelconv.clean.samples import Samples
from skelconv.s2i import kernel
from skelconv.s2i.encoder import aligned_images, encode, in_threads, stream_rows
from skelconv.s2i.plan import S2IError, S2IPlan

BLOCK_IMAGES = 256
BLOCK_BYTES = 256 * 2**20
"""Largest number of images, and bytes of them, that are encoded at a time."""


@dataclass(frozen=True)
class ImageStatistics:
    """Mean and standard deviation of each channel over all pixels of ``images`` images."""

    images: int
    mean: tuple[float, ...]
    std: tuple[float, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return plain data; inverse of `from_dict`."""
        return {"images": self.images, "mean": list(self.mean), "std": list(self.std)}

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> ImageStatistics:
        """Build from plain data."""
        return cls(int(data["images"]), tuple(map(float, data["mean"])), tuple(map(float, data["std"])))


class ImageMoments:
    """Collects the mean and squared deviation of each image, in double precision, to be pooled at the end.

    Pooling from per-image values loses nothing when the images of a set lie far from zero, as sums of squares
    would.
    """

    def __init__(self, images: int, pixels: int) -> None:
        self._pixels = pixels
        self._mean = np.zeros((images, 3))
        self._square = np.zeros((images, 3))

    def add(self, first: int, images: NDArray[np.float32], threads: int = 1) -> None:
        """Take in (n, 3, rows, columns) images, the first of which is number ``first``."""
        last = first + len(images)
        flat = images.reshape(-1)
        mean, square = self._mean[first:last].reshape(-1), self._square[first:last].reshape(-1)

        def work(low: int, high: int) -> None:
            kernel.channel_moments(flat, self._pixels, mean, square, low, high)

        in_threads(work, 3 * len(images), threads)

    def pool(self, chosen: NDArray[np.bool_] | None = None) -> ImageStatistics | None:
        """Statistics over all images, or those ``chosen`` (N,); None for none."""
        mean = self._mean if chosen is None else self._mean[chosen]
        square = self._square if chosen is None else self._square[chosen]
        if not len(mean):
            return None
        total = mean.mean(axis=0)
        variance = (square.sum(axis=0) / self._pixels + ((mean - total) ** 2).sum(axis=0)) / len(mean)
        return ImageStatistics(len(mean), tuple(total.tolist()), tuple(np.sqrt(variance).tolist()))


def encode_blocks(
    samples: Samples, plan: S2IPlan, stream: str = "joint", block: int | None = None, threads: int = 1
) -> Iterator[tuple[int, NDArray[np.float32]]]:
    """Encode all samples, ``block`` at a time (`images_a_block` by default).

    Yields
    ------
    (first, images): number of the block's first sample, and (n, 3, rows, columns) float32 in a buffer that
    the next block overwrites.

    Raises
    ------
    S2IError
        The plan is of another layout, a sample still waits for its scaling, or holds a value that is not
        finite.
    """
    check_samples(samples, plan)
    block = images_a_block(plan) if block is None else block
    buffer = aligned_images(min(block, len(samples)), plan)
    for first in range(0, len(samples), block):
        last = min(first + block, len(samples))
        start, stop = int(samples.offsets[first]), int(samples.offsets[last])
        position = samples.position[start:stop]
        offsets = samples.offsets[first : last + 1] - start
        _check_finite(position, offsets, samples, first)
        rows = stream_rows(position, samples.next_row[start:stop] - start, samples.skeleton, stream)
        if samples.third is not None and stream != "joint":
            # a confidence has no parent and no speed: the third channel is the joint's own in every stream
            rows[..., 2] = position[..., 2]
        yield first, encode(rows, offsets, plan, buffer[: last - first], threads)


def images_a_block(plan: S2IPlan) -> int:
    """Images that are encoded, and stored, together: 256, or fewer where images are large."""
    return max(1, min(BLOCK_IMAGES, BLOCK_BYTES // (12 * plan.size[0] * plan.size[1])))


def check_samples(samples: Samples, plan: S2IPlan) -> None:
    """Raise `S2IError` where samples and plan do not go together."""
    names = samples.skeleton.names
    if plan.joint_count != len(names) or tuple(names[joint] for joint in plan.order) != plan.joints:
        raise S2IError(
            f"found samples of the layout {samples.skeleton.name}, expected {plan.skeleton_name}, for which "
            "the plan was made. Make the plan from the samples' layout"
        )
    if samples.position.shape[-1] != 3:
        raise S2IError(
            f"found samples of {samples.position.shape[-1]} values a joint, expected three, one for each "
            "channel. Pack samples of two axes with third='confidence'"
        )
    if samples.scaling != "none":
        raise S2IError(
            f"found samples that still wait for their {samples.scaling} scaling, expected finished ones. "
            "Pack them with final_scaling=True"
        )


def _check_finite(
    position: NDArray[np.float32], offsets: NDArray[np.int64], samples: Samples, first: int
) -> None:
    finite = np.isfinite(position).all(axis=(1, 2))
    if not finite.all():
        row = int(np.argmin(finite))
        sample = first + int(np.searchsorted(offsets, row, side="right")) - 1
        raise S2IError(
            f"sample {samples.table.index[sample]}: found a missing joint (NaN) in its row "
            f"{row - int(offsets[sample - first])}, expected cleaned positions. Choose another cleaning chain"
        )
