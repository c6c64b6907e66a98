"""What a user asks for: the form that `stowplan submit`, the SDK and ``POST /api/v1/tasks``
share."""

from enum import StrEnum
from typing import Annotated, Self

from pydantic import Field, model_validator

from protocol.wire import Form, Id, Name, Quantity, Text

EnvironmentName = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$", max_length=256)]
EnvironmentValue = Annotated[str, Field(max_length=32768, pattern=r"^[^\x00]*$")]
Argument = Annotated[str, Field(max_length=32768, pattern=r"^[^\x00]*$")]
Label = Annotated[str, Field(max_length=256, pattern=r"^[^\x00]*$")]

REPLICAS_MAX = 16_384
PRIORITY_MAX = 1_000_000
RESTART_DELAY_MAX_SECONDS = 300.0


class Kind(StrEnum):
    """How a task ends: a batch task by itself, a service only when it's told to."""

    BATCH = "batch"
    SERVICE = "service"


class AskBy(StrEnum):
    """How a program is asked to save its work: a signal to its main process only, or a file.

    ``file`` reaches every rank behind every launcher (torchrun ends on SIGUSR1), so it's the
    default; the program has to look for it (docs/tasks.md).
    """

    FILE = "file"
    SIGTERM = "SIGTERM"
    SIGUSR1 = "SIGUSR1"
    SIGUSR2 = "SIGUSR2"


class Checkpoint(Form):
    """The program saves its work when asked, before it's stopped; the grace counts from its
    acknowledgement."""

    ask: AskBy = AskBy.FILE
    ack_seconds: Annotated[float, Field(ge=0, le=3_600, allow_inf_nan=False)] = 10.0
    """How long it may take to say that it has understood. Then it's told to end all the same."""


class LeasePolicy(StrEnum):
    """What a node does with a task when it hasn't reached the service for a whole lease."""

    FENCE = "fence"
    """Stop it; the service places it elsewhere once that must be done."""
    KEEP = "keep"
    """Let it run. The service places it elsewhere only when it *knows* that it's gone: its node
    says so, has rebooted, or was declared lost by a person."""


class Check(Form):
    """How a service is asked whether it works: HTTP GET (any status below 400), or a TCP connection
    alone."""

    path: Annotated[str, Field(pattern=r"^/[^\x00\s]*$", max_length=1024)] | None = None
    """None: a connection that is accepted will do."""
    interval_seconds: Annotated[float, Field(ge=0.1, le=3_600, allow_inf_nan=False)] = 5.0
    timeout_seconds: Annotated[float, Field(ge=0.1, le=600, allow_inf_nan=False)] = 2.0
    failures: Annotated[int, Field(ge=1, le=1_000)] = 3
    """In a row, until it counts as failed; one success mends it."""
    start_seconds: Annotated[float, Field(ge=0, le=86_400, allow_inf_nan=False)] = 60.0
    """From its start, failures don't count for so long unless it has passed once."""


class Overuse(StrEnum):
    """What happens to a task that uses more GPU memory than it asked for."""

    WARN = "warn"
    STOP = "stop"


class Enforced(StrEnum):
    """What a node can hold a task to by force, not only watch."""

    CPU = "cpu"
    MEMORY = "memory"
    PIDS = "pids"


ENFORCE_LABEL = "enforce."
"""Prefix of the labels by which a node says how it enforces what: ``enforce.memory: cgroup2``."""

BY_FORCE = ("cgroup2", "cgroup1")
"""The values of those labels that mean that the kernel does."""

TERM_SECONDS = 5.0
"""Between SIGTERM and SIGKILL for a program that has had its grace to save its work already."""


class Request(Form):
    """What one replica needs (contract, section 2). A share below 1000 needs ``gpus: 1``."""

    cpu_milli: Quantity = 0
    memory_mib: Quantity = 0
    disk_mib: Quantity = 0
    network_mbps: Quantity = 0
    gpus: Annotated[int, Field(ge=0, le=1024)] = 0
    gpu_milli: Annotated[int, Field(ge=1, le=1000)] = 1000
    gpu_memory_mib: Quantity = 0

    @model_validator(mode="after")
    def _share_only_of_one_device(self) -> Self:
        if self.gpu_milli < 1000 and self.gpus != 1:
            raise ValueError(
                f"gpu_milli {self.gpu_milli} is a share of one device: gpus is {self.gpus}, not 1"
            )
        return self


