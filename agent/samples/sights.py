"""What one look at this machine has shown, for those who judge by it now: before it was folded into
rows, and with the pids in it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from agent.events import Moment
from telemetry.probes.tasks import TaskReading
from telemetry.samples import DeviceSample, Inventory


@dataclass(frozen=True, slots=True, kw_only=True)
class Sight:
    """One look. What is missing is unknown, never zero."""

    at: Moment
    inventory: Inventory
    devices: Mapping[str, DeviceSample] = field(default_factory=dict)
    """By UUID, as the probe has them."""
    fresh_at: Mapping[str, float] = field(default_factory=dict)
    """Devices that were looked at anew, and when that was asked for on the monotonic clock. Of the
    others, who uses them may be some seconds old."""
    tasks: Mapping[str, TaskReading] = field(default_factory=dict)
    """By allocation."""
