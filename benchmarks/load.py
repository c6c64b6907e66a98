"""A crowd of agents that cost little themselves: prepared requests over connections kept open."""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    status: int
    seconds: float
    body: bytes


class Connection:
    """One HTTP/1.1 connection. Only what our own service answers is understood."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._host, self._port = parts.hostname or "127.0.0.1", parts.port or 80
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def send(self, request: bytes) -> Answer:
        """Send a request made by :func:`post` or :func:`get`, and read its answer.

        A connection that the service has closed since the last one is opened again: that's in the
        time as well.
        """
        start = time.perf_counter()
        if self._streams is not None and self._streams[0].at_eof():
            self.close()
        if self._streams is None:
            self._streams = await asyncio.open_connection(self._host, self._port)
        reader, writer = self._streams
        writer.write(request)
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0] or 0)
        body = await reader.readexactly(length) if length else b""
        return Answer(
            status=int(head.split(b" ", 2)[1]), seconds=time.perf_counter() - start, body=body
        )

    def close(self) -> None:
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None


def get(path: str, token: str) -> bytes:
    """A whole request."""
    return f"GET {path} HTTP/1.1\r\nHost: bench\r\nAuthorization: Bearer {token}\r\n\r\n".encode()


def post(path: str, token: str, body: bytes) -> bytes:
    """A whole request."""
    head = (
        f"POST {path} HTTP/1.1\r\nHost: bench\r\nAuthorization: Bearer {token}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


async def all_at_once(url: str, queues: Sequence[Sequence[bytes]]) -> list[Answer]:
    """Each queue over a connection of its own, one request after the other."""

    async def drain(queue: Sequence[bytes]) -> list[Answer]:
        connection = Connection(url)
        try:
            return [await connection.send(request) for request in queue]
        finally:
            connection.close()

    answers = await asyncio.gather(*(drain(queue) for queue in queues))
    return [answer for some in answers for answer in some]
