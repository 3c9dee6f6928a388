"""The sequence store: schema, writing, reading, publishing (docs/store.md)."""

from skelconv.store.info import Provenance, StoreError, StoreInfo
from skelconv.store.publish import lock_partial, prepare_partial
from skelconv.store.recording import Recording, Sequence
from skelconv.store.store import Store, open_store
from skelconv.store.writer import WriteOptions, write_store

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
