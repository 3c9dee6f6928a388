"""What a reader is: options, axes, and being found by name."""

from __future__ import annotations

import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from skelformats.errors import FormatError, SkelconvError, UnknownNameError
from skelformats.reader import (
    AxisMap,
    Clip,
    Reader,
    Refused,
    Source,
    Track,
    find_reader,
    reader_names,
    usable_readers,
)

ORDERS = st.permutations(range(3))
SIGNS = st.tuples(*[st.sampled_from([-1, 1])] * 3)


@given(ORDERS, SIGNS, st.sampled_from([1.0, 0.5, 0.25, 4.0]), st.integers(0, 1000))
def test_raw_values_come_back_exactly_from_canonical_ones(
    order: list[int], sign: tuple[int, int, int], scale: float, seed: int
) -> None:
    raw = np.random.default_rng(seed).normal(size=(4, 5, 3)).astype(np.float32)
    axes = AxisMap(tuple(order), sign, scale)
    canonical = axes.to_canonical(raw)
    assert canonical.dtype == np.float32
    for axis in range(3):
        np.testing.assert_array_equal(canonical[..., axis], sign[axis] * scale * raw[..., order[axis]])
    np.testing.assert_array_equal(axes.to_raw(canonical), raw)


@pytest.mark.parametrize("scale", [0.001, 0.01])
def test_millimetres_come_back_to_the_last_bit_but_one(scale: float) -> None:
    """A scale that is not a power of two rounds once each way."""
    raw = np.random.default_rng(0).uniform(-5000, 5000, (1000, 3)).astype(np.float32)
    back = AxisMap(scale=scale).to_raw(AxisMap(scale=scale).to_canonical(raw))
    np.testing.assert_array_max_ulp(back, raw, 1)


def test_every_installed_reader_works_and_is_found_by_its_name() -> None:
    readers, problems = usable_readers()
    assert problems == []
    assert [reader.name for reader in readers] == list(reader_names())
    for reader in readers:
        assert find_reader(reader.name) is reader


def test_an_unknown_dataset_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(UnknownNameError, match="Did you mean 'ntu120'"):
        find_reader("ntu_120")


def test_options_and_optional_arrays_are_checked() -> None:
    reader = find_reader("ntu120")
    assert reader.options(("color",)).extras == {"color"}
    with pytest.raises(UnknownNameError, match="Did you mean 'color'"):
        reader.options(("colour",))
    with pytest.raises(UnknownNameError, match="option of ntu120"):
        reader.options(frame_base=1)


def test_a_format_error_says_where_and_what_and_survives_a_worker() -> None:
    error = FormatError("raw/a.txt", "'x'", "a number", line=7, action="Fetch it again")
    assert str(error) == "raw/a.txt, line 7: found 'x', expected a number. Fetch it again"
    again = pickle.loads(pickle.dumps(error))
    assert str(again) == str(error)
    assert isinstance(again, SkelconvError)
    assert again.line == 7


def reader_of(*clips: Clip) -> Reader:
    """A reader that gives these recordings for every source."""
    return Reader(find_reader("ucla").dataset, lambda root, options: [], lambda root, source, options: clips)


ODD = "a\udcffb"


def test_a_recording_with_text_that_is_not_unicode_is_set_aside_alone(tmp_path: Path) -> None:
    """A lone surrogate, as a pickle or a file's name may hold it, is text to Python and to nothing else."""
    good = Clip("good", 1, (), -1, {"subject": 1}, {})
    track = Track("0", np.zeros(1, np.int32), np.zeros((1, 20, 3), np.float32))
    bad = (
        replace(good, recording=ODD),
        replace(good, columns={"place": ODD}),
        replace(good, tracks=(replace(track, body=ODD),)),
        replace(good, tracks=(replace(track, columns={"name": ODD}),)),
        replace(good, tables={"t": [{"word": ODD}]}),
    )
    reader = reader_of(*bad, good)
    *refused, kept = reader.read(tmp_path, Source("x.pkl", 1), reader.options())
    assert kept is good
    for item, what in zip(refused, ("recording", "place", "body", "name", "word"), strict=True):
        assert isinstance(item, Refused)
        assert f"x.pkl: found the {what} 'a\\udcffb', expected text that is valid Unicode" == item.reason
        assert item.recording.encode()


def test_a_source_with_a_name_that_is_not_unicode_is_refused(tmp_path: Path) -> None:
    reader = reader_of(Clip("good", 1, (), -1, {}, {}))
    for source in (Source(ODD, 1), Source("x", 1, (ODD,)), Source("a\\udcffb", 1)):
        with pytest.raises(FormatError, match="a name that is not UTF-8") as error:
            reader.read(tmp_path, source, reader.options())
        assert str(error.value).encode()
    (tmp_path / "a\\udcffb").write_text("a name with a backslash is unusual and no more")
    assert reader.read(tmp_path, Source("a\\udcffb", 1), reader.options())


def test_a_dataset_names_the_cleaning_chain_it_is_published_with() -> None:
    chains = {name: find_reader(name).dataset.cleaning for name in reader_names()}
    published = {"ntu60": "sgn", "ntu120": "sgn", "pku1": "sgn", "pku2": "sgn", "ucla": "ucla"}
    assert chains == {name: published.get(name, "metric") for name in reader_names()}
