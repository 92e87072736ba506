"""Housekeeping: deletes what is older than the workspace file says (`retention`), and says what it deleted.

Calls are never deleted: the log is what profiles are made of. Every deletion is a small turn of its own, so that
those who write are not held up.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from functools import partial
from time import sleep
from typing import TYPE_CHECKING, Any

from onefold.inbox import FILE, Inbox
from onefold.runs import now
from onefold.stores import Store

if TYPE_CHECKING:
    from onefold.workspace import Workspace

TURN = 5_000  # rows that one turn deletes
PAUSE = 0.05  # seconds between two turns, for others


def sweep(workspace: Workspace) -> Iterator[dict[str, Any]]:
    """Delete what is old; a line for each kind: where, what, deleted. Raises OnefoldError."""
    kept, at = workspace.applied.retention, now()
    if kept.runs is not None:
        before = at - kept.runs * 1_000_000
        yield _line("catalog", "runs", _all(lambda: workspace.catalog.forget_runs(before, TURN)))
        yield _line("catalog", "messages of alerts", _all(lambda: workspace.catalog.forget_messages(before, TURN)))
    if kept.rejected is not None:
        before = at - kept.rejected * 1_000_000
        for space in workspace.applied.spaces:
            with workspace.space(space.slug) as store:
                yield _line(f"space {space.slug}", "rejected rows", _all(partial(_rejected, store, before)))
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


def _line(where: str, what: str, deleted: int) -> dict[str, Any]:
    return {"where": where, "what": what, "deleted": deleted}
