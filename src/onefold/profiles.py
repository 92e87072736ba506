"""Reading profiles: by identifier, one after another, by search; and why each looks the way it does."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

import pyarrow as pa

from onefold import identity, space, subscriptions, times, traits
from onefold.rules import ACCOUNTS, USERS, Rules
from onefold.space import Segment
from onefold.stores import Store

PAGE = 1000


def find(store: Store, collection: str, kind: str, value: str) -> int | None:
    """The oldest segment of the profile that owns an identifier, or None.

    The type `segment_id` finds a profile by any of its segment_ids.
    """
    if kind == "segment_id":
        sql = "select segment from segment where segment_id = $1 and collection = $2"
        rows = store.rows(f"select {_OLDEST} from ({sql}) i {_MERGED}", value, collection)
    else:
        sql = (
            "select segment from identifier where type ="
            " (select type from identifier_type where collection = $1 and name = $2) and value = $3"
        )
        rows = store.rows(f"select {_OLDEST} from ({sql}) i {_MERGED}", collection, kind, value)
    return int(rows[0]["profile"]) if rows else None


_OLDEST = "coalesce(m.profile, i.segment) as profile"
_MERGED = "left join merged m on m.segment = i.segment"


def each(store: Store, collection: str, rules: Rules, limit: int | None = None) -> Iterator[dict[str, Any]]:
    """The views of all profiles of a collection, oldest first."""
    after = 0
    while limit is None or limit > 0:
        size = PAGE if limit is None else min(PAGE, limit)
        rows = store.rows(
            "select s.segment from segment s left join merged m on m.segment = s.segment"
            " where s.segment > $1 and s.collection = $2 and m.segment is null order by s.segment limit $3",
            *(after, collection, size),
        )
        if not rows:
            return
        found = [row["segment"] for row in rows]
        yield from views(store, found, rules)
        after = found[-1]
        limit = None if limit is None else limit - len(found)


def segment_ids(store: Store, segments: Sequence[int]) -> list[str]:
    """The segment_ids of segments, in their order."""
    store.stage("asked", pa.table({"segment": pa.array(segments, pa.int64())}))
    rows = store.rows("select s.segment, s.segment_id from asked join segment s on s.segment = asked.segment")
    found = {row["segment"]: row["segment_id"] for row in rows}
    return [found[segment] for segment in segments]


def search(store: Store, text: str, rules: Rules, limit: int = 20) -> list[dict[str, Any]]:
    """Profiles one of whose identifiers contains the text, in any case; whole matches first."""
    like = "%" + text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_") + "%"
    rows = store.rows(
        "select profile, max(whole) as whole from (select coalesce(m.profile, i.segment) as profile,"
        " case when i.value = $1 then 1 else 0 end as whole"
        f" from identifier i {_MERGED} where lower(i.value) like lower($2) escape '\\') found"
        " group by profile order by whole desc, profile limit $3",
        *(text, like, limit),
    )
    return views(store, [row["profile"] for row in rows], rules)


def views(store: Store, profiles: Sequence[int], rules: Rules) -> list[dict[str, Any]]:
    """Profiles, given by their oldest segments, as people and the CLI read them (design, section 7)."""
    segments, owner = space.whole(store, pa.table({"profile": pa.array(profiles, pa.int64())}))
    members: dict[int, list[Segment]] = {}
    for at, segment in sorted(segments.items()):
        members.setdefault(owner[at], []).append(segment)
    names = {number: name for (_, name), number in space.types(store).items()}
    linked = _linked(store)
    said = _statements(store, segments, names)
    return [_view(members[at], names, linked.get(at, []), said.get(at, []), rules) for at in profiles if at in members]


def _view(
    members: list[Segment],
    names: dict[int, str],
    linked: list[dict[str, Any]],
    said: list[dict[str, Any]],
    rules: Rules,
) -> dict[str, Any]:
    oldest = members[0]
    documents = [segment.document for segment in members if segment.document is not None]
    return {
        "segment_id": oldest.segment_id,
        "external_ids": external_ids(members, names, rules),
        "traits": {name: value for name, (value, _) in traits.merged(documents).items()},
        "subscriptions": subscriptions.current(said),
        "accounts" if oldest.collection == USERS else "users": linked,
        "created_at": times.text(min(segment.created_at for segment in members)),
        "updated_at": times.text(max(segment.updated_at for segment in members)),
    }


def external_ids(members: Sequence[Segment], names: dict[int, str], rules: Rules) -> list[dict[str, str]]:
    """All identifiers of a profile, highest rank first, then as they were filed."""
    found = [(names[kind], value, seq) for segment in members for kind, value, _, seq in segment.identifiers]
    found.sort(key=lambda item: (rules.rank(item[0]), item[2], item[1]))
    return [{"type": kind, "id": value} for kind, value, _ in found]


def _linked(store: Store) -> dict[int, list[dict[str, Any]]]:
    """For each profile in `touched`: the accounts of a user, the users of an account."""
    found: dict[int, dict[int, dict[str, Any]]] = {}
    names = {number: name for (_, name), number in space.types(store).items()}
    for row in store.rows(_LINKED):
        ids = [{"type": names[kind], "id": value} for kind, value, *_ in json.loads(row["identifiers"])]
        # The oldest segment comes first, and names the profile.
        whole = {"segment_id": row["segment_id"], "external_ids": []}
        found.setdefault(row["profile"], {}).setdefault(row["oldest"], whole)["external_ids"] += ids
    return {profile: list(others.values()) for profile, others in found.items()}


_MEMBER = """
    with member as (
        select profile as segment, profile from touched
        union all
        select m.segment, m.profile from touched t join merged m on m.profile = t.profile
    )
