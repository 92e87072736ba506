"""Warehouses: where rows are read, and never written to. A module for each kind; this is their contract.

`read` gives the rows of one query in the order the query returned them, as one snapshot, streamed, in Arrow types
that keep their meaning when DuckDB takes them over.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from threading import Lock
from typing import Any, Protocol

import pyarrow as pa

from onefold.errors import WarehouseError

# Rows of a batch: as quick as larger ones, and rows of 128 KiB still fit into memory.
BATCH_ROWS = 8_192
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

    # Whether a column has one type, whichever rows of it are read.
    typed: bool

    def tables(self) -> list[Table]: ...

    def read(self, sql: str, *, limit: int | None = None) -> AbstractContextManager[pa.RecordBatchReader]: ...

    def interrupt(self) -> None:
        """Break off, from another thread, a query that `read` runs; where none runs, do nothing."""


class Breakable:
    """The `interrupt` of a warehouse: what breaks off the query that is under way."""

    typed = True

    def __init__(self) -> None:
        self._lock = Lock()
        self._break: Callable[[], None] | None = None

    def interrupt(self) -> None:
        with self._lock:  # not while its connection is closed
            if self._break is not None:
                self._break()

    @contextmanager
    def breakable(self, interrupt: Callable[[], None]) -> Iterator[None]:
        """Queries that `interrupt` breaks off."""
        self._break = interrupt
        try:
            yield
        finally:
            with self._lock:
                self._break = None


def open(  # noqa: A001 - the field's word
    type: str,  # noqa: A002 - the field's word
    options: Mapping[str, Any],
    folder: Path,
    temp: Path | None = None,
) -> Warehouse:
    """The warehouse of a source: its type and options as in the workspace file, paths relative to `folder`.

    What a query needs beyond memory goes to `temp`, else to a folder of the process. Raises WarehouseError.
    """
    if type not in KINDS:
        raise WarehouseError(f"source type {type!r} is not known; there are {', '.join(KINDS)}")
    module = import_module(f"onefold.warehouses.{type}")
    found: Warehouse = module.Warehouse(options, folder, temp)
    return found


def check(names: Sequence[str]) -> None:
    """Refuse the columns of a result that no mapping could read (reference, section 2). Raises WarehouseError."""
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


_TOKEN = re.compile(
    r"""(?P<blank>\s+|--[^\n]*|/\*.*?\*/)
    |(?P<end>;)
    |[eE]'(?:\\.|''|[^'\\])*'|'(?:[^']|'')*'|"(?:[^"]|"")*"|`[^`]*`|\$(?P<tag>\w*)\$.*?\$(?P=tag)\$
    |\w+|.""",
    re.DOTALL | re.VERBOSE,
)


def statement(sql: str, words: Iterable[str] = ()) -> str:
    """The one statement of a model without the semicolon that may end it, so that it can stand in another.

    With `words`, it begins with one of them. What it means is the database's to say: this only tells where a
    statement ends, and the session can read and no more. Raises WarehouseError.
    """
    tokens = [token for token in _TOKEN.finditer(sql) if token.lastgroup != "blank"]
    end = next((at for at, token in enumerate(tokens) if token.lastgroup == "end"), len(tokens))
    if end == 0 or any(token.lastgroup != "end" for token in tokens[end:]):
        raise not_a_select("there is none" if end == 0 else "there are more statements after the first")
    first = next(token[0] for token in tokens if token[0] != "(")
    if words and first.lower() not in words:
        raise not_a_select(f"this begins with {first[:40]}")
    return sql[: tokens[end].start()] if end < len(tokens) else sql


def not_a_select(why: str) -> WarehouseError:
    return WarehouseError(f"a model is exactly one SELECT; {why}", code="not_a_select")


def limited(sql: str, limit: int | None) -> str:
    """The query, at most `limit` of its rows."""
    if limit is None:
        return sql
    # On lines of its own: the query may end in a comment.
    return f"select * from (\n{sql}\n) as limited limit {int(limit)}"


@contextmanager
def streamed(schema: pa.Schema, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatchReader]:
    """A reader of the batches. What fails in the middle reaches whoever reads as the WarehouseError it was.

    Between the two stands Arrow's C interface, which carries an error as text only.
    """
    failed: list[WarehouseError] = []

    def noted() -> Iterator[pa.RecordBatch]:
        try:
            yield from batches
        except WarehouseError as error:
            failed.append(error)
            raise

    try:
        yield pa.RecordBatchReader.from_batches(schema, noted())
    except Exception as error:
        if failed and error is not failed[0]:
            raise failed.pop() from error  # kept, it would hold on to all that its traceback holds
        raise
