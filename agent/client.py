"""The service, as an agent sees it: its routes, and two ways in which they fail."""

import gzip
import random
from collections.abc import Mapping
from http import HTTPStatus
from typing import TypeVar

import httpx2
from pydantic import BaseModel, ValidationError

from protocol.desired import DesiredSet
from protocol.node import Registered, Registration
from protocol.report import LogAck, LogChunk, Report, ReportAck
from protocol.samples import SampleAck, SampleReport

_REQUEST_SECONDS = 15.0
_CONNECT_SECONDS = 5.0
# What the service may take beyond the wait that was asked for.
_WAIT_MARGIN_SECONDS = 15.0
# Below this compression saves no packet.
_COMPRESSED_FROM_BYTES = 4096

_Answer = TypeVar("_Answer", bound=BaseModel)


class UnreachableError(Exception):
    """The service gave no answer, or none that counts: try again later."""

    def __init__(self, message: str, retry_after_seconds: float | None = None) -> None:
        super().__init__(message)
        self.retry_after_seconds = retry_after_seconds


class RefusedError(Exception):
    """The service said no, and would say so again."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class ServiceClient:
    """Speaks for one node. ``token`` is the node's own, or the join token before it has one."""

    def __init__(self, server: str, *, token: str) -> None:
        self.token = token
        self._http = httpx2.AsyncClient(
            base_url=server.rstrip("/"),
            timeout=httpx2.Timeout(_REQUEST_SECONDS, connect=_CONNECT_SECONDS),
            # A proxy of the user's shell is not for the cluster's own traffic.
            trust_env=False,
        )

    async def close(self) -> None:
        await self._http.aclose()

    async def register(self, form: Registration) -> Registered:
        return await self._post("register", form, Registered)

    async def report(self, form: Report) -> ReportAck:
        return await self._post("report", form, ReportAck)

    async def samples(self, form: SampleReport) -> SampleAck:
        return await self._post("samples", form, SampleAck, compressed=True)

    async def send_logs(self, form: LogChunk) -> LogAck:
        return await self._post("logs", form, LogAck)

    async def desired(self, *, revision: int, wait_seconds: float) -> DesiredSet | None:
        """The desired set when it is another than ``revision``'s; None when that took too long."""
        response = await self._send(
            "GET",
            "desired",
            params={"revision": str(revision), "wait": f"{wait_seconds:g}"},
            timeout=wait_seconds + _WAIT_MARGIN_SECONDS,
        )
        if response.status_code == HTTPStatus.NO_CONTENT:
            return None
        return _parsed(response, DesiredSet)

    async def _post(
        self, route: str, form: BaseModel, answer: type[_Answer], *, compressed: bool = False
    ) -> _Answer:
        body = form.model_dump_json(exclude_defaults=True).encode()
        encoding = None
        if compressed and len(body) > _COMPRESSED_FROM_BYTES:
            body, encoding = gzip.compress(body, compresslevel=1), "gzip"
        return _parsed(await self._send("POST", route, body=body, encoding=encoding), answer)

    async def _send(
        self,
        method: str,
        route: str,
        *,
        body: bytes | None = None,
        encoding: str | None = None,
        params: Mapping[str, str] | None = None,
        timeout: float = _REQUEST_SECONDS,  # noqa: ASYNC109  the client's own, for one request
    ) -> httpx2.Response:
        headers = {"Authorization": f"Bearer {self.token}", "Content-Type": "application/json"}
        if encoding is not None:
            headers["Content-Encoding"] = encoding
        try:
            response = await self._http.request(
                method,
                f"/agent/v1/{route}",
                content=body,
                params=params,
                headers=headers,
                timeout=httpx2.Timeout(timeout, connect=_CONNECT_SECONDS),
            )
        except httpx2.HTTPError as error:
            raise UnreachableError(f"{type(error).__name__}: {error}".rstrip(": ")) from None
        if response.is_success:
            return response
        status = response.status_code
        if status >= 500 or status in {HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_MANY_REQUESTS}:
            raise UnreachableError(f"HTTP {status}: {_detail(response)}", _retry_after(response))
        raise RefusedError(status, _detail(response))


class Backoff:
    """Pauses that double up to a bound, each drawn at random below it: agents that lost the service
    together don't come back together."""

    def __init__(self, *, first_seconds: float = 0.5, most_seconds: float = 15.0) -> None:
        self._first_seconds = first_seconds
        self._most_seconds = most_seconds
        self._failures = 0

    def succeeded(self) -> None:
        self._failures = 0

    def failed(self, error: UnreachableError) -> float:
        """How long to wait now, in seconds: at least what the service asked for."""
        bound = min(self._most_seconds, self._first_seconds * 2.0 ** min(self._failures, 16))
        self._failures += 1
        pause = random.uniform(bound / 2, bound)  # noqa: S311  no secret
        return max(pause, error.retry_after_seconds or 0.0)


def _parsed(response: httpx2.Response, answer: type[_Answer]) -> _Answer:
    try:
        return answer.model_validate_json(response.content)
    except ValidationError as error:
        raise UnreachableError(
            f"the service's answer is no {answer.__name__}:"
            f" {error.errors(include_input=False, include_url=False)}"
        ) from None


def _detail(response: httpx2.Response) -> str:
    """The problem document's own words, where there is one."""
    try:
        problem = response.json()
        return str(problem.get("detail") or problem.get("title") or "no reason given")
    except (ValueError, AttributeError):
        return response.text[:200] or "no reason given"


def _retry_after(response: httpx2.Response) -> float | None:
    text = response.headers.get("Retry-After", "")
    return float(text) if text.isdigit() else None
