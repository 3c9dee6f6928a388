"""Which classes a run takes for which: confusion matrix, accuracy of each class, pairs with their recordings.

Legend: G test recordings, K classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skelconv.report.charts import NAMED_CLASSES, bars, confusion
from skelconv.store.store import Store
from skelconv.view.viewer import viewer_fragment
from skeltrain.pages.errors import PageError
from skeltrain.run_folder import RunFolder

PAIRS = 4
"""Pairs of classes that are shown with their recordings."""

WORST = 40
"""Classes that a chart of accuracies has at most."""

NEEDED = ("recording", "label", "score")


@dataclass(frozen=True, eq=False)
class Predictions:
    """What a run predicts for test recordings.

    Attributes
    ----------
    recording
        (G,) names.
    label
        (G,) int64 true class.
    score
        (G, K) probability of each class.
    classes
        K names.
    """

    recording: NDArray[np.str_]
    label: NDArray[np.int64]
    score: NDArray[np.float32]
    classes: tuple[str, ...]

    @property
    def predicted(self) -> NDArray[np.int64]:
        """(G,) class of the largest score."""
        return self.score.argmax(axis=1)

    def confusion(self) -> NDArray[np.int64]:
        """(K, K) how many recordings of each true class (rows) were taken for each class."""
        counts = np.zeros((len(self.classes),) * 2, np.int64)
        np.add.at(counts, (self.label, self.predicted), 1)
        return counts


@dataclass(frozen=True)
class Pair:
    """Two classes, the first of which is taken for the second; ``count`` times of ``total``.

    ``mistaken`` is the recording of the first that the run is surest to be of the second, ``typical`` the one
    of the second that it is surest of; None where it gets none right.
    """

    true: int
    taken_for: int
    count: int
    total: int
    mistaken: str
    mistaken_score: float
    typical: str | None


def read_predictions(folder: RunFolder, classes: Sequence[str]) -> Predictions | None:
    """Read what an evaluation of a run predicted, None where no evaluation has predicted classes.

    Raises
    ------
    PageError
        The file is damaged.
    """
    for path in sorted(folder.path.glob("predictions_*.npz")):
        try:
            with np.load(path, allow_pickle=False) as kept:
                if not set(NEEDED) <= set(kept.files):
                    continue
                recording, label, score = (kept[name] for name in NEEDED)
        except (OSError, ValueError, EOFError) as error:
            raise PageError(
                f"{path}: found a damaged file ({error}). Run skeltrain evaluate again"
            ) from error
        names = [
            classes[k] if k < len(classes) and classes[k] else f"class {k}" for k in range(score.shape[1])
        ]
        return Predictions(recording.astype(str), label.astype(np.int64), score, tuple(names))
    return None


def confused_pairs(found: Predictions, count: int = PAIRS) -> list[Pair]:
    """Return the pairs of classes that are confused most, by the part of the true class."""
    counts = found.confusion()
    total = counts.sum(axis=1)
    wrong = counts * (1 - np.eye(len(counts), dtype=np.int64))
    share = np.divide(wrong, total[:, None], out=np.zeros(wrong.shape), where=total[:, None] > 0)
    # of equal parts the one of more recordings first
    order = np.lexsort((-wrong.ravel(), -share.ravel()))
    pairs = []
    for flat in order[:count]:
        true, other = (int(k) for k in np.unravel_index(flat, counts.shape))
        if not wrong[true, other]:
            break
        mistaken = np.flatnonzero((found.label == true) & (found.predicted == other))
        right = np.flatnonzero((found.label == other) & (found.predicted == other))
        surest = mistaken[found.score[mistaken, other].argmax()]
        typical = str(found.recording[right[found.score[right, other].argmax()]]) if len(right) else None
        pairs.append(
            Pair(
                true,
                other,
                int(wrong[true, other]),
                int(total[true]),
                str(found.recording[surest]),
                float(found.score[surest, other]),
                typical,
            )
        )
    return pairs


def classes_section(found: Predictions, store: Store | None) -> dict[str, Any]:
    """Return what the template shows of a run's predictions; recordings where there is a store."""
    counts = found.confusion()
    total = counts.sum(axis=1)
    there = np.flatnonzero(total)
    # of the classes of the dataset, those that occur: as labels, or as answers
    shown = np.flatnonzero(total + counts.sum(axis=0))
    accuracy = {int(k): 100 * counts[k, k] / total[k] for k in there}
    worst = sorted(accuracy, key=lambda k: accuracy[k])[:WORST]
    return {
        "recordings": int(total.sum()),
        "top1": float(counts.trace() / total.sum()),
        "mean_class": float(np.mean(list(accuracy.values())) / 100),
        "matrix": confusion(counts[np.ix_(shown, shown)], [found.classes[k] for k in shown]),
        "numbered": [(n, found.classes[k]) for n, k in enumerate(shown)]
        if len(shown) > NAMED_CLASSES
        else [],
        "accuracy": bars(
            {found.classes[k]: accuracy[k] for k in worst}, "% of its recordings right", limit=100
        ),
        "some": len(worst) < len(accuracy),
        "worst": len(worst),
        "pairs": [_pair(pair, found.classes, store) for pair in confused_pairs(found)],
    }


def _pair(pair: Pair, classes: Sequence[str], store: Store | None) -> dict[str, Any]:
    return {
        "true": classes[pair.true],
        "taken_for": classes[pair.taken_for],
        "count": pair.count,
        "total": pair.total,
        "mistaken": pair.mistaken,
        "score": pair.mistaken_score,
        "typical": pair.typical,
        "mistaken_viewer": _viewer(store, pair.mistaken),
        "typical_viewer": _viewer(store, pair.typical),
    }


def _viewer(store: Store | None, name: str | None) -> str:
    if store is None or name is None:
        return ""
    return viewer_fragment([store.recording(name)], store.skeleton, store.info.frame_rate)
