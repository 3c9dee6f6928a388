"""Windows of a store as a map-style torch Dataset, for training loops of one's own.

Legend: L frames of a window, J joints, A axes; B windows of a batch.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.utils.data import Dataset

from skelconv.store.windows import Windows


class WindowDataset(Dataset[dict[str, Tensor]]):
    """One window an item, as tensors; missing joints are filled and marked.

    Item i is a dictionary, which torch's DataLoader stacks along a first dimension B:

    - ``position`` (L, J, A) float32, with ``missing`` where a joint, or the whole body, was not observed;
    - ``valid`` (L, J) bool: the joints that were observed;
    - ``label`` () int64, -1 for none;
    - ``sequence``, ``start`` () int64: the sequence's number in the store, the window's first frame in its
      recording.

    Pickles as the store's path and the windows' places: each worker of a DataLoader, forked or spawned, opens
    the store once and reads it by itself.

    Parameters
    ----------
    windows
        What `skelconv.Store.windows` or ``store[...].windows`` gives.
    missing
        The coordinates of a joint that was not observed, in the store's unit.
    """

    def __init__(self, windows: Windows, missing: float = 0.0) -> None:
        self.windows = windows
        self.missing = missing

    def __len__(self) -> int:
        return len(self.windows)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        window = self.windows[index]
        position = torch.from_numpy(window.position)
        valid = ~position.isnan().any(dim=-1)
        return {
            "position": torch.where(valid[..., None], position, self.missing),
            "valid": valid,
            "label": torch.tensor(int(window.row["label"])),
            "sequence": torch.tensor(window.number),
            "start": torch.tensor(window.start),
        }
