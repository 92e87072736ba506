"""The store of a space: what it knows of some identifiers, and changes written all or nothing.

One store for every database, through ADBC: Arrow in, Arrow out. What differs between databases is the `Dialect`.
Most of a space is its call log, in compressed blocks; `identifier` is the index into it, and what has a row of its
own beside it has changed since its first call.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property, partial
from hashlib import blake2b
from pathlib import Path
from typing import Any, Protocol

import msgspec
import numpy as np
import pyarrow as pa

from onefold.errors import StoreError, ValueRefused

Numbers = np.ndarray[Any, Any]

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
    [
        # The call that a rejected row became, if it became one.
        "alter table rejected add column call {text}",
        # The keys whose calls a remote endpoint has not taken: since when (µs), and in how many runs.
        "create table failing (mapping {integer} not null, key {text} not null, since {integer} not null,"
        " runs {integer} not null, primary key (mapping, key)) {clustered}",
    ],
    [
        # The last blocks that hold calls of a source, as JSON (heard.py); of those that are there none is known.
        "alter table source add column blocks {text}",
        "update source set blocks = '{{\"whole\": false}}'",
    ],
    # Parts of the state that are compared no more (state.py); who does not know of them would compare them.
    [],
    # Why a profile is one is asked by its segments.
    ["create index edge_a on edge (a)"],
]
# The schema number of the first step.
FIRST = 2
# Queries that are kept prepared.
PREPARED = 32
# A question about at most so many things, asked for so many times, has its plan kept: planning takes longer than
# answering it.
FEW, OFTEN = 64, 5
_TYPES = {pa.int64(): "bigint", pa.string(): "text"}
_PLANNED = {**_TYPES, pa.int32(): "integer", pa.binary(): "bytea"}
# The classes of SQLSTATE that blame a value: data exception, program limit exceeded.
_VALUES = ("22", "54")
# Tables that give an integer to a name: the column of the integer, and those of the name.
NUMBERED = {"source": ("source", "slug"), "identifier_type": ("type", "collection", "name")}


class Connection(Protocol):
    """The part of an ADBC DB-API connection in autocommit mode that the store uses."""

    def cursor(self) -> Any: ...
    def close(self) -> None: ...


@dataclass(frozen=True)
class Dialect:
    """What differs between databases, at a glance."""

    words: dict[str, str]  # what stands in the braces of STEPS
    begin: tuple[str, ...]  # starts a transaction that writes: waits for its turn
    snapshot: tuple[str, ...]  # starts one that reads what is there now, whatever others write
    exists: str  # one row if the tables are there
    sizes: str  # each table's name, and its bytes with its indexes
    bulk: tuple[str, ...]  # said before a long run of large chunks
    numbers: str  # a query of the integers in a bound JSON list, as `number`
    items: str  # what has the items of a bound JSON list, as `value`
    within: str  # says of a column, the first, that it is one of what a query, the second, gives
    tuned: tuple[str, ...] = ()  # said after the tables were made
    settled: tuple[str, ...] = ()  # said after a long run of large chunks, outside of a turn
    plan: str = ""  # makes a query with one bound text the function `name` of this connection, which keeps its plan
    planning: str = ""  # one row if it may be made


class Engine(Protocol):
    """A database that can hold a space: a module of `stores` makes one."""

    dialect: Dialect
    name: str  # for messages; holds no secret

    def connect(self) -> Connection: ...

    def queue(self) -> AbstractContextManager[Any]:
        """Stand in line for a turn, until it has begun."""

    def crowded(self, connection: Connection) -> bool:
        """Whether somebody stands in line; asked within a turn."""

    def lease(self, connection: Connection, name: str, *, wait: bool) -> AbstractContextManager[bool]: ...

    def delete(self) -> None:
        """Delete the space, whole. Raises StoreError, `not_there` where there is none."""


def open(store: str, file: Path, schema: str | None = None) -> Store:  # noqa: A001 - always said as stores.open
    """The store of a space: `store` as in the workspace file, `file` where an embedded one lies; its stem is the slug.

    `schema` is where it lies in a database, if not in onefold_SLUG. It is created when it is not there yet. Raises
    StoreError.
    """
    return Store(engine(store, file, schema))


def engine(store: str, file: Path, schema: str | None = None) -> Engine:
    """The database of a space, for what `open` is given. Raises StoreError."""
    if store == "sqlite":
        from onefold.stores import sqlite

        return sqlite.Engine(file)
    from onefold.stores import postgres

    return postgres.Engine(store, file.stem, schema or f"onefold_{file.stem}")


class Store:
    """An open space. Not shared between threads; open one for each."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self._connection = engine.connect()
        self._cursor = self._connection.cursor()
        self._cursors: dict[str, Any] = {}  # query -> cursor, the last used last
        self._names: dict[str, Names] = {}
        # What those who ask keep of what never changes; gone with what a turn takes back.
        self.held: dict[str, Any] = {}
        self._asked: dict[str, int] = {}  # query -> how often
        self._planned: dict[str, str] = {}  # query -> the one to ask instead
        self._writer: ThreadPoolExecutor | None = None  # what `behind` writes by
        self._written: Future[None] | None = None  # the last that it was given
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
        for cursor in (self._cursor, *self._cursors.values()):
            cursor.close()
        self._connection.close()

    # --- statements -----------------------------------------------------------------------------------

    def query(self, sql: str, *values: Any) -> pa.Table:
        """The rows of a query as an Arrow table; `$1`, `$2` … are bound, numbered in order of appearance."""
        if self._written is not None:
            self._written.result()
        with self._failing():
            cursor = self._prepared(sql)
            cursor.execute(sql, values or None)
            return cursor.fetch_arrow_table()

    def _prepared(self, sql: str) -> Any:
        """A cursor that may have the query prepared: those used last are kept."""
        cursor = self._cursors.pop(sql, None) or self._connection.cursor()
        self._cursors[sql] = cursor
        if len(self._cursors) > PREPARED:
            oldest = next(iter(self._cursors))
            self._cursors.pop(oldest).close()
            self._asked.pop(oldest, None)
        return cursor

    def stream(self, sql: str) -> Iterator[pa.RecordBatch]:
        """The rows of a query, batch by batch as they are read; the store does nothing else to them meanwhile."""
        with self._failing(), self._connection.cursor() as cursor:
            cursor.execute(sql)
            yield from cursor.fetch_record_batch()

    def rows(self, sql: str, *values: Any) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.query(sql, *values).to_pylist()
        return found

    def ask(self, given: pa.Table | Numbers, sql: str) -> pa.Table:
        """The rows of a query that reads `asked a`: a table, or numbers in a column `number`.

        They are bound as one value, so that a query has one text, and is prepared once, for few rows and for many.
        """
        dialect = self.engine.dialect
        if isinstance(given, pa.Table):
            types = zip(given.column_names, map(_TYPES.__getitem__, given.schema.types), strict=True)
            cells = ", ".join(f"cast(value ->> {at} as {word}) as {name}" for at, (name, word) in enumerate(types))
            asked, rows = f"select {cells} from {dialect.items}", [list(row.values()) for row in given.to_pylist()]
        else:
            asked, rows = dialect.numbers, given.tolist()
        query, bound = f"with asked as ({asked}) {sql}", msgspec.json.encode(rows).decode()
        if not self._plans or len(rows) > FEW:
            return self.query(query, bound)
        if query in self._planned:
            return self.query(self._planned[query], bound)
        found = self.query(query, bound)
        self._asked[query] = self._asked.get(query, 0) + 1
        if self._asked[query] == OFTEN:
            self._plan(query, found.schema)
        return found

    @cached_property
    def _plans(self) -> bool:
        """Whether plans can be kept here."""
        dialect = self.engine.dialect
        return bool(dialect.plan and self.rows(dialect.planning))

    def _plan(self, query: str, answer: pa.Schema) -> None:
        """Keep the plan of a query from now on."""
        # A name of its own: one that was kept before a turn was taken back is still there.
        name = f"asked_{blake2b(query.encode(), digest_size=8).hexdigest()}"
        columns = ", ".join(f'"{field.name}" {_PLANNED[field.type]}' for field in answer)
        self.execute(self.engine.dialect.plan.format(name=name, columns=columns, query=query))
        self._planned[query] = f"select * from pg_temp.{name}($1)"

    def asked(self, given: pa.Table | Sequence[int] | Numbers, sql: str) -> list[dict[str, Any]]:
        """The rows of `ask` one by one; none if nothing is asked for."""
        if not len(given):
            return []
        found: list[dict[str, Any]] = self.ask(
            given if isinstance(given, pa.Table) else np.array(given, np.int64), sql
        ).to_pylist()
        return found

    def execute(self, sql: str, *values: Any) -> None:
        self._write(self._execute, sql, *values)

    def _execute(self, sql: str, *values: Any) -> None:
        self._cursor.execute(sql, values or None)
        # A statement runs when its result is read.
        if self._cursor.description:
            self._cursor.fetchall()

    def append(self, table: str, data: pa.Table) -> None:
        """Insert rows of whole columns; rows should come sorted by the table's key."""
        if data.num_rows:
            self._write(self._cursor.adbc_ingest, table, data, "append")

    def stage(self, table: str, data: pa.Table) -> None:
        """A temporary table of this connection, replaced if it is there."""
        self.execute(f"drop table if exists {table}")
        self._write(partial(self._cursor.adbc_ingest, temporary=True), table, data, "create")

    def _write(self, said: Callable[..., Any], *given: Any) -> None:
        """Say something that writes: here and now, or in the thread of `behind`, after what was said before."""
        before = self._written

        def work() -> None:
            if before is not None:
                before.result()  # nothing is said after what failed
            with self._failing():
                said(*given)

        if self._writer is None:
            work()
        else:
            self._written = self._writer.submit(work)

    @contextmanager
    def behind(self) -> Iterator[None]:
        """Within a turn: a thread writes what is said inside, in order, while the caller makes ready what comes next.

        A question waits until all is written that was said before it. What failed is raised at the end, or before.
        """
        with ThreadPoolExecutor(1, "store") as self._writer:
            try:
                yield
                if self._written is not None:
                    self._written.result()
            finally:
                self._writer.shutdown(cancel_futures=True)
                self._writer = self._written = None

    @contextmanager
    def turn(self, *, keep: bool = True) -> Iterator[None]:
        """A turn to write: everything said inside is committed whole, or not at all (`keep=False`: never)."""
        try:
            with self.engine.queue():
                for statement in self.engine.dialect.begin:
                    self.execute(statement)
            yield
            if keep:
                self.execute("commit")
        except BaseException:
            # A failed statement (a full disk) may have ended the transaction already, or the connection is gone and
            # the transaction with it. The first error tells.
            with suppress(StoreError):
                self._rollback()
            raise
        if not keep:
            self._rollback()

    def crowded(self) -> bool:
        """Whether somebody waits for this turn to end. Raises StoreError."""
        with self._failing():
            return self.engine.crowded(self._connection)

    @contextmanager
    def snapshot(self) -> Iterator[None]:
        """Everything read inside is as it was at the beginning; nobody is held up."""
        for statement in self.engine.dialect.snapshot:
            self.execute(statement)
        try:
            yield
        finally:
            with suppress(StoreError):  # the connection may be gone
                self._rollback()

    @contextmanager
    def attempt(self) -> Iterator[None]:
        """Within a turn: what is said inside is kept whole or not at all, and the turn goes on."""
        self.execute("savepoint attempt")
        try:
            yield
        except BaseException:
            self._forget()
            self.execute("rollback to savepoint attempt")
            raise
        self.execute("release savepoint attempt")

    def _rollback(self) -> None:
        self._forget()
        self.execute("rollback")

    def _forget(self) -> None:
        """Forget what may have been made in this turn: names that were given out, plans, what is held."""
        self._names.clear()
        self.held.clear()
        self._asked.clear()
        self._planned.clear()

    @contextmanager
    def _failing(self) -> Iterator[None]:
        from adbc_driver_manager import Error

        try:
            yield
        except Error as error:
            kind = ValueRefused if (error.sqlstate or "")[:2] in _VALUES else StoreError
            raise kind(f"space {self.engine.name}: {sentence(str(error))}") from error

    def lease(self, name: str, *, wait: bool) -> AbstractContextManager[bool]:
        """Hold `name` alone among all processes; yields False if it is held elsewhere and `wait` is off."""
        return self.engine.lease(self._connection, name, wait=wait)

    def prepare(self) -> None:
        """Make ready for a long run of large chunks."""
        for statement in self.engine.dialect.bulk:
            self.execute(statement)

    def settle(self) -> None:
        """Make ready for small questions, after a long run of large chunks; outside of a turn."""
        for statement in self.engine.dialect.settled:
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
                    for statement in self.engine.dialect.tuned:
                        self.execute(statement)
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

    def names(self, table: str) -> Names:
        """The integers of a table of names (NUMBERED)."""
        return self._names.setdefault(table, Names(self, table))


