"""Alembic's entry: run by `stowplan migrate`, and by the service when it starts, over a connection
it's given."""

from typing import Any, Literal

from alembic import context
from alembic.autogenerate.api import AutogenContext
from sqlalchemy import JSON

from app.db.samples.tables import metadata as samples
from app.db.tables import Base
from app.db.types import Instant


def _render(kind: str, item: Any, autogen: AutogenContext) -> str | Literal[False]:
    """Our column types by what they are in the database: an old migration must not follow new
    code."""
    if kind == "type" and isinstance(item, Instant):
        return "sa.BigInteger()"
    if kind == "type" and isinstance(item, JSON):
        autogen.imports.add("from sqlalchemy.dialects import postgresql")
        return 'sa.JSON().with_variant(postgresql.JSONB(), "postgresql")'
    return False


connection = context.config.attributes["connection"]
context.configure(
    connection=connection,
    target_metadata=[Base.metadata, samples],
    # SQLite can't alter a column: Alembic copies the table instead.
    render_as_batch=connection.dialect.name == "sqlite",
    compare_type=True,
    render_item=_render,
    transaction_per_migration=False,
)
with context.begin_transaction():
    context.run_migrations()
