"""What the API says of nodes."""

from datetime import datetime
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from protocol.task import LeasePolicy
from protocol.wire import Form

DRAIN_SECONDS = 600.0
_DRAIN_SECONDS_MAX = 30 * 86_400.0


class DeviceUse(BaseModel):
    """A task that holds a share of a device."""

    task: str
    name: str
    replica: int
    gpu_milli: int


class DeviceView(BaseModel):
    uuid: str
    index: int
    model: str
    memory_mib: int
    numa: int | None
    links: dict[str, str]
    healthy: bool
    fault: str | None
    simulated: bool
    """True for a device that is only an accounting unit: no such hardware is there."""
    used_by: list[DeviceUse]


class Allocated(BaseModel):
    """What the node's allocations hold, derived from them."""

    cpu_milli: int
    memory_mib: int
    gpu_milli: int


class NodeTask(BaseModel):
    """A task of which replicas are on the node, or may be."""

    task: str
    name: str
    state: str
    replicas: int
    """Of it, here."""
    on_lease_lost: LeasePolicy


class NodeView(BaseModel):
    model_config = ConfigDict(json_schema_extra={"description": "A machine with an agent."})

    name: str
    state: str
    schedulable: bool
    address: str
    hostname: str
    kernel: str
    cpu_model: str | None
    cpu_milli: int
    memory_mib: int
    disk_mib: int
    network_mbps: int
    labels: dict[str, str]
    domains: dict[str, str]
    device_source: str
    device_message: str | None
    devices: list[DeviceView]
    allocated: Allocated
    tasks: list[NodeTask]
    drain_until: datetime | None
    """While it's drained: what still runs then is killed. None once no task is left."""
    drain_reason: str
    """Why it takes no new task, where somebody said so."""
    leaving: int
    """While it's drained: the tasks that are there still."""
    maintenance_since: datetime | None
    registered_at: datetime
    last_seen_at: datetime


class NodePage(BaseModel):
    items: list[NodeView]
    next_cursor: str | None


class NodePatch(Form):
    """``schedulable: false`` cordons the node: what runs there stays, nothing new comes."""

    schedulable: bool


_Reason = Annotated[str, Field(max_length=500, pattern=r"^[^\x00]*$")]


_Seconds = Annotated[float, Field(ge=0, le=_DRAIN_SECONDS_MAX, allow_inf_nan=False)]


class DrainForm(Form):
    """The node gets nothing new, and what runs there leaves, checkpoint first."""

    deadline_seconds: _Seconds = DRAIN_SECONDS
    """What still runs then is killed; what may not be preempted is asked only then."""
    reason: _Reason = ""


class MaintenanceForm(Form):
    """As a drain; and the node's silence means nothing until it's uncordoned."""

    deadline_seconds: _Seconds = DRAIN_SECONDS
    reason: Annotated[_Reason, Field(min_length=1)]


class JoinTokenForm(Form):
    """How often, and for how long, machines may join with it."""

    uses: Annotated[int, Field(ge=1, le=10_000)] = 1
    hours: Annotated[float, Field(gt=0, le=8_760, allow_inf_nan=False)] = 24.0


class JoinTokenView(BaseModel):
    id: str
    uses_left: int
    usable: bool
    created_at: datetime
    expires_at: datetime
    last_node: str | None
    """That has joined with it."""


class NewJoinToken(JoinTokenView):
    token: str
    """Told once: it's kept as a digest."""


class JoinTokenPage(BaseModel):
    items: list[JoinTokenView]
    next_cursor: str | None
