"""A Profile Space: what is known of a batch of identifiers, and the writing of what a batch changed."""

from __future__ import annotations

import hmac
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from onefold.identity import KNOWN_IDENTIFIERS, KNOWN_SEGMENTS, Known, table
from onefold.rules import USERS, Identifier
from onefold.stores import Store
from onefold.traits import Document

SEGMENT = pa.schema(
    [
        ("segment", pa.int64()),
        ("segment_id", pa.string()),
        ("collection", pa.string()),
        ("created_at", pa.int64()),
        ("updated_at", pa.int64()),
        ("first_seq", pa.int64()),
        ("last_seq", pa.int64()),
        ("identifiers", pa.string()),
        ("time", pa.int64()),
        ("seq", pa.int64()),
        ("traits", pa.string()),
        ("meta", pa.string()),
    ]
)
# Text that may be null is selected with coalesce: the driver types a column by its first rows.
SEGMENT_COLUMNS = (
    "s.segment, s.segment_id, s.collection, s.created_at, s.updated_at, s.first_seq, s.last_seq, s.identifiers,"
    " coalesce(s.time, 0) as time, coalesce(s.seq, 0) as seq, coalesce(s.traits, c.traits, '') as traits,"
    " coalesce(s.meta, '') as meta, s.traits is not null as own"
)


@dataclass
class Segment:
    """One segment_id and what is filed under it. Times in µs; `identifiers` in the order they were filed."""

    segment: int
    segment_id: str
    collection: str
    created_at: int
    updated_at: int
    first_seq: int
    last_seq: int
    identifiers: list[tuple[int, str, int, int]] = field(default_factory=list)  # type, value, first_seen, seq
    document: Document | None = None

    def touch(self, time: int, seq: int) -> None:
        self.created_at = min(self.created_at, time)
        self.updated_at = max(self.updated_at, time)
        self.last_seq = seq

    def row(self) -> tuple[Any, ...]:
        """The row of SEGMENT."""
        document = self.document
        return (
            *(self.segment, self.segment_id, self.collection, self.created_at, self.updated_at),
            *(self.first_seq, self.last_seq),
            json.dumps(self.identifiers, ensure_ascii=False, separators=(",", ":")),
            document.time if document else None,
            document.seq if document else None,
            document.traits if document and document.own else None,
            json.dumps(document.meta, separators=(",", ":")) if document and document.meta else None,
        )


def segment_of(row: Mapping[str, Any]) -> Segment:
    """A Segment from a row of SEGMENT_COLUMNS."""
    document = None
    if row["seq"]:
        meta = json.loads(row["meta"]) if row["meta"] else {}
        document = Document(row["time"], row["seq"], row["traits"], meta, own=bool(row["own"]))
    return Segment(
        *(row["segment"], row["segment_id"], row["collection"], row["created_at"], row["updated_at"]),
        *(row["first_seq"], row["last_seq"]),
        [tuple(item) for item in json.loads(row["identifiers"])],
        document,
    )


@dataclass
class Found:
    """What the space knows of a batch: the form that identity takes, and the segments whole."""

    known: Known
    segments: dict[int, Segment]
    profile: dict[int, int]  # segment -> the oldest segment of its profile


def lookup(store: Store, identifiers: Sequence[Identifier], next_segment: int) -> Found:
    """Every profile that owns one of the identifiers, whole. Raises StoreError."""
    numbers = types(store)
    wanted = sorted((numbers[item[:2]], item.value) for item in set(identifiers) if item[:2] in numbers)
    if not wanted:
        return Found(Known(next_segment=next_segment), {}, {})
    kinds, values = zip(*wanted, strict=True)
    store.stage("wanted", pa.table({"type": pa.array(kinds, pa.int64()), "value": pa.array(values, pa.string())}))
    segments, profile = whole(store, store.query(_TOUCHED))
    names = {number: name for name, number in numbers.items()}
    items = [
        (*names[kind], value, segment.segment, first_seen)
        for segment in segments.values()
        for kind, value, first_seen, _ in segment.identifiers
    ]
    known = Known(
        identifiers=table(KNOWN_IDENTIFIERS, items),
        segments=table(KNOWN_SEGMENTS, sorted(profile.items())),
        next_segment=next_segment,
    )
    return Found(known, segments, profile)


def whole(store: Store, profiles: pa.Table) -> tuple[dict[int, Segment], dict[int, int]]:
    """The segments of profiles (a table with the column `profile`: oldest segments), and whose each is."""
    store.stage("touched", profiles)
    segments, profile = {}, {}
    for row in store.rows(_WHOLE):
        segments[row["segment"]] = segment_of(row)
        profile[row["segment"]] = row["profile"]
    return segments, profile


def types(store: Store) -> dict[tuple[str, str], int]:
    """(collection, type) -> the integer that stands for it in the space."""
    return {(row["collection"], row["name"]): row["type"] for row in store.rows(_TYPES)}


