"""Why and how attempts are stopped, and when their end is told."""

import pytest

from agent.attempt import KILL_MARGIN_SECONDS
from agent.events import (
    AwaitRelease,
    Checked,
    DevicesReleased,
    Exited,
    Found,
    Kill,
    Overused,
    Recovered,
    ReleaseDelayed,
    Start,
    Stop,
)
from agent.reconcile import UNKILLABLE_SECONDS
from protocol import desired as wire
from protocol.desired import Phase, StopCause
from protocol.report import AllocationState, Exit
from protocol.task import TERM_SECONDS, Check, Checkpoint, LeasePolicy
from tests.unit.agent.node import A1, A2, B1, GRACE_SECONDS, Node, wanted

GPU = ("GPU-1",)
PREEMPTED = wire.Stop(cause=StopCause.PREEMPTED, reason="preempted for b")


@pytest.fixture
def node() -> Node:
    node = Node()
    node.renew()
    return node


def test_a_stop_carries_the_services_cause_and_reason(node: Node) -> None:
    node.run(wanted())
    assert node.desire(wanted(phase=Phase.STOP, stop=PREEMPTED)) == [
        Stop(key=A1, cause=StopCause.PREEMPTED, reason="preempted for b")
    ]


def test_a_stop_before_the_start_has_the_services_cause(node: Node) -> None:
    node.desire(wanted(phase=Phase.STOP, stop=PREEMPTED))
    how = node.report().exit
    assert how is not None
    assert (how.stopped, how.cause) == (True, StopCause.PREEMPTED)


def test_an_order_to_kill_cuts_a_running_stop_short_once(node: Node) -> None:
    node.run(wanted())
    node.desire(wanted(phase=Phase.STOP, stop=PREEMPTED))
    at_once = PREEMPTED.model_copy(update={"kill": True})
    assert node.desire(wanted(phase=Phase.STOP, stop=at_once)) == [
        Kill(key=A1, cause=StopCause.PREEMPTED, reason="preempted for b")
    ]
    assert node.desire(wanted(phase=Phase.STOP, stop=at_once)) == []


def test_what_saves_a_checkpoint_first_is_given_the_time_for_it(node: Node) -> None:
    node.run(wanted(checkpoint=Checkpoint(ack_seconds=20)))
    node.desire()
    whole = 20 + GRACE_SECONDS + TERM_SECONDS
    assert node.tick(whole) == []
    assert [type(i) for i in node.tick(KILL_MARGIN_SECONDS)] == [Kill]


def test_the_end_of_the_lease_stops_what_is_to_be_fenced_and_keeps_the_rest(node: Node) -> None:
    kept = wanted(B1, on_lease_lost=LeasePolicy.KEEP)
    node.run(wanted(A1))
    node.desire(wanted(A1), kept)
    node.leased(B1)
    node.started(B1)
    node.renew(10)
    stops = node.tick(11)
    assert [(i.key, i.cause) for i in stops if isinstance(i, Stop)] == [(A1, StopCause.LEASE)]
    assert node.tick(10_000) == [Kill(key=A1, cause=StopCause.LEASE, reason=_STILL_THERE)]
    states = {report.id: report.state for report in node.state.reports()}
    assert states["b"] is AllocationState.RUNNING


def test_what_was_kept_through_an_outage_goes_on_when_the_service_is_back(node: Node) -> None:
    kept = wanted(on_lease_lost=LeasePolicy.KEEP)
    node.run(kept)
    node.renew(10)
    assert node.tick(1_000) == []
    assert node.renew() == []
    assert node.desire(kept) == []
    [stop] = node.desire()
    assert isinstance(stop, Stop)


def test_an_exit_is_told_when_its_devices_are_free(node: Node) -> None:
    node.run(wanted(devices=GPU))
    assert node.exited(code=3) == [AwaitRelease(key=A1, devices=GPU)]
    assert (node.report().state, node.report().exit) == (AllocationState.STOPPING, None)
    node.handle(ReleaseDelayed(at=node.at, key=A1, note="512 MiB are still held"))
    assert node.report().note == "512 MiB are still held"
    node.handle(DevicesReleased(at=node.at, key=A1))
    how = node.report().exit
    assert how is not None
    assert (how.code, node.report().held_devices, node.report().note) == (3, (), "")


def test_devices_that_were_awaited_in_vain_are_told_with_the_exit(node: Node) -> None:
    node.run(wanted(devices=GPU))
    node.exited()
    node.handle(DevicesReleased(at=node.at, key=A1, held=GPU, note="process 7 is on GPU-1"))
    assert node.report().state is AllocationState.EXITED
    assert (node.report().held_devices, node.report().note) == (GPU, "process 7 is on GPU-1")


