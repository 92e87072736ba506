"""Warehouses: where rows are read, and never written to. A module for each kind; this is their contract.

`read` gives the rows of one query in the order the query returned them, as one snapshot, streamed, in Arrow types
that keep their meaning when DuckDB takes them over.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa

from onefold.errors import WarehouseError

# Rows of a batch: DuckDB's row group.
BATCH_ROWS = 122_880
# Limits at extraction (reference, section 2).
MAX_COLUMNS = 512
MAX_COLUMN_NAME = 128

KINDS = ("duckdb", "files", "postgres", "sqlite")


@dataclass(frozen=True)
class Column:
    """A column of a table; `type` in the database's own words."""

    name: str
    type: str


@dataclass(frozen=True)
class Table:
    """A table of a warehouse, named as a query would name it."""

    name: str
    columns: tuple[Column, ...]


class Warehouse(Protocol):
    """A warehouse that can be read. Every method raises WarehouseError."""

    def tables(self) -> list[Table]: ...

    def read(self, sql: str, *, limit: int | None = None) -> AbstractContextManager[pa.RecordBatchReader]: ...


def open(type: str, options: Mapping[str, Any], folder: Path) -> Warehouse:  # noqa: A001, A002 - the field's words
    """The warehouse of a source: its type and options as in the workspace file, paths relative to `folder`."""
    if type not in KINDS:
        raise WarehouseError(f"source type {type!r} is not known; there are {', '.join(KINDS)}")
    module = import_module(f"onefold.warehouses.{type}")
    found: Warehouse = module.Warehouse(options, folder)
    return found


def check(schema: pa.Schema) -> None:
    """Refuse a result that no mapping could read. Raises WarehouseError."""
    names = schema.names
    if len(names) > MAX_COLUMNS:
        raise WarehouseError(
            f"the query has {len(names)} columns; at most {MAX_COLUMNS} are accepted", code="too_many_columns"
        )
    for name in names:
        if len(name) > MAX_COLUMN_NAME:
            raise WarehouseError(
                f"the column {name[:40]}… has a name of {len(name)} characters; at most {MAX_COLUMN_NAME} are accepted",
                code="column_name_too_long",
            )
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise WarehouseError(
            f"the query has more than one column named {', '.join(repeated)}; give each a name of its own",
            code="repeated_column",
        )


def limited(sql: str, limit: int | None) -> str:
    """The query, at most `limit` of its rows."""
    if limit is None:
        return sql
    # On lines of its own: the query may end in a comment.
    return f"select * from ({sql}\n) as limited limit {int(limit)}"
