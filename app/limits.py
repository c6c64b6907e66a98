"""How large a body may be. Refused as problem+json, before anything is parsed or stored.

FastAPI's own limit answers in plain text, and closes on a client that is still sending: some
clients then
report a broken connection instead of the answer. Here what is too much is read and thrown away
first, up
to a bound, unless the client waits for permission to send (``Expect: 100-continue``).
"""

from collections.abc import Mapping

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.problems import problem

_DRAINED_BYTES_MAX = 1 << 30


class _TooLargeError(Exception):
    """Raised into the route that reads the body; never leaves this module."""


class BodyLimit:
    def __init__(self, app: ASGIApp, *, bytes_max: int, exceptions: Mapping[str, int]) -> None:
        self._app = app
        self._bytes_max = bytes_max
        self._exceptions = exceptions

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        allowed = self._exceptions.get(scope["path"], self._bytes_max)
        headers = Headers(scope=scope)
        declared = headers.get("content-length", "")
        if declared.isdigit() and int(declared) > allowed:
            if "100-continue" not in headers.get("expect", "").lower():
                await _drain(receive)
            await _refuse(allowed)(scope, receive, send)
            return
        counted = _Counted(receive, allowed)
        started = False

        async def noting_send(message: Message) -> None:
            nonlocal started
            started = started or message["type"] == "http.response.start"
            await send(message)

        try:
            await self._app(scope, counted, noting_send)
        except _TooLargeError:
            if started:
                raise
            await _drain(receive)
            await _refuse(allowed)(scope, receive, send)


class _Counted:
    """A body without a declared length, counted as it comes."""

    def __init__(self, receive: Receive, allowed: int) -> None:
        self._receive = receive
        self._allowed = allowed
        self._read = 0

    async def __call__(self) -> Message:
        message = await self._receive()
        if message["type"] == "http.request":
            self._read += len(message.get("body", b""))
            if self._read > self._allowed:
                raise _TooLargeError
        return message


async def _drain(receive: Receive) -> None:
    drained = 0
    while drained < _DRAINED_BYTES_MAX:
        message = await receive()
        drained += len(message.get("body", b""))
        if message["type"] != "http.request" or not message.get("more_body", False):
            return


def _refuse(allowed: int) -> ASGIApp:
    return problem(
        413,
        "body_too_large",
        f"the body is larger than the {allowed} bytes allowed here; nothing of it was read",
        headers={"Connection": "close"},
    )
