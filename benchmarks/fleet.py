"""A fleet's agents at one service: two thousand nodes of eight devices, each heard every ten
seconds, on PostgreSQL."""

import asyncio
import gc
import itertools
import json
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

import psycopg

from benchmarks import load, sample_reports
from benchmarks.databases import postgresql
from benchmarks.harness import Case
from benchmarks.live_service import DEVICES, NODE, LiveService, join, state_report
from telemetry.stats import quantile

INTERVAL_SECONDS = 10.0
COMING_SECONDS = 60.0
"""In which the fleet comes up, each node for the first time; one interval later it's measured."""
POLL_SECONDS = 30.0
_ROWS_A_REPORT = 1 + DEVICES
_NUMBERS = {"seq": 4_711_000_001, "at_ms": 4_711_000_000_002}
"""In the forms, where each report's own numbers go."""


def run(*, seconds: float | None = None, nodes: int = 2_000) -> Iterator[Case]:
    """``seconds`` None: as ``BENCH_FLEET_SECONDS`` says, or a minute."""
    if seconds is None:
        seconds = float(os.environ.get("BENCH_FLEET_SECONDS", "60"))
    with postgresql() as url:
        with LiveService(url) as service:
            start = time.perf_counter()
            with service.client("join.token") as joining:
                tokens = [join(joining, _name(number)) for number in range(nodes)]
            joined_seconds = time.perf_counter() - start
            fleet = _Fleet(service, tokens)
            asyncio.run(fleet.speak(seconds))
        stored = _stored_rows(url)
    what = f"{nodes:,} agents x {DEVICES} devices at {INTERVAL_SECONDS:g} s, PostgreSQL"
    beside = "the load generator and the database share the machine's cores"
    yield Case(
        case=f"{what}: the service's share of a core",
        value=fleet.cpu_seconds / fleet.wall_seconds,
        unit="cores",
        better="lower",
        must=1.0,
        aim=0.5,
        note=f"{fleet.wall_seconds:.0f} s; {nodes:,} requests for the desired set are held as well",
    )
    for name, took in (("report", fleet.reports), ("samples", fleet.samples)):
        yield Case(
            case=f"{what}: {name}: p99",
            value=quantile(took, 0.99),
            unit="s",
            better="lower",
            must=0.1,
            note=f"{len(took):,}, p50 {quantile(took, 0.5):.4f} s; {beside}",
        )
    yield Case(
        case=f"{what}: rows lost or doubled",
        value=abs(fleet.rows_acknowledged - stored),
        unit="rows",
        better="lower",
        must=0,
        note=f"{fleet.rows_acknowledged:,} acknowledged, {fleet.refused} reports to be sent again",
    )
    yield Case(
        case=f"{nodes:,} nodes join, one after the other",
        value=nodes / joined_seconds,
        unit="nodes/s",
        better="higher",
    )


@dataclass(slots=True)
class _Agent:
    """What one agent sends, but for its numbers."""

    token: str
    report: bytes
    samples: bytes
    seq: Iterator[int] = field(default_factory=lambda: itertools.count(1))


