"""Inserting rows that may be there already, in the words of each dialect."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Table
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncSession


async def insert_new(
    session: AsyncSession, table: Table, rows: Sequence[dict[str, Any]], *, is_sqlite: bool
) -> None:
    """Insert the rows whose key isn't there yet; the others are left as they are."""
    if rows:
        dialect = sqlite if is_sqlite else postgresql
        await session.execute(dialect.insert(table).on_conflict_do_nothing(), list(rows))
