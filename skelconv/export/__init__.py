"""Export: a store in the files that other projects read (docs/export.md)."""

from skelconv.export.csv_cells import read_csv
from skelconv.export.ctrgcn import export_ctrgcn
from skelconv.export.folder import export_csv, export_parquet
from skelconv.export.forms import ExportForm, ExportOptions, export_store, find_form, form_names
from skelconv.export.place import Exported, ExportError, written_aside
from skelconv.export.pyskl import export_pyskl

__all__ = [
    "ExportError",
    "ExportForm",
    "ExportOptions",
    "Exported",
    "export_csv",
    "export_ctrgcn",
    "export_parquet",
    "export_pyskl",
    "export_store",
    "find_form",
    "form_names",
    "read_csv",
    "written_aside",
]
