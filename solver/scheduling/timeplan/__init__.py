"""Who starts when: the waiting tasks in their order, each at its earliest start, in many draws of
how long everybody takes. Pure: a :class:`TimeQuestion` in, a :class:`TimePlan` out.
"""

from solver.scheduling.timeplan.outcome import HeldRoom, Start, TimePlan, Use, held
from solver.scheduling.timeplan.planning import time_plan
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
    "time_plan",
]
