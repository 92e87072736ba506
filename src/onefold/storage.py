"""What takes how much: spaces and remote destinations by what they keep, the catalog, the inbox, runs under way.

The debugger keeps nothing of its own: it shows calls of the log, and rejected ones.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

from onefold.inbox import FILE, Inbox
from onefold.remote import REMOTE, label
from onefold.stores import Store

if TYPE_CHECKING:
    from onefold.workspace import Workspace

# What a space keeps -> its tables. The rows are those of the first; what stands in blocks and pages is counted itself.
PARTS = {
    "call log": ("block",),
    "identifiers": ("identifier", "tier", "page"),
    "profiles": ("segment", "merged"),
    "merge graph": ("edge", "id_graph"),
    "account links": ("link",),
    "events": ("event",),
    "subscriptions": ("subscription",),
    "dropped identifiers": ("dropped",),
    "sync state": ("state", "mapping"),
    "runs": ("run",),
    "rejected rows": ("rejected",),
}
# And a remote destination; its calls are those that were acknowledged, for `onefold runs replay`.
REMOTE_PARTS = {
    "call log": ("block",),
    "sync state": ("state", "mapping"),
    "failed deliveries": ("failing",),
    "runs": ("run",),
    "rejected rows": ("rejected",),
}
_ROWS = {
    "call log": "select value - 1 as rows from counter where name = 'seq'",
    "identifiers": "select count(*) + coalesce((select sum(entries) from tier), 0) as rows from identifier",
}
_INBOX = {"request": "requests that wait", "rejected": "rejected calls", "message": "message ids of a day",
          "person": "users of a month"}  # fmt: skip


def read(workspace: Workspace) -> Iterator[dict[str, Any]]:
    """One line for each thing that takes room. Raises OnefoldError."""
    for name in workspace.kept():
        with workspace.space(name) as store:
            yield from _store(store, label(name), REMOTE_PARTS if name.startswith(REMOTE) else PARTS)
        folder = workspace.home if name.startswith(REMOTE) else workspace.home / "spaces"
        yield from _left(label(name), folder / f"{name}.db-wal")
    catalog = workspace.catalog.sizes()
    known = [size for *_, size in catalog if size is not None]
    file = workspace.home / "catalog.db"
    yield _line("catalog", "all", sum(rows for _, rows, _ in catalog), sum(known) if known else _bytes(file))
    yield from _left("catalog", workspace.home / "catalog.db-wal")
    with closing(Inbox(workspace.home / FILE)) as inbox:
        parts: dict[str, tuple[int, int | None]] = {}
        for name, rows, size in inbox.sizes():
            what = _INBOX.get(name, "the rest")
            before = parts.get(what, (0, 0))
            parts[what] = before[0] + rows, None if size is None else size + (before[1] or 0)
        for what, (rows, size) in parts.items():
            yield _line("inbox", what, rows, size)
        if all(size is None for _, size in parts.values()):
            yield _line("inbox", "all", None, _bytes(workspace.home / FILE))
    yield from _left("inbox", workspace.home / f"{FILE}-wal")
    temp = [path for path in (workspace.home / "tmp").rglob("*") if path.is_file()]
    yield _line("tmp", "runs under way", len(temp), sum(map(_bytes, temp)))


def _store(store: Store, where: str, parts: Mapping[str, Sequence[str]]) -> Iterator[dict[str, Any]]:
    sizes = {row["name"]: int(row["bytes"]) for row in store.rows(store.engine.dialect.sizes)}
    for what, tables in parts.items():
        rows = int(store.rows(_ROWS.get(what, f"select count(*) as rows from {tables[0]}"))[0]["rows"])
        yield _line(where, what, rows, sum(sizes.pop(table, 0) for table in tables))
    free = sizes.pop("(free)", 0)
    yield _line(where, "the rest", None, sum(sizes.values()))
    if free:
        yield _line(where, "free, to be used again", None, free)


def _left(where: str, log: Path) -> Iterator[dict[str, Any]]:
    """What was written and is not yet in the file itself."""
    if log.exists():
        yield _line(where, "write-ahead log", None, _bytes(log))


def _line(where: str, what: str, rows: int | None, size: int | None) -> dict[str, Any]:
    return {"where": where, "what": what, "rows": rows, "bytes": size}


def _bytes(file: Path) -> int:
    try:
        return file.stat().st_size
    except FileNotFoundError:
        return 0  # gone meanwhile
