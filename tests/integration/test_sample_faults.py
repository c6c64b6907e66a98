"""Faults from outside: afterwards the rows are those that were sent, none lost and none doubled."""

import asyncio
import shutil
import subprocess
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import (
    AbstractContextManager,
    AsyncExitStack,
    asynccontextmanager,
    contextmanager,
    suppress,
)
from pathlib import Path
from typing import Any

import httpx2
import psycopg
import pytest
import sqlalchemy.exc

from app.db import engine
from app.settings import Settings
from tests.command import Installation
from tests.full_disk import no_file_beyond
from tests.own_postgres import OwnPostgres, Shutdown, own_postgres
from tests.resending import Resender, stored_rows
from tests.service import (
    GIVE_UP_SECONDS,
    JOIN_TOKEN,
    Agent,
    ManualClock,
    batch,
    rows,
    running,
)

BATCHES_BEFORE, BATCHES_IN_ALL = 10, 40
SMALL_DISK_BYTES, ROOM_LEFT_BYTES = 16 << 20, 64 << 10


@pytest.fixture
def postgres() -> Iterator[OwnPostgres]:
    with own_postgres() as server:
        yield server


async def send_all(nodes: list[Resender], batches: int) -> None:
    await asyncio.gather(*(node.send_many(batches) for node in nodes))


async def until_taken(nodes: list[Resender], batches: int) -> None:
    async with asyncio.timeout(GIVE_UP_SECONDS):
        while min(node.taken for node in nodes) < batches:  # noqa: ASYNC110  no news of it
            await asyncio.sleep(0.01)


async def until_refused(nodes: list[Resender]) -> None:
    async with asyncio.timeout(GIVE_UP_SECONDS):
        while not all(node.refused for node in nodes):  # noqa: ASYNC110  no news of it
            await asyncio.sleep(0.01)


class Remote:
    """A service that is a process of its own, as :class:`Agent` wants one."""

    def __init__(self, installation: Installation) -> None:
        self.installation = installation
        installation.environment["STOWPLAN_JOIN_TOKEN"] = JOIN_TOKEN
        self.process = installation.serve()
        self._url = f"http://127.0.0.1:{installation.port}"
        self._clients: list[httpx2.AsyncClient] = []

    def client(self, token: str | None) -> httpx2.AsyncClient:
        headers = {"Authorization": f"Bearer {token}"}
        self._clients.append(httpx2.AsyncClient(base_url=self._url, headers=headers, timeout=60))
        return self._clients[-1]

    async def nodes(self, count: int) -> list[Resender]:
        first_ms = time.time_ns() // 1_000_000 - 3_600_000
        agents = [Agent(self, f"n{number}") for number in range(count)]  # pyright: ignore[reportArgumentType]
        for agent in agents:
            await agent.register(gpus=2)
            await agent.report()
        return [Resender(agent, gpus=2, first_ms=first_ms) for agent in agents]

    def now_ms(self) -> int:
        return time.time_ns() // 1_000_000

    def kill_and_serve_again(self) -> None:
        port = self.installation.port
        self.process.kill()
        self.process.wait()
        self.process = self.installation.serve(port)

    async def close(self) -> None:
        for client in self._clients:
            await client.aclose()
        await asyncio.to_thread(self.installation.close)


@asynccontextmanager
async def remote(root: Path, database_url: str | None = None) -> AsyncIterator[Remote]:
    installation = Installation(root)
    if database_url is not None:
        installation.environment["STOWPLAN_DATABASE_URL"] = database_url
    service = await asyncio.to_thread(Remote, installation)
    try:
        yield service
    finally:
        await service.close()


@contextmanager
def full_partition(folder: Path, _pid: int) -> Iterator[None]:
    """The file system takes a few more pages; the service's log is on it, too."""
    ballast = folder / "ballast"
    free = shutil.disk_usage(folder).free
    ballast.write_bytes(bytes(free - ROOM_LEFT_BYTES))
    try:
        yield
    finally:
        ballast.unlink()


