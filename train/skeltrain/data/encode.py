"""Skeleton-to-Image encoding on the device: `S2IEncoder`, and `stream_rows_torch`.

The same plan as `skelconv.s2i` runs on, for training: positions and offsets go to the device, some twenty
times fewer bytes than images, and a whole ragged batch becomes images there without a loop over its samples.
On a CPU the Numba kernel does the work, which is some twenty times faster there than the torch form.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from skelconv.s2i import S2IError, S2IPlan, encode
from skelformats.errors import UnknownNameError
from skeltrain.sections import STREAMS


class S2IEncoder(nn.Module):
    """Turns a ragged batch of positions into images, on the device that it lies on.

    The arithmetic is float32 under autocast too: positions are metres, and half precision would round them
    by millimetres. There is no matrix product in it, so TF32 cannot touch it either. Nothing is learned and
    nothing is saved: a checkpoint holds the plan, from which the buffers are made again.
    """

    column_lower: Tensor
    column_upper: Tensor
    column_weight: Tensor

    def __init__(self, plan: S2IPlan) -> None:
        super().__init__()
        self.plan = plan
        lower, upper, weight = plan.weights_joint()
        order = torch.tensor(plan.order)
        self.register_buffer("column_lower", order[torch.from_numpy(lower)], persistent=False)
        self.register_buffer("column_upper", order[torch.from_numpy(upper)], persistent=False)
        self.register_buffer("column_weight", torch.from_numpy(weight).float(), persistent=False)

    def forward(self, position: Tensor, offsets: Tensor) -> Tensor:
        """Encode N samples.

        Parameters
        ----------
        position
            (R, joint_count, 3) rows of all samples, one after another; any floating dtype. No gradient
            passes through the kernel; where one is asked for, the torch form is used.
        offsets
            (N + 1,) int64, on the same device: first row of each sample, and R. Every sample must have at
            least one row; the kernel checks that, the torch form cannot without waiting for the device.

        Returns
        -------
        (N, 3, rows, columns) float32, within 1e-5 of the float64 reference for positions of a few metres.

        Raises
        ------
        S2IError
            A shape does not fit the plan, or (kernel only) a sample is empty.
        """
        if self._has_kernel(position):
            images = encode(position.numpy(), offsets.numpy(), self.plan, threads=torch.get_num_threads())
            return torch.from_numpy(images)
        return self.encode_on_device(position, offsets)

    def encode_on_device(self, position: Tensor, offsets: Tensor) -> Tensor:
        """Encode by tensor operations alone, as `forward` does away from the CPU; same arguments."""
        _check(position, offsets, self.plan)
        with torch.autocast(position.device.type, enabled=False):
            low, high, weight = self._rows(offsets)
            position = position.float()
            frames = position[low].lerp_(position[high], weight[..., None, None])
            # channels first while it is still small: the columns then run along memory
            frames = frames.permute(0, 3, 1, 2).contiguous()
            image = frames.index_select(3, self.column_lower)
            return image.lerp_(frames.index_select(3, self.column_upper), self.column_weight)

    @staticmethod
    def _has_kernel(position: Tensor) -> bool:
        on_cpu = position.device.type == "cpu" and position.dtype in (torch.float32, torch.float64)
        return on_cpu and not position.requires_grad and not torch.compiler.is_compiling()

    def _rows(self, offsets: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(N, rows) lower and upper frame, as rows of the batch, and float32 weight of the upper.

        `skelconv.s2i.line_weights` for all samples at once. Integers keep the position of a row exact for any
        length; only the fraction that is left is rounded, once.
        """
        rows = self.plan.size[0]
        count = (offsets[1:] - offsets[:-1])[:, None]
        i = torch.arange(rows, device=offsets.device)
        if self.plan.align_corners:
            over, under = i * (count - 1), max(rows - 1, 1)
        else:
            over, under = ((2 * i + 1) * count - rows).clamp(min=0), 2 * rows
        low = torch.div(over, under, rounding_mode="floor")
        rest = over - low * under
        past = low >= count - 1
        low = torch.where(past, count - 1, low)
        rest = torch.where(past, 0, rest)
        first = offsets[:-1, None]
        return first + low, first + low + (rest > 0), rest.float() / under

    def extra_repr(self) -> str:
        """Return what ``print(model)`` shows of the plan."""
        rows, columns = self.plan.size
        return f"{self.plan.skeleton_name}, {rows} x {columns}, align_corners={self.plan.align_corners}"


def stream_rows_torch(
    position: Tensor, next_row: Tensor, bone_matrix: Tensor, stream: str, origin: Tensor | None = None
) -> Tensor:
    """Turn positions into the values of a stream.

    ``joint``, ``bone`` and ``motion`` are those of `skelconv.s2i.stream_rows`. ``bone_motion`` is the motion
    of the bones. ``spine`` is each joint minus the layout's origin in the same frame, so that a body's way
    through the room is gone.

    Parameters
    ----------
    position
        (R, J, A) float32, finite: a NaN would reach every bone of its row.
    next_row
        (R,) int64 row of the same person's next frame, a row's own index for a person's last frame.
    bone_matrix
        (J, J) of `skelformats.skeleton.Skeleton.bone_matrix`.
    stream
        One of `skeltrain.sections.STREAMS`.
    origin
        (K,) int64: the joints whose mean is the layout's origin (`Skeleton.origin`); ``spine`` needs them.

    Returns
    -------
    (R, J, A) float32.

    Raises
    ------
    UnknownNameError
        There is no such stream.
    """
    if stream not in STREAMS or (stream == "spine" and origin is None):
        raise UnknownNameError("stream", stream, STREAMS)
    if stream == "joint":
        return position.float()
    with torch.autocast(position.device.type, enabled=False):
        if stream == "spine":
            position = position.float()
            return position - position[:, origin].mean(dim=1, keepdim=True)
        values = position.float()
        if stream in ("bone", "bone_motion"):
            # Doubles, because a float32 product may run as TF32, which would move a joint by millimetres.
            wide = torch.float32 if position.device.type == "mps" else torch.float64
            values = (bone_matrix.to(wide) @ position.to(wide)).float()
        return values if stream == "bone" else values[next_row] - values


def _check(position: Tensor, offsets: Tensor, plan: S2IPlan) -> None:
    """Check what can be checked without waiting for the device."""
    if position.ndim != 3 or tuple(position.shape[1:]) != (plan.joint_count, 3):
        raise S2IError(
            f"found positions of shape {tuple(position.shape)}, expected (rows, {plan.joint_count}, 3) for "
            f"the layout {plan.skeleton_name}. Remap the joints to it first, or make a plan for theirs"
        )
    if offsets.ndim != 1 or not len(offsets) or offsets.dtype != torch.int64:
        raise S2IError(
            f"found offsets {tuple(offsets.shape)} {offsets.dtype}, expected (samples + 1,) torch.int64"
        )
