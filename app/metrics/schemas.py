"""What the API says of measurements. None is "unknown", never zero.

The answers are written without these forms (they are large); tests hold the two together.
"""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field


class _Said(BaseModel):
    model_config = ConfigDict(extra="forbid")


Number = float | None


class DiskLatest(_Said):
    """Counters since boot."""

    name: str
    read_bytes: int
    written_bytes: int
    busy_seconds: Number


class NetworkLatest(_Said):
    """Counters since the interface came up."""

    name: str
    received_bytes: int
    sent_bytes: int
    errors: int | None
    drops: int | None
    speed_mbps: int | None


class HostLatest(_Said):
    taken_at_ms: int
    cpu_percent: Annotated[
        Number, Field(description="Share of CPU time that was busy between the last two samples.")
    ]
    load_1m: Number
    load_5m: Number
    load_15m: Number
    memory_used_mib: Number
    memory_total_mib: Number
    swap_total_mib: Number
    swap_used_mib: Number
    disk_total_mib: Number
    disk_free_mib: Number
    disk_read_bytes_per_second: Number
    disk_written_bytes_per_second: Number
    network_received_bytes_per_second: Number
    network_sent_bytes_per_second: Number
    infiniband_received_bytes_per_second: Number
    infiniband_sent_bytes_per_second: Number
    pressure_cpu_some_percent: Number
    pressure_memory_some_percent: Number
    pressure_memory_full_percent: Number
    pressure_io_some_percent: Number
    pressure_io_full_percent: Number
    clock_synchronized: Number
    clock_offset_ms: Annotated[
        int, Field(description="Added to the node's times; 0 while its clock is right enough.")
    ]
    agent_cpu_cores: Annotated[Number, Field(description="What measuring costs.")]
    agent_memory_mib: Number
    disks: list[DiskLatest]
    networks: list[NetworkLatest]


class DeviceLatest(_Said):
    uuid: str
    index: int
    simulated: bool
    taken_at_ms: int
    utilization_percent: Annotated[
        Number,
        Field(description="Time in which some kernel ran; not how much of the chip it used."),
    ]
    memory_bus_percent: Number
    memory_used_mib: Number
    memory_reserved_mib: Number
    memory_free_mib: Number
    power_watts: Number
    energy_watts: Annotated[Number, Field(description="Mean power by the energy counter.")]
    temperature_celsius: Number
    memory_temperature_celsius: Number
    clock_sm_mhz: Number
    clock_memory_mhz: Number
    performance_state: Number
    throttle_reasons: list[str] | None
    ecc_corrected: Number
    ecc_uncorrected: Number
    sm_active_percent: Number
    sm_occupancy_percent: Number
    tensor_active_percent: Number
    memory_bandwidth_percent: Number
    processes: Number
    foreign_processes: Annotated[
        Number, Field(description="Processes on it that belong to no task of its node.")
    ]
    foreign_memory_mib: Number


class ReplicaLatest(_Said):
    """What one replica of a task uses."""

    task: str
    name: str
    queue: str
    replica: int
    allocation: str
    taken_at_ms: int
    cpu_cores: Number
    cpu_throttled_cores: Number
    memory_mib: Number
    memory_peak_mib: Number
    read_bytes_per_second: Number
    written_bytes_per_second: Number
    process_count: Number
    oom_kills: Number
    gpu_process_count: Number
    gpu_memory_mib: Number
    gpu_memory_peak_mib: Number
    gpu_utilization_percent: Number


class NodeLatest(_Said):
    node: str
    host: HostLatest | None
    devices: list[DeviceLatest]
    tasks: list[ReplicaLatest]


class Latest(_Said):
    items: list[NodeLatest]


class Columns(_Said):
    """Made for charts: ``columns["time"]`` (milliseconds since 1970, when the point begins) beside
    one list a metric, all of one length."""

    columns: dict[str, list[Number]]


class _Series(_Said):
    start_ms: int
    end_ms: int
    resolution_seconds: Annotated[
        float, Field(description="Width of one point: its values are those of all rows in it.")
    ]


class DeviceColumns(Columns):
    uuid: str
    index: Annotated[int | None, Field(description="None: the node has this device no more.")]
    model: str
    simulated: bool | None


class NodeSeries(_Series):
    node: str
    host: Columns
    devices: list[DeviceColumns]


class PlacedColumns(Columns):
    node: str
    model: str


class DeviceSeries(_Series):
    uuid: str
    nodes: Annotated[
        list[PlacedColumns], Field(description="One for each node that has reported this device.")
    ]


class ReplicaColumns(Columns):
    allocation: str
    node: str
    devices: int
    gpu_milli: int


class TaskSeries(_Series):
    task: str
    replicas: Annotated[
        list[ReplicaColumns], Field(description="Those of all attempts that were measured then.")
    ]


class TopItem(_Said):
    value: float
    taken_at_ms: int
    node: str
    device: str | None
    task: str | None
    allocation: str | None


class Top(_Said):
    metric: str
    items: list[TopItem]


class _Summed(_Said):
    start_ms: int
    end_ms: int
    resolution_seconds: Annotated[
        float, Field(description="Of what was read: the range is whole stretches of it.")
    ]


class Held(_Said):
    """Of one queue or task."""

    queue: str | None = None
    task: str | None = None
    replica_hours: float
    gpu_hours: Annotated[float, Field(description="Shares of devices times hours, as measured.")]
    gpu_hours_measured: Annotated[
        float, Field(description="Those of which the utilisation is known.")
    ]
    gpu_hours_unused: Annotated[
        Number, Field(description="Of those measured: times what was not utilised.")
    ]
    gpu_utilization_percent: Annotated[Number, Field(description="Weighted by GPU-hours.")]
    gpu_memory_peak_mib: Number
    memory_peak_mib: Number


class Worked(_Said):
    """Of all devices of one model or node."""

    model: str | None = None
    node: str | None = None
    device_hours: float
    utilization_percent: Number
    idle_percent: Annotated[
        Number, Field(description="Share of stretches in which no reading reached 1 %.")
    ]
    energy_kwh: Annotated[Number, Field(description="By the devices' own counters.")]
    power_watts: Number
    memory_used_peak_mib: Number


class Aggregate(_Summed):
    by: str
    items: list[Held | Worked]
