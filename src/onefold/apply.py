"""Apply calls to a space: look up, resolve, fold, write. The one way in, for rows, live calls and replays.

Stands inside a turn of the store, so that the calls, their effects and the caller's own state commit together.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from onefold import canonical, components, digest, heard, identity, log, space, traits
from onefold.identity import NOBODY, Numbers, Resolution
from onefold.rules import USERS, Identifier, Rules
from onefold.space import Found, Indexed, Segment
from onefold.stores import Store
from onefold.traits import Stamp

# Fewer calls are written quicker than a thread is asked to.
FEW = 256
# Segments are written in so many parts at most, and of so many segments at least.
PARTS, LEAST = 8, 1024


@dataclass(frozen=True)
class Applied:
    """What a batch did: its resolution, and what was known before."""

    resolution: Resolution
    known: identity.Known

    @cached_property
    def filed(self) -> Numbers:
        """The segments that calls were filed under, each once."""
        filed = self.resolution.filed
        return np.unique(np.r_[segments(filed, "user"), segments(filed, "account")][1:])

    @property
    def unresolved(self) -> int:
        """How many calls belong to no profile."""
        filed = self.resolution.filed
        return int(pc.sum(pc.and_(pc.is_null(filed["user"]), pc.is_null(filed["account"]))).as_py() or 0)

    @cached_property
    def moved(self) -> dict[int, int]:
        """Each segment that changed its profile -> the oldest segment of the profile it belongs to now."""
        moves = self.resolution.moves
        return dict(zip(moves["segment"].to_pylist(), moves["profile"].to_pylist(), strict=True))

    @cached_property
    def profile(self) -> dict[int, int]:
        """Each segment that the batch met -> the oldest segment of its profile now; others are their own."""
        known = self.known.segments
        return dict(zip(known["segment"].to_pylist(), known["profile"].to_pylist(), strict=True)) | self.moved


def segments(filed: pa.Table, column: str) -> Numbers:
    """A column of `filed` as numbers, NOBODY where null; with NOBODY once more in front, so never empty."""
    return np.append(NOBODY, filed[column].fill_null(NOBODY).to_numpy())


def apply(
    store: Store,
    calls: pa.Table,
    rules: Rules,
    *,
    run: int | None = None,
    identifying: pa.Table | None = None,
    indexed: Indexed | None = None,
) -> Applied:
    """Apply a batch (calls.SCHEMA) in the order of its rows. Raises StoreError; the turn undoes it all.

    `identifying` is `identity.identifying(calls, rules, store.secret)`, for a caller that has it already.
    """
    counters = store.counters()
    if indexed is not None and indexed.seq != counters["seq"]:
        indexed = None  # somebody else has written
    if identifying is None:
        identifying = identity.identifying(calls, rules, store.secret)
    found = space.lookup(store, identifying, counters["segment"], indexed)
    resolution = components.resolve(calls, found.known, rules, identifying)
    batch = _Batch(store, calls, resolution, found, counters["seq"])
    next_seq = counters["seq"] + calls.num_rows
    with store.behind() if calls.num_rows > FEW else nullcontext():
        # Most of what is written comes first.
        space.file(store, batch.segments())
        logged = batch.log(run)
        log.append(store, counters["seq"], counters["segment"], logged)
        store.append("event", batch.events())
        space.write(store, resolution, counters["seq"])
        space.merge_in(store, "subscription", batch.subscriptions())
        heard.note(store, counters["seq"], logged["source"].to_numpy())
        store.execute(
            "update counter set value = case name when 'seq' then cast($1 as bigint) else cast($2 as bigint) end"
            " where name in ('seq', 'segment')",
            *(next_seq, resolution.next_segment),
        )
    if indexed is not None:
        indexed.add(resolution.identifiers["hash"].to_numpy())
        indexed.seq = next_seq
    return Applied(resolution, found.known)


class _Batch:
    """One batch between its resolution and the rows that it writes."""

    def __init__(self, store: Store, calls: pa.Table, resolution: Resolution, found: Found, first_seq: int) -> None:
        self.store = store
        self.calls = calls
        self.resolution = resolution
        self.found = found
        self.first_seq = first_seq
        self.base = found.known.next_segment
        self.times: Numbers = calls["timestamp"].to_numpy()
        self.user = segments(resolution.filed, "user")[1:]
        self.account = segments(resolution.filed, "account")[1:]
        self.kinds = space.numbers(store, resolution.identifiers)

    # --- the log --------------------------------------------------------------------------------------

    def log(self, run: int | None) -> pa.Table:
        """The lines of the log (log.COLUMNS)."""
        rows = self.calls.num_rows
        created = self.resolution.created
        born = np.zeros(rows, np.int64)
        np.add.at(born, created["call"].to_numpy(), np.where(pc.equal(created["collection"], USERS), 1, 2))
        new = self.resolution.identifiers
        is_user = pc.equal(new["collection"], USERS).to_numpy()
        items = self._items()
        columns = {
            "born": born,
            "user": self.resolution.filed["user"],
            "account": self.resolution.filed["account"],
            "user_identifiers": _lists(items, new["call"].to_numpy(), is_user, rows),
            "account_identifiers": _lists(items, new["call"].to_numpy(), ~is_user, rows),
            "message_id": self.calls["message_id"],
            "type": self.calls["type"],
            "event": self.calls["event"],
            "run": pa.repeat(pa.scalar(run, pa.int64()), rows),
            "source": self._sources(),
            "time": self.calls["timestamp"],
            "received_at": self.calls["received_at"],
            "traits": self.calls["traits"],
            "body": self.calls["body"],
        }
        return pa.table(columns)

    def _sources(self) -> pa.Array:
        """The number of each call's source."""
        slugs = self.calls["source"].combine_chunks().dictionary_encode()
        numbers = [self.store.names("source").add(slug) for slug in slugs.dictionary.to_pylist()]
        return pa.array(numbers, pa.int64()).take(slugs.indices)

    def _items(self) -> pa.Array:
        """New identifiers as the log lists them: `[type,"value"]`."""
        values = self.resolution.identifiers["value"].combine_chunks()
        kinds = pa.array(self.kinds).cast(pa.string())
        odd = np.flatnonzero(pc.match_substring_regex(values, r'["\\\x00-\x1f]').to_numpy(zero_copy_only=False))
        if len(odd):
            texts = values.to_pylist()
            for at in odd.tolist():
                texts[at] = canonical.encode(texts[at])[1:-1]
            values = pa.array(texts, pa.string())
        return pc.binary_join_element_wise("[", kinds, ',"', values, '"]', "")

    def events(self) -> pa.Table:
        """The rows of `event`."""
        told = pc.is_in(self.calls["type"], pa.array(["track", "page", "screen"])).to_numpy()
        rows = np.flatnonzero(told & (self.user != NOBODY))
        order = np.lexsort((rows, self.times[rows], self.user[rows]))
        rows = rows[order]
        return pa.table(
            {
                "segment": self.user[rows],
                "time": self.times[rows],
                "seq": self.first_seq + rows,
                "name": self.calls["event"].take(rows),
            }
        )

    # --- segments -------------------------------------------------------------------------------------

    def segments(self) -> Iterator[list[Segment]]:
        """The segments that calls were filed under and that are more than the one call that made them, in parts."""
        filed, call = np.r_[self.user, self.account], np.tile(np.arange(len(self.user)), 2)
        calls_of = np.bincount(filed[filed >= self.base] - self.base, minlength=1)
        more = (filed != NOBODY) & ((filed < self.base) | (calls_of[np.maximum(filed - self.base, 0)] > 1))
        filed, call = filed[more], call[more]
        if not len(filed):
            return
        distinct, at = np.unique(filed, return_inverse=True)
        earliest = np.full(len(distinct), np.iinfo(np.int64).max)
        latest, last = np.full(len(distinct), np.iinfo(np.int64).min), np.zeros(len(distinct), np.int64)
        np.minimum.at(earliest, at, self.times[call])
        np.maximum.at(latest, at, self.times[call])
        np.maximum.at(last, at, call)
        touched = self._made(distinct[distinct >= self.base]) | {
            number: self.found.segments[number] for number in distinct[distinct < self.base].tolist()
        }
        for number, *seen in zip(distinct.tolist(), earliest.tolist(), latest.tolist(), last.tolist(), strict=True):
            segment = touched[number]
            segment.created_at = min(segment.created_at, seen[0])
            segment.updated_at = max(segment.updated_at, seen[1])
            segment.last_seq = self.first_seq + seen[2]
        self._file(distinct, touched)
        owner, rows = self._said(distinct)
        for part in np.array_split(distinct, min(PARTS, -(-len(distinct) // LEAST))):
            first, last = np.searchsorted(owner, (part[0], part[-1] + 1))
            self._fold(owner[first:last], rows[first:last], touched)
            yield [touched[number] for number in part.tolist()]

    def _made(self, new: Numbers) -> dict[int, Segment]:
        """New segments, by their numbers, before anything is filed under them."""
        born = self.resolution.created
        order = np.argsort(born["segment"].to_numpy())
        rows = born.take(order[new - self.base])
        return {
            number: Segment(
                *(number, digest.segment_id(self.store.secret, Identifier(*identifier)), identifier[0]),
                *(int(self.times[call]), int(self.times[call]), self.first_seq + call, self.first_seq + call),
            )
            for number, *identifier, call in identity.rows(rows)
        }

    def _file(self, distinct: Numbers, touched: dict[int, Segment]) -> None:
        """File the new identifiers of some segments."""
        new = self.resolution.identifiers
        rows = np.flatnonzero(np.isin(new["segment"].to_numpy(), distinct))
        names = ("value", "segment", "first_seen", "call")
        for kind, row in zip(self.kinds[rows].tolist(), identity.rows(new.select(names).take(rows)), strict=True):
            value, number, first_seen, call = row
            touched[number].identifiers.append((kind, value, first_seen, self.first_seq + call))

    def _said(self, distinct: Numbers) -> tuple[Numbers, Numbers]:
        """The calls that have traits of some segments: (segment, row), by segment, then in order."""
        # Whose the traits of each call are: the account's in a group call.
        is_group = pc.equal(self.calls["type"], "group").to_numpy()
        said = pc.is_valid(self.calls["traits"]).to_numpy()
        owner = np.where(said, np.where(is_group, self.account, self.user), NOBODY)
        rows = np.flatnonzero(np.isin(owner, distinct))
        rows = rows[np.argsort(owner[rows], kind="stable")]
        return owner[rows], rows

    def _fold(self, owner: Numbers, rows: Numbers, touched: dict[int, Segment]) -> None:
        """Fold what was said of some segments into their documents."""
        stamps = map(Stamp, self.times[rows].tolist(), (self.first_seq + rows).tolist())
        texts = self.calls["traits"].take(rows).to_pylist()
        for number, stamp, text in zip(owner.tolist(), stamps, texts, strict=True):
            segment = touched[number]
            segment.document = traits.fold(segment.document, stamp, text)

    def subscriptions(self) -> pa.Table:
        """The rows of `subscription`: every statement with its time and call."""
        lists = self.calls["subscriptions"].combine_chunks()
        row = pc.list_parent_indices(lists).to_numpy()
        items = lists.flatten()
        found: dict[str, Any] = {name: items.field(name) for name in ("channel", "address", "list", "status")}
        found |= {"time": self.times[row], "seq": self.first_seq + row}
        columns = [found[name] for name in space.SUBSCRIPTION.names]
        keys = [(name, "ascending") for name in space.SUBSCRIPTION.names]
        return pa.table(columns, schema=space.SUBSCRIPTION).sort_by(keys)


def _lists(items: pa.Array, call: Numbers, chosen: Numbers, calls: int) -> pa.Array:
    """For each call the JSON list of its chosen items, null where there are none; items come in order of calls."""
    if not chosen.any():
        return pa.nulls(calls, pa.string())
    if not chosen.all():
        items, call = items.filter(chosen), call[chosen]
    offsets = np.searchsorted(call, np.arange(calls + 1)).astype(np.int32)
    joined = pc.binary_join(pa.ListArray.from_arrays(pa.array(offsets), items), ",")
    lists = pc.binary_join_element_wise("[", joined, "]", "")
    return pc.if_else(pa.array(offsets[1:] > offsets[:-1]), lists, None)
