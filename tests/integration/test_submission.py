"""Submitting, finding and cancelling tasks: what is stored, and what never is."""

import pytest

from tests.service import Service


async def count(service: Service) -> int:
    return len((await service.user.get("/api/v1/tasks")).json()["items"])


async def test_a_submitted_task_is_found_by_id_and_by_name(service: Service) -> None:
    task = await service.submit(name="train", argv=["python", "train.py"])
    assert (await service.task(task["id"]))["spec"]["argv"] == ["python", "train.py"]
    assert (await service.task("train"))["id"] == task["id"]


async def test_a_name_means_the_newest_task_that_has_it(service: Service) -> None:
    await service.submit(name="train")
    newer = await service.submit(name="train")
    assert (await service.task("train"))["id"] == newer["id"]


async def test_a_task_without_a_name_is_named_after_its_script(sqlite_service: Service) -> None:
    task = await sqlite_service.submit(
        argv=["python", "-u", "examples/train_digits.py", "--epochs", "3"]
    )
    assert task["name"] == "train_digits"
    task = await sqlite_service.submit(argv=["/bin/.sleep it"])
    assert task["name"] == "sleep-it"


async def test_every_fault_is_named_at_once_and_nothing_is_stored(service: Service) -> None:
    answer = await service.user.post(
        "/api/v1/tasks",
        json={
            "argv": [],
            "replicas": "2",
            "priority": 1.5,
            "colour": "red",
            "request": {"gpus": -1, "cpu_milli": 2**60},
            "env": {"1BAD": "x"},
        },
    )
    assert answer.status_code == 422
    assert answer.headers["content-type"] == "application/problem+json"
    paths = {fault["path"] for fault in answer.json()["faults"]}
    assert {"argv", "replicas", "priority", "colour", "request.gpus", "request.cpu_milli"} <= paths
    assert any(path.startswith("env") for path in paths)
    assert all(fault["reason"] for fault in answer.json()["faults"])
    assert await count(service) == 0


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b'{"argv": ["a"]',
        b"\xff\xfe",
        b"[1,",
        b'{"argv": ["\\ud800"]}',
        b"nul",
        b"[" * 100_000,
    ],
)
async def test_broken_json_is_a_400_and_nothing_is_stored(
    sqlite_service: Service, body: bytes
) -> None:
    answer = await sqlite_service.user.post("/api/v1/tasks", content=body)
    assert answer.status_code == 400
    assert answer.json()["code"] == "malformed_json"
    assert await count(sqlite_service) == 0


async def test_json_that_is_no_object_is_a_422(sqlite_service: Service) -> None:
    answer = await sqlite_service.user.post("/api/v1/tasks", content=b"[1, 2]")
    assert answer.status_code == 422
    assert answer.json()["faults"][0]["path"] == "$"


async def test_a_share_of_several_devices_is_refused(sqlite_service: Service) -> None:
    answer = await sqlite_service.user.post(
        "/api/v1/tasks", json={"argv": ["a"], "request": {"gpus": 2, "gpu_milli": 500}}
    )
    assert answer.status_code == 422
    assert answer.json()["faults"][0]["path"] == "request"


async def test_nul_in_an_argument_is_refused_before_a_database_sees_it(service: Service) -> None:
    answer = await service.user.post("/api/v1/tasks", json={"argv": ["a\x00b"]})
    assert answer.status_code == 422
    answer = await service.user.get("/api/v1/tasks/a%00b")
    assert answer.status_code == 422


async def test_the_same_idempotency_key_gives_the_same_task(service: Service) -> None:
    first = await service.user.post(
        "/api/v1/tasks", json={"argv": ["a"]}, headers={"Idempotency-Key": "k1"}
    )
    again = await service.user.post(
        "/api/v1/tasks", json={"argv": ["a"]}, headers={"Idempotency-Key": "k1"}
    )
    assert (first.status_code, again.status_code) == (201, 200)
    assert first.json()["id"] == again.json()["id"]
    assert await count(service) == 1


async def test_an_idempotency_key_with_another_body_is_refused(service: Service) -> None:
    await service.user.post("/api/v1/tasks", json={"argv": ["a"]}, headers={"Idempotency-Key": "k"})
    other = await service.user.post(
        "/api/v1/tasks", json={"argv": ["b"]}, headers={"Idempotency-Key": "k"}
    )
    assert other.status_code == 422
    assert await count(service) == 1


async def test_a_gang_larger_than_the_cluster_is_refused(service: Service) -> None:
    await service.join("n1", gpus=2)
    answer = await service.user.post(
        "/api/v1/tasks",
        json={"argv": ["a"], "replicas": 3, "request": {"gpus": 1, "cpu_milli": 4_000}},
    )
    assert answer.status_code == 422
    faults = answer.json()["faults"]
    assert [fault["path"] for fault in faults] == ["replicas", "replicas"]
    assert "3000 GPU milli" in faults[0]["reason"]
    assert "12000 CPU milli" in faults[1]["reason"]
    assert await count(service) == 0


async def test_before_any_node_has_joined_no_gang_is_too_large(sqlite_service: Service) -> None:
    task = await sqlite_service.submit(replicas=100, request={"gpus": 8})
    assert task["state"] == "pending"


async def test_separation_from_an_unknown_task_is_refused(service: Service) -> None:
    answer = await service.user.post(
        "/api/v1/tasks", json={"argv": ["a"], "separate_from": ["t-nobody"]}
    )
    assert answer.status_code == 422
    assert answer.json()["faults"] == [
        {"path": "separate_from[0]", "value": "t-nobody", "reason": "no task has this id"}
    ]


async def test_an_unknown_task_is_a_404_that_says_what_to_do(sqlite_service: Service) -> None:
    for path in ("", "/why", "/logs"):
        answer = await sqlite_service.user.get(f"/api/v1/tasks/t-nobody{path}")
        assert answer.status_code == 404
        assert "t-nobody" in answer.json()["detail"]


async def test_unknown_words_in_a_query_are_refused(sqlite_service: Service) -> None:
    for path in ("tasks", "nodes", "plans", "events", "telemetry/latest"):
        answer = await sqlite_service.user.get(f"/api/v1/{path}?colour=red")
        assert answer.status_code == 422, path
        assert answer.json()["faults"][0]["path"] == "colour"


async def test_a_waiting_task_is_cancelled_at_once_and_only_once(service: Service) -> None:
    task = await service.submit()
    first = await service.user.post(f"/api/v1/tasks/{task['id']}/cancel")
    assert (first.status_code, first.json()["state"]) == (200, "cancelled")
    again = await service.user.post(f"/api/v1/tasks/{task['id']}/cancel")
    assert again.json()["finished_at"] == first.json()["finished_at"]


async def test_pages_follow_each_other_without_gap_or_repetition(service: Service) -> None:
    made = [(await service.submit())["id"] for _ in range(5)]
    seen: list[str] = []
    query: dict[str, str | int] = {"limit": 2}
    while True:
        page = (await service.user.get("/api/v1/tasks", params=query)).json()
        seen += [task["id"] for task in page["items"]]
        if page["next_cursor"] is None:
            break
        query["cursor"] = page["next_cursor"]
    assert seen == made[::-1]


async def test_tasks_are_listed_by_state_and_queue(service: Service) -> None:
    kept = await service.submit(queue="research")
    gone = await service.submit(queue="research")
    await service.submit(queue="serving")
    await service.user.post(f"/api/v1/tasks/{gone['id']}/cancel")
    page = await service.user.get("/api/v1/tasks?state=pending&state=running&queue=research")
    assert [task["id"] for task in page.json()["items"]] == [kept["id"]]
