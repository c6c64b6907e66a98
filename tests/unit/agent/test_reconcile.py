"""Events in, instructions out."""

import pytest

from agent.attempt import KILL_MARGIN_SECONDS, Step
from agent.events import (
    Exited,
    Forget,
    Found,
    Key,
    Kill,
    LeasePort,
    LeaveOrdered,
    Recovered,
    ReportNow,
    Start,
    Stop,
    Ticked,
)
from protocol.desired import Phase, StopCause
from protocol.report import AllocationState, Exit
from tests.unit.agent.node import A1, A2, B1, GRACE_SECONDS, Node, wanted


@pytest.fixture
def node() -> Node:
    node = Node()
    node.renew()
    return node


@pytest.fixture
def running(node: Node) -> Node:
    node.desire(wanted())
    node.leased()
    node.started()
    return node


def found(key: Key = A1, state: AllocationState = AllocationState.RUNNING) -> Found:
    how = Exit(code=3, at_ms=1) if state is AllocationState.EXITED else None
    return Found(key=key, allocation=wanted(key), state=state, port=20_009, pid=42, exit=how)


def test_a_single_allocation_leases_a_port_then_starts_once(node: Node) -> None:
    assert node.desire(wanted()) == [LeasePort(key=A1)]
    [start] = node.leased()
    assert isinstance(start, Start)
    assert (start.port, start.master_port) == (20_001, 20_001)
    assert node.started() == []
    assert node.desire(wanted()) == []
    assert [r.state for r in node.state.reports()] == [AllocationState.RUNNING]


def test_a_prepared_allocation_reports_its_port_and_starts_nothing(node: Node) -> None:
    assert node.desire(wanted(phase=Phase.PREPARE, size=2)) == [LeasePort(key=A1)]
    assert node.leased() == []
    [report] = node.state.reports()
    assert (report.state, report.port) == (AllocationState.READY, 20_001)


def test_a_gang_member_starts_when_it_knows_where_rank_0_listens(node: Node) -> None:
    node.desire(wanted(phase=Phase.PREPARE, rank=1, size=2))
    node.leased()
    assert node.desire(wanted(rank=1, size=2)) == []
    [start] = node.desire(wanted(rank=1, size=2, master_port=20_777))
    assert isinstance(start, Start)
    assert (start.port, start.master_port) == (20_001, 20_777)


def test_rank_0_leases_the_port_that_its_gang_was_told(node: Node) -> None:
    run = wanted(rank=0, size=2, master_port=20_777)
    assert node.desire(run) == [LeasePort(key=A1, port=20_777)]


def test_rank_0_that_leased_another_port_leases_the_promised_one(node: Node) -> None:
    node.desire(wanted(phase=Phase.PREPARE, size=2))
    node.leased(port=20_001)
    assert node.desire(wanted(size=2, master_port=20_777)) == [LeasePort(key=A1, port=20_777)]
    [start] = node.leased(port=20_777)
    assert isinstance(start, Start)
    assert start.master_port == 20_777


def test_nothing_starts_without_a_lease() -> None:
    node = Node()
    node.desire(wanted())
    assert node.leased() == []
    assert [type(i) for i in node.renew()] == [Start]


def test_an_older_desired_set_changes_nothing(running: Node) -> None:
    assert running.desire(revision=0) == []
    assert running.state.attempts[A1].step is Step.RUNNING


def test_an_absent_allocation_is_stopped_then_forgotten_when_settled(running: Node) -> None:
    [stop] = running.desire()
    assert isinstance(stop, Stop)
    assert (stop.key, stop.cause) == (A1, StopCause.UNWANTED)
    assert running.desire() == []
    assert running.exited() == []
    assert [r.state for r in running.state.reports()] == [AllocationState.EXITED]
    assert running.settle(A1) == [Forget(key=A1)]
    assert running.state.reports() == ()


def test_an_exit_is_reported_until_it_is_settled(running: Node) -> None:
    running.exited(code=3)
    for _ in range(3):
        running.tick(1)
        [report] = running.state.reports()
        assert report.exit is not None
        assert report.exit.code == 3
    running.settle(A1)
    assert running.state.reports() == ()


def test_a_settled_attempt_is_kept_while_a_set_that_lists_it_may_be_on_its_way(
    running: Node,
) -> None:
    running.exited()
    running.settle(A1, revision=5)
    assert running.desire(wanted(), revision=3) == []
    assert running.desire(revision=4) == []
    assert running.desire(revision=5) == [Forget(key=A1)]


def test_a_prepared_allocation_that_is_absent_is_forgotten_at_once(node: Node) -> None:
    node.desire(wanted(phase=Phase.PREPARE, size=2))
    node.leased()
    assert node.desire() == [Forget(key=A1)]


