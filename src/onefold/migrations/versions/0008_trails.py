"""Where each run was, for its chart and log."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    op.create_table(
        "trail",
        sa.Column("run_id", sa.String, primary_key=True),
        sa.Column("points", sa.JSON, nullable=False),
    )
