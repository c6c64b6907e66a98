"""Classes of tasks, merged to groups that are few enough for the linear program.

The program only proposes prices, so a group may stand for its tasks by their mean: nothing that is
rounded here can make a bound wrong.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from solver.arrays import Ints
from solver.highs.classes import numbered
from solver.highs.patterns import Pattern, grouped, patterns
from solver.highs.prices import Ledger
from solver.problem import WHOLE_DEVICE_MILLI

Floats = npt.NDArray[np.float64]

MOST_GROUPS = 1500
"""More classes than this are merged."""
MOST_COLUMNS = 34_000
LEAST_REPLICA_COLUMNS = 8000
"""What patterns leave of the columns is for pairs of groups with classes of devices, at least so
many.
"""
MOST_PATTERNS = 40_000
"""Patterns times classes of devices."""
MOST_OF_A_DEVICE = 4000
"""Patterns of one room."""
MOST_SIZES = 32


@dataclass(frozen=True, slots=True)
class Groups:
    """G groups of classes of tasks, for the program: rows of equal eligibility, near in need."""

    group: Ints
    """[classes] -1 for those without any room."""
    need: Floats
    """[G, K] mean, in units."""
    weight: Floats
    memory: Floats
    """[G] mean, in units."""
    milli: Floats
    """[G] mean."""
    most: Floats
    fewest: Floats
    """[G] replicas."""
    first: Ints
    """[G] one class of each group."""


def size_row(sizes: list[int], milli: Ints) -> Ints:
    """Index of the group of sizes (their smallest, falling) that holds a share of so many milli."""
    rising = np.array(sizes[::-1], dtype=np.int64)
    return len(rising) - np.searchsorted(rising, milli, side="right")


def sizes_of(
    ledger: Ledger, rooms: Mapping[int, int]
) -> tuple[list[int], dict[int, list[Pattern]]]:
    """Smallest size of each group of shares, falling, and the patterns of each room.

    ``rooms`` says how many classes of devices have that room. As many groups as the patterns allow.
    """
    rows = np.flatnonzero(ledger.is_share & ledger.has_room)
    if not len(rows):
        return [], {}
    most = np.array([ledger.demand.most[c] for c in rows.tolist()], dtype=np.float64)
    count = _sums(ledger.milli[rows], most, WHOLE_DEVICE_MILLI)
    sizes = np.array(sorted(set(ledger.milli[rows].tolist())), dtype=np.int64)
    # Lifting makes up for some of what is lost on sizes that a device holds one of.
    loss = count[sizes] * np.where(sizes > WHOLE_DEVICE_MILLI // 2, 0.5, 1.0)
    groups = min(MOST_SIZES, len(sizes))
    while True:
        chosen = grouped(sizes, loss, groups)
        demand = _sums(size_row(chosen, sizes), count[sizes], len(chosen)).astype(np.int64).tolist()
        found = _patterns(chosen, demand, rooms)
        if found is not None or groups == 1:
            return chosen, found or {}
        groups -= max(1, groups // 16)


def _patterns(
    sizes: list[int], demand: list[int], rooms: Mapping[int, int]
) -> dict[int, list[Pattern]] | None:
    """The patterns of all rooms, None if they are too many columns."""
    left = MOST_PATTERNS
    found = {}
    for room, classes in rooms.items():
        most = min(MOST_OF_A_DEVICE, left // max(1, classes))
        few_enough = patterns(sizes, demand, room, most)
        if few_enough is None:
            return None
        found[room] = few_enough
        left -= classes * len(few_enough)
    return found


def groups_of(ledger: Ledger, sizes: list[int], pattern_columns: int) -> Groups:
    """The finest of a few ways to merge classes that makes few enough columns."""
    demand = ledger.demand
    rows = np.flatnonzero(ledger.has_room)
    most = np.array([demand.most[c] for c in rows.tolist()], dtype=np.float64)
    fewest = np.array([demand.fewest[c] for c in rows.tolist()], dtype=np.float64)
    size = np.where(ledger.is_share[rows], size_row(sizes, ledger.milli[rows]), -1)
    where, _ = numbered(np.column_stack([ledger.on_nodes[rows], ledger.on_devices[rows]]))
    key = [demand.level[rows], where, ledger.gpus[rows], size, demand.limit_need[rows]]
    need = ledger.need[rows]
    exact = np.column_stack([need, ledger.memory[rows]])
    fraction, exponent = np.frexp(exact.astype(np.float64))
    steps = [exponent * b + np.floor(2 * b * fraction).astype(np.int64) for b in (8, 4, 2, 1)]
    finer = [[exact, ledger.milli[rows]], *([step] for step in steps), []]
    room = ledger.on_nodes[rows].sum(axis=1), ledger.on_devices[rows].sum(axis=1)
    columns = np.where(ledger.gpus[rows] > 0, room[1], room[0])
    most_columns = max(LEAST_REPLICA_COLUMNS, MOST_COLUMNS - pattern_columns)
    number, first = np.zeros(0, np.int64), np.zeros(0, np.int64)
    for extra in finer:
        number, first = numbered(np.column_stack([*key, *extra]))
        if len(first) <= MOST_GROUPS and columns[first].sum() <= most_columns:
            break
    total = _sums(number, most, len(first))
    share = most / np.maximum(total, 1e-9)[number]
    group = np.full(len(ledger.has_room), -1, dtype=np.int64)
    group[rows] = number
    return Groups(
        group=group,
        need=np.column_stack(
            [_sums(number, need[:, k] * share, len(first)) for k in range(need.shape[1])]
        ),
        weight=_sums(number, ledger.weight[rows] * share, len(first)),
        memory=_sums(number, ledger.memory[rows] * share, len(first)),
        milli=_sums(number, ledger.milli[rows] * share, len(first)),
        most=total,
        fewest=_sums(number, fewest, len(first)),
        first=rows[first],
    )


def _sums(number: Ints, values: Floats, length: int) -> Floats:
    """The sum of the values of each number."""
    return np.bincount(number, weights=values, minlength=length).astype(np.float64)
