"""The scheduler of `onefold serve`: starts what is due, the longest waiting first.

What is due follows from the runs and the applied schedules in the catalog, so that a restart loses nothing: a time
that was missed has no run after it, and is made up for once.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from threading import Event, Thread
from time import monotonic
from typing import TYPE_CHECKING, Any

from onefold import runs, telemetry, times
from onefold.errors import OnefoldError
from onefold.schedule import After, At, Cron, Every, Schedule, following

if TYPE_CHECKING:
    from onefold.catalog import Run
    from onefold.workspace import Workspace

BY = "schedule"  # what such a run was started by
LOOK = 0.5  # seconds between two looks
FRESH = 10.0  # seconds after which all runs are read again, whether or not one has changed
AT_ONCE = max(2, (os.cpu_count() or 2) // 2)  # syncs; one alone would hold up all others as long as it takes
# A run that these ended did not do what it was started for, and it was not the run's fault.
LOST = ("interrupted", "not_started", "stopped")


def due(schedule: Every | At | Cron, since: int, last: int | None) -> int | None:
    """When a mapping is to be synced next; a time that is over has not been made up for. All times in µs.

    `since` is when its schedule was applied, `last` when it was synced last.
    """
    after = max(since, last or 0)
    moment = following(schedule, _when(after), _when(since))
    return None if moment is None else (moment - times.EPOCH) // timedelta(microseconds=1)


def _when(micros: int) -> datetime:
    return times.EPOCH + timedelta(microseconds=micros)


def counted(newest: Sequence[Run]) -> int | None:
    """When the last of a mapping's newest two runs that counts began: one that was lost is made up for, but once."""
    last, before = [*newest, None, None][:2]
    if last is not None and last.started_by == BY and _lost(last) and not (before and _lost(before)):
        last = before
    return last.started_at if last else None


def _lost(run: Run) -> bool:
    return run.abandoned or run.code in LOST


@dataclass(frozen=True)
class Entry:
    """A mapping or a profiles sync with a schedule: its newest runs, newest first, and when it is due (µs)."""

    path: str
    schedule: Schedule
    runs: Sequence[Run]
    due: int | None

    @property
    def running(self) -> bool:
        return bool(self.runs) and self.runs[0].status == "running" and not self.runs[0].abandoned


def entries(workspace: Workspace, at: int) -> list[Entry]:
    """What is synced by a schedule. Raises OnefoldError."""
    catalog, found = workspace.catalog, []
    scheduled = {
        f"{destination.slug}/{mapping.slug}": mapping.schedule
        for destination, mapping in workspace.mappings()
        if mapping.schedule is not None and runs.off(destination, mapping) is None
    } | {target.path: target.schedule for target in workspace.applied.profiles_syncs if target.schedule is not None}
    since = catalog.schedules({path: str(schedule) for path, schedule in scheduled.items()}, at)
    for path, schedule in scheduled.items():
        newest = catalog.runs_of(path, 2, runs.SYNC)
        last = counted(newest)
        if isinstance(schedule, After):
            # The first time, not the last: what goes on ending would put it off for ever.
            then = catalog.ended_well(schedule.mapping, max(since[path], last or 0))
        else:
            then = due(schedule, since[path], last)
        found.append(Entry(path, schedule, newest, then))
    return found


def ready(found: Sequence[Entry], at: int, free: int) -> list[Entry]:
    """What is to be started now: what waits longest, at most so many, and nothing that is under way."""
    waiting = [entry for entry in found if entry.due is not None and entry.due <= at and not entry.running]
    return sorted(waiting, key=lambda entry: (entry.due, entry.path))[: max(free, 0)]


def timetable(workspace: Workspace) -> list[dict[str, Any]]:
    """As Workspace.timetable says. Raises NotFound."""
    due = {entry.path: entry.due for entry in entries(workspace, runs.now())}
    found = [
        (f"{of.slug}/{mapping.slug}", mapping.schedule, runs.off(of, mapping)) for of, mapping in workspace.mappings()
    ]
    found += [(target.path, target.schedule, None) for target in workspace.applied.profiles_syncs]
    recorded = runs.Runs(workspace.catalog, workspace.space)
    return [
        {
            "mapping": path,
            "schedule": "manual" if schedule is None else str(schedule),
            "off": off,
            "last_run": recorded.newest_of(path),
            "next_due": None if (at := due.get(path)) is None else times.text(at),
        }
        for path, schedule, off in found
    ]


class Scheduler:
    """A thread that looks twice a second. `limit`: how many syncs may run at once on this host."""

    def __init__(self, workspace: Workspace, limit: int, clock: Callable[[], int] = runs.now) -> None:
        self._workspace = workspace
        self._limit = limit
        self._clock = clock
        self._seen: tuple[Any, ...] = ()
        self._read_at = 0.0
        self._entries: list[Entry] = []
        self._failed = ""
        self._ended = Event()
        self._thread = Thread(target=self._run, name="scheduler", daemon=True)

    def begin(self) -> Scheduler:
        self._thread.start()
        return self

    def close(self) -> None:
        self._ended.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._ended.wait(LOOK):
            try:
                self.look()
                self._failed = ""
            except OnefoldError as error:
                if str(error) != self._failed:  # said once, not twice a second
                    telemetry.logger().error("schedule_failed", code=error.code, error=str(error))
                self._failed = str(error)

    def look(self) -> list[str]:
        """Start what is due; the run ids. Raises OnefoldError."""
        workspace = self._workspace.again()
        catalog = workspace.catalog
        seen = (catalog.version(), *catalog.moved())
        if seen != self._seen or monotonic() - self._read_at > FRESH:
            self._entries = entries(workspace, self._clock())
            self._seen, self._read_at = seen, monotonic()
        if not ready(self._entries, self._clock(), 1):
            return []
        with catalog.alone():  # another server on this workspace looks too
            self._seen = ()
            free = self._limit - sum(run.here and not run.abandoned for run in catalog.running())
            return [
                self._start(workspace, entry) for entry in ready(entries(workspace, self._clock()), self._clock(), free)
            ]

    def _start(self, workspace: Workspace, entry: Entry) -> str:
        run_id = workspace.start(entry.path, started_by=BY)
        assert entry.due is not None
        late = (self._clock() - entry.due) / 1e6
        telemetry.logger().info("run_started", run_id=run_id, mapping=entry.path, seconds_late=round(late, 1))
        return run_id
