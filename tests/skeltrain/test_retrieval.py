"""Retrieval and its measures, against one comparison after another."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from skelformats.errors import SkelconvError
from skeltrain.metrics.alignment import (
    alignment_diagnostics,
    best_of_s,
    effective_rank,
    interpolation_measures,
    slerp,
)
from skeltrain.metrics.retrieval import (
    Embedded,
    RetrievalError,
    errors_of_found,
    evaluate_retrieval,
    nearest_pose,
    neighbours_in_time,
    recall,
    recall_within,
    retrieve,
)


def mpjpe(pred: Tensor, target: Tensor) -> Tensor:
    return (pred - target).norm(dim=-1).mean(dim=-1)


def ranked(query: np.ndarray, gallery: np.ndarray, hidden: np.ndarray | None = None) -> list[list[int]]:
    """Rows of the gallery by falling cosine, equals by row; those hidden left out."""
    order = []
    for i, q in enumerate(query):
        cosines = [float(q @ g / math.sqrt((q @ q) * (g @ g))) for g in gallery]
        rows = [n for n in range(len(gallery)) if hidden is None or not hidden[i, n]]
        order.append(sorted(rows, key=lambda n: (-cosines[n], n)))
    return order


class TestRetrieve:
    @pytest.mark.parametrize(("query_chunk", "gallery_chunk"), [(1024, 16384), (3, 7), (1, 1), (5, 2)])
    @pytest.mark.parametrize("k", [1, 4])
    def test_it_finds_what_comparing_all_finds(self, k: int, query_chunk: int, gallery_chunk: int) -> None:
        generator = torch.Generator().manual_seed(0)
        query, gallery = torch.randn(11, 6, generator=generator), torch.randn(40, 6, generator=generator)
        found = retrieve(query, gallery, k, None, query_chunk, gallery_chunk)
        expected = [rows[:k] for rows in ranked(query.double().numpy(), gallery.double().numpy())]
        assert found.indices.tolist() == expected
        cosines = functional.cosine_similarity(query[:, None], gallery[found.indices], dim=-1)
        torch.testing.assert_close(found.values, cosines)

    @pytest.mark.parametrize("gallery_chunk", [16384, 4, 3, 1])
    def test_of_equal_rows_the_lowest_come_first(self, gallery_chunk: int) -> None:
        axes = torch.eye(4)
        gallery = axes[[1, 0, 0, 2, 0, 1, 0, 0, 3]]
        found = retrieve(axes[:2], gallery, 4, gallery_chunk=gallery_chunk)
        assert found.indices.tolist() == [[1, 2, 4, 6], [0, 5, 1, 2]]

    def test_float16_and_length_do_not_matter(self) -> None:
        generator = torch.Generator().manual_seed(0)
        query, gallery = torch.randn(5, 8, generator=generator), torch.randn(30, 8, generator=generator)
        plain = retrieve(query, gallery, 3).indices
        scaled = retrieve(100 * query, gallery * torch.rand(30, 1, generator=generator).add(0.1), 3)
        assert torch.equal(plain, scaled.indices)
        assert retrieve(query, gallery.half(), 3).values.dtype == torch.float32

    def test_neighbours_in_time_are_not_seen(self) -> None:
        generator = torch.Generator().manual_seed(0)
        gallery = torch.randn(20, 6, generator=generator)
        sequence, frame = torch.arange(20) // 10, torch.arange(20) % 10
        exclude = neighbours_in_time((sequence, frame), (sequence, frame), 2)
        found = retrieve(gallery, gallery, 5, exclude, query_chunk=6, gallery_chunk=7)
        hidden = np.array(
            [[i // 10 == n // 10 and abs(i % 10 - n % 10) <= 2 for n in range(20)] for i in range(20)]
        )
        expected = [rows[:5] for rows in ranked(gallery.numpy(), gallery.numpy(), hidden)]
        assert found.indices.tolist() == expected

    def test_fewer_than_k_left_are_marked(self) -> None:
        gallery = torch.eye(3)
        time = (torch.zeros(3, dtype=torch.long), torch.arange(3))
        found = retrieve(gallery, gallery, 2, neighbours_in_time(time, time, 1))
        assert found.indices.tolist() == [[2, -1], [-1, -1], [0, -1]]
        assert found.values[1].tolist() == [-math.inf, -math.inf]

    def test_what_cannot_be_searched_is_refused(self) -> None:
        with pytest.raises(RetrievalError, match="of one width"):
            retrieve(torch.eye(3), torch.eye(4))
        with pytest.raises(RetrievalError, match="k = 4 and a gallery of 3"):
            retrieve(torch.eye(3), torch.eye(3), 4)
        broken = torch.eye(3)
        broken[1] = 0
        with pytest.raises(RetrievalError, match="query 1 of length 0"):
            retrieve(broken, torch.eye(3))
        broken[1, 0] = torch.nan
        with pytest.raises(RetrievalError, match="gallery row 1 of length nan"):
            retrieve(torch.eye(3), broken, gallery_chunk=1)


def walk(frames: int, seed: int) -> Tensor:
    """Root-relative poses of a slow random walk: neighbours in time are near duplicates."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(frames, 4, 3, generator=generator).mul(2.0).cumsum(0) + 100.0 * seed


