"""A Profile Space: what is known of a batch of identifiers, and the writing of what a batch changed.

A segment that one call made is in the log only; what has changed since has a row of its own.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import repeat

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from onefold import digest, identity, index, log
from onefold.identity import KNOWN_IDENTIFIERS, KNOWN_SEGMENTS, Known, Numbers, Resolution, table
from onefold.log import Birth
from onefold.rules import Identifier
from onefold.stores import Names, Store
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


class Segment(msgspec.Struct):
    """One segment_id and what is filed under it. Times in µs; `identifiers` in the order they were filed."""

    segment: int
    segment_id: str
    collection: str
    created_at: int
    updated_at: int
    first_seq: int
    last_seq: int
    identifiers: list[tuple[int, str, int, int]] = []  # type, value, first_seen, seq
    document: Document | None = None
    stored: bool = False  # whether it has a row of its own; else it is a call of the log


def _of_rows(found: pa.Table) -> dict[int, Segment]:
    """Segments from their own rows (SEGMENT, with 0 and '' for null)."""
    *own, identifiers, time, seq, traits, meta = (found[name].to_pylist() for name in SEGMENT.names)
    stamps = (_stamps(text) if text else {} for text in meta)
    documents = [document if document.seq else None for document in map(Document, time, seq, traits, stamps)]
    stored = repeat(True)  # noqa: FBT003 - one for each
    return {at.segment: at for at in map(Segment, *own, map(_filed, identifiers), documents, stored)}


def _of_births(births: Mapping[int, Birth], secret: str, kinds: Names) -> dict[int, Segment]:
    """Segments that are just what the calls that created them say."""
    found = {}
    for segment, (seq, time, identifiers, traits) in births.items():
        filed = [(kind, value, time, seq) for kind, value in _named(identifiers)]
        # The first one filed is the one that created it.
        collection, name = kinds[filed[0][0]]
        named = digest.segment_id(secret, Identifier(collection, name, filed[0][1]))
        document = None if traits is None else Document(time, seq, traits)
        found[segment] = Segment(segment, named, collection, time, time, seq, seq, filed, document)
    return found


_filed = msgspec.json.Decoder(list[tuple[int, str, int, int]]).decode
_named = msgspec.json.Decoder(list[tuple[int, str]]).decode
_stamps = msgspec.json.Decoder(dict[str, tuple[int, int]]).decode


def rows(segments: Sequence[Segment]) -> pa.Table:
    """Segments as their rows (SEGMENT)."""
    documents = [segment.document for segment in segments]
    columns = [
        *([getattr(segment, name) for segment in segments] for name in SEGMENT.names[:7]),
        _texts([segment.identifiers for segment in segments]),
        *([document and getattr(document, name) for document in documents] for name in ("time", "seq", "traits")),
        [None if text in _NOTHING else text for text in _texts([document and document.meta for document in documents])],
    ]
    arrays = [pa.array(column, kind) for column, kind in zip(columns, SEGMENT.types, strict=True)]
    return pa.Table.from_arrays(arrays, schema=SEGMENT)


def _texts(values: Sequence[object]) -> list[str]:
    """The JSON of each value, written all at once, a line each: there is no end of a line within JSON."""
    return _ENCODER.encode_lines(values).decode().split("\n")[:-1]


_ENCODER = msgspec.json.Encoder()
_NOTHING = ("null", "{}")


@dataclass
class Found:
    """What the space knows of a batch: the form that identity takes, and the segments whole."""

    known: Known
    segments: dict[int, Segment]


class Indexed:
    """The hashes that a space may have, for a run that writes most of them: what it denies needs no look-up.

    A Bloom filter. Good as long as nobody else writes: `seq` is the space's counter as this run left it.
    """

    def __init__(self, store: Store, more: int) -> None:
        """`more` is about how many identifiers are going to be added."""
        there = index.hashes(store)
        # 16 bits and 4 marks for each hash: it errs for one in thousands while `more` is about right. 512 MB at most.
        self._bits = min(32, max(16, int(16 * (len(there) + more)).bit_length()))
        self._marked = np.zeros(1 << self._bits - 3, np.uint8)
        self.seq = store.counters()["seq"]
        self.add(there)

    def add(self, hashes: Numbers) -> None:
        for place, bit in self._marks(hashes):
            np.bitwise_or.at(self._marked, place, bit)

    def may_hold(self, hashes: Numbers) -> Numbers:
        found = np.ones(len(hashes), bool)
        for place, bit in self._marks(hashes):
            found &= self._marked[place] & bit != 0
        return found

    def _marks(self, hashes: Numbers) -> Iterator[tuple[Numbers, Numbers]]:
        """For each mark the bytes and the bits in them."""
        for factor in _FACTORS:
            mark = hashes.view(np.uint64) * factor >> np.uint64(64 - self._bits)
            yield mark >> np.uint64(3), np.uint8(1) << (mark & np.uint64(7)).astype(np.uint8)


# Odd numbers without a pattern: each makes other bits of the hash come first.
_FACTORS = [np.uint64(at) for at in (0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F, 0xD6E8FEB86659FD93, 0xA0761D6478BD642F)]


def lookup(store: Store, identifying: pa.Table, next_segment: int, indexed: Indexed | None = None) -> Found:
    """Every profile that owns one of the identifiers (identity.IDENTIFYING), whole. Raises StoreError."""
    hashes = identifying["hash"].to_numpy()
    asked = np.full(len(hashes), next_segment > 1) if indexed is None else indexed.may_hold(hashes)
    kinds, there = store.names("identifier_type"), np.zeros(0, np.int64)
    segments: dict[int, Segment] = {}
    profile: dict[int, int] = {}
    known = KNOWN_IDENTIFIERS.empty_table()
    # Most calls name a profile several times over: the first identifier of each call finds it, and what it has need
    # not be looked up any more.
    leading = np.zeros(len(hashes), bool)
    leading[identity.visits(identifying)[1]] = True
    for part in (asked & leading, asked & ~leading) if len(hashes) > FEW else (asked,):
        rows = np.flatnonzero(part)
        has = identity.among(identifying.take(rows), known)
        there = np.r_[there, hashes[rows[has]]]
        named, at = index.lookup(store, np.unique(hashes[rows[~has]]))
        there = np.r_[there, named]
        more, owners = whole(store, [number for number in np.unique(at).tolist() if number not in profile])
        segments |= more
        profile |= owners
        known = pa.concat_tables([known, _identifiers(kinds, list(more.values()))])
    found = Known(
        identifiers=known,
        segments=table(KNOWN_SEGMENTS, sorted(profile.items())),
        next_segment=next_segment,
        hashes=there,
    )
    return Found(found, segments)


# Fewer identifiers are looked up at once: what is found first would save less than asking twice costs.
FEW = 64


def _identifiers(kinds: Names, segments: Sequence[Segment]) -> pa.Table:
    """What is filed under some segments, as KNOWN_IDENTIFIERS."""
    filed = [item for segment in segments for item in segment.identifiers]
    if not filed:
        return KNOWN_IDENTIFIERS.empty_table()
    kind, value, first_seen, _ = zip(*filed, strict=True)
    numbers, at = np.unique(kind, return_inverse=True)
    names = [kinds[number] for number in numbers.tolist()]
    counts = [len(segment.identifiers) for segment in segments]
    columns = [
        *(pa.array([name[place] for name in names]).take(pa.array(at)) for place in (0, 1)),
        pa.array(value, pa.string()),
        np.repeat([segment.segment for segment in segments], counts),
        pa.array(first_seen, pa.int64()),
    ]
    return pa.table(columns, schema=KNOWN_IDENTIFIERS)


def whole(store: Store, segments: Sequence[int] | Numbers) -> tuple[dict[int, Segment], dict[int, int]]:
    """All segments of the profiles that some segments belong to, and whose each is. Raises StoreError."""
    if not len(segments):
        return {}, {}
    asked = np.array(segments, np.int64)
    if len(asked) <= FEW:
        return _members(store, asked)
    profile = _owners(store, asked)
    return load(store, list(profile)), profile


def whole_rows(store: Store, segments: Sequence[int]) -> pa.Table:
    """As `whole`, each segment as its row (SEGMENT, with 0 and '' for null) and its `profile`. Raises StoreError.

    What has a row in the store is not taken apart.
    """
    profile = _owners(store, np.array(segments, np.int64))
    found, born = _rows_of(store, _COLUMNS, list(profile))
    more = rows(list(born.values())).select(found.column_names)
    both = pa.concat_tables([found.cast(more.schema), more])
    owners = pa.array([profile[segment] for segment in both["segment"].to_pylist()], pa.int64())
    return both.append_column("profile", owners)


def ids(store: Store, segments: Sequence[int]) -> dict[int, str]:
    """Segments -> their segment_ids. Raises StoreError."""
    found, born = _rows_of(store, "s.segment, s.segment_id", segments)
    named = dict(zip(found["segment"].to_pylist(), found["segment_id"].to_pylist(), strict=True))
    return named | {segment: at.segment_id for segment, at in born.items()}


def _rows_of(store: Store, columns: str, segments: Sequence[int]) -> tuple[pa.Table, dict[int, Segment]]:
    """Columns of the segments that have a row, and the others."""
    asked = np.array(segments, np.int64)
    these = store.engine.dialect.within.format("s.segment", _ASKED)
    found = store.ask(asked, f"select {columns} from segment s where {these}")
    others = np.setdiff1d(asked, found["segment"].to_numpy())
    births = log.births(store, others) if len(others) else {}
    return found, _of_births(births, store.secret, store.names("identifier_type"))


def _owners(store: Store, asked: Numbers) -> dict[int, int]:
    """All segments of the profiles that some segments belong to, each with the oldest of its profile."""
    within = store.engine.dialect.within.format
    profiles = f"select m.profile from merged m where {within('m.segment', _ASKED)} union {_ASKED}"
    found = store.ask(asked, f"select m.segment, m.profile from merged m where {within('m.profile', profiles)}")
    segment, oldest = (found[name].to_pylist() for name in ("segment", "profile"))
    # Most are alone in their profile. Of the others the oldest has no row.
    profile = dict(zip(asked.tolist(), asked.tolist(), strict=True))
    return profile | dict(zip(oldest, oldest, strict=True)) | dict(zip(segment, oldest, strict=True))


def _members(store: Store, asked: Numbers) -> tuple[dict[int, Segment], dict[int, int]]:
    """`whole` in one question, for few segments."""
    found = store.ask(asked, _MEMBERS.format(blob=store.engine.dialect.words["blob"]))
    profile = dict(zip(found["number"].to_pylist(), found["profile"].to_pylist(), strict=True))
    changed = pc.not_equal(found["segment"], 0)
    segments = _of_rows(found.filter(changed))
    if len(segments) < found.num_rows:
        born = found.filter(pc.invert(changed))
        blocks = born.select(["block", "first", "size", "data"]).rename_columns(["seq", "segment", "size", "data"])
        births = log.births_in(blocks, born["number"].to_numpy())
        segments |= _of_births(births, store.secret, store.names("identifier_type"))
    return segments, profile


def oldest(store: Store, segments: Sequence[int]) -> dict[int, int]:
    """Each segment -> the oldest of its profile. Raises StoreError."""
    rows = store.asked(
        segments, "select m.segment, m.profile from asked a cross join merged m where m.segment = a.number"
    )
    return dict(zip(segments, segments, strict=True)) | {row["segment"]: row["profile"] for row in rows}


def load(store: Store, segments: Sequence[int]) -> dict[int, Segment]:
    """Some segments, whole. Raises StoreError."""
    if not len(segments):
        return {}
    found, born = _rows_of(store, _COLUMNS, segments)
    return _of_rows(found) | born


# What may be null is selected with coalesce: the driver types a column by its first rows.
_COLUMNS = ", ".join(
    f"coalesce(s.{field.name}, {0 if field.type == pa.int64() else repr('')}) as {field.name}" for field in SEGMENT
)
_ASKED = "select number from asked"
_PROFILES = """
    select distinct coalesce(m.profile, a.number) as profile from asked a left join merged m on m.segment = a.number
