"""The ledger of a run: what stands in the store of its counters, its rejected rows, and of what its mapping has seen.

Written in the turns of the data that it describes, whether that is profiles (`sync.py`) or calls that a remote
endpoint has acknowledged (`deliver.py`).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from time import time_ns

import pyarrow as pa
import pyarrow.compute as pc

from onefold import diff, identity, state
from onefold.cancel import Cancel
from onefold.config import Mapping
from onefold.errors import Disabled
from onefold.rows import Rejected, key_rejected
from onefold.stores import Store


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
    retried: int = 0  # of the changed rows: those rejected before, or whose last call was not acknowledged
    unresolved: int = 0
    identifiers_dropped: int = 0
    profiles_created: int = 0
    profiles_updated: int = 0
    merges: int = 0

    @property
    def changed(self) -> int:
        return self.added + self.updated + self.deleted


@dataclass
class Header:
    """What a mapping is known by in the store: its epoch, and the version that rejected rows were tried with."""

    mapping: int | None  # its number in the store; given out with the first turn
    path: str
    key_column: str
    epoch: int
    version: int
    fingerprint: str
    base: int
    forget: bool = False  # the key changed: what was seen under the old one is dropped

    @classmethod
    def read(cls, store: Store, path: str) -> Header | None:
        """The header of a mapping as it was last written; None if it never was. Raises StoreError."""
        columns = "mapping, path, key_column, epoch, version, fingerprint, base"
        rows = store.rows(f"select {columns} from mapping where path = $1", path)
        return cls(**rows[0]) if rows else None

    @classmethod
    def of(cls, store: Store, path: str, mapping: Mapping, key: str, *, full: bool) -> Header:
        """The header for a run of a mapping; written with its first turn. Raises StoreError."""
        fields = json.dumps([mapping.action, mapping.trigger, mapping.fields], sort_keys=True)
        fingerprint = hashlib.md5(fields.encode(), usedforsecurity=False).hexdigest()
        header = cls.read(store, path)
        if header is None:
            return cls(None, path, key, 1, 1, fingerprint, 0)
        header.forget = header.key_column != key
        if full or header.forget:
            header.epoch += 1
        if header.fingerprint != fingerprint:
            header.version += 1
        header.key_column, header.fingerprint = key, fingerprint
        return header

    def seen(self, store: Store) -> tuple[pa.Table, pa.Table]:
        """What the mapping has seen (state.read). Raises StoreError."""
        return state.EMPTY if self.mapping is None or self.forget else state.read(store, self.mapping)

    def write(self, store: Store) -> None:
        """Write it, in a turn."""
        if self.mapping is None:
            newest = store.rows("select coalesce(max(mapping), 0) as number from mapping")
            self.mapping = int(newest[0]["number"]) + 1
        if self.forget:
            store.execute("delete from state where mapping = $1", self.mapping)
            store.execute("delete from failing where mapping = $1", self.mapping)
            self.forget = False
        store.execute(
            "insert into mapping (mapping, path, key_column, epoch, version, fingerprint, base)"
            " values ($1, $2, $3, $4, $5, $6, $7) on conflict (mapping) do update set"
            " key_column = excluded.key_column, epoch = excluded.epoch, version = excluded.version,"
            " fingerprint = excluded.fingerprint, base = excluded.base",
            *(self.mapping, self.path, self.key_column, self.epoch, self.version, self.fingerprint, self.base),
        )


class Ledger:
    """What one run writes of itself. `turn` gives the turns in which it writes."""

    def __init__(
        self,
        store: Store,
        header: Header,
        run_id: str,
        counts: Counts,
        turn: Callable[[], AbstractContextManager[None]],
        refused: Callable[[Sequence[Rejected]], None],
    ) -> None:
        self.store = store
        self.header = header
        self.counts = counts
        self.turn = turn
        self.run = 0  # its number in the store
        self.received_at = 0  # µs; when the rows were read
        self._run_id = run_id
        self._refused = refused

    def begin(self, found: diff.Counts, rejected: Iterator[pa.Table], cancel: Cancel) -> None:
        """Write the mapping's header, the run, and the rows whose key is NULL or repeated. Raises Cancelled."""
        self.received_at = time_ns() // 1000
        counts = self.counts
        counts.added, counts.updated, counts.deleted = found.added, found.updated, found.deleted
        counts.unchanged, counts.retried = found.unchanged, found.retried
        with self.turn():
            self.header.write(self.store)
            self.run = self.store.rows("select coalesce(max(run), 0) + 1 as run from run")[0]["run"]
            self.store.execute(
                "insert into run (run, run_id, mapping, started_at, counts) values ($1, $2, $3, $4, '{}')",
                *(self.run, self._run_id, self.header.mapping, self.received_at),
            )
            self.record()
        for chunk in rejected:
            cancel.check()
            rows = [
                key_rejected(key, record, self.header.key_column)
                for key, record in zip(chunk["key"].to_pylist(), chunk["record"].to_pylist(), strict=True)
            ]
            with self.turn():
                self.reject(rows)
                self.record()

    def compact(self, seen: pa.Table, *, deletes: bool) -> None:
        """Make the parts of the state one, without keys that are gone; where `deletes` were sent these stay known."""
        assert self.header.mapping is not None
        gone = pc.equal(seen["status"], state.GONE)
        sent = seen.filter(gone) if deletes else state.STATE.empty_table()
        with self.turn():
            state.replace(self.store, self.header.mapping, seen.filter(pc.invert(gone)), sent)

    def remember(self, rows: pa.Table) -> None:
        """Write what the mapping has seen (rows.REMEMBERED), in the turn of the changes it describes."""
        self.append(rows)
        header = self.header
        gone = rows.filter(pc.equal(rows["status"], state.GONE))
        if gone.num_rows:
            header.base = max(header.base, pc.max(gone["counter"]).as_py() + 1)
            header.write(self.store)

    def append(self, rows: pa.Table) -> list[int]:
        """Add to the state; the numbers of the new parts. In a turn."""
        assert self.header.mapping is not None  # given out with the first turn
        told, seen = rows["known"], rows.select(state.STATE.names)
        return [
            *state.append(self.store, self.header.mapping, seen.filter(pc.invert(told)), later=False),
            *state.append(self.store, self.header.mapping, seen.filter(told), later=True),
        ]

    def withdraw(self, parts: Sequence[int]) -> None:
        """Take back parts of the state; in a turn."""
        assert self.header.mapping is not None
        state.withdraw(self.store, self.header.mapping, parts)

    def reject(self, rows: Sequence[Rejected]) -> None:
        """Keep some rows as rejected, and count them; in a turn."""
        self.counts.rejected += len(rows)
        if rows:
            self._refused(rows)
        now = time_ns() // 1000
        data = [
            (self.run, key, event, error.code, json.dumps(error.fields), str(error), record, now, error.call)
            for key, event, error, record in rows
        ]
        self.store.append("rejected", identity.table(REJECTED, data))

    def record(self) -> None:
        """Write the counters; in a turn."""
        self.store.execute("update run set counts = $1 where run = $2", json.dumps(asdict(self.counts)), self.run)


