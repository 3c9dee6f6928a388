"""Raw files of a dataset's own format, made from a procedural human (docs/synthetic-data.md)."""

from skelconv.ingest.generated import MARKER
from skelconv.synth.folder import (
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
