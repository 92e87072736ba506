"""The index of identifiers: under which segments an identifier of some digest may be filed.

Few entries at a time go into a table of their own rows. Many at once are written as a tier: sorted, in pages of some
hundred entries, which costs a tenth; tiers are made one when they have become many. An entry is a hint: the segment
tells whether it has the identifier.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from onefold.identity import NOBODY, Numbers
from onefold.stores import Store

# From so many entries on, a tier of their own.
MANY = 10_000
# Entries of a page. Small: a lookup reads a whole page for one.
PAGE = 64
# A tier stays as it is while it is so much larger than all smaller ones together.
RATIO = 4
# Tiers are made one in steps of about so many entries, 100 bytes of memory each.
STEP = 4_000_000
_ENTRY = np.dtype([("hash", "<i8"), ("segment", "<i8")])


def add(store: Store, hashes: Numbers, segments: Numbers) -> None:
    """Add entries. Raises StoreError."""
    entries = np.empty(len(hashes), _ENTRY)
    entries["hash"], entries["segment"] = hashes, segments
    entries = entries[np.argsort(hashes, kind="stable")]
    if len(entries) < MANY:
        store.append("identifier", pa.table({name: entries[name].copy() for name in ("hash", "segment")}))
    else:
        _write(store, _tier(store, len(entries)), entries)


def _tier(store: Store, entries: int) -> int:
    """A new tier of so many entries."""
    tier: int = store.rows("select coalesce(max(tier), 0) + 1 as tier from tier")[0]["tier"]
    store.execute("insert into tier (tier, entries) values ($1, $2)", tier, entries)
    return tier


def _write(store: Store, tier: int, entries: Numbers) -> None:
    """Write sorted entries as pages of a tier."""
    starts = np.arange(0, len(entries), PAGE)
    # Entries of the same hash stay on one page.
    starts = np.unique(np.searchsorted(entries["hash"], entries["hash"][starts]))
    data = entries.tobytes()
    bounds = (np.append(starts, len(entries)) * _ENTRY.itemsize).tolist()
    pages = {
        "tier": np.full(len(starts), tier),
        "first": entries["hash"][starts],
        "data": pa.array([data[start:end] for start, end in pairwise(bounds)], pa.binary()),
    }
    store.append("page", pa.table(pages))


class Held:
    """The tiers that one store has in memory, as it asks for so much of them: a tier never changes."""

    def __init__(self) -> None:
        self._asked, self._enough = 0, SOME
        self._tiers: dict[int, tuple[Numbers, Numbers]] = {}  # tier -> its hashes, sorted, and their segments

    def lookup(self, store: Store, hashes: Numbers) -> tuple[Numbers, Numbers] | None:
        """What `lookup` finds, or None where pages should be asked for instead. Raises StoreError."""
        self._asked += len(hashes) + QUESTION
        if self._asked < self._enough:
            return None
        these = store.engine.dialect.within.format("i.hash", "select number from asked")
        rows = store.ask(hashes, _ROWS.format(these=these))
        is_tier = rows["entries"].to_numpy() > 0
        number, segment = rows["number"].to_numpy(), rows["segment"].to_numpy()
        tiers = dict(zip(number[is_tier].tolist(), rows["entries"].to_numpy()[is_tier].tolist(), strict=True))
        entries = sum(tiers.values())
        self._enough = entries // (PAGE * WORTH) if entries <= MOST else 2 * self._asked
        if self._asked < self._enough or not self._hold(store, tiers):
            return None
        found = [(number[~is_tier], segment[~is_tier]), *(_within(*tier, hashes) for tier in self._tiers.values())]
        return np.concatenate([there for there, _ in found]), np.concatenate([at for _, at in found])

    def _hold(self, store: Store, tiers: Mapping[int, int]) -> bool:
        """Have these tiers, each of so many entries, and no other; False if one has gone meanwhile."""
        self._tiers = {tier: found for tier, found in self._tiers.items() if tier in tiers}
        for tier in tiers.keys() - self._tiers.keys():
            entries = _entries(store.query("select data from page where tier = $1", tier)["data"])
            if len(entries) != tiers[tier]:
                return False
            hashes, segments = entries["hash"].copy(), entries["segment"].copy()
            if (hashes[1:] < hashes[:-1]).any():  # asking for them in order costs more than looking whether they are
                order = np.argsort(hashes, kind="stable")
                hashes, segments = hashes[order], segments[order]
            self._tiers[tier] = hashes, segments
        return True


# Reading a whole tier pays once a page in so many has been asked for, where a question costs as much as some pages; who
# has asked for less than some is not counted.
WORTH, QUESTION, SOME = 4, 16, 64
# So many entries are held at most, 16 bytes of memory each.
MOST = 16_000_000


def _within(hashes: Numbers, segments: Numbers, sought: Numbers) -> tuple[Numbers, Numbers]:
    """The entries with some hashes among sorted ones: (hash, segment), side by side."""
    at, found = np.searchsorted(hashes, sought), [np.zeros(0, np.int64)]
    while len(at):  # nearly always twice: a hash that has two entries is rare
        there = at < len(hashes)
        at, sought = at[there], sought[there]
        same = hashes[at] == sought
        at, sought = at[same], sought[same]
        found.append(at)
        at = at + 1
    entries = np.concatenate(found)
    return hashes[entries], segments[entries]


def lookup(store: Store, hashes: Numbers) -> tuple[Numbers, Numbers]:
    """Entries with some hashes: (hash, segment), side by side. Raises StoreError."""
    held = store.held.setdefault("index", Held())
    found = held.lookup(store, hashes) if len(hashes) else None
    return found or _paged(store, hashes)


# The entries in rows, and the tiers that there are, by their numbers.
_ROWS = f"""
    select t.tier as number, {NOBODY} as segment, t.entries from tier t
    union all
    select i.hash, i.segment, 0 from identifier i where {{these}}
