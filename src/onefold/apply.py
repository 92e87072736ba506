"""Apply calls to a space: look up, resolve, fold, write. The one way in, for rows, live calls and replays.

Stands inside a turn of the store, so that the calls, their effects and the caller's own state commit together.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from onefold import components, identity, space, traits
from onefold.identity import NOBODY, Numbers, Resolution
from onefold.rules import Rules
from onefold.space import Found, Segment
from onefold.stores import Store
from onefold.traits import Stamp


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


def apply(store: Store, calls: pa.Table, rules: Rules, *, run: int | None = None) -> Applied:
    """Apply a batch (calls.SCHEMA) in the order of its rows. Raises StoreError; the turn undoes it all."""
    counters = store.counters()
    identifying = identity.identifying(calls, rules)
    found = space.lookup(store, identifying, counters["segment"])
    resolution = components.resolve(calls, found.known, rules, identifying)
    batch = _Batch(store, calls, resolution, found, counters["seq"])
    store.append("call", batch.log(run))
    store.append("segment", batch.created())
    space.merge_in(store, "segment", batch.changed())
    space.write(store, resolution, batch.numbers, counters["seq"])
    space.merge_in(store, "subscription", batch.subscriptions())
    store.execute("update counter set value = $1 where name = 'seq'", counters["seq"] + calls.num_rows)
    store.execute("update counter set value = $1 where name = 'segment'", resolution.next_segment)
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
        # Whose the traits of each call are: the account's in a group call.
        is_group = pc.equal(calls["type"], "group").to_numpy()
        said = pc.is_valid(calls["traits"]).to_numpy()
        self.owner = np.where(said, np.where(is_group, self.account, self.user), NOBODY)
        self.numbers = space.numbers(store, resolution.identifiers)

    def log(self, run: int | None) -> pa.Table:
        """The rows of `call`."""
        rows = self.calls.num_rows
        sources = {
            slug: self.store.number("source", {"slug": slug}) for slug in pc.unique(self.calls["source"]).to_pylist()
        }
        source = pc.index_in(self.calls["source"], pa.array(list(sources), pa.string())).combine_chunks()
        return pa.table(
            {
                "seq": np.arange(self.first_seq, self.first_seq + rows),
                "message_id": self.calls["message_id"],
                "run": pa.array([run], pa.int64()).take(pa.array(np.zeros(rows, np.int64))),
                "source": pa.array(list(sources.values()), pa.int64()).take(source),
                "type": self.calls["type"],
                "event": self.calls["event"],
                "segment": self.resolution.filed["user"],
                "account": self.resolution.filed["account"],
                "time": self.calls["timestamp"],
                "received_at": self.calls["received_at"],
                "traits": self.calls["traits"],
                "body": self.calls["body"],
            }
        )

    # --- segments that this batch creates -------------------------------------------------------------

    def created(self) -> pa.Table:
        """The rows of `segment` for the new segments, in born order: the first one is `base`, and so on."""
        born = self.resolution.created
        order = born["segment"].to_numpy()
        if np.any(order[1:] < order[:-1]):
            born = born.sort_by("segment")
        count = born.num_rows
        calls = born["call"].to_numpy()
        earliest, latest, last = self.times[calls].copy(), self.times[calls].copy(), calls.copy()
        for filed in (self.user, self.account):
            rows = np.flatnonzero(filed >= self.base)
            at = filed[rows] - self.base
            np.minimum.at(earliest, at, self.times[rows])
            np.maximum.at(latest, at, self.times[rows])
            np.maximum.at(last, at, rows)
        time, seq, traits_, meta = self._documents(count)
        columns = [
            born["segment"],
            space.segment_ids(self.store.secret, born),
            born["collection"],
            earliest,
            latest,
            self.first_seq + calls,
            self.first_seq + last,
            self._identifier_lists(count),
            time,
            seq,
            traits_,
            meta,
        ]
        return pa.table(columns, schema=space.SEGMENT)

    def _identifier_lists(self, count: int) -> pa.Array:
        """`segment.identifiers` of the new segments, in born order."""
        new = self.resolution.identifiers
        rows = np.flatnonzero(new["segment"].to_numpy() >= self.base)
        under = new["segment"].to_numpy()[rows] - self.base
        order = np.argsort(under, kind="stable")
        rows, under = rows[order], under[order]
        items = space.identifier_items(new.take(rows), self.numbers[rows], self.first_seq)
        offsets = np.searchsorted(under, np.arange(count + 1)).astype(np.int32)
        lists = pa.ListArray.from_arrays(pa.array(offsets), items)
        return pc.binary_join_element_wise("[", pc.binary_join(lists, ","), "]", "")

    def _documents(self, count: int) -> tuple[pa.Array, pa.Array, pa.Array, pa.Array]:
        """time, seq, traits and meta of the new segments, in born order; most say what one call said whole."""
        rows = np.flatnonzero(self.owner >= self.base)
        at = self.owner[rows] - self.base
        calls = np.bincount(at, minlength=count)
        time, seq = np.zeros(count, np.int64), np.zeros(count, np.int64)
        time[at], seq[at] = self.times[rows], self.first_seq + rows
        own: dict[int, traits.Document] = {}
        several = rows[calls[at] > 1]
        for segment, document in self._folded(several, {}).items():
            where = segment - self.base
            time[where], seq[where] = document.time, document.seq
            if document.own:
                own[where] = document
        texts: list[str | None] = [None] * count
        metas: list[str | None] = [None] * count
        for where, document in own.items():
            texts[where], metas[where] = document.traits, space.meta(document)
        none = pa.array(calls == 0)
        null = pa.scalar(None, pa.int64())
        return (
            pc.if_else(none, null, pa.array(time)),
            pc.if_else(none, null, pa.array(seq)),
            pa.array(texts, pa.string()),
            pa.array(metas, pa.string()),
        )

    def _folded(self, rows: Numbers, before: dict[int, traits.Document | None]) -> dict[int, traits.Document]:
        """The documents of the segments that own the traits of some calls."""
        said: dict[int, list[tuple[Stamp, str]]] = {}
        for row, text in zip(rows.tolist(), self.calls["traits"].take(rows).to_pylist(), strict=True):
            stamp = Stamp(int(self.times[row]), self.first_seq + row)
            said.setdefault(int(self.owner[row]), []).append((stamp, text))
        folded = {segment: traits.fold(before.get(segment), calls) for segment, calls in said.items()}
        return {segment: document for segment, document in folded.items() if document is not None}

    # --- segments that were there ---------------------------------------------------------------------

    def changed(self) -> pa.Table:
        """The rows of `segment` for the known segments that a call was filed under."""
        touched: dict[int, Segment] = {}
        for filed in (self.user, self.account):
            for row in np.flatnonzero((filed != NOBODY) & (filed < self.base)).tolist():
                segment = touched.setdefault(int(filed[row]), self.found.segments[int(filed[row])])
                segment.touch(int(self.times[row]), self.first_seq + row)
        new = self.resolution.identifiers
        for at in np.flatnonzero(new["segment"].to_numpy() < self.base).tolist():
            row = new.slice(at, 1).to_pylist()[0]
            item = (int(self.numbers[at]), row["value"], row["first_seen"], self.first_seq + row["call"])
            touched[row["segment"]].identifiers.append(item)
        rows = np.flatnonzero((self.owner != NOBODY) & (self.owner < self.base))
        before = {at: segment.document for at, segment in touched.items()}
        for at, document in self._folded(rows, before).items():
            touched[at].document = document
        return identity.table(space.SEGMENT, [touched[at].row() for at in sorted(touched)])

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
