"""Bands: how well founded each task's claim to the cluster is, by the shares of its queue."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum

from solver.shares.entitlements import Entitlement, Quantities


class Band(IntEnum):
    """From the weakest claim to the strongest. A waiting task displaces only what is below it, so
    one that isn't within its queue's share of now and by history displaces nobody."""

    BORROWING = 0
    """It waits, beyond its queue's entitlement, whether by the shares of now or by history."""
    PUT_OFF = 1
    """It waits, within the entitlement of now, but its queue has had more than its part lately."""
    DUE = 2
    """It waits, beyond the entitlement of now, but its queue has had less than its part lately."""
    HELD = 3
    """It runs, beyond its queue's entitlement of now: it may stay until somebody is entitled."""
    ENTITLED = 4
    GUARANTEED = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """A task as the shares see it."""

    task: str
    queue: str
    needs: tuple[Quantities, ...]
    """What it holds, or each of the ways in which it could be had (one for each model of GPU that
    it may get); dimension -> quantity. At least one."""
    runs: bool
    fixed: bool = False
    """It runs and nothing can end it now, so what it holds comes off its queue's share first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shares:
    """What each queue's own tasks may hold, in three senses."""

    guaranteed: Mapping[str, Entitlement]
    now: Mapping[str, Entitlement]
    by_history: Mapping[str, Entitlement]


def bands(standings: Sequence[Standing], shares: Shares) -> dict[str, Band]:
    """By task, its band (Q4). ``standings`` are in the order in which a queue's tasks have its
    share: by priority, what runs before what waits, by age. A waiting task that doesn't fit into
    what is left of the share is passed over, and those after it may still fit. What runs uses the
    share up, fit or not: nobody of its own queue displaces it but by a higher priority.
    """
    found: dict[str, Band] = {}
    left = _Left(shares.guaranteed), _Left(shares.now), _Left(shares.by_history)
    for one in (*_fixed(standings, fixed=True), *_fixed(standings, fixed=False)):
        if one.fixed:
            for share in left:
                share.take_anyway(one)
            found[one.task] = Band.HELD  # no more than a name: nothing can end it
            continue
        is_guaranteed, is_now, is_by_history = (share.take(one) for share in left)
        if is_guaranteed:
            found[one.task] = Band.GUARANTEED
        elif is_now and (is_by_history or one.runs):
            found[one.task] = Band.ENTITLED
        elif one.runs:
            found[one.task] = Band.HELD
        elif is_by_history:
            found[one.task] = Band.DUE
        else:
            found[one.task] = Band.PUT_OFF if is_now else Band.BORROWING
    return found


def _fixed(standings: Iterable[Standing], *, fixed: bool) -> Iterable[Standing]:
    return (one for one in standings if one.fixed is fixed)


class _Left:
    """What is left of each queue's share in one sense as its tasks are walked."""

    def __init__(self, share: Mapping[str, Entitlement]) -> None:
        self._left = {queue: dict(one.own) for queue, one in share.items()}

    def take(self, one: Standing) -> bool:
        """Whether it fits in one of its ways. Takes that off; of what runs in any case."""
        left = self._left[one.queue]
        for need in one.needs:
            if all(left.get(dimension, 0) >= quantity for dimension, quantity in need.items()):
                self._off(left, need)
                return True
        if one.runs:
            self.take_anyway(one)
        return False

    def take_anyway(self, one: Standing) -> None:
        self._off(self._left[one.queue], one.needs[0])

    @staticmethod
    def _off(left: dict[str, int], need: Quantities) -> None:
        for dimension, quantity in need.items():
            left[dimension] = left.get(dimension, 0) - quantity
