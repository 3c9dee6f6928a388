"""Fusing the scores of several runs on the same recordings, such as the three streams of the S2I paper."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from skeltrain.run_folder import ABOUT, RunError, RunFolder
from skeltrain.tasks.seeds import write_report

PUBLISHED: Mapping[int, tuple[float, ...]] = {2: (0.6, 0.6), 3: (0.6, 0.6, 0.4), 4: (0.6, 0.6, 0.4, 0.4)}
"""Weights of joint, bone, motion and bone motion, in this order: AimCLR's of three, CTR-GCN's of four. S2I
does not state its own.
"""

FUSED = "predictions_fused.npz"

ENSEMBLE = "ensemble.json"

ORDER = ("joint", "bone", "motion", "bone_motion")
"""The streams to which `PUBLISHED` belongs."""


@dataclass(frozen=True, eq=False)
class Predictions:
    """What a run answered for G recordings of a test part.

    Attributes
    ----------
    run
        The folder.
    recording, label, leaked
        (G,) names, classes, and whether the motion also stands in the training part; sorted by name.
    logits
        (G, classes) float32.
    about
        What the evaluation says of itself (`skeltrain.tasks.about`); None in runs of earlier versions.
    """

    run: Path
    recording: NDArray[np.str_]
    label: NDArray[np.int64]
    leaked: NDArray[np.bool_]
    logits: NDArray[np.float32]
    about: Mapping[str, Any] | None = None


def read_predictions(run: Path) -> Predictions:
    """Read the predictions of a run for its test part; raises `RunError` where there are none."""
    path = RunFolder(run).predictions("test")
    try:
        # opened here, so that it is closed where numpy finds it damaged
        with path.open("rb") as file, np.load(file, allow_pickle=False) as kept:
            arrays = {name: kept[name] for name in ("recording", "label", "leaked", "logits")}
    except FileNotFoundError as error:
        raise RunError(
            f"{run}: found no {path.name}, expected a run of a probe or a fine-tuning, trained to its end. "
            "Train it, or run `skeltrain evaluate` on it"
        ) from error
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise RunError(
            f"{path}: found predictions that cannot be read, or lack logits ({error}), expected those "
            "of this version. Write them again with `skeltrain evaluate`"
        ) from error
    order = np.argsort(arrays["recording"], kind="stable")
    found = {name: values[order] for name, values in arrays.items()}
    return Predictions(run, **found, about=read_about(run))


def read_about(run: Path) -> dict[str, Any] | None:
    """Return what the evaluation of a run says of itself, None where it says nothing; raises `RunError`."""
    path = RunFolder(run).evaluation
    if not path.exists():
        return None
    try:
        about = orjson.loads(path.read_bytes()).get(ABOUT)
    except (OSError, ValueError, AttributeError) as error:
        raise RunError(
            f"{path}: found no sound evaluation ({error}), expected what `skeltrain evaluate` writes. Run it"
        ) from error
    return about if isinstance(about, dict) else None


def fuse_runs(
    runs: Sequence[Path], weights: Sequence[float] | None = None, out: Path | None = None
) -> dict[str, Any]:
    """Add up the logits of runs, weighted, and score the sum; nothing is tuned.

    Parameters
    ----------
    runs
        At least two run folders, in the order of `PUBLISHED`: joint, bone, motion.
    weights
        One for each; by default the published ones for two to four runs, and equal ones for more.
    out
        Folder for ``ensemble.json`` and the predictions of the sum; None writes nothing.

    Returns
    -------
    ``runs`` (each with its weight and scores), ``fused`` and ``equal`` (scores of the weighted and of the
    plain sum), ``recordings`` and ``leaked``.

    Raises
    ------
    RunError
        There are too few runs, other than one weight for each, no predictions, or those of other recordings;
        or the published weights would go to other streams than theirs.
    """
    if len(runs) < 2:
        raise RunError(f"found {len(runs)} runs, expected at least two to fuse")
    chosen = tuple(weights) if weights is not None else PUBLISHED.get(len(runs), (1.0,) * len(runs))
    if len(chosen) != len(runs) or not all(np.isfinite(chosen)) or min(chosen) < 0 or not any(chosen):
        raise RunError(
            f"found weights {', '.join(map(str, chosen))} for {len(runs)} runs, expected a number from 0 on "
            "for each, not all of them 0"
        )
    found = [read_predictions(run) for run in runs]
    first = found[0]
    for other in found[1:]:
        _require_same(first, other)
    if weights is None:
        _require_order(found)
    total = _add(found, chosen)
    report = {
        "runs": [
            {"run": str(one.run), "weight": weight, **_score(first, one.logits), ABOUT: one.about}
            for one, weight in zip(found, chosen, strict=True)
        ],
        "fused": _score(first, total),
        "equal": _score(first, _add(found, (1.0,) * len(found))),
        "recordings": len(first.label),
        "leaked": int(first.leaked.sum()),
    }
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        aside = out / f"{FUSED}.partial"
        known = {"recording": first.recording, "label": first.label, "leaked": first.leaked}
        with aside.open("wb") as file:
            np.savez_compressed(file, allow_pickle=False, **known, score=_softmax(total), logits=total)
        aside.replace(out / FUSED)
        write_report(out / ENSEMBLE, report)
    return report


def describe_ensemble(report: Mapping[str, Any]) -> str:
    """Return the scores of runs and of their sums as a table, in percent."""
    rows = [(f"{one['run']} × {one['weight']:g}", one) for one in report["runs"]]
    rows += [("fused", report["fused"]), ("fused with equal weights", report["equal"])]
    width = max(len(name) for name, _ in rows)
    columns = {"top1": "top-1", "mean_class": "mean per class", "top1_without_leaked": "without leaked"}
    shown = {key: title for key, title in columns.items() if key in report["fused"]}
    lines = [
        f"{report['recordings']} test recordings ({report['leaked']} leaked); accuracy in %",
        "",
        f"  {'':<{width}}" + "".join(f"  {title:>14}" for title in shown.values()),
    ]
    for name, scores in rows:
        lines.append(f"  {name:<{width}}" + "".join(f"  {100 * scores[key]:>14.2f}" for key in shown))
    return "\n".join(lines)


def _add(found: Sequence[Predictions], weights: Sequence[float]) -> NDArray[np.float64]:
    scaled = [weight * one.logits.astype(np.float64) for one, weight in zip(found, weights, strict=True)]
    return np.sum(scaled, axis=0)


def _softmax(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return a distribution over classes for each recording, (G, classes)."""
    raised = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(raised / raised.sum(axis=1, keepdims=True))


