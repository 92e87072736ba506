"""A Profile Space: what is known of a batch of identifiers, and the writing of what a batch changed."""

from __future__ import annotations

import hmac
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from onefold import canonical
from onefold.identity import KNOWN_IDENTIFIERS, KNOWN_SEGMENTS, Known, Numbers, Resolution, table
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
            meta(document) if document and document.own else None,
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


def meta(document: Document) -> str | None:
    """`segment.meta` of a document: the traits that another call than the newest set, with time and seq."""
    return json.dumps(document.meta, ensure_ascii=False, separators=(",", ":")) if document.meta else None


@dataclass
class Found:
    """What the space knows of a batch: the form that identity takes, and the segments whole."""

    known: Known
    segments: dict[int, Segment]


def lookup(store: Store, identifying: pa.Table, next_segment: int) -> Found:
    """Every profile that owns one of the identifiers (identity.IDENTIFYING), whole. Raises StoreError."""
    numbers = types(store)
    kinds = pc.binary_join_element_wise(identifying["collection"], identifying["type"], ":")
    names = pa.array([":".join(name) for name in numbers], pa.string())
    number = pa.array(list(numbers.values()), pa.int64()).take(pc.index_in(kinds, names).combine_chunks())
    wanted = pa.table({"type": number, "value": identifying["value"]}).filter(pc.is_valid(number))
    if not wanted.num_rows:
        return Found(Known(next_segment=next_segment), {})
    store.stage("wanted", wanted.sort_by([("type", "ascending"), ("value", "ascending")]))
    segments, profile = whole(store, store.query(_TOUCHED))
    of = {number: name for name, number in numbers.items()}
    items = [
        (*of[kind], value, segment.segment, first_seen)
        for segment in segments.values()
        for kind, value, first_seen, _ in segment.identifiers
    ]
    found = Known(
        identifiers=table(KNOWN_IDENTIFIERS, items),
        segments=table(KNOWN_SEGMENTS, sorted(profile.items())),
        next_segment=next_segment,
    )
    return Found(found, segments)


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


def numbers(store: Store, identifiers: pa.Table) -> Numbers:
    """The integer of each row's identifier type; types that the space has not seen are added to it."""
    kinds = pc.binary_join_element_wise(identifiers["collection"], identifiers["type"], ":")
    # Users before accounts, then by name: the same numbers whatever the order of the calls.
    for name in sorted(pc.unique(kinds).to_pylist(), reverse=True):
        collection, _, kind = name.partition(":")
        store.number("identifier_type", {"collection": collection, "name": kind})
    known = types(store)
    at = pc.index_in(kinds, pa.array([":".join(name) for name in known], pa.string()))
    found: Numbers = np.array(list(known.values()), np.int64)[at.to_numpy()]
    return found


def identifier_items(new: pa.Table, kinds: Numbers, first_seq: int) -> pa.Array:
    """The items of `segment.identifiers` for rows of identity.NEW_IDENTIFIERS: `[type,"value",first_seen,seq]`."""
    values = new["value"].combine_chunks()
    quoted = pc.binary_join_element_wise('"', values, '"', "")
    odd = np.flatnonzero(pc.match_substring_regex(values, r'["\\\x00-\x1f]').to_numpy(zero_copy_only=False))
    if len(odd):
        texts = quoted.to_pylist()
        for at in odd.tolist():
            texts[at] = canonical.encode(values[at].as_py())
        quoted = pa.array(texts, pa.string())
    seqs = pa.array(first_seq + new["call"].to_numpy()).cast(pa.string())
    first_seen = new["first_seen"].combine_chunks().cast(pa.string())
    parts = pc.binary_join_element_wise(pa.array(kinds).cast(pa.string()), quoted, first_seen, seqs, ",")
    return pc.binary_join_element_wise("[", parts, "]", "")


def write(store: Store, resolution: Resolution, kinds: Numbers, first_seq: int) -> None:
    """Write what a resolution says, but for the segments themselves. `kinds`: as from `numbers`."""
    new = resolution.identifiers

    def seq(found: pa.Table) -> Numbers:
        call: Numbers = found["call"].to_numpy()
        return first_seq + call

    rows = pa.table({"type": kinds, "value": new["value"], "segment": new["segment"]})
    store.append("identifier", rows.sort_by([("type", "ascending"), ("value", "ascending")]))
    edges, moves, links, dropped = resolution.edges, resolution.moves, resolution.links, resolution.dropped
    active = np.ones(edges.num_rows, np.int64)
    store.append("edge", pa.table({"seq": seq(edges), "a": edges["a"], "b": edges["b"], "active": active}))
    graph = pa.table({"seq": seq(moves), "segment": moves["segment"], "profile": moves["profile"]})
    store.append("id_graph", graph)
    moved = dict(zip(moves["segment"].to_pylist(), moves["profile"].to_pylist(), strict=True))
    merge_in(store, "merged", table(_MERGED, sorted(moved.items())))
    linked = {"user_segment": links["user"], "account_segment": links["account"], "seq": seq(links)}
    merge_in(store, "link", pa.table(linked))
    names = ("collection", "type", "value", "reason")
    store.append("dropped", pa.table({"seq": seq(dropped), **{name: dropped[name] for name in names}}))


def merge_in(store: Store, name: str, data: pa.Table) -> None:
    """Insert rows; of those whose key is there, update the columns that the table lets change."""
    if not data.num_rows:
        return
    store.stage("incoming", data)
    columns = ", ".join(data.column_names)
    key, fixed = _KEYS[name]
    changes = ", ".join(f"{column} = excluded.{column}" for column in data.column_names if column not in (*key, *fixed))
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
_MERGED = pa.schema([("segment", pa.int64()), ("profile", pa.int64())])
SUBSCRIPTION = pa.schema(
    [
        *((name, pa.string()) for name in ("channel", "address", "list")),
        *((name, pa.int64()) for name in ("time", "seq")),
        ("status", pa.string()),
    ]
)


def segment_id(secret: bytes, identifier: Identifier, incarnation: int = 0) -> str:
    """The id that an identifier creates: computed, so that a rebuild gives the same, and not to be guessed."""
    prefix = "use_" if identifier.collection == USERS else "grp_"
    said = "\0".join((*identifier, str(incarnation)))
    return prefix + hmac.digest(secret, said.encode(), "sha256")[:16].hex()


# From so many on, DuckDB is quicker than Python.
MANY = 1000


def segment_ids(secret: bytes, created: pa.Table) -> pa.Array:
    """`segment_id` for each row of identity.CREATED."""
    if created.num_rows < MANY:
        rows = zip(*(created[name].to_pylist() for name in Identifier._fields), strict=True)
        return pa.array([segment_id(secret, Identifier(*row)) for row in rows], pa.string())
    import duckdb

    # HMAC-SHA256 written out: the hash of the outer pad and the hash of the inner pad and the message.
    key = secret.ljust(64, b"\0")
    inner, outer = (bytes(byte ^ pad for byte in key) for pad in (0x36, 0x5C))
    with duckdb.connect() as connection:
        connection.register("created", created)
        found = connection.sql(
            f"select case when collection = '{USERS}' then 'use_' else 'grp_' end || left(sha256($1::blob || unhex("
            " sha256($2::blob || encode(collection || chr(0) || type || chr(0) || value || chr(0) || '0')))), 32) as id"
            " from created",
            params=[outer, inner],
        ).to_arrow_table()
    return found["id"].combine_chunks()
