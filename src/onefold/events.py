"""Events become calls: a trigger selects them, a mapping shapes them. Live calls are events of a destination too."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from onefold import calls, config, segment_profiles, times, trigger
from onefold.calls import Arrival
from onefold.errors import InvalidMapping, RowRejected
from onefold.rules import Rules

TYPES = ("identify", "group", "track", "page", "screen", "alias")


class Shape:
    """What a mapping makes of an event, whatever it comes from. Raises InvalidMapping, InvalidTrigger."""

    def __init__(self, action: str, fields: Mapping[str, Any], trigger_text: str) -> None:
        self.trigger = trigger.parse(trigger_text)
        self._calls = segment_profiles.compile(action, fields)

    def call(self, event: Mapping[str, Any], arrival: Arrival, rules: Rules) -> dict[str, Any] | None:
        """The call that an event becomes, or None if the trigger leaves it out. Raises RowRejected."""
        if not self.trigger.matches(event):
            return None
        message = self.message(event)
        try:
            return calls.call(message, arrival, rules)
        except RowRejected as error:
            error.call = json.dumps(message)
            raise

    def message(self, event: Mapping[str, Any]) -> dict[str, Any]:
        """The call of an event that is selected, in the wire format. Raises RowRejected."""
        try:
            (message,) = self._calls(event)
        except InvalidMapping as error:
            # A directive met a value that it cannot take; only this event is wrong.
            raise RowRejected("invalid_field", str(error)) from error
        return message


class Selected:
    """One mapping of a live source; its calls go to the profile source `source`. Raises InvalidMapping."""

    def __init__(self, path: str, mapping: config.Mapping, source: str) -> None:
        self.path = path
        self.source = source
        self.shape = Shape(mapping.action, mapping.fields, mapping.trigger)

    def call(self, event: Mapping[str, Any], arrival: Arrival, rules: Rules) -> dict[str, Any] | None:
        """The call that an event becomes, or None if the trigger leaves it out. Raises RowRejected."""
        return self.shape.call(event, self.arrival(arrival), rules)

    def arrival(self, arrival: Arrival) -> Arrival:
        """How the call comes that is made of one that came so."""
        return Arrival(self.source, arrival.received_at, message_id(self.path, arrival.message_id))


def message_id(path: str, original: str) -> str:
    """The message id of the call that a mapping makes of another: the same when the same call comes again."""
    return hashlib.md5(f"{path}\0{original}".encode(), usedforsecurity=False).hexdigest()


def event(message: Mapping[str, Any], arrival: Arrival) -> dict[str, Any]:
    """A live call as the event that mappings read."""
    return {"timestamp": times.text(arrival.received_at), **message, "messageId": arrival.message_id}


def wrong(message: Any) -> RowRejected | None:
    """What breaks a rule of the tracking API in a call, whoever sent it."""
    if not isinstance(message, dict):
        return RowRejected("invalid_call", "a call is a JSON object")
    kind = message.get("type")
    if kind not in TYPES:
        shown = repr(kind) if isinstance(kind, str) and len(kind) <= 40 else "what it has"
        return RowRejected("invalid_type", f"type is {', '.join(TYPES)}, not {shown}", ["type"])
    for name in _OBJECTS:
        if name in message and not isinstance(message[name], dict | None):
            return RowRejected("invalid_field", f"{name} must be an object", [name])
    for name in _TEXTS:
        if isinstance(message.get(name), dict | list):
            return RowRejected("invalid_field", f"{name} must be a text", [name])
    if kind == "track" and not (isinstance(message.get("event"), str) and message["event"].strip()):
        return RowRejected("invalid_field", "a track call needs the name of its event", ["event"])
    somebody = any(_is_id(message.get(name)) for name in ("userId", "anonymousId"))
    if not somebody and not (message.get("context") or {}).get("externalIds"):
        sentence = "the call has neither a userId nor an anonymousId; one is needed, a text or a number"
        return RowRejected("missing_user_or_anonymous_id", sentence)
    return None


_OBJECTS = ("traits", "properties", "context", "integrations")
_TEXTS = ("userId", "anonymousId", "groupId", "messageId", "name", "event")


def _is_id(value: Any) -> bool:
    return value not in (None, "") and not isinstance(value, bool)


def check(message: Any) -> None:
    """Raises RowRejected."""
    error = wrong(message)
    if error is not None:
        raise error
