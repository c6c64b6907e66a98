"""Bring a database to the schema that this version of the service needs."""

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, text

import migrations
from app.db.engine import Database

_MIGRATION_LOCK = 0x57_0A_92


def alembic_config(connection: Connection | None = None) -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(migrations.__file__).parent))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    return config


async def upgrade(database: Database) -> tuple[str | None, str]:
    """Apply what is missing; gives the revision before and after. Two services may start at
    once."""
    async with database.write() as session:
        connection = await session.connection()
        if not database.is_sqlite:
            await session.execute(
                text("SELECT pg_advisory_xact_lock(:key)"), {"key": _MIGRATION_LOCK}
            )
        return await connection.run_sync(_upgrade)


def _upgrade(connection: Connection) -> tuple[str | None, str]:
    config = alembic_config(connection)
    before = MigrationContext.configure(connection).get_current_revision()
    head = ScriptDirectory.from_config(config).get_current_head()
    if head is None:
        raise RuntimeError("this installation has no migrations: it is incomplete")
    if before != head:
        command.upgrade(config, "head")
    return before, head
