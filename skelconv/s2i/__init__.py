"""Skeleton-to-Image encoding: plans, streams, images, and stores of images.

A skeleton sequence becomes an image of three channels, x, y and z: rows are time, columns are joints in the
order of the five body parts (S2I paper, section 3.1). docs/s2i.md tells every decision.
"""

from skelconv.s2i.encoder import STREAMS, aligned_images, encode, in_threads, stream_rows
from skelconv.s2i.plan import S2IError, S2IPlan, line_weights, make_plan

__all__ = [
    "STREAMS",
    "S2IError",
    "S2IPlan",
    "aligned_images",
    "encode",
    "in_threads",
    "line_weights",
    "make_plan",
    "stream_rows",
]
