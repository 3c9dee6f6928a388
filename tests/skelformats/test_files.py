"""Finding raw files: sorted, below the root, and never ended by one odd name or link."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from skelformats.errors import FormatError, SkelconvError
from skelformats.files import find_files, group_sources, list_sources
from skelformats.ucla import UCLA


def test_a_link_to_itself_and_a_dangling_one_do_not_end_the_search(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text("{}")
    (tmp_path / "loop.json").symlink_to("loop.json")
    (tmp_path / "one.json").symlink_to("two.json")
    (tmp_path / "two.json").symlink_to("one.json")
    (tmp_path / "dangling.json").symlink_to("nowhere.json")
    (tmp_path / "folder").symlink_to(".")
    assert find_files(tmp_path, ".json") == [("a.json", 2)]


def test_a_link_that_leaves_the_root_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "raw").mkdir()
    (tmp_path / "secret.json").write_text("{}")
    (tmp_path / "raw" / "a.json").symlink_to("../secret.json")
    assert find_files(tmp_path / "raw", ".json") == []


def test_a_name_that_is_not_utf_8_is_listed_and_refused_alone(tmp_path: Path) -> None:
    for name in (b"good.json", b"bad\xff.json", b"sub\xfe/c.json"):
        path = tmp_path / os.fsdecode(name)
        path.parent.mkdir(exist_ok=True)
        path.write_text("[]")
    sources = UCLA.scan(tmp_path, UCLA.options())
    assert [source.path for source in sources] == ["bad\\udcff.json", "good.json", "sub\\udcfe/c.json"]
    for source in (sources[0], sources[2]):
        with pytest.raises(FormatError, match="a name that is not UTF-8") as error:
            UCLA.read(tmp_path, source, UCLA.options())
        assert str(error.value).isprintable()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may list every folder")
def test_a_folder_that_cannot_be_listed_is_named(tmp_path: Path) -> None:
    (tmp_path / "closed").mkdir(mode=0)
    with pytest.raises(SkelconvError, match="closed: found a folder that cannot be listed"):
        find_files(tmp_path, ".json")


def test_a_root_that_is_no_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(SkelconvError, match="absent: found a folder that cannot be listed"):
        find_files(tmp_path / "absent", ".json")


def test_files_of_one_group_are_one_source_in_the_order_of_their_numbers() -> None:
    files = [("walk", 10, "b/10", 1), ("walk", 9, "b/9", 2), ("run", 0, "a", 4), ("walk", 9, "b/09", 8)]
    run, walk = group_sources(files)
    assert (run.path, run.size, run.members) == ("a", 4, ())
    assert (walk.path, walk.size, walk.members) == ("b/09", 11, ("b/9", "b/10"))


def test_every_file_is_a_source_of_its_own(tmp_path: Path) -> None:
    for name in ("b.json", "a.json", "c.txt", ".hidden.json"):
        (tmp_path / name).write_text("{}")
    assert [(source.path, source.size) for source in list_sources(tmp_path, ".json")] == [
        ("a.json", 2),
        ("b.json", 2),
    ]