def _score(first: Predictions, logits: NDArray[np.floating[Any]]) -> dict[str, float]:
    """Score answers (G, classes) as `skeltrain.metrics.classification` does."""
    right = logits.argmax(axis=1) == first.label
    scores = {
        "top1": float(right.mean()),
        "mean_class": float(np.mean([right[first.label == one].mean() for one in np.unique(first.label)])),
    }
    if first.leaked.any() and not first.leaked.all():
        scores["top1_without_leaked"] = float(right[~first.leaked].mean())
    return scores


def _require_order(found: Sequence[Predictions]) -> None:
    """Raise `RunError` where runs say of themselves that they are of other streams than the weights are."""
    streams = [one.about["data"]["streams"] if one.about else None for one in found]
    single = [names[0] for names in streams if names is not None and len(names) == 1]
    if len(found) not in (3, 4) or len(single) < len(found) or not set(single) <= set(ORDER):
        return
    # two seeds of one stream may be fused too, and then there is no order
    if len(set(single)) == len(found) and single != sorted(single, key=ORDER.index):
        raise RunError(
            f"found runs of the streams {', '.join(single)}, expected them in the order joint, bone, motion: "
            "the published weights belong to it. Name the runs so, or give --weights"
        )


def _size(one: Predictions) -> str:
    recordings, classes = one.logits.shape
    return f"{recordings} recordings and {classes} classes"


def _require_same(first: Predictions, other: Predictions) -> None:
    if first.logits.shape != other.logits.shape or not np.array_equal(first.recording, other.recording):
        raise RunError(
            f"{other.run}: found predictions of {_size(other)}, expected those of the {_size(first)} of "
            f"{first.run}. Fuse runs on the same store and protocol"
        )
    if not np.array_equal(first.label, other.label):
        raise RunError(
            f"{other.run}: found other classes of the same recordings than in {first.run}, expected the "
            "same. Fuse runs on the same store and protocol"
        )
