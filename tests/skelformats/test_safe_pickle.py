"""Reading pickles that nobody vouches for."""

from __future__ import annotations

import collections
import contextlib
import os
import pickle
import struct
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skelformats.errors import FormatError
from skelformats.safe_pickle import load_pickle, parse_pickle
from tests.fuzzing import examples

VALUES: dict[Any, Any] = {
    "doubles": np.arange(6.0).reshape(2, 3),
    "fortran": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
    "transposed": np.arange(24).reshape(2, 3, 4).transpose(1, 0, 2),
    "big endian": np.arange(3, dtype=">i2"),
    "bools": np.array([True, False]),
    "text array": np.array(["ab", "c"]),
    "byte array": np.array([b"ab", b"c"]),
    "objects": np.array([1, "x", None, [1.5]], object),
    "no rows": np.zeros((0, 3), np.float32),
    "no axes": np.array(3.0),
    "scalars": (np.float32(2.5), np.int64(-1), np.str_("x"), np.bool_(True)),
    "numbers": [1, 255, 65535, -(2**31), 2**62, -(2**63), 2**64 - 1, 1.5, float("inf"), 1j, True, None],
    "text": ["", "ä", "\n'\\", "x" * 300, b"", b"\xff\x00", b"y" * 300],
    "containers": [
        (),
        (1,),
        (1, 2),
        (1, 2, 3),
        (1, 2, 3, 4),
        {1, 2},
        set(),
        frozenset([3]),
        {},
        {"a": {"b": []}},
    ],
    (1, "two"): "a tuple as key",
    7: "a number as key",
}


def short(text: str) -> bytes:
    """Instruction that pushes text."""
    return b"\x8c" + bytes([len(text)]) + text.encode()


def refuses(content: bytes, match: str) -> None:
    with pytest.raises(FormatError, match=match):
        parse_pickle(content, "file.pkl")


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_what_python_writes_comes_back(protocol: int) -> None:
    found = parse_pickle(pickle.dumps(VALUES, protocol), "file.pkl")
    assert list(found) == list(VALUES)
    for key, want in VALUES.items():
        assert type(found[key]) is type(want)
        assert repr(found[key]) == repr(want), key


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_an_ordered_dict_and_a_bytearray_become_plain(protocol: int) -> None:
    value = [collections.OrderedDict([("b", 1), ("a", 2)]), bytearray(b"ab"), collections.OrderedDict()]
    found = parse_pickle(pickle.dumps(value, protocol), "file.pkl")
    assert found == [{"b": 1, "a": 2}, b"ab", {}]
    assert list(found[0]) == ["b", "a"]
    assert type(found[0]) is dict


@pytest.mark.parametrize("protocol", [2, 4])
@pytest.mark.parametrize("make", ["csc_matrix", "csc_array"])
def test_a_sparse_matrix_becomes_dense(protocol: int, make: str) -> None:
    sparse = pytest.importorskip("scipy.sparse")
    want = np.array([[0, 2.5, 0, 0], [0, 0, 0, -1], [3, 0, 0, 4]])
    found = parse_pickle(pickle.dumps(getattr(sparse, make)(want), protocol), "file.pkl")
    np.testing.assert_array_equal(found, want)


def python2_array(values: np.ndarray[Any, Any]) -> bytes:
    """Return an array as Python 2 and numpy 1 pickled it with protocol 2: byte strings, no text."""
    shape = b"".join(b"K" + bytes([n]) for n in values.shape)
    raw = values.tobytes()
    descr = values.dtype.str[1:].encode()
    return (
        b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R"
        b"(K\x01(" + shape + b"tcnumpy\ndtype\nU" + bytes([len(descr)]) + descr + b"K\x00K\x01\x87R"
        b"(K\x03U\x01<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89T"
        + struct.pack("<I", len(raw))
        + raw
        + b"tb"
    )


def test_a_python_2_array_is_read_through_latin_1() -> None:
    want = np.random.default_rng(0).normal(size=(3, 2))
    np.testing.assert_array_equal(parse_pickle(b"\x80\x02" + python2_array(want) + b".", "file.pkl"), want)


