"""The NTU RGB+D readers."""

from __future__ import annotations

import tracemalloc
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skelformats.errors import FormatError, UnknownNameError
from skelformats.ntu import NTU60, NTU120
from skelformats.ntu_text import COLUMNS, HEADER, Bodies, _scan, parse_bodies
from skelformats.protocols import load_facts
from skelformats.reader import Clip, Reader, Source, find_reader
from skelformats.text import SCANNER, as_text

COMPILED = settings(deadline=None)  # the first call may have to compile
NAME = "S001C002P003R002A013"
ID = 72057594037944734
EVERYTHING = ("color", "depth", "orientation", "body")

Body = list[str]


def joint_line(seed: int, state: int = 2) -> str:
    values = np.random.default_rng(seed).normal(size=11)
    return " ".join(f"{value:.7g}" for value in values) + f" {state}"


def body(identity: object = ID, seed: int = 0, joints: int = 25) -> Body:
    header = f"{identity} 0 1 1 0 0 0 0.01119184 -0.256052 2"
    return [header, str(joints), *(joint_line(100 * seed + j, 1 + j % 2) for j in range(joints))]


def document(frames: Sequence[Sequence[Body]], end: str = "\r\n") -> str:
    lines = [str(len(frames))]
    for bodies in frames:
        lines.append(str(len(bodies)))
        for one in bodies:
            lines += one
    return end.join(lines) + end


def parse(text: str, wanted: Sequence[str] = ("position", *EVERYTHING)) -> Bodies:
    return parse_bodies(as_text(text.encode(), "memory.skeleton"), wanted)


def read(
    folder: Path, text: str, extras: Sequence[str] = (), name: str = NAME, reader: Reader = NTU120
) -> Clip:
    path = folder / f"{name}.skeleton"
    path.write_text(text, newline="")
    options = reader.options(extras)
    (source,) = reader.scan(folder, options)
    (clip,) = reader.read(folder, source, options)
    return clip


def problem(text: str) -> FormatError:
    with pytest.raises(FormatError) as error:
        parse(text)
    assert error.value.path == "memory.skeleton"
    return error.value


def by_hand(text: str) -> tuple[int, list[tuple[int, str, list[float], np.ndarray[Any, Any]]]]:
    """Read a file field by field: frames, and for each body its frame, id, header and joints (25, 12)."""
    fields = iter(text.split())
    frames = int(next(fields))
    rows = []
    for frame in range(frames):
        for _ in range(int(next(fields))):
            identity = next(fields)
            header = [float(next(fields)) for _ in range(9)]
            joints = [[float(next(fields)) for _ in range(12)] for _ in range(int(next(fields)))]
            rows.append((frame, identity, header, np.array(joints)))
    assert next(fields, None) is None
    return frames, rows


# what a name says


def test_the_name_says_who_did_what_where(tmp_path: Path) -> None:
    clip = read(tmp_path, document([[body()]]))
    assert clip.recording == NAME
    assert clip.label == 12
    assert clip.columns == {"subject": 3, "camera": 2, "setup": 1, "replication": 2, "listed_missing": 0}
    assert clip.splits == {"xsub": "test", "xset": "test"}


@pytest.mark.parametrize(
    ("reader", "name", "splits"),
    [
        (NTU60, "S001C001P001R001A001", {"xsub": "train", "xview": "test"}),
        (NTU60, "S017C002P040R001A060", {"xsub": "test", "xview": "train"}),
        (NTU60, "S017C003P038R001A060", {"xsub": "train", "xview": "train"}),
        (NTU120, "S018C001P045R001A061", {"xsub": "train", "xset": "train"}),
        (NTU120, "S032C001P106R001A120", {"xsub": "test", "xset": "train"}),
        (NTU120, "S031C001P044R001A120", {"xsub": "test", "xset": "test"}),
        (NTU120, "S033C001P107R001A120", {"xsub": "", "xset": ""}),
    ],
)
def test_official_splits(tmp_path: Path, reader: Reader, name: str, splits: dict[str, str]) -> None:
    assert read(tmp_path, document([[body()]]), name=name, reader=reader).splits == splits