"""
_MEMBERS = f"""
    select found.*, coalesce(b.segment, 0) as first, coalesce(b.size, 0) as size,
        coalesce(b.data, cast('' as {{blob}})) as data
    from (
        select member.number, member.profile, {_COLUMNS}, case when s.segment is null then (
            select seq from block where segment <= member.number order by segment desc, seq desc limit 1
        ) else 0 end as block
        from (
            select p.profile as number, p.profile from ({_PROFILES}) p
            union all
            select m.segment, m.profile from ({_PROFILES}) p cross join merged m where m.profile = p.profile
        ) member
        left join segment s on s.segment = member.number
    ) found
    left join block b on b.seq = found.block
"""


def numbers(store: Store, identifiers: pa.Table) -> Numbers:
    """The integer of each row's identifier type; types that the space has not seen are added to it."""
    found: Numbers = np.zeros(identifiers.num_rows, np.int64)
    kinds = store.names("identifier_type")
    for name, rows in identity.by_type(identifiers):
        found[rows] = kinds.add(*name)
    return found


def write(store: Store, resolution: Resolution, first_seq: int) -> None:
    """Write what a resolution says, but for the segments themselves."""
    new = resolution.identifiers

    def seq(found: pa.Table) -> Numbers:
        call: Numbers = found["call"].to_numpy()
        return first_seq + call

    index.add(store, new["hash"].to_numpy(), new["segment"].to_numpy())
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


def file(store: Store, parts: Iterable[Sequence[Segment]]) -> None:
    """Write the rows of segments that were read in this turn, or are new; sorted by their numbers.

    They come in parts, so that some are written (Store.behind) while others are made ready.
    """
    there: list[Segment] = []
    for segments in parts:
        store.append("segment", rows([segment for segment in segments if not segment.stored]))
        there += [segment for segment in segments if segment.stored]
    merge_in(store, "segment", rows(there))


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
}
_MERGED = pa.schema([("segment", pa.int64()), ("profile", pa.int64())])
SUBSCRIPTION = pa.schema(
    [
        *((name, pa.string()) for name in ("channel", "address", "list")),
        *((name, pa.int64()) for name in ("time", "seq")),
        ("status", pa.string()),
    ]
)
