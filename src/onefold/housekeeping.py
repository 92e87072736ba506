"""Housekeeping: deletes what is older than the workspace file says (`retention`), and says what it deleted.

Calls are never deleted: the log is what profiles are made of. But their context and properties make no profile, and
may go. Every deletion is a small turn of its own, so that those who write are not held up.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import closing
from functools import partial
from time import sleep
from typing import TYPE_CHECKING, Any

from onefold import canonical, log
from onefold.inbox import FILE, Inbox
from onefold.remote import REMOTE, label
from onefold.runs import now
from onefold.stores import Store

if TYPE_CHECKING:
    from onefold.workspace import Workspace

TURN = 5_000  # rows that one turn deletes
BLOCKS = 250  # blocks of calls that one turn rewrites
PAUSE = 0.05  # seconds between two turns, for others


def sweep(workspace: Workspace) -> Iterator[dict[str, Any]]:
    """Delete what is old; a line for each kind: where, what, deleted. Raises OnefoldError."""
    kept, at = workspace.applied.retention, now()
    if kept.runs is not None:
        before = at - kept.runs * 1_000_000
        yield _line("catalog", "runs", _all(lambda: workspace.catalog.forget_runs(before, TURN)))
        yield _line("catalog", "messages of alerts", _all(lambda: workspace.catalog.forget_messages(before, TURN)))
    if kept.calls is not None:
        before = at - kept.calls * 1_000_000
        for space in workspace.applied.spaces:
            with workspace.space(space.slug) as store:
                done = _all(partial(_calls, store, before))
                yield _line(label(space.slug), "context and properties of calls", done)
    # What was delivered is kept to be replayed: as long as its run is listed, and as long as calls are whole.
    if (lasts := min(filter(None, (kept.runs, kept.calls)), default=None)) is not None:
        before = at - lasts * 1_000_000
        for name in workspace.kept():
            if name.startswith(REMOTE):
                with workspace.space(name) as store:
                    yield _line(label(name), "delivered calls", _all(partial(_delivered, store, before)))
    if kept.rejected is not None:
        before = at - kept.rejected * 1_000_000
        for name in workspace.kept():
            with workspace.space(name) as store:
                yield _line(label(name), "rejected rows", _all(partial(_rejected, store, before)))
        with closing(Inbox(workspace.home / FILE)) as inbox:
            yield _line("inbox", "rejected calls", _all(lambda: inbox.forget(before, TURN)))


def _all(turn: Callable[[], int]) -> int:
    """Take turns until nothing is left to delete; how many rows that were."""
    deleted = turn()
    found = deleted
    while found:
        sleep(PAUSE)
        found = turn()
        deleted += found
    return deleted


def _rejected(store: Store, before: int) -> int:
    with store.turn():
        # By run: there is an index, and rows of a run go together.
        gone = store.rows(
            "delete from rejected where id in (select j.id from run r join rejected j on j.run = r.run"
            f" where r.started_at < $1 order by r.run, j.id limit {TURN}) returning id",
            before,
        )
    return len(gone)


def _delivered(store: Store, before: int) -> int:
    """Delete the next calls of a remote destination that are old; how many those were."""
    with store.turn():
        last, calls = 0, 0
        for row in store.rows(f"select * from block order by seq limit {BLOCKS}"):
            block = log.Block(row)
            if block.call(len(block.lines) - 1).received_at >= before:
                break
            last, calls = block.seq, calls + len(block.lines)
        if calls:
            store.execute("delete from block where seq <= $1", last)
    return calls


def _calls(store: Store, before: int) -> int:
    """Take the context and properties out of the next calls that are old; how many those were."""
    with store.turn():
        done = store.rows("select value from counter where name = $1", THINNED)
        after = int(done[0]["value"]) if done else 0
        texts, calls = {}, 0
        for row in store.rows(f"select * from block where seq > $1 order by seq limit {BLOCKS}", after):
            block = log.Block(row)
            # The log is in order of arrival.
            if block.call(len(block.lines) - 1).received_at >= before:
                break
            texts[block.seq] = "\n".join(map(_thinned, block.lines))
            calls += len(block.lines)
        if texts:
            log.rewrite(store, texts)
            store.execute(
                "insert into counter (name, value) values ($1, $2)"
                " on conflict (name) do update set value = excluded.value",
                *(THINNED, max(texts)),
            )
    return calls


# What stays of a context: what somebody agreed to, and whose account a call was about.
KEPT = ("consent", "groupId")
# The counter that says up to which block that is done.
THINNED = "thinned"


def _thinned(line: str) -> str:
    """A line of the log whose body, which stands last, has no properties, and of the context the consent only."""
    cells, _, text = line.rpartition("\t")
    body = json.loads(text)
    context = {name: said for name, said in (body.pop("context", None) or {}).items() if name in KEPT}
    body.pop("properties", None)
    return f"{cells}\t{canonical.encode({**body, 'context': context} if context else body)}"


def _line(where: str, what: str, deleted: int) -> dict[str, Any]:
    return {"where": where, "what": what, "deleted": deleted}
