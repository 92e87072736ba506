"""Identity: whose call is this? The tables that go in and come out, and the meaning: `replay`.

`replay` resolves calls one after another, exactly as reference section 5 says; `components.resolve` gives the
same answer for whole batches. Nothing here touches a database: a store answers what it knows about the
identifiers, and writes what came out.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from onefold import digest
from onefold.rules import ACCOUNTS, USERS, Identifier, Rules

_IDENTIFIER = [("collection", pa.string()), ("type", pa.string()), ("value", pa.string())]
KNOWN_IDENTIFIERS = pa.schema([*_IDENTIFIER, ("segment", pa.int64()), ("first_seen", pa.int64())])
KNOWN_SEGMENTS = pa.schema([("segment", pa.int64()), ("profile", pa.int64())])

Numbers = np.ndarray[Any, Any]

# `hash` is what the store indexes the identifier by (digest.index).
IDENTIFYING = pa.schema([("call", pa.int64()), *_IDENTIFIER, ("hash", pa.int64())])

# A segment is the integer form of a segment_id: its born sequence number. `call` is a row of the batch.
FILED = pa.schema([("user", pa.int64()), ("account", pa.int64())])
CREATED = pa.schema([("segment", pa.int64()), *_IDENTIFIER, ("call", pa.int64())])
NEW_IDENTIFIERS = pa.schema(
    [
        *(*_IDENTIFIER, ("hash", pa.int64())),
        *((name, pa.int64()) for name in ("segment", "first_seen", "call")),
    ]
)
EDGES = pa.schema([("a", pa.int64()), ("b", pa.int64()), ("call", pa.int64())])
MOVES = pa.schema([("segment", pa.int64()), ("profile", pa.int64()), ("call", pa.int64())])
LINKS = pa.schema([("user", pa.int64()), ("account", pa.int64()), ("call", pa.int64())])
DROPPED = pa.schema([("call", pa.int64()), *_IDENTIFIER, ("reason", pa.string())])


@dataclass(frozen=True)
class Known:
    """What the store knows of a batch: every profile that owns one of its identifiers, whole.

    `hashes`: those of the batch that it has; None if that was not asked.
    """

    identifiers: pa.Table = field(default_factory=KNOWN_IDENTIFIERS.empty_table)
    segments: pa.Table = field(default_factory=KNOWN_SEGMENTS.empty_table)
    next_segment: int = 1
    hashes: Numbers | None = None


@dataclass(frozen=True)
class Resolution:
    """What a batch of calls does to identity; every table has the schema of the same name above.

    `filed` has one row a call: the segments it is filed under, null where there is none.
    """

    filed: pa.Table
    created: pa.Table
    identifiers: pa.Table
    edges: pa.Table
    moves: pa.Table
    links: pa.Table
    dropped: pa.Table
    next_segment: int


def identifying(calls: pa.Table, rules: Rules, secret: str = "") -> pa.Table:
    """The identifiers of a batch that identify (IDENTIFYING): blocked ones and repeats left out.

    `secret` is that of the store's digests.

    Ordered by call, users before accounts, then by rank, then as they stand in the call.
    """
    lists = calls.column("identifiers").combine_chunks()
    items = lists.flatten()
    found = pa.table(
        [pc.list_parent_indices(lists).cast(pa.int64()), *(items.field(at) for at in range(3))],
        names=IDENTIFYING.names[:4],
    )
    blocked = _blocked(found, rules)
    if pc.any(blocked).as_py():
        found = found.filter(pc.invert(blocked))
    kinds = pc.unique(found["type"]).to_pylist()
    ranks = {kind: at for at, kind in enumerate(sorted(kinds, key=rules.rank))}
    rank = pa.array([ranks[kind] for kind in kinds], pa.int64()).take(
        pc.index_in(found["type"], pa.array(kinds, pa.string())).combine_chunks()
    )
    is_account = pc.equal(found["collection"], ACCOUNTS).to_numpy()
    place = (found["call"].to_numpy() * 2 + is_account) * (len(kinds) + 1) + rank.to_numpy()
    if np.any(place[1:] < place[:-1]):
        order = np.argsort(place, kind="stable")
        found, place = found.take(order), place[order]
    if np.any(place[1:] == place[:-1]):  # only then can a call carry an identifier twice
        found = _distinct(found)
    return found.append_column("hash", pa.array(digest.indices(secret, found)))


def _blocked(found: pa.Table, rules: Rules) -> pa.Array:
    """Whether each identifier has a value that identifies nobody."""
    types: dict[str, list[str]] = {}
    for kind in pc.unique(found["type"]).to_pylist():
        types.setdefault(rules.pattern(kind) or "", []).append(kind)
    blocked = pa.array(np.zeros(found.num_rows, bool))
    for pattern, kinds in types.items():
        if pattern:
            matching = pc.match_substring_regex(found["value"], pattern)
            if pc.any(matching).as_py():
                blocked = pc.or_(blocked, pc.and_(matching, pc.is_in(found["type"], pa.array(kinds))))
    return blocked


def _distinct(found: pa.Table) -> pa.Table:
    """Each row once, where it stands first."""
    numbered = found.append_column("row", pa.array(np.arange(found.num_rows)))
    first = numbered.group_by(found.column_names, use_threads=False).aggregate([("row", "min")])
    return found.take(np.sort(first["row_min"].to_numpy()))


def by_type(found: pa.Table) -> Iterator[tuple[tuple[str, str], Numbers]]:
    """Each (collection, type) of a table of identifiers with its rows: users before accounts, then by name."""
    kinds, collections = (found[name].combine_chunks().dictionary_encode() for name in ("type", "collection"))
    code = kinds.indices.to_numpy() * len(collections.dictionary) + collections.indices.to_numpy()
    names = {
        (collection, kind): at * len(collections.dictionary) + of
        for at, kind in enumerate(kinds.dictionary.to_pylist())
        for of, collection in enumerate(collections.dictionary.to_pylist())
    }
    for name in sorted(names, key=lambda name: (name[0] != USERS, name)):
        rows = np.flatnonzero(code == names[name])
        if len(rows):
            yield name, rows


def among(found: pa.Table, others: pa.Table) -> Numbers:
    """Whether each identifier of a table is among those of another."""
    has = np.zeros(found.num_rows, bool)
    values = dict(by_type(others))
    for name, rows in by_type(found):
        if name in values:
            there = others["value"].take(values[name]).combine_chunks()
            has[rows] = pc.is_in(found["value"].take(rows), value_set=there).to_numpy()
    return has


def visits(found: pa.Table) -> tuple[Numbers, Numbers]:
    """The visit of each row (one call in one collection: 2 * call, + 1 for accounts), and each visit's first row."""
    visit = 2 * found["call"].to_numpy() + pc.equal(found["collection"], ACCOUNTS).to_numpy()
    return visit, np.flatnonzero(np.r_[True, visit[1:] != visit[:-1]]) if len(visit) else np.zeros(0, int)


