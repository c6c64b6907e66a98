"""How long tasks ran, and what was expected of them."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

_DOCUMENT = sa.JSON().with_variant(postgresql.JSONB(astext_type=sa.Text()), "postgresql")


def upgrade() -> None:
    op.create_table(
        "task_runs",
        sa.Column("task_id", sa.String(length=32), nullable=False),
        sa.Column("queue", sa.String(length=63), nullable=False),
        sa.Column("exact", sa.String(length=16), nullable=False),
        sa.Column("variant", sa.String(length=16), nullable=False),
        sa.Column("command", sa.String(length=16), nullable=False),
        sa.Column("script", sa.String(length=16), nullable=False),
        sa.Column("numbers", _DOCUMENT, nullable=False),
        sa.Column("started_at", sa.BigInteger(), nullable=False),
        sa.Column("carried_seconds", sa.Float(), nullable=False),
        sa.Column("seconds", sa.Float(), nullable=False),
        sa.Column("outcome", sa.String(length=16), nullable=False),
        sa.Column("over_at", sa.BigInteger(), nullable=True),
        sa.Column("forecast_source", sa.String(length=16), nullable=False),
        sa.Column("forecast_p50", sa.Float(), nullable=True),
        sa.Column("forecast_p90", sa.Float(), nullable=True),
        sa.ForeignKeyConstraint(
            ["task_id"], ["tasks.id"], name=op.f("fk_task_runs_task_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("task_id", name=op.f("pk_task_runs")),
    )
    op.create_index(op.f("ix_task_runs_started_at"), "task_runs", ["started_at"])
    op.create_index(op.f("ix_task_runs_over_at"), "task_runs", ["over_at"])


def downgrade() -> None:
    op.drop_table("task_runs")
