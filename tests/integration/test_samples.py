"""Measurements on their way in: each batch is stored once, whatever happens on the way."""

import asyncio
import gzip
import json
import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, select

from app.db.samples.tables import RAW, Kind, table
from app.metrics.telemetry import Telemetry
from tests.service import GIVE_UP_SECONDS, Agent, ManualClock, Service, batch, rows, running


@pytest.fixture
async def timed(tmp_path: Path, database_url: str, clock: ManualClock) -> AsyncIterator[Service]:
    async with running(tmp_path / "home", database_url, clock) as service:
        yield service


async def stored(service: Service, kind: Kind = Kind.DEVICE) -> list[dict[str, Any]]:
    """All rows of a kind as they came, in order of time."""
    telemetry: Telemetry = service.app.state.telemetry
    of = table(kind, RAW)
    async with telemetry.store.read() as session:
        found = await session.execute(select(of).order_by(of.c.taken_at_ms, of.c.series_id))
        return [dict(row) for row in found.mappings()]


async def count(service: Service) -> int:
    telemetry: Telemetry = service.app.state.telemetry
    async with telemetry.store.read() as session:
        counts = [
            await session.scalar(select(func.count()).select_from(table(kind, RAW)))
            for kind in Kind
        ]
    return sum(counts)


def gpu(
    service: Service, *ago_ms: int, of: str = "SIM-n1-0", **values: list[Any]
) -> dict[str, Any]:
    """Rows of one device, taken so long ago."""
    times = [service.now_ms() - ago for ago in ago_ms]
    return rows(times, of=[of] * len(times), **values)


async def test_a_batch_becomes_rows_of_its_series(timed: Service) -> None:
    agent = await timed.join("n1", gpus=2)
    now = timed.now_ms()
    ack = await agent.measure(
        host=rows([now], load_1m=[1.5], memory_total_mib=[64]),
        devices=rows(
            [now, now],
            of=["SIM-n1-0", "SIM-n1-1"],
            utilization_percent=[12.5, None],
            energy_joules=[1e6, 2e6],
            temperature_celsius=[40, 41],
        ),
    )
    assert (ack["rows"], ack["duplicates"], ack["unknown"]) == (3, 0, 0)
    first, second = await stored(timed)
    assert first["taken_at_ms"] == now
    assert (first["utilization_percent"], second["utilization_percent"]) == (12.5, None)
    assert (first["energy_joules"], second["temperature_celsius"]) == (1e6, 41)
    assert first["power_watts"] is None, "not measured is unknown, not zero"
    [host] = await stored(timed, Kind.HOST)
    assert (host["load_1m"], host["memory_total_mib"]) == (1.5, 64)


async def test_batches_repeated_and_out_of_order_are_stored_once_each(timed: Service) -> None:
    agent = await timed.join("n1", gpus=1)
    for seq in (3, 1, 3, 2, 1, 2):
        part = gpu(timed, 1000 * seq, utilization_percent=[seq])
        answer = await agent.send_samples(batch(seq, devices=part))
        assert answer.status_code == 200
    assert sorted(row["utilization_percent"] for row in await stored(timed)) == [1, 2, 3]
    again = await agent.send_samples(*(batch(seq, devices=gpu(timed, 0)) for seq in (1, 2, 3, 4)))
    assert (again.json()["rows"], again.json()["duplicates"]) == (1, 3)


async def test_the_same_numbers_of_another_run_are_other_batches(timed: Service) -> None:
    agent = await timed.join("n1", gpus=1)
    for epoch in ("epoch-1", "epoch-2"):
        part = gpu(timed, 1000 if epoch == "epoch-1" else 0)
        await agent.send_samples(batch(1, epoch=epoch, devices=part))
    assert len(await stored(timed)) == 2


