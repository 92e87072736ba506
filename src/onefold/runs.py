"""The runs of a workspace: sync mappings and record how it went, start a run in a process of its own, show runs."""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from time import perf_counter, time_ns
from typing import TYPE_CHECKING, Any

from onefold import times
from onefold.errors import Disabled, OnefoldError

if TYPE_CHECKING:
    from onefold.apply import Applied
    from onefold.catalog import Catalog, Run
    from onefold.config import Destination, Mapping
    from onefold.rows import Rejected
    from onefold.stores import Store
    from onefold.sync import Job, Progress, Stages

LISTENS = "takes live calls as they come: send one, and look at `onefold debug`"
# How many profiles of each kind of effect a dry run names.
NAMED = 10


@dataclass(frozen=True)
class Task:
    """A mapping that may be synced: DEST/MAPPING, its space, and what makes its job; `off` says why it may not."""

    path: str
    off: str | None
    space: str
    job: Callable[[Store], Job]


@dataclass(frozen=True)
class Outcome:
    """How one mapping's sync ended; `counts` as in ledger.Counts."""

    run_id: str | None
    mapping: str
    status: str  # succeeded, partly, failed, skipped
    counts: dict[str, int]
    seconds: float
    code: str | None = None
    error: str | None = None

    def line(self) -> dict[str, Any]:
        """The line that `onefold sync --json` prints (design, section 7)."""
        line: dict[str, Any] = {"run_id": self.run_id, "mapping": self.mapping, "status": self.status, **self.counts}
        line["seconds"] = round(self.seconds, 3)
        if self.error is not None:
            line |= {"code": self.code, "error": self.error}
        return line


