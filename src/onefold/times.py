"""Times: what a `datetime` field takes, and how times are written (reference, section 1; design, section 5)."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
# Hour 24 is left out: newer releases of Python read it, older ones do not.
_ISO = re.compile(
    r"\d{4}-\d{2}(-\d{2}([T ]([01]\d|2[0-3]):\d{2}(:\d{2}([.,]\d+)?)?\s*(Z|[+-]\d{2}(:?\d{2})?)?)?)?",
    re.IGNORECASE | re.ASCII,
)
# The years 1 to 9999: what a datetime can hold.
_FIRST = (datetime(1, 1, 1, tzinfo=UTC) - EPOCH) // _MICROSECOND
_LAST = (datetime(9999, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC) - EPOCH) // _MICROSECOND


def parse(value: object) -> int | None:
    """A time as µs since the epoch, UTC; None if it cannot be read.

    Takes ISO 8601 text, a date, a space-separated date-time (without a zone: UTC), or epoch milliseconds.
    """
    if isinstance(value, bool):
        return None
    if isinstance(value, int | float):
        return round(value * 1000) if _FIRST <= value * 1000 <= _LAST else None  # NaN is not between them
    if not isinstance(value, str):
        return None
    text = value.strip()
    if not _ISO.fullmatch(text):
        return None
    if len(text) == 7:
        text += "-01"
    try:
        moment = datetime.fromisoformat(text.upper())
    except ValueError:
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    micros = (moment - EPOCH) // _MICROSECOND
    return micros if _FIRST <= micros <= _LAST else None


def month(text: str) -> int:
    """The beginning of a month, `YYYY-MM`, in µs since the epoch, UTC."""
    return (datetime.fromisoformat(f"{text}-01").replace(tzinfo=UTC) - EPOCH) // _MICROSECOND


def text(micros: int) -> str:
    """`YYYY-MM-DDTHH:MM:SSZ` of µs since the epoch, with microseconds where there are any."""
    moment = EPOCH + timedelta(microseconds=micros)
    return moment.replace(tzinfo=None).isoformat() + "Z"
