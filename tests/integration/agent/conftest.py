"""An agent as a process, against a service that the test scripts."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.processes import kill_marked
from agent.runtime import MARK
from tests.agent_node import Node
from tests.agent_service import AgentService, serving
from tests.nvml.build import build


@pytest.fixture
def service() -> Iterator[AgentService]:
    with serving() as service:
        yield service


@pytest.fixture
def node(service: AgentService, tmp_path: Path) -> Iterator[Node]:
    """A machine on which nothing may be left once its agents have ended."""
    node = Node(service, tmp_path)
    yield node
    node.end()
    left = node.alive()
    for attempt in node.attempts():
        while kill_marked(MARK, str(attempt)):
            pass
    assert left == [], node.log.read_text()


@pytest.fixture(scope="session")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A stand-in for NVML, under the real pynvml."""
    try:
        return build(tmp_path_factory.mktemp("nvml"))
    except FileNotFoundError as error:
        pytest.skip(str(error))
