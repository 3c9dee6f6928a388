"""Raw files of a dataset's own format, made from a procedural human (docs/synthetic-data.md)."""

from skelconv.synth.folder import (
    MARKER,
    SYNTHESIZERS,
    Synthesizer,
    SynthSummary,
    find_synthesizer,
    synthesize,
)
from skelconv.synth.truth import GroundTruth, Settings, SynthError, TrueTrack

__all__ = [
    "MARKER",
    "SYNTHESIZERS",
    "GroundTruth",
    "Settings",
    "SynthError",
    "SynthSummary",
    "Synthesizer",
    "TrueTrack",
    "find_synthesizer",
    "synthesize",
]