_TYPES = "select type, collection, name from identifier_type"
_TOUCHED = """
    select distinct coalesce(m.profile, i.segment) as profile
    from wanted w
    join identifier i on i.type = w.type and i.value = w.value
    left join merged m on m.segment = i.segment
"""
_WHOLE = f"""
    with member as (
        select profile as segment, profile from touched
        union all
        select m.segment, m.profile from touched t join merged m on m.profile = t.profile
    )
    select {SEGMENT_COLUMNS}, member.profile
    from member
    join segment s on s.segment = member.segment
    left join call c on c.seq = s.seq and s.traits is null
"""


@dataclass
class Changes:
    """What a batch writes: rows of the tables of the same names, in their column order."""

    call: pa.Table
    created: list[Segment] = field(default_factory=list)
    changed: list[Segment] = field(default_factory=list)
    identifier: list[tuple[int, str, int]] = field(default_factory=list)
    edge: list[tuple[int, int, int, int]] = field(default_factory=list)
    id_graph: list[tuple[int, int, int]] = field(default_factory=list)
    link: list[tuple[int, int, int]] = field(default_factory=list)
    subscription: list[tuple[str, str, str, int, int, str]] = field(default_factory=list)
    dropped: list[tuple[int, str, str, str, str]] = field(default_factory=list)
    next_seq: int = 1
    next_segment: int = 1


def commit(store: Store, changes: Changes) -> None:
    """Write the changes; the turn that this stands in makes them whole. Raises StoreError."""
    store.append("call", changes.call)
    store.append("segment", table(SEGMENT, [segment.row() for segment in changes.created]))
    store.append("identifier", table(_IDENTIFIER, sorted(changes.identifier)))
    store.append("edge", table(_EDGE, changes.edge))
    store.append("id_graph", table(_ID_GRAPH, sorted(changes.id_graph)))
    store.append("dropped", table(_DROPPED, changes.dropped))
    merge_in(store, "segment", table(SEGMENT, [segment.row() for segment in changes.changed]))
    moved = {segment: profile for _, segment, profile in changes.id_graph}
    merge_in(store, "merged", table(_MERGED, sorted(moved.items())))
    merge_in(store, "link", table(_LINK, sorted(changes.link)))
    merge_in(store, "subscription", table(_SUBSCRIPTION, sorted(changes.subscription)))
    store.execute("update counter set value = $1 where name = 'seq'", changes.next_seq)
    store.execute("update counter set value = $1 where name = 'segment'", changes.next_segment)


def merge_in(store: Store, name: str, data: pa.Table) -> None:
    """Insert rows; of those whose key is there, update the columns that the table lets change."""
    if not data.num_rows:
        return
    store.stage("incoming", data)
    columns = ", ".join(data.column_names)
    key, fixed = _KEYS[name]
    changes = ", ".join(
        f"{column} = excluded.{column}" for column in data.column_names if column not in (*key, *fixed)
    )
    conflict = f"({', '.join(key)}) do update set {changes}" if changes else "do nothing"
    # `where true`: without it SQLite reads "on conflict" as part of a join.
    store.execute(f"insert into {name} ({columns}) select {columns} from incoming where true on conflict {conflict}")


# Table -> its key, and the columns that never change.
_KEYS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "segment": (("segment",), ("segment_id", "collection", "first_seq")),
    "merged": (("segment",), ()),
    "link": (("user_segment", "account_segment"), ("seq",)),
    "subscription": (("channel", "address", "list", "time", "seq"), ("status",)),
    "state": (("mapping", "key"), ()),
}
_IDENTIFIER = pa.schema([("type", pa.int64()), ("value", pa.string()), ("segment", pa.int64())])
_EDGE = pa.schema([("seq", pa.int64()), ("a", pa.int64()), ("b", pa.int64()), ("active", pa.int64())])
_ID_GRAPH = pa.schema([("seq", pa.int64()), ("segment", pa.int64()), ("profile", pa.int64())])
_MERGED = pa.schema([("segment", pa.int64()), ("profile", pa.int64())])
_LINK = pa.schema([("user_segment", pa.int64()), ("account_segment", pa.int64()), ("seq", pa.int64())])
_SUBSCRIPTION = pa.schema(
    [
        *((name, pa.string()) for name in ("channel", "address", "list")),
        *((name, pa.int64()) for name in ("time", "seq")),
        ("status", pa.string()),
    ]
)
_DROPPED = pa.schema(
    [("seq", pa.int64()), *((name, pa.string()) for name in ("collection", "type", "value", "reason"))]
)


def segment_id(secret: bytes, identifier: Identifier, incarnation: int = 0) -> str:
    """The id that an identifier creates: computed, so that a rebuild gives the same, and not to be guessed."""
    prefix = "use_" if identifier.collection == USERS else "grp_"
    said = "\0".join((*identifier, str(incarnation)))
    return prefix + hmac.digest(secret, said.encode(), "sha256")[:16].hex()