def test_every_subject_camera_and_setup_is_in_exactly_one_part_of_its_split() -> None:
    rules = {(name, rule.name): rule for name in ("ntu60", "ntu120") for rule in load_facts(name).rules}
    for key, values, train in (
        (("ntu60", "xsub"), range(1, 41), 20),
        (("ntu60", "xview"), range(1, 4), 2),
        (("ntu120", "xsub"), range(1, 107), 53),
        (("ntu120", "xset"), range(1, 33), 16),
    ):
        assert sorted(rules[key].parts) == list(values)
        assert list(rules[key].parts.values()).count("train") == train
    # a subject of NTU60 is on the same side in NTU120
    small, large = rules["ntu60", "xsub"].parts, rules["ntu120", "xsub"].parts
    assert all(large[subject] == part for subject, part in small.items())


def test_recordings_that_the_authors_list_are_read_and_left_out_of_the_splits(tmp_path: Path) -> None:
    for reader, name in ((NTU60, "S001C002P005R002A008"), (NTU120, "S001C002P005R002A008")):
        clip = read(tmp_path, document([[body()]]), name=name, reader=reader)
        assert clip.columns["listed_missing"] == 1
        assert set(clip.splits.values()) == {""}
        assert len(clip.tracks) == 1


def test_class_names_and_lists_are_complete() -> None:
    small, large = load_facts("ntu60"), load_facts("ntu120")
    assert (len(small.classes), len(large.classes)) == (60, 120)
    assert large.classes[:60] == small.classes
    assert (small.classes[0], small.classes[59]) == ("drink water", "walking apart from each other")
    assert (len(small.left_out), len(large.left_out)) == (302, 535)
    assert small.left_out < large.left_out


def test_an_action_beyond_the_class_list_has_no_label(tmp_path: Path) -> None:
    assert read(tmp_path, document([[body()]]), name="S001C001P001R001A953").label == -1


@pytest.mark.parametrize("name", [f"{NAME} (copy)", f"x{NAME}", "S1C002P003R002A013", NAME.lower(), "notes"])
def test_a_name_outside_the_grammar_is_listed_and_refused(tmp_path: Path, name: str) -> None:
    for reader in (NTU60, NTU120):
        with pytest.raises(FormatError, match="SsssCcccPpppRrrrAaaa"):
            read(tmp_path, document([[body()]]), name=name, reader=reader)


# what a folder holds


def sources(root: Path, reader: Reader = NTU120) -> list[Source]:
    return reader.scan(root, reader.options())


def test_all_folders_are_searched_and_sorted(tmp_path: Path) -> None:
    for path in ("b/S018C001P001R001A061", "a/S001C001P001R001A001", "S002C001P001R001A001"):
        file = tmp_path / f"{path}.skeleton"
        file.parent.mkdir(exist_ok=True)
        file.write_text("0\n")
    (tmp_path / "a" / "readme.txt").write_text("no source")
    assert [(s.path, s.size) for s in sources(tmp_path)] == [
        ("S002C001P001R001A001.skeleton", 2),
        ("a/S001C001P001R001A001.skeleton", 2),
        ("b/S018C001P001R001A061.skeleton", 2),
    ]


def test_ntu60_leaves_the_rest_of_ntu120_alone(tmp_path: Path) -> None:
    for name in ("S017C001P001R001A060", "S018C001P001R001A060", "S017C001P001R001A061", "odd"):
        (tmp_path / f"{name}.skeleton").write_text("0\n")
    assert [s.path for s in sources(tmp_path, NTU60)] == ["S017C001P001R001A060.skeleton", "odd.skeleton"]
    assert len(sources(tmp_path, NTU120)) == 4


def test_a_name_that_stands_in_two_folders_gives_two_recordings(tmp_path: Path) -> None:
    for folder in ("a", "b", "c/d"):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / f"{NAME}.skeleton").write_text(document([[body()]]))
    names = [NTU120.read(tmp_path, s, NTU120.options())[0].recording for s in sources(tmp_path)]
    assert names == [NAME, f"b/{NAME}", f"c/d/{NAME}"]


