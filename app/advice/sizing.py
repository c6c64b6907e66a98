"""What a task would do with instead of what it asks for. Pure; nothing is advised from unknown.

Sized by the replica that uses most, with headroom. What can be shared for a moment (processors, a
device's time) goes by the 95th percentile of minutes, what can't (memory) by the peak; a service,
where each request counts, by the peak throughout.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from app.advice.usage import Spread, Usage

MEASURED_SECONDS_MIN = 3_600.0
"""Before an hour is measured nothing is advised."""
_MEDIUM_SECONDS, _HIGH_SECONDS = 6 * 3_600.0, 24 * 3_600.0
_KNOWN_MIN = 0.8
"""Of the time that it held devices this part must be measured, and of that time as much of a
quantity be known: a peak may lie in what nobody saw."""
_TIME_HEADROOM = 1.25
_MEMORY_HEADROOM = 1.2
_WORTH = 0.8
"""Only a request that could shrink to this part of itself, or less, is worth a word."""
_SHARE_STEP_MILLI, _GPU_MEMORY_STEP_MIB = 50, 256
_CPU_STEP_MILLI, _MEMORY_STEP_MIB = 100, 64


class Confidence(StrEnum):
    """By how long it was measured."""

    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What a task asks for and has held: ``gpu_memory_of_device_mib`` is the smallest device."""

    request: Mapping[str, Any]
    replicas: int
    is_service: bool
    held_hours: float
    """For how long its last attempt has held devices."""
    gpu_memory_of_device_mib: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Advice:
    """One word of the request that could be smaller."""

    field: str
    now: int
    suggested: int
    gpu_hours: float
    """What the last attempt would have left to others; 0 for what isn't a device."""
    confidence: Confidence
    text: str


def advise(asked: Asked, usage: Usage) -> list[Advice]:
    """Every word of the request that is larger than it need be."""
    looked_at_seconds = asked.held_hours * 3_600
    if usage.measured_seconds < max(MEASURED_SECONDS_MIN, _KNOWN_MIN * looked_at_seconds):
        return []
    confidence = Confidence.LOW
    if usage.measured_seconds >= _MEDIUM_SECONDS:
        confidence = Confidence.MEDIUM
    if usage.measured_seconds >= _HIGH_SECONDS:
        confidence = Confidence.HIGH
    return [
        Advice(
            field=size.field,
            now=asked.request[size.field],
            suggested=size.suggested,
            gpu_hours=size.gpus_less * asked.replicas * asked.held_hours,
            confidence=confidence,
            text=size.text,
        )
        for size in (*_devices(asked, usage), *_others(asked, usage))
    ]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Size:
    field: str
    suggested: int
    text: str
    gpus_less: float = 0.0
    """Of each replica."""


def _is_known(spread: Spread | None) -> bool:
    return spread is not None and spread.known_ratio >= _KNOWN_MIN


def _devices(asked: Asked, usage: Usage) -> Iterator[_Size]:
    gpus, share = asked.request["gpus"], asked.request["gpu_milli"]
    busy, memory = usage.gpu_utilization_percent, usage.gpu_memory_mib
    if not gpus or busy is None or not _is_known(busy):
        return
    percent = busy.peak if asked.is_service else busy.most_p95
    told = f"its GPUs are {percent:.0f} % busy ({_told_by(asked)}), with {_TIME_HEADROOM - 1:.0%}"
    if busy.peak == 0:
        yield _Size(
            field="gpus",
            suggested=0,
            gpus_less=gpus * share / 1000,
            text="it has done no work on its GPUs in all the time that was measured",
        )
        return
    needed = gpus * percent / 100 * _TIME_HEADROOM
    if gpus > 1:
        fewer = max(math.ceil(needed), 1)
        if fewer < gpus and _fits_on(fewer, asked, memory):
            yield _Size(
                field="gpus",
                suggested=fewer,
                gpus_less=gpus - fewer,
                text=f"{told} headroom {fewer} would do",
            )
        return
    smaller = max(_up(needed * 1000, _SHARE_STEP_MILLI), _SHARE_STEP_MILLI)
    if smaller <= _WORTH * share:
        yield _Size(
            field="gpu_milli",
            suggested=smaller,
            gpus_less=(share - smaller) / 1000,
            text=f"{told} headroom a share of {smaller} would do",
        )


def _fits_on(gpus: int, asked: Asked, memory: Spread | None) -> bool:
    """Whether what it holds on all its devices would fit on fewer, were it spread evenly."""
    device_mib = asked.gpu_memory_of_device_mib
    if memory is None or device_mib is None:
        return False
    return memory.peak * asked.request["gpus"] / gpus * _MEMORY_HEADROOM <= device_mib


def _others(asked: Asked, usage: Usage) -> Iterator[_Size]:
    cores = usage.cpu_cores
    used_cores = None
    if cores is not None:
        used_cores = cores.peak if asked.is_service else cores.most_p95
    for field, spread, used, headroom, step, unit in (
        (
            "gpu_memory_mib",
            usage.gpu_memory_mib,
            usage.gpu_memory_mib and usage.gpu_memory_mib.peak,
            _MEMORY_HEADROOM,
            _GPU_MEMORY_STEP_MIB,
            "MiB",
        ),
        (
            "cpu_milli",
            cores,
            None if used_cores is None else used_cores * 1000,
            _TIME_HEADROOM,
            _CPU_STEP_MILLI,
            "milli of a core",
        ),
        (
            "memory_mib",
            usage.memory_mib,
            usage.memory_mib and usage.memory_mib.peak,
            _MEMORY_HEADROOM,
            _MEMORY_STEP_MIB,
            "MiB",
        ),
    ):
        now = asked.request[field]
        if not now or used is None or not _is_known(spread):
            continue
        smaller = max(_up(used * headroom, step), step)
        if smaller <= _WORTH * now:
            how = _told_by(asked) if field == "cpu_milli" else "at its peak"
            yield _Size(
                field=field,
                suggested=smaller,
                text=f"it uses {used:.0f} {unit} ({how}), with {headroom - 1:.0%} headroom "
                f"{smaller} would do",
            )


def _told_by(asked: Asked) -> str:
    return "at its peak" if asked.is_service else "in 95 % of the time"


def _up(value: float, step: int) -> int:
    return math.ceil(value / step) * step
