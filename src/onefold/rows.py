"""Changed rows become calls: by whole columns where they can (`columnar.py`), else one by one.

`Rows.one` is the meaning: a row as an event, the trigger, the mapping, the action, the call.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from onefold import calls, canonical, columnar, identity, segment_profiles, state, times, trigger
from onefold.calls import Arrival
from onefold.errors import InvalidMapping, RowRejected
from onefold.rules import Rules

MAX_VALUE_BYTES = 128 * 1024
MAX_RECORD_BYTES = 512 * 1024

# What is remembered of a row: STATE, and whether the state has its key already.
REMEMBERED = pa.schema([*state.STATE, ("known", pa.bool_())])
_REJECTED = {"new": state.REJECTED_NEW, "updated": state.REJECTED_UPDATED, "deleted": state.REJECTED_DELETED}

Places = np.ndarray[Any, np.dtype[np.int64]]
Rejected = tuple[str | None, str | None, RowRejected, str | None]  # key, event, why, record


@dataclass(frozen=True)
class Mapped:
    """A chunk of changed rows after mapping: its calls in the rows' order, and what to remember of each row."""

    calls: pa.Table  # calls.SCHEMA
    places: Places  # of each call, the place of its row in `state`
    state: pa.Table  # REMEMBERED
    rejected: list[Rejected]
    filtered: int


@dataclass(frozen=True)
class Origin:
    """What all rows of a run share. `received_at` in µs; `key` and `columns` are the model's."""

    path: str  # DEST/MAPPING
    epoch: int
    version: int
    source: str  # the slug of the profile source
    received_at: int
    key: str
    columns: Sequence[str]


