"""A DuckDB file. It admits one process, so it is open for the moment of reading only, and locked down."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa

from onefold.errors import WarehouseError
from onefold.warehouses import BATCH_ROWS, Column, Table, check, limited

# Said after opening: nothing outside can be reached, and nothing of this can be undone.
LOCK = (
    "set arrow_lossless_conversion = true",
    "set TimeZone = 'UTC'",
    "set enable_external_access = false",
    "set lock_configuration = true",
)


class Warehouse:
    """A source of type duckdb; its option is `path`."""

    def __init__(self, options: Mapping[str, Any], folder: Path) -> None:
        self.path = folder / str(options["path"])

    def tables(self) -> list[Table]:
        with self._connected() as connection:
            return tables(connection)

    @contextmanager
    def read(self, sql: str, *, limit: int | None = None) -> Iterator[pa.RecordBatchReader]:
        with self._connected() as connection, failing(f"DuckDB file {self.path}"):
            yield select(connection, sql, limit)

    @contextmanager
    def _connected(self) -> Iterator[Any]:
        if not self.path.is_file():
            raise WarehouseError(
                f"there is no DuckDB file {self.path}; check the source's path", code="warehouse_missing"
            )
        try:
            connection = duckdb.connect(str(self.path), read_only=True)
        except duckdb.Error as error:
            raise self._unopened(error) from error
        with connection:
            for setting in LOCK:
                connection.execute(setting)
            yield connection

    def _unopened(self, error: duckdb.Error) -> WarehouseError:
        text = str(error)
        if "lock" in text.lower():
            return WarehouseError(
                f"the DuckDB file {self.path} is open in another process, and DuckDB admits one at a time; close"
                " it there and try again",
                code="warehouse_locked",
            )
        if "not a valid DuckDB" in text or "valid DuckDB database" in text:
            return WarehouseError(f"{self.path} is not a DuckDB file; check the source's path", code="not_a_warehouse")
        return WarehouseError(f"the DuckDB file {self.path} cannot be opened: {first_line(text)}")


def tables(connection: Any) -> list[Table]:
    """The tables and views of a connection."""
    rows = connection.sql(
        "select case when table_schema = 'main' then table_name else table_schema || '.' || table_name end,"
        " column_name, data_type from information_schema.columns"
        " where table_catalog = current_database() order by table_schema, table_name, ordinal_position"
    ).fetchall()
    found: dict[str, list[Column]] = {}
    for table, column, kind in rows:
        found.setdefault(table, []).append(Column(column, kind))
    return [Table(name, tuple(columns)) for name, columns in found.items()]


def select(connection: Any, sql: str, limit: int | None) -> pa.RecordBatchReader:
    """The rows of exactly one SELECT. Raises WarehouseError, duckdb.Error."""
    statements = connection.extract_statements(sql)
    if len(statements) != 1 or statements[0].type != duckdb.StatementType.SELECT:
        raise WarehouseError("a model is exactly one SELECT; this is something else", code="not_a_select")
    reader = connection.sql(limited(sql.rstrip().rstrip(";"), limit)).to_arrow_reader(BATCH_ROWS)
    check(reader.schema)
    return reader


@contextmanager
def failing(where: str) -> Iterator[None]:
    """Turn DuckDB's errors into WarehouseError, in its own words and with the place it names."""
    try:
        yield
    except duckdb.Error as error:
        raise WarehouseError(f"{where}: {place(str(error))}", code="sql_error") from error
    except pa.ArrowInvalid as error:  # an error in the middle of the stream
        raise WarehouseError(f"{where}: {place(str(error))}", code="sql_error") from error


def first_line(text: str) -> str:
    return text.strip().split("\n")[0]


def place(text: str) -> str:
    """A database's message as one line: what it says, and the line it points at."""
    lines = [line.strip() for line in text.strip().splitlines() if line.strip()]
    pointed = [line for line in lines if line.startswith("LINE ")]
    hints = [line for line in lines[1:] if line.startswith(("Did you mean", "Candidate bindings", "Hint"))]
    said = [lines[0] if lines else "it failed", *hints]
    return " ".join(said) + (f" (at {pointed[0]})" if pointed else "")
