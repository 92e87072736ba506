"""CALLS: the one thing that flows. A batch of calls is an Arrow table with this SCHEMA, one row a call.

Rows of a warehouse, live SDK traffic, imports and replays all become such a table, and there is one way
to apply it (`apply.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from onefold import canonical, times
from onefold.errors import RowRejected
from onefold.rules import Rules, identifiers, identifying
from onefold.subscriptions import SUBSCRIPTION, statements

IDENTIFIER = pa.struct([("collection", pa.string()), ("type", pa.string()), ("value", pa.string())])

SCHEMA = pa.schema(
    [
        ("message_id", pa.string()),
        ("type", pa.string()),  # identify, group, track, page, screen, alias
        ("event", pa.string()),  # the name of a track, page or screen call
        ("timestamp", pa.int64()),  # µs since the epoch, UTC; never later than received_at
        ("received_at", pa.int64()),  # µs since the epoch, UTC
        ("source", pa.string()),  # the slug of the profile source that the call came through
        ("identifiers", pa.list_(IDENTIFIER)),  # as found in the call; blocked ones included
        ("traits", pa.string()),  # a JSON object: of the account in a group call, else of the user
        ("subscriptions", pa.list_(SUBSCRIPTION)),
        ("body", pa.string()),  # the call as JSON, without its traits
    ]
)

MAX_TRAITS = 300
MAX_MESSAGE_ID = 100
MAX_GROUP_ID = 500


@dataclass(frozen=True)
class Arrival:
    """How a call came: its profile source, when it was received (µs), and its message id."""

    source: str
    received_at: int
    message_id: str


def check(message: Mapping[str, Any], message_id: str) -> None:
    """Refuse what the field drops silently (reference, section 5). Raises RowRejected."""
    for field in ("traits", "properties"):
        items = message.get(field)
        if isinstance(items, dict) and len(items) > MAX_TRAITS:
            raise RowRejected(
                "too_many_traits",
                f"the call has {len(items)} {field}; at most {MAX_TRAITS} are accepted",
                [field],
            )
    if not message_id.isprintable() and not _holdable(message_id):
        raise RowRejected("invalid_field", "messageId holds a NUL character or half of a surrogate pair", ["messageId"])
    if len(message_id) > MAX_MESSAGE_ID:
        raise RowRejected(
            "message_id_too_long",
            f"messageId has {len(message_id)} characters; at most {MAX_MESSAGE_ID} are accepted",
            ["message_id"],
        )
    group_id = identifying(message.get("groupId")) or ""
    if len(group_id) > MAX_GROUP_ID:
        raise RowRejected(
            "group_id_too_long",
            f"groupId has {len(group_id)} characters; at most {MAX_GROUP_ID} are accepted",
            ["group_id"],
        )
    if message.get("type") == "group" and not group_id:
        raise RowRejected("missing_group_id", "a group call needs a groupId that is not empty", ["group_id"])


def _holdable(text: str) -> bool:
    try:
        canonical.encode(text)
    except canonical.InvalidValue:
        return False
    return True


def call(
    message: Mapping[str, Any], arrival: Arrival, rules: Rules, encode: Callable[[Any], str] = canonical.encode
) -> dict[str, Any]:
    """One call in the shape of SCHEMA, from a message in the field's wire format. Raises RowRejected.

    `encode` may be canonical.encode_read for a message that is from canonical.read.
    """
    check(message, arrival.message_id)
    timestamp = arrival.received_at
    if message.get("timestamp") is not None:
        given = times.parse(message["timestamp"])
        if given is None:
            raise RowRejected("invalid_field", "timestamp is not a time that can be read", ["timestamp"])
        timestamp = min(given, arrival.received_at)
    traits = message.get("traits") or {}
    try:
        return {
            "message_id": arrival.message_id,
            "type": message["type"],
            "event": canonical.text(message.get("event") or message.get("name")),
            "timestamp": timestamp,
            "received_at": arrival.received_at,
            "source": arrival.source,
            "identifiers": identifiers(message, rules),
            "traits": encode(traits) if traits else None,
            "subscriptions": statements(message) or None,
            "body": encode({k: v for k, v in message.items() if k not in _ELSEWHERE}),
        }
    except canonical.InvalidValue as error:
        raise RowRejected("invalid_field", f"the call cannot be kept: {error}") from error


# What the log holds in columns of its own.
_ELSEWHERE = {"traits", "type", "messageId", "timestamp"}


def table(calls: Sequence[Mapping[str, Any]]) -> pa.Table:
    """The Arrow table of calls made by `call`."""
    return pa.Table.from_pylist(list(calls), schema=SCHEMA)
