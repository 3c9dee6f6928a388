"""What can go wrong when a loss is computed."""

from __future__ import annotations

from skelformats.errors import SkelconvError


class AlignmentError(SkelconvError, ValueError):
    """Embeddings, negatives or temperatures from which no alignment loss can be computed."""
