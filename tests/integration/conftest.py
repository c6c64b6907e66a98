"""A service of each test's own, on both databases where the test takes ``service``."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.service import ManualClock, Service, running


@pytest.fixture
async def service(tmp_path: Path, database_url: str) -> AsyncIterator[Service]:
    async with running(tmp_path / "home", database_url) as service:
        yield service


@pytest.fixture
async def sqlite_service(tmp_path: Path) -> AsyncIterator[Service]:
    """For what can't depend on the database."""
    async with running(tmp_path / "home") as service:
        yield service


@pytest.fixture
def clock() -> ManualClock:
    """Of the services that take it: time passes when the test says so."""
    return ManualClock()


@pytest.fixture
async def timed(tmp_path: Path, database_url: str, clock: ManualClock) -> AsyncIterator[Service]:
    """With short leases, and nothing that looks at the clock for other reasons."""
    async with running(
        tmp_path / "home",
        database_url,
        clock,
        lease_seconds=100,
        lease_margin_seconds=10,
        unreachable_after_seconds=15,
        watch_interval_seconds=3_600,
    ) as service:
        yield service
