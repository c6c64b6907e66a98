"""What is known of runs, and the distribution that it gives for a task.

Each run counts by how like the task it is and how recent (docs/model.md, D1 and D2), scaled by the
numbers of its command line (D3). What was known at any moment of the past can be asked for too:
so forecasts are checked against what became of them (D6).
"""

import math
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from app.durations.distribution import Distribution, Floats, product_limit
from app.durations.scaling import PowerLaw, fit, matrix
from app.durations.shapes import Shape

PARENT_RUNS = 1.0
"""What is known of less like runs weighs as much as so many that are more like: of n runs and
nothing else, one more is longer than all with probability 1 / (n + 1) (D2)."""
HALF_LIFE_RUNS = 20.0
"""A run counts half of one that many later among those like it."""
WINDOW_RUNS = 160
"""So many of a level are looked at: older ones count less than a 250th."""
_CHILDREN_FROM = 8 * WINDOW_RUNS
"""Among so many the newest of each kind is looked for."""
SECONDS_MIN = 0.1
_SCALED_LEVELS = 3
"""Those whose runs share program, script and option names."""

Rows = NDArray[np.intp]


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """A task that ran. ``started_at`` and ``over_at`` count seconds from any one moment."""

    shape: Shape
    started_at: float
    seconds: float
    """That it has run, over all attempts that carried on."""
    over_at: float | None
    """None: not over yet."""
    ended: bool
    """By itself. Otherwise it would have taken longer: it was cancelled, or still runs."""


