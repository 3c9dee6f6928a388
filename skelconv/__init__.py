"""skelconv: human skeleton datasets in one store.

>>> import skelconv
>>> store = skelconv.open("out.zarr")          # doctest: +SKIP
>>> store.to_frame().groupby("label").length.describe()  # doctest: +SKIP
"""

from importlib.metadata import version

from skelconv.store.recording import Recording, Sequence
from skelconv.store.store import Store, open_store
from skelformats.errors import FormatError, SkelconvError, UnknownNameError
from skelformats.skeleton import Skeleton, load_skeleton

open = open_store

__version__ = version("skelconv")
__all__ = [
    "FormatError",
    "Recording",
    "Sequence",
    "SkelconvError",
    "Skeleton",
    "Store",
    "UnknownNameError",
    "__version__",
    "load_skeleton",
    "open",
]
