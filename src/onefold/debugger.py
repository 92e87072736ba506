"""The source debugger: the last calls of a profile source, whatever brought them, accepted and rejected.

Accepted calls come from the space's log, where `heard` says that they lie; rejected rows of syncs from its
`rejected`, rejected live calls from the inbox. A cursor tells how far each was read, so that the next look finds only
what is new.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator
from dataclasses import astuple, dataclass
from typing import Any

from onefold import heard, log, profiles, space, times
from onefold.heard import Heard
from onefold.inbox import Inbox
from onefold.log import Block, Logged
from onefold.stores import Store

LIMIT = 500  # calls that are shown of each source
SCANNED = 200_000  # calls of all sources of a space among which those that an older version wrote are sought
_BLOCKS = 64  # read at once
Found = tuple[int, dict[str, Any]]  # received at, in µs, and the call


@dataclass(frozen=True)
class Cursor:
    """How far was read: the last block of the log, the last request, the last rejected row.

    `calls`: how many the source had been counted to send until then, so that two tell how many came between them.
    """

    block: int = 0
    request: int = 0
    row: int = 0
    calls: int = 0

    def __str__(self) -> str:
        return ".".join(map(str, astuple(self)))


def cursor(text: str) -> Cursor | None:
    """The cursor that a text stands for, None if it is none."""
    parts = text.split(".")
    if len(parts) not in (3, 4) or not all(part.isascii() and part.isdigit() and len(part) < 19 for part in parts):
        return None
    return Cursor(*map(int, parts))


def read(
    store: Store,
    inbox: Inbox,
    source: str,
    mappings: Collection[str],
    after: Cursor | None = None,
    limit: int = LIMIT,
) -> tuple[list[dict[str, Any]], Cursor]:
    """The newest calls of a source behind a cursor, oldest first, and the next cursor. Raises StoreError, OnefoldError.

    `mappings` are those, DEST/MAPPING, that send through the source: their rejected rows belong to it.
    """
    start = after or Cursor()
    accepted, block, calls = _accepted(store, source, start, limit)
    refused = inbox.rejected(source, start.request, limit)
    rows = _rows(store, mappings, start.row, limit)
    found: list[Found] = [*accepted, *((item.at, _refused(item)) for item in refused)]
    found += [(row["at"], _row(row, source)) for row in rows]
    found.sort(key=lambda item: item[0])
    following = Cursor(
        block,
        max((item.seq for item in refused), default=start.request),
        max((row["id"] for row in rows), default=start.row),
        calls,
    )
    return [call for _, call in found[-limit:]], following


# --- accepted -----------------------------------------------------------------------------------------


def _accepted(store: Store, source: str, after: Cursor, limit: int) -> tuple[list[Found], int, int]:
    """The newest calls of a source in the log, how far it was read, and how many of it were ever counted."""
    known = heard.read(store, source)
    # A number that the source does not have yet is none that a call can have.
    number = store.names("source").get(source) or 0
    newest = max([after.block, *(block for block, _ in known.blocks)])
    calls: list[Logged] = []
    for block in _blocks(store, known, after.block):
        newest = max(newest, block.seq)
        for at in reversed(range(len(block.lines))):
            call = block.call(at)
            if call.source == number and len(calls) < limit:
                calls.append(call)
        if len(calls) >= limit:
            break
    ids = _profiles(store, calls)
    runs = _runs(store, sorted({call.run for call in calls if call.run is not None}))
    # In order of arrival, which many calls of one request share a time in.
    found = [(call.received_at, _call(call, source, ids, runs)) for call in reversed(calls)]
    return found, newest, known.calls


def _blocks(store: Store, known: Heard, after: int) -> Iterator[Block]:
    """The blocks behind a place that may hold calls of a source, the newest first."""
    listed = [block for block, _ in reversed(known.blocks) if block > after]
    for start in range(0, len(listed), _BLOCKS):
        wanted = listed[start : start + _BLOCKS]
        rows = store.asked(wanted, "select b.* from asked a cross join block b where b.seq = a.number")
        yield from map(Block, sorted(rows, key=lambda row: -row["seq"]))
    if known.whole or len(listed) < len(known.blocks):
        return
    # The source wrote before this was noted: what is older is sought among the calls of all.
    before, newest = known.blocks[0][0] if known.blocks else 1 << 62, 0
    while rows := store.rows(
        f"select * from block where seq > $1 and seq < $2 order by seq desc limit {_BLOCKS}", after, before
    ):
        yield from map(Block, rows)
        before, newest = rows[-1]["seq"], newest or rows[0]["seq"]
        if newest - before > SCANNED:
            return


def _profiles(store: Store, calls: list[Logged]) -> dict[int, str]:
    """Each segment that calls are filed under -> the id of its profile now."""
    segments = sorted({at for call in calls for at in (call.user, call.account) if at})
    oldest = space.oldest(store, segments)
    numbers = sorted(set(oldest.values()))
    names = dict(zip(numbers, profiles.segment_ids(store, numbers), strict=True))
    return {segment: names[oldest[segment]] for segment in segments}


def _runs(store: Store, numbers: list[int]) -> dict[int, dict[str, Any]]:
    """The run_id and mapping of each run."""
    rows = store.asked(
        numbers,
        "select r.run, r.run_id, m.path from asked a join run r on r.run = a.number"
        " join mapping m on m.mapping = r.mapping",
    )
    return {row["run"]: row for row in rows}


def _call(call: Logged, source: str, ids: dict[int, str], runs: dict[int, dict[str, Any]]) -> dict[str, Any]:
    run = runs.get(call.run or 0, {})
    return {
        **_line(source, call.received_at, "accepted", call.type, call.event, call.message_id),
        "profile": ids.get(call.user or 0),
        "account": ids.get(call.account or 0),
        "mapping": run.get("path"),
        "run_id": run.get("run_id"),
        "call": log.message(call),
    }


def _line(source: str, at: int, status: str, kind: str | None, event: str | None, name: str | None) -> dict[str, Any]:
    return {
        "received_at": times.text(at),
        "source": source,
        "status": status,
        "type": kind,
        "event": event,
        "message_id": name,
        **dict.fromkeys(("profile", "account", "mapping", "run_id", "id", "code", "message")),
        "fields": [],
        "call": None,
    }


# --- rejected -----------------------------------------------------------------------------------------


def _refused(item: Any) -> dict[str, Any]:
    message = json.loads(item.body) if item.body else None
    event = message.get("event") if isinstance(message, dict) else None
    event = event if isinstance(event, str) else None
    return {
        **_line(item.source, item.at, "rejected", item.type, event, item.message_id),
        "id": item.id,
        "mapping": item.mapping or None,
        "code": item.code,
        "message": item.message,
        "fields": json.loads(item.fields),
        "call": message,
    }


def _rows(store: Store, mappings: Collection[str], after: int, limit: int) -> list[dict[str, Any]]:
    """The newest rejected rows of some mappings."""
    if not mappings:
        return []
    marks = ", ".join(f"${at + 2}" for at in range(len(mappings)))
    return store.rows(
        "select j.id, j.at, j.code, j.message, j.fields, coalesce(j.record, '') as record, r.run_id, m.path"
        " from rejected j join run r on r.run = j.run join mapping m on m.mapping = r.mapping"
        f" where j.id > $1 and m.path in ({marks}) order by j.id desc limit {limit:d}",
        *(after, *sorted(mappings)),
    )


def _row(row: dict[str, Any], source: str) -> dict[str, Any]:
    return {
        **_line(source, row["at"], "rejected", None, None, None),
        "mapping": row["path"],
        "run_id": row["run_id"],
        "code": row["code"],
        "message": row["message"],
        "fields": json.loads(row["fields"]),
        "call": json.loads(row["record"]) if row["record"] else None,
    }
