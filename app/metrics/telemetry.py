"""Telemetry in the service, put together: the store, its writer, what is live."""

from typing import Annotated

from fastapi import Depends, Request
from sqlalchemy import select

from app.clock import milliseconds
from app.db.samples.rolling import Roller
from app.db.samples.store import SampleStore
from app.db.samples.tables import RAW, Kind, series, table
from app.deps import Context
from app.metrics.aggregates import Aggregates
from app.metrics.charts import Charts
from app.metrics.growth import Growth
from app.metrics.intake import Intake
from app.metrics.latest import Fleet
from app.metrics.live import LATEST_WINDOW_MS, Live
from app.metrics.subjects import Subjects
from app.metrics.writer import Writer


class Telemetry:
    """Built once by ``create_app``; opened and closed with the service."""

    def __init__(self, ctx: Context) -> None:
        settings = ctx.settings
        self._clock = ctx.clock
        self.store = SampleStore(settings.resolved_telemetry_url)
        self.roller = Roller(self.store)
        self.live = Live()
        self.writer = Writer(self.store, ctx.clock, ctx.pace, rows_max=settings.samples_queue_rows)
        self.intake = Intake(
            clock=ctx.clock,
            store=self.store,
            subjects=Subjects(ctx.database, ctx.clock),
            writer=self.writer,
            live=self.live,
            pace=ctx.pace,
            keep_ms=round(settings.samples_keep_hours * 3_600_000),
        )
        self.aggregates = Aggregates(self.store, settings)
        self.growth = Growth()
        self.charts = Charts(self.store, settings)
        self.fleet = Fleet(ctx.database, self.live, self.intake.clocks)

    async def open(self) -> None:
        """Tables, what was rolled up, and the latest of everything as an earlier run left it."""
        await self.store.open()
        await self.roller.open()
        since_ms = milliseconds(self._clock.now()) - LATEST_WINDOW_MS
        async with self.store.read() as session:
            for kind in Kind:
                rows = table(kind, RAW)
                query = (
                    select(series.c.node, series.c.key, rows)
                    .join(series, series.c.id == rows.c.series_id)
                    .where(rows.c.taken_at_ms >= since_ms)
                    .order_by(rows.c.taken_at_ms)
                )
                for node, key, taken_at_ms, _series, *values in await session.execute(query):
                    self.live.update(kind, node, key, taken_at_ms, tuple(values))
        self.writer.start()

    async def close(self) -> None:
        """Store what was taken in, then let go."""
        await self.writer.stop()
        await self.store.close()


async def telemetry(request: Request) -> Telemetry:
    return request.app.state.telemetry


Measured = Annotated[Telemetry, Depends(telemetry)]
