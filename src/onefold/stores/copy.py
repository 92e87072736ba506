"""Copy a space from one store into another, whole, and verify it row by row."""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterator
from itertools import zip_longest

import pyarrow as pa
import pyarrow.compute as pc

from onefold.errors import StoreError
from onefold.stores import STEPS, Store

BATCH_ROWS = 10_000


def copy(source: Store, target: Store) -> dict[str, int]:
    """Copy all tables; returns their numbers of rows. The caller holds the source: by a turn, or in a snapshot.

    Raises StoreError, also where the target holds something already: then nothing is changed.
    """
    with target.turn():
        demand_empty(target)
        copied = {}
        for table, columns in _tables().items():
            target.execute(f"delete from {table}")
            copied[table] = 0
            for rows in _rows(source, table, columns):
                target.append(table, rows)
                copied[table] += rows.num_rows
        for table, columns in _tables().items():
            _verify(source, target, table, columns)
    return copied


def demand_empty(target: Store) -> None:
    """Raises StoreError where a space holds something already."""
    if target.counters() != {"seq": 1, "segment": 1} or target.rows("select mapping from mapping limit 1"):
        raise StoreError(f"space {target.engine.name} is not empty; nothing was copied", code="not_empty")


def _verify(source: Store, target: Store, table: str, columns: dict[str, bool]) -> None:
    """Compare a table row by row, in the same batches. Raises StoreError."""
    said, held = (_rows(store, table, columns) for store in (source, target))
    for one, other in zip_longest(said, held):
        if one is None or other is None or not one.equals(other):
            raise StoreError(
                f"table {table} of space {target.engine.name} is not what was copied; nothing of it is kept",
                code="copy_differs",
            )


def _rows(store: Store, table: str, columns: dict[str, bool]) -> Iterator[pa.Table]:
    """The rows of a table in order, in batches of BATCH_ROWS. `columns`: name -> whether it is text."""
    # Null text gets a word for the way: a driver types a column by its first rows.
    null = secrets.token_hex(16)
    texts = [name for name, is_text in columns.items() if is_text]
    said = [f"coalesce({name}, '{null}') as {name}" if name in texts else name for name in columns]
    order = ", ".join(str(at) for at, name in enumerate(columns, 1) if name not in _BULKY)
    held: list[pa.RecordBatch] = []
    for batch in store.stream(f"select {', '.join(said)} from {table} order by {order}"):
        held.append(batch)
        rows = sum(one.num_rows for one in held)
        if rows >= BATCH_ROWS:
            whole = pa.Table.from_batches(held)
            yield from (
                _plain(whole.slice(at, BATCH_ROWS), texts, null) for at in range(0, rows - BATCH_ROWS + 1, BATCH_ROWS)
            )
            held = whole.slice(rows - rows % BATCH_ROWS).to_batches()
    if sum(one.num_rows for one in held):
        yield _plain(pa.Table.from_batches(held), texts, null)


def _plain(rows: pa.Table, texts: list[str], null: str) -> pa.Table:
    """Rows as they lie in the table: texts, numbers and blobs of one type each, null where it is null."""
    columns = {}
    for name in rows.column_names:
        column = rows[name].combine_chunks()
        if name in texts:
            column = column.cast(pa.string())
            column = pc.if_else(pc.equal(column, null), pa.scalar(None, pa.string()), column)
        columns[name] = column if name in texts or name in _BLOBS else column.cast(pa.int64())
    return pa.table(columns)


# Columns that are no part of any order.
_BLOBS = {"data"}
_BULKY = {*_BLOBS, "traits", "record", "counts"}


def _tables() -> dict[str, dict[str, bool]]:
    """Every table of a space with its columns: name -> whether it is text; told by the steps that made them."""
    found: dict[str, dict[str, bool]] = {}
    for statement in (statement for step in STEPS for statement in step):
        made = re.match(r"create table (\w+) \((.*)\)", statement)
        if made:
            columns = re.findall(r"(\w+) \{(integer|identity|text|blob)\}", made[2])
            found[made[1]] = {name: kind == "text" for name, kind in columns}
    return found
