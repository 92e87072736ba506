"""A SQLite file, read with Python's own sqlite3: values have types there, columns only intentions.

The type of a column is what its values are, looked at in the same transaction before they are read.
"""

from __future__ import annotations

import base64
import json
import math
import re
import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa

from onefold import canonical, values
from onefold.errors import WarehouseError
from onefold.warehouses import Breakable, Column, Table, check, limited, not_a_select, statement, streamed

# What a query may do: read tables and call functions, nothing else.
_ALLOWED = {sqlite3.SQLITE_SELECT, sqlite3.SQLITE_READ, sqlite3.SQLITE_FUNCTION, sqlite3.SQLITE_RECURSIVE}
# Integers up to here are exact as doubles.
_EXACT = 2**53
# Rows that are Python objects at one time: more of them is slower.
_ROWS = 2_048

# The Arrow type of a column and what makes its values, NULL aside, fit it.
Kind = tuple[pa.DataType, Callable[[Any], Any] | None]


class Warehouse(Breakable):
    """A source of type sqlite; its option is `path`."""

    typed = False  # a type is that of the values that are read

    def __init__(self, options: Mapping[str, Any], folder: Path, _: Path | None = None) -> None:
        super().__init__()
        self.path = folder / str(options["path"])

    def tables(self) -> list[Table]:
        with self._connected() as connection:
            names = connection.execute(
                "select name from sqlite_master where type in ('table', 'view') and name not like 'sqlite_%' order by 1"
            ).fetchall()
            return [Table(name, _columns(connection, name)) for (name,) in names]

    @contextmanager
    def read(self, sql: str, *, limit: int | None = None) -> Iterator[pa.RecordBatchReader]:
        model = statement(sql, ("select", "with", "values"))
        with self._connected() as connection, self.breakable(connection.interrupt):
            connection.execute("begin")  # one snapshot for the look and the read
            connection.set_authorizer(lambda action, *_: sqlite3.SQLITE_OK if action in _ALLOWED else 1)
            with closing(connection.execute(model)) as described:  # unlimited: a limit renames repeated columns
                names = [column[0] for column in described.description]
            check(names)
            query = limited(model, limit)
            columns = [f"c{at}" for at in range(len(names))]
            kinds = _kinds(_Model(connection, query, columns), self._declared(query, len(names)))
            schema = pa.schema([(name, kind) for name, (kind, _) in zip(names, kinds, strict=True)])
            with streamed(schema, self._batches(connection.execute(query), schema, kinds)) as reader:
                yield reader

    def _batches(self, cursor: sqlite3.Cursor, schema: pa.Schema, kinds: Sequence[Kind]) -> Iterator[pa.RecordBatch]:
        try:
            while rows := cursor.fetchmany(_ROWS):
                arrays = [_array(column, *kind) for column, kind in zip(zip(*rows, strict=True), kinds, strict=True)]
                yield pa.RecordBatch.from_arrays(arrays, schema=schema)
        except sqlite3.Error as error:
            raise self._failed(str(error)) from error
        except (pa.ArrowException, ValueError, TypeError) as error:
            # The look and the read saw different values, such as those of random().
            raise WarehouseError(
                f"SQLite file {self.path}: the query gives other values each time it is read: {error}",
                code="invalid_data",
            ) from error

    def _declared(self, query: str, columns: int) -> list[str]:
        """The declared type of each column that a query passes on from a table, else ''."""
        with self._connected() as connection:
            # A view is the one place where SQLite tells declared types through a query.
            connection.execute("pragma query_only = 0")
            connection.execute(f"create temp view looked_at as {query}")
            found = [row[2] or "" for row in connection.execute("pragma temp.table_info(looked_at)")]
        return found if len(found) == columns else [""] * columns

    @contextmanager
    def _connected(self) -> Iterator[sqlite3.Connection]:
        if not self.path.is_file():
            raise WarehouseError(
                f"there is no SQLite file {self.path}; check the source's path", code="warehouse_missing"
            )
        if ".onefold" in self.path.resolve().parts:
            # Two copies of SQLite in one process must never open the same file (design, section 5).
            raise WarehouseError(
                f"{self.path} is Onefold's own; read a space's profiles through `onefold profile list`, or a copy",
                code="warehouse_refused",
            )
        try:
            # The rows are taken over by whatever thread DuckDB reads them with, one at a time.
            with closing(
                sqlite3.connect(
                    f"{self.path.absolute().as_uri()}?mode=ro", uri=True, isolation_level=None, check_same_thread=False
                )
            ) as connection:
                connection.execute("pragma query_only = 1")
                connection.execute("select 1 from sqlite_master").fetchall()
                yield connection
        # Python 3.11 warns, and later ones err, where there is more than one statement.
        except (sqlite3.Error, sqlite3.Warning) as error:
            raise self._failed(str(error)) from error

    def _failed(self, text: str) -> WarehouseError:
        if "not a database" in text:
            return WarehouseError(f"{self.path} is not a SQLite file; check the source's path", code="not_a_warehouse")
        if "not authorized" in text or "prohibited" in text or "one statement" in text:
            return not_a_select("this is something else")
        if "is locked" in text:
            return WarehouseError(
                f"the SQLite file {self.path} is being written by another program; try again when it is done",
                code="warehouse_locked",
            )
        undecoded = re.match(r"Could not decode to UTF-8 column '(.*?)' with text", text, re.DOTALL)
        if undecoded:
            return WarehouseError(
                f"SQLite file {self.path}: the column {undecoded[1]} holds text that is not UTF-8;"
                f" read it as bytes with cast({undecoded[1]} as blob)",
                code="invalid_data",
            )
        return WarehouseError(f"SQLite file {self.path}: {text}", code="sql_error")


