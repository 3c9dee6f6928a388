"""Raw sources to a published store: plan, parse in parallel, journal, publish.

The function that does it is `skelconv.ingest.ingest.ingest`.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from skelconv.ingest.executors import default_workers, open_executor
    from skelconv.ingest.plan import IngestPlan, PlanError, make_plan

_WHERE = {
    "IngestPlan": "plan",
    "PlanError": "plan",
    "default_workers": "executors",
    "make_plan": "plan",
    "open_executor": "executors",
}
"""Where the names stand. They are imported on first use: a worker needs nothing of plans, nor of zarr."""

__all__ = ["IngestPlan", "PlanError", "default_workers", "make_plan", "open_executor"]


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found = getattr(import_module(f"{__name__}.{_WHERE[name]}"), name)
    globals()[name] = found
    return found
