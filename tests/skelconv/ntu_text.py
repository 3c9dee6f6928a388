"""A second, plain reader of NTU `.skeleton` text, so that cleaning is tested on its own."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from skelconv.store.recording import Recording, Sequence

JOINTS = 25
HEADER = 10
COLUMNS = 12


def read_recording(path: Path, by_slot: bool = False) -> Recording:
    """Parse a file; bodies are told apart by their id, or by their slot in the frame."""
    tokens = iter(path.read_text().split())
    found: dict[str, list[tuple[int, np.ndarray, np.ndarray]]] = {}
    frames = int(next(tokens))
    for frame in range(frames):
        for slot in range(int(next(tokens))):
            body, *_ = [next(tokens) for _ in range(HEADER)]
            assert int(next(tokens)) == JOINTS
            cells = np.array([next(tokens) for _ in range(JOINTS * COLUMNS)], np.float32)
            values = cells.reshape(JOINTS, COLUMNS)
            found.setdefault(str(slot) if by_slot else body, []).append(
                (frame, values[:, :3], values[:, 5:7])
            )
    bodies = tuple(
        Sequence(
            name=f"{path.stem}_b{k}",
            body=body,
            frame_index=np.array([frame for frame, _, _ in rows], np.int32),
            position=np.stack([position for _, position, _ in rows]),
            extras={"color": np.stack([color for _, _, color in rows])},
        )
        for k, (body, rows) in enumerate(found.items())
    )
    return Recording(path.stem, frames, bodies)
