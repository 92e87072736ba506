"""The audit log: who changed what, when, from where, in words. It holds no secrets: plans and sentences mask them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa

from onefold import times
from onefold.catalog import METADATA, Catalog
from onefold.roles import Who

AUDIT = sa.Table(
    "audit",
    METADATA,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("at", sa.BigInteger, nullable=False),  # µs since the epoch
    sa.Column("who", sa.String, nullable=False),
    sa.Column("kind", sa.String, nullable=False),  # as in roles.Who
    sa.Column("address", sa.String, nullable=False),
    sa.Column("action", sa.String, nullable=False),
    sa.Column("object", sa.String, nullable=False),
    sa.Column("lines", sa.JSON, nullable=False),
)


def write(catalog: Catalog, who: Who, action: str, subject: str, lines: Sequence[str], at: int) -> None:
    """Append a line; `subject` is what it was done to, `lines` say what changed. `at`: now, in µs."""
    entry = {"at": at, "who": who.name, "kind": who.kind, "address": who.address, "action": action}
    with catalog.transaction() as connection:
        connection.execute(AUDIT.insert().values(**entry, object=subject, lines=list(lines)))


def read(catalog: Catalog, limit: int, before: int | None = None, text: str = "") -> list[dict[str, Any]]:
    """The newest lines first, those older than the line `before`; `text` must stand in one of their words."""
    wanted = sa.select(AUDIT).order_by(AUDIT.c.id.desc()).limit(limit)
    if before is not None:
        wanted = wanted.where(AUDIT.c.id < before)
    if text:
        words = (AUDIT.c.who, AUDIT.c.action, AUDIT.c.object)
        wanted = wanted.where(sa.or_(*(column.icontains(text, autoescape=True) for column in words)))
    with catalog.transaction() as connection:
        return [{**row._mapping, "at": times.text(row.at)} for row in connection.execute(wanted)]
