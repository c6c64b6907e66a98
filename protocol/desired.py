"""What a node is to run: the whole set at a revision, never a command, so nothing is lost or
applied twice."""

from enum import StrEnum
from typing import Annotated

from pydantic import Field

from protocol.task import (
    Argument,
    Check,
    Checkpoint,
    EnvironmentName,
    EnvironmentValue,
    Kind,
    LeasePolicy,
    Overuse,
    stop_seconds_max,
)
from protocol.wire import Form, Generation, Id, Name, Text


class Phase(StrEnum):
    """What the server wants of an allocation. One that is absent from the set is to be stopped and
    forgotten."""

    PREPARE = "prepare"
    """Check what can be checked and lease a port, but start nothing: a gang starts when all are
    ready."""
    RUN = "run"
    STOP = "stop"


class StopCause(StrEnum):
    """Why an allocation is, or was, stopped before its program ended by itself."""

    CANCELLED = "cancelled"
    PREEMPTED = "preempted"
    MOVED = "moved"
    DRAINED = "drained"
    GANG = "gang"
    """Another replica of its gang is gone."""
    UNHEALTHY = "unhealthy"
    """A service that failed its health check."""
    OVERUSE = "overuse"
    LEASE = "lease"
    """By its node itself: the service wasn't reached for a whole lease."""
    UNWANTED = "unwanted"
    """By its node itself: the service wants it there no more."""
    LEFT = "left"
    """By its node itself: the agent, or the machine, was told to end."""


class Stop(Form):
    """Why, for the program's reader; the sequence itself is the task's (:class:`Launch`)."""

    cause: StopCause
    reason: Text
    kill: bool = False
    """At once, whatever the sequence: the deadline of a drain is over."""


class Launch(Form):
    """How to start the program. ``argv`` goes to exec, never to a shell."""

    argv: tuple[Argument, ...]
    env: dict[EnvironmentName, EnvironmentValue] = {}
    working_dir: str | None = None
    kind: Kind = Kind.BATCH
    grace_seconds: float
    checkpoint: Checkpoint | None = None
    on_lease_lost: LeasePolicy = LeasePolicy.FENCE
    readiness: Check | None = None
    health: Check | None = None
    drain_seconds: float = 0.0
    pids_max: int | None = None
    gpu_overuse: Overuse = Overuse.WARN

    @property
    def stop_seconds_max(self) -> float:
        """The longest that stopping it may take, from the order to SIGKILL."""
        return stop_seconds_max(self.grace_seconds, self.checkpoint, self.drain_seconds)


class Gang(Form):
    """A replica's place among its task's replicas. ``master_*`` is where rank 0 listens."""

    rank: Annotated[int, Field(ge=0)]
    size: Annotated[int, Field(ge=1)]
    master_address: str
    master_port: Annotated[int, Field(ge=1, le=65535)] | None = None
    """None while the gang is being prepared: the agent of rank 0 leases it and reports it."""


class DesiredAllocation(Form):
    """One replica of a task on this node. ``generation`` grows with every attempt of the task."""

    id: Id
    task: Id
    task_name: str
    generation: Generation
    phase: Phase
    stop: Stop | None = None
    """With the phase stop."""
    devices: tuple[str, ...] = ()
    """UUIDs on this node, in the order in which the task is to see them."""
    gpu_milli: int = 1000
    cpu_milli: int = 0
    memory_mib: int = 0
    gpu_memory_mib: int = 0
    """On each of its devices; 0: as its share of the device, or all of a whole one."""
    launch: Launch
    gang: Gang


class DesiredSet(Form):
    """``GET /agent/v1/desired?revision=R&wait=S``: 204 when nothing is newer than R after S
    seconds."""

    node: Name
    revision: Annotated[int, Field(ge=0)]
    allocations: tuple[DesiredAllocation, ...] = ()
