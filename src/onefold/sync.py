"""One sync of one mapping, in order: read, diff, map, resolve, commit, record.

A run holds its mapping's lease throughout. Each chunk commits whole: the calls, the profiles they changed, what
the mapping has seen, the counters and the rejected rows. Killed anywhere, the next run goes on from there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

import pyarrow as pa

from onefold import diff, identity, index, mapping, state, trigger
from onefold.apply import Applied, apply
from onefold.cancel import Cancel
from onefold.config import Mapping, Model
from onefold.deliver import Deliver, Remote
from onefold.errors import InvalidMapping
from onefold.identity import NOBODY
from onefold.ledger import Counts, Header, Ledger
from onefold.nearest import nearest
from onefold.rows import Mapped, Origin, Rejected, Rows
from onefold.rules import Rules
from onefold.space import Indexed
from onefold.stores import Store
from onefold.warehouses import Warehouse

CHUNK_ROWS = 100_000
# Where others wait for the space, a turn is to last so many seconds, or as long as theirs did,
# though not for fewer rows than these.
TURN, LEAST = 0.25, 1_000
LEASE = 0.2  # seconds between two looks whether another run of the mapping has ended
# A run that changes more rows than the space has segments, and these at least, keeps in memory what the space has;
# a row is taken to have so many identifiers.
ALONE, IDENTIFIERS = 50_000, 4
Progress = Callable[[str, int, int | None], None]  # stage, rows done, rows in all if known


@dataclass(frozen=True)
class Job:
    """Everything that one sync of one mapping needs."""

    path: str  # DEST/MAPPING
    mapping: Mapping
    model: Model
    source: str  # the slug of the profile source that the calls come through
    warehouse: Warehouse
    store: Store
    rules: Rules
    temp: Path
    remote: Remote | None = None  # where the calls are delivered instead of applied


class Stages(dict[str, dict[str, Any]]):
    """The seconds that a run spent in each stage, and its rows: wait, read, diff, map, apply, index."""

    failed: str | None = None  # the stage that raised something

    @contextmanager
    def timed(self, stage: str, rows: int = 0) -> Iterator[None]:
        began = perf_counter()
        try:
            yield
        except BaseException:
            self.failed = self.failed or stage
            raise
        finally:
            self.count(stage, rows)
            self[stage]["seconds"] = round(self[stage]["seconds"] + perf_counter() - began, 3)

    def count(self, stage: str, rows: int) -> None:
        self.setdefault(stage, {"seconds": 0.0, "rows": 0})["rows"] += rows


def sync(
    job: Job,
    run_id: str,
    counts: Counts,
    *,
    stages: Stages | None = None,
    full: bool = False,
    dry_run: bool = False,
    allow_deletes: bool = False,
    only: Sequence[str] | None = None,
    progress: Progress = lambda *_: None,
    cancel: Cancel | None = None,
    applied: Callable[[Applied], None] = lambda _: None,
    refused: Callable[[Sequence[Rejected]], None] = lambda _: None,
) -> None:
    """Bring a mapping's changes into its space, and count them.

    Raises WarehouseError, StoreError, SyncStopped, Cancelled. `stages` takes up the seconds of each; mapping a chunk
    and applying the one before go on side by side. A dry run is the same work inside one turn of the caller's, who
    takes it back. With `only` no other keys (canonical JSON) are looked at, and of these the rejected ones are tried
    again. `applied` is shown what each chunk did, `refused` the rows that were rejected.
    """
    clock = Stages() if stages is None else stages
    cancel = cancel or Cancel()
    with ExitStack() as stack:
        with clock.timed("wait"):
            progress("wait", 0, None)
            stack.enter_context(leased(job, cancel))
        turn = nullcontext if dry_run else job.store.turn
        header = Header.of(job.store, job.path, job.mapping, job.model.key, full=full)
        ledger = Ledger(job.store, header, run_id, counts, turn, refused)
        staging = stack.enter_context(diff.staging(job.temp))
        progress("read", 0, None)
        breaking = cancel.breaking(job.warehouse.interrupt, staging.interrupt)
        with clock.timed("read"), ThreadPoolExecutor(1) as ahead, breaking, job.warehouse.read(job.model.sql) as reader:
            seen = ahead.submit(header.seen, job.store)  # nothing else asks the store meanwhile
            counts.extracted = staging.load(reader, job.model.key, lambda rows: progress("read", rows, None))
        clock.count("read", counts.extracted)
        check_columns(job, staging.columns)
        if only is not None:
            counts.extracted = staging.narrow(only)
        progress("diff", 0, counts.extracted)
        with clock.timed("diff", counts.extracted), cancel.breaking(staging.interrupt):
            known = seen.result()
            found = staging.compare(known, header.epoch, header.version, header.base)
        diff.guard(found, allow_deletes=allow_deletes)
        ledger.begin(found, staging.rejected(CHUNK_ROWS), cancel)
        if only is None and known[1].num_rows * state.LATER > known[0].num_rows:
            ledger.compact(staging.seen(), deletes="deleted" in trigger.parse(job.mapping.trigger).events())
        if found.changed:
            step: Apply | Deliver = Apply(job, ledger, applied, dry_run=dry_run)
            if job.remote is not None:
                step = Deliver(job.remote, ledger, job.source, staging.rows, dry_run=dry_run)
            # A delivery that waits for its endpoint is broken off; a chunk that is applied commits first.
            with cancel.breaking(step.stop) if job.remote is not None else nullcontext():
                _chunks(job, step, staging, found.changed, clock, progress, cancel)
        progress("done", found.changed, found.changed)


@contextmanager
def leased(job: Job, cancel: Cancel) -> Iterator[None]:
    """Hold the mapping's lease; another run of it is waited for. Raises Cancelled."""
    while True:
        with job.store.lease(job.path, wait=False) as held:
            if held:
                yield
                return
        cancel.wait(LEASE)


