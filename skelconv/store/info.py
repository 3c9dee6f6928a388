"""What a store says of itself: the root attribute ``skelconv``, as typed and checked data."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    ValidationError,
    model_serializer,
)

from skelconv.store.errors import OutOfRangeError as OutOfRangeError
from skelconv.store.errors import StoreError as StoreError
from skelconv.store.schema import FORMAT_VERSION
from skelformats.reader import AxisMap, Dataset
from skelformats.skeleton import Skeleton, SkeletonError

SHOWN = 10
"""Sources set aside that a summary shows."""


class _Part(BaseModel):
    # Unknown keys are kept: a later minor version may add some, and a copy must not lose them.
    model_config = ConfigDict(frozen=True, extra="allow")


class DatasetInfo(_Part):
    """Where the data comes from and under what terms, and the cleaning chain that it is published with.

    ``cleaning`` is empty in stores that do not name one (`skelconv.clean.default_chain` knows theirs).
    ``generated`` says how the raw files were generated; empty for recordings of people.
    """

    name: str
    title: str
    licence: str
    citation: str
    homepage: str
    cleaning: str = ""
    generated: str = ""

    @model_serializer(mode="wrap")
    def _only_what_is_said(self, serialise: SerializerFunctionWrapHandler) -> dict[str, Any]:
        # a store of recordings keeps the bytes that it had before there was such a key
        plain: dict[str, Any] = serialise(self)
        return plain if self.generated else {key: plain[key] for key in plain if key != "generated"}


class AxesInfo(_Part):
    """Names and convention of the coordinate axes, and the map that led there from the raw axes."""

    names: tuple[str, ...]
    convention: str
    order: tuple[int, ...]
    sign: tuple[int, ...]
    scale: float

    def axis_map(self) -> AxisMap:
        """Return the map from raw to stored positions, whose inverse gives raw values back."""
        return AxisMap(self.order, self.sign, self.scale)


class ConfidenceInfo(_Part):
    """Meaning of the array ``confidence``."""

    dtype: str
    description: str
    states: dict[int, str] = Field(default_factory=dict)


class SetAside(_Part):
    """A source that could not be read, and why; with a ``recording``, that one of its recordings alone."""

    source: str
    reason: str
    line: int | None = None
    recording: str | None = None


class NotTaken(_Part):
    """Files of the raw folder, of one kind, that are no sources: what they are, how many, some of them."""

    what: str
    count: int
    names: tuple[str, ...]

    def describe(self) -> str:
        """Say it in one line."""
        more = f" and {self.count - len(self.names):,} more" if self.count > len(self.names) else ""
        return f"{self.count:,} {self.what}: {', '.join(self.names)}{more}"


class Provenance(_Part):
    """How the store came about; the same for any number of workers and any number of interruptions.

    ``empty`` names recordings that were read and have no body in any frame, so no row in the table;
    ``not_taken`` files that look like the dataset's, or lay there twice, and are no sources.
    """

    tool: str
    command: str
    options: dict[str, Any] = Field(default_factory=dict)
    sources: int = 0
    digest: str = ""
    recordings: int = 0
    sequences: int = 0
    frames: int = 0
    set_aside: tuple[SetAside, ...] = ()
    empty: tuple[str, ...] = ()
    not_taken: tuple[NotTaken, ...] = ()
    leakage: dict[str, int] = Field(default_factory=dict)
    derived_from: dict[str, Any] | None = None

    @model_serializer(mode="wrap")
    def _only_what_is_there(self, serialise: SerializerFunctionWrapHandler) -> dict[str, Any]:
        # a store of which nothing was left out keeps the bytes that it had before there was such a key
        plain: dict[str, Any] = serialise(self)
        return plain if self.not_taken else {key: plain[key] for key in plain if key != "not_taken"}

    def describe(self) -> str:
        """Say in one line what the store holds, and in further ones what was set aside."""
        counts = f"{self.sequences:,} sequences of {self.recordings:,} recordings, {self.frames:,} frames"
        if not self.set_aside:
            return counts
        shown = [f"    {item.reason}" for item in self.set_aside[:SHOWN]]
        if len(self.set_aside) > SHOWN:
            shown.append(
                f"    ... and {len(self.set_aside) - SHOWN:,} more, all in: skelconv info STORE --json"
            )
        return "\n".join([counts, f"set aside: {self.count_set_aside()}", *shown])

    def count_set_aside(self) -> str:
        """Say how many sources, and how many single recordings of others, were set aside."""
        parts = sum(item.recording is not None for item in self.set_aside)
        whole = f"{len(self.set_aside) - parts:,} of {self.sources:,} sources"
        return f"{whole}, and {parts:,} single recordings of others" if parts else whole


class StoreInfo(_Part):
    """The root attribute ``skelconv`` of a store (docs/store.md, section on root attributes)."""

    format_version: int
    kind: Literal["sequences", "s2i"]
    dataset: DatasetInfo
    skeleton: dict[str, Any]
    unit: str
    axes: AxesInfo
    frame_rate: float | None
    missing: str
    classes: tuple[str, ...]
    protocols: dict[str, str]
    confidence: ConfidenceInfo | None = None
    extras: tuple[str, ...] = ()
    tables: dict[str, str] = Field(default_factory=dict)
    precision: float | None = None
    provenance: Provenance

    def layout(self) -> Skeleton:
        """Return the joint layout that the store embeds; no look-up by name is needed.

        Raises
        ------
        StoreError
            It is not a joint layout.
        """
        try:
            return Skeleton.from_dict(self.skeleton)
        except (SkeletonError, AttributeError, LookupError, TypeError, ValueError) as error:
            raise StoreError(
                f"found a damaged skeleton in the attribute 'skelconv' ({error}), expected what "
                "docs/store.md specifies. Fetch or ingest the store again"
            ) from error

    def to_attributes(self) -> dict[str, Any]:
        """Return plain data for the store's root attributes."""
        return self.model_dump(mode="json")

    @classmethod
    def from_attributes(cls, data: Any, where: str) -> StoreInfo:
        """Check and type the attribute ``skelconv`` of the store at ``where``; raises `StoreError`."""
        if not isinstance(data, dict) or "format_version" not in data:
            raise StoreError(f"{where}: found no attribute 'skelconv', expected a store made by skelconv")
        version = data["format_version"]
        if version != FORMAT_VERSION:
            raise StoreError(
                f"{where}: found store format version {version!r}, expected {FORMAT_VERSION}. "
                "Install a skelconv that reads that version, or ingest the raw data again"
            )
        try:
            return cls.model_validate(data)
        except ValidationError as error:
            first = error.errors()[0]
            key = ".".join(str(part) for part in first["loc"])
            raise StoreError(
                f"{where}: found a damaged attribute 'skelconv' ({key}: {first['msg']}), expected what "
                "docs/store.md specifies. Ingest the raw data again"
            ) from error

    @classmethod
    def of_dataset(
        cls,
        dataset: Dataset,
        skeleton: Skeleton,
        provenance: Provenance,
        extras: tuple[str, ...] = (),
        precision: float | None = None,
    ) -> StoreInfo:
        """Describe a sequence store of ``dataset``."""
        confidence = dataset.confidence
        return cls(
            format_version=FORMAT_VERSION,
            kind="sequences",
            dataset=DatasetInfo(
                name=dataset.name,
                title=dataset.title,
                licence=dataset.licence,
                citation=dataset.citation,
                homepage=dataset.homepage,
                cleaning=dataset.cleaning,
                generated=dataset.generated,
            ),
            skeleton=skeleton.to_dict(),
            unit=dataset.unit,
            axes=AxesInfo(
                names=dataset.axes,
                convention=dataset.axis_convention,
                order=dataset.axis_map.order,
                sign=dataset.axis_map.sign,
                scale=dataset.axis_map.scale,
            ),
            frame_rate=dataset.frame_rate,
            missing=dataset.missing,
            classes=dataset.classes,
            protocols={protocol.name: protocol.description for protocol in dataset.protocols},
            confidence=None
            if confidence is None
            else ConfidenceInfo(
                dtype=confidence.dtype, description=confidence.description, states=dict(confidence.states)
            ),
            extras=extras,
            tables={table.name: table.description for table in dataset.tables},
            precision=precision,
            provenance=provenance,
        )
