"""What a mapping will do before it does it: in words and by name, from work that is taken back."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import suppress
from time import time_ns
from typing import Any

import pyarrow as pa

from onefold import apply, calls, canonical, diff, endpoints, identity, profiles, secret, sync, trigger, values
from onefold.apply import Applied
from onefold.calls import Arrival
from onefold.config import Model
from onefold.errors import NotFound, RowRejected
from onefold.events import Shape
from onefold.identity import NOBODY
from onefold.rows import Origin, Rows
from onefold.rules import ACCOUNTS, Identifier, Rules
from onefold.stores import Store
from onefold.sync import Job
from onefold.warehouses import statement

# The row that is tried is sought among so many first, before all rows of a model are read.
FIRST = 100


def mapping(job: Job, key: str | None, *, effects: bool = True) -> dict[str, Any]:
    """One row of a mapping's model, the call it becomes, and what that would do to which profiles.

    `key` is the key as text; without one the first row is taken. Returns `row`, `event`, `selected` (by the
    trigger), `calls`, `rejected` and `effects`: those wait for a turn of the space, and without them nothing waits.
    Raises NotFound, WarehouseError.
    """
    # Where a column's type is that of the values that are read, all of them are; else the row is sought.
    asked = [(job.model.sql, FIRST), (_only(job.model, key), None)] if job.warehouse.typed else []
    for sql, limit in (*asked, (job.model.sql, None)):
        found, columns = _row(job, sql, key, limit) if sql else (None, [])
        if found is not None:
            break
    if found is None:
        raise NotFound(
            f"model {job.model.slug} has no rows"
            if key is None
            else f"model {job.model.slug} has no row whose {job.model.key} is {key}"
        )
    now = time_ns() // 1000
    # A row is tried as new, or as updated where the trigger wants only those.
    events = trigger.parse(job.mapping.trigger).events()
    row = {"key": canonical.encode(found.get(job.model.key)), "record": json.dumps(found)}
    origin = Origin(job.path, 1, 1, job.source, now, job.model.key, columns)
    rows = Rows(origin, job.mapping.action, job.mapping.fields, job.mapping.trigger, job.rules)
    try:
        said = rows.event(row, next((name for name in trigger.EVENTS if name in events), "new"), 1)
    except RowRejected as error:
        return {"row": found, "selected": False, "calls": [], "rejected": _why(error), "effects": []}
    arrival = Arrival(job.source, now, said["messageId"])
    remote = None if job.remote is None else secret.mask(endpoints.address(job.remote.endpoint))
    return {"row": found, **event(said, rows.shape, arrival, job.store, job.rules, remote, effects=effects)}


def _only(model: Model, key: str | None) -> str | None:
    """The model's rows whose key reads so, asked of the warehouse; None where no text says that for every warehouse."""
    if key is None or set(key) & set("\\\0"):
        return None
    with suppress(ValueError):
        plain = json.loads(key)
        key = plain if isinstance(plain, str) else key
    column, said = values.quote(model.key), values.literal(key)
    return f"select * from (\n{statement(model.sql)}\n) as looked_up where cast({column} as varchar) = {said}"


def _row(job: Job, sql: str, key: str | None, limit: int | None) -> tuple[dict[str, Any] | None, list[str]]:
    """The row with a key, or the first, among so many of a query; and the model's columns."""
    with diff.staging(job.temp) as staging:
        with job.warehouse.read(sql, limit=limit) as reader:
            staging.load(reader, job.model.key)
        sync.check_columns(job, staging.columns)
        return next(staging.records(1, key=key), None), staging.columns


def event(
    said: dict[str, Any],
    shape: Shape,
    arrival: Arrival,
    store: Store,
    rules: Rules,
    remote: str | None = None,
    *,
    effects: bool = True,
) -> dict[str, Any]:
    """An event, the call that a mapping makes of it, and what that would do to which profiles.

    Returns `event`, `selected` (by the trigger), `calls`, `rejected` and `effects`; `arrival` is that of the call. Of
    what goes to a `remote` endpoint it returns `delivered_to`: what it does there is not ours to know.
    """
    tried = {"event": said, "selected": shape.trigger.matches(said), "calls": [], "rejected": None, "effects": []}
    if not tried["selected"]:
        return tried
    try:
        message = shape.message(said)
        tried["calls"] = [message]
        batch = calls.table([calls.call(message, arrival, rules)])
    except RowRejected as error:
        return {**tried, "rejected": _why(error)}
    if remote is not None:
        return {**tried, "delivered_to": remote}
    if not effects:
        return tried
    with store.turn(keep=False):
        return {**tried, "effects": list(_effects(store, rules, batch))}


def _why(error: RowRejected) -> dict[str, Any]:
    return {"code": error.code, "fields": list(error.fields), "message": str(error)}


