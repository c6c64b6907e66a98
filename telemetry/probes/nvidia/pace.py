"""Reads the sensors of one device, each when it is due, and slows down those that take too long."""

import statistics
import time
from collections import deque
from collections.abc import Iterable
from typing import Any

from telemetry.probes.nvidia.binding import Nvml, UnansweredError
from telemetry.probes.nvidia.sensors import PERIOD_SECONDS, USE_SENSORS, Asked, Sensor, Tier

# What one reading may take, by tier; the median of the last few, as any process may be put aside.
BUDGET_SECONDS = {Tier.FAST: 0.020, Tier.MEDIUM: 0.050, Tier.SLOW: 0.200}
_JUDGED_READINGS = 5
_NEVER = float("-inf")


class _Timed:
    """One sensor of one device: when it's due, and what it has cost."""

    def __init__(self, sensor: Sensor) -> None:
        self.sensor = sensor
        self.tier = sensor.tier
        self.due = _NEVER
        self._seconds: deque[float] = deque(maxlen=_JUDGED_READINGS)

    def took(self, seconds: float) -> float | None:
        """Note a cost; the median when it's beyond the budget: the sensor has a slower tier now."""
        self._seconds.append(seconds)
        budget = BUDGET_SECONDS.get(self.tier)
        if budget is None or seconds <= budget or len(self._seconds) < _JUDGED_READINGS:
            return None
        median = statistics.median(self._seconds)
        if median <= budget:
            return None
        self.tier = Tier(self.tier + 1)
        self._seconds.clear()
        return median


class PacedReader:
    """The values of one device: each the newest that there is, until its sensor is due again."""

    def __init__(self, asked: Asked, sensors: Iterable[Sensor], *, stagger: float) -> None:
        """``stagger`` (0 to 1) is how far into a period the second reading comes, so that not all
        devices of a node are asked for the costly things at once."""
        self.asked = asked
        self.values: dict[str, Any] = {}
        self._timed = [_Timed(sensor) for sensor in sensors]
        self._stagger = stagger

    def read(self, nvml: Nvml, now: float, *, fresh: bool = False) -> list[str]:
        """Read what is due; which sensors are slowed down from now on, in words.

        ``fresh``: also what tells who uses the device, due or not.

        Raises:
            DeviceLostError, DriverConfusedError: the values are of no use any more.
        """
        complaints = []
        for timed in self._timed:
            if now < timed.due and not (fresh and timed.sensor.name in USE_SENSORS):
                continue
            sensor = timed.sensor
            began = time.perf_counter()
            try:
                answer = sensor.read(nvml, self.asked)
            except UnansweredError:
                for field in sensor.fields:
                    self.values.pop(field, None)  # unknown for now, and not without a sensor
            else:
                self.values.update(
                    zip(sensor.fields, answer or (None,) * len(sensor.fields), strict=True)
                )
            median = timed.took(time.perf_counter() - began)
            period = PERIOD_SECONDS[timed.tier]
            if median is not None:
                complaints.append(
                    f"{sensor.name} of {self.asked.key} takes {median * 1000:.0f} ms to read: it's"
                    f" read every {period:g} s only"
                )
            timed.due = now + (period * (self._stagger if timed.due == _NEVER else 1.0))
        return complaints

    def unsupported(self) -> tuple[str, ...]:
        """Fields that the device has no sensor for."""
        return tuple(sorted(field for field, value in self.values.items() if value is None))
