"""What the API says of measurements. None is "unknown", never zero."""

from pydantic import BaseModel


class HostLatest(BaseModel):
    taken_at_ms: int
    cpu_percent: float | None
    """Share of the host's CPU time that was busy between the last two samples, 0 to 100."""
    load_1m: float | None
    memory_used_mib: int | None
    memory_total_mib: int | None
    swap_used_mib: int | None
    disk_free_mib: int | None
    disk_read_bytes_per_second: float | None
    disk_written_bytes_per_second: float | None
    network_received_bytes_per_second: float | None
    network_sent_bytes_per_second: float | None
    pressure_cpu_some_percent: float | None
    pressure_memory_some_percent: float | None
    pressure_io_some_percent: float | None


class DeviceLatest(BaseModel):
    uuid: str
    simulated: bool
    taken_at_ms: int
    utilization_percent: int | None
    memory_used_mib: int | None
    memory_free_mib: int | None
    power_watts: float | None
    temperature_celsius: int | None
    processes: int | None


class NodeLatest(BaseModel):
    node: str
    host: HostLatest | None
    devices: list[DeviceLatest]


class Latest(BaseModel):
    items: list[NodeLatest]


class Columns(BaseModel):
    """Made for charts: ``columns["time"]`` (milliseconds since 1970) beside one list a metric, all
    of one length."""

    columns: dict[str, list[float | None]]


class DeviceColumns(Columns):
    uuid: str
    index: int
    model: str
    simulated: bool


class NodeSeries(BaseModel):
    node: str
    start_ms: int
    end_ms: int
    resolution_seconds: float
    """Width of one point: its value is the mean of the samples in it."""
    host: Columns
    devices: list[DeviceColumns]
