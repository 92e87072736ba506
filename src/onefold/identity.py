"""Identity: whose call is this? The rules, the identifiers of a call, and the resolution of a batch.

`replay` resolves calls one after another and is the meaning (reference, section 5). Nothing here touches a
database: a store answers what it knows about the identifiers, and writes what came out.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple

import pyarrow as pa

from onefold import canonical
from onefold.config import DEFAULT_BLOCKED_VALUES, IdentifierRule, Space

USERS, ACCOUNTS = "users", "accounts"
TYPE = re.compile(r"[a-z0-9_.]+")
DAY = 86_400_000_000
WINDOWS = {"daily": DAY, "weekly": 7 * DAY, "monthly": 30 * DAY, "annually": 365 * DAY, "ever": None}


class Identifier(NamedTuple):
    """What identifies a user or an account: keyed byte for byte by all three."""

    collection: str
    type: str
    value: str


class Limit(NamedTuple):
    """At most `count` values of a type whose first_seen lies within `window` µs (None: ever)."""

    count: int
    window: int | None


@dataclass(frozen=True)
class Rules:
    """The identity rules of a space, ready to be asked (reference, section 5)."""

    configured: tuple[IdentifierRule, ...]
    blocked_values: tuple[str, ...]
    merges: int
    identifiers: int

    @classmethod
    def of(cls, space: Space) -> Rules:
        blocked = DEFAULT_BLOCKED_VALUES if space.blocked_values is None else space.blocked_values
        return cls(space.identifiers, tuple(blocked), space.limits.merges, space.limits.identifiers)

    @cached_property
    def _by_type(self) -> dict[str, tuple[int, IdentifierRule]]:
        return {rule.type: (rank, rule) for rank, rule in enumerate(self.configured)}

    @cached_property
    def custom(self) -> list[tuple[str, tuple[str, ...]]]:
        """(type, spellings) of the identifiers that stand under a configured key."""
        return [(rule.type, _spellings(rule.key)) for rule in self.configured if rule.key]

    @cached_property
    def _patterns(self) -> dict[str | None, Any]:
        own = {rule.type: rule.blocked_values for rule in self.configured if rule.blocked_values is not None}
        return {None: _any_of(self.blocked_values), **{kind: _any_of(found) for kind, found in own.items()}}

    def rank(self, kind: str) -> tuple[int, str]:
        """Sorts types from the highest rank down: configured ones as written, then the others by name."""
        if kind in self._by_type:
            return self._by_type[kind][0], ""
        if not self.configured and kind in ("user_id", "email"):
            return -2 if kind == "user_id" else -1, ""
        return len(self.configured), kind

    def limit(self, kind: str) -> Limit:
        if kind in self._by_type:
            rule = self._by_type[kind][1]
            return Limit(rule.limit, WINDOWS[rule.per])
        return Limit(1 if kind in ("user_id", "group_id") else 5, None)

    def blocked(self, kind: str, value: str) -> bool:
        """Whether a pattern of the space, or of the type, matches the whole value."""
        patterns = (self._patterns[None], self._patterns.get(kind))
        return any(pattern is not None and pattern.fullmatch(value) is not None for pattern in patterns)


def _any_of(patterns: Sequence[str]) -> Any:
    if not patterns:
        return None
    import re2

    return re2.compile("|".join(f"(?:{pattern})" for pattern in patterns))


def _spellings(key: str) -> tuple[str, ...]:
    snake = re.sub(r"(?<=[a-z0-9])([A-Z])", lambda found: "_" + found[1].lower(), key)
    camel = re.sub(r"_([a-z0-9])", lambda found: found[1].upper(), key)
    return tuple(dict.fromkeys((key, snake, camel)))


# --- the identifiers of a call ------------------------------------------------------------------------


def identifiers(message: Mapping[str, Any], rules: Rules) -> list[dict[str, str]]:
    """The identifiers of a call in the order of reference section 5, blocked ones included.

    The first hit wins per type; `context.externalIds` may add more of any type.
    """
    found: dict[Identifier, None] = {}
    seen: set[tuple[str, str]] = set()
    for collection, kind, value in _standard(message, rules):
        written = canonical.text(value) if not isinstance(value, bool) else None
        if written and (collection, kind) not in seen:
            seen.add((collection, kind))
            found[Identifier(collection, kind, written)] = None
    for item in _external_ids(message):
        found[item] = None
    return [item._asdict() for item in found]


def _standard(message: Mapping[str, Any], rules: Rules) -> Iterator[tuple[str, str, Any]]:
    context = _object(message.get("context"))
    is_group = message.get("type") == "group"
    # In a group call the traits describe the account; only context.traits speak of the user.
    places = [
        {} if is_group else _object(message.get("traits")),
        _object(context.get("traits")),
        _object(message.get("properties")),
    ]
    yield USERS, "user_id", message.get("userId")
    yield USERS, "email", places[0].get("email")
    yield USERS, "email", places[1].get("email")
    if message.get("type") == "track":
        yield USERS, "email", places[2].get("email")
    yield USERS, "anonymous_id", message.get("anonymousId")
    yield ACCOUNTS, "group_id", message.get("groupId")
    yield ACCOUNTS, "group_id", context.get("groupId")
    device = _object(context.get("device"))
    system = str(device.get("type")).lower()
    if system in ("android", "ios"):
        yield USERS, f"{system}.id", device.get("id")
        if device.get("adTrackingEnabled") is True:
            yield USERS, f"{system}.idfa", device.get("advertisingId")
        yield USERS, f"{system}.push_token", device.get("token")
    analytics = _object(_object(context.get("integrations")).get("Google Analytics"))
    yield USERS, "ga_client_id", analytics.get("clientId")
    for kind, keys in rules.custom:
        for place in places:
            for key in keys:
                yield USERS, kind, place.get(key)


def _external_ids(message: Mapping[str, Any]) -> Iterator[Identifier]:
    items = _object(message.get("context")).get("externalIds")
    for item in items if isinstance(items, list) else []:
        if not isinstance(item, dict) or item.get("encoding", "none") != "none":
            continue
        kind, value = item.get("type"), canonical.text(item.get("id"))
        if not value or not isinstance(kind, str) or not TYPE.fullmatch(kind):
            continue
        collection = ACCOUNTS if kind == "group_id" else item.get("collection", USERS)
        if collection in (USERS, ACCOUNTS):
            yield Identifier(collection, kind, value)


def _object(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


# --- the tables that go in and come out ---------------------------------------------------------------

_IDENTIFIER = [("collection", pa.string()), ("type", pa.string()), ("value", pa.string())]
KNOWN_IDENTIFIERS = pa.schema([*_IDENTIFIER, ("segment", pa.int64()), ("first_seen", pa.int64())])
KNOWN_SEGMENTS = pa.schema([("segment", pa.int64()), ("profile", pa.int64())])

# A segment is the integer form of a segment_id: its born sequence number. `call` is a row of the batch.
FILED = pa.schema([("user", pa.int64()), ("account", pa.int64())])
CREATED = pa.schema([("segment", pa.int64()), *_IDENTIFIER, ("call", pa.int64())])
NEW_IDENTIFIERS = pa.schema(
    [*_IDENTIFIER, ("segment", pa.int64()), ("first_seen", pa.int64()), ("call", pa.int64())]
)
EDGES = pa.schema([("a", pa.int64()), ("b", pa.int64()), ("call", pa.int64())])
MOVES = pa.schema([("segment", pa.int64()), ("profile", pa.int64()), ("call", pa.int64())])
LINKS = pa.schema([("user", pa.int64()), ("account", pa.int64()), ("call", pa.int64())])
DROPPED = pa.schema([("call", pa.int64()), *_IDENTIFIER, ("reason", pa.string())])


@dataclass(frozen=True)
class Known:
    """What the store knows of a batch: every profile that owns one of its identifiers, whole."""

    identifiers: pa.Table = field(default_factory=KNOWN_IDENTIFIERS.empty_table)
    segments: pa.Table = field(default_factory=KNOWN_SEGMENTS.empty_table)
    next_segment: int = 1


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


def resolve(calls: pa.Table, known: Known, rules: Rules) -> Resolution:
    """Resolve a batch of calls (calls.SCHEMA) in the order of its rows."""
    return replay(calls, known, rules)


# --- the sequential reference -------------------------------------------------------------------------


def replay(calls: pa.Table, known: Known, rules: Rules) -> Resolution:
    """Resolve calls one by one, in order, exactly as reference section 5 says."""
    state = _Replay(known, rules)
    found = calls.column("identifiers").to_pylist()
    for index, (items, timestamp) in enumerate(zip(found, calls.column("timestamp").to_pylist(), strict=True)):
        kept = {USERS: [], ACCOUNTS: []}  # type: dict[str, list[Identifier]]
        for item in items:
            identifier = Identifier(**item)
            if not rules.blocked(identifier.type, identifier.value):
                kept[identifier.collection].append(identifier)
        state.file(index, kept, timestamp)
    return state.resolution()


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
        self.next_segment = known.next_segment
        self.owner: dict[Identifier, int] = {}  # identifier -> the segment it is filed under
        self.profiles: dict[int, _Profile] = {}  # segment -> its profile
        self.linked: set[tuple[int, int]] = set()
        self.filed: list[tuple[int | None, int | None]] = []
        self.created: list[tuple[Any, ...]] = []
        self.new: list[tuple[Any, ...]] = []
        self.edges: list[tuple[int, int, int]] = []
        self.moves: list[tuple[int, int, int]] = []
        self.links: list[tuple[int, int, int]] = []
        self.dropped: list[tuple[Any, ...]] = []
        self._load(known)

    def _load(self, known: Known) -> None:
        for segment, oldest in _rows(known.segments):
            profile = self.profiles.get(oldest)
            if profile is None:
                profile = self.profiles[oldest] = _Profile(oldest)
            if segment != oldest:
                profile.segments.append(segment)
                self.profiles[segment] = profile
        for collection, kind, value, segment, first_seen in _rows(known.identifiers):
            identifier = Identifier(collection, kind, value)
            self.owner[identifier] = segment
            self.profiles[segment].add(identifier, first_seen)

    def file(self, call: int, found: Mapping[str, list[Identifier]], timestamp: int) -> None:
        """Resolve one call in both collections, users first, and link the two."""
        user, account = (
            self._resolve(call, found[collection], timestamp) for collection in (USERS, ACCOUNTS)
        )
        self.filed.append((user, account))
        if user is not None and account is not None and (user, account) not in self.linked:
            self.linked.add((user, account))
            self.links.append((user, account, call))

    def _resolve(self, call: int, found: list[Identifier], now: int) -> int | None:
        kept = sorted(dict.fromkeys(found), key=lambda item: self.rules.rank(item.type))
        while kept:
            profiles = self._owners(kept)
            new = [item for item in kept if item not in self.owner]
            reason = self._broken(profiles, new, now)
            if reason is None:
                return self._keep(call, kept, new, profiles, now)
            self.dropped.append((call, *kept.pop(), reason))
        return None

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
            if count > limit.count:
                return kind
        return None

    def _keep(
        self, call: int, kept: list[Identifier], new: list[Identifier], profiles: list[_Profile], now: int
    ) -> int:
        """File the call: create, add, or merge into the oldest profile. Returns its segment."""
        if not profiles:
            segment = self.next_segment
            self.next_segment += 1
            profile = self.profiles[segment] = _Profile(segment)
            self.created.append((segment, *kept[0], call))
        else:
            segment = next(self.owner[item] for item in kept if item in self.owner)
            profile = self._merge(call, segment, kept, profiles)
        for item in new:
            self.owner[item] = segment
            profile.add(item, now)
            self.new.append((*item, segment, now, call))
        return segment

    def _merge(self, call: int, segment: int, kept: list[Identifier], profiles: list[_Profile]) -> _Profile:
        """Join profiles, record an edge to each and every segment whose canonical profile changed."""
        if len(profiles) == 1:
            return profiles[0]
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
        return whole

    def resolution(self) -> Resolution:
        return Resolution(
            filed=table(FILED, self.filed),
            created=table(CREATED, self.created),
            identifiers=table(NEW_IDENTIFIERS, self.new),
            edges=table(EDGES, self.edges),
            moves=table(MOVES, self.moves),
            links=table(LINKS, self.links),
            dropped=table(DROPPED, self.dropped),
            next_segment=self.next_segment,
        )


def _rows(table: pa.Table) -> Iterator[tuple[Any, ...]]:
    return zip(*(column.to_pylist() for column in table.columns), strict=True)


def table(schema: pa.Schema, rows: Sequence[tuple[Any, ...]]) -> pa.Table:
    """An Arrow table from rows."""
    columns: Sequence[Sequence[Any]] = list(zip(*rows, strict=True)) if rows else [[] for _ in schema]
    arrays = [pa.array(column, kind) for column, kind in zip(columns, schema.types, strict=True)]
    return pa.Table.from_arrays(arrays, schema=schema)
