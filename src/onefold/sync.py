"""One sync of one mapping, in order: read, diff, map, resolve, commit, record.

A run holds its mapping's lease throughout. Each chunk commits whole: the calls, the profiles they changed, what
the mapping has seen, the counters and the rejected rows. Killed anywhere, the next run goes on from there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

import pyarrow as pa

from onefold import diff, identity, index, mapping, state
from onefold.apply import Applied, apply
from onefold.config import Mapping, Model
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


class Stages(dict[str, float]):
    """The seconds that a run spent in each stage: read, diff, map, apply, index."""

    @contextmanager
    def timed(self, stage: str) -> Iterator[None]:
        began = perf_counter()
        try:
            yield
        finally:
            self[stage] = round(self.get(stage, 0.0) + perf_counter() - began, 3)


def sync(
    job: Job,
    run_id: str,
    counts: Counts,
    *,
    stages: Stages | None = None,
    full: bool = False,
    dry_run: bool = False,
    allow_deletes: bool = False,
    progress: Progress = lambda *_: None,
    applied: Callable[[Applied], None] = lambda _: None,
    refused: Callable[[Sequence[Rejected]], None] = lambda _: None,
) -> None:
    """Bring a mapping's changes into its space, and count them. Raises WarehouseError, StoreError, SyncStopped.

    `stages` takes up the seconds of each; mapping a chunk and applying the one before go on side by side.
    A dry run is the same work inside one turn of the caller's, who takes it back. `applied` is shown what each
    chunk did, `refused` the rows that were rejected.
    """
    clock = Stages() if stages is None else stages
    with ExitStack() as stack:
        stack.enter_context(job.store.lease(job.path, wait=True))
        turn = nullcontext if dry_run else job.store.turn
        header = Header.of(job.store, job.path, job.mapping, job.model.key, full=full)
        ledger = Ledger(job.store, header, run_id, counts, turn, refused)
        staging = stack.enter_context(diff.staging(job.temp))
        progress("read", 0, None)
        with clock.timed("read"), job.warehouse.read(job.model.sql) as reader:
            counts.extracted = staging.load(reader, job.model.key)
        check_columns(job, staging.columns)
        progress("diff", 0, counts.extracted)
        with clock.timed("diff"):
            known = header.seen(job.store)
            found = staging.compare(known, header.epoch, header.version, header.base)
        diff.guard(found, allow_deletes=allow_deletes)
        ledger.begin(found, staging.rejected(CHUNK_ROWS))
        if known[1].num_rows * state.LATER > known[0].num_rows:
            ledger.compact(staging.seen())
        if found.changed:
            _chunks(job, _Apply(job, ledger, applied), staging, found.changed, clock, progress)
        progress("done", found.changed, found.changed)


def _chunks(job: Job, step: _Apply, staging: diff.Staging, changed: int, clock: Stages, progress: Progress) -> None:
    """Map and apply the changed rows in chunks: one is written while the next is mapped."""
    staging.ease()
    rows = _rows(job, step.ledger, staging)
    plan = rows.plan
    computing = rows.computing if plan is not None and plan.computed.resolvers else None
    secret = job.store.secret
    job.store.prepare()
    chunks = iter(staging.changes(CHUNK_ROWS, plan.select if plan else (), computing))
    done = 0
    with ThreadPoolExecutor(1) as writer:
        writing = None
        while True:
            with clock.timed("map"):
                chunk = next(chunks, None)
                if chunk is not None:
                    mapped = rows.map(chunk)
                    identifying = identity.identifying(mapped.calls, job.rules, secret)
            if writing is not None:
                done += writing.result()
                progress("apply", done, changed)
            if chunk is None:
                break
            writing = writer.submit(step.chunk, mapped, identifying, chunk.num_rows, clock)
    with clock.timed("index"):
        step.end()


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


class _Apply:
    """The last step of a run: its calls are applied to the space, chunk by chunk."""

    def __init__(self, job: Job, ledger: Ledger, applied: Callable[[Applied], None]) -> None:
        self.job = job
        self.ledger = ledger
        self._applied = applied
        self._indexed: Indexed | None = None
        self._created: list[tuple[int, int]] = []  # segments that this run created: from, to before
        self._updated: set[int] = set()  # profiles, by oldest segment, that were there before it

    def chunk(self, mapped: Mapped, identifying: pa.Table, rows: int, clock: Stages) -> int:
        """Resolve and commit one mapped chunk, whole. Returns how many rows it held."""
        ledger, store = self.ledger, self.job.store
        ledger.counts.filtered += mapped.filtered
        ledger.counts.sent += mapped.calls.num_rows
        with clock.timed("apply"), ledger.turn():
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
            ledger.remember(mapped)
            ledger.reject(mapped.rejected)
            ledger.record()
        return rows

    def end(self) -> None:
        """Leave the space as it is best read, after much was written."""
        if self._indexed is not None:
            with self.ledger.turn():
                index.merge(self.job.store)
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
