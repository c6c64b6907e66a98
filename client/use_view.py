"""What `top` shows: what each node and device is doing, and for whom. Unknown is a dash."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from client.output import Table
from client.progress_view import progress_text
from client.quantities import memory_text, percent_text
from client.views import device_name, holders, node_state

Json = dict[str, Any]


class Sort(StrEnum):
    """What `top --sort` takes; the most first, but for names."""

    NAME = "name"
    BUSY = "busy"
    SM = "sm"
    MEMORY = "memory"
    POWER = "power"
    TEMPERATURE = "temperature"
    PROCESSES = "processes"


_FIELDS: Mapping[Sort, str] = {
    Sort.BUSY: "utilization_percent",
    Sort.SM: "sm_active_percent",
    Sort.MEMORY: "memory_used_mib",
    Sort.POWER: "power_watts",
    Sort.TEMPERATURE: "temperature_celsius",
    Sort.PROCESSES: "processes",
}
_NOTHING_HELD_BACK = {"idle", "application clocks", "display clocks"}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Line:
    """One device, or a node without any; what was last heard of each."""

    node: Json
    host: Json
    device: Json | None
    sample: Json


def use_table(
    nodes: Iterable[Json],
    latest: Sequence[Json],
    *,
    tasks: Iterable[Json] = (),
    sort: Sort = Sort.NAME,
    wide: bool = False,
) -> Table:
    """A row for each device, or one for a node without any. ``wide``: also what says how well a
    device is used. ``tasks``: those whose progress is to be shown."""
    progress = {task["id"]: text for task in tasks if (text := progress_text(task))}
    measured = {item["node"]: item for item in latest}
    lines = [line for node in nodes for line in _lines(node, measured.get(node["name"], {}))]
    if sort is not Sort.NAME:
        lines.sort(key=lambda line: -_amount(line.sample.get(_FIELDS[sort])))
    more = ("SM", "HELD BACK BY", "PROCESSES") if wide else ()
    return Table(
        columns=(
            "NODE", "STATE", "CPU", "LOAD", "MEMORY", "DEVICE", "BUSY", "DEVICE MEMORY", "POWER",
            "TEMP", *more, "HELD BY", *(("PROGRESS",) if progress else ()),
        ),
        rows=tuple(
            (*_row(line, wide=wide), *((_progress(line, progress),) if progress else ()))
            for line in lines
        ),
    )  # fmt: skip


def _amount(value: float | None) -> float:
    """Unknown comes last."""
    return -1.0 if value is None else value


def _lines(node: Json, measured: Json) -> list[_Line]:
    host = measured.get("host") or {}
    samples = {sample["uuid"]: sample for sample in measured.get("devices", ())}
    if not node["devices"]:
        return [_Line(node=node, host=host, device=None, sample={})]
    return [
        _Line(node=node, host=host, device=device, sample=samples.get(device["uuid"], {}))
        for device in node["devices"]
    ]


def _row(line: _Line, *, wide: bool) -> tuple[str, ...]:
    node, host, sample = line.node, line.host, line.sample
    of_node = (
        node["name"],
        node_state(node),
        percent_text(host.get("cpu_percent")),
        "-" if host.get("load_1m") is None else f"{host['load_1m']:.1f}",
        f"{_mib(host.get('memory_used_mib'))} of {memory_text(node['memory_mib'])}",
    )
    more = (
        percent_text(sample.get("sm_active_percent")),
        _held_back(sample.get("throttle_reasons")),
        _processes(sample),
    )
    if line.device is None:
        return (*of_node, "none", "-", "-", "-", "-", *(more if wide else ()), "")
    used = _mib(sample.get("memory_used_mib"))
    watts, celsius = sample.get("power_watts"), sample.get("temperature_celsius")
    return (
        *of_node,
        device_name(line.device),
        percent_text(sample.get("utilization_percent")),
        f"{used} of {memory_text(line.device['memory_mib'])}" if wide else used,
        "-" if watts is None else f"{watts:.0f} W",
        "-" if celsius is None else f"{celsius:.0f} C",
        *(more if wide else ()),
        holders(line.device),
    )


def _progress(line: _Line, progress: Mapping[str, str]) -> str:
    """Of the tasks that hold the device, in their order."""
    uses = line.device["used_by"] if line.device else ()
    return "; ".join(progress.get(use["task"], "-") for use in uses)


def _mib(value: float | None) -> str:
    return memory_text(None if value is None else round(value))


def _held_back(reasons: Sequence[str] | None) -> str:
    """By what its clocks are held down; ``no`` when they aren't."""
    if reasons is None:
        return "-"
    return ", ".join(reason for reason in reasons if reason not in _NOTHING_HELD_BACK) or "no"


def _processes(sample: Json) -> str:
    """``3``, or ``3 (1 foreign)`` when some belong to no task of the node."""
    count, foreign = sample.get("processes"), sample.get("foreign_processes")
    if count is None:
        return "-"
    return f"{count:g} ({foreign:g} foreign)" if foreign else f"{count:g}"
