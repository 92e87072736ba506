"""Apply calls to a space: look up, resolve, fold, write. The one way in, for rows, live calls and replays.

Stands inside a turn of the store, so that the calls, their effects and the caller's own state commit together.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from onefold import components, identity, space, traits
from onefold.identity import Resolution
from onefold.rules import Identifier, Rules
from onefold.space import Changes, Found, Segment
from onefold.stores import Store
from onefold.traits import Stamp


@dataclass(frozen=True)
class Applied:
    """What a batch did: the resolution, what was known before, and the seq of the batch's first call."""

    resolution: Resolution
    found: Found
    segments: dict[int, Segment]  # every segment that is known of, as it is now
    touched: set[int]  # the segments that a call was filed under
    first_seq: int

    @property
    def unresolved(self) -> int:
        """How many calls belong to no profile."""
        filed = self.resolution.filed
        return sum(
            user is None and account is None
            for user, account in zip(
                filed.column("user").to_pylist(), filed.column("account").to_pylist(), strict=True
            )
        )


def apply(store: Store, calls: pa.Table, rules: Rules, *, run: int | None = None) -> Applied:
    """Apply a batch (calls.SCHEMA) in the order of its rows. Raises StoreError; the turn undoes it all."""
    counters = store.counters()
    wanted = {
        identifier
        for items in calls.column("identifiers").to_pylist()
        for item in items
        if not rules.blocked((identifier := Identifier(**item)).type, identifier.value)
    }
    found = space.lookup(store, list(wanted), counters["segment"])
    resolution = identity.resolve(calls, found.known, rules)
    batch = _Batch(store, calls, resolution, found, counters["seq"])
    changes = batch.changes(run)
    space.commit(store, changes)
    return Applied(resolution, found, batch.segments, batch.touched, counters["seq"])


class _Batch:
    """One batch between its resolution and the rows that it writes."""

    def __init__(
        self, store: Store, calls: pa.Table, resolution: Resolution, found: Found, first_seq: int
    ) -> None:
        self.store = store
        self.calls = calls
        self.resolution = resolution
        self.first_seq = first_seq
        self.times: list[int] = calls.column("timestamp").to_pylist()
        self.segments = dict(found.segments)
        self.created: set[int] = set()
        self.touched: set[int] = set()

    def changes(self, run: int | None) -> Changes:
        resolution, first = self.resolution, self.first_seq
        self._create()
        identifiers = list(self._identify())
        self._fold()
        return Changes(
            call=self._log(run),
            created=[self.segments[at] for at in sorted(self.created)],
            changed=[self.segments[at] for at in sorted(self.touched - self.created)],
            identifier=identifiers,
            edge=[(first + call, a, b, 1) for a, b, call in _rows(resolution.edges)],
            id_graph=[(first + call, segment, profile) for segment, profile, call in _rows(resolution.moves)],
            link=[(user, account, first + call) for user, account, call in _rows(resolution.links)],
            subscription=list(self._subscriptions()),
            dropped=[(first + call, *rest) for call, *rest in _rows(resolution.dropped)],
            next_seq=first + self.calls.num_rows,
            next_segment=resolution.next_segment,
        )

    def _create(self) -> None:
        secret = self.store.secret
        for segment, collection, kind, value, call in _rows(self.resolution.created):
            name = space.segment_id(secret, Identifier(collection, kind, value))
            time, seq = self.times[call], self.first_seq + call
            self.segments[segment] = Segment(segment, name, collection, time, time, seq, seq)
            self.created.add(segment)

    def _identify(self) -> Iterator[tuple[int, str, int]]:
        types: dict[tuple[str, str], int] = {}
        for collection, kind, value, segment, first_seen, call in _rows(self.resolution.identifiers):
            name = (collection, kind)
            if name not in types:
                types[name] = self.store.number("identifier_type", {"collection": collection, "name": kind})
            item = (types[name], value, first_seen, self.first_seq + call)
            self.segments[segment].identifiers.append(item)
            yield types[name], value, segment

    def _fold(self) -> None:
        """Give each filed segment its calls: times, and traits (of the account in a group call)."""
        said: dict[int, list[tuple[Stamp, str]]] = {}
        kinds, texts = self.calls.column("type").to_pylist(), self.calls.column("traits").to_pylist()
        for call, (user, account) in enumerate(_rows(self.resolution.filed)):
            stamp = Stamp(self.times[call], self.first_seq + call)
            for segment in (user, account):
                if segment is not None:
                    self.segments[segment].touch(*stamp)
                    self.touched.add(segment)
            owner = account if kinds[call] == "group" else user
            if owner is not None and texts[call] is not None:
                said.setdefault(owner, []).append((stamp, texts[call]))
        for segment, calls in said.items():
            self.segments[segment].document = traits.fold(self.segments[segment].document, calls)

    def _subscriptions(self) -> Iterator[tuple[str, str, str, int, int, str]]:
        for call, items in enumerate(self.calls.column("subscriptions").to_pylist()):
            for item in items or ():
                stamp = (self.times[call], self.first_seq + call)
                yield item["channel"], item["address"], item["list"], *stamp, item["status"]

    def _log(self, run: int | None) -> pa.Table:
        """The rows of `call`."""
        rows = self.calls.num_rows
        slugs = self.calls.column("source").to_pylist()
        sources = {slug: self.store.number("source", {"slug": slug}) for slug in dict.fromkeys(slugs)}
        column = self.calls.column
        return pa.table(
            {
                "seq": pa.array(range(self.first_seq, self.first_seq + rows), pa.int64()),
                "message_id": column("message_id"),
                "run": pa.array([run] * rows, pa.int64()),
                "source": pa.array([sources[slug] for slug in slugs], pa.int64()),
                "type": column("type"),
                "event": column("event"),
                "segment": self.resolution.filed.column("user"),
                "account": self.resolution.filed.column("account"),
                "time": column("timestamp"),
                "received_at": column("received_at"),
                "traits": column("traits"),
                "body": column("body"),
            }
        )


def _rows(table: pa.Table) -> Iterator[tuple[Any, ...]]:
    return zip(*(column.to_pylist() for column in table.columns), strict=True)
