"""What tasks are expected: those that came so far, each shape by how often it did."""

from collections import Counter
from dataclasses import dataclass
from math import log2

import numpy as np

from solver.compiled.online import DIMENSIONS, HUGE, WHOLE, Demand
from solver.compiled.worth import price_rests

MOST_EXPECTED = 96
"""So many shapes are told apart; of more, those that are nearly alike count as one."""
TOTAL_WEIGHT = 4096
REST_WEIGHT = 16 * 4 * TOTAL_WEIGHT
"""(I2) decides, (I1) between what it finds nearly equal."""
MOST_SIZES = 64
STEP_MILLI = 20
"""More sizes of shares than that are rounded up to such steps."""
VECTOR = 32
MEMORY_OF = 1 << 15
"""After so many tasks all counts are halved: what came lately says more about what will."""


@dataclass(frozen=True, slots=True)
class Expected:
    """One shape of the demand, and the rules by which nodes and devices accept it."""

    need: tuple[int, ...]
    gpus: int
    milli: int
    memory_mib: int
    node_rule: int
    device_rule: int


_NOTHING = Expected(
    need=(0,) * DIMENSIONS, gpus=1, milli=WHOLE, memory_mib=0, node_rule=0, device_rule=0
)


class Expectation:
    """Counts the tasks that came. Only the past is known, and only sizes are kept."""

    def __init__(self) -> None:
        self._counts: Counter[Expected] = Counter()
        self._seen = 0
        self._due = 1

    def count(self, shape: Expected, tasks: int = 1) -> None:
        """Tasks of this shape have come. Those without GPUs say nothing about GPUs' use."""
        self._seen += tasks
        if shape.gpus:
            self._counts[shape] += tasks
        if self._seen >= MEMORY_OF:
            halves = {expected: count // 2 for expected, count in self._counts.items()}
            self._counts = Counter({expected: count for expected, count in halves.items() if count})
            self._seen //= 2
            self._due = self._seen

    @property
    def is_due(self) -> bool:
        """True when so much has come since the last ``demand`` that it should be drawn up anew."""
        return self._seen >= self._due

    def demand(self, node_accepts: np.ndarray, device_accepts: np.ndarray) -> Demand:
        """The demand as arrays, for nodes and devices that accept by these rules."""
        self._due = max(self._seen + 1, 2 * self._seen if self._seen < 1000 else 4 * self._seen)
        chosen = self._typical()
        shapes = list(chosen)
        total = sum(chosen.values())
        counts = [max(1, round(TOTAL_WEIGHT * count / total)) for count in chosen.values()]
        # Compiled loops run over whole vectors: rows without weight fill the last one up.
        padding = -len(shapes) % VECTOR or VECTOR * (not shapes)
        shapes += [_NOTHING] * padding
        blocks = [s.gpus * WHOLE if s.gpus > 1 else 0 for s in shapes]
        need = np.ascontiguousarray(np.array([s.need for s in shapes], dtype=np.float64).T)
        asked = np.array([s.gpus * s.milli for s in shapes], dtype=np.float64)
        return Demand(
            weight=np.array([*counts, *[0] * padding], dtype=np.float64),
            milli=np.array([s.milli for s in shapes], dtype=np.float64),
            memory=np.array([s.memory_mib for s in shapes], dtype=np.float64),
            block=np.array(blocks, dtype=np.float64),
            need=need,
            rate=np.divide(asked, need, out=np.zeros_like(need), where=need > 0),
            boundless=np.where(need > 0, 0.0, HUGE),
            asked=np.array([row.any() for row in need], dtype=np.uint8),
            node_accepts=_columns(node_accepts, [s.node_rule for s in shapes]),
            device_accepts=_columns(device_accepts, [s.device_rule for s in shapes]),
            rest=self._rests(),
        )

    def _typical(self) -> dict[Expected, int]:
        """The shapes by which the demand is judged: all, or the most frequent after merging."""
        if len(self._counts) <= MOST_EXPECTED:
            return dict(self._counts)
        merged: dict[tuple[int, ...], Counter[Expected]] = {}
        for shape, count in self._counts.items():
            merged.setdefault(_coarse(shape), Counter())[shape] += count
        groups = {max(group, key=group.__getitem__): group.total() for group in merged.values()}
        return dict(sorted(groups.items(), key=lambda item: -item[1])[:MOST_EXPECTED])

    def _rests(self) -> np.ndarray:
        """(I2) for each number of free milli, on the scale of (I1)."""
        asked: Counter[int] = Counter()
        for shape, count in self._counts.items():
            asked[shape.milli] += count * shape.gpus
        if len(asked) > MOST_SIZES:
            rounded: Counter[int] = Counter()
            for milli, count in asked.items():
                rounded[min(WHOLE, -(-milli // STEP_MILLI) * STEP_MILLI)] += count
            asked = rounded
        sizes = sorted(asked)
        worth = np.zeros(WHOLE + 1)
        price_rests(
            np.array(sizes, dtype=np.int64),
            np.array([asked[milli] for milli in sizes], dtype=np.float64) / max(1, asked.total()),
            worth,
        )
        return REST_WEIGHT * np.rint(np.arange(WHOLE + 1) - WHOLE * worth)


def _coarse(shape: Expected) -> tuple[int, ...]:
    """Equal for shapes within ten milli and about a fifth of CPU and memory."""
    return (
        shape.gpus,
        -(-shape.milli // 10),
        shape.memory_mib.bit_length(),
        shape.node_rule,
        shape.device_rule,
        *(round(4 * log2(need)) if need else -1 for need in shape.need),
    )


def _columns(accepts: np.ndarray, rules: list[int]) -> np.ndarray:
    """[rules, things] as [things, shapes]"""
    return np.ascontiguousarray(accepts[rules].T, dtype=np.float64)
