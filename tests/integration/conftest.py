"""A service of each test's own, on both databases where the test takes ``service``."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.service import Service, running


@pytest.fixture
async def service(tmp_path: Path, database_url: str) -> AsyncIterator[Service]:
    async with running(tmp_path / "home", database_url) as service:
        yield service


@pytest.fixture
async def sqlite_service(tmp_path: Path) -> AsyncIterator[Service]:
    """For what can't depend on the database."""
    async with running(tmp_path / "home") as service:
        yield service
