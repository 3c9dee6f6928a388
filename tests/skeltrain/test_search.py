"""Galleries: what is stored, what is found by pose and by picture, the page, and the index of faiss."""

from __future__ import annotations

import base64
import io
import re
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
import zarr
from PIL import Image

from skelconv.crops import open_crops
from skelconv.view.cards import skeleton_svg
from skelformats.errors import SkelconvError
from skelformats.skeleton import load_skeleton
from skeltrain import features_store
from skeltrain.cli import cli
from skeltrain.features_store import write_features
from skeltrain.gallery import ImageQuery, PoseQuery, open_gallery, search
from skeltrain.metrics.faiss_index import SUFFIX, build_index, nearest_by_index, retrieve_indexed
from skeltrain.metrics.retrieval import RetrievalError, retrieve
from skeltrain.recipe import Optim
from skeltrain.run import embed_run
from tests.skeltrain.pair_stores import write_figures
from tests.skeltrain.test_align import SMALL, fit, recipe

needs_faiss = pytest.mark.skipif(
    find_spec("faiss") is None, reason="faiss-cpu is not installed (extra faiss)"
)


@pytest.fixture(scope="module")
def crops(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """16 frames of two takes with pictures."""
    return write_figures(tmp_path_factory.mktemp("figures"), 2, 8)


@pytest.fixture(scope="module")
def gallery(crops: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a run of stage all with few steps makes of them."""
    root = tmp_path_factory.mktemp("gallery")
    optim = Optim(blr=1e-3, lr_scale_rule="none", batch=8, epochs=1, iterations=1, warmup=0)
    fit(recipe(crops, "all", model=SMALL, optim=optim, epoch_steps=1), root / "run")
    features, trained = embed_run(root / "run", str(crops), "cpu")
    write_features(root / "gallery.zarr", features, trained, "embed")
    return root / "gallery.zarr"


class TestStored:
    def test_a_gallery_is_float16_with_the_poses_beside(self, gallery: Path, crops: Path) -> None:
        group = zarr.open_group(str(gallery), mode="r")
        assert group["feature"].dtype == np.float16
        opened = open_gallery(gallery)
        assert (opened.yaw, opened.pictures) == (0.0, crops.resolve())
        index = np.array([9, 3, 3])
        found = opened.rows("pose3d", index)
        position = open_crops(crops).poses("position3d", 0, 16)
        assert found is not None
        np.testing.assert_allclose(found, (position - position[:, :1])[index], atol=1e-6)
        assert opened.table["crop"].tolist() == list(range(16))

    def test_many_rows_are_sharded(
        self, gallery: Path, crops: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(features_store, "CHUNK_SAMPLES", 2)
        monkeypatch.setattr(features_store, "SHARD_SAMPLES", 6)
        features, trained = embed_run(open_gallery(gallery).checkpoint, str(crops), "cpu")
        write_features(tmp_path / "sharded.zarr", features, trained, "embed")
        files = [
            f
            for f in (tmp_path / "sharded.zarr" / "feature").rglob("*")
            if f.is_file() and f.name != "zarr.json"
        ]
        assert len(files) == 3
        np.testing.assert_array_equal(
            open_gallery(tmp_path / "sharded.zarr").feature, open_gallery(gallery).feature
        )


class TestSearch:
    def test_a_picture_file_is_embedded_as_its_crop(self, gallery: Path, crops: Path, tmp_path: Path) -> None:
        """The crop as a file, and by its place in a larger picture, gives what the store's crop gives."""
        opened, number = open_gallery(gallery), 5
        row = opened.table.iloc[number]
        by_store = search(
            opened, PoseQuery(str(crops), str(row["sequence"]), int(row["frame_index"]), "image"), 16
        )
        image = open_crops(crops).image(number)
        Image.fromarray(image).save(tmp_path / "photo.png")
        wide = np.zeros((400, 500, 3), np.uint8)
        wide[100:356, 200:392] = image
        Image.fromarray(wide).save(tmp_path / "wide.png")
        for query in (
            ImageQuery(tmp_path / "photo.png"),
            ImageQuery(tmp_path / "wide.png", (200.0, 100.0, 392.0, 356.0)),
        ):
            found = search(opened, query, 16)
            # JPEG once more
            np.testing.assert_allclose(
                found.table["cosine"].sort_values(), by_store.table["cosine"].sort_values(), atol=0.02
            )

    def test_the_command_writes_a_page_of_skeletons_and_crops(
        self, gallery: Path, crops: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        Image.fromarray(open_crops(crops).image(2)).save(tmp_path / "photo.jpg")
        out = tmp_path / "found.html"
        words = [
            "search",
            str(gallery),
            "--image",
            str(tmp_path / "photo.jpg"),
            "--k",
            "3",
            "--out",
            str(out),
        ]
        with pytest.raises(SystemExit) as done:
            cli.main(words)
        assert not done.value.code
        lines = capsys.readouterr().out.splitlines()
        assert len(lines) == 5
        assert "1 search, 3 poses" in lines[-1]
        page = out.read_text()
        pictures = re.findall(r"data:image/jpeg;base64,([^\"]+)", page)
        assert len(pictures) == 4, "the query's and three that were found"
        first = lines[1].split()
        table = open_gallery(gallery).table
        number = int(
            np.flatnonzero((table["sequence"] == first[2]) & (table["frame_index"] == int(first[3])))[0]
        )
        assert base64.b64decode(pictures[1]) == open_crops(crops).jpeg(number)
        assert Image.open(io.BytesIO(base64.b64decode(pictures[0]))).size == (192, 256)
        assert page.count("<svg") == 3
        assert "http" not in page.replace("http://www.w3.org", "")

    def test_what_cannot_be_looked_for(self, gallery: Path, crops: Path, tmp_path: Path) -> None:
        opened = open_gallery(gallery)
        (tmp_path / "note.txt").write_text("no picture")
        Image.new("RGB", (50, 50)).save(tmp_path / "dot.png")
        cases = [
            (ImageQuery(tmp_path / "gone.png"), "found no picture gone.png"),
            (ImageQuery(tmp_path / "note.txt"), "note.txt that cannot be read"),
            (ImageQuery(tmp_path / "dot.png", (10, 10, 10, 20)), "expected left < right and top < bottom"),
            (ImageQuery(tmp_path / "dot.png", (900, 900, 990, 990)), "0% of it in the picture of 50 x 50"),
        ]
        for query, words in cases:
            with pytest.raises(SkelconvError, match=words):
                search(opened, query, 3)
        for words in (["--k", "3"], ["--pose", str(crops)]):
            with pytest.raises(SystemExit) as done:
                cli.main(["search", str(gallery), *words])
            assert done.value.code == 2


class TestDrawing:
    def test_a_pose_is_drawn_upright_as_its_camera_saw_it(self) -> None:
        layout = load_skeleton("h36m17")
        pose = np.zeros((17, 3))
        pose[layout.index("head_top")] = (0.0, 0.8, 0.0)
        pose[layout.index("left_wrist")] = (0.7, 0.2, 0.0)
        pose[layout.index("right_wrist")] = (-0.7, 0.2, 0.0)
        for yaw, side in ((0.0, 1), (np.pi, -1)):
            svg = skeleton_svg(pose, layout, yaw)
            head = re.search(r'<circle cx="([\d.]+)" cy="([\d.]+)"', svg)
            assert head is not None
            assert float(head[2]) < 50 < 100
            left = [
                m
                for m in re.findall(
                    r'x1="([\d.]+)" y1="[\d.]+" x2="[\d.]+" y2="[\d.]+" stroke="#2f7de1"', svg
                )
            ]
            assert max(side * (float(x) - 50) for x in left[: len(left) // 2]) > 20
        pose[layout.index("left_wrist")] = np.nan
        assert "nan" not in skeleton_svg(pose, layout)


@pytest.fixture(scope="module")
def walks() -> tuple[torch.Tensor, np.ndarray]:
    """Embeddings of 12 takes of 1,000 frames that drift, as of videos, and frames of them with noise."""
    generator = np.random.default_rng(0)
    takes = generator.normal(size=(12, 1, 32)) + 0.03 * generator.normal(size=(12, 1000, 32)).cumsum(axis=1)
    gallery = takes.reshape(-1, 32).astype(np.float16)
    chosen = generator.integers(0, len(gallery), 100)
    query = gallery[chosen].astype(np.float32) + 0.02 * generator.normal(size=(100, 32)).astype(np.float32)
    return torch.from_numpy(query), gallery


@needs_faiss
class TestFaiss:
    def test_candidates_of_a_clustered_index_give_the_exact_answers(
        self, walks: tuple[torch.Tensor, np.ndarray]
    ) -> None:
        query, gallery = walks
        index = build_index(gallery)
        assert hasattr(index, "nprobe"), "clustered"
        exact = retrieve(query, torch.from_numpy(gallery), 10)
        found = retrieve_indexed(query, gallery, 10, index)
        assert torch.equal(found.indices, exact.indices)
        torch.testing.assert_close(found.values, exact.values, rtol=0, atol=1e-6)

    def test_without_ranking_again_they_would_not(self, walks: tuple[torch.Tensor, np.ndarray]) -> None:
        query, gallery = walks
        exact = retrieve(query, torch.from_numpy(gallery), 10).indices
        unit = query / query.norm(dim=1, keepdim=True)
        _, rough = build_index(gallery).search(unit.numpy(), 10)
        assert (torch.from_numpy(rough) == exact).float().mean() < 0.95

    def test_the_index_is_kept_and_made_anew_for_another_gallery(
        self, walks: tuple[torch.Tensor, np.ndarray], tmp_path: Path
    ) -> None:
        query, gallery = walks
        said: list[str] = []
        small = gallery[:500]
        for rows in (small, small, small[:300]):
            found = nearest_by_index(query[:5], rows, 3, tmp_path / "gallery.zarr", said.append)
            assert torch.equal(found.indices, retrieve(query[:5], torch.from_numpy(rows), 3).indices)
        assert [line.rsplit(" of ")[1] for line in said] == ["500 embeddings", "300 embeddings"]
        assert (tmp_path / f"gallery.zarr{SUFFIX}").is_file()

    def test_a_search_by_it_is_the_same(self, gallery: Path, crops: Path) -> None:
        opened = open_gallery(gallery)
        query = PoseQuery(str(crops), "take1_b0", 3)
        assert search(opened, query, 5, faiss=True).table.equals(search(opened, query, 5).table)

    def test_what_cannot_be_indexed(self) -> None:
        with pytest.raises(RetrievalError, match="empty gallery"):
            build_index(np.zeros((0, 4), np.float16))
        with pytest.raises(RetrievalError, match="row 1 of length 0"):
            build_index(np.array([[1, 0], [0, 0]], np.float16))
        index = build_index(np.eye(4, dtype=np.float16))
        with pytest.raises(RetrievalError, match="expected one width"):
            retrieve_indexed(torch.ones(1, 3), np.eye(4, dtype=np.float16), 1, index)
        with pytest.raises(RetrievalError, match="k = 5 and a gallery of 4 rows"):
            retrieve_indexed(torch.ones(1, 4), np.eye(4, dtype=np.float16), 5, index)
