"""Times: what is read, what is not, and how a time is written."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from onefold import times

DAY = 1_704_067_200_000_000  # 2024-01-01


@pytest.mark.parametrize(
    ("given", "micros"),
    [
        ("2024-01-01", DAY),
        ("2024-01-01 00:00:00", DAY),
        ("2024-01-01T02:00:00+02:00", DAY),
        ("2024-01-01T00:00:00.5Z", DAY + 500_000),
        (1_704_067_200_000, DAY),
        (1_704_067_200_000.5, DAY + 500),
        ("2024-01-01t00:00:00z", DAY),
        ("2024-01-01 02:00:00 +02", DAY),
        ("2024-01-01T24:00:00Z", None),
        ("0001-01-01T00:00:00+14:00", None),
        ("9999-12-31T23:59:59-14:00", None),
        ("\uff12\uff10\uff12\uff14-01-01", None),
        ("1704067200000", None),
        (10**400, None),
        (-math.inf, None),
        ("2024-02-30", None),
        ("yesterday", None),
        ("", None),
        (True, None),
        (float("nan"), None),
        (1e300, None),
        (None, None),
        ({}, None),
    ],
)
def test_a_time_is_read_or_it_is_none(given: Any, micros: int | None) -> None:
    assert times.parse(given) == micros


@given(st.integers(-(10**15), 10**17))
def test_what_is_written_reads_the_same(micros: int) -> None:
    assert times.parse(times.text(micros)) == micros


@given(st.floats() | st.integers() | st.datetimes(timezones=st.timezones()).map(str) | st.text(max_size=30))
def test_whatever_is_read_can_be_written(value: Any) -> None:
    micros = times.parse(value)
    assert micros is None or times.parse(times.text(micros)) == micros
