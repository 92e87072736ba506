"""Runs: who began each, and whether it is a sync or sends again what another run rejected or sent."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    op.add_column("run", sa.Column("who", sa.String))
    op.add_column("run", sa.Column("kind", sa.String, nullable=False, server_default="sync"))
    op.add_column("run", sa.Column("about", sa.String))
