"""The latest of everything, in words of the API: one JSON text a node, written again only when
something of the node has changed."""

import asyncio
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic_core import to_json

from app.db.engine import Database
from app.db.samples.tables import Kind
from app.metrics.clocks import NodeClocks
from app.metrics.live import INDEX, LATEST_WINDOW_MS, Live, Reading
from app.metrics.rates import cpu_percent
from app.metrics.roster import KnownDevice, KnownReplica, Roster
from telemetry.throttling import reasons

_NODES_AT_ONCE = 100
"""After so many the others have their turn: reports don't wait for a look at the whole fleet."""

Form = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Text:
    """A node's JSON, and what it was made of."""

    text: bytes
    roster_version: int
    live_version: int
    good_until_ms: int


class Fleet:
    """What is live, beside who it belongs to."""

    def __init__(self, database: Database, live: Live, clocks: NodeClocks) -> None:
        self._database = database
        self._live = live
        self._clocks = clocks
        self.roster = Roster()
        self._replicas: Mapping[str, KnownReplica] = {}
        self._texts: dict[str, _Text] = {}

    async def refresh(self, *, now_ms: int) -> None:
        """Learn who is measured now."""
        keys = {reading.key for reading in self._live.readings(Kind.TASK, now_ms=now_ms)}
        async with self._database.read() as session:
            await self.roster.refresh(session)
            self._replicas = await self.roster.replicas(session, keys)
        for gone in self._texts.keys() - self.roster.devices.keys():
            del self._texts[gone]

    def replica(self, allocation: str) -> KnownReplica | None:
        return self._replicas.get(allocation)

    async def texts(
        self, nodes: Sequence[str], *, now_ms: int, fields: Collection[str] = ()
    ) -> list[bytes]:
        """The JSON of each node; of those that aren't known any more there is none.

        Args:
            fields: Of hosts, devices and replicas only these; all when there are none.
        """
        found = []
        for number, node in enumerate(nodes):
            if number % _NODES_AT_ONCE == _NODES_AT_ONCE - 1:
                await asyncio.sleep(0)
            if node in self.roster.devices:
                found.append(self._text(node, now_ms, fields))
        return found

    def _text(self, node: str, now_ms: int, fields: Collection[str]) -> bytes:
        live_version = self._live.version_of(node)
        if fields:
            form, _ = self._form(node, now_ms)
            return to_json(_narrowed(form, fields))
        known = self._texts.get(node)
        if (
            known is not None
            and known.live_version == live_version
            and known.roster_version == self.roster.version
            and now_ms <= known.good_until_ms
        ):
            return known.text
        form, oldest_ms = self._form(node, now_ms)
        text = to_json(form)
        self._texts[node] = _Text(
            text=text,
            roster_version=self.roster.version,
            live_version=live_version,
            good_until_ms=oldest_ms + LATEST_WINDOW_MS,
        )
        return text

    def _form(self, node: str, now_ms: int) -> tuple[Form, int]:
        """What is said of a node, and the time of the oldest row in it."""
        live = self._live
        host = live.reading(Kind.HOST, node, node, now_ms=now_ms)
        devices = [
            (reading, known)
            for known in self.roster.devices[node]
            if (reading := live.reading(Kind.DEVICE, node, known.uuid, now_ms=now_ms)) is not None
        ]
        tasks = [
            (reading, known)
            for reading in live.readings(Kind.TASK, now_ms=now_ms, node=node)
            if (known := self._replicas.get(reading.key)) is not None
        ]
        times = [reading.taken_at_ms for reading, _ in (*devices, *tasks)]
        if host is not None:
            times.append(host.taken_at_ms)
        return {
            "node": node,
            "host": None if host is None else self._host(host),
            "devices": [_device(reading, known) for reading, known in devices],
            "tasks": [_replica(reading, known) for reading, known in tasks],
        }, min(times, default=now_ms)

    def _host(self, reading: Reading) -> Form:
        total, available = reading.get("memory_total_mib"), reading.get("memory_available_mib")
        detail = self._live.details.get(reading.node)
        return {
            "taken_at_ms": reading.taken_at_ms,
            "cpu_percent": cpu_percent(reading.growth),
            "memory_used_mib": None if total is None or available is None else total - available,
            **{name: reading.get(name) for name in HOST_GAUGES},
            **{f"{name}_per_second": reading.rate(name) for name in HOST_COUNTERS},
            "clock_offset_ms": self._clocks.offset_ms(reading.node),
            "agent_cpu_cores": reading.rate("agent_cpu_seconds"),
            "disks": () if detail is None else detail.disks,
            "networks": () if detail is None else detail.networks,
        }


