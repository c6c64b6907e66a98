"""The stop sequence, moment by moment."""

import pytest

from agent.supervision import stopping
from agent.supervision.stopping import ASK, END, KILL, Stop
from protocol.task import TERM_SECONDS, AskBy, Checkpoint, stop_seconds_max

GRACE = 30.0
ACK = 10.0
PLAIN = {"grace_seconds": GRACE, "drain_seconds": 0.0, "checkpoint": None}
ORDER = {"cause": "preempted", "reason": "room for another", "grace_seconds": GRACE}
KILL_ORDER = {"cause": "cancelled", "reason": "now", "grace_seconds": 0}


def saving(ask: str = "file", **more: float) -> dict[str, object]:
    return {**PLAIN, "checkpoint": {"ask": ask, "ack_seconds": ACK}, **more}


class Play:
    """A program that is stopped, and what it is told when."""

    def __init__(self, sequence: dict[str, object], order: dict[str, object] = ORDER) -> None:
        self.stop = Stop(order, sequence, 0.0)
        self.said: list[tuple[float, str]] = []

    def at(self, now: float, *, acknowledged: bool = False, done: bool = False) -> "Play":
        while word := self.stop.advance(now, acknowledged=acknowledged or done, done=done):
            self.said.append((now, word))
        return self

    def order(self, now: float, order: dict[str, object]) -> "Play":
        self.stop.shorten(order, now)
        return self.at(now)

    def to_the_end(self) -> list[tuple[float, str]]:
        """The program does nothing any more: the next thing is done when it's due, not before."""
        while not self.said or self.said[-1][1] != KILL:
            due = self.stop.until
            before = list(self.said)
            if due > 0.001:
                self.at(due - 0.001)
                assert self.said == before
            self.at(due)
        return self.said


def test_a_program_without_checkpoints_is_told_to_end_and_killed_after_the_grace() -> None:
    assert Play(PLAIN).at(0).to_the_end() == [(0, END), (GRACE, KILL)]


def test_the_grace_counts_from_the_acknowledgement_and_ends_with_the_checkpoint() -> None:
    play = Play(saving()).at(0).at(4, acknowledged=True)
    assert play.said == [(0, ASK)]
    play.at(20, acknowledged=True)
    play.at(25, done=True)
    assert play.to_the_end() == [(0, ASK), (25, END), (25 + TERM_SECONDS, KILL)]


def test_a_checkpoint_that_is_not_done_within_the_grace_is_given_up() -> None:
    play = Play(saving()).at(0).at(4, acknowledged=True)
    play.at(4 + GRACE, acknowledged=True)
    assert play.to_the_end() == [(0, ASK), (34, END), (34 + TERM_SECONDS, KILL)]


def test_one_who_says_at_once_that_it_is_done_need_not_acknowledge() -> None:
    play = Play(saving()).at(0).at(3, done=True)
    assert play.to_the_end() == [(0, ASK), (3, END), (3 + TERM_SECONDS, KILL)]


def test_one_who_never_acknowledges_is_told_to_end_and_has_the_grace() -> None:
    assert Play(saving()).at(0).to_the_end() == [(0, ASK), (ACK, END), (ACK + GRACE, KILL)]


def test_sigterm_is_not_sent_twice_to_one_who_was_asked_by_it() -> None:
    silent = Play(saving("SIGTERM")).at(0)
    assert silent.to_the_end() == [(0, ASK), (ACK + GRACE, KILL)]
    play = Play(saving("SIGTERM")).at(0).at(1, acknowledged=True).at(7, done=True)
    assert play.to_the_end() == [(0, ASK), (7 + TERM_SECONDS, KILL)]


def test_a_service_is_told_nothing_while_its_requests_run_out() -> None:
    play = Play({**PLAIN, "drain_seconds": 12.0}).at(0).at(11)
    assert play.said == []
    assert play.to_the_end() == [(12, END), (12 + GRACE, KILL)]


def test_an_expired_lease_grants_no_drain() -> None:
    order = {"cause": "lease", "reason": "expired", "grace_seconds": None}
    play = Play({**PLAIN, "drain_seconds": 12.0}, order).at(0)
    assert play.to_the_end() == [(0, END), (GRACE, KILL)]


@pytest.mark.parametrize("now", [0.0, 5.0, 11.0, 14.0, 22.0])
def test_a_kill_order_kills_at_whatever_point(now: float) -> None:
    play = Play(saving(drain_seconds=8.0)).at(0)
    for moment in (8, 12, 20):
        if moment < now:
            play.at(moment, acknowledged=moment >= 12, done=moment >= 20)
    play.order(now, KILL_ORDER)
    assert play.said[-1] == (now, KILL)


def test_a_kill_order_that_comes_first_kills_without_a_word() -> None:
    assert Play(saving(drain_seconds=8.0), KILL_ORDER).at(0).said == [(0, KILL)]


def test_no_grace_of_the_task_is_no_kill_order() -> None:
    play = Play({**saving(), "grace_seconds": 0.0}, {**ORDER, "grace_seconds": None}).at(0)
    assert play.to_the_end() == [(0, ASK), (ACK, END), (ACK, KILL)]


def test_a_further_order_shortens_what_is_left_and_never_prolongs_it() -> None:
    shorter = Play(PLAIN).at(0).order(10, {**ORDER, "grace_seconds": 5.0})
    assert shorter.to_the_end()[-1] == (15, KILL)
    longer = Play(PLAIN).at(0).order(10, {**ORDER, "grace_seconds": 500.0})
    assert longer.to_the_end()[-1] == (GRACE, KILL)
    again = Play(PLAIN).at(0)
    for now in range(1, 29):
        again.order(now, {**ORDER, "reason": f"again {now}"})
    assert again.to_the_end() == [(0, END), (GRACE, KILL)]


def test_an_order_before_the_acknowledgement_shortens_the_grace_to_come() -> None:
    play = Play(saving()).at(0).order(2, {**ORDER, "grace_seconds": 6.0})
    play.at(3, acknowledged=True)
    assert play.to_the_end() == [(0, ASK), (9, END), (9 + TERM_SECONDS, KILL)]


def test_the_first_order_says_why() -> None:
    stop = Play(PLAIN).at(0).order(1, KILL_ORDER).stop
    assert (stop.cause, stop.reason) == ("preempted", "room for another")


def test_an_order_of_an_agent_that_knew_no_causes_takes_the_first_that_comes() -> None:
    stop = Play(PLAIN, {"reason": "old", "grace_seconds": GRACE}).order(1, KILL_ORDER).stop
    assert (stop.cause, stop.reason) == ("cancelled", "old")


@pytest.mark.parametrize("ask", [*AskBy, None])
@pytest.mark.parametrize("acknowledged_at", [None, 0.0, 3.0, ACK - 0.01])
def test_it_never_takes_longer_than_the_service_waits(
    ask: AskBy | None, acknowledged_at: float | None
) -> None:
    sequence = {**PLAIN, "drain_seconds": 7.0} if ask is None else saving(ask, drain_seconds=7.0)
    play = Play(sequence).at(0).at(7)
    if acknowledged_at is not None:
        play.at(7 + acknowledged_at, acknowledged=True)
    told = play.to_the_end()
    checkpoint = None if ask is None else Checkpoint(ask=ask, ack_seconds=ACK)
    assert told[-1][0] <= stop_seconds_max(GRACE, checkpoint, 7.0)


def test_the_shim_and_the_service_mean_the_same_by_what_is_left_after_a_checkpoint() -> None:
    assert stopping.TERM_SECONDS == TERM_SECONDS
