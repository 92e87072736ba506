"""A schema of a PostgreSQL database, through ADBC: rows go in by COPY, as Arrow."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import duckdb

from onefold import postgres
from onefold.errors import TargetError
from onefold.profiles_sync.tables import RAW, VIEWS
from onefold.profiles_sync.targets import BESIDE, KEY, POSITION, Change
from onefold.stores import sentence
from onefold.values import quote

_TYPES = {"double": "double precision", "timestamp": "timestamptz"}
_BATCH_ROWS = 65_536
_SCHEMA = "select nspname from pg_namespace where nspname = $1"
# What a server takes to sort the keys of an index in; its own figure is meant for small ones.
_SORTING = "256MB"


class Target:
    """A schema of the database of a url."""

    def __init__(self, url: str, _: Path, schema: str) -> None:
        found = postgres.name(url)
        if found is None:
            raise TargetError(f"the target's PostgreSQL url {postgres.UNREADABLE}", code="invalid_url")
        self._url, self.schema = url, schema
        self.name = f"PostgreSQL {found}"
        self._dropped: list[str] = []
        self._connection: Any = None

    def open(self, kernel: duckdb.DuckDBPyConnection, *, write: bool = True) -> None:
        try:
            import adbc_driver_postgresql.dbapi as driver
        except ImportError as error:
            raise TargetError(
                "a target in PostgreSQL needs a driver; install it with: pip install 'onefold[postgres]'",
                code="missing_driver",
            ) from error
        self.kernel = kernel
        try:
            self._connection = driver.connect(postgres.patient(self._url), autocommit=True)
        except driver.Error as error:
            # Without the cause, whose words may hold secrets.
            why = (
                "the user or password is refused" if postgres.refused(str(error)) else postgres.unreachable(str(error))
            )
            raise TargetError(f"target {self.name} cannot be reached: {why}") from None
        self._say("set application_name = 'onefold'", "set client_min_messages = warning")
        if write and not self._rows(_SCHEMA, self.schema):
            self._make()
        self._say(f"set search_path to {quote(self.schema)}")
        if not write:
            return
        self._say(f"create table if not exists {POSITION} (position text not null)")
        for table in self._tables():
            if table.endswith(BESIDE):
                self._say(f"drop table {quote(table)}")

    def _make(self) -> None:
        """Make the schema. Who may not is told what to ask for."""
        try:
            self._say(f"create schema if not exists {quote(self.schema)}")
        except TargetError as error:
            if "permission denied" not in str(error):
                raise
            does = f"let somebody who may run: create schema {quote(self.schema)} authorization {quote(self._user())}"
            raise TargetError(f"{error}; {does}", code="no_permission") from error

    def _user(self) -> str:
        return str(self._rows("select current_user::text as name")[0]["name"])

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()

    def _tables(self) -> list[str]:
        query = "select tablename from pg_tables where schemaname = current_schema()"
        return [row["tablename"] for row in self._rows(query)]

    def position(self) -> str | None:
        if POSITION not in self._tables():
            return None
        found = self._rows(f"select position from {POSITION}")
        return str(found[0]["position"]) if found else None

    def create(self, table: str, columns: Mapping[str, str]) -> None:
        self._say(f"create table {quote(table + BESIDE)} ({_columns(columns)})")

    def add(self, table: str, columns: Mapping[str, str], beside: str = BESIDE) -> None:
        if columns:
            added = ", ".join(f"add column {_columns({name: kind})}" for name, kind in columns.items())
            self._say(f"alter table {quote(table + beside)} {added}")

    def append(self, table: str, sql: str) -> int:
        reader = self.kernel.sql(sql).to_arrow_reader(_BATCH_ROWS)
        with self._failing(), self._connection.cursor() as cursor:
            return int(cursor.adbc_ingest(table + BESIDE, reader, mode="append", db_schema_name=self.schema))

    def drop(self, tables: Sequence[str]) -> None:
        self._dropped += tables

    def ahead(self, gone: Mapping[str, str]) -> None:
        """Rows go where all is put in place: nothing of a table can be made beside."""

    def keep(self, position: str, changes: Mapping[str, Change], views: Mapping[str, str]) -> None:
        for gone in {change.gone for change in changes.values() if change.gone}:
            self._say(f"drop table if exists pg_temp.{gone}")
            with self._failing(), self._connection.cursor() as cursor:
                ids = self.kernel.sql(f"select segment_id from {gone}").to_arrow_table()
                cursor.adbc_ingest(gone, ids, mode="create", temporary=True)
            self._say(f"analyze pg_temp.{gone}")
        self._say(*(f"analyze {quote(table + BESIDE)}" for table, change in changes.items() if not change.new))
        self._say(f"set maintenance_work_mem = '{_SORTING}'")
        self._say("begin")
        try:
            # Whoever comes second waits here, and finds what the first one kept.
            self._say(f"lock table {POSITION} in exclusive mode")
            self._say(*(f"drop view if exists {quote(view)}" for view in VIEWS))
            self._say(*(f"drop table if exists {quote(table)}" for table in self._dropped))
            for table, change in changes.items():
                self._place(table, change)
            named = {table: quote(table) for table in RAW}
            self._say(*(f"create view {quote(view)} as {sql.format_map(named)}" for view, sql in views.items()))
            self._say(f"delete from {POSITION}")
            with self._failing(), self._connection.cursor() as cursor:
                cursor.execute(f"insert into {POSITION} values ($1)", (position,))
            self._say("commit")
        except BaseException:
            with suppress(TargetError):
                self._say("rollback")
            raise

    def _place(self, table: str, change: Change) -> None:
        beside, there = quote(table + BESIDE), quote(table)
        if change.new:
            self._say(f"drop table if exists {there}", f"alter table {beside} rename to {there}")
            if KEY in change.columns:
                self._say(f"create index on {there} ({KEY})")
            return
        self.add(table, change.added, "")
        if change.gone:
            self._say(f"delete from {there} where {KEY} in (select segment_id from pg_temp.{change.gone})")
        names = ", ".join(map(quote, change.columns))
        self._say(f"insert into {there} ({names}) select {names} from {beside}", f"drop table {beside}")

    def rows(self, table: str) -> str:
        with self._failing(), self._connection.cursor() as cursor:
            cursor.execute(f"select * from {quote(table)}")
            self.kernel.register("fetched", cursor.fetch_record_batch())
            self.kernel.execute(f"create or replace temp table {quote('target ' + table)} as from fetched")
        return quote("target " + table)

    def _say(self, *statements: str) -> None:
        with self._failing(), self._connection.cursor() as cursor:
            for statement in statements:
                cursor.execute(statement)

    def _rows(self, sql: str, *bound: str) -> list[dict[str, Any]]:
        with self._failing(), self._connection.cursor() as cursor:
            cursor.execute(sql, bound)
            found: list[dict[str, Any]] = cursor.fetch_arrow_table().to_pylist()
            return found

    @contextmanager
    def _failing(self) -> Iterator[None]:
        from adbc_driver_manager import Error

        try:
            yield
        except (Error, OSError) as error:
            raise TargetError(f"target {self.name}: {sentence(str(error))}") from error


def _columns(columns: Mapping[str, str]) -> str:
    return ", ".join(f"{quote(name)} {_type(name, kind)}" for name, kind in columns.items())


def _type(name: str, kind: str) -> str:
    """The type of a column. Ids of segments are compared byte by byte, which sorts them in a third of the time."""
    return 'text collate "C"' if name.endswith("segment_id") and kind == "text" else _TYPES.get(kind, kind)
