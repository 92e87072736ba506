"""The identity rules of a space, and the identifiers that a call carries (reference, section 5)."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

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
    """At most `most` values of a type whose first_seen lies within `window` µs (None: ever)."""

    most: int
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

    def pattern(self, kind: str) -> str | None:
        """The RE2 pattern of the values of a type that identify nobody: the space's and the type's own."""
        own = self._by_type[kind][1].blocked_values if kind in self._by_type else None
        patterns = [*self.blocked_values, *(own or ())]
        return rf"\A(?:{'|'.join(f'(?:{pattern})' for pattern in patterns)})\z" if patterns else None

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


def _spellings(key: str) -> tuple[str, ...]:
    snake = re.sub(r"(?<=[a-z0-9])([A-Z])", lambda found: "_" + found[1].lower(), key)
    camel = re.sub(r"_([a-z0-9])", lambda found: found[1].upper(), key)
    return tuple(dict.fromkeys((key, snake, camel)))


# --- the identifiers of a call ------------------------------------------------------------------------


def identifiers(message: Mapping[str, Any], rules: Rules) -> list[dict[str, str]]:
    """The identifiers of a call in the order of reference section 5, blocked ones included.

    The first hit wins per type; `context.externalIds` may add more of any type.
    """
    found: dict[tuple[str, str, str], None] = {}
    seen: set[tuple[str, str]] = set()
    for collection, kind, value in _standard(message, rules):
        if value is None or (collection, kind) in seen:
            continue
        written = identifying(value)
        if written:
            seen.add((collection, kind))
            found[collection, kind, written] = None
    for item in _external_ids(message):
        found[item] = None
    return [{"collection": collection, "type": kind, "value": value} for collection, kind, value in found]


def identifying(value: Any) -> str | None:
    """The text of what can identify, a text or a number; None of anything else. Raises InvalidValue."""
    return value if type(value) is str else None if isinstance(value, bool) else canonical.text(value)


def _standard(message: Mapping[str, Any], rules: Rules) -> list[tuple[str, str, Any]]:
    """Where identifiers stand, in order, with what is found there."""
    context = _object(message.get("context"))
    kind = message.get("type")
    # In a group call the traits describe the account; only context.traits speak of the user.
    traits = {} if kind == "group" else _object(message.get("traits"))
    around, properties = _object(context.get("traits")), _object(message.get("properties"))
    found = [
        (USERS, "user_id", message.get("userId")),
        (USERS, "email", traits.get("email")),
        (USERS, "email", around.get("email")),
        (USERS, "email", properties.get("email") if kind == "track" else None),
        (USERS, "anonymous_id", message.get("anonymousId")),
        (ACCOUNTS, "group_id", message.get("groupId")),
        (ACCOUNTS, "group_id", context.get("groupId")),
    ]
    if "device" in context:
        found += _device(_object(context["device"]))
    if "integrations" in context:
        analytics = _object(_object(context["integrations"]).get("Google Analytics"))
        found.append((USERS, "ga_client_id", analytics.get("clientId")))
    for name, keys in rules.custom:
        found += [(USERS, name, place.get(key)) for place in (traits, around, properties) for key in keys]
    return found


def _device(device: Mapping[str, Any]) -> list[tuple[str, str, Any]]:
    system = str(device.get("type")).lower()
    if system not in ("android", "ios"):
        return []
    advertising = device.get("advertisingId") if device.get("adTrackingEnabled") is True else None
    return [
        (USERS, f"{system}.id", device.get("id")),
        (USERS, f"{system}.idfa", advertising),
        (USERS, f"{system}.push_token", device.get("token")),
    ]


def _external_ids(message: Mapping[str, Any]) -> Iterator[Identifier]:
    items = _object(message.get("context")).get("externalIds")
    for item in items if isinstance(items, list) else []:
        if not isinstance(item, dict) or item.get("encoding", "none") != "none":
            continue
        kind, value = item.get("type"), identifying(item.get("id"))
        if not value or not isinstance(kind, str) or not TYPE.fullmatch(kind):
            continue
        collection = ACCOUNTS if kind == "group_id" else item.get("collection", USERS)
        if collection in (USERS, ACCOUNTS):
            yield Identifier(collection, kind, value)


def _object(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}
