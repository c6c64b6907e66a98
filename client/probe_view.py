"""What `stowplan probe` shows: a machine as tables, made of the same document as its JSON."""

from collections.abc import Mapping, Sequence
from typing import Any

from client.output import Table
from client.quantities import cores_text, duration_text, memory_text, percent_text
from client.views import device_name

Json = Mapping[str, Any]

_LINKS = {
    "nvlink": "NVLink, straight or by NVSwitch",
    "pix": "at most one PCIe bridge",
    "pxb": "several PCIe bridges, no host bridge",
    "phb": "a PCIe host bridge (the CPU)",
    "node": "several host bridges of one NUMA node",
    "sys": "the link between NUMA nodes",
}
_COLUMNS_MAX = 6
"""Devices beside each other: so many columns of readings fit into a line of 100 characters."""
_BUS_ID_CHARACTERS = 12
"""As in sysfs: NVML has four zeros more in front."""
_NOT_READINGS = frozenset({"uuid", "taken_at_ms", "simulated", "processes"})


def probe_tables(document: Json, *, wide: bool) -> list[Table]:
    """The document of :func:`client.commands.node.probe` in the order in which one asks: what is
    this, what is it doing, how do its devices reach each other, what is not known.
    """
    inventory = document["inventory"]
    devices, samples = inventory["devices"], {s["uuid"]: s for s in document["devices"]}
    tables = [_host_table(inventory, document["host"])]
    if document["host"]:
        tables += [_disk_table(document["host"]), _network_table(document["host"])]
    if devices:
        tables += [
            _device_table(devices, samples),
            *([_identity_table(devices)] if wide else []),
            *_topology_tables(devices),
            *_reading_tables(devices, samples),
            _process_table(devices, samples),
        ]
    tables.append(_gap_table(document))
    return [table for table in tables if table.rows]


def _host_table(inventory: Json, sample: Json | None) -> Table:
    host = inventory["host"]
    rows = [
        ("name", host["hostname"]),
        ("kernel", f"{host['kernel']}, boot {host['boot_id']}"),
        ("cpu", f"{cores_text(host['cpu_milli'])} cores of {host['cpu_model'] or 'unknown model'}"),
        ("memory", memory_text(host["memory_mib"])),
        *(_use_of_host(sample) if sample else ()),
        ("devices", _device_source(inventory)),
    ]
    return Table(columns=("HOST", ""), rows=tuple((name, text) for name, text in rows if text))


def _device_source(inventory: Json) -> str:
    versions = [
        f"{name} {version}"
        for name, version in (
            ("driver", inventory["driver_version"]),
            ("CUDA", inventory["cuda_version"]),
        )
        if version
    ]
    found = f"{len(inventory['devices'])} by {inventory['device_source']}"
    if inventory["device_source"] == "none":
        found = "none"
    return "; ".join([", ".join([found, *versions]), *filter(None, [inventory["device_message"]])])


def _use_of_host(sample: Json) -> list[tuple[str, str]]:
    """What it's doing; a part that is unknown is left out here, and named among the gaps."""
    synchronized = {1: "follows another clock", 0: "follows no other clock"}
    return [
        ("", _memory_use(sample)),
        ("swap", _parts(sample, swap_used_mib="used", swap_total_mib="in all")),
        ("huge pages", _parts(sample, huge_pages_free_mib="free", huge_pages_total_mib="in all")),
        (
            "cpu time",
            _parts(
                sample,
                cpu_user_seconds="user",
                cpu_system_seconds="system",
                cpu_iowait_seconds="waiting for disks",
                cpu_steal_seconds="stolen",
                cpu_idle_seconds="idle",
            ),
        ),
        (
            "load",
            " ".join(
                f"{sample[f'load_{m}m']:g}" for m in (1, 5, 15) if sample["load_1m"] is not None
            ),
        ),
        ("pressure", _pressure(sample)),
        (
            "disk",
            _parts(
                sample,
                disk_free_mib="free",
                disk_total_mib="in all",
                disk_free_inodes="inodes free",
                disk_busy_seconds="busy",
            ),
        ),
        ("clock", synchronized.get(sample["clock_synchronized"], "")),
        ("this probe", _parts(sample, agent_cpu_seconds="of CPU", agent_memory_mib="of memory")),
    ]


def _memory_use(sample: Json) -> str:
    return _parts(
        sample,
        memory_available_mib="available",
        memory_cached_mib="cached",
        memory_dirty_mib="dirty",
    )


def _pressure(sample: Json) -> str:
    """Percent of the last 10 s in which something waited, and in which all did."""
    texts = []
    for resource in ("cpu", "memory", "io"):
        some = sample[f"pressure_{resource}_some_percent"]
        full = sample.get(f"pressure_{resource}_full_percent")
        if some is not None:
            texts.append(f"{resource} {some:g}%" + ("" if full is None else f" (all {full:g}%)"))
    return ", ".join(texts)


def _parts(sample: Json, **words: str) -> str:
    return ", ".join(
        f"{reading_text(field, sample[field])} {word}"
        for field, word in words.items()
        if sample[field] is not None
    )


def _disk_table(host: Json) -> Table:
    return Table(
        columns=("DISK", "READ", "WRITTEN", "BUSY"),
        rows=tuple(
            (
                disk["name"],
                reading_text("read_bytes", disk["read_bytes"]),
                reading_text("written_bytes", disk["written_bytes"]),
                duration_text(disk["busy_seconds"]),
            )
            for disk in host["disks"]
        ),
    )


