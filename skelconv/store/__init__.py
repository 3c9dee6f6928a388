"""The sequence store: schema, writing, reading, publishing (docs/store.md)."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from skelconv.store.info import Provenance, StoreError, StoreInfo
    from skelconv.store.publish import lock_partial, prepare_partial
    from skelconv.store.recording import Recording, Sequence
    from skelconv.store.store import Store, open_store
    from skelconv.store.writer import WriteOptions, write_store

_WHERE = {
    "Provenance": "info",
    "Recording": "recording",
    "Sequence": "recording",
    "Store": "store",
    "StoreError": "errors",
    "StoreInfo": "info",
    "WriteOptions": "writer",
    "lock_partial": "publish",
    "open_store": "store",
    "prepare_partial": "publish",
    "write_store": "writer",
}
"""Where the names stand. They are imported on first use: a worker needs neither zarr nor pandas."""

__all__ = [
    "Provenance",
    "Recording",
    "Sequence",
    "Store",
    "StoreError",
    "StoreInfo",
    "WriteOptions",
    "lock_partial",
    "open_store",
    "prepare_partial",
    "write_store",
]


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found = getattr(import_module(f"{__name__}.{_WHERE[name]}"), name)
    globals()[name] = found
    return found
