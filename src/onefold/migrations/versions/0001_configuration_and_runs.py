"""Configuration, write keys and the index of runs."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    op.create_table(
        "configuration",
        sa.Column("version", sa.Integer, primary_key=True),
        sa.Column("applied_at", sa.BigInteger, nullable=False),
        sa.Column("data", sa.JSON, nullable=False),
    )
    op.create_table(
        "write_key",
        sa.Column("source", sa.String, primary_key=True),
        sa.Column("key", sa.String, nullable=False, unique=True),
    )
    op.create_table(
        "run",
        sa.Column("run_id", sa.String, primary_key=True),
        sa.Column("mapping", sa.String, nullable=False),
        sa.Column("space", sa.String, nullable=False),
        sa.Column("started_at", sa.BigInteger, nullable=False),
        sa.Column("finished_at", sa.BigInteger),
        sa.Column("status", sa.String, nullable=False),
        sa.Column("started_by", sa.String, nullable=False),
        sa.Column("host", sa.String, nullable=False),
        sa.Column("pid", sa.Integer, nullable=False),
        sa.Column("code", sa.String),
        sa.Column("error", sa.String),
        sa.Column("seconds", sa.Float),
        sa.Column("counts", sa.JSON),
    )
    op.create_index("ix_run_mapping", "run", ["mapping"])
