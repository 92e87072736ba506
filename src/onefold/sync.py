"""One sync of one mapping, in order: read, diff, map, resolve, commit, record.

A run holds its mapping's lease throughout. Each chunk commits whole: the calls, the profiles they changed, what
the mapping has seen, the counters and the rejected rows. Killed anywhere, the next run goes on from there.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from time import perf_counter, time_ns
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from onefold import diff, identity, index, mapping, state
from onefold.apply import Applied, apply
from onefold.cancel import Cancel
from onefold.config import Mapping, Model
from onefold.errors import InvalidMapping
from onefold.identity import NOBODY
from onefold.nearest import nearest
from onefold.rows import Mapped, Origin, Rejected, Rows, key_rejected
from onefold.rules import Rules
from onefold.space import Indexed
from onefold.stores import Store
from onefold.warehouses import Warehouse

CHUNK_ROWS = 100_000
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


@dataclass
class Counts:
    """The figures of a run, in rows, calls and profiles (design, section 7)."""

    extracted: int = 0
    added: int = 0
    updated: int = 0
    deleted: int = 0
    unchanged: int = 0
    filtered: int = 0
    sent: int = 0
    rejected: int = 0
    retried: int = 0
    unresolved: int = 0
    identifiers_dropped: int = 0
    profiles_created: int = 0
    profiles_updated: int = 0
    merges: int = 0

    @property
    def changed(self) -> int:
        return self.added + self.updated + self.deleted


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


@dataclass
class Header:
    """What a mapping is known by in the space: its epoch, and the version that rejected rows were tried with."""

    mapping: int | None  # its number in the space; given out with the first turn
    path: str
    key_column: str
    epoch: int
    version: int
    fingerprint: str
    base: int
    forget: bool = False  # the key changed: what was seen under the old one is dropped


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
    cancel: Cancel | None = None,
    applied: Callable[[Applied], None] = lambda _: None,
    refused: Callable[[Sequence[Rejected]], None] = lambda _: None,
) -> None:
    """Bring a mapping's changes into its space, and count them.

    Raises WarehouseError, StoreError, SyncStopped, Cancelled. `stages` takes up the seconds of each; mapping a chunk
    and applying the one before go on side by side. A dry run is the same work inside one turn of the caller's, who
    takes it back. `applied` is shown what each chunk did, `refused` the rows that were rejected.
    """
    clock = Stages() if stages is None else stages
    cancel = cancel or Cancel()
    with ExitStack() as stack:
        with clock.timed("wait"):
            progress("wait", 0, None)
            stack.enter_context(_leased(job, cancel))
        turn = nullcontext if dry_run else job.store.turn
        run = _Run(job, run_id, counts, _header(job, full=full), turn, applied, refused)
        staging = stack.enter_context(diff.staging(job.temp))
        progress("read", 0, None)
        breaking = cancel.breaking(job.warehouse.interrupt, staging.interrupt)
        with clock.timed("read"), breaking, job.warehouse.read(job.model.sql) as reader:
            run.counts.extracted = staging.load(reader, job.model.key, lambda rows: progress("read", rows, None))
        clock.count("read", run.counts.extracted)
        check_columns(job, staging.columns)
        progress("diff", 0, run.counts.extracted)
        with clock.timed("diff", run.counts.extracted), cancel.breaking(staging.interrupt):
            known = _state(job.store, run.header)
            found = staging.compare(known, run.header.epoch, run.header.version, run.header.base)
        diff.guard(found, allow_deletes=allow_deletes)
        run.begin(found, staging.rejected(CHUNK_ROWS), cancel)
        if known[1].num_rows * state.LATER > known[0].num_rows:
            run.compact(staging.seen())
        if found.changed:
            _chunks(job, run, staging, found.changed, clock, progress, cancel)
        progress("done", found.changed, found.changed)


@contextmanager
def _leased(job: Job, cancel: Cancel) -> Iterator[None]:
    """Hold the mapping's lease; another run of it is waited for. Raises Cancelled."""
    while True:
        with job.store.lease(job.path, wait=False) as held:
            if held:
                yield
                return
        cancel.wait(LEASE)


