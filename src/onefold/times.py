"""Times: what a `datetime` field takes, and how times are written (reference, section 1; design, section 5)."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_ISO = re.compile(r"\d{4}-\d{2}(-\d{2}([T ]\d{2}:\d{2}(:\d{2}([.,]\d+)?)?\s*(Z|[+-]\d{2}(:?\d{2})?)?)?)?", re.I)
# The years 1 to 9999, in milliseconds: what a datetime can hold.
_MILLISECONDS = (-62_135_596_800_000, 253_402_300_799_999)


def parse(value: object) -> int | None:
    """A time as µs since the epoch, UTC; None if it cannot be read.

    Takes ISO 8601 text, a date, a space-separated date-time (without a zone: UTC), or epoch milliseconds.
    """
    if isinstance(value, bool):
        return None
    if isinstance(value, int | float):
        if not _MILLISECONDS[0] <= value <= _MILLISECONDS[1]:
            return None  # also NaN
        return round(value * 1000)
    if not isinstance(value, str):
        return None
    text = value.strip()
    if not _ISO.fullmatch(text):
        return None
    if len(text) == 7:
        text += "-01"
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return (moment - EPOCH) // _MICROSECOND


def text(micros: int) -> str:
    """`YYYY-MM-DDTHH:MM:SSZ` of µs since the epoch, with microseconds where there are any."""
    moment = EPOCH + timedelta(microseconds=micros)
    return moment.replace(tzinfo=None).isoformat() + "Z"
