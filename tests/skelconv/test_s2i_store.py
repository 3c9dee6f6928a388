"""Stores of encoded images: what is in them, who can open them, and what happens when writing fails."""

from __future__ import annotations

import io
import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import xarray as xr
import zarr
from numpy.typing import NDArray
from PIL import Image

from skelconv.clean import CleaningError
from skelconv.clean.samples import Samples, pack_samples
from skelconv.s2i import S2IError, encode, make_plan, stream_rows
from skelconv.s2i import statistics as s2i_statistics
from skelconv.s2i.options import EncodeOptions
from skelconv.s2i.picture import file_name, image_to_rgb, png_bytes, save_images
from skelconv.s2i.write import encode_store, open_s2i, write_s2i_store
from skelconv.store.info import Provenance, StoreError, StoreInfo
from skelconv.store.store import open_store
from skelconv.store.writer import write_store
from skelformats.errors import UnknownNameError
from skelformats.reader import AxisMap, Clip, Confidence, Dataset, Protocol, Track
from skelformats.skeleton import SkeletonError, load_skeleton

NTU25 = load_skeleton("ntu25")
PLAN = make_plan(NTU25, (16, 32))
DATASET = Dataset(
    name="demo",
    title="Demo",
    skeleton="ntu25",
    licence="none",
    citation="none",
    homepage="",
    frame_rate=30.0,
    classes=("wave", "sit"),
    columns=(),
    protocols=(Protocol("xsub", "cross-subject"), Protocol("xview", "cross-view")),
    missing="none",
)
SOURCE = StoreInfo.of_dataset(DATASET, NTU25, Provenance(tool="t", command="c", digest="d", sources=9))


def make_samples(*lengths: int) -> Samples:
    count, rows = len(lengths), sum(lengths)
    rng = np.random.default_rng(0)
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    next_row = np.arange(1, rows + 1)
    next_row[offsets[1:] - 1] -= 1
    ids = [f"r{n}" for n in range(count)]
    table = pd.DataFrame(
        {
            "recording": pd.array(ids, dtype="string"),
            "label": np.arange(count, dtype=np.int32) % 2,
            "action": pd.array([DATASET.classes[n % 2] for n in range(count)], dtype="string"),
            "subject": np.arange(count, dtype=np.int64) + 2**40,
            "weight": np.linspace(0, 1, count, dtype=np.float32),
            "person": np.full(count, -1, np.int16),
            "split_xsub": pd.array([("train", "test")[n % 2] for n in range(count)], dtype="string"),
            "split_xview": pd.array([""] * count, dtype="string"),
        },
        index=pd.Index(ids, name="sample"),
    )
    return Samples(
        position=rng.normal(0, 1, (rows, 25, 3)).astype(np.float32),
        offsets=offsets,
        next_row=next_row,
        table=table,
        skeleton=NTU25,
        classes=DATASET.classes,
        scaling="none",
        chain="metric",
        set_aside=[("r_bad", "found no body")],
    )


SAMPLES = make_samples(4, 1, 9, 33, 2)


def expected_images(samples: Samples, stream: str = "joint") -> NDArray[np.float32]:
    rows = stream_rows(samples.position, samples.next_row, samples.skeleton, stream)
    return encode(rows, samples.offsets, PLAN)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "images.zarr"


