"""HTTP to the service: one request at a time, patient while the service restarts, errors as
:mod:`client.errors`.

Every call of the SDK may be repeated: the reads, because they are reads; the writes, because each
is idempotent (``POST /tasks`` by its Idempotency-Key). So an answer that got lost is simply asked
for again.
"""

import random
import time
from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Self
from urllib.parse import quote, urlsplit

import httpx2

from client.errors import (
    InvalidInputError,
    NotFoundError,
    NotReachableError,
    StowplanError,
    refusal,
)

FIRST_CONTACT_SECONDS = 2.0
"""How long a server that never answered is tried: a wrong address should be told at once."""
RECONNECT_SECONDS = 120.0
"""How long a server that did answer before is waited for: time enough for a restart or an upgrade.
"""
_BACK_OFF_SECONDS = 0.1
_BACK_OFF_SECONDS_MAX = 2.0
_AWAY = frozenset({429, 502, 503, 504})
_LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})


class BackOff:
    """Pauses that double and scatter, so that many waiting clients don't come back at the same
    moment.
    """

    def __init__(self, patience_seconds: float) -> None:
        self._deadline = time.monotonic() + patience_seconds
        self._pause_seconds = _BACK_OFF_SECONDS

    def pause(self, *, at_least_seconds: float = 0.0) -> bool:
        """Wait before another try; False, at once, when that would be past the deadline."""
        scattered_seconds = self._pause_seconds * random.uniform(0.5, 1.5)  # noqa: S311
        seconds = max(scattered_seconds, at_least_seconds)
        if time.monotonic() + seconds > self._deadline:
            return False
        time.sleep(seconds)
        self._pause_seconds = min(self._pause_seconds * 2, _BACK_OFF_SECONDS_MAX)
        return True


class Transport:
    """Requests to one server with one token."""

    def __init__(self, server: str, token: str | None, *, timeout_seconds: float) -> None:
        parts = urlsplit(server)
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            raise InvalidInputError(
                f"the server's address must look like http://host:port, not {server!r}"
            )
        self.server = server.rstrip("/")
        self._contacted = False
        self._timeout_seconds = timeout_seconds
        self._http = httpx2.Client(
            base_url=self.server,
            headers={"Authorization": f"Bearer {token}"} if token else {},
            timeout=timeout_seconds,
            # A proxy for the outside world is no way to this machine.
            trust_env=parts.hostname not in _LOOPBACK,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._http.close()

    def call(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, Any] | None = None,
        body: Any = None,
        headers: Mapping[str, str] | None = None,
        wait_seconds: float = 0.0,
    ) -> Any:
        """The parsed JSON of the answer, or None for an empty one.

        Args:
            wait_seconds: how much longer than usual the server may take (long-polls, solves).

        Raises:
            NotReachableError: nobody answered for the whole patience.
            StowplanError: the server refused; the kind tells why.
        """
        back_off = self.back_off()
        while True:
            try:
                response = self._http.request(
                    method,
                    path,
                    params=_given(params),
                    json=body,
                    headers=headers,
                    timeout=self._timeout_seconds + wait_seconds,
                )
            except httpx2.TransportError as error:
                if not back_off.pause():
                    raise self._not_reachable(error) from error
                continue
            self._contacted = True
            if response.status_code in _AWAY and back_off.pause(
                at_least_seconds=_retry_after_seconds(response)
            ):
                continue
            return _content(response)

    @contextmanager
    def stream(
        self, path: str, *, params: Mapping[str, Any], silence_seconds: float
    ) -> Generator[httpx2.EventSource]:
        """One connection to a stream of server-sent events; it isn't opened again when it ends.

        Raises:
            httpx2.TransportError: no connection, or it broke, or was silent for too long.
            StowplanError: the server refused.
        """
        timeout = httpx2.Timeout(self._timeout_seconds, read=silence_seconds)
        with self._http.sse(path, params=_given(params), timeout=timeout) as source:
            self._contacted = True
            if source.response.status_code != httpx2.codes.OK:
                source.response.read()
                if source.response.status_code in _AWAY:
                    raise httpx2.ReadError(f"the server answered {source.response.status_code}")
                _content(source.response)
            yield source

    def download(self, path: str, *, params: Mapping[str, Any]) -> Iterator[bytes]:
        """A large answer, piece by piece; it isn't asked for again when it breaks off.

        Raises:
            NotReachableError: no connection, or it broke.
            StowplanError: the server refused.
        """
        try:
            with self._http.stream("GET", path, params=_given(params)) as response:
                self._contacted = True
                if not response.is_success:
                    response.read()
                    _content(response)
                yield from response.iter_bytes()
        except httpx2.TransportError as error:
            raise self._not_reachable(error) from error

    def back_off(self) -> BackOff:
        """A fresh patience: long once the server has answered, short before."""
        return BackOff(RECONNECT_SECONDS if self._contacted else FIRST_CONTACT_SECONDS)

    def reconnect(self, back_off: BackOff, error: httpx2.TransportError) -> None:
        """Pause before the next connection.

        Raises:
            NotReachableError: there was no connection for the whole patience.
        """
        if not back_off.pause():
            raise self._not_reachable(error) from error

    def _not_reachable(self, error: httpx2.TransportError) -> NotReachableError:
        cause = str(error) or type(error).__name__
        return NotReachableError(
            f"no service answers at {self.server} ({cause}): start one with `stowplan serve`, "
            "or name another with --server or STOWPLAN_SERVER"
        )


def _given(params: Mapping[str, Any] | None) -> dict[str, Any]:
    return {name: value for name, value in (params or {}).items() if value is not None}


def _retry_after_seconds(response: httpx2.Response) -> float:
    try:
        return float(response.headers.get("retry-after", 0))
    except ValueError:
        return 0.0


def _content(response: httpx2.Response) -> Any:
    if response.is_success and not response.content:
        return None
    try:
        content = response.json()
    except ValueError:
        content = None
    if response.is_success and content is not None:
        return content
    if response.is_success:
        raise StowplanError(f"{response.url} answered no JSON: is it a Stowplan service?")
    raise refusal(response.status_code, content, fallback=response.reason_phrase)


def part_of_path(reference: str) -> str:
    """An id or a name as one part of a path.

    Raises:
        NotFoundError: nothing can have that name.
    """
    if not reference or reference in {".", ".."}:
        raise NotFoundError(f"{reference!r} is no id and no name")
    return quote(reference, safe="")