# --- the sequential reference -------------------------------------------------------------------------


def replay(calls: pa.Table, known: Known, rules: Rules) -> Resolution:
    """Resolve calls one by one, in order, exactly as reference section 5 says."""
    times = calls.column("timestamp").to_numpy()
    return settle(replay_identifying(identifying(calls, rules), times, known, rules), known.next_segment)


def replay_identifying(found: pa.Table, times: Numbers, known: Known, rules: Rules) -> Pieces:
    """`replay` from the identifiers of a batch (IDENTIFYING) and the times of all its calls in µs."""
    state = _Replay(known, rules)
    for (call, collection), items in groupby(rows(found), key=lambda row: row[:2]):
        state.file(call, collection, {Identifier(*item[1:4]): item[4] for item in items}, int(times[call]))
    return state.pieces(len(times))


class _Profile:
    """A profile while calls are replayed: its segments, and its identifiers by type with first_seen."""

    __slots__ = ("identifiers", "oldest", "segments", "size")

    def __init__(self, oldest: int) -> None:
        self.oldest = oldest
        self.segments = [oldest]
        self.identifiers: dict[str, dict[Identifier, int]] = {}
        self.size = 0

    def add(self, identifier: Identifier, first_seen: int) -> None:
        self.identifiers.setdefault(identifier.type, {})[identifier] = first_seen
        self.size += 1


