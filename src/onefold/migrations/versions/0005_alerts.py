"""Alerts that are open, their messages, and what runs sent that are no longer kept."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    op.create_table(
        "alert",
        sa.Column("alert", sa.String, primary_key=True),
        sa.Column("mapping", sa.String, primary_key=True),
        sa.Column("rule", sa.String, primary_key=True),
        sa.Column("since", sa.BigInteger, nullable=False),
        sa.Column("count", sa.Integer, nullable=False),
        sa.Column("told_at", sa.BigInteger, nullable=False),
        sa.Column("run_id", sa.String),
    )
    op.create_table(
        "message",
        sa.Column("id", sa.String, primary_key=True),
        sa.Column("alert", sa.String, nullable=False),
        sa.Column("channel", sa.String, nullable=False),
        sa.Column("created_at", sa.BigInteger, nullable=False, index=True),
        sa.Column("body", sa.JSON, nullable=False),
        sa.Column("tries", sa.Integer, nullable=False),
        sa.Column("tried_at", sa.BigInteger, nullable=False),
        sa.Column("sent_at", sa.BigInteger),
        sa.Column("answer", sa.String),
    )
    op.create_table(
        "sent",
        sa.Column("month", sa.String, primary_key=True),
        sa.Column("mapping", sa.String, primary_key=True),
        sa.Column("calls", sa.BigInteger, nullable=False),
    )
