"""A running service inside the test, a user and agents that speak to it over HTTP."""

import asyncio
import contextlib
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

import httpx2

from app import signals
from app.deps import Context
from app.loops.runner import Loop
from app.main import create_app
from app.settings import Settings
from protocol import VERSION

USER_TOKEN = "user-token-of-the-tests"
JOIN_TOKEN = "join-token-of-the-tests"
GIVE_UP_SECONDS = 60.0
LoopT = TypeVar("LoopT", bound=Loop)


class ManualClock:
    """Time that passes when the test says so."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def now(self) -> datetime:
        return datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=self.seconds)

    def monotonic(self) -> float:
        return 1_000.0 + self.seconds

    def advance(self, seconds: float) -> None:
        self.seconds += seconds


class Service:
    """A service, seen by its user."""

    def __init__(self, app: Any) -> None:
        self.app = app
        self.context: Context = app.state.context
        self.transport = httpx2.ASGITransport(app, client=("127.0.0.1", 1))
        self.user = self.client(USER_TOKEN)

    def client(self, token: str | None) -> httpx2.AsyncClient:
        headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        return httpx2.AsyncClient(
            transport=self.transport, base_url="http://test", headers=headers, timeout=60
        )

    def now_ms(self) -> int:
        """Milliseconds since 1970 on the service's clock."""
        return round(self.context.clock.now().timestamp() * 1000)

    async def submit(self, **spec: Any) -> dict[str, Any]:
        answer = await self.user.post("/api/v1/tasks", json={"argv": ["true"], **spec})
        assert answer.status_code == 201, answer.text
        return answer.json()

    async def task(self, task: str) -> dict[str, Any]:
        answer = await self.user.get(f"/api/v1/tasks/{task}")
        assert answer.status_code == 200, answer.text
        return answer.json()

    async def until(
        self, look: Callable[[], Awaitable[Any]], what: str, topic: str = signals.TASKS
    ) -> Any:
        """Look again at every news of the topic until it's there."""
        while True:
            ticket = self.context.signals.ticket(topic)
            seen = await look()
            if seen:
                return seen
            assert await signals.wait(ticket, GIVE_UP_SECONDS), f"never came: {what}"

    async def until_state(self, task: str, *states: str) -> dict[str, Any]:
        async def look() -> dict[str, Any] | None:
            seen = await self.task(task)
            return seen if seen["state"] in states else None

        return await self.until(look, f"{task} is {' or '.join(states)}")

    async def until_waiting(self, task: str) -> dict[str, Any]:
        """The task's `why`, once a plan has left it unplaced."""

        async def look() -> dict[str, Any] | None:
            why = (await self.user.get(f"/api/v1/tasks/{task}/why")).json()
            return why if why["reasons"] else None

        return await self.until(look, f"{task} has reasons")

    async def take_over(self, loop: LoopT) -> LoopT:
        """From here on the test ticks this loop. The service's own of that name is stopped, so
        that the two don't change the same rows at once."""
        for task in asyncio.all_tasks():
            if task.get_name() == loop.name:
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await task
        return loop

    async def join(self, name: str, **about: Any) -> "Agent":
        agent = Agent(self, name)
        await agent.register(**about)
        return agent


