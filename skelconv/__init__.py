"""skelconv: human skeleton datasets in one store.

>>> import skelconv
>>> store = skelconv.open("out.zarr")          # doctest: +SKIP
>>> store.to_frame().groupby("label").length.describe()  # doctest: +SKIP
"""

from importlib.metadata import version

from formats.errors import FormatError, SkelconvError, UnknownNameError
from formats.skeleton import Skeleton, load_skeleton
from skelconv.recording import Recording, Sequence
from skelconv.store import Store, open_store

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