def _chunks(
    job: Job,
    step: Apply | Deliver,
    staging: diff.Staging,
    changed: int,
    clock: Stages,
    progress: Progress,
    cancel: Cancel,
) -> None:
    """Map and apply (or deliver) the changed rows in chunks: one is written while the next is mapped."""
    progress("map", 0, changed)
    staging.ease()
    rows = _rows(job, step.ledger, staging)
    plan = rows.plan
    computing = rows.computing if plan is not None and plan.computed.resolvers else None
    job.store.prepare()
    chunks = _sized(staging.changes(step.rows, plan.select if plan else (), computing), step)
    done = 0
    with step, ThreadPoolExecutor(1) as writer:
        writing = None
        try:
            while True:
                with clock.timed("map"):
                    chunk = next(chunks, None)
                    if chunk is not None:
                        mapped = rows.map(chunk)
                        ready: Any = step.ready(mapped)
                        clock.count("map", chunk.num_rows)
                if writing is not None:
                    done += writing.result()
                    progress(step.doing, done, changed)
                if chunk is None:
                    break
                with clock.timed(step.doing):
                    cancel.check()
                writing = writer.submit(step.chunk, mapped, ready, chunk.num_rows, clock)
                progress(step.doing, done, changed)
        except BaseException:
            step.stop()  # the writer ends its turn; what was not begun is not begun any more
            raise
    progress("index", 0, None)
    with clock.timed("index", changed):
        step.end()


def _sized(chunks: Iterable[pa.Table], step: Apply | Deliver) -> Iterator[pa.Table]:
    """The same rows in chunks that are no larger than the step would have them, each time that one is asked for."""
    for chunk in chunks:
        start = 0
        while start < chunk.num_rows:
            part = chunk.slice(start, step.rows)
            start += part.num_rows
            yield part


def _rows(job: Job, ledger: Ledger, staging: diff.Staging) -> Rows:
    """What maps the rows of this run."""
    origin = Origin(
        *(job.path, ledger.header.epoch, ledger.header.version, job.source, ledger.received_at),
        *(job.model.key, staging.columns),
    )
    return Rows(origin, job.mapping.action, job.mapping.fields, job.mapping.trigger, job.rules, staging.schema())


