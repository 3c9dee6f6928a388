"""What may be chosen in an encoding: `EncodeOptions`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from skelconv.clean.samples import PERSONS, THIRDS, Persons, Third
from skelconv.s2i.encoder import STREAMS
from skelconv.s2i.plan import SIZE
from skelformats.errors import UnknownNameError

Dtype = Literal["float32", "float16"]
DTYPES: tuple[Dtype, ...] = get_args(Dtype)


@dataclass(frozen=True)
class EncodeOptions:
    """How a store is encoded.

    Attributes
    ----------
    layout
        Joint layout to encode in; joints are carried over by name. The store's own when None.
    size
        Side of the images in pixels, or their rows and columns.
    stream
        What the images are made of: ``joint``, ``bone`` or ``motion``.
    persons
        How the persons of a recording are merged (`skelconv.clean.samples.Persons`).
    chain
        Cleaning chain; ``auto`` for the dataset's.
    third
        Third channel of a store of two axes: ``confidence``, each joint's confidence as stored, in every
        stream. None for a store of three axes.
    dtype
        ``float16`` halves the size and rounds a value of 1 m by up to 0.5 mm, one of 4 m by 2 mm.
    align_corners
        As `skelconv.s2i.S2IPlan.align_corners`.
    threads
        Threads to encode with; the images are the same for any number.
    overwrite
        Replace what is at the path.
    command
        The command line, recorded in the store.

    Raises
    ------
    UnknownNameError
        There is no such stream, way to arrange persons, third channel or dtype.
    """

    layout: str | None = None
    size: int | tuple[int, int] = SIZE
    stream: str = "joint"
    persons: Persons = "interleave"
    chain: str = "auto"
    third: Third | None = None
    dtype: Dtype = "float32"
    align_corners: bool = False
    threads: int = 1
    overwrite: bool = False
    command: str = ""

    def __post_init__(self) -> None:
        choices = (
            ("stream", self.stream, STREAMS),
            ("way to arrange persons", self.persons, PERSONS),
            ("third channel", self.third, (None, *THIRDS)),
            ("image dtype", self.dtype, DTYPES),
        )
        for kind, value, known in choices:
            if value not in known:
                raise UnknownNameError(kind, str(value), tuple(name for name in known if name is not None))
