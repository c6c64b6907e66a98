"""Services are asked for real: a real agent, a real server that is up, wrong, slow or gone."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from protocol.desired import DesiredAllocation, Gang, Launch, Phase, StopCause
from protocol.report import AllocationState
from protocol.task import Check, Kind
from tests.agent_node import Node
from tests.agent_service import AgentService

# Answers by what the file `mood` in its working directory says: a status, or nothing at all.
SERVER = """
import http.server, os, pathlib, time
mood = pathlib.Path("mood")
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        status = mood.read_text()
        if status == "silent":
            time.sleep(60)
        self.send_response(int(status))
        self.end_headers()
print("up", flush=True)
server = http.server.ThreadingHTTPServer(("127.0.0.1", int(os.environ["PORT"])), Handler)
server.serve_forever()
"""
QUICK = Check(
    path="/ready", interval_seconds=0.1, timeout_seconds=0.5, failures=2, start_seconds=30
)

HEALTH = QUICK.model_copy(update={"path": "/health"})


@pytest.fixture
def node(service: AgentService, tmp_path: Path) -> Iterator[Node]:
    node = Node(service, tmp_path)
    node.start()
    yield node
    service.desire()
    service.wait(lambda: not any(r.exit is None for r in _reports(service)), "all has ended")
    node.end()
    assert node.alive() == []


def _reports(service: AgentService) -> tuple:
    return service.reports[-1].allocations if service.reports else ()


def serve(folder: Path, mood: str, **launch: object) -> DesiredAllocation:
    folder.mkdir()
    change(folder, mood)
    return DesiredAllocation(
        id="s",
        task="t",
        task_name="digits",
        generation=1,
        phase=Phase.RUN,
        launch=Launch.model_validate(
            {
                "argv": (sys.executable, "-c", SERVER),
                "kind": Kind.SERVICE,
                "grace_seconds": 10.0,
                "working_dir": str(folder),
                **launch,
            }
        ),
        gang=Gang(rank=0, size=1, master_address="127.0.0.1"),
    )


def change(folder: Path, mood: str) -> None:
    new = folder / "mood.new"
    new.write_text(mood)
    new.replace(folder / "mood")


def ready(service: AgentService) -> bool | None:
    last = service.last("s")
    return last.ready if last is not None else None


def wait_for_a_pass(service: AgentService) -> None:
    """Of the health check: before that, failures don't count while the service is young."""
    passed = '"GET /health HTTP/1.1" 200'
    before = service.text("s").count(passed)
    service.wait(lambda: service.text("s").count(passed) > before, "its health check passes")


def test_a_service_is_ready_while_it_answers_well(
    service: AgentService, node: Node, tmp_path: Path
) -> None:
    folder = tmp_path / "work"
    service.desire(serve(folder, "503", readiness=QUICK))
    service.wait_for_state("s", AllocationState.RUNNING)
    service.wait(lambda: ready(service) is False, "it runs, and isn't ready yet")
    change(folder, "204")
    service.wait(lambda: ready(service) is True, "it's ready")
    change(folder, "silent")
    service.wait(lambda: ready(service) is False, "it's ready no more")
    change(folder, "200")
    service.wait(lambda: ready(service) is True, "it's ready again")
    service.desire()
    how = service.wait_for_exit("s")
    assert (how.stopped, how.cause) == (True, StopCause.UNWANTED)


def test_a_connection_will_do_where_no_path_is_given(
    service: AgentService, node: Node, tmp_path: Path
) -> None:
    tcp = QUICK.model_copy(update={"path": None})
    service.desire(serve(tmp_path / "work", "500", readiness=tcp, health=tcp))
    service.wait(lambda: ready(service) is True, "it's ready")


def test_a_service_that_is_of_no_use_any_more_is_stopped_and_says_why(
    service: AgentService, node: Node, tmp_path: Path
) -> None:
    folder = tmp_path / "work"
    service.desire(serve(folder, "200", readiness=QUICK, health=HEALTH))
    service.wait(lambda: ready(service) is True, "it's ready")
    wait_for_a_pass(service)
    change(folder, "500")
    how = service.wait_for_exit("s")
    assert (how.stopped, how.cause) == (True, StopCause.UNHEALTHY)
    assert how.reason == "its health check (GET /health) failed 2 times in a row: HTTP 500"


def test_the_next_agent_goes_on_asking(service: AgentService, node: Node, tmp_path: Path) -> None:
    folder = tmp_path / "work"
    service.desire(serve(folder, "200", readiness=QUICK, health=HEALTH))
    service.wait(lambda: ready(service) is True, "it's ready")
    node.end()
    heard = len(service.reports)
    node.start()
    service.wait(lambda: len(service.reports) > heard, "the next agent speaks")
    service.wait(lambda: ready(service) is True, "it's ready")
    wait_for_a_pass(service)
    change(folder, "500")
    assert service.wait_for_exit("s").cause is StopCause.UNHEALTHY
