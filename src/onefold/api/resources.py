"""What the Profile API tells of one profile: traits, external ids, events, metadata, links (reference, section 7)."""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any
from urllib.parse import quote

import pyarrow as pa

from onefold import log, profiles, rules, times
from onefold import traits as trait
from onefold.api.answer import Refused
from onefold.log import Logged
from onefold.rules import ACCOUNTS, USERS, Identifier, Rules
from onefold.space import Segment
from onefold.stores import Store

# Traits are custom traits until Onefold computes some itself.
CLASSES = ("audience", "computed_trait")
# How many events are read at once where it is not known how many are wanted.
PAGE = 500
_NAME = re.compile(r'(?:^|,)(?:"((?:[^"]|"")*)"(?=,|\Z)|([^,]*))')


@dataclass(frozen=True)
class Profile:
    """The profile that is asked about; `members` are its segments, oldest first."""

    store: Store
    rules: Rules
    collection: str
    members: list[Segment]

    @property
    def number(self) -> int:
        """Its oldest segment, which names it."""
        return self.members[0].segment

    @property
    def other(self) -> str:
        """The collection on the other side of its links."""
        return ACCOUNTS if self.collection == USERS else USERS


@dataclass(frozen=True)
class Question:
    """What is asked: the profile by an identifier, one of RESOURCES, the path, and the parameters by name."""

    collection: str
    kind: str
    value: str
    resource: str
    path: str
    query: dict[str, str]

    def names(self, name: str) -> set[str] | None:
        """A comma-separated list, in which a name may stand in quotes; None if it was not given."""
        given = self.query.get(name)
        if not given:
            return None
        return {found[2] if found[1] is None else found[1].replace('""', '"') for found in _NAME.finditer(given)}

    def flag(self, name: str) -> bool:
        return self.word(name, ("false", "true")) == "true"

    def word(self, name: str, words: Sequence[str]) -> str | None:
        given = self.query.get(name)
        if given is not None and given not in words:
            raise _invalid(f"{name} is {' or '.join(words)}, not {given!r}")
        return given

    def limit(self, default: int, most: int) -> int:
        given = self.query.get("limit", str(default))
        if not (given.isascii() and given.isdigit() and len(given) < 10 and 1 <= int(given) <= most):
            raise _invalid(f"limit is a number from 1 to {most}, not {given!r}")
        return int(given)

    def time(self, name: str) -> int | None:
        """A time in µs."""
        given = self.query.get(name)
        micros = None if given is None else times.parse(given)
        if given is not None and micros is None:
            raise _invalid(f"{name} is a date or time in ISO 8601, such as 2026-01-31T12:00:00Z, not {given!r}")
        return micros

    def after(self, kinds: Sequence[type]) -> list[Any] | None:
        """Where the page begins, as `cursor` wrote it; None for the first page."""
        given = self.query.get("next")
        if not given:
            return None
        try:
            found = json.loads(base64.b64decode(given, altchars=b"-_", validate=True))
        except (binascii.Error, ValueError):
            found = None
        if not isinstance(found, list) or [type(item) for item in found] != list(kinds):
            raise _invalid("next is not a cursor of this list; take it from the answer before, as it is")
        return found

    def cursor(self, limit: int, following: Sequence[Any] | str | None) -> dict[str, Any]:
        """The cursor of an answer; `following` says where the next page begins, None that there is none."""
        said = following or ""
        if not isinstance(said, str):
            said = base64.urlsafe_b64encode(json.dumps(said).encode()).decode()
        query = {**self.query, "next": said} if said else {k: v for k, v in self.query.items() if k != "next"}
        text = "&".join(f"{name}={quote(value, safe=',')}" for name, value in query.items())
        url = f"{self.path}?{text}" if text else self.path
        return {"url": url, "has_more": following is not None, "next": said, "limit": limit}


def _invalid(message: str) -> Refused:
    return Refused(400, "validation_error", message)


# --- the resources ------------------------------------------------------------------------------------

