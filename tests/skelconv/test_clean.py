"""The chains as a whole: their names, their errors, and equality with the published arrays."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from skelconv.clean import (
    CHAINS,
    Actors,
    CleaningError,
    chain_names,
    clean,
    default_chain,
    find_chain,
    gather_extra,
)
from skelconv.clean import run_steps as run_chain
from skelconv.clean.samples import arrange
from skelconv.store.info import DatasetInfo
from skelconv.store.recording import Recording
from skelformats.errors import UnknownNameError
from skelformats.reader import Reader, usable_readers
from tests.installed import install
from tests.skelconv.ntu_text import read_recording
from tests.skelconv.scenes import NTU25, TOYOTA13, body, recording

DOCS = Path(__file__).resolve().parents[2] / "docs" / "cleaning.md"

GOLDEN_NAMES = (
    "S001C001P001R001A001",
    "S001C001P001R001A003",
    "S001C001P001R001A005",
    "S001C001P001R001A050",
    "S001C001P001R001A901",
    "S001C001P001R001A902",
    "S001C001P001R001A950",
    "S001C001P001R001A951",
    "S001C001P001R001A952",
    "S001C001P001R001A953",
    "S001C003P008R002A058",
    "S003C001P015R001A034",
    "S017C003P020R002A055",
    "S017C003P020R002A056",
)
SWAPPED_SLOTS = "S001C001P001R001A950"


def up_to(chain: str, last_step: str) -> str:
    """Not a chain's name but a part of one: everything up to and with the step called ``last_step``."""
    return f"{chain}:{last_step}"


def run(take: Recording, part: str) -> Actors:
    name, _, last = part.partition(":")
    chain = find_chain(name)
    if last:
        chain = replace(chain, steps=chain.steps[: chain.step_names.index(last) + 1])
    return run_chain(take, chain, NTU25)


def side_by_side(actors: Actors) -> NDArray[np.float32]:
    """(T, M * J * A): the way CTR-GCN's arrays hold persons."""
    frames = actors.position.shape[1]
    return np.concatenate([person.reshape(frames, -1) for person in actors.position], axis=1)


def info_of(name: str, cleaning: str = "") -> DatasetInfo:
    return DatasetInfo(name=name, title="", licence="", citation="", homepage="", cleaning=cleaning)


