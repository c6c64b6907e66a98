"""What a probe might have seen, for tests that need any of it."""

from typing import Any

from agent.events import Moment
from agent.samples.windows import Look
from telemetry.samples import DeviceSample, HostSample, TaskSample


def moment(seconds: float) -> Moment:
    return Moment(boot_seconds=seconds, wall_ms=round(seconds * 1000))


def host(**known: Any) -> HostSample:
    given = {
        "taken_at_ms": 0,
        "cpu_user_seconds": 1.0,
        "cpu_system_seconds": 1.0,
        "cpu_idle_seconds": 1.0,
        "memory_total_mib": 100,
        "memory_available_mib": 50,
        **known,
    }
    return HostSample(**given)


def device(uuid: str, **known: Any) -> DeviceSample:
    return DeviceSample(uuid=uuid, taken_at_ms=0, **known)


def task(allocation: str, **known: Any) -> TaskSample:
    return TaskSample(allocation=allocation, taken_at_ms=0, **known)


def look(seconds: float, **seen: Any) -> Look:
    return Look(at=moment(seconds), **seen)
