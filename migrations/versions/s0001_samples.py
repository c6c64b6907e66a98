"""The telemetry store: series, rows at three resolutions, what has arrived and been rolled up.

A branch of its own: on SQLite it goes into another file than the rest, on PostgreSQL beside it.
"""

import sqlalchemy as sa
from alembic import op

revision = "s0001"
down_revision = None
branch_labels = ("samples",)
depends_on = None

_TYPES = {
    "small": sa.SmallInteger,
    "integer": sa.Integer,
    "big": sa.BigInteger,
    "real": sa.REAL,
    "double": sa.Double,
}
_COLUMNS = {
    "host": {
        "cpu_user_seconds": "double",
        "cpu_system_seconds": "double",
        "cpu_idle_seconds": "double",
        "cpu_iowait_seconds": "double",
        "cpu_steal_seconds": "double",
        "load_1m": "real",
        "load_5m": "real",
        "load_15m": "real",
        "memory_total_mib": "big",
        "memory_available_mib": "big",
        "memory_cached_mib": "real",
        "memory_dirty_mib": "real",
        "swap_total_mib": "big",
        "swap_used_mib": "big",
        "huge_pages_total_mib": "big",
        "huge_pages_free_mib": "big",
        "disk_total_mib": "big",
        "disk_free_mib": "big",
        "disk_free_inodes": "big",
        "disk_read_bytes": "big",
        "disk_written_bytes": "big",
        "disk_busy_seconds": "double",
        "network_received_bytes": "big",
        "network_sent_bytes": "big",
        "network_errors": "big",
        "network_drops": "big",
        "infiniband_received_bytes": "big",
        "infiniband_sent_bytes": "big",
        "pressure_cpu_some_percent": "real",
        "pressure_memory_some_percent": "real",
        "pressure_memory_full_percent": "real",
        "pressure_io_some_percent": "real",
        "pressure_io_full_percent": "real",
        "clock_synchronized": "small",
        "agent_cpu_seconds": "double",
        "agent_memory_mib": "real",
    },
    "device": {
        "utilization_percent": "real",
        "utilization_peak_percent": "real",
        "memory_bus_percent": "real",
        "memory_used_mib": "real",
        "memory_used_peak_mib": "big",
        "memory_reserved_mib": "real",
        "memory_free_mib": "big",
        "power_watts": "real",
        "power_peak_watts": "real",
        "energy_joules": "double",
        "temperature_celsius": "small",
        "memory_temperature_celsius": "small",
        "fan_percent": "real",
        "clock_sm_mhz": "real",
        "clock_memory_mhz": "real",
        "performance_state": "small",
        "throttle_reasons": "big",
        "power_violation_seconds": "double",
        "thermal_violation_seconds": "double",
        "pcie_sent_bytes": "big",
        "pcie_received_bytes": "big",
        "pcie_replays": "big",
        "pcie_generation": "small",
        "pcie_width": "small",
        "nvlink_sent_bytes": "big",
        "nvlink_received_bytes": "big",
        "ecc_corrected": "big",
        "ecc_uncorrected": "big",
        "remapped_rows": "big",
        "memory_repair_pending": "small",
        "memory_repair_failed": "small",
        "sm_active_percent": "real",
        "sm_occupancy_percent": "real",
        "tensor_active_percent": "real",
        "memory_bandwidth_percent": "real",
        "process_count": "integer",
        "foreign_process_count": "integer",
        "foreign_memory_mib": "big",
    },
    "task": {
        "cpu_seconds": "double",
        "cpu_throttled_seconds": "double",
        "memory_mib": "real",
        "memory_peak_mib": "real",
        "read_bytes": "big",
        "written_bytes": "big",
        "process_count": "integer",
        "oom_kills": "big",
        "gpu_process_count": "integer",
        "gpu_process_peak_count": "integer",
        "gpu_memory_mib": "real",
        "gpu_memory_peak_mib": "real",
        "gpu_utilization_percent": "real",
        "gpu_utilization_peak_percent": "real",
    },
}


def upgrade() -> None:
    op.create_table(
        "series",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("kind", sa.String(8), nullable=False),
        sa.Column("key", sa.String(128), nullable=False),
        sa.Column("node", sa.String(63), nullable=False),
        sa.Column("model", sa.String(256), nullable=False),
        sa.Column("queue", sa.String(63), nullable=False),
        sa.Column("task", sa.String(32), nullable=False),
        sa.Column("devices", sa.Integer(), nullable=False),
        sa.Column("gpu_milli", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_series"),
        sa.UniqueConstraint("kind", "key", "node", name="uq_series_kind"),
    )
    op.create_index("ix_series_task", "series", ["task"])
    op.create_table(
        "received_batches",
        sa.Column("node", sa.String(63), nullable=False),
        sa.Column("epoch", sa.String(64), nullable=False),
        sa.Column("ranges", sa.Text(), nullable=False),
        sa.Column("touched_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("node", "epoch", name="pk_received_batches"),
    )
    op.create_table(
        "late_stretches",
        sa.Column("kind", sa.String(8), nullable=False),
        sa.Column("minute_ms", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("touched_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("kind", "minute_ms", name="pk_late_stretches"),
    )
    op.create_table(
        "rollups",
        sa.Column("kind", sa.String(8), nullable=False),
        sa.Column("resolution", sa.String(8), nullable=False),
        sa.Column("done_until_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("kind", "resolution", name="pk_rollups"),
    )
    for kind, columns in _COLUMNS.items():
        for resolution in ("samples", "minutes", "hours"):
            _create(kind, resolution, columns)


def _create(kind: str, resolution: str, columns: dict[str, str]) -> None:
    name = f"{kind}_{resolution}"
    raw = resolution == "samples"
    taken_at = sa.Column("taken_at_ms", sa.BigInteger(), autoincrement=False, nullable=False)
    of = sa.Column("series_id", sa.Integer(), autoincrement=False, nullable=False)
    keys = [taken_at, of] if raw else [of, taken_at]
    measured = [sa.Column(column, _TYPES[kind]()) for column, kind in columns.items()]
    readings = [] if raw else [sa.Column("readings", sa.Integer(), nullable=False)]
    postgresql = op.get_context().dialect.name == "postgresql"
    # Raw rows on PostgreSQL have no key: a batch is known by its number, so COPY needs no check.
    primary = [] if raw and postgresql else [sa.PrimaryKeyConstraint(*(k.name for k in keys))]
    op.create_table(
        name,
        *keys,
        *readings,
        *measured,
        *primary,
        sqlite_with_rowid=False,
        postgresql_partition_by="RANGE (taken_at_ms)",
    )
    if raw and postgresql:
        op.create_index(f"ix_{name}_series_id", name, ["series_id", "taken_at_ms"])
        op.create_index(f"ix_{name}_taken_at_ms", name, ["taken_at_ms"], postgresql_using="brin")


def downgrade() -> None:
    for kind in _COLUMNS:
        for resolution in ("samples", "minutes", "hours"):
            op.drop_table(f"{kind}_{resolution}")
    for name in ("rollups", "late_stretches", "received_batches", "series"):
        op.drop_table(name)