def _network_table(host: Json) -> Table:
    return Table(
        columns=("NETWORK", "SPEED", "RECEIVED", "SENT", "ERRORS", "DROPS"),
        rows=tuple(
            (
                network["name"],
                _known(network["speed_mbps"], " Mbit/s"),
                reading_text("received_bytes", network["received_bytes"]),
                reading_text("sent_bytes", network["sent_bytes"]),
                _known(network["errors"]),
                _known(network["drops"]),
            )
            for network in host["networks"]
        ),
    )


def _device_table(devices: Sequence[Json], samples: Mapping[str, Json]) -> Table:
    return Table(
        columns=("DEVICE", "MODEL", "MEMORY", "USED", "BUSY", "POWER", "NUMA", "BUS", "STATE"),
        rows=tuple(_device_row(device, samples.get(device["uuid"], {})) for device in devices),
    )


def _device_row(device: Json, sample: Json) -> tuple[str, ...]:
    watts = sample.get("power_watts")
    return (
        device_name(device),
        device["model"],
        memory_text(device["memory_mib"]),
        memory_text(sample.get("memory_used_mib")),
        percent_text(sample.get("utilization_percent")),
        "-" if watts is None else f"{watts:.0f} W",
        _known(device["numa"]),
        (device["pci_bus_id"] or "-")[-_BUS_ID_CHARACTERS:],
        "healthy" if device["healthy"] else f"unhealthy: {device['fault'] or 'unknown'}",
    )


def _identity_table(devices: Sequence[Json]) -> Table:
    """What never changes, in full: a table of its own, so that the other one fits a line."""
    return Table(
        columns=("IDENTITY", "UUID", "SERIAL", "PCIE", "CAPABILITY", "LIMIT", "PART OF"),
        rows=tuple(
            (
                device_name(device),
                device["uuid"],
                device["serial"] or "-",
                _pcie(device),
                device["compute_capability"] or "-",
                _known(device["power_limit_watts"], " W"),
                device["parent"] or "-",
            )
            for device in devices
        ),
    )


def _pcie(device: Json) -> str:
    generation, width = device["pcie_generation_max"], device["pcie_width_max"]
    return "-" if generation is None or width is None else f"gen {generation} x{width}"


def _topology_tables(devices: Sequence[Json]) -> list[Table]:
    """As `nvidia-smi topo -m` has it, and what its words mean. None for a device alone."""
    if not any(device["links"] for device in devices):
        return []
    rows = tuple(
        (
            device_name(device),
            *(
                "X" if peer is device else device["links"].get(peer["uuid"], "-").upper()
                for peer in devices
            ),
        )
        for device in devices
    )
    used = {kind for device in devices for kind in device["links"].values()}
    legend = tuple((kind.upper(), text) for kind, text in _LINKS.items() if kind in used)
    return [
        Table(columns=("TOPOLOGY", *(device_name(device) for device in devices)), rows=rows),
        Table(columns=("LINK", "THE PATH CROSSES"), rows=legend),
    ]


def _reading_tables(devices: Sequence[Json], samples: Mapping[str, Json]) -> list[Table]:
    """Every reading that some device has, devices beside each other."""
    read = [device for device in devices if device["uuid"] in samples]
    return [
        _readings(read[start : start + _COLUMNS_MAX], samples)
        for start in range(0, len(read), _COLUMNS_MAX)
    ]


def _readings(devices: Sequence[Json], samples: Mapping[str, Json]) -> Table:
    shown = [samples[device["uuid"]] for device in devices]
    fields = [
        field
        for field in shown[0]
        if field not in _NOT_READINGS and any(sample[field] is not None for sample in shown)
    ]
    return Table(
        columns=("READING", *(device_name(device) for device in devices)),
        rows=tuple(
            (field, *(reading_text(field, sample[field]) for sample in shown)) for field in fields
        ),
    )


def _process_table(devices: Sequence[Json], samples: Mapping[str, Json]) -> Table:
    return Table(
        columns=("PROCESS", "DEVICE", "MEMORY", "BUSY"),
        rows=tuple(
            (
                str(process["pid"]),
                device_name(device),
                memory_text(process["memory_mib"]),
                percent_text(process["utilization_percent"]),
            )
            for device in devices
            for process in samples.get(device["uuid"], {}).get("processes") or ()
        ),
    )


def _gap_table(document: Json) -> Table:
    """What is not known, and why; devices that lack the same are named together."""
    devices = document["inventory"]["devices"]
    rows = [
        (field, f"{gap['source']}: {gap['reason']}")
        for gap in document["missing"]
        for field in gap["fields"]
    ]
    lacking: dict[str, list[str]] = {}
    for device in devices:
        for field in device["unsupported"]:
            lacking.setdefault(field, []).append(device_name(device))
    for field, names in lacking.items():
        shared = len(names) == len(devices) > 1
        rows.append((field, f"no such sensor: {'all devices' if shared else ', '.join(names)}"))
    rows += [("", fault) for fault in document["faults"]]
    return Table(columns=("NOT KNOWN", "WHY"), rows=tuple(rows))


def reading_text(field: str, value: float | None) -> str:
    """A value for people, by the unit in its field's name; ``-`` for what is unknown."""
    if value is None:
        return "-"
    number = f"{value:.1f}".removesuffix(".0")
    match field.rpartition("_")[2]:
        case "bytes":
            return memory_text(int(value) >> 20)
        case "mib":
            return memory_text(round(value))
        case "seconds":
            return duration_text(value)
        case "percent":
            return f"{number}%"
        case "watts":
            return f"{number} W"
        case "celsius":
            return f"{number} °C"
        case "mhz":
            return f"{number} MHz"
        case "joules":
            return f"{value / 3.6e6:.3f} kWh" if value >= 3600 else f"{number} J"
        case "reasons":
            return f"{int(value):#x}"
        case _:
            return number


def _known(value: Any, unit: str = "") -> str:
    return "-" if value is None else f"{value:g}{unit}"
