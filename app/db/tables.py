"""All rows. Which device is in use is derived from the allocations, never kept a second time.

Rows that change carry ``row_version``, which SQLAlchemy compares and sets with every update: a
write on top of
a newer row raises ``StaleDataError`` instead of undoing it.
"""

from datetime import datetime
from typing import Any

from sqlalchemy import (
    BigInteger,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Text,
    UniqueConstraint,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship

from app.db.types import Document, Instant, Serial


class Base(DeclarativeBase):
    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(column_0_label)s",
            "uq": "uq_%(table_name)s_%(column_0_name)s",
            "fk": "fk_%(table_name)s_%(column_0_name)s",
            "pk": "pk_%(table_name)s",
        }
    )
    type_annotation_map = {datetime: Instant, dict[str, Any]: Document, list[Any]: Document}


class Node(Base):
    """A machine with an agent. Its lease is kept in memory (app/leases): a restarted service renews
    them all."""

    __tablename__ = "nodes"

    id: Mapped[int] = mapped_column(Serial, primary_key=True)
    name: Mapped[str] = mapped_column(String(63), unique=True)
    state: Mapped[str] = mapped_column(String(16))
    schedulable: Mapped[bool] = mapped_column(default=True)
    address: Mapped[str] = mapped_column(String(255))
    token_digest: Mapped[str] = mapped_column(String(64), index=True)
    boot_id: Mapped[str] = mapped_column(String(64))
    epoch: Mapped[str | None] = mapped_column(String(64))
    seq: Mapped[int] = mapped_column(BigInteger, default=0)
    revision: Mapped[int] = mapped_column(BigInteger, default=0)
    """Grows with every change to what the node is to run."""
    cpu_milli: Mapped[int] = mapped_column(BigInteger)
    memory_mib: Mapped[int] = mapped_column(BigInteger)
    disk_mib: Mapped[int] = mapped_column(BigInteger)
    network_mbps: Mapped[int] = mapped_column(BigInteger)
    labels: Mapped[dict[str, Any]] = mapped_column()
    domains: Mapped[dict[str, Any]] = mapped_column()
    host: Mapped[dict[str, Any]] = mapped_column()
    """Host inventory and device source as the agent gave them, for people to read."""
    registered_at: Mapped[datetime] = mapped_column()
    last_seen_at: Mapped[datetime] = mapped_column()
    event_log: Mapped[str] = mapped_column(String(64), default="")
    event_seq: Mapped[int] = mapped_column(BigInteger, default=0)
    """Up to where the node's own events are recorded."""
    drain_until: Mapped[datetime | None] = mapped_column()
    """While it's drained: its tasks are asked to leave, and end at this at the latest."""
    drain_reason: Mapped[str] = mapped_column(Text, default="")
    """What a person gave as the reason for a drain or for maintenance."""
    maintenance_since: Mapped[datetime | None] = mapped_column()
    """While a person works on it: its silence then means nothing."""
    row_version: Mapped[int] = mapped_column(Integer)

    devices: Mapped[list["Device"]] = relationship(
        back_populates="node", order_by="Device.index", cascade="all, delete-orphan"
    )

    __mapper_args__ = {"version_id_col": row_version}


class Device(Base):
    """An accelerator of a node. One that the node no longer reports stays, unhealthy, while tasks
    hold it."""

    __tablename__ = "devices"

    id: Mapped[int] = mapped_column(Serial, primary_key=True)
    node_id: Mapped[int] = mapped_column(ForeignKey("nodes.id", ondelete="CASCADE"))
    uuid: Mapped[str] = mapped_column(String(128))
    index: Mapped[int] = mapped_column(Integer)
    model: Mapped[str] = mapped_column(String(256))
    memory_mib: Mapped[int] = mapped_column(BigInteger)
    numa: Mapped[int | None] = mapped_column(Integer)
    links: Mapped[dict[str, Any]] = mapped_column()
    healthy: Mapped[bool] = mapped_column()
    fault: Mapped[str | None] = mapped_column(Text)
    simulated: Mapped[bool] = mapped_column()
    row_version: Mapped[int] = mapped_column(Integer)

    node: Mapped[Node] = relationship(back_populates="devices")

    __table_args__ = (UniqueConstraint("node_id", "uuid"),)
    __mapper_args__ = {"version_id_col": row_version}