def _chunks(
    job: Job, run: _Run, staging: diff.Staging, changed: int, clock: Stages, progress: Progress, cancel: Cancel
) -> None:
    """Map and apply the changed rows in chunks: one is written while the next is mapped."""
    progress("map", 0, changed)
    staging.ease()
    rows = _rows(job, run, staging)
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
                    clock.count("map", chunk.num_rows)
            if writing is not None:
                done += writing.result()
                progress("apply", done, changed)
            if chunk is None:
                break
            with clock.timed("apply"):
                cancel.check()
            writing = writer.submit(run.chunk, mapped, identifying, chunk.num_rows, clock)
    progress("index", 0, None)
    with clock.timed("index", changed):
        run.end()


def _header(job: Job, *, full: bool) -> Header:
    """The mapping's header for this run; written with its first chunk."""
    key = job.model.key
    fields = json.dumps([job.mapping.action, job.mapping.trigger, job.mapping.fields], sort_keys=True)
    fingerprint = hashlib.md5(fields.encode(), usedforsecurity=False).hexdigest()
    rows = job.store.rows(
        "select mapping, path, key_column, epoch, version, fingerprint, base from mapping where path = $1",
        job.path,
    )
    if not rows:
        return Header(None, job.path, key, 1, 1, fingerprint, 0)
    header = Header(**rows[0])
    header.forget = header.key_column != key
    if full or header.forget:
        header.epoch += 1
    if header.fingerprint != fingerprint:
        header.version += 1
    header.key_column, header.fingerprint = key, fingerprint
    return header


