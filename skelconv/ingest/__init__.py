"""Raw sources to a published store: plan, parse in parallel, journal, publish.

The function that does it is `skelconv.ingest.ingest.ingest`.
"""

from skelconv.ingest.executors import default_workers, open_executor
from skelconv.ingest.plan import IngestPlan, PlanError, make_plan

__all__ = ["IngestPlan", "PlanError", "default_workers", "make_plan", "open_executor"]