@pytest.mark.parametrize(
    "made",
    [b"cchumpy.ch\nCh\n)\x81", b"ccopy_reg\n_reconstructor\ncchumpy.ch\nCh\nc__builtin__\nobject\nN\x87R"],
)
def test_a_chumpy_leaf_becomes_its_array_also_where_it_is_shared(made: bytes) -> None:
    want = np.arange(6.0).reshape(2, 3)
    dirty = b"U\x0b_dirty_varsc__builtin__\nset\n]\x85R"
    leaf = made + b"q\x01}(U\x01x" + python2_array(want) + dirty + b"ub"
    first, second = parse_pickle(b"\x80\x02]" + leaf + b"ah\x01a.", "file.pkl")
    np.testing.assert_array_equal(first, want)
    assert first is second


def test_a_chumpy_expression_is_refused() -> None:
    refuses(b"\x80\x02cchumpy.ch\nCh\n)\x81}U\x01aK\x01sb.", "chumpy expression that is not a leaf")
    refuses(b"\x80\x02cchumpy.ch_ops\nadd\n)\x81.", "global chumpy.ch_ops.add")


def selection(numbers: Any, shape: bytes) -> bytes:
    """Return a chumpy selection from a leaf of six elements."""
    leaf = b"cchumpy.ch\nCh\n)\x81}U\x01x" + python2_array(np.arange(6.0).reshape(2, 3)) + b"sb"
    state = b"}(U\x01a" + leaf + b"U\x04idxs" + python2_array(np.array(numbers)) + b"U\x0fpreferred_shape"
    return b"\x80\x02cchumpy.reordering\nSelect\n)\x81" + state + shape + b"ub."


def test_a_chumpy_selection_becomes_its_array() -> None:
    found = parse_pickle(selection([0, 1, 3, 4], b"K\x02K\x02\x86"), "file.pkl")
    np.testing.assert_array_equal(found, [[0, 1], [3, 4]])


@pytest.mark.parametrize(
    ("numbers", "shape", "match"),
    [
        ([0, 6], b"K\x02\x85", "elements that are not there"),
        ([0, -1], b"K\x02\x85", "elements that are not there"),
        ([0, 1], b"K\x03\x85", "2 elements in the shape"),
        ([0, 1], b"N", "shape None"),
        ([0.5], b"K\x01\x85", "without numbers of elements"),
    ],
)
def test_a_chumpy_selection_of_what_is_not_there_is_refused(numbers: Any, shape: bytes, match: str) -> None:
    refuses(selection(numbers, shape), match)


