"""Compiling what a reader needs before workers start: each of them would compile it for itself."""

from __future__ import annotations

from skelconv.ingest.ingest import parse_batch
from skelconv.ingest.plan import IngestPlan
from skelformats.kernel import may_compile
from skelformats.raw_root import prepare

MESSAGE = "compiling kernels: once after an installation, it takes some seconds"


def compile_beforehand(plan: IngestPlan) -> None:
    """Read the smallest source here, where kernels may have to be compiled; it is read again later.

    Raises
    ------
    SkelconvError
        There is no room to unpack it.
    """
    if may_compile():
        source = min(plan.sources, key=lambda source: (source.size, source.path))
        prepare(plan.root, (source.path, *source.members))
        parse_batch(plan.dataset, plan.root, [source], plan.options)
