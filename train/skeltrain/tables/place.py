"""Which cells of the paper's tables a result belongs to, by what its run says of itself."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from skeltrain.tables.facts import Facts
from skeltrain.tables.paper import ALL

RATIO = 0.75
"""Of masked patches in every table of the paper; its Figure 3 varies it."""

FUSED = ("joint", "bone", "motion")

BY_CLASS = ("toyota",)
"""Datasets of which accuracy is published as a mean over classes too."""

INSIDE = {("ntu60", "ntu120")}
"""Datasets whose recordings all stand in another: cross-subject, its training part in the other's."""


class UnplacedError(Exception):
    """A result fits no table; the text says why."""


@dataclass(frozen=True)
class Claim:
    """A cell that a result belongs to.

    Attributes
    ----------
    table, group, row, column
        The cell (`skeltrain.tables.paper`).
    score
        Name of the score that stands there.
    leads
        Whether it makes its table worth drawing: a table of masks needs more than random ones.
    """

    table: str
    group: str
    row: str
    column: str
    score: str = "top1"
    leads: bool = True


def place(facts: Facts) -> list[Claim]:
    """Return every cell that a result belongs to; raises `UnplacedError` where there is none."""
    _check(facts)
    claims = [more for claim in _cells(facts) for more in _by_score(claim, facts)]
    if not claims:
        raise UnplacedError(f"{facts.place}, {facts.stream}, {facts.kind}: no table of the paper has this")
    return claims


def _check(facts: Facts) -> None:
    """Raise `UnplacedError` for what no table has, whatever else it is."""
    about, streams = facts.result.about, facts.streams
    data = about["data"]
    if not about["trained_here"]:
        raise UnplacedError("evaluated on other data than it was trained on")
    if (data["train"], data["test"]) != ("train", "test"):
        raise UnplacedError(
            f"trained on part {data['train']!r}, tested on {data['test']!r}: not the split's own"
        )
    if facts.encoder == "unknown":
        raise UnplacedError("fine-tuned by an earlier version, which did not write down its pretraining")
    if facts.result.fused:
        if sorted(streams) != sorted(FUSED):
            raise UnplacedError(f"fuses {', '.join(streams)}: the paper fuses {', '.join(FUSED)}")
        _check_members(facts)
    elif len(streams) > 1:
        raise UnplacedError(f"an image of several streams ({'+'.join(streams)}): the paper's have one each")
    elif streams[0] not in FUSED:
        raise UnplacedError(f"stream {streams[0]}: the paper has {', '.join(FUSED)}")
    if facts.fresh:
        return
    if facts.pretraining and facts.mask_ratio != RATIO:
        raise UnplacedError(
            f"mask ratio {facts.mask_ratio:g}: the paper varies it in a figure, not in a table"
        )
    if any(source.protocol is None for source in facts.sources):
        raise UnplacedError("pretrained on all recordings, those of the test part too")


def _check_members(facts: Facts) -> None:
    """Raise `UnplacedError` for a fusion of runs that are no trials of one experiment."""
    first, *others = (Facts(type(facts.result)(facts.result.where, {}, (m,))) for m in facts.result.members)
    for other in others:
        if (first.kind, first.place, first.encoder, first.share) != (
            other.kind,
            other.place,
            other.encoder,
            other.share,
        ):
            raise UnplacedError("fuses runs of several protocols")
        ignored = ("data.stream", "pretrain.data.stream")
        mine, theirs = ({k: v for k, v in f.settings.items() if k not in ignored} for f in (first, other))
        if mine != theirs:
            names = sorted(k for k in {*mine, *theirs} if mine.get(k) != theirs.get(k))
            raise UnplacedError(f"fuses runs that differ in more than their stream: {', '.join(names)}")


def _cells(facts: Facts) -> Iterator[Claim]:
    """Yield the cells of a result by its accuracy over all test recordings."""
    sources = facts.sources
    names = {source.dataset for source in sources}
    if len(sources) > 1:
        yield from _universal(facts, names)
    elif sources and facts.dataset not in names:
        if facts.share < 1:
            raise UnplacedError("few labels of another dataset than the pretraining's")
        yield from _transfer(facts)
    else:
        wrong = [source.protocol for source in sources if source.protocol != facts.protocol]
        if wrong:
            raise UnplacedError(
                f"pretrained on the training part of {wrong[0]}, which holds test recordings of "
                f"{facts.protocol}"
            )
        if facts.masked_otherwise:
            yield from _masks(facts)
        elif facts.share < 1:
            yield from _few(facts)
        else:
            yield from _own(facts)