def off(destination: Destination, mapping: Mapping) -> str | None:
    """Why a mapping is not synced; None if it is."""
    if not destination.enabled:
        return f"destination {destination.slug} is disabled; set `enabled: true` and apply"
    if not mapping.enabled:
        return f"mapping {destination.slug}/{mapping.slug} is disabled; set `enabled: true` and apply"
    if not mapping.model:
        return f"mapping {destination.slug}/{mapping.slug} {LISTENS}"
    if destination.endpoint != "local":
        return f"destination {destination.slug} has a remote endpoint; this version delivers to local spaces only"
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
        started_by: str,
        run_id: str | None,
        **options: bool,
    ) -> Iterator[Outcome]:
        """Sync mappings, as Workspace.sync does."""
        with ExitStack() as stack:
            stores: dict[str, Store] = {}

            def opened(slug: str) -> Store:
                if slug not in stores:
                    stores[slug] = stack.enter_context(self._space(slug))
                    if options["dry_run"]:
                        stack.enter_context(stores[slug].turn(keep=False))
                return stores[slug]

            for task in tasks:
                if task.off:
                    yield Outcome(None, task.path, "skipped", asdict(_no_counts()), 0.0, "disabled", task.off)
                    continue
                said = progress(task.path) if progress else lambda *_: None
                yield self._sync(task, opened, started_by, said, effect, options, run_id)

    def _sync(
        self,
        task: Task,
        opened: Callable[[str], Store],
        started_by: str,
        progress: Progress,
        effect: Callable[[dict[str, Any]], None] | None,
        options: dict[str, Any],
        run_id: str | None,
    ) -> Outcome:
        """One run of one mapping, recorded; whatever stops it is its outcome."""
        from onefold.sync import Stages, sync

        start, began = now(), perf_counter()
        stages = Stages()
        run_id = run_id or _run_id(start)
        if not options["dry_run"]:
            self._catalog.start(run_id, task.path, task.space, start, started_by)
        counts, status, failure = _no_counts(), "succeeded", None
        try:
            job = task.job(opened(task.space))
            told = _told(job, effect) if effect else {}
            sync(job, run_id, counts, stages=stages, progress=progress, **told, **options)
            status = "partly" if counts.rejected else "succeeded"
        except OnefoldError as error:
            status, failure = "failed", error
        except KeyboardInterrupt:
            self._finish(run_id, began, "cancelled", asdict(counts), stages, None, dry_run=options["dry_run"])
            raise
        line = asdict(counts)
        self._finish(run_id, began, status, line, stages, failure, dry_run=options["dry_run"])
        code, sentence = (failure.code, str(failure)) if failure else (None, None)
        return Outcome(run_id, task.path, status, line, perf_counter() - began, code, sentence)

    def _finish(
        self,
        run_id: str,
        began: float,
        status: str,
        counts: dict[str, int],
        stages: Stages,
        failure: OnefoldError | None,
        *,
        dry_run: bool,
    ) -> None:
        if dry_run:
            return
        self._catalog.finish(
            run_id,
            status=status,
            finished_at=now(),
            seconds=perf_counter() - began,
            counts=counts,
            stages=dict(stages),
            code=failure.code if failure else None,
            error=str(failure) if failure else None,
        )

    def start(self, task: Task, folder: Path, *, full: bool, allow_deletes: bool, started_by: str) -> str:
        """Start a run in a process of its own, as Workspace.start does; its run_id. Raises Disabled."""
        from onefold import child

        if task.off:
            raise Disabled(task.off)
        start = now()
        run_id = _run_id(start)
        self._catalog.start(run_id, task.path, task.space, start, started_by)
        words = ["sync", task.path, "--json", "-C", str(folder), "--run-id", run_id]
        words += ["--full"] * full + ["--allow-deletes"] * allow_deletes
        child.start(words, lambda: self._catalog.missed(run_id, now()))
        return run_id

    # --- show -----------------------------------------------------------------------------------------

    def newest(self, limit: int) -> list[dict[str, Any]]:
        """The newest runs first."""
        return [_view(run) for run in self._catalog.runs(limit)]

    def show(self, run_id: str) -> dict[str, Any]:
        """One run, with its rejected rows counted by code. Raises NotFound."""
        run = self._catalog.run(run_id)
        found = _view(run)
        with self._space(run.space) as store:
            found["rejected_by_code"] = {
                row["code"]: row["rows"]
                for row in store.rows(
                    "select j.code, count(*) as rows from rejected j join run r on r.run = j.run"
                    " where r.run_id = $1 group by j.code order by j.code",
                    run.run_id,
                )
            }
        return found

    def rejected(self, run_id: str, limit: int | None) -> Iterator[dict[str, Any]]:
        """The rejected rows of a run: key, event, code, fields, message and the row. Raises NotFound."""
        run = self._catalog.run(run_id)
        with self._space(run.space) as store:
            rows = store.rows(
                "select coalesce(j.key, '') as key, coalesce(j.event, '') as event, j.code, j.fields, j.message,"
                " coalesce(j.record, '') as record from rejected j join run r on r.run = j.run"
                " where r.run_id = $1 order by j.id limit $2",
                *(run.run_id, 1 << 62 if limit is None else limit),
            )
        for row in rows:
            yield {
                "key": json.loads(row["key"]) if row["key"] else None,
                "event": row["event"] or None,
                "code": row["code"],
                "fields": json.loads(row["fields"]),
                "message": row["message"],
                "row": json.loads(row["record"]) if row["record"] else None,
            }


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
        **(run.counts or {}),
        "seconds": round(run.seconds, 3) if run.seconds is not None else None,
        **({"stages": run.stages} if run.stages else {}),
    }
    if run.abandoned:
        found |= {"status": "failed", "code": "interrupted"}
        found["error"] = "the process ended before the run did; the next sync goes on where it stopped"
    elif run.error:
        found |= {"code": run.code, "error": run.error}
    return found


def _told(job: Job, effect: Callable[[dict[str, Any]], None]) -> dict[str, Any]:
    """The callbacks of a sync that tell `effect`, by name, what it does."""
    from onefold import preview

    def applied(outcome: Applied) -> None:
        for found in preview.effects(job.store, outcome, job, limit=NAMED):
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


def _run_id(start: int) -> str:
    """Sorts by time, and can be typed."""
    moment = datetime.fromtimestamp(start / 1e6, UTC)
    return f"{moment:%Y%m%d-%H%M%S}-{secrets.token_hex(2)}"
