"""What a running agent measures and tells, over real HTTP."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from agent.processes import kill_marked
from agent.runtime import MARK
from agent.samples.event_log import EventLog
from protocol.desired import DesiredAllocation, Gang, Launch, Phase
from protocol.report import AllocationState
from telemetry.samples import DeviceEvent, DeviceEventKind
from tests.agent_node import Node, leave
from tests.agent_service import AgentService, rows
from tests.waiting import DEADLINE_SECONDS, wait_for

XID_79 = DeviceEvent(at_ms=5, kind=DeviceEventKind.XID, uuid="GPU-a", code=79)


@pytest.fixture
def node(service: AgentService, tmp_path: Path) -> Iterator[Node]:
    """Here tasks may outlive their agents: nobody asks how they end."""
    node = Node(service, tmp_path)
    yield node
    node.end()
    for attempt in node.attempts():
        while kill_marked(MARK, str(attempt)):
            pass


def wanted(*argv: str, devices: tuple[str, ...] = ()) -> DesiredAllocation:
    return DesiredAllocation(
        id="a",
        task="t1",
        task_name="train",
        generation=1,
        phase=Phase.RUN,
        launch=Launch(argv=argv, grace_seconds=20.0),
        gang=Gang(rank=0, size=1, master_address="127.0.0.1"),
        devices=devices,
    )


def column(part: Any, name: str) -> list[float | None]:
    return getattr(part.values, name, None) or []


def line_count(path: Path) -> int:
    return path.read_bytes().count(b"\n")


def test_host_devices_and_running_tasks_have_rows_at_the_asked_interval(
    service: AgentService, node: Node
) -> None:
    agent = node.start(simulated_devices="2")
    service.desire(wanted("sleep", "600", devices=("SIM-n1-0",)))
    service.wait(
        lambda: any(batch.tasks is not None for batch in service.batches.values()),
        "a row of the task",
    )
    service.wait(lambda: len(service.batches) >= 4, "four batches")
    batches = sorted(service.batches.values(), key=lambda batch: batch.seq)
    assert len({batch.epoch for batch in batches}) == 1
    assert [batch.seq for batch in batches] == list(range(1, len(batches) + 1))
    stamps = [batch.host.taken_at_ms[0] for batch in batches if batch.host is not None]
    assert len(stamps) == len(batches)
    assert stamps == sorted(set(stamps))
    last = batches[-1]
    assert last.devices is not None
    assert last.devices.keys == ("SIM-n1-0", "SIM-n1-1")
    with_task = next(batch for batch in batches if batch.tasks is not None)
    assert with_task.tasks is not None
    assert with_task.tasks.keys == ("a",)
    [memory_mib] = column(with_task.tasks, "memory_mib")
    assert memory_mib is not None
    assert 0 < memory_mib < 10_000
    assert column(with_task.tasks, "gpu_process_count") == [], "a simulated device has no processes"
    service.desire()
    service.wait_for_exit("a")
    assert leave(agent) == 0


def test_samples_that_are_not_answered_do_not_hold_up_the_lease(
    service: AgentService, node: Node
) -> None:
    service.lease_seconds = 2.0
    service.samples_open.clear()
    agent = node.start()
    service.desire(wanted("sh", "-c", "sleep 6; echo done"))
    how = service.wait_for_exit("a")
    assert (how.code, how.stopped) == (0, False)
    assert service.batches == {}
    service.samples_open.set()
    service.wait(lambda: len(service.batches) >= 2, "what was measured meanwhile comes")
    assert leave(agent) == 0


def test_refused_samples_do_not_hold_up_reports_nor_refused_reports_samples(
    service: AgentService, node: Node
) -> None:
    service.samples_away = True
    agent = node.start()
    service.wait(lambda: len(service.sample_encodings) >= 2, "samples are tried again")
    before = len(service.reports)
    service.wait(lambda: len(service.reports) > before + 3, "reports go on")
    assert service.batches == {}
    with service.changed:
        service.samples_away, service.reports_away = False, True
        before = len(service.reports)
    service.wait(lambda: len(service.batches) >= 3, "samples come")
    assert len(service.reports) == before
    service.reports_away = False
    service.wait(lambda: len(service.reports) > before, "reports come again")
    assert leave(agent) == 0


def test_what_was_measured_in_an_outage_comes_whole_and_once_over_a_restart(
    service: AgentService, node: Node
) -> None:
    first = node.start()
    service.wait(lambda: len(service.batches) >= 1, "the first batch")
    [epoch] = {epoch for epoch, _ in service.batches}
    service.samples_away = True
    samples = node.state / "samples"
    wait_for(lambda: sum(map(line_count, samples.iterdir())) >= 2, "batches wait on disk")
    assert leave(first) == 0
    spooled = list(samples.iterdir())
    service.samples_away = False
    second = node.start()
    wait_for(
        lambda: not any(path in spooled for path in samples.iterdir()),
        "the backlog is told",
    )
    assert leave(second) == 0
    seqs = sorted(seq for of, seq in service.batches if of == epoch)
    assert seqs == list(range(1, len(seqs) + 1)), "nothing is lost"
    assert len(seqs) >= 4, "one before the outage, two on disk, the one that was not old yet"
    assert service.duplicates == 0
    assert {form.dropped_rows for form in service.sample_reports} == {0}
    assert sum(map(rows, service.batches.values())) == sum(
        map(rows, (batch for form in service.sample_reports for batch in form.batches))
    )


def test_an_event_on_disk_is_told_until_settled_over_kills_and_never_again(
    service: AgentService, node: Node
) -> None:
    node.state.mkdir()
    log = EventLog(node.state / "events.log")
    log.add([XID_79])
    assert log.sync()
    service.settles_events = False
    for _ in range(2):
        told = service.event_reports
        agent = node.start()
        service.wait(lambda told=told: service.event_reports > told + 1, "the event is repeated")
        agent.kill()
        agent.wait(DEADLINE_SECONDS)
    assert service.events == {(log.name, 1): XID_79}
    service.settles_events = True
    third = node.start()
    wait_for(lambda: EventLog(node.state / "events.log").unsettled() == (), "it is settled")
    told, before = service.event_reports, len(service.reports)
    service.wait(lambda: len(service.reports) > before + 2, "reports go on")
    assert service.event_reports == told
    assert leave(third) == 0


def test_more_events_than_a_report_takes_come_in_the_next_at_once(
    service: AgentService, node: Node
) -> None:
    node.state.mkdir()
    log = EventLog(node.state / "events.log")
    log.add([XID_79] * 2500)
    assert log.sync()
    agent = node.start()
    service.wait(lambda: len(service.events) == 2500, "all events are told")
    assert service.event_reports == 3
    assert leave(agent) == 0


def test_a_samples_route_that_refuses_the_node_ends_the_agent(
    service: AgentService, node: Node
) -> None:
    service.sample_statuses.append(401)
    assert node.start().wait(DEADLINE_SECONDS) == 1
    assert "as the test says" in node.log.read_text()


def test_a_task_found_again_by_the_next_agent_is_measured_again(
    service: AgentService, node: Node
) -> None:
    first = node.start()
    service.desire(wanted("sleep", "600"))
    service.wait_for_state("a", AllocationState.RUNNING)
    first.kill()
    first.wait(DEADLINE_SECONDS)
    with service.changed:
        service.batches.clear()
    second = node.start()
    service.wait(
        lambda: any(batch.tasks is not None for batch in service.batches.values()),
        "a row of the task",
    )
    service.desire()
    service.wait_for_exit("a")
    assert leave(second) == 0
