"""Whether a store is what docs/store.md specifies, undamaged, and still equal to its sources."""

from skelconv.verify.report import Report, verify

__all__ = ["Report", "verify"]