def several(job: Job, limit: int) -> dict[str, Any]:
    """How the first rows of a model fare: `rows`, `accepted`, `filtered`, and `rejected` (code -> sentence, keys).

    Raises WarehouseError, NotFound.
    """
    with diff.staging(job.temp) as staging:
        with job.warehouse.read(job.model.sql, limit=limit) as reader:
            staging.load(reader, job.model.key)
        sync.check_columns(job, staging.columns)
        found, columns = list(staging.records(limit)), staging.columns
    origin = Origin(job.path, 1, 1, job.source, time_ns() // 1000, job.model.key, columns)
    rows = Rows(origin, job.mapping.action, job.mapping.fields, job.mapping.trigger, job.rules)
    events = trigger.parse(job.mapping.trigger).events()
    name = next((name for name in trigger.EVENTS if name in events), "new")
    said: dict[str, Any] = {"rows": len(found), "accepted": 0, "filtered": 0, "rejected": {}}
    for record in found:
        key = canonical.encode(record.get(job.model.key))
        try:
            event = rows.event({"key": key, "record": json.dumps(record)}, name, 1)
            if not rows.shape.trigger.matches(event):
                said["filtered"] += 1
                continue
            rows.shape.message(event)
            said["accepted"] += 1
        except RowRejected as error:
            said["rejected"].setdefault(error.code, (str(error), []))[1].append(key)
    return said


def _effects(store: Store, rules: Rules, batch: pa.Table) -> Iterator[dict[str, Any]]:
    """What a call does, by comparing the profiles it meets before and after."""
    raw = [Identifier(**item) for items in batch["identifiers"].to_pylist() for item in items]
    met = [Identifier(*row[1:4]) for row in identity.rows(identity.identifying(batch, rules))]
    before = {
        at: profiles.views(store, [at], rules)[0] for item in met if (at := profiles.find(store, *item)) is not None
    }
    outcome = apply.apply(store, batch, rules)
    for item in dict.fromkeys(raw):
        if item not in met:
            yield {"do": "ignore", "identifier": f"{item.type}:{item.value}", "why": "a blocked value"}
    yield from effects(store, outcome, rules)
    for at in sorted(_touched(outcome)):
        old, new = before.get(at), profiles.views(store, [at], rules)[0]
        for name, value in new["traits"].items():
            if old is None or old["traits"].get(name) != value:
                yield {"do": "set", "profile": label(new), "trait": name, "value": value,
                       "before": old["traits"].get(name) if old else None}  # fmt: skip
        for name in old["traits"] if old else ():
            if name not in new["traits"]:
                yield {
                    "do": "unset",
                    "profile": label(new),
                    "trait": name,
                    "before": old and old["traits"][name],
                }
        for item in new["subscriptions"]:
            if old is None or item not in old["subscriptions"]:
                yield {"do": "subscribe", "profile": label(new), **item}


def effects(store: Store, outcome: Applied, rules: Rules, limit: int | None = None) -> Iterator[dict[str, Any]]:
    """The profiles that a batch created, updated and merged, by name; at most `limit` of each."""
    resolution = outcome.resolution
    fresh = resolution.created.column("segment").to_pylist()
    created = [at for at in fresh if at not in outcome.moved]  # the others are part of another one by now
    for view in profiles.views(store, created[:limit], rules):
        yield {"do": "create", "profile": label(view), "segment_id": view["segment_id"]}
    for a, b, _ in list(identity.rows(resolution.edges))[:limit]:
        named = dict(zip((a, b), profiles.segment_ids(store, [a, b]), strict=True))
        merged = profiles.views(store, [outcome.profile.get(a, a)], rules)[0]
        yield {
            "do": "merge",
            "profile": label(merged),
            "joined": [named[a], named[b]],
            "segment_id": merged["segment_id"],
        }
    updated = sorted(_touched(outcome).difference(fresh))[:limit]
    for view in profiles.views(store, updated, rules):
        yield {"do": "update", "profile": label(view), "segment_id": view["segment_id"]}
    for _, collection, kind, value, reason in list(identity.rows(resolution.dropped))[:limit]:
        yield {"do": "drop", "identifier": f"{kind}:{value}", "why": dropped(reason, collection, rules)}


def dropped(reason: str, collection: str, rules: Rules) -> str:
    """Why an identifier was dropped, in words."""
    of = "an account" if collection == ACCOUNTS else "a profile"
    if reason == "merges":
        return f"{of} would hold more than {rules.merges} merges"
    if reason == "identifiers":
        return f"{of} would hold more than {rules.identifiers} identifiers"
    limit = rules.limit(reason)
    return f"{of} would hold more than {limit.most} {reason}"


def label(view: dict[str, Any]) -> str:
    """A profile's name for people: its highest-ranked identifier."""
    first = view["external_ids"][0] if view["external_ids"] else None
    return f"{first['type']}:{first['id']}" if first else str(view["segment_id"])


def sentence(effect: dict[str, Any]) -> str:
    """An effect as one line."""
    do, profile = effect["do"], effect.get("profile")
    if do == "create":
        return f"creates profile {profile}"
    if do == "update":
        return f"updates profile {profile}"
    if do == "merge":
        return f"merges {effect['joined'][1]} and {effect['joined'][0]} into profile {profile}"
    if do == "reject":
        return f"rejects the row {effect['key'] or 'without a key'} ({effect['code']}): {effect['why']}"
    if do in ("drop", "ignore"):
        return f"leaves out {effect['identifier']}: {effect['why']}"
    if do == "subscribe":
        groups = "".join(f", {group['name']} {group['status']}" for group in effect.get("groups", ()))
        return f"{effect['type']} {effect['key']}: {effect['status'] or 'no statement'}{groups}"
    if do == "unset":
        return f"unsets {effect['trait']} (was {json.dumps(effect['before'], ensure_ascii=False)})"
    was = "" if effect["before"] is None else f" (was {json.dumps(effect['before'], ensure_ascii=False)})"
    return f"sets {effect['trait']} to {json.dumps(effect['value'], ensure_ascii=False)}{was}"


def _touched(outcome: Applied) -> set[int]:
    """The profiles that calls were filed under, by oldest segment."""
    return {outcome.profile.get(at, at) for at in outcome.filed.tolist() if at != NOBODY}