class Task(Base):
    """What a user submitted, and how far it has come."""

    __tablename__ = "tasks"

    id: Mapped[str] = mapped_column(String(32), primary_key=True)
    name: Mapped[str] = mapped_column(String(63), index=True)
    kind: Mapped[str] = mapped_column(String(16))
    queue: Mapped[str] = mapped_column(String(63))
    priority: Mapped[int] = mapped_column(Integer)
    state: Mapped[str] = mapped_column(String(16), index=True)
    spec: Mapped[dict[str, Any]] = mapped_column()
    generation: Mapped[int] = mapped_column(Integer, default=0)
    """The number of attempts so far: each placement of the task is one."""
    failures: Mapped[int] = mapped_column(Integer, default=0)
    """Attempts that failed by themselves; ``max_restarts`` bounds them. A lost node doesn't
    count."""
    cancelled: Mapped[bool] = mapped_column(default=False)
    reason: Mapped[str] = mapped_column(Text, default="")
    """Why it failed, was cancelled or waits again, for a person."""
    waiting: Mapped[dict[str, Any] | None] = mapped_column()
    """From the last plan that left it unplaced: its reasons and fixes, as in the plan."""
    reserved: Mapped[list[Any] | None] = mapped_column()
    """Slots (node name, device UUIDs) that are kept for it until what leaves them is gone."""
    not_before: Mapped[datetime | None] = mapped_column()
    """After a failure it isn't placed before this."""
    stop_cause: Mapped[str] = mapped_column(String(16), default="")
    """Why the current attempt is being stopped, as its nodes are told (protocol.desired)."""
    stop_ordered_at: Mapped[datetime | None] = mapped_column()
    """Since when the current attempt is being stopped: its room counts as about to be free, but not
    for ever."""
    preemptions: Mapped[int] = mapped_column(Integer, default=0)
    """Attempts that were ended for the sake of others: preempted, moved or drained."""
    plan_id: Mapped[str | None] = mapped_column(String(32))
    """The last plan that spoke of it."""
    submitted_at: Mapped[datetime] = mapped_column()
    started_at: Mapped[datetime | None] = mapped_column()
    finished_at: Mapped[datetime | None] = mapped_column()
    row_version: Mapped[int] = mapped_column(Integer)

    allocations: Mapped[list["Allocation"]] = relationship(
        back_populates="task", order_by="(Allocation.generation, Allocation.replica)"
    )

    __table_args__ = (Index("ix_tasks_queue_state", "queue", "state"),)
    __mapper_args__ = {"version_id_col": row_version}


class Allocation(Base):
    """One replica of a task on one node: ``phase`` is what we want of it, ``state`` what its agent
    last saw.

    It holds its devices until its state is final; the lease on them is the node's.
    """

    __tablename__ = "allocations"

    id: Mapped[str] = mapped_column(String(32), primary_key=True)
    task_id: Mapped[str] = mapped_column(ForeignKey("tasks.id"))
    replica: Mapped[int] = mapped_column(Integer)
    generation: Mapped[int] = mapped_column(Integer)
    node_id: Mapped[int] = mapped_column(ForeignKey("nodes.id"))
    devices: Mapped[list[Any]] = mapped_column()
    """UUIDs, in the order in which the task sees them."""
    rank: Mapped[int] = mapped_column(Integer)
    phase: Mapped[str] = mapped_column(String(16))
    state: Mapped[str] = mapped_column(String(16))
    port: Mapped[int | None] = mapped_column(Integer)
    pid: Mapped[int | None] = mapped_column(Integer)
    exit_code: Mapped[int | None] = mapped_column(Integer)
    exit_signal: Mapped[int | None] = mapped_column(Integer)
    stop_cause: Mapped[str] = mapped_column(String(16), default="")
    """Why it was stopped, as its agent has reported it."""
    checkpoint: Mapped[str | None] = mapped_column(String(16))
    """What became of the one that was asked for before the stop: saved, unsaved."""
    error: Mapped[str] = mapped_column(Text, default="")
    """Of a failure: the traceback, or the last lines of its output."""
    ready: Mapped[bool | None] = mapped_column()
    note: Mapped[str] = mapped_column(Text, default="")
    reason: Mapped[str] = mapped_column(Text, default="")
    assigned_at: Mapped[datetime] = mapped_column()
    started_at: Mapped[datetime | None] = mapped_column()
    ended_at: Mapped[datetime | None] = mapped_column()
    log_start: Mapped[int] = mapped_column(BigInteger, default=0)
    log_end: Mapped[int] = mapped_column(BigInteger, default=0)
    log_bytes: Mapped[int] = mapped_column(BigInteger, default=0)
    """How much of ``log_start .. log_end`` is kept: what was skipped isn't."""
    failed_at: Mapped[datetime | None] = mapped_column()
    """When the root cause of a failure was written down, where its node could tell."""
    row_version: Mapped[int] = mapped_column(Integer)

    task: Mapped[Task] = relationship(back_populates="allocations")
    node: Mapped[Node] = relationship()

    __table_args__ = (
        UniqueConstraint("task_id", "generation", "replica"),
        Index("ix_allocations_node_id_state", "node_id", "state"),
        Index("ix_allocations_state", "state"),
        Index("ix_allocations_ended_at", "ended_at"),
    )
    __mapper_args__ = {"version_id_col": row_version}


