"""A DuckDB file. It admits one process, so it is open for the moment of reading only, and locked down."""

from __future__ import annotations

import atexit
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Lock
from typing import Any

import duckdb
import pyarrow as pa

from onefold import values
from onefold.errors import WarehouseError
from onefold.warehouses import BATCH_ROWS, Breakable, Column, Table, check, not_a_select, statement

# Said after opening: nothing outside can be reached, and nothing of this can be undone. Global, because
# connections of one process to one file share an instance, and the second one finds it locked.
_LOCKED = (
    "set global arrow_lossless_conversion = true",
    "set global arrow_large_buffer_size = true",
    "set global TimeZone = 'UTC'",
    "set enable_external_access = false",
    "set lock_configuration = true",
)
_opening = Lock()


class Warehouse(Breakable):
    """A source of type duckdb; its option is `path`."""

    def __init__(self, options: Mapping[str, Any], folder: Path, temp: Path | None = None) -> None:
        self.path = folder / str(options["path"])
        super().__init__()
        self.temp = temp

    def tables(self) -> list[Table]:
        with self._connected() as connection:
            return tables(connection)

    @contextmanager
    def read(self, sql: str, *, limit: int | None = None) -> Iterator[pa.RecordBatchReader]:
        with self._connected() as connection, failing(f"DuckDB file {self.path}"), self.breakable(connection.interrupt):
            yield select(connection, sql, limit)

    @contextmanager
    def _connected(self) -> Iterator[Any]:
        if not self.path.is_file():
            raise WarehouseError(
                f"there is no DuckDB file {self.path}; check the source's path", code="warehouse_missing"
            )
        try:
            with _opening:
                connection = duckdb.connect(str(self.path), read_only=True)
                lock_down(connection, self.temp)
        except duckdb.Error as error:
            raise self._unopened(str(error)) from error
        with connection:
            yield connection

    def _unopened(self, text: str) -> WarehouseError:
        file = f"the DuckDB file {self.path}"
        if "Could not set lock" in text or "different configuration" in text:
            holder = re.search(r"\(PID \d+\)", text)
            return WarehouseError(
                f"{file} is open in another program{' ' + holder[0] if holder else ''}, and DuckDB admits one at a"
                " time; close it there and try again",
                code="warehouse_locked",
            )
        if "valid DuckDB database" in text:
            return WarehouseError(f"{self.path} is not a DuckDB file; check the source's path", code="not_a_warehouse")
        if "newer version of DuckDB" in text:
            return WarehouseError(
                f"{file} was written by a newer DuckDB than the {duckdb.__version__} installed here; upgrade the"
                " package duckdb, or write the file with storage_compatibility_version",
                code="warehouse_newer",
            )
        return WarehouseError(f"{file} cannot be opened: {first_line(text)}")


def lock_down(connection: Any, temp: Path | None, folder: Path | None = None) -> None:
    """Let a connection reach nothing but its own file and `folder`, for good. Raises duckdb.Error."""
    if connection.sql("select current_setting('lock_configuration')").fetchall()[0][0]:
        return
    # DuckDB's own choice stands beside the file, where nothing may be written, or in the current folder.
    connection.execute(f"set temp_directory = {values.literal(str(temp or _spill()))}")
    if folder is not None:
        connection.execute(f"set allowed_directories = [{values.literal(f'{folder}/')}]")
    for setting in _LOCKED:
        connection.execute(setting)


@cache
def _spill() -> Path:
    """A folder of this process for what does not fit into memory, gone when the process ends."""
    folder = TemporaryDirectory(prefix="onefold-")
    atexit.register(folder.cleanup)
    return Path(folder.name)


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
    found = connection.extract_statements(sql)
    if len(found) == 1 and found[0].type != duckdb.StatementType.SELECT:
        raise not_a_select("this is something else")
    relation = connection.sql(statement(sql))
    check(relation.columns)
    if limit is not None:
        relation = relation.limit(limit)
    return relation.to_arrow_reader(BATCH_ROWS)


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