def test_no_file_is_opened_by_a_scan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / f"{NAME}.skeleton").write_text("not a skeleton")
    monkeypatch.setattr("builtins.open", None)
    monkeypatch.setattr("io.open", None)
    monkeypatch.setattr(Path, "open", None)
    assert sources(tmp_path) == [Source(f"{NAME}.skeleton", 14)]


def test_links_out_of_the_folder_and_hidden_files_are_no_sources(tmp_path: Path) -> None:
    outside, root = tmp_path / "outside", tmp_path / "root"
    for folder in (outside, root, root / ".hidden", root / "__MACOSX"):
        folder.mkdir()
        (folder / f"{NAME}.skeleton").write_text("0\n")
    (root / f"._{NAME}.skeleton").write_text("0\n")
    (root / "folder.skeleton").mkdir()
    (root / "S001C001P001R001A001.skeleton").symlink_to(outside / f"{NAME}.skeleton")
    (root / "S001C001P001R001A002.skeleton").symlink_to(root / f"{NAME}.skeleton")
    (root / "linked").symlink_to(outside)
    (root / "circle").symlink_to(root)
    (root / "S001C001P001R001A003.skeleton").symlink_to(root / "nowhere")
    assert [s.path for s in sources(root)] == ["S001C001P001R001A002.skeleton", f"{NAME}.skeleton"]


# what a file holds


def test_bodies_become_tracks_in_order_of_appearance(tmp_path: Path) -> None:
    frames = [[], [body(5, 1)], [body(7, 2), body(5, 3)], [], [body(7, 4)], [body(5, 5)], []]
    clip = read(tmp_path, document(frames), EVERYTHING)
    assert clip.length == 7
    assert [track.body for track in clip.tracks] == ["5", "7"]
    assert [track.frame_index.tolist() for track in clip.tracks] == [[1, 2, 5], [2, 4]]
    for track, seeds in zip(clip.tracks, ([1, 3, 5], [2, 4]), strict=True):
        wanted = np.array(
            [[joint_line(100 * s + j, 1 + j % 2).split() for j in range(25)] for s in seeds], "f8"
        )
        wanted = wanted.astype(np.float32)
        np.testing.assert_array_equal(track.position, wanted[..., 0:3])
        np.testing.assert_array_equal(track.extras["depth"], wanted[..., 3:5])
        np.testing.assert_array_equal(track.extras["color"], wanted[..., 5:7])
        np.testing.assert_array_equal(track.extras["orientation"], wanted[..., 7:11])
        np.testing.assert_array_equal(track.confidence, wanted[..., 11])
        np.testing.assert_array_equal(
            track.extras["body"][0], np.array([0, 1, 1, 0, 0, 0, 0.01119184, -0.256052, 2], "f4")
        )
        assert track.frame_index.dtype == np.int32
        assert track.position.dtype == np.float32
        assert track.confidence is not None
        assert track.confidence.dtype == np.uint8


def test_ids_that_float64_cannot_tell_apart_stay_apart(tmp_path: Path) -> None:
    assert float(ID) == float(ID + 4)
    clip = read(tmp_path, document([[body(ID + 4), body(ID)]]))
    assert [track.body for track in clip.tracks] == [str(ID + 4), str(ID)]


@pytest.mark.parametrize("identity", ["anna", "12.5", "1e5", str(2**64), "nan"])
def test_an_id_that_is_no_integer_is_kept_as_text(tmp_path: Path, identity: str) -> None:
    clip = read(tmp_path, document([[body(identity), body(1)], [body(identity)]]), ["body"])
    assert [(track.body, len(track.frame_index)) for track in clip.tracks] == [(identity, 2), ("1", 1)]


def test_an_id_that_stands_twice_in_a_frame_is_two_tracks(tmp_path: Path) -> None:
    clip = read(tmp_path, document([[body(9, 1)], [body(9, 2), body(9, 3)], [body(9, 4)]]))
    assert [(t.body, t.frame_index.tolist()) for t in clip.tracks] == [("9", [0, 1, 2]), ("9#2", [1])]