"""
_LINKED = f"""{_MEMBER},
    linked as (
        select member.profile, l.account_segment as segment
        from member join link l on l.user_segment = member.segment
        union
        select member.profile, l.user_segment from member join link l on l.account_segment = member.segment
    ),
    other as (
        select distinct linked.profile, coalesce(m.profile, linked.segment) as oldest
        from linked left join merged m on m.segment = linked.segment
    ),
    whole as (
        select profile, oldest, oldest as segment from other
        union all
        select other.profile, other.oldest, m.segment from other join merged m on m.profile = other.oldest
    )
    select whole.profile, whole.oldest, s.segment_id, s.identifiers
    from whole join segment s on s.segment = whole.segment
    order by whole.profile, whole.oldest, s.segment
"""


def _statements(store: Store, segments: dict[int, Segment], names: dict[int, str]) -> dict[int, list[dict[str, Any]]]:
    """For each profile in `touched`: what was said about its addresses."""
    channels: dict[str, list[str]] = {}
    for channel, kind in subscriptions.ADDRESSES.items():
        channels.setdefault(kind, []).append(channel)
    addresses = [
        (channel, value, at)
        for at, segment in segments.items()
        for kind, value, *_ in segment.identifiers
        for channel in channels.get(names[kind], ())
    ]
    if not addresses:
        return {}
    store.stage("address", identity.table(_ADDRESS, sorted(addresses)))
    found: dict[int, list[dict[str, Any]]] = {}
    for row in store.rows(_SAID):
        found.setdefault(row["profile"], []).append(row)
    return found


_ADDRESS = pa.schema([("channel", pa.string()), ("address", pa.string()), ("segment", pa.int64())])
_SAID = """
    select coalesce(m.profile, a.segment) as profile, s.channel, s.address, s.list, s.time, s.seq, s.status
    from address a
    join subscription s on s.channel = a.channel and s.address = a.address
    left join merged m on m.segment = a.segment
"""


# --- why ----------------------------------------------------------------------------------------------


def why(store: Store, profile: int) -> dict[str, Any]:
    """Where everything in a profile came from.

    `identifiers` and `traits` name the call that set each one; `merges` tells which segment_ids were joined,
    by which call and identifier, newest last.
    """
    segments, _ = space.whole(store, pa.table({"profile": pa.array([profile], pa.int64())}))
    members = [segments[at] for at in sorted(segments)]
    names = {number: name for (_, name), number in space.types(store).items()}
    documents = [segment.document for segment in members if segment.document is not None]
    kept = traits.merged(documents)
    edges = store.rows(
        f"{_MEMBER} select e.seq, e.a, e.b from edge e join member on member.segment = e.a"
        " where e.active = 1 order by e.seq, e.a, e.b"
    )
    seqs = {stamp.seq for _, stamp in kept.values()} | {edge["seq"] for edge in edges}
    seqs |= {seq for segment in members for *_, seq in segment.identifiers}
    calls = _calls(store, seqs)
    return {
        "identifiers": [
            {"type": names[kind], "id": value, "filed_under": segment.segment_id, **calls[seq]}
            for segment in members
            for kind, value, _, seq in segment.identifiers
        ],
        "traits": [{"name": name, "value": value, **calls[stamp.seq]} for name, (value, stamp) in kept.items()],
        "merges": [
            {"joined": [segments[edge["a"]].segment_id, segments[edge["b"]].segment_id], **calls[edge["seq"]]}
            for edge in edges
            if edge["a"] in segments and edge["b"] in segments
        ],
    }


def _calls(store: Store, seqs: set[int]) -> dict[int, dict[str, Any]]:
    """seq -> where a call came from: type, message_id, source, mapping, run, timestamp, its identifiers."""
    store.stage("asked", pa.table({"seq": pa.array(sorted(seqs), pa.int64())}))
    rows = store.rows(
        "select c.seq, c.type, c.message_id, c.time, c.body, src.slug as source,"
        " coalesce(r.run_id, '') as run_id, coalesce(m.path, '') as mapping"
        " from asked join call c on c.seq = asked.seq join source src on src.source = c.source"
        " left join run r on r.run = c.run left join mapping m on m.mapping = r.mapping"
    )
    found = {}
    for row in rows:
        body = json.loads(row["body"])
        found[row["seq"]] = {
            "call": row["type"],
            "message_id": row["message_id"],
            "source": row["source"],
            "mapping": row["mapping"] or None,
            "run_id": row["run_id"] or None,
            "timestamp": times.text(row["time"]),
            "user_id": body.get("userId"),
        }
    return found


def collection_of(kind: str, *, accounts: bool) -> str:
    """Where an identifier type is looked up: `group_id` identifies accounts only."""
    return ACCOUNTS if accounts or kind == "group_id" else USERS
