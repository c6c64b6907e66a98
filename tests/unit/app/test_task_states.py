"""The rule by which a task moves on, as a table of scenarios."""

from itertools import product

import pytest

from app.allocations.states import AllocationState as A
from app.tasks.states import Gang, Step, TaskState, back_off_seconds, next_step
from protocol.desired import StopCause as C


def gang(
    state: TaskState,
    *replicas: A,
    cancelled: bool = False,
    failures: int = 0,
    max_restarts: int | None = 0,
    service: bool = False,
    causes: tuple[C, ...] = (),
) -> Gang:
    return Gang(
        state=state,
        replicas=replicas,
        cancelled=cancelled,
        failures=failures,
        restarts_max=max_restarts,
        service=service,
        causes=causes,
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
        (gang(STOPPING, A.STOPPED, A.FAILED, causes=(C.PREEMPTED,)), Step.REQUEUE),
        (gang(STOPPING, A.STOPPED, A.FAILED, causes=(C.LEASE,)), Step.REQUEUE),
        (gang(STOPPING, A.STOPPED, A.FAILED, causes=(C.GANG,)), Step.FAIL),
        (gang(STOPPING, A.STOPPED, A.SUCCEEDED, causes=(C.MOVED,)), Step.REQUEUE),
        (gang(STOPPING, A.SUCCEEDED, A.SUCCEEDED), Step.SUCCEED),
        (gang(RUNNING, A.STOPPED, causes=(C.OVERUSE,)), Step.FAIL),
        (gang(RUNNING, A.STOPPED, causes=(C.UNHEALTHY,), max_restarts=None), Step.RESTART),
        (gang(RUNNING, A.STOPPED, causes=(C.LEFT,)), Step.REQUEUE),
        (gang(RUNNING, A.SUCCEEDED, service=True, max_restarts=None), Step.RESTART),
        (gang(RUNNING, A.SUCCEEDED, service=True, max_restarts=0), Step.FAIL),
        (gang(STOPPING, A.SUCCEEDED, service=True, causes=(C.PREEMPTED,)), Step.REQUEUE),
        (gang(STOPPING, A.SUCCEEDED, service=True, cancelled=True), Step.CANCEL),
        (gang(STOPPING, A.STOPPED, service=True, cancelled=True), Step.CANCEL),
        (gang(TaskState.PENDING), Step.NOTHING),
        (gang(TaskState.CANCELLED, A.RUNNING), Step.NOTHING),
    ],
)
def test_next_step(situation: Gang, step: Step) -> None:
    assert next_step(situation) is step


def test_every_combination_has_an_answer_and_nothing_ends_while_a_replica_lives() -> None:
    ending = {Step.SUCCEED, Step.FAIL, Step.RESTART, Step.REQUEUE, Step.CANCEL}
    for state, first, second, cancelled, service in product(
        TaskState, A, A, (False, True), (False, True)
    ):
        step = next_step(gang(state, first, second, cancelled=cancelled, service=service))
        if step in ending:
            assert first.final
            assert second.final
        if state.final:
            assert step is Step.NOTHING


def test_a_broken_gang_with_nothing_left_always_ends() -> None:
    final = [state for state in A if state.final]
    for first, second in product(final, final):
        assert next_step(gang(RUNNING, first, second)) is not Step.NOTHING


def test_each_wait_is_twice_the_last_up_to_the_longest() -> None:
    waits = [back_off_seconds(1.0, failures, 300.0) for failures in (1, 2, 3, 9, 10, 10_000)]
    assert waits == [1.0, 2.0, 4.0, 256.0, 300.0, 300.0]
    assert back_off_seconds(0.0, 10_000, 300.0) == 0.0