def reset(store: Store, path: str, *, dry_run: bool) -> int:
    """Forget what a mapping has seen and raise its epoch; the number of keys. Raises Disabled if a run is under way.

    Nothing is changed in a dry run.
    """
    with store.lease(path, wait=False) as held:
        if not held:
            raise Disabled(f"a sync of {path} is under way; wait for it, or cancel it", code="under_way")
        header = Header.read(store, path)
        if header is None:
            return 0
        first, later = header.seen(store)
        statuses = dict(zip(first["key"].to_pylist(), first["status"].to_pylist(), strict=True))
        statuses |= dict(zip(later["key"].to_pylist(), later["status"].to_pylist(), strict=True))
        if not dry_run:
            header.epoch += 1
            assert header.mapping is not None  # as it was read
            with store.turn():
                state.forget(store, header.mapping)
                store.execute("delete from failing where mapping = $1", header.mapping)
                header.write(store)
        return sum(
            status not in (state.GONE, state.REJECTED_DELETED, state.OPEN_DELETED) for status in statuses.values()
        )


REJECTED = pa.schema(
    [
        ("run", pa.int64()),
        *((name, pa.string()) for name in ("key", "event", "code", "fields", "message", "record")),
        ("at", pa.int64()),
        ("call", pa.string()),
    ]
)
