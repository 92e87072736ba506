"""One sync of one mapping, in order: read, diff, map, resolve, commit, record.

A run holds its mapping's lease throughout. Each chunk commits whole: the calls, the profiles they changed, what
the mapping has seen, the counters and the rejected rows. Killed anywhere, the next run goes on from there.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, nullcontext
from dataclasses import asdict, dataclass, field
from pathlib import Path
from time import time_ns
from typing import Any

import pyarrow as pa

from onefold import calls, canonical, diff, identity, mapping, segment_profiles, space, times, trigger
from onefold.apply import Applied, apply
from onefold.calls import Arrival
from onefold.config import Mapping, Model
from onefold.errors import InvalidMapping, RowRejected
from onefold.identity import NOBODY
from onefold.nearest import nearest
from onefold.rules import Rules
from onefold.stores import Store
from onefold.warehouses import Warehouse

CHUNK_ROWS = 50_000
MAX_VALUE_BYTES = 128 * 1024
MAX_RECORD_BYTES = 512 * 1024

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
    unresolved: int = 0
    identifiers_dropped: int = 0
    profiles_created: int = 0
    profiles_updated: int = 0
    merges: int = 0


@dataclass
class Header:
    """What a mapping is known by in the space: its epoch, and the version that rejected rows were tried with."""

    mapping: int
    path: str
    key_column: str
    epoch: int
    version: int
    fingerprint: str
    base: int
    forget: bool = False  # the key changed: what was seen under the old one is dropped


@dataclass
class Mapped:
    """A chunk of rows after mapping."""

    calls: list[dict[str, Any]] = field(default_factory=list)
    state: list[tuple[Any, ...]] = field(default_factory=list)  # rows of diff.STATE
    gone: list[str] = field(default_factory=list)  # keys whose deletion is done with
    rejected: list[tuple[Any, ...]] = field(default_factory=list)
    filtered: int = 0


def sync(
    job: Job,
    run_id: str,
    counts: Counts,
    *,
    full: bool = False,
    dry_run: bool = False,
    allow_deletes: bool = False,
    progress: Progress = lambda *_: None,
    applied: Callable[[Applied], None] = lambda _: None,
) -> None:
    """Bring a mapping's changes into its space, and count them. Raises WarehouseError, StoreError, SyncStopped.

    A dry run is the same work inside one turn of the caller's, who takes it back. `applied` is shown what each
    chunk did.
    """
    with ExitStack() as stack:
        stack.enter_context(job.store.lease(job.path, wait=True))
        turn = nullcontext if dry_run else job.store.turn
        run = _Run(job, run_id, counts, _header(job, full=full), turn, applied)
        staging = stack.enter_context(diff.staging(job.temp))
        progress("read", 0, None)
        with job.warehouse.read(job.model.sql) as reader:
            run.counts.extracted = staging.load(reader, job.model.key)
        check_columns(job, staging.columns)
        progress("diff", 0, run.counts.extracted)
        found = staging.compare(_state(job.store, run.header), run.header.epoch, run.header.version, run.header.base)
        diff.guard(found, allow_deletes=allow_deletes)
        run.begin(found, staging.columns, staging.rejected(CHUNK_ROWS))
        done = 0
        for chunk in staging.changes(CHUNK_ROWS):
            progress("map", done, found.changed)
            run.chunk(chunk)
            done += chunk.num_rows
        progress("done", done, found.changed)


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
        number = job.store.rows("select coalesce(max(mapping), 0) + 1 as number from mapping")[0]["number"]
        return Header(number, job.path, key, 1, 1, fingerprint, 0)
    header = Header(**rows[0])
    header.forget = header.key_column != key
    if full or header.forget:
        header.epoch += 1
    if header.fingerprint != fingerprint:
        header.version += 1
    header.key_column, header.fingerprint = key, fingerprint
    return header


def check_columns(job: Job, columns: Sequence[str]) -> None:
    """Stop before anything is sent if a mapping reads a column that the model lacks. Raises InvalidMapping."""
    for path in mapping.paths(job.mapping.fields):
        if path[:1] == ("properties",) and len(path) > 1 and path[1] not in columns:
            raise InvalidMapping(
                f"mapping {job.path} reads the column {path[1]!r}, which model {job.model.slug} does not"
                f" have{nearest(path[1], columns)}; it has {', '.join(columns)}",
                code="missing_column",
            )


def _state(store: Store, header: Header) -> pa.Table:
    if header.forget:
        return diff.STATE.empty_table()
    return store.query(
        "select key, epoch, checksum, counter, status, version from state where mapping = $1", header.mapping
    )


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
    ) -> None:
        self.job = job
        self.header = header
        self.counts = counts
        self.received_at = time_ns() // 1000
        self._run_id = run_id
        self._run = 0
        self._turn = turn
        self._applied = applied
        self._calls = segment_profiles.compile(job.mapping.action, job.mapping.fields)
        self._trigger = trigger.parse(job.mapping.trigger)
        self._created: set[int] = set()  # segments that this run created
        self._updated: set[int] = set()  # profiles, by oldest segment, that were there before it

    # --- begin ----------------------------------------------------------------------------------------

    def begin(self, found: diff.Counts, columns: list[str], rejected: Iterator[pa.Table]) -> None:
        """Write the mapping's header, the run, and the rows whose key is NULL or repeated."""
        self._columns = columns
        counts = self.counts
        counts.added, counts.updated, counts.deleted = found.added, found.updated, found.deleted
        counts.unchanged = found.unchanged
        with self._turn():
            self._write_header()
            self._run = self.job.store.rows("select coalesce(max(run), 0) + 1 as run from run")[0]["run"]
            self.job.store.execute(
                "insert into run (run, run_id, mapping, started_at, counts) values ($1, $2, $3, $4, '{}')",
                *(self._run, self._run_id, self.header.mapping, self.received_at),
            )
            self._record()
        for chunk in rejected:
            rows = [
                _key_rejected(key, record, self.job.model.key)
                for key, record in zip(chunk["key"].to_pylist(), chunk["record"].to_pylist(), strict=True)
            ]
            with self._turn():
                self._reject(rows)
                self._record()

    def _write_header(self) -> None:
        store, header = self.job.store, self.header
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

    # --- map ------------------------------------------------------------------------------------------

    def chunk(self, chunk: pa.Table) -> None:
        """Map, resolve and commit one chunk of diff.Staging.changes."""
        mapped = self._map(chunk)
        self.counts.filtered += mapped.filtered
        self.counts.sent += len(mapped.calls)
        with self._turn():
            if mapped.calls:
                outcome = apply(self.job.store, calls.table(mapped.calls), self.job.rules, run=self._run)
                self._tally(outcome)
                self._applied(outcome)
            self._remember(mapped)
            self._reject(mapped.rejected)
            self._record()

    def _map(self, chunk: pa.Table) -> Mapped:
        mapped = Mapped()
        header = self.header
        for row in chunk.to_pylist():
            event, counter = row["event"], row["counter"] + 1
            state = (row["key"], header.epoch, row["checksum"], counter)
            try:
                call = self._call(row, event, counter)
            except RowRejected as error:
                status = _REJECTED[event]
                mapped.rejected.append((row["key"], event, error, row["record"]))
                # What was not accepted did not happen: the counter stays.
                mapped.state.append((*state[:3], counter - 1, status, header.version))
                continue
            if call is None:
                mapped.filtered += 1
            else:
                mapped.calls.append(call)
            if event == "deleted":
                mapped.gone.append(row["key"])
                header.base = max(header.base, counter)
            else:
                status = diff.FILTERED if call is None else diff.SENT
                mapped.state.append((*state, status, header.version))
        return mapped

    def _call(self, row: dict[str, Any], event: str, counter: int) -> dict[str, Any] | None:
        """The call that a row becomes, or None if the trigger leaves it out. Raises RowRejected."""
        said = row_event(
            event,
            row["record"],
            key=(self.job.model.key, row["key"]),
            columns=self._columns,
            message_id=message_id(self.job.path, self.header.epoch, row["key"], counter),
            timestamp=self.received_at,
        )
        if not self._trigger.matches(said):
            return None
        try:
            (message,) = self._calls(said)
        except InvalidMapping as error:
            # A directive met a value that it cannot take; only this row is wrong.
            raise RowRejected("invalid_field", str(error)) from error
        arrival = Arrival(self.job.source, self.received_at, said["messageId"])
        return calls.call(message, arrival, self.job.rules)

    # --- commit ---------------------------------------------------------------------------------------

    def _tally(self, outcome: Applied) -> None:
        counts, resolution = self.counts, outcome.resolution
        counts.unresolved += outcome.unresolved
        counts.identifiers_dropped += resolution.dropped.num_rows
        counts.profiles_created += resolution.created.num_rows
        counts.merges += resolution.edges.num_rows
        self._created.update(resolution.created["segment"].to_pylist())
        touched = {outcome.profile.get(segment, segment) for segment in outcome.filed.tolist()}
        self._updated = {outcome.moved.get(at, at) for at in self._updated} | (touched - self._created - {NOBODY})
        counts.profiles_updated = len(self._updated)

    def _remember(self, mapped: Mapped) -> None:
        """Write what the mapping has seen, in the turn of the changes it describes."""
        store, header = self.job.store, self.header
        rows = [(header.mapping, *row) for row in sorted(mapped.state)]
        space.merge_in(store, "state", identity.table(STATE, rows))
        if mapped.gone:
            store.stage("gone", pa.table({"key": pa.array(mapped.gone, pa.string())}))
            store.execute("delete from state where mapping = $1 and key in (select key from gone)", header.mapping)
            self._write_header()

    def _reject(self, rows: Sequence[tuple[str | None, str | None, RowRejected, str | None]]) -> None:
        self.counts.rejected += len(rows)
        now = time_ns() // 1000
        data = [
            (self._run, key, event, error.code, json.dumps(error.fields), str(error), record, now)
            for key, event, error, record in rows
        ]
        self.job.store.append("rejected", identity.table(REJECTED, data))

    def _record(self) -> None:
        self.job.store.execute("update run set counts = $1 where run = $2", json.dumps(asdict(self.counts)), self._run)