class Names:
    """The integers that stand for names: read when first asked for, and again when one is not there."""

    def __init__(self, store: Store, table: str) -> None:
        self._store = store
        self._table = table
        self._number, *self._columns = NUMBERED[table]
        self._numbers: dict[tuple[str, ...], int] = {}
        self._names: dict[int, tuple[str, ...]] = {}

    def _read(self) -> None:
        for row in self._store.rows(f"select {self._number}, {', '.join(self._columns)} from {self._table}"):
            self._keep(row[self._number], tuple(row[column] for column in self._columns))

    def _keep(self, number: int, name: tuple[str, ...]) -> None:
        self._numbers[name], self._names[number] = number, name

    def get(self, *name: str) -> int | None:
        """The integer of a name, or None. Raises StoreError."""
        if name not in self._numbers:
            self._read()
        return self._numbers.get(name)

    def add(self, *name: str) -> int:
        """The integer of a name, given out if it has none; within a turn. Raises StoreError."""
        number = self.get(*name)
        if number is None:
            number = max(self._names, default=0) + 1
            marks = ", ".join(f"${at + 2}" for at in range(len(name)))
            columns = ", ".join((self._number, *self._columns))
            self._store.execute(f"insert into {self._table} ({columns}) values ($1, {marks})", number, *name)
            self._keep(number, name)
        return number

    def __getitem__(self, number: int) -> tuple[str, ...]:
        if number not in self._names:
            self._read()
        return self._names[number]

    def __iter__(self) -> Iterator[tuple[str, ...]]:
        self._read()
        return iter(self._numbers)


def sentence(text: str) -> str:
    """The database's own words, without the driver's preamble."""
    for known, said in _KNOWN.items():
        if known in text:
            return said
    found = re.search(r"(?:ERROR|FATAL):\s*([^\n]*)", text)
    return found[1] if found else text.split("\n")[0]


_CUT = "the connection was cut; nothing of this step was written. Run it again"
_KNOWN = {
    "database or disk is full": "the disk is full; nothing of this step was written. Free some space and run it again",
    "unable to open database": "the file cannot be opened; check that its folder exists and may be written",
    "file is not a database": "the file is not a space; restore it from a backup",
    "readonly database": "the file may not be written; check its permissions",
    "server closed the connection": _CUT,
    "terminating connection": _CUT,
    "no connection to the server": _CUT,
    "database is locked": "another process has been writing for too long; try again when it is done",
}
