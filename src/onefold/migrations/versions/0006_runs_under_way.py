"""Runs as they go: progress, requests to cancel, what ran, the rows of each stage; since when schedules are."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    op.create_table(
        "recipe",
        sa.Column("digest", sa.String, primary_key=True),
        sa.Column("data", sa.JSON, nullable=False),
    )
    op.create_table(
        "schedule",
        sa.Column("mapping", sa.String, primary_key=True),
        sa.Column("said", sa.String, nullable=False),
        sa.Column("since", sa.BigInteger, nullable=False),
    )
    for column in (
        sa.Column("birth", sa.String),
        sa.Column("progress", sa.JSON),
        sa.Column("seen_at", sa.BigInteger),
        sa.Column("cancelled_by", sa.String),
        sa.Column("recipe", sa.String),
    ):
        op.add_column("run", column)
    op.drop_index("ix_run_mapping", "run")
    op.create_index("ix_run_mapping", "run", ["mapping", "started_at"])
    for name in ("started_at", "finished_at", "status"):
        op.create_index(f"ix_run_{name}", "run", [name])
    run = sa.table("run", sa.column("run_id", sa.String), sa.column("stages", sa.JSON))
    connection = op.get_bind()
    for row in connection.execute(sa.select(run).where(run.c.stages.is_not(None))).fetchall():
        stages = {stage: {"seconds": seconds, "rows": None} for stage, seconds in (row.stages or {}).items()}
        connection.execute(run.update().where(run.c.run_id == row.run_id).values(stages=stages))
