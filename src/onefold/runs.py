"""The runs of a workspace: sync mappings and record how it went, start a run in a process of its own, show runs."""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, nullcontext, suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from time import perf_counter, time_ns
from typing import TYPE_CHECKING, Any

from onefold import times
from onefold.cancel import Cancel
from onefold.config import PROFILES
from onefold.errors import REMEDIES, Cancelled, Disabled, NotFound, NotRunning, OnefoldError
from onefold.remote import REMOTE

if TYPE_CHECKING:
    from onefold.apply import Applied
    from onefold.catalog import Catalog, Run
    from onefold.config import Destination, Mapping
    from onefold.profiles_sync import Synced
    from onefold.record import Record
    from onefold.replay import Recorded
    from onefold.rows import Rejected
    from onefold.stores import Store
    from onefold.sync import Job, Progress, Stages

# The kinds of runs: all that changed is sent; rows that a run rejected, or calls that it sent, are sent again.
SYNC, RESEND, REPLAY = "sync", "resend", "replay"
LISTENS = "takes live calls as they come: send one, and look at `onefold debug`"
# How many profiles of each kind of effect a dry run names.
NAMED = 10
# Among so many of its newest syncs the last that ended well is sought.
WHOLE = 20


@dataclass(frozen=True, kw_only=True)
class Work:
    """What a run may do: the path of a mapping or a profiles sync, and its space; `off` says why it may not.

    `recipe` is what runs, to be kept with the run, secrets left out: the model and the mapping, or the target.
    """

    path: str
    off: str | None = None
    space: str
    recipe: dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Task(Work):
    """A mapping that may be synced, and what makes its job."""

    job: Callable[[Store], Job]


@dataclass(frozen=True)
class Began:
    """How a run came to be: `how` is cli, api, web or schedule; `who` a user, a token, or the schedule in words.

    One of another `kind` than a sync sends again what another run, `about`, rejected or sent.
    """

    how: str
    who: str
    kind: str = SYNC
    about: str | None = None


@dataclass(frozen=True)
class Outcome:
    """How one mapping's sync ended; `counts` as in ledger.Counts."""

    run_id: str | None
    mapping: str
    status: str  # succeeded, partly, failed, cancelled, skipped
    counts: dict[str, int]
    seconds: float
    code: str | None = None
    error: str | None = None
    stage: str | None = None  # where it failed or was cancelled
    note: str | None = None  # what is worth knowing of a run that went well

    def line(self) -> dict[str, Any]:
        """The line that `onefold sync --json` prints (design, section 7)."""
        line: dict[str, Any] = {"run_id": self.run_id, "mapping": self.mapping, "status": self.status, **self.counts}
        line["seconds"] = round(self.seconds, 3)
        if self.error is not None:
            line |= {"code": self.code, "error": self.error}
        if self.stage is not None:
            line["stage"] = self.stage
        if self.note is not None:
            line["note"] = self.note
        return line


def off(destination: Destination, mapping: Mapping) -> str | None:
    """Why a mapping is not synced; None if it is."""
    if not destination.enabled:
        return f"destination {destination.slug} is disabled; set `enabled: true` and apply"
    if not mapping.enabled:
        return f"mapping {destination.slug}/{mapping.slug} is disabled; set `enabled: true` and apply"
    if not mapping.model:
        return f"mapping {destination.slug}/{mapping.slug} {LISTENS}"
    return None


