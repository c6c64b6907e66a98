"""What stopping a task costs, from what is known of its work."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from app.db.tables import Allocation
from app.planning.costs import COST_MAX, RESTART_SECONDS, Work, gpus_of, stop_cost, work_of
from app.progress import ProgressBoard
from protocol.report import Progress
from protocol.task import Checkpoint, Kind, Request, TaskSpec

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
NOW_MS = round(NOW.timestamp() * 1000)
HOUR = 3_600.0

PLAIN = Work(
    gpus=1.0,
    running_seconds=HOUR,
    saved_seconds_ago=None,
    saving_seconds=None,
    is_service=False,
)


def test_a_task_that_never_saved_loses_all_that_it_has_done() -> None:
    assert stop_cost(PLAIN) == HOUR + RESTART_SECONDS
    assert PLAIN.is_lost_whole


def test_a_task_that_saved_loses_what_it_did_since() -> None:
    saved = replace(PLAIN, saved_seconds_ago=60.0)
    assert stop_cost(saved) == 60 + RESTART_SECONDS
    assert not saved.is_lost_whole


def test_a_checkpoint_of_the_attempt_before_isnt_worth_more_than_this_attempt() -> None:
    assert stop_cost(replace(PLAIN, saved_seconds_ago=9 * HOUR)) == HOUR + RESTART_SECONDS


def test_a_task_that_saves_when_asked_loses_only_the_time_to_save() -> None:
    asked = replace(PLAIN, saving_seconds=6.0, saved_seconds_ago=HOUR)
    assert stop_cost(asked) == 6 + RESTART_SECONDS
    assert not asked.is_lost_whole


def test_a_service_has_no_work_to_lose() -> None:
    service = replace(PLAIN, is_service=True)
    assert stop_cost(service) == RESTART_SECONDS
    assert not service.is_lost_whole


def test_the_cost_grows_with_the_devices_and_is_never_nothing_nor_too_much() -> None:
    assert stop_cost(replace(PLAIN, gpus=8.0)) == 8 * (HOUR + RESTART_SECONDS)
    assert stop_cost(replace(PLAIN, gpus=0.001, is_service=True)) == 1
    assert stop_cost(replace(PLAIN, gpus=16_384.0, running_seconds=1e12)) == COST_MAX


@pytest.mark.parametrize(
    ("request_", "gpus"),
    [
        (Request(gpus=4), 4.0),
        (Request(gpus=1, gpu_milli=250), 0.25),
        (Request(cpu_milli=8_000), 0.08),
        (Request(), 0.01),
    ],
)
def test_a_replica_counts_as_its_part_of_a_gpu(request_: Request, gpus: float) -> None:
    assert gpus_of(request_) == pytest.approx(gpus)


def known(spec: TaskSpec, *said: Progress) -> Work:
    board = ProgressBoard()
    board.own(1, [one.id for one in said])
    board.note(1, said)
    held = [Allocation(id=f"a-{rank}", generation=3, node_id=1) for rank in range(spec.replicas)]
    return work_of(spec, NOW - timedelta(hours=1), held, board, NOW)


def told(rank: int = 0, *, ago_seconds: float | None = None, generation: int = 3) -> Progress:
    at = None if ago_seconds is None else NOW_MS - round(ago_seconds * 1000)
    return Progress(id=f"a-{rank}", generation=generation, checkpoint_at_ms=at)


def test_silence_is_never_taken_for_a_checkpoint() -> None:
    spec = TaskSpec(argv=("train",))
    assert known(spec).saved_seconds_ago is None
    assert known(spec, told()).saved_seconds_ago is None
    assert known(spec, told(ago_seconds=60)).saved_seconds_ago == 60.0
    assert known(spec, told(ago_seconds=60, generation=2)).saved_seconds_ago is None
    assert known(spec, told(ago_seconds=60)).running_seconds == HOUR


def test_a_clock_a_little_ahead_is_forgiven_and_one_far_ahead_isnt_believed() -> None:
    spec = TaskSpec(argv=("train",))
    assert known(spec, told(ago_seconds=-5)).saved_seconds_ago == 0.0
    assert known(spec, told(ago_seconds=-3_000)).saved_seconds_ago is None


def test_a_gang_has_saved_what_all_have_saved_that_say_so() -> None:
    gang = TaskSpec(argv=("train",), replicas=3)
    said = known(gang, told(0, ago_seconds=10), told(1, ago_seconds=90), told(2))
    assert said.saved_seconds_ago == 90.0
    assert said.gpus == pytest.approx(0.03)


def test_how_long_saving_takes_is_measured_or_else_the_longest_that_it_may() -> None:
    spec = TaskSpec(argv=("train",), checkpoint=Checkpoint(), grace_seconds=120)
    assert known(spec).saving_seconds == 120
    measured = Progress(id="a-0", generation=3, checkpoint_seconds=6.0)
    assert known(spec, measured).saving_seconds == 6.0
    assert known(TaskSpec(argv=("serve",), kind=Kind.SERVICE)).saving_seconds is None
