"""Reading profiles: by identifier, one after another, by search; and why each looks the way it does."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from time import monotonic
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from onefold import digest, identity, index, log, space, subscriptions, times, traits
from onefold.log import Logged
from onefold.rules import ACCOUNTS, USERS, Identifier, Rules
from onefold.rules import identifiers as carried_by
from onefold.space import Segment
from onefold.stores import Names, Store

PAGE = 1000
SECONDS = 1.0  # that are spent on looking for a part of an identifier


def find(store: Store, collection: str, kind: str, value: str) -> int | None:
    """The oldest segment of the profile that owns an identifier, or None.

    The type `segment_id` finds a profile by any of its segment_ids.
    """
    (members,) = owned(store, [Identifier(collection, kind, value)])
    return members[0].segment if members else None


def read(store: Store, collection: str, kind: str, value: str, rules: Rules) -> dict[str, Any] | None:
    """The view of the profile that owns an identifier, or None."""
    (members,) = owned(store, [Identifier(collection, kind, value)])
    if not members:
        return None
    profile, segments = members[0].segment, {segment.segment: segment for segment in members}
    return _views(store, [profile], segments, dict.fromkeys(segments, profile), rules)[0]


def owned(store: Store, identifiers: Sequence[Identifier]) -> list[list[Segment]]:
    """The segments of the profile that owns each identifier, oldest first; [] where nobody does. Raises StoreError."""
    hashes = [
        digest.indexed(item.value) if item.type == "segment_id" else digest.index(store.secret, item)
        for item in identifiers
    ]
    there, at = index.lookup(store, np.unique(np.array([number for number in hashes if number is not None], np.int64)))
    segments, owner = space.whole(store, np.unique(at))
    members: dict[int, list[Segment]] = {}
    for segment in sorted(segments):
        members.setdefault(owner[segment], []).append(segments[segment])
    places: dict[int | None, list[int]] = {}
    for number, segment in zip(there.tolist(), at.tolist(), strict=True):
        places.setdefault(number, []).append(segment)
    found = []
    for item, wanted in zip(identifiers, hashes, strict=True):
        mine = (at for at in places.get(wanted, ()) if _holds(store, segments[at], item))
        found.append(next((members[owner[at]] for at in mine), []))
    return found


def _holds(store: Store, segment: Segment, item: Identifier) -> bool:
    """Whether an identifier is filed under a segment, or is its segment_id."""
    if item.type == "segment_id":
        return (segment.collection, segment.segment_id) == (item.collection, item.value)
    wanted = (store.names("identifier_type").get(item.collection, item.type), item.value)
    return any(filed[:2] == wanted for filed in segment.identifiers)


def each(store: Store, collection: str, rules: Rules, limit: int | None = None) -> Iterator[dict[str, Any]]:
    """The views of all profiles of a collection, oldest first."""
    following = store.counters()["segment"]
    for start in range(1, following, PAGE):
        page = range(start, min(start + PAGE, following))
        segments = space.load(store, page)
        belongs = space.oldest(store, page)
        found = [at for at in page if belongs[at] == at and segments[at].collection == collection][:limit]
        yield from views(store, found, rules)
        if limit is not None:
            limit -= len(found)
            if not limit:
                return


def segment_ids(store: Store, segments: Sequence[int]) -> list[str]:
    """The segment_ids of segments, in their order."""
    found = space.load(store, segments)
    return [found[segment].segment_id for segment in segments]


class Search(NamedTuple):
    """Profiles that were found; and for a part of an identifier how many of the log's calls were looked through."""

    profiles: list[dict[str, Any]]
    looked: int
    calls: int


def search(
    store: Store, text: str, rules: Rules, limit: int = 20, seconds: float = SECONDS, *, parts: bool = False
) -> Search:
    """Profiles that have an identifier, of any type, or a segment_id; the oldest first.

    Only where there is none, or with `parts`, also those of which one contains the text, in any case: the index knows
    whole ones only, so the log is looked through for them, for at most so many seconds.
    """
    kinds = [*store.names("identifier_type"), *((collection, "segment_id") for collection in (USERS, ACCOUNTS))]
    whole = (find(store, collection, kind, text) for collection, kind in kinds)
    found = dict.fromkeys(sorted({profile for profile in whole if profile is not None}))
    looked, calls = 0, store.counters()["seq"] - 1
    until = monotonic() + seconds
    if (parts or not found) and seconds > 0:
        for looked, segments in log.search(store, text):  # noqa: B007 - how far it came is what is told
            found |= dict.fromkeys(dict.fromkeys(space.oldest(store, segments).values()))
            if len(found) >= limit or monotonic() > until:
                break
    return Search(views(store, list(found)[:limit], rules), looked, calls)


