"""What a node says of itself."""

from enum import StrEnum
from typing import Annotated

from pydantic import Base64Bytes, Field

from protocol.desired import StopCause
from protocol.wire import Form, Generation, Id, Milliseconds, Name, Text
from telemetry.samples import DeviceEvent, Inventory

DeviceUuid = Annotated[str, Field(min_length=1, max_length=128, pattern=r"^[^\x00]*$")]


class AllocationState(StrEnum):
    """What an agent sees of an allocation. ``exited`` is final."""

    READY = "ready"
    """Prepared: the port is leased, nothing runs yet."""
    RUNNING = "running"
    STOPPING = "stopping"
    EXITED = "exited"


class Saved(StrEnum):
    """What became of a checkpoint that was asked for before a stop."""

    SAVED = "saved"
    UNSAVED = "unsaved"
    """It was acknowledged, or not even that; its end came before it was done."""


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
    cause: StopCause | None = None
    """Why it was stopped, where it was."""
    checkpoint: Saved | None = None
    """Where one was asked for."""
    reason: Text = ""
    """Why, in words a person can act on; empty for a plain exit 0."""
    error: Annotated[str, Field(max_length=65_536, pattern=r"^[^\x00]*$")] = ""
    """Of a failure: the traceback, or the last lines of its output."""
    failed_at_ms: Milliseconds | None = None
    """Of a failure, where it's known: when its root cause was written down, before the launcher had
    noticed; of a gang's failures the first by this brought the others down."""
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
    ready: bool | None = None
    """Of a service with a readiness check: whether it passes; None: it has none."""
    held_devices: Annotated[tuple[DeviceUuid, ...], Field(max_length=1024)] = ()
    """Nothing of it should be left, but these devices aren't free: a process, or memory."""
    unkillable: bool = False
    """Its processes don't end although they were killed: they wait in the kernel."""
    note: Text = ""
    """What a person should know of it now: what holds its devices, what it overuses."""
    exit: Exit | None = None


class Progress(Form):
    """How far an allocation's program has come, in its own words. What it doesn't say is None."""

    id: Id
    generation: Generation
    step: Annotated[int, Field(ge=0, le=2**53)] | None = None
    steps: Annotated[int, Field(ge=0, le=2**53)] | None = None
    """In all."""
    checkpoint_step: Annotated[int, Field(ge=0, le=2**53)] | None = None
    checkpoint_at_ms: Milliseconds | None = None
    checkpoint_seconds: Annotated[float, Field(ge=0, le=1e9, allow_inf_nan=False)] | None = None
    """How long the last one took to write."""


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
    progress: Annotated[tuple[Progress, ...], Field(max_length=4096)] = ()
    """Of allocations whose program tells it. Kept in memory: it makes no report news."""
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
    """``POST /agent/v1/logs``: bytes ``offset .. offset + len(data)`` of an allocation's output.

    With ``skipped`` the output between the last chunk and this one was given up: it came faster
    than it could be kept.
    """

    allocation: Id
    generation: Generation
    offset: Annotated[int, Field(ge=0, le=2**53)]
    skipped: bool = False
    data: Annotated[Base64Bytes, Field(max_length=1 << 20)]


class LogAck(Form):
    """The server has everything below ``next_offset``; send from there."""

    next_offset: int
