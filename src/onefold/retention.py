"""How long is kept what may be forgotten: `retention` in the workspace file. Profiles lose nothing by it."""

from __future__ import annotations

from dataclasses import dataclass

from onefold import schedule
from onefold.report import Part

DAY = 86_400
FOREVER = "forever"
NAMES = ("runs", "rejected", "calls")


@dataclass(frozen=True)
class Retention:
    """Seconds; None: for ever.

    `runs` are the lines of `onefold runs`, `rejected` the rows that a run rejected and the live calls that were,
    `calls` the context and properties of calls.
    """

    runs: int | None = 400 * DAY
    rejected: int | None = 90 * DAY
    calls: int | None = None


DEFAULTS = Retention()


def read(part: Part) -> Retention:
    return Retention(**{name: _kept(part, name, getattr(DEFAULTS, name)) for name in NAMES})


def _kept(part: Part, name: str, default: int | None) -> int | None:
    if name not in part:
        return default
    return None if part.value[name] == FOREVER else schedule.interval(part, name, f"90d, or {FOREVER}")


def told(seconds: int | None) -> str:
    return FOREVER if seconds is None else schedule.told(seconds)
