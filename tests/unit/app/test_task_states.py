"""The rule by which a task moves on, as a table of scenarios."""

from itertools import product

import pytest

from app.allocations.states import AllocationState as A
from app.tasks.states import Gang, Step, TaskState, next_step


def gang(
    state: TaskState,
    *replicas: A,
    cancelled: bool = False,
    failures: int = 0,
    max_restarts: int = 0,
) -> Gang:
    return Gang(
        state=state,
        replicas=replicas,
        cancelled=cancelled,
        failures=failures,
        restarts_max=max_restarts,
    )


STARTING, RUNNING, STOPPING = TaskState.STARTING, TaskState.RUNNING, TaskState.STOPPING


@pytest.mark.parametrize(
    ("situation", "step"),
    [
        (gang(STARTING, A.ASSIGNED, A.READY), Step.NOTHING),
        (gang(STARTING, A.READY, A.READY), Step.GO),
        (gang(STARTING, A.RUNNING, A.READY), Step.NOTHING),
        (gang(STARTING, A.RUNNING, A.RUNNING), Step.RUN),
        (gang(STARTING, A.SUCCEEDED, A.RUNNING), Step.RUN),
        (gang(RUNNING, A.RUNNING, A.SUCCEEDED), Step.NOTHING),
        (gang(RUNNING, A.SUCCEEDED, A.SUCCEEDED), Step.SUCCEED),
        (gang(RUNNING, A.FAILED, A.RUNNING), Step.STOP_REST),
        (gang(STARTING, A.FAILED, A.READY), Step.STOP_REST),
        (gang(STOPPING, A.FAILED, A.STOPPING), Step.NOTHING),
        (gang(STOPPING, A.FAILED, A.STOPPED), Step.FAIL),
        (gang(STOPPING, A.FAILED, A.STOPPED, max_restarts=1), Step.RESTART),
        (gang(STOPPING, A.FAILED, A.STOPPED, failures=1, max_restarts=1), Step.FAIL),
        (gang(RUNNING, A.LOST), Step.REQUEUE),
        (gang(RUNNING, A.STOPPED), Step.REQUEUE),
        (gang(STOPPING, A.FAILED, A.LOST), Step.REQUEUE),
        (gang(RUNNING, A.RUNNING, cancelled=True), Step.STOP_REST),
        (gang(STOPPING, A.STOPPED, cancelled=True), Step.CANCEL),
        (gang(STOPPING, A.FAILED, cancelled=True), Step.CANCEL),
        (gang(STOPPING, A.SUCCEEDED, cancelled=True), Step.SUCCEED),
        (gang(TaskState.PENDING), Step.NOTHING),
        (gang(TaskState.CANCELLED, A.RUNNING), Step.NOTHING),
    ],
)
def test_next_step(situation: Gang, step: Step) -> None:
    assert next_step(situation) is step


def test_every_combination_has_an_answer_and_nothing_ends_while_a_replica_lives() -> None:
    ending = {Step.SUCCEED, Step.FAIL, Step.RESTART, Step.REQUEUE, Step.CANCEL}
    for state, first, second, cancelled in product(TaskState, A, A, (False, True)):
        step = next_step(gang(state, first, second, cancelled=cancelled))
        if step in ending:
            assert first.final
            assert second.final
        if state.final:
            assert step is Step.NOTHING


def test_a_broken_gang_with_nothing_left_always_ends() -> None:
    final = [state for state in A if state.final]
    for first, second in product(final, final):
        assert next_step(gang(RUNNING, first, second)) is not Step.NOTHING
