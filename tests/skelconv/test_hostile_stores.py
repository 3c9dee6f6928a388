"""Stores from strangers: a sentence at open, never a traceback, a hang or a file outside the store."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from skelconv.store.info import StoreError
from skelconv.store.integrity import ATTRIBUTE, KEY, STORED, metadata_digest
from skelconv.store.store import open_store
from skelconv.verify import verify
from skelformats.errors import SkelconvError
from tests.data import make_store_v1
from tests.skelconv.small_store import make_store

Change = Callable[[dict[str, Any]], Any]


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_store(tmp_path_factory.mktemp("hostile") / "small.zarr")


@pytest.fixture
def store(sound: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(sound, tmp_path / "copy.zarr"))


def rewrite(store: Path, change: Change) -> None:
    """Change the root's metadata; ``change`` gets it parsed."""
    root = json.loads((store / "zarr.json").read_text())
    change(root)
    (store / "zarr.json").write_text(json.dumps(root))


def of(name: str, **values: Any) -> Change:
    """Change keys of an array's metadata; dots lead into it."""

    def change(root: dict[str, Any]) -> None:
        for path, value in values.items():
            node = root["consolidated_metadata"]["metadata"][name]
            *parents, last = path.split("__")
            for key in parents:
                node = node[int(key) if key.isdigit() else key]
            node[last] = value

    return change


def rename(name: str, other: str) -> Change:
    def change(root: dict[str, Any]) -> None:
        nodes = root["consolidated_metadata"]["metadata"]
        nodes[other] = nodes.pop(name)

    return change


def frames(size: Any) -> Change:
    """Let every array along frame claim a length."""

    def change(root: dict[str, Any]) -> None:
        for node in root["consolidated_metadata"]["metadata"].values():
            if node["dimension_names"][0] == "frame":
                node["shape"][0] = size
        root["attributes"]["skelconv"]["provenance"]["frames"] = size

    return change


