"""Linking people without track ids from frame to frame."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from skelformats.errors import FormatError, SkelconvError
from skelformats.keypoints import Detection
from skelformats.openpose import OPENPOSE
from skelformats.reader import ReadOptions
from skelformats.tracking import FARTHEST, MOST_PEOPLE, frames_apart, link_people

POSE = np.column_stack([np.arange(10) * 10.0 + 1, np.arange(10) * 20.0 + 1, np.full(10, 0.9)])
SIZE = 180.0


def at(frame: int, shift: float, body: str | None = None, scale: float = 1.0) -> Detection:
    return Detection(frame, body, POSE * np.array([scale, scale, 1]) + np.array([shift, 0, 0]))


def linked(*detections: Detection, apart: int = 2) -> list[tuple[int, float, str | None]]:
    found = link_people(Path("v.json"), detections, ReadOptions(values={"track": apart}))
    return sorted((d.frame, float(d.joints[0, 0]) - 1, d.body) for d in found)


def test_each_goes_on_with_the_nearest_whatever_the_order_in_the_file() -> None:
    assert linked(at(0, 0), at(0, 500), at(1, 490), at(1, 10)) == [
        (0, 0, "0"),
        (0, 500, "1"),
        (1, 10, "0"),
        (1, 490, "1"),
    ]


def test_the_nearest_pair_is_linked_first() -> None:
    """The first pose is near both of frame 1; the second is nearer to its own."""
    assert linked(at(0, 0), at(0, 60), at(1, 50)) == [(0, 0, "0"), (0, 60, "1"), (1, 50, "1")]


def test_a_gap_is_bridged_that_is_not_longer_than_asked() -> None:
    assert [body for _, _, body in linked(at(0, 0), at(2, 5), at(5, 8))] == ["0", "0", "1"]
    assert [body for _, _, body in linked(at(0, 0), at(2, 5), at(5, 8), apart=3)] == ["0"] * 3


def test_what_is_further_than_half_a_persons_size_is_somebody_else() -> None:
    limit = FARTHEST * SIZE
    assert [body for _, _, body in linked(at(0, 0), at(1, limit - 1))] == ["0", "0"]
    assert [body for _, _, body in linked(at(0, 0), at(1, limit + 1))] == ["0", "1"]


def test_the_box_tells_the_size_where_there_is_one() -> None:
    box = np.array([0, 0, 10, 20], np.float32)
    near = Detection(1, None, POSE + np.array([30, 0, 0]), box)
    small = Detection(0, None, POSE, box)
    found = link_people(Path("v.json"), [small, near], ReadOptions(values={"track": 1}))
    assert [d.body for d in found] == ["0", "1"]


def test_people_without_a_joint_in_common_are_not_linked() -> None:
    upper, lower = POSE.copy(), POSE.copy()
    upper[5:], lower[:5] = 0, 0
    found = link_people(
        Path("v.json"),
        [Detection(0, None, upper), Detection(1, None, lower)],
        ReadOptions(values={"track": 1}),
    )
    assert [d.body for d in found] == ["0", "1"]


def test_ids_of_the_source_are_kept_and_never_given_again() -> None:
    assert linked(at(0, 0, "0"), at(0, 400), at(1, 400)) == [(0, 0, "0"), (0, 400, "1"), (1, 400, "1")]


def test_nothing_is_linked_unless_asked() -> None:
    found = link_people(Path("v.json"), [at(0, 0), at(1, 0)], ReadOptions(values={"track": 0}))
    assert [d.body for d in found] == [None, None]


def test_a_crowd_beyond_all_measure_is_refused() -> None:
    with pytest.raises(FormatError, match="201 people without a track id in frame 7"):
        linked(*(at(7, float(n)) for n in range(MOST_PEOPLE + 1)))


@pytest.mark.parametrize("apart", [-1, 101])
def test_a_distance_in_time_beyond_measure_is_refused_before_anything_is_read(
    apart: int, tmp_path: Path
) -> None:
    with pytest.raises(SkelconvError, match="expected 0 to 100"):
        OPENPOSE.scan(tmp_path, OPENPOSE.options(track=apart))
    assert frames_apart(OPENPOSE.options()) == 0


def test_crossing_strangers_of_different_size_keep_their_ids() -> None:
    walk = [at(t, 30.0 * t) for t in range(8)] + [at(t, 210 - 30.0 * t, scale=3.0) for t in range(8)]
    small = [body for _, _, body in sorted(linked(*walk)) if body == "0"]
    assert len(small) == 8
