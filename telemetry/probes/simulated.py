"""Devices that exist only as accounting units, for machines without a GPU.

They are labelled as simulated wherever they show, and nothing about their use is made up: a task
that holds one computes on the CPU, so utilisation, power and memory in use are unknown.
"""

import re
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass

from telemetry.probes.base import DeviceReading
from telemetry.samples import SIMULATED_PREFIX, DeviceInventory, DeviceSample

_GROUP = re.compile(r"(?P<count>\d{1,4})(x(?P<model>[^:,]{1,64})(:(?P<memory>\d{1,8}))?)?")
DEFAULT_MODEL = "simulated"
DEFAULT_MEMORY_MIB = 16_384


@dataclass(frozen=True, slots=True, kw_only=True)
class SimulatedGroup:
    """``count`` equal devices."""

    count: int
    model: str = DEFAULT_MODEL
    memory_mib: int = DEFAULT_MEMORY_MIB


def parse_groups(text: str) -> tuple[SimulatedGroup, ...]:
    """Groups from ``"2"``, ``"2xA100"``, ``"2xA100:40960"`` or several of them with commas between.

    Raises:
        ValueError: the text has another form.
    """
    groups = []
    for part in text.split(","):
        match = _GROUP.fullmatch(part.strip())
        if match is None:
            raise ValueError(
                f"simulated devices {part.strip()!r}: write COUNT, COUNTxMODEL or"
                " COUNTxMODEL:MEMORY_MIB, for example 2xA100:40960"
            )
        groups.append(
            SimulatedGroup(
                count=int(match["count"]),
                model=match["model"] or DEFAULT_MODEL,
                memory_mib=int(match["memory"] or DEFAULT_MEMORY_MIB),
            )
        )
    return tuple(groups)


class SimulatedProbe:
    """Devices named after their node, so that two agents on one machine never share one."""

    def __init__(
        self,
        *,
        node: str,
        groups: tuple[SimulatedGroup, ...],
        wall_seconds: Callable[[], float] = time.time,
    ) -> None:
        models = [group for group in groups for _ in range(group.count)]
        self._devices = tuple(
            DeviceInventory(
                uuid=f"{SIMULATED_PREFIX}{node}-{index}",
                index=index,
                model=group.model,
                memory_mib=group.memory_mib,
                simulated=True,
            )
            for index, group in enumerate(models)
        )
        self._wall_seconds = wall_seconds

    def read(self, fresh: Collection[str] = ()) -> DeviceReading:
        del fresh  # nothing is known of their use, at any time
        taken_at_ms = int(self._wall_seconds() * 1000)
        return DeviceReading(
            devices=self._devices,
            samples=tuple(
                DeviceSample(uuid=device.uuid, taken_at_ms=taken_at_ms, simulated=True)
                for device in self._devices
            ),
            source="simulated",
            message="simulated devices: tasks compute on the CPU",
        )

    def close(self) -> None:
        return
