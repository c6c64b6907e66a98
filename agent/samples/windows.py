"""Many looks become one row: what was seen in a few seconds goes in, a batch in column form comes
out. Pure: no clock, no file.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from agent.events import Moment
from protocol.samples import (
    DeviceColumns,
    DeviceValues,
    HostColumns,
    HostValues,
    SampleBatch,
    TaskColumns,
    TaskValues,
)
from telemetry import columns
from telemetry.columns import Column, folded
from telemetry.samples import DeviceSample, HostSample, TaskSample

_SECONDS_MIN, _SECONDS_MAX = 1.0, 300.0
# Looks come a little early or late. One that is this share of a window early closes it: otherwise
# windows would have one look too many and one too few by turns.
_EARLY_SHARE = 0.05
_DECIMALS = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """One round of measuring, as it is after it was sorted out whose processes are whose."""

    at: Moment
    host: HostSample | None = None
    devices: tuple[DeviceSample, ...] = ()
    tasks: tuple[TaskSample, ...] = ()


class Window:
    """Gathers looks, and gives a batch at the end of each window.

    A batch is numbered within the run of the agent that ``epoch`` names.
    """

    def __init__(self, *, epoch: str, seconds: float) -> None:
        self._epoch = epoch
        self._seq = 0
        self._seconds = seconds
        self._end_seconds: float | None = None
        self._looks: list[Look] = []

    @property
    def seconds(self) -> float:
        return self._seconds

    def resize(self, seconds: float) -> None:
        """How long windows are to be, from the next one on."""
        self._seconds = min(_SECONDS_MAX, max(_SECONDS_MIN, seconds))

    def add(self, look: Look) -> SampleBatch | None:
        """Take a look in; the window's batch when this one ends it.

        The batch is stamped with its last look: counters are of that moment, so rates made of two
        batches are exact.
        """
        now_seconds = look.at.boot_seconds
        if self._end_seconds is None:
            self._end_seconds = now_seconds + self._seconds
        self._looks.append(look)
        if now_seconds < self._end_seconds - _EARLY_SHARE * self._seconds:
            return None
        self._end_seconds += self._seconds
        if self._end_seconds <= now_seconds:  # a suspended machine, or a look that took long
            self._end_seconds = now_seconds + self._seconds
        looks, self._looks = self._looks, []
        return self._folded(looks)

    def _folded(self, looks: Sequence[Look]) -> SampleBatch | None:
        at_ms = looks[-1].at.wall_ms
        hosts = [look.host for look in looks if look.host is not None]
        devices = _grouped((sample.uuid, sample) for look in looks for sample in look.devices)
        tasks = _grouped((sample.allocation, sample) for look in looks for sample in look.tasks)
        if not hosts and not devices and not tasks:
            return None
        self._seq += 1
        return SampleBatch(
            epoch=self._epoch,
            seq=self._seq,
            host=HostColumns(
                taken_at_ms=[at_ms],
                values=HostValues.model_validate(_values(columns.HOST, [hosts])),
            )
            if hosts
            else None,
            devices=DeviceColumns(
                keys=tuple(devices),
                key=list(range(len(devices))),
                taken_at_ms=[at_ms] * len(devices),
                values=DeviceValues.model_validate(_values(columns.DEVICE, devices.values())),
            )
            if devices
            else None,
            tasks=TaskColumns(
                keys=tuple(tasks),
                key=list(range(len(tasks))),
                taken_at_ms=[at_ms] * len(tasks),
                values=TaskValues.model_validate(_values(columns.TASK, tasks.values())),
            )
            if tasks
            else None,
        )


def row_count(batch: SampleBatch) -> int:
    """How many rows a batch holds: of the host, its devices and its tasks."""
    return sum(
        len(part.taken_at_ms)
        for part in (batch.host, batch.devices, batch.tasks)
        if part is not None
    )


def newest_ms(batch: SampleBatch) -> int:
    """When the newest row of a batch was taken; 0 for one without rows."""
    parts = (part for part in (batch.host, batch.devices, batch.tasks) if part is not None)
    return max((moment for part in parts for moment in part.taken_at_ms), default=0)


def _grouped(samples: Iterable[tuple[str, Any]]) -> dict[str, list[Any]]:
    groups: dict[str, list[Any]] = {}
    for key, sample in samples:
        groups.setdefault(key, []).append(sample)
    return groups


def _values(of: Sequence[Column], groups: Iterable[Sequence[Any]]) -> dict[str, list[float | None]]:
    """One row a group, turned into columns; a column that nobody measured is left out."""
    rows = [folded(of, samples) for samples in groups]
    table = {
        column.name: [_plausible(column, row[index]) for row in rows]
        for index, column in enumerate(of)
    }
    return {name: column for name, column in table.items() if any(v is not None for v in column)}


def _plausible(column: Column, value: float | None) -> float | None:
    """What can't be is unknown; the rest without digits that no sensor has."""
    if value is None or not math.isfinite(value) or not 0 <= value <= column.most:
        return None
    return int(value) if column.whole else round(value, _DECIMALS)
