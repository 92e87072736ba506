"""The store of a space: what it knows of some identifiers, and changes written all or nothing.

One store for every database, through ADBC: Arrow in, Arrow out. What differs between databases is the `Dialect`.
Most of a space is its call log, in compressed blocks; `identifier` is the index into it, and what has a row of its
own beside it has changed since its first call.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa

from onefold.errors import StoreError

# One step a schema version; a step is never edited after a release. Words in braces come from the dialect.
STEPS: list[list[str]] = [
    [
        "create table meta (name {text} primary key, value {text} not null)",
        "create table counter (name {text} primary key, value {integer} not null)",
        "create table source (source {integer} primary key, slug {text} not null unique)",
        "create table identifier_type (type {integer} primary key, collection {text} not null,"
        " name {text} not null, unique (collection, name))",
        # Which segments have an identifier of some digest (index.py): in rows, or in pages of sorted tiers.
        "create table identifier (hash {integer} not null, segment {integer} not null,"
        " primary key (hash, segment)) {clustered}",
        "create table tier (tier {integer} primary key, entries {integer} not null)",
        "create table page (tier {integer} not null, first {integer} not null, data {blob} not null,"
        " primary key (tier, first)) {clustered}",
        # Calls in compressed blocks (log.py): `seq` of the first, the first `segment` born in it or later, and
        # the bytes of the text.
        "create table block (seq {integer} primary key, segment {integer} not null, size {integer} not null,"
        " data {blob} not null)",
        "create index block_segment on block (segment, seq)",
        # Segments that are more than the call that made them. `identifiers` is JSON: [[type, value, first_seen,
        # seq], ...] as filed here; `traits` the document, `meta` the traits that another call than `seq` set.
        # Times are µs since the epoch, UTC.
        "create table segment (segment {integer} primary key, segment_id {text} not null,"
        " collection {text} not null, created_at {integer} not null, updated_at {integer} not null,"
        " first_seq {integer} not null, last_seq {integer} not null, identifiers {text} not null,"
        " time {integer}, seq {integer}, traits {text}, meta {text})",
        # The merge graph: evidence, where each merged segment belongs now, and how that changed.
        "create table edge (seq {integer} not null, a {integer} not null, b {integer} not null,"
        " active {integer} not null, primary key (seq, a, b)) {clustered}",
        "create table merged (segment {integer} primary key, profile {integer} not null)",
        "create index merged_profile on merged (profile)",
        "create table id_graph (seq {integer} not null, segment {integer} not null,"
        " profile {integer} not null, primary key (seq, segment, profile)) {clustered}",
        "create table link (user_segment {integer} not null, account_segment {integer} not null,"
        " seq {integer} not null, primary key (user_segment, account_segment)) {clustered}",
        "create index link_account on link (account_segment)",
        # `list` is '' for the channel itself, else the name of an e-mail group.
        "create table subscription (channel {text} not null, address {text} not null, list {text} not null,"
        " time {integer} not null, seq {integer} not null, status {text} not null,"
        " primary key (channel, address, list, time, seq)) {clustered}",
        # The track, page and screen calls of each segment.
        "create table event (segment {integer} not null, time {integer} not null, seq {integer} not null,"
        " name {text}, primary key (segment, time, seq)) {clustered}",
        "create table dropped (seq {integer} not null, collection {text} not null, type {text} not null,"
        " value {text} not null, reason {text} not null, primary key (seq, collection, type, value))"
        " {clustered}",
        # What each mapping has seen and delivered, committed with the data.
        # `base` is above the counter of every deleted key, so that a key that comes back gets new message ids.
        "create table mapping (mapping {integer} primary key, path {text} not null unique,"
        " key_column {text} not null, epoch {integer} not null, version {integer} not null,"
        " fingerprint {text} not null, base {integer} not null)",
        # Parts of what was seen of keys (state.py): of keys that were new, or `later` of such as were known.
        "create table state (mapping {integer} not null, part {integer} not null, later {integer} not null,"
        " data {blob} not null, primary key (mapping, part))",
        "create table run (run {integer} primary key, run_id {text} not null unique,"
        " mapping {integer} not null, started_at {integer} not null, counts {text} not null)",
        "create table rejected (id {identity} primary key, run {integer} not null, key {text},"
        " event {text}, code {text} not null, fields {text} not null, message {text} not null,"
        " record {text}, at {integer} not null)",
        "create index rejected_run on rejected (run)",
    ],
]
# The schema number of the first step.
FIRST = 2
# So many rows are bound to a query; more are staged in a table.
FEW = 64
_WORDS = {pa.int64(): "integer", pa.string(): "text"}
# Tables that give an integer to a name, with the column of the integer.
NUMBERED = {"source": "source", "identifier_type": "type"}


class Connection(Protocol):
    """The part of an ADBC DB-API connection in autocommit mode that the store uses."""

    def cursor(self) -> Any: ...
    def close(self) -> None: ...


@dataclass(frozen=True)
class Dialect:
    """What differs between databases, at a glance."""

    words: dict[str, str]  # what stands in the braces of STEPS
    begin: str  # starts a transaction that writes: waits for its turn
    exists: str  # one row if the tables are there
    bulk: tuple[str, ...]  # said before a long run of large chunks


class Engine(Protocol):
    """A database that can hold a space: a module of `stores` makes one."""

    dialect: Dialect
    name: str  # for messages; holds no secret

    def connect(self) -> Connection: ...
    def lease(self, name: str, *, wait: bool) -> AbstractContextManager[bool]: ...


def open(store: str, file: Path) -> Store:  # noqa: A001 - the field's word, always said as stores.open
    """The store of a space: `store` as in the workspace file, `file` where an embedded one lies.

    Creates it when it is not there yet. Raises StoreError.
    """
    from onefold.stores import sqlite

    if store != "sqlite":
        raise StoreError(f"store {store.split(':')[0]!r} cannot be opened; this version keeps spaces in 'sqlite'")
    return Store(sqlite.Engine(file))


class Store:
    """An open space. Not shared between threads; open one for each."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self._connection = engine.connect()
        self._cursor = self._connection.cursor()
        try:
            self._migrate()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._cursor.close()
        self._connection.close()

    # --- statements -----------------------------------------------------------------------------------

    def query(self, sql: str, *values: Any) -> pa.Table:
        """The rows of a query as an Arrow table; `$1`, `$2` … are bound, numbered in order of appearance."""
        with self._failing():
            self._cursor.execute(sql, values or None)
            return self._cursor.fetch_arrow_table()

    def rows(self, sql: str, *values: Any) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.query(sql, *values).to_pylist()
        return found

    def asked(self, given: pa.Table | Sequence[int], sql: str) -> list[dict[str, Any]]:
        """The rows of a query that reads `asked a`: a table, or numbers in a column `number`."""
        if not isinstance(given, pa.Table):
            given = pa.table({"number": pa.array(given, pa.int64())})
        if not given.num_rows:
            return []
        if given.num_rows > FEW:
            self.stage("asked", given)
            return self.rows(sql)
        words = [self.engine.dialect.words[_WORDS[kind]] for kind in given.schema.types]
        marks = iter(range(1, given.num_rows * given.num_columns + 1))
        rows = (", ".join(f"cast(${next(marks)} as {word})" for word in words) for _ in range(given.num_rows))
        sql = f"with asked({', '.join(given.column_names)}) as (values {', '.join(f'({row})' for row in rows)}) {sql}"
        return self.rows(sql, *(value for row in given.to_pylist() for value in row.values()))

    def execute(self, sql: str, *values: Any) -> None:
        with self._failing():
            self._cursor.execute(sql, values or None)
            # A statement runs when its result is read.
            if self._cursor.description:
                self._cursor.fetchall()

    def append(self, table: str, data: pa.Table) -> None:
        """Insert rows of whole columns; rows should come sorted by the table's key."""
        if data.num_rows:
            with self._failing():
                self._cursor.adbc_ingest(table, data, mode="append")

    def stage(self, table: str, data: pa.Table) -> None:
        """A temporary table of this connection, replaced if it is there."""
        self.execute(f"drop table if exists {table}")
        with self._failing():
            self._cursor.adbc_ingest(table, data, mode="create", temporary=True)

    @contextmanager
    def turn(self, *, keep: bool = True) -> Iterator[None]:
        """A turn to write: everything said inside is committed whole, or not at all (`keep=False`: never)."""
        self.execute(self.engine.dialect.begin)
        try:
            yield
        except BaseException:
            self._rollback()
            raise
        if keep:
            self.execute("commit")
        else:
            self._rollback()

    def _rollback(self) -> None:
        # A failed statement (a full disk) may have ended the transaction already.
        try:
            self.execute("rollback")
        except StoreError as error:
            if "no transaction" not in str(error):
                raise

    @contextmanager
    def _failing(self) -> Iterator[None]:
        from adbc_driver_manager import Error

        try:
            yield
        except Error as error:
            raise StoreError(f"space {self.engine.name}: {sentence(error)}") from error

    def lease(self, name: str, *, wait: bool) -> AbstractContextManager[bool]:
        """Hold `name` alone among all processes; yields False if it is held elsewhere and `wait` is off."""
        return self.engine.lease(name, wait=wait)

    def prepare(self) -> None:
        """Make ready for a long run of large chunks."""
        for statement in self.engine.dialect.bulk:
            self.execute(statement)

    # --- schema ---------------------------------------------------------------------------------------

    def _migrate(self) -> None:
        """Bring the tables to the newest version, one step a transaction of its own."""
        while (version := self._version()) < len(STEPS):
            with self.turn():
                if self._version() != version:
                    continue  # another process took the step meanwhile
                for statement in STEPS[version]:
                    self.execute(statement.format(**self.engine.dialect.words))
                if version == 0:
                    self.execute("insert into meta values ('secret', $1)", secrets.token_urlsafe(16))
                    self.execute("insert into meta values ('schema', $1)", str(FIRST))
                    self.execute("insert into counter values ('seq', 1), ('segment', 1)")
                else:
                    self.execute("update meta set value = $1 where name = 'schema'", str(FIRST + version))

    def _version(self) -> int:
        if not self.rows(self.engine.dialect.exists):
            return 0
        version = int(self.rows("select value from meta where name = 'schema'")[0]["value"]) - FIRST + 1
        if version < 1:
            raise StoreError(
                f"space {self.engine.name} was written before the first release and cannot be read; delete its file"
                " and sync with --full"
            )
        if version > len(STEPS):
            raise StoreError(f"space {self.engine.name} was written by a newer Onefold; upgrade this one to open it")
        return version

    # --- small facts ----------------------------------------------------------------------------------

    @cached_property
    def secret(self) -> str:
        """The key of the space's digests; never exported or printed."""
        return str(self.rows("select value from meta where name = 'secret'")[0]["value"])

    def counters(self) -> dict[str, int]:
        """The next free `seq` and `segment`."""
        return {row["name"]: row["value"] for row in self.rows("select name, value from counter")}

    def number(self, table: str, columns: dict[str, Any]) -> int:
        """The integer that stands for a name in a table of names; given out when first asked."""
        where = " and ".join(f"{column} = ${at}" for at, column in enumerate(columns, 1))
        key = NUMBERED[table]
        found = self.rows(f"select {key} as number from {table} where {where}", *columns.values())
        if found:
            return int(found[0]["number"])
        number = int(self.rows(f"select coalesce(max({key}), 0) + 1 as number from {table}")[0]["number"])
        names, marks = ", ".join(columns), ", ".join(f"${at + 2}" for at in range(len(columns)))
        self.execute(f"insert into {table} ({key}, {names}) values ($1, {marks})", number, *columns.values())
        return number


def sentence(error: Exception) -> str:
    """The database's own words, without the driver's preamble."""
    text = str(error).split("\n")[0]
    for known, said in _KNOWN.items():
        if known in text:
            return said
    return text


_KNOWN = {
    "database or disk is full": "the disk is full; nothing of this step was written. Free some space and run it again",
    "unable to open database": "the file cannot be opened; check that its folder exists and may be written",
    "file is not a database": "the file is not a space; restore it from a backup",
    "readonly database": "the file may not be written; check its permissions",
    "database is locked": "another process has been writing for too long; try again when it is done",
}
