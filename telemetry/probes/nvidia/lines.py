"""What the agent and its NVML process say to each other: a line of JSON each.

The agent writes ``{"known": [device...]}`` once, when it knows devices, and ``{"now": seconds}``
for each reading: both ends go by one clock. ``"fresh": [uuid...]`` with it are devices to look at
anew. It gets ``{"event": {...}}`` whenever something
happens, and a reading for each request: its samples are rows, and what hardly ever changes is left
out unless it did.
"""

import json
from collections.abc import Collection, Iterable
from dataclasses import asdict, dataclass, fields, replace
from operator import attrgetter
from typing import Any

from telemetry.probes.base import DeviceReading
from telemetry.samples import (
    DeviceEvent,
    DeviceEventKind,
    DeviceInventory,
    DeviceProcess,
    DeviceSample,
)

_SAMPLE = tuple(field.name for field in fields(DeviceSample))
_PROCESSES = _SAMPLE.index("processes")
_PROCESS = tuple(field.name for field in fields(DeviceProcess))
_sample_row = attrgetter(*_SAMPLE)
_process_row = attrgetter(*_PROCESS)


def write_known(devices: Iterable[DeviceInventory]) -> bytes:
    return _line({"known": [asdict(device) for device in devices]})


@dataclass(frozen=True, slots=True)
class Request:
    """For a reading; see :meth:`telemetry.probes.nvidia.probe.NvidiaProbe.read`."""

    now: float
    fresh: frozenset[str] = frozenset()


def write_request(now: float, fresh: Collection[str] = ()) -> bytes:
    return _line({"now": now, "fresh": sorted(fresh)} if fresh else {"now": now})


def write_event(event: DeviceEvent) -> bytes:
    return _line({"event": asdict(event)})


def write_reading(reading: DeviceReading, *, before: DeviceReading | None) -> bytes:
    """A reading, after ``before`` was written."""
    rows = []
    for sample in reading.samples:
        row = list(_sample_row(sample))
        if sample.processes is not None:
            row[_PROCESSES] = [_process_row(process) for process in sample.processes]
        rows.append(row)
    form: dict[str, Any] = {"samples": rows}
    frame = _frame(reading)
    if before is None or _frame(before) != frame:
        form["frame"] = asdict(frame)
    return _line(form)


def read_request(line: str) -> tuple[DeviceInventory, ...] | Request:
    """The devices that are known, or a request.

    Raises:
        ValueError, KeyError, TypeError: it's neither.
    """
    form = json.loads(line)
    if "known" in form:
        return tuple(map(_device, form["known"]))
    return Request(float(form["now"]), frozenset(form.get("fresh", ())))


@dataclass(frozen=True, slots=True)
class ReadingLine:
    """A reading that can be told only with the one before."""

    samples: tuple[DeviceSample, ...]
    frame: DeviceReading | None
    """All but the samples; None when nothing of it has changed."""

    def after(self, before: DeviceReading) -> DeviceReading:
        return replace(self.frame or before, samples=self.samples)


def read_answer(line: bytes) -> DeviceEvent | ReadingLine:
    """An event, or a reading.

    Raises:
        ValueError, KeyError, TypeError: it's neither.
    """
    form = json.loads(line)
    if "event" in form:
        event = form["event"]
        return DeviceEvent(**{**event, "kind": DeviceEventKind(event["kind"])})
    frame = None
    if "frame" in form:
        devices = tuple(map(_device, form["frame"].pop("devices")))
        frame = DeviceReading(**{**form["frame"], "devices": devices, "samples": (), "events": ()})
    return ReadingLine(samples=tuple(map(_sample, form["samples"])), frame=frame)


def _frame(reading: DeviceReading) -> DeviceReading:
    return replace(reading, samples=(), events=())


def _device(form: dict[str, Any]) -> DeviceInventory:
    return DeviceInventory(**{**form, "unsupported": tuple(form["unsupported"])})


def _sample(row: list[Any]) -> DeviceSample:
    processes = row[_PROCESSES]
    if processes is not None:
        row[_PROCESSES] = tuple(
            DeviceProcess(**dict(zip(_PROCESS, process, strict=True))) for process in processes
        )
    return DeviceSample(**dict(zip(_SAMPLE, row, strict=True)))


def _line(form: dict[str, Any]) -> bytes:
    return json.dumps(form, separators=(",", ":")).encode() + b"\n"