class Agent:
    """An agent as the service sees one: it registers, reports, and asks what to run."""

    def __init__(self, service: Service, name: str) -> None:
        self.service = service
        self.name = name
        self.http = service.client(JOIN_TOKEN)
        self.token: str | None = None
        self._seq = itertools.count(1)
        self._sample_seq = itertools.count(1)

    async def register(self, **about: Any) -> httpx2.Response:
        form = registration(self.name, **about)
        answer = await self.http.post("/agent/v1/register", json=form)
        assert answer.status_code == 200, answer.text
        token = answer.json()["token"]
        if token is not None:
            self.token = token
            self.http = self.service.client(token)
        return answer

    def report_form(self, *allocations: dict[str, Any], **more: Any) -> dict[str, Any]:
        return {
            "version": VERSION,
            "node": self.name,
            "boot_id": "boot-1",
            "epoch": "epoch-1",
            "seq": next(self._seq),
            "sent_at_ms": 0,
            "allocations": list(allocations),
            **more,
        }

    async def report(self, *allocations: dict[str, Any], **more: Any) -> dict[str, Any]:
        answer = await self.http.post(
            "/agent/v1/report", json=self.report_form(*allocations, **more)
        )
        assert answer.status_code == 200, answer.text
        return answer.json()

    def sample_form(self, *batches: dict[str, Any], **more: Any) -> dict[str, Any]:
        return {
            "version": VERSION,
            "node": self.name,
            "sent_at_ms": self.service.now_ms(),
            "batches": list(batches),
            **more,
        }

    async def send_samples(self, *batches: dict[str, Any], **more: Any) -> httpx2.Response:
        return await self.http.post("/agent/v1/samples", json=self.sample_form(*batches, **more))

    async def measure(self, **parts: Any) -> dict[str, Any]:
        """Send one batch with the next number; its answer."""
        answer = await self.send_samples(batch(next(self._sample_seq), **parts))
        assert answer.status_code == 200, answer.text
        return answer.json()

    async def desired(self, **query: Any) -> list[dict[str, Any]]:
        answer = await self.http.get("/agent/v1/desired", params=query)
        assert answer.status_code in {200, 204}, answer.text
        return answer.json()["allocations"] if answer.status_code == 200 else []


def state(allocation: dict[str, Any], state_: str, **more: Any) -> dict[str, Any]:
    """What an agent reports of an allocation in its desired set."""
    return {
        "id": allocation["id"],
        "generation": allocation["generation"],
        "state": state_,
        **more,
    }


def exited(allocation: dict[str, Any], code: int | None = 0, **more: Any) -> dict[str, Any]:
    end = {"code": code, "at_ms": 1_767_225_700_000, **more}
    return state(allocation, "exited", exit=end)


def registration(
    name: str,
    *,
    gpus: int = 0,
    cpu_milli: int = 8_000,
    memory_mib: int = 16_384,
    model: str = "A100",
    **about: Any,
) -> dict[str, Any]:
    return {
        "version": VERSION,
        "node": name,
        "address": "127.0.0.1",
        "inventory": {
            "host": {
                "hostname": name,
                "boot_id": "boot-1",
                "kernel": "6.1",
                "cpu_milli": cpu_milli,
                "memory_mib": memory_mib,
                "disk_mib": 1_000,
                "network_mbps": 1_000,
            },
            "devices": [
                {
                    "uuid": f"SIM-{name}-{index}",
                    "index": index,
                    "model": model,
                    "memory_mib": 40_960,
                    "simulated": True,
                }
                for index in range(gpus)
            ],
            "device_source": "simulated" if gpus else "none",
        },
        **about,
    }


def rows(
    taken_at_ms: list[int], *, of: list[str] | None = None, **values: list[float | None]
) -> dict[str, Any]:
    """Measurements in column form; ``of`` says of which device or allocation each row is."""
    form: dict[str, Any] = {"taken_at_ms": taken_at_ms, "values": values}
    if of is not None:
        keys = sorted(set(of))
        form |= {"keys": keys, "key": [keys.index(one) for one in of]}
    return form


def batch(seq: int, *, epoch: str = "epoch-1", **parts: Any) -> dict[str, Any]:
    """A batch of ``host``, ``devices`` and ``tasks`` as :func:`rows` makes them."""
    return {"epoch": epoch, "seq": seq, **parts}


@asynccontextmanager
async def running(
    home: Path, database_url: str | None = None, clock: ManualClock | None = None, **settings: Any
) -> AsyncIterator[Service]:
    """The service with its loops, its solver's child process and its database."""
    settings = {"eta_debounce_seconds": 3_600} | settings  # a process more; few tests want it
    app = create_app(
        Settings(
            home=home,
            database_url=database_url,
            user_token=USER_TOKEN,
            join_token=JOIN_TOKEN,
            plan_workers=1,
            plan_debounce_seconds=0,
            **settings,
        ),
        clock=clock,
    )
    async with app.router.lifespan_context(app):
        service = Service(app)
        try:
            yield service
        finally:
            await service.user.aclose()
