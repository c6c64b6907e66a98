"""The SDK against a real service and a real agent, each a process of its own."""

import threading
from collections.abc import Iterator

import pytest

from client.errors import ConflictError, InvalidInputError, NotFoundError, UnauthorizedError
from client.sdk import Client
from tests.command import Installation, nothing_left
from tests.waiting import wait_for


@pytest.fixture(scope="module")
def installation(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """A service and one node with two simulated devices, shared by the tests of this file."""
    root = tmp_path_factory.mktemp("client") / "stowplan"
    installation = Installation(root)
    try:
        installation.serve()
        installation.join("node-a")
        yield installation
    finally:
        installation.close()
    nothing_left(root)


@pytest.fixture
def stowplan(installation: Installation) -> Iterator[Client]:
    with installation.client() as stowplan:
        yield stowplan


def python(code: str, **more: object) -> dict[str, object]:
    return {"argv": ["python", "-u", "-c", code], **more}


def test_task_is_submitted_followed_and_waited_for(stowplan: Client) -> None:
    task = stowplan.submit(python("print('größe'); print('end')", request={"gpus": 1}))
    assert "".join(stowplan.logs(task["id"])) == "größe\nend\n"
    ended = stowplan.wait(task["id"])
    assert ended["state"] == "succeeded"
    assert ended["allocations"][0]["devices"][0]["simulated"] is True
    assert "node-a" in stowplan.why(task["id"])["text"]
    assert stowplan.plan(ended["plan"])["plan"]["placements"]


def test_same_key_never_makes_a_second_task(stowplan: Client) -> None:
    spec = python("pass", name="once")
    first = stowplan.submit(spec, idempotency_key="key-1")
    assert stowplan.submit(spec, idempotency_key="key-1")["id"] == first["id"]
    assert len(list(stowplan.tasks(name="once"))) == 1
    with pytest.raises(InvalidInputError):
        stowplan.submit(python("print(2)", name="once"), idempotency_key="key-1")


def test_calls_without_a_key_make_a_task_each(stowplan: Client) -> None:
    ids = {stowplan.submit(python("pass", name="twice"))["id"] for _ in range(2)}
    assert {task["id"] for task in stowplan.tasks(name="twice")} == ids


def test_list_of_tasks_goes_over_pages(stowplan: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    ids = [stowplan.submit(python("pass", name="paged"))["id"] for _ in range(5)]
    monkeypatch.setattr("client.sdk._PAGE", 2)
    assert [task["id"] for task in stowplan.tasks(name="paged")] == ids[::-1]
    assert [task["id"] for task in stowplan.tasks(name="paged", limit=3)] == ids[:1:-1]


def test_log_goes_on_with_the_next_attempt_of_a_restarted_task(stowplan: Client) -> None:
    code = (
        "import os, sys; n = os.environ['STOWPLAN_GENERATION']; "
        "print('attempt', n); sys.exit(0 if n == '2' else 5)"
    )
    task = stowplan.submit(python(code, max_restarts=1))
    assert "".join(stowplan.logs(task["id"])) == "attempt 1\nattempt 2\n"
    assert "".join(stowplan.logs(task["id"], generation=1)) == "attempt 1\n"
    assert stowplan.task(task["id"])["failures"] == 1


def test_tail_begins_with_the_last_lines(stowplan: Client) -> None:
    task = stowplan.submit(python("for n in range(100): print(n)"))
    stowplan.wait(task["id"])
    assert "".join(stowplan.logs(task["id"], tail_lines=2, follow=False)) == "98\n99\n"
    assert "".join(stowplan.logs(task["id"], tail_lines=0, follow=False)) == ""
    assert "".join(stowplan.logs(task["id"], offset=-3, follow=False)) == "99\n"


def test_one_ranks_lines_are_read_and_its_last_ones_found_far_back(stowplan: Client) -> None:
    code = (
        "print('[rank1]: first'); print('[rank1]: last')\n"
        "for n in range(40_000): print('[rank0]: step', n)"
    )
    task = stowplan.submit(python(code))
    stowplan.wait(task["id"])
    of_rank = {"replica": 0, "rank": 1, "follow": False}
    assert "".join(stowplan.logs(task["id"], **of_rank)) == "first\nlast\n"
    assert "".join(stowplan.logs(task["id"], tail_lines=1, **of_rank)) == "last\n"
    tail = stowplan.logs(task["id"], replica=0, rank=0, tail_lines=2, follow=False)
    assert "".join(tail) == "step 39998\nstep 39999\n"


def test_cancelled_task_stops_and_cancelling_again_changes_nothing(stowplan: Client) -> None:
    task = stowplan.submit(python("import time; print('up'); time.sleep(600)", grace_seconds=1.0))
    assert next(stowplan.logs(task["id"])) == "up\n"
    stowplan.cancel(task["id"])
    assert stowplan.wait(task["id"])["state"] == "cancelled"
    assert stowplan.cancel(task["id"])["state"] == "cancelled"


def test_cordoned_node_takes_nothing_new(stowplan: Client) -> None:
    assert stowplan.cordon("node-a")["schedulable"] is False
    try:
        task = stowplan.submit(python("pass", request={"gpus": 1}))
        wait_for(lambda: bool(stowplan.why(task["id"])["reasons"]), "a plan speaks of the task")
        assert stowplan.task(task["id"])["state"] == "pending"
    finally:
        assert stowplan.uncordon("node-a")["schedulable"] is True
    assert stowplan.wait(task["id"])["state"] == "succeeded"


def test_events_are_streamed_in_order_and_without_gaps(stowplan: Client) -> None:
    task = stowplan.submit(python("pass"))
    kinds = []
    for event in stowplan.events(task=task["id"], follow=True):
        kinds.append(event["kind"])
        if event["kind"] == "task_succeeded":
            break
    assert kinds == ["task_submitted", "task_placed", "task_running", "task_succeeded"]
    assert [event["kind"] for event in stowplan.events(task=task["id"])] == kinds


def test_problem_of_a_plan_gives_a_plan_again(stowplan: Client) -> None:
    task = stowplan.submit(python("pass", request={"gpus": 1}))
    plan = stowplan.wait(task["id"])["plan"]
    problem = stowplan.problem(plan)
    assert problem["version"] == 1
    placed = {placement["task"] for placement in stowplan.solve(problem)["placements"]}
    assert task["id"] in placed


def test_jobs_are_allocated_and_programs_solved(stowplan: Client) -> None:
    job = {"id": "j", "throughput": {"v100": 2.0}}
    jobs = {"version": 1, "accelerators": {"v100": 1}, "jobs": [job]}
    assert stowplan.allocate(jobs)["policy"] == "max_min_fairness"
    found = stowplan.allocate(jobs, "max_throughput")
    assert (found["policy"], found["objective"]) == ("max_throughput", 2.0)
    assert stowplan.solve_program({"c": [1], "bounds": [[3, None]]})["x"] == [3.0]


def test_node_is_measured(stowplan: Client) -> None:
    wait_for(lambda: stowplan.latest("node-a")[0]["host"] is not None, "the first sample")
    [latest] = stowplan.latest()
    assert latest["host"]["memory_total_mib"] > 0
    assert all(device["simulated"] for device in latest["devices"])
    measured = stowplan.telemetry
    assert measured.node("node-a", points=10)["node"] == "node-a"
    uuid = latest["devices"][0]["uuid"]
    assert measured.device(uuid, fields="utilization_percent")["uuid"] == uuid
    [most] = measured.top("memory_total_mib", of="node", n=1)
    assert most["node"] == "node-a"
    assert measured.aggregate("model")["by"] == "model"
    text = b"".join(measured.export(of="node", resolution="samples")).decode()
    assert text.startswith("node,key,")
    assert "\r\nnode-a,node-a," in text
    with pytest.raises(NotFoundError):
        measured.device("GPU-unknown")
    with pytest.raises(InvalidInputError):
        b"".join(measured.export(of="nobody"))


def test_faults_are_all_named_and_nothing_is_stored(stowplan: Client) -> None:
    before = len(list(stowplan.tasks()))
    with pytest.raises(InvalidInputError) as caught:
        stowplan.submit({"argv": [], "replicas": -1, "nonsense": 1})
    assert {fault.path for fault in caught.value.faults} == {"argv", "replicas", "nonsense"}
    assert len(list(stowplan.tasks())) == before


@pytest.mark.parametrize("reference", ["nosuch", "a/b", "..", "", "?", "%00", "ä"])
def test_unknown_task_is_not_found_whatever_its_name(stowplan: Client, reference: str) -> None:
    with pytest.raises((NotFoundError, InvalidInputError)):
        stowplan.task(reference)


def test_live_node_is_not_removed(stowplan: Client) -> None:
    with pytest.raises(ConflictError):
        stowplan.remove_node("node-a")


def test_wrong_token_is_refused(stowplan: Client) -> None:
    with Client(stowplan.server, "wrong") as stranger, pytest.raises(UnauthorizedError):
        list(stranger.tasks())


def test_every_waiter_returns_when_the_task_ends(
    installation: Installation, stowplan: Client
) -> None:
    task = stowplan.submit(python("import time; time.sleep(600)", grace_seconds=1.0))
    states: list[str] = []

    def wait() -> None:
        with installation.client() as own:
            states.append(own.wait(task["id"])["state"])

    threads = [threading.Thread(target=wait) for _ in range(2)]
    for thread in threads:
        thread.start()
    stowplan.cancel(task["id"])
    for thread in threads:
        thread.join(60)
    assert states == ["cancelled", "cancelled"]