@pytest.mark.parametrize("frames", [[], [[], [], []]])
def test_a_recording_without_bodies_has_no_tracks(tmp_path: Path, frames: list[list[Body]]) -> None:
    clip = read(tmp_path, document(frames))
    assert (clip.length, clip.tracks) == (len(frames), ())


def test_only_what_is_asked_for_is_kept(tmp_path: Path) -> None:
    text = document([[body()]])
    assert read(tmp_path, text).tracks[0].extras == {}
    (track,) = read(tmp_path, text, ["color"]).tracks
    assert {name: array.shape for name, array in track.extras.items()} == {"color": (1, 25, 2)}
    with pytest.raises(UnknownNameError, match=r"Did you mean 'color'"):
        NTU120.options(["colour"])


def test_any_choice_of_columns_gives_the_same_numbers() -> None:
    text = document([[body(1, 1), body(2, 2)], [body(1, 3)]])
    everything = parse(text)
    for name in (*COLUMNS, HEADER):
        alone = parse(text, [name])
        assert list(alone.blocks) == [name]
        np.testing.assert_array_equal(alone.blocks[name], everything.blocks[name])


def with_joint(line: str) -> str:
    one = body()
    one[2 + 4] = line
    return document([[one]])


def test_a_joint_at_the_origin_is_missing() -> None:
    position = parse(with_joint("0 -0 0.000E+00 1 2 3 4 0 0 0 0 0")).blocks["position"]
    assert np.argwhere(np.isnan(position)).tolist() == [[0, 4, 0], [0, 4, 1], [0, 4, 2]]


def test_what_is_partly_nan_stays_so() -> None:
    bodies = parse(with_joint("NaN 1 0 1e1 -INF .5 5. +1E-2 inf nan 0 1"))
    np.testing.assert_array_equal(bodies.blocks["position"][0, 4], [np.nan, 1, 0])
    np.testing.assert_array_equal(bodies.blocks["depth"][0, 4], [10, -np.inf])
    np.testing.assert_array_equal(bodies.blocks["color"][0, 4], [0.5, 5])
    np.testing.assert_array_equal(
        bodies.blocks["orientation"][0, 4], np.array([0.01, np.inf, np.nan, 0], "f4")
    )
    assert bodies.tracking[0, 4] == 1


def test_line_ends_and_blanks_do_not_matter() -> None:
    frames = [[body(1, 1)], [], [body(1, 2), body(2, 3)]]
    plain = document(frames, "\n")
    wanted = parse(plain)
    for other in (
        document(frames, "\r\n"),
        document(frames, " \t \n"),
        document(frames, "\n\n  "),
        plain.replace(" ", "  \t"),
        plain.removesuffix("\n"),
        "\n \r\n" + plain + "\n\n \n",
    ):
        found = parse(other)
        assert (found.frames, found.identity) == (wanted.frames, wanted.identity)
        for name, block in wanted.blocks.items():
            np.testing.assert_array_equal(found.blocks[name], block)


def test_the_shortest_bodies_fit_into_what_is_allocated() -> None:
    shortest = ["1" + " 0" * 9, "25", *["1" + " 0" * 11] * 25]
    text = document([[shortest] * 40], "\n")
    for content in (text, text.removesuffix("\n")):
        bodies = parse(content)
        assert len(bodies.frame) == 40
        np.testing.assert_array_equal(bodies.blocks["position"], np.tile(np.float32([1, 0, 0]), (40, 25, 1)))


# what is wrong with a file

LINES = document([[body()], [body(), body()]], "\n").splitlines()


def edited(line: int, text: str) -> str:
    """Replace a line, counted from 1."""
    return "\n".join([*LINES[: line - 1], text, *LINES[line:]]) + "\n"