HOST_GAUGES = (
    "load_1m",
    "load_5m",
    "load_15m",
    "memory_total_mib",
    "swap_total_mib",
    "swap_used_mib",
    "disk_total_mib",
    "disk_free_mib",
    "pressure_cpu_some_percent",
    "pressure_memory_some_percent",
    "pressure_memory_full_percent",
    "pressure_io_some_percent",
    "pressure_io_full_percent",
    "clock_synchronized",
    "agent_memory_mib",
)
HOST_COUNTERS = (
    "disk_read_bytes",
    "disk_written_bytes",
    "network_received_bytes",
    "network_sent_bytes",
    "infiniband_received_bytes",
    "infiniband_sent_bytes",
)
DEVICE_GAUGES = (
    "utilization_percent",
    "memory_bus_percent",
    "memory_used_mib",
    "memory_reserved_mib",
    "memory_free_mib",
    "power_watts",
    "temperature_celsius",
    "memory_temperature_celsius",
    "clock_sm_mhz",
    "clock_memory_mhz",
    "performance_state",
    "ecc_corrected",
    "ecc_uncorrected",
    "sm_active_percent",
    "sm_occupancy_percent",
    "tensor_active_percent",
    "memory_bandwidth_percent",
    "foreign_memory_mib",
)
_PLACES = tuple((name, INDEX[Kind.DEVICE][name]) for name in DEVICE_GAUGES)
_THROTTLE = INDEX[Kind.DEVICE]["throttle_reasons"]
_PROCESSES = INDEX[Kind.DEVICE]["process_count"]
_FOREIGN = INDEX[Kind.DEVICE]["foreign_process_count"]
TASK_GAUGES = (
    "memory_mib",
    "memory_peak_mib",
    "process_count",
    "oom_kills",
    "gpu_process_count",
    "gpu_memory_mib",
    "gpu_memory_peak_mib",
    "gpu_utilization_percent",
)


def _device(reading: Reading, known: KnownDevice) -> Form:
    values = reading.values
    mask = values[_THROTTLE]
    form: Form = {
        "uuid": known.uuid,
        "index": known.index,
        "simulated": known.simulated,
        "taken_at_ms": reading.taken_at_ms,
    }
    for name, place in _PLACES:
        form[name] = values[place]
    form["energy_watts"] = reading.rate("energy_joules")
    form["throttle_reasons"] = None if mask is None else reasons(int(mask))
    form["processes"] = values[_PROCESSES]
    form["foreign_processes"] = values[_FOREIGN]
    return form


def _replica(reading: Reading, known: KnownReplica) -> Form:
    return {
        "task": known.task,
        "name": known.name,
        "queue": known.queue,
        "replica": known.replica,
        "allocation": known.allocation,
        "taken_at_ms": reading.taken_at_ms,
        "cpu_cores": reading.rate("cpu_seconds"),
        "cpu_throttled_cores": reading.rate("cpu_throttled_seconds"),
        "read_bytes_per_second": reading.rate("read_bytes"),
        "written_bytes_per_second": reading.rate("written_bytes"),
        **{name: reading.get(name) for name in TASK_GAUGES},
    }


FIELDS = frozenset(
    {
        "cpu_percent", "memory_used_mib", "clock_offset_ms", "agent_cpu_cores", "disks", "networks",
        "energy_watts", "throttle_reasons", "processes", "foreign_processes", "cpu_cores",
        "cpu_throttled_cores", "name", "queue", "index",
        "read_bytes_per_second", "written_bytes_per_second",
        *HOST_GAUGES, *(f"{name}_per_second" for name in HOST_COUNTERS), *DEVICE_GAUGES,
        *TASK_GAUGES,
    }
)  # fmt: skip
"""What can be asked for of hosts, devices and replicas."""
_ALWAYS = frozenset({"uuid", "simulated", "taken_at_ms", "task", "replica", "allocation"})


def _narrowed(form: Form, fields: Collection[str]) -> Form:
    def keep(part: Form) -> Form:
        return {name: value for name, value in part.items() if name in _ALWAYS or name in fields}

    return {
        "node": form["node"],
        "host": None if form["host"] is None else keep(form["host"]),
        "devices": [keep(device) for device in form["devices"]],
        "tasks": [keep(task) for task in form["tasks"]],
    }
