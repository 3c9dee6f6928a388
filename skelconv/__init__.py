"""skelconv: human skeleton datasets in one store."""

from importlib.metadata import version

__version__ = version("skelconv")