class TestEvaluation:
    def test_figures_are_those_of_loops(self) -> None:
        generator = torch.Generator().manual_seed(0)
        pose = torch.cat([walk(15, 0), walk(15, 1)])
        embedding = pose.flatten(1) + torch.randn(30, 12, generator=generator)
        query = pose.flatten(1) + 20 * torch.randn(30, 12, generator=generator)
        sequence, frame = torch.arange(30) // 15, torch.arange(30) % 15
        train_pose = walk(12, 2) - 150
        train = Embedded(train_pose.flatten(1), train_pose, torch.zeros(12).long(), torch.arange(12))
        found = evaluate_retrieval(
            query, Embedded(embedding, pose, sequence, frame), {"mpjpe": mpjpe}, 3, train, (15.0,)
        )
        hidden = np.array(
            [[i // 15 == n // 15 and abs(i % 15 - n % 15) <= 3 for n in range(30)] for i in range(30)]
        )
        nothing = np.zeros((30, 12), bool)
        for name, gallery, mask in (
            ("paper", Embedded(embedding, pose, sequence, frame), np.zeros((30, 30), bool)),
            ("apart", Embedded(embedding, pose, sequence, frame), hidden),
            ("train", train, nothing),
        ):
            first = [rows[0] for rows in ranked(query.numpy(), gallery.embedding.numpy(), mask)]
            errors = [float(mpjpe(gallery.pose[n], pose[i])) for i, n in enumerate(first)]
            assert found[f"{name}/mpjpe"] == pytest.approx(np.mean(errors), rel=1e-5)
            assert found[f"{name}/mpjpe within 15"] == pytest.approx(np.mean(np.array(errors) < 15))
            if name == "paper":
                assert found["paper/exact index at 1"] == np.mean([i == n for i, n in enumerate(first)])
                continue
            best = [
                min(
                    float(mpjpe(gallery.pose[n], pose[i])) for n in range(len(gallery.pose)) if not mask[i, n]
                )
                for i in range(30)
            ]
            assert found[f"{name}/oracle mpjpe"] == pytest.approx(np.mean(best), rel=1e-5)

    def test_perfect_embeddings_show_why_the_papers_figure_says_little(self) -> None:
        pose = walk(200, 0)
        same = Embedded(pose.flatten(1), pose, torch.zeros(200).long(), torch.arange(200))
        found = evaluate_retrieval(pose.flatten(1), same, {"mpjpe": mpjpe}, 25)
        assert found["paper/exact index at 1"] == 1.0
        assert found["paper/mpjpe"] == 0.0
        assert found["apart/mpjpe"] >= found["apart/oracle mpjpe"] > 5.0

    def test_recall_and_errors(self) -> None:
        indices = torch.tensor([[0, 2], [2, 0], [1, -1]])
        assert recall(indices, torch.tensor([2, 1, 1])) == pytest.approx(2 / 3)
        query, gallery = torch.zeros(3, 1, 3), torch.tensor([[[3.0, 0, 0]], [[0, 4, 0]], [[0, 0, 5]]])
        errors = errors_of_found(indices, query, gallery, mpjpe)
        assert errors.tolist() == [[3, 5], [5, 3], [4, math.inf]]
        assert recall_within(errors, 4.0) == pytest.approx(2 / 3)
        assert nearest_pose(query, gallery).tolist() == [0, 0, 0]

    def test_queries_of_other_frames_are_refused(self) -> None:
        pose = walk(5, 0)
        test = Embedded(pose.flatten(1), pose, torch.zeros(5).long(), torch.arange(5))
        with pytest.raises(RetrievalError, match="3 queries of 5"):
            evaluate_retrieval(torch.randn(3, 12), test, {"mpjpe": mpjpe}, 1)


class TestDiagnostics:
    def test_they_tell_aligned_from_opposite_and_collapsed(self) -> None:
        x = torch.randn(60, 16, generator=torch.Generator().manual_seed(0))
        aligned = alignment_diagnostics({"image": x, "pose2d": 2 * x, "pose3d": x})
        assert aligned["cosine image-pose2d"] == pytest.approx(1.0, abs=1e-6)
        assert aligned["eigenvalue"] == pytest.approx(3.0, abs=1e-5)
        assert abs(aligned["unmatched"]) < 0.05
        opposite = alignment_diagnostics({"image": x, "pose2d": x, "pose3d": -x})
        assert opposite["eigenvalue"] == pytest.approx(3.0, abs=1e-5)
        assert opposite["cosine image-pose3d"] == pytest.approx(-1.0, abs=1e-6)
        collapsed = alignment_diagnostics({"image": torch.ones(9, 4), "pose2d": torch.ones(9, 4)})
        assert collapsed["unmatched"] == pytest.approx(1.0, abs=1e-6)
        assert collapsed["effective rank image"] == pytest.approx(1.0, abs=1e-6)
        assert "eigenvalue" not in collapsed
        with pytest.raises(SkelconvError, match="at least two"):
            alignment_diagnostics({"image": x})

    def test_the_effective_rank_counts_directions_used(self) -> None:
        assert effective_rank(torch.eye(6)[[0, 1, 2, 0, 1, 2]]) == pytest.approx(3.0)
        values = np.linalg.svd(np.arange(12.0).reshape(4, 3) ** 0.5, compute_uv=False)
        share = values / values.sum()
        expected = math.exp(-sum(p * math.log(p) for p in share))
        found = effective_rank(torch.arange(12.0, dtype=torch.float64).reshape(4, 3).sqrt())
        assert found == pytest.approx(expected, rel=1e-6)


class TestInterpolation:
    def test_slerp_walks_the_arc_in_equal_angles(self) -> None:
        ends = torch.randn(2, 5, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        path = slerp(ends[0], ends[1], 11)
        assert path.shape == (11, 5, 8)
        torch.testing.assert_close(path.norm(dim=-1), torch.ones(11, 5, dtype=torch.float64))
        torch.testing.assert_close(path[0], functional.normalize(ends[0], dim=-1))
        torch.testing.assert_close(path[-1], functional.normalize(ends[1], dim=-1))
        angle = (path[1:] * path[:-1]).sum(-1).clamp(-1, 1).arccos()
        torch.testing.assert_close(angle, angle[:1].expand_as(angle), atol=1e-9, rtol=0)
        same = slerp(ends[0], ends[0], 3)
        torch.testing.assert_close(same[1], functional.normalize(ends[0], dim=-1))

    def test_paths_that_do_not_exist_are_refused(self) -> None:
        x = torch.eye(3)
        with pytest.raises(SkelconvError, match="opposite"):
            slerp(x, -x)
        with pytest.raises(SkelconvError, match="zero length"):
            slerp(x, 0 * x)
        with pytest.raises(SkelconvError, match="1 points"):
            slerp(x, x, 1)
        with pytest.raises(SkelconvError, match="1 poses"):
            interpolation_measures(torch.zeros(1, 2, 3), [(0, 1)])

    def test_measures_of_an_even_path_and_of_a_jump(self) -> None:
        even = torch.zeros(5, 2, 3)
        even[:, 1, 0] = 1.0
        even[..., 1] += torch.arange(5.0)[:, None]
        found = interpolation_measures(even, [(0, 1)], train=even[2:3])
        assert found["step ratio"] == pytest.approx(1.0)
        assert found["bone deviation"] == pytest.approx(0.0)
        assert found["to train"] == pytest.approx((2 + 1 + 0 + 1 + 2) / 5)
        jump = even.clone()
        jump[3:, 1, 0] = 2.0
        found = interpolation_measures(jump, [(0, 1)])
        assert found["step ratio"] > 1.1
        assert found["bone deviation"] == pytest.approx(np.std([1, 1, 1, 2, 2]))


def test_the_best_of_several_is_chosen_by_the_truth() -> None:
    target = torch.zeros(2, 1, 3)
    hypotheses = torch.tensor([[[[1.0, 0, 0]], [[5.0, 0, 0]]], [[[2.0, 0, 0]], [[3.0, 0, 0]]]])
    assert best_of_s(hypotheses, target, mpjpe).tolist() == [1.0, 3.0]