class Payload:
    """An object whose pickle runs a command when it is opened as Python would."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> Any:
        return os.system, (f"touch {self.marker}",)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_command_is_refused_by_name_and_never_run(tmp_path: Path, protocol: int) -> None:
    path = tmp_path / "model.pkl"
    path.write_bytes(pickle.dumps({"v_template": np.zeros(3), "x": Payload(tmp_path / "ran")}, protocol))
    with pytest.raises(FormatError, match=r"model\.pkl: found the global (posix|nt)\.system"):
        load_pickle(path)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("builtins", "eval"),
        ("builtins", "getattr"),
        ("numpy", "load"),
        ("numpy.core.multiarray", "fromfile"),
        ("_codecs", "lookup"),
        ("skelformats.safe_pickle", "load_pickle"),
        ("os", "system\x1b[2J"),
    ],
)
def test_every_other_name_is_refused(module: str, name: str) -> None:
    refuses(b"\x80\x04" + short(module) + short(name) + b"\x93.", f"the global .*{module}")


ARRAY = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85C\x01b\x87R"
DOUBLE = b"cnumpy\ndtype\nU\x02f8K\x00K\x01\x87R"
HUGE = b"\x8a\x05" + (10**12 - 1).to_bytes(5, "little") + b"\x00"


@pytest.mark.parametrize(
    ("content", "match"),
    [
        (b"r\xff\xff\xff\x7f.", "damaged"),
        (b"]r\xff\xff\xff\x7f.", ""),
        (b"\x8e" + b"\xff" * 7 + b"\x7f.", "damaged"),
        (b"\x96" + b"\xff" * 7 + b"\x0f.", "damaged"),
        (b"B\xff\xff\xff\x7f.", "damaged"),
        (b"", "damaged"),
        (b".", "damaged"),
        (b"K\x01", "damaged"),
        (b"K\x01K\x02.", "damaged"),
        (b"(K\x01.", ""),
        (b"h\x05.", "damaged"),
        (b"K\x01b.", "damaged"),
        (b"K\x01K\x02b.", "a state for an object of type int"),
        (b"K\x01)R.", "a call of something that is not a function"),
        (b"cnumpy\nndarray\n)R.", "a call of numpy.ndarray"),
        (b"cnumpy\nndarray\n.", "numpy.ndarray as a value"),
        (b"cnumpy\nndarray\n)\x81.", "an object of numpy.ndarray"),
        (DOUBLE + b".", "unfinished"),
        (ARRAY + b".", "unfinished"),
        (ARRAY + b"(K\x01J\xff\xff\xff\xff\x85" + DOUBLE + b"\x89C\x00tb.", "shape"),
        (ARRAY + b"(K\x01K\x02\x85" + DOUBLE + b"\x89C\x08" + bytes(8) + b"tb.", "16 bytes. with 8 bytes"),
        (ARRAY + b"(K\x01J\xff\xff\xff\x7fJ\xff\xff\xff\x7f\x86" + DOUBLE + b"\x89C\x00tb.", "with 0 bytes"),
        (DOUBLE + b"(K\x03U\x01<NU\x01a\x85}K\x10K\x08K\x00tb.", "dtype with fields"),
        (b"cnumpy\ndtype\nU\x0216K\x00K\x01\x87R" + b"b.", "damaged"),
        (ARRAY + b"(K\x01K\x01\x85cnumpy\ndtype\nU\x02V8\x85R\x89C\x08" + bytes(8) + b"tb.", "dtype 'V8'"),
        (b"cnumpy.core.multiarray\nscalar\ncnumpy\ndtype\nU\x02O8\x85RC\x08abcdefgh\x86R.", "scalar"),
        (b"P1\n.", "the instruction 0x50"),
        (b"(ios\nsystem\n.", "the instruction 0x69"),
        (b"\x82\x01.", "the instruction 0x82"),
        (b"\x97.", "the instruction 0x97"),
        (b"\x8b\x00\x00\x00\x00.", ""),
        (b"\x8b\x0c\x00\x00\x00" + bytes(11) + b"\x01.", "more than 64 bits"),
        (b"L" + b"9" * 5000 + b"L\n.", "more than 64 bits"),
        (b"]q\x00h\x00a.", "contains itself"),
        (b"}q\x00K\x01h\x00s.", "contains itself"),
        (b"]" * 50_000 + b"a" * 49_999 + b".", "nested more than 64 deep"),
        (b")" + b"\x85" * 50_000 + b".", "nested more than 64 deep"),
        (b"}" + b")" + b"\x85" * 50_000 + b"K\x01s.", "key that is a tuple of tuples"),
        (b"}]K\x01s.", "key of type list"),
        (b"\x8f" * 500_000, "far more memory"),
        (b"]q\x00" + b"".join(b"]q%c(" % k + b"h%c" % (k - 1) * 9 + b"e" for k in range(1, 40)) + b".", ""),
    ],
)
def test_a_hostile_pickle_is_refused(content: bytes, match: str) -> None:
    if match:
        refuses(content, match)
    else:  # whether data or not, it neither crashes nor takes memory
        with contextlib.suppress(FormatError):
            parse_pickle(content, "file.pkl")


def test_containers_that_share_each_other_exponentially_are_refused() -> None:
    bomb: list[Any] = [0.0] * 10
    for _ in range(30):
        bomb = [bomb] * 10
    refuses(pickle.dumps(bomb), "hold each other so often")


def test_bytes_that_are_shared_do_not_multiply() -> None:
    text = "x" * 1_000_000
    copy = b"c_codecs\nencode\nh\x00U\x06latin1\x86R"
    content = b"\x80\x02](X" + struct.pack("<I", len(text)) + text.encode() + b"q\x00" + copy * 1000 + b"e."
    refuses(content, "far more memory")


COMPLEX = b"\x80\x02c__builtin__\ncomplex\nq\x00"


def complex_number(real: float, imaginary: float) -> bytes:
    """Instructions that push a complex number, whose class is in the memo at 0."""
    return b"h\x00G" + struct.pack(">d", real) + b"G" + struct.pack(">d", imaginary) + b"\x86R"


def colliding(count: int) -> list[bytes]:
    """Complex numbers of one hash: that of a sum is 1000003 times the imaginary part plus the real one."""
    keys = [complex_number(-1000003.0 * k, float(k)) for k in range(count)]
    assert len({hash(complex(-1000003.0 * k, float(k))) for k in range(1, 1000)}) == 1
    return keys


@pytest.mark.parametrize("form", ["dict", "set", "frozenset", "set of a list", "OrderedDict"])
def test_keys_whose_hashes_are_made_to_collide_are_refused_at_once(form: str) -> None:
    """One megabyte of them took half a minute: the square of their number."""
    keys = colliding(40_000)
    pairs = b"".join(b"(" + key + b"Nt" for key in keys) if form == "OrderedDict" else b""
    content = {
        "dict": COMPLEX + b"0}(" + b"N".join(keys) + b"Nu.",
        "set": COMPLEX + b"0\x8f(" + b"".join(keys) + b"\x90.",
        "frozenset": COMPLEX + b"0(" + b"".join(keys) + b"\x91.",
        "set of a list": COMPLEX + b"0c__builtin__\nset\n](" + b"".join(keys) + b"e\x85R.",
        "OrderedDict": COMPLEX + b"0ccollections\nOrderedDict\n](" + pairs + b"e\x85R.",
    }[form]
    begun = time.process_time()
    refuses(content, "more than 4096 dictionary keys that are neither text nor numbers")
    assert time.process_time() - begun < 8


def test_tuples_as_keys_are_bounded_too_and_text_and_numbers_are_not() -> None:
    refuses(pickle.dumps({(k, 1): None for k in range(5000)}), "more than 4096 dictionary keys")
    many: dict[Any, Any] = {**{str(k): k for k in range(20_000)}, **{k: k for k in range(20_000)}}
    assert parse_pickle(pickle.dumps(many), "file.pkl") == many
    few = {(k, "x"): k for k in range(1000)}
    assert parse_pickle(pickle.dumps(few), "file.pkl") == few


@pytest.mark.parametrize("code", [b"N", b"(", b"\x8c\x02ab", b"M\x01\x02", b"G12345678", b"K\x012"])
def test_the_stack_counts_as_memory(code: bytes) -> None:
    """Values that no container takes: nothing else would bound them but the file's length."""
    with pytest.raises(FormatError, match="far more memory"):
        parse_pickle(code * 50_000 + b".", "file.pkl", max_bytes=1_000_000)