STATE = pa.schema([("mapping", pa.int64()), *diff.STATE])
REJECTED = pa.schema(
    [
        ("run", pa.int64()),
        *((name, pa.string()) for name in ("key", "event", "code", "fields", "message", "record")),
        ("at", pa.int64()),
    ]
)
_REJECTED = {
    "new": diff.REJECTED_NEW,
    "updated": diff.REJECTED_UPDATED,
    "deleted": diff.REJECTED_DELETED,
}


def row_event(
    event: str,
    record: str | None,
    *,
    key: tuple[str, str],
    columns: Sequence[str],
    message_id: str,
    timestamp: int,
) -> dict[str, Any]:
    """A changed row as the event that mappings read (reference, section 2).

    `record` is the row as JSON, None for a deleted one, which carries its key and nulls; `key` is the key's
    column and canonical JSON; times in µs. Raises RowRejected for a value or record over the limits.
    """
    if record is None:
        properties = {**dict.fromkeys(columns), key[0]: json.loads(key[1])}
    else:
        properties = json.loads(record)
        if len(record) * 4 > MAX_VALUE_BYTES:
            _check_sizes(record, properties)
    return {
        "type": "track",
        "event": event,
        "messageId": message_id,
        "timestamp": times.text(timestamp),
        "properties": properties,
        "context": {},
    }


def _check_sizes(record: str, properties: dict[str, Any]) -> None:
    for name, value in properties.items():
        size = len(canonical.encode(value).encode())
        if size > MAX_VALUE_BYTES:
            raise RowRejected(
                "value_too_large",
                f"column {name} holds {size:,} bytes as JSON; at most {MAX_VALUE_BYTES:,} are accepted",
                [name],
            )
    size = len(record.encode())
    if size > MAX_RECORD_BYTES:
        raise RowRejected(
            "record_too_large", f"the row holds {size:,} bytes; at most {MAX_RECORD_BYTES:,} are accepted"
        )


def message_id(path: str, epoch: int, key: str, counter: int) -> str:
    """The message id of a row's call: the same when the same change is sent again."""
    said = f"{path}\0{epoch}\0{key}\0{counter}"
    return hashlib.md5(said.encode(), usedforsecurity=False).hexdigest()


def _key_rejected(key: str | None, record: str, column: str) -> tuple[Any, ...]:
    if key is None:
        error = RowRejected("null_key", f"the key column {column} is NULL; every row needs a key", [column])
    else:
        error = RowRejected(
            "repeated_key",
            f"the key {column} = {key} stands in more than one row; keys must differ",
            [column],
        )
    return key, None, error, record
