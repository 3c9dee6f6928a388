"""The resident data path gives the images that the CPU path gives, to every process its own."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from skelconv.clean.samples import Samples, pack_samples
from skelconv.clean.ucla import to_unit_range
from skelconv.s2i import encode, make_plan, stream_rows
from skelconv.store.info import Provenance
from skelconv.store.store import open_store
from skelconv.store.writer import write_store
from skelformats.skeleton import load_skeleton
from skeltrain.data.augment import JointAugment, draw
from skeltrain.data.collate import ImageBatch, ImageCollator
from skeltrain.data.images import Images, Normalise, Statistics, unit_range
from skeltrain.data.loader import DataError, SampleLoader
from skeltrain.data.sampler import EpochSampler, MicroBatch, Purpose, random_seed
from skeltrain.data.samples import SampleSet, open_samples
from skeltrain.sections import Augment, ImageData
from tests.skeltrain.conftest import AUGMENT, make_clips, make_dataset

CPU = torch.device("cpu")
SETTINGS = ImageData(protocol="half", image_size=32)


@pytest.fixture(scope="module")
def samples(tiny_store: Path) -> Samples:
    return pack_samples(open_store(tiny_store), final_scaling=False)


@pytest.fixture(scope="module")
def sample_set(tiny_store: Path) -> SampleSet:
    return open_samples(SETTINGS.model_copy(update={"store": str(tiny_store)}), CPU)


@pytest.fixture(scope="module")
def images(sample_set: SampleSet) -> Images:
    return Images([sample_set], SETTINGS)


def sampler(
    batch: int = 8, accum: int = 1, rank: int = 0, size: int = 1, count: int = 49, **more: bool
) -> EpochSampler:
    return EpochSampler(np.arange(100, 100 + count), batch, accum, seed=1, rank=rank, size=size, **more)


# Images


@pytest.mark.parametrize("stream", ["joint", "bone", "motion"])
def test_images_equal_the_kernels(samples: Samples, sample_set: SampleSet, stream: str) -> None:
    """Streams are taken within a person: every fourth sample has two, interleaved."""
    settings = SETTINGS.model_copy(update={"stream": stream})
    values = stream_rows(samples.position, samples.next_row, samples.skeleton, stream)
    expected = encode(values, samples.offsets, make_plan(samples.skeleton, 32))
    index = np.random.default_rng(0).permutation(len(samples))
    found = Images([sample_set], settings).images(index)
    np.testing.assert_allclose(found.numpy(), expected[index], atol=2e-5)


def test_gathered_rows_are_the_samples_rows_in_the_order_asked_for(
    samples: Samples, sample_set: SampleSet
) -> None:
    index = np.array([7, 3, 3, 40])
    rows = sample_set.gather(index)
    for k, i in enumerate(index):
        own = slice(int(rows.offsets[k]), int(rows.offsets[k + 1]))
        theirs = slice(samples.offsets[i], samples.offsets[i + 1])
        np.testing.assert_array_equal(rows.position[own], samples.position[theirs])
        np.testing.assert_array_equal(
            rows.next_row[own] - own.start, samples.next_row[theirs] - samples.offsets[i]
        )
        assert (rows.sample[own] == k).all()
    assert len(rows.position) == rows.offsets[-1]


def test_a_chain_that_ends_with_scaling_is_scaled_after_augmentation(unit_store: Path) -> None:
    settings = ImageData(store=str(unit_store), image_size=32)
    packed = open_samples(settings, CPU)
    assert packed.scaling == "minmax"
    data = Images([packed], settings)
    everything = np.arange(len(packed))
    whole = pack_samples(open_store(unit_store), final_scaling=True)
    expected = encode(whole.position, whole.offsets, make_plan(whole.skeleton, 32))
    np.testing.assert_allclose(data.images(everything).numpy(), expected, atol=2e-5)
    # shifted and stretched copies come out the same, turned ones do not
    moved = data.augmented(MicroBatch(everything, slice(None)), Augment(scale=(0.5, 1.5), translate=3.0))
    np.testing.assert_allclose(moved.numpy(), expected, atol=2e-4)
    turned = data.augmented(MicroBatch(everything, slice(None)), Augment(rotate=(1.0, 1.0, 0.0)))
    assert np.abs(turned.numpy() - expected).max() > 0.1


def test_unit_range_is_the_chains_own(sample_set: SampleSet) -> None:
    rows = sample_set.gather(np.array([5, 2]))
    position = rows.position.clone()
    position[..., 2] = 4.0  # an axis without extent
    scaled = unit_range(replace(rows, position=position))
    for k in range(2):
        own = slice(int(rows.offsets[k]), int(rows.offsets[k + 1]))
        np.testing.assert_allclose(scaled[own], to_unit_range(position[own].numpy()), atol=1e-6)
    assert (scaled[..., 2] == 0).all()


def test_statistics_are_those_of_the_images(images: Images) -> None:
    index = np.arange(20)
    pictures = images.images(index).double().numpy()
    found = images.sets[0].statistics(index, batch=7)
    np.testing.assert_allclose(found.mean, pictures.mean(axis=(0, 2, 3)), atol=1e-12)
    np.testing.assert_allclose(found.std, pictures.std(axis=(0, 2, 3)), atol=1e-12)
    normal = Normalise(found, CPU)(images.images(index)).double()
    assert normal.mean(dim=(0, 2, 3)).abs().max() < 1e-5
    assert (normal.std(dim=(0, 2, 3)) - 1).abs().max() < 1e-4
    assert Statistics.from_dict(found.to_dict()) == found


def test_a_channel_without_variation_is_only_centred() -> None:
    normal = Normalise(Statistics((1.0, 0.0, 0.0), (0.0, 1.0, 2.0), "joint", 1), CPU)
    image = normal(torch.full((1, 3, 2, 2), 3.0))
    assert image[0, :, 0, 0].tolist() == [2.0, 3.0, 1.5]


def test_a_missing_joint_moves_with_the_body_where_the_chain_has_moved_it(tmp_path: Path) -> None:
    """SGN and CTR-GCN translate it to minus the origin and rotate it; where it is left at 0 it stays
    there.
    """
    name, clip = make_clips(1)[0]
    lost = clip.tracks[0].position.copy()
    lost[:, 6] = np.nan
    clips = [(name, replace(clip, tracks=(replace(clip.tracks[0], position=lost),)))]
    path = tmp_path / "lost.zarr"
    write_store(path, make_dataset(), clips, Provenance(tool="", command=""))
    origin = lost[0, load_skeleton("ntu25").origin[0]]
    turn = Augment(rotate=(0.5, 0.5, 0.5))
    micro = MicroBatch(np.array([0]), slice(None))
    for chain, expected in (("sgn", -origin), ("none", np.zeros(3))):
        found = open_samples(ImageData(store=str(path), clean=chain), CPU)
        rows = found.gather(micro.own)
        np.testing.assert_allclose(rows.position[:, 6], np.broadcast_to(expected, (len(lost), 3)), atol=1e-6)
        drawn = draw(1, turn, micro.generator(Purpose.AUGMENT))
        moved = JointAugment(found.skeleton, CPU)(rows.position, rows.sample, drawn)
        turned = torch.tensor(expected, dtype=torch.float32) @ drawn.matrix[0].T
        torch.testing.assert_close(moved[0, 6], turned, atol=1e-5, rtol=0)


# Parts


def test_parts_of_a_protocol(sample_set: SampleSet) -> None:
    train, test = sample_set.part("half", "train"), sample_set.part("half", "test")
    assert (len(train), len(test)) == (32, 17)
    assert not set(train) & set(test)
    assert len(sample_set.part(None, "train")) == 49


def test_a_protocol_or_part_that_is_not_there(sample_set: SampleSet) -> None:
    with pytest.raises(DataError, match=r"no protocol 'xsub' in the store, expected one of half"):
        sample_set.part("xsub", "train")
    with pytest.raises(
        DataError, match=r"no sample in part 'val' of protocol 'half', expected one of test, train"
    ):
        sample_set.part("half", "val")


def test_leaked_test_samples_are_known(sample_set: SampleSet) -> None:
    assert np.flatnonzero(sample_set.leaked("half")).tolist() == [48]
    assert not sample_set.leaked(None).any()


def test_a_recipe_without_a_store() -> None:
    with pytest.raises(DataError, match="--store"):
        open_samples(ImageData(), CPU)


# Dealing


@pytest.mark.parametrize(("size", "accum"), [(1, 1), (1, 3), (2, 1), (2, 2), (5, 1)])
def test_every_sample_comes_once_an_epoch(size: int, accum: int) -> None:
    """Whatever the processes and parts; only what counts nothing may come again."""
    found: list[int] = []
    for rank in range(size):
        for micro in sampler(accum=accum, rank=rank, size=size).epoch(0):
            if micro.weight:
                found += micro.own.tolist()
            else:
                assert len(micro.own) == 1
    assert sorted(found) == list(range(100, 149))


@pytest.mark.parametrize(("size", "accum"), [(1, 1), (2, 1), (2, 2), (3, 2)])
def test_weights_make_the_mean_over_processes_the_mean_over_samples(size: int, accum: int) -> None:
    steps: dict[int, list[tuple[float, int]]] = {}
    for rank in range(size):
        micros = list(sampler(accum=accum, rank=rank, size=size, count=45).epoch(0))
        assert sum(micro.last for micro in micros) == 6
        for micro in micros:
            steps.setdefault(micro.step, []).append((micro.weight, len(micro.own)))
    for step, parts in steps.items():
        assert sum(weight for weight, _ in parts) == pytest.approx(size)
        total = 8 if step < 5 else 5
        for weight, count in parts:
            assert weight == 0 or weight == pytest.approx(count * size / total)


def test_an_epoch_can_be_entered_at_any_step() -> None:
    whole = [micro.own.tolist() for micro in sampler(accum=2).epoch(3)]
    assert [micro.own.tolist() for micro in sampler(accum=2).epoch(3, first=4)] == whole[8:]


def test_the_order_follows_from_seed_and_epoch() -> None:
    assert (sampler().order(0) == sampler(rank=1, size=2).order(0)).all()
    assert (sampler().order(0) != sampler().order(1)).any()
    assert (sampler().order(0) != replace(sampler(), seed=2).order(0)).any()
    assert (sampler(shuffle=False).order(5) == np.arange(100, 149)).all()


def test_the_last_step() -> None:
    def sizes(count: int, **more: bool) -> list[int]:
        made = sampler(count=count, **more)
        found = [len(micro.own) for micro in made.epoch(0)]
        assert made.steps == len(found)
        return found

    assert sizes(20) == [8, 8, 4]
    assert sizes(16) == [8, 8]
    assert sizes(17) == [8, 9]
    assert sizes(1) == [1]
    assert sizes(5) == [5]
    assert sizes(20, drop_last=True) == [8, 8]
    assert sizes(17, drop_last=True) == [8, 8]
    assert sizes(5, drop_last=True) == []


def test_streams_of_random_numbers_differ_by_purpose_step_and_epoch() -> None:
    names = [(0, 0, 0, p) for p in Purpose] + [(1, 0, 0, 1), (0, 1, 0, 1), (0, 0, 1, 1)]
    assert len({random_seed(*name) for name in names}) == len(names)
    assert random_seed(0, 0, 0, Purpose.MASK) == random_seed(0, 0, 0, Purpose.MASK)


# Batches


def load(data: Images, sampler: EpochSampler, augment: Augment) -> SampleLoader[ImageBatch]:
    statistics = data.sets[0].statistics(np.arange(3))
    return SampleLoader(sampler, ImageCollator(data, statistics, augment))


def batches(data: Images, augment: Augment, **more: int) -> Iterator[tuple[Tensor, Tensor]]:
    made = EpochSampler(data.mixture.sets[0].part("half", "train"), 8, seed=1, **more)
    for batch in load(data, made, augment).epoch(2):
        assert batch.image.dtype == torch.float32
        yield batch.index, batch.image


def test_a_sample_looks_the_same_on_any_number_of_processes(images: Images) -> None:
    """Order, augmentation and joint noise do not depend on how a step is divided."""
    alone = dict(zip(*(torch.cat(p) for p in zip(*batches(images, AUGMENT), strict=True)), strict=True))
    alone = {int(index): image for index, image in alone.items()}
    seen = 0
    for rank in range(3):
        for index, image in batches(images, AUGMENT, rank=rank, size=3, accum=2):
            for i, picture in zip(index.tolist(), image, strict=True):
                torch.testing.assert_close(picture, alone[i])
                seen += 1
    assert seen >= 32


def test_augmentation_changes_with_the_epoch(images: Images) -> None:
    def image(epoch: int) -> Tensor:
        return images.augmented(MicroBatch(np.array([0]), slice(None), epoch=epoch), AUGMENT)

    first, second = image(0), image(1)
    assert not torch.equal(first, second)
    assert torch.equal(first, image(0)), "the epoch alone decides"


def test_labels_go_with_their_samples(samples: Samples, images: Images) -> None:
    labels = samples.table["label"].to_numpy()
    assert load(images, sampler(count=0), Augment()).steps(0) == 0
    for batch in load(images, EpochSampler(np.arange(49), 10), Augment()).epoch(0):
        assert batch.label.tolist() == labels[batch.index].tolist()
