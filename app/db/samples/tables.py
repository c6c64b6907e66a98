"""All rows of the telemetry store, made from :mod:`telemetry.columns`.

The tables of one kind have the same columns at every resolution, ``taken_at_ms`` being the start of
a rolled-up row's stretch: a chart is the same query on any of them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from sqlalchemy import (
    REAL,
    BigInteger,
    Double,
    Index,
    Integer,
    MetaData,
    PrimaryKeyConstraint,
    SmallInteger,
    String,
    Table,
    Text,
    UniqueConstraint,
)
from sqlalchemy import Column as TableColumn
from sqlalchemy.types import TypeEngine

from app.db.types import Serial
from telemetry import columns
from telemetry.columns import Column, Fold

DAY_MS = 86_400_000
metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_name)s",
        "uq": "uq_%(table_name)s_%(column_0_name)s",
        "pk": "pk_%(table_name)s",
    }
)


class Kind(StrEnum):
    """What is measured."""

    HOST = "host"
    DEVICE = "device"
    TASK = "task"

    @property
    def columns(self) -> Sequence[Column]:
        return _COLUMNS[self]


_COLUMNS = {Kind.HOST: columns.HOST, Kind.DEVICE: columns.DEVICE, Kind.TASK: columns.TASK}


@dataclass(frozen=True, slots=True, kw_only=True)
class Resolution:
    """``width_ms``: what one row stands for; 0 for rows as they came."""

    name: str
    width_ms: int
    partition_ms: int
    """How much time one partition holds on PostgreSQL: it's dropped whole."""


RAW = Resolution(name="samples", width_ms=0, partition_ms=DAY_MS)
MINUTE = Resolution(name="minutes", width_ms=60_000, partition_ms=DAY_MS)
HOUR = Resolution(name="hours", width_ms=3_600_000, partition_ms=30 * DAY_MS)
RESOLUTIONS = (RAW, MINUTE, HOUR)


series = Table(
    "series",
    metadata,
    TableColumn("id", Serial, primary_key=True),
    TableColumn("kind", String(8), nullable=False),
    TableColumn("key", String(128), nullable=False),
    TableColumn("node", String(63), nullable=False),
    TableColumn("model", String(256), nullable=False),
    TableColumn("queue", String(63), nullable=False),
    TableColumn("task", String(32), nullable=False),
    TableColumn("devices", Integer, nullable=False),
    TableColumn("gpu_milli", Integer, nullable=False),
    UniqueConstraint("kind", "key", "node"),
    Index("ix_series_task", "task"),
)
"""What rows belong to: a host (key: its name), a device (its UUID), a replica of a task (its
allocation's id), on one node, and what they're grouped by. ``gpu_milli`` is of each device."""

received = Table(
    "received_batches",
    metadata,
    TableColumn("node", String(63), primary_key=True),
    TableColumn("epoch", String(64), primary_key=True),
    TableColumn("ranges", Text, nullable=False),
    TableColumn("touched_ms", BigInteger, nullable=False),
)
"""Which batches of an agent's run are stored: JSON, ``[[first, last], ...]``."""

late_stretches = Table(
    "late_stretches",
    metadata,
    TableColumn("kind", String(8), primary_key=True),
    TableColumn("minute_ms", BigInteger, primary_key=True),
    TableColumn("touched_ms", BigInteger, nullable=False),
)
"""Minutes that got rows after they had been rolled up."""

rollups = Table(
    "rollups",
    metadata,
    TableColumn("kind", String(8), primary_key=True),
    TableColumn("resolution", String(8), primary_key=True),
    TableColumn("done_until_ms", BigInteger, nullable=False),
)
"""Up to where rows have been rolled up."""


def _type(column: Column) -> TypeEngine[Any]:
    """The narrowest that holds it: bytes are what telemetry costs."""
    if not column.whole:
        return Double() if column.fold is Fold.COUNTER else REAL()
    if column.most < 2**15:
        return SmallInteger()
    return Integer() if column.most < 2**31 else BigInteger()


def _table(kind: Kind, resolution: Resolution) -> Table:
    name = f"{kind}_{resolution.name}"
    measured = [TableColumn(column.name, _type(column)) for column in kind.columns]
    taken_at = TableColumn("taken_at_ms", BigInteger, nullable=False, autoincrement=False)
    of = TableColumn("series_id", Integer, nullable=False, autoincrement=False)
    if resolution is RAW:
        # On SQLite this is the table itself, time first: new rows land at its end. On PostgreSQL
        # there is no key to check, so that COPY may be used: a batch is known by its number.
        return Table(
            name,
            metadata,
            taken_at,
            of,
            *measured,
            PrimaryKeyConstraint("taken_at_ms", "series_id").ddl_if(dialect="sqlite"),
            Index(f"ix_{name}_series_id", "series_id", "taken_at_ms").ddl_if(dialect="postgresql"),
            Index(f"ix_{name}_taken_at_ms", "taken_at_ms", postgresql_using="brin").ddl_if(
                dialect="postgresql"
            ),
            sqlite_with_rowid=False,
            postgresql_partition_by="RANGE (taken_at_ms)",
        )
    return Table(
        name,
        metadata,
        of,
        taken_at,
        TableColumn("readings", Integer, nullable=False),
        *measured,
        PrimaryKeyConstraint("series_id", "taken_at_ms"),
        # Rollups write one stretch after the other, so rows lie in the order of time.
        Index(f"ix_{name}_taken_at_ms", "taken_at_ms", postgresql_using="brin").ddl_if(
            dialect="postgresql"
        ),
        sqlite_with_rowid=False,
        postgresql_partition_by="RANGE (taken_at_ms)",
    )


TABLES: dict[tuple[Kind, Resolution], Table] = {
    (kind, resolution): _table(kind, resolution) for kind in Kind for resolution in RESOLUTIONS
}


def table(kind: Kind, resolution: Resolution) -> Table:
    return TABLES[kind, resolution]
