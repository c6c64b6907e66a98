"""A home of the test's own, in which nothing is left at its end."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.command import Installation, nothing_left


@pytest.fixture
def installation(tmp_path: Path) -> Iterator[Installation]:
    """The command in an empty home. Afterwards no process of it is left, tasks included."""
    installation = Installation(tmp_path / "stowplan")
    try:
        yield installation
    finally:
        installation.close()
    nothing_left(tmp_path)