@contextmanager
def no_larger_file(folder: Path, pid: int) -> Iterator[None]:
    """No file grows beyond the largest that's there: needs no right to mount."""
    largest = max(path.stat().st_size for path in folder.rglob("*"))
    with no_file_beyond(largest, pid):
        yield


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={SMALL_DISK_BYTES}", "stowplan-test", folder]
    if subprocess.run(mount, check=False, capture_output=True).returncode != 0:
        pytest.skip("a file system of a test's own takes the right to mount")
    try:
        yield folder
    finally:
        subprocess.run(["umount", folder], check=True)


@asynccontextmanager
async def in_the_middle_of_a_write(
    url: str, sending: Coroutine[Any, Any, Any]
) -> AsyncIterator[asyncio.Task[Any]]:
    """Rows that are being sent are on their way into the table, and stay so."""
    waiting = (
        "SELECT count(*) FROM pg_stat_activity"
        " WHERE wait_event_type = 'Lock' AND datname = current_database()"
    )
    with suppress(psycopg.OperationalError):  # the server may go before its lock does
        async with await psycopg.AsyncConnection.connect(url) as somebody:
            await somebody.execute("LOCK TABLE device_samples IN ACCESS EXCLUSIVE MODE")
            task = asyncio.create_task(sending)
            async with (
                asyncio.timeout(GIVE_UP_SECONDS),
                await psycopg.AsyncConnection.connect(url, autocommit=True) as looking,
            ):
                while await (await looking.execute(waiting)).fetchone() == (0,):
                    pass
            yield task


@pytest.mark.parametrize("how", ["fast", "immediate"])
async def test_a_database_that_goes_and_comes_back_has_every_batch_once(
    tmp_path: Path, postgres: OwnPostgres, how: Shutdown
) -> None:
    async with running(tmp_path / "home", postgres.url) as service:
        first_ms = service.now_ms() - BATCHES_IN_ALL * 10_000
        agents = [await service.join(f"n{number}", gpus=2) for number in range(4)]
        for agent in agents:
            await agent.report()
        nodes = [Resender(agent, gpus=2, first_ms=first_ms) for agent in agents]
        await send_all(nodes, BATCHES_BEFORE)
        rest = send_all(nodes, BATCHES_IN_ALL - BATCHES_BEFORE)
        async with in_the_middle_of_a_write(postgres.url, rest) as sending:
            await asyncio.to_thread(postgres.stop, how)
        await until_refused(nodes)
        for agent in agents:
            assert (await agent.report())["lease_seconds"] > 0, "nothing new: it needs no database"
            unknown = await agent.send_samples({"epoch": "e", "seq": 1, "devices": None})
            assert unknown.status_code == 503
        await asyncio.to_thread(postgres.start)
        async with asyncio.timeout(GIVE_UP_SECONDS):
            await sending
        assert (await service.user.get("/api/v1/tasks")).status_code == 200
    sent = sorted(row for node in nodes for row in node.sent)
    assert len(sent) == 4 * 2 * BATCHES_IN_ALL
    assert stored_rows(postgres.url) == sent


async def test_a_write_that_the_database_breaks_off_is_one_failure_and_no_more(
    tmp_path: Path, postgres_database: str
) -> None:
    async with running(tmp_path / "home", postgres_database) as service:
        agent = await service.join("n1", gpus=2)
        node = Resender(agent, gpus=2, first_ms=service.now_ms() - 100_000)
        await node.send_many(1)
        batch = node.next_batch()
        async with in_the_middle_of_a_write(postgres_database, node.send_once(batch)) as sending:
            async with await psycopg.AsyncConnection.connect(postgres_database) as somebody:
                await somebody.execute(
                    "SELECT pg_cancel_backend(pid) FROM pg_stat_activity"
                    " WHERE wait_event_type = 'Lock' AND datname = current_database()"
                )
            assert await sending is None
        assert node.refused == {503: 1}
        assert (await node.send(batch))["rows"] == 2
    assert stored_rows(postgres_database) == sorted(node.sent)