class Runs:
    """The runs of one workspace: its catalog lists them, and `space` opens the space that holds one's rows."""

    def __init__(self, catalog: Catalog, space: Callable[[str], Store]) -> None:
        self._catalog = catalog
        self._space = space

    # --- run ------------------------------------------------------------------------------------------

    def sync(
        self,
        tasks: Iterable[Task],
        *,
        progress: Callable[[str], Progress] | None,
        effect: Callable[[dict[str, Any]], None] | None,
        began: Began,
        run_id: str | None,
        cancel: Cancel | None,
        work: Callable[..., None] | None = None,
        **options: Any,
    ) -> Iterator[Outcome]:
        """Sync mappings, as Workspace.sync does; or let other `work` than sync.sync be done for each."""
        cancel = cancel or Cancel()
        with ExitStack() as stack:
            stores: dict[str, Store] = {}

            def opened(slug: str) -> Store:
                if slug not in stores:
                    stores[slug] = stack.enter_context(self._space(slug))
                    if options.get("dry_run"):
                        stack.enter_context(stores[slug].turn(keep=False))
                return stores[slug]

            for task in tasks:
                if task.off:
                    yield Outcome(None, task.path, "skipped", asdict(_no_counts()), 0.0, "disabled", task.off)
                    continue
                said = progress(task.path) if progress else lambda *_: None
                yield self._sync(task, opened, began, said, effect, work, options, run_id, cancel)
                if cancel.ending:
                    return
                cancel.again()

    def _sync(
        self,
        task: Task,
        opened: Callable[[str], Store],
        by: Began,
        said: Progress,
        effect: Callable[[dict[str, Any]], None] | None,
        work: Callable[..., None] | None,
        options: dict[str, Any],
        run_id: str | None,
        cancel: Cancel,
    ) -> Outcome:
        """One run of one mapping, recorded; whatever stops it is its outcome."""
        from onefold.record import Record
        from onefold.sync import Stages, sync

        start, began = now(), perf_counter()
        run_id = run_id or new_id(start)
        recorded = not options.get("dry_run")
        if recorded:
            self._announce(run_id, task, start, by)
        record, stages, counts = Record(self._catalog, run_id, cancel, said), Stages(), _no_counts()

        def ended(status: str, code: str | None = None, error: str | None = None) -> Outcome:
            stage = stages.failed or record.view()["stage"] if code else None
            figures = asdict(counts)
            said = note(task.space, figures)
            outcome = Outcome(run_id, task.path, status, figures, perf_counter() - began, code, error, stage, said)
            if recorded:
                self._finish(run_id, outcome, stages, record)
            return outcome

        try:
            with record.kept() if recorded else nullcontext():
                job = task.job(opened(task.space))
                told = _told(job, effect) if effect else {}
                options = {"progress": record.progress, "cancel": cancel, **told, **options}
                (work or sync)(job, run_id, counts, stages=stages, **options)
        except OnefoldError as error:
            return ended(*_stopped(error, by.kind))
        except (KeyboardInterrupt, Exception) as error:
            ended(*_stopped(error, by.kind))
            raise
        return ended("partly" if counts.rejected else "succeeded")

    def record(
        self,
        work: Work,
        do: Callable[[Progress], Synced],
        *,
        by: Began,
        run_id: str,
        progress: Progress,
        cancel: Cancel,
    ) -> Synced:
        """Do something as a run. Raises what that raises."""
        from onefold.record import Record

        began = perf_counter()
        self._announce(run_id, work, now(), by)
        record = Record(self._catalog, run_id, cancel, progress)

        def ended(status: str, code: str | None, error: str | None, synced: Synced | None = None) -> None:
            outcome: dict[str, Any] = {
                "status": status,
                "code": code,
                "error": error,
                "counts": asdict(synced) if synced else {},
            }
            at = {**record.view(), "rate": None} if code else None
            outcome |= {"finished_at": now(), "seconds": perf_counter() - began, "progress": at}
            self._catalog.finish(run_id, trail=record.trail(), **outcome)

        try:
            with record.kept():
                synced = do(record.progress)
        except (KeyboardInterrupt, Exception) as error:
            ended(*_stopped(error))
            raise
        ended("succeeded", None, None, synced)
        return synced

    def _finish(self, run_id: str, outcome: Outcome, stages: Stages, record: Record) -> None:
        progress = {**record.view(), "stage": outcome.stage, "rate": None} if outcome.stage else None
        self._catalog.finish(
            run_id,
            trail=record.trail(),
            status=outcome.status,
            finished_at=now(),
            seconds=outcome.seconds,
            counts=outcome.counts,
            stages=dict(stages),
            progress=progress,
            code=outcome.code,
            error=outcome.error,
        )

    def _announce(self, run_id: str, task: Work, start: int, by: Began) -> None:
        self._catalog.start(
            *(run_id, task.path, task.space, start, by.how, task.recipe),
            who=by.who,
            kind=by.kind,
            about=by.about,
        )

    def begin(self, task: Work, words: Sequence[str], folder: Path, by: Began) -> str:
        """Announce a run, and start the command that takes it over; its run_id. Raises Disabled."""
        from onefold import child

        if task.off:
            raise Disabled(task.off)
        start = now()
        run_id = new_id(start)
        self._announce(run_id, task, start, by)
        child_words = [*words, "--json", "-C", str(folder), "--run-id", run_id]
        missed = partial(self._missed, run_id)
        try:
            child.start(child_words, missed)
        except OSError:
            missed()
        return run_id

    def _missed(self, run_id: str) -> None:
        self._catalog.missed(run_id, now())

    def cancel(self, run_id: str, by: str) -> dict[str, Any]:
        """Ask a run to stop, as Workspace.cancel does. Raises NotFound, NotRunning."""
        run = self._catalog.run(run_id)
        if run.abandoned or not self._catalog.cancel(run.run_id, by):
            status = self.follow(run.run_id)["status"]
            raise NotRunning(f"run {run.run_id} is not under way: it {_ENDED.get(status, status)}")
        return self.follow(run.run_id)

    # --- show -----------------------------------------------------------------------------------------

    def newest(self, limit: int, within: str = "", status: str = "") -> list[dict[str, Any]]:
        """The newest runs first, as Workspace.runs."""
        # One whose process died says that it is running.
        statuses = ("failed", "running") if status == "failed" else (status,) if status else ()
        found = map(_view, self._catalog.runs(limit, within, statuses))
        return [run for run in found if status in ("", run["status"])]

    def latest(self, path: str, limit: int) -> tuple[dict[str, Any] | None, list[str]]:
        """The last run of a mapping, and the status of its newest ones, newest first."""
        found = self._catalog.runs_of(path, limit)
        return _view(found[0]) if found else None, ["failed" if run.abandoned else run.status for run in found]

    def open(self, path: str, space: str) -> list[dict[str, Any]]:
        """The rejected rows of a mapping that are open, as rejected.groups, each with `mapping` and its run's `at`."""
        from onefold import rejected

        newest = self._catalog.runs_of(path, WHOLE, SYNC)
        whole = next((run.run_id for run in newest if run.status in ("succeeded", "partly")), None)
        with self._space(space) as store:
            found = rejected.groups(store, path, whole)
        return [{**group, "mapping": path, "at": times.text(group["at"])} for group in found]

    def delivered(self, path: str) -> int:
        """When a mapping sent something last, in µs, also in a run that goes on or whose process died.

        If none did, when the configuration was applied last. Raises StoreError.
        """
        last = self._catalog.delivered(path)
        for run in self._catalog.runs_of(path, WHOLE):
            seen = run.seen_at or run.started_at  # when it was heard of last: it wrote what it sent as it went
            with suppress(NotFound):  # its space is configured no more
                if run.counts is None and seen > last and self._committed(run).get("sent"):
                    return seen
        return last

    def _committed(self, run: Run) -> dict[str, int]:
        """The counts of what a run has committed so far. Raises StoreError."""
        with self._space(run.space) as store:
            rows = store.rows("select counts from run where run_id = $1", run.run_id)
        found: dict[str, int] = json.loads(rows[0]["counts"]) if rows else {}
        return found

    def newest_of(self, path: str) -> dict[str, Any] | None:
        """The newest run of a mapping."""
        return next((_view(run) for run in self._catalog.runs_of(path, 1)), None)

    def follow(self, run_id: str) -> dict[str, Any]:
        """One run as it is now, out of the catalog alone. Raises NotFound."""
        return _view(self._catalog.run(run_id))

    def show(self, run_id: str) -> dict[str, Any]:
        """One run, with what it ran, where it was, and its rejected rows counted by code. Raises NotFound.

        While it is under way, with the counts of what it has committed.
        """
        run = self._catalog.run(run_id)
        found = _view(run)
        if run.recipe is not None:
            found["recipe"] = self._catalog.recipe(run.recipe)
        found["trail"] = self._catalog.trail(run.run_id)
        with self._space(run.space) as store:
            if run.counts is None:
                committed = store.rows("select counts from run where run_id = $1", run.run_id)
                found |= json.loads(committed[0]["counts"]) if committed else {}
            found["rejected_by_code"] = {
                row["code"]: row["rows"]
                for row in store.rows(
                    "select j.code, count(*) as rows from rejected j join run r on r.run = j.run"
                    " where r.run_id = $1 group by j.code order by j.code",
                    run.run_id,
                )
            }
        return found

    def refused(self, run_id: str, code: str | None, chosen: Sequence[str] = ()) -> tuple[dict[str, Any], list[str]]:
        """A run, and the keys of its rejected rows (canonical JSON): with a code, of the chosen, if these are given.

        Raises NotFound.
        """
        run = self._catalog.run(run_id)
        with self._space(run.space) as store:
            rows = store.rows(
                "select distinct j.key from rejected j join run r on r.run = j.run where r.run_id = $1"
                f" and j.key is not null {'and j.code = $2' if code else ''} order by j.key",
                *(run.run_id, *([code] if code else [])),
            )
        keys = [row["key"] for row in rows if not chosen or row["key"] in chosen]
        if not keys:
            of = (f" with the code {code}" if code else "") + (f" and the key {', '.join(chosen)}" if chosen else "")
            raise NotFound(f"run {run.run_id} has no rejected rows{of} that have a key; nothing was sent")
        return _view(run), keys

    def recorded(self, run_id: str, task: Task) -> tuple[dict[str, Any], Recorded]:
        """A run of the task's mapping, and what is recorded of the calls that it sent. Raises NotFound, Disabled."""
        from onefold import replay

        run = self._catalog.run(run_id)
        if task.off:
            raise Disabled(task.off)
        if task.space != run.space:
            raise Disabled(
                f"run {run.run_id} sent its calls elsewhere, and its mapping has not seen any row where it sends them"
                f" now: the next `onefold sync {run.mapping}` sends all of them",
                code="moved",
            )
        with self._space(run.space) as store:
            return _view(run), replay.find(store, run.run_id, run.mapping, remote=run.space.startswith(REMOTE))

    def rejected(self, run_id: str, limit: int | None) -> Iterator[dict[str, Any]]:
        """The rejected rows of a run: key, event, code, fields, message and the row. Raises NotFound."""
        run = self._catalog.run(run_id)
        with self._space(run.space) as store:
            rows = store.rows(
                "select coalesce(j.key, '') as key, coalesce(j.event, '') as event, j.code, j.fields, j.message,"
                " coalesce(j.record, '') as record, coalesce(j.call, '') as call"
                " from rejected j join run r on r.run = j.run where r.run_id = $1 order by j.id limit $2",
                *(run.run_id, 1 << 62 if limit is None else limit),
            )
        for row in rows:
            yield {
                "key": json.loads(row["key"]) if row["key"] else None,
                "event": row["event"] or None,
                "code": row["code"],
                "fields": json.loads(row["fields"]),
                "message": row["message"],
                "remedy": REMEDIES.get(row["code"]),
                "row": json.loads(row["record"]) if row["record"] else None,
                "call": json.loads(row["call"]) if row["call"] else None,
            }


