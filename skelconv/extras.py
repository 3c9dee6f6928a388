"""Packages that only some installations have."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, requires, version
from importlib.util import find_spec

from packaging.requirements import Requirement

from skelformats.errors import SkelconvError


class MissingExtraError(SkelconvError, ImportError):
    """What was asked for needs an extra that is not installed."""


def need(package: str, extra: str) -> None:
    """Raise `MissingExtraError`, with the command that helps, unless ``package`` can be imported."""
    if find_spec(package) is None:
        name = {"PIL": "pillow", "sklearn": "scikit-learn", "faiss": "faiss-cpu"}.get(package, package)
        raise MissingExtraError(f"this needs {name}, which is not installed. Run: {install_command(extra)}")


def install_command(extra: str) -> str:
    """Return the command that installs what an extra lacks; it works from a clone, a wheel and an index
    alike.
    """
    wanted = missing_of(extra) or [_as_pip_takes_it(needed) for needed in _requirements(extra)]
    return f"pip install {' '.join(repr(one) for one in wanted)}  (the extra '{extra}' of skelconv)"


def missing_of(extra: str) -> list[str]:
    """Return the requirements of an extra that are not installed, as pip takes them."""
    return [_as_pip_takes_it(needed) for needed in _requirements(extra) if not _is_installed(needed)]


def _requirements(extra: str) -> list[Requirement]:
    found = []
    for line in requires("skelconv") or []:
        needed = Requirement(line)
        marker = needed.marker
        if marker is not None and marker.evaluate({"extra": extra}) and not marker.evaluate({"extra": ""}):
            found.append(needed)
    return found


def _is_installed(needed: Requirement) -> bool:
    try:
        return needed.specifier.contains(version(needed.name), prereleases=True)
    except PackageNotFoundError:
        return False


def _as_pip_takes_it(needed: Requirement) -> str:
    return f"{needed.name}{needed.specifier}"
