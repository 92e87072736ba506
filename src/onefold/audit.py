"""The audit log: who changed what, when, from where, in words. It holds no secrets: plans and sentences mask them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from onefold import times
from onefold.catalog import Catalog
from onefold.database import beginning
from onefold.roles import Who


def write(catalog: Catalog, who: Who, action: str, subject: str, lines: Sequence[str], at: int) -> None:
    """Append a line; `subject` is what it was done to, `lines` say what changed. `at`: now, in µs."""
    entry = {"at": at, "who": who.name, "kind": who.kind, "address": who.address, "action": action}
    with catalog.transaction() as said:
        said.insert("audit", [{**entry, "object": subject, "lines": list(lines)}])


def read(catalog: Catalog, limit: int, before: int | None = None, text: str = "") -> list[dict[str, Any]]:
    """The newest lines first, those older than the line `before`; `text` must stand in one of their words."""
    wanted, bound = ["true"], dict[str, Any](limit=limit)
    if before is not None:
        wanted.append("id < :before")
        bound["before"] = before
    if text:
        words = " or ".join(f"lower({word}) like lower(:text) escape '/'" for word in ("who", "action", "object"))
        wanted.append(f"({words})")
        bound["text"] = "%" + beginning(text)
    newest = f"select * from audit where {' and '.join(wanted)} order by id desc limit :limit"
    with catalog.transaction() as said:
        return [{**row, "at": times.text(row["at"])} for row in said.rows(newest, **bound)]
