"""Finding body model files: the one for a gender, in a folder laid out as any of the official downloads."""

from __future__ import annotations

import re
from functools import lru_cache
from pathlib import Path

from skelformats.errors import SkelconvError
from skelformats.files import find_files
from skelformats.smpl import BodyModel, load_body_model

GENDERS = {"m": "male", "f": "female", "n": "neutral"}
"""Genders of the model files, by their first letter."""

WHERE_FROM = (
    "The models are free for research, after registration: SMPL+H (with DMPL) as 'Extended SMPL+H model' and "
    "'DMPLs' at https://mano.is.tue.mpg.de and https://smpl.is.tue.mpg.de, SMPL-X at "
    "https://smpl-x.is.tue.mpg.de. Name the unpacked folder with --body-model, or call it body_models and "
    "put it into the raw folder"
)

_SUFFIXES = (".npz", ".pkl")
_KINDS = ("smpl", "smplh", "smplx", "dmpl", "dmpls")


class BodyModelError(SkelconvError, ValueError):
    """There is no body model file for what is to be computed."""


def find_model(place: Path, kind: str, gender: str) -> Path:
    """Return the model file of a kind (``smplh``, ``smplx`` or ``smpl``) and gender.

    Parameters
    ----------
    place
        One file, which then serves every gender; or a folder with gender sub-models at any depth, such as
        ``smplh/male/model.npz``, ``SMPLH_MALE.pkl`` or ``basicmodel_m_lbs_10_207_0_v1.1.0.pkl``.

    Raises
    ------
    BodyModelError
        There is none, or more than one.
    """
    if place.is_file():
        return place
    found = _candidates(place, gender)
    for wanted in ({kind}, set(), {"smpl"} if kind == "smplh" else {kind}):
        hits = [path for path, kinds in found if kinds == wanted]
        if hits:
            return place / _only(place, hits, f"{kind} model of gender {gender!r}")
    raise BodyModelError(
        f"{place}: found no {kind} model of gender {gender!r} among {_listing(place)}, expected a file such "
        f"as {kind}/{gender}/model.npz or {kind.upper()}_{gender.upper()}.pkl. {WHERE_FROM}"
    )


def find_soft_model(place: Path, gender: str) -> Path:
    """Return the DMPL model file of a gender in a folder; raises `BodyModelError`."""
    if place.is_file():
        raise BodyModelError(
            f"{place}: found one file, expected a folder, which also has DMPL models. {WHERE_FROM}"
        )
    hits = [path for path, kinds in _candidates(place, gender) if kinds & {"dmpl", "dmpls"}]
    if not hits:
        raise BodyModelError(
            f"{place}: found no DMPL model of gender {gender!r}, expected dmpls/{gender}/model.npz. "
            f"{WHERE_FROM}"
        )
    return place / _only(place, hits, f"DMPL model of gender {gender!r}")


@lru_cache(maxsize=4)
def body_model(place: Path, kind: str, gender: str, soft: bool) -> BodyModel:
    """Return the loaded model of a kind and gender, with DMPL directions where ``soft``.

    The last few stay in memory: a worker reads many files of few genders.

    Raises
    ------
    BodyModelError
        As `find_model`.
    FormatError
        As `skelformats.smpl.load_body_model`.
    """
    return load_body_model(find_model(place, kind, gender), find_soft_model(place, gender) if soft else None)


def _candidates(place: Path, gender: str) -> list[tuple[str, set[str]]]:
    """List model files of a gender below a folder, each with the kinds that its path names."""
    if not place.is_dir():
        raise BodyModelError(f"{place}: found nothing, expected a body model file or folder. {WHERE_FROM}")
    found = []
    for suffix in _SUFFIXES:
        for path, _ in find_files(place, suffix):
            words = re.split(r"[^a-z0-9]+", path.lower())
            if gender in words or gender[0] in words:
                found.append((path, set(words) & set(_KINDS)))
    return found


def _only(place: Path, hits: list[str], what: str) -> str:
    """Return the one hit; an ``.npz`` is taken rather than the pickle that it was made from."""
    arrays = [path for path in hits if path.endswith(".npz")] or hits
    if len(arrays) > 1:
        raise BodyModelError(
            f"{place}: found more than one {what} ({', '.join(arrays[:5])}), expected one. "
            "Name a folder that holds one of them with --body-model"
        )
    return arrays[0]


def _listing(place: Path) -> str:
    names = [path for suffix in _SUFFIXES for path, _ in find_files(place, suffix)]
    return ", ".join(names[:6]) + (", ..." if len(names) > 6 else "") if names else "no files"
