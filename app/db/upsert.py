"""Rows that may be there already, in the words of each dialect."""

from collections.abc import Sequence

from sqlalchemy import Table
from sqlalchemy.dialects import postgresql, sqlite

Insert = postgresql.Insert | sqlite.Insert


def insert_into(table: Table, *, is_sqlite: bool) -> Insert:
    """An insert that knows what to do with a row that is there: see :func:`or_renew`."""
    return sqlite.insert(table) if is_sqlite else postgresql.insert(table)


def or_renew(insert: Insert, *, key: Sequence[str], columns: Sequence[str]) -> Insert:
    """Of a row whose key is there already, these columns are written anew."""
    renewed = {name: insert.excluded[name] for name in columns}
    return insert.on_conflict_do_update(index_elements=key, set_=renewed)
