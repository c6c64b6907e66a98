"""Sends what tasks print to the service: by offset, so that nothing is doubled, and nothing is lost
but what comes faster than the service keeps it.

A task writes straight to its file, and a slow service slows down nobody but this. What was sent
before a restart of the agent isn't remembered: the first answer says how far the service has got.
"""

import asyncio
import base64
import time
from collections.abc import Sequence
from dataclasses import dataclass

import structlog

from agent.client import RefusedError, ServiceClient, UnreachableError
from agent.events import Key
from agent.output.outputs import Outputs, Piece
from protocol.report import LogChunk

CHUNK_BYTES = 256 << 10
_LEAST_CHUNK_BYTES = 8 << 10
BACKLOG_BYTES = 8 << 20
"""As much as the service keeps of an output: what is more behind than that is given up."""
_SKIPPED_TO_BYTES = 4 << 20
"""How far behind the end it goes on then: not to skip again at once."""
LAST_BYTES = 64 << 10
"""What the service gets of an ended attempt's output before it hears of the end."""
_ROUND_SECONDS = 0.5

log = structlog.get_logger("stowplan.agent")


@dataclass(slots=True)
class _Followed:
    offset: int = 0
    told: bool = False
    """Whether the service has said how far it has got."""
    refused: bool = False
    fault: str = ""
    """Why the output can't be read."""


class LogShipper:
    """Follows the output of attempts.

    ``bytes_per_second`` bounds what a node sends, but for the last output of what has ended.
    """

    def __init__(
        self, *, outputs: Outputs, client: ServiceClient, bytes_per_second: int = 4 << 20
    ) -> None:
        self._outputs = outputs
        self._client = client
        self._bytes_per_second = bytes_per_second
        self._allowance = 0.0
        self._allowed_at = time.monotonic()
        self._followed: dict[Key, _Followed] = {}
        """In the order in which they are served: whose turn it was goes to the end."""

    def follow(self, key: Key) -> None:
        self._followed.setdefault(key, _Followed())

    def forget(self, key: Key) -> None:
        self._followed.pop(key, None)

    def followed(self) -> Sequence[Key]:
        """Whose output may still grow, or isn't sent yet."""
        return tuple(self._followed)

    def note(self, key: Key) -> str:
        """What a person should know of an attempt's output; empty when all is well."""
        followed = self._followed.get(key)
        return f"its output can't be read: {followed.fault}" if followed and followed.fault else ""

    def is_done(self, key: Key) -> bool:
        """Whether nothing is left to send, or nothing that could be."""
        followed = self._followed.get(key)
        if followed is None or followed.refused or followed.fault:
            return True
        try:
            return followed.offset >= self._outputs.end(key)
        except OSError:
            return True

    async def ship_all(self) -> None:
        """What outputs have grown by, in turn, so that a flood of one doesn't hide the others; as
        much as this node may send now.

        Raises:
            UnreachableError: the service is away, or asks for a pause.
        """
        self._allow()
        waiting = list(self._followed)
        while waiting and self._allowance > 0:
            count = self._fair_share(len(waiting))
            for key in tuple(waiting):
                if self._allowance <= 0:
                    return
                sent = await self._ship_chunk(key, count=count)
                self._allowance -= sent
                if not sent:
                    waiting.remove(key)
                elif key in self._followed:
                    self._followed[key] = self._followed.pop(key)

    def _allow(self) -> None:
        now = time.monotonic()
        fresh = (now - self._allowed_at) * self._bytes_per_second
        self._allowance = min(self._allowance + fresh, self._bytes_per_second)
        self._allowed_at = now

    def _fair_share(self, waiting: int) -> int:
        """Of one turn: everyone's comes within a round."""
        share = int(self._bytes_per_second * _ROUND_SECONDS) // waiting
        return min(max(share, _LEAST_CHUNK_BYTES), CHUNK_BYTES)

    async def finish(self, keys: Sequence[Key], *, seconds: float) -> None:
        """What ended attempts wrote: all of it if the service takes it within half of the time,
        and at least the end of each.

        Raises:
            UnreachableError: as above.
        """
        half = time.monotonic() + seconds / 2
        waiting = list(keys)
        while waiting:
            behind = BACKLOG_BYTES if time.monotonic() < half else LAST_BYTES
            for key in tuple(waiting):
                if not await self._ship_chunk(key, behind=behind):
                    waiting.remove(key)

    async def _ship_chunk(
        self, key: Key, *, count: int = CHUNK_BYTES, behind: int = BACKLOG_BYTES
    ) -> int:
        """Send one chunk; how many bytes it had. ``behind``: how far it may lie behind the end."""
        followed = self._followed.get(key)
        if followed is None or followed.refused:
            return 0
        piece = await self._next(key, followed, count, behind)
        if not piece.data:
            return 0
        if piece.offset > followed.offset and not followed.told:
            # A restarted agent: the service may have had all of this from the one before.
            await self._send(key, followed, Piece(offset=followed.offset, data=b""))
            if followed.refused:
                return 0
            return await self._ship_chunk(key, count=count, behind=behind)
        await self._send(key, followed, piece)
        return 0 if followed.refused else len(piece.data)

    async def _send(self, key: Key, followed: _Followed, piece: Piece) -> None:
        chunk = LogChunk(
            allocation=key.id,
            generation=key.generation,
            offset=piece.offset,
            skipped=piece.offset > followed.offset,
            data=base64.b64encode(piece.data),
        )
        try:
            answer = await self._client.send_logs(chunk)
        except RefusedError:
            followed.refused = True  # nobody there wants this output (any more)
            return
        if piece.data and answer.next_offset == piece.offset:
            raise UnreachableError("the service takes no output now")
        followed.offset = answer.next_offset
        followed.told = True

    async def _next(self, key: Key, followed: _Followed, count: int, behind: int) -> Piece:
        """What is to be sent, read in a thread: a disk under a flood may be slow."""
        try:
            piece = await asyncio.to_thread(self._read, key, followed.offset, count, behind)
        except OSError as error:
            fault = error.strerror or str(error)
            if fault != followed.fault:
                log.warning("output can't be read", allocation=key.id, error=fault)
            followed.fault = fault
            return Piece(offset=followed.offset, data=b"")
        followed.fault = ""
        return piece

    def _read(self, key: Key, offset: int, count: int, behind: int) -> Piece:
        end = self._outputs.end(key)
        if end - offset > behind:
            to = end - min(_SKIPPED_TO_BYTES, behind)
            offset = self._outputs.line_from(key, to)
        return self._outputs.read(key, offset, count)