# How a run is said to have ended, where that is no word for it.
_ENDED = {"cancelled": "was cancelled", "partly": "succeeded in part"}


def note(space: str, counts: dict[str, int]) -> str | None:
    """What to look at after a run that sent calls and changed no profile that we know of; None after any other."""
    sent = counts.get("sent", 0)
    if not sent or any(counts.get(name) for name in ("profiles_created", "profiles_updated", "merges")):
        return None
    if space.startswith(REMOTE):
        return (
            f"{sent:,} calls were delivered; what they did to profiles only shows there. If nothing changes there, the"
            " space lives in another region than the endpoint, the write key is that of another source or space, or"
            " the identity rules there leave out all identifiers"
        )
    return (
        f"{sent:,} calls were sent and no profile changed: their identifiers are blocked values, or were dropped by"
        " the limits of the space; `onefold mapping test` shows it for a row"
    )


def _view(run: Run) -> dict[str, Any]:
    """A run as people read it; one whose process died is failed, with what it had committed."""
    found = {
        "run_id": run.run_id,
        "mapping": run.mapping,
        "space": run.space,
        "status": run.status,
        "started_at": times.text(run.started_at),
        "finished_at": times.text(run.finished_at) if run.finished_at else None,
        "started_by": run.started_by,
        "who": run.who,
        "kind": run.kind,
        **({"about": run.about} if run.about else {}),
        **(run.counts or {}),
        "seconds": round(run.seconds, 3) if run.seconds is not None else None,
        **({"stages": run.stages} if run.stages else {}),
    }
    if said := note(run.space, run.counts or {}):
        found["note"] = said
    if run.cancelled_by:
        found["cancelled_by"] = run.cancelled_by
    abandoned = run.abandoned
    if run.progress:
        over = abandoned or run.finished_at is not None
        found |= {"stage": run.progress["stage"]} if over else {"progress": run.progress}
    if abandoned:
        found |= {"status": "failed", "code": "interrupted"}
        goes_on = "the next sync goes on where it stopped" if run.kind == SYNC else Cancelled.AGAIN
        if run.mapping.startswith(PROFILES):
            goes_on = "the next one ends in the same tables"
        found["error"] = f"the process ended before the run did; {goes_on}"
    elif run.error:
        found |= {"code": run.code, "error": run.error}
    return found