class _Replay:
    """Everything that changes while calls are replayed."""

    def __init__(self, known: Known, rules: Rules) -> None:
        self.rules = rules
        self.base = known.next_segment
        self.owner: dict[Identifier, int] = {}  # identifier -> the segment it is filed under
        self.profiles: dict[int, _Profile] = {}  # segment -> its profile
        self.filed: dict[str, list[tuple[int, int]]] = {USERS: [], ACCOUNTS: []}  # (call, segment)
        self.created: list[tuple[Any, ...]] = []
        self.new: list[tuple[Any, ...]] = []
        self.edges: list[tuple[int, int, int]] = []
        self.moves: list[tuple[int, int, int]] = []
        self.dropped: list[tuple[Any, ...]] = []
        self._load(known)

    def _load(self, known: Known) -> None:
        for segment, oldest in rows(known.segments):
            profile = self.profiles.get(oldest)
            if profile is None:
                profile = self.profiles[oldest] = _Profile(oldest)
            if segment != oldest:
                profile.segments.append(segment)
                self.profiles[segment] = profile
        for collection, kind, value, segment, first_seen in rows(known.identifiers):
            identifier = Identifier(collection, kind, value)
            self.owner[identifier] = segment
            self.profiles[segment].add(identifier, first_seen)

    def file(self, call: int, collection: str, found: Mapping[Identifier, int], now: int) -> None:
        """Resolve one call in one collection; `found` is in rank order, each with its hash."""
        kept = list(found)
        while kept:
            profiles = self._owners(kept)
            new = [item for item in kept if item not in self.owner]
            reason = self._broken(profiles, new, now)
            if reason is None:
                segment = self._keep(call, kept, profiles)
                self.filed[collection].append((call, segment))
                for item in new:
                    self._file(call, item, found[item], segment, now)
                return
            self.dropped.append((call, *kept.pop(), reason))

    def _owners(self, kept: Iterable[Identifier]) -> list[_Profile]:
        """The profiles that own any of the identifiers, each once, in the identifiers' order."""
        found: dict[int, _Profile] = {}
        for item in kept:
            segment = self.owner.get(item)
            if segment is not None:
                profile = self.profiles[segment]
                found.setdefault(profile.oldest, profile)
        return list(found.values())

    def _broken(self, profiles: list[_Profile], new: list[Identifier], now: int) -> str | None:
        """The first rule that the union would break, or None: a type whose limit is passed, or a cap.

        Only what the union adds to some found profile is checked, so that a changed rule applies to what
        comes after and leaves alone what is there.
        """
        if len(profiles) == 1 and not new:
            return None
        if len(profiles) > 1 and sum(len(profile.segments) for profile in profiles) - 1 > self.rules.merges:
            return "merges"
        if sum(profile.size for profile in profiles) + len(new) > self.rules.identifiers:
            return "identifiers"
        added: dict[str, int] = {}
        for item in new:
            added[item.type] = added.get(item.type, 0) + 1
        kinds = set(added)
        if len(profiles) > 1:
            # Profiles share no identifier, so a second profile lacks whatever the first one holds.
            kinds.update(*(profile.identifiers for profile in profiles))
        for kind in sorted(kinds, key=self.rules.rank):
            limit = self.rules.limit(kind)
            count = added.get(kind, 0)
            for profile in profiles:
                values = profile.identifiers.get(kind, {})
                if limit.window is None:
                    count += len(values)
                else:
                    count += sum(first_seen > now - limit.window for first_seen in values.values())
            if count > limit.most:
                return kind
        return None

    def _file(self, call: int, item: Identifier, hashed: int, segment: int, now: int) -> None:
        """File a new identifier under the segment of its call."""
        self.owner[item] = segment
        self.profiles[segment].add(item, now)
        self.new.append((*item, hashed, segment, now, call))

    def _keep(self, call: int, kept: list[Identifier], profiles: list[_Profile]) -> int:
        """File the call: create, add, or merge into the oldest profile. Returns its segment."""
        segment: int
        if not profiles:
            segment = provisional(self.base, call, kept[0].collection)
            self.profiles[segment] = _Profile(segment)
            self.created.append((segment, *kept[0], call))
        else:
            segment = next(self.owner[item] for item in kept if item in self.owner)
            self._merge(call, segment, kept, profiles)
        return segment

    def _merge(self, call: int, segment: int, kept: list[Identifier], profiles: list[_Profile]) -> None:
        """Join profiles, record an edge to each and every segment whose canonical profile changed."""
        if len(profiles) == 1:
            return
        home = self.profiles[segment]
        for other in profiles:
            if other is not home:
                theirs = (self.owner[item] for item in kept if item in self.owner)
                joined = next(found for found in theirs if self.profiles[found] is other)
                self.edges.append((segment, joined, call))
        oldest = min(profile.oldest for profile in profiles)
        moved = sorted(found for p in profiles if p.oldest != oldest for found in p.segments)
        self.moves += [(found, oldest, call) for found in moved]
        # The smaller are poured into the largest, so that a long chain of merges stays cheap.
        whole = max(profiles, key=lambda profile: profile.size)
        for other in profiles:
            if other is whole:
                continue
            for found in other.segments:
                self.profiles[found] = whole
            whole.segments += other.segments
            whole.size += other.size
            for kind, values in other.identifiers.items():
                whole.identifiers.setdefault(kind, {}).update(values)
        whole.oldest = oldest

    def pieces(self, calls: int) -> Pieces:
        filed = [np.full(calls, NOBODY), np.full(calls, NOBODY)]
        for at, collection in enumerate((USERS, ACCOUNTS)):
            if self.filed[collection]:
                where, segments = zip(*self.filed[collection], strict=True)
                filed[at][list(where)] = segments
        return Pieces(
            filed,
            created=table(CREATED, self.created),
            identifiers=table(NEW_IDENTIFIERS, self.new),
            edges=table(EDGES, self.edges),
            moves=table(MOVES, self.moves),
            dropped=table(DROPPED, self.dropped),
        )