@pytest.mark.parametrize(
    ("line", "text", "found"),
    [
        (1, "abc", "'abc' with"),
        (1, "-1", "'-1' with"),
        (1, "1.5", "'1.5' with"),
        (1, "2 2", "'2 2' with"),
        (1, "999999999999", "'999999999999' with"),
        (1, str(10**30), f"'{10**30}' with"),
        (2, "-1", "'-1' with"),
        (2, "1000000", "'1000000' with"),
        (2, "two", "'two' with"),
        (3, "1 2 3", "3 columns in frame 1 of 2"),
        (3, LINES[2] + " 1", "11 columns in frame 1 of 2"),
        (3, LINES[2].replace("0.01119184", "x"), "'x' in frame 1 of 2"),
        (4, "24", "'24' joints in frame 1 of 2"),
        (4, "-25", "'-25' joints"),
        (4, "25 25", "'25 25' joints"),
        (4, "999999999", "'999999999' joints"),
        (5, "1 2 3 4 5 6 7 8 9 10 2", "11 columns in frame 1 of 2"),
        (7, "1 2 3 4 5 6 7 8 9 10 11 2 2", "13 columns in frame 1 of 2"),
        (7, "1 2", "2 columns in frame 1 of 2"),
        (7, "1 2,5 3 4 5 6 7 8 9 10 11 2", "'2,5' in frame 1 of 2"),
        (7, "1 2 3 4 5 6 7 8 9 10 -1.#IND 2", "'-1.#IND' in frame 1 of 2"),
        (7, "1 2 3 4 5 6 7 8 9 10 11 3", "'3' in frame 1 of 2"),
        (7, "1 2 3 4 5 6 7 8 9 10 11 2.5", "'2.5' in frame 1 of 2"),
        (30, "99", "'99' with"),
        (len(LINES), LINES[-1] + "\ngarbage 1", "'garbage 1'"),
    ],
)
def test_what_is_wrong_is_named_with_its_line(line: int, text: str, found: str) -> None:
    error = problem(edited(line, text))
    assert error.found.startswith(found), error
    assert error.line == line + text.count("\n")


def test_a_file_that_is_cut_off_says_in_which_frame() -> None:
    text = document([[body()], [body()]])
    rest = text[: text.rindex("\r\n", 0, -300)]
    error = problem(rest)
    assert error.found == "the end of the file in frame 2 of 2"
    assert error.line == rest.count("\n") + 1
    assert error.action == "The file is cut off; fetch it again"


def test_a_file_cut_off_anywhere_is_refused() -> None:
    text = document([[body(1, 1)], [], [body(1, 2)]], "\n")
    whole = len(text.rstrip())
    # the last lines are cut at every byte, the others every 97
    for end in (*range(1, whole, 97), *range(whole - 200, whole)):
        assert problem(text[:end]).line is not None


@pytest.mark.parametrize(
    "content", [b"", b"\n\n", b"\x89PNG\r\n\x1a\n", b"\xff\xfe1\x000\x00", b"103\n\x00\x00"]
)
def test_what_is_no_text_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / f"{NAME}.skeleton"
    path.write_bytes(content)
    with pytest.raises(FormatError) as error:
        NTU120.read(tmp_path, Source(path.name, len(content)), NTU120.options())
    assert str(path) in str(error.value)


def test_a_count_allocates_nothing() -> None:
    text = as_text(b"1000000000\n" + b"0\n" * 50_000, "memory")
    tracemalloc.start()
    with pytest.raises(FormatError):
        parse_bodies(text, ("position", *EVERYTHING))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 10 * text.size


VALID = document([[body(1, 1)], [], [body(1, 2), body(2, 3)]]).encode()


@COMPILED
@given(
    st.lists(st.tuples(st.integers(0, len(VALID) - 1), st.binary(max_size=4), st.integers(0, 5)), max_size=4),
    st.integers(0, len(VALID)),
    st.booleans(),
)
def test_damage_raises_format_error_and_nothing_else(
    edits: list[tuple[int, bytes, int]], end: int, cut: bool
) -> None:
    content = VALID[:end] if cut else VALID
    for at, new, removed in edits:
        content = content[:at] + new + content[at + removed :]
    assert_read_or_refused(content)


@COMPILED
@given(st.integers(0, len(VALID) - 1), st.sampled_from("0123456789.-+eEnNiI \t\r\nxX\x00\x7f"))
def test_one_wrong_byte_raises_format_error_or_reads_as_python_reads_it(at: int, byte: str) -> None:
    assert_read_or_refused(VALID[:at] + byte.encode() + VALID[at + 1 :])