def views(store: Store, profiles: Sequence[int], rules: Rules) -> list[dict[str, Any]]:
    """Profiles, given by their oldest segments, as people and the CLI read them (design, section 7)."""
    return _views(store, profiles, *space.whole(store, profiles), rules)


def _views(
    store: Store, profiles: Sequence[int], segments: Mapping[int, Segment], owner: Mapping[int, int], rules: Rules
) -> list[dict[str, Any]]:
    members: dict[int, list[Segment]] = {}
    for at, segment in sorted(segments.items()):
        members.setdefault(owner[at], []).append(segment)
    kinds = store.names("identifier_type")
    linked, said = _around(store, segments, owner, kinds)
    return [_view(members[at], kinds, linked.get(at, []), said.get(at, []), rules) for at in profiles if at in members]


def _view(
    members: list[Segment],
    kinds: Names,
    linked: list[dict[str, Any]],
    said: list[dict[str, Any]],
    rules: Rules,
) -> dict[str, Any]:
    oldest = members[0]
    documents = [segment.document for segment in members if segment.document is not None]
    return {
        "segment_id": oldest.segment_id,
        "external_ids": external_ids(members, kinds, rules),
        "traits": {name: value for name, (value, _) in traits.merged(documents).items()},
        "subscriptions": subscriptions.current(said),
        "accounts" if oldest.collection == USERS else "users": linked,
        "created_at": times.text(min(segment.created_at for segment in members)),
        "updated_at": times.text(max(segment.updated_at for segment in members)),
    }


def external_ids(members: Sequence[Segment], kinds: Names, rules: Rules) -> list[dict[str, str]]:
    """All identifiers of a profile, highest rank first, then as they were filed."""
    found = [(kinds[kind][1], value, seq) for segment in members for kind, value, _, seq in segment.identifiers]
    found.sort(key=lambda item: (rules.rank(item[0]), item[2], item[1]))
    return [{"type": kind, "id": value} for kind, value, _ in found]


def _around(
    store: Store, segments: Mapping[int, Segment], owner: Mapping[int, int], kinds: Names
) -> tuple[dict[int, list[dict[str, Any]]], dict[int, list[dict[str, Any]]]]:
    """For each profile the accounts of a user or users of an account, and what was said about its addresses.

    `owner`: segment -> its profile. Both in one query, for a profile is most often read alone.
    """
    channels: dict[str, list[str]] = {}
    for channel, kind in subscriptions.ADDRESSES.items():
        channels.setdefault(kind, []).append(channel)
    asked = [("", "", at) for at in sorted(owner)] + [
        (channel, value, owner[at])
        for at, segment in segments.items()
        for kind, value, *_ in segment.identifiers
        for channel in channels.get(kinds[kind][1], ())
    ]
    links: list[tuple[int, int]] = []
    said: dict[int, list[dict[str, Any]]] = {}
    for row in store.asked(identity.table(_ASKED, asked), _AROUND):
        if row["channel"]:
            said.setdefault(row["number"], []).append(row)
        else:
            links.append((owner[row["number"]], row["oldest"]))
    return _linked(store, links, kinds) if links else {}, said


_ASKED = pa.schema([("channel", pa.string()), ("address", pa.string()), ("number", pa.int64())])
# Of a segment (no channel) the oldest segments of those it is linked with; of an address what was said about it.
_AROUND = """
    select '' as channel, '' as address, '' as list, '' as status, 0 as time, 0 as seq,
        linked.number, coalesce(m.profile, linked.other) as oldest
    from (
        select a.number, l.account_segment as other
        from asked a cross join link l where l.user_segment = a.number and a.channel = ''
        union all
        select a.number, l.user_segment
        from asked a cross join link l where l.account_segment = a.number and a.channel = ''
    ) linked
    left join merged m on m.segment = linked.other
    union all
    select s.channel, s.address, s.list, s.status, s.time, s.seq, a.number, 0
    from asked a cross join subscription s where s.channel = a.channel and s.address = a.address
"""


