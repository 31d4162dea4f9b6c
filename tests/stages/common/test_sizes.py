"""Sizes as people write them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stages.common.sizes import (
    LARGEST,
    format_bytes,
    format_duration,
    format_size,
    parse_byte_size,
    parse_size,
)


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("8k", 8_000),
        ("8K", 8_000),
        ("1.5M", 1_500_000),
        ("20T", 20_000_000_000_000),
        ("2B", 2_000_000_000),
        ("2G", 2_000_000_000),
        ("8Ki", 8_192),
        ("4Mi", 4_194_304),
        ("1e9", 1_000_000_000),
        ("1_000", 1_000),
        (" 12 ", 12),
        (".5k", 500),
        (4096, 4096),
        (1e6, 1_000_000),
        ("-1", -1),
    ],
)
def test_a_size_is_read_exactly(text: object, count: int) -> None:
    assert parse_size(text) == count


@pytest.mark.parametrize(
    "bad", ["", "k", "1.5", "8 kk", "0x10", "1.0001k", "nan", "inf", "1e400", "1e99", "8kB", True, None, [8]]
)
def test_what_is_no_whole_count_is_refused(bad: object) -> None:
    with pytest.raises(ValueError):
        parse_size(bad)


@given(st.integers(-LARGEST, LARGEST))
def test_a_formatted_size_reads_back(count: int) -> None:
    assert parse_size(format_size(count)) == count


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("22.06GiB", int(22.06 * 2**30)),
        ("500MB", 500_000_000),
        ("1 KiB", 1024),
        ("7", 7),
        ("7B", 7),
        ("0.5TiB", 2**39),
    ],
)
def test_a_byte_size_is_read(text: str, count: int) -> None:
    assert parse_byte_size(text) == count


@pytest.mark.parametrize("bad", ["8Q", "GiB", "1e300TB", True, ""])
def test_what_is_no_byte_size_is_refused(bad: object) -> None:
    with pytest.raises(ValueError, match=r"byte size|larger"):
        parse_byte_size(bad)


def test_bytes_and_durations_for_people() -> None:
    assert [format_bytes(n) for n in (12, 2048, 23.69e9, 200 * 2**20)] == [
        "12 B",
        "2.0 KiB",
        "22.1 GiB",
        "200 MiB",
    ]
    assert [format_duration(s) for s in (0.42, 42, 200, 18_120, 1_051_200)] == [
        "0.4 s", "42 s", "3m 20s", "5h 02m", "12d 04h",
    ]  # fmt: skip
    assert format_duration(59.7) == "1m 00s"