async def test_who_finds_all_connections_taken_is_told_to_come_again(
    tmp_path: Path, postgres_database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "_CONNECTION_WAIT_SECONDS", 0.05)
    async with running(tmp_path / "home", postgres_database) as service:
        agent = await service.join("n1", gpus=2)
        async with AsyncExitStack() as held, asyncio.timeout(GIVE_UP_SECONDS):
            with suppress(sqlalchemy.exc.TimeoutError):
                while True:
                    session = await held.enter_async_context(service.context.database.read())
                    await session.execute(sqlalchemy.text("SELECT 1"))
            refused = await agent.http.post("/agent/v1/report", json=agent.report_form())
            assert refused.status_code == 503
            assert int(refused.headers["retry-after"]) > 0
        assert (await agent.report())["lease_seconds"] > 0


async def test_a_full_partition_makes_agents_wait_and_nothing_else(small_disk: Path) -> None:
    await full_disk_makes_agents_wait(small_disk, full_partition)


async def test_files_that_cannot_grow_make_agents_wait_and_nothing_else(tmp_path: Path) -> None:
    await full_disk_makes_agents_wait(tmp_path, no_larger_file)


async def full_disk_makes_agents_wait(
    root: Path, full: Callable[[Path, int], AbstractContextManager[None]]
) -> None:
    async with remote(root / "stowplan") as service:
        nodes = await service.nodes(2)
        await send_all(nodes, BATCHES_BEFORE)
        with full(root, service.process.pid):
            kept = [await until_kept(node) for node in nodes]
            assert all(node.refused == {503: 1} for node in nodes)
            for node in nodes:
                assert (await node.agent.report())["lease_seconds"] > 0
            assert service.process.poll() is None
        for node, batch in zip(nodes, kept, strict=True):
            assert (await node.send(batch))["duplicates"] == 0
        await send_all(nodes, BATCHES_BEFORE)
        found = stored_rows(f"sqlite:///{service.installation.home}/stowplan-telemetry.db")
    assert found == sorted(row for node in nodes for row in node.sent)


async def until_kept(node: Resender) -> dict[str, Any]:
    """Send until there's no more room; the batch that found none."""
    async with asyncio.timeout(GIVE_UP_SECONDS):
        while True:
            batch = node.next_batch()
            if await node.send_once(batch) is None:
                return batch


async def test_a_service_killed_while_batches_are_on_their_way_has_each_once(
    tmp_path: Path, database_url: str
) -> None:
    async with remote(tmp_path / "stowplan", database_url) as service:
        nodes = await service.nodes(4)
        sending = asyncio.create_task(send_all(nodes, 3 * BATCHES_IN_ALL))
        for kills in (1, 2):
            await until_taken(nodes, kills * BATCHES_IN_ALL)
            await asyncio.to_thread(service.kill_and_serve_again)
        async with asyncio.timeout(GIVE_UP_SECONDS):
            await sending
        assert all(node.refused[0] > 0 for node in nodes), "it was away"
    telemetry_url = Settings(home=tmp_path, database_url=database_url).resolved_telemetry_url
    sent = sorted(row for node in nodes for row in node.sent)
    assert stored_rows(telemetry_url) == sent


async def test_a_clock_set_by_an_hour_between_two_runs_leaves_rows_evenly_spaced(
    tmp_path: Path, database_url: str
) -> None:
    clock = ManualClock()
    async with running(tmp_path / "home", database_url, clock) as service:
        agent = await service.join("n1", gpus=2)
        true_ms = []
        for epoch, off_ms in (("epoch-1", 0), ("epoch-2", 3_600_000), ("epoch-3", 0)):
            for seq in range(1, 21):
                clock.advance(10)
                true_ms.append(service.now_ms() - 100)
                stamped = rows([true_ms[-1] + off_ms], of=["SIM-n1-0"], energy_joules=[seq])
                answer = await agent.send_samples(
                    batch(seq, epoch=epoch, devices=stamped),
                    sent_at_ms=service.now_ms() + off_ms,
                )
                assert answer.json()["rows"] == 1
    telemetry_url = Settings(home=tmp_path, database_url=database_url).resolved_telemetry_url
    assert [at_ms for _, _, at_ms, _ in stored_rows(telemetry_url)] == true_ms
