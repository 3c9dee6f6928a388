"""What can go wrong when a model is built or given weights."""

from __future__ import annotations

from skelformats.errors import SkelconvError


class ModelError(SkelconvError, ValueError):
    """Settings that make no model, or an input that the model was not built for."""


class WeightsError(SkelconvError, ValueError):
    """Pretrained weights that cannot be read, or do not belong to the model they are asked for."""

    def __init__(self, source: str, found: str, expected: str, action: str | None = None) -> None:
        super().__init__(source, found, expected, action)
        self.source = source
        self.found = found
        self.expected = expected
        self.action = action

    def __str__(self) -> str:
        text = f"{self.source}: found {self.found}, expected {self.expected}"
        return f"{text}. {self.action}" if self.action else text
