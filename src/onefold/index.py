"""The index of identifiers: under which segments an identifier of some digest may be filed.

Few entries at a time go into a table of their own rows. Many at once are written as a tier: sorted, in pages of some
hundred entries, which costs a tenth; tiers are made one when they have become many. An entry is a hint: the segment
tells whether it has the identifier.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa

from onefold.identity import Numbers
from onefold.stores import Store

# From so many entries on, a tier of their own.
MANY = 10_000
# Entries of a page. Small: a lookup reads a whole page for one.
PAGE = 64
# A tier stays as it is while it is so much larger than all smaller ones together.
RATIO = 4
# Tiers of more entries in all are not made one any more: they are sorted in memory, 100 bytes an entry.
MOST = 40_000_000
_ENTRY = np.dtype([("hash", "<i8"), ("segment", "<i8")])


def add(store: Store, hashes: Numbers, segments: Numbers) -> None:
    """Add entries. Raises StoreError."""
    entries = np.empty(len(hashes), _ENTRY)
    entries["hash"], entries["segment"] = hashes, segments
    entries = entries[np.argsort(hashes, kind="stable")]
    if len(entries) < MANY:
        store.append("identifier", pa.table({name: entries[name].copy() for name in ("hash", "segment")}))
    else:
        _write(store, entries)


def _write(store: Store, entries: Numbers) -> None:
    """Write sorted entries as a tier."""
    newest = store.rows("select coalesce(max(tier), 0) as tier from tier")[0]["tier"]
    store.execute("insert into tier (tier, entries) values ($1, $2)", newest + 1, len(entries))
    starts = np.arange(0, len(entries), PAGE)
    # Entries of the same hash stay on one page.
    starts = np.unique(np.searchsorted(entries["hash"], entries["hash"][starts]))
    data = entries.tobytes()
    bounds = (np.append(starts, len(entries)) * _ENTRY.itemsize).tolist()
    pages = {
        "tier": np.full(len(starts), newest + 1),
        "first": entries["hash"][starts],
        "data": pa.array([data[start:end] for start, end in pairwise(bounds)], pa.binary()),
    }
    store.append("page", pa.table(pages))


def lookup(store: Store, hashes: Numbers) -> tuple[Numbers, Numbers]:
    """Entries with some hashes: (hash, segment), side by side. `hashes` are distinct. Raises StoreError."""
    if not len(hashes):
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    single: list[tuple[int, int]] = []
    tiers: dict[int, list[bytes]] = {}
    for row in store.asked(hashes, _FOUND):
        if row["tier"]:
            tiers.setdefault(row["tier"], []).append(row["data"])
        else:
            single.append((row["first"], row["segment"]))
    found = [np.array(single, _ENTRY)]
    for pages in tiers.values():
        # Pages of a tier come in order, so their entries are sorted.
        entries = np.frombuffer(b"".join(pages), _ENTRY)
        first, end = (np.searchsorted(entries["hash"], hashes, side) for side in ("left", "right"))
        at = np.repeat(first, end - first) + _within(end - first)
        found.append(entries[at])
    entries = np.concatenate(found)
    return entries["hash"], entries["segment"]


def _within(counts: Numbers) -> Numbers:
    """0, 1, … for each count, one after another."""
    places: Numbers = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
    return places


# The pages that would hold some hashes, in order, and entries in rows (tier 0): those last, as they have no data to
# type the column by.
_FOUND = """
    select 0 as tier, i.hash as first, i.segment, null as data
    from asked a join identifier i on i.hash = a.number
    union all
    select p.tier, p.first, 0, p.data
    from page p
    where (p.tier, p.first) in (
        select t.tier, (
            select q.first from page q where q.tier = t.tier and q.first <= a.number order by q.first desc limit 1
        )
        from asked a cross join tier t
    )
    order by 1 desc, 2
"""


def hashes(store: Store) -> Numbers:
    """All hashes that the index has. Raises StoreError."""
    rows = store.query("select hash from identifier")["hash"].to_numpy()
    return np.append(rows, _entries(store, [row["tier"] for row in store.rows("select tier from tier")])["hash"])


def _entries(store: Store, tiers: list[int]) -> Any:
    pages = [store.query("select data from page where tier = $1 order by first", tier)["data"] for tier in tiers]
    return np.frombuffer(b"".join(page.as_buffer() for found in pages for page in found), _ENTRY)


def merge(store: Store) -> None:
    """Make tiers of like sizes one, in a turn of the caller's. Raises StoreError."""
    rows = store.rows("select tier, entries from tier order by entries desc")
    while len(rows) > 1 and rows[0]["entries"] > RATIO * sum(row["entries"] for row in rows[1:]):
        rows = rows[1:]
    if len(rows) < 2 or sum(row["entries"] for row in rows) > MOST:
        return
    merged = [row["tier"] for row in rows]
    entries = _entries(store, merged)
    for tier in merged:
        store.execute("delete from page where tier = $1", tier)
        store.execute("delete from tier where tier = $1", tier)
    # The tiers are sorted: a sort that knows runs only merges them.
    _write(store, entries[np.argsort(entries["hash"], kind="stable")])
