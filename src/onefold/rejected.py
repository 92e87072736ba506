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
    header = Header.read(store, path)
    if header is None:
        return []
    first, later = header.seen(store)
    found = {*_refused(first), *_refused(later)}
    again = later.filter(pc.is_in(later["key"], pa.array(list(found), pa.string()))).sort_by("part")
    newest = dict(zip(again["key"].to_pylist(), pc.is_in(again["status"], REFUSED).to_pylist(), strict=True))
    return [key for key in sorted(found) if newest.get(key, True)]


def _refused(rows: pa.Table) -> list[str]:
    found: list[str] = rows["key"].filter(pc.is_in(rows["status"], REFUSED)).to_pylist()
    return found


def groups(store: Store, path: str, whole: str | None) -> list[dict[str, Any]]:
    """The open rows of a mapping by run and code: run_id, code, rows, why (of one of them), at (µs). Raises StoreError.

    `whole` is its last run that read all rows.
    """
    counted: dict[tuple[int, str], tuple[int, int]] = {}  # (run, code) -> rows, id of one
    for run, code, one in _keyed(store, path):
        counted[run, code] = (counted.get((run, code), (0, 0))[0] + 1, one)
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


def _keyed(store: Store, path: str) -> list[tuple[int, str, int]]:
    """(run, code, id) of what each open key was rejected for last."""
    still = keys(store, path)
    if not still:
        return []
    told = store.query(
        "select j.key, j.run, j.code, j.id from rejected j join run r on r.run = j.run"
        " join mapping m on m.mapping = r.mapping"
        f" where m.path = $1 and j.key is not null and j.code not in {_KEYLESS} order by j.id",
        path,
    )
    told = told.filter(pc.is_in(told["key"], pa.array(still, pa.string())))
    newest = {row["key"]: (row["run"], row["code"], row["id"]) for row in told.to_pylist()}
    return list(newest.values())