def _linked(store: Store, links: Sequence[tuple[int, int]], kinds: Names) -> dict[int, list[dict[str, Any]]]:
    """For each profile those that it is linked with: segment_id and identifiers. `links`: (profile, other)."""
    others, whose = space.whole(store, sorted({other for _, other in links}))
    members: dict[int, list[Segment]] = {}
    for at, segment in sorted(others.items()):
        members.setdefault(whose[at], []).append(segment)
    found: dict[int, list[dict[str, Any]]] = {}
    for profile, other in sorted(set(links)):
        items = [item for segment in members[other] for item in segment.identifiers]
        ids = [{"type": kinds[kind][1], "id": value} for kind, value, *_ in items]
        # The oldest segment names the profile.
        found.setdefault(profile, []).append({"segment_id": members[other][0].segment_id, "external_ids": ids})
    return found


# --- why ----------------------------------------------------------------------------------------------


def why(store: Store, profile: int, rules: Rules) -> dict[str, Any]:
    """Where everything in a profile came from.

    `identifiers` and `traits` name the call that set each one. `merges`, newest last, tells which segment_ids were
    `joined` by a call, the `identifiers` that it carried of both, its `message`, and which of the profiles that there
    were before became part of (`merged`) which (`into`).
    """
    segments, _ = space.whole(store, [profile])
    members = [segments[at] for at in sorted(segments)]
    kinds = store.names("identifier_type")
    documents = [segment.document for segment in members if segment.document is not None]
    kept = traits.merged(documents)
    edges = store.asked(
        sorted(segments),
        "select e.seq, e.a, e.b from asked a join edge e on e.a = a.number where e.active = 1 order by e.seq, e.a, e.b",
    )
    seqs = {stamp.seq for _, stamp in kept.values()} | {edge["seq"] for edge in edges}
    seqs |= {seq for segment in members for *_, seq in segment.identifiers}
    logged = log.calls(store, seqs)
    calls = told(store, logged)
    return {
        "identifiers": [
            {"type": kinds[kind][1], "id": value, "filed_under": segment.segment_id, **calls[seq]}
            for segment in members
            for kind, value, _, seq in segment.identifiers
        ],
        "traits": [{"name": name, "value": value, **calls[stamp.seq]} for name, (value, stamp) in kept.items()],
        "merges": [{**merge, **calls[edge["seq"]]} for edge, merge in _merges(segments, edges, logged, kinds, rules)],
    }


def _merges(
    segments: Mapping[int, Segment],
    edges: Sequence[dict[str, Any]],
    logged: Mapping[int, Logged],
    kinds: Names,
    rules: Rules,
) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """What each edge joined, and by what, in order."""
    belongs = {at: at for at in segments}
    for edge in edges:
        pair = [segments[edge[end]] for end in "ab" if edge[end] in segments]
        if len(pair) < 2:
            continue
        message = log.message(logged[edge["seq"]])
        carried = sorted(carried_by(message, rules), key=lambda item: rules.rank(item["type"]))
        filed = (
            {(*kinds[kind], value) for kind, value, _, seq in segment.identifiers if seq < edge["seq"]}
            for segment in pair
        )
        both = [[item for item in carried if tuple(item.values()) in mine][:1] for mine in filed]
        into, merged = sorted(belongs[segment.segment] for segment in pair)
        belongs |= {at: into for at, oldest in belongs.items() if oldest == merged}
        yield (
            edge,
            {
                "joined": [segment.segment_id for segment in pair],
                "into": segments[into].segment_id,
                "merged": segments[merged].segment_id,
                "identifiers": [
                    {"type": item["type"], "id": item["value"], "filed_under": segment.segment_id}
                    for segment, found in zip(pair, both, strict=True)
                    for item in found
                ],
                "message": message,
            },
        )


def told(store: Store, logged: Mapping[int, Logged]) -> dict[int, dict[str, Any]]:
    """seq -> where a call came from: type, message_id, source, mapping, run, timestamp, its user."""
    sources = store.names("source")
    runs = {
        row["run"]: row
        for row in store.asked(
            sorted({call.run for call in logged.values() if call.run is not None}),
            "select r.run, r.run_id, m.path from asked a join run r on r.run = a.number"
            " join mapping m on m.mapping = r.mapping",
        )
    }
    return {
        seq: {
            "call": call.type,
            "message_id": call.message_id,
            "source": sources[call.source][0],
            "mapping": runs[call.run]["path"] if call.run in runs else None,
            "run_id": runs[call.run]["run_id"] if call.run in runs else None,
            "timestamp": times.text(call.time),
            "user_id": json.loads(call.body).get("userId"),
        }
        for seq, call in logged.items()
    }


def collection_of(kind: str, *, accounts: bool) -> str:
    """Where an identifier type is looked up: `group_id` identifies accounts only."""
    return ACCOUNTS if accounts or kind == "group_id" else USERS
