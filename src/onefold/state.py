"""What a mapping has seen: its state, in parts that are only ever added, and now and then made one again."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa

from onefold.stores import Store

STATE = pa.schema(
    [
        ("key", pa.string()),  # canonical JSON text of the key: `42` and `"42"` differ
        ("epoch", pa.int64()),
        ("checksum", pa.binary()),  # md5 of the row's canonical text
        ("counter", pa.int64()),  # how often a change of this key was committed
        ("status", pa.int64()),
        ("version", pa.int64()),  # the version of the mapping that a rejected row was tried with
    ]
)
# The status of a key. A rejected row keeps the event it would have had, for the next try. Of a key that is GONE
# nothing is known any more.
SENT, FILTERED, REJECTED_NEW, REJECTED_UPDATED, REJECTED_DELETED, GONE = range(6)
# A call was sent to a remote endpoint with this counter, and no answer is known. The event is kept here too.
OPEN_NEW, OPEN_UPDATED, OPEN_DELETED = range(6, 9)

# What the rows of a part are of: keys that were new, keys that an earlier part has, and what is compared no more but
# may still be asked to be sent again (replay.py).
_NEW, _LATER, _PAST = range(3)
# A part's rows are written in pieces of at most so many, so that no blob grows too large for a database.
PIECE = 250_000
# All parts are made one when rows of known keys come to one in so many.
LATER = 4


def read(store: Store, mapping: int) -> tuple[pa.Table, pa.Table]:
    """The state of a mapping: rows of keys that were new (STATE), and rows that came `later` (STATE, part).

    What a later row says of a key takes the place of what earlier parts say.
    """
    query = f"select part, later, data from state where mapping = $1 and later < {_PAST} order by part"
    rows = store.rows(query, mapping)
    first, later = [STATE.empty_table()], [LATER_STATE.empty_table()]
    for row in rows:
        part = pa.ipc.open_stream(row["data"]).read_all()
        if row["later"]:
            later.append(part.append_column("part", pa.array([row["part"]] * part.num_rows, pa.int64())))
        else:
            first.append(part)
    return pa.concat_tables(first), pa.concat_tables(later)


LATER_STATE = pa.schema([*STATE, ("part", pa.int64())])


def past(store: Store, mapping: int) -> pa.Table:
    """What is compared no more (STATE), oldest first; what `read` says of a key takes its place."""
    query = f"select data from state where mapping = $1 and later = {_PAST} order by part"
    parts = [pa.ipc.open_stream(row["data"]).read_all() for row in store.rows(query, mapping)]
    return pa.concat_tables([STATE.empty_table(), *parts])


def append(store: Store, mapping: int, rows: pa.Table, *, later: bool) -> list[int]:
    """Add parts (STATE): of keys that no part has, or, `later`, of such as one has. Returns their numbers."""
    return _append(store, mapping, rows, _LATER if later else _NEW)


def _append(store: Store, mapping: int, rows: pa.Table, kind: int) -> list[int]:
    if not rows.num_rows:
        return []
    newest = store.rows("select coalesce(max(part), 0) as part from state where mapping = $1", mapping)[0]["part"]
    starts = range(0, rows.num_rows, PIECE)
    parts = [newest + 1 + at for at in range(len(starts))]
    columns = {
        "mapping": [mapping] * len(starts),
        "part": parts,
        "later": [kind] * len(starts),
        "data": pa.array([_packed(rows.slice(start, PIECE)) for start in starts], pa.binary()),
    }
    store.append("state", pa.table(columns))
    return parts


def withdraw(store: Store, mapping: int, parts: Sequence[int]) -> None:
    """Take back some parts."""
    for part in parts:
        store.execute("delete from state where mapping = $1 and part = $2", mapping, part)


def replace(store: Store, mapping: int, rows: pa.Table, gone: pa.Table) -> None:
    """Make all parts one (STATE); what is `gone` is compared no more."""
    store.execute(f"delete from state where mapping = $1 and later < {_PAST}", mapping)
    _append(store, mapping, gone, _PAST)
    append(store, mapping, rows, later=False)


def forget(store: Store, mapping: int) -> None:
    """Compare with nothing that was seen."""
    store.execute(f"update state set later = {_PAST} where mapping = $1", mapping)


def _packed(rows: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    options = pa.ipc.IpcWriteOptions(compression="lz4")
    with pa.ipc.new_stream(sink, STATE, options=options) as stream:
        stream.write_table(rows.combine_chunks())
    packed: bytes = sink.getvalue().to_pybytes()
    return packed


EMPTY = (STATE.empty_table(), LATER_STATE.empty_table())
