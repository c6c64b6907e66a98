"""An hour's outage, and all that agents kept meanwhile: minutes and hours are as if it had never
been."""

import asyncio
import random
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, select

from app.db.samples.tables import HOUR, MINUTE, RAW, Kind, late_stretches, rollups, series, table
from app.loops.rollups import RollupLoop
from app.metrics.telemetry import Telemetry
from telemetry import columns
from telemetry.columns import fold
from tests.service import GIVE_UP_SECONDS, Agent, ManualClock, Service, batch, rows, running

NODES, BATCHES, DEVICES = 20, 360, 2
EVERY_SECONDS = 10
A_REPORT = 90
MEASURED = [
    column
    for column in columns.DEVICE
    if column.source
    in {"utilization_percent", "memory_free_mib", "energy_joules", "throttle_reasons"}
]
"""At least one column of each fold."""

Measured = dict[tuple[str, int], tuple[float, ...]]
"""By device and time, in the order of ``MEASURED``."""


class Node:
    """One that measures every ten seconds, and keeps what it can't send."""

    def __init__(self, agent: Agent, seed: int) -> None:
        self.agent = agent
        self.measured: Measured = {}
        self.kept: list[dict[str, Any]] = []
        self._chance = random.Random(seed)
        self._seq = 0

    def measure(self, at_ms: int) -> None:
        self._seq += 1
        devices = [f"SIM-{self.agent.name}-{index}" for index in range(DEVICES)]
        made = [self._row() for _ in devices]
        self.measured |= {(device, at_ms): row for device, row in zip(devices, made, strict=True)}
        values = {column.name: [row[i] for row in made] for i, column in enumerate(MEASURED)}
        part = rows([at_ms] * DEVICES, of=devices, **values)
        self.kept.append(batch(self._seq, devices=part, host=rows([at_ms], load_1m=[1.0])))

    def _row(self) -> tuple[float, ...]:
        drawn = {
            "utilization_percent": self._chance.randrange(101),
            "memory_free_mib": self._chance.randrange(80_000),
            "throttle_reasons": 1 << self._chance.randrange(9),
            "energy_joules": float(self._seq * 1_000),
        }
        return tuple(drawn[column.source] for column in MEASURED)

    async def send(self, count: int, *, newest: bool = False) -> None:
        """The newest, or so many of the oldest."""
        sent = self.kept[-count:] if newest else self.kept[:count]
        answer = await self.agent.send_samples(*sent)
        assert answer.status_code == 200, answer.text
        assert answer.json()["rows"] == len(sent) * (DEVICES + 1)
        del self.kept[slice(-count, None) if newest else slice(count)]
        # The same once more, as after an answer that was lost.
        again = await self.agent.send_samples(*sent)
        assert again.json()["duplicates"] == len(sent)


async def caught_up(service: Service, until_ms: int) -> None:
    """Wake the service's own loop until all up to then is rolled up, what was late as well."""
    telemetry: Telemetry = service.app.state.telemetry
    hours = select(func.min(rollups.c.done_until_ms)).where(
        rollups.c.resolution == HOUR.name, rollups.c.kind != Kind.TASK
    )
    async with asyncio.timeout(GIVE_UP_SECONDS):
        while True:
            service.context.signals.notify(RollupLoop.topic)
            async with telemetry.store.read() as session:
                late = await session.scalar(select(func.count()).select_from(late_stretches))
                if not late and (await session.scalar(hours) or 0) >= until_ms:
                    return
            await asyncio.sleep(0.05)


async def read(service: Service, resolution: Any) -> dict[tuple[str, int], tuple[float, ...]]:
    telemetry: Telemetry = service.app.state.telemetry
    of = table(Kind.DEVICE, resolution)
    query = select(series.c.key, of.c.taken_at_ms, *(of.c[column.name] for column in MEASURED))
    async with telemetry.store.read() as session:
        found = (await session.execute(query.join(series, series.c.id == of.c.series_id))).all()
    by_key = {(row[0], row[1]): tuple(row[2:]) for row in found}
    assert len(by_key) == len(found), "nothing is there twice"
    return by_key


def folded(measured: Measured, width_ms: int) -> dict[tuple[str, int], tuple[float | None, ...]]:
    groups: dict[tuple[str, int], list[Sequence[float]]] = defaultdict(list)
    for (device, at_ms), row in sorted(measured.items()):
        groups[device, at_ms // width_ms * width_ms].append(row)
    return {
        key: tuple(
            fold(column.fold, [row[index] for row in group])
            for index, column in enumerate(MEASURED)
        )
        for key, group in groups.items()
    }


async def test_after_an_hour_of_outage_minutes_and_hours_are_those_of_all_rows(
    tmp_path: Path, database_url: str
) -> None:
    clock = ManualClock()
    home = tmp_path / "home"
    async with running(home, database_url, clock) as service:
        agents = [await service.join(f"n{number}", gpus=DEVICES) for number in range(NODES)]
        tokens = [agent.token for agent in agents]
        nodes = [Node(agent, number) for number, agent in enumerate(agents)]
        for _ in range(BATCHES // 12):
            clock.advance(EVERY_SECONDS)
            for node in nodes:
                node.measure(service.now_ms())
        for node in nodes:
            await node.send(BATCHES)
    for _ in range(BATCHES):
        clock.advance(EVERY_SECONDS)
        for node in nodes:
            node.measure(service.now_ms())
    async with running(home, database_url, clock) as service:
        hour_ms = service.now_ms() // HOUR.width_ms * HOUR.width_ms
        for node, token in zip(nodes, tokens, strict=True):
            node.agent = Agent(service, node.agent.name)
            node.agent.http = service.client(token)
        await asyncio.gather(*(node.send(1, newest=True) for node in nodes))
        # The outage's hour is closed before most of its rows have come: these are late.
        await caught_up(service, hour_ms)
        while any(node.kept for node in nodes):
            await asyncio.gather(*(node.send(A_REPORT) for node in nodes if node.kept))
        clock.advance(HOUR.width_ms / 1000 + 60)
        await caught_up(service, hour_ms + HOUR.width_ms)
        measured = {key: row for node in nodes for key, row in node.measured.items()}
        assert len(measured) == NODES * DEVICES * (BATCHES + BATCHES // 12)
        assert await read(service, RAW) == measured
        for resolution in (MINUTE, HOUR):
            found = await read(service, resolution)
            wanted = folded(measured, resolution.width_ms)
            assert found.keys() == wanted.keys()
            for key, row in wanted.items():
                assert found[key] == pytest.approx(row, rel=1e-5)
