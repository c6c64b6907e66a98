"""Asks services whether they are ready and well, where others reach them.

Level-triggered, as everything here: :meth:`Checks.keep` is told what runs now, and starts and ends
the asking accordingly.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from http import HTTPStatus

import httpx2

from agent.events import Checked, Key, Moment
from protocol.desired import DesiredAllocation
from protocol.task import Check

# Until a check has passed once it's asked this often, so that what is up is found up at once.
_UNTIL_FIRST_SECONDS = 0.5

Ask = Callable[[Check, str, int], Awaitable[str]]
"""(check, address, port) -> what was wrong; empty when it passed."""


@dataclass(slots=True)
class Tally:
    """What the answers to one check have come to. Pure."""

    check: Check
    started_at_seconds: float
    failures: int = 0
    """In a row."""
    ever_passed: bool = False
    passing: bool = False
    said: str = ""
    """What the newest failure said."""

    def count(self, wrong: str) -> None:
        self.said = wrong
        if wrong:
            self.failures += 1
            self.passing = self.passing and self.failures < self.check.failures
        else:
            self.failures = 0
            self.passing = self.ever_passed = True

    def failed_for_good(self, now_seconds: float) -> str:
        """In words; empty while it may still come right."""
        young = now_seconds - self.started_at_seconds < self.check.start_seconds
        if self.failures < self.check.failures or (young and not self.ever_passed):
            return ""
        what = f"GET {self.check.path}" if self.check.path else "a connection"
        return f"its health check ({what}) failed {self.failures} times in a row: {self.said}"

    def pause_seconds(self) -> float:
        interval = self.check.interval_seconds
        return interval if self.ever_passed else min(interval, _UNTIL_FIRST_SECONDS)


@dataclass(slots=True)
class _Followed:
    ready: bool | None = None
    failed: str = ""
    asking: tuple[asyncio.Task[None], ...] = ()


class Checks:
    """The checks of one node's services. To be used on the event loop's thread only."""

    def __init__(
        self, *, emit: Callable[[Checked], None], now: Callable[[], Moment], ask: Ask | None = None
    ) -> None:
        self._emit = emit
        self._now = now
        self._http = httpx2.AsyncClient(trust_env=False, follow_redirects=False)
        self._ask = ask or self._ask_for_real
        self._followed: dict[Key, _Followed] = {}

    def keep(self, running: Mapping[Key, tuple[DesiredAllocation, int]]) -> None:
        """Ask exactly these, each at its port, from now on."""
        for key in [key for key in self._followed if key not in running]:
            for task in self._followed.pop(key).asking:
                task.cancel()
        for key, (allocation, port) in running.items():
            if key not in self._followed:
                self._follow(key, allocation, port)

    async def close(self) -> None:
        self.keep({})
        await self._http.aclose()

    def _follow(self, key: Key, allocation: DesiredAllocation, port: int) -> None:
        launch = allocation.launch
        if launch.readiness is None and launch.health is None:
            return
        followed = self._followed[key] = _Followed(ready=False if launch.readiness else None)
        address = allocation.gang.master_address
        loop = asyncio.get_running_loop()
        followed.asking = tuple(
            loop.create_task(self._go_on_asking(key, check, address, port, is_health=is_health))
            for check, is_health in ((launch.readiness, False), (launch.health, True))
            if check is not None
        )

    async def _go_on_asking(
        self, key: Key, check: Check, address: str, port: int, *, is_health: bool
    ) -> None:
        tally = Tally(check=check, started_at_seconds=self._now().boot_seconds)
        while True:
            try:
                async with asyncio.timeout(check.timeout_seconds):
                    wrong = await self._ask(check, address, port)
            except TimeoutError:
                wrong = f"no answer within {check.timeout_seconds:g} s"
            tally.count(wrong)
            followed = self._followed[key]
            before = (followed.ready, followed.failed)
            if is_health:
                followed.failed = tally.failed_for_good(self._now().boot_seconds)
            else:
                followed.ready = tally.passing
            if before != (followed.ready, followed.failed):
                ready, failed = followed.ready, followed.failed
                self._emit(Checked(at=self._now(), key=key, ready=ready, failed=failed))
            if followed.failed:
                return
            await asyncio.sleep(tally.pause_seconds())

    async def _ask_for_real(self, check: Check, address: str, port: int) -> str:
        try:
            if check.path is None:
                _, writer = await asyncio.open_connection(address, port)
                writer.close()
                with suppress(OSError):
                    await writer.wait_closed()
                return ""
            host = f"[{address}]" if ":" in address else address
            # The body isn't read: it may be endless, and says nothing here.
            url = f"http://{host}:{port}{check.path}"
            async with self._http.stream("GET", url, timeout=check.timeout_seconds) as response:
                status = response.status_code
                return "" if status < HTTPStatus.BAD_REQUEST else f"HTTP {status}"
        except (OSError, httpx2.HTTPError, httpx2.InvalidURL) as error:
            return f"{type(error).__name__}: {error}".rstrip(": ")
