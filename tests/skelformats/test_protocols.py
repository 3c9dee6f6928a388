"""Class names, official splits and lists, as data."""

from __future__ import annotations

from typing import Any

import pytest

from skelformats.errors import UnknownNameError
from skelformats.protocols import ProtocolError, facts_from, load_facts
from skelformats.reader import Protocol


def data(**changes: Any) -> dict[str, Any]:
    rule = {"description": "by camera", "column": "camera", "train": [1, 2], "val": [3], "test": [4]}
    return {"classes": ["walk", "run"], "protocol": {"xview": rule}, "odd": 1} | changes


def test_a_recording_is_in_the_part_that_its_row_says() -> None:
    facts = facts_from(data(), "mine")
    parts = [facts.splits("take", {"camera": camera, "subject": 1})["xview"] for camera in range(6)]
    assert parts == ["", "train", "train", "val", "test", ""]
    assert facts.protocols == (Protocol("xview", "by camera"),)
    assert facts.others == {"odd": 1}


def test_a_recording_that_is_left_out_is_in_no_part() -> None:
    facts = load_facts("ntu60")
    row = {"subject": 5, "camera": 2}
    assert facts.splits("S001C002P005R002A009", row) == {"xsub": "train", "xview": "train"}
    assert facts.splits("S001C002P005R002A008", row) == {"xsub": "", "xview": ""}


@pytest.mark.parametrize(
    ("rule", "complaint"),
    [
        ({"description": "d", "column": "c", "train": [1], "test": [1]}, "1 stands in train and in test"),
        ({"description": "d", "column": "c", "train": [1]}, "lacks \\['test'\\]"),
        (
            {"description": "d", "column": "c", "train": [1], "test": [], "tset": [2]},
            "unknown keys \\['tset'\\]",
        ),
    ],
)
def test_a_rule_that_contradicts_itself_is_refused(rule: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ProtocolError, match=f"protocols/mine.toml, protocol xview: .*{complaint}"):
        facts_from(data(protocol={"xview": rule}), "mine")


def test_a_class_name_stands_once() -> None:
    with pytest.raises(ProtocolError, match="a class name stands twice"):
        facts_from(data(classes=["walk", "walk"]), "mine")


def test_an_unknown_dataset_is_named() -> None:
    with pytest.raises(UnknownNameError, match="Did you mean 'ntu60'"):
        load_facts("ntu61")


def test_every_protocol_file_loads() -> None:
    for name in ("ntu60", "ntu120", "ucla"):
        facts = load_facts(name)
        assert facts.source
        assert facts.classes
        assert facts.rules