class Rows:
    """Maps chunks of diff.Staging.changes. Raises InvalidMapping, InvalidTrigger."""

    def __init__(
        self,
        origin: Origin,
        action: str,
        fields: Mapping[str, Any],
        trigger_text: str,
        rules: Rules,
        schema: Sequence[tuple[str, str, Any]] | None = None,
    ) -> None:
        """`schema` is the staged columns; without it, or where it cannot be, nothing goes by columns."""
        self.origin = origin
        self.rules = rules
        self._calls = segment_profiles.compile(action, fields)
        self._trigger = trigger.parse(trigger_text)
        self.plan = self._plan(action, fields, schema)

    def _plan(
        self, action: str, fields: Mapping[str, Any], schema: Sequence[tuple[str, str, Any]] | None
    ) -> columnar.Plan | None:
        if schema is None or not self._trigger.depends_on_event_only:
            return None
        origin = self.origin
        events = frozenset(name for name in trigger.EVENTS if self._trigger.matches({"type": "track", "event": name}))
        return columnar.compile(
            *(action, fields, [columnar.Column(*column) for column in schema], self.rules),
            path=origin.path,
            epoch=origin.epoch,
            received_at=origin.received_at,
            events=events,
        )

    def computing(self, look: pa.Table) -> pa.Table:
        """The columns of the fields that are resolved row by row, for a first look at a chunk."""
        assert self.plan is not None
        events = [self.event(row, row["event"], row["counter"] + 1, limits=False) for row in look.to_pylist()]
        return self.plan.computed.table(look["n"].to_pylist(), events)

    # --- a chunk --------------------------------------------------------------------------------------

    def map(self, chunk: pa.Table) -> Mapped:
        """Map one chunk."""
        if self.plan is None or "plain" not in chunk.column_names:
            return self._one_by_one(chunk)
        plain = chunk["plain"].to_numpy()
        if plain.all():
            return self._in_columns(chunk, self.plan)
        parts = self._in_columns(chunk.filter(plain), self.plan), self._one_by_one(chunk.filter(~plain))
        # Calls and rows in the order of the chunk, wherever they were mapped.
        rows = np.flatnonzero(plain), np.flatnonzero(~plain)
        places = np.concatenate([row[part.places] for row, part in zip(rows, parts, strict=True)])
        order = np.argsort(places, kind="stable")
        return Mapped(
            pa.concat_tables([part.calls for part in parts]).take(order),
            places[order],
            pa.concat_tables([part.state for part in parts]).take(np.argsort(np.concatenate(rows))),
            parts[1].rejected,
            parts[0].filtered + parts[1].filtered,
        )

    def _in_columns(self, chunk: pa.Table, plan: columnar.Plan) -> Mapped:
        """The plain rows of a chunk."""
        origin, rows = self.origin, chunk.num_rows
        selected = pc.is_in(chunk["event"], pa.array(sorted(plan.events), pa.string())).to_numpy()
        status = np.where(selected, state.SENT, state.FILTERED)
        columns = {
            "key": chunk["key"],
            "epoch": np.full(rows, origin.epoch),
            "checksum": chunk["checksum"],
            "counter": np.add(chunk["counter"].to_numpy(), 1),
            "status": status,
            "version": np.full(rows, origin.version),
            "known": chunk["known"],
        }
        remembered = pa.table([columns[name] for name in REMEMBERED.names], schema=REMEMBERED)
        chosen = chunk if selected.all() else chunk.filter(selected)
        made = plan.calls(chosen, origin.source, origin.received_at)
        return Mapped(made, np.flatnonzero(selected), remembered, [], int(rows - selected.sum()))

    def _one_by_one(self, chunk: pa.Table) -> Mapped:
        """The rows of a chunk one after another."""
        made, remembered, places = [], [], []
        rejected: list[Rejected] = []
        filtered = 0
        names = ("key", "checksum", "counter", "event", "known", "record")
        for place, row in enumerate(chunk.select(names).to_pylist()):
            event, counter = row["event"], row["counter"] + 1
            seen = (row["key"], self.origin.epoch, row["checksum"])
            try:
                call = self.one(row, event, counter)
            except RowRejected as error:
                rejected.append((row["key"], event, error, row["record"]))
                # What was not accepted did not happen: the counter stays.
                remembered.append((*seen, counter - 1, _REJECTED[event], self.origin.version, row["known"]))
                continue
            if call is None:
                filtered += 1
            else:
                made.append(call)
                places.append(place)
            status = state.FILTERED if call is None else state.SENT
            if event == "deleted":
                status = state.GONE
            remembered.append((*seen, counter, status, self.origin.version, row["known"]))
        told = identity.table(REMEMBERED, remembered)
        return Mapped(calls.table(made), np.array(places, np.int64), told, rejected, filtered)

    # --- a row ----------------------------------------------------------------------------------------

    def one(self, row: Mapping[str, Any], event: str, counter: int) -> dict[str, Any] | None:
        """The call that a row becomes, or None if the trigger leaves it out. Raises RowRejected."""
        said = self.event(row, event, counter)
        if not self._trigger.matches(said):
            return None
        try:
            (message,) = self._calls(said)
        except InvalidMapping as error:
            # A directive met a value that it cannot take; only this row is wrong.
            raise RowRejected("invalid_field", str(error)) from error
        arrival = Arrival(self.origin.source, self.origin.received_at, said["messageId"])
        return calls.call(message, arrival, self.rules)

    def selects(self, event: Mapping[str, Any]) -> bool:
        """Whether the trigger selects an event."""
        return self._trigger.matches(event)

    def event(self, row: Mapping[str, Any], event: str, counter: int, *, limits: bool = True) -> dict[str, Any]:
        """A changed row as the event that mappings read (reference, section 2).

        `record` is the row as JSON, None for a deleted one, which carries its key and nulls. Raises RowRejected for
        a value or record over the limits.
        """
        origin = self.origin
        if row["record"] is None:
            properties = {**dict.fromkeys(origin.columns), origin.key: json.loads(row["key"])}
        else:
            properties = json.loads(row["record"])
            if limits and len(row["record"]) * 4 > MAX_VALUE_BYTES:
                _check_sizes(row["record"], properties)
        return {
            "type": "track",
            "event": event,
            "messageId": message_id(origin.path, origin.epoch, row["key"], counter),
            "timestamp": times.text(origin.received_at),
            "properties": properties,
            "context": {},
        }


def _check_sizes(record: str, properties: dict[str, Any]) -> None:
    for name, value in properties.items():
        try:
            size = len(canonical.encode(value).encode())
        except canonical.InvalidValue:
            continue  # refused where it is used
        if size > MAX_VALUE_BYTES:
            raise RowRejected(
                "value_too_large",
                f"column {name} holds {size:,} bytes as JSON; at most {MAX_VALUE_BYTES:,} are accepted",
                [name],
            )
    size = len(record.encode())
    if size > MAX_RECORD_BYTES:
        raise RowRejected(
            "record_too_large", f"the row holds {size:,} bytes; at most {MAX_RECORD_BYTES:,} are accepted"
        )


def message_id(path: str, epoch: int, key: str, counter: int) -> str:
    """The message id of a row's call: the same when the same change is sent again."""
    said = f"{path}\0{epoch}\0{key}\0{counter}"
    return hashlib.md5(said.encode(), usedforsecurity=False).hexdigest()


def key_rejected(key: str | None, record: str, column: str) -> Rejected:
    """A row whose key is NULL, or stands in more than one row."""
    if key is None:
        error = RowRejected("null_key", f"the key column {column} is NULL; every row needs a key", [column])
    else:
        error = RowRejected(
            "repeated_key", f"the key {column} = {key} stands in more than one row; keys must differ", [column]
        )
    return key, None, error, record
