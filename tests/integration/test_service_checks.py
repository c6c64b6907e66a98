"""Services on the server's side: who may be sent requests, what follows from a failed check."""

from typing import Any

from tests.integration.test_main_path import desired
from tests.service import Service, exited, state

CHECKED = {"kind": "service", "readiness": {"path": "/ready"}, "health": {"path": "/healthz"}}


async def replica(service: Service, task: dict[str, Any]) -> dict[str, Any]:
    [found] = (await service.task(task["id"]))["allocations"]
    return found


async def test_only_a_ready_replica_has_an_endpoint(service: Service) -> None:
    agent = await service.join("n1", gpus=1)
    task = await service.submit(**CHECKED)
    wanted = await desired(service, agent, "run")
    assert wanted["launch"]["readiness"]["path"] == "/ready"
    for said, ready, endpoint in (
        ("running", False, None),
        ("running", True, "127.0.0.1:20001"),
        ("stopping", False, None),
    ):
        await agent.report(state(wanted, said, port=20_001, ready=ready))
        found = await replica(service, task)
        assert (found["ready"], found["endpoint"]) == (ready, endpoint)


async def test_a_warning_is_told_once_while_its_numbers_change(service: Service) -> None:
    agent = await service.join("n1", gpus=1)
    task = await service.submit(request={"gpus": 1})
    wanted = await desired(service, agent, "run")
    for note in ("", "uses 17 of 16 GiB", "uses 18 of 16 GiB", "uses 18 of 16 GiB"):
        await agent.report(state(wanted, "running", note=note))
    assert (await replica(service, task))["note"] == "uses 18 of 16 GiB"
    events = (await service.user.get("/api/v1/events", params={"task": task["id"]})).json()
    warnings = [e["message"] for e in events["items"] if e["kind"] == "task_warned"]
    assert [text.partition(": ")[2] for text in warnings] == ["uses 17 of 16 GiB"]


async def test_an_unhealthy_service_has_failed_and_waits_to_start_again(service: Service) -> None:
    agent = await service.join("n1", gpus=1)
    task = await service.submit(**CHECKED, restart_delay_seconds=3_600)
    wanted = await desired(service, agent, "run")
    await agent.report(state(wanted, "running", ready=True))
    why = "its health check (GET /healthz) failed 3 times in a row: HTTP 500"
    await agent.report(exited(wanted, 0, stopped=True, cause="unhealthy", reason=why))
    found = await service.task(task["id"])
    assert (found["state"], found["failures"]) == ("pending", 1)
    assert why in found["reason"]
