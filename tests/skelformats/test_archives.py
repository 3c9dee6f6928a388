"""Archives that nobody vouches for: what they list, what they give, and one sentence for each that is bad."""

from __future__ import annotations

import bz2
import gzip
import io
import os
import struct
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from skelformats import archives
from skelformats.archives import ArchiveError, copy_member, list_archive
from skelformats.errors import FormatError, SkelconvError
from skelformats.raw_bytes import digests
from skelformats.raw_open import open_raw
from skelformats.raw_root import prepare
from skelformats.tar_archive import unpack_tar

CONTENT = {
    "a.txt": b"one\n" * 300,
    "deep/er/b.txt": bytes(range(256)) * 9,
    "long/" + "n" * 180 + ".txt": b"of a long name",
    "naïve/ü.txt": b"not ASCII",
    "empty.txt": b"",
}


def zipped(path: Path, content: dict[str, bytes], how: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", how) as file:
        for name, data in content.items():
            file.writestr(name, data)
    return path


def tarred(path: Path, content: dict[str, bytes], form: int = tarfile.PAX_FORMAT) -> Path:
    mode = {".gz": "w:gz", ".tgz": "w:gz", ".bz2": "w:bz2"}.get(path.suffix, "w")
    with tarfile.open(path, mode, format=form) as file:  # type: ignore[call-overload]
        for name, data in content.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            file.addfile(info, io.BytesIO(data))
    return path


def content_of(path: Path) -> dict[str, bytes]:
    """What the archive gives, member by member; compressed tars in one pass."""
    found = {}
    kept: dict[int, io.BytesIO] = {}
    members = list_archive(path)
    for member in members:
        if member.place.how == "packed":
            kept[member.place.offset] = sink = io.BytesIO()
            sink.close = lambda: None  # type: ignore[method-assign]
            continue
        out = io.BytesIO()
        copy_member(member.place, out)
        found[member.name] = out.getvalue()
    if kept:
        unpack_tar(path, lambda _, offset: kept.get(offset))
    packed = {m.name: kept[m.place.offset].getvalue() for m in members if m.place.how == "packed"}
    return found | packed


@pytest.mark.parametrize("how", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_a_zip_gives_what_was_put_in(tmp_path: Path, how: int) -> None:
    assert content_of(zipped(tmp_path / "a.zip", CONTENT, how)) == CONTENT


@pytest.mark.parametrize("form", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT])
@pytest.mark.parametrize("name", ["a.tar", "a.tar.gz", "a.tgz", "a.tar.bz2"])
def test_a_tar_of_either_form_gives_what_was_put_in(tmp_path: Path, name: str, form: int) -> None:
    assert content_of(tarred(tmp_path / name, CONTENT, form)) == CONTENT


def test_a_gzip_gives_one_file(tmp_path: Path) -> None:
    (tmp_path / "a.txt.gz").write_bytes(gzip.compress(CONTENT["a.txt"]))
    assert content_of(tmp_path / "a.txt.gz") == {"a.txt": CONTENT["a.txt"]}


def test_the_list_of_a_tar_is_that_of_python(tmp_path: Path) -> None:
    for form in (tarfile.USTAR_FORMAT, tarfile.PAX_FORMAT, tarfile.GNU_FORMAT):
        path = tarred(tmp_path / f"{form}.tar", {"x" * 90 + "/" + "y" * 60: b"1" * 700, "z": b"2"}, form)
        with tarfile.open(path) as file:
            want = [(info.name, info.size, info.offset_data) for info in file]
        assert [(m.name, m.place.size, m.place.offset) for m in list_archive(path)] == want


def test_hidden_files_links_and_archives_within_are_not_read(tmp_path: Path) -> None:
    path = tarred(
        tmp_path / "a.tar", {".b": b"1", "__MACOSX/x": b"2", ".git/x": b"3", "in.zip": b"4", "in.7z": b""}
    )
    with tarfile.open(path, "a") as file:
        for kind, name in ((tarfile.SYMTYPE, "soft"), (tarfile.LNKTYPE, "hard")):
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, "/etc/passwd"
            file.addfile(info)
    assert [(member.name, member.odd) for member in list_archive(path)] == [
        ("in.zip", "archive in an archive"),
        ("in.7z", "archive in an archive"),
        ("soft", "link"),
        ("hard", "link"),
    ]


NAMES = ["../a.txt", "/etc/a.txt", "b/../../a.txt", "C:/a.txt", "..\\a.txt"]


@pytest.mark.parametrize("name", NAMES)
def test_a_zip_whose_names_lead_out_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ArchiveError, match="leads out of the archive"):
        list_archive(zipped(tmp_path / "a.zip", {name: b""}))


