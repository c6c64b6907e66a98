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
STALE = 300
"""Children for each task without a better one, after which another population is drawn: on j60 a
second of the search, and seeds differ by 1 %."""
DECODED_PER_SECOND = 2_000_000
"""What a second of the deterministic budget is worth, in tasks."""


class GeneticSearch:
    """One population after the other. Their members are schedules that break no rule but, perhaps,
    deadlines.
    """

    def __init__(self, arrays: ProjectArrays, seed: int) -> None:
        self.arrays = arrays
        n = len(arrays.names)
        self._memory = np.zeros(at.HEAD, dtype=np.int64)
        self._memory[at.RANDOM] = ((seed + 1) * 0x9E3779B97F4A7C15) % 2**62 | 1
        self._rules = (arrays.heads, arrays.deadlines, arrays.weights)
        self._starts = np.zeros((MEMBERS + 1, n), dtype=np.int64)
        self._values = np.zeros((MEMBERS + 1, 2), dtype=np.int64)
        self._members = 0
        self._worth = (0, 0)
        """Lateness and objective of the best member of this population."""
        self._stale = 0
        """Children since it was last improved."""
        self._has_any = False
        self.starts: Ints = self._starts[0]
        """[n] The best schedule of all populations."""
        self.lateness = 0
        """By how much it misses deadlines, all in all."""
        self.value = 0
        """Its objective."""

    def run(self, deadline: Deadline, seconds: float, bound: int) -> None:
        """Searches for so long; ends early where the bound is met. The first member is drawn
        whatever the time.
        """
        until = max(0.0, deadline.left() - seconds)
        n = len(self.arrays.names)
        step = max(1, STEP // n)
        network, mirror = self.arrays.network, self.arrays.mirror
        while True:
            if self._members < MEMBERS:
                spare = deadline.left() - until
                self._populate(deadline, deadline.left() - POPULATE_RATIO * spare, bound)
            is_met = self.lateness == 0 and self.value <= bound
            if is_met or deadline.left() <= until or self._members < FEWEST_MEMBERS:
                return
            starts, values = self._starts[: self._members + 1], self._values[: self._members + 1]
            breed(self._memory, network, mirror, self._rules, starts, values, step)
            self._charge(deadline, step)
            self._stale += step
            self._note()
            if self._stale > STALE * n:
                self._members = 0

    def _populate(self, deadline: Deadline, until: float, bound: int) -> None:
        """Draws members until there are enough or time is up, but one at least."""
        network, mirror = self.arrays.network, self.arrays.mirror
        step = max(1, STEP // len(self.arrays.names) // 10)
        while self._members < MEMBERS:
            first, last = self._members, min(MEMBERS, self._members + step)
            args = (self._rules, self._starts, self._values, first, last)
            populate(self._memory, network, mirror, *args)
            self._members = last
            self._charge(deadline, last - first)
            self._note(is_new=first == 0)
            if deadline.left() <= until or (self.lateness == 0 and self.value <= bound):
                return

    def _note(self, *, is_new: bool = False) -> None:
        """Keeps the best member if it's better than what was."""
        values = self._values[: self._members]
        best = int(np.lexsort((values[:, 1], values[:, 0]))[0])
        worth = (int(values[best, 0]), int(values[best, 1]))
        if is_new or worth < self._worth:
            self._worth, self._stale = worth, 0
        if not self._has_any or worth < (self.lateness, self.value):
            self._has_any = True
            self.lateness, self.value = worth
            self.starts = self._starts[best].copy()

    def _charge(self, deadline: Deadline, decoded: int) -> None:
        seconds = decoded * len(self.arrays.names) / DECODED_PER_SECOND
        deadline.charge(wall_seconds=seconds, deterministic_seconds=seconds)
