"""What the migrations make is what the code expects, from nothing and from an older release."""

from pathlib import Path
from typing import Any

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Connection, text

from app.db.engine import Database
from app.db.migrate import Branch, alembic_config, upgrade
from app.db.samples.tables import TABLES as MEASURED
from app.db.samples.tables import metadata as samples
from app.db.tables import Base

TABLES = {Branch.CONTROL: [Base.metadata], Branch.SAMPLES: [samples]}


def differences(connection: Connection, metadata: list[Any]) -> list[Any]:
    context = MigrationContext.configure(connection, opts={"compare_type": True})
    found: list[Any] = []
    measured = {table.name for table in MEASURED.values()}
    for difference in compare_metadata(context, metadata):
        # A list is of changes to one table's columns, a tuple is of the rest.
        found += difference if isinstance(difference, list) else [difference]
    if connection.dialect.name == "sqlite":  # there the key is the table, and the only index
        return [one for one in found if one[0] != "add_index" or one[1].table.name not in measured]
    return found


async def test_migrated_databases_are_as_the_code_declares_them(
    tmp_path: Path, database_url: str
) -> None:
    database = Database(database_url)
    try:
        branches = [[Branch.CONTROL], [Branch.SAMPLES]]
        if not database.is_sqlite:
            branches = [[Branch.CONTROL, Branch.SAMPLES]]  # side by side
        for number, some in enumerate(branches):
            one = (
                Database(f"sqlite:///{tmp_path / f'{number}.db'}")
                if database.is_sqlite
                else database
            )
            try:
                for branch in some:
                    await upgrade(one, branch)
                metadata = [tables for branch in some for tables in TABLES[branch]]
                async with one.read() as session:
                    connection = await session.connection()
                    assert await connection.run_sync(differences, metadata) == []
            finally:
                await one.close()
    finally:
        await database.close()


@pytest.mark.parametrize("branch", Branch)
async def test_migrating_twice_changes_nothing_the_second_time(
    database_url: str, branch: Branch
) -> None:
    database = Database(database_url)
    try:
        before, after = await upgrade(database, branch)
        assert (before, after) == (None, after)
        assert await upgrade(database, branch) == (after, after)
    finally:
        await database.close()


async def test_nodes_of_the_first_release_are_kept(database_url: str) -> None:
    database = Database(database_url)

    def first_release(connection: Connection) -> None:
        command.upgrade(alembic_config(connection), "0001")
        connection.execute(
            text(
                "INSERT INTO nodes (name, state, schedulable, address, token_digest, boot_id, seq,"
                " revision, cpu_milli, memory_mib, disk_mib, network_mbps, labels, domains, host,"
                " registered_at, last_seen_at, row_version) VALUES ('n1', 'ready', true, 'n1', 'd',"
                " 'b', 5, 1, 1, 1, 1, 1, '{}', '{}', '{}', 1, 1, 1)"
            )
        )

    try:
        async with database.write() as session:
            await (await session.connection()).run_sync(first_release)
        assert (await upgrade(database))[0] == "0001"
        async with database.read() as session:
            found = await session.execute(text("SELECT name, seq, event_log, event_seq FROM nodes"))
            assert [tuple(row) for row in found] == [("n1", 5, "", 0)]
    finally:
        await database.close()