HOSTILE: dict[str, tuple[Change, str]] = {
    "shape null": (of("position", shape=None), "array 'position': found the shape None"),
    "shape text": (of("position", shape="many"), "found the shape 'many'"),
    "shape of text": (of("position", shape=["2731", 13, 3]), "found the shape"),
    "shape of nulls": (of("position", shape=[None, 13, 3]), "found the shape"),
    "shape true": (of("frame_index", shape=[True]), "found the shape"),
    "shape negative": (of("position", shape=[-1, 13, 3]), "found the shape"),
    "shape of no dimension": (of("sequence", shape=[], dimension_names=[]), "."),
    "shape 2^40 in one array": (
        of("position", shape=[2**40, 13, 3]),
        r"array position: found the shape .* bytes of files",
    ),
    "shape 2^40 in all": (frames(2**40), r"found the shape .* bytes of files"),
    "shape 2^70": (frames(2**70), "found the shape"),
    "chunk 0": (of("label", chunk_grid__configuration__chunk_shape=[0]), "found the chunk shape"),
    "chunk null": (of("label", chunk_grid__configuration__chunk_shape=None), "array label: found"),
    "chunk text": (of("label", chunk_grid__configuration="x"), "array label: found"),
    "grid null": (of("label", chunk_grid=None), "array label: found"),
    "inner chunk 0": (
        of("position", codecs__0__configuration__chunk_shape=[0, 13, 3]),
        "array position: found",
    ),
    "unknown codec": (of("label", codecs=[{"name": "evil"}]), "zarr cannot open"),
    "codecs null": (of("label", codecs=None), "array label: found"),
    "codecs text": (of("label", codecs="bytes"), "array label: found"),
    "unknown data type": (of("label", data_type="object"), "array label: found"),
    "a name that leads out": (rename("view", "../view"), "found a name that is not that of a folder"),
    "a name that is absolute": (rename("view", "/etc/passwd"), "found a name"),
    "no name": (rename("view", ""), "found a name"),
    "dimension names": (of("label", dimension_names=[7]), "found the dimension names"),
    "too many dimension names": (of("label", dimension_names=["a", "b"]), "found the dimension names"),
    "attributes": (of("label", attributes=[1]), "found attributes that are not an object"),
    "separator": (
        of("label", chunk_key_encoding={"name": "default", "configuration": {"separator": "/../"}}),
        "array label: found",
    ),
    "no object": (
        lambda root: root["consolidated_metadata"]["metadata"].update(label=3),
        "metadata that is not an object",
    ),
    "root attributes": (lambda root: root.update(attributes=[1]), "root attributes that are not an object"),
    "skelconv text": (lambda root: root["attributes"].update(skelconv="1"), "found no attribute 'skelconv'"),
    "a skeleton that is none": (
        lambda root: root["attributes"]["skelconv"].update(skeleton={"joint": 7}),
        "expected|skeleton",
    ),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_metadata_is_refused_at_open(sound: Path, store: Path, name: str) -> None:
    change, message = HOSTILE[name]
    rewrite(store, change)
    # zarr reads an array's own metadata where it is asked to
    root = json.loads((store / "zarr.json").read_text())
    nodes = root.get("consolidated_metadata", {}).get("metadata", {})
    for array, node in nodes.items():
        if array and (store / array / "zarr.json").is_file() and not set(array) & {"/"}:
            (store / array / "zarr.json").write_text(json.dumps(node))
    with pytest.raises(SkelconvError, match=message):
        open_store(store)
    with pytest.raises(SkelconvError):
        verify(store)


def is_found(store: Path) -> bool:
    """Whether opening refuses the store, or `verify` finds something."""
    try:
        return not verify(store).ok
    except SkelconvError:
        return True


class TestFiles:
    @pytest.mark.parametrize("backend", ["direct", "zarr", "resident"])
    def test_a_pipe_for_a_shard_does_not_keep_a_reader_waiting(self, store: Path, backend: Any) -> None:
        shard = store / "position" / "c" / "0" / "0" / "0"
        shard.unlink()
        os.mkfifo(shard)
        with pytest.raises(StoreError, match="0/0/0: found something that is not a file"):
            open_store(store, backend)

    def test_nor_one_that_comes_after_opening(self, store: Path) -> None:
        opened = open_store(store)
        shard = store / "frame_index" / "c" / "0"
        shard.unlink()
        os.mkfifo(shard)
        with pytest.raises(StoreError, match="found something that is not a file"):
            opened.read(0, 10, "frame_index")

    @pytest.mark.parametrize("name", ["zarr.json", "label/zarr.json"])
    def test_nor_one_for_metadata(self, store: Path, name: str) -> None:
        if name != "zarr.json":
            rewrite(store, lambda root: root.pop("consolidated_metadata"))
        (store / name).unlink()
        os.mkfifo(store / name)
        with pytest.raises(StoreError, match="expected"):
            open_store(store)

    def test_a_folder_for_a_shard(self, store: Path) -> None:
        (store / "label" / "c" / "0").unlink()
        (store / "label" / "c" / "0").mkdir()
        with pytest.raises(StoreError, match="found something that is not a file"):
            open_store(store)

    def test_an_array_too_large_for_memory_is_one_sentence(self, store: Path) -> None:
        reader = open_store(store)._reader("position")
        with pytest.raises(StoreError, match="expected what fits in memory"):
            reader._room(2**50)  # type: ignore[attr-defined]


class TestSeal:
    """The digest of the metadata (docs/store.md, section on integrity)."""

    @pytest.mark.parametrize(
        "words", [b'"wave"', b"nobody, 2026", b"by subject", b"number of the subject", b"toyota13", b"free"]
    )
    def test_a_flipped_bit_in_class_names_citation_and_protocols_is_found(
        self, store: Path, words: bytes
    ) -> None:
        assert verify(store).ok
        file = store / "zarr.json"
        content = file.read_bytes()
        assert words in content
        file.write_bytes(content.replace(words, words[:2] + bytes([words[2] ^ 1]) + words[3:], 1))
        assert any("found metadata (zarr.json) of digest" in problem for problem in verify(store).problems)

    def test_no_bit_of_any_metadata_can_be_flipped_unseen(self, store: Path) -> None:
        files = sorted(store.rglob("zarr.json"))
        rng = np.random.default_rng(0)
        for _ in range(150):
            file = files[rng.integers(len(files))] if rng.random() < 0.5 else store / "zarr.json"
            kept = file.read_bytes()
            damaged = bytearray(kept)
            damaged[rng.integers(len(kept))] ^= 1 << int(rng.integers(8))
            file.write_bytes(damaged)
            assert is_found(store)
            file.write_bytes(kept)
        assert verify(store).ok

    def test_the_digest_is_that_of_the_specification(self, store: Path) -> None:
        import hashlib

        recorded = json.loads((store / "zarr.json").read_text())["attributes"][ATTRIBUTE][KEY]
        names = sorted(folder.name for folder in store.iterdir() if folder.is_dir())
        parts = []
        for path in ["zarr.json", *(f"{name}/zarr.json" for name in names)]:
            content = (store / path).read_bytes()
            if path == "zarr.json":
                content = content.replace(recorded.encode(), b"0" * 64)
            parts.append(path.encode() + b"\0" + len(content).to_bytes(8, "little") + content)
        assert hashlib.sha256(b"".join(parts)).hexdigest() == recorded == metadata_digest(store, recorded)

    def test_a_store_without_it_is_sound_when_it_makes_no_promise(self) -> None:
        root = json.loads((make_store_v1.STORE / "zarr.json").read_text())
        assert ATTRIBUTE not in root["attributes"]
        assert STORED not in json.dumps(root)
        assert verify(make_store_v1.STORE).ok

    def test_one_that_lost_it_is_not(self, store: Path) -> None:
        rewrite(store, lambda root: root["attributes"].pop(ATTRIBUTE))
        assert any("found no root attribute 'integrity'" in problem for problem in verify(store).problems)

    @pytest.mark.parametrize("value", [None, {}, {KEY: 7}, {KEY: "0" * 63}, {KEY: "g" * 64}])
    def test_what_is_not_a_digest_is_found(self, store: Path, value: Any) -> None:
        rewrite(store, lambda root: root["attributes"].update({ATTRIBUTE: value}))
        assert any("found metadata (zarr.json)" in problem for problem in verify(store).problems)
