"""Column types that mean the same on SQLite and PostgreSQL."""

from datetime import UTC, datetime

from sqlalchemy import JSON, BigInteger, Dialect, Integer
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.types import TypeDecorator

from app.clock import milliseconds

Document = JSON().with_variant(JSONB(), "postgresql")
"""A JSON value that is read and written whole."""

Serial = BigInteger().with_variant(Integer(), "sqlite")
"""A growing key: SQLite grows only a column declared INTEGER."""


class Instant(TypeDecorator[datetime]):
    """An aware datetime, kept as milliseconds since 1970 UTC: sorts, compares and migrates alike
    everywhere."""

    impl = BigInteger
    cache_ok = True

    # SQLAlchemy passes the dialect by name: the argument keeps its name.
    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> int | None:  # noqa: ARG002
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError(f"a time without a zone can't be stored: {value!r}")
        return milliseconds(value)

    def process_result_value(self, value: int | None, dialect: Dialect) -> datetime | None:  # noqa: ARG002
        return None if value is None else datetime.fromtimestamp(value / 1000, UTC)
