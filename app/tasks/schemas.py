"""What the API says of tasks. What a user sends is ``protocol.task.TaskSpec``."""

from datetime import datetime

from pydantic import BaseModel

from app.findings import FindingKind
from protocol.task import TaskSpec


class DeviceRef(BaseModel):
    uuid: str
    index: int | None
    model: str | None
    simulated: bool


class ProgressView(BaseModel):
    """How far a program has come and what it has saved, in its own words; null: it doesn't say."""

    step: int | None = None
    steps: int | None = None
    """In all."""
    checkpoint_step: int | None = None
    checkpoint_at: datetime | None = None
    checkpoint_age_seconds: float | None = None
    checkpoint_seconds: float | None = None
    """How long the last one took to write."""


class ReservedSlot(BaseModel):
    """Room of one replica."""

    node: str
    devices: list[str]
    """UUIDs."""


class AllocationView(BaseModel):
    """One replica of a task on one node."""

    id: str
    replica: int
    rank: int
    generation: int
    node: str
    devices: list[DeviceRef]
    phase: str
    state: str
    port: int | None
    endpoint: str | None
    """``host:port`` where the replica may be reached while it runs, and is ready."""
    ready: bool | None = None
    """Of a service with a readiness check."""
    note: str = ""
    """What its agent warns of: what it overuses, what holds its devices."""
    pid: int | None
    exit_code: int | None
    exit_signal: int | None
    stop_cause: str = ""
    """Why it was stopped, as its agent says."""
    checkpoint: str | None = None
    """What became of the one that was asked for before the stop: ``saved``, ``unsaved``."""
    error: str = ""
    """Of a failure: the traceback, or the last lines of its output. Left out of lists."""
    reason: str
    assigned_at: datetime
    started_at: datetime | None
    ended_at: datetime | None
    progress: ProgressView | None = None
    """None when it says nothing, and when it's over."""


class IdleView(BaseModel):
    """Devices that the task holds for nothing, as of the last look. It's never stopped for it."""

    kind: FindingKind
    since: datetime
    gpu_hours: float
    text: str


class TaskView(BaseModel):
    id: str
    name: str
    kind: str
    queue: str
    priority: int
    state: str
    reason: str
    generation: int
    failures: int
    preemptions: int = 0
    """Attempts that were ended for the sake of others: preempted, moved or drained."""
    stop_cause: str = ""
    """Why the current attempt is, or was, stopped: ``preempted``, ``moved``, ..."""
    reserved: list[ReservedSlot] = []
    """Room that is kept for the task until whoever is there has left."""
    not_before: datetime | None = None
    """After a failure it isn't tried again before this."""
    submitted_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    running_seconds: float | None
    """From the first start of the current attempt to its end, or to now."""
    allocations: list[AllocationView]
    """Of the current attempt; empty while the task waits for its first."""
    error: str = ""
    """Of a failed attempt: what its first failure has left, as its allocation has it. Left out of
    lists."""
    progress: ProgressView | None = None
    """The step of the first rank that tells one, and the gang's newest checkpoint."""
    idle: IdleView | None = None
    """None when it works, and when nothing is known of it."""
    plan: str | None
    """The last plan that spoke of this task."""
    spec: TaskSpec


class TaskPage(BaseModel):
    items: list[TaskView]
    next_cursor: str | None


class Reason(BaseModel):
    """Why a task isn't placed (contract, section 3)."""

    code: str
    text: str
    nodes: int | None = None


class Fix(BaseModel):
    """A change that would place it, tried by the solver before it's offered (contract, section 3).
    ``cost`` is in GPU milli that end, move, are given up or are bought."""

    kind: str
    text: str
    cost: int | None = None
    task: str | None = None
    tasks: list[str] = []
    node: str | None = None
    nodes: list[str] = []
    queue: str | None = None
    dimension: str | None = None
    quantity: int | None = None
    value: str | None = None


class PlanRef(BaseModel):
    id: str
    created_at: datetime
    status: str
    digest: str


class Why(BaseModel):
    """Where a task is and why: ``text`` is the answer in one paragraph."""

    task: str
    name: str
    state: str
    text: str
    reasons: list[Reason]
    fixes: list[Fix]
    allocations: list[AllocationView]
    plan: PlanRef | None


class SkippedBytes(BaseModel):
    """Output that its node never sent: it came faster than it could be kept."""

    offset: int
    bytes: int


class LogPage(BaseModel):
    """Bytes ``offset .. next_offset`` of a replica's output, read as UTF-8; with ``rank`` only the
    lines of that rank in it, without its mark."""

    task: str
    replica: int
    rank: int | None = None
    generation: int
    allocation: str | None
    start: int
    """The oldest byte kept: older output has been dropped."""
    offset: int
    next_offset: int
    end: int
    """Behind the newest byte that has come so far."""
    complete: bool
    """True when this is the end and nothing will follow."""
    skipped: list[SkippedBytes] = []
    """The text says so at those places."""
    text: str