# A resource says once which calls it has to know of (their seqs), is given them, and answers.
Calls = dict[int, dict[str, Any]]
Answer = Generator[set[int], Calls, dict[str, Any]]


def answers(store: Store, rules: Rules, questions: Sequence[Question]) -> list[dict[str, Any] | Refused]:
    """What the profiles of a space answer, in order; many are read together as quickly as one. Raises StoreError."""
    found: list[dict[str, Any] | Refused] = [_nobody(question) for question in questions]
    owners = profiles.owned(store, [Identifier(asked.collection, asked.kind, asked.value) for asked in questions])
    begun: dict[int, Answer] = {}
    wanted: set[int] = set()
    for at, (asked, members) in enumerate(zip(questions, owners, strict=True)):
        if not members:
            continue
        answer, _ = RESOURCES[asked.resource]
        begun[at] = answer(Profile(store, rules, asked.collection, members), asked)
        try:
            wanted |= next(begun[at])
        except Refused as refused:
            found[at] = refused
            del begun[at]
    calls = profiles.told(store, log.calls(store, wanted)) if wanted else {}
    for at, answering in begun.items():
        try:
            answering.send(calls)
        except StopIteration as end:
            found[at] = end.value
    return found


def _nobody(asked: Question) -> Refused:
    return Refused(404, "not_found", f"no profile in {asked.collection} has the identifier {asked.kind}:{asked.value}")


def traits(profile: Profile, question: Question) -> Answer:
    limit, verbose = question.limit(10, 200), question.flag("verbose")
    wanted, first = question.names("include"), question.query.get("next", "")
    kept = trait.merged(segment.document for segment in profile.members if segment.document is not None)
    if question.word("class", CLASSES):
        kept = {}
    names = [name for name in kept if name >= first and (wanted is None or name in wanted)]
    page, following = names[:limit], names[limit] if len(names) > limit else None
    found: dict[str, Any] = {name: kept[name][0] for name in page}
    calls = yield {kept[name][1].seq for name in page} if verbose else set()
    if verbose:
        for name in page:
            stamp = kept[name][1]
            by = calls[stamp.seq]["source"]
            found[name] = {"value": found[name], "source_id": by, "updated_at": times.text(stamp.time)}
    return {"traits": found, "cursor": question.cursor(limit, following)}


def external_ids(profile: Profile, question: Question) -> Answer:
    limit, wanted, first = question.limit(25, 100), question.names("include"), question.after((int, str, int, int, int))
    question.flag("verbose")
    items = [item for item in _filed(profile, profile.members) if wanted is None or item.type in wanted]
    if first is not None:
        items = [item for item in items if list(item.place) >= first]
    following = items[limit].place if len(items) > limit else None
    calls = yield {item.seq for item in items[:limit]}
    data = [_external_id(item, profile.collection, calls) for item in items[:limit]]
    return {"data": data, "cursor": question.cursor(limit, following)}


def events(profile: Profile, question: Question) -> Answer:
    limit, after = question.limit(10, 100), question.after((int, int))
    since, until = question.time("start"), question.time("end")
    names, without = question.names("include"), question.names("exclude") or set()
    place = None if after is None else (after[0], after[1])
    if question.word("sort", ("asc", "desc")) == "asc":
        found = _oldest(profile, names, without, since, until, place, limit + 1)
    else:
        found = []
        newest = _newest(profile, names, without, since, until, place, PAGE if without else limit + 1)
        found = list(islice(newest, limit + 1))
    page = found[:limit]
    following = (page[-1]["timestamp"], page[-1]["seq"]) if len(found) > limit else None
    filed = {(item.type, item.value) for item in _filed(profile, profile.members)}
    data = [_event(profile, event, filed) for event in page]
    yield set()
    return {"data": data, "cursor": question.cursor(limit, following)}


