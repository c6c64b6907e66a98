from app.heartbeats import Heartbeats
from app.nodes.states import NodeState, Patience, state_after

PATIENCE = Patience(unreachable_after_seconds=15, lost_after_seconds=300)


def test_silence_makes_a_node_unreachable_then_lost() -> None:
    assert state_after(14.9, PATIENCE) is NodeState.READY
    assert state_after(15, PATIENCE) is NodeState.UNREACHABLE
    assert state_after(299.9, PATIENCE) is NodeState.UNREACHABLE
    assert state_after(300, PATIENCE) is NodeState.LOST


def test_a_restarted_service_counts_every_lease_as_renewed_at_its_start() -> None:
    heartbeats = Heartbeats(started=1_000)
    assert heartbeats.silence_seconds(7, 1_010) == 10


def test_a_late_message_never_makes_a_node_look_more_silent() -> None:
    heartbeats = Heartbeats(started=0)
    heartbeats.heard(7, 100)
    heartbeats.heard(7, 90)
    assert heartbeats.silence_seconds(7, 105) == 5