# --- born sequence numbers ----------------------------------------------------------------------------

NOBODY = -1


def provisional(base: int, call: Any, collection: str) -> Any:
    """The segment that a call creates, until all of a batch are known: in born order, with gaps."""
    return base + 2 * call + (collection == ACCOUNTS)


@dataclass(frozen=True)
class Pieces:
    """A resolution whose new segments are provisional; `filed` has the users' and the accounts' column."""

    filed: list[Numbers]
    created: pa.Table
    identifiers: pa.Table
    edges: pa.Table
    moves: pa.Table
    dropped: pa.Table

    def joined(self, other: Pieces) -> Pieces:
        """Two parts of one batch that share no call in a collection, as one, in the order of the calls."""

        def both(name: str) -> pa.Table:
            mine, theirs = getattr(self, name), getattr(other, name)
            if not mine.num_rows or not theirs.num_rows:
                return theirs if theirs.num_rows else mine
            tables = pa.concat_tables([mine, theirs])
            return tables.take(np.argsort(tables["call"].to_numpy(), kind="stable"))

        return Pieces(
            [np.maximum(mine, theirs) for mine, theirs in zip(self.filed, other.filed, strict=True)],
            *(both(name) for name in ("created", "identifiers", "edges", "moves", "dropped")),
        )


def settle(pieces: Pieces, base: int) -> Resolution:
    """Give provisional segments their born sequence numbers, without gaps, and derive the links."""
    created, filed = pieces.created, pieces.filed
    born = np.sort(created["segment"].to_numpy())

    def number(segments: Numbers) -> Numbers:
        return np.where(segments >= base, base + np.searchsorted(born, segments), segments)

    def numbered(found: pa.Table, *names: str) -> pa.Table:
        for name in names:
            at = found.column_names.index(name)
            found = found.set_column(at, name, pa.array(number(found[name].to_numpy()), pa.int64()))
        return found

    user, account = (number(segments) for segments in filed)
    both = np.flatnonzero((user != NOBODY) & (account != NOBODY))
    _, first = np.unique(np.stack([user[both], account[both]]), axis=1, return_index=True)
    linked = both[np.sort(first)]
    return Resolution(
        filed=pa.table([pa.array(at, mask=at == NOBODY) for at in (user, account)], schema=FILED),
        created=numbered(created, "segment"),
        identifiers=numbered(pieces.identifiers, "segment"),
        edges=numbered(pieces.edges, "a", "b"),
        moves=numbered(pieces.moves, "segment", "profile"),
        links=pa.table([user[linked], account[linked], linked], schema=LINKS),
        dropped=pieces.dropped,
        next_segment=base + len(born),
    )


def rows(table: pa.Table) -> Iterator[tuple[Any, ...]]:
    """The rows of an Arrow table."""
    return zip(*(column.to_pylist() for column in table.columns), strict=True)


def table(schema: pa.Schema, rows: Sequence[tuple[Any, ...]]) -> pa.Table:
    """An Arrow table from rows."""
    columns: Sequence[Sequence[Any]] = list(zip(*rows, strict=True)) if rows else [[] for _ in schema]
    arrays = [pa.array(column, kind) for column, kind in zip(columns, schema.types, strict=True)]
    return pa.Table.from_arrays(arrays, schema=schema)