def _stopped(error: BaseException, kind: str = SYNC) -> tuple[str, str, str]:
    """The status, code and sentence of a run of some kind that ended so."""
    if isinstance(error, KeyboardInterrupt):
        error = Cancelled(Cancelled.STAYS, code="stopped")
    if isinstance(error, Cancelled) and kind != SYNC:
        error = Cancelled(str(error).replace(Cancelled.STAYS, Cancelled.AGAIN), code=error.code)
    if isinstance(error, OnefoldError):
        return "cancelled" if isinstance(error, Cancelled) else "failed", error.code, str(error)
    return "failed", "internal_error", f"Onefold failed: {type(error).__name__}: {error}"


def _told(job: Job, effect: Callable[[dict[str, Any]], None]) -> dict[str, Any]:
    """The callbacks of a sync that tell `effect`, by name, what it does."""
    from onefold import preview

    def applied(outcome: Applied) -> None:
        for found in preview.effects(job.store, outcome, job.rules, limit=NAMED):
            effect(found)

    def refused(rows: Sequence[Rejected]) -> None:
        for key, _, error, _ in rows[:NAMED]:
            effect({"do": "reject", "key": key, "code": error.code, "why": str(error)})

    return {"applied": applied, "refused": refused}


def _no_counts() -> Any:
    from onefold.ledger import Counts

    return Counts()


def now() -> int:
    """µs since the epoch."""
    return time_ns() // 1000


def new_id(start: int) -> str:
    """The id of a run: sorts by time, and can be typed."""
    moment = datetime.fromtimestamp(start / 1e6, UTC)
    return f"{moment:%Y%m%d-%H%M%S}-{secrets.token_hex(2)}"
