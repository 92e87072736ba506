"""When a mapping, or a target, is synced: every so often, at times of the day, by cron, or after another mapping."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, tzinfo

from onefold.report import Part

DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
MANUAL = ("none", "manual")  # words for no schedule


@dataclass(frozen=True)
class Every:
    """`{every: 1h}`: an interval."""

    seconds: int

    def __str__(self) -> str:
        return f"every {told(self.seconds)}"


@dataclass(frozen=True)
class At:
    """`{at: '09:00', days: [mon, fri], timezone: Europe/Oslo}`: times of the day, `HH:MM`, in order."""

    times: tuple[str, ...]
    days: tuple[str, ...] = DAYS
    timezone: str = "UTC"

    def __str__(self) -> str:
        days = "every day" if self.days == DAYS else ", ".join(self.days)
        return f"at {', '.join(self.times)}, {days} ({self.timezone})"


@dataclass(frozen=True)
class Cron:
    """`{cron: '0 9 * * 1-5'}`: a cron expression."""

    expression: str
    timezone: str = "UTC"

    def __str__(self) -> str:
        return f"cron {self.expression} ({self.timezone})"


@dataclass(frozen=True)
class After:
    """`{after: profiles/customers}`: whenever that mapping was synced; DEST/MAPPING."""

    mapping: str

    def __str__(self) -> str:
        return f"after {self.mapping}"


Schedule = Every | At | Cron | After


def told(seconds: int) -> str:
    """An interval as it is typed: `90d`."""
    unit = next(unit for unit in ("d", "h", "m", "s") if seconds % UNITS[unit] == 0)
    return f"{seconds // UNITS[unit]}{unit}"


def read(part: Part, destination: str) -> Schedule | None:
    """The schedule of an object; None, which is manual, if it is wrong or has none.

    `after` may name a mapping of the same destination, if there is one, without it; that it exists is for the caller to
    check.
    """
    kinds = [key for key in ("every", "at", "cron", "after") if key in part]
    if len(kinds) != 1:
        if part.value:
            part.report.add(part.path, "a schedule has one of every, at, cron and after")
        return None
    kind = kinds[0]
    for key, owners in (("days", ("at",)), ("timezone", ("at", "cron"))):
        if key in part and kind not in owners:
            part.refuse(key, f"only goes with {' and '.join(owners)}, not with {kind}")
    if kind == "every":
        return _every(part)
    if kind == "at":
        return At(_times(part), _days(part), _timezone(part))
    if kind == "cron":
        return _cron(part)
    after = part.text("after")
    return After(f"{destination}/{after}" if destination and "/" not in after else after)


def _every(part: Part) -> Every | None:
    seconds = interval(part, "every", "15m or 1h")
    return None if seconds is None else Every(seconds)


def interval(part: Part, key: str, such: str) -> int | None:
    """The seconds of an interval that is there, such as 15m; None, and a problem, if it is none."""
    text = part.text(key) if isinstance(part.value[key], str) else str(part.value[key])
    written = re.fullmatch(r"\s*([1-9][0-9]{0,8})\s*([smhd])\s*", text)
    if written:
        return int(written[1]) * UNITS[written[2]]
    if part.open(key) and text.strip():
        part.refuse(key, f"{part.typed(key)} is no interval; write a number and s, m, h or d, such as {such}")
    return None


def _times(part: Part) -> tuple[str, ...]:
    times = (part.text("at"),) if isinstance(part.value["at"], str) else part.texts("at") or ()
    for said in times if part.open("at") else ():
        if not re.fullmatch(r"([01][0-9]|2[0-3]):[0-5][0-9]", said):
            part.refuse("at", f"{said!r} is no time of the day; write hours and minutes, such as '09:00'")
    if part.value["at"] == []:
        part.refuse("at", "names no time; write hours and minutes, such as '09:00'")
    return tuple(sorted(set(times)))


def _days(part: Part) -> tuple[str, ...]:
    days = part.texts("days")
    if days is None:
        return DAYS
    for day in days if part.open("days") else ():
        if day not in DAYS:
            part.refuse("days", f"unknown day {day!r}; known here: {', '.join(DAYS)}")
    if part.value["days"] == []:
        part.refuse("days", "names no day; leave it out for every day")
    return tuple(day for day in DAYS if day in days)


def _timezone(part: Part) -> str:
    name = part.text("timezone", "UTC")
    if part.open("timezone") and name.strip() and name != "UTC":
        import zoneinfo

        from onefold.nearest import nearest

        try:
            zoneinfo.ZoneInfo(name)
        except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
            hint = nearest(name, zoneinfo.available_timezones()) or "; write one such as Europe/Oslo"
            part.refuse("timezone", f"unknown time zone {part.typed('timezone')}{hint}")
    return name


def _cron(part: Part) -> Cron:
    text = part.text("cron")
    if part.open("cron") and text.strip():
        from datetime import UTC, datetime

        from cronsim import CronSim, CronSimError

        try:
            if next(CronSim(text, datetime.now(UTC)), None) is None:
                part.refuse("cron", f"{part.typed('cron')} never comes true")
        except CronSimError as error:
            why = str(error)[:1].lower() + str(error)[1:]
            part.refuse("cron", f"{part.typed('cron')} is no cron expression: {why}")
    return Cron(" ".join(text.split()), _timezone(part))


# --- what is due --------------------------------------------------------------------------------------


def following(schedule: Every | At | Cron, after: datetime, since: datetime) -> datetime | None:
    """The first time after a moment, UTC; None where there is none.

    `since` is when the schedule was applied: an interval is counted from there, so it does not drift. A time of the
    day that the clock leaps over comes when it leaps; one that it shows twice comes the first time.
    """
    if isinstance(schedule, Every):
        interval = timedelta(seconds=schedule.seconds)
        return since + ((after - since) // interval + 1) * interval
    if isinstance(schedule, Cron):
        return _next_cron(schedule, after)
    zone = _zone(schedule.timezone)
    days = {DAYS.index(day) for day in schedule.days}
    today = after.astimezone(zone).date()
    # From yesterday: what a leap over midnight holds up belongs to a day that is over.
    for offset in range(-1, 9):
        day = today + timedelta(days=offset)
        if day.weekday() in days:
            for said in schedule.times:
                moment = _moment(day, time.fromisoformat(said), zone)
                if moment > after:
                    return moment
    return None


def _zone(name: str) -> tzinfo:
    from zoneinfo import ZoneInfo

    return UTC if name == "UTC" else ZoneInfo(name)


def _moment(day: date, at: time, zone: tzinfo) -> datetime:
    """When a clock shows a time for the first time, or leaps over it."""
    local = datetime.combine(day, at, zone)
    moment = local.astimezone(UTC)
    if moment.astimezone(zone).replace(tzinfo=None) == local.replace(tzinfo=None):
        return moment
    # The clock never shows it: read with the time before the leap it lies behind it, with the one after before it.
    before, behind = local.replace(fold=1).astimezone(UTC), moment
    leapt = behind.astimezone(zone).utcoffset()
    while behind - before > timedelta(seconds=1):
        middle = before + (behind - before) // 2
        if middle.astimezone(zone).utcoffset() == leapt:
            behind = middle
        else:
            before = middle
    return behind.replace(microsecond=0)


def _next_cron(schedule: Cron, after: datetime) -> datetime | None:
    from cronsim import CronSim

    for found in CronSim(schedule.expression, after.astimezone(_zone(schedule.timezone))):
        moment: datetime = found.astimezone(UTC)
        # It reads a time that the clock shows twice as the first of them, which may be over.
        if moment > after:
            return moment
    return None