class TaskSpec(Form):
    """A task: a program, what each replica of it needs, and where it may run.

    ``argv`` is executed as it stands, never through a shell. All replicas of a task start together
    or not
    at all (``min_replicas``, default all).
    """

    name: Name | None = None
    kind: Kind = Kind.BATCH
    argv: Annotated[tuple[Argument, ...], Field(min_length=1, max_length=1024)]
    env: Annotated[dict[EnvironmentName, EnvironmentValue], Field(max_length=256)] = {}
    working_dir: Annotated[str, Field(pattern=r"^/[^\x00]*$", max_length=4096)] | None = None
    queue: Name = "default"
    priority: Annotated[int, Field(ge=-PRIORITY_MAX, le=PRIORITY_MAX)] = 0
    replicas: Annotated[int, Field(ge=1, le=REPLICAS_MAX)] = 1
    min_replicas: Annotated[int, Field(ge=1, le=REPLICAS_MAX)] | None = None
    request: Request = Request()
    gpu_models: Annotated[tuple[Label, ...], Field(max_length=64)] = ()
    node_selector: Annotated[
        dict[Label, Annotated[tuple[Label, ...], Field(max_length=256)]], Field(max_length=64)
    ] = {}
    pack_within: Label | None = None
    spread_over: Label | None = None
    separate_from: Annotated[tuple[Id, ...], Field(max_length=256)] = ()
    preemptible: bool = True
    duration_seconds: Annotated[float, Field(gt=0, le=1e9, allow_inf_nan=False)] | None = None
    grace_seconds: Annotated[float, Field(ge=0, le=86_400, allow_inf_nan=False)] = 30.0
    checkpoint: Checkpoint | None = None
    on_lease_lost: LeasePolicy = LeasePolicy.FENCE
    max_restarts: Annotated[int, Field(ge=0, le=1000)] | None = None
    """After failures of its own. Left out: none for a batch task, no limit for a service."""
    restart_delay_seconds: Annotated[float, Field(ge=0, le=3_600, allow_inf_nan=False)] = 1.0
    """Before the first restart after a failure; each further one doubles it, up to
    ``RESTART_DELAY_MAX_SECONDS``."""
    readiness: Check | None = None
    """Of a service: whether requests should be sent to it now."""
    health: Check | None = None
    """Of a service: whether it's of any use still; one that fails is restarted."""
    drain_seconds: Annotated[float, Field(ge=0, le=86_400, allow_inf_nan=False)] = 0.0
    """Of a service: from "not ready any more" to the order to end, so that requests run out."""
    pids_max: Annotated[int, Field(ge=1, le=4_194_304)] | None = None
    """Processes and threads of each replica."""
    gpu_overuse: Overuse = Overuse.WARN
    enforce: Annotated[tuple[Enforced, ...], Field(max_length=8)] = ()
    """Only on nodes that hold it to these by force."""
    comment: Text = ""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        faults = []
        faults += [
            f"{name} is for services only (kind: service)"
            for name, given in (
                ("readiness", self.readiness is not None),
                ("health", self.health is not None),
                ("drain_seconds", self.drain_seconds > 0),
            )
            if given and self.kind is not Kind.SERVICE
        ]
        if self.argv and not self.argv[0]:
            faults.append("argv[0] is empty: it names the program to run")
        if self.min_replicas is not None and self.min_replicas > self.replicas:
            faults.append(f"min_replicas {self.min_replicas} is more than replicas {self.replicas}")
        if self.kind is Kind.SERVICE and self.replicas > 1:
            faults.append(
                f"a service has one replica, not {self.replicas}: submit it once a replica"
            )
        faults += [
            f"enforce: {what} is demanded by force, and node_selector {label} excludes that"
            for what in self.enforce
            if (label := f"{ENFORCE_LABEL}{what}") in self.node_selector
            and not set(self.node_selector[label]) & set(BY_FORCE)
        ]
        if faults:
            raise ValueError("; ".join(faults))
        return self

    @property
    def selector(self) -> dict[str, tuple[str, ...]]:
        """The labels that its nodes must have: those it selects, and what it has enforced."""
        demanded = {}
        for what in self.enforce:
            label = f"{ENFORCE_LABEL}{what}"
            given = self.node_selector.get(label, BY_FORCE)
            demanded[label] = tuple(value for value in given if value in BY_FORCE)
        return {**self.node_selector, **demanded}

    @property
    def restarts_max(self) -> int | None:
        """How many failures of its own are forgiven; None: all."""
        if self.max_restarts is None and self.kind is Kind.BATCH:
            return 0
        return self.max_restarts

    @property
    def stop_seconds_max(self) -> float:
        """The longest that stopping it may take, from the order to SIGKILL."""
        return stop_seconds_max(self.grace_seconds, self.checkpoint, self.drain_seconds)


def stop_seconds_max(
    grace_seconds: float, checkpoint: Checkpoint | None, drain_seconds: float
) -> float:
    """Drain, acknowledgement, grace, and what's left to end after a checkpoint."""
    if checkpoint is None:
        return drain_seconds + grace_seconds
    return drain_seconds + checkpoint.ack_seconds + grace_seconds + TERM_SECONDS