def metadata(profile: Profile, question: Question) -> Answer:
    question.flag("verbose")
    members = profile.members
    first, last = min(segment.first_seq for segment in members), max(segment.last_seq for segment in members)
    calls = yield {first, last}
    return {
        "metadata": {
            "created_at": times.text(min(segment.created_at for segment in members)),
            "updated_at": times.text(max(segment.updated_at for segment in members)),
            "expires_at": None,
            "first_message_id": calls[first]["message_id"],
            "first_source_id": calls[first]["source"],
            "last_message_id": calls[last]["message_id"],
            "last_source_id": calls[last]["source"],
        }
    }


def links(profile: Profile, question: Question) -> Answer:
    limit, first = question.limit(20, 100), question.after((str,))
    view = profiles.views(profile.store, [profile.number], profile.rules)[0]
    ids = [item["segment_id"] for item in view[profile.other]]
    if first is not None:
        if first[0] not in ids:
            raise _invalid("next is no longer a cursor of this list, which has changed; begin again without it")
        ids = ids[ids.index(first[0]) :]
    following = [ids[limit]] if len(ids) > limit else None
    found = profiles.owned(profile.store, [Identifier(profile.other, "segment_id", item) for item in ids[:limit]])
    filed = [_filed(profile, members) for members in found]
    calls = yield {item.seq for items in filed for item in items}
    data = [
        {"to_collection": profile.other, "external_ids": [_external_id(item, profile.other, calls) for item in items]}
        for items in filed
    ]
    return {"data": data, "cursor": question.cursor(limit, following)}


# Resource -> what answers it, and the parameters that it takes.
RESOURCES: dict[str, tuple[Callable[[Profile, Question], Answer], tuple[str, ...]]] = {
    "traits": (traits, ("class", "include", "limit", "next", "verbose")),
    "external_ids": (external_ids, ("include", "limit", "next", "verbose")),
    "events": (events, ("end", "exclude", "include", "limit", "next", "sort", "start")),
    "metadata": (metadata, ("verbose",)),
    "links": (links, ("limit", "next")),
}


# --- identifiers --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Filed:
    """An identifier of a profile. `place` sorts them, highest rank first, then as filed; it tells no value."""

    type: str
    value: str
    first_seen: int
    seq: int
    place: tuple[int, str, int, int, int]


def _filed(profile: Profile, members: Sequence[Segment]) -> list[Filed]:
    found, kinds = [], profile.store.names("identifier_type")
    for segment in members:
        for at, (number, value, first_seen, seq) in enumerate(segment.identifiers):
            kind = kinds[number][1]
            found.append(Filed(kind, value, first_seen, seq, (*profile.rules.rank(kind), seq, segment.segment, at)))
    return sorted(found, key=lambda item: item.place)


def _external_id(item: Filed, collection: str, calls: Calls) -> dict[str, Any]:
    return {
        "source_id": calls[item.seq]["source"],
        "collection": collection,
        "id": item.value,
        "type": item.type,
        "created_at": times.text(item.first_seen),
        "encoding": "none",
        "first_message_id": calls[item.seq]["message_id"],
    }


# --- events -------------------------------------------------------------------------------------------


def _newest(
    profile: Profile,
    names: set[str] | None,
    without: set[str],
    since: int | None,
    until: int | None,
    after: tuple[int, int] | None,
    size: int,
) -> Iterator[dict[str, Any]]:
    """The events that are asked for, newest first, read by so many."""
    while True:
        read = read_events(
            profile,
            names=sorted(names) if names else None,
            since=since,
            until=until,
            after=after,
            limit=size,
        )
        yield from (event for event in read if event["event"] not in without)
        if len(read) < size:
            return
        after = (read[-1]["timestamp"], read[-1]["seq"])


def _oldest(
    profile: Profile,
    names: set[str] | None,
    without: set[str],
    since: int | None,
    until: int | None,
    after: tuple[int, int] | None,
    limit: int,
) -> list[dict[str, Any]]:
    """The first events that are asked for, oldest first: the last ones of all those from the newest on."""
    if after is not None:
        since = after[0] if since is None else max(since, after[0])
    found: deque[dict[str, Any]] = deque(maxlen=limit)
    for event in _newest(profile, names, without, since, until, None, PAGE):
        if after is None or (event["timestamp"], event["seq"]) > after:
            found.append(event)
    return list(reversed(found))


