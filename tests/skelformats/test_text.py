"""The byte scanner that the text readers share."""

from __future__ import annotations

import math
import struct
from decimal import Decimal, localcontext
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from skelformats.errors import FormatError
from skelformats.kernel import kernel
from skelformats.text import (
    as_text,
    field_end,
    load_text,
    parse_float,
    parse_int,
    quote,
    skip_blanks,
    skip_fields,
    skip_space,
)

COMPILED = settings(deadline=None)  # the first call may have to compile
DOUBLES = st.floats(allow_nan=True, allow_infinity=True)
SINGLES = st.floats(width=32)


def scan_float(text: str) -> tuple[float, int]:
    return parse_float(as_text(f"{text}\n".encode(), "memory").buffer, 0)


def bits(value: float) -> bytes:
    return struct.pack("<d", math.nan if math.isnan(value) else value)


def assert_same_as_python(text: str) -> None:
    value, end = scan_float(text)
    assert end == len(text), text
    assert bits(value) == bits(float(text)), text
    with np.errstate(over="ignore"):
        np.testing.assert_array_equal(np.float32(value), np.float32(float(text)))


@COMPILED
@given(st.one_of(DOUBLES, SINGLES), st.sampled_from(["%.7g", "%.9g", "%e", "%.6f", "%.17g", "%r", "%.40g"]))
def test_printed_numbers_are_read_to_the_last_bit(value: float, form: str) -> None:
    assert_same_as_python(form % value)


@COMPILED
@given(st.floats(min_value=0, max_value=1e300))
def test_numbers_half_way_between_two_floats_are_rounded_as_python_does(value: float) -> None:
    with localcontext() as context:
        context.prec = 1200
        half = (Decimal(value) + Decimal(math.nextafter(value, math.inf))) / 2
    written = f"{half:f}" if "." in f"{half:f}" else f"{half:f}."
    assert_same_as_python(f"{half:e}")
    assert_same_as_python(written)
    assert_same_as_python(written + "0" * 900 + "1")


@COMPILED
@given(st.from_regex(r"[+-]?[0-9]{0,30}\.?[0-9]{1,30}([eE][+-]?[0-9]{1,4})?", fullmatch=True))
@example("9" * 1000)
@example("1" * 900 + "e-900")
@example("0." + "0" * 500 + "1")
@example("0" * 900 + "1.5")
@example("1" + "0" * 799 + "1e-1000")
@example("1e999999999999999999999")
@example("0e999999999999999999999")
@example("1e-999999999999999999999")
@example("2.4703282292062327e-324")
@example("2.4703282292062328e-324")
@example("2.2250738585072011e-308")
@example("1.7976931348623159e308")
@example("9007199254740993")
def test_any_decimal_is_read_to_the_last_bit(text: str) -> None:
    assert_same_as_python(text)


@COMPILED
@given(st.text("0123456789+-.eEnNaAiIfFtTyY", min_size=1, max_size=12))
@example("Infinity")
@example("-inf")
@example("+NaN")
@example("infinit")
@example(".")
@example("5.")
@example("1e+")
def test_a_field_is_a_number_exactly_when_python_says_so(text: str) -> None:
    try:
        wanted: float | None = float(text)
    except ValueError:
        wanted = None
    value, end = scan_float(text)
    assert (end == len(text)) == (wanted is not None)
    if wanted is not None:
        assert bits(value) == bits(wanted)


@COMPILED
@given(st.integers(-(2**63) + 1, 2**63 - 1))
def test_int64_is_read_exactly(value: int) -> None:
    text = str(value)
    assert parse_int(as_text(text.encode(), "memory").buffer, 0) == (value, len(text))


@pytest.mark.parametrize("text", [str(2**63), "-" + str(2**63), "9" * 30, "-", "+", "x", "\n1"])
def test_what_is_no_int64_is_not_stepped_over(text: str) -> None:
    assert parse_int(as_text(f"{text} 1".encode(), "memory").buffer, 0) == (0, 0)


FIELDS = st.lists(st.text("ab1.-", min_size=1, max_size=90), min_size=1, max_size=12)
GAPS = st.text(" \t\r", min_size=1, max_size=80)


@COMPILED
@given(FIELDS, GAPS, st.integers(1, 14), st.sampled_from(["", "\n", " \r\n", "\nnext line x y z"]))
def test_fields_are_stepped_over_as_split_does(fields: list[str], gap: str, count: int, end: str) -> None:
    line = gap.join(fields)
    text = as_text((line + end).encode(), "memory")
    at = skip_fields(text.buffer, text.size, 0, count)
    if count >= len(fields):
        assert at == -1
    else:
        assert at == len(gap.join(fields[:count])) + len(gap)
        assert text.field(at) == fields[count]


def test_blanks_end_at_the_line_and_space_does_not() -> None:
    buffer = as_text(b" \t\r\n  x", "memory").buffer
    assert skip_blanks(buffer, 0) == 3
    assert skip_space(buffer, 0) == 6
    assert field_end(buffer, 6) == 7


def test_the_end_of_the_text_ends_every_walk() -> None:
    text = as_text(b"12", "memory")
    assert parse_int(text.buffer, 0) == (12, 2)
    assert parse_float(text.buffer, 0) == (12.0, 2)
    assert skip_space(text.buffer, 2) == skip_blanks(text.buffer, 2) == field_end(text.buffer, 2) == 2
    assert skip_fields(text.buffer, text.size, 0, 1) == -1


@pytest.mark.parametrize(
    ("content", "line", "found"),
    [
        (b"", None, "an empty file"),
        (b" \r\n\n", None, "4 bytes of white space"),
        (b"1\n2\n\x00\n", 3, "the byte 0x00"),
        (b"1\n\xc3\xa9", 2, "the byte 0xc3"),
        (b"PK\x03\x04", 1, "the byte 0x03"),
    ],
)
def test_what_is_no_text_is_refused(tmp_path: Path, content: bytes, line: int | None, found: str) -> None:
    path = tmp_path / "file.txt"
    path.write_bytes(content)
    with pytest.raises(FormatError) as error:
        load_text(path)
    assert error.value.found == found
    assert error.value.line == line
    assert str(path) in str(error.value)


def test_a_text_knows_its_lines_and_fields(tmp_path: Path) -> None:
    path = tmp_path / "file.txt"
    path.write_bytes(b"one two\r\nthree  four")
    text = load_text(path)
    at = text.buffer.tobytes().index(b"four")
    assert text.line(at) == 2
    assert text.fields(at) == ["three", "four"]
    assert text.field(at) == "four"
    assert text.cut_off(at)
    assert not text.cut_off(0)
    assert str(text.error(at, "this", "that")) == f"{path}, line 2: found this, expected that"


def test_long_pieces_are_shortened_in_messages() -> None:
    assert quote("abc") == "'abc'"
    assert len(quote("x" * 1000)) == 42


def test_a_kernel_works_where_no_cache_can_be_written() -> None:
    # a function without a source file is what Numba finds no place for, as on a machine without a
    # writable home
    scope: dict[str, object] = {}
    exec(compile("def double(x): return 2 * x", "<nowhere>", "exec"), scope)
    double = kernel(scope["double"])  # type: ignore[type-var]
    assert double(21) == 42  # type: ignore[operator]
