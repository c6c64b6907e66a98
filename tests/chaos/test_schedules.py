"""Fifty schedules of blows on real processes; `make soak` runs a thousand.

A schedule is its seed: ``SOAK_SEED=17 make test ARGS=tests/chaos`` plays number 17 alone.
"""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.chaos.running import run
from tests.chaos.schedule import schedule_of
from tests.chaos.stand import Stand

SCHEDULES = 50
_ALONE = os.environ.get("SOAK_SEED")
SEEDS = range(SCHEDULES) if _ALONE is None else [int(_ALONE)]


@pytest.fixture(scope="module")
def stand(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stand]:
    """One for all the schedules of this test process."""
    folder: Path = tmp_path_factory.mktemp("stand")
    with Stand(folder) as stand:
        yield stand


@pytest.mark.timeout(300)  # the first one waits for the stand
@pytest.mark.parametrize("seed", SEEDS)
def test_nothing_starts_twice_is_left_behind_or_loses_its_exit(seed: int, stand: Stand) -> None:
    outcome = run(schedule_of(seed), stand)
    assert [f"{found.fault}: {found.text}" for found in outcome.findings] == [], (
        f"SOAK_SEED={seed} plays it again"
    )
