"""A node that sends each of its batches until it's taken, and rows to be counted afterwards."""

import asyncio
import sqlite3
from collections import Counter
from contextlib import closing
from typing import Any

import httpx2
import psycopg

from tests.service import Agent, batch, rows

_PAUSE_SECONDS = 0.02
"""An agent waits for as long as the service asks it to; tests have less time."""
_EVERY_MS = 10_000

StoredRow = tuple[str, str, int, float]
"""Node, device, when, and a number that no other row has."""


class Resender:
    """Numbered batches of one row a device, ten seconds apart. Raises whatever an agent would give
    up for: an answer that is neither yes nor "come again"."""

    def __init__(self, agent: Agent, *, gpus: int, first_ms: int, epoch: str = "epoch-1") -> None:
        self.agent = agent
        self.sent: list[StoredRow] = []
        """What is to be in the store, once each."""
        self.taken = 0
        self.refused: Counter[int] = Counter()
        """By status; 0 is no answer at all."""
        self._devices = [f"SIM-{agent.name}-{index}" for index in range(gpus)]
        self._first_ms = first_ms
        self._epoch = epoch
        self._seq = 0

    def next_batch(self) -> dict[str, Any]:
        """The next batch; to be sent with :meth:`send`."""
        self._seq += 1
        at_ms = self._first_ms + self._seq * _EVERY_MS
        numbers = [self._seq * 100.0 + index for index in range(len(self._devices))]
        self.sent += [
            (self.agent.name, device, at_ms, number)
            for device, number in zip(self._devices, numbers, strict=True)
        ]
        return batch(
            self._seq,
            epoch=self._epoch,
            devices=rows([at_ms] * len(numbers), of=self._devices, energy_joules=numbers),
        )

    async def send(self, *batches: dict[str, Any]) -> dict[str, Any]:
        """Send until the service has them; its answer then."""
        while True:
            answer = await self.send_once(*batches)
            if answer is not None:
                self.taken += len(batches)
                return answer
            await asyncio.sleep(_PAUSE_SECONDS)

    async def send_once(self, *batches: dict[str, Any]) -> dict[str, Any] | None:
        """The answer; None when the batches are to be kept."""
        try:
            answer = await self.agent.send_samples(*batches)
        except httpx2.TransportError:
            self.refused[0] += 1
            return None
        if answer.status_code == 200:
            return answer.json()
        assert answer.status_code in {429, 503}, answer.text
        assert int(answer.headers["retry-after"]) > 0
        self.refused[answer.status_code] += 1
        return None

    async def send_many(self, count: int) -> None:
        """One batch after the other."""
        for _ in range(count):
            await self.send(self.next_batch())


def stored_rows(telemetry_url: str) -> list[StoredRow]:
    """All rows of devices, in order, from the database itself."""
    query = (
        "SELECT s.node, s.key, d.taken_at_ms, d.energy_joules FROM device_samples d"
        " JOIN series s ON s.id = d.series_id ORDER BY 1, 2, 3, 4"
    )
    if telemetry_url.startswith("sqlite"):
        with closing(sqlite3.connect(telemetry_url.partition("///")[2])) as connection:
            return connection.execute(query).fetchall()
    with psycopg.connect(telemetry_url) as connection:
        return sorted(connection.execute(query).fetchall())
