"""Who starts when: the waiting tasks in their order, each at its earliest start, in many draws of
how long everybody takes. Pure: a :class:`TimeQuestion` in, a :class:`TimePlan` out.

``planning.time_plan`` answers; it isn't imported here, for it brings compiled code along.
"""

from solver.scheduling.timeplan.outcome import HeldRoom, Start, TimePlan, Use, held
from solver.scheduling.timeplan.question import FRACTIONS, TimeQuestion, Window

__all__ = [
    "FRACTIONS",
    "HeldRoom",
    "Start",
    "TimePlan",
    "TimeQuestion",
    "Use",
    "Window",
    "held",
]
