"""Rejected rows that are open: refused when they were last tried, and neither accepted nor gone since."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from onefold import state
from onefold.ledger import Header
from onefold.stores import Store

REFUSED = pa.array([state.REJECTED_NEW, state.REJECTED_UPDATED, state.REJECTED_DELETED])
# Of rows whose key is no key the state says nothing: each run that reads all rows finds them anew.
KEYLESS = ("null_key", "repeated_key")
_KEYLESS = str(KEYLESS)


def keys(store: Store, path: str) -> list[str]:
    """The keys (canonical JSON) of a mapping's rows that are refused as things are. Raises StoreError."""
    found: list[str] = _keys(store, path).sort().to_pylist()
    return found


def _keys(store: Store, path: str) -> pa.Array:
    header = Header.read(store, path)
    if header is None:
        return pa.array([], pa.string())
    first, later = header.seen(store)
    refused = first.filter(pc.is_in(first["status"], REFUSED))["key"]
    if not later.num_rows:
        return refused.combine_chunks()
    newest = later.group_by("key").aggregate([("part", "max")]).rename_columns(["key", "part"])
    latest = newest.join(later.select(["key", "part", "status"]), ["key", "part"], join_type="inner")
    again = latest.filter(pc.is_in(latest["status"], REFUSED))["key"]
    refused = refused.filter(pc.invert(pc.is_in(refused, newest["key"])))
    return pa.chunked_array([*refused.chunks, *again.chunks], pa.string()).combine_chunks()


def groups(store: Store, path: str, whole: str | None) -> list[dict[str, Any]]:
    """The open rows of a mapping by run and code: run_id, code, rows, why (of one of them), at (µs). Raises StoreError.

    `whole` is its last run that read all rows.
    """
    counted = {(row["run"], row["code"]): (row["rows"], row["one"]) for row in _keyed(store, path)}
    if whole is not None:
        for row in store.rows(
            "select j.run, j.code, count(*) as rows, max(j.id) as one from rejected j join run r on r.run = j.run"
            f" where r.run_id = $1 and j.code in {_KEYLESS} group by j.run, j.code",
            whole,
        ):
            counted[row["run"], row["code"]] = (row["rows"], row["one"])
    told = (
        "select r.run_id, j.code, j.message as why, r.started_at as at from rejected j join run r on r.run = j.run"
        " where j.id = $1"
    )
    return [{**store.rows(told, one)[0], "rows": rows} for rows, one in counted.values()]


def _keyed(store: Store, path: str) -> list[dict[str, Any]]:
    """What the open keys were rejected for last, by run and code: run, code, rows, one (the id of one of them)."""
    still = _keys(store, path)
    if not len(still):
        return []
    told = store.query(
        "select j.key, j.run, j.code, j.id from rejected j join run r on r.run = j.run"
        " join mapping m on m.mapping = r.mapping"
        f" where m.path = $1 and j.key is not null and j.code not in {_KEYLESS}",
        path,
    )
    told = told.filter(pc.is_in(told["key"], still))
    newest = told.group_by("key").aggregate([("id", "max")])["id_max"]
    last = told.filter(pc.is_in(told["id"], newest)).group_by(["run", "code"])
    found: list[dict[str, Any]] = (
        last.aggregate([("id", "count"), ("id", "max")]).rename_columns(["run", "code", "rows", "one"]).to_pylist()
    )
    return found