@COMPILED
@given(st.text("0123456789 \n", max_size=400))
def test_numbers_at_random_raise_format_error_or_read_as_python_reads_them(text: str) -> None:
    assert_read_or_refused(text.encode())


def assert_read_or_refused(content: bytes) -> None:
    try:
        bodies = parse_bodies(as_text(content, "memory"), ("position", *EVERYTHING))
    except FormatError:
        return
    assert_as_by_hand(bodies, content.decode())


def assert_as_by_hand(bodies: Bodies, text: str) -> None:
    frames, rows = by_hand(text)
    assert bodies.frames == frames
    assert bodies.frame.tolist() == [row[0] for row in rows]
    for k, (_, identity, header, joints) in enumerate(rows):
        found = bodies.identity[k]
        assert found == (int(identity) if isinstance(found, int) else identity)
        with np.errstate(over="ignore"):
            joints, wanted_header = joints.astype(np.float32), np.float32(header)
        xyz = joints[:, 0:3]
        xyz[(xyz == 0).all(axis=1)] = np.nan
        for name, (first, last) in COLUMNS.items():
            np.testing.assert_array_equal(bodies.blocks[name][k], joints[:, first:last])
        np.testing.assert_array_equal(bodies.blocks[HEADER][k], wanted_header)
        np.testing.assert_array_equal(bodies.tracking[k], joints[:, 11])


def test_a_compiled_scan_does_not_outlive_a_change_of_the_scanner() -> None:
    parse(document([]))
    assert all(str(SCANNER) in str(signature) for signature in _scan.signatures)  # type: ignore[attr-defined]


def test_the_readers_are_registered() -> None:
    assert find_reader("ntu60") is NTU60
    assert find_reader("ntu120") is NTU120


# real files


def real_sources(data: Path) -> list[Source]:
    found = sources(data / "ntu")
    assert len(found) == 15
    return found


@pytest.mark.real
def test_real_files_read_as_python_reads_them(shared_data: Path) -> None:
    for source in real_sources(shared_data):
        content = (shared_data / "ntu" / source.path).read_bytes()
        assert_as_by_hand(
            parse_bodies(as_text(content, source.path), ("position", *EVERYTHING)), content.decode()
        )


@pytest.mark.real
def test_real_files_equal_what_the_published_reader_makes_of_them(shared_data: Path, golden: Path) -> None:
    options = NTU120.options(EVERYTHING)
    for source in real_sources(shared_data):
        (clip,) = NTU120.read(shared_data / "ntu", source, options)
        with np.load(golden / "ntu" / f"{clip.recording.rpartition('/')[2]}.npz") as want:
            joints, xyz, identities = want["stgcn_joint12"], want["stgcn_xyz"], want["body_ids"]
        assert clip.length == len(joints)
        found = np.full(joints.shape, np.nan, np.float32)
        for track in clip.tracks:
            frames, slots = np.nonzero(identities == track.body)
            np.testing.assert_array_equal(frames, track.frame_index)
            found[frames, slots] = np.concatenate(
                [
                    track.position,
                    track.extras["depth"],
                    track.extras["color"],
                    track.extras["orientation"],
                    track.confidence[..., None],
                ],
                axis=-1,
            )  # fmt: skip
        np.testing.assert_array_equal(found, joints.astype(np.float32))
        np.testing.assert_array_equal(found[..., :3], xyz.astype(np.float32))


@pytest.mark.real
def test_names_of_real_files(shared_data: Path) -> None:
    found = real_sources(shared_data)
    options = NTU120.options()
    clips = {clip.recording: clip for s in found for clip in NTU120.read(shared_data / "ntu", s, options)}
    assert len(clips) == 15
    assert "crlf/S001C001P001R001A001" in clips
    assert {name for name, clip in clips.items() if clip.label == -1} == {
        f"S001C001P001R001A{action}" for action in (901, 902, 950, 951, 952, 953)
    }
    assert len(sources(shared_data / "ntu", NTU60)) == 9