def _event(profile: Profile, event: dict[str, Any], filed: set[tuple[str, str]]) -> dict[str, Any]:
    message = {
        "type": event["type"],
        "userId": event.get("user_id"),
        "anonymousId": event.get("anonymous_id"),
        "groupId": event.get("group_id"),
        "properties": event["properties"],
        "context": event["context"],
    }
    said = [Identifier(**item) for item in rules.identifiers(message, profile.rules)]
    return {
        "external_ids": [
            {"collection": item.collection, "type": item.type, "id": item.value, "encoding": "none"}
            for item in said
            if item.collection == profile.collection and (item.type, item.value) in filed
        ],
        "context": event["context"],
        "type": event["type"],
        "message_id": event["message_id"],
        "source_id": event["source"],
        "timestamp": times.text(event["timestamp"]),
        "properties": event["properties"],
        "event": event["event"],
        "related": {profile.collection: profile.members[0].segment_id},
    }


# --- the store: what `profiles` does not say in public yet --------------------------------------------


def read_events(
    profile: Profile,
    *,
    names: Sequence[str] | None = None,
    since: int | None = None,
    until: int | None = None,
    after: tuple[int, int] | None = None,
    limit: int = 10,
) -> list[dict[str, Any]]:
    """The track, page and screen calls of a profile, newest first; from `since` on, before `until`. µs."""
    own = [segment.segment for segment in profile.members]
    segments = own if profile.collection == USERS else _users(profile)
    asked = [(segment, name) for segment in segments for name in names or ("",)]
    given = {"number": [segment for segment, _ in asked], "name": [name for _, name in asked]}
    found: list[dict[str, Any]] = []
    before = min(after or _LAST, (until, 0) if until is not None else _LAST)
    while True:
        bounds = {"since": _FIRST if since is None else since, "time": before[0], "seq": before[1]}
        table = pa.table(given | {name: [value] * len(asked) for name, value in bounds.items()}, schema=_ASKED)
        rows = profile.store.asked(table, f"{_EVENTS} limit {limit:d}")
        logged = log.calls(profile.store, [row["seq"] for row in rows])
        calls = (logged[row["seq"]] for row in rows)
        found += [_read(profile.store, call) for call in calls if profile.collection == USERS or call.account in own]
        if len(rows) < limit or len(found) >= limit:
            return found[:limit]
        before = (rows[-1]["time"], rows[-1]["seq"])


# Before every time, and behind every time and seq; where no name is asked for, it is ''.
_FIRST, _LAST = -(1 << 63), ((1 << 63) - 1, (1 << 63) - 1)
_ASKED = pa.schema(
    [("number", pa.int64()), ("name", pa.string()), *((name, pa.int64()) for name in ("since", "time", "seq"))]
)
_EVENTS = """
    select e.time, e.seq from asked a cross join event e
    where e.segment = a.number and a.name in ('', e.name)
        and e.time >= a.since and e.time <= a.time and (e.time, e.seq) < (a.time, a.seq)
    order by e.time desc, e.seq desc
"""


def _users(profile: Profile) -> list[int]:
    """The segments of the users of an account."""
    users = profiles.views(profile.store, [profile.number], profile.rules)[0]["users"]
    found = profiles.owned(profile.store, [Identifier(USERS, "segment_id", user["segment_id"]) for user in users])
    return [segment.segment for members in found for segment in members]


def _read(store: Store, call: Logged) -> dict[str, Any]:
    body = json.loads(call.body)
    return {
        "type": call.type,
        "event": call.event,
        "timestamp": call.time,
        "message_id": call.message_id,
        "source": store.names("source")[call.source][0],
        "properties": body.get("properties") or {},
        "context": body.get("context") or {},
        "seq": call.seq,
        "user_id": body.get("userId"),
        "anonymous_id": body.get("anonymousId"),
        "group_id": body.get("groupId"),
    }
