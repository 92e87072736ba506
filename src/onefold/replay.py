"""Replay: send again what a run sent, out of the log of its store, under the same message ids.

Of each row only the newest version goes out again: a call whose message id is not the one that the state gives its
row was followed by another. A space that has a call in a profile needs it no second time; a call that belonged to
nobody is resolved anew, by the rules as they are now. A remote endpoint gets all of them, and drops what it has; what
it does not take is retried by later syncs, as ever.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from onefold import calls, components, diff, identity, log, rows, rules, space, state, subscriptions, trigger
from onefold.cancel import Cancel
from onefold.deliver import Deliver
from onefold.housekeeping import THINNED
from onefold.identity import Numbers
from onefold.ledger import Counts, Header, Ledger
from onefold.rows import REMEMBERED, Mapped
from onefold.rules import Rules
from onefold.stores import Store
from onefold.sync import Apply, Job, Stages, leased


@dataclass(frozen=True)
class Recorded:
    """What is recorded of the calls that a run sent, in calls; `places` are those to be sent again, in the log.

    `there`: in a profile of the space already. `superseded`: their row was sent again since, is gone, or has another
    key now. `forgotten`: no longer kept whole (retention). `seen` has the row of each place (state.STATE).
    """

    sent: int
    there: int
    superseded: int
    forgotten: int
    places: Numbers
    seen: pa.Table


def find(store: Store, run_id: str, path: str, *, remote: bool) -> Recorded:
    """What a run of the mapping at `path` (DEST/MAPPING) sent. Raises StoreError."""
    told, header = store.rows("select run, counts from run where run_id = $1", run_id), Header.read(store, path)
    if not told or header is None:
        return Recorded(0, 0, 0, 0, np.zeros(0, np.int64), state.STATE.empty_table())
    logged = _logged(store, told[0]["run"], remote=remote)
    wanted = logged.filter(pc.invert(logged["there"]))
    names, seen = _newest(store, header) if wanted.num_rows else (pa.array([], pa.string()), state.STATE.empty_table())
    at = pc.index_in(wanted["message_id"], names)
    newest, at = wanted.filter(pc.is_valid(at)), at.drop_null()
    kept = pc.greater_equal(newest["seq"], _whole(store))
    found = newest.filter(kept)
    sent = json.loads(told[0]["counts"]).get("sent", 0)
    return Recorded(
        sent=sent,
        there=logged.num_rows - wanted.num_rows,
        superseded=wanted.num_rows - newest.num_rows,
        forgotten=sent - logged.num_rows + newest.num_rows - found.num_rows,
        places=found["seq"].to_numpy(),
        seen=seen.take(at.filter(kept)),
    )


def _logged(store: Store, run: int, *, remote: bool) -> pa.Table:
    """The calls of a run in the log: seq, message_id, and whether they are `there`, also by a replay since."""
    found, nobody = [_LOGGED.empty_table()], pa.array([], pa.string())
    since: list[pa.Array] = []
    for table in log.tables(store):
        filed = pc.or_(pc.is_valid(table["user"]), pc.is_valid(table["account"]))
        own = pc.fill_null(pc.equal(table["run"], run), False)  # noqa: FBT003 - pyarrow takes it by place
        mine = table.filter(own).select(["seq", "message_id"]).append_column("there", filed.filter(own))
        found.append(mine)
        if remote:
            continue
        lost = mine["message_id"].filter(pc.invert(mine["there"])).combine_chunks()
        nobody = pa.concat_arrays([nobody, lost]) if len(lost) else nobody
        if len(nobody):
            again = pc.and_(filed, pc.is_in(table["message_id"], nobody))
            since.append(table["message_id"].filter(again).combine_chunks())
    logged = pa.concat_tables(found)
    if since:
        there = pc.or_(logged["there"], pc.is_in(logged["message_id"], pa.concat_arrays(since)))
        logged = logged.set_column(2, "there", there)
    return logged


_LOGGED = pa.schema([("seq", pa.int64()), ("message_id", pa.string()), ("there", pa.bool_())])


def _newest(store: Store, header: Header) -> tuple[pa.Array, pa.Table]:
    """The message id of the newest call of each row that a mapping has seen, and the row (STATE).

    Not of rows whose newest version was left out by the trigger or rejected. Also of those that it was to forget, as
    long as they were not sent anew.
    """
    assert header.mapping is not None  # as it was read
    first, later = header.seen(store)
    seen = pa.concat_tables([state.past(store, header.mapping), first, later.select(state.STATE.names)])
    last = {key: at for at, key in enumerate(seen["key"].to_pylist())}
    seen = seen.take(pa.array(last.values(), pa.int64()))
    seen = seen.filter(pc.is_in(seen["status"], pa.array([state.SENT, state.GONE, *_OPEN], pa.int64())))
    told = zip(*(seen[name].to_pylist() for name in ("epoch", "key", "counter")), strict=True)
    names = [rows.message_id(header.path, epoch, key, counter) for epoch, key, counter in told]
    return pa.array(names, pa.string()), seen


_OPEN = (state.OPEN_NEW, state.OPEN_UPDATED, state.OPEN_DELETED)


def _whole(store: Store) -> int:
    """The first place of the log from which on calls still have their context and properties."""
    thinned = store.rows("select value from counter where name = $1", THINNED)
    after = thinned[0]["value"] if thinned else 0
    last = store.counters()["seq"]
    return int(store.rows(f"select coalesce(min(seq), {last}) as seq from block where seq > $1", after)[0]["seq"])


def replay(
    job: Job,
    run_id: str,
    counts: Counts,
    *,
    of: str,
    stages: Stages,
    progress: Callable[[str, int, int | None], None],
    cancel: Cancel,
) -> None:
    """Send again what the run `of` sent, as a run of its own. Raises StoreError, EndpointError, Cancelled.

    Counts: `extracted` calls are recorded; of these `unchanged` are there already, and `filtered` are superseded,
    forgotten, or still of nobody.
    """
    with ExitStack() as stack:
        with stages.timed("wait"):
            progress("wait", 0, None)
            stack.enter_context(leased(job, cancel))
        progress("read", 0, None)
        with stages.timed("read"):
            found = find(job.store, of, job.path, remote=job.remote is not None)
        stages.count("read", found.sent)
        header = Header.read(job.store, job.path)
        if header is None or not len(found.places):
            return
        counts.extracted, counts.filtered = found.sent, found.superseded + found.forgotten
        ledger = Ledger(job.store, header, run_id, counts, job.store.turn, lambda _: None)
        step: Apply | Deliver = Apply(job, ledger, lambda _: None)
        if job.remote is not None:
            step = Deliver(job.remote, ledger, job.source, lambda _: {})
        compared = diff.Counts(found.sent, 0, found.sent - found.there, 0, found.there, 0, 0, 0, len(found.places))
        ledger.begin(compared, iter(()), cancel)
        stack.enter_context(cancel.breaking(step.stop) if job.remote is not None else nullcontext())
        stack.enter_context(step)
        for start in range(0, len(found.places), step.rows):
            cancel.check()
            progress(step.doing, start, len(found.places))
            end = start + step.rows
            mapped = _mapped(job, ledger, found.places[start:end], found.seen.slice(start, step.rows))
            step.chunk(mapped, step.ready(mapped), mapped.calls.num_rows, stages)
        with stages.timed("index"):
            step.end()
        progress("done", len(found.places), len(found.places))


def _mapped(job: Job, ledger: Ledger, places: Numbers, seen: pa.Table) -> Mapped:
    """Calls of the log as what a sync makes of rows, with what is known of their rows, so that these can be retried."""
    found = log.calls(job.store, places.tolist())
    made = calls.table([_call(found[seq], job.source, job.rules) for seq in places.tolist()])
    if job.remote is not None:
        return Mapped(made, np.arange(made.num_rows), _remembered(seen, job.mapping.trigger), [], 0)
    somebody = made.filter(_resolved(job.store, made, job.rules))
    ledger.counts.unresolved += made.num_rows - somebody.num_rows
    return Mapped(somebody, np.arange(0), REMEMBERED.empty_table(), [], made.num_rows - somebody.num_rows)


def _call(logged: log.Logged, source: str, found: Rules) -> dict[str, Any]:
    """A call of the log in the shape of calls.SCHEMA: as it was sent, identified by the rules as they are now."""
    message = {**json.loads(logged.body), "type": logged.type, "traits": json.loads(logged.traits or "{}")}
    return {
        "message_id": logged.message_id,
        "type": logged.type,
        "event": logged.event,
        "timestamp": logged.time,
        "received_at": logged.received_at,
        "source": source,
        "identifiers": rules.identifiers(message, found),
        "traits": logged.traits,
        "subscriptions": subscriptions.statements(message) or None,
        "body": logged.body,
    }


def _resolved(store: Store, made: pa.Table, found: Rules) -> pa.Array:
    """Whether each call would belong to a profile now."""
    identifying = identity.identifying(made, found, store.secret)
    known = space.lookup(store, identifying, store.counters()["segment"]).known
    filed = components.resolve(made, known, found, identifying).filed
    return pc.or_(pc.is_valid(filed["user"]), pc.is_valid(filed["account"]))


def _remembered(seen: pa.Table, selects: str) -> pa.Table:
    """Rows of the state as REMEMBERED: with the event that a retry is to have, which nobody wrote down."""
    events = trigger.parse(selects).events()
    made = []
    for row in seen.to_pylist():
        gone = row["status"] in (state.GONE, state.OPEN_DELETED)
        likely, other = ("new", "updated") if row["counter"] == 1 else ("updated", "new")
        event = "deleted" if gone else likely if likely in events or other not in events else other
        made.append({**row, "status": state.GONE if gone else state.SENT, "known": True, "event": event})
    return pa.Table.from_pylist(made, schema=REMEMBERED)
