"""The heuristic: a genetic search in compiled code, run in steps between looks at the clock."""

import numpy as np

from solver.arrays import Ints
from solver.compiled import places as at
from solver.compiled.breeding import breed, populate
from solver.deadline import Deadline
from solver.scheduling.projects.arrays import ProjectArrays

MEMBERS = 100
"""Of 40, 60, 100 and 300 members 100 came furthest on j120 in 4 s: 4.1 % above the best known, with
60 5.3 %."""
FEWEST_MEMBERS = 4
POPULATE_RATIO = 0.3
"""How much of its time drawing the first members may take."""
STEP = 100_000
"""Tasks decoded between two looks at the clock, three times each: some 50 ms."""
DECODED_PER_SECOND = 2_000_000
"""What a second of the deterministic budget is worth, in tasks."""


class GeneticSearch:
    """One population. Its members are schedules that break no rule but, perhaps, deadlines."""

    def __init__(self, arrays: ProjectArrays, seed: int) -> None:
        self.arrays = arrays
        n = len(arrays.names)
        self._memory = np.zeros(at.HEAD, dtype=np.int64)
        self._memory[at.RANDOM] = ((seed + 1) * 0x9E3779B97F4A7C15) % 2**62 | 1
        self._rules = (arrays.heads, arrays.deadlines, arrays.weights)
        self._starts = np.zeros((MEMBERS + 1, n), dtype=np.int64)
        self._values = np.zeros((MEMBERS + 1, 2), dtype=np.int64)
        self._members = 0

    @property
    def starts(self) -> Ints:
        """[n] The best member's."""
        return self._starts[self._best()].copy()

    @property
    def lateness(self) -> int:
        """By how much the best member misses deadlines, all in all."""
        return int(self._values[self._best(), 0])

    @property
    def value(self) -> int:
        """The best member's objective."""
        return int(self._values[self._best(), 1])

    def run(self, deadline: Deadline, seconds: float, bound: int) -> None:
        """Searches for so long; ends early where the bound is met. The first member is drawn
        whatever the time.
        """
        until = deadline.left() - seconds
        self._populate(deadline, deadline.left() - POPULATE_RATIO * seconds, bound)
        if self._members < FEWEST_MEMBERS:
            return
        step = max(1, STEP // len(self.arrays.names))
        starts, values = self._starts[: self._members + 1], self._values[: self._members + 1]
        if self._members < MEMBERS:
            starts, values = starts.copy(), values.copy()
        network, mirror = self.arrays.network, self.arrays.mirror
        while deadline.left() > until and not self._is_met(bound):
            taken = breed(self._memory, network, mirror, self._rules, starts, values, step)
            self._starts[: self._members], self._values[: self._members] = starts[:-1], values[:-1]
            self._charge(deadline, step)
            if taken == 0 and step * len(self.arrays.names) >= STEP and self._is_alike():
                return

    def _populate(self, deadline: Deadline, until: float, bound: int) -> None:
        network, mirror = self.arrays.network, self.arrays.mirror
        step = max(1, STEP // len(self.arrays.names) // 10)
        while self._members < MEMBERS and (
            self._members == 0 or (deadline.left() > until and not self._is_met(bound))
        ):
            first, last = self._members, min(MEMBERS, self._members + step)
            args = (self._rules, self._starts, self._values, first, last)
            populate(self._memory, network, mirror, *args)
            self._members = last
            self._charge(deadline, last - first)

    def _best(self) -> int:
        values = self._values[: self._members]
        return int(np.lexsort((values[:, 1], values[:, 0]))[0])

    def _is_met(self, bound: int) -> bool:
        return self.lateness == 0 and self.value <= bound

    def _is_alike(self) -> bool:
        starts = self._starts[: self._members]
        return bool((starts == starts[0]).all())

    def _charge(self, deadline: Deadline, decoded: int) -> None:
        seconds = decoded * len(self.arrays.names) / DECODED_PER_SECOND
        deadline.charge(wall_seconds=seconds, deterministic_seconds=seconds)
