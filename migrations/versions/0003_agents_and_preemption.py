"""What agents report of stops and readiness, room reserved for tasks, drains, join tokens."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

_DOCUMENT = sa.JSON().with_variant(postgresql.JSONB(astext_type=sa.Text()), "postgresql")


def upgrade() -> None:
    with op.batch_alter_table("tasks") as batch_op:
        batch_op.add_column(sa.Column("reserved", _DOCUMENT, nullable=True))
        batch_op.add_column(sa.Column("not_before", sa.BigInteger(), nullable=True))
        batch_op.add_column(
            sa.Column("stop_cause", sa.String(length=16), nullable=False, server_default="")
        )
        batch_op.add_column(sa.Column("stop_ordered_at", sa.BigInteger(), nullable=True))
        batch_op.add_column(
            sa.Column("preemptions", sa.Integer(), nullable=False, server_default="0")
        )
    with op.batch_alter_table("allocations") as batch_op:
        batch_op.add_column(
            sa.Column("stop_cause", sa.String(length=16), nullable=False, server_default="")
        )
        batch_op.add_column(sa.Column("checkpoint", sa.String(length=16), nullable=True))
        batch_op.add_column(sa.Column("error", sa.Text(), nullable=False, server_default=""))
        batch_op.add_column(sa.Column("ready", sa.Boolean(), nullable=True))
        batch_op.add_column(sa.Column("note", sa.Text(), nullable=False, server_default=""))
        batch_op.add_column(
            sa.Column("log_bytes", sa.BigInteger(), nullable=False, server_default="0")
        )
        batch_op.add_column(sa.Column("failed_at", sa.BigInteger(), nullable=True))
    op.execute("UPDATE allocations SET log_bytes = log_end - log_start")
    with op.batch_alter_table("nodes") as batch_op:
        batch_op.add_column(sa.Column("drain_until", sa.BigInteger(), nullable=True))
        batch_op.add_column(sa.Column("drain_reason", sa.Text(), nullable=False, server_default=""))
        batch_op.add_column(sa.Column("maintenance_since", sa.BigInteger(), nullable=True))
    op.create_table(
        "join_tokens",
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("uses_left", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("expires_at", sa.BigInteger(), nullable=False),
        sa.Column("last_node", sa.String(length=63), nullable=False),
        sa.Column("row_version", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_join_tokens")),
        sa.UniqueConstraint("digest", name=op.f("uq_join_tokens_digest")),
    )


def downgrade() -> None:
    op.drop_table("join_tokens")
    with op.batch_alter_table("nodes") as batch_op:
        batch_op.drop_column("maintenance_since")
        batch_op.drop_column("drain_reason")
        batch_op.drop_column("drain_until")
    with op.batch_alter_table("allocations") as batch_op:
        for column in (
            "failed_at", "log_bytes", "note", "ready", "error", "checkpoint", "stop_cause",
        ):  # fmt: skip
            batch_op.drop_column(column)
    with op.batch_alter_table("tasks") as batch_op:
        for column in ("preemptions", "stop_ordered_at", "stop_cause", "not_before", "reserved"):
            batch_op.drop_column(column)
