"""Who may say what: nobody without a token, agents only for themselves."""

import httpx2
import pytest

from app.nodes.service import get
from tests.service import JOIN_TOKEN, Service, registration

USER_ROUTES = [
    ("GET", "/api/v1/nodes"),
    ("PATCH", "/api/v1/nodes/n"),
    ("DELETE", "/api/v1/nodes/n"),
    ("GET", "/api/v1/tasks"),
    ("POST", "/api/v1/tasks"),
    ("POST", "/api/v1/tasks/t/cancel"),
    ("GET", "/api/v1/tasks/t/logs"),
    ("GET", "/api/v1/plans"),
    ("POST", "/api/v1/solve"),
    ("GET", "/api/v1/telemetry/latest"),
    ("GET", "/api/v1/telemetry/export"),
    ("GET", "/api/v1/telemetry/live"),
    ("GET", "/api/v1/events"),
]
AGENT_ROUTES = [
    ("POST", "/agent/v1/register"),
    ("POST", "/agent/v1/report"),
    ("GET", "/agent/v1/desired"),
    ("POST", "/agent/v1/logs"),
]


@pytest.mark.parametrize(("method", "path"), [*USER_ROUTES, *AGENT_ROUTES])
async def test_without_a_known_token_every_route_is_a_401(
    sqlite_service: Service, method: str, path: str
) -> None:
    for token in (None, "", "guessed"):
        answer = await sqlite_service.client(token).request(method, path)
        assert answer.status_code == 401, token
        assert answer.headers["www-authenticate"] == "Bearer"
        assert answer.json()["code"] == "unauthorized"


async def test_every_route_of_the_service_asks_for_a_token(sqlite_service: Service) -> None:
    open_to_all = {"/openapi.json"}
    document = (await sqlite_service.client(None).get("/openapi.json")).json()
    stranger = sqlite_service.client(None)
    checked = 0
    for path, operations in document["paths"].items():
        if path in {"/healthz", "/readyz", "/metrics"} | open_to_all:
            continue
        for method in operations:
            answer = await stranger.request(method.upper(), path.replace("{", "").replace("}", ""))
            assert answer.status_code == 401, (method, path)
            checked += 1
    assert checked >= len(USER_ROUTES) + len(AGENT_ROUTES)


async def test_a_node_token_opens_no_user_route_and_a_user_token_no_agent_route(
    sqlite_service: Service,
) -> None:
    agent = await sqlite_service.join("n1")
    for method, path in USER_ROUTES:
        assert (await agent.http.request(method, path)).status_code == 403, path
    for method, path in AGENT_ROUTES:
        assert (await sqlite_service.user.request(method, path)).status_code == 403, path


async def test_the_join_token_only_joins(sqlite_service: Service) -> None:
    joiner = sqlite_service.client(JOIN_TOKEN)
    for method, path in [*USER_ROUTES, *AGENT_ROUTES[1:]]:
        assert (await joiner.request(method, path)).status_code == 403, path


async def test_a_node_cannot_speak_for_another(service: Service) -> None:
    one, two = await service.join("n1"), await service.join("n2")
    stolen = one.report_form()
    answer = await two.http.post("/agent/v1/report", json=stolen)
    assert answer.status_code == 403
    answer = await two.http.post("/agent/v1/register", json=registration("n1"))
    assert answer.status_code == 403


async def test_a_name_that_has_joined_cannot_be_taken_with_the_join_token(service: Service) -> None:
    await service.join("n1")
    answer = await service.client(JOIN_TOKEN).post("/agent/v1/register", json=registration("n1"))
    assert answer.status_code == 409
    assert "remove the node first" in answer.json()["detail"]


async def test_a_removed_node_loses_its_token(service: Service) -> None:
    agent = await service.join("n1")
    assert (await service.user.delete("/api/v1/nodes/n1")).status_code == 409
    async with service.context.database.write() as session:
        (await get(session, "n1")).state = "lost"
    assert (await service.user.delete("/api/v1/nodes/n1")).status_code == 204
    answer = await agent.http.post("/agent/v1/report", json=agent.report_form())
    assert answer.status_code == 401


async def test_another_protocol_version_is_refused_with_a_remedy(sqlite_service: Service) -> None:
    form = registration("n1") | {"version": 99}
    answer = await sqlite_service.client(JOIN_TOKEN).post("/agent/v1/register", json=form)
    assert answer.status_code == 426
    assert "same release" in answer.json()["detail"]


async def test_probes_need_a_token_only_from_elsewhere(sqlite_service: Service) -> None:
    stranger = sqlite_service.client(None)
    for path in ("/healthz", "/readyz", "/metrics"):
        assert (await stranger.get(path)).status_code == 200
    far = httpx2.AsyncClient(
        transport=httpx2.ASGITransport(sqlite_service.app, client=("192.0.2.1", 1)),
        base_url="http://test",
    )
    for path in ("/healthz", "/readyz", "/metrics"):
        assert (await far.get(path)).status_code == 401


async def test_a_body_over_the_limit_is_a_413_and_nothing_is_stored(
    sqlite_service: Service,
) -> None:
    large = b'{"argv": ["' + b"a" * (5 << 20) + b'"]}'
    answer = await sqlite_service.user.post("/api/v1/tasks", content=large)
    assert answer.status_code == 413
    assert answer.json()["code"] == "body_too_large"

    async def pieces():
        for _ in range(6):
            yield b" " * (1 << 20)

    answer = await sqlite_service.user.post("/api/v1/tasks", content=pieces())
    assert answer.status_code == 413
    assert (await sqlite_service.user.get("/api/v1/tasks")).json()["items"] == []
