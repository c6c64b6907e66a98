"""What a node says of itself."""

from enum import StrEnum
from typing import Annotated

from pydantic import Base64Bytes, Field

from protocol.wire import Form, Generation, Id, Milliseconds, Name, Text
from telemetry.samples import DeviceEvent, Inventory


class AllocationState(StrEnum):
    """What an agent sees of an allocation. ``exited`` is final."""

    READY = "ready"
    """Prepared: the port is leased, nothing runs yet."""
    RUNNING = "running"
    STOPPING = "stopping"
    EXITED = "exited"


class Exit(Form):
    """How an allocation ended. Neither code nor signal: it never ran (``reason`` says why), or it
    is ``lost``."""

    code: Annotated[int, Field(ge=0, le=255)] | None = None
    signal: Annotated[int, Field(ge=1, le=64)] | None = None
    stopped: bool = False
    """True when the agent was stopping it, by order or because its lease had run out."""
    lost: bool = False
    """True when nobody could see how it ended (the node rebooted, its shim was killed): no fault of
    the task."""
    reason: Text = ""
    """Why, in words a person can act on; empty for a plain exit 0."""
    at_ms: Milliseconds


class AllocationReport(Form):
    """One allocation that the node knows of. Repeated in every report until the server has settled
    it."""

    id: Id
    generation: Generation
    state: AllocationState
    port: Annotated[int, Field(ge=1, le=65535)] | None = None
    pid: Annotated[int, Field(ge=1)] | None = None
    started_at_ms: Milliseconds | None = None
    exit: Exit | None = None


class NumberedEvent(Form):
    """Something that happened on the node; ``seq`` grows within its ``event_log``."""

    seq: Annotated[int, Field(ge=1, le=2**53)]
    event: DeviceEvent


class Report(Form):
    """``POST /agent/v1/report``: renews the node's lease, whatever else it says.

    ``epoch`` names one run of the agent, ``seq`` grows within it: a duplicate or a late report
    changes nothing.
    """

    version: int
    node: Name
    boot_id: Annotated[str, Field(max_length=64)]
    epoch: Annotated[str, Field(max_length=64)]
    seq: Annotated[int, Field(ge=1)]
    sent_at_ms: Milliseconds
    allocations: tuple[AllocationReport, ...] = ()
    inventory: Inventory | None = None
    """Sent when it has changed since it was last acknowledged (a device was lost, say)."""
    event_log: Annotated[str, Field(max_length=64)] = ""
    """Names the file that the node numbers its events in: it outlives the agent's epochs."""
    events: Annotated[tuple[NumberedEvent, ...], Field(max_length=1024)] = ()
    """Repeated until the server has settled them."""


class ReportAck(Form):
    """The answer. The lease runs ``lease_seconds`` from the moment the report was *sent*: clocks
    differ."""

    seq: int
    duplicate: bool = False
    lease_seconds: float
    report_interval_seconds: float
    revision: int
    """The node's desired set is at this revision."""
    settled: tuple[Id, ...] = ()
    """Allocations whose exit the server has recorded for good: the node may forget them."""
    events_settled: int = 0
    """Events up to this ``seq`` are recorded for good."""


class LogChunk(Form):
    """``POST /agent/v1/logs``: bytes ``offset .. offset + len(data)`` of an allocation's output."""

    allocation: Id
    generation: Generation
    offset: Annotated[int, Field(ge=0)]
    data: Annotated[Base64Bytes, Field(max_length=1 << 20)]


class LogAck(Form):
    """The server has everything below ``next_offset``; send from there."""

    next_offset: int
