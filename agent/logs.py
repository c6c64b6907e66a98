"""Sends what tasks write to the service: by offset, so that nothing is lost or doubled.

A task writes straight to its file, and a slow service slows down nobody but this. What was sent
before a restart of the agent isn't remembered: the first answer says how far the service has got.
"""

import base64
from dataclasses import dataclass

from agent.client import RefusedError, ServiceClient, UnreachableError
from agent.events import Key
from agent.spool import Spool
from protocol.report import LogChunk

CHUNK_BYTES = 256 << 10


@dataclass(slots=True)
class _Followed:
    offset: int = 0
    refused: bool = False


class LogShipper:
    """Follows the output of attempts."""

    def __init__(self, *, spool: Spool, client: ServiceClient) -> None:
        self._spool = spool
        self._client = client
        self._followed: dict[Key, _Followed] = {}

    def follow(self, key: Key) -> None:
        self._followed.setdefault(key, _Followed())

    def forget(self, key: Key) -> None:
        self._followed.pop(key, None)

    def is_done(self, key: Key) -> bool:
        """Whether nothing is left to send."""
        followed = self._followed.get(key)
        return followed is None or followed.refused or not self._read(key, followed.offset, 1)

    async def ship_all(self) -> None:
        """One chunk of each output that has grown, so that a flood of one doesn't hide the others.

        Raises:
            UnreachableError: the service is away, or asks for a pause.
        """
        for key in list(self._followed):
            await self._ship_chunk(key)

    async def finish(self, key: Key) -> None:
        """Everything that an ended attempt wrote.

        Raises:
            UnreachableError: as above.
        """
        while await self._ship_chunk(key):
            pass

    async def _ship_chunk(self, key: Key) -> bool:
        """Send one chunk; whether there was one."""
        followed = self._followed.get(key)
        if followed is None or followed.refused:
            return False
        data = self._read(key, followed.offset, CHUNK_BYTES)
        if not data:
            return False
        chunk = LogChunk(
            allocation=key.id,
            generation=key.generation,
            offset=followed.offset,
            data=base64.b64encode(data),
        )
        try:
            answer = await self._client.send_logs(chunk)
        except RefusedError:
            followed.refused = True  # nobody there wants this output (any more)
            return False
        if answer.next_offset == chunk.offset:
            raise UnreachableError("the service takes no output now")
        followed.offset = answer.next_offset
        return True

    def _read(self, key: Key, offset: int, count: int) -> bytes:
        try:
            with self._spool.output(key).open("rb") as file:
                file.seek(offset)
                return file.read(count)
        except FileNotFoundError:
            return b""
