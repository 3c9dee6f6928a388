"""skelconv: human skeleton datasets in one store.

>>> import skelconv
>>> store = skelconv.open("out.zarr")          # doctest: +SKIP
>>> store.to_frame().groupby("label").length.describe()  # doctest: +SKIP
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from skelconv.own import SequenceData, write_store
    from skelconv.store.recording import Recording, Sequence
    from skelconv.store.selection import Selection
    from skelconv.store.store import Store, open_store
    from skelconv.store.windows import Window, Windows
    from skelformats.errors import FormatError, SkelconvError, UnknownNameError
    from skelformats.skeleton import Skeleton, load_skeleton

    open = open_store
    __version__: str

_WHERE = {
    "FormatError": "skelformats.errors:FormatError",
    "Recording": "skelconv.store.recording:Recording",
    "Selection": "skelconv.store.selection:Selection",
    "Sequence": "skelconv.store.recording:Sequence",
    "SequenceData": "skelconv.own:SequenceData",
    "SkelconvError": "skelformats.errors:SkelconvError",
    "Skeleton": "skelformats.skeleton:Skeleton",
    "Store": "skelconv.store.store:Store",
    "UnknownNameError": "skelformats.errors:UnknownNameError",
    "Window": "skelconv.store.windows:Window",
    "Windows": "skelconv.store.windows:Windows",
    "load_skeleton": "skelformats.skeleton:load_skeleton",
    "open": "skelconv.store.store:open_store",
    "write_store": "skelconv.own:write_store",
}
"""Where the names of this package stand. They are imported on first use: pandas and zarr take a second."""

__all__ = [
    "FormatError",
    "Recording",
    "Selection",
    "Sequence",
    "SequenceData",
    "SkelconvError",
    "Skeleton",
    "Store",
    "UnknownNameError",
    "Window",
    "Windows",
    "__version__",
    "load_skeleton",
    "open",
    "write_store",
]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        found: Any = version("skelconv")
    elif name in _WHERE:
        module, _, attribute = _WHERE[name].partition(":")
        found = getattr(import_module(module), attribute)
    else:
        raise AttributeError(f"module 'skelconv' has no attribute {name!r}")
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