class TestWrite:
    @pytest.mark.parametrize("stream", ["joint", "bone", "motion"])
    def test_images_are_those_of_the_kernel(self, path: Path, stream: str) -> None:
        write_s2i_store(SAMPLES, path, PLAN, SOURCE, EncodeOptions(stream=stream))
        np.testing.assert_array_equal(open_s2i(path).images(), expected_images(SAMPLES, stream))

    def test_blocks_do_not_show_in_the_images(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(s2i_statistics, "BLOCK_IMAGES", 2)
        steps: list[int] = []
        how = EncodeOptions(stream="motion", threads=2)
        summary = write_s2i_store(SAMPLES, path, PLAN, SOURCE, how, lambda done, _: steps.append(done))
        assert steps == [2, 2, 1]
        assert summary.samples == 5
        store = open_s2i(path)
        np.testing.assert_array_equal(store.images(), expected_images(SAMPLES, "motion"))
        np.testing.assert_array_equal(store.images(1, 4), expected_images(SAMPLES, "motion")[1:4])

    def test_half_precision_halves_the_images(self, path: Path) -> None:
        write_s2i_store(SAMPLES, path, PLAN, SOURCE, EncodeOptions(dtype="float16"))
        store = open_s2i(path)
        assert store.dtype == np.float16
        np.testing.assert_array_equal(store.images(), expected_images(SAMPLES).astype(np.float16))

    def test_statistics_are_those_of_all_images_and_of_each_train_part(self, path: Path) -> None:
        summary = write_s2i_store(SAMPLES, path, PLAN, SOURCE)
        images = expected_images(SAMPLES).astype(np.float64)
        store = open_s2i(path)
        for protocol, part in ((None, images), ("xsub", images[::2])):
            found = store.statistics(protocol)
            assert found is not None
            assert found.images == len(part)
            np.testing.assert_allclose(found.mean, part.mean((0, 2, 3)), rtol=1e-9, atol=1e-12)
            np.testing.assert_allclose(found.std, part.std((0, 2, 3)), rtol=1e-9)
        assert store.statistics("xview") is None
        assert summary.statistics == store.statistics()

    def test_attributes_say_how_the_images_were_made(self, path: Path) -> None:
        how = EncodeOptions(stream="bone", persons="first", command="skelconv s2i a b")
        write_s2i_store(SAMPLES, path, PLAN, SOURCE, how)
        store = open_s2i(path)
        assert (store.stream, store.persons, store.chain) == ("bone", "first", "metric")
        assert store.plan == PLAN
        assert store.info.layout() == NTU25
        made = store.info.provenance
        assert made.command == "skelconv s2i a b"
        assert (made.sequences, made.frames, made.sources, made.digest) == (5, 49, 9, "d")
        assert [entry.source for entry in made.set_aside] == ["r_bad"]
        assert made.derived_from is not None
        assert made.derived_from["command"] == "c"

    def test_summary_tells_what_was_written(self, path: Path) -> None:
        text = write_s2i_store(SAMPLES, path, PLAN, SOURCE).text()
        assert f"{path}: 5 images from 49 rows, 1 recordings set aside" in text


class TestOpen:
    def test_plain_zarr_reads_it(self, path: Path) -> None:
        write_s2i_store(SAMPLES, path, PLAN, SOURCE)
        group = zarr.open_group(str(path), mode="r")
        assert group["image"].metadata.dimension_names == ("sample", "channel", "row", "column")
        assert group["image"].chunks == (1, 3, 16, 32)
        np.testing.assert_array_equal(group["image"][:], expected_images(SAMPLES))
        assert group.attrs["skelconv"]["kind"] == "s2i"

    def test_xarray_selects_samples_and_channels_by_name(self, path: Path) -> None:
        write_s2i_store(SAMPLES, path, PLAN, SOURCE)
        with xr.open_zarr(path, chunks=None) as data:
            image = data.image.sel(sample="r2", channel="y").values
            frame = data.drop_dims(["channel", "row", "column"]).to_dataframe()
        np.testing.assert_array_equal(image, expected_images(SAMPLES)[2, 1])
        assert frame.loc["r3", "action"] == "sit"

    @pytest.mark.parametrize("backend", ["auto", "zarr"])
    def test_the_table_is_that_of_the_samples(self, path: Path, backend: str) -> None:
        write_s2i_store(SAMPLES, path, PLAN, SOURCE)
        frame = open_s2i(path, backend).to_frame()
        assert sorted(frame.columns) == sorted([*SAMPLES.table.columns, "encoded_rows"])
        assert frame["encoded_rows"].tolist() == np.diff(SAMPLES.offsets).tolist()
        assert list(frame.index) == list(SAMPLES.table.index)
        for name in SAMPLES.table.columns:
            assert frame[name].tolist() == SAMPLES.table[name].tolist()

    def test_a_column_called_as_an_array_of_the_store_does_not_replace_it(self, path: Path) -> None:
        names = [f"{n}.jpg" for n in range(5)]
        samples = replace(SAMPLES, table=SAMPLES.table.assign(image=pd.array(names, dtype="string")))
        write_s2i_store(samples, path, PLAN, SOURCE)
        np.testing.assert_array_equal(open_s2i(path).images(), expected_images(SAMPLES))
        assert open_s2i(path).to_frame()["recording_image"].tolist() == names

    def test_pickles_as_its_path(self, path: Path) -> None:
        write_s2i_store(SAMPLES, path, PLAN, SOURCE)
        store = open_s2i(path)
        store.images(0, 1)
        sent = pickle.dumps(store)
        assert len(sent) < 1000
        np.testing.assert_array_equal(pickle.loads(sent).images(), store.images())

    def test_a_range_beyond_the_end_is_refused(self, path: Path) -> None:
        write_s2i_store(SAMPLES, path, PLAN, SOURCE)
        with pytest.raises(StoreError, match="within its 5 images"):
            open_s2i(path).images(3, 6)

    def test_a_store_of_sequences_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(StoreError, match="found a store of sequences"):
            open_s2i(sequence_store(tmp_path))


class TestRefusals:
    def test_an_existing_path_stays_as_it_is(self, path: Path) -> None:
        path.mkdir()
        (path / "precious").touch()
        with pytest.raises(StoreError, match="existing"):
            write_s2i_store(SAMPLES, path, PLAN, SOURCE)
        assert [file.name for file in path.iterdir()] == ["precious"]

    def test_overwriting_replaces_the_whole_store(self, path: Path) -> None:
        write_s2i_store(SAMPLES, path, PLAN, SOURCE)
        write_s2i_store(make_samples(3, 3), path, PLAN, SOURCE, EncodeOptions(overwrite=True))
        assert len(open_s2i(path)) == 2
        assert [entry.name for entry in path.parent.iterdir()] == [path.name]

    def test_a_write_that_fails_leaves_the_old_store(self, path: Path) -> None:
        write_s2i_store(SAMPLES, path, PLAN, SOURCE)
        position = SAMPLES.position.copy()
        position[4 + 1 + 3, 7, 0] = np.nan
        with pytest.raises(S2IError, match=r"sample r2: found a missing joint \(NaN\) in its row 3"):
            write_s2i_store(
                replace(SAMPLES, position=position), path, PLAN, SOURCE, EncodeOptions(overwrite=True)
            )
        np.testing.assert_array_equal(open_s2i(path).images(), expected_images(SAMPLES))

    @pytest.mark.parametrize(
        ("argument", "value"),
        [("stream", "bones"), ("persons", "all"), ("dtype", "float64"), ("third", "depth")],
    )
    def test_unknown_choices_are_refused_with_those_that_there_are(self, argument: str, value: str) -> None:
        with pytest.raises(UnknownNameError, match=value):
            EncodeOptions(**{argument: value})

    def test_a_plan_of_another_layout_is_refused(self, path: Path) -> None:
        with pytest.raises(S2IError, match="expected ucla20"):
            write_s2i_store(SAMPLES, path, make_plan(load_skeleton("ucla20")), SOURCE)

    def test_samples_that_wait_for_scaling_are_refused(self, path: Path) -> None:
        with pytest.raises(S2IError, match="minmax scaling"):
            write_s2i_store(replace(SAMPLES, scaling="minmax"), path, PLAN, SOURCE)


def sequence_store(folder: Path) -> Path:
    """Three recordings, the second of two persons."""
    rng = np.random.default_rng(1)

    def track(body: str, frames: int) -> Track:
        position = rng.normal(0, 1, (frames, 25, 3)).astype(np.float32)
        return Track(body, np.arange(frames, dtype=np.int32), position)

    bodies = {"a": (track("1", 6),), "b": (track("1", 8), track("2", 8)), "c": (track("1", 1),)}
    clips = [
        (f"{name}.txt", Clip(name, 8, tracks, n % 2, {}, {"xsub": "train", "xview": "test"}))
        for n, (name, tracks) in enumerate(bodies.items())
    ]
    path = folder / "sequences.zarr"
    write_store(path, DATASET, clips, Provenance(tool="t", command="c"))
    return path


class TestEncodeStore:
    @pytest.mark.parametrize(
        ("persons", "rows", "count"), [("interleave", 23, 3), ("separate", 23, 4), ("first", 15, 3)]
    )
    def test_every_recording_becomes_its_samples(
        self, tmp_path: Path, path: Path, persons: str, rows: int, count: int
    ) -> None:
        store = open_store(sequence_store(tmp_path))
        summary = encode_store(store, path, EncodeOptions(size=(16, 32), persons=persons))
        assert (summary.samples, summary.rows) == (count, rows)
        assert open_s2i(path).persons == persons

    def test_another_layout_is_reached_by_joint_names(self, tmp_path: Path, path: Path) -> None:
        store = open_store(sequence_store(tmp_path))
        encode_store(store, path, EncodeOptions(layout="ucla20", size=(16, 40)))
        images = open_s2i(path)
        assert images.plan.skeleton_name == images.info.layout().name == "ucla20"
        position = store.sequence("c_b0").position
        origin = position[0, NTU25.index("spine_mid")]
        head = position[0, NTU25.index("head")] - origin
        # one frame, and 40 columns for 20 joints: the first column is the head itself
        np.testing.assert_allclose(images.images(2, 3)[0, :, 5, 0], head, atol=1e-5)

    def test_a_layout_without_counterparts_is_refused(self, tmp_path: Path, path: Path) -> None:
        dataset = replace(DATASET, skeleton="toyota13")
        track = Track("1", np.arange(2, dtype=np.int32), np.ones((2, 13, 3), np.float32))
        clip = Clip("a", 2, (track,), 0, {}, {"xsub": "", "xview": ""})
        thirteen = tmp_path / "thirteen.zarr"
        write_store(thirteen, dataset, [("a.txt", clip)], Provenance(tool="t", command="c"))
        with pytest.raises(SkeletonError, match="no counterpart"):
            encode_store(open_store(thirteen), path, EncodeOptions(layout="ntu25"))
        assert not path.exists()

    def test_the_store_itself_is_never_overwritten(self, tmp_path: Path) -> None:
        source = sequence_store(tmp_path)
        with pytest.raises(StoreError, match="expected another path"):
            encode_store(open_store(source), source, EncodeOptions(overwrite=True))
        assert len(open_store(source)) == 4


def flat_store(folder: Path, confidence: Confidence | None) -> Path:
    """Two recordings of detections in pixels; in the second one joint is missing, its score is not 0."""
    rng = np.random.default_rng(2)
    described = replace(
        DATASET, skeleton="coco17", unit="px", axes=("x", "y"), axis_map=AxisMap((0, 1), (1, 1)),
        confidence=confidence,
    )  # fmt: skip
    clips = []
    for name, frames in (("a", 5), ("b", 7)):
        position = rng.uniform(0, 640, (frames, 17, 2)).astype(np.float32)
        score = rng.uniform(0.1, 1, (frames, 17)).astype(np.float32)
        if name == "b":
            position[3, 9] = np.nan
        index = np.arange(frames, dtype=np.int32)
        track = Track("1", index, position, None if confidence is None else score)
        clips.append((f"{name}.txt", Clip(name, frames, (track,), 0, {}, {"xsub": "train", "xview": ""})))
    path = folder / "flat.zarr"
    write_store(path, described, clips, Provenance(tool="t", command="c"))
    return path


SCORE = Confidence("f4", "detector score")


class TestTwoAxes:
    @pytest.mark.parametrize("stream", ["joint", "bone", "motion"])
    def test_confidence_becomes_the_third_channel_in_every_stream(
        self, tmp_path: Path, path: Path, stream: str
    ) -> None:
        store = open_store(flat_store(tmp_path, SCORE))
        encode_store(store, path, EncodeOptions(stream=stream, size=(16, 34), third="confidence"))
        images = open_s2i(path)
        assert images.third == "confidence"
        assert images.channels == ("x", "y", "confidence")
        with xr.open_zarr(path, chunks=None) as data:
            assert data.channel.values.tolist() == ["x", "y", "confidence"]
        plan = make_plan(load_skeleton("coco17"), (16, 34))
        sample = pack_samples(store)
        score = np.concatenate([store[n].confidence for n in range(2)])
        score[5 + 3, 9] = 0  # the missing joint
        rows = stream_rows(
            np.concatenate([sample.position, np.zeros((12, 17, 1), np.float32)], axis=-1),
            sample.next_row,
            sample.skeleton,
            stream,
        )
        rows[..., 2] = score
        np.testing.assert_array_equal(images.images(), encode(rows, sample.offsets, plan))

    def test_confidence_follows_the_joints_to_another_layout(self, tmp_path: Path) -> None:
        store = open_store(flat_store(tmp_path, SCORE))
        target = load_skeleton("coco17")
        order = tuple(reversed(range(17)))
        turned = replace(target, joints=tuple(target.joints[k] for k in order), name="turned")
        found = pack_samples(store, "none", skeleton=turned, third="confidence").position
        np.testing.assert_array_equal(
            found[:, ::-1], pack_samples(store, "none", third="confidence").position
        )

    def test_a_chain_that_scales_leaves_the_confidence_as_it_is(self, tmp_path: Path) -> None:
        store = open_store(flat_store(tmp_path, SCORE))
        scaled = pack_samples(store, "ucla", third="confidence").position
        assert np.abs(scaled[..., :2]).max() == 1
        np.testing.assert_array_equal(
            scaled[..., 2], pack_samples(store, "none", third="confidence").position[..., 2]
        )
        with pytest.raises(CleaningError, match="yet to be scaled"):
            pack_samples(store, "ucla", final_scaling=False, third="confidence")

    def test_two_axes_without_a_third_channel_are_refused_with_what_helps(
        self, tmp_path: Path, path: Path
    ) -> None:
        with pytest.raises(S2IError, match=r"a store of 2 axes \(x, y\), expected three.*--third confidence"):
            encode_store(open_store(flat_store(tmp_path, SCORE)), path)
        with pytest.raises(S2IError, match="without the array 'confidence'"):
            encode_store(
                open_store(flat_store(tmp_path / "bare", None)), path, EncodeOptions(third="confidence")
            )
        with pytest.raises(S2IError, match=r"a store of 3 axes .* expected two\. Leave it out"):
            encode_store(open_store(sequence_store(tmp_path)), path, EncodeOptions(third="confidence"))
        assert not path.exists()


class TestPictures:
    IMAGE = np.stack([np.linspace(-1, 3, 12).reshape(3, 4), np.zeros((3, 4)), -np.eye(3, 4)])

    def test_extremes_become_black_and_full(self) -> None:
        rgb = image_to_rgb(self.IMAGE)
        assert rgb.shape == (3, 4, 3)
        assert (rgb[0, 0, 0], rgb[2, 3, 0]) == (0, 255)
        assert (rgb[:, :, 1] == 128).all()
        assert (rgb[0, 0, 2], rgb[0, 1, 2]) == (0, 255)

    def test_given_bounds_cut_off(self) -> None:
        rgb = image_to_rgb(self.IMAGE, np.zeros(3), np.ones(3))
        assert (rgb[0, :3, 0] == 0).all()
        assert (rgb[2, :, 0] == 255).all()

    def test_missing_pixels_are_black(self) -> None:
        image = self.IMAGE.copy()
        image[:, 1, 1] = np.nan
        rgb = image_to_rgb(image)
        assert (rgb[1, 1] == 0).all()
        assert rgb[2, 3, 0] == 255

    def test_png_holds_the_pixels(self) -> None:
        rgb = image_to_rgb(self.IMAGE)
        with Image.open(io.BytesIO(png_bytes(rgb, zoom=3))) as picture:
            np.testing.assert_array_equal(np.asarray(picture)[1::3, 1::3], rgb)

    @pytest.mark.parametrize("stretch", ["image", "store"])
    def test_files_are_named_by_sample(self, path: Path, tmp_path: Path, stretch: str) -> None:
        write_s2i_store(SAMPLES, path, PLAN, SOURCE)
        store = open_s2i(path)
        files = save_images(store, tmp_path / "png", limit=2, stretch=stretch)
        assert [file.name for file in files] == ["r0.png", "r1.png"]
        images = store.images(0, 2)
        bounds = (None, None) if stretch == "image" else (images.min((0, 2, 3)), images.max((0, 2, 3)))
        with Image.open(files[1]) as picture:
            np.testing.assert_array_equal(np.asarray(picture), image_to_rgb(images[1], *bounds))

    @pytest.mark.parametrize(
        ("sample", "name"), [("a/../b c", "a_.._b_c"), ("../x", "_x"), ("..", "_"), ("S001_p0", "S001_p0")]
    )
    def test_no_sample_id_leaves_the_folder(self, sample: str, name: str) -> None:
        assert file_name(sample) == name
