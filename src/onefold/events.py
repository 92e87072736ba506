"""Live calls as a destination's events: triggers select them, mappings shape them, exactly as for rows."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

from onefold import calls, config, segment_profiles, trigger
from onefold.calls import Arrival
from onefold.errors import InvalidMapping, RowRejected
from onefold.rules import Rules


class Selected:
    """One mapping of an event source; its calls go to the profile source `source`. Raises InvalidMapping."""

    def __init__(self, path: str, mapping: config.Mapping, source: str) -> None:
        self.path = path
        self.source = source
        self._trigger = trigger.parse(mapping.trigger)
        self._calls = segment_profiles.compile(mapping.action, mapping.fields)

    def call(self, event: Mapping[str, Any], arrival: Arrival, rules: Rules) -> dict[str, Any] | None:
        """The call that an event becomes, or None if the trigger leaves it out. Raises RowRejected."""
        if not self._trigger.matches(event):
            return None
        try:
            (message,) = self._calls(event)
        except InvalidMapping as error:
            # A directive met a value that it cannot take; only this event is wrong.
            raise RowRejected("invalid_field", str(error)) from error
        mine = Arrival(self.source, arrival.received_at, message_id(self.path, arrival.message_id))
        return calls.call(message, mine, rules)


def message_id(path: str, original: str) -> str:
    """The message id of the call that a mapping makes of another: the same when the same call comes again."""
    return hashlib.md5(f"{path}\0{original}".encode(), usedforsecurity=False).hexdigest()
