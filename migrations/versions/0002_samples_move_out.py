"""Samples move to the telemetry store; devices can be quarantined.

The rows of the last days aren't taken along: their tables had another form.
"""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.drop_table("device_samples")
    op.drop_table("host_samples")
    with op.batch_alter_table("nodes") as batch_op:
        batch_op.add_column(
            sa.Column("event_log", sa.String(length=64), nullable=False, server_default="")
        )
        batch_op.add_column(
            sa.Column("event_seq", sa.BigInteger(), nullable=False, server_default="0")
        )
    op.create_table(
        "quarantines",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("node_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("uuid", sa.String(length=128), nullable=False),
        sa.Column("code", sa.String(length=32), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("by_rule", sa.Boolean(), nullable=False),
        sa.Column("since", sa.BigInteger(), nullable=False),
        sa.Column("released_at", sa.BigInteger(), nullable=True),
        sa.Column("release_reason", sa.Text(), nullable=False),
        sa.Column("row_version", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(
            ["node_id"],
            ["nodes.id"],
            name=op.f("fk_quarantines_node_id"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_quarantines")),
    )
    with op.batch_alter_table("quarantines", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_quarantines_node_id"), ["node_id"], unique=False)


def downgrade() -> None:
    op.drop_table("quarantines")
    with op.batch_alter_table("nodes") as batch_op:
        batch_op.drop_column("event_seq")
        batch_op.drop_column("event_log")
    op.create_table(
        "host_samples",
        sa.Column("taken_at_ms", sa.BigInteger(), nullable=False),
        sa.Column("node_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("cpu_user_seconds", sa.Float(), nullable=False),
        sa.Column("cpu_system_seconds", sa.Float(), nullable=False),
        sa.Column("cpu_idle_seconds", sa.Float(), nullable=False),
        sa.Column("cpu_iowait_seconds", sa.Float(), nullable=True),
        sa.Column("cpu_steal_seconds", sa.Float(), nullable=True),
        sa.Column("load_1m", sa.Float(), nullable=True),
        sa.Column("load_5m", sa.Float(), nullable=True),
        sa.Column("load_15m", sa.Float(), nullable=True),
        sa.Column("memory_total_mib", sa.BigInteger(), nullable=False),
        sa.Column("memory_available_mib", sa.BigInteger(), nullable=False),
        sa.Column("swap_total_mib", sa.BigInteger(), nullable=True),
        sa.Column("swap_used_mib", sa.BigInteger(), nullable=True),
        sa.Column("disk_free_mib", sa.BigInteger(), nullable=True),
        sa.Column("disk_read_bytes", sa.BigInteger(), nullable=True),
        sa.Column("disk_written_bytes", sa.BigInteger(), nullable=True),
        sa.Column("network_received_bytes", sa.BigInteger(), nullable=True),
        sa.Column("network_sent_bytes", sa.BigInteger(), nullable=True),
        sa.Column("pressure_cpu_some_percent", sa.Float(), nullable=True),
        sa.Column("pressure_memory_some_percent", sa.Float(), nullable=True),
        sa.Column("pressure_memory_full_percent", sa.Float(), nullable=True),
        sa.Column("pressure_io_some_percent", sa.Float(), nullable=True),
        sa.Column("pressure_io_full_percent", sa.Float(), nullable=True),
        sa.ForeignKeyConstraint(
            ["node_id"], ["nodes.id"], name=op.f("fk_host_samples_node_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("taken_at_ms", "node_id", name=op.f("pk_host_samples")),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "device_samples",
        sa.Column("taken_at_ms", sa.BigInteger(), nullable=False),
        sa.Column(
            "device_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False
        ),
        sa.Column("utilization_percent", sa.Integer(), nullable=True),
        sa.Column("memory_used_mib", sa.BigInteger(), nullable=True),
        sa.Column("memory_reserved_mib", sa.BigInteger(), nullable=True),
        sa.Column("memory_free_mib", sa.BigInteger(), nullable=True),
        sa.Column("power_watts", sa.Float(), nullable=True),
        sa.Column("energy_joules", sa.Float(), nullable=True),
        sa.Column("temperature_celsius", sa.Integer(), nullable=True),
        sa.Column("clock_sm_mhz", sa.Integer(), nullable=True),
        sa.Column("clock_memory_mhz", sa.Integer(), nullable=True),
        sa.Column("throttle_reasons", sa.BigInteger(), nullable=True),
        sa.Column("process_count", sa.Integer(), nullable=True),
        sa.ForeignKeyConstraint(
            ["device_id"],
            ["devices.id"],
            name=op.f("fk_device_samples_device_id"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("taken_at_ms", "device_id", name=op.f("pk_device_samples")),
        sqlite_with_rowid=False,
    )
