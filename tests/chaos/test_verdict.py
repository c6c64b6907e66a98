"""The verdict finds what it's there to find: each fault is planted once."""

from dataclasses import replace
from typing import Any

import pytest

from tests.chaos.schedule import ChaosTask, Moment, Target, schedule_of
from tests.chaos.verdict import Attempt, Evidence, Fault, findings

PLAIN = ChaosTask(
    seconds=0.1,
    code=3,
    leaves="nothing",
    ignores_term=False,
    replicas=1,
    torchrun=False,
    max_restarts=0,
    grace_seconds=0.2,
)
KEY = Attempt("a-1", 1)


def line(what: str, **more: Any) -> dict[str, Any]:
    whole = {"what": what, "task": "t", "allocation": "a-1", "generation": 1, "local_rank": 0}
    return {**whole, "pid": 7, "at_seconds": 1.0, "beside": [], **more}


def row(state: str, code: int | None = None, number: int | None = None) -> dict[str, Any]:
    how = {"state": state, "exit_code": code, "exit_signal": number, "reason": ""}
    return {"id": "a-1", "generation": 1, "task_id": "t", **how}


def evidence(*rows: dict[str, Any], journal: Any = None, **more: Any) -> Evidence:
    ran = [line("begin"), line("end", code=3)]
    return Evidence(
        tasks={"t": more.pop("task", PLAIN)},
        states={"t": more.pop("state", "failed")},
        journal=ran if journal is None else journal,
        rows=rows,
        **more,
    )


def faults(given: Evidence) -> list[Fault]:
    return [found.fault for found in findings(given)]


def test_an_exit_that_is_recorded_as_it_was_is_no_fault() -> None:
    assert faults(evidence(row("failed", 3))) == []


@pytest.mark.parametrize(
    "wrong",
    [
        row("failed", 4),
        row("failed"),
        row("failed", number=9),
        row("succeeded", 0),
        row("stopped", 3),
        row("lost"),
        row("running"),
    ],
)
def test_an_exit_that_is_recorded_otherwise_is_lost(wrong: dict[str, Any]) -> None:
    assert Fault.LOST_EXIT in faults(evidence(wrong))


def test_an_attempt_that_no_row_knows_of_is_lost() -> None:
    assert Fault.LOST_EXIT in faults(evidence())


def test_the_exit_of_a_killed_shim_may_be_lost_but_is_never_a_success() -> None:
    begun = [line("begin")]
    killed = {KEY: {Target.SHIM}}
    assert faults(evidence(row("lost"), journal=begun, killed=killed)) == []
    succeeded = evidence(row("succeeded", 0), journal=begun, killed=killed, state="succeeded")
    assert faults(succeeded) == [Fault.LOST_EXIT]


def test_an_attempt_that_began_is_not_lost_for_a_killed_agent() -> None:
    begun = [line("begin")]
    assert faults(evidence(row("lost"), journal=[], agents_killed=1)) == []
    assert faults(evidence(row("lost"), journal=begun, agents_killed=1)) == [Fault.LOST_EXIT]


def test_an_attempt_that_begins_twice_is_a_double_start() -> None:
    twice = [line("begin"), line("begin", pid=8), line("end", code=3)]
    assert faults(evidence(row("failed", 3), journal=twice)) == [Fault.DOUBLE_START]


def test_an_attempt_that_begins_beside_another_is_a_double_start() -> None:
    beside = [line("begin", beside=["t.0"]), line("end", code=3)]
    assert faults(evidence(row("failed", 3), journal=beside)) == [Fault.DOUBLE_START]


def test_what_is_left_and_what_has_not_ended_are_faults() -> None:
    assert faults(evidence(row("failed", 3), left=["12 S: sleep"])) == [Fault.ORPHAN]
    assert faults(evidence(row("failed", 3), state="running")) == [Fault.UNFINISHED]
    assert faults(evidence(row("failed", 3), ended=["server ended"])) == [Fault.HARNESS]


def test_a_torchrun_succeeds_only_if_every_rank_does() -> None:
    torchrun = replace(PLAIN, torchrun=True)
    ends = [line("end", code=0), line("end", code=0, local_rank=1)]
    begun = [line("begin"), line("begin", local_rank=1)]
    good = row("succeeded", 0)
    assert faults(evidence(good, task=torchrun, journal=begun + ends, state="succeeded")) == []
    half = evidence(good, task=torchrun, journal=begun + ends[:1], state="succeeded")
    assert faults(half) == [Fault.LOST_EXIT]
    failed = row("failed", 1)
    assert faults(evidence(failed, task=torchrun, journal=begun + ends)) == [Fault.LOST_EXIT]


def test_a_seed_is_one_schedule_and_a_thousand_strike_everybody_at_every_moment() -> None:
    assert schedule_of(5) == schedule_of(5)
    schedules = [schedule_of(seed) for seed in range(1000)]
    blows = {(blow.target, blow.moment) for schedule in schedules for blow in schedule.blows}
    assert blows == {(target, moment) for target in Target for moment in Moment}
    assert any(task.torchrun for schedule in schedules for task in schedule.tasks)
    assert any(schedule.silences_a_node for schedule in schedules)