class _Fleet:
    """All agents of the fleet, in one event loop."""

    def __init__(self, service: LiveService, tokens: list[str]) -> None:
        self.reports: list[float] = []
        """Seconds of each, as those of ``samples``, once all have spoken."""
        self.samples: list[float] = []
        self.rows_acknowledged = 0
        self.refused = 0
        self.cpu_seconds = 0.0
        self.wall_seconds = 0.0
        self._service = service
        self._url = (service.home / "server.url").read_text().strip()
        self._agents = [_agent(_name(number), token) for number, token in enumerate(tokens)]
        self._measures = False

    async def speak(self, seconds: float) -> None:
        """All agents until they have come up, then for so long as measured; each at its own
        moment."""
        gc.freeze()  # thousands of forms that stay: the collector's looks at them aren't the fleet
        start = time.perf_counter() + 1.0
        settled = start + COMING_SECONDS + INTERVAL_SECONDS
        end = settled + seconds
        agents = [
            self._live(agent, start + COMING_SECONDS * number / len(self._agents), end)
            for number, agent in enumerate(self._agents)
        ]
        await asyncio.gather(self._measure(settled, end), *agents)

    async def _measure(self, start: float, end: float) -> None:
        await _until(start)
        cpu_seconds, started = self._service.cpu_seconds(), time.perf_counter()
        self._measures = True
        await _until(end)
        self.cpu_seconds = self._service.cpu_seconds() - cpu_seconds
        self.wall_seconds = time.perf_counter() - started
        self._measures = False

    async def _live(self, agent: _Agent, first: float, end: float) -> None:
        """Reports of state, and half an interval later those of measurements."""
        connection, holding = load.Connection(self._url), load.Connection(self._url)
        polling = None
        try:
            due = first
            while due < end:
                await _until(due)
                answer = await self._send(connection, "report", agent, agent.report)
                if self._measures:
                    self.reports.append(answer.seconds)
                revision = json.loads(answer.body)["revision"]
                polling = polling or asyncio.create_task(
                    self._poll(holding, agent, revision), name="poll"
                )
                await _until(due + INTERVAL_SECONDS / 2)
                answer = await self._send(connection, "samples", agent, agent.samples)
                self.rows_acknowledged += json.loads(answer.body)["rows"]
                if self._measures:
                    self.samples.append(answer.seconds)
                due += INTERVAL_SECONDS
        finally:
            if polling is not None:
                polling.cancel()
            connection.close()
            holding.close()

    async def _send(
        self, connection: load.Connection, route: str, agent: _Agent, form: bytes
    ) -> load.Answer:
        """Send until it's taken, as agents do; the answer that said so."""
        seq = next(agent.seq)
        while True:
            body = _numbered(form, seq, time.time_ns() // 1_000_000)
            answer = await connection.send(load.post(f"/agent/v1/{route}", agent.token, body))
            if answer.status == 200:
                return answer
            if answer.status not in {429, 503}:
                raise RuntimeError(f"{route}: {answer.status} {answer.body.decode()}")
            self.refused += 1
            await asyncio.sleep(1)

    async def _poll(self, connection: load.Connection, agent: _Agent, revision: int) -> None:
        path = f"/agent/v1/desired?revision={revision}&wait={POLL_SECONDS:g}"
        while True:
            answer = await connection.send(load.get(path, agent.token))
            if answer.status != 204:
                raise RuntimeError(f"desired: {answer.status} {answer.body.decode()}")


def _agent(name: str, token: str) -> _Agent:
    samples = sample_reports.report(
        name,
        seq=_NUMBERS["seq"],
        sent_at_ms=_NUMBERS["at_ms"],
        first_ms=_NUMBERS["at_ms"],
        looks=1,
        every_ms=1,
        host=True,
    )
    state = state_report(name, seq=_NUMBERS["seq"], sent_at_ms=_NUMBERS["at_ms"])
    return _Agent(token=token, report=state, samples=samples)


def _numbered(form: bytes, seq: int, at_ms: int) -> bytes:
    # Making a form anew would cost more than the service takes to read it.
    numbers = {"seq": seq, "at_ms": at_ms}
    for name, number in numbers.items():
        form = form.replace(str(_NUMBERS[name]).encode(), str(number).encode())
    return form


def _name(number: int) -> str:
    return f"{NODE}-{number}"


async def _until(moment: float) -> None:
    await asyncio.sleep(max(0.0, moment - time.perf_counter()))


def _stored_rows(url: str) -> int:
    with psycopg.connect(url) as connection:
        counts = [
            connection.execute(f"SELECT count(*) FROM {name}").fetchone()
            for name in ("host_samples", "device_samples")
        ]
    return sum(count[0] for count in counts if count is not None)
