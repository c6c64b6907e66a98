"""Queues with shares, what they have used lately, and advance reservations of nodes."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

_DOCUMENT = sa.JSON().with_variant(postgresql.JSONB(astext_type=sa.Text()), "postgresql")
_SERIAL = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.create_table(
        "queues",
        sa.Column("id", _SERIAL, nullable=False),
        sa.Column("name", sa.String(length=63), nullable=False),
        sa.Column("parent", sa.String(length=63), nullable=True),
        sa.Column("weight", sa.BigInteger(), nullable=False),
        sa.Column("guaranteed", _DOCUMENT, nullable=False),
        sa.Column("limit", _DOCUMENT, nullable=False),
        sa.Column("min_runtime_seconds", sa.Float(), nullable=True),
        sa.Column("comment", sa.Text(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("row_version", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_queues")),
        sa.UniqueConstraint("name", name=op.f("uq_queues_name")),
    )
    op.create_table(
        "queue_usage",
        sa.Column("queue", sa.String(length=63), nullable=False),
        sa.Column("gpu_seconds", sa.Float(), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("queue", name=op.f("pk_queue_usage")),
    )
    op.create_table(
        "bookings",
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("name", sa.String(length=63), nullable=False),
        sa.Column("nodes", _DOCUMENT, nullable=False),
        sa.Column("queue", sa.String(length=63), nullable=True),
        sa.Column("starts_at", sa.BigInteger(), nullable=False),
        sa.Column("ends_at", sa.BigInteger(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("row_version", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_bookings")),
        sa.UniqueConstraint("name", name=op.f("uq_bookings_name")),
    )
    op.create_index(op.f("ix_bookings_ends_at"), "bookings", ["ends_at"])
    # What ended since the last look is added to its queue's usage.
    op.create_index(op.f("ix_allocations_ended_at"), "allocations", ["ended_at"])


def downgrade() -> None:
    op.drop_index(op.f("ix_allocations_ended_at"), "allocations")
    op.drop_table("bookings")
    op.drop_table("queue_usage")
    op.drop_table("queues")
