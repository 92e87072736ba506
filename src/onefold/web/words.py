"""How screens say numbers, times, states and rules."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Any

from onefold import config, schedule, trigger
from onefold.segment_profiles import ACTIONS

# Status of a run -> word, icon, tone.
STATES = {
    "running": ("Running", "", "run"),
    "succeeded": ("Succeeded", "succeeded", "ok"),
    "partly": ("Partly", "partly", "warn"),
    "failed": ("Failed", "failed", "bad"),
    "cancelled": ("Stopped", "stop", "off"),
    "skipped": ("Skipped", "never", "off"),
    "never": ("Never run", "never", "off"),
    "paused": ("Paused", "never", "off"),
}
SUBSCRIPTIONS = {
    "SUBSCRIBED": ("Subscribed", "ok"),
    "UNSUBSCRIBED": ("Unsubscribed", "bad"),
    "DID_NOT_SUBSCRIBE": ("Did not subscribe", "off"),
}
CHANNELS = {
    "EMAIL": ("Email", "mail"),
    "SMS": ("SMS", "message"),
    "WHATSAPP": ("WhatsApp", "whatsapp"),
    "ANDROID_PUSH": ("Android push", "phone"),
    "IOS_PUSH": ("iOS push", "phone"),
}
REGIONS = {
    "local": "this workspace (region local)",
    "north_america": "Segment, North America",
    "europe": "Segment, Europe",
}
SOURCES = {"duckdb": "DuckDB", "sqlite": "SQLite", "postgres": "PostgreSQL", "files": "Files"}
EVENTS = {"new": "Added", "updated": "updated", "deleted": "deleted"}


def number(value: float | None) -> str:
    """`1,284,902`; a dash where there is none."""
    return "—" if value is None else f"{value:,.0f}"


def short(value: float) -> str:
    """`1.2 M`, `38 k`."""
    for step, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= step:
            shown = f"{value / step:.1f}" if value < 10 * step else f"{value / step:.0f}"
            return f"{shown.removesuffix('.0')} {unit}"
    return f"{value:.0f}"


def many(count: int, one: str, more: str = "") -> str:
    """`1 row`, `2,051 rows`."""
    return f"{count:,} {one if count == 1 else more or one + 's'}"


def percent(part: float, whole: float) -> str:
    return f"{100 * part / whole:.0f} %" if whole else "0 %"


def moment(text: str) -> datetime:
    return datetime.fromisoformat(text)


def ago(text: str | None) -> str:
    """`8 min ago`; after a day the date."""
    if not text:
        return "never"
    then = moment(text)
    gone = (datetime.now(UTC) - then).total_seconds()
    if gone < 5:
        return "just now"
    if gone < 60:
        return f"{gone:.0f} s ago"
    if gone < 3600:
        return f"{gone / 60:.0f} min ago"
    if gone < 86_400:
        return f"{gone / 3600:.0f} h ago"
    return day(text)


def until(text: str | None) -> str:
    """`in 52 min`; tomorrow and later the day and time."""
    if not text:
        return "—"
    then = moment(text)
    left = (then - datetime.now(UTC)).total_seconds()
    if left < 60:
        return "now" if left <= 0 else f"in {left:.0f} s"
    if left < 3600:
        return f"in {left / 60:.0f} min"
    if left < 43_200:
        return f"in {left / 3600:.0f} h"
    tomorrow = datetime.now(UTC).date() + timedelta(days=1)
    return f"Tomorrow {then:%H:%M}" if then.date() == tomorrow else f"{then:%a %H:%M}"


def day(text: str) -> str:
    then = moment(text)
    return f"{then.day} {then:%b}" if then.year == datetime.now(UTC).year else f"{then.day} {then:%b %Y}"


def near(text: str) -> str:
    """The day: `Today`, `Yesterday`, else as `day`."""
    gone = (datetime.now(UTC).date() - moment(text).date()).days
    return {0: "Today", 1: "Yesterday"}.get(gone) or day(text)


def exact(text: str | None) -> str:
    """`4 Mar 2024 14:02:11 UTC`, for a hover."""
    if not text:
        return ""
    then = moment(text)
    return f"{then.day} {then:%b %Y %H:%M:%S} UTC"


def clock(text: str, *, fraction: bool = False) -> str:
    then = moment(text)
    return f"{then:%H:%M:%S}.{then.microsecond // 1000:03}" if fraction else f"{then:%H:%M:%S}"


def lasted(seconds: float | None) -> str:
    if seconds is None:
        return "—"
    if seconds < 1:
        return f"{seconds:.2f} s"
    if seconds < 100:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    return f"{seconds // 60:.0f} min {seconds % 60:.0f} s"


def brief(segment_id: str) -> str:
    """A segment_id as it is shown: its prefix and 8 characters."""
    prefix, line, rest = segment_id.partition("_")
    return f"{prefix}{line}{rest[:8]}"


def action(key: str) -> str:
    return ACTIONS[key].title if key in ACTIONS else key


def region(endpoint: str) -> str:
    """Where a destination delivers to, in words."""
    return REGIONS.get(endpoint, endpoint)


def records(text: str) -> str | None:
    """Which records a trigger selects, in words; None if it says more than that."""
    names = [name for name in trigger.EVENTS if name in trigger.parse(text).events()]
    wanted = " or ".join(f'event = "{name}"' for name in names)
    if text.strip() != wanted:
        return None
    said = " or ".join(EVENTS[name] for name in names)
    return said[:1].upper() + said[1:]


def every(seconds: int) -> str:
    for size, unit in ((86_400, "day"), (3600, "h"), (60, "min"), (1, "s")):
        if seconds % size == 0:
            return f"Every {seconds // size} {unit}"
    return f"Every {seconds} s"


def when(found: schedule.Schedule | None) -> str:
    """A schedule in words."""
    if found is None:
        return "Manual"
    if isinstance(found, schedule.Every):
        return every(found.seconds)
    if isinstance(found, schedule.At):
        days = "Daily" if found.days == schedule.DAYS else ", ".join(one.capitalize() for one in found.days)
        zone = "" if found.timezone == "UTC" else f" {found.timezone}"
        return f"{days} {', '.join(found.times)}{zone}"
    if isinstance(found, schedule.Cron):
        return f"Cron {found.expression}"
    return f"After {found.mapping.partition('/')[2] or found.mapping}"


def limit(rule: config.IdentifierRule) -> str:
    return f"{rule.limit} {'ever' if rule.per == 'ever' else rule.per}"


def flat(value: Any, length: int = 200) -> str:
    """A value of data on one line."""
    import json

    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    text = re.sub(r"\s+", " ", text)
    return text if len(text) <= length else text[: length - 1] + "…"


def initials(name: str) -> str:
    parts = [part for part in re.split(r"[\s.@_-]+", name) if part]
    return "".join(part[0] for part in parts[:2]).upper() or "?"
