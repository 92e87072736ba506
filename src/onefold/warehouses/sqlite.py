"""A SQLite file, read with Python's own sqlite3: values have types there, columns only intentions.

The type of a column is what its values are, looked at in the same transaction before they are read.
"""

from __future__ import annotations

import base64
import json
import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa

from onefold import canonical, values
from onefold.errors import WarehouseError
from onefold.warehouses import BATCH_ROWS, Column, Table, check, limited

# What a query may do: read tables and call functions, nothing else.
_ALLOWED = {sqlite3.SQLITE_SELECT, sqlite3.SQLITE_READ, sqlite3.SQLITE_FUNCTION, sqlite3.SQLITE_RECURSIVE}
_EXACT = 2**53


class Warehouse:
    """A source of type sqlite; its option is `path`."""

    def __init__(self, options: Mapping[str, Any], folder: Path) -> None:
        self.path = folder / str(options["path"])

    def tables(self) -> list[Table]:
        with self._connected() as connection:
            names = connection.execute(
                "select name from sqlite_master where type in ('table', 'view') and name not like 'sqlite_%' order by 1"
            ).fetchall()
            return [
                Table(name, tuple(Column(row[1], row[2]) for row in connection.execute(_info(name))))
                for (name,) in names
            ]

    @contextmanager
    def read(self, sql: str, *, limit: int | None = None) -> Iterator[pa.RecordBatchReader]:
        query = limited(sql.rstrip().rstrip(";"), limit)
        with self._connected() as connection:
            connection.execute("begin")  # one snapshot for the look and the read
            connection.set_authorizer(lambda action, *_: 0 if action in _ALLOWED else 1)
            cursor = connection.execute(query)
            if cursor.description is None:
                raise WarehouseError("a model is exactly one SELECT; this is something else", code="not_a_select")
            names = [column[0] for column in cursor.description]
            check(pa.schema([(name, pa.null()) for name in names]))
            columns = [
                _column(connection, query, name, declared)
                for name, declared in zip(names, self._declared(query, names), strict=True)
            ]
            schema = pa.schema([(name, kind) for name, (kind, _) in zip(names, columns, strict=True)])
            yield pa.RecordBatchReader.from_batches(schema, self._batches(cursor, schema, columns))

    def _batches(self, cursor: sqlite3.Cursor, schema: pa.Schema, columns: Sequence[Any]) -> Iterator[pa.RecordBatch]:
        try:
            while found := cursor.fetchmany(BATCH_ROWS):
                arrays = [
                    _array(list(map(convert, column)) if convert else column, kind)
                    for column, (kind, convert) in zip(zip(*found, strict=True), columns, strict=True)
                ]
                yield pa.RecordBatch.from_arrays(arrays, schema=schema)
        except sqlite3.Error as error:
            raise self._failed(error) from error

    def _declared(self, query: str, names: Sequence[str]) -> list[str]:
        """The declared type of each column that a query passes on from a table, else ''."""
        with self._connected() as connection, closing(connection.cursor()) as cursor:
            # A view is the one place where SQLite tells declared types through a query.
            connection.execute("pragma query_only = 0")
            cursor.execute(f"create temp view looked_at as {query}")
            found = [row[2] or "" for row in cursor.execute("pragma table_info(looked_at)")]
        return found if len(found) == len(names) else [""] * len(names)

    @contextmanager
    def _connected(self) -> Iterator[sqlite3.Connection]:
        if not self.path.is_file():
            raise WarehouseError(
                f"there is no SQLite file {self.path}; check the source's path", code="warehouse_missing"
            )
        # The rows are taken over by whatever thread DuckDB reads them with, one at a time.
        try:
            with closing(
                sqlite3.connect(
                    f"{self.path.absolute().as_uri()}?mode=ro", uri=True, isolation_level=None, check_same_thread=False
                )
            ) as connection:
                connection.execute("pragma query_only = 1")
                connection.execute("select 1 from sqlite_master").fetchall()
                yield connection
        except (sqlite3.Error, sqlite3.Warning) as error:
            raise self._failed(error) from error

    def _failed(self, error: Exception) -> WarehouseError:
        text = str(error)
        if "not a database" in text:
            return WarehouseError(f"{self.path} is not a SQLite file; check the source's path", code="not_a_warehouse")
        if "not authorized" in text or "one statement" in text or ("syntax error" in text and "create temp" in text):
            return WarehouseError("a model is exactly one SELECT; this is something else", code="not_a_select")
        if "decode to UTF-8" in text:
            return WarehouseError(f"SQLite file {self.path}: a text is not UTF-8: {text}", code="invalid_data")
        return WarehouseError(f"SQLite file {self.path}: {text}", code="sql_error")


