"""Sends measurements to the service, on its own: leases never wait for this, nor this for them."""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from http import HTTPStatus

import structlog

from agent.client import Backoff, RefusedError, ServiceClient, UnreachableError
from agent.events import Moment
from agent.samples.sample_spool import SampleSpool, Taken
from agent.samples.windows import Window, row_count
from protocol import VERSION
from protocol.samples import BATCHES_MAX, SampleReport
from telemetry.samples import HostSample

_TOO_LARGE = HTTPStatus.REQUEST_ENTITY_TOO_LARGE
# No fault of the node's membership but of what it sent.
_BAD_BATCH = {HTTPStatus.BAD_REQUEST, HTTPStatus.UNPROCESSABLE_ENTITY, _TOO_LARGE}

log = structlog.get_logger("stowplan.agent")


class SampleShipper:
    """Ships what is in the spool: the newest batch when there is one, and with it as much of the
    backlog as the service has granted.
    """

    def __init__(
        self,
        *,
        node: str,
        spool: SampleSpool,
        window: Window,
        client: ServiceClient,
        now: Callable[[], Moment],
    ) -> None:
        self._node = node
        self._spool = spool
        self._window = window
        self._client = client
        self._now = now
        self._due = asyncio.Event()
        self._granted = 0
        self._most = BATCHES_MAX
        self._host: HostSample | None = None

    def add_host(self, sample: HostSample) -> None:
        """The newest look at the host: its disks and networks go along one by one."""
        self._host = sample

    def wake(self) -> None:
        """There is a new batch in the spool."""
        self._due.set()

    async def run(self) -> None:
        """Ship for ever.

        Raises:
            RefusedError: the service doesn't want this node.
        """
        backoff = Backoff()
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(self._window.seconds):
                    await self._due.wait()
            self._due.clear()
            try:
                await self.ship()
                backoff.succeeded()
            except UnreachableError as error:
                pause = backoff.failed(error)
                log.warning(
                    "measurements not taken", error=str(error), retry_seconds=round(pause, 1)
                )
                await asyncio.sleep(pause)
                self._due.set()

    async def ship(self) -> None:
        """One round.

        Raises:
            UnreachableError: no answer, or one that asks for a pause; all that is not settled is
                still in the spool.
            RefusedError: the service doesn't want this node.
        """
        taken = self._spool.take(backlog=self._granted, most=self._most)
        try:
            if taken:
                await self._send(taken)
        except UnreachableError:
            self._granted = 0
            raise
        finally:
            self._spool.release()

    async def _send(self, taken: Sequence[Taken]) -> None:
        """Send these in one report, or in halves until the one is found that can't be sent."""
        form = SampleReport(
            version=VERSION,
            node=self._node,
            sent_at_ms=self._now().wall_ms,
            batches=tuple(one.batch for one in taken),
            dropped_rows=self._spool.dropped_rows,
            disks=self._host.disks if self._host else (),
            networks=self._host.networks if self._host else (),
        )
        try:
            ack = await self._client.samples(form)
        except RefusedError as error:
            if error.status not in _BAD_BATCH:
                raise
            if error.status == _TOO_LARGE:
                self._most = max(1, len(taken) // 2)
            await self._send_less(taken, error)
            return
        self._spool.settle(taken)
        self._most = min(BATCHES_MAX, self._most + 1)
        self._granted = max(0, ack.backlog_batches)
        self._window.resize(ack.interval_seconds)

    async def _send_less(self, taken: Sequence[Taken], error: RefusedError) -> None:
        if len(taken) > 1:
            half = len(taken) // 2
            await self._send(taken[:half])
            await self._send(taken[half:])
            return
        batch = taken[0].batch
        log.error(
            "the service refuses measurements; they are given up",
            epoch=batch.epoch,
            seq=batch.seq,
            rows=row_count(batch),
            status=error.status,
            reason=str(error),
        )
        self._spool.drop(taken)