def _columns(connection: sqlite3.Connection, table: str) -> tuple[Column, ...]:
    try:
        rows = connection.execute(f"pragma table_info({values.quote(table)})").fetchall()
    except sqlite3.OperationalError:
        return ()  # a view of what is no longer there: the other tables are there all the same
    return tuple(Column(row[1], row[2]) for row in rows)


@dataclass(frozen=True)
class _Model:
    """A query whose columns are named by their place, c0, c1 …: its own names may differ by case alone."""

    connection: sqlite3.Connection
    text: str
    columns: Sequence[str]

    def select(self, what: str) -> sqlite3.Cursor:
        return self.connection.execute(f"with model({', '.join(self.columns)}) as (\n{self.text}\n) select {what}")

    def values(self, column: str) -> Iterator[Any]:
        return (row[0] for row in self.select(f"{column} from model where {column} is not null"))

    def has(self, condition: str) -> bool:
        return self.select(f"1 from model where {condition} limit 1").fetchone() is not None


def _kinds(model: _Model, declared: Sequence[str]) -> list[Kind]:
    """The kinds of a query's columns, told from all of its values."""
    seen = model.select(f"distinct {', '.join(f'typeof({column})' for column in model.columns)} from model").fetchall()
    types = [set(found) - {"null"} for found in zip(*seen, strict=True)] or [set[str]() for _ in model.columns]
    return [
        _kind(model, column, found, words.upper().split("(")[0].strip())
        for column, found, words in zip(model.columns, types, declared, strict=True)
    ]


def _kind(model: _Model, column: str, types: set[str], declared: str) -> Kind:
    if not types:
        return _unseen(declared)
    if types == {"integer"}:
        if declared in _BOOLEAN and not model.has(f"{column} not in (0, 1)"):
            return pa.bool_(), bool
        return pa.int64(), None
    if types == {"real"}:
        return pa.float64(), None
    if types == {"integer", "real"}:
        inexact = f"typeof({column}) = 'integer' and {column} not between -{_EXACT} and {_EXACT}"
        return _JSON if model.has(inexact) else (pa.float64(), float)
    if types == {"blob"}:
        return pa.binary(), None
    if types == {"text"}:
        return _told(model, column, declared)
    return _JSON


def _unseen(declared: str) -> Kind:
    """The kind of a column without values: what its declaration means to SQLite, or to us."""
    if declared in _TOLD:
        return _TOLD[declared][0], None
    if declared in _BOOLEAN:
        return pa.bool_(), None
    if "INT" in declared:
        return pa.int64(), None
    if "BLOB" in declared:
        return pa.binary(), None
    if any(word in declared for word in ("REAL", "FLOA", "DOUB", "NUMERIC", "DECIMAL")):
        return pa.float64(), None
    return pa.string(), None


def _told(model: _Model, column: str, declared: str) -> Kind:
    """Text whose column was declared a time or JSON is that, if all of it can be read so."""
    if declared not in _TOLD:
        return pa.string(), None
    kind, read = _TOLD[declared]
    try:
        for value in model.values(column):
            read(value)
    except (ValueError, OverflowError, RecursionError):
        return pa.string(), None
    return kind, read


def _moment(value: str) -> datetime:
    found = datetime.fromisoformat(value)
    return found if found.tzinfo is None else found.astimezone(UTC).replace(tzinfo=None)


def _any(value: Any) -> str:
    """The JSON of one value of a mixed column: bytes as base64 text, infinity as text."""
    if isinstance(value, bytes):
        return canonical.encode(base64.b64encode(value).decode())
    if isinstance(value, float) and not math.isfinite(value):
        return canonical.encode(json.dumps(value))  # Infinity, as every engine writes it
    try:
        return canonical.encode(value)
    except canonical.InvalidValue:  # text with a NUL: escaped, so that its row is refused and no other
        return json.dumps(value)


def _array(column: Sequence[Any], kind: pa.DataType, convert: Callable[[Any], Any] | None) -> pa.Array:
    if convert is not None:
        column = [None if value is None else convert(value) for value in column]
    if isinstance(kind, pa.JsonType):
        return pa.ExtensionArray.from_storage(kind, pa.array(column, pa.string()))
    return pa.array(column, kind)


_BOOLEAN = ("BOOLEAN", "BOOL")
_JSON: Kind = (pa.json_(), _any)
_TOLD: dict[str, tuple[pa.DataType, Callable[[Any], Any]]] = {
    "DATE": (pa.date32(), date.fromisoformat),
    "DATETIME": (pa.timestamp("us"), _moment),
    "TIMESTAMP": (pa.timestamp("us"), _moment),
    "JSON": (pa.json_(), lambda value: canonical.encode(json.loads(value))),
}