@pytest.mark.parametrize("name", NAMES[:4])
def test_a_tar_whose_names_lead_out_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ArchiveError, match="leads out of the archive"):
        list_archive(tarred(tmp_path / "a.tar", {name: b""}))


@pytest.mark.parametrize("make", [zipped, tarred])
def test_a_bomb_is_refused_by_its_growth(
    tmp_path: Path, make: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archives, "FREE_BYTES", 2**20)
    path = make(tmp_path / ("a.zip" if make is zipped else "a.tar.gz"), {"a.txt": bytes(3 * 2**20)})
    with pytest.raises(ArchiveError, match="over 250 times as many"):
        list_archive(path)


def test_a_zip_that_lists_its_bytes_twice_is_refused(tmp_path: Path) -> None:
    data = bytearray(zipped(tmp_path / "a.zip", {"a.txt": b"1" * 500, "b.txt": b"2" * 500}).read_bytes())
    second = data.rindex(b"PK\x01\x02")
    data[second + 42 : second + 46] = struct.pack("<I", 0)  # where the second file is said to begin
    (tmp_path / "a.zip").write_bytes(data)
    with pytest.raises(ArchiveError, match="share bytes"):
        list_archive(tmp_path / "a.zip")


def test_a_zip_with_a_password_or_an_odd_method_is_refused(tmp_path: Path) -> None:
    data = bytearray(zipped(tmp_path / "a.zip", {"a.txt": b"1"}).read_bytes())
    at = data.index(b"PK\x01\x02")
    data[at + 8] |= 1
    (tmp_path / "a.zip").write_bytes(data)
    with pytest.raises(ArchiveError, match=r"a\.txt encrypted.*password"):
        list_archive(tmp_path / "a.zip")
    with pytest.raises(ArchiveError, match="compressed by method 14"):
        list_archive(zipped(tmp_path / "b.zip", {"a.txt": b"1"}, zipfile.ZIP_LZMA))


def test_too_many_files_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archives, "MOST_FILES", 3)
    many = {f"{n}.txt": b"" for n in range(4)}
    for path in (zipped(tmp_path / "a.zip", many), tarred(tmp_path / "a.tar", many)):
        with pytest.raises(ArchiveError, match="more than 3 files"):
            list_archive(path)


def test_a_tar_header_is_held_to_its_size(tmp_path: Path) -> None:
    info = tarfile.TarInfo("././@LongLink")
    info.type, info.size = tarfile.GNUTYPE_LONGNAME, 2**40
    (tmp_path / "a.tar").write_bytes(info.tobuf(tarfile.GNU_FORMAT))
    with pytest.raises(ArchiveError, match="a header of 1,099,511,627,776 bytes"):
        list_archive(tmp_path / "a.tar")


@pytest.mark.parametrize("name", ["a.zip", "a.tar", "a.tar.gz", "a.tar.bz2", "a.txt.gz"])
def test_damaged_archives_end_in_one_sentence(tmp_path: Path, name: str) -> None:
    """Every archive cut off or changed at many places: what it gives is right, or it is refused."""
    path = tmp_path / name
    if name == "a.txt.gz":
        want = {"a.txt": os.urandom(3000)}
        path.write_bytes(gzip.compress(want["a.txt"]))
    else:
        want = {"a.txt": os.urandom(3000), "b/c.txt": b"text " * 99}
        (zipped if name == "a.zip" else tarred)(path, want)
    whole = path.read_bytes()
    refused = 0
    for at in range(0, len(whole), 97):
        for data in (whole[:at], whole[:at] + bytes([whole[at] ^ 0x41]) + whole[at + 1 :]):
            path.write_bytes(data)
            if problem := _problem(path):
                assert "\n" not in problem
                assert problem.startswith(str(path))
                refused += 1
    assert refused > len(whole) // 200