"""


def _paged(store: Store, hashes: Numbers) -> tuple[Numbers, Numbers]:
    """What `lookup` finds, by reading a page for each hash."""
    found = [(np.zeros(0, np.int64), np.zeros(0, np.int64))]
    for start in range(0, len(hashes), _ASKED):
        rows = store.ask(hashes[start : start + _ASKED], _FOUND)
        alone = rows.filter(pc.not_equal(rows["segment"], NOBODY))
        found.append((alone["number"].to_numpy(), alone["segment"].to_numpy()))
        held = rows.filter(pc.is_valid(rows["data"]))
        if held.num_rows:
            entries = _entries(held["data"])
            sizes = pc.binary_length(held["data"]).to_numpy() // _ENTRY.itemsize
            sought = np.repeat(held["number"].to_numpy(), sizes)
            at = np.flatnonzero(entries["hash"] == sought)
            found.append((sought[at], entries["segment"][at]))
    return np.concatenate([there for there, _ in found]), np.concatenate([at for _, at in found])


# So many hashes are looked up at a time: each brings a page of a kilobyte from each tier.
_ASKED = 4096
# For each hash the page of each tier that would hold it (no segment), and its entries in rows: those last, as they
# have no data to type the column by. `cross join`, here and elsewhere: SQLite takes the tables in this order and no
# other.
_FOUND = f"""
    select a.number, {NOBODY} as segment, (
        select p.data from page p where p.tier = t.tier and p.first <= a.number order by p.first desc limit 1
    ) as data
    from tier t cross join asked a
    union all
    select a.number, i.segment, null
    from asked a cross join identifier i where i.hash = a.number
"""


def hashes(store: Store) -> Numbers:
    """All hashes that the index has. Raises StoreError."""
    found = [store.query("select hash from identifier")["hash"].to_numpy()]
    for row in store.rows("select tier from tier"):
        entries = _entries(store.query("select data from page where tier = $1", row["tier"])["data"])
        found.append(entries["hash"].copy())
    return np.concatenate(found)


def _entries(pages: pa.ChunkedArray) -> Numbers:
    """The entries of some pages, one after another."""
    parts = [np.zeros(0, _ENTRY)]
    for chunk in pages.chunks:
        _, offsets, data = chunk.buffers()
        if data is not None:  # the pages of a chunk lie side by side
            ends = np.frombuffer(offsets, np.int32)[[chunk.offset, chunk.offset + len(chunk)]]
            parts.append(np.frombuffer(data, np.uint8)[ends[0] : ends[1]].view(_ENTRY))
    return np.concatenate(parts)


def merge(store: Store) -> None:
    """Make tiers of like sizes one, in a turn of the caller's. Raises StoreError."""
    rows = store.rows("select tier, entries from tier order by entries desc")
    while len(rows) > 1 and rows[0]["entries"] > RATIO * sum(row["entries"] for row in rows[1:]):
        rows = rows[1:]
    if len(rows) < 2:
        return
    total = sum(row["entries"] for row in rows)
    merged = _tier(store, total)
    # Digests lie evenly, so that ranges of them hold about the same number.
    steps = -(-total // STEP)
    bounds = [-(1 << 63) + (1 << 64) * step // steps for step in range(steps)]
    for start, end in pairwise([*bounds, 1 << 63]):
        parts = [_between(store, row["tier"], start, end - 1) for row in rows]
        entries = np.concatenate(parts)
        # Each part is sorted: a sort that knows runs only merges them.
        _write(store, merged, entries[np.argsort(entries["hash"], kind="stable")])
    for row in rows:
        store.execute("delete from page where tier = $1", row["tier"])
        store.execute("delete from tier where tier = $1", row["tier"])


def _between(store: Store, tier: int, start: int, last: int) -> Numbers:
    """The entries of a tier from one hash to another, sorted."""
    # The page before the first one that begins in the range may reach into it.
    pages = store.query(
        "select data from page where tier = $1 and first <= $2 and first >= coalesce((select first from page"
        " where tier = $3 and first <= $4 order by first desc limit 1), $5) order by first",
        *(tier, last, tier, start, start),
    )
    entries = _entries(pages["data"])
    return entries[(entries["hash"] >= start) & (entries["hash"] <= last)]