class Knowledge:
    """The runs, and what they say of a shape."""

    def __init__(self, runs: Iterable[Run]) -> None:
        def order(run: Run) -> tuple[object, ...]:
            return run.started_at, run.shape.exact, run.seconds, run.ended, run.over_at or math.inf

        self._runs = runs = sorted(runs, key=order)
        self._started = np.array([run.started_at for run in runs], dtype=np.float64)
        self._seconds = np.array([max(run.seconds, SECONDS_MIN) for run in runs])
        self._ended = np.array([run.ended for run in runs], dtype=bool)
        self._over = np.array([math.inf if run.over_at is None else run.over_at for run in runs])
        self._numbers = [dict(run.shape.numbers) for run in runs]
        self._groups: dict[tuple[int, str], list[int]] = defaultdict(list)
        self._likes: dict[tuple[int, str], int] = defaultdict(int)
        self._numbered: dict[str, int] = {}
        numbered = self._numbered
        kinds: list[list[int]] = []
        for at, run in enumerate(runs):
            keys = (*run.shape.keys, "")
            for level, key in enumerate(keys):
                self._groups[level, key].append(at)
                self._likes[level, key] += run.ended
            # Of a queue and of the cluster the kinds are scripts.
            kinds.append([at, *(numbered.setdefault(key, len(numbered)) for key in keys[:4])])
        self._kinds = np.array(kinds, dtype=np.intp).reshape(len(runs), 5)
        self._laws: dict[str, tuple[list[str], PowerLaw | None]] = {}
        """Of commands that were asked for, as of now; below what they say of each run, and rows."""
        self._predicted = np.zeros(len(runs))
        self._now: dict[tuple[int, str], Rows] = {}

    def __len__(self) -> int:
        return len(self._runs)

    def newest(self, count: int) -> Sequence[Run]:
        """The last to start, in that order."""
        return self._runs[-count:]

    def like(self, shape: Shape, level: int) -> int:
        """How many runs of that level ended by themselves."""
        return self._likes.get((level, (*shape.keys, "")[level]), 0)

    def distribution(self, shape: Shape, as_of: float | None = None) -> Distribution | None:
        """D1 to D4: what was known at ``as_of`` of a run of this shape that started then, or what
        is known now. None: no run at all."""
        found: list[Rows] = []
        shifts: list[Floats] = []
        weights: list[Floats] = []
        left = 1.0
        scaled = self._scaled(shape, as_of)
        keys = (*shape.keys, "")
        for level, key in enumerate(keys):
            rows = self._rows(level, key, as_of)
            if level:  # of its own kind the level before has spoken
                own = self._numbered.get(keys[min(level, 4) - 1], -1)
                rows = rows[self._kinds[rows, min(level, 4)] != own]
            if not len(rows):
                continue
            recent = 0.5 ** (np.arange(len(rows)) / HALF_LIFE_RUNS)
            count = recent.sum()
            weights.append(recent * (left / (count + PARENT_RUNS)))
            left *= PARENT_RUNS / (count + PARENT_RUNS)
            found.append(rows)
            comparable = scaled if level < _SCALED_LEVELS else None
            shifts.append(np.zeros(len(rows)) if comparable is None else comparable(rows))
        if not found:
            return None
        at = np.concatenate(found)
        seconds, ended = self._seen(at, as_of)
        return product_limit(
            np.log(seconds) + np.concatenate(shifts), ended, np.concatenate(weights)
        )

    def _rows(self, level: int, key: str, as_of: float | None) -> Rows:
        """The runs of a level, newest first: in the most alike all, above of each kind the newest
        that ended (D2)."""
        if (level, key) not in self._groups:
            return np.empty(0, dtype=np.intp)
        if as_of is not None:
            return self._look_up(level, key, as_of)
        if (level, key) not in self._now:
            self._now[level, key] = self._look_up(level, key, None)
        return self._now[level, key]

    def _look_up(self, level: int, key: str, as_of: float | None) -> Rows:
        rows = self._before(self._groups[level, key], as_of)
        if level == 0:
            return np.array(rows[-WINDOW_RUNS:][::-1], dtype=np.intp)
        newest_first = np.array(rows[-_CHILDREN_FROM:][::-1], dtype=np.intp)
        if not len(newest_first):
            return newest_first
        _, ended = self._seen(newest_first, as_of)
        in_turn = np.concatenate([newest_first[ended], newest_first[~ended]])
        kinds = self._kinds[in_turn, min(level, 4)]
        _, first = np.unique(kinds, return_index=True)
        return np.sort(in_turn[first])[::-1][:WINDOW_RUNS]

    def _before(self, rows: list[int], as_of: float | None) -> list[int]:
        if as_of is None:
            return rows
        return rows[: bisect_left(rows, int(np.searchsorted(self._started, as_of)))]

    def _seen(self, rows: Rows, as_of: float | None) -> tuple[Floats, NDArray[np.bool_]]:
        """Seconds, and whether they ended, as they looked then."""
        seconds, ended = self._seconds[rows], self._ended[rows]
        if as_of is None:
            return seconds, ended
        over = self._over[rows] <= as_of
        so_far = np.maximum(np.minimum(seconds, as_of - self._started[rows]), SECONDS_MIN)
        return np.where(over, seconds, so_far), ended & over

    def _scaled(self, shape: Shape, as_of: float | None) -> Callable[[Rows], Floats] | None:
        """What to add to the logarithm of runs of the same command to make them this one's."""
        names, law = self._law(shape.command, as_of)
        if law is None:
            return None
        mine = law.predict(matrix(names, [dict(shape.numbers)]))[0]
        if as_of is None:
            return lambda rows: mine - self._predicted[rows]
        return lambda rows: mine - self._predict(names, law, rows)

    def _predict(self, names: list[str], law: PowerLaw, rows: Iterable[int]) -> Floats:
        return law.predict(matrix(names, [self._numbers[row] for row in rows]))

    def _law(self, command: str, as_of: float | None) -> tuple[list[str], PowerLaw | None]:
        if (2, command) not in self._groups:
            return [], None
        if as_of is None and command in self._laws:
            return self._laws[command]
        rows = np.array(self._before(self._groups[2, command], as_of)[-WINDOW_RUNS:], dtype=np.intp)
        seconds, ended = self._seen(rows, as_of)
        numbers = [self._numbers[row] for row in rows[ended]]
        names = sorted({name for one in numbers for name in one})
        logs = matrix(names, numbers)
        if numbers:
            varies = np.nanmax(logs, axis=0) > np.nanmin(logs, axis=0)
            names = [name for name, does in zip(names, varies, strict=True) if does]
            logs = logs[:, varies]
        law = fit(logs, np.log(seconds[ended])) if names else None
        if as_of is None:
            if law is not None:
                everything = self._groups[2, command]
                self._predicted[everything] = self._predict(names, law, everything)
            self._laws[command] = names, law  # last: another thread may look for it
        return names, law
