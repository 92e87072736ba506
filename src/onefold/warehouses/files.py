"""A folder of Parquet, CSV and JSON files: each file is a table, and so is each sub-folder of Parquet files."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa

from onefold import values
from onefold.errors import WarehouseError
from onefold.warehouses import Breakable, Table
from onefold.warehouses.duckdb import failing, first_line, lock_down, select, tables

# Ending -> the function that reads it. CSV types are told from the whole file, so that a late value breaks nothing.
READERS = {
    ".parquet": "read_parquet({file})",
    ".csv": "read_csv({file}, sample_size = -1)",
    ".tsv": "read_csv({file}, sample_size = -1)",
    ".json": "read_json({file}, sample_size = -1)",
    ".jsonl": "read_json({file}, sample_size = -1)",
    ".ndjson": "read_json({file}, sample_size = -1)",
}


class Warehouse(Breakable):
    """A source of type files; its option is `path`, a folder."""

    def __init__(self, options: Mapping[str, Any], folder: Path, temp: Path | None = None) -> None:
        self.path = (folder / str(options["path"])).resolve()
        super().__init__()
        self.temp = temp

    def tables(self) -> list[Table]:
        with self._connected() as connection:
            return tables(connection)

    @contextmanager
    def read(self, sql: str, *, limit: int | None = None) -> Iterator[pa.RecordBatchReader]:
        with self._connected(sql) as connection, failing(f"folder {self.path}"), self.breakable(connection.interrupt):
            yield select(connection, sql, limit)

    @contextmanager
    def _connected(self, sql: str | None = None) -> Iterator[Any]:
        """A connection with a view for each file; with `sql`, only for those whose name stands in it."""
        if not self.path.is_dir():
            raise WarehouseError(f"there is no folder {self.path}; check the source's path", code="warehouse_missing")
        with duckdb.connect(":memory:") as connection:
            lock_down(connection, self.temp, self.path)
            for name, reader in self._readers().items():
                if sql is not None and not re.search(rf"(?<!\w){re.escape(name)}(?!\w)", sql, re.IGNORECASE):
                    continue
                try:
                    connection.execute(f"create view {values.quote(name)} as select * from {reader}")
                except duckdb.Error as error:
                    raise WarehouseError(
                        f"{self.path / name} cannot be read as a table: {first_line(str(error))}",
                        code="invalid_data",
                    ) from error
            yield connection

    def _readers(self) -> dict[str, str]:
        found: dict[str, str] = {}
        for path in sorted(self.path.iterdir()):
            if path.is_dir() and any(path.rglob("*.parquet")):
                reader = f"read_parquet({values.literal(str(path / '**' / '*.parquet'))}, hive_partitioning = true)"
                name = path.name
            elif path.is_file() and path.suffix.lower() in READERS:
                reader = READERS[path.suffix.lower()].format(file=values.literal(str(path)))
                name = path.stem
            else:
                continue
            if name in found:
                raise WarehouseError(
                    f"two files of {self.path} would be the table {name}; rename one of them",
                    code="invalid_data",
                )
            found[name] = reader
        return found