def test_one_wide_character_makes_text_four_times_as_large() -> None:
    text = "\N{GRINNING FACE}" + "x" * 1_000_000
    content = pickle.dumps([text + str(k) for k in range(10)])
    assert parse_pickle(content, "file.pkl", max_bytes=50_000_000)[0] == text + "0"
    with pytest.raises(FormatError, match="far more memory"):
        parse_pickle(content, "file.pkl", max_bytes=20_000_000)


def test_a_sparse_matrix_of_absurd_shape_is_refused() -> None:
    sparse = pytest.importorskip("scipy.sparse")
    for shape, found in (((10**9, 3), "shape"), ((3, 3), "indices do not fit")):
        matrix = sparse.csc_matrix(np.eye(3))
        matrix._shape = shape
        if shape == (3, 3):
            matrix.indices[1] = 7
        refuses(pickle.dumps(matrix), found)


def test_a_file_beyond_the_limit_an_empty_and_an_absent_one_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "file.pkl"
    path.write_bytes(pickle.dumps(bytes(1000)))
    with pytest.raises(FormatError, match="at most 100 bytes"):
        load_pickle(path, max_bytes=100)
    path.write_bytes(b"")
    with pytest.raises(FormatError, match="an empty file"):
        load_pickle(path)
    with pytest.raises(FormatError, match="cannot be read"):
        load_pickle(tmp_path / "absent.pkl")


@settings(max_examples=examples(300))
@given(st.integers(0, pickle.HIGHEST_PROTOCOL), st.data())
def test_a_damaged_pickle_is_read_or_refused(protocol: int, data: st.DataObject) -> None:
    content = bytearray(pickle.dumps(VALUES, protocol))
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(FormatError):
        parse_pickle(bytes(content), "file.pkl")


@settings(max_examples=examples(300))
@given(st.binary(max_size=60))
def test_bytes_of_any_kind_are_read_or_refused(content: bytes) -> None:
    with contextlib.suppress(FormatError):
        parse_pickle(content, "file.pkl")


@pytest.mark.real
def test_the_public_kinematic_tree_is_read(shared_data: Path) -> None:
    tree = load_pickle(shared_data / "amass" / "kintree_table.pkl")
    assert tree.shape == (2, 24)
    np.testing.assert_array_equal(tree[1], range(24))