def _own(facts: Facts) -> Iterator[Claim]:
    """Yield the cells of what was pretrained, trained and tested on one dataset."""
    kind, stream, group = facts.kind, facts.stream, facts.place
    extra = " from scratch" if facts.fresh else ""
    yield Claim("streams", group, stream, f"{kind}{extra}", leads=stream != "joint")
    if stream in ("joint", "3s"):
        table = "probe" if kind == "LP" else "finetune"
        yield Claim(table, ALL, group, f"{stream}{extra}")
    if stream == "joint":
        # random weights have no objective: the paper's rows of the two are the same
        objectives = ("MAE", "DiffMAE") if facts.encoder in ("random", "scratch") else (facts.objective,)
        for objective in objectives:
            yield Claim("ablation", group, facts.start, f"{objective} {kind}")
        if not facts.fresh:
            yield from _masks(facts)
        if kind == "FT":
            column = "from scratch" if facts.fresh else "self FT"
            yield Claim("universal", ALL, group, column, leads=False)


def _masks(facts: Facts) -> Iterator[Claim]:
    """Yield the cell of a way to mask."""
    if facts.objective == "features" or not facts.pretraining:
        return
    if facts.stream != "joint" or facts.share < 1:
        raise UnplacedError(f"masks {facts.masking}: the paper has other than random ones for joints alone")
    leads = facts.masking != "random"
    yield Claim("masks", facts.place, facts.masking, f"{facts.objective} {facts.kind}", leads=leads)


def _few(facts: Facts) -> Iterator[Claim]:
    """Yield the cell of a training on few labels."""
    if facts.stream not in ("joint", "3s"):
        raise UnplacedError(
            f"few labels of stream {facts.stream}: the paper has joint and three streams fused"
        )
    extra = " from scratch" if facts.fresh else ""
    yield Claim("semi", facts.place, facts.stream, f"{100 * facts.share:g} %{extra}")


def _transfer(facts: Facts) -> Iterator[Claim]:
    """Yield the cell of a transfer to another dataset, of the same layout or of another."""
    (source,) = facts.sources
    if facts.stream not in ("joint", "3s"):
        raise UnplacedError(f"transfer of stream {facts.stream}: the paper has joint and three streams fused")
    if facts.masked_otherwise:
        raise UnplacedError(f"transfer with masks {facts.masking}: the paper has random ones")
    column = facts.kind if facts.stream == "joint" else f"{facts.kind} 3s"
    if source.layout == facts.layout:
        row = "from scratch" if facts.fresh else source.dataset
        yield Claim("transfer", f"to {facts.place}", row, column)
    else:
        extra = " from scratch" if facts.fresh else ""
        yield Claim("cross_format", f"from {source.dataset}", facts.place, f"{column}{extra}")


def _universal(facts: Facts, names: set[str]) -> Iterator[Claim]:
    """Yield the cell of a pretraining on several stores."""
    if facts.dataset not in names and not any((facts.dataset, name) in INSIDE for name in names):
        raise UnplacedError(f"pretrained on several stores, of which none is of {facts.dataset}")
    if facts.stream != "joint" or facts.share < 1 or facts.masked_otherwise:
        raise UnplacedError("pretrained on several stores: the paper has joints, random masks, all labels")
    for source in facts.sources:
        if source.dataset == facts.dataset and source.protocol != facts.protocol:
            raise UnplacedError(
                f"pretrained on the training part of {source.protocol}, which holds test recordings of "
                f"{facts.protocol}"
            )
    if facts.kind != "FT":
        raise UnplacedError(
            "pretrained on several stores: the paper fine-tunes then, and has no linear probe"
        )
    yield Claim("universal", ALL, facts.place, "from scratch" if facts.fresh else "universal FT")


def _by_score(claim: Claim, facts: Facts) -> Iterator[Claim]:
    """Yield a cell, and those of the other scores that belong beside it."""
    yield claim
    if "top1_without_leaked" in facts.result.scores:
        column = f"{claim.column}, without leaked"
        yield Claim(claim.table, claim.group, claim.row, column, "top1_without_leaked", claim.leads)
    if facts.dataset in BY_CLASS:
        column = f"{claim.column}, mean per class"
        yield Claim(claim.table, claim.group, claim.row, column, "mean_class", claim.leads)
