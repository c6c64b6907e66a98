"""Thousands of schedules of crashes between any two steps, around the agent's real core.

Cheap beside those on real processes (test_schedules.py), so that many more are tried; what a shim
and a disk do is the world's word here, and proven there. ``SOAK_CORE_SEED=n`` plays one alone.
"""

import os
from collections.abc import Iterable

import pytest

from tests.chaos.world import World

SCHEDULES, LOTS, STEPS = 1_000, 10, 150
SOAK_SCHEDULES = 100 * int(os.environ.get("SOAK_SCHEDULES", "200"))
_ALONE = os.environ.get("SOAK_CORE_SEED")


def faults(seeds: Iterable[int]) -> dict[int, str]:
    """What was found, by the seed."""
    found = {}
    for seed in seeds if _ALONE is None else [int(_ALONE)]:
        try:
            World(seed).run(STEPS)
        except AssertionError as error:
            found[seed] = str(error)
    return found


@pytest.mark.parametrize("lot", range(LOTS))
def test_no_crash_between_two_steps_doubles_loses_or_leaks_an_attempt(lot: int) -> None:
    assert faults(range(lot, SCHEDULES, LOTS)) == {}


@pytest.mark.soak
@pytest.mark.timeout(max(180, SOAK_SCHEDULES // 100))
@pytest.mark.parametrize("lot", range(LOTS))
def test_no_crash_does_in_many_more_schedules(lot: int) -> None:
    assert faults(range(SCHEDULES + lot, SCHEDULES + SOAK_SCHEDULES, LOTS)) == {}