async def test_what_is_stored_is_remembered_by_a_restarted_service(
    tmp_path: Path, database_url: str, clock: ManualClock
) -> None:
    async with running(tmp_path / "home", database_url, clock) as service:
        agent = await service.join("n1", gpus=1)
        await agent.measure(devices=gpu(service, 0, utilization_percent=[77]))
        token = agent.token
    async with running(tmp_path / "home", database_url, clock) as service:
        agent = Agent(service, "n1")
        agent.http = service.client(token)
        ack = await agent.measure(devices=gpu(service, 0, utilization_percent=[1]))
        assert (ack["rows"], ack["duplicates"]) == (0, 1)
        [node] = (await service.user.get("/api/v1/telemetry/latest")).json()["items"]
        assert node["devices"][0]["utilization_percent"] == 77, "seeded from the newest rows"


async def test_devices_and_allocations_of_others_are_counted_and_left_out(timed: Service) -> None:
    agent = await timed.join("n1", gpus=1)
    await timed.join("n2", gpus=1)
    ack = await agent.measure(
        devices=rows([timed.now_ms()] * 2, of=["SIM-n1-0", "SIM-n2-0"], power_watts=[1, 2]),
        tasks=rows([timed.now_ms()], of=["a-nobody"], cpu_seconds=[1]),
    )
    assert (ack["rows"], ack["unknown"]) == (1, 2)
    assert [row["power_watts"] for row in await stored(timed)] == [1]


async def test_a_node_speaks_for_itself_alone(timed: Service) -> None:
    agent = await timed.join("n1", gpus=1)
    answer = await agent.http.post("/agent/v1/samples", json={**agent.sample_form(), "node": "n2"})
    assert answer.status_code == 403
    assert (await timed.user.post("/agent/v1/samples", json=agent.sample_form())).status_code == 403


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("utilization_percent", 101),
        ("memory_used_mib", -1),
        ("power_watts", 1e300),
        ("temperature_celsius", 10**30),
        ("energy_joules", float("inf")),
        ("clock_sm_mhz", float("nan")),
    ],
)
async def test_a_value_that_cannot_be_is_unknown_and_the_rest_counts(
    timed: Service, column: str, value: float
) -> None:
    agent = await timed.join("n1", gpus=1)
    part = gpu(timed, 1, 0, utilization_percent=[5, 6], memory_free_mib=[7, 8])
    part["values"][column] = [value, 9]
    body = json.dumps(agent.sample_form(batch(1, devices=part)))
    answer = await agent.http.post("/agent/v1/samples", content=body)
    assert answer.status_code == 200, answer.text
    assert (answer.json()["rows"], answer.json()["implausible"]) == (2, 1)
    first, second = await stored(timed)
    assert (first[column], second[column]) == (None, 9)
    assert (first["memory_free_mib"], second["memory_free_mib"]) == (7, 8)


async def test_what_is_no_report_is_refused_with_every_fault_and_nothing_is_stored(
    timed: Service,
) -> None:
    agent = await timed.join("n1", gpus=1)
    short = gpu(timed, 1, 0, utilization_percent=[5], power_watts=[1, 2, 3])
    for faulty, told in (
        ({"devices": short}, ["utilization_percent has 1 values", "power_watts has 3 values"]),
        ({"devices": gpu(timed, 0, no_such_column=[1])}, ["no_such_column"]),
        ({"devices": gpu(timed, 0, power_watts=["1"])}, ["power_watts[0]"]),
        ({"devices": gpu(timed, 0) | {"key": [9]}}, ["key 9 is beyond"]),
        ({"hosts": {}}, ["hosts"]),
    ):
        answer = await agent.send_samples(batch(1, host=rows([0])), batch(2, **faulty))
        assert answer.status_code == 422, answer.text
        assert all(word in answer.text for word in told), answer.text
    assert (await agent.http.post("/agent/v1/samples", content=b"{")).status_code == 400
    assert await count(timed) == 0


