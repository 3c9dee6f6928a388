"""The PKU-MMD readers: videos cut by their labels or kept whole, split lists however they are spelt."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skelformats.errors import FormatError
from skelformats.files import find_files
from skelformats.pku import PKU1, PKU2
from skelformats.pku_text import parse_frames
from skelformats.reader import Clip, Reader, Refused
from skelformats.text import as_text, load_text
from tests.fuzzing import examples

FRAMES = 40
LABELS = "26,3,10,2\n1,12,20,1\n"


def motion(frames: int = FRAMES, bodies: int = 2) -> np.ndarray[Any, Any]:
    values = np.random.default_rng(0).normal(size=(frames, 2, 25, 3)).round(6)
    values[:, bodies:] = 0
    return values


def skeleton_text(values: np.ndarray[Any, Any]) -> str:
    return "".join(" ".join(f"{v:.6f}" for v in row) + "\n" for row in values.reshape(len(values), -1))


def write(
    root: Path,
    values: np.ndarray[Any, Any] | str | None = None,
    labels: str | None = LABELS,
    video: str = "0002-L",
) -> None:
    text = values if isinstance(values, str) else skeleton_text(motion() if values is None else values)
    for folder, content in (("PKU_Skeleton_Renew", text), ("Train_Label_PKU_final", labels)):
        if content is not None:
            (root / folder).mkdir(parents=True, exist_ok=True)
            (root / folder / f"{video}.txt").write_text(content)


def read(root: Path, reader: Reader = PKU1, **options: Any) -> list[Clip | Refused]:
    given_options = reader.options(**options)
    return [
        item
        for source in reader.scan(root, given_options)
        for item in reader.read(root, source, given_options)
    ]


def clips(items: Sequence[Clip | Refused]) -> list[Clip]:
    assert all(isinstance(item, Clip) for item in items), items
    return [item for item in items if isinstance(item, Clip)]


def refused(items: Sequence[Clip | Refused]) -> list[Refused]:
    return [item for item in items if isinstance(item, Refused)]


def test_each_line_of_the_label_file_becomes_a_recording(tmp_path: Path) -> None:
    write(tmp_path)
    first, second = clips(read(tmp_path))
    assert (first.recording, second.recording) == ("0002-L_i001", "0002-L_i002")
    assert (first.label, second.label) == (25, 0)
    assert (first.length, second.length) == (8, 9)
    assert first.columns == {
        "video": 2, "camera": 1, "start_frame": 3, "end_frame": 10, "cut_frames": 0, "grade": 2, "line": 1,
    }  # fmt: skip
    assert [track.body for track in first.tracks] == ["1", "2"]
    np.testing.assert_array_equal(first.tracks[1].position, motion()[2:10, 1].astype(np.float32))
    np.testing.assert_array_equal(second.tracks[0].position, motion()[11:20, 0].astype(np.float32))
    np.testing.assert_array_equal(second.tracks[0].frame_index, range(9))


def test_untrimmed_keeps_the_whole_video_and_its_intervals_as_a_table(tmp_path: Path) -> None:
    write(tmp_path)
    (clip,) = clips(read(tmp_path, untrimmed=True))
    assert (clip.recording, clip.label, clip.length) == ("0002-L", -1, FRAMES)
    assert clip.columns == {"video": 2, "camera": 1, "intervals": 2}
    np.testing.assert_array_equal(clip.tracks[0].position, motion()[:, 0].astype(np.float32))
    rows = clip.tables["interval"]
    assert [row["name"] for row in rows] == ["0002-L_i001", "0002-L_i002"]
    assert [(row["start"], row["stop"]) for row in rows] == [(2, 10), (11, 20)]
    assert [(row["start_frame"], row["end_frame"]) for row in rows] == [(3, 10), (12, 20)]
    assert rows[0]["action"] == "punching/slapping other person"
    table = PKU1.dataset_of(tmp_path, PKU1.options(untrimmed=True)).tables[0]
    assert {column.name for column in table.columns} == set(rows[0])
    assert PKU1.dataset_of(tmp_path, PKU1.options()).tables == ()


@pytest.mark.parametrize(
    ("base", "first", "last"), [("1-inclusive", 2, 9), ("0-inclusive", 3, 10), ("0-exclusive", 3, 9)]
)
def test_the_frame_base_says_which_frames_a_label_means(
    tmp_path: Path, base: str, first: int, last: int
) -> None:
    write(tmp_path, labels="1,3,10,1\n")
    (clip,) = clips(read(tmp_path, frame_base=base))
    np.testing.assert_array_equal(clip.tracks[0].position, motion()[first : last + 1, 0].astype(np.float32))
    (video,) = clips(read(tmp_path, frame_base=base, untrimmed=True))
    assert (video.tables["interval"][0]["start"], video.tables["interval"][0]["stop"]) == (first, last + 1)


def test_what_a_label_claims_beyond_the_video_is_cut_and_counted(tmp_path: Path) -> None:
    write(tmp_path, labels="1,0,10,1\n2,31,43,1\n")
    before, beyond = clips(read(tmp_path))
    assert (before.length, before.columns["cut_frames"]) == (10, 1)
    assert (beyond.length, beyond.columns["cut_frames"]) == (10, 3)


def test_a_body_is_in_the_frames_where_it_is_not_all_zeros(tmp_path: Path) -> None:
    values = motion()
    values[:5, 0] = values[8:, 1] = 0
    values[6, 0, 7] = 0
    write(tmp_path, values, "1,1,12,1\n")
    (clip,) = clips(read(tmp_path))
    later, earlier = sorted(clip.tracks, key=lambda track: track.body)
    assert [track.body for track in clip.tracks] == ["2", "1"], "in order of appearance"
    np.testing.assert_array_equal(later.frame_index, range(5, 12))
    np.testing.assert_array_equal(earlier.frame_index, range(8))
    assert np.argwhere(np.isnan(later.position).any(axis=-1)).tolist() == [[1, 7]]


@pytest.mark.parametrize("word", ["nan", "NaN", "inf", "1e39"])
def test_a_joint_that_is_not_finite_is_missing_as_a_whole(tmp_path: Path, word: str) -> None:
    words = skeleton_text(motion(3)).split(" ", 2)
    write(tmp_path, " ".join([words[0], word, words[2]]), "1,1,3,1\n")
    (clip,) = clips(read(tmp_path))
    assert np.argwhere(np.isnan(clip.tracks[0].position)).tolist() == [[0, 0, 0], [0, 0, 1], [0, 0, 2]]


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("5,20,20,1", "the interval 20 to 20, expected one that ends after it begins"),
        ("5,20,11,1", "the interval 20 to 11"),
        ("5,41,50,1", "the interval 41 to 50 of a video of 40 frames, expected one that begins before"),
        ("5,31,36,1", "no body in the frames 31 to 36"),
        ("52,3,10,1", "the action 52, expected 1 to 51"),
        ("0,3,10,1", "the action 0"),
        ("5,3,10", "'5,3,10', expected action,start,end,confidence"),
        ("5,3,ten,1", "'5,3,ten,1'"),
        ("5,-3,10,1", "'5,-3,10,1'"),
        ("5,3,99999999999,1", "'5,3,99999999999,1'"),
    ],
)
@pytest.mark.parametrize("untrimmed", [False, True])
def test_a_bad_interval_is_set_aside_alone_with_file_and_line(
    tmp_path: Path, line: str, found: str, untrimmed: bool
) -> None:
    values = motion()
    values[29:38] = 0
    write(tmp_path, values, f"26,3,10,2\n\n{line}\n1,12,20,1\n")
    items = read(tmp_path, untrimmed=untrimmed)
    (bad,) = refused(items)
    assert bad.recording == "0002-L_i003"
    assert bad.line == 3
    assert bad.reason.startswith("Train_Label_PKU_final/0002-L.txt, line 3: found ")
    assert found in bad.reason
    kept = [item for item in items if isinstance(item, Clip)]
    names = [row["name"] for row in kept[0].tables["interval"]] if untrimmed else [c.recording for c in kept]
    assert names == ["0002-L_i001", "0002-L_i004"]


def test_intervals_may_overlap_and_labels_may_end_lines_in_any_way(tmp_path: Path) -> None:
    write(tmp_path, labels="\ufeff1, 3, 10, 1,\r\n2 5 12 2\r\n\r\n")
    assert [clip.label for clip in clips(read(tmp_path))] == [0, 1]


def test_a_video_without_labels_is_refused_unless_it_stays_whole(tmp_path: Path) -> None:
    write(tmp_path, labels=None)
    with pytest.raises(FormatError, match=r"no label file.*with 'label' in its name.*--untrimmed"):
        read(tmp_path)
    (clip,) = clips(read(tmp_path, untrimmed=True))
    assert clip.columns["intervals"] == -1
    write(tmp_path, labels="")
    assert read(tmp_path) == []


def test_two_label_files_of_one_video_are_refused(tmp_path: Path) -> None:
    write(tmp_path)
    (tmp_path / "Label_old").mkdir()
    (tmp_path / "Label_old" / "0002-L.txt").write_text(LABELS)
    with pytest.raises(FormatError, match="2 label files"):
        read(tmp_path)


def test_the_phases_do_not_mix(tmp_path: Path) -> None:
    write(tmp_path)
    write(tmp_path, video="A10N08-R")
    (tmp_path / "README.txt").write_text("read me")
    assert [source.path for source in PKU1.scan(tmp_path, PKU1.options())] == [
        "PKU_Skeleton_Renew/0002-L.txt"
    ]
    (clip, _) = clips(read(tmp_path, PKU2))
    assert clip.recording == "A10N08-R_i001"
    assert (clip.columns["script"], clip.columns["subject"], clip.columns["camera"]) == (10, 8, 3)


def test_a_second_file_of_one_name_has_its_path_as_recording(tmp_path: Path) -> None:
    write(tmp_path)
    (tmp_path / "copy").mkdir()
    (tmp_path / "copy" / "0002-L.txt").write_text(skeleton_text(motion()))
    names = [clip.recording for clip in clips(read(tmp_path))]
    assert names == [f"{video}_i00{k}" for video in ("0002-L", "copy/0002-L") for k in (1, 2)]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("cross-subject.txt", "Training videos: \n0003-M, 0004-R, \nValidataion videos: \n0002-L, 0005-L\n"),
        ("cross_subject.txt", "Training videos:\n0003-M,0004-R\nValidation videos:\n0002-L,0005-L,"),
        ("CROSS_SUBJECT.txt", "\ufeffTraining videos\n0003-M\n0004-R\n\nvalidation\n0002-L\n0005-L\n"),
        ("Cross Subject.txt", "training:0003-M 0004-R\r\n\r\nTESTING videos: 0002-L.txt;0005-L.txt"),
    ],
)
def test_a_split_list_is_read_whatever_its_spelling(tmp_path: Path, name: str, text: str) -> None:
    for video in ("0002-L", "0003-M", "0006-R"):
        write(tmp_path, video=video)
    (tmp_path / "Split").mkdir()
    (tmp_path / "Split" / name).write_text(text)
    found = {clip.recording[:6]: clip.splits for clip in clips(read(tmp_path))}
    # the list wins over what is built in, where 0002 is for training; what it lacks is in neither part
    assert {video: splits["xsub"] for video, splits in found.items()} == {
        "0002-L": "test", "0003-M": "train", "0006-R": "",
    }  # fmt: skip
    assert {video: splits["xview"] for video, splits in found.items()} == {
        "0002-L": "train", "0003-M": "test", "0006-R": "train",
    }  # fmt: skip
    protocols = {p.name: p.description for p in PKU1.dataset_of(tmp_path, PKU1.options()).protocols}
    assert name in protocols["xsub"]
    assert protocols["xview"] == PKU1.dataset.protocols[1].description


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("Training videos:\n0003-M\nValidation videos:\n0003-M\n", "'0003-M' in test as well as in train"),
        ("0003-M\n", "expected a heading before it"),
        (
            "Training videos:\n0003-M, 3-M\n",
            "line 2: found '3-M', expected the name of a recording, such as 0002-L",
        ),
        ("Training videos:\n", "no name of a recording"),
        ("Training videos:\n0003-M\x9f", "a list of names"),
    ],
)
def test_a_damaged_split_list_stops_everything(tmp_path: Path, text: str, found: str) -> None:
    write(tmp_path)
    (tmp_path / "cross-view.txt").write_bytes(text.encode("latin-1"))
    with pytest.raises(FormatError, match=r"cross-view\.txt") as error:
        PKU1.dataset_of(tmp_path, PKU1.options())
    assert found in str(error.value)


def test_lists_of_the_other_phase_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "cross_subject_v2.txt").write_text("nonsense")
    PKU1.dataset_of(tmp_path, PKU1.options())
    with pytest.raises(FormatError, match="nonsense"):
        PKU2.dataset_of(tmp_path, PKU2.options())


@pytest.mark.parametrize(
    ("edit", "found"),
    [
        (lambda t: t.replace("\n", " 1.0\n", 1), "line 1: found 151 numbers in frame 1, expected 150"),
        (lambda t: t[: len(t) - 200], "The file is cut off"),
        (lambda t: t.replace(" ", " x", 1), "'x"),
        (lambda t: t.replace(" ", ",", 1), "in frame 1, expected a number"),
        (lambda t: "", "an empty file"),
        (lambda t: "1,2,3,1\n", "in frame 1, expected a number"),
        (lambda t: "1 2 3 1\n", "must have 'label' in its name"),
        (lambda t: t + "\x00", "the byte 0x00"),
    ],
)
def test_what_is_wrong_with_a_skeleton_file_is_named(tmp_path: Path, edit: Any, found: str) -> None:
    write(tmp_path, edit(skeleton_text(motion(4))))
    with pytest.raises(FormatError) as error:
        read(tmp_path)
    assert found in str(error.value)


@given(st.data())
@settings(max_examples=examples(150))
def test_mutated_text_parses_as_numpy_parses_it_or_raises_a_format_error(data: st.DataObject) -> None:
    text = bytearray(skeleton_text(motion(2)).encode())
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(text) - 1))
        text[at] = data.draw(st.sampled_from(b" \n0.-eE+x,\t\r1"))
    try:
        values = parse_frames(as_text(bytes(text), "fuzzed.txt"))
    except FormatError:
        return
    lines = [line.split() for line in text.decode().split("\n") if line.split()]
    with np.errstate(over="ignore"):
        want = np.array(lines, np.float64).astype(np.float32)
    np.testing.assert_array_equal(values.reshape(len(values), -1), want)


@given(st.text(alphabet="0123456789,- \n\r\tx.\x00é", max_size=80))
@settings(max_examples=examples(100))
def test_no_label_file_breaks_the_reader(tmp_path_factory: pytest.TempPathFactory, labels: str) -> None:
    root = tmp_path_factory.mktemp("fuzz")
    write(root, motion(5), labels)
    for item in read(root):
        assert isinstance(item, Refused) or 1 <= item.length <= 5


@pytest.mark.real
def test_the_real_file_reads_as_numpy_reads_it(shared_data: Path) -> None:
    root = shared_data / "pku"
    (clip,) = clips(read(root, PKU2, untrimmed=True))
    want = np.loadtxt(root / "A10N08-L.txt").astype(np.float32).reshape(-1, 2, 25, 3)
    assert clip.length == len(want) == 1040
    np.testing.assert_array_equal(clip.tracks[0].position, want[:, 0])
    np.testing.assert_array_equal(clip.tracks[1].position, want[312:, 1])
    np.testing.assert_array_equal(clip.tracks[1].frame_index, range(312, 1040))
    np.testing.assert_array_equal(parse_frames(load_text(root / "A10N08-L.txt")), want.reshape(-1, 2, 25, 3))
    with pytest.raises(FormatError, match="no label file"):
        read(root, PKU2)


@pytest.mark.real
def test_the_real_readme_is_no_video(shared_data: Path) -> None:
    assert [path for path, _ in find_files(shared_data / "pku", ".txt")] == ["A10N08-L.txt", "README.txt"]
    assert len(PKU2.scan(shared_data / "pku", PKU2.options())) == 1
    assert PKU1.scan(shared_data / "pku", PKU1.options()) == []