def _info(table: str) -> str:
    return f"pragma table_info({values.quote(table)})"


def _column(
    connection: sqlite3.Connection, query: str, name: str, declared: str
) -> tuple[pa.DataType, Callable[[Any], Any] | None]:
    """The Arrow type of a column, and what makes its values fit it."""
    column = values.quote(name)
    kinds = {row[0] for row in connection.execute(f"select distinct typeof({column}) from (\n{query}\n)")} - {"null"}
    declared = declared.upper().split("(")[0].strip()
    if kinds <= {"integer"}:
        if declared in ("BOOLEAN", "BOOL") and _all(connection, query, f"{column} in (0, 1)", column):
            return pa.bool_(), lambda value: None if value is None else bool(value)
        return pa.int64(), None
    if kinds <= {"integer", "real"}:
        exact = kinds == {"real"} or _all(
            connection, query, f"typeof({column}) = 'real' or abs({column}) <= {_EXACT}", column
        )
        return (pa.float64(), lambda value: None if value is None else float(value)) if exact else _JSON
    if kinds == {"text"}:
        return _text(connection, query, column, declared)
    if kinds == {"blob"}:
        return pa.binary(), None
    return _JSON


def _all(connection: sqlite3.Connection, query: str, condition: str, column: str) -> bool:
    odd = f"select 1 from (\n{query}\n) where {column} is not null and not ({condition}) limit 1"
    return connection.execute(odd).fetchone() is None


def _text(
    connection: sqlite3.Connection, query: str, column: str, declared: str
) -> tuple[pa.DataType, Callable[[Any], Any] | None]:
    """Text whose column was declared a time or JSON is that, if all of it can be read so."""
    readers: dict[str, tuple[pa.DataType, Callable[[Any], Any]]] = {
        "DATE": (pa.date32(), date.fromisoformat),
        "DATETIME": (pa.timestamp("us"), _moment),
        "TIMESTAMP": (pa.timestamp("us"), _moment),
        "JSON": (pa.json_(), lambda value: canonical.encode(json.loads(value))),
    }
    if declared not in readers:
        return pa.string(), None
    kind, read = readers[declared]
    try:
        for (value,) in connection.execute(f"select {column} from (\n{query}\n) where {column} is not null"):
            read(value)
    except (ValueError, canonical.InvalidValue):
        return pa.string(), None
    return kind, lambda value: None if value is None else read(value)


def _moment(value: str) -> datetime:
    found = datetime.fromisoformat(value)
    return found if found.tzinfo is None else found.astimezone(UTC).replace(tzinfo=None)


def _as_json(value: Any) -> str | None:
    if value is None:
        return None
    return canonical.encode(base64.b64encode(value).decode() if isinstance(value, bytes) else value)


_JSON = (pa.json_(), _as_json)


def _array(column: Sequence[Any], kind: pa.DataType) -> pa.Array:
    if isinstance(kind, pa.JsonType):
        return pa.ExtensionArray.from_storage(kind, pa.array(column, pa.string()))
    return pa.array(column, kind)
