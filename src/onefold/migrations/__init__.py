"""The steps that bring a catalog of any age to the newest form, run by Alembic."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from onefold.database import Database


def upgrade(database: Database, to: str = "head") -> None:
    """Take the steps that the catalog has not taken yet, in one transaction."""
    import sqlalchemy as sa
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    url = "postgresql+psycopg://" if database.postgresql else "sqlite://"
    engine = sa.create_engine(url, creator=lambda: database.connect(typed=False), poolclass=sa.NullPool)
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, to)
