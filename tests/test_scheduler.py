"""Schedules: what is due when, over a year and its changes of the clock, and that a server really starts it."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path
from time import sleep
from typing import Any
from zoneinfo import ZoneInfo

import pytest

import onefold
from live import Server
from onefold import scheduler, times
from onefold.schedule import At, Cron, Every, following
from shop import Shop, mapping

YEAR = datetime(2026, 1, 1, tzinfo=UTC)
ZONES = ["Europe/Oslo", "America/New_York", "Australia/Lord_Howe", "Pacific/Auckland", "Asia/Kolkata"]
SECOND = 1_000_000


def micros(moment: datetime) -> int:
    return (moment - times.EPOCH) // timedelta(microseconds=1)


def year(schedule: Every | At | Cron, late: int = 7) -> list[datetime]:
    """When a mapping is due in a year and a day; each run begins `late` seconds after that."""
    since, last, found = micros(YEAR), None, []
    while (at := scheduler.due(schedule, since, last)) is not None and at < since + 366 * 86_400 * SECOND:
        found.append(times.EPOCH + timedelta(microseconds=at))
        last = at + late * SECOND
    return found


# --- a year -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("zone", ZONES)
@pytest.mark.parametrize("said", ["02:15", "02:30", "01:30", "00:00"])
def test_a_time_of_the_day_comes_once_a_day_through_both_changes_of_the_clock(zone: str, said: str) -> None:
    found = year(At((said,), timezone=zone))
    local = [moment.astimezone(ZoneInfo(zone)) for moment in found]
    days = Counter(moment.date() for moment in local)
    assert set(days.values()) == {1}
    assert len(days) in (366, 367)
    # Where the clock leaps over the time, it comes when the clock leaps; else always at that time.
    odd = [moment for moment in local if f"{moment:%H:%M}" != said]
    assert len(odd) <= 1
    for moment in odd:
        before = (moment.astimezone(UTC) - timedelta(seconds=1)).astimezone(ZoneInfo(zone))
        assert before.utcoffset() != moment.utcoffset()


@pytest.mark.parametrize("zone", ZONES)
def test_cron_with_an_hour_comes_once_a_day_too(zone: str) -> None:
    found = year(Cron("30 2 * * *", zone))
    days = Counter(moment.astimezone(ZoneInfo(zone)).date() for moment in found)
    assert set(days.values()) == {1}
    assert len(days) in (366, 367)


def test_an_interval_does_not_drift_and_does_not_mind_the_clock() -> None:
    found = year(Every(6 * 3600))
    assert found == [YEAR + timedelta(hours=6 * at) for at in range(1, 366 * 4)]


def test_days_of_the_week_are_those_of_the_zone() -> None:
    found = year(At(("00:30", "23:30"), ("mon",), "Pacific/Auckland"))
    local = [moment.astimezone(ZoneInfo("Pacific/Auckland")) for moment in found]
    assert {f"{moment:%a %H:%M}" for moment in local} == {"Mon 00:30", "Mon 23:30"}
    assert len(local) in (104, 105, 106)


@pytest.mark.parametrize(
    ("schedule", "after", "expected"),
    [
        (At(("02:15", "02:45"), timezone="Europe/Oslo"), "2026-03-28T22:00", "2026-03-29T01:00"),  # leapt over: once
        (At(("02:15", "02:45"), timezone="Europe/Oslo"), "2026-03-29T01:00", "2026-03-30T00:15"),
        (At(("02:15",), timezone="Europe/Oslo"), "2026-10-24T22:00", "2026-10-25T00:15"),  # twice: the first time
        (At(("02:15",), timezone="Europe/Oslo"), "2026-10-25T00:15", "2026-10-26T01:15"),
        (At(("00:30",), timezone="America/Sao_Paulo"), "2018-11-04T00:00", "2018-11-04T03:00"),  # a leap at midnight
        (At(("12:00",), timezone="Pacific/Apia"), "2011-12-30T00:00", "2011-12-30T10:00"),  # a day that never was
        (Cron("45 2 * * *", "Europe/Oslo"), "2026-10-25T01:30", "2026-10-26T01:45"),
        (Cron("*/30 * * * *", "Europe/Oslo"), "2026-10-25T00:30", "2026-10-25T01:00"),
    ],
)
def test_what_follows_a_moment(schedule: Any, after: str, expected: str) -> None:
    def moment(text: str) -> datetime:
        return datetime.fromisoformat(text).replace(tzinfo=UTC)

    assert following(schedule, moment(after), YEAR) == moment(expected)


# --- out of the catalog -------------------------------------------------------------------------------

HOUR = 3600 * SECOND


class Clock:
    """A workspace with schedules, a catalog, and a clock that is set by hand."""

    def __init__(self, folder: Path, **schedules: dict[str, Any] | None) -> None:
        self.shop = Shop(folder)
        self.shop.mappings = [mapping(slug, model="people", schedule=said) for slug, said in schedules.items()]
        self.shop.write()
        self.workspace = onefold.open(folder)
        self.workspace.apply()
        self.began = self.at = scheduler.runs.now()
        self.catalog = self.workspace.catalog

    def ready(self, free: int = 10) -> list[str]:
        found = scheduler.ready(scheduler.entries(self.workspace.again(), self.at), self.at, free)
        return [entry.path.removeprefix("d/") for entry in found]

    def start(self, slug: str, by: str = "schedule") -> str:
        run_id = f"{slug}-{self.at}"
        self.catalog.start(run_id, slug if "/" in slug else f"d/{slug}", "production", self.at, by)
        return run_id

    def finish(self, run_id: str, status: str = "succeeded", code: str | None = None) -> None:
        self.catalog.finish(run_id, status=status, finished_at=self.at, code=code)


def test_missed_times_are_made_up_for_once_and_the_longest_waiting_comes_first(tmp_path: Path) -> None:
    clock = Clock(tmp_path / "shop", often={"every": "1h"}, seldom={"every": "2h"}, manual=None)
    assert clock.ready() == []  # a schedule counts from when it was applied
    clock.at += 5 * HOUR + HOUR // 2
    assert clock.ready() == ["often", "seldom"]
    assert clock.ready(free=1) == ["often"]
    run = clock.start("often")
    assert clock.ready() == ["seldom"]  # what is under way is not started again
    clock.finish(run)
    assert clock.ready() == ["seldom"]
    clock.at += HOUR // 2
    assert clock.ready() == ["seldom", "often"]


def test_a_time_that_comes_while_the_run_before_goes_on_is_kept(tmp_path: Path) -> None:
    clock = Clock(tmp_path / "shop", often={"every": "1h"})
    clock.at += HOUR + SECOND
    run = clock.start("often")
    clock.at += 3 * HOUR
    assert clock.ready() == []
    clock.finish(run)
    assert clock.ready() == ["often"]
    clock.finish(clock.start("often"))
    assert clock.ready() == []


def test_after_another_mapping_waits_until_that_ended_well(tmp_path: Path) -> None:
    clock = Clock(tmp_path / "shop", first={"every": "1h"}, second={"after": "first"})
    for status, expected in (("failed", []), ("partly", ["second"])):
        clock.at += HOUR + SECOND
        run = clock.start("first", by="cli")
        assert clock.ready() == []
        clock.at += SECOND
        clock.finish(run, status)
        assert clock.ready() == expected
    clock.finish(clock.start("second"))
    assert clock.ready() == []


def test_what_comes_after_another_waits_since_that_ended_first(tmp_path: Path) -> None:
    clock = Clock(tmp_path / "shop", first={"every": "1h"}, second={"after": "first"})
    clock.at += SECOND
    ended = clock.at
    for _ in range(3):  # faster than the other's turn comes
        clock.finish(clock.start("first"))
        clock.at += HOUR
    assert {entry.path: entry.due for entry in scheduler.entries(clock.workspace, clock.at)}["d/second"] == ended


def test_a_profiles_sync_has_a_schedule_like_a_mapping(tmp_path: Path) -> None:
    clock = Clock(tmp_path / "shop", first={"every": "1h"})
    target = {"slug": "bi", "type": "duckdb", "path": "bi.duckdb", "space": "production"}
    after = {**target, "slug": "later", "path": "later.duckdb", "schedule": {"after": "d/first"}}
    clock.shop.targets = [{**target, "schedule": {"every": "2h"}}, after]
    clock.shop.apply()
    clock.at = scheduler.runs.now() + 5 * HOUR
    assert clock.ready() == ["first", "profiles sync/bi"]
    clock.finish(clock.start("first"))
    run = clock.start("profiles sync/bi")
    assert clock.ready() == ["profiles sync/later"]  # what is under way is not started again
    clock.finish(run)
    clock.at += SECOND
    assert clock.ready() == ["profiles sync/later"]  # once for all the times that were missed
    lines = {line["mapping"]: line for line in clock.workspace.again().timetable()}
    assert lines["profiles sync/bi"]["schedule"] == "every 2h"
    assert lines["profiles sync/later"]["next_due"] is not None


def test_a_run_that_was_lost_is_made_up_for_once(tmp_path: Path) -> None:
    clock = Clock(tmp_path / "shop", often={"every": "1h"})
    clock.at += HOUR + SECOND
    clock.finish(clock.start("often"), "cancelled", "stopped")  # the server was stopped meanwhile
    assert clock.ready() == ["often"]
    clock.at += SECOND
    clock.finish(clock.start("often"), "cancelled", "stopped")
    assert clock.ready() == []
    clock.at += HOUR
    clock.finish(clock.start("often"), "cancelled", "cancelled")  # somebody wanted it so
    assert clock.ready() == []


def test_a_changed_schedule_counts_from_then_and_what_is_off_is_not_run(tmp_path: Path) -> None:
    clock = Clock(tmp_path / "shop", often={"every": "1h"})
    clock.at += 2 * HOUR
    assert clock.ready() == ["often"]
    for changes in ({"schedule": {"every": "30m"}}, {"schedule": {"every": "30m"}, "enabled": False}):
        clock.shop.mappings = [mapping("often", model="people", **changes)]
        clock.shop.apply()
        clock.at = scheduler.runs.now()
        assert clock.ready() == []
        clock.at += HOUR
        assert clock.ready() == ([] if "enabled" in changes else ["often"])
    (line,) = clock.workspace.again().timetable()
    assert (line["next_due"], line["schedule"]) == (None, "every 30m")
    assert "disabled" in line["off"]


# --- a real server ------------------------------------------------------------------------------------


def test_a_server_starts_what_is_due(tmp_path: Path) -> None:
    shop = Shop(tmp_path / "shop")
    shop.people((1, "a@x", "free"))
    shop.mappings = [mapping(schedule={"every": "1s"}), mapping("next", model="people", schedule={"after": "people"})]
    target = {"slug": "bi", "type": "duckdb", "path": "bi.duckdb", "space": "production"}
    shop.targets = [{**target, "schedule": {"after": "d/people"}}]
    shop.apply()
    server = Server(shop.folder)
    workspace = onefold.open(shop.folder)
    try:
        ran: Counter[str] = Counter()
        while ran["d/people"] < 2 or ran["d/next"] < 1 or ran["profiles sync/bi"] < 1:
            ran = Counter(run["mapping"] for run in workspace.runs() if run["status"] == "succeeded")
            assert server.process.poll() is None
            sleep(0.1)
    finally:
        assert server.end() == 0
    told = {(run["mapping"], run["started_by"], run["who"]) for run in workspace.runs()}
    after = {(mapping, "schedule", "after d/people") for mapping in ("d/next", "profiles sync/bi")}
    assert told == {("d/people", "schedule", "every 1s"), *after}
    assert all(run["status"] != "running" for run in workspace.runs())
    assert len(shop.profiles()) == 1
    workspace.sync_profiles("production", "bi")  # `next` may have ended later
    assert workspace.check_profiles("production", "bi") == []
    workspace.close()
