"""Bring a database to the schema that this version of the service needs."""

from enum import StrEnum
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


class Branch(StrEnum):
    """Which tables: SQLite keeps the two in two files, PostgreSQL side by side."""

    CONTROL = "control"
    SAMPLES = "samples"


async def upgrade(
    database: Database, branch: Branch = Branch.CONTROL
) -> tuple[str | None, str | None]:
    """Apply what is missing; gives the revision before and after. Two services may start at
    once."""
    async with database.write() as session:
        connection = await session.connection()
        if not database.is_sqlite:
            await session.execute(
                text("SELECT pg_advisory_xact_lock(:key)"), {"key": _MIGRATION_LOCK}
            )
        return await connection.run_sync(_upgrade, branch)


def _upgrade(connection: Connection, branch: Branch) -> tuple[str | None, str | None]:
    config = alembic_config(connection)
    scripts = ScriptDirectory.from_config(config)
    before = _revision(connection, scripts, branch)
    command.upgrade(config, f"{branch}@head")
    return before, _revision(connection, scripts, branch)


def _revision(connection: Connection, scripts: ScriptDirectory, branch: Branch) -> str | None:
    for head in MigrationContext.configure(connection).get_current_heads():
        revision = scripts.get_revision(head)
        if revision is not None and branch in revision.branch_labels:
            return head
    return None