@pytest.mark.parametrize("devices", [(), ("SIM-n-0",)])
def test_without_a_real_device_an_exit_is_told_at_once(
    node: Node, devices: tuple[str, ...]
) -> None:
    node.run(wanted(devices=devices))
    assert node.exited() == []
    assert node.report().state is AllocationState.EXITED


def test_what_never_ran_holds_nothing(node: Node) -> None:
    node.desire(wanted(devices=GPU, phase=Phase.PREPARE))
    assert node.exited() == []
    assert node.report().state is AllocationState.EXITED


def test_the_next_generation_waits_for_the_devices_too(node: Node) -> None:
    node.run(wanted(devices=GPU))
    node.desire(wanted(A2, devices=GPU))
    node.leased(A2, 20_002)
    assert node.exited(A1) == [AwaitRelease(key=A1, devices=GPU)]
    [start] = node.handle(DevicesReleased(at=node.at, key=A1))
    assert isinstance(start, Start)
    assert start.key == A2


def _ended() -> Found:
    return Found(
        key=A1,
        allocation=wanted(A1, devices=GPU),
        state=AllocationState.EXITED,
        port=20_001,
        exit=Exit(code=0, at_ms=1),
    )


def test_after_a_restart_the_devices_of_what_has_ended_are_awaited_anew() -> None:
    node = Node()
    event = Recovered(at=node.at, found=(_ended(),), lease_until_seconds=None)
    assert node.handle(event) == [AwaitRelease(key=A1, devices=GPU)]
    assert node.report().exit is None


def test_devices_that_somebody_has_been_given_since_are_not_awaited_anew() -> None:
    node = Node()
    next_one = Found(
        key=B1,
        allocation=wanted(B1, devices=GPU),
        state=AllocationState.RUNNING,
        port=20_002,
        pid=7,
    )
    event = Recovered(at=node.at, found=(_ended(), next_one), lease_until_seconds=None)
    assert node.handle(event) == []
    assert node.state.reports()[0].state is AllocationState.EXITED


def test_overuse_is_noted_and_stopped_only_when_told(node: Node) -> None:
    node.run(wanted())
    assert node.handle(Overused(at=node.at, key=A1, what="20 of 16 GiB")) == []
    assert node.report().note == "20 of 16 GiB"
    node.handle(Overused(at=node.at, key=A1, what=""))
    assert node.report().note == ""
    [stop] = node.handle(Overused(at=node.at, key=A1, what="20 of 16 GiB", stop=True))
    assert stop == Stop(key=A1, cause=StopCause.OVERUSE, reason="20 of 16 GiB")
    assert node.report().note == "20 of 16 GiB"


def test_a_service_is_ready_when_its_check_says_so_and_not_while_it_stops(node: Node) -> None:
    service = wanted(readiness=Check())
    node.desire(service)
    node.leased()
    assert node.report().ready is False
    node.started()
    assert node.report().ready is False
    node.handle(Checked(at=node.at, key=A1, ready=True))
    assert node.report().ready is True
    node.desire()
    assert node.report().ready is False


def test_without_a_readiness_check_nothing_is_said_of_it(node: Node) -> None:
    node.run(wanted())
    assert node.report().ready is None


def test_a_service_that_fails_its_health_check_is_stopped_for_it(node: Node) -> None:
    node.run(wanted(health=Check()))
    [stop] = node.handle(Checked(at=node.at, key=A1, ready=None, failed="no answer for 15 s"))
    assert stop == Stop(key=A1, cause=StopCause.UNHEALTHY, reason="no answer for 15 s")
    assert node.handle(Checked(at=node.at, key=A1, ready=None, failed="no answer")) == []


def test_what_no_kill_ends_is_reported_as_such_until_it_is_gone(node: Node) -> None:
    node.run(wanted())
    node.desire()
    node.tick(GRACE_SECONDS + KILL_MARGIN_SECONDS)
    assert not node.report().unkillable
    for _ in range(int(UNKILLABLE_SECONDS)):
        node.tick(1)
    node.tick(KILL_MARGIN_SECONDS)
    assert node.report().unkillable
    how = Exit(signal=9, stopped=True, at_ms=1)
    node.handle(Exited(at=node.at, key=A1, exit=how))
    assert (node.report().unkillable, node.report().exit) == (False, how)


_STILL_THERE = "still there after its grace"