class TestRegistry:
    def test_every_chain_is_found_by_the_name_it_carries(self) -> None:
        assert {"ctrgcn", "sgn", "ucla", "metric", "none", "pyskl", "msg3d"} <= set(CHAINS)
        assert all(find_chain(name).name == name for name in CHAINS)

    def test_an_unknown_chain_is_named_with_the_nearest_known_one(self) -> None:
        with pytest.raises(UnknownNameError, match=r"ctr-gcn.*Did you mean 'ctrgcn'"):
            clean(recording(body(range(5))), "ctr-gcn", NTU25)

    @pytest.mark.parametrize("reader", usable_readers()[0], ids=lambda reader: reader.name)
    def test_a_dataset_is_cleaned_with_the_chain_that_it_names(self, reader: Reader) -> None:
        assert default_chain(info_of(reader.dataset.name, reader.dataset.cleaning)) == reader.dataset.cleaning
        assert reader.dataset.cleaning in CHAINS

    @pytest.mark.parametrize("reader", usable_readers()[0], ids=lambda reader: reader.name)
    def test_a_store_that_names_no_chain_is_cleaned_as_its_dataset_is(self, reader: Reader) -> None:
        assert default_chain(info_of(reader.dataset.name)) == reader.dataset.cleaning

    def test_the_chains_of_the_datasets_are_those_of_the_paper(self) -> None:
        named = {reader.name: reader.dataset.cleaning for reader in usable_readers()[0]}
        assert {name for name, chain in named.items() if chain == "sgn"} == {
            "ntu60",
            "ntu120",
            "pku1",
            "pku2",
        }
        assert {name for name, chain in named.items() if chain == "ucla"} == {"ucla"}

    def test_a_chain_of_another_package_is_found_through_its_entry_point(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        code = """
        from skelconv.clean import CHAINS
        from skelconv.clean.chains import Chain

        def halve(actors, skeleton):
            from dataclasses import replace
            return replace(actors, position=actors.position / 2)

        HALVED = Chain("halved", "as none, half as large", "nobody", (*CHAINS["none"].steps, halve))
        """
        install(tmp_path, monkeypatch, "halving", code, "skelconv.chains", {"halved": "HALVED"})
        assert "halved" in chain_names()
        take = recording(body(range(5)))
        np.testing.assert_array_equal(
            clean(take, "halved", NTU25).position, clean(take, "none", NTU25).position / 2
        )

    def test_the_documentation_describes_every_chain_and_every_step(self) -> None:
        text = DOCS.read_text(encoding="utf-8")
        names = set(CHAINS) | {step for chain in CHAINS.values() for step in chain.step_names}
        assert [name for name in sorted(names) if f"`{name}`" not in text] == []

    def test_only_the_ucla_chains_end_with_the_scaling(self) -> None:
        scaling = [name for name, chain in CHAINS.items() if chain.scaling == "minmax"]
        assert scaling == ["ucla", "ucla_facing"]
        assert "scale_to_unit_range" not in CHAINS["ucla"].without_scaling().step_names
        assert CHAINS["sgn"].without_scaling() is CHAINS["sgn"]


class TestErrors:
    @pytest.mark.parametrize("chain", CHAINS)
    def test_a_recording_without_bodies_is_named(self, chain: str) -> None:
        with pytest.raises(CleaningError, match="S001: found no body in any of its 7 frames"):
            clean(Recording("S001", 7, ()), chain, NTU25)

    @pytest.mark.parametrize("chain", CHAINS)
    def test_a_recording_without_any_observed_joint_is_an_error(self, chain: str) -> None:
        ghost = body(range(20))
        ghost = replace(ghost, position=np.full_like(ghost.position, np.nan))
        with pytest.raises(CleaningError, match="walk: found no observed joint"):
            clean(recording(ghost), chain, NTU25)

    @pytest.mark.parametrize("chain", ["pyskl_prenorm", "msg3d_prenorm"])
    def test_a_chain_that_rotates_refuses_two_axes(self, chain: str) -> None:
        flat = body(range(20))
        flat = replace(flat, position=flat.position[..., :2])
        with pytest.raises(CleaningError, match=f"found positions of 2 axes, expected 3.*{chain}"):
            clean(recording(flat), chain, NTU25)

    def test_a_chain_that_needs_a_joint_names_it(self) -> None:
        with pytest.raises(UnknownNameError, match="spine_base"):
            clean(recording(body(range(20), joints=13)), "pyskl_prenorm", TOYOTA13)


@pytest.mark.parametrize("chain", CHAINS)
class TestEveryChain:
    def test_gives_float32_persons_on_one_time_axis(self, chain: str) -> None:
        actors = clean(recording(body(range(30), 1), body(range(5, 25), 2), length=40), chain, NTU25)
        persons, frames = actors.present.shape
        assert actors.position.shape == (persons, frames, 25, 3)
        assert actors.position.dtype == np.float32
        assert actors.frame_index.dtype == np.int32
        assert actors.frame_index.shape == (frames,)
        assert np.isfinite(actors.position).all()

    def test_a_recording_of_one_frame_works(self, chain: str) -> None:
        actors = clean(recording(body([3])), chain, NTU25)
        assert actors.present[0].any()
        assert np.isfinite(actors.position).all()

    def test_leaves_the_recording_as_it_is(self, chain: str) -> None:
        one = body(range(30), 1)
        one.position[3, 4] = np.nan
        before = one.position.copy()
        one.position.flags.writeable = False
        clean(recording(one, body(range(12, 30), 2)), chain, NTU25)
        np.testing.assert_array_equal(one.position, before)

    def test_absent_person_frames_are_zero_and_have_no_body(self, chain: str) -> None:
        actors = clean(recording(body(range(30), 1), body(range(5, 18), 2)), chain, NTU25)
        absent = ~actors.present
        assert not actors.position[absent].any()
        np.testing.assert_array_equal(actors.body < 0, absent)
        np.testing.assert_array_equal(actors.row < 0, absent)


@pytest.mark.real
class TestPublishedArrays:
    """Equality with arrays that the published scripts themselves wrote (golden/ntu/README.md)."""

    @pytest.fixture(params=GOLDEN_NAMES)
    def name(self, request: pytest.FixtureRequest) -> str:
        return str(request.param)

    @pytest.fixture
    def path(self, name: str, shared_data: Path) -> Path:
        genuine = shared_data / "ntu" / f"{name}.skeleton"
        return genuine if genuine.exists() else shared_data / "ntu" / "derived" / f"{name}.skeleton"

    @pytest.fixture
    def published(self, name: str, golden: Path) -> dict[str, NDArray[np.generic]]:
        with np.load(golden / "ntu" / f"{name}.npz") as arrays:
            return dict(arrays)

    @pytest.fixture
    def take(self, path: Path) -> Recording:
        return read_recording(path)

    @pytest.mark.parametrize(
        ("key", "part"),
        [
            ("ctrgcn_denoised_joints", up_to("ctrgcn", "drop_zero_sum_frames")),
            ("ctrgcn_translated_joints", "ctrgcn"),
            ("ctrgcn60_aligned", "ctrgcn60"),
            ("ctrgcn120_aligned", "ctrgcn120"),
        ],
    )
    def test_ctrgcn(
        self, take: Recording, published: dict[str, NDArray[np.generic]], key: str, part: str
    ) -> None:
        ours = side_by_side(run(take, part))
        assert ours.dtype == published[key].dtype
        np.testing.assert_array_equal(ours, published[key])

    def test_ctrgcn_raw_bodies(self, take: Recording, published: dict[str, NDArray[np.generic]]) -> None:
        steps = CHAINS["ctrgcn"].steps
        candidates = take
        for step in steps[: CHAINS["ctrgcn"].step_names.index("close_gaps") + 1]:
            candidates = step(candidates, NTU25)
        # measured before short bodies are dropped, as published
        candidates = steps[CHAINS["ctrgcn"].step_names.index("measure_motion")](candidates, NTU25)
        assert len(candidates.frame_index) == published["ctrgcn_raw_num_frames"]
        dropped = np.setdiff1d(np.arange(take.length), candidates.frame_index)
        np.testing.assert_array_equal(dropped, published["ctrgcn_frames_dropped"])
        assert [take.bodies[one.body].body for one in candidates.bodies] == published[
            "ctrgcn_raw_body_ids"
        ].tolist()
        for k, one in enumerate(candidates.bodies):
            np.testing.assert_array_equal(one.position, published[f"ctrgcn_raw_b{k}_joints"])
            np.testing.assert_array_equal(one.place, published[f"ctrgcn_raw_b{k}_interval"])
            if len(candidates.bodies) > 1:
                assert one.motion == published[f"ctrgcn_raw_b{k}_motion"]

    def test_ctrgcn_colors(self, take: Recording, published: dict[str, NDArray[np.generic]]) -> None:
        actors = run(take, up_to("ctrgcn", "drop_zero_sum_frames"))
        ours = gather_extra(take, actors, "color").transpose(1, 0, 2, 3)
        np.testing.assert_array_equal(ours, published["ctrgcn_denoised_colors"])

    def test_sgn_one_person_frames(self, take: Recording, published: dict[str, NDArray[np.generic]]) -> None:
        (rows,) = arrange(clean(take, "sgn", NTU25), "interleave")
        np.testing.assert_array_equal(
            rows.position.reshape(len(rows), -1), published["sgn_one_person_frames"]
        )

    def test_pyskl_keypoints(self, take: Recording, published: dict[str, NDArray[np.generic]]) -> None:
        exact = run(take, up_to("pyskl", "put_present_actor_first")).position
        np.testing.assert_array_equal(exact, published["pyskl_keypoint_f32"])
        stored = clean(take, "pyskl", NTU25).position
        np.testing.assert_array_equal(stored.astype(np.float16), published["pyskl_keypoint_f16"])
        np.testing.assert_array_equal(stored, published["pyskl_keypoint_f16"].astype(np.float32))

    def test_pyskl_normalised(self, take: Recording, published: dict[str, NDArray[np.generic]]) -> None:
        """The published array is float64; what is left is the rounding to float32."""
        ours = clean(take, "pyskl_prenorm", NTU25).position
        np.testing.assert_allclose(ours, published["pyskl_prenorm3d"], rtol=6e-8, atol=1e-7)

    def test_msg3d_by_slot(self, path: Path, published: dict[str, NDArray[np.generic]]) -> None:
        """With bodies told apart by their slot, as published, every file agrees."""
        take = read_recording(path, by_slot=True)
        read = clean(take, "msg3d", NTU25).position.transpose(3, 1, 2, 0)
        np.testing.assert_array_equal(read, published["msg3d_read_xyz"].astype(np.float32))
        normalised = clean(take, "msg3d_prenorm", NTU25).position.transpose(3, 1, 2, 0)
        # the published code rounds to float32 between its two rotations
        np.testing.assert_allclose(normalised, published["msg3d_prenorm"], rtol=0, atol=5e-7)

    def test_msg3d_by_identity(
        self, name: str, take: Recording, published: dict[str, NDArray[np.generic]]
    ) -> None:
        """With bodies told apart by who they are, as a store does, all files agree that swap no slots."""
        read = clean(take, "msg3d", NTU25).position.transpose(3, 1, 2, 0)
        same = np.array_equal(read, published["msg3d_read_xyz"].astype(np.float32))
        assert same == (name != SWAPPED_SLOTS)