def check_columns(job: Job, columns: Sequence[str]) -> None:
    """Stop before anything is sent if a mapping reads a column that the model lacks. Raises InvalidMapping."""
    for path in mapping.paths(job.mapping.fields):
        if path[:1] == ("properties",) and len(path) > 1 and path[1] not in columns:
            raise InvalidMapping(
                f"mapping {job.path} reads the column {path[1]!r}, which model {job.model.slug} does not"
                f" have{nearest(path[1], columns)}; it has {', '.join(columns)}",
                code="missing_column",
            )


class Apply:
    """The last step of a run: its calls are applied to the space, chunk by chunk."""

    doing = "apply"

    def __init__(self, job: Job, ledger: Ledger, applied: Callable[[Applied], None], *, dry_run: bool = False) -> None:
        self.job = job
        self.ledger = ledger
        self.dry_run = dry_run
        self.rows = CHUNK_ROWS  # set by the thread that writes, for the chunk that is mapped next
        self._applied = applied
        self._indexed: Indexed | None = None
        self._created: list[tuple[int, int]] = []  # segments that this run created: from, to before
        self._updated: set[int] = set()  # profiles, by oldest segment, that were there before it

    def __enter__(self) -> Apply:
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing is open: a chunk commits whole."""

    def stop(self) -> None:
        """Nothing can be cut short: a chunk under way commits first."""

    def ready(self, mapped: Mapped) -> pa.Table:
        """What can be known of a chunk while the one before is written."""
        return identity.identifying(mapped.calls, self.job.rules, self.job.store.secret)

    def chunk(self, mapped: Mapped, identifying: pa.Table, rows: int, clock: Stages) -> int:
        """Resolve and commit one mapped chunk, whole. Returns how many rows it held."""
        before = asdict(self.ledger.counts)
        try:
            self._chunk(mapped, identifying, rows, clock)
        except BaseException:
            vars(self.ledger.counts).update(before)  # what is not committed is not counted
            raise
        return rows

    def _chunk(self, mapped: Mapped, identifying: pa.Table, rows: int, clock: Stages) -> None:
        ledger, store = self.ledger, self.job.store
        ledger.counts.filtered += mapped.filtered
        ledger.counts.sent += mapped.calls.num_rows
        asked = perf_counter()
        with clock.timed("apply", rows), ledger.turn():
            began = perf_counter()
            if mapped.calls.num_rows:
                if self._indexed is None and self._worth_it():
                    self._indexed = Indexed(store, IDENTIFIERS * ledger.counts.changed)
                outcome = apply(
                    *(store, mapped.calls, self.job.rules),
                    run=ledger.run,
                    identifying=identifying,
                    indexed=self._indexed,
                )
                self._tally(outcome)
                self._applied(outcome)
            ledger.remember(mapped.state)
            ledger.reject(mapped.rejected)
            ledger.record()
            pace = rows / max(perf_counter() - began, 1e-6)
            fair = int(pace * max(TURN, began - asked))
            self.rows = min(max(LEAST, fair), CHUNK_ROWS) if store.crowded() else CHUNK_ROWS

    def end(self) -> None:
        """Leave the space as it is best read, after much was written."""
        if self._indexed is not None:
            with self.ledger.turn():
                index.merge(self.job.store)
            if not self.dry_run:  # all of it is one turn, and is taken back
                self.job.store.settle()

    def _worth_it(self) -> bool:
        """Whether what the space has is quicker held in memory than looked up."""
        return self.ledger.counts.changed > max(ALONE, self.job.store.counters()["segment"])

    def _tally(self, outcome: Applied) -> None:
        counts, resolution = self.ledger.counts, outcome.resolution
        counts.unresolved += outcome.unresolved
        counts.identifiers_dropped += resolution.dropped.num_rows
        counts.profiles_created += resolution.created.num_rows
        counts.merges += resolution.edges.num_rows
        first = outcome.known.next_segment
        self._created.append((first, resolution.next_segment))
        # What this chunk did not create, nor an earlier one: profiles that were there before the run.
        there = outcome.filed[(outcome.filed != NOBODY) & (outcome.filed < first)].tolist()
        touched = {outcome.profile.get(segment, segment) for segment in there}
        known = {at for at in touched if not any(start <= at < stop for start, stop in self._created)}
        self._updated = {outcome.moved.get(at, at) for at in self._updated} | known
        counts.profiles_updated = len(self._updated)