def _problem(path: Path) -> str:
    try:
        content_of(path)
    except ArchiveError as error:
        return str(error)
    return ""


def test_a_member_of_another_checksum_or_size_is_refused(tmp_path: Path) -> None:
    path = zipped(tmp_path / "a.zip", {"a.txt": b"1" * 500}, zipfile.ZIP_STORED)
    place = list_archive(path)[0].place
    data = bytearray(path.read_bytes())
    data[100] ^= 1
    path.write_bytes(data)
    with pytest.raises(ArchiveError, match="bytes of checksum"):
        copy_member(place, io.BytesIO())
    twice = tmp_path / "b.txt.gz"
    twice.write_bytes(gzip.compress(b"1" * 50) + gzip.compress(b"2" * 50))
    with pytest.raises(ArchiveError, match="several streams"):
        copy_member(list_archive(twice)[0].place, io.BytesIO())


def test_a_damaged_member_is_a_format_error_of_its_name(tmp_path: Path) -> None:
    path = zipped(tmp_path / "a.zip", {"b/a.txt": b"1" * 500}, zipfile.ZIP_STORED)
    data = bytearray(path.read_bytes())
    data[100] ^= 1
    path.write_bytes(data)
    root = open_raw([path], tmp_path / "out")
    with pytest.raises(FormatError, match=r"^b/a\.txt: found in a\.zip bytes of checksum"):
        root / "b/a.txt"


def test_digests_are_equal_wherever_the_bytes_lie(tmp_path: Path) -> None:
    data = {"a.txt": os.urandom(300_000)}
    paths = [tarred(tmp_path / "a.tar", data), tarred(tmp_path / "a.tgz", data)]
    paths.append(zipped(tmp_path / "a.zip", data))
    (tmp_path / "a.txt.gz").write_bytes(gzip.compress(data["a.txt"]))
    places = [list_archive(path)[0].place for path in (*paths, tmp_path / "a.txt.gz")]
    assert len(set(digests(places).values())) == 1


def test_a_root_that_was_unpacked_for_leaves_nothing(tmp_path: Path) -> None:
    path = tarred(tmp_path / "a.tgz", CONTENT)
    root = open_raw([path], tmp_path / "out")
    prepare(root, list(CONTENT))
    assert (root / "a.txt").read_bytes() == CONTENT["a.txt"]
    assert [entry.name for entry in tmp_path.iterdir() if entry.is_dir()] != []
    del root
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.tgz"]


def test_an_empty_file_of_a_compressed_tar_is_there(tmp_path: Path) -> None:
    root = open_raw([tarred(tmp_path / "a.tgz", CONTENT)], tmp_path / "out")
    prepare(root, ["empty.txt"])
    assert (root / "empty.txt").read_bytes() == b""


def test_no_room_for_a_compressed_tar_is_said_with_the_numbers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = open_raw([tarred(tmp_path / "a.tgz", CONTENT)], tmp_path / "out")
    monkeypatch.setattr("shutil.disk_usage", lambda path: os.terminal_size((0, 0)) and Usage())
    with pytest.raises(SkelconvError, match=r"0\.00 GB free .* expected the 0\.00 GB"):
        prepare(root, list(CONTENT))


class Usage:
    """What a full disk says of itself."""

    free = 0


def test_bz2_is_not_read_alone(tmp_path: Path) -> None:
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw" / "a.txt.bz2").write_bytes(bz2.compress(b"1"))
    root = open_raw([tmp_path / "raw"])
    assert "not read in place" in str(root.catalogue.unread[0])  # type: ignore[attr-defined]