class Plan(Base):
    """One round of planning, with everything needed to repeat it."""

    __tablename__ = "plans"

    id: Mapped[str] = mapped_column(String(32), primary_key=True)
    created_at: Mapped[datetime] = mapped_column()
    trigger: Mapped[str] = mapped_column(String(64))
    status: Mapped[str] = mapped_column(String(16))
    digest: Mapped[str] = mapped_column(String(80), index=True)
    problem: Mapped[bytes] = mapped_column(LargeBinary)
    """The problem's canonical bytes, compressed (zlib): `stowplan solve` gives the plan again."""
    plan: Mapped[bytes] = mapped_column(LargeBinary)
    pending: Mapped[int] = mapped_column(Integer)
    placed: Mapped[int] = mapped_column(Integer)
    rejected: Mapped[int] = mapped_column(Integer)
    """Placements that no longer held when the plan was committed."""
    seconds: Mapped[float] = mapped_column(Float)


class Event(Base):
    """Something that happened to a task or a node, in order."""

    __tablename__ = "events"

    id: Mapped[int] = mapped_column(Serial, primary_key=True)
    at: Mapped[datetime] = mapped_column(index=True)
    kind: Mapped[str] = mapped_column(String(32))
    task_id: Mapped[str | None] = mapped_column(String(32), index=True)
    node: Mapped[str | None] = mapped_column(String(63))
    message: Mapped[str] = mapped_column(Text)


class LogChunk(Base):
    """Bytes ``start .. start + len(data)`` of an allocation's output."""

    __tablename__ = "log_chunks"

    allocation_id: Mapped[str] = mapped_column(
        ForeignKey("allocations.id", ondelete="CASCADE"), primary_key=True
    )
    start: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    data: Mapped[bytes] = mapped_column(LargeBinary)


class IdempotencyKey(Base):
    """A key that a client sent with a submission: the same key gives the same task, never a second
    one."""

    __tablename__ = "idempotency_keys"

    key: Mapped[str] = mapped_column(String(255), primary_key=True)
    request_digest: Mapped[str] = mapped_column(String(64))
    task_id: Mapped[str] = mapped_column(ForeignKey("tasks.id"))
    created_at: Mapped[datetime] = mapped_column(index=True)


class Quarantine(Base):
    """A device that is to take no new task, and why. It ends when ``released_at`` is set."""

    __tablename__ = "quarantines"

    id: Mapped[int] = mapped_column(Serial, primary_key=True)
    node_id: Mapped[int] = mapped_column(ForeignKey("nodes.id", ondelete="CASCADE"), index=True)
    uuid: Mapped[str] = mapped_column(String(128))
    code: Mapped[str] = mapped_column(String(32))
    reason: Mapped[str] = mapped_column(Text)
    by_rule: Mapped[bool] = mapped_column()
    """Whether the rule that made it also ends it; otherwise a person does."""
    since: Mapped[datetime] = mapped_column()
    released_at: Mapped[datetime | None] = mapped_column()
    release_reason: Mapped[str] = mapped_column(Text, default="")
    row_version: Mapped[int] = mapped_column(Integer)

    __mapper_args__ = {"version_id_col": row_version}


class JoinToken(Base):
    """A token with which nodes may join, a number of times and until a time."""

    __tablename__ = "join_tokens"

    id: Mapped[str] = mapped_column(String(32), primary_key=True)
    digest: Mapped[str] = mapped_column(String(64), unique=True)
    uses_left: Mapped[int] = mapped_column(Integer)
    created_at: Mapped[datetime] = mapped_column()
    expires_at: Mapped[datetime] = mapped_column()
    last_node: Mapped[str] = mapped_column(String(63), default="")
    row_version: Mapped[int] = mapped_column(Integer)

    __mapper_args__ = {"version_id_col": row_version}