def test_stop_of_an_allocation_that_never_ran_answers_with_an_exit(node: Node) -> None:
    assert node.desire(wanted(phase=Phase.STOP)) == []
    [report] = node.state.reports()
    assert report.exit is not None
    assert (report.exit.stopped, report.exit.code) == (True, None)


def test_a_stop_order_stops_once(running: Node) -> None:
    assert [type(i) for i in running.desire(wanted(phase=Phase.STOP))] == [Stop]
    assert running.tick(1) == []
    assert running.desire(wanted(phase=Phase.STOP)) == []


def test_what_outlives_its_grace_is_killed_and_killed_again(running: Node) -> None:
    running.desire()
    assert running.tick(GRACE_SECONDS) == []
    assert [type(i) for i in running.tick(KILL_MARGIN_SECONDS)] == [Kill]
    assert running.tick(1) == []
    assert [type(i) for i in running.tick(KILL_MARGIN_SECONDS)] == [Kill]


def test_a_new_generation_waits_until_the_old_one_is_gone(running: Node) -> None:
    first, second = running.desire(wanted(A2))
    assert isinstance(first, LeasePort)
    assert isinstance(second, Stop)
    assert running.leased(A2, 20_002) == []
    [start] = running.exited(A1)
    assert isinstance(start, Start)
    assert start.key == A2


def test_an_older_generation_is_never_started(running: Node) -> None:
    running.desire(wanted(A2))
    assert running.desire(wanted(A1), wanted(A2)) == []
    assert set(running.state.attempts) == {A1, A2}


def test_the_end_of_the_lease_stops_everything(node: Node) -> None:
    node.desire(wanted(A1), wanted(B1))
    for key, port in ((A1, 20_001), (B1, 20_002)):
        node.leased(key, port)
        node.started(key)
    node.renew(15)
    assert node.tick(14.9) == []
    stops = node.tick(0.2)
    assert [(type(i), i.key) for i in stops if isinstance(i, Stop)] == [(Stop, A1), (Stop, B1)]
    assert all("lease expired" in i.reason for i in stops if isinstance(i, Stop))


def test_a_renewed_lease_does_not_start_what_the_old_one_stopped(running: Node) -> None:
    running.renew(10)
    running.tick(11)
    running.exited()
    assert running.renew() == []
    assert running.desire(wanted()) == []


def test_nothing_starts_after_the_lease_has_run_out(node: Node) -> None:
    node.desire(wanted())
    node.renew(10)
    node.tick(11)
    assert node.leased() == []


def test_after_a_restart_nothing_happens_before_a_desired_set() -> None:
    node = Node()
    event = Recovered(at=node.at, found=(found(),), lease_until_seconds=node.seconds + 60)
    assert node.handle(event) == []
    assert node.renew() == []
    assert [r.state for r in node.state.reports()] == [AllocationState.RUNNING]


@pytest.mark.parametrize(
    ("state", "listed", "instructions"),
    [
        (AllocationState.RUNNING, True, []),
        (AllocationState.RUNNING, False, [Stop]),
        (AllocationState.STOPPING, True, []),
        (AllocationState.STOPPING, False, []),
        (AllocationState.EXITED, True, []),
        (AllocationState.EXITED, False, []),
    ],
)
def test_what_was_found_is_never_started_again(
    state: AllocationState, listed: bool, instructions: list[type]
) -> None:
    node = Node()
    node.handle(Recovered(at=node.at, found=(found(A1, state),), lease_until_seconds=None))
    node.renew()
    assert [type(i) for i in node.desire(*([wanted()] if listed else []))] == instructions


def test_a_lease_that_ran_out_while_the_agent_was_away_stops_what_it_finds() -> None:
    node = Node()
    event = Recovered(at=node.at, found=(found(),), lease_until_seconds=node.seconds - 1)
    assert [type(i) for i in node.handle(event)] == [Stop]


def test_leaving_stops_everything_and_a_second_time_kills(running: Node) -> None:
    assert [type(i) for i in running.handle(LeaveOrdered(at=running.at))] == [Stop]
    assert not running.state.is_idle()
    assert running.handle(LeaveOrdered(at=running.at, kill=True)) == [
        Kill(key=A1, cause=StopCause.LEFT, reason="the agent was told to stop its tasks")
    ]
    assert running.tick(1) == []
    running.exited()
    assert running.state.is_idle()


def test_a_change_is_reported_at_once_and_sameness_is_not(running: Node) -> None:
    how = Exit(code=0, at_ms=1)
    assert ReportNow() in running.state.handle(Exited(at=running.at, key=A1, exit=how))
    assert running.state.handle(Ticked(at=running.at)) == []


def test_a_second_exit_of_the_same_attempt_is_ignored(running: Node) -> None:
    running.exited(code=3)
    running.exited(code=0)
    [report] = running.state.reports()
    assert report.exit is not None
    assert report.exit.code == 3
