"""How long a task is going to run, from how long those like it ran.

docs/model.md, section "Durations", has the formulas; docs/decisions/0007-durations.md what else was
measured. A model says the same for ever, to any thread; what it has worked out it remembers.
"""

import math
from bisect import bisect_left
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from app.durations.correction import Correction, check
from app.durations.distribution import Distribution
from app.durations.knowledge import Knowledge, Run
from app.durations.shapes import LEVELS, Shape, shape_of
from protocol.task import Kind, TaskSpec

FRACTIONS = tuple(round(0.05 + 0.1 * step, 2) for step in range(10))
"""At which a forecast has its quantiles."""
RUNS_MIN = {"queue": 10, "cluster": 10}
"""Of runs that have no more in common than that it takes so many to say anything."""
_LIKE_MIN = 3
_REMEMBERED_MAX = 20_000
_FRACTIONS = np.array(FRACTIONS)


@dataclass(frozen=True, slots=True, kw_only=True)
class Forecast:
    """How long a task runs in all, from its start, given how long it has run already."""

    seconds: tuple[float, ...]
    """Quantiles at ``FRACTIONS``, none less than the one before, each more than has elapsed."""
    source: str
    """``history`` (runs of its script), ``queue`` or ``cluster`` (of anything there), or ``limit``
    (the user's word alone)."""
    like: int
    """How many runs it rests on."""
    text: str

    def quantile(self, fraction: float) -> float:
        """Between the fractions geometrically; beyond them the outermost."""
        found = float(np.exp(np.interp(fraction, _FRACTIONS, np.log(self.seconds))))
        above = bisect_left(FRACTIONS, fraction)
        low, high = self.seconds[max(above - 1, 0)], self.seconds[min(above, len(FRACTIONS) - 1)]
        return min(max(found, low), high)  # rounding would take it beyond a limit


class Model:
    """Everything known at one moment."""

    def __init__(self, knowledge: Knowledge, correction: Correction | None) -> None:
        self._knowledge = knowledge
        self._correction = correction
        self._remembered: dict[Shape, _Known | None] = {}

    @classmethod
    def fit(cls, runs: Iterable[Run]) -> "Model":
        """From runs in any order. Takes well below a second for 20,000."""
        knowledge = Knowledge(runs)
        return cls(knowledge, check(knowledge))

    @property
    def runs(self) -> int:
        """How many it was made from."""
        return len(self._knowledge)

    def forecast(self, spec: TaskSpec, *, elapsed_seconds: float = 0.0) -> Forecast | None:
        """None: nothing is known of it, or it's a service.

        Args:
            spec: Its ``duration_seconds`` is the user's limit: no quantile is beyond it, until the
                task itself is.
            elapsed_seconds: For how long it has run (docs/model.md, D7); below 0 is as 0.

        Raises:
            ValueError: ``elapsed_seconds`` isn't a number.
        """
        if not math.isfinite(elapsed_seconds):
            raise ValueError(f"elapsed_seconds is {elapsed_seconds}: give a number")
        if spec.kind is Kind.SERVICE:
            return None
        elapsed = max(elapsed_seconds, 0.0)
        limit = spec.duration_seconds
        if limit is not None and limit <= elapsed:
            limit = None  # it has shown itself wrong: nobody ends the task for it
        known = self._known(shape_of(spec))
        if known is None:
            return _from_limit(spec.duration_seconds, limit, elapsed)
        seconds = known.distribution.quantiles(_FRACTIONS, elapsed_seconds=elapsed)
        if limit is not None:
            seconds = np.minimum(seconds, limit)
        found = Forecast(
            seconds=tuple(map(float, seconds)), source=known.source, like=known.like, text=""
        )
        return _with_text(found, known.level, limit, elapsed)

    def _known(self, shape: Shape) -> "_Known | None":
        # Threads may ask at once: each look gives the same, and none is read back.
        known = self._remembered.get(shape, _NEVER_ASKED)
        if known is _NEVER_ASKED:
            known = self._look(shape)
            if len(self._remembered) >= _REMEMBERED_MAX:
                self._remembered.clear()
            self._remembered[shape] = known
        return known

    def _look(self, shape: Shape) -> "_Known | None":
        counts = [self._knowledge.like(shape, level) for level in range(len(LEVELS))]
        enough = [
            level for level, count in enumerate(counts) if count >= RUNS_MIN.get(LEVELS[level], 1)
        ]
        if not enough:
            return None
        raw = self._knowledge.distribution(shape)
        assert raw is not None  # noqa: S101 - there are runs
        # A single run of the very same kind is told of only if there's nothing more.
        level = next((one for one in enough if counts[one] >= _LIKE_MIN), enough[0])
        return _Known(
            distribution=raw if self._correction is None else self._correction.apply(raw),
            level=LEVELS[level],
            like=counts[level],
        )


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class _Known:
    distribution: Distribution
    level: str
    """What the runs that are counted have in common with the task."""
    like: int

    @property
    def source(self) -> str:
        return self.level if self.level in RUNS_MIN else "history"


_NEVER_ASKED = _Known(
    distribution=Distribution(logs=np.empty(0), below=np.empty(0)), level="", like=0
)
_LIKENESS = {
    "exact": "{} of the very same command",
    "variant": "{} like it",
    "command": "{} with the same options",
    "script": "{} of the same script",
    "queue": "never seen; of {} of its queue",
    "cluster": "never seen; of {} of any kind",
}


def _with_text(found: Forecast, level: str, limit: float | None, elapsed: float) -> Forecast:
    runs = f"{found.like} run{'' if found.like == 1 else 's'}"
    text = f"{_LIKENESS[level].format(runs)}; "
    if elapsed:
        text += f"it has run {in_words(elapsed)}; "
    within = in_words(found.quantile(0.9))
    bound = limit is not None and found.seconds[-1] >= limit
    text += f"in nine cases of ten over within {within}{', its limit at most' if bound else ''}"
    return Forecast(seconds=found.seconds, source=found.source, like=found.like, text=text)


def _from_limit(given: float | None, limit: float | None, elapsed: float) -> Forecast | None:
    """D8: with nothing but the user's word it's taken to run to its limit, no sooner; once it has
    outlived that, it's as likely to run for as long again as not to."""
    if given is None:
        return None
    if limit is not None:
        seconds = (limit,) * len(FRACTIONS)
        text = f"no history; taken to run to its limit, {in_words(limit)}"
    else:
        seconds = tuple(elapsed / (1 - fraction) for fraction in FRACTIONS)
        text = f"no history; it has outlived its limit, {in_words(given)}: nobody knows"
    return Forecast(seconds=seconds, source="limit", like=0, text=text)


def in_words(seconds: float) -> str:
    """``45 s``, ``12 min``, ``2 h 10 min``, ``3 d 4 h``."""
    if seconds < 99.5:
        return f"{seconds:.0f} s" if seconds >= 9.5 else f"{seconds:.1f} s"
    minutes = round(seconds / 60)
    if minutes < 60:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    if hours < 48:
        return f"{hours} h {minutes} min" if minutes else f"{hours} h"
    days, hours = divmod(hours, 24)
    return f"{days} d {hours} h" if hours else f"{days} d"
