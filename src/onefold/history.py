"""The calls of a profile, newest first: all that tell what somebody did, and of the others those that left something.

Track, page and screen calls are listed for each segment. An identify or group call is found by what it set and still
holds: an identifier, a trait, a subscription, a link, a merge. One that left nothing is in the log alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pyarrow as pa

from onefold import identity, log, profiles, space, subscriptions
from onefold.space import Segment
from onefold.stores import Names, Store

Place = tuple[int, int]  # time in µs, and seq


def read(store: Store, profile: int, limit: int, before: Place | None = None) -> dict[str, Any]:
    """The newest `limit` calls of a profile, or those before a place. Raises StoreError.

    {calls, next, events}: each call with its `event`, `filed_under` and `message`; `next`
    the place to go on from, or None; `events` how many track, page and screen calls each segment_id has.
    """
    segments, _ = space.whole(store, [profile])
    count = "select e.segment, count(*) as calls from asked a join event e on e.segment = a.number group by e.segment"
    events = {segments[row["segment"]].segment_id: row["calls"] for row in store.asked(sorted(segments), count)}
    logged = log.calls(store, _told(store, segments, limit, before) | _left(store, segments))
    places = sorted(((call.time, seq) for seq, call in logged.items()), reverse=True)
    places = [place for place in places if before is None or place < before]
    calls = profiles.told(store, {seq: logged[seq] for _, seq in places[:limit]})
    return {
        "calls": [
            {
                **calls[seq],
                "event": logged[seq].event,
                "filed_under": _filed(logged[seq], segments),
                "message": log.message(logged[seq]),
            }
            for _, seq in places[:limit]
        ],
        "next": places[limit - 1] if len(places) > limit else None,
        "events": events,
    }


def _filed(call: log.Logged, segments: Mapping[int, Segment]) -> str | None:
    return next((segments[at].segment_id for at in (call.user, call.account) if at and at in segments), None)


def _told(store: Store, segments: Mapping[int, Segment], limit: int, before: Place | None) -> set[int]:
    """The newest track, page and screen calls: one more than are wanted, which tells that there are more."""
    older = "" if before is None else f" and (e.time, e.seq) < ({before[0]:d}, {before[1]:d})"
    query = f"select e.seq from asked a join event e on e.segment = a.number{older}"
    return {
        row["seq"]
        for row in store.asked(sorted(segments), f"{query} order by e.time desc, e.seq desc limit {limit + 1:d}")
    }


def _left(store: Store, segments: Mapping[int, Segment]) -> set[int]:
    """The calls that set something which still holds."""
    found = {seq for segment in segments.values() for *_, seq in segment.identifiers}
    found |= {seq for segment in segments.values() for seq in (segment.first_seq, segment.last_seq)}
    for segment in segments.values():
        if segment.document is not None:
            found |= {stamp.seq for _, stamp in segment.document.stamped().values()}
    addresses = _addresses(segments, store.names("identifier_type"))
    asked = [("", "", at) for at in sorted(segments)] + [(*address, 0) for address in addresses]
    found |= {row["seq"] for row in store.asked(identity.table(_ASKED, asked), _SET)}
    if len(segments) > 1:
        joined = "select e.seq from asked a join edge e on e.a = a.number where e.active = 1"
        found |= {row["seq"] for row in store.asked(sorted(segments), joined)}
    return found


def _addresses(segments: Mapping[int, Segment], kinds: Names) -> list[tuple[str, str]]:
    """The channels and addresses of a profile."""
    return [
        (channel, value)
        for segment in segments.values()
        for kind, value, *_ in segment.identifiers
        for channel, wanted in subscriptions.ADDRESSES.items()
        if kinds[kind][1] == wanted
    ]


_ASKED = pa.schema([("channel", pa.string()), ("address", pa.string()), ("number", pa.int64())])
# The calls that linked segments, or spoke of an address.
_SET = """
    select l.seq from asked a join link l on l.user_segment = a.number
    union select l.seq from asked a join link l on l.account_segment = a.number
    union select s.seq from asked a join subscription s on s.channel = a.channel and s.address = a.address
"""