def _rows(job: Job, run: _Run, staging: diff.Staging) -> Rows:
    """What maps the rows of this run."""
    origin = Origin(
        *(job.path, run.header.epoch, run.header.version, job.source, run.received_at),
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


def _state(store: Store, header: Header) -> tuple[pa.Table, pa.Table]:
    return state.EMPTY if header.mapping is None or header.forget else state.read(store, header.mapping)


class _Run:
    """A run under way: its counters, and the turns in which it writes."""

    def __init__(
        self,
        job: Job,
        run_id: str,
        counts: Counts,
        header: Header,
        turn: Callable[[], Any],
        applied: Callable[[Applied], None],
        refused: Callable[[Sequence[Rejected]], None],
    ) -> None:
        self.job = job
        self.header = header
        self.counts = counts
        self.received_at = 0  # µs; when the rows were read
        self._run_id = run_id
        self._run = 0
        self._turn = turn
        self._applied = applied
        self._indexed: Indexed | None = None
        self._refused = refused
        self._created: list[tuple[int, int]] = []  # segments that this run created: from, to before
        self._updated: set[int] = set()  # profiles, by oldest segment, that were there before it

    # --- begin ----------------------------------------------------------------------------------------

    def begin(self, found: diff.Counts, rejected: Iterator[pa.Table], cancel: Cancel) -> None:
        """Write the mapping's header, the run, and the rows whose key is NULL or repeated."""
        self.received_at = time_ns() // 1000
        counts = self.counts
        counts.added, counts.updated, counts.deleted = found.added, found.updated, found.deleted
        counts.unchanged, counts.retried = found.unchanged, found.retried
        with self._turn():
            self._write_header()
            self._run = self.job.store.rows("select coalesce(max(run), 0) + 1 as run from run")[0]["run"]
            self.job.store.execute(
                "insert into run (run, run_id, mapping, started_at, counts) values ($1, $2, $3, $4, '{}')",
                *(self._run, self._run_id, self.header.mapping, self.received_at),
            )
            self._record()
        for chunk in rejected:
            cancel.check()
            rows = [
                key_rejected(key, record, self.job.model.key)
                for key, record in zip(chunk["key"].to_pylist(), chunk["record"].to_pylist(), strict=True)
            ]
            with self._turn():
                self._reject(rows)
                self._record()

    def _write_header(self) -> None:
        store, header = self.job.store, self.header
        if header.mapping is None:
            newest = store.rows("select coalesce(max(mapping), 0) as number from mapping")
            header.mapping = int(newest[0]["number"]) + 1
        if header.forget:
            store.execute("delete from state where mapping = $1", header.mapping)
            header.forget = False
        store.execute(
            "insert into mapping (mapping, path, key_column, epoch, version, fingerprint, base)"
            " values ($1, $2, $3, $4, $5, $6, $7) on conflict (mapping) do update set"
            " key_column = excluded.key_column, epoch = excluded.epoch, version = excluded.version,"
            " fingerprint = excluded.fingerprint, base = excluded.base",
            *(header.mapping, header.path, header.key_column, header.epoch, header.version),
            *(header.fingerprint, header.base),
        )

    def compact(self, seen: pa.Table) -> None:
        """Make the parts of the state one."""
        assert self.header.mapping is not None
        with self._turn():
            state.replace(self.job.store, self.header.mapping, seen)

    def end(self) -> None:
        """Leave the space as it is best read, after much was written."""
        if self._indexed is not None:
            with self._turn():
                index.merge(self.job.store)
                self.job.store.settle()

    # --- map, resolve, commit -------------------------------------------------------------------------

    def chunk(self, mapped: Mapped, identifying: pa.Table, rows: int, clock: Stages) -> int:
        """Resolve and commit one mapped chunk, whole. Returns how many rows it held."""
        before = asdict(self.counts)
        try:
            self._chunk(mapped, identifying, rows, clock)
        except BaseException:
            vars(self.counts).update(before)  # what is not committed is not counted
            raise
        return rows

    def _chunk(self, mapped: Mapped, identifying: pa.Table, rows: int, clock: Stages) -> None:
        self.counts.filtered += mapped.filtered
        self.counts.sent += mapped.calls.num_rows
        with clock.timed("apply", rows), self._turn():
            if mapped.calls.num_rows:
                if self._indexed is None and self._worth_it():
                    self._indexed = Indexed(self.job.store, IDENTIFIERS * self.counts.changed)
                outcome = apply(
                    *(self.job.store, mapped.calls, self.job.rules),
                    run=self._run,
                    identifying=identifying,
                    indexed=self._indexed,
                )
                self._tally(outcome)
                self._applied(outcome)
            self._remember(mapped)
            self._reject(mapped.rejected)
            self._record()

    def _worth_it(self) -> bool:
        """Whether what the space has is quicker held in memory than looked up."""
        return self.counts.changed > max(ALONE, self.job.store.counters()["segment"])

    def _tally(self, outcome: Applied) -> None:
        counts, resolution = self.counts, outcome.resolution
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

    def _remember(self, mapped: Mapped) -> None:
        """Write what the mapping has seen, in the turn of the changes it describes."""
        store, header = self.job.store, self.header
        assert header.mapping is not None  # given out with the first turn
        told = mapped.state["known"]
        rows = mapped.state.select(state.STATE.names)
        state.append(store, header.mapping, rows.filter(pc.invert(told)), later=False)
        state.append(store, header.mapping, rows.filter(told), later=True)
        gone = rows.filter(pc.equal(rows["status"], state.GONE))
        if gone.num_rows:
            header.base = max(header.base, pc.max(gone["counter"]).as_py() + 1)
            self._write_header()

    def _reject(self, rows: Sequence[Rejected]) -> None:
        self.counts.rejected += len(rows)
        if rows:
            self._refused(rows)
        now = time_ns() // 1000
        data = [
            (self._run, key, event, error.code, json.dumps(error.fields), str(error), record, now)
            for key, event, error, record in rows
        ]
        self.job.store.append("rejected", identity.table(REJECTED, data))

    def _record(self) -> None:
        self.job.store.execute("update run set counts = $1 where run = $2", json.dumps(asdict(self.counts)), self._run)


REJECTED = pa.schema(
    [
        ("run", pa.int64()),
        *((name, pa.string()) for name in ("key", "event", "code", "fields", "message", "record")),
        ("at", pa.int64()),
    ]
)
