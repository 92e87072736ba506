"""Diff: which rows of a model were added, changed or deleted since the mapping last saw them.

The query's result is staged once in a local DuckDB (one snapshot) and compared with the state, a key and a
checksum a row (design, section 5b).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from onefold import canonical, values
from onefold.errors import SyncStopped, WarehouseError
from onefold.processes import scratch
from onefold.state import (
    GONE,
    OPEN_DELETED,
    OPEN_NEW,
    OPEN_UPDATED,
    REJECTED_DELETED,
    REJECTED_NEW,
    REJECTED_UPDATED,
    STATE,
)

MASS_DELETE_FROM = 100  # known keys from which a run may not delete more than half of them unasked


@dataclass(frozen=True)
class Counts:
    """What the comparison found, in rows. `null_keys` and `repeated_keys` are rejected."""

    extracted: int
    added: int
    updated: int
    deleted: int
    unchanged: int
    null_keys: int
    repeated_keys: int
    known: int
    retried: int = 0  # of the changed rows: those rejected before, or whose last call was not acknowledged

    @property
    def changed(self) -> int:
        return self.added + self.updated + self.deleted


class Staging:
    """The rows of one extraction and their comparison; lives in a temporary DuckDB of its own."""

    def __init__(self, connection: Any) -> None:
        self._db = connection
        self.columns: list[str] = []
        self._kinds: list[Any] = []
        self._narrowed = False

    def interrupt(self) -> None:
        """Break off, from another thread, what is computed here."""
        self._db.interrupt()

    def load(self, reader: pa.RecordBatchReader, key: str, told: Callable[[int], None] = lambda _: None) -> int:
        """Stage all rows with their key and checksum. Returns their number. Raises WarehouseError.

        `told` hears how many there are so far.
        """
        self.columns = list(reader.schema.names)
        if key not in self.columns:
            raise WarehouseError(
                f"the model has no column {key!r}, its key; it has {', '.join(self.columns)}",
                code="missing_key_column",
            )
        self._db.register("shape", pa.RecordBatchReader.from_batches(reader.schema, []))
        self._kinds = list(self._db.table("shape").types)
        self._db.unregister("shape")
        named = self.schema()
        kind = self._kinds[self.columns.index(key)]
        self._db.register("incoming", _counted(reader, told))
        with _streaming():
            self._db.execute(f"create table rows as select * from incoming as t({', '.join(self._names())})")
        self._db.unregister("incoming")
        # A pass of its own: the rows come one after another, but are hashed side by side.
        self._db.execute(
            "create table staged as select rowid as pos,"
            f" {values.json_sql(self._names()[self.columns.index(key)], kind)} as key,"
            f" {values.checksum_sql(named)} as checksum from rows"
        )
        return int(self._one("select count(*) from staged"))

    def _names(self) -> list[str]:
        return [f"c{at}" for at in range(len(self.columns))]

    def narrow(self, keys: Sequence[str]) -> int:
        """Look at the rows of some keys only, and try again those of them that were rejected. Returns their number."""
        self._narrowed = True
        self._db.register("asked", pa.table({"key": pa.array(keys, pa.string())}))
        self._db.execute("delete from staged where key is null or key not in (select key from asked)")
        return int(self._one("select count(*) from staged"))

    def compare(self, known: tuple[pa.Table, pa.Table], epoch: int, version: int, base: int) -> Counts:
        """Compare with the state (state.read). Rows are `new` when unseen in this epoch; counters begin at `base`."""
        first, later = known
        self._db.register("first", first)
        self._db.register("later", later)
        seen = "first"
        if later.num_rows:
            self._db.execute(
                "create table latest as select * exclude (part) from later"
                " qualify row_number() over (partition by key order by part desc) = 1"
            )
            seen = "(select * from first where key not in (select key from latest) union all from latest)"
        asked = "where key in (select key from asked)" if self._narrowed else ""
        self._db.execute(f"create view seen as from {seen} {asked}")
        self._db.execute("create table repeated as select key from staged group by key having count(*) > 1")
        rejected = f"({REJECTED_NEW}, {REJECTED_UPDATED}, {REJECTED_DELETED})"
        retried = f"k.status in {_OPEN} or k.status in {rejected}"
        # One pass over both: most rows are what they were, and go no further. Of a row that is staged there is a `pos`.
        self._db.execute(
            f"""create table compared as
            select s.pos, coalesce(s.key, k.key) as key, s.checksum, k.key is not null as known, k.checksum as before,
                k.epoch, k.version, k.counter, k.status, coalesce({retried}, false) as retried
            from staged s full join seen k on k.key = s.key
            where s.pos is null or k.key is null or k.epoch <> $1 or k.checksum <> s.checksum
                or k.status in ({REJECTED_DELETED}, {GONE}) or k.status in {_OPEN}
                or (k.status in {rejected} and (k.version <> $2 or {self._narrowed}))""",
            [epoch, version],
        )
        # The same call again keeps its counter, and so its message id; another one gets the next.
        again = f"version = $2 and before = checksum and status in ({OPEN_NEW}, {OPEN_UPDATED})"
        self._db.execute(
            f"""create table changed as
            select pos, key, checksum, known, retried,
                case when not known or status = {GONE} then $3 when {again} then counter - 1
                     else counter end as counter,
                case when not known or epoch <> $1
                     or status in ({REJECTED_NEW}, {REJECTED_DELETED}, {GONE}, {OPEN_NEW}, {OPEN_DELETED})
                     then 'new' else 'updated' end as event
            from compared where pos is not null and key is not null and not {_REPEATED}""",
            [epoch, version, base],
        )
        self._db.execute(
            f"""create table deleted as
            select key, before as checksum, 'deleted' as event, retried,
                counter - (status = {OPEN_DELETED} and version = $1)::int as counter
            from compared where pos is null and status <> {GONE}
                and (status <> {REJECTED_DELETED} or version <> $1 or {self._narrowed})""",
            [version],
        )
        self._db.execute("drop table compared")
        return self._counts()

    def seen(self) -> pa.Table:
        """The state that `compare` was given, as one part (STATE)."""
        return self._table(f"select {', '.join(STATE.names)} from seen").cast(STATE)

    def _counts(self) -> Counts:
        extracted = int(self._one("select count(*) from staged"))
        added = int(self._one("select count(*) from changed where event = 'new'"))
        updated = int(self._one("select count(*) from changed where event = 'updated'"))
        nulls = int(self._one("select count(*) from staged where key is null"))
        repeated = int(self._one(f"select count(*) from staged where {_REPEATED}"))
        return Counts(
            extracted=extracted,
            added=added,
            updated=updated,
            deleted=int(self._one("select count(*) from deleted")),
            unchanged=extracted - added - updated - nulls - repeated,
            null_keys=nulls,
            repeated_keys=repeated,
            known=int(self._one(f"select count(*) from seen where status not in ({_ABSENT})")),
            retried=sum(int(self._one(f"select count(*) from {table} where retried")) for table in _CHANGES),
        )

    def schema(self) -> list[tuple[str, str, Any]]:
        """The staged columns: name, SQL, DuckDB type."""
        return list(zip(self.columns, self._names(), self._kinds, strict=True))

    def ease(self) -> None:
        """Make columns of JSON that hold nothing but short numbers columns of numbers: they read the same.

        PostgreSQL's numerics come so, and JSON has to be mapped row by row.
        """
        for at, (name, kind) in enumerate(zip(self._names(), self._kinds, strict=True)):
            if str(kind) == "JSON" and self._one(f"select bool_and({_SHORT.format(name)}) from rows"):
                self._db.execute(f"alter table rows alter {name} type double using {name}::varchar::double")
                self._kinds[at] = self._db.table("rows").types[at]

    def changes(
        self,
        rows: int,
        select: Sequence[tuple[str, str]] = (),
        computing: Callable[[pa.Table], pa.Table] | None = None,
    ) -> Iterator[pa.Table]:
        """The changed rows in the query's order, then the deleted ones by key, in chunks of at most `rows`.

        Columns: key, checksum, counter, event, known (whether the state has the key) and record (the row as a JSON
        object; null for a deleted one). `select` adds (SQL, name) over the rows `s` and changes `n`; where one of
        them is named `plain` it says which rows need no record. `computing` makes more columns of a first look at
        the chunk (n, key, counter, event, record), to be selected from by their names.
        """
        record = values.row_sql(self.schema())
        needed = f"case when plain then null else {record} end" if "plain" in (name for _, name in select) else record
        more = "".join(f", {sql} as {name}" for sql, name in select)
        self._db.execute("create table numbered as select *, row_number() over (order by pos) as n from changed")
        total = int(self._one("select count(*) from numbered"))
        chunk = "numbered n join rows s on s.rowid = n.pos"
        within = "n.n > $1 and n.n <= $2 order by n.n"
        for start in range(0, total, rows):
            bounds = (start, start + rows)
            source = chunk
            if computing is not None:
                look = f"select n.n, n.key, n.counter, n.event, {record} as record from {chunk} where {within}"
                self._db.register("computed", computing(self._table(look, *bounds)))
                source = f"{chunk} join computed using (n)"
            yield self._table(
                f"select n.key, n.checksum, n.counter, n.event, n.known{more}, {needed} as record"
                f" from {source} where {within}",
                *bounds,
            )
        self._db.execute("create table gone as select *, row_number() over (order by key) as n from deleted")
        for start in range(0, int(self._one("select count(*) from gone")), rows):
            yield self._table(
                "select key, checksum, counter, event, true as known, null::varchar as record from gone"
                " where n > $1 and n <= $2 order by n",
                start,
                start + rows,
            )

    def records(self, limit: int, *, key: str | None = None) -> Iterator[dict[str, Any]]:
        """Staged rows as mappings see them, in order; only those whose key reads `key`, if given."""
        record = values.row_sql(self.schema())
        where, bound = "", list[str | int]([limit])
        if key is not None:
            where, bound = "where key = $1 or key = $2", [key, canonical.encode(key), limit]
        rows = self._db.sql(
            f"select {record} as record from staged s join rows on rows.rowid = s.pos {where}"
            f" order by pos limit ${len(bound)}",
            params=bound,
        ).fetchall()
        return (json.loads(row[0]) for row in rows)

    def rows(self, keys: Sequence[str]) -> dict[str, str]:
        """The staged rows of some keys, each as a JSON object; may be asked from another thread."""
        record = values.row_sql(self.schema())
        sql = f"select s.key, {record} from staged s join rows on rows.rowid = s.pos where s.key in (select unnest($1))"
        with self._db.cursor() as cursor:
            return dict(cursor.execute(sql, [list(keys)]).fetchall())

    def rejected(self, rows: int) -> Iterator[pa.Table]:
        """The rows whose key is NULL or repeated, in order, in chunks: key, record."""
        record = values.row_sql(self.schema())
        self._db.execute(
            "create table refused as select pos, key, row_number() over (order by pos) as n from staged"
            f" where key is null or {_REPEATED}"
        )
        for start in range(0, int(self._one("select count(*) from refused")), rows):
            yield self._table(
                f"select r.key, {record} as record from refused r join rows s on s.rowid = r.pos"
                " where r.n > $1 and r.n <= $2 order by r.n",
                start,
                start + rows,
            )

    def _one(self, sql: str) -> Any:
        return self._db.execute(sql).fetchall()[0][0]

    def _table(self, sql: str, *bound: int) -> pa.Table:
        return self._db.sql(sql, params=list(bound)).to_arrow_table()


# Whether a JSON text is a number that a double writes the same way: up to 15 digits, none needless, no exponent.
_SHORT = (
    "regexp_full_match({0}::varchar, '0|-?[1-9][0-9]{{0,14}}|-?(0|[1-9][0-9]{{0,8}})\\.[0-9]{{0,5}}[1-9]')"
    " and not regexp_matches({0}::varchar, '^-?0\\.0000')"
)
_CHANGES = ("changed", "deleted")
_OPEN = f"({OPEN_NEW}, {OPEN_UPDATED}, {OPEN_DELETED})"
_ABSENT = f"{REJECTED_DELETED}, {GONE}, {OPEN_DELETED}"
_REPEATED = "key in (select key from repeated where key is not null)"


def _counted(reader: pa.RecordBatchReader, told: Callable[[int], None]) -> pa.RecordBatchReader:
    """The same rows; `told` hears how many have gone by."""

    def batches() -> Iterator[pa.RecordBatch]:
        rows = 0
        for batch in reader:
            yield batch
            rows += batch.num_rows
            told(rows)

    return pa.RecordBatchReader.from_batches(reader.schema, batches())


@contextmanager
def _streaming() -> Iterator[None]:
    """An error while the warehouse is read arrives wrapped by DuckDB: give its own words. Raises WarehouseError."""
    import duckdb

    try:
        yield
    except duckdb.Error as error:
        said = str(error).strip()
        for wrapping in ("Unknown error: ", "Invalid: ", "IOError: "):
            said = said.rpartition(wrapping)[2] if wrapping in said else said
        said = said.split("Detail: Python exception")[0].strip().rstrip(".")
        raise WarehouseError(f"reading the model failed: {' '.join(said.split())}", code="sql_error") from error


@contextmanager
def staging(temp: Path, memory: str = "2GB") -> Iterator[Staging]:
    """A Staging whose database spills into `temp` beyond `memory`, and is gone afterwards."""
    import duckdb

    with scratch(temp, "staging") as folder:
        config: dict[str, Any] = {"memory_limit": memory, "temp_directory": str(folder)}
        with duckdb.connect(":memory:", config=config) as connection:
            connection.execute("set TimeZone = 'UTC'")
            yield Staging(connection)


def guard(counts: Counts, *, allow_deletes: bool) -> None:
    """Stop a run that found implausibly many rows gone (design, section 5b). Raises SyncStopped."""
    if allow_deletes or counts.known < MASS_DELETE_FROM or counts.deleted * 2 <= counts.known:
        return
    raise SyncStopped(
        f"{counts.deleted:,} of {counts.known:,} known rows are no longer in the model; nothing was changed."
        " If that is right, run the sync again with --allow-deletes",
        code="mass_delete",
    )
