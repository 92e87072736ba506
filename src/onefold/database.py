"""A database of the catalog: a SQLite file, or a schema of PostgreSQL. Statements that both read, values bound by name.

Without SQLAlchemy, which takes a seventh of a second to load: only a catalog that lacks a step needs it (`migrations`).
"""

from __future__ import annotations

import json
import re
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any

from onefold import postgres
from onefold.errors import StoreError
from onefold.values import quote

Row = dict[str, Any]
# So many connections are kept for the next transaction.
KEPT = 5
_NAMED = re.compile(r"(?<!:):([a-z]\w*)")

# What columns of JSON hold in SQLite is text; PostgreSQL's driver reads it by itself.
sqlite3.register_converter("JSON", json.loads)


class Transaction:
    """What may be said in a transaction. Rows are name -> value; dicts and lists are JSON in the database."""

    def __init__(self, cursor: Any, *, postgresql: bool) -> None:
        self._cursor, self.postgresql = cursor, postgresql

    def run(self, sql: str, **bound: Any) -> int:
        """Run a statement with values for its `:name`s; how many rows it wrote."""
        return int(self._said(sql, bound).rowcount)

    def rows(self, sql: str, **bound: Any) -> list[Row]:
        found = self._said(sql, bound)
        names = [column[0] for column in found.description]
        return [dict(zip(names, row, strict=True)) for row in found.fetchall()]

    def row(self, sql: str, **bound: Any) -> Row | None:
        """The first row, if there is one."""
        return next(iter(self.rows(sql, **bound)), None)

    def value(self, sql: str, **bound: Any) -> Any:
        """The first column of the first row; None without one."""
        row = self._said(sql, bound).fetchone()
        return None if row is None else row[0]

    def insert(self, table: str, rows: Sequence[Row]) -> None:
        """Add rows, all of which have the same columns."""
        for row in rows:
            names, places = ", ".join(map(quote, row)), ", ".join(f":{name}" for name in row)
            self._said(f"insert into {quote(table)} ({names}) values ({places})", row)

    def update(self, table: str, values: Row, where: str, **bound: Any) -> int:
        """Set columns of the rows of a condition; how many they are."""
        setting = ", ".join(f"{quote(name)} = :new_{name}" for name in values)
        new = {f"new_{name}": value for name, value in values.items()}
        return self.run(f"update {quote(table)} set {setting} where {where}", **new, **bound)

    def tables(self) -> list[str]:
        """The names of the tables, whatever module keeps something in them."""
        if self.postgresql:
            named = "select tablename as name from pg_tables where schemaname = current_schema() order by 1"
        else:
            named = "select name from sqlite_master where type = 'table' and substr(name, 1, 7) <> 'sqlite_' order by 1"
        return [row["name"] for row in self.rows(named)]

    def _said(self, sql: str, bound: Row) -> Any:
        given = {name: json.dumps(value) if isinstance(value, dict | list | tuple) else value
                 for name, value in bound.items()}  # fmt: skip
        self._cursor.execute(_percent(sql) if self.postgresql else sql, given)
        return self._cursor


@cache
def _percent(sql: str) -> str:
    """A statement as PostgreSQL's driver wants its names."""
    return _NAMED.sub(r"%(\1)s", sql.replace("%", "%%"))


def beginning(text: str) -> str:
    """The pattern, for `like … escape '/'`, of texts that begin so."""
    return re.sub(r"([/%_])", r"/\1", text) + "%"


class Database:
    """Connections to one database, as many as there are transactions at a time. Every method raises StoreError."""

    def __init__(self, place: Path | str, schema: str) -> None:
        """`place` is a file, or the url of a PostgreSQL database."""
        self.place, self.schema = place, schema
        self.postgresql = not isinstance(place, Path)
        self._idle: list[Any] = []

    def close(self) -> None:
        while self._idle:
            self._idle.pop().close()

    @contextmanager
    def transaction(self) -> Iterator[Transaction]:
        """All or nothing."""
        with self._failing():
            connection = self._taken()
        try:
            with self._failing(), closing(connection.cursor()) as cursor:
                yield Transaction(cursor, postgresql=self.postgresql)
                connection.commit()
        except BaseException:
            with suppress(*self._errors()):
                connection.rollback()
            connection.close()
            raise
        if len(self._idle) < KEPT:
            self._idle.append(connection)
        else:
            connection.close()

    def _taken(self) -> Any:
        """A connection that nobody else uses."""
        while True:
            try:
                connection = self._idle.pop()
            except IndexError:
                return self.connect()
            if not self.postgresql or _alive(connection):
                return connection
            connection.close()  # its server was restarted

    def connect(self, *, typed: bool = True) -> Any:
        """Another connection; `typed`: it reads JSON. Raises what the driver raises."""
        if isinstance(self.place, Path):
            self.place.parent.mkdir(parents=True, exist_ok=True)
            detect = sqlite3.PARSE_DECLTYPES if typed else 0
            connection = sqlite3.connect(self.place, timeout=60, check_same_thread=False, detect_types=detect)
            connection.execute("pragma journal_mode = wal")
            return connection
        return _server(self.place, self.schema)

    @contextmanager
    def _failing(self) -> Iterator[None]:
        try:
            yield
        except self._errors() as error:
            why = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise StoreError(f"the catalog cannot be read or written: {why}") from None

    def _errors(self) -> tuple[type[Exception], ...]:
        if not self.postgresql:
            return (sqlite3.Error,)
        import psycopg

        return (psycopg.Error,)


def _alive(connection: Any) -> bool:
    import psycopg

    try:
        connection.execute("select 1")
        connection.rollback()
    except psycopg.Error:
        return False
    return True


def _server(url: str, schema: str) -> Any:
    import psycopg

    connection = psycopg.connect(postgres.patient(url))
    with connection.cursor() as cursor:
        if not cursor.execute("select 1 from pg_namespace where nspname = %s", (schema,)).fetchall():
            cursor.execute(f"create schema if not exists {quote(schema)}".encode())
        cursor.execute(f"set search_path to {quote(schema)}".encode())
    connection.commit()
    return connection


def driver() -> None:
    """Raises StoreError where PostgreSQL's driver is missing."""
    try:
        import psycopg  # noqa: F401 - whether it can be loaded is the question
    except ImportError as error:
        raise StoreError(
            "a catalog in PostgreSQL needs a driver; install it with: pip install 'onefold[postgres]'",
            code="missing_driver",
        ) from error