async def test_gzip_is_understood_and_a_bomb_is_not_unpacked(timed: Service) -> None:
    agent = await timed.join("n1", gpus=1)
    body = json.dumps(agent.sample_form(batch(1, devices=gpu(timed, 0)))).encode()

    async def send(content: bytes, encoding: str = "gzip") -> int:
        headers = {"Content-Encoding": encoding}
        answer = await agent.http.post("/agent/v1/samples", content=content, headers=headers)
        assert answer.headers["content-type"].startswith("application/")
        return answer.status_code

    assert await send(gzip.compress(body)) == 200
    assert await send(gzip.compress(b" " * (64 << 20))) == 413
    assert await send(b" " * (10 << 20), "identity") == 413
    assert await send(gzip.compress(body)[:-9]) == 400
    assert await send(b"plain") == 400
    assert await send(body, "br") == 415
    assert len(await stored(timed)) == 1


async def test_a_node_whose_clock_is_off_by_an_hour_has_its_rows_at_the_right_time(
    timed: Service, clock: ManualClock
) -> None:
    agent = await timed.join("n1", gpus=1)
    hour_ms = 3_600_000
    for seq, off in ((1, hour_ms), (2, -hour_ms), (3, 1_500)):
        clock.advance(10)
        part = rows([timed.now_ms() + off - 4_000], of=["SIM-n1-0"])
        form = agent.sample_form(batch(seq, devices=part), sent_at_ms=timed.now_ms() + off)
        assert (await agent.http.post("/agent/v1/samples", json=form)).status_code == 200
    start = timed.now_ms() - 30_000
    times = [row["taken_at_ms"] - start for row in await stored(timed)]
    assert times == [6_000, 16_000, 27_500], "a second or two is the way here, not the clock"


async def test_rows_from_beyond_retention_and_from_the_future_do_no_harm(timed: Service) -> None:
    agent = await timed.join("n1", gpus=1)
    now = timed.now_ms()
    times = [0, now - 49 * 3_600_000, now - 47 * 3_600_000, now + 86_400_000, 2**53]
    ack = await agent.measure(devices=rows(times[:4], of=["SIM-n1-0"] * 4))
    assert (ack["rows"], ack["expired"]) == (2, 2)
    assert [row["taken_at_ms"] for row in await stored(timed)] == [times[2], now]
    far = rows([times[4]], of=["SIM-n1-0"], power_watts=[1])
    assert (await agent.measure(devices=far))["rows"] == 1


async def test_a_full_queue_says_when_to_come_again_and_leases_do_not_wait_for_it(
    tmp_path: Path,
) -> None:
    async with running(tmp_path / "home", samples_queue_rows=1_000) as service:
        agent = await service.join("n1", gpus=1)
        await agent.measure(devices=rows([service.now_ms()], of=["SIM-n1-0"]))
        telemetry: Telemetry = service.app.state.telemetry
        held = rows([service.now_ms() - n for n in range(900)], of=["SIM-n1-0"] * 900)
        file = tmp_path / "home" / "stowplan-telemetry.db"
        with closing(sqlite3.connect(file, isolation_level=None)) as somebody:
            somebody.execute("BEGIN IMMEDIATE")
            first = asyncio.create_task(agent.send_samples(batch(8, devices=held)))
            async with asyncio.timeout(GIVE_UP_SECONDS):
                while telemetry.writer.fill < 0.9:  # noqa: ASYNC110  nobody gives news of it
                    await asyncio.sleep(0)
            refused = await agent.send_samples(batch(9, devices=held))
            assert refused.status_code == 429
            assert int(refused.headers["retry-after"]) > 0
            assert (await agent.report())["lease_seconds"] > 0
            somebody.execute("ROLLBACK")
        assert (await first).status_code == 200
        again = await agent.send_samples(batch(9, devices=held))
        assert (again.status_code, again.json()["duplicates"]) == (200, 0)


async def test_of_an_agent_that_starts_over_and_over_the_oldest_runs_are_forgotten(
    sqlite_service: Service,
) -> None:
    agent = await sqlite_service.join("n1", gpus=1)

    async def duplicates(run: int) -> int:
        answer = await agent.send_samples(batch(1, epoch=f"run-{run}"))
        return answer.json()["duplicates"]

    assert [await duplicates(run) for run in range(70)] == [0] * 70
    assert [await duplicates(run) for run in (69, 10)] == [1, 1]
    assert await duplicates(0) == 0
