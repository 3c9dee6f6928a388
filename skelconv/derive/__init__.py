"""A store from stores: cleaned, remapped, merged."""

from skelconv.derive.clean import clean_store
from skelconv.derive.merge import MergeError, merge_stores
from skelconv.derive.remap import remap_store

__all__ = ["MergeError", "clean_store", "merge_stores", "remap_store"]
