"""What the API says of nodes."""

from datetime import datetime

from pydantic import BaseModel, ConfigDict

from protocol.wire import Form


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
    registered_at: datetime
    last_seen_at: datetime


class NodePage(BaseModel):
    items: list[NodeView]
    next_cursor: str | None


class NodePatch(Form):
    """``schedulable: false`` cordons the node: what runs there stays, nothing new comes."""

    schedulable: bool