class TaskRun(Base):
    """How long a task ran, or has run so far, and what makes it like others (app/durations)."""

    __tablename__ = "task_runs"

    task_id: Mapped[str] = mapped_column(
        ForeignKey("tasks.id", ondelete="CASCADE"), primary_key=True
    )
    queue: Mapped[str] = mapped_column(String(63))
    exact: Mapped[str] = mapped_column(String(16))
    """This and the next three are keys: equal ones, like runs (``app.durations.shapes``)."""
    variant: Mapped[str] = mapped_column(String(16))
    command: Mapped[str] = mapped_column(String(16))
    script: Mapped[str] = mapped_column(String(16))
    numbers: Mapped[dict[str, Any]] = mapped_column()
    """Of the command line: name -> logarithm."""
    started_at: Mapped[datetime] = mapped_column(index=True)
    """The first attempt's start."""
    carried_seconds: Mapped[float] = mapped_column(Float, default=0.0)
    """What interrupted attempts have done that checkpoints carry on."""
    seconds: Mapped[float] = mapped_column(Float, default=0.0)
    """Until it ended; before that, and of one that was cancelled, it takes longer than this."""
    outcome: Mapped[str] = mapped_column(String(16), default="")
    """``succeeded``, ``failed``, ``cancelled``; empty while it isn't over."""
    over_at: Mapped[datetime | None] = mapped_column(index=True)
    forecast_source: Mapped[str] = mapped_column(String(16), default="")
    """Where the forecast at its start was from; empty: there was none."""
    forecast_p50: Mapped[float | None] = mapped_column(Float)
    forecast_p90: Mapped[float | None] = mapped_column(Float)


class Queue(Base):
    """Who tasks belong to, and how much of the cluster is theirs. A queue that has no row is one
    without guarantee or limit, of weight 1, at the top."""

    __tablename__ = "queues"

    id: Mapped[int] = mapped_column(Serial, primary_key=True)
    name: Mapped[str] = mapped_column(String(63), unique=True)
    parent: Mapped[str | None] = mapped_column(String(63))
    """The name of the queue above; None: it's at the top."""
    weight: Mapped[int] = mapped_column(BigInteger, default=1)
    guaranteed: Mapped[dict[str, Any]] = mapped_column()
    """Dimension -> quantity, and so in ``limit``. A dimension is ``gpu_milli``, ``cpu_milli`` ...
    or, of the devices of one model alone, ``gpu_milli:MODEL``."""
    limit: Mapped[dict[str, Any]] = mapped_column()
    min_runtime_seconds: Mapped[float | None] = mapped_column(Float)
    """So long a task of it runs before it's preempted; None: as the service's setting."""
    comment: Mapped[str] = mapped_column(Text, default="")
    created_at: Mapped[datetime] = mapped_column()
    row_version: Mapped[int] = mapped_column(Integer)

    __mapper_args__ = {"version_id_col": row_version}


class QueueUsage(Base):
    """What a queue's own tasks have held lately, fading with a half-life (docs/model.md, Q5)."""

    __tablename__ = "queue_usage"

    queue: Mapped[str] = mapped_column(String(63), primary_key=True)
    gpu_seconds: Mapped[float] = mapped_column(Float, default=0.0)
    """As of ``at``."""
    at: Mapped[datetime] = mapped_column()


class Booking(Base):
    """An advance reservation: these nodes, from then until then, for one queue or, without one,
    for nobody (maintenance)."""

    __tablename__ = "bookings"

    id: Mapped[str] = mapped_column(String(32), primary_key=True)
    name: Mapped[str] = mapped_column(String(63), unique=True)
    nodes: Mapped[list[Any]] = mapped_column()
    """Names."""
    queue: Mapped[str | None] = mapped_column(String(63))
    starts_at: Mapped[datetime] = mapped_column()
    ends_at: Mapped[datetime] = mapped_column(index=True)
    reason: Mapped[str] = mapped_column(Text, default="")
    created_at: Mapped[datetime] = mapped_column()
    row_version: Mapped[int] = mapped_column(Integer)

    __mapper_args__ = {"version_id_col": row_version}
